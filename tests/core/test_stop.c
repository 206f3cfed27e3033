/* SPDX-License-Identifier: Apache-2.0 */
/* pawl_stop() ends every wait on a handle: each kind of wait is begun in its own thread, stopped,
 * and returns PAWL_STOPPED; so does the next one, until the stop is cleared. */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "pawl.h"
#include "tests/support/test_dir.h"

#define MIB (1u << 20)

struct fixture {
    char dir[64];
    pawl *log, *follower;
    uint32_t s, full; /* `full`: what fills the log goes there */
};

static atomic_int waiting; /* the thread is about to wait */
static struct fixture *at; /* for the signal handler */

/* ---- the waits: each returns the result of its call */

static int wait_in_read(struct fixture *f) {
    pawl_reader *r;
    pawl_batch b;
    assert_int_equal(pawl_reader_open(f->log, f->s, 0, PAWL_END, 0, &r), 0);
    atomic_store(&waiting, 1);
    int rc = pawl_read(r, 0, -1, &b);
    pawl_reader_close(r);
    return rc;
}

static int wait_in_timed_read(struct fixture *f) {
    pawl_reader *r;
    pawl_batch b;
    assert_int_equal(pawl_reader_open(f->log, f->s, 0, PAWL_END, PAWL_READ_UNCOMMITTED, &r), 0);
    atomic_store(&waiting, 1);
    int rc = pawl_read(r, 0, 3600 * 1000, &b);
    pawl_reader_close(r);
    return rc;
}

static int wait_in_followers_read(struct fixture *f) {
    pawl_reader *r;
    pawl_batch b;
    assert_int_equal(pawl_reader_open(f->follower, f->s, 0, PAWL_END, 0, &r), 0);
    atomic_store(&waiting, 1);
    int rc = pawl_read(r, 0, -1, &b);
    pawl_reader_close(r);
    return rc;
}

static int wait_in_read_any(struct fixture *f) {
    pawl_any *a;
    pawl_batch b;
    pawl_place from = {f->s, 0, PAWL_END};
    assert_int_equal(pawl_any_open(f->log, &from, 1, 0, &a), 0);
    atomic_store(&waiting, 1);
    int rc = pawl_read_any(a, 0, -1, &b, NULL);
    pawl_any_close(a);
    return rc;
}

static int nothing(pawl_context *ctx, const pawl_record *r, size_t n, void *arg) {
    (void)ctx, (void)r, (void)n, (void)arg;
    return 0;
}
static int fails(pawl_context *ctx, const pawl_record *r, size_t n, void *arg) {
    (void)ctx, (void)r, (void)n, (void)arg;
    atomic_store(&waiting, 1);
    return -1;
}

static int run_with(struct fixture *f, const char *name, pawl_process_fn fn, uint32_t threads) {
    pawl_processor *p;
    pawl_processor_config c = PAWL_PROCESSOR_INIT;
    c.name = name, c.inputs = &f->s, c.input_count = 1, c.process = fn;
    c.backoff_ms = 3600 * 1000, c.retries = UINT32_MAX;
    assert_int_equal(pawl_processor_add(f->log, &c, &p), 0);
    if (fn == nothing)
        atomic_store(&waiting, 1);
    int rc = pawl_run(f->log, threads, 0);
    pawl_processor_remove(p);
    return rc;
}
static int wait_in_run(struct fixture *f) {
    return run_with(f, "idle", nothing, 0);
}
static int wait_in_workers(struct fixture *f) {
    return run_with(f, "idle", nothing, 3);
}
static int wait_in_back_off(struct fixture *f) {
    return run_with(f, "failing", fails, 1);
}

/* The log fills up; the commit that finds no space waits. */
static int wait_for_space(struct fixture *f) {
    static char value[100000];
    pawl_record r = {.value = value, .value_len = sizeof value};
    pawl_tx *tx;
    pawl_status s = PAWL_STATUS_INIT;
    for (;;) {
        assert_int_equal(pawl_begin(f->log, &tx), 0);
        assert_int_equal(pawl_put(tx, f->full, 0, &r), 0);
        assert_int_equal(pawl_get_status(f->log, &s), 0);
        if (s.segment_size * 4 - s.end_lsn < MIB) /* it will be one of the next */
            atomic_store(&waiting, 1);
        int rc = pawl_commit(tx, NULL);
        if (rc == 0)
            continue;
        /* the transaction is unchanged: another attempt returns the same, while the stop is in
         * force */
        if (rc == PAWL_STOPPED)
            assert_int_equal(pawl_commit(tx, NULL), PAWL_STOPPED);
        pawl_abort(tx);
        return rc;
    }
}

static const struct wait {
    const char *name;
    int (*wait)(struct fixture *f);
} waits[] = {
    {"a read", wait_in_read},
    {"a read with a time limit", wait_in_timed_read},
    {"a follower's read", wait_in_followers_read},
    {"a read of several", wait_in_read_any},
    {"a run in its own thread", wait_in_run},
    {"workers", wait_in_workers},
    {"a pause after a failure", wait_in_back_off},
    {"a commit without space", wait_for_space},
};

struct thread {
    pthread_t thread;
    struct fixture *f;
    const struct wait *w;
    int result;
};
static void *thread_main(void *arg) {
    struct thread *t = arg;
    t->result = t->w->wait(t->f);
    return NULL;
}

static void stop_both(int number) {
    (void)number;
    pawl_stop(at->log);
    pawl_stop(at->follower);
}

