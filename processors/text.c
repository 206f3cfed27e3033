/* SPDX-License-Identifier: Apache-2.0
 *
 * text.c - text that grows, and JSON strings in it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "processors/proc.h"

void text_add(growing *t, const void *bytes, size_t size) {
    if (t->room - t->len < size && !t->failed) {
        size_t room = t->room * 2 + size + 256;
        char *q = realloc(t->bytes, room);
        t->failed = q == NULL;
        if (q != NULL) {
            t->bytes = q;
            t->room = room;
        }
    }
    if (t->failed || size == 0)
        return;
    memcpy(t->bytes + t->len, bytes, size);
    t->len += size;
}

/* Length of the UTF-8 sequence there, 0 if it is none. */
static size_t sequence(const unsigned char *at, size_t left) {
    unsigned char c = at[0];
    size_t n = c < 0x80                ? 1
               : c >= 0xC2 && c < 0xE0 ? 2
               : c >= 0xE0 && c < 0xF0 ? 3
               : c >= 0xF0 && c < 0xF5 ? 4
                                       : 0;
    if (n == 0 || n > left)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((at[i] & 0xC0) != 0x80)
            return 0;
    bool wrong = (c == 0xE0 && at[1] < 0xA0) || (c == 0xED && at[1] > 0x9F) ||
                 (c == 0xF0 && at[1] < 0x90) || (c == 0xF4 && at[1] > 0x8F);
    return wrong ? 0 : n;
}

void text_add_json(growing *t, const char *bytes, size_t size) {
    const unsigned char *at = (const unsigned char *)bytes;
    size_t plain = 0;
    text_add(t, "\"", 1);
    for (size_t i = 0; i < size;) {
        size_t n = sequence(at + i, size - i);
        if (n > 1 || (n == 1 && at[i] >= 0x20 && at[i] != '"' && at[i] != '\\')) {
            i += n;
            continue;
        }
        char escaped[8];
        const char *named =
            at[i] != 0 && at[i] < 0x80 ? strchr("\"\"\\\\\bb\ff\nn\rr\tt", at[i]) : NULL;
        if (n == 0)
            strcpy(escaped, "\xEF\xBF\xBD");
        else if (named != NULL)
            snprintf(escaped, sizeof escaped, "\\%c", named[1]);
        else
            snprintf(escaped, sizeof escaped, "\\u%04x", at[i]);
        text_add(t, bytes + plain, i - plain);
        text_add(t, escaped, strlen(escaped));
        plain = ++i;
    }
    text_add(t, bytes + plain, size - plain);
    text_add(t, "\"", 1);
}
