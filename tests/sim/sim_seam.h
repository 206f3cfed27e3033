/* SPDX-License-Identifier: Apache-2.0
 *
 * sim_seam.h - the simulator as a backend of wal/seam.h: a disk in memory, a clock that moves when
 * something is done, faults by plan, and a hook at every step where a crash could come.
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
    FAULT_NOTHING, /* ... with nothing written, and 0 for an answer */
    FAULT_EAGAIN,  /* ... or the error, and nothing written */
    FAULT_EINTR,
    FAULT_ECANCELED,
    FAULT_ENOSPC,
    FAULT_EROFS,
    FAULT_EIO,      /* a part may be written all the same */
    FAULT_NO_DSYNC, /* -EOPNOTSUPP */
    /* an asynchronous request is never answered: whoever waits for it alone waits until a crash */
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
    uint64_t steps;      /* calls that can fail, so far */
    uint64_t step_limit; /* more than this is a hang: everything fails from then on */
    uint64_t trace;      /* hash of all that was asked and answered */
    bool direct;         /* reads go to the medium */
    bool calm;           /* completions in order, at once */
    bool locked;
    bool dead; /* the process was killed: nothing works any more, and nothing counts */
    bool hung; /* it waits for what never comes: dead, and `hung_disk` is what there was then */
    struct disk hung_disk;
    struct sim_fault fault[SIM_FAULTS_MAX];
    int fault_count;
    bool for_ever; /* from the first fault's step on every call meets it */
    int fault_hits;
    bool failed_sync; /* a write or sync failed for good */
    /* before each change of the disk, and before each answer; may be NULL */
    void (*step)(void *arg, struct sim_machine *m);
    void *arg;
    char note[96]; /* what broke a rule of the seam itself; "" nothing */
};

void sim_machine_init(struct sim_machine *m, uint64_t seed, uint64_t space);
/* The machine as it stood when the process began to wait for ever; nothing where it doesn't. */
void sim_machine_revive(struct sim_machine *m);
/* A seam on the machine, to be given to engine_open(). */
struct seam *sim_seam(struct sim_machine *m);
#endif
