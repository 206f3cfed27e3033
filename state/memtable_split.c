/* SPDX-License-Identifier: Apache-2.0
 *
 * memtable_split.c - how the memory table's tree grows: inserts, splits, what nodes skip.
 */
#include "state/memtable_node.h"

#define LEAF_SIZE ((size_t)1088) /* multiples of 64: pieces stay aligned to cache lines */
#define INNER_SIZE ((size_t)1536)
_Static_assert(sizeof(struct leaf) <= LEAF_SIZE && sizeof(struct inner) <= INNER_SIZE, "nodes fit");

static size_t common(const struct mem_entry *a, const struct mem_entry *b) {
    size_t both = a->key_len < b->key_len ? a->key_len : b->key_len;
    size_t i = 0;
    while (i < both && a->bytes[i] == b->bytes[i])
        i++;
    return i;
}

static void clear_prefixes(struct node *n, uint32_t from) {
    for (uint32_t i = from; i < FANOUT; i++)
        n->prefix[i] = UINT64_MAX;
}

static struct node *take_node(struct memtable_body *b, bool is_leaf) {
    struct node *n = arena_take(&b->arena, arena_class(is_leaf ? LEAF_SIZE : INNER_SIZE));
    if (n == NULL)
        return NULL;
    n->count = n->skip = n->fence = 0, n->level = 0;
    clear_prefixes(n, 0);
    return n;
}

static void give_node(struct memtable_body *b, struct node *n, bool is_leaf) {
    if (n != NULL)
        arena_give(&b->arena, n, arena_class(is_leaf ? LEAF_SIZE : INNER_SIZE));
}

/* ---- what a node skips */

static bool skips_own(const struct node *n) {
    if (n->level != 0)
        return true;
    const struct leaf *l = (const struct leaf *)n;
    return l->prev == NULL || l->next == NULL;
}

/* Sets `skip` after keys came or went; computes the prefixes from `from` on where they stay. */
static void set_skip(struct node *n, uint32_t from) {
    size_t skip = n->fence;
    if (n->count > 1 && skips_own(n))
        skip = common(n->key[0], n->key[n->count - 1]);
    assert(skip >= n->fence);
    if (skip != n->skip)
        from = 0;
    n->skip = (uint16_t)skip;
    for (uint32_t i = from; i < n->count; i++)
        n->prefix[i] = key_prefix(n->key[i]->bytes, n->key[i]->key_len, skip);
    clear_prefixes(n, n->count);
}

static void set_fence(struct node *n, const struct mem_entry *low, const struct mem_entry *high) {
    n->fence = low != NULL && high != NULL ? (uint16_t)common(low, high) : 0;
    set_skip(n, 0);
}

/* A key at `at`; the node has room. */
static void add_key(struct node *n, uint32_t at, struct mem_entry *e) {
    assert(n->count < FANOUT && at <= n->count);
    uint32_t rest = n->count - at;
    memmove(&n->key[at + 1], &n->key[at], rest * sizeof(struct mem_entry *));
    memmove(&n->prefix[at + 1], &n->prefix[at], rest * sizeof n->prefix[0]);
    n->key[at] = e;
    n->count++;
    if (skips_own(n) && (at == 0 || at + 1 == n->count)) {
        n->prefix[at] = key_prefix(e->bytes, e->key_len, n->skip);
        set_skip(n, n->count);
    } else {
        n->prefix[at] = key_prefix(e->bytes, e->key_len, n->skip);
    }
}

/* ---- cursors stay on their keys */

static void cursors_inserted(struct memtable *m, const struct leaf *l, uint32_t at) {
    for (struct memtable_cursor *c = m->cursors; c != NULL; c = c->after)
        if (c->leaf == l && c->index >= at)
            c->index++;
}

static void cursors_split(struct memtable *m, const struct leaf *left, struct leaf *right) {
    for (struct memtable_cursor *c = m->cursors; c != NULL; c = c->after)
        if (c->leaf == left && c->index >= left->n.count) {
            c->leaf = right;
            c->index -= left->n.count;
        }
}

/* ---- splits */

/* The way from the root to a leaf. At each level the node lies between two separators; NULL: that
 * side is open. */
