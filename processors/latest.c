/* SPDX-License-Identifier: Apache-2.0
 *
 * latest.c - the newest value of each key, in a table; what it emits is each value that differs
 * from the one before. Two types do this:
 *
 *   last    any value counts, also an empty one
 *   table   the table of a stream of changes: a record with an empty value deletes its key's pair,
 *           and is emitted if there was one
 */
#include <stdlib.h>
#include <string.h>

#include "processors/grouping.h"
#include "processors/keeper.h"

typedef struct latest {
    grouping group;
    selector of;
    keeper keep;
    int to; /* output; -1: none */
    bool deletes;
} latest;

#define LATEST_SETTINGS \
    GROUPING_SETTINGS, { \
        "of", PAWL_SETTING_TEXT, 0, NULL, "value", \
            "what is kept of a record: value, key, json:PATH or header:NAME" \
    }

static const pawl_setting_info last_settings[] = {
    {"to", PAWL_SETTING_TEXT, 0, NULL, NULL,
     "the stream that gets each value that is another than before; without it they are only in the "
     "table"},
    LATEST_SETTINGS,
    {NULL, 0, 0, NULL, NULL, NULL},
};
static const pawl_setting_info table_settings[] = {
    {"to", PAWL_SETTING_TEXT, 0, NULL, NULL,
     "the stream that gets each change of the table, deletions as records with an empty value; "
     "without it the values are only in the table"},
    LATEST_SETTINGS,
    {NULL, 0, 0, NULL, NULL, NULL},
};
static int make_last(const pawl_settings *s, pawl_processor_ops *out, pawl_error *err);
static int make_table(const pawl_settings *s, pawl_processor_ops *out, pawl_error *err);
const pawl_connector connect_processor_last = {
    .type = "last",
    .help = "keeps the newest value of each key in a table of its name, and tells when it changes",
    .settings = last_settings,
    .make_processor = make_last,
};
const pawl_connector connect_processor_table = {
    .type = "table",
    .help = "makes a table of its name from a stream: the newest value of each key; an empty value "
            "deletes",
    .settings = table_settings,
    .make_processor = make_table,
};

static void destroy(void *self) {
    latest *x = self;
    grouping_free(&x->group);
    selector_free(&x->of);
    keeper_free(&x->keep);
    free(x);
}

static int make(proc *p, const pawl_connector *c, const pawl_settings *s, pawl_error *err) {
    static const char *const matter[] = {"by", "match", "all", "caseless", "of", NULL};
    latest *x = calloc(1, sizeof *x);
    if (x == NULL)
        return connect_error(err, PAWL_MEMORY, "no memory");
    p->self = x;
    x->deletes = c == &connect_processor_table;
    int rc = proc_output_of(p, s, "to", &x->to, err);
    if (rc == 0)
        rc = grouping_make(&x->group, c, s, err);
    if (rc == 0)
        rc = selector_make(&x->of, c, s, "of", err);
    return rc == 0 ? keeper_make(&x->keep, c, s, matter, err) : rc;
}

static int prepare_last(proc *p, const pawl_settings *s, pawl_error *err) {
    return make(p, &connect_processor_last, s, err);
}

static int prepare_table(proc *p, const pawl_settings *s, pawl_error *err) {
    return make(p, &connect_processor_table, s, err);
}

static int start(proc *p, pawl *log, pawl_error *err) {
    latest *x = p->self;
    return keeper_open(&x->keep, p, log, false, err);
}

/* ---- a record */

struct one {
    proc *p;
    pawl_context *ctx;
    const pawl_record *record;
    const char *value; /* what is kept; NULL: the pair is deleted */
    size_t size;
};

/* Changes the pair. 1: that was a change. */
static int change(const struct one *o, const char *key, size_t size) {
    const latest *x = o->p->self;
    const void *before;
    size_t length;
    if (o->value == NULL)
        return pawl_state_delete(o->ctx, x->keep.table, key, size);
    int rc = pawl_state_get(o->ctx, x->keep.table, key, size, &before, &length);
    if (rc == 1 && length == o->size && memcmp(before, o->value, length) == 0)
        return 0;
    if (rc >= 0)
        rc = pawl_state_put(o->ctx, x->keep.table, key, size, o->value, o->size);
    return rc < 0 ? rc : 1;
}

static int keep_text(void *arg, const char *text, size_t size, const char **why) {
    const struct one *o = arg;
    const latest *x = o->p->self;
    *why = "its key is longer than 8,192 bytes";
    if (size > PAWL_STATE_KEY_MAX)
        return PAWL_TOO_LARGE;
    int rc = change(o, text, size);
    if (rc < 0)
        return keeper_error(o->ctx, rc, why);
    if (rc == 0 || x->to < 0)
        return 0;
    pawl_record out = *o->record;
    out.key = text;
    out.key_len = (uint16_t)size;
    out.value = o->value;
    out.value_len = (uint32_t)o->size;
    *why = "it could not be emitted";
    return proc_emit(o->p, o->ctx, (uint32_t)x->to, &out, true);
}

static int one(proc *p, pawl_context *ctx, const pawl_record *r, struct scratch *s,
               const char **why) {
    const latest *x = p->self;
    struct one o = {p, ctx, r, NULL, 0};
    if (!x->deletes || r->value_len != 0) {
        int got = selector_get(&x->of, r, s, &o.value, &o.size, why);
        if (got < 0)
            return got;
        *why = "it has nothing of what `of` names";
        if (got == 0)
            return x->group.must ? PAWL_PROCESSOR : 0;
        /* the value may lie in the buffer that the next selector uses */
        struct buffer used = s->own;
        s->own = s->value;
        s->value = used;
    }
    return grouping_each(&x->group, r, s, keep_text, &o, why);
}

static int process(proc *p, pawl_context *ctx, const pawl_record *records, size_t count) {
    return proc_each(p, ctx, records, count, ((const latest *)p->self)->group.match, one);
}

static const proc_type last_type = {
    .flags = PAWL_PROCESSOR_KEEPS_TABLES,
    .make = prepare_last,
    .start = start,
    .process = process,
    .destroy = destroy,
};
static const proc_type table_type = {
    .flags = PAWL_PROCESSOR_KEEPS_TABLES,
    .make = prepare_table,
    .start = start,
    .process = process,
    .destroy = destroy,
};

static int make_processor(const pawl_connector *c, const proc_type *type, const pawl_settings *s,
                          pawl_processor_ops *out, pawl_error *err) {
    int rc = proc_make(c, type, s, out, err);
    if (rc == 0 && !((const latest *)((const proc *)out->self)->self)->group.by_key)
        out->flags |= PAWL_PROCESSOR_ONE_PARTITION;
    return rc;
}

static int make_last(const pawl_settings *s, pawl_processor_ops *out, pawl_error *err) {
    return make_processor(&connect_processor_last, &last_type, s, out, err);
}

static int make_table(const pawl_settings *s, pawl_processor_ops *out, pawl_error *err) {
    return make_processor(&connect_processor_table, &table_type, s, out, err);
}
