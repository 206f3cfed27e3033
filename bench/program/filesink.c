/* SPDX-License-Identifier: Apache-2.0
 *
 * filesink - the file sink against `cat` into a file with fdatasync for each of the same batches.
 * They alternate batch by batch in one run.
 * usage: filesink DIR [BATCHES [BATCH-RECORDS [RECORD-BYTES [cold]]]]
 *
 * The floor reads the lines from a file in the page cache (with `cold`: from the disk), 128 KiB at
 * a time as cat does. The sink does all of its work: it reads the lines from the log (they are its
 * newest, but mostly on the disk already), encodes them, writes them to its hidden part, makes them
 * durable, and waits for the log's decision and its own state.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "pawl_connect.h"

struct job {
    const char *dir;
    uint64_t batches, records, bytes; /* records in a batch, bytes in a record */
    pawl *log;
    pawl_sink *sink;
    bool cold; /* cat's file is not in the page cache */
    uint32_t stream;
    FILE *lines; /* the file that cat reads */
    int from, to;
};

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int die(const char *what) {
    fprintf(stderr, "filesink: %s\n", what);
    return 1;
}

static void line(char *text, const struct job *j, uint64_t n) {
    int len = snprintf(text, j->bytes + 1, "%" PRIu64 " ", n);
    for (size_t i = (size_t)len; i < j->bytes; i++)
        text[i] = (char)('a' + (n + i) % 26);
}

/* Writes the next batch's lines to the log and to the file that cat reads, and makes both durable:
 * no late write of theirs may disturb the measurement. */
static int fill(const struct job *j, uint64_t batch) {
    char *text = malloc(j->bytes + 32);
    int code = text == NULL ? -1 : 0;
    for (uint64_t n = batch * j->records, end = n + j->records; code == 0 && n < end;) {
        pawl_tx *tx;
        code = pawl_begin(j->log, &tx);
        for (uint64_t i = 0; i < 1000 && n < end && code == 0; i++, n++) {
            line(text, j, n);
            pawl_record r = {.value = text, .value_len = (uint32_t)j->bytes};
            code = pawl_put(tx, j->stream, 0, &r);
            text[j->bytes] = '\n';
            fwrite(text, 1, j->bytes + 1, j->lines);
        }
        if (code == 0)
            code = pawl_commit_async(tx, NULL, NULL, NULL);
    }
    free(text);
    if (code == 0)
        code = pawl_sync(j->log);
    return code != 0 || fflush(j->lines) != 0 || fdatasync(fileno(j->lines)) != 0 ? -1 : 0;
}

static int open_files(struct job *j) {
    char path[512];
    snprintf(path, sizeof path, "%s/lines", j->dir);
    j->lines = fopen(path, "w");
    j->from = open(path, O_RDONLY | O_CLOEXEC);
    snprintf(path, sizeof path, "%s/copy", j->dir);
    j->to = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    return j->lines == NULL || j->from < 0 || j->to < 0 ? -1 : 0;
}

static int cat_batch(const struct job *j) {
    static char piece[131072];
    for (uint64_t left = j->records * (j->bytes + 1); left > 0;) {
        ssize_t got = read(j->from, piece, left < sizeof piece ? left : sizeof piece);
        if (got <= 0 || write(j->to, piece, (size_t)got) != got)
            return -1;
        left -= (uint64_t)got;
    }
    return fdatasync(j->to);
}

