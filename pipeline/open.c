/* SPDX-License-Identifier: Apache-2.0
 *
 * Opening and closing. Order matters: lock, find and verify the tail, make it durable, begin the
 * new incarnation durably, and only then allow appends and reads.
 */
#include <errno.h>
#include <stdlib.h>

#include "pipeline/engine.h"
#include "pipeline/savepoint.h"
#include "pipeline/struct_size.h"

#define MEMORY_DEFAULT (32ull * MIB)
#define MEMORY_MIN (2ull * MIB)

static int hook_checkpoint(void *ctx, struct bytes *body, struct run *runs, uint32_t *count,
                           struct c_ids *ids) {
    pawl *p = ctx;
    *ids = tables_next_ids(&p->tables);
    return tables_checkpoint(&p->tables, body, runs, count);
}

static int hook_index(void *ctx, struct bytes *body, size_t max) {
    pawl *p = ctx;
    for (uint32_t i = 0; i < p->index_count && body->len + INDEX_ENTRY_SIZE <= max; i++)
        index_encode(body, &p->index[i]);
    return body->failed ? fail(PAWL_MEMORY, "no memory for a segment's index") : 0;
}

static void hook_begun(void *ctx, uint64_t index) {
    pawl *p = ctx;
    (void)index;
    engine_begin_segment(p);
    if (!p->no_thread)
        engine_ask_chores(p);
}

struct wal_hooks engine_hooks(pawl *p) {
    return (struct wal_hooks){hook_checkpoint, hook_index, hook_begun, p, p->points};
}

static int on_frame(void *ctx, const struct frame_header *h, const uint8_t *frame,
                    bool after_lost) {
    return engine_apply(ctx, h, frame, after_lost);
}

static int check_options(const pawl_options *o) {
    if (o->segment_size != 0 &&
        (o->segment_size < MIB || o->segment_size > 4096ull * MIB || o->segment_size % MIB != 0))
        return fail(PAWL_INVALID,
                    "the segment size must be a multiple of 1 MiB from 1 MiB to 4 GiB");
    uint64_t segment = o->segment_size != 0 ? o->segment_size : 64ull * MIB;
    if (o->disk_cap != 0 && o->disk_cap < 4 * segment)
        return fail(PAWL_INVALID, "the disk cap must be at least four segments (%llu bytes)",
                    (unsigned long long)(4 * segment));
    if (o->memory_cap != 0 && o->memory_cap < MEMORY_MIN)
        return fail(PAWL_INVALID, "the memory cap must be at least 2 MiB");
    if ((o->flags & PAWL_OPEN_READ) != 0 && (o->flags & PAWL_OPEN_CREATE) != 0)
        return fail(PAWL_INVALID, "a log can't be created read-only");
    if (o->backend < 0 || o->backend > 2 || o->direct < 0 || o->direct > 2)
        return fail(PAWL_INVALID, "backend or direct is out of range");
    return 0;
}

int open_error(int rc, const char *dir, bool create) {
    if (rc == -EOPNOTSUPP)
        return fail(PAWL_UNSUPPORTED,
                    "the backend or O_DIRECT that was asked for is not available here");
    if (rc == -ENOENT || rc == -ENOTDIR || rc == -ELOOP)
        return fail_at(PAWL_NOT_A_LOG, -rc, "open", "", NO_LSN, "%s is not a Pawl log: %s", dir,
                       rc == -ENOENT && create ? "make the directory above it first"
                       : rc == -ENOENT ? "there is no such directory; create one with 'pawl init'"
                       : rc == -ENOTDIR
                           ? "it is not a directory"
                           : "symbolic links are not followed; name the directory itself");
    return fail_sys(rc, "open", NULL, NO_LSN);
}

static int init_sync(pawl *p) {
    pthread_condattr_t a;
    pthread_mutexattr_t m;
    int rc = pthread_mutexattr_init(&m);
    /* The lock is mostly held for less time than a sleep and a wake-up take. */
    rc |= pthread_mutexattr_settype(&m, PTHREAD_MUTEX_ADAPTIVE_NP);
    rc |= pthread_mutex_init(&p->mutex, &m);
    pthread_mutexattr_destroy(&m);
    rc |= pthread_mutex_init(&p->spill_mutex, NULL);
    rc |= pthread_condattr_init(&a);
    rc |= pthread_condattr_setclock(&a, CLOCK_MONOTONIC);
    rc |= pthread_cond_init(&p->progress, &a);
    rc |= pthread_cond_init(&p->work, &a);
    rc |= pthread_cond_init(&p->chores, &a);
    pthread_condattr_destroy(&a);
    return rc != 0 ? fail(PAWL_MEMORY, "cannot make locks") : 0;
}

