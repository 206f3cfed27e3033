/* SPDX-License-Identifier: Apache-2.0 */
/* Positions tile their input, and decisions last until they are finished. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "pawl.h"
#include "tests/support/two_streams.h"

static int setup(void **state) {
    return fixture_setup(state, "/tmp/test_positions");
}

static pawl_record text(const char *s) {
    return (pawl_record){.value = s, .value_len = (uint32_t)strlen(s)};
}

static uint64_t durable(struct fixture *f, uint32_t stream, uint32_t partition) {
    pawl_bounds b;
    assert_int_equal(pawl_partition_bounds(f->log, stream, partition, &b), 0);
    return b.durable;
}

static int advance(struct fixture *f, uint32_t processor, uint32_t stream, uint32_t partition,
                   uint64_t from, uint64_t to) {
    pawl_tx *tx;
    assert_int_equal(pawl_begin(f->log, &tx), 0);
    int rc = pawl_advance(tx, processor, stream, partition, from, to);
    if (rc != 0) {
        pawl_abort(tx);
        return rc;
    }
    return pawl_commit(tx, NULL);
}

static uint32_t with_records(struct fixture *f, uint32_t count) {
    uint32_t id;
    pawl_record r = text("x");
    assert_int_equal(pawl_processor_register(f->log, "proc", &id), 0);
    for (uint32_t i = 0; i < count; i++)
        assert_int_equal(pawl_append(f->log, f->a, 0, &r, NULL), 0);
    return id;
}

static uint64_t position(struct fixture *f, const char *name) {
    uint64_t at = UINT64_MAX;
    assert_int_equal(pawl_position_get(f->log, name, f->a, 0, &at), 0);
    return at;
}

static void intervals_must_tile(void **state) {
    struct fixture *f = *state;
    uint32_t id = with_records(f, 10);
    assert_int_equal(advance(f, id, f->a, 0, 0, 3), 0);
    assert_int_equal(advance(f, id, f->a, 0, 0, 3), PAWL_TILING);
    assert_int_equal(advance(f, id, f->a, 0, 2, 5), PAWL_TILING);
    assert_int_equal(advance(f, id, f->a, 0, 4, 5), PAWL_TILING);
    assert_int_equal(position(f, "proc"), 3);
    assert_int_equal(advance(f, id, f->a, 0, 3, 10), 0);
    reopen(f);
    assert_int_equal(position(f, "proc"), 10);
    assert_int_equal(advance(f, id, f->a, 0, 3, 10), PAWL_TILING);
}

static void a_refused_interval_takes_its_records_with_it(void **state) {
    struct fixture *f = *state;
    uint32_t id = with_records(f, 4);
    pawl_tx *one, *two; /* two workers with the same input: one wins */
    pawl_record r = text("out");
    assert_int_equal(pawl_begin(f->log, &one), 0);
    assert_int_equal(pawl_begin(f->log, &two), 0);
    assert_int_equal(pawl_put(one, f->b, 0, &r), 0);
    assert_int_equal(pawl_put(two, f->b, 0, &r), 0);
    assert_int_equal(pawl_advance(one, id, f->a, 0, 0, 4), 0);
    assert_int_equal(pawl_advance(two, id, f->a, 0, 0, 4), 0);
    assert_int_equal(pawl_commit(two, NULL), 0);
    assert_int_equal(pawl_commit(one, NULL), PAWL_TILING);
    assert_int_equal(durable(f, f->b, 0), 1);
    reopen(f);
    assert_int_equal(durable(f, f->b, 0), 1);
}

static void partitions_have_their_own_positions(void **state) {
    struct fixture *f = *state;
    uint32_t id = with_records(f, 2);
    pawl_record r = text("x");
    pawl_position at;
    for (uint32_t i = 0; i < 4; i++)
        assert_int_equal(pawl_append(f->log, f->b, i, &r, NULL), 0);
    pawl_tx *tx;
    assert_int_equal(pawl_begin(f->log, &tx), 0);
    assert_int_equal(pawl_advance(tx, id, f->b, 3, 0, 1), 0);
    assert_int_equal(pawl_advance(tx, id, f->b, 1, 0, 1), 0);
    assert_int_equal(pawl_advance(tx, id, f->a, 0, 0, 2), 0);
    assert_int_equal(pawl_commit(tx, NULL), 0);
    const uint32_t want[3][3] = {{f->a, 0, 2}, {f->b, 1, 1}, {f->b, 3, 1}};
    for (int again = 0; again < 2; again++) {
        for (uint32_t i = 0; i < 3; i++) {
            assert_int_equal(pawl_position_at(f->log, i, &at), 0);
            assert_int_equal(at.processor, id);
            assert_string_equal(at.name, "proc");
            assert_int_equal(at.stream, want[i][0]);
            assert_int_equal(at.partition, want[i][1]);
            assert_int_equal(at.offset, want[i][2]);
        }
        assert_int_equal(pawl_position_at(f->log, 3, &at), PAWL_NOT_FOUND);
        reopen(f);
    }
}

