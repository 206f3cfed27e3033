/* SPDX-License-Identifier: Apache-2.0 */
/* Time in processors beside the order of units (test_timers.c): the clock, which the test sets;
 * inputs that are idle and come back; late records; timers that fail; more timers due at once than
 * a commit takes; what is refused. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pawl_time.h"
#include "tests/support/seam_log.h"
#undef fail
#include <cmocka.h>

#define S INT64_C(1000000000)
#define START (INT64_C(1700000000) * S)
#define LINE 80

/* ---- the clock */

static struct seam_ops ops;
static _Atomic uint64_t wall;
static uint64_t fake_realtime(struct seam *s) {
    (void)s;
    return wall;
}
static void set_clock(struct seam *io) {
    ops = *io->ops;
    ops.realtime = fake_realtime;
    io->ops = &ops;
}

/* ---- a log, with a processor that does what its records say */

struct fixture {
    struct seam_log l;
    uint32_t in[2], out, late, dead;
    pawl_processor *proc;
    pawl_reader *reader;
    int64_t seen[8]; /* readings of the clock in callbacks */
    int seen_count;
    bool timers_fail;
};

static int setup(void **state) {
    struct fixture *f = calloc(1, sizeof *f);
    wall = (uint64_t)START;
    if (f == NULL || seam_log_open(&f->l, "time", set_clock) != 0)
        return -1;
    *state = f;
    assert_int_equal(pawl_stream_create(f->l.log, "in-0", 1, &f->in[0]), 0);
    assert_int_equal(pawl_stream_create(f->l.log, "in-1", 1, &f->in[1]), 0);
    assert_int_equal(pawl_stream_create(f->l.log, "out", 1, &f->out), 0);
    assert_int_equal(pawl_stream_create(f->l.log, "late", 1, &f->late), 0);
    assert_int_equal(pawl_stream_create(f->l.log, "dead", 1, &f->dead), 0);
    assert_int_equal(pawl_reader_open(f->l.log, f->out, 0, 0, PAWL_READ_UNCOMMITTED, &f->reader),
                     0);
    return 0;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    pawl_reader_close(f->reader);
    int rc = seam_log_remove(&f->l);
    free(f);
    return rc;
}

static int say(pawl_context *ctx, const struct fixture *f, const char *text) {
    pawl_record r = {.value = text, .value_len = (uint32_t)strlen(text), .timestamp_ns = 1};
    return pawl_emit(ctx, f->out, 0, &r);
}

/* A record's value: "name [e<time>] [c<seconds>] [n<count>]": its name, an event-time timer, a
 * clock timer so long after the clock, that many timers at 1, 2, 3 ... */
static int process(pawl_context *ctx, const pawl_record *r, size_t count, void *arg) {
    struct fixture *f = arg;
    char text[LINE], line[LINE + 8], *at, name[16] = "";
    assert_int_equal(count, 1);
    snprintf(text, sizeof text, "%.*s", (int)r->value_len, (const char *)r->value);
    sscanf(text, "%15s", name);
    snprintf(line, sizeof line, "%s%s", name, pawl_is_late(ctx) ? " late" : "");
    if (f->seen_count < 8)
        f->seen[f->seen_count++] = pawl_clock(ctx);
    int rc = say(ctx, f, line);
    if (rc == 0 && (at = strstr(text, " e")) != NULL)
        rc = pawl_timer_set(ctx, PAWL_EVENT_TIME, atoll(at + 2), name, strlen(name), NULL, 0);
    if (rc == 0 && (at = strstr(text, " c")) != NULL)
        rc = pawl_timer_set(ctx, PAWL_CLOCK_TIME, pawl_clock(ctx) + atoll(at + 2) * S, name,
                            strlen(name), NULL, 0);
    if ((at = strstr(text, " n")) != NULL)
        for (int i = 1; rc == 0 && i <= atoi(at + 2); i++)
            rc = pawl_timer_set(ctx, PAWL_EVENT_TIME, i, NULL, 0, "v", 1);
    return rc;
}

