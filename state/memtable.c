/* SPDX-License-Identifier: Apache-2.0 */
#include "state/memtable.h"

#include "state/memtable_node.h"
#include "wal/bytes.h"
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
    s->floor = 0;
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

/* Does a snapshot see the version of `old`, which the one of `next` replaces? It may have it from
 * a run, but not if it would meet an older version here. */
static bool needed(const struct memtable *m, const struct mem_entry *old, uint64_t next) {
    uint64_t lsn = old->lsn;
    if (m->snapshots == NULL)
        return false;
    for (const struct snapshot *s = m->snapshots->newest; s != NULL && s->lsn >= lsn; s = s->older)
        if (s->lsn < next && (s->floor == 0 || lsn > s->floor || old->older != NULL))
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
        m->body->index.mem = m->mem;
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
    mem_index_end(&m->body->index);
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
    mem_index_end(&b->index);
    arena_clear(&b->arena, CLEARED_KEEPS);
    b->root = NULL;
    b->hand = NULL;
    b->keys = b->inners = 0;
    memset(b->fill, 0, sizeof b->fill);
    b->stamp++;
}

uint64_t memtable_bytes(const struct memtable *m) {
    return m->body == NULL
               ? 0
               : sizeof *m->body + m->body->arena.chunk_bytes + mem_index_bytes(&m->body->index);
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

/* By the tree, which also knows where a key would be. */
static const struct mem_entry *find_place(const struct memtable *m, const void *key, size_t key_len,
                                          struct memtable_spot *spot) {
    spot->key = key, spot->key_len = key_len;
    spot->entry = NULL;
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

const struct mem_entry *memtable_find(const struct memtable *m, const void *key, size_t key_len,
                                      struct memtable_spot *spot) {
    assert(key_len > 0);
    if (m->body == NULL || m->body->index.slots == NULL)
        return find_place(m, key, key_len, spot);
    spot->key = key, spot->key_len = key_len;
    spot->entry = mem_index_find(&m->body->index, key, key_len);
    spot->leaf = NULL;
    spot->found = spot->entry != NULL;
    spot->stamp = m->body->stamp;
    return spot->entry;
}

/* ---- the index */

void memtable_fetch(const struct memtable *m, struct memtable_ahead *keys, uint32_t second,
                    uint32_t count) {
    const struct mem_index *x = m->body != NULL ? &m->body->index : NULL;
    if (x == NULL || x->slots == NULL)
        return;
    for (uint32_t i = second; i < count; i++)
        keys[i].hash = mem_index_fetch_slot(x, keys[i].key, keys[i].key_len);
    for (uint32_t i = 0; i < second; i++)
        mem_index_fetch_entry(x, keys[i].hash);
}

/* Without memory, again when the table has twice as many keys. */
static void no_index(struct memtable *m) {
    m->index_from = 2 * m->body->keys;
}

static void begin_index(struct memtable *m) {
    struct memtable_body *b = m->body;
    if (!mem_index_begin(&b->index, m->mem, b->keys)) {
        no_index(m);
        return;
    }
    struct node *n = b->root;
    while (n->level != 0)
        n = ((struct inner *)n)->child[0];
    for (struct leaf *l = (struct leaf *)n; l != NULL; l = l->next)
        for (uint32_t i = 0; i < l->n.count; i++)
            if (b->index.slots != NULL && !mem_index_add(&b->index, l->n.key[i]))
                no_index(m);
}

static void index_new(struct memtable *m, struct mem_entry *e) {
    struct memtable_body *b = m->body;
    if (b->index.slots != NULL) {
        if (!mem_index_add(&b->index, e))
            no_index(m);
    } else if (m->index_from != 0 && b->keys >= m->index_from) {
        begin_index(m);
    }
    assert(b->index.slots == NULL || b->index.entries == b->keys);
}

/* `e` NULL: the entry leaves the table. */
static void index_moved(struct memtable *m, const struct mem_entry *old, struct mem_entry *e) {
    if (m->body->index.slots != NULL)
        mem_index_replace(&m->body->index, old, e);
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
    copy_short(e->bytes, key, key_len);
    return e;
}

static void set_entry(struct mem_entry *e, uint8_t op, uint64_t expiry_ms, const void *value,
                      size_t value_len, uint64_t lsn) {
    e->lsn = lsn;
    e->expiry_ms = expiry_ms;
    e->op = (unsigned char)op & 0x7fu;
    e->used = 1;
    e->value_len = (uint32_t)value_len;
    copy_short(e->bytes + e->key_len, value, value_len);
}

static void give_entry(struct memtable *m, struct mem_entry *e) {
    if (!e->separator)
        arena_give(&m->body->arena, e, e->size_class);
}

/* Gives back the versions below `e` that no snapshot sees. */
static void trim(struct memtable *m, struct mem_entry *e) {
    for (struct mem_entry **at = &e->older; *at != NULL;) {
        struct mem_entry *old = *at;
        if (needed(m, old, e->lsn)) {
            e = old;
            at = &old->older;
        } else {
            *at = old->older;
            give_entry(m, old);
        }
    }
}

/* False: the entry has no room, or somebody needs it as it is. */
static bool overwrite_in_place(struct memtable *m, struct mem_entry *old, uint8_t op,
                               uint64_t expiry_ms, const void *value, size_t value_len,
                               uint64_t lsn) {
    assert(lsn >= old->lsn);
    if (value_len > room_of(old) || needed(m, old, lsn))
        return false;
    set_entry(old, op, expiry_ms, value, value_len, lsn);
    if (old->older != NULL)
        trim(m, old);
    return true;
}

static int overwrite(struct memtable *m, struct mem_entry **place, uint8_t op, uint64_t expiry_ms,
                     const void *value, size_t value_len, uint64_t lsn) {
    struct mem_entry *old = *place;
    if (overwrite_in_place(m, old, op, expiry_ms, value, value_len, lsn))
        return 0;
    struct mem_entry *e = new_entry(m, old->bytes, old->key_len, value_len);
    if (e == NULL)
        return fail(PAWL_MEMORY, "no memory for a change of %zu bytes in a memory table",
                    old->key_len + value_len);
    set_entry(e, op, expiry_ms, value, value_len, lsn);
    e->older = old;
    *place = e;
    index_moved(m, old, e);
    m->body->stamp++; /* what was found by the index is gone */
    trim(m, e);
    return 0;
}

int memtable_put_at(struct memtable *m, struct memtable_spot *spot, uint8_t op, uint64_t expiry_ms,
                    const void *value, size_t value_len, uint64_t lsn) {
    assert(op == STATE_PUT || (op == STATE_DELETE && value_len == 0));
    assert(spot->key_len <= MEMTABLE_KEY_MAX && value_len <= MEMTABLE_VALUE_MAX);
    if (spot->entry != NULL && spot->stamp == m->body->stamp &&
        overwrite_in_place(m, spot->entry, op, expiry_ms, value, value_len, lsn))
        return 0;
    if (spot->leaf == NULL || spot->stamp != m->body->stamp) {
        TRY(begin(m));
        find_place(m, spot->key, spot->key_len, spot);
    }
    struct leaf *l = spot->leaf;
    if (spot->found)
        return overwrite(m, &l->n.key[spot->index], op, expiry_ms, value, value_len, lsn);
    struct mem_entry *e = new_entry(m, spot->key, spot->key_len, value_len);
    if (e != NULL) {
        set_entry(e, op, expiry_ms, value, value_len, lsn);
        if (tree_insert(m, l, spot->index, e)) {
            index_new(m, e);
            return 0;
        }
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

/* ---- what may go */

uint64_t memtable_used(const struct memtable *m) {
    return m->body == NULL
               ? 0
               : sizeof *m->body + m->body->arena.used + mem_index_bytes(&m->body->index);
}

static struct leaf *first_leaf(const struct memtable_body *b) {
    struct node *n = b->root;
    while (n->level != 0)
        n = ((struct inner *)n)->child[0];
    return (struct leaf *)n;
}

static bool has_cursor(const struct memtable *m, const struct leaf *l) {
    for (const struct memtable_cursor *c = m->cursors; c != NULL; c = c->after)
        if (c->leaf == l)
            return true;
    return false;
}

/* The entries that stay close up. An empty leaf stays in the tree, as the first one begins. */
static void sweep_leaf(struct memtable *m, struct leaf *l, uint64_t upto, bool used_too) {
    struct memtable_body *b = m->body;
    struct node *n = &l->n;
    uint32_t kept = 0, count = n->count;
    for (uint32_t i = 0; i < count; i++) {
        struct mem_entry *e = n->key[i];
        trim(m, e);
        bool clean = e->lsn <= upto && e->older == NULL;
        if (clean && (used_too || e->used == 0)) {
            index_moved(m, e, NULL);
            give_entry(m, e);
            continue;
        }
        if (clean)
            e->used = 0;
        n->prefix[kept] = n->prefix[i];
        n->key[kept++] = e;
    }
    if (kept == count)
        return;
    for (uint32_t i = kept; i < count; i++)
        n->prefix[i] = UINT64_MAX;
    n->count = (uint16_t)kept;
    if (kept == 0)
        n->skip = n->fence;
    b->fill[count]--, b->fill[kept]++;
    b->keys -= count - kept;
    b->stamp++;
}

uint64_t memtable_evict(struct memtable *m, uint64_t upto, uint64_t bytes, uint32_t leaves) {
    struct memtable_body *b = m->body;
    if (b == NULL || b->root == NULL)
        return 0;
    uint64_t before = b->arena.used;
    for (; leaves > 0 && before - b->arena.used < bytes; leaves--) {
        struct leaf *l = b->hand != NULL ? b->hand : first_leaf(b);
        if (!has_cursor(m, l))
            sweep_leaf(m, l, upto, false);
        b->hand = l->next;
    }
    return before - b->arena.used;
}

void memtable_drop(struct memtable *m, uint64_t upto) {
    struct memtable_body *b = m->body;
    if (b == NULL || b->root == NULL)
        return;
    for (struct leaf *l = first_leaf(b); l != NULL; l = l->next)
        if (!has_cursor(m, l))
            sweep_leaf(m, l, upto, true);
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

const struct mem_entry *memtable_here(struct memtable_cursor *c) {
    return c->leaf == NULL ? NULL : forward(c);
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
