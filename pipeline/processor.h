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
};

struct pawl_processor {
    uint32_t live; /* HANDLE_LIVE or HANDLE_ENDED */
    pawl *p;
    pawl_processor_config config;
    uint32_t id;
    char name[NAME_LEN_MAX + 1];
    uint32_t *inputs;
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
    char why[256];
};

PAWL_CHECKED int task_open(struct task *t, struct pawl_processor *proc, uint32_t stream,
                           uint32_t partition);
void task_close(struct task *t);
void task_rest(struct task *t); /* after a run, before a possible next one */
/* Processes at most one batch. 1: did; 0: nothing to do; or an error that ends the run. */
PAWL_CHECKED int task_step(struct task *t);
/* Under the lock: submits the commits that the tasks have appended. */
void task_flush(pawl *p);
/* Under the lock: has it consumed all records? */
bool task_idle(const struct task *t);

#endif
