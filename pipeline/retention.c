/* SPDX-License-Identifier: Apache-2.0
 *
 * Decides which segments may be dropped: whole segments, oldest first, and never one that a
 * processor has yet to read (PAWL-11). If a transaction's spilled part is dropped, its records are
 * gone too, even if the commit's segment stays: the partitions then begin after that segment
 * (locate_whole_from()).
 *
 * Checkpoints are read without the lock. They never change, but positions, settings and
 * transactions do: so everything that depends on those is checked again under the lock, right
 * before anything is dropped.
 */
#include "pipeline/engine.h"

struct passing {
    const pawl *p;
    bool passed;
};

/* Has every processor passed all records of a partition below `next`, the partition's offset when a
 * later segment began? */
static bool passed_there(void *ctx, uint32_t stream, uint32_t partition, uint64_t next) {
    struct passing *g = ctx;
    const struct tables *t = &g->p->tables;
    const struct stream *s = tables_stream(t, stream);
    g->passed = s == NULL || partition >= s->partitions || s->parts[partition].least >= next;
    return g->passed;
}

bool retention_is_set(const pawl *p) {
    const struct tables *t = &p->tables;
    return t->consumed || t->retain_bytes != 0 || t->retain_ms != 0;
}

/* `next` is the stamp of the segment after those to be dropped: nothing in them is younger. */
static bool wanted_gone(const pawl *p, uint64_t n, const struct age_stamp *next) {
    const struct tables *t = &p->tables;
    if (t->consumed)
        return true;
    uint64_t size = (p->wal.segment - n + 1) * p->wal.segment_size;
    if (t->retain_bytes != 0 && size > t->retain_bytes)
        return true;
    return t->retain_ms != 0 && age_over(next, wal_age((struct wal *)&p->wal), t->retain_ms);
}

bool retention_holds(const pawl *p, const struct droppable *d) {
    struct passing later = {p, true};
    struct age_stamp stamp = {.flags = 0}; /* none in a checkpoint of an older version */
    tables_find_least(&p->tables);
    if (d->at.file >= 0)
        (void)frame_age(&d->at.frame.header, d->at.frame.data, &stamp);
    return d->at.file >= 0 && d->keep > p->wal.first_segment &&
           d->keep <= tx_oldest_spill((pawl *)p) && d->keep <= state_oldest(p) &&
           locate_whole_from(p, d->keep) == d->at.segment &&
           checkpoint_each(&d->at, passed_there, &later) == 0 && later.passed &&
           wanted_gone(p, d->asked, &stamp);
}

/* Under the lock, released while it reads: may all segments below `d->keep` be dropped? 1: yes, 0:
 * no. In any case *d holds a checkpoint until checkpoint_free(). */
static int judge(pawl *p, struct droppable *d) {
    uint64_t whole = locate_whole_from(p, d->keep);
    d->at.file = -1;
    if (whole > p->wal.segment)
        return 0; /* the active segment refers to segments that would be dropped */
    engine_leave(p);
    int rc = checkpoint_read(p, whole, &d->at);
    pthread_mutex_lock(&p->mutex);
    return rc < 0 ? rc : retention_holds(p, d);
}

static void let_go(pawl *p, struct droppable *d) {
    if (d->at.file < 0)
        return;
    engine_leave(p);
    checkpoint_free(p, &d->at);
    pthread_mutex_lock(&p->mutex);
}

bool retention_find(pawl *p, struct droppable *d) {
    struct droppable found = {.keep = p->wal.first_segment, .asked = p->wal.first_segment};
    uint64_t asked = found.asked;
    for (uint64_t n = found.keep; p->wal.state == WAL_RUNNING && n < p->wal.segment &&
                                  n < tx_oldest_spill(p) && n < state_oldest(p);
         n++) {
        *d = (struct droppable){.keep = n + 1, .asked = asked};
        int rc = judge(p, d);
        let_go(p, d);
        if (rc == PAWL_LOST)
            /* it has no checkpoint: it is dropped together with the next one, or not at all */
            continue;
        if (rc <= 0)
            break; /* on an error, the segments found before it may still be dropped */
        found = *d;
        asked = n + 1;
    }
    *d = found;
    d->at.file = -1;
    return d->keep > p->wal.first_segment && judge(p, d) > 0;
}

int pawl_retention_apply(pawl *p) {
    TRY(engine_enter_writer(p));
    uint64_t before = p->wal.first_segment;
    p->drop_waiters++;
    while (p->wal.dropping)
        engine_wait_until(p, UINT64_MAX);
    p->drop_waiters--;
    engine_chore(p);
    int n = (int)(p->wal.first_segment - before);
    engine_leave(p);
    return n;
}
