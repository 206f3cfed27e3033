/* SPDX-License-Identifier: Apache-2.0
 *
 * instructions.c - a fixed number of records through Pawl, for counting instructions under valgrind
 * (instructions.sh).
 *
 *     instructions WAY RECORDS BATCH BYTES DIR
 *
 * WAY: step    batches are appended, read, copied to the output with the position, and committed,
 *              in the program's own transactions, many records per put
 *      each    the same, record by record
 *      run     the same with a processor that pawl_run() runs
 *      async   transactions of one record, acknowledged by a callback
 *      commit  transactions of one record, each waited for
 * The records' content is made once, so the count covers Pawl and the few instructions of the loops
 * here.
 */
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/jobs.h"

static uint32_t batch, bytes;
static pawl_record *records; /* `batch` of them */
static atomic_uint_fast64_t acknowledged;

static bool one_by_one;

static void put(pawl_tx *tx, uint32_t stream, const pawl_record *them, size_t count) {
    if (!one_by_one)
        check(pawl_put_many(tx, stream, 0, them, count), "put");
    else
        for (size_t i = 0; i < count; i++)
            check(pawl_put(tx, stream, 0, &them[i]), "put");
}

static void put_batch(struct log *l) {
    pawl_tx *tx;
    check(pawl_begin(l->log, &tx), "begin");
    put(tx, l->in, records, batch);
    check(pawl_commit_async(tx, NULL, NULL, NULL), "commit");
}

static void step(struct log *l, uint64_t count) {
    pawl_reader *reader;
    check(pawl_reader_open(l->log, l->in, 0, 0, PAWL_READ_UNCOMMITTED, &reader), "a reader");
    for (uint64_t given = 0, done = 0; given < count;) {
        put_batch(l);
        for (given += batch; done < given;) {
            pawl_batch in;
            pawl_tx *tx;
            check(pawl_read(reader, batch, -1, &in), "read");
            check(pawl_begin(l->log, &tx), "begin");
            put(tx, l->out, in.records, in.count);
            check(pawl_advance(tx, l->processor, l->in, 0, in.from, in.to), "advance");
            check(pawl_commit_async(tx, NULL, NULL, NULL), "commit");
            done += in.count;
        }
    }
    pawl_reader_close(reader);
}

static void each(struct log *l, uint64_t count) {
    one_by_one = true;
    step(l, count);
}

static int copy(pawl_context *ctx, const pawl_record *in, size_t count, void *arg) {
    struct log *l = arg;
    return pawl_emit_many(ctx, l->out, 0, in, count);
}

static void run(struct log *l, uint64_t count) {
    pawl_processor *processor;
    pawl_processor_config config = PAWL_PROCESSOR_INIT;
    config.name = "stage", config.inputs = &l->in, config.input_count = 1;
    config.process = copy, config.arg = l, config.batch_max = batch;
    check(pawl_processor_add(l->log, &config, &processor), "adding a processor");
    for (uint64_t given = 0; given < count; given += batch) {
        put_batch(l);
        if (given / batch % 10 == 9)
            check(pawl_run(l->log, 0, PAWL_RUN_UNTIL_IDLE), "run");
    }
    check(pawl_run(l->log, 0, PAWL_RUN_UNTIL_IDLE), "run");
}

static void on_durable(void *arg, int status, const pawl_receipt *receipt) {
    (void)arg, (void)receipt;
    check(status, "a commit");
    atomic_fetch_add_explicit(&acknowledged, 1, memory_order_relaxed);
}

static void async(struct log *l, uint64_t count) {
    pawl_record r = {.value = l->value, .value_len = bytes, .timestamp_ns = 1};
    for (uint64_t i = 0; i < count; i++) {
        pawl_tx *tx;
        check(pawl_begin(l->log, &tx), "begin");
        check(pawl_put(tx, l->in, 0, &r), "put");
        check(pawl_commit_async(tx, on_durable, NULL, NULL), "commit");
    }
    check(pawl_sync(l->log), "sync");
    while (acknowledged < count)
        measure_sleep_until(measure_now() + 1000000);
}

static void commit(struct log *l, uint64_t count) {
    pawl_record r = {.value = l->value, .value_len = bytes, .timestamp_ns = 1};
    for (uint64_t i = 0; i < count; i++)
        check(pawl_append(l->log, l->in, 0, &r, NULL), "append");
}

int main(int argc, char **argv) {
    static const struct {
        const char *name;
        void (*go)(struct log *l, uint64_t count);
    } ways[] = {{"step", step}, {"each", each}, {"run", run}, {"async", async}, {"commit", commit}};
    struct setting s = {0};
    struct turn t;
    struct log l;
    if (argc != 6)
        give_up("usage: instructions step|each|run|async|commit RECORDS BATCH BYTES DIR\n");
    batch = (uint32_t)atoi(argv[3]), bytes = (uint32_t)atoi(argv[4]);
    snprintf(s.dir, sizeof s.dir, "%s", argv[5]);
    log_open(&l, &s, 1);
    fill_record(l.value, bytes, 1);
    records = must_allocate(batch * sizeof *records);
    for (uint32_t i = 0; i < batch; i++)
        records[i] = (pawl_record){.value = l.value, .value_len = bytes, .timestamp_ns = 1};
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++)
        if (strcmp(argv[1], ways[i].name) == 0)
            ways[i].go(&l, strtoull(argv[2], NULL, 10));
    check(pawl_sync(l.log), "sync");
    log_close(&l, &t);
    free(records);
    return 0;
}
