/* SPDX-License-Identifier: Apache-2.0
 *
 * A reader of several partitions: one ordinary reader for each, used in turn, and one wait for all.
 *
 * Between calls such a reader may be *watched*: its last call found nothing to read. The thread
 * that makes records readable then checks the reader's partitions, under the lock, and wakes its
 * thread or rings its descriptor, once. After that the reader is not watched until a call finds
 * nothing again. So readers of other partitions are not woken, and if no reader is watched, a
 * commit costs one comparison more.
 *
 * While a reader is not watched, its fields belong to its thread; while it is watched, the handle's
 * lock guards them.
 */
#include <assert.h>

#include "pipeline/engine.h"

#define FOLLOW_STEP_NS 10000000u /* interval at which a follower looks for new frames */

struct any_entry {
    uint32_t stream, partition;
    pawl_reader *reader;
};

struct pawl_any {
    uint32_t live; /* HANDLE_LIVE or HANDLE_ENDED */
    pawl *p;
    uint32_t flags;
    struct any_entry *entries;
    uint32_t count, cap;
    uint32_t turn;     /* the entry checked first */
    pawl_reader *last; /* the reader whose batch the caller may still use */
    int fd;            /* -1: not requested */
    bool rung;         /* the descriptor is readable */
    bool watched;
    bool asleep;  /* its thread is in event_sleep_for() */
    uint32_t bit; /* of that sleep */
    struct pawl_any *next;
};

static bool tail_too(const struct pawl_any *a) {
    return (a->flags & PAWL_READ_UNCOMMITTED) != 0;
}

/* Under the lock. */
static void watch(struct pawl_any *a, bool yes) {
    pawl *p = a->p;
    if (a->watched == yes)
        return;
    a->watched = yes;
    p->any_watched += yes ? 1u : UINT32_MAX;
    if (tail_too(a))
        p->any_watched_tail += yes ? 1u : UINT32_MAX;
}

/* Under the lock: the next entry in turn that has records or an error to return; NULL: none. */
static struct any_entry *ready_entry(const struct pawl_any *a) {
    for (uint32_t i = 0; i < a->count; i++) {
        struct any_entry *e = &a->entries[(a->turn + i) % a->count];
        if (reader_ready(e->reader))
            return e;
    }
    return NULL;
}

/* Under the lock. */
static void ring(struct pawl_any *a) {
    if (a->fd >= 0 && !a->rung)
        event_ring(a->fd);
    a->rung = a->fd >= 0;
}

bool any_may_read(const pawl *p) {
    return p->tables.watched_end > p->any_told || p->wal.failed != 0 || p->read_only;
}

void any_tell(pawl *p, bool appended) {
    uint32_t bits = 0;
    if (!appended)
        p->any_told = p->wal.durable;
    for (struct pawl_any *a = p->any; a != NULL; a = a->next) {
        if (!a->watched || (appended && !tail_too(a)) ||
            (p->wal.failed == 0 && ready_entry(a) == NULL))
            continue;
        watch(a, false);
        ring(a);
        if (a->asleep)
            bits |= a->bit;
    }
    if (bits == 0)
        return;
    atomic_fetch_add(&p->any_word, 1);
    event_wake_all(&p->any_word, bits);
}

/* Takes no lock, because a signal handler may call pawl_stop(). */
void any_stop(pawl *p) {
    atomic_fetch_add(&p->any_word, 1);
    event_wake_all(&p->any_word, UINT32_MAX);
}

static struct any_entry *find(const struct pawl_any *a, uint32_t stream, uint32_t partition) {
    for (uint32_t i = 0; i < a->count; i++)
        if (a->entries[i].stream == stream && a->entries[i].partition == partition)
            return &a->entries[i];
    return NULL;
}

/* Under the lock: checks a watched reader again after its entries changed. */
static void look_again(struct pawl_any *a) {
    if (a->watched && ready_entry(a) != NULL) {
        watch(a, false);
        ring(a);
    }
}

static int enter(pawl_any *a) {
    TRY(handle_live(a, "reader"));
    return engine_enter(a->p);
}

/* Under the lock: a reader has begun or ceased to read a partition. Commits that were appended
 * before it began may still become durable, so they count as commits of a watched one. A follower's
 * tables are loaded anew now and then; there every look at the log notifies. */
static void count_watcher(pawl *p, uint32_t stream, uint32_t partition, bool begun) {
    struct stream *s = p->read_only ? NULL : tables_stream(&p->tables, stream);
    if (s == NULL) /* or it was deleted */
        return;
    assert(partition < s->partitions && (begun || s->parts[partition].watchers != 0));
    s->parts[partition].watchers += begun ? 1u : UINT32_MAX;
    if (begun)
        p->tables.watched_end = p->wal.tail;
}

static int make_room(struct pawl_any *a) {
    if (a->count < a->cap)
        return 0;
    uint32_t want = a->cap == 0 ? 8 : a->cap * 2;
    void *q =
        mem_grow(&a->p->mem, a->entries, a->cap * sizeof *a->entries, want * sizeof *a->entries);
    if (q == NULL)
        return fail(PAWL_MEMORY, "no memory for a reader of %u partitions", want);
    a->entries = q;
    a->cap = want;
    return 0;
}

