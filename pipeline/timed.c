/* SPDX-License-Identifier: Apache-2.0
 *
 * Units of a processor that knows time, in batches. An attempt processes units in one transaction
 * until the batch is over or the transaction has enough; then they are committed with the position.
 * If a unit fails, the units before it are done again and committed; then it is tried alone, and
 * after the retries it goes by the policy, alone.
 */
#include <assert.h>
#include <stdio.h>

#include "pipeline/timed.h"

/* One attempt. */
struct try {
    const pawl_record *records;
    size_t count;
    uint64_t units_max;
    bool idle; /* its input is idle from now on */
    /* results */
    size_t done;    /* records processed */
    uint64_t units; /* units processed */
    bool more;      /* there are further ones */
    bool own;       /* the error is no callback's */
    bool at_timer;  /* the unit that failed is a timer */
};

/* ---- the watermarks' pair */

static int load(struct time_group *g, struct pawl_tx *tx) {
    const void *value;
    size_t len;
    int rc = state_tx_get(tx, timed_place(g), WATERMARK_KEY, WATERMARK_KEY_LEN, &value, &len);
    TRY(rc);
    if (rc == 0)
        watermark_init(&g->now, g->streams, g->input_count);
    else
        TRY(watermark_decode(&g->now, value, len));
    watermark_set_inputs(&g->now, g->streams, g->input_count);
    g->stored = false;
    return 0;
}

/* It is put before the first unit too, so that nothing can keep it out of the commit afterwards. */
static int store(struct time_group *g, struct pawl_tx *tx) {
    uint8_t bytes[WATERMARK_SIZE_MAX];
    size_t len = watermark_encode(&g->now, bytes);
    g->stored = true;
    return state_tx_put(tx, timed_place(g), WATERMARK_KEY, WATERMARK_KEY_LEN, bytes, len);
}

/* PAWL-14: what the clock starts depends on a reading that the log has. */
static void read_clock(struct time_group *g, const pawl *p) {
    if ((g->processor->timed->config.flags & PAWL_TIME_USES_CLOCK) != 0)
        watermark_clock(&g->now, (int64_t)p->io->ops->realtime(p->io));
}

/* ---- units */

static int next_timer(struct time_group *g, struct pawl_tx *tx, struct due_timer *out) {
    if (g->processor->timed->config.on_timer == NULL)
        return 0;
    int rc = timers_due(g, tx, PAWL_EVENT_TIME, g->now.combined, out);
    return rc != 0 ? rc : timers_due(g, tx, PAWL_CLOCK_TIME, g->now.clock, out);
}

static int answer(const struct pawl_context *ctx, int rc) {
    return rc == 0 && (ctx->later || ctx->broken) ? PAWL_PROCESSOR : rc;
}

static int fire(struct time_group *g, struct pawl_context *ctx, const struct due_timer *due) {
    const pawl_time_config *c = &g->processor->timed->config;
    ctx->event_time = due->timer.time_ns;
    ctx->late = false;
    ctx->firing = due->key;
    ctx->firing_len = due->key_len;
    int rc = answer(ctx, c->on_timer(ctx, &due->timer, c->arg));
    ctx->firing = NULL;
    return rc;
}

static int take_record(struct task *t, struct pawl_context *ctx, const pawl_record *r) {
    struct time_group *g = t->group;
    const struct timed *timed = g->processor->timed;
    int64_t time = r->timestamp_ns;
    int rc = 0;
    if (timed->config.event_time != NULL)
        rc = answer(ctx, timed->config.event_time(ctx, r, &time, timed->config.arg));
    if (rc != 0)
        return rc;
    ctx->event_time = time;
    ctx->late = watermark_record(&g->now, t->input, time);
    rc = ctx->late && timed->config.late_stream != 0
             ? pawl_emit(ctx, timed->config.late_stream, t->partition % timed->late_partitions, r)
             : answer(ctx, g->processor->config.process(ctx, r, 1, g->processor->config.arg));
    if (rc == 0)
        watermark_processed(&g->now, t->input, time, timed->config.out_of_order_ns);
    return rc;
}

/* Has the transaction enough, so that it is committed before it goes on? */
static bool enough(const struct task *t) {
    return t->tx->state_bytes > t->processor->p->record_max / 8;
}

static int run_units(struct task *t, struct try *y, struct pawl_context *ctx) {
    struct time_group *g = t->group;
    for (y->units = 0; y->units < y->units_max && !(y->units != 0 && enough(t)); y->units++) {
        struct due_timer due;
        int rc = next_timer(g, t->tx, &due);
        y->own = rc < 0;
        TRY(rc);
        y->more = rc == 1 || y->done < y->count;
        if (!y->more)
            return 0;
        y->own = true;
        if (!g->stored)
            TRY(store(g, t->tx));
        if (rc == 1)
            TRY(timers_take(g, t->tx, &due));
        y->own = false;
        y->at_timer = rc == 1;
        rc = rc == 1 ? fire(g, ctx, &due) : take_record(t, ctx, &y->records[y->done]);
        if (rc != 0)
            return rc;
        y->done += !y->at_timer;
    }
    return 0;
}

