/* SPDX-License-Identifier: Apache-2.0 */
/* Pairs stay in memory after a flush and leave it when memory is short. Whatever leaves, and when,
 * a read never shows what an older run has. The model is a plain array of versions.
 * test-timeout: 300 */
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
#undef fail /* the library has one of its own */
#include "pipeline/engine.h"

#define KEYS 20000u
#define SCANS 2u

struct model {
    uint32_t version[KEYS]; /* 0: there is no pair */
};

struct held { /* a scan that stays open */
    pawl_state_cursor *cursor;
    struct model seen;
    uint32_t next;
};

struct run_of {
    struct fixture *f;
    struct model m;
    struct held scans[SCANS];
    uint32_t scan_count;
    uint64_t seed;
    uint64_t most; /* memory tables took at most this */
};

static uint32_t rnd(struct run_of *r, uint32_t below) {
    r->seed = r->seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(r->seed >> 33) % below;
}

static size_t key_of(uint32_t k, char out[16]) {
    return (size_t)snprintf(out, 16, "key-%06u", k);
}

static size_t value_of(uint32_t k, uint32_t version, char out[200]) {
    int n = snprintf(out, 200, "%u of %u ", version, k);
    size_t len = (size_t)n + version % 100;
    memset(out + n, 'v', len - (size_t)n);
    return len;
}

static void expect(struct run_of *r, pawl_tx *tx, const struct model *m, uint32_t k) {
    char key[16], want[200], got[200];
    const void *value = got;
    size_t len = 0, key_len = key_of(k, key);
    int rc = tx != NULL
                 ? pawl_tx_state_get(tx, r->f->table, 0, key, key_len, &value, &len)
                 : pawl_table_get(r->f->log, r->f->table, 0, key, key_len, got, sizeof got, &len);
    assert_int_equal(rc, m->version[k] != 0);
    if (rc == 1) {
        assert_int_equal(len, value_of(k, m->version[k], want));
        assert_memory_equal(value, want, len);
    }
}

static void change(struct run_of *r, pawl_tx *tx, struct model *m, uint32_t k, uint32_t version) {
    char key[16], value[200];
    size_t len = key_of(k, key);
    if (version % 5 == 0) {
        assert_int_equal(pawl_tx_state_delete(tx, r->f->table, 0, key, len), m->version[k] != 0);
        m->version[k] = 0;
        return;
    }
    m->version[k] = version;
    assert_int_equal(
        pawl_tx_state_put(tx, r->f->table, 0, key, len, value, value_of(k, version, value)), 0);
}

static void transaction(struct run_of *r, uint32_t version) {
    static struct model next;
    pawl_tx *tx = begin(r->f);
    next = r->m;
    uint32_t changes = 1 + rnd(r, 200), near = rnd(r, KEYS), span = rnd(r, 4) == 0 ? 100 : KEYS;
    for (uint32_t i = 0; i < changes; i++) {
        uint32_t k = (near + rnd(r, span)) % KEYS;
        if (rnd(r, 3) == 0)
            expect(r, tx, &next, k);
        change(r, tx, &next, k, version);
    }
    if (rnd(r, 6) == 0) {
        pawl_abort(tx);
        return;
    }
    assert_int_equal(pawl_commit(tx, NULL), 0);
    r->m = next;
}

/* A range of keys is deleted: what only runs have is found and goes. */
static void delete_some(struct run_of *r) {
    uint32_t k = rnd(r, KEYS), end = k + 50 < KEYS ? k + 50 : KEYS;
    char from[16], to[16];
    pawl_state_range range = PAWL_STATE_RANGE_INIT;
    pawl_state_cursor *c;
    pawl_state_pair pair;
    int rc;
    range.from = from, range.from_len = key_of(k, from);
    range.to = to, range.to_len = key_of(end, to);
    pawl_tx *tx = begin(r->f);
    assert_int_equal(pawl_tx_state_scan(tx, r->f->table, 0, &range, &c), 0);
    while ((rc = pawl_state_next(c, &pair)) == 1)
        assert_int_equal(pawl_tx_state_delete(tx, r->f->table, 0, pair.key, pair.key_len), 1);
    assert_int_equal(rc, 0);
    pawl_state_close(c);
    assert_int_equal(pawl_commit(tx, NULL), 0);
    memset(&r->m.version[k], 0, (end - k) * sizeof r->m.version[0]);
}

