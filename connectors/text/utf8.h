/* SPDX-License-Identifier: Apache-2.0
 *
 * UTF-8. Overlong forms, surrogates and code points above U+10FFFF are invalid.
 */
#ifndef PAWL_CONNECTORS_UTF8_H
#define PAWL_CONNECTORS_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define UTF8_BOM "\xEF\xBB\xBF"
#define UTF8_REPLACEMENT "\xEF\xBF\xBD" /* U+FFFD, for a byte that belongs to no sequence */

/* Length of the sequence at `at`, where `left` >= 1 bytes are readable; 0: not a sequence. */
size_t utf8_sequence(const unsigned char *at, size_t left);
/* Number of bytes at the beginning that are valid and not NUL; `size` if all are. */
size_t utf8_valid(const void *bytes, size_t size);
/* True if all bytes are valid. A NUL counts as valid here. */
bool utf8_is(const void *bytes, size_t size);
/* Writes a code point that is no surrogate. Returns the length, 1 to 4. */
size_t utf8_put(char *out, uint32_t c);

#endif
