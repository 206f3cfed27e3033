/* SPDX-License-Identifier: Apache-2.0
 *
 * record_text.c - see record_text.h.
 *
 * A record has some ten parts, and most have a few bytes. So they are put into a buffer, and this
 * goes to standard output when it is full, or where record_text_flush() says so.
 */
#include "cli/record_text.h"

#include <assert.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "pawl_connect.h"

static char gathered[256 * 1024];
static size_t gathered_len;

bool record_text_flush(void) {
    size_t len = gathered_len;
    gathered_len = 0;
    return cli_write_much(gathered, len);
}

/* Bytes that don't fit, into the buffer or past it. */
static bool put_much(const void *bytes, size_t size) {
    if (!record_text_flush())
        return false;
    if (size >= sizeof gathered)
        return cli_write_much(bytes, size);
    memcpy(gathered, bytes, size);
    gathered_len = size;
    return true;
}

static inline bool put(const void *bytes, size_t size) {
    assert(gathered_len <= sizeof gathered);
    if (size > sizeof gathered - gathered_len)
        return put_much(bytes, size);
    if (size > 0)
        memcpy(gathered + gathered_len, bytes, size);
    gathered_len += size;
    return true;
}

#define PUT(literal) put((literal), sizeof(literal) - 1)

static bool put_shown(const char *bytes, size_t size) {
    char shown[1024];
    for (size_t used; size > 0; bytes += used, size -= used)
        if (!put(shown, pawl_show(bytes, size, &used, shown, sizeof shown)))
            return false;
    return true;
}

static bool write_text(const pawl_record *r) {
    return put(r->value, r->value_len) && PUT("\n");
}

/* On a terminal: a line for each record, whatever is in it. */
static bool write_shown(const pawl_record *r) {
    return put_shown(r->value, r->value_len) && PUT("\n");
}

static bool write_raw(const pawl_record *r) {
    unsigned char length[4];
    for (int i = 0; i < 4; i++)
        length[i] = (unsigned char)(r->value_len >> (8 * i));
    return put(length, sizeof length) && put(r->value, r->value_len);
}

/* ---- JSON */

static bool put_number(int64_t n) {
    char text[24], *at = text + sizeof text;
    uint64_t left = n < 0 ? 0 - (uint64_t)n : (uint64_t)n;
    do
        *--at = (char)('0' + left % 10);
    while ((left /= 10) != 0);
    if (n < 0)
        *--at = '-';
    return put(at, (size_t)(text + sizeof text - at));
}

static bool put_base64(const unsigned char *from, size_t size) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < size; i += 3) {
        uint32_t three = (uint32_t)from[i] << 16;
        three |= i + 1 < size ? (uint32_t)from[i + 1] << 8 : 0;
        three |= i + 2 < size ? (uint32_t)from[i + 2] : 0;
        char four[4] = {digits[three >> 18], digits[three >> 12 & 63],
                        i + 1 < size ? digits[three >> 6 & 63] : '=',
                        i + 2 < size ? digits[three & 63] : '='};
        if (!put(four, sizeof four))
            return false;
    }
    return true;
}

#define EACH_BYTE(b) (UINT64_C(0x0101010101010101) * (b))

/* Not 0: among 8 bytes is one that a JSON string can't have as it is, or that isn't ASCII. A bit of
 * the lowest such byte is set. */
static inline uint64_t special_of_8(uint64_t x) {
    uint64_t quote = x ^ EACH_BYTE('"'), backslash = x ^ EACH_BYTE('\\'), del = x ^ EACH_BYTE(0x7F);
    return (x | ((x - EACH_BYTE(0x20)) & ~x) | ((quote - EACH_BYTE(1)) & ~quote) |
            ((backslash - EACH_BYTE(1)) & ~backslash) | ((del - EACH_BYTE(1)) & ~del)) &
           EACH_BYTE(0x80);
}

/* How many bytes from the beginning on are written as they are. */
static size_t plain_length(const unsigned char *at, size_t size) {
    size_t n = 0;
    for (uint64_t x; n + 8 <= size; n += 8) {
        memcpy(&x, at + n, 8);
        if (special_of_8(x) != 0)
            break;
    }
    while (n < size && at[n] >= 0x20 && at[n] < 0x7F && at[n] != '"' && at[n] != '\\')
        n++;
    return n;
}

static size_t ascii_length(const unsigned char *at, size_t size) {
    size_t n = 0;
    for (uint64_t x; n + 8 <= size; n += 8) {
        memcpy(&x, at + n, 8);
        if ((x & EACH_BYTE(0x80)) != 0)
            break;
    }
    while (n < size && at[n] < 0x80)
        n++;
    return n;
}

/* The length of the character at `at`, of which `left` >= 1 bytes are there; 0: it is not UTF-8.
 * Overlong forms, surrogates and what is above U+10FFFF are not. */
static size_t character(const unsigned char *at, size_t left) {
    size_t n = at[0] < 0xC2 ? 0 : at[0] < 0xE0 ? 2 : at[0] < 0xF0 ? 3 : at[0] < 0xF5 ? 4 : 0;
    if (n == 0 || n > left)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((at[i] & 0xC0) != 0x80)
            return 0;
    bool wrong = (at[0] == 0xE0 && at[1] < 0xA0) || (at[0] == 0xED && at[1] > 0x9F) ||
                 (at[0] == 0xF0 && at[1] < 0x90) || (at[0] == 0xF4 && at[1] > 0x8F);
    return wrong ? 0 : n;
}

