/* SPDX-License-Identifier: Apache-2.0
 *
 * Positions, decisions of sinks, and spans.
 */
#include <assert.h>
#include <stdlib.h>

#include "pipeline/tables.h"

#define GROW(t, field, n) \
    tables_grow((t)->mem, (void **)&(t)->field##s, (n), &(t)->field##_cap, sizeof *(t)->field##s)

/* ---- positions: rows in no order, each in the lists of its processor and its stream */

static uint32_t position_hash(const struct tables *t, uint32_t processor, uint32_t stream,
                              uint32_t partition) {
    return lookup_hash(&t->position_lookup, processor, (uint64_t)stream << 32 | partition);
}

static uint32_t hash_of(const struct tables *t, const struct position_row *p) {
    return position_hash(t, p->processor, p->stream, p->partition);
}

struct position_row *tables_position(const struct tables *t, uint32_t processor, uint32_t stream,
                                     uint32_t partition) {
    const struct lookup *l = &t->position_lookup;
    uint32_t at, hash = position_hash(t, processor, stream, partition);
    for (uint32_t i = lookup_first(l, hash, &at); i != LOOKUP_NONE; i = lookup_next(l, hash, &at)) {
        struct position_row *p = &t->positions[i];
        if (p->processor == processor && p->stream == stream && p->partition == partition)
            return p;
    }
    return NULL;
}

/* The lists' beginnings. */
static uint32_t *first_of_processor(const struct tables *t, const struct position_row *p) {
    struct processor_row *row = tables_processor(t, p->processor);
    assert(row != NULL); /* PAWL-3: no position outlives its processor or stream */
    return &row->positions;
}

static uint32_t *first_of_stream(const struct tables *t, const struct position_row *p) {
    struct stream *s = tables_stream(t, p->stream);
    assert(s != NULL);
    return &s->positions;
}

/* Puts a row, or the number it has now, in front of its lists. */
static void link_row(struct tables *t, uint32_t i) {
    struct position_row *p = &t->positions[i];
    uint32_t *a = first_of_processor(t, p), *b = first_of_stream(t, p);
    p->of_processor = (struct position_links){0, *a};
    p->of_stream = (struct position_links){0, *b};
    if (*a != 0)
        t->positions[*a - 1].of_processor.before = i + 1;
    if (*b != 0)
        t->positions[*b - 1].of_stream.before = i + 1;
    *a = *b = i + 1;
}

/* What pointed to a row points to `to` (+ 1) from now on. */
static void point_to(struct tables *t, const struct position_row *p, uint32_t before_a,
                     uint32_t before_b, uint32_t after_a, uint32_t after_b) {
    if (p->of_processor.before != 0)
        t->positions[p->of_processor.before - 1].of_processor.after = before_a;
    else
        *first_of_processor(t, p) = before_a;
    if (p->of_stream.before != 0)
        t->positions[p->of_stream.before - 1].of_stream.after = before_b;
    else
        *first_of_stream(t, p) = before_b;
    if (p->of_processor.after != 0)
        t->positions[p->of_processor.after - 1].of_processor.before = after_a;
    if (p->of_stream.after != 0)
        t->positions[p->of_stream.after - 1].of_stream.before = after_b;
}

void tables_remove_position(struct tables *t, uint32_t i) {
    struct position_row *p = &t->positions[i], *last = &t->positions[t->position_count - 1];
    point_to(t, p, p->of_processor.after, p->of_stream.after, p->of_processor.before,
             p->of_stream.before);
    lookup_remove(&t->position_lookup, hash_of(t, p), i);
    if (p != last) {
        lookup_move(&t->position_lookup, hash_of(t, last), t->position_count - 1, i);
        point_to(t, last, i + 1, i + 1, i + 1, i + 1);
        *p = *last;
        t->positions_sorted = false;
    }
    t->position_count--;
    t->rows_bytes -= C_POSITION_SIZE;
}

static int order(const void *x, const void *y) {
    const struct position_row *a = x, *b = y;
    if (a->processor != b->processor)
        return a->processor < b->processor ? -1 : 1;
    if (a->stream != b->stream)
        return a->stream < b->stream ? -1 : 1;
    return a->partition < b->partition ? -1 : a->partition > b->partition;
}

int tables_set_position(struct tables *t, uint32_t processor, uint32_t stream, uint32_t partition,
                        uint64_t offset) {
    struct position_row *p = tables_position(t, processor, stream, partition);
    TRY(limit_check(LIMIT_OFFSET, offset));
    if (p != NULL) {
        p->offset = offset;
        return 0;
    }
    if (!tables_has_processor(t, processor) || tables_stream(t, stream) == NULL ||
        partition >= tables_stream(t, stream)->partitions)
        return fail(PAWL_DAMAGED, "a position of a processor or partition that is not there");
    TRY(GROW(t, position, t->position_count));
    TRY(lookup_reserve(&t->position_lookup, 1));
    uint32_t i = t->position_count++;
    p = &t->positions[i];
    *p = (struct position_row){
        .processor = processor, .stream = stream, .partition = partition, .offset = offset};
    t->positions_sorted = t->positions_sorted && (i == 0 || order(p - 1, p) < 0);
    lookup_add(&t->position_lookup, hash_of(t, p), i);
    link_row(t, i);
    t->rows_bytes += C_POSITION_SIZE;
    return 0;
}

void tables_sort_positions(struct tables *t) {
    if (t->positions_sorted)
        return;
    qsort(t->positions, t->position_count, sizeof *t->positions, order);
    for (uint32_t i = 0; i < t->position_count; i++)
        *first_of_processor(t, &t->positions[i]) = *first_of_stream(t, &t->positions[i]) = 0;
    lookup_empty(&t->position_lookup);
    for (uint32_t i = 0; i < t->position_count; i++) {
        lookup_add(&t->position_lookup, hash_of(t, &t->positions[i]), i);
        link_row(t, i);
    }
    t->positions_sorted = true;
}

void tables_find_least(const struct tables *t) {
    for (uint32_t i = 0; i < t->stream_count; i++)
        for (uint32_t k = 0; k < t->streams[i]->partitions; k++)
            t->streams[i]->parts[k].least = NO_OFFSET;
    for (uint32_t i = 0; i < t->position_count; i++) {
        const struct position_row *row = &t->positions[i];
        struct stream *s = tables_stream(t, row->stream);
        if (row->offset < s->parts[row->partition].least)
            s->parts[row->partition].least = row->offset;
    }
}

/* ---- decisions: rows in the order in which they were made. A finished one stays, as a gap, until
 * half of the rows are gaps. */

static uint32_t decision_hash(const struct tables *t, uint32_t processor, const char *name,
                              uint16_t len) {
    return lookup_hash_text(&t->decision_lookup, processor, name, len);
}

static uint32_t decision_find(const struct tables *t, uint32_t hash, uint32_t processor,
                              const char *name, uint16_t len) {
    const struct lookup *l = &t->decision_lookup;
    uint32_t at, i;
    for (i = lookup_first(l, hash, &at); i != LOOKUP_NONE; i = lookup_next(l, hash, &at)) {
        const struct decision_row *d = &t->decisions[i];
        if (d->processor == processor && d->name_len == len && memcmp(d->name, name, len) == 0)
            break;
    }
    return i;
}

struct decision_row *tables_decision(const struct tables *t, uint32_t processor, const char *name,
                                     uint16_t len) {
    uint32_t i = decision_find(t, decision_hash(t, processor, name, len), processor, name, len);
    return i != LOOKUP_NONE ? &t->decisions[i] : NULL;
}

/* Takes the gaps out. */
static void close_gaps(struct tables *t) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < t->decision_rows; i++) {
        struct decision_row *d = &t->decisions[i];
        if (d->name_len == 0)
            continue;
        if (kept != i) {
            lookup_move(&t->decision_lookup, decision_hash(t, d->processor, d->name, d->name_len),
                        i, kept);
            t->decisions[kept] = *d;
        }
        kept++;
    }
    assert(kept == t->decision_count);
    t->decision_rows = kept;
    t->decision_first = 0;
}

