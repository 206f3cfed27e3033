/* SPDX-License-Identifier: Apache-2.0 */
/* Watermarks: a sequence of events for each rule of pipeline/watermark.h, under its label, and what
 * must hold after it. Then two properties over random sequences: the combined watermark never
 * falls, and whether a record is late doesn't depend on other inputs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pipeline/watermark.h"

#undef fail
#include <cmocka.h>

#define NONE WATERMARK_NONE
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

enum what { END, RECORD, LATE, IDLE, AGAIN, CLOCK, INPUTS };

struct event {
    enum what what;
    uint32_t input; /* INPUTS: streams 10 to 10 + input - 1; with time 1: those from 11 on */
    int64_t time;
};

static const struct row {
    const char *label;
    uint32_t inputs;
    uint64_t allowed;
    struct event events[8];
    int64_t own[3], combined;
} rows[] = {
    {"first", 1, 10, {{RECORD, 0, 100}}, {90}, 90},
    {"first: at 0", 1, 0, {{RECORD, 0, 0}}, {0}, 0},
    {"first: before 1970", 1, 10, {{RECORD, 0, -100}}, {-110}, -110},
    {"ahead", 1, 10, {{RECORD, 0, 100}, {RECORD, 0, 105}}, {95}, 95},
    {"out-of-order", 1, 10, {{RECORD, 0, 100}, {RECORD, 0, 90}}, {90}, 90},
    {"out-of-order: the same time", 1, 0, {{RECORD, 0, 100}, {RECORD, 0, 100}}, {100}, 100},
    {"late", 1, 10, {{RECORD, 0, 100}, {LATE, 0, 89}}, {90}, 90},
    {"late: other inputs have no say",
     2,
     0,
     {{RECORD, 0, 100}, {RECORD, 1, 50}, {LATE, 0, 99}, {RECORD, 1, 50}, {LATE, 1, 49}},
     {100, 50},
     50},
    {"lowest", 1, 100, {{RECORD, 0, INT64_MIN + 50}}, {INT64_MIN + 1}, INT64_MIN + 1},
    {"lowest: all there is",
     1,
     UINT64_MAX,
     {{RECORD, 0, INT64_MAX}},
     {INT64_MIN + 1},
     INT64_MIN + 1},
    {"lowest: no time at all", 1, 0, {{RECORD, 0, INT64_MIN}}, {INT64_MIN + 1}, INT64_MIN + 1},
    {"highest", 1, 0, {{RECORD, 0, INT64_MAX}, {LATE, 0, INT64_MAX - 1}}, {INT64_MAX}, INT64_MAX},
    {"slowest", 3, 0, {{RECORD, 0, 7}, {RECORD, 1, 5}, {RECORD, 2, 9}}, {7, 5, 9}, 5},
    {"waits", 2, 0, {{RECORD, 0, 7}, {RECORD, 0, 9}}, {9, NONE}, NONE},
    {"never-back",
     2,
     0,
     {{RECORD, 0, 5}, {RECORD, 1, 9}, {IDLE, 0, 0}, {LATE, 0, 6}, {LATE, 0, 8}},
     {9, 9},
     9},
    {"idle", 2, 0, {{RECORD, 0, 5}, {RECORD, 1, 9}, {IDLE, 0, 0}}, {5, 9}, 9},
    {"idle-first", 2, 0, {{RECORD, 0, 5}, {IDLE, 1, 0}}, {5, NONE}, 5},
    {"idle-first: nobody has had a record", 2, 0, {{IDLE, 0, 0}}, {NONE, NONE}, NONE},
    {"idle-again", 2, 0, {{RECORD, 0, 5}, {IDLE, 1, 0}, {AGAIN, 1, 0}}, {5, NONE}, 5},
    {"idle-last", 2, 0, {{RECORD, 0, 5}, {RECORD, 1, 9}, {IDLE, 0, 0}, {IDLE, 1, 0}}, {5, 9}, 9},
    {"idle-last: in the other order",
     2,
     0,
     {{RECORD, 0, 5}, {RECORD, 1, 9}, {IDLE, 1, 0}, {IDLE, 0, 0}},
     {5, 9},
     9},
    {"back-behind", 2, 0, {{RECORD, 0, 5}, {RECORD, 1, 9}, {IDLE, 0, 0}, {LATE, 0, 6}}, {9, 9}, 9},
    {"back-behind: it goes on from there",
     2,
     2,
     {{RECORD, 0, 5}, {RECORD, 1, 9}, {IDLE, 0, 0}, {RECORD, 0, 8}, {RECORD, 1, 20}},
     {7, 18},
     7},
    {"back-behind: it holds the others back again",
     2,
     0,
     {{RECORD, 0, 5}, {RECORD, 1, 9}, {IDLE, 0, 0}, {RECORD, 0, 10}, {RECORD, 1, 50}},
     {10, 50},
     10},
    {"back-ahead",
     2,
     0,
     {{RECORD, 0, 20}, {RECORD, 1, 5}, {IDLE, 0, 0}, {LATE, 0, 19}, {RECORD, 1, 50}},
     {20, 50},
     20},
    {"back-first", 2, 0, {{RECORD, 0, 7}, {IDLE, 1, 0}, {LATE, 1, 6}, {RECORD, 0, 30}}, {30, 7}, 7},
    {"back-first: before any record", 2, 0, {{IDLE, 1, 0}, {RECORD, 1, 6}}, {NONE, 6}, NONE},
    {"new-input", 1, 0, {{RECORD, 0, 7}, {INPUTS, 2, 0}, {RECORD, 0, 30}}, {30, 7}, 7},
    {"new-input: its records below are late",
     1,
     0,
     {{RECORD, 0, 7}, {INPUTS, 2, 0}, {LATE, 1, 6}},
     {7, 7},
     7},
    {"new-input: before any record", 1, 0, {{INPUTS, 2, 0}, {RECORD, 1, 6}}, {NONE, 6}, NONE},
    {"input-gone", 2, 0, {{RECORD, 0, 5}, {RECORD, 1, 9}, {INPUTS, 1, 1}}, {9}, 9},
    {"input-gone: the one ahead", 2, 0, {{RECORD, 0, 5}, {RECORD, 1, 9}, {INPUTS, 1, 0}}, {5}, 5},
    {"clock-forward", 1, 0, {{CLOCK, 0, 5}, {CLOCK, 0, 7}}, {NONE}, NONE},
    {"clock-back", 1, 0, {{CLOCK, 0, 7}, {CLOCK, 0, 5}}, {NONE}, NONE},
};

