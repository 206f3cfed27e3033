/* SPDX-License-Identifier: Apache-2.0 */
/* When runs are merged: a table of labelled cases; then the stated bounds on bytes written, on the
 * number of runs, on space and on waste, by simulations that know sizes only. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "state/policy.h"

#include <cmocka.h>

#define KIB UINT64_C(1024)
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)
#define HOUR UINT64_C(3600000)
#define NOW (UINT64_C(1000000) * HOUR)
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* ---- single decisions */

/* Groups of runs, newest first. */
struct group {
    uint32_t count;
    struct policy_run run;
};

static const struct {
    const char *label;
    struct group groups[5];
    struct policy_limits limits;
    struct policy_merge expected; /* why, first, count, level, drops */
} rows[] = {
    {"no run", {{0}}, {GIB, MIB, NOW, HOUR, 20}, {POLICY_NOTHING, 0, 0, 0, false}},
    {"one run, all of it live",
     {{1, {0, MIB, NOW, 0, 0}}},
     {MIB, MIB, NOW, HOUR, 20},
     {POLICY_NOTHING, 0, 0, 0, false}},
    {"one run, estimated as dead, but nothing in it could go",
     {{1, {0, 100 * MIB, 0, 0, 0}}},
     {MIB, MIB, NOW, HOUR, 20},
     {POLICY_NOTHING, 0, 0, 0, false}},
    {"one run, dead, with tombstones",
     {{1, {3, 100 * MIB, NOW, 5, 0}}},
     {MIB, MIB, NOW, HOUR, 20},
     {POLICY_SPACE, 0, 1, 3, true}},
    {"one run, dead, expired",
     {{1, {3, 100 * MIB, NOW, 0, NOW}}},
     {MIB, MIB, NOW, HOUR, 20},
     {POLICY_SPACE, 0, 1, 3, true}},
    {"seven of a level",
     {{7, {0, MIB, NOW, 0, 0}}, {1, {2, 20 * MIB, NOW, 0, 0}}},
     {20 * MIB, MIB, NOW, HOUR, 20},
     {POLICY_NOTHING, 0, 0, 0, false}},
    {"eight of a level",
     {{8, {0, MIB, NOW, 0, 0}}, {1, {2, 20 * MIB, NOW, 0, 0}}},
     {20 * MIB, MIB, NOW, HOUR, 20},
     {POLICY_TIERED, 0, 8, 1, false}},
    {"eight of an upper level, newer ones stay",
     {{3, {0, MIB, NOW, 0, 0}}, {8, {1, 8 * MIB, NOW, 0, 0}}, {1, {4, 99 * MIB, NOW, 0, 0}}},
     {99 * MIB, MIB, NOW, HOUR, 20},
     {POLICY_TIERED, 3, 8, 2, false}},
    {"two levels are full: the newer first",
     {{8, {0, MIB, NOW, 0, 0}}, {8, {1, 8 * MIB, NOW, 0, 0}}, {1, {4, 99 * MIB, NOW, 0, 0}}},
     {99 * MIB, MIB, NOW, HOUR, 20},
     {POLICY_TIERED, 0, 8, 1, false}},
    {"eight of a level, but not neighbours",
     {{4, {0, MIB, NOW, 0, 0}}, {1, {1, 8 * MIB, NOW, 0, 0}}, {4, {0, MIB, NOW, 0, 0}}},
     {16 * MIB, MIB, NOW, HOUR, 20},
     {POLICY_NOTHING, 0, 0, 0, false}},
    {"eight of a level, among them the oldest",
     {{8, {0, MIB, NOW, 3, 0}}},
     {8 * MIB, MIB, NOW, HOUR, 20},
     {POLICY_TIERED, 0, 8, 1, true}},
    {"twice the live pairs and a flush",
     {{4, {0, 4 * MIB, NOW, 0, 0}}, {1, {2, 15 * MIB, NOW, 0, 0}}},
     {15 * MIB, MIB, NOW, HOUR, 20},
     {POLICY_NOTHING, 0, 0, 0, false}},
    {"a byte more",
     {{4, {0, 4 * MIB, NOW, 0, 0}}, {1, {2, 15 * MIB + 1, NOW, 0, 0}}},
     {15 * MIB, MIB, NOW, HOUR, 20},
     {POLICY_SPACE, 0, 5, 2, true}},
    {"everything was deleted",
     {{2, {0, MIB, NOW, 100, 0}}, {1, {2, 15 * MIB, NOW, 0, 0}}},
     {0, MIB, NOW, HOUR, 20},
     {POLICY_SPACE, 0, 3, 2, true}},
    {"sizes beyond 64 bits are no small ones",
     {{2, {0, UINT64_MAX - 1, NOW, 0, 0}}},
     {GIB, MIB, NOW, HOUR, 20},
     {POLICY_SPACE, 0, 2, 1, true}},
    {"a tombstone an hour old: from its run to the oldest",
     {{2, {0, MIB, NOW, 1, 0}}, {1, {1, MIB, NOW - HOUR, 1, 0}}, {2, {2, MIB, 1, 0, 0}}},
     {9 * MIB, MIB, NOW, HOUR, 20},
     {POLICY_WASTE, 2, 3, 2, true}},
    {"a tombstone a millisecond younger",
     {{2, {0, MIB, NOW, 1, 0}}, {1, {1, MIB, NOW - HOUR + 1, 1, 0}}, {2, {2, MIB, 1, 0, 0}}},
     {9 * MIB, MIB, NOW, HOUR, 20},
     {POLICY_NOTHING, 0, 0, 0, false}},
    {"old, without tombstones",
     {{3, {0, MIB, 1, 0, 0}}},
     {9 * MIB, MIB, NOW, HOUR, 20},
     {POLICY_NOTHING, 0, 0, 0, false}},
    {"expired for an hour",
     {{1, {0, MIB, NOW, 0, 0}}, {2, {1, MIB, NOW, 0, NOW - HOUR}}},
     {9 * MIB, MIB, NOW, HOUR, 20},
     {POLICY_WASTE, 1, 2, 2, true}},
    {"expired a millisecond less",
     {{1, {0, MIB, NOW, 0, 0}}, {2, {1, MIB, NOW, 0, NOW - HOUR + 1}}},
     {9 * MIB, MIB, NOW, HOUR, 20},
     {POLICY_NOTHING, 0, 0, 0, false}},
    {"expired in the only run",
     {{1, {5, MIB, NOW, 0, 1}}},
     {9 * MIB, MIB, NOW, HOUR, 20},
     {POLICY_WASTE, 0, 1, 5, true}},
    {"expires later than there is time",
     {{1, {5, MIB, NOW, 0, UINT64_MAX}}},
     {9 * MIB, MIB, NOW, HOUR, 20},
     {POLICY_NOTHING, 0, 0, 0, false}},
    {"the time is unknown",
     {{2, {5, MIB, 1, 9, 1}}},
     {9 * MIB, MIB, 0, HOUR, 20},
     {POLICY_NOTHING, 0, 0, 0, false}},
    {"no bound on waste",
     {{2, {5, MIB, 1, 9, 1}}},
     {9 * MIB, MIB, NOW, 0, 20},
     {POLICY_NOTHING, 0, 0, 0, false}},
    {"as many runs as allowed",
     {{2, {0, MIB, 1, 0, 0}}, {2, {1, 8 * MIB, 1, 0, 0}}},
     {GIB, MIB, NOW, HOUR, 4},
     {POLICY_NOTHING, 0, 0, 0, false}},
    {"one more: the cheapest neighbours",
     {{2, {0, MIB, 1, 0, 0}}, {3, {1, 8 * MIB, 1, 0, 0}}},
     {GIB, MIB, NOW, HOUR, 4},
     {POLICY_NUMBER, 0, 2, 1, false}},
    {"one more: the cheapest are in the middle",
     {{1, {0, 90 * MIB, 1, 0, 0}}, {2, {1, MIB, 1, 0, 0}}, {2, {2, 80 * MIB, 1, 0, 0}}},
     {GIB, MIB, NOW, HOUR, 4},
     {POLICY_NUMBER, 1, 2, 2, false}},
};

