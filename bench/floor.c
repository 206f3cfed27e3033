/* SPDX-License-Identifier: Apache-2.0
 *
 * floor - one committer beside the bare system call, alternately in one run: F1 is one block written with pwritev2(RWF_DSYNC) and
 * O_DIRECT into a file that was written before. Prints the median of each and their ratio, for several rounds.
 *
 *   build/bench/floor [DIR]     (a directory on the device in question; default: the current one)
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "pawl.h"

#define BLOCK 4096
#define WRITES 1000
#define ROUNDS 7
#define BLOCKS 4096

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int by_value(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static uint64_t median(uint64_t *v, size_t n) {
    qsort(v, n, sizeof *v, by_value);
    return v[n / 2];
}

static int die(const char *what) {
    perror(what);
    exit(1);
}

/* A file of BLOCKS blocks, each written once and synced. */
static int prewritten(const char *path, void *block) {
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_DIRECT | O_CLOEXEC, 0600);
    if (fd < 0)
        die("open for the floor, with O_DIRECT");
    for (off_t i = 0; i < BLOCKS; i++)
        if (pwrite(fd, block, BLOCK, i * BLOCK) != BLOCK)
            die("prewrite");
    if (fsync(fd) != 0)
        die("fsync");
    return fd;
}

static uint64_t floor_round(int fd, void *block, off_t *at, uint64_t *times) {
    for (size_t i = 0; i < WRITES; i++) {
        struct iovec v = {block, BLOCK};
        uint64_t begun = now_ns();
        if (pwritev2(fd, &v, 1, *at * BLOCK, RWF_DSYNC) != BLOCK)
            die("pwritev2");
        times[i] = now_ns() - begun;
        *at = (*at + 1) % BLOCKS;
    }
    return median(times, WRITES);
}

static uint64_t pawl_round(pawl *log, uint32_t stream, uint64_t *times) {
    char value[100];
    memset(value, 'x', sizeof value);
    pawl_record r = {.value = value, .value_len = sizeof value};
    for (size_t i = 0; i < WRITES; i++) {
        uint64_t begun = now_ns();
        if (pawl_append(log, stream, 0, &r, NULL) != 0) {
            pawl_error e;
            pawl_last_error(&e);
            fprintf(stderr, "append: %s\n", e.message);
            exit(1);
        }
        times[i] = now_ns() - begun;
    }
    return median(times, WRITES);
}

int main(int argc, char **argv) {
    const char *where = argc > 1 ? argv[1] : ".";
    char dir[4096], file[4200], clean[4300];
    snprintf(dir, sizeof dir, "%s/pawl-bench-XXXXXX", where);
    if (mkdtemp(dir) == NULL)
        die("mkdtemp");
    snprintf(file, sizeof file, "%s/floor", dir);
    void *block = NULL;
    if (posix_memalign(&block, BLOCK, BLOCK) != 0)
        die("memory");
    memset(block, 'x', BLOCK);
    int fd = prewritten(file, block);
    snprintf(clean, sizeof clean, "%s/log", dir);
    pawl_options o = PAWL_OPTIONS_INIT;
    o.flags = PAWL_OPEN_CREATE;
    pawl *log;
    pawl_error e;
    uint32_t stream;
    if (pawl_open(clean, &o, &log, &e) != 0 || pawl_stream_create(log, "s", 1, &stream) != 0) {
        fprintf(stderr, "open: %s\n", e.message);
        return 1;
    }
    static uint64_t times[WRITES], ratios[ROUNDS];
    off_t at = 0;
    printf("one committer, one record of 100 bytes, synchronous; p50 of %d\n", WRITES);
    for (int i = 0; i < ROUNDS; i++) {
        uint64_t f1 = floor_round(fd, block, &at, times), pw = pawl_round(log, stream, times);
        ratios[i] = pw * 1000 / f1;
        printf("  F1 %6.1f us   pawl %6.1f us   ratio %.3f\n", (double)f1 / 1e3, (double)pw / 1e3,
               (double)pw / (double)f1);
    }
    uint64_t m = median(ratios, ROUNDS);
    printf("ratio: median %.3f, from %.3f to %.3f\n", (double)m / 1e3, (double)ratios[0] / 1e3,
           (double)ratios[ROUNDS - 1] / 1e3);
    pawl_close(log);
    close(fd);
    free(block);
    snprintf(clean, sizeof clean, "rm -rf '%s'", dir);
    return system(clean) == 0 ? 0 : 1;
}
