/* SPDX-License-Identifier: Apache-2.0
 *
 * The processor dedup: what it lets through is what a list of the last ids says, and what a clock
 * says, through failing batches, reopening and other windows; it keeps no more than it says; and
 * what an older version has left, whose window was the end of its output, is taken over, however
 * often that is killed. The test sets the clocks; nothing here waits for time to pass.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "pipeline/engine.h"

#undef fail /* the library has one of its own */
#include <cmocka.h>

#include "pawl_connect.h"
#include "pawl_state.h"

#define NOW_MS UINT64_C(1700000000000)
#define NS_PER_MS UINT64_C(1000000)

static struct { _Atomic uint64_t wall_ns, now_ns; } at; /* the log's threads read it too */

static uint64_t fake_realtime(struct seam *s) {
    (void)s;
    return at.wall_ns;
}

static uint64_t fake_now(struct seam *s) {
    (void)s;
    return ++at.now_ns;
}

struct fixture {
    char dir[64];
    pawl *log;
    uint32_t in, out;
};

static uint32_t stream(pawl *log, const char *name) {
    uint32_t id;
    int rc = pawl_stream_create(log, name, 1, &id);
    assert_true(rc == 0 || rc == PAWL_EXISTS);
    return id;
}

static void open_log(struct fixture *f) {
    static struct seam_ops ops;
    struct seam *io;
    char dir[96];
    pawl_options o = PAWL_OPTIONS_INIT;
    snprintf(dir, sizeof dir, "%s/log", f->dir);
    o.flags = PAWL_OPEN_CREATE;
    o.segment_size = 1u << 20;
    o.memory_cap = 64u << 20;
    o.lock_wait_ms = 5000;
    assert_int_equal(seam_create(dir, true, PAWL_BACKEND_POSIX, PAWL_DIRECT_OFF, &io), 0);
    ops = *io->ops;
    ops.realtime = fake_realtime;
    ops.now = fake_now;
    io->ops = &ops;
    assert_int_equal(engine_open(io, &o, &f->log), 0);
    f->in = stream(f->log, "in");
    f->out = stream(f->log, "out");
}

