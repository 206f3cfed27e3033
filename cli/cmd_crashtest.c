/* SPDX-License-Identifier: Apache-2.0
 *
 * cmd_crashtest.c - `pawl crashtest`: kills a pipeline with SIGKILL again and again, and shows
 * after each kill that the log holds what it must.
 */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/crashtest/crashtest.h"

enum { KILLS, SECONDS, SEED, GUARANTEE, JOBS, JSON };
static const cli_option options[] = {
    [KILLS] = {"kills", "N", "end after N kills (1000, unless --seconds is given)"},
    [SECONDS] = {"seconds", "N", "end after N seconds"},
    [SEED] = {"seed", "S", "what records and kills are derived from (a random number)"},
    [GUARANTEE] = {"guarantee", "G",
                   "at-most-once, at-least-once, exactly-once, or all (all; for CMD exactly-once)"},
    [JOBS] = {"jobs", "N", "processes that live and are killed at the same time, 1 to 5 (1)"},
    [JSON] = {"json", NULL, "one JSON object instead of text for people"},
    {NULL, NULL, NULL},
};

static int parse(const cli_args *a, ct_limits *limits, uint64_t *seed, int *guarantee, int *jobs) {
    const char *text;
    uint64_t n = 0;
    *limits = (ct_limits){UINT64_MAX, UINT64_MAX};
    if ((text = a->value[KILLS]) != NULL &&
        (!cli_parse_number(text, &limits->kills) || limits->kills == 0))
        return cli_usage(a, "--kills takes a number from 1, not '%s'", text);
    if ((text = a->value[SECONDS]) != NULL) {
        if (!cli_parse_number(text, &n) || n == 0 || n > UINT32_MAX)
            return cli_usage(a, "--seconds takes a number from 1, not '%s'", text);
        limits->until_ns = cli_now_ns() + n * 1000000000;
    } else if (a->value[KILLS] == NULL) {
        limits->kills = 1000;
    }
    if ((text = a->value[JOBS]) != NULL) {
        if (!cli_parse_number(text, &n) || n == 0 || n > CT_JOBS_MAX || a->program != NULL)
            return cli_usage(a, "--jobs takes a number from 1 to %d, and not with CMD",
                             CT_JOBS_MAX);
        *jobs = (int)n;
    }
    if ((text = a->value[SEED]) == NULL) {
        if (getrandom(seed, 4, 0) != 4)
            return CLI_PROBLEM;
        *seed &= UINT32_MAX;
    } else if (!cli_parse_number(text, seed)) {
        return cli_usage(a, "--seed takes a number, not '%s'", text);
    }
    *guarantee = a->program != NULL ? CT_EXACTLY_ONCE : CT_GUARANTEES;
    if ((text = a->value[GUARANTEE]) == NULL)
        return CLI_OK;
    for (*guarantee = 0; *guarantee < CT_GUARANTEES; ++*guarantee)
        if (strcmp(text, ct_guarantee_names[*guarantee]) == 0)
            return CLI_OK;
    if (strcmp(text, "all") != 0 || a->program != NULL)
        return cli_usage(a, "--guarantee takes %s%s, not '%s'",
                         "at-most-once, at-least-once or exactly-once",
                         a->program == NULL ? ", or all" : "", text);
    return CLI_OK;
}

static bool empty(const char *dir) {
    DIR *d = opendir(dir);
    bool any = d == NULL;
    for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;)
        any |= strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
    if (d != NULL)
        closedir(d);
    return !any;
}

/* Logs are made, killed and removed in it: it must be nobody else's. */
static int make_dir(const char *dir, bool *made) {
    *made = mkdir(dir, 0700) == 0;
    if (*made || (errno == EEXIST && empty(dir)))
        return CLI_OK;
    cli_error("cannot use %s: %s", dir,
              errno == EEXIST ? "it is not an empty directory" : strerror(errno));
    return CLI_CANNOT_OPEN;
}

/* A crash test of the weaker guarantees that shows no weakness has not tested anything. */
static int judge_weakness(ct_result *r) {
    const ct_tally *least = &r->tally[CT_AT_LEAST_ONCE], *most = &r->tally[CT_AT_MOST_ONCE],
                   *once = &r->tally[CT_EXACTLY_ONCE];
    if (once->lost != 0 || once->doubled != 0 || least->lost != 0 || most->doubled != 0)
        return ct_wrong(
            &r->problem,
            "expected nothing lost but with at-most-once, nothing doubled but with at-least-once");
    if (least->kills >= 100 && least->doubled == 0)
        return ct_wrong(&r->problem,
                        "expected at-least-once to double records in %" PRIu64 " kills; it did not",
                        least->kills);
    if (most->kills >= 100 && most->lost == 0)
        return ct_wrong(&r->problem,
                        "expected at-most-once to lose records in %" PRIu64 " kills; it did not",
                        most->kills);
    return 0;
}

static int run(cli_args *a) {
    ct_limits limits = {0};
    ct_result r = {.dir = a->positional[0], .builtin = a->program == NULL};
    int guarantee = 0, jobs = 1;
    bool made = false;
    if (a->program != NULL && a->program[0] == NULL)
        return cli_usage(a, "there is no program after --");
    int code = parse(a, &limits, &r.seed, &guarantee, &jobs);
    if (code == CLI_OK && r.builtin)
        code = make_dir(r.dir, &made);
    if (code != CLI_OK)
        return code;
    cli_catch_signals(NULL);
    r.records = r.builtin;
    r.begun_ns = cli_now_ns();
    int wrong = r.builtin ? ct_builtin_run(&r, &limits, guarantee, jobs)
                          : ct_program_run(&r, &limits, guarantee, a->program);
    r.ended_ns = cli_now_ns();
    if (wrong == 0 && r.builtin)
        wrong = judge_weakness(&r);
    if (made && wrong == 0)
        rmdir(r.dir);
    ct_report(&r, a->value[JSON] != NULL);
    if (wrong != 0)
        cli_error("crashtest: seed %" PRIu64 ", cycle %" PRIu64 ": %s. %s is kept as it is", r.seed,
                  r.cycle, r.problem.text, r.dir);
    free(r.open_us);
    return cli_finish_output(wrong == 0 ? CLI_OK : CLI_PROBLEM);
}

const cli_command cli_crashtest = {
    .name = "crashtest",
    .synopsis = "DIR [--kills N] [--seconds N] [--seed S] [--guarantee G] [--jobs N] [--json]\n"
                "DIR [--kills N] [--seconds N] [--seed S] [--guarantee G] [--json] -- CMD...",
    .summary = "Kill a pipeline with -9 again and again, and verify the log after each kill",
    .details =
        "Without CMD, a pipeline of its own in DIR (made, or empty; emptied in the end), with each "
        "guarantee. With CMD, your program:\n"
        "it is started again and again with PAWL_CRASHTEST_DIR, PAWL_CRASHTEST_SEED and "
        "PAWL_CRASHTEST_ACK_FD, and the log in DIR\n"
        "is verified and audited after each kill; its records too, if it writes those that the man "
        "page describes.\n"
        "Ends with 1 if anything is not as promised; DIR is then kept.",
    .options = options,
    .min = 1,
    .max = 1,
    .program = true,
    .run = run,
};
