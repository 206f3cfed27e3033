/* SPDX-License-Identifier: Apache-2.0
 *
 * dedup.c - drops a record whose id is among the last `window` ids that were let through, for
 * each partition by itself.
 *
 * Its state is not kept anywhere: it is, at any moment, the ids of the last `window` records of its
 * output partition, and is read back from there when it starts. Output and position are one commit,
 * so after a crash it is exactly what it was. That needs the output for itself, in as many
 * partitions as the input.
 *
 * So that retention leaves the window there, a second name, NAME.window, has positions in the
 * output. They follow its end at a distance of one to two windows.
 *
 * A batch whose commit failed comes again, so what it added is taken back first: the next batch
 * begins where that one ended if and only if that one was committed.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "processors/proc.h"

typedef struct part {
    uint64_t *ring;  /* hashes of ids, two words each, in order; `window` of them */
    uint64_t count;  /* ids ever added; the last min(count, window) are in the ring */
    uint32_t *table; /* open addressing: 1 + index in the ring; 0: free */
    uint64_t next;   /* offset after the last batch */
    uint64_t before; /* count before the last batch */
    uint64_t *old;   /* what the last batch overwrote in the ring, in order */
    size_t old_room;
    uint64_t held; /* position of NAME.window in the output */
} part;

typedef struct dedup {
    selector id;
    uint64_t window, slots; /* slots: power of two, at least twice the window */
    part *parts;
    uint32_t part_count;
    uint32_t holder; /* id of NAME.window */
} dedup;

static const pawl_setting_info settings[] = {
    PROC_TO,
    {"id", PAWL_SETTING_TEXT, 0, NULL, "key",
     "what makes records the same: key, value, json:PATH or header:NAME; a record without it is "
     "let through"},
    {"window", PAWL_SETTING_NUMBER, 0, NULL, "100000",
     "how many ids are remembered in each partition, 1 to 10000000; 24 bytes or so each"},
    {NULL, 0, 0, NULL, NULL, NULL},
};
static int make_processor(const pawl_settings *s, pawl_processor_ops *out, pawl_error *err);
const pawl_connector connect_processor_dedup = {
    .type = "dedup",
    .help = "drops records whose id came before, within a window",
    .settings = settings,
    .make_processor = make_processor,
};

static void forget_parts(dedup *x) {
    for (uint32_t i = 0; i < x->part_count; i++) {
        free(x->parts[i].ring);
        free(x->parts[i].table);
        free(x->parts[i].old);
    }
    free(x->parts);
    x->parts = NULL;
    x->part_count = 0;
}

static void destroy(void *self) {
    dedup *x = self;
    forget_parts(x);
    selector_free(&x->id);
    free(x);
}

static int make(proc *p, const pawl_settings *s, pawl_error *err) {
    const pawl_connector *c = &connect_processor_dedup;
    dedup *x = calloc(1, sizeof *x);
    if (x == NULL)
        return connect_error(err, PAWL_MEMORY, "no memory");
    p->self = x;
    x->window = pawl_setting_number(c, s, "window");
    int rc = selector_make(&x->id, c, s, "id", err);
    if (rc < 0)
        return rc;
    if (x->window < 1 || x->window > 10000000)
        return connect_error(err, PAWL_INVALID, "line %u: window must be from 1 to 10000000",
                             pawl_setting_line(s, "window"));
    for (x->slots = 16; x->slots < 2 * x->window; x->slots *= 2) {
    }
    return 0;
}

/* ---- the set */

/* 128 bits of two differently mixed FNV hashes: that two ids of a window meet is not to be
 * expected. */
static void hash(const char *bytes, size_t size, uint64_t h[2]) {
    h[0] = UINT64_C(0xcbf29ce484222325);
    h[1] = UINT64_C(0x9E3779B97F4A7C15) ^ size;
    for (size_t i = 0; i < size; i++) {
        h[0] = (h[0] ^ (unsigned char)bytes[i]) * UINT64_C(0x100000001b3);
        h[1] = (h[1] + (unsigned char)bytes[i]) * UINT64_C(0xff51afd7ed558ccd);
        h[1] ^= h[1] >> 29;
    }
    h[0] ^= h[0] >> 32;
    h[0] *= UINT64_C(0xc4ceb9fe1a85ec53);
    h[0] ^= h[0] >> 29;
}

