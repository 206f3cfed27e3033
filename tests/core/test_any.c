/* SPDX-License-Identifier: Apache-2.0 */
/* A reader of several partitions: fair turns, one wait for all of them, a descriptor for poll(). */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include "pawl.h"
#include "tests/support/own_log.h"

#define MIB (1024u * 1024u)

struct fixture {
    char dir[64];
    pawl_options options;
    pawl *log;
    uint32_t a, b; /* streams: one partition, four */
};

static int setup(void **state) {
    struct fixture *f = calloc(1, sizeof *f);
    if (f == NULL)
        return -1;
    if (test_dir_make(f->dir, "/tmp/test_any") != 0)
        return -1;
    f->options = small_segments();
    f->options.witness_ms = UINT32_MAX;
    *state = f;
    if (pawl_open(f->dir, &f->options, &f->log, NULL) != 0)
        return -1;
    return pawl_stream_create(f->log, "a", 1, &f->a) != 0 ||
           pawl_stream_create(f->log, "b", 4, &f->b) != 0;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    int rc = close_and_remove(f->log, f->dir);
    free(f);
    return rc;
}

static void append(pawl *log, uint32_t stream, uint32_t partition, const char *text) {
    pawl_record r = {.value = text, .value_len = (uint32_t)strlen(text)};
    assert_int_equal(pawl_append(log, stream, partition, &r, NULL), 0);
}

static pawl_any *open_all(struct fixture *f, pawl *log, uint32_t flags) {
    pawl_place places[] = {{f->a, 0, 0}, {f->b, 0, 0}, {f->b, 1, 0}, {f->b, 2, 0}, {f->b, 3, 0}};
    pawl_any *any;
    assert_int_equal(pawl_any_open(log, places, 5, flags, &any), 0);
    return any;
}

/* Reads one record without waiting: of that partition, at that offset. */
static void next_is(pawl_any *any, uint32_t stream, uint32_t partition, uint64_t offset) {
    pawl_batch batch;
    pawl_place at;
    assert_int_equal(pawl_read_any(any, 1, 0, &batch, &at), 1);
    assert_int_equal(at.stream, stream);
    assert_int_equal(at.partition, partition);
    assert_int_equal(at.offset, offset);
    assert_int_equal(batch.from, offset);
    assert_int_equal(batch.records[0].stream, stream);
    assert_int_equal(batch.records[0].partition, partition);
    assert_int_equal(batch.records[0].offset, offset);
}

static void nothing_is_left(pawl_any *any) {
    pawl_batch batch;
    assert_int_equal(pawl_read_any(any, 0, 0, &batch, NULL), 0);
    assert_int_equal(batch.count, 0);
}

/* A partition with a thousand records doesn't keep the others waiting. */
static void partitions_take_turns(void **state) {
    struct fixture *f = *state;
    for (int i = 0; i < 4; i++)
        append(f->log, f->b, 1, "much");
    append(f->log, f->a, 0, "little");
    append(f->log, f->b, 3, "little");
    append(f->log, f->b, 3, "little");
    pawl_any *any = open_all(f, f->log, 0);
    next_is(any, f->a, 0, 0);
    next_is(any, f->b, 1, 0);
    next_is(any, f->b, 3, 0);
    next_is(any, f->b, 1, 1);
    next_is(any, f->b, 3, 1);
    next_is(any, f->b, 1, 2);
    assert_int_equal(pawl_any_position(any, f->b, 1), 3);
    assert_int_equal(pawl_any_position(any, f->b, 3), 2);
    assert_int_equal(pawl_any_position(any, f->b, 0), 0);
    next_is(any, f->b, 1, 3);
    nothing_is_left(any);
    assert_int_equal(pawl_any_seek(any, &(pawl_place){f->b, 3, 1}), 0);
    next_is(any, f->b, 3, 1);
    nothing_is_left(any);
    pawl_any_close(any);
}

