/* SPDX-License-Identifier: Apache-2.0
 *
 * route.c - sends each record to the stream that belongs to a part of it.
 */
#include <stdlib.h>
#include <string.h>

#include "processors/proc.h"

typedef struct route {
    selector by;
    struct way {
        char *text;
        int output;
    } * ways;
    size_t count;
    int otherwise; /* output; -1: dropped */
} route;

static const pawl_setting_info settings[] = {
    {"by", PAWL_SETTING_TEXT, 0, NULL, "key", "what decides: key, value, json:PATH or header:NAME"},
    {"routes.*", PAWL_SETTING_TEXT, 0, NULL, NULL,
     "a text, and the stream that gets the records with it"},
    {"otherwise", PAWL_SETTING_TEXT, 0, NULL, NULL,
     "the stream for all others; dropped if not given"},
    {NULL, 0, 0, NULL, NULL, NULL},
};

static void destroy(void *self) {
    route *x = self;
    for (size_t i = 0; i < x->count; i++)
        free(x->ways[i].text);
    free(x->ways);
    free(x);
}

static int make(proc *p, const pawl_settings *s, pawl_error *err) {
    const pawl_connector *c = &proc_route.info;
    const char *otherwise = pawl_setting_text(c, s, "otherwise");
    route *x = calloc(1, sizeof *x);
    if (x == NULL)
        return proc_error(err, PAWL_MEMORY, "no memory");
    p->self = x;
    x->ways = calloc(s->count + 1, sizeof *x->ways);
    x->otherwise = otherwise != NULL ? proc_output(p, otherwise, proc_line(s, "otherwise")) : -1;
    if (!selector_parse(&x->by, pawl_setting_text(c, s, "by")))
        return proc_error(err, PAWL_INVALID,
                          "line %u: by must be key, value, json:PATH or header:NAME",
                          proc_line(s, "by"));
    for (size_t i = 0; x->ways != NULL && i < s->count; i++) {
        if (strncmp(s->items[i].name, "routes.", 7) != 0)
            continue;
        struct way *w = &x->ways[x->count++];
        w->text = strdup(s->items[i].name + 7);
        w->output = proc_output(p, s->items[i].value, s->items[i].line);
        if (w->text == NULL || w->output < 0)
            return proc_error(err, PAWL_LIMIT, "line %u: a route goes to %d streams at most",
                              s->items[i].line, PROC_OUTPUTS_MAX);
    }
    return x->count != 0
               ? 0
               : proc_error(err, PAWL_INVALID, "route needs routes: a text and a stream for each");
}

static int process(proc *p, pawl_context *ctx, const pawl_record *records, size_t count) {
    const route *x = p->self;
    for (size_t i = 0; i < count; i++) {
        const char *bytes, *why;
        char *owned;
        size_t size;
        int got = selector_get(&x->by, &records[i], &bytes, &size, &owned, &why),
            output = x->otherwise, rc = 0;
        for (size_t k = 0; got == 1 && k < x->count; k++)
            if (strlen(x->ways[k].text) == size && memcmp(x->ways[k].text, bytes, size) == 0) {
                output = x->ways[k].output;
                break;
            }
        free(owned);
        if (got < 0 ||
            (output >= 0 && (rc = proc_emit(p, ctx, (uint32_t)output, &records[i], false)) < 0)) {
            pawl_fail(ctx, i, got < 0 ? why : "it could not be emitted");
            return got < 0 ? PAWL_PROCESSOR : rc;
        }
    }
    return 0;
}

const proc_type proc_route = {
    .info = {"route",
             "sends each record to the stream that belongs to its key, or to another part of it",
             settings, NULL, NULL},
    .make = make,
    .process = process,
    .destroy = destroy,
};
