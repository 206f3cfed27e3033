/* SPDX-License-Identifier: Apache-2.0 */
/* Edge cases of the promises: what is reported as durable, and what happens when memory or space
 * runs out at an awkward moment. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <errno.h>
#include <unistd.h>

#include "pipeline/engine.h"

#undef fail
#include <cmocka.h>

#include "tests/support/own_log.h"

struct fixture {
    char dir[64];
    pawl_options options;
    pawl *log;
    uint32_t s;
};

static int setup(void **state) {
    struct fixture *f = calloc(1, sizeof *f);
    if (f == NULL)
        return -1;
    if (test_dir_make(f->dir, "/tmp/test_edges") != 0)
        return -1;
    f->options = small_segments();
    f->options.no_thread = 1; /* only the test's own calls do work */
    f->options.backend = PAWL_BACKEND_POSIX;
    *state = f;
    return pawl_open(f->dir, &f->options, &f->log, NULL) != 0 ||
           pawl_stream_create(f->log, "s", 1, &f->s) != 0;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    int rc = close_and_remove(f->log, f->dir);
    free(f);
    return rc;
}

static pawl_record text(const char *s) {
    return (pawl_record){.value = s, .value_len = (uint32_t)strlen(s)};
}

static void reopen(struct fixture *f) {
    assert_int_equal(pawl_close(f->log), 0);
    f->log = NULL;
    assert_int_equal(pawl_open(f->dir, &f->options, &f->log, NULL), 0);
}

static void only_durable_records_are_called_so(void **state) {
    struct fixture *f = *state;
    pawl_bounds b;
    pawl_reader *r;
    for (int i = 0; i < 3; i++) {
        pawl_tx *tx;
        pawl_record rec = text("x");
        assert_int_equal(pawl_begin(f->log, &tx), 0);
        assert_int_equal(pawl_put(tx, f->s, 0, &rec), 0);
        assert_int_equal(pawl_commit_async(tx, NULL, NULL, NULL), 0);
        assert_int_equal(pawl_partition_bounds(f->log, f->s, 0, &b), 0);
        assert_int_equal(b.durable, 0); /* no thread has waited for the device yet */
        assert_int_equal(b.end, i + 1);
    }
    assert_int_equal(pawl_reader_open(f->log, f->s, 0, PAWL_END, 0, &r), 0);
    assert_int_equal(pawl_reader_position(r), 0);
    pawl_reader_close(r);
    assert_int_equal(pawl_sync(f->log), 0);
    assert_int_equal(pawl_partition_bounds(f->log, f->s, 0, &b), 0);
    assert_int_equal(b.durable, 3);
}

static int refused; /* how often a hook shall fail */

static int no_index(void *ctx, struct bytes *body, size_t max) {
    (void)ctx;
    (void)max;
    bytes_add(body, 8); /* ends in the middle */
    return PAWL_MEMORY;
}

static int (*real_checkpoint)(void *ctx, struct bytes *body, struct run *runs, uint32_t *count,
                              struct c_ids *ids);
static int no_checkpoint(void *ctx, struct bytes *body, struct run *runs, uint32_t *count,
                         struct c_ids *ids) {
    return refused-- > 0 ? PAWL_MEMORY : real_checkpoint(ctx, body, runs, count, ids);
}

static uint64_t appended(struct fixture *f, uint64_t count, int *refusals) {
    static char value[60000];
    pawl_record r = {.value = value, .value_len = sizeof value};
    uint64_t n = 0;
    *refusals = 0;
    alarm(60); /* a wait for ever must end the test */
    while (n < count) {
        int rc = pawl_append(f->log, f->s, 0, &r, NULL);
        if (rc == PAWL_MEMORY)
            ++*refusals;
        else
            assert_int_equal(rc, 0);
        n += rc == 0;
    }
    alarm(0);
    return n;
}

static void expect_records(struct fixture *f, uint64_t count) {
    pawl_reader *r;
    pawl_batch b;
    uint64_t n = 0;
    pawl_check c = PAWL_CHECK_INIT;
    reopen(f);
    assert_int_equal(pawl_reader_open(f->log, f->s, 0, 0, 0, &r), 0);
    while (pawl_read(r, 0, 0, &b) > 0)
        n += b.count;
    pawl_reader_close(r);
    assert_int_equal(n, count);
    assert_int_equal(pawl_audit(f->dir, &c, NULL), 0);
}

