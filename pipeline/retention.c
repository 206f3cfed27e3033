/* SPDX-License-Identifier: Apache-2.0
 *
 * What may be dropped: whole segments, oldest first, never one that a processor has yet to read (PAWL-11).
 */
#include "pipeline/engine.h"

/* Has every processor passed everything below the tables `t` of a later segment's beginning? */
static bool passed(const pawl *p, const struct tables *t) {
    for (uint32_t i = 0; i < p->tables.position_count; i++) {
        const struct position_row *row = &p->tables.positions[i];
        const struct stream *s = tables_stream(t, row->stream);
        if (s != NULL && row->partition < s->partitions && row->offset < s->parts[row->partition].next)
            return false;
    }
    return true;
}

/* Drop segments up to and including n only together with those that refer to them. */
static uint64_t with_spans(const pawl *p, uint64_t n) {
    for (bool again = true; again;) {
        again = false;
        for (uint32_t i = 0; i < p->tables.span_count; i++) {
            const struct span_row *s = &p->tables.spans[i];
            if (s->oldest <= n && s->segment > n) {
                n = s->segment;
                again = true;
            }
        }
    }
    return n;
}

/* A dropping that a crash interrupted may have taken the spilled part of commits that are still there. They go as one: what refers to a segment
 * that isn't there any more counts as dropped too. */
uint64_t retention_first(const pawl *p) {
    uint64_t n = p->wal.first_segment;
    for (bool again = true; again;) {
        again = false;
        for (uint32_t i = 0; i < p->tables.span_count; i++) {
            const struct span_row *s = &p->tables.spans[i];
            if (s->oldest < n && s->segment >= n) {
                n = s->segment + 1;
                again = true;
            }
        }
    }
    return n;
}

static bool wanted_gone(const pawl *p, uint64_t n, const struct segment_header *next) {
    const struct tables *t = &p->tables;
    if (t->consumed)
        return true;
    uint64_t size = (p->wal.segment - n + 1) * p->wal.segment_size;
    if (t->retain_bytes != 0 && size > t->retain_bytes)
        return true;
    uint64_t now = p->io->ops->realtime(p->io);
    return t->retain_ms != 0 && now > next->created_ns && (now - next->created_ns) / 1000000 > t->retain_ms;
}

int retention_keep_from(pawl *p, uint64_t *keep) {
    const struct tables *t = &p->tables;
    *keep = retention_first(p);
    if (!t->consumed && t->retain_bytes == 0 && t->retain_ms == 0)
        return 0;
    uint64_t spilled = tx_oldest_spill(p);
    for (uint64_t n = *keep;; n++) {
        n = with_spans(p, n);
        if (n >= p->wal.segment || n >= spilled || p->wal.state != WAL_RUNNING)
            return 0;
        struct tables later;
        struct segment_header h;
        int rc = locate_tables(p, n + 1, &later, &h);
        if (rc == PAWL_LOST)
            continue; /* nothing tells what n + 1 begins with: they go together, or not at all */
        TRY(rc);
        bool drop = wanted_gone(p, *keep, &h) && passed(p, &later);
        tables_free(&later);
        if (!drop)
            return 0;
        *keep = n + 1;
    }
}

int pawl_retention_apply(pawl *p) {
    TRY(engine_enter_writer(p));
    uint64_t before = p->wal.first_segment;
    while (p->wal.dropping)
        engine_wait_until(p, UINT64_MAX);
    engine_chore(p);
    int n = (int)(p->wal.first_segment - before);
    engine_leave(p);
    return n;
}
