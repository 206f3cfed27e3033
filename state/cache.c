/* SPDX-License-Identifier: Apache-2.0
 *
 * The cache of blocks: a hash table and a clock. One mutex guards both; nothing is read from a file
 * under it. The thread that misses a block reads it, outside the mutex. So two threads may read the
 * same block at once; the second one to come uses what the first one kept.
 */
#include "state/cache.h"

#include <assert.h>
#include <pthread.h>

#include "wal/error.h"

/* A block that takes more than this part of the cache isn't kept: a few large values would drop all
 * the rest. */
#define LARGEST_PART 8u
#define BUCKETS_MIN 64u

struct run_cache {
    struct mem *mem;
    uint64_t cap;          /* constant */
    uint32_t mask;         /* constant: buckets - 1 */
    pthread_mutex_t mutex; /* guards what follows */
    uint64_t bytes, hits, misses, runs;
    struct run_block *hand;
    struct run_block *buckets[];
};

static size_t cache_size(uint32_t buckets) {
    return sizeof(struct run_cache) + (size_t)buckets * sizeof(struct run_block *);
}

int run_cache_create(struct mem *m, uint64_t cap, struct run_cache **out) {
    uint32_t buckets = BUCKETS_MIN;
    while (buckets < cap / RUN_UNIT && buckets < (1u << 24))
        buckets *= 2;
    struct run_cache *c = mem_alloc(m, cache_size(buckets));
    if (c == NULL)
        return fail(PAWL_MEMORY, "no memory for a cache of runs");
    c->mem = m;
    c->cap = cap;
    c->mask = buckets - 1;
    if (pthread_mutex_init(&c->mutex, NULL) != 0) {
        mem_free(m, c, cache_size(buckets));
        return fail(PAWL_MEMORY, "no mutex for a cache of runs");
    }
    *out = c;
    return 0;
}

static void block_free(struct run_block *b) {
    mem_free(b->mem, b->data, b->size);
    mem_free(b->mem, b, sizeof *b);
}

static struct run_block **bucket_of(struct run_cache *c, uint64_t run, uint32_t unit) {
    uint64_t h = (run << 32 ^ unit) * UINT64_C(0x9E3779B97F4A7C15);
    return &c->buckets[(h >> 32) & c->mask];
}

static struct run_block *look_up(struct run_cache *c, uint64_t run, uint32_t unit) {
    struct run_block *b = *bucket_of(c, run, unit);
    while (b != NULL && (b->run != run || b->view.place.unit != unit))
        b = b->hash_next;
    return b;
}

/* With the mutex held, of a block that isn't pinned. */
static void drop(struct run_cache *c, struct run_block *b) {
    struct run_block **at = bucket_of(c, b->run, b->view.place.unit);
    while (*at != b)
        at = &(*at)->hash_next;
    *at = b->hash_next;
    if (c->hand == b)
        c->hand = b->ring_next != b ? b->ring_next : NULL;
    b->ring_prev->ring_next = b->ring_next;
    b->ring_next->ring_prev = b->ring_prev;
    c->bytes -= b->size;
    block_free(b);
}

/* A pin's release may still be under way in the thread that gave it up: acquire, so that what that
 * thread read is read before the memory is freed. */
static bool pinned(struct run_block *b) {
    return atomic_load_explicit(&b->pins, memory_order_acquire) != 0;
}

/* With the mutex held: drops blocks until at most `bytes` are kept, or only pinned ones stay. */
static void make_room(struct run_cache *c, uint64_t bytes) {
    struct run_block *stop = NULL; /* the first one that is passed twice without a drop */
    while (c->bytes > bytes && c->hand != NULL && c->hand != stop) {
        struct run_block *b = c->hand;
        if (pinned(b) || b->used) {
            if (stop == NULL && !b->used)
                stop = b;
            else if (b->used)
                stop = NULL;
            b->used = false;
            c->hand = b->ring_next;
            continue;
        }
        drop(c, b);
        stop = NULL;
    }
}

void run_cache_shrink(struct run_cache *c, uint64_t bytes) {
    pthread_mutex_lock(&c->mutex);
    make_room(c, bytes);
    pthread_mutex_unlock(&c->mutex);
}

