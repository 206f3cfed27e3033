/* SPDX-License-Identifier: Apache-2.0 */
/* Every call reports that an object has ended; and a log can't be closed while one of its objects
 * is in use. */
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
#include "tests/support/own_log.h"

struct fixture {
    char dir[64];
    pawl *log;
    uint32_t s, processor;
};

static int setup(void **state) {
    struct fixture *f = calloc(1, sizeof *f);
    pawl_options o = PAWL_OPTIONS_INIT;
    if (f == NULL)
        return -1;
    if (test_dir_make(f->dir, "/tmp/test_misuse") != 0)
        return -1;
    o.flags = PAWL_OPEN_CREATE, o.segment_size = 1u << 20;
    *state = f;
    return pawl_open(f->dir, &o, &f->log, NULL) != 0 ||
           pawl_stream_create(f->log, "s", 1, &f->s) != 0 ||
           pawl_processor_register(f->log, "p", &f->processor) != 0;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    int rc = close_and_remove(f->log, f->dir);
    free(f);
    return rc;
}

static const pawl_record hello = {.value = "hello", .value_len = 5};

static int last_code(void) {
    pawl_error e;
    pawl_last_error(&e);
    return e.code;
}

/* ---- transactions: ways to end one, and every call that takes one */

static void by_commit(struct fixture *f, pawl_tx *tx) {
    (void)f;
    assert_int_equal(pawl_commit(tx, NULL), 0);
}
static void by_commit_async(struct fixture *f, pawl_tx *tx) {
    (void)f;
    assert_int_equal(pawl_commit_async(tx, NULL, NULL, NULL), 0);
}
static void by_abort(struct fixture *f, pawl_tx *tx) {
    (void)f;
    pawl_abort(tx);
}
static void by_refused_commit(struct fixture *f, pawl_tx *tx) {
    assert_int_equal(pawl_advance(tx, f->processor, f->s, 0, 1, 1), 0);
    pawl_tx *other;
    assert_int_equal(pawl_begin(f->log, &other), 0);
    assert_int_equal(pawl_advance(other, f->processor, f->s, 0, 0, 0), 0);
    int rc = pawl_commit(other, NULL);
    assert_true(rc == 0 || rc == PAWL_TILING);
    assert_int_equal(pawl_commit(tx, NULL), PAWL_TILING);
}
/* One that was too large for the pool to keep its memory. */
static void by_large_commit(struct fixture *f, pawl_tx *tx) {
    static char value[150000];
    pawl_record large = {.value = value, .value_len = sizeof value};
    for (int i = 0; i < 60; i++)
        assert_int_equal(pawl_put(tx, f->s, 0, &large), 0);
    assert_int_equal(pawl_commit(tx, NULL), 0);
}

static int put(struct fixture *f, pawl_tx *tx) {
    return pawl_put(tx, f->s, 0, &hello);
}
static int put_many(struct fixture *f, pawl_tx *tx) {
    return pawl_put_many(tx, f->s, 0, &hello, 1);
}
static int advance(struct fixture *f, pawl_tx *tx) {
    return pawl_advance(tx, f->processor, f->s, 0, 0, 0);
}
static int sequence(struct fixture *f, pawl_tx *tx) {
    pawl_producer *producer;
    assert_int_equal(pawl_producer_open(f->log, "x", &producer), 0);
    int rc = pawl_tx_sequence(tx, producer, 1, 1, NULL, 0);
    pawl_producer_close(producer);
    return rc;
}
static int decide(struct fixture *f, pawl_tx *tx) {
    return pawl_decide(tx, f->processor, "name");
}
static int finish(struct fixture *f, pawl_tx *tx) {
    return pawl_finish(tx, f->processor, "name");
}
static int commit(struct fixture *f, pawl_tx *tx) {
    (void)f;
    return pawl_commit(tx, NULL);
}
static int commit_async(struct fixture *f, pawl_tx *tx) {
    (void)f;
    return pawl_commit_async(tx, NULL, NULL, NULL);
}
static int abort_it(struct fixture *f, pawl_tx *tx) {
    (void)f;
    pawl_abort(tx);
    return last_code();
}

