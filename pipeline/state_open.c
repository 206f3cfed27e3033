/* SPDX-License-Identifier: Apache-2.0
 *
 * State when a log is opened. Which tables and runs there are comes from the newest segment, as
 * everything else. What was changed since the last flush is in frames from the flush LSN on: those
 * of the newest segment were applied as they were replayed, and those of older segments are read
 * here. A change that is older than what is there already has no effect, so the order doesn't
 * matter.
 *
 * A run that is missing or damaged doesn't keep a log from being opened: its streams are whole.
 * Whatever has to be looked for in that run can't be read or changed then, and each call says why;
 * the rest can. What the frames don't say any more concerns all state (p->state.error).
 */
#include <assert.h>
#include <errno.h>

#include "pipeline/engine.h"
#include "pipeline/state.h"

#define CACHE_MIN (64u * 1024u)

/* Write buffers take half of the memory, but never much (wal_group.c). */
static uint64_t buffers_share(uint64_t cap) {
    uint64_t most = (uint64_t)(WAL_BUFFERS + WAL_LOANS) * MIB;
    return cap / 2 < most ? cap / 2 : most;
}

int state_init(pawl *p) {
    uint64_t cap = p->mem.cap, cache = cap / 16, tables = (cap - buffers_share(cap)) / 2;
    if (cap == 0)
        cache = 2u * MIB, tables = 8u * MIB;
    p->tables.state.hook = state_apply_hook;
    p->tables.state.gone = state_gone_hook;
    p->tables.state.ctx = p;
    bytes_init(&p->state.expiry.from, &p->mem);
    bytes_init(&p->state.expiry.next, &p->mem);
    bytes_init(&p->state.expiry.keys, &p->mem);
    return store_init(&p->store, p->io, &p->mem, tables, cache > CACHE_MIN ? cache : CACHE_MIN);
}

void state_free(pawl *p) {
    state_expire_free(p);
    store_free(&p->store);
}

uint64_t state_oldest(const pawl *p) {
    const struct state_tables *t = &p->tables.state;
    return t->count == 0 ? UINT64_MAX : t->flush_lsn / p->wal.segment_size;
}

/* ---- frames of older segments */

static int apply_state(void *ctx, const struct scan_frame *f, const struct run *r,
                       const uint8_t *data) {
    pawl *p = ctx;
    pthread_mutex_lock(&p->mutex);
    const struct state_table *t = tables_table(&p->tables, r->stream);
    int rc = t == NULL || r->partition >= t->partitions /* deleted since */
                 ? 0
                 : state_apply_part(p, r->stream, r->partition, f->header.lsn, data, r->len);
    if (f->header.lsn > p->state.last_lsn)
        p->state.last_lsn = f->header.lsn;
    pthread_mutex_unlock(&p->mutex);
    return rc;
}

/* Repair took frames out which may have held changes that are in no run: what the tables hold isn't
 * known (docs/format.md, section 9). */
static int mark_lost(void *ctx, uint64_t lsn) {
    pawl *p = ctx;
    pthread_mutex_lock(&p->mutex);
    p->tables.state.doubted = true;
    for (uint32_t i = 0; i < p->tables.state.count; i++) {
        struct state_table *t = p->tables.state.tables[i];
        for (uint32_t k = 0; k < t->partitions; k++)
            if (t->parts[k].lost_lsn < lsn + 1)
                t->parts[k].lost_lsn = lsn + 1;
    }
    pthread_mutex_unlock(&p->mutex);
    return 0;
}

static int walk_frame(const struct state_walk *w, const struct scan_frame *f) {
    if (f->header.lsn <= w->after)
        return 0;
    if (f->header.kind == FRAME_LOST)
        return w->lost(w->ctx, f->header.lsn);
    for (uint32_t i = 0; f->header.kind == FRAME_COMMIT && i < f->header.runs; i++) {
        struct run r;
        const uint8_t *data;
        frame_run(f->data, &f->header, i, &r, &data);
        if (r.type == RUN_STATE)
            TRY(w->state(w->ctx, f, &r, data));
    }
    return w->frame_end != NULL ? w->frame_end(w->ctx, f) : 0;
}

static int walk_segment(pawl *p, uint64_t index, const struct state_walk *w) {
    struct segment_header h;
    struct scan s;
    struct scan_frame f;
    int file = segment_open(p->io, &p->mem, index, &p->header, false, &h);
    if (file < 0)
        return file;
    bool last = w->end < (index + 1) * h.segment_size;
    scan_begin(&s, p->io, &p->mem, file, &h, last);
    if (!last)
        scan_whole(&s);
    int rc;
    while ((rc = scan_next(&s, &f)) == 1 && f.header.lsn < w->end)
        if ((rc = walk_frame(w, &f)) < 0)
            break;
    if (rc == 0 && !last && !scan_sealed(&s))
        rc =
            fail_at(PAWL_DAMAGED, 0, "", "", s.at,
                    "segment %016llx is damaged at LSN %llu; changes of state after it are needed: "
                    "run 'pawl verify', then 'pawl repair'",
                    (unsigned long long)index, (unsigned long long)s.at);
    scan_end(&s);
    p->io->ops->close(p->io, file);
    return rc < 0 ? rc : 0;
}

