/* SPDX-License-Identifier: Apache-2.0
 *
 * One batch, from the log to the target, in the order in which things happen:
 *   give up first    at-most-once only: the log's position moves before anything is delivered
 *   write records    begin(), then write() until the batch is full or the log has no more
 *   end              by kind
 *     transactional  commit() with the position; the log's position follows
 *     two-phase      prepare(); decision and position durable in the log; commit_prepared()
 *     idempotent     stable: the bounds durable in the log; commit(); the log's position follows
 *   delivered        or not: tried again later, split to find a poison record, or failed
 */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "connectors/runtime/sink_runtime.h"

/* A batch on its way. */
struct delivery {
    struct part *part;
    pawl_sink_batch batch; /* `to` and the name once the records are written */
    char name[NAME_MAX_BYTES];
    uint64_t from;
    uint64_t end;       /* the batch ends here at the latest */
    uint64_t bytes_max; /* and about after this many bytes */
    uint64_t at;        /* the target has taken the records below */
    uint64_t handed;    /* the records below have been handed to it */
    uint64_t bytes;
    uint64_t last_lsn; /* of the frame that holds the last of them */
    uint64_t mark;     /* of the last of them */
    bool at_most_once;
    bool decided; /* two-phase: nothing but the target can stop it now */
    pawl_fault fault;
};

/* A phase returns an outcome of the target (DONE: go on), CUT, or < 0: a code of the log. CUT: the
 * log has lost a part of a batch whose bounds were promised. */
enum { CUT = 100 };

static uint64_t latest_end(const struct pawl_sink *s, const struct part *t);
static int give_up_first(struct pawl_sink *s, struct delivery *d);
static int write_records(struct pawl_sink *s, struct delivery *d);
static int end_batch(struct pawl_sink *s, struct delivery *d);
static int end_transactional(struct pawl_sink *s, struct delivery *d);
static int end_two_phase(struct pawl_sink *s, struct delivery *d);
static int end_idempotent(struct pawl_sink *s, struct delivery *d);
static void delivered(struct pawl_sink *s, const struct delivery *d);
static int not_delivered(struct pawl_sink *s, struct delivery *d, int rc);

int sink_deliver(struct pawl_sink *s, struct part *t) {
    bool promised = t->promised != NOWHERE;
    struct delivery d = {.part = t,
                         .from = t->next,
                         .at = t->next,
                         .handed = t->next,
                         .end = latest_end(s, t),
                         .at_most_once = s->config.guarantee == PAWL_AT_MOST_ONCE,
                         .fault = {.offset = NOWHERE}};
    d.bytes_max = d.at_most_once || promised ? UINT64_MAX : s->config.batch_bytes;
    int rc = give_up_first(s, &d);
    if (rc < 0)
        return sink_log_answer(s, rc);
    sink_batch(s, t, d.from, 0, &d.batch, d.name);
    rc = write_records(s, &d);
    if (rc == PAWL_DONE && promised && d.at != t->promised)
        rc = CUT;
    sink_batch(s, t, d.from, d.at, &d.batch, d.name);
    if (rc == PAWL_DONE)
        rc = end_batch(s, &d);
    if (rc != PAWL_DONE)
        return not_delivered(s, &d, rc);
    delivered(s, &d);
    return sink_settle(s, t);
}

static uint64_t latest_end(const struct pawl_sink *s, const struct part *t) {
    if (t->promised != NOWHERE)
        return t->promised;
    uint64_t end = t->next + s->config.batch_records;
    if (t->next < t->logged && t->logged < end)
        end = t->logged;
    if (t->limit < end)
        end = t->limit;
    return t->poison < end ? t->poison : end;
}

/* At-most-once: the records read so far count as delivered before they are. */
static int give_up_first(struct pawl_sink *s, struct delivery *d) {
    const struct part *t = d->part;
    if (!d->at_most_once)
        return 0;
    uint64_t read = d->from + t->chunk.count - t->used;
    d->end = read < d->end ? read : d->end;
    return sink_log(
        s, &(struct log_change){.part = d->part, .from = d->from, .to = d->end, .durable = true});
}

/* ---- write */

static uint64_t bytes_of(const pawl_record *r) {
    return (uint64_t)r->key_len + r->value_len + r->raw_headers_len;
}

