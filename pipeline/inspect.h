/* SPDX-License-Identifier: Apache-2.0
 *
 * inspect.h - what verify, audit and repair share: frames judged one after the other with tables of
 * their own (inspect.c), and what is told of what damage took (inspect_lost.c).
 */
#ifndef PAWL_PIPELINE_INSPECT_H
#define PAWL_PIPELINE_INSPECT_H

#include "pipeline/engine.h"
#include "pipeline/outside.h"
#include "recovery/verify.h"

/* A run of a SPILL frame that no commit has referred to yet. */
struct spill_seen {
    uint64_t lsn, hash;
    uint32_t stream, partition, run, count;
};
/* Where the records of a partition end in the frame that is judged, as far as it has been. */
struct run_end {
    uint32_t stream, partition;
    uint64_t end;
};

/* The memory of verify, audit, repair and dump, unless the caller says another cap (PAWL-11). The
 * largest frame takes 17 MiB. */
#define CHECK_MEMORY (128ull * MIB)

struct judge {
    struct tables tables;
    struct mem *mem;
    pawl_check *check;
    bool lost; /* damage was skipped since the last checkpoint */

    /* what was read outside; NULL: not audited */
    struct outside *outside;
    uint64_t link; /* that the next frame carries, if nothing is lost before it; 0: not known */

    /* NULL: all losses are told; else only those of these areas, which repair has just mended */
    const struct repaired *repaired;
    bool telling;       /* one of them was passed since the last checkpoint */
    uint64_t untold;    /* commits lost since the last checkpoint, which nothing may show whole */
    uint64_t first_lsn; /* of the first frame seen */
    uint64_t last_lsn;  /* of the newest one */
    uint64_t area_lsn, area_size; /* the lost area just passed; size 0: none */
    bool any_lost;                /* there was a LOST frame, or damage */
    uint64_t epoch;               /* of the last frame */
    struct spill_seen *spills;
    uint32_t spill_count, spill_cap;
    struct lookup spill_lookup;
    struct run_end *ends;
    uint32_t end_count, end_cap;
    struct lookup end_lookup;
};

/* -- inspect_state.c */
/* After the last frame: run files, and what tables hold. */
PAWL_CHECKED int judge_state_end(struct judge *j, struct seam *io, const struct log_extent *x);

/* -- inspect_lost.c */
/* Before the frame is applied: what it shows to be lost. Errors: MEMORY; PAWL_DAMAGED for a
 * spilled part that isn't there and that no damage took. */
PAWL_CHECKED int judge_lost(struct judge *j, const struct frame_header *h, const uint8_t *frame);
/* After it was applied; `before`: what was known to be lost before. */
void judge_counts(struct judge *j, const struct frame_header *h, const struct loss *before);
/* A checkpoint was judged: it has shown what was lost before it. */
void judge_checkpoint(struct judge *j);
/* At the end of the log. */
void judge_lost_end(struct judge *j);
void judge_free(struct judge *j);

#endif
