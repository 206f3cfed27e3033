/* SPDX-License-Identifier: Apache-2.0
 *
 * verify.h - reads every byte of every segment and says what is wrong; goes on after damage.
 */
#ifndef PAWL_RECOVERY_VERIFY_H
#define PAWL_RECOVERY_VERIFY_H

#include "recovery/replay.h"

struct verify_next {
    bool open;
    int file;
    int bad_copy; /* of its header, or -1 */
    struct segment_header header;
};

struct verify {
    struct seam *io;
    struct mem *mem;
    pawl_check *check;
    /* Every good frame, in order. A negative answer becomes a finding with the thread's last error.
     * `lost`: damage was passed over since the last checkpoint. */
    int (*frame)(void *ctx, const struct frame_header *h, const uint8_t *frame, bool lost);
    /* Damage from p up to q (UINT64_MAX: nothing good after it), before the walk goes on there.
     * May be NULL. */
    int (*damage)(void *ctx, struct scan *s, const struct scan_end *end, uint64_t q);
    /* A header copy is bad. May be NULL. */
    int (*header)(void *ctx, int file, const struct segment_header *h, int bad_copy);
    bool writable;
    void *ctx;
    uint64_t from;           /* the segment to begin with, if older ones are kept */
    struct verify_next next; /* the segment that follows, opened while this one is read */
    uint64_t segment_size;   /* set by verify_log() */
    bool told_unknown;       /* that this version must not write to the log */
    /* damage reaches to the end of the segment just walked: nothing is known of what the next one
     * follows */
    bool cut_off;
};

PAWL_CHECKED int verify_log(struct verify *v);
void verify_tell(pawl_check *c, int code, uint64_t segment, uint64_t lsn, uint64_t bytes,
                 const char *label, const char *message, ...) __attribute__((format(printf, 7, 8)));

/* recovery/own_files.c */
/* Every segment with a second name becomes a copy, durably, each in one step. */
PAWL_CHECKED int own_files(struct seam *io, struct mem *m);

/* recovery/repair.c */
/* The places that a repair has put LOST frames into. */
struct mended {
    uint64_t from, to;
};
struct repaired {
    struct mem *mem;
    struct mended *areas;
    uint32_t count, cap;
};
/* Mends; what was lost is for the caller to judge, from what is there then. The caller frees
 * done->areas. */
PAWL_CHECKED int repair_log(struct seam *io, struct mem *m, pawl_check *c, struct repaired *done);

#endif
