/* SPDX-License-Identifier: Apache-2.0
 * test-timeout: 300
 *
 * Sinks of each kind: killed at every named point, with a target that goes away before or after
 * each call took effect, with poison records, with a target that was restored, with prepared
 * batches that someone finished by hand. Every record arrives exactly once, or it is said that it
 * didn't.
 */
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

#include "tests/support/sink_help.h"

/* ---- records that the log loses */

static struct { uint64_t from, to; /* to 0: none */ } loses;

int __real_pawl_read(pawl_reader *r, size_t max, int timeout_ms, pawl_batch *out);
int __wrap_pawl_read(pawl_reader *r, size_t max, int timeout_ms, pawl_batch *out);
int __wrap_pawl_read(pawl_reader *r, size_t max, int timeout_ms, pawl_batch *out) {
    uint64_t at = loses.to != 0 ? pawl_reader_position(r) : 0;
    if (loses.to == 0 || at >= loses.to)
        return __real_pawl_read(r, max, timeout_ms, out);
    if (at < loses.from)
        return __real_pawl_read(r, max < loses.from - at ? max : (size_t)(loses.from - at),
                                timeout_ms, out);
    *out = (pawl_batch){.from = loses.from, .to = loses.to};
    int rc = pawl_reader_seek(r, loses.to);
    return rc < 0 ? rc : PAWL_LOST;
}

/* ---- killed at each point */

static void killed_at(int kind, const char *point, uint64_t poison) {
    for (int nth = 0; nth < 2; nth++) {
        struct fixture *f = new_fixture(kind);
        f->target->poison = poison;
        close_all(f);
        int child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            killer.point = point, killer.left = nth;
            f->config.hooks.on_point = kill_here;
            open_log(f);
            add(f);
            drive(f);
            _exit(0);
        }
        int rc;
        assert_int_equal(waitpid(child, &rc, 0), child);
        bool reached = WIFEXITED(rc) && WEXITSTATUS(rc) == 7;
        if (!reached && nth == 0)
            fail_msg("kind %d never came to %s", kind, point);
        open_log(f);
        add(f);
        drive(f);
        all_there(f, poison, point);
        assert_int_equal(dead_letters(f), poison != UINT64_MAX);
        no_decision_is_open(f, point);
        free_fixture(f);
    }
}

static void killed_anywhere(void **state) {
    static const char *const common[] = {"sink-opened", "sink-recovered", "batch-begun",
                                         "batch-written"},
                             *const one[] = {"target-committed", "log-advanced"},
                             *const two[] = {"batch-prepared", "batch-decided", "batch-committed",
                                             "batch-finished"};
    (void)state;
    for (int kind = PAWL_SINK_TRANSACTIONAL; kind <= STABLE; kind++) {
        for (size_t i = 0; i < 4; i++)
            killed_at(kind, common[i], UINT64_MAX);
        for (size_t i = 0; i < 2 && kind != PAWL_SINK_TWO_PHASE; i++)
            killed_at(kind, one[i], UINT64_MAX);
        for (size_t i = 0; i < 4 && kind == PAWL_SINK_TWO_PHASE; i++)
            killed_at(kind, two[i], UINT64_MAX);
        killed_at(kind, "poison-moved", 20);
        killed_at(kind, "poison-moved", 0);
        killed_at(kind, "batch-begun", 20);
    }
    killed_at(STABLE, "batch-promised", UINT64_MAX);
}

/* ---- the target goes away */

static void every_call_is_tried_again(void **state) {
    (void)state;
    uint64_t retries = 0;
    for (int kind = PAWL_SINK_TRANSACTIONAL; kind <= STABLE; kind++)
        for (int after = 0; after <= 1; after++)
            for (uint32_t every = 4; every < 24; every += 5) {
                struct fixture *f = new_fixture(kind);
                f->target->retry_every = every;
                f->target->retry_after = after != 0;
                add(f);
                drive(f);
                all_there(f, UINT64_MAX, after ? "away after a call" : "away before a call");
                retries += status(f).retries;
                no_decision_is_open(f, "away");
                free_fixture(f);
            }
    assert_true(retries > 100);
}

