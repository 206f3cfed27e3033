/* SPDX-License-Identifier: Apache-2.0
 *
 * Who waits for the device. One thread at a time does, with the lock released: the leader. It is
 * whoever needs durability first, so that a lone committer has no hand-off to another thread. The
 * background thread leads when nobody else does.
 */
#include "pipeline/engine.h"

#define FOLLOW_NS 250000u /* a waiter comes soon if it comes within that */
#define FOLLOWED_MANY 4
#define COMPANY_NS 150000u /* so long a group waits for the next of those who are expected in it */
#define COMPANY_MAX 16u
#define YIELD_FROM 8u
#define YIELDS 10
/* of each who waits; it is 1 to 2 us where nobody else wants the processors */
#define TURN_LONG_NS 10000u
#define CROWDED 1000 /* commits */
/* completions without waiting, after it was in vain; doubled each time */
#define ALONE_MIN 4u
#define ALONE_MAX 1024u
#define STOP_LOOK_NS 100000000u /* pawl_stop() rings no bell */

/* The background thread looks when hold_until is over, at the latest. */
static void keep_time(pawl *p) {
    if (p->bg_wakes_at > p->hold_until + FOLLOW_NS)
        engine_poke(p);
}

/* Who appends input, processes it and waits for the output needs one flush for both. So where
 * nobody waits for the device the background thread is asked to hand over what has gathered by the
 * time it wakes up; and where a waiter came soon after, several times in a row, it is not even
 * asked, but takes naps and looks by itself. When nobody came by then, that commit has waited
 * FOLLOW_NS in vain, and from then on the thread is asked at once again. */
void engine_async_came(pawl *p) {
    if (p->leader || p->no_thread)
        return;
    if (p->async_since == 0)
        p->async_since = engine_now(p);
    if (p->followed >= FOLLOWED_MANY && p->wal.in_flight == 0) {
        p->hold_until = p->async_since + FOLLOW_NS;
        keep_time(p);
    } else {
        engine_poke(p);
    }
}

/* Many who commit again and again, each waiting for its own: a group completes, its committers are
 * woken, and would find the next group, of the others, just gone. So the next one is held until all
 * are in it who waited when the last one was done, or until none came for a while. */
static bool hold_for_company(pawl *p) {
    uint32_t waiting = atomic_load(&p->waiting);
    if (waiting < 2)
        p->wal.company = 0;
    if (waiting < 2 || p->wal.in_flight != 0 || p->no_thread)
        return false;
    /* it takes as long until all are there as the device takes for a write: two groups by turns */
    if (waiting > COMPANY_MAX) {
        p->wal.company = waiting;
        return false;
    }
    if (p->alone != 0) {
        p->alone--;
        return false;
    }
    p->expected = waiting;
    p->hold_until = engine_now(p) + COMPANY_NS;
    keep_time(p);
    return true;
}

/* One more committer is in the gathering group. */
static void one_more(pawl *p) {
    if (p->gathered_in != p->wal.groups_written)
        p->gathered = 0;
    p->gathered_in = p->wal.groups_written;
    p->gathered++;
    if (p->expected == 0)
        return;
    if (p->gathered < p->expected) {
        p->hold_until = engine_now(p) + COMPANY_NS;
        return;
    }
    p->wal.company = p->expected;
    p->alone_next = ALONE_MIN;
    p->expected = 0;
    p->hold_until = 0;
}

static void nobody_came(pawl *p) {
    if (p->expected == 0) {
        p->followed = 0;
    } else {
        p->wal.company = 0;
        p->alone = p->alone_next = p->alone_next < ALONE_MIN   ? ALONE_MIN
                                   : p->alone_next < ALONE_MAX ? 2 * p->alone_next
                                                               : ALONE_MAX;
    }
}

/* Somebody is about to wait for all that was appended. */
static void waiter_came(pawl *p) {
    if (p->async_since == 0)
        return;
    bool soon = engine_now(p) - p->async_since < FOLLOW_NS;
    p->followed = !soon ? 0 : p->followed < FOLLOWED_MANY ? p->followed + 1 : FOLLOWED_MANY;
    p->async_since = 0;
    if (p->expected == 0)
        p->hold_until = 0;
}

/* Whether what has gathered is left to somebody who will come. */
static bool held(pawl *p, uint64_t now) {
    if (p->hold_until == 0)
        return false;
    if (p->wal.gathering != NULL && p->wal.in_flight == 0 && now < p->hold_until)
        return true;
    if (p->wal.gathering != NULL)
        nobody_came(p);
    p->hold_until = p->async_since = p->expected = 0;
    return false;
}

/* Waits for the device once, as the leader. */
void engine_lead(pawl *p) {
    struct seam_req *done[32];
    p->leader = true;
    engine_leave(p);
    int n = p->io->ops->reap(p->io, done, 32, true);
    pthread_mutex_lock(&p->mutex);
    p->leader = false;
    if (n < 0)
        wal_fail(&p->wal, -n, "reap", p->wal.durable);
    for (int i = 0; i < n; i++)
        wal_complete(&p->wal, done[i]);
    if (!hold_for_company(p))
        wal_flush(&p->wal, false);
    engine_progress(p);
}

