/* SPDX-License-Identifier: Apache-2.0
 *
 * bench.h - the whole bench: cases, each with a few contenders that take turns, and their goals.
 * `pawl bench` and the program bench/ are thin shells around it; the latter adds the peers.
 *
 * Every figure is a ratio of things measured alternately. In each round the contenders of a case
 * are started again and take slices of some hundredths of a second in turn. A ratio is taken within
 * a round, and the median of the rounds counts. So other work on the machine affects all alike.
 */
#ifndef PAWL_BENCH_BENCH_H
#define PAWL_BENCH_BENCH_H

#include <stdio.h>

#include "measure.h"

enum { ROUNDS_MAX = 15, SIDES_MAX = 9, GOALS_MAX = 4, CASES_MAX = 64 };

struct peer {
    const char *name;
    contender_fn step;   /* the whole job (jobs.h), s->batch records at a time; records/s */
    contender_fn append; /* its first half; commits/s, and latencies */
    contender_fn keyed;  /* counts keys, as job_keyed() does; records/s */
};

enum unit { PER_SECOND_RECORDS, PER_SECOND_COMMITS, PER_SECOND_BYTES, LATENCY, BYTES_PER_RECORD };

struct side {
    const char *name;
    contender_fn fn;
    struct setting s;
    bool peer;
    bool failed;
    char why[200];
    struct turn turn[ROUNDS_MAX];
};

enum against { AGAINST_SIDE, AGAINST_BEST_PEER, AGAINST_NOTHING, WRITTEN_BYTES, ALLOCATIONS };

struct goal {
    enum against against;
    int side; /* AGAINST_SIDE: index of the side */
    bool at_least;
    double limit; /* 0: no goal, the ratio is only shown */
    bool known;   /* there is a result */
    bool reached;
    double median, least, most;
    char text[64]; /* its unit: "x F1" */
    char name[24]; /* name of the best peer */
};

struct bench_case {
    char name[32], title[120];
    enum unit unit;
    bool full_only;                 /* not in quick runs */
    unsigned rounds_wanted, slices; /* 0: the bench's defaults */
    int sides, goals, rounds;       /* rounds: number made */
    struct side side[SIDES_MAX];    /* the first is Pawl */
    struct goal goal[GOALS_MAX];
};

struct bench {
    /* set by the caller */
    char dir[3900]; /* an empty directory for the bench alone */
    const struct peer *peers;
    size_t peer_count;
    unsigned rounds;
    uint64_t slice_ns;
    unsigned slices; /* of each contender in a round */
    /* size of logs that are read or recovered; the larger one to reopen is 8 or 64 times that */
    uint64_t log_bytes;
    bool quick, large, tiny;
    /* non-zero: stop now */
    int (*stopping)(void);
    void (*progress)(void *arg, const char *what, unsigned done, unsigned total); /* may be NULL */
    void *progress_arg;
    /* set by the bench */
    struct bench_case *cases; /* from bench_make() */
    int case_count;
    const char *file_system;
    /* runnable and waiting processes before the bench began, as the kernel's one-minute average:
     * the load of others */
    double load_before;
    char choice[128];         /* of the floor */
    double flushes_per_write; /* of F1, as the device reports; 0: it doesn't */
};

/* Makes the cases whose name begins with one of `only` (NULL-terminated; NULL: all). False: no
 * memory, or none is left. */
bool bench_make(struct bench *b, const char *const *only);
/* Drops the cases whose name begins with none of `only`. False: none is left. */
bool bench_keep(struct bench *b, const char *const *only);
/* For your own cases, in b->cases (of CASES_MAX). */
struct bench_case *bench_add_case(struct bench *b, enum unit unit, const char *name,
                                  const char *title, ...) __attribute__((format(printf, 4, 5)));
struct side *bench_add_side(struct bench_case *c, const char *name, contender_fn fn,
                            struct setting s);
struct setting bench_setting(const struct bench *b, uint32_t record, uint32_t batch);
/* Prepares the floor and runs all cases. Calls `done` after each. False: it can't be measured here,
 * or was stopped; `why` has the reason. */
bool bench_run(struct bench *b,
               void (*done)(void *arg, const struct bench *b, const struct bench_case *c),
               void *arg, char *why, size_t why_size);
void bench_free(struct bench *b);

/* ---- figures (figures.c) */

double side_median(const struct bench_case *c, const struct side *s);
/* The median over the turns of a figure of one turn. */
double side_figure(const struct bench_case *c, const struct side *s,
                   double (*of)(const struct turn *));
double cpu_ns_per_record(const struct turn *t);
double flushes_per_commit(const struct turn *t);
/* per payload byte: bytes that the device wrote for all processes, during the slices */
double device_bytes_per_byte(const struct turn *t);
/* per payload byte: bytes that the kernel counts for the process, from the first slice to the
 * last */
double written_per_byte(const struct turn *t);
/* The least over the turns: writes of others only add to it. */
double side_least(const struct bench_case *c, const struct side *s,
                  double (*of)(const struct turn *));
/* True if the device saw a flush for each commit of a contender that commits one after the other,
 * or if it doesn't report them. */
bool side_syncs(const struct bench *b, const struct bench_case *c, const struct side *s);
void judge(struct bench *b, struct bench_case *c);

/* ---- reports (report.c) */

/* All that is known of a case. */
void report_case(FILE *to, const struct bench *b, const struct bench_case *c);
/* For users who test their own disk: a few lines for each case, and a verdict at the end. */
void report_brief(FILE *to, const struct bench_case *c);
void report_verdict(FILE *to, const struct bench *b);
void report_summary(FILE *to, const struct bench *b);
const char *file_system(const char *dir); /* its name: "ext4" */
void report_json(FILE *to, const struct bench *b);

#endif
