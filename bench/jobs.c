/* SPDX-License-Identifier: Apache-2.0 */
#include "jobs.h"

#include <stdio.h>
#include <stdlib.h>

#define PUT_MAX 64u /* records per put */
#define VALUE_BYTES 65536u

void check(int rc, const char *what) {
    if (rc >= 0)
        return;
    pawl_error e;
    pawl_last_error(&e);
    give_up("pawl, %s: %s", what, e.message);
}

static uint32_t stream(pawl *log, const char *name, uint32_t partitions) {
    uint32_t id = 0;
    int rc = pawl_stream_create(log, name, partitions, &id);
    check(rc == PAWL_EXISTS ? 0 : rc, "creating a stream");
    return id;
}

void log_open(struct log *l, const struct setting *s, uint32_t partitions) {
    pawl_options o = PAWL_OPTIONS_INIT;
    pawl_error e;
    o.flags = PAWL_OPEN_CREATE, o.memory_cap = s->memory, o.segment_size = s->segment;
    if (pawl_open(s->dir, &o, &l->log, &e) != 0)
        give_up("pawl, opening %s: %s", s->dir, e.message);
    l->in = stream(l->log, "in", partitions);
    l->out = stream(l->log, "out", partitions);
    check(pawl_processor_register(l->log, "copy", &l->processor), "registering a processor");
    l->value = must_allocate(VALUE_BYTES);
}

void log_keep_little(struct log *l, const struct setting *s) {
    pawl_retention keep = {.bytes = 256u << 20};
    if (!s->growing)
        check(pawl_retention_set(l->log, &keep), "retention");
}

bool log_is_steady(struct log *l, const struct setting *s) {
    pawl_status status = PAWL_STATUS_INIT;
    check(pawl_get_status(l->log, &status), "status");
    return s->growing || s->run_ns < 50000000 || status.recycled >= 4;
}

void log_close(struct log *l, struct turn *t) {
    pawl_status status = PAWL_STATUS_INIT;
    check(pawl_get_status(l->log, &status), "status");
    t->log_memory = status.memory_used;
    check(pawl_close(l->log), "closing");
    free(l->value);
}

void log_put_records(struct log *l, pawl_tx *tx, uint32_t partition, uint32_t count,
                     uint32_t record, uint64_t n) {
    pawl_record records[PUT_MAX];
    uint32_t room = VALUE_BYTES / record;
    for (uint32_t done = 0; done < count;) {
        uint32_t some = count - done < room ? count - done : room;
        if (some > PUT_MAX)
            some = PUT_MAX;
        for (uint32_t i = 0; i < some; i++, n++) {
            uint8_t *value = l->value + (size_t)i * record;
            fill_record(value, record, n);
            records[i] = (pawl_record){.value = value, .value_len = record, .timestamp_ns = 1};
        }
        check(pawl_put_many(tx, l->in, partition, records, some), "put");
        done += some;
    }
}

void log_put(struct log *l, uint32_t batch, uint32_t record, uint64_t n) {
    pawl_tx *tx;
    check(pawl_begin(l->log, &tx), "begin");
    log_put_records(l, tx, 0, batch, record, n);
    check(pawl_commit_async(tx, NULL, NULL, NULL), "commit");
}