/* The next records that are in memory, as many as the batch takes. */
static size_t some(struct delivery *d) {
    const struct part *t = d->part;
    const pawl_record *r = &t->chunk.records[t->used];
    size_t n = 0;
    assert(r->offset == d->at); /* PAWL-4: nothing is passed over */
    while (t->used + n < t->chunk.count && d->at + n < d->end && d->bytes < d->bytes_max)
        d->bytes += bytes_of(&r[n++]);
    assert(r[n - 1].offset == d->at + n - 1); /* PAWL-4 */
    return n;
}

/* PAWL-1: only durable records leave the log. */
static bool durable(struct pawl_sink *s, const struct delivery *d) {
    pawl_status status = PAWL_STATUS_INIT;
    return d->at == d->from || pawl_get_status(s->flow.log, &status) < 0 ||
           d->last_lsn < status.durable_lsn;
}

static int write_records(struct pawl_sink *s, struct delivery *d) {
    struct part *t = d->part;
    int rc = s->ops.begin(s->ops.self, &d->batch, &d->fault);
    if (rc == PAWL_DONE)
        flow_point(&s->flow, "batch-begun");
    while (rc == PAWL_DONE && d->at < d->end && d->bytes < d->bytes_max) {
        int have = sink_fetch(s, t, d->at);
        if (have == 0 || have == PAWL_LOST)
            break;
        if (have < 0)
            return have;
        size_t n = some(d);
        d->handed = d->at + n;
        rc = s->ops.write(s->ops.self, &d->batch, &t->chunk.records[t->used], n, &d->fault);
        if (rc == PAWL_DONE) {
            t->used += n;
            d->at += n;
            d->last_lsn = t->chunk.records[t->used - 1].lsn;
            d->mark = sink_record_mark(&t->chunk.records[t->used - 1]);
        }
    }
    bool all_durable = durable(s, d);
    assert(all_durable);
    return rc;
}

/* ---- end */

static int end_batch(struct pawl_sink *s, struct delivery *d) {
    flow_point(&s->flow, "batch-written");
    if (s->ops.mark != NULL)
        s->ops.mark(s->ops.self, d->mark);
    if (sink_is(s, PAWL_SINK_TRANSACTIONAL))
        return end_transactional(s, d);
    if (sink_is(s, PAWL_SINK_TWO_PHASE))
        return end_two_phase(s, d);
    return end_idempotent(s, d);
}

/* The log's position isn't waited for: where it stands below the target's after a crash, it
 * follows. */
static int end_transactional(struct pawl_sink *s, struct delivery *d) {
    struct part *t = d->part;
    int rc = s->ops.commit(s->ops.self, &d->batch, &d->fault);
    if (rc != PAWL_DONE)
        return rc;
    flow_point(&s->flow, "target-committed");
    if (d->at < t->logged) /* delivered again: the log is ahead */
        return PAWL_DONE;
    rc = sink_log(
        s, &(struct log_change){.part = t, .from = t->logged, .to = d->at, .finish = {t->gap}});
    if (rc < 0)
        return rc;
    t->gap[0] = 0;
    flow_point(&s->flow, "log-advanced");
    return PAWL_DONE;
}

static int end_two_phase(struct pawl_sink *s, struct delivery *d) {
    char held[NAME_MAX_BYTES];
    int rc = s->ops.prepare(s->ops.self, &d->batch, &d->fault);
    if (rc != PAWL_DONE)
        return rc;
    flow_point(&s->flow, "batch-prepared");
    if (d->at <= d->part->logged) /* delivered again: the target's own position says how far */
        return s->ops.commit_prepared(s->ops.self, &d->batch, &d->fault);
    rc = sink_log(s, &(struct log_change){.part = d->part,
                                          .from = d->from,
                                          .to = d->at,
                                          .decide = d->name,
                                          .finish = {s->finish, d->part->gap},
                                          .hold = sink_holds(s, d->part, held),
                                          .durable = true});
    if (rc < 0)
        return rc;
    d->decided = true;
    s->finish[0] = 0;
    d->part->gap[0] = 0;
    flow_point(&s->flow, "batch-decided");
    rc = sink_commit_decided(s, d->part, d->from, d->at, false, &d->fault);
    if (rc == PAWL_DONE)
        flow_point(&s->flow, "batch-finished");
    return rc;
}

