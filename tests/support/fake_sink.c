/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "tests/support/fake_sink.h"

struct fake *fake_new(void) {
    struct fake *f =
        mmap(NULL, sizeof *f, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert(f != MAP_FAILED);
    f->position = f->poison = UINT64_MAX;
    return f;
}

/* Fails one call in retry_every, at irregular intervals: before the call takes effect, or after. */
static bool due(struct fake *f, bool after) {
    if (!after)
        f->calls++;
    if (!after && f->retry_in != 0 && --f->retry_in == 0)
        return true;
    return f->retry_every != 0 && f->retry_after == after &&
           (f->retry_every == 1 || f->calls * 2654435761u / 65536 % f->retry_every == 0);
}

static int away(pawl_fault *e) {
    return pawl_fault_set(e, PAWL_RETRY, "the target is %s", "away");
}

static int fake_open(void *self, const pawl_sink_batch *b, pawl_fault *e) {
    struct fake *f = self;
    (void)b;
    f->begun = false;
    return due(f, false) ? away(e) : PAWL_DONE;
}

static int fake_begin(void *self, const pawl_sink_batch *b, pawl_fault *e) {
    struct fake *f = self;
    (void)b;
    assert(!f->begun);
    if (due(f, false))
        return away(e);
    memset(f->open, 0, sizeof f->open);
    f->begun = true;
    return PAWL_DONE;
}

static int fake_write(void *self, const pawl_sink_batch *b, const pawl_record *r, size_t count,
                      pawl_fault *e) {
    struct fake *f = self;
    (void)b;
    assert(f->begun && count > 0);
    if (due(f, false))
        return away(e);
    for (size_t i = 0; i < count; i++) {
        if (r[i].offset == f->poison && !f->poison_at_end) {
            if (!f->poison_untold)
                e->offset = f->poison + (f->poison_misnamed ? 1000 : 0);
            return pawl_fault_set(e, PAWL_POISON, "not a number");
        }
        f->open[r[i].offset]++;
    }
    return PAWL_DONE;
}

static bool bad_end(const struct fake *f) {
    return f->poison != UINT64_MAX && f->poison_at_end && f->open[f->poison] != 0;
}

static int fake_commit(void *self, const pawl_sink_batch *b, pawl_fault *e) {
    struct fake *f = self;
    assert(f->begun);
    if (due(f, false))
        return away(e);
    if (bad_end(f))
        return pawl_fault_set(e, PAWL_POISON, "a row violates a constraint");
    for (size_t i = 0; i < FAKE_RECORDS; i++)
        f->rows[i] += f->open[i];
    f->position = b->to;
    f->last_from = b->from, f->last_to = b->to;
    f->begun = false;
    return due(f, true) ? away(e) : PAWL_DONE;
}

static int fake_position(void *self, const pawl_sink_batch *b, uint64_t *offset, pawl_fault *e) {
    struct fake *f = self;
    (void)b;
    if (due(f, false))
        return away(e);
    *offset = f->position;
    return f->position == UINT64_MAX ? PAWL_GONE : PAWL_DONE;
}

static struct fake_prepared *find(struct fake *f, const char *name) {
    for (size_t i = 0; i < FAKE_PREPARED; i++)
        if (strcmp(f->prepared[i].name, name) == 0)
            return &f->prepared[i];
    return NULL;
}

static int fake_prepare(void *self, const pawl_sink_batch *b, pawl_fault *e) {
    struct fake *f = self;
    assert(f->begun && find(f, b->name) == NULL);
    if (due(f, false))
        return away(e);
    if (bad_end(f))
        return pawl_fault_set(e, PAWL_POISON, "a row violates a constraint");
    struct fake_prepared *p = find(f, "");
    assert(p != NULL);
    snprintf(p->name, sizeof p->name, "%s", b->name);
    p->from = b->from, p->to = b->to;
    memcpy(p->has, f->open, sizeof p->has);
    f->begun = false;
    return due(f, true) ? away(e) : PAWL_DONE;
}

static int fake_commit_prepared(void *self, const pawl_sink_batch *b, pawl_fault *e) {
    struct fake *f = self;
    struct fake_prepared *p = find(f, b->name);
    if (due(f, false))
        return away(e);
    if (p == NULL)
        return PAWL_GONE;
    if (f->poison_prepared)
        return pawl_fault_set(e, PAWL_POISON, "a row violates a constraint");
    for (size_t i = 0; i < FAKE_RECORDS; i++)
        f->rows[i] += p->has[i];
    f->marker = p->to > f->marker ? p->to : f->marker;
    f->position = p->to;
    p->name[0] = 0;
    return due(f, true) ? away(e) : PAWL_DONE;
}

static int fake_rollback_prepared(void *self, const pawl_sink_batch *b, pawl_fault *e) {
    struct fake *f = self;
    struct fake_prepared *p = find(f, b->name);
    if (due(f, false))
        return away(e);
    if (p == NULL)
        return PAWL_GONE;
    p->name[0] = 0;
    return PAWL_DONE;
}

static int fake_list(void *self, const char *prefix, pawl_prepared_fn fn, void *arg,
                     pawl_fault *e) {
    struct fake *f = self;
    if (due(f, false))
        return away(e);
    for (size_t i = 0; i < FAKE_PREPARED; i++)
        if (f->prepared[i].name[0] != 0 &&
            strncmp(f->prepared[i].name, prefix, strlen(prefix)) == 0)
            fn(arg, f->prepared[i].name);
    return PAWL_DONE;
}

static int fake_committed(void *self, const pawl_sink_batch *b, pawl_fault *e) {
    struct fake *f = self;
    if (f->untellable)
        return pawl_fault_set(e, PAWL_UNKNOWN, "no marker table");
    return f->marker >= b->to ? PAWL_DONE : PAWL_GONE;
}

static int fake_identity(void *self, const pawl_sink_batch *b, char *text, size_t size,
                         pawl_fault *e) {
    struct fake *f = self;
    (void)b;
    if (due(f, false))
        return away(e);
    snprintf(text, size, "%s", f->identity);
    return PAWL_DONE;
}

static void fake_abort(void *self) {
    ((struct fake *)self)->begun = false;
}

pawl_sink_ops fake_ops(struct fake *f, int kind) {
    pawl_sink_ops o = PAWL_SINK_OPS_INIT;
    o.kind = kind, o.type = "fake", o.self = f;
    o.open = fake_open, o.begin = fake_begin, o.write = fake_write, o.abort = fake_abort;
    o.commit = fake_commit, o.position = fake_position, o.prepare = fake_prepare;
    o.commit_prepared = fake_commit_prepared, o.rollback_prepared = fake_rollback_prepared;
    o.list_prepared = fake_list, o.committed = fake_committed;
    if (f->identity[0] != 0)
        o.identity = fake_identity;
    return o;
}
