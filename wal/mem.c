/* SPDX-License-Identifier: Apache-2.0 */
#include "wal/mem.h"

#include <stdlib.h>
#include <string.h>

#include "wal/seam/seam.h"

#define KEPT_LARGEST ((size_t)2 << 20)

void mem_init(struct mem *m, uint64_t cap) {
    atomic_init(&m->used, 0);
    atomic_init(&m->fail_at, -1);
    m->cap = cap;
    m->reclaim = NULL;
    m->keeps = false;
    atomic_init(&m->kept_turn, 0);
    for (size_t i = 0; i < MEM_KEPT; i++)
        atomic_init(&m->kept[i], NULL);
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

/* A kept block has its size in its first bytes. */
static size_t size_of(const void *kept) {
    size_t size;
    memcpy(&size, kept, sizeof size);
    return size;
}

void mem_drop_kept(struct mem *m) {
    for (size_t i = 0; i < MEM_KEPT; i++) {
        void *p = atomic_exchange(&m->kept[i], NULL);
        if (p != NULL)
            mem_free(m, p, size_of(p));
    }
}

static void *take_kept(struct mem *m, size_t size) {
    for (size_t i = 0; i < MEM_KEPT && m->keeps; i++) {
        void *p = atomic_exchange(&m->kept[i], NULL);
        if (p != NULL && size_of(p) == size)
            return p;
        if (p != NULL)
            mem_keep(m, p, size_of(p));
    }
    return NULL;
}

void mem_keep(struct mem *m, void *p, size_t size) {
    if (p == NULL)
        return;
    memcpy(p, &size, sizeof size);
    for (size_t i = 0; i < MEM_KEPT && m->keeps && size <= KEPT_LARGEST; i++) {
        void *none = NULL;
        if (atomic_compare_exchange_strong(&m->kept[i], &none, p))
            return;
    }
    /* what lies there may be of a size that nobody asks for any more */
    if (m->keeps && size <= KEPT_LARGEST)
        p = atomic_exchange(&m->kept[atomic_fetch_add(&m->kept_turn, 1) % MEM_KEPT], p);
    if (p != NULL)
        mem_free(m, p, size_of(p));
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
