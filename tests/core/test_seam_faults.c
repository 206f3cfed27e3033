/* SPDX-License-Identifier: Apache-2.0 */
/* Errors of the I/O seam, on each backend: a short write is completed and synced again, and a
 * failure is permanent. */
#include <errno.h>
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
#include "tests/support/skip.h"
#include "tests/support/test_dir.h"

enum fault { NONE, SHORT, NOTHING, ERROR, NEVER_WHOLE };

/* A seam around another. One at a time, single-threaded use of the engine. */
static struct {
    struct seam seam;
    struct seam *real;
    enum fault fault;
    int error;             /* for ERROR: -errno of the answer; the request then wasn't made */
    int countdown;         /* answers of asynchronous requests until the fault; negative: never */
    bool sync_only;        /* count answers of syncs only */
    bool every;            /* and each one after it */
    uint64_t clock;        /* order of things */
    uint64_t last_written; /* when the last byte of a write that was cut short got there */
    uint64_t last_synced;  /* when the last sync, or write that syncs, began that succeeded */
    unsigned writes, syncs, no_dsync;
    int file_sync; /* -errno of every sync; 0: the real one */
} f;

static bool due(const struct seam_req *r) {
    if (f.fault == NONE || (f.sync_only && r->op != SEAM_SYNC) ||
        (!f.sync_only && r->op == SEAM_SYNC && f.fault != ERROR))
        return false;
    if (f.countdown > 0)
        f.countdown--;
    else if (f.countdown == 0) {
        if (!f.every)
            f.countdown = -1;
        return true;
    }
    return false;
}

/* Completes the request without the real backend; reap() returns it. */
static struct seam_req *answered[8];
static int answered_count;

static void fault_submit(struct seam *s, struct seam_req *r) {
    (void)s;
    f.clock++;
    bool syncs = r->op == SEAM_SYNC || (r->flags & SEAM_DSYNC) != 0;
    if (r->op == SEAM_SYNC && f.file_sync != 0) {
        r->result = f.file_sync;
        answered[answered_count++] = r;
        return;
    }
    if (due(r)) {
        if (f.fault == ERROR || f.fault == NOTHING) {
            r->result = f.fault == NOTHING ? 0 : f.error;
            answered[answered_count++] = r;
            return;
        }
        /* only a part is really written, by the real backend */
        if (r->len > SEAM_BLOCK || f.fault == NEVER_WHOLE) {
            if (r->len == SEAM_BLOCK) {
                r->result = 0;
                answered[answered_count++] = r;
                return;
            }
            r->len -= SEAM_BLOCK;
            f.last_written = 0;
            syncs = false;
        }
    }
    f.writes += r->op == SEAM_WRITE;
    f.syncs += r->op == SEAM_SYNC;
    f.no_dsync += r->op == SEAM_WRITE && (r->flags & SEAM_DSYNC) == 0;
    if (syncs)
        f.last_synced = f.clock;
    if (r->op == SEAM_WRITE)
        f.last_written = f.clock;
    f.real->ops->submit(f.real, r);
}

static int fault_kick(struct seam *s) {
    (void)s;
    return f.real->ops->kick(f.real);
}

static int fault_reap(struct seam *s, struct seam_req **out, int max, bool wait) {
    (void)s;
    int n = 0;
    while (n < max && answered_count > 0)
        out[n++] = answered[--answered_count];
    return n > 0 ? n : f.real->ops->reap(f.real, out, max, wait);
}

