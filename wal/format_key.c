/* SPDX-License-Identifier: Apache-2.0
 *
 * The log's secret keys; docs/format.md, section 2. Frames are found by looking for them, and
 * values of records lie among them: without the key, no value can be a frame (PAWL-2, PAWL-9).
 */
#include "wal/format.h"

_Static_assert(KEYS *KEY_SIZE <= FEATURES_CARRIED_SIZE, "the keys are carried");

static uint8_t *key_in(struct features *f, enum which_key which) {
    return f->carried + (size_t)which * KEY_SIZE;
}

/* Word i of the secret is the hash of the key with the seed i; the word after the last is the
 * mask. */
void frame_key_expand(const uint8_t key[KEY_SIZE], struct frame_key *out) {
    out->keyed = true;
    out->seed = 0;
    for (uint32_t i = 0; i < KEY_SECRET_SIZE / 8; i++)
        put64(out->secret + (size_t)i * 8, format_hash(key, KEY_SIZE, i));
    out->mask = format_hash(key, KEY_SIZE, KEY_SECRET_SIZE / 8);
}

bool segment_key(const struct segment_header *h, enum which_key which, struct frame_key *out) {
    const uint8_t *key = h->features.carried + (size_t)which * KEY_SIZE;
    bool named = (h->features.write & FEATURE_KEYS) != 0;
    if (!named && which != KEY_OWN)
        return false;
    bool keyed = which == KEY_OWN ? segment_keyed(h) : !all_zero(key, KEY_SIZE);
    memset(out, 0, sizeof *out);
    if (keyed)
        frame_key_expand(key, out);
    else
        out->seed = format_hash(h->log_id, sizeof h->log_id, 0);
    return true;
}

/* The feature bits are what the keys say. */
static void set_bits(struct features *f) {
    bool keyed = !all_zero(key_in(f, KEY_OWN), KEY_SIZE);
    f->read = keyed ? f->read | FEATURE_KEYED : f->read & ~FEATURE_KEYED;
    f->write |= FEATURE_KEYS;
}

void features_turn_key(struct features *f, const uint8_t fresh[KEY_SIZE]) {
    if ((f->write & FEATURE_KEYS) == 0)
        memset(f->carried, 0, (size_t)KEYS * KEY_SIZE);
    memmove(key_in(f, KEY_BEFORE), key_in(f, KEY_OWN), (size_t)2 * KEY_SIZE);
    memcpy(key_in(f, KEY_NEXT), fresh, KEY_SIZE);
    set_bits(f);
}

void features_turn_back(struct features *f) {
    memmove(key_in(f, KEY_OWN), key_in(f, KEY_BEFORE), (size_t)2 * KEY_SIZE);
    set_bits(f);
}
