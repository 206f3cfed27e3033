/* SPDX-License-Identifier: Apache-2.0
 *
 * JSON as it is written. Reading it is json_scan.h.
 */
#ifndef PAWL_CONNECTORS_JSON_TEXT_H
#define PAWL_CONNECTORS_JSON_TEXT_H

#include "connectors/text/buffer.h"

/* Number of bytes at the beginning that may stand in a JSON string as they are. */
size_t json_plain(const void *bytes, size_t size);
/* What stands in a string for the byte at which json_plain() stopped. Returns its length. */
#define JSON_ESCAPE_MAX 8
size_t json_escape(unsigned char c, char out[JSON_ESCAPE_MAX]);

/* Each appends; false: the allocation failed, and the buffer may hold a part of it. */

/* A JSON string with its quotes. Each byte that is not UTF-8 becomes U+FFFD. */
bool json_add_string(struct buffer *b, const void *bytes, size_t size);
/* A valid JSON text without the blanks between its tokens; so it has no newline. */
bool json_add_compact(struct buffer *b, const char *text, size_t size);

#endif
