/* SPDX-License-Identifier: Apache-2.0 */
/* Producers: a sequence is taken once, whatever is sent again, and by the newest holder only. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "pawl.h"
#include "tests/support/two_streams.h"

static int setup(void **state) {
    return fixture_setup(state, "/tmp/test_producers");
}

static pawl_record text(const char *s) {
    return (pawl_record){.value = s, .value_len = (uint32_t)strlen(s)};
}

static uint64_t durable(struct fixture *f, uint32_t stream, uint32_t partition) {
    pawl_bounds b;
    assert_int_equal(pawl_partition_bounds(f->log, stream, partition, &b), 0);
    return b.durable;
}

static pawl_producer *take_over(struct fixture *f, const char *name) {
    pawl_producer *producer;
    assert_int_equal(pawl_producer_open(f->log, name, &producer), 0);
    return producer;
}

/* Sends sequences first to last as one transaction, a record each. */
static int send(struct fixture *f, pawl_producer *producer, uint64_t first, uint64_t last,
                pawl_receipt *receipt) {
    pawl_tx *tx;
    assert_int_equal(pawl_begin(f->log, &tx), 0);
    for (uint64_t i = first; i <= last; i++) {
        char s[24];
        snprintf(s, sizeof s, "%llu", (unsigned long long)i);
        pawl_record r = text(s);
        assert_int_equal(pawl_put(tx, f->a, 0, &r), 0);
    }
    int rc = pawl_tx_sequence(tx, producer, first, last, &last, sizeof last);
    if (rc != 0) {
        pawl_abort(tx);
        return rc;
    }
    return pawl_commit(tx, receipt);
}

static void a_retry_does_nothing_and_tells_the_offset(void **state) {
    struct fixture *f = *state;
    pawl_producer *p = take_over(f, "p");
    pawl_receipt receipt;
    assert_int_equal(pawl_producer_sequence(p), 0);
    assert_int_equal(send(f, p, 1, 3, NULL), 0);
    assert_int_equal(send(f, p, 4, 5, &receipt), 0);
    assert_int_equal(receipt.duplicate, 0);
    assert_int_equal(receipt.offset, 3);
    assert_int_equal(send(f, p, 4, 5, &receipt), 0);
    assert_int_equal(receipt.duplicate, 1);
    assert_int_equal(receipt.offset, 3);
    assert_int_equal(receipt.stream, f->a);
    assert_int_equal(receipt.partition, 0);
    assert_int_equal(pawl_producer_sequence(p), 5);
    assert_int_equal(durable(f, f->a, 0), 5);
    pawl_producer_close(p);
    reopen(f); /* the same after a reopen */
    p = take_over(f, "p");
    assert_int_equal(pawl_producer_sequence(p), 5);
    assert_int_equal(send(f, p, 4, 5, &receipt), 0);
    assert_int_equal(receipt.duplicate, 1);
    assert_int_equal(receipt.offset, 3);
    assert_int_equal(durable(f, f->a, 0), 5);
    pawl_producer_close(p);
}

static void an_older_retry_is_a_duplicate_of_unknown_offset(void **state) {
    struct fixture *f = *state;
    pawl_producer *p = take_over(f, "p");
    pawl_receipt receipt;
    assert_int_equal(send(f, p, 1, 3, NULL), 0);
    assert_int_equal(send(f, p, 4, 5, NULL), 0);
    assert_int_equal(send(f, p, 1, 3, &receipt), 0);
    assert_int_equal(receipt.duplicate, 1);
    assert_true(receipt.offset == UINT64_MAX);
    assert_int_equal(durable(f, f->a, 0), 5);
    pawl_producer_close(p);
}

static void skipping_and_overlapping_are_refused(void **state) {
    struct fixture *f = *state;
    pawl_producer *p = take_over(f, "p");
    assert_int_equal(send(f, p, 2, 2, NULL), PAWL_SEQUENCE);
    assert_int_equal(send(f, p, 1, 3, NULL), 0);
    assert_int_equal(send(f, p, 5, 6, NULL), PAWL_SEQUENCE);
    assert_int_equal(send(f, p, 3, 4, NULL), PAWL_SEQUENCE);
    assert_int_equal(send(f, p, 1, 4, NULL), PAWL_SEQUENCE);
    assert_int_equal(durable(f, f->a, 0), 3);
    assert_int_equal(pawl_producer_sequence(p), 3);
    assert_int_equal(send(f, p, 4, 4, NULL), 0);
    pawl_tx *tx;
    assert_int_equal(pawl_begin(f->log, &tx), 0);
    assert_int_equal(pawl_tx_sequence(tx, p, 0, 0, NULL, 0), PAWL_INVALID);
    assert_int_equal(pawl_tx_sequence(tx, p, 6, 5, NULL, 0), PAWL_INVALID);
    assert_int_equal(pawl_tx_sequence(tx, p, 5, 5, "012345678901234567890123456789012", 33),
                     PAWL_INVALID);
    assert_int_equal(pawl_tx_sequence(tx, p, 5, 5, NULL, 0), 0);
    assert_int_equal(pawl_tx_sequence(tx, p, 6, 6, NULL, 0), PAWL_STATE);
    assert_int_equal(pawl_commit(tx, NULL), 0); /* a sequence without records counts too */
    assert_int_equal(pawl_producer_sequence(p), 5);
    pawl_producer_close(p);
}

