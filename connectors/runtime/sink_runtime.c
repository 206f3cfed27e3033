/* SPDX-License-Identifier: Apache-2.0
 *
 * Adding and removing sinks, their threads, their status.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "connectors/runtime/sink_runtime.h"

/* how late a record may be noticed in a partition that isn't waited on, and a stop */
#define WAIT_MS_MAX 20

int64_t sink_realtime(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

void sink_report(struct pawl_sink *s, int severity, const char *format, ...) {
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    pthread_mutex_lock(&s->mutex);
    memcpy(s->status.message, text, sizeof text);
    pthread_mutex_unlock(&s->mutex);
    if (s->config.hooks.report != NULL)
        s->config.hooks.report(s->config.hooks.report_arg, s->name, severity, text);
}

static void set_flow(struct pawl_sink *s, int flow, int code) {
    pthread_mutex_lock(&s->mutex);
    s->status.flow = flow;
    s->status.code = code;
    pthread_mutex_unlock(&s->mutex);
}

int sink_fail(struct pawl_sink *s, int code, const char *text) {
    pawl_error e;
    pawl_last_error(&e);
    s->opened = false;
    sink_report(s, 3, "%s",
                text != NULL        ? text
                : e.message[0] != 0 ? e.message
                                    : pawl_strerror(code));
    set_flow(s, PAWL_FLOW_FAILED, code);
    return code;
}

/* Everything in doubt is settled by opening again, however small the fault. */
static int try_later(struct pawl_sink *s, const char *text) {
    s->opened = false;
    s->attempts++;
    uint32_t pause =
        connect_pause(s->attempts, s->config.backoff_ms, s->config.backoff_max_ms, &s->jitter);
    s->retry_at_ns = connect_now(&s->config.hooks) + (uint64_t)pause * 1000000u;
    pthread_mutex_lock(&s->mutex);
    s->status.flow = PAWL_FLOW_WAITING;
    s->status.attempts = s->attempts;
    s->status.retries++;
    s->status_retry_at_ns = s->retry_at_ns;
    pthread_mutex_unlock(&s->mutex);
    sink_report(s, 1, "%s; next attempt in %u ms", text, pause);
    return STEP_IDLE;
}

int sink_answer(struct pawl_sink *s, const char *call, int outcome, const pawl_fault *f) {
    char text[480];
    if (outcome == PAWL_DONE)
        return 0;
    s->ops.abort(s->ops.self);
    if (outcome == PAWL_RETRY) {
        snprintf(text, sizeof text, "%s: %s", call, f->message);
        return try_later(s, text);
    }
    if (outcome == PAWL_FATAL)
        snprintf(text, sizeof text, "%s: %s", call, f->message);
    else
        snprintf(text, sizeof text, "%s answered %d, which it may not: %.300s", call, outcome,
                 f->message);
    return sink_fail(s, PAWL_PROCESSOR, text);
}

int sink_log_answer(struct pawl_sink *s, int code) {
    s->ops.abort(s->ops.self);
    if (code == PAWL_FULL || code == PAWL_MEMORY)
        return try_later(s, pawl_strerror(code));
    return sink_fail(s, code, NULL);
}

/* ---- add and remove */

static const char *config_fault(const pawl_sink_config *c, const pawl_sink_ops *o) {
    bool exactly = c->guarantee == PAWL_EXACTLY_ONCE;
    if (c->struct_size != sizeof *c || o->struct_size != sizeof *o)
        return "config and ops need PAWL_SINK_CONFIG_INIT and PAWL_SINK_OPS_INIT";
    if (!connect_name_ok(c->name))
        return "a sink's name has 1 to 64 bytes of A-Z a-z 0-9 . _ -";
    if (c->inputs == NULL || c->input_count == 0 || c->input_count > 64)
        return "a sink needs 1 to 64 inputs";
    if (c->guarantee < 0 || c->guarantee > 2 || c->on_poison < 0 || c->on_poison > 2 ||
        c->on_lost < 0 || c->on_lost > 2 || o->kind < PAWL_SINK_TRANSACTIONAL ||
        o->kind > PAWL_SINK_IDEMPOTENT)
        return "kind, guarantee, on_poison or on_lost has no such value";
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
        if (!connect_stream(s->log, c->inputs[i], &info))
            return connect_error(err, PAWL_NOT_FOUND, "sink %s: there is no stream %u", s->name,
                                 c->inputs[i]);
        struct part *q = realloc(s->parts, (s->part_count + info.partitions) * sizeof *q);
        if (q == NULL)
            return connect_error(err, PAWL_MEMORY, "no memory for sink %s", s->name);
        s->parts = q;
        for (uint32_t k = 0; k < info.partitions; k++)
            s->parts[s->part_count++] = (struct part){.stream = info,
                                                      .partition = k,
                                                      .limit = NOWHERE,
                                                      .promised = NOWHERE,
                                                      .poison = NOWHERE};
    }
    return 0;
}

