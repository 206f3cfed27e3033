/* SPDX-License-Identifier: Apache-2.0
 *
 * What damage took, told from what is left (docs/format.md, section 9): commits and catalog changes
 * by the frames' counts; records, positions and sequences by their jumps; spilled parts by the
 * commits that refer to them; names by the ids that have none. What can't be known is said to be
 * unknown, never to be nothing.
 */
#include <stdio.h>

#include "pipeline/inspect.h"

typedef unsigned long long ull;

static void tell(struct judge *j, const struct frame_header *h, const char *label,
                 const char *text) {
    if (j->telling)
        verify_tell(j->check, 0, h->lsn / j->tables.segment_size, h->lsn, 0, label, "%s", text);
}

static const char *stream_name(const struct judge *j, uint32_t id, char name[NAME_LEN_MAX + 1]) {
    const struct stream *s = tables_stream(&j->tables, id);
    if (s != NULL)
        return s->name;
    snprintf(name, NAME_LEN_MAX + 1, "lost-%u", id); /* as it is going to be called */
    return name;
}

static const char *processor_name(const struct judge *j, uint32_t id, char name[NAME_LEN_MAX + 1]) {
    const char *known = tables_processor_name(&j->tables, id);
    snprintf(name, NAME_LEN_MAX + 1, "lost-%u", id);
    return known != NULL ? known : name;
}

/* ---- records */

static void tell_records(struct judge *j, const struct frame_header *h, uint32_t stream,
                         uint32_t partition, uint64_t from, uint64_t to, const char *why) {
    char text[400], name[NAME_LEN_MAX + 1];
    if (j->telling)
        j->check->lost_records += to - from;
    snprintf(text, sizeof text, "stream %s, partition %u: offsets %llu to %llu are lost%s",
             stream_name(j, stream, name), partition, (ull)from, (ull)to - 1, why);
    tell(j, h, "records-lost", text);
}

/* The offset at which records of a partition should go on; the lowest where it is unknown. */
static uint64_t next_offset(const struct judge *j, uint32_t stream, uint32_t partition,
                            uint64_t lowest) {
    const struct stream *s = tables_stream(&j->tables, stream);
    if (s != NULL && partition < s->partitions && s->parts[partition].last_end != 0)
        return s->parts[partition].next;
    /* Without the oldest checkpoint, what is before the first base is retention's past. */
    if (j->tables.past_unknown)
        return lowest;
    return s != NULL && partition < s->partitions ? s->parts[partition].next : 0;
}

/* ---- the ends of partitions in the frame being judged */

static uint32_t end_hash(const struct judge *j, uint32_t stream, uint32_t partition) {
    return lookup_hash(&j->end_lookup, stream, partition);
}

/* NULL: the frame has had no records of the partition. */
static struct run_end *end_of(const struct judge *j, uint32_t stream, uint32_t partition) {
    const struct lookup *l = &j->end_lookup;
    uint32_t at, hash = end_hash(j, stream, partition);
    for (uint32_t i = lookup_first(l, hash, &at); i != LOOKUP_NONE; i = lookup_next(l, hash, &at))
        if (j->ends[i].stream == stream && j->ends[i].partition == partition)
            return &j->ends[i];
    return NULL;
}

static int set_end(struct judge *j, const struct run *r) {
    struct run_end *e = end_of(j, r->stream, r->partition);
    if (e == NULL) {
        TRY(lookup_reserve(&j->end_lookup, 1));
        TRY(tables_grow(j->mem, (void **)&j->ends, j->end_count, &j->end_cap, sizeof *j->ends));
        lookup_add(&j->end_lookup, end_hash(j, r->stream, r->partition), j->end_count);
        e = &j->ends[j->end_count++];
    }
    *e = (struct run_end){r->stream, r->partition, r->base + r->count};
    return 0;
}

/* A run should begin after the frame's previous one of that partition, or else at the partition's
 * next offset. */
static int find_records(struct judge *j, const struct frame_header *h, const struct run *r,
                        const uint8_t *data) {
    if (run_has_records(r)) {
        const struct run_end *e = end_of(j, r->stream, r->partition);
        uint64_t next = e != NULL ? e->end : next_offset(j, r->stream, r->partition, r->base);
        if (r->base > next)
            tell_records(j, h, r->stream, r->partition, next, r->base, "");
        return set_end(j, r);
    }
    struct c_next e;
    uint32_t at = 0;
    for (uint32_t k = 0; r->type == RUN_C_NEXT && k < r->count; k++) {
        if (!c_next_decode(data, r->len, &at, &e))
            return 0;
        uint64_t next = next_offset(j, e.stream, e.partition, e.next);
        if (e.next > next)
            tell_records(j, h, e.stream, e.partition, next, e.next, "");
    }
    return 0;
}