static void the_newer_holder_fences_the_older(void **state) {
    struct fixture *f = *state;
    pawl_producer *older = take_over(f, "p");
    assert_int_equal(send(f, older, 1, 1, NULL), 0);
    pawl_tx *tx; /* begun before the takeover, committed after it */
    pawl_record r = text("late");
    assert_int_equal(pawl_begin(f->log, &tx), 0);
    assert_int_equal(pawl_put(tx, f->a, 0, &r), 0);
    assert_int_equal(pawl_tx_sequence(tx, older, 2, 2, NULL, 0), 0);
    pawl_producer *newer = take_over(f, "p");
    assert_int_equal(pawl_producer_sequence(newer), 1);
    assert_int_equal(pawl_commit(tx, NULL), PAWL_FENCED);
    assert_int_equal(send(f, older, 2, 2, NULL), PAWL_FENCED);
    assert_int_equal(durable(f, f->a, 0), 1);
    assert_int_equal(send(f, newer, 2, 2, NULL), 0);
    pawl_producer *other = take_over(f, "q"); /* another name is another matter */
    assert_int_equal(send(f, other, 1, 1, NULL), 0);
    assert_int_equal(send(f, newer, 3, 3, NULL), 0);
    pawl_producer_close(other);
    pawl_producer_close(older);
    pawl_producer_close(newer);
    pawl_producer_close(NULL);
}

static void cookie_and_sequence_survive_reopening(void **state) {
    struct fixture *f = *state;
    pawl_producer *p = take_over(f, "p");
    uint8_t cookie[32], got[40];
    for (uint8_t i = 0; i < 32; i++)
        cookie[i] = (uint8_t)(200 + i);
    assert_int_equal(pawl_producer_cookie(p, got, sizeof got), 0);
    pawl_tx *tx;
    assert_int_equal(pawl_begin(f->log, &tx), 0);
    assert_int_equal(pawl_tx_sequence(tx, p, 1, 77, cookie, 32), 0);
    assert_int_equal(pawl_commit(tx, NULL), 0);
    for (int again = 0; again < 3; again++) {
        assert_int_equal(pawl_producer_sequence(p), 77);
        assert_int_equal(pawl_producer_cookie(p, got, sizeof got), 32);
        assert_memory_equal(got, cookie, 32);
        pawl_producer_close(p);
        reopen(f);
        p = take_over(f, "p");
    }
    pawl_producer_close(p);
    pawl_producer_info info;
    assert_int_equal(pawl_producer_at(f->log, 0, &info), 0);
    assert_string_equal(info.name, "p");
    assert_int_equal(info.sequence, 77);
    assert_true(info.epoch >= 4); /* taken over four times */
    assert_int_equal(pawl_producer_at(f->log, 1, &info), PAWL_NOT_FOUND);
}

static void a_duplicate_moves_nothing_else(void **state) {
    struct fixture *f = *state;
    pawl_producer *p = take_over(f, "p");
    uint32_t processor;
    uint64_t at = 0;
    assert_int_equal(pawl_processor_register(f->log, "proc", &processor), 0);
    assert_int_equal(send(f, p, 1, 2, NULL), 0);
    pawl_tx *tx;
    pawl_receipt receipt;
    assert_int_equal(pawl_begin(f->log, &tx), 0);
    assert_int_equal(pawl_tx_sequence(tx, p, 1, 2, NULL, 0), 0);
    assert_int_equal(pawl_advance(tx, processor, f->a, 0, 0, 1), 0);
    assert_int_equal(pawl_commit(tx, &receipt), 0);
    assert_int_equal(receipt.duplicate, 1);
    assert_int_equal(pawl_position_get(f->log, "proc", f->a, 0, &at), PAWL_NOT_FOUND);
    pawl_producer_close(p);
}

