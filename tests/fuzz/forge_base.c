/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "forge.h"

/* ---- memory: one block, given out from its beginning */

#define ARENA (24u << 20)
static uint8_t arena[ARENA];
static size_t arena_used;

void *forge_memory(size_t size) {
    size = (size_t)forge_align(size, 16);
    if (size > ARENA - arena_used)
        return NULL;
    void *p = arena + arena_used;
    arena_used += size;
    memset(p, 0, size);
    return p;
}

struct forge_frame *forge_frame_new(uint8_t kind) {
    struct forge_frame *f = forge_memory(sizeof *f);
    if (f != NULL)
        f->kind = kind;
    return f;
}

struct forge_run *forge_run_new(uint16_t type, uint32_t stream, uint32_t partition, uint32_t count,
                                const void *body, uint32_t len) {
    struct forge_run *r = forge_memory(sizeof *r);
    uint8_t *copy = forge_memory(len);
    if (r == NULL || copy == NULL)
        return NULL;
    if (len != 0)
        memcpy(copy, body, len);
    *r = (struct forge_run){.type = type,
                            .stream = stream,
                            .partition = partition,
                            .count = count,
                            .body = copy,
                            .len = len};
    return r;
}

struct forge_run *forge_run_copy(const struct forge_run *r) {
    struct forge_run *c =
        forge_run_new(r->type, r->stream, r->partition, r->count, r->body, r->len);
    if (c != NULL) {
        uint8_t *body = c->body;
        *c = *r;
        c->body = body;
    }
    return c;
}

struct forge_frame *forge_frame_copy(const struct forge_frame *f) {
    struct forge_frame *c = forge_frame_new(f->kind);
    if (c == NULL)
        return NULL;
    *c = *f;
    c->runs = 0;
    for (uint32_t i = 0; i < f->runs; i++)
        if (!forge_run_insert(c, i, forge_run_copy(f->run[i])))
            return NULL;
    return c;
}

bool forge_run_insert(struct forge_frame *f, uint32_t at, struct forge_run *r) {
    if (f == NULL || r == NULL || f->runs == FORGE_RUNS)
        return false;
    if (at > f->runs)
        at = f->runs;
    memmove(&f->run[at + 1], &f->run[at], (f->runs - at) * sizeof f->run[0]);
    f->run[at] = r;
    f->runs++;
    return true;
}

bool forge_frame_insert(struct forge_segment *s, uint32_t at, struct forge_frame *f) {
    if (f == NULL || s->frames == FORGE_FRAMES)
        return false;
    if (at > s->frames)
        at = s->frames;
    memmove(&s->frame[at + 1], &s->frame[at], (s->frames - at) * sizeof s->frame[0]);
    s->frame[at] = f;
    s->frames++;
    return true;
}

/* ---- runs, entry by entry */

static struct {
    uint8_t data[1024];
    uint32_t len, count;
} body;

static uint8_t *entry(uint32_t size) {
    if (body.len + size > sizeof body.data)
        abort();
    uint8_t *p = body.data + body.len;
    memset(p, 0, size);
    body.len += size;
    body.count++;
    return p;
}

static struct forge_run *run_of(uint16_t type, uint32_t stream, uint32_t partition) {
    struct forge_run *r = forge_run_new(type, stream, partition, body.count, body.data, body.len);
    body.len = body.count = 0;
    if (r == NULL)
        abort();
    return r;
}

static void text(uint8_t *at, const char *s) {
    memcpy(at, s, strlen(s));
}

static struct forge_run *records(uint32_t stream, uint32_t partition, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        uint8_t *e = entry(16 + 1 + 6 + 5);
        forge_put(e, 4, 5);
        forge_put(e + 4, 2, 1);
        forge_put(e + 6, 2, 6);
        forge_put(e + 8, 8, 1700000000000000000u + i);
        text(e + 16, "k");
        forge_put(e + 17, 2, 1); /* a header: n = v */
        forge_put(e + 19, 2, 1);
        text(e + 21, "nv");
        text(e + 23, "value");
    }
    return run_of(RECORDS, stream, partition);
}

