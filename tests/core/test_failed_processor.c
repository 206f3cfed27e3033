/* SPDX-License-Identifier: Apache-2.0 */
/* A processor that fails, waits or is slow is alone with that (PAWL-16), where it asked for it: the
 * others go on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <pthread.h>
#include <semaphore.h>

#include "pawl.h"

#include <cmocka.h>

#include "tests/support/own_log.h"

#define RECORDS 50u
#define LATER_AT 21u /* where a processor that waits does so */

struct fixture {
    char dir[64];
    pawl *log;
    uint32_t in, out, dead;
};

/* What a processor of these tests does, and what became of it. */
struct job {
    uint32_t out;
    uint64_t bad;     /* the offset at which it fails; UINT64_MAX: none */
    bool refuses;     /* fails by pawl_refuse() */
    uint32_t later;   /* it asks so often to be tried later, before it takes the bad record */
    bool broken;      /* fails by pawl_broken() */
    bool ends;        /* stops the run when it has passed all records */
    sem_t *gate;      /* it waits here for each batch; NULL: it doesn't */
    sem_t *opens;     /* it opens that gate when it has passed all records */
    uint32_t failing; /* attempts at the bad record */
    _Atomic uint32_t told;
    pawl_error error;
};

static int setup(void **state) {
    struct fixture *f = calloc(1, sizeof *f);
    pawl_options o = PAWL_OPTIONS_INIT;
    if (f == NULL)
        return -1;
    if (test_dir_make(f->dir, "/tmp/test_failed_processor") != 0)
        return -1;
    o.flags = PAWL_OPEN_CREATE;
    o.segment_size = 1u << 20;
    o.disk_cap = 6u << 20;
    *state = f;
    return pawl_open(f->dir, &o, &f->log, NULL) < 0 ||
                   pawl_stream_create(f->log, "in", 1, &f->in) < 0 ||
                   pawl_stream_create(f->log, "out", 1, &f->out) < 0 ||
                   pawl_stream_create(f->log, "dead", 1, &f->dead) < 0
               ? -1
               : 0;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    int rc = close_and_remove(f->log, f->dir);
    free(f);
    return rc;
}

static void fill(const struct fixture *f, uint32_t count, uint32_t size) {
    char *value = calloc(1, size);
    pawl_record r = {.value = value, .value_len = size};
    assert_non_null(value);
    for (uint32_t i = 0; i < count; i++)
        assert_int_equal(pawl_append(f->log, f->in, 0, &r, NULL), 0);
    free(value);
}

static int process(pawl_context *ctx, const pawl_record *records, size_t count, void *arg) {
    struct job *j = arg;
    if (j->gate != NULL)
        sem_wait(j->gate);
    for (size_t i = 0; i < count; i++) {
        if (records[i].offset == j->bad && (j->later > 0 || j->broken)) {
            j->later -= !j->broken;
            (j->broken ? pawl_broken : pawl_try_later)(ctx, "no server");
            return 0; /* says nothing: the call counts */
        }
        if (records[i].offset == j->bad && j->bad == LATER_AT) {
            j->bad = UINT64_MAX;
        } else if (records[i].offset == j->bad) {
            j->failing += count == 1;
            (j->refuses ? pawl_refuse : pawl_fail)(ctx, i, "not that one");
            return -7;
        }
        int rc = j->out != 0 ? pawl_emit(ctx, j->out, 0, &records[i]) : 0;
        if (rc < 0)
            return rc;
    }
    bool all = records[count - 1].offset + 1 == RECORDS;
    if (all && j->opens != NULL)
        sem_post(j->opens);
    if (all && j->ends)
        pawl_stop(pawl_context_log(ctx));
    return 0;
}

static void failed(void *arg, const char *name, const pawl_error *e) {
    struct job *j = arg;
    assert_int_equal(strncmp(name, "job-", 4), 0);
    j->error = *e;
    j->told++;
}

