/* SPDX-License-Identifier: Apache-2.0
 *
 * After opening the target, and before anything else (PAWL-6): what is in doubt is resolved. That
 * the target is the right one was asked before (sink_target.c).
 *
 *   with position  the target stands            then
 *                  where the log stands         go on
 *                  ahead of the log             its commit was the last thing that happened: the
 *                                               log follows. If the record there is not the one
 *                                               that the target got: on_replaced. Two-phase: it
 *                                               can't be: stop
 *                  ahead of the log's end       another log, or one restored from a backup: stop
 *                  below, in an open gap        what is between went elsewhere: go on from the
 *                                               log's position
 *                  below otherwise              the target went back to an earlier state of its
 *                                               own, rows and position together: report, deliver
 *                                               again what the log still has, else stop
 *                  nowhere: it has no position  a target that has an identity: on_replaced. Else
 *                                               as below the log, from the beginning
 *
 *   two-phase      prepared, decided            commit
 *                  prepared, not decided        roll back
 *                  decided, not prepared        ask the target: there: finish. Not there: on_lost.
 *                                               Can't be told: on_lost, never delivered again
 *                  decided, and the sink is     settled in the same way where the target still can,
 *                  no longer two-phase          else stop
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "connectors/runtime/sink_runtime.h"

#define NAMES_MAX 65536u /* prepared batches of one sink */

static void stand_at(struct part *t, uint64_t offset) {
    sink_rewind(t, offset);
    if (t->limit <= offset)
        t->limit = NOWHERE;
    if (t->poison < offset)
        t->poison = NOWHERE;
}

/* ---- the target's position */

/* The target stands at `at`, below the log: it has lost what is between. */
static int lost_some(struct pawl_sink *s, struct part *t, uint64_t at, const pawl_bounds *b) {
    char text[400];
    bool all = s->config.on_replaced == PAWL_REPLACED_REDELIVER;
    if (b->first > at && !all) {
        snprintf(text, sizeof text,
                 "the target stands at offset %llu of %s/%u, but %llu were delivered, and the log "
                 "keeps only what is from %llu on: the target was restored or emptied, and records "
                 "are gone; on_replaced = \"redeliver\" delivers what is left",
                 (unsigned long long)at, t->stream.name, t->partition,
                 (unsigned long long)t->logged, (unsigned long long)b->first);
        return sink_stop_for_good(s, text);
    }
    uint64_t from = b->first > at ? b->first : at;
    flow_report(&s->flow, 2,
                "the target stands at offset %llu of %s/%u, but %llu were delivered: it lost them "
                "(restored or emptied?); they are delivered again from %llu on",
                (unsigned long long)at, t->stream.name, t->partition, (unsigned long long)t->logged,
                (unsigned long long)from);
    stand_at(t, from);
    return 0;
}

/* From now on the target may stand anywhere up to the log's position, or have none, until the next
 * batch moves it. */
static int take_as_it_is(struct pawl_sink *s, struct part *t) {
    char mark[NAME_MAX_BYTES];
    snprintf(mark, sizeof mark, "gap-%u-%u-0-%llu", t->stream.id, t->partition,
             (unsigned long long)t->logged);
    if (strcmp(mark, t->gap) == 0) /* an earlier opening came so far */
        return 0;
    int rc = sink_log(s, &(struct log_change){.decide = mark, .finish = {t->gap}, .durable = true});
    if (rc < 0)
        return sink_log_answer(s, rc);
    memcpy(t->gap, mark, sizeof t->gap);
    return 0;
}

/* The target has no position, although the log's has moved. A target that can say who it is would
 * have one. */
static int no_position(struct pawl_sink *s, struct part *t, const pawl_bounds *b) {
    char text[400];
    if (s->ops.identity != NULL && s->config.on_replaced == PAWL_REPLACED_ADOPT) {
        flow_report(&s->flow, 2,
                    "the target has no position for %s/%u, but %llu were delivered: the rest is "
                    "delivered from there on, as on_replaced says",
                    t->stream.name, t->partition, (unsigned long long)t->logged);
        return take_as_it_is(s, t);
    }
    if (s->config.start_at_end != 0 ||
        (s->ops.identity != NULL && s->config.on_replaced == PAWL_REPLACED_STOP)) {
        snprintf(text, sizeof text,
                 "the target has no position for %s/%u, but %llu were delivered: it was emptied, "
                 "restored or made anew, or only its position was removed. Put it back; or set "
                 "on_replaced: \"adopt\" goes on from the log's position, \"redeliver\" delivers "
                 "again what the log still has",
                 t->stream.name, t->partition, (unsigned long long)t->logged);
        return sink_stop_for_good(s, text);
    }
    return lost_some(s, t, 0, b);
}

