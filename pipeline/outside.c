/* SPDX-License-Identifier: Apache-2.0
 *
 * The audit of what was read outside: takes each commit's ORIGINS apart, finds the records that
 * they cover, and tells what is wrong. A finding is told while it is new; after the first hundred
 * of a kind they are counted only.
 */
#include "pipeline/outside.h"

#include <assert.h>
#include <stdio.h>

#include "pipeline/tables.h"
#include "recovery/verify.h"
#include "wal/error.h"

#define TOLD_MAX 100u
#define PRODUCERS_TOLD 16385u /* ids start at 1 */
#define PENDING_MAX 1024u
#define SHOWN 160 /* bytes of a name in a message */

/* Records of a commit in one partition: where to read the next one. */
struct cursor {
    uint32_t stream, partition;
    uint32_t run;  /* its number in the directory; UINT32_MAX: none yet */
    uint32_t then; /* the number of the next one; UINT32_MAX: there is none */
    uint32_t left; /* records of that run */
    uint32_t at;
    const struct content *spilled; /* its next record, if the run is spilled */
};

/* A stretch that ended: whether it is most of a thing shows in the end. */
struct pending {
    struct match match;
    uint32_t mine;
};

enum kind { FAULTS, PASSED, REMARKS, KINDS };

struct outside {
    struct mem *mem;
    pawl_check *check;
    uint64_t segment_size;
    bool cut; /* older segments are gone */
    struct tiles tiles;
    struct twice twice;
    struct spills spills;
    uint8_t silent[PRODUCERS_TOLD / 8 + 1]; /* producers with commits that name nothing */
    struct cursor *cursors; /* one for each partition that the commit has records of, */
    uint32_t cursor_count, cursor_cap;
    struct lookup cursor_lookup;
    uint32_t *then; /* and for each of its runs the next one of the partition */
    uint32_t then_cap;
    bool cursors_made;
    struct pending *pending;
    uint32_t pending_count;
    uint64_t unread; /* intervals whose content was not compared */
    uint64_t told[KINDS], untold[KINDS];
    const struct frame_header *h;
    const uint8_t *frame;
    const struct tables *tables;
};

/* ---- telling */

/* A thing's name, fit to be shown. */
static const char *shown(char out[SHOWN + 4], const char *name, uint32_t len) {
    size_t used, n = pawl_show(name, len, &used, out, SHOWN + 1);
    strcpy(out + n, used < len ? "..." : "");
    return out;
}

static const char *stream_name(const struct outside *o, uint32_t id) {
    const struct stream *s = o->tables != NULL ? tables_stream(o->tables, id) : NULL;
    return s != NULL ? s->name : "?";
}

static const char *unit_of(uint8_t unit) {
    static const char *const units[] = {"bytes", "messages", "rows"};
    return unit <= PAWL_OUTSIDE_ROWS ? units[unit] : "numbers";
}

/* Counts a finding. True: it is told, too. */
static bool tells(struct outside *o, enum kind kind, int code) {
    if (o->told[kind] < TOLD_MAX) {
        o->told[kind]++;
        return true;
    }
    o->untold[kind]++;
    o->check->problems += code != 0;
    return false;
}