/* Through bytes and back, as between any two commits. */
static void through_bytes(struct watermark *w) {
    uint8_t bytes[WATERMARK_SIZE_MAX];
    struct watermark before = *w;
    size_t len = watermark_encode(w, bytes);
    memset(w, 0xee, sizeof *w);
    assert_int_equal(watermark_decode(w, bytes, len), 0);
    assert_memory_equal(&w->in, &before.in, before.count * sizeof before.in[0]);
    assert_true(w->combined == before.combined && w->clock == before.clock);
    assert_true(w->count == before.count && w->late == before.late);
}

static void apply(struct watermark *w, const struct row *row, const struct event *e) {
    static const uint32_t all[] = {10, 11, 12};
    switch (e->what) {
    case RECORD:
    case LATE:
        if (watermark_record(w, e->input, e->time) != (e->what == LATE))
            fail_msg("%s: %lld is%s late", row->label, (long long)e->time,
                     e->what == LATE ? " not" : "");
        watermark_processed(w, e->input, e->time, row->allowed);
        break;
    case IDLE:
    case AGAIN:
        if (watermark_idle(w, e->input) != (e->what == IDLE))
            fail_msg("%s: it was%s idle before", row->label, e->what == IDLE ? "" : " not");
        break;
    case CLOCK: {
        int64_t before = w->clock;
        watermark_clock(w, e->time);
        assert_true(w->clock == (e->time > before ? e->time : before));
        break;
    }
    default:
        watermark_set_inputs(w, all + e->time, e->input);
    }
}

static void each_rule(void **state) {
    (void)state;
    static const uint32_t streams[] = {10, 11, 12};
    for (size_t i = 0; i < COUNT(rows); i++) {
        const struct row *row = &rows[i];
        struct watermark w;
        watermark_init(&w, streams, row->inputs);
        for (const struct event *e = row->events; e->what != END; e++) {
            apply(&w, row, e);
            through_bytes(&w);
        }
        for (uint32_t k = 0; k < w.count; k++)
            if (w.in[k].time != row->own[k])
                fail_msg("%s: input %u has %lld, not %lld", row->label, k, (long long)w.in[k].time,
                         (long long)row->own[k]);
        if (w.combined != row->combined)
            fail_msg("%s: combined %lld, not %lld", row->label, (long long)w.combined,
                     (long long)row->combined);
    }
}

static void bytes_that_are_not_well_formed(void **state) {
    (void)state;
    static const uint32_t streams[] = {10, 11};
    struct watermark w;
    uint8_t good[WATERMARK_SIZE_MAX], bad[WATERMARK_SIZE_MAX];
    watermark_init(&w, streams, 2);
    size_t len = watermark_encode(&w, good);
    assert_int_equal(len, WATERMARK_HEAD + 2 * WATERMARK_INPUT_SIZE);
    for (size_t i = 0; i < len; i++)
        assert_int_equal(watermark_decode(&w, good, i), PAWL_DAMAGED);
    memcpy(bad, good, len);
    bad[0] = 2;
    assert_int_equal(watermark_decode(&w, bad, len), PAWL_VERSION);
    memcpy(bad, good, len);
    bad[4] = WATERMARK_INPUTS_MAX + 1;
    assert_int_equal(watermark_decode(&w, bad, len), PAWL_DAMAGED);
    bad[7] = 0xff;
    assert_int_equal(watermark_decode(&w, bad, len), PAWL_DAMAGED);
}

static void random_sequences(void **state) {
    (void)state;
    static const uint32_t streams[] = {10, 11, 12};
    srand(1);
    for (int round = 0; round < 2000; round++) {
        struct watermark w, alone[3]; /* each input by itself */
        bool idle_ever = round % 2 == 0;
        uint64_t allowed = (uint64_t)rand() % 20;
        watermark_init(&w, streams, 3);
        for (uint32_t i = 0; i < 3; i++)
            watermark_init(&alone[i], &streams[i], 1);
        for (int step = 0; step < 60; step++) {
            uint32_t i = (uint32_t)rand() % 3;
            int64_t before = w.combined, t = step + rand() % 30;
            if (idle_ever && rand() % 8 == 0) {
                (void)watermark_idle(&w, i);
                assert_true(w.combined >= before);
                continue;
            }
            bool late = watermark_record(&w, i, t);
            watermark_processed(&w, i, t, allowed);
            assert_true(w.combined >= before); /* PAWL-14 */
            assert_true(w.combined <= w.in[i].time);
            if (!idle_ever) {
                assert_int_equal(late, watermark_record(&alone[i], 0, t));
                watermark_processed(&alone[i], 0, t, allowed);
            }
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_rule),
        cmocka_unit_test(bytes_that_are_not_well_formed),
        cmocka_unit_test(random_sequences),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