static struct fixture *new_fixture(void) {
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    strcpy(f->dir, "/tmp/test_dedup.XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    at.wall_ns = NOW_MS * NS_PER_MS;
    at.now_ns = 5000 * NS_PER_MS;
    open_log(f);
    return f;
}

static void reopen(struct fixture *f) {
    assert_int_equal(pawl_close(f->log), 0);
    open_log(f);
}

static void free_fixture(struct fixture *f) {
    char command[96];
    assert_int_equal(pawl_close(f->log), 0);
    snprintf(command, sizeof command, "rm -r %s", f->dir);
    assert_int_equal(system(command), 0);
    free(f);
}

static void append(struct fixture *f, uint32_t to, const void *value, size_t size) {
    pawl_record r = {.value = value, .value_len = (uint32_t)size};
    pawl_tx *tx;
    assert_int_equal(pawl_begin(f->log, &tx), 0);
    assert_int_equal(pawl_put(tx, to, 0, &r), 0);
    assert_int_equal(pawl_commit_async(tx, NULL, NULL, NULL), 0); /* what follows waits for it */
}

static void append_text(struct fixture *f, uint32_t to, const char *value) {
    append(f, to, value, strlen(value));
}

/* Attaches the processor "p" with these settings, runs it until idle, removes it. */
static int run(struct fixture *f, const char *id, const char *bound, const char *value,
               uint32_t batch, pawl_error *e) {
    const pawl_setting s[] = {{"to", "out", 1}, {"id", id, 2}, {bound, value, 3}};
    pawl_processor_config c = PAWL_PROCESSOR_INIT;
    pawl_processor_ops ops = PAWL_PROCESSOR_OPS_INIT;
    pawl_processor *processor;
    *e = (pawl_error){0};
    int rc = pawl_processor_make("dedup", &(pawl_settings){s, 3}, &ops, e);
    assert_int_equal(rc, 0);
    c.name = "p", c.inputs = &f->in, c.input_count = 1;
    c.retries = 0, c.on_error = PAWL_ON_ERROR_SKIP, c.batch_max = batch;
    rc = pawl_processor_attach(f->log, &c, &ops, &processor, e);
    if (rc == 0) {
        rc = pawl_run(f->log, 0, PAWL_RUN_UNTIL_IDLE);
        if (rc < 0)
            pawl_last_error(e);
        pawl_processor_remove(processor);
    }
    ops.destroy(ops.self);
    return rc;
}

static void runs(struct fixture *f, const char *id, const char *bound, const char *value,
                 uint32_t batch) {
    pawl_error e;
    if (run(f, id, bound, value, batch, &e) != 0)
        fail_msg("%s %s: %s", bound, value, e.message);
}

/* The values of a stream, with blanks between. */
static const char *content(struct fixture *f, uint32_t from) {
    static char text[65536];
    size_t n = 0;
    pawl_bounds b;
    pawl_reader *r;
    assert_int_equal(pawl_partition_bounds(f->log, from, 0, &b), 0);
    assert_int_equal(pawl_reader_open(f->log, from, 0, b.first, 0, &r), 0);
    text[0] = 0;
    while (pawl_reader_position(r) < b.durable) {
        pawl_batch batch;
        assert_true(pawl_read(r, 0, 1000, &batch) > 0);
        for (size_t i = 0; i < batch.count; i++) {
            n += (size_t)snprintf(text + n, sizeof text - n, "%.*s ",
                                  (int)batch.records[i].value_len,
                                  (const char *)batch.records[i].value);
            assert_true(n < sizeof text);
        }
    }
    pawl_reader_close(r);
    return text;
}

static uint64_t pairs(struct fixture *f) {
    pawl_table_info info = PAWL_TABLE_INFO_INIT;
    assert_int_equal(pawl_table_find(f->log, "p", &info), 0);
    return info.pairs;
}

/* Many records with few ids, some of which are refused, so that batches fail and come again; the
 * window changes from run to run. */
static void agrees_with_a_list(void **state) {
    enum { ROUNDS = 60, RECORDS = 40, IDS = 12 };
    static unsigned list[ROUNDS * RECORDS];
    static char expected[65536];
    (void)state;
    struct fixture *f = new_fixture();
    unsigned seed = 1, window = 7;
    size_t n = 0, count = 0, kept = 0; /* kept: how many of the list are remembered, at most */
    for (unsigned round = 0; round < ROUNDS; round++) {
        char value[16], number[16];
        for (unsigned i = 0; i < RECORDS; i++) {
            seed = seed * 1664525u + 1013904223u;
            unsigned id = (seed >> 16) % IDS;
            bool bad = (seed >> 8) % 7 == 0, none = (seed >> 9) % 11 == 0, known = false;
            snprintf(value, sizeof value, bad ? "{" : none ? "{}" : "{\"x\":%u}", id);
            append_text(f, f->in, value);
            for (size_t k = count - kept; k < count; k++)
                known |= list[k] == id;
            if (bad || (known && !none))
                continue;
            n += (size_t)snprintf(expected + n, sizeof expected - n, "%s ", value);
            if (none)
                continue;
            list[count++] = id;
            kept = kept < window ? kept + 1 : window;
        }
        snprintf(number, sizeof number, "%u", window);
        runs(f, "json:x", "window", number, 9);
        assert_string_equal(content(f, f->out), expected);
        /* at once exact; what a larger window has left goes with later ids */
        window = 1 + (seed >> 20) % 10;
        kept = kept < window ? kept : window;
        if (round % 3 == 0)
            reopen(f);
    }
    assert_in_range(pairs(f), 3, 2 * 10 + 1);
    free_fixture(f);
}

/* A window that shrinks from many to one gives the rest back, with no huge commit. */
static void a_window_shrinks(void **state) {
    enum { IDS = 4000 };
    (void)state;
    struct fixture *f = new_fixture();
    char value[16];
    for (unsigned i = 0; i < IDS; i++) {
        snprintf(value, sizeof value, "%u", i);
        append_text(f, f->in, value);
    }
    runs(f, "value", "window", "1000000000", 0);
    assert_int_equal(pairs(f), 2 * IDS + 1);
    for (unsigned i = 0; i < IDS; i++) {
        snprintf(value, sizeof value, "%u", i);
        append_text(f, f->in, value);
    }
    runs(f, "value", "window", "1", 100);
    assert_int_equal(pairs(f), 3);
    free_fixture(f);
}

/* Ids of every length are told apart: long ones go by their hash and length. */
static void long_ids(void **state) {
    static const size_t sizes[] = {0, 1, 63, 64, 65, 66, 240, 241, 9000, 70000};
    enum { SIZES = sizeof sizes / sizeof sizes[0] };
    (void)state;
    struct fixture *f = new_fixture();
    pawl_bounds b;
    static char id[70000];
    memset(id, 'x', sizeof id);
    for (unsigned round = 0; round < 2; round++)
        for (size_t i = 0; i < SIZES; i++) {
            append(f, f->in, id, sizes[i]);
            if (sizes[i] > 1) { /* the last byte counts */
                id[sizes[i] - 1] = 'y';
                append(f, f->in, id, sizes[i]);
                id[sizes[i] - 1] = 'x';
            }
        }
    runs(f, "value", "window", "1000", 3);
    assert_int_equal(pawl_partition_bounds(f->log, f->out, 0, &b), 0);
    assert_int_equal(b.end, 2 * SIZES - 2); /* the empty one, and the one of a byte, come once */
    pawl_table_info info = PAWL_TABLE_INFO_INIT;
    assert_int_equal(pawl_table_find(f->log, "p", &info), 0);
    assert_true(info.bytes < info.pairs * 100); /* however long the ids are */
    free_fixture(f);
}

/* ---- a span of time */

static void pass(uint64_t ms) {
    at.wall_ns += ms * NS_PER_MS;
    at.now_ns += ms * NS_PER_MS;
}

static void agrees_with_a_clock(void **state) {
    enum { ROUNDS = 120, IDS = 9, SPAN = 1000 };
    static char expected[65536];
    (void)state;
    struct fixture *f = new_fixture();
    uint64_t let[IDS] = {0}, now = SPAN;
    unsigned seed = 5;
    size_t n = 0;
    for (unsigned round = 0; round < ROUNDS; round++) {
        char value[16];
        bool known[IDS];
        for (unsigned i = 0; i < IDS; i++)
            known[i] = let[i] != 0 && now - let[i] < SPAN;
        for (unsigned i = 0; i < 6; i++) {
            seed = seed * 1664525u + 1013904223u;
            unsigned id = (seed >> 16) % IDS;
            bool bad = (seed >> 8) % 13 == 0;
            snprintf(value, sizeof value, bad ? "{" : "{\"x\":%u}", id);
            append_text(f, f->in, value);
            if (bad || known[id])
                continue;
            known[id] = true;
            let[id] = now; /* a record that is dropped doesn't prolong it */
            n += (size_t)snprintf(expected + n, sizeof expected - n, "%s ", value);
        }
        runs(f, "json:x", "span", "1s", 4);
        assert_string_equal(content(f, f->out), expected);
        if (round % 5 == 0)
            reopen(f);
        uint64_t ms = (seed >> 12) % 300;
        if (round == 50)
            ms = SPAN - (now - let[0]) - 1; /* just before its end, and at it */
        if (round == 51)
            ms = 1;
        pass(ms);
        now += ms;
    }
    free_fixture(f);
}

/* ---- settings */

static void settings(void **state) {
    static const struct {
        const char *name, *value, *says;
    } cases[] = {
        {"window", "0", "line 3: window must be from 1 to 1000000000"},
        {"window", "1000000001", "line 3: window must be from 1 to 1000000000"},
        {"span", "0", "line 3: span must be at least 1ms"},
        {"span", "x", "line 3: span must be a time"},
    };
    (void)state;
    pawl_error e = {0};
    pawl_processor_ops ops = PAWL_PROCESSOR_OPS_INIT;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const pawl_setting s[] = {{"to", "out", 1}, {cases[i].name, cases[i].value, 3}};
        assert_int_equal(pawl_processor_make("dedup", &(pawl_settings){s, 2}, &ops, &e),
                         PAWL_INVALID);
        if (strstr(e.message, cases[i].says) == NULL)
            fail_msg("%s: %s", cases[i].says, e.message);
    }
    const pawl_setting both[] = {{"to", "out", 1}, {"window", "5", 2}, {"span", "5s", 3}};
    assert_int_equal(pawl_processor_make("dedup", &(pawl_settings){both, 3}, &ops, &e),
                     PAWL_INVALID);
    assert_non_null(strstr(e.message, "either window or span"));

