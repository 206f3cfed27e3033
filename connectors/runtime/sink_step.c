/* SPDX-License-Identifier: Apache-2.0
 *
 * One step of a sink: a batch of one partition. What is in memory is the reader's buffer; a target
 * that is away or slow is not read for, its position holds retention, and nothing piles up.
 */
#include <stdio.h>
#include <string.h>

#include "connectors/runtime/sink_runtime.h"

#define IDLE_NS UINT64_C(1000000000)

/* Records in t->chunk behind t->used? 1 yes, 0 none now, PAWL_LOST: t->chunk is an interval that
 * the log has lost. */
static int fill(struct pawl_sink *s, struct part *t, uint64_t at, int timeout_ms) {
    if (t->used < t->chunk.count)
        return 1;
    if (t->chunk.count == 0 && t->chunk.to > t->chunk.from)
        return PAWL_LOST;
    if (t->reader == NULL) {
        int rc = pawl_reader_open(s->log, t->stream.id, t->partition, at, PAWL_READ_COMMITTED,
                                  &t->reader);
        if (rc < 0)
            return rc;
    }
    t->used = 0;
    t->chunk = (pawl_batch){0};
    int rc = pawl_read(t->reader, s->config.batch_records, timeout_ms, &t->chunk);
    if (rc == PAWL_LOST) {
        t->chunk.count = 0;
        return rc;
    }
    if (rc <= 0)
        t->chunk = (pawl_batch){0};
    return rc == PAWL_STOPPED ? 0 : rc < 0 ? rc : rc > 0;
}

/* Back to an offset: what was read ahead is read again. */
static void rewind_to(struct part *t, uint64_t offset) {
    pawl_reader_close(t->reader);
    t->reader = NULL;
    t->chunk = (pawl_batch){0};
    t->used = 0;
    t->next = offset;
}

static uint64_t bytes_of(const pawl_record *r) {
    return (uint64_t)r->key_len + r->value_len + r->raw_headers_len;
}

/* Writes records from *at on to the sink, to `end` at most or about `bytes`, as far as there are
 * any. An outcome, or < 0 of the log. */
static int write_range(struct pawl_sink *s, struct part *t, const pawl_sink_batch *b, uint64_t end,
                       uint64_t bytes, uint64_t *at, uint64_t *written, pawl_fault *f) {
    *written = 0;
    while (*at < end && *written < bytes) {
        int have = fill(s, t, *at, 0);
        if (have == 0 || have == PAWL_LOST)
            break;
        if (have < 0)
            return have;
        const pawl_record *r = &t->chunk.records[t->used];
        size_t n = 0;
        while (t->used + n < t->chunk.count && *at + n < end && *written < bytes)
            *written += bytes_of(&r[n++]);
        int outcome = s->ops.write(s->ops.self, b, r, n, f);
        if (outcome != PAWL_DONE)
            return outcome;
        t->used += n;
        *at += n;
    }
    return PAWL_DONE;
}

/* ---- poison */

static bool in_dead_letters(struct pawl_sink *s, const struct part *t, uint64_t offset) {
    pawl_stream_info info;
    pawl_reader *r;
    char want[24];
    bool found = false;
    snprintf(want, sizeof want, "%llu", (unsigned long long)offset);
    if (!connect_stream(s->log, s->config.dead_letter, &info))
        return false;
    uint32_t partition = t->partition % info.partitions;
    pawl_bounds b;
    if (pawl_partition_bounds(s->log, info.id, partition, &b) < 0 ||
        pawl_reader_open(s->log, info.id, partition, b.first, 0, &r) < 0)
        return false;
    char own[16];
    snprintf(own, sizeof own, "%u", t->partition);
    const char *wanted[4] = {s->name, t->stream.name, own, want};
    for (pawl_batch batch; !found && pawl_read(r, 0, 0, &batch) > 0;)
        for (size_t i = 0; i < batch.count && !found; i++) {
            pawl_header h;
            uint32_t k = 0;
            while (k < 4 && pawl_record_header(&batch.records[i], k, &h) == 0 &&
                   h.value_len == strlen(wanted[k]) && memcmp(h.value, wanted[k], h.value_len) == 0)
                k++;
            found = k == 4;
        }
    pawl_reader_close(r);
    return found;
}

