/* SPDX-License-Identifier: Apache-2.0
 *
 * One step of a processor: it reads a batch, and commits the outputs and the position. The
 * guarantee decides in which commits, and in which order:
 *
 *   exactly once   outputs and position in one commit; not waited for, since whatever depends on it
 *                  comes after it in the log
 *   at least once  outputs, durable; then the position
 *   at most once   the position, durable; then the outputs
 */
#include <stdio.h>

#include "pipeline/processor.h"
#include "pipeline/timed.h"

#define BATCH_DEFAULT 10000u
#define BATCH_BYTES_DEFAULT (1024u * 1024u)
#define ROUND_LONG_NS 1000000u
#define PAUSE_NS 500000000u /* after an error of the log that time can mend */
#define REFUSED_SAY_NS UINT64_C(10000000000)

int pawl_emit(pawl_context *ctx, uint32_t stream, uint32_t partition, const pawl_record *r) {
    if (ctx == NULL || r == NULL)
        return fail(PAWL_INVALID, "the context or the record is NULL");
    TRY(engine_check_writer(ctx->tx->p));
    return tx_put(ctx->tx, stream, partition, r, &ctx->now_ns);
}

int pawl_emit_many(pawl_context *ctx, uint32_t stream, uint32_t partition,
                   const pawl_record *records, size_t count) {
    if (ctx == NULL || (records == NULL && count != 0))
        return fail(PAWL_INVALID, "the context is NULL, or there are no records");
    TRY(engine_check_writer(ctx->tx->p));
    return tx_put_many(ctx->tx, stream, partition, records, count, &ctx->now_ns);
}

void pawl_fail(pawl_context *ctx, size_t index, const char *why) {
    if (ctx == NULL)
        return;
    ctx->failed_at = index;
    snprintf(ctx->why, sizeof ctx->why, "%s", why != NULL ? why : "");
}

void pawl_refuse(pawl_context *ctx, size_t index, const char *why) {
    if (ctx == NULL)
        return;
    pawl_fail(ctx, index, why);
    ctx->refused = true;
}

void pawl_try_later(pawl_context *ctx, const char *why) {
    if (ctx == NULL)
        return;
    pawl_fail(ctx, SIZE_MAX, why);
    ctx->later = true;
}

void pawl_broken(pawl_context *ctx, const char *why) {
    if (ctx == NULL)
        return;
    pawl_fail(ctx, SIZE_MAX, why);
    ctx->broken = true;
}

pawl *pawl_context_log(pawl_context *ctx) {
    return ctx->task->processor->p;
}

uint32_t pawl_context_partition(const pawl_context *ctx) {
    return ctx->task->partition;
}

uint32_t pawl_context_attempt(const pawl_context *ctx) {
    return ctx->attempt;
}

static bool committed_input(const struct pawl_processor *proc) {
    return proc->config.committed_input != 0;
}

int task_open(struct task *t, struct pawl_processor *proc, uint32_t stream, uint32_t partition) {
    pawl *p = proc->p;
    *t = (struct task){.processor = proc, .stream = stream, .partition = partition};
    uint64_t position;
    TRY(pawl_position_get(p, proc->name, stream, partition, &position));
    atomic_init(&t->position, position);
    return pawl_reader_open(p, stream, partition, t->position,
                            committed_input(proc) ? PAWL_READ_COMMITTED : PAWL_READ_UNCOMMITTED,
                            &t->reader);
}

void task_close(struct task *t) {
    timed_leave(t);
    pawl_reader_close(t->reader);
    t->reader = NULL;
}

void task_rest(struct task *t) {
    reader_unpin(t->reader);
}

bool task_idle(const struct task *t) {
    const pawl *p = t->processor->p;
    const struct stream *s = tables_stream(&p->tables, t->stream);
    return ((s == NULL || t->position >= s->parts[t->partition].next) && !timed_pending(t)) ||
           atomic_load(&t->processor->failed) != 0;
}

bool task_alone(const struct task *t) {
    return t->processor->config.failed != NULL;
}

int task_pause(struct task *t) {
    pawl *p = t->processor->p;
    uint64_t at;
    tx_reset(t->tx);
    TRY(pawl_position_get(p, t->processor->name, t->stream, t->partition, &at));
    t->position = at;
    t->attempts = 0;
    t->again_ns = engine_now(p) + PAUSE_NS;
    return task_go_back(t);
}

int task_go_back(struct task *t) {
    feed_leave(t, 0);
    return pawl_reader_seek(t->reader, t->position);
}

void task_flush(pawl *p) {
    wal_submit(&p->wal, false);
    if (!p->leader && !p->no_thread)
        engine_poke(p);
}

