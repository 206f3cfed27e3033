/* SPDX-License-Identifier: Apache-2.0
 *
 * pipeline.c - see pipeline.h. Whatever is interrupted at whatever moment: positions, outputs and
 * what the sinks promised are in the log, and the next start goes on from there. So ending,
 * reloading and failing all come down to stopping the parts.
 */
#include "cli/run/pipeline.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void wake_main_loop(const pipeline *p) {
    (void)!write(p->wake, &(uint64_t){1}, sizeof(uint64_t));
}

static void remember(pipeline *p, const char *name, const char *text) {
    pthread_mutex_lock(&p->mutex);
    if (p->why[0] == 0)
        cli_text(p->why, sizeof p->why, "%s: %s", name, text);
    pthread_mutex_unlock(&p->mutex);
    atomic_store(&p->failed, 1);
    wake_main_loop(p);
}

static int cannot(pipeline *p, const char *name, int code, const pawl_error *e) {
    pawl_error last;
    pawl_last_error(&last);
    const char *text = e != NULL && e->message[0] != 0             ? e->message
                       : last.code == code && last.message[0] != 0 ? last.message
                                                                   : pawl_strerror(code);
    run_say(3, p->c->name, name, "%s", text);
    remember(p, name, text);
    return CLI_PROBLEM;
}

static void report(void *arg, const char *name, int severity, const char *message) {
    const pipeline *p = arg;
    run_say(severity, p->c->name, name, "%s", message);
    wake_main_loop(p); /* it has failed, or ended */
}

/* Of the log itself. What retention drops is no message. */
static void log_says(void *arg, int severity, const char *message) {
    pipeline *p = arg;
    if (severity == PAWL_LOG_REMARK)
        return;
    run_say(severity, p->c->name, "", "%s", message);
    if (severity == PAWL_LOG_ERROR) {
        atomic_store(&p->log_failed, 1);
        remember(p, "log", message);
    }
}

/* A processor has failed for good; called by a thread of pawl_run(). */
static void processor_failed(void *arg, const char *name, const pawl_error *e) {
    part_failure *part = arg;
    pipeline *p = part->pipeline;
    const char *text = e->message[0] != 0 ? e->message : pawl_strerror(e->code);
    pthread_mutex_lock(&p->mutex);
    part->failed = true;
    cli_text(part->why, sizeof part->why, "%s", text);
    pthread_mutex_unlock(&p->mutex);
    run_say(3, p->c->name, name, "%s", text);
    remember(p, name, text);
}

/* ---- the log and its streams */

static int open_log(pipeline *p) {
    const config *c = p->c;
    pawl_options o = PAWL_OPTIONS_INIT;
    pawl_error e = {0};
    o.flags = c->create ? PAWL_OPEN_CREATE : 0;
    o.segment_size = c->segment_size;
    o.disk_cap = c->disk_cap;
    o.memory_cap = c->memory;
    o.lock_wait_ms = CLI_LOCK_WAIT_MS;
    o.backend = c->backend;
    o.direct = c->direct;
    o.log = log_says;
    o.log_arg = p;
    int code = pawl_open(c->directory, &o, &p->log, &e);
    if (code < 0) {
        p->log = NULL;
        run_say(3, c->name, "", "cannot open the log %s: %s", c->directory, e.message);
        return CLI_CANNOT_OPEN;
    }
    if (cli_in_memory(c->directory) != NULL)
        run_say(1, c->name, "",
                "%s is on %s, in memory: nothing in it outlives a reboot or a power cut",
                c->directory, cli_in_memory(c->directory));
    pawl_status s = PAWL_STATUS_INIT;
    if (pawl_get_status(p->log, &s) == 0 &&
        config_check_log(p->c, s.segment_size, cli_config_problem, (void *)(uintptr_t)c->file) !=
            0) {
        (void)!pawl_close(p->log);
        p->log = NULL;
        return CLI_PROBLEM;
    }
    /* making it is the first two */
    if (!s.clean && s.epoch > 2)
        run_say(1, c->name, "", "%s had not been closed in good order: recovered in %.1f ms",
                c->directory, (double)s.recovery_ns / 1e6);
    return CLI_OK;
}

