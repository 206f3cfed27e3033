/* SPDX-License-Identifier: Apache-2.0 */
#include "state/memtable_index.h"

#include <assert.h>

#include "wal/bytes.h"
#include "wal/format.h"

#define TAG ((uintptr_t)15) /* entries are aligned to 16 bytes */
#define GONE ((uintptr_t)1)
#define AHEAD 16u /* entries fetched before they are hashed */
#define SLOTS_MIN UINT64_C(64)

static struct mem_entry *entry_of(uintptr_t slot) {
    return (struct mem_entry *)(slot & ~TAG); /* NULL: free or gone */
}

/* Whoever chooses keys doesn't know the seed. */
static uint64_t hash_of(const struct mem_index *x, const void *key, size_t len) {
    return format_hash(key, len, x->mem->hash_seed);
}

static uintptr_t tag_of(uint64_t hash) {
    return (uintptr_t)(hash >> 60);
}

bool mem_index_begin(struct mem_index *x, struct mem *mem, uint64_t entries) {
    uint64_t count = SLOTS_MIN;
    while (count < 4 * entries)
        count *= 2;
    *x = (struct mem_index){.mem = mem};
    x->slots = mem_alloc(mem, count * sizeof *x->slots);
    if (x->slots == NULL)
        return false;
    x->count = count;
    return true;
}

void mem_index_end(struct mem_index *x) {
    mem_free(x->mem, x->slots, mem_index_bytes(x));
    x->slots = NULL;
    x->count = x->taken = x->entries = 0;
}

uint64_t mem_index_fetch_slot(const struct mem_index *x, const void *key, size_t len) {
    uint64_t hash = hash_of(x, key, len);
    __builtin_prefetch(&x->slots[hash & (x->count - 1)]);
    return hash;
}

void mem_index_fetch_entry(const struct mem_index *x, uint64_t hash) {
    uint64_t mask = x->count - 1;
    uintptr_t slot;
    for (uint64_t at = hash & mask; (slot = x->slots[at]) != 0; at = (at + 1) & mask)
        if ((slot & TAG) == tag_of(hash)) {
            __builtin_prefetch(entry_of(slot)); /* harmless, whatever the address is */
            return;
        }
}

static bool same_key(const struct mem_entry *e, const void *key, size_t len) {
    if (e->key_len != len)
        return false;
    size_t at = 0;
    for (; at + 8 <= len; at += 8)
        if (!same_word(e->bytes + at, (const uint8_t *)key + at))
            return false;
    return at == len || memcmp(e->bytes + at, (const uint8_t *)key + at, len - at) == 0;
}

struct mem_entry *mem_index_find(const struct mem_index *x, const void *key, size_t len) {
    uint64_t hash = hash_of(x, key, len), mask = x->count - 1;
    uintptr_t tag = tag_of(hash), slot;
    for (uint64_t at = hash & mask; (slot = x->slots[at]) != 0; at = (at + 1) & mask) {
        struct mem_entry *e = entry_of(slot);
        if ((slot & TAG) == tag && e != NULL && same_key(e, key, len))
            return e;
    }
    return NULL;
}

static void place(struct mem_index *x, struct mem_entry *e) {
    uint64_t hash = hash_of(x, e->bytes, e->key_len), mask = x->count - 1, at = hash & mask;
    while (entry_of(x->slots[at]) != NULL)
        at = (at + 1) & mask;
    x->taken += x->slots[at] == 0;
    x->slots[at] = (uintptr_t)e | tag_of(hash);
    x->entries++;
    assert(entry_of(x->slots[at]) == e);
}

/* Twice as many slots, or as many, if most are gone. */
static bool rebuild(struct mem_index *x) {
    struct mem_index fresh;
    if (!mem_index_begin(&fresh, x->mem, x->entries)) {
        mem_index_end(x);
        return false;
    }
    for (uint64_t i = 0; i < x->count; i++) {
        if (i + AHEAD < x->count && entry_of(x->slots[i + AHEAD]) != NULL)
            __builtin_prefetch(entry_of(x->slots[i + AHEAD]));
        struct mem_entry *e = entry_of(x->slots[i]);
        if (e != NULL)
            place(&fresh, e);
    }
    assert(fresh.entries == x->entries);
    mem_index_end(x);
    *x = fresh;
    return true;
}

bool mem_index_add(struct mem_index *x, struct mem_entry *e) {
    if (2 * (x->taken + 1) > x->count && !rebuild(x))
        return false;
    place(x, e);
    return true;
}

void mem_index_replace(struct mem_index *x, const struct mem_entry *old, struct mem_entry *e) {
    uint64_t hash = hash_of(x, old->bytes, old->key_len), mask = x->count - 1, at = hash & mask;
    while (entry_of(x->slots[at]) != old) {
        assert(x->slots[at] != 0); /* it is there */
        at = (at + 1) & mask;
    }
    x->slots[at] = e != NULL ? (uintptr_t)e | tag_of(hash) : GONE;
    x->entries -= e == NULL;
}
