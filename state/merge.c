/* SPDX-License-Identifier: Apache-2.0
 *
 * merge.c - a heap of the sources that stand at a pair. At its top is the source with the next key,
 * and of several with the same key the newest. The others with that key are passed over when the
 * merge moves on, so what it returns lives until then.
 */
#include "state/merge.h"

#include <assert.h>
#include <string.h>

enum way { FORWARD, BACKWARD };

struct input {
    struct merge_source s;
    const uint8_t *key; /* where it stands, without the prefix */
    uint32_t key_len;
};

struct merge {
    struct mem *mem;
    struct merge_options o;
    enum way way;
    bool stands;
    int error;
    pawl_error why;
    struct state_pair pair;
    uint32_t count, heap_count;
    uint8_t target[STORE_PREFIX_SIZE + STORE_KEY_MAX]; /* the prefix, then a key */
    uint32_t *heap;
    struct input in[];
};

static size_t size_of(uint32_t count) {
    return sizeof(struct merge) + count * (sizeof(struct input) + sizeof(uint32_t));
}

/* ---- life */

int merge_open(struct mem *mem, const struct merge_source *sources, uint32_t count,
               const struct merge_options *o, struct merge **out) {
    *out = NULL;
    assert(o->prefix_len == 0 || o->prefix_len == STORE_PREFIX_SIZE);
    if (count > MERGE_SOURCES_MAX)
        return fail(PAWL_LIMIT, "a merge of %u sources: %u is the limit", count, MERGE_SOURCES_MAX);
    struct merge *m = mem_alloc(mem, size_of(count));
    if (m == NULL)
        return fail(PAWL_MEMORY, "no memory for a merge of %u sources", count);
    m->mem = mem;
    m->o = *o;
    m->count = count;
    m->heap = (uint32_t *)&m->in[count];
    for (uint32_t i = 0; i < count; i++)
        m->in[i].s = sources[i];
    if (o->prefix_len != 0)
        memcpy(m->target, o->prefix, o->prefix_len);
    *out = m;
    return 0;
}

void merge_close(struct merge *m) {
    if (m != NULL)
        mem_free(m->mem, m, size_of(m->count));
}

const struct state_pair *merge_pair(const struct merge *m) {
    return m->stands ? &m->pair : NULL;
}

static int remember(struct merge *m, int rc) {
    assert(rc < 0);
    m->error = rc;
    m->stands = false;
    fail_copy(&m->why);
    return rc;
}

/* ---- the heap */

/* Does input a come before b? */
static bool before(const struct merge *m, uint32_t a, uint32_t b) {
    const struct input *x = &m->in[a], *y = &m->in[b];
    int c = bytes_compare(x->key, x->key_len, y->key, y->key_len);
    if (c == 0)
        return a < b;
    return (c < 0) == (m->way == FORWARD);
}

static void sift_down(struct merge *m, uint32_t at) {
    uint32_t moved = m->heap[at];
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= m->heap_count)
            break;
        if (child + 1 < m->heap_count && before(m, m->heap[child + 1], m->heap[child]))
            child++;
        if (!before(m, m->heap[child], moved))
            break;
        m->heap[at] = m->heap[child];
        at = child;
    }
    m->heap[at] = moved;
}

static void make_heap(struct merge *m) {
    for (uint32_t i = m->heap_count / 2; i > 0; i--)
        sift_down(m, i - 1);
}

/* ---- one source. Each returns 1, 0, or an error; 0: it has no more in this way and range. */

static bool in_range(const struct merge *m, const struct input *in) {
    if (m->way == FORWARD)
        return m->o.to_len == 0 || bytes_compare(in->key, in->key_len, m->o.to, m->o.to_len) < 0;
    return m->o.from_len == 0 || bytes_compare(in->key, in->key_len, m->o.from, m->o.from_len) >= 0;
}

static int arrived(struct merge *m, uint32_t i, int rc) {
    struct input *in = &m->in[i];
    if (rc < 0)
        return remember(m, rc);
    if (rc == 0)
        return 0;
    const struct state_pair *pair = in->s.ops->pair(in->s.source);
    uint32_t cut = in->s.bare ? 0 : m->o.prefix_len;
    if (cut != 0 && (pair->key_len < cut || memcmp(pair->key, m->o.prefix, cut) != 0))
        return 0; /* of another table partition */
    in->key = pair->key + cut;
    in->key_len = pair->key_len - cut;
    return in_range(m, in);
}

static int step(struct merge *m, uint32_t i) {
    const struct merge_ops *ops = m->in[i].s.ops;
    void *source = m->in[i].s.source;
    return arrived(m, i, m->way == FORWARD ? ops->next(source) : ops->prev(source));
}

