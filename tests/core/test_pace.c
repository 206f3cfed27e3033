/* SPDX-License-Identifier: Apache-2.0
 *
 * The group commit's policy, case by case: labelled sequences of events, with the decision that is
 * expected after each. No thread, no clock and no device takes part.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "wal/pace.h"

#define US 1000u
#define KIB 1024u
#define NEVER UINT64_MAX
#define STEPS_MAX 24

/* What a step tells the policy, or asks it, and what its numbers mean. Answers are compared with
 * `want`. `times` repeats the step. */
enum what {
    END,
    GOES,      /* in_flight, frames, KiB that gathered: does the group go? */
    WENT,      /* a group was submitted */
    ZEROS,     /* one of that many KiB went, in_flight; answer: are zeros wanted? */
    DONE,      /* frames that came meanwhile; answer: the running mean */
    WAIT,      /* answer: frames that a further group waits for */
    ASYNC,     /* in_flight, now; answer: decision */
    COMMITTER, /* now; answer: may it submit, with nothing in flight? */
    LEFT,      /* a committer waits no more */
    SYNC,      /* now; answer: is anything held? */
    REAPED,    /* in_flight, now; answer: decision */
    LOOKED,    /* something gathered, in_flight, now; answer: decision */
    NAP,       /* commits, now; answer: until when */
    SLEEPS,    /* until */
    WAKES,     /* answer: had it slept until it is woken? */
    HOLDS,     /* answer: is anything held? */
    CLOCK,     /* event; answer: must the clock be read? */
    YIELDS,    /* answer: turns */
    YIELDED,   /* turns, ns; after as many threads as then waited */
};

struct step {
    enum what what;
    uint64_t a, b, c, want;
    uint32_t times;
};

struct sequence {
    const char *label;
    struct step steps[STEPS_MAX];
};

#define SUBMIT PACE_SUBMIT
#define HOLD PACE_HOLD
#define POKE PACE_POKE