static int make_positions(struct pawl_sink *s) {
    pawl_tx *tx;
    int rc = pawl_begin(s->log, &tx);
    if (rc < 0)
        return rc;
    for (uint32_t i = 0; i < s->part_count && rc == 0; i++) {
        struct part *t = &s->parts[i];
        char name[NAME_MAX_BYTES];
        uint64_t at;
        pawl_bounds b;
        if (pawl_position_get(s->log, s->name, t->stream.id, t->partition, &at) == 0)
            continue;
        rc = pawl_partition_bounds(s->log, t->stream.id, t->partition, &b);
        at = s->config.start_at_end != 0 ? b.durable : b.first;
        if (rc == 0)
            rc = pawl_advance(tx, s->id, t->stream.id, t->partition, at, at);
        snprintf(name, sizeof name, "start-%u-%u-%llu-%llu", t->stream.id, t->partition,
                 (unsigned long long)at, (unsigned long long)at);
        if (rc == 0 && sink_is(s, PAWL_SINK_TRANSACTIONAL))
            rc = pawl_decide(tx, s->id, name);
    }
    if (rc < 0) {
        pawl_abort(tx);
        return rc;
    }
    rc = pawl_commit(tx, NULL);
    if (rc == PAWL_FULL || rc == PAWL_MEMORY)
        pawl_abort(tx);
    return rc;
}

static void defaults(pawl_sink_config *c) {
    c->batch_records = c->batch_records != 0 ? c->batch_records : 10000;
    c->batch_bytes = c->batch_bytes != 0 ? c->batch_bytes : UINT64_C(4) << 20;
    c->backoff_ms = c->backoff_ms != 0 ? c->backoff_ms : 100;
    c->backoff_max_ms = c->backoff_max_ms != 0 ? c->backoff_max_ms : 30000;
    c->name = NULL, c->inputs = NULL; /* the caller's */
}

static int set_up(struct pawl_sink *s, const pawl_sink_config *c, pawl_error *err) {
    pawl_status status = PAWL_STATUS_INIT;
    pawl_stream_info info;
    int rc = pawl_get_status(s->log, &status);
    if (rc < 0)
        return connect_log_error(err, rc);
    memcpy(s->log_id, status.log_id, sizeof s->log_id);
    if (c->on_poison == PAWL_ON_ERROR_DEAD_LETTER && !connect_stream(s->log, c->dead_letter, &info))
        return connect_error(err, PAWL_NOT_FOUND, "sink %s: the dead-letter stream is not there",
                             s->name);
    rc = pawl_processor_register(s->log, s->name, &s->id);
    if (rc < 0)
        return connect_log_error(err, rc);
    rc = make_parts(s, c, err);
    if (rc < 0)
        return rc;
    rc = make_positions(s);
    return rc < 0 ? connect_log_error(err, rc) : 0;
}

int pawl_sink_add(pawl *p, const pawl_sink_config *c, const pawl_sink_ops *ops, pawl_sink **out,
                  pawl_error *err) {
    if (ops == NULL)
        return connect_error(err, PAWL_INVALID, "ops is NULL");
    const char *fault = p == NULL || c == NULL || out == NULL
                            ? "log, config or result pointer is NULL"
                            : config_fault(c, ops);
    struct pawl_sink *s = fault == NULL ? calloc(1, sizeof *s) : NULL;
    if (s == NULL) {
        if (ops->destroy != NULL)
            ops->destroy(ops->self);
        return connect_error(err, fault != NULL ? PAWL_INVALID : PAWL_MEMORY, "%s",
                             fault != NULL ? fault : "no memory for a sink");
    }
    s->log = p;
    s->config = *c;
    s->ops = *ops;
    snprintf(s->name, sizeof s->name, "%s", c->name);
    snprintf(s->type, sizeof s->type, "%s", ops->type != NULL ? ops->type : "");
    defaults(&s->config);
    s->jitter = connect_seed(&s->config.hooks);
    pthread_mutex_init(&s->mutex, NULL);
    connect_condition(&s->wake);
    int rc = set_up(s, c, err);
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
    pawl_sink_stop(s, 0);
    for (uint32_t i = 0; i < s->part_count; i++)
        pawl_reader_close(s->parts[i].reader);
    if (s->finish[0] != 0) /* else the next open asks the target about it */
        (void)sink_log(s, &(struct log_change){.finish = {s->finish}});
    if (s->ops.destroy != NULL)
        s->ops.destroy(s->ops.self);
    pthread_cond_destroy(&s->wake);
    pthread_mutex_destroy(&s->mutex);
    free(s->parts);
    free(s);
}

