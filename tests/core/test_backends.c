/* SPDX-License-Identifier: Apache-2.0 */
/* The same job gives the same log with each backend, direct or buffered, with threads or without,
 * in little memory or much. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "pawl.h"
#include "tests/support/skip.h"
#include "tests/support/test_dir.h"

#define MIB (1024u * 1024u)
#define INPUTS 300u

struct variant {
    int32_t backend, direct;
    uint32_t no_thread;
    uint64_t memory_cap;
    const char *under;
};

static void fill(uint8_t *p, uint32_t len, uint32_t seed) {
    for (uint32_t i = 0; i < len; i++)
        p[i] = (uint8_t)((i * 7u + seed * 13u) ^ (i >> 9));
}

static uint32_t length(uint32_t i) {
    return i % 5 == 0 ? 40000 : i % 7 * 997;
}

static int shorten(pawl_context *ctx, const pawl_record *records, size_t count, void *arg) {
    for (size_t i = 0; i < count; i++) {
        pawl_record out = records[i];
        out.value_len /= 2;
        int rc = pawl_emit(ctx, *(uint32_t *)arg, 0, &out);
        if (rc != 0)
            return rc;
    }
    return 0;
}

static void expect(pawl *log, uint32_t stream, uint32_t divisor, uint64_t *sum) {
    static uint8_t want[40000];
    pawl_reader *r;
    pawl_batch batch;
    uint32_t next = 0;
    int n;
    assert_int_equal(pawl_reader_open(log, stream, 0, 0, 0, &r), 0);
    while ((n = pawl_read(r, 0, 0, &batch)) > 0)
        for (size_t i = 0; i < batch.count; i++, next++) {
            const pawl_record *x = &batch.records[i];
            fill(want, length(next), next);
            assert_int_equal(x->offset, next);
            assert_int_equal(x->timestamp_ns, 1000 + next);
            assert_int_equal(x->value_len, length(next) / divisor);
            if (x->value_len != 0)
                assert_memory_equal(x->value, want, x->value_len);
            *sum = *sum * 31 + x->value_len + (x->value_len != 0 ? *(const uint8_t *)x->value : 0u);
        }
    assert_int_equal(n, 0);
    assert_int_equal(next, INPUTS);
    pawl_reader_close(r);
}

static char dir[64]; /* of the variant at work */

static int remove_dir(void **state) {
    (void)state;
    return dir[0] != 0 ? test_dir_remove(dir) : 0;
}

static void job(void **state) {
    const struct variant *v = *state;
    static uint64_t first_sum; /* of the first variant */
    static uint8_t value[40000];
    struct stat st;
    dir[0] = 0;
    if (stat(v->under, &st) != 0) {
        SKIP("there is no %s", v->under);
    }
    snprintf(dir, sizeof dir, "%s/test_backends.XXXXXX", v->under);
    assert_non_null(mkdtemp(dir));
    pawl_options o = PAWL_OPTIONS_INIT;
    o.flags = PAWL_OPEN_CREATE, o.segment_size = MIB;
    o.backend = v->backend, o.direct = v->direct, o.no_thread = v->no_thread,
    o.memory_cap = v->memory_cap;
    pawl *log;
    pawl_error e;
    int rc = pawl_open(dir, &o, &log, &e);
    if (rc == PAWL_UNSUPPORTED) {
        SKIP("%s", e.message);
    }
    if (rc != 0)
        fail_msg("%s", e.message);
    pawl_status s = PAWL_STATUS_INIT;
    assert_int_equal(pawl_get_status(log, &s), 0);
    assert_int_equal(s.backend, v->backend);
    assert_int_equal(s.direct, v->direct == PAWL_DIRECT_ON);
    uint32_t in, out;
    assert_int_equal(pawl_stream_create(log, "in", 1, &in), 0);
    assert_int_equal(pawl_stream_create(log, "out", 1, &out), 0);
    for (uint32_t i = 0; i < INPUTS; i++) {
        pawl_tx *tx;
        fill(value, length(i), i);
        pawl_record r = {.value = value, .value_len = length(i), .timestamp_ns = 1000 + i};
        assert_int_equal(pawl_begin(log, &tx), 0);
        assert_int_equal(pawl_put(tx, in, 0, &r), 0);
        rc = i % 10 == 0 ? pawl_commit(tx, NULL) : pawl_commit_async(tx, NULL, NULL, NULL);
        if (rc != 0) {
            pawl_last_error(&e);
            fail_msg("commit %u: %d, %s", i, rc, e.message);
        }
        if (v->no_thread)
            assert_true(pawl_tick(log) >= 0);
    }
    pawl_processor_config c = PAWL_PROCESSOR_INIT;
    pawl_processor *p;
    c.name = "shorten", c.inputs = &in, c.input_count = 1, c.process = shorten, c.arg = &out;
    assert_int_equal(pawl_processor_add(log, &c, &p), 0);
    int ran = pawl_run(log, 0, PAWL_RUN_UNTIL_IDLE);
    if (ran != 0) {
        pawl_last_error(&e);
        fail_msg("pawl_run: %d, %s", ran, e.message);
    }
    pawl_processor_remove(p);
    uint64_t sum = 0, again = 0, at = 0;
    expect(log, in, 1, &sum);
    expect(log, out, 2, &sum);
    assert_int_equal(pawl_get_status(log, &s), 0);
    assert_true(s.last_segment >= s.first_segment + 3);
    assert_true(s.memory_used <= s.memory_cap);
    assert_int_equal(pawl_close(log), 0);
    if (pawl_open(dir, &o, &log, &e) != 0)
        fail_msg("%s", e.message);
    expect(log, in, 1, &again);
    expect(log, out, 2, &again);
    assert_int_equal(pawl_position_get(log, "shorten", in, 0, &at), 0);
    assert_int_equal(at, INPUTS);
    assert_int_equal(pawl_close(log), 0);
    if (first_sum == 0)
        first_sum = sum;
    assert_int_equal(sum, first_sum);
    assert_int_equal(again, first_sum);
}

int main(void) {
    static struct variant variants[32];
    static char names[32][64];
    struct CMUnitTest tests[32];
    for (uint32_t i = 0; i < 32; i++) {
        variants[i] = (struct variant){
            .backend = i & 1 ? PAWL_BACKEND_POSIX : PAWL_BACKEND_URING,
            .direct = i & 2 ? PAWL_DIRECT_OFF : PAWL_DIRECT_ON,
            .no_thread = i >> 2 & 1,
            .memory_cap = i & 8 ? 2 * MIB : 0,
            .under = i & 16 ? "/dev/shm" : "/tmp",
        };
        snprintf(names[i], sizeof names[i], "%s, %s, %s, %s, %s", i & 1 ? "posix" : "uring",
                 i & 2 ? "buffered" : "direct", i & 4 ? "no thread" : "threads",
                 i & 8 ? "2 MiB" : "default memory", variants[i].under);
        tests[i] = (struct CMUnitTest){.name = names[i],
                                       .test_func = job,
                                       .teardown_func = remove_dir,
                                       .initial_state = &variants[i]};
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
