/* SPDX-License-Identifier: Apache-2.0
 *
 * The log's side of a sink. Open decisions of the sink's processor are:
 *   pawl-LOGID-SINK-STREAM-PARTITION-FROM-TO   two-phase: this prepared batch is to be committed
 *   start-STREAM-PARTITION-FROM-TO             with a position: the target has stored none
 *                                              yet; the log stands at TO
 *   gap-STREAM-PARTITION-FROM-TO               with a position: the target may stand at FROM while
 *                                              the log stands at TO, since what is between went to
 *                                              the dead-letter stream, was skipped or is lost in
 *                                              the log
 *   batch-STREAM-PARTITION-FROM-TO             stable: the next batch has exactly these bounds
 *   hold-STREAM-PARTITION-TEXT                 what the target must have of the partition
 *                                              (sink_held.c)
 *   lost-STREAM-PARTITION-FROM-TO              records that the target has lost, accepted; for ever
 *   target-TEXT                                what the target said of itself (sink_target.c); it
 *                                              stays open, as hold- and lost- do, until the sink's
 *                                              processor is forgotten
 */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "connectors/runtime/sink_runtime.h"

/* ---- names */

bool sink_is(const struct pawl_sink *s, int kind) {
    int as = s->config.guarantee == PAWL_EXACTLY_ONCE ? s->ops.kind : PAWL_SINK_IDEMPOTENT;
    return as == kind;
}

bool sink_has_position(const struct pawl_sink *s) {
    return s->config.guarantee == PAWL_EXACTLY_ONCE &&
           (s->ops.kind == PAWL_SINK_TRANSACTIONAL ||
            ((s->ops.flags & PAWL_SINK_POSITION) != 0 && s->ops.position != NULL));
}

void sink_prefix(const struct pawl_sink *s, char out[NAME_MAX_BYTES]) {
    char hex[33];
    log_id_text(s->log_id, hex);
    snprintf(out, NAME_MAX_BYTES, "pawl-%s-%s-", hex, s->flow.name);
}

void sink_batch(const struct pawl_sink *s, const struct part *t, uint64_t from, uint64_t to,
                pawl_sink_batch *b, char name[NAME_MAX_BYTES]) {
    *b = (pawl_sink_batch){.sink = s->flow.name,
                           .stream = "",
                           .name = name,
                           .from = from,
                           .to = to,
                           .attempt = s->flow.attempts};
    memcpy(b->log_id, s->log_id, sizeof b->log_id);
    name[0] = 0;
    if (t == NULL)
        return;
    b->stream = t->stream.name;
    b->stream_id = t->stream.id;
    b->partition = t->partition;
    b->redelivery = s->config.guarantee == PAWL_EXACTLY_ONCE && from < t->logged;
    if (to == 0)
        return;
    sink_prefix(s, name);
    size_t n = strlen(name);
    snprintf(name + n, NAME_MAX_BYTES - n, "%u-%u-%llu-%llu", t->stream.id, t->partition,
             (unsigned long long)from, (unsigned long long)to);
}

/* Four numbers with dashes between, and nothing else; in the one way in which they are written. */
static bool numbers(const char *text, unsigned long long n[4]) {
    char again[96];
    /* NOLINTNEXTLINE(cert-err34-c): judged by writing it again */
    if (sscanf(text, "%llu-%llu-%llu-%llu", &n[0], &n[1], &n[2], &n[3]) != 4)
        return false;
    snprintf(again, sizeof again, "%llu-%llu-%llu-%llu", n[0], n[1], n[2], n[3]);
    return strcmp(again, text) == 0;
}

bool sink_parse(struct pawl_sink *s, const char *name, struct part **part, uint64_t *from,
                uint64_t *to) {
    char prefix[NAME_MAX_BYTES];
    unsigned long long n[4];
    sink_prefix(s, prefix);
    size_t len = strlen(prefix);
    if (strncmp(name, prefix, len) != 0 || !numbers(name + len, n) || n[2] >= n[3])
        return false;
    for (uint32_t i = 0; i < s->part_count; i++)
        if (s->parts[i].stream.id == n[0] && s->parts[i].partition == n[1]) {
            *part = &s->parts[i];
            *from = n[2];
            *to = n[3];
            return true;
        }
    return false;
}

/* ---- records */

