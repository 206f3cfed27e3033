/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline/feed.h"

#include <assert.h>

#include "pipeline/processor.h"

#define FRAMES_AT_ONCE 512u /* walked without a break, so that other threads get the lock */

/* Runs of a round: as many as a reader of one partition takes, and in the log's memory more, since
 * they cost nothing there. */
static size_t copied_max(const pawl *p) {
    size_t most = 8 * gather_bytes(p), share = p->mem.cap / 8 / (p->todo.workers + 1);
    return p->mem.cap == 0 || most < share ? most : share; /* of all workers together: an eighth */
}
/* A round that has copied this much ends, unless its first task has less than a batch. */
static size_t copied_usual(const pawl *p) {
    size_t usual = gather_bytes(p), most = copied_max(p) / 2;
    return most < usual ? most : usual;
}
static size_t gathered_max(const pawl *p) {
    return 8 * gather_bytes(p);
}

static uint32_t place_of(const struct feed *f, uint32_t stream, uint32_t partition) {
    uint64_t key = ((uint64_t)stream << 32 | partition) * 0x9e3779b97f4a7c15u;
    return (uint32_t)(key >> 32) & (f->place_count - 1);
}

static bool is_at(const struct task *t, uint32_t stream, uint32_t partition) {
    return t->stream == stream && t->partition == partition;
}

/* The tasks of a partition: a list by task.same. */
static struct task *tasks_of(const struct feed *f, uint32_t stream, uint32_t partition) {
    uint32_t i = place_of(f, stream, partition);
    while (f->places[i] != NULL && !is_at(f->places[i], stream, partition))
        i = (i + 1) & (f->place_count - 1);
    return f->places[i];
}

static void add_task(struct feed *f, struct task *t) {
    uint32_t i = place_of(f, t->stream, t->partition);
    while (f->places[i] != NULL && !is_at(f->places[i], t->stream, t->partition))
        i = (i + 1) & (f->place_count - 1);
    struct task **end = &f->places[i]; /* in the order in which the processors were added */
    while (*end != NULL)
        end = &(*end)->same;
    t->same = NULL;
    *end = t;
}

static int take(struct pawl_reader *walk, const struct frame_header *h, const uint8_t *frame,
                bool locked);

static bool belongs(const struct task *t, enum work_kind kind, uint32_t worker) {
    bool durable = t->processor->config.committed_input != 0;
    return t->worker == worker && durable == (kind == WORK_DURABLE);
}

/* Under the lock: commits with records of the task's partition concern the worker. */
static void mark_partition(struct feed *f, const struct task *t, bool begins) {
    struct stream *s = tables_stream(&f->walk.p->tables, t->stream);
    if (s == NULL || t->partition >= s->partitions)
        return;
    uint32_t *bits = &s->parts[t->partition].workers[f->kind];
    *bits = begins ? *bits | work_bit(f->worker) : *bits & ~work_bit(f->worker);
}

int feed_open(struct feed *f, pawl *p, enum work_kind kind, uint32_t worker, struct task *tasks,
              uint32_t count) {
    *f = (struct feed){.kind = kind, .worker = worker};
    reader_init(&f->walk, p, kind == WORK_APPENDED ? PAWL_READ_UNCOMMITTED : PAWL_READ_COMMITTED,
                take);
    for (uint32_t i = 0; i < count; i++)
        f->tasks += belongs(&tasks[i], kind, worker);
    if (f->tasks == 0)
        return 0;
    uint32_t places = 4;
    while (places < 2 * f->tasks)
        places *= 2;
    f->places = mem_alloc(&p->mem, places * sizeof(void *));
    if (f->places == NULL)
        return fail(PAWL_MEMORY, "no memory for %u tasks", f->tasks);
    f->place_count = places;
    pthread_mutex_lock(&p->mutex);
    for (uint32_t i = 0; i < count; i++) {
        struct task *t = &tasks[i];
        if (!belongs(t, kind, worker))
            continue;
        t->feed = f;
        t->joined = t->left = false;
        add_task(f, t);
        mark_partition(f, t, true);
    }
    engine_leave(p);
    return 0;
}

void feed_leave(struct task *t, uint64_t lsn) {
    struct pawl_reader *r = t->reader;
    if (!t->joined)
        return;
    assert(t->feed->joined > 0);
    t->joined = false;
    t->left = true;
    t->feed->joined--;
    if (r->lsn < lsn) {
        r->lsn = lsn; /* all records before that have been offered */
        r->linked = false;
    }
}

/* `to` goes on where `from` is: at a frame, or at the end of the last one. There only the link
 * shows which frame is the next. */
static void go_on_where(struct pawl_reader *to, const struct pawl_reader *from) {
    to->lsn = from->lsn;
    to->linked = from->linked;
    to->link = from->link;
    to->epoch = from->epoch;
    to->astray = to->file >= 0;
}

/* The task leaves where the walk is. */
static void leave_walk(struct task *t) {
    struct pawl_reader *walk = &t->feed->walk;
    bool behind = t->joined && t->reader->lsn < walk->lsn;
    feed_leave(t, 0);
    if (behind)
        go_on_where(t->reader, walk);
}

