/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline/lookup.h"

#include <assert.h>

#include "wal/error.h"

#define SIZE_FIRST 16u

void lookup_free(struct lookup *l) {
    mem_free(l->mem, l->slots, l->size * sizeof *l->slots);
    lookup_init(l, l->mem);
}

static void put(struct lookup_slot *slots, uint32_t size, struct lookup_slot s) {
    uint32_t at = s.hash & (size - 1);
    while (slots[at].value != 0)
        at = (at + 1) & (size - 1);
    slots[at] = s;
}

int lookup_reserve(struct lookup *l, uint32_t more) {
    uint64_t want = ((uint64_t)l->used + more) * 2, size = l->size == 0 ? SIZE_FIRST : l->size;
    if (want <= l->size)
        return 0;
    while (size < want)
        size *= 2;
    struct lookup_slot *slots =
        size <= UINT32_MAX ? mem_alloc(l->mem, (size_t)size * sizeof *slots) : NULL;
    if (slots == NULL)
        return fail(PAWL_MEMORY, "no memory to index %llu entries of the log",
                    (unsigned long long)want / 2);
    for (uint32_t i = 0; i < l->size; i++)
        if (l->slots[i].value != 0)
            put(slots, (uint32_t)size, l->slots[i]);
    mem_free(l->mem, l->slots, l->size * sizeof *l->slots);
    l->slots = slots;
    l->size = (uint32_t)size;
    return 0;
}

void lookup_add(struct lookup *l, uint32_t hash, uint32_t row) {
    assert(row != LOOKUP_NONE && l->used < l->size / 2); /* PAWL-11: a free slot ends each search */
    put(l->slots, l->size, (struct lookup_slot){hash, row + 1});
    l->used++;
}

static uint32_t slot_of(const struct lookup *l, uint32_t hash, uint32_t row) {
    uint32_t at = 0, found = lookup_first(l, hash, &at);
    while (found != row) {
        assert(found != LOOKUP_NONE);
        found = lookup_next(l, hash, &at);
    }
    return at;
}

void lookup_remove(struct lookup *l, uint32_t hash, uint32_t row) {
    uint32_t mask = l->size - 1, gap = slot_of(l, hash, row);
    /* entries that were pushed past the gap move back into it */
    for (uint32_t i = (gap + 1) & mask; l->slots[i].value != 0; i = (i + 1) & mask)
        if (((i - l->slots[i].hash) & mask) >= ((i - gap) & mask)) {
            l->slots[gap] = l->slots[i];
            gap = i;
        }
    l->slots[gap].value = 0;
    l->used--;
}

void lookup_move(struct lookup *l, uint32_t hash, uint32_t row, uint32_t to) {
    l->slots[slot_of(l, hash, row)].value = to + 1;
}

void lookup_empty(struct lookup *l) {
    if (l->used != 0)
        memset(l->slots, 0, l->size * sizeof *l->slots);
    l->used = 0;
}

void lookup_clear(struct lookup *l) {
    if (l->used < l->size / 16) /* clearing costs no more than filling did */
        lookup_free(l);
    lookup_empty(l);
}

uint32_t lookup_hash_text(const struct lookup *l, uint64_t a, const void *text, size_t len) {
    return lookup_hash(l, format_hash(text, len, l->mem->hash_seed), a);
}