static void transactions(void **state) {
    struct fixture *f = *state;
    static void (*const ends[])(struct fixture *, pawl_tx *) = {
        by_commit, by_commit_async, by_abort, by_refused_commit, by_large_commit};
    static int (*const calls[])(struct fixture *, pawl_tx *) = {
        put, put_many, advance, sequence, decide, finish, commit, commit_async, abort_it};
    for (size_t e = 0; e < sizeof ends / sizeof ends[0]; e++)
        for (size_t c = 0; c < sizeof calls / sizeof calls[0]; c++) {
            pawl_tx *tx, *next;
            assert_int_equal(pawl_begin(f->log, &tx), 0);
            assert_int_equal(pawl_put(tx, f->s, 0, &hello), 0);
            ends[e](f, tx);
            int rc = calls[c](f, tx);
            if (rc != PAWL_STATE)
                fail_msg("end %zu, call %zu: %s", e, c, pawl_errname(rc));
            assert_int_equal(calls[c](f, tx), PAWL_STATE);
            assert_int_equal(pawl_begin(f->log, &next), 0); /* nothing was broken by it */
            assert_int_equal(pawl_put(next, f->s, 0, &hello), 0);
            assert_int_equal(pawl_commit(next, NULL), 0);
        }
    for (size_t c = 0; c + 1 < sizeof calls / sizeof calls[0]; c++)
        assert_int_equal(calls[c](f, NULL), PAWL_INVALID);
    pawl_abort(NULL);
}

/* ---- readers, producers, processors */

static void readers(void **state) {
    struct fixture *f = *state;
    pawl_reader *r;
    pawl_batch b;
    assert_int_equal(pawl_append(f->log, f->s, 0, &hello, NULL), 0);
    assert_int_equal(pawl_reader_open(f->log, f->s, 0, 0, 0, &r), 0);
    assert_int_equal(pawl_read(r, 1, 0, &b), 1);
    pawl_reader_close(r);
    assert_int_equal(pawl_read(r, 1, 0, &b), PAWL_STATE);
    assert_int_equal(pawl_read(r, 1, -1, &b), PAWL_STATE);
    assert_int_equal(pawl_reader_seek(r, 0), PAWL_STATE);
    assert_int_equal(pawl_reader_position(r), 0);
    assert_int_equal(last_code(), PAWL_STATE);
    pawl_reader_close(r);
    pawl_reader_close(r);
    assert_int_equal(pawl_read(NULL, 1, 0, &b), PAWL_INVALID);
    pawl_reader_close(NULL);
}

static void readers_of_several(void **state) {
    struct fixture *f = *state;
    pawl_any *a;
    pawl_batch b;
    pawl_place at = {.stream = f->s};
    assert_int_equal(pawl_any_open(f->log, &at, 1, 0, &a), 0);
    assert_int_equal(pawl_close(f->log), PAWL_BUSY);
    pawl_any_close(a);
    assert_int_equal(pawl_read_any(a, 1, 0, &b, NULL), PAWL_STATE);
    assert_int_equal(pawl_any_add(a, &at), PAWL_STATE);
    assert_int_equal(pawl_any_remove(a, f->s, 0), PAWL_STATE);
    assert_int_equal(pawl_any_seek(a, &at), PAWL_STATE);
    assert_int_equal(pawl_any_fd(a), PAWL_STATE);
    assert_true(pawl_any_position(a, f->s, 0) == PAWL_END);
    pawl_any_close(a);
    assert_int_equal(pawl_any_open(f->log, NULL, 0, 0, &a), 0); /* of nothing yet */
    assert_int_equal(pawl_close(f->log), PAWL_BUSY);
    pawl_any_close(a);
}

static void producers(void **state) {
    struct fixture *f = *state;
    pawl_producer *p;
    pawl_tx *tx;
    char cookie[32];
    assert_int_equal(pawl_producer_open(f->log, "y", &p), 0);
    pawl_producer_close(p);
    assert_int_equal(pawl_producer_sequence(p), 0);
    assert_int_equal(last_code(), PAWL_STATE);
    assert_int_equal(pawl_producer_cookie(p, cookie, sizeof cookie), PAWL_STATE);
    assert_int_equal(pawl_begin(f->log, &tx), 0);
    assert_int_equal(pawl_tx_sequence(tx, p, 1, 1, NULL, 0), PAWL_STATE);
    pawl_abort(tx);
    pawl_producer_close(p);
}

/* A producer that is closed before its last commit is still the commit's. */
static void producer_closed_first(void **state) {
    struct fixture *f = *state;
    pawl_producer *p;
    pawl_tx *tx;
    assert_int_equal(pawl_producer_open(f->log, "z", &p), 0);
    assert_int_equal(pawl_begin(f->log, &tx), 0);
    assert_int_equal(pawl_put(tx, f->s, 0, &hello), 0);
    assert_int_equal(pawl_tx_sequence(tx, p, 1, 1, NULL, 0), 0);
    pawl_producer_close(p);
    for (int i = 0; i < 100; i++) { /* what ended before is long gone */
        pawl_producer *other;
        assert_int_equal(pawl_producer_open(f->log, "other", &other), 0);
        pawl_producer_close(other);
    }
    assert_int_equal(pawl_producer_sequence(p), 0);
    assert_int_equal(pawl_commit(tx, NULL), 0);
    assert_int_equal(pawl_producer_open(f->log, "z", &p), 0);
    assert_int_equal(pawl_producer_sequence(p), 1);
    pawl_producer_close(p);
}

