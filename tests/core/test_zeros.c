/* SPDX-License-Identifier: Apache-2.0 */
/* Zeros ahead of use: how far, for which groups, and never into a segment that has begun. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sched.h>

#include "pipeline/engine.h"
#include "tests/support/skip.h"

#undef fail
#include <cmocka.h>

#include "tests/support/test_dir.h"

/* ---- which part, and when: no file takes part */

static int sync_well(struct seam *s, int file) {
    (void)s;
    return file == 7 ? 0 : -EBADF;
}

static uint64_t zeroed_from, zeroed_to;
static int zeros_rc;

static int64_t write_zeros(struct seam *s, int file, const void *data, size_t len,
                           uint64_t offset) {
    (void)s, (void)data;
    assert_int_equal(file, 7);
    if (zeroed_to != offset)
        zeroed_from = offset;
    zeroed_to = offset + len;
    return zeros_rc < 0 ? zeros_rc : (int64_t)len;
}

struct row {
    const char *label;
    uint64_t used, written; /* KiB of 1024 */
    uint32_t len, beside;   /* KiB of a group, groups in flight */
    int rc;                 /* of the write */
    bool ready, zeroing, sealing, gains;
    uint64_t from, to; /* KiB; both 0: none is written */
    uint64_t then;     /* KiB that count as written afterwards */
    int failed;
};

// clang-format off
static const struct row rows[] = {
    {"the first part comes at once", 8, 0, 4, 1, 0, true, false, false, true, 0, 64, 64, 0},
    {"then none before the tail moves", 8, 64, 4, 1, 0, true, false, false, true, 0, 0, 64, 0},
    {"twice as far as the active one is full",
     40, 64, 4, 1, 0, true, false, false, true, 64, 128, 128, 0},
    {"part by part", 800, 128, 4, 1, 0, true, false, false, true, 128, 192, 192, 0},
    {"from what is written, in whole blocks",
     800, 129, 4, 1, 0, true, false, false, true, 128, 196, 196, 0},
    {"up to the end", 1000, 1000, 4, 1, 0, true, false, false, true, 1000, 1024, 1024, 0},
    {"no further", 1000, 1024, 4, 1, 0, true, false, false, true, 0, 0, 1024, 0},
    {"large groups, many in flight: none",
     800, 64, 1024, 8, 0, true, false, false, true, 0, 0, 64, 0},
    {"large groups one by one", 800, 64, 1024, 1, 0, true, false, false, true, 64, 128, 128, 0},
    {"no segment is ready", 800, 64, 4, 1, 0, false, false, false, true, 0, 0, 64, 0},
    {"a thread is at it", 800, 64, 4, 1, 0, true, true, false, true, 0, 0, 64, 0},
    {"it is about to begin", 800, 64, 4, 1, 0, true, false, true, true, 0, 0, 64, 0},
    {"the file system gains nothing", 800, 64, 4, 1, 0, true, false, false, false, 0, 0, 64, 0},
    {"no space: the file is used as it is",
     800, 64, 4, 1, -ENOSPC, true, false, false, true, 64, 128, 1024, 0},
    {"the device fails: so does the log",
     800, 64, 4, 1, -EIO, true, false, false, true, 64, 128, 1024, PAWL_IO},
};
// clang-format on