static void destroy(pawl *p) {
    engine_free_processors(p);
    ended_free(p);
    tx_pool_drain(p);
    wal_free(&p->wal);
    follow_close(p);
    state_free(p);
    tables_free(&p->tables);
    mem_free(&p->mem, p->index, p->index_cap * sizeof *p->index);
    async_free(p);
    event_close(p->event_fd);
    readahead_drop(&p->readahead);
    mem_drop_kept(&p->mem);
    if (p->io != NULL)
        p->io->ops->destroy(p->io);
    pthread_cond_destroy(&p->progress);
    pthread_cond_destroy(&p->work);
    pthread_cond_destroy(&p->chores);
    pthread_mutex_destroy(&p->spill_mutex);
    pthread_mutex_destroy(&p->mutex);
    free(p);
}

static int take_lock(pawl *p, const pawl_options *o) {
    int pid = 0;
    uint64_t wait = (o->lock_wait_ms == 0 ? 250 : o->lock_wait_ms) * 1000000ull;
    int rc = p->io->ops->lock(p->io, wait, &pid);
    if (rc == -EWOULDBLOCK)
        return fail_at(
            PAWL_LOCKED, -rc, "flock", "lock", NO_LSN,
            "another writer (pid %d) has this log open; stop it, or open the log read-only", pid);
    return rc < 0 ? fail_sys(rc, "flock", "lock", NO_LSN) : 0;
}

/* The error for no room for a segment: suggests a segment size of which the free space holds
 * four. */
static int no_room(pawl *p, uint64_t size) {
    uint64_t room = 0, fits = 4096ull * MIB; /* the largest */
    if (p->io->ops->free_space(p->io, &room) < 0)
        room = 0;
    while (fits >= MIB && fits > room / 4)
        fits /= 2;
    if (fits < MIB || fits >= size)
        return fail_at(PAWL_FULL, ENOSPC, "create", NULL, 0,
                       "no room to make a log: a segment takes %llu MiB; free space on this file "
                       "system, or raise the quota",
                       (unsigned long long)(size / MIB));
    return fail_at(PAWL_FULL, ENOSPC, "create", NULL, 0,
                   "no room to make a log: a segment takes %llu MiB, and %llu MiB are free; make "
                   "it with segments of %llu MiB (segment_size; pawl init --segment-size %lluM), "
                   "or free space on this file system",
                   (unsigned long long)(size / MIB), (unsigned long long)(room / MIB),
                   (unsigned long long)(fits / MIB), (unsigned long long)(fits / MIB));
}

/* Finds the log's extent; if there is no log, creates one if the options request it. */
static int find_or_create(pawl *p, const pawl_options *o, struct log_extent *x) {
    int rc = log_extent_find(p->io, &p->mem, true, x);
    if ((o->flags & PAWL_OPEN_CREATE) == 0)
        return rc;
    if (rc == 0 && (o->flags & PAWL_OPEN_EXCLUSIVE) != 0)
        return fail(PAWL_EXISTS, "there is a log in this directory already");
    if (rc != PAWL_NOT_A_LOG)
        return rc;
    uint64_t size = o->segment_size != 0 ? o->segment_size : 64ull * MIB;
    rc = wal_create(p->io, &p->mem, &p->points, size, o->disk_cap);
    if (rc < 0)
        return rc == PAWL_FULL ? no_room(p, size) : rc;
    return log_extent_find(p->io, &p->mem, true, x);
}

/* The size above which a transaction spills: less than a write buffer, and than its share of frame
 * and memory. */
static uint64_t spill_at(const pawl *p) {
    uint64_t n = wal_payload_max(&p->wal) / 2, by_memory = p->mem.cap / 16,
             by_group = p->wal.group_size - 4096;
    n = n < by_memory ? n : by_memory;
    return n < by_group ? n : by_group;
}

/* Writes the new incarnation's record and waits until it is durable (PAWL-8: before anything is
 * accepted or shown). */
static int begin_incarnation(pawl *p, const struct wal_start *start) {
    struct wal_hooks hooks = engine_hooks(p);
    uint64_t buffers = p->mem.cap >= 16u * MIB ? p->mem.cap / 2 : p->mem.cap / 8 * 3;
    TRY(wal_init(&p->wal, p->io, &p->mem, &hooks, start, buffers));
    p->record_max = wal_payload_max(&p->wal) - 4096;
    p->spill_bytes = spill_at(p);
    pthread_mutex_lock(&p->mutex);
    int rc = 0;
    wal_submit(&p->wal, true);
    while (rc == 0 && p->wal.in_flight != 0) {
        engine_wait(p);
        rc = p->wal.failed != 0 ? wal_error(&p->wal) : 0;
    }
    engine_leave(p);
    if (rc == 0 && !p->wal.needs_open)
        point(&p->points, "incarnation-durable");
    return rc;
}

