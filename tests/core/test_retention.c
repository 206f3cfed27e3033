/* SPDX-License-Identifier: Apache-2.0 */
/* What retention must never drop, in which order it drops, and that it works after repair took a
 * checkpoint out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <fcntl.h>
#include <unistd.h>

#include "pipeline/engine.h"

#undef fail
#include <cmocka.h>

#include "tests/support/own_log.h"

#define VALUE 60000u

struct fixture {
    char dir[64];
    pawl_options options;
    pawl *log;
    uint32_t a, b;
};

static void reopen(struct fixture *f) {
    pawl_error e;
    assert_int_equal(pawl_close(f->log), 0);
    f->log = NULL;
    int rc = pawl_open(f->dir, &f->options, &f->log, &e);
    print_message("%s", e.message);
    assert_int_equal(rc, 0);
}

static int setup(void **state) {
    struct fixture *f = calloc(1, sizeof *f);
    if (f == NULL)
        return -1;
    if (test_dir_make(f->dir, "/tmp/test_retention") != 0)
        return -1;
    f->options = small_segments();
    f->options.no_thread = 1; /* nothing happens but what the test asks for */
    f->options.backend = PAWL_BACKEND_POSIX;
    *state = f;
    if (pawl_open(f->dir, &f->options, &f->log, NULL) != 0)
        return -1;
    return pawl_stream_create(f->log, "a", 1, &f->a) != 0 ||
           pawl_stream_create(f->log, "b", 1, &f->b) != 0;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    int rc = close_and_remove(f->log, f->dir);
    free(f);
    return rc;
}

static pawl_record big(void) {
    static uint8_t value[VALUE];
    memset(value, 'v', sizeof value);
    return (pawl_record){.value = value, .value_len = VALUE};
}

static void fill(struct fixture *f, uint32_t stream, int count) {
    pawl_record r = big();
    for (int i = 0; i < count; i++)
        assert_int_equal(pawl_append(f->log, stream, 0, &r, NULL), 0);
}

static uint64_t count_of(struct fixture *f, uint32_t stream) {
    pawl_reader *r;
    pawl_batch b;
    uint64_t n = 0;
    int rc;
    assert_int_equal(pawl_reader_open(f->log, stream, 0, 0, 0, &r), 0);
    while ((rc = pawl_read(r, 0, 0, &b)) > 0)
        n += b.count;
    if (rc < 0) {
        pawl_error e;
        pawl_last_error(&e);
        print_message("%s\n", e.message);
    }
    assert_int_equal(rc, 0);
    pawl_reader_close(r);
    return n;
}

static void an_open_transaction_keeps_what_it_spilled(void **state) {
    struct fixture *f = *state;
    pawl_tx *tx;
    pawl_status s = PAWL_STATUS_INIT;
    pawl_record r = big();
    assert_int_equal(pawl_begin(f->log, &tx), 0);
    for (int i = 0; i < 6; i++)
        assert_int_equal(pawl_put(tx, f->b, 0, &r), 0);
    fill(f, f->a, 60); /* four segments */
    assert_int_equal(pawl_retention_set(f->log, &(pawl_retention){.bytes = 2 * MIB}), 0);
    assert_int_equal(pawl_retention_apply(f->log), 0);
    assert_int_equal(pawl_commit(tx, NULL), 0);
    assert_true(pawl_retention_apply(f->log) >= 0);
    assert_int_equal(count_of(f, f->b), 6);
    reopen(f);
    assert_int_equal(count_of(f, f->b), 6);

    assert_int_equal(pawl_begin(f->log, &tx), 0); /* an aborted one holds nothing */
    for (int i = 0; i < 6; i++)
        assert_int_equal(pawl_put(tx, f->b, 0, &r), 0);
    pawl_abort(tx);
    fill(f, f->a, 90);
    assert_true(pawl_retention_apply(f->log) >= 0);
    assert_int_equal(pawl_get_status(f->log, &s), 0);
    assert_in_range(s.last_segment - s.first_segment, 0, 2);
}

