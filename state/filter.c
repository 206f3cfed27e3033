/* SPDX-License-Identifier: Apache-2.0
 *
 * Filters: blocked Bloom filters. A key sets six bits of one line of 64 bytes, so that a look-up
 * touches one line of the processor's cache. With ten bits a key, about one key in a hundred that
 * isn't there passes.
 */
#include <assert.h>

#include "state/format_run.h"

#define PROBES 6u
#define LINE_BITS 512u

_Static_assert(RUN_FILTER_START >= RUN_BLOCK_HEAD, "the lines come after the block's head");
_Static_assert(PROBES * 9 <= 54, "each probe has nine bits of the hash of its own");

/* The high half of the hash chooses the line, and nine bits for each probe the bits in it. */
static uint32_t line_of(uint64_t hash, uint32_t lines) {
    return (uint32_t)((hash >> 32) * lines >> 32);
}

void run_filter_encode(uint8_t out[RUN_UNIT], const uint64_t *hashes, uint32_t count, uint32_t unit,
                       const struct frame_key *key) {
    assert(count > 0 && count <= RUN_FILTER_KEYS_MAX);
    uint32_t lines = (count * RUN_FILTER_BITS + LINE_BITS - 1) / LINE_BITS;
    assert(lines <= RUN_FILTER_LINES_MAX);
    memset(out, 0, RUN_UNIT);
    run_block_head_encode(out, BLOCK_FILTER, 0, unit, RUN_FILTER_START + lines * 64, 0, count);
    for (uint32_t i = 0; i < count; i++) {
        uint8_t *line = out + RUN_FILTER_START + (size_t)line_of(hashes[i], lines) * 64;
        for (uint32_t probe = 0; probe < PROBES; probe++) {
            uint32_t bit = hashes[i] >> (9 * probe) & (LINE_BITS - 1);
            line[bit / 8] |= (uint8_t)(1u << bit % 8);
        }
    }
    run_block_seal(out, 1, key);
}

bool run_filter_maybe(const struct run_view *v, uint64_t hash) {
    uint32_t lines = (v->length - RUN_FILTER_START) / 64;
    const uint8_t *line = v->data + RUN_FILTER_START + (size_t)line_of(hash, lines) * 64;
    for (uint32_t probe = 0; probe < PROBES; probe++) {
        uint32_t bit = hash >> (9 * probe) & (LINE_BITS - 1);
        if ((line[bit / 8] >> bit % 8 & 1) == 0)
            return false;
    }
    return true;
}