/* With `durable`, waits until the commit is durable. Otherwise the commit is submitted when the
 * worker's round over its tasks ends, so that a chain of stages shares a flush; or now, if the
 * round takes long. */
static int append(struct task *t, bool durable) {
    pawl *p = t->processor->p;
    pawl_receipt receipt;
    TRY(tx_prepare(t->tx));
    TRY(engine_enter_writer(p));
    int rc = tx_append(t->tx, &receipt, p->block_when_full);
    if (rc == 0) {
        if (durable)
            rc = engine_wait_durable(p, receipt.lsn);
        else if (engine_now(p) - t->round_ns >= ROUND_LONG_NS)
            task_flush(p);
        engine_tell_appended(p);
    }
    engine_leave(p);
    if (rc == 0)
        tx_reset(t->tx);
    return rc;
}

static int advance(struct task *t, uint64_t from, uint64_t to) {
    return tx_add_position(t->tx, t->processor->id, t->stream, t->partition, from, to);
}

int task_commit(struct task *t, uint64_t from, uint64_t to) {
    switch (t->processor->config.guarantee) {
    case PAWL_AT_LEAST_ONCE:
        TRY(append(t, true));
        point(&t->processor->p->points, "outputs-durable");
        TRY(advance(t, from, to));
        return append(t, true);
    case PAWL_AT_MOST_ONCE: /* promise() has moved the position already */
        return append(t, true);
    default:
        TRY(advance(t, from, to));
        return append(t, false);
    }
}

/* At most once: moves the position, durably, before the callback runs. */
static int promise(struct task *t, uint64_t from, uint64_t to) {
    if (t->processor->config.guarantee != PAWL_AT_MOST_ONCE)
        return 0;
    TRY(advance(t, from, to));
    TRY(append(t, true));
    point(&t->processor->p->points, "position-durable");
    return 0;
}

void task_begin_context(struct task *t, uint32_t attempt, struct pawl_context *ctx) {
    *ctx = (struct pawl_context){.task = t, .tx = t->tx, .attempt = attempt, .failed_at = SIZE_MAX};
    t->tx->state_error.code = 0;
    fail_clear();
}

static int attempt(struct task *t, const pawl_record *records, size_t count, uint32_t n,
                   struct pawl_context *ctx) {
    task_begin_context(t, n, ctx);
    struct state_ahead ahead = {.records = records, .count = count};
    t->tx->ahead = &ahead;
    int rc = t->processor->config.process(ctx, records, count, t->processor->config.arg);
    t->tx->ahead = NULL;
    if (rc == 0 && (ctx->later || ctx->broken))
        rc = PAWL_PROCESSOR;
    if (rc == 0)
        t->waits = 0;
    else
        tx_reset(t->tx); /* discards the failed attempt; its spilled frames have no effect */
    return rc;
}

/* Errors of the log are not the record's fault: they end the run, and the error policy doesn't
 * apply. */
static int log_error(const pawl *p) {
    pawl_error e;
    fail_copy(&e);
    if (p->wal.failed != 0)
        return wal_error(&p->wal);
    return e.code == PAWL_FULL || e.code == PAWL_MEMORY || e.code == PAWL_IO ||
                   e.code == PAWL_FORKED
               ? e.code
               : 0;
}

/* What is to be tried later is no failure: it goes by no policy, and counts as no attempt. */
#define LATER_PAUSE_MS 10u /* the first pause, at least */

bool task_back_off(struct task *t, uint32_t n, bool later) {
    pawl *p = t->processor->p;
    uint32_t first = t->processor->config.backoff_ms, power = later ? t->waits++ : n;
    if (later && first < LATER_PAUSE_MS)
        first = LATER_PAUSE_MS;
    uint64_t ms = (uint64_t)first << (power < 6 ? power : 6);
    if (task_alone(t) && t->processor->config.guarantee != PAWL_AT_MOST_ONCE) {
        t->attempts = n + !later;
        t->again_ns = engine_now(p) + ms * 1000000u;
        return true;
    }
    while (ms > 0 && !atomic_load(&p->stop)) { /* in small steps, so that it reacts to a stop */
        uint64_t step = ms < 20 ? ms : 20;
        p->io->ops->sleep(p->io, step * 1000000u);
        ms -= step;
    }
    return false;
}

/* What a dead letter keeps of a value that doesn't fit into the log beside the letter's headers. */
#define DEAD_VALUE_MAX 65536u

