/* SPDX-License-Identifier: Apache-2.0
 *
 * arena.h - small pieces of memory carved out of chunks, freed all at once. A piece that is given
 * back is used again for the next one of its size class. Chunks come from a struct mem, so the cap
 * of the handle holds (PAWL-11). Not thread-safe: the owner locks.
 *
 * Size classes: multiples of 16 bytes up to 128, then four for each doubling. So a piece is at most
 * a quarter larger than asked, or 15 bytes.
 */
#ifndef PAWL_STATE_ARENA_H
#define PAWL_STATE_ARENA_H

#include "wal/mem.h"

#define ARENA_CLASSES 72 /* the largest holds 8 MiB */

struct arena_chunk;
struct arena_free;
struct arena {
    struct mem *mem;
    struct arena_chunk *current; /* pieces are carved from it; it heads the list of all in use */
    struct arena_chunk *reserve; /* what arena_reserve() promised; NULL: `current` has it */
    struct arena_chunk *idle;    /* emptied by arena_clear(), for the next use */
    uint64_t chunk_bytes;        /* of all chunks */
    uint64_t used;               /* of the pieces in use */
    struct arena_free *free[ARENA_CLASSES];
};

unsigned arena_class(size_t size);
size_t arena_class_size(unsigned size_class);

void arena_init(struct arena *a, struct mem *m);
void arena_free(struct arena *a);
/* Takes all pieces back; keeps chunks of `keep` bytes at most. */
void arena_clear(struct arena *a, uint64_t keep);
/* Not zeroed, aligned to 16 bytes; to 64 if all sizes are multiples of 64. NULL: no memory. */
void *arena_take(struct arena *a, unsigned size_class);
void arena_give(struct arena *a, void *p, unsigned size_class);
/* After it returned true, taking pieces of `bytes` bytes in all (the sizes of their classes) can't
 * fail. A later call replaces the promise. False: no memory, and nothing has changed. */
bool arena_reserve(struct arena *a, uint64_t bytes);

#endif
