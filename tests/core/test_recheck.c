/* SPDX-License-Identifier: Apache-2.0 */
/* A processor runs again over what it has committed: what it does otherwise is named. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/state_log.h"

enum { IN = 2, RECORDS = 600 };

/* What a processor does otherwise, at the record with this number. */
enum otherwise {
    NOTHING,
    OTHER_VALUE,
    OTHER_KEY,
    OTHER_HEADERS,
    ONE_MORE,
    ONE_LESS,
    OTHER_STREAM,
    OTHER_STATE, /* the same outputs */
    NO_STATE,
    FAILS
};

struct code {
    enum otherwise what;
    unsigned at;
    struct fixture *f;
    uint32_t out, other;
};

static int emit(pawl_context *ctx, struct code *c, unsigned n, int64_t sum, bool here) {
    char text[64], key[16];
    enum otherwise what = here ? c->what : NOTHING;
    snprintf(key, sizeof key, "k%u%s", n % 7, what == OTHER_KEY ? "!" : "");
    snprintf(text, sizeof text, "%u=%lld%s", n, (long long)sum, what == OTHER_VALUE ? "!" : "");
    pawl_header h = {.name = "h", .name_len = 1, .value = "v", .value_len = 1};
    pawl_record r = {.key = key,
                     .key_len = (uint16_t)strlen(key),
                     .value = text,
                     .value_len = (uint32_t)strlen(text),
                     .headers = &h,
                     .header_count = what == OTHER_HEADERS ? 0 : 1};
    if (what == ONE_LESS)
        return 0;
    int rc = pawl_emit(ctx, what == OTHER_STREAM ? c->other : c->out, 0, &r);
    return rc == 0 && what == ONE_MORE ? pawl_emit(ctx, c->out, 0, &r) : rc;
}

