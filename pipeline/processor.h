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
    /* next offset to consume; other workers look at it to see whether all is done */
    _Atomic uint64_t position;
    pawl_reader *reader;
    pawl_tx *tx;
    uint64_t round_ns; /* when the worker's round began that the task is in */
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
    const pawl_record *records; /* of the attempt */
    size_t count;
    pawl_tx *tx;
    uint32_t attempt;
    int64_t now_ns;   /* of the attempt, for records without a timestamp; 0: not needed yet */
    size_t failed_at; /* SIZE_MAX: the callback didn't say */
    char why[256];
};

PAWL_CHECKED int task_open(struct task *t, struct pawl_processor *proc, uint32_t stream,
                           uint32_t partition);
void task_close(struct task *t);
void task_rest(struct task *t); /* a run has ended; another may come */
/* Processes at most one batch: 1 did, 0 nothing to do, or an error that ends the run. */
PAWL_CHECKED int task_step(struct task *t);
/* Under the lock: hands over what the tasks have appended. */
void task_flush(pawl *p);
/* Under the lock: has it consumed all there is? */
bool task_idle(const struct task *t);

#endif
