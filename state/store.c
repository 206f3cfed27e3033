/* SPDX-License-Identifier: Apache-2.0
 *
 * Partitions and their memory tables, and one key: its newest change is in the generation, else in
 * the newest run that has it.
 */
#include "state/store.h"

#include <assert.h>

#include "wal/error.h"

#define SHORT_KEY 120u

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
    store_gen_release(part->gen);
    pthread_mutex_destroy(&part->lock);
    mem_free(s->mem, part, sizeof *part);
}

void store_part_expires(struct store_part *part, uint64_t expiry_ms) {
    uint64_t least = atomic_load_explicit(&part->expiry_min_ms, memory_order_relaxed);
    while (expiry_ms < least &&
           !atomic_compare_exchange_weak(&part->expiry_min_ms, &least, expiry_ms))
        ;
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
            store_gen_detach(s, part);
            pthread_mutex_unlock(&part->lock);
            store_part_release(s, part);
        }
    pthread_mutex_unlock(&s->mutex);
}

/* ---- the store */

int store_init(struct store *s, struct seam *io, struct mem *mem, uint64_t memory_max,
               uint64_t cache_bytes) {
    *s = (struct store){.io = io, .mem = mem, .memory_max = memory_max, .cache_bytes = cache_bytes};
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

int store_reserve(struct store *s, struct store_part *part, uint32_t changes, uint64_t bytes) {
    pthread_mutex_lock(&part->lock);
    struct store_gen *g = store_gen_of(s, part);
    int rc = 0;
    if (g == NULL) {
        rc = fail(PAWL_MEMORY, "no memory for a partition's state");
    } else {
        store_make_room(s, g, changes, bytes);
        rc = memtable_reserve(&g->table, changes, bytes);
        store_count(s, g);
    }
    pthread_mutex_unlock(&part->lock);
    return rc;
}

void store_apply_begin(struct store_part *part) {
    pthread_mutex_lock(&part->lock);
}

void store_apply_end(struct store *s, struct store_part *part) {
    if (part->gen != NULL)
        store_count(s, part->gen);
    pthread_mutex_unlock(&part->lock);
}

int store_apply(struct store *s, struct store_part *part, const struct state_pair *c,
                uint64_t lsn) {
    struct store_gen *g = store_gen_of(s, part);
    if (g == NULL)
        return fail(PAWL_MEMORY, "no memory for a partition's state");
    struct memtable_spot spot;
    const struct mem_entry *e = memtable_find(&g->table, c->key, c->key_len, &spot);
    if (e != NULL && e->lsn > lsn) /* recovery reads older segments last */
        return 0;
    /* a key counts once between two freezes */
    uint64_t since = s->has_frozen ? s->frozen_lsn : s->clean_lsn;
    if (lsn > since && (e == NULL || e->lsn <= since))
        g->dirty += store_change_bytes(c->key_len, c->value_len);
    g->newest_lsn = g->newest_lsn < lsn ? lsn : g->newest_lsn;
    return memtable_put_at(&g->table, &spot, c->op, c->expiry_ms, c->value, c->value_len, lsn);
}

/* ---- one key */

/* Under the partition's lock. 1: the generation has a change of the key, *put says which. */
static int in_gen(struct store_gen *g, const void *key, uint32_t key_len, struct bytes *value,
                  bool *put, struct store_found *found) {
    const struct mem_entry *e = g != NULL ? memtable_get(&g->table, key, key_len) : NULL;
    if (e == NULL)
        return 0;
    mem_entry_use(e);
    *put = e->op == STATE_PUT;
    *found = (struct store_found){e->lsn, e->expiry_ms};
    if (!*put || e->value_len == 0)
        return 1;
    uint8_t *to = bytes_room(value, e->value_len);
    if (to == NULL) {
        value->failed = false;
        return fail(PAWL_MEMORY, "no memory for a value of %u bytes", e->value_len);
    }
    copy_short(to, mem_entry_value(e), e->value_len);
    return 1;
}

void store_key(uint8_t *out, uint32_t table, uint32_t partition) {
    for (int i = 0; i < 4; i++) {
        out[i] = (uint8_t)(table >> (24 - 8 * i));
        out[4 + i] = (uint8_t)(partition >> (24 - 8 * i));
    }
}

/* Looks into the live runs for a whole store key. */
static int find_in_runs(const struct store_live *live, const uint8_t *whole, uint32_t len,
                        struct bytes *value, struct store_found *found) {
    int rc = 0;
    for (uint32_t i = 0; i < live->count && rc == 0; i++) {
        struct run_pin pin = {NULL};
        struct state_pair pair;
        struct run_file *file = live->runs[i]->file;
        if (file == NULL) {
            rc = fail_again(&live->runs[i]->error);
            continue;
        }
        /* the oldest run has most of the keys that come this far */
        rc = i + 1 == live->count && i != 0 ? run_get_likely(file, whole, len, &pin, &pair)
                                            : run_get(file, whole, len, &pin, &pair);
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
    return rc == 2 ? 0 : rc;
}

static int with_whole_key(const struct store_live *live, const struct store_part *part,
                          const void *key, uint32_t key_len, uint8_t *whole, struct bytes *value,
                          struct store_found *found) {
    store_key(whole, part->table, part->partition);
    memcpy(whole + STORE_PREFIX_SIZE, key, key_len);
    return find_in_runs(live, whole, STORE_PREFIX_SIZE + key_len, value, found);
}

/* In functions of their own: the compiler zeroes buffers. */
static __attribute__((noinline)) int with_long_key(const struct store_live *live,
                                                   const struct store_part *part, const void *key,
                                                   uint32_t key_len, struct bytes *value,
                                                   struct store_found *found) {
    uint8_t whole[STORE_KEY_MAX];
    assert(key_len <= sizeof whole - STORE_PREFIX_SIZE);
    return with_whole_key(live, part, key, key_len, whole, value, found);
}

static __attribute__((noinline)) int with_short_key(const struct store_live *live,
                                                    const struct store_part *part, const void *key,
                                                    uint32_t key_len, struct bytes *value,
                                                    struct store_found *found) {
    uint8_t whole[STORE_PREFIX_SIZE + SHORT_KEY];
    return with_whole_key(live, part, key, key_len, whole, value, found);
}

static int in_runs(struct store *s, const struct store_part *part, const void *key,
                   uint32_t key_len, struct bytes *value, struct store_found *found) {
    struct store_live *live = store_live_take(s);
    if (live == NULL)
        return 0;
    int rc = key_len <= SHORT_KEY ? with_short_key(live, part, key, key_len, value, found)
                                  : with_long_key(live, part, key, key_len, value, found);
    store_live_release(s, live);
    return rc;
}

void store_fetch(struct store_part *part, struct memtable_ahead *keys, uint32_t second,
                 uint32_t count) {
    pthread_mutex_lock(&part->lock);
    if (part->gen != NULL)
        memtable_fetch(&part->gen->table, keys, second, count);
    pthread_mutex_unlock(&part->lock);
}

int store_get(struct store *s, struct store_part *part, const void *key, uint32_t key_len,
              struct bytes *value, struct store_found *found) {
    bool put = false;
    value->len = 0;
    *found = (struct store_found){0};
    pthread_mutex_lock(&part->lock);
    int rc = in_gen(part->gen, key, key_len, value, &put, found);
    pthread_mutex_unlock(&part->lock);
    if (rc != 0)
        return rc < 0 ? rc : put;
    /* A change goes from memory only after its run is live: what wasn't there is in the runs that
     * are live now. */
    return in_runs(s, part, key, key_len, value, found);
}
