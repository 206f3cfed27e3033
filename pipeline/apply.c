/* SPDX-License-Identifier: Apache-2.0
 *
 * apply.c - applies a frame to the tables. Commit, recovery and followers of a live writer all use
 * this code, with the frame's own bytes, so that they can't disagree about the meaning of a frame.
 *
 * tables_apply()  the tables alone; verify and audit judge a log with tables of their own
 * engine_apply()  the tables of a handle, and the index of its newest segment
 */
#include <assert.h>

#include "pipeline/engine.h"

int apply_damaged(const struct frame_header *h, const char *what) {
    return fail_at(PAWL_DAMAGED, 0, "", "", h->lsn,
                   "the frame at LSN %llu contradicts the log before it: %s",
                   (unsigned long long)h->lsn, what);
}

int apply_unknown(const struct frame_header *h, const char *what, uint32_t op) {
    return fail_at(PAWL_VERSION, 0, "", "", h->lsn,
                   "%s %u at LSN %llu is not known to this version of Pawl; use a newer one", what,
                   op, (unsigned long long)h->lsn);
}

/* Says where a limit is passed. */
static int at_frame(const struct frame_header *h) {
    pawl_error e;
    fail_copy(&e);
    return fail_at(PAWL_LIMIT, 0, "", "", h->lsn,
                   "the frame at LSN %llu is beyond what a log may hold: %.300s",
                   (unsigned long long)h->lsn, e.message);
}

/* Skips a run that doesn't concern the tables. Recovery has checked it before
 * (frame_judge_features()). */
static int skip_run(const struct frame_header *h, const struct run *r) {
    if (run_type_known(r->type))
        return apply_damaged(h, "a run of a type that does not belong in such a frame");
    return (r->type & RUN_SKIP_READING) != 0 ? 0 : apply_unknown(h, "run type", r->type);
}

/* ---- COMMIT */

/* What a rename names may have gone with damage. */
static int apply_rename(struct tables *t, const struct frame_header *h,
                        const struct catalog_entry *e) {
    bool there = e->a == KIND_STREAM      ? tables_stream(t, e->id) != NULL
                 : e->a == KIND_PRODUCER  ? tables_producer(t, e->id) != NULL
                 : e->a == KIND_PROCESSOR ? tables_has_processor(t, e->id)
                                          : false;
    if (e->a < KIND_STREAM || e->a > KIND_PROCESSOR)
        return apply_damaged(h, "a rename of an unknown kind");
    return there ? tables_rename(t, (enum catalog_kind)e->a, e->id, e->name, e->name_len) : 0;
}

static int apply_catalog(struct tables *t, const struct frame_header *h, const struct run *r,
                         const uint8_t *data, bool lost) {
    uint32_t at = 0;
    for (uint32_t i = 0; i < r->count; i++) {
        struct catalog_entry e;
        if (!catalog_decode(data, r->len, &at, &e))
            return apply_damaged(h, "a catalog entry does not fit its run");
        /* the change that ended what has its name or id may be lost */
        if (lost && e.op >= CATALOG_STREAM && e.op <= CATALOG_PROCESSOR)
            lost_end_older(t, &e);
        switch (e.op) {
        case CATALOG_STREAM:
            TRY(limit_check(LIMIT_STREAM_PARTITIONS, e.a));
            TRY(tables_add_stream(t, e.id, (uint32_t)e.a, e.name, e.name_len));
            break;
        case CATALOG_PRODUCER:
            TRY(tables_add_producer(t, e.id, e.name, e.name_len));
            break;
        case CATALOG_PROCESSOR:
            TRY(tables_add_processor(t, e.id, e.name, e.name_len));
            break;
        case CATALOG_FORGET:
            if (tables_has_processor(t, e.id))
                tables_forget(t, e.id);
            break;
        case CATALOG_RETAIN:
            t->retain_bytes = e.a;
            t->retain_ms = e.b;
            break;
        case CATALOG_CONSUMED:
            t->consumed = e.a != 0;
            break;
        case CATALOG_DISK_CAP:
            TRY(limit_disk_cap(e.a, t->segment_size));
            t->disk_cap_set = true;
            t->disk_cap = e.a;
            break;
        case CATALOG_DELETE:
            if (tables_stream(t, e.id) != NULL)
                tables_delete_stream(t, e.id);
            break;
        case CATALOG_RENAME:
            TRY(apply_rename(t, h, &e));
            break;
        default:
            return apply_unknown(h, "catalog change", e.op);
        }
    }
    return 0;
}