/* The slot that holds the id, or the free one where it would go. */
static uint64_t slot_of(const dedup *x, const part *t, const uint64_t h[2]) {
    uint64_t at = h[0] & (x->slots - 1);
    while (t->table[at] != 0 && memcmp(&t->ring[2 * (t->table[at] - 1)], h, 16) != 0)
        at = (at + 1) & (x->slots - 1);
    return at;
}

/* Takes an id out of the table; what was displaced by it moves up. */
static void drop(const dedup *x, part *t, const uint64_t h[2]) {
    uint64_t hole = slot_of(x, t, h), mask = x->slots - 1;
    if (t->table[hole] == 0)
        return;
    for (uint64_t at = (hole + 1) & mask; t->table[at] != 0; at = (at + 1) & mask) {
        uint64_t home = t->ring[2 * (t->table[at] - 1)] & mask;
        if (((at - home) & mask) >= ((at - hole) & mask)) {
            t->table[hole] = t->table[at];
            hole = at;
        }
    }
    t->table[hole] = 0;
}

/* A record without an id takes a place in the window too, so that the window is the last records of
 * the output, no matter which. */
static void no_id(const part *t, uint64_t h[2]) {
    h[0] = t->count * UINT64_C(0x9E3779B97F4A7C15);
    h[1] = t->count;
}

static void add(const dedup *x, part *t, const uint64_t h[2]) {
    uint64_t index = t->count % x->window;
    if (t->count >= x->window)
        drop(x, t, &t->ring[2 * index]);
    memcpy(&t->ring[2 * index], h, 16);
    t->table[slot_of(x, t, h)] = (uint32_t)index + 1;
    t->count++;
}

/* Back to what it was before the last batch. */
static void take_back(const dedup *x, part *t) {
    while (t->count > t->before) {
        t->count--;
        uint64_t index = t->count % x->window;
        drop(x, t, &t->ring[2 * index]);
        if (t->count >= x->window) {
            memcpy(&t->ring[2 * index], &t->old[2 * (t->count - t->before)], 16);
            t->table[slot_of(x, t, &t->ring[2 * index])] = (uint32_t)index + 1;
        }
    }
}

/* ---- holding the window back from retention */

static int move(const dedup *x, pawl *log, const struct proc_stream *to, uint32_t partition,
                uint64_t from, uint64_t at, bool wait) {
    pawl_tx *tx;
    int rc = pawl_begin(log, &tx);
    if (rc < 0)
        return rc;
    rc = pawl_advance(tx, x->holder, to->id, partition, from, at);
    if (rc < 0) {
        pawl_abort(tx);
        return rc;
    }
    return connect_commit(tx, wait, NULL);
}

static int hold(dedup *x, part *t, const proc *p, pawl *log, const struct proc_stream *to,
                uint32_t partition) {
    char name[80];
    pawl_bounds b;
    snprintf(name, sizeof name, "%s.window", p->name);
    int rc = pawl_processor_register(log, name, &x->holder);
    if (rc < 0 || pawl_position_get(log, name, to->id, partition, &t->held) == 0)
        return rc < 0 ? rc : 0;
    rc = pawl_partition_bounds(log, to->id, partition, &b);
    if (rc < 0)
        return rc;
    t->held = b.first;
    return move(x, log, to, partition, b.first, b.first, true);
}

/* Now and then; that it fails (a full log) only keeps more. */
static void let_go(const dedup *x, part *t, pawl *log, const struct proc_stream *to,
                   uint32_t partition) {
    pawl_bounds b;
    if (pawl_partition_bounds(log, to->id, partition, &b) == 0 &&
        b.durable > t->held + 2 * x->window &&
        move(x, log, to, partition, t->held, b.durable - x->window, false) == 0)
        t->held = b.durable - x->window;
}

/* ---- reading it back */

