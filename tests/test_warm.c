/* SPDX-License-Identifier: Apache-2.0 */
/* Once warm, neither commits nor reads allocate: not large transactions, not a new segment, not one that retention lets go of, not a reader that is far behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "pawl.h"
#undef fail /* the library has one of its own */
#include "pipeline/engine.h"

#define MANY INT64_C(1000000000)

static char dir[64];
static pawl *log_;
static uint32_t stream, processor;

static int open_log(void **state) {
    struct seam *io;
    pawl_options o = PAWL_OPTIONS_INIT;
    (void)state;
    snprintf(dir, sizeof dir, "/var/tmp/test_warm.XXXXXX");
    if (mkdtemp(dir) == NULL || seam_create(dir, true, PAWL_BACKEND_AUTO, PAWL_DIRECT_AUTO, &io) != 0)
        return -1;
    o.flags = PAWL_OPEN_CREATE, o.segment_size = 16u << 20;
    pawl_retention keep = {.bytes = 64u << 20};
    return engine_open(io, &o, &log_) != 0 || pawl_stream_create(log_, "s", 1, &stream) != 0 ||
                   pawl_processor_register(log_, "p", &processor) != 0 || pawl_retention_set(log_, &keep) != 0
               ? -1
               : 0;
}

static int remove_log(void **state) {
    char command[96];
    (void)state;
    int rc = pawl_close(log_);
    snprintf(command, sizeof command, "rm -rf -- '%s'", dir);
    return system(command) != 0 ? -1 : rc;
}

static void read_some(pawl_reader *r, uint64_t to) {
    pawl_batch b;
    while (pawl_reader_position(r) < to)
        assert_true(pawl_read(r, 0, 0, &b) > 0);
}

/* 4 MiB in one transaction, which spills, then some small ones. */
static uint64_t write_some(void) {
    static uint8_t value[1000];
    static uint64_t position;
    pawl_receipt receipt = {0};
    pawl_record r = {.value = value, .value_len = sizeof value};
    for (int i = 0; i < 5; i++) {
        pawl_tx *tx;
        assert_int_equal(pawl_begin(log_, &tx), 0);
        for (int k = 0; k < (i == 0 ? 4000 : 10); k++)
            assert_int_equal(pawl_put(tx, stream, 0, &r), 0);
        if (i == 3)
            assert_int_equal(pawl_advance(tx, processor, stream, 0, position, receipt.offset), 0);
        if (i == 3)
            position = receipt.offset;
        assert_int_equal(pawl_commit(tx, &receipt), 0);
    }
    return receipt.offset + 10;
}

static void nothing_is_allocated(void **state) {
    enum { ROUNDS = 70, BEHIND = 6, WARM = 35 };
    pawl_reader *near, *far;
    pawl_status before = PAWL_STATUS_INIT, after = PAWL_STATUS_INIT;
    uint64_t ends[ROUNDS];
    (void)state;
    assert_int_equal(pawl_reader_open(log_, stream, 0, 0, 0, &near), 0);
    assert_int_equal(pawl_reader_open(log_, stream, 0, 0, 0, &far), 0);
    for (int i = 0; i < ROUNDS; i++) {
        if (i == WARM) {
            assert_int_equal(pawl_get_status(log_, &before), 0);
            atomic_store(&log_->mem.fail_at, MANY); /* counted down by each */
        }
        ends[i] = write_some();
        read_some(near, ends[i]);
        if (i >= BEHIND)
            read_some(far, ends[i - BEHIND]);
    }
    assert_int_equal(pawl_retention_apply(log_) >= 0, 1);
    assert_int_equal(MANY - atomic_load(&log_->mem.fail_at), 0);
    assert_int_equal(pawl_get_status(log_, &after), 0);
    assert_true(after.first_segment >= before.first_segment + 5);
    pawl_reader_close(near);
    pawl_reader_close(far);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(nothing_is_allocated, open_log, remove_log),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
