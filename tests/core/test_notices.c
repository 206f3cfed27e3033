/* SPDX-License-Identifier: Apache-2.0 */
/* What is reported to the log callback: a fallback, a cut tail, retention, a full log that has
 * space again, a failure; each once, and never under the lock. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pipeline/engine.h"

#undef fail
#include <cmocka.h>

#include "tests/support/test_dir.h"

struct fixture {
    char dir[64];
    pawl_options options;
    pawl *log;
    uint32_t s;
    char told[4096];
    int worst;
};

static void note(void *arg, int severity, const char *message) {
    struct fixture *f = arg;
    pawl_status s = PAWL_STATUS_INIT;
    size_t n = strlen(f->told);
    snprintf(f->told + n, sizeof f->told - n, "%d %s\n", severity, message);
    if (f->log != NULL) /* it would wait for ever if the lock were held */
        assert_int_equal(pawl_get_status(f->log, &s), 0);
    f->worst = severity > f->worst ? severity : f->worst;
}

static int setup(void **state) {
    struct fixture *f = calloc(1, sizeof *f);
    if (f == NULL)
        return -1;
    if (test_dir_make(f->dir, "/tmp/test_notices") != 0)
        return -1;
    f->options = (pawl_options)PAWL_OPTIONS_INIT;
    f->options.flags = PAWL_OPEN_CREATE;
    f->options.segment_size = MIB, f->options.disk_cap = 4 * MIB;
    f->options.no_thread = 1; /* pawl_tick() tells */
    f->options.log = note, f->options.log_arg = f;
    *state = f;
    alarm(60);
    return pawl_open(f->dir, &f->options, &f->log, NULL) != 0 ||
           pawl_stream_create(f->log, "s", 1, &f->s) != 0;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    pawl *log = f->log;
    f->log = NULL;
    int rc = pawl_close(log);
    if (test_dir_remove(f->dir) != 0)
        rc = -1;
    free(f);
    return rc;
}

static int count(const struct fixture *f, const char *text) {
    int n = 0;
    for (const char *at = f->told; (at = strstr(at, text)) != NULL; at++)
        n++;
    return n;
}

static void fill(struct fixture *f) {
    static char value[50000];
    pawl_record r = {.value = value, .value_len = sizeof value};
    int rc;
    do {
        rc = pawl_append(f->log, f->s, 0, &r, NULL);
        (void)pawl_tick(f->log);
    } while (rc == 0);
    assert_int_equal(rc, PAWL_FULL);
}

static void full_and_not_any_more(void **state) {
    struct fixture *f = *state;
    pawl_retention keep = {.bytes = 2 * MIB};
    fill(f);
    (void)pawl_tick(f->log);
    assert_int_equal(count(f, "2 the log is full"), 1);
    assert_int_equal(count(f, "space again"), 0);
    assert_int_equal(pawl_retention_set(f->log, &keep), 0);
    for (int i = 0; i < 50; i++)
        (void)pawl_tick(f->log);
    assert_int_equal(count(f, "1 retention has dropped segments 0 to "), 1);
    assert_int_equal(count(f, "1 the log has space again"), 1);
    assert_int_equal(count(f, "the log is full"), 1);
}

/* The handle's last error, from whatever thread. */
static void *put_nowhere(void *arg) {
    struct fixture *f = arg;
    pawl_record r = {.value = "x", .value_len = 1};
    return pawl_append(f->log, 77, 0, &r, NULL) == PAWL_NOT_FOUND ? arg : NULL;
}

static void last_error(void **state) {
    struct fixture *f = *state;
    pawl_error e;
    pawl_reader *r;
    pawl_batch b;
    pthread_t t;
    void *answer;
    assert_int_equal(pawl_error_of(f->log, &e), 0);
    assert_int_equal(e.code, 0);
    assert_int_equal(pthread_create(&t, NULL, put_nowhere, f), 0);
    assert_int_equal(pthread_join(t, &answer), 0);
    assert_ptr_equal(answer, f);
    assert_int_equal(pawl_error_of(f->log, &e), 0);
    assert_int_equal(e.code, PAWL_NOT_FOUND);
    assert_non_null(strstr(e.message, "77"));
    pawl_stop(f->log);
    assert_int_equal(pawl_reader_open(f->log, f->s, 0, 0, 0, &r), 0);
    assert_int_equal(pawl_read(r, 0, 0, &b), PAWL_STOPPED);
    pawl_reader_close(r);
    pawl_stop_clear(f->log);
    assert_int_equal(pawl_error_of(f->log, &e), 0);
    assert_int_equal(e.code, PAWL_STOPPED);
    assert_int_equal(pawl_error_of(NULL, &e), PAWL_INVALID);
    assert_int_equal(pawl_error_of(f->log, NULL), PAWL_INVALID);
}

static void failure(void **state) {
    struct fixture *f = *state;
    pawl_error e;
    pthread_mutex_lock(&f->log->mutex);
    wal_fail(&f->log->wal, EIO, "write", 4096);
    engine_progress(f->log);
    engine_leave(f->log);
    (void)pawl_tick(f->log);
    (void)pawl_tick(f->log);
    assert_int_equal(pawl_error_of(f->log, &e), 0);
    assert_int_equal(e.code, PAWL_IO);
    assert_int_equal(count(f, "3 the log acknowledges nothing more"), 1);
    pawl *log = f->log;
    f->log = NULL;
    assert_int_equal(pawl_close(log), PAWL_IO);
    assert_int_equal(pawl_open(f->dir, &f->options, &f->log, NULL), 0);
}

/* The library's own thread tells, where there is one. */
static void threads(void **state) {
    struct fixture *f = *state;
    pawl *log = f->log;
    f->log = NULL;
    assert_int_equal(pawl_close(log), 0);
    f->options.no_thread = 0;
    assert_int_equal(pawl_open(f->dir, &f->options, &log, NULL), 0);
    static char value[50000];
    pawl_record r = {.value = value, .value_len = sizeof value};
    while (pawl_append(log, f->s, 0, &r, NULL) == 0)
        ;
    assert_int_equal(pawl_close(log), 0);
    assert_int_equal(count(f, "2 the log is full"), 1);
    f->options.no_thread = 1;
    assert_int_equal(pawl_open(f->dir, &f->options, &f->log, NULL), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(full_and_not_any_more, setup, teardown),
        cmocka_unit_test_setup_teardown(last_error, setup, teardown),
        cmocka_unit_test_setup_teardown(failure, setup, teardown),
        cmocka_unit_test_setup_teardown(threads, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