struct path {
    uint32_t levels; /* of inner nodes; the root is the first */
    struct {
        struct inner *n;
        uint32_t at; /* the child that leads on */
        const struct mem_entry *low, *high;
    } step[LEVELS_MAX];
    const struct mem_entry *low, *high; /* of the leaf */
};

static void find_path(const struct memtable_body *b, const struct mem_entry *e, struct path *p) {
    const struct mem_entry *low = NULL, *high = NULL;
    p->levels = 0;
    for (struct node *n = b->root; n->level != 0;) {
        struct inner *in = (struct inner *)n;
        bool found;
        uint32_t at = node_find(n, e->bytes, e->key_len, &found);
        at += found;
        assert(p->levels < LEVELS_MAX);
        p->step[p->levels].n = in, p->step[p->levels].at = at;
        p->step[p->levels].low = low, p->step[p->levels].high = high;
        p->levels++;
        low = at > 0 ? n->key[at - 1] : low;
        high = at < n->count ? n->key[at] : high;
        n = in->child[at];
    }
    p->low = low, p->high = high;
}

/* The nodes that a split needs: taken before anything changes. */
struct spares {
    struct node *leaf;
    struct node *inner[LEVELS_MAX + 1];
    uint32_t inners;
};

static bool take_spares(struct memtable_body *b, const struct path *p, struct spares *s) {
    uint32_t wanted = 0;
    uint32_t level = p->levels;
    while (level > 0 && p->step[level - 1].n->n.count == FANOUT)
        level--, wanted++;
    if (level == 0)
        wanted++; /* a new root */
    s->leaf = take_node(b, true);
    bool ok = s->leaf != NULL;
    for (s->inners = 0; ok && s->inners < wanted; s->inners++) {
        s->inner[s->inners] = take_node(b, false);
        if (s->inner[s->inners] == NULL) {
            ok = false;
            break;
        }
    }
    if (!ok) {
        give_node(b, s->leaf, true);
        while (s->inners > 0)
            give_node(b, s->inner[--s->inners], false);
    }
    return ok;
}

static void move_keys(struct node *from, uint32_t at, struct node *to) {
    to->count = (uint16_t)(from->count - at);
    memcpy(to->key, &from->key[at], to->count * sizeof(struct mem_entry *));
    from->count = (uint16_t)at;
}

static void add_child(struct inner *n, uint32_t at, struct mem_entry *separator,
                      struct node *child) {
    memmove(&n->child[at + 2], &n->child[at + 1], (n->n.count - at) * sizeof(struct node *));
    n->child[at + 1] = child;
    add_key(&n->n, at, separator);
}

/* Splits a full inner node; `*separator` then goes between it and the new one. At the end of the
 * tree the left one stays full: keys that come in order fill their nodes. */
static struct inner *split_inner(struct inner *n, struct node *fresh, uint32_t at, bool last,
                                 struct mem_entry **separator) {
    assert(fresh != NULL); /* taken beforehand */
    struct inner *right = (struct inner *)fresh;
    uint32_t middle = last && at == FANOUT ? FANOUT - 1 : FANOUT / 2;
    right->n.level = n->n.level;
    *separator = n->n.key[middle];
    memcpy(right->child, &n->child[middle + 1], (FANOUT - middle) * sizeof(struct node *));
    move_keys(&n->n, middle + 1, &right->n);
    n->n.count--;
    return right;
}

static void new_root(struct memtable_body *b, struct node *fresh, struct mem_entry *separator,
                     struct node *right) {
    assert(fresh != NULL);
    struct inner *root = (struct inner *)fresh;
    root->n.level = (uint8_t)(b->root->level + 1);
    root->child[0] = b->root;
    b->root = &root->n;
    b->inners++;
    add_child(root, 0, separator, right);
}

