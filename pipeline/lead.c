/* SPDX-License-Identifier: Apache-2.0
 *
 * Waiting for the device. One thread at a time waits, without the lock: the leader. It is the first
 * thread that needs durability, so a single committer has no hand-off to another thread. The
 * background thread leads when no other thread does.
 *
 * wal/pace.c decides when a group is submitted; this file reports events to it and carries out its
 * decisions.
 */
#include <assert.h>

#include "pipeline/engine.h"

#define FULL_LOOK_NS 100000000u /* another process may free space */

/* The time, if the group commit policy needs it for this event: reading the clock isn't free. */
static uint64_t time_for(const pawl *p, enum pace_event e) {
    return pace_needs_clock(&p->wal.pace, e) ? engine_now(p) : 0;
}

/* After the leader has returned from the device: submits the gathering group, unless the policy
 * holds it. A held group needs a background thread that submits it later. */
static void submit_next(pawl *p) {
    struct wal *w = &p->wal;
    enum pace_decision d = PACE_SUBMIT;
    if (!p->no_thread)
        d = pace_reaped(&w->pace, w->in_flight, time_for(p, PACE_REAPED));
    if (d == PACE_SUBMIT)
        wal_submit(w, false);
    else if (d == PACE_POKE)
        engine_poke(p);
}

void engine_lead(pawl *p) {
    UNSET struct seam_req *done[32];
    assert(!p->leader && p->wal.in_flight != 0);
    p->leader = true;
    engine_leave(p);
    int n = p->io->ops->reap(p->io, done, 32, true);
    pthread_mutex_lock(&p->mutex);
    assert(p->leader);
    p->leader = false;
    if (n < 0)
        wal_fail(&p->wal, -n, "reap", p->wal.durable);
    for (int i = 0; i < n; i++)
        wal_complete(&p->wal, done[i]);
    submit_next(p);
    engine_progress(p);
}

void engine_wait(pawl *p) {
    if (p->wal.in_flight != 0 && !p->leader) {
        engine_lead(p);
        /* The caller may have needed only room, and may not lead again. An asynchronous commit
         * appended meanwhile saw a leader, and woke no thread. */
        if (p->async_head != NULL && !p->no_thread)
            engine_poke(p);
    } else if (p->no_thread && !p->leader) {
        if (!engine_chore(p))
            /* another thread of the application may free memory */
            engine_wait_until(p, engine_now(p) + 1000000);
    } else {
        if (wal_wants_next(&p->wal))
            engine_ask_chores(p);
        if (!engine_did_due(p))
            pthread_cond_wait(&p->progress, &p->mutex);
    }
}

void engine_wait_space(pawl *p) {
    if (p->wal.in_flight != 0 || p->no_thread) {
        engine_wait(p);
        return;
    }
    /* space comes from retention: it looks now, and again after each progress (PAWL-11) */
    if (wal_wants_next(&p->wal) || (p->blocked == 0 && retention_is_set(p)))
        engine_ask_chores(p);
    p->blocked++;
    engine_wait_or_stop(p, engine_now(p) + FULL_LOOK_NS);
    p->blocked--;
}

/* A thread that stops leading wakes the background thread: later commits must not wait for a leader
 * that has left. */
static void hand_on(pawl *p, bool wanted) {
    if (wanted && !p->leader && !p->no_thread)
        engine_poke(p);
}

int engine_wait_durable(pawl *p, uint64_t lsn) {
    struct wal *w = &p->wal;
    assert(lsn <= w->tail); /* PAWL-1: the bytes waited for were appended */
    pace_sync_came(&w->pace, time_for(p, PACE_WAITER_CAME));
    while (w->durable < lsn) {
        if (w->failed != 0)
            return wal_error(w);
        wal_submit(w, false);
        if (w->durable < lsn && w->failed == 0)
            engine_wait(p);
    }
    hand_on(p, w->in_flight != 0 || w->gathering != NULL);
    return 0;
}

static bool answered(pawl *p, uint64_t lsn) {
    return atomic_load_explicit(&p->durable_lsn, memory_order_acquire) >= lsn || p->wal.failed != 0;
}

/* Yields the CPU a few times, if that is worth it. True: the commit is durable, or the log
 * failed. */
static bool answered_soon(pawl *p, uint64_t lsn) {
    struct pace_turns t = pace_yields(&p->wal.pace);
    if (t.count == 0)
        return false;
    uint64_t begun = engine_now(p);
    uint32_t turns = 0;
    for (; turns < t.count && !answered(p, lsn); turns++)
        event_yield();
    pace_yielded(&p->wal.pace, &t, turns, engine_now(p) - begun);
    return answered(p, lsn);
}

/* Without the lock: sleeps until everything below lsn is durable, or the log failed. There is a
 * leader, or the background thread was woken to lead. */
static void sleep_until(pawl *p, uint64_t lsn, uint32_t bit) {
    if (answered_soon(p, lsn))
        return;
    /* before this thread checks again: the thread that completes a group reads `sleepers` last */
    atomic_fetch_add(&p->sleepers, 1);
    for (;;) {
        uint32_t seen = atomic_load(&p->progress_count);
        if (answered(p, lsn))
            break;
        if (event_sleep(&p->progress_count, seen, bit) && atomic_load(&p->sleepers) > 1)
            event_wake(&p->progress_count, bit);
    }
    atomic_fetch_sub(&p->sleepers, 1);
}

