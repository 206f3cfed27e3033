/* SPDX-License-Identifier: Apache-2.0
 *
 * mem.h - memory with a hard cap (PAWL-11). Every allocation of a handle goes through its budget,
 * so that the cap holds and so that a test can make the n-th allocation fail.
 */
#ifndef PAWL_WAL_MEM_H
#define PAWL_WAL_MEM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MEM_KEPT 6

struct mem {
    _Atomic uint64_t used;
    uint64_t cap;                     /* bytes; 0 = none */
    uint64_t hash_seed;               /* of tables; whoever makes a log can't know it */
    bool keeps;                       /* mem_keep() does; then mem_drop_kept() must come last */
    _Atomic uintptr_t kept[MEM_KEPT]; /* blocks of mem_keep(), with their sizes */
    _Atomic unsigned kept_turn;
    /* Gives back what can be had again, when an allocation doesn't fit; NULL: there is nothing. Any
     * thread, with or without its owner's lock. */
    void (*reclaim)(void *ctx);
    void *reclaim_ctx;
    /* tests: counts down at each allocation, which fails when it reaches 0; negative: off */
    _Atomic int64_t fail_at;
};

void mem_init(struct mem *m, uint64_t cap);
/* Zeroed; NULL if the cap or the system refuses. The size must be given back to mem_free(). Any
 * thread. */
void *mem_alloc(struct mem *m, size_t size);
void *mem_alloc_block(struct mem *m, size_t size); /* aligned to a block, not zeroed */
/* Like realloc(); on failure the old memory stays. */
void *mem_grow(struct mem *m, void *p, size_t old_size, size_t new_size);
void mem_free(struct mem *m, void *p, size_t size);
/* mem_free() of block memory that may stay, a few blocks of 2 MiB at most, for the next
 * mem_alloc_block() of its size, or until memory is short. Its bytes change. */
void mem_keep(struct mem *m, void *p, size_t size);
void mem_drop_kept(struct mem *m);

#endif