/* The next `count` pairs of a scan are those of its moment. */
static void go_on(struct held *h, uint32_t count) {
    char key[16], want[200];
    pawl_state_pair pair;
    for (; count > 0; count--) {
        while (h->next < KEYS && h->seen.version[h->next] == 0)
            h->next++;
        int rc = pawl_state_next(h->cursor, &pair);
        assert_int_equal(rc, h->next < KEYS);
        if (rc == 0)
            return;
        assert_int_equal(pair.key_len, key_of(h->next, key));
        assert_memory_equal(pair.key, key, pair.key_len);
        assert_int_equal(pair.value_len, value_of(h->next, h->seen.version[h->next], want));
        assert_memory_equal(pair.value, want, pair.value_len);
        h->next++;
    }
}

static void use_scan(struct run_of *r, struct held *h) {
    if (h->cursor == NULL) {
        assert_int_equal(pawl_table_scan(r->f->log, r->f->table, 0, NULL, &h->cursor), 0);
        h->seen = r->m;
        h->next = 0;
    } else if (rnd(r, 3) != 0) {
        go_on(h, rnd(r, 300));
    } else {
        pawl_state_close(h->cursor);
        h->cursor = NULL;
    }
}

static void let_scans_go(struct run_of *r) {
    for (uint32_t i = 0; i < SCANS; i++) {
        pawl_state_close(r->scans[i].cursor);
        r->scans[i].cursor = NULL;
    }
}

static void check_all(struct run_of *r) {
    struct held h = {.seen = r->m};
    assert_int_equal(pawl_table_scan(r->f->log, r->f->table, 0, NULL, &h.cursor), 0);
    go_on(&h, KEYS + 1);
    pawl_state_close(h.cursor);
    for (uint32_t i = 0; i < 300; i++)
        expect(r, NULL, &r->m, rnd(r, KEYS));
}

static void with_memory(struct run_of *r, struct fixture *f, uint64_t cap, uint32_t scans) {
    memset(r, 0, sizeof *r);
    r->scan_count = scans;
    r->f = f;
    r->seed = cap;
    f->options.memory_cap = cap;
    reopen(f);
}

static void random_changes(struct fixture *f, uint64_t cap, uint32_t scans) {
    static struct run_of r;
    uint64_t evicted = 0;
    with_memory(&r, f, cap, scans);
    const struct store *s = &r.f->log->store;
    for (uint32_t round = 1; round <= 1500; round++) {
        uint64_t keys_before = s->used;
        transaction(&r, round);
        evicted += s->used < keys_before;
        r.most = r.most > s->bytes ? r.most : s->bytes;
        if (rnd(&r, 30) == 0)
            delete_some(&r);
        if (rnd(&r, 40) == 0)
            assert_true(pawl_state_flush(r.f->log) >= 0);
        if (rnd(&r, 12) == 0)
            use_scan(&r, &r.scans[rnd(&r, scans)]);
        for (uint32_t i = 0; i < 20; i++)
            expect(&r, NULL, &r.m, rnd(&r, KEYS));
        if (rnd(&r, 250) == 0) {
            let_scans_go(&r);
            reopen(r.f);
            s = &r.f->log->store;
        }
        if (round % 300 == 0)
            check_all(&r);
    }
    let_scans_go(&r);
    check_all(&r);
    /* the test means something: memory was too small for all, and changes did leave it */
    assert_true(evicted > 10);
    assert_true(r.most <= s->memory_max * 2);
}

/* What a scan found in memory, and what is in a run only since, stays while it goes on. */
static void a_scan_keeps_what_it_needs(void **state) {
    static struct run_of r;
    static struct held h;
    with_memory(&r, *state, 4 * MIB, 0);
    for (uint32_t k = 0; k < KEYS;) {
        pawl_tx *tx = begin(r.f);
        for (uint32_t end = k + 200; k < end; k++)
            change(&r, tx, &r.m, k, 1);
        assert_int_equal(pawl_commit(tx, NULL), 0);
        if (k == 3000) {
            assert_int_equal(pawl_table_scan(r.f->log, r.f->table, 0, NULL, &h.cursor), 0);
            h.seen = r.m;
            assert_int_equal(pawl_state_flush(r.f->log), 1);
        }
    }
    go_on(&h, KEYS + 1);
    pawl_state_close(h.cursor);
    check_all(&r);
}

static void whatever_leaves_memory(void **state) {
    random_changes(*state, 4 * MIB, 1);
}

static void more_memory_and_more_scans(void **state) {
    random_changes(*state, 8 * MIB, SCANS);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_scan_keeps_what_it_needs, setup, teardown),
        cmocka_unit_test_setup_teardown(whatever_leaves_memory, setup, teardown),
        cmocka_unit_test_setup_teardown(more_memory_and_more_scans, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
