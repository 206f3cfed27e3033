/* SPDX-License-Identifier: Apache-2.0
 *
 * json.c - picks members of a JSON value into a new, flat object. Each is copied as it stands, so
 * that a number keeps its digits; only the blanks between tokens go.
 */
#include <stdlib.h>
#include <string.h>

#include "connectors/text/json_text.h"
#include "connectors/text/utf8.h"
#include "processors/proc.h"

enum missing { MISSING_NULL, MISSING_SKIP, MISSING_FAIL };

typedef struct pick {
    char **names;            /* of the new members */
    struct json_path *paths; /* of the members, then that of the key if it is wanted */
    size_t count, path_count;
    int missing;
} pick;

static const pawl_setting_info settings[] = {
    PROC_TO,
    {"fields.*", PAWL_SETTING_TEXT, 0, NULL, NULL,
     "a member of the new object: its name, and where it comes from, as user.name or list.0"},
    {"missing", PAWL_SETTING_CHOICE, 0, "null|skip|fail", "null",
     "where there is none: null, leave it out, or fail (on_error decides)"},
    {"key", PAWL_SETTING_TEXT, 0, NULL, NULL, "where the record's key comes from"},
    {NULL, 0, 0, NULL, NULL, NULL},
};
static int make_processor(const pawl_settings *s, pawl_processor_ops *out, pawl_error *err);
const pawl_connector connect_processor_json = {
    .type = "json",
    .help = "picks members of a JSON value into a new object",
    .settings = settings,
    .make_processor = make_processor,
};

static void destroy(void *self) {
    pick *x = self;
    for (size_t i = 0; i < x->count; i++)
        free(x->names[i]);
    for (size_t i = 0; i < x->path_count; i++)
        json_path_free(&x->paths[i]);
    free(x->names);
    free(x->paths);
    free(x);
}

static int parse(pick *x, const pawl_setting *s, pawl_error *err) {
    const char *why = json_path_parse_short(&x->paths[x->path_count], s->value);
    x->path_count += why == NULL;
    return why == NULL ? 0
                       : connect_error(err, PAWL_INVALID, "line %u: %s = \"%.60s\": %s", s->line,
                                       s->name, s->value, why);
}

static int make(proc *p, const pawl_settings *s, pawl_error *err) {
    pick *x = calloc(1, sizeof *x);
    const pawl_setting *key = NULL;
    int rc = 0;
    if (x == NULL)
        return connect_error(err, PAWL_MEMORY, "no memory");
    p->self = x;
    x->missing = connect_setting_choice(&connect_processor_json, s, "missing");
    x->names = calloc(s->count + 1, sizeof *x->names);
    x->paths = calloc(s->count + 1, sizeof *x->paths);
    if (x->names == NULL || x->paths == NULL)
        return connect_error(err, PAWL_MEMORY, "no memory");
    for (size_t i = 0; rc == 0 && i < s->count; i++) {
        const pawl_setting *at = &s->items[i];
        if (strcmp(at->name, "key") == 0)
            key = at;
        if (strncmp(at->name, "fields.", 7) != 0)
            continue;
        if ((x->names[x->count] = strdup(at->name + 7)) == NULL)
            return connect_error(err, PAWL_MEMORY, "no memory");
        x->count++;
        rc = parse(x, at, err);
    }
    if (rc == 0 && x->count == 0)
        return connect_error(err, PAWL_INVALID, "json needs fields: a name and a place for each");
    return rc == 0 && key != NULL ? parse(x, key, err) : rc;
}

static bool add_member(const pick *x, size_t index, const struct json_found *f,
                       struct buffer *out) {
    size_t quotes = f->type == FOUND_STRING;
    const char *name = x->names[index];
    return buffer_add_text(out, out->len == 0 ? "{" : ",") &&
           json_add_string(out, name, strlen(name)) && buffer_add_text(out, ":") &&
           (f->type == FOUND_MISSING ? buffer_add_text(out, "null")
                                     : json_add_compact(out, f->at - quotes, f->len + 2 * quotes));
}

/* Is a valid JSON text a number, a text or a word? That has no members to pick. */
static bool is_scalar(const pawl_record *r) {
    const char *at = r->value;
    size_t i = r->value_len >= 3 && memcmp(at, UTF8_BOM, 3) == 0 ? 3 : 0;
    while (i < r->value_len && (at[i] == ' ' || at[i] == '\n' || at[i] == '\r' || at[i] == '\t'))
        i++;
    return i < r->value_len && at[i] != '{' && at[i] != '[';
}

/* The new object, and what stands at the last path. The scanner finds at most JSON_PATHS_MAX values
 * at once. 0, or an error with *why. */
static int pick_members(const pick *x, const pawl_record *r, struct scratch *s,
                        struct json_found *last, const char **why) {
    struct json_found found[JSON_PATHS_MAX];
    struct buffer *out = &s->value;
    out->len = 0;
    for (size_t i = 0; i < x->path_count; i++) {
        size_t left = x->path_count - i;
        int rc = i % JSON_PATHS_MAX != 0
                     ? 0
                     : value_scan(r, x->paths + i, left < JSON_PATHS_MAX ? left : JSON_PATHS_MAX,
                                  found, s, why);
        if (rc < 0)
            return rc;
        *why = "the value is not a JSON object or list";
        if (is_scalar(r))
            return PAWL_PROCESSOR;
        *last = found[i % JSON_PATHS_MAX];
        *why = "a member that is wanted is missing";
        if (i < x->count && last->type == FOUND_MISSING && x->missing == MISSING_FAIL)
            return PAWL_PROCESSOR;
        *why = "out of memory";
        if (i < x->count && !(last->type == FOUND_MISSING && x->missing == MISSING_SKIP) &&
            !add_member(x, i, last, out))
            return PAWL_MEMORY;
    }
    return buffer_add_text(out, out->len == 0 ? "{}" : "}") ? 0 : PAWL_MEMORY;
}

static int one(proc *p, pawl_context *ctx, const pawl_record *r, struct scratch *s,
               const char **why) {
    const pick *x = p->self;
    struct buffer *value = &s->value;
    struct json_found last;
    pawl_record out = *r;
    int rc = pick_members(x, r, s, &last, why);
    if (rc < 0)
        return rc;
    *why = "the new value would be longer than 4 GiB";
    if (value->len > UINT32_MAX)
        return PAWL_TOO_LARGE;
    out.value = value->bytes;
    out.value_len = (uint32_t)value->len;
    bool by_key = x->path_count > x->count;
    if (by_key) {
        const char *bytes;
        size_t size;
        int got = value_text(&last, s, &bytes, &size, why);
        if (got < 0)
            return got;
        *why = "the key would be longer than 65,535 bytes";
        if (got == 1 && size > UINT16_MAX)
            return PAWL_TOO_LARGE;
        out.key = got == 1 && size > 0 ? bytes : NULL;
        out.key_len = got == 1 ? (uint16_t)size : 0;
    }
    *why = "it could not be emitted";
    return proc_emit(p, ctx, 0, &out, by_key);
}

static int process(proc *p, pawl_context *ctx, const pawl_record *records, size_t count) {
    return proc_each(p, ctx, records, count, NULL, one);
}

static const proc_type type = {.make = make, .process = process, .destroy = destroy};

static int make_processor(const pawl_settings *s, pawl_processor_ops *out, pawl_error *err) {
    return proc_make(&connect_processor_json, &type, s, out, err);
}