static void tell_tile(struct outside *o, const struct origin_entry *e, enum tile tile,
                      uint64_t at) {
    char thing[SHOWN + 4], note[SHOWN + 4];
    unsigned long long from = e->from, to = e->to, was = at, low = from < was ? from : was,
                       high = from < was ? (to < was ? to : was) : from;
    const char *stream = stream_name(o, e->stream), *unit = unit_of(e->unit);
    uint64_t segment = o->h->lsn / o->segment_size, lsn = o->h->lsn;
    bool fault = tile_is_fault(tile);
    shown(thing, e->thing, e->thing_len);
    shown(note, e->note, e->note_len);
    if (!tells(o, fault ? FAULTS : REMARKS, fault ? PAWL_TILING : 0))
        return;
    if (tile == TILE_AFTER_LOSS)
        verify_tell(o->check, 0, segment, lsn, 0, "outside-lost",
                    "stream %s: %s: an interval ended at %llu and this one begins at %llu, after "
                    "frames that are lost",
                    stream, thing, was, from);
    else if (tile == TILE_GAP)
        verify_tell(o->check, PAWL_TILING, segment, lsn, 0, "outside-gap",
                    "stream %s: %s: %s %llu to %llu were never read", stream, thing, unit, low,
                    high);
    else if (tile == TILE_OVERLAP)
        verify_tell(o->check, PAWL_TILING, segment, lsn, 0, "outside-overlap",
                    "stream %s: %s: %s %llu to %llu were read again (it had been read to %llu)",
                    stream, thing, unit, low, high, was);
    else if (tile == TILE_NO_BEGINNING && (e->flags & PAWL_OUTSIDE_CONTINUES) != 0)
        verify_tell(o->check, PAWL_TILING, segment, lsn, 0, "outside-gap",
                    "stream %s: %s continues %s at %llu, which was never read", stream, thing, note,
                    from);
    else if (tile == TILE_NO_BEGINNING)
        verify_tell(o->check, PAWL_TILING, segment, lsn, 0, "outside-gap",
                    "stream %s: %s: its first interval begins at %llu, and nothing says what "
                    "became of the %s before",
                    stream, thing, from, unit);
    else
        verify_tell(o->check, PAWL_TILING, segment, lsn, 0, "outside-overlap",
                    "stream %s: %s is read from %llu on, but another thing continues %s already",
                    stream, thing, from, (e->flags & PAWL_OUTSIDE_CONTINUES) != 0 ? note : "it");
}

static void tell_passed(struct outside *o, const struct origin_entry *e) {
    char thing[SHOWN + 4], note[SHOWN + 4];
    o->check->passed_over++;
    if (!tells(o, PASSED, 0))
        return;
    verify_tell(o->check, 0, o->h->lsn / o->segment_size, o->h->lsn, 0, "passed-over",
                "stream %s: %s: %s %llu to %llu were passed over: %s", stream_name(o, e->stream),
                shown(thing, e->thing, e->thing_len), unit_of(e->unit), (unsigned long long)e->from,
                (unsigned long long)e->to, shown(note, e->note, e->note_len));
}

static void tell_twice(struct outside *o, const struct thing *mine, const struct thing *other,
                       const struct match *m) {
    char a[SHOWN + 4], b[SHOWN + 4];
    o->check->twice++;
    if (!tells(o, FAULTS, PAWL_TILING))
        return;
    verify_tell(o->check, PAWL_TILING, m->lsn / o->segment_size, m->lsn, 0, "outside-twice",
                "stream %s: the same content came twice: %s %llu to %llu of %s, and of %s%s "
                "(%s%llu records). Well only if these are two things with the same content",
                stream_name(o, mine->stream), unit_of(mine->unit), (unsigned long long)m->from,
                (unsigned long long)m->to, shown(a, other->name, other->len),
                shown(b, mine->name, mine->len),
                mine->hash == other->hash ? " when it began again" : "",
                o->twice.rate != 0 ? "about " : "", (unsigned long long)m->records);
}

/* ---- content that came twice */

static void judge_pending(struct outside *o, const struct pending *p) {
    struct thing *mine = tiles_by_id(&o->tiles, p->mine),
                 *other = tiles_by_id(&o->tiles, p->match.partner);
    if (mine == NULL || other == NULL)
        return;
    if (twice_counts(&p->match, mine->records, other->records))
        tell_twice(o, mine, other, &p->match);
}

static void judge_all_pending(struct outside *o) {
    for (uint32_t i = 0; i < o->pending_count; i++)
        judge_pending(o, &o->pending[i]);
    o->pending_count = 0;
}