static int make_streams(pipeline *p) {
    for (size_t i = 0; i < p->c->stream_count; i++) {
        const stream_config *s = &p->c->streams[i];
        pawl_stream_info info;
        int code = pawl_stream_create(p->log, s->name, s->partitions, NULL);
        if (code == PAWL_EXISTS)
            code = pawl_stream_find(p->log, s->name, &info);
        else
            info.partitions = s->partitions;
        if (code < 0)
            return cannot(p, s->name, code, NULL);
        if (info.partitions != s->partitions) {
            pawl_error e = {.code = PAWL_INVALID};
            snprintf(e.message, sizeof e.message,
                     "the stream has %" PRIu32 " partitions in the log and %" PRIu32
                     " in %s:%" PRIu32 "; a stream keeps what it was made with",
                     info.partitions, s->partitions, p->c->file, s->line);
            return cannot(p, s->name, PAWL_INVALID, &e);
        }
    }
    int code = p->c->has_retention ? pawl_retention_set(p->log, &p->c->retention) : 0;
    return code < 0 ? cannot(p, "retention", code, NULL) : CLI_OK;
}

static pawl_stream_info stream(const pipeline *p, const char *name) {
    pawl_stream_info info = {0};
    bool found = name == NULL || pawl_stream_find(p->log, name, &info) == 0;
    assert(found); /* make_streams() has seen to it */
    (void)found;
    return info;
}

static void inputs_of(const pipeline *p, const flow_config *w, uint32_t ids[64]) {
    for (uint32_t i = 0; i < w->input_count; i++)
        ids[i] = stream(p, w->inputs[i]).id;
}

/* ---- adding */

static int add_processor(pipeline *p, const flow_config *w) {
    part_failure *part = &p->parts[w - p->c->flows];
    *part = (part_failure){.pipeline = p};
    uint32_t ids[64];
    pawl_error e = {0};
    pawl_processor_config c = PAWL_PROCESSOR_INIT;
    inputs_of(p, w, ids);
    c.name = w->name, c.inputs = ids, c.input_count = w->input_count;
    c.guarantee = w->guarantee;
    c.batch_max = w->batch_records, c.batch_bytes = w->batch_bytes;
    c.on_error = w->on_error, c.dead_letter = stream(p, w->dead_letter).id;
    c.retries = w->retries;
    c.backoff_ms = w->backoff_ms != 0 ? w->backoff_ms : c.backoff_ms;
    c.start_at_end = w->start_at_end;
    c.failed = processor_failed, c.failed_arg = part;
    int code = pawl_processor_attach(p->log, &c, &w->ops, &p->processors[p->processor_count], &e);
    if (code < 0)
        return cannot(p, w->name, code, &e);
    part->processor = p->processors[p->processor_count];
    p->processor_count++;
    return CLI_OK;
}

static int add_sink(pipeline *p, const flow_config *w) {
    uint32_t ids[64];
    pawl_sink_ops ops = PAWL_SINK_OPS_INIT;
    pawl_error e = {0};
    pawl_sink_config c = PAWL_SINK_CONFIG_INIT;
    int code = pawl_sink_make(
        w->type, &(pawl_settings){.items = w->settings, .count = w->setting_count}, &ops, &e);
    inputs_of(p, w, ids);
    c.name = w->name, c.inputs = ids, c.input_count = w->input_count;
    c.guarantee = w->guarantee;
    c.start_at_end = w->start_at_end;
    c.batch_records = w->batch_records, c.batch_bytes = w->batch_bytes;
    c.linger_ms = w->linger_ms;
    c.backoff_ms = w->backoff_ms, c.backoff_max_ms = w->backoff_max_ms;
    c.on_poison = w->on_error, c.dead_letter = stream(p, w->dead_letter).id;
    c.on_lost = w->on_lost;
    c.on_replaced = w->on_replaced;
    c.hooks.report = report, c.hooks.report_arg = p;
    if (code == 0)
        code = pawl_sink_add(p->log, &c, &ops, &p->sinks[p->sink_count], &e);
    if (code < 0)
        return cannot(p, w->name, code, &e);
    p->sink_count++;
    return CLI_OK;
}

