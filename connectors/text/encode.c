/* SPDX-License-Identifier: Apache-2.0
 *
 * encode.c - see encode.h.
 */
#include "connectors/text/encode.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "connectors/text/json_text.h"
#include "connectors/text/utf8.h"

void encode_settings(const pawl_connector *c, const pawl_settings *s, struct encoding *out) {
    out->format = connect_setting_choice(c, s, "format");
    out->newline = connect_setting_choice(c, s, "newline");
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
    bool text = utf8_is(at, size);
    return buffer_add_text(b, "\"") && buffer_add_text(b, name) &&
           buffer_add_text(b, text ? "\":" : "_base64\":") &&
           (text ? json_add_string(b, at, size) : add_base64(b, at, size));
}

static bool add_json(struct buffer *b, const pawl_record *r) {
    char numbers[128];
    pawl_header h;
    snprintf(numbers, sizeof numbers,
             "{\"offset\":%" PRIu64 ",\"partition\":%" PRIu32 ",\"timestamp\":%" PRId64 ",",
             r->offset, r->partition, r->timestamp_ns);
    bool good = buffer_add_text(b, numbers) &&
                (r->key_len != 0 ? add_member(b, "key", r->key, r->key_len)
                                 : buffer_add_text(b, "\"key\":null")) &&
                buffer_add_text(b, ",") && add_member(b, "value", r->value, r->value_len) &&
                buffer_add_text(b, ",\"headers\":[");
    for (uint32_t i = 0; good && pawl_record_header(r, i, &h) >= 0; i++)
        good = buffer_add_text(b, i == 0 ? "{" : ",{") &&
               add_member(b, "name", h.name, h.name_len) && buffer_add_text(b, ",") &&
               add_member(b, "value", h.value, h.value_len) && buffer_add_text(b, "}");
    return good && buffer_add_text(b, "]}\n");
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
