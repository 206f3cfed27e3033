/* SPDX-License-Identifier: Apache-2.0
 *
 * scan.h - walks the frames of one segment, verifying everything; where the chain ends, gathers the
 * evidence for decide.h.
 */
#ifndef PAWL_RECOVERY_SCAN_H
#define PAWL_RECOVERY_SCAN_H

#include "recovery/decide.h"
#include "recovery/readahead.h"
#include "recovery/segments.h"
#include "wal/error.h"
#include "wal/format.h"
#include "wal/mem.h"
#include "wal/seam/seam.h"

#define SCAN_CHUNK (1024u * 1024u)

struct scan {
    struct seam *io;
    struct mem *mem;
    int file;
    uint64_t index, segment_size;
    struct frame_key key; /* of the segment's frames */
    /* NULL, or another one that headers may have that are searched for: scan_for_begun() */
    const struct frame_key *other_key;
    bool newest; /* else the next segment exists: everything here was durable */

    uint64_t at;           /* LSN where the next frame is looked for */
    uint64_t link;         /* what it must link to */
    uint64_t epoch;        /* of the last frame accepted */
    uint8_t kind;          /* of the last frame accepted; 0 none yet */
    bool after_lost;       /* a LOST frame was passed in this segment */
    uint64_t accepted_end; /* end of the last frame accepted */
    uint64_t durable;      /* greatest durable LSN that any accepted frame told */

    /* if not 0: file offset from which on bytes may still change, and are not to be kept */
    uint64_t limit;
    struct window window; /* of the file: in buf, or in the readahead's memory */
    uint8_t *buf;
    size_t buf_cap;
    size_t chunk;
    struct readahead *readahead; /* NULL: not reading ahead */
    /* NULL, or set by the owner after scan_begin(): where `readahead` comes from and goes to */
    readahead_spare *spare;
    int then;            /* file of the segment that is read after this one, or -1 */
    unsigned sequential; /* windows read one after the other */
    /* several windows are going to be read: as if they had been read one after the other */
    bool much;
    bool whole; /* the segment will be read to its end: reading ahead begins at once */

    /* What of a later version was met in the segment's header or a frame: the strictest. A frame of
     * the need `refuses`, or a stricter one, ends the walk. The owner may set it after
     * scan_begin(); it is NEED_TO_READ otherwise. */
    struct format_unknown unknown;
    enum format_need refuses;

    /* Bytes searched and hashed beyond the walk itself; more than WORK_MAX segments of it are
     * refused. */
    uint64_t work;
    /* What scan_judge() has found: between `looked_from` and `first` no header is a witness, nor is
     * there one after `last`. Both were witnesses when they were found. */
    uint64_t looked_from;
    struct witness {
        uint64_t lsn, epoch, durable;
    } first, last;

    bool counts; /* the segment counts: its frames get `ids` */
    struct c_ids ids;
    uint32_t next_counts; /* in the flags of the frame after the last one accepted */
};

struct scan_frame {
    struct frame_header header;
    const uint8_t *data; /* the whole frame; valid until the next call */
};

/* What ended the chain. */
struct scan_end {
    const struct decision_case *decision; /* NULL: the segment was sealed */
    uint64_t lsn;                         /* p */
    uint64_t witness_lsn;                 /* of the first witness, if there is one */
    /* in the newest segment: end of the last witness's header */
    uint64_t witnessed_to;
};

void scan_begin(struct scan *s, struct seam *io, struct mem *m, int file,
                const struct segment_header *h, bool newest);
/* Directly after scan_begin(): all of the segment is going to be read, in order. Takes more memory,
 * and has it read without a pause. */
void scan_whole(struct scan *s);
/* Directly after scan_begin(): one frame alone is going to be read, and only its own blocks are. */
void scan_one(struct scan *s);
/* All up to the file offset `until` is going to be read, in order. */
void scan_much(struct scan *s, uint64_t until);
/* Behind scan_whole(): the segment in `file` follows, whole, and what is free to read ahead begins
 * with it. */
void scan_then(struct scan *s, int file);
/* In place of scan_whole(), for that segment: goes on with what `before` has read ahead of it. No
 * read of the file before is under way any more. */
void scan_whole_after(struct scan *s, struct scan *before);
/* Back to the first frame; what was read stays. */
void scan_rewind(struct scan *s, const struct segment_header *h);
/* The next frame: 1 with it, 0 at the chain's end (call scan_judge()), negative: error of reading,
 * or PAWL_VERSION for what must be understood and isn't (`refuses`). */
PAWL_CHECKED int scan_next(struct scan *s, struct scan_frame *f);
/* Did the walk reach the segment's end: its SEAL, or a LOST frame in its place? */
bool scan_sealed(const struct scan *s);
/* Is the segment sealed, or is there room for a SEAL after the last frame? No writer fills a
 * segment so that there is none: nothing could ever be appended to such a log. */
bool scan_can_seal(const struct scan *s);
/* Gathers the evidence where scan_next() ended and decides. */
PAWL_CHECKED int scan_judge(struct scan *s, struct scan_end *end);
/* Is what lies there surely none of this segment's? Behind a CLOSE nothing is written before the
 * next OPEN, which is too small to be torn: it is an older segment's. */
bool scan_leftover(const struct scan *s, const struct scan_end *end);
/* The first place beyond `from` with a whole good frame at its own LSN, whatever its link;
 * UINT64_MAX if there is none. For repair and salvage. */
PAWL_CHECKED int scan_resync(struct scan *s, uint64_t from, uint64_t *lsn);
/* Goes on at a frame whose place was told by somebody else, trusting its own link. Returns 0 or an
 * error of reading. */
PAWL_CHECKED int scan_jump(struct scan *s, uint64_t lsn);
/* Goes on after a frame that was accepted before. */
void scan_resume(struct scan *s, uint64_t lsn, uint64_t link, uint64_t epoch);
void scan_end(struct scan *s);
/* Drops what was read: the file may have grown, or was changed. */
void scan_forget(struct scan *s);
/* `len` bytes at a file offset, through the window; NULL with *rc set if they can't be read. Fewer
 * than len at the end of the file: NULL and *rc = 0. */
const uint8_t *scan_read(struct scan *s, uint64_t offset, size_t len, int *rc);
/* A prepared or headerless file: is there a witness in it that says it was begun? *lsn is its place
 * or UINT64_MAX. `h` is the header of the segment, or of the one before it. */
PAWL_CHECKED int scan_for_begun(struct seam *io, struct mem *m, int file, uint64_t index,
                                const struct segment_header *h, uint64_t *lsn);
/* Is there the header of a frame, under the key of `h`, which is that of the segment in `file`? */
PAWL_CHECKED int scan_for_frame(struct seam *io, struct mem *m, int file,
                                const struct segment_header *h, bool *found);

#endif
