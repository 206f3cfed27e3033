/* SPDX-License-Identifier: Apache-2.0
 *
 * cmd_bench.c - `pawl bench`: Pawl beside the bare system calls, on the user's own disk. What is
 * measured, and how, is bench/'s; here are options, progress and cleaning up.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench/bench.h"
#include "cli/cli.h"

enum { QUICK, ALL, CASE, ROUNDS, TIME, JSON };
static const cli_option options[] = {
    [QUICK] = {"quick", NULL, "a first look, in about a minute"},
    [ALL] = {"all", NULL, "every case; takes some ten minutes and 15 GiB"},
    [CASE] = {"case", "NAME", "only cases whose name begins so; of all"},
    [ROUNDS] = {"rounds", "N", "how often each is measured, 1 to 15 (5; quick: 3)"},
    [TIME] = {"time", "TIME",
              "how long each contender is measured in a round (500ms; quick: 200ms)"},
    [JSON] = {"json", NULL, "one JSON object instead of text for people"},
    {NULL, NULL, NULL},
};

struct show {
    bool json;
    cli_progress progress;
};

static int parse(const cli_args *a, struct bench *b) {
    const char *text;
    uint64_t n;
    b->slice_ns = 50000000;
    b->rounds = a->value[QUICK] != NULL ? 3 : 5;
    b->slices = a->value[QUICK] != NULL ? 4 : 10;
    b->quick = a->value[ALL] == NULL && a->value[CASE] == NULL;
    b->log_bytes = (b->quick ? UINT64_C(256) : UINT64_C(1024)) << 20;
    if (a->value[QUICK] != NULL && a->value[ALL] != NULL)
        return cli_usage(a, "--quick and --all exclude each other");
    if ((text = a->value[ROUNDS]) != NULL) {
        if (!cli_parse_number(text, &n) || n == 0 || n > ROUNDS_MAX)
            return cli_usage(a, "--rounds takes a number from 1 to %d, not '%s'", ROUNDS_MAX, text);
        b->rounds = (unsigned)n;
    }
    if ((text = a->value[TIME]) != NULL) {
        if (!cli_parse_duration(text, &n) || n < 50 || n > 3600000)
            return cli_usage(a, "--time takes a time from 50ms to 1h, not '%s'", text);
        b->slices = (unsigned)(n / 50);
    }
    return CLI_OK;
}

/* Reports are written to a stream; what comes of it goes out the command's way. */
static void show_text(const struct bench *b, const struct bench_case *c,
                      void (*write)(FILE *to, const struct bench *b, const struct bench_case *c)) {
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    if (f == NULL)
        return;
    write(f, b, c);
    if (fclose(f) == 0)
        cli_write(text, size);
    cli_flush();
    free(text);
}

static void write_case(FILE *to, const struct bench *b, const struct bench_case *c) {
    (void)b;
    report_brief(to, c);
}

static void write_end(FILE *to, const struct bench *b, const struct bench_case *c) {
    (void)c;
    report_verdict(to, b);
}

static void write_json(FILE *to, const struct bench *b, const struct bench_case *c) {
    (void)c;
    report_json(to, b);
}

static void on_case(void *arg, const struct bench *b, const struct bench_case *c) {
    struct show *s = arg;
    cli_progress_clear(&s->progress);
    if (!s->json)
        show_text(b, c, write_case);
}

static void on_progress(void *arg, const char *what, unsigned done, unsigned total) {
    struct show *s = arg;
    s->progress.what = what[0] != '\0' ? what : "bench";
    cli_progress_show(&s->progress, done, total);
}

/* 1 also if a case could not be measured; a goal that isn't reached is no failure. */
static int measure(struct bench *b, struct show *s) {
    char why[500] = "";
    bool well = bench_run(b, on_case, s, why, sizeof why);
    cli_progress_clear(&s->progress);
    if (!well) {
        cli_error("bench: %s", cli_stopping() ? "stopped; nothing is left of it" : why);
        return CLI_PROBLEM;
    }
    show_text(b, NULL, s->json ? write_json : write_end);
    int code = CLI_OK;
    for (int i = 0; i < b->case_count; i++)
        for (int k = 0; k < b->cases[i].sides; k++)
            if (b->cases[i].side[k].failed) {
                cli_error("bench: %s: %s", b->cases[i].name, b->cases[i].side[k].why);
                code = CLI_PROBLEM;
            }
    return code;
}

static int run(cli_args *a) {
    static struct bench b;
    struct show s = {.json = a->value[JSON] != NULL};
    const char *only[] = {a->value[CASE], NULL}, *dir = a->count > 0 ? a->positional[0] : ".";
    int code = parse(a, &b);
    if (code != CLI_OK)
        return code;
    b.stopping = cli_stopping;
    b.progress = on_progress;
    b.progress_arg = &s;
    if (!bench_make(&b, only))
        return cli_usage(a, "there is no case '%s'", only[0] != NULL ? only[0] : "");
    snprintf(b.dir, sizeof b.dir, "%s/pawl-bench.%ld", dir, (long)getpid());
    if (mkdir(b.dir, 0700) != 0) {
        cli_error("cannot make a directory in %s: %s", dir, strerror(errno));
        bench_free(&b);
        return CLI_CANNOT_OPEN;
    }
    cli_catch_signals(NULL);
    cli_progress_begin(&s.progress, "bench");
    code = measure(&b, &s);
    remove_dir(b.dir);
    bench_free(&b);
    return cli_finish_output(code);
}

const cli_command cli_bench = {
    .name = "bench",
    .synopsis = "[DIR] [--quick | --all] [--case NAME] [--rounds N] [--time TIME] [--json]",
    .summary = "Measure this machine's disk: the bare system calls, and Pawl beside them",
    .details = "In a directory of its own in DIR (or here), which is removed afterwards, and needs "
               "4 GiB of free "
               "space. Figures are\n"
               "ratios of things measured alternately: F1 is one block after the other made "
               "durable, F4 the best of "
               "several\n"
               "large writes in flight, R4 the same for reads, the two-phase floor a batch of "
               "input and then of "
               "output.\n"
               "Ends with 0 also if a goal is not reached: that tells of Pawl on this disk, not of "
               "a failure.",
    .options = options,
    .min = 0,
    .max = 1,
    .run = run,
};
