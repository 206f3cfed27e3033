/* SPDX-License-Identifier: Apache-2.0
 *
 * proc.c - between a type of this folder and the public functions.
 */
#include "processors/proc.h"

#include <stdlib.h>
#include <string.h>

static void destroy(void *self) {
    proc *p = self;
    if (p->self != NULL)
        p->type->destroy(p->self);
    for (uint32_t i = 0; i < p->output_count; i++) {
        free((char *)(uintptr_t)p->outputs[i].name);
        free((char *)(uintptr_t)p->outputs[i].value);
    }
    free(p->inputs);
    free(p->name);
    free(p);
}

static int start(void *self, pawl *log, const pawl_processor_place *at, pawl_error *err) {
    proc *p = self;
    free(p->name);
    free(p->inputs);
    p->name = strdup(at->name);
    p->inputs = calloc(at->input_count + 1, sizeof *p->inputs);
    if (p->name == NULL || p->inputs == NULL)
        return connect_error(err, PAWL_MEMORY, "no memory for processor %s", at->name);
    memcpy(p->inputs, at->inputs, at->input_count * sizeof *p->inputs);
    p->input_count = at->input_count;
    for (uint32_t i = 0; i < p->output_count; i++)
        p->to[i] = (struct proc_stream){at->outputs[i].id, at->outputs[i].partitions};
    return p->type->start != NULL ? p->type->start(p, log, err) : 0;
}

static int process(pawl_context *ctx, const pawl_record *records, size_t count, void *self) {
    proc *p = self;
    int rc = p->type->process(p, ctx, records, count);
    if (rc == 0)
        atomic_fetch_add(&p->taken, count);
    return rc;
}

static int timer(pawl_context *ctx, const pawl_timer *t, void *self) {
    proc *p = self;
    return p->type->timer(p, ctx, t);
}

static int event_time(pawl_context *ctx, const pawl_record *r, int64_t *time_ns, void *self) {
    proc *p = self;
    return p->type->event_time(p, ctx, r, time_ns);
}

static void counts(void *self, uint64_t *taken, uint64_t *emitted) {
    proc *p = self;
    *taken = atomic_load(&p->taken);
    *emitted = atomic_load(&p->emitted);
}

int proc_make(const pawl_connector *c, const proc_type *type, const pawl_settings *s,
              pawl_processor_ops *out, pawl_error *err) {
    proc *p = calloc(1, sizeof *p);
    if (p == NULL)
        return connect_error(err, PAWL_MEMORY, "no memory for a processor");
    p->type = type;
    p->time = (pawl_time_config)PAWL_TIME_CONFIG_INIT;
    int to, rc = proc_output_of(p, s, "to", &to, err);
    if (rc == 0)
        rc = type->make(p, s, err);
    if (rc < 0) {
        destroy(p);
        return rc;
    }
    if (type->timer != NULL) {
        p->time.on_timer = timer;
        p->time.event_time = type->event_time != NULL ? event_time : NULL;
        p->time.arg = p;
        out->time = &p->time;
    }
    out->flags = type->flags;
    out->type = c->type;
    out->self = p;
    out->outputs = p->outputs;
    out->output_count = p->output_count;
    out->start = start;
    out->process = process;
    out->counts = counts;
    out->destroy = destroy;
    return 0;
}

int proc_output(proc *p, const pawl_setting *s, pawl_error *err) {
    for (uint32_t i = 0; i < p->output_count; i++)
        if (strcmp(p->outputs[i].value, s->value) == 0)
            return (int)i;
    if (p->output_count == PROC_OUTPUTS_MAX)
        return connect_error(err, PAWL_LIMIT, "line %u: it writes to %d streams at most", s->line,
                             PROC_OUTPUTS_MAX);
    pawl_setting *out = &p->outputs[p->output_count++];
    *out = (pawl_setting){strdup(s->name), strdup(s->value), s->line};
    return out->name != NULL && out->value != NULL
               ? (int)p->output_count - 1
               : connect_error(err, PAWL_MEMORY, "no memory for a processor");
}

int proc_output_of(proc *p, const pawl_settings *s, const char *name, int *index, pawl_error *err) {
    *index = -1;
    for (size_t i = 0; s != NULL && i < s->count; i++)
        if (strcmp(s->items[i].name, name) == 0) {
            *index = proc_output(p, &s->items[i], err);
            return *index < 0 ? *index : 0;
        }
    return 0;
}

int proc_emit(proc *p, pawl_context *ctx, uint32_t output, const pawl_record *r, bool by_key) {
    const struct proc_stream *to = &p->to[output];
    int rc = pawl_emit(
        ctx, to->id,
        by_key && r->key_len != 0 ? PAWL_ANY : pawl_context_partition(ctx) % to->partitions, r);
    if (rc >= 0)
        atomic_fetch_add_explicit(&p->emitted, 1, memory_order_relaxed);
    return rc;
}

void proc_tell(pawl_context *ctx, size_t index, int code, const char *why) {
    if (code != PROC_TOLD)
        (code == PAWL_PROCESSOR || code == PAWL_TOO_LARGE ? pawl_refuse : pawl_fail)(ctx, index,
                                                                                     why);
}

int proc_batch(proc *p, pawl_context *ctx, const pawl_record *records, size_t count,
               const matcher *m, proc_one_fn one,
               int (*end)(proc *p, pawl_context *ctx, struct scratch *s, const char **why)) {
    struct scratch s = {.space = m != NULL ? matcher_space_new(m) : NULL};
    const char *why = "out of memory";
    int rc = m == NULL || s.space != NULL ? 0 : PAWL_MEMORY;
    if (rc < 0)
        pawl_fail(ctx, 0, why);
    for (size_t i = 0; i < count && rc >= 0; i++) {
        rc = one(p, ctx, &records[i], &s, &why);
        if (rc < 0)
            proc_tell(ctx, i, rc, why);
    }
    if (rc >= 0 && end != NULL && (rc = end(p, ctx, &s, &why)) < 0)
        proc_tell(ctx, count - 1, rc, why);
    matcher_space_free(s.space);
    buffer_free(&s.value);
    buffer_free(&s.own);
    buffer_free(&s.batch);
    return rc == PROC_TOLD ? PAWL_PROCESSOR : rc < 0 ? rc : 0;
}

int proc_each(proc *p, pawl_context *ctx, const pawl_record *records, size_t count,
              const matcher *m, proc_one_fn one) {
    return proc_batch(p, ctx, records, count, m, one, NULL);
}
