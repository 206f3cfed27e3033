/* SPDX-License-Identifier: Apache-2.0
 *
 * memtable_node.h - the nodes of the memory table's tree, and the search in one.
 *
 * A node holds up to 63 keys in ascending order. Of each it has the eight bytes after the first
 * `skip` ones, as a big-endian number filled up with zeros, so that numbers compare as keys do.
 * Where two numbers are equal, the keys themselves decide. All keys of the node share the `skip`
 * bytes:
 *
 *   - fence: what the two separators between which the node lies have in common. A key that the
 *     search brings here lies between them too, so it shares these bytes, unseen.
 *   - skip: at least the fence. Inner nodes, and leaves at an end of the tree (one of their fences
 *     is open), skip what their own keys have in common; there the search looks at these bytes
 *     first.
 *
 * Numbers after the last key are UINT64_MAX, so the search of a number has no loop.
 */
#ifndef PAWL_STATE_MEMTABLE_NODE_H
#define PAWL_STATE_MEMTABLE_NODE_H

#include <assert.h>
#include <string.h>

#include "state/arena.h"
#include "state/memtable.h"
#include "state/memtable_index.h"

#define FANOUT 63
#define LEVELS_MAX 12

struct node {
    uint16_t count;
    uint16_t skip, fence; /* bytes */
    uint8_t level;        /* 0: a leaf */
    uint64_t prefix[FANOUT];
    struct mem_entry *key[FANOUT]; /* of a leaf: its entries; else separators */
};

struct leaf {
    struct node n;
    struct leaf *prev, *next;
};

struct inner {
    struct node n;
    struct node *child[FANOUT + 1]; /* child[i] has the keys from key[i - 1] on, below key[i] */
};

struct memtable_body {
    struct node *root;
    uint64_t stamp;    /* changes whenever keys move to other places */
    struct leaf *hand; /* where memtable_evict() goes on; NULL: at the first leaf */
    struct arena arena;
    struct mem_index index; /* of all entries, or none */
    uint64_t keys;
    uint32_t inners;
    uint32_t fill[FANOUT + 1]; /* leaves by their number of keys */
};

static inline uint64_t load_number(const uint8_t *p) {
    uint64_t v;
    memcpy(&v, p, 8);
    return __builtin_bswap64(v);
}

static inline uint64_t key_prefix(const uint8_t *key, size_t len, size_t skip) {
    if (len >= skip + 8)
        return load_number(key + skip);
    uint64_t v = 0;
    for (size_t i = skip; i < len; i++)
        v |= (uint64_t)key[i] << (56 - 8 * (i - skip));
    return v;
}

/* How many of the 63 ascending numbers are below x. */
static inline uint32_t numbers_below(const uint64_t *p, uint64_t x) {
    const uint64_t *at =
        p; /* a branch guesses, and so fetches, the next line before this one came */
    at = at[31] < x ? at + 32 : at;
    at = at[15] < x ? at + 16 : at;
    at = at[7] < x ? at + 8 : at;
    at = at[3] < x ? at + 4 : at;
    at = at[1] < x ? at + 2 : at;
    at = at[0] < x ? at + 1 : at;
    return (uint32_t)(at - p);
}

/* memcmp() of two keys, of which the first `from` bytes are equal or missing in both. */
static inline int compare_keys(const uint8_t *a, size_t a_len, const uint8_t *b, size_t b_len,
                               size_t from) {
    size_t both = a_len < b_len ? a_len : b_len;
    for (; from + 8 <= both; from += 8) {
        uint64_t x = load_number(a + from), y = load_number(b + from);
        if (x != y)
            return x < y ? -1 : 1;
    }
    if (from < both && both >= 8) { /* the last eight, of which the first are equal */
        uint64_t x = load_number(a + both - 8), y = load_number(b + both - 8);
        if (x != y)
            return x < y ? -1 : 1;
        from = both;
    }
    for (; from < both; from++)
        if (a[from] != b[from])
            return a[from] < b[from] ? -1 : 1;
    return a_len < b_len ? -1 : a_len > b_len;
}

/* node_find() where the number of key i, the first of those with this number, is x. */
uint32_t node_find_equal(const struct node *n, uint32_t i, uint64_t x, const uint8_t *key,
                         size_t len, bool *found);
/* Compares the first `skip` bytes, of which a node's keys have each. */
int node_compare_skip(const struct node *n, const uint8_t *key, size_t len);

/* How many keys of the node are below `key`; `found`: that many is the place of `key` itself. */
__attribute__((always_inline)) static inline uint32_t
node_find(const struct node *n, const uint8_t *key, size_t len, bool *found) {
    *found = false;
    if (n->skip > n->fence) {
        int c = node_compare_skip(n, key, len);
        if (c != 0)
            return c < 0 ? 0 : n->count;
    }
    uint64_t x = key_prefix(key, len, n->skip);
    uint32_t i = numbers_below(n->prefix, x);
    if (i >= n->count || n->prefix[i] != x)
        return i;
    const struct mem_entry *e = n->key[i];
    size_t from = (size_t)n->skip + 8; /* both may be shorter */
    if (e->key_len == len && (len <= from || compare_keys(e->bytes, len, key, len, from) == 0)) {
        *found = true;
        return i;
    }
    return node_find_equal(n, i, x, key, len, found);
}

/* The leaf in which the key is, or would be. */
static inline struct leaf *find_leaf(const struct memtable_body *b, const uint8_t *key,
                                     size_t len) {
    struct node *n = b->root;
    while (n->level != 0) {
        bool found;
        uint32_t i = node_find(n, key, len, &found);
        n = ((struct inner *)n)->child[i + found];
    }
    return (struct leaf *)n;
}

static inline const struct mem_entry *version_at(const struct mem_entry *e, uint64_t lsn) {
    while (e != NULL && e->lsn > lsn)
        e = e->older;
    return e;
}

/* memtable_split.c: the tree grows. */

/* Makes the first leaf. NULL: no memory. */
struct leaf *tree_begin(struct memtable *m);
/* Puts an entry whose key isn't there. False: no memory, and nothing has changed. */
bool tree_insert(struct memtable *m, struct leaf *leaf, uint32_t index, struct mem_entry *e);
/* The most that `changes` inserts take in nodes, in bytes. */
uint64_t tree_insert_bytes(const struct memtable *m, uint64_t changes);

#endif