/* A stretch of equal records has ended. How much of the two things it is shows in the end. */
static void match_ended(struct outside *o, uint32_t mine, const struct match *m) {
    if (!twice_counts(m, 0, 0))
        return;
    if (o->pending_count == PENDING_MAX)
        judge_all_pending(o);
    assert(o->pending_count < PENDING_MAX); /* PAWL-11 */
    o->pending[o->pending_count++] = (struct pending){*m, mine};
}

static void forget(void *arg, struct thing *t) {
    struct outside *o = arg;
    uint32_t kept = 0;
    match_ended(o, t->id, &t->match);
    for (uint32_t i = 0; i < o->pending_count; i++)
        if (o->pending[i].mine == t->id || o->pending[i].match.partner == t->id)
            judge_pending(o, &o->pending[i]);
        else
            o->pending[kept++] = o->pending[i];
    o->pending_count = kept;
}

/* ---- the records that an entry covers */

static struct cursor *cursor_find(const struct outside *o, uint32_t stream, uint32_t partition) {
    const struct lookup *l = &o->cursor_lookup;
    uint32_t at, hash = lookup_hash(l, stream, partition);
    for (uint32_t i = lookup_first(l, hash, &at); i != LOOKUP_NONE; i = lookup_next(l, hash, &at))
        if (o->cursors[i].stream == stream && o->cursors[i].partition == partition)
            return &o->cursors[i];
    return NULL;
}

static int cursor_add(struct outside *o, uint32_t stream, uint32_t partition, struct cursor **out) {
    struct lookup *l = &o->cursor_lookup;
    if (lookup_reserve(l, 1) < 0 || tables_grow(o->mem, (void **)&o->cursors, o->cursor_count,
                                                &o->cursor_cap, sizeof *o->cursors) < 0)
        return fail(PAWL_MEMORY, "no memory for the audit");
    lookup_add(l, lookup_hash(l, stream, partition), o->cursor_count);
    *out = &o->cursors[o->cursor_count++];
    **out = (struct cursor){
        .stream = stream, .partition = partition, .run = UINT32_MAX, .then = UINT32_MAX};
    return 0;
}

/* A cursor for each partition of the commit, in one pass over its runs from the last to the
 * first. */
static int make_cursors(struct outside *o) {
    o->cursor_count = 0;
    lookup_clear(&o->cursor_lookup);
    while (o->then_cap < o->h->runs)
        TRY(tables_grow(o->mem, (void **)&o->then, o->then_cap, &o->then_cap, sizeof *o->then));
    for (uint32_t i = o->h->runs; i-- > 0;) {
        struct run r;
        const uint8_t *ignored;
        frame_run(o->frame, o->h, i, &r, &ignored);
        if (!run_has_records(&r))
            continue;
        struct cursor *c = cursor_find(o, r.stream, r.partition);
        if (c == NULL)
            TRY(cursor_add(o, r.stream, r.partition, &c));
        o->then[i] = c->then;
        c->then = i;
    }
    o->cursors_made = true;
    return 0;
}

static int cursor_of(struct outside *o, uint32_t stream, uint32_t partition, struct cursor **out) {
    if (!o->cursors_made)
        TRY(make_cursors(o));
    *out = cursor_find(o, stream, partition);
    return *out != NULL ? 0 : cursor_add(o, stream, partition, out);
}

/* The next record of a partition; its hash is left to the caller where *value isn't NULL. False:
 * it is in a SPILL frame that isn't kept, or there is none. */
static bool next_record(const struct outside *o, struct cursor *c, const void **value,
                        struct content *out) {
    pawl_record record;
    struct run r;
    const uint8_t *data;
    while (c->left == 0) {
        if (c->then == UINT32_MAX)
            return false;
        c->run = c->then;
        c->then = o->then[c->run];
        frame_run(o->frame, o->h, c->run, &r, &data);
        const struct spilled_run *s =
            r.type == RUN_SPILLED ? spills_find(&o->spills, &r, data) : NULL;
        if (r.type == RUN_SPILLED && s == NULL)
            return false;
        c->spilled = s != NULL ? s->of : NULL;
        c->left = r.count;
        c->at = 0;
    }
    c->left--;
    *value = NULL;
    if (c->spilled != NULL) {
        *out = *c->spilled++;
        return true;
    }
    frame_run(o->frame, o->h, c->run, &r, &data);
    if (!record_decode(data, r.len, &c->at, &record))
        return false;
    *value = record.value;
    out->len = record.value_len;
    return true;
}

