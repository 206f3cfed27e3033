/* SPDX-License-Identifier: Apache-2.0
 *
 * Bytes that grow at their end.
 */
#ifndef PAWL_CONNECTORS_BUFFER_H
#define PAWL_CONNECTORS_BUFFER_H

#include <stdbool.h>
#include <stddef.h>

/* All zero is an empty buffer. Whoever reuses it sets len to 0. */
struct buffer {
    char *bytes;
    size_t len, room;
};

/* Appends. False: the allocation failed, and nothing was appended. */
bool buffer_add(struct buffer *b, const void *bytes, size_t size);
bool buffer_add_text(struct buffer *b, const char *text);
void buffer_free(struct buffer *b);

#endif
