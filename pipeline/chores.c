/* SPDX-License-Identifier: Apache-2.0
 *
 * Maintenance: the next segment is prepared ahead of need, and old ones are dropped. It takes long,
 * so it is done without the lock, and by a thread of its own.
 */
#include "pipeline/engine.h"

#define FULL_RETRY_NS 1000000000u

/* Segments are gone: what tied them to later ones is too. */
static void forget_segments(pawl *p, uint64_t first) {
    p->wal.first_segment = first;
    tables_drop_spans(&p->tables, first);
    if (p->wal.next == NEXT_FULL)
        p->wal.next = NEXT_NONE;
}

/* One by one, each durably: a power cut may keep any of several removals, and a gap would look like
 * loss. What is wanted ahead of need becomes of them first. */
static bool drop_segments(pawl *p, uint64_t keep) {
    struct wal *w = &p->wal;
    uint64_t from = w->first_segment, n = from;
    w->dropping = true;
    p->drop_to = keep; /* nobody shall look for what is in them any more */
    int rc = 0, file;
    for (; n < keep && rc == 0; n++) {
        uint64_t to = wal_recycle_begin(w);
        engine_leave(p);
        rc = wal_drop_file(p->io, &w->hooks.points, n, w->segment_size, to, &file);
        pthread_mutex_lock(&p->mutex);
        if (rc < 0)
            wal_fail(w, -rc, "fsync (directory)", n * w->segment_size);
        if (rc <= 0)
            forget_segments(p, n + 1);
        wal_recycle_end(w, to, file);
        engine_progress(p); /* somebody may wait for it */
        if (rc > 0)
            break; /* it stays; tried again later */
    }
    w->dropping = false;
    p->drop_to = 0;
    engine_progress(p);
    return n > from;
}

static bool prepare_next(pawl *p) {
    struct wal *w = &p->wal;
    uint64_t index = w->segment + 1, size = w->segment_size;
    w->next = NEXT_MAKING;
    engine_leave(p);
    int file = wal_prepare_file(p->io, &w->hooks.points, index, size);
    pthread_mutex_lock(&p->mutex);
    wal_next_done(w, file);
    p->full_since = engine_now(p);
    engine_progress(p);
    return true;
}

/* Under the lock (released inside): the first segment that must be kept, as far as that is durable:
 * a position or setting which a power cut takes back must not have let go of anything. */
static uint64_t keep_durably(pawl *p) {
    uint64_t keep, again, nothing = p->wal.first_segment;
    if (retention_keep_from(p, &keep) < 0 || keep == nothing || p->wal.durable == p->wal.tail)
        return keep;
    if (engine_wait_durable(p, p->wal.tail) < 0 || p->wal.dropping ||
        retention_keep_from(p, &again) < 0)
        return nothing;
    /* what came meanwhile may need more, but lets go of nothing yet */
    return again < keep ? again : keep;
}

bool engine_chore(pawl *p) {
    bool did = false;
    if (p->wal.failed != 0)
        return false;
    uint64_t keep = p->wal.dropping ? 0 : keep_durably(p);
    if (!p->wal.dropping && keep > p->wal.first_segment)
        did = drop_segments(p, keep);
    if (p->wal.next == NEXT_FULL && engine_now(p) - p->full_since >= FULL_RETRY_NS)
        p->wal.next = NEXT_NONE; /* somebody may have freed space: work resumes by itself */
    if (wal_wants_next(&p->wal))
        did |= prepare_next(p);
    return did;
}

void *engine_maintenance(void *arg) {
    pawl *p = arg;
    pthread_mutex_lock(&p->mutex);
    while (!p->closing) {
        p->chores_asked = false;
        engine_chore(p);
        if (p->closing || p->chores_asked)
            continue;
        if (engine_did_due(p))
            continue;
        engine_sleep(p, &p->chores, engine_now(p) + FULL_RETRY_NS);
    }
    engine_leave(p);
    return NULL;
}
