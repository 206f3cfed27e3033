/* SPDX-License-Identifier: Apache-2.0
 *
 * json.c - picks members of a JSON value into a new, flat object.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "processors/proc.h"

enum missing { MISSING_NULL, MISSING_SKIP, MISSING_FAIL };

typedef struct field {
    char *name, *path;
} field;

typedef struct pick {
    field *fields;
    size_t count;
    int missing;
    char *key; /* path of what becomes the key, or NULL */
} pick;

static const pawl_setting_info settings[] = {
    {"fields.*", PAWL_SETTING_TEXT, 0, NULL, NULL,
     "a member of the new object: its name, and where it comes from, as user.name or list.0"},
    {"missing", PAWL_SETTING_CHOICE, 0, "null|skip|fail", "null",
     "where there is none: null, leave it out, or fail (on_error decides)"},
    {"key", PAWL_SETTING_TEXT, 0, NULL, NULL, "where the record's key comes from"},
    {NULL, 0, 0, NULL, NULL, NULL},
};

static void destroy(void *self) {
    pick *x = self;
    for (size_t i = 0; i < x->count; i++) {
        free(x->fields[i].name);
        free(x->fields[i].path);
    }
    free(x->fields);
    free(x->key);
    free(x);
}

static int make(proc *p, const pawl_settings *s, pawl_error *err) {
    const char *key = pawl_setting_text(&proc_json.info, s, "key");
    pick *x = calloc(1, sizeof *x);
    if (x == NULL)
        return proc_error(err, PAWL_MEMORY, "no memory");
    p->self = x;
    x->missing = (int)pawl_setting_number(&proc_json.info, s, "missing");
    x->fields = calloc(s->count + 1, sizeof *x->fields);
    x->key = key != NULL ? strdup(key) : NULL;
    for (size_t i = 0; x->fields != NULL && i < s->count; i++)
        if (strncmp(s->items[i].name, "fields.", 7) == 0) {
            x->fields[x->count].name = strdup(s->items[i].name + 7);
            x->fields[x->count++].path = strdup(s->items[i].value);
        }
    if (x->count == 0)
        return proc_error(err, PAWL_INVALID, "json needs fields: a name and a place for each");
    return 0;
}

static json_t *follow(json_t *at, const char *path) {
    char step[256];
    while (at != NULL && *path != 0) {
        size_t n = strcspn(path, ".");
        if (n >= sizeof step)
            return NULL;
        memcpy(step, path, n);
        step[n] = 0;
        path += n + (path[n] == '.');
        at = json_is_array(at) ? json_array_get(at, strtoul(step, NULL, 10))
                               : json_object_get(at, step);
    }
    return at;
}

/* The new object; NULL with *why. */
static json_t *picked(const pick *x, json_t *root, const char **why) {
    json_t *out = json_object();
    for (size_t i = 0; out != NULL && i < x->count; i++) {
        json_t *found = follow(root, x->fields[i].path);
        if (found == NULL && x->missing == MISSING_FAIL) {
            *why = "a member that is wanted is missing";
            json_decref(out);
            return NULL;
        }
        if (found != NULL)
            json_object_set(out, x->fields[i].name, found);
        else if (x->missing == MISSING_NULL)
            json_object_set_new(out, x->fields[i].name, json_null());
    }
    return out;
}

static int one(proc *p, pawl_context *ctx, const pawl_record *r, const char **why) {
    const pick *x = p->self;
    json_error_t e;
    *why = "the value is not JSON";
    json_t *root = json_loadb(r->value_len != 0 ? r->value : "", r->value_len, JSON_ALLOW_NUL, &e);
    if (root == NULL)
        return PAWL_PROCESSOR;
    json_t *out = picked(x, root, why), *key = x->key != NULL ? follow(root, x->key) : NULL;
    char *bytes = out != NULL ? json_dumps(out, JSON_COMPACT) : NULL, *key_bytes = NULL;
    int rc = bytes != NULL ? 0 : PAWL_PROCESSOR;
    pawl_record made = *r;
    if (rc == 0) {
        made.value = bytes;
        made.value_len = (uint32_t)strlen(bytes);
    }
    if (rc == 0 && x->key != NULL) {
        key_bytes = key == NULL || json_is_null(key) ? NULL
                    : json_is_string(key)
                        ? strdup(json_string_value(key))
                        : json_dumps(key, JSON_COMPACT | JSON_ENCODE_ANY | JSON_SORT_KEYS);
        size_t len = key_bytes != NULL ? strlen(key_bytes) : 0;
        *why = "the key would be longer than 65,535 bytes";
        rc = len > UINT16_MAX ? PAWL_TOO_LARGE : 0;
        made.key = len > 0 ? key_bytes : NULL;
        made.key_len = (uint16_t)len;
    }
    if (rc == 0) {
        *why = "it could not be emitted";
        rc = proc_emit(p, ctx, 0, &made, x->key != NULL);
    }
    free(bytes);
    free(key_bytes);
    json_decref(out);
    json_decref(root);
    return rc;
}

static int process(proc *p, pawl_context *ctx, const pawl_record *records, size_t count) {
    for (size_t i = 0; i < count; i++) {
        const char *why;
        int rc = one(p, ctx, &records[i], &why);
        if (rc < 0) {
            pawl_fail(ctx, i, why);
            return rc;
        }
    }
    return 0;
}

const proc_type proc_json = {
    .info = {"json", "picks members of a JSON value into a new object", settings, NULL, NULL},
    .needs_to = true,
    .make = make,
    .process = process,
    .destroy = destroy,
};
