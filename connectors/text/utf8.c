/* SPDX-License-Identifier: Apache-2.0
 *
 * utf8.c - see utf8.h.
 */
#include "connectors/text/utf8.h"

#include <string.h>

size_t utf8_sequence(const unsigned char *at, size_t left) {
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
    if ((c == 0xE0 && at[1] < 0xA0) || (c == 0xED && at[1] > 0x9F) || (c == 0xF0 && at[1] < 0x90) ||
        (c == 0xF4 && at[1] > 0x8F))
        return 0;
    return n;
}

/* Number of bytes from `at` that are plain ASCII without a NUL. */
static size_t plain(const unsigned char *at, size_t n) {
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        uint64_t w;
        memcpy(&w, at + i, 8);
        if (((w - UINT64_C(0x0101010101010101)) | w) & UINT64_C(0x8080808080808080))
            break;
    }
    while (i < n && at[i] != 0 && at[i] < 0x80)
        i++;
    return i;
}

size_t utf8_valid(const void *bytes, size_t size) {
    const unsigned char *at = bytes;
    size_t i = 0;
    while ((i += plain(at + i, size - i)) < size) {
        size_t len = at[i] != 0 ? utf8_sequence(at + i, size - i) : 0;
        if (len == 0)
            break;
        i += len;
    }
    return i;
}

bool utf8_is(const void *bytes, size_t size) {
    const unsigned char *at = bytes;
    size_t i = 0;
    while ((i += utf8_valid(at + i, size - i)) < size && at[i] == 0)
        i++;
    return i == size;
}

size_t utf8_put(char *out, uint32_t c) {
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (char)(0xC0 | c >> 6);
        out[1] = (char)(0x80 | (c & 0x3F));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (char)(0xE0 | c >> 12);
        out[1] = (char)(0x80 | (c >> 6 & 0x3F));
        out[2] = (char)(0x80 | (c & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | c >> 18);
    out[1] = (char)(0x80 | (c >> 12 & 0x3F));
    out[2] = (char)(0x80 | (c >> 6 & 0x3F));
    out[3] = (char)(0x80 | (c & 0x3F));
    return 4;
}
