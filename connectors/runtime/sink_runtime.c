/* SPDX-License-Identifier: Apache-2.0
 *
 * Adding and removing sinks, their threads, their status.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "connectors/runtime/sink_runtime.h"

/* ---- add and remove */

static const char *config_fault(const pawl_sink_config *c, const pawl_sink_ops *o) {
    bool exactly = c->guarantee == PAWL_EXACTLY_ONCE;
    if (!connect_name_ok(c->name))
        return "a sink's name has 1 to 64 bytes of A-Z a-z 0-9 . _ -";
    if (c->inputs == NULL || c->input_count == 0 || c->input_count > 64)
        return "a sink needs 1 to 64 inputs";
    if (c->guarantee < 0 || c->guarantee > 2 || c->on_poison < 0 || c->on_poison > 2 ||
        c->on_lost < 0 || c->on_lost > 2 || c->on_replaced < 0 || c->on_replaced > 2 ||
        o->kind < PAWL_SINK_TRANSACTIONAL || o->kind > PAWL_SINK_IDEMPOTENT)
        return "kind, guarantee, on_poison, on_lost or on_replaced has no such value";
    if (o->open == NULL || o->begin == NULL || o->write == NULL || o->abort == NULL)
        return "a sink needs open, begin, write and abort";
    if ((!exactly || o->kind != PAWL_SINK_TWO_PHASE) && o->commit == NULL)
        return "this sink needs commit";
    if (exactly && o->kind == PAWL_SINK_TRANSACTIONAL && o->position == NULL)
        return "a transactional sink needs position";
    if (exactly && o->kind == PAWL_SINK_TWO_PHASE &&
        (o->prepare == NULL || o->commit_prepared == NULL || o->rollback_prepared == NULL ||
         o->list_prepared == NULL || o->committed == NULL))
        return "a two-phase sink needs prepare, commit_prepared, rollback_prepared, list_prepared "
               "and "
               "committed";
    return NULL;
}

/* The parts, and their positions in the log where there are none yet. */
static int make_parts(struct pawl_sink *s, const pawl_sink_config *c, pawl_error *err) {
    pawl_stream_info info;
    for (uint32_t i = 0; i < c->input_count; i++) {
        if (!connect_stream(s->flow.log, c->inputs[i], &info))
            return connect_error(err, PAWL_NOT_FOUND, "sink %s: there is no stream %u",
                                 s->flow.name, c->inputs[i]);
        struct part *q = realloc(s->parts, (s->part_count + info.partitions) * sizeof *q);
        if (q == NULL)
            return connect_error(err, PAWL_MEMORY, "no memory for sink %s", s->flow.name);
        s->parts = q;
        for (uint32_t k = 0; k < info.partitions; k++)
            s->parts[s->part_count++] = (struct part){.stream = info,
                                                      .partition = k,
                                                      .watched = NOWHERE,
                                                      .limit = NOWHERE,
                                                      .promised = NOWHERE,
                                                      .poison = NOWHERE};
    }
    return 0;
}

static int make_positions(struct pawl_sink *s) {
    pawl_tx *tx;
    int rc = pawl_begin(s->flow.log, &tx);
    if (rc < 0)
        return rc;
    for (uint32_t i = 0; i < s->part_count && rc == 0; i++) {
        struct part *t = &s->parts[i];
        char name[NAME_MAX_BYTES];
        uint64_t at;
        pawl_bounds b;
        if (pawl_position_get(s->flow.log, s->flow.name, t->stream.id, t->partition, &at) == 0)
            continue;
        rc = pawl_partition_bounds(s->flow.log, t->stream.id, t->partition, &b);
        at = s->config.start_at_end != 0 ? b.durable : b.first;
        if (rc == 0)
            rc = pawl_advance(tx, s->id, t->stream.id, t->partition, at, at);
        snprintf(name, sizeof name, "start-%u-%u-%llu-%llu", t->stream.id, t->partition,
                 (unsigned long long)at, (unsigned long long)at);
        if (rc == 0 && sink_has_position(s))
            rc = pawl_decide(tx, s->id, name);
    }
    if (rc < 0) {
        pawl_abort(tx);
        return rc;
    }
    return connect_commit(tx, true, NULL);
}

static void defaults(pawl_sink_config *c) {
    c->batch_records = c->batch_records != 0 ? c->batch_records : 10000;
    c->batch_bytes = c->batch_bytes != 0 ? c->batch_bytes : UINT64_C(4) << 20;
    c->name = NULL, c->inputs = NULL; /* the caller's */
}

static int set_up(struct pawl_sink *s, const pawl_sink_config *c, pawl_error *err) {
    pawl_status status = PAWL_STATUS_INIT;
    pawl_stream_info info;
    int rc = pawl_get_status(s->flow.log, &status);
    if (rc < 0)
        return connect_log_error(err, rc);
    memcpy(s->log_id, status.log_id, sizeof s->log_id);
    if (c->on_poison == PAWL_ON_ERROR_DEAD_LETTER &&
        !connect_stream(s->flow.log, c->dead_letter, &info))
        return connect_error(err, PAWL_NOT_FOUND, "sink %s: the dead-letter stream is not there",
                             s->flow.name);
    rc = pawl_processor_register(s->flow.log, s->flow.name, &s->id);
    if (rc < 0)
        return connect_log_error(err, rc);
    rc = make_parts(s, c, err);
    if (rc < 0)
        return rc;
    rc = make_positions(s);
    if (rc == 0)
        sink_count_lost(s);
    return rc < 0 ? connect_log_error(err, rc) : 0;
}

