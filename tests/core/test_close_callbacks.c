/* SPDX-License-Identifier: Apache-2.0 */
/* Closing a log while callbacks of asynchronous commits are due: each runs once, in order, and
 * closing ends, whichever thread runs them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "pawl.h"

#define COMMITS 8u
#define ROUNDS 20u

static uint32_t called;

/* Slow: while it runs without the lock, the library's own thread comes for the same callbacks. */
static void slow_callback(void *arg, int status, const pawl_receipt *receipt) {
    (void)receipt;
    assert_int_equal(status, 0);
    assert_int_equal((uintptr_t)arg, called);
    called++;
    usleep(1000);
}

static void closing_runs_what_is_due(void **state) {
    const char *dir = *state;
    alarm(60); /* for a failure, it would hang */
    for (uint32_t round = 0; round < ROUNDS; round++) {
        pawl_options o = PAWL_OPTIONS_INIT;
        pawl_error e;
        pawl *log;
        uint32_t stream;
        o.flags = PAWL_OPEN_CREATE, o.segment_size = 1u << 20;
        if (pawl_open(dir, &o, &log, &e) != 0)
            fail_msg("%s", e.message);
        int made = pawl_stream_create(log, "s", 1, &stream);
        assert_true(made == 0 || made == PAWL_EXISTS);
        called = 0;
        for (uintptr_t i = 0; i < COMMITS; i++) {
            pawl_tx *tx;
            pawl_record r = {.value = "x", .value_len = 1};
            assert_int_equal(pawl_begin(log, &tx), 0);
            assert_int_equal(pawl_put(tx, stream, 0, &r), 0);
            assert_int_equal(pawl_commit_async(tx, slow_callback, (void *)i, NULL), 0);
        }
        if (round % 2 == 1)
            assert_true(pawl_dispatch(log) >= 0);
        assert_int_equal(pawl_close(log), 0);
        assert_int_equal(called, COMMITS);
    }
    alarm(0);
}

static int setup(void **state) {
    static char dir[] = "/tmp/test_close_callbacks.XXXXXX";
    *state = mkdtemp(dir);
    return *state == NULL ? -1 : 0;
}

static int teardown(void **state) {
    char command[96];
    snprintf(command, sizeof command, "rm -rf -- '%s'", (const char *)*state);
    return system(command) == 0 ? 0 : -1;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(closing_runs_what_is_due, setup, teardown)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