static void a_position_beyond_the_end_is_refused(void **state) {
    struct fixture *f = *state;
    uint32_t id = with_records(f, 3);
    uint64_t at;
    assert_int_equal(advance(f, id, f->a, 0, 0, 4), PAWL_RANGE);
    assert_int_equal(advance(f, id, f->a, 0, 2, 1), PAWL_RANGE);
    assert_int_equal(pawl_position_get(f->log, "proc", f->a, 0, &at), PAWL_NOT_FOUND);
    assert_int_equal(advance(f, id, f->a, 0, 0, 3), 0);
    assert_int_equal(advance(f, id, f->a, 0, 3, 4), PAWL_RANGE);
}

static void what_is_unknown_is_refused(void **state) {
    struct fixture *f = *state;
    uint32_t id = with_records(f, 3);
    uint64_t at;
    assert_int_equal(advance(f, id + 1, f->a, 0, 0, 1), PAWL_NOT_FOUND);
    assert_int_equal(advance(f, id, 99, 0, 0, 1), PAWL_NOT_FOUND);
    assert_int_equal(advance(f, id, f->a, 1, 0, 1), PAWL_RANGE);
    assert_int_equal(pawl_position_get(f->log, "nobody", f->a, 0, &at), PAWL_NOT_FOUND);
    assert_int_equal(pawl_position_get(f->log, "proc", f->a, 0, &at), PAWL_NOT_FOUND);
    assert_int_equal(pawl_processor_register(f->log, "", NULL), PAWL_INVALID);
    assert_int_equal(pawl_processor_register(f->log, "a b", NULL), PAWL_INVALID);
    assert_int_equal(pawl_processor_register(f->log, NULL, NULL), PAWL_INVALID);
}

static void registering_again_gives_the_same_id(void **state) {
    struct fixture *f = *state;
    uint32_t id = with_records(f, 0), again = 0, other = 0;
    assert_int_equal(pawl_processor_register(f->log, "proc", &again), 0);
    assert_int_equal(again, id);
    assert_int_equal(pawl_processor_register(f->log, "other", &other), 0);
    assert_int_not_equal(other, id);
    reopen(f);
    assert_int_equal(pawl_processor_register(f->log, "proc", &again), 0);
    assert_int_equal(again, id);
    char name[128];
    assert_int_equal(pawl_processor_at(f->log, 0, &again, name), 0);
    assert_string_equal(name, "proc");
    assert_int_equal(pawl_processor_at(f->log, 1, &again, name), 0);
    assert_string_equal(name, "other");
    assert_int_equal(pawl_processor_at(f->log, 2, &again, name), PAWL_NOT_FOUND);
}

static int decision(struct fixture *f, int (*what)(pawl_tx *, uint32_t, const char *), uint32_t id,
                    const char *name);

/* What a sink noted of its target would stay in every checkpoint for ever. */
static void a_forgotten_processor_leaves_no_decisions(void **state) {
    struct fixture *f = *state;
    uint32_t id = with_records(f, 3), other;
    pawl_decision d;
    assert_int_equal(pawl_processor_register(f->log, "other", &other), 0);
    assert_int_equal(decision(f, pawl_decide, id, "target-x"), 0);
    assert_int_equal(decision(f, pawl_decide, other, "target-y"), 0);
    assert_int_equal(decision(f, pawl_decide, id, "lost-1-0-5-7"), 0);
    assert_int_equal(pawl_processor_forget(f->log, "proc"), 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pawl_decision_at(f->log, 0, &d), 0);
        assert_string_equal(d.name, "target-y");
        assert_int_equal(pawl_decision_at(f->log, 1, &d), PAWL_NOT_FOUND);
        reopen(f);
    }
}

