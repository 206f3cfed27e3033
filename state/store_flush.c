/* SPDX-License-Identifier: Apache-2.0
 *
 * Memory tables become a run, and runs become one run. Runs never change. Memory tables do while a
 * flush goes on: a change that was replaced meanwhile isn't in the run. It needn't be, since the
 * one that replaced it comes before the commit that names the run, and nobody uses the run without
 * the log up to there. Tables that are gone are left out; deletes too, if no older run is there
 * that they hide something in.
 */
#include <assert.h>
#include <string.h>

#include "state/store.h"
#include "wal/error.h"

/* ---- freezing */

void store_each_part(struct store *s, store_part_fn fn) {
    pthread_mutex_lock(&s->mutex);
    for (uint32_t i = 0; i < STORE_BUCKETS; i++)
        for (struct store_part *part = s->buckets[i]; part != NULL; part = part->next) {
            pthread_mutex_lock(&part->lock);
            fn(s, part);
            pthread_mutex_unlock(&part->lock);
        }
    pthread_mutex_unlock(&s->mutex);
}

static void freeze_part(struct store *s, struct store_part *part) {
    struct store_gen *g = part->gen;
    (void)s;
    if (g == NULL)
        return;
    g->freezing += g->dirty;
    g->dirty = g->dirty_counted = 0;
}

static void clean_part(struct store *s, struct store_part *part) {
    (void)s;
    if (part->gen != NULL)
        part->gen->freezing = 0;
}

void store_freeze(struct store *s, uint64_t lsn) {
    assert(!s->has_frozen && lsn >= s->clean_lsn); /* PAWL-13: nothing is left out */
    s->frozen_lsn = lsn;
    s->has_frozen = true;
    store_each_part(s, freeze_part);
    atomic_fetch_add(&s->freezing, atomic_exchange(&s->dirty, 0));
}

void store_flushed(struct store *s) {
    assert(s->has_frozen);
    s->has_frozen = false;
    s->clean_lsn = s->frozen_lsn;
    store_each_part(s, clean_part);
    atomic_store(&s->freezing, 0);
    store_trim(s);
}

/* ---- a log that somebody else writes, or that is recovered */

/* Cursors may read the old generation, so what stays goes to a new one. */
static bool move_newer(struct store *s, struct store_part *part) {
    struct store_gen *old = part->gen;
    part->gen = NULL;
    struct store_gen *g = store_gen_of(s, part);
    struct memtable_cursor c;
    bool ok = g != NULL;
    memtable_cursor_open(&c, &old->table, MEMTABLE_NEWEST);
    for (const struct mem_entry *e = memtable_first(&c); ok && e != NULL; e = memtable_next(&c))
        if (e->lsn > s->clean_lsn)
            ok = memtable_put(&g->table, e->bytes, e->key_len, e->op, e->expiry_ms,
                              mem_entry_value(e), e->value_len, e->lsn) == 0;
    memtable_cursor_close(&c);
    if (!ok) { /* the next flush tries again */
        store_gen_release(g);
        part->gen = old;
        return false;
    }
    g->newest_lsn = old->newest_lsn;
    part->gen = old;
    store_gen_detach(s, part);
    part->gen = g;
    return true;
}

static void drop_passed(struct store *s, struct store_part *part) {
    struct store_gen *g = part->gen;
    if (g == NULL)
        return;
    if (g->newest_lsn <= s->clean_lsn) {
        store_gen_detach(s, part);
        return;
    }
    if (atomic_load_explicit(&g->cursors, memory_order_acquire) == 0)
        memtable_drop(&g->table, s->clean_lsn);
    else if (move_newer(s, part))
        g = part->gen;
    store_count(s, g);
}

void store_passed_flush(struct store *s, uint64_t lsn) {
    store_each_part(s, drop_passed);
    if (s->clean_lsn < lsn)
        s->clean_lsn = lsn;
}

static void recount_part(struct store *s, struct store_part *part) {
    struct store_gen *g = part->gen;
    struct memtable_cursor c;
    if (g == NULL)
        return;
    g->dirty = 0;
    memtable_cursor_open(&c, &g->table, MEMTABLE_NEWEST);
    for (const struct mem_entry *e = memtable_first(&c); e != NULL; e = memtable_next(&c))
        if (e->lsn > s->clean_lsn)
            g->dirty += store_change_bytes(e->key_len, e->value_len);
    memtable_cursor_close(&c);
    store_count(s, g);
}

void store_recount(struct store *s) {
    store_each_part(s, recount_part);
}

/* ---- what is written */

/* The partitions with changes to write, in the order of store keys. */
struct frozen {
    struct store *store;
    struct store_part **parts;
    uint32_t count, cap;
};

static int order(const struct store_part *a, const struct store_part *b) {
    return a->table != b->table           ? a->table < b->table ? -1 : 1
           : a->partition != b->partition ? a->partition < b->partition ? -1 : 1
                                          : 0;
}