/* Where the i-th record of an entry began and ended. `mark` is that of the record before. */
static void move_mark(const struct origin_entry *e, uint32_t i, uint32_t *marks_at, uint64_t *mark,
                      uint64_t *end, uint32_t len) {
    if (i == 0)
        *mark = *end = e->from;
    if (e->mark_kind == PAWL_MARKS_LINES)
        *mark = *end;
    else if (e->mark_kind != PAWL_MARKS_GIVEN || !mark_get(e->marks, e->marks_len, marks_at, mark))
        *mark = e->from + i;
    *end = e->mark_kind == PAWL_MARKS_NUMBERS ? *mark + 1 : *mark + len + (uint64_t)e->step;
}

/* Messages of two connections may well be alike. */
static bool compares(const struct origin_entry *e) {
    return e->unit != PAWL_OUTSIDE_MESSAGES && e->mark_kind >= PAWL_MARKS_LINES &&
           e->mark_kind <= PAWL_MARKS_GIVEN;
}

/* 1: the rest of the commit's records can't be read. */
static int compare(struct outside *o, const struct origin_entry *e, struct thing *t) {
    struct origin_span span;
    struct cursor *c;
    struct match m;
    struct content r = {0};
    const void *value;
    uint64_t mark = 0, end = 0;
    uint32_t marks_at = 0, i = 0;
    origin_spans(e, &span);
    while (origin_next_span(e, &span)) {
        TRY(cursor_of(o, span.stream, span.partition, &c));
        for (uint32_t k = 0; k < span.count; k++, i++) {
            if (!next_record(o, c, &value, &r))
                return 1;
            if (!compares(e))
                continue;
            move_mark(e, i, &marks_at, &mark, &end, r.len);
            if (!twice_wants(&o->twice, mark))
                continue;
            if (value != NULL)
                r.hash = format_hash(value, r.len, 0);
            TRY(twice_take(&o->twice, t, mark, end, r.hash, r.len, o->h->lsn, &m));
            match_ended(o, t->id, &m);
        }
    }
    assert(i == e->records); /* PAWL-3: the entry covers records of this commit */
    return 0;
}

/* ---- commits */

static int take_entry(struct outside *o, const struct origin_entry *e, bool *readable) {
    struct thing *t;
    enum tile tile;
    uint64_t at;
    bool silent =
        e->producer < PRODUCERS_TOLD && (o->silent[e->producer / 8] >> (e->producer % 8) & 1) != 0;
    TRY(tiles_take(&o->tiles, e, o->cut || silent, o->h->lsn, &tile, &t, &at));
    o->check->outside++;
    o->check->begun_again += tile == TILE_BEGINS_AGAIN;
    if (tile_is_fault(tile) || tile == TILE_AFTER_LOSS)
        tell_tile(o, e, tile, at);
    if ((e->flags & PAWL_OUTSIDE_PASSED) != 0)
        tell_passed(o, e);
    int rc = *readable ? compare(o, e, t) : 1;
    if (rc < 0)
        return rc;
    *readable = rc == 0;
    o->unread += rc != 0 && compares(e) && e->records != 0;
    return 0;
}

/* Remembers the producers whose commits name nothing. */
static void note_silent(struct outside *o) {
    for (uint32_t i = 0; i < o->h->runs; i++) {
        struct run r;
        struct producer_entry e;
        const uint8_t *data;
        uint32_t at = 0;
        frame_run(o->frame, o->h, i, &r, &data);
        while (r.type == RUN_PRODUCERS && producer_decode(data, r.len, &at, &e))
            if (e.producer < PRODUCERS_TOLD)
                o->silent[e.producer / 8] |= (uint8_t)(1u << (e.producer % 8));
    }
}