/* The rest goes straight through. */
#define REAL f.real->ops
static int fault_list(struct seam *s, int (*fn)(void *arg, const char *name), void *arg) {
    (void)s;
    return REAL->list(f.real, fn, arg);
}
static int fault_open(struct seam *s, const char *name, uint32_t flags) {
    (void)s;
    return REAL->open(f.real, name, flags);
}
static void fault_close(struct seam *s, int file) {
    (void)s;
    REAL->close(f.real, file);
}
static int fault_size(struct seam *s, int file, uint64_t *size) {
    (void)s;
    return REAL->size(f.real, file, size);
}
static int fault_allocate(struct seam *s, int file, uint64_t size) {
    (void)s;
    return REAL->allocate(f.real, file, size);
}
static int fault_rename(struct seam *s, const char *from, const char *to) {
    (void)s;
    return REAL->rename(f.real, from, to);
}
static int fault_unlink(struct seam *s, const char *name) {
    (void)s;
    return REAL->unlink(f.real, name);
}
static int fault_sync_dir(struct seam *s) {
    (void)s;
    return REAL->sync_dir(f.real);
}
static int64_t fault_read(struct seam *s, int file, void *data, size_t len, uint64_t offset) {
    (void)s;
    return REAL->read(f.real, file, data, len, offset);
}
static int64_t fault_write(struct seam *s, int file, const void *data, size_t len,
                           uint64_t offset) {
    (void)s;
    return REAL->write(f.real, file, data, len, offset);
}
static int fault_sync(struct seam *s, int file) {
    (void)s;
    return f.file_sync != 0 ? f.file_sync : REAL->sync(f.real, file);
}
static void fault_drop_cache(struct seam *s, int file) {
    (void)s;
    REAL->drop_cache(f.real, file);
}
static void fault_buffers(struct seam *s, void *const *data, size_t each, int count) {
    (void)s, (void)data, (void)each, (void)count; /* refused: as with a small memlock limit */
}
static int fault_lock(struct seam *s, uint64_t wait_ns, int *pid) {
    (void)s;
    return REAL->lock(f.real, wait_ns, pid);
}
static void fault_unlock(struct seam *s) {
    (void)s;
    REAL->unlock(f.real);
}
static int fault_holder(struct seam *s) {
    (void)s;
    return REAL->holder(f.real);
}
static uint64_t fault_now(struct seam *s) {
    (void)s;
    return REAL->now(f.real);
}
static uint64_t fault_realtime(struct seam *s) {
    (void)s;
    return REAL->realtime(f.real);
}
static void fault_clocks(struct seam *s, struct seam_clock *out) {
    (void)s;
    REAL->clocks(f.real, out);
}
static void fault_sleep(struct seam *s, uint64_t ns) {
    (void)s;
    REAL->sleep(f.real, ns);
}
static int fault_random(struct seam *s, void *data, size_t len) {
    (void)s;
    return REAL->random(f.real, data, len);
}
static int fault_free_space(struct seam *s, uint64_t *bytes) {
    (void)s;
    return REAL->free_space(f.real, bytes);
}
static void fault_destroy(struct seam *s) {
    (void)s;
    REAL->destroy(f.real);
}

static const struct seam_ops fault_ops = {
    .list = fault_list,
    .open = fault_open,
    .close = fault_close,
    .size = fault_size,
    .allocate = fault_allocate,
    .rename = fault_rename,
    .unlink = fault_unlink,
    .sync_dir = fault_sync_dir,
    .read = fault_read,
    .write = fault_write,
    .sync = fault_sync,
    .drop_cache = fault_drop_cache,
    .submit = fault_submit,
    .kick = fault_kick,
    .reap = fault_reap,
    .buffers = fault_buffers,
    .lock = fault_lock,
    .unlock = fault_unlock,
    .holder = fault_holder,
    .now = fault_now,
    .realtime = fault_realtime,
    .clocks = fault_clocks,
    .sleep = fault_sleep,
    .random = fault_random,
    .free_space = fault_free_space,
    .destroy = fault_destroy,
};

struct variant {
    const char *name;
    int backend, direct;
};

struct fixture {
    char dir[64];
    const struct variant *v;
    pawl *log;
    uint32_t stream;
};

static int open_with(struct fixture *x, uint32_t flags, int file_sync);

static void open_log(struct fixture *x, bool create) {
    assert_int_equal(open_with(x, create ? PAWL_OPEN_CREATE : 0, 0), 0);
    if (create)
        assert_int_equal(pawl_stream_create(x->log, "s", 1, &x->stream), 0);
}

static int open_with(struct fixture *x, uint32_t flags, int file_sync) {
    memset(&f, 0, sizeof f);
    answered_count = 0;
    int rc = seam_create(x->dir, false, x->v->backend, x->v->direct, &f.real);
    if (rc == -EOPNOTSUPP) {
        SKIP("%s is not available here", x->v->name);
    }
    assert_int_equal(rc, 0);
    f.seam = *f.real;
    f.seam.ops = &fault_ops;
    f.countdown = -1;
    f.file_sync = file_sync;
    pawl_options o = PAWL_OPTIONS_INIT;
    o.flags = flags, o.segment_size = MIB, o.no_thread = 1;
    return engine_open(&f.seam, &o, &x->log);
}

static int setup(void **state) {
    struct fixture *x = calloc(1, sizeof *x);
    x->v = *state;
    *state = x;
    return test_dir_make(x->dir, "/var/tmp/test_seam_faults");
}

static int teardown(void **state) {
    struct fixture *x = *state;
    int rc = test_dir_remove(x->dir);
    free(x);
    return rc;
}

