/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "jobs.h"

/* ---- with the program's own transactions */

static uint64_t step(struct log *l, pawl_reader *reader, uint32_t batch, bool wait) {
    pawl_batch in;
    pawl_tx *tx;
    check(pawl_read(reader, batch, -1, &in), "read");
    check(pawl_begin(l->log, &tx), "begin");
    check(pawl_put_many(tx, l->out, 0, in.records, in.count), "put");
    check(pawl_advance(tx, l->processor, l->in, 0, in.from, in.to), "advance");
    check(wait ? pawl_commit(tx, NULL) : pawl_commit_async(tx, NULL, NULL, NULL), "commit");
    return in.count;
}

/* Runs both halves in one thread. Only the engine's back-pressure limits what is in flight. */
static uint64_t steps_until(struct log *l, pawl_reader *reader, const struct setting *s,
                            uint64_t put, uint64_t end) {
    uint64_t done = put;
    while (measure_now() < end) {
        log_put(l, s->batch, s->record, put);
        for (put += s->batch; done < put;)
            done += step(l, reader, s->batch, false);
    }
    check(pawl_sync(l->log), "sync");
    return done;
}

void job_step(const struct setting *s, struct turn *t) {
    struct log l;
    pawl_reader *reader;
    pawl_bounds bounds;
    log_open(&l, s, 1);
    check(pawl_reader_open(l.log, l.in, 0, 0, PAWL_READ_UNCOMMITTED, &reader), "a reader");
    log_keep_little(&l, s);
    uint64_t warm = 0;
    do
        warm = steps_until(&l, reader, s, warm, measure_now() + setting_warm_ns(s));
    while (s->batch > 1 && !log_is_steady(&l, s));
    uint64_t done = warm;
    for (uint64_t end; slice_begin(t, &end); slice_end(t))
        done = steps_until(&l, reader, s, done, end);
    check(pawl_partition_bounds(l.log, l.out, 0, &bounds), "bounds");
    if (bounds.durable != done)
        give_up("%llu records are durable in the output, not %llu",
                (unsigned long long)bounds.durable, (unsigned long long)done);
    t->records = done - warm, t->commits = 2 * (t->records / s->batch),
    t->payload = 2 * t->records * s->record;
    t->value = (double)t->records * 1e9 / (double)t->ns;
    pawl_reader_close(reader);
    log_close(&l, t);
}

static uint64_t time_one_step(struct log *l, pawl_reader *reader, const struct setting *s,
                              uint64_t n) {
    uint64_t begun = measure_now();
    log_put(l, 1, s->record, n);
    step(l, reader, 1, true);
    return measure_now() - begun;
}

void job_step_p50(const struct setting *s, struct turn *t) {
    struct log l;
    struct hdr *h = must_allocate(sizeof *h);
    pawl_reader *reader;
    log_open(&l, s, 1);
    check(pawl_reader_open(l.log, l.in, 0, 0, PAWL_READ_UNCOMMITTED, &reader), "a reader");
    for (int i = 0; i < 100; i++)
        time_one_step(&l, reader, s, 0);
    for (uint64_t end; slice_begin(t, &end); slice_end(t))
        while (measure_now() < end)
            hdr_add(h, time_one_step(&l, reader, s, h->count));
    t->records = h->count, t->commits = 2 * t->records, t->payload = 2 * t->records * s->record;
    turn_latencies(t, h);
    t->value = (double)t->p50;
    pawl_reader_close(reader);
    log_close(&l, t);
    free(h);
}

/* ---- with processors that pawl_run() runs */

struct stage {
    uint32_t out[16];
    uint32_t outs;
};

static int copy(pawl_context *ctx, const pawl_record *records, size_t count, void *arg) {
    struct stage *stage = arg;
    for (uint32_t k = 0; k < stage->outs; k++)
        if (pawl_emit_many(ctx, stage->out[k], records[0].partition, records, count) != 0)
            return -1;
    return 0;
}

static uint32_t create(struct log *l, const char *name, uint32_t n, uint32_t partitions) {
    char full[32];
    uint32_t id;
    snprintf(full, sizeof full, "%s%u", name, n);
    check(pawl_stream_create(l->log, full, partitions, &id), "creating a stream");
    return id;
}

static void add(struct log *l, const char *name, uint32_t n, uint32_t input, struct stage *stage,
                uint32_t batch) {
    char full[32];
    pawl_processor *processor;
    pawl_processor_config config = PAWL_PROCESSOR_INIT;
    snprintf(full, sizeof full, "%s%u", name, n);
    config.name = full, config.inputs = &input, config.input_count = 1;
    config.process = copy, config.arg = stage, config.batch_max = batch;
    check(pawl_processor_add(l->log, &config, &processor), "adding a processor");
}

