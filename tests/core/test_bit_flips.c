/* SPDX-License-Identifier: Apache-2.0
 *
 * Every byte of a small closed log with one bit flipped: opening or reading says so, or the records
 * are exactly those that were written. And beyond it: the checks that each flip in an encoded
 * header, directory or body is noticed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <unistd.h>

#include "tests/support/test_dir.h"
#include "wal/format.h"

static uint32_t record_count, each; /* of the log; of a transaction */
static char dir[64], file[128];

static void value_of(uint32_t n, char out[64]) {
    snprintf(out, 64, "record %u of the log under test", n);
}

static int make(void) {
    /* In memory where that is possible: each opening syncs. */
    snprintf(dir, sizeof dir, "%s/pawl-flips-XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    if (mkdtemp(dir) == NULL)
        return -1;
    snprintf(file, sizeof file, "%s/0000000000000000.seg", dir);
    pawl_options o = PAWL_OPTIONS_INIT;
    o.flags = PAWL_OPEN_CREATE;
    o.segment_size = MIB;
    pawl *log;
    uint32_t s;
    if (pawl_open(dir, &o, &log, NULL) != 0 || pawl_stream_create(log, "s", 1, &s) != 0)
        return -1;
    for (uint32_t i = 0; i < record_count;) {
        pawl_tx *tx;
        if (pawl_begin(log, &tx) != 0)
            return -1;
        for (uint32_t k = 0; k < each; k++, i++) {
            char v[64];
            value_of(i, v);
            pawl_record r = {.value = v, .value_len = (uint32_t)strlen(v), .timestamp_ns = 1};
            if (pawl_put(tx, s, 0, &r) != 0)
                return -1;
        }
        if (pawl_commit(tx, NULL) != 0)
            return -1;
    }
    return pawl_close(log);
}

static int make_log(void **state) {
    (void)state;
    record_count = 24;
    each = 3;
    return make();
}

static int make_segments(void **state) {
    (void)state;
    record_count = 40000;
    each = 400;
    return make();
}

static int remove_log(void **state) {
    (void)state;
    return test_dir_remove(dir);
}

/* 0: exactly what was written; 1: an error was reported, and what came before it was right; -1: a
 * silent difference. */
static int read_all(void) {
    pawl_options o = PAWL_OPTIONS_INIT;
    o.flags = PAWL_OPEN_READ;
    o.backend = PAWL_BACKEND_POSIX;
    pawl *log;
    pawl_stream_info info;
    if (pawl_open(dir, &o, &log, NULL) != 0)
        return 1;
    pawl_reader *r;
    uint32_t n = 0;
    int rc = pawl_stream_find(log, "s", &info);
    if (rc == 0)
        rc = pawl_reader_open(log, info.id, 0, 0, 0, &r);
    if (rc == 0) {
        pawl_batch b;
        while ((rc = pawl_read(r, 0, 0, &b)) > 0)
            for (size_t i = 0; i < b.count; i++, n++) {
                char v[64];
                value_of(n, v);
                if (b.records[i].value_len != strlen(v) ||
                    memcmp(b.records[i].value, v, strlen(v)) != 0 || b.records[i].offset != n ||
                    b.records[i].timestamp_ns != 1)
                    rc = -1000;
            }
        pawl_reader_close(r);
    }
    if (pawl_close(log) != 0)
        return -1;
    if (rc == -1000 || (rc == 0 && n != record_count))
        return -1;
    return rc < 0 ? 1 : 0;
}

static void each_flipped_bit_is_reported_or_harmless(void **state) {
    (void)state;
    int fd = open(file, O_RDWR);
    assert_true(fd >= 0);
    static uint8_t bytes[128 * 1024];
    ssize_t len = pread(fd, bytes, sizeof bytes, 0);
    assert_int_equal(len, sizeof bytes);
    assert_int_equal(read_all(), 0);
    uint32_t reported = 0, harmless = 0, zeros = 0;
    for (size_t i = 0; i < sizeof bytes; i++) {
        if (bytes[i] == 0 && zeros++ % 301 != 0)
            continue; /* of the zeros, a sample */
        uint8_t flipped = (uint8_t)(bytes[i] ^ (1u << (i % 8)));
        assert_int_equal(pwrite(fd, &flipped, 1, (off_t)i), 1);
        int rc = read_all();
        if (rc < 0)
            fail_msg("a silent difference after a flip at byte %zu", i);
        *(rc == 1 ? &reported : &harmless) += 1;
        assert_int_equal(pwrite(fd, &bytes[i], 1, (off_t)i), 1);
    }
    close(fd);
    print_message("%u flips reported, %u harmless\n", reported, harmless);
    assert_true(reported > 1000);
    assert_int_equal(read_all(), 0);
}

/* Sealed segments, their indexes, headers and padding too: what verify finds good reads exactly,
 * and the rest is reported. */
static void verify_and_readers_agree_on_flips_across_segments(void **state) {
    (void)state;
    uint32_t reported = 0, harmless = 0;
    for (unsigned segment = 0; segment < 3; segment++) {
        char path[128];
        snprintf(path, sizeof path, "%s/%016x.seg", dir, segment);
        int fd = open(path, O_RDWR);
        assert_true(fd >= 0);
        for (off_t i = segment; i < (off_t)MIB; i += i < 8192 ? 1021 : 8009) {
            uint8_t byte, flipped;
            assert_int_equal(pread(fd, &byte, 1, i), 1);
            flipped = (uint8_t)(byte ^ (1u << (i % 8)));
            assert_int_equal(pwrite(fd, &flipped, 1, i), 1);
            bool well = pawl_verify(dir, NULL, NULL) == 0;
            int rc = read_all();
            if (rc < 0 || (rc > 0 && well))
                fail_msg("segment %u, byte %lld: %s", segment, (long long)i,
                         rc < 0 ? "a silent difference"
                                : "reading fails where verify finds all well");
            *(well ? &harmless : &reported) += 1;
            assert_int_equal(pwrite(fd, &byte, 1, i), 1);
        }
        close(fd);
    }
    print_message("%u flips reported, %u harmless\n", reported, harmless);
    assert_true(reported > 250);
    assert_int_equal(pawl_verify(dir, NULL, NULL), 0);
}

static void each_flip_of_a_frame_header_is_noticed(void **state) {
    (void)state;
    uint8_t out[FRAME_HEADER_SIZE];
    struct frame_header h = {.kind = FRAME_COMMIT,
                             .flags = 1,
                             .lsn = 8192,
                             .epoch = 3,
                             .durable = 4096,
                             .link = 99},
                        got;
    static const struct frame_key key = {.seed = 7}, other = {.seed = 8};
    frame_encode_header(out, &h, &key);
    assert_int_equal(frame_decode_header(out, 8192, MIB, &key, &got), FRAME_GOOD);
    assert_int_equal(frame_decode_header(out, 8200, MIB, &key, &got), FRAME_OTHER_LSN);
    /* another log's seed */
    assert_int_equal(frame_decode_header(out, 8192, MIB, &other, &got), FRAME_BAD_HEADER);
    for (size_t i = 0; i < sizeof out * 8; i++) {
        out[i / 8] ^= (uint8_t)(1u << (i % 8));
        assert_int_not_equal(frame_decode_header(out, 8192, MIB, &key, &got), FRAME_GOOD);
        out[i / 8] ^= (uint8_t)(1u << (i % 8));
    }
}

static void each_flip_of_a_segment_header_costs_one_copy(void **state) {
    (void)state;
    static uint8_t out[SEGMENT_HEADER_SIZE];
    struct segment_header h = {.segment_size = MIB,
                               .index = 5,
                               .epoch = 2,
                               .link = 1,
                               .seal_lsn = 77},
                          got;
    int bad;
    segment_encode(out, &h);
    assert_int_equal(segment_decode(out, 5, &got, &bad), SEGMENT_GOOD);
    assert_int_equal(segment_decode(out, 6, &got, &bad), SEGMENT_PREPARED);
    for (size_t i = 0; i < sizeof out; i++) {
        out[i] ^= 0x10;
        assert_int_equal(segment_decode(out, 5, &got, &bad), SEGMENT_ONE_COPY);
        assert_int_equal(bad, i / BLOCK);
        assert_int_equal(got.seal_lsn, 77);
        out[i] ^= 0x10;
    }
}

/* Computed once from docs/format.md and kept: a change of these bytes is a change of the format. */
static void golden_bytes(void **state) {
    (void)state;
    static uint8_t out[SEGMENT_HEADER_SIZE];
    struct segment_header h = {.segment_size = MIB, .index = 1, .epoch = 2};
    segment_encode(out, &h);
    static const uint8_t begins[] = {0x50, 0x41, 0x57, 0x4C, 0x0D, 0x0A, 0x1A, 0x0A,
                                     1,    0,    0,    0,    0,    0x10, 0,    0};
    assert_memory_equal(out, begins, sizeof begins);
    assert_int_equal(get64(out + 32), MIB);
    assert_int_equal(get64(out + 40), 1);
    assert_int_equal(get64(out + 48), 2);
    assert_int_equal(get64(out + 4088), format_hash(out, 4088, 0));
    /* XXH3-64 of nothing, seed 0: from the specification's test vectors. */
    assert_true(format_hash(NULL, 0, 0) == 0x2D06800538D394C2u);
    pawl_record r = {.key = "k",
                     .key_len = 1,
                     .value = "vw",
                     .value_len = 2,
                     .timestamp_ns = 0x0102030405060708};
    uint8_t rec[32] = {0};
    static const uint8_t want[] = {2, 0, 0, 0, 1, 0, 0, 0, 8, 7, 6, 5, 4, 3, 2, 1, 'k', 'v', 'w'};
    assert_int_equal(record_size(&r), sizeof want);
    record_encode(rec, &r, r.timestamp_ns);
    assert_memory_equal(rec, want, sizeof want);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_bytes),
        cmocka_unit_test(each_flip_of_a_frame_header_is_noticed),
        cmocka_unit_test(each_flip_of_a_segment_header_costs_one_copy),
        cmocka_unit_test_setup_teardown(each_flipped_bit_is_reported_or_harmless, make_log,
                                        remove_log),
        cmocka_unit_test_setup_teardown(verify_and_readers_agree_on_flips_across_segments,
                                        make_segments, remove_log),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