static int attempt(struct task *t, struct try *y, uint32_t n, struct pawl_context *ctx) {
    struct time_group *g = t->group;
    task_begin_context(t, n, ctx);
    y->own = y->more = true;
    int rc = load(g, t->tx);
    if (rc == 0) {
        read_clock(g, t->processor->p);
        if (y->idle && watermark_idle(&g->now, t->input))
            rc = store(g, t->tx);
    }
    if (rc == 0)
        rc = run_units(t, y, ctx);
    if (rc == 0 && g->stored) {
        y->own = true;
        rc = store(g, t->tx);
        if (rc == PAWL_TOO_LARGE && y->units != 0) { /* the last unit has left no room for it */
            y->units--;
            y->done -= !y->at_timer;
        }
    }
    if (rc == 0) {
        t->waits = 0;
        return 0;
    }
    timers_forget(g);
    tx_reset(t->tx); /* the failed attempt; its spilled frames have no effect */
    return rc;
}

/* ---- a unit that fails for good */

static int bury_timer(struct task *t, const struct due_timer *due, const char *why) {
    const struct pawl_processor *proc = t->processor;
    char time[24];
    pawl_stream_info target;
    if (proc->config.on_error != PAWL_ON_ERROR_DEAD_LETTER)
        return 0;
    TRY(pawl_stream_get(proc->p, proc->config.dead_letter, &target));
    snprintf(time, sizeof time, "%lld", (long long)due->timer.time_ns);
    pawl_header headers[3] = {{"pawl-processor", proc->name, 14, (uint16_t)strlen(proc->name)},
                              {"pawl-timer", time, 10, (uint16_t)strlen(time)},
                              {"pawl-error", why, 10, (uint16_t)strlen(why)}};
    pawl_record r = {.key = due->timer.key,
                     .key_len = (uint16_t)due->timer.key_len,
                     .value = due->timer.value,
                     .value_len = (uint32_t)due->timer.value_len,
                     .timestamp_ns = due->timer.time_ns,
                     .headers = headers,
                     .header_count = 3};
    return pawl_put(t->tx, target.id, t->partition % target.partitions, &r);
}

/* PAWL-16: the timer alone is lost, and it is told. */
static int timer_policy(struct task *t, uint64_t at, const struct pawl_context *ctx, int code) {
    struct time_group *g = t->group;
    const struct pawl_processor *proc = t->processor;
    const char *why = ctx->why[0] != 0 ? ctx->why : "the callback of a timer failed";
    struct due_timer due;
    if (proc->config.on_error == PAWL_ON_ERROR_STOP)
        return fail(PAWL_PROCESSOR,
                    "processor %s failed at a timer for %lld of partition %u after %u attempts: "
                    "%s (%d)",
                    proc->name, (long long)ctx->event_time, t->partition, ctx->attempt + 1, why,
                    code);
    TRY(load(g, t->tx));
    read_clock(g, proc->p);
    TRY(store(g, t->tx));
    int rc = next_timer(g, t->tx, &due);
    TRY(rc);
    assert(rc == 1 && due.timer.time_ns <= ctx->event_time); /* PAWL-14: the same comes again */
    TRY(bury_timer(t, &due, why));
    TRY(timers_take(g, t->tx, &due));
    TRY(task_commit(t, at, at));
    task_note_refused(t->processor, why);
    return 0;
}

/* ---- a batch */

/* What a batch has come to. */
struct progress {
    size_t done;
    uint64_t at; /* position */
    uint32_t n;  /* attempts at the next unit */
    uint64_t units_max;
};

static int commit_units(struct task *t, const pawl_batch *b, const struct try *y,
                        struct progress *g) {
    uint64_t to = g->done + y->done == b->count ? b->to
                  : y->done != 0                ? y->records[y->done - 1].offset + 1
                                                : g->at;
    if (t->group->stored || to != g->at)
        TRY(task_commit(t, g->at, to));
    else
        tx_reset(t->tx);
    *g = (struct progress){g->done + y->done, to, 0, UINT64_MAX};
    return 0;
}

