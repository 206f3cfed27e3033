/* SPDX-License-Identifier: Apache-2.0
 *
 * The handle's lock: the check at the start of every public call, the work after the lock is
 * released, and how threads wait under the lock and are woken.
 */
#include <assert.h>
#include <errno.h>
#include <time.h>

#include "pipeline/engine.h"

_Atomic uint64_t engine_generation = 1;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void in_child(void) {
    atomic_fetch_add(&engine_generation, 1);
}

static void install(void) {
    pthread_atfork(NULL, NULL, in_child);
}

uint64_t engine_fork_generation(void) {
    pthread_once(&once, install);
    return atomic_load(&engine_generation);
}

int engine_check_fork(const pawl *p) {
    if (p->fork_generation != atomic_load_explicit(&engine_generation, memory_order_relaxed))
        return fail(PAWL_FORKED,
                    "this handle belongs to the parent process; open the log anew after fork()");
    return 0;
}

int engine_enter(pawl *p) {
    if (p == NULL)
        return fail(PAWL_INVALID, "the handle is NULL");
    TRY(engine_check_fork(p));
    pthread_mutex_lock(&p->mutex);
    return 0;
}

int engine_refuse(pawl *p) {
    TRY(engine_check_fork(p));
    pthread_mutex_lock(&p->mutex); /* the lock guards the error */
    int rc =
        p->read_only ? fail(PAWL_READ_ONLY, "the log was opened read-only") : wal_error(&p->wal);
    engine_leave(p);
    return rc;
}

int engine_enter_writer(pawl *p) {
    TRY(engine_enter(p));
    if (!p->read_only && p->wal.failed == 0)
        return 0;
    engine_leave(p);
    return engine_refuse(p);
}

uint64_t engine_now(const pawl *p) {
    return p->io->ops->now(p->io);
}

int engine_keep_error(pawl *p, int rc) {
    pawl_error e;
    fail_copy(&e);
    if (rc == PAWL_FORKED) /* the lock may be held by a thread that is not in this process */
        return rc;
    pthread_mutex_lock(&p->mutex);
    p->last_error = e;
    engine_leave(p);
    return fail_again(&e);
}

int pawl_error_of(pawl *p, pawl_error *out) {
    if (out == NULL)
        return fail(PAWL_INVALID, "result pointer is NULL");
    TRY(engine_enter(p));
    *out = p->wal.failed != 0 ? p->wal.error : p->last_error;
    if (out->code == 0)
        out->lsn = NO_LSN;
    engine_leave(p);
    return 0;
}

void engine_poke(pawl *p) {
    pthread_cond_signal(&p->work);
}

void engine_ask_chores(pawl *p) {
    p->chores_asked = true;
    p->chores_wait = false;
    pthread_cond_signal(&p->chores);
}

void engine_after(pawl *p, bool kick, uint32_t wake, uint32_t workers) {
    int rc = kick ? p->io->ops->kick(p->io) : 0;
    if (wake != 0)
        event_wake(&p->progress_count, wake);
    if (workers != 0)
        work_wake(p, workers);
    if (rc >= 0)
        return;
    pthread_mutex_lock(&p->mutex);
    wal_fail(&p->wal, -rc, "submit", p->wal.durable);
    engine_progress(p);
    engine_leave(p);
}

void engine_progress(pawl *p) {
    assert(!p->read_only); /* PAWL-16: it asks what a writer's log needs next */
    async_due(p);
    engine_ring(p);
    if (p->any_watched != 0 && any_may_read(p))
        any_tell(p, false);
    assert(p->wal.durable >=
           atomic_load_explicit(&p->durable_lsn, memory_order_relaxed)); /* PAWL-1 */
    atomic_store_explicit(&p->durable_lsn, p->wal.durable, memory_order_release);
    atomic_fetch_add(&p->progress_count, 1);
    if (atomic_load(&p->sleepers) != 0)
        p->wake_due |= p->wal.failed != 0 ? UINT32_MAX : p->wal.done_mask;
    p->wal.done_mask = 0;
    engine_tell(p);
    if (p->wal.failed != 0)
        work_wake_all(p);
    else
        work_durable(p);
    if (p->read_only) /* it has no segment of its own */
        return;
    if (p->chores_wait || wal_wants_next(&p->wal) || wal_wants_zeros(&p->wal) || notice_due(p) ||
        (p->blocked != 0 && retention_is_set(p)))
        engine_ask_chores(p);
}

void engine_tell(pawl *p) {
    pthread_cond_broadcast(&p->progress);
    if (p->stoppable != 0)
        engine_tell_stop(p);
}

void engine_tell_appended(pawl *p) {
    if (p->todo.tail_readers != 0)
        engine_tell(p);
}

void engine_tell_stop(pawl *p) {
    atomic_fetch_add(&p->stop_word, 1);
    event_wake_all(&p->stop_word, UINT32_MAX);
}

/* The deadline is in the seam's time, but the condition uses the system's clock. */
bool engine_sleep(pawl *p, pthread_cond_t *cond, uint64_t deadline) {
    if (deadline == UINT64_MAX)
        return pthread_cond_wait(cond, &p->mutex) == 0;
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    uint64_t now = engine_now(p), left = deadline > now ? deadline - now : 0;
    uint64_t ns = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec + left;
    t = (struct timespec){(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
    return pthread_cond_timedwait(cond, &p->mutex, &t) != ETIMEDOUT;
}

bool engine_sleep_on(pawl *p, _Atomic uint32_t *word, uint64_t deadline) {
    uint64_t left = UINT64_MAX;
    if (deadline != UINT64_MAX) {
        uint64_t now = engine_now(p);
        if (now >= deadline)
            return false;
        left = deadline - now;
    }
    uint32_t seen = atomic_load(word);
    if (!atomic_load(&p->stop)) {
        engine_leave(p);
        event_sleep_for(word, seen, UINT32_MAX, left);
        pthread_mutex_lock(&p->mutex);
    }
    return true;
}

bool engine_wait_or_stop(pawl *p, uint64_t deadline) {
    if (engine_did_due(p))
        return true;
    p->stoppable++;
    bool in_time = engine_sleep_on(p, &p->stop_word, deadline);
    p->stoppable--;
    return in_time;
}

bool engine_wait_until(pawl *p, uint64_t deadline) {
    if (engine_did_due(p))
        return true;
    return engine_sleep(p, &p->progress, deadline);
}