static int add_source(pipeline *p, const flow_config *w) {
    pawl_source_ops ops = PAWL_SOURCE_OPS_INIT;
    pawl_error e = {0};
    pawl_source_config c = PAWL_SOURCE_CONFIG_INIT;
    int code = pawl_source_make(
        w->type, &(pawl_settings){.items = w->settings, .count = w->setting_count}, &ops, &e);
    c.name = w->name;
    c.stream = stream(p, w->to).id;
    c.batch_records = w->batch_records, c.batch_bytes = w->batch_bytes;
    c.backoff_ms = w->backoff_ms, c.backoff_max_ms = w->backoff_max_ms;
    c.on_poison = w->on_error, c.dead_letter = stream(p, w->dead_letter).id;
    c.stop_on_strangers = w->on_error_given;
    c.hooks.report = report, c.hooks.report_arg = p;
    if (code == 0)
        code = pawl_source_add(p->log, &c, &ops, &p->sources[p->source_count], &e);
    if (code < 0)
        return cannot(p, w->name, code, &e);
    p->source_count++;
    return CLI_OK;
}

static void *run_processors(void *arg) {
    pipeline *p = arg;
    int code = pawl_run(p->log, p->c->threads, 0);
    if (code < 0 && code != PAWL_STOPPED) {
        pawl_error e;
        pawl_last_error(&e);
        const char *text = e.message[0] != 0 ? e.message : pawl_strerror(code);
        run_say(3, p->c->name, "", "%s", text);
        remember(p, "processors", text);
    }
    atomic_store(&p->run_code, code);
    atomic_store(&p->run_ended, 1);
    return NULL;
}

/* Sinks of this log that are not in the file any more, and left batches that they had decided on:
 * each is said, since nobody settles them. */
static void say_unsettled(const pipeline *p) {
    pawl_decision d;
    for (uint32_t i = 0; pawl_decision_at(p->log, i, &d) >= 0; i++) {
        uint32_t id;
        char name[128] = "?";
        bool found = false, here = false;
        for (uint32_t k = 0; !found && pawl_processor_at(p->log, k, &id, name) >= 0; k++)
            found = id == d.processor;
        for (size_t k = 0; k < p->c->flow_count; k++)
            here |= p->c->flows[k].kind == FLOW_SINK && strcmp(p->c->flows[k].name, name) == 0;
        if (strncmp(d.name, "pawl-", 5) == 0 && !here)
            run_say(
                2, p->c->name, name,
                "the batch %s was decided and is not settled, and this sink is not in the file: "
                "its target may hold it prepared. Put the sink back, so that it settles it",
                d.name);
    }
}

/* Everything of p->c, into the open log; and off it goes. */
static int build(pipeline *p) {
    config *c = p->c;
    int code = make_streams(p);
    atomic_store(&p->run_ended, 0);
    p->processors = calloc(c->flow_count + 1, sizeof(void *));
    p->sources = calloc(c->flow_count + 1, sizeof(void *));
    p->sinks = calloc(c->flow_count + 1, sizeof(void *));
    p->parts = calloc(c->flow_count + 1, sizeof *p->parts);
    p->told_waiting = false;
    if (p->sources == NULL || p->sinks == NULL || p->processors == NULL || p->parts == NULL)
        return cannot(p, "", PAWL_MEMORY, NULL);
    for (size_t i = 0; code == CLI_OK && i < c->flow_count; i++) {
        const flow_config *w = &c->flows[i];
        code = w->kind == FLOW_PROCESSOR ? add_processor(p, w)
               : w->kind == FLOW_SINK    ? add_sink(p, w)
                                         : add_source(p, w);
    }
    if (code == CLI_OK)
        say_unsettled(p);
    for (size_t i = 0; code == CLI_OK && i < p->sink_count; i++)
        if (pawl_sink_start(p->sinks[i]) < 0)
            code = cannot(p, "", PAWL_MEMORY, NULL);
    if (code == CLI_OK && p->processor_count != 0) {
        p->runner_begun = pthread_create(&p->runner, NULL, run_processors, p) == 0;
        code = p->runner_begun ? CLI_OK : cannot(p, "", PAWL_MEMORY, NULL);
    }
    for (size_t i = 0; code == CLI_OK && i < p->source_count; i++)
        if (pawl_source_start(p->sources[i]) < 0)
            code = cannot(p, "", PAWL_MEMORY, NULL);
    return code;
}