static int on_timer(pawl_context *ctx, const pawl_timer *t, void *arg) {
    struct fixture *f = arg;
    char line[LINE];
    if (f->timers_fail) {
        pawl_refuse(ctx, 0, "on purpose");
        return -1;
    }
    if (t->kind == PAWL_CLOCK_TIME)
        snprintf(line, sizeof line, "clock %.*s", (int)t->key_len, (const char *)t->key);
    else
        snprintf(line, sizeof line, "timer %lld %.*s", (long long)t->time_ns, (int)t->key_len,
                 (const char *)t->key);
    return say(ctx, f, line);
}

static void add(struct fixture *f, uint32_t inputs, const pawl_time_config *given) {
    pawl_processor_config c = PAWL_PROCESSOR_INIT;
    pawl_time_config t = *given;
    c.name = "timed";
    c.inputs = f->in;
    c.input_count = inputs;
    c.process = process;
    c.arg = f;
    c.retries = 1;
    c.backoff_ms = 0;
    c.on_error = PAWL_ON_ERROR_DEAD_LETTER;
    c.dead_letter = f->dead;
    t.on_timer = on_timer;
    t.arg = f;
    assert_int_equal(pawl_processor_add(f->l.log, &c, &f->proc), 0);
    assert_int_equal(pawl_processor_set_time(f->proc, &t), 0);
}

static void append(struct fixture *f, int input, int64_t time, const char *text) {
    pawl_record r = {.value = text, .value_len = (uint32_t)strlen(text), .timestamp_ns = time};
    assert_int_equal(pawl_append(f->l.log, f->in[input], 0, &r, NULL), 0);
}

static void run(struct fixture *f) {
    assert_int_equal(pawl_run(f->l.log, 1, PAWL_RUN_UNTIL_IDLE), 0);
}

/* The next lines of the output; waits for each. */
static void expect(struct fixture *f, const char *const *lines) {
    for (; *lines != NULL; lines++) {
        pawl_batch b;
        char got[LINE];
        assert_int_equal(pawl_read(f->reader, 1, 60000, &b), 1);
        snprintf(got, sizeof got, "%.*s", (int)b.records[0].value_len,
                 (const char *)b.records[0].value);
        assert_string_equal(got, *lines);
    }
}
#define EXPECT(f, ...) expect(f, (const char *const[]){__VA_ARGS__, NULL})

static void expect_nothing(struct fixture *f) {
    pawl_batch b;
    assert_int_equal(pawl_read(f->reader, 1, 0, &b), 0);
}

static pawl_time_info info(struct fixture *f) {
    pawl_time_info i = PAWL_TIME_INFO_INIT;
    assert_int_equal(pawl_processor_get_time(f->l.log, "timed", 0, &i), 0);
    return i;
}

/* ---- the clock */

static void clock_timers(void **state) {
    struct fixture *f = *state;
    pawl_time_config t = PAWL_TIME_CONFIG_INIT;
    t.flags = PAWL_TIME_USES_CLOCK;
    add(f, 1, &t);
    append(f, 0, 1, "a c10");
    append(f, 0, 1, "b c10");
    append(f, 0, 1, "c c5");
    run(f);
    EXPECT(f, "a", "b", "c");
    wall += 4 * (uint64_t)S;
    run(f);
    expect_nothing(f);
    wall += 1 * (uint64_t)S; /* just reached */
    run(f);
    EXPECT(f, "clock c");
    wall -= 3600 * (uint64_t)S; /* set back: it waits, and what it was is kept */
    append(f, 0, 1, "d");
    run(f);
    EXPECT(f, "d");
    expect_nothing(f);
    assert_true(info(f).clock_ns == START + 5 * S && f->seen[3] == START + 5 * S);
    wall += 3600 * (uint64_t)S + 100000 * (uint64_t)S; /* far ahead */
    append(f, 0, 1, "e c1");
    run(f);
    EXPECT(f, "clock a", "clock b", "e"); /* the reading comes before the record */
    run(f);
    expect_nothing(f);
    wall += 2 * (uint64_t)S;
    run(f);
    EXPECT(f, "clock e");
    run(f);
    expect_nothing(f); /* once */
}

