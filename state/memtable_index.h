/* SPDX-License-Identifier: Apache-2.0
 *
 * memtable_index.h - a hash table beside the tree of a large memory table: it finds an entry by its
 * key in two cache lines, where the tree needs some ten. It is never needed: without memory for it,
 * the table goes on without.
 *
 * A slot is an entry's address and, in the bits that are zero there, four bits of its key's hash.
 * GONE is a slot whose entry left the table. At most half of the slots are used.
 */
#ifndef PAWL_STATE_MEMTABLE_INDEX_H
#define PAWL_STATE_MEMTABLE_INDEX_H

#include "state/memtable.h"

struct mem_index {
    struct mem *mem;
    uintptr_t *slots; /* NULL: there is no index */
    uint64_t count;   /* of slots; a power of two */
    uint64_t taken;   /* entries, and GONE ones */
    uint64_t entries;
};

/* With room for `entries` and as many again. False: no memory. */
bool mem_index_begin(struct mem_index *x, struct mem *mem, uint64_t entries);
void mem_index_end(struct mem_index *x);
static inline uint64_t mem_index_bytes(const struct mem_index *x) {
    return x->count * sizeof *x->slots;
}
struct mem_entry *mem_index_find(const struct mem_index *x, const void *key, size_t len);
/* Fetches what mem_index_find() is going to read into the processor's caches, in two steps: the
 * slot, then, some time later, the entry. */
uint64_t mem_index_fetch_slot(const struct mem_index *x, const void *key, size_t len);
void mem_index_fetch_entry(const struct mem_index *x, uint64_t hash);
/* An entry whose key isn't there. False: no memory, and the index has ended. */
bool mem_index_add(struct mem_index *x, struct mem_entry *e);
/* `old` is there; `e` has its key, and takes its place. NULL: nothing does. */
void mem_index_replace(struct mem_index *x, const struct mem_entry *old, struct mem_entry *e);

#endif
