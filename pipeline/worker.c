/* SPDX-License-Identifier: Apache-2.0
 *
 * The threads of pawl_run(). Each task always runs on the same worker. A worker's round: its feeds
 * give input to its tasks, and it steps each of them until the input is used up. A worker with
 * nothing to do sleeps until its own tasks can go on.
 */
#include "pipeline/timed.h"

#define LOOK_NS 100000000u /* interval of checks while a task has input that it can't take yet */
#define DOZE_NS 20000u     /* a worker that has just had work looks that long for more */
#define DOZE_SKIP_MAX 1024u
#define STARVED_NS 1000000u /* pause where memory is short */
#define FLUSH_NS 250000u    /* after that, a worker submits what its tasks have committed */

struct worker {
    struct run_control *run;
    pthread_t thread;
    uint32_t number;
    struct task **tasks;
    uint32_t task_count, task_room;
    uint32_t timed; /* number of tasks whose processors know time */
    struct feed feeds[WORK_KINDS];
    struct record_room room; /* for the batch of the task that runs */
    pawl_tx *tx;             /* and for what it emits */
    bool starved;            /* in this round memory was short */
    uint64_t steps;          /* that have processed something */
    uint64_t flushed_ns;     /* when the commits of its tasks were last submitted */
    bool worked;             /* since it last dozed */
    /* sleeps without a doze before, after one in vain; and how many the next one in vain costs */
    uint32_t doze_skip, doze_next;
};

/* Under the lock: something has ended, so each thread that waits looks again. */
static void tell_all(pawl *p) {
    engine_tell(p);
    work_wake_all(p);
}

static void end_run(struct run_control *run, int rc) {
    pawl_error e;
    fail_copy(&e);
    pthread_mutex_lock(&run->p->mutex);
    int none = 0;
    if (atomic_compare_exchange_strong(&run->result, &none, rc))
        run->error = e;
    tell_all(run->p);
    engine_leave(run->p);
}

static bool over(const struct run_control *run) {
    return atomic_load(&run->result) != 0 || atomic_load(&run->p->stop) != 0;
}

/* ---- waiting */

/* Under the lock: have all tasks of all workers consumed all records? */
static bool all_idle(const struct run_control *run) {
    for (uint32_t i = 0; i < run->p->task_count; i++)
        if (!task_idle(&run->p->tasks[i]))
            return false;
    return true;
}

/* Under the lock: when this worker must look at its tasks again, if nothing wakes it before.
 * UINT64_MAX: not at all, they have consumed all records; a record appended after this wakes it. */
static uint64_t own_due(const struct worker *w) {
    pawl *p = w->run->p;
    uint64_t due = UINT64_MAX, look = engine_now(p) + LOOK_NS;
    for (uint32_t i = 0; i < w->task_count; i++) {
        const struct task *t = w->tasks[i];
        uint64_t at = timed_wake_at(t);
        if (!task_idle(t))
            at = t->again_ns != 0 ? t->again_ns : look;
        due = at != 0 && at < due ? at : due;
    }
    return due;
}

/* Only this worker can wait for the device, or no other thread needs to. */
static bool lonely(const struct run_control *run) {
    return run->p->no_thread || (run->worker_count == 1 && (run->flags & PAWL_RUN_UNTIL_IDLE) != 0);
}

/* Waits, when this worker has nothing to do. False: the run is over. */
static bool wait_for_work(struct worker *w) {
    struct run_control *run = w->run;
    pawl *p = run->p;
    bool go_on = true;
    pthread_mutex_lock(&p->mutex);
    if (over(run) || p->wal.failed != 0) {
        go_on = false;
    } else if ((run->flags & PAWL_RUN_UNTIL_IDLE) != 0 && all_idle(run)) {
        go_on = false;
        tell_all(p);
    } else if (feed_has_more(&w->feeds[WORK_APPENDED]) || feed_has_more(&w->feeds[WORK_DURABLE])) {
        go_on = true; /* it came since the feed looked */
    } else if (lonely(run) && (p->wal.in_flight != 0 || p->wal.gathering != NULL)) {
        wal_submit(&p->wal, false);
        engine_wait(p); /* the commits in flight may be the input of this worker */
    } else {
        if (p->wal.in_flight != 0 || p->wal.gathering != NULL)
            /* another thread waits for the device, so that this one reacts to new input
             * meanwhile */
            task_flush(p);
        work_sleep(p, w->number, own_due(w));
    }
    engine_leave(p);
    w->flushed_ns = engine_now(p);
    return go_on;
}

/* Input often comes faster than a thread can be put to sleep and woken. So a worker that has just
 * worked looks for more for a short time, as long as that is worth it. True: more has come. */