static void *run_until_stopped(void *arg) {
    struct fixture *f = arg;
    assert_int_equal(pawl_run(f->l.log, 1, 0), PAWL_STOPPED);
    return NULL;
}

/* Nothing comes but the clock timer itself, and the worker wakes for it. */
static void a_sleeping_worker_wakes(void **state) {
    struct fixture *f = *state;
    pawl_time_config t = PAWL_TIME_CONFIG_INIT;
    pthread_t thread;
    t.flags = PAWL_TIME_USES_CLOCK;
    add(f, 1, &t);
    append(f, 0, 1, "a c1000");
    run(f);
    wall += 1000 * (uint64_t)S - 20000000; /* 20 ms are left, and a fake clock that stands still */
    assert_int_equal(pthread_create(&thread, NULL, run_until_stopped, f), 0);
    EXPECT(f, "a");
    wall += 20000000;
    EXPECT(f, "clock a");
    pawl_stop(f->l.log);
    assert_int_equal(pthread_join(thread, NULL), 0);
    pawl_stop_clear(f->l.log);
}

/* ---- idle inputs */

static void an_idle_input(void **state) {
    struct fixture *f = *state;
    pawl_time_config t = PAWL_TIME_CONFIG_INIT;
    pthread_t thread;
    add(f, 2, &t);
    append(f, 0, 100, "a e150");
    append(f, 0, 200, "b e280");
    run(f);
    EXPECT(f, "a", "b");
    expect_nothing(f);
    assert_true(info(f).watermark_ns == PAWL_TIME_NONE && info(f).idle == 0);
    pawl_processor_remove(f->proc);
    t.idle_ns = 20000000;
    add(f, 2, &t);
    assert_int_equal(pthread_create(&thread, NULL, run_until_stopped, f), 0);
    EXPECT(f, "timer 150 a"); /* the second input is idle now */
    pawl_stop(f->l.log);
    assert_int_equal(pthread_join(thread, NULL), 0);
    pawl_stop_clear(f->l.log);
    assert_true(info(f).watermark_ns == 200 && info(f).idle >= 1 && info(f).inputs == 2);

    pawl_processor_remove(f->proc);
    t.idle_ns = 0; /* from now on it is never idle */
    add(f, 2, &t);
    append(f, 1, 160, "c"); /* behind the others: late */
    append(f, 1, 250, "d");
    run(f);
    EXPECT(f, "c late", "d");
    append(f, 0, 300, "e");
    run(f);
    EXPECT(f, "e");
    assert_true(info(f).watermark_ns == 250 && info(f).idle == 0 && info(f).late == 1);
    append(f, 1, 290, "g");
    run(f);
    EXPECT(f, "g", "timer 280 b");
}

/* ---- late records, failures, many timers */

static void late_records(void **state) {
    struct fixture *f = *state;
    pawl_time_config t = PAWL_TIME_CONFIG_INIT;
    pawl_bounds b;
    t.out_of_order_ns = 10;
    t.late_stream = f->late;
    add(f, 1, &t);
    append(f, 0, 100, "a");
    append(f, 0, 90, "b");
    append(f, 0, 89, "c");
    append(f, 0, -5, "d");
    run(f);
    EXPECT(f, "a", "b");
    expect_nothing(f);
    assert_int_equal(pawl_partition_bounds(f->l.log, f->late, 0, &b), 0);
    assert_int_equal(b.end, 2);
    assert_true(info(f).late == 2 && info(f).watermark_ns == 90);
}

