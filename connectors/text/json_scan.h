/* SPDX-License-Identifier: Apache-2.0
 *
 * Finds values in a JSON text by path, in one pass and without a tree. A found value is the token
 * as written, so a number keeps its digits, however many there are and however large its exponent
 * is. Whoever reads JSON in this library does it with this scanner, so that all agree:
 *
 *   - The grammar is RFC 8259's, strictly: no NaN, no comments, nothing after the value.
 *   - The text is UTF-8. A byte order mark before the value is passed over, as the RFC allows.
 *   - Of equal names in an object the last one counts.
 *   - Values nest at most JSON_DEPTH_MAX deep.
 *   - Half a surrogate pair in an escape is valid JSON; where the string is wanted as text, it is
 *     refused.
 */
#ifndef PAWL_CONNECTORS_JSON_SCAN_H
#define PAWL_CONNECTORS_JSON_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define JSON_PATHS_MAX 64 /* one bit each */
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
    bool escaped;   /* STRING: it contains a backslash */
    const char *at; /* the token; a string's is without its quotes */
    size_t len;
};

struct json_step {
    const char *key; /* NULL: an array's element only */
    size_t key_len;
    bool is_index; /* beside a key too: ".0" is a member of an object or an element of an array */
    uint64_t index;
};
struct json_path {
    struct json_step *steps; /* none: the whole value */
    size_t count;
    char *text; /* owns the bytes of the keys */
};

/* Parses "$", "$.name", "$.a.b[0].c", "$.a.0" or "$['any name']". Returns NULL, or a static text
 * that says what is wrong; then there is nothing to free. */
const char *json_path_parse(struct json_path *p, const char *text);
/* The same, but "$." may be left out, for places where only a path is possible: "a.b[0]" is
 * "$.a.b[0]". */
const char *json_path_parse_short(struct json_path *p, const char *text);
void json_path_free(struct json_path *p);

/* Fills found[i] for each path. Returns NULL, or a static text that says what is wrong with the
 * JSON, at byte *where. JSON_NO_MEMORY is such a text, compared by its address: trying again can
 * help then. */
extern const char JSON_NO_MEMORY[];
const char *json_scan(const char *text, size_t len, const struct json_path *paths, size_t count,
                      struct json_found *found, size_t *where);
/* The same, but strings may contain bytes that are not UTF-8, for callers that replace them. */
const char *json_scan_bytes(const char *text, size_t len, const struct json_path *paths,
                            size_t count, struct json_found *found, size_t *where);
/* Writes what json_scan() found wrong as a sentence: "the value is not JSON: no valid number, at
 * byte 17 (line 2, column 4): `01}`". Every byte that can't be shown is \xNN. */
#define JSON_FAULT_MAX 240
void json_fault(const char *why, const char *text, size_t len, size_t where,
                char out[JSON_FAULT_MAX]);
/* Does a number fit a double, or a float? An integer must keep every digit. Any other number is
 * rounded, which is what such a type is for, but it must be in the type's range. */
bool json_fits_double(const char *at, size_t len);
bool json_fits_float(const char *at, size_t len);
/* The value of a number that fits a double, whatever the locale is. */
double json_double(const char *at, size_t len);

/* Decodes a string's token into `out`. Returns the length, which is at most that of the token.
 * *whole becomes false if half a surrogate pair was replaced by U+FFFD. */
size_t json_unescape(const char *at, size_t len, char *out, bool *whole);

#endif