/* Stable batches: when the batch comes again, it has the same bounds. */
static int promise(struct pawl_sink *s, struct delivery *d, char name[NAME_MAX_BYTES]) {
    struct part *t = d->part;
    snprintf(name, NAME_MAX_BYTES, "batch-%u-%u-%llu-%llu", t->stream.id, t->partition,
             (unsigned long long)d->from, (unsigned long long)d->at);
    if (t->promised == NOWHERE) {
        int rc = sink_log(s, &(struct log_change){.decide = name, .durable = true});
        if (rc < 0)
            return rc;
    }
    t->promised = d->at;
    flow_point(&s->flow, "batch-promised");
    return 0;
}

static int end_idempotent(struct pawl_sink *s, struct delivery *d) {
    struct part *t = d->part;
    char name[NAME_MAX_BYTES], held[NAME_MAX_BYTES];
    bool stable =
        (s->ops.flags & PAWL_SINK_STABLE) != 0 && s->config.guarantee == PAWL_EXACTLY_ONCE;
    int rc = stable ? promise(s, d, name) : 0;
    if (rc == 0)
        rc = s->ops.commit(s->ops.self, &d->batch, &d->fault);
    if (rc != PAWL_DONE)
        return rc;
    flow_point(&s->flow, "target-committed");
    if (d->at <= t->logged && sink_has_position(s)) /* delivered again: the log is ahead */
        return PAWL_DONE;
    if (!d->at_most_once)
        rc = sink_log(s, &(struct log_change){.part = t,
                                              .from = d->from,
                                              .to = d->at,
                                              .finish = {stable ? name : NULL, t->gap},
                                              .hold = sink_holds(s, t, held)});
    if (rc < 0)
        return rc;
    t->promised = NOWHERE;
    t->gap[0] = 0;
    flow_point(&s->flow, "log-advanced");
    return PAWL_DONE;
}

/* ---- delivered, or not */

static void delivered(struct pawl_sink *s, const struct delivery *d) {
    struct part *t = d->part;
    bool again = d->batch.redelivery != 0;
    uint64_t n = d->at - d->from;
    t->next = d->at;
    t->limit = NOWHERE;
    t->waiting_since_ns = 0;
    s->nothing_open = false;
    flow_arrived(&s->flow, &(pawl_flow_status){.records = again ? 0 : n,
                                               .redelivered = again ? n : 0,
                                               .bytes = d->bytes});
}

/* The target refused a record of [from, handed): which one is known, or is found by halves. */
static void find_poison(struct delivery *d) {
    struct part *t = d->part;
    const pawl_fault *f = &d->fault;
    snprintf(t->why, sizeof t->why, "%s",
             f->message[0] != 0 ? f->message : "the target refused it");
    if (f->offset != NOWHERE && f->offset >= d->from && f->offset < d->handed)
        t->poison = f->offset;
    else if (d->handed - d->from <= 1)
        t->poison = d->from;
    else
        t->limit = d->from + (d->handed - d->from) / 2;
}

static int not_delivered(struct pawl_sink *s, struct delivery *d, int rc) {
    struct part *t = d->part;
    if (d->at_most_once)
        FLOW_COUNT(&s->flow, lost, d->end - d->from);
    if (rc < 0)
        return sink_log_answer(s, rc);
    if (rc == PAWL_POISON && d->at_most_once)
        rc = PAWL_RETRY; /* its records are lost already, as in any batch that fails */
    if ((rc != PAWL_POISON && rc != CUT) || d->decided)
        return sink_answer(s, d->decided ? "commit_prepared" : "deliver", rc, &d->fault);
    s->ops.abort(s->ops.self); /* nothing of it remains in the target */
    sink_rewind(t, d->from);
    if (rc == CUT)
        t->limit = d->at;
    else
        find_poison(d);
    return sink_drop_promise(s, t);
}

/* ---- records that the target has lost */