void engine_wait(pawl *p) {
    if (p->wal.in_flight != 0 && !p->leader) {
        engine_lead(p);
        /* The caller may not want durability but room, and go away: whoever committed
         * asynchronously meanwhile saw a leader. */
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
    if (wal_wants_next(&p->wal))
        engine_ask_chores(p);
    engine_wait_until(p, engine_now(p) + STOP_LOOK_NS);
}

int engine_wait_durable(pawl *p, uint64_t lsn) {
    waiter_came(p);
    p->hold_until = p->expected = 0;
    while (p->wal.durable < lsn) {
        if (p->wal.failed != 0)
            return wal_error(&p->wal);
        wal_flush(&p->wal, false);
        if (p->wal.durable < lsn && p->wal.failed == 0)
            engine_wait(p);
    }
    /* Who comes late must not wait for a leader that left: hand the device on. */
    if ((p->wal.in_flight != 0 || p->wal.gathering != NULL) && !p->leader && !p->no_thread)
        engine_poke(p);
    return 0;
}

static bool answered(pawl *p, uint64_t lsn) {
    return atomic_load_explicit(&p->durable_lsn, memory_order_acquire) >= lsn || p->wal.failed != 0;
}

/* Where many wait for the device, it is done by the time each of them has had the processor a few
 * times: then nobody was put to sleep and woken up. Few would only keep the processors busy for
 * nothing; and where others have work for the processors they take a whole slice of time for each
 * turn that is yielded, which a sleeper who is woken doesn't let them: then nobody yields for a
 * while. */
static bool answered_soon(pawl *p, uint64_t lsn) {
    uint32_t waiting = atomic_load_explicit(&p->waiting, memory_order_relaxed);
    if (waiting <= YIELD_FROM)
        return false;
    if (atomic_load_explicit(&p->crowded, memory_order_relaxed) > 0) {
        atomic_fetch_sub_explicit(&p->crowded, 1, memory_order_relaxed);
        return false;
    }
    uint64_t begun = engine_now(p), turns = 0;
    for (; turns < YIELDS && !answered(p, lsn); turns++)
        event_yield();
    if (engine_now(p) - begun > turns * waiting * TURN_LONG_NS)
        atomic_store_explicit(&p->crowded, CROWDED, memory_order_relaxed);
    return answered(p, lsn);
}

/* Without the lock: until everything below lsn is durable, or the log failed. Somebody leads, or
 * the background thread was asked to. */
static void sleep_until(pawl *p, uint64_t lsn, uint32_t bit) {
    if (answered_soon(p, lsn))
        return;
    /* before it looks once more: who completes looks at this last */
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
    int rc = 0;
    uint32_t bit = 1u << p->wal.number % 32;
    waiter_came(p);
    one_more(p);
    atomic_fetch_add(&p->waiting, 1);
    while (p->wal.durable < lsn && rc == 0) {
        if (p->expected == 0 || p->wal.in_flight != 0)
            wal_flush(&p->wal, false);
        if (p->wal.failed != 0) {
            rc = wal_error(&p->wal);
        } else if (p->no_thread || (p->wal.in_flight != 0 && !p->leader)) {
            engine_wait(p);
        } else {
            engine_leave(p);
            sleep_until(p, lsn, bit);
            if (atomic_load_explicit(&p->durable_lsn, memory_order_acquire) >= lsn) {
                atomic_fetch_sub(&p->waiting, 1);
                return 0;
            }
            pthread_mutex_lock(&p->mutex);
        }
    }
    atomic_fetch_sub(&p->waiting, 1);
    /* Who comes late must not wait for a leader that left: hand the device on. */
    if ((p->wal.in_flight != 0 || (p->wal.gathering != NULL && p->hold_until == 0) || p->bg_idle) &&
        !p->leader && !p->no_thread)
        engine_poke(p);
    engine_leave(p);
    return rc;
}

/* Time of the idle witness, or UINT64_MAX if none is due. */
static uint64_t witness_at(const pawl *p) {
    const struct wal *w = &p->wal;
    if (p->witness_ns == 0 || w->failed != 0 || w->last_kind == FRAME_WITNESS ||
        w->last_kind == FRAME_CLOSE || w->state != WAL_RUNNING)
        return UINT64_MAX;
    return w->last_flush_ns + p->witness_ns;
}

/* What the background thread does in one round; returns when it wants to be called again. */
static uint64_t background(pawl *p) {
    struct wal *w = &p->wal;
    if (!p->app_dispatch)
        engine_dispatch(p);
    wal_step(w);
    uint64_t at = witness_at(p), now = engine_now(p);
    if (!held(p, now))
        wal_flush(w, false);
    if (at <= now && wal_settled(w) && wal_append_mark(w, FRAME_WITNESS) == 0)
        wal_flush(w, true);
    if (w->in_flight != 0 && !p->leader)
        return now; /* nobody waits for the device: this thread must */
    at = witness_at(p);
    if (at < now)
        at = now + p->witness_ns / 4 + 1000000;
    uint64_t nap =
        p->hold_until != 0 ? p->hold_until
        : (p->followed >= FOLLOWED_MANY || w->company != 0) && p->commits != p->nap_commits
            ? now + FOLLOW_NS
            : UINT64_MAX;
    p->nap_commits = p->commits;
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
        /* Another thread that runs callbacks runs all of them, and needs the lock for it: this one
         * must not keep it. */
        if (p->ready_head != NULL && !p->app_dispatch && !p->dispatching)
            continue;
        if (engine_did_due(p))
            continue;
        p->bg_idle = at == UINT64_MAX;
        p->bg_wakes_at = at;
        engine_sleep(p, &p->work, at);
        p->bg_idle = false;
        p->bg_wakes_at = 0;
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
    pthread_cond_broadcast(&p->progress);
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
    /* failed with nothing under way: its callers must still hear of it (PAWL-7) */
    if (rc == 0 && p->wal.failed != 0)
        rc = wal_error(&p->wal);
    engine_leave(p);
    return rc;
}