/* Moves the log over [from, to), which the target doesn't get; `dead` goes to the dead-letter
 * stream with it. Durably, since the target's position may then pass it. */
static int pass_over(struct pawl_sink *s, struct part *t, uint64_t from, uint64_t to,
                     const pawl_record *dead) {
    struct log_change c = {
        .part = t, .from = from, .to = to, .dead = dead, .why = t->why, .durable = true};
    char gap[NAME_MAX_BYTES], name[NAME_MAX_BYTES];
    uint64_t a = from, b = from;
    if (from < t->logged) { /* delivered again: the position is beyond it already */
        c.from = c.to = 0;
        if (dead != NULL && in_dead_letters(s, t, from))
            c.dead = NULL;
    } else if (sink_is(s, PAWL_SINK_TRANSACTIONAL)) {
        bool start = sink_mark(s, "start", t, &a, &b, name);
        bool old = start || sink_mark(s, "gap", t, &a, &b, name);
        if (old)
            c.finish[0] = name;
        snprintf(gap, sizeof gap, "%s-%u-%u-%llu-%llu", start ? "start" : "gap", t->stream.id,
                 t->partition, (unsigned long long)(old ? a : from), (unsigned long long)to);
        c.decide = gap;
    }
    if (t->promised != NOWHERE && from >= t->logged) {
        sink_mark(s, "batch", t, &a, &b, name);
        c.finish[0] = name;
    }
    int rc = c.from != c.to || c.dead != NULL || c.finish[0] != NULL ? sink_log(s, &c) : 0;
    if (rc < 0)
        return sink_log_answer(s, rc);
    if (c.decide != NULL)
        memcpy(t->gap, gap, sizeof gap);
    t->promised = NOWHERE;
    t->poison = NOWHERE;
    t->limit = NOWHERE;
    t->next = to;
    connect_point(&s->config.hooks, "poison-moved");
    return 0;
}

static int move_poison(struct pawl_sink *s, struct part *t) {
    if (s->config.on_poison == PAWL_ON_ERROR_STOP) {
        char text[700];
        snprintf(text, sizeof text, "the target refuses the record at offset %llu of %s/%u: %.400s",
                 (unsigned long long)t->next, t->stream.name, t->partition, t->why);
        return sink_fail(s, PAWL_PROCESSOR, text);
    }
    uint64_t at = t->next;
    rewind_to(t, at);
    int rc = fill(s, t, at, 0);
    if (rc <= 0)
        return rc == 0 || rc == PAWL_LOST ? 0 : sink_log_answer(s, rc);
    rc = pass_over(s, t, at, at + 1,
                   s->config.on_poison == PAWL_ON_ERROR_DEAD_LETTER ? t->chunk.records : NULL);
    if (rc != 0)
        return rc;
    t->used = 1;
    COUNT(s, poisoned, 1);
    sink_report(s, 1, "%s/%u offset %llu: refused by the target: %s", t->stream.name, t->partition,
                (unsigned long long)at, t->why);
    return 0;
}

/* The bounds that were promised can't be kept; nothing had been committed under them. */
static int drop_promise(struct pawl_sink *s, struct part *t) {
    char name[NAME_MAX_BYTES];
    uint64_t a, b;
    if (t->promised == NOWHERE)
        return 0;
    t->promised = NOWHERE;
    if (!sink_mark(s, "batch", t, &a, &b, name))
        return 0;
    int rc = sink_log(s, &(struct log_change){.finish = {name}, .durable = true});
    return rc < 0 ? sink_log_answer(s, rc) : 0;
}

/* The sink refused a record of [from, at): which one is known, or is found by halves. Nothing of
 * the batch remains in the target. */
static int poisoned(struct pawl_sink *s, struct part *t, uint64_t from, uint64_t at,
                    const pawl_fault *f) {
    s->ops.abort(s->ops.self);
    snprintf(t->why, sizeof t->why, "%s",
             f->message[0] != 0 ? f->message : "the target refused it");
    rewind_to(t, from);
    if (f->offset != NOWHERE && f->offset >= from && f->offset < at)
        t->poison = f->offset;
    else if (at - from <= 1)
        t->poison = from;
    else
        t->limit = from + (at - from) / 2;
    return drop_promise(s, t);
}

/* ---- the ends of a batch, by kind: an outcome, 0 also where the log had its part; *log: what the
 * log said */

