/* SPDX-License-Identifier: Apache-2.0 */
/* Deleted streams, and a changed disk cap: both last in this handle, after a crash, in later
 * segments and for followers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <sys/wait.h>
#include <unistd.h>

#include "pawl.h"
#include "tests/support/own_log.h"

#define MIB (1024u * 1024u)
#define VALUE 60000

struct fixture {
    char dir[64];
    pawl_options options;
    pawl *log;
    uint32_t a, b; /* streams: one partition, four */
};

static void open_log(struct fixture *f) {
    must_open(f->dir, &f->options, &f->log);
}

static void reopen(struct fixture *f) {
    assert_int_equal(pawl_close(f->log), 0);
    open_log(f);
}

static int setup(void **state) {
    struct fixture *f = calloc(1, sizeof *f);
    *state = f;
    if (f == NULL)
        return -1;
    if (test_dir_make(f->dir, "/tmp/test_catalog") != 0)
        return -1;
    f->options = small_segments();
    open_log(f);
    return pawl_stream_create(f->log, "a", 1, &f->a) != 0 ||
           pawl_stream_create(f->log, "b", 4, &f->b) != 0;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    pawl_check c = PAWL_CHECK_INIT;
    int rc = pawl_close(f->log);
    if (rc == 0)
        rc = pawl_audit(f->dir, &c, NULL); /* whatever was done, the log adds up */
    if (test_dir_remove(f->dir) != 0)
        rc = -1;
    free(f);
    return rc;
}

static int put(struct fixture *f, uint32_t stream) {
    static uint8_t value[VALUE];
    pawl_record r = {.value = value, .value_len = VALUE};
    return pawl_append(f->log, stream, 0, &r, NULL);
}

static void fill(struct fixture *f, uint32_t stream, int count) {
    for (int i = 0; i < count; i++)
        assert_int_equal(put(f, stream), 0);
}

/* ---- deleting */

static void what_is_deleted_is_gone(void **state) {
    struct fixture *f = *state;
    pawl_stream_info info;
    pawl_bounds bounds;
    pawl_reader *reader;
    pawl_batch batch;
    pawl_any *any;
    pawl_place at, places[] = {{f->a, 0, 0}, {f->b, 0, 0}};
    pawl_tx *tx;
    uint32_t id;
    uint64_t offset;
    fill(f, f->a, 2);
    fill(f, f->b, 2);
    assert_int_equal(pawl_processor_register(f->log, "p", &id), 0);
    assert_int_equal(pawl_begin(f->log, &tx), 0);
    assert_int_equal(pawl_advance(tx, id, f->b, 0, 0, 1), 0);
    assert_int_equal(pawl_advance(tx, id, f->a, 0, 0, 1), 0);
    assert_int_equal(pawl_commit(tx, NULL), 0);
    assert_int_equal(pawl_reader_open(f->log, f->b, 0, 0, 0, &reader), 0);
    assert_int_equal(pawl_read(reader, 1, 0, &batch), 1);
    assert_int_equal(pawl_any_open(f->log, places, 2, 0, &any), 0);
    assert_int_equal(pawl_begin(f->log, &tx), 0);
    assert_int_equal(pawl_put(tx, f->b, 1, &batch.records[0]), 0);

    assert_int_equal(pawl_stream_delete(f->log, "c"), PAWL_NOT_FOUND);
    assert_int_equal(pawl_stream_delete(f->log, NULL), PAWL_INVALID);
    assert_int_equal(pawl_stream_delete(f->log, "b"), 0);
    assert_int_equal(pawl_stream_delete(f->log, "b"), PAWL_NOT_FOUND);

    assert_int_equal(pawl_commit(tx, NULL), PAWL_NOT_FOUND);
    assert_int_equal(put(f, f->b), PAWL_NOT_FOUND);
    assert_int_equal(pawl_stream_find(f->log, "b", &info), PAWL_NOT_FOUND);
    assert_int_equal(pawl_stream_get(f->log, f->b, &info), PAWL_NOT_FOUND);
    assert_int_equal(pawl_stream_at(f->log, 1, &info), PAWL_NOT_FOUND);
    assert_int_equal(pawl_partition_bounds(f->log, f->b, 0, &bounds), PAWL_NOT_FOUND);
    assert_int_equal(pawl_reader_seek(reader, 0), PAWL_NOT_FOUND);
    pawl_reader_close(reader);
    assert_int_equal(pawl_reader_open(f->log, f->b, 0, 0, 0, &reader), PAWL_NOT_FOUND);
    assert_int_equal(pawl_position_get(f->log, "p", f->b, 0, &offset), PAWL_NOT_FOUND);
    assert_int_equal(pawl_position_get(f->log, "p", f->a, 0, &offset), 0);
    assert_int_equal(pawl_begin(f->log, &tx), 0);
    assert_int_equal(pawl_advance(tx, id, f->b, 0, 1, 2), PAWL_NOT_FOUND);
    pawl_abort(tx);
    bool told = false;
    /* a reader of several partitions gets the error once, and continues */
    for (int n, i = 0; i < 4; i++) {
        n = pawl_read_any(any, 1, 0, &batch, &at);
        assert_int_equal(n, n == PAWL_NOT_FOUND ? n : i < 3);
        if (n == PAWL_NOT_FOUND) {
            assert_false(told);
            assert_int_equal(at.stream, f->b);
            told = true;
        }
    }
    assert_true(told);
    pawl_any_close(any);
}