/* ---- positions and sequences */

static void tell_interval(struct judge *j, const struct frame_header *h,
                          const struct position_row *p, uint64_t to) {
    char text[500], name[NAME_LEN_MAX + 1], of[NAME_LEN_MAX + 1];
    if (to <= p->offset)
        return;
    snprintf(text, sizeof text,
             "processor %s consumed stream %s, partition %u, offsets %llu to %llu in commits that "
             "are lost",
             processor_name(j, p->processor, name), stream_name(j, p->stream, of), p->partition,
             (ull)p->offset, (ull)to - 1);
    tell(j, h, "interval-lost", text);
}

static void tell_sequences(struct judge *j, const struct frame_header *h, const struct producer *p,
                           uint64_t next) {
    char text[400];
    if (next <= p->sequence + 1)
        return;
    snprintf(text, sizeof text,
             "producer %s: sequences %llu to %llu were in commits that are lost; sent again, they "
             "are answered as there already",
             p->name, (ull)p->sequence + 1, (ull)next - 1);
    tell(j, h, "sequences-lost", text);
}

static void find_positions(struct judge *j, const struct frame_header *h, const struct run *r,
                           const uint8_t *data) {
    const struct tables *t = &j->tables;
    uint32_t at = 0;
    for (uint32_t k = 0; k < r->count; k++) {
        struct position_entry e;
        struct c_position c;
        const struct position_row *p = NULL;
        if (r->type == RUN_POSITIONS && position_decode(data, r->len, &at, &e))
            p = tables_position(t, e.processor, e.stream, e.partition);
        else if (r->type == RUN_C_POSITIONS && c_position_decode(data, r->len, &at, &c))
            p = tables_position(t, c.processor, c.stream, c.partition);
        else
            return;
        if (r->type == RUN_POSITIONS) { /* what was consumed was there */
            uint64_t next = next_offset(j, e.stream, e.partition, e.to);
            if (e.to > next && end_of(j, e.stream, e.partition) == NULL)
                tell_records(j, h, e.stream, e.partition, next, e.to, "");
        }
        if (p != NULL)
            tell_interval(j, h, p, r->type == RUN_POSITIONS ? e.from : c.offset);
    }
}

static void find_sequences(struct judge *j, const struct frame_header *h, const struct run *r,
                           const uint8_t *data) {
    uint32_t at = 0;
    for (uint32_t k = 0; k < r->count; k++) {
        struct producer_entry e;
        struct c_producer c;
        const struct producer *p = NULL;
        if (r->type == RUN_PRODUCERS && producer_decode(data, r->len, &at, &e))
            p = tables_producer(&j->tables, e.producer);
        else if (r->type == RUN_C_PRODUCERS && c_producer_decode(data, r->len, &at, &c))
            p = tables_producer(&j->tables, c.id);
        else
            return;
        if (p != NULL)
            tell_sequences(j, h, p, r->type == RUN_PRODUCERS ? e.first : c.sequence + 1);
    }
}

/* After damage, jumps show what is lost. */
static int find_jumps(struct judge *j, const struct frame_header *h, const uint8_t *frame) {
    j->end_count = 0;
    lookup_clear(&j->end_lookup);
    for (uint32_t i = 0; i < h->runs; i++) {
        struct run r;
        const uint8_t *data;
        frame_run(frame, h, i, &r, &data);
        TRY(find_records(j, h, &r, data));
        if (r.type == RUN_POSITIONS || r.type == RUN_C_POSITIONS)
            find_positions(j, h, &r, data);
        if (r.type == RUN_PRODUCERS || r.type == RUN_C_PRODUCERS)
            find_sequences(j, h, &r, data);
    }
    return 0;
}

/* ---- spilled parts */

static uint32_t spill_hash(const struct judge *j, uint64_t lsn, uint32_t stream,
                           uint32_t partition) {
    return lookup_hash(&j->spill_lookup, lsn, (uint64_t)stream << 32 | partition);
}

static uint32_t spill_find(const struct judge *j, uint64_t lsn, const struct run *r) {
    const struct lookup *l = &j->spill_lookup;
    uint32_t at, i, hash = spill_hash(j, lsn, r->stream, r->partition);
    for (i = lookup_first(l, hash, &at); i != LOOKUP_NONE; i = lookup_next(l, hash, &at))
        if (j->spills[i].lsn == lsn && j->spills[i].stream == r->stream &&
            j->spills[i].partition == r->partition)
            break;
    return i;
}