static int end_transactional(struct pawl_sink *s, struct part *t, const pawl_sink_batch *b,
                             pawl_fault *f, int *log) {
    int outcome = s->ops.commit(s->ops.self, b, f);
    if (outcome != PAWL_DONE)
        return outcome;
    connect_point(&s->config.hooks, "target-committed");
    if (b->to < t->logged)
        return PAWL_DONE;
    /* Not waited for: where the log is behind the target after a crash, it follows. */
    *log = sink_log(
        s, &(struct log_change){.part = t, .from = t->logged, .to = b->to, .finish = {t->gap}});
    if (*log == 0)
        t->gap[0] = 0;
    connect_point(&s->config.hooks, "log-advanced");
    return PAWL_DONE;
}

static int end_two_phase(struct pawl_sink *s, struct part *t, const pawl_sink_batch *b,
                         pawl_fault *f, int *log) {
    int outcome = s->ops.prepare(s->ops.self, b, f);
    if (outcome != PAWL_DONE)
        return outcome;
    connect_point(&s->config.hooks, "batch-prepared");
    *log = sink_log(s, &(struct log_change){.part = t,
                                            .from = b->from,
                                            .to = b->to,
                                            .decide = b->name,
                                            .finish = {s->finish},
                                            .durable = true});
    if (*log != 0)
        return PAWL_DONE;
    s->finish[0] = 0;
    connect_point(&s->config.hooks, "batch-decided");
    return PAWL_DONE;
}

static int end_idempotent(struct pawl_sink *s, struct part *t, const pawl_sink_batch *b,
                          pawl_fault *f, int *log) {
    char promise[NAME_MAX_BYTES];
    bool stable =
        (s->ops.flags & PAWL_SINK_STABLE) != 0 && s->config.guarantee == PAWL_EXACTLY_ONCE;
    if (stable) {
        snprintf(promise, sizeof promise, "batch-%u-%u-%llu-%llu", t->stream.id, t->partition,
                 (unsigned long long)b->from, (unsigned long long)b->to);
        if (t->promised == NOWHERE)
            *log = sink_log(s, &(struct log_change){.decide = promise, .durable = true});
        if (*log != 0)
            return PAWL_DONE;
        t->promised = b->to;
        connect_point(&s->config.hooks, "batch-promised");
    }
    int outcome = s->ops.commit(s->ops.self, b, f);
    if (outcome != PAWL_DONE)
        return outcome;
    connect_point(&s->config.hooks, "target-committed");
    if (s->config.guarantee != PAWL_AT_MOST_ONCE)
        *log = sink_log(
            s, &(struct log_change){
                   .part = t, .from = b->from, .to = b->to, .finish = {stable ? promise : NULL}});
    t->promised = NOWHERE;
    connect_point(&s->config.hooks, "log-advanced");
    return PAWL_DONE;
}

static int end_batch(struct pawl_sink *s, struct part *t, const pawl_sink_batch *b, pawl_fault *f,
                     int *log) {
    return sink_is(s, PAWL_SINK_TRANSACTIONAL) ? end_transactional(s, t, b, f, log)
           : sink_is(s, PAWL_SINK_TWO_PHASE)   ? end_two_phase(s, t, b, f, log)
                                               : end_idempotent(s, t, b, f, log);
}

static void delivered(struct pawl_sink *s, struct part *t, const pawl_sink_batch *b,
                      uint64_t bytes) {
    bool again = b->redelivery != 0;
    t->next = b->to;
    t->limit = NOWHERE;
    t->waiting_since_ns = 0;
    s->attempts = 0;
    pthread_mutex_lock(&s->mutex);
    s->status.records += again ? 0 : b->to - b->from;
    s->status.redelivered += again ? b->to - b->from : 0;
    s->status.bytes += bytes;
    s->status.batches++;
    s->status.attempts = 0;
    s->status.last_ns = sink_realtime();
    pthread_mutex_unlock(&s->mutex);
}

/* The latest end of the next batch. */
static uint64_t end_of(const struct pawl_sink *s, const struct part *t) {
    if (t->promised != NOWHERE)
        return t->promised;
    uint64_t end = t->next + s->config.batch_records;
    if (t->next < t->logged && t->logged < end)
        end = t->logged;
    if (t->limit < end)
        end = t->limit;
    return t->poison < end ? t->poison : end;
}

