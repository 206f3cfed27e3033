/* SPDX-License-Identifier: Apache-2.0
 * test-timeout: 300
 *
 * Is the target still the one that the sink delivered to, and where does it stand? Targets that are
 * replaced, that an older version delivered to, or that went back to an earlier state.
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

/* ---- is it the same target */

/* What becomes of a target after 20 of 60 records (or none), and what the sink makes of it. */
static const struct identity_case {
    const char *label;
    const char *before, *after; /* identity() at the two openings; before "": an older version */
    uint32_t delivered;         /* before the second opening */
    bool loses_position, loses_rows;
    int on_replaced;
    const char *says; /* NULL: nothing */
    uint32_t copies;  /* of the first 20 records at the end; UINT32_MAX: the sink has stopped */
} identity_cases[] = {
    {"the same", "id=1 table=2", "id=1 table=2", 20, false, false, 0, NULL, 1},
    {"more is known", "id=1", "id=1 system=7 table=2", 20, false, false, 0, NULL, 1},
    {"less is known", "id=1 system=7", "id=1", 20, false, false, 0, NULL, 1},
    {"another value", "id=1 table=2", "id=1 table=22", 20, false, false, 0,
     "3: the target is not the one that this sink delivered to (table was 2 and is 22)",
     UINT32_MAX},
    {"a longer value", "id=12", "id=1", 20, false, false, 0, "(id was 12 and is 1)", UINT32_MAX},
    {"two other values", "id=1 a=2", "id=3 a=4", 20, false, false, 0,
     "(id was 1 and is 3, a was 2 and is 4)", UINT32_MAX},
    {"another, and nothing delivered yet", "id=1", "id=2", 0, false, false, 0, NULL, 1},
    {"another, adopted", "id=1", "id=2", 20, true, true, PAWL_REPLACED_ADOPT,
     "2: the target has no position for in/0, but 20 were delivered", 0},
    {"another, adopted, with a position", "id=1", "id=2", 20, false, false, PAWL_REPLACED_ADOPT,
     "2: the target is not the one", 1},
    {"another, delivered again", "id=1", "id=2", 20, true, true, PAWL_REPLACED_REDELIVER,
     "2: the target is not the one", 1},
    {"its position is lost", "id=1", "id=1", 20, true, false, 0,
     "3: the target has no position for in/0, but 20 were delivered", UINT32_MAX},
    {"its position is lost, adopted", "id=1", "id=1", 20, true, false, PAWL_REPLACED_ADOPT,
     "as on_replaced says", 1},
    {"its position is lost, delivered again", "id=1", "id=1", 20, true, false,
     PAWL_REPLACED_REDELIVER, "delivered again from 0 on", 2},
    {"an older version delivered", "", "id=1", 20, false, false, 0,
     "1: the target is known from now on as: id=1", 1},
    {"an older version, no position", "", "id=1", 20, true, true, 0, "has no position", UINT32_MAX},
    {"an older version, nothing delivered", "", "id=1", 0, false, false, 0, NULL, 1},
    {"another log's", "", "id=1 log=abc", 0, false, false, 0,
     "3: the target has positions of another log (abc) under the name to-fake", UINT32_MAX},
    {"another log's, adopted", "", "id=1 log=abc", 0, false, false, PAWL_REPLACED_ADOPT,
     "2: the target has positions of another log", 1},
    {"another log's, later", "id=1", "id=1 log=abc", 20, false, false, 0, NULL, 1},
};

static void judge_identity(struct fixture *f, const struct identity_case *c) {
    int rc = drive(f);
    uint32_t n = f->target->rows[0];
    bool stopped = c->copies == UINT32_MAX,
         said = c->says == NULL ? reports[0] == 0 : strstr(reports, c->says) != NULL;
    if (!said || stopped != (rc < 0) || (!stopped && n != c->copies) ||
        (!stopped && (f->target->rows[20] != 1 || f->target->rows[COUNT - 1] != 1)))
        fail_msg("%s: %d, %u copies, said: %s", c->label, rc, n, reports);
}

