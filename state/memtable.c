/* SPDX-License-Identifier: Apache-2.0 */
#include "state/memtable.h"

#include "state/memtable_node.h"
#include "wal/error.h"

#define CLEARED_KEEPS (UINT64_C(1) << 20)
#define ENTRY_HEADER offsetof(struct mem_entry, bytes)
_Static_assert(ENTRY_HEADER == 32, "a counter's entry fits into a cache line");
_Static_assert(ARENA_CLASSES <= 128, "a class fits beside the separator bit");

/* ---- snapshots */

void snapshots_add(struct snapshots *set, struct snapshot *s, uint64_t lsn) {
    struct snapshot *older = set->newest;
    while (older != NULL && older->lsn > lsn)
        older = older->older;
    s->lsn = lsn;
    s->older = older;
    s->newer = older == NULL ? set->oldest : older->newer;
    *(s->older == NULL ? &set->oldest : &s->older->newer) = s;
    *(s->newer == NULL ? &set->newest : &s->newer->older) = s;
}

void snapshots_remove(struct snapshots *set, struct snapshot *s) {
    *(s->older == NULL ? &set->oldest : &s->older->newer) = s->newer;
    *(s->newer == NULL ? &set->newest : &s->newer->older) = s->older;
    s->older = s->newer = NULL;
}

/* Does a snapshot see the version of `lsn`, which the one of `next` replaces? */
static bool needed(const struct memtable *m, uint64_t lsn, uint64_t next) {
    if (m->snapshots == NULL)
        return false;
    for (const struct snapshot *s = m->snapshots->newest; s != NULL && s->lsn >= lsn; s = s->older)
        if (s->lsn < next)
            return true;
    return false;
}

/* ---- life */

void memtable_init(struct memtable *m, struct mem *mem, const struct snapshots *snapshots) {
    *m = (struct memtable){.mem = mem, .snapshots = snapshots};
}

static int begin(struct memtable *m) {
    bool fresh = m->body == NULL;
    if (fresh) {
        m->body = mem_alloc(m->mem, sizeof *m->body);
        if (m->body == NULL)
            return fail(PAWL_MEMORY, "no memory for a memory table");
        arena_init(&m->body->arena, m->mem);
    }
    if (m->body->root != NULL || tree_begin(m) != NULL)
        return 0;
    if (fresh) {
        mem_free(m->mem, m->body, sizeof *m->body);
        m->body = NULL;
    }
    return fail(PAWL_MEMORY, "no memory for the first leaf of a memory table");
}

void memtable_free(struct memtable *m) {
    assert(m->cursors == NULL);
    if (m->body == NULL)
        return;
    arena_free(&m->body->arena);
    mem_free(m->mem, m->body, sizeof *m->body);
    m->body = NULL;
}

void memtable_clear(struct memtable *m) {
    struct memtable_body *b = m->body;
    if (b == NULL || b->keys == 0)
        return;
    for (struct memtable_cursor *c = m->cursors; c != NULL; c = c->after)
        c->leaf = NULL;
    arena_clear(&b->arena, CLEARED_KEEPS);
    b->root = NULL;
    b->keys = b->inners = 0;
    memset(b->fill, 0, sizeof b->fill);
    b->stamp++;
}

uint64_t memtable_bytes(const struct memtable *m) {
    return m->body == NULL ? 0 : sizeof *m->body + m->body->arena.chunk_bytes;
}

uint64_t memtable_keys(const struct memtable *m) {
    return m->body == NULL ? 0 : m->body->keys;
}

/* ---- search */

int node_compare_skip(const struct node *n, const uint8_t *key, size_t len) {
    assert(n->count > 0 && n->key[0]->key_len >= n->skip);
    size_t both = len < n->skip ? len : n->skip;
    int c = memcmp(key, n->key[0]->bytes, both);
    return c != 0 || len >= n->skip ? c : -1;
}

uint32_t node_find_equal(const struct node *n, uint32_t i, uint64_t x, const uint8_t *key,
                         size_t len, bool *found) {
    uint32_t end = x == UINT64_MAX ? n->count : numbers_below(n->prefix, x + 1);
    while (i < end) {
        uint32_t middle = (i + end) / 2;
        const struct mem_entry *e = n->key[middle];
        int c = compare_keys(e->bytes, e->key_len, key, len, n->skip);
        if (c == 0) {
            *found = true;
            return middle;
        }
        if (c < 0)
            i = middle + 1;
        else
            end = middle;
    }
    return i;
}