/* To the key in `target` or the nearest in the merge's way. `beyond`: not to the key itself. */
static int seek_source(struct merge *m, uint32_t i, uint32_t len, bool beyond) {
    const struct merge_source *s = &m->in[i].s;
    uint32_t cut = s->bare ? STORE_PREFIX_SIZE : STORE_PREFIX_SIZE - m->o.prefix_len;
    const uint8_t *key = m->target + cut;
    uint32_t whole = len + STORE_PREFIX_SIZE - cut;
    int rc = m->way == FORWARD ? s->ops->seek_ge(s->source, key, whole)
                               : s->ops->seek_le(s->source, key, whole);
    rc = arrived(m, i, rc);
    if (rc == 1 && beyond &&
        bytes_compare(m->in[i].key, m->in[i].key_len, m->target + STORE_PREFIX_SIZE, len) == 0)
        rc = step(m, i);
    return rc;
}

/* ---- all sources */

/* Looks for the next result from the top of the heap on. */
static int settle(struct merge *m);

static int start(struct merge *m, enum way way, uint32_t len, bool beyond) {
    m->way = way;
    m->stands = false;
    m->heap_count = 0;
    for (uint32_t i = 0; i < m->count; i++) {
        int rc = seek_source(m, i, len, beyond);
        if (rc < 0)
            return rc;
        if (rc == 1)
            m->heap[m->heap_count++] = i;
    }
    make_heap(m);
    return settle(m);
}

static void set_target(struct merge *m, const void *key, uint32_t len) {
    assert(len <= STORE_KEY_MAX);
    if (len != 0)
        memcpy(m->target + STORE_PREFIX_SIZE, key, len);
}

static bool expired(const struct merge *m, const struct state_pair *p) {
    return state_expired(p->expiry_ms, m->o.now_ms);
}

/* Moves the source at place `at` of the heap, which is the top or a child of it. So what takes its
 * place can only sink. */
static int move_source(struct merge *m, uint32_t at) {
    int rc = step(m, m->heap[at]);
    if (rc < 0)
        return rc;
    if (rc == 0)
        m->heap[at] = m->heap[--m->heap_count];
    if (at < m->heap_count)
        sift_down(m, at);
    return 0;
}

/* Passes over the key at the top, in every source that has it. The newest source, whose memory the
 * key is in, moves last. */
static int pass(struct merge *m) {
    const struct input *in = &m->in[m->heap[0]];
    while (m->heap_count > 1) {
        uint32_t child = m->heap_count > 2 && before(m, m->heap[2], m->heap[1]) ? 2 : 1;
        const struct input *other = &m->in[m->heap[child]];
        if (bytes_compare(other->key, other->key_len, in->key, in->key_len) != 0)
            break;
        TRY(move_source(m, child));
    }
    return move_source(m, 0);
}

static int settle(struct merge *m) {
    while (m->heap_count > 0) {
        const struct input *in = &m->in[m->heap[0]];
        m->pair = *in->s.ops->pair(in->s.source);
        m->pair.key = in->key;
        m->pair.key_len = in->key_len;
        if (expired(m, &m->pair)) {
            m->pair.op = STATE_DELETE;
            m->pair.expiry_ms = 0, m->pair.value_len = 0;
        }
        if (m->pair.op == STATE_PUT || m->o.tombstones) {
            m->stands = true;
            return 1;
        }
        TRY(pass(m));
    }
    m->stands = false;
    return 0;
}

/* On from the key at which the merge stands, the other way: every source seeks again. */
static int turn(struct merge *m, enum way way) {
    set_target(m, m->pair.key, m->pair.key_len);
    return start(m, way, m->pair.key_len, true);
}

static int move(struct merge *m, enum way way) {
    if (m->error != 0)
        return fail_again(&m->why);
    if (!m->stands)
        return 0;
    if (m->way != way)
        return turn(m, way);
    TRY(pass(m));
    return settle(m);
}

int merge_next(struct merge *m) {
    return move(m, FORWARD);
}

int merge_prev(struct merge *m) {
    return move(m, BACKWARD);
}

/* ---- seeks */

int merge_seek_ge(struct merge *m, const void *key, uint32_t len) {
    if (m->error != 0)
        return fail_again(&m->why);
    if (m->o.from_len != 0 && bytes_compare(key, len, m->o.from, m->o.from_len) < 0)
        key = m->o.from, len = m->o.from_len;
    set_target(m, key, len);
    return start(m, FORWARD, len, false);
}

int merge_first(struct merge *m) {
    return merge_seek_ge(m, "", 0);
}

int merge_seek_le(struct merge *m, const void *key, uint32_t len) {
    if (m->error != 0)
        return fail_again(&m->why);
    m->stands = false;
    if (len == 0) /* keys have at least a byte */
        return 0;
    bool beyond = m->o.to_len != 0 && bytes_compare(key, len, m->o.to, m->o.to_len) >= 0;
    if (beyond)
        key = m->o.to, len = m->o.to_len;
    set_target(m, key, len);
    return start(m, BACKWARD, len, beyond);
}

/* No key is above the longest one of 0xff. */
int merge_last(struct merge *m) {
    if (m->error != 0)
        return fail_again(&m->why);
    if (m->o.to_len != 0)
        return merge_seek_le(m, m->o.to, m->o.to_len);
    uint32_t len = m->o.prefix_len != 0 ? MEMTABLE_KEY_MAX : STORE_KEY_MAX;
    memset(m->target + STORE_PREFIX_SIZE, 0xff, len);
    return start(m, BACKWARD, len, false);
}
