/* SPDX-License-Identifier: Apache-2.0
 *
 * Damaged runs are written anew from the log, where the log still has the frames that they were
 * made of: those after the flush LSN of the next older run, up to the run's own. A run whose frames
 * are gone stays as it is, and so does what it keeps from being read; its file may come back from a
 * savepoint, since the log knows it by the hash in its header.
 *
 * Only for a handle without a maintenance thread, which nobody else uses: pawl_repair() opens one.
 */
#include <assert.h>

#include "pipeline/engine.h"
#include "pipeline/state.h"

struct rebuild {
    pawl *p;
    const struct run_ident *old; /* the damaged run */
    uint64_t after;              /* frames after this LSN, up to old->flush_lsn, made it */
    bool oldest;                 /* no older run is there */
    struct store store;          /* changes that are in no new run yet */
    struct run_ident made[STATE_RUNS_MAX];
    uint32_t count;
};

/* What is gathered becomes a run, with all changes up to the frame at `lsn`. */
static int write_piece(struct rebuild *b, uint64_t lsn) {
    struct state_job j = {.drops = b->oldest && b->count == 0, .frozen = &b->store};
    struct run_ident ident = {.level = 0, .flush_lsn = lsn};
    if (b->p->tables.state.run_count + b->count >= STATE_RUNS_MAX)
        return fail(PAWL_LIMIT, "a run would become more than the log may name: repair with more "
                                "memory");
    store_freeze(&b->store, lsn);
    pthread_mutex_lock(&b->p->mutex);
    int rc = state_write_named(b->p, &j, &ident);
    engine_leave(b->p);
    store_flushed(&b->store);
    if (rc == 1)
        b->made[b->count++] = ident;
    return rc < 0 ? rc : 0;
}

static int on_state(void *ctx, const struct scan_frame *f, const struct run *r,
                    const uint8_t *data) {
    struct rebuild *b = ctx;
    if (f->header.lsn > b->old->flush_lsn)
        return 0;
    uint64_t least_ms = UINT64_MAX;
    return state_apply_store(&b->store, r->stream, r->partition, f->header.lsn, data, r->len,
                             &least_ms);
}

static int on_frame_end(void *ctx, const struct scan_frame *f) {
    struct rebuild *b = ctx;
    bool full = atomic_load(&b->store.bytes) > b->p->mem.cap / 4;
    return full && f->header.lsn < b->old->flush_lsn ? write_piece(b, f->header.lsn) : 0;
}

static int on_lost(void *ctx, uint64_t lsn) {
    const struct rebuild *b = ctx;
    return lsn > b->old->flush_lsn
               ? 0
               : fail_at(PAWL_LOST, 0, "", "", lsn,
                         "damage took frames at LSN %llu that the run was made of",
                         (unsigned long long)lsn);
}

static int gather(struct rebuild *b) {
    pawl *p = b->p;
    if (b->after / p->header.segment_size < p->wal.first_segment)
        return fail_at(PAWL_NOT_FOUND, 0, "", "", b->after,
                       "the segments from LSN %llu on, of which the run was made, are gone",
                       (unsigned long long)b->after);
    struct state_walk w = {.after = b->after,
                           .end = b->old->flush_lsn + 1,
                           .state = on_state,
                           .frame_end = on_frame_end,
                           .lost = on_lost,
                           .ctx = b};
    TRY(state_walk_frames(p, &w));
    return write_piece(b, b->old->flush_lsn);
}

/* The next writer would remove them too. */
static void remove_made(struct rebuild *b) {
    for (uint32_t i = 0; i < b->count; i++)
        state_remove_file(b->p, b->made[i].run_id);
}

static int rebuild_one(pawl *p, const struct run_ident *idents, uint32_t n, uint32_t at) {
    struct rebuild *b = mem_alloc(&p->mem, sizeof *b);
    if (b == NULL)
        return fail(PAWL_MEMORY, "no memory to write a run anew");
    b->p = p;
    b->old = &idents[at];
    b->oldest = at + 1 == n;
    b->after = b->oldest ? 0 : idents[at + 1].flush_lsn;
    int rc = store_init(&b->store, p->io, &p->mem, 0, 0); /* what a flush has written goes */
    if (rc == 0)
        rc = gather(b);
    if (rc == 0) {
        pthread_mutex_lock(&p->mutex);
        rc = state_commit_runs(p, b->made, b->count, &b->old->run_id, 1, true);
        engine_leave(p);
    }
    if (rc < 0 && p->wal.failed == 0) {
        pawl_error e;
        fail_copy(&e);
        remove_made(b);
        fail_again(&e);
    }
    store_free(&b->store);
    mem_free(&p->mem, b, sizeof *b);
    return rc;
}

/* Is every byte of it as it was written? 1, 0, or what kept it from being looked at. */
static int is_whole(pawl *p, const struct run_ident *ident) {
    struct store_live *live = store_live_take(&p->store);
    int rc = 0;
    for (uint32_t i = 0; live != NULL && i < live->count; i++)
        if (live->runs[i]->ident.run_id == ident->run_id && live->runs[i]->file != NULL) {
            rc = run_verify(live->runs[i]->file, NULL, NULL);
            rc = rc == 0 ? 1 : rc == PAWL_DAMAGED ? 0 : rc;
        }
    store_live_release(&p->store, live);
    return rc;
}

int state_rebuild(pawl *p, void (*tell)(void *arg, const struct run_ident *run, int code),
                  void *arg) {
    struct run_ident idents[STATE_RUNS_MAX];
    assert(!p->read_only); /* the commit that names the new runs is the writer's */
    pthread_mutex_lock(&p->mutex);
    uint32_t n = state_idents(p, idents);
    engine_leave(p);
    for (uint32_t i = 0; i < n; i++) {
        int rc = is_whole(p, &idents[i]);
        if (rc < 0)
            return rc;
        if (rc == 1)
            continue;
        rc = rebuild_one(p, idents, n, i);
        if (rc == PAWL_MEMORY || p->wal.failed != 0)
            return rc;
        tell(arg, &idents[i], rc);
    }
    return 0;
}