static void change(uint16_t op, uint32_t id, uint64_t a, uint64_t b, const char *name) {
    uint8_t *e = entry((uint32_t)forge_align(24 + strlen(name), 8));
    forge_put(e, 2, op);
    forge_put(e + 2, 2, strlen(name));
    forge_put(e + 4, 4, id);
    forge_put(e + 8, 8, a);
    forge_put(e + 16, 8, b);
    text(e + 24, name);
}

static void position(uint32_t stream, uint32_t partition, uint64_t from, uint64_t to) {
    uint8_t *e = entry(32);
    forge_put(e, 4, 1);
    forge_put(e + 4, 4, stream);
    forge_put(e + 8, 4, partition);
    forge_put(e + 16, 8, from);
    forge_put(e + 24, 8, to);
}

static struct forge_run *producer(uint32_t id, uint32_t epoch, uint64_t first, uint64_t last) {
    uint8_t *e = entry(64);
    forge_put(e, 4, id);
    forge_put(e + 4, 4, epoch);
    forge_put(e + 8, 8, first);
    forge_put(e + 16, 8, last);
    return run_of(PRODUCERS, 0, 0);
}

static struct forge_run *sink(uint16_t op) {
    uint8_t *e = entry(16);
    forge_put(e, 4, 1);
    forge_put(e + 4, 2, op);
    forge_put(e + 6, 2, 2);
    text(e + 8, "t1");
    return run_of(SINKS, 0, 0);
}

static struct forge_run *origin(void) {
    uint8_t *e = entry(64);
    forge_put(e, 4, 1);
    forge_put(e + 4, 4, 1);
    forge_put(e + 16, 8, 35);
    forge_put(e + 24, 4, 5);
    forge_put(e + 28, 2, 1);
    e[31] = 1; /* lines */
    e[32] = 4;
    forge_put(e + 34, 2, 2);
    forge_put(e + 36, 4, 6);
    text(e + 48, "file");
    memcpy(e + 52, "\1\0\3\1\1\2", 6);
    return run_of(ORIGINS, 0, 0);
}

static struct forge_run *spilled(uint32_t stream, uint32_t partition, struct forge_frame *of) {
    (void)entry(24);
    struct forge_run *r = run_of(SPILLED, stream, partition);
    r->count = 2;
    r->spill = of;
    return r;
}

static struct forge_run *age(void) {
    uint8_t *e = entry(40);
    forge_put(e + 8, 8, 5000);
    forge_put(e + 16, 8, 1);
    forge_put(e + 24, 8, 1700000000000000000u);
    forge_put(e + 32, 4, 1);
    return run_of(CLOCK, 0, 0);
}

/* ---- frames */

static struct forge_frame *frame(uint8_t kind, bool group, struct forge_run *a, struct forge_run *b,
                                 struct forge_run *c) {
    struct forge_frame *f = forge_frame_new(kind);
    struct forge_run *runs[] = {a, b, c};
    if (f == NULL)
        abort();
    f->group = group;
    for (int i = 0; i < 3; i++)
        if (runs[i] != NULL)
            (void)forge_run_insert(f, f->runs, runs[i]);
    return f;
}

static void named(uint16_t type, uint32_t id, uint32_t partitions, const char *name) {
    uint32_t head = type == C_STREAMS ? 16 : type == C_PRODUCERS ? 72 : 8;
    uint8_t *e = entry((uint32_t)forge_align(head + strlen(name), 8));
    forge_put(e, 4, id);
    if (type == C_STREAMS)
        forge_put(e + 4, 4, partitions);
    forge_put(e + (type == C_STREAMS ? 8 : type == C_PRODUCERS ? 36 : 4), 4, strlen(name));
    text(e + head, name);
}

/* Three ids, then the number. */
static void ids(uint32_t a, uint32_t b, uint32_t c, uint32_t size) {
    uint8_t *e = entry(size);
    forge_put(e, 4, a);
    forge_put(e + 4, 4, b);
    if (size == 24)
        forge_put(e + 8, 4, c);
}

