/* SPDX-License-Identifier: Apache-2.0 */
/* Records reported as durable are durable; and what retention drops doesn't disturb readers that
 * don't need it. */
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "pawl.h"
#include "tests/support/own_log.h"

#define MIB (1024u * 1024u)

struct fixture {
    char dir[64];
    pawl_options options;
    pawl *log;
    uint32_t a, b; /* streams of one partition */
    sem_t dropped, go_on;
    int drops; /* to be met at the point; guarded by the semaphores */
};

static void on_point(void *arg, const char *point) {
    struct fixture *f = arg;
    if (strcmp(point, "segment-dropped") != 0 || f->drops == 0)
        return;
    f->drops--;
    sem_post(&f->dropped);
    sem_wait(&f->go_on);
}

static int setup(void **state) {
    struct fixture *f = calloc(1, sizeof *f);
    if (f == NULL)
        return -1;
    if (test_dir_make(f->dir, "/tmp/test_bounds") != 0)
        return -1;
    sem_init(&f->dropped, 0, 0);
    sem_init(&f->go_on, 0, 0);
    f->options = small_segments();
    f->options.on_point = on_point;
    f->options.on_point_arg = f;
    *state = f;
    return 0;
}

static void open_log(struct fixture *f) {
    assert_int_equal(pawl_open(f->dir, &f->options, &f->log, NULL), 0);
    assert_int_equal(pawl_stream_create(f->log, "a", 1, &f->a), 0);
    assert_int_equal(pawl_stream_create(f->log, "b", 1, &f->b), 0);
}

static int teardown(void **state) {
    struct fixture *f = *state;
    int rc = close_and_remove(f->log, f->dir);
    free(f);
    return rc;
}

/* Appends records of 64 KiB until segment `last` has begun. */
static void fill(struct fixture *f, uint64_t last) {
    static char value[65536];
    pawl_record r = {.value = value, .value_len = sizeof value};
    pawl_status s = PAWL_STATUS_INIT;
    do
        assert_int_equal(pawl_append(f->log, f->b, 0, &r, NULL), 0);
    while (pawl_get_status(f->log, &s) == 0 && s.last_segment < last);
}

static void async_append(struct fixture *f, const char *text) {
    pawl_tx *tx;
    pawl_record r = {.value = text, .value_len = (uint32_t)strlen(text)};
    assert_int_equal(pawl_begin(f->log, &tx), 0);
    assert_int_equal(pawl_put(tx, f->a, 0, &r), 0);
    assert_int_equal(pawl_commit_async(tx, NULL, NULL, NULL), 0);
}

static void nothing_is_called_durable_before_it_is(void **state) {
    struct fixture *f = *state;
    pawl_bounds b;
    pawl_reader *r = NULL;
    f->options.no_thread = 1; /* so that only these calls wait for the device */
    open_log(f);
    for (int i = 0; i < 5; i++)
        async_append(f, "one of five commits, none of them waited for");
    assert_int_equal(pawl_partition_bounds(f->log, f->a, 0, &b), 0);
    assert_int_equal(b.end, 5);
    assert_int_equal(b.durable, 0);
    assert_int_equal(pawl_reader_open(f->log, f->a, 0, PAWL_END, PAWL_READ_COMMITTED, &r), 0);
    assert_int_equal(pawl_reader_position(r), 0);
    pawl_reader_close(r);
    assert_int_equal(pawl_sync(f->log), 0);
    assert_int_equal(pawl_partition_bounds(f->log, f->a, 0, &b), 0);
    assert_int_equal(b.durable, 5);
}

static void *apply_retention(void *log) {
    return pawl_retention_apply(log) < 0 ? log : NULL;
}

static void a_reader_can_be_opened_while_segments_are_dropped(void **state) {
    struct fixture *f = *state;
    pawl_retention keep = {.bytes = 3 * MIB};
    pawl_bounds b;
    pawl_reader *r = NULL;
    pthread_t thread;
    void *failed;
    open_log(f);
    async_append(f, "in the oldest segment");
    fill(f, 5);
    f->drops = 1;
    assert_int_equal(pawl_retention_set(f->log, &keep), 0);
    assert_int_equal(pthread_create(&thread, NULL, apply_retention, f->log), 0);
    /* the oldest file is removed, and the thread that removed it has not taken the lock again
     * yet */
    sem_wait(&f->dropped);
    int bounds = pawl_partition_bounds(f->log, f->b, 0, &b);
    int opened = bounds == 0 ? pawl_reader_open(f->log, f->b, 0, b.first, 0, &r) : -1;
    int trimmed = pawl_reader_open(f->log, f->a, 0, 0, 0, &(pawl_reader *){NULL});
    sem_post(&f->go_on);
    assert_int_equal(pthread_join(thread, &failed), 0);
    assert_null(failed);
    assert_int_equal(bounds, 0);
    assert_int_equal(opened, 0);
    assert_int_equal(trimmed, PAWL_TRIMMED);
    assert_true(b.first > 0);
    pawl_reader_close(r);
}

static void a_reader_that_waits_is_not_cut_off_by_what_it_has_passed(void **state) {
    struct fixture *f = *state;
    pawl_retention keep = {.bytes = 3 * MIB};
    pawl_reader *r = NULL;
    pawl_batch batch;
    open_log(f);
    async_append(f, "the first");
    assert_int_equal(pawl_sync(f->log), 0);
    assert_int_equal(pawl_reader_open(f->log, f->a, 0, 0, 0, &r), 0);
    assert_int_equal(pawl_read(r, 0, 0, &batch), 1);
    fill(f, 20); /* beyond what is in memory */
    assert_int_equal(pawl_retention_set(f->log, &keep), 0);
    assert_true(pawl_retention_apply(f->log) >= 0);
    async_append(f, "the second");
    assert_int_equal(pawl_sync(f->log), 0);
    assert_int_equal(pawl_read(r, 0, 0, &batch), 1);
    assert_int_equal(batch.from, 1);
    assert_memory_equal(batch.records[0].value, "the second", 10);
    pawl_reader_close(r);
}

#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        T(nothing_is_called_durable_before_it_is),
        T(a_reader_can_be_opened_while_segments_are_dropped),
        T(a_reader_that_waits_is_not_cut_off_by_what_it_has_passed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
