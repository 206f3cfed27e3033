/* SPDX-License-Identifier: Apache-2.0
 *
 * Is the target still the one that the sink delivered to? What the target says of itself
 * (`identity()`) is kept in the log, as the open decision "target-TEXT", and compared at each
 * opening before anything else is done there.
 *
 *   the log knows   the target says            then
 *   nothing         anything; a new sink       it is kept
 *   nothing         anything; has delivered    it is kept, and said: an older version didn't ask
 *   nothing         "log=...": another log's   on_replaced: the records may be there already, under
 *                   positions, none of ours    that log's positions
 *   a target        the same in each part      go on
 *   no position     "position=kept" (an        an earlier version, or other settings, kept none
 *                   idempotent sink)           there: the position is begun, and said
 *   a target        more or fewer parts        go on; it is kept as it is now
 *   a target        another value of a part    on_replaced; a sink that has not delivered anything
 *                                              yet takes it
 *
 * What the target says is kept when all positions have been judged, and not before: so an opening
 * that fails or is cut short anywhere between decides nothing, and the next one asks the same
 * questions again.
 */
#include <stdio.h>
#include <string.h>

#include "connectors/runtime/sink_runtime.h"

#define KEPT "target-"

bool sink_adopts(const struct pawl_sink *s) {
    return s->config.on_replaced != PAWL_REPLACED_STOP;
}

/* The value of NAME in "NAME=VALUE NAME=VALUE ..."; *len is its length. NULL: there is none. */
static const char *value_of(const char *text, const char *name, size_t name_len, size_t *len) {
    for (const char *at = text; at != NULL && *at != 0;) {
        at += strspn(at, " ");
        size_t n = strcspn(at, " ");
        if (n > name_len && strncmp(at, name, name_len) == 0 && at[name_len] == '=') {
            *len = n - name_len - 1;
            return at + name_len + 1;
        }
        at += n;
    }
    return NULL;
}

/* The parts that both have and that differ, as "NAME was OLD and is NEW, ..."; "" if there are
 * none. */
static void differences(const char *old, const char *now, char *out, size_t size) {
    size_t used = 0, was_len, is_len;
    out[0] = 0;
    for (const char *at = now; *at != 0 && used < size; at += strcspn(at, " ")) {
        at += strspn(at, " ");
        size_t name_len = strcspn(at, "= ");
        const char *is = value_of(now, at, name_len, &is_len),
                   *was = value_of(old, at, name_len, &was_len);
        bool log = name_len == 3 && strncmp(at, "log", 3) == 0; /* says who else delivers */
        if (is == NULL || was == NULL || log ||
            (was_len == is_len && strncmp(was, is, is_len) == 0))
            continue;
        used += (size_t)snprintf(out + used, size - used, "%s%.*s was %.*s and is %.*s",
                                 used != 0 ? ", " : "", (int)name_len, at, (int)was_len, was,
                                 (int)is_len, is);
    }
}

/* Text that the log keeps; "" if it keeps none. */
static void kept_text(const struct pawl_sink *s, char out[NAME_MAX_BYTES]) {
    pawl_decision d;
    out[0] = 0;
    for (uint32_t i = sink_decisions(s); sink_decision_before(s, &i, &d);)
        if (strncmp(d.name, KEPT, strlen(KEPT)) == 0) {
            snprintf(out, NAME_MAX_BYTES, "%s", d.name + strlen(KEPT));
            return;
        }
}

static bool has_delivered(const struct pawl_sink *s) {
    char name[NAME_MAX_BYTES];
    uint64_t from, to, at;
    for (uint32_t i = 0; i < s->part_count; i++) {
        const struct part *t = &s->parts[i];
        if (!sink_mark(s, "start", t, &from, &to, name) &&
            pawl_position_get(s->flow.log, s->flow.name, t->stream.id, t->partition, &at) == 0 &&
            at > 0)
            return true;
    }
    return false;
}

int sink_keep_target(struct pawl_sink *s) {
    char old[NAME_MAX_BYTES], before[NAME_MAX_BYTES], after[NAME_MAX_BYTES];
    if (s->target[0] == 0)
        return 0;
    kept_text(s, old);
    if (strcmp(old, s->target) == 0)
        return 0;
    snprintf(before, sizeof before, KEPT "%.*s", TARGET_TEXT_MAX, old);
    snprintf(after, sizeof after, KEPT "%s", s->target);
    int rc =
        sink_log(s, &(struct log_change){
                        .decide = after, .finish = {old[0] != 0 ? before : NULL}, .durable = true});
    if (rc < 0)
        return sink_log_answer(s, rc);
    flow_point(&s->flow, "target-kept");
    return 0;
}

/* The target is another one, or another log's. */
static int replaced(struct pawl_sink *s, const char *what) {
    char text[480];
    if (sink_adopts(s)) {
        flow_report(&s->flow, 2, "%s: taken as the target, as on_replaced says", what);
        return 0;
    }
    snprintf(text, sizeof text,
             "%s. Put back what was there; or set on_replaced: \"adopt\" goes on with this target, "
             "\"redeliver\" delivers to it again what the log still has",
             what);
    return sink_stop_for_good(s, text);
}

/* The target keeps a position from now on, and kept none before. */
static bool begins_position(const struct pawl_sink *s, const char *old, const char *now) {
    size_t len;
    return s->ops.kind == PAWL_SINK_IDEMPOTENT && sink_has_position(s) &&
           value_of(now, "position", 8, &len) != NULL && value_of(old, "position", 8, &len) == NULL;
}

int sink_know_target(struct pawl_sink *s) {
    char name[NAME_MAX_BYTES], old[NAME_MAX_BYTES], what[400], *now = s->target;
    pawl_sink_batch batch;
    pawl_fault f = {.offset = NOWHERE};
    size_t len = 0;
    s->migrates = false;
    now[0] = 0;
    if (s->ops.identity == NULL)
        return 0;
    sink_batch(s, NULL, 0, 0, &batch, name);
    int outcome = s->ops.identity(s->ops.self, &batch, now, sizeof s->target, &f);
    if (outcome != PAWL_DONE)
        now[0] = 0;
    if (outcome == PAWL_GONE)
        return 0;
    if (outcome != PAWL_DONE)
        return sink_answer(s, "identity", outcome, &f);
    kept_text(s, old);
    const char *other = value_of(now, "log", 3, &len);
    if (old[0] == 0 && other != NULL) {
        snprintf(what, sizeof what,
                 "the target has positions of another log (%.*s) under the name %s, and none of "
                 "this one: if this log was made anew, its records may be there already",
                 (int)len, other, s->flow.name);
        return replaced(s, what);
    }
    bool delivered = has_delivered(s);
    s->migrates = delivered && (old[0] == 0 || begins_position(s, old, now));
    if (s->migrates)
        flow_report(&s->flow, 1, "the target is known from now on as: %s", now);
    if (old[0] == 0 || !delivered)
        return 0;
    char changes[200];
    differences(old, now, changes, sizeof changes);
    if (changes[0] == 0)
        return 0;
    snprintf(what, sizeof what,
             "the target is not the one that this sink delivered to (%s): it was replaced, made "
             "anew or restored elsewhere",
             changes);
    return replaced(s, what);
}
