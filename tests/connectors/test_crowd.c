/* SPDX-License-Identifier: Apache-2.0
 *
 * Which connection makes room for another one: a table of labelled cases. Peers are letters; each
 * member is a letter and a digit for its worth (0 new, 1 open, 2 quiet, 3 busy), the one that was
 * silent longest first.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "connectors/net/crowd.h"

#define LIMIT 1024u

static const struct {
    const char *label;
    const char *members;
    uint32_t max, peer_max;
    char newcomer;
    bool keeps_quiet;
    int want;
} cases[] = {
    {"nobody is there", "", 2, 2, 'a', false, CROWD_ROOM},
    {"there is room", "a3 ", 2, 2, 'a', false, CROWD_ROOM},
    {"a peer at its limit, all busy", "a3 a3 ", 8, 2, 'a', false, CROWD_REFUSED},
    {"a peer at its limit, one open", "a3 a1 ", 8, 2, 'a', false, 1},
    {"a peer at its limit takes nothing of others", "b0 a3 a3 ", 8, 2, 'a', false, CROWD_REFUSED},
    {"another peer has room beside it", "a3 a3 ", 8, 2, 'b', false, CROWD_ROOM},
    {"full: the peer with most makes room", "b0 a1 a1 ", 3, 3, 'c', false, 1},
    {"full: the least worth of it", "a2 a1 a0 ", 3, 3, 'b', false, 2},
    {"full: among equals the one silent longest", "b3 a0 a0 ", 3, 3, 'c', false, 1},
    {"full: a busy one stays", "a3 a3 a3 ", 3, 3, 'b', false, CROWD_REFUSED},
    {"full: the newcomer has most itself", "b0 a0 a0 ", 3, 3, 'a', false, 1},
    {"full: as many as the peer with most", "b0 a0 ", 2, 2, 'a', false, 1},
    {"full: its own are busy, an equal's is not", "b0 a3 ", 2, 2, 'a', false, 0},
    {"full: one each, a new one goes", "a3 b0 c3 ", 3, 3, 'd', false, 1},
    {"full: one each, a quiet one goes", "a3 b2 c3 ", 3, 3, 'd', false, 1},
    {"quiet ones are kept: one each", "a3 b2 c3 ", 3, 3, 'd', true, CROWD_REFUSED},
    {"quiet ones are kept: not of a peer with two", "a2 b2 b2 ", 3, 3, 'd', true, 1},
    {"quiet ones are kept: a new one goes", "a2 b0 c2 ", 3, 3, 'd', true, 1},
    {"eight that say nothing lock nobody out", "a1 a1 a1 a1 a1 a1 a1 a1 ", 8, 7, 'b', false, 0},
    {"nor their own peer", "a1 a1 a1 a1 a1 a1 a1 ", 8, 7, 'a', false, 0},
};

static void each_case(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct crowd_member m[16];
        uint32_t n = 0;
        for (const char *at = cases[i].members; *at != 0; at += 3, n++)
            m[n] = (struct crowd_member){(uint64_t)at[0], (enum crowd_worth)(at[1] - '0'), n + 1};
        struct crowd_rule r = {cases[i].max, cases[i].peer_max, cases[i].keeps_quiet};
        int got = crowd_place(&r, m, n, (uint64_t)cases[i].newcomer);
        if (got != cases[i].want)
            fail_msg("%s: %d, not %d", cases[i].label, got, cases[i].want);
    }
}

/* However many peers there are: the counts of all of them are right. */
static void as_many_as_there_can_be(void **state) {
    static struct crowd_member m[LIMIT];
    struct crowd_rule r = {LIMIT, LIMIT, false};
    (void)state;
    for (uint32_t i = 0; i < LIMIT; i++)
        m[i] = (struct crowd_member){(uint64_t)(i < LIMIT - 1 ? i : 7) << 40, CROWD_QUIET, i + 1};
    assert_int_equal(crowd_place(&r, m, LIMIT, 5), 7); /* the only peer with two */
    for (uint32_t i = 0; i < LIMIT; i++)
        m[i].worth = CROWD_BUSY;
    assert_int_equal(crowd_place(&r, m, LIMIT, 5), CROWD_REFUSED);
    r.max = LIMIT + 1;
    assert_int_equal(crowd_place(&r, m, LIMIT, 5), CROWD_ROOM);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_case),
        cmocka_unit_test(as_many_as_there_can_be),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
