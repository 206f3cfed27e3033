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

/* Where one that has ended waits, with its memory and its queue, for the next who reads: making
 * both costs as much as reading a MiB. */
typedef _Atomic(struct readahead *) readahead_spare;

#define READAHEAD_SLOTS_MAX 8u

/* Begins to read [from, end) of the file in pieces of `slot` bytes, `slots` of them at a time; all
 * block-aligned. NULL where the backend can't, or there is no memory: then the caller goes on with
 * plain reads. One thread at a time. `spare`: where it comes from and goes to, or NULL. */
struct readahead *readahead_begin(struct seam *io, struct mem *m, readahead_spare *spare, int file,
                                  size_t slot, unsigned slots, uint64_t from, uint64_t end);
/* Lets the window, which ends where the next piece begins, reach `to`; bytes below `keep` may leave
 * it. False when that can't be (the end, a frame too large, a read that failed or was short): then
 * the caller ends it, and a plain read tells the reason. */
bool readahead_extend(struct readahead *a, uint64_t keep, uint64_t to, struct window *w);
/* Once the reads of this file are all put in, those of [from, end) of another one follow without a
 * pause. */
void readahead_then(struct readahead *a, int file, uint64_t from, uint64_t end);
/* On to that file: what is left of the first one is passed over, no read of it is under way any
 * more, and the window is empty, where the other's begins. False: `file` isn't the one named. */
bool readahead_turn(struct readahead *a, int file, struct window *w);
/* Waits for what is under way and frees it, or leaves it as the spare: a window in its memory is
 * gone. */
void readahead_end(struct readahead *a);
/* Frees the spare, if there is one. Any thread. */
void readahead_drop(readahead_spare *spare);

#endif
