/* SPDX-License-Identifier: Apache-2.0
 *
 * rekey.c - gives each record a key, and puts it into the partition of that key. What counts or
 * joins by another part of a record than its key needs that, where its input has several
 * partitions.
 */
#include <stdlib.h>
#include <string.h>

#include "processors/grouping.h"

static const pawl_setting_info settings[] = {
    PROC_TO,
    GROUPING_SETTINGS,
    {NULL, 0, 0, NULL, NULL, NULL},
};
static int make_processor(const pawl_settings *s, pawl_processor_ops *out, pawl_error *err);
const pawl_connector connect_processor_rekey = {
    .type = "rekey",
    .help = "gives each record a key from a part of it, and puts it into the partition of that key",
    .settings = settings,
    .make_processor = make_processor,
};

static void destroy(void *self) {
    grouping_free(self);
    free(self);
}

static int make(proc *p, const pawl_settings *s, pawl_error *err) {
    p->self = calloc(1, sizeof(grouping));
    return p->self != NULL ? grouping_make(p->self, &connect_processor_rekey, s, err)
                           : connect_error(err, PAWL_MEMORY, "no memory");
}

struct one {
    proc *p;
    pawl_context *ctx;
    const pawl_record *record;
};

static int emit(void *arg, const char *text, size_t size, const char **why) {
    const struct one *o = arg;
    pawl_record out = *o->record;
    *why = "the key would be longer than 65,535 bytes";
    if (size > UINT16_MAX)
        return PAWL_TOO_LARGE;
    out.key = text;
    out.key_len = (uint16_t)size;
    *why = "it could not be emitted";
    return proc_emit(o->p, o->ctx, 0, &out, true);
}

static int one(proc *p, pawl_context *ctx, const pawl_record *r, struct scratch *s,
               const char **why) {
    return grouping_each(p->self, r, s, emit, &(struct one){p, ctx, r}, why);
}

static int process(proc *p, pawl_context *ctx, const pawl_record *records, size_t count) {
    return proc_each(p, ctx, records, count, ((const grouping *)p->self)->match, one);
}

static const proc_type type = {.make = make, .process = process, .destroy = destroy};

static int make_processor(const pawl_settings *s, pawl_processor_ops *out, pawl_error *err) {
    return proc_make(&connect_processor_rekey, &type, s, out, err);
}