static void pauses_grow_and_are_capped(void **state) {
    (void)state;
    struct fixture *f = new_fixture(PAWL_SINK_TRANSACTIONAL);
    f->target->retry_every = 1;
    f->config.backoff_ms = 10, f->config.backoff_max_ms = 1000;
    add(f);
    int longest = 0;
    for (uint32_t n = 0; n < 40; n++) {
        uint32_t most = n > 6 ? 1000 : 10u << n;
        int ms = pawl_sink_step(f->sink);
        most = most > 1000 ? 1000 : most;
        assert_in_range(ms, most / 2, most);
        assert_int_equal(status(f).flow, PAWL_FLOW_WAITING);
        assert_int_equal(status(f).attempts, n + 1);
        assert_true(pawl_sink_step(f->sink) > 0); /* before its time: nothing happens */
        assert_int_equal(status(f).attempts, n + 1);
        f->now_ns += (uint64_t)ms * 1000000u;
        longest = ms > longest ? ms : longest;
    }
    f->target->retry_every = 0;
    drive(f);
    assert_int_equal(status(f).attempts, 0);
    all_there(f, UINT64_MAX, "pauses");
    free_fixture(f);
}

/* ---- poison */

static void poison_goes_to_the_dead_letters_once(void **state) {
    (void)state;
    for (int kind = PAWL_SINK_TRANSACTIONAL; kind <= STABLE; kind++)
        for (int how = 0; how < 4; how++)
            for (uint64_t at = 0; at < COUNT; at += at == 0 ? 23 : 36) { /* 0, 23, 59 */
                struct fixture *f = new_fixture(kind);
                f->target->poison = at;
                f->target->poison_untold = how == 1;
                f->target->poison_at_end = how == 2;
                f->target->poison_misnamed = how == 3;
                add(f);
                drive(f);
                all_there(f, at, "poison");
                assert_int_equal(dead_letters(f), 1);
                assert_int_equal(status(f).poisoned, 1);
                close_all(f);
                open_log(f);
                add(f);
                assert_true(drive(f) >= 0);
                assert_int_equal(dead_letters(f), 1);
                free_fixture(f);
            }
}

static void poison_stops_where_it_is_told_to(void **state) {
    (void)state;
    struct fixture *f = new_fixture(PAWL_SINK_TWO_PHASE);
    f->target->poison = 9;
    f->config.on_poison = PAWL_ON_ERROR_STOP;
    add(f);
    assert_int_equal(drive(f), PAWL_PROCESSOR);
    assert_non_null(strstr(status(f).message, "offset 9"));
    assert_non_null(strstr(status(f).message, "not a number"));
    assert_int_equal(status(f).flow, PAWL_FLOW_FAILED);
    for (uint32_t i = 0; i < COUNT; i++)
        assert_int_equal(f->target->rows[i], i < 9);
    free_fixture(f);
}

/* ---- the target was restored */

static void what_the_target_lost_is_delivered_again(void **state) {
    (void)state;
    struct fixture *f = new_fixture(PAWL_SINK_TRANSACTIONAL);
    f->target->poison = 30;
    add(f);
    drive(f);
    close_all(f);
    memset(f->target->rows, 0, sizeof f->target->rows); /* as it was when 20 records were there */
    for (uint32_t i = 0; i < 20; i++)
        f->target->rows[i] = 1;
    f->target->position = 20;
    open_log(f);
    add(f);
    drive(f);
    all_there(f, 30, "restored");
    assert_int_equal(status(f).redelivered, 39);
    assert_int_equal(dead_letters(f), 1);
    close_all(f);
    f->target->position = UINT64_MAX; /* emptied */
    memset(f->target->rows, 0, sizeof f->target->rows);
    open_log(f);
    add(f);
    drive(f);
    all_there(f, 30, "emptied");
    assert_non_null(strstr(status(f).type, "fake"));
    assert_int_equal(dead_letters(f), 1);
    free_fixture(f);
}

static void a_target_beyond_the_log_stops_it(void **state) {
    (void)state;
    struct fixture *f = new_fixture(PAWL_SINK_TRANSACTIONAL);
    f->target->position = COUNT + 1;
    add(f);
    assert_int_equal(drive(f), PAWL_PROCESSOR);
    assert_non_null(strstr(status(f).message, "beyond the log's end"));
    free_fixture(f);
}