static void sift(struct store_part **parts, uint32_t at, uint32_t count) {
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= count)
            return;
        if (child + 1 < count && order(parts[child], parts[child + 1]) < 0)
            child++;
        if (order(parts[at], parts[child]) >= 0)
            return;
        struct store_part *t = parts[at];
        parts[at] = parts[child];
        parts[child] = t;
        at = child;
    }
}

static void sort(struct store_part **parts, uint32_t count) {
    for (uint32_t i = count / 2; i-- > 0;)
        sift(parts, i, count);
    for (uint32_t n = count; n > 1;) {
        struct store_part *t = parts[0];
        parts[0] = parts[--n];
        parts[n] = t;
        sift(parts, 0, n);
    }
}

static void frozen_free(struct frozen *f) {
    for (uint32_t i = 0; i < f->count; i++)
        store_part_release(f->store, f->parts[i]);
    mem_free(f->store->mem, f->parts, f->cap * sizeof(struct store_part *));
}

/* Under store.mutex. */
static bool is_dirty(const struct store *s, struct store_part *part) {
    pthread_mutex_lock(&part->lock);
    bool dirty = part->gen != NULL && part->gen->newest_lsn > s->clean_lsn;
    pthread_mutex_unlock(&part->lock);
    return dirty;
}

static int frozen_list(struct store *s, store_keep_fn keep, void *ctx, struct frozen *f) {
    *f = (struct frozen){.store = s};
    int rc = 0;
    pthread_mutex_lock(&s->mutex);
    for (uint32_t i = 0; i < STORE_BUCKETS; i++)
        for (struct store_part *part = s->buckets[i]; part != NULL; part = part->next)
            f->cap += is_dirty(s, part) && keep(ctx, part->table);
    if (f->cap != 0) {
        f->parts = mem_alloc(s->mem, f->cap * sizeof(struct store_part *));
        rc = f->parts == NULL ? fail(PAWL_MEMORY, "no memory to flush state") : 0;
    }
    for (uint32_t i = 0; i < STORE_BUCKETS && rc == 0 && f->parts != NULL; i++)
        for (struct store_part *part = s->buckets[i]; part != NULL; part = part->next)
            if (f->count < f->cap && is_dirty(s, part) && keep(ctx, part->table)) {
                atomic_fetch_add_explicit(&part->refs, 1, memory_order_relaxed);
                f->parts[f->count++] = part;
            }
    pthread_mutex_unlock(&s->mutex);
    if (f->parts != NULL)
        sort(f->parts, f->count);
    return rc;
}

/* A run that is begun with its first pair. */
struct output {
    struct store *store;
    const struct run_ident *ident;
    struct run_writer *writer; /* NULL: nothing was added yet */
    bool drop_deletes;
};

static int add(struct output *o, const struct state_pair *pair) {
    if (o->drop_deletes && pair->op == STATE_DELETE)
        return 0;
    if (o->writer == NULL)
        TRY(run_writer_open(o->store->io, o->store->mem, o->ident, &o->writer));
    return run_writer_add(o->writer, pair);
}

/* 1: *out is the run's summary; 0: nothing was to be written. */
static int complete(struct output *o, int rc, struct run_summary *out) {
    if (rc < 0) {
        run_writer_abandon(o->writer);
        return rc;
    }
    if (o->writer == NULL)
        return 0;
    TRY(run_writer_finish(o->writer, out));
    return 1;
}

/* Some pairs of a memory table, copied under its lock. */
#define COPY_PAIRS 128u
#define COPY_BYTES 65536u

struct copied {
    struct bytes text; /* keys and values */
    uint32_t count;
    struct state_pair pairs[COPY_PAIRS];
};

/* Under the partition's lock. False: no memory. `e` becomes the first entry that isn't in it. */
static bool copy_some(const struct store *s, struct memtable_cursor *c, struct copied *p,
                      const struct mem_entry **e) {
    p->count = 0;
    p->text.len = 0;
    for (; *e != NULL && p->count < COPY_PAIRS && p->text.len < COPY_BYTES; *e = memtable_next(c)) {
        if ((*e)->lsn <= s->clean_lsn || (*e)->lsn > s->frozen_lsn)
            continue; /* a run has it, or the next one will */
        mem_entry_pair(*e, &p->pairs[p->count++]);
        if (!bytes_put(&p->text, (*e)->bytes, (size_t)(*e)->key_len + (*e)->value_len))
            return false;
    }
    return true;
}

static int add_copied(struct output *o, const struct copied *p, uint8_t *key) {
    const uint8_t *at = p->text.data;
    for (uint32_t i = 0; i < p->count; i++) {
        struct state_pair pair = p->pairs[i];
        memcpy(key + STORE_PREFIX_SIZE, at, pair.key_len);
        pair.value = at + pair.key_len;
        at += pair.key_len + pair.value_len;
        pair.key = key;
        pair.key_len += STORE_PREFIX_SIZE;
        TRY(add(o, &pair));
    }
    return 0;
}