static int read_back(dedup *x, part *t, pawl *log, const struct proc_stream *to, uint32_t partition,
                     int again) {
    pawl_bounds b;
    pawl_reader *r;
    int rc = pawl_partition_bounds(log, to->id, partition, &b);
    if (rc < 0)
        return rc;
    uint64_t from = b.end > x->window && b.end - x->window > b.first ? b.end - x->window : b.first;
    rc = pawl_reader_open(log, to->id, partition, from, PAWL_READ_UNCOMMITTED, &r);
    /* Retention has just dropped the first record: the window was not held yet, or it was made
     * larger. */
    if (rc == PAWL_TRIMMED && again > 0)
        return read_back(x, t, log, to, partition, again - 1);
    if (rc < 0)
        return rc;
    struct scratch own = {0};
    while (rc >= 0 && pawl_reader_position(r) < b.end) {
        pawl_batch batch;
        rc = pawl_read(r, 0, 1000, &batch);
        if (rc == PAWL_LOST) /* taken out by repair */
            rc = 0;
        for (size_t i = 0; rc > 0 && i < batch.count; i++) {
            const char *bytes, *why;
            size_t size;
            uint64_t h[2];
            if (selector_get(&x->id, &batch.records[i], &own, &bytes, &size, &why) == 1)
                hash(bytes, size, h);
            else
                no_id(t, h);
            if (t->table[slot_of(x, t, h)] == 0)
                add(x, t, h);
        }
    }
    buffer_free(&own.own);
    pawl_reader_close(r);
    t->before = t->count;
    return rc < 0 ? rc : 0;
}

static int start(proc *p, pawl *log, pawl_error *err) {
    dedup *x = p->self;
    const struct proc_stream *to = &p->to[0];
    uint32_t partitions = to->partitions; /* as many as the input's: it keeps state */
    forget_parts(x);                      /* of an earlier start */
    x->parts = calloc(partitions, sizeof *x->parts);
    for (uint32_t i = 0; x->parts != NULL && i < partitions; i++) {
        part *t = &x->parts[i];
        x->part_count = i + 1;
        t->ring = calloc(2 * x->window, sizeof *t->ring);
        t->table = calloc(x->slots, sizeof *t->table);
        if (t->ring == NULL || t->table == NULL)
            return connect_error(err, PAWL_MEMORY, "no memory for the window of %s", p->name);
        int rc = hold(x, t, p, log, to, i);
        if (rc == 0)
            rc = read_back(x, t, log, to, i, 20);
        if (rc < 0)
            return connect_error(err, rc, "reading back what %s let through: %s", p->name,
                                 pawl_strerror(rc));
    }
    return x->parts != NULL ? 0 : connect_error(err, PAWL_MEMORY, "no memory for %s", p->name);
}

/* ---- a batch */

static bool begin_batch(const dedup *x, part *t, const pawl_record *records, size_t count) {
    if (records[0].offset < t->next)
        take_back(x, t);
    t->before = t->count;
    t->next = records[count - 1].offset + 1;
    if (t->old_room < count) {
        uint64_t *q = realloc(t->old, 2 * count * sizeof *q);
        if (q == NULL)
            return false;
        t->old = q;
        t->old_room = count;
    }
    return true;
}

static int one(proc *p, pawl_context *ctx, const pawl_record *r, struct scratch *s,
               const char **why) {
    const dedup *x = p->self;
    part *t = &x->parts[pawl_context_partition(ctx)];
    const char *bytes;
    size_t size;
    uint64_t h[2];
    int got = selector_get(&x->id, r, s, &bytes, &size, why);
    if (got < 0)
        return got;
    if (got == 1)
        hash(bytes, size, h);
    else
        no_id(t, h);
    if (got == 1 && t->table[slot_of(x, t, h)] != 0)
        return 0; /* seen */
    if (t->count >= x->window)
        memcpy(&t->old[2 * (t->count - t->before)], &t->ring[2 * (t->count % x->window)], 16);
    add(x, t, h);
    *why = "it could not be emitted";
    return proc_emit(p, ctx, 0, r, false);
}

static int process(proc *p, pawl_context *ctx, const pawl_record *records, size_t count) {
    dedup *x = p->self;
    part *t = &x->parts[pawl_context_partition(ctx)];
    if (!begin_batch(x, t, records, count)) {
        pawl_fail(ctx, 0, "out of memory");
        return PAWL_MEMORY;
    }
    int rc = proc_each(p, ctx, records, count, NULL, one);
    if (rc < 0)
        return rc;
    let_go(x, t, pawl_context_log(ctx), &p->to[0], pawl_context_partition(ctx));
    return 0;
}

static const proc_type type = {
    .flags = PAWL_PROCESSOR_KEEPS_STATE,
    .make = make,
    .start = start,
    .process = process,
    .destroy = destroy,
};

static int make_processor(const pawl_settings *s, pawl_processor_ops *out, pawl_error *err) {
    return proc_make(&connect_processor_dedup, &type, s, out, err);
}