static bool is_utf8(const unsigned char *at, size_t size) {
    for (size_t n; size > 0; at += n, size -= n) {
        n = ascii_length(at, size);
        if (n == 0 && (n = character(at, size)) == 0)
            return false;
    }
    return true;
}

static bool put_escape(unsigned char c) {
    static const char short_of[][2] = {['\b'] = "b", ['\t'] = "t", ['\n'] = "n", ['\f'] = "f",
                                       ['\r'] = "r", ['"'] = "\"", ['\\'] = "\\"};
    static const char hex[] = "0123456789ABCDEF";
    if (c < sizeof short_of / sizeof short_of[0] && short_of[c][0] != 0)
        return PUT("\\") && put(short_of[c], 1);
    char text[6] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};
    return put(text, sizeof text);
}

/* A string of UTF-8. What would drive a terminal is escaped, so it is the same JSON: what
 * pawl_show() writes for UTF-8 are escapes of JSON. */
static bool put_string(const unsigned char *at, size_t size) {
    bool good = PUT("\"");
    for (size_t n; good && size > 0; at += n, size -= n) {
        n = plain_length(at, size);
        if (n > 0) {
            good = put(at, n);
        } else if (at[0] < 0x7F) {
            good = put_escape(at[0]);
            n = 1;
        } else {
            while (n < size && at[n] >= 0x7F)
                n++;
            good = put_shown((const char *)at, n);
        }
    }
    return good && PUT("\"");
}

/* Bytes become a string if they are UTF-8, else base64 under another name, so that nobody takes the
 * one for the other. The name has no byte that needs an escape. */
static bool put_bytes(const char *name, const void *bytes, size_t size) {
    bool text = is_utf8(bytes, size);
    if (!PUT("\"") || !put(name, strlen(name)))
        return false;
    if (text)
        return PUT("\":") && put_string(bytes, size);
    return PUT("_base64\":\"") && put_base64(bytes, size) && PUT("\"");
}

/* An array, because a record may have two headers of one name. */
static bool put_headers(const pawl_record *r) {
    pawl_header h;
    bool good = PUT("\"headers\":[");
    for (uint32_t i = 0; good && pawl_record_header(r, i, &h) >= 0; i++)
        good = (i == 0 ? PUT("{") : PUT(",{")) && put_bytes("name", h.name, h.name_len) &&
               PUT(",") && put_bytes("value", h.value, h.value_len) && PUT("}");
    return good && PUT("]");
}

static bool write_json(const pawl_record *r) {
    return PUT("{\"offset\":") && put_number((int64_t)r->offset) && PUT(",\"partition\":") &&
           put_number(r->partition) && PUT(",\"timestamp\":") && put_number(r->timestamp_ns) &&
           PUT(",") &&
           (r->key_len > 0 ? put_bytes("key", r->key, r->key_len) : PUT("\"key\":null")) &&
           PUT(",") && put_bytes("value", r->value, r->value_len) && PUT(",") && put_headers(r) &&
           PUT("}\n");
}

record_text_fn record_text_by_name(const char *name) {
    static const struct {
        const char *name;
        record_text_fn format;
    } all[] = {{"text", write_text}, {"json", write_json}, {"raw", write_raw}};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        if (strcmp(name, all[i].name) == 0)
            return all[i].format != write_text || !isatty(STDOUT_FILENO) ? all[i].format
                                                                         : write_shown;
    return NULL;
}

/* ---- pairs */

/* A tab or a line's end in a key or value is escaped, so a line is a pair. */
static bool pair_shown(uint32_t partition, const pawl_state_pair *p, bool alone) {
    (void)partition;
    return (alone || (put_shown(p->key, p->key_len) && PUT("\t"))) &&
           put_shown(p->value, p->value_len) && PUT("\n");
}

static bool put_hex(const unsigned char *bytes, size_t size) {
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < size; i++) {
        char two[2] = {digits[bytes[i] >> 4], digits[bytes[i] & 15]};
        if (!put(two, sizeof two))
            return false;
    }
    return true;
}

static bool pair_hex(uint32_t partition, const pawl_state_pair *p, bool alone) {
    (void)partition;
    return (alone || (put_hex(p->key, p->key_len) && PUT("\t"))) &&
           put_hex(p->value, p->value_len) && PUT("\n");
}

static bool pair_json(uint32_t partition, const pawl_state_pair *p, bool alone) {
    /* of a pair that was asked for by its key, only the library knows the partition */
    if (!PUT("{") || (!alone && !(PUT("\"partition\":") && put_number(partition) && PUT(","))))
        return false;
    return put_bytes("key", p->key, p->key_len) && PUT(",") &&
           put_bytes("value", p->value, p->value_len) && PUT("}\n");
}

static bool put_counted(const void *bytes, size_t size) {
    unsigned char length[4];
    for (int i = 0; i < 4; i++)
        length[i] = (unsigned char)(size >> (8 * i));
    return put(length, sizeof length) && put(bytes, size);
}

static bool pair_raw(uint32_t partition, const pawl_state_pair *p, bool alone) {
    (void)partition;
    return alone ? put(p->value, p->value_len)
                 : put_counted(p->key, p->key_len) && put_counted(p->value, p->value_len);
}

pair_text_fn pair_text_by_name(const char *name) {
    static const struct {
        const char *name;
        pair_text_fn format;
    } all[] = {{"text", pair_shown}, {"hex", pair_hex}, {"json", pair_json}, {"raw", pair_raw}};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        if (strcmp(name, all[i].name) == 0)
            return all[i].format;
    return NULL;
}
