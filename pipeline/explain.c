/* SPDX-License-Identifier: Apache-2.0
 *
 * Where a record came from: its commit, the input that the commit consumed, and what was read
 * outside the log.
 */
#include <assert.h>
#include <stdio.h>

#include "pipeline/engine.h"
#include "pipeline/struct_size.h"

static void name_of_stream(const struct tables *t, uint32_t id, char out[128]) {
    const struct stream *s = tables_stream(t, id);
    snprintf(out, 128, "%s", s != NULL ? s->name : "?");
}

static void fill_origin(const struct tables *t, const struct frame_header *h, const uint8_t *frame,
                        pawl_origin *out) {
    memset(out, 0, sizeof *out);
    out->lsn = h->lsn;
    out->time_ns = h->time_ns;
    out->epoch = h->epoch;
    for (uint32_t i = 0; i < h->runs; i++) {
        struct run r;
        const uint8_t *data;
        frame_run(frame, h, i, &r, &data);
        struct position_entry e;
        struct producer_entry p;
        uint32_t at = 0;
        while (r.type == RUN_POSITIONS && position_decode(data, r.len, &at, &e)) {
            if (out->input_count < 64) {
                const char *name = tables_processor_name(t, e.processor);
                snprintf(out->inputs[out->input_count].processor, 128, "%s",
                         name != NULL ? name : "?");
                name_of_stream(t, e.stream, out->inputs[out->input_count].stream);
                out->inputs[out->input_count].partition = e.partition;
                out->inputs[out->input_count].from = e.from;
                out->inputs[out->input_count].to = e.to;
            }
            out->input_count++;
        }
        if (r.type == RUN_PRODUCERS && producer_decode(data, r.len, &at, &p)) {
            const struct producer *row = tables_producer(t, p.producer);
            snprintf(out->producer, sizeof out->producer, "%s", row != NULL ? row->name : "?");
            out->sequence_first = p.first;
            out->sequence_last = p.last;
        }
    }
}

/* Calls fn with the frame of the commit that holds a record. */
static int with_commit(pawl *p, uint32_t stream, uint32_t partition, uint64_t offset,
                       int (*fn)(pawl *p, const struct frame_header *h, const uint8_t *frame,
                                 void *arg),
                       void *arg) {
    pawl_reader *r;
    pawl_batch b;
    TRY(pawl_reader_open(p, stream, partition, offset, PAWL_READ_COMMITTED, &r));
    int rc = pawl_read(r, 1, 0, &b);
    uint64_t lsn = rc == 1 ? b.records[0].lsn : 0;
    pawl_reader_close(r);
    if (rc < 0)
        return rc;
    if (rc == 0)
        return fail(PAWL_RANGE, "there is no record at offset %llu yet",
                    (unsigned long long)offset);
    struct segment_header h;
    struct scan s;
    struct scan_frame f = {0};
    int file = segment_open(p->io, &p->mem, lsn / p->header.segment_size, &p->header, false, &h);
    if (file < 0)
        return file;
    scan_begin(&s, p->io, &p->mem, file, &h, true);
    scan_one(&s);
    rc = scan_jump(&s, lsn);
    if (rc == 0)
        rc = scan_next(&s, &f);
    if (rc == 1) {
        rc = fn(p, &f.header, f.data, arg);
    } else if (rc == 0 && (rc = segment_there(p->io, lsn / p->header.segment_size)) >= 0) {
        rc = rc > 0 ? fail(PAWL_DAMAGED, "the frame at LSN %llu can't be read again",
                           (unsigned long long)lsn)
                    : fail(PAWL_TRIMMED, "the segment being read has been dropped by retention");
    }
    scan_end(&s);
    p->io->ops->close(p->io, file);
    return rc < 0 ? rc : 0;
}

static int take_origin(pawl *p, const struct frame_header *h, const uint8_t *frame, void *arg) {
    pthread_mutex_lock(&p->mutex); /* for the names */
    fill_origin(&p->tables, h, frame, arg);
    engine_leave(p);
    return 0;
}

int pawl_explain(pawl *p, uint32_t stream, uint32_t partition, uint64_t offset, pawl_origin *out) {
    if (out == NULL)
        return fail(PAWL_INVALID, "result pointer is NULL");
    return with_commit(p, stream, partition, offset, take_origin, out);
}

/* ---- outside */

/* Records of the commit in one partition: the first one's offset, how many of them the entries
 * before cover, and how many this entry does before the record that is looked for. */
struct counted {
    uint32_t stream, partition;
    uint64_t base, before, in;
    uint32_t entry; /* that `in` is of */
};
struct search {
    uint32_t stream, partition;
    uint64_t offset;
    struct counted *counts;
    uint32_t count, cap;
    struct lookup lookup;
    uint32_t entry; /* the number of the entry looked at */
    pawl_outside_place *place;
    bool found, by_length;
    uint32_t step;
};