static bool as_told(const struct row *r) {
    static const struct seam_ops ops = {.write = write_zeros, .sync = sync_well};
    struct seam io = {.ops = &ops, .zeros = r->gains};
    struct wal *w = calloc(1, sizeof *w);
    assert_non_null(w);
    w->io = &io;
    w->segment_size = MIB;
    w->segment = 3;
    w->tail = 3 * MIB + r->used * 1024;
    w->next = r->ready ? NEXT_READY : NEXT_NONE;
    w->next_file = r->ready ? 7 : -1;
    w->next_written = r->written * 1024;
    w->zeroing = r->zeroing;
    w->state = r->sealing ? WAL_SEALING : WAL_RUNNING;
    w->in_flight = 1; /* a segment change goes no further */
    for (int i = 0; i < 40; i++)
        pace_group_went(&w->pace, r->len * 1024, r->beside);
    zeroed_from = zeroed_to = 0;
    zeros_rc = r->rc;
    if (wal_wants_zeros(w)) {
        struct wal_part part = wal_zeros_begin(w);
        assert_false(wal_wants_zeros(w));
        int rc = wal_zero_part(&io, &part);
        zeroed_from = part.from, zeroed_to = rc < 0 ? part.to : zeroed_to;
        wal_zeros_done(w, &part, rc);
    }
    bool well = zeroed_from == r->from * 1024 && zeroed_to == r->to * 1024 &&
                w->next_written == r->then * 1024 && w->failed == r->failed;
    if (!well)
        print_error("%s: %llu to %llu, then %llu, failed %d\n", r->label,
                    (unsigned long long)zeroed_from / 1024, (unsigned long long)zeroed_to / 1024,
                    (unsigned long long)w->next_written / 1024, w->failed);
    free(w);
    return well;
}

static void each_part_is_as_told(void **state) {
    (void)state;
    int wrong = 0;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        wrong += !as_told(&rows[i]);
    assert_int_equal(wrong, 0);
}

/* ---- with a file */

struct fixture {
    char dir[64];
    pawl_options options;
    pawl *log;
    uint32_t s;
};

/* The seam whose writes of zeros wait, and which sees where groups go. */
static struct seam_ops held;
static const struct seam_ops *real;
static _Atomic int holds, waits, headers;

static int64_t held_write(struct seam *s, int file, const void *data, size_t len, uint64_t offset) {
    while (atomic_load(&holds) != 0) {
        atomic_store(&waits, 1);
        sched_yield();
    }
    return real->write(s, file, data, len, offset);
}

static void seen_submit(struct seam *s, struct seam_req *r) {
    if (r->op == SEAM_WRITE && r->offset == 0)
        atomic_fetch_add(&headers, 1);
    real->submit(s, r);
}

static int setup(void **state) {
    struct fixture *f = calloc(1, sizeof *f);
    if (f == NULL)
        return -1;
    if (test_dir_make(f->dir, "/tmp/test_zeros") != 0)
        return -1;
    f->options = (pawl_options)PAWL_OPTIONS_INIT;
    f->options.segment_size = MIB;
    f->options.backend = PAWL_BACKEND_POSIX;
    struct seam *io;
    if (seam_create(f->dir, true, PAWL_BACKEND_POSIX, PAWL_DIRECT_AUTO, &io) != 0)
        return -1;
    real = io->ops;
    held = *real;
    held.write = held_write;
    held.submit = seen_submit;
    atomic_store(&holds, 0);
    f->options.flags = PAWL_OPEN_CREATE;
    io->ops = &held;
    if (engine_open(io, &f->options, &f->log) != 0 || pawl_stream_create(f->log, "s", 1, &f->s) < 0)
        return -1;
    *state = f;
    return 0;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    atomic_store(&holds, 0);
    int rc = f->log != NULL ? pawl_close(f->log) : 0;
    rc |= test_dir_remove(f->dir);
    free(f);
    return rc;
}

static void put(struct fixture *f) {
    static char value[30000];
    pawl_record r = {.value = value, .value_len = sizeof value};
    assert_int_equal(pawl_append(f->log, f->s, 0, &r, NULL), 0);
}

static void *fill(void *arg) {
    for (int i = 0; i < 40; i++)
        put(arg);
    return NULL;
}

static enum wal_state state_of(pawl *p) {
    pthread_mutex_lock(&p->mutex);
    enum wal_state s = p->wal.state;
    bool quiet = p->wal.in_flight == 0 && p->wal.gathering == NULL;
    pthread_mutex_unlock(&p->mutex);
    return quiet ? s : WAL_RUNNING;
}