static void stopped(struct fixture *f, const struct wait *w, int in_handler) {
    struct thread t = {.f = f, .w = w};
    atomic_store(&waiting, 0);
    assert_int_equal(pthread_create(&t.thread, NULL, thread_main, &t), 0);
    while (atomic_load(&waiting) == 0)
        usleep(1000);
    usleep(in_handler != 0 ? 20000 : 0); /* asleep, or on its way there: both must end */
    if (in_handler != 0)
        raise(SIGUSR1);
    else
        stop_both(0);
    assert_int_equal(pthread_join(t.thread, NULL), 0);
    if (t.result != PAWL_STOPPED)
        fail_msg("%s answers %s", w->name, pawl_errname(t.result));
    t.result = w->wait(f); /* it is in force */
    if (t.result != PAWL_STOPPED)
        fail_msg("%s answers %s after a stop", w->name, pawl_errname(t.result));
}

static void every_wait(void **state) {
    struct fixture *f = *state;
    struct sigaction action = {.sa_handler = stop_both};
    pawl_record hello = {.value = "hello", .value_len = 5};
    at = f;
    sigaction(SIGUSR1, &action, NULL);
    alarm(60); /* none of the waits ends by itself */
    for (int round = 0; round < 2; round++)
        for (size_t i = 0; i < sizeof waits / sizeof waits[0]; i++) {
            if (waits[i].wait == wait_for_space && round == 0)
                continue; /* the log stays full: the last of all */
            pawl_stop_clear(f->log);
            pawl_stop_clear(f->follower);
            if (waits[i].wait == wait_in_back_off) /* and a record to fail at */
                assert_int_equal(pawl_append(f->log, f->s, 0, &hello, NULL), 0);
            stopped(f, &waits[i], round);
        }
}

/* Calls that need no wait work while a stop is in force. */
static void what_goes_on(void **state) {
    struct fixture *f = *state;
    pawl_record hello = {.value = "hello", .value_len = 5};
    pawl_reader *r;
    pawl_batch b;
    pawl_stop(f->log);
    assert_int_equal(pawl_append(f->log, f->s, 0, &hello, NULL), 0);
    assert_int_equal(pawl_sync(f->log), 0);
    assert_int_equal(pawl_reader_open(f->log, f->s, 0, 0, 0, &r), 0);
    assert_int_equal(pawl_read(r, 0, -1, &b), 1);
    assert_int_equal(pawl_read(r, 0, -1, &b), PAWL_STOPPED);
    assert_int_equal(pawl_read(r, 0, 0, &b), PAWL_STOPPED);
    pawl_stop_clear(f->log);
    assert_int_equal(pawl_read(r, 0, 0, &b), 0);
    pawl_reader_close(r);
}

static atomic_int seen;
static int stops_at_third(pawl_context *ctx, const pawl_record *r, size_t n, void *arg) {
    (void)r, (void)arg;
    if (atomic_fetch_add(&seen, (int)n) == 2)
        pawl_stop(pawl_context_log(ctx));
    return 0;
}

/* A run that was stopped in the middle returns PAWL_STOPPED, and the next one continues there. */
static void in_the_middle(void **state) {
    struct fixture *f = *state;
    pawl_processor *p;
    pawl_processor_config c = PAWL_PROCESSOR_INIT;
    pawl_record hello = {.value = "hello", .value_len = 5};
    uint64_t position;
    for (int i = 0; i < 10; i++)
        assert_int_equal(pawl_append(f->log, f->s, 0, &hello, NULL), 0);
    c.name = "p", c.inputs = &f->s, c.input_count = 1, c.process = stops_at_third, c.batch_max = 1;
    atomic_store(&seen, 0);
    assert_int_equal(pawl_processor_add(f->log, &c, &p), 0);
    assert_int_equal(pawl_run(f->log, 0, PAWL_RUN_UNTIL_IDLE), PAWL_STOPPED);
    assert_int_equal(pawl_position_get(f->log, "p", f->s, 0, &position), 0);
    assert_int_equal(position, 3);
    assert_int_equal(pawl_run(f->log, 0, PAWL_RUN_UNTIL_IDLE), PAWL_STOPPED);
    assert_int_equal(atomic_load(&seen), 3);
    pawl_stop_clear(f->log);
    assert_int_equal(pawl_run(f->log, 0, PAWL_RUN_UNTIL_IDLE), 0);
    assert_int_equal(atomic_load(&seen), 10);
    pawl_processor_remove(p);
}

static int setup(void **state) {
    struct fixture *f = calloc(1, sizeof *f);
    pawl_options o = PAWL_OPTIONS_INIT;
    if (f == NULL)
        return -1;
    if (test_dir_make(f->dir, "/tmp/test_stop") != 0)
        return -1;
    o.flags = PAWL_OPEN_CREATE, o.segment_size = MIB, o.disk_cap = 4 * MIB, o.block_when_full = 1;
    *state = f;
    if (pawl_open(f->dir, &o, &f->log, NULL) != 0 ||
        pawl_stream_create(f->log, "s", 1, &f->s) != 0 ||
        pawl_stream_create(f->log, "full", 1, &f->full) != 0)
        return -1;
    o = (pawl_options)PAWL_OPTIONS_INIT;
    o.flags = PAWL_OPEN_READ;
    return pawl_open(f->dir, &o, &f->follower, NULL);
}

static int teardown(void **state) {
    struct fixture *f = *state;
    alarm(0);
    int rc = pawl_close(f->follower);
    if (pawl_close(f->log) != 0)
        rc = -1;
    if (test_dir_remove(f->dir) != 0)
        rc = -1;
    free(f);
    return rc;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_goes_on, setup, teardown),
        cmocka_unit_test_setup_teardown(in_the_middle, setup, teardown),
        cmocka_unit_test_setup_teardown(every_wait, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
