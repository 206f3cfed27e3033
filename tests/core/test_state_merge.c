/* SPDX-License-Identifier: Apache-2.0 */
/* A merge of any sources shows what one sorted array of their newest pairs shows, both ways; and
 * the error of a source is never taken for its end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "state/merge.h"
#include "tests/sim/rng.h"

#undef fail
#include <cmocka.h>

#define KEYS 120u
#define SOURCES_MAX 70u
#define NOW 500u

static struct rng rng;
static uint64_t rnd(uint64_t below) {
    return rng_next(&rng) % below;
}

static const uint8_t prefix[STORE_PREFIX_SIZE] = {0, 0, 0, 7, 0, 0, 0, 9};

/* Key number n; ascending in n. Zeros, 0xff and keys that begin others among them. */
static uint32_t make_key(uint32_t n, uint8_t *key) {
    static const uint8_t first[] = {0x00, 0x01, 0x61, 0xfe, 0xff};
    uint32_t group = n / (KEYS / 5), rest = n % (KEYS / 5);
    memset(key, first[group], 9);
    if (rest < 8)
        return rest + 1; /* each begins the next */
    key[8] = (uint8_t)(first[group] == 0xff ? 0xff : first[group] + 1);
    key[9] = (uint8_t)rest;
    return 10;
}

/* ---- a source that is an array of pairs; it can be made to fail */

struct array {
    struct state_pair pair[KEYS + 2];
    uint8_t key[KEYS + 2][STORE_PREFIX_SIZE + 10];
    uint32_t count;
    uint32_t at; /* count: it stands nowhere */
    int64_t fails_in;
    int code;
};

static int array_stand(struct array *a, int64_t at) {
    if (a->code != 0 && a->fails_in-- == 0)
        return fail_set(a->code, "the disk says no"), a->code;
    a->at = at < 0 || at >= a->count ? a->count : (uint32_t)at;
    return a->at < a->count;
}

static int array_seek_ge(void *source, const void *key, uint32_t len) {
    struct array *a = source;
    uint32_t i = 0;
    while (i < a->count && bytes_compare(a->pair[i].key, a->pair[i].key_len, key, len) < 0)
        i++;
    return array_stand(a, i);
}

static int array_seek_le(void *source, const void *key, uint32_t len) {
    struct array *a = source;
    uint32_t i = 0;
    assert_true(len > 0);
    while (i < a->count && bytes_compare(a->pair[i].key, a->pair[i].key_len, key, len) <= 0)
        i++;
    return array_stand(a, (int64_t)i - 1);
}

static int array_next(void *source) {
    struct array *a = source;
    assert_true(a->at < a->count); /* a source that stands nowhere is not moved */
    return array_stand(a, (int64_t)a->at + 1);
}

static int array_prev(void *source) {
    struct array *a = source;
    assert_true(a->at < a->count);
    return array_stand(a, (int64_t)a->at - 1);
}

static const struct state_pair *array_pair(const void *source) {
    const struct array *a = source;
    return &a->pair[a->at];
}

static const struct merge_ops array_ops = {array_seek_ge, array_seek_le, array_next, array_prev,
                                           array_pair};

static void array_add(struct array *a, const uint8_t *begin, const uint8_t *key, uint32_t len,
                      struct state_pair p) {
    uint32_t i = a->count++;
    memcpy(a->key[i], begin, STORE_PREFIX_SIZE);
    memcpy(a->key[i] + STORE_PREFIX_SIZE, key, len);
    p.key = a->key[i], p.key_len = STORE_PREFIX_SIZE + len;
    a->pair[i] = p;
    a->at = a->count;
}

/* ---- the model: what each key is */

struct world {
    struct mem mem;
    struct array *arrays;
    struct memtable tables[SOURCES_MAX];
    struct merge_memtable cursors[SOURCES_MAX];
    bool is_table[SOURCES_MAX];
    uint32_t sources;
    struct state_pair newest[KEYS]; /* op 0: none */
    uint8_t value[SOURCES_MAX][KEYS];
    struct merge_options o;
    uint8_t from[10], to[10];
    uint32_t from_n, to_n;
    struct merge *m;
};

static void add_pair(struct world *w, uint32_t s, uint32_t n) {
    uint8_t key[10];
    uint32_t len = make_key(n, key);
    struct state_pair p = {.op = rnd(3) == 0 ? STATE_DELETE : STATE_PUT};
    w->value[s][n] = (uint8_t)rnd(256);
    if (p.op == STATE_PUT) {
        p.value = &w->value[s][n], p.value_len = 1;
        p.expiry_ms = rnd(3) == 0 ? NOW - 2 + rnd(4) : 0;
    }
    if (w->is_table[s])
        assert_int_equal(
            memtable_put(&w->tables[s], key, len, p.op, p.expiry_ms, p.value, p.value_len, 1), 0);
    else
        array_add(&w->arrays[s], prefix, key, len, p);
    if (w->newest[n].op == 0)
        w->newest[n] = p;
}