/* The id is never used again: all records under it in the log belong to the old stream. */
static void its_id_is_not_used_again(void **state) {
    struct fixture *f = *state;
    uint32_t id = 0;
    pawl_bounds bounds;
    fill(f, f->b, 3);
    for (uint32_t round = 0; round < 3; round++) {
        assert_int_equal(pawl_stream_delete(f->log, "b"), 0);
        if (round > 0)
            fill(f, f->a, 40); /* into the next segment: its checkpoint has to know */
        if (round > 1)
            reopen(f);
        assert_int_equal(pawl_stream_create(f->log, "b", 2, &id), 0);
        assert_int_equal(id, f->b + round + 1);
        assert_int_equal(pawl_partition_bounds(f->log, id, 0, &bounds), 0);
        assert_int_equal(bounds.first, 0);
        assert_int_equal(bounds.end, 0);
        fill(f, id, 1);
        reopen(f);
    }
}

static int nothing(pawl_context *ctx, const pawl_record *records, size_t count, void *arg) {
    (void)ctx, (void)records, (void)count, (void)arg;
    return 0;
}

static void a_processor_on_this_handle_keeps_it(void **state) {
    struct fixture *f = *state;
    pawl_processor_config c = PAWL_PROCESSOR_INIT;
    pawl_processor *processor;
    c.name = "p", c.inputs = &f->b, c.input_count = 1, c.process = nothing;
    c.on_error = PAWL_ON_ERROR_DEAD_LETTER, c.dead_letter = f->a;
    assert_int_equal(pawl_processor_add(f->log, &c, &processor), 0);
    assert_int_equal(pawl_stream_delete(f->log, "b"), PAWL_BUSY);
    assert_int_equal(pawl_stream_delete(f->log, "a"), PAWL_BUSY);
    pawl_processor_remove(processor);
    assert_int_equal(pawl_stream_delete(f->log, "b"), 0);
    assert_int_equal(pawl_processor_add(f->log, &c, &processor), PAWL_NOT_FOUND);
}

/* A position that never moves keeps all records, until its stream is deleted. */
static void retention_is_held_no_longer(void **state) {
    struct fixture *f = *state;
    uint32_t id;
    pawl_tx *tx;
    fill(f, f->b, 2);
    assert_int_equal(pawl_processor_register(f->log, "p", &id), 0);
    assert_int_equal(pawl_begin(f->log, &tx), 0);
    assert_int_equal(pawl_advance(tx, id, f->b, 0, 0, 1), 0);
    assert_int_equal(pawl_commit(tx, NULL), 0);
    fill(f, f->a, 60);
    assert_int_equal(pawl_retention_set(f->log, &(pawl_retention){.bytes = 1}), 0);
    assert_int_equal(pawl_retention_apply(f->log), 0);
    pawl_status s = PAWL_STATUS_INIT;
    assert_int_equal(pawl_stream_delete(f->log, "b"), 0);
    assert_true(pawl_retention_apply(f->log) >= 0); /* the maintenance thread may be quicker */
    assert_int_equal(pawl_get_status(f->log, &s), 0);
    assert_true(s.first_segment >= 3);
}

