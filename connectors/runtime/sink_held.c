/* SPDX-License-Identifier: Apache-2.0
 *
 * Absence is never success (PAWL-15). What a target must have, and what other people can take away
 * from it, is kept in the log: for each partition the open decision "hold-STREAM-PARTITION-TEXT",
 * with the text of the target's holds(). It changes in the commit that decides on a batch, so it is
 * never older or newer than that. After each opening the target compares itself with it.
 *
 *   the target has it                      go on
 *   it doesn't, on_lost is
 *     stop                                 report, stop; the log keeps the text, so each later
 *                                          start finds the same
 *     redeliver, and the log has the       report; the target begins anew, and gets them again
 *       records
 *     accept                               report; the log says for ever which records were lost,
 *                                          in the commit that drops the text; the target begins
 *                                          anew
 */
#include <stdio.h>
#include <string.h>

#include "connectors/runtime/sink_runtime.h"

/* "hold-STREAM-PARTITION-", and its length. */
static size_t prefix(const struct part *t, char out[NAME_MAX_BYTES]) {
    return (size_t)snprintf(out, NAME_MAX_BYTES, "hold-%u-%u-", t->stream.id, t->partition);
}

const char *sink_holds(struct pawl_sink *s, const struct part *t, char held[NAME_MAX_BYTES]) {
    char name[NAME_MAX_BYTES];
    pawl_sink_batch b;
    if (s->ops.holds == NULL)
        return NULL;
    sink_batch(s, t, 0, 0, &b, name);
    size_t n = prefix(t, held);
    if (s->ops.holds(s->ops.self, &b, held + n, 201 - n) != PAWL_DONE)
        held[0] = 0;
    return strcmp(held, t->held) != 0 ? held : NULL;
}

/* ---- after opening */

static void find_held(struct pawl_sink *s, struct part *t) {
    char start[NAME_MAX_BYTES];
    pawl_decision d;
    size_t n = prefix(t, start);
    t->held[0] = 0;
    for (uint32_t i = sink_decisions(s); sink_decision_before(s, &i, &d);)
        if (strncmp(d.name, start, n) == 0)
            snprintf(t->held, sizeof t->held, "%s", d.name);
}

/* Calls check(); text NULL: begin anew, at `next`. */
static int check(struct pawl_sink *s, struct part *t, uint64_t next, const char *text,
                 uint64_t *from, uint64_t *to, pawl_fault *f) {
    char name[NAME_MAX_BYTES];
    pawl_sink_batch b;
    *f = (pawl_fault){.offset = NOWHERE};
    sink_batch(s, t, next, 0, &b, name);
    return s->ops.check(s->ops.self, &b, text, from, to, f);
}

/* "records FROM to LAST of STREAM/PARTITION (COUNT)" */
static void records(const struct part *t, uint64_t from, uint64_t to, char *out, size_t size) {
    if (to > from)
        snprintf(out, size, "records %llu to %llu of %s/%u (%llu)", (unsigned long long)from,
                 (unsigned long long)to - 1, t->stream.name, t->partition,
                 (unsigned long long)(to - from));
    else
        snprintf(out, size, "no records of %s/%u are known to be lost with it", t->stream.name,
                 t->partition);
}

static int accept_loss(struct pawl_sink *s, struct part *t, uint64_t from, uint64_t to) {
    char mark[NAME_MAX_BYTES];
    uint64_t none[2];
    pawl_fault f;
    snprintf(mark, sizeof mark, "lost-%u-%u-%llu-%llu", t->stream.id, t->partition,
             (unsigned long long)from, (unsigned long long)to);
    bool marks = to > from && !sink_decided(s, mark);
    int outcome = check(s, t, t->logged, NULL, &none[0], &none[1], &f);
    if (outcome != PAWL_DONE)
        return sink_answer(s, "check", outcome, &f);
    int rc =
        sink_log(s, &(struct log_change){
                        .part = t, .decide = marks ? mark : NULL, .hold = "", .durable = true});
    if (rc == 0 && marks)
        FLOW_COUNT(&s->flow, lost, to - from);
    return rc < 0 ? sink_log_answer(s, rc) : 0;
}

