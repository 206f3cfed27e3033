/* SPDX-License-Identifier: Apache-2.0 */
#include "forge_target.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "forge.h"
#include "meter.h"
#include "pawl_state.h"
#include "ram.h"
#include "wal/bytes.h"

/* ---- bounds: a call's memory and work, by what the log is large */

#define MEMORY_CAP (2u << 20)
/* beside the cap: handles, and what isn't the log's */
#define MEMORY_BESIDE (1u << 20)
#define CHECK_MEMORY (24u << 20)
/* steps of a call for an empty log, and for each byte of it */
#define STEPS_LEAST 1000000u
#define STEPS_A_BYTE 16u

/* bytes read in a call, and for each byte of the log */
#define READ_LEAST (1u << 20)
#define READ_TIMES 64u

static void begin(const char *name) {
    meter_begin(name);
    ram.read = ram.written = 0;
}

static void end(uint64_t memory) {
    meter_end(memory, STEPS_LEAST + STEPS_A_BYTE * ram_bytes());
    if (ram.read > READ_TIMES * ram_bytes() + READ_LEAST) {
        fprintf(stderr, "%llu bytes were read of a log of %llu\n", (unsigned long long)ram.read,
                (unsigned long long)ram_bytes());
        abort();
    }
}

void target_must(bool well, const char *what, int rc) {
    if (well)
        return;
    pawl_error e;
    pawl_last_error(&e);
    fprintf(stderr, "%s: %s (last error: %s)\n", what, pawl_errname(rc), e.message);
    abort();
}

static void make(const uint8_t *data, size_t size, bool state) {
    ram_clear();
    struct forge *f = forge_begin();
    if (state)
        forge_state(f);
    for (size_t i = 0; i < size; i++) /* half of all logs have keys */
        f->keyed ^= __builtin_parity(data[i]);
    if (size > FORGE_TARGET_HEAD)
        forge_edit(f, data + FORGE_TARGET_HEAD, size - FORGE_TARGET_HEAD);
    forge_seal(f);
}

void target_make(const uint8_t *data, size_t size) {
    make(data, size, false);
}

void target_make_state(const uint8_t *data, size_t size) {
    make(data, size, true);
}

static int open_log(bool read_only, pawl **log) {
    pawl_options o = PAWL_OPTIONS_INIT;
    o.flags = read_only ? PAWL_OPEN_READ : 0;
    o.memory_cap = MEMORY_CAP;
    o.no_thread = o.app_dispatch = 1;
    o.witness_ms = 10;
    return pawl_open("ram", &o, log, NULL);
}

/* ---- reading */

static uint64_t mix(uint64_t sum, uint64_t v) {
    return (sum ^ v) * 0x9fb21c651e98df25u + 1;
}

static uint64_t read_partition(pawl *log, uint32_t stream, uint32_t partition, uint64_t sum) {
    pawl_bounds b;
    pawl_reader *r;
    pawl_batch batch;
    static pawl_origin o;
    pawl_outside_place at = PAWL_OUTSIDE_PLACE_INIT;
    if (pawl_partition_bounds(log, stream, partition, &b) != 0)
        return sum;
    sum = mix(mix(sum, b.first), b.durable);
    if (pawl_reader_open(log, stream, partition, b.first, 0, &r) != 0)
        return sum;
    int n, rounds = 0;
    uint64_t next = b.first;
    while (((n = pawl_read(r, 100, 0, &batch)) > 0 || n == PAWL_LOST) && rounds++ < 400)
        for (size_t k = 0; n > 0 && k < batch.count; k++) {
            const pawl_record *x = &batch.records[k];
            target_must(x->offset >= next, "a record is read twice", 0);
            next = x->offset + 1;
            sum = mix(sum, x->offset ^ (uint64_t)x->value_len << 32);
            for (size_t i = 0; i < x->value_len; i += 61)
                sum = mix(sum, ((const uint8_t *)x->value)[i]);
        }
    pawl_reader_close(r);
    if (pawl_explain(log, stream, partition, b.first, &o) == 0)
        sum = mix(sum, o.input_count + o.lsn);
    if (pawl_explain_outside(log, stream, partition, b.first, &at) == 0)
        sum = mix(sum, at.lsn);
    return sum;
}

static uint64_t read_tables(pawl *log, uint64_t sum) {
    pawl_position pos;
    pawl_producer_info producer;
    pawl_decision decision;
    pawl_retention r;
    uint32_t id;
    char name[128];
    for (uint32_t i = 0; i < 40 && pawl_position_at(log, i, &pos) == 0; i++)
        sum = mix(sum, pos.offset);
    for (uint32_t i = 0; i < 40 && pawl_producer_at(log, i, &producer) == 0; i++)
        sum = mix(sum, producer.sequence);
    for (uint32_t i = 0; i < 40 && pawl_processor_at(log, i, &id, name) == 0; i++)
        sum = mix(sum, id + strlen(name));
    for (uint32_t i = 0; i < 40 && pawl_decision_at(log, i, &decision) == 0; i++)
        sum = mix(sum, decision.processor);
    if (pawl_retention_get(log, &r) == 0)
        sum = mix(sum, r.bytes);
    return sum;
}

