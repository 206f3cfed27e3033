/* SPDX-License-Identifier: Apache-2.0
 *
 * A record that doesn't go into the stream as it was read divides its interval: what comes before
 * it, the record itself (passed over, or a dead letter), and what comes after it. So the intervals
 * join whatever becomes of a record.
 */
#include "connectors/runtime/source_origin.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool same(const char *a, const char *b) {
    return strcmp(a, b) == 0;
}

/* Does an interval without records only make the one before longer? */
static bool joins(const struct origin *last, const struct origin *next) {
    return next->records == 0 && last->records == 0 && next->o.from == last->o.to &&
           next->o.unit == last->o.unit &&
           (next->o.flags & (PAWL_OUTSIDE_BEGINS | PAWL_OUTSIDE_CONTINUES)) == 0 &&
           (last->o.flags & PAWL_OUTSIDE_CONTINUES) == 0 &&
           (next->o.flags | PAWL_OUTSIDE_BEGINS) == (last->o.flags | PAWL_OUTSIDE_BEGINS) &&
           same(next->thing, last->thing) && same(next->note, last->note);
}

int origins_add(struct origins *to, const pawl_outside *o, uint64_t records) {
    struct origin next = {.o = *o, .records = records};
    if (o->thing == NULL || o->thing[0] == 0 || strlen(o->thing) > 255 || o->from > o->to ||
        (o->note != NULL && strlen(o->note) > 255) ||
        (o->mark_kind == PAWL_MARKS_GIVEN &&
         (o->mark_count != records || (o->marks == NULL && records != 0))))
        return PAWL_INVALID;
    strcpy(next.thing, o->thing);
    strcpy(next.note, o->note != NULL ? o->note : "");
    if (to->list == NULL && (to->list = calloc(ORIGINS_MAX, sizeof *to->list)) == NULL)
        return PAWL_MEMORY;
    struct origin *last = to->count != 0 ? &to->list[to->count - 1] : NULL;
    if (last != NULL && joins(last, &next))
        last->o.to = next.o.to;
    else if (to->count == ORIGINS_MAX)
        return PAWL_INVALID;
    else
        to->list[to->count++] = next;
    return 0;
}

void origins_free(struct origins *s) {
    free(s->list);
    *s = (struct origins){NULL, 0};
}

/* ---- putting */

struct piece { /* of an interval */
    const struct origin *of;
    pawl_tx *tx;
    const pawl_producer *producer;
    const pawl_record *records; /* that the interval covers */
    uint64_t from;
    size_t first; /* record */
    uint32_t flags;
};

/* Marks that don't ascend can't divide an interval. */
static bool ascend(const struct piece *p, size_t count) {
    const uint64_t *marks = p->of->o.marks;
    for (size_t i = 1; p->of->o.mark_kind == PAWL_MARKS_GIVEN && i < count; i++)
        if (marks[i] < marks[i - 1])
            return false;
    return true;
}

/* Where the k-th record began, if the marks say so. *lines is the place for PAWL_MARKS_LINES, which
 * moves from record to record. */
static bool mark_of(const struct piece *p, size_t k, uint64_t lines, uint64_t *mark) {
    const pawl_outside *o = &p->of->o;
    *mark = o->mark_kind == PAWL_MARKS_LINES     ? lines
            : o->mark_kind == PAWL_MARKS_NUMBERS ? o->from + k
            : o->mark_kind == PAWL_MARKS_GIVEN   ? o->marks[k]
                                                 : 0;
    return o->mark_kind != PAWL_MARKS_NONE && *mark >= p->from && *mark <= o->to;
}

