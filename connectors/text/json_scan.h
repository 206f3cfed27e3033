/* SPDX-License-Identifier: Apache-2.0
 *
 * Values out of a JSON text by path, in one pass and without a tree: what is taken is the token as
 * it stands there, so that a number keeps its digits. The grammar is RFC 8259's, strictly; UTF-8 in
 * strings is not judged here. Of equal names in an object the last one counts.
 */
#ifndef PAWL_CONNECTORS_JSON_SCAN_H
#define PAWL_CONNECTORS_JSON_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define JSON_PATHS_MAX 64 /* a bit each */
#define JSON_DEPTH_MAX 500

enum json_type {
    FOUND_MISSING,
    FOUND_NULL,
    FOUND_FALSE,
    FOUND_TRUE,
    FOUND_NUMBER,
    FOUND_STRING,
    FOUND_ARRAY,
    FOUND_OBJECT
};

struct json_found {
    int type;       /* enum json_type */
    bool escaped;   /* STRING: it holds a backslash */
    const char *at; /* the token; of a string without its quotes */
    size_t len;
};

struct json_step {
    const char *key; /* NULL: an array's element only */
    size_t key_len;
    bool is_index; /* with a key too: ".0" is a member of an object or an element of an array */
    uint64_t index;
};
struct json_path {
    struct json_step *steps; /* none: the whole value */
    size_t count;
    char *text; /* what the keys point to */
};

/* "$", "$.name", "$.a.b[0].c", "$.a.0", "$['any name']". Returns NULL, or what is wrong with it
 * (static); then nothing needs to be freed. */
const char *json_path_parse(struct json_path *p, const char *text);
/* Where nothing but a path can stand, "$." may be left out: "a.b[0]" is "$.a.b[0]". */
const char *json_path_parse_short(struct json_path *p, const char *text);
void json_path_free(struct json_path *p);

/* Fills found[i] for each path. Returns NULL, or what is wrong with the text (static), *where being
 * the place. */
const char *json_scan(const char *text, size_t len, const struct json_path *paths, size_t count,
                      struct json_found *found, size_t *where);

/* A string's value: at most as long as its token. *whole becomes false where half a surrogate pair
 * was made U+FFFD. */
size_t json_unescape(const char *at, size_t len, char *out, bool *whole);

#endif
