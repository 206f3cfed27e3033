/* SPDX-License-Identifier: Apache-2.0
 *
 * segments.h - a log's files: which there are, which count, opening one, its header. The
 * frames after the header are read by scan.h.
 */
#ifndef PAWL_RECOVERY_SEGMENTS_H
#define PAWL_RECOVERY_SEGMENTS_H

#include "wal/error.h"
#include "wal/format.h"
#include "wal/mem.h"
#include "wal/seam/seam.h"

/* The segments of a directory. */
struct segment_list {
    uint64_t *index; /* ascending */
    size_t count, cap;
    struct mem *mem;
};
PAWL_CHECKED int segment_list_read(struct seam *io, struct mem *m, struct segment_list *l);
/* Removes what an earlier writer was preparing. Whether it works or not: never read. */
void segment_remove_tmp(struct seam *io, struct mem *m);
void segment_list_free(struct segment_list *l);

/* ---- headers */

/* Reads and judges the header of segment `index` in an open file. Verdict in *v. Returns 0 or an
 * error of reading. */
PAWL_CHECKED int segment_header_read(struct seam *io, struct mem *m, int file, uint64_t index,
                                     struct segment_header *h, enum segment_verdict *v,
                                     int *bad_copy);
/* With one copy bad: *torn if nothing in the segment knew it durable, so that a cut may have left
 * it half begun. Else it was damaged. */
PAWL_CHECKED int segment_header_torn(struct seam *io, struct mem *m, int file,
                                     const struct segment_header *h, bool *torn);
/* Writes a bad copy anew, durably. */
PAWL_CHECKED int segment_header_mend(struct seam *io, struct mem *m, int file,
                                     const struct segment_header *h, int bad_copy);
/* The error for what a version must understand. `name`: of the segment's file, or "". */
int unknown_error(const struct format_unknown *u, const char *name);

/* ---- files */

/* Opens the file of segment `index`, whatever is in it. Handle or error code. */
PAWL_CHECKED int segment_open_file(struct seam *io, uint64_t index, bool writable);
/* A file after the newest begun segment, whose header is `like`: was it begun all the same? Then it
 * is damaged. */
PAWL_CHECKED int segment_check_unbegun(struct seam *io, struct mem *m, uint64_t index,
                                       const struct segment_header *like);

/* Which segments count: newest begun, oldest contiguous, their headers. Also for followers. */
struct log_extent {
    struct segment_header newest, oldest;
    uint64_t first, last;
    bool prepared; /* last + 1 is there, prepared */
    bool spare;    /* and last + 2 */
};
/* `writable`: for a writer. It removes what an earlier one was preparing, and is refused a log with
 * features that this version must not write to. */
PAWL_CHECKED int log_extent_find(struct seam *io, struct mem *m, bool writable,
                                 struct log_extent *x);
/* The error for a header that isn't good. `h`: what it says, if it is of this format. */
int segment_header_error(uint64_t index, enum segment_verdict v, const struct segment_header *h,
                         uint64_t size);
/* The segment's features, where they are more than this version may write to: PAWL_VERSION. */
PAWL_CHECKED int segment_check_writable(const struct segment_header *h);

/* Is segment `index` still there? 1, 0, or the error of looking. Beside a
 * writer, a reader asks this before it calls bytes damaged: retention gives a file another name
 * first, and other bytes later (PAWL-9). */
PAWL_CHECKED int segment_there(struct seam *io, uint64_t index);
/* Opens segment `index` and checks that it is of this log. Handle or error code, with ENOENT if it
 * is not there. */
PAWL_CHECKED int segment_open(struct seam *io, struct mem *m, uint64_t index,
                              const struct segment_header *like, bool writable,
                              struct segment_header *h);
/* The same; *bad_copy is the copy of the header that isn't good, or -1. */
PAWL_CHECKED int segment_open_judged(struct seam *io, struct mem *m, uint64_t index,
                                     const struct segment_header *like, bool writable,
                                     struct segment_header *h, int *bad_copy);

#endif
