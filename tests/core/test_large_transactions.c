/* SPDX-License-Identifier: Apache-2.0 */
/* Transactions of large records to several streams: whatever the stated limits allow commits, at
 * any memory cap, because earlier records are spilled to the log; it is read back whole, and leaks
 * no memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "pawl.h"
#include "tests/support/test_dir.h"

#define MIB (1u << 20)
#define STREAMS_MAX 8

static char *value; /* of the largest record */

static const struct setting {
    uint32_t memory_mib, segment_mib;
} settings[] = {{2, 8}, {4, 16}, {32, 64}, {32, 16}, {72, 64}};

struct fixture {
    char dir[64];
    pawl *log;
    uint32_t streams[STREAMS_MAX];
};

static void begin(struct fixture *f, const struct setting *s) {
    pawl_options o = PAWL_OPTIONS_INIT;
    char name[8];
    assert_int_equal(test_dir_make(f->dir, "/tmp/test_large"), 0);
    o.flags = PAWL_OPEN_CREATE;
    o.memory_cap = (uint64_t)s->memory_mib * MIB;
    o.segment_size = (uint64_t)s->segment_mib * MIB;
    assert_int_equal(pawl_open(f->dir, &o, &f->log, NULL), 0);
    for (uint32_t i = 0; i < STREAMS_MAX; i++) {
        snprintf(name, sizeof name, "s%u", i);
        assert_int_equal(pawl_stream_create(f->log, name, 1, &f->streams[i]), 0);
    }
}

static void end(struct fixture *f) {
    assert_int_equal(pawl_close(f->log), 0);
    assert_int_equal(test_dir_remove(f->dir), 0);
}

/* The largest record that pawl.h promises to take. */
static size_t largest(const struct setting *s) {
    size_t n = (size_t)s->memory_mib * MIB / 4;
    if (n > (size_t)s->segment_mib * MIB / 4)
        n = (size_t)s->segment_mib * MIB / 4;
    n -= 8192;
    return n > 16u * MIB ? 16u * MIB : n;
}

static uint64_t memory_used(const struct fixture *f) {
    pawl_status s = PAWL_STATUS_INIT;
    assert_int_equal(pawl_get_status(f->log, &s), 0);
    return s.memory_used;
}

static void expect_last(struct fixture *f, uint32_t stream, size_t size) {
    pawl_bounds b;
    pawl_reader *r;
    pawl_batch batch;
    assert_int_equal(pawl_partition_bounds(f->log, stream, 0, &b), 0);
    assert_int_equal(pawl_reader_open(f->log, stream, 0, b.durable - 1, 0, &r), 0);
    int n = pawl_read(r, 1, 0, &batch);
    if (n != 1) {
        pawl_error e;
        pawl_last_error(&e);
        fail_msg("reading %zu bytes: %s", size, e.message);
    }
    assert_int_equal(batch.records[0].value_len, size);
    assert_memory_equal(batch.records[0].value, value, size);
    pawl_reader_close(r);
}

/* One transaction: `rounds` records of `size` bytes to each of the streams. */
static void commit(struct fixture *f, const struct setting *s, size_t size, uint32_t streams,
                   uint32_t rounds, bool together) {
    pawl_tx *tx;
    pawl_error e;
    pawl_record r = {.value = value, .value_len = (uint32_t)size};
    assert_int_equal(pawl_begin(f->log, &tx), 0);
    int rc = 0;
    for (uint32_t k = 0; k < rounds && rc == 0; k++)
        for (uint32_t i = 0; i < streams && rc == 0; i++)
            rc = together ? pawl_put(tx, f->streams[0], 0, &r) : pawl_put(tx, f->streams[i], 0, &r);
    if (rc == 0)
        rc = pawl_commit(tx, NULL);
    pawl_last_error(&e);
    if (rc != 0)
        fail_msg("memory %u MiB, segment %u MiB: %u x %u records of %zu bytes: %s", s->memory_mib,
                 s->segment_mib, rounds, streams, size, e.message);
    for (uint32_t i = 0; i < (together ? 1 : streams); i++)
        expect_last(f, f->streams[i], size);
}

static void all_that_is_promised(void **state) {
    (void)state;
    for (size_t k = 0; k < sizeof settings / sizeof settings[0]; k++) {
        const struct setting *s = &settings[k];
        struct fixture f;
        begin(&f, s);
        size_t most = largest(s);
        size_t sizes[] = {most, most / 2 + 1, most / 8, most / 30};
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
            for (uint32_t streams = 1; streams <= (most > 8u * MIB ? 2 : STREAMS_MAX);
                 streams += streams < 3 ? 1 : 5) {
                commit(&f, s, sizes[i], streams, 1, false);
                if (streams < 3)
                    commit(&f, s, sizes[i], streams, 2, streams == 2);
            }
        end(&f);
    }
}

/* Four MiB to each of two streams, at the defaults. */
static void two_streams(void **state) {
    struct fixture f;
    (void)state;
    begin(&f, &(struct setting){32, 64});
    for (int i = 0; i < 5; i++)
        commit(&f, &settings[2], 4u * MIB, 2, 1, false);
    end(&f);
}

static void nothing_stays(void **state) {
    (void)state;
    for (size_t k = 0; k < 3; k++) {
        struct fixture f;
        uint64_t first = 0, most = 0;
        begin(&f, &settings[k]);
        for (int i = 0; i < 12; i++) {
            commit(&f, &settings[k], largest(&settings[k]), 3, 1, false);
            uint64_t used = memory_used(&f);
            if (i == 3)
                first = used;
            most = used > most ? used : most;
        }
        /* some blocks that files are read into are kept */
        if (memory_used(&f) > first + (uint64_t)settings[k].memory_mib * MIB / 8)
            fail_msg("it grows: %llu to %llu", (unsigned long long)first,
                     (unsigned long long)memory_used(&f));
        assert_true(most <= (uint64_t)settings[k].memory_mib * MIB);
        end(&f);
    }
}

/* Small transactions that are open meanwhile stay as they are. */
static void open_ones_beside_it(void **state) {
    struct fixture f;
    pawl_tx *others[3];
    (void)state;
    begin(&f, &settings[2]);
    pawl_record small = {.value = value, .value_len = 100000};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(pawl_begin(f.log, &others[i]), 0);
        assert_int_equal(pawl_put(others[i], f.streams[i], 0, &small), 0);
    }
    commit(&f, &settings[2], largest(&settings[2]) / 4 * 3, 4, 1, false);
    for (int i = 0; i < 3; i++)
        assert_int_equal(pawl_commit(others[i], NULL), 0);
    end(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_streams),
        cmocka_unit_test(all_that_is_promised),
        cmocka_unit_test(nothing_stays),
        cmocka_unit_test(open_ones_beside_it),
    };
    value = malloc(16u * MIB);
    if (value == NULL)
        return 77;
    for (size_t i = 0; i < 16u * MIB; i++)
        value[i] = (char)(i * 2654435761u >> 7);
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    free(value);
    return rc;
}