/* ---- two-phase, finished by hand */

/* Leaves a decided batch [0, 7) that is prepared in the target. */
static void decide_one(struct fixture *f) {
    kill_at(f, "batch-decided");
    assert_int_not_equal(f->target->prepared[0].name[0], 0);
}

static struct fixture *decided(void) {
    struct fixture *f = new_fixture(PAWL_SINK_TWO_PHASE);
    decide_one(f);
    return f;
}

static void rolled_back_by_hand_is_told(void **state) {
    (void)state;
    for (int policy = PAWL_LOST_STOP; policy <= PAWL_LOST_ACCEPT; policy++)
        for (int untellable = 0; untellable <= 1; untellable++) {
            struct fixture *f = decided();
            f->target->prepared[0].name[0] = 0;
            f->target->untellable = untellable != 0;
            f->config.on_lost = policy;
            add(f);
            int rc = drive(f);
            if (policy == PAWL_LOST_STOP || (policy == PAWL_LOST_REDELIVER && untellable)) {
                assert_int_equal(rc, PAWL_PROCESSOR);
                assert_non_null(strstr(status(f).message, "rolled back by hand"));
                assert_int_equal(f->target->rows[8], 0);
            } else if (policy == PAWL_LOST_REDELIVER) {
                assert_true(rc >= 0);
                all_there(f, UINT64_MAX, "redelivered");
                assert_int_equal(status(f).redelivered, 7);
            } else {
                assert_true(rc >= 0);
                assert_int_equal(status(f).lost, 7);
                assert_int_equal(f->target->rows[6], 0);
                assert_int_equal(f->target->rows[7], 1);
            }
            free_fixture(f);
        }
}

static void committed_by_hand_is_recognised(void **state) {
    (void)state;
    struct fixture *f = decided();
    for (uint32_t i = 0; i < 7; i++)
        f->target->rows[i]++;
    f->target->marker = 7;
    f->target->prepared[0].name[0] = 0;
    add(f);
    drive(f);
    all_there(f, UINT64_MAX, "by hand");
    free_fixture(f);
}

/* The log has decided on it, so no record of it goes elsewhere: the sink stops, and says which. */
static void a_decided_batch_is_never_given_up(void **state) {
    (void)state;
    struct fixture *f = new_fixture(PAWL_SINK_TWO_PHASE);
    f->target->poison_prepared = true;
    add(f);
    assert_int_equal(drive(f), PAWL_PROCESSOR);
    assert_non_null(strstr(status(f).message, "commit_prepared"));
    assert_int_equal(dead_letters(f), 0);
    assert_int_equal(status(f).poisoned, 0);
    close_all(f);
    f->target->poison_prepared = false;
    open_log(f);
    add(f);
    assert_true(drive(f) >= 0);
    all_there(f, UINT64_MAX, "refused once decided");
    assert_int_equal(dead_letters(f), 0);
    no_decision_is_open(f, "refused once decided");
    free_fixture(f);
}

static void what_nobody_decided_is_rolled_back(void **state) {
    (void)state;
    struct fixture *f = decided();
    struct fake_prepared *p = &f->target->prepared[1], *q = &f->target->prepared[2];
    *p = f->target->prepared[0];
    /* "...-0-7": another interval, and another sink's */
    char *from = strrchr(f->target->prepared[0].name, '-') - 1;
    assert_memory_equal(from, "0-7", 3);
    strcpy(p->name + (from - f->target->prepared[0].name), "7-9");
    *q = *p;
    memcpy(strstr(q->name, "to-fake"), "to-folk", 7);
    add(f);
    drive(f);
    assert_int_not_equal(q->name[0], 0);
    q->name[0] = 0;
    all_there(f, UINT64_MAX, "undecided");
    assert_int_equal(status(f).rolled_back, 1);
    assert_int_equal(status(f).recovered, 1);
    free_fixture(f);
}

