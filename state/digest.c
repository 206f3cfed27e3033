/* SPDX-License-Identifier: Apache-2.0 */
#define XXH_STATIC_LINKING_ONLY /* the state, so that it can be on the stack */
#define XXH_INLINE_ALL          /* most pairs are short: half of the time was the call */
#include <xxhash.h>

#include <assert.h>
#include <string.h>

#include "state/digest.h"
#include "wal/bytes.h"

#define SHORT_MAX 240 /* XXH3 has fast ways for this length and below */
#define USUAL_MAX 64

struct sum {
    uint64_t low, high;
};

static struct sum hash_long(const void *key, size_t key_len, const void *value, size_t value_len) {
    uint8_t text[SHORT_MAX];
    uint32_t len = (uint32_t)key_len;
    XXH128_hash_t h;
    memcpy(text, &len, 4);
    if (key_len <= sizeof text - 4 && value_len <= sizeof text - 4 - key_len) {
        copy_short(text + 4, key, key_len);
        copy_short(text + 4 + key_len, value, value_len);
        h = XXH3_128bits(text, 4 + key_len + value_len);
    } else {
        XXH3_state_t state;
        XXH3_INITSTATE(&state);
        XXH3_128bits_reset(&state);
        XXH3_128bits_update(&state, text, 4);
        XXH3_128bits_update(&state, key, key_len);
        if (value_len != 0)
            XXH3_128bits_update(&state, value, value_len);
        h = XXH3_128bits_digest(&state);
    }
    return (struct sum){h.low64, h.high64};
}

/* A buffer of its own for the usual pair: the compiler zeroes buffers. */
static inline struct sum hash_pair(const void *key, size_t key_len, const void *value,
                                   size_t value_len) {
    uint8_t text[USUAL_MAX];
    assert(key_len <= UINT32_MAX);
    if (key_len > sizeof text - 4 || value_len > sizeof text - 4 - key_len)
        return hash_long(key, key_len, value, value_len);
    uint32_t len = (uint32_t)key_len;
    memcpy(text, &len, 4);
    copy_short(text + 4, key, key_len);
    copy_short(text + 4 + key_len, value, value_len);
    XXH128_hash_t h = XXH3_128bits(text, 4 + key_len + value_len);
    return (struct sum){h.low64, h.high64};
}

void digest_add(struct state_sum *d, const void *key, size_t key_len, const void *value,
                size_t value_len) {
    struct sum h = hash_pair(key, key_len, value, value_len);
    d->low += h.low;
    d->high += h.high + (d->low < h.low);
    d->pairs++;
    d->bytes += key_len + value_len;
}

void digest_subtract(struct state_sum *d, const void *key, size_t key_len, const void *value,
                     size_t value_len) {
    struct sum h = hash_pair(key, key_len, value, value_len);
    d->high -= h.high + (d->low < h.low);
    d->low -= h.low;
    d->pairs--;
    d->bytes -= key_len + value_len;
}

void digest_join(struct state_sum *d, const struct state_sum *other) {
    d->low += other->low;
    d->high += other->high + (d->low < other->low);
    d->pairs += other->pairs;
    d->bytes += other->bytes;
}

bool digest_equal(const struct state_sum *a, const struct state_sum *b) {
    return a->low == b->low && a->high == b->high && a->pairs == b->pairs && a->bytes == b->bytes;
}
