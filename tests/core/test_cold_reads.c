/* SPDX-License-Identifier: Apache-2.0 */
/* Reading records that are no longer in memory keeps several large reads in flight, whatever the
 * sizes of frames, and returns the same bytes as plain reads. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "pawl.h"
#undef fail /* the library has one of its own */
#include "pipeline/engine.h"
#include "recovery/verify.h"
#include "tests/support/skip.h"
#include "tests/support/test_dir.h"

#define RECORDS 60u

static char dir[64];
static unsigned opened, put, largest_flight, flight, plain;
static struct seam_ops counting;
static const struct seam_ops *real;

static struct seam_reads *count_open(struct seam *s, unsigned depth, void *memory, size_t size) {
    opened++;
    return real->reads_open(s, depth, memory, size);
}
static int64_t count_read(struct seam *s, int file, void *data, size_t len, uint64_t offset) {
    plain += len > SEGMENT_HEADER_SIZE;
    return real->read(s, file, data, len, offset);
}
static void count_put(struct seam_reads *q, struct seam_req *r) {
    put++;
    if (++flight > largest_flight)
        largest_flight = flight;
    real->reads_put(q, r);
}
static struct seam_req *count_take(struct seam_reads *q) {
    struct seam_req *r = real->reads_take(q);
    flight -= r != NULL;
    return r;
}
static void count_close(struct seam_reads *q) {
    flight = 0;
    real->reads_close(q);
}
/* Every third read fails, or is short: what came ahead is not there, and a plain read must do. */
static struct seam_req *failing_take(struct seam_reads *q) {
    struct seam_req *r = count_take(q);
    if (r != NULL && put % 3 == 0) {
        r->result = put % 2 == 0 ? -5 : r->result / 2;
        memset(r->data, 0xEE, r->len);
    }
    return r;
}

/* From some bytes to two MiB, so that a frame is in one piece, spans several, or is larger than the
 * whole read-ahead. */
static uint32_t length(uint32_t i) {
    return i % 10 == 3 ? 2000000 : i % 4 == 0 ? 700000 + i * 977 : i * 131;
}

static void fill(uint8_t *p, uint32_t len, uint32_t seed) {
    uint64_t x = seed * 0x9e3779b97f4a7c15u + 1;
    for (uint32_t i = 0; i < len; i++) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        p[i] = (uint8_t)x;
    }
}

static int make_log(void **state) {
    static uint8_t value[2000000];
    (void)state;
    snprintf(dir, sizeof dir, "/var/tmp/test_cold_reads.XXXXXX");
    if (mkdtemp(dir) == NULL)
        return -1;
    pawl_options o = PAWL_OPTIONS_INIT;
    o.flags = PAWL_OPEN_CREATE, o.segment_size = 16u << 20;
    pawl *log;
    uint32_t s;
    if (pawl_open(dir, &o, &log, NULL) != 0 || pawl_stream_create(log, "s", 1, &s) != 0)
        return -1;
    for (uint32_t i = 0; i < RECORDS; i++) {
        pawl_tx *tx;
        fill(value, length(i), i);
        pawl_record r = {.value = value, .value_len = length(i)};
        if (pawl_begin(log, &tx) != 0 || pawl_put(tx, s, 0, &r) != 0 || pawl_commit(tx, NULL) != 0)
            return -1;
    }
    return pawl_close(log);
}

static int remove_log(void **state) {
    (void)state;
    return test_dir_remove(dir);
}

static struct seam *open_counting(const char *path, int backend,
                                  struct seam_req *(*take)(struct seam_reads *)) {
    struct seam *io;
    opened = put = largest_flight = flight = 0;
    assert_int_equal(seam_create(path, false, backend, PAWL_DIRECT_AUTO, &io), 0);
    real = io->ops;
    counting = *real;
    if (real->reads_open != NULL) {
        counting.reads_open = count_open;
        counting.reads_put = count_put;
        counting.reads_take = take;
        counting.read = count_read;
        counting.reads_close = count_close;
    }
    io->ops = &counting;
    return io;
}