/* One record of three blocks. */
static int append(struct fixture *x, uint32_t n) {
    static uint8_t value[9000];
    memset(value, (int)n, sizeof value);
    pawl_record r = {.value = value, .value_len = sizeof value};
    return pawl_append(x->log, x->stream, 0, &r, NULL);
}

/* Closes, opens without faults, and expects exactly the records 0 to count - 1, or one more. */
static void expect(struct fixture *x, uint32_t count, bool perhaps_more) {
    f.countdown = -1;
    f.fault = NONE;
    int closed = pawl_close(x->log);
    assert_true(closed == 0 || closed == PAWL_IO);
    open_log(x, false);
    pawl_reader *r;
    pawl_batch b;
    uint32_t next = 0;
    assert_int_equal(pawl_reader_open(x->log, x->stream, 0, 0, 0, &r), 0);
    while (pawl_read(r, 0, 0, &b) > 0)
        for (size_t i = 0; i < b.count; i++, next++) {
            assert_int_equal(b.records[i].value_len, 9000);
            assert_int_equal(((const uint8_t *)b.records[i].value)[0], (uint8_t)next);
            assert_int_equal(((const uint8_t *)b.records[i].value)[8999], (uint8_t)next);
        }
    assert_true(next == count || (perhaps_more && next == count + 1));
    pawl_reader_close(r);
    assert_int_equal(pawl_close(x->log), 0);
    pawl_check c = PAWL_CHECK_INIT;
    assert_int_equal(pawl_verify(x->dir, &c, NULL), 0);
}

static void inject(enum fault fault, int error, int countdown, bool every) {
    f.fault = fault, f.error = error, f.countdown = countdown, f.every = every;
}

static void a_short_write_is_completed_and_synced_anew(void **state) {
    struct fixture *x = *state;
    open_log(x, true);
    for (uint32_t i = 0; i < 10; i++) {
        inject(SHORT, 0, 0, false);
        unsigned before = f.syncs;
        assert_int_equal(append(x, i), 0);
        assert_int_equal(f.countdown, -1); /* it did happen */
        assert_true(f.syncs > before);
        /* the sync that counts began after the last byte */
        assert_true(f.last_synced > f.last_written);
    }
    expect(x, 10, false);
}

static void interruptions_are_passed_over(void **state) {
    struct fixture *x = *state;
    static const int errors[] = {-EAGAIN, -EINTR, -ECANCELED};
    open_log(x, true);
    for (uint32_t i = 0; i < 9; i++) {
        inject(ERROR, errors[i % 3], 0, false);
        assert_int_equal(append(x, i), 0);
    }
    inject(NOTHING, 0, 0, false);
    assert_int_equal(append(x, 9), 0);
    assert_true(f.last_synced >= f.last_written);
    expect(x, 10, false);
}

static void without_dsync_each_write_is_followed_by_a_sync(void **state) {
    struct fixture *x = *state;
    open_log(x, true);
    inject(ERROR, -EOPNOTSUPP, 0, false);
    for (uint32_t i = 0; i < 5; i++) {
        assert_int_equal(append(x, i), 0);
        assert_true(f.last_synced > f.last_written);
    }
    assert_int_equal(f.no_dsync, 5);
    expect(x, 5, false);
}

static void an_interrupted_sync_is_asked_for_again(void **state) {
    struct fixture *x = *state;
    open_log(x, true);
    inject(ERROR, -EOPNOTSUPP, 0, false);
    assert_int_equal(append(x, 0), 0);
    f.sync_only = true;
    inject(ERROR, -EINTR, 0, false);
    assert_int_equal(append(x, 1), 0);
    assert_true(f.last_synced > f.last_written);
    expect(x, 2, false);
}

/* The error is sticky and reported in full, and nothing is acknowledged any more (PAWL-7). */
static void expect_dead(struct fixture *x, const char *call, int sys_errno) {
    pawl_error e;
    pawl_last_error(&e);
    assert_int_equal(e.code, PAWL_IO);
    assert_int_equal(e.sys_errno, sys_errno);
    assert_string_equal(e.call, call);
    assert_string_equal(e.file, "0000000000000000.seg");
    assert_true(e.lsn != UINT64_MAX);
    unsigned writes = f.writes, syncs = f.syncs;
    inject(NONE, 0, -1, false); /* all calls would work again, but the log stays failed */
    assert_int_equal(append(x, 77), PAWL_IO);
    assert_int_equal(pawl_sync(x->log), PAWL_IO);
    assert_int_equal(f.writes, writes);
    assert_int_equal(f.syncs, syncs);
}

