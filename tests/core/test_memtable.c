/* SPDX-License-Identifier: Apache-2.0 */
/* The memory table does what a plain sorted array does: puts, deletes, versions for snapshots,
 * cursors in the middle of changes, and every allocation failing in turn. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pawl.h"
#include "state/memtable_node.h"
#include "tests/sim/rng.h"

#include <cmocka.h>

/* ---- the model: keys in ascending order, each with all its versions */

struct version {
    uint64_t lsn, expiry_ms;
    uint32_t len;
    uint8_t op, seed;
};
struct model_key {
    uint8_t *key;
    size_t len;
    struct version *v; /* ascending LSNs */
    size_t count;
};
struct model {
    struct model_key *k;
    size_t count, room;
};

static struct rng rng;
static uint64_t rnd(uint64_t below) {
    return rng_next(&rng) % below;
}

static int order(const uint8_t *a, size_t a_len, const uint8_t *b, size_t b_len) {
    int c = memcmp(a, b, a_len < b_len ? a_len : b_len);
    return c != 0 ? c : (a_len > b_len) - (a_len < b_len);
}

static size_t model_find(const struct model *m, const uint8_t *key, size_t len, bool *found) {
    size_t low = 0, high = m->count;
    *found = false;
    while (low < high) {
        size_t middle = (low + high) / 2;
        int c = order(m->k[middle].key, m->k[middle].len, key, len);
        if (c == 0) {
            *found = true;
            return middle;
        }
        if (c < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void model_put(struct model *m, const uint8_t *key, size_t len, struct version v) {
    bool found;
    size_t at = model_find(m, key, len, &found);
    if (!found) {
        if (m->count == m->room) {
            m->room = m->room * 2 + 64;
            m->k = realloc(m->k, m->room * sizeof m->k[0]);
            assert_non_null(m->k);
        }
        memmove(&m->k[at + 1], &m->k[at], (m->count++ - at) * sizeof m->k[0]);
        m->k[at] = (struct model_key){malloc(len), len, NULL, 0};
        assert_non_null(m->k[at].key);
        memcpy(m->k[at].key, key, len);
    }
    struct model_key *k = &m->k[at];
    if (k->count == 0 || k->v[k->count - 1].lsn != v.lsn) {
        k->v = realloc(k->v, (k->count + 1) * sizeof v);
        assert_non_null(k->v);
        k->count++;
    }
    k->v[k->count - 1] = v;
}

static const struct version *model_at(const struct model_key *k, uint64_t lsn) {
    for (size_t i = k->count; i > 0; i--)
        if (k->v[i - 1].lsn <= lsn)
            return &k->v[i - 1];
    return NULL;
}

static void model_free(struct model *m) {
    for (size_t i = 0; i < m->count; i++) {
        free(m->k[i].key);
        free(m->k[i].v);
    }
    free(m->k);
    *m = (struct model){0};
}

/* ---- keys of each kind */

enum kind { RANDOM_16, TIED, ODD, LONG, ASCENDING, DESCENDING, KINDS };
static const char *const kind_names[] = {"random", "tied prefixes", "zeros and 0xff",
                                         "long",   "ascending",     "descending"};

static size_t make_key(enum kind kind, uint64_t n, uint8_t *key) {
    size_t len;
    switch (kind) {
    case RANDOM_16:
        for (int i = 0; i < 16; i++)
            key[i] = (uint8_t)(n * UINT64_C(0x9E3779B97F4A7C15) >> (i % 8 * 8)) ^ (uint8_t)i;
        return 16;
    case TIED:
        return (size_t)sprintf((char *)key, "customer:%s:%llu", n % 3 == 0 ? "eu" : "eurasia",
                               (unsigned long long)n);
    case ODD: /* strings of 0x00, 0x01, 0xfe, 0xff: each length */
        len = n % 13 + 1;
        for (size_t i = 0; i < len; i++)
            key[i] = (uint8_t)((n >> (i % 12) & 1) - (n >> (i % 7) & 1) + (i == n % 5));
        return len;
    case LONG:
        len = n % 7 == 0 ? MEMTABLE_KEY_MAX : n * 37 % MEMTABLE_KEY_MAX + 1;
        memset(key, 'k', len);
        memcpy(key + (len > 8 ? len - 8 : 0), &n, len > 8 ? 8 : len);
        return len;
    case ASCENDING:
        return (size_t)sprintf((char *)key, "%012llu", (unsigned long long)n);
    default:
        return (size_t)sprintf((char *)key, "%012llu", 999999999ull - (unsigned long long)n);
    }
}

static void make_value(uint8_t seed, uint32_t len, uint8_t *value) {
    for (uint32_t i = 0; i < len; i++)
        value[i] = (uint8_t)(seed + i * 7);
}

static void same(const struct mem_entry *e, const struct model_key *k, const struct version *v) {
    static uint8_t value[70000];
    assert_non_null(e);
    assert_int_equal(order(e->bytes, e->key_len, k->key, k->len), 0);
    assert_int_equal(e->op, v->op);
    assert_int_equal(e->lsn, v->lsn);
    assert_int_equal(e->expiry_ms, v->expiry_ms);
    assert_int_equal(e->value_len, v->len);
    make_value(v->seed, v->len, value);
    assert_memory_equal(mem_entry_value(e), value, v->len);
}

/* ---- a table and its model */

#define SNAPSHOTS 5
struct pair_of {
    struct mem mem;
    struct snapshots set;
    struct snapshot snapshot[SNAPSHOTS];
    bool taken[SNAPSHOTS];
    struct memtable t;
    struct model m;
    uint64_t lsn;
};

static void pair_init(struct pair_of *p, uint64_t seed) {
    memset(p, 0, sizeof *p);
    mem_init(&p->mem, 0);
    memtable_init(&p->t, &p->mem, &p->set);
    p->t.index_from = seed % 2 == 0 ? 0 : 1 + seed % 100; /* some have an index, from some key on */
    rng.state = seed;
}

static void pair_free(struct pair_of *p) {
    memtable_free(&p->t);
    model_free(&p->m);
    assert_int_equal(p->mem.used, 0);
}

static int put(struct pair_of *p, enum kind kind, uint64_t n, uint32_t value_max) {
    static uint8_t key[MEMTABLE_KEY_MAX + 64], value[70000];
    size_t len = make_key(kind, n, key);
    struct version v = {++p->lsn, rnd(3) == 0 ? rnd(1000) : 0, 0, STATE_PUT, (uint8_t)rnd(256)};
    if (rnd(4) == 0)
        v.op = STATE_DELETE, v.expiry_ms = 0;
    else
        v.len = (uint32_t)rnd(value_max + 1);
    make_value(v.seed, v.len, value);
    int rc = memtable_put(&p->t, key, len, v.op, v.expiry_ms, value, v.len, v.lsn);
    if (rc == 0)
        model_put(&p->m, key, len, v);
    return rc;
}

/* Of the memory of a table: by entries and nodes. */
static uint64_t used_by(const struct memtable *m) {
    return m->body == NULL ? 0 : m->body->arena.used;
}

/* No key is above the longest one of 0xff. */
static const struct mem_entry *to_last(struct memtable_cursor *c) {
    static uint8_t key[MEMTABLE_KEY_MAX];
    memset(key, 0xff, sizeof key);
    return memtable_seek_le(c, key, sizeof key);
}

/* The whole table as of `lsn`, forward and backward, and by gets. */
static void check_at(struct pair_of *p, uint64_t lsn) {
    struct memtable_cursor c;
    memtable_cursor_open(&c, &p->t, lsn);
    const struct mem_entry *e = memtable_first(&c);
    for (size_t i = 0; i < p->m.count; i++) {
        const struct version *v = model_at(&p->m.k[i], lsn);
        const struct mem_entry *got =
            version_at(memtable_get(&p->t, p->m.k[i].key, p->m.k[i].len), lsn);
        if (v == NULL) {
            assert_null(got);
            continue;
        }
        same(got, &p->m.k[i], v);
        assert_ptr_equal(e, got);
        e = memtable_next(&c);
    }
    assert_null(e);
    assert_null(memtable_next(&c));
    e = to_last(&c);
    for (size_t i = p->m.count; i > 0; i--) {
        const struct version *v = model_at(&p->m.k[i - 1], lsn);
        if (v == NULL)
            continue;
        same(e, &p->m.k[i - 1], v);
        e = memtable_prev(&c);
    }
    assert_null(e);
    memtable_cursor_close(&c);
}

static void check_all(struct pair_of *p) {
    assert_int_equal(memtable_keys(&p->t), p->m.count);
    check_at(p, MEMTABLE_NEWEST);
    for (int i = 0; i < SNAPSHOTS; i++)
        if (p->taken[i])
            check_at(p, p->snapshot[i].lsn);
    assert_true(memtable_bytes(&p->t) >= used_by(&p->t));
    assert_int_equal(memtable_bytes(&p->t), p->mem.used);
}

static void check_seeks(struct pair_of *p, enum kind kind, uint64_t keys) {
    static uint8_t key[MEMTABLE_KEY_MAX + 64];
    struct memtable_cursor c;
    memtable_cursor_open(&c, &p->t, MEMTABLE_NEWEST);
    for (int i = 0; i < 200; i++) {
        size_t len = make_key(kind, rnd(keys * 2), key);
        if (rnd(4) == 0)
            len = rnd(len) + 1; /* a prefix */
        bool found;
        size_t at = model_find(&p->m, key, len, &found);
        const struct mem_entry *e = memtable_seek_ge(&c, key, len);
        if (at == p->m.count)
            assert_null(e);
        else
            same(e, &p->m.k[at], model_at(&p->m.k[at], MEMTABLE_NEWEST));
        assert_int_equal(memtable_get(&p->t, key, len) != NULL, found);
        e = memtable_seek_le(&c, key, len);
        if (!found && at == 0)
            assert_null(e);
        else
            same(e, &p->m.k[found ? at : at - 1],
                 model_at(&p->m.k[found ? at : at - 1], MEMTABLE_NEWEST));
    }
    memtable_cursor_close(&c);
}

static void random_operations(void **state) {
    (void)state;
    for (int kind = 0; kind < KINDS; kind++) {
        struct pair_of p;
        uint64_t keys = kind == LONG ? 300 : 3000;
        pair_init(&p, (uint64_t)kind);
        print_message("keys: %s\n", kind_names[kind]);
        for (uint64_t i = 0; i < 3 * keys; i++) {
            uint64_t n = kind >= ASCENDING && i < keys ? i : rnd(keys);
            assert_int_equal(put(&p, (enum kind)kind, n, rnd(50) == 0 ? 5000 : 40), 0);
            if (rnd(keys / 10) == 0)
                check_seeks(&p, (enum kind)kind, keys);
        }
        check_all(&p);
        check_seeks(&p, (enum kind)kind, keys);
        pair_free(&p);
    }
}

static void snapshots_keep_versions(void **state) {
    (void)state;
    for (int kind = 0; kind < KINDS; kind++) {
        struct pair_of p;
        pair_init(&p, 77 + (uint64_t)kind);
        for (int i = 0; i < 4000; i++) {
            assert_int_equal(put(&p, (enum kind)kind, rnd(150), 60), 0);
            size_t s = rnd(SNAPSHOTS);
            if (rnd(40) != 0)
                continue;
            if (p.taken[s])
                snapshots_remove(&p.set, &p.snapshot[s]);
            else
                snapshots_add(&p.set, &p.snapshot[s], p.lsn);
            p.taken[s] = !p.taken[s];
            if (rnd(4) == 0)
                check_all(&p);
        }
        check_all(&p);
        for (int i = 0; i < SNAPSHOTS; i++)
            if (p.taken[i])
                snapshots_remove(&p.set, &p.snapshot[i]);
        assert_null(p.set.newest);
        assert_null(p.set.oldest);
        /* once no snapshot is left, a put of each key gives the old versions back */
        for (uint64_t n = 0; n < 150; n++)
            assert_int_equal(put(&p, (enum kind)kind, n, 8), 0);
        struct memtable_cursor c;
        memtable_cursor_open(&c, &p.t, MEMTABLE_NEWEST);
        for (const struct mem_entry *e = memtable_first(&c); e != NULL; e = memtable_next(&c))
            assert_null(e->older);
        memtable_cursor_close(&c);
        pair_free(&p);
    }
}

static void overwrites_take_no_memory(void **state) {
    (void)state;
    struct mem mem;
    struct memtable t;
    mem_init(&mem, 0);
    memtable_init(&t, &mem, NULL);
    for (uint64_t i = 0; i < 5000; i++)
        assert_int_equal(memtable_put(&t, &i, 8, STATE_PUT, 0, "12345678", 8, i), 0);
    uint64_t before = memtable_bytes(&t), used = used_by(&t);
    for (uint64_t i = 0; i < 50000; i++) {
        uint64_t key = i % 5000;
        struct memtable_spot spot;
        const struct mem_entry *e = memtable_find(&t, &key, 8, &spot);
        assert_non_null(e);
        assert_int_equal(memtable_put_at(&t, &spot, STATE_PUT, 0, &i, 8, 5000 + i), 0);
        assert_ptr_equal(memtable_get(&t, &key, 8), e);
        assert_memory_equal(mem_entry_value(e), &i, 8);
    }
    assert_int_equal(memtable_bytes(&t), before);
    assert_int_equal(used_by(&t), used);
    /* values that grow: the old pieces are used again */
    static uint8_t value[3000];
    for (uint64_t i = 0; i < 30000; i++) {
        uint64_t key = i % 10;
        assert_int_equal(memtable_put(&t, &key, 8, STATE_PUT, 0, value, i / 10, 60000 + i), 0);
    }
    assert_true(memtable_bytes(&t) < before + (UINT64_C(2) << 20));
    memtable_free(&t);
    assert_int_equal(mem.used, 0);
}

/* A cursor stays on its key; keys that are put ahead of it are met, those behind it aren't. */
static void cursors_among_changes(void **state) {
    (void)state;
    static uint8_t at[MEMTABLE_KEY_MAX + 64];
    for (int kind = 0; kind < KINDS; kind++) {
        for (int way = 0; way < 2; way++) {
            struct pair_of p;
            pair_init(&p, 500 + (uint64_t)kind);
            for (int i = 0; i < 300; i++)
                assert_int_equal(put(&p, (enum kind)kind, rnd(4000), 20), 0);
            struct memtable_cursor c, idle;
            memtable_cursor_open(&idle, &p.t, MEMTABLE_NEWEST);
            memtable_cursor_open(&c, &p.t, MEMTABLE_NEWEST);
            const struct mem_entry *e = way == 0 ? memtable_first(&c) : to_last(&c);
            size_t steps = 0;
            while (e != NULL) {
                size_t len = e->key_len;
                memcpy(at, e->bytes, len);
                for (uint64_t i = rnd(12); i > 0; i--)
                    assert_int_equal(put(&p, (enum kind)kind, rnd(4000), 60), 0);
                bool found;
                size_t i = model_find(&p.m, at, len, &found);
                assert_true(found);
                e = way == 0 ? memtable_next(&c) : memtable_prev(&c);
                if (way == 0 ? i + 1 == p.m.count : i == 0) {
                    assert_null(e);
                    break;
                }
                i = way == 0 ? i + 1 : i - 1;
                same(e, &p.m.k[i], model_at(&p.m.k[i], MEMTABLE_NEWEST));
                steps++;
            }
            assert_true(steps > 100);
            memtable_cursor_close(&idle);
            memtable_cursor_close(&c);
            check_all(&p);
            pair_free(&p);
        }
    }
}

static void no_allocation_spoils_it(void **state) {
    (void)state;
    for (int kind = 0; kind < KINDS; kind++) {
        bool failed = true;
        for (int64_t n = 0; failed; n++) {
            struct pair_of p;
            pair_init(&p, 900 + (uint64_t)kind);
            failed = false;
            atomic_store(&p.mem.fail_at, n);
            for (int i = 0; i < 500; i++) {
                rng.state = (uint64_t)i;
                uint64_t key = kind >= ASCENDING ? (uint64_t)i : rnd(400);
                int rc = put(&p, (enum kind)kind, key, i % 100 == 0 ? 9000 : 50);
                if (rc == 0)
                    continue;
                assert_int_equal(rc, PAWL_MEMORY);
                assert_false(failed);
                failed = true;
                check_all(&p);
                rng.state = (uint64_t)i;
                assert_int_equal(put(&p, (enum kind)kind, key, i % 100 == 0 ? 9000 : 50), 0);
            }
            check_all(&p);
            pair_free(&p);
        }
    }
}

/* What is promised is kept even if there is no byte more, whatever the keys. */
static void reserved_puts_cannot_fail(void **state) {
    (void)state;
    static uint8_t key[MEMTABLE_KEY_MAX + 64], value[70000];
    for (int kind = 0; kind < KINDS; kind++) {
        struct pair_of p;
        pair_init(&p, 1300 + (uint64_t)kind);
        for (int round = 0; round < 60; round++) {
            uint64_t changes = rnd(5) == 0 ? 1 : rnd(400) + 1, bytes = 0;
            uint64_t first = rnd(3000);
            uint32_t value_max = rnd(10) == 0 ? 60000 : 30;
            for (uint64_t i = 0; i < changes; i++)
                bytes += make_key((enum kind)kind, first + i, key) + value_max;
            assert_int_equal(memtable_reserve(&p.t, changes, bytes), 0);
            p.mem.cap = p.mem.used;
            for (uint64_t i = 0; i < changes; i++) {
                size_t len = make_key((enum kind)kind, first + i, key);
                struct version v = {++p.lsn, 0, value_max, STATE_PUT, (uint8_t)i};
                make_value(v.seed, v.len, value);
                assert_int_equal(memtable_put(&p.t, key, len, STATE_PUT, 0, value, v.len, v.lsn),
                                 0);
                model_put(&p.m, key, len, v);
            }
            p.mem.cap = 0;
        }
        check_all(&p);
        /* a promise that can't be made changes nothing */
        p.mem.cap = p.mem.used + 100;
        uint64_t used = p.mem.used;
        assert_int_equal(memtable_reserve(&p.t, 1000, 1 << 30), PAWL_MEMORY);
        assert_int_equal(p.mem.used, used);
        check_all(&p);
        pair_free(&p);
    }
}

/* Every leaf is full, and each of the changes goes into another one. */
static void reserved_puts_split_each_leaf(void **state) {
    (void)state;
    struct mem mem;
    struct memtable t;
    char key[32];
    mem_init(&mem, 0);
    memtable_init(&t, &mem, NULL);
    for (int i = 0; i < 63 * 300; i++) {
        snprintf(key, sizeof key, "%08d", i);
        assert_int_equal(memtable_put(&t, key, 8, STATE_PUT, 0, "v", 1, 1), 0);
    }
    assert_int_equal(memtable_reserve(&t, 300, 300 * 10), 0);
    mem.cap = mem.used;
    for (int i = 0; i < 300; i++) {
        snprintf(key, sizeof key, "%08d+", i * 63 + 30);
        assert_int_equal(memtable_put(&t, key, 9, STATE_PUT, 0, "v", 1, 2), 0);
    }
    assert_int_equal(memtable_keys(&t), 63 * 300 + 300);
    memtable_free(&t);
    assert_int_equal(mem.used, 0);
}

static void clearing(void **state) {
    (void)state;
    struct pair_of p;
    pair_init(&p, 4711);
    memtable_clear(&p.t);
    assert_int_equal(p.mem.used, 0);
    assert_null(memtable_get(&p.t, "x", 1));
    struct memtable_cursor c;
    memtable_cursor_open(&c, &p.t, MEMTABLE_NEWEST);
    assert_null(memtable_first(&c));
    assert_null(memtable_seek_ge(&c, "x", 1));
    uint64_t after = 0;
    for (int round = 0; round < 20; round++) {
        struct memtable_spot spot;
        assert_null(memtable_find(&p.t, "spot", 4, &spot));
        for (int i = 0; i < 500; i++)
            assert_int_equal(put(&p, RANDOM_16, rnd(400), 50), 0);
        assert_non_null(memtable_first(&c));
        check_all(&p);
        memtable_clear(&p.t);
        assert_null(memtable_next(&c));
        model_free(&p.m);
        assert_int_equal(memtable_keys(&p.t), 0);
        assert_int_equal(used_by(&p.t), 0);
        /* a place of before the clear is found again */
        assert_int_equal(memtable_put_at(&p.t, &spot, STATE_PUT, 0, "v", 1, p.lsn), 0);
        assert_non_null(memtable_get(&p.t, "spot", 4));
        memtable_clear(&p.t);
        if (round == 5)
            after = p.mem.used;
    }
    assert_int_equal(p.mem.used, after); /* the same chunks, again and again */
    for (uint64_t i = 0; i < 60000; i++)
        assert_int_equal(memtable_put(&p.t, &i, 8, STATE_PUT, 0, "12345678", 8, 1), 0);
    memtable_clear(&p.t);
    assert_true(p.mem.used <= (1u << 20) + 4096);
    memtable_cursor_close(&c);
    pair_free(&p);
}

static void a_million_keys(void **state) {
    (void)state;
    struct mem mem;
    struct memtable t;
    const uint64_t count = 1000000, odd = UINT64_C(0x9E3779B97F4A7C15);
    mem_init(&mem, 0);
    memtable_init(&t, &mem, NULL);
    for (uint64_t i = 0; i < count; i++) {
        uint64_t key[2] = {i * odd, i};
        assert_int_equal(memtable_put(&t, key, 16, STATE_PUT, 0, &i, 8, 1), 0);
    }
    assert_int_equal(memtable_keys(&t), count);
    for (uint64_t i = 0; i < count; i++) {
        uint64_t key[2] = {i * odd, i};
        const struct mem_entry *e = memtable_get(&t, key, 16);
        assert_non_null(e);
        assert_memory_equal(mem_entry_value(e), &i, 8);
        key[1]++;
        assert_null(memtable_get(&t, key, 16));
    }
    uint8_t last[16];
    uint64_t seen = 0;
    struct memtable_cursor c;
    memtable_cursor_open(&c, &t, MEMTABLE_NEWEST);
    for (const struct mem_entry *e = memtable_first(&c); e != NULL; e = memtable_next(&c)) {
        assert_true(seen++ == 0 || memcmp(last, e->bytes, 16) < 0);
        memcpy(last, e->bytes, 16);
    }
    memtable_cursor_close(&c);
    assert_int_equal(seen, count);
    print_message("%llu bytes a key\n", (unsigned long long)(memtable_bytes(&t) / count));
    assert_true(memtable_bytes(&t) < 110 * count);
    memtable_free(&t);
    assert_int_equal(mem.used, 0);
}

/* ---- what is in a run too may go */

/* Each key is there with its newest change, or gone, and then it was clean. */
static void check_present(struct pair_of *p, uint64_t upto) {
    struct memtable_cursor c;
    size_t n = 0;
    memtable_cursor_open(&c, &p->t, MEMTABLE_NEWEST);
    const struct mem_entry *e = memtable_first(&c);
    for (size_t i = 0; i < p->m.count; i++) {
        const struct version *v = model_at(&p->m.k[i], MEMTABLE_NEWEST);
        const struct mem_entry *got = memtable_get(&p->t, p->m.k[i].key, p->m.k[i].len);
        if (got == NULL) {
            assert_true(v->lsn <= upto);
            continue;
        }
        same(got, &p->m.k[i], v);
        assert_ptr_equal(e, got);
        e = memtable_next(&c);
        n++;
    }
    assert_null(e);
    e = to_last(&c);
    for (size_t i = n; i > 0; i--) {
        assert_non_null(e);
        e = memtable_prev(&c);
    }
    assert_null(e);
    memtable_cursor_close(&c);
    assert_int_equal(memtable_keys(&p->t), n);
    assert_int_equal(memtable_bytes(&p->t), p->mem.used);
}

/* At a snapshot a version is there, or it was in a run when the snapshot was taken or later. */
static void check_snapshot(struct pair_of *p, const struct snapshot *s, uint64_t upto) {
    for (size_t i = 0; i < p->m.count; i++) {
        const struct version *v = model_at(&p->m.k[i], s->lsn);
        const struct mem_entry *got =
            version_at(memtable_get(&p->t, p->m.k[i].key, p->m.k[i].len), s->lsn);
        if (got != NULL)
            same(got, &p->m.k[i], v);
        else
            assert_true(v == NULL || v->lsn <= s->floor || v->lsn <= upto);
    }
}

/* The first key of the model after `key` that the table still has. */
static size_t next_present(struct pair_of *p, const uint8_t *key, size_t len) {
    bool found;
    size_t i = model_find(&p->m, key, len, &found);
    for (i += found; i < p->m.count; i++)
        if (memtable_get(&p->t, p->m.k[i].key, p->m.k[i].len) != NULL)
            break;
    return i;
}

static void what_is_in_a_run_may_go(void **state) {
    (void)state;
    static uint8_t key[MEMTABLE_KEY_MAX + 64], at[MEMTABLE_KEY_MAX + 64];
    for (int kind = 0; kind < KINDS; kind++) {
        struct pair_of p;
        uint64_t keys = kind == LONG ? 200 : 2500, upto = 0, least = 0, freed = 0;
        struct memtable_cursor c;
        size_t at_len = 0;
        pair_init(&p, 1300 + (uint64_t)kind);
        memtable_cursor_open(&c, &p.t, MEMTABLE_NEWEST);
        for (uint64_t i = 0; i < 4 * keys; i++) {
            uint64_t n = kind >= ASCENDING && rnd(2) == 0 ? i / 2 : rnd(keys);
            assert_int_equal(put(&p, (enum kind)kind, n, rnd(50) == 0 ? 3000 : 40), 0);
            const struct mem_entry *e =
                memtable_get(&p.t, key, make_key((enum kind)kind, rnd(keys), key));
            if (e != NULL)
                mem_entry_use(e);
            if (rnd(100) == 0 && p.lsn > upto)
                upto += rnd(p.lsn - upto);
            if (rnd(20) == 0)
                freed += memtable_evict(&p.t, upto, rnd(20000), 1 + (uint32_t)rnd(20));
            if (rnd(keys) == 0)
                memtable_drop(&p.t, least = upto);
            size_t s = rnd(SNAPSHOTS);
            if (rnd(60) == 0) {
                if (p.taken[s])
                    snapshots_remove(&p.set, &p.snapshot[s]);
                else
                    snapshots_add(&p.set, &p.snapshot[s], p.lsn);
                if (!p.taken[s])
                    p.snapshot[s].floor = upto;
                p.taken[s] = !p.taken[s];
            }
            if (rnd(3) == 0) { /* a cursor goes on, from what may be gone by now */
                size_t want = next_present(&p, at, at_len);
                e = at_len == 0 ? memtable_first(&c) : memtable_next(&c);
                at_len = 0;
                assert_true((e == NULL) == (want == p.m.count));
                if (e != NULL) {
                    same(e, &p.m.k[want], model_at(&p.m.k[want], MEMTABLE_NEWEST));
                    memcpy(at, e->bytes, at_len = e->key_len);
                }
            }
            if (rnd(keys / 4) != 0)
                continue;
            check_present(&p, upto);
            for (s = 0; s < SNAPSHOTS; s++)
                if (p.taken[s])
                    check_snapshot(&p, &p.snapshot[s], upto);
        }
        assert_true(freed > 10000 && least != 0);
        memtable_cursor_close(&c);
        for (size_t s = 0; s < SNAPSHOTS; s++)
            if (p.taken[s])
                snapshots_remove(&p.set, &p.snapshot[s]);
        memtable_drop(&p.t, p.lsn);
        assert_int_equal(memtable_keys(&p.t), 0);
        check_present(&p, p.lsn);
        for (uint64_t i = 0; i < keys; i++) /* all leaves are empty, and serve again */
            assert_int_equal(put(&p, (enum kind)kind, rnd(keys), 40), 0);
        check_present(&p, p.lsn - keys);
        pair_free(&p);
    }
}

/* A clock: what was used since the hand passed stays for one round more. */
static void what_was_used_stays_longer(void **state) {
    (void)state;
    struct mem mem;
    struct memtable t;
    mem_init(&mem, 0);
    memtable_init(&t, &mem, NULL);
    uint32_t leaves = 0;
    for (uint64_t i = 0; i < 1000; i++)
        assert_int_equal(memtable_put(&t, &i, 8, STATE_PUT, 0, "12345678", 8, i + 1), 0);
    for (int n = 0; n <= FANOUT; n++)
        leaves += t.body->fill[n];
    assert_int_equal(memtable_evict(&t, 1000, UINT64_MAX, leaves), 0);
    for (uint64_t i = 0; i < 100; i++)
        mem_entry_use(memtable_get(&t, &i, 8));
    assert_int_equal(memtable_put(&t, "new", 3, STATE_PUT, 0, "", 0, 1001), 0);
    assert_true(memtable_evict(&t, 1000, UINT64_MAX, leaves + 1) > 0);
    assert_int_equal(memtable_keys(&t), 101);
    for (uint64_t i = 0; i < 100; i++)
        assert_non_null(memtable_get(&t, &i, 8));
    assert_non_null(memtable_get(&t, "new", 3));
    memtable_free(&t);
    assert_int_equal(mem.used, 0);
}

static void size_classes(void **state) {
    (void)state;
    for (size_t size = 1; size < 9000000; size += size < 5000 ? 1 : size / 500) {
        if (size > 8388608)
            break;
        unsigned c = arena_class(size);
        assert_in_range(c, 0, ARENA_CLASSES - 1);
        assert_true(arena_class_size(c) >= size);
        assert_true(c == 0 || arena_class_size(c - 1) < size);
        assert_true(arena_class_size(c) <= size + 15 || arena_class_size(c) * 4 <= size * 5);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(size_classes),
        cmocka_unit_test(random_operations),
        cmocka_unit_test(snapshots_keep_versions),
        cmocka_unit_test(overwrites_take_no_memory),
        cmocka_unit_test(cursors_among_changes),
        cmocka_unit_test(what_is_in_a_run_may_go),
        cmocka_unit_test(what_was_used_stays_longer),
        cmocka_unit_test(no_allocation_spoils_it),
        cmocka_unit_test(reserved_puts_cannot_fail),
        cmocka_unit_test(reserved_puts_split_each_leaf),
        cmocka_unit_test(clearing),
        cmocka_unit_test(a_million_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
