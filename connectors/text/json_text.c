/* SPDX-License-Identifier: Apache-2.0
 *
 * json_text.c - see json_text.h.
 */
#include "connectors/text/json_text.h"

#include <stdio.h>
#include <string.h>

#include "connectors/text/utf8.h"

size_t json_plain(const void *bytes, size_t size) {
    const unsigned char *at = bytes;
    size_t i = 0;
    while (i < size) {
        size_t n = utf8_sequence(at + i, size - i);
        if (n == 0 || at[i] < 0x20 || at[i] == '"' || at[i] == '\\')
            break;
        i += n;
    }
    return i;
}

size_t json_escape(unsigned char c, char out[JSON_ESCAPE_MAX]) {
    const char *named = c != 0 && c < 0x80 ? strchr("\"\"\\\\\bb\ff\nn\rr\tt", c) : NULL;
    if (c >= 0x80)
        return (size_t)snprintf(out, JSON_ESCAPE_MAX, UTF8_REPLACEMENT);
    if (named != NULL)
        return (size_t)snprintf(out, JSON_ESCAPE_MAX, "\\%c", named[1]);
    return (size_t)snprintf(out, JSON_ESCAPE_MAX, "\\u%04X", c);
}

bool json_add_string(struct buffer *b, const void *bytes, size_t size) {
    const char *at = bytes;
    bool good = buffer_add(b, "\"", 1);
    while (good && size > 0) {
        char escaped[JSON_ESCAPE_MAX];
        size_t n = json_plain(at, size);
        good = buffer_add(b, at, n) &&
               (n == size || buffer_add(b, escaped, json_escape((unsigned char)at[n], escaped)));
        n += n < size;
        at += n;
        size -= n;
    }
    return good && buffer_add(b, "\"", 1);
}

bool json_add_compact(struct buffer *b, const char *text, size_t size) {
    size_t plain = 0;
    bool in_string = false;
    for (size_t i = 0; i < size; i++) {
        if (text[i] == '"')
            in_string = !in_string;
        else if (in_string)
            i += text[i] == '\\'; /* an escaped quote doesn't end it */
        else if (text[i] == ' ' || text[i] == '\n' || text[i] == '\r' || text[i] == '\t') {
            if (!buffer_add(b, text + plain, i - plain))
                return false;
            plain = i + 1;
        }
    }
    return plain >= size || buffer_add(b, text + plain, size - plain);
}
