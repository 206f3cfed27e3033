/* SPDX-License-Identifier: Apache-2.0
 *
 * Processors, and pawl_run(), which runs their tasks in workers (worker.c).
 */
#include <stdlib.h>

#include "pipeline/processor.h"
#include "pipeline/struct_size.h"
#include "pipeline/timed.h"

static int check_config(const pawl_processor_config *c) {
    if (c->process == NULL || c->inputs == NULL || c->input_count == 0 || c->input_count > 64 ||
        c->guarantee < 0 || c->guarantee > 2 || c->on_error < 0 || c->on_error > 2)
        return fail(
            PAWL_INVALID,
            "a processor needs a name, 1 to 64 inputs, a callback, and PAWL_PROCESSOR_INIT");
    return 0;
}

/* Creates the positions at once, so that retention keeps the records that the processor has not
 * read yet. */
static int make_positions(struct pawl_processor *proc) {
    pawl *p = proc->p;
    struct pawl_tx *tx;
    TRY(pawl_begin(p, &tx));
    int rc = 0;
    for (uint32_t i = 0; i < proc->config.input_count && rc == 0; i++) {
        pawl_stream_info info;
        rc = pawl_stream_get(p, proc->inputs[i], &info);
        for (uint32_t k = 0; rc == 0 && k < info.partitions; k++) {
            uint64_t at;
            pawl_bounds b;
            if (pawl_position_get(p, proc->name, info.id, k, &at) == 0)
                continue;
            rc = pawl_partition_bounds(p, info.id, k, &b);
            uint64_t from = proc->config.start_at_end != 0 ? b.durable : b.first;
            if (rc == 0)
                rc = tx_add_position(tx, proc->id, info.id, k, from, from);
        }
    }
    if (rc < 0) {
        pawl_abort(tx);
        return rc;
    }
    rc = pawl_commit(tx, NULL);
    if (tx_stays(rc))
        pawl_abort(tx);
    return rc;
}

static int dead_letter_known(pawl *p, const pawl_processor_config *c) {
    pawl_stream_info info;
    if (c->on_error != PAWL_ON_ERROR_DEAD_LETTER)
        return 0;
    return pawl_stream_get(p, c->dead_letter, &info) == 0
               ? 0
               : fail(PAWL_NOT_FOUND, "the dead-letter stream is not there");
}

int pawl_processor_add(pawl *p, const pawl_processor_config *given, pawl_processor **out) {
    pawl_processor_config own;
    const pawl_processor_config *c = &own;
    TRY(pawl_struct_take(&own, sizeof own, given, PROCESSOR_FIRST, "pawl_processor_config"));
    TRY(check_config(c));
    uint32_t id;
    bool stale = false;
    TRY(pawl_processor_register(p, c->name, &id));
    TRY(dead_letter_known(p, c));
    struct pawl_processor *proc = mem_alloc(&p->mem, sizeof *proc);
    uint32_t *inputs = mem_alloc(&p->mem, c->input_count * sizeof *inputs);
    int rc = proc == NULL || inputs == NULL ? fail(PAWL_MEMORY, "no memory for a processor") : 0;
    if (rc == 0) {
        *proc = (struct pawl_processor){
            .live = HANDLE_LIVE, .p = p, .config = *c, .id = id, .inputs = inputs};
        memcpy(inputs, c->inputs, c->input_count * sizeof *inputs);
        memcpy(proc->name, c->name, strlen(c->name) + 1);
        proc->config.inputs = inputs;
        proc->config.name = proc->name;
        rc = make_positions(proc);
    }
    if (rc == 0)
        rc = engine_enter_writer(p);
    if (rc == 0) {
        for (struct pawl_processor *q = p->processors; q != NULL; q = q->next)
            if (q->id == id)
                rc = fail(PAWL_EXISTS, "processor %s has been added already", c->name);
        for (uint32_t i = 0; i < c->input_count && rc == 0; i++)
            if (tables_stream(&p->tables, inputs[i]) == NULL)
                rc = fail(PAWL_NOT_FOUND, "there is no stream with id %u any more", inputs[i]);
        if (rc == 0 && p->running)
            rc = fail(PAWL_BUSY, "processors are running");
        if (rc == 0) { /* in the order in which they were added */
            stale = true;
            struct pawl_processor **at = &p->processors;
            while (*at != NULL)
                at = &(*at)->next;
            *at = proc;
        }
        engine_leave(p);
    }
    if (rc < 0) {
        mem_free(&p->mem, inputs, c->input_count * sizeof *inputs);
        mem_free(&p->mem, proc, sizeof *proc);
        return rc;
    }
    if (stale)
        engine_forget_tasks(p);
    if (out != NULL)
        *out = proc;
    return 0;
}

/* Under the lock. */
static void free_processor(struct pawl_processor *proc) {
    timed_free(proc);
    mem_free(&proc->p->mem, proc->inputs, proc->config.input_count * sizeof *proc->inputs);
    proc->live = HANDLE_ENDED;
    ended_keep(proc->p, proc, sizeof *proc);
}

void engine_free_processors(pawl *p) {
    while (p->processors != NULL) {
        struct pawl_processor *proc = p->processors;
        p->processors = proc->next;
        free_processor(proc);
    }
}

