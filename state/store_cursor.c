/* SPDX-License-Identifier: Apache-2.0
 *
 * A range of one partition: a merge of what a transaction has changed, of the active and the frozen
 * generation, and of the runs. The memory tables that others may change are stepped under the
 * partition's lock, and each pair is copied; runs are read without a lock.
 */
#include <assert.h>

#include "state/store.h"
#include "wal/error.h"

/* A memory table as a source of a merge. */
struct mem_source {
    pthread_mutex_t *lock; /* NULL: nobody else uses the table */
    struct store_gen *gen; /* NULL: a transaction's own table */
    struct memtable_cursor cursor;
    struct bytes copy; /* key and value of `pair` */
    struct state_pair pair;
    bool stands;
};

/* A run as a source, with whole store keys. */
struct run_source {
    struct run_cursor *cursor; /* NULL: not opened yet */
    struct run_file *file;
};

struct store_cursor {
    struct store *store;
    struct store_part *part;
    struct store_live *live;
    struct mem_source mem[3]; /* own, active, frozen */
    uint32_t mem_count;
    struct run_source *runs;
    uint32_t run_count;
    struct merge *merge;
    struct store_range range;
    uint8_t prefix[STORE_PREFIX_SIZE];
    bool begun, over;
};

/* ---- memory tables */

static int hold(struct mem_source *s, const struct mem_entry *e) {
    s->stands = false;
    if (e == NULL)
        return 0;
    s->copy.len = 0;
    if (!bytes_put(&s->copy, e->bytes, (size_t)e->key_len + e->value_len)) {
        s->copy.failed = false;
        return fail(PAWL_MEMORY, "no memory for a pair of %u bytes", e->key_len + e->value_len);
    }
    mem_entry_pair(e, &s->pair);
    s->pair.key = s->copy.data;
    s->pair.value = s->copy.data + e->key_len;
    s->stands = true;
    return 1;
}

static void lock(struct mem_source *s) {
    if (s->lock != NULL)
        pthread_mutex_lock(s->lock);
}

static void unlock(struct mem_source *s) {
    if (s->lock != NULL)
        pthread_mutex_unlock(s->lock);
}

static int mem_seek_ge(void *ctx, const void *key, uint32_t len) {
    struct mem_source *s = ctx;
    lock(s);
    int rc =
        hold(s, len == 0 ? memtable_first(&s->cursor) : memtable_seek_ge(&s->cursor, key, len));
    unlock(s);
    return rc;
}

static int mem_seek_le(void *ctx, const void *key, uint32_t len) {
    struct mem_source *s = ctx;
    lock(s);
    int rc = hold(s, memtable_seek_le(&s->cursor, key, len));
    unlock(s);
    return rc;
}

static int mem_next(void *ctx) {
    struct mem_source *s = ctx;
    lock(s);
    int rc = hold(s, memtable_next(&s->cursor));
    unlock(s);
    return rc;
}

static int mem_prev(void *ctx) {
    struct mem_source *s = ctx;
    lock(s);
    int rc = hold(s, memtable_prev(&s->cursor));
    unlock(s);
    return rc;
}

static const struct state_pair *mem_pair(const void *ctx) {
    const struct mem_source *s = ctx;
    return s->stands ? &s->pair : NULL;
}

/* Others may change the table between two steps; the copy of the pair stays. */
static const struct merge_ops mem_ops = {mem_seek_ge, mem_seek_le, mem_next,
                                         mem_prev,    mem_pair,    NULL};

/* ---- runs */

static int opened(struct run_source *s) {
    return s->cursor != NULL ? 0 : run_cursor_open(s->file, 0, &s->cursor);
}

static int run_seek_ge(void *ctx, const void *key, uint32_t len) {
    struct run_source *s = ctx;
    TRY(opened(s));
    return run_cursor_seek_ge(s->cursor, key, len);
}

static int run_seek_le(void *ctx, const void *key, uint32_t len) {
    struct run_source *s = ctx;
    TRY(opened(s));
    return run_cursor_seek_le(s->cursor, key, len);
}

static int run_next(void *ctx) {
    return run_cursor_next(((struct run_source *)ctx)->cursor);
}

static int run_prev(void *ctx) {
    return run_cursor_prev(((struct run_source *)ctx)->cursor);
}

