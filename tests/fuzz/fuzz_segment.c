/* SPDX-License-Identifier: Apache-2.0 */
/* Segment headers: any bytes, with their checksum mended if the last byte is odd. What is good must
 * encode to the same bytes. */
#include <stdlib.h>
#include <string.h>

#include "wal/format.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static uint8_t head[SEGMENT_HEADER_SIZE], again[SEGMENT_HEADER_SIZE];
    struct segment_header h;
    int bad;
    memset(head, 0, sizeof head);
    if (size != 0)
        memcpy(head, data, size < BLOCK ? size : BLOCK);
    if (size > BLOCK)
        memcpy(head + BLOCK, data + BLOCK, size - BLOCK < BLOCK ? size - BLOCK : BLOCK);
    if (size != 0 && (data[size - 1] & 1) != 0)
        for (int copy = 0; copy < 2; copy++) {
            uint8_t *p = head + (size_t)copy * BLOCK;
            put64(p + BLOCK - 8, format_hash(p, BLOCK - 8, 0));
        }
    uint64_t index = size >= 48 ? get64(head + 40) : 0;
    enum segment_verdict v = segment_decode(head, index, &h, &bad);
    if (v == SEGMENT_GOOD) {
        struct segment_header seen;
        segment_encode(again, &h);
        /* what is reserved behind these is another version's business, and isn't kept */
        if (memcmp(head, again, 256) != 0 || segment_decode(again, index, &seen, &bad) != v ||
            memcmp(&h, &seen, sizeof h) != 0)
            abort();
    }
    return 0;
}