/* Many records, more than one batch's worth, from disk and from memory: each once and in order. */
static void all_are_read_in_order(void **state) {
    struct fixture *f = *state;
    static char value[3000];
    enum { COUNT = 400 };
    uint64_t next[4] = {0}, total = 0;
    for (uint32_t i = 0; i < COUNT; i++)
        for (uint32_t k = 0; k < 4; k++) {
            pawl_record r = {.value = value, .value_len = sizeof value};
            pawl_tx *tx;
            assert_int_equal(pawl_begin(f->log, &tx), 0);
            assert_int_equal(pawl_put(tx, f->b, k, &r), 0);
            assert_int_equal(pawl_commit_async(tx, NULL, NULL, NULL), 0);
        }
    assert_int_equal(pawl_sync(f->log), 0);
    pawl_any *any = open_all(f, f->log, 0);
    while (total < (uint64_t)COUNT * 4) {
        pawl_batch batch;
        pawl_place at;
        int n = pawl_read_any(any, 7, 0, &batch, &at);
        assert_in_range(n, 1, 7);
        assert_int_equal(at.stream, f->b);
        assert_int_equal(at.offset, next[at.partition]);
        for (int i = 0; i < n; i++)
            assert_int_equal(batch.records[i].offset, next[at.partition]++);
        total += (uint64_t)n;
    }
    nothing_is_left(any);
    pawl_any_close(any);
}

/* ---- waiting */

struct waiter {
    pawl_any *any;
    int timeout_ms, result;
    pawl_place at;
    long sleeps; /* how often its thread yielded the CPU */
    atomic_bool begun;
    pthread_t thread;
};

static void *wait_main(void *arg) {
    struct waiter *w = arg;
    struct rusage before, after;
    pawl_batch batch;
    getrusage(RUSAGE_THREAD, &before);
    atomic_store(&w->begun, true);
    w->result = pawl_read_any(w->any, 0, w->timeout_ms, &batch, &w->at);
    getrusage(RUSAGE_THREAD, &after);
    w->sleeps = after.ru_nvcsw - before.ru_nvcsw;
    return NULL;
}

static void start(struct waiter *w, pawl_any *any, int timeout_ms) {
    *w = (struct waiter){.any = any, .timeout_ms = timeout_ms};
    assert_int_equal(pthread_create(&w->thread, NULL, wait_main, w), 0);
    while (!atomic_load(&w->begun))
        sched_yield();
}

/* A record wakes the thread, whether it comes before or during its sleep. */
static void a_waiter_is_woken(void **state) {
    struct fixture *f = *state;
    pawl_any *any = open_all(f, f->log, 0);
    for (uint64_t i = 0; i < 200; i++) {
        struct waiter w;
        uint32_t partition = (uint32_t)(i % 4);
        start(&w, any, -1);
        append(f->log, f->b, partition, "x");
        pthread_join(w.thread, NULL);
        assert_int_equal(w.result, 1);
        assert_int_equal(w.at.stream, f->b);
        assert_int_equal(w.at.partition, partition);
        assert_int_equal(w.at.offset, i / 4);
    }
    pawl_any_close(any);
}

/* Records of partitions that it doesn't read let it sleep. */
static void others_let_it_sleep(void **state) {
    struct fixture *f = *state;
    pawl_any *any;
    struct waiter w;
    assert_int_equal(pawl_any_open(f->log, &(pawl_place){f->a, 0, 0}, 1, 0, &any), 0);
    start(&w, any, -1);
    for (int i = 0; i < 300; i++)
        append(f->log, f->b, PAWL_ANY, "x");
    append(f->log, f->a, 0, "x");
    pthread_join(w.thread, NULL);
    assert_int_equal(w.result, 1);
    assert_in_range(w.sleeps, 0, 20); /* the lock may be taken a few times */
    pawl_any_close(any);
}

static void time_and_stop_end_it(void **state) {
    struct fixture *f = *state;
    pawl_any *any = open_all(f, f->log, 0);
    struct waiter w;
    start(&w, any, 20);
    pthread_join(w.thread, NULL);
    assert_int_equal(w.result, 0);
    start(&w, any, -1);
    pawl_stop(f->log);
    pthread_join(w.thread, NULL);
    assert_int_equal(w.result, PAWL_STOPPED);
    pawl_any_close(any);
}