static void read_all(int backend, struct seam_req *(*take)(struct seam_reads *)) {
    static uint8_t want[2000000];
    struct seam *io = open_counting(dir, backend, take);
    pawl_options o = PAWL_OPTIONS_INIT;
    o.flags = PAWL_OPEN_READ;
    pawl *log;
    pawl_reader *r;
    pawl_batch b;
    uint32_t next = 0;
    pawl_stream_info info;
    assert_int_equal(engine_open(io, &o, &log), 0);
    assert_int_equal(pawl_stream_find(log, "s", &info), 0);
    assert_int_equal(pawl_reader_open(log, info.id, 0, 0, 0, &r), 0);
    while (pawl_read(r, 0, 0, &b) > 0)
        for (size_t i = 0; i < b.count; i++, next++) {
            fill(want, length(next), next);
            assert_int_equal(b.records[i].value_len, length(next));
            if (length(next) != 0)
                assert_memory_equal(b.records[i].value, want, length(next));
        }
    assert_int_equal(next, RECORDS);
    pawl_reader_close(r);
    assert_int_equal(pawl_close(log), 0);
}

static void several_reads_are_under_way(void **state) {
    (void)state;
    struct seam *io;
    if (seam_create(dir, false, PAWL_BACKEND_URING, PAWL_DIRECT_AUTO, &io) != 0) {
        SKIP("no io_uring here");
    }
    io->ops->destroy(io);
    read_all(PAWL_BACKEND_URING, count_take);
    assert_true(opened > 0);
    assert_true(put > 10);
    assert_true(largest_flight > 1);
}

static void plain_reads_give_the_same(void **state) {
    (void)state;
    read_all(PAWL_BACKEND_POSIX, count_take);
}

static void a_read_ahead_that_fails_is_read_plainly(void **state) {
    (void)state;
    read_all(PAWL_BACKEND_AUTO, failing_take);
}

static void verify_finds(const char *path, int backend,
                         struct seam_req *(*take)(struct seam_reads *), uint64_t records) {
    struct mem mem;
    mem_init(&mem, 0);
    pawl_check c = PAWL_CHECK_INIT;
    struct seam *io = open_counting(path, backend, take);
    struct verify v = {.io = io, .mem = &mem, .check = &c};
    assert_int_equal(verify_log(&v), 0);
    assert_int_equal(c.problems, 0);
    assert_int_equal(c.records, records);
    assert_true(c.segments > 1);
    assert_int_equal(c.clean, 1);
    assert_int_equal(atomic_load(&mem.used), 0);
    io->ops->destroy(io);
}

/* Frames larger than what is read ahead, reads that fail: verify sees the same log. */
static void verify_reads_the_same_in_every_way(void **state) {
    (void)state;
    verify_finds(dir, PAWL_BACKEND_AUTO, count_take, RECORDS);
    verify_finds(dir, PAWL_BACKEND_POSIX, count_take, RECORDS);
    verify_finds(dir, PAWL_BACKEND_AUTO, failing_take, RECORDS);
}

/* Files of segments that are not begun: zeros yet. */
static unsigned prepared(const char *path) {
    unsigned n = 0;
    DIR *d = opendir(path);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        char name[400];
        snprintf(name, sizeof name, "%s/%s", path, e->d_name);
        FILE *file = strstr(e->d_name, ".seg") != NULL ? fopen(name, "r") : NULL;
        if (file == NULL)
            continue;
        n += fgetc(file) == 0;
        fclose(file);
    }
    closedir(d);
    return n;
}

/* Of ordinary frames: one queue for the whole log, from each segment into the next; and one for
 * each prepared file, which is searched for frames. */