static void a_segment_is_sealed_without_memory_for_its_index(void **state) {
    struct fixture *f = *state;
    int refusals;
    f->log->wal.hooks.index = no_index;
    appended(f, 40, &refusals);
    assert_int_equal(refusals, 0);
    expect_records(f, 40);
}

static void want_of_memory_for_a_checkpoint_passes(void **state) {
    struct fixture *f = *state;
    int refusals;
    real_checkpoint = f->log->wal.hooks.checkpoint;
    f->log->wal.hooks.checkpoint = no_checkpoint;
    refused = 3;
    appended(f, 40, &refusals);
    assert_in_range(refusals, 1, 3);
    expect_records(f, 40);
}

/* A commit that returned PAWL_MEMORY must not be in the log. */
static void memory_for_the_tables_is_had_before_the_append(void **state) {
    struct fixture *f = *state;
    int refusals;
    uint32_t id;
    pawl_tx *tx;
    appended(f, 1, &refusals);
    for (int i = 0; i < 8; i++) { /* as many positions as the table takes before it grows */
        char name[8];
        snprintf(name, sizeof name, "p%d", i);
        assert_int_equal(pawl_processor_register(f->log, name, &id), 0);
        assert_int_equal(pawl_begin(f->log, &tx), 0);
        assert_int_equal(pawl_advance(tx, id, f->s, 0, 0, 1), 0);
        assert_int_equal(pawl_commit(tx, NULL), 0);
    }
    assert_int_equal(f->log->tables.position_cap, 8);
    assert_int_equal(pawl_processor_register(f->log, "last", &id), 0);
    assert_int_equal(pawl_begin(f->log, &tx), 0);
    assert_int_equal(pawl_advance(tx, id, f->s, 0, 0, 1), 0);
    assert_int_equal(tx_prepare(tx), 0);
    uint64_t cap = f->log->mem.cap, tail = f->log->wal.tail;
    f->log->mem.cap = 1;
    assert_int_equal(pawl_commit(tx, NULL), PAWL_MEMORY);
    assert_int_equal(f->log->wal.tail, tail);
    f->log->mem.cap = cap;
    assert_int_equal(pawl_commit(tx, NULL), 0);
    uint64_t at;
    assert_int_equal(pawl_position_get(f->log, "last", f->s, 0, &at), 0);
    assert_int_equal(at, 1);
}

static struct seam_ops scarce;
static const struct seam_ops *plenty;
static bool no_space;
static int allocate(struct seam *io, int file, uint64_t size) {
    return no_space ? -ENOSPC : plenty->allocate(io, file, size);
}

static void without_threads_work_resumes_too_once_there_is_space(void **state) {
    struct fixture *f = *state;
    static char value[60000];
    pawl_record r = {.value = value, .value_len = sizeof value};
    plenty = f->log->io->ops;
    scarce = *plenty;
    scarce.allocate = allocate;
    f->log->io->ops = &scarce;
    no_space = true;
    int rc;
    while ((rc = pawl_append(f->log, f->s, 0, &r, NULL)) == 0) {
    }
    assert_int_equal(rc, PAWL_FULL);
    no_space = false;
    f->log->full_since -= 2000000000u; /* as if two seconds had passed */

    assert_true(pawl_tick(f->log) >= 0);
    assert_int_equal(pawl_append(f->log, f->s, 0, &r, NULL), 0);
    f->log->io->ops = plenty;
}

/* Another handle, with threads. */
static void open_with_threads(struct fixture *f, uint64_t disk_cap) {
    assert_int_equal(pawl_close(f->log), 0);
    f->log = NULL;
    assert_int_equal(test_dir_remove(f->dir), 0);
    f->options.no_thread = 0;
    f->options.disk_cap = disk_cap;
    f->options.block_when_full = 1;
    /* the background thread has no reason of its own to wake up */
    f->options.witness_ms = UINT32_MAX;
    assert_int_equal(pawl_open(f->dir, &f->options, &f->log, NULL), 0);
    assert_int_equal(pawl_stream_create(f->log, "s", 1, &f->s), 0);
}

static void on_commit(void *arg, int status, const pawl_receipt *receipt) {
    (void)receipt;
    assert_int_equal(status, 0);
    atomic_store((_Atomic int *)arg, 1);
}

/* The leader completes a group that no thread waits for, and stops leading; after the group there
 * is an asynchronous commit that saw a leader. */