static const struct state_pair *run_pair(const void *ctx) {
    const struct run_source *s = ctx;
    return s->cursor != NULL ? run_cursor_pair(s->cursor) : NULL;
}

static const struct merge_ops run_ops = {run_seek_ge, run_seek_le, run_next,
                                         run_prev,    run_pair,    NULL};

/* ---- the cursor */

static void add_table(struct store_cursor *c, struct store_gen *gen, struct memtable *table,
                      pthread_mutex_t *lock_of) {
    struct mem_source *s = &c->mem[c->mem_count++];
    s->lock = lock_of;
    s->gen = gen;
    bytes_init(&s->copy, c->store->mem);
    if (gen != NULL)
        atomic_fetch_add_explicit(&gen->refs, 1, memory_order_relaxed);
    memtable_cursor_open(&s->cursor, table, c->range.at_lsn);
}

int store_cursor_take(struct store *s, struct store_part *part, const struct store_range *range,
                      struct memtable *own, struct store_cursor **out) {
    struct store_cursor *c = mem_alloc(s->mem, sizeof *c);
    if (c == NULL)
        return fail(PAWL_MEMORY, "no memory for a scan");
    c->store = s;
    c->part = part;
    c->range = *range;
    store_key(c->prefix, part->table, part->partition);
    atomic_fetch_add_explicit(&part->refs, 1, memory_order_relaxed);
    if (own != NULL) {
        add_table(c, NULL, own, NULL);
        c->mem[0].cursor.lsn = MEMTABLE_NEWEST;
    }
    pthread_mutex_lock(&part->lock);
    if (part->active != NULL)
        add_table(c, part->active, &part->active->table, &part->lock);
    if (part->frozen != NULL)
        add_table(c, part->frozen, &part->frozen->table, &part->lock);
    pthread_mutex_unlock(&part->lock);
    c->live = store_live_take(s);
    *out = c;
    return 0;
}

static int begin(struct store_cursor *c) {
    struct merge_source sources[3 + STORE_RUNS_MAX];
    uint32_t n = 0, runs = c->live != NULL ? c->live->count : 0;
    for (; n < c->mem_count; n++)
        sources[n] = (struct merge_source){&mem_ops, &c->mem[n], true};
    if (runs != 0) {
        c->runs = mem_alloc(c->store->mem, runs * sizeof *c->runs);
        if (c->runs == NULL)
            return fail(PAWL_MEMORY, "no memory for a scan of %u runs", runs);
        c->run_count = runs;
    }
    for (uint32_t i = 0; i < runs; i++, n++) {
        c->runs[i].file = c->live->runs[i]->file;
        sources[n] = (struct merge_source){&run_ops, &c->runs[i], false};
    }
    struct merge_options o = {.prefix = c->prefix,
                              .prefix_len = STORE_PREFIX_SIZE,
                              .from = c->range.from,
                              .from_len = c->range.from_len,
                              .to = c->range.to,
                              .to_len = c->range.to_len};
    TRY(merge_open(c->store->mem, sources, n, &o, &c->merge));
    c->begun = true;
    return c->range.reverse ? merge_last(c->merge) : merge_first(c->merge);
}

int store_cursor_next(struct store_cursor *c, struct state_pair *pair) {
    if (c->over)
        return 0;
    int rc = !c->begun ? begin(c) : c->range.reverse ? merge_prev(c->merge) : merge_next(c->merge);
    c->over = rc == 0;
    if (rc == 1)
        *pair = *merge_pair(c->merge);
    return rc;
}

void store_cursor_close(struct store_cursor *c) {
    struct store *s = c->store;
    merge_close(c->merge);
    for (uint32_t i = 0; i < c->mem_count; i++) {
        struct mem_source *m = &c->mem[i];
        lock(m);
        memtable_cursor_close(&m->cursor);
        unlock(m);
        bytes_free(&m->copy);
        store_gen_release(m->gen);
    }
    for (uint32_t i = 0; i < c->run_count; i++)
        run_cursor_close(c->runs[i].cursor);
    if (c->runs != NULL)
        mem_free(s->mem, c->runs, c->run_count * sizeof *c->runs);
    store_live_release(s, c->live);
    store_part_release(s, c->part);
    mem_free(s->mem, c, sizeof *c);
}
