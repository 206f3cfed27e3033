/* SPDX-License-Identifier: Apache-2.0
 *
 * Which runs are live. A list never changes once readers may see it: another one takes its place,
 * and the last reader of the old one closes the files that are in no list any more.
 */
#include <assert.h>

#include "state/store.h"
#include "wal/error.h"

static size_t live_size(uint32_t count) {
    return sizeof(struct store_live) + count * sizeof(struct store_run *);
}

static void run_release(struct store *s, struct store_run *r) {
    if (r == NULL || atomic_fetch_sub_explicit(&r->refs, 1, memory_order_acq_rel) != 1)
        return;
    run_close(r->file);
    mem_free(s->mem, r, sizeof *r);
}

struct store_live *store_live_take(struct store *s) {
    pthread_mutex_lock(&s->mutex);
    struct store_live *live = s->live;
    if (live != NULL)
        atomic_fetch_add_explicit(&live->refs, 1, memory_order_relaxed);
    pthread_mutex_unlock(&s->mutex);
    return live;
}

void store_live_release(struct store *s, struct store_live *live) {
    if (live == NULL || atomic_fetch_sub_explicit(&live->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (uint32_t i = 0; i < live->count; i++)
        run_release(s, live->runs[i]);
    mem_free(s->mem, live, live_size(live->count));
}

static struct store_run *find_open(const struct store_live *live, uint32_t id) {
    for (uint32_t i = 0; live != NULL && i < live->count; i++)
        if (live->runs[i]->ident.run_id == id)
            return live->runs[i];
    return NULL;
}

static int run_make(struct store *s, const struct run_ident *ident, bool whole,
                    struct store_run **out) {
    if (atomic_load(&s->cache) == NULL) {
        struct run_cache *cache;
        TRY(run_cache_create(s->mem, s->cache_bytes, &cache));
        atomic_store(&s->cache, cache);
    }
    struct store_run *r = mem_alloc(s->mem, sizeof *r);
    if (r == NULL)
        return fail(PAWL_MEMORY, "no memory for a run");
    atomic_init(&r->refs, 1);
    r->ident = *ident;
    int rc = run_open(s->io, s->mem, s->cache, ident, &r->file);
    if (rc < 0 && (whole || rc == PAWL_MEMORY)) { /* with more of it the run can be read */
        mem_free(s->mem, r, sizeof *r);
        return rc;
    }
    if (rc < 0) {
        r->file = NULL;
        fail_copy(&r->error);
    }
    *out = r;
    return 0;
}

int store_runs_are(struct store *s, const struct run_ident *idents, uint32_t count, bool whole) {
    struct store_live *fresh = NULL;
    if (count != 0) {
        fresh = mem_alloc(s->mem, live_size(count));
        if (fresh == NULL)
            return fail(PAWL_MEMORY, "no memory for the list of runs");
        atomic_init(&fresh->refs, 1);
    }
    struct store_live *old = store_live_take(s);
    int rc = 0;
    for (uint32_t i = 0; i < count && rc == 0; i++) {
        struct store_run *r = find_open(old, idents[i].run_id);
        if (r != NULL)
            atomic_fetch_add_explicit(&r->refs, 1, memory_order_relaxed);
        else
            rc = run_make(s, &idents[i], whole, &r);
        if (rc == 0)
            fresh->runs[fresh->count++] = r;
    }
    store_live_release(s, old);
    if (rc < 0) {
        store_live_release(s, fresh);
        return rc;
    }
    pthread_mutex_lock(&s->mutex);
    old = s->live;
    s->live = fresh;
    pthread_mutex_unlock(&s->mutex);
    store_live_release(s, old);
    return 0;
}

bool store_run_damaged(struct store *s, uint32_t id) {
    struct store_live *live = store_live_take(s);
    const struct store_run *r = find_open(live, id);
    bool damaged = r != NULL && (r->file == NULL || atomic_load(&r->damaged));
    store_live_release(s, live);
    return damaged;
}