static void a_position_lets_go_only_when_it_is_durable(void **state) {
    struct fixture *f = *state;
    uint32_t id;
    pawl_tx *tx;
    pawl_receipt receipt;
    pawl_status s = PAWL_STATUS_INIT;
    fill(f, f->a, 60);
    assert_int_equal(pawl_processor_register(f->log, "p", &id), 0);
    assert_int_equal(pawl_begin(f->log, &tx), 0);
    assert_int_equal(pawl_advance(tx, id, f->a, 0, 0, 1), 0);
    assert_int_equal(pawl_commit(tx, NULL), 0);
    assert_int_equal(pawl_retention_set(f->log, &(pawl_retention){.consumed = 1}), 0);
    assert_int_equal(pawl_retention_apply(f->log), 0);
    assert_int_equal(pawl_begin(f->log, &tx), 0);
    assert_int_equal(pawl_advance(tx, id, f->a, 0, 1, 60), 0);
    assert_int_equal(pawl_commit_async(tx, NULL, NULL, &receipt), 0);
    assert_int_equal(pawl_get_status(f->log, &s), 0);
    assert_true(s.durable_lsn < receipt.lsn);
    assert_int_equal(pawl_retention_apply(f->log), 3);
    assert_int_equal(pawl_get_status(f->log, &s), 0);
    assert_true(s.durable_lsn >= receipt.lsn);
}

/* A seam that counts removals since the directory was synced. */
static struct seam_ops watched;
static const struct seam_ops *real;
static int pending, most_pending;

static int watched_unlink(struct seam *s, const char *name) {
    int rc = real->unlink(s, name);
    if (rc == 0 && strstr(name, ".seg") != NULL && ++pending > most_pending)
        most_pending = pending;
    return rc;
}

static int watched_sync_dir(struct seam *s) {
    pending = 0;
    return real->sync_dir(s);
}

static void segments_go_durably_one_by_one(void **state) {
    struct fixture *f = *state;
    struct seam *io;
    fill(f, f->a, 60);
    assert_int_equal(pawl_close(f->log), 0);
    f->log = NULL;
    assert_int_equal(seam_create(f->dir, false, PAWL_BACKEND_POSIX, PAWL_DIRECT_AUTO, &io), 0);
    real = io->ops;
    watched = *real;
    watched.unlink = watched_unlink;
    watched.sync_dir = watched_sync_dir;
    io->ops = &watched;
    assert_int_equal(engine_open(io, &f->options, &f->log), 0);
    assert_int_equal(pawl_retention_set(f->log, &(pawl_retention){.bytes = 1}), 0);
    pending = most_pending = 0;
    assert_int_equal(pawl_retention_apply(f->log), 3);
    assert_int_equal(most_pending, 1); /* else a crash could leave a gap between the segments */
    assert_int_equal(pending, 0);
}

static void retention_goes_on_behind_a_lost_checkpoint(void **state) {
    struct fixture *f = *state;
    char file[128];
    uint8_t zeros[BLOCK] = {0};
    fill(f, f->a, 60);
    assert_int_equal(pawl_close(f->log), 0);
    f->log = NULL;
    snprintf(file, sizeof file, "%s/0000000000000001.seg", f->dir);
    int fd = open(file, O_RDWR);
    assert_int_equal(pwrite(fd, zeros, sizeof zeros, SEGMENT_HEADER_SIZE), sizeof zeros);
    close(fd);
    assert_int_equal(pawl_repair(f->dir, NULL, NULL), 0);
    assert_int_equal(pawl_open(f->dir, &f->options, &f->log, NULL), 0);
    assert_int_equal(pawl_retention_set(f->log, &(pawl_retention){.bytes = 1}), 0);
    assert_int_equal(pawl_retention_apply(f->log), 3);
}

/* Between two records of a partition whole segments come and go. */
static void a_reader_that_misses_nothing_is_not_trimmed(void **state) {
    struct fixture *f = *state;
    pawl_reader *r;
    pawl_batch batch;
    fill(f, f->b, 1);
    assert_int_equal(pawl_reader_open(f->log, f->b, 0, 0, 0, &r), 0);
    assert_int_equal(pawl_read(r, 0, 0, &batch), 1);
    fill(f, f->a, 60);
    assert_int_equal(pawl_retention_set(f->log, &(pawl_retention){.bytes = 1}), 0);
    assert_int_equal(pawl_retention_apply(f->log), 3);
    assert_int_equal(pawl_read(r, 0, 0, &batch), 0);
    fill(f, f->b, 1);
    assert_int_equal(pawl_read(r, 0, 0, &batch), 1);
    assert_int_equal(batch.from, 1);
    pawl_reader_close(r);
}