/* A scan of a partition: its pairs are in order. */
static uint64_t scan(pawl *log, uint32_t table, uint32_t partition, uint32_t reverse,
                     uint64_t sum) {
    pawl_state_range range = PAWL_STATE_RANGE_INIT;
    pawl_state_cursor *c;
    pawl_state_pair pair;
    char last[64];
    size_t last_len = 0;
    range.reverse = reverse;
    if (pawl_table_scan(log, table, partition, &range, &c) != 0)
        return sum;
    for (int n = 0; n < 100 && pawl_state_next(c, &pair) == 1; n++) {
        size_t len = pair.key_len < sizeof last ? pair.key_len : sizeof last;
        int order = bytes_compare((const uint8_t *)last, last_len, pair.key, len);
        target_must(n == 0 || (reverse == 0 ? order < 0 : order > 0) || len == sizeof last,
                    "a scan is out of order", 0);
        memcpy(last, pair.key, len);
        last_len = len;
        sum = mix(sum, pair.value_len);
    }
    pawl_state_close(c);
    return sum;
}

static uint64_t read_state(pawl *log, uint64_t sum) {
    pawl_table_info info = PAWL_TABLE_INFO_INIT;
    pawl_table_digest digest;
    char value[64];
    size_t len;
    for (uint32_t i = 0; i < 4 && pawl_table_at(log, i, &info) == 0; i++)
        for (uint32_t p = 0; p < info.partitions && p < 4; p++) {
            if (pawl_table_get_digest(log, info.id, p, &digest) == 0)
                sum = mix(sum, digest.low ^ digest.pairs);
            for (const char *key = "abcx"; *key != 0; key++) {
                int rc = pawl_table_get(log, info.id, p, key, 1, value, sizeof value, &len);
                sum = mix(sum, (uint64_t)(int64_t)rc + (rc == 1 ? len : 0));
            }
            sum = scan(log, info.id, p, 0, scan(log, info.id, p, 1, sum));
        }
    return sum;
}

int target_read(uint64_t *sum) {
    pawl *log;
    begin("read");
    int rc = open_log(true, &log);
    *sum = (uint64_t)(int64_t)rc;
    if (rc == 0) {
        pawl_stream_info info;
        uint32_t partitions = 0;
        for (uint32_t i = 0; i < 12 && pawl_stream_at(log, i, &info) == 0; i++)
            for (uint32_t p = 0; p < info.partitions && p < 4 && partitions++ < 16; p++) {
                end(MEMORY_CAP + MEMORY_BESIDE);
                begin("read");
                *sum = read_partition(log, info.id, p, *sum);
            }
        *sum = read_tables(log, *sum);
        end(MEMORY_CAP + MEMORY_BESIDE);
        begin("read state");
        *sum = read_state(log, *sum);
        rc = pawl_close(log);
        target_must(rc == 0, "a reader doesn't close", rc);
    }
    end(MEMORY_CAP + MEMORY_BESIDE);
    return rc;
}

/* ---- writing */

struct written {
    uint32_t stream;
    uint64_t offset;
    bool any;
};

static void append(pawl *log, struct written *w) {
    pawl_stream_info info;
    pawl_record r = {.key = "k", .key_len = 1, .value = "appended", .value_len = 8};
    pawl_receipt receipt;
    for (uint32_t i = 0; i < 12 && !w->any && pawl_stream_at(log, i, &info) == 0; i++)
        if (pawl_append(log, info.id, 0, &r, &receipt) == 0)
            *w = (struct written){info.id, receipt.offset, true};
}

static void produce(pawl *log) {
    pawl_producer *p;
    pawl_tx *tx;
    pawl_record r = {.value = "produced", .value_len = 8};
    pawl_stream_info info;
    if (pawl_stream_at(log, 0, &info) != 0 || pawl_producer_open(log, "a", &p) != 0)
        return;
    uint64_t next = pawl_producer_sequence(p) + 1;
    if (next != 0 && pawl_begin(log, &tx) == 0) {
        if (pawl_put(tx, info.id, 0, &r) == 0 && pawl_tx_sequence(tx, p, next, next, "c", 1) == 0)
            (void)!pawl_commit(tx, NULL);
        else
            pawl_abort(tx);
    }
    pawl_producer_close(p);
}

