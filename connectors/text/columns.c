/* SPDX-License-Identifier: Apache-2.0
 *
 * Maps records to columns and checks texts. Nothing is changed silently: a value that a column
 * can't take is refused, or replaced if the settings ask for it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "connectors/text/columns.h"
#include "connectors/text/time_ns.h"
#include "connectors/text/utf8.h"

enum {
    KEY,
    VALUE,
    ID,
    STREAM,
    PARTITION,
    OFFSET,
    TIMESTAMP,
    TIMESTAMP_MS,
    TIMESTAMP_NS,
    HEADER,
    PATH
};

/* ---- settings */

static int parse(struct columns *c, struct column *item, const pawl_setting *s, pawl_error *err) {
    static const char *const words[] = {"key",       "value",        "id",
                                        "stream",    "partition",    "offset",
                                        "timestamp", "timestamp_ms", "timestamp_ns"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (strcmp(s->value, words[i]) == 0) {
            item->what = (int)i;
            return 0;
        }
    if (strncmp(s->value, "header.", 7) == 0 && s->value[7] != 0) {
        item->what = HEADER;
        item->header = strdup(s->value + 7);
        return item->header != NULL ? 0 : connect_error(err, PAWL_MEMORY, "no memory");
    }
    if (s->value[0] != '$')
        return connect_error(
            err, PAWL_INVALID,
            "line %u: %s can't be \"%s\": it is one of key, value, id, stream, partition, offset, "
            "timestamp, "
            "timestamp_ms, timestamp_ns, header.NAME, or a path that begins with $",
            s->line, s->name, s->value);
    if (c->path_count == JSON_PATHS_MAX)
        return connect_error(err, PAWL_INVALID, "line %u: more than %d columns are paths", s->line,
                             JSON_PATHS_MAX);
    const char *why = json_path_parse(&c->paths[c->path_count], s->value);
    if (why != NULL)
        return connect_error(err, PAWL_INVALID, "line %u: %s = \"%s\": %s", s->line, s->name,
                             s->value, why);
    item->what = PATH;
    item->path = c->path_count++;
    return 0;
}

int columns_make(struct columns *c, const pawl_connector *of, const pawl_settings *s,
                 pawl_error *err) {
    static const char prefix[] = "columns.";
    *c = (struct columns){.replace = pawl_setting_number(of, s, "invalid_text") == 1};
    c->items = calloc(COLUMNS_MAX, sizeof *c->items);
    if (c->items == NULL)
        return connect_error(err, PAWL_MEMORY, "no memory");
    for (size_t i = 0; i < s->count; i++) {
        const pawl_setting *at = &s->items[i];
        if (strncmp(at->name, prefix, sizeof prefix - 1) != 0)
            continue;
        if (c->count == COLUMNS_MAX)
            return connect_error(err, PAWL_INVALID, "line %u: more than %d columns", at->line,
                                 COLUMNS_MAX);
        struct column *item = &c->items[c->count++];
        item->name = strdup(at->name + sizeof prefix - 1);
        int rc = item->name != NULL ? parse(c, item, at, err)
                                    : connect_error(err, PAWL_MEMORY, "no memory");
        if (rc < 0)
            return rc;
    }
    return 0;
}

static void free_blocks(struct block *b) {
    while (b != NULL) {
        struct block *next = b->next;
        free(b);
        b = next;
    }
}

void columns_free(struct columns *c) {
    for (size_t i = 0; i < c->count; i++) {
        free(c->items[i].name);
        free(c->items[i].header);
    }
    for (size_t i = 0; i < c->path_count; i++)
        json_path_free(&c->paths[i]);
    free(c->items);
    free_blocks(c->blocks);
    *c = (struct columns){0};
}

int columns_find(const struct columns *c, const char *name, size_t len) {
    for (size_t i = 0; i < c->count; i++)
        if (strlen(c->items[i].name) == len && memcmp(c->items[i].name, name, len) == 0)
            return (int)i;
    return -1;
}

int columns_id(const struct columns *c) {
    for (size_t i = 0; i < c->count; i++)
        if (c->items[i].what == ID)
            return (int)i;
    return -1;
}

int columns_names(const char *list, int (*fn)(void *arg, const char *name, size_t len), void *arg) {
    while (*list != 0) {
        size_t skip = strspn(list, ", "), len = strcspn(list + skip, ",");
        const char *name = list + skip;
        list = name + len;
        while (len > 0 && name[len - 1] == ' ')
            len--;
        int rc = len > 0 ? fn(arg, name, len) : 0;
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int same(void *arg, const char *name, size_t len) {
    return strlen(arg) == len && memcmp(arg, name, len) == 0 ? -1 : 0;
}

bool columns_listed(const char *list, const char *name) {
    return list != NULL && columns_names(list, same, (void *)(uintptr_t)name) < 0;
}

static int known(void *arg, const char *name, size_t len) {
    return columns_find(arg, name, len) >= 0 ? 0 : -1;
}

int columns_conflict(const struct columns *c, bool idempotent, char **conflict, pawl_error *err) {
    int id = columns_id(c);
    if (!idempotent)
        return *conflict == NULL
                   ? 0
                   : connect_error(err, PAWL_INVALID, "conflict is for kind = \"idempotent\"");
    if (*conflict == NULL && id >= 0 && (*conflict = strdup(c->items[id].name)) == NULL)
        return connect_error(err, PAWL_MEMORY, "no memory");
    if (*conflict == NULL)
        return connect_error(
            err, PAWL_INVALID,
            "an idempotent sink needs a column that is \"id\", or conflict = \"COLUMN,...\"");
    return columns_names(*conflict, known, (void *)(uintptr_t)c) == 0
               ? 0
               : connect_error(err, PAWL_INVALID,
                               "conflict = \"%s\" names a column that is not among columns",
                               *conflict);
}

/* ---- texts */

/* n bytes that are valid until the next record; NULL: no memory. */
static char *room(struct columns *c, size_t n) {
    struct block *b = c->blocks;
    if (b == NULL || b->size - b->used < n) {
        size_t size = b != NULL ? b->size * 2 : 4096;
        size = size < n ? n : size;
        struct block *more = malloc(sizeof *more + size);
        if (more == NULL)
            return NULL;
        *more = (struct block){.next = b, .size = size};
        c->blocks = b = more;
    }
    b->used += n;
    return b->bytes + b->used - n;
}

static void new_record(struct columns *c) {
    if (c->blocks == NULL)
        return;
    c->blocks->used = 0;
    free_blocks(c->blocks->next);
    c->blocks->next = NULL;
}

static int replace(struct columns *c, struct column_value *v, size_t from) {
    char *out = room(c, from + (v->len - from) * 3), *to = out;
    if (out == NULL)
        return -1;
    memcpy(to, v->text, from);
    to += from;
    const unsigned char *at = (const unsigned char *)v->text + from,
                        *end = (const unsigned char *)v->text + v->len;
    while (at < end) {
        /* a text column can't hold a NUL either */
        size_t len = *at != 0 ? utf8_sequence(at, (size_t)(end - at)) : 0;
        memcpy(to, len > 0 ? (const char *)at : UTF8_REPLACEMENT, len > 0 ? len : 3);
        to += len > 0 ? len : 3;
        at += len > 0 ? len : 1;
    }
    v->text = out;
    v->len = (size_t)(to - out);
    return 0;
}

static int poison(pawl_fault *f, const pawl_record *r, const char *column, const char *what) {
    if (f != NULL)
        f->offset = r->offset;
    return pawl_fault_set(f, PAWL_POISON, "column %.60s: %s", column, what);
}

static int check(struct columns *c, const struct column *item, const pawl_record *r,
                 struct column_value *v, pawl_fault *f) {
    size_t n = item->as == COLUMN_AS_BYTES ? v->len : utf8_valid(v->text, v->len);
    if (n == v->len)
        return PAWL_DONE;
    if (c->replace)
        return replace(c, v, n) == 0 ? PAWL_DONE : pawl_fault_set(f, PAWL_RETRY, "no memory");
    char what[80];
    snprintf(what, sizeof what,
             v->text[n] == 0 ? "the text has a NUL at byte %zu"
                             : "the text is not UTF-8 from byte %zu on",
             n);
    return poison(f, r, item->name, what);
}

/* ---- values */

static void digits(struct column_value *v, uint64_t n, bool negative) {
    char *at = v->own + sizeof v->own;
    do
        *--at = (char)('0' + n % 10);
    while ((n /= 10) != 0);
    if (negative)
        *--at = '-';
    v->text = at;
    v->len = (size_t)(v->own + sizeof v->own - at);
}

static void integer(struct column_value *v, int64_t n) {
    v->type = COLUMN_INTEGER;
    v->number = n;
    digits(v, n < 0 ? -(uint64_t)n : (uint64_t)n, n < 0);
}

/* Offsets stay far below 2^63. */
static void natural(struct column_value *v, uint64_t n) {
    v->type = COLUMN_INTEGER;
    v->number = (int64_t)n;
    digits(v, n, false);
}

static int64_t floor_div(int64_t a, int64_t b) {
    return a / b - (a % b < 0);
}

static void timestamp(struct column_value *v, int64_t ns) {
    time_t s = floor_div(ns, TIME_NS_PER_S);
    int64_t part = ns % TIME_NS_PER_S; /* of the smallest, s seconds don't fit */
    struct tm t;
    gmtime_r(&s, &t);
    int n = snprintf(v->own, sizeof v->own, "%04d-%02d-%02dT%02d:%02d:%02d.%09dZ", t.tm_year + 1900,
                     t.tm_mon + 1, t.tm_mday, t.tm_hour, t.tm_min, t.tm_sec,
                     (int)(part < 0 ? part + TIME_NS_PER_S : part));
    v->type = COLUMN_TEXT;
    v->text = v->own;
    v->len = (size_t)n;
}

static void header(struct column_value *v, const pawl_record *r, const char *name) {
    size_t len = strlen(name);
    pawl_header h;
    for (uint32_t i = 0; pawl_record_header(r, i, &h) == 0; i++)
        if (h.name_len == len && memcmp(h.name, name, len) == 0) {
            v->type = COLUMN_TEXT;
            v->text = h.value;
            v->len = h.value_len;
            return;
        }
}

static void json_number(struct column_value *v, const struct json_found *j) {
    uint64_t n = 0, most = INT64_MAX;
    size_t i = j->at[0] == '-';
    bool fits = j->len - i <= 19 && !(i == 1 && j->at[1] == '0');
    for (; fits && i < j->len; i++) {
        fits = j->at[i] >= '0' && j->at[i] <= '9';
        n = n * 10 + (uint64_t)(j->at[i] - '0');
    }
    v->type = fits && n <= most ? COLUMN_INTEGER : COLUMN_NUMBER;
    v->number = j->at[0] == '-' ? -(int64_t)(n & INT64_MAX) : (int64_t)(n & INT64_MAX);
}

/* Can the column hold the number as it is written? */
static bool number_fits(const struct column *item, const struct column_value *v) {
    switch (item->as) {
    case COLUMN_AS_NUMERIC:
        return v->type == COLUMN_INTEGER || json_fits_double(v->text, v->len);
    case COLUMN_AS_DOUBLE:
        return json_fits_double(v->text, v->len);
    case COLUMN_AS_FLOAT:
        return json_fits_float(v->text, v->len);
    default:
        return true; /* it keeps the digits, or says itself that they don't fit */
    }
}

/* DONE, POISON or RETRY. */
static int json_value(struct columns *c, const struct column *item, const pawl_record *r,
                      struct column_value *v, pawl_fault *f) {
    const struct json_found *j = &c->found[item->path];
    v->text = j->at;
    v->len = j->len;
    switch (j->type) {
    case FOUND_MISSING:
    case FOUND_NULL:
        return PAWL_DONE;
    case FOUND_FALSE:
    case FOUND_TRUE:
        v->type = COLUMN_BOOL;
        v->number = j->type == FOUND_TRUE;
        return PAWL_DONE;
    case FOUND_NUMBER: {
        char what[100];
        json_number(v, j);
        if (number_fits(item, v))
            return PAWL_DONE;
        snprintf(what, sizeof what, "the number %.*s%s doesn't fit its type",
                 (int)(v->len > 40 ? 40 : v->len), v->text, v->len > 40 ? "..." : "");
        return poison(f, r, item->name, what);
    }
    case FOUND_STRING:
        v->type = COLUMN_TEXT;
        if (item->as == COLUMN_AS_JSON) {
            v->text--;
            v->len += 2;
        } else if (j->escaped) {
            bool whole = true;
            char *out = room(c, j->len);
            if (out == NULL)
                return pawl_fault_set(f, PAWL_RETRY, "no memory");
            v->len = json_unescape(j->at, j->len, out, &whole);
            v->text = out;
            if (!whole && !c->replace)
                return poison(f, r, item->name, "half a surrogate pair in a JSON string");
        }
        return PAWL_DONE;
    default:
        v->type = COLUMN_TEXT;
        return PAWL_DONE;
    }
}

static int one(struct columns *c, const struct column *item, const pawl_sink_batch *b,
               const pawl_record *r, struct column_value *v, pawl_fault *f) {
    v->type = COLUMN_NULL;
    switch (item->what) {
    case KEY:
        v->type = r->key_len > 0 ? COLUMN_TEXT : COLUMN_NULL;
        v->text = r->key;
        v->len = r->key_len;
        break;
    case VALUE:
        v->type = COLUMN_TEXT;
        v->text = r->value_len > 0 ? r->value : "";
        v->len = r->value_len;
        break;
    case ID:
        v->type = COLUMN_TEXT;
        v->len = pawl_message_id(b->log_id, r, v->own);
        v->text = v->own;
        return PAWL_DONE;
    case STREAM:
        v->type = COLUMN_TEXT;
        v->text = b->stream;
        v->len = strlen(b->stream);
        return PAWL_DONE;
    case PARTITION:
        natural(v, r->partition);
        return PAWL_DONE;
    case OFFSET:
        natural(v, r->offset);
        return PAWL_DONE;
    case TIMESTAMP:
        timestamp(v, r->timestamp_ns);
        return PAWL_DONE;
    case TIMESTAMP_MS:
        integer(v, floor_div(r->timestamp_ns, 1000000));
        return PAWL_DONE;
    case TIMESTAMP_NS:
        integer(v, r->timestamp_ns);
        return PAWL_DONE;
    case HEADER:
        header(v, r, item->header);
        break;
    default: {
        int outcome = json_value(c, item, r, v, f);
        if (outcome != PAWL_DONE)
            return outcome;
    }
    }
    return v->type == COLUMN_TEXT ? check(c, item, r, v, f) : PAWL_DONE;
}

int columns_of(struct columns *c, const pawl_sink_batch *b, const pawl_record *r,
               struct column_value *out, pawl_fault *f) {
    new_record(c);
    if (c->path_count > 0) {
        const char *text = r->value_len != 0 ? r->value : "";
        size_t where;
        const char *why = (c->replace ? json_scan_bytes : json_scan)(
            text, r->value_len, c->paths, c->path_count, c->found, &where);
        if (why == JSON_NO_MEMORY)
            return pawl_fault_set(f, PAWL_RETRY, "no memory");
        if (why != NULL) {
            char told[JSON_FAULT_MAX];
            if (f != NULL)
                f->offset = r->offset;
            json_fault(why, text, r->value_len, where, told);
            return pawl_fault_set(f, PAWL_POISON, "%s", told);
        }
    }
    for (size_t i = 0; i < c->count; i++) {
        int outcome = one(c, &c->items[i], b, r, &out[i], f);
        if (outcome != PAWL_DONE)
            return outcome;
    }
    return PAWL_DONE;
}