/* ---- taking down */

static uint32_t left_ms(const pipeline *p) {
    uint64_t until = atomic_load(&p->drain_until_ns), now = cli_now_ns();
    return until > now ? (uint32_t)((until - now) / 1000000) : 0;
}

static void stop_processors(pipeline *p) {
    if (!p->runner_begun)
        return;
    if (atomic_load(&p->run_ended) == 0)
        pawl_stop(p->log);
    pthread_join(p->runner, NULL);
    p->runner_begun = false;
    int ran = atomic_load(&p->run_code);
    pawl_stop_clear(p->log); /* what follows goes on: what is left is processed and delivered */
    if (left_ms(p) == 0 || (ran < 0 && ran != PAWL_STOPPED))
        return;
    atomic_store(&p->draining, 1); /* pipeline_tick() stops it when the time is over */
    int code = pawl_run(p->log, p->c->threads, PAWL_RUN_UNTIL_IDLE);
    atomic_store(&p->draining, 0);
    pawl_stop_clear(p->log);
    if (code < 0 && code != PAWL_STOPPED)
        (void)cannot(p, "processors", code, NULL);
}

enum { FAILED_MAX = 700 };

/* Names a source or a sink that has stopped for good, and why; "" if there is none. Returns how
 * many have. Under the mutex. */
static size_t find_failed(pipeline *p, char failed[FAILED_MAX]) {
    pawl_flow_status s = PAWL_FLOW_STATUS_INIT;
    size_t n = 0;
    failed[0] = 0;
    for (size_t i = 0; i < p->source_count; i++)
        if (pawl_source_status(p->sources[i], &s) == 0 && s.flow == PAWL_FLOW_FAILED && n++ == 0)
            cli_text(failed, FAILED_MAX, "%s: %s", s.name, s.message);
    for (size_t i = 0; i < p->sink_count; i++)
        if (pawl_sink_status(p->sinks[i], &s) == 0 && s.flow == PAWL_FLOW_FAILED && n++ == 0)
            cli_text(failed, FAILED_MAX, "%s: %s", s.name, s.message);
    return n;
}

/* Sources, then processors, then sinks; each has what the one before left it. */
static void take_down(pipeline *p) {
    bool left = false;
    for (size_t i = 0; i < p->source_count; i++)
        left = pawl_source_stop(p->sources[i], left_ms(p)) == PAWL_TIMEOUT || left;
    if (p->log != NULL)
        stop_processors(p);
    for (size_t i = 0; i < p->sink_count; i++)
        left = pawl_sink_stop(p->sinks[i], left_ms(p)) == PAWL_TIMEOUT || left;
    if (left && atomic_load(&p->reloading) == 0)
        run_say(1, p->c->name, "", "not everything is delivered; the next start goes on");
    char failed[FAILED_MAX];
    pthread_mutex_lock(&p->mutex);
    find_failed(p, failed);
    for (size_t i = 0; i < p->source_count; i++)
        pawl_source_remove(p->sources[i]);
    for (size_t i = 0; i < p->processor_count; i++)
        pawl_processor_remove(p->processors[i]);
    for (size_t i = 0; i < p->sink_count; i++)
        pawl_sink_remove(p->sinks[i]);
    p->source_count = p->processor_count = p->sink_count = 0;
    free(p->sources);
    free(p->processors);
    free(p->sinks);
    free(p->parts);
    p->parts = NULL;
    p->sources = NULL;
    p->processors = NULL;
    p->sinks = NULL;
    pthread_mutex_unlock(&p->mutex);
    if (failed[0] != 0 && atomic_load(&p->reloading) == 0) /* while it was drained */
        remember(p, "stopped", failed);
}

static void close_log(pipeline *p) {
    run_socket_close(p->c->directory, &p->listener);
    pthread_mutex_lock(&p->mutex);
    pawl *log = p->log;
    p->log = NULL; /* a status asked for meanwhile has no log */
    pthread_mutex_unlock(&p->mutex);
    int code = pawl_close(log);
    if (code < 0)
        (void)cannot(p, "closing", code, NULL);
}

