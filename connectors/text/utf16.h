/* SPDX-License-Identifier: Apache-2.0
 *
 * UTF-16 to UTF-8.
 */
#ifndef PAWL_CONNECTORS_UTF16_H
#define PAWL_CONNECTORS_UTF16_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes of room that the conversion of n bytes may need. */
#define UTF16_ROOM(n) ((n) / 2 * 3 + 3)

/* Converts n bytes. A surrogate without its other half becomes U+FFFD, as does an odd byte at the
 * end. Returns the length. */
size_t utf16_to_utf8(const uint8_t *from, size_t n, bool big, char *out);
/* The first U+000A of n bytes, from an even place on; NULL: there is none. */
const uint8_t *utf16_newline(const uint8_t *from, size_t n, bool big);
/* The last. */
const uint8_t *utf16_last_newline(const uint8_t *from, size_t n, bool big);

#endif
