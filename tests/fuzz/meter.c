/* SPDX-License-Identifier: Apache-2.0 */
#include "meter.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct meter meter;
static const char *metered;
static uint64_t memory_before;

void meter_begin(const char *name) {
    metered = name;
    memory_before = meter.memory_peak = meter.memory;
    meter.steps = 0;
}

void meter_end(uint64_t memory_max, uint64_t steps_max) {
    uint64_t memory = meter.memory_peak - memory_before;
    if (getenv("PAWL_FUZZ_METER") != NULL)
        fprintf(stderr, "%-12s %10llu bytes %12llu steps of %llu\n", metered,
                (unsigned long long)memory, (unsigned long long)meter.steps,
                (unsigned long long)steps_max);
    if (memory <= memory_max && meter.steps <= steps_max)
        return;
    fprintf(stderr, "%s took %llu bytes of memory (%llu allowed) and %llu steps (%llu allowed)\n",
            metered, (unsigned long long)memory, (unsigned long long)memory_max,
            (unsigned long long)meter.steps, (unsigned long long)steps_max);
    abort();
}

/* ---- work */

void __wrap___sanitizer_cov_trace_pc(void);
void __wrap___sanitizer_cov_trace_pc(void) {
    meter.steps++;
}

#define WRAPPED(name, ...) \
    name##_t __real_##name(__VA_ARGS__); \
    name##_t __wrap_##name(__VA_ARGS__)
typedef void *memmove_t;
typedef void *memcpy_t;
typedef void *memset_t;
typedef int memcmp_t;
typedef void *malloc_t;
typedef void *calloc_t;
typedef void *realloc_t;
typedef int posix_memalign_t;
typedef void free_t;

WRAPPED(memmove, void *to, const void *from, size_t n);
memmove_t __wrap_memmove(void *to, const void *from, size_t n) {
    meter.steps += n / 64;
    return __real_memmove(to, from, n);
}
WRAPPED(memcpy, void *to, const void *from, size_t n);
memcpy_t __wrap_memcpy(void *to, const void *from, size_t n) {
    meter.steps += n / 64;
    return __real_memcpy(to, from, n);
}
WRAPPED(memset, void *to, int c, size_t n);
memset_t __wrap_memset(void *to, int c, size_t n) {
    meter.steps += n / 64;
    return __real_memset(to, c, n);
}
WRAPPED(memcmp, const void *a, const void *b, size_t n);
memcmp_t __wrap_memcmp(const void *a, const void *b, size_t n) {
    meter.steps += n / 64;
    return __real_memcmp(a, b, n);
}

/* ---- memory */

static void *took(void *p) {
    if (p != NULL)
        meter.memory += malloc_usable_size(p);
    if (meter.memory > meter.memory_peak)
        meter.memory_peak = meter.memory;
    return p;
}

static void gives(void *p) {
    if (p != NULL)
        meter.memory -= malloc_usable_size(p);
}

WRAPPED(malloc, size_t n);
malloc_t __wrap_malloc(size_t n) {
    return took(__real_malloc(n));
}
WRAPPED(calloc, size_t n, size_t each);
calloc_t __wrap_calloc(size_t n, size_t each) {
    meter.steps += n * each / 64;
    return took(__real_calloc(n, each));
}
WRAPPED(realloc, void *p, size_t n);
realloc_t __wrap_realloc(void *p, size_t n) {
    size_t old = p != NULL ? malloc_usable_size(p) : 0;
    void *q = __real_realloc(p, n);
    if (q != NULL)
        meter.memory -= old;
    return took(q);
}
WRAPPED(posix_memalign, void **out, size_t alignment, size_t n);
posix_memalign_t __wrap_posix_memalign(void **out, size_t alignment, size_t n) {
    int rc = __real_posix_memalign(out, alignment, n);
    if (rc == 0)
        (void)took(*out);
    return rc;
}
WRAPPED(free, void *p);
void __wrap_free(void *p) {
    gives(p);
    __real_free(p);
}
