/* SPDX-License-Identifier: Apache-2.0
 *
 * Where each thing stands. docs/format.md, section 6, says how intervals join.
 */
#include "pipeline/outside.h"

#include <assert.h>
#include <stdlib.h>

#include "wal/error.h"

void tiles_init(struct tiles *t, struct mem *m) {
    *t = (struct tiles){.mem = m, .max = THINGS_MAX};
    lookup_init(&t->names, m);
    lookup_init(&t->ids, m);
}

void tiles_free(struct tiles *t) {
    for (uint32_t i = 0; i < t->count; i++)
        mem_free(t->mem, t->things[i].name, t->things[i].len);
    mem_free(t->mem, t->things, t->cap * sizeof *t->things);
    lookup_free(&t->names);
    lookup_free(&t->ids);
    uint32_t max = t->max;
    tiles_init(t, t->mem);
    t->max = max;
}

/* ---- the table */

static uint64_t hash_of(uint32_t stream, const char *name, uint32_t len) {
    return format_hash(name, len, stream);
}

static uint32_t name_hash(const struct tiles *t, uint64_t hash) {
    return lookup_hash(&t->names, hash, 0);
}

static uint32_t id_hash(const struct tiles *t, uint32_t id) {
    return lookup_hash(&t->ids, id, 0);
}

static struct thing *find(const struct tiles *t, uint64_t hash, uint32_t stream, const char *name,
                          uint32_t len) {
    const struct lookup *l = &t->names;
    uint32_t at, key = name_hash(t, hash);
    for (uint32_t i = lookup_first(l, key, &at); i != LOOKUP_NONE; i = lookup_next(l, key, &at)) {
        struct thing *x = &t->things[i];
        if (x->hash == hash && x->stream == stream && x->len == len &&
            memcmp(x->name, name, len) == 0)
            return x;
    }
    return NULL;
}

static void enter(struct tiles *t, uint32_t n) {
    if (!t->things[n].ended)
        lookup_add(&t->names, name_hash(t, t->things[n].hash), n);
    lookup_add(&t->ids, id_hash(t, t->things[n].id), n);
}

static int enter_all(struct tiles *t) {
    lookup_clear(&t->names);
    lookup_clear(&t->ids);
    TRY(lookup_reserve(&t->names, t->count));
    TRY(lookup_reserve(&t->ids, t->count));
    for (uint32_t i = 0; i < t->count; i++)
        enter(t, i);
    return 0;
}

static int newest_first(const void *a, const void *b) {
    const struct thing *x = a, *y = b;
    return x->lsn > y->lsn ? -1 : x->lsn < y->lsn;
}

/* Forgets the half that was not read for longest. */
static int forget_half(struct tiles *t) {
    qsort(t->things, t->count, sizeof *t->things, newest_first);
    TRY(enter_all(t)); /* forget() looks things up */
    while (t->count > t->max / 2) {
        struct thing *x = &t->things[t->count - 1];
        if (t->forget != NULL)
            t->forget(t->arg, x);
        mem_free(t->mem, x->name, x->len);
        t->count--;
        t->forgotten++;
    }
    assert(t->count < t->max); /* PAWL-11 */
    return enter_all(t);
}

static int make_room(struct tiles *t) {
    if (t->count == t->max)
        TRY(forget_half(t));
    if (t->count == t->cap) {
        uint32_t cap = t->cap == 0 ? 16 : t->cap * 2;
        void *q = mem_grow(t->mem, t->things, t->cap * sizeof *t->things, cap * sizeof *t->things);
        if (q == NULL)
            return fail(PAWL_MEMORY, "no memory for the audit");
        t->things = q;
        t->cap = cap;
    }
    TRY(lookup_reserve(&t->names, 1));
    return lookup_reserve(&t->ids, 1);
}