/* `n`: of the segment. Numbers that join are set when it is sealed. */
static struct forge_frame *checkpoint(uint32_t n) {
    struct forge_frame *f = frame(CHECKPOINT, true, NULL, NULL, NULL);
    uint32_t at = 0;
    if (n != 0) {
        named(C_STREAMS, 1, 2, "in");
        named(C_STREAMS, 2, 1, "out");
        if (n > 1)
            named(C_STREAMS, 3, 0, ""); /* deleted, and the highest that there was */
        (void)forge_run_insert(f, at++, run_of(C_STREAMS, 0, 0));
        ids(1, 0, 0, 16);
        ids(1, 1, 0, 16);
        ids(2, 0, 0, 16);
        (void)forge_run_insert(f, at++, run_of(C_NEXT, 0, 0));
        named(C_PRODUCERS, 1, 0, "a");
        named(C_PRODUCERS, 2, 0, n > 1 ? "c" : "b");
        (void)forge_run_insert(f, at++, run_of(C_PRODUCERS, 0, 0));
        named(C_PROCESSORS, 1, 0, "p");
        (void)forge_run_insert(f, at++, run_of(C_PROCESSORS, 0, 0));
        ids(1, 1, 0, 24);
        ids(1, 1, 1, 24);
        (void)forge_run_insert(f, at++, run_of(C_POSITIONS, 0, 0));
        uint8_t *e = entry(24);
        forge_put(e, 8, 1ull << 40);
        (void)forge_run_insert(f, at++, run_of(C_SETTINGS, 0, 0));
    }
    if (n == 1) {
        uint8_t *e = entry(16);
        forge_put(e, 4, 1);
        forge_put(e + 6, 2, 2);
        text(e + 8, "t1");
        (void)forge_run_insert(f, at++, run_of(C_SINKS, 0, 0));
    }
    if (n == 3) {
        uint8_t *e = entry(16);
        forge_put(e, 8, 2);
        forge_put(e + 8, 8, 1);
        (void)forge_run_insert(f, at++, run_of(C_SPANS, 0, 0));
    }
    uint8_t *e = entry(32);
    forge_put(e, 4, n == 0 ? 1 : n == 1 ? 3 : 4);
    forge_put(e + 4, 4, n == 0 ? 1 : 3);
    forge_put(e + 8, 4, n == 0 ? 1 : 2);
    (void)forge_run_insert(f, at++, run_of(C_IDS, 0, 0));
    (void)forge_run_insert(f, at++, age());
    return f;
}

struct forge_frame *forge_frame_usual(uint8_t kind) {
    switch (kind) {
    case COMMIT:
        return frame(COMMIT, false, records(1, 0, 2), NULL, NULL);
    case SPILL: {
        struct forge_run *r = records(1, 1, 2);
        r->base = UINT64_MAX;
        return frame(SPILL, false, r, NULL, NULL);
    }
    case WITNESS:
    case OPEN:
    case CLOSE:
        return frame(kind, kind != CLOSE, age(), NULL, NULL);
    case CHECKPOINT:
        return checkpoint(3);
    case SEAL:
        (void)entry(24);
        return frame(SEAL, false, run_of(INDEX, 0, 0), NULL, NULL);
    default:
        return frame(kind, false, NULL, NULL, NULL);
    }
}

struct forge_run *forge_run_usual(uint16_t type) {
    switch (type) {
    case RECORDS:
        return records(1, 0, 1);
    case SPILLED:
        return spilled(1, 1, NULL);
    case POSITIONS:
        position(1, 0, 5, 5);
        return run_of(POSITIONS, 0, 0);
    case PRODUCERS:
        return producer(1, 2, 2, 2);
    case CATALOG:
        change(1, 4, 1, 0, "more");
        return run_of(CATALOG, 0, 0);
    case SINKS:
        return sink(1);
    case ORIGINS:
        return origin();
    case CLOCK:
        return age();
    case C_STREAMS:
    case C_PRODUCERS:
    case C_PROCESSORS:
        named(type, 5, 1, "more");
        return run_of(type, 0, 0);
    default: {
        const struct forge_shape *s = forge_shape(type);
        (void)entry(s != NULL ? (uint32_t)forge_align(s->head + 2u, 8) : 24);
        return run_of(type, 0, 0);
    }
    }
}

