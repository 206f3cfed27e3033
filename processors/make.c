/* SPDX-License-Identifier: Apache-2.0
 *
 * make.c - the table of processor types, and what they share.
 */
#include "processors/proc.h"

#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const proc_type *const types[] = {&proc_regex, &proc_json, &proc_filter, &proc_route,
                                         &proc_dedup, &proc_exec, &proc_plugin};

const proc_type *proc_type_at(size_t index) {
    return index < sizeof types / sizeof types[0] ? types[index] : NULL;
}

const proc_type *proc_type_find(const char *name) {
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (strcmp(types[i]->info.type, name) == 0)
            return types[i];
    return NULL;
}

int proc_error(pawl_error *err, int code, const char *format, ...) {
    va_list args;
    if (err != NULL) {
        *err = (pawl_error){.code = code, .lsn = UINT64_MAX};
        va_start(args, format);
        vsnprintf(err->message, sizeof err->message, format, args);
        va_end(args);
    }
    return code;
}

uint32_t proc_line(const pawl_settings *s, const char *name) {
    for (size_t i = 0; i < s->count; i++)
        if (strcmp(s->items[i].name, name) == 0)
            return s->items[i].line;
    return 0;
}

int proc_make(proc *p, const pawl_settings *s, uint32_t to_line, pawl_error *err) {
    int rc = pawl_settings_check(&p->type->info, s, err);
    if (rc < 0)
        return rc;
    if (p->type->needs_to && p->to == NULL)
        return proc_error(err, PAWL_INVALID, "%s needs \"to\": the stream that it writes",
                          p->type->info.type);
    if (!p->type->needs_to && p->to != NULL)
        return proc_error(err, PAWL_INVALID, "line %u: %s has no \"to\"", to_line,
                          p->type->info.type);
    if (p->to != NULL)
        proc_output(p, p->to, to_line);
    return p->type->make(p, s, err);
}

void proc_destroy(proc *p) {
    if (p->self != NULL)
        p->type->destroy(p->self);
    p->self = NULL;
}

int proc_process(pawl_context *ctx, const pawl_record *records, size_t count, void *arg) {
    proc *p = arg;
    int rc = p->type->process(p, ctx, records, count);
    if (rc == 0)
        atomic_fetch_add(&p->taken, count);
    return rc;
}

int proc_output(proc *p, const char *stream, uint32_t line) {
    for (uint32_t i = 0; i < p->output_count; i++)
        if (strcmp(p->outputs[i].name, stream) == 0)
            return (int)i;
    if (p->output_count == PROC_OUTPUTS_MAX)
        return -1;
    p->outputs[p->output_count] = (proc_stream){.name = stream, .line = line};
    return (int)p->output_count++;
}

int proc_emit(proc *p, pawl_context *ctx, uint32_t output, const pawl_record *r, bool by_key) {
    const proc_stream *to = &p->outputs[output];
    int rc = pawl_emit(
        ctx, to->id,
        by_key && r->key_len != 0 ? PAWL_ANY : pawl_context_partition(ctx) % to->partitions, r);
    if (rc >= 0)
        atomic_fetch_add_explicit(&p->emitted, 1, memory_order_relaxed);
    return rc;
}

/* ---- selectors */

enum { SELECT_VALUE, SELECT_KEY, SELECT_JSON, SELECT_HEADER };

bool selector_parse(selector *s, const char *text) {
    *s = (selector){.what = SELECT_VALUE};
    if (strcmp(text, "value") == 0)
        return true;
    s->what = SELECT_KEY;
    if (strcmp(text, "key") == 0)
        return true;
    const char *colon = strchr(text, ':');
    if (colon == NULL || colon[1] == 0 || strlen(colon + 1) >= sizeof s->name)
        return false;
    strcpy(s->name, colon + 1);
    s->what = strncmp(text, "json:", 5) == 0 ? SELECT_JSON : SELECT_HEADER;
    return s->what == SELECT_JSON || strncmp(text, "header:", 7) == 0;
}

static const json_t *follow(const json_t *at, const char *path) {
    char step[128];
    while (at != NULL && *path != 0) {
        size_t n = strcspn(path, ".");
        memcpy(step, path, n);
        step[n] = 0;
        path += n + (path[n] == '.');
        at = json_is_array(at) ? json_array_get(at, strtoul(step, NULL, 10))
                               : json_object_get(at, step);
    }
    return at;
}

static int select_json(const selector *s, const pawl_record *r, const char **bytes, size_t *size,
                       char **owned, const char **why) {
    json_error_t e;
    json_t *root = json_loadb(r->value_len != 0 ? r->value : "", r->value_len,
                              JSON_DECODE_ANY | JSON_ALLOW_NUL, &e);
    *why = "the value is not JSON";
    if (root == NULL)
        return -1;
    const json_t *found = follow(root, s->name);
    int got = found != NULL && !json_is_null(found);
    if (got && json_is_string(found)) {
        *size = json_string_length(found);
        *owned = malloc(*size + 1);
        if (*owned != NULL)
            memcpy(*owned, json_string_value(found), *size);
    } else if (got) {
        *owned = json_dumps(found, JSON_ENCODE_ANY | JSON_COMPACT | JSON_SORT_KEYS);
        *size = *owned != NULL ? strlen(*owned) : 0;
    }
    json_decref(root);
    if (got && *owned == NULL) {
        *why = "out of memory";
        return -1;
    }
    *bytes = *owned;
    return got;
}

int selector_get(const selector *s, const pawl_record *r, const char **bytes, size_t *size,
                 char **owned, const char **why) {
    pawl_header h;
    *owned = NULL;
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
        return select_json(s, r, bytes, size, owned, why);
    default:
        for (uint32_t i = 0; pawl_record_header(r, i, &h) >= 0; i++)
            if (h.name_len == strlen(s->name) && memcmp(h.name, s->name, h.name_len) == 0) {
                *bytes = h.value_len != 0 ? h.value : "";
                *size = h.value_len;
                return 1;
            }
        return 0;
    }
}