// clang-format off
static const struct sequence sequences[] = {
    /* ---- 1. beside groups in flight */
    {"a single committer goes at once, and reads no clock",
     {{CLOCK, .a = PACE_WAITER_CAME, .want = 0},
      {COMMITTER, .a = 1000, .want = 1},
      {GOES, .a = 0, .b = 1, .c = 4, .want = 1},
      {.what = WENT},
      {DONE, .a = 0, .want = 0},
      {CLOCK, .a = PACE_REAPED, .want = 0},
      {REAPED, .a = 0, .b = 2000, .want = SUBMIT},
      {HOLDS, .want = 0},
      {NAP, .a = 1, .b = 3000, .want = NEVER}}},
    {"few frames: each goes at once beside others",
     {{DONE, .a = 10, .want = 7, .times = 20},
      {WAIT, .want = 0},
      {GOES, .a = 3, .b = 1, .c = 4, .want = 1}}},
    {"many frames: a group waits for half the pace",
     {{DONE, .a = 100, .want = 97, .times = 40},
      {WAIT, .want = 48},
      {GOES, .a = 1, .b = 47, .c = 8, .want = 0},
      {GOES, .a = 1, .b = 48, .c = 8, .want = 1},
      {GOES, .a = 0, .b = 1, .c = 8, .want = 1}}},
    {"a large group goes in any case, the larger the more are in flight",
     {{DONE, .a = 100, .want = 97, .times = 40},
      {GOES, .a = 1, .b = 2, .c = 255, .want = 0},
      {GOES, .a = 1, .b = 2, .c = 256, .want = 1},
      {GOES, .a = 2, .b = 2, .c = 511, .want = 0},
      {GOES, .a = 2, .b = 2, .c = 512, .want = 1}}},
    {"as many in flight as may be: none goes",
     {{GOES, .a = 7, .b = 1, .c = 4, .want = 1},
      {GOES, .a = 8, .b = 900, .c = 1024, .want = 0}}},
    {"the pace falls when fewer frames come",
     {{DONE, .a = 100, .want = 97, .times = 40},
      {DONE, .a = 0, .want = 6, .times = 9},
      {WAIT, .want = 0}}},

    /* ---- 2. company */
    {"a group is held until all came, and goes with the last of them",
     {{COMMITTER, .a = 1000, .want = 1, .times = 3},
      {.what = WENT},
      {CLOCK, .a = PACE_REAPED, .want = 1},
      {REAPED, .a = 0, .b = 1000 * US, .want = HOLD},
      {HOLDS, .want = 1},
      {LEFT, .times = 3},
      {COMMITTER, .a = 1010 * US, .want = 0, .times = 2},
      {CLOCK, .a = PACE_WAITER_CAME, .want = 1},
      {COMMITTER, .a = 1020 * US, .want = 1},
      {HOLDS, .want = 0},
      {WAIT, .want = 3},
      {GOES, .a = 1, .b = 2, .c = 8, .want = 0},
      {GOES, .a = 1, .b = 3, .c = 8, .want = 1}}},
    {"each that comes extends the hold; it ends when none came for a while",
     {{COMMITTER, .a = 1000, .want = 1, .times = 4},
      {.what = WENT},
      {REAPED, .a = 0, .b = 1000 * US, .want = HOLD},
      {LOOKED, .a = 1, .b = 0, .c = 1149 * US, .want = HOLD},
      {COMMITTER, .a = 1149 * US, .want = 0},
      {LOOKED, .a = 1, .b = 0, .c = 1150 * US, .want = HOLD},
      {NAP, .a = 5, .b = 1150 * US, .want = 1299 * US},
      {LOOKED, .a = 1, .b = 0, .c = 1299 * US, .want = SUBMIT},
      {HOLDS, .want = 0},
      {WAIT, .want = 0}}},
    {"after a hold in vain none is held for 4 completions, then for 8",
     {{COMMITTER, .a = 1000, .want = 1, .times = 2},
      {.what = WENT},
      {REAPED, .a = 0, .b = 1000 * US, .want = HOLD},
      {LOOKED, .a = 1, .b = 0, .c = 1150 * US, .want = SUBMIT},
      {REAPED, .a = 0, .b = 2000 * US, .want = SUBMIT, .times = 4},
      {REAPED, .a = 0, .b = 3000 * US, .want = HOLD},
      {LOOKED, .a = 1, .b = 0, .c = 3150 * US, .want = SUBMIT},
      {REAPED, .a = 0, .b = 4000 * US, .want = SUBMIT, .times = 8},
      {REAPED, .a = 0, .b = 5000 * US, .want = HOLD}}},
    {"all came: the next hold in vain costs 4 completions again",
     {{COMMITTER, .a = 1000, .want = 1, .times = 2},
      {.what = WENT},
      {REAPED, .a = 0, .b = 1000 * US, .want = HOLD},
      {LOOKED, .a = 1, .b = 0, .c = 1150 * US, .want = SUBMIT},
      {REAPED, .a = 0, .b = 2000 * US, .want = SUBMIT, .times = 4},
      {REAPED, .a = 0, .b = 3000 * US, .want = HOLD},
      {LOOKED, .a = 1, .b = 0, .c = 3150 * US, .want = SUBMIT},
      {REAPED, .a = 0, .b = 4000 * US, .want = SUBMIT, .times = 8},
      {REAPED, .a = 0, .b = 5000 * US, .want = HOLD},
      {COMMITTER, .a = 5010 * US, .want = 0},
      {COMMITTER, .a = 5020 * US, .want = 1},
      {.what = WENT},
      {LEFT, .times = 2},
      {REAPED, .a = 0, .b = 6000 * US, .want = HOLD},
      {LOOKED, .a = 1, .b = 0, .c = 6150 * US, .want = SUBMIT},
      {REAPED, .a = 0, .b = 7000 * US, .want = SUBMIT, .times = 8},
      {REAPED, .a = 0, .b = 8000 * US, .want = HOLD}}},
    {"nothing gathered: the hold ends, and was not in vain",
     {{COMMITTER, .a = 1000, .want = 1, .times = 2},
      {.what = WENT},
      {REAPED, .a = 0, .b = 1000 * US, .want = HOLD},
      {LOOKED, .a = 0, .b = 0, .c = 1001 * US, .want = SUBMIT},
      {REAPED, .a = 0, .b = 2000 * US, .want = HOLD}}},
    {"a group went meanwhile: the hold ends",
     {{COMMITTER, .a = 1000, .want = 1, .times = 2},
      {.what = WENT},
      {REAPED, .a = 0, .b = 1000 * US, .want = HOLD},
      {LOOKED, .a = 1, .b = 1, .c = 1001 * US, .want = SUBMIT},
      {HOLDS, .want = 0}}},
    {"more than 16: two groups take turns, and none is held",
     {{COMMITTER, .a = 1000, .want = 1, .times = 17},
      {.what = WENT},
      {REAPED, .a = 0, .b = 1000 * US, .want = SUBMIT},
      {HOLDS, .want = 0},
      {WAIT, .want = 17},
      {.what = LEFT},
      {REAPED, .a = 0, .b = 2000 * US, .want = HOLD}}},
    {"all that wait are in the gathering group: none is held",
     {{COMMITTER, .a = 1000, .want = 1, .times = 2},
      {REAPED, .a = 0, .b = 1000 * US, .want = SUBMIT},
      {.what = WENT},
      {COMMITTER, .a = 2000, .want = 1},
      {REAPED, .a = 0, .b = 2000 * US, .want = HOLD}}},
    {"other groups are in flight: none is held",
     {{COMMITTER, .a = 1000, .want = 1, .times = 3},
      {REAPED, .a = 1, .b = 1000 * US, .want = SUBMIT},
      {HOLDS, .want = 0}}},
    {"one is left: it goes at once, beside others too",
     {{COMMITTER, .a = 1000, .want = 1, .times = 17},
      {REAPED, .a = 0, .b = 1000 * US, .want = SUBMIT},
      {WAIT, .want = 17},
      {LEFT, .times = 16},
      {REAPED, .a = 1, .b = 2000 * US, .want = SUBMIT},
      {WAIT, .want = 0}}},
    {"a thread that wants all durable now ends the hold",
     {{COMMITTER, .a = 1000, .want = 1, .times = 3},
      {.what = WENT},
      {REAPED, .a = 0, .b = 1000 * US, .want = HOLD},
      {SYNC, .a = 1001 * US, .want = 0},
      {LOOKED, .a = 1, .b = 0, .c = 1002 * US, .want = SUBMIT}}},

    /* ---- 3. followed */
    {"an asynchronous commit asks for the background thread at once",
     {{CLOCK, .a = PACE_ASYNC_CAME, .want = 1},
      {ASYNC, .a = 0, .b = 1000 * US, .want = POKE},
      {CLOCK, .a = PACE_ASYNC_CAME, .want = 0},
      {HOLDS, .want = 0}}},
    {"followed by a waiter four times: the fifth is left to the next one",
     {{ASYNC, .a = 0, .b = 1000 * US, .want = POKE}, {SYNC, .a = 1100 * US, .want = 0},
      {ASYNC, .a = 0, .b = 2000 * US, .want = POKE}, {COMMITTER, .a = 2100 * US, .want = 1},
      {.what = LEFT},
      {ASYNC, .a = 0, .b = 3000 * US, .want = POKE}, {SYNC, .a = 3100 * US, .want = 0},
      {ASYNC, .a = 0, .b = 4000 * US, .want = POKE}, {SYNC, .a = 4249 * US, .want = 0},
      {ASYNC, .a = 1, .b = 5000 * US, .want = POKE},
      {ASYNC, .a = 0, .b = 5010 * US, .want = HOLD},
      {LOOKED, .a = 1, .b = 0, .c = 5249 * US, .want = HOLD},
      {NAP, .a = 9, .b = 5249 * US, .want = 5250 * US},
      {SYNC, .a = 5249 * US, .want = 0},
      {ASYNC, .a = 0, .b = 6000 * US, .want = HOLD}}},
    {"followed three times is not enough",
     {{ASYNC, .a = 0, .b = 1000 * US, .want = POKE}, {SYNC, .a = 1100 * US, .want = 0},
      {ASYNC, .a = 0, .b = 2000 * US, .want = POKE}, {SYNC, .a = 2100 * US, .want = 0},
      {ASYNC, .a = 0, .b = 3000 * US, .want = POKE}, {SYNC, .a = 3100 * US, .want = 0},
      {ASYNC, .a = 0, .b = 4000 * US, .want = POKE}}},
    {"a waiter that comes late counts as none",
     {{ASYNC, .a = 0, .b = 1000 * US, .want = POKE}, {SYNC, .a = 1100 * US, .want = 0},
      {ASYNC, .a = 0, .b = 2000 * US, .want = POKE}, {SYNC, .a = 2100 * US, .want = 0},
      {ASYNC, .a = 0, .b = 3000 * US, .want = POKE}, {SYNC, .a = 3250 * US, .want = 0},
      {ASYNC, .a = 0, .b = 4000 * US, .want = POKE}, {SYNC, .a = 4100 * US, .want = 0},
      {ASYNC, .a = 0, .b = 5000 * US, .want = POKE}, {SYNC, .a = 5100 * US, .want = 0},
      {ASYNC, .a = 0, .b = 6000 * US, .want = POKE}}},
    {"nobody came: the group goes, and the next one asks at once again",
     {{ASYNC, .a = 0, .b = 1000 * US, .want = POKE}, {SYNC, .a = 1000 * US, .want = 0},
      {ASYNC, .a = 0, .b = 1000 * US, .want = POKE}, {SYNC, .a = 1000 * US, .want = 0},
      {ASYNC, .a = 0, .b = 1000 * US, .want = POKE}, {SYNC, .a = 1000 * US, .want = 0},
      {ASYNC, .a = 0, .b = 1000 * US, .want = POKE}, {SYNC, .a = 1000 * US, .want = 0},
      {ASYNC, .a = 0, .b = 5000 * US, .want = HOLD},
      {LOOKED, .a = 1, .b = 0, .c = 5250 * US, .want = SUBMIT},
      {HOLDS, .want = 0},
      {ASYNC, .a = 0, .b = 6000 * US, .want = POKE}}},
    {"both holds: each has its own end",
     {{ASYNC, .a = 0, .b = 1000 * US, .want = POKE}, {SYNC, .a = 1000 * US, .want = 0},
      {ASYNC, .a = 0, .b = 1000 * US, .want = POKE}, {SYNC, .a = 1000 * US, .want = 0},
      {ASYNC, .a = 0, .b = 1000 * US, .want = POKE}, {SYNC, .a = 1000 * US, .want = 0},
      {ASYNC, .a = 0, .b = 1000 * US, .want = POKE}, {SYNC, .a = 1000 * US, .want = 0},
      {COMMITTER, .a = 2000 * US, .want = 1, .times = 2},
      {.what = WENT},
      {REAPED, .a = 0, .b = 3000 * US, .want = HOLD},
      {ASYNC, .a = 0, .b = 3100 * US, .want = HOLD},
      {NAP, .a = 4, .b = 3100 * US, .want = 3150 * US},
      {LOOKED, .a = 1, .b = 0, .c = 3150 * US, .want = HOLD},
      {NAP, .a = 4, .b = 3150 * US, .want = 3350 * US},
      {LOOKED, .a = 1, .b = 0, .c = 3350 * US, .want = SUBMIT}}},

    /* ---- 4. yields */
    {"at most 8 wait: they sleep at once",
     {{COMMITTER, .a = 1000, .want = 1, .times = 8},
      {YIELDS, .want = 0}}},
    {"more than 8 yield",
     {{COMMITTER, .a = 1000, .want = 1, .times = 9},
      {YIELDS, .want = PACE_YIELDS}, {YIELDED, .a = PACE_YIELDS, .b = 900 * US},
      {YIELDS, .want = PACE_YIELDS}}},
    {"answered before the first turn: that says nothing of turns",
     {{COMMITTER, .a = 1000, .want = 1, .times = 9},
      {YIELDS, .want = PACE_YIELDS}, {YIELDED, .a = 0, .b = 50},
      {YIELDS, .want = PACE_YIELDS}}},
    {"crowded: a long turn makes the next thousand commits sleep at once",
     {{COMMITTER, .a = 1000, .want = 1, .times = 9},
      {YIELDS, .want = PACE_YIELDS}, {YIELDED, .a = 5, .b = 450 * US + 1},
      {YIELDS, .want = 0, .times = PACE_CROWDED},
      {YIELDS, .want = PACE_YIELDS}}},

    /* ---- 5. naps */
    {"a thread that sleeps for too long is woken for a hold",
     {{COMMITTER, .a = 1000, .want = 1, .times = 2},
      {.what = WENT},
      {SLEEPS, .a = NEVER},
      {REAPED, .a = 0, .b = 1000 * US, .want = POKE},
      {WAKES, .want = 1},
      {LOOKED, .a = 1, .b = 0, .c = 1001 * US, .want = HOLD},
      {NAP, .a = 2, .b = 1001 * US, .want = 1150 * US}}},
    {"a thread that looks soon after the hold's end is left alone",
     {{COMMITTER, .a = 1000, .want = 1, .times = 2},
      {.what = WENT},
      {SLEEPS, .a = 1400 * US},
      {REAPED, .a = 0, .b = 1000 * US, .want = HOLD},
      {WAKES, .want = 0},
      {SLEEPS, .a = 1400 * US + 1},
      {REAPED, .a = 0, .b = 1000 * US, .want = POKE}}},
    {"while committers come together it takes short naps, until no commit came during one",
     {{COMMITTER, .a = 1000, .want = 1, .times = 17},
      {REAPED, .a = 0, .b = 1000 * US, .want = SUBMIT},
      {NAP, .a = 17, .b = 2000 * US, .want = 2250 * US},
      {NAP, .a = 30, .b = 3000 * US, .want = 3250 * US},
      {NAP, .a = 30, .b = 4000 * US, .want = NEVER}}},

    /* ---- 6. zeros */
    {"nothing is known yet: zeros",
     {{ZEROS, .a = 1024, .b = 1, .want = 1}}},
    {"large groups, many in flight: none",
     {{ZEROS, .a = 1024, .b = 8, .want = 0, .times = 8}}},
    {"small groups, many in flight: zeros",
     {{ZEROS, .a = 128, .b = 8, .want = 1, .times = 100}}},
    {"large groups, one after the other: zeros",
     {{ZEROS, .a = 1024, .b = 1, .want = 1, .times = 100}}},
    {"the small groups at a segment's change alter nothing",
     {{ZEROS, .a = 1024, .b = 8, .want = 0, .times = 40},
      {ZEROS, .a = 8, .b = 1, .want = 0, .times = 2}}},
    {"small groups come: zeros again",
     {{ZEROS, .a = 1024, .b = 8, .want = 0, .times = 40},
      {ZEROS, .a = 4, .b = 1, .want = 1, .times = 10}}},
};
// clang-format on

