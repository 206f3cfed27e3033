/* SPDX-License-Identifier: Apache-2.0
 *
 * work.h - which workers of pawl_run() have got records to process, and which of them sleep. A
 * worker is woken when its own tasks can go on, once; an append that doesn't concern it costs it
 * nothing. Each partition holds the numbers of the workers that process it, as bits; a commit
 * collects the bits of the partitions that it has records of.
 *
 * Concurrency: the log's lock guards every field that isn't atomic.
 */
#ifndef PAWL_PIPELINE_WORK_H
#define PAWL_PIPELINE_WORK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Workers with a bit of their own; further ones share them. */
#define WORK_BITS 32u

/* A task reads what was appended, or what is durable. */
enum work_kind { WORK_APPENDED, WORK_DURABLE, WORK_KINDS };

/* What one kind of tasks of the workers has got since they last looked. */
struct todo_got {
    /* bits of the workers that have got records; changed under the lock, read anywhere */
    _Atomic uint32_t have;
    uint64_t from[WORK_BITS]; /* and the LSN of the first frame with some */
};

struct todo {
    uint32_t workers; /* in this run; 0: none runs */
    uint32_t asleep;  /* bits of workers that sleep and were not woken yet */
    uint32_t due;     /* bits of workers that the next release of the lock wakes */
    /* readers that wait in pawl_read() for records that needn't be durable */
    uint32_t tail_readers;
    struct todo_got got[WORK_KINDS];
    _Atomic uint32_t words[WORK_BITS]; /* a worker sleeps on its word */
};

struct pawl;
static inline uint32_t work_bit(uint32_t worker) {
    return 1u << worker % WORK_BITS;
}
/* Under the lock: a run with that many workers begins; 0: it has ended. */
void work_begin(struct pawl *p, uint32_t workers);
/* Under the lock: these tasks of the worker, or others, begin at `lsn` or later. */
void work_look_from(struct pawl *p, enum work_kind kind, uint32_t worker, uint64_t lsn);
/* Under the lock: has the worker got anything that it may read now? *from: the first frame that
 * concerns it. */
bool work_got(const struct pawl *p, enum work_kind kind, uint32_t worker, uint64_t *from);
/* Without the lock, as a hint: has it got anything since `durable` was the durable LSN? */
bool work_hint(struct pawl *p, uint32_t worker, uint64_t durable);
/* Under the lock: it has looked at all frames below `lsn`. */
void work_seen(struct pawl *p, enum work_kind kind, uint32_t worker, uint64_t lsn);
/* Under the lock: a frame was appended at `lsn`, and applied to the tables. */
void work_appended(struct pawl *p, uint64_t lsn);
/* Under the lock: bytes became durable. */
void work_durable(struct pawl *p);
/* Under the lock: the run, the log or a task has failed, or ended. */
void work_wake_all(struct pawl *p);
/* Without the lock, and from a signal handler. */
void work_stop(struct pawl *p);
/* Without the lock: wakes those. */
void work_wake(struct pawl *p, uint32_t bits);
/* Under the lock, released inside: sleeps until the worker is woken, or `deadline` (monotonic ns;
 * UINT64_MAX: none). It may return earlier. */
void work_sleep(struct pawl *p, uint32_t worker, uint64_t deadline);

#endif
