/* SPDX-License-Identifier: Apache-2.0
 *
 * sim_seam.h - the simulator as a backend of wal/seam.h: a disk in memory, a clock that advances
 * with each call, planned faults, and a hook at every step where a crash could happen.
 */
#ifndef PAWL_SIM_SEAM_H
#define PAWL_SIM_SEAM_H

#include "disk.h"
#include "rng.h"
#include "wal/seam/seam.h"

#define SIM_FAULTS_MAX 24
#define SIM_SYNC_MAX 8
#define SIM_HANDLES 24

enum sim_fault_kind {
    FAULT_SHORT,   /* an asynchronous write ends early; a blocking one fails */
    FAULT_NOTHING, /* ... with nothing written, and the result 0 */
    FAULT_EAGAIN,  /* ... with nothing written, and this error */
    FAULT_EINTR,
    FAULT_ECANCELED,
    FAULT_ENOSPC,
    FAULT_EROFS,
    FAULT_EIO,      /* a part may be written nevertheless */
    FAULT_NO_DSYNC, /* -EOPNOTSUPP */
    /* an asynchronous request never completes: a thread that waits for it alone waits until a
     * crash */
    FAULT_NEVER,
    FAULT_KINDS
};

struct sim_fault {
    uint32_t step; /* the n-th call that can fail */
    enum sim_fault_kind kind;
};

/* Shared by all handles of one simulated machine. */
struct sim_machine {
    struct disk disk;
    struct rng rng; /* order of completions, random bytes */
    uint64_t clock_ns;
    int64_t clock_set_ns; /* by how much the wall clock was set */
    uint64_t boots;       /* how often it was started anew, without any clock going on */
    uint64_t steps;       /* calls that can fail, so far */
    uint64_t step_limit;  /* more steps are a hang: every call fails from then on */
    uint64_t trace;       /* hash of all calls and results */
    bool direct;          /* reads bypass the cache */
    bool zeros;           /* a new segment is written with zeros; else it shows stale bytes */
    bool calm;            /* requests complete in order, at once */
    bool locked;
    bool dead; /* the process was killed: every call fails, and results don't count */
    bool hung; /* it waits for ever: dead, and `hung_disk` is the disk at that time */
    struct disk hung_disk;
    struct sim_fault fault[SIM_FAULTS_MAX];
    int fault_count;
    bool for_ever; /* the first fault hits every call from its step on */
    int fault_hits;
    bool failed_sync; /* a write or sync failed permanently */
    /* before each change of the disk, and before each answer; may be NULL */
    void (*step)(void *arg, struct sim_machine *m);
    void *arg;
    char note[96]; /* a call that broke a rule of the seam; "": none */
};

/* 400 days, `times` times, in nanoseconds: by how much a clock is set. */
static inline int64_t sim_days(int times) {
    return (int64_t)times * 400 * 86400 * 1000000000;
}

void sim_machine_init(struct sim_machine *m, uint64_t seed, uint64_t space);
/* Restores the machine's state at the time the process began to wait for ever; does nothing if it
 * didn't. */
void sim_machine_revive(struct sim_machine *m);
/* Creates a seam on the machine, for engine_open(). */
struct seam *sim_seam(struct sim_machine *m);
#endif