/* Takes config and ops, and checks them. ops->destroy is set as soon as it may be called. */
static int check(pawl *p, pawl_sink_config *c, const pawl_sink_config *config, pawl_sink_ops *ops,
                 const pawl_sink_ops *given, pawl_error *err) {
    int rc = pawl_struct_take(ops, sizeof *ops, given, SINK_OPS_FIRST, "pawl_sink_ops");
    if (rc == PAWL_UNSUPPORTED)
        ops->destroy = given->destroy, ops->self = given->self;
    if (rc == 0)
        rc = pawl_struct_take(c, sizeof *c, config, SINK_CONFIG_FIRST, "pawl_sink_config");
    if (rc < 0)
        return connect_log_error(err, rc);
    const char *fault = p == NULL ? "the log is NULL" : config_fault(c, ops);
    return fault != NULL ? connect_error(err, PAWL_INVALID, "%s", fault) : 0;
}

int pawl_sink_add(pawl *p, const pawl_sink_config *config, const pawl_sink_ops *given,
                  pawl_sink **out, pawl_error *err) {
    pawl_sink_ops ops = PAWL_SINK_OPS_INIT;
    pawl_sink_config c = PAWL_SINK_CONFIG_INIT;
    struct pawl_sink *s = NULL;
    int rc = out == NULL ? connect_error(err, PAWL_INVALID, "the result pointer is NULL") : 0;
    if (rc == 0)
        rc = check(p, &c, config, &ops, given, err);
    if (rc == 0 && (s = calloc(1, sizeof *s)) == NULL)
        rc = connect_error(err, PAWL_MEMORY, "no memory for a sink");
    if (rc < 0) {
        if (ops.destroy != NULL)
            ops.destroy(ops.self);
        return rc;
    }
    s->config = c;
    s->ops = ops;
    defaults(&s->config);
    flow_init(&s->flow, p, c.name, ops.type, &c.hooks);
    flow_backoff(&s->flow, c.backoff_ms, c.backoff_max_ms);
    rc = set_up(s, &c, err);
    if (rc < 0) {
        pawl_sink_remove(s);
        return rc;
    }
    *out = s;
    return 0;
}

void pawl_sink_remove(pawl_sink *s) {
    if (s == NULL)
        return;
    flow_stop(&s->flow, 0);
    sink_end(s);
    for (uint32_t i = 0; i < s->part_count; i++)
        pawl_reader_close(s->parts[i].reader);
    pawl_any_close(s->any);
    if (s->finish[0] != 0) /* else the next open asks the target about it */
        (void)sink_log(s, &(struct log_change){.finish = {s->finish}});
    if (s->ops.destroy != NULL)
        s->ops.destroy(s->ops.self);
    flow_free(&s->flow);
    free(s->parts);
    free(s);
}

/* ---- running */

int pawl_sink_step(pawl_sink *s) {
    if (s == NULL)
        return PAWL_INVALID;
    if (s->flow.status.flow == PAWL_FLOW_FAILED)
        return s->flow.status.code;
    int rc = sink_step_once(s);
    sink_remark(s);
    if (rc < 0)
        return rc;
    if (rc == STEP_MORE || s->flow.retry_at_ns == 0)
        flow_set(&s->flow, rc == STEP_MORE ? PAWL_FLOW_RUNNING : PAWL_FLOW_IDLE, 0);
    return rc == STEP_MORE ? 0 : sink_idle_ms(s);
}

static void *run(void *arg) {
    struct pawl_sink *s = arg;
    for (;;) {
        bool stopping = flow_stopping(&s->flow);
        s->draining = stopping;
        if (stopping && flow_drained(&s->flow))
            break;
        int rc = pawl_sink_step(s);
        if (rc < 0 || (stopping && rc > 0 && s->flow.opened && s->flow.retry_at_ns == 0))
            break;
        if (rc > 0 && stopping)
            flow_wait(&s->flow, -1, rc > FLOW_DRAIN_MS ? FLOW_DRAIN_MS : rc);
        else if (rc > 0)
            sink_wait(s);
    }
    return NULL;
}

int pawl_sink_start(pawl_sink *s) {
    return s == NULL ? PAWL_INVALID : flow_start(&s->flow, run, s);
}

int pawl_sink_stop(pawl_sink *s, uint32_t drain_ms) {
    if (s == NULL)
        return PAWL_INVALID;
    if (!flow_stop(&s->flow, drain_ms))
        return 0;
    sink_end(s);
    return sink_lag(s) != 0 ? PAWL_TIMEOUT : 0;
}

int pawl_sink_status(pawl_sink *s, pawl_flow_status *given) {
    if (s == NULL)
        return PAWL_INVALID;
    pawl_flow_status own = PAWL_FLOW_STATUS_INIT, *out = &own;
    uint64_t lag = sink_lag(s);
    flow_status(&s->flow, out);
    out->behind = lag;
    if (s->ops.status != NULL)
        flow_target(s->ops.status, s->ops.self, out);
    return pawl_struct_give(given, FLOW_STATUS_FIRST, out, sizeof *out, "pawl_flow_status");
}
