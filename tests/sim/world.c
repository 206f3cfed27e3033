/* SPDX-License-Identifier: Apache-2.0 */
#include "world.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#undef fail
#include "pipeline/engine.h"

#define WITNESS_MS 20
#define MEMORY_CAP (768u * 1024u)

const char *const op_name[OP_KINDS] = {
    "commit", "async",    "big",    "abort", "step",     "step-async", "run",    "produce",
    "repeat", "takeover", "decide", "tick",  "dispatch", "read",       "follow", "retain",
    "stream", "cap",      "reopen", "kill",  "power",    "forge"};

static const int part_stream[MODEL_PARTS] = {0, 0, 1};
static const uint32_t part_number[MODEL_PARTS] = {0, 1, 0};

void world_wrong(struct world *w, const char *format, ...) {
    if (w->why[0] != 0)
        return;
    va_list args;
    va_start(args, format);
    vsnprintf(w->why, sizeof w->why, format, args);
    va_end(args);
}

/* Checks a result: other than 0, it is allowed only if a fault can have caused it. */
static void answered(struct world *w, const char *call, int rc) {
    pawl_error e;
    w->refused = rc == PAWL_FULL || rc == PAWL_MEMORY;
    if (rc >= 0)
        return;
    pawl_last_error(&e);
    /* EROFS becomes PAWL_PERMISSION */
    if ((rc == PAWL_IO || rc == PAWL_PERMISSION) && w->m.fault_hits > 0)
        w->failed = true;
    else if (rc != PAWL_FULL && rc != PAWL_MEMORY)
        world_wrong(w, "%s: %s (%s)", call, pawl_errname(rc), e.message);
}

/* ---------------------------------------------------------------- life */

int world_open(struct world *w, bool read_only) {
    pawl_options o = PAWL_OPTIONS_INIT;
    o.flags = read_only ? PAWL_OPEN_READ : PAWL_OPEN_CREATE;
    o.segment_size = SEGMENT_SIZE_UNIT;
    o.memory_cap = MEMORY_CAP;
    o.no_thread = o.app_dispatch = 1;
    o.witness_ms = WITNESS_MS;
    w->failed = false;
    int rc = engine_open(sim_seam(&w->m), &o, &w->log);
    /* nothing is older than in truth, whatever was done to the wall clock (PAWL-11) */
    if (rc == 0 && !read_only && wal_age(&w->log->wal)->age_ns > w->m.clock_ns)
        world_wrong(w, "the log's age is ahead of the time that has passed");
    return rc;
}

static void close_producers(struct world *w) {
    for (int i = 0; i < 2; i++) {
        pawl_producer_close(w->producer[i]);
        w->producer[i] = NULL;
    }
}

void world_abandon(struct world *w) {
    struct disk kept;
    if (w->log == NULL)
        return;
    bool hung = w->m.hung;
    if (!hung)
        disk_copy(&kept, &w->m.disk);
    w->m.dead = true;
    close_producers(w);
    int rc = pawl_close(w->log);
    if (rc != 0 && rc != PAWL_IO) /* the machine is dead */
        world_wrong(w, "closing answers %s", pawl_errname(rc));
    w->log = NULL;
    sim_machine_revive(&w->m);
    w->m.dead = w->m.locked = false;
    if (hung)
        return;
    disk_free(&w->m.disk);
    w->m.disk = kept;
}

void world_ended(struct world *w, const char *call, int rc, int count) {
    answered(w, call, rc);
    if (rc >= 0)
        model_acknowledge(w->model, count);
    else if (rc != PAWL_IO)
        model_take_back(w->model);
}

static pawl_tx *begin(struct world *w);
static void finish(struct world *w, pawl_tx *tx, bool async);