/* Where a run can't be read, the next call must ask for it again, and not pass over it. */
static void what_could_not_be_read_comes_again(void **state) {
    struct fixture *f = *state;
    int refused = 0;
    fill(f, f->a, 15);
    reopen(f); /* so that it is read from disk */
    uint64_t cap = f->log->mem.cap;
    for (uint64_t more = 0; more < 2000000; more += 10000) { /* memory ends in each place once */
        pawl_reader *r;
        pawl_batch batch;
        assert_int_equal(pawl_reader_open(f->log, f->a, 0, 0, 0, &r), 0);
        f->log->mem.cap = atomic_load(&f->log->mem.used) + more;
        int rc = pawl_read(r, 0, 0, &batch);
        f->log->mem.cap = cap;
        refused += rc == PAWL_MEMORY;
        for (uint64_t got = rc > 0 ? (uint64_t)rc : 0; got < 15; got += (uint64_t)rc) {
            rc = pawl_read(r, 0, 0, &batch);
            if (rc <= 0) {
                pawl_error e;
                pawl_last_error(&e);
                print_message("%s\n", e.message);
            }
            assert_true(rc > 0);
            assert_int_equal(batch.from, got);
        }
        pawl_reader_close(r);
    }
    assert_in_range(refused, 10, 190);
}

/* Each segment holds a commit that refers to the one before it: they must not hang together for
 * ever. */
static void a_chain_of_spilled_transactions_can_be_dropped(void **state) {
    struct fixture *f = *state;
    pawl_record r = big();
    pawl_tx *tx[2] = {NULL, NULL};
    pawl_status s = PAWL_STATUS_INIT;
    /* the older one commits when the newer one has spilled, in the next segment */
    for (int i = 0; i < 12; i++) {
        assert_int_equal(pawl_begin(f->log, &tx[i % 2]), 0);
        for (int k = 0; k < 5; k++)
            assert_int_equal(pawl_put(tx[i % 2], f->b, 0, &r), 0);
        fill(f, f->a, 8);
        if (i > 0)
            assert_int_equal(pawl_commit(tx[(i + 1) % 2], NULL), 0);
    }
    pawl_abort(tx[1]);
    assert_int_equal(pawl_get_status(f->log, &s), 0);
    uint64_t last = s.last_segment;
    assert_in_range(last, 6, 20);
    assert_in_range(f->log->tables.span_count, 5, 20);
    assert_int_equal(pawl_retention_set(f->log, &(pawl_retention){.bytes = 1}), 0);
    assert_in_range(pawl_retention_apply(f->log), last - 2, last);
    /* the records reported as kept can be read, in this handle and in the next */
    for (int again = 0; again < 2; again++) {
        pawl_bounds b;
        pawl_reader *reader;
        pawl_batch batch;
        assert_int_equal(pawl_partition_bounds(f->log, f->b, 0, &b), 0);
        assert_int_equal(b.end, 55);
        assert_int_equal(pawl_reader_open(f->log, f->b, 0, b.first, 0, &reader), 0);
        for (uint64_t at = b.first; at < b.end; at = batch.to)
            assert_true(pawl_read(reader, 0, 0, &batch) > 0);
        pawl_reader_close(reader);
        reopen(f);
    }
    pawl_check c = PAWL_CHECK_INIT;
    assert_int_equal(pawl_audit(f->dir, &c, NULL), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_open_transaction_keeps_what_it_spilled, setup, teardown),
        cmocka_unit_test_setup_teardown(a_position_lets_go_only_when_it_is_durable, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(segments_go_durably_one_by_one, setup, teardown),
        cmocka_unit_test_setup_teardown(retention_goes_on_behind_a_lost_checkpoint, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_reader_that_misses_nothing_is_not_trimmed, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(what_could_not_be_read_comes_again, setup, teardown),
        cmocka_unit_test_setup_teardown(a_chain_of_spilled_transactions_can_be_dropped, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
