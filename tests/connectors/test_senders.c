/* SPDX-License-Identifier: Apache-2.0
 *
 * The table of senders: whose a name is, which numbers were here, who is forgotten, and that a
 * forgotten name is known to be one after every restart. A model keeps each name that ever sent.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "connectors/net/senders.h"
#include "tests/sim/rng.h"

static struct peer_id user(uint32_t uid) {
    struct peer_id id = {.kind = PEER_USER};
    memcpy(id.bytes, &uid, sizeof uid);
    return id;
}

static struct senders table(uint32_t max, uint32_t peer_max, uint64_t forget_s) {
    return (struct senders){
        .max = max, .peer_max = peer_max, .forget_s = forget_s, .salt = "a log of a test"};
}

/* A new sender's first line, which is durable at once. */
static enum sender_place first_line(struct senders *s, const char *name, uint64_t number,
                                    uint32_t uid, int64_t now_s) {
    struct peer_id id = user(uid);
    uint32_t at = 0;
    enum sender_place place = senders_place(s, name, &id, now_s, &at);
    if (place > SENDER_TAKES)
        return place;
    struct sender *who = senders_add(s, name, place, at);
    assert_non_null(who);
    sender_take(who, number, &id, now_s);
    who->durable = number;
    return place;
}

/* As if the process had ended: all that stays is the positions in the log. */
static void restart(struct senders *s) {
    struct senders fresh = table(s->max, s->peer_max, s->forget_s);
    uint8_t position[SENDER_POSITION];
    for (uint32_t i = 0; i < s->count; i++) {
        sender_position(&s->list[i], s->list[i].durable, position);
        assert_true(senders_load(&fresh, s->list[i].name, position, sizeof position));
    }
    senders_free(s);
    *s = fresh;
}

/* Room for two senders, one of each peer; one is forgotten after 100 s. */
static void what_becomes_of_a_newcomer(void **state) {
    static const struct {
        const char *label, *name;
        uint32_t uid;
        int64_t now_s;
        enum sender_place want;
    } steps[] = {
        {"the first", "a", 1, 1000, SENDER_FRESH},
        {"another one of the same peer", "b", 1, 1001, SENDER_PEER_FULL},
        {"of another peer", "b", 2, 1002, SENDER_FRESH},
        {"the table is full, and all are young", "c", 3, 1099, SENDER_FULL},
        {"the oldest is old enough", "c", 3, 1100, SENDER_TAKES},
        {"the forgotten one comes again", "a", 1, 1100, SENDER_FORGOTTEN},
        {"the same from elsewhere", "a", 9, 1101, SENDER_FORGOTTEN},
        {"its peer has no sender now, but there is no room", "d", 1, 1101, SENDER_FULL},
        {"the other one is old enough", "d", 1, 1102, SENDER_TAKES},
        {"both are forgotten", "b", 2, 1102, SENDER_FORGOTTEN},
        {"a peer at its limit takes its own oldest place", "e", 1, 1300, SENDER_TAKES},
        {"the oldest of all", "f", 6, 1301, SENDER_TAKES},
        {"all hashes are used: none is forgotten any more", "g", 7, 9999, SENDER_FULL},
        {"a", "a", 1, 9999, SENDER_FORGOTTEN},
        {"b", "b", 1, 9999, SENDER_FORGOTTEN},
        {"c", "c", 1, 9999, SENDER_FORGOTTEN},
        {"d", "d", 1, 9999, SENDER_FORGOTTEN},
    };
    (void)state;
    for (int restarts = 0; restarts <= 1; restarts++) {
        struct senders s = table(2, 1, 100);
        for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
            enum sender_place got = first_line(&s, steps[i].name, 5, steps[i].uid, steps[i].now_s);
            if (got != steps[i].want)
                fail_msg("%s, restarts %d: %d, not %d", steps[i].label, restarts, (int)got,
                         (int)steps[i].want);
            if (restarts != 0)
                restart(&s);
        }
        assert_int_equal(s.count, 2);
        senders_free(&s);
    }
}

static void what_a_position_holds(void **state) {
    (void)state;
    struct senders s = table(8, 8, 100);
    struct peer_id one = user(1), two = user(2), unknown = {.kind = PEER_UNKNOWN};
    assert_int_equal(first_line(&s, "x", SENDER_FIRST_MAX, 1, 12345), SENDER_FRESH);
    restart(&s);
    struct sender *x = senders_find(&s, "x");
    assert_non_null(x);
    assert_true(x->given == SENDER_FIRST_MAX && x->durable == SENDER_FIRST_MAX);
    assert_true(x->first == SENDER_FIRST_MAX && x->named && x->stamp == 12345);
    assert_true(sender_is_of(x, &one));
    assert_false(sender_is_of(x, &two));
    assert_true(sender_is_of(x, &unknown)); /* names are proved, or anybody's */
    sender_take(x, SENDER_FIRST_MAX + 1, &unknown, 12346);
    assert_true(peer_same(&x->owner, &one)); /* it stays for when they aren't any more */
    /* of an earlier version: a number alone */
    const uint8_t old[8] = {7};
    assert_true(senders_load(&s, "old", old, sizeof old));
    struct sender *o = senders_find(&s, "old");
    assert_true(o != NULL && o->given == 7 && o->first == 0 && o->stamp == 0);
    assert_true(sender_is_of(o, &two)); /* whoever comes first */
    sender_take(o, 8, &two, 99);
    assert_false(sender_is_of(o, &one));
    /* of something else */
    uint8_t other[32] = {1};
    for (int len = -1; len <= 32; len++)
        if (len != 8 && len != 32)
            assert_true(senders_load(&s, "other", other, len));
    assert_null(senders_find(&s, "other"));
    assert_true(senders_load(&s, "a name with more than forty characters in it", other, 32));
    assert_int_equal(s.count, 2);
    senders_free(&s);
}

