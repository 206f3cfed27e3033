/* SPDX-License-Identifier: Apache-2.0
 *
 * main.c - the bench with its peers.
 *
 *     bench [--quick] [--large] [--tiny] [--tune] [--rounds N] [--seconds S] [--json FILE] DIR
 *     [CASE...]
 *
 * --tune compares settings of the peers and of the floor instead. CASE is the beginning of a case's
 * name. --tiny takes a few milliseconds a turn: its figures mean nothing; it only checks that every
 * case runs.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench/bench.h"
#include "bench/peers/peers.h"
#include "tune.h"

static volatile sig_atomic_t stop;

static void on_signal(int number) {
    (void)number;
    stop = 1;
}

static int stopping(void) {
    return stop;
}

static int usage(void) {
    fputs("usage: bench [--quick] [--large] [--tiny] [--tune] [--list] [--rounds N] [--seconds S] "
          "[--json "
          "FILE] DIR "
          "[CASE...]\n",
          stderr);
    return 2;
}

static void show(void *arg, const struct bench *b, const struct bench_case *c) {
    (void)arg;
    report_case(stdout, b, c);
}

static void progress(void *arg, const char *what, unsigned done, unsigned total) {
    (void)arg;
    fprintf(stderr, "\r\x1b[K");
    if (done < total)
        fprintf(stderr, "%u of %u: %s", done, total, what);
}

static int run(struct bench *b, const char *json) {
    char why[500] = "";
    bool well = bench_run(b, show, NULL, why, sizeof why);
    if (!well)
        fprintf(stderr, "bench: %s\n", why);
    report_summary(stdout, b);
    FILE *f = json != NULL ? fopen(json, "w") : NULL;
    if (f != NULL) {
        report_json(f, b);
        well = fclose(f) == 0 && well;
    } else if (json != NULL) {
        fprintf(stderr, "bench: %s: %s\n", json, strerror(errno));
        well = false;
    }
    for (int i = 0; i < b->case_count; i++)
        for (int k = 0; k < b->cases[i].sides; k++)
            well = well && !b->cases[i].side[k].failed;
    return well ? 0 : 1;
}

int main(int argc, char **argv) {
    enum { QUICK, LARGE, TINY, TUNE, LIST, ROUNDS, SECONDS, JSON };
    static const struct option options[] = {
        {"quick", 0, 0, QUICK},     {"large", 0, 0, LARGE}, {"tiny", 0, 0, TINY},
        {"tune", 0, 0, TUNE},       {"list", 0, 0, LIST},   {"rounds", 1, 0, ROUNDS},
        {"seconds", 1, 0, SECONDS}, {"json", 1, 0, JSON},   {0}};
    static struct bench b = {.rounds = 5,
                             .slice_ns = 50000000,
                             .slices = 10,
                             .log_bytes = UINT64_C(1) << 30,
                             .stopping = stopping};
    const char *json = NULL;
    bool list = false, tune = false;
    for (int got; (got = getopt_long(argc, argv, "", options, NULL)) != -1;)
        switch (got) {
        case QUICK:
            b.quick = true, b.rounds = 3, b.slices = 4, b.log_bytes = UINT64_C(256) << 20;
            break;
        case LARGE:
            b.large = true;
            break;
        case TINY:
            b.tiny = true, b.slice_ns = 2000000, b.rounds = b.slices = 1,
            b.log_bytes = UINT64_C(16) << 20;
            break;
        case TUNE:
            tune = true;
            break;
        case LIST:
            list = true;
            break;
        case ROUNDS:
            b.rounds = (unsigned)atoi(optarg);
            break;
        case SECONDS:
            b.slices = (unsigned)(atof(optarg) * 1e9 / (double)b.slice_ns);
            break;
        case JSON:
            json = optarg;
            break;
        default:
            return usage();
        }
    b.peers = peers, b.peer_count = peer_count;
    measure_allocations = peers_allocations;
    if (b.rounds < 1 || b.rounds > ROUNDS_MAX || b.slices == 0 || (optind >= argc && !list))
        return usage();
    const char *const *only = list ? NULL : (const char *const *)argv + optind + 1;
    if (tune ? !tune_make(&b) || !bench_keep(&b, only) : !bench_make(&b, only)) {
        fputs("bench: there is no such case; --list tells their names\n", stderr);
        return 2;
    }
    for (int i = 0; list && i < b.case_count; i++)
        printf("%-24s %s\n", b.cases[i].name, b.cases[i].title);
    if (list)
        return 0;
    snprintf(b.dir, sizeof b.dir, "%s/pawl-bench.%ld", argv[optind], (long)getpid());
    if (mkdir(b.dir, 0700) != 0) {
        fprintf(stderr, "bench: %s: %s\n", b.dir, strerror(errno));
        return 3;
    }
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    if (isatty(2))
        b.progress = progress;
    int code = run(&b, json);
    remove_dir(b.dir);
    bench_free(&b);
    return code;
}
