/* SPDX-License-Identifier: Apache-2.0
 *
 * idle_sinks DIR [SECONDS] - commits per second of one committer beside 16 idle sinks, relative to
 * the committer alone; goal >= 0.95. Each sink has the 16 partitions of a stream that gets no
 * records. Retention has dropped segments before. The two alternate; the ratio is the median of the
 * rounds' ratios.
 */
#include <pawl_connect.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ROUNDS 11
#define SINKS 16
#define PARTITIONS 16

static void stop(const char *what, int code) {
    fprintf(stderr, "idle_sinks: %s: %s\n", what, pawl_strerror(code));
    exit(1);
}

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* ---- a sink that takes everything */

static int take_open(void *self, const pawl_sink_batch *b, pawl_fault *f) {
    (void)self, (void)b, (void)f;
    return PAWL_DONE;
}

static int take_write(void *self, const pawl_sink_batch *b, const pawl_record *r, size_t n,
                      pawl_fault *f) {
    (void)self, (void)b, (void)r, (void)n, (void)f;
    return PAWL_DONE;
}

static void take_abort(void *self) {
    (void)self;
}

static pawl_sink *start_sink(pawl *log, uint32_t stream, int number) {
    char name[32];
    pawl_sink *sink;
    pawl_sink_config c = PAWL_SINK_CONFIG_INIT;
    pawl_sink_ops ops = PAWL_SINK_OPS_INIT;
    snprintf(name, sizeof name, "sink-%d", number);
    c.name = name, c.inputs = &stream, c.input_count = 1;
    ops.kind = PAWL_SINK_IDEMPOTENT, ops.type = "take";
    ops.open = ops.begin = ops.commit = take_open, ops.write = take_write, ops.abort = take_abort;
    int rc = pawl_sink_add(log, &c, &ops, &sink, NULL);
    if (rc == 0)
        rc = pawl_sink_start(sink);
    if (rc < 0)
        stop(name, rc);
    return sink;
}

/* ---- the committer */

static void commit(pawl *log, uint32_t stream) {
    static const char value[100];
    pawl_record r = {.value = value, .value_len = sizeof value};
    int rc = pawl_append(log, stream, 0, &r, NULL);
    if (rc < 0)
        stop("append", rc);
}

static double commits_per_s(pawl *log, uint32_t stream, double seconds) {
    double begun = now_s(), end = begun + seconds, now;
    unsigned n = 0;
    do {
        commit(log, stream);
        n++;
    } while ((now = now_s()) < end);
    return n / (now - begun);
}

static double beside(pawl *log, uint32_t busy, uint32_t quiet, double seconds) {
    pawl_sink *sinks[SINKS];
    for (int i = 0; i < SINKS; i++)
        sinks[i] = start_sink(log, quiet, i);
    (void)commits_per_s(log, busy, seconds / 5); /* until the sinks are idle */
    double rate = commits_per_s(log, busy, seconds);
    for (int i = 0; i < SINKS; i++)
        pawl_sink_remove(sinks[i]);
    return rate;
}

static pawl *make_log(const char *dir, uint32_t *busy, uint32_t *quiet) {
    static char value[100000];
    pawl *log;
    pawl_options o = PAWL_OPTIONS_INIT;
    pawl_retention keep = {.bytes = UINT64_C(4) << 20};
    pawl_record r = {.value = value, .value_len = sizeof value};
    pawl_status s = PAWL_STATUS_INIT;
    o.flags = PAWL_OPEN_CREATE, o.segment_size = 1u << 20;
    int rc = pawl_open(dir, &o, &log, NULL);
    if (rc < 0)
        stop(dir, rc);
    if ((rc = pawl_stream_create(log, "busy", 1, busy)) < 0 ||
        (rc = pawl_stream_create(log, "quiet", PARTITIONS, quiet)) < 0 ||
        (rc = pawl_retention_set(log, &keep)) < 0)
        stop("set-up", rc);
    for (int i = 0; rc >= 0 && i < 100; i++)
        rc = pawl_append(log, *busy, 0, &r, NULL);
    if (rc < 0 || (rc = pawl_retention_apply(log)) < 0 || (rc = pawl_get_status(log, &s)) < 0)
        stop("retention", rc);
    if (s.first_segment == 0)
        stop("retention has dropped nothing", 0);
    return log;
}

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv) {
    double seconds = argc > 2 ? strtod(argv[2], NULL) : 2, alone[ROUNDS], with[ROUNDS],
           ratio[ROUNDS];
    uint32_t busy, quiet;
    if (argc < 2 || seconds <= 0) {
        fputs("usage: idle_sinks DIR [SECONDS]\n", stderr);
        return 2;
    }
    pawl *log = make_log(argv[1], &busy, &quiet);
    for (int i = 0; i < ROUNDS; i++) {
        alone[i] = commits_per_s(log, busy, seconds);
        with[i] = beside(log, busy, quiet, seconds);
        ratio[i] = with[i] / alone[i];
    }
    qsort(alone, ROUNDS, sizeof *alone, by_size);
    qsort(with, ROUNDS, sizeof *with, by_size);
    qsort(ratio, ROUNDS, sizeof *ratio, by_size);
    printf("committer alone                  %10.0f commits/s\n", alone[ROUNDS / 2]);
    printf("beside %d sinks, %d partitions   %10.0f commits/s\n", SINKS, PARTITIONS,
           with[ROUNDS / 2]);
    printf("ratio %.3f (goal >= 0.95)\n", ratio[ROUNDS / 2]);
    int rc = pawl_close(log);
    return rc < 0;
}
