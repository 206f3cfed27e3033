/* SPDX-License-Identifier: Apache-2.0
 *
 * crashtest.h - what the parts of `pawl crashtest` share.
 *
 * ../cmd_crashtest.c   options, the loop over cycles, the verdict
 * report.c             the table and the JSON
 * builtin.c            cycles of the built-in pipeline: which log, which kill, what is checked
 *                      after it
 * worker.c             the built-in pipeline, in the process that is killed
 * program.c            cycles of the user's own program
 * child.c              one life of the killed process: acknowledgements, the kill, its end
 * oracle.c, chain.c, record.c
 *                      what must be in the log; they share nothing with the library
 */
#ifndef PAWL_CLI_CRASHTEST_H
#define PAWL_CLI_CRASHTEST_H

#include <sys/types.h>

#include "cli/cli.h"
#include "cli/crashtest/oracle.h"

#define CT_GUARANTEES 3
#define CT_POINTS_MAX 32
#define CT_JOBS_MAX 5

/* ---- one life of the killed process (child.c) */

/* What the process said over the pipe before it was killed: the highest values so far, over all
 * lives of one log. */
typedef struct ct_acks {
    bool any; /* it speaks the protocol */
    bool tells_put;
    uint64_t put;                    /* may have submitted inputs below this */
    uint64_t in;                     /* has been told that these are durable */
    uint64_t out[CT_PARTITIONS_MAX]; /* this many outputs are durable */
    bool opened;                     /* this life */
    uint64_t open_ns;                /* this life; 0: not told */
    uint64_t opened_at_ns;           /* when we heard of it */
    char fail[256];                  /* this life: why it gave up */
    char line[256];
    size_t held;
} ct_acks;

enum ct_end { CT_KILLED, CT_ENDED, CT_FAILED };

typedef struct ct_life {
    pid_t pid;
    int acks_fd;
    bool group; /* it leads a process group, which is killed with it */
    /* after its start, or with after_open after its opening; UINT64_MAX: it kills itself */
    uint64_t kill_ns;
    bool after_open;
    uint64_t limit_ns; /* after its start: it hangs */
} ct_life;

/* From now on every orphan among the descendants of this process becomes its child, so that
 * ct_life_watch() finds what a program has left behind. */
void ct_adopt(void);
/* In a new process: it is killed when `parent` dies. */
void ct_die_with(pid_t parent);

/* Waits for its acknowledgements and its end, killing it when it is time. What is wrong goes to
 * *problem (CT_FAILED). */
enum ct_end ct_life_watch(const ct_life *life, ct_acks *acks, ct_problem *problem);

/* Reads what is new, and compares it with what was acknowledged and submitted. 0, or -1. */
int ct_verify(ct_oracle *o, const ct_acks *acks);

/* ---- the built-in pipeline's worker (worker.c) */

typedef struct ct_work {
    const char *dir;
    uint64_t seed; /* of the records */
    uint64_t rng;  /* of this life's choices */
    int guarantee; /* enum ct_guarantee */
    int acks_fd;
    /* is ended so long after its start, or with after_open after its opening; UINT64_MAX: not by
     * time */
    uint64_t kill_ns;
    bool after_open;
    const char *point; /* ends itself at the count-th time here; NULL: nowhere */
    uint32_t count;
    bool create;       /* there is no log yet */
    bool big;          /* large transactions, so that segments end soon */
    bool finish;       /* works off what is there, appends nothing, closes */
    bool lingers;      /* waits for its end when its work is done, instead of closing */
    const char *fault; /* a deliberate fault, so that tests can see it found; NULL: none */
} ct_work;

#define CT_SEGMENT (UINT64_C(1) << 20)
/* retention: more than one life writes, so that the oracle misses nothing */
#define CT_KEEP (8 * CT_SEGMENT)
/* by which the log may grow before a life appends no more */
#define CT_LIFE_BYTES (3 * CT_SEGMENT / 2)
#define CT_PARTITIONS 2

/* Runs in the process that is killed; returns its exit status. */
int ct_worker(const ct_work *work);

/* ---- results */

typedef struct ct_tally {
    bool used;
    uint64_t kills, recovery_kills, ended, logs, acked;
    uint64_t inputs, outputs, lost, doubled; /* of finished logs */
} ct_tally;

typedef struct ct_result {
    uint64_t seed;
    const char *dir;
    bool builtin, records; /* records: the exactly-once check was made */
    ct_tally tally[CT_GUARANTEES];
    struct {
        const char *name;
        uint64_t kills;
    } points[CT_POINTS_MAX];
    uint32_t point_count;
    uint32_t *open_us; /* of every opening that was told */
    size_t opens, open_cap;
    uint64_t begun_ns, ended_ns;
    uint64_t bytes; /* of frames that the oracle read */
    uint64_t cycle; /* the one at hand */
    ct_problem problem;
} ct_result;

typedef struct ct_limits {
    uint64_t kills;    /* in all; UINT64_MAX: none given */
    uint64_t until_ns; /* UINT64_MAX: none given */
} ct_limits;

uint64_t ct_kills(const ct_result *r);
uint64_t ct_recovery_kills(const ct_result *r);
void ct_note_open(ct_result *r, uint64_t ns);
/* Is it time to end, or did somebody ask? Shows the progress. */
bool ct_enough(const ct_result *r, const ct_limits *limits, cli_progress *progress);

/* Cycles until ct_enough(). 0, or -1 with r->problem. `guarantee` of enum ct_guarantee, or
 * CT_GUARANTEES for all. */
int ct_builtin_run(ct_result *r, const ct_limits *limits, int guarantee, int jobs);
int ct_program_run(ct_result *r, const ct_limits *limits, int guarantee, char **program);

extern const char *const ct_guarantee_names[CT_GUARANTEES];
void ct_report(const ct_result *r, bool json);

#endif
