/* SPDX-License-Identifier: Apache-2.0
 *
 * processor.h - processors and the tasks that they run as: one for each input partition, each
 * strictly sequential.
 */
#ifndef PAWL_PIPELINE_PROCESSOR_H
#define PAWL_PIPELINE_PROCESSOR_H

#include "pipeline/feed.h"

/* One partition of one input of a processor. Used by one thread at a time. */
struct task {
    struct pawl_processor *processor;
    uint32_t stream, partition;
    /* next offset to consume; other workers read it to see whether all tasks are idle */
    _Atomic uint64_t position;
    pawl_reader *reader;
    pawl_tx *tx;       /* its worker's; empty between steps */
    uint64_t round_ns; /* when the worker's commits were last submitted */
    struct feed *feed; /* of its worker; NULL: no worker runs it */
    bool joined;       /* the feed gives it its input; else it reads by itself */
    bool left;         /* it has left the feed, and has not read by itself since */
    bool ready;        /* it has got input in this round */
    struct task *ready_next;
    struct task *same;   /* the next task of the feed that reads the same partition */
    uint32_t starved;    /* consecutive rounds in which the reader could not allocate its window */
    uint64_t starved_at; /* how many steps its worker had made then */
    uint32_t worker;     /* number of the worker that runs it */
    uint32_t attempts;   /* failed ones at the record at `position`; it is due again at again_ns */
    uint32_t waits;      /* consecutive attempts that asked to be made later */
    uint64_t again_ns;   /* no step before this time; 0: at once */
    /* of a processor that knows time (timed.h): */
    struct time_group *group; /* NULL: it knows none */
    uint32_t input;           /* its index in the group's watermarks */
    uint64_t quiet_ns;        /* when it last had a record in this run, or the run began */
    _Atomic bool pending;     /* timers may be due; other workers read it as they do `position` */
};

struct pawl_processor {
    uint32_t live; /* HANDLE_LIVE or HANDLE_ENDED */
    pawl *p;
    pawl_processor_config config;
    uint32_t id;
    char name[NAME_LEN_MAX + 1];
    uint32_t *inputs;
    _Atomic int failed; /* it has failed for good, and config.failed was told; 0: it hasn't */
    /* guarded by the log's lock: records that went by on_error, and why the last of them */
    uint64_t refused, refused_said; /* of these, the number that was reported */
    uint64_t refused_said_ns;       /* when; 0: never */
    uint64_t later_said_ns;         /* when it was reported that it waits; 0: never */
    char refused_why[256];
    struct timed *timed; /* NULL: it knows no time */
    struct pawl_processor *next;
};

struct pawl_context {
    struct task *task;
    pawl_tx *tx;
    uint32_t attempt;
    /* of the current attempt, for records without a timestamp; 0: clock not read yet */
    int64_t now_ns;
    size_t failed_at; /* SIZE_MAX: the callback did not set it */
    bool refused;     /* for good: no retry can help */
    bool later;       /* no record's fault: it can't process now */
    bool broken;      /* nor ever */
    char why[256];
    /* of a processor that knows time: */
    int64_t event_time; /* of the record, or the timer's time */
    bool late;
    const uint8_t *firing; /* the timer's key in the table; NULL: no timer fires */
    size_t firing_len;
};

PAWL_CHECKED int task_open(struct task *t, struct pawl_processor *proc, uint32_t stream,
                           uint32_t partition);
void task_close(struct task *t);
void task_rest(struct task *t); /* after a run, before a possible next one */
/* Returns its reader to its position, so that it reads by itself. */
PAWL_CHECKED int task_go_back(struct task *t);
/* The most that its next batch takes, in records and in bytes of them. */
void task_batch_max(const struct task *t, size_t *records, uint64_t *bytes);
/* Processes at most one batch. 1: did; 0: nothing to do; TASK_STARVED: there is no memory now; or
 * an error that ends the run, or the processor where it fails alone. */
#define TASK_STARVED 3
PAWL_CHECKED int task_step(struct task *t);
/* Is a failure of it not the failure of the run? */
bool task_alone(const struct task *t);
/* After an error of the log that time can mend: the task goes back to its position, and pauses. */
PAWL_CHECKED int task_pause(struct task *t);
/* The parts of a step that timed.c uses too. STEP_LATER: a step's answer: it is due again at
 * again_ns. */
#define STEP_LATER 2
void task_begin_context(struct task *t, uint32_t attempt, struct pawl_context *ctx);
/* Commits the outputs for [from, to) as the guarantee requires. */
PAWL_CHECKED int task_commit(struct task *t, uint64_t from, uint64_t to);
/* After a failed attempt: errors that end more than a record. */
PAWL_CHECKED int task_no_record_s_fault(struct task *t, const struct pawl_context *ctx);
/* Pauses after attempt n. Where the task is alone and its position is where its input is, it only
 * notes when it is due, so that the worker's other tasks go on. True: it did. */
bool task_back_off(struct task *t, uint32_t n, bool later);
/* For a record that still fails after all retries. */
PAWL_CHECKED int task_apply_policy(struct task *t, const pawl_record *r,
                                   const struct pawl_context *ctx, int code);
/* Counts a record or timer that went by on_error, and says so, at a limited rate. */
void task_note_refused(struct pawl_processor *proc, const char *why);
/* Under the lock: submits the commits that the tasks have appended. */
void task_flush(pawl *p);
/* Under the lock: has it consumed all records? */
bool task_idle(const struct task *t);

/* The threads of pawl_run(): worker.c */
struct run_control {
    pawl *p;
    uint32_t worker_count;
    uint32_t flags;
    _Atomic int result; /* 0, or the first error */
    pawl_error error;   /* guarded by the log's lock */
};
/* Runs the tasks in `threads` workers (0: in this thread), and in further ones for those that want
 * their own, until the run is over. */
PAWL_CHECKED int workers_run(struct run_control *run, uint32_t threads);

#endif