/* Hangs a new node in, to the right of the one to which the path leads. */
static void add_separator(struct memtable_body *b, struct path *p, struct spares *s,
                          struct mem_entry *separator, struct node *child) {
    separator->separator = 1;
    for (uint32_t level = p->levels; level > 0; level--) {
        struct inner *n = p->step[level - 1].n;
        const struct mem_entry *low = p->step[level - 1].low, *high = p->step[level - 1].high;
        uint32_t at = p->step[level - 1].at;
        if (n->n.count < FANOUT) {
            add_child(n, at, separator, child);
            return;
        }
        struct mem_entry *up;
        struct inner *right = split_inner(n, s->inner[--s->inners], at, high == NULL, &up);
        b->inners++;
        uint32_t left_children = n->n.count + 1u;
        set_fence(&n->n, low, up);
        set_fence(&right->n, up, high);
        if (at < left_children)
            add_child(n, at, separator, child);
        else
            add_child(right, at - left_children, separator, child);
        separator = up, child = &right->n;
    }
    new_root(b, s->inner[--s->inners], separator, child);
}

static void link_leaf(struct leaf *left, struct leaf *right) {
    right->prev = left, right->next = left->next;
    if (right->next != NULL)
        right->next->prev = right;
    left->next = right;
}

/* Splits a full leaf into which `e` goes at `index`. */
static bool split_leaf(struct memtable *m, struct leaf *left, uint32_t index, struct mem_entry *e) {
    struct memtable_body *b = m->body;
    struct path path;
    struct spares spares = {0};
    find_path(b, e, &path);
    if (!take_spares(b, &path, &spares))
        return false;
    struct leaf *right = (struct leaf *)spares.leaf;
    bool append = left->next == NULL && index == FANOUT;
    bool had_next = left->next != NULL;
    link_leaf(left, right);
    if (append) {
        right->n.key[0] = e;
        right->n.count = 1;
        b->keys++;
    } else {
        move_keys(&left->n, FANOUT / 2 + 1, &right->n);
        b->fill[FANOUT]--, b->fill[left->n.count]++;
    }
    b->fill[right->n.count]++;
    struct mem_entry *separator = right->n.key[0];
    set_fence(&left->n, path.low, separator);
    set_fence(&right->n, separator, path.high);
    assert(had_next == (path.high != NULL));
    cursors_split(m, left, right);
    add_separator(b, &path, &spares, separator, &right->n);
    assert(spares.inners == 0);
    b->stamp++;
    return append || tree_insert(m, find_leaf(b, e->bytes, e->key_len), UINT32_MAX, e);
}

bool tree_insert(struct memtable *m, struct leaf *leaf, uint32_t index, struct mem_entry *e) {
    struct memtable_body *b = m->body;
    if (leaf->n.count == FANOUT)
        return split_leaf(m, leaf, index, e);
    if (index == UINT32_MAX) {
        bool found;
        index = node_find(&leaf->n, e->bytes, e->key_len, &found);
        assert(!found);
    }
    b->fill[leaf->n.count]--;
    add_key(&leaf->n, index, e);
    b->fill[leaf->n.count]++;
    b->keys++;
    b->stamp++;
    if (m->cursors != NULL)
        cursors_inserted(m, leaf, index);
    return true;
}

struct leaf *tree_begin(struct memtable *m) {
    struct leaf *l = (struct leaf *)take_node(m->body, true);
    if (l == NULL)
        return NULL;
    l->prev = l->next = NULL;
    m->body->root = &l->n;
    m->body->fill[0] = 1;
    m->body->stamp++;
    return l;
}

/* A leaf with n keys splits at the insert number 64 - n. The fullest split first, which is the most
 * that can happen; then each further split costs half a leaf of inserts. */
uint64_t tree_insert_bytes(const struct memtable *m, uint64_t changes) {
    const struct memtable_body *b = m->body;
    uint64_t splits = changes / (FANOUT / 2) + 1;
    uint64_t left = changes;
    for (uint32_t n = FANOUT; n > 0 && left > 0; n--) {
        uint64_t cost = FANOUT + 1 - n;
        uint64_t some = b->fill[n] < left / cost ? b->fill[n] : left / cost;
        splits += some;
        left -= some * cost;
    }
    if (splits > changes)
        splits = changes;
    /* each inner node may be full, likewise; a new root for each level */
    uint64_t inner_splits = b->inners + splits / (FANOUT / 2) * 2 + LEVELS_MAX;
    if (inner_splits > splits * LEVELS_MAX)
        inner_splits = splits * LEVELS_MAX;
    return splits * arena_class_size(arena_class(LEAF_SIZE)) +
           inner_splits * arena_class_size(arena_class(INNER_SIZE));
}