/* ---- the log */

static struct forge_frame *add(struct forge_segment *s, struct forge_frame *f) {
    if (!forge_frame_insert(s, s->frames, f))
        abort();
    return f;
}

static void first_segment(struct forge_segment *s) {
    add(s, checkpoint(0));
    add(s, forge_frame_usual(OPEN));
    change(1, 1, 2, 0, "in");
    change(1, 2, 1, 0, "out");
    change(2, 1, 0, 0, "a");
    change(2, 2, 0, 0, "b");
    change(3, 1, 0, 0, "p");
    add(s, frame(COMMIT, true, run_of(CATALOG, 0, 0), NULL, NULL));
    struct forge_frame *f =
        add(s, frame(COMMIT, false, records(1, 0, 3), records(1, 1, 2), origin()));
    (void)forge_run_insert(f, 3, producer(1, 1, 1, 1));
    struct forge_run *early = records(1, 0, 2);
    early->base = UINT64_MAX;
    f = add(s, frame(SPILL, false, early, NULL, NULL));
    add(s, frame(COMMIT, true, spilled(1, 0, f), records(1, 0, 1), NULL));
    position(1, 0, 0, 3);
    position(1, 1, 0, 2);
    struct forge_run *positions = run_of(POSITIONS, 0, 0);
    add(s, frame(COMMIT, false, records(2, 0, 3), positions, sink(1)));
    add(s, forge_frame_usual(WITNESS));
    change(5, 0, 1ull << 40, 0, "");
    change(6, 0, 0, 0, "");
    change(7, 0, 1ull << 30, 0, "");
    add(s, frame(COMMIT, false, run_of(CATALOG, 0, 0), NULL, NULL));
    add(s, forge_frame_usual(SEAL));
}

/* The last frame is a SPILL that the next segment's commit refers to. */
static struct forge_frame *second_segment(struct forge_segment *s) {
    add(s, checkpoint(1));
    change(1, 3, 1, 0, "gone");
    struct forge_run *gone = run_of(CATALOG, 0, 0);
    add(s, frame(COMMIT, true, gone, records(3, 0, 1), NULL));
    change(8, 3, 0, 0, "");
    add(s, frame(COMMIT, false, run_of(CATALOG, 0, 0), NULL, NULL));
    change(9, 2, 2, 0, "c");
    struct forge_run *rename = run_of(CATALOG, 0, 0);
    add(s, frame(COMMIT, false, rename, producer(1, 2, 2, 1), NULL));
    add(s, frame(COMMIT, true, sink(2), NULL, NULL));
    struct forge_frame *spill = add(s, forge_frame_usual(SPILL));
    add(s, forge_frame_usual(SEAL));
    return spill;
}

struct forge *forge_begin(void) {
    static struct forge f;
    arena_used = 0;
    memset(&f, 0, sizeof f);
    memcpy(f.log_id, "a forger's log  ", 16);
    f.segments = 4;
    for (uint32_t i = 0; i < FORGE_SEGMENTS; i++) {
        f.segment[i].length = FORGE_SEGMENT;
        f.segment[i].name = i;
    }
    first_segment(&f.segment[0]);
    struct forge_frame *spill = second_segment(&f.segment[1]);
    struct forge_segment *s = &f.segment[2];
    add(s, checkpoint(2));
    add(s, frame(COMMIT, true, spilled(1, 1, spill), NULL, NULL));
    add(s, forge_frame_usual(CLOSE));
    add(s, forge_frame_usual(OPEN));
    position(1, 0, 3, 5);
    add(s, frame(COMMIT, true, records(2, 0, 1), run_of(POSITIONS, 0, 0), NULL));
    add(s, forge_frame_usual(SEAL));
    s = &f.segment[3];
    add(s, checkpoint(3));
    add(s, forge_frame_usual(COMMIT));
    add(s, forge_frame_usual(COMMIT));
    add(s, forge_frame_usual(CLOSE));
    return &f;
}