    struct fixture *f = new_fixture();
    append_text(f, f->in, "a");
    runs(f, "value", "window", "5", 0);
    assert_int_equal(run(f, "key", "window", "5", 0, &e), PAWL_STATE);
    assert_non_null(strstr(e.message, "made with id \"value\", and now id is \"key\""));
    assert_int_equal(run(f, "value", "span", "5s", 0, &e), PAWL_STATE);
    assert_non_null(strstr(e.message, "made with bound \"window\", and now bound is \"span\""));
    runs(f, "value", "window", "6", 0);
    free_fixture(f);
}

/* ---- what an older version has left */

/* As a dedup of version 0.1 left it: its output has the last ids, and the name p.window has a
 * position there. `held`: where; everything of the input has been read. */
static void leave_old(struct fixture *f, unsigned ids, uint64_t held) {
    uint32_t p, holder;
    char value[16];
    for (unsigned i = 0; i < ids; i++) {
        snprintf(value, sizeof value, i % 5 == 4 ? "{}" : "{\"x\":%u}", i);
        append_text(f, f->in, value);
        append_text(f, f->out, value);
    }
    pawl_tx *tx;
    assert_int_equal(pawl_processor_register(f->log, "p", &p), 0);
    assert_int_equal(pawl_processor_register(f->log, "p.window", &holder), 0);
    assert_int_equal(pawl_begin(f->log, &tx), 0);
    assert_int_equal(pawl_advance(tx, p, f->in, 0, 0, ids), 0);
    assert_int_equal(pawl_advance(tx, holder, f->out, 0, held, held), 0);
    assert_int_equal(pawl_commit(tx, NULL), 0);
}