static int sink_batch(const struct job *j) {
    pawl_flow_status before = PAWL_FLOW_STATUS_INIT, after = PAWL_FLOW_STATUS_INIT;
    if (pawl_sink_status(j->sink, &before) < 0)
        return -1;
    do {
        if (pawl_sink_step(j->sink) < 0 || pawl_sink_status(j->sink, &after) < 0)
            return -1;
    } while (after.batches == before.batches);
    return after.records - before.records == j->records ? 0 : -1;
}

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static int measure(const struct job *j) {
    double *floor_s = calloc(j->batches, sizeof *floor_s),
           *sink_s = calloc(j->batches, sizeof *sink_s), floor_all = 0, sink_all = 0;
    int code = floor_s == NULL || sink_s == NULL ? -1 : 0;
    for (uint64_t i = 0; code == 0 && i < j->batches; i++) {
        code = fill(j, i);
        for (uint64_t k = 0; k < 2 && code == 0; k++) { /* the first one alternates */
            bool sink = (i + k) % 2 == 0;
            if (!sink && j->cold)
                (void)posix_fadvise(j->from, 0, 0, POSIX_FADV_DONTNEED);
            double begun = now_s();
            code = sink ? sink_batch(j) : cat_batch(j);
            *(sink ? &sink_s[i] : &floor_s[i]) = now_s() - begun;
        }
        floor_all += floor_s[i];
        sink_all += sink_s[i];
    }
    if (code == 0) {
        double mib = (double)(j->batches * j->records * (j->bytes + 1)) / 1048576;
        qsort(floor_s, j->batches, sizeof *floor_s, by_size);
        qsort(sink_s, j->batches, sizeof *sink_s, by_size);
        printf("%" PRIu64 " batches of %" PRIu64 " records of %" PRIu64 " bytes\n", j->batches,
               j->records, j->bytes);
        printf("cat%s and fdatasync%s %8.1f MiB/s, median batch %.2f ms\n",
               j->cold ? ", cold," : "", j->cold ? "" : "       ", mib / floor_all,
               floor_s[j->batches / 2] * 1e3);
        printf("file sink          %8.1f MiB/s, median batch %.2f ms\n", mib / sink_all,
               sink_s[j->batches / 2] * 1e3);
        printf("ratio              %8.2f of all, %.2f of the medians (goal: 0.8)\n",
               floor_all / sink_all, floor_s[j->batches / 2] / sink_s[j->batches / 2]);
    }
    free(floor_s);
    free(sink_s);
    return code;
}

int main(int argc, char **argv) {
    struct job j = {
        .dir = argc > 1 ? argv[1] : NULL, .batches = 50, .records = 40000, .bytes = 100};
    if (argc > 2)
        j.batches = strtoull(argv[2], NULL, 10);
    if (argc > 3)
        j.records = strtoull(argv[3], NULL, 10);
    if (argc > 4)
        j.bytes = strtoull(argv[4], NULL, 10);
    j.cold = argc > 5 && strcmp(argv[5], "cold") == 0;
    if (j.dir == NULL || j.batches == 0 || j.records == 0 || j.bytes < 24 || j.bytes > 1000000)
        return die("usage: filesink DIR [BATCHES [BATCH-RECORDS [RECORD-BYTES [cold]]]]");
    char path[512], files[512];
    pawl_options o = PAWL_OPTIONS_INIT;
    pawl_error e;
    mkdir(j.dir, 0777);
    snprintf(path, sizeof path, "%s/log", j.dir);
    snprintf(files, sizeof files, "%s/files", j.dir);
    o.flags = PAWL_OPEN_CREATE | PAWL_OPEN_EXCLUSIVE;
    o.memory_cap = 128u << 20;
    if (pawl_open(path, &o, &j.log, &e) < 0)
        return die(e.message);
    if (pawl_stream_create(j.log, "lines", 1, &j.stream) < 0 || open_files(&j) != 0)
        return die("making stream and files");
    pawl_setting s[] = {{"directory", files, 0}, {"rotate_size", "1G", 0}};
    pawl_sink_ops ops = PAWL_SINK_OPS_INIT;
    pawl_sink_config c = PAWL_SINK_CONFIG_INIT;
    c.name = "bench", c.inputs = &j.stream, c.input_count = 1;
    c.batch_records = (uint32_t)j.records, c.batch_bytes = UINT64_MAX;
    if (pawl_sink_make("file", &(pawl_settings){.items = s, .count = 2}, &ops, &e) < 0 ||
        pawl_sink_add(j.log, &c, &ops, &j.sink, &e) < 0)
        return die(e.message);
    int code = measure(&j);
    pawl_flow_status status = PAWL_FLOW_STATUS_INIT;
    if (pawl_sink_status(j.sink, &status) < 0 || code != 0)
        die(status.message[0] != 0 ? status.message : "a call failed");
    pawl_sink_remove(j.sink);
    return pawl_close(j.log) < 0 || code != 0;
}