static int apply_records(struct tables *t, const struct frame_header *h, const struct run *r,
                         bool lost) {
    struct stream *s = tables_stream(t, r->stream);
    if (s == NULL || r->partition >= s->partitions) {
        if (!lost)
            return apply_damaged(h, "records of a stream or partition that was never created");
        TRY(lost_stream(t, r->stream, r->partition));
        s = tables_stream(t, r->stream);
    }
    struct partition *p = &s->parts[r->partition];
    if (r->base != p->next && !(lost && r->base > p->next))
        return apply_damaged(h, "record offsets do not join");
    if (t->past_unknown && p->last_end == 0)
        p->base = r->base;
    TRY(limit_check(LIMIT_OFFSET, r->base));
    TRY(limit_check(LIMIT_OFFSET, r->base + r->count));
    if (r->type == RUN_RECORDS && r->count > r->len / RECORD_HEADER_SIZE)
        return apply_damaged(h, "a run of records says that it has more than fit into it");
    uint64_t end = h->lsn + frame_length(h);
    if (p->last_end != end) { /* the first run of this commit here */
        p->safe = tables_durable_next(p, h->durable);
        if (p->mid_end <= h->durable) {
            p->mid = p->next;
            p->mid_end = p->last_end;
        }
        p->last_end = end;
    }
    p->next = r->base + r->count;
    t->records += r->count;
    if (p->watchers != 0)
        t->watched_end = end;
    t->touched[WORK_APPENDED] |= p->workers[WORK_APPENDED];
    t->touched[WORK_DURABLE] |= p->workers[WORK_DURABLE];
    /* tables and frame agree: the run ends at the partition's next offset */
    assert(p->next == r->base + r->count && p->last_end == end);
    /* PAWL-1: nothing counts as durable that was not appended; PAWL-4: offsets only grow */
    assert(p->safe <= p->mid && p->mid <= p->next && r->base <= p->next);
    return 0;
}

/* After damage: what was consumed was there, so a partition doesn't end before it. Else records
 * that are appended later would get offsets that a processor has passed, and never be read. */
static int reach_position(struct tables *t, const struct frame_header *h,
                          const struct position_entry *e) {
    const struct stream *s = tables_stream(t, e->stream);
    if (s == NULL || e->partition >= s->partitions || e->to <= s->parts[e->partition].next)
        return 0;
    return apply_records(
        t, h, &(struct run){.stream = e->stream, .partition = e->partition, .base = e->to}, true);
}

/* What was consumed is there: the interface lets no position pass its partition's end. */
static int check_end(const struct tables *t, const struct frame_header *h,
                     const struct position_entry *e) {
    const struct stream *s = tables_stream(t, e->stream);
    assert(s != NULL && e->partition < s->partitions); /* a row says so, or it was looked up */
    return e->to <= s->parts[e->partition].next
               ? 0
               : apply_damaged(h, "a position beyond the end of its partition");
}