static bool goes(const struct pace *p, const struct step *s) {
    struct pace_group g = {.in_flight = (uint32_t)s->a,
                           .in_flight_max = 8,
                           .frames = s->b,
                           .len = (uint32_t)s->c * KIB,
                           .buffer_size = 1024 * KIB};
    return pace_group_goes(p, &g);
}

/* Takes a step; returns the answer, or `want` where there is none. */
static uint64_t take(struct pace *p, struct pace_turns *turns, const struct step *s) {
    uint64_t answer = s->want;
    switch (s->what) {
    case END:
        break;
    case GOES:
        return goes(p, s);
    case WENT:
        pace_group_went(p, 4 * KIB, 1);
        break;
    case ZEROS:
        pace_group_went(p, (uint32_t)s->a * KIB, (uint32_t)s->b);
        return pace_wants_zeros(p);
    case DONE:
        pace_group_done(p, s->a);
        return pace_mean(p);
    case WAIT:
        return pace_group_wait(p);
    case ASYNC:
        return pace_async_came(p, (uint32_t)s->a, s->b);
    case COMMITTER:
        pace_committer_came(p, s->a);
        return pace_committer_submits(p, 0);
    case LEFT:
        pace_committer_left(p);
        break;
    case SYNC:
        pace_sync_came(p, s->a);
        return pace_holds(p);
    case REAPED:
        return pace_reaped(p, (uint32_t)s->a, s->b);
    case LOOKED:
        return pace_looked(p, s->a != 0, (uint32_t)s->b, s->c);
    case NAP:
        return pace_nap(p, s->a, s->b);
    case SLEEPS:
        pace_sleeps(p, s->a);
        break;
    case WAKES:
        answer = pace_sleeps_long(p);
        pace_wakes(p);
        break;
    case HOLDS:
        return pace_holds(p);
    case CLOCK:
        return pace_needs_clock(p, (enum pace_event)s->a);
    case YIELDS:
        *turns = pace_yields(p);
        return turns->count;
    case YIELDED:
        pace_yielded(p, turns, (uint32_t)s->a, s->b);
        break;
    }
    return answer;
}

