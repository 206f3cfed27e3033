/* SPDX-License-Identifier: Apache-2.0
 *
 * feed.h - what gives the tasks of a worker their input: one walk over the log's frames for all of
 * them, instead of one for each. So the log is decoded, and where need be read from disk, once for
 * each worker, whatever the number of partitions.
 *
 * In each round, feed_fill() offers the runs that it meets to the *joined* tasks, and the worker
 * then steps each task that has got some, until it has used them up; feed_drop() ends the round. A
 * task leaves the feed where something is unusual: spilled runs, lost records, an error, a pause.
 * It then reads by itself, and joins again when its reader is not behind the feed. So whatever can
 * go wrong in reading is found and reported by the task's own reader.
 */
#ifndef PAWL_PIPELINE_FEED_H
#define PAWL_PIPELINE_FEED_H

#include "pipeline/reader.h"

struct task;

/* Rounds without memory after which a feed gives up, and a task fails. The worker pauses after each
 * in which none of its tasks went on: other threads use memory and give it back. */
#define STARVED_MAX 100u

/* Used by one worker, without the lock but where a function says so. */
struct feed {
    struct pawl_reader walk; /* its pins hold the bytes in the log's memory */
    enum work_kind kind;
    uint32_t worker;
    struct task **places; /* hash table: stream and partition -> the first of its tasks */
    uint32_t place_count; /* a power of two; 0: the feed has no tasks */
    uint32_t tasks, joined;
    uint8_t *bytes; /* runs that were read from disk, or that could not be pinned */
    size_t used, cap;
    size_t gathered;                 /* bytes of runs in this round */
    bool full;                       /* it can't take more in this round */
    uint32_t starved;                /* consecutive rounds that lacked memory */
    struct task *ready, **ready_end; /* tasks that have got runs, in the log's order */
};

/* Begins a feed for those of the tasks that belong to the worker and read that kind. */
PAWL_CHECKED int feed_open(struct feed *f, pawl *p, enum work_kind kind, uint32_t worker,
                           struct task *tasks, uint32_t count);
/* Its tasks read by themselves from now on. */
void feed_close(struct feed *f);
/* Lets the tasks join that can, and offers them what the log has got. Returns the tasks that have
 * got something: a list by task.ready_next. */
struct task *feed_fill(struct feed *f);
/* Ends the round. Error: of a task that has not used up what it got, and can't go back to its
 * position. */
PAWL_CHECKED int feed_drop(struct feed *f);
/* The task leaves the feed, and reads on from the frame at `lsn` if it isn't beyond it; 0: it stays
 * where it is. What it has got stays until the round ends. */
void feed_leave(struct task *t, uint64_t lsn);
/* Under the lock, where the worker is about to sleep: is there input that the feed can go on with,
 * or that a task must read by itself? */
bool feed_has_more(struct feed *f);

#endif
