/* SPDX-License-Identifier: Apache-2.0
 *
 * count.c - counts records by a part of them. Its table has the count of each text, as decimal
 * digits; what it emits is the text as the key, and the count as the value.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "processors/grouping.h"
#include "processors/keeper.h"

enum { EMIT_EACH, EMIT_BATCH };

typedef struct count {
    grouping group;
    keeper keep;
    int to; /* output; -1: none */
    int emit;
    uint64_t every;
} count;

static const pawl_setting_info settings[] = {
    {"to", PAWL_SETTING_TEXT, 0, NULL, NULL,
     "the stream that gets the counts; without it they are only in the table"},
    GROUPING_SETTINGS,
    {"emit", PAWL_SETTING_CHOICE, 0, "each|batch", "each",
     "each new count, or once for each batch of records the newest count of each text in it"},
    {"every", PAWL_SETTING_NUMBER, 0, NULL, "1",
     "with emit: each, only the counts that can be divided by this"},
    {NULL, 0, 0, NULL, NULL, NULL},
};
static int make_processor(const pawl_settings *s, pawl_processor_ops *out, pawl_error *err);
const pawl_connector connect_processor_count = {
    .type = "count",
    .help = "counts records by their key or another part of them, in a table of its name",
    .settings = settings,
    .make_processor = make_processor,
};

static void destroy(void *self) {
    count *x = self;
    grouping_free(&x->group);
    keeper_free(&x->keep);
    free(x);
}

static int check_emit(const count *x, const pawl_settings *s, pawl_error *err) {
    uint32_t emit = 0, every = 0;
    for (size_t i = 0; i < s->count; i++) {
        emit = strcmp(s->items[i].name, "emit") == 0 ? s->items[i].line + 1 : emit;
        every = strcmp(s->items[i].name, "every") == 0 ? s->items[i].line + 1 : every;
    }
    if (x->to < 0 && (emit != 0 || every != 0))
        return connect_error(err, PAWL_INVALID, "line %u: %s has no meaning without to",
                             (emit != 0 ? emit : every) - 1, emit != 0 ? "emit" : "every");
    if (x->emit == EMIT_BATCH && every != 0)
        return connect_error(err, PAWL_INVALID, "line %u: every has no meaning with emit: batch",
                             every - 1);
    if (x->every == 0)
        return connect_error(err, PAWL_INVALID, "line %u: every must be at least 1", every - 1);
    return 0;
}

static int make(proc *p, const pawl_settings *s, pawl_error *err) {
    static const char *const matter[] = {"by", "match", "all", "caseless", NULL};
    const pawl_connector *c = &connect_processor_count;
    count *x = calloc(1, sizeof *x);
    if (x == NULL)
        return connect_error(err, PAWL_MEMORY, "no memory");
    p->self = x;
    int rc = proc_output_of(p, s, "to", &x->to, err);
    if (rc == 0)
        rc = grouping_make(&x->group, c, s, err);
    if (rc == 0)
        rc = keeper_make(&x->keep, c, s, matter, err);
    if (rc < 0)
        return rc;
    x->emit = connect_setting_choice(c, s, "emit");
    x->every = pawl_setting_number(c, s, "every");
    return check_emit(x, s, err);
}

static int start(proc *p, pawl *log, pawl_error *err) {
    count *x = p->self;
    return keeper_open(&x->keep, p, log, false, err);
}

/* ---- a record */

#define DIGITS_MAX 20

struct one {
    proc *p;
    pawl_context *ctx;
    const pawl_record *record;
    struct scratch *scratch;
};

/* What emit: batch gathers: this, then the text. */
struct changed {
    int64_t timestamp_ns;
    uint32_t size;
};

static bool parse(const char *text, size_t size, uint64_t *n) {
    *n = 0;
    for (size_t i = 0; i < size; i++) {
        if (text[i] < '0' || text[i] > '9' || __builtin_mul_overflow(*n, 10u, n) ||
            __builtin_add_overflow(*n, (uint64_t)(text[i] - '0'), n))
            return false;
    }
    return size != 0;
}

static int emit(proc *p, pawl_context *ctx, const char *text, size_t size, const void *digits,
                size_t length, int64_t timestamp_ns, const char **why) {
    const count *x = p->self;
    pawl_record r = {.key = text,
                     .key_len = (uint16_t)size,
                     .value = digits,
                     .value_len = (uint32_t)length,
                     .timestamp_ns = timestamp_ns};
    *why = "the count could not be emitted";
    return proc_emit(p, ctx, (uint32_t)x->to, &r, true);
}