/* Calls `each` for all tasks. */
static void each_task(struct feed *f, void (*each)(struct feed *f, struct task *t)) {
    for (uint32_t i = 0; i < f->place_count; i++)
        for (struct task *t = f->places[i]; t != NULL; t = t->same)
            each(f, t);
}

static void leave_here(struct feed *f, struct task *t) {
    (void)f;
    leave_walk(t);
}

static void unmark(struct feed *f, struct task *t) {
    leave_here(f, t);
    mark_partition(f, t, false);
    t->feed = NULL;
}

static void drop_bytes(struct feed *f) {
    mem_free(&f->walk.p->mem, f->bytes, f->cap);
    f->bytes = NULL;
    f->cap = 0;
}

void feed_close(struct feed *f) {
    pawl *p = f->walk.p;
    if (f->place_count == 0)
        return;
    pthread_mutex_lock(&p->mutex);
    each_task(f, unmark);
    engine_leave(p);
    reader_close_file(&f->walk);
    drop_bytes(f);
    mem_free(&p->mem, f->places, f->place_count * sizeof(void *));
    f->place_count = 0;
}

/* ---- joining */

static bool can_join(const struct task *t) {
    return !t->joined && !t->left && t->again_ns == 0 && t->attempts == 0 &&
           !reader_pending(t->reader) && atomic_load(&t->processor->failed) == 0;
}

static void join(struct feed *f, struct task *t) {
    if (!can_join(t) || t->reader->lsn < f->walk.lsn)
        return;
    reader_drop_pieces(t->reader);
    t->joined = true;
    t->reader->astray = t->reader->file >= 0;
    f->joined++;
}

static void find_first(struct feed *f, struct task *t) {
    if (can_join(t) && t->reader->lsn < f->walk.lsn)
        go_on_where(&f->walk, t->reader);
}

static void close_files(struct feed *f, struct task *t) {
    (void)f;
    if (t->joined && t->reader->astray)
        reader_close_file(t->reader);
}

static void walk_from(struct feed *f, uint64_t lsn) {
    f->walk.lsn = lsn;
    f->walk.linked = false;
    f->walk.astray = f->walk.file >= 0;
}

/* Under the lock: if no task is joined, the walk goes where the first of them is. True: some
 * joined. */
static bool join_all(struct feed *f) {
    uint32_t before = f->joined;
    if (f->joined == 0) {
        walk_from(f, UINT64_MAX);
        each_task(f, find_first);
        if (f->walk.lsn == UINT64_MAX)
            return false;
        work_look_from(f->walk.p, f->kind, f->worker, f->walk.lsn);
    }
    each_task(f, join);
    return f->joined != before;
}

/* ---- offering */

/* Where a run's bytes stay until the round ends; NULL: nowhere in this round. */
static const uint8_t *keep(struct feed *f, const uint8_t *data, const struct run *run, uint64_t lsn,
                           bool locked) {
    pawl *p = f->walk.p;
    if (locked && reader_pin(&f->walk, lsn))
        return data;
    if (locked && f->gathered >= gather_bytes(p))
        return NULL; /* in the next round it need not be copied */
    if (run->len > f->cap - f->used) {
        if (f->used != 0 || f->gathered != 0)
            return NULL;
        size_t want = copied_max(p) > run->len ? copied_max(p) : run->len;
        drop_bytes(f);
        f->bytes = mem_alloc(&p->mem, want);
        if (f->bytes == NULL)
            return NULL;
        f->cap = want;
    }
    uint8_t *to = f->bytes + f->used;
    memcpy(to, data, run->len);
    f->used += run->len;
    return to;
}

/* A batch may take several commits. So the round goes on while the batch of the task that has
 * waited longest has room for one more commit like the last. A round that ends there leaves no
 * short batch behind. */
static bool has_enough(const struct feed *f) {
    const pawl *p = f->walk.p;
    if (f->used < copied_usual(p) || f->ready == NULL)
        return false;
    const struct pawl_reader *r = f->ready->reader;
    const struct run_piece *last = &r->pieces[r->piece_count - 1];
    size_t records;
    uint64_t bytes;
    task_batch_max(f->ready, &records, &bytes);
    return r->gathered_records + last->count > records || r->gathered + last->len > bytes ||
           f->used >= copied_max(p) / 2;
}

static void add_ready(struct feed *f, struct task *t) {
    if (t->ready)
        return;
    t->ready = true;
    t->ready_next = NULL;
    *f->ready_end = t;
    f->ready_end = &t->ready_next;
}

/* Offers a run to a task. False: not in this round. */
static bool offer(struct feed *f, struct task *t, const struct run *run, const uint8_t *data,
                  const uint8_t **kept, const struct frame_header *h, bool locked) {
    struct pawl_reader *r = t->reader;
    if (!t->joined || run->base + run->count <= r->want)
        return true;
    if (run->base > r->want || run->type != RUN_RECORDS) {
        feed_leave(t, h->lsn);
        return true;
    }
    if (*kept == NULL)
        *kept = keep(f, data, run, h->lsn, locked);
    if (*kept == NULL && f->gathered != 0)
        return false;
    if (*kept == NULL || reader_add_piece(r, run, *kept, h->lsn, true) < 0) {
        feed_leave(t, h->lsn); /* its own reader may find memory, or says what is wrong */
        return true;
    }
    f->gathered += run->len;
    add_ready(f, t);
    return true;
}

