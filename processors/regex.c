/* SPDX-License-Identifier: Apache-2.0
 *
 * regex.c - parses values by a regular expression with named groups, each of which becomes a
 * member of a JSON object.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "connectors/text/json_text.h"
#include "processors/proc.h"

enum no_match { DROP, FAIL };

typedef struct regex {
    matcher *pattern;
    int no_match;
    int rest; /* output for what doesn't match; -1: none */
    int key;  /* group whose text becomes the key; -1: the key stays */
} regex;

static const pawl_setting_info settings[] = {
    PROC_TO,
    {"pattern", PAWL_SETTING_TEXT, 1, NULL, NULL,
     "regular expression (PCRE2, on bytes) with named groups, as (?<user>\\S+)"},
    {"caseless", PAWL_SETTING_BOOL, 0, NULL, "false", "upper and lower case are the same"},
    {"key", PAWL_SETTING_TEXT, 0, NULL, NULL, "the group whose text becomes the record's key"},
    {"no_match", PAWL_SETTING_CHOICE, 0, "drop|fail", "drop",
     "a record that doesn't match: drop it, or fail (on_error decides)"},
    {"rest", PAWL_SETTING_TEXT, 0, NULL, NULL,
     "the stream that gets what doesn't match, unchanged"},
    {"match_limit", PAWL_SETTING_NUMBER, 0, NULL, "1000000",
     "steps that a match may take; beyond, the record fails"},
    {NULL, 0, 0, NULL, NULL, NULL},
};
static int make_processor(const pawl_settings *s, pawl_processor_ops *out, pawl_error *err);
const pawl_connector connect_processor_regex = {
    .type = "regex",
    .help = "parses by a regular expression: each named group becomes a member of a JSON object",
    .settings = settings,
    .make_processor = make_processor,
};

static void destroy(void *self) {
    matcher_free(((regex *)self)->pattern);
    free(self);
}

static int find_key(regex *x, const pawl_settings *s, pawl_error *err) {
    const char *key = pawl_setting_text(&connect_processor_regex, s, "key");
    x->key = -1;
    for (uint32_t i = 0; key != NULL && i < matcher_groups(x->pattern); i++)
        if (strcmp(matcher_group_name(x->pattern, i), key) == 0)
            x->key = (int)i;
    return key != NULL && x->key < 0
               ? connect_error(err, PAWL_INVALID, "line %u: the pattern has no group \"%s\"",
                               pawl_setting_line(s, "key"), key)
               : 0;
}

static int make(proc *p, const pawl_settings *s, pawl_error *err) {
    const pawl_connector *c = &connect_processor_regex;
    regex *x = calloc(1, sizeof *x);
    if (x == NULL)
        return connect_error(err, PAWL_MEMORY, "no memory");
    p->self = x;
    x->no_match = connect_setting_choice(c, s, "no_match");
    int rc = proc_output_of(p, s, "rest", &x->rest, err);
    if (rc < 0)
        return rc;
    if (x->rest >= 0 && pawl_setting_line(s, "no_match") != 0)
        return connect_error(err, PAWL_INVALID, "line %u: no_match has no meaning beside rest",
                             pawl_setting_line(s, "no_match"));
    pawl_error why;
    x->pattern =
        matcher_new(pawl_setting_text(c, s, "pattern"), pawl_setting_number(c, s, "caseless") != 0,
                    pawl_setting_number(c, s, "match_limit"), &why);
    if (x->pattern == NULL)
        return connect_error(err, why.code, "line %u: %s", pawl_setting_line(s, "pattern"),
                             why.message);
    if (matcher_groups(x->pattern) == 0)
        return connect_error(
            err, PAWL_INVALID,
            "line %u: the pattern has no named group, so nothing would be taken; to "
            "choose records use the type filter",
            pawl_setting_line(s, "pattern"));
    return find_key(x, s, err);
}

static bool make_object(const matcher *m, const matcher_space *space, const char *value,
                        struct buffer *t) {
    size_t from, to;
    bool good = true;
    t->len = 0;
    for (uint32_t i = 0; good && i < matcher_groups(m); i++) {
        const char *name = matcher_group_name(m, i);
        good = buffer_add_text(t, i == 0 ? "{" : ",") && json_add_string(t, name, strlen(name)) &&
               buffer_add_text(t, ":") &&
               (matcher_group(m, space, i, &from, &to) ? json_add_string(t, value + from, to - from)
                                                       : buffer_add_text(t, "null"));
    }
    return good && buffer_add_text(t, "}");
}

static int one(proc *p, pawl_context *ctx, const pawl_record *r, struct scratch *s,
               const char **why) {
    const regex *x = p->self;
    struct buffer *t = &s->value;
    size_t from, to;
    int got = matcher_run(x->pattern, s->space, r->value, r->value_len, why);
    if (got < 0)
        return PAWL_PROCESSOR;
    if (got == 0 && x->rest >= 0) {
        *why = "it could not be emitted";
        return proc_emit(p, ctx, (uint32_t)x->rest, r, false);
    }
    if (got == 0) {
        *why = "the pattern does not match";
        return x->no_match == FAIL ? PAWL_PROCESSOR : 0;
    }
    *why = "out of memory";
    if (!make_object(x->pattern, s->space, r->value, t) || t->len > UINT32_MAX)
        return PAWL_MEMORY;
    pawl_record out = *r;
    out.value = t->bytes;
    out.value_len = (uint32_t)t->len;
    if (x->key >= 0) {
        *why = "the key would be longer than 65,535 bytes";
        bool set = matcher_group(x->pattern, s->space, (uint32_t)x->key, &from, &to);
        if (set && to - from > UINT16_MAX)
            return PAWL_TOO_LARGE;
        out.key = set && to > from ? (const char *)r->value + from : NULL;
        out.key_len = set ? (uint16_t)(to - from) : 0;
    }
    *why = "it could not be emitted";
    return proc_emit(p, ctx, 0, &out, x->key >= 0);
}

static int process(proc *p, pawl_context *ctx, const pawl_record *records, size_t count) {
    return proc_each(p, ctx, records, count, ((const regex *)p->self)->pattern, one);
}

static const proc_type type = {
    .make = make,
    .process = process,
    .destroy = destroy,
};

static int make_processor(const pawl_settings *s, pawl_processor_ops *out, pawl_error *err) {
    return proc_make(&connect_processor_regex, &type, s, out, err);
}