int pipeline_start(pipeline *p, config *c, const cli_args *a, int wake) {
    *p = (pipeline){.c = c, .args = a, .listener = {.fd = -1}, .wake = wake};
    pthread_mutex_init(&p->mutex, NULL);
    int code = open_log(p);
    if (code != CLI_OK)
        return code;
    p->listener = run_socket_open(c->directory, c->socket_mode);
    code = build(p);
    if (code != CLI_OK) {
        take_down(p);
        close_log(p);
        return code;
    }
    atomic_store(&p->state, PIPELINE_RUNNING);
    return CLI_OK;
}

static void *end_thread(void *arg) {
    pipeline *p = arg;
    take_down(p);
    close_log(p);
    atomic_store(&p->state, PIPELINE_ENDED);
    wake_main_loop(p);
    return NULL;
}

static void join_closer(pipeline *p) {
    if (p->closer_begun)
        pthread_join(p->closer, NULL);
    p->closer_begun = false;
}

void pipeline_end(pipeline *p, bool drain) {
    int state = atomic_load(&p->state);
    if (state == PIPELINE_ENDED || (state == PIPELINE_ENDING && atomic_load(&p->reloading) == 0))
        return;
    join_closer(p); /* a reload: it is short */
    atomic_store(&p->reloading, 0);
    atomic_store(&p->drain_until_ns, drain ? cli_now_ns() + (uint64_t)p->c->drain_ms * 1000000 : 0);
    atomic_store(&p->state, PIPELINE_ENDING);
    p->closer_begun = pthread_create(&p->closer, NULL, end_thread, p) == 0;
    if (!p->closer_begun)
        end_thread(p);
}

static void *reload_thread(void *arg) {
    pipeline *p = arg;
    take_down(p);
    pthread_mutex_lock(&p->mutex);
    p->c = p->next;
    pthread_mutex_unlock(&p->mutex);
    if (build(p) == CLI_OK)
        run_say(1, p->c->name, "", "reloaded");
    else /* half of it is there: that can't go on */
        atomic_store(&p->broken, 1);
    atomic_store(&p->reloading, 0);
    wake_main_loop(p); /* what has failed meanwhile was not noticed */
    return NULL;
}

void pipeline_reload(pipeline *p, config *c) {
    if (atomic_load(&p->state) != PIPELINE_RUNNING || atomic_load(&p->reloading) != 0)
        return;
    join_closer(p);
    p->next = c;
    atomic_store(&p->drain_until_ns, 0);
    atomic_store(&p->reloading, 1);
    p->closer_begun = pthread_create(&p->closer, NULL, reload_thread, p) == 0;
    if (!p->closer_begun)
        reload_thread(p);
}

int pipeline_finish(pipeline *p) {
    join_closer(p);
    pthread_mutex_destroy(&p->mutex);
    return atomic_load(&p->failed) != 0 ? CLI_PROBLEM : CLI_OK;
}

/* ---- watching */

static bool quiet(const pipeline *p) {
    return atomic_load(&p->state) == PIPELINE_RUNNING && atomic_load(&p->reloading) == 0;
}

void pipeline_tick(pipeline *p) {
    char failed[FAILED_MAX];
    if (atomic_load(&p->draining) != 0 && left_ms(p) == 0)
        pawl_stop(p->log);
    if (!quiet(p) || pthread_mutex_trylock(&p->mutex) != 0)
        return;
    size_t count = find_failed(p, failed);
    for (size_t i = 0; p->parts != NULL && i < p->c->flow_count; i++)
        count += p->parts[i].failed;
    bool none_left = count != 0 && count == p->c->flow_count;
    pthread_mutex_unlock(&p->mutex);
    if (failed[0] != 0 && atomic_load(&p->failed) == 0)
        remember(p, "stopped", failed);
    bool over = atomic_load(&p->log_failed) != 0 || atomic_load(&p->broken) != 0 ||
                (p->runner_begun && atomic_load(&p->run_ended) != 0);
    if (over || none_left || (count != 0 && p->c->end_on_failure)) {
        run_say(3, p->c->name, "",
                over        ? "it can't go on: it is ended"
                : none_left ? "no part is left that could go on: it is ended"
                            : "on_failure is end: it is ended");
        pipeline_end(p, true);
    }
}

