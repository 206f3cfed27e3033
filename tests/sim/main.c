/* SPDX-License-Identifier: Apache-2.0
 *
 * sim - the simulator's command. `sim walk` runs plans made from seeds; `sim replay` runs plans
 * from a file; `sim all` runs small workloads with every subset of the state that isn't durable at
 * each moment. On an error, exit code 1 and a plan to replay.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "plan.h"

struct total {
    uint64_t plans, states, by_depth[EXPLORE_DEPTH + 1], continued, damaged, refused, exact, mended,
        steps, commits, crashes, faults, moments, skipped;
    uint64_t wrong;
};

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void add(struct total *t, const struct outcome *o) {
    t->plans++;
    t->states += o->found.states;
    for (int i = 0; i <= EXPLORE_DEPTH; i++)
        t->by_depth[i] += o->found.by_depth[i];
    t->continued += o->found.continued;
    t->damaged += o->found.damaged;
    t->refused += o->found.refused;
    t->exact += o->found.exact;
    t->mended += o->found.mended;
    t->steps += o->steps;
    t->commits += o->commits;
    t->crashes += o->crashes;
    t->faults += o->faults;
    t->wrong += o->why[0] != 0;
}

static void print(const struct total *t, double took) {
    printf("plans %" PRIu64 ", steps %" PRIu64 ", commits %" PRIu64
           ", crashes lived through %" PRIu64 ", faults met %" PRIu64 "\n",
           t->plans, t->steps, t->commits, t->crashes, t->faults);
    printf("crash states recovered %" PRIu64 " (while working %" PRIu64
           ", while recovering %" PRIu64 ", once more %" PRIu64 "), written on %" PRIu64 "\n",
           t->states, t->by_depth[1], t->by_depth[2], t->by_depth[3], t->continued);
    if (t->moments + t->skipped != 0)
        printf("moments with all their subsets %" PRIu64 ", with a part of them %" PRIu64 "\n",
               t->moments, t->skipped);
    printf("damaged states %" PRIu64 ": refused %" PRIu64 " (of these mended %" PRIu64
           "), exact %" PRIu64 "\n",
           t->damaged, t->refused, t->mended, t->exact);
    printf("%.1f s, %.0f states/s: %s\n", took, (double)t->states / took,
           t->wrong == 0 ? "all is well" : "WRONG");
}

static void tell(struct plan *p, struct outcome *o, bool shrink) {
    char text[8192];
    plan_print(p, text, sizeof text);
    printf("WRONG at operation %d of seed %" PRIu64 ": %s\n  %s\n", o->at, p->seed, o->why, text);
    fflush(stdout);
    if (!shrink)
        return;
    plan_shrink(p, o);
    plan_print(p, text, sizeof text);
    printf("  cut down to: %s\n  %s\n", o->why, text);
    fflush(stdout);
}

/* ---------------------------------------------------------------- walk */

struct walk {
    uint64_t from, count;
    double until;
    unsigned jobs;
    bool twice, shrink;
};

static void run_seeds(const struct walk *k, unsigned job, struct total *t) {
    for (uint64_t s = k->from + job;
         s < k->from + k->count && seconds() < k->until && t->wrong == 0; s += k->jobs) {
        struct plan p;
        struct outcome o, again;
        plan_make(&p, s);
        plan_run(&p, &o);
        if (k->twice && o.why[0] == 0) {
            plan_run(&p, &again);
            if (again.trace != o.trace)
                snprintf(o.why, sizeof o.why, "the same seed ran differently");
        }
        add(t, &o);
        if (o.why[0] != 0)
            tell(&p, &o, k->shrink);
    }
}

typedef void (*job_fn)(const void *what, unsigned job, struct total *t);

/* Runs fn in `jobs` processes and adds up their totals. */
static void in_parallel(unsigned jobs, job_fn fn, const void *what, struct total *sum) {
    int fd[64];
    for (unsigned j = 0; j < jobs; j++) {
        int ends[2];
        if (pipe(ends) != 0)
            abort();
        fflush(stdout);
        if (fork() == 0) {
            struct total t = {0};
            fn(what, j, &t);
            if (write(ends[1], &t, sizeof t) != sizeof t)
                abort();
            fflush(stdout);
            exit(0); /* not _exit(), because exit() writes the coverage data */
        }
        close(ends[1]);
        fd[j] = ends[0];
    }
    for (unsigned j = 0; j < jobs; j++) {
        struct total t = {0};
        if (read(fd[j], &t, sizeof t) != sizeof t) {
            printf("WRONG: a process died\n");
            t.wrong = 1;
        }
        const uint64_t *a = (const uint64_t *)&t;
        for (size_t i = 0; i < sizeof t / sizeof *a; i++)
            ((uint64_t *)sum)[i] += a[i];
        close(fd[j]);
    }
    while (wait(NULL) > 0 || errno == EINTR) {
    }
}