int engine_commit_wait(pawl *p, uint64_t lsn) {
    struct wal *w = &p->wal;
    int rc = 0;
    uint32_t bit = 1u << w->number % 32;
    assert(lsn <= w->tail); /* PAWL-1: the bytes waited for were appended */
    pace_committer_came(&w->pace, time_for(p, PACE_WAITER_CAME));
    while (w->durable < lsn && rc == 0) {
        if (pace_committer_submits(&w->pace, w->in_flight))
            wal_submit(w, false);
        if (w->failed != 0) {
            rc = wal_error(w);
        } else if (p->no_thread || (w->in_flight != 0 && !p->leader)) {
            engine_wait(p);
        } else {
            engine_leave(p);
            sleep_until(p, lsn, bit);
            if (atomic_load_explicit(&p->durable_lsn, memory_order_acquire) >= lsn) {
                pace_committer_left(&w->pace);
                return 0;
            }
            pthread_mutex_lock(&p->mutex);
        }
    }
    pace_committer_left(&w->pace);
    hand_on(p, w->in_flight != 0 || (w->gathering != NULL && !pace_holds(&w->pace)) ||
                   pace_sleeps_long(&w->pace));
    engine_leave(p);
    return rc;
}

/* The time at which the idle witness is due, or UINT64_MAX. */
static uint64_t witness_at(const pawl *p) {
    const struct wal *w = &p->wal;
    if (p->witness_ns == 0 || w->failed != 0 || w->last_kind == FRAME_WITNESS ||
        w->last_kind == FRAME_CLOSE || w->state != WAL_RUNNING)
        return UINT64_MAX;
    return w->last_fresh_ns + p->witness_ns;
}

/* One round of the background thread; returns the time of the next one. */
static uint64_t background(pawl *p) {
    struct wal *w = &p->wal;
    if (!p->app_dispatch)
        engine_dispatch(p);
    wal_step(w);
    uint64_t at = witness_at(p), now = engine_now(p);
    if (pace_looked(&w->pace, w->gathering != NULL, w->in_flight, now) == PACE_SUBMIT)
        wal_submit(w, false);
    if (at <= now && wal_quiet(w) && wal_append_mark(w, FRAME_WITNESS) == 0)
        wal_submit(w, true);
    if (w->in_flight != 0 && !p->leader)
        return now; /* no thread waits for the device: this one must */
    at = witness_at(p);
    if (at < now)
        at = now + p->witness_ns / 4 + 1000000;
    uint64_t nap = pace_nap(&w->pace, p->commits, now);
    return nap < at ? nap : at;
}

static void *background_main(void *arg) {
    pawl *p = arg;
    pthread_mutex_lock(&p->mutex);
    while (!p->closing) {
        uint64_t at = background(p);
        if (p->closing)
            break;
        if (p->wal.in_flight != 0 && !p->leader) {
            engine_lead(p);
            continue;
        }
        /* If another thread runs callbacks, it runs all of them, and needs the lock: this thread
         * must not keep it. */
        if (p->ready_head != NULL && !p->app_dispatch && !p->dispatching)
            continue;
        if (engine_did_due(p))
            continue;
        pace_sleeps(&p->wal.pace, at);
        engine_sleep(p, &p->work, at);
        pace_wakes(&p->wal.pace);
    }
    engine_leave(p);
    return NULL;
}

int engine_start_threads(pawl *p) {
    if (p->no_thread || p->read_only)
        return 0;
    pthread_mutex_lock(&p->mutex);
    p->bg_running = pthread_create(&p->bg, NULL, background_main, p) == 0;
    p->chores_running =
        p->bg_running && pthread_create(&p->maintenance, NULL, engine_maintenance, p) == 0;
    bool both = p->chores_running;
    engine_leave(p);
    return both ? 0 : fail(PAWL_MEMORY, "cannot start the threads of the handle");
}

void engine_stop_threads(pawl *p) {
    pthread_mutex_lock(&p->mutex);
    p->closing = true;
    pthread_cond_broadcast(&p->work);
    pthread_cond_broadcast(&p->chores);
    engine_tell(p);
    engine_leave(p);
    if (p->bg_running)
        pthread_join(p->bg, NULL);
    if (p->chores_running)
        pthread_join(p->maintenance, NULL);
    p->bg_running = p->chores_running = false;
}

int pawl_tick(pawl *p) {
    TRY(engine_enter(p));
    int ms = 1000;
    if (p->no_thread && !p->read_only) {
        uint64_t at = background(p), now = engine_now(p);
        while (p->wal.in_flight != 0 && !p->leader)
            engine_lead(p);
        engine_chore(p);
        notice_tell(p);
        if (!p->app_dispatch)
            engine_dispatch(p);
        if (at != UINT64_MAX && at > now && (at - now) / 1000000 < 1000)
            ms = (int)((at - now) / 1000000) + 1;
    }
    engine_leave(p);
    return ms;
}

int pawl_sync(pawl *p) {
    TRY(engine_enter(p));
    int rc = p->read_only ? 0 : engine_wait_durable(p, p->wal.tail);
    /* the log may have failed with nothing in flight: the caller must still get the error
     * (PAWL-7) */
    if (rc == 0 && p->wal.failed != 0)
        rc = wal_error(&p->wal);
    engine_leave(p);
    return engine_answer(p, rc);
}