static int add_spill(struct judge *j, const struct frame_header *h, const uint8_t *frame) {
    for (uint32_t i = 0; i < h->runs; i++) {
        struct run r;
        const uint8_t *ignored;
        frame_run(frame, h, i, &r, &ignored);
        if (r.type != RUN_RECORDS)
            continue;
        if (spill_find(j, h->lsn, &r) != LOOKUP_NONE)
            return fail_at(PAWL_DAMAGED, 0, "", "", h->lsn,
                           "the SPILL frame at LSN %llu has two runs of one partition",
                           (ull)h->lsn);
        TRY(lookup_reserve(&j->spill_lookup, 1));
        TRY(tables_grow(j->mem, (void **)&j->spills, j->spill_count, &j->spill_cap,
                        sizeof *j->spills));
        lookup_add(&j->spill_lookup, spill_hash(j, h->lsn, r.stream, r.partition), j->spill_count);
        j->spills[j->spill_count++] =
            (struct spill_seen){h->lsn, h->hash, r.stream, r.partition, i, r.count};
    }
    return 0;
}

/* Takes the run that a commit refers to: it belongs to no other. False: it is not there. */
static bool take_spill(struct judge *j, const struct spilled_entry *e, const struct run *r) {
    uint32_t i = spill_find(j, e->lsn, r), last = j->spill_count - 1;
    struct spill_seen *s = i != LOOKUP_NONE ? &j->spills[i] : NULL;
    if (s == NULL || s->hash != e->hash || s->run != e->run || s->count != r->count)
        return false;
    lookup_remove(&j->spill_lookup, spill_hash(j, s->lsn, s->stream, s->partition), i);
    if (i != last) {
        const struct spill_seen *x = &j->spills[last];
        lookup_move(&j->spill_lookup, spill_hash(j, x->lsn, x->stream, x->partition), last, i);
        *s = *x;
    }
    j->spill_count--;
    return true;
}

/* The areas ascend. */
static bool in_repaired(const struct judge *j, uint64_t lsn) {
    if (j->repaired == NULL)
        return true;
    uint32_t lo = 0, hi = j->repaired->count;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (j->repaired->areas[mid].to <= lsn)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < j->repaired->count && lsn >= j->repaired->areas[lo].from;
}

/* A commit's references: what they refer to must be there, or was taken by damage or retention. */
static int find_spilled(struct judge *j, const struct frame_header *h, const uint8_t *frame) {
    int rc = 0;
    for (uint32_t i = 0; i < h->runs; i++) {
        struct run r;
        const uint8_t *data;
        struct spilled_entry e;
        frame_run(frame, h, i, &r, &data);
        if (r.type != RUN_SPILLED || !spilled_decode(data, r.len, &e) || take_spill(j, &e, &r) ||
            e.lsn < j->first_lsn || j->check->live)
            continue;
        if (!j->any_lost) {
            rc = fail_at(PAWL_DAMAGED, 0, "", "", h->lsn,
                         "the commit at LSN %llu refers to a spilled part at LSN %llu, which is "
                         "not there, or belongs to another commit",
                         (ull)h->lsn, (ull)e.lsn);
            continue;
        }
        bool told = j->telling;
        j->telling = in_repaired(j, e.lsn);
        tell_records(j, h, r.stream, r.partition, r.base, r.base + r.count,
                     ": they were in a spilled part");
        j->telling = told;
    }
    return rc;
}

/* ---- frames */

static void lost_frame(struct judge *j, const struct frame_header *h) {
    bool first = segment_offset(h->lsn, j->tables.segment_size) == SEGMENT_HEADER_SIZE;
    if (j->area_size == 0)
        j->area_lsn = h->lsn;
    j->area_size += frame_length(h);
    j->telling |= in_repaired(j, h->lsn);
    /* in segment 0 the tables are empty */
    if (first && !j->tables.begun && h->lsn > SEGMENT_HEADER_SIZE)
        tell(j, h, "tables-lost",
             "the oldest checkpoint is lost: names are known again from the next one on, and "
             "where partitions begin by their first records");
}

int judge_lost(struct judge *j, const struct frame_header *h, const uint8_t *frame) {
    int rc = 0;
    if (j->first_lsn == 0)
        j->first_lsn = h->lsn;
    if (j->repaired == NULL)
        j->telling = true;
    if (h->kind == FRAME_LOST)
        lost_frame(j, h);
    if (h->epoch != j->epoch) { /* a transaction ends with its incarnation */
        j->spill_count = 0;
        lookup_clear(&j->spill_lookup);
    }
    j->epoch = h->epoch;
    j->any_lost |= j->lost || h->kind == FRAME_LOST;
    if (h->kind == FRAME_SPILL)
        rc = add_spill(j, h, frame);
    if (h->kind == FRAME_COMMIT)
        rc = find_spilled(j, h, frame);
    if (j->tables.begun && j->lost && (h->kind == FRAME_COMMIT || h->kind == FRAME_CHECKPOINT))
        TRY(find_jumps(j, h, frame));
    return rc;
}

