/* SPDX-License-Identifier: Apache-2.0
 *
 * jobs_keyed.c - keyed state: a counter for each key, beside a writer that never waits.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "jobs.h"
#include "pawl_state.h"

#define BATCH_MAX 4096u
#define BACKLOG 200000u /* records: a source with flow control waits there */

struct keyed {
    struct log l;
    const struct setting *s;
    uint32_t table;
    _Atomic uint64_t done;   /* records that were counted */
    _Atomic bool put;        /* the writer writes */
    uint64_t written, until; /* `until`: it stops there; 0: when `put` says so */
    uint8_t *keys;
    pawl_record *records; /* s->batch of them */
};

static int count(pawl_context *ctx, const pawl_record *in, size_t n, void *arg) {
    struct keyed *k = arg;
    int64_t sums[BATCH_MAX];
    pawl_record out[BATCH_MAX];
    if (n > BATCH_MAX)
        return -1;
    for (size_t i = 0; i < n; i++) {
        if (pawl_state_add(ctx, k->table, in[i].key, in[i].key_len, 1, &sums[i]) != 0)
            return -1;
        out[i] = (pawl_record){.key = in[i].key,
                               .key_len = in[i].key_len,
                               .value = &sums[i],
                               .value_len = sizeof sums[i],
                               .timestamp_ns = in[i].timestamp_ns};
    }
    if (pawl_emit_many(ctx, k->l.out, pawl_context_partition(ctx), out, n) != 0)
        return -1;
    atomic_fetch_add(&k->done, n);
    return 0;
}

static void *workers(void *arg) {
    struct keyed *k = arg;
    int code = pawl_run(k->l.log, k->s->threads, 0);
    check(code == PAWL_STOPPED ? 0 : code, "run");
    return NULL;
}

static void put_batch(struct keyed *k) {
    pawl_tx *tx;
    uint32_t batch = k->s->batch;
    for (uint32_t i = 0; i < batch; i++) {
        uint8_t *key = k->keys + (size_t)i * KEY_BYTES;
        fill_record(key, KEY_BYTES, k->written + i);
        k->records[i] = (pawl_record){.key = key, .key_len = KEY_BYTES, .timestamp_ns = 1};
    }
    check(pawl_begin(k->l.log, &tx), "begin");
    uint32_t partition = k->s->partitions == 1 ? 0 : PAWL_ANY;
    check(pawl_put_many(tx, k->l.in, partition, k->records, batch), "put");
    check(pawl_commit_async(tx, NULL, NULL, NULL), "commit");
    k->written += batch;
}

static void *writer(void *arg) {
    struct keyed *k = arg;
    do {
        put_batch(k);
        while (k->written - atomic_load(&k->done) > BACKLOG)
            measure_sleep_until(measure_now() + 50000);
    } while (k->until != 0 ? k->written < k->until : atomic_load(&k->put));
    return NULL;
}

/* Writes until `end`, or `until` records are written, and waits until all are counted, durably. */
static void run_until(struct keyed *k, uint64_t end, uint64_t until) {
    pthread_t thread;
    atomic_store(&k->put, true);
    k->until = until;
    if (pthread_create(&thread, NULL, writer, k) != 0)
        give_up("no thread");
    if (until == 0)
        measure_sleep_until(end);
    atomic_store(&k->put, false);
    pthread_join(thread, NULL);
    while (atomic_load(&k->done) < k->written)
        measure_sleep_until(measure_now() + 20000);
    check(pawl_sync(k->l.log), "sync");
}

static void make_table(struct keyed *k) {
    pawl_processor_config p = PAWL_PROCESSOR_INIT;
    pawl_table_config t = PAWL_TABLE_CONFIG_INIT;
    pawl_retention consumed = {.consumed = 1};
    check(pawl_retention_set(k->l.log, &consumed), "retention");
    p.name = "count", p.inputs = &k->l.in, p.input_count = 1;
    p.process = count, p.arg = k, p.batch_max = k->s->batch;
    check(pawl_processor_add(k->l.log, &p, NULL), "adding a processor");
    t.name = "counts", t.owner = "count", t.partitions = k->s->partitions;
    check(pawl_table_create(k->l.log, &t, &k->table), "creating a table");
}

/* The sum of all counters is the number of records: nothing was lost, nothing counted twice. */
static void expect_counts(struct keyed *k) {
    uint64_t pairs = 0, sum = 0;
    for (uint32_t p = 0; p < k->s->partitions; p++) {
        pawl_state_cursor *c;
        pawl_state_pair pair;
        int rc;
        check(pawl_table_scan(k->l.log, k->table, p, NULL, &c), "scan");
        for (; (rc = pawl_state_next(c, &pair)) == 1; pairs++) {
            uint64_t n = 0;
            memcpy(&n, pair.value, pair.value_len < sizeof n ? pair.value_len : sizeof n);
            sum += n;
        }
        check(rc, "scan");
        pawl_state_close(c);
    }
    if (sum != k->written || pairs != k->s->keys)
        give_up("the counters say %llu records and %llu keys, not %llu and %llu",
                (unsigned long long)sum, (unsigned long long)pairs, (unsigned long long)k->written,
                (unsigned long long)k->s->keys);
}

void job_keyed(const struct setting *s, struct turn *t) {
    struct keyed k = {.s = s};
    pthread_t runner;
    if (s->batch > BATCH_MAX)
        give_up("batches of %u records at most", BATCH_MAX);
    fill_keys(s);
    k.keys = must_allocate((size_t)s->batch * KEY_BYTES);
    k.records = must_allocate(s->batch * sizeof *k.records);
    log_open(&k.l, s, s->partitions);
    make_table(&k);
    if (pthread_create(&runner, NULL, workers, &k) != 0)
        give_up("no thread");
    run_until(&k, 0, (s->keys + s->batch - 1) / s->batch * s->batch);
    uint64_t before = k.done;
    for (uint64_t end; slice_begin(t, &end); slice_end(t))
        run_until(&k, end, 0);
    t->records = k.done - before;
    t->commits = 2 * (t->records / s->batch);
    t->payload = t->records * (2 * KEY_BYTES + 8 + KEY_BYTES + 8); /* in, out, the changed pair */
    t->value = (double)t->records * 1e9 / (double)t->ns;
    pawl_stop(k.l.log);
    pthread_join(runner, NULL);
    expect_counts(&k);
    log_close(&k.l, t);
    free(k.keys);
    free(k.records);
}
