/* SPDX-License-Identifier: Apache-2.0
 *
 * The hash of what lies in several places. In a file of its own, since format_hash.c has all of
 * xxHash inline, for short texts, and some compilers' settings can't make that of the streaming
 * functions; these come from the library.
 */
#define XXH_STATIC_LINKING_ONLY /* the state, so that it can be on the stack */
#include <xxhash.h>

#include "wal/format.h"

#ifdef PAWL_XXH_DISPATCH /* xxh_x86dispatch.h gives the plain functions its names */
__attribute__((weak)) XXH_errorcode XXH3_64bits_update_dispatch(XXH3_state_t *state,
                                                                const void *data, size_t len);
#endif

static void update(XXH3_state_t *state, const void *data, size_t len) {
#ifdef PAWL_XXH_DISPATCH
    if (XXH3_64bits_update_dispatch) { /* not in an archive: wal/format_hash.c */
        XXH3_64bits_update_dispatch(state, data, len);
        return;
    }
#endif
    XXH3_64bits_update(state, data, len);
}

uint64_t frame_hash_pieces(const struct piece *pieces, uint32_t count,
                           const struct frame_key *key) {
    if (count == 1)
        return frame_hash(pieces[0].data, pieces[0].len, key);
    XXH3_state_t state;
    XXH3_INITSTATE(&state);
    if (key->keyed)
        XXH3_64bits_reset_withSecret(&state, key->secret, KEY_SECRET_SIZE);
    else
        XXH3_64bits_reset_withSeed(&state, key->seed);
    for (uint32_t i = 0; i < count; i++)
        update(&state, pieces[i].data, pieces[i].len);
    return XXH3_64bits_digest(&state);
}