static pawl_processor_config config(const struct fixture *f, const char *name, struct job *j) {
    pawl_processor_config c = PAWL_PROCESSOR_INIT;
    c.name = name;
    c.inputs = &f->in;
    c.input_count = 1;
    c.process = process;
    c.arg = j;
    c.retries = 1;
    c.backoff_ms = 1;
    c.failed = failed;
    c.failed_arg = j;
    return c;
}

static uint64_t end_of(const struct fixture *f, uint32_t stream) {
    pawl_bounds b;
    assert_int_equal(pawl_partition_bounds(f->log, stream, 0, &b), 0);
    return b.end;
}

static uint64_t position_of(const struct fixture *f, const char *name) {
    uint64_t at;
    assert_int_equal(pawl_position_get(f->log, name, f->in, 0, &at), 0);
    return at;
}

static void one_that_fails_ends_no_other(void **state) {
    struct fixture *f = *state;
    for (uint32_t threads = 0; threads < 3; threads++) {
        struct job bad = {.bad = 20}, good = {.out = f->out, .bad = UINT64_MAX};
        char names[2][16];
        pawl_processor *p[2];
        uint64_t before = end_of(f, f->out);
        snprintf(names[0], 16, "job-bad%u", threads);
        snprintf(names[1], 16, "job-good%u", threads);
        if (threads == 0)
            fill(f, RECORDS, 100);
        pawl_processor_config b = config(f, names[0], &bad), g = config(f, names[1], &good);
        assert_int_equal(pawl_processor_add(f->log, &b, &p[0]), 0);
        assert_int_equal(pawl_processor_add(f->log, &g, &p[1]), 0);
        for (int again = 0; again < 2; again++) /* in a later run it stays failed */
            assert_int_equal(pawl_run(f->log, threads, PAWL_RUN_UNTIL_IDLE), 0);
        assert_int_equal(end_of(f, f->out) - before, RECORDS);
        assert_int_equal(bad.told, 1);
        assert_int_equal(bad.failing, 2); /* retries = 1 */
        assert_int_equal(bad.error.code, PAWL_PROCESSOR);
        assert_non_null(strstr(bad.error.message, "offset 20"));
        assert_non_null(strstr(bad.error.message, "not that one"));
        assert_int_equal(position_of(f, names[0]), 20);
        assert_int_equal(good.told, 0);
        pawl_processor_remove(p[0]);
        bad.bad = UINT64_MAX; /* mended: added again, it goes on where it was */
        assert_int_equal(pawl_processor_add(f->log, &b, &p[0]), 0);
        assert_int_equal(pawl_run(f->log, threads, PAWL_RUN_UNTIL_IDLE), 0);
        assert_int_equal(position_of(f, names[0]), RECORDS);
        pawl_processor_remove(p[0]);
        pawl_processor_remove(p[1]);
    }
}

/* Whatever the policy and the retries: nothing is skipped, and nothing comes twice. */
static void one_that_waits_loses_nothing(void **state) {
    struct fixture *f = *state;
    fill(f, RECORDS, 100);
    for (uint32_t i = 0; i < 6; i++) {
        char name[16], why[64];
        uint64_t before = end_of(f, f->out), refused;
        struct job j = {.out = f->out, .bad = LATER_AT, .later = 4};
        pawl_processor *p;
        snprintf(name, sizeof name, "job-later%u", i);
        pawl_processor_config c = config(f, name, &j);
        c.on_error = i % 2 == 0 ? PAWL_ON_ERROR_SKIP : PAWL_ON_ERROR_STOP;
        c.failed = i < 3 ? c.failed : NULL; /* alone, or not */
        c.batch_max = i == 4 ? 1 : 0;
        c.retries = i < 2 ? 1 : 0; /* the last attempt may ask for later, too */
        assert_int_equal(pawl_processor_add(f->log, &c, &p), 0);
        assert_int_equal(pawl_run(f->log, i % 3, PAWL_RUN_UNTIL_IDLE), 0);
        assert_int_equal(pawl_processor_refused(p, &refused, why, sizeof why), 0);
        assert_int_equal(refused, 0);
        assert_int_equal(j.later, 0);
        assert_int_equal(j.told, 0);
        assert_int_equal(end_of(f, f->out) - before, RECORDS);
        assert_int_equal(position_of(f, name), RECORDS);
        pawl_processor_remove(p);
    }
}