/* The target is ahead of the log, at `at`. Is the record before that the one that the target got? A
 * log that was restored from a backup, and went another way, has others there: to follow the target
 * would pass over them. *other: it isn't, and the sink goes on from the log's position. A step. */
static int same_history(struct pawl_sink *s, struct part *t, const pawl_sink_batch *b, uint64_t at,
                        bool *other) {
    char text[480];
    pawl_fault f = {.offset = NOWHERE};
    uint64_t theirs = 0, ours = 0;
    *other = false;
    if (s->ops.marked == NULL)
        return 0;
    int outcome = s->ops.marked(s->ops.self, b, &theirs, &f);
    if (outcome == PAWL_GONE)
        return 0;
    if (outcome != PAWL_DONE)
        return sink_answer(s, "marked", outcome, &f);
    int rc = sink_mark_at(s, t, at - 1, &ours);
    if (rc < 0)
        return sink_log_answer(s, rc);
    if (rc == PAWL_GONE || ours == theirs)
        return 0;
    snprintf(
        text, sizeof text,
        "the target stands at offset %llu of %s/%u, and the log at %llu; but the record before "
        "that is not the one that the target got: the log was restored from a backup and went "
        "another way",
        (unsigned long long)at, t->stream.name, t->partition, (unsigned long long)t->logged);
    if (sink_adopts(s)) {
        flow_report(&s->flow, 2, "%s. As on_replaced says, the records from %llu on are delivered",
                    text, (unsigned long long)t->logged);
        *other = true;
        return 0;
    }
    size_t n = strlen(text);
    snprintf(
        text + n, sizeof text - n,
        ". on_replaced = \"adopt\" delivers this log's records from %llu on, of which the target "
        "may have some",
        (unsigned long long)t->logged);
    return sink_stop_for_good(s, text);
}

static int judge_position(struct pawl_sink *s, struct part *t) {
    char name[NAME_MAX_BYTES], text[400];
    pawl_sink_batch batch;
    pawl_fault f = {.offset = NOWHERE};
    pawl_bounds b;
    uint64_t at = 0, from = 0, to = 0;
    sink_batch(s, t, 0, 0, &batch, name);
    int outcome = s->ops.position(s->ops.self, &batch, &at, &f);
    if (outcome != PAWL_DONE && outcome != PAWL_GONE)
        return sink_answer(s, "position", outcome, &f);
    int rc = pawl_partition_bounds(s->flow.log, t->stream.id, t->partition, &b);
    if (rc < 0)
        return sink_log_answer(s, rc);
    bool start = sink_mark(s, "start", t, &from, &to, t->gap);
    bool gap = start || sink_mark(s, "gap", t, &from, &to, t->gap);
    if (!gap)
        t->gap[0] = 0;
    if (outcome == PAWL_GONE) {
        if (start || t->logged == 0 || (gap && from == 0 && to == t->logged))
            return 0;
        return s->migrates && !sink_is(s, PAWL_SINK_TRANSACTIONAL) ? take_as_it_is(s, t)
                                                                   : no_position(s, t, &b);
    }
    if (at > t->logged && sink_is(s, PAWL_SINK_TWO_PHASE)) {
        snprintf(text, sizeof text,
                 "the target stands at offset %llu of %s/%u, but the log has decided on no more "
                 "than %llu: the log was restored, or is a copy",
                 (unsigned long long)at, t->stream.name, t->partition,
                 (unsigned long long)t->logged);
        return sink_stop_for_good(s, text);
    }
    if (at > b.durable) {
        snprintf(text, sizeof text,
                 "the target stands at offset %llu of %s/%u, beyond the log's end %llu: it belongs "
                 "to another log, or the log was restored",
                 (unsigned long long)at, t->stream.name, t->partition,
                 (unsigned long long)b.durable);
        return sink_stop_for_good(s, text);
    }
    if (at > t->logged) {
        bool other;
        rc = same_history(s, t, &batch, at, &other);
        if (rc != 0 || other)
            return rc;
        rc = sink_log(
            s, &(struct log_change){
                   .part = t, .from = t->logged, .to = at, .finish = {t->gap}, .durable = true});
        if (rc < 0)
            return sink_log_answer(s, rc);
        t->gap[0] = 0;
        stand_at(t, at);
    } else if (at < t->logged && !(gap && at >= from && to == t->logged)) {
        return s->migrates && !sink_is(s, PAWL_SINK_TRANSACTIONAL) ? take_as_it_is(s, t)
                                                                   : lost_some(s, t, at, &b);
    }
    return 0;
}

