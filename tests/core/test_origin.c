/* SPDX-License-Identifier: Apache-2.0 */
/* What was read outside: pawl_tx_origin() takes what makes sense and refuses the rest, and
 * pawl_explain_outside() leads each record back to where it began. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "pawl.h"
#include "tests/support/own_log.h"

#define MIB (1024u * 1024u)
#define THING "file 2049:77 /var/log/app.log"

struct fixture {
    char dir[64];
    pawl *log;
    pawl_producer *producer;
    uint32_t one, four; /* streams, by their number of partitions */
};

static int setup(void **state) {
    struct fixture *f = calloc(1, sizeof *f);
    pawl_options o = PAWL_OPTIONS_INIT;
    if (f == NULL)
        return -1;
    if (test_dir_make(f->dir, "/tmp/test_origin") != 0)
        return -1;
    o.flags = PAWL_OPEN_CREATE;
    o.segment_size = 4 * MIB;
    o.memory_cap = 4 * MIB;
    *state = f;
    return pawl_open(f->dir, &o, &f->log, NULL) != 0 ||
           pawl_stream_create(f->log, "one", 1, &f->one) != 0 ||
           pawl_stream_create(f->log, "four", 4, &f->four) != 0 ||
           pawl_producer_open(f->log, "p", &f->producer) != 0;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    pawl_producer_close(f->producer);
    int rc = close_and_remove(f->log, f->dir);
    free(f);
    return rc;
}

/* ---- leading back: each record's value begins with the place where it began */

enum spread { ONE, TURN, KEYED };
static const struct lead {
    const char *name;
    enum spread spread;
    int kind;
    int32_t unit;
    uint32_t records, length, step; /* of each interval; a value's length, about */
    uint32_t intervals;
} leads[] = {
    {"lines", ONE, PAWL_MARKS_LINES, 0, 100, 40, 1, 3},
    {"lines with \\r\\n", ONE, PAWL_MARKS_LINES, 0, 100, 40, 2, 1},
    {"lines, partitions in turn", TURN, PAWL_MARKS_LINES, 0, 101, 40, 1, 3},
    {"lines, partitions by key", KEYED, PAWL_MARKS_LINES, 0, 101, 40, 1, 3},
    {"given", ONE, PAWL_MARKS_GIVEN, 0, 100, 40, 7, 3},
    {"given, partitions by key", KEYED, PAWL_MARKS_GIVEN, 0, 33, 40, 300, 3},
    {"numbers", ONE, PAWL_MARKS_NUMBERS, 1, 100, 40, 0, 3},
    {"numbers, partitions in turn", TURN, PAWL_MARKS_NUMBERS, 2, 10, 40, 0, 3},
    {"one record", ONE, PAWL_MARKS_LINES, 0, 1, 40, 1, 1},
    {"one record in each interval", KEYED, PAWL_MARKS_LINES, 0, 1, 40, 1, 20},
    {"spilled lines", ONE, PAWL_MARKS_LINES, 0, 25, 50000, 1, 2},
    {"spilled lines, partitions in turn", TURN, PAWL_MARKS_LINES, 0, 26, 50000, 1, 2},
    {"spilled and given, by key", KEYED, PAWL_MARKS_GIVEN, 0, 26, 50000, 1, 2},
};

static void put_interval(struct fixture *f, pawl_tx *tx, const struct lead *l, uint64_t *at,
                         uint64_t *marks) {
    static char value[70000];
    pawl_outside o = PAWL_OUTSIDE_INIT;
    o.thing = THING;
    o.from = *at;
    o.unit = l->unit;
    o.stream = l->spread == ONE ? f->one : f->four;
    o.mark_kind = l->kind;
    o.step = l->kind == PAWL_MARKS_LINES ? l->step : 0;
    for (uint32_t i = 0; i < l->records; i++) {
        uint32_t length = l->length + (i * 7919) % 13;
        memset(value, 'x', length);
        snprintf(value, sizeof value, "%llu ", (unsigned long long)*at);
        value[strlen(value)] = 'x';
        pawl_record r = {.value = value, .value_len = length};
        if (l->spread == KEYED)
            r.key = value, r.key_len = 6;
        marks[i] = *at;
        assert_int_equal(pawl_put(tx, o.stream, l->spread == ONE ? 0 : PAWL_ANY, &r), 0);
        *at += l->kind == PAWL_MARKS_NUMBERS ? 1 : length + l->step;
    }
    o.to = *at;
    if (l->kind == PAWL_MARKS_GIVEN)
        o.marks = marks, o.mark_count = l->records;
    assert_int_equal(pawl_tx_origin(tx, f->producer, &o), 0);
}

