/* SPDX-License-Identifier: Apache-2.0
 *
 * selector.c - a part of a record, and values out of JSON.
 */
#include <stdlib.h>
#include <string.h>

#include "connectors/text/json_text.h"
#include "processors/proc.h"

enum { SELECT_VALUE, SELECT_KEY, SELECT_JSON, SELECT_HEADER };

int selector_make(selector *s, const pawl_connector *c, const pawl_settings *settings,
                  const char *name, pawl_error *err) {
    const char *text = pawl_setting_text(c, settings, name);
    uint32_t line = pawl_setting_line(settings, name);
    *s = (selector){.what = SELECT_VALUE};
    if (strcmp(text, "value") == 0)
        return 0;
    s->what = SELECT_KEY;
    if (strcmp(text, "key") == 0)
        return 0;
    if (strncmp(text, "json:", 5) == 0 && text[5] != 0) {
        s->what = SELECT_JSON;
        const char *why = json_path_parse_short(&s->path, text + 5);
        return why == NULL ? 0
                           : connect_error(err, PAWL_INVALID, "line %u: %s = \"%.60s\": %s", line,
                                           name, text, why);
    }
    if (strncmp(text, "header:", 7) == 0 && text[7] != 0) {
        s->what = SELECT_HEADER;
        s->header = strdup(text + 7);
        return s->header != NULL ? 0 : connect_error(err, PAWL_MEMORY, "no memory");
    }
    return connect_error(err, PAWL_INVALID,
                         "line %u: %s must be value, key, json:PATH or header:NAME, not \"%.60s\"; "
                         "a member %.60s of a JSON value is json:%.60s",
                         line, name, text, text, text);
}

void selector_free(selector *s) {
    free(s->header);
    json_path_free(&s->path);
}

int value_scan(const pawl_record *r, const struct json_path *paths, size_t count,
               struct json_found *found, struct scratch *own, const char **why) {
    const char *text = r->value_len != 0 ? r->value : "";
    size_t where;
    const char *wrong = json_scan(text, r->value_len, paths, count, found, &where);
    if (wrong == NULL)
        return 0;
    *why = wrong;
    if (wrong == JSON_NO_MEMORY)
        return PAWL_MEMORY;
    json_fault(wrong, text, r->value_len, where, own->told);
    *why = own->told;
    return PAWL_PROCESSOR;
}

int value_text(const struct json_found *f, struct scratch *own, const char **bytes, size_t *size,
               const char **why) {
    struct buffer *b = &own->own;
    bool whole = true, good = true;
    *bytes = f->at;
    *size = f->len;
    if (f->type == FOUND_MISSING || f->type == FOUND_NULL)
        return 0;
    if (f->type == FOUND_STRING ? !f->escaped : f->type < FOUND_ARRAY)
        return 1;
    b->len = 0;
    if (f->type == FOUND_STRING) { /* makes room for the token; the content is never longer */
        good = buffer_add(b, f->at, f->len);
        b->len = good ? json_unescape(f->at, f->len, b->bytes, &whole) : 0;
    } else {
        good = json_add_compact(b, f->at, f->len);
    }
    *why = good ? "half a surrogate pair in a JSON string" : "out of memory";
    *bytes = b->bytes;
    *size = b->len;
    return !good ? PAWL_MEMORY : whole ? 1 : PAWL_PROCESSOR;
}

int selector_get(const selector *s, const pawl_record *r, struct scratch *own, const char **bytes,
                 size_t *size, const char **why) {
    pawl_header h;
    struct json_found found;
    int rc;
    switch (s->what) {
    case SELECT_VALUE:
        *bytes = r->value_len != 0 ? r->value : "";
        *size = r->value_len;
        return 1;
    case SELECT_KEY:
        *bytes = r->key;
        *size = r->key_len;
        return r->key_len != 0;
    case SELECT_JSON:
        rc = value_scan(r, &s->path, 1, &found, own, why);
        return rc == 0 ? value_text(&found, own, bytes, size, why) : rc;
    default:
        for (uint32_t i = 0; pawl_record_header(r, i, &h) >= 0; i++)
            if (h.name_len == strlen(s->header) && memcmp(h.name, s->header, h.name_len) == 0) {
                *bytes = h.value_len != 0 ? h.value : "";
                *size = h.value_len;
                return 1;
            }
        return 0;
    }
}
