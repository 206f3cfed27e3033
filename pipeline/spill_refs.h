/* SPDX-License-Identifier: Apache-2.0
 *
 * spill_refs.h - which runs of SPILL frames commits have referred to lately. A run belongs to one
 * commit (docs/format.md, section 5); else a log of a few megabytes could hold any number of
 * records. Verify and audit know all of them; whoever replays or reads knows the last ones, and
 * takes no memory for that.
 */
#ifndef PAWL_PIPELINE_SPILL_REFS_H
#define PAWL_PIPELINE_SPILL_REFS_H

#include "wal/error.h"
#include "wal/format.h"

#define SPILL_REFS_MAX 128u

struct spill_ref {
    uint64_t lsn; /* of the SPILL frame; it has one run of a partition */
    uint32_t stream, partition;
    uint64_t base; /* offset of the commit's run */
};
struct spill_refs {
    struct spill_ref refs[SPILL_REFS_MAX]; /* a ring */
    uint32_t count, oldest;
};
/* A commit's run at offset `base` refers to it. The same reference may be met again. Errors:
 * DAMAGED (another run has referred to it). */
PAWL_CHECKED int spill_refs_take(struct spill_refs *s, uint64_t lsn, const struct run *r);

#endif
