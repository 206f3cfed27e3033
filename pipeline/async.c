/* SPDX-License-Identifier: Apache-2.0
 *
 * Asynchronous commits: the queue of those that are not durable yet, their callbacks, and the event
 * descriptor for the application's own poll loop.
 */
#include <assert.h>

#include "pipeline/engine.h"

struct async_commit *async_take(pawl *p) {
    while (p->async_count >= ASYNC_MAX && p->wal.failed == 0 && !p->dispatching)
        engine_wait(p);
    struct async_commit *a = p->async_free;
    if (a != NULL)
        p->async_free = a->next;
    else
        a = mem_alloc(&p->mem, sizeof *a);
    return a;
}

void async_give_back(pawl *p, struct async_commit *a) {
    a->next = p->async_free;
    p->async_free = a;
}

void async_free(pawl *p) {
    while (p->async_free != NULL) {
        struct async_commit *a = p->async_free;
        p->async_free = a->next;
        mem_free(&p->mem, a, sizeof *a);
    }
}

/* Makes sure that appended commits are submitted: the leader does it when it returns; without
 * threads, pawl_tick() does. */
static void hand_over(pawl *p) {
    struct wal *w = &p->wal;
    if (p->leader || p->no_thread)
        return;
    uint64_t now = pace_needs_clock(&w->pace, PACE_ASYNC_CAME) ? engine_now(p) : 0;
    if (pace_async_came(&w->pace, w->in_flight, now) == PACE_POKE)
        engine_poke(p);
}

void async_add(pawl *p, struct async_commit *a) {
    assert(a->lsn <= p->wal.tail); /* PAWL-1 */
    a->next = NULL;
    if (p->async_tail != NULL)
        p->async_tail->next = a;
    else
        p->async_head = a;
    p->async_tail = a;
    p->async_count++;
    if (p->leader || p->no_thread)
        wal_submit(&p->wal, false);
    if (a->lsn <= p->wal.durable)
        engine_progress(p);
    else
        engine_tell_appended(p);
    hand_over(p);
}

void async_due(pawl *p) {
    bool any = false;
    while (p->async_head != NULL && (p->wal.failed != 0 || p->async_head->lsn <= p->wal.durable)) {
        struct async_commit *a = p->async_head;
        bool durable = a->lsn <= p->wal.durable;
        p->async_head = a->next;
        if (p->async_head == NULL)
            p->async_tail = NULL;
        a->next = NULL;
        if (a->fn == NULL) {
            async_give_back(p, a);
            p->async_count--;
            continue;
        }
        if (!durable)
            a->lsn = NO_LSN; /* marks it as failed for engine_dispatch() */
        if (p->ready_tail != NULL)
            p->ready_tail->next = a;
        else
            p->ready_head = a;
        p->ready_tail = a;
        any = true;
    }
    if (any && !p->app_dispatch)
        engine_poke(p);
}

int engine_dispatch(pawl *p) {
    int n = 0;
    if (p->dispatching)
        return 0; /* callbacks run one at a time, in order */
    p->dispatching = true;
    while (p->ready_head != NULL) { /* all that are due, with a single release of the lock */
        struct async_commit *head = p->ready_head, *tail = p->ready_tail;
        uint32_t count = 0;
        p->ready_head = p->ready_tail = NULL;
        engine_leave(p);
        for (struct async_commit *a = head; a != NULL; a = a->next, count++) {
            bool failed = a->lsn == NO_LSN;
            assert(failed || a->lsn <= atomic_load_explicit(&p->durable_lsn, memory_order_relaxed));
            a->fn(a->arg, failed ? PAWL_IO : 0, &a->receipt); /* PAWL-1 */
        }
        pthread_mutex_lock(&p->mutex);
        assert(count <= p->async_count);
        tail->next = p->async_free;
        p->async_free = head;
        p->async_count -= count;
        n += (int)count;
        if (p->async_count + count >= ASYNC_MAX)
            engine_tell(p); /* wakes threads that wait for room in the queue */
    }
    p->dispatching = false;
    if (n != 0)
        engine_tell(p);
    return n;
}

void engine_ring(pawl *p) {
    if (atomic_load_explicit(&p->event_used, memory_order_relaxed))
        event_ring(p->event_fd);
}

int pawl_dispatch(pawl *p) {
    TRY(engine_enter(p));
    if (p->event_fd >= 0)
        event_clear(p->event_fd);
    if (p->no_thread && p->wal.in_flight != 0 && !p->leader)
        engine_lead(p);
    int n = engine_dispatch(p);
    engine_leave(p);
    return n;
}

int pawl_eventfd(pawl *p) {
    TRY(engine_enter(p));
    if (p->read_only) { /* no thread of this process would ring it */
        engine_leave(p);
        return fail(PAWL_UNSUPPORTED,
                    "a read-only handle has no event descriptor; use pawl_read() with a timeout");
    }
    if (p->event_fd < 0)
        p->event_fd = event_open();
    int fd = p->event_fd;
    atomic_store(&p->event_used, fd >= 0);
    engine_leave(p);
    return fd >= 0 ? fd : fail(PAWL_UNSUPPORTED, "no event descriptor can be had");
}
