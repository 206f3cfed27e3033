/* SPDX-License-Identifier: Apache-2.0 */
/* Texts of strangers: JSON, paths into it, times, UTF-16, and records on their way into a line. The
 * first byte chooses. What is found lies within what was given; what is written is read again as
 * the same; and the scanner's answer doesn't depend on the caller. */
#include <stdlib.h>
#include <string.h>

#include "connectors/text/encode.h"
#include "connectors/text/json_scan.h"
#include "connectors/text/json_text.h"
#include "connectors/text/rfc3339.h"
#include "connectors/text/utf16.h"
#include "connectors/text/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PATHS 5

static void must(bool well) {
    if (!well)
        abort();
}

static void unescape(const struct json_found *f) {
    char *out = malloc(f->len + 1);
    bool whole = true;
    must(out != NULL);
    size_t n = json_unescape(f->at, f->len, out, &whole);
    must(n <= f->len && utf8_is(out, n));
    free(out);
}

static void scan(const char *text, size_t n) {
    static const char *const texts[PATHS] = {"$", "$.a", "$.a.b[0]", "$['c d'].0", "$.e[2].f"};
    struct json_path paths[PATHS];
    struct json_found found[PATHS], again[PATHS];
    size_t where = 0, other = 0;
    char fault[JSON_FAULT_MAX];
    for (int i = 0; i < PATHS; i++)
        must(json_path_parse(&paths[i], texts[i]) == NULL);
    const char *why = json_scan(text, n, paths, PATHS, found, &where);
    const char *loose = json_scan_bytes(text, n, paths, PATHS, again, &other);
    must(why != NULL || loose == NULL);
    if (why != NULL) {
        must(where <= n);
        json_fault(why, text, n, where, fault);
        must(strlen(fault) < sizeof fault && utf8_is(fault, strlen(fault)));
    }
    for (int i = 0; why == NULL && i < PATHS; i++) {
        const struct json_found *f = &found[i];
        must(f->type == again[i].type && f->len == again[i].len);
        must(f->type == FOUND_MISSING || (f->at >= text && f->at + f->len <= text + n));
        if (f->type == FOUND_STRING)
            unescape(f);
        if (f->type == FOUND_NUMBER && json_fits_double(f->at, f->len))
            (void)json_double(f->at, f->len);
        if (f->type == FOUND_NUMBER)
            must(!json_fits_float(f->at, f->len) || json_fits_double(f->at, f->len));
    }
    if (why == NULL) { /* without blanks it says the same, and has no newline */
        struct buffer b = {0};
        must(json_add_compact(&b, text, n) && b.len <= n && memchr(b.bytes, '\n', b.len) == NULL);
        must(json_scan(b.bytes, b.len, paths, PATHS, again, &where) == NULL);
        for (int i = 0; i < PATHS; i++)
            must(found[i].type == again[i].type);
        buffer_free(&b);
    }
    for (int i = 0; i < PATHS; i++)
        json_path_free(&paths[i]);
}

static void path(const char *text, size_t n) {
    char own[128];
    struct json_path p;
    if (n >= sizeof own)
        return;
    memcpy(own, text, n);
    own[n] = 0;
    if (json_path_parse(&p, own) == NULL)
        json_path_free(&p);
    if (json_path_parse_short(&p, own) == NULL)
        json_path_free(&p);
}

static void string(const char *text, size_t n) {
    struct json_path whole;
    struct json_found f;
    struct buffer b = {0};
    size_t where;
    must(json_path_parse(&whole, "$") == NULL);
    must(json_add_string(&b, text, n));
    must(json_scan(b.bytes, b.len, &whole, 1, &f, &where) == NULL && f.type == FOUND_STRING);
    if (utf8_is(text, n)) {
        char *out = malloc(f.len + 1);
        bool ok = true;
        must(out != NULL);
        must(json_unescape(f.at, f.len, out, &ok) == n && memcmp(out, text, n) == 0 && ok);
        free(out);
    }
    buffer_free(&b);
    json_path_free(&whole);
}

static void utf16(const uint8_t *data, size_t n, bool big) {
    char *out = malloc(UTF16_ROOM(n));
    must(out != NULL);
    size_t len = utf16_to_utf8(data, n, big, out);
    must(len <= UTF16_ROOM(n) && utf8_is(out, len));
    const uint8_t *first = utf16_newline(data, n, big), *last = utf16_last_newline(data, n, big);
    must((first == NULL) == (last == NULL) && first <= last);
    must(first == NULL || (first >= data && last + 2 <= data + n));
    free(out);
}

/* A record, and the line that a file sink or a program gets. */
static void line(const uint8_t *data, size_t n, uint8_t how) {
    size_t key = n == 0 ? 0 : data[0] % (n + 1);
    struct encoding e = {.format = how % 3, .newline = how / 3 % 3};
    pawl_record r = {.key = data,
                     .key_len = (uint16_t)key,
                     .value = data + key,
                     .value_len = (uint32_t)(n - key),
                     .timestamp_ns = (int64_t)(n * 0x123456789abcdefull)};
    struct buffer b = {0};
    pawl_fault f = {.offset = UINT64_MAX};
    int rc = encode_record(&b, &e, &r, &f);
    if (rc == 0 && e.format == ENCODE_JSON) {
        size_t where;
        must(b.len != 0 && memchr(b.bytes, '\n', b.len) == b.bytes + b.len - 1);
        must(json_scan(b.bytes, b.len - 1, NULL, 0, NULL, &where) == NULL);
    } else if (rc == 0 && e.format == ENCODE_TEXT && e.newline != NEWLINE_KEEP)
        must(memchr(b.bytes, '\n', b.len) == b.bytes + b.len - 1);
    buffer_free(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0 || size > 20000)
        return 0;
    uint8_t how = data[0];
    size_t n = size - 1;
    uint8_t *exact = malloc(n == 0 ? 1 : n); /* a sanitizer sees what is read beyond */
    must(exact != NULL);
    memcpy(exact, data + 1, n);
    const char *text = (const char *)exact;
    int64_t ns;
    switch (how % 6) {
    case 0:
        scan(text, n);
        break;
    case 1:
        path(text, n);
        break;
    case 2:
        string(text, n);
        break;
    case 3:
        if (rfc3339_parse(text, n, &ns))
            must(ns >= 0);
        break;
    case 4:
        utf16(exact, n, (how / 6 & 1) != 0);
        break;
    default:
        line(exact, n, how / 6);
    }
    free(exact);
    return 0;
}
