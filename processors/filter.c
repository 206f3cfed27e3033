/* SPDX-License-Identifier: Apache-2.0
 *
 * filter.c - keeps the records of which a part matches a pattern or is a given text.
 */
#include <stdlib.h>
#include <string.h>

#include "processors/proc.h"

typedef struct filter {
    selector of;
    matcher *pattern; /* or */
    char *equals;
    bool invert;
} filter;

static const pawl_setting_info settings[] = {
    PROC_TO,
    {"of", PAWL_SETTING_TEXT, 0, NULL, "value",
     "what is looked at: value, key, json:PATH or header:NAME; a record without it doesn't match"},
    {"match", PAWL_SETTING_TEXT, 0, NULL, NULL, "a regular expression (PCRE2, on bytes)"},
    {"equals", PAWL_SETTING_TEXT, 0, NULL, NULL, "or a text that it must be"},
    {"caseless", PAWL_SETTING_BOOL, 0, NULL, "false", "upper and lower case are the same in match"},
    {"invert", PAWL_SETTING_BOOL, 0, NULL, "false", "keep what doesn't match"},
    {"match_limit", PAWL_SETTING_NUMBER, 0, NULL, "1000000",
     "steps that a match may take; beyond, the record fails"},
    {NULL, 0, 0, NULL, NULL, NULL},
};
static int make_processor(const pawl_settings *s, pawl_processor_ops *out, pawl_error *err);
const pawl_connector connect_processor_filter = {
    .type = "filter",
    .help = "keeps the records that match",
    .settings = settings,
    .make_processor = make_processor,
};

static void destroy(void *self) {
    filter *x = self;
    selector_free(&x->of);
    matcher_free(x->pattern);
    free(x->equals);
    free(x);
}

static int make(proc *p, const pawl_settings *s, pawl_error *err) {
    const pawl_connector *c = &connect_processor_filter;
    const char *match = pawl_setting_text(c, s, "match"),
               *equals = pawl_setting_text(c, s, "equals");
    filter *x = calloc(1, sizeof *x);
    if (x == NULL)
        return connect_error(err, PAWL_MEMORY, "no memory");
    p->self = x;
    x->invert = pawl_setting_number(c, s, "invert") != 0;
    int rc = selector_make(&x->of, c, s, "of", err);
    if (rc < 0)
        return rc;
    if ((match != NULL) == (equals != NULL))
        return connect_error(err, PAWL_INVALID, "filter needs either match or equals");
    if (equals != NULL)
        x->equals = strdup(equals);
    pawl_error why;
    if (match != NULL)
        x->pattern = matcher_new(match, pawl_setting_number(c, s, "caseless") != 0,
                                 pawl_setting_number(c, s, "match_limit"), &why);
    if (match != NULL && x->pattern == NULL)
        return connect_error(err, why.code, "line %u: %s", pawl_setting_line(s, "match"),
                             why.message);
    return match != NULL || x->equals != NULL ? 0 : connect_error(err, PAWL_MEMORY, "no memory");
}

static int one(proc *p, pawl_context *ctx, const pawl_record *r, struct scratch *s,
               const char **why) {
    const filter *x = p->self;
    const char *bytes;
    size_t size;
    int got = selector_get(&x->of, r, s, &bytes, &size, why);
    if (got == 1)
        got = x->pattern != NULL ? matcher_run(x->pattern, s->space, bytes, size, why)
                                 : strlen(x->equals) == size && memcmp(x->equals, bytes, size) == 0;
    if (got < 0)
        return got == PAWL_MEMORY ? got : PAWL_PROCESSOR;
    *why = "it could not be emitted";
    return got != (int)x->invert ? proc_emit(p, ctx, 0, r, false) : 0;
}

static int process(proc *p, pawl_context *ctx, const pawl_record *records, size_t count) {
    return proc_each(p, ctx, records, count, ((const filter *)p->self)->pattern, one);
}

static const proc_type type = {
    .make = make,
    .process = process,
    .destroy = destroy,
};

static int make_processor(const pawl_settings *s, pawl_processor_ops *out, pawl_error *err) {
    return proc_make(&connect_processor_filter, &type, s, out, err);
}