static int take(struct pawl_reader *walk, const struct frame_header *h, const uint8_t *frame,
                bool locked) {
    struct feed *f = (struct feed *)walk;
    if (h->kind != FRAME_COMMIT)
        return 1;
    for (uint32_t i = 0; i < h->runs; i++) {
        struct run run;
        const uint8_t *data, *kept = NULL;
        frame_run(frame, h, i, &run, &data);
        if (!run_has_records(&run))
            continue;
        for (struct task *t = tasks_of(f, run.stream, run.partition); t != NULL; t = t->same)
            if (!offer(f, t, &run, data, &kept, h, locked)) {
                f->full = true;
                return 0;
            }
    }
    return 1;
}

/* Under the lock, released while it reads: walks until the round is full, or to the end. */
static int walk(struct feed *f) {
    pawl *p = f->walk.p;
    uint32_t frames = 0;
    while (!f->full && f->joined != 0 && f->gathered < gathered_max(p) && !has_enough(f)) {
        uint64_t limit = reader_limit(p, f->walk.flags);
        if (f->walk.lsn >= limit)
            return 0;
        if (++frames % FRAMES_AT_ONCE == 0) {
            if (f->gathered != 0)
                return 0;
            engine_leave(p);
            pthread_mutex_lock(&p->mutex);
        }
        int rc = reader_walk_memory(&f->walk, limit);
        if (rc == 0) {
            uint64_t settled = limit < p->wal.durable ? limit : p->wal.durable;
            engine_leave(p);
            rc = reader_walk_disk(&f->walk, settled);
            pthread_mutex_lock(&p->mutex);
        }
        if (rc < 0)
            return rc;
    }
    return 0;
}

struct task *feed_fill(struct feed *f) {
    pawl *p = f->walk.p;
    uint64_t from;
    f->ready = NULL;
    f->ready_end = &f->ready;
    if (f->place_count == 0)
        return NULL;
    assert(f->used == 0 && f->gathered == 0 && f->walk.pin_count == 0); /* feed_drop() */
    pthread_mutex_lock(&p->mutex);
    bool came = f->joined < f->tasks && join_all(f);
    if (f->joined != 0 && work_got(p, f->kind, f->worker, &from)) {
        if (from > f->walk.lsn)
            walk_from(f, from); /* none of the frames before it concerns a task */
        int rc = walk(f);
        f->starved = rc == PAWL_MEMORY ? f->starved + 1 : 0;
        if (rc == PAWL_MEMORY)
            atomic_store(&p->tight, true);
        if (rc < 0 && (f->starved == 0 || f->starved == STARVED_MAX))
            /* the tasks' own readers meet the error, or what else is there */
            each_task(f, leave_here);
        if (rc < 0)
            fail_clear();
        work_seen(p, f->kind, f->worker, f->walk.lsn);
    }
    engine_leave(p);
    if (came)
        each_task(f, close_files);
    if (f->walk.astray)
        reader_close_file(&f->walk);
    return f->ready;
}

int feed_drop(struct feed *f) {
    pawl *p = f->walk.p;
    int rc = 0;
    for (struct task *t = f->ready; t != NULL; t = t->ready_next) {
        t->ready = false;
        if (!reader_pending(t->reader)) {
            reader_drop_pieces(t->reader); /* they hold no pins */
            continue;
        }
        leave_walk(t);
        int back = pawl_reader_seek(t->reader, t->position);
        rc = rc == 0 ? back : rc;
    }
    f->ready = NULL;
    f->used = f->gathered = 0;
    f->full = false;
    if (f->walk.pin_count != 0) {
        pthread_mutex_lock(&p->mutex);
        reader_drop_pieces(&f->walk);
        engine_leave(p);
    }
    if (atomic_load(&p->tight)) {
        reader_close_file(&f->walk);
        drop_bytes(f);
    }
    return rc;
}

bool feed_has_more(struct feed *f) {
    const pawl *p = f->walk.p;
    uint64_t from;
    bool more = false;
    if (f->place_count == 0)
        return false;
    if (work_got(p, f->kind, f->worker, &from) && f->joined != 0 &&
        (from > f->walk.lsn ? from : f->walk.lsn) < reader_limit(p, f->walk.flags))
        return true;
    /* Repair may have taken out a partition's last records, or its stream may be gone: the task's
     * own reader says so. */
    for (uint32_t i = 0; i < f->place_count; i++)
        for (struct task *t = f->places[i]; t != NULL; t = t->same)
            if (can_join(t) && (f->joined == 0 || t->reader->lsn >= f->walk.lsn)) {
                more = true; /* it joins */
            } else if (t->joined &&
                       (tables_stream(&p->tables, t->stream) == NULL ||
                        t->reader->want <
                            reader_end_below(t->reader, reader_limit(p, f->walk.flags)))) {
                leave_walk(t);
                more = true;
            }
    return more;
}