int sink_fetch(struct pawl_sink *s, struct part *t, uint64_t at) {
    if (t->used < t->chunk.count)
        return 1;
    if (t->chunk.count == 0 && t->chunk.to > t->chunk.from)
        return PAWL_LOST;
    if (t->reader == NULL) {
        int rc = pawl_reader_open(s->flow.log, t->stream.id, t->partition, at, PAWL_READ_COMMITTED,
                                  &t->reader);
        if (rc < 0)
            return rc;
    }
    t->used = 0;
    t->chunk = (pawl_batch){0};
    int rc = pawl_read(t->reader, s->config.batch_records, 0, &t->chunk);
    if (rc == PAWL_LOST) {
        t->chunk.count = 0;
        return rc;
    }
    if (rc <= 0)
        t->chunk = (pawl_batch){0};
    return rc == PAWL_STOPPED ? 0 : rc < 0 ? rc : rc > 0;
}

uint64_t sink_record_mark(const pawl_record *r) {
    uint64_t h = r->lsn * UINT64_C(0x9E3779B97F4A7C15) ^
                 (uint64_t)r->timestamp_ns * UINT64_C(0xC2B2AE3D27D4EB4F) ^
                 (r->offset + 1) * UINT64_C(0x165667B19E3779F9);
    h = (h ^ h >> 29) * UINT64_C(0xBF58476D1CE4E5B9);
    return (h ^ h >> 32) >> 2;
}

int sink_mark_at(struct pawl_sink *s, const struct part *t, uint64_t offset, uint64_t *mark) {
    pawl_reader *r = NULL;
    pawl_batch b = {0};
    pawl_bounds kept = {0};
    int rc = pawl_partition_bounds(s->flow.log, t->stream.id, t->partition, &kept);
    if (rc == 0 && (offset < kept.first || offset >= kept.durable))
        return PAWL_GONE;
    if (rc == 0)
        rc = pawl_reader_open(s->flow.log, t->stream.id, t->partition, offset, PAWL_READ_COMMITTED,
                              &r);
    if (rc == 0)
        rc = pawl_read(r, 1, 0, &b);
    bool there = rc > 0 && b.count > 0 && b.records[0].offset == offset;
    if (there)
        *mark = sink_record_mark(&b.records[0]);
    pawl_reader_close(r);
    return there ? PAWL_DONE : rc < 0 && rc != PAWL_LOST && rc != PAWL_TRIMMED ? rc : PAWL_GONE;
}

void sink_rewind(struct part *t, uint64_t offset) {
    pawl_reader_close(t->reader);
    t->reader = NULL;
    t->chunk = (pawl_batch){0};
    t->used = 0;
    t->next = offset;
}

uint64_t sink_lag(struct pawl_sink *s) {
    uint64_t n = 0;
    for (uint32_t i = 0; i < s->part_count; i++) {
        const struct part *t = &s->parts[i];
        pawl_bounds b;
        uint64_t at;
        if (pawl_partition_bounds(s->flow.log, t->stream.id, t->partition, &b) == 0 &&
            pawl_position_get(s->flow.log, s->flow.name, t->stream.id, t->partition, &at) == 0 &&
            b.durable > at)
            n += b.durable - at;
    }
    return n;
}

/* ---- positions and decisions */

uint32_t sink_decisions(const struct pawl_sink *s) {
    pawl_decision d;
    uint32_t n = 0;
    while (pawl_decision_at(s->flow.log, n, &d) == 0)
        n++;
    return n;
}

bool sink_decision_before(const struct pawl_sink *s, uint32_t *i, pawl_decision *d) {
    while (*i > 0)
        if (pawl_decision_at(s->flow.log, --*i, d) == 0 && d->processor == s->id)
            return true;
    return false;
}

bool sink_decided(const struct pawl_sink *s, const char *name) {
    pawl_decision d;
    for (uint32_t i = sink_decisions(s); sink_decision_before(s, &i, &d);)
        if (strcmp(d.name, name) == 0)
            return true;
    return false;
}