static int lost(struct pawl_sink *s, struct part *t, uint64_t from, uint64_t to,
                const pawl_fault *why) {
    char what[256];
    pawl_bounds kept;
    pawl_fault f;
    records(t, from, to, what, sizeof what);
    bool again = s->config.on_lost == PAWL_LOST_REDELIVER && to > from && to <= t->logged &&
                 pawl_partition_bounds(s->flow.log, t->stream.id, t->partition, &kept) == 0 &&
                 kept.first <= from;
    if (s->config.on_lost == PAWL_LOST_ACCEPT) {
        flow_report(&s->flow, 2, "lost: %s: %s; accepted as on_lost says", what, why->message);
        return accept_loss(s, t, from, to);
    }
    if (!again) {
        char text[640];
        snprintf(
            text, sizeof text,
            "lost: %s: %.200s. Put it back, or set on_lost: redeliver sends again what the log "
            "still has, accept goes on without",
            what, why->message);
        s->ops.abort(s->ops.self);
        return flow_fail(&s->flow, PAWL_PROCESSOR, text);
    }
    flow_report(&s->flow, 2, "lost: %s: %s; delivered again", what, why->message);
    int outcome = check(s, t, from, NULL, &kept.first, &kept.durable, &f);
    if (outcome != PAWL_DONE)
        return sink_answer(s, "check", outcome, &f);
    outcome = sink_deliver_again(s, t, from, to, &f);
    return outcome != PAWL_DONE ? sink_answer(s, "deliver", outcome, &f) : 0;
}

int sink_check_held(struct pawl_sink *s, struct part *t) {
    char start[NAME_MAX_BYTES];
    uint64_t from = 0, to = 0;
    pawl_fault f;
    if (s->ops.check == NULL)
        return 0;
    find_held(s, t);
    int outcome =
        check(s, t, t->logged, t->held[0] != 0 ? t->held + prefix(t, start) : "", &from, &to, &f);
    if (outcome == PAWL_GONE)
        return lost(s, t, from, to, &f);
    return sink_answer(s, "check", outcome, &f);
}

/* ---- in between */

/* The log learns what the target must have, if that has changed. */
static int note(struct pawl_sink *s, struct part *t, bool durable) {
    char held[NAME_MAX_BYTES];
    const char *hold = sink_holds(s, t, held);
    if (hold == NULL)
        return 0;
    return sink_log(s, &(struct log_change){.part = t, .hold = hold, .durable = durable});
}

int sink_settle(struct pawl_sink *s, struct part *t) {
    char name[NAME_MAX_BYTES];
    pawl_sink_batch b;
    pawl_fault f = {.offset = NOWHERE};
    if (s->ops.settle == NULL)
        return 0;
    int rc = note(s, t, true);
    if (rc < 0)
        return sink_log_answer(s, rc);
    sink_batch(s, t, t->logged, 0, &b, name);
    int outcome = s->ops.settle(s->ops.self, &b, &f);
    flow_point(&s->flow, "target-settled");
    if (outcome != PAWL_DONE)
        return sink_answer(s, "settle", outcome, &f);
    rc = note(s, t, false);
    return rc < 0 ? sink_log_answer(s, rc) : 0;
}

int sink_settle_all(struct pawl_sink *s) {
    int rc = 0;
    for (uint32_t i = 0; i < s->part_count && rc == 0; i++)
        rc = sink_settle(s, &s->parts[i]);
    return rc;
}

void sink_remark(struct pawl_sink *s) {
    char text[400];
    while (s->ops.remark != NULL && s->ops.remark(s->ops.self, text, sizeof text) == PAWL_DONE)
        flow_report(&s->flow, 2, "%s", text);
}

/* ---- the end and the beginning */

void sink_end(struct pawl_sink *s) {
    pawl_fault f = {.offset = NOWHERE};
    flow_report_held(&s->flow, &s->poison_said, true);
    if (!s->flow.opened)
        return;
    int outcome = s->ops.ending != NULL ? s->ops.ending(s->ops.self, &f) : PAWL_DONE;
    int rc = sink_answer(s, "ending", outcome, &f);
    if (rc == 0)
        rc = sink_settle_all(s);
    sink_remark(s);
    if (rc > 0) { /* it could be tried again, but nobody will */
        pawl_flow_status now = PAWL_FLOW_STATUS_INIT;
        flow_status(&s->flow, &now);
        (void)flow_fail(&s->flow, PAWL_PROCESSOR, now.message);
    }
    s->flow.opened = false; /* if it is started once more, it looks at everything again */
}

void sink_count_lost(struct pawl_sink *s) {
    pawl_decision d;
    unsigned long long n[4];
    for (uint32_t i = sink_decisions(s); sink_decision_before(s, &i, &d);)
        /* NOLINTNEXTLINE(cert-err34-c): names of our own making */
        if (sscanf(d.name, "lost-%llu-%llu-%llu-%llu", &n[0], &n[1], &n[2], &n[3]) == 4 &&
            n[3] > n[2])
            FLOW_COUNT(&s->flow, lost, n[3] - n[2]);
}