/* Checks each record of a partition; returns their number. */
static uint64_t check_partition(struct fixture *f, const struct lead *l, uint32_t stream,
                                uint32_t partition) {
    pawl_bounds b;
    pawl_reader *r;
    pawl_batch batch;
    uint64_t n = 0;
    assert_int_equal(pawl_partition_bounds(f->log, stream, partition, &b), 0);
    assert_int_equal(pawl_reader_open(f->log, stream, partition, 0, 0, &r), 0);
    while (pawl_read(r, 1, 0, &batch) == 1) {
        pawl_outside_place o = PAWL_OUTSIDE_PLACE_INIT;
        uint64_t want = strtoull(batch.records[0].value, NULL, 10);
        uint64_t size =
            l->kind == PAWL_MARKS_NUMBERS ? 1 : (uint64_t)batch.records[0].value_len + l->step;
        int rc = pawl_explain_outside(f->log, stream, partition, batch.records[0].offset, &o);
        if (rc != 0 || o.at != want || o.end != want + size || o.from > o.at || o.to < o.end ||
            o.lsn != batch.records[0].lsn || o.unit != l->unit || strcmp(o.thing, THING) != 0 ||
            strcmp(o.producer, "p") != 0)
            fail_msg("%s, %u/%llu: answer %d, %s from %llu to %llu, not from %llu to %llu", l->name,
                     partition, (unsigned long long)batch.records[0].offset, rc, o.thing,
                     (unsigned long long)o.at, (unsigned long long)o.end, (unsigned long long)want,
                     (unsigned long long)(want + size));
        n++;
    }
    pawl_reader_close(r);
    return n;
}

static void each_record_leads_back(void **state) {
    for (size_t i = 0; i < sizeof leads / sizeof leads[0]; i++) {
        const struct lead *l = &leads[i];
        struct fixture *f;
        uint64_t at = 1000, marks[128], n = 0;
        void *own = NULL;
        pawl_tx *tx;
        (void)state;
        assert_int_equal(setup(&own), 0);
        f = own;
        for (uint32_t commit = 0; commit < 2; commit++) {
            assert_int_equal(pawl_begin(f->log, &tx), 0);
            assert_int_equal(pawl_tx_origin(tx, f->producer, NULL), 0);
            for (uint32_t k = 0; k < l->intervals; k++)
                put_interval(f, tx, l, &at, marks);
            assert_int_equal(pawl_commit(tx, NULL), 0);
        }
        uint32_t stream = l->spread == ONE ? f->one : f->four;
        for (uint32_t p = 0; p < (l->spread == ONE ? 1u : 4u); p++)
            n += check_partition(f, l, stream, p);
        assert_int_equal(n, 2 * l->intervals * l->records);
        assert_int_equal(teardown(&own), 0);
    }
}

/* ---- what the call refuses */

static const struct refusal {
    const char *name;
    pawl_outside o;
    int code;
} refusals[] = {
    {"no name", {.thing = NULL}, PAWL_INVALID},
    {"an empty name", {.thing = ""}, PAWL_INVALID},
    {"backwards", {.thing = "t", .from = 2, .to = 1}, PAWL_INVALID},
    {"an unknown flag", {.thing = "t", .flags = 1u << 30}, PAWL_INVALID},
    {"an unknown unit", {.thing = "t", .unit = 3}, PAWL_INVALID},
    {"unknown marks", {.thing = "t", .mark_kind = 4}, PAWL_INVALID},
    {"a step that is too large", {.thing = "t", .step = 65536}, PAWL_INVALID},
    {"passed over without a reason", {.thing = "t", .flags = PAWL_OUTSIDE_PASSED}, PAWL_INVALID},
    {"continues nothing", {.thing = "t", .flags = PAWL_OUTSIDE_CONTINUES}, PAWL_INVALID},
    {"too few marks", {.thing = "t", .mark_kind = PAWL_MARKS_GIVEN}, PAWL_INVALID},
    {"no such stream", {.thing = "t", .stream = 77}, PAWL_NOT_FOUND},
    {"passed over, with a record",
     {.thing = "t", .note = "n", .flags = PAWL_OUTSIDE_PASSED},
     PAWL_INVALID},
    {"good", {.thing = "t"}, 0},
};

static void senseless_intervals_are_refused(void **state) {
    struct fixture *f = *state;
    pawl_record r = {.value = "v", .value_len = 1};
    pawl_outside_place place = PAWL_OUTSIDE_PLACE_INIT;
    pawl_tx *tx;
    assert_int_equal(pawl_begin(f->log, &tx), 0);
    assert_int_equal(pawl_put(tx, f->one, 0, &r), 0);
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        pawl_outside o = refusals[i].o;
        o.struct_size = sizeof o;
        o.stream = o.stream != 0 ? o.stream : f->one;
        int rc = pawl_tx_origin(tx, f->producer, &o);
        if (rc != refusals[i].code)
            fail_msg("%s: %d, not %d", refusals[i].name, rc, refusals[i].code);
    }
    assert_int_equal(pawl_commit(tx, NULL), 0);
    /* nothing of what was refused is in the log */
    assert_int_equal(pawl_explain_outside(f->log, f->one, 0, 0, &place), 0);
    assert_string_equal(place.thing, "t");
    assert_true(place.at == UINT64_MAX);
}