static int put_dead_letter(struct task *t, const pawl_record *r, const char *why,
                           uint32_t value_max) {
    const struct pawl_processor *proc = t->processor;
    char partition[16], offset[24], length[16];
    pawl_stream_info info, target;
    TRY(pawl_stream_get(proc->p, t->stream, &info));
    TRY(pawl_stream_get(proc->p, proc->config.dead_letter, &target));
    snprintf(partition, sizeof partition, "%u", t->partition);
    snprintf(offset, sizeof offset, "%llu", (unsigned long long)r->offset);
    snprintf(length, sizeof length, "%u", r->value_len);
    bool cut = r->value_len > value_max;
    const char *pairs[][2] = {
        {"pawl-processor", proc->name}, {"pawl-stream", info.name}, {"pawl-partition", partition},
        {"pawl-offset", offset},        {"pawl-error", why},        {"pawl-length", length}};
    pawl_header own[64];
    uint16_t n = 0;
    uint32_t bytes = 0;
    for (size_t i = 0; i < (cut ? 6u : 5u); i++, n++) {
        own[n] = (pawl_header){pairs[i][0], pairs[i][1], (uint16_t)strlen(pairs[i][0]),
                               (uint16_t)strlen(pairs[i][1])};
        bytes += 4u + own[n].name_len + own[n].value_len;
    }
    for (uint32_t i = 0; n < 64 && pawl_record_header(r, i, &own[n]) == 0; i++) {
        bytes += 4u + own[n].name_len + own[n].value_len;
        if (bytes > UINT16_MAX)
            break; /* Pawl's headers come first; the record's headers that don't fit are left out */
        n++;
    }
    pawl_record out = *r;
    out.raw_headers = NULL;
    out.headers = own;
    out.header_count = n;
    out.value_len = cut ? value_max : r->value_len;
    return pawl_put(t->tx, target.id, t->partition % target.partitions, &out);
}

static int dead_letter(struct task *t, const pawl_record *r, const char *why) {
    int rc = put_dead_letter(t, r, why, UINT32_MAX);
    return rc == PAWL_TOO_LARGE ? put_dead_letter(t, r, why, DEAD_VALUE_MAX) : rc;
}

static const char *fate(const struct pawl_processor *proc) {
    return proc->config.on_error == PAWL_ON_ERROR_SKIP ? "skipped"
                                                       : "moved to the dead-letter stream";
}

/* Is it time for a report that a stranger can cause any number of? *said_ns: the last one's time;
 * 0: none. Under the log's lock. */
static bool may_say(const pawl *p, uint64_t *said_ns) {
    uint64_t now = engine_now(p);
    if (*said_ns != 0 && now - *said_ns < REFUSED_SAY_NS)
        return false;
    *said_ns = now;
    return true;
}

void task_note_refused(struct pawl_processor *proc, const char *why) {
    pawl *p = proc->p;
    pthread_mutex_lock(&p->mutex);
    uint64_t more = 0;
    proc->refused++;
    snprintf(proc->refused_why, sizeof proc->refused_why, "%s", why);
    if (may_say(p, &proc->refused_said_ns)) {
        more = proc->refused - proc->refused_said;
        proc->refused_said = proc->refused;
    }
    engine_leave(p);
    if (more != 0)
        notice_refused(p, proc->name, more, fate(proc), why);
}

/* Says that the processor waits, at a limited rate. */
static void note_later(struct pawl_processor *proc, const char *why) {
    pawl *p = proc->p;
    pthread_mutex_lock(&p->mutex);
    bool due = may_say(p, &proc->later_said_ns);
    engine_leave(p);
    if (due)
        notice_later(p, proc->name, why);
}

int pawl_processor_refused(pawl_processor *proc, uint64_t *count, char *why, size_t size) {
    if (proc == NULL || count == NULL || (why == NULL && size != 0))
        return fail(PAWL_INVALID, "the processor or a result pointer is NULL");
    TRY(handle_live(proc, "processor"));
    TRY(engine_enter(proc->p));
    *count = proc->refused;
    if (size != 0)
        snprintf(why, size, "%s", proc->refused_why);
    engine_leave(proc->p);
    return 0;
}

int task_apply_policy(struct task *t, const pawl_record *r, const struct pawl_context *ctx,
                      int code) {
    const struct pawl_processor *proc = t->processor;
    if (proc->config.on_error == PAWL_ON_ERROR_STOP && ctx->refused)
        return fail(PAWL_PROCESSOR,
                    "processor %s refuses the record at offset %llu of partition %u: %s",
                    proc->name, (unsigned long long)r->offset, t->partition, ctx->why);
    if (proc->config.on_error == PAWL_ON_ERROR_STOP)
        return fail(
            PAWL_PROCESSOR,
            "processor %s failed at offset %llu of partition %u after %u attempts: %s%s(%d)",
            proc->name, (unsigned long long)r->offset, t->partition, ctx->attempt + 1, ctx->why,
            ctx->why[0] != 0 ? " " : "", code);
    if (proc->config.on_error == PAWL_ON_ERROR_DEAD_LETTER)
        TRY(dead_letter(t, r, ctx->why[0] != 0 ? ctx->why : "the processor failed"));
    TRY(task_commit(t, r->offset, r->offset + 1));
    task_note_refused(t->processor, ctx->why[0] != 0 ? ctx->why : "the processor failed");
    return 0;
}