void pawl_processor_remove(pawl_processor *proc) {
    if (proc == NULL || handle_live(proc, "processor") < 0 || engine_enter(proc->p) < 0)
        return;
    pawl *p = proc->p;
    if (p->running) {
        engine_leave(p);
        fail_set(PAWL_BUSY, "processor %s can't be removed while pawl_run() runs", proc->name);
        return;
    }
    for (struct pawl_processor **q = &p->processors; *q != NULL; q = &(*q)->next)
        if (*q == proc) {
            *q = proc->next;
            break;
        }
    engine_leave(p);
    engine_forget_tasks(p);
    pthread_mutex_lock(&p->mutex);
    free_processor(proc);
    engine_leave(p);
}

/* Takes the lock, because another thread may create a stream, which moves the table of streams. */
static uint32_t partitions_of(pawl *p, uint32_t stream) {
    pthread_mutex_lock(&p->mutex);
    const struct stream *s = tables_stream(&p->tables, stream);
    uint32_t n = s != NULL ? s->partitions : 0;
    engine_leave(p);
    return n;
}

/* Closes the tasks that the last pawl_run() kept. They are kept so that a run for a few records
 * doesn't pay for opening them again. */
void engine_forget_tasks(pawl *p) {
    for (uint32_t i = 0; p->tasks != NULL && i < p->task_count; i++)
        task_close(&p->tasks[i]);
    mem_free(&p->mem, p->tasks, p->task_room * sizeof *p->tasks);
    p->tasks = NULL;
    p->task_count = p->task_room = 0;
}

/* Is each task still at its position in the tables? Another thread may have moved the position. */
static bool tasks_stand(pawl *p) {
    bool good = p->tasks != NULL;
    pthread_mutex_lock(&p->mutex);
    for (uint32_t i = 0; good && i < p->task_count; i++) {
        const struct task *t = &p->tasks[i];
        const struct position_row *row =
            tables_position(&p->tables, t->processor->id, t->stream, t->partition);
        good = row != NULL && row->offset == t->position;
    }
    engine_leave(p);
    return good;
}

/* The first task from `first` on, before `t`, that has the partition of `t`; or NULL. */
static struct task *same_partition(struct task *first, const struct task *t) {
    for (; first != t; first++)
        if (first->partition == t->partition)
            return first;
    return NULL;
}

static int open_tasks(pawl *p) {
    uint32_t n = 0;
    for (struct pawl_processor *q = p->processors; q != NULL; q = q->next)
        for (uint32_t i = 0; i < q->config.input_count; i++)
            n += partitions_of(p, q->inputs[i]);
    p->tasks = mem_alloc(&p->mem, (n + 1) * sizeof *p->tasks);
    if (p->tasks == NULL)
        return fail(PAWL_MEMORY, "no memory for %u tasks", n);
    p->task_room = n + 1;
    for (struct pawl_processor *q = p->processors; q != NULL; q = q->next) {
        struct task *first = &p->tasks[p->task_count]; /* of the processor */
        for (uint32_t i = 0; i < q->config.input_count; i++) {
            uint32_t parts = partitions_of(p, q->inputs[i]);
            for (uint32_t k = 0; k < parts; k++) {
                struct task *t = &p->tasks[p->task_count++];
                TRY(task_open(t, q, q->inputs[i], k));
                TRY(timed_join(t, same_partition(first, t)));
            }
        }
    }
    return 0;
}

static int make_tasks(pawl *p) {
    if (tasks_stand(p))
        return 0;
    engine_forget_tasks(p);
    return open_tasks(p);
}

int pawl_run(pawl *p, uint32_t threads, uint32_t flags) {
    TRY(engine_enter_writer(p));
    int rc = p->running              ? fail(PAWL_BUSY, "processors are running already")
             : p->processors == NULL ? fail(PAWL_STATE, "no processor has been added")
             : threads > 256         ? fail(PAWL_INVALID, "at most 256 worker threads")
                                     : 0;
    if (rc == 0)
        p->running = true;
    engine_leave(p);
    TRY(rc);
    struct run_control run = {.p = p, .flags = flags};
    rc = make_tasks(p);
    if (rc == 0)
        rc = workers_run(&run, threads);
    if (rc == 0 && atomic_load(&run.result) != 0)
        rc = fail_again(&run.error);
    int synced = pawl_sync(p);
    if (rc == 0)
        rc = synced;
    if (rc == 0 && atomic_load(&p->stop))
        rc = fail(PAWL_STOPPED, "stopped on request");
    pawl_error e;
    fail_copy(&e);
    if (rc < 0)
        engine_forget_tasks(p);
    for (uint32_t i = 0; i < p->task_count; i++)
        task_rest(&p->tasks[i]);
    pthread_mutex_lock(&p->mutex);
    p->running = false;
    engine_leave(p);
    return rc < 0 ? engine_answer(p, fail_again(&e)) : 0;
}

void pawl_stop(pawl *p) {
    if (p == NULL)
        return;
    atomic_store(&p->stop, 1);
    engine_tell_stop(p);
    work_stop(p);
    any_stop(p);
}

void pawl_stop_clear(pawl *p) {
    if (p != NULL)
        atomic_store(&p->stop, 0);
}