static int apply_positions(struct tables *t, const struct frame_header *h, const struct run *r,
                           const uint8_t *data, bool lost) {
    uint32_t at = 0;
    for (uint32_t i = 0; i < r->count; i++) {
        struct position_entry e;
        if (!position_decode(data, r->len, &at, &e))
            return apply_damaged(h, "a position does not fit its run");
        assert(e.from <= e.to); /* PAWL-4 */
        TRY(limit_check(LIMIT_OFFSET, e.to));
        struct position_row *p = tables_position(t, e.processor, e.stream, e.partition);
        if (p == NULL) { /* then both may be new */
            const struct stream *s = tables_stream(t, e.stream);
            bool there =
                tables_has_processor(t, e.processor) && s != NULL && e.partition < s->partitions;
            if (!there && !lost)
                return apply_damaged(
                    h, "a position of a processor or partition that was never created");
            if (!there) {
                TRY(lost_processor(t, e.processor));
                TRY(lost_stream(t, e.stream, e.partition));
            }
            TRY(lost ? reach_position(t, h, &e) : check_end(t, h, &e));
            if (lost && e.from != 0)
                state_doubt(t, e.processor, e.partition);
            TRY(tables_set_position(t, e.processor, e.stream, e.partition, e.to));
            continue;
        }
        if (p->offset != e.from && !(lost && e.from > p->offset))
            return apply_damaged(h, "an interval does not begin where the one before ended");
        TRY(lost ? reach_position(t, h, &e) : check_end(t, h, &e));
        if (p->offset != e.from)
            state_doubt(t, e.processor, e.partition);
        assert(p->offset <= e.to); /* PAWL-4: a position only grows */
        p->offset = e.to;
    }
    return 0;
}

/* The first run of records; zeros if there is none. */
static struct run first_records(const struct frame_header *h, const uint8_t *frame) {
    for (uint32_t i = 0; i < h->runs; i++) {
        struct run r;
        const uint8_t *ignored;
        frame_run(frame, h, i, &r, &ignored);
        if (run_has_records(&r))
            return r;
    }
    return (struct run){0};
}

static int apply_producers(struct tables *t, const struct frame_header *h, const uint8_t *frame,
                           const struct run *r, const uint8_t *data, bool lost) {
    /* the receipt of each one's last sequence is the place of the commit's first record */
    struct run first = first_records(h, frame);
    uint32_t at = 0;
    for (uint32_t i = 0; i < r->count; i++) {
        struct producer_entry e;
        if (!producer_decode(data, r->len, &at, &e))
            return apply_damaged(h, "a producer entry does not fit its run");
        struct producer *p = tables_producer(t, e.producer);
        if (p == NULL) {
            if (!lost)
                return apply_damaged(h, "a producer that was never created");
            TRY(lost_producer(t, e.producer));
            p = tables_producer(t, e.producer);
        }
        TRY(limit_check(LIMIT_SEQUENCE, e.last));
        if (e.epoch < p->epoch || (e.first != p->sequence + 1 && !(lost && e.first > p->sequence)))
            return apply_damaged(h, "a producer's sequence does not continue");
        p->epoch = e.epoch;
        if (e.last < e.first)
            continue;                 /* it only announces a new holder */
        assert(e.last > p->sequence); /* PAWL-3: a sequence is committed once */
        p->sequence = e.last;
        p->cookie_len = e.cookie_len;
        memcpy(p->cookie, e.cookie, COOKIE_MAX);
        p->stream = first.stream;
        p->partition = first.partition;
        p->offset = first.base;
    }
    return 0;
}

static int apply_sinks(struct tables *t, const struct frame_header *h, const struct run *r,
                       const uint8_t *data, bool lost) {
    uint32_t at = 0;
    for (uint32_t i = 0; i < r->count; i++) {
        struct sink_entry e;
        if (!sink_decode(data, r->len, &at, &e))
            return apply_damaged(h, "a sink decision does not fit its run");
        if (e.op != SINK_DECIDED && e.op != SINK_FINISHED)
            return apply_unknown(h, "sink decision", e.op);
        if (lost && e.op == SINK_DECIDED)
            TRY(lost_processor(t, e.processor));
        TRY(tables_set_decision(t, &e));
    }
    return 0;
}

static int apply_spilled(struct tables *t, const struct frame_header *h, const struct run *r,
                         const uint8_t *data) {
    struct spilled_entry e;
    if (!spilled_decode(data, r->len, &e) || e.lsn >= h->lsn)
        return apply_damaged(h, "a reference to a spilled run is not well formed");
    if (e.lsn < t->epoch_from)
        return apply_damaged(h, "a spilled run of an earlier incarnation");
    TRY(spill_refs_take(&t->spills, e.lsn, r));
    uint64_t from = e.lsn / t->segment_size, to = h->lsn / t->segment_size;
    return from != to ? tables_set_span(t, to, from) : 0;
}