static void verify_goes_on_from_segment_to_segment(void **state) {
    (void)state;
    char small[80];
    static uint8_t value[1000];
    snprintf(small, sizeof small, "%s/small", dir);
    pawl_options o = PAWL_OPTIONS_INIT;
    o.flags = PAWL_OPEN_CREATE, o.segment_size = 1u << 20;
    pawl *log;
    uint32_t s;
    assert_int_equal(pawl_open(small, &o, &log, NULL), 0);
    assert_int_equal(pawl_stream_create(log, "s", 1, &s), 0);
    for (uint32_t i = 0; i < 60; i++) {
        pawl_tx *tx;
        pawl_record r = {.value = value, .value_len = sizeof value};
        assert_int_equal(pawl_begin(log, &tx), 0);
        for (int k = 0; k < 100; k++)
            assert_int_equal(pawl_put(tx, s, 0, &r), 0);
        assert_int_equal(pawl_commit(tx, NULL), 0);
    }
    assert_int_equal(pawl_close(log), 0);
    verify_finds(small, PAWL_BACKEND_AUTO, count_take, 6000);
    if (real->reads_open != NULL)
        assert_int_equal(opened, 1 + prepared(small));
    verify_finds(small, PAWL_BACKEND_AUTO, failing_take, 6000);
}

/* Writes 20 MiB, more than the log keeps in memory, and reads them. */
static void write_and_follow(pawl *log, uint32_t stream, pawl_reader *r) {
    static uint8_t value[100000];
    pawl_batch b;
    size_t got = 0;
    for (uint32_t i = 0; i < 200; i++) {
        pawl_tx *tx;
        pawl_record record = {.value = value, .value_len = sizeof value};
        fill(value, sizeof value, i);
        assert_int_equal(pawl_begin(log, &tx), 0);
        assert_int_equal(pawl_put(tx, stream, 0, &record), 0);
        assert_int_equal(pawl_commit_async(tx, NULL, NULL, NULL), 0);
    }
    assert_int_equal(pawl_sync(log), 0);
    while (pawl_read(r, 0, 0, &b) > 0)
        for (size_t i = 0; i < b.count; i++, got++) {
            fill(value, sizeof value, (uint32_t)got);
            assert_memory_equal(b.records[i].value, value, sizeof value);
        }
    assert_int_equal(got, 200);
}

/* A reader that comes after the writer again and again: queue and memory for read-ahead are
 * allocated once, and freed when memory is short. */
static void what_reads_ahead_is_kept_for_the_next(void **state) {
    char path[80];
    (void)state;
    snprintf(path, sizeof path, "%s/followed", dir);
    struct seam *io;
    assert_int_equal(seam_create(path, true, PAWL_BACKEND_AUTO, PAWL_DIRECT_AUTO, &io), 0);
    io->ops->destroy(io);
    io = open_counting(path, PAWL_BACKEND_AUTO, count_take);
    if (real->reads_open == NULL) {
        io->ops->destroy(io);
        SKIP("no reading ahead here");
    }
    pawl_options o = PAWL_OPTIONS_INIT;
    o.flags = PAWL_OPEN_CREATE;
    pawl *log;
    pawl_reader *r;
    uint32_t s;
    assert_int_equal(engine_open(io, &o, &log), 0);
    assert_int_equal(pawl_stream_create(log, "s", 1, &s), 0);
    assert_int_equal(pawl_reader_open(log, s, 0, 0, 0, &r), 0);
    opened = put = 0;            /* recovery has one of its own */
    write_and_follow(log, s, r); /* from one record on: not known to go on yet */
    plain = 0;
    for (int i = 0; i < 4; i++)
        write_and_follow(log, s, r);
    assert_int_equal(opened, 1);
    assert_true(plain <= 4); /* one after the last whole piece, each time */
    assert_true(put > 50);
    assert_non_null(atomic_load(&log->readahead));
    size_t more = (size_t)(log->mem.cap - atomic_load(&log->mem.used)) + 1;
    void *memory = mem_alloc(&log->mem, more);
    assert_non_null(memory);
    assert_null(atomic_load(&log->readahead));
    mem_free(&log->mem, memory, more);
    write_and_follow(log, s, r);
    assert_int_equal(opened, 2);
    pawl_reader_close(r);
    assert_int_equal(pawl_close(log), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(several_reads_are_under_way),
        cmocka_unit_test(plain_reads_give_the_same),
        cmocka_unit_test(a_read_ahead_that_fails_is_read_plainly),
        cmocka_unit_test(verify_reads_the_same_in_every_way),
        cmocka_unit_test(verify_goes_on_from_segment_to_segment),
        cmocka_unit_test(what_reads_ahead_is_kept_for_the_next),
    };
    return cmocka_run_group_tests(tests, make_log, remove_log);
}