static void walk_job(const void *what, unsigned job, struct total *t) {
    run_seeds(what, job, t);
}

/* ---------------------------------------------------------------- all */

static const struct op alphabet[] = {{OP_COMMIT, 1},   {OP_ASYNC, 2},      {OP_BIG, 1},
                                     {OP_STEP, 2},     {OP_STEP_ASYNC, 1}, {OP_PRODUCE, 1},
                                     {OP_TAKEOVER, 0}, {OP_DECIDE, 0},     {OP_TICK, 2},
                                     {OP_RETAIN, 0},   {OP_REOPEN, 0},     {OP_ABORT, 1}};
#define LETTERS (sizeof alphabet / sizeof alphabet[0])

struct all {
    unsigned jobs, length;
    int limit;
    double until;
};

struct all_hook {
    struct explore e;
    struct world *w;
    struct total *t;
    int limit;
    bool on;
};

static void all_step(void *arg, struct sim_machine *m) {
    struct all_hook *h = arg;
    if (!h->on || h->e.why[0] != 0)
        return;
    struct bounds b = {h->w->model->acknowledged, h->w->model->count};
    if (explore_all(&h->e, m, h->w->model, b, h->limit))
        h->t->moments++;
    else
        h->t->skipped++;
}

static void run_word(const struct all *a, const struct op *word, unsigned len, struct total *t) {
    struct world w;
    static struct model model;
    memset(&w, 0, sizeof w);
    struct all_hook h = {.e = {.rng = {7}, .images = 1}, .w = &w, .t = t, .limit = a->limit};
    model_init(&model);
    sim_machine_init(&w.m, 5, 16 * 65536);
    w.m.direct = w.m.calm = true;
    w.model = &model;
    w.m.step = all_step;
    w.m.arg = &h;
    if (world_open(&w, false) != 0)
        abort();
    world_set_up(&w);
    world_do(&w, (struct op){OP_COMMIT, 3});
    h.on = true;
    for (unsigned i = 0; i < len && w.why[0] == 0; i++)
        world_do(&w, word[i]);
    h.on = false;
    struct outcome o = {.found = h.e, .steps = w.m.steps, .commits = (uint64_t)model.count};
    snprintf(o.why, sizeof o.why, "%s",
             w.why[0] != 0      ? w.why
             : w.m.note[0] != 0 ? w.m.note
                                : h.e.why);
    add(t, &o);
    if (o.why[0] != 0) {
        printf("WRONG:");
        for (unsigned i = 0; i < len; i++)
            printf(" %s:%u", op_name[word[i].kind], word[i].arg);
        printf(": %s\n", o.why);
    }
    world_abandon(&w);
    disk_free(&w.m.disk);
}

static void all_job(const void *what, unsigned job, struct total *t) {
    const struct all *a = what;
    unsigned long words = 1;
    for (unsigned i = 0; i < a->length; i++)
        words *= LETTERS;
    for (unsigned long n = job; n < words && seconds() < a->until && t->wrong == 0; n += a->jobs) {
        struct op word[8];
        unsigned long x = n;
        for (unsigned i = 0; i < a->length; i++, x /= LETTERS)
            word[i] = alphabet[x % LETTERS];
        run_word(a, word, a->length, t);
    }
}

/* ---------------------------------------------------------------- every call fails */

/* Every kind of operation, over several segments, with recoveries. */
static const struct op everything[] = {
    {OP_COMMIT, 3},   {OP_TAKEOVER, 0}, {OP_PRODUCE, 1}, {OP_STEP, 2},       {OP_BIG, 40},
    {OP_RUN, 1},      {OP_ABORT, 5},    {OP_DECIDE, 0},  {OP_TICK, 2},       {OP_ASYNC, 2},
    {OP_DISPATCH, 0}, {OP_READ, 0},     {OP_KILL, 0},    {OP_STEP_ASYNC, 3}, {OP_BIG, 61},
    {OP_RUN, 2},      {OP_RETAIN, 0},   {OP_FOLLOW, 0},  {OP_POWER, 0},      {OP_REPEAT, 1},
    {OP_REOPEN, 0},   {OP_BIG, 30},     {OP_STEP, 1},    {OP_RETAIN, 1},     {OP_TICK, 1},
    {OP_READ, 0}};

struct calls {
    unsigned jobs;
    double until;
};

/* Runs the plan. Returns whether the fault occurred. */
static bool one_failure(struct plan *p, struct total *t) {
    struct outcome o;
    plan_run(p, &o);
    add(t, &o);
    if (o.why[0] != 0)
        tell(p, &o, false);
    return o.faults > 0;
}