static void a_producer_keeps_its_answer(void **state) {
    struct fixture *f = *state;
    pawl_producer *producer;
    pawl_producer_info info;
    pawl_receipt receipt;
    for (int again = 0; again < 3; again++) {
        pawl_record r = {.value = "x", .value_len = 1};
        pawl_tx *tx;
        assert_int_equal(pawl_producer_open(f->log, "q", &producer), 0);
        assert_int_equal(pawl_begin(f->log, &tx), 0);
        assert_int_equal(pawl_put(tx, again == 0 ? f->b : f->a, 0, &r), 0);
        assert_int_equal(pawl_tx_sequence(tx, producer, 1, 1, NULL, 0), 0);
        assert_int_equal(pawl_commit(tx, &receipt), 0);
        assert_int_equal(receipt.duplicate, again != 0);
        assert_int_equal(receipt.stream, f->b);
        pawl_producer_close(producer);
        assert_int_equal(pawl_producer_find(f->log, "q", &info, &receipt, NULL, 0), 0);
        assert_int_equal(receipt.stream, f->b);
        if (again == 0)
            assert_int_equal(pawl_stream_delete(f->log, "b"), 0);
        fill(f, f->a, 20);
        reopen(f);
    }
}

static void a_follower_sees_both(void **state) {
    struct fixture *f = *state;
    pawl_options o = PAWL_OPTIONS_INIT;
    pawl *follower;
    pawl_reader *reader;
    pawl_batch batch;
    pawl_stream_info info;
    pawl_status s = PAWL_STATUS_INIT;
    o.flags = PAWL_OPEN_READ;
    fill(f, f->b, 2);
    fill(f, f->a, 1);
    assert_int_equal(pawl_open(f->dir, &o, &follower, NULL), 0);
    assert_int_equal(pawl_reader_open(follower, f->b, 0, 0, 0, &reader), 0);
    assert_int_equal(pawl_read(reader, 1, 0, &batch), 1);
    assert_int_equal(pawl_stream_delete(f->log, "b"), 0);
    assert_int_equal(pawl_disk_cap_set(f->log, 9 * MIB), 0);
    fill(f, f->a, 2); /* they say that it is durable */
    assert_int_equal(pawl_stream_find(follower, "b", &info), PAWL_NOT_FOUND);
    while (pawl_read(reader, 1, 0, &batch) == 1) /* what it has at hand it may still give */
        assert_int_equal(batch.from, 1);
    assert_int_equal(pawl_read(reader, 1, 0, &batch), PAWL_NOT_FOUND);
    assert_int_equal(pawl_get_status(follower, &s), 0);
    assert_int_equal(s.disk_cap, 9 * MIB);
    fill(f, f->a, 40);
    assert_int_equal(pawl_get_status(follower, &s), 0);
    assert_true(s.last_segment > 1);
    assert_int_equal(s.disk_cap, 9 * MIB);
    pawl_reader_close(reader);
    assert_int_equal(pawl_close(follower), 0);
}

/* A process that is killed right after pawl_stream_delete() and pawl_disk_cap_set() returned. */
static void both_outlive_a_crash(void **state) {
    struct fixture *f = *state;
    for (uint32_t round = 0; round < 4; round++) {
        assert_int_equal(pawl_close(f->log), 0);
        pid_t pid = fork();
        if (pid == 0) {
            uint32_t id;
            bool good = pawl_open(f->dir, &f->options, &f->log, NULL) == 0 &&
                        (pawl_stream_create(f->log, "c", 3, &id) == 0) && id == 3 + round &&
                        put(f, id) == 0 && pawl_stream_delete(f->log, "c") == 0 &&
                        pawl_disk_cap_set(f->log, (uint64_t)(10 + round) * MIB) == 0;
            _exit(good ? 0 : 1);
        }
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        open_log(f);
        pawl_stream_info info;
        pawl_status s = PAWL_STATUS_INIT;
        assert_int_equal(pawl_stream_find(f->log, "c", &info), PAWL_NOT_FOUND);
        assert_int_equal(pawl_get_status(f->log, &s), 0);
        assert_int_equal(s.disk_cap, (uint64_t)(10 + round) * MIB);
    }
}