/* Works on for ever; ends by _exit() once `count` are acknowledged, others being under way. */
static void work_and_die(struct fixture *f, uint64_t count) {
    pawl *log;
    pawl_producer *p;
    if (pawl_open(f->dir, &f->options, &log, NULL) != 0 || pawl_producer_open(log, "p", &p) != 0)
        _exit(1);
    uint64_t begin = pawl_producer_sequence(p);
    for (uint64_t i = begin + 1;; i++) {
        pawl_tx *tx;
        pawl_record r = text("crash");
        int rc = pawl_begin(log, &tx) | pawl_put(tx, f->a, 0, &r) |
                 pawl_tx_sequence(tx, p, i, i, &i, sizeof i);
        if (rc != 0 ||
            (i % 50 == 0 ? pawl_commit(tx, NULL) : pawl_commit_async(tx, NULL, NULL, NULL)) != 0)
            _exit(2);
        if (i >= begin + count + 20 && i % 50 == 20)
            _exit(0);
    }
}

static void after_a_crash_the_sequence_equals_the_records(void **state) {
    struct fixture *f = *state;
    uint64_t before = 0;
    for (int round = 0; round < 6; round++) {
        assert_int_equal(pawl_close(f->log), 0);
        f->log = NULL;
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0)
            work_and_die(f, 1000);
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 0);
        reopen(f);
        pawl_producer *p = take_over(f, "p");
        uint64_t sequence = pawl_producer_sequence(p), cookie = 0;
        assert_int_equal(sequence, durable(f, f->a, 0));
        assert_int_equal(pawl_producer_cookie(p, &cookie, sizeof cookie), sizeof cookie);
        assert_int_equal(cookie, sequence);
        assert_true(sequence >= before + 950); /* nothing acknowledged is missing */
        before = sequence;
        pawl_producer_close(p);
    }
}

/* A look-up is no takeover: the holder continues. By a follower too, and for streams by their
 * id. */
static void looking_fences_nobody(void **state) {
    struct fixture *f = *state;
    pawl_producer *p = take_over(f, "p");
    pawl_producer_info info;
    pawl_receipt last = {.stream = 9};
    pawl_stream_info stream;
    uint64_t cookie = 0;
    assert_int_equal(pawl_producer_find(f->log, "p", &info, &last, &cookie, sizeof cookie), 0);
    assert_int_equal(info.sequence, 0);
    assert_int_equal(last.stream, 0);
    assert_int_equal(send(f, p, 1, 3, NULL), 0);
    assert_int_equal(send(f, p, 4, 5, NULL), 0);
    pawl_options o = PAWL_OPTIONS_INIT;
    pawl *follower;
    pawl_record later = text("it tells a follower that the commit before is durable");
    assert_int_equal(pawl_append(f->log, f->b, 0, &later, NULL), 0);
    o.flags = PAWL_OPEN_READ;
    for (int again = 0; again < 2; again++) {
        assert_int_equal(again != 0 ? pawl_open(f->dir, &o, &follower, NULL) : 0, 0);
        pawl *log = again != 0 ? follower : f->log;
        int len = pawl_producer_find(log, "p", &info, &last, &cookie, sizeof cookie);
        assert_string_equal(info.name, "p");
        assert_int_equal(info.id, 1);
        assert_int_equal(info.epoch, 1);
        assert_int_equal(info.sequence, 5);
        assert_int_equal(last.stream, f->a);
        assert_int_equal(last.partition, 0);
        assert_int_equal(last.offset, 3);
        assert_int_equal(len, sizeof cookie);
        assert_int_equal(cookie, 5);
        assert_int_equal(pawl_producer_find(log, "p", &info, NULL, NULL, 0), sizeof cookie);
        assert_int_equal(pawl_producer_find(log, "q", &info, NULL, NULL, 0), PAWL_NOT_FOUND);
        assert_int_equal(pawl_producer_find(log, NULL, &info, NULL, NULL, 0), PAWL_INVALID);
        assert_int_equal(pawl_producer_find(log, "p", NULL, NULL, NULL, 0), PAWL_INVALID);
        assert_int_equal(pawl_producer_find(log, "p", &info, NULL, NULL, 1), PAWL_INVALID);
        assert_int_equal(pawl_stream_get(log, f->b, &stream), 0);
        assert_string_equal(stream.name, "b");
        assert_int_equal(stream.partitions, 4);
        assert_int_equal(pawl_stream_get(log, 3, &stream), PAWL_NOT_FOUND);
        assert_int_equal(pawl_stream_get(log, 0, &stream), PAWL_NOT_FOUND);
        assert_int_equal(pawl_stream_get(log, f->b, NULL), PAWL_INVALID);
        assert_int_equal(again != 0 ? pawl_close(follower) : 0, 0);
    }
    assert_int_equal(send(f, p, 6, 6, NULL), 0);
    pawl_producer_close(p);
}

#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        T(a_retry_does_nothing_and_tells_the_offset),
        T(an_older_retry_is_a_duplicate_of_unknown_offset),
        T(skipping_and_overlapping_are_refused),
        T(the_newer_holder_fences_the_older),
        T(cookie_and_sequence_survive_reopening),
        T(a_duplicate_moves_nothing_else),
        T(after_a_crash_the_sequence_equals_the_records),
        T(looking_fences_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
