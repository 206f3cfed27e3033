/* SPDX-License-Identifier: Apache-2.0
 *
 * Partitions and their memory tables, and one key: its newest change is in the active generation,
 * else in the frozen one, else in the newest run that has it.
 */
#include "state/store.h"

#include <assert.h>

#include "wal/error.h"

/* ---- generations */

static struct store_gen *gen_new(struct store *s) {
    struct store_gen *g = mem_alloc(s->mem, sizeof *g);
    if (g == NULL)
        return NULL;
    atomic_init(&g->refs, 1);
    g->mem = s->mem;
    memtable_init(&g->table, s->mem, &s->snapshots);
    return g;
}

void store_gen_release(struct store_gen *g) {
    if (g == NULL || atomic_fetch_sub_explicit(&g->refs, 1, memory_order_acq_rel) != 1)
        return;
    memtable_free(&g->table);
    mem_free(g->mem, g, sizeof *g);
}

/* ---- partitions */

static struct store_part **bucket(struct store *s, uint32_t table, uint32_t partition) {
    uint32_t hash = table * UINT32_C(2654435761) + partition * UINT32_C(40503);
    return &s->buckets[(hash >> 16 ^ hash) % STORE_BUCKETS];
}

struct store_part *store_part(struct store *s, uint32_t table, uint32_t partition) {
    pthread_mutex_lock(&s->mutex);
    struct store_part **at = bucket(s, table, partition), *part = *at;
    while (part != NULL && (part->table != table || part->partition != partition))
        part = part->next;
    if (part == NULL && (part = mem_alloc(s->mem, sizeof *part)) != NULL) {
        *part = (struct store_part){.table = table, .partition = partition, .next = *at};
        atomic_init(&part->refs, 1); /* the store's */
        atomic_init(&part->in_use, 0);
        atomic_init(&part->expiry_min_ms, UINT64_MAX);
        if (pthread_mutex_init(&part->lock, NULL) != 0) {
            mem_free(s->mem, part, sizeof *part);
            part = NULL;
        } else {
            *at = part;
        }
    }
    if (part != NULL)
        atomic_fetch_add_explicit(&part->refs, 1, memory_order_relaxed);
    pthread_mutex_unlock(&s->mutex);
    return part;
}

void store_part_release(struct store *s, struct store_part *part) {
    if (part == NULL || atomic_fetch_sub_explicit(&part->refs, 1, memory_order_acq_rel) != 1)
        return;
    store_gen_release(part->active);
    store_gen_release(part->frozen);
    pthread_mutex_destroy(&part->lock);
    mem_free(s->mem, part, sizeof *part);
}

void store_part_expires(struct store_part *part, uint64_t expiry_ms) {
    uint64_t least = atomic_load_explicit(&part->expiry_min_ms, memory_order_relaxed);
    while (expiry_ms < least &&
           !atomic_compare_exchange_weak(&part->expiry_min_ms, &least, expiry_ms))
        ;
}

static uint64_t gen_bytes(const struct store_gen *g) {
    return g != NULL ? memtable_bytes(&g->table) : 0;
}

void store_drop_table(struct store *s, uint32_t table) {
    pthread_mutex_lock(&s->mutex);
    for (uint32_t i = 0; i < STORE_BUCKETS; i++)
        for (struct store_part **at = &s->buckets[i]; *at != NULL;) {
            struct store_part *part = *at;
            if (part->table != table) {
                at = &part->next;
                continue;
            }
            *at = part->next;
            pthread_mutex_lock(&part->lock);
            atomic_fetch_sub(&s->active_bytes, gen_bytes(part->active));
            store_gen_release(part->active);
            part->active = NULL;
            pthread_mutex_unlock(&part->lock);
            store_part_release(s, part);
        }
    pthread_mutex_unlock(&s->mutex);
}

/* ---- the store */

int store_init(struct store *s, struct seam *io, struct mem *mem, uint64_t cache_bytes) {
    *s = (struct store){.io = io, .mem = mem, .cache_bytes = cache_bytes};
    if (pthread_mutex_init(&s->mutex, NULL) != 0)
        return fail(PAWL_MEMORY, "cannot make a lock");
    s->begun = true;
    return 0;
}

void store_free(struct store *s) {
    if (!s->begun)
        return;
    for (uint32_t i = 0; i < STORE_BUCKETS; i++)
        while (s->buckets[i] != NULL) {
            struct store_part *part = s->buckets[i];
            s->buckets[i] = part->next;
            store_part_release(s, part);
        }
    store_live_release(s, s->live);
    run_cache_destroy(atomic_load(&s->cache));
    pthread_mutex_destroy(&s->mutex);
    s->begun = false;
}

/* ---- changes */

/* Under the partition's lock. */
static struct store_gen *active(struct store *s, struct store_part *part) {
    if (part->active == NULL)
        part->active = gen_new(s);
    return part->active;
}

static struct store_gen *frozen(struct store *s, struct store_part *part) {
    if (part->frozen == NULL)
        part->frozen = gen_new(s);
    return part->frozen;
}