static void one_that_is_broken_skips_nothing(void **state) {
    struct fixture *f = *state;
    struct job j = {.out = f->out, .bad = 20, .broken = true};
    pawl_processor *p;
    fill(f, RECORDS, 100);
    pawl_processor_config c = config(f, "job-broken", &j);
    c.on_error = PAWL_ON_ERROR_SKIP;
    c.batch_max = 10;
    assert_int_equal(pawl_processor_add(f->log, &c, &p), 0);
    assert_int_equal(pawl_run(f->log, 1, PAWL_RUN_UNTIL_IDLE), 0);
    assert_int_equal(j.told, 1);
    assert_non_null(strstr(j.error.message, "job-broken can't go on: no server"));
    assert_int_equal(position_of(f, "job-broken"), 20);
    assert_int_equal(end_of(f, f->out), 20);
}

/* Without the callback an error ends the run, as ever. */
static void without_the_callback_it_ends_the_run(void **state) {
    struct fixture *f = *state;
    struct job bad = {.bad = 20};
    fill(f, RECORDS, 100);
    pawl_processor_config b = config(f, "job-bad", &bad);
    b.failed = NULL;
    assert_int_equal(pawl_processor_add(f->log, &b, NULL), 0);
    assert_int_equal(pawl_run(f->log, 1, PAWL_RUN_UNTIL_IDLE), PAWL_PROCESSOR);
    assert_int_equal(bad.told, 0);
}

/* Both run in one thread. If the pause of the one held up the other, this would never end. */
static void a_pause_before_a_retry_delays_no_other(void **state) {
    struct fixture *f = *state;
    struct job bad = {.bad = 20}, good = {.bad = UINT64_MAX, .ends = true};
    fill(f, RECORDS, 100);
    pawl_processor_config b = config(f, "job-bad", &bad), g = config(f, "job-good", &good);
    b.retries = UINT32_MAX;
    b.backoff_ms = 3600000;
    b.batch_max = 30; /* the other's batches are smaller: it comes after the failure */
    g.batch_max = 7;
    assert_int_equal(pawl_processor_add(f->log, &b, NULL), 0);
    assert_int_equal(pawl_processor_add(f->log, &g, NULL), 0);
    assert_int_equal(pawl_run(f->log, 1, 0), PAWL_STOPPED);
    assert_int_equal(position_of(f, "job-good"), RECORDS);
    assert_int_equal(position_of(f, "job-bad"), 20); /* those before it are done */
    assert_int_equal(bad.failing, 1);
    assert_int_equal(bad.told, 0);
}

/* A retry goes on with the record that failed, not before it and not after it. */
static void a_retry_takes_up_where_it_failed(void **state) {
    struct fixture *f = *state;
    struct job bad = {.out = f->out, .bad = 20};
    fill(f, RECORDS, 100);
    pawl_processor_config b = config(f, "job-bad", &bad);
    b.retries = 3;
    b.on_error = PAWL_ON_ERROR_DEAD_LETTER;
    b.dead_letter = f->dead;
    assert_int_equal(pawl_processor_add(f->log, &b, NULL), 0);
    assert_int_equal(pawl_run(f->log, 1, PAWL_RUN_UNTIL_IDLE), 0);
    assert_int_equal(bad.failing, 4);
    assert_int_equal(end_of(f, f->out), RECORDS - 1);
    assert_int_equal(end_of(f, f->dead), 1);
    assert_int_equal(position_of(f, "job-bad"), RECORDS);
}

static void what_is_refused_is_not_tried_again(void **state) {
    struct fixture *f = *state;
    struct job bad = {.out = f->out, .bad = 20, .refuses = true};
    fill(f, RECORDS, 100);
    pawl_processor_config b = config(f, "job-bad", &bad);
    b.retries = UINT32_MAX; /* it would never end */
    b.on_error = PAWL_ON_ERROR_DEAD_LETTER;
    b.dead_letter = f->dead;
    assert_int_equal(pawl_processor_add(f->log, &b, NULL), 0);
    assert_int_equal(pawl_run(f->log, 1, PAWL_RUN_UNTIL_IDLE), 0);
    assert_int_equal(bad.failing, 1);
    assert_int_equal(end_of(f, f->out), RECORDS - 1);
    assert_int_equal(end_of(f, f->dead), 1);
}

