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
static int make_processor(const pawl_settings *s, pawl_processor_ops *out, pawl_error *err);
const pawl_connector connect_processor_route = {
    .type = "route",
    .help = "sends each record to the stream that belongs to its key, or to another part of it",
    .settings = settings,
    .make_processor = make_processor,
};

static void destroy(void *self) {
    route *x = self;
    for (size_t i = 0; i < x->count; i++)
        free(x->ways[i].text);
    free(x->ways);
    selector_free(&x->by);
    free(x);
}

static int make(proc *p, const pawl_settings *s, pawl_error *err) {
    const pawl_connector *c = &connect_processor_route;
    route *x = calloc(1, sizeof *x);
    if (x == NULL)
        return connect_error(err, PAWL_MEMORY, "no memory");
    p->self = x;
    x->ways = calloc(s->count + 1, sizeof *x->ways);
    if (x->ways == NULL)
        return connect_error(err, PAWL_MEMORY, "no memory");
    int rc = proc_output_of(p, s, "otherwise", &x->otherwise, err);
    if (rc == 0)
        rc = selector_make(&x->by, c, s, "by", err);
    for (size_t i = 0; rc == 0 && i < s->count; i++) {
        if (strncmp(s->items[i].name, "routes.", 7) != 0)
            continue;
        struct way *w = &x->ways[x->count++];
        w->text = strdup(s->items[i].name + 7);
        if (w->text == NULL)
            return connect_error(err, PAWL_MEMORY, "no memory");
        w->output = proc_output(p, &s->items[i], err);
        rc = w->output < 0 ? w->output : 0;
    }
    if (rc == 0 && x->count == 0)
        return connect_error(err, PAWL_INVALID, "route needs routes: a text and a stream for each");
    return rc;
}

static int one(proc *p, pawl_context *ctx, const pawl_record *r, struct scratch *s,
               const char **why) {
    const route *x = p->self;
    const char *bytes;
    size_t size;
    int got = selector_get(&x->by, r, s, &bytes, &size, why), output = x->otherwise;
    if (got < 0)
        return got;
    for (size_t k = 0; got == 1 && k < x->count; k++)
        if (strlen(x->ways[k].text) == size && memcmp(x->ways[k].text, bytes, size) == 0) {
            output = x->ways[k].output;
            break;
        }
    *why = "it could not be emitted";
    return output >= 0 ? proc_emit(p, ctx, (uint32_t)output, r, false) : 0;
}

static int process(proc *p, pawl_context *ctx, const pawl_record *records, size_t count) {
    return proc_each(p, ctx, records, count, NULL, one);
}

static const proc_type type = {
    .make = make,
    .process = process,
    .destroy = destroy,
};

static int make_processor(const pawl_settings *s, pawl_processor_ops *out, pawl_error *err) {
    return proc_make(&connect_processor_route, &type, s, out, err);
}
