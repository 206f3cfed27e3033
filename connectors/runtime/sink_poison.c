/* SPDX-License-Identifier: Apache-2.0
 *
 * What the target doesn't get: records that it refuses, and intervals that the log has lost. The
 * log's position moves over them, in one commit with the dead letter.
 */
#include <stdio.h>
#include <string.h>

#include "connectors/runtime/sink_runtime.h"

static bool in_dead_letters(struct pawl_sink *s, const struct part *t, uint64_t offset) {
    pawl_stream_info info;
    pawl_reader *r;
    char want[24];
    bool found = false;
    snprintf(want, sizeof want, "%llu", (unsigned long long)offset);
    if (!connect_stream(s->flow.log, s->config.dead_letter, &info))
        return false;
    uint32_t partition = t->partition % info.partitions;
    pawl_bounds b;
    if (pawl_partition_bounds(s->flow.log, info.id, partition, &b) < 0 ||
        pawl_reader_open(s->flow.log, info.id, partition, b.first, 0, &r) < 0)
        return false;
    char own[16];
    snprintf(own, sizeof own, "%u", t->partition);
    const char *wanted[4] = {s->flow.name, t->stream.name, own, want};
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
    char gap[NAME_MAX_BYTES], old[NAME_MAX_BYTES], name[NAME_MAX_BYTES];
    uint64_t a = from, b = from;
    if (from < t->logged) { /* delivered again: the position is beyond it already */
        c.from = c.to = 0;
        if (dead != NULL && in_dead_letters(s, t, from))
            c.dead = NULL;
    } else if (sink_has_position(s)) {
        sink_gap(s, t, from, to, gap, old);
        c.finish[1] = old;
        c.decide = gap;
    }
    if (t->promised != NOWHERE && from >= t->logged) {
        sink_mark(s, "batch", t, &a, &b, name);
        c.finish[0] = name;
    }
    int rc = c.from != c.to || c.dead != NULL || c.finish[0] != NULL || c.decide != NULL
                 ? sink_log(s, &c)
                 : 0;
    if (rc < 0)
        return sink_log_answer(s, rc);
    if (c.decide != NULL)
        memcpy(t->gap, gap, sizeof gap);
    t->promised = NOWHERE;
    t->poison = NOWHERE;
    t->limit = NOWHERE;
    t->next = to;
    flow_point(&s->flow, "poison-moved");
    return 0;
}

int sink_move_poison(struct pawl_sink *s, struct part *t) {
    if (s->config.on_poison == PAWL_ON_ERROR_STOP) {
        char text[700];
        snprintf(text, sizeof text, "the target refuses the record at offset %llu of %s/%u: %.400s",
                 (unsigned long long)t->next, t->stream.name, t->partition, t->why);
        return flow_fail(&s->flow, PAWL_PROCESSOR, text);
    }
    uint64_t at = t->next;
    sink_rewind(t, at);
    int rc = sink_fetch(s, t, at);
    if (rc <= 0)
        return rc == 0 || rc == PAWL_LOST ? 0 : sink_log_answer(s, rc);
    rc = pass_over(s, t, at, at + 1,
                   s->config.on_poison == PAWL_ON_ERROR_DEAD_LETTER ? t->chunk.records : NULL);
    if (rc != 0)
        return rc;
    t->used = 1;
    FLOW_COUNT(&s->flow, poisoned, 1);
    flow_report_paced(
        &s->flow, &s->poison_said, 2, "%s/%u offset %llu: refused by the target, %s: %s",
        t->stream.name, t->partition, (unsigned long long)at,
        s->config.on_poison == PAWL_ON_ERROR_DEAD_LETTER ? "moved to the dead-letter stream"
                                                         : "skipped (on_error)",
        t->why);
    return 0;
}

int sink_pass_lost(struct pawl_sink *s, struct part *t) {
    uint64_t from = t->chunk.from, to = t->chunk.to;
    snprintf(t->why, sizeof t->why, "lost to damage");
    int rc = pass_over(s, t, t->next, to, NULL);
    if (rc != 0)
        return rc;
    FLOW_COUNT(&s->flow, lost, to - from);
    flow_report(&s->flow, 2, "%s/%u: offsets %llu to %llu are lost in the log: passed over",
                t->stream.name, t->partition, (unsigned long long)from, (unsigned long long)to);
    t->chunk = (pawl_batch){0};
    return 0;
}
