/* SPDX-License-Identifier: Apache-2.0 */
#include "wal/mem.h"

#include <stdlib.h>

#include "wal/seam/seam.h"

#define KEPT_LARGEST ((size_t)2 << 20)
_Static_assert(KEPT_LARGEST / SEAM_BLOCK < SEAM_BLOCK, "a size fits beside an address");

void mem_init(struct mem *m, uint64_t cap) {
    atomic_init(&m->used, 0);
    atomic_init(&m->fail_at, -1);
    m->cap = cap;
    /* an address, which the system chooses at random; no result depends on it */
    m->hash_seed = (uint64_t)(uintptr_t)m * UINT64_C(0x9E3779B97F4A7C15);
    m->reclaim = NULL;
    m->keeps = false;
    atomic_init(&m->kept_turn, 0);
    for (size_t i = 0; i < MEM_KEPT; i++)
        atomic_init(&m->kept[i], 0);
}

static bool fits(struct mem *m, size_t size) {
    uint64_t used = atomic_fetch_add(&m->used, size);
    if (m->cap != 0 && (size > m->cap || used > m->cap - size)) {
        atomic_fetch_sub(&m->used, size);
        return false;
    }
    return true;
}

static bool take(struct mem *m, size_t size) {
    if (atomic_load_explicit(&m->fail_at, memory_order_relaxed) >= 0 &&
        atomic_fetch_sub(&m->fail_at, 1) == 0)
        return false;
    if (fits(m, size))
        return true;
    mem_drop_kept(m);
    if (m->reclaim != NULL)
        m->reclaim(m->reclaim_ctx);
    return fits(m, size);
}

/* A kept block is its address and, in the bits that are zero there, its size in units of the
 * alignment: so a block is taken only by a thread that wants its size, and is never missing
 * meanwhile. */
static uintptr_t kept_block(void *p, size_t size) {
    return (uintptr_t)p | size / SEAM_BLOCK;
}

static void free_kept(struct mem *m, uintptr_t kept) {
    if (kept != 0)
        mem_free(m, (void *)(kept & ~(uintptr_t)(SEAM_BLOCK - 1)), kept % SEAM_BLOCK * SEAM_BLOCK);
}

void mem_drop_kept(struct mem *m) {
    for (size_t i = 0; i < MEM_KEPT; i++)
        free_kept(m, atomic_exchange(&m->kept[i], 0));
}

static void *take_kept(struct mem *m, size_t size) {
    for (size_t i = 0; i < MEM_KEPT && m->keeps; i++) {
        uintptr_t kept = atomic_load(&m->kept[i]);
        if (kept != 0 && kept % SEAM_BLOCK * SEAM_BLOCK == size &&
            atomic_compare_exchange_strong(&m->kept[i], &kept, 0))
            return (void *)(kept & ~(uintptr_t)(SEAM_BLOCK - 1));
    }
    return NULL;
}

void mem_keep(struct mem *m, void *p, size_t size) {
    if (p == NULL)
        return;
    if (!m->keeps || size > KEPT_LARGEST || size % SEAM_BLOCK != 0) {
        mem_free(m, p, size);
        return;
    }
    for (size_t i = 0; i < MEM_KEPT; i++) {
        uintptr_t none = 0;
        if (atomic_compare_exchange_strong(&m->kept[i], &none, kept_block(p, size)))
            return;
    }
    /* what lies there may be of a size that nobody asks for any more */
    size_t turn = atomic_fetch_add(&m->kept_turn, 1) % MEM_KEPT;
    free_kept(m, atomic_exchange(&m->kept[turn], kept_block(p, size)));
}

void *mem_alloc(struct mem *m, size_t size) {
    if (!take(m, size))
        return NULL;
    void *p = calloc(1, size);
    if (p == NULL)
        atomic_fetch_sub(&m->used, size);
    return p;
}

void *mem_alloc_block(struct mem *m, size_t size) {
    void *kept = take_kept(m, size);
    if (kept != NULL)
        return kept;
    if (!take(m, size))
        return NULL;
    void *p = NULL;
    if (posix_memalign(&p, SEAM_BLOCK, size) != 0) {
        atomic_fetch_sub(&m->used, size);
        return NULL;
    }
    return p;
}

void *mem_grow(struct mem *m, void *p, size_t old_size, size_t new_size) {
    if (!take(m, new_size))
        return NULL;
    void *q = realloc(p, new_size);
    atomic_fetch_sub(&m->used, q == NULL ? new_size : old_size);
    return q;
}

void mem_free(struct mem *m, void *p, size_t size) {
    if (p == NULL)
        return;
    free(p);
    atomic_fetch_sub(&m->used, size);
}