static const char *const names[] = {"nothing", "space", "waste", "tiered", "number"};

static void decisions(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct policy_run runs[32];
        uint32_t count = 0;
        for (size_t g = 0; g < COUNT(rows[i].groups); g++)
            for (uint32_t k = 0; k < rows[i].groups[g].count; k++)
                runs[count++] = rows[i].groups[g].run;
        struct policy_merge m = policy_decide(runs, count, &rows[i].limits);
        const struct policy_merge *e = &rows[i].expected;
        if (m.why != e->why || m.first != e->first || m.count != e->count || m.level != e->level ||
            m.drops != e->drops)
            fail_msg("%s: %s, %u runs from %u to level %u, drops %d; not %s, %u from %u to %u, %d",
                     rows[i].label, names[m.why], m.count, m.first, m.level, m.drops, names[e->why],
                     e->count, e->first, e->level, e->drops);
    }
    assert_int_equal(policy_live_bytes(10, 100), 260);
    assert_int_equal(policy_live_bytes(UINT64_MAX, 100), UINT64_MAX);
}

/* ---- the bounds, by simulation */

#define LOG_SHARE 1.2 /* bytes of the log for each byte of changed state */

/* A run by what is in it: changes of keys chosen alike, of which some meet; the base has all keys,
 * those that were inserted when it was made. */