static int deliver(struct pawl_sink *s, struct part *t) {
    char name[NAME_MAX_BYTES];
    pawl_sink_batch b;
    pawl_fault f = {.offset = NOWHERE};
    uint64_t from = t->next, at = from, bytes = 0, end = end_of(s, t);
    int log = 0;
    bool most_once = s->config.guarantee == PAWL_AT_MOST_ONCE;
    if (most_once) {
        end = from + t->chunk.count - t->used < end ? from + t->chunk.count - t->used : end;
        log =
            sink_log(s, &(struct log_change){.part = t, .from = from, .to = end, .durable = true});
        if (log < 0)
            return sink_log_answer(s, log);
    }
    sink_batch(s, t, from, 0, &b, name);
    int outcome = s->ops.begin(s->ops.self, &b, &f);
    if (outcome == PAWL_DONE) {
        connect_point(&s->config.hooks, "batch-begun");
        bool whole = most_once || t->promised != NOWHERE;
        outcome =
            write_range(s, t, &b, end, whole ? UINT64_MAX : s->config.batch_bytes, &at, &bytes, &f);
    }
    if (outcome < 0) {
        s->ops.abort(s->ops.self);
        return sink_log_answer(s, outcome);
    }
    /* the log lost a part of it */
    if (outcome == PAWL_DONE && t->promised != NOWHERE && at != t->promised) {
        s->ops.abort(s->ops.self);
        rewind_to(t, from);
        t->limit = at;
        return drop_promise(s, t);
    }
    sink_batch(s, t, from, at, &b, name);
    if (outcome == PAWL_DONE) {
        connect_point(&s->config.hooks, "batch-written");
        outcome = end_batch(s, t, &b, &f, &log);
    }
    if (most_once && outcome != PAWL_DONE)
        COUNT(s, lost, end - from);
    if (outcome == PAWL_POISON && !most_once) {
        /* handed to the write that failed */
        size_t n = t->used < t->chunk.count ? t->chunk.count - t->used : 0;
        return poisoned(s, t, from, at + n < end ? at + n : end, &f);
    }
    if (outcome == PAWL_POISON)
        outcome = PAWL_RETRY; /* lost as any failing batch of this guarantee */
    int rc = sink_answer(s, "deliver", outcome, &f);
    if (rc == 0 && log < 0)
        rc = sink_log_answer(s, log);
    if (rc == 0 && sink_is(s, PAWL_SINK_TWO_PHASE)) {
        rc = sink_settle(s, t, b.name, from, at, false);
        if (rc == 0)
            connect_point(&s->config.hooks, "batch-finished");
    }
    if (rc == 0)
        delivered(s, t, &b, bytes);
    return rc;
}

int sink_redeliver(struct pawl_sink *s, struct part *t, uint64_t from, uint64_t to) {
    char name[NAME_MAX_BYTES];
    pawl_sink_batch b;
    pawl_fault f = {.offset = NOWHERE};
    uint64_t at = from, bytes = 0, next = t->next;
    rewind_to(t, from);
    sink_batch(s, t, from, to, &b, name);
    int outcome = s->ops.begin(s->ops.self, &b, &f);
    if (outcome == PAWL_DONE)
        outcome = write_range(s, t, &b, to, UINT64_MAX, &at, &bytes, &f);
    if (outcome == PAWL_DONE && at != to)
        outcome = pawl_fault_set(&f, PAWL_FATAL, "the log no longer has all of %s", name);
    if (outcome == PAWL_DONE)
        outcome = s->ops.prepare(s->ops.self, &b, &f);
    if (outcome == PAWL_DONE)
        outcome = s->ops.commit_prepared(s->ops.self, &b, &f);
    rewind_to(t, next);
    if (outcome == PAWL_DONE) {
        COUNT(s, redelivered, to - from);
        return 0;
    }
    if (outcome < 0) {
        s->ops.abort(s->ops.self);
        return sink_log_answer(s, outcome);
    }
    if (outcome != PAWL_RETRY)
        outcome = PAWL_FATAL;
    return sink_answer(s, "deliver again", outcome, &f);
}

/* ---- which partition */

