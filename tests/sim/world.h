/* SPDX-License-Identifier: Apache-2.0
 *
 * world.h - a process that uses Pawl on a simulated machine, told what to do by a list of
 * operations, with the model kept beside it.
 */
#ifndef PAWL_SIM_WORLD_H
#define PAWL_SIM_WORLD_H

#include "model.h"
#include "pawl.h"
#include "sim_seam.h"

enum op_kind {
    OP_COMMIT, /* one transaction, durable on return */
    OP_ASYNC,  /* one that isn't waited for */
    OP_BIG,    /* one that spills */
    OP_ABORT,  /* one that spills and is dropped */
    OP_STEP,   /* input to output with the position, by hand */
    OP_STEP_ASYNC,
    OP_RUN,      /* the same by the runtime */
    OP_PRODUCE,  /* a producer's next sequence */
    OP_REPEAT,   /* a producer's last sequence once more: nothing happens */
    OP_TAKEOVER, /* a producer opened anew */
    OP_DECIDE,   /* a sink's decision, and later its end */
    OP_TICK,     /* time passes: witness, preparation */
    OP_DISPATCH,
    OP_READ,   /* what a committed reader shows counts as acknowledged */
    OP_FOLLOW, /* ... and what another process is shown */
    OP_RETAIN, /* drop what every processor has passed */
    OP_STREAM, /* a stream is created, or deleted */
    OP_CAP,    /* another disk cap */
    OP_REOPEN, /* closed in good order and opened */
    OP_KILL,   /* the process dies, the machine lives; opened again */
    OP_POWER,  /* the machine loses power; opened again */
    OP_KINDS
};

struct op {
    enum op_kind kind;
    uint32_t arg;
};

struct world {
    struct sim_machine m;
    struct model *model;
    pawl *log;
    uint32_t stream[2];
    uint32_t processor;
    pawl_producer *producer[2];
    bool committed_input; /* of the processor that runs */
    bool refused;         /* the last call was refused for want of memory or space */
    bool failed;          /* the handle has failed for good, as a fault made it */
    char why[512];        /* what is wrong; "" nothing */
};

/* Bounds of what a log may hold after a crash. */
struct bounds {
    int low, high;
};

extern const char *const op_name[OP_KINDS];

/* Opens (and creates) the log of w->m. Returns the library's code. */
int world_open(struct world *w, bool read_only);
/* Lets go of the handle as a killed process does: the disk stays as it is. */
void world_abandon(struct world *w);
/* Finds or creates streams, processor and producers; part of the history as everything else. */
void world_set_up(struct world *w);
void world_do(struct world *w, struct op o);
/* Ends a submitted commit by what the library said of it: with `count` commits it is the last. */
void world_ended(struct world *w, const char *call, int rc, int count);
/* -- world_catalog.c */
void world_stream(struct world *w);            /* OP_STREAM */
void world_cap(struct world *w, uint32_t arg); /* OP_CAP */
/* Compares the whole open log with the model. The number of commits it holds, or -1 and w->why. */
int world_check(struct world *w, struct bounds b);
/* After a writer has recovered: the newest begun segment's header stands there twice, both copies
 * equal. */
void world_check_header(struct world *w);
/* Reads what a mended log has left: each record as written, the others told to be lost; nothing
 * beyond what was committed. */
void world_check_remains(struct world *w);
void world_wrong(struct world *w, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