int pawl_any_add(pawl_any *a, const pawl_place *from) {
    if (from == NULL)
        return fail(PAWL_INVALID, "the place to read from is NULL");
    TRY(enter(a));
    int rc = find(a, from->stream, from->partition) != NULL
                 ? fail(PAWL_EXISTS, "partition %u of stream %u is being read already",
                        from->partition, from->stream)
                 : make_room(a);
    engine_leave(a->p);
    TRY(rc);
    pawl_reader *r;
    TRY(pawl_reader_open(a->p, from->stream, from->partition, from->offset, a->flags, &r));
    pthread_mutex_lock(&a->p->mutex);
    a->entries[a->count++] = (struct any_entry){from->stream, from->partition, r};
    count_watcher(a->p, from->stream, from->partition, true);
    look_again(a);
    engine_leave(a->p);
    return 0;
}

/* Under the lock; the caller closes the reader. */
static pawl_reader *take_out(struct pawl_any *a, struct any_entry *e) {
    pawl_reader *r = e->reader;
    uint32_t i = (uint32_t)(e - a->entries);
    count_watcher(a->p, e->stream, e->partition, false);
    a->last = a->last == r ? NULL : a->last;
    a->count--;
    memmove(e, e + 1, (a->count - i) * sizeof *e);
    if (a->turn > i)
        a->turn--;
    return r;
}

int pawl_any_remove(pawl_any *a, uint32_t stream, uint32_t partition) {
    TRY(enter(a));
    struct any_entry *e = find(a, stream, partition);
    pawl_reader *r = e != NULL ? take_out(a, e) : NULL;
    engine_leave(a->p);
    if (r == NULL)
        return fail(PAWL_NOT_FOUND, "partition %u of stream %u is not being read", partition,
                    stream);
    pawl_reader_close(r);
    return 0;
}

int pawl_any_open(pawl *p, const pawl_place *from, size_t count, uint32_t flags, pawl_any **out) {
    if (out == NULL || (from == NULL && count != 0))
        return fail(PAWL_INVALID, "places or result pointer is NULL");
    *out = NULL;
    TRY(engine_enter(p));
    struct pawl_any *a = mem_alloc(&p->mem, sizeof *a);
    if (a != NULL) {
        *a = (struct pawl_any){
            .live = HANDLE_LIVE, .p = p, .flags = flags, .fd = -1, .next = p->any};
        a->bit = 1u << p->any_opened++ % 32;
        p->any = a;
    }
    engine_leave(p);
    if (a == NULL)
        return fail(PAWL_MEMORY, "no memory for a reader");
    for (size_t i = 0; i < count; i++) {
        int rc = pawl_any_add(a, &from[i]);
        if (rc < 0) {
            pawl_error e;
            fail_copy(&e);
            pawl_any_close(a);
            return fail_again(&e);
        }
    }
    *out = a;
    return 0;
}

void pawl_any_close(pawl_any *a) {
    if (a == NULL || handle_live(a, "reader") < 0 || engine_check_fork(a->p) < 0)
        return;
    pawl *p = a->p;
    a->live = HANDLE_ENDED;
    pthread_mutex_lock(&p->mutex);
    watch(a, false);
    for (uint32_t i = 0; i < a->count; i++)
        count_watcher(p, a->entries[i].stream, a->entries[i].partition, false);
    struct pawl_any **at = &p->any;
    while (*at != a)
        at = &(*at)->next;
    *at = a->next;
    engine_leave(p);
    for (uint32_t i = 0; i < a->count; i++)
        pawl_reader_close(a->entries[i].reader);
    event_close(a->fd);
    mem_free(&p->mem, a->entries, a->cap * sizeof *a->entries);
    pthread_mutex_lock(&p->mutex);
    ended_keep(p, a, sizeof *a);
    engine_leave(p);
}

int pawl_any_seek(pawl_any *a, const pawl_place *to) {
    if (to == NULL)
        return fail(PAWL_INVALID, "the place to go to is NULL");
    TRY(enter(a));
    struct any_entry *e = find(a, to->stream, to->partition);
    watch(a, false); /* the reader changes without the lock */
    engine_leave(a->p);
    int rc = e != NULL ? pawl_reader_seek(e->reader, to->offset)
                       : fail(PAWL_NOT_FOUND, "partition %u of stream %u is not being read",
                              to->partition, to->stream);
    pthread_mutex_lock(&a->p->mutex);
    ring(a); /* the next call checks whether there are records */
    engine_leave(a->p);
    return rc;
}

uint64_t pawl_any_position(const pawl_any *a, uint32_t stream, uint32_t partition) {
    const struct any_entry *e = handle_live(a, "reader") == 0 ? find(a, stream, partition) : NULL;
    return e != NULL ? pawl_reader_position(e->reader) : PAWL_END;
}