/* ---- the cap */

static int fill_up(struct fixture *f, int most) {
    int n = 0, rc = 0;
    while (n < most && (rc = put(f, f->a)) == 0)
        n++;
    assert_true(rc == 0 || rc == PAWL_FULL);
    return n;
}

static void a_larger_cap_lets_a_full_log_go_on(void **state) {
    struct fixture *f = *state;
    pawl_status s = PAWL_STATUS_INIT;
    assert_int_equal(pawl_disk_cap_set(f->log, 4 * MIB - 1), PAWL_INVALID);
    assert_int_equal(pawl_disk_cap_set(f->log, 4 * MIB), 0);
    assert_in_range(fill_up(f, 1000), 40, 70);
    assert_int_equal(put(f, f->a), PAWL_FULL);
    assert_int_equal(pawl_disk_cap_set(f->log, 6 * MIB), 0);
    assert_in_range(fill_up(f, 1000), 20, 40);
    reopen(f);
    assert_int_equal(put(f, f->a), PAWL_FULL);
    assert_int_equal(pawl_get_status(f->log, &s), 0);
    assert_int_equal(s.disk_cap, 6 * MIB);
    assert_true(s.disk_bytes <= 6 * MIB);
    assert_int_equal(pawl_disk_cap_set(f->log, 0), 0);
    assert_int_equal(fill_up(f, 100), 100);
    reopen(f); /* in a later segment by now: its header says so */
    assert_int_equal(pawl_get_status(f->log, &s), 0);
    assert_int_equal(s.disk_cap, 0);
    assert_int_equal(fill_up(f, 100), 100);
}

static void a_smaller_cap_waits_for_retention(void **state) {
    struct fixture *f = *state;
    pawl_status s = PAWL_STATUS_INIT;
    fill(f, f->a, 100);
    assert_int_equal(pawl_disk_cap_set(f->log, 5 * MIB), 0);
    assert_in_range(fill_up(f, 1000), 0, 40); /* the segments that are there */
    assert_int_equal(put(f, f->a), PAWL_FULL);
    assert_int_equal(pawl_retention_set(f->log, &(pawl_retention){.bytes = 3 * MIB}), 0);
    assert_true(pawl_retention_apply(f->log) >= 0);
    assert_int_equal(fill_up(f, 5), 5);
    assert_int_equal(pawl_get_status(f->log, &s), 0);
    assert_true(s.disk_bytes <= 5 * MIB);
}

static void only_a_writer_may(void **state) {
    struct fixture *f = *state;
    pawl_options o = PAWL_OPTIONS_INIT;
    pawl *follower;
    o.flags = PAWL_OPEN_READ;
    assert_int_equal(pawl_open(f->dir, &o, &follower, NULL), 0);
    assert_int_equal(pawl_disk_cap_set(follower, 0), PAWL_READ_ONLY);
    assert_int_equal(pawl_stream_delete(follower, "a"), PAWL_READ_ONLY);
    assert_int_equal(pawl_disk_cap_set(NULL, 0), PAWL_INVALID);
    assert_int_equal(pawl_stream_delete(NULL, "a"), PAWL_INVALID);
    assert_int_equal(pawl_close(follower), 0);
}

#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        T(what_is_deleted_is_gone),
        T(its_id_is_not_used_again),
        T(a_processor_on_this_handle_keeps_it),
        T(retention_is_held_no_longer),
        T(a_producer_keeps_its_answer),
        T(a_follower_sees_both),
        T(both_outlive_a_crash),
        T(a_larger_cap_lets_a_full_log_go_on),
        T(a_smaller_cap_waits_for_retention),
        T(only_a_writer_may),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
