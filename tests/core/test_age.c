/* SPDX-License-Identifier: Apache-2.0 */
/* Retention by age, whatever is done to the clock: nothing is dropped before it is as old as the
 * limit, and nothing is kept for ever. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pipeline/engine.h"

#undef fail
#include <cmocka.h>

#include "tests/support/own_log.h"

#define S UINT64_C(1000000000)
#define DAY (86400 * S)
#define NOW (1700000000 * S)
#define VALUE 60000u
#define LIMIT_MS 3600000u /* an hour */

/* ---- the table of age.c */

static const struct {
    const char *label;
    enum age_case expected;
    struct age_stamp from;
    struct seam_clock now;
    uint64_t passed;
} rows[] = {
    {"no stamp", AGE_NO_STAMP, {0, 1 * S, 7, NOW, 0}, {NOW + DAY, DAY, 7, true}, 0},
    {"same boot", AGE_SAME_BOOT, {0, S, 7, NOW, 1}, {NOW + 9 * S, 10 * S, 7, false}, 9 * S},
    {"same boot, set 400 days ahead",
     AGE_SAME_BOOT,
     {0, S, 7, NOW, 1},
     {NOW + 400 * DAY, 10 * S, 7, false},
     9 * S},
    {"same boot, set 400 days back",
     AGE_SAME_BOOT,
     {0, S, 7, NOW, 1},
     {NOW - 400 * DAY, 10 * S, 7, false},
     9 * S},
    {"same boot, from 1970 to now, by the network",
     AGE_SAME_BOOT,
     {0, S, 7, 3 * S, 1},
     {NOW, 10 * S, 7, true},
     9 * S},
    {"same boot, no time", AGE_SAME_BOOT, {0, S, 7, NOW, 1}, {NOW, S, 7, false}, 0},
    {"same boot, its clock went back",
     AGE_BOOT_BEHIND,
     {0, 10 * S, 7, NOW, 1},
     {NOW + DAY, 9 * S, 7, false},
     0},
    {"no boot id, clocks agree",
     AGE_CLOCKS_AGREE,
     {0, S, 0, NOW, 1},
     {NOW + DAY + 3 * S, S + DAY, 0, false},
     DAY},
    {"no boot id, set ahead", AGE_UNSURE, {0, S, 0, NOW, 1}, {NOW + DAY, 2 * S, 0, false}, 0},
    {"no boot id now", AGE_CLOCKS_AGREE, {0, S, 7, NOW, 1}, {NOW + S, 2 * S, 0, false}, S},
    {"no boot id, boot clock behind",
     AGE_UNSURE,
     {0, 5 * S, 0, NOW, 1},
     {NOW + S, 2 * S, 0, false},
     0},
    {"another boot, no network", AGE_UNSURE, {0, S, 7, NOW, 1}, {NOW + DAY, S, 8, false}, 0},
    {"another boot, network only now", AGE_UNSURE, {0, S, 7, 3 * S, 1}, {NOW, S, 8, true}, 0},
    {"another boot, network only then",
     AGE_UNSURE,
     {0, S, 7, NOW, 3},
     {NOW + 400 * DAY, S, 8, false},
     0},
    {"another boot, the network's time",
     AGE_NETWORK_TIME,
     {0, S, 7, NOW, 3},
     {NOW + 30 * DAY, S, 8, true},
     30 * DAY},
    {"another boot, the network's time went back",
     AGE_UNSURE,
     {0, S, 7, NOW, 3},
     {NOW - S, S, 8, true},
     0},
    {"another boot, begins in 1970", AGE_UNSURE, {0, S, 7, NOW, 3}, {5 * S, 5 * S, 8, false}, 0},
};

static void cases(void **state) {
    bool met[AGE_CASES] = {false};
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        enum age_case c;
        print_message("%s\n", rows[i].label);
        assert_true(age_passed(&rows[i].from, &rows[i].now, &c) == rows[i].passed);
        assert_int_equal(c, rows[i].expected);
        met[c] = true;
        struct age_stamp at = rows[i].from;
        at.age_ns = 77;
        (void)age_move(&at, &rows[i].now);
        assert_true(at.age_ns == 77 + rows[i].passed); /* it never becomes younger */
        assert_true(at.wall_ns == rows[i].now.wall_ns && at.boot_id == rows[i].now.boot_id);
        assert_int_equal(at.flags, rows[i].now.network ? AGE_VALID | AGE_NETWORK : AGE_VALID);
    }
    for (int i = 0; i < AGE_CASES; i++)
        assert_true(met[i]);
}

