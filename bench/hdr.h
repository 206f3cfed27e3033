/* SPDX-License-Identifier: Apache-2.0
 *
 * hdr.h - a histogram of high dynamic range: values from 1 ns to some 9 minutes, each within
 * 0.1 %, in memory that doesn't grow with their number. Up to 2,047 each value has its own bucket;
 * each doubling above has 1,024. The largest value is kept exactly.
 */
#ifndef PAWL_BENCH_HDR_H
#define PAWL_BENCH_HDR_H

#include <stdint.h>

enum { HDR_HALF = 1024, HDR_DOUBLINGS = 28, HDR_BUCKETS = 2 * HDR_HALF + HDR_DOUBLINGS * HDR_HALF };

struct hdr {
    uint64_t count, max;
    uint32_t bucket[HDR_BUCKETS];
};

void hdr_clear(struct hdr *h);
void hdr_add(struct hdr *h, uint64_t value);
void hdr_merge(struct hdr *into, const struct hdr *from);
/* The smallest value v such that `percent` per cent of all values are at most v; 0 if there are
 * none. */
uint64_t hdr_at(const struct hdr *h, double percent);

#endif