/* A sender of which something is on its way, or of which the log doesn't say since when it is
 * silent, is not forgotten. */
static void who_is_not_forgotten(void **state) {
    (void)state;
    struct senders s = table(1, 1, 100);
    uint32_t at;
    struct peer_id two = user(2);
    assert_int_equal(first_line(&s, "x", 1, 1, 1000), SENDER_FRESH);
    sender_take(&s.list[0], 2, &two, 1000);
    assert_int_equal(senders_place(&s, "y", &two, 9999, &at), SENDER_PEER_FULL);
    s.list[0].durable = 2;
    assert_int_equal(senders_place(&s, "y", &two, 9999, &at), SENDER_TAKES);
    assert_int_equal(senders_place(&s, "y", &two, 900, &at),
                     SENDER_PEER_FULL); /* a clock set back */
    s.list[0].stamp = 0;
    assert_int_equal(senders_place(&s, "y", &two, 9999, &at), SENDER_PEER_FULL);
    s.list[0].stamp = 1;
    s.forget_s = 0;
    assert_int_equal(senders_place(&s, "y", &two, 9999, &at), SENDER_PEER_FULL);
    senders_free(&s);
}

/* A crash between giving a place away and the first line of the new sender. */
static void a_place_that_is_given_away(void **state) {
    (void)state;
    for (int renamed = 0; renamed <= 1; renamed++) {
        struct senders s = table(1, 1, 100);
        uint8_t position[SENDER_POSITION];
        uint64_t number;
        assert_int_equal(first_line(&s, "old", 77, 1, 1000), SENDER_FRESH);
        senders_forget(&s, 0, position);
        assert_true(sender_number(position, sizeof position, &number) && number == 0);
        senders_free(&s);
        assert_true(senders_load(&s, renamed ? "new" : "old", position, sizeof position));
        assert_null(senders_find(&s, "old"));
        assert_null(senders_find(&s, "new"));
        assert_int_equal(first_line(&s, "old", 78, 1, 1001), SENDER_FORGOTTEN);
        assert_int_equal(first_line(&s, renamed ? "third" : "new", 1, 3, 1001), SENDER_TAKES);
        assert_int_equal(first_line(&s, "old", 78, 1, 1001), SENDER_FORGOTTEN);
        assert_int_equal(s.count, 1);
        senders_free(&s);
    }
}

/* Names come and go at random, with restarts: none that was forgotten is ever taken again, and the
 * table never has more rows than it may. */
static void no_name_comes_back(void **state) {
    enum { NAMES = 300, STEPS = 4000 };
    static bool gone[NAMES];
    (void)state;
    for (uint64_t seed = 1; seed <= 5; seed++) {
        struct rng r = {.state = seed};
        struct senders s = table(20, 8, 50);
        int64_t now = 1000;
        size_t forgotten = 0;
        memset(gone, 0, sizeof gone);
        for (int i = 0; i < STEPS; i++) {
            uint32_t n = (uint32_t)(rng_next(&r) % NAMES), uid = n % 7;
            char name[16], had[SENDER_NAME_MAX + 1] = "";
            struct peer_id id = user(uid);
            uint32_t at;
            now += (int64_t)(rng_next(&r) % 5);
            snprintf(name, sizeof name, "n%u", n);
            struct sender *who = senders_find(&s, name);
            if (who != NULL) {
                assert_false(gone[n]);
                sender_take(who, who->given + 1, &id, now);
                who->durable = who->given;
                continue;
            }
            if (senders_place(&s, name, &id, now, &at) == SENDER_TAKES && s.list[at].given != 0)
                snprintf(had, sizeof had, "%s", s.list[at].name);
            enum sender_place got = first_line(&s, name, 1, uid, now);
            if (gone[n])
                assert_int_equal(got, SENDER_FORGOTTEN);
            if (had[0] != 0) {
                gone[atoi(had + 1)] = true;
                forgotten++;
            }
            assert_true(s.count <= 20);
            if (rng_next(&r) % 50 == 0)
                restart(&s);
        }
        assert_true(forgotten > 20 && forgotten <= 20 * SENDER_TOMBS);
        senders_free(&s);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_becomes_of_a_newcomer), cmocka_unit_test(what_a_position_holds),
        cmocka_unit_test(who_is_not_forgotten),       cmocka_unit_test(a_place_that_is_given_away),
        cmocka_unit_test(no_name_comes_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