static int add(struct tiles *t, uint64_t hash, uint32_t stream, const char *name, uint32_t len,
               struct thing **out) {
    TRY(make_room(t));
    char *copy = mem_alloc(t->mem, len);
    if (copy == NULL)
        return fail(PAWL_MEMORY, "no memory for the audit");
    memcpy(copy, name, len);
    t->things[t->count] = (struct thing){
        .hash = hash, .name = copy, .stream = stream, .len = len, .id = ++t->last_id};
    enter(t, t->count);
    *out = &t->things[t->count++];
    return 0;
}

struct thing *tiles_by_id(struct tiles *t, uint32_t id) {
    uint32_t at, key = id_hash(t, id), i = lookup_first(&t->ids, key, &at);
    while (i != LOOKUP_NONE && (i >= t->count || t->things[i].id != id))
        i = lookup_next(&t->ids, key, &at);
    return i != LOOKUP_NONE ? &t->things[i] : NULL;
}

/* ---- what an interval means */

/* An interval that should begin at `at`. */
static enum tile judge(const struct tiles *t, const struct origin_entry *e, uint64_t at,
                       uint64_t losses, enum tile good) {
    if (e->from == at || (e->from > at && (e->flags & PAWL_OUTSIDE_SPARSE) != 0))
        return good;
    if (losses != t->losses)
        return TILE_AFTER_LOSS;
    return e->from > at ? TILE_GAP : TILE_OVERLAP;
}

/* A thing that begins here, or is met for the first time. */
static enum tile judge_new(const struct tiles *t, const struct origin_entry *e, bool known,
                           bool excused) {
    if ((e->flags & PAWL_OUTSIDE_BEGINS) != 0) {
        if (e->unit == PAWL_OUTSIDE_BYTES && e->from != 0)
            return TILE_NO_BEGINNING;
        return known ? TILE_BEGINS_AGAIN : TILE_BEGINS;
    }
    return excused || t->losses != 0 || t->forgotten != 0 ? TILE_TAKEN_UP : TILE_NO_BEGINNING;
}

/* The thing that the entry continues is over with that. */
static enum tile judge_continues(struct tiles *t, const struct origin_entry *e, bool excused,
                                 uint64_t *at) {
    struct thing *older =
        find(t, hash_of(e->stream, e->note, e->note_len), e->stream, e->note, e->note_len);
    if (older == NULL)
        return excused || t->losses != 0 || t->forgotten != 0 ? TILE_TAKEN_UP : TILE_NO_BEGINNING;
    *at = older->at;
    enum tile tile =
        older->over ? TILE_AFTER_END : judge(t, e, older->at, older->losses, TILE_CONTINUES);
    older->over = true;
    return tile;
}

int tiles_take(struct tiles *t, const struct origin_entry *e, bool excused, uint64_t lsn,
               enum tile *tile, struct thing **out, uint64_t *at) {
    uint64_t hash = hash_of(e->stream, e->thing, e->thing_len);
    struct thing *x = find(t, hash, e->stream, e->thing, e->thing_len);
    bool known = x != NULL, fresh = !known;
    *at = known ? x->at : 0;
    if ((e->flags & PAWL_OUTSIDE_CONTINUES) != 0) {
        *tile = judge_continues(t, e, excused, at);
        fresh = true;
    } else if (!known || (e->flags & PAWL_OUTSIDE_BEGINS) != 0) {
        *tile = judge_new(t, e, known, excused);
        *at = 0;
        fresh = true;
    } else if (x->over) {
        *tile = TILE_AFTER_END;
    } else {
        *tile = judge(t, e, x->at, x->losses, TILE_JOINS);
    }
    t->met += !known;
    if (fresh && known) {
        x->ended = true; /* its samples stay */
        lookup_remove(&t->names, name_hash(t, hash), (uint32_t)(x - t->things));
    }
    if (fresh)
        TRY(add(t, hash, e->stream, e->thing, e->thing_len, &x));
    x->at = e->to;
    x->lsn = lsn;
    x->losses = t->losses;
    x->unit = e->unit;
    x->records += e->records;
    /* PAWL-4: the next interval is judged by where this one ended; PAWL-11: things are bounded */
    assert(x->at >= e->from && !x->ended && t->count <= t->max);
    *out = x;
    return 0;
}