/* Makes a chain from `in`, and returns its last stream. `stages` must live as long as the log. */
static uint32_t chain(struct log *l, struct stage *stages, uint32_t count) {
    uint32_t from = l->in;
    for (uint32_t i = 0; i < count; i++) {
        stages[i] = (struct stage){{create(l, "stage", i, 1)}, 1};
        add(l, "p", i, from, &stages[i], 0);
        from = stages[i].out[0];
    }
    return from;
}

static uint64_t time_one_run(struct log *l, const struct setting *s, uint64_t n) {
    uint64_t begun = measure_now();
    log_put(l, 1, s->record, n);
    check(pawl_run(l->log, 0, PAWL_RUN_UNTIL_IDLE), "run");
    return measure_now() - begun;
}

static void expect_durable(struct log *l, uint32_t stream, uint64_t count) {
    pawl_bounds bounds;
    check(pawl_partition_bounds(l->log, stream, 0, &bounds), "bounds");
    if (bounds.durable != count)
        give_up("%llu records came out, not %llu", (unsigned long long)bounds.durable,
                (unsigned long long)count);
}

void job_chain_p50(const struct setting *s, struct turn *t) {
    struct log l;
    struct stage stages[64];
    struct hdr *h = must_allocate(sizeof *h);
    log_open(&l, s, 1);
    uint32_t last = chain(&l, stages, s->stages);
    for (int i = 0; i < 100; i++)
        time_one_run(&l, s, 0);
    for (uint64_t end; slice_begin(t, &end); slice_end(t))
        while (measure_now() < end)
            hdr_add(h, time_one_run(&l, s, h->count));
    expect_durable(&l, last, h->count + 100);
    t->records = h->count, t->commits = (1 + s->stages) * t->records;
    t->payload = t->commits * s->record;
    turn_latencies(t, h);
    t->value = (double)t->p50;
    log_close(&l, t);
    free(h);
}

static void *run_main(void *arg) {
    struct log *l = arg;
    int code = pawl_run(l->log, 0, 0);
    check(code == PAWL_STOPPED ? 0 : code, "run");
    return NULL;
}

static uint64_t time_one_wait(struct log *l, pawl_reader *reader, const struct setting *s,
                              uint64_t n) {
    pawl_batch batch;
    uint64_t begun = measure_now();
    log_put(l, 1, s->record, n);
    int rc = pawl_read(reader, 1, 10000, &batch);
    check(rc, "read");
    if (rc != 1)
        give_up("no output within ten seconds");
    return measure_now() - begun;
}

void job_worker_p50(const struct setting *s, struct turn *t) {
    struct log l;
    struct stage stages[64];
    struct hdr *h = must_allocate(sizeof *h);
    pawl_reader *reader;
    pthread_t thread;
    log_open(&l, s, 1);
    uint32_t last = chain(&l, stages, s->stages);
    check(pawl_reader_open(l.log, last, 0, 0, PAWL_READ_COMMITTED, &reader), "a reader");
    if (pthread_create(&thread, NULL, run_main, &l) != 0)
        give_up("no thread");
    for (int i = 0; i < 100; i++)
        time_one_wait(&l, reader, s, 0);
    for (uint64_t end; slice_begin(t, &end); slice_end(t))
        while (measure_now() < end)
            hdr_add(h, time_one_wait(&l, reader, s, h->count));
    pawl_stop(l.log);
    pthread_join(thread, NULL);
    t->records = h->count, t->commits = (1 + s->stages) * t->records;
    t->payload = t->commits * s->record;
    turn_latencies(t, h);
    t->value = (double)t->p50;
    pawl_reader_close(reader);
    log_close(&l, t);
    free(h);
}

/* Repeatedly appends a few batches to each partition and runs all processors until idle. */
static uint64_t run_batches(struct log *l, const struct setting *s, uint32_t partitions,
                            uint32_t threads, uint64_t end) {
    uint64_t put = 0;
    while (measure_now() < end) {
        for (uint32_t round = 0; round < 8; round++)
            for (uint32_t p = 0; p < partitions; p++) {
                pawl_tx *tx;
                check(pawl_begin(l->log, &tx), "begin");
                log_put_records(l, tx, p, s->batch, s->record, put);
                put += s->batch;
                check(pawl_commit_async(tx, NULL, NULL, NULL), "commit");
            }
        check(pawl_run(l->log, threads, PAWL_RUN_UNTIL_IDLE), "run");
    }
    return put;
}