int pawl_any_fd(pawl_any *a) {
    TRY(enter(a));
    if (a->p->read_only) { /* no thread of this process would ring it */
        engine_leave(a->p);
        return fail(PAWL_UNSUPPORTED, "a read-only handle has no event descriptor; use "
                                      "pawl_read_any() with a timeout");
    }
    if (a->fd < 0) {
        a->fd = event_open();
        ring(a);
    }
    int fd = a->fd;
    engine_leave(a->p);
    return fd >= 0 ? fd : fail(PAWL_UNSUPPORTED, "no event descriptor can be had");
}

/* Under the lock, released inside: waits when there is nothing to read. True: check again; false:
 * the deadline passed. */
static bool wait_for_any(struct pawl_any *a, uint64_t deadline) {
    pawl *p = a->p;
    if (p->no_thread && p->wal.in_flight != 0 && !p->leader) {
        engine_wait(p); /* no other thread may be there to complete the I/O */
        return true;
    }
    uint64_t now = deadline == UINT64_MAX ? 0 : engine_now(p),
             left = deadline == UINT64_MAX ? UINT64_MAX : deadline - now;
    if (deadline != UINT64_MAX && now >= deadline)
        return false;
    if (p->read_only) {
        engine_leave(p);
        p->io->ops->sleep(p->io, left < FOLLOW_STEP_NS ? left : FOLLOW_STEP_NS);
        pthread_mutex_lock(&p->mutex);
        return true;
    }
    uint32_t seen = atomic_load(&p->any_word);
    watch(a, true);
    a->asleep = true;
    if (!atomic_load(&p->stop)) {
        engine_leave(p);
        event_sleep_for(&p->any_word, seen, a->bit, left);
        pthread_mutex_lock(&p->mutex);
    }
    a->asleep = false;
    watch(a, false);
    return true;
}

/* Waits until an entry has something to read. 1: *index is its number; 0: the timeout passed; or an
 * error. */
static int wait_ready(struct pawl_any *a, int timeout_ms, uint32_t *index) {
    pawl *p = a->p;
    TRY(engine_enter(p));
    watch(a, false);
    uint64_t deadline = timeout_ms < 0 ? UINT64_MAX : engine_now(p);
    if (timeout_ms > 0)
        deadline += (uint64_t)timeout_ms * 1000000u;
    int rc = 0;
    struct any_entry *e;
    while ((e = ready_entry(a)) == NULL && rc == 0) {
        rc = p->read_only ? follow_refresh(p) : 0;
        if (rc > 0) {
            rc = 0;
            continue;
        }
        if (rc == 0 && atomic_load(&p->stop))
            rc = fail(PAWL_STOPPED, "stopped on request");
        else if (rc == 0 && p->wal.failed != 0)
            rc = wal_error(&p->wal);
        else if (rc == 0 && (timeout_ms == 0 || !wait_for_any(a, deadline)))
            break;
    }
    if (e != NULL) {
        *index = (uint32_t)(e - a->entries);
        a->turn = (*index + 1) % a->count;
        ring(a); /* it stays readable until a call finds nothing */
    } else if (rc == 0) {
        if (a->rung)
            event_clear(a->fd);
        a->rung = false;
        watch(a, a->fd >= 0);
    }
    engine_leave(p);
    return rc < 0 ? rc : e != NULL;
}

/* Ends the previous batch. A reader with no records left frees its memory when another reader's
 * turn comes: so idle partitions cost nothing. */
static void end_last(struct pawl_any *a, const pawl_reader *now) {
    pawl_reader *r = a->last;
    if (r == NULL)
        return;
    reader_unpin(r);
    if (r != now && !reader_pending(r))
        reader_rest(r);
    a->last = NULL;
}

/* If memory is short, the memory that the other readers keep may be enough. */
static void rest_all(struct pawl_any *a) {
    for (uint32_t i = 0; i < a->count; i++)
        reader_rest(a->entries[i].reader);
}

int pawl_read_any(pawl_any *a, size_t max, int timeout_ms, pawl_batch *batch, pawl_place *at) {
    TRY(handle_live(a, "reader"));
    if (batch == NULL)
        return fail(PAWL_INVALID, "the batch is NULL");
    memset(batch, 0, sizeof *batch);
    if (at != NULL)
        memset(at, 0, sizeof *at);
    for (uint32_t i = 0, tries = 0;; tries++) {
        int rc = wait_ready(a, timeout_ms, &i);
        if (rc <= 0) {
            end_last(a, NULL);
            return rc;
        }
        struct any_entry *e = &a->entries[i];
        end_last(a, e->reader);
        rc = pawl_read(e->reader, max, 0, batch);
        if (rc == PAWL_MEMORY) {
            rest_all(a);
            rc = pawl_read(e->reader, max, 0, batch);
        }
        a->last = e->reader;
        if (at != NULL)
            *at = (pawl_place){e->stream, e->partition, batch->from};
        if (rc == PAWL_NOT_FOUND) { /* permanent: reported once */
            pawl_error error;
            fail_copy(&error);
            return pawl_any_remove(a, e->stream, e->partition) < 0 ? rc : fail_again(&error);
        }
        if (rc != 0 || tries >= a->count)
            return rc;
    }
}