/* The next allocation of this size fails; 0: none does. */
static size_t fail_realloc;
void *__real_realloc(void *p, size_t size);
void *__wrap_realloc(void *p, size_t size);
void *__wrap_realloc(void *p, size_t size) {
    if (size != 0 && size == fail_realloc) {
        fail_realloc = 0;
        return NULL;
    }
    return __real_realloc(p, size);
}

/* Decided batches are collected from the log, and there is no memory for it: that they aren't in
 * the list must not be taken for that there are none. */
static void decisions_that_cannot_be_listed_are_not_passed_over(void **state) {
    (void)state;
    struct fixture *f = decided();
    for (uint32_t i = 0; i < 7; i++)
        f->target->rows[i]++;
    f->target->marker = 7;
    f->target->prepared[0].name[0] = 0;
    add(f);
    fail_realloc = 16 * 208; /* the first 16 names */
    assert_true(pawl_sink_step(f->sink) > 0);
    assert_int_equal(fail_realloc, 0);
    assert_int_equal(status(f).flow, PAWL_FLOW_WAITING);
    assert_int_equal(status(f).records, 0);
    drive(f);
    all_there(f, UINT64_MAX, "no memory to list");
    no_decision_is_open(f, "no memory to list");
    free_fixture(f);
}

/* Another sink of the same log finishes its decision while this one looks through the list: each
 * later decision then moves one place down. */
static struct {
    pawl *log; /* NULL: nobody does */
    uint32_t processor;
    int left; /* how often its decision is seen before */
} meanwhile;
int __real_pawl_decision_at(pawl *p, uint32_t index, pawl_decision *out);
int __wrap_pawl_decision_at(pawl *p, uint32_t index, pawl_decision *out);
int __wrap_pawl_decision_at(pawl *p, uint32_t index, pawl_decision *out) {
    int rc = __real_pawl_decision_at(p, index, out);
    if (rc == 0 && meanwhile.log == p && out->processor == meanwhile.processor &&
        meanwhile.left-- == 0) {
        pawl_tx *tx;
        meanwhile.log = NULL;
        assert_int_equal(pawl_begin(p, &tx), 0);
        assert_int_equal(pawl_finish(tx, out->processor, out->name), 0);
        assert_int_equal(pawl_commit(tx, NULL), 0);
    }
    return rc;
}

static void decisions_that_others_finish_meanwhile_hide_none(void **state) {
    (void)state;
    for (int n = 0; n < 32; n++) {
        struct fixture *f = new_fixture(PAWL_SINK_TWO_PHASE);
        bool held = n % 2 == 0;
        pawl_tx *tx;
        assert_int_equal(pawl_processor_register(f->log, "other", &meanwhile.processor), 0);
        assert_int_equal(pawl_begin(f->log, &tx), 0);
        assert_int_equal(pawl_decide(tx, meanwhile.processor, "of another sink"), 0);
        assert_int_equal(pawl_commit(tx, NULL), 0);
        decide_one(f);
        if (!held) { /* committed, and only the decision is left */
            for (uint32_t i = 0; i < 7; i++)
                f->target->rows[i]++;
            f->target->marker = 7;
            f->target->prepared[0].name[0] = 0;
        }
        add(f);
        meanwhile.log = f->log, meanwhile.left = n / 2;
        drive(f);
        meanwhile.log = NULL;
        assert_int_equal(status(f).rolled_back, 0);
        assert_int_equal(status(f).recovered, held);
        all_there(f, UINT64_MAX, "finished meanwhile");
        close_all(f); /* whose own decision is finished with it */
        open_log(f);
        if (meanwhile.left < 0)
            no_decision_is_open(f, "finished meanwhile");
        free_fixture(f);
    }
}

/* What was decided is settled whatever the sink's guarantee and kind are by then. */
static void decisions_outlive_a_change_of_guarantee_and_kind(void **state) {
    (void)state;
    struct fixture *f = decided();
    f->config.guarantee = PAWL_AT_LEAST_ONCE;
    add(f);
    assert_true(drive(f) >= 0);
    assert_int_equal(status(f).recovered, 1);
    all_there(f, UINT64_MAX, "a lower guarantee");
    close_all(f);
    open_log(f);
    no_decision_is_open(f, "a lower guarantee");
    free_fixture(f);
    f = decided();
    f->kind = PAWL_SINK_TRANSACTIONAL;
    f->target->position = 7;
    add(f);
    assert_int_equal(drive(f), PAWL_PROCESSOR);
    assert_non_null(strstr(status(f).message, "1 batches that the log has decided on"));
    assert_non_null(strstr(status(f).message, "two phases"));
    assert_int_equal(f->target->rows[7], 0);
    free_fixture(f);
}