/* The table's lock is held for one piece at a time: others read and change the table between. */
static int add_gen(struct output *o, struct store_part *part, struct store_gen *g, struct copied *p,
                   uint8_t *key) {
    const struct store *s = o->store;
    struct memtable_cursor c;
    int rc = 0;
    store_key(key, part->table, part->partition);
    pthread_mutex_lock(&part->lock);
    memtable_cursor_open(&c, &g->table, MEMTABLE_NEWEST);
    const struct mem_entry *e = memtable_first(&c);
    bool more = e != NULL;
    while (more && rc == 0) {
        if (!copy_some(s, &c, p, &e))
            rc = fail(PAWL_MEMORY, "no memory to flush state");
        more = e != NULL;
        pthread_mutex_unlock(&part->lock);
        if (rc == 0)
            rc = add_copied(o, p, key);
        pthread_mutex_lock(&part->lock);
        if (more) /* it may have another place now */
            e = memtable_here(&c);
    }
    memtable_cursor_close(&c);
    pthread_mutex_unlock(&part->lock);
    return rc;
}

static int add_part(struct output *o, struct store_part *part, struct copied *p, uint8_t *key) {
    pthread_mutex_lock(&part->lock);
    struct store_gen *g = part->gen;
    if (g != NULL)
        store_gen_hold(g);
    pthread_mutex_unlock(&part->lock);
    int rc = g != NULL ? add_gen(o, part, g, p, key) : 0; /* NULL: the table is gone */
    store_gen_release(g);
    return rc;
}

int store_flush(struct store *s, const struct run_ident *ident, bool drop_deletes,
                store_keep_fn keep, void *ctx, struct run_summary *out) {
    struct output o = {.store = s, .ident = ident, .drop_deletes = drop_deletes};
    struct frozen f;
    struct copied p;
    uint8_t key[STORE_KEY_MAX];
    TRY(frozen_list(s, keep, ctx, &f));
    int rc = 0;
    bytes_init(&p.text, s->mem);
    for (uint32_t i = 0; i < f.count && rc == 0; i++)
        rc = add_part(&o, f.parts[i], &p, key);
    bytes_free(&p.text);
    frozen_free(&f);
    return complete(&o, rc, out);
}

/* ---- merging */

static uint32_t table_of(const struct state_pair *pair) {
    uint32_t table = 0;
    for (int i = 0; i < 4; i++)
        table = table << 8 | pair->key[i];
    return table;
}

static int merge_all(struct merge *m, struct output *o, store_keep_fn keep, void *ctx) {
    uint32_t table = 0;
    bool kept = false;
    int rc;
    for (rc = merge_first(m); rc == 1; rc = merge_next(m)) {
        const struct state_pair *pair = merge_pair(m);
        uint32_t its = table_of(pair);
        if (its != table || table == 0) {
            table = its;
            kept = keep(ctx, table);
        }
        if (kept)
            TRY(add(o, pair));
    }
    return rc;
}

/* The thread's last error is that of reading a run: it isn't merged again. */
static void note_damage(struct store_live *live) {
    pawl_error e;
    uint32_t id;
    fail_copy(&e);
    for (uint32_t i = 0; run_parse_name(e.file, &id) && i < live->count; i++)
        if (live->runs[i]->ident.run_id == id)
            atomic_store(&live->runs[i]->damaged, true);
}

int store_merge(struct store *s, const uint32_t *ids, uint32_t count, const struct run_ident *ident,
                bool drop_deletes, store_keep_fn keep, void *ctx, struct run_summary *out) {
    struct output o = {.store = s, .ident = ident, .drop_deletes = drop_deletes};
    struct run_cursor *inputs[STORE_RUNS_MAX] = {NULL};
    struct merge_source sources[STORE_RUNS_MAX];
    struct merge_options options = {.tombstones = true};
    struct store_live *live = store_live_take(s);
    struct merge *m = NULL;
    /* with little memory, block by block */
    bool ahead = s->mem->cap == 0 || (uint64_t)count * RUN_WINDOW <= s->mem->cap / 8;
    uint32_t n = 0, flags = ahead ? RUN_CURSOR_SEQUENTIAL : 0;
    int rc = 0;
    for (uint32_t i = 0; live != NULL && i < live->count && rc == 0 && n < count; i++) {
        if (live->runs[i]->ident.run_id != ids[n])
            continue;
        if (live->runs[i]->file == NULL) {
            rc = fail_again(&live->runs[i]->error);
            break;
        }
        rc = run_cursor_open(live->runs[i]->file, flags, &inputs[n]);
        sources[n] = (struct merge_source){&merge_run_ops, inputs[n], false};
        n++;
    }
    assert(rc < 0 || n == count); /* they are live, and newest first */
    if (rc == 0)
        rc = merge_open(s->mem, sources, n, &options, &m);
    if (rc == 0)
        rc = merge_all(m, &o, keep, ctx);
    if (live != NULL && (rc == PAWL_DAMAGED || rc == PAWL_IO))
        note_damage(live);
    merge_close(m);
    for (uint32_t i = 0; i < n; i++)
        run_cursor_close(inputs[i]);
    store_live_release(s, live);
    return complete(&o, rc, out);
}