static void an_asynchronous_commit_is_not_left_alone(void **state) {
    struct fixture *f = *state;
    _Atomic int done = 0;
    pawl_tx *tx;
    pawl_record r = text("x");
    open_with_threads(f, 0);
    pawl *p = f->log;
    assert_int_equal(pawl_begin(p, &tx), 0);
    assert_int_equal(pawl_put(tx, f->s, 0, &r), 0);
    /* the background thread has gone to sleep by now; if not, the test is only easier to pass */
    usleep(100000);
    pthread_mutex_lock(&p->mutex);
    p->leader = true;
    assert_int_equal(wal_append_mark(&p->wal, FRAME_WITNESS), 0);
    wal_submit(&p->wal, true);
    engine_leave(p);
    assert_int_equal(pawl_commit_async(tx, on_commit, &done, NULL), 0);
    pthread_mutex_lock(&p->mutex);
    assert_int_equal(p->wal.in_flight, 2);
    p->leader = false;
    engine_wait(p); /* this backend completes one request at a time */
    engine_leave(p);
    for (int i = 0; i < 5000 && !atomic_load(&done); i++)
        usleep(1000);
    assert_true(atomic_load(&done));
}

static void *append_until_refused(void *arg) {
    struct fixture *f = arg;
    static char value[3000];
    pawl_record r = {.value = value, .value_len = sizeof value};
    int rc;
    while ((rc = pawl_append(f->log, f->s, 0, &r, NULL)) == 0) {
    }
    return rc == PAWL_STOPPED ? f : NULL;
}

static void a_stop_is_heard_by_who_waits_for_space(void **state) {
    struct fixture *f = *state;
    pthread_t t;
    void *answer;
    pawl_status s = PAWL_STATUS_INIT;
    open_with_threads(f, 4 * MIB);
    assert_int_equal(pthread_create(&t, NULL, append_until_refused, f), 0);
    alarm(20);
    while (!s.full)
        assert_int_equal(pawl_get_status(f->log, &s), 0);
    usleep(100000);
    pawl_stop(f->log);
    assert_int_equal(pthread_join(t, &answer), 0);
    alarm(0);
    assert_ptr_equal(answer, f);
}

static int stopped_reading;

static void *read_for_ever(void *arg) {
    pawl_batch batch;
    stopped_reading = pawl_read(arg, 0, -1, &batch);
    return NULL;
}

static int process_nothing(pawl_context *c, const pawl_record *r, size_t count, void *arg) {
    (void)c, (void)r, (void)count, (void)arg;
    return 0;
}

static void *run_for_ever(void *arg) {
    return pawl_run(arg, 2, 0) == PAWL_STOPPED ? arg : NULL;
}

/* Threads that wait without a limit, for a stop or for progress. */
static void wait_for_sleepers(pawl *p, uint32_t n) {
    for (uint32_t asleep = 0; asleep != n;) {
        usleep(1000);
        pthread_mutex_lock(&p->mutex);
        asleep = p->stoppable + (uint32_t)__builtin_popcount(p->todo.asleep);
        engine_leave(p);
    }
}

static void a_stop_wakes_a_reader_and_idle_workers(void **state) {
    struct fixture *f = *state;
    pthread_t reader, runner;
    void *answer;
    pawl_reader *r;
    pawl_processor_config c = PAWL_PROCESSOR_INIT;
    open_with_threads(f, 64 * MIB);
    c.name = "p", c.inputs = &f->s, c.input_count = 1, c.process = process_nothing;
    assert_int_equal(pawl_processor_add(f->log, &c, NULL), 0);
    assert_int_equal(pawl_reader_open(f->log, f->s, 0, PAWL_END, 0, &r), 0);
    alarm(20); /* neither has a clock to wake it */
    assert_int_equal(pthread_create(&reader, NULL, read_for_ever, r), 0);
    wait_for_sleepers(f->log, 1);
    pawl_stop(f->log);
    assert_int_equal(pthread_join(reader, &answer), 0);
    assert_int_equal(stopped_reading, PAWL_STOPPED);
    assert_int_equal(pawl_run(f->log, 2, 0), PAWL_STOPPED); /* it is in force until cleared */
    pawl_stop_clear(f->log);
    assert_int_equal(pthread_create(&runner, NULL, run_for_ever, f->log), 0);
    wait_for_sleepers(f->log, 2);
    pawl_stop(f->log);
    assert_int_equal(pthread_join(runner, &answer), 0);
    assert_ptr_equal(answer, f->log);
    alarm(0);
    pawl_reader_close(r);
}