static int apply_run(struct tables *t, const struct frame_header *h, const uint8_t *frame,
                     const struct run *r, const uint8_t *data, bool lost) {
    switch (r->type) {
    case RUN_SPILLED:
        TRY(apply_spilled(t, h, r, data));
        return apply_records(t, h, r, lost);
    case RUN_RECORDS:
        return apply_records(t, h, r, lost);
    case RUN_POSITIONS:
        return apply_positions(t, h, r, data, lost);
    case RUN_PRODUCERS:
        return apply_producers(t, h, frame, r, data, lost);
    case RUN_SINKS:
        return apply_sinks(t, h, r, data, lost);
    case RUN_STATE:
        return state_apply_changes(t, h, r, data, lost);
    case RUN_CATALOG:
    case RUN_TABLES:  /* applied before */
    case RUN_ORIGINS: /* the audit reads it, no table does */
        return 0;
    default:
        return skip_run(h, r);
    }
}

static int apply_commit(struct tables *t, const struct frame_header *h, const uint8_t *frame,
                        bool lost) {
    struct run r;
    const uint8_t *data;
    /* the catalog first: other runs may use the streams and processors that it creates */
    for (uint32_t i = 0; i < h->runs; i++) {
        if (frame_run_type(frame, i) != RUN_CATALOG)
            continue;
        frame_run(frame, h, i, &r, &data);
        TRY(apply_catalog(t, h, &r, data, lost));
        t->ids.changes += r.count;
    }
    /* then the tables that belong to those processors */
    for (uint32_t i = 0; i < h->runs; i++) {
        if (frame_run_type(frame, i) != RUN_TABLES)
            continue;
        frame_run(frame, h, i, &r, &data);
        TRY(state_apply_tables(t, h, &r, data, lost));
    }
    for (uint32_t i = 0; i < h->runs; i++) {
        frame_run(frame, h, i, &r, &data);
        TRY(apply_run(t, h, frame, &r, data, lost));
    }
    t->commits++;
    t->ids.commits++;
    t->counts = counts_encode(t->ids.commits, t->ids.changes);
    return 0;
}

/* ---- CHECKPOINT */

static int load_producer(struct tables *t, const struct c_producer *e) {
    TRY(limit_check(LIMIT_SEQUENCE, e->sequence));
    TRY(tables_add_producer(t, e->id, e->name, e->name_len));
    struct producer *p = tables_producer(t, e->id);
    p->epoch = e->epoch;
    p->sequence = e->sequence;
    p->stream = e->stream;
    p->partition = e->partition;
    p->offset = e->offset;
    p->cookie_len = e->cookie_len;
    memcpy(p->cookie, e->cookie, COOKIE_MAX);
    return 0;
}

static int load_next(struct tables *t, const struct c_next *e) {
    struct stream *s = tables_stream(t, e->stream);
    if (s == NULL || e->partition >= s->partitions)
        return fail(PAWL_DAMAGED, "a checkpoint names a partition that is not there");
    TRY(limit_check(LIMIT_OFFSET, e->next));
    struct partition *p = &s->parts[e->partition];
    p->next = p->safe = p->mid = p->base = e->next;
    return 0;
}