static int count_text(void *arg, const char *text, size_t size, const char **why) {
    const struct one *o = arg;
    const count *x = o->p->self;
    const void *value;
    size_t length;
    uint64_t n = 0;
    char digits[DIGITS_MAX + 1];
    *why = "what it is counted by is longer than 8,192 bytes";
    if (size > PAWL_STATE_KEY_MAX)
        return PAWL_TOO_LARGE;
    int rc = pawl_state_get(o->ctx, x->keep.table, text, size, &value, &length);
    if (rc == 1 && (!parse(value, length, &n) || n == UINT64_MAX)) {
        pawl_broken(o->ctx, "its table has a value that is no count: somebody else has put it "
                            "there");
        return PROC_TOLD;
    }
    if (rc >= 0) {
        length = (size_t)snprintf(digits, sizeof digits, "%" PRIu64, ++n);
        rc = pawl_state_put(o->ctx, x->keep.table, text, size, digits, length);
    }
    if (rc < 0)
        return keeper_error(o->ctx, rc, why);
    if (x->to < 0 || (x->emit == EMIT_EACH && n % x->every != 0))
        return 0;
    if (x->emit == EMIT_EACH)
        return emit(o->p, o->ctx, text, size, digits, length, o->record->timestamp_ns, why);
    struct changed c = {o->record->timestamp_ns, (uint32_t)size};
    *why = "out of memory";
    return buffer_add(&o->scratch->batch, &c, sizeof c) &&
                   buffer_add(&o->scratch->batch, text, size)
               ? 0
               : PAWL_MEMORY;
}

static int one(proc *p, pawl_context *ctx, const pawl_record *r, struct scratch *s,
               const char **why) {
    const count *x = p->self;
    struct one o = {p, ctx, r, s};
    return grouping_each(&x->group, r, s, count_text, &o, why);
}

/* ---- the end of a batch */

static struct changed changed_at(const char *at) {
    struct changed c;
    memcpy(&c, at, sizeof c);
    return c;
}

/* By text, then in the order in which they came. */
static int in_order(const void *a, const void *b) {
    const char *x = *(const char *const *)a, *y = *(const char *const *)b;
    struct changed m = changed_at(x), n = changed_at(y);
    int order = memcmp(x + sizeof m, y + sizeof n, m.size < n.size ? m.size : n.size);
    if (order != 0 || m.size != n.size)
        return order != 0 ? order : m.size < n.size ? -1 : 1;
    return x < y ? -1 : x > y;
}

static int emit_changed(proc *p, pawl_context *ctx, const char *const *at, size_t n,
                        const char **why) {
    const count *x = p->self;
    for (size_t i = 0; i < n; i++) {
        struct changed c = changed_at(at[i]);
        const char *text = at[i] + sizeof c;
        const void *value;
        size_t length;
        if (i + 1 < n && changed_at(at[i + 1]).size == c.size &&
            memcmp(at[i + 1] + sizeof c, text, c.size) == 0)
            continue; /* the last one of the same text has the newest time */
        int rc = pawl_state_get(ctx, x->keep.table, text, c.size, &value, &length);
        if (rc < 0)
            return keeper_error(ctx, rc, why);
        if ((rc = emit(p, ctx, text, c.size, value, length, c.timestamp_ns, why)) < 0)
            return rc;
    }
    return 0;
}

static int end(proc *p, pawl_context *ctx, struct scratch *s, const char **why) {
    const char *bytes = s->batch.bytes;
    size_t n = 0;
    for (size_t at = 0; at < s->batch.len; n++)
        at += sizeof(struct changed) + changed_at(bytes + at).size;
    if (n == 0)
        return 0;
    const char **texts = calloc(n, sizeof *texts);
    *why = "out of memory";
    if (texts == NULL)
        return PAWL_MEMORY;
    for (size_t at = 0, i = 0; i < n; i++) {
        texts[i] = bytes + at;
        at += sizeof(struct changed) + changed_at(bytes + at).size;
    }
    qsort(texts, n, sizeof *texts, in_order);
    int rc = emit_changed(p, ctx, texts, n, why);
    free(texts);
    return rc;
}

static int process(proc *p, pawl_context *ctx, const pawl_record *records, size_t n) {
    return proc_batch(p, ctx, records, n, ((const count *)p->self)->group.match, one, end);
}

static const proc_type type = {
    .flags = PAWL_PROCESSOR_KEEPS_TABLES,
    .make = make,
    .start = start,
    .process = process,
    .destroy = destroy,
};

static int make_processor(const pawl_settings *s, pawl_processor_ops *out, pawl_error *err) {
    int rc = proc_make(&connect_processor_count, &type, s, out, err);
    if (rc == 0 && !((const count *)((const proc *)out->self)->self)->group.by_key)
        out->flags |= PAWL_PROCESSOR_ONE_PARTITION;
    return rc;
}