/* Names the interval up to `to`, with its own marks, or (kind GIVEN, *mark) with one. */
static int name(struct piece *p, uint32_t stream, uint64_t to, size_t end, const uint64_t *mark,
                const char *passed) {
    pawl_outside o = p->of->o;
    char reason[256]; /* as long as a note may be */
    snprintf(reason, sizeof reason, "%s", passed != NULL ? passed : "");
    o.struct_size = sizeof o;
    o.thing = p->of->thing;
    o.note = passed != NULL ? reason : p->of->note;
    o.from = p->from;
    o.to = to;
    o.flags = p->flags | (passed != NULL ? (uint32_t)PAWL_OUTSIDE_PASSED : 0);
    o.stream = stream;
    o.mark_kind = passed != NULL ? PAWL_MARKS_NONE : mark != NULL ? PAWL_MARKS_GIVEN : o.mark_kind;
    bool given = o.mark_kind == PAWL_MARKS_GIVEN;
    o.marks = !given ? NULL : mark != NULL ? mark : p->of->o.marks + p->first;
    o.mark_count = given ? end - p->first : 0;
    int rc = pawl_tx_origin(p->tx, p->producer, &o);
    p->from = to;
    p->first = end;
    p->flags &= ~(uint32_t)(PAWL_OUTSIDE_BEGINS | PAWL_OUTSIDE_CONTINUES);
    return rc;
}

static int put_one(const struct origins_putter *q, size_t index) {
    const char *why;
    int rc = q->put(q->arg, index);
    rc = rc == 1 ? q->refused(q->arg, index, &why) : rc;
    return rc < 0 ? rc : 0;
}

/* Names what comes before the k-th record, and then the record, which is refused. */
static int put_apart(struct piece *p, const struct origins_putter *q, uint32_t stream, size_t k,
                     uint64_t mark, uint64_t next, size_t index) {
    const uint32_t once = PAWL_OUTSIDE_BEGINS | PAWL_OUTSIDE_CONTINUES;
    const char *why = NULL;
    int rc = 0;
    if (k != p->first || mark != p->from || (p->flags & once) != 0)
        rc = name(p, stream, mark, k, NULL, NULL);
    if (rc == 0)
        rc = q->refused(q->arg, index, &why);
    if (rc < 0)
        return rc;
    return name(p, stream, next, k + 1, &mark, rc == 1 ? why : NULL);
}

static int put_interval(struct piece *p, const struct origins_putter *q, uint32_t stream,
                        size_t begin, size_t count) {
    uint64_t lines = p->from, mark, next;
    for (size_t k = 0; k < count; k++) {
        uint64_t after = lines + p->records[k].value_len + p->of->o.step;
        int rc = q->put(q->arg, begin + k);
        if (rc == 1 && ascend(p, count) && mark_of(p, k, lines, &mark)) {
            if (k + 1 == count || !mark_of(p, k + 1, after, &next))
                next = p->of->o.to;
            rc = put_apart(p, q, stream, k, mark, next, begin + k);
        } else if (rc == 1) {
            const char *why;
            rc = q->refused(q->arg, begin + k, &why);
        }
        if (rc < 0)
            return rc;
        lines = after;
    }
    uint64_t to = p->of->o.to;
    bool all = p->first == count && p->from == to && p->first != 0; /* it is named already */
    return all ? 0 : name(p, stream, to, count, NULL, NULL);
}

int origins_put(const struct origins *from, pawl_tx *tx, const pawl_producer *producer,
                uint32_t stream, const pawl_record *records, size_t count,
                const struct origins_putter *q) {
    size_t at = 0;
    int rc = from->count != 0 ? pawl_tx_origin(tx, producer, NULL) : 0;
    for (uint32_t i = 0; i < from->count && rc == 0; i++) {
        const struct origin *o = &from->list[i];
        size_t n = o->records < count - at ? (size_t)o->records : count - at;
        struct piece p = {.of = o,
                          .tx = tx,
                          .producer = producer,
                          .records = at < count ? records + at : NULL,
                          .from = o->o.from,
                          .flags = o->o.flags};
        rc = put_interval(&p, q, stream, at, n);
        at += n;
    }
    for (; at < count && rc == 0; at++)
        rc = put_one(q, at);
    return rc;
}