static void a_transaction_used_again_keeps_no_more_than_it_needs(void **state) {
    struct fixture *f = *state;
    static char value[100000];
    pawl_record r = {.value = value, .value_len = sizeof value};
    pawl_tx *tx;
    uint32_t wide;
    assert_int_equal(pawl_stream_create(f->log, "wide", 256, &wide), 0);
    assert_int_equal(pawl_begin(f->log, &tx), 0);
    uint64_t before = atomic_load(&f->log->mem.used);
    for (uint32_t i = 0; i < 256; i++) { /* each batch has another large partition */
        assert_int_equal(pawl_put(tx, wide, i, &r), 0);
        tx_reset(tx);
    }
    assert_in_range(atomic_load(&f->log->mem.used) - before, 0, MIB);
    pawl_abort(tx);
}

static void forgetting_gives_room_in_the_tables_back(void **state) {
    struct fixture *f = *state;
    uint32_t id;
    assert_int_equal(pawl_processor_register(f->log, "for-ever", &id), 0);
    uint64_t before = f->log->tables.rows_bytes;
    for (int i = 0; i < 10; i++) {
        assert_int_equal(pawl_processor_register(f->log, "for-a-while", &id), 0);
        assert_int_equal(pawl_processor_forget(f->log, "for-a-while"), 0);
    }
    assert_int_equal(f->log->tables.rows_bytes, before);
}

static void null_is_refused(void **state) {
    struct fixture *f = *state;
    pawl_header h;
    pawl_record r = {0};
    assert_int_equal(pawl_stream_at(f->log, 0, NULL), PAWL_INVALID);
    assert_int_equal(pawl_producer_at(f->log, 0, NULL), PAWL_INVALID);
    assert_int_equal(pawl_position_at(f->log, 0, NULL), PAWL_INVALID);
    assert_int_equal(pawl_decision_at(f->log, 0, NULL), PAWL_INVALID);
    assert_int_equal(pawl_processor_at(f->log, 0, NULL, NULL), PAWL_INVALID);
    assert_int_equal(pawl_record_header(NULL, 0, &h), PAWL_INVALID);
    assert_int_equal(pawl_record_header(&r, 0, NULL), PAWL_INVALID);
    assert_int_equal(pawl_stream_create(NULL, "s", 1, NULL), PAWL_INVALID);
    assert_int_equal(pawl_begin(NULL, NULL), PAWL_INVALID);
    assert_int_equal(pawl_commit(NULL, NULL), PAWL_INVALID);
    assert_int_equal(pawl_put(NULL, 1, 0, &r), PAWL_INVALID);
    assert_int_equal(pawl_read(NULL, 0, 0, NULL), PAWL_INVALID);
    assert_int_equal(pawl_run(NULL, 0, 0), PAWL_INVALID);
    assert_int_equal(pawl_sync(NULL), PAWL_INVALID);
    assert_int_equal(pawl_explain(NULL, 1, 0, 0, NULL), PAWL_INVALID);
    assert_int_equal(pawl_processor_add(f->log, NULL, NULL), PAWL_INVALID);
    assert_int_equal(pawl_producer_open(f->log, NULL, NULL), PAWL_INVALID);
    assert_int_equal(pawl_append(f->log, f->s, 0, NULL, NULL), PAWL_INVALID);
    pawl_last_error(NULL);
    pawl_fail(NULL, 0, NULL);
    pawl_abort(NULL);
    pawl_stop(NULL);
    pawl_stop_clear(NULL);
    pawl_reader_close(NULL);
    pawl_producer_close(NULL);
    pawl_processor_remove(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(only_durable_records_are_called_so, setup, teardown),
        cmocka_unit_test_setup_teardown(a_segment_is_sealed_without_memory_for_its_index, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(want_of_memory_for_a_checkpoint_passes, setup, teardown),
        cmocka_unit_test_setup_teardown(memory_for_the_tables_is_had_before_the_append, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(without_threads_work_resumes_too_once_there_is_space, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(an_asynchronous_commit_is_not_left_alone, setup, teardown),
        cmocka_unit_test_setup_teardown(a_stop_is_heard_by_who_waits_for_space, setup, teardown),
        cmocka_unit_test_setup_teardown(a_stop_wakes_a_reader_and_idle_workers, setup, teardown),
        cmocka_unit_test_setup_teardown(a_transaction_used_again_keeps_no_more_than_it_needs, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(forgetting_gives_room_in_the_tables_back, setup, teardown),
        cmocka_unit_test_setup_teardown(null_is_refused, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