static void a_failed_write_is_the_end(void **state) {
    struct fixture *x = *state;
    open_log(x, true);
    assert_int_equal(append(x, 0), 0);
    inject(ERROR, -EIO, 0, false);
    assert_int_equal(append(x, 1), PAWL_IO);
    expect_dead(x, "write", EIO);
    expect(x, 1, true);
}

static void a_failed_sync_is_the_end_and_is_not_tried_again(void **state) {
    struct fixture *x = *state;
    open_log(x, true);
    inject(ERROR, -EOPNOTSUPP, 0, false);
    assert_int_equal(append(x, 0), 0);
    f.sync_only = true;
    inject(ERROR, -EIO, 0, false);
    assert_int_equal(append(x, 1), PAWL_IO);
    f.sync_only = false;
    expect_dead(x, "fdatasync", EIO);
    expect(x, 1, true);
}

static void a_write_that_is_never_whole_is_given_up(void **state) {
    struct fixture *x = *state;
    open_log(x, true);
    assert_int_equal(append(x, 0), 0);
    inject(NEVER_WHOLE, 0, 0, true);
    assert_int_equal(append(x, 1), PAWL_IO);
    assert_true(f.writes < 5000);
    expect_dead(x, "write", EIO);
    expect(x, 1, true);
}

static uint64_t records_shown(struct fixture *x) {
    pawl_bounds b;
    assert_int_equal(pawl_partition_bounds(x->log, x->stream, 0, &b), 0);
    return b.end;
}

/* squashfs and its like have no sync: fdatasync() answers EINVAL. Nothing there is unwritten. */
static void a_file_system_that_cannot_be_written_is_read(void **state) {
    struct fixture *x = *state;
    open_log(x, true);
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(append(x, i), 0);
    assert_int_equal(pawl_close(x->log), 0);
    assert_int_equal(open_with(x, PAWL_OPEN_READ, -EINVAL), 0);
    assert_int_equal(records_shown(x), 3);
    assert_int_equal(pawl_close(x->log), 0);
}

/* A killed writer's last bytes are in the cache, and the file system has gone read-only after an
 * error: they will never be on the device. */
static void what_cannot_be_made_durable_is_not_shown(void **state) {
    struct fixture *x = *state;
    open_log(x, true);
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(append(x, i), 0);
    /* so that closing leaves no record that vouches for the last one */
    inject(ERROR, -EIO, 0, true);
    assert_int_equal(pawl_close(x->log), PAWL_IO);
    assert_int_equal(open_with(x, PAWL_OPEN_READ, -EROFS), 0);
    assert_int_equal(records_shown(x), 2);
    assert_int_equal(pawl_close(x->log), 0);
    assert_int_equal(open_with(x, PAWL_OPEN_READ, 0), 0);
    assert_int_equal(records_shown(x), 3);
    assert_int_equal(pawl_close(x->log), 0);
    assert_int_not_equal(open_with(x, 0, -EROFS), 0); /* nor does a writer begin on it */
}

static const struct variant variants[] = {
    {"io_uring, direct", PAWL_BACKEND_URING, PAWL_DIRECT_ON},
    {"io_uring, buffered", PAWL_BACKEND_URING, PAWL_DIRECT_OFF},
    {"posix, direct", PAWL_BACKEND_POSIX, PAWL_DIRECT_ON},
    {"posix, buffered", PAWL_BACKEND_POSIX, PAWL_DIRECT_OFF},
};

#define VARIANTS (sizeof variants / sizeof variants[0])
#define TEST(name) \
    { #name, name, setup, teardown, NULL }

int main(void) {
    static const struct CMUnitTest tests[] = {
        TEST(a_short_write_is_completed_and_synced_anew),
        TEST(interruptions_are_passed_over),
        TEST(without_dsync_each_write_is_followed_by_a_sync),
        TEST(an_interrupted_sync_is_asked_for_again),
        TEST(a_failed_write_is_the_end),
        TEST(a_failed_sync_is_the_end_and_is_not_tried_again),
        TEST(a_write_that_is_never_whole_is_given_up),
        TEST(a_file_system_that_cannot_be_written_is_read),
        TEST(what_cannot_be_made_durable_is_not_shown),
    };
    int failed = 0;
    for (size_t v = 0; v < VARIANTS; v++) {
        struct CMUnitTest here[sizeof tests / sizeof tests[0]];
        memcpy(here, tests, sizeof tests);
        for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++)
            here[i].initial_state = (void *)&variants[v];
        print_message("---- %s\n", variants[v].name);
        failed += cmocka_run_group_tests_name(variants[v].name, here, NULL, NULL);
    }
    return failed;
}