static bool has_name(struct fixture *f, const char *name) {
    uint32_t id;
    char at_name[128];
    for (uint32_t i = 0; pawl_processor_at(f->log, i, &id, at_name) >= 0; i++)
        if (strcmp(at_name, name) == 0)
            return true;
    return false;
}

/* Ids from `from` to 100, each once more: how many of them come out? */
static uint64_t come_again(struct fixture *f, unsigned from, const char *bound, const char *value) {
    pawl_bounds b, c;
    char text[16];
    assert_int_equal(pawl_partition_bounds(f->log, f->out, 0, &b), 0);
    for (unsigned i = from; i < 100; i++) {
        snprintf(text, sizeof text, "{\"x\":%u}", i);
        if (i % 5 != 4)
            append_text(f, f->in, text);
    }
    runs(f, "json:x", bound, value, 0);
    assert_int_equal(pawl_partition_bounds(f->log, f->out, 0, &c), 0);
    return c.end - b.end;
}

static void takes_over(void **state) {
    static const struct {
        const char *label, *bound, *value;
        unsigned from;  /* which ids come again */
        uint64_t again; /* and how many are let through */
    } cases[] = {
        {"all is in the window", "window", "1000", 0, 0},
        {"the last 50 records have 40 ids", "window", "50", 50, 0},
        {"and no more", "window", "50", 49, 0 /* 49 is a record without an id */},
        {"one more", "window", "50", 48, 40 /* it pushes out the next, and so on */},
        {"a span takes all that was held", "span", "1h", 0, 0},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct fixture *f = new_fixture();
        leave_old(f, 100, 0);
        reopen(f);
        uint64_t again = come_again(f, cases[i].from, cases[i].bound, cases[i].value);
        if (again > cases[i].again || (again == 0) != (cases[i].again == 0))
            fail_msg("%s: %d come again", cases[i].label, (int)again);
        assert_false(has_name(f, "p.window")); /* it holds back retention no more */
        reopen(f);
        append_text(f, f->in, "{\"x\":98}");
        assert_true(strstr(content(f, f->out), "{\"x\":98}") != NULL);
        runs(f, "json:x", cases[i].bound, cases[i].value, 0);
        free_fixture(f);
    }
}

