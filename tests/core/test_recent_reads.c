/* SPDX-License-Identifier: Apache-2.0 */
/* Recent records are read from the log's own memory, as many as the buffers hold; and records
 * returned from there don't change, however much is written after them. */
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

#define VALUE_MAX 400000u

static unsigned reads;
static struct seam_ops counting;
static const struct seam_ops *real;
static struct seam_log own;
static uint8_t value[VALUE_MAX];

static int64_t count_read(struct seam *s, int file, void *data, size_t len, uint64_t offset) {
    reads++;
    return real->read(s, file, data, len, offset);
}
static void count_put(struct seam_reads *q, struct seam_req *r) {
    reads++;
    real->reads_put(q, r);
}

static uint8_t byte_of(uint64_t n) {
    return (uint8_t)(n * 0x9e3779b97f4a7c15u >> 56);
}

/* Record n begins with n, and continues with a byte derived from n. */
static void put(uint64_t n, uint32_t len, bool wait) {
    pawl_tx *tx;
    pawl_record r = {.value = value, .value_len = len};
    memset(value, byte_of(n), len);
    memcpy(value, &n, sizeof n);
    assert_int_equal(pawl_begin(own.log, &tx), 0);
    assert_int_equal(pawl_put(tx, own.stream, 0, &r), 0);
    assert_int_equal(wait ? pawl_commit(tx, NULL) : pawl_commit_async(tx, NULL, NULL, NULL), 0);
}

static void expect(const pawl_record *r, uint64_t n, uint32_t len) {
    uint64_t told;
    const uint8_t *at = r->value;
    assert_int_equal(r->value_len, len);
    memcpy(&told, at, sizeof told);
    assert_int_equal(told, n);
    assert_int_equal(at[sizeof told], byte_of(n));
    assert_memory_equal(at + sizeof told, at + sizeof told + 1, len - sizeof told - 1);
}

/* From a single block to several write buffers' share, with no order in it. */
static uint32_t length(uint64_t n) {
    return n % 16 == 7 ? 300000 + (uint32_t)n % 1000
                       : 100 + (uint32_t)(n * 7919 % (n % 4 == 0 ? 60000 : 3000));
}

static void count_reads(struct seam *io) {
    real = io->ops;
    counting = *real;
    counting.read = count_read;
    if (real->reads_put != NULL)
        counting.reads_put = count_put;
    io->ops = &counting;
}

static int open_log(void **state) {
    (void)state;
    return seam_log_open(&own, "recent_reads", count_reads);
}

static int remove_log(void **state) {
    (void)state;
    return seam_log_remove(&own);
}

static void read_back(pawl_reader *r, uint64_t from, uint64_t to) {
    pawl_batch b;
    uint64_t n = from;
    while (n < to && pawl_read(r, 0, 0, &b) > 0)
        for (size_t i = 0; i < b.count; i++, n++)
            expect(&b.records[i], n, length(n));
    assert_int_equal(n, to);
}

/* Small groups share a buffer: half of the fourteen MiB is there at least. */
static void the_last_mebibytes_are_in_memory(void **state) {
    pawl_reader *r;
    pawl_batch b;
    uint64_t n = 0;
    (void)state;
    assert_int_equal(pawl_reader_open(own.log, own.stream, 0, 0, 0, &r), 0);
    put(n++, 2000, true);
    assert_int_equal(pawl_read(r, 0, 0, &b), 1); /* past what was there before the log was opened */
    reads = 0;
    for (; n < 1500; n++) /* a block each */
        put(n, 2000, true);
    for (uint64_t k = 1; k < n;) {
        assert_true(pawl_read(r, 0, 0, &b) > 0);
        for (size_t i = 0; i < b.count; i++, k++)
            expect(&b.records[i], k, 2000);
    }
    assert_int_equal(reads, 0);
    pawl_reader_close(r);
}

static void groups_of_all_sizes_are_read_as_they_were_written(void **state) {
    pawl_reader *r;
    uint64_t n = 0;
    (void)state;
    assert_int_equal(pawl_reader_open(own.log, own.stream, 0, 0, 0, &r), 0);
    while (n < 4000) { /* through several segments */
        uint64_t from = n, to = n + 1 + n * 31 % 200;
        for (; n < to; n++)
            put(n, length(n), n % 5 == 0);
        assert_int_equal(pawl_sync(own.log), 0);
        read_back(r, from, to);
    }
    pawl_reader_close(r);
}

static void what_was_given_out_stays(void **state) {
    enum { READERS = 7 }; /* more than may keep the log's memory */
    pawl_reader *r[READERS];
    pawl_batch b[READERS];
    uint64_t n = 0, from[READERS];
    (void)state;
    for (int i = 0; i < READERS; i++) {
        for (uint64_t to = n + 50; n < to; n++)
            put(n, length(n), n + 1 == to);
        from[i] = n - 20;
        assert_int_equal(pawl_reader_open(own.log, own.stream, 0, from[i], 0, &r[i]), 0);
        assert_true(pawl_read(r[i], 0, 0, &b[i]) > 0);
    }
    for (uint64_t to = n + 3000; n < to; n++) /* some 60 MiB */
        put(n, length(n), n % 3 == 0);
    assert_int_equal(pawl_sync(own.log), 0);
    for (int i = 0; i < READERS; i++) {
        for (size_t k = 0; k < b[i].count; k++)
            expect(&b[i].records[k], from[i] + k, length(from[i] + k));
        read_back(r[i], from[i] + b[i].count, n);
        pawl_reader_close(r[i]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_last_mebibytes_are_in_memory, open_log, remove_log),
        cmocka_unit_test_setup_teardown(groups_of_all_sizes_are_read_as_they_were_written, open_log,
                                        remove_log),
        cmocka_unit_test_setup_teardown(what_was_given_out_stays, open_log, remove_log),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