static void another_handle(void **state) {
    struct fixture *f = *state;
    struct fixture *g;
    void *other = NULL;
    pawl_producer *p;
    pawl_tx *tx;
    assert_int_equal(setup(&other), 0);
    g = other;
    assert_int_equal(pawl_producer_open(g->log, "y", &p), 0);
    assert_int_equal(pawl_begin(f->log, &tx), 0);
    assert_int_equal(pawl_tx_sequence(tx, p, 1, 1, NULL, 0), PAWL_INVALID);
    pawl_abort(tx);
    pawl_producer_close(p);
    assert_int_equal(teardown(&other), 0);
}

static pawl_processor *self;
static int removes_itself(pawl_context *ctx, const pawl_record *r, size_t n, void *arg) {
    (void)r, (void)n;
    pawl_processor_remove(self);
    *(int *)arg = last_code();
    return pawl_close(pawl_context_log(ctx)) == PAWL_BUSY ? 0 : -1;
}

static void processors(void **state) {
    struct fixture *f = *state;
    pawl_processor_config c = PAWL_PROCESSOR_INIT;
    int seen = 0;
    c.name = "q", c.inputs = &f->s, c.input_count = 1, c.process = removes_itself, c.arg = &seen;
    c.retries = 0;
    assert_int_equal(pawl_processor_add(f->log, &c, &self), 0);
    assert_int_equal(pawl_append(f->log, f->s, 0, &hello, NULL), 0);
    assert_int_equal(pawl_run(f->log, 0, PAWL_RUN_UNTIL_IDLE), 0);
    assert_int_equal(seen, PAWL_BUSY);
    pawl_processor_remove(self);
    pawl_processor_remove(self);
    assert_int_equal(last_code(), PAWL_STATE);
    assert_int_equal(pawl_run(f->log, 0, PAWL_RUN_UNTIL_IDLE), PAWL_STATE);
}

/* ---- closing */

static void still_works(struct fixture *f) {
    pawl_error e;
    assert_int_equal(pawl_close(f->log), PAWL_BUSY);
    pawl_last_error(&e);
    assert_non_null(strstr(e.message, "close them first"));
    assert_int_equal(pawl_append(f->log, f->s, 0, &hello, NULL), 0);
    assert_int_equal(pawl_sync(f->log), 0);
}

static void closing_while_in_use(void **state) {
    struct fixture *f = *state;
    pawl_tx *tx;
    pawl_reader *r, *of_follower;
    pawl_producer *p;
    pawl_options o = PAWL_OPTIONS_INIT;
    pawl *follower;
    assert_int_equal(pawl_begin(f->log, &tx), 0);
    assert_int_equal(pawl_put(tx, f->s, 0, &hello), 0);
    still_works(f);
    assert_int_equal(pawl_commit(tx, NULL), 0); /* it was left whole */
    assert_int_equal(pawl_reader_open(f->log, f->s, 0, 0, 0, &r), 0);
    still_works(f);
    pawl_reader_close(r);
    assert_int_equal(pawl_producer_open(f->log, "w", &p), 0);
    still_works(f);
    pawl_producer_close(p);
    o.flags = PAWL_OPEN_READ;
    assert_int_equal(pawl_open(f->dir, &o, &follower, NULL), 0);
    assert_int_equal(pawl_reader_open(follower, f->s, 0, 0, 0, &of_follower), 0);
    assert_int_equal(pawl_close(follower), PAWL_BUSY);
    pawl_reader_close(of_follower);
    assert_int_equal(pawl_close(follower), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(transactions, setup, teardown),
        cmocka_unit_test_setup_teardown(readers, setup, teardown),
        cmocka_unit_test_setup_teardown(readers_of_several, setup, teardown),
        cmocka_unit_test_setup_teardown(producers, setup, teardown),
        cmocka_unit_test_setup_teardown(producer_closed_first, setup, teardown),
        cmocka_unit_test_setup_teardown(another_handle, setup, teardown),
        cmocka_unit_test_setup_teardown(processors, setup, teardown),
        cmocka_unit_test_setup_teardown(closing_while_in_use, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
