/* SPDX-License-Identifier: Apache-2.0
 *
 * The checksum of everything: XXH3-64 (docs/format.md, section 1).
 *
 * Headers and directories are small: the inline variant lets the compiler specialise for them.
 * Bodies are long: where the distribution's library chooses AVX2 or AVX-512 at run time, it is
 * asked to. Debian's archive, unlike its shared library, has no such function: the reference is
 * weak, and a program that is linked with -static uses the inline variant. The value is the same.
 */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "wal/format.h"

#ifdef PAWL_XXH_DISPATCH /* xxh_x86dispatch.h can't be included beside the inline variant */
__attribute__((weak)) XXH64_hash_t XXH3_64bits_withSeed_dispatch(const void *data, size_t len,
                                                                 XXH64_hash_t seed);
__attribute__((weak)) XXH64_hash_t XXH3_64bits_withSecret_dispatch(const void *data, size_t len,
                                                                   const void *secret,
                                                                   size_t secret_len);
#endif

#define LONG_FROM 241 /* XXH3 changes its method above 240 */

_Static_assert(KEY_SECRET_SIZE >= XXH3_SECRET_SIZE_MIN, "XXH3 takes no shorter secret");

uint64_t format_hash(const void *data, size_t len, uint64_t seed) {
#ifdef PAWL_XXH_DISPATCH
    if (len >= LONG_FROM && XXH3_64bits_withSeed_dispatch)
        return XXH3_64bits_withSeed_dispatch(data, len, seed);
#endif
    return XXH3_64bits_withSeed(data, len, seed);
}

uint64_t frame_hash(const void *data, size_t len, const struct frame_key *key) {
    if (!key->keyed)
        return format_hash(data, len, key->seed);
#ifdef PAWL_XXH_DISPATCH
    if (len >= LONG_FROM && XXH3_64bits_withSecret_dispatch)
        return XXH3_64bits_withSecret_dispatch(data, len, key->secret, KEY_SECRET_SIZE);
#endif
    return XXH3_64bits_withSecret(data, len, key->secret, KEY_SECRET_SIZE);
}

uint64_t frame_fingerprint(uint64_t hash, const struct frame_key *key) {
    if (!key->keyed || hash == 0)
        return hash;
    return (uint32_t)XXH3_64bits_withSeed(&hash, sizeof hash, key->mask);
}
