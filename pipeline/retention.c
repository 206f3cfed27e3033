/* SPDX-License-Identifier: Apache-2.0
 *
 * What may be dropped: whole segments, oldest first, never one that a processor has yet to read
 * (PAWL-11). Where a transaction's spilled part goes, its records go too, though their commit's
 * segment stays: the partitions then begin behind that one (locate_whole_from()).
 */
#include "pipeline/engine.h"

struct passing {
    const pawl *p;
    bool passed;
};

/* Has every processor passed everything of a partition below the offset at which a later segment
 * begins? */
static bool passed_there(void *ctx, uint32_t stream, uint32_t partition, uint64_t next) {
    struct passing *g = ctx;
    const struct tables *t = &g->p->tables;
    for (uint32_t i = 0; i < t->position_count && g->passed; i++) {
        const struct position_row *row = &t->positions[i];
        g->passed = row->stream != stream || row->partition != partition || row->offset >= next;
    }
    return g->passed;
}

static bool wanted_gone(const pawl *p, uint64_t n, const struct segment_header *next) {
    const struct tables *t = &p->tables;
    if (t->consumed)
        return true;
    uint64_t size = (p->wal.segment - n + 1) * p->wal.segment_size;
    if (t->retain_bytes != 0 && size > t->retain_bytes)
        return true;
    uint64_t now = p->io->ops->realtime(p->io);
    return t->retain_ms != 0 && now > next->created_ns &&
           (now - next->created_ns) / 1000000 > t->retain_ms;
}

int retention_keep_from(pawl *p, uint64_t *keep) {
    const struct tables *t = &p->tables;
    *keep = p->wal.first_segment;
    if (!t->consumed && t->retain_bytes == 0 && t->retain_ms == 0)
        return 0;
    uint64_t spilled = tx_oldest_spill(p);
    for (uint64_t n = *keep; n < p->wal.segment && n < spilled && p->wal.state == WAL_RUNNING;
         n++) {
        uint64_t whole = locate_whole_from(p, n + 1);
        if (whole > p->wal.segment)
            return 0; /* the active segment refers to what would go */
        struct passing later = {p, true};
        struct segment_header h;
        int rc = locate_nexts(p, whole, &h, passed_there, &later);
        if (rc == PAWL_LOST)
            /* nothing tells what it begins with: it goes together with the next one, or not at
             * all */
            continue;
        TRY(rc);
        if (!later.passed || !wanted_gone(p, *keep, &h))
            return 0;
        *keep = n + 1;
    }
    return 0;
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
