/* SPDX-License-Identifier: Apache-2.0 */
/* Under a small memory cap everything that could be written can be read and processed: a
 * transaction whose spilled runs are together larger than what a reader may hold, and more
 * partitions with a backlog than windows into the log fit (PAWL-11). */
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
#include "tests/support/own_log.h"

#define MIB (1024u * 1024u)
#define PARTITIONS 48u

struct fixture {
    char dir[64];
    pawl *log;
    uint32_t in, out;
    uint64_t put;
};

static void open_log(struct fixture *f) {
    pawl_options o = PAWL_OPTIONS_INIT;
    o.flags = PAWL_OPEN_CREATE;
    o.segment_size = MIB;
    o.memory_cap = 2 * MIB;
    assert_int_equal(pawl_open(f->dir, &o, &f->log, NULL), 0);
    int made = pawl_stream_create(f->log, "in", PARTITIONS, &f->in);
    assert_true(made == 0 || made == PAWL_EXISTS);
    made = pawl_stream_create(f->log, "out", 1, &f->out);
    assert_true(made == 0 || made == PAWL_EXISTS);
}

static int setup(void **state) {
    struct fixture *f = calloc(1, sizeof *f);
    if (f == NULL)
        return -1;
    if (test_dir_make(f->dir, "/tmp/test_small") != 0)
        return -1;
    open_log(f);
    *state = f;
    return 0;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    int rc = close_and_remove(f->log, f->dir);
    free(f);
    return rc;
}

/* Records of 1 KiB in one transaction, to one partition or to each in turn. */
static void transaction(struct fixture *f, uint32_t records, bool all) {
    pawl_tx *tx;
    static char value[1024];
    assert_int_equal(pawl_begin(f->log, &tx), 0);
    for (uint32_t i = 0; i < records; i++, f->put++) {
        memcpy(value, &f->put, sizeof f->put);
        pawl_record r = {.value = value, .value_len = sizeof value};
        assert_int_equal(pawl_put(tx, f->in, all ? i % PARTITIONS : 0, &r), 0);
    }
    assert_int_equal(pawl_commit(tx, NULL), 0);
}

static void reopen(struct fixture *f) {
    assert_int_equal(pawl_close(f->log), 0);
    open_log(f);
}

static void a_spilled_transaction_larger_than_memory_is_read(void **state) {
    struct fixture *f = *state;
    transaction(f, 6 * 1024, false);
    reopen(f);
    pawl_reader *r;
    pawl_batch b;
    int n;
    uint64_t next = 0;
    assert_int_equal(pawl_reader_open(f->log, f->in, 0, 0, PAWL_READ_COMMITTED, &r), 0);
    while ((n = pawl_read(r, 0, 0, &b)) > 0)
        for (size_t i = 0; i < b.count; i++, next++) {
            assert_int_equal(b.records[i].offset, next);
            assert_memory_equal(b.records[i].value, &next, sizeof next);
        }
    assert_int_equal(n, 0);
    assert_int_equal(next, f->put);
    pawl_reader_close(r);
}

static int count_them(pawl_context *ctx, const pawl_record *records, size_t count, void *arg) {
    (void)ctx, (void)records;
    *(uint64_t *)arg += count;
    return 0;
}

static void more_backlogs_than_windows_fit_are_processed(void **state) {
    struct fixture *f = *state;
    for (uint32_t i = 0; i < 12; i++)
        transaction(f, 10 * PARTITIONS, true);
    reopen(f);
    uint64_t seen = 0;
    pawl_processor_config c = PAWL_PROCESSOR_INIT;
    c.name = "count";
    c.inputs = &f->in;
    c.input_count = 1;
    c.process = count_them;
    c.arg = &seen;
    c.batch_max = 7;
    assert_int_equal(pawl_processor_add(f->log, &c, NULL), 0);
    int rc = pawl_run(f->log, 0, PAWL_RUN_UNTIL_IDLE);
    if (rc != 0) {
        pawl_error e;
        pawl_last_error(&e);
        fail_msg("%s", e.message);
    }
    assert_int_equal(seen, f->put);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_spilled_transaction_larger_than_memory_is_read, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(more_backlogs_than_windows_fit_are_processed, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