/* A unit has failed. 1: go on, STEP_LATER, or an error. */
static int failed(struct task *t, const struct try *y, const struct pawl_context *ctx, int code,
                  struct progress *g) {
    const pawl_processor_config *c = &t->processor->config;
    if (y->own && code != PAWL_TOO_LARGE)
        return code;
    TRY(task_no_record_s_fault(t, ctx));
    if (y->units != 0) { /* those before it first */
        g->units_max = y->units;
        g->n = 0;
        return 1;
    }
    if (!ctx->later && (ctx->refused || (c->retries != UINT32_MAX && g->n >= c->retries))) {
        if (y->at_timer) {
            TRY(timer_policy(t, g->at, ctx, code));
        } else {
            assert(y->count != 0);
            TRY(task_apply_policy(t, y->records, ctx, code));
            g->done++;
            g->at = y->records->offset + 1;
        }
        g->n = 0;
        g->units_max = UINT64_MAX;
        return 1;
    }
    if (atomic_load(&t->processor->p->stop))
        return fail(PAWL_STOPPED, "stopped on request");
    if (task_back_off(t, g->n, ctx->later))
        return STEP_LATER;
    g->n += !ctx->later;
    g->units_max = 1;
    return 1;
}

static int units(struct task *t, pawl_batch *b, bool idle) {
    struct progress g = {0, b->from, t->attempts, t->attempts != 0 ? 1 : UINT64_MAX};
    t->attempts = 0;
    atomic_store(&t->pending, true);
    for (bool first = true;; first = false) {
        struct pawl_context ctx;
        struct try y = {.records = b->count != 0 ? b->records + g.done : NULL,
                        .count = b->count - g.done,
                        .units_max = g.units_max,
                        .idle = idle};
        if (!first && atomic_load(&t->processor->p->stop)) {
            b->to = g.at;
            return STEP_LATER;
        }
        int rc = attempt(t, &y, g.n, &ctx);
        if (rc == 0) {
            TRY(commit_units(t, b, &y, &g));
            idle = false;
        } else {
            rc = failed(t, &y, &ctx, rc, &g);
            if (rc == STEP_LATER)
                b->to = g.at;
            if (rc != 1)
                return rc;
        }
        if (rc == 0 && !y.more)
            break;
    }
    assert(g.done == b->count && g.at == b->to); /* PAWL-4 */
    atomic_store(&t->pending, false);
    return 0;
}

int timed_batch(struct task *t, pawl_batch *b) {
    int rc = units(t, b, false);
    t->quiet_ns = engine_now(t->processor->p);
    return rc;
}

/* ---- waking */

void timed_begin(struct task *t) {
    if (t->group == NULL)
        return;
    timers_forget(t->group);
    t->quiet_ns = engine_now(t->processor->p);
    atomic_store(&t->pending, true);
}

/* When its input is to be called idle; 0: never. */
static uint64_t idle_at(const struct task *t) {
    const struct time_group *g = t->group;
    uint64_t after = g->processor->timed->config.idle_ns;
    if (after == 0 || g->input_count < 2 || g->now.in[t->input].idle)
        return 0;
    return after > UINT64_MAX - t->quiet_ns ? 0 : t->quiet_ns + after;
}

/* When the next clock timer is due, on the monotonic clock, as the clocks are now. */
static uint64_t clock_at(const struct task *t) {
    const struct time_group *g = t->group;
    const pawl *p = t->processor->p;
    const pawl_time_config *c = &g->processor->timed->config;
    if (g->lead != t || c->on_timer == NULL || (c->flags & PAWL_TIME_USES_CLOCK) == 0)
        return 0;
    int64_t next = timers_next(g, PAWL_CLOCK_TIME);
    uint64_t now = engine_now(p), wall = p->io->ops->realtime(p->io);
    if (next == INT64_MAX)
        return 0;
    if (next <= (int64_t)wall)
        return 1;
    uint64_t wait = (uint64_t)next - wall;
    return wait > UINT64_MAX - now ? 0 : now + wait;
}

uint64_t timed_wake_at(const struct task *t) {
    if (t->group == NULL)
        return 0;
    if (timed_pending(t))
        return t->again_ns != 0 ? t->again_ns : 1;
    uint64_t idle = idle_at(t), clock = clock_at(t);
    return idle == 0 || (clock != 0 && clock < idle) ? clock : idle;
}

int timed_wake(struct task *t) {
    pawl *p = t->processor->p;
    uint64_t now = engine_now(p), idle = idle_at(t);
    if (t->again_ns > now)
        return 0;
    t->again_ns = 0;
    bool quiet = idle != 0 && idle <= now;
    if (quiet) {
        pthread_mutex_lock(&p->mutex);
        const struct stream *s = tables_stream(&p->tables, t->stream);
        quiet = s == NULL || t->position >= s->parts[t->partition].next;
        engine_leave(p);
        if (!quiet)
            t->quiet_ns = now; /* it has records, and will get them */
    }
    pawl_batch b = {.from = t->position, .to = t->position};
    int rc = units(t, &b, quiet);
    return rc < 0 ? rc : 1;
}