void world_set_up(struct world *w) {
    struct model *m = w->model;
    static const char *const name[2] = {"in", "out"};
    pawl_stream_info info;
    for (uint32_t i = 0; i < 2 && w->why[0] == 0 && !w->failed; i++) {
        int rc = pawl_stream_find(w->log, name[i], &info);
        w->stream[i] = info.id;
        if (rc == 0)
            continue;
        model_submit(m)->streams++;
        m->after[m->count].used++;
        world_ended(w, "stream_create",
                    pawl_stream_create(w->log, name[i], i == 0 ? 2 : 1, &w->stream[i]), m->count);
        if (w->refused)
            return;
    }
    if (w->why[0] != 0 || w->failed)
        return;
    bool is_new = model_last(m)->processors == 0;
    if (is_new)
        model_submit(m)->processors++;
    int rc = pawl_processor_register(w->log, "p", &w->processor);
    if (is_new)
        world_ended(w, "processor_register", rc, m->count);
    uint64_t at;
    if (w->failed || rc < 0 || pawl_position_get(w->log, "p", w->stream[0], 1, &at) == 0)
        return;
    /* empty intervals, so that retention knows what the processor has not read yet */
    pawl_tx *tx = begin(w);
    if (tx == NULL)
        return;
    model_submit(m)->started = 1;
    for (uint32_t i = 0; i < 2; i++)
        answered(w, "advance", pawl_advance(tx, w->processor, w->stream[0], i, 0, 0));
    finish(w, tx, false);
}

/* ---------------------------------------------------------------- operations */

static pawl_record record_of(const struct model_record *r) {
    return (pawl_record){.key = r->key,
                         .key_len = (uint16_t)r->key_len,
                         .value = r->value,
                         .value_len = r->value_len,
                         .timestamp_ns = r->time};
}

static bool is_record(uint32_t id, const pawl_record *x) {
    return model_matches(id, x->key, x->key_len, x->value, x->value_len, x->timestamp_ns);
}

static void put(struct world *w, pawl_tx *tx, int part, uint32_t id) {
    struct model_record r;
    model_make(id, &r);
    pawl_record out = record_of(&r);
    answered(w, "put", pawl_put(tx, w->stream[part_stream[part]], part_number[part], &out));
}

struct waiting {
    struct world *w;
    int count;
};

static void acknowledge(void *arg, int status, const pawl_receipt *receipt) {
    struct waiting *x = arg;
    (void)receipt;
    if (status == 0)
        model_acknowledge(x->w->model, x->count);
    free(x);
}

static void finish(struct world *w, pawl_tx *tx, bool async) {
    int count = w->model->count;
    if (w->failed || w->why[0] != 0) {
        pawl_abort(tx);
        model_take_back(w->model);
        return;
    }
    if (!async) {
        int rc = pawl_commit(tx, NULL);
        world_ended(w, "commit", rc, count);
        if (rc == PAWL_FULL || rc == PAWL_MEMORY)
            pawl_abort(tx);
        return;
    }
    struct waiting *x = malloc(sizeof *x);
    *x = (struct waiting){w, count};
    int rc = pawl_commit_async(tx, acknowledge, x, NULL);
    answered(w, "commit_async", rc);
    if (rc < 0)
        free(x);
    if (rc < 0 && rc != PAWL_IO)
        model_take_back(w->model);
    if (rc == PAWL_FULL || rc == PAWL_MEMORY)
        pawl_abort(tx);
}

static pawl_tx *begin(struct world *w) {
    pawl_tx *tx = NULL;
    int rc = pawl_begin(w->log, &tx);
    answered(w, "begin", rc);
    return rc == 0 ? tx : NULL;
}

static void commit_records(struct world *w, uint32_t arg, uint32_t count, bool async) {
    pawl_tx *tx = begin(w);
    if (tx == NULL)
        return;
    model_submit(w->model);
    for (uint32_t i = 0; i < count && !w->failed; i++) {
        int part = (int)((arg + i / 2) % 2);
        struct model_record r;
        uint32_t id = model_add_record(w->model, part);
        model_make(id, &r);
        pawl_record out = record_of(&r);
        int rc = pawl_put(tx, w->stream[0], part_number[part], &out);
        answered(w, "put", rc);
        if (rc < 0) { /* no space to spill: the transaction is aborted */
            pawl_abort(tx);
            model_take_back(w->model);
            return;
        }
    }
    finish(w, tx, async);
}