/* The slow one waits until the other has passed all records: with a common worker, for ever. */
static void one_that_acts_outside_delays_no_other(void **state) {
    struct fixture *f = *state;
    for (uint32_t threads = 0; threads < 2; threads++) {
        sem_t gate;
        struct job slow = {.bad = UINT64_MAX, .gate = &gate},
                   good = {.bad = UINT64_MAX, .opens = &gate};
        pawl_processor *p[2];
        char names[2][16];
        snprintf(names[0], 16, "job-slow%u", threads);
        snprintf(names[1], 16, "job-good%u", threads);
        assert_int_equal(sem_init(&gate, 0, 0), 0);
        if (threads == 0)
            fill(f, RECORDS, 100);
        pawl_processor_config s = config(f, names[0], &slow), g = config(f, names[1], &good);
        s.committed_input = 1;
        g.batch_max = 10;
        assert_int_equal(pawl_processor_add(f->log, &s, &p[0]), 0);
        assert_int_equal(pawl_processor_add(f->log, &g, &p[1]), 0);
        assert_int_equal(pawl_run(f->log, threads, PAWL_RUN_UNTIL_IDLE), 0);
        assert_int_equal(position_of(f, names[0]), RECORDS);
        pawl_processor_remove(p[0]);
        pawl_processor_remove(p[1]);
        sem_destroy(&gate);
    }
}

static void *run_until_idle(void *arg) {
    return (void *)(intptr_t)pawl_run(arg, 1, PAWL_RUN_UNTIL_IDLE);
}

static void a_full_log_is_waited_out(void **state) {
    struct fixture *f = *state;
    struct job copy = {.out = f->out, .bad = UINT64_MAX};
    pthread_t thread;
    void *rc;
    uint32_t holder;
    pawl_tx *tx;
    assert_int_equal(pawl_processor_register(f->log, "holder", &holder), 0);
    assert_int_equal(pawl_begin(f->log, &tx), 0);
    assert_int_equal(pawl_advance(tx, holder, f->in, 0, 0, 0), 0);
    assert_int_equal(pawl_commit(tx, NULL), 0);
    fill(f, 30, 100000); /* half of what the log may hold */
    pawl_processor_config c = config(f, "job-copy", &copy);
    c.batch_max = 1;
    assert_int_equal(pawl_processor_add(f->log, &c, NULL), 0);
    assert_int_equal(pawl_retention_set(f->log, &(pawl_retention){.consumed = 1}), 0);
    assert_int_equal(pthread_create(&thread, NULL, run_until_idle, f->log), 0);
    pawl_status s = PAWL_STATUS_INIT;
    do
        assert_int_equal(pawl_get_status(f->log, &s), 0);
    while (!s.full);
    assert_in_range(end_of(f, f->out), 1, 29);
    assert_int_equal(pawl_begin(f->log, &tx), 0);
    assert_int_equal(pawl_advance(tx, holder, f->in, 0, 0, 30), 0);
    assert_int_equal(pawl_commit(tx, NULL), 0); /* retention may drop again */
    assert_int_equal(pthread_join(thread, &rc), 0);
    assert_int_equal((intptr_t)rc, 0);
    assert_int_equal(end_of(f, f->out), 30); /* each once */
    assert_int_equal(copy.told, 0);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(one_that_fails_ends_no_other),
        TEST(one_that_waits_loses_nothing),
        TEST(one_that_is_broken_skips_nothing),
        TEST(without_the_callback_it_ends_the_run),
        TEST(a_pause_before_a_retry_delays_no_other),
        TEST(a_retry_takes_up_where_it_failed),
        TEST(what_is_refused_is_not_tried_again),
        TEST(one_that_acts_outside_delays_no_other),
        TEST(a_full_log_is_waited_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
