/* SPDX-License-Identifier: Apache-2.0 */
/* Once warm, neither commits nor reads allocate: not large transactions, not a new segment, not one
 * that retention drops, not a reader that is far behind. */
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
#include "tests/support/seam_log.h"

#define MANY INT64_C(1000000000)

static struct seam_log own;
static uint32_t processor;

static int open_log(void **state) {
    pawl_retention keep = {.bytes = 64u << 20};
    (void)state;
    return seam_log_open(&own, "warm", NULL) != 0 ||
                   pawl_processor_register(own.log, "p", &processor) != 0 ||
                   pawl_retention_set(own.log, &keep) != 0
               ? -1
               : 0;
}

static int remove_log(void **state) {
    (void)state;
    return seam_log_remove(&own);
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
        assert_int_equal(pawl_begin(own.log, &tx), 0);
        for (int k = 0; k < (i == 0 ? 4000 : 10); k++)
            assert_int_equal(pawl_put(tx, own.stream, 0, &r), 0);
        if (i == 3)
            assert_int_equal(pawl_advance(tx, processor, own.stream, 0, position, receipt.offset),
                             0);
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
    assert_int_equal(pawl_reader_open(own.log, own.stream, 0, 0, 0, &near), 0);
    assert_int_equal(pawl_reader_open(own.log, own.stream, 0, 0, 0, &far), 0);
    for (int i = 0; i < ROUNDS; i++) {
        if (i == WARM) {
            assert_int_equal(pawl_get_status(own.log, &before), 0);
            atomic_store(&own.log->mem.fail_at, MANY); /* counted down by each */
        }
        ends[i] = write_some();
        read_some(near, ends[i]);
        if (i >= BEHIND)
            read_some(far, ends[i - BEHIND]);
    }
    assert_int_equal(pawl_retention_apply(own.log) >= 0, 1);
    assert_int_equal(MANY - atomic_load(&own.log->mem.fail_at), 0);
    assert_int_equal(pawl_get_status(own.log, &after), 0);
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
