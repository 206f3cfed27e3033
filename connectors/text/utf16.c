/* SPDX-License-Identifier: Apache-2.0
 *
 * utf16.c - see utf16.h.
 */
#include "connectors/text/utf16.h"

#include "connectors/text/utf8.h"

static uint32_t unit(const uint8_t *at, bool big) {
    return big ? (uint32_t)at[0] << 8 | at[1] : (uint32_t)at[1] << 8 | at[0];
}

size_t utf16_to_utf8(const uint8_t *from, size_t n, bool big, char *out) {
    size_t len = 0, i = 0;
    while (i + 2 <= n) {
        uint32_t c = unit(from + i, big);
        i += 2;
        if (c >= 0xD800 && c < 0xE000) {
            uint32_t low = c < 0xDC00 && i + 2 <= n ? unit(from + i, big) : 0;
            bool pair = low >= 0xDC00 && low < 0xE000;
            c = pair ? 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00) : 0xFFFD;
            i += pair ? 2 : 0;
        }
        len += utf8_put(out + len, c);
    }
    return i < n ? len + utf8_put(out + len, 0xFFFD) : len;
}

const uint8_t *utf16_newline(const uint8_t *from, size_t n, bool big) {
    for (size_t i = 0; i + 2 <= n; i += 2)
        if (unit(from + i, big) == '\n')
            return from + i;
    return NULL;
}

const uint8_t *utf16_last_newline(const uint8_t *from, size_t n, bool big) {
    for (size_t i = n & ~(size_t)1; i >= 2; i -= 2)
        if (unit(from + i - 2, big) == '\n')
            return from + i - 2;
    return NULL;
}
