/* SPDX-License-Identifier: Apache-2.0
 *
 * pair.h - one version of one key, as memory tables, runs and merges hand it to each other.
 *
 * A *store key* is the table's id (4 bytes, big-endian), the table partition (4, big-endian) and
 * the key. Store keys are compared byte by byte (memcmp), and a key comes before every longer key
 * that it begins.
 */
#ifndef PAWL_STATE_PAIR_H
#define PAWL_STATE_PAIR_H

#include "wal/format.h"

#define STORE_PREFIX_SIZE 8u /* table and partition */
#define STORE_KEY_MAX (STORE_PREFIX_SIZE + STATE_KEY_MAX)
#define STORE_VALUE_MAX STATE_VALUE_MAX

enum state_op { STATE_PUT = 1, STATE_DELETE = 2 };

/* Has a pair with this expiry gone by the clock? 0: it stays. */
static inline bool state_expired(uint64_t expiry_ms, uint64_t now_ms) {
    return expiry_ms != 0 && expiry_ms <= now_ms;
}

/* Whoever fills a pair says how long its pointers live. */
struct state_pair {
    const uint8_t *key; /* a store key, or a part of it, as the function says */
    uint32_t key_len;
    const uint8_t *value; /* of a put; it may be NULL if value_len is 0 */
    uint32_t value_len;   /* 0 for a delete */
    uint64_t expiry_ms;   /* since 1970-01-01 UTC; 0: it stays. 0 for a delete */
    uint8_t op;           /* enum state_op */
};

#endif