int store_reserve(struct store *s, struct store_part *part, uint32_t changes, uint64_t bytes) {
    pthread_mutex_lock(&part->lock);
    struct store_gen *g = active(s, part);
    uint64_t before = gen_bytes(g);
    int rc = g == NULL ? fail(PAWL_MEMORY, "no memory for a partition's state")
                       : memtable_reserve(&g->table, changes, bytes);
    atomic_fetch_add_explicit(&s->active_bytes, gen_bytes(g) - before, memory_order_relaxed);
    pthread_mutex_unlock(&part->lock);
    return rc;
}

int store_apply(struct store *s, struct store_part *part, const struct state_pair *c, uint64_t lsn,
                bool older) {
    pthread_mutex_lock(&part->lock);
    struct store_gen *g = older && s->has_frozen ? frozen(s, part) : active(s, part);
    int rc = 0;
    if (g == NULL) {
        rc = fail(PAWL_MEMORY, "no memory for a partition's state");
    } else {
        uint64_t before = gen_bytes(g);
        struct memtable_spot spot;
        const struct mem_entry *e = memtable_find(&g->table, c->key, c->key_len, &spot);
        if (e == NULL || e->lsn <= lsn) /* recovery reads older segments last */
            rc =
                memtable_put_at(&g->table, &spot, c->op, c->expiry_ms, c->value, c->value_len, lsn);
        atomic_fetch_add_explicit(&s->active_bytes, gen_bytes(g) - before, memory_order_relaxed);
    }
    pthread_mutex_unlock(&part->lock);
    return rc;
}

/* ---- one key */

/* Under the partition's lock. 1: the generation has a change of the key, *put says which. */
static int in_gen(struct store_gen *g, const void *key, uint32_t key_len, struct bytes *value,
                  bool *put, struct store_found *found) {
    const struct mem_entry *e = g != NULL ? memtable_get(&g->table, key, key_len) : NULL;
    if (e == NULL)
        return 0;
    *put = e->op == STATE_PUT;
    *found = (struct store_found){e->lsn, e->expiry_ms};
    if (*put && e->value_len != 0 && !bytes_put(value, mem_entry_value(e), e->value_len)) {
        value->failed = false;
        return fail(PAWL_MEMORY, "no memory for a value of %u bytes", e->value_len);
    }
    return 1;
}

void store_key(uint8_t *out, uint32_t table, uint32_t partition) {
    for (int i = 0; i < 4; i++) {
        out[i] = (uint8_t)(table >> (24 - 8 * i));
        out[4 + i] = (uint8_t)(partition >> (24 - 8 * i));
    }
}

static int in_runs(struct store *s, const struct store_part *part, const void *key,
                   uint32_t key_len, struct bytes *value, struct store_found *found) {
    uint8_t whole[STORE_KEY_MAX];
    struct store_live *live = store_live_take(s);
    if (live == NULL)
        return 0;
    assert(key_len <= sizeof whole - STORE_PREFIX_SIZE);
    store_key(whole, part->table, part->partition);
    memcpy(whole + STORE_PREFIX_SIZE, key, key_len);
    int rc = 0;
    for (uint32_t i = 0; i < live->count && rc == 0; i++) {
        struct run_pin pin = {NULL};
        struct state_pair pair;
        if (live->runs[i]->file == NULL) {
            rc = fail_again(&live->runs[i]->error);
            continue;
        }
        /* the oldest run has most of the keys that come this far */
        rc = i + 1 == live->count && i != 0
                 ? run_get_likely(live->runs[i]->file, whole, STORE_PREFIX_SIZE + key_len, &pin,
                                  &pair)
                 : run_get(live->runs[i]->file, whole, STORE_PREFIX_SIZE + key_len, &pin, &pair);
        if (rc != 1)
            continue;
        *found = (struct store_found){0, pair.expiry_ms};
        if (pair.op != STATE_PUT)
            rc = 2; /* it was deleted: older runs don't matter */
        else if (pair.value_len != 0 && !bytes_put(value, pair.value, pair.value_len)) {
            value->failed = false;
            rc = fail(PAWL_MEMORY, "no memory for a value of %u bytes", pair.value_len);
        }
        run_unpin(&pin);
    }
    store_live_release(s, live);
    return rc == 2 ? 0 : rc;
}

int store_get(struct store *s, struct store_part *part, const void *key, uint32_t key_len,
              struct bytes *value, struct store_found *found) {
    bool put = false;
    value->len = 0;
    *found = (struct store_found){0};
    pthread_mutex_lock(&part->lock);
    int rc = in_gen(part->active, key, key_len, value, &put, found);
    if (rc == 0)
        rc = in_gen(part->frozen, key, key_len, value, &put, found);
    pthread_mutex_unlock(&part->lock);
    if (rc != 0)
        return rc < 0 ? rc : put;
    /* A frozen generation goes only after its run is live: what was in neither is in the runs that
     * are live now. */
    return in_runs(s, part, key, key_len, value, found);
}