struct sim_run {
    struct policy_run p;
    double changes; /* bytes */
    bool base;
};
struct sim {
    struct sim_run run[64];
    uint32_t count;
    double state, flush; /* bytes of live pairs, of a flush */
    double written, changed;
    uint32_t runs_most;
    double space_most; /* (space - a flush) / live */
};

static double bytes_of(const struct sim *s, const struct sim_run *r) {
    return r->base ? s->state : s->state * (1 - exp(-r->changes / s->state));
}

static void sim_merge(struct sim *s, struct policy_merge m) {
    struct sim_run out = {.p = {.level = m.level}};
    for (uint32_t i = m.first; i < m.first + m.count; i++) {
        out.changes += s->run[i].changes;
        out.base |= s->run[i].base;
    }
    assert_int_equal(m.drops, m.first + m.count == s->count);
    out.p.bytes = (uint64_t)bytes_of(s, &out);
    s->written += (double)out.p.bytes;
    memmove(&s->run[m.first + 1], &s->run[m.first + m.count],
            (s->count - m.first - m.count) * sizeof s->run[0]);
    s->run[m.first] = out;
    s->count -= m.count - 1;
}

static void sim_flush(struct sim *s) {
    struct sim_run fresh = {.changes = s->flush};
    fresh.p.bytes = (uint64_t)bytes_of(s, &fresh);
    s->written += (double)fresh.p.bytes + LOG_SHARE * s->flush;
    s->changed += s->flush;
    memmove(&s->run[1], &s->run[0], s->count++ * sizeof s->run[0]);
    s->run[0] = fresh;
    if (s->count > s->runs_most)
        s->runs_most = s->count;
    struct policy_limits l = {.live_bytes = (uint64_t)s->state,
                              .flush_bytes = (uint64_t)s->flush,
                              .runs_max = POLICY_RUNS_MAX};
    for (int i = 0;; i++) {
        struct policy_run runs[64];
        for (uint32_t k = 0; k < s->count; k++)
            runs[k] = s->run[k].p;
        struct policy_merge m = policy_decide(runs, s->count, &l);
        if (m.why == POLICY_NOTHING)
            break;
        sim_merge(s, m);
        assert_true(i < 50); /* it comes to an end */
    }
    double space = 0;
    for (uint32_t k = 0; k < s->count; k++)
        space += (double)s->run[k].p.bytes;
    if ((space - s->flush) / s->state > s->space_most)
        s->space_most = (space - s->flush) / s->state;
}

