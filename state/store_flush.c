/* SPDX-License-Identifier: Apache-2.0
 *
 * Memory tables become a run, and runs become one run. What is read here never changes: frozen
 * generations and runs. Tables that are gone are left out; deletes too, if no older run is there
 * that they hide something in.
 */
#include <assert.h>

#include "state/store.h"
#include "wal/error.h"

/* ---- freezing */

typedef void (*part_fn)(struct store *s, struct store_part *part);

static void each_part(struct store *s, part_fn fn) {
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
    (void)s;
    assert(part->frozen == NULL); /* PAWL-13: a generation goes only to a run, or with its table */
    part->frozen = part->active;
    part->active = NULL;
}

static void thaw_part(struct store *s, struct store_part *part) {
    (void)s;
    store_gen_release(part->frozen);
    part->frozen = NULL;
}

void store_freeze(struct store *s) {
    each_part(s, freeze_part);
    atomic_store(&s->active_bytes, 0);
    s->has_frozen = true;
}

void store_flushed(struct store *s) {
    each_part(s, thaw_part);
    s->has_frozen = false;
}

void store_passed_flush(struct store *s, bool more) {
    store_flushed(s);
    store_freeze(s);
    if (!more)
        store_flushed(s);
}

/* ---- what is written */

/* The frozen generations, in the order of store keys. */
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

static int frozen_list(struct store *s, store_keep_fn keep, void *ctx, struct frozen *f) {
    *f = (struct frozen){.store = s};
    int rc = 0;
    pthread_mutex_lock(&s->mutex);
    for (uint32_t i = 0; i < STORE_BUCKETS; i++)
        for (struct store_part *part = s->buckets[i]; part != NULL; part = part->next)
            f->cap += part->frozen != NULL && keep(ctx, part->table);
    if (f->cap != 0) {
        f->parts = mem_alloc(s->mem, f->cap * sizeof(struct store_part *));
        rc = f->parts == NULL ? fail(PAWL_MEMORY, "no memory to flush state") : 0;
    }
    for (uint32_t i = 0; i < STORE_BUCKETS && rc == 0 && f->parts != NULL; i++)
        for (struct store_part *part = s->buckets[i]; part != NULL; part = part->next)
            if (part->frozen != NULL && keep(ctx, part->table)) {
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

static int add_part(struct output *o, struct store_part *part, uint8_t *key) {
    struct memtable_cursor c;
    int rc = 0;
    store_key(key, part->table, part->partition);
    pthread_mutex_lock(&part->lock);
    memtable_cursor_open(&c, &part->frozen->table, MEMTABLE_NEWEST);
    pthread_mutex_unlock(&part->lock);
    for (const struct mem_entry *e = memtable_first(&c); e != NULL && rc == 0;
         e = memtable_next(&c)) {
        struct state_pair pair;
        mem_entry_pair(e, &pair);
        memcpy(key + STORE_PREFIX_SIZE, pair.key, pair.key_len);
        pair.key = key;
        pair.key_len += STORE_PREFIX_SIZE;
        rc = add(o, &pair);
    }
    pthread_mutex_lock(&part->lock);
    memtable_cursor_close(&c);
    pthread_mutex_unlock(&part->lock);
    return rc;
}

int store_flush(struct store *s, const struct run_ident *ident, bool drop_deletes,
                store_keep_fn keep, void *ctx, struct run_summary *out) {
    struct output o = {.store = s, .ident = ident, .drop_deletes = drop_deletes};
    struct frozen f;
    uint8_t key[STORE_KEY_MAX];
    TRY(frozen_list(s, keep, ctx, &f));
    int rc = 0;
    for (uint32_t i = 0; i < f.count && rc == 0; i++)
        rc = add_part(&o, f.parts[i], key);
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
    if (rc == PAWL_DAMAGED || rc == PAWL_IO)
        note_damage(live);
    merge_close(m);
    for (uint32_t i = 0; i < n; i++)
        run_cursor_close(inputs[i]);
    store_live_release(s, live);
    return complete(&o, rc, out);
}