int engine_may_write(const struct tables *t, const struct segment_header *h, uint64_t epoch) {
    TRY(limit_check(LIMIT_INCARNATIONS, epoch));
    TRY(limit_check(LIMIT_LSN, (h->index + 3) * h->segment_size));
    TRY(limit_disk_cap(t->disk_cap_set ? t->disk_cap : h->disk_cap, h->segment_size));
    return tables_fit(t);
}

/* A savepoint stays as it was made. */
int open_no_savepoint(struct seam *io) {
    int there = save_text_there(io);
    return there <= 0 ? there
                      : fail_at(PAWL_READ_ONLY, 0, "open", SAVE_TEXT, NO_LSN,
                                "this is a savepoint, and nothing is written to it: make a log of "
                                "it with 'pawl restore' or 'pawl fork', or open it read-only");
}

static int open_writer(pawl *p, const pawl_options *o) {
    TRY(take_lock(p, o));
    TRY(open_no_savepoint(p->io));
    TRY(replay_sync(p->io, &p->mem, NULL));
    point(&p->points, "recovery-synced");
    struct replay r = {on_frame, p, o->progress, o->progress_arg};
    struct recovered out;
    struct log_extent x; /* the index needs the segment size before the first frame */
    TRY(find_or_create(p, o, &x));
    tables_init(&p->tables, &p->mem, x.newest.segment_size);
    TRY(state_init(p));
    int rc = replay_log(p->io, &p->mem, REPLAY_WRITE, &x, &r, &out);
    if (rc < 0)
        return rc;
    point(&p->points, "recovery-scanned");
    TRY(engine_may_write(&p->tables, &out.header, out.start.epoch));
    p->header = out.header;
    p->wal.first_segment = out.start.first_segment;
    TRY(state_recover(p, out.start.segment));
    p->clean = out.clean;
    p->recovered_bytes = out.scanned;
    p->cut_bytes = out.cut;
    p->notice.copied = out.copied;
    if (p->tables.disk_cap_set)
        out.start.disk_cap = p->tables.disk_cap;
    lost_at_end(&p->tables);
    out.start.counts = p->tables.counts;
    out.start.age = p->tables.age;
    struct seam_clock now;
    p->io->ops->clocks(p->io, &now);
    (void)age_passed(&out.start.age, &now, &p->age_case);
    return begin_incarnation(p, &out.start);
}

static void reclaim(void *ctx) {
    pawl *p = ctx;
    readahead_drop(&p->readahead);
    tx_pool_drain(p);
    struct run_cache *blocks = atomic_load(&p->store.cache);
    if (blocks != NULL)
        run_cache_shrink(blocks, 0);
}

static pawl *new_handle(const pawl_options *o) {
    pawl *p = calloc(1, sizeof *p);
    if (p == NULL)
        return NULL;
    mem_init(&p->mem, o->memory_cap != 0 ? o->memory_cap : MEMORY_DEFAULT);
    p->mem.keeps = true;
    p->mem.reclaim = reclaim;
    p->mem.reclaim_ctx = p;
    p->fork_generation = engine_fork_generation();
    p->read_only = (o->flags & PAWL_OPEN_READ) != 0;
    p->salvage = (o->flags & PAWL_OPEN_SALVAGE) != 0;
    p->no_thread = o->no_thread != 0;
    p->app_dispatch = o->app_dispatch != 0;
    p->block_when_full = o->block_when_full != 0;
    p->witness_ns =
        o->witness_ms == UINT32_MAX ? 0 : (o->witness_ms == 0 ? 50 : o->witness_ms) * 1000000ull;
    p->points = (struct points){o->on_point, o->on_point_arg};
    p->notice.fn = o->log;
    p->notice.arg = o->log_arg;
    p->event_fd = -1;
    atomic_flag_clear(&p->tx_pool_busy);
    p->wal.file = p->wal.next_file = p->wal.spare_file = -1;
    p->follow.front_file = p->follow.apply_file = -1;
    if (init_sync(p) != 0) {
        free(p);
        return NULL;
    }
    return p;
}