void run_cache_destroy(struct run_cache *c) {
    if (c == NULL)
        return;
    run_cache_shrink(c, 0);
    assert(c->hand == NULL); /* nothing is pinned any more */
    pthread_mutex_destroy(&c->mutex);
    mem_free(c->mem, c, cache_size(c->mask + 1));
}

void run_cache_count(struct run_cache *c, struct run_cache_counts *out) {
    pthread_mutex_lock(&c->mutex);
    *out = (struct run_cache_counts){.hits = c->hits, .misses = c->misses, .bytes = c->bytes};
    pthread_mutex_unlock(&c->mutex);
}

uint64_t run_cache_number(struct run_cache *c) {
    pthread_mutex_lock(&c->mutex);
    uint64_t number = ++c->runs;
    pthread_mutex_unlock(&c->mutex);
    return number;
}

/* With the mutex held. */
static void pin(struct run_block *b) {
    b->used = true;
    atomic_fetch_add_explicit(&b->pins, 1, memory_order_relaxed);
}

struct run_block *run_cache_find(struct run_cache *c, uint64_t run, uint32_t unit) {
    pthread_mutex_lock(&c->mutex);
    struct run_block *b = look_up(c, run, unit);
    if (b != NULL) {
        pin(b);
        c->hits++;
    } else {
        c->misses++;
    }
    pthread_mutex_unlock(&c->mutex);
    return b;
}

struct run_block *run_block_make(struct run_cache *c, uint64_t run, uint32_t units) {
    size_t size = (size_t)units * RUN_UNIT;
    struct run_block *b = mem_alloc(c->mem, sizeof *b);
    if (b == NULL) {
        run_cache_shrink(c, c->cap / 2);
        b = mem_alloc(c->mem, sizeof *b);
    }
    if (b == NULL)
        return NULL;
    b->run = run;
    b->mem = c->mem;
    b->size = size;
    atomic_init(&b->pins, 1);
    b->data = mem_alloc_block(c->mem, size);
    if (b->data == NULL) {
        run_cache_shrink(c, 0);
        b->data = mem_alloc_block(c->mem, size);
    }
    if (b->data != NULL)
        return b;
    mem_free(c->mem, b, sizeof *b);
    return NULL;
}

struct run_block *run_cache_keep(struct run_cache *c, struct run_block *b) {
    if (b->size > c->cap / LARGEST_PART && b->size > RUN_UNIT)
        return b;
    pthread_mutex_lock(&c->mutex);
    struct run_block *there = look_up(c, b->run, b->view.place.unit);
    if (there != NULL) {
        pin(there);
    } else {
        make_room(c, b->size <= c->cap ? c->cap - b->size : 0);
        if (c->bytes + b->size <= c->cap) {
            struct run_block **bucket = bucket_of(c, b->run, b->view.place.unit);
            b->hash_next = *bucket;
            *bucket = b;
            if (c->hand == NULL)
                c->hand = b->ring_next = b->ring_prev = b;
            b->ring_next = c->hand;
            b->ring_prev = c->hand->ring_prev;
            b->ring_prev->ring_next = b;
            b->ring_next->ring_prev = b;
            c->bytes += b->size;
            b->kept = b->used = true;
        }
    }
    pthread_mutex_unlock(&c->mutex);
    if (there == NULL)
        return b;
    block_free(b);
    return there;
}

void run_block_release(struct run_block *b) {
    if (b == NULL)
        return;
    if (!b->kept)
        block_free(b); /* nobody else can have pinned it */
    else
        atomic_fetch_sub_explicit(&b->pins, 1, memory_order_release);
}

void run_cache_forget(struct run_cache *c, uint64_t run) {
    pthread_mutex_lock(&c->mutex);
    struct run_block *b = c->hand, *last = b != NULL ? b->ring_prev : NULL;
    bool more = b != NULL;
    while (more) {
        struct run_block *next = b->ring_next;
        more = b != last;
        if (b->run == run) {
            assert(!pinned(b));
            drop(c, b);
        }
        b = next;
    }
    pthread_mutex_unlock(&c->mutex);
}
