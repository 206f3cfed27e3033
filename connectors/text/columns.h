/* SPDX-License-Identifier: Apache-2.0
 *
 * Maps a record to the columns of a table: which part goes where, and what happens to bytes that a
 * text column can't take. Settings:
 *
 *   columns.NAME = "key"            null if the record has none
 *                  "value"
 *                  "$.a.b[0]"       from the value as JSON; missing and null are null
 *                  "header.NAME"    the first of that name; null if there is none
 *                  "id"             the record's id, which never changes:
 *                                   LOGID-STREAMID-PARTITION-OFFSET
 *                  "stream", "partition", "offset"
 *                  "timestamp"      2026-01-31T12:00:00.123456789Z
 *                  "timestamp_ms", "timestamp_ns": since 1970
 *   invalid_text = "poison"         refuses a record whose value for a text column is not UTF-8 or
 *                                   has a NUL; JSON that is not UTF-8 is no JSON
 *                  "replace"        each such byte becomes U+FFFD
 */
#ifndef PAWL_CONNECTORS_COLUMNS_H
#define PAWL_CONNECTORS_COLUMNS_H

#include "connectors/runtime/connect.h"
#include "connectors/text/json_scan.h"

#define COLUMNS_MAX 200

#define COLUMN_SETTINGS \
    {"columns.*", \
     PAWL_SETTING_TEXT, \
     1, \
     NULL, \
     NULL, \
     "what goes into the column of that name: key, value, id, stream, partition, offset, " \
     "timestamp, " \
     "timestamp_ms, " \
     "timestamp_ns, header.NAME, or a path into the JSON value such as $.user.name"}, \
    { \
        "invalid_text", PAWL_SETTING_CHOICE, 0, "poison|replace", "poison", \
            "what becomes of a text that is not UTF-8 or holds a NUL" \
    }

/* What the table's column takes. The sink asks the target and sets it. */
enum column_as {
    COLUMN_AS_TEXT = 0,
    COLUMN_AS_BYTES = 1,
    COLUMN_AS_JSON = 2,
    COLUMN_AS_DOUBLE = 3, /* what doesn't fit is refused: json_fits_double() */
    COLUMN_AS_FLOAT = 4,
    COLUMN_AS_NUMERIC = 5 /* holds 64-bit integers exactly, all else as a double */
};

struct column {
    char *name;
    int what; /* enum, columns.c */
    int as;   /* enum column_as */
    char *header;
    size_t path; /* index */
};

enum column_type {
    COLUMN_NULL,
    COLUMN_TEXT,    /* as AS_TEXT: valid UTF-8 without NUL */
    COLUMN_INTEGER, /* text: its digits; number, where it fits (else COLUMN_NUMBER) */
    COLUMN_NUMBER,  /* text: as written in the JSON */
    COLUMN_BOOL     /* text: true or false; number: 1 or 0 */
};
/* The text is valid until the next columns_of(), and no longer than the record. */
struct column_value {
    int type;
    const char *text;
    size_t len;
    int64_t number;
    char own[PAWL_MESSAGE_ID_SIZE];
};

struct block {
    struct block *next;
    size_t used, size;
    char bytes[];
};

struct columns {
    struct column *items;
    size_t count;
    struct json_path paths[JSON_PATHS_MAX];
    struct json_found found[JSON_PATHS_MAX];
    size_t path_count;
    bool replace;
    struct block *blocks; /* for texts of the current record; the largest is first */
};

/* Reads the settings. Errors: INVALID, MEMORY; columns_free() must be called even then. */
int columns_make(struct columns *c, const pawl_connector *of, const pawl_settings *s,
                 pawl_error *err);
void columns_free(struct columns *c);
/* Index of the column, or -1. */
int columns_find(const struct columns *c, const char *name, size_t len);
/* Index of the first column that holds the record's id, or -1. */
int columns_id(const struct columns *c);
/* The values of a record, one for each column. DONE, POISON (with the offset) or RETRY (no
 * memory). */
int columns_of(struct columns *c, const pawl_sink_batch *b, const pawl_record *r,
               struct column_value *out, pawl_fault *f);

/* True if the comma-separated list has the name. */
bool columns_listed(const char *list, const char *name);
/* The columns of an idempotent sink's unique index: *conflict if it is set, else a copy of the
 * id column's name, which the caller frees. Errors: INVALID, MEMORY. */
int columns_conflict(const struct columns *c, bool idempotent, char **conflict, pawl_error *err);
/* Calls fn for each name of a comma-separated list, without the blanks around it. Stops when fn
 * returns < 0, and returns that. */
int columns_names(const char *list, int (*fn)(void *arg, const char *name, size_t len), void *arg);

#endif
