/* SPDX-License-Identifier: Apache-2.0
 *
 * The decision table, case by case: each label is reached by the evidence that its name says, and
 * the table is complete, never cuts frames that a witness covers, and never reports frames without
 * a witness as damaged.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "recovery/decide.h"

struct row {
    const char *label;
    struct evidence evidence;
    enum action action;
};

static const struct row rows[] = {
    {"frame", {HEAD_GOOD, PAYLOAD_GOOD, CHAIN_FOLLOWS, WITNESS_NO}, ACCEPT},
    {"zeroed", {HEAD_ZERO, PAYLOAD_NONE, CHAIN_NONE, WITNESS_YES}, DAMAGE},
    {"garbage", {HEAD_GARBAGE, PAYLOAD_NONE, CHAIN_NONE, WITNESS_YES}, DAMAGE},
    {"header-damaged", {HEAD_BAD, PAYLOAD_NONE, CHAIN_NONE, WITNESS_YES}, DAMAGE},
    {"misplaced", {HEAD_ELSEWHERE, PAYLOAD_NONE, CHAIN_NONE, WITNESS_YES}, DAMAGE},
    {"payload-damaged", {HEAD_GOOD, PAYLOAD_BAD, CHAIN_FOLLOWS, WITNESS_YES}, DAMAGE},
    {"superseded", {HEAD_GOOD, PAYLOAD_GOOD, CHAIN_OLDER, WITNESS_YES}, DAMAGE},
    {"chain-broken", {HEAD_GOOD, PAYLOAD_GOOD, CHAIN_BROKEN, WITNESS_YES}, DAMAGE},
    {"clean-end", {HEAD_ZERO, PAYLOAD_NONE, CHAIN_NONE, WITNESS_NO}, END},
    {"torn-garbage", {HEAD_GARBAGE, PAYLOAD_NONE, CHAIN_NONE, WITNESS_NO}, CUT},
    {"torn-header", {HEAD_BAD, PAYLOAD_NONE, CHAIN_NONE, WITNESS_NO}, CUT},
    {"stale-place", {HEAD_ELSEWHERE, PAYLOAD_NONE, CHAIN_NONE, WITNESS_NO}, STALE},
    {"torn-payload", {HEAD_GOOD, PAYLOAD_BAD, CHAIN_FOLLOWS, WITNESS_NO}, CUT},
    {"stale-epoch", {HEAD_GOOD, PAYLOAD_GOOD, CHAIN_OLDER, WITNESS_NO}, STALE},
    {"orphan", {HEAD_GOOD, PAYLOAD_GOOD, CHAIN_BROKEN, WITNESS_NO}, CUT},
};

static void each_case_has_its_evidence(void **state) {
    (void)state;
    size_t count;
    const struct decision_case *table = decision_table(&count);
    assert_int_equal(count, sizeof rows / sizeof *rows);
    for (size_t i = 0; i < count; i++) {
        const struct decision_case *c = decide(&rows[i].evidence);
        assert_string_equal(c->label, rows[i].label);
        assert_int_equal(c->action, rows[i].action);
        assert_string_equal(table[i].label, rows[i].label);
    }
}

static void labels_are_unique_and_explained(void **state) {
    (void)state;
    size_t count;
    const struct decision_case *table = decision_table(&count);
    for (size_t i = 0; i < count; i++) {
        assert_true(strlen(table[i].why) > 20);
        for (size_t k = 0; k < i; k++)
            assert_string_not_equal(table[i].label, table[k].label);
    }
}

static void no_evidence_is_judged_against_its_witness(void **state) {
    (void)state;
    struct evidence e;
    for (e.head = HEAD_ZERO; e.head < HEAD_ANY; e.head++)
        for (e.payload = PAYLOAD_NONE; e.payload < PAYLOAD_ANY; e.payload++)
            for (e.chain = CHAIN_NONE; e.chain < CHAIN_ANY; e.chain++)
                for (e.witness = WITNESS_NO; e.witness < WITNESS_ANY; e.witness++) {
                    const struct decision_case *c = decide(&e);
                    assert_non_null(c);
                    int whole = e.head == HEAD_GOOD && e.payload == PAYLOAD_GOOD &&
                                e.chain == CHAIN_FOLLOWS;
                    assert_int_equal(c->action == ACCEPT, whole);
                    if (!whole)
                        assert_int_equal(c->action == DAMAGE, e.witness == WITNESS_YES);
                }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_case_has_its_evidence),
        cmocka_unit_test(labels_are_unique_and_explained),
        cmocka_unit_test(no_evidence_is_judged_against_its_witness),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
