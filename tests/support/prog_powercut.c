/* SPDX-License-Identifier: Apache-2.0
 *
 * prog_powercut.c - the writer whose power is cut, and the checker that runs afterwards. Every
 * record is a function of (seed, kind, partition, number), so the checker derives the expected
 * records by itself. Acknowledgements go to a file on another file system, which is not cut.
 *
 *     prog_powercut work DIR ACKS SEED BACKEND DIRECT COUNT  writes until an error, or COUNT
 *                                                            records a partition; 0, or 3 stopped
 *                                                            by PAWL_IO, 4 full
 *     prog_powercut check DIR ACKS SEED BACKEND DIRECT       recovers and compares; what it has
 *                                                            seen counts as acknowledged from now
 *                                                            on
 *     prog_powercut cut MOUNT DIR modify|rename N            shuts the file system down at the N-th
 *                                                            such event in DIR; prints "ready" when
 *                                                            it watches
 *
 * Streams: "in" and "pair", written together in one transaction each (PAWL-2, PAWL-3), and "out",
 * which the processor "digest" derives from "in". Most values of "pair" are frames, for the places
 * where they may come to lie, right in every field but for the log's key: nothing comes of them
 * (PAWL-9).
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "pawl.h"

#define PARTS 4u /* one committer each; the last commits asynchronously */
#define VALUE_MAX 60000u
#define IN_FLIGHT 16u

enum { WELL = 0, WRONG = 1, STOPPED = 3, FULL = 4 };

static pawl *the_log;
static uint32_t in, pair, out;
static uint64_t seed, count_max;
static uint64_t log_seed; /* what a log without a key hashes with */
static int acks = -1;
static _Atomic bool ended; /* somebody met an error: the processor has no more input to wait for */

static void die(const char *what) {
    pawl_error e;
    pawl_last_error(&e);
    printf("WRONG: %s: %s (errno %d)\n", what, e.message, errno);
    exit(WRONG);
}

/* ---- what is written */