/* Makes each call fail in turn, in each way: only that call, and then every call from it on. */
static void each_call(const struct calls *c, unsigned job, struct plan *p, enum sim_fault_kind kind,
                      struct total *t) {
    p->fault_count = 1;
    for (uint32_t n = job; t->wrong == 0 && seconds() < c->until; n += c->jobs) {
        p->fault[0] = (struct sim_fault){n, kind};
        if (!one_failure(p, t))
            return;
    }
}

static void calls_job(const void *what, unsigned job, struct total *t) {
    const struct calls *c = what;
    static const enum sim_fault_kind once[] = {FAULT_EIO,   FAULT_ENOSPC,   FAULT_EROFS,
                                               FAULT_SHORT, FAULT_EAGAIN,   FAULT_ECANCELED,
                                               FAULT_EINTR, FAULT_NO_DSYNC, FAULT_NEVER};
    struct plan p = {.seed = 11, .segments = 12};
    memcpy(p.op, everything, sizeof everything);
    p.op_count = (int)(sizeof everything / sizeof *everything);
    for (unsigned direct = 0; direct < 2; direct++) {
        p.direct = direct != 0;
        p.seed = 11 + direct; /* even: with zeros before use */
        for (unsigned k = 0; k < sizeof once / sizeof *once; k++) {
            p.for_ever = false;
            each_call(c, job, &p, once[k], t);
            p.for_ever = true;
            if (k < 3)
                each_call(c, job, &p, once[k], t);
        }
    }
}

/* ---------------------------------------------------------------- replay */

static int replay(const char *path, bool verbose) {
    FILE *f = fopen(path, "r");
    char line[8192];
    struct total t = {0};
    double begun = seconds();
    if (f == NULL) {
        fprintf(stderr, "sim: %s: %s\n", path, strerror(errno));
        return 2;
    }
    while (fgets(line, sizeof line, f) != NULL) {
        struct plan p;
        struct outcome o;
        if (line[0] == '#' || line[0] == '\n')
            continue;
        if (!plan_parse(line, &p)) {
            fprintf(stderr, "sim: not a plan: %s", line);
            fclose(f);
            return 2;
        }
        plan_run(&p, &o);
        add(&t, &o);
        if (o.why[0] != 0)
            tell(&p, &o, verbose);
    }
    fclose(f);
    print(&t, seconds() - begun);
    return t.wrong == 0 ? 0 : 1;
}

static int usage(void) {
    fprintf(
        stderr,
        "usage: sim walk [--from SEED] [--count N] [--seconds S] [--jobs J] [--twice] [--shrink]\n"
        "       sim all [--length L] [--limit SECTORS] [--seconds S] [--jobs J]\n"
        "       sim calls [--seconds S] [--jobs J]\n"
        "       sim replay FILE [--shrink]\n");
    return 2;
}

int main(int argc, char **argv) {
    struct walk k = {.from = 1, .count = UINT32_MAX, .until = 1e18, .jobs = 1};
    struct all a = {.length = 2, .limit = 12};
    double begun = seconds();
    struct total t = {0};
    if (argc < 2)
        return usage();
    for (int i = strcmp(argv[1], "replay") == 0 ? 3 : 2; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(argv[i], "--twice") == 0)
            k.twice = true;
        else if (strcmp(argv[i], "--shrink") == 0)
            k.shrink = true;
        else if (strcmp(argv[i], "--from") == 0)
            k.from = strtoull(value, NULL, 10), i++;
        else if (strcmp(argv[i], "--count") == 0)
            k.count = strtoull(value, NULL, 10), i++;
        else if (strcmp(argv[i], "--seconds") == 0)
            k.until = begun + strtod(value, NULL), i++;
        else if (strcmp(argv[i], "--jobs") == 0)
            k.jobs = (unsigned)strtoul(value, NULL, 10), i++;
        else if (strcmp(argv[i], "--length") == 0)
            a.length = (unsigned)strtoul(value, NULL, 10), i++;
        else if (strcmp(argv[i], "--limit") == 0)
            a.limit = (int)strtol(value, NULL, 10), i++;
        else
            return usage();
    }
    if (k.jobs == 0 || k.jobs > 64 || a.length > 8)
        return usage();
    if (strcmp(argv[1], "replay") == 0)
        return argc < 3 ? usage() : replay(argv[2], k.shrink);
    a.jobs = k.jobs;
    a.until = k.until;
    if (strcmp(argv[1], "walk") == 0)
        in_parallel(k.jobs, walk_job, &k, &t);
    else if (strcmp(argv[1], "all") == 0)
        in_parallel(a.jobs, all_job, &a, &t);
    else if (strcmp(argv[1], "calls") == 0)
        in_parallel(k.jobs, calls_job, &(struct calls){k.jobs, k.until}, &t);
    else
        return usage();
    print(&t, seconds() - begun);
    return t.wrong == 0 ? 0 : 1;
}