static int decision_room(struct tables *t, uint32_t more) {
    while (t->decision_cap - t->decision_rows < more) {
        if (t->decision_rows != 0 && t->decision_count <= t->decision_rows / 2)
            close_gaps(t);
        else
            TRY(GROW(t, decision, t->decision_cap));
    }
    return lookup_reserve(&t->decision_lookup, more);
}

static void finish(struct tables *t, uint32_t i, uint32_t hash) {
    struct decision_row *d = &t->decisions[i];
    lookup_remove(&t->decision_lookup, hash, i);
    t->rows_bytes -= c_sink_size(d->name_len);
    d->name_len = 0;
    t->decision_count--;
    while (t->decision_first < t->decision_rows && t->decisions[t->decision_first].name_len == 0)
        t->decision_first++;
}

int tables_set_decision(struct tables *t, const struct sink_entry *e) {
    uint32_t hash = decision_hash(t, e->processor, e->name, e->name_len);
    uint32_t i = decision_find(t, hash, e->processor, e->name, e->name_len);
    if (e->op == SINK_FINISHED && i != LOOKUP_NONE)
        finish(t, i, hash);
    if (e->op == SINK_FINISHED || i != LOOKUP_NONE)
        return 0;
    TRY(limit_check(LIMIT_DECISIONS, t->decision_count + UINT64_C(1)));
    TRY(decision_room(t, 1));
    struct decision_row *d = &t->decisions[t->decision_rows];
    d->processor = e->processor;
    d->name_len = e->name_len;
    memcpy(d->name, e->name, e->name_len);
    lookup_add(&t->decision_lookup, hash, t->decision_rows++);
    t->decision_count++;
    t->rows_bytes += c_sink_size(e->name_len);
    return 0;
}