int sink_deliver_again(struct pawl_sink *s, struct part *t, uint64_t from, uint64_t to,
                       pawl_fault *f) {
    struct delivery d = {.part = t,
                         .from = from,
                         .at = from,
                         .end = to,
                         .bytes_max = UINT64_MAX,
                         .fault = {.offset = NOWHERE}};
    uint64_t next = t->next;
    sink_rewind(t, from);
    sink_batch(s, t, from, to, &d.batch, d.name);
    int rc = write_records(s, &d);
    if (rc == PAWL_DONE && d.at != to)
        rc = pawl_fault_set(&d.fault, PAWL_FATAL, "the log no longer has all of %s", d.name);
    if (rc == PAWL_DONE && !sink_is(s, PAWL_SINK_TWO_PHASE))
        rc = s->ops.commit(s->ops.self, &d.batch, &d.fault);
    else if (rc == PAWL_DONE)
        rc = s->ops.prepare(s->ops.self, &d.batch, &d.fault);
    if (rc == PAWL_DONE && sink_is(s, PAWL_SINK_TWO_PHASE))
        rc = s->ops.commit_prepared(s->ops.self, &d.batch, &d.fault);
    sink_rewind(t, next);
    if (rc == PAWL_DONE)
        FLOW_COUNT(&s->flow, redelivered, to - from);
    if (rc <= PAWL_DONE)
        return rc;
    return pawl_fault_set(f, rc == PAWL_RETRY ? PAWL_RETRY : PAWL_FATAL, "delivering again: %s",
                          d.fault.message);
}

/* ---- a decided batch */

/* The target stays below the log, and that is well. */
static int accept_gap(struct pawl_sink *s, struct part *t, uint64_t from) {
    char gap[NAME_MAX_BYTES], old[NAME_MAX_BYTES];
    if (!sink_has_position(s))
        return PAWL_DONE;
    sink_gap(s, t, from, t->logged, gap, old);
    int rc =
        strcmp(gap, old) == 0
            ? 0
            : sink_log(s, &(struct log_change){.decide = gap, .finish = {old}, .durable = true});
    if (rc == 0)
        memcpy(t->gap, gap, sizeof t->gap);
    return rc;
}

/* The target neither holds the batch (GONE) nor has its records (GONE), or can't tell (UNKNOWN). */
static int lost(struct pawl_sink *s, struct part *t, const pawl_sink_batch *b, int outcome,
                pawl_fault *f) {
    char text[sizeof f->message];
    pawl_bounds kept;
    snprintf(text, sizeof text,
             "%s was decided, but the target no longer holds it prepared, and %s: it was rolled "
             "back by hand, timed out or lost",
             b->name,
             outcome == PAWL_GONE ? "its records are not there"
                                  : "can't tell whether its records are there");
    if (s->config.on_lost == PAWL_LOST_ACCEPT) {
        flow_report(&s->flow, 2, "%s; accepted as told", text);
        FLOW_COUNT(&s->flow, lost, b->to - b->from);
        return accept_gap(s, t, b->from);
    }
    if (s->config.on_lost != PAWL_LOST_REDELIVER || outcome != PAWL_GONE ||
        pawl_partition_bounds(s->flow.log, t->stream.id, t->partition, &kept) < 0 ||
        kept.first > b->from)
        return pawl_fault_set(f, PAWL_FATAL, "%s", text);
    flow_report(&s->flow, 2, "%s; delivered again", text);
    return sink_deliver_again(s, t, b->from, b->to, f);
}

int sink_commit_decided(struct pawl_sink *s, struct part *t, uint64_t from, uint64_t to,
                        bool recovering, pawl_fault *f) {
    char name[NAME_MAX_BYTES];
    pawl_sink_batch b;
    sink_batch(s, t, from, to, &b, name);
    assert(sink_decided(s, name)); /* PAWL-6: the decision comes before its effect */
    assert(to <= t->logged);       /* PAWL-3: and the position with the decision */
    int rc = s->ops.commit_prepared(s->ops.self, &b, f);
    if (rc == PAWL_DONE && recovering)
        FLOW_COUNT(&s->flow, recovered, 1);
    if (rc == PAWL_GONE) {
        *f = (pawl_fault){.offset = NOWHERE};
        rc = s->ops.committed(s->ops.self, &b, f);
        if (rc == PAWL_GONE || rc == PAWL_UNKNOWN)
            rc = lost(s, t, &b, rc, f);
    }
    if (rc != PAWL_DONE)
        return rc;
    flow_point(&s->flow, "batch-committed");
    /* one rides with the next transaction, more don't */
    if (s->finish[0] != 0 && strcmp(s->finish, name) != 0) {
        rc = sink_log(s, &(struct log_change){.finish = {s->finish}});
        if (rc < 0)
            return rc;
    }
    snprintf(s->finish, sizeof s->finish, "%s", name);
    return PAWL_DONE;
}