/* A promise of a batch's bounds that a lower guarantee has passed over does not hide a newer one:
 * that batch would come again with other bounds, as if it were another batch. */
static void old_promises_hide_none(void **state) {
    (void)state;
    struct fixture *f = new_fixture(STABLE);
    kill_at(f, "batch-promised");
    f->config.guarantee = PAWL_AT_LEAST_ONCE;
    add(f);
    assert_true(drive(f) >= 0);
    put(f, 30);
    close_all(f);
    f->config.guarantee = PAWL_EXACTLY_ONCE, f->config.batch_records = 5;
    open_log(f);
    kill_at(f, "batch-promised");
    f->config.batch_records = 11;
    add(f);
    while (f->target->last_from < COUNT)
        assert_int_equal(pawl_sink_step(f->sink), 0);
    assert_int_equal(f->target->last_from, COUNT);
    assert_int_equal(f->target->last_to, COUNT + 5);
    assert_true(drive(f) >= 0);
    no_decision_is_open(f, "old promises");
    free_fixture(f);
}

/* ---- a thread of its own */

/* The log loses records of a batch whose bounds it has promised: what is left of it goes as a batch
 * of its own, under a promise of its own. */
static void a_promised_batch_that_is_cut(void **state) {
    (void)state;
    struct fixture *f = new_fixture(STABLE);
    kill_at(f, "batch-promised");
    loses.from = 3, loses.to = 5;
    f->config.hooks.report = note;
    reports[0] = 0;
    add(f);
    int rc = drive(f);
    loses.to = 0;
    if (rc < 0)
        fail_msg("it stopped: %s", status(f).message);
    if (strstr(reports, "offsets 3 to 5 are lost in the log") == NULL)
        fail_msg("said: %s", reports);
    for (uint32_t k = 0; k < COUNT; k++)
        assert_int_equal(f->target->rows[k], k != 3 && k != 4);
    no_decision_is_open(f, "cut");
    free_fixture(f);
}

static void a_thread_drains_what_is_there(void **state) {
    (void)state;
    for (int kind = PAWL_SINK_TRANSACTIONAL; kind <= STABLE; kind++) {
        struct fixture *f = new_fixture(kind);
        f->config.hooks.now_ns = NULL;
        f->config.linger_ms = 100000;
        add(f);
        assert_int_equal(pawl_sink_start(f->sink), 0);
        assert_int_equal(pawl_sink_start(f->sink), PAWL_BUSY);
        assert_int_equal(pawl_sink_stop(f->sink, 60000), 0);
        all_there(f, UINT64_MAX, "drained");
        free_fixture(f);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(killed_anywhere),
        cmocka_unit_test(every_call_is_tried_again),
        cmocka_unit_test(pauses_grow_and_are_capped),
        cmocka_unit_test(poison_goes_to_the_dead_letters_once),
        cmocka_unit_test(poison_stops_where_it_is_told_to),
        cmocka_unit_test(what_the_target_lost_is_delivered_again),
        cmocka_unit_test(a_target_beyond_the_log_stops_it),
        cmocka_unit_test(rolled_back_by_hand_is_told),
        cmocka_unit_test(committed_by_hand_is_recognised),
        cmocka_unit_test(what_nobody_decided_is_rolled_back),
        cmocka_unit_test(a_decided_batch_is_never_given_up),
        cmocka_unit_test(decisions_that_cannot_be_listed_are_not_passed_over),
        cmocka_unit_test(decisions_that_others_finish_meanwhile_hide_none),
        cmocka_unit_test(decisions_outlive_a_change_of_guarantee_and_kind),
        cmocka_unit_test(old_promises_hide_none),
        cmocka_unit_test(a_promised_batch_that_is_cut),
        cmocka_unit_test(a_thread_drains_what_is_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
