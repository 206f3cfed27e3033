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

#include "tests/support/fake_sink.h"

#define COUNT 60u

enum { STABLE = 4 }; /* a kind of this test: idempotent with stable batches */

struct fixture {
    char dir[64];
    pawl_options options;
    pawl *log;
    pawl_sink *sink;
    uint32_t in, dead;
    struct fake *target;
    uint64_t now_ns;
    pawl_sink_config config;
    int kind;
    bool position; /* the target has one, although its kind doesn't need it */
};

static uint64_t now(void *arg) {
    return ((struct fixture *)arg)->now_ns;
}

static void open_log(struct fixture *f) {
    pawl_error e;
    if (pawl_open(f->dir, &f->options, &f->log, &e) != 0)
        fail_msg("%s", e.message);
}

static void add(struct fixture *f) {
    pawl_error e;
    pawl_sink_ops ops = fake_ops(f->target, f->kind == STABLE ? PAWL_SINK_IDEMPOTENT : f->kind);
    ops.flags = f->kind == STABLE ? PAWL_SINK_STABLE : 0;
    ops.flags |= f->position ? PAWL_SINK_POSITION : 0;
    if (pawl_sink_add(f->log, &f->config, &ops, &f->sink, &e) != 0)
        fail_msg("%s", e.message);
}

static void close_all(struct fixture *f) {
    pawl_sink_remove(f->sink);
    f->sink = NULL;
    assert_int_equal(pawl_close(f->log), 0);
    f->log = NULL;
}

static struct fixture *new_fixture(int kind) {
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    strcpy(f->dir, "/tmp/test_sink.XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    f->options = (pawl_options)PAWL_OPTIONS_INIT;
    f->options.flags = PAWL_OPEN_CREATE;
    f->options.segment_size = 1u << 20;
    /* a killed one may hold it until the last of its writes is done */
    f->options.lock_wait_ms = 20000;
    f->kind = kind;
    f->target = fake_new();
    open_log(f);
    assert_int_equal(pawl_stream_create(f->log, "in", 1, &f->in), 0);
    assert_int_equal(pawl_stream_create(f->log, "dead", 1, &f->dead), 0);
    for (uint32_t i = 0; i < COUNT; i++) {
        char text[16];
        pawl_record r = {.value = text,
                         .value_len = (uint32_t)snprintf(text, sizeof text, "%u", i)};
        pawl_tx *tx;
        assert_int_equal(pawl_begin(f->log, &tx), 0);
        assert_int_equal(pawl_put(tx, f->in, 0, &r), 0);
        assert_int_equal(pawl_commit_async(tx, NULL, NULL, NULL), 0);
    }
    assert_int_equal(pawl_sync(f->log), 0);
    f->config = (pawl_sink_config)PAWL_SINK_CONFIG_INIT;
    f->config.name = "to-fake", f->config.inputs = &f->in, f->config.input_count = 1;
    f->config.batch_records = 7;
    f->config.on_poison = PAWL_ON_ERROR_DEAD_LETTER, f->config.dead_letter = f->dead;
    f->config.hooks.now_ns = now, f->config.hooks.now_arg = f, f->config.hooks.seed = 1;
    return f;
}

static void free_fixture(struct fixture *f) {
    char command[96];
    close_all(f);
    snprintf(command, sizeof command, "rm -rf -- '%s'", f->dir);
    assert_int_equal(system(command), 0);
    free(f);
}

/* Steps until nothing is left to do; time passes where it waits. Returns what the last step did. */
static int drive(struct fixture *f) {
    for (int i = 0; i < 5000; i++) {
        int rc = pawl_sink_step(f->sink);
        pawl_flow_status s = PAWL_FLOW_STATUS_INIT;
        assert_int_equal(pawl_sink_status(f->sink, &s), 0);
        if (rc < 0 || (rc > 0 && s.flow == PAWL_FLOW_IDLE))
            return rc;
        if (rc > 0)
            f->now_ns += (uint64_t)rc * 1000000u;
    }
    fail_msg("it never comes to an end");
    return 0;
}

static pawl_flow_status status(struct fixture *f) {
    pawl_flow_status s = PAWL_FLOW_STATUS_INIT;
    assert_int_equal(pawl_sink_status(f->sink, &s), 0);
    return s;
}

static void all_there(struct fixture *f, uint64_t but, const char *when) {
    uint64_t at;
    assert_int_equal(pawl_position_get(f->log, "to-fake", f->in, 0, &at), 0);
    if (at != COUNT)
        fail_msg("%s: kind %d: the position is %llu", when, f->kind, (unsigned long long)at);
    for (uint32_t i = 0; i < COUNT; i++) {
        uint32_t n = f->target->rows[i];
        bool well = i == but ? n == 0 : f->kind >= PAWL_SINK_IDEMPOTENT ? n >= 1 : n == 1;
        if (!well)
            fail_msg("%s: kind %d: record %u is there %u times", when, f->kind, i, n);
    }
    for (size_t i = 0; i < FAKE_PREPARED; i++)
        assert_int_equal(f->target->prepared[i].name[0], 0);
}

static uint32_t dead_letters(struct fixture *f) {
    pawl_bounds b;
    assert_int_equal(pawl_partition_bounds(f->log, f->dead, 0, &b), 0);
    return (uint32_t)b.durable;
}

static void no_decision_is_open(struct fixture *f, const char *when) {
    pawl_decision d;
    if (pawl_decision_at(f->log, 0, &d) == 0)
        fail_msg("%s: kind %d: %s is open", when, f->kind, d.name);
}

/* ---- killed at each point */

static void kill_at(struct fixture *f, const char *point);

static struct {
    const char *point;
    int left;
} killer;

static void kill_here(void *arg, const char *point) {
    (void)arg;
    if (strcmp(point, killer.point) == 0 && killer.left-- == 0)
        _exit(7);
}

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

static void put(struct fixture *f, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        pawl_record r = {.value = "more", .value_len = 4};
        pawl_tx *tx;
        assert_int_equal(pawl_begin(f->log, &tx), 0);
        assert_int_equal(pawl_put(tx, f->in, 0, &r), 0);
        assert_int_equal(pawl_commit(tx, NULL), 0);
    }
}

