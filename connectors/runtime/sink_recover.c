/* SPDX-License-Identifier: Apache-2.0
 *
 * After opening the target, and before anything else (PAWL-6): what is in doubt is settled.
 *
 *   transactional  the target stands            then
 *                  where the log stands         go on
 *                  ahead of the log             its commit was the last thing that happened: the
 *                                               log follows
 *                  ahead of the log's end       another log, or one restored from a backup: stop
 *                  below, in an open gap        what is between went elsewhere: go on from the
 *                                               log's position
 *                  below otherwise              the target lost it: report, deliver again what the
 *                                               log still has, else stop
 *
 *   two-phase      prepared, decided            commit
 *                  prepared, not decided        roll back
 *                  decided, not prepared        ask the target: there: finish. Not there: on_lost.
 *                                               Can't be told: on_lost, never delivered again
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "connectors/runtime/sink_runtime.h"

static void stand_at(struct part *t, uint64_t offset) {
    t->next = offset;
    t->chunk = (pawl_batch){0};
    t->used = 0;
    if (t->limit <= offset)
        t->limit = NOWHERE;
    if (t->poison < offset)
        t->poison = NOWHERE;
    pawl_reader_close(t->reader);
    t->reader = NULL;
}

static int stop(struct pawl_sink *s, const char *text) {
    return sink_fail(s, PAWL_PROCESSOR, text);
}

/* ---- transactional */

static int behind(struct pawl_sink *s, struct part *t, uint64_t at, const pawl_bounds *b) {
    char text[400];
    if (b->first > at) {
        snprintf(text, sizeof text,
                 "the target stands at offset %llu of %s/%u, but %llu were delivered, and the log "
                 "keeps only "
                 "what is from %llu on: the target "
                 "was restored or emptied, and records are gone; set its position by hand to go on",
                 (unsigned long long)at, t->stream.name, t->partition,
                 (unsigned long long)t->logged, (unsigned long long)b->first);
        return stop(s, text);
    }
    sink_report(s, 2,
                "the target stands at offset %llu of %s/%u, but %llu were delivered: it lost them "
                "(restored "
                "or emptied?); "
                "they are delivered again",
                (unsigned long long)at, t->stream.name, t->partition,
                (unsigned long long)t->logged);
    stand_at(t, at);
    return 0;
}

static int ask_position(struct pawl_sink *s, struct part *t) {
    char name[NAME_MAX_BYTES], text[400];
    pawl_sink_batch batch;
    pawl_fault f = {.offset = NOWHERE};
    pawl_bounds b;
    uint64_t at = 0, from = 0, to = 0;
    sink_batch(s, t, 0, 0, &batch, name);
    int outcome = s->ops.position(s->ops.self, &batch, &at, &f);
    if (outcome != PAWL_DONE && outcome != PAWL_GONE)
        return sink_answer(s, "position", outcome, &f);
    int rc = pawl_partition_bounds(s->log, t->stream.id, t->partition, &b);
    if (rc < 0)
        return sink_log_answer(s, rc);
    bool start = sink_mark(s, "start", t, &from, &to, t->gap);
    bool gap = start || sink_mark(s, "gap", t, &from, &to, t->gap);
    if (!gap)
        t->gap[0] = 0;
    if (outcome == PAWL_GONE) {
        if (start || t->logged == 0)
            return 0;
        if (s->config.start_at_end != 0) {
            snprintf(text, sizeof text,
                     "the target has no position for %s/%u, but %llu were delivered: it was "
                     "restored or emptied; set its position by hand",
                     t->stream.name, t->partition, (unsigned long long)t->logged);
            return stop(s, text);
        }
        return behind(s, t, 0, &b);
    }
    if (at > b.durable) {
        snprintf(text, sizeof text,
                 "the target stands at offset %llu of %s/%u, beyond the log's end %llu: it belongs "
                 "to another log, or the log was restored",
                 (unsigned long long)at, t->stream.name, t->partition,
                 (unsigned long long)b.durable);
        return stop(s, text);
    }
    if (at > t->logged) {
        rc = sink_log(
            s, &(struct log_change){
                   .part = t, .from = t->logged, .to = at, .finish = {t->gap}, .durable = true});
        if (rc < 0)
            return sink_log_answer(s, rc);
        t->gap[0] = 0;
        stand_at(t, at);
    } else if (at < t->logged && !(gap && at >= from && to == t->logged)) {
        return behind(s, t, at, &b);
    }
    return 0;
}

/* ---- two-phase */

struct names {
    char (*items)[NAME_MAX_BYTES];
    size_t count, room;
    bool failed;
};

static void collect(void *arg, const char *name) {
    struct names *n = arg;
    if (n->count == n->room) {
        size_t room = n->room == 0 ? 16 : n->room * 2;
        void *q = room > 65536 ? NULL : realloc(n->items, room * sizeof *n->items);
        if (q == NULL) {
            n->failed = true;
            return;
        }
        n->items = q;
        n->room = room;
    }
    snprintf(n->items[n->count++], NAME_MAX_BYTES, "%s", name);
}

/* The target neither holds nor has it. */
static int lost(struct pawl_sink *s, struct part *t, const char *name, uint64_t from, uint64_t to,
                int outcome) {
    char text[400];
    snprintf(text, sizeof text,
             "%s was decided, but the target no longer holds it prepared, and %s: it was rolled "
             "back by hand, timed out or lost",
             name,
             outcome == PAWL_GONE ? "its records are not there"
                                  : "can't tell whether its records are there");
    if (s->config.on_lost == PAWL_LOST_ACCEPT) {
        sink_report(s, 2, "%s; accepted as told", text);
        COUNT(s, lost, to - from);
        return 0;
    }
    pawl_bounds b;
    if (s->config.on_lost != PAWL_LOST_REDELIVER || outcome != PAWL_GONE ||
        pawl_partition_bounds(s->log, t->stream.id, t->partition, &b) < 0 || b.first > from)
        return stop(s, text);
    sink_report(s, 2, "%s; delivered again", text);
    return sink_redeliver(s, t, from, to);
}

