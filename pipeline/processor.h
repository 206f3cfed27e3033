/* SPDX-License-Identifier: Apache-2.0
 *
 * processor.h - processors and the tasks that they run as: one for each input partition, each
 * strictly sequential.
 */
#ifndef PAWL_PIPELINE_PROCESSOR_H
#define PAWL_PIPELINE_PROCESSOR_H

#include "pipeline/engine.h"

/* One partition of one input of a processor. Used by one thread at a time. */
struct task {
    struct pawl_processor *processor;
    uint32_t stream, partition;
    /* next offset to consume; other workers read it to see whether all tasks are idle */
    _Atomic uint64_t position;
    pawl_reader *reader;
    pawl_tx *tx;
    uint64_t round_ns; /* when the worker's current round began */
    uint32_t starved;  /* consecutive rounds in which the reader could not allocate its window */
    uint64_t pending;  /* end of the newest commit of this task */
    uint32_t worker;   /* number of the worker that runs it */
    uint32_t attempts; /* failed ones at the record at `position`; it is due again at again_ns */
    uint64_t again_ns; /* no step before this time; 0: at once */
};

struct pawl_processor {
    uint32_t live; /* HANDLE_LIVE or HANDLE_ENDED */
    pawl *p;
    pawl_processor_config config;
    uint32_t id;
    char name[NAME_LEN_MAX + 1];
    uint32_t *inputs;
    _Atomic int failed; /* it has failed for good, and config.failed was told; 0: it hasn't */
    struct pawl_processor *next;
};

struct pawl_context {
    struct task *task;
    const pawl_record *records; /* of the current attempt */
    size_t count;
    pawl_tx *tx;
    uint32_t attempt;
    /* of the current attempt, for records without a timestamp; 0: clock not read yet */
    int64_t now_ns;
    size_t failed_at; /* SIZE_MAX: the callback did not set it */
    bool refused;     /* for good: no retry can help */
    char why[256];
};

PAWL_CHECKED int task_open(struct task *t, struct pawl_processor *proc, uint32_t stream,
                           uint32_t partition);
void task_close(struct task *t);
void task_rest(struct task *t); /* after a run, before a possible next one */
/* Processes at most one batch. 1: did; 0: nothing to do; or an error that ends the run, or the
 * processor where it fails alone. */
PAWL_CHECKED int task_step(struct task *t);
/* Is a failure of it not the failure of the run? */
bool task_alone(const struct task *t);
/* After an error of the log that time can mend: the task goes back to its position, and pauses. */
PAWL_CHECKED int task_pause(struct task *t);
/* Under the lock: submits the commits that the tasks have appended. */
void task_flush(pawl *p);
/* Under the lock: has it consumed all records? */
bool task_idle(const struct task *t);

#endif