static int process(pawl_context *ctx, const pawl_record *records, size_t count, void *arg) {
    struct code *c = arg;
    for (size_t i = 0; i < count; i++) {
        char key[16], number[16];
        snprintf(number, sizeof number, "%.*s", (int)records[i].value_len,
                 (const char *)records[i].value);
        unsigned n = (unsigned)strtoul(number, NULL, 10);
        bool here = n == c->at;
        int64_t sum = 0;
        snprintf(key, sizeof key, "k%u", n % 7);
        if (here && c->what == FAILS)
            return pawl_refuse(ctx, i, "not this one"), -1;
        int rc = here && c->what == NO_STATE
                     ? 0
                     : pawl_state_add(ctx, c->f->table, key, strlen(key), 1, &sum);
        if (rc == 0 && here && c->what == OTHER_STATE)
            rc = pawl_state_put(ctx, c->f->table, "x", 1, "y", 1);
        if (rc == 0)
            rc = emit(ctx, c, n, here && c->what == NO_STATE ? 0 : sum, here);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static void add(pawl *log, struct code *c, const uint32_t *in, int guarantee) {
    pawl_processor_config p = PAWL_PROCESSOR_INIT;
    pawl_processor *added;
    p.name = "numbers";
    p.inputs = in;
    p.input_count = 1;
    p.process = process;
    p.arg = c;
    p.batch_max = 37;
    p.guarantee = guarantee;
    assert_int_equal(pawl_processor_add(log, &p, &added), 0);
}

static void feed_numbers(struct fixture *f, uint32_t in, unsigned from, unsigned to) {
    pawl_tx *tx = begin(f);
    for (unsigned i = from; i < to; i++) {
        char text[16];
        pawl_record r = {.value = text, .value_len = (uint32_t)sprintf(text, "%u", i)};
        assert_int_equal(pawl_put(tx, in, i % IN, &r), 0);
    }
    assert_int_equal(pawl_commit(tx, NULL), 0);
}

struct here {
    struct fixture f;
    uint32_t in, out, other;
    char save[96], again[96];
    pawl_savepoint_info info;
};

/* A log whose processor has gone on since its savepoint, which has input that it hadn't seen. */
static void make(struct here *h, struct fixture *f) {
    struct code code = {.f = f};
    h->f = *f;
    snprintf(h->save, sizeof h->save, "%s.save", f->dir);
    snprintf(h->again, sizeof h->again, "%s.again", f->dir);
    assert_int_equal(pawl_stream_create(f->log, "numbers", IN, &h->in), 0);
    assert_int_equal(pawl_stream_create(f->log, "sums", 1, &h->out), 0);
    assert_int_equal(pawl_stream_create(f->log, "other", 1, &h->other), 0);
    assert_int_equal(pawl_processor_register(f->log, "numbers", NULL), 0);
    pawl_table_config c = PAWL_TABLE_CONFIG_INIT;
    c.name = "sums", c.owner = "numbers", c.partitions = IN, c.flags = PAWL_TABLE_LOCAL;
    assert_int_equal(pawl_table_create(f->log, &c, &f->table), 0);
    code.out = h->out, code.other = h->other;
    add(f->log, &code, &h->in, PAWL_EXACTLY_ONCE);
    feed_numbers(f, h->in, 0, RECORDS / 3);
    assert_int_equal(pawl_run(f->log, 0, PAWL_RUN_UNTIL_IDLE), 0);
    feed_numbers(f, h->in, RECORDS / 3, RECORDS / 3 * 2);
    h->info = (pawl_savepoint_info)PAWL_SAVEPOINT_INIT;
    assert_int_equal(pawl_savepoint(f->log, h->save, &h->info), 0);
    feed_numbers(f, h->in, RECORDS / 3 * 2, RECORDS);
    assert_int_equal(pawl_run(f->log, 0, PAWL_RUN_UNTIL_IDLE), 0);
    assert_int_equal(pawl_close(f->log), 0);
    f->log = NULL;
    pawl_options o = PAWL_OPTIONS_INIT;
    o.flags = PAWL_OPEN_READ;
    must_open(f->dir, &o, &h->f.log);
    /* the writer's lock may outlive it a little: then not all is known to be durable yet */
    pawl_status st = PAWL_STATUS_INIT;
    do
        assert_int_equal(pawl_get_status(h->f.log, &st), 0);
    while (st.writer_pid != 0);
}

static int check_again(struct here *h, struct code *code, uint64_t from, pawl_replay_info *info) {
    pawl *again;
    pawl_options o = PAWL_OPTIONS_INIT;
    assert_int_equal(pawl_fork(h->save, h->again, NULL, NULL), 0);
    must_open(h->again, &o, &again);
    add(again, code, &h->in, PAWL_EXACTLY_ONCE);
    *info = (pawl_replay_info)PAWL_REPLAY_INIT;
    info->from_lsn = from;
    int rc = pawl_replay_check(h->f.log, again, "numbers", info);
    pawl_error e;
    pawl_last_error(&e);
    assert_int_equal(close_and_remove(again, h->again), 0);
    if (rc < 0)
        snprintf(info->what, sizeof info->what, "%s", e.message);
    return rc;
}

static void end(struct here *h, struct fixture *f) {
    assert_int_equal(pawl_close(h->f.log), 0);
    assert_int_equal(test_dir_remove(h->save), 0);
    open_log(f);
}

static void what_differs(void **state) {
    static const struct {
        const char *label;
        enum otherwise what;
        unsigned at;
        int want;
        const char *text;
    } cases[] = {
        {"nothing", NOTHING, 0, 0, ""},
        {"the first value", OTHER_VALUE, 200, 1, "value"},
        {"a value among those that the savepoint had", OTHER_VALUE, 350, 1, "value"},
        {"the last value", OTHER_VALUE, 599, 1, "value"},
        {"a value before the savepoint", OTHER_VALUE, 100, 0, ""},
        {"a key", OTHER_KEY, 450, 1, "key"},
        {"headers", OTHER_HEADERS, 451, 1, "headers"},
        {"one more", ONE_MORE, 452, 1, ""},
        {"one more at the end", ONE_MORE, 599, 1, "emitted that weren't"},
        {"one less", ONE_LESS, 453, 1, ""},
        {"one less at the end", ONE_LESS, 599, 1, "not emitted"},
        {"another stream", OTHER_STREAM, 454, 1, ""},
        {"state, and the same outputs", OTHER_STATE, 455, 1, "digest"},
        {"state of the last record", OTHER_STATE, 599, 1, "digest"},
        {"state and outputs", NO_STATE, 456, 1, "value"},
        {"it fails", FAILS, 457, PAWL_PROCESSOR, "refuses"},
    };
    struct fixture *f = *state;
    struct here h;
    make(&h, f);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct code code = {
            .what = cases[i].what, .at = cases[i].at, .f = f, .out = h.out, .other = h.other};
        pawl_replay_info info;
        int rc = check_again(&h, &code, h.info.lsn, &info);
        if (rc != cases[i].want || strstr(info.what, cases[i].text) == NULL)
            fail_msg("%s: %d, %s", cases[i].label, rc, info.what);
        if (rc == 0)
            assert_true(info.records == RECORDS / 3 * 2 && info.outputs == info.records &&
                        info.commits > 10 && info.sums == info.commits);
        if (rc == 1)
            assert_true(info.lsn >= h.info.lsn);
    }
    end(&h, f);
}

static void what_cannot_be_compared(void **state) {
    struct fixture *f = *state;
    struct here h;
    make(&h, f);
    struct code code = {.f = f, .out = h.out, .other = h.other};
    pawl_replay_info info;
    assert_int_equal(check_again(&h, &code, 0, &info), 0); /* earlier commits are passed over */
    assert_int_equal(info.records, RECORDS / 3 * 2);
    pawl_status st = PAWL_STATUS_INIT;
    assert_int_equal(pawl_get_status(h.f.log, &st), 0);
    assert_int_equal(check_again(&h, &code, st.end_lsn, &info), 0);
    assert_int_equal(info.commits, 0);
    assert_int_equal(check_again(&h, &code, (h.info.lsn + st.end_lsn) / 2, &info), PAWL_TILING);
    pawl *again;
    pawl_options o = PAWL_OPTIONS_INIT;
    assert_int_equal(pawl_fork(h.save, h.again, NULL, NULL), 0);
    must_open(h.again, &o, &again);
    assert_int_equal(pawl_replay_check(h.f.log, again, "numbers", NULL), PAWL_NOT_FOUND);
    assert_int_equal(pawl_replay_check(h.f.log, again, "nobody", NULL), PAWL_NOT_FOUND);
    assert_int_equal(pawl_replay_check(h.f.log, h.f.log, "numbers", NULL), PAWL_INVALID);
    assert_int_equal(pawl_replay_check(again, h.f.log, "numbers", NULL), PAWL_STATE);
    assert_int_equal(pawl_replay_check(h.f.log, NULL, "numbers", NULL), PAWL_INVALID);
    pawl_table_info t = PAWL_TABLE_INFO_INIT;
    assert_int_equal(pawl_table_find(again, "sums", &t), 0);
    assert_int_equal(close_and_remove(again, h.again), 0);
    end(&h, f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_differs, setup, teardown),
        cmocka_unit_test_setup_teardown(what_cannot_be_compared, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