static void a_forgotten_processor_is_gone(void **state) {
    struct fixture *f = *state;
    uint32_t id = with_records(f, 3), again;
    uint64_t at;
    char name[128];
    assert_int_equal(advance(f, id, f->a, 0, 0, 2), 0);
    assert_int_equal(pawl_processor_forget(f->log, "nobody"), PAWL_NOT_FOUND);
    assert_int_equal(pawl_processor_forget(f->log, "proc"), 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pawl_position_get(f->log, "proc", f->a, 0, &at), PAWL_NOT_FOUND);
        assert_int_equal(pawl_processor_at(f->log, 0, &again, name), PAWL_NOT_FOUND);
        assert_int_equal(pawl_processor_forget(f->log, "proc"), PAWL_NOT_FOUND);
        assert_int_equal(advance(f, id, f->a, 0, 2, 3), PAWL_NOT_FOUND);
        reopen(f);
    }
    assert_int_equal(pawl_processor_register(f->log, "proc", &again), 0); /* begins anew */
    assert_int_equal(pawl_position_get(f->log, "proc", f->a, 0, &at), PAWL_NOT_FOUND);
    assert_int_equal(advance(f, again, f->a, 0, 0, 1), 0);
}

static int decision(struct fixture *f, int (*what)(pawl_tx *, uint32_t, const char *), uint32_t id,
                    const char *name) {
    pawl_tx *tx;
    assert_int_equal(pawl_begin(f->log, &tx), 0);
    int rc = what(tx, id, name);
    if (rc != 0) {
        pawl_abort(tx);
        return rc;
    }
    return pawl_commit(tx, NULL);
}

static void decisions_last_until_finished(void **state) {
    struct fixture *f = *state;
    uint32_t id = with_records(f, 0);
    pawl_decision d;
    char longest[202];
    memset(longest, 'n', 201);
    longest[201] = 0;
    assert_int_equal(decision(f, pawl_decide, id, longest), PAWL_INVALID);
    assert_int_equal(decision(f, pawl_decide, id, ""), PAWL_INVALID);
    longest[200] = 0;
    assert_int_equal(decision(f, pawl_decide, id + 1, "tx-1"), PAWL_NOT_FOUND);
    assert_int_equal(decision(f, pawl_finish, id, "tx-1"), PAWL_NOT_FOUND);
    assert_int_equal(decision(f, pawl_decide, id, "tx-1"), 0);
    assert_int_equal(decision(f, pawl_decide, id, "tx-1"), PAWL_EXISTS);
    assert_int_equal(decision(f, pawl_decide, id, longest), 0);
    for (int again = 0; again < 2; again++) {
        assert_int_equal(pawl_decision_at(f->log, 0, &d), 0);
        assert_int_equal(d.processor, id);
        assert_string_equal(d.name, "tx-1");
        assert_int_equal(pawl_decision_at(f->log, 1, &d), 0);
        assert_string_equal(d.name, longest);
        assert_int_equal(pawl_decision_at(f->log, 2, &d), PAWL_NOT_FOUND);
        reopen(f);
    }
    assert_int_equal(decision(f, pawl_finish, id, "tx-1"), 0);
    for (int again = 0; again < 2; again++) {
        assert_int_equal(pawl_decision_at(f->log, 0, &d), 0);
        assert_string_equal(d.name, longest);
        assert_int_equal(pawl_decision_at(f->log, 1, &d), PAWL_NOT_FOUND);
        assert_int_equal(decision(f, pawl_finish, id, "tx-1"), PAWL_NOT_FOUND);
        reopen(f);
    }
}

static void an_aborted_decision_is_none(void **state) {
    struct fixture *f = *state;
    uint32_t id = with_records(f, 2);
    pawl_tx *tx;
    pawl_decision d;
    assert_int_equal(pawl_begin(f->log, &tx), 0);
    assert_int_equal(pawl_decide(tx, id, "tx-1"), 0);
    pawl_abort(tx);
    assert_int_equal(pawl_decision_at(f->log, 0, &d), PAWL_NOT_FOUND);
    assert_int_equal(pawl_begin(f->log, &tx), 0); /* refused for its position: no decision either */
    assert_int_equal(pawl_decide(tx, id, "tx-2"), 0);
    assert_int_equal(advance(f, id, f->a, 0, 0, 1), 0);
    assert_int_equal(pawl_advance(tx, id, f->a, 0, 0, 2), 0);
    assert_int_equal(pawl_commit(tx, NULL), PAWL_TILING);
    assert_int_equal(pawl_decision_at(f->log, 0, &d), PAWL_NOT_FOUND);
}

#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        T(intervals_must_tile),
        T(a_refused_interval_takes_its_records_with_it),
        T(partitions_have_their_own_positions),
        T(a_position_beyond_the_end_is_refused),
        T(what_is_unknown_is_refused),
        T(registering_again_gives_the_same_id),
        T(a_forgotten_processor_is_gone),
        T(a_forgotten_processor_leaves_no_decisions),
        T(decisions_last_until_finished),
        T(an_aborted_decision_is_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
