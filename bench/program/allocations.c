/* SPDX-License-Identifier: Apache-2.0
 *
 * allocations.c - counts the allocations of Pawl and of all that is linked statically with it: the
 * linker redirects them here (--wrap).
 */
#include <stdatomic.h>
#include <stdlib.h>

#include "bench/peers/peers.h"

static atomic_uint_fast64_t count;

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
int __real_posix_memalign(void **out, size_t alignment, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);
int __wrap_posix_memalign(void **out, size_t alignment, size_t size);

static void counted(void) {
    atomic_fetch_add_explicit(&count, 1, memory_order_relaxed);
}

void *__wrap_malloc(size_t size) {
    counted();
    return __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size) {
    counted();
    return __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t size) {
    counted();
    return __real_realloc(p, size);
}

int __wrap_posix_memalign(void **out, size_t alignment, size_t size) {
    counted();
    return __real_posix_memalign(out, alignment, size);
}

uint64_t peers_allocations(void) {
    return count;
}