/* ---- counts */

void judge_counts(struct judge *j, const struct frame_header *h, const struct loss *before) {
    const struct loss *now = &j->tables.loss;
    uint64_t commits = now->commits - before->commits, changes = now->changes - before->changes;
    char text[400];
    struct frame_header at = *h;
    if (j->area_size == 0 || h->kind == FRAME_LOST)
        return;
    at.lsn = j->area_lsn;
    if (now->unknown != before->unknown) {
        snprintf(text, sizeof text,
                 "what was in %llu lost bytes is unknown: at most %llu commits with %llu catalog "
                 "changes",
                 (ull)j->area_size, (ull)(now->commits_most - before->commits_most),
                 (ull)(now->changes_most - before->changes_most));
        tell(j, &at, "loss-unknown", text);
        j->check->lost_unknown += j->telling;
    } else if (commits != 0) {
        snprintf(text, sizeof text, "%llu commit%s lost in %llu bytes, with %llu catalog change%s",
                 (ull)commits, commits == 1 ? " was" : "s were", (ull)j->area_size, (ull)changes,
                 changes == 1 ? "" : "s");
        tell(j, &at, "commits-lost", text);
        j->check->lost_commits += j->telling ? commits : 0;
        j->untold += j->telling ? commits : 0;
        j->check->lost_changes += j->telling ? changes : 0;
    } else {
        snprintf(text, sizeof text, "no commit was lost in %llu bytes", (ull)j->area_size);
        tell(j, &at, "nothing-lost", text);
    }
    j->area_size = 0;
}

void judge_checkpoint(struct judge *j) {
    j->telling = false; /* the damage before it is told */
    j->untold = 0;
}

static void tell_name(struct judge *j, const char *kind, uint32_t id, const char *name) {
    char text[400];
    struct frame_header none = {0};
    if (!name_lost(name))
        return;
    snprintf(text, sizeof text,
             "%s %u has lost its name and is called %s: give it its name back with 'pawl rename', "
             "or end it",
             kind, id, name);
    tell(j, &none, "name-lost", text);
    j->check->lost_names += j->telling;
}

static void tell_table(struct judge *j, const struct state_table *s) {
    tell_name(j, "table", s->id, s->name);
    for (uint32_t i = 0; i < s->partitions; i++) {
        if (!state_lost(&s->parts[i]))
            continue;
        verify_tell(j->check, 0, 0, 0, 0, "state-lost",
                    "table %s, partition %u: what it holds is lost, since changes of it were in "
                    "commits that are lost; it can't be read until the table is deleted",
                    s->name, i);
    }
}

void judge_lost_end(struct judge *j) {
    struct tables *t = &j->tables;
    struct loss before = t->loss;
    struct frame_header end = {.lsn = j->area_lsn};
    lost_at_end(t);
    judge_counts(j, &end, &before);
    j->check->lost_untold = j->untold;
    if (j->repaired == NULL || j->repaired->count != 0)
        j->telling = true;
    if (t->past_unknown) {
        end.lsn = j->first_lsn;
        tell(j, &end, "tables-lost",
             "no checkpoint is left: names, and positions, sequences and settings that no frame "
             "mentions, are lost");
        j->check->lost_unknown += j->telling;
    }
    for (uint32_t i = 0; i < t->stream_count; i++)
        tell_name(j, "stream", t->streams[i]->id, t->streams[i]->name);
    for (uint32_t i = 0; i < t->producer_count; i++)
        tell_name(j, "producer", t->producers[i]->id, t->producers[i]->name);
    for (uint32_t i = 0; i < t->processor_count; i++)
        tell_name(j, "processor", t->processors[i]->id, t->processors[i]->name);
    for (uint32_t i = 0; i < t->state.count; i++)
        tell_table(j, t->state.tables[i]);
}

void judge_free(struct judge *j) {
    mem_free(j->mem, j->spills, j->spill_cap * sizeof *j->spills);
    mem_free(j->mem, j->ends, j->end_cap * sizeof *j->ends);
    lookup_free(&j->spill_lookup);
    lookup_free(&j->end_lookup);
    outside_free(j->outside);
    tables_free(&j->tables);
}