static uint64_t mix(uint64_t x) { /* a bijection that spreads bits */
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static uint64_t derive(char kind, uint32_t part, uint64_t number) {
    return mix(mix(seed ^ (uint64_t)kind << 56 ^ (uint64_t)part << 48) + number);
}

/* Most records are small, some fill several blocks, and a few fill a large part of a group. */
static uint32_t make_value(uint8_t *value, char kind, uint32_t part, uint64_t number) {
    uint64_t r = derive(kind, part, number), tens = r % 100;
    uint32_t len = 16 + (uint32_t)(r >> 32) % (tens < 80 ? 600 : tens < 97 ? 6000 : VALUE_MAX - 16);
    uint64_t id[2] = {(uint64_t)kind << 32 | part, number};
    memcpy(value, id, sizeof id);
    for (uint32_t i = sizeof id; i < len; i++) {
        if (i % 8 == 0)
            r = mix(r);
        value[i] = (uint8_t)(r >> i % 8 * 8);
    }
    return len;
}

/* The headers of frames, one after the other, in a value that is to begin at `lsn` or a few blocks
 * later. The record itself says `lsn`, after its id. */
static void forge(uint8_t *value, uint32_t len, uint64_t lsn) {
    enum { BLOCK = 4096, HEADER = 80, FIRST = 24 };
    if (len < FIRST)
        return;
    memcpy(value + 16, &lsn, sizeof lsn);
    uint32_t at = FIRST + (uint32_t)(8 - (lsn + FIRST) % 8) % 8;
    for (uint32_t i = 0; at + HEADER <= len; at += HEADER, i++) {
        uint64_t own = lsn + (uint64_t)(i % 4) * BLOCK + at;
        uint64_t fields[9] = {0, own, 1u << 20, own, 0, 0, 0, 0, 0};
        memcpy(value + at, fields, sizeof fields);
        memcpy(value + at, "PWLF\003", 5);
        uint64_t hash = XXH3_64bits_withSeed(value + at, 72, log_seed);
        memcpy(value + at + 72, &hash, sizeof hash);
    }
}

/* The place of the second record of a commit of two streams, with a first value of `len` bytes, if
 * it begins a group, or goes on with one. */
static uint64_t place_after(uint32_t len, bool producer, bool begins) {
    pawl_status s = PAWL_STATUS_INIT;
    if (pawl_get_status(the_log, &s) != 0)
        return 0;
    uint64_t runs = producer ? 3 : 2, frame = begins ? (s.end_lsn + 4095) / 4096 * 4096 : s.end_lsn;
    return frame + 80 + 32 * runs + 16 + len + 16;
}

static uint64_t digest(const uint8_t *p, uint32_t len) {
    uint64_t h = len;
    for (uint32_t i = 0; i < len; i++)
        h = (h ^ p[i]) * 0x100000001b3u;
    return h;
}

/* One write for one line: the line is whole, even if other threads write or this process is
 * killed. */
static void acknowledge(const char *what, uint32_t part, uint64_t number) {
    char line[64];
    int n = snprintf(line, sizeof line, "%s %u %" PRIu64 "\n", what, part, number);
    if (write(acks, line, (size_t)n) != n) {
        printf("WRONG: the acknowledgement could not be noted\n");
        _exit(WRONG);
    }
}

/* ---- the writer */

static int put_both(uint32_t part, uint64_t number, pawl_tx **tx, pawl_producer *producer) {
    static _Thread_local uint8_t value[VALUE_MAX];
    int rc = pawl_begin(the_log, tx);
    if (rc != 0)
        return rc;
    pawl_record r = {.value = value, .value_len = make_value(value, 'i', part, number)};
    rc = pawl_put(*tx, in, part, &r);
    if (rc == 0) {
        uint64_t lsn = place_after(r.value_len, producer != NULL, number % 8 < 5);
        r.value_len = make_value(value, 'p', part, number);
        if (number % 4 != 0)
            forge(value, r.value_len, lsn);
        rc = pawl_put(*tx, pair, part, &r);
    }
    if (rc == 0 && producer != NULL)
        rc = pawl_tx_sequence(*tx, producer, number + 1, number + 1, NULL, 0);
    if (rc != 0) {
        pawl_abort(*tx);
        *tx = NULL;
    }
    return rc;
}

/* PAWL-7: after this thread has got an error, none of its commits may be acknowledged. */
static int failed(int rc, uint32_t part, uint64_t number) {
    atomic_store(&ended, true);
    if (rc == PAWL_FULL)
        return FULL;
    if (rc != PAWL_IO)
        die("a commit failed otherwise than by PAWL_IO");
    for (int i = 0; i < 3; i++) {
        pawl_tx *tx;
        rc = put_both(part, number, &tx, NULL);
        if (rc == 0)
            rc = pawl_commit(tx, NULL);
        if (rc != PAWL_IO || pawl_sync(the_log) != PAWL_IO)
            die("after a failed write or sync, a later commit or sync was not refused (PAWL-7)");
    }
    return STOPPED;
}

static uint64_t bounds_end(uint32_t stream, uint32_t part) {
    pawl_bounds b;
    if (pawl_partition_bounds(the_log, stream, part, &b) != 0)
        die("bounds");
    if (b.first != 0)
        die("records were dropped that no retention allows to drop");
    return b.end;
}

static void *synchronous(void *arg) {
    uint32_t part = (uint32_t)(uintptr_t)arg;
    pawl_producer *producer = NULL;
    int rc = 0;
    uint64_t number = bounds_end(in, part), until = number + count_max;
    if (part == 0)
        rc = pawl_producer_open(the_log, "p0", &producer);
    for (; rc == 0 && number < until && !atomic_load(&ended); number++) {
        pawl_tx *tx;
        rc = put_both(part, number, &tx, producer);
        if (rc == 0) {
            rc = pawl_commit(tx, NULL);
            if (rc == PAWL_FULL)
                pawl_abort(tx);
        }
        if (rc == 0)
            acknowledge("in", part, number + 1);
    }
    rc = rc != 0 ? failed(rc, part, number) : WELL;
    pawl_producer_close(producer);
    return (void *)(uintptr_t)rc;
}

static _Atomic uint32_t in_flight;
static _Atomic uint64_t asynchronous_done; /* acknowledged, of the last partition */

static void committed(void *arg, int status, const pawl_receipt *receipt) {
    (void)arg, (void)receipt;
    if (status == 0)
        acknowledge("in", PARTS - 1, atomic_fetch_add(&asynchronous_done, 1) + 1);
    atomic_fetch_sub(&in_flight, 1);
}

static void *asynchronous(void *arg) {
    uint32_t part = (uint32_t)(uintptr_t)arg;
    uint64_t number = bounds_end(in, part), until = number + count_max;
    int rc = 0;
    atomic_store(&asynchronous_done, number);
    for (; rc == 0 && number < until && !atomic_load(&ended); number++) {
        pawl_tx *tx;
        if (atomic_load(&in_flight) >= IN_FLIGHT && (rc = pawl_sync(the_log)) != 0)
            break;
        rc = put_both(part, number, &tx, NULL);
        if (rc != 0)
            break;
        atomic_fetch_add(&in_flight, 1);
        rc = pawl_commit_async(tx, committed, NULL, NULL);
        if (rc != 0)
            atomic_fetch_sub(&in_flight, 1);
        if (rc == PAWL_FULL)
            pawl_abort(tx);
    }
    return (void *)(uintptr_t)(rc != 0 ? failed(rc, part, number) : WELL);
}

static int process(pawl_context *ctx, const pawl_record *records, size_t count, void *arg) {
    (void)arg;
    for (size_t i = 0; i < count; i++) {
        uint64_t value[2] = {records[i].offset, digest(records[i].value, records[i].value_len)};
        pawl_record r = {.value = value, .value_len = sizeof value};
        int rc = pawl_emit(ctx, out, records[i].partition, &r);
        if (rc != 0)
            return rc;
    }
    return 0;
}

static void *processing(void *arg) {
    (void)arg;
    pawl_processor_config c = PAWL_PROCESSOR_INIT;
    pawl_processor *p = NULL;
    c.name = "digest", c.inputs = &in, c.input_count = 1, c.process = process, c.batch_max = 50;
    int rc = pawl_processor_add(the_log, &c, &p);
    for (bool last = false; rc == 0 && !last;) {
        last = atomic_load(&ended);
        rc = pawl_run(the_log, 0, PAWL_RUN_UNTIL_IDLE);
        for (uint32_t part = 0; rc == 0 && part < PARTS; part++) {
            uint64_t at = 0;
            if (pawl_position_get(the_log, "digest", in, part, &at) == 0)
                acknowledge("out", part, at);
        }
    }
    if (rc != 0 && rc != PAWL_FULL && rc != PAWL_IO)
        die("the processor failed otherwise than by PAWL_IO");
    pawl_processor_remove(p);
    return (void *)(uintptr_t)(rc == 0 ? WELL : rc == PAWL_FULL ? FULL : STOPPED);
}

static int open_log(const char *dir, const char *backend, const char *direct) {
    pawl_options o = PAWL_OPTIONS_INIT;
    pawl_error e;
    o.flags = PAWL_OPEN_CREATE;
    o.segment_size = 1u << 20;
    o.backend = strcmp(backend, "uring") == 0 ? PAWL_BACKEND_URING : PAWL_BACKEND_POSIX;
    o.direct = strcmp(direct, "direct") == 0 ? PAWL_DIRECT_ON : PAWL_DIRECT_OFF;
    o.lock_wait_ms = 5000;
    int rc = pawl_open(dir, &o, &the_log, &e);
    uint32_t *const ids[] = {&in, &pair, &out};
    static const char *const names[] = {"in", "pair", "out"};
    for (int i = 0; i < 3 && rc == 0; i++) {
        rc = pawl_stream_create(the_log, names[i], PARTS, ids[i]);
        if (rc == PAWL_EXISTS)
            rc = 0;
        pawl_last_error(&e);
    }
    pawl_status s = PAWL_STATUS_INIT;
    if (rc == 0 && pawl_get_status(the_log, &s) == 0)
        log_seed = XXH3_64bits_withSeed(s.log_id, sizeof s.log_id, 0);
    if (rc != 0)
        printf("opening: %s: %s\n", pawl_errname(rc), e.message);
    return rc;
}

static int work(char **argv) {
    count_max = strtoull(argv[5], NULL, 10);
    int rc = open_log(argv[0], argv[3], argv[4]);
    if (rc != 0) {
        int closed = pawl_close(the_log);
        if (closed != 0)
            printf("closing: %s\n", pawl_errname(closed));
        /* A cut during recovery or creation; without its journal, the file system is read-only. */
        return rc == PAWL_FULL ? FULL : rc == PAWL_IO || rc == PAWL_PERMISSION ? STOPPED : WRONG;
    }
    pthread_t threads[PARTS + 1];
    for (uintptr_t i = 0; i <= PARTS; i++)
        if (pthread_create(&threads[i], NULL,
                           i == PARTS       ? processing
                           : i == PARTS - 1 ? asynchronous
                                            : synchronous,
                           (void *)i) != 0)
            die("pthread_create");
    int result = WELL;
    for (uint32_t i = 0; i <= PARTS; i++) {
        void *told;
        pthread_join(threads[i], &told);
        if (i + 1 >= PARTS || told != NULL)
            atomic_store(&ended, true);
        if ((int)(uintptr_t)told > result)
            result = (int)(uintptr_t)told;
    }
    rc = pawl_close(the_log);
    if (rc == 0 && result == STOPPED)
        die("a log that had failed was closed as if all were well (PAWL-7)");
    if (rc != 0 && rc != PAWL_IO)
        die("close");
    return rc != 0 ? STOPPED : result;
}

/* ---- the checker */

static uint64_t acked_in[PARTS], acked_out[PARTS];

static void read_acks(const char *path) {
    FILE *f = fopen(path, "r");
    char what[8];
    uint32_t part;
    uint64_t number;
    while (f != NULL && fscanf(f, "%7s %u %" SCNu64, what, &part, &number) == 3) {
        uint64_t *to = strcmp(what, "in") == 0 ? acked_in : acked_out;
        if (part < PARTS && number > to[part])
            to[part] = number;
    }
    if (f != NULL)
        fclose(f);
}

static void wrong(const char *stream, uint32_t part, uint64_t number, const char *what) {
    printf("WRONG: %s/%u, offset %" PRIu64 ": %s\n", stream, part, number, what);
    exit(WRONG);
}

/* Checks that the partition holds the expected records: each number once, in order, byte for byte.
 * Returns their number. */
static uint64_t check_partition(const char *name, uint32_t stream, uint32_t part) {
    static uint8_t want[VALUE_MAX];
    pawl_reader *r;
    pawl_batch batch;
    uint64_t number = 0, end = bounds_end(stream, part);
    int n;
    if (pawl_reader_open(the_log, stream, part, 0, 0, &r) != 0)
        die("reader");
    while ((n = pawl_read(r, 0, 0, &batch)) > 0)
        for (size_t i = 0; i < batch.count; i++, number++) {
            uint32_t len = make_value(want, stream == pair ? 'p' : 'i', part, number);
            if (stream == out) {
                uint64_t value[2] = {number, digest(want, len)};
                memcpy(want, value, len = sizeof value);
            }
            if (stream == pair && number % 4 != 0 && len >= 24 &&
                batch.records[i].value_len == len) {
                uint64_t lsn;
                memcpy(&lsn, (const uint8_t *)batch.records[i].value + 16, sizeof lsn);
                forge(want, len, lsn);
            }
            if (batch.records[i].offset != number)
                wrong(name, part, number, "another offset is here");
            if (batch.records[i].value_len != len || memcmp(batch.records[i].value, want, len) != 0)
                wrong(name, part, number, "another record is here");
        }
    if (n < 0)
        die("read");
    if (number != end)
        wrong(name, part, number, "the reader ends before the partition does");
    pawl_reader_close(r);
    return number;
}

static void check_producer(uint64_t want) {
    pawl_producer *p;
    if (pawl_producer_open(the_log, "p0", &p) != 0)
        die("producer");
    if (pawl_producer_sequence(p) != want)
        wrong("in", 0, pawl_producer_sequence(p),
              "the producer's sequence is not the number of its records");
    pawl_producer_close(p);
}

static int check(char **argv) {
    uint64_t sum = 0, sum_acked = 0, derived = 0;
    read_acks(argv[1]);
    if (open_log(argv[0], argv[3], argv[4]) != 0)
        return WRONG;
    for (uint32_t part = 0; part < PARTS; part++) {
        uint64_t n = check_partition("in", in, part), m = check_partition("out", out, part), at = 0;
        if (check_partition("pair", pair, part) != n)
            wrong("pair", part, n, "a transaction is there in part (PAWL-2)");
        if (n < acked_in[part])
            wrong("in", part, acked_in[part] - 1, "an acknowledged record is gone (PAWL-1)");
        if (m < acked_out[part])
            wrong("out", part, acked_out[part] - 1, "an acknowledged output is gone (PAWL-1)");
        if (pawl_position_get(the_log, "digest", in, part, &at) != 0)
            at = 0;
        if (at != m || m > n)
            wrong("out", part, at,
                  "the processor's position and its outputs don't agree (PAWL-3, PAWL-4)");
        acknowledge("in", part, n);
        acknowledge("out", part, m);
        sum += n, sum_acked += acked_in[part], derived += m;
    }
    check_producer(bounds_end(in, 0));
    pawl_status s = PAWL_STATUS_INIT;
    if (pawl_get_status(the_log, &s) != 0 || pawl_close(the_log) != 0)
        die("close");
    printf("records %" PRIu64 " acknowledged %" PRIu64 " outputs %" PRIu64 " cut %" PRIu64
           " segments %" PRIu64 "\n",
           sum, sum_acked, derived, s.cut_bytes, s.last_segment + 1);
    return WELL;
}

/* ---- the cut */

#define GOING_DOWN _IOR('X', 125, uint32_t) /* EXT4_IOC_SHUTDOWN is the same as XFS_IOC_GOINGDOWN */
#define NO_LOG_FLUSH 2u

static int cut(char **argv) {
    uint32_t how = NO_LOG_FLUSH;
    int fd = open(argv[0], O_RDONLY | O_DIRECTORY | O_CLOEXEC), watch = inotify_init1(IN_CLOEXEC);
    long left = strtol(argv[3], NULL, 10);
    _Alignas(struct inotify_event) char events[4096];
    if (fd < 0 || watch < 0 ||
        inotify_add_watch(watch, argv[1],
                          strcmp(argv[2], "rename") == 0 ? IN_MOVED_TO : IN_MODIFY) < 0)
        die("watching the directory");
    puts("ready");
    fflush(stdout);
    while (left > 0) {
        ssize_t n = read(watch, events, sizeof events);
        if (n <= 0)
            die("inotify");
        for (const char *at = events; at < events + n && left > 0; left--)
            at += sizeof(struct inotify_event) + ((const struct inotify_event *)at)->len;
    }
    if (ioctl(fd, GOING_DOWN, &how) != 0)
        die("the shutdown ioctl");
    puts("cut");
    return WELL;
}

int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc == 6 && strcmp(argv[1], "cut") == 0)
        return cut(argv + 2);
    bool is_work = argc == 8 && strcmp(argv[1], "work") == 0;
    if (!is_work && !(argc == 7 && strcmp(argv[1], "check") == 0))
        return 2;
    acks = open(argv[3], O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    seed = strtoull(argv[4], NULL, 10);
    return is_work ? work(argv + 2) : check(argv + 2);
}