/* ---- is it the same target */

static char reports[4096];
static void note(void *arg, const char *name, int severity, const char *message) {
    size_t n = strlen(reports);
    (void)arg;
    (void)name;
    snprintf(reports + n, sizeof reports - n, "%d: %s\n", severity, message);
}

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

/* Its position wasn't asked for, so the target has none, or one that stands still. */
static struct fixture *delivered_by_an_older_version(int kind, uint32_t count) {
    struct fixture *f = new_fixture(kind);
    f->config.hooks.report = note;
    f->config.batch_records = 10;
    add(f);
    assert_int_equal(pawl_sink_step(f->sink), 0); /* opens */
    for (uint32_t n = 0; n < count; n += 10)
        assert_int_equal(pawl_sink_step(f->sink), 0);
    close_all(f);
    strcpy(f->target->identity, "id=1");
    f->position = true;
    reports[0] = 0;
    return f;
}

static void an_upgrade_may_fail_anywhere(void **state) {
    (void)state;
    static const int kinds[] = {PAWL_SINK_TWO_PHASE, PAWL_SINK_IDEMPOTENT};
    for (size_t i = 0; i < 2 * sizeof upgrade_cases / sizeof upgrade_cases[0]; i++)
        for (uint64_t stands = 0; stands < 2; stands++) {
            const struct upgrade_case *c = &upgrade_cases[i / 2];
            struct fixture *f = delivered_by_an_older_version(kinds[i % 2], 20);
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
    struct fixture *f = delivered_by_an_older_version(PAWL_SINK_IDEMPOTENT, COUNT);
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

/* ---- two-phase, finished by hand */

/* A process that runs the sink and is killed at the point. */
static void kill_at(struct fixture *f, const char *point) {
    int rc;
    if (f->log != NULL)
        close_all(f);
    pid_t child = fork();
    if (child == 0) {
        killer.point = point, killer.left = 0;
        f->config.hooks.on_point = kill_here;
        open_log(f);
        add(f);
        drive(f);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &rc, 0), child);
    assert_int_equal(WEXITSTATUS(rc), 7);
    open_log(f);
}

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
        cmocka_unit_test(another_target_is_noticed),
        cmocka_unit_test(an_upgrade_may_fail_anywhere),
        cmocka_unit_test(an_upgraded_target_is_known),
        cmocka_unit_test(targets_with_a_position_that_went_back),
        cmocka_unit_test(rolled_back_by_hand_is_told),
        cmocka_unit_test(committed_by_hand_is_recognised),
        cmocka_unit_test(what_nobody_decided_is_rolled_back),
        cmocka_unit_test(decisions_that_cannot_be_listed_are_not_passed_over),
        cmocka_unit_test(decisions_that_others_finish_meanwhile_hide_none),
        cmocka_unit_test(decisions_outlive_a_change_of_guarantee_and_kind),
        cmocka_unit_test(old_promises_hide_none),
        cmocka_unit_test(a_thread_drains_what_is_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