int task_no_record_s_fault(struct task *t, const struct pawl_context *ctx) {
    TRY(log_error(t->processor->p));
    if (ctx->broken)
        return fail(PAWL_PROCESSOR, "processor %s can't go on: %s", t->processor->name, ctx->why);
    if (t->tx->state_error.code != 0)
        return fail(PAWL_PROCESSOR, "processor %s can't go on, as its state can't be read: %s",
                    t->processor->name, t->tx->state_error.message);
    if (ctx->later)
        note_later(t->processor, ctx->why);
    return 0;
}

/* Processes a single record: retries, then the error policy. STEP_LATER: it is due again later. */
static int process_one(struct task *t, const pawl_record *r) {
    const pawl_processor_config *c = &t->processor->config;
    struct pawl_context ctx;
    uint32_t before = t->attempts;
    t->attempts = 0;
    for (uint32_t n = before;; n += !ctx.later) {
        int code = attempt(t, r, 1, n, &ctx);
        if (code == 0)
            return task_commit(t, r->offset, r->offset + 1);
        TRY(task_no_record_s_fault(t, &ctx));
        if (!ctx.later && (ctx.refused || (c->retries != UINT32_MAX && n >= c->retries)))
            return task_apply_policy(t, r, &ctx, code);
        if (atomic_load(&t->processor->p->stop))
            return fail(PAWL_STOPPED, "stopped on request");
        if (task_back_off(t, n, ctx.later))
            return STEP_LATER;
    }
}

/* Processes the whole batch at once. If that fails, processes the records before the failed one
 * together, then the others one by one. STEP_LATER: b->to is the record that is due again. */
static int process_batch(struct task *t, pawl_batch *b) {
    struct pawl_context ctx;
    TRY(promise(t, b->from, b->to));
    if (b->count == 1) {
        int rc = process_one(t, b->records);
        b->to = rc == STEP_LATER ? b->from : b->to;
        return rc;
    }
    if (attempt(t, b->records, b->count, 0, &ctx) == 0)
        return task_commit(t, b->from, b->to);
    TRY(task_no_record_s_fault(t, &ctx));
    if (ctx.later && task_back_off(t, 0, true)) {
        b->to = b->from;
        return STEP_LATER;
    }
    size_t good = 0;
    if (ctx.failed_at != SIZE_MAX && ctx.failed_at > 0 && ctx.failed_at < b->count) {
        size_t n = ctx.failed_at;
        if (attempt(t, b->records, n, 1, &ctx) == 0) {
            TRY(task_commit(t, b->from, b->from + n));
            good = n;
        }
    }
    for (size_t i = good; i < b->count; i++) {
        int rc = process_one(t, &b->records[i]);
        if (rc == STEP_LATER)
            b->to = b->records[i].offset;
        if (rc != 0)
            return rc;
    }
    return 0;
}

void task_batch_max(const struct task *t, size_t *records, uint64_t *bytes) {
    const pawl_processor_config *c = &t->processor->config;
    *records = t->attempts != 0    ? 1 /* the record that has failed before */
               : c->batch_max != 0 ? c->batch_max
                                   : BATCH_DEFAULT;
    *bytes = c->batch_bytes != 0 ? c->batch_bytes : BATCH_BYTES_DEFAULT;
}

int task_step(struct task *t) {
    pawl_batch b;
    size_t most;
    uint64_t bytes;
    if (t->again_ns != 0 && t->again_ns > engine_now(t->processor->p))
        return 0;
    t->again_ns = 0;
    task_batch_max(t, &most, &bytes);
    int n = reader_pending(t->reader) ? reader_give(t->reader, most, bytes, &b)
                                      : reader_read(t->reader, most, bytes, &b);
    /* repair took out damaged records, and has reported them: nothing is left to process there */
    if (n == PAWL_LOST) {
        TRY(advance(t, b.from, b.to));
        TRY(append(t, false));
        t->position = b.to;
        return 1;
    }
    if (n == PAWL_MEMORY && t->starved++ < STARVED_MAX)
        return TASK_STARVED; /* the other tasks' readers free what they can, each in its turn */
    if (n <= 0)
        return n;
    t->starved = 0;
    int rc = t->group != NULL ? timed_batch(t, &b) : process_batch(t, &b);
    if (rc < 0)
        return rc;
    t->position = b.to;
    if (rc == STEP_LATER)
        TRY(task_go_back(t));
    if (atomic_load(&t->processor->p->tight))
        reader_rest(t->reader);
    return 1;
}
