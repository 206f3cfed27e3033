/* SPDX-License-Identifier: Apache-2.0
 *
 * How fast a file is read into the log: the file source, against a bare loop that puts the same
 * lines from memory. They alternate. The log is in its steady state: it keeps 256 MiB and recycles
 * its segments.
 *   build/bench/sources DIR [MIB [LINE_BYTES [ROUNDS]]]
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "pawl_connect.h"

static char dir[512], path[600], log_dir[600];

static void die(const char *what) {
    pawl_error e;
    pawl_last_error(&e);
    fprintf(stderr, "%s: %s\n", what, e.message);
    exit(1);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Processor time of the process so far. It is still meaningful while others use the machine. */
static double used(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

#define KEPT (UINT64_C(256) << 20)

static void put_lines(pawl *log, uint32_t stream, uint64_t lines, size_t line) {
    size_t n = 10000;
    char *text = malloc(n * line);
    pawl_tx *tx;
    if (text == NULL)
        die("memory");
    memset(text, 'x', n * line);
    while (lines > 0) {
        if (pawl_begin(log, &tx) != 0)
            die("begin");
        for (size_t i = 0; i < n && lines > 0; i++, lines--) {
            pawl_record r = {
                .value = text + i * line, .value_len = (uint32_t)line - 1, .timestamp_ns = 1};
            if (pawl_put(tx, stream, 0, &r) != 0)
                die("put");
        }
        if (pawl_commit_async(tx, NULL, NULL, NULL) != 0)
            die("commit");
    }
    if (pawl_sync(log) != 0)
        die("sync");
    free(text);
}

static void fresh_log(pawl **log, uint32_t *stream) {
    pawl_status status = PAWL_STATUS_INIT;
    char command[700];
    pawl_error e;
    pawl_options o = PAWL_OPTIONS_INIT;
    snprintf(command, sizeof command, "rm -rf -- '%s'", log_dir);
    if (system(command) != 0)
        die("rm");
    o.flags = PAWL_OPEN_CREATE;
    if (pawl_open(log_dir, &o, log, &e) != 0 || pawl_stream_create(*log, "lines", 1, stream) != 0)
        die("log");
    if (pawl_retention_set(*log, &(pawl_retention){.bytes = KEPT}) != 0)
        die("retention");
    do {
        put_lines(*log, *stream, KEPT / 4 / 100, 100);
        if (pawl_get_status(*log, &status) != 0)
            die("status");
    } while (status.recycled < KEPT / (UINT64_C(64) << 20));
}

static uint64_t make_file(uint64_t mib, size_t line) {
    FILE *out = fopen(path, "w");
    char *text = malloc(line + 64);
    uint64_t bytes = 0;
    if (out == NULL || text == NULL)
        die("file");
    for (uint64_t i = 0; bytes < mib << 20; i++, bytes += line) {
        memset(text, 'a' + (int)(i % 26), line);
        int n = snprintf(text, 48, "%020llu some text of a line %llu ", (unsigned long long)i,
                         (unsigned long long)(i * 2654435761u));
        text[n] = ' ';
        text[line - 1] = '\n';
        fwrite(text, 1, line, out);
    }
    fclose(out);
    free(text);
    return bytes;
}

static double with_source(uint64_t lines) {
    pawl *log;
    pawl_error e;
    pawl_source *s = NULL;
    pawl_source_ops ops = PAWL_SOURCE_OPS_INIT;
    pawl_source_config c = PAWL_SOURCE_CONFIG_INIT;
    pawl_setting set[] = {{"path", path, 0}, {"follow", "false", 0}};
    fresh_log(&log, &c.stream);
    c.name = "src";
    const char *bytes = getenv("BATCH_BYTES"), *records = getenv("BATCH_RECORDS");
    c.batch_bytes = bytes != NULL ? strtoull(bytes, NULL, 10) : 0;
    c.batch_records = records != NULL ? (uint32_t)strtoul(records, NULL, 10) : 0;
    if (pawl_source_make("file", &(pawl_settings){.items = set, .count = 2}, &ops, &e) != 0 ||
        pawl_source_add(log, &c, &ops, &s, &e) != 0)
        die("source");
    double begun = now();
    int rc;
    pawl_flow_status st = PAWL_FLOW_STATUS_INIT;
    do
        rc = pawl_source_step(s);
    while (rc == 0);
    if (rc < 0 || pawl_sync(log) != 0)
        die("step");
    double took = now() - begun;
    if (pawl_source_status(s, &st) < 0 || st.records != lines)
        die("lines");
    pawl_source_remove(s);
    if (pawl_close(log) < 0)
        die("close");
    return took;
}

static double from_memory(uint64_t lines, size_t line) {
    pawl *log;
    uint32_t stream;
    fresh_log(&log, &stream);
    double begun = now();
    put_lines(log, stream, lines, line);
    double took = now() - begun;
    if (pawl_close(log) < 0)
        die("close");
    return took;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv) {
    if (argc < 2) {
        fprintf(stderr, "usage: sources DIR [MIB [LINE_BYTES [ROUNDS]]]\n");
        return 2;
    }
    uint64_t mib = argc > 2 ? strtoull(argv[2], NULL, 10) : 1024;
    size_t line = argc > 3 ? strtoul(argv[3], NULL, 10) : 100;
    int rounds = argc > 4 ? atoi(argv[4]) : 3;
    double source[32], memory[32];
    if (mib == 0 || line < 64 || rounds < 1 || rounds > 32)
        return 2;
    snprintf(dir, sizeof dir, "%s/sources.%d", argv[1], (int)getpid());
    snprintf(path, sizeof path, "%s.in", dir);
    snprintf(log_dir, sizeof log_dir, "%s.log", dir);
    uint64_t bytes = make_file(mib, line);
    for (int i = 0; i < rounds; i++) {
        double cpu[3] = {used()};
        source[i] = with_source(bytes / line);
        cpu[1] = used();
        memory[i] = from_memory(bytes / line, line);
        cpu[2] = used();
        printf("round %d: source %.0f MB/s, %.2f s of processor time a GB; from memory %.0f MB/s, "
               "%.2f s\n",
               i + 1, (double)bytes / source[i] / 1e6, (cpu[1] - cpu[0]) / (double)bytes * 1e9,
               (double)bytes / memory[i] / 1e6, (cpu[2] - cpu[1]) / (double)bytes * 1e9);
        fflush(stdout);
    }
    qsort(source, (size_t)rounds, sizeof *source, by_value);
    qsort(memory, (size_t)rounds, sizeof *memory, by_value);
    double s = source[rounds / 2], m = memory[rounds / 2];
    printf("%llu MiB in lines of %zu bytes, median of %d: source %.0f MB/s, from memory %.0f MB/s, "
           "ratio %.2f\n",
           (unsigned long long)mib, line, rounds, (double)bytes / s / 1e6, (double)bytes / m / 1e6,
           m / s);
    unlink(path);
    char command[700];
    snprintf(command, sizeof command, "rm -rf -- '%s'", log_dir);
    return system(command) != 0;
}
