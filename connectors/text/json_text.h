/* SPDX-License-Identifier: Apache-2.0
 *
 * Writing JSON. json_scan.h reads it.
 */
#ifndef PAWL_CONNECTORS_JSON_TEXT_H
#define PAWL_CONNECTORS_JSON_TEXT_H

#include "connectors/text/buffer.h"

/* Number of bytes at the beginning that a JSON string can hold unescaped. */
size_t json_plain(const void *bytes, size_t size);
/* Writes the escape for the byte at which json_plain() stopped. Returns its length. */
#define JSON_ESCAPE_MAX 8
size_t json_escape(unsigned char c, char out[JSON_ESCAPE_MAX]);

/* Each function appends. False: the allocation failed, and the buffer may hold a part of the
 * text. */

/* A JSON string with its quotes. Each byte that is not UTF-8 becomes U+FFFD. */
bool json_add_string(struct buffer *b, const void *bytes, size_t size);
/* A valid JSON text without the blanks between its tokens, so without newlines. */
bool json_add_compact(struct buffer *b, const char *text, size_t size);

#endif