int state_walk_frames(pawl *p, const struct state_walk *w) {
    uint64_t size = p->header.segment_size, first = w->after / size;
    if (first < p->wal.first_segment)
        first = p->wal.first_segment;
    for (uint64_t n = first; n * size < w->end; n++)
        TRY(walk_segment(p, n, w));
    return 0;
}

int state_read_older(pawl *p, uint64_t flush_lsn, uint64_t end) {
    /* never flushed: no table is older than what is kept */
    if (flush_lsn != 0 && flush_lsn / p->header.segment_size < p->wal.first_segment)
        return fail_at(PAWL_DAMAGED, 0, "", "", flush_lsn,
                       "the segments from LSN %llu on hold changes of state since the last flush, "
                       "and are gone",
                       (unsigned long long)flush_lsn);
    struct state_walk w = {
        .after = flush_lsn, .end = end, .state = apply_state, .lost = mark_lost, .ctx = p};
    return state_walk_frames(p, &w);
}

/* ---- runs */

uint32_t state_tables_idents(const struct state_tables *t, const uint8_t log_id[16],
                             struct run_ident *out) {
    for (uint32_t i = 0; i < t->run_count; i++) {
        const struct run_row *r = &t->runs[i];
        struct run_ident e = {.run_id = r->id,
                              .level = r->level,
                              .flush_lsn = r->flush_lsn,
                              .length = r->bytes,
                              .header_hash = r->header_hash};
        memcpy(e.log_id, log_id, sizeof e.log_id);
        uint32_t k = i; /* newest first: of two runs, the one that was flushed later */
        for (; k > 0 && out[k - 1].flush_lsn < e.flush_lsn; k--)
            out[k] = out[k - 1];
        out[k] = e;
    }
    return t->run_count;
}

uint32_t state_idents(const pawl *p, struct run_ident *out) {
    return state_tables_idents(&p->tables.state, p->header.log_id, out);
}

int state_open_runs(pawl *p, bool whole) {
    struct run_ident idents[STATE_RUNS_MAX];
    pthread_mutex_lock(&p->mutex);
    uint32_t n = state_idents(p, idents);
    p->state.runs_stale = false;
    pthread_mutex_unlock(&p->mutex);
    int rc = store_runs_are(&p->store, idents, n, whole);
    if (rc < 0) { /* those of before don't have what is said now */
        pthread_mutex_lock(&p->mutex);
        p->state.runs_stale = true;
        pthread_mutex_unlock(&p->mutex);
    }
    return rc;
}

/* ---- files that no commit names */

struct sweep {
    pawl *p;
    uint32_t *ids;
    uint32_t count, cap;
};

static int note_run(void *arg, const char *name) {
    struct sweep *s = arg;
    uint32_t id;
    if (!run_parse_name(name, &id))
        return 0;
    const struct state_tables *t = &s->p->tables.state;
    for (uint32_t i = 0; i < t->run_count; i++)
        if (t->runs[i].id == id)
            return 0;
    if (tables_grow(&s->p->mem, (void **)&s->ids, s->count, &s->cap, sizeof *s->ids) < 0)
        return 1; /* the others go the next time */
    s->ids[s->count++] = id;
    return 0;
}

/* What a crash left of a run that was never named, or that a merge has replaced. Files that aren't
 * this log's stay (PAWL-15). */
static int remove_unnamed(pawl *p) {
    struct sweep s = {.p = p};
    int listed = p->io->ops->list(p->io, note_run, &s);
    for (uint32_t i = 0; i < s.count && listed >= 0; i++) {
        char name[RUN_NAME_SIZE];
        struct run_ident e;
        run_name(name, s.ids[i]);
        int rc = run_identify(p->io, &p->mem, name, &e);
        bool ours =
            rc == RUN_FILE_BLANK || ((rc == RUN_FILE_WHOLE || rc == RUN_FILE_UNFINISHED) &&
                                     memcmp(e.log_id, p->header.log_id, sizeof e.log_id) == 0);
        if (ours && p->io->ops->unlink(p->io, name) < 0)
            continue; /* the next writer tries again */
    }
    mem_free(&p->mem, s.ids, s.cap * sizeof *s.ids);
    return listed < 0 ? fail_sys(listed, "readdir", NULL, NO_LSN) : 0;
}

int state_recover(pawl *p, uint64_t newest) {
    if (!p->tables.state.any)
        return 0;
    p->store.clean_lsn = p->tables.state.flush_lsn;
    if (p->tables.state.expiring != 0)
        (void)state_clock(p); /* it goes on from here */
    int rc = state_read_older(p, p->tables.state.flush_lsn, newest * p->header.segment_size);
    /* what a run has is read from there: so a run that isn't the log's is told at once */
    store_passed_flush(&p->store, p->tables.state.flush_lsn);
    store_recount(&p->store);
    if (rc == 0)
        rc = state_open_runs(p, false);
    if (rc == 0 && p->tables.state.expiring != 0)
        rc = state_expire_begin(p);
    if (rc == PAWL_MEMORY) /* with more of it the log can be opened */
        return rc;
    if (rc < 0)
        state_broken(p);
    /* after damage, the commit that named a run may be what was lost */
    const struct loss *loss = &p->tables.loss;
    return loss->commits != 0 || loss->unknown != 0 ? 0 : remove_unnamed(p);
}
