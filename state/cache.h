/* SPDX-License-Identifier: Apache-2.0
 *
 * cache.h - blocks of runs in memory; for run_read.c and run_iter.c.
 *
 * A block belongs to a run (by a number that no other run of the cache ever has) and begins at a
 * unit of its file. Its bytes never change. Whoever has it pinned may read it without a lock.
 */
#ifndef PAWL_STATE_CACHE_H
#define PAWL_STATE_CACHE_H

#include "state/format_run.h"

struct run_block {
    /* Constant while the block is pinned. */
    uint64_t run;
    uint8_t *data;
    size_t size;
    struct run_view view;
    struct mem *mem;
    bool kept; /* in the cache; else it is freed when its last pin goes */
    /* Rises under the cache's mutex only. The release of a pin is the last thing that its thread
     * does with the block. */
    _Atomic uint32_t pins;
    /* Under the cache's mutex. */
    bool used; /* since the hand passed it */
    struct run_block *hash_next, *ring_next, *ring_prev;
};

/* A number for a run that uses the cache. */
uint64_t run_cache_number(struct run_cache *c);
/* The block, pinned; NULL: it isn't there. */
struct run_block *run_cache_find(struct run_cache *c, uint64_t run, uint32_t unit);
/* A new block, pinned, that no other thread sees yet. NULL: no memory, even after blocks were
 * dropped. */
struct run_block *run_block_make(struct run_cache *c, uint64_t run, uint32_t units);
/* Keeps a block that was read and checked, if it fits. Returns the block to use, pinned: another
 * thread may have kept the same one meanwhile, and *b was freed then. */
struct run_block *run_cache_keep(struct run_cache *c, struct run_block *b);
void run_block_release(struct run_block *b); /* NULL is allowed */
/* Drops the blocks of a run that is closed. */
void run_cache_forget(struct run_cache *c, uint64_t run);

#endif
