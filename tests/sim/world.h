/* SPDX-License-Identifier: Apache-2.0
 *
 * world.h - a process that uses Pawl on a simulated machine. A list of operations controls it, and
 * it updates the model in parallel.
 */
#ifndef PAWL_SIM_WORLD_H
#define PAWL_SIM_WORLD_H

#include "model.h"
#include "pawl.h"
#include "sim_seam.h"

enum op_kind {
    OP_COMMIT, /* one transaction, durable on return */
    OP_ASYNC,  /* one asynchronous commit */
    OP_BIG,    /* one that spills */
    OP_ABORT,  /* one that spills and is dropped */
    OP_STEP,   /* input to output with the position, by hand */
    OP_STEP_ASYNC,
    OP_RUN,      /* the same, through pawl_run() */
    OP_PRODUCE,  /* a producer's next sequence */
    OP_REPEAT,   /* a producer's last sequence again: no effect */
    OP_TAKEOVER, /* a producer is opened again */
    OP_DECIDE,   /* a sink's decision, and later its end */
    OP_TICK,     /* time passes: witness, preparation */
    OP_DISPATCH,
    OP_READ,   /* records that a committed reader returns count as acknowledged */
    OP_FOLLOW, /* ... and those that another process reads */
    OP_RETAIN, /* drop segments that every processor has passed */
    OP_STREAM, /* a stream is created, or deleted */
    OP_CAP,    /* the disk cap changes */
    OP_REOPEN, /* the log is closed and opened */
    OP_KILL,   /* the process dies, the machine lives; opened again */
    OP_POWER,  /* the machine loses power; opened again */
    OP_FORGE,  /* a record whose value is frames */
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
    bool committed_input; /* flag of the running processor */
    bool refused;         /* the last call was refused for lack of memory or space */
    bool failed;          /* a fault made the handle fail permanently */
    char why[512];        /* the error found; "": none */
};

/* Bounds of what a log may hold after a crash. */
struct bounds {
    int low, high;
};

extern const char *const op_name[OP_KINDS];

/* Opens (and creates) the log of w->m. Returns the library's code. */
int world_open(struct world *w, bool read_only);
/* Abandons the handle as a killed process does: the disk doesn't change. */
void world_abandon(struct world *w);
/* Finds or creates streams, processor and producers; these commits are part of the model too. */
void world_set_up(struct world *w);
void world_do(struct world *w, struct op o);
/* Updates the model with the result `rc` of a submitted commit, the last of `count`. */
void world_ended(struct world *w, const char *call, int rc, int count);
/* -- world_catalog.c */
void world_stream(struct world *w);            /* OP_STREAM */
void world_cap(struct world *w, uint32_t arg); /* OP_CAP */
/* -- world_forge.c */
void world_forge(struct world *w, uint32_t arg); /* OP_FORGE */
void world_check_forged(struct world *w);        /* no forged frame has come into the open log */
/* Compares the whole open log with the model. Returns the number of its commits, or -1 and sets
 * w->why. */
int world_check(struct world *w, struct bounds b);
/* After a writer has recovered: checks that the newest begun segment has both header copies, and
 * that they are equal. */
void world_check_header(struct world *w);
/* Reads a mended log: each record must be as written or reported as lost, and no record may be
 * there that was not committed. */
void world_check_remains(struct world *w);
void world_wrong(struct world *w, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
