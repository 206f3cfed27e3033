/* SPDX-License-Identifier: Apache-2.0
 *
 * One step of a sink: a batch of one partition. Only the reader's buffer is held in memory; nothing
 * is read for a target that is away or slow. Its position holds retention back meanwhile.
 */
#include "connectors/runtime/sink_runtime.h"

#define IDLE_NS UINT64_C(1000000000)
/* Where the log can't tell of new records (it is being stopped, or has failed) the sink looks for
 * them this often. */
#define POLL_MS 20

/* 1: a batch of it is due; 0: not now. */
static int due(struct pawl_sink *s, struct part *t, uint64_t now) {
    pawl_bounds b;
    int rc = pawl_partition_bounds(s->flow.log, t->stream.id, t->partition, &b);
    if (rc < 0)
        return rc;
    if (b.durable <= t->next) {
        t->waiting_since_ns = 0;
        return 0;
    }
    if (t->waiting_since_ns == 0)
        t->waiting_since_ns = now;
    return s->draining || b.durable - t->next >= s->config.batch_records || t->limit != NOWHERE ||
           t->poison != NOWHERE || t->promised != NOWHERE || t->next < t->logged ||
           now - t->waiting_since_ns >= (uint64_t)s->config.linger_ms * 1000000u;
}

static int step_part(struct pawl_sink *s, struct part *t) {
    if (t->poison == t->next)
        return sink_move_poison(s, t);
    int have = sink_fetch(s, t, t->next);
    if (have == PAWL_LOST)
        return sink_pass_lost(s, t);
    if (have < 0)
        return sink_log_answer(s, have);
    return have == 0 ? STEP_MORE : sink_deliver(s, t);
}

static int idle(struct pawl_sink *s, uint64_t now) {
    if (s->finish[0] != 0) {
        int rc = sink_log(s, &(struct log_change){.finish = {s->finish}});
        if (rc < 0)
            return sink_log_answer(s, rc);
        s->finish[0] = 0;
    }
    if (s->ops.idle == NULL || s->nothing_open || now < s->idle_at_ns)
        return 0;
    pawl_fault f = {.offset = NOWHERE};
    s->idle_at_ns = now + IDLE_NS;
    int outcome = s->ops.idle(s->ops.self, &f);
    s->nothing_open = outcome == PAWL_GONE;
    int rc = s->nothing_open ? 0 : sink_answer(s, "idle", outcome, &f);
    return rc == 0 ? sink_settle_all(s) : rc;
}

int sink_step_once(struct pawl_sink *s) {
    uint64_t now = flow_now(&s->flow);
    if (s->flow.retry_at_ns > now)
        return STEP_IDLE;
    s->flow.retry_at_ns = 0;
    flow_report_held(&s->flow, &s->poison_said, false);
    if (!s->flow.opened)
        return sink_recover(s);
    for (uint32_t i = 0; i < s->part_count; i++) {
        struct part *t = &s->parts[s->part_at];
        s->part_at = (s->part_at + 1) % s->part_count;
        int rc = due(s, t, now);
        if (rc < 0)
            return sink_log_answer(s, rc);
        if (rc > 0)
            return step_part(s, t);
    }
    int rc = idle(s, now);
    return rc != 0 ? rc : STEP_IDLE;
}

int sink_idle_ms(const struct pawl_sink *s) {
    if (s->flow.retry_at_ns != 0) {
        int ms = flow_retry_ms(&s->flow);
        return ms > 0 ? ms : 1;
    }
    uint64_t now = flow_now(&s->flow), until = now + IDLE_NS;
    for (uint32_t i = 0; i < s->part_count; i++) {
        uint64_t since = s->parts[i].waiting_since_ns,
                 at = since + (uint64_t)s->config.linger_ms * 1000000u;
        if (since != 0 && at < until)
            until = at;
    }
    return until > now ? connect_wait_ms(until, now) : 1;
}

/* ---- waiting */

/* Makes s->any tell when there is a record for the sink. 1: there is one already; 0: it will tell;
 * < 0: it can't. */
static int watch(struct pawl_sink *s) {
    pawl_batch batch;
    pawl_place at;
    int rc = s->any != NULL ? 0 : pawl_any_open(s->flow.log, NULL, 0, 0, &s->any);
    for (uint32_t i = 0; i < s->part_count && rc == 0; i++) {
        struct part *t = &s->parts[i];
        at = (pawl_place){t->stream.id, t->partition, t->next};
        if (t->watched == NOWHERE)
            rc = pawl_any_add(s->any, &at);
        else if (t->watched != t->next)
            rc = pawl_any_seek(s->any, &at);
        if (rc == 0)
            t->watched = t->next;
    }
    if (rc == 0)
        rc = pawl_read_any(s->any, 1, 0, &batch, &at);
    if (rc <= 0)
        return rc;
    /* the record is not for this reader: gives its memory back */
    int back = pawl_any_seek(s->any, &at);
    return back < 0 ? back : rc;
}

/* Some partition has records, but not enough for a batch yet. */
static bool gathers(const struct pawl_sink *s) {
    for (uint32_t i = 0; i < s->part_count; i++)
        if (s->parts[i].waiting_since_ns != 0)
            return true;
    return false;
}

static int shorter(int a, int b) {
    return a < b ? a : b;
}

/* Nobody tells when a batch is full: it may be looked at as late as it may linger anyway, about. */
static int gather_ms(const struct pawl_sink *s) {
    uint32_t tenth = s->config.linger_ms / 10;
    return shorter(sink_idle_ms(s), tenth > POLL_MS ? (int)tenth : POLL_MS);
}

/* Milliseconds until idle() is due; -1: never. */
static int idle_due_ms(const struct pawl_sink *s) {
    if (s->ops.idle == NULL || s->nothing_open)
        return -1;
    uint64_t now = flow_now(&s->flow);
    return s->idle_at_ns > now ? connect_wait_ms(s->idle_at_ns, now) : 1;
}

void sink_wait(struct pawl_sink *s) {
    if (s->flow.retry_at_ns != 0 || !s->flow.opened) {
        flow_wait(&s->flow, -1, flow_retry_ms(&s->flow));
        return;
    }
    if (gathers(s)) {
        flow_wait(&s->flow, -1, gather_ms(s));
        return;
    }
    int rc = watch(s), ms = idle_due_ms(s), said = flow_held_ms(&s->flow, &s->poison_said);
    if (rc > 0)
        return;
    if (said >= 0)
        ms = ms < 0 ? said : shorter(ms, said);
    int fd = rc == 0 ? pawl_any_fd(s->any) : -1;
    if (fd < 0)
        ms = ms < 0 ? POLL_MS : shorter(ms, POLL_MS);
    flow_wait(&s->flow, fd, ms);
}