static void drop_records(struct world *w, uint32_t arg) {
    pawl_tx *tx = begin(w);
    for (uint32_t i = 0; tx != NULL && i < 30 && !w->failed; i++) {
        struct model_record r;
        model_make(arg % 1000 * 11, &r);
        pawl_record out = {.value = r.value, .value_len = r.value_len};
        int rc = pawl_put(tx, w->stream[0], 0, &out);
        answered(w, "put", rc);
        if (rc < 0)
            break;
    }
    pawl_abort(tx);
}

/* Compares the records that a reader returns from `from` on with the model, at most `max`. Returns
 * their number, or -1. */
static int compare(struct world *w, pawl *log, int part, uint64_t from, int max, uint32_t flags,
                   int *newest) {
    const struct model *m = w->model;
    pawl_reader *r;
    pawl_batch b;
    int rc =
            pawl_reader_open(log, w->stream[part_stream[part]], part_number[part], from, flags, &r),
        total = 0;
    if (rc < 0) {
        answered(w, "reader_open", rc);
        return -1;
    }
    while (total < max && (rc = pawl_read(r, (size_t)(max - total), 0, &b)) > 0) {
        for (size_t i = 0; i < b.count; i++) {
            const pawl_record *x = &b.records[i];
            uint64_t o = from + (uint64_t)total;
            if (x->offset != o || o >= model_last(m)->end[part])
                world_wrong(w, "part %d: offset %llu where %llu of %llu is due", part,
                            (unsigned long long)x->offset, (unsigned long long)o,
                            (unsigned long long)model_last(m)->end[part]);
            else if (!is_record(m->id[part][o], x))
                world_wrong(w, "part %d: another record than %u at offset %llu", part,
                            m->id[part][o], (unsigned long long)o);
            else if (m->commit[part][o] > *newest)
                *newest = m->commit[part][o];
            total++;
        }
        if (w->why[0] != 0)
            break;
    }
    pawl_reader_close(r);
    answered(w, "read", rc);
    return total;
}

static void process(struct world *w, uint32_t arg, bool async) {
    int part = (int)(arg % 2), newest = 0;
    uint64_t from = model_last(w->model)->position[part], end = model_last(w->model)->end[part];
    int have = (int)(end - from), n = have < 3 ? have : 3;
    if (n == 0 || compare(w, w->log, part, from, n, PAWL_READ_UNCOMMITTED, &newest) != n) {
        if (n != 0 && !w->failed && !w->refused)
            world_wrong(w, "part %d: no records at offset %llu", part, (unsigned long long)from);
        return;
    }
    pawl_tx *tx = begin(w);
    if (tx == NULL)
        return;
    model_submit(w->model)->position[part] = from + (uint64_t)n;
    if (arg % 5 != 0) /* now and then a position without output */
        for (int i = 0; i < n; i++)
            put(w, tx, 2, model_add_record(w->model, 2));
    answered(
        w, "advance",
        pawl_advance(tx, w->processor, w->stream[0], (uint32_t)part, from, from + (uint64_t)n));
    finish(w, tx, async);
}

