/* SPDX-License-Identifier: Apache-2.0
 *
 * Maintenance: prepares the next segment before it is needed, and drops old ones. Both take long,
 * so a separate thread does them, without the lock.
 */
#include <assert.h>

#include "pipeline/engine.h"

#define FULL_RETRY_NS 1000000000u
#define LOOK_NS 1000000000u /* between two checks for segments to drop */

/* Removes the segments below `first`, which have been dropped, from the log's state and the
 * tables. */
static void forget_segments(pawl *p, uint64_t first) {
    assert(first == p->wal.first_segment + 1 && first <= p->wal.segment); /* PAWL-8: in order */
    p->wal.first_segment = first;
    tables_drop_spans(&p->tables, first);
    if (p->wal.next == NEXT_FULL)
        p->wal.next = NEXT_NONE;
}

/* PAWL-11: every processor has passed the records that are dropped. */
static void assert_passed(const pawl *p) {
    for (uint32_t i = 0; i < p->tables.position_count; i++) {
        const struct position_row *row = &p->tables.positions[i];
        const struct stream *s = tables_stream(&p->tables, row->stream);
        assert(s == NULL || row->partition >= s->partitions ||
               row->offset >= s->parts[row->partition].first); /* PAWL-11 */
    }
}

/* Drops segments one by one, each durably: a power cut may undo any of several removals, and a gap
 * would look like lost segments. The first files dropped are recycled as prepared segments. */
static bool drop_segments(pawl *p, const struct droppable *d) {
    struct wal *w = &p->wal;
    uint64_t keep = d->keep, from = w->first_segment, n = from;
    int rc = 0, file;
    assert(keep > from && keep <= w->segment && keep <= tx_oldest_spill(p)); /* PAWL-11 */
    assert(keep <= state_oldest(p)); /* PAWL-13: recovery reads what was changed since the flush */
    if (locate_firsts_are(p, d->at.segment, &d->at) < 0)
        return false;
    /* otherwise an earlier attempt was to drop more, and stopped early */
    if (p->firsts_from == d->at.segment)
        assert_passed(p);
    p->drop_to = keep; /* from now on no thread opens them */
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
        engine_progress(p); /* wakes threads that wait for space */
        if (rc > 0)
            break; /* it could not be dropped; a later round retries */
    }
    p->drop_to = 0;
    engine_progress(p);
    return n > from;
}

static bool prepare_next(pawl *p) {
    struct wal *w = &p->wal;
    uint64_t index = w->segment + 1, size = w->segment_size;
    /* With threads, zeros come part by part. */
    bool zeros = p->no_thread && p->io->zeros && pace_wants_zeros(&w->pace);
    w->next = NEXT_MAKING;
    engine_leave(p);
    int file = wal_prepare_file(p->io, &w->hooks.points, index, size, &zeros);
    pthread_mutex_lock(&p->mutex);
    wal_next_done(w, file, zeros ? size : 0);
    p->full_since = engine_now(p);
    engine_progress(p);
    return true;
}

/* Each part is asked for by the progress of the log, the next one by this progress. */
static bool zero_part(pawl *p) {
    struct wal *w = &p->wal;
    struct wal_part part = wal_zeros_begin(w);
    engine_leave(p);
    int rc = wal_zero_part(p->io, &part);
    pthread_mutex_lock(&p->mutex);
    wal_zeros_done(w, &part, rc);
    engine_progress(p);
    return true;
}

/* Under the lock, released inside: drops the segments that durable positions and settings allow. If
 * a power cut could undo a position or setting, nothing may be dropped because of it. */
static bool drop_durably(pawl *p) {
    struct droppable d;
    bool did = false;
    if (retention_find(p, &d) &&
        (p->wal.durable == p->wal.tail || engine_wait_durable(p, p->wal.tail) == 0) &&
        retention_holds(p, &d))
        did = drop_segments(p, &d);
    engine_leave(p);
    checkpoint_free(p, &d.at);
    pthread_mutex_lock(&p->mutex);
    return did;
}

/* One thread at a time, because it releases the lock while it reads and removes files. */
static bool drop(pawl *p) {
    if (p->wal.dropping || !retention_is_set(p))
        return false;
    p->wal.dropping = true;
    bool did = drop_durably(p);
    p->wal.dropping = false;
    if (p->drop_waiters != 0)
        engine_tell(p);
    return did;
}

bool engine_chore(pawl *p) {
    if (p->wal.failed != 0)
        return false;
    bool did = drop(p);
    if (p->wal.next == NEXT_FULL && engine_now(p) - p->full_since >= FULL_RETRY_NS)
        p->wal.next = NEXT_NONE; /* space may have been freed: the log resumes by itself */
    if (wal_wants_next(&p->wal))
        did |= prepare_next(p);
    if (!p->no_thread && wal_wants_zeros(&p->wal))
        did |= zero_part(p);
    if (p->state.retry_ns != 0 && engine_now(p) >= p->state.retry_ns)
        p->state.retry_ns = 0; /* what is still due begins now; else there is nothing to wait for */
    did |= state_chore(p);
    return did;
}

/* Under the lock: the time of the next check without a request; UINT64_MAX: not before the log
 * grows. `looked` is the log's tail at the last check. Which segments may be dropped depends on
 * positions and settings, which only appends change; on the age of segments; and on open
 * transactions that have spilled, which may be aborted. */
static uint64_t next_segments(pawl *p, uint64_t looked) {
    if (p->wal.failed != 0)
        return UINT64_MAX;
    if (p->wal.next == NEXT_FULL)
        return p->full_since + FULL_RETRY_NS;
    if (p->state.retry_ns != 0)
        return p->state.retry_ns;
    if (!retention_is_set(p) || p->wal.first_segment == p->wal.segment)
        return UINT64_MAX; /* a new segment requests the preparation of its successor */
    bool again =
        p->wal.tail != looked || p->tables.retain_ms != 0 || tx_oldest_spill(p) != UINT64_MAX;
    p->chores_wait = !again;
    return again ? engine_now(p) + LOOK_NS : UINT64_MAX;
}

static uint64_t next_look(pawl *p, uint64_t looked) {
    uint64_t segments = next_segments(p, looked), state = state_next(p);
    return segments < state ? segments : state;
}

void *engine_maintenance(void *arg) {
    pawl *p = arg;
    pthread_mutex_lock(&p->mutex);
    while (!p->closing) {
        p->chores_asked = p->chores_wait = false;
        uint64_t tail = p->wal.tail;
        engine_chore(p);
        notice_tell(p);
        if (p->closing || p->chores_asked)
            continue;
        if (engine_did_due(p))
            continue;
        engine_sleep(p, &p->chores, next_look(p, tail));
    }
    engine_leave(p);
    return NULL;
}