/* Records that are appended but not durable are readable with PAWL_READ_UNCOMMITTED, and only
 * then. */
static void appended_ones_wake_who_asked(void **state) {
    struct fixture *f = *state;
    pawl_any *any = open_all(f, f->log, PAWL_READ_UNCOMMITTED);
    for (int i = 0; i < 50; i++) {
        struct waiter w;
        pawl_record r = {.value = "x", .value_len = 1};
        pawl_tx *tx;
        start(&w, any, -1);
        assert_int_equal(pawl_begin(f->log, &tx), 0);
        assert_int_equal(pawl_put(tx, f->b, 2, &r), 0);
        assert_int_equal(pawl_commit_async(tx, NULL, NULL, NULL), 0);
        pthread_join(w.thread, NULL);
        assert_int_equal(w.result, 1);
        assert_int_equal(w.at.partition, 2);
    }
    pawl_any_close(any);
}

/* ---- the descriptor */

static bool readable(int fd) {
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, 0) == 1;
}

static void descriptor_tells(void **state) {
    struct fixture *f = *state;
    pawl_any *any = open_all(f, f->log, 0);
    int fd = pawl_any_fd(any);
    assert_true(fd > 2);
    assert_int_equal(pawl_any_fd(any), fd);
    nothing_is_left(any);
    assert_false(readable(fd));
    for (uint64_t i = 0; i < 3; i++) {
        append(f->log, f->b, 0, "x");
        append(f->log, f->b, 0, "x");
        assert_true(readable(fd));
        next_is(any, f->b, 0, 3 * i);
        assert_true(readable(fd));
        next_is(any, f->b, 0, 3 * i + 1);
        nothing_is_left(any);
        assert_false(readable(fd));
        append(f->log, f->a, 0, "x"); /* read without having polled */
        next_is(any, f->a, 0, i);
        append(f->log, f->b, 0, "x");
        next_is(any, f->b, 0, 3 * i + 2);
        assert_true(readable(fd)); /* it says so until a call found nothing */
        nothing_is_left(any);
        assert_false(readable(fd));
        assert_int_equal(pawl_any_seek(any, &(pawl_place){f->b, 0, 1 + i}), 0);
        assert_true(readable(fd));
        pawl_batch batch;
        assert_true(pawl_read_any(any, 0, 0, &batch, NULL) > 0);
        assert_int_equal(pawl_any_seek(any, &(pawl_place){f->b, 0, 1 + i}), 0);
        while (pawl_read_any(any, 0, 0, &batch, NULL) > 0) {
        }
        assert_false(readable(fd));
    }
    pawl_any_close(any);
}

/* A partition that is added while the reader is idle, with records in it. */
static void partitions_come_and_go(void **state) {
    struct fixture *f = *state;
    pawl_any *any;
    pawl_batch batch;
    append(f->log, f->b, 1, "x");
    assert_int_equal(pawl_any_open(f->log, NULL, 0, 0, &any), 0);
    int fd = pawl_any_fd(any);
    nothing_is_left(any);
    assert_int_equal(pawl_any_add(any, &(pawl_place){f->b, 1, 0}), 0);
    assert_true(readable(fd));
    assert_int_equal(pawl_any_add(any, &(pawl_place){f->b, 1, 0}), PAWL_EXISTS);
    assert_int_equal(pawl_any_add(any, &(pawl_place){f->b, 4, 0}), PAWL_RANGE);
    assert_int_equal(pawl_any_add(any, &(pawl_place){99, 0, 0}), PAWL_NOT_FOUND);
    assert_int_equal(pawl_any_add(any, &(pawl_place){f->b, 0, 7}), PAWL_RANGE);
    next_is(any, f->b, 1, 0);
    append(f->log, f->b, 1, "y");
    assert_int_equal(pawl_any_remove(any, f->b, 1), 0);
    assert_int_equal(pawl_any_remove(any, f->b, 1), PAWL_NOT_FOUND);
    assert_int_equal(pawl_any_seek(any, &(pawl_place){f->b, 1, 0}), PAWL_NOT_FOUND);
    assert_true(pawl_any_position(any, f->b, 1) == PAWL_END);
    nothing_is_left(any);
    assert_false(readable(fd));
    append(f->log, f->b, 1, "z");
    assert_false(readable(fd));
    assert_int_equal(pawl_read_any(NULL, 0, 0, &batch, NULL), PAWL_INVALID);
    assert_int_equal(pawl_read_any(any, 0, 0, NULL, NULL), PAWL_INVALID);
    pawl_any_close(any);
    pawl_any_close(NULL);
    pawl_place twice[] = {{f->b, 1, 0}, {f->b, 1, 0}};
    assert_int_equal(pawl_any_open(f->log, twice, 2, 0, &any), PAWL_EXISTS);
    assert_null(any);
}