static struct counted *counted_find(const struct search *s, uint32_t stream, uint32_t partition) {
    const struct lookup *l = &s->lookup;
    uint32_t at, hash = lookup_hash(l, stream, partition);
    for (uint32_t i = lookup_first(l, hash, &at); i != LOOKUP_NONE; i = lookup_next(l, hash, &at)) {
        assert(s->counts != NULL); /* the index has rows */
        if (s->counts[i].stream == stream && s->counts[i].partition == partition)
            return &s->counts[i];
    }
    return NULL;
}

/* A row for each partition that the commit has records of. */
static int count_partitions(pawl *p, struct search *s, const struct frame_header *h,
                            const uint8_t *frame) {
    for (uint32_t i = 0; i < h->runs; i++) {
        struct run r;
        const uint8_t *ignored;
        frame_run(frame, h, i, &r, &ignored);
        if (!run_has_records(&r) || counted_find(s, r.stream, r.partition) != NULL)
            continue;
        TRY(lookup_reserve(&s->lookup, 1));
        TRY(tx_grow(p, (void **)&s->counts, s->count, &s->cap, sizeof *s->counts));
        lookup_add(&s->lookup, lookup_hash(&s->lookup, r.stream, r.partition), s->count);
        s->counts[s->count++] = (struct counted){r.stream, r.partition, r.base, 0, 0, 0};
    }
    return 0;
}

/* The row of a span's partition; what earlier entries covered of it is behind. */
static int counted_of(const struct search *s, const struct frame_header *h,
                      const struct origin_span *span, struct counted **out) {
    struct counted *c = *out = counted_find(s, span->stream, span->partition);
    if (c == NULL)
        return fail_at(PAWL_DAMAGED, 0, "", "", h->lsn,
                       "the commit at LSN %llu names the origin of records that it doesn't have",
                       (unsigned long long)h->lsn);
    if (c->entry != s->entry) {
        c->before += c->in;
        c->in = 0;
        c->entry = s->entry;
    }
    return 0;
}

static void take_entry(struct search *s, const struct origin_entry *e, uint64_t lsn, uint32_t i) {
    pawl_outside_place *o = s->place;
    o->lsn = lsn;
    o->from = e->from;
    o->to = e->to;
    o->flags = e->flags;
    o->unit = e->unit;
    memcpy(o->thing, e->thing, e->thing_len);
    memcpy(o->note, e->note, e->note_len);
    o->at = o->end = NO_OFFSET;
    s->by_length = e->mark_kind == PAWL_MARKS_LINES;
    s->step = e->step;
    if (!origin_mark(e, i, &o->at))
        o->at = NO_OFFSET;
    else if (i + 1 >= e->records || !origin_mark(e, i + 1, &o->end))
        o->end = e->mark_kind == PAWL_MARKS_NUMBERS ? o->at + 1 : e->to;
    else if (o->end < o->at) /* the next one began earlier */
        o->end = NO_OFFSET;
    s->found = true;
}

/* The list of spans repeats until all records are placed, as often as the entry says: a few bytes
 * of a forged one may say 2^32 times. Goes on to the round in which the record may be, at most to
 * the last one. `span` is the last of the first round. */
static void skip_rounds(struct search *s, const struct origin_entry *e, struct origin_span *span) {
    uint32_t round = span->first + span->count;
    uint64_t rounds = span->left / round;
    const struct counted *own = counted_find(s, s->stream, s->partition);
    if (own != NULL && own->entry == s->entry && s->offset >= own->base + own->before) {
        assert(own->in != 0); /* PAWL-3: a span has records */
        uint64_t before = (s->offset - own->base - own->before) / own->in; /* rounds */
        assert(before != 0);                                               /* or it was found */
        rounds = before - 1 < rounds ? before - 1 : rounds;
    }
    for (uint32_t i = 0; i < s->count; i++)
        if (s->counts[i].entry == s->entry)
            s->counts[i].in += rounds * s->counts[i].in;
    span->first += (uint32_t)(rounds * round);
    span->left -= (uint32_t)(rounds * round);
    assert((uint64_t)span->first + span->count + span->left == e->records);
}