const struct mem_entry *memtable_get(const struct memtable *m, const void *key, size_t key_len) {
    struct memtable_spot spot;
    return memtable_find(m, key, key_len, &spot);
}

const struct mem_entry *memtable_find(const struct memtable *m, const void *key, size_t key_len,
                                      struct memtable_spot *spot) {
    assert(key_len > 0);
    spot->key = key, spot->key_len = key_len;
    spot->leaf = NULL;
    spot->found = false;
    if (m->body == NULL || m->body->root == NULL)
        return NULL;
    struct leaf *l = find_leaf(m->body, key, key_len);
    spot->index = node_find(&l->n, key, key_len, &spot->found);
    spot->leaf = l;
    spot->stamp = m->body->stamp;
    return spot->found ? l->n.key[spot->index] : NULL;
}

/* ---- puts */

static size_t room_of(const struct mem_entry *e) {
    return arena_class_size(e->size_class) - ENTRY_HEADER - e->key_len;
}

static struct mem_entry *new_entry(struct memtable *m, const void *key, size_t key_len,
                                   size_t value_len) {
    unsigned size_class = arena_class(ENTRY_HEADER + key_len + value_len);
    struct mem_entry *e = arena_take(&m->body->arena, size_class);
    if (e == NULL)
        return NULL;
    e->older = NULL;
    e->key_len = (uint16_t)key_len;
    e->size_class = size_class & 127;
    e->separator = 0;
    memcpy(e->bytes, key, key_len);
    return e;
}

static void set_entry(struct mem_entry *e, uint8_t op, uint64_t expiry_ms, const void *value,
                      size_t value_len, uint64_t lsn) {
    e->lsn = lsn;
    e->expiry_ms = expiry_ms;
    e->op = op;
    e->value_len = (uint32_t)value_len;
    if (value_len != 0)
        memcpy(e->bytes + e->key_len, value, value_len);
}

static void give_entry(struct memtable *m, struct mem_entry *e) {
    if (!e->separator)
        arena_give(&m->body->arena, e, e->size_class);
}

/* Gives back the versions below `e` that no snapshot sees. */
static void trim(struct memtable *m, struct mem_entry *e) {
    for (struct mem_entry **at = &e->older; *at != NULL;) {
        struct mem_entry *old = *at;
        if (needed(m, old->lsn, e->lsn)) {
            e = old;
            at = &old->older;
        } else {
            *at = old->older;
            give_entry(m, old);
        }
    }
}

static int overwrite(struct memtable *m, struct mem_entry **place, uint8_t op, uint64_t expiry_ms,
                     const void *value, size_t value_len, uint64_t lsn) {
    struct mem_entry *old = *place;
    assert(lsn >= old->lsn);
    bool keep = needed(m, old->lsn, lsn);
    if (!keep && value_len <= room_of(old)) {
        set_entry(old, op, expiry_ms, value, value_len, lsn);
        if (old->older != NULL)
            trim(m, old);
        return 0;
    }
    struct mem_entry *e = new_entry(m, old->bytes, old->key_len, value_len);
    if (e == NULL)
        return fail(PAWL_MEMORY, "no memory for a change of %zu bytes in a memory table",
                    old->key_len + value_len);
    set_entry(e, op, expiry_ms, value, value_len, lsn);
    e->older = old;
    *place = e;
    trim(m, e);
    return 0;
}

int memtable_put_at(struct memtable *m, struct memtable_spot *spot, uint8_t op, uint64_t expiry_ms,
                    const void *value, size_t value_len, uint64_t lsn) {
    assert(op == STATE_PUT || (op == STATE_DELETE && value_len == 0));
    assert(spot->key_len <= MEMTABLE_KEY_MAX && value_len <= MEMTABLE_VALUE_MAX);
    if (spot->leaf == NULL || spot->stamp != m->body->stamp) {
        TRY(begin(m));
        memtable_find(m, spot->key, spot->key_len, spot);
    }
    struct leaf *l = spot->leaf;
    if (spot->found)
        return overwrite(m, &l->n.key[spot->index], op, expiry_ms, value, value_len, lsn);
    struct mem_entry *e = new_entry(m, spot->key, spot->key_len, value_len);
    if (e != NULL) {
        set_entry(e, op, expiry_ms, value, value_len, lsn);
        if (tree_insert(m, l, spot->index, e))
            return 0;
        give_entry(m, e);
    }
    return fail(PAWL_MEMORY,
                "no memory for a key of %zu and a value of %zu bytes in a memory table",
                spot->key_len, value_len);
}