static void marks_must_be_within_the_interval(void **state) {
    struct fixture *f = *state;
    pawl_record r = {.value = "v", .value_len = 1};
    const uint64_t below[] = {9, 11}, beyond[] = {10, 21}, later[] = {12, 9}, good[] = {20, 10};
    const uint64_t *all[] = {below, beyond, later, good};
    pawl_tx *tx;
    assert_int_equal(pawl_begin(f->log, &tx), 0);
    assert_int_equal(pawl_put(tx, f->one, 0, &r), 0);
    assert_int_equal(pawl_put(tx, f->one, 0, &r), 0);
    for (int i = 0; i < 4; i++) {
        pawl_outside o = PAWL_OUTSIDE_INIT;
        o.thing = "t", o.from = 10, o.to = 20, o.stream = f->one;
        o.mark_kind = PAWL_MARKS_GIVEN, o.marks = all[i], o.mark_count = 2;
        assert_int_equal(pawl_tx_origin(tx, NULL, &o), i < 3 ? PAWL_INVALID : 0);
    }
    assert_int_equal(pawl_commit(tx, NULL), 0);
    for (uint64_t i = 0; i < 2; i++) { /* they need not ascend */
        pawl_outside_place place = PAWL_OUTSIDE_PLACE_INIT;
        assert_int_equal(pawl_explain_outside(f->log, f->one, 0, i, &place), 0);
        assert_int_equal(place.at, good[i]);
    }
}

static void order_must_be_announced(void **state) {
    struct fixture *f = *state;
    pawl_record r = {.value = "v", .value_len = 1};
    pawl_outside o = PAWL_OUTSIDE_INIT;
    pawl_tx *tx;
    o.thing = "t", o.to = 4, o.stream = f->four;
    assert_int_equal(pawl_begin(f->log, &tx), 0);
    for (uint32_t i = 0; i < 4; i++)
        assert_int_equal(pawl_put(tx, f->four, i, &r), 0);
    assert_int_equal(pawl_tx_origin(tx, NULL, &o), PAWL_STATE);
    assert_int_equal(pawl_commit(tx, NULL), 0);
    pawl_outside_place place = PAWL_OUTSIDE_PLACE_INIT;
    assert_int_equal(pawl_explain_outside(f->log, f->four, 0, 0, &place), PAWL_NOT_FOUND);
}

/* What a passed-over part or a record without a name says of its neighbours: nothing. */
static void parts_passed_over_have_no_records(void **state) {
    struct fixture *f = *state;
    pawl_record r = {.value = "v", .value_len = 1};
    pawl_outside o = PAWL_OUTSIDE_INIT;
    pawl_outside_place place = PAWL_OUTSIDE_PLACE_INIT;
    pawl_tx *tx;
    o.thing = THING, o.stream = f->one, o.mark_kind = PAWL_MARKS_LINES, o.step = 1;
    assert_int_equal(pawl_begin(f->log, &tx), 0);
    o.from = 0, o.to = 100, o.flags = PAWL_OUTSIDE_PASSED | PAWL_OUTSIDE_BEGINS, o.note = "a hole";
    assert_int_equal(pawl_tx_origin(tx, f->producer, &o), 0);
    assert_int_equal(pawl_put(tx, f->one, 0, &r), 0);
    o.from = 100, o.to = 102, o.flags = 0, o.note = NULL;
    assert_int_equal(pawl_tx_origin(tx, f->producer, &o), 0);
    assert_int_equal(pawl_put(tx, f->one, 0, &r), 0);
    assert_int_equal(pawl_commit(tx, NULL), 0);
    assert_int_equal(pawl_explain_outside(f->log, f->one, 0, 0, &place), 0);
    assert_int_equal(place.at, 100);
    assert_int_equal(place.end, 102);
    assert_int_equal(pawl_explain_outside(f->log, f->one, 0, 1, &place), PAWL_NOT_FOUND);
    assert_int_equal(pawl_explain_outside(f->log, f->one, 0, 2, &place), PAWL_RANGE);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_record_leads_back),
        cmocka_unit_test_setup_teardown(senseless_intervals_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(marks_must_be_within_the_interval, setup, teardown),
        cmocka_unit_test_setup_teardown(order_must_be_announced, setup, teardown),
        cmocka_unit_test_setup_teardown(parts_passed_over_have_no_records, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
