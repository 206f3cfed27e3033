/* SPDX-License-Identifier: Apache-2.0
 *
 * lookup.h - the one index for whatever a log names: numbers of rows by a hash of their keys. A log
 * may come from a stranger, so no loop over its entries may contain a loop over a table.
 *
 * The table is open: slots next to each other are tried, and removing closes the gap. Hashes are
 * seeded (mem.hash_seed), so that a log can't be made to collide. The keys themselves are compared
 * by the caller:
 *
 *     uint32_t at, row;
 *     for (row = lookup_first(l, hash, &at); row != LOOKUP_NONE; row = lookup_next(l, hash, &at))
 *         if (rows[row].key == key)
 *             ...
 */
#ifndef PAWL_PIPELINE_LOOKUP_H
#define PAWL_PIPELINE_LOOKUP_H

#include "wal/format.h"
#include "wal/mem.h"

#define LOOKUP_NONE UINT32_MAX

struct lookup_slot {
    uint32_t hash;
    uint32_t value; /* the row's number + 1; 0: free */
};
struct lookup {
    struct mem *mem;
    struct lookup_slot *slots;
    uint32_t size; /* a power of two, or 0 */
    uint32_t used; /* at most half of the size */
};

static inline void lookup_init(struct lookup *l, struct mem *m) {
    *l = (struct lookup){.mem = m};
}
void lookup_free(struct lookup *l);
/* Room for `more` entries. Errors: MEMORY, and nothing has changed. */
PAWL_CHECKED int lookup_reserve(struct lookup *l, uint32_t more);
/* There must be room: lookup_reserve(). `row` is below LOOKUP_NONE. */
void lookup_add(struct lookup *l, uint32_t hash, uint32_t row);
/* The entry must be there. */
void lookup_remove(struct lookup *l, uint32_t hash, uint32_t row);
/* Another row number for an entry that is there. */
void lookup_move(struct lookup *l, uint32_t hash, uint32_t row, uint32_t to);
/* Removes all; the memory stays, so there is room for as many again. */
void lookup_empty(struct lookup *l);
/* Removes all, and frees memory that was mostly unused. */
void lookup_clear(struct lookup *l);

static inline uint32_t lookup_at(const struct lookup *l, uint32_t hash, uint32_t *at) {
    for (;; *at = (*at + 1) & (l->size - 1)) {
        const struct lookup_slot *s = &l->slots[*at];
        if (s->value == 0)
            return LOOKUP_NONE;
        if (s->hash == hash)
            return s->value - 1;
    }
}
static inline uint32_t lookup_first(const struct lookup *l, uint32_t hash, uint32_t *at) {
    if (l->size == 0)
        return LOOKUP_NONE;
    *at = hash & (l->size - 1);
    return lookup_at(l, hash, at);
}
static inline uint32_t lookup_next(const struct lookup *l, uint32_t hash, uint32_t *at) {
    *at = (*at + 1) & (l->size - 1);
    return lookup_at(l, hash, at);
}

static inline uint64_t lookup_mix(uint64_t x) {
    x = (x ^ x >> 32) * UINT64_C(0xD6E8FEB86659FD93);
    x = (x ^ x >> 32) * UINT64_C(0xD6E8FEB86659FD93);
    return x ^ x >> 32;
}
/* Of two numbers. */
static inline uint32_t lookup_hash(const struct lookup *l, uint64_t a, uint64_t b) {
    return (uint32_t)lookup_mix(lookup_mix(a ^ l->mem->hash_seed) + b);
}
/* Of a number and a text. */
uint32_t lookup_hash_text(const struct lookup *l, uint64_t a, const void *text, size_t len);

#endif
