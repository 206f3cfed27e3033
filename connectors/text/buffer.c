/* SPDX-License-Identifier: Apache-2.0
 *
 * buffer.c - see buffer.h.
 */
#include "connectors/text/buffer.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static bool reserve(struct buffer *b, size_t more) {
    if (b->room - b->len >= more)
        return true;
    size_t room = b->room == 0 ? 4096 : b->room;
    while (room - b->len < more) {
        if (room > SIZE_MAX / 4)
            return false;
        room *= 2;
    }
    char *q = realloc(b->bytes, room);
    if (q == NULL)
        return false;
    b->bytes = q;
    b->room = room;
    return true;
}

bool buffer_add(struct buffer *b, const void *bytes, size_t size) {
    if (!reserve(b, size))
        return false;
    if (size != 0)
        memcpy(b->bytes + b->len, bytes, size);
    b->len += size;
    return true;
}

bool buffer_add_text(struct buffer *b, const char *text) {
    return buffer_add(b, text, strlen(text));
}

void buffer_free(struct buffer *b) {
    free(b->bytes);
    *b = (struct buffer){0};
}
