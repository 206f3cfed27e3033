/* SPDX-License-Identifier: Apache-2.0
 *
 * A byte buffer that grows at its end.
 */
#ifndef PAWL_CONNECTORS_BUFFER_H
#define PAWL_CONNECTORS_BUFFER_H

#include <stdbool.h>
#include <stddef.h>

/* All zero is an empty buffer. To reuse it, set len to 0. */
struct buffer {
    char *bytes;
    size_t len, room;
};

/* Appends. False: the allocation failed, and nothing was appended. */
bool buffer_add(struct buffer *b, const void *bytes, size_t size);
bool buffer_add_text(struct buffer *b, const char *text);
void buffer_free(struct buffer *b);

#endif