/* The active segment is sealed while a part of the next one is being written with zeros. */
static void a_segment_waits_for_the_zeros_that_go_into_it(void **state) {
    struct fixture *f = *state;
    pthread_t writer;
    bool ready = false, all = false;
    while (!ready) { /* the next segment is prepared by the log's own thread */
        pthread_mutex_lock(&f->log->mutex);
        ready = f->log->wal.next == NEXT_READY && !f->log->wal.zeroing &&
                !wal_wants_zeros(&f->log->wal);
        all = f->log->wal.next_written == MIB;
        pthread_mutex_unlock(&f->log->mutex);
        sched_yield();
    }
    if (all)
        SKIP("the file system reserves nothing, so all zeros came at once");
    atomic_store(&waits, 0), atomic_store(&headers, 0);
    atomic_store(&holds, 1);
    assert_int_equal(pthread_create(&writer, NULL, fill, f), 0);
    while (atomic_load(&waits) == 0)
        sched_yield();
    while (state_of(f->log) != WAL_SEALING && atomic_load(&headers) == 0)
        sched_yield();
    assert_int_equal(atomic_load(&headers), 0);
    atomic_store(&holds, 0);
    pthread_join(writer, NULL);
    assert_int_equal(atomic_load(&headers), 1);
    assert_int_equal(pawl_close(f->log), 0);
    f->log = NULL;
    pawl_error e;
    f->options.flags = 0;
    if (pawl_open(f->dir, &f->options, &f->log, &e) != 0)
        fail_msg("%s", e.message);
    pawl_bounds b = {0};
    assert_int_equal(pawl_partition_bounds(f->log, f->s, 0, &b), 0);
    assert_int_equal(b.end, 40);
}

/* Whoever opens a log learns how far the prepared segment was written. */
static void the_file_knows_how_far_it_was_written(void **state) {
    struct fixture *f = *state;
    struct seam *io = f->log->io;
    uint64_t bytes = 0;
    static _Alignas(4096) uint8_t block[8192];
    int file = io->ops->open(io, "file", SEAM_CREATE | SEAM_RDWR);
    assert_true(file >= 0);
    int reserved = io->ops->allocate(io, file, MIB);
    assert_true(reserved >= 0);
    assert_int_equal(io->ops->write(io, file, block, sizeof block, 0), sizeof block);
    assert_int_equal(io->ops->sync(io, file), 0);
    assert_int_equal(io->ops->written(io, file, &bytes), 0);
    io->ops->close(io, file);
    assert_true(bytes >= sizeof block);
    if (reserved == 0 && io->direct) /* a file system with O_DIRECT tells reserved space */
        assert_int_equal(bytes, sizeof block);
    assert_int_equal(io->ops->written(io, file, &bytes), -EBADF);
}

static int allocate_nothing(struct seam *s, int file, uint64_t size) {
    int rc = real->allocate(s, file, size);
    return rc < 0 ? rc : 1;
}

/* Where space can't be reserved, a full disk shows when the segment is prepared. */
static void without_reserved_space_zeros_come_at_once(void **state) {
    const struct fixture *f = *state;
    const struct points points = {NULL, NULL};
    struct seam_ops ops;
    struct seam *io;
    uint64_t bytes = 0;
    bool zeros = false;
    assert_int_equal(seam_create(f->dir, false, PAWL_BACKEND_POSIX, PAWL_DIRECT_AUTO, &io), 0);
    ops = *io->ops;
    ops.allocate = allocate_nothing;
    io->ops = &ops;
    int file = wal_prepare_file(io, &points, 90, MIB, &zeros);
    assert_true(file >= 0);
    assert_true(zeros);
    assert_int_equal(io->ops->written(io, file, &bytes), 0);
    assert_int_equal(bytes, MIB);
    io->ops->destroy(io);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_part_is_as_told),
        cmocka_unit_test_setup_teardown(a_segment_waits_for_the_zeros_that_go_into_it, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(the_file_knows_how_far_it_was_written, setup, teardown),
        cmocka_unit_test_setup_teardown(without_reserved_space_zeros_come_at_once, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