int outside_commit(struct outside *o, const struct frame_header *h, const uint8_t *frame,
                   const struct tables *tables) {
    bool records = false, named = false, readable = true;
    uint64_t left = frame_records(h, frame);
    o->h = h;
    o->frame = frame;
    o->tables = tables;
    o->cursors_made = false;
    for (uint32_t i = 0; i < h->runs; i++) {
        struct run r;
        struct origin_entry e;
        const uint8_t *data;
        uint32_t at = 0;
        frame_run(frame, h, i, &r, &data);
        records |= run_has_records(&r);
        for (uint32_t k = 0; r.type == RUN_ORIGINS && k < r.count; k++) {
            if (!origin_decode(data, r.len, &at, &e) || e.records > left)
                return fail_at(PAWL_DAMAGED, 0, "", "", h->lsn,
                               "an origin of the commit at LSN %llu does not fit its run",
                               (unsigned long long)h->lsn);
            left -= e.records;
            TRY(take_entry(o, &e, &readable));
            named = true;
        }
    }
    if (records && !named)
        note_silent(o);
    return 0;
}

void outside_spill(struct outside *o, const struct frame_header *h, const uint8_t *frame) {
    spills_take(&o->spills, h, frame);
}

void outside_lost(struct outside *o) {
    o->tiles.losses++;
}

static void tell_untold(struct outside *o) {
    static const char *const kinds[KINDS] = {"problems", "parts passed over", "remarks"};
    pawl_check *c = o->check;
    for (int i = 0; i < KINDS; i++)
        if (o->untold[i] != 0)
            verify_tell(c, 0, 0, 0, 0, "outside-more", "%llu more %s like these",
                        (unsigned long long)o->untold[i], kinds[i]);
    if (o->tiles.forgotten != 0)
        verify_tell(c, 0, 0, 0, 0, "outside-forgotten",
                    "there are more than %u things outside: of %llu, what came before they were "
                    "met again was not compared",
                    o->tiles.max, (unsigned long long)o->tiles.forgotten);
    if (o->unread != 0)
        verify_tell(c, 0, 0, 0, 0, "outside-unread",
                    "the content of %llu intervals was not compared: it is in spilled parts of "
                    "their commits, too far before them",
                    (unsigned long long)o->unread);
}

void outside_end(struct outside *o) {
    for (uint32_t i = 0; i < o->tiles.count; i++)
        match_ended(o, o->tiles.things[i].id, &o->tiles.things[i].match);
    judge_all_pending(o);
    o->check->things = o->tiles.met;
    tell_untold(o);
}

struct outside *outside_new(struct mem *m, pawl_check *c, uint64_t segment_size, bool cut) {
    struct outside *o = mem_alloc(m, sizeof *o);
    struct pending *pending = mem_alloc(m, PENDING_MAX * sizeof *pending);
    if (o == NULL || pending == NULL) {
        mem_free(m, o, sizeof *o);
        mem_free(m, pending, PENDING_MAX * sizeof *pending);
        return NULL;
    }
    o->mem = m;
    o->check = c;
    o->segment_size = segment_size;
    o->cut = cut;
    o->pending = pending;
    tiles_init(&o->tiles, m);
    o->tiles.forget = forget;
    o->tiles.arg = o;
    twice_init(&o->twice, m);
    spills_init(&o->spills, m);
    lookup_init(&o->cursor_lookup, m);
    return o;
}

void outside_free(struct outside *o) {
    if (o == NULL)
        return;
    tiles_free(&o->tiles);
    twice_free(&o->twice);
    spills_free(&o->spills);
    mem_free(o->mem, o->cursors, o->cursor_cap * sizeof *o->cursors);
    mem_free(o->mem, o->then, o->then_cap * sizeof *o->then);
    lookup_free(&o->cursor_lookup);
    mem_free(o->mem, o->pending, PENDING_MAX * sizeof *o->pending);
    mem_free(o->mem, o, sizeof *o);
}
