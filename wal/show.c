/* SPDX-License-Identifier: Apache-2.0
 *
 * show.c - see show.h. One pass over the bytes; each character is passed on, or written as an
 * escape:
 *
 *   \t \n \r             these three controls
 *   \u001b               other controls (C0, DEL, C1), and characters that are invisible, break
 *                        lines or turn the direction of writing; above U+FFFF as two surrogates
 *   \xNN                 a byte that is no part of valid UTF-8
 *
 * A backslash is passed on as it is: so a text that was escaped before stays the same, and a text
 * may go through here as often as it likes. All but \xNN are escapes of JSON, too.
 */
#include "wal/show.h"

#include <assert.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define ESCAPE_MAX 12 /* two surrogates */

/* Code points that are not shown, as ranges in ascending order. */
static const struct range {
    uint32_t first, last;
} hidden[] = {
    {0x00, 0x1F},     {0x7F, 0x9F},       {0xAD, 0xAD},       {0x34F, 0x34F},     {0x61C, 0x61C},
    {0x115F, 0x1160}, {0x17B4, 0x17B5},   {0x180B, 0x180F},   {0x200B, 0x200F},   {0x2028, 0x202E},
    {0x2060, 0x206F}, {0x3164, 0x3164},   {0xFEFF, 0xFEFF},   {0xFFA0, 0xFFA0},   {0xFFF0, 0xFFFB},
    {0xFFFE, 0xFFFF}, {0x1BCA0, 0x1BCA3}, {0x1D173, 0x1D17A}, {0xE0000, 0xE0FFF},
};

static bool is_hidden(uint32_t c) {
    if (c >= 0x20 && c < 0x7F)
        return false;
    for (size_t i = 0; i < sizeof hidden / sizeof hidden[0] && c >= hidden[i].first; i++)
        if (c <= hidden[i].last)
            return true;
    return false;
}

/* Decodes the sequence at `at`, of which `left` >= 1 bytes are there. Returns its length, 0: it is
 * none. Overlong forms, surrogates and what is above U+10FFFF are none. */
static size_t decode(const unsigned char *at, size_t left, uint32_t *c) {
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t n = at[0] < 0x80   ? 1
               : at[0] < 0xC0 ? 0
               : at[0] < 0xE0 ? 2
               : at[0] < 0xF0 ? 3
               : at[0] < 0xF8 ? 4
                              : 0;
    if (n == 0 || n > left)
        return 0;
    *c = n == 1 ? at[0] : at[0] & (0x7Fu >> n);
    for (size_t i = 1; i < n; i++) {
        if ((at[i] & 0xC0) != 0x80)
            return 0;
        *c = *c << 6 | (at[i] & 0x3Fu);
    }
    return *c < least[n] || *c > 0x10FFFF || (*c >= 0xD800 && *c <= 0xDFFF) ? 0 : n;
}

static size_t escape(uint32_t c, char out[ESCAPE_MAX + 1]) {
    if (c == '\t' || c == '\n' || c == '\r')
        return (size_t)snprintf(out, ESCAPE_MAX + 1, "\\%c",
                                c == '\t'   ? 't'
                                : c == '\n' ? 'n'
                                            : 'r');
    if (c < 0x10000)
        return (size_t)snprintf(out, ESCAPE_MAX + 1, "\\u%04x", c);
    c -= 0x10000;
    return (size_t)snprintf(out, ESCAPE_MAX + 1, "\\u%04x\\u%04x", 0xD800u + (c >> 10),
                            0xDC00u + (c & 0x3FF));
}

size_t pawl_show(const void *bytes, size_t size, size_t *used, char *out, size_t out_size) {
    const unsigned char *at = bytes, *end = at != NULL ? at + size : NULL;
    size_t len = 0;
    char text[ESCAPE_MAX + 1];
    while (at < end && out_size != 0) {
        uint32_t c = 0;
        size_t from = decode(at, (size_t)(end - at), &c), to = from;
        const void *what = at;
        if (from == 0) {
            to = (size_t)snprintf(text, sizeof text, "\\x%02x", at[0]);
            from = 1;
            what = text;
        } else if (is_hidden(c)) {
            to = escape(c, text);
            what = text;
        }
        if (to >= out_size - len)
            break;
        memcpy(out + len, what, to);
        len += to;
        at += from;
    }
    if (out_size != 0)
        out[len] = 0;
    if (used != NULL)
        *used = at != NULL ? (size_t)(at - (const unsigned char *)bytes) : 0;
    assert(out_size == 0 || len < out_size);
    return len;
}

void show_format(char *out, size_t size, const char *format, va_list args) {
    char text[1024];
    int n = vsnprintf(text, sizeof text, format, args);
    /* A text that is cut here has at least as many bytes as fit, so the cut is made below. */
    assert(size < sizeof text - 4);
    size_t len = n < 0 ? 0 : (size_t)n < sizeof text ? (size_t)n : sizeof text - 1;
    pawl_show(text, len, NULL, out, size);
}