/* A processor that has read records, and left neither a table nor a window, can't be gone on with;
 * a stranger's position under the window's name is left alone. */
static void nothing_to_take_over(void **state) {
    (void)state;
    struct fixture *f = new_fixture();
    uint32_t p, other;
    pawl_error e;
    pawl_tx *tx;
    append_text(f, f->in, "{}");
    assert_int_equal(pawl_processor_register(f->log, "p", &p), 0);
    assert_int_equal(pawl_begin(f->log, &tx), 0);
    assert_int_equal(pawl_advance(tx, p, f->in, 0, 0, 1), 0);
    assert_int_equal(pawl_commit(tx, NULL), 0);
    assert_int_equal(run(f, "json:x", "window", "5", 0, &e), PAWL_STATE);
    assert_non_null(strstr(e.message, "has read records already, and has no table"));
    free_fixture(f);

    f = new_fixture(); /* a new dedup, beside a sink of that name that reads its output */
    append_text(f, f->out, "{\"x\":1}");
    append_text(f, f->in, "{\"x\":1}");
    assert_int_equal(pawl_processor_register(f->log, "p.window", &other), 0);
    assert_int_equal(pawl_begin(f->log, &tx), 0);
    assert_int_equal(pawl_advance(tx, other, f->out, 0, 0, 0), 0);
    assert_int_equal(pawl_commit(tx, NULL), 0);
    runs(f, "json:x", "window", "5", 0);
    assert_string_equal(content(f, f->out), "{\"x\":1} {\"x\":1} ");
    assert_true(has_name(f, "p.window"));
    free_fixture(f);
}

/* Taking over is killed again and again, and done by whichever start isn't. */
static void killed_while_it_takes_over(void **state) {
    enum { IDS = 3000, KILLS = 16 };
    (void)state;
    struct fixture *f = new_fixture();
    leave_old(f, IDS, 0);
    assert_int_equal(pawl_close(f->log), 0);
    unsigned killed = 0;
    int status = 0;
    for (unsigned i = 0; i < KILLS; i++) {
        pid_t child = fork();
        if (child == 0) {
            open_log(f);
            pawl_error e;
            _exit(run(f, "json:x", "window", "5000", 0, &e) != 0);
        }
        struct timespec t = {0, 1000000 + 6000000 * (long)i};
        nanosleep(&t, NULL); /* the time of the kill, not a wait for something */
        kill(child, SIGKILL);
        assert_int_equal(waitpid(child, &status, 0), child);
        killed += WIFSIGNALED(status);
        assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
    }
    open_log(f);
    pawl_bounds b;
    char value[16];
    for (unsigned i = 0; i < IDS; i++) {
        snprintf(value, sizeof value, "{\"x\":%u}", i);
        if (i % 5 != 4)
            append_text(f, f->in, value);
    }
    runs(f, "json:x", "window", "5000", 0);
    assert_int_equal(pawl_partition_bounds(f->log, f->out, 0, &b), 0);
    assert_int_equal(b.end, IDS); /* none came again */
    assert_int_equal(pairs(f), 2 * (IDS - IDS / 5) + 1);
    print_message("killed %u times of %u\n", killed, (unsigned)KILLS);
    free_fixture(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_a_list),
        cmocka_unit_test(a_window_shrinks),
        cmocka_unit_test(long_ids),
        cmocka_unit_test(agrees_with_a_clock),
        cmocka_unit_test(settings),
        cmocka_unit_test(takes_over),
        cmocka_unit_test(nothing_to_take_over),
        cmocka_unit_test(killed_while_it_takes_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
