/* SPDX-License-Identifier: Apache-2.0
 *
 * digest.h - one number for all pairs of a table partition. It is the sum modulo 2^128 of XXH3-128
 * (seed 0) over each live pair, encoded as the key's length (4 bytes, little-endian), the key and
 * the value; the expiry isn't in it. A sum depends on no order and can be changed by one pair at a
 * time (a multiset hash: Clarke et al. 2003, MSet-Add-Hash). It finds mistakes and damage; it is no
 * defence against an adversary, since XXH3 is not a cryptographic hash.
 */
#ifndef PAWL_STATE_DIGEST_H
#define PAWL_STATE_DIGEST_H

#include <stdbool.h>
#include <stddef.h>

#include "wal/format.h"

void digest_add(struct state_sum *d, const void *key, size_t key_len, const void *value,
                size_t value_len);
/* Takes back what digest_add() added. */
void digest_subtract(struct state_sum *d, const void *key, size_t key_len, const void *value,
                     size_t value_len);
void digest_join(struct state_sum *d, const struct state_sum *other); /* adds all of it */
bool digest_equal(const struct state_sum *a, const struct state_sum *b);

#endif
