/* SPDX-License-Identifier: Apache-2.0
 *
 * record_text.c - see record_text.h.
 */
#include "cli/record_text.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"

static bool write_text(const pawl_record *r) {
    return cli_write(r->value, r->value_len) && cli_write("\n", 1);
}

/* On a terminal: a line for each record, whatever is in it. */
static bool write_shown(const pawl_record *r) {
    return cli_write_shown(r->value, r->value_len) && cli_write("\n", 1);
}

static bool write_raw(const pawl_record *r) {
    unsigned char length[4];
    for (int i = 0; i < 4; i++)
        length[i] = (unsigned char)(r->value_len >> (8 * i));
    return cli_write(length, sizeof length) && cli_write(r->value, r->value_len);
}

/* ---- JSON */

static char *encode_base64(const unsigned char *from, size_t size) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *text = malloc((size + 2) / 3 * 4 + 1), *to = text;
    if (text == NULL)
        return NULL;
    for (size_t i = 0; i < size; i += 3) {
        uint32_t three = (uint32_t)from[i] << 16;
        three |= i + 1 < size ? (uint32_t)from[i + 1] << 8 : 0;
        three |= i + 2 < size ? (uint32_t)from[i + 2] : 0;
        *to++ = digits[three >> 18];
        *to++ = digits[three >> 12 & 63];
        *to++ = i + 1 < size ? digits[three >> 6 & 63] : '=';
        *to++ = i + 2 < size ? digits[three & 63] : '=';
    }
    *to = '\0';
    return text;
}

/* Bytes become a string if they are UTF-8, else base64 under another name, so that nobody takes the
 * one for the other. */
static bool set_bytes(json_t *object, const char *name, const void *bytes, size_t size) {
    json_t *text = json_stringn(size > 0 ? bytes : "", size);
    if (text != NULL)
        return json_object_set_new(object, name, text) == 0;
    char other[32];
    snprintf(other, sizeof other, "%s_base64", name);
    char *encoded = encode_base64(bytes, size);
    bool good = encoded != NULL && json_object_set_new(object, other, json_string(encoded)) == 0;
    free(encoded);
    return good;
}

/* An array, because a record may have two headers of one name. */
static json_t *make_headers(const pawl_record *r) {
    json_t *all = json_array();
    pawl_header h;
    for (uint32_t i = 0; pawl_record_header(r, i, &h) >= 0; i++) {
        json_t *one = json_object();
        bool good = set_bytes(one, "name", h.name, h.name_len) &&
                    set_bytes(one, "value", h.value, h.value_len);
        if (json_array_append_new(all, one) != 0 || !good)
            break;
    }
    return all;
}

static bool write_json(const pawl_record *r) {
    json_t *o = json_object();
    bool good =
        json_object_set_new(o, "offset", json_integer((json_int_t)r->offset)) == 0 &&
        json_object_set_new(o, "partition", json_integer((json_int_t)r->partition)) == 0 &&
        json_object_set_new(o, "timestamp", json_integer((json_int_t)r->timestamp_ns)) == 0 &&
        (r->key_len > 0 ? set_bytes(o, "key", r->key, r->key_len)
                        : json_object_set_new(o, "key", json_null()) == 0) &&
        set_bytes(o, "value", r->value, r->value_len) &&
        json_object_set_new(o, "headers", make_headers(r)) == 0;
    if (!good)
        cli_error("out of memory for the record at offset %llu", (unsigned long long)r->offset);
    good = good && cli_write_json(json_dumps(o, JSON_COMPACT));
    json_decref(o);
    return good;
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
