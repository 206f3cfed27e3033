/* SPDX-License-Identifier: Apache-2.0
 *
 * A program as it was written for the first release: built against the header of then, it uses
 * every kind of struct. The structs are surrounded by guards, since a library that has grown must
 * not write beyond what the program has. Exits with the number of the line that failed.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pawl_connect.h"

#define GUARD 0x5a
#define GUARDED(type, name) \
    struct { \
        type it; \
        unsigned char guard[512]; \
    } name; \
    memset(&name, 0, sizeof name); \
    memset(name.guard, GUARD, sizeof name.guard)
#define CHECK(what) \
    do { \
        if (!(what)) { \
            pawl_error e_; \
            pawl_last_error(&e_); \
            printf("line %d: %s: %s\n", __LINE__, #what, e_.message); \
            exit(1); \
        } \
    } while (0)

static void intact(const unsigned char guard[512]) {
    for (int i = 0; i < 512; i++)
        CHECK(guard[i] == GUARD);
}

static int upper(pawl_context *ctx, const pawl_record *records, size_t count, void *arg) {
    for (size_t i = 0; i < count; i++) {
        pawl_record out = {.value = records[i].value, .value_len = records[i].value_len};
        if (pawl_emit(ctx, *(uint32_t *)arg, 0, &out) != 0)
            return -1;
    }
    return 0;
}

static int finding(void *arg, uint64_t done, uint64_t total) {
    (void)arg;
    return done > total;
}

static void write_some(pawl *log, uint32_t in) {
    GUARDED(pawl_receipt, receipt);
    GUARDED(pawl_producer_info, producer_info);
    pawl_producer *producer;
    pawl_tx *tx;
    pawl_header header = {.name = "h", .name_len = 1, .value = "v", .value_len = 1};
    pawl_record r[2] = {{.value = "one", .value_len = 3, .headers = &header, .header_count = 1},
                        {.value = "two", .value_len = 3, .key = "k", .key_len = 1}};
    CHECK(pawl_producer_open(log, "producer", &producer) == 0);
    CHECK(pawl_begin(log, &tx) == 0);
    CHECK(pawl_put_many(tx, in, 0, r, 2) == 0);
    CHECK(pawl_tx_sequence(tx, producer, 1, 1, NULL, 0) == 0);
    CHECK(pawl_commit(tx, &receipt.it) == 0);
    CHECK(receipt.it.offset == 0 && receipt.it.stream == in);
    CHECK(pawl_producer_at(log, 0, &producer_info.it) == 0 && producer_info.it.sequence == 1);
    pawl_producer_close(producer);
    intact(receipt.guard), intact(producer_info.guard);
}

static void read_some(pawl *log, uint32_t out) {
    GUARDED(pawl_batch, batch);
    GUARDED(pawl_header, header);
    GUARDED(pawl_bounds, bounds);
    GUARDED(pawl_origin, origin);
    pawl_reader *reader;
    CHECK(pawl_partition_bounds(log, out, 0, &bounds.it) == 0 && bounds.it.durable == 2);
    CHECK(pawl_reader_open(log, out, 0, bounds.it.first, PAWL_READ_COMMITTED, &reader) == 0);
    CHECK(pawl_read(reader, 0, 0, &batch.it) == 2);
    CHECK(memcmp(batch.it.records[1].value, "two", 3) == 0 && batch.it.records[1].offset == 1);
    CHECK(pawl_record_header(&batch.it.records[0], 0, &header.it) == PAWL_NOT_FOUND);
    pawl_reader_close(reader);
    CHECK(pawl_explain(log, out, 0, 0, &origin.it) == 0 && origin.it.input_count == 1);
    intact(batch.guard), intact(header.guard), intact(bounds.guard), intact(origin.guard);
}

static void run_some(pawl *log, uint32_t in, uint32_t *out) {
    GUARDED(pawl_position, position);
    pawl_processor *processor;
    pawl_processor_config c = PAWL_PROCESSOR_INIT;
    c.name = "upper", c.inputs = &in, c.input_count = 1, c.process = upper, c.arg = out;
    CHECK(pawl_processor_add(log, &c, &processor) == 0);
    CHECK(pawl_run(log, 0, PAWL_RUN_UNTIL_IDLE) == 0);
    CHECK(pawl_position_at(log, 0, &position.it) == 0 && position.it.offset == 2);
    pawl_processor_remove(processor);
    intact(position.guard);
}

/* A sink of its own, and one made by name. */
static int nothing(void *self, const pawl_sink_batch *batch, pawl_fault *f) {
    (void)self, (void)batch, (void)f;
    return PAWL_DONE;
}
static int count_records(void *self, const pawl_sink_batch *batch, const pawl_record *records,
                         size_t count, pawl_fault *f) {
    (void)batch, (void)records, (void)f;
    *(size_t *)self += count;
    return PAWL_DONE;
}
static void no_abort(void *self) {
    (void)self;
}