/* Has the flow of that index failed, a processor? */
static bool processor_is_failed(const pipeline *p, size_t index) {
    return p->parts != NULL && p->parts[index].failed;
}

static uint64_t lag(const pipeline *p) {
    uint64_t sum = 0;
    pawl_position at;
    pawl_bounds b;
    for (size_t i = 0; i < p->c->flow_count; i++)
        for (uint32_t k = 0; p->c->flows[i].kind == FLOW_PROCESSOR && !processor_is_failed(p, i) &&
                             pawl_position_at(p->log, k, &at) >= 0;
             k++)
            if (strcmp(at.name, p->c->flows[i].name) == 0 &&
                pawl_partition_bounds(p->log, at.stream, at.partition, &b) == 0)
                sum += b.end > at.offset ? b.end - at.offset : 0;
    return sum;
}

/* Under the mutex: the same as pipeline_sources_over(), and how many sources go on. */
static bool sources_over(pipeline *p, size_t *going) {
    pawl_flow_status s = PAWL_FLOW_STATUS_INIT;
    *going = 0;
    for (size_t i = 0; i < p->source_count; i++)
        *going += pawl_source_status(p->sources[i], &s) != 0 ||
                  (s.flow != PAWL_FLOW_ENDED && s.flow != PAWL_FLOW_FAILED);
    return p->source_count != 0 && *going == 0;
}

bool pipeline_sources_over(pipeline *p) {
    size_t going;
    if (!quiet(p) || pthread_mutex_trylock(&p->mutex) != 0)
        return false;
    bool over = sources_over(p, &going);
    pthread_mutex_unlock(&p->mutex);
    return over;
}

/* Under the mutex: has every sink delivered all, or failed? One that retries is said, once. */
static bool sinks_done(pipeline *p, bool say) {
    pawl_flow_status s = PAWL_FLOW_STATUS_INIT;
    bool done = true;
    for (size_t i = 0; i < p->sink_count; i++) {
        if (pawl_sink_status(p->sinks[i], &s) != 0)
            return false;
        if (s.flow == PAWL_FLOW_FAILED || (s.flow == PAWL_FLOW_IDLE && s.behind == 0))
            continue;
        done = false;
        if (say && s.flow == PAWL_FLOW_WAITING && !p->told_waiting) {
            p->told_waiting = true;
            run_say(1, p->c->name, s.name,
                    "the sources have ended; this sink has %" PRIu64
                    " records to deliver and goes on trying: %s",
                    s.behind, s.message);
        }
    }
    return done;
}

bool pipeline_idle(pipeline *p, bool ended_only) {
    pawl_flow_status s = PAWL_FLOW_STATUS_INIT;
    size_t going;
    if (!quiet(p) || pthread_mutex_trylock(&p->mutex) != 0)
        return false;
    bool idle = sources_over(p, &going) || !ended_only;
    for (size_t i = 0; i < p->source_count; i++)
        idle = idle && pawl_source_status(p->sources[i], &s) == 0 &&
               (s.flow == PAWL_FLOW_FAILED ||
                ((s.flow == PAWL_FLOW_ENDED || s.flow == PAWL_FLOW_IDLE) && s.behind == 0));
    idle = idle && lag(p) == 0 && sinks_done(p, ended_only);
    pthread_mutex_unlock(&p->mutex);
    /* A source that follows something may only be about to go on: a rotated file, say, is waited on
     * for a second. */
    uint64_t now = cli_now_ns();
    p->idle_since_ns = !idle ? 0 : p->idle_since_ns != 0 ? p->idle_since_ns : now;
    return idle &&
           now - p->idle_since_ns >= (going != 0 ? UINT64_C(2000000000) : UINT64_C(100000000));
}

/* ---- status */

/* A text that may hold a stranger's bytes, so that it is valid in JSON. */
static const char *shown(const char *text, char *out, size_t size) {
    pawl_show(text, strlen(text), NULL, out, size);
    return out;
}

