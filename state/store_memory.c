/* SPDX-License-Identifier: Apache-2.0
 *
 * What the memory tables of a store take, and what goes when that is too much.
 */
#include <assert.h>

#include "state/store.h"
#include "wal/error.h"

/* The tree of fewer keys is in the processor's caches. */
#define INDEX_FROM 4096u

struct store_gen *store_gen_of(struct store *s, struct store_part *part) {
    struct store_gen *g = part->gen;
    if (g != NULL)
        return g;
    g = mem_alloc(s->mem, sizeof *g);
    if (g == NULL)
        return NULL;
    atomic_init(&g->refs, 1);
    g->store = s;
    memtable_init(&g->table, s->mem, &s->snapshots);
    g->table.index_from = INDEX_FROM;
    part->gen = g;
    return g;
}

void store_gen_hold(struct store_gen *g) {
    atomic_fetch_add_explicit(&g->refs, 1, memory_order_relaxed);
}

void store_gen_release(struct store_gen *g) {
    if (g == NULL || atomic_fetch_sub_explicit(&g->refs, 1, memory_order_acq_rel) != 1)
        return;
    struct store *s = g->store;
    if (g->detached)
        atomic_fetch_sub_explicit(&s->detached, g->bytes, memory_order_relaxed);
    memtable_free(&g->table);
    mem_free(s->mem, g, sizeof *g);
}

void store_count(struct store *s, struct store_gen *g) {
    uint64_t bytes = memtable_bytes(&g->table), used = memtable_used(&g->table);
    if (bytes != g->bytes)
        atomic_fetch_add_explicit(&s->bytes, bytes - g->bytes, memory_order_relaxed);
    if (used != g->used)
        atomic_fetch_add_explicit(&s->used, used - g->used, memory_order_relaxed);
    if (g->dirty != g->dirty_counted)
        atomic_fetch_add_explicit(&s->dirty, g->dirty - g->dirty_counted, memory_order_relaxed);
    g->bytes = bytes, g->used = used, g->dirty_counted = g->dirty;
}

void store_gen_detach(struct store *s, struct store_part *part) {
    struct store_gen *g = part->gen;
    if (g == NULL)
        return;
    store_count(s, g);
    atomic_fetch_sub_explicit(&s->bytes, g->bytes, memory_order_relaxed);
    atomic_fetch_sub_explicit(&s->used, g->used, memory_order_relaxed);
    atomic_fetch_sub_explicit(&s->dirty, g->dirty, memory_order_relaxed);
    atomic_fetch_sub_explicit(&s->freezing, g->freezing, memory_order_relaxed);
    atomic_fetch_add_explicit(&s->detached, g->bytes, memory_order_relaxed);
    g->detached = true;
    part->gen = NULL;
    store_gen_release(g);
}

/* What the generations of partitions may take: what only cursors hold counts too, but never takes
 * all. */
static uint64_t memory_max(const struct store *s) {
    uint64_t detached = atomic_load_explicit(&s->detached, memory_order_relaxed);
    uint64_t least = s->memory_max / 4;
    return detached < s->memory_max - least ? s->memory_max - detached : least;
}

/* A leaf of a table has at least a few entries, or it costs little to look at it. */
void store_make_room(struct store *s, struct store_gen *g, uint32_t changes, uint64_t bytes) {
    uint64_t used = atomic_load_explicit(&s->used, memory_order_relaxed) + bytes;
    uint64_t most = memory_max(s);
    if (used <= most || atomic_load_explicit(&g->cursors, memory_order_acquire) != 0)
        return;
    memtable_evict(&g->table, s->clean_lsn, used - most, 16 + changes / 4);
}

static bool too_large(const struct store *s) {
    uint64_t most = memory_max(s);
    return atomic_load_explicit(&s->bytes, memory_order_relaxed) > most + most / 4;
}

void store_trim(struct store *s) {
    pthread_mutex_lock(&s->mutex);
    for (uint32_t i = 0; i < STORE_BUCKETS && too_large(s); i++) {
        s->hand = (s->hand + 1) % STORE_BUCKETS;
        for (struct store_part *part = s->buckets[s->hand]; part != NULL; part = part->next) {
            pthread_mutex_lock(&part->lock);
            if (part->gen != NULL && part->gen->newest_lsn <= s->clean_lsn)
                store_gen_detach(s, part);
            pthread_mutex_unlock(&part->lock);
        }
    }
    pthread_mutex_unlock(&s->mutex);
}

void store_shed(struct store *s) {
    pthread_mutex_lock(&s->mutex);
    for (uint32_t i = 0; i < STORE_BUCKETS; i++)
        for (struct store_part *part = s->buckets[i]; part != NULL; part = part->next) {
            pthread_mutex_lock(&part->lock);
            struct store_gen *g = part->gen;
            if (g != NULL && g->newest_lsn <= s->clean_lsn) {
                store_gen_detach(s, part);
            } else if (g != NULL && atomic_load_explicit(&g->cursors, memory_order_acquire) == 0) {
                memtable_drop(&g->table, s->clean_lsn);
                store_count(s, g);
            }
            pthread_mutex_unlock(&part->lock);
        }
    pthread_mutex_unlock(&s->mutex);
}

bool store_is_dirty(const struct store *s) {
    return atomic_load_explicit(&s->dirty, memory_order_relaxed) +
               atomic_load_explicit(&s->freezing, memory_order_relaxed) !=
           0;
}

bool store_wants_flush(const struct store *s) {
    return atomic_load_explicit(&s->dirty, memory_order_relaxed) > s->memory_max / 2 ||
           too_large(s);
}

bool store_is_full(const struct store *s) {
    /* while a flush is under way, as much again may come */
    uint64_t dirty = atomic_load_explicit(&s->dirty, memory_order_relaxed) +
                     atomic_load_explicit(&s->freezing, memory_order_relaxed);
    return dirty > s->memory_max || too_large(s);
}
