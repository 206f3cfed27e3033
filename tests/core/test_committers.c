/* SPDX-License-Identifier: Apache-2.0 */
/* Committers that commit together, come and go, or wait for others' commits: each returns when its
 * commit is durable, and none waits for a commit that never comes. */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "pawl.h"
#undef fail /* the library has one of its own */
#include "pipeline/engine.h"

#define THREADS_MAX 96u
#define ROUNDS 200u

struct shared {
    pawl *log;
    uint32_t stream;
    _Atomic uint32_t wrong;
    _Atomic bool stop;
};

struct committer {
    struct shared *s;
    uint32_t number, pause_us, rounds, done;
    bool mixed; /* some of its commits are asynchronous */
    pthread_t thread;
};

static void *commit_again_and_again(void *arg) {
    struct committer *c = arg;
    unsigned seed = c->number;
    for (uint32_t i = 0; i < c->rounds && !c->s->stop; i++) {
        bool async = c->mixed && i % 5 == 4;
        pawl_tx *tx;
        pawl_receipt receipt;
        pawl_bounds b;
        pawl_record r = {.value = &i, .value_len = sizeof i};
        int rc = pawl_begin(c->s->log, &tx);
        if (rc == 0 && pawl_put(tx, c->s->stream, c->number, &r) == 0)
            rc = async ? pawl_commit_async(tx, NULL, NULL, &receipt) : pawl_commit(tx, &receipt);
        if (rc == 0 && async && c->number % 3 == 0)
            rc = pawl_sync(c->s->log);
        if (rc != 0 || receipt.offset != i ||
            pawl_partition_bounds(c->s->log, c->s->stream, c->number, &b) != 0 ||
            (!async && b.durable != i + 1))
            c->s->wrong++;
        if (c->pause_us != 0 && rand_r(&seed) % 8 == 0)
            usleep((useconds_t)rand_r(&seed) % c->pause_us);
        c->done++;
    }
    if (!c->mixed && c->number == 0)
        c->s->stop = true; /* no later commit would wake the sleeping threads too */
    return NULL;
}

static void run(struct shared *s, uint32_t threads, uint32_t pause_us) {
    struct committer c[THREADS_MAX];
    for (uint32_t i = 0; i < threads; i++) {
        c[i] = (struct committer){.s = s, .number = i, .pause_us = i % 2 == 0 ? pause_us : 0};
        c[i].mixed = pause_us != 0;
        c[i].rounds = i % 4 == 3 ? ROUNDS / 4 : ROUNDS; /* some leave early */
        assert_int_equal(pthread_create(&c[i].thread, NULL, commit_again_and_again, &c[i]), 0);
    }
    for (uint32_t i = 0; i < threads; i++)
        pthread_join(c[i].thread, NULL);
    assert_int_equal(s->wrong, 0);
    assert_int_equal(pawl_sync(s->log), 0);
    for (uint32_t i = 0; i < threads; i++) {
        pawl_bounds b;
        assert_int_equal(pawl_partition_bounds(s->log, s->stream, i, &b), 0);
        assert_int_equal(b.durable, c[i].done);
    }
}

static void each_is_answered(void **state) {
    static const uint32_t threads[] = {1, 2, 3, 8, 16, 17, THREADS_MAX},
                          pauses_us[] = {0, 100, 2000};
    const char *dir = *state;
    alarm(45); /* for a failure, it would hang */
    for (uint32_t n = 0; n < sizeof threads / sizeof threads[0] * 3; n++) {
        struct shared s = {0};
        char path[200];
        pawl_options o = PAWL_OPTIONS_INIT;
        pawl_error e;
        o.flags = PAWL_OPEN_CREATE, o.segment_size = 1u << 20;
        snprintf(path, sizeof path, "%s/%u", dir, n);
        int rc = pawl_open(path, &o, &s.log, &e);
        if (rc != 0)
            print_error("%s\n", e.message);
        assert_int_equal(rc, 0);
        assert_int_equal(pawl_stream_create(s.log, "s", THREADS_MAX, &s.stream), 0);
        run(&s, threads[n / 3], pauses_us[n % 3]);
        assert_int_equal(pawl_close(s.log), 0);
    }
    alarm(0);
}

/* ---- a slow device, so that no commit is durable before its thread sleeps */

#define SLEEPERS 40u

static struct seam_ops slow;
static const struct seam_ops *real;
static pawl *slow_log;
static _Atomic bool stalled; /* the next reap() waits until all others sleep */

static int slow_reap(struct seam *s, struct seam_req **out, int max, bool wait) {
    int n = real->reap(s, out, max, wait);
    while (wait && stalled && atomic_load(&slow_log->sleepers) < SLEEPERS)
        sched_yield();
    if (wait)
        stalled = false;
    return n;
}

static void *commit_once(void *arg) {
    pawl_record r = {.value = "x", .value_len = 1};
    uint32_t *rc = arg;
    *rc = (uint32_t)pawl_append(slow_log, *rc, 0, &r, NULL);
    return NULL;
}

/* One thread leads, and the others' commits are submitted together after its own; no later commit
 * would wake a thread too. */
static void all_who_sleep_are_woken(void **state) {
    char path[200];
    struct seam *io;
    uint32_t stream, rc[SLEEPERS + 1];
    pthread_t threads[SLEEPERS + 1];
    pawl_options o = PAWL_OPTIONS_INIT;
    o.flags = PAWL_OPEN_CREATE, o.segment_size = 1u << 20, o.witness_ms = UINT32_MAX;
    snprintf(path, sizeof path, "%s/slow", (char *)*state);
    alarm(45);
    assert_int_equal(seam_create(path, true, PAWL_BACKEND_AUTO, PAWL_DIRECT_AUTO, &io), 0);
    real = io->ops;
    slow = *real;
    slow.reap = slow_reap;
    io->ops = &slow;
    assert_int_equal(engine_open(io, &o, &slow_log), 0);
    assert_int_equal(pawl_stream_create(slow_log, "s", 1, &stream), 0);
    for (int round = 0; round < 5; round++) {
        stalled = true;
        for (uint32_t i = 0; i <= SLEEPERS; i++) {
            rc[i] = stream;
            assert_int_equal(pthread_create(&threads[i], NULL, commit_once, &rc[i]), 0);
        }
        for (uint32_t i = 0; i <= SLEEPERS; i++) {
            pthread_join(threads[i], NULL);
            assert_int_equal(rc[i], 0);
        }
    }
    assert_int_equal(pawl_close(slow_log), 0);
    slow_log = NULL;
    alarm(0);
}

static int setup(void **state) {
    static char dir[40];
    snprintf(dir, sizeof dir, "/tmp/test_committers.XXXXXX");
    *state = mkdtemp(dir);
    return *state == NULL;
}

static int teardown(void **state) {
    char command[200];
    snprintf(command, sizeof command, "rm -rf -- '%s'", (char *)*state);
    return system(command);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_is_answered, setup, teardown),
        cmocka_unit_test_setup_teardown(all_who_sleep_are_woken, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