/* ---- running */

int pawl_sink_step(pawl_sink *s) {
    if (s == NULL)
        return PAWL_INVALID;
    if (s->status.flow == PAWL_FLOW_FAILED)
        return s->status.code;
    int rc = sink_step_once(s);
    if (rc < 0)
        return rc;
    if (rc == STEP_MORE || s->retry_at_ns == 0)
        set_flow(s, rc == STEP_MORE ? PAWL_FLOW_RUNNING : PAWL_FLOW_IDLE, 0);
    return rc == STEP_MORE ? 0 : sink_idle_ms(s);
}

static void pause_for(struct pawl_sink *s, int ms) {
    connect_wait(&s->mutex, &s->wake, s->draining ? NULL : &s->stop, ms);
}

/* Waits on one partition, which wakes at once; the others are looked at when the time is over. */
static void wait_for_records(struct pawl_sink *s, int ms) {
    struct part *t = &s->parts[s->part_at];
    ms = ms > WAIT_MS_MAX ? WAIT_MS_MAX : ms;
    uint64_t begun = connect_now(&(pawl_hooks){0});
    bool waits = s->opened && t->waiting_since_ns == 0 && sink_wait(s, t, ms);
    if (!waits || connect_now(&(pawl_hooks){0}) - begun < 100000)
        pause_for(s, waits ? 1 : ms);
}

static void *run(void *arg) {
    struct pawl_sink *s = arg;
    for (;;) {
        bool stopping = atomic_load(&s->stop);
        s->draining = stopping;
        if (stopping && connect_now(&(pawl_hooks){0}) >= atomic_load(&s->drain_until_ns))
            break;
        int rc = pawl_sink_step(s);
        if (rc < 0 || (stopping && rc > 0 && s->opened && s->retry_at_ns == 0))
            break;
        if (rc > 0 && (s->retry_at_ns != 0 || stopping))
            pause_for(s, stopping && rc > WAIT_MS_MAX ? WAIT_MS_MAX : rc);
        else if (rc > 0)
            wait_for_records(s, rc);
    }
    return NULL;
}

int pawl_sink_start(pawl_sink *s) {
    if (s == NULL)
        return PAWL_INVALID;
    if (s->running)
        return PAWL_BUSY;
    if (s->status.flow == PAWL_FLOW_FAILED)
        return PAWL_STATE;
    atomic_store(&s->stop, 0);
    if (pthread_create(&s->thread, NULL, run, s) != 0)
        return PAWL_MEMORY;
    s->running = true;
    return 0;
}

int pawl_sink_stop(pawl_sink *s, uint32_t drain_ms) {
    if (s == NULL)
        return PAWL_INVALID;
    if (!s->running)
        return 0;
    pthread_mutex_lock(&s->mutex);
    atomic_store(&s->drain_until_ns,
                 drain_ms == 0 ? 0 : connect_now(&(pawl_hooks){0}) + (uint64_t)drain_ms * 1000000u);
    atomic_store(&s->stop, 1);
    pthread_cond_broadcast(&s->wake);
    pthread_mutex_unlock(&s->mutex);
    pthread_join(s->thread, NULL);
    s->running = false;
    return sink_behind(s) != 0 ? PAWL_TIMEOUT : 0;
}

int pawl_sink_status(pawl_sink *s, pawl_flow_status *out) {
    if (s == NULL || out == NULL || out->struct_size != sizeof *out)
        return PAWL_INVALID;
    uint64_t behind = sink_behind(s);
    pthread_mutex_lock(&s->mutex);
    *out = s->status;
    uint64_t at = s->status_retry_at_ns;
    pthread_mutex_unlock(&s->mutex);
    out->struct_size = sizeof *out;
    out->behind = behind;
    uint64_t now = connect_now(&s->config.hooks);
    out->retry_in_ms =
        out->flow == PAWL_FLOW_WAITING && at > now ? (uint32_t)((at - now) / 1000000u) : 0;
    snprintf(out->name, sizeof out->name, "%s", s->name);
    snprintf(out->type, sizeof out->type, "%s", s->type);
    if (s->ops.status != NULL)
        s->ops.status(s->ops.self, out->target, sizeof out->target);
    return 0;
}