static void consume(pawl *log) {
    pawl_position pos;
    pawl_bounds b;
    pawl_tx *tx;
    if (pawl_position_at(log, 0, &pos) != 0 || pawl_begin(log, &tx) != 0)
        return;
    if (pawl_partition_bounds(log, pos.stream, pos.partition, &b) == 0 && b.durable > pos.offset &&
        pawl_advance(tx, pos.processor, pos.stream, pos.partition, pos.offset, b.durable) == 0)
        (void)!pawl_commit(tx, NULL);
    else
        pawl_abort(tx);
}

static void change_state(pawl *log) {
    pawl_table_info info = PAWL_TABLE_INFO_INIT;
    pawl_tx *tx;
    for (uint32_t i = 0; i < 3 && pawl_table_at(log, 0, &info) == 0; i++) {
        if (pawl_begin(log, &tx) != 0)
            return;
        int rc = i == 1 ? pawl_tx_state_delete(tx, info.id, 0, "a", 1)
                        : pawl_tx_state_put(tx, info.id, 0, i == 0 ? "a" : "d", 1, "new", 3);
        if (rc >= 0)
            (void)!pawl_commit(tx, NULL);
        else
            pawl_abort(tx);
        (void)!pawl_state_flush(log);
        (void)!pawl_tick(log);
    }
}

static void change_tables(pawl *log) {
    uint32_t id;
    pawl_retention r = {.bytes = 1u << 30};
    (void)!pawl_stream_create(log, "fresh", 3, &id);
    (void)!pawl_rename(log, PAWL_NAMED_STREAM, "fresh", "renamed");
    (void)!pawl_stream_delete(log, "out");
    (void)!pawl_processor_register(log, "another", &id);
    (void)!pawl_processor_forget(log, "p");
    (void)!pawl_retention_set(log, &r);
    (void)!pawl_disk_cap_set(log, 1u << 30);
    (void)!pawl_retention_apply(log);
}

static void look(pawl *log, const struct written *w) {
    pawl_reader *r;
    pawl_batch batch;
    if (!w->any)
        return;
    int rc = pawl_reader_open(log, w->stream, 0, w->offset, 0, &r);
    target_must(rc == 0, "what was committed can't be read", rc);
    rc = pawl_read(r, 1, 0, &batch);
    target_must(rc > 0 && batch.records[0].offset == w->offset && batch.records[0].value_len == 8 &&
                    memcmp(batch.records[0].value, "appended", 8) == 0,
                "what was committed isn't there", rc);
    pawl_reader_close(r);
}

int target_write(bool all, bool well) {
    pawl *log;
    struct written w = {0};
    begin("write");
    int rc = open_log(false, &log);
    end(MEMORY_CAP + MEMORY_BESIDE);
    if (rc != 0)
        return rc;
    begin("work");
    append(log, &w);
    produce(log);
    consume(log);
    change_state(log);
    for (int i = 0; i < 3; i++) {
        ram.clock_ns += 100000000;
        (void)!pawl_tick(log);
    }
    if (all)
        change_tables(log);
    rc = pawl_close(log);
    target_must(rc == 0 || rc == PAWL_FULL, "a writer doesn't close", rc);
    end(MEMORY_CAP + MEMORY_BESIDE);
    begin("again");
    rc = open_log(false, &log);
    target_must(rc == 0, "a log that was closed doesn't open", rc);
    if (!all && well)
        look(log, &w);
    rc = pawl_close(log);
    target_must(rc == 0 || rc == PAWL_FULL, "a writer doesn't close", rc);
    end(MEMORY_CAP + MEMORY_BESIDE);
    return 0;
}

/* ---- verify, audit, repair, dump */

static void found(void *arg, const pawl_finding *f) {
    uint64_t *n = arg;
    target_must(f->label[0] != 0 && f->message[0] != 0, "a finding says nothing", f->code);
    if (getenv("PAWL_FUZZ_METER") != NULL)
        fprintf(stderr, "  %s: %s\n", f->label, f->message);
    *n += f->code != 0;
}

int target_check(enum target_call call, uint64_t *problems) {
    static const char *const names[] = {"verify", "audit", "repair"};
    pawl_check c = PAWL_CHECK_INIT;
    *problems = 0;
    c.finding = found;
    c.arg = problems;
    begin(names[call]);
    int rc = call == TARGET_VERIFY  ? pawl_verify("ram", &c, NULL)
             : call == TARGET_AUDIT ? pawl_audit("ram", &c, NULL)
                                    : pawl_repair("ram", &c, NULL);
    end(CHECK_MEMORY);
    target_must(call == TARGET_REPAIR || rc != 0 || *problems == 0, "all is well, with problems",
                rc);
    return rc;
}

static int shown(void *arg, const pawl_frame_info *f) {
    (void)arg;
    target_must(strlen(f->text) < 8192 && f->kind != NULL && f->state != NULL,
                "a frame is shown badly", 0);
    return 0;
}

int target_dump(void) {
    begin("dump");
    int rc = pawl_dump("ram", 0, shown, NULL, NULL);
    end(CHECK_MEMORY);
    return rc;
}