static int ask_position(struct pawl_sink *s, struct part *t) {
    int rc = judge_position(s, t);
    if (rc == 0)
        flow_point(&s->flow, "position-judged");
    return rc;
}

/* ---- two-phase */

struct names {
    char (*items)[NAME_MAX_BYTES];
    size_t count, room;
    int failed; /* 0, or PAWL_MEMORY or PAWL_LIMIT: names are missing */
};

static void collect(void *arg, const char *name) {
    struct names *n = arg;
    if (n->count == n->room) {
        size_t room = n->room == 0 ? 16 : n->room * 2;
        void *q = room > NAMES_MAX ? NULL : realloc(n->items, room * sizeof *n->items);
        if (q == NULL) {
            n->failed = room > NAMES_MAX ? PAWL_LIMIT : PAWL_MEMORY;
            return;
        }
        n->items = q;
        n->room = room;
    }
    snprintf(n->items[n->count++], NAME_MAX_BYTES, "%s", name);
}

/* The target neither holds nor has it. */
static int roll_back(struct pawl_sink *s, struct part *t, uint64_t from, uint64_t to) {
    char name[NAME_MAX_BYTES];
    pawl_sink_batch batch;
    pawl_fault f = {.offset = NOWHERE};
    sink_batch(s, t, from, to, &batch, name);
    int outcome = s->ops.rollback_prepared(s->ops.self, &batch, &f);
    if (outcome == PAWL_DONE)
        FLOW_COUNT(&s->flow, rolled_back, 1);
    return outcome == PAWL_GONE ? 0 : sink_answer(s, "rollback_prepared", outcome, &f);
}

static int commit(struct pawl_sink *s, struct part *t, uint64_t from, uint64_t to) {
    pawl_fault f = {.offset = NOWHERE};
    int rc = sink_commit_decided(s, t, from, to, true, &f);
    return rc < 0 ? sink_log_answer(s, rc) : sink_answer(s, "commit_prepared", rc, &f);
}

/* A list of names that is not whole says nothing about what isn't in it. */
static int not_whole(struct pawl_sink *s, const struct names *n, const char *who) {
    char text[200];
    if (n->failed == PAWL_MEMORY)
        return sink_log_answer(s, PAWL_MEMORY);
    snprintf(text, sizeof text,
             "%s more than %u prepared batches of this sink; end some of them by hand", who,
             NAMES_MAX);
    return sink_stop_for_good(s, text);
}

/* The target's prepared batches: the log has decided on each, or it hasn't. */
static int resolve_held(struct pawl_sink *s, const struct names *held) {
    struct part *t;
    uint64_t from, to;
    int rc = 0;
    for (size_t i = 0; i < held->count && rc == 0; i++) {
        if (!sink_parse(s, held->items[i], &t, &from, &to))
            flow_report(&s->flow, 2,
                        "the target holds %s, which is not of this sink's making: left alone",
                        held->items[i]);
        else if (sink_decided(s, held->items[i]))
            rc = commit(s, t, from, to);
        else
            rc = roll_back(s, t, from, to);
    }
    return rc;
}

static bool has(const struct names *n, const char *name) {
    for (size_t i = 0; i < n->count; i++)
        if (strcmp(n->items[i], name) == 0)
            return true;
    return false;
}

/* Is it the decision on a batch of a two-phase sink? */
static bool of_batch(const pawl_decision *d) {
    return strncmp(d->name, "pawl-", 5) == 0;
}

