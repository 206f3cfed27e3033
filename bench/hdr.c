/* SPDX-License-Identifier: Apache-2.0 */
#include "hdr.h"

#include <string.h>

void hdr_clear(struct hdr *h) {
    memset(h, 0, sizeof *h);
}

static uint32_t bucket_of(uint64_t value) {
    unsigned doubling = 0;
    for (; value >= 2 * HDR_HALF && doubling < HDR_DOUBLINGS; doubling++)
        value /= 2;
    if (value >= 2 * HDR_HALF)
        value = 2 * HDR_HALF - 1;
    return doubling == 0 ? (uint32_t)value : (uint32_t)(doubling * HDR_HALF + value);
}

/* The largest value of a bucket. */
static uint64_t value_of(uint32_t bucket) {
    if (bucket < 2 * HDR_HALF)
        return bucket;
    unsigned doubling = bucket / HDR_HALF - 1;
    uint64_t low = bucket - (uint64_t)doubling * HDR_HALF;
    return ((low + 1) << doubling) - 1;
}

void hdr_add(struct hdr *h, uint64_t value) {
    h->bucket[bucket_of(value)]++;
    h->count++;
    if (value > h->max)
        h->max = value;
}

void hdr_merge(struct hdr *into, const struct hdr *from) {
    for (uint32_t i = 0; i < HDR_BUCKETS; i++)
        into->bucket[i] += from->bucket[i];
    into->count += from->count;
    if (from->max > into->max)
        into->max = from->max;
}

uint64_t hdr_at(const struct hdr *h, double percent) {
    uint64_t seen = 0;
    double wanted = (double)h->count * percent / 100;
    for (uint32_t i = 0; i < HDR_BUCKETS; i++) {
        seen += h->bucket[i];
        if (seen > 0 && (double)seen >= wanted)
            return value_of(i) < h->max ? value_of(i) : h->max;
    }
    return h->max;
}