static void another_target_is_noticed(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof identity_cases / sizeof identity_cases[0]; i++) {
        const struct identity_case *c = &identity_cases[i];
        struct fixture *f = new_fixture(PAWL_SINK_TRANSACTIONAL);
        f->config.hooks.report = note;
        f->config.batch_records = 10;
        snprintf(f->target->identity, sizeof f->target->identity, "%s", c->before);
        if (c->delivered != 0 || c->before[0] != 0) {
            add(f);
            assert_int_equal(pawl_sink_step(f->sink), 0); /* opens */
            for (uint32_t n = 0; n < c->delivered; n += 10)
                assert_int_equal(pawl_sink_step(f->sink), 0);
            close_all(f);
            open_log(f);
        }
        snprintf(f->target->identity, sizeof f->target->identity, "%s", c->after);
        if (c->loses_position)
            f->target->position = UINT64_MAX;
        if (c->loses_rows)
            memset(f->target->rows, 0, sizeof f->target->rows);
        f->config.on_replaced = c->on_replaced;
        reports[0] = 0;
        add(f);
        judge_identity(f, c);
        close_all(f); /* and once more, without an answer: the same, or it was settled */
        f->config.on_replaced = 0;
        open_log(f);
        if (c->copies != UINT32_MAX)
            reports[0] = 0;
        add(f);
        struct identity_case again = *c;
        again.says = c->copies != UINT32_MAX ? NULL : c->says;
        judge_identity(f, &again);
        free_fixture(f);
    }
}

/* ---- an older version delivered, and kept nothing of the target */

/* What happens to the first opening by this version, anywhere between the target's answer and the
 * first batch. */
static const struct upgrade_case {
    const char *label;
    uint32_t retry_in; /* this call of the target's fails once; 0: none */
    const char *killed_at;
} upgrade_cases[] = {
    {"nothing", 0, NULL},
    {"open fails", 1, NULL},
    {"identity fails", 2, NULL},
    {"the next call fails", 3, NULL},
    {"the call after that fails", 4, NULL},
    {"begin fails", 5, NULL},
    {"write fails", 6, NULL},
    {"killed when opened", 0, "sink-opened"},
    {"killed when the position is judged", 0, "position-judged"},
    {"killed when the target is kept", 0, "target-kept"},
    {"killed when recovered", 0, "sink-recovered"},
    {"killed in the first batch", 0, "batch-written"},
};

/* Its position wasn't asked for, so the target has none, or one that stands still. `kept`: what it
 * kept of the target. */
static struct fixture *delivered_by_an_older_version(int kind, uint32_t count, const char *kept) {
    struct fixture *f = new_fixture(kind);
    strcpy(f->target->identity, kept);
    f->config.hooks.report = note;
    f->config.batch_records = 10;
    add(f);
    assert_int_equal(pawl_sink_step(f->sink), 0); /* opens */
    for (uint32_t n = 0; n < count; n += 10)
        assert_int_equal(pawl_sink_step(f->sink), 0);
    close_all(f);
    strcpy(f->target->identity, kept[0] != 0 ? "id=1 position=kept" : "id=1");
    f->position = true;
    reports[0] = 0;
    return f;
}

static void an_upgrade_may_fail_anywhere(void **state) {
    (void)state;
    static const int kinds[] = {PAWL_SINK_TWO_PHASE, PAWL_SINK_IDEMPOTENT, PAWL_SINK_IDEMPOTENT};
    static const char *const kept[] = {"", "", "id=1"}; /* the last: an identity, and no position */
    for (size_t i = 0; i < 3 * sizeof upgrade_cases / sizeof upgrade_cases[0]; i++)
        for (uint64_t stands = 0; stands < 2; stands++) {
            const struct upgrade_case *c = &upgrade_cases[i / 3];
            struct fixture *f = delivered_by_an_older_version(kinds[i % 3], 20, kept[i % 3]);
            f->target->position = stands == 0 ? UINT64_MAX : 10;
            f->target->retry_in = c->retry_in;
            if (c->killed_at != NULL)
                kill_at(f, c->killed_at);
            else
                open_log(f);
            add(f);
            if (drive(f) < 0 || strstr(reports, "delivered again") != NULL)
                fail_msg("%s: kind %d: %s%s", c->label, f->kind, status(f).message, reports);
            for (uint32_t k = 0; k < COUNT; k++)
                if (f->target->rows[k] != 1)
                    fail_msg("%s: kind %d: record %u %u times", c->label, f->kind, k,
                             f->target->rows[k]);
            free_fixture(f);
        }
}

