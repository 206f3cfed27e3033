/* SPDX-License-Identifier: Apache-2.0
 *
 * readahead.h - reads a file front to back with several large reads under way, and shows what has
 * come as one growing window.
 *
 * Memory: | carry | slot 0 | slot 1 | ... |. Slots fill in turn. Where the window grows from the
 * last slot into the first, the bytes that are still needed are copied into the carry, so that a
 * window is always in one piece.
 */
#ifndef PAWL_RECOVERY_READAHEAD_H
#define PAWL_RECOVERY_READAHEAD_H

#include "wal/mem.h"
#include "wal/seam/seam.h"

struct window {
    const uint8_t *data;
    uint64_t at, len; /* file offset and bytes */
};

struct readahead;

/* Keeps an ended readahead, its memory and its queue for the next reader: making both costs as much
 * as reading a MiB. */
typedef _Atomic(struct readahead *) readahead_spare;

#define READAHEAD_SLOTS_MAX 8u

/* Begins to read [from, end) of the file in pieces of `slot` bytes, `slots` of them at a time; all
 * block-aligned. NULL if the backend can't or there is no memory: then the caller goes on with
 * plain reads. One thread at a time. `spare`: it is taken from there and left there, or NULL. */
struct readahead *readahead_begin(struct seam *io, struct mem *m, readahead_spare *spare, int file,
                                  size_t slot, unsigned slots, uint64_t from, uint64_t end);
/* Extends the window to `to`, in whole pieces; bytes below `keep` may leave it. False if it can't
 * (the end, a frame too large, a read that failed or was short): then the caller calls
 * readahead_end(), and a plain read tells the reason. */
bool readahead_extend(struct readahead *a, uint64_t keep, uint64_t to, struct window *w);
/* Once all reads of this file are submitted, those of [from, end) of another file follow without a
 * pause. */
void readahead_then(struct readahead *a, int file, uint64_t from, uint64_t end);
/* Goes on to that file. The rest of the first one is skipped and no read of it is in flight any
 * more; the window is empty and begins where the reads of `file` do. False: `file` isn't the file
 * that readahead_then() named. */
bool readahead_turn(struct readahead *a, int file, struct window *w);
/* Waits for the reads in flight, and frees it or leaves it as the spare. Windows in its memory are
 * no longer valid. */
void readahead_end(struct readahead *a);
/* Frees the spare, if there is one. Any thread. */
void readahead_drop(readahead_spare *spare);

#endif
