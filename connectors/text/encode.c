/* SPDX-License-Identifier: Apache-2.0
 *
 * encode.c - see encode.h.
 */
#include "connectors/text/encode.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void encode_settings(const pawl_connector *c, const pawl_settings *s, struct encoding *out) {
    out->format = (int)pawl_setting_number(c, s, "format");
    out->newline = (int)pawl_setting_number(c, s, "newline");
}

/* ---- the buffer */

static bool reserve(struct buffer *b, size_t more) {
    if (b->room - b->len >= more)
        return true;
    size_t room = b->room == 0 ? 65536 : b->room;
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

void buffer_free(struct buffer *b) {
    free(b->bytes);
    *b = (struct buffer){0};
}

static bool add_text(struct buffer *b, const char *text) {
    return buffer_add(b, text, strlen(text));
}

/* ---- text */

static bool add_escaped(struct buffer *b, const char *at, size_t size) {
    for (size_t i = 0; i < size; i++) {
        char two[2] = {'\\', at[i] == '\n' ? 'n' : '\\'};
        bool special = at[i] == '\n' || at[i] == '\\';
        if (!(special ? buffer_add(b, two, 2) : buffer_add(b, at + i, 1)))
            return false;
    }
    return true;
}

static int add_line(struct buffer *b, const struct encoding *e, const pawl_record *r,
                    pawl_fault *f) {
    if (e->newline == NEWLINE_REFUSE && r->value_len != 0 &&
        memchr(r->value, '\n', r->value_len) != NULL) {
        if (f != NULL)
            f->offset = r->offset;
        return pawl_fault_set(f, PAWL_POISON, "the value has a newline in it");
    }
    bool good = e->newline == NEWLINE_ESCAPE ? add_escaped(b, r->value, r->value_len)
                                             : buffer_add(b, r->value, r->value_len);
    return good && buffer_add(b, "\n", 1) ? PAWL_DONE : PAWL_RETRY;
}

/* ---- JSON */

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

static bool is_utf8(const unsigned char *at, size_t size) {
    for (size_t i = 0; i < size;) {
        size_t n = utf8_sequence(at + i, size - i);
        if (n == 0)
            return false;
        i += n;
    }
    return true;
}

static bool add_string(struct buffer *b, const unsigned char *at, size_t size) {
    size_t plain = 0;
    if (!buffer_add(b, "\"", 1))
        return false;
    for (size_t i = 0; i < size; i++) {
        char text[8];
        if (at[i] >= 0x20 && at[i] != '"' && at[i] != '\\')
            continue;
        const char *named = strchr("\"\"\\\\\bb\ff\nn\rr\tt", at[i]);
        if (at[i] != 0 && named != NULL)
            snprintf(text, sizeof text, "\\%c", named[1]);
        else
            snprintf(text, sizeof text, "\\u%04X", at[i]);
        if (!buffer_add(b, at + plain, i - plain) || !add_text(b, text))
            return false;
        plain = i + 1;
    }
    return buffer_add(b, at + plain, size - plain) && buffer_add(b, "\"", 1);
}

static bool add_base64(struct buffer *b, const unsigned char *from, size_t size) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    if (!buffer_add(b, "\"", 1))
        return false;
    for (size_t i = 0; i < size; i += 3) {
        uint32_t three = (uint32_t)from[i] << 16;
        three |= i + 1 < size ? (uint32_t)from[i + 1] << 8 : 0;
        three |= i + 2 < size ? (uint32_t)from[i + 2] : 0;
        char four[4] = {digits[three >> 18], digits[three >> 12 & 63],
                        i + 1 < size ? digits[three >> 6 & 63] : '=',
                        i + 2 < size ? digits[three & 63] : '='};
        if (!buffer_add(b, four, 4))
            return false;
    }
    return buffer_add(b, "\"", 1);
}

static bool add_member(struct buffer *b, const char *name, const void *bytes, size_t size) {
    const unsigned char *at = size != 0 ? bytes : (const unsigned char *)"";
    bool text = is_utf8(at, size);
    return add_text(b, "\"") && add_text(b, name) && add_text(b, text ? "\":" : "_base64\":") &&
           (text ? add_string(b, at, size) : add_base64(b, at, size));
}

static bool add_json(struct buffer *b, const pawl_record *r) {
    char numbers[128];
    pawl_header h;
    snprintf(numbers, sizeof numbers,
             "{\"offset\":%" PRIu64 ",\"partition\":%" PRIu32 ",\"timestamp\":%" PRId64 ",",
             r->offset, r->partition, r->timestamp_ns);
    bool good = add_text(b, numbers) &&
                (r->key_len != 0 ? add_member(b, "key", r->key, r->key_len)
                                 : add_text(b, "\"key\":null")) &&
                add_text(b, ",") && add_member(b, "value", r->value, r->value_len) &&
                add_text(b, ",\"headers\":[");
    for (uint32_t i = 0; good && pawl_record_header(r, i, &h) >= 0; i++)
        good = add_text(b, i == 0 ? "{" : ",{") && add_member(b, "name", h.name, h.name_len) &&
               add_text(b, ",") && add_member(b, "value", h.value, h.value_len) && add_text(b, "}");
    return good && add_text(b, "]}\n");
}

static bool add_length(struct buffer *b, const pawl_record *r) {
    unsigned char length[4];
    for (int i = 0; i < 4; i++)
        length[i] = (unsigned char)(r->value_len >> (8 * i));
    return buffer_add(b, length, sizeof length) && buffer_add(b, r->value, r->value_len);
}

int encode_record(struct buffer *b, const struct encoding *e, const pawl_record *r, pawl_fault *f) {
    size_t before = b->len;
    int outcome = e->format == ENCODE_TEXT   ? add_line(b, e, r, f)
                  : e->format == ENCODE_JSON ? (add_json(b, r) ? PAWL_DONE : PAWL_RETRY)
                                             : (add_length(b, r) ? PAWL_DONE : PAWL_RETRY);
    if (outcome != PAWL_DONE)
        b->len = before;
    return outcome == PAWL_RETRY
               ? pawl_fault_set(f, outcome, "no memory for a record of %" PRIu32 " bytes",
                                r->value_len)
               : outcome;
}