static void connect_some(pawl *log, uint32_t out) {
    GUARDED(pawl_flow_status, status);
    GUARDED(pawl_sink_ops, made);
    size_t seen = 0;
    pawl_sink *sink;
    pawl_error e;
    pawl_sink_config c = PAWL_SINK_CONFIG_INIT;
    pawl_sink_ops ops = PAWL_SINK_OPS_INIT;
    pawl_setting format = {.name = "format", .value = "text"};
    pawl_settings settings = {.items = &format, .count = 1};
    ops.kind = PAWL_SINK_IDEMPOTENT, ops.self = &seen, ops.type = "own";
    ops.open = ops.begin = ops.commit = nothing, ops.write = count_records, ops.abort = no_abort;
    c.name = "sink", c.inputs = &out, c.input_count = 1;
    CHECK(pawl_sink_add(log, &c, &ops, &sink, &e) == 0);
    int rc;
    while ((rc = pawl_sink_step(sink)) == 0)
        ;
    CHECK(rc > 0 && seen == 2);
    status.it.struct_size = sizeof status.it;
    CHECK(pawl_sink_status(sink, &status.it) == 0 && status.it.records == 2);
    pawl_sink_remove(sink);
    made.it.struct_size = sizeof made.it;
    CHECK(pawl_sink_make("stdout", &settings, &made.it, &e) == 0);
    made.it.destroy(made.it.self);
    intact(status.guard), intact(made.guard);
}

static void look(pawl *log, const char *dir) {
    GUARDED(pawl_status, status);
    GUARDED(pawl_check, check);
    GUARDED(pawl_error, error);
    GUARDED(pawl_stream_info, info);
    GUARDED(pawl_retention, retention);
    status.it.struct_size = sizeof status.it;
    CHECK(pawl_get_status(log, &status.it) == 0 && status.it.commits > 0);
    CHECK(status.it.struct_size == sizeof status.it);
    CHECK(pawl_stream_at(log, 0, &info.it) == 0 && strcmp(info.it.name, "in") == 0);
    CHECK(pawl_retention_set(log, &(pawl_retention){.bytes = 1 << 30}) == 0);
    CHECK(pawl_retention_get(log, &retention.it) == 0 && retention.it.bytes == 1 << 30);
    CHECK(pawl_close(log) == 0);
    check.it.struct_size = sizeof check.it;
    check.it.progress = finding;
    CHECK(pawl_verify(dir, &check.it, &error.it) == 0 && check.it.problems == 0);
    CHECK(check.it.records == 4 && check.it.progress == finding);
    CHECK(pawl_audit(dir, &check.it, &error.it) == 0);
    CHECK(pawl_open("/no/such/directory", NULL, &log, &error.it) == PAWL_NOT_A_LOG);
    intact(status.guard), intact(check.guard), intact(error.guard), intact(info.guard);
    intact(retention.guard);
}

int main(int argc, char **argv) {
    pawl_options o = PAWL_OPTIONS_INIT;
    pawl *log;
    uint32_t in, out;
    if (argc != 2)
        return 2;
    o.flags = PAWL_OPEN_CREATE;
    o.segment_size = 1 << 20;
    CHECK(pawl_open(argv[1], &o, &log, NULL) == 0);
    CHECK(pawl_stream_create(log, "in", 1, &in) == 0);
    CHECK(pawl_stream_create(log, "out", 1, &out) == 0);
    write_some(log, in);
    run_some(log, in, &out);
    read_some(log, out);
    connect_some(log, out);
    look(log, argv[1]);
    puts("works");
    return 0;
}