static int open_it(pawl *p, const char *dir, const pawl_options *o) {
    if (dir != NULL) {
        int rc =
            seam_create(dir, (o->flags & PAWL_OPEN_CREATE) != 0, o->backend, o->direct, &p->io);
        if (rc < 0) {
            p->io = NULL;
            return open_error(rc, dir, (o->flags & PAWL_OPEN_CREATE) != 0);
        }
    }
    uint64_t began = engine_now(p);
    if (p->read_only)
        TRY(follow_open(p));
    else
        TRY(open_writer(p, o));
    p->recovery_ns = engine_now(p) - began;
    notice_opened(p, o);
    return engine_start_threads(p);
}

/* Exactly one of dir and io is given. */
static int open_on(const char *dir, struct seam *io, const pawl_options *o, pawl **out) {
    pawl *p = new_handle(o);
    if (p == NULL) {
        if (io != NULL)
            io->ops->destroy(io);
        return fail(PAWL_MEMORY, "no memory for a handle");
    }
    p->io = io;
    int rc = open_it(p, dir, o);
    if (rc < 0) {
        pawl_error e;
        fail_copy(&e);
        engine_stop_threads(p);
        destroy(p);
        return fail_again(&e);
    }
    *out = p;
    return 0;
}

int engine_open(struct seam *io, const pawl_options *o, pawl **out) {
    fail_clear();
    return open_on(NULL, io, o, out);
}

int pawl_open(const char *dir, const pawl_options *o, pawl **out, pawl_error *err) {
    pawl_options own = PAWL_OPTIONS_INIT;
    int saved = errno;
    fail_clear();
    if (out != NULL)
        *out = NULL;
    int rc = dir == NULL || out == NULL ? fail(PAWL_INVALID, "directory or result pointer is NULL")
             : o != NULL ? pawl_struct_take(&own, sizeof own, o, OPTIONS_FIRST, "pawl_options")
                         : 0;
    if (rc == 0)
        rc = check_options(&own);
    if (rc == 0)
        rc = open_on(dir, NULL, &own, out);
    if (err != NULL)
        fail_copy(err);
    errno = saved;
    return rc;
}

/* Makes everything durable, then appends the record that says so. */
static int close_writer(pawl *p) {
    pthread_mutex_lock(&p->mutex);
    state_close(p);
    int rc = engine_wait_durable(p, p->wal.tail);
    while (rc == 0 && p->wal.state == WAL_BEGINNING)
        engine_wait(p);
    int mark = rc;
    /* If there is no memory to begin a segment, the log ends without the mark: everything is
     * durable, and no other thread could free memory. */
    while (rc == 0 && (mark = wal_append_mark(&p->wal, FRAME_CLOSE)) == WAL_WAIT &&
           p->wal.state != WAL_RUNNING && !p->wal.starved)
        while (rc == 0 && p->wal.state != WAL_RUNNING && !p->wal.starved) {
            engine_wait(p);
            rc = p->wal.failed != 0 ? wal_error(&p->wal) : 0;
        }
    if (rc == 0 && mark == 0)
        rc = engine_wait_durable(p, p->wal.tail);
    else if (rc == 0 && p->wal.failed != 0) /* only the mark is not durable: PAWL-7 still applies */
        rc = wal_error(&p->wal);
    while (p->wal.in_flight != 0 && !p->leader)
        engine_wait(p);
    engine_progress(p);
    engine_dispatch(p);
    engine_leave(p);
    return rc;
}

/* PAWL_BUSY if an object of the handle is in use. Frees the tasks that the last pawl_run() kept. */
static int close_allowed(pawl *p) {
    pthread_mutex_lock(&p->mutex);
    bool running = p->running;
    engine_leave(p);
    if (running)
        return fail(PAWL_BUSY, "pawl_run() runs: stop it and wait until it has returned");
    engine_forget_tasks(p);
    return ended_all(p);
}

int pawl_close(pawl *p) {
    if (p == NULL)
        return 0;
    int saved = errno;
    TRY(engine_check_fork(p));
    TRY(close_allowed(p));
    point(&p->points, "close-begun");
    int rc = p->read_only ? 0 : close_writer(p);
    if (rc == 0)
        point(&p->points, "close-durable");
    pawl_error e;
    fail_copy(&e);
    engine_stop_threads(p);
    if (!p->read_only) {
        pthread_mutex_lock(&p->mutex);
        /* the maintenance thread may have begun a segment meanwhile */
        while (p->wal.in_flight != 0)
            engine_wait(p);
        notice_tell(p);
        engine_leave(p);
        p->io->ops->unlock(p->io);
    }
    destroy(p);
    if (rc < 0)
        fail_again(&e);
    errno = saved;
    return rc;
}
