/* SPDX-License-Identifier: Apache-2.0 */
#include "wal/mem.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "wal/seam.h"

void mem_init(struct mem *m, uint64_t cap) {
    atomic_init(&m->used, 0);
    atomic_init(&m->fail_at, -1);
    m->cap = cap;
    m->reclaim = NULL;
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
    if (atomic_load_explicit(&m->fail_at, memory_order_relaxed) >= 0 && atomic_fetch_sub(&m->fail_at, 1) == 0)
        return false;
    if (fits(m, size))
        return true;
    if (m->reclaim == NULL)
        return false;
    m->reclaim(m->reclaim_ctx);
    return fits(m, size);
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