static void fill_source(struct world *w, uint32_t s) {
    static const uint8_t below[STORE_PREFIX_SIZE] = {0, 0, 0, 7, 0, 0, 0, 8};
    static const uint8_t above[STORE_PREFIX_SIZE] = {0, 0, 0, 7, 0, 0, 0, 10};
    uint64_t density = rnd(6) + 1;
    struct state_pair other = {.op = STATE_PUT};
    if (!w->is_table[s]) /* neighbours: pairs of other table partitions */
        array_add(&w->arrays[s], below, (const uint8_t *)"\xff\xff", 2, other);
    for (uint32_t n = 0; n < KEYS; n++)
        if (rnd(density) == 0)
            add_pair(w, s, n);
    if (!w->is_table[s])
        array_add(&w->arrays[s], above, (const uint8_t *)"a", 1, other);
}

static void set_bounds(struct world *w) {
    w->from_n = rnd(3) == 0 ? (uint32_t)rnd(KEYS) : 0;
    w->to_n = rnd(3) == 0 ? (uint32_t)rnd(KEYS) : KEYS;
    if (w->from_n > 0)
        w->o.from = w->from, w->o.from_len = make_key(w->from_n, w->from);
    if (w->to_n < KEYS)
        w->o.to = w->to, w->o.to_len = make_key(w->to_n, w->to);
}

static void world_open(struct world *w, uint64_t seed, uint32_t sources) {
    memset(w, 0, sizeof *w);
    rng.state = seed;
    mem_init(&w->mem, 0);
    w->arrays = calloc(sources, sizeof *w->arrays);
    assert_non_null(w->arrays);
    w->sources = sources;
    struct merge_source s[SOURCES_MAX];
    for (uint32_t i = 0; i < sources; i++) {
        w->is_table[i] = rnd(3) == 0;
        memtable_init(&w->tables[i], &w->mem, NULL);
        fill_source(w, i);
        memtable_cursor_open(&w->cursors[i].cursor, &w->tables[i], MEMTABLE_NEWEST);
        s[i] = (struct merge_source){&array_ops, &w->arrays[i], false};
        if (w->is_table[i])
            s[i] = (struct merge_source){&merge_memtable_ops, &w->cursors[i], true};
    }
    w->o = (struct merge_options){.prefix = prefix, .prefix_len = sizeof prefix};
    w->o.now_ms = rnd(2) == 0 ? NOW : 0;
    w->o.tombstones = rnd(3) == 0;
    set_bounds(w);
    assert_int_equal(merge_open(&w->mem, s, sources, &w->o, &w->m), 0);
}

static void world_close(struct world *w) {
    merge_close(w->m);
    for (uint32_t i = 0; i < w->sources; i++) {
        memtable_cursor_close(&w->cursors[i].cursor);
        memtable_free(&w->tables[i]);
    }
    free(w->arrays);
    assert_int_equal(w->mem.used, 0);
}

static bool visible(const struct world *w, uint32_t n, bool *dead) {
    const struct state_pair *p = &w->newest[n];
    *dead = p->op == STATE_DELETE ||
            (p->op == STATE_PUT && w->o.now_ms != 0 && p->expiry_ms != 0 && p->expiry_ms <= NOW);
    return p->op != 0 && n >= w->from_n && n < w->to_n && (!*dead || w->o.tombstones);
}

/* The number of the nearest visible key, from n on; KEYS: none. */
static uint32_t forward_from(const struct world *w, int64_t n) {
    bool dead;
    for (; n < KEYS; n++)
        if (visible(w, (uint32_t)n, &dead))
            return (uint32_t)n;
    return KEYS;
}

static uint32_t backward_from(const struct world *w, int64_t n) {
    bool dead;
    for (; n >= 0; n--)
        if (visible(w, (uint32_t)n, &dead))
            return (uint32_t)n;
    return KEYS;
}

static void stands_at(const struct world *w, int rc, uint32_t n) {
    const struct state_pair *p = merge_pair(w->m);
    assert_int_equal(rc, n < KEYS);
    if (n == KEYS) {
        assert_null(p);
        return;
    }
    uint8_t key[10];
    bool dead;
    assert_non_null(p);
    assert_int_equal(bytes_compare(p->key, p->key_len, key, make_key(n, key)), 0);
    visible(w, n, &dead);
    assert_int_equal(p->op, dead ? STATE_DELETE : STATE_PUT);
    assert_int_equal(p->value_len, dead ? 0 : 1);
    assert_int_equal(p->expiry_ms, dead ? 0 : w->newest[n].expiry_ms);
    if (!dead)
        assert_int_equal(p->value[0], w->newest[n].value[0]);
}

static void walk(struct world *w) {
    uint32_t n = forward_from(w, 0);
    stands_at(w, merge_first(w->m), n);
    while (n < KEYS) {
        n = forward_from(w, (int64_t)n + 1);
        stands_at(w, merge_next(w->m), n);
    }
    assert_int_equal(merge_next(w->m), 0); /* it stands nowhere */
    assert_int_equal(merge_prev(w->m), 0);
    n = backward_from(w, KEYS - 1);
    stands_at(w, merge_last(w->m), n);
    while (n < KEYS) {
        n = backward_from(w, (int64_t)n - 1);
        stands_at(w, merge_prev(w->m), n);
    }
}