/* The entry at *at. 1: loaded, 0: it doesn't fit its run, negative: error. */
static int load_entry(struct tables *t, const struct run *r, const uint8_t *data, uint32_t *at) {
    union {
        struct c_stream stream;
        struct c_next next;
        struct c_producer producer;
        struct c_processor processor;
        struct c_position position;
        struct c_settings settings;
        struct c_sink sink;
        struct c_span span;
        struct c_ids ids;
    } e;
    int rc = 0;
    switch (r->type) {
    case RUN_C_STREAMS:
        if (!c_stream_decode(data, r->len, at, &e.stream))
            return 0;
        if (e.stream.partitions != 0 || e.stream.name_len != 0)
            rc = tables_add_stream(t, e.stream.id, e.stream.partitions, e.stream.name,
                                   e.stream.name_len);
        else if ((rc = limit_check(LIMIT_ID, e.stream.id)) == 0 && e.stream.id >= t->ids.stream)
            t->ids.stream = e.stream.id + 1;
        break;
    case RUN_C_NEXT:
        if (!c_next_decode(data, r->len, at, &e.next))
            return 0;
        rc = load_next(t, &e.next);
        break;
    case RUN_C_PRODUCERS:
        if (!c_producer_decode(data, r->len, at, &e.producer))
            return 0;
        rc = load_producer(t, &e.producer);
        break;
    case RUN_C_PROCESSORS:
        if (!c_processor_decode(data, r->len, at, &e.processor))
            return 0;
        rc = tables_add_processor(t, e.processor.id, e.processor.name, e.processor.name_len);
        break;
    case RUN_C_POSITIONS:
        if (!c_position_decode(data, r->len, at, &e.position))
            return 0;
        rc = tables_set_position(t, e.position.processor, e.position.stream, e.position.partition,
                                 e.position.offset);
        break;
    case RUN_C_SETTINGS:
        if (!c_settings_decode(data, r->len, at, &e.settings))
            return 0;
        t->retain_bytes = e.settings.retain_bytes;
        t->retain_ms = e.settings.retain_ms;
        t->consumed = (e.settings.flags & SETTINGS_CONSUMED) != 0;
        break;
    case RUN_C_SINKS:
        if (!c_sink_decode(data, r->len, at, &e.sink))
            return 0;
        rc = tables_set_decision(
            t, &(struct sink_entry){e.sink.processor, SINK_DECIDED, e.sink.name, e.sink.name_len});
        break;
    case RUN_C_IDS: /* the last run: no row has such an id */
        if (!c_ids_decode(data, r->len, at, &e.ids))
            return 0;
        if (e.ids.table == 0)
            e.ids.table = 1;
        if (e.ids.stream < t->ids.stream || e.ids.producer < t->ids.producer ||
            e.ids.processor < t->ids.processor || e.ids.table < t->ids.table)
            rc = fail(PAWL_DAMAGED, "a checkpoint's next ids are used already");
        t->ids = e.ids;
        t->counted = true;
        break;
    default:
        assert(r->type == RUN_C_SPANS);
        if (!c_span_decode(data, r->len, at, &e.span))
            return 0;
        rc = tables_set_span(t, e.span.segment, e.span.oldest);
    }
    return rc < 0 ? rc : 1;
}

static int load_run(struct tables *t, const struct frame_header *h, const struct run *r,
                    const uint8_t *data) {
    if (r->type == RUN_CLOCK)
        return 0; /* tables_apply() has it */
    bool state = state_loads(r->type);
    if ((r->type < RUN_C_STREAMS || r->type > RUN_C_SPANS) && r->type != RUN_C_IDS && !state)
        return skip_run(h, r);
    uint32_t at = 0;
    for (uint32_t i = 0; i < r->count; i++) {
        int rc = state ? state_load_entry(t, r, data, &at) : load_entry(t, r, data, &at);
        if (rc <= 0)
            return rc < 0 ? rc : apply_damaged(h, "a checkpoint entry does not fit its run");
    }
    return 0;
}

/* Positions last: what they name must be there. */
static int load_runs(struct tables *t, const struct frame_header *h, const uint8_t *frame) {
    for (int round = 0; round < 2; round++)
        for (uint32_t i = 0; i < h->runs; i++) {
            struct run r;
            const uint8_t *data;
            frame_run(frame, h, i, &r, &data);
            if ((r.type == RUN_C_POSITIONS) == (round == 1))
                TRY(load_run(t, h, &r, data));
        }
    for (uint32_t i = 0; i < t->position_count; i++) {
        const struct position_row *p = &t->positions[i];
        if (p->offset > tables_stream(t, p->stream)->parts[p->partition].next)
            return apply_damaged(h, "a position beyond the end of its partition");
    }
    if (t->span_count != 0 && t->spans[t->span_count - 1].segment > h->lsn / t->segment_size)
        return apply_damaged(h, "a later segment refers to older ones");
    return state_check_loaded(t, h);
}