int memtable_put(struct memtable *m, const void *key, size_t key_len, uint8_t op,
                 uint64_t expiry_ms, const void *value, size_t value_len, uint64_t lsn) {
    struct memtable_spot spot = {0};
    memtable_find(m, key, key_len, &spot);
    return memtable_put_at(m, &spot, op, expiry_ms, value, value_len, lsn);
}

int memtable_reserve(struct memtable *m, uint64_t changes, uint64_t bytes) {
    if (changes == 0)
        return 0;
    TRY(begin(m));
    uint64_t entries = bytes + changes * ENTRY_HEADER;
    uint64_t all = entries + entries / 4 + changes * 16 + tree_insert_bytes(m, changes);
    if (!arena_reserve(&m->body->arena, all))
        return fail(PAWL_MEMORY, "no memory for %llu changes of %llu bytes in a memory table",
                    (unsigned long long)changes, (unsigned long long)bytes);
    return 0;
}

/* ---- cursors */

void memtable_cursor_open(struct memtable_cursor *c, struct memtable *m, uint64_t lsn) {
    *c = (struct memtable_cursor){.table = m, .lsn = lsn, .after = m->cursors};
    if (m->cursors != NULL)
        m->cursors->before = c;
    m->cursors = c;
}

void memtable_cursor_close(struct memtable_cursor *c) {
    if (c->table == NULL)
        return;
    *(c->before == NULL ? &c->table->cursors : &c->before->after) = c->after;
    if (c->after != NULL)
        c->after->before = c->before;
    *c = (struct memtable_cursor){0};
}

/* Forward from the place, which may be one after a leaf's last entry, to what the cursor sees. */
static const struct mem_entry *forward(struct memtable_cursor *c) {
    for (struct leaf *l = c->leaf; l != NULL; l = c->leaf) {
        for (; c->index < l->n.count; c->index++) {
            const struct mem_entry *e = version_at(l->n.key[c->index], c->lsn);
            if (e != NULL)
                return e;
        }
        c->leaf = l->next;
        c->index = 0;
    }
    return NULL;
}

/* Backward from the entry before the place. */
static const struct mem_entry *backward(struct memtable_cursor *c) {
    for (struct leaf *l = c->leaf; l != NULL; l = c->leaf) {
        while (c->index > 0) {
            const struct mem_entry *e = version_at(l->n.key[--c->index], c->lsn);
            if (e != NULL)
                return e;
        }
        struct leaf *prev = l->prev;
        c->leaf = prev;
        c->index = prev == NULL ? 0 : prev->n.count;
    }
    return NULL;
}

/* To the first entry at or above the key; `found`: it is that key's. False: the table is empty. */
static bool seek(struct memtable_cursor *c, const void *key, size_t len, bool *found) {
    struct memtable_body *b = c->table->body;
    c->leaf = NULL;
    if (b == NULL || b->root == NULL)
        return false;
    struct leaf *l = find_leaf(b, key, len);
    c->leaf = l;
    c->index = node_find(&l->n, key, len, found);
    return true;
}

const struct mem_entry *memtable_seek_ge(struct memtable_cursor *c, const void *key, size_t len) {
    bool found;
    return seek(c, key, len, &found) ? forward(c) : NULL;
}

const struct mem_entry *memtable_seek_le(struct memtable_cursor *c, const void *key, size_t len) {
    bool found;
    if (!seek(c, key, len, &found))
        return NULL;
    c->index += found;
    return backward(c);
}

const struct mem_entry *memtable_first(struct memtable_cursor *c) {
    struct memtable_body *b = c->table->body;
    struct node *n = b == NULL ? NULL : b->root;
    while (n != NULL && n->level != 0)
        n = ((struct inner *)n)->child[0];
    c->leaf = n;
    c->index = 0;
    return forward(c);
}

const struct mem_entry *memtable_next(struct memtable_cursor *c) {
    if (c->leaf == NULL)
        return NULL;
    c->index++;
    return forward(c);
}

const struct mem_entry *memtable_prev(struct memtable_cursor *c) {
    return c->leaf == NULL ? NULL : backward(c);
}