static uint32_t random_seek(struct world *w) {
    uint8_t key[10];
    uint32_t n = (uint32_t)rnd(KEYS), len = make_key(n, key);
    if (rnd(2) == 0) {
        n = forward_from(w, n);
        stands_at(w, merge_seek_ge(w->m, key, len), n);
    } else {
        n = backward_from(w, n);
        stands_at(w, merge_seek_le(w->m, key, len), n);
    }
    return n;
}

static uint32_t random_move(struct world *w, uint32_t n) {
    if (n == KEYS || rnd(8) == 0)
        return random_seek(w);
    if (rnd(2) == 0) {
        n = forward_from(w, (int64_t)n + 1);
        stands_at(w, merge_next(w->m), n);
    } else {
        n = backward_from(w, (int64_t)n - 1);
        stands_at(w, merge_prev(w->m), n);
    }
    return n;
}

static void any_sources_both_ways(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < 300; seed++) {
        static struct world w;
        world_open(&w, seed, seed % 20 == 0 ? SOURCES_MAX : (uint32_t)(seed % 6));
        walk(&w);
        uint32_t n = KEYS;
        for (int i = 0; i < 300; i++)
            n = random_move(&w, n);
        assert_int_equal(merge_seek_le(w.m, "", 0), 0);
        world_close(&w);
    }
}

static void errors_stay(void **state) {
    (void)state;
    static const int codes[] = {PAWL_DAMAGED, PAWL_IO};
    for (int64_t n = 0; n < 60; n++) {
        static struct array a, b;
        memset(&a, 0, sizeof a), memset(&b, 0, sizeof b);
        struct state_pair p = {.op = STATE_PUT};
        for (uint32_t k = 0; k < 20; k++) {
            uint8_t key[10];
            uint32_t len = make_key(k, key);
            array_add(k % 3 == 0 ? &a : &b, prefix, key, len, p);
            if (k % 4 == 0 && k % 3 == 0)
                array_add(&b, prefix, key, len, p);
        }
        b.code = codes[n % 2], b.fails_in = n;
        struct merge_source s[] = {{&array_ops, &a, false}, {&array_ops, &b, false}};
        struct merge_options o = {0};
        struct mem mem;
        struct merge *m;
        mem_init(&mem, 0);
        assert_int_equal(merge_open(&mem, s, 2, &o, &m), 0);
        int rc = merge_first(m);
        for (int i = 0; rc == 1 && i < 12; i++)
            rc = merge_next(m);
        for (int i = 0; rc == 1; i++)
            rc = i % 5 == 4 ? merge_next(m) : merge_prev(m);
        if (rc == 0) { /* it was not called that often */
            assert_true(b.fails_in >= 0);
            merge_close(m);
            continue;
        }
        assert_int_equal(rc, codes[n % 2]);
        b.code = 0; /* the source is well again: the merge isn't */
        pawl_error e;
        for (int again = 0; again < 2; again++) {
            assert_null(merge_pair(m));
            fail_set(PAWL_INVALID, "something else meanwhile");
            assert_int_equal(merge_first(m), codes[n % 2]);
            assert_int_equal(merge_next(m), codes[n % 2]);
            assert_int_equal(merge_prev(m), codes[n % 2]);
            assert_int_equal(merge_last(m), codes[n % 2]);
            assert_int_equal(merge_seek_ge(m, "x", 1), codes[n % 2]);
            assert_int_equal(merge_seek_le(m, "x", 1), codes[n % 2]);
            fail_copy(&e);
            assert_int_equal(e.code, codes[n % 2]);
            assert_non_null(strstr(e.message, "the disk says no"));
        }
        merge_close(m);
        assert_int_equal(mem.used, 0);
    }
}

static void limits(void **state) {
    (void)state;
    struct mem mem;
    struct merge *m;
    struct merge_options o = {0};
    static struct merge_source s[MERGE_SOURCES_MAX + 1];
    mem_init(&mem, 0);
    assert_int_equal(merge_open(&mem, s, MERGE_SOURCES_MAX + 1, &o, &m), PAWL_LIMIT);
    atomic_store(&mem.fail_at, 0);
    assert_int_equal(merge_open(&mem, s, 0, &o, &m), PAWL_MEMORY);
    assert_null(m);
    atomic_store(&mem.fail_at, -1);
    assert_int_equal(merge_open(&mem, s, 0, &o, &m), 0);
    assert_int_equal(merge_first(m), 0);
    assert_int_equal(merge_last(m), 0);
    merge_close(m);
    merge_close(NULL);
    assert_int_equal(mem.used, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_sources_both_ways),
        cmocka_unit_test(errors_stay),
        cmocka_unit_test(limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