int sink_settle(struct pawl_sink *s, struct part *t, const char *name, uint64_t from, uint64_t to,
                bool recovering) {
    char again[NAME_MAX_BYTES];
    pawl_sink_batch batch;
    pawl_fault f = {.offset = NOWHERE};
    sink_batch(s, t, from, to, &batch, again);
    int outcome = s->ops.commit_prepared(s->ops.self, &batch, &f);
    if (outcome == PAWL_GONE) {
        f = (pawl_fault){.offset = NOWHERE};
        outcome = s->ops.committed(s->ops.self, &batch, &f);
        if (outcome == PAWL_GONE || outcome == PAWL_UNKNOWN) {
            int rc = lost(s, t, name, from, to, outcome);
            if (rc != 0)
                return rc;
            outcome = PAWL_DONE;
        }
    } else if (outcome == PAWL_DONE && recovering) {
        COUNT(s, recovered, 1);
    }
    if (outcome != PAWL_DONE)
        return sink_answer(s, "commit_prepared", outcome, &f);
    connect_point(&s->config.hooks, "batch-committed");
    /* one rides with the next transaction, more don't */
    if (s->finish[0] != 0 && strcmp(s->finish, name) != 0) {
        int rc = sink_log(s, &(struct log_change){.finish = {s->finish}});
        if (rc < 0)
            return sink_log_answer(s, rc);
    }
    snprintf(s->finish, sizeof s->finish, "%s", name);
    return 0;
}

static int roll_back(struct pawl_sink *s, struct part *t, uint64_t from, uint64_t to) {
    char name[NAME_MAX_BYTES];
    pawl_sink_batch batch;
    pawl_fault f = {.offset = NOWHERE};
    sink_batch(s, t, from, to, &batch, name);
    int outcome = s->ops.rollback_prepared(s->ops.self, &batch, &f);
    if (outcome == PAWL_DONE)
        COUNT(s, rolled_back, 1);
    return outcome == PAWL_GONE ? 0 : sink_answer(s, "rollback_prepared", outcome, &f);
}

/* First what the target holds, then what the log decided and the target did not hold. */
static int settle_all(struct pawl_sink *s, const struct names *held) {
    struct part *t;
    uint64_t from, to;
    int rc = 0;
    for (size_t i = 0; i < held->count && rc == 0; i++) {
        if (!sink_parse(s, held->items[i], &t, &from, &to)) {
            sink_report(s, 2, "the target holds %s, which is not of this sink's making: left alone",
                        held->items[i]);
            continue;
        }
        rc = sink_decided(s, held->items[i]) ? sink_settle(s, t, held->items[i], from, to, true)
                                             : roll_back(s, t, from, to);
    }
    struct names open = {0};
    pawl_decision d;
    for (uint32_t i = 0; pawl_decision_at(s->log, i, &d) == 0; i++)
        if (d.processor == s->id && strncmp(d.name, "pawl-", 5) == 0)
            collect(&open, d.name);
    for (size_t i = 0; i < open.count && rc == 0; i++) {
        bool was_held = strcmp(open.items[i], s->finish) == 0;
        for (size_t k = 0; k < held->count; k++)
            was_held |= strcmp(open.items[i], held->items[k]) == 0;
        if (was_held)
            continue;
        if (!sink_parse(s, open.items[i], &t, &from, &to))
            rc = stop(
                s,
                "a decided batch belongs to a stream that is not among this sink's inputs; add it "
                "to settle it");
        else
            rc = sink_settle(s, t, open.items[i], from, to, true);
    }
    free(open.items);
    return rc;
}

static int resolve(struct pawl_sink *s) {
    char prefix[NAME_MAX_BYTES];
    struct names held = {0};
    pawl_fault f = {.offset = NOWHERE};
    sink_prefix(s, prefix);
    int outcome = s->ops.list_prepared(s->ops.self, prefix, collect, &held, &f);
    int rc = outcome != PAWL_DONE ? sink_answer(s, "list_prepared", outcome, &f)
             : held.failed        ? stop(s, "the target holds too many prepared batches")
                                  : settle_all(s, &held);
    free(held.items);
    return rc;
}

int sink_recover(struct pawl_sink *s) {
    char name[NAME_MAX_BYTES];
    pawl_sink_batch batch;
    pawl_fault f = {.offset = NOWHERE};
    sink_batch(s, NULL, 0, 0, &batch, name);
    int rc = sink_answer(s, "open", s->ops.open(s->ops.self, &batch, &f), &f);
    if (rc != 0)
        return rc;
    connect_point(&s->config.hooks, "sink-opened");
    for (uint32_t i = 0; i < s->part_count; i++) {
        struct part *t = &s->parts[i];
        uint64_t from, to;
        rc = pawl_position_get(s->log, s->name, t->stream.id, t->partition, &t->logged);
        if (rc < 0)
            return sink_log_answer(s, rc);
        stand_at(t, t->logged);
        t->promised = sink_mark(s, "batch", t, &from, &to, name) && from == t->next ? to : NOWHERE;
        rc = sink_is(s, PAWL_SINK_TRANSACTIONAL) ? ask_position(s, t) : 0;
        if (rc != 0)
            return rc;
    }
    rc = sink_is(s, PAWL_SINK_TWO_PHASE) ? resolve(s) : 0;
    if (rc == 0) {
        s->opened = true;
        connect_point(&s->config.hooks, "sink-recovered");
    }
    return rc;
}