static void run_stage(const struct setting *s, struct turn *t, uint32_t streams,
                      uint32_t partitions, uint32_t threads) {
    struct log l;
    struct stage stage = {{0}, streams};
    log_open(&l, s, partitions);
    for (uint32_t i = 0; i < streams; i++)
        stage.out[i] = create(&l, "fan", i, partitions);
    add(&l, "p", 0, l.in, &stage, s->batch);
    uint64_t warm = run_batches(&l, s, partitions, threads, measure_now() + setting_warm_ns(s));
    for (uint64_t end; slice_begin(t, &end); slice_end(t))
        t->records += run_batches(&l, s, partitions, threads, end);
    expect_durable(&l, stage.out[0], (warm + t->records) / partitions);
    t->commits = 2 * (t->records / s->batch), t->payload = (1 + streams) * t->records * s->record;
    log_close(&l, t);
}

void job_fan_out(const struct setting *s, struct turn *t) {
    run_stage(s, t, s->streams, 1, 0);
    t->value = (double)(t->records * s->streams) * 1e9 / (double)t->ns;
}

void job_partitions(const struct setting *s, struct turn *t) {
    run_stage(s, t, 1, s->partitions, s->threads);
    t->value = (double)t->records * 1e9 / (double)t->ns;
}

/* ---- a pipeline that runs all the time: a writer, and workers that never end */

#define BACKLOG_BYTES (UINT64_C(32) << 20) /* a source with flow control waits there */

struct steady {
    struct log l;
    const struct setting *s;
    uint32_t last;
    _Atomic uint64_t done; /* records that the last stage has emitted */
    _Atomic bool put;      /* the writer writes */
    uint64_t written;
};

static int copy_last(pawl_context *ctx, const pawl_record *records, size_t count, void *arg) {
    struct steady *t = arg;
    if (pawl_emit_many(ctx, t->last, records[0].partition, records, count) != 0)
        return -1;
    atomic_fetch_add(&t->done, count);
    return 0;
}

static void *steady_workers(void *arg) {
    struct steady *t = arg;
    int code = pawl_run(t->l.log, t->s->threads, 0);
    check(code == PAWL_STOPPED ? 0 : code, "run");
    return NULL;
}

static void *steady_writer(void *arg) {
    struct steady *t = arg;
    const struct setting *s = t->s;
    uint32_t p = 0;
    do {
        pawl_tx *tx;
        check(pawl_begin(t->l.log, &tx), "begin");
        log_put_records(&t->l, tx, p, s->batch, s->record, t->written);
        check(pawl_commit_async(tx, NULL, NULL, NULL), "commit");
        t->written += s->batch;
        p = (p + 1) % s->partitions;
        while ((t->written - atomic_load(&t->done)) * s->record > BACKLOG_BYTES)
            measure_sleep_until(measure_now() + 50000);
    } while (atomic_load(&t->put));
    return NULL;
}

/* Writes until `end`, and waits until the last stage has emitted all of it, durably. */
static void steady_until(struct steady *t, uint64_t end) {
    pthread_t writer;
    atomic_store(&t->put, true);
    if (pthread_create(&writer, NULL, steady_writer, t) != 0)
        give_up("no thread");
    measure_sleep_until(end);
    atomic_store(&t->put, false);
    pthread_join(writer, NULL);
    while (atomic_load(&t->done) < t->written)
        measure_sleep_until(measure_now() + 20000);
    check(pawl_sync(t->l.log), "sync");
}

void job_steady(const struct setting *s, struct turn *turn) {
    struct steady t = {.s = s};
    struct stage stages[64];
    pawl_retention consumed = {.consumed = 1};
    pthread_t runner;
    log_open(&t.l, s, s->partitions);
    check(pawl_retention_set(t.l.log, &consumed), "retention");
    uint32_t from = t.l.in;
    for (uint32_t i = 0; i + 1 < s->stages; i++) {
        stages[i] = (struct stage){{create(&t.l, "stage", i, s->partitions)}, 1};
        add(&t.l, "p", i, from, &stages[i], 0);
        from = stages[i].out[0];
    }
    t.last = create(&t.l, "last", 0, s->partitions);
    pawl_processor_config config = PAWL_PROCESSOR_INIT;
    config.name = "last", config.inputs = &from, config.input_count = 1;
    config.process = copy_last, config.arg = &t, config.committed_input = s->committed;
    check(pawl_processor_add(t.l.log, &config, NULL), "adding a processor");
    if (pthread_create(&runner, NULL, steady_workers, &t) != 0)
        give_up("no thread");
    steady_until(&t, measure_now() + setting_warm_ns(s));
    uint64_t before = t.done;
    for (uint64_t end; slice_begin(turn, &end); slice_end(turn))
        steady_until(&t, end);
    turn->records = t.done - before;
    turn->commits = turn->records / s->batch;
    turn->payload = (1 + s->stages) * turn->records * s->record;
    turn->value = (double)turn->records * 1e9 / (double)turn->ns;
    pawl_stop(t.l.log);
    pthread_join(runner, NULL);
    log_close(&t.l, turn);
}
