/* SPDX-License-Identifier: Apache-2.0
 *
 * record.c - see record.h, and "crashtest" in docs/pawl.1, which says the same
 * in words.
 */
#include "cli/crashtest/record.h"

static void put64(uint8_t *out, uint64_t v) {
    for (int i = 0; i < 8; i++)
        out[i] = (uint8_t)(v >> (8 * i));
}

size_t ct_record(uint64_t seed, uint64_t n, uint8_t out[CT_RECORD_MAX]) {
    uint64_t state = seed ^ (n * UINT64_C(0xD1342543DE82EF95));
    uint64_t r = ct_next(&state);
    uint64_t most = r % 1000 == 0 ? 65536 : r % 50 == 0 ? 8192 : 256;
    size_t len = 8 + (size_t)((r >> 32) % most);
    put64(out, n);
    size_t at = 8;
    for (; at + 8 <= len; at += 8)
        put64(out + at, ct_next(&state));
    for (uint64_t last = at < len ? ct_next(&state) : 0; at < len; at++, last >>= 8)
        out[at] = (uint8_t)last;
    return len;
}

void ct_invert(uint8_t *out, const void *in, size_t len) {
    const uint8_t *from = in;
    for (size_t i = 0; i < len; i++)
        out[i] = (uint8_t)~from[i];
}