/* A stamp comes from a file, so its numbers may be any. */
static void stamps_that_no_log_writes(void **state) {
    static const struct {
        const char *label;
        struct age_stamp from;
        struct seam_clock now;
        uint64_t age_ns;
    } stamps[] = {
        {"as old as can be", {UINT64_MAX, S, 7, NOW, 1}, {NOW + S, 2 * S, 7, false}, UINT64_MAX},
        {"nearly", {UINT64_MAX - S, S, 7, NOW, 1}, {NOW, 9 * S, 7, false}, UINT64_MAX},
        {"clocks at their ends", {0, 0, 7, 0, 1}, {UINT64_MAX, UINT64_MAX, 7, false}, UINT64_MAX},
        {"far ahead of now", {5, S, 7, UINT64_MAX, 1}, {NOW, 2 * S, 7, false}, 5 + S},
        {"half of the range apart",
         {5, 0, 7, UINT64_C(1) << 63, 1},
         {0, UINT64_C(1) << 63, 7, false},
         5 + (UINT64_C(1) << 63)},
    };
    (void)state;
    for (size_t i = 0; i < sizeof stamps / sizeof stamps[0]; i++) {
        struct age_stamp at = stamps[i].from;
        print_message("%s\n", stamps[i].label);
        (void)age_move(&at, &stamps[i].now);
        assert_true(at.age_ns == stamps[i].age_ns);
    }
}

static void what_was_set_is_told(void **state) {
    (void)state;
    struct age_stamp at = {0, S, 7, NOW, AGE_VALID};
    assert_true(age_move(&at, &(struct seam_clock){NOW + 11 * S, 11 * S, 7, false}) == 0);
    assert_true(age_move(&at, &(struct seam_clock){NOW + DAY, 12 * S, 7, false}) ==
                (int64_t)(DAY - 12 * S));
    assert_true(age_move(&at, &(struct seam_clock){NOW + 13 * S, 13 * S, 7, false}) ==
                -(int64_t)(DAY - 12 * S));
    /* a day's drift of a minute is none */
    assert_true(age_move(&at, &(struct seam_clock){NOW + DAY + 73 * S, DAY + 13 * S, 7, false}) ==
                0);
}

static void the_limit_itself_is_kept(void **state) {
    struct age_stamp next = {10 * S, 0, 7, NOW, AGE_VALID}, now = next;
    (void)state;
    now.age_ns = 10 * S + 3600 * S;
    assert_false(age_over(&next, &now, LIMIT_MS));
    now.age_ns += S / 1000 - 1;
    assert_false(age_over(&next, &now, LIMIT_MS));
    now.age_ns += 1;
    assert_true(age_over(&next, &now, LIMIT_MS));
    now.age_ns = 0;
    assert_false(age_over(&next, &now, LIMIT_MS));
    now.age_ns = UINT64_MAX;
    next.flags = 0; /* an older version's checkpoint */
    assert_false(age_over(&next, &now, LIMIT_MS));
}

/* ---- a log on clocks of our own */

static struct seam_clock clocks;
static const struct seam_ops *real;
static struct seam_ops ops;
static char said[512];

static void our_clocks(struct seam *s, struct seam_clock *out) {
    (void)s;
    *out = clocks;
}

static uint64_t our_realtime(struct seam *s) {
    (void)s;
    return clocks.wall_ns;
}

static void say(void *arg, int severity, const char *message) {
    (void)arg;
    (void)severity;
    snprintf(said, sizeof said, "%s", message);
}

struct fixture {
    char dir[64];
    pawl *log;
    uint32_t a;
};

static void open_log(struct fixture *f) {
    struct seam *io;
    pawl_options o = PAWL_OPTIONS_INIT;
    o.flags = PAWL_OPEN_CREATE;
    o.segment_size = MIB;
    o.no_thread = 1;
    o.log = say;
    said[0] = 0;
    assert_int_equal(seam_create(f->dir, true, PAWL_BACKEND_POSIX, PAWL_DIRECT_AUTO, &io), 0);
    real = io->ops;
    ops = *real;
    ops.clocks = our_clocks;
    ops.realtime = our_realtime;
    io->ops = &ops;
    assert_int_equal(engine_open(io, &o, &f->log), 0);
}

static int setup(void **state) {
    struct fixture *f = calloc(1, sizeof *f);
    if (f == NULL)
        return -1;
    if (test_dir_make(f->dir, "/tmp/test_age") != 0)
        return -1;
    clocks = (struct seam_clock){NOW, 100 * S, 7, false};
    *state = f;
    open_log(f);
    return pawl_stream_create(f->log, "a", 1, &f->a) < 0 ||
                   pawl_retention_set(f->log, &(pawl_retention){.ms = LIMIT_MS}) < 0
               ? -1
               : 0;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    int rc = close_and_remove(f->log, f->dir);
    free(f);
    return rc;
}

static void tell(pawl *p) {
    pthread_mutex_lock(&p->mutex);
    notice_tell(p);
    engine_leave(p);
}

/* Fills more than a segment: what was there before is then in older segments. */
static void fill(const struct fixture *f) {
    static uint8_t value[VALUE];
    pawl_record r = {.value = value, .value_len = VALUE};
    for (int i = 0; i < 20; i++)
        assert_int_equal(pawl_append(f->log, f->a, 0, &r, NULL), 0);
}