/* Of a processor; `part`: what this program knows of it, or NULL. */
static json_t *processor_json(const flow_config *w, const part_failure *part, bool failed) {
    uint64_t taken, emitted, refused = 0;
    char why[256] = "", text[1100];
    w->ops.counts(w->ops.self, &taken, &emitted);
    if (part != NULL && part->processor != NULL)
        (void)!pawl_processor_refused(part->processor, &refused, why, sizeof why);
    return json_pack("{s:s,s:s,s:s,s:s,s:I,s:I,s:I,s:s}", "kind", "processor", "name", w->name,
                     "type", w->type, "state", failed ? "failed" : "running", "records",
                     (json_int_t)taken, "emitted", (json_int_t)emitted, "poisoned",
                     (json_int_t)refused, "message",
                     shown(part != NULL && part->failed ? part->why : why, text, sizeof text));
}

static json_t *flow_json(const pawl_flow_status *s, const char *kind) {
    char message[2 * sizeof s->message], target[2 * sizeof s->target];
    return json_pack("{s:s,s:s,s:s,s:s,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:s,s:s}", "kind", kind,
                     "name", s->name, "type", s->type, "state", pawl_flow_name(s->flow), "records",
                     (json_int_t)s->records, "bytes", (json_int_t)s->bytes, "batches",
                     (json_int_t)s->batches, "behind", (json_int_t)s->behind, "retries",
                     (json_int_t)s->retries, "retry_in_ms", (json_int_t)s->retry_in_ms, "poisoned",
                     (json_int_t)s->poisoned, "redelivered", (json_int_t)s->redelivered, "lost",
                     (json_int_t)s->lost, "message", shown(s->message, message, sizeof message),
                     "target", shown(s->target, target, sizeof target));
}

static void append(json_t *flows, json_t *one) {
    if (one != NULL) /* else: no memory */
        json_array_append_new(flows, one);
}

/* How the log's engine writes at the moment. */
static json_t *groups_json(pawl *log) {
    pawl_status s = PAWL_STATUS_INIT;
    if (log == NULL || pawl_get_status(log, &s) != 0)
        return json_null();
    return json_pack("{s:I,s:I,s:I,s:I,s:I,s:s}", "written", (json_int_t)s.groups, "bytes",
                     (json_int_t)s.bytes_written, "syncs", (json_int_t)s.syncs, "pace",
                     (json_int_t)s.group_pace, "wait", (json_int_t)s.group_wait, "backend",
                     s.backend_note);
}

json_t *pipeline_status(pipeline *p) {
    static const char *const states[] = {"starting", "running", "ending", "ended"};
    json_t *flows = json_array();
    pawl_flow_status s = PAWL_FLOW_STATUS_INIT;
    char name[300], file[1024]; /* a path may be no UTF-8 */
    bool whole = quiet(p);
    cli_text(name, sizeof name, "%s", p->c->name);
    cli_text(file, sizeof file, "%s", p->c->file);
    pthread_mutex_lock(&p->mutex);
    for (size_t i = 0; i < p->source_count; i++)
        if (pawl_source_status(p->sources[i], &s) == 0)
            append(flows, flow_json(&s, "source"));
    for (size_t i = 0; whole && i < p->c->flow_count; i++) {
        const flow_config *w = &p->c->flows[i];
        if (w->kind != FLOW_PROCESSOR)
            continue;
        bool failed = processor_is_failed(p, i) || atomic_load(&p->run_ended) != 0;
        append(flows, processor_json(w, p->parts != NULL ? &p->parts[i] : NULL, failed));
    }
    for (size_t i = 0; i < p->sink_count; i++)
        if (pawl_sink_status(p->sinks[i], &s) == 0)
            append(flows, flow_json(&s, "sink"));
    json_t *all =
        json_pack("{s:s,s:s,s:s,s:s,s:o,s:o}", "name", name, "file", file, "state",
                  atomic_load(&p->reloading) != 0 ? "reloading" : states[atomic_load(&p->state)],
                  "failure", p->why, "flows", flows, "groups", groups_json(p->log));
    pthread_mutex_unlock(&p->mutex);
    return all;
}