/* One batch of the runtime is one commit. If a batch is repeated, its commit was not made. */
static int on_batch(pawl_context *ctx, const pawl_record *records, size_t count, void *arg) {
    struct world *w = arg;
    int part = (int)pawl_context_partition(ctx);
    bool committed = w->committed_input;
    if (records[0].offset < model_last(w->model)->position[part])
        model_take_back(w->model);
    struct model_view *v = model_submit(w->model);
    if (records[0].offset != v->position[part])
        world_wrong(w, "part %d: a batch begins at %llu, the position is %llu", part,
                    (unsigned long long)records[0].offset, (unsigned long long)v->position[part]);
    v->position[part] += count;
    for (size_t i = 0; i < count; i++) {
        struct model_record r;
        if (committed)
            /* it was shown: it must never go away */
            model_acknowledge(w->model, w->model->commit[part][records[i].offset]);
        if (!is_record(w->model->id[part][records[i].offset], &records[i]))
            world_wrong(w, "part %d: the processor gets another record at %llu", part,
                        (unsigned long long)records[i].offset);
        model_make(model_add_record(w->model, 2), &r);
        pawl_record out = record_of(&r);
        int rc = pawl_emit(ctx, w->stream[1], 0, &out);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static void run(struct world *w, uint32_t arg) {
    pawl_processor_config c = PAWL_PROCESSOR_INIT;
    pawl_processor *p;
    c.name = "p", c.inputs = w->stream, c.input_count = 1, c.process = on_batch, c.arg = w,
    c.batch_max = 2 + arg % 3;
    c.committed_input = arg % 2, c.backoff_ms = 1;
    w->committed_input = arg % 2;
    int rc = pawl_processor_add(w->log, &c, &p);
    answered(w, "processor_add", rc);
    if (rc < 0)
        return;
    rc = pawl_run(w->log, 0, PAWL_RUN_UNTIL_IDLE);
    answered(w, "run", rc);
    pawl_processor_remove(p);
    if (rc == 0) {
        model_acknowledge(w->model, w->model->count);
        return;
    }
    pawl_bounds b; /* shows whether the last batch was appended before the run ended */
    if (!w->failed && pawl_partition_bounds(w->log, w->stream[1], 0, &b) == 0 &&
        b.end < model_last(w->model)->end[2])
        model_take_back(w->model);
}

/* Checks that an older holder can't commit any more. */
static void try_fenced(struct world *w, pawl_producer *old) {
    pawl_tx *tx = begin(w);
    if (tx == NULL)
        return;
    put(w, tx, 0, 1);
    uint64_t next = pawl_producer_sequence(old) + 1;
    int rc = w->failed ? PAWL_IO : pawl_tx_sequence(tx, old, next, next, NULL, 0);
    if (rc != 0) {
        pawl_abort(tx);
    } else {
        rc = pawl_commit(tx, NULL);
        if (rc == PAWL_FULL || rc == PAWL_MEMORY)
            pawl_abort(tx);
    }
    if (rc == PAWL_IO || rc == PAWL_FULL || rc == PAWL_MEMORY)
        answered(w, "a fenced commit", rc);
    else if (rc != PAWL_FENCED)
        world_wrong(w, "a fenced producer gets %s", pawl_errname(rc));
}

/* Opens a producer. A new one is two commits: its name, then its first holder. */
static void take_over(struct world *w, int i) {
    struct model *m = w->model;
    char name[8] = {'w', (char)('0' + i), 0};
    pawl_producer *old = w->producer[i];
    if (model_last(m)->producers < (uint64_t)i)
        return;
    bool is_new = model_last(m)->producers == (uint64_t)i;
    if (is_new)
        model_submit(m)->producers++;
    model_submit(m)->epoch[i]++;
    int rc = pawl_producer_open(w->log, name, &w->producer[i]);
    if (rc < 0)
        w->producer[i] = NULL;
    world_ended(w, "producer_open", rc, m->count);
    pawl_producer_info info;
    if (is_new && rc < 0 && rc != PAWL_IO && pawl_producer_at(w->log, (uint32_t)i, &info) != 0)
        model_take_back(m);
    if (old == NULL || rc != 0) {
        pawl_producer_close(old);
        return;
    }
    try_fenced(w, old);
    pawl_producer_close(old);
}

static void check_cookie(struct world *w, int i, uint64_t sequence) {
    uint64_t cookie = 0, due = model_cookie(i, sequence);
    int len = pawl_producer_cookie(w->producer[i], &cookie, sizeof cookie);
    if (sequence == 0 ? len != 0 : len != sizeof cookie || cookie != due)
        world_wrong(w, "producer %d at sequence %llu has another cookie", i,
                    (unsigned long long)sequence);
}

static void produce(struct world *w, uint32_t arg, bool again) {
    int i = (int)(arg % 2);
    if (w->producer[i] == NULL)
        take_over(w, i);
    uint64_t last = model_last(w->model)->sequence[i];
    if (w->producer[i] == NULL || w->failed || (again && last == 0))
        return;
    if (pawl_producer_sequence(w->producer[i]) > last)
        world_wrong(w, "a producer is at sequence %llu, not %llu",
                    (unsigned long long)pawl_producer_sequence(w->producer[i]),
                    (unsigned long long)last);
    int part = (int)(arg / 2 % 2);
    check_cookie(w, i, last);
    pawl_tx *tx = begin(w);
    if (tx == NULL)
        return;
    uint64_t sequence = again ? last : last + 1, cookie = model_cookie(i, sequence);
    struct model_view *v = model_submit(w->model);
    if (!again) {
        v->sequence[i] = sequence;
        w->model->produced[i][sequence] = (struct model_place){part, v->end[part]};
        put(w, tx, part, model_add_record(w->model, part));
    } else {
        put(w, tx, 0, 1);
    }
    answered(w, "sequence",
             pawl_tx_sequence(tx, w->producer[i], sequence, sequence, &cookie, sizeof cookie));
    if (!again) {
        finish(w, tx, arg % 3 == 0);
        return;
    }
    pawl_receipt receipt = {0};
    int rc = pawl_commit(tx, &receipt);
    answered(w, "commit again", rc);
    if (rc == 0 && !receipt.duplicate)
        world_wrong(w, "a repeated sequence is written again");
    const struct model_place *first = &w->model->produced[i][sequence];
    if (rc == 0 &&
        (receipt.offset != first->offset || receipt.partition != part_number[first->part]))
        world_wrong(
            w, "a repeated sequence is answered with offset %llu of partition %u, not %llu of %u",
            (unsigned long long)receipt.offset, receipt.partition,
            (unsigned long long)first->offset, part_number[first->part]);
    if (rc == PAWL_FULL || rc == PAWL_MEMORY)
        pawl_abort(tx);
    if (rc == 0) /* the receipt of a duplicate shows that the first commit is durable */
        model_acknowledge(w->model, w->model->count - 1);
    model_take_back(w->model);
}

static void decide_or_finish(struct world *w) {
    const struct model_view *now = model_last(w->model);
    pawl_tx *tx = begin(w);
    char name[24];
    if (tx == NULL)
        return;
    bool finishing = now->finished < now->decided;
    snprintf(name, sizeof name, "t%llu",
             (unsigned long long)(finishing ? now->finished : now->decided));
    struct model_view *v = model_submit(w->model);
    if (finishing)
        v->finished++;
    else
        v->decided++;
    answered(w, "decide",
             finishing ? pawl_finish(tx, w->processor, name) : pawl_decide(tx, w->processor, name));
    finish(w, tx, false);
}

static void read_committed(struct world *w, pawl *log, bool follower) {
    for (int part = 0; part < MODEL_PARTS && w->why[0] == 0 && !w->failed; part++) {
        pawl_bounds b;
        int newest = 0,
            rc = pawl_partition_bounds(log, w->stream[part_stream[part]], part_number[part], &b);
        if (rc == PAWL_NOT_FOUND && follower)
            return; /* another process doesn't see it yet */
        answered(w, "bounds", rc);
        if (rc < 0)
            return;
        if (compare(w, log, part, b.first, 1000, 0, &newest) >= 0)
            model_acknowledge(w->model, newest); /* it was shown: it must never go away */
    }
}

/* Another process reads the live log. */
static void follow(struct world *w) {
    pawl *writer = w->log;
    bool failed = w->failed, locked = w->m.locked;
    int hits = w->m.fault_hits;
    if (world_open(w, true) == 0) {
        pawl *follower = w->log;
        read_committed(w, follower, true);
        if (pawl_close(follower) != 0)
            world_wrong(w, "a follower can't close");
    } else {
        pawl_error e;
        pawl_last_error(&e);
        if (e.code != PAWL_IO || w->m.fault_hits == hits)
            world_wrong(w, "a follower can't open: %s", e.message);
    }
    w->log = writer;
    w->failed = failed;
    w->m.locked = locked;
}

static void retain(struct world *w) {
    if (model_last(w->model)->retention == 0) {
        pawl_retention r = {.consumed = 1};
        model_submit(w->model)->retention = 1;
        world_ended(w, "retention_set", pawl_retention_set(w->log, &r), w->model->count);
    }
    if (!w->failed)
        answered(w, "retention_apply", pawl_retention_apply(w->log));
}

static void reopen(struct world *w) {
    close_producers(w);
    int rc = pawl_close(w->log);
    w->log = NULL;
    answered(w, "close", rc);
    if (rc == 0)
        model_acknowledge(w->model, w->model->count);
    if (w->failed || w->why[0] != 0)
        return;
    rc = world_open(w, false);
    answered(w, "open", rc);
    if (rc < 0) {
        w->failed = true;
        return;
    }
    world_check(w, (struct bounds){w->model->acknowledged, w->model->count});
}

void world_do(struct world *w, struct op o) {
    switch (o.kind) {
    case OP_COMMIT:
        commit_records(w, o.arg, 1 + o.arg % 4, false);
        break;
    case OP_ASYNC:
        commit_records(w, o.arg, 1 + o.arg % 3, true);
        break;
    case OP_BIG:
        commit_records(w, o.arg, 12 + o.arg % 68, o.arg % 2 == 0);
        break;
    case OP_ABORT:
        drop_records(w, o.arg);
        break;
    case OP_STEP:
    case OP_STEP_ASYNC:
        process(w, o.arg, o.kind == OP_STEP_ASYNC);
        break;
    case OP_RUN:
        run(w, o.arg);
        break;
    case OP_PRODUCE:
    case OP_REPEAT:
        produce(w, o.arg, o.kind == OP_REPEAT);
        break;
    case OP_TAKEOVER:
        take_over(w, (int)(o.arg % 2));
        break;
    case OP_DECIDE:
        decide_or_finish(w);
        break;
    case OP_TICK:
        w->m.clock_ns += (uint64_t)(o.arg % 3) * WITNESS_MS * 1000000u;
        w->m.clock_set_ns = sim_days((int)(o.arg % 5) - 2); /* the clock is set */
        answered(w, "tick", pawl_tick(w->log));
        break;
    case OP_DISPATCH:
        answered(w, "dispatch", pawl_dispatch(w->log));
        break;
    case OP_READ:
        read_committed(w, w->log, false);
        break;
    case OP_FOLLOW:
        follow(w);
        break;
    case OP_RETAIN:
        retain(w);
        break;
    case OP_STREAM:
        world_stream(w);
        break;
    case OP_CAP:
        world_cap(w, o.arg);
        break;
    case OP_REOPEN:
        reopen(w);
        break;
    case OP_FORGE:
        world_forge(w, o.arg);
        break;
    case OP_KILL: /* handled by the caller, which decides what the crash leaves */
    case OP_POWER:
    case OP_KINDS:
        break;
    }
}

/* ---------------------------------------------------------------- the content of a log */

static void observe_decisions(struct world *w, struct model_view *v) {
    pawl_decision d;
    uint64_t first = UINT64_MAX, count = 0;
    for (uint32_t i = 0; pawl_decision_at(w->log, i, &d) == 0; i++, count++) {
        uint64_t n = strtoull(d.name + 1, NULL, 10);
        if (n < first)
            first = n;
    }
    /* Only open decisions are visible; the rest of the view determines how many there were
     * before. */
    v->decided = count;
    v->finished = count != 0 ? first : 0;
}

/* Reduces a model's view in the same way to what is visible. */
static void forget_finished(struct model_view *v) {
    uint64_t open = v->decided - v->finished;
    v->finished = open != 0 ? v->finished : 0;
    v->decided = open;
}

static void observe(struct world *w, struct model_view *v) {
    memset(v, 0, sizeof *v);
    static const char *const name[2] = {"in", "out"};
    pawl_stream_info info;
    char text[128];
    for (int i = 0; i < 2; i++)
        if (pawl_stream_find(w->log, name[i], &info) == 0) {
            v->streams++;
            w->stream[i] = info.id;
        }
    for (int part = 0; part < MODEL_PARTS; part++) {
        pawl_bounds b;
        if ((uint64_t)part_stream[part] >= v->streams)
            continue;
        int rc = pawl_partition_bounds(w->log, w->stream[part_stream[part]], part_number[part], &b);
        answered(w, "bounds", rc);
        v->end[part] = rc == 0 ? b.end : 0;
    }
    while (pawl_processor_at(w->log, (uint32_t)v->processors, &w->processor, text) == 0)
        v->processors++;
    for (uint32_t i = 0; i < 2 && v->processors != 0 && v->streams != 0; i++)
        if (pawl_position_get(w->log, "p", w->stream[0], i, &v->position[i]) == 0)
            v->started = 1;
        else
            v->position[i] = 0;
    pawl_producer_info pi;
    for (; v->producers < 2 && pawl_producer_at(w->log, (uint32_t)v->producers, &pi) == 0;
         v->producers++) {
        v->sequence[v->producers] = pi.sequence;
        v->epoch[v->producers] = pi.epoch;
    }
    pawl_retention r;
    if (pawl_retention_get(w->log, &r) == 0)
        v->retention = r.consumed;
    if (pawl_stream_find(w->log, "passing", &info) == 0)
        v->passing = info.id;
    pawl_status s = PAWL_STATUS_INIT;
    if (pawl_get_status(w->log, &s) == 0)
        v->cap = s.disk_cap;
    observe_decisions(w, v);
}

static int find(const struct model *m, const struct model_view *seen, struct bounds b) {
    for (int n = b.high; n >= b.low; n--) {
        struct model_view v = m->after[n];
        forget_finished(&v);
        v.used = 0; /* not visible; the next stream created shows it */
        if (memcmp(&v, seen, sizeof v) == 0)
            return n;
    }
    return -1;
}

static void print_view(char *out, size_t size, const struct model_view *v) {
    snprintf(out, size,
             "[%llu streams, %llu processors, %llu producers, retention %llu, ends %llu %llu %llu, "
             "positions %llu %llu, sequences %llu %llu, epochs %llu %llu, %llu+%llu decided]",
             (unsigned long long)v->streams, (unsigned long long)v->processors,
             (unsigned long long)v->producers, (unsigned long long)v->retention,
             (unsigned long long)v->end[0], (unsigned long long)v->end[1],
             (unsigned long long)v->end[2], (unsigned long long)v->position[0],
             (unsigned long long)v->position[1], (unsigned long long)v->sequence[0],
             (unsigned long long)v->sequence[1], (unsigned long long)v->epoch[0],
             (unsigned long long)v->epoch[1], (unsigned long long)v->decided,
             (unsigned long long)v->finished);
}

int world_check(struct world *w, struct bounds b) {
    struct model_view seen;
    world_check_forged(w);
    observe(w, &seen);
    if (w->why[0] != 0 || w->failed)
        return -1;
    int n = find(w->model, &seen, b);
    if (n < 0) {
        char a[200], l[200], h[200];
        print_view(a, sizeof a, &seen);
        print_view(l, sizeof l, &w->model->after[b.low]);
        print_view(h, sizeof h, &w->model->after[b.high]);
        world_wrong(w, "the log holds %s; acknowledged %d commits %s, submitted %d %s", a, b.low, l,
                    b.high, h);
        return -1;
    }
    for (int part = 0; part < MODEL_PARTS; part++) {
        pawl_bounds pb;
        int newest = 0;
        if ((uint64_t)part_stream[part] >= seen.streams)
            continue;
        int rc =
            pawl_partition_bounds(w->log, w->stream[part_stream[part]], part_number[part], &pb);
        uint64_t count = rc == 0 ? pb.end - pb.first : 0;
        if (rc == 0 && part < 2 && pb.first > seen.position[part])
            world_wrong(w, "part %d begins at %llu, but its processor has only got to %llu", part,
                        (unsigned long long)pb.first, (unsigned long long)seen.position[part]);
        if (rc < 0)
            answered(w, "bounds", rc);
        else if (compare(w, w->log, part, pb.first, 100000, 0, &newest) != (int)count &&
                 !w->failed && !w->refused)
            world_wrong(w, "part %d: offsets %llu to %llu can't all be read", part,
                        (unsigned long long)pb.first, (unsigned long long)pb.end);
    }
    return w->why[0] != 0 || w->failed ? -1 : n;
}

/* Checks the remaining records of one partition. */
static void remains(struct world *w, int part) {
    const struct model *m = w->model;
    pawl_bounds b;
    pawl_reader *r;
    pawl_batch batch;
    int rc = pawl_partition_bounds(w->log, w->stream[part_stream[part]], part_number[part], &b);
    if (rc == 0)
        rc = pawl_reader_open(w->log, w->stream[part_stream[part]], part_number[part], b.first, 0,
                              &r);
    if (rc < 0)
        return; /* even its name is lost */
    if (b.end > model_last(m)->end[part])
        world_wrong(w, "part %d, mended, ends at %llu of %llu", part, (unsigned long long)b.end,
                    (unsigned long long)model_last(m)->end[part]);
    uint64_t next = b.first;
    while (w->why[0] == 0 && ((rc = pawl_read(r, 0, 0, &batch)) > 0 || rc == PAWL_LOST)) {
        if (batch.from != next || batch.to > b.end)
            world_wrong(w, "part %d, mended: a batch of %llu to %llu where %llu is due", part,
                        (unsigned long long)batch.from, (unsigned long long)batch.to,
                        (unsigned long long)next);
        for (size_t i = 0; rc > 0 && i < batch.count && w->why[0] == 0; i++) {
            const pawl_record *x = &batch.records[i];
            if (!is_record(m->id[part][x->offset], x))
                world_wrong(w, "part %d, mended: another record at offset %llu", part,
                            (unsigned long long)x->offset);
        }
        next = batch.to;
    }
    pawl_reader_close(r);
    if (rc < 0)
        answered(w, "reading what is left", rc);
    else if (w->why[0] == 0 && next != b.end)
        world_wrong(w, "part %d, mended: it ends at %llu, not at %llu", part,
                    (unsigned long long)next, (unsigned long long)b.end);
}

void world_check_remains(struct world *w) {
    static const char *const name[2] = {"in", "out"};
    pawl_stream_info info;
    world_check_forged(w);
    for (int i = 0; i < 2; i++)
        w->stream[i] = pawl_stream_find(w->log, name[i], &info) == 0 ? info.id : UINT32_MAX;
    for (int part = 0; part < MODEL_PARTS && w->why[0] == 0; part++)
        if (w->stream[part_stream[part]] != UINT32_MAX)
            remains(w, part);
}

void world_check_header(struct world *w) {
    static uint8_t head[SEGMENT_HEADER_SIZE];
    char name[24];
    if (w->log->wal.state != WAL_RUNNING)
        return; /* it is being written */
    segment_name(name, w->log->wal.segment, "seg");
    int inode = disk_find(&w->m.disk, name);
    if (inode < 0 || disk_read(&w->m.disk, inode, true, head, sizeof head, 0) != sizeof head)
        world_wrong(w, "%s, the newest segment, is not there", name);
    else if (memcmp(head, head + BLOCK, BLOCK) != 0)
        world_wrong(w, "the header of %s is not there twice after recovery", name);
}
