/* SPDX-License-Identifier: Apache-2.0
 *
 * A processor runs once more over the input that it has committed, in a log of its own, and what it
 * emits and what its tables hold is compared with what the original's commits say, one commit after
 * the other. Each batch is the interval of the original's commit, so that the two can be compared
 * after each.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "pipeline/processor.h"
#include "pipeline/state.h"
#include "pipeline/struct_size.h"
#include "wal/show.h"

#define COPY_MAX 10000u /* records copied at a time */
#define DIFFERS 1

/* A partition that is written to, in both logs. */
struct place {
    uint32_t stream, partition; /* ids in the original */
    uint32_t in_again;          /* the stream's id there */
    uint64_t at;                /* the next record there that is to be compared */
    bool input;
    pawl_reader *was, *again; /* NULL: not opened yet */
    struct task task;         /* of an input, once it has run */
    bool ran;
};

struct recheck {
    pawl *was, *again;
    struct pawl_processor *processor;
    uint32_t id, id_again; /* the processor's in both logs */
    pawl_replay_info *info;
    struct place *places;
    uint32_t count, room;
    pawl_tx *tx;  /* of the tasks */
    uint64_t end; /* LSN in the original */
};

/* ---- what differs */

static int differs(struct recheck *r, uint64_t lsn, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static int differs(struct recheck *r, uint64_t lsn, const char *format, ...) {
    va_list list;
    va_start(list, format);
    show_format(r->info->what, sizeof r->info->what, format, list);
    va_end(list);
    r->info->lsn = lsn;
    return DIFFERS;
}

static const char *stream_name(const struct recheck *r, uint32_t id) {
    const struct stream *s = tables_stream(&r->was->tables, id);
    return s != NULL ? s->name : "?";
}

/* ---- places */

static int by_id(const struct place *p, uint32_t stream, uint32_t partition) {
    return p->stream != stream ? (p->stream < stream ? -1 : 1)
                               : (p->partition > partition) - (p->partition < partition);
}

static struct place *find(struct recheck *r, uint32_t stream, uint32_t partition) {
    uint32_t from = 0, to = r->count;
    while (from < to) {
        uint32_t mid = from + (to - from) / 2;
        int order = by_id(&r->places[mid], stream, partition);
        if (order == 0)
            return &r->places[mid];
        if (order < 0)
            from = mid + 1;
        else
            to = mid;
    }
    return NULL;
}

static bool is_input(const struct recheck *r, uint32_t in_again) {
    for (uint32_t i = 0; r->processor != NULL && i < r->processor->config.input_count; i++)
        if (r->processor->inputs[i] == in_again)
            return true;
    return false;
}

static int add_places(struct recheck *r, const pawl_stream_info *was) {
    pawl_stream_info again;
    pawl_bounds b;
    if (pawl_stream_find(r->again, was->name, &again) < 0 || again.partitions != was->partitions)
        return 0; /* of no concern, or it is told where it is */
    for (uint32_t k = 0; k < was->partitions; k++) {
        TRY(pawl_partition_bounds(r->again, again.id, k, &b));
        r->places[r->count++] = (struct place){.stream = was->id,
                                               .partition = k,
                                               .in_again = again.id,
                                               .at = b.end,
                                               .input = is_input(r, again.id)};
    }
    return 0;
}

static int make_places(struct recheck *r) {
    pawl_stream_info was;
    uint32_t n = 0;
    int rc = 0;
    for (uint32_t i = 0; pawl_stream_at(r->was, i, &was) == 0; i++)
        n += was.partitions;
    r->room = n + 1;
    r->places = mem_alloc(&r->again->mem, r->room * sizeof *r->places);
    if (r->places == NULL)
        return fail(PAWL_MEMORY, "no memory for %u partitions", n);
    for (uint32_t i = 0; rc == 0 && r->count < n && pawl_stream_at(r->was, i, &was) == 0; i++)
        rc = add_places(r, &was);
    for (uint32_t i = 1; i < r->count; i++) /* streams come in the order of their ids */
        if (by_id(&r->places[i - 1], r->places[i].stream, r->places[i].partition) >= 0)
            return fail(PAWL_STATE, "the streams of the log are in no order");
    return rc;
}

static void free_places(struct recheck *r) {
    for (uint32_t i = 0; i < r->count; i++) {
        struct place *p = &r->places[i];
        pawl_reader_close(p->was);
        pawl_reader_close(p->again);
        if (p->ran) {
            p->task.tx = NULL;
            task_close(&p->task);
        }
    }
    mem_free(&r->again->mem, r->places, r->room * sizeof *r->places);
    if (r->tx != NULL)
        pawl_abort(r->tx);
}

static int reader_at(pawl *p, pawl_reader **reader, uint32_t stream, uint32_t partition,
                     uint64_t at, uint32_t flags) {
    return *reader == NULL ? pawl_reader_open(p, stream, partition, at, flags, reader)
                           : pawl_reader_seek(*reader, at);
}

/* ---- input */

static int put_all(pawl *p, const struct place *to, const pawl_batch *b) {
    pawl_tx *tx;
    TRY(pawl_begin(p, &tx));
    int rc = 0;
    for (size_t i = 0; i < b->count && rc == 0; i++)
        rc = pawl_put(tx, to->in_again, to->partition, &b->records[i]);
    if (rc == 0)
        return pawl_commit(tx, NULL);
    pawl_abort(tx);
    return rc;
}

/* The other log has the input up to `to`. Copies more than that, as far as it is there. */
static int copy_input(struct recheck *r, struct place *in, uint64_t to) {
    pawl_bounds b;
    pawl_batch batch;
    TRY(pawl_partition_bounds(r->again, in->in_again, in->partition, &b));
    while (b.end < to) {
        TRY(reader_at(r->was, &in->was, in->stream, in->partition, b.end, PAWL_READ_COMMITTED));
        int n = pawl_read(in->was, COPY_MAX, 0, &batch);
        if (n < 0)
            return n;
        if (n == 0 || batch.from != b.end)
            return fail(PAWL_TRIMMED,
                        "offset %llu of partition %u of stream %s is not kept: begin at a later "
                        "savepoint",
                        (unsigned long long)b.end, in->partition, stream_name(r, in->stream));
        TRY(put_all(r->again, in, &batch));
        b.end = batch.to;
        in->at = b.end;
    }
    return 0;
}

/* ---- running */

static int begin_task(struct recheck *r, struct place *in) {
    if (in->ran)
        return 0;
    if (r->tx == NULL)
        TRY(pawl_begin(r->again, &r->tx));
    TRY(task_open(&in->task, r->processor, in->in_again, in->partition));
    in->task.tx = r->tx;
    in->ran = true;
    return 0;
}

static int run_to(struct recheck *r, struct place *in, const struct position_entry *e) {
    struct task *t = &in->task;
    while (t->position < e->to) {
        r->processor->config.batch_max = (uint32_t)(e->to - t->position);
        int rc = task_step(t);
        if (rc < 0)
            return rc;
        if (rc == TASK_STARVED)
            return fail(PAWL_MEMORY, "no memory to read the input");
        if (rc == 0)
            r->again->io->ops->sleep(r->again->io, 1000000);
        if (atomic_load(&r->again->stop))
            return fail(PAWL_STOPPED, "stopped on request");
    }
    r->info->records += e->to - e->from;
    return 0;
}

/* One interval of the original's; *any: it wasn't processed in the other log yet. */
static int run_interval(struct recheck *r, const struct position_entry *e, uint64_t lsn,
                        bool *any) {
    struct place *in = find(r, e->stream, e->partition);
    if (in == NULL || !in->input)
        return fail(PAWL_NOT_FOUND,
                    "the processor reads stream %s in the log, and doesn't in the "
                    "other one",
                    stream_name(r, e->stream));
    TRY(copy_input(r, in, e->to));
    TRY(begin_task(r, in));
    if (in->task.position >= e->to)
        return 0;
    if (in->task.position != e->from)
        return fail(
            PAWL_TILING,
            "the commit at LSN %llu begins at offset %llu of partition %u of stream %s, and "
            "the other log is at %llu: it isn't a fork of this one at LSN %llu",
            (unsigned long long)lsn, (unsigned long long)e->from, e->partition,
            stream_name(r, e->stream), (unsigned long long)in->task.position,
            (unsigned long long)r->info->from_lsn);
    *any = true;
    return run_to(r, in, e);
}

/* ---- outputs */

static bool same_bytes(const void *a, size_t a_len, const void *b, size_t b_len) {
    return a_len == b_len && (a_len == 0 || memcmp(a, b, a_len) == 0);
}

static const char *what_differs(const pawl_record *a, const pawl_record *b) {
    return !same_bytes(a->key, a->key_len, b->key, b->key_len)           ? "key"
           : !same_bytes(a->value, a->value_len, b->value, b->value_len) ? "value"
           : !same_bytes(a->raw_headers, a->raw_headers_len, b->raw_headers, b->raw_headers_len)
               ? "headers"
               : NULL;
}

/* Both have read something, from the same place on. */
static int compare_batches(struct recheck *r, const struct place *p, uint64_t lsn,
                           const pawl_batch *was, const pawl_batch *again, uint64_t count) {
    for (uint64_t i = 0; i < count; i++) {
        const char *what = what_differs(&was->records[i], &again->records[i]);
        if (what != NULL)
            return differs(r, lsn,
                           "record %llu of partition %u of stream %s: its %s is another one",
                           (unsigned long long)was->records[i].offset, p->partition,
                           stream_name(r, p->stream), what);
    }
    return 0;
}

static int too_few(struct recheck *r, const struct place *p, uint64_t lsn, uint64_t offset) {
    return differs(r, lsn, "record %llu of partition %u of stream %s is not emitted",
                   (unsigned long long)offset, p->partition, stream_name(r, p->stream));
}

static int compare_run(struct recheck *r, struct place *p, uint64_t lsn, uint64_t base,
                       uint64_t count) {
    pawl_bounds b;
    pawl_batch was, again;
    TRY(pawl_partition_bounds(r->again, p->in_again, p->partition, &b));
    for (uint64_t done = 0; done < count;) {
        TRY(reader_at(r->was, &p->was, p->stream, p->partition, base + done, PAWL_READ_COMMITTED));
        int n = pawl_read(p->was, count - done, 0, &was);
        if (n <= 0)
            return n < 0 ? n : fail(PAWL_TRIMMED, "the output of the log is not kept");
        if (p->at >= b.end)
            return too_few(r, p, lsn, base + done);
        TRY(reader_at(r->again, &p->again, p->in_again, p->partition, p->at,
                      PAWL_READ_UNCOMMITTED));
        int m = pawl_read(p->again, was.count, 0, &again);
        if (m <= 0)
            return m < 0 ? m : too_few(r, p, lsn, base + done);
        uint64_t both = was.count < again.count ? was.count : again.count;
        int rc = compare_batches(r, p, lsn, &was, &again, both);
        if (rc != 0)
            return rc;
        done += both;
        p->at += both;
        r->info->outputs += both;
    }
    return 0;
}

/* Has the other log emitted more than the original has up to here? */
static int compare_ends(struct recheck *r, uint64_t lsn) {
    pawl_bounds b;
    for (uint32_t i = 0; i < r->count; i++) {
        struct place *p = &r->places[i];
        if (p->input)
            continue;
        TRY(pawl_partition_bounds(r->again, p->in_again, p->partition, &b));
        if (b.end > p->at)
            return differs(r, lsn,
                           "%llu records of partition %u of stream %s are emitted that "
                           "weren't",
                           (unsigned long long)(b.end - p->at), p->partition,
                           stream_name(r, p->stream));
    }
    return 0;
}

static int compare_outputs(struct recheck *r, const struct frame_header *h, const uint8_t *frame) {
    for (uint32_t i = 0; i < h->runs; i++) {
        struct run run;
        const uint8_t *data;
        frame_run(frame, h, i, &run, &data);
        if (!run_has_records(&run))
            continue;
        struct place *p = find(r, run.stream, run.partition);
        if (p == NULL)
            return fail(PAWL_NOT_FOUND, "the other log has no stream %s like this one's",
                        stream_name(r, run.stream));
        if (p->input)
            return fail(PAWL_UNSUPPORTED, "the processor writes to stream %s, which it reads",
                        stream_name(r, run.stream));
        int rc = compare_run(r, p, h->lsn, run.base, run.count);
        if (rc != 0)
            return rc;
    }
    return compare_ends(r, h->lsn);
}

/* ---- state */

static int compare_sum(struct recheck *r, uint64_t lsn, const struct run *run,
                       const uint8_t *data) {
    struct state_sum want, got = {0};
    uint32_t at = 0;
    if (!state_sum_decode(data, run->len, &at, &want))
        return fail_at(PAWL_DAMAGED, 0, "", "", lsn, "a sum of state at LSN %llu isn't whole",
                       (unsigned long long)lsn);
    const struct state_table *was = tables_table(&r->was->tables, run->stream);
    if (was == NULL) /* deleted since */
        return 0;
    TRY(engine_enter(r->again));
    const struct state_table *t =
        tables_table(&r->again->tables, tables_find_table(&r->again->tables, was->name));
    bool there = t != NULL && run->partition < t->partitions;
    if (there)
        got = t->parts[run->partition].sum;
    engine_leave(r->again);
    if (!there)
        return fail(PAWL_NOT_FOUND, "the other log has no table %s like this one's", was->name);
    r->info->sums++;
    if (got.low == want.low && got.high == want.high && got.pairs == want.pairs)
        return 0;
    return differs(r, lsn,
                   "partition %u of table %s: digest %016llx%016llx of %llu pairs, which was "
                   "%016llx%016llx of %llu",
                   run->partition, was->name, (unsigned long long)got.high,
                   (unsigned long long)got.low, (unsigned long long)got.pairs,
                   (unsigned long long)want.high, (unsigned long long)want.low,
                   (unsigned long long)want.pairs);
}

static int compare_state(struct recheck *r, const struct frame_header *h, const uint8_t *frame) {
    for (uint32_t i = 0; i < h->runs; i++) {
        struct run run;
        const uint8_t *data;
        frame_run(frame, h, i, &run, &data);
        int rc = run.type == RUN_STATE ? compare_sum(r, h->lsn, &run, data) : 0;
        if (rc != 0)
            return rc;
    }
    return 0;
}

/* ---- the original's commits */

/* Runs its intervals of the processor. 1: there were any. */
static int run_commit(struct recheck *r, const struct frame_header *h, const uint8_t *frame,
                      bool *any) {
    *any = false;
    for (uint32_t i = 0; i < h->runs; i++) {
        struct run run;
        struct position_entry e;
        const uint8_t *data;
        frame_run(frame, h, i, &run, &data);
        for (uint32_t at = 0;
             run.type == RUN_POSITIONS && position_decode(data, run.len, &at, &e);) {
            if (e.processor != r->id || e.from == e.to)
                continue;
            TRY(run_interval(r, &e, h->lsn, any));
        }
    }
    return 0;
}

static int on_commit(struct recheck *r, const struct frame_header *h, const uint8_t *frame) {
    bool any;
    TRY(run_commit(r, h, frame, &any));
    if (!any)
        return 0;
    r->info->commits++;
    int rc = compare_outputs(r, h, frame);
    return rc != 0 ? rc : compare_state(r, h, frame);
}

static int walk_segment(struct recheck *r, uint64_t index) {
    struct segment_header h;
    struct scan s;
    struct scan_frame f;
    pawl *p = r->was;
    int file = segment_open(p->io, &p->mem, index, &p->header, false, &h);
    if (file < 0)
        return file;
    scan_begin(&s, p->io, &p->mem, file, &h, r->end < (index + 1) * h.segment_size);
    int rc;
    while ((rc = scan_next(&s, &f)) == 1 && f.header.lsn < r->end) {
        rc = f.header.kind == FRAME_COMMIT && f.header.lsn >= r->info->from_lsn
                 ? on_commit(r, &f.header, f.data)
                 : 0;
        if (rc != 0)
            break;
        if (r->info->progress != NULL && r->info->progress(r->info->arg, f.header.lsn, r->end) != 0)
            rc = fail(PAWL_STOPPED, "it was asked to stop");
        if (rc < 0)
            break;
    }
    bool ended = rc == 0 && !scan_sealed(&s) && s.at < r->end;
    uint64_t at = s.at;
    scan_end(&s);
    p->io->ops->close(p->io, file);
    if (ended)
        return fail_at(PAWL_DAMAGED, 0, "", "", at, "the log is damaged at LSN %llu",
                       (unsigned long long)at);
    return rc;
}

static int walk(struct recheck *r) {
    uint64_t size = r->was->header.segment_size, first = r->info->from_lsn / size;
    if (first < r->was->wal.first_segment) {
        if (r->info->from_lsn != 0)
            return fail(PAWL_TRIMMED,
                        "the log from LSN %llu on is not kept: begin at a later "
                        "savepoint",
                        (unsigned long long)r->info->from_lsn);
        first = r->was->wal.first_segment;
    }
    int rc = 0;
    for (uint64_t n = first; n * size < r->end && rc == 0; n++)
        rc = walk_segment(r, n);
    return rc == 1 ? DIFFERS : rc;
}

/* ---- the call */

/* Under the lock of `again`. */
static struct pawl_processor *find_processor(pawl *p, const char *name) {
    struct pawl_processor *q = p->processors;
    while (q != NULL && strcmp(q->name, name) != 0)
        q = q->next;
    return q;
}

static int prepare(struct recheck *r, const char *name) {
    TRY(engine_enter(r->was));
    int rc = follow_refresh(r->was);
    r->id = tables_find_processor(&r->was->tables, name);
    r->end = r->was->follow.shown;
    engine_leave(r->was);
    TRY(rc);
    TRY(engine_enter_writer(r->again));
    r->processor = find_processor(r->again, name);
    bool running = r->again->running;
    engine_leave(r->again);
    if (r->id == 0 || r->processor == NULL)
        return fail(PAWL_NOT_FOUND, "there is no processor %s in %s", name,
                    r->id == 0 ? "the log" : "the other log: add it first");
    if (running)
        return fail(PAWL_BUSY, "processors are running");
    if (r->processor->config.guarantee != PAWL_EXACTLY_ONCE)
        return fail(PAWL_UNSUPPORTED, "only an exactly-once processor commits its outputs with its "
                                      "input, so only one can be checked");
    if (r->processor->timed != NULL)
        return fail(PAWL_UNSUPPORTED, "a processor that knows time can't be checked yet");
    return make_places(r);
}

static int recheck(struct recheck *r, const char *name) {
    TRY(prepare(r, name));
    uint32_t batch_max = r->processor->config.batch_max;
    uint64_t batch_bytes = r->processor->config.batch_bytes;
    r->processor->config.batch_bytes = UINT64_MAX;
    int rc = walk(r);
    r->processor->config.batch_max = batch_max;
    r->processor->config.batch_bytes = batch_bytes;
    return rc;
}

int pawl_replay_check(pawl *original, pawl *again, const char *processor, pawl_replay_info *info) {
    pawl_replay_info own = PAWL_REPLAY_INIT;
    if (original == NULL || again == NULL || processor == NULL || original == again)
        return fail(PAWL_INVALID, "a handle or the processor's name is NULL, or the logs are one");
    TRY(engine_check_fork(original));
    TRY(engine_check_fork(again));
    if (!original->read_only)
        return fail(PAWL_STATE, "open the original read-only");
    if (info != NULL)
        TRY(pawl_struct_take(&own, sizeof own, info, REPLAY_FIRST, "pawl_replay_info"));
    own.commits = own.records = own.outputs = own.sums = own.lsn = 0;
    own.what[0] = 0;
    struct recheck r = {.was = original, .again = again, .info = &own};
    int rc = recheck(&r, processor);
    pawl_error e;
    fail_copy(&e);
    free_places(&r);
    if (rc < 0)
        fail_again(&e);
    int given = info == NULL
                    ? 0
                    : pawl_struct_give(info, REPLAY_FIRST, &own, sizeof own, "pawl_replay_info");
    return rc < 0 ? rc : given < 0 ? given : rc;
}