/* Keeps the partitions' first offsets, which no checkpoint holds. */
static void keep_firsts(struct tables *t, const struct tables *old) {
    for (uint32_t i = 0; i < t->stream_count; i++) {
        const struct stream *s = tables_stream(old, t->streams[i]->id);
        for (uint32_t k = 0; s != NULL && k < t->streams[i]->partitions && k < s->partitions; k++) {
            struct partition *p = &t->streams[i]->parts[k];
            p->first = s->parts[k].first < p->next ? s->parts[k].first : p->next;
        }
    }
}

/* A checkpoint replaces the tables. */
static int load(struct tables *t, const struct frame_header *h, const uint8_t *frame, bool lost) {
    struct tables old = *t;
    tables_init(t, old.mem, old.segment_size);
    t->commits = old.commits;
    t->records = old.records;
    t->loss = old.loss;
    t->age = old.age;
    t->epoch = old.epoch;
    t->epoch_from = old.epoch_from;
    t->spills = old.spills;
    t->begun = true;
    /* the checkpoint of segment 0 is empty, and knows it */
    t->counted = h->ids != NULL && h->lsn == SEGMENT_HEADER_SIZE;
    int rc = load_runs(t, h, frame);
    t->counts = counts_encode(t->ids.commits, t->ids.changes);
    keep_firsts(t, &old);
    state_loaded(t, &old, h->lsn, lost);
    tables_free(&old);
    return rc;
}

/* A transaction ends with its incarnation. Where the first one known began isn't known. */
static void note_epoch(struct tables *t, const struct frame_header *h) {
    /* a writer doesn't apply the record of its own incarnation */
    bool begins = h->kind != FRAME_COMMIT && h->kind != FRAME_SPILL && h->kind != FRAME_WITNESS;
    t->epoch_from = t->epoch != 0 && begins ? h->lsn : 0;
    t->epoch = h->epoch;
}

static int apply(struct tables *t, const struct frame_header *h, const uint8_t *frame, bool lost) {
    if (h->kind != FRAME_COMMIT)
        (void)frame_age(h, frame, &t->age);
    if (h->epoch != t->epoch)
        note_epoch(t, h);
    if (!lost_nothing(t, h))
        TRY(lost_judge(t, h, frame, lost || !t->begun));
    if (h->kind == FRAME_CHECKPOINT)
        TRY(load(t, h, frame, lost));
    else if (h->kind == FRAME_COMMIT)
        TRY(apply_commit(t, h, frame, lost));
    else
        return 0;
    state_note_time(&t->state, h->time_ns);
    return tables_fit(t);
}

int tables_apply(struct tables *t, const struct frame_header *h, const uint8_t *frame, bool lost) {
    int rc = apply(t, h, frame, lost);
    return rc == PAWL_LIMIT ? at_frame(h) : rc;
}

/* ---- a handle */

void engine_begin_segment(pawl *p) {
    p->index_count = 0;
    tables_begin_segment(&p->tables);
}

int engine_apply(pawl *p, const struct frame_header *h, const uint8_t *frame, bool lost) {
    uint64_t flushed = p->tables.state.flush_lsn;
    TRY(tables_apply(&p->tables, h, frame, lost));
    if (p->tables.state.flush_lsn != flushed && p->store.begun)
        state_applied(p);
    /* a checkpoint, or the frame that repair put in its place */
    if (segment_offset(h->lsn, p->tables.segment_size) == SEGMENT_HEADER_SIZE)
        engine_begin_segment(p);
    else if (h->kind == FRAME_COMMIT)
        locate_index_add(p, h, frame);
    /* for the next segment's header */
    if (p->tables.disk_cap_set)
        p->wal.disk_cap_said = p->wal.disk_cap = p->tables.disk_cap;
    p->wal.counts = p->tables.counts;
    if (p->tables.state.expiring != 0)
        p->wal.time_least = p->tables.state.clock_ms * STATE_NS_PER_MS;
    return 0;
}
