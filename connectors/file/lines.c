/* SPDX-License-Identifier: Apache-2.0
 *
 * Lines of a buffer: 64 bytes at a time are turned into a bit mask of their newlines. A line that
 * is long enough for a hole is searched for one; shorter ones cost nothing.
 */
#include <string.h>

#include "connectors/file/split.h"

#if defined(__SSE2__)
#include <emmintrin.h>

static inline uint64_t newlines(const uint8_t *p) {
    const __m128i nl = _mm_set1_epi8('\n');
    uint64_t mask = 0;
    for (int i = 0; i < 4; i++)
        mask |= (uint64_t)(uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(
                    _mm_loadu_si128((const __m128i *)(const void *)(p + 16 * i)), nl))
                << (16 * i);
    return mask;
}
#else
static inline uint64_t newlines(const uint8_t *p) {
    uint64_t mask = 0;
    for (int i = 0; i < 64; i++)
        mask |= (uint64_t)(p[i] == '\n') << i;
    return mask;
}
#endif

const uint8_t *lines_hole(const uint8_t *from, size_t n) {
    /* the last byte of each possible run is looked at first, then back to where the run ends */
    for (size_t i = SPLIT_HOLE_MIN - 1, least = 0; i < n;) {
        size_t k = i + 1;
        while (k > least && from[k - 1] == 0)
            k--;
        if (k == least)
            return from + least;
        least = k;
        i = k + SPLIT_HOLE_MIN - 1;
    }
    return NULL;
}

size_t lines_split(const uint8_t *from, const uint8_t *end, pawl_record *records, size_t max,
                   size_t line_max, bool crlf, int64_t timestamp_ns, const uint8_t **next) {
    const uint8_t *line = from;
    size_t quick = line_max < SPLIT_HOLE_MIN ? line_max : SPLIT_HOLE_MIN - 1;
    pawl_record *r = records, *last = records + max;
    for (const uint8_t *block = from; block < end && r < last; block += 64)
        for (uint64_t mask = newlines(block); mask != 0; mask &= mask - 1) {
            const uint8_t *newline = block + __builtin_ctzll(mask);
            size_t n = (size_t)(newline - line);
            if (r == last || newline >= end)
                goto out;
            if (n > quick && (n > line_max || lines_hole(line, n) != NULL))
                goto out;
            r->value = line;
            r->value_len = (uint32_t)(n - (crlf && n != 0 && newline[-1] == '\r'));
            r->timestamp_ns = timestamp_ns;
            r++;
            line = newline + 1;
        }
out:
    *next = line;
    return (size_t)(r - records);
}
