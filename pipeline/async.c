/* SPDX-License-Identifier: Apache-2.0
 *
 * Asynchronous commits: the queue of those that are not durable yet, their callbacks, and the event
 * descriptor for the application's own poll loop.
 */
#include "pipeline/engine.h"

/* Commits whose callback is due move to the ready list. */
void engine_async_due(pawl *p) {
    bool any = false;
    while (p->async_head != NULL && (p->wal.failed != 0 || p->async_head->lsn <= p->wal.durable)) {
        struct async_commit *a = p->async_head;
        bool durable = a->lsn <= p->wal.durable;
        p->async_head = a->next;
        if (p->async_head == NULL)
            p->async_tail = NULL;
        a->next = NULL;
        if (a->fn == NULL) {
            a->next = p->async_free;
            p->async_free = a;
            p->async_count--;
            continue;
        }
        if (!durable)
            a->lsn = NO_LSN; /* tells dispatch that it failed */
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
    while (p->ready_head != NULL) { /* all that are due, with one release of the lock */
        struct async_commit *head = p->ready_head, *tail = p->ready_tail;
        uint32_t count = 0;
        p->ready_head = p->ready_tail = NULL;
        engine_leave(p);
        for (struct async_commit *a = head; a != NULL; a = a->next, count++)
            a->fn(a->arg, a->lsn == NO_LSN ? PAWL_IO : 0, &a->receipt);
        pthread_mutex_lock(&p->mutex);
        tail->next = p->async_free;
        p->async_free = head;
        p->async_count -= count;
        n += (int)count;
        if (p->async_count + count >= ASYNC_MAX)
            pthread_cond_broadcast(&p->progress); /* who waits for room among them */
    }
    p->dispatching = false;
    if (n != 0)
        pthread_cond_broadcast(&p->progress);
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
    if (p->read_only) { /* nothing in this process would ring it */
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