static void timers_that_fail(void **state) {
    struct fixture *f = *state;
    pawl_time_config t = PAWL_TIME_CONFIG_INIT;
    pawl_reader *dead;
    pawl_batch b;
    pawl_header h;
    uint64_t refused;
    add(f, 1, &t);
    append(f, 0, 10, "a e15");
    append(f, 0, 11, "b e15");
    append(f, 0, 20, "c");
    f->timers_fail = true;
    run(f);
    EXPECT(f, "a", "b", "c");
    expect_nothing(f);
    assert_int_equal(pawl_processor_refused(f->proc, &refused, NULL, 0), 0);
    assert_int_equal(refused, 2);
    assert_int_equal(pawl_reader_open(f->l.log, f->dead, 0, 0, 0, &dead), 0);
    assert_int_equal(pawl_read(dead, 0, 0, &b), 2);
    assert_memory_equal(b.records[1].key, "b", 1);
    assert_true(b.records[1].timestamp_ns == 15);
    assert_int_equal(pawl_record_header(&b.records[1], 1, &h), 0);
    assert_memory_equal(h.name, "pawl-timer", 10);
    pawl_reader_close(dead);
    f->timers_fail = false;
    append(f, 0, 30, "d e25");
    run(f);
    EXPECT(f, "d", "timer 25 d");
}

/* They don't fit one commit; each fires once, in order. */
static void more_than_a_commit_takes(void **state) {
    struct fixture *f = *state;
    pawl_time_config t = PAWL_TIME_CONFIG_INIT;
    pawl_status before = PAWL_STATUS_INIT, after = PAWL_STATUS_INIT;
    char line[LINE];
    t.out_of_order_ns = 1000000;
    add(f, 1, &t);
    append(f, 0, 1000, "a n60000"); /* 60,000 timers, none due */
    for (int i = 0; i < 6; i++) {   /* again and again, each other ones */
        snprintf(line, sizeof line, "b e%d", 1000000 + i);
        append(f, 0, 1001, line);
    }
    run(f);
    assert_int_equal(pawl_get_status(f->l.log, &before), 0);
    append(f, 0, 3000000, "c");
    run(f);
    assert_int_equal(pawl_get_status(f->l.log, &after), 0);
    assert_true(after.commits - before.commits >= 3); /* "c" came in one of them */
    EXPECT(f, "a", "b", "b", "b", "b", "b", "b", "c");
    for (int i = 1; i <= 60000; i++) {
        snprintf(line, sizeof line, "timer %d ", i);
        EXPECT(f, line);
    }
    for (int i = 0; i < 6; i++) {
        snprintf(line, sizeof line, "timer %d b", 1000000 + i);
        EXPECT(f, line);
    }
    expect_nothing(f);
    pawl_table_digest d;
    assert_int_equal(pawl_table_get_digest(f->l.log, info(f).table, 0, &d), 0);
    assert_int_equal(d.pairs, 1); /* the watermarks */
}

/* ---- what is refused */