const struct decision_row *tables_decision_at(struct tables *t, uint32_t index) {
    if (index >= t->decision_count)
        return NULL;
    if (index != 0 && t->decision_count != t->decision_rows)
        close_gaps(t);
    return &t->decisions[index != 0 ? index : t->decision_first];
}

int tables_reserve(struct tables *t, uint32_t positions, uint32_t decisions) {
    while (t->position_cap - t->position_count < positions)
        TRY(GROW(t, position, t->position_cap));
    if (positions != 0)
        TRY(lookup_reserve(&t->position_lookup, positions));
    if (decisions != 0)
        TRY(decision_room(t, decisions));
    return GROW(t, span, t->span_count);
}

/* ---- spans */

int tables_set_span(struct tables *t, uint64_t segment, uint64_t oldest) {
    struct span_row *last = t->span_count != 0 ? &t->spans[t->span_count - 1] : NULL;
    if (last != NULL && last->segment == segment) {
        last->oldest = oldest < last->oldest ? oldest : last->oldest;
        return 0;
    }
    if (last != NULL && last->segment > segment)
        return fail(PAWL_DAMAGED, "segments that refer to older ones are not in order");
    TRY(GROW(t, span, t->span_count));
    t->spans[t->span_count++] = (struct span_row){segment, oldest};
    t->rows_bytes += C_SPAN_SIZE;
    return 0;
}

void tables_drop_spans(struct tables *t, uint64_t first) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < t->span_count; i++)
        if (t->spans[i].segment >= first)
            t->spans[kept++] = t->spans[i];
    t->rows_bytes -= (uint64_t)(t->span_count - kept) * C_SPAN_SIZE;
    t->span_count = kept;
}
