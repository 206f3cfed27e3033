/* SPDX-License-Identifier: Apache-2.0 */
/* A processor that knows time: what it gets, and in which order, is always the same, whatever the
 * batches, failures, restarts and kills. The model is a loop over the records with a sorted list of
 * timers. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "pawl_time.h"
#include "tests/support/own_log.h"

#define RECORDS 3000u
#define ALLOWED 40
#define BASE INT64_C(1700000000000000000)
#define LINE 64

struct fixture {
    char dir[64];
    pawl_options options;
    pawl *log;
    uint32_t in, out, late;
    pawl_processor *proc;
    unsigned fail_every; /* the callback fails at first for each record divisible by it; 0: never */
    unsigned calls;
};

static void open_log(struct fixture *f) {
    must_open(f->dir, &f->options, &f->log);
}

static int setup(void **state) {
    struct fixture *f = calloc(1, sizeof *f);
    if (f == NULL || test_dir_make(f->dir, "/tmp/test_timers") != 0)
        return -1;
    f->options = small_segments();
    *state = f;
    open_log(f);
    assert_int_equal(pawl_stream_create(f->log, "in", 1, &f->in), 0);
    assert_int_equal(pawl_stream_create(f->log, "out", 1, &f->out), 0);
    assert_int_equal(pawl_stream_create(f->log, "late", 1, &f->late), 0);
    return 0;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    int rc = close_and_remove(f->log, f->dir);
    free(f);
    return rc;
}

/* ---- the records, and what they make the callback do */

/* A record's number is its value; everything else follows from it. */
static uint32_t mixed(uint32_t n) {
    n = (n ^ (n >> 16)) * 0x45d9f3bu;
    n = (n ^ (n >> 16)) * 0x45d9f3bu;
    return n ^ (n >> 16);
}
static int64_t time_of(uint32_t n) {
    return BASE + n + (int64_t)(mixed(n) % 60) - 30 - (mixed(n) % 97 == 0 ? 200 : 0);
}
static char key_of(uint32_t n) {
    return (char)('a' + mixed(n * 3 + 1) % 5);
}
/* Timers that it sets: mostly later, some at once; and one that it deletes. */
static int64_t timer_of(uint32_t n) {
    return (time_of(n) + (int64_t)(mixed(n * 5 + 2) % 300) - 50) / 8 * 8; /* many at one time */
}
static bool deletes(uint32_t n) {
    return n > 0 && mixed(n * 7 + 3) % 4 == 0;
}
/* A timer that sets a further one; one that deletes the next one of its time, and sets the one
 * after that. Both may have been read already. */
static bool sets_again(int64_t time) {
    return time % 3 == 0;
}
static bool meddles(int64_t time) {
    return time % 32 == 0;
}

/* ---- the model */

struct list {
    char (*lines)[LINE];
    size_t count, room;
};

