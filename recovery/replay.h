/* SPDX-License-Identifier: Apache-2.0
 *
 * replay.h - from a directory to the log's state: which segment is newest, where it ends, and every
 * frame from its checkpoint on, handed to a callback. Knows the log, not what streams mean.
 */
#ifndef PAWL_RECOVERY_REPLAY_H
#define PAWL_RECOVERY_REPLAY_H

#include <errno.h>

#include "recovery/scan.h"
#include "recovery/segments.h"
#include "wal/wal.h"

typedef int (*replay_fn)(void *ctx, const struct frame_header *h, const uint8_t *frame,
                         bool after_lost);

struct replay {
    /* every good frame from the newest checkpoint on, in order; non-zero ends it */
    replay_fn frame;
    void *ctx;
    int (*progress)(void *arg, uint64_t done, uint64_t total);
    void *progress_arg;
};

struct recovered {
    struct segment_header header; /* of the newest begun segment */
    /* ready for wal_init(), files included (negative where not writable) */
    struct wal_start start;
    bool clean;                      /* the last frame is a CLOSE */
    bool salvaged;                   /* damage was passed over */
    bool copied;                     /* the newest segment's file is not the one that was written */
    uint64_t scanned, cut;           /* bytes */
    const struct decision_case *end; /* how the chain ended; NULL: sealed */
};

/* Makes durable what a killed writer may have left in the page cache only, and has it read from the
 * medium from then on: what an earlier failed sync left in the cache, clean and never written, is
 * not there. Before anything is judged, where no writer lives. *stuck (NULL: that is an error): the
 * file system has gone read-only by itself, after an error, and can't write any more what it still
 * holds: only what a witness vouches for is to be believed. */
PAWL_CHECKED int replay_sync(struct seam *io, struct mem *m, bool *stuck);
/* Did a sync that answered `rc` leave nothing unwritten? A file system that nothing can be written
 * to (squashfs, say) has no sync: EINVAL. */
static inline bool synced(int rc) {
    return rc >= 0 || rc == -EINVAL;
}

enum replay_mode { REPLAY_WRITE, REPLAY_READ, REPLAY_SALVAGE };
/* Recovers (PAWL-8), after replay_sync(): everything below start.tail is durable. *x is the
 * extent found since then; a segment that was never begun is taken out of it. Damage: PAWL_DAMAGED
 * with the facts, except in salvage. */
PAWL_CHECKED int replay_log(struct seam *io, struct mem *m, enum replay_mode mode,
                            struct log_extent *x, const struct replay *r, struct recovered *out);

/* The error for an end that is damage. */
int damage_error(const struct scan *s, const struct scan_end *end);
/* The error for a segment that can't be sealed, as its last frame ends at `lsn`. */
int full_error(const struct scan *s, uint64_t lsn);

#endif