static void uniform_overwrites(void **state) {
    (void)state;
    static const double flushes[] = {1, 2, 3, 5, 8, 16, 40, 64, 100, 160, 300, 512, 700, 1024};
    for (size_t i = 0; i < COUNT(flushes); i++) {
        struct sim s = {.state = flushes[i] * (double)(64 * MIB), .flush = (double)(64 * MIB)};
        s.run[0] = (struct sim_run){.base = true, .p = {.bytes = (uint64_t)s.state}};
        s.count = 1;
        for (double warm = 0; warm < 4 * flushes[i]; warm++)
            sim_flush(&s);
        s.written = s.changed = 0;
        for (double n = 0; n < 40 * flushes[i] + 200; n++)
            sim_flush(&s);
        double amplification = s.written / s.changed;
        print_message("%5.0f flushes: %.2f bytes written for each changed, %u runs, %.2f x space\n",
                      flushes[i], amplification, s.runs_most, s.space_most);
        assert_true(amplification <= 6);
        assert_true(s.runs_most <= POLICY_RUNS_MAX + 1);
        assert_true(s.space_most <= 2.0001);
    }
}

/* New keys only: nothing is dead, and no merge of all is done for space. */
static void inserts_only(void **state) {
    (void)state;
    struct policy_run runs[64];
    uint32_t count = 0, most = 0;
    double written = 0, live = 0;
    for (int n = 0; n < 1024; n++) {
        memmove(&runs[1], &runs[0], count++ * sizeof runs[0]);
        runs[0] = (struct policy_run){.bytes = MIB};
        live += (double)MIB, written += (LOG_SHARE + 1) * (double)MIB;
        most = count > most ? count : most;
        for (;;) {
            struct policy_limits l = {(uint64_t)live, MIB, 0, 0, POLICY_RUNS_MAX};
            struct policy_merge m = policy_decide(runs, count, &l);
            if (m.why == POLICY_NOTHING)
                break;
            assert_int_not_equal(m.why, POLICY_SPACE);
            struct policy_run out = {.level = m.level};
            for (uint32_t i = m.first; i < m.first + m.count; i++)
                out.bytes += runs[i].bytes;
            written += (double)out.bytes;
            memmove(&runs[m.first + 1], &runs[m.first + m.count],
                    (count - m.first - m.count) * sizeof runs[0]);
            runs[m.first] = out;
            count -= m.count - 1;
        }
    }
    print_message("%.2f bytes written for each inserted, %u runs\n", written / live, most);
    assert_true(written / live <= 6);
    assert_true(most <= POLICY_RUNS_MAX + 1);
}

/* One flush with a tombstone or an expiring pair, then none: only time passes. */
static void waste_goes_in_time(void **state) {
    (void)state;
    for (int expiring = 0; expiring < 2; expiring++) {
        struct policy_run runs[4] = {{.level = 0, .bytes = MIB, .made_ms = NOW},
                                     {.level = 1, .bytes = 8 * MIB, .made_ms = NOW - HOUR},
                                     {.level = 2, .bytes = 50 * MIB}};
        if (expiring)
            runs[0].expiry_min_ms = NOW + HOUR;
        else
            runs[0].deletes = 1;
        uint64_t due = NOW + (expiring ? 25 : 24) * HOUR;
        for (uint64_t now = NOW; now <= due; now += HOUR / 4) {
            struct policy_limits l = {58 * MIB, MIB, now, 24 * HOUR, POLICY_RUNS_MAX};
            struct policy_merge m = policy_decide(runs, 3, &l);
            assert_int_equal(m.why, now < due ? POLICY_NOTHING : POLICY_WASTE);
            if (now == due)
                assert_true(m.drops && m.first == 0 && m.count == 3);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decisions),
        cmocka_unit_test(uniform_overwrites),
        cmocka_unit_test(inserts_only),
        cmocka_unit_test(waste_goes_in_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