/* The log's open decisions on batches that the target did not hold. */
static int resolve_open(struct pawl_sink *s, const struct names *held) {
    struct names open = {0};
    pawl_decision d;
    struct part *t;
    uint64_t from, to;
    int rc = 0;
    for (uint32_t i = sink_decisions(s); sink_decision_before(s, &i, &d);)
        if (of_batch(&d) && !has(held, d.name) && strcmp(d.name, s->finish) != 0)
            collect(&open, d.name);
    if (open.failed != 0)
        rc = not_whole(s, &open, "the log has decided on");
    for (size_t i = open.count; i > 0 && rc == 0; i--) { /* the oldest first */
        if (!sink_parse(s, open.items[i - 1], &t, &from, &to))
            rc = sink_stop_for_good(
                s, "a decided batch belongs to a stream that is not among this sink's "
                   "inputs; add it to resolve it");
        else
            rc = commit(s, t, from, to);
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
             : held.failed != 0   ? not_whole(s, &held, "the target holds")
                                  : resolve_held(s, &held);
    if (rc == 0)
        rc = resolve_open(s, &held);
    free(held.items);
    return rc;
}

/* ---- decisions of another kind or guarantee */

/* Decided two-phase batches, and this sink does not deliver in two phases now: its kind or its
 * guarantee was changed. They are settled all the same where the target can do it. */
static int resolve_changed(struct pawl_sink *s) {
    char text[400];
    pawl_decision d, first = {0};
    uint32_t n = 0;
    for (uint32_t i = sink_decisions(s); sink_decision_before(s, &i, &d);)
        if (of_batch(&d)) {
            first = d;
            n++;
        }
    if (n == 0)
        return 0;
    if (s->ops.kind == PAWL_SINK_TWO_PHASE && s->ops.list_prepared != NULL &&
        s->ops.commit_prepared != NULL && s->ops.rollback_prepared != NULL &&
        s->ops.committed != NULL)
        return resolve(s);
    snprintf(text, sizeof text,
             "%u batches that the log has decided on are not settled, the first is %.160s: this "
             "sink delivered in two phases before. Run it once more as it was (kind two-phase), "
             "then change it",
             n, first.name);
    return sink_stop_for_good(s, text);
}

/* Promises of bounds that the position has passed: a batch of another guarantee was delivered over
 * them. They mean nothing any more. */
static int drop_old_promises(struct pawl_sink *s, const struct part *t) {
    char name[NAME_MAX_BYTES];
    uint64_t from, to;
    int rc = 0;
    while (rc == 0 && sink_mark(s, "batch", t, &from, &to, name) && from != t->logged)
        rc = sink_log(s, &(struct log_change){.finish = {name}, .durable = true});
    return rc;
}

static int recover_part(struct pawl_sink *s, struct part *t) {
    char name[NAME_MAX_BYTES];
    uint64_t from, to;
    int rc = pawl_position_get(s->flow.log, s->flow.name, t->stream.id, t->partition, &t->logged);
    if (rc == 0)
        rc = drop_old_promises(s, t);
    if (rc < 0)
        return sink_log_answer(s, rc);
    stand_at(t, t->logged);
    rc = sink_check_held(s, t);
    if (rc != 0)
        return rc;
    t->promised = sink_mark(s, "batch", t, &from, &to, name) ? to : NOWHERE;
    t->gap[0] = 0;
    return sink_has_position(s) && !sink_is(s, PAWL_SINK_TWO_PHASE) ? ask_position(s, t) : 0;
}

int sink_recover(struct pawl_sink *s) {
    char name[NAME_MAX_BYTES];
    pawl_sink_batch batch;
    pawl_fault f = {.offset = NOWHERE};
    sink_batch(s, NULL, 0, 0, &batch, name);
    int rc = sink_answer(s, "open", s->ops.open(s->ops.self, &batch, &f), &f);
    if (rc == 0)
        flow_point(&s->flow, "sink-opened");
    if (rc == 0)
        rc = sink_know_target(s);
    for (uint32_t i = 0; i < s->part_count && rc == 0; i++)
        rc = recover_part(s, &s->parts[i]);
    if (rc == 0)
        rc = sink_is(s, PAWL_SINK_TWO_PHASE) ? resolve(s) : resolve_changed(s);
    for (uint32_t i = 0; i < s->part_count && rc == 0; i++)
        if (sink_has_position(s) && sink_is(s, PAWL_SINK_TWO_PHASE))
            rc = ask_position(s, &s->parts[i]);
    if (rc == 0)
        rc = sink_keep_target(s);
    if (rc == 0)
        rc = sink_settle_all(s);
    if (rc == 0) {
        s->flow.opened = true;
        s->nothing_open = false;
        flow_point(&s->flow, "sink-recovered");
    }
    return rc;
}
