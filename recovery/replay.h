/* SPDX-License-Identifier: Apache-2.0
 *
 * replay.h - from a directory to the log's state: which segment is newest, where it ends, and every
 * frame from its checkpoint on, handed to a callback. Knows the log, not what streams mean.
 */
#ifndef PAWL_RECOVERY_REPLAY_H
#define PAWL_RECOVERY_REPLAY_H

#include <errno.h>

#include "recovery/scan.h"
#include "wal/wal.h"

/* The segments of a directory. */
struct segment_list {
    uint64_t *index; /* ascending */
    size_t count, cap;
    struct mem *mem;
};
int segment_list_read(struct seam *io, struct mem *m, struct segment_list *l);
/* Removes what an earlier writer was preparing. Whether it works or not: never read. */
void segment_remove_tmp(struct seam *io, struct mem *m);
void segment_list_free(struct segment_list *l);

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
    uint64_t scanned, cut;           /* bytes */
    const struct decision_case *end; /* how the chain ended; NULL: sealed */
};

/* Which segments count: newest begun, oldest contiguous, their headers. Also for followers. */
struct log_extent {
    struct segment_header newest, oldest;
    uint64_t first, last;
    bool prepared; /* last + 1 is there, prepared */
    bool spare;    /* and last + 2 */
};
/* `writable`: for a writer. It removes what an earlier one was preparing, and is refused a log with
 * features that this version must not write to. */
int log_extent_find(struct seam *io, struct mem *m, bool writable, struct log_extent *x);
/* The error for a header that isn't good. `h`: what it says, if it is of this format. */
int segment_header_error(uint64_t index, enum segment_verdict v, const struct segment_header *h,
                         uint64_t size);
/* The segment's features, where they are more than this version may write to: PAWL_VERSION. */
int segment_check_writable(const struct segment_header *h);

/* Is segment `index` still there? 1, 0, or the error of looking. Beside a writer, who finds bytes
 * that don't fit asks this before he calls it damage: a file that retention lets go gets another
 * name first, and then other bytes (PAWL-9). */
int segment_there(struct seam *io, uint64_t index);
/* Opens segment `index` and checks that it is of this log. Handle or error code, with ENOENT if it
 * is not there. */
int segment_open(struct seam *io, struct mem *m, uint64_t index, const struct segment_header *like,
                 bool writable, struct segment_header *h);
/* The same; *bad_copy is the copy of the header that isn't good, or -1. */
int segment_open_judged(struct seam *io, struct mem *m, uint64_t index,
                        const struct segment_header *like, bool writable, struct segment_header *h,
                        int *bad_copy);

/* Makes durable what a killed writer may have left in the page cache only, and has it read from the
 * medium from then on: what an earlier failed sync left in the cache, clean and never written, is
 * not there. Before anything is judged, where no writer lives. *stuck (NULL: that is an error): the
 * file system has gone read-only by itself, after an error, and can't write any more what it still
 * holds: only what a witness vouches for is to be believed. */
int replay_settle(struct seam *io, struct mem *m, bool *stuck);
/* Did a sync that answered `rc` leave nothing unwritten? A file system that nothing can be written
 * to (squashfs, say) has no sync: EINVAL. */
static inline bool settled(int rc) {
    return rc >= 0 || rc == -EINVAL;
}

enum replay_mode { REPLAY_WRITE, REPLAY_READ, REPLAY_SALVAGE };
/* Recovers (PAWL-8), the log being settled: everything below start.tail is durable. *x is the
 * extent found since then; a segment that was never begun is taken out of it. Damage: PAWL_DAMAGED
 * with the facts, except in salvage. */
int replay_log(struct seam *io, struct mem *m, enum replay_mode mode, struct log_extent *x,
               const struct replay *r, struct recovered *out);

/* The error for an end that is damage. */
int damage_error(const struct scan *s, const struct scan_end *end);

#endif