static void add_line(struct list *l, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void add_line(struct list *l, const char *format, ...) {
    va_list args;
    if (l->count == l->room) {
        l->room = l->room == 0 ? 1024 : 2 * l->room;
        l->lines = realloc(l->lines, l->room * LINE);
        assert_non_null(l->lines);
    }
    va_start(args, format);
    vsnprintf(l->lines[l->count++], LINE, format, args);
    va_end(args);
}

struct model_timer {
    int64_t time;
    char key;
};
struct model {
    struct model_timer timers[4096];
    size_t count;
    int64_t mark;
};

static bool before(struct model_timer a, struct model_timer b) {
    return a.time < b.time || (a.time == b.time && a.key < b.key);
}

static bool model_delete(struct model *m, struct model_timer t) {
    for (size_t i = 0; i < m->count; i++)
        if (m->timers[i].time == t.time && m->timers[i].key == t.key) {
            m->timers[i] = m->timers[--m->count];
            return true;
        }
    return false;
}

static void model_set(struct model *m, struct model_timer t) {
    (void)model_delete(m, t);
    assert_true(m->count < 4096);
    m->timers[m->count++] = t;
}

static struct list model_run(uint32_t records) {
    static struct model m;
    struct list out = {0};
    m.count = 0;
    m.mark = INT64_MIN;
    for (uint32_t n = 0; n < records; n++) {
        bool late = m.mark != INT64_MIN && time_of(n) < m.mark;
        add_line(&out, "record %u%s", n, late ? " late" : "");
        model_set(&m, (struct model_timer){timer_of(n), key_of(n)});
        if (deletes(n) && model_delete(&m, (struct model_timer){timer_of(n - 1), key_of(n - 1)}))
            add_line(&out, "deleted %u", n - 1);
        if (time_of(n) - ALLOWED > m.mark)
            m.mark = time_of(n) - ALLOWED;
        for (;;) {
            struct model_timer first = {INT64_MAX, 0};
            for (size_t i = 0; i < m.count; i++)
                if (before(m.timers[i], first))
                    first = m.timers[i];
            if (first.time > m.mark)
                break;
            (void)model_delete(&m, first);
            add_line(&out, "timer %lld %c", (long long)(first.time - BASE), first.key);
            if (sets_again(first.time))
                model_set(&m, (struct model_timer){first.time + 25, first.key});
            if (!meddles(first.time) || first.key > 'e')
                continue;
            (void)model_delete(&m, (struct model_timer){first.time, (char)(first.key + 1)});
            model_set(&m, (struct model_timer){first.time, (char)(first.key + 2)});
        }
    }
    return out;
}

/* ---- the processor */

static int say(pawl_context *ctx, const struct fixture *f, const char *text) {
    pawl_record r = {.value = text, .value_len = (uint32_t)strlen(text), .timestamp_ns = 1};
    return pawl_emit(ctx, f->out, 0, &r);
}

static uint32_t number_of(const pawl_record *r) {
    uint32_t n;
    assert_int_equal(r->value_len, sizeof n);
    memcpy(&n, r->value, sizeof n);
    return n;
}

static int process(pawl_context *ctx, const pawl_record *records, size_t count, void *arg) {
    struct fixture *f = arg;
    char text[LINE], key, old;
    uint32_t n = number_of(records);
    assert_int_equal(count, 1);
    assert_true(pawl_event_time(ctx) == time_of(n));
    snprintf(text, sizeof text, "record %u%s", n, pawl_is_late(ctx) ? " late" : "");
    int rc = say(ctx, f, text);
    key = key_of(n);
    if (rc == 0)
        rc = pawl_timer_set(ctx, PAWL_EVENT_TIME, timer_of(n), &key, 1, "v", 1);
    if (rc == 0 && deletes(n)) {
        old = key_of(n - 1);
        rc = pawl_timer_delete(ctx, PAWL_EVENT_TIME, timer_of(n - 1), &old, 1);
        if (rc == 1) {
            snprintf(text, sizeof text, "deleted %u", n - 1);
            rc = say(ctx, f, text);
        }
    }
    if (rc == 0 && f->fail_every != 0 && ++f->calls % f->fail_every == 0)
        return -1;
    return rc;
}

static int on_timer(pawl_context *ctx, const pawl_timer *t, void *arg) {
    struct fixture *f = arg;
    char text[LINE];
    assert_int_equal(t->kind, PAWL_EVENT_TIME);
    assert_int_equal(t->key_len, 1);
    assert_true(t->time_ns <= pawl_watermark(ctx) && pawl_event_time(ctx) == t->time_ns);
    char key = *(const char *)t->key;
    bool again = sets_again(t->time_ns);
    snprintf(text, sizeof text, "timer %lld %c", (long long)(t->time_ns - BASE), key);
    int rc = say(ctx, f, text);
    if (rc == 0)
        rc = pawl_timer_set(ctx, PAWL_EVENT_TIME, t->time_ns, &key, 1, NULL, 0) == PAWL_RANGE ? 0
                                                                                              : -1;
    if (rc == 0 && again)
        rc = pawl_timer_set(ctx, PAWL_EVENT_TIME, t->time_ns + 25, &key, 1, "w", 1);
    if (rc == 0 && meddles(t->time_ns) && key <= 'e') {
        char next = (char)(key + 1), after = (char)(key + 2);
        rc = pawl_timer_delete(ctx, PAWL_EVENT_TIME, t->time_ns, &next, 1);
        rc = rc < 0 ? rc : pawl_timer_set(ctx, PAWL_EVENT_TIME, t->time_ns, &after, 1, "x", 1);
    }
    if (rc == 0 && f->fail_every != 0 && ++f->calls % f->fail_every == 0)
        return -1;
    return rc;
}

static int get_time(pawl_context *ctx, const pawl_record *r, int64_t *time, void *arg) {
    (void)ctx, (void)arg;
    *time = time_of(number_of(r));
    return 0;
}

static void add_processor(struct fixture *f, uint32_t batch_max) {
    pawl_processor_config c = PAWL_PROCESSOR_INIT;
    pawl_time_config t = PAWL_TIME_CONFIG_INIT;
    c.name = "timed";
    c.inputs = &f->in;
    c.input_count = 1;
    c.process = process;
    c.arg = f;
    c.batch_max = batch_max;
    c.backoff_ms = 0;
    t.out_of_order_ns = ALLOWED;
    t.event_time = get_time;
    t.on_timer = on_timer;
    t.arg = f;
    assert_int_equal(pawl_processor_add(f->log, &c, &f->proc), 0);
    assert_int_equal(pawl_processor_set_time(f->proc, &t), 0);
}

static void feed(struct fixture *f, uint32_t from, uint32_t to) {
    pawl_tx *tx;
    assert_int_equal(pawl_begin(f->log, &tx), 0);
    for (uint32_t n = from; n < to; n++) {
        pawl_record r = {.value = &n, .value_len = sizeof n};
        assert_int_equal(pawl_put(tx, f->in, 0, &r), 0);
    }
    assert_int_equal(pawl_commit(tx, NULL), 0);
}

/* What it has emitted is what the model has. */
static void compare(struct fixture *f, uint32_t records) {
    struct list want = model_run(records);
    pawl_reader *r;
    pawl_batch b;
    size_t at = 0;
    assert_int_equal(pawl_reader_open(f->log, f->out, 0, 0, 0, &r), 0);
    while (pawl_read(r, 0, 0, &b) > 0)
        for (size_t i = 0; i < b.count; i++, at++) {
            char got[LINE];
            snprintf(got, sizeof got, "%.*s", (int)b.records[i].value_len,
                     (const char *)b.records[i].value);
            if (at >= want.count || strcmp(got, want.lines[at]) != 0)
                fail_msg("line %zu of %zu is \"%s\", not \"%s\"", at, want.count, got,
                         at < want.count ? want.lines[at] : "");
        }
    assert_int_equal(at, want.count);
    pawl_reader_close(r);
    free(want.lines);
}

static void run(struct fixture *f) {
    int rc = pawl_run(f->log, 1, PAWL_RUN_UNTIL_IDLE);
    pawl_error e;
    pawl_last_error(&e);
    if (rc != 0)
        fail_msg("%d: %s", rc, e.message);
}

/* ---- tests */

static void batches_do_not_matter(void **state) {
    struct fixture *f = *state;
    static const uint32_t sizes[] = {1, 2, 7, 100, 1000, 0};
    feed(f, 0, RECORDS);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        if (i != 0) {
            pawl_processor_remove(f->proc);
            assert_int_equal(pawl_processor_forget(f->log, "timed"), 0); /* with its timers */
            assert_int_equal(pawl_stream_delete(f->log, "out"), 0);
            assert_int_equal(pawl_stream_create(f->log, "out", 1, &f->out), 0);
        }
        add_processor(f, sizes[i]);
        run(f);
        compare(f, RECORDS);
    }
}