/* Each repetition of a step gives the same answer, except that the mean moves: there the last one
 * counts. */
static bool goes_as_told(const struct sequence *q) {
    struct pace p;
    struct pace_turns turns = {0, 0};
    memset(&p, 0, sizeof p);
    for (int i = 0; i < STEPS_MAX && q->steps[i].what != END; i++) {
        const struct step *s = &q->steps[i];
        uint32_t times = s->times == 0 ? 1 : s->times;
        for (uint32_t n = 1; n <= times; n++) {
            uint64_t got = take(&p, &turns, s);
            if (got == s->want || ((s->what == DONE || s->what == ZEROS) && n < times))
                continue;
            print_error("%s: step %d, time %u: %llu instead of %llu\n", q->label, i + 1, n,
                        (unsigned long long)got, (unsigned long long)s->want);
            return false;
        }
    }
    return true;
}

static void each_sequence_goes_as_told(void **state) {
    (void)state;
    int wrong = 0;
    for (size_t i = 0; i < sizeof sequences / sizeof *sequences; i++)
        wrong += !goes_as_told(&sequences[i]);
    assert_int_equal(wrong, 0);
}

/* The pause after holds in vain doubles up to its limit, and stays there. */
static void the_pause_is_bounded(void **state) {
    (void)state;
    struct pace p;
    uint64_t now = 1000 * US;
    memset(&p, 0, sizeof p);
    pace_committer_came(&p, now);
    pace_committer_came(&p, now);
    pace_group_went(&p, 4 * KIB, 1);
    for (uint32_t round = 0, pause = PACE_ALONE_MIN; round < 12; round++) {
        assert_int_equal(pace_reaped(&p, 0, now), PACE_HOLD);
        now += PACE_COMPANY_NS;
        assert_int_equal(pace_looked(&p, true, 0, now), PACE_SUBMIT);
        for (uint32_t i = 0; i < pause; i++)
            assert_int_equal(pace_reaped(&p, 0, now), PACE_SUBMIT);
        pause = pause < PACE_ALONE_MAX ? 2 * pause : PACE_ALONE_MAX;
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_sequence_goes_as_told),
        cmocka_unit_test(the_pause_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
