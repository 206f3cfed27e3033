/* SPDX-License-Identifier: Apache-2.0
 *
 * The mutator of the forged targets: an input is some bytes for the target itself, then edits. It
 * changes, adds, drops, repeats and exchanges whole edits, and fields of one.
 */
#include "forge.h"
#include "forge_target.h"

static uint32_t state;
static uint32_t below(uint32_t n) {
    state = state * 1664525u + 1013904223u;
    return (uint32_t)((uint64_t)(state >> 8) * n >> 24);
}

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);

/* A new edit; small numbers mostly, as there are few segments, frames and runs. */
static void make(uint8_t *e) {
    for (uint32_t i = 0; i < FORGE_EDIT_SIZE; i++)
        e[i] = 0;
    e[0] = (uint8_t)below(FORGE_EDIT_KINDS);
    e[1] = (uint8_t)below(4);
    e[2] = (uint8_t)below(10);
    e[3] = (uint8_t)below(10);
    e[4] = (uint8_t)below(25);
    e[5] = (uint8_t)below(8);
    forge_put(e + 6, 2, below(4) == 0 ? below(65536) : below(12));
    forge_put(e + 8, 8, below(3) == 0 ? below(1u << 24) * 0x100000001ull : below(64));
}

/* One byte or number of an edit. */
static void change(uint8_t *e) {
    uint32_t at = below(10);
    switch (at) {
    case 0:
    case 1:
    case 2:
    case 3:
    case 4:
    case 5: {
        uint8_t fresh[FORGE_EDIT_SIZE];
        make(fresh);
        e[at] = fresh[at];
        break;
    }
    case 6:
        forge_put(e + 6, 2, forge_get(e + 6, 2) + below(9) - 4);
        break;
    case 7:
        forge_put(e + 6, 2, below(65536));
        break;
    case 8:
        forge_put(e + 8, 8, forge_get(e + 8, 8) + below(9) - 4);
        break;
    default:
        forge_put(e + 8, 8, forge_get(e + 8, 8) ^ 1ull << below(64));
    }
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed) {
    state = seed;
    if (size < FORGE_TARGET_HEAD || below(20) == 0)
        return LLVMFuzzerMutate(data, size, max_size);
    uint8_t *edits = data + FORGE_TARGET_HEAD;
    uint32_t n = (uint32_t)((size - FORGE_TARGET_HEAD) / FORGE_EDIT_SIZE);
    size_t room = (max_size - FORGE_TARGET_HEAD) / FORGE_EDIT_SIZE;
    uint8_t *one = edits + (size_t)below(n + 1) * FORGE_EDIT_SIZE;
    uint32_t after = n - (uint32_t)((one - edits) / FORGE_EDIT_SIZE);
    uint32_t what = n == 0 ? 0 : below(12);
    if (what <= 2 && n < room && n < FORGE_EDITS) { /* a new one, or one more like it */
        memmove(one + FORGE_EDIT_SIZE, one, (size_t)after * FORGE_EDIT_SIZE);
        if (what != 2 || after == 0)
            make(one);
        else
            change(one);
        n++;
    } else if (what == 3 && after != 0) {
        memmove(one, one + FORGE_EDIT_SIZE, (size_t)(after - 1) * FORGE_EDIT_SIZE);
        n--;
    } else if (what == 4 && after > 1) {
        uint8_t kept[FORGE_EDIT_SIZE];
        memcpy(kept, one, sizeof kept);
        memcpy(one, one + FORGE_EDIT_SIZE, sizeof kept);
        memcpy(one + FORGE_EDIT_SIZE, kept, sizeof kept);
    } else if (what == 5)
        for (uint32_t i = 0; i < FORGE_TARGET_HEAD; i++)
            data[i] = (uint8_t)below(256);
    else if (after != 0)
        change(one);
    return FORGE_TARGET_HEAD + (size_t)n * FORGE_EDIT_SIZE;
}