static void restarts_do_not_matter(void **state) {
    struct fixture *f = *state;
    for (uint32_t n = 0; n < RECORDS; n += 250) {
        add_processor(f, 33);
        feed(f, n, n + 250);
        run(f);
        compare(f, n + 250);
        if (n % 1000 == 0)
            assert_int_equal(pawl_state_flush(f->log), 1);
        assert_int_equal(pawl_close(f->log), 0);
        open_log(f);
    }
}

static void failures_do_not_matter(void **state) {
    struct fixture *f = *state;
    feed(f, 0, RECORDS);
    for (f->fail_every = 501; f->fail_every > 6; f->fail_every /= 3) {
        if (f->fail_every != 501) {
            pawl_processor_remove(f->proc);
            assert_int_equal(pawl_processor_forget(f->log, "timed"), 0);
            assert_int_equal(pawl_stream_delete(f->log, "out"), 0);
            assert_int_equal(pawl_stream_create(f->log, "out", 1, &f->out), 0);
        }
        f->calls = 0;
        add_processor(f, 100);
        run(f);
        compare(f, RECORDS);
    }
}

static void a_process_that_is_killed(void **state) {
    struct fixture *f = *state;
    feed(f, 0, RECORDS);
    assert_int_equal(pawl_close(f->log), 0);
    for (unsigned round = 0; round < 8; round++) {
        pid_t pid = fork();
        if (pid == 0) {
            if (pawl_open(f->dir, &f->options, &f->log, NULL) != 0)
                _exit(1);
            add_processor(f, 5 + round);
            _exit(pawl_run(f->log, 0, 0) == 0 ? 0 : 1);
        }
        assert_true(pid > 0);
        usleep(3000u + 4000u * round); /* it runs until it is killed, somewhere */
        assert_int_equal(kill(pid, SIGKILL), 0);
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status));
    }
    open_log(f);
    add_processor(f, 50);
    run(f);
    compare(f, RECORDS);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(batches_do_not_matter, setup, teardown),
        cmocka_unit_test_setup_teardown(restarts_do_not_matter, setup, teardown),
        cmocka_unit_test_setup_teardown(failures_do_not_matter, setup, teardown),
        cmocka_unit_test_setup_teardown(a_process_that_is_killed, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