static bool doze(struct worker *w) {
    pawl *p = w->run->p;
    if (!w->worked || p->no_thread || (w->run->flags & PAWL_RUN_UNTIL_IDLE) != 0)
        return false;
    w->worked = false;
    if (w->doze_skip != 0) {
        w->doze_skip--;
        return false;
    }
    pthread_mutex_lock(&p->mutex);
    if (p->wal.gathering != NULL && p->wal.in_flight == 0)
        task_flush(p);
    engine_leave(p);
    uint64_t durable = atomic_load(&p->durable_lsn), until = engine_now(p) + DOZE_NS;
    do {
        if (work_hint(p, w->number, durable)) {
            w->doze_next = 0;
            return true;
        }
        event_yield();
    } while (engine_now(p) < until);
    w->doze_next = w->doze_next == 0 ? 1 : w->doze_next * 2;
    if (w->doze_next > DOZE_SKIP_MAX)
        w->doze_next = DOZE_SKIP_MAX;
    w->doze_skip = w->doze_next;
    return false;
}

static void flush_in_time(struct worker *w) {
    pawl *p = w->run->p;
    uint64_t now = engine_now(p);
    if (now - w->flushed_ns < FLUSH_NS)
        return;
    w->flushed_ns = now;
    pthread_mutex_lock(&p->mutex);
    if (p->wal.gathering != NULL)
        task_flush(p);
    engine_leave(p);
}

/* ---- a round */

/* PAWL-16: the processor fails alone. Its other tasks see it before their next step. */
static void fail_alone(struct run_control *run, struct task *t, int rc) {
    struct pawl_processor *proc = t->processor;
    pawl_error e;
    int none = 0;
    fail_copy(&e);
    e.code = rc;
    if (atomic_compare_exchange_strong(&proc->failed, &none, rc))
        proc->config.failed(proc->config.failed_arg, proc->name, &e);
    pthread_mutex_lock(&run->p->mutex);
    tell_all(run->p); /* it counts as idle now */
    engine_leave(run->p);
}

/* A task's step has ended with an error: whose is it? */
static void step_failed(struct run_control *run, struct task *t, int rc) {
    if (rc == PAWL_STOPPED)
        return;
    if (!task_alone(t) || run->p->wal.failed != 0 || rc == PAWL_FORKED) {
        end_run(run, rc);
        return;
    }
    if (rc == PAWL_FULL || rc == PAWL_MEMORY)
        rc = task_pause(t); /* time can mend it */
    if (rc < 0)
        fail_alone(run, t, rc);
}

/* True: the task did something. */
static bool step(struct worker *w, struct task *t) {
    if (atomic_load(&t->processor->failed) != 0)
        return false;
    t->round_ns = w->flushed_ns;
    t->left &= reader_pending(t->reader); /* what the feed gave it comes first */
    int rc = task_step(t);
    if (rc < 0)
        step_failed(w->run, t, rc);
    w->starved |= rc == TASK_STARVED;
    if (rc == TASK_STARVED && t->starved_at != w->steps) {
        t->starved = 1; /* others go on, and will free memory */
        t->starved_at = w->steps;
    }
    w->steps += rc == 1;
    return rc > 0;
}

/* Steps the tasks that the feed has given input, in turn, until they have used it up. */
static bool fed_round(struct worker *w, struct feed *f) {
    struct task *ready = feed_fill(f);
    bool any = false;
    for (bool did = ready != NULL; did; any |= did) {
        did = false;
        for (struct task *t = ready; t != NULL && !over(w->run); t = t->ready_next)
            if (reader_pending(t->reader))
                did |= step(w, t);
    }
    w->starved |= f->starved != 0;
    int rc = feed_drop(f);
    if (rc < 0)
        end_run(w->run, rc);
    return any;
}

/* Steps the tasks that read by themselves. */
static bool own_round(struct worker *w) {
    bool any = false;
    if (w->feeds[WORK_APPENDED].joined + w->feeds[WORK_DURABLE].joined == w->task_count)
        return false;
    for (uint32_t i = 0; i < w->task_count && !over(w->run); i++)
        if (!w->tasks[i]->joined)
            any |= step(w, w->tasks[i]);
    return any;
}

/* Fires what the clock has made due, and what was due when the run began. */
static bool timed_round(struct worker *w) {
    bool any = false;
    if (w->timed == 0)
        return false;
    uint64_t now = engine_now(w->run->p);
    for (uint32_t i = 0; i < w->task_count && !over(w->run); i++) {
        struct task *t = w->tasks[i];
        uint64_t at = timed_wake_at(t);
        if (at == 0 || at > now || atomic_load(&t->processor->failed) != 0)
            continue;
        t->round_ns = w->flushed_ns;
        int rc = timed_wake(t);
        if (rc < 0)
            step_failed(w->run, t, rc);
        w->steps += rc == 1;
        any |= rc == 1;
    }
    return any;
}

/* ---- a worker */

