/* SPDX-License-Identifier: Apache-2.0
 *
 * A range of one partition: a merge of what a transaction has changed, of the generation, and of
 * the runs. The memory tables that others may change are stepped under the partition's lock, and
 * each pair is copied; runs are read without a lock.
 */
#include <assert.h>

#include "state/store.h"
#include "wal/error.h"

/* A memory table that others may change meanwhile, as a source of a merge. */
struct mem_source {
    struct merge_memtable table;
    pthread_mutex_t *lock; /* NULL: nobody else uses the table */
    struct store_gen *gen; /* NULL: a transaction's own table */
    struct bytes copy;     /* key and value of `pair` */
    struct state_pair pair;
    bool stands;
};

struct store_cursor {
    struct store *store;
    struct store_part *part;
    struct store_live *live;
    struct mem_source mem[2]; /* own, generation */
    uint32_t mem_count;
    struct run_cursor **runs; /* some may be NULL: not opened */
    uint32_t run_count;
    struct merge *merge;
    struct store_range range;
    uint8_t prefix[STORE_PREFIX_SIZE];
    bool begun, over;
};

/* ---- memory tables */

static void lock(struct mem_source *s) {
    if (s->lock != NULL)
        pthread_mutex_lock(s->lock);
}

static void unlock(struct mem_source *s) {
    if (s->lock != NULL)
        pthread_mutex_unlock(s->lock);
}

/* After a step, which answered `rc`: copies the pair, and lets the table go. */
static int stepped(struct mem_source *s, int rc) {
    s->stands = false;
    if (rc == 1) {
        const struct state_pair *p = merge_memtable_ops.pair(&s->table);
        s->copy.len = 0;
        s->stands = bytes_put(&s->copy, p->key, p->key_len) &&
                    (p->value_len == 0 || bytes_put(&s->copy, p->value, p->value_len));
        s->pair = *p;
    }
    unlock(s);
    if (rc != 1)
        return rc;
    if (!s->stands) {
        s->copy.failed = false;
        return fail(PAWL_MEMORY, "no memory for a pair of %u bytes",
                    s->pair.key_len + s->pair.value_len);
    }
    s->pair.key = s->copy.data;
    s->pair.value = s->copy.data + s->pair.key_len;
    return 1;
}

static int mem_seek_ge(void *source, const void *key, uint32_t len) {
    struct mem_source *s = source;
    lock(s);
    return stepped(s, merge_memtable_ops.seek_ge(&s->table, key, len));
}

static int mem_seek_le(void *source, const void *key, uint32_t len) {
    struct mem_source *s = source;
    lock(s);
    return stepped(s, merge_memtable_ops.seek_le(&s->table, key, len));
}

static int mem_next(void *source) {
    struct mem_source *s = source;
    lock(s);
    return stepped(s, merge_memtable_ops.next(&s->table));
}

static int mem_prev(void *source) {
    struct mem_source *s = source;
    lock(s);
    return stepped(s, merge_memtable_ops.prev(&s->table));
}

static const struct state_pair *mem_pair(const void *source) {
    const struct mem_source *s = source;
    return s->stands ? &s->pair : NULL;
}

/* Others may change the table between two steps; the copy of the pair stays. */
static const struct merge_ops mem_ops = {mem_seek_ge, mem_seek_le, mem_next, mem_prev, mem_pair};

/* ---- the cursor */

static void add_table(struct store_cursor *c, struct store_gen *gen, struct memtable *table,
                      pthread_mutex_t *lock_of) {
    struct mem_source *s = &c->mem[c->mem_count++];
    s->lock = lock_of;
    s->gen = gen;
    bytes_init(&s->copy, c->store->mem);
    if (gen != NULL) {
        store_gen_hold(gen);
        atomic_fetch_add_explicit(&gen->cursors, 1, memory_order_relaxed);
    }
    memtable_cursor_open(&s->table.cursor, table, c->range.at_lsn);
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
        c->mem[0].table.cursor.lsn = MEMTABLE_NEWEST;
    }
    pthread_mutex_lock(&part->lock);
    if (part->gen != NULL)
        add_table(c, part->gen, &part->gen->table, &part->lock);
    pthread_mutex_unlock(&part->lock);
    c->live = store_live_take(s);
    *out = c;
    return 0;
}

/* After an error it may be tried again. */
static int begin(struct store_cursor *c) {
    struct merge_source sources[2 + STORE_RUNS_MAX];
    uint32_t n = 0, runs = c->live != NULL ? c->live->count : 0;
    for (; n < c->mem_count; n++)
        sources[n] = (struct merge_source){&mem_ops, &c->mem[n], true};
    if (runs != 0 && c->runs == NULL) {
        c->runs = mem_alloc(c->store->mem, runs * sizeof(struct run_cursor *));
        if (c->runs == NULL)
            return fail(PAWL_MEMORY, "no memory for a scan of %u runs", runs);
        c->run_count = runs;
    }
    for (uint32_t i = 0; i < runs; i++, n++) {
        if (c->live->runs[i]->file == NULL)
            return fail_again(&c->live->runs[i]->error);
        if (c->runs[i] == NULL)
            TRY(run_cursor_open(c->live->runs[i]->file, c->range.ahead ? RUN_CURSOR_SEQUENTIAL : 0,
                                &c->runs[i]));
        sources[n] = (struct merge_source){&merge_run_ops, c->runs[i], false};
    }
    struct merge_options o = {.prefix = c->prefix,
                              .prefix_len = STORE_PREFIX_SIZE,
                              .from = c->range.from,
                              .from_len = c->range.from_len,
                              .to = c->range.to,
                              .to_len = c->range.to_len,
                              .now_ms = c->range.now_ms};
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
        memtable_cursor_close(&m->table.cursor);
        if (m->gen != NULL)
            atomic_fetch_sub_explicit(&m->gen->cursors, 1, memory_order_release);
        unlock(m);
        bytes_free(&m->copy);
        store_gen_release(m->gen);
    }
    for (uint32_t i = 0; i < c->run_count; i++)
        run_cursor_close(c->runs[i]);
    if (c->runs != NULL)
        mem_free(s->mem, c->runs, c->run_count * sizeof(struct run_cursor *));
    store_live_release(s, c->live);
    store_part_release(s, c->part);
    mem_free(s->mem, c, sizeof *c);
}