bool sink_mark(const struct pawl_sink *s, const char *kind, const struct part *t, uint64_t *from,
               uint64_t *to, char name[NAME_MAX_BYTES]) {
    pawl_decision d;
    size_t len = strlen(kind);
    unsigned long long n[4];
    for (uint32_t i = sink_decisions(s); sink_decision_before(s, &i, &d);) {
        if (strncmp(d.name, kind, len) != 0 || d.name[len] != '-' ||
            !numbers(d.name + len + 1, n) || n[0] != t->stream.id || n[1] != t->partition)
            continue;
        *from = n[2];
        *to = n[3];
        snprintf(name, NAME_MAX_BYTES, "%s", d.name);
        return true;
    }
    return false;
}

void sink_gap(const struct pawl_sink *s, const struct part *t, uint64_t from, uint64_t to,
              char gap[NAME_MAX_BYTES], char old[NAME_MAX_BYTES]) {
    uint64_t a, b;
    bool start = sink_mark(s, "start", t, &a, &b, old);
    if (!start && !sink_mark(s, "gap", t, &a, &b, old)) {
        old[0] = 0;
        a = from;
    }
    snprintf(gap, NAME_MAX_BYTES, "%s-%u-%u-%llu-%llu", start ? "start" : "gap", t->stream.id,
             t->partition, (unsigned long long)(a < from ? a : from), (unsigned long long)to);
}

static int fill_tx(struct pawl_sink *s, pawl_tx *tx, const struct log_change *c) {
    int rc = 0;
    if (c->dead != NULL)
        rc = connect_dead_letter(s->flow.log, tx, s->config.dead_letter, s->flow.name,
                                 c->part->stream.name, c->dead, c->why, UINT32_MAX);
    for (size_t i = 0; i < 2 && rc == 0; i++)
        if (c->finish[i] != NULL && c->finish[i][0] != 0)
            rc = pawl_finish(tx, s->id, c->finish[i]);
    if (rc == 0 && c->decide != NULL)
        rc = pawl_decide(tx, s->id, c->decide);
    if (rc == 0 && c->hold != NULL && c->part->held[0] != 0)
        rc = pawl_finish(tx, s->id, c->part->held);
    if (rc == 0 && c->hold != NULL && c->hold[0] != 0)
        rc = pawl_decide(tx, s->id, c->hold);
    if (rc == 0 && c->from != c->to)
        rc = pawl_advance(tx, s->id, c->part->stream.id, c->part->partition, c->from, c->to);
    return rc;
}

int sink_log(struct pawl_sink *s, const struct log_change *c) {
    pawl_tx *tx;
    assert(c->from == c->to || (c->from == c->part->logged && c->from < c->to)); /* PAWL-4 */
    assert(c->decide == NULL || c->durable);                                     /* PAWL-6 */
    int rc = pawl_begin(s->flow.log, &tx);
    if (rc < 0)
        return rc;
    rc = fill_tx(s, tx, c);
    if (rc < 0) {
        pawl_abort(tx);
        return rc;
    }
    rc = connect_commit(tx, c->durable, NULL);
    if (rc == 0 && c->from != c->to)
        c->part->logged = c->to;
    if (rc == 0 && c->hold != NULL)
        snprintf(c->part->held, sizeof c->part->held, "%s", c->hold);
    return rc;
}

int sink_drop_promise(struct pawl_sink *s, struct part *t) {
    char name[NAME_MAX_BYTES];
    uint64_t from, to;
    if (t->promised == NOWHERE)
        return 0;
    t->promised = NOWHERE;
    if (!sink_mark(s, "batch", t, &from, &to, name))
        return 0;
    int rc = sink_log(s, &(struct log_change){.finish = {name}, .durable = true});
    return rc < 0 ? sink_log_answer(s, rc) : 0;
}

/* ---- answers that end a step */

/* After any fault the target is opened again, and what is in doubt resolved: after a lost
 * connection nobody knows whether the last call took effect. */
static void leave_target(struct pawl_sink *s) {
    s->ops.abort(s->ops.self);
    s->flow.opened = false;
}

int sink_answer(struct pawl_sink *s, const char *call, int outcome, const pawl_fault *f) {
    if (outcome == PAWL_DONE)
        return 0;
    leave_target(s);
    return flow_answer(&s->flow, call, outcome, f);
}

int sink_log_answer(struct pawl_sink *s, int code) {
    leave_target(s);
    return flow_log_answer(&s->flow, code);
}

int sink_stop_for_good(struct pawl_sink *s, const char *text) {
    leave_target(s);
    return flow_fail(&s->flow, PAWL_PROCESSOR, text);
}
