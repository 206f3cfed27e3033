/* SPDX-License-Identifier: Apache-2.0
 *
 * bench.h - the bench as a whole: cases, each a few contenders that take turns, and what is to come
 * of them. `pawl bench` and the program bench/ are thin shells around it; the latter brings the
 * peers.
 *
 * Every figure is a ratio of things measured alternately: in each round the contenders of a case
 * are started anew and take slices of some hundredths of a second in turn; a ratio is taken within
 * a round, and the median of the rounds is what counts. What else the machine does hits all alike.
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
    int side; /* AGAINST_SIDE: which */
    bool at_least;
    double limit; /* 0: no goal, the ratio is only shown */
    bool known;   /* there is a result */
    bool reached;
    double median, least, most;
    char text[64]; /* what it is measured in: "x F1" */
    char name[24]; /* the best peer's */
};

struct bench_case {
    char name[32], title[120];
    enum unit unit;
    bool full_only;                 /* not in quick runs */
    unsigned rounds_wanted, slices; /* 0: as the bench says */
    int sides, goals, rounds;       /* rounds: those that were made */
    struct side side[SIDES_MAX];    /* the first is Pawl */
    struct goal goal[GOALS_MAX];
};

struct bench {
    /* given */
    char dir[3900]; /* an empty directory of its own */
    const struct peer *peers;
    size_t peer_count;
    unsigned rounds;
    uint64_t slice_ns;
    unsigned slices; /* of each contender, in a round */
    /* of logs that are read or recovered; the larger one to reopen is eight times that, or
     * sixty-four */
    uint64_t log_bytes;
    bool quick, large, tiny;
    /* non-zero: end it now */
    int (*stopping)(void);
    void (*progress)(void *arg, const char *what, unsigned done, unsigned total); /* may be NULL */
    void *progress_arg;
    /* made */
    struct bench_case *cases; /* of bench_make() */
    int case_count;
    const char *file_system;
    /* runnable and waiting processes, as the kernel averages them over a minute: others' work,
     * before ours began */
    double load_before;
    char choice[128];         /* the floor's */
    double flushes_per_write; /* of F1, as the device tells; 0: it doesn't */
};

/* Makes the cases whose name begins with one of `only` (NULL-terminated; NULL: all). False: no
 * memory, or none is left. */
bool bench_make(struct bench *b, const char *const *only);
/* Drops the cases whose name begins with none of `only`. False: none is left. */
bool bench_keep(struct bench *b, const char *const *only);
/* For cases of one's own, in b->cases (of CASES_MAX). */
struct bench_case *bench_add_case(struct bench *b, enum unit unit, const char *name,
                                  const char *title, ...) __attribute__((format(printf, 4, 5)));
struct side *bench_add_side(struct bench_case *c, const char *name, contender_fn fn,
                            struct setting s);
struct setting bench_setting(const struct bench *b, uint32_t record, uint32_t batch);
/* Prepares the floor, and runs them all. `done` is told of each as it ends. False, and `why`: it
 * can't be measured here, or was stopped. */
bool bench_run(struct bench *b,
               void (*done)(void *arg, const struct bench *b, const struct bench_case *c),
               void *arg, char *why, size_t why_size);
void bench_free(struct bench *b);

/* ---- figures (figures.c) */

double side_median(const struct bench_case *c, const struct side *s);
/* Medians over the turns of what one turn tells. */
double side_figure(const struct bench_case *c, const struct side *s,
                   double (*of)(const struct turn *));
double cpu_ns_per_record(const struct turn *t);
double flushes_per_commit(const struct turn *t);
/* as the device saw it, all processes, during the slices */
double device_bytes_per_byte(const struct turn *t);
/* as the kernel accounts it to the process, from the first slice to the last */
double written_per_byte(const struct turn *t);
/* The least over the turns: what others write at the same time only adds. */
double side_least(const struct bench_case *c, const struct side *s,
                  double (*of)(const struct turn *));
/* Whether the device saw a flush for each commit of a contender that commits one after the other;
 * true where it can't be told. */
bool side_syncs(const struct bench *b, const struct bench_case *c, const struct side *s);
void judge(struct bench *b, struct bench_case *c);

/* ---- what is shown (report.c) */

/* With all that is known of it. */
void report_case(FILE *to, const struct bench *b, const struct bench_case *c);
/* For people who want to know how it does on their disk: a few lines a case, and a verdict at the
 * end. */
void report_brief(FILE *to, const struct bench_case *c);
void report_verdict(FILE *to, const struct bench *b);
void report_summary(FILE *to, const struct bench *b);
const char *file_system(const char *dir); /* "ext4" and the like */
void report_json(FILE *to, const struct bench *b);

#endif
