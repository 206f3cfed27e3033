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
#endif

uint64_t format_hash(const void *data, size_t len, uint64_t seed) {
#ifdef PAWL_XXH_DISPATCH
    if (len > 240 && XXH3_64bits_withSeed_dispatch) /* XXH3 changes its method above 240 */
        return XXH3_64bits_withSeed_dispatch(data, len, seed);
#endif
    return XXH3_64bits_withSeed(data, len, seed);
}