static void pass(uint64_t ns) {
    clocks.wall_ns += ns;
    clocks.boot_ns += ns;
}

static void again(struct fixture *f, uint64_t off_ns, int64_t set_ns, uint64_t boot) {
    assert_int_equal(pawl_close(f->log), 0);
    pass(off_ns);
    clocks.wall_ns += (uint64_t)set_ns;
    if (boot != clocks.boot_id)
        clocks.boot_ns = 50 * S;
    clocks.boot_id = boot;
    open_log(f);
}

static int dropped(const struct fixture *f) {
    int n = pawl_retention_apply(f->log);
    assert_true(n >= 0);
    return n;
}

static void not_a_moment_early(void **state) {
    struct fixture *f = *state;
    fill(f);
    pass(60 * S); /* the second segment is half full, and a minute old */
    fill(f);
    uint64_t last = f->log->wal.segment;
    pass(3540 * S);
    assert_int_equal(dropped(f), 0); /* the first segment's end is an hour old, to the second */
    pass(S / 1000);
    assert_int_equal(dropped(f), 1); /* and a millisecond */
    pass(59 * S);
    assert_int_equal(dropped(f), 0);
    pass(S + S / 1000);
    assert_true(dropped(f) >= 1);
    assert_int_equal(f->log->wal.first_segment, last);
}

/* The clock is set in both directions, by much, again and again. */
static void jumps_drop_nothing_and_keep_nothing(void **state) {
    static const int64_t days[] = {400, -800, 400, -18000, 18000, 1, -1};
    struct fixture *f = *state;
    fill(f);
    fill(f);
    for (size_t i = 0; i < sizeof days / sizeof days[0]; i++) {
        clocks.wall_ns += (uint64_t)(days[i] * (int64_t)DAY);
        assert_int_equal(dropped(f), 0);
        tell(f->log);
    }
    assert_non_null(strstr(said, "the clock was set 86400 seconds back"));
    pass(3601 * S);
    assert_true(dropped(f) >= 1);
}

static void jumps_while_closed(void **state) {
    struct fixture *f = *state;
    fill(f);
    fill(f);
    again(f, 60 * S, 400 * (int64_t)DAY, 7);
    assert_int_equal(dropped(f), 0);
    tell(f->log);
    assert_non_null(strstr(said, "34560000 seconds ahead"));
    fill(f); /* with the clock 400 days ahead */
    again(f, 60 * S, -400 * (int64_t)DAY, 7);
    assert_int_equal(dropped(f), 0);
    pass(3400 * S);
    assert_int_equal(dropped(f), 0);
    pass(81 * S); /* an hour since the first two segments */
    assert_true(dropped(f) >= 1);
    uint64_t last = f->log->wal.segment;
    fill(f);
    pass(3600 * S); /* and an hour since those written ahead of time */
    (void)dropped(f);
    assert_true(f->log->wal.first_segment >= last);
}

/* In the same boot the time that the log was closed counts. */
static void closed_time_counts(void **state) {
    struct fixture *f = *state;
    fill(f);
    fill(f);
    again(f, 3601 * S, 0, 7);
    assert_true(dropped(f) >= 1);
}

/* A machine without a battery: each boot begins in 1970, and the network sets the clock later. */
static void boots_in_1970(void **state) {
    struct fixture *f = *state;
    fill(f);
    fill(f);
    for (uint64_t boot = 8; boot < 16; boot++) {
        again(f, 0, -(int64_t)clocks.wall_ns, boot);
        assert_non_null(strstr(said, "doesn't count the time since the log was last open"));
        pass(60 * S);
        assert_int_equal(dropped(f), 0);
        clocks.wall_ns = NOW + boot * DAY; /* the network's time */
        clocks.network = true;
        assert_int_equal(dropped(f), 0);
        pass(340 * S); /* 400 s watched in each boot */
        assert_int_equal(dropped(f), 0);
        clocks.network = false;
    }
    again(f, 0, -(int64_t)clocks.wall_ns, 16);
    pass(399 * S);
    assert_int_equal(dropped(f), 0);
    pass(2 * S);
    assert_true(dropped(f) >= 1);
}

/* Where the network keeps the clock, the time that a machine is off counts. */
static void off_by_the_networks_time(void **state) {
    struct fixture *f = *state;
    clocks.network = true;
    fill(f);
    fill(f);
    again(f, 3601 * S, 0, 8);
    assert_true(dropped(f) >= 1);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cases),
        cmocka_unit_test(stamps_that_no_log_writes),
        cmocka_unit_test(what_was_set_is_told),
        cmocka_unit_test(the_limit_itself_is_kept),
        TEST(not_a_moment_early),
        TEST(jumps_drop_nothing_and_keep_nothing),
        TEST(jumps_while_closed),
        TEST(closed_time_counts),
        TEST(boots_in_1970),
        TEST(off_by_the_networks_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