/* 1: a batch of it is due; 0: not now. *pending: there are records. */
static int due(struct pawl_sink *s, struct part *t, uint64_t now, bool *pending) {
    pawl_bounds b;
    int rc = pawl_partition_bounds(s->log, t->stream.id, t->partition, &b);
    if (rc < 0)
        return rc;
    if (b.durable <= t->next) {
        t->waiting_since_ns = 0;
        return 0;
    }
    *pending = true;
    if (t->waiting_since_ns == 0)
        t->waiting_since_ns = now;
    return s->draining || b.durable - t->next >= s->config.batch_records || t->limit != NOWHERE ||
           t->poison != NOWHERE || t->promised != NOWHERE || t->next < t->logged ||
           now - t->waiting_since_ns >= (uint64_t)s->config.linger_ms * 1000000u;
}

static int step_part(struct pawl_sink *s, struct part *t) {
    if (t->poison == t->next)
        return move_poison(s, t);
    int have = fill(s, t, t->next, 0);
    if (have == PAWL_LOST) {
        uint64_t to = t->chunk.to;
        snprintf(t->why, sizeof t->why, "lost to damage");
        int rc = pass_over(s, t, t->next, to, NULL);
        if (rc != 0)
            return rc;
        COUNT(s, lost, to - t->chunk.from);
        sink_report(s, 2, "%s/%u: offsets %llu to %llu are lost in the log: passed over",
                    t->stream.name, t->partition, (unsigned long long)t->chunk.from,
                    (unsigned long long)to);
        t->chunk = (pawl_batch){0};
        return 0;
    }
    return have < 0 ? sink_log_answer(s, have) : have == 0 ? 0 : deliver(s, t);
}

static int idle(struct pawl_sink *s, uint64_t now) {
    if (s->finish[0] != 0) {
        int rc = sink_log(s, &(struct log_change){.finish = {s->finish}});
        if (rc < 0)
            return sink_log_answer(s, rc);
        s->finish[0] = 0;
    }
    if (s->ops.idle == NULL || now < s->idle_at_ns)
        return 0;
    pawl_fault f = {.offset = NOWHERE};
    s->idle_at_ns = now + IDLE_NS;
    return sink_answer(s, "idle", s->ops.idle(s->ops.self, &f), &f);
}

int sink_step_once(struct pawl_sink *s) {
    uint64_t now = connect_now(&s->config.hooks);
    if (s->retry_at_ns > now)
        return STEP_IDLE;
    s->retry_at_ns = 0;
    if (!s->opened) {
        int rc = sink_recover(s);
        return rc; /* 0: more; 1: waiting */
    }
    bool pending = false;
    for (uint32_t i = 0; i < s->part_count; i++) {
        struct part *t = &s->parts[s->part_at];
        s->part_at = (s->part_at + 1) % s->part_count;
        int rc = due(s, t, now, &pending);
        if (rc < 0)
            return sink_log_answer(s, rc);
        if (rc > 0)
            return step_part(s, t);
    }
    int rc = idle(s, now);
    return rc != 0 ? rc : STEP_IDLE;
}

int sink_idle_ms(struct pawl_sink *s) {
    uint64_t now = connect_now(&s->config.hooks), until = now + IDLE_NS;
    if (s->retry_at_ns != 0)
        return s->retry_at_ns > now ? (int)((s->retry_at_ns - now + 999999) / 1000000) : 1;
    for (uint32_t i = 0; i < s->part_count; i++) {
        uint64_t since = s->parts[i].waiting_since_ns,
                 at = since + (uint64_t)s->config.linger_ms * 1000000u;
        if (since != 0 && at < until)
            until = at;
    }
    return until > now ? (int)((until - now + 999999) / 1000000) : 1;
}

bool sink_wait(struct pawl_sink *s, struct part *t, int ms) {
    return t->used == t->chunk.count ? fill(s, t, t->next, ms) >= 0 : false;
}

uint64_t sink_behind(struct pawl_sink *s) {
    uint64_t n = 0;
    for (uint32_t i = 0; i < s->part_count; i++) {
        const struct part *t = &s->parts[i];
        pawl_bounds b;
        uint64_t at;
        if (pawl_partition_bounds(s->log, t->stream.id, t->partition, &b) == 0 &&
            pawl_position_get(s->log, s->name, t->stream.id, t->partition, &at) == 0 &&
            b.durable > at)
            n += b.durable - at;
    }
    return n;
}