/* A commit that was appended before the partition was read becomes durable afterwards. No thread of
 * the library is there to make it durable earlier. */
static void an_earlier_commit_wakes_it(void **state) {
    struct fixture *f = *state;
    pawl_options o = PAWL_OPTIONS_INIT;
    pawl_any *any;
    pawl_tx *tx;
    pawl_record r = {.value = "x", .value_len = 1};
    assert_int_equal(pawl_close(f->log), 0);
    o.no_thread = 1;
    assert_int_equal(pawl_open(f->dir, &o, &f->log, NULL), 0);
    assert_int_equal(pawl_begin(f->log, &tx), 0);
    assert_int_equal(pawl_put(tx, f->b, 2, &r), 0);
    assert_int_equal(pawl_commit_async(tx, NULL, NULL, NULL), 0);
    assert_int_equal(pawl_any_open(f->log, &(pawl_place){f->b, 2, 0}, 1, 0, &any), 0);
    int fd = pawl_any_fd(any);
    nothing_is_left(any);
    assert_false(readable(fd));
    assert_int_equal(pawl_sync(f->log), 0);
    assert_true(readable(fd));
    next_is(any, f->b, 2, 0);
    nothing_is_left(any);
    pawl_any_close(any);
}

static void a_follower_can_too(void **state) {
    struct fixture *f = *state;
    pawl_options o = PAWL_OPTIONS_INIT;
    pawl *follower;
    struct waiter w;
    append(f->log, f->b, 1, "x");
    o.flags = PAWL_OPEN_READ;
    assert_int_equal(pawl_open(f->dir, &o, &follower, NULL), 0);
    pawl_any *any = open_all(f, follower, 0);
    assert_int_equal(pawl_any_fd(any), PAWL_UNSUPPORTED);
    start(&w, any, -1);
    append(f->log, f->b, 2, "y"); /* its commit witnesses that the one before is durable */
    pthread_join(w.thread, NULL);
    assert_int_equal(w.result, 1);
    assert_int_equal(w.at.partition, 1);
    pawl_any_close(any);
    assert_int_equal(pawl_close(follower), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(partitions_take_turns, setup, teardown),
        cmocka_unit_test_setup_teardown(all_are_read_in_order, setup, teardown),
        cmocka_unit_test_setup_teardown(a_waiter_is_woken, setup, teardown),
        cmocka_unit_test_setup_teardown(others_let_it_sleep, setup, teardown),
        cmocka_unit_test_setup_teardown(time_and_stop_end_it, setup, teardown),
        cmocka_unit_test_setup_teardown(appended_ones_wake_who_asked, setup, teardown),
        cmocka_unit_test_setup_teardown(descriptor_tells, setup, teardown),
        cmocka_unit_test_setup_teardown(partitions_come_and_go, setup, teardown),
        cmocka_unit_test_setup_teardown(an_earlier_commit_wakes_it, setup, teardown),
        cmocka_unit_test_setup_teardown(a_follower_can_too, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