/* Does this entry cover the record? */
static int search_entry(struct search *s, const struct frame_header *h,
                        const struct origin_entry *e) {
    struct origin_span span;
    struct counted *c;
    bool first_round = true;
    s->entry++;
    origin_spans(e, &span);
    while (origin_next_span(e, &span)) {
        TRY(counted_of(s, h, &span, &c));
        uint64_t first = c->base + c->before + c->in;
        if (c->stream == s->stream && c->partition == s->partition && s->offset >= first &&
            s->offset - first < span.count) {
            uint64_t n = s->offset - first;
            assert(span.first + n < e->records); /* PAWL-3: the entry covers this record */
            take_entry(s, e, h->lsn, span.first + (uint32_t)n);
            c->in += n;
            return 0;
        }
        c->in += span.count;
        if (first_round && span.at == e->order_len) {
            first_round = false;
            skip_rounds(s, e, &span);
        }
    }
    return 0;
}

static int search_frame(pawl *p, const struct frame_header *h, const uint8_t *frame, void *arg) {
    struct search *s = arg;
    uint64_t left = frame_records(h, frame);
    TRY(count_partitions(p, s, h, frame));
    for (uint32_t i = 0; i < h->runs && !s->found; i++) {
        struct run r;
        struct origin_entry e;
        const uint8_t *data;
        uint32_t at = 0;
        frame_run(frame, h, i, &r, &data);
        for (uint32_t k = 0; r.type == RUN_ORIGINS && k < r.count && !s->found; k++) {
            if (!origin_decode(data, r.len, &at, &e) || e.records > left)
                return fail_at(PAWL_DAMAGED, 0, "", "", h->lsn,
                               "an origin of the commit at LSN %llu does not fit its run",
                               (unsigned long long)h->lsn);
            left -= e.records;
            TRY(search_entry(s, h, &e));
            if (s->found) {
                pthread_mutex_lock(&p->mutex); /* for the name */
                const struct producer *row = tables_producer(&p->tables, e.producer);
                snprintf(s->place->producer, sizeof s->place->producer, "%s",
                         row != NULL ? row->name : "");
                engine_leave(p);
            }
        }
    }
    return s->found ? 0
                    : fail(PAWL_NOT_FOUND,
                           "the commit at LSN %llu does not name what the record was read from",
                           (unsigned long long)h->lsn);
}

/* Adds the lengths of `count` records' values, with the step, to *sum. */
static int add_lengths(pawl *p, const struct counted *c, uint64_t count, uint32_t step,
                       uint64_t *sum) {
    pawl_reader *r;
    pawl_batch b;
    TRY(pawl_reader_open(p, c->stream, c->partition, c->base + c->before, PAWL_READ_COMMITTED, &r));
    int rc = 0;
    while (count != 0 && (rc = pawl_read(r, count > 1000 ? 1000 : (size_t)count, 0, &b)) > 0) {
        for (size_t i = 0; i < b.count; i++)
            *sum += (uint64_t)b.records[i].value_len + step;
        count -= b.count;
    }
    pawl_reader_close(r);
    if (rc < 0)
        return rc;
    return count == 0 ? 0 : fail(PAWL_DAMAGED, "the records before it in its commit can't be read");
}

/* Lines: a record began where those before it in the interval ended. */
static int by_length(pawl *p, const struct search *s) {
    uint64_t at = s->place->from, end = 0;
    for (uint32_t i = 0; i < s->count; i++)
        if (s->counts[i].entry == s->entry)
            TRY(add_lengths(p, &s->counts[i], s->counts[i].in, s->step, &at));
    struct counted own = {s->stream, s->partition, s->offset, 0, 1, 0};
    TRY(add_lengths(p, &own, 1, s->step, &end));
    s->place->at = at;
    /* the last line of a file may lack its newline */
    s->place->end = at + end < s->place->to ? at + end : s->place->to;
    return 0;
}

int pawl_explain_outside(pawl *p, uint32_t stream, uint32_t partition, uint64_t offset,
                         pawl_outside_place *out) {
    pawl_outside_place own = PAWL_OUTSIDE_PLACE_INIT;
    if (out == NULL)
        return fail(PAWL_INVALID, "result pointer is NULL");
    TRY(pawl_struct_give(out, OUTSIDE_PLACE_FIRST, &own, sizeof own, "pawl_outside_place"));
    if (p == NULL)
        return fail(PAWL_INVALID, "the handle is NULL");
    struct search s = {.stream = stream, .partition = partition, .offset = offset, .place = &own};
    lookup_init(&s.lookup, &p->mem);
    int rc = with_commit(p, stream, partition, offset, search_frame, &s);
    if (rc == 0 && s.by_length)
        rc = by_length(p, &s);
    mem_free(&p->mem, s.counts, s.cap * sizeof *s.counts);
    lookup_free(&s.lookup);
    return rc < 0
               ? rc
               : pawl_struct_give(out, OUTSIDE_PLACE_FIRST, &own, sizeof own, "pawl_outside_place");
}