static int begin_worker(struct worker *w) {
    pawl *p = w->run->p;
    uint32_t n = 0;
    for (uint32_t i = 0; i < p->task_count; i++)
        n += p->tasks[i].worker == w->number;
    w->tasks = mem_alloc(&p->mem, (n + 1) * sizeof(void *));
    if (w->tasks == NULL)
        return fail(PAWL_MEMORY, "no memory for %u tasks", n);
    w->task_room = n + 1;
    TRY(pawl_begin(p, &w->tx));
    for (uint32_t i = 0; i < p->task_count; i++) {
        struct task *t = &p->tasks[i];
        if (t->worker != w->number)
            continue;
        t->tx = w->tx;
        t->reader->room = &w->room;
        w->tasks[w->task_count++] = t;
        w->timed += t->group != NULL;
        timed_begin(t);
    }
    for (int kind = 0; kind < WORK_KINDS; kind++)
        TRY(feed_open(&w->feeds[kind], p, (enum work_kind)kind, w->number, p->tasks,
                      p->task_count));
    return 0;
}

static void end_worker(struct worker *w) {
    pawl *p = w->run->p;
    for (int kind = 0; kind < WORK_KINDS; kind++)
        feed_close(&w->feeds[kind]);
    for (uint32_t i = 0; i < w->task_count; i++) {
        w->tasks[i]->tx = NULL;
        w->tasks[i]->reader->room = &w->tasks[i]->reader->own;
    }
    record_room_free(p, &w->room);
    if (w->tx != NULL)
        pawl_abort(w->tx);
    mem_free(&p->mem, w->tasks, w->task_room * sizeof(void *));
}

static void *worker_main(void *arg) {
    struct worker *w = arg;
    struct run_control *run = w->run;
    int rc = begin_worker(w);
    if (rc < 0)
        end_run(run, rc);
    w->flushed_ns = engine_now(run->p);
    while (!over(run)) {
        bool any = false;
        uint64_t before = w->steps;
        w->starved = false;
        for (int kind = 0; kind < WORK_KINDS; kind++)
            any |= fed_round(w, &w->feeds[kind]);
        any |= own_round(w);
        any |= timed_round(w);
        if (w->starved && w->steps == before)
            run->p->io->ops->sleep(run->p->io, STARVED_NS);
        w->worked |= any;
        if (any)
            flush_in_time(w);
        else if (!doze(w) && !wait_for_work(w))
            break;
    }
    end_worker(w);
    return NULL;
}

/* A processor that waits for the world outside gets a worker of its own if it fails alone: its
 * slowness is no other processor's. */
static bool wants_worker(const struct pawl_processor *proc) {
    return proc->config.failed != NULL && proc->config.committed_input != 0;
}

/* Under the lock: tasks of one processor that read the same partition of several streams change the
 * same partition of its tables, so one worker runs them. The earlier one of these, or NULL. */
static const struct task *same_state(const pawl *p, uint32_t i) {
    const struct task *t = &p->tasks[i];
    if (t->processor->config.input_count == 1 || tables_owned(&p->tables, t->processor->id) == NULL)
        return NULL;
    for (; i > 0 && p->tasks[i - 1].processor == t->processor; i--)
        if (p->tasks[i - 1].partition == t->partition)
            return &p->tasks[i - 1];
    return NULL;
}

/* Under the lock: gives each task a worker. Returns the number of workers. */
static uint32_t share_out(pawl *p, uint32_t threads) {
    uint32_t shared = threads == 0 ? 1 : threads, next = 0, own = shared;
    const struct pawl_processor *last = NULL;
    for (uint32_t i = 0; i < p->task_count; i++) {
        struct task *t = &p->tasks[i];
        const struct task *same = same_state(p, i);
        if (same != NULL) {
            t->worker = same->worker;
        } else if (wants_worker(t->processor)) {
            own += t->processor != last; /* the tasks of a processor come together */
            t->worker = own - 1;
        } else {
            t->worker = next++ % shared;
        }
        last = t->processor;
    }
    return own;
}

static int run_threads(struct run_control *run) {
    uint32_t threads = run->worker_count, started = 0;
    struct worker *w = mem_alloc(&run->p->mem, threads * sizeof *w);
    if (w == NULL)
        return fail(PAWL_MEMORY, "no memory for %u worker threads", threads);
    for (; started < threads; started++) {
        w[started] = (struct worker){.run = run, .number = started};
        if (pthread_create(&w[started].thread, NULL, worker_main, &w[started]) != 0) {
            fail_set(PAWL_MEMORY, "cannot start a worker thread");
            end_run(run, PAWL_MEMORY);
            break;
        }
    }
    for (uint32_t i = 0; i < started; i++)
        pthread_join(w[i].thread, NULL);
    mem_free(&run->p->mem, w, threads * sizeof *w);
    return 0;
}

static void announce(struct run_control *run, uint32_t workers) {
    pthread_mutex_lock(&run->p->mutex);
    work_begin(run->p, workers);
    engine_leave(run->p);
}

int workers_run(struct run_control *run, uint32_t threads) {
    int rc = 0;
    pthread_mutex_lock(&run->p->mutex);
    run->worker_count = share_out(run->p, threads);
    engine_leave(run->p);
    announce(run, run->worker_count);
    if (threads == 0 && run->worker_count == 1) {
        struct worker own = {.run = run, .number = 0};
        worker_main(&own);
    } else {
        rc = run_threads(run);
    }
    announce(run, 0);
    return rc;
}