static int refusals(pawl_context *ctx, const pawl_record *r, size_t count, void *arg) {
    struct fixture *f = arg;
    static char big[PAWL_TIMER_VALUE_MAX + 1];
    const void *value;
    size_t len;
    (void)r, (void)count;
    struct {
        const char *label;
        int want, got;
    } cases[] = {
        {"a kind that there isn't", PAWL_INVALID, pawl_timer_set(ctx, 2, 1, "k", 1, NULL, 0)},
        {"no clock", PAWL_STATE, pawl_timer_set(ctx, PAWL_CLOCK_TIME, 1, "k", 1, NULL, 0)},
        {"the lowest time", PAWL_RANGE, pawl_timer_set(ctx, 0, INT64_MIN, "k", 1, NULL, 0)},
        {"the highest time", PAWL_RANGE, pawl_timer_set(ctx, 0, INT64_MAX, "k", 1, NULL, 0)},
        {"a long key", PAWL_TOO_LARGE,
         pawl_timer_set(ctx, 0, 1, big, PAWL_TIMER_KEY_MAX + 1, NULL, 0)},
        {"a long value", PAWL_TOO_LARGE, pawl_timer_set(ctx, 0, 1, "k", 1, big, sizeof big)},
        {"no key", PAWL_INVALID, pawl_timer_set(ctx, 0, 1, NULL, 1, NULL, 0)},
        {"the largest one", 0,
         pawl_timer_set(ctx, 0, INT64_MAX - 1, big, PAWL_TIMER_KEY_MAX, big, sizeof big - 1)},
        {"it is deleted", 1, pawl_timer_delete(ctx, 0, INT64_MAX - 1, big, PAWL_TIMER_KEY_MAX)},
        {"once", 0, pawl_timer_delete(ctx, 0, INT64_MAX - 1, big, PAWL_TIMER_KEY_MAX)},
        {"an empty key", 0, pawl_timer_set(ctx, 0, INT64_MAX - 1, NULL, 0, NULL, 0)},
        {"the internal table", PAWL_STATE, pawl_state_put(ctx, info(f).table, "k", 1, "v", 1)},
        {"reading it", PAWL_STATE, pawl_state_get(ctx, info(f).table, "k", 1, &value, &len)},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        if (cases[i].got != cases[i].want)
            fail_msg("%s: %d, not %d", cases[i].label, cases[i].got, cases[i].want);
    return 0;
}

static void what_is_refused(void **state) {
    struct fixture *f = *state;
    pawl_processor_config c = PAWL_PROCESSOR_INIT;
    pawl_time_config t = PAWL_TIME_CONFIG_INIT;
    pawl_table_config table = PAWL_TABLE_CONFIG_INIT;
    pawl_table_info found = PAWL_TABLE_INFO_INIT;
    pawl_tx *tx;
    c.name = "other";
    c.inputs = f->in;
    c.input_count = 1;
    c.process = refusals;
    c.arg = f;
    c.guarantee = PAWL_AT_LEAST_ONCE;
    assert_int_equal(pawl_processor_add(f->l.log, &c, &f->proc), 0);
    assert_int_equal(pawl_processor_set_time(f->proc, &t), PAWL_STATE);
    pawl_processor_remove(f->proc);
    c.guarantee = PAWL_EXACTLY_ONCE;
    c.name = "timed";
    assert_int_equal(pawl_processor_add(f->l.log, &c, &f->proc), 0);
    t.flags = 2;
    assert_int_equal(pawl_processor_set_time(f->proc, &t), PAWL_INVALID);
    t.flags = 0;
    t.late_stream = 4711;
    assert_int_equal(pawl_processor_set_time(f->proc, &t), PAWL_NOT_FOUND);
    t.late_stream = 0;
    t.on_timer = on_timer;
    t.arg = f;
    assert_int_equal(pawl_processor_set_time(f->proc, &t), 0);
    append(f, 0, 1, "a");
    run(f);
    assert_int_equal(pawl_table_get_info(f->l.log, info(f).table, &found), 0);
    assert_int_equal(found.name[0], '~');
    assert_string_equal(found.owner_name, "timed");
    table.name = found.name, table.owner = "timed", table.partitions = 1;
    assert_int_equal(pawl_table_create(f->l.log, &table, NULL), PAWL_INVALID);
    assert_int_equal(pawl_table_delete(f->l.log, found.name), PAWL_STATE);
    assert_int_equal(pawl_begin(f->l.log, &tx), 0);
    assert_int_equal(pawl_tx_state_put(tx, found.id, 0, "k", 1, "v", 1), PAWL_STATE);
    pawl_abort(tx);
    pawl_processor_remove(f->proc);
    assert_int_equal(pawl_processor_forget(f->l.log, "timed"), 0); /* and its timers */
    assert_int_equal(pawl_table_find(f->l.log, found.name, &found), PAWL_NOT_FOUND);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(clock_timers, setup, teardown),
        cmocka_unit_test_setup_teardown(a_sleeping_worker_wakes, setup, teardown),
        cmocka_unit_test_setup_teardown(an_idle_input, setup, teardown),
        cmocka_unit_test_setup_teardown(late_records, setup, teardown),
        cmocka_unit_test_setup_teardown(timers_that_fail, setup, teardown),
        cmocka_unit_test_setup_teardown(more_than_a_commit_takes, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_refused, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