/* What an upgrade allows is not that another target is taken. */
static void an_upgraded_target_is_known(void **state) {
    (void)state;
    static const char *const kept[] = {"", "id=1"};
    for (size_t i = 0; i < 2; i++) {
        struct fixture *f = delivered_by_an_older_version(PAWL_SINK_IDEMPOTENT, COUNT, kept[i]);
        f->target->position = UINT64_MAX;
        open_log(f);
        add(f);
        assert_true(drive(f) >= 0);
        close_all(f);
        strcpy(f->target->identity, "id=2");
        open_log(f);
        add(f);
        assert_int_equal(drive(f), PAWL_PROCESSOR);
        assert_non_null(strstr(status(f).message, "id was 1 and is 2"));
        free_fixture(f);
    }
}

/* The position that an upgrade begins counts from then on, and what a transactional sink lacks was
 * never begun. */
static void a_position_that_was_begun_counts(void **state) {
    (void)state;
    static const int kinds[] = {PAWL_SINK_TRANSACTIONAL, PAWL_SINK_IDEMPOTENT};
    for (size_t i = 0; i < 2; i++) {
        struct fixture *f = delivered_by_an_older_version(kinds[i], 20, "id=1");
        if (kinds[i] == PAWL_SINK_IDEMPOTENT) {
            f->target->position = UINT64_MAX;
            open_log(f);
            add(f);
            assert_true(drive(f) >= 0);
            assert_non_null(strstr(reports, "known from now on"));
            close_all(f);
        }
        f->target->position = UINT64_MAX;
        open_log(f);
        add(f);
        assert_int_equal(drive(f), PAWL_PROCESSOR);
        assert_non_null(strstr(status(f).message, "the target has no position for in/0"));
        free_fixture(f);
    }
}

/* ---- positions that went back */

/* Two-phase and idempotent targets that have a position: one that went back is noticed, and neither
 * poison nor an accepted loss is taken for that. */
static void targets_with_a_position_that_went_back(void **state) {
    (void)state;
    static const int kinds[] = {PAWL_SINK_TWO_PHASE, PAWL_SINK_IDEMPOTENT};
    for (size_t i = 0; i < 2; i++) {
        struct fixture *f = new_fixture(kinds[i]);
        f->position = true;
        f->config.hooks.report = note;
        f->target->poison = 59; /* the last one: the target stays below the log */
        reports[0] = 0;
        for (int n = 0; n < 3; n++) {
            add(f);
            assert_true(drive(f) >= 0);
            all_there(f, 59, "poison at the end");
            assert_null(strstr(reports, "again"));
            assert_int_equal(dead_letters(f), 1);
            close_all(f);
            open_log(f);
        }
        memset(f->target->rows, 0, sizeof f->target->rows);
        for (uint32_t k = 0; k < 20; k++)
            f->target->rows[k] = 1;
        f->target->position = f->target->marker = 20;
        add(f);
        assert_true(drive(f) >= 0);
        all_there(f, 59, "went back");
        assert_non_null(strstr(reports, "delivered again from 20 on"));
        assert_int_equal(status(f).redelivered, 39);
        assert_int_equal(dead_letters(f), 1);
        if (kinds[i] == PAWL_SINK_TWO_PHASE) { /* and forward, which can't be */
            close_all(f);
            open_log(f);
            put(f, 5);
            f->target->position = COUNT + 3;
            add(f);
            assert_int_equal(drive(f), PAWL_PROCESSOR);
            assert_non_null(strstr(status(f).message, "the log was restored"));
        }
        free_fixture(f);
    }
}

/* Delivered again up to the log's own position: that doesn't move. */
static void delivered_again_to_the_end(void **state) {
    (void)state;
    static const int kinds[] = {PAWL_SINK_TRANSACTIONAL, PAWL_SINK_TWO_PHASE, PAWL_SINK_IDEMPOTENT};
    for (size_t i = 0; i < 3; i++) {
        struct fixture *f = new_fixture(kinds[i]);
        f->position = true;
        add(f);
        assert_true(drive(f) >= 0);
        close_all(f);
        memset(f->target->rows, 0, sizeof f->target->rows);
        for (uint32_t k = 0; k < 25; k++)
            f->target->rows[k] = 1;
        f->target->position = f->target->marker = 25;
        open_log(f);
        add(f);
        assert_true(drive(f) >= 0);
        all_there(f, UINT64_MAX, "delivered again to the end");
        assert_int_equal(status(f).redelivered, COUNT - 25);
        free_fixture(f);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(another_target_is_noticed),
        cmocka_unit_test(an_upgrade_may_fail_anywhere),
        cmocka_unit_test(an_upgraded_target_is_known),
        cmocka_unit_test(a_position_that_was_begun_counts),
        cmocka_unit_test(targets_with_a_position_that_went_back),
        cmocka_unit_test(delivered_again_to_the_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
