/* SPDX-License-Identifier: Apache-2.0
 * test-timeout: 300
 *
 * Makes each system call of the library and each allocation fail in turn, once and permanently, on
 * both backends, while a log is created, written, read, rolled over, trimmed, closed and recovered.
 * Whatever the library returns then, acknowledged records stay, exactly once; and when the calls
 * work again, so does everything else.
 *
 * The linker intercepts the calls (--wrap, in CMakeLists.txt), so that none is missed because it
 * has no hook. A completion of io_uring counts as a call: its result is replaced.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "pawl.h"
#undef fail /* the library has one of its own */
#include "pipeline/engine.h"
#include "tests/support/skip.h"
#include "tests/support/test_dir.h"

#define wrong(...) (print_error(__VA_ARGS__), print_error("\n"), _fail(__FILE__, __LINE__))

/* ---- what fails */

enum kind { CALLS, ALLOCATIONS };
static struct {
    bool armed;
    enum kind kind;
    uint64_t seen, at; /* calls of this kind so far; the one that fails, from 0 */
    bool for_ever;
    int error;
    uint64_t failed;
    const char *name; /* of the first that failed */
} f;

static bool due(enum kind kind, const char *name) {
    if (!f.armed || kind != f.kind)
        return false;
    uint64_t n = f.seen++;
    if (n != f.at && !(f.for_ever && n > f.at))
        return false;
    if (f.failed++ == 0)
        f.name = name;
    errno = kind == ALLOCATIONS ? ENOMEM : f.error;
    return true;
}

/* One line a call: WRAP(result, name, (parameters), (arguments), its result when it fails). The
 * names are the linker's. */
// NOLINTBEGIN(bugprone-reserved-identifier)
#define WRAP(kind, type, name, parameters, arguments, failure) \
    type __real_##name parameters; \
    type __wrap_##name parameters; \
    type __wrap_##name parameters { \
        return due(kind, #name) ? (failure) : __real_##name arguments; \
    }

WRAP(ALLOCATIONS, void *, calloc, (size_t n, size_t size), (n, size), NULL)
WRAP(ALLOCATIONS, void *, malloc, (size_t size), (size), NULL)
WRAP(ALLOCATIONS, void *, realloc, (void *p, size_t size), (p, size), NULL)
WRAP(ALLOCATIONS, int, posix_memalign, (void **p, size_t align, size_t size), (p, align, size),
     ENOMEM)
WRAP(ALLOCATIONS, char *, strdup, (const char *s), (s), NULL)
WRAP(CALLS, ssize_t, pread, (int fd, void *p, size_t n, off_t at), (fd, p, n, at), -1)
WRAP(CALLS, ssize_t, pwrite, (int fd, const void *p, size_t n, off_t at), (fd, p, n, at), -1)
WRAP(CALLS, ssize_t, pwritev2, (int fd, const struct iovec *v, int n, off_t at, int flags),
     (fd, v, n, at, flags), -1)
WRAP(CALLS, int, fdatasync, (int fd), (fd), -1)
WRAP(CALLS, int, fsync, (int fd), (fd), -1)
WRAP(CALLS, int, ftruncate, (int fd, off_t size), (fd, size), -1)
WRAP(CALLS, int, fallocate, (int fd, int mode, off_t at, off_t size), (fd, mode, at, size), -1)
WRAP(CALLS, int, renameat, (int a, const char *from, int b, const char *to), (a, from, b, to), -1)
WRAP(CALLS, int, unlinkat, (int fd, const char *name, int flags), (fd, name, flags), -1)
WRAP(CALLS, DIR *, fdopendir, (int fd), (fd), NULL)
WRAP(CALLS, struct dirent *, readdir, (DIR * d), (d), NULL)
WRAP(CALLS, int, flock, (int fd, int how), (fd, how), -1)
WRAP(CALLS, int, fstat, (int fd, struct stat *st), (fd, st), -1)
WRAP(CALLS, int, fstatvfs, (int fd, struct statvfs *st), (fd, st), -1)
WRAP(CALLS, int, mkdirat, (int dir, const char *path, mode_t mode), (dir, path, mode), -1)
WRAP(CALLS, ssize_t, getrandom, (void *p, size_t n, unsigned flags), (p, n, flags), -1)
WRAP(CALLS, int, eventfd, (unsigned value, int flags), (value, flags), -1)
WRAP(CALLS, int, io_uring_queue_init_params,
     (unsigned n, struct io_uring *r, struct io_uring_params *p), (n, r, p), -errno)
WRAP(CALLS, int, io_uring_submit, (struct io_uring * r), (r), -errno)
WRAP(CALLS, int, io_uring_register, (unsigned fd, unsigned op, const void *p, unsigned n),
     (fd, op, p, n), -errno)
WRAP(CALLS, int, io_uring_register_buffers,
     (struct io_uring * r, const struct iovec *v, unsigned n), (r, v, n), -errno)
WRAP(CALLS, int, io_uring_register_files_update,
     (struct io_uring * r, unsigned at, const int *fd, unsigned n), (r, at, fd, n), -errno)
WRAP(CALLS, struct io_uring_probe *, io_uring_get_probe_ring, (struct io_uring * r), (r), NULL)

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...) {
    va_list a;
    va_start(a, flags);
    mode_t mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(a, mode_t) : 0;
    va_end(a);
    return due(CALLS, "open") ? -1 : __real_open(path, flags, mode);
}
int __real_openat(int dir, const char *path, int flags, ...);
int __wrap_openat(int dir, const char *path, int flags, ...);
int __wrap_openat(int dir, const char *path, int flags, ...) {
    va_list a;
    va_start(a, flags);
    mode_t mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(a, mode_t) : 0;
    va_end(a);
    return due(CALLS, "openat") ? -1 : __real_openat(dir, path, flags, mode);
}
unsigned __real_io_uring_peek_batch_cqe(struct io_uring *r, struct io_uring_cqe **cqe, unsigned n);
unsigned __wrap_io_uring_peek_batch_cqe(struct io_uring *r, struct io_uring_cqe **cqe, unsigned n);
unsigned __wrap_io_uring_peek_batch_cqe(struct io_uring *r, struct io_uring_cqe **cqe, unsigned n) {
    unsigned found = __real_io_uring_peek_batch_cqe(r, cqe, n);
    for (unsigned i = 0; i < found; i++)
        if (due(CALLS, "completion"))
            cqe[i]->res = -f.error;
    return found;
}
// NOLINTEND(bugprone-reserved-identifier)

/* ---- the work: records are a function of their number, and each output of its input */

enum { RECORDS = 16, TRIES = 3, OPEN_TRIES = 4 };

struct variant {
    const char *name;
    int backend, direct;
};

struct work {
    char dir[64];
    const struct variant *v;
    uint64_t in_acknowledged, out_acknowledged; /* records, position: reported as durable */
    bool keep_all;                              /* no retention */
    uint64_t dropped;                           /* records of a stream, ever seen */
};

static uint32_t make_value(uint8_t *out, uint64_t n, char stream) {
    uint32_t len = n % 3 == 2 ? 9000 : 40 + (uint32_t)n;
    for (uint32_t i = 0; i < len; i++)
        out[i] = (uint8_t)(n * 7 + i + (uint8_t)stream);
    return len;
}

static bool temporary(int rc) {
    return rc == PAWL_MEMORY || rc == PAWL_FULL;
}

/* The errors that the handle may return when a call fails; any other is a bug. */
static void expect_honest(int rc, const char *what) {
    if (rc >= 0 || rc == PAWL_IO || rc == PAWL_MEMORY || rc == PAWL_FULL ||
        rc == PAWL_UNSUPPORTED || rc == PAWL_PERMISSION)
        return;
    if (rc == PAWL_LOCKED && f.error == EAGAIN) /* what the lock's own call says of a holder */
        return;
    pawl_error e;
    pawl_last_error(&e);
    wrong("%s with failing %s no. %llu answered %s: %s", what, f.name, (unsigned long long)f.at,
          pawl_errname(rc), e.message);
}

/* Commits; retries if only space or memory was short. */
static int commit(pawl_tx *tx) {
    int rc = pawl_commit(tx, NULL);
    for (int i = 0; i < TRIES && temporary(rc); i++)
        rc = pawl_commit(tx, NULL);
    if (temporary(rc))
        pawl_abort(tx);
    return rc;
}

static int append(struct work *w, pawl *p, uint32_t stream, pawl_producer *producer, uint64_t n) {
    static uint8_t value[9000];
    pawl_tx *tx;
    int rc = pawl_begin(p, &tx);
    if (rc < 0)
        return rc;
    pawl_record r = {
        .key = "k", .key_len = 1, .value = value, .value_len = make_value(value, n, 'i')};
    rc = pawl_put(tx, stream, 0, &r);
    if (rc == 0)
        rc = pawl_tx_sequence(tx, producer, n + 1, n + 1, NULL, 0);
    if (rc < 0) {
        pawl_abort(tx);
        return rc;
    }
    rc = commit(tx);
    if (rc == 0)
        w->in_acknowledged = n + 1;
    return rc;
}

/* The next records as one transaction with the position. */
static int copy(struct work *w, pawl *p, pawl_reader *r, uint32_t in, uint32_t out,
                uint32_t processor, uint64_t *at) {
    static uint8_t value[9000];
    pawl_batch b;
    int n = pawl_read(r, 3, 0, &b);
    if (n <= 0)
        return n;
    assert_int_equal(b.from, *at);
    pawl_tx *tx;
    int rc = pawl_begin(p, &tx);
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < b.count && rc == 0; i++) {
        uint32_t len = make_value(value, b.records[i].offset, 'i');
        assert_int_equal(b.records[i].value_len, len);
        assert_memory_equal(b.records[i].value, value, len);
        pawl_record o = {.value = value, .value_len = make_value(value, b.records[i].offset, 'o')};
        rc = pawl_put(tx, out, 0, &o);
    }
    if (rc == 0)
        rc = pawl_advance(tx, processor, in, 0, b.from, b.to);
    if (rc < 0) {
        pawl_abort(tx);
        return rc;
    }
    uint64_t to = b.to;
    rc = commit(tx);
    if (rc == 0)
        w->out_acknowledged = *at = to;
    return rc;
}

/* A transaction larger than a frame of this log: part of it goes to the log early. Then it is
 * dropped. */
static int spill_and_abort(pawl *p, uint32_t stream) {
    static uint8_t value[9000];
    pawl_tx *tx;
    int rc = pawl_begin(p, &tx);
    pawl_record r = {.value = value, .value_len = sizeof value};
    for (int i = 0; i < 3 && rc == 0; i++)
        rc = pawl_put(tx, stream, 0, &r);
    pawl_abort(tx);
    return rc;
}

/* The records kept are a contiguous end of the expected ones, and exact. */
static int check_stream(struct work *w, pawl *p, uint32_t stream, char letter, uint64_t *end) {
    static uint8_t value[9000];
    pawl_bounds b;
    int rc = pawl_partition_bounds(p, stream, 0, &b);
    if (rc < 0)
        return rc;
    *end = b.end;
    if (b.first > w->dropped)
        w->dropped = b.first;
    pawl_reader *r;
    rc = pawl_reader_open(p, stream, 0, b.first, 0, &r);
    if (rc < 0)
        return rc;
    uint64_t at = b.first;
    pawl_batch batch;
    while ((rc = pawl_read(r, 0, 0, &batch)) > 0)
        for (size_t i = 0; i < batch.count; i++, at++) {
            uint32_t len = make_value(value, at, letter);
            assert_int_equal(batch.records[i].offset, at);
            assert_int_equal(batch.records[i].value_len, len);
            assert_memory_equal(batch.records[i].value, value, len);
        }
    pawl_reader_close(r);
    if (rc == 0)
        assert_int_equal(at, b.end);
    return rc;
}

/* Does the work on one handle, from the log's current state. 0 when all is done. */
static int on_handle(struct work *w, pawl *p) {
    uint32_t in, out, processor;
    pawl_producer *producer = NULL;
    pawl_reader *r = NULL;
    uint64_t at = 0, ends[2];
    int rc = pawl_stream_create(p, "in", 1, &in);
    if (rc == 0 || rc == PAWL_EXISTS)
        rc = pawl_stream_create(p, "out", 1, &out);
    if (rc == 0 || rc == PAWL_EXISTS)
        rc = pawl_processor_register(p, "copy", &processor);
    pawl_retention keep = {.bytes = w->keep_all ? 0 : 1};
    if (rc == 0)
        rc = pawl_retention_set(p, &keep);
    if (rc == 0)
        rc = pawl_producer_open(p, "source", &producer);
    if (rc < 0)
        return rc;
    uint64_t n = pawl_producer_sequence(producer);
    rc = pawl_position_get(p, "copy", in, 0, &at);
    if (rc == PAWL_NOT_FOUND && at == 0) { /* from here on it holds back retention */
        pawl_tx *tx;
        rc = pawl_begin(p, &tx);
        if (rc == 0 && (rc = pawl_advance(tx, processor, in, 0, 0, 0)) < 0)
            pawl_abort(tx);
        else if (rc == 0)
            rc = commit(tx);
    }
    if (rc == 0 && (rc = check_stream(w, p, in, 'i', &ends[0])) == 0 &&
        (rc = check_stream(w, p, out, 'o', &ends[1])) == 0) {
        assert_int_equal(ends[0], n);  /* records and sequence are one */
        assert_int_equal(ends[1], at); /* outputs and position are one */
        assert_true(n >= w->in_acknowledged && at >= w->out_acknowledged);
        w->in_acknowledged = n, w->out_acknowledged = at; /* records seen count as acknowledged */
        rc = pawl_reader_open(p, in, 0, at, PAWL_READ_UNCOMMITTED, &r);
    }
    for (int failures = 0; rc >= 0 && at < RECORDS;) {
        rc = n < RECORDS ? append(w, p, in, producer, n) : 0;
        if (rc == 0 && n < RECORDS)
            n++;
        if (rc == 0 && (n % 3 == 0 || n == RECORDS))
            rc = copy(w, p, r, in, out, processor, &at);
        if (rc == 0 && n % 8 == 4)
            rc = spill_and_abort(p, in);
        pawl_tick(p);
        int dropped = pawl_retention_apply(p);
        if (dropped < 0 && rc >= 0)
            rc = dropped;
        if (temporary(rc) && failures++ < TRIES)
            rc = pawl_reader_seek(r, at); /* the handle goes on */
    }
    pawl_reader_close(r);
    pawl_producer_close(producer);
    return rc < 0 ? rc : 0;
}

/* The kernel gives some things back only a while after a ring was closed: the lock, if unlocking
 * had failed, and the memory that it charges to an ordinary user. On a busy machine that takes
 * longer than the library waits. Whether to try again: nothing was made to fail since `failed`. */
enum { AGAIN_MS = 20, AGAIN_MAX = 500 };
static bool again(bool refused, uint64_t failed, int *tries) {
    if (!refused || f.failed != failed || ++*tries > AGAIN_MAX)
        return false;
    nanosleep(&(struct timespec){.tv_nsec = AGAIN_MS * 1000000L}, NULL);
    return true;
}

static int create_seam(struct work *w, struct seam **io) {
    int rc, tries = 0;
    uint64_t failed;
    do {
        failed = f.failed;
        rc = seam_create(w->dir, true, w->v->backend, w->v->direct, io);
    } while (again(rc == -EOPNOTSUPP, failed, &tries));
    return rc;
}

/* PAWL-7: closing returns 0 only if the log ends with the mark. Otherwise the mark would be missing
 * without an error. */
static void expect_marked(struct work *w, int closed) {
    pawl_check c = PAWL_CHECK_INIT;
    bool armed = f.armed;
    if (closed != 0 || f.kind != CALLS)
        return;
    f.armed = false;
    if (pawl_verify(w->dir, &c, NULL) != 0 || c.clean != 1)
        wrong("closing answered 0 without its mark, with failing %s no. %llu", f.name,
              (unsigned long long)f.at);
    f.armed = armed;
}

/* Opens and works until all is done; with failing calls, gives up after a few times. Returns
 * whether it is done. */
static bool work(struct work *w) {
    for (int i = 0; i < OPEN_TRIES; i++) {
        struct seam *io;
        pawl *p;
        int rc = create_seam(w, &io);
        if (rc == 0) {
            pawl_options o = PAWL_OPTIONS_INIT;
            o.flags = PAWL_OPEN_CREATE, o.segment_size = SEGMENT_SIZE_UNIT, o.no_thread = 1,
            o.memory_cap = 4 * MIB;
            /* Unlocking may have failed too: the lock then goes with the last life's ring, some
             * time later. */
            o.lock_wait_ms = 10000;
            rc = engine_open(io, &o, &p);
            expect_honest(rc, "opening");
        }
        if (rc < 0)
            continue;
        int worked = on_handle(w, p);
        expect_honest(worked, "working");
        rc = pawl_close(p);
        expect_honest(rc, "closing");
        expect_marked(w, rc);
        if (worked == 0)
            return true;
    }
    return false;
}

/* ---- running it */

static int open_files(void) {
    DIR *d = opendir("/proc/self/fd");
    int n = 0;
    while (d != NULL && readdir(d) != NULL)
        n++;
    closedir(d);
    return n;
}

/* One life with the fault, one without. Returns how many calls of this kind the first one made. */
static uint64_t live(struct work *w, enum kind kind, uint64_t at, bool for_ever, int error) {
    test_dir_empty(w->dir);
    w->in_acknowledged = w->out_acknowledged = 0;
    int files = open_files();
    memset(&f, 0, sizeof f);
    f.kind = kind, f.at = at, f.for_ever = for_ever, f.error = error;
    f.armed = true;
    bool done = work(w);
    f.armed = false;
    uint64_t seen = f.seen;
    if (!done && !for_ever)
        wrong("%s: one failing %s, no. %llu, was not got over", w->v->name, f.name,
              (unsigned long long)at);
    if (!work(w))
        wrong("%s: after failing %s from no. %llu on the log is of no use", w->v->name, f.name,
              (unsigned long long)at);
    assert_int_equal(w->in_acknowledged, RECORDS);
    assert_int_equal(w->out_acknowledged, RECORDS);
    assert_int_equal(open_files(), files);
    pawl_check c = PAWL_CHECK_INIT;
    pawl_error e;
    if (pawl_audit(w->dir, &c, &e) != 0)
        wrong("%s: after failing %s no. %llu the audit finds: %s", w->v->name, f.name,
              (unsigned long long)at, e.message);
    return seen;
}

static void need_backend(struct work *w) {
    struct seam *io;
    int rc = create_seam(w, &io);
    if (rc == -EOPNOTSUPP)
        SKIP("%s is not available here", w->v->name);
    assert_int_equal(rc, 0);
    io->ops->destroy(io);
}

static void each_fails(void **state, enum kind kind) {
    struct work *w = *state;
    need_backend(w);
    w->dropped = 0;
    uint64_t calls = live(w, kind, UINT64_MAX, false, EIO);
    assert_true(calls > (kind == CALLS ? 100 : 40));
    assert_true(w->dropped > 0);
    static const struct {
        bool for_ever;
        int error;
    } ways[] = {{false, EIO},   {true, EIO},    {false, ENOSPC},
                {true, ENOSPC}, {false, EINTR}, {false, EAGAIN}};
    uint64_t lives = 0;
    for (size_t way = 0; way < (kind == CALLS ? 6 : 2); way++)
        for (uint64_t at = 0; at < calls; at++, lives++)
            live(w, kind, at, ways[way].for_ever, ways[way].error);
    print_message("%s: %llu %s, %llu lives\n", w->v->name, (unsigned long long)calls,
                  kind == CALLS ? "calls" : "allocations", (unsigned long long)lives);
}

static void each_call_fails_in_turn(void **state) {
    each_fails(state, CALLS);
}

static void each_allocation_fails_in_turn(void **state) {
    each_fails(state, ALLOCATIONS);
}

/* ---- a damaged log, looked at and mended under failing calls */

static int ignore_frame(void *arg, const pawl_frame_info *i) {
    (void)arg, (void)i;
    return 0;
}

/* Reads what is left of a stream; counts it. Each record is exact, whatever is missing. */
static int read_rest(pawl *p, const char *stream, char letter, unsigned *count) {
    static uint8_t value[9000];
    pawl_stream_info info;
    pawl_bounds b;
    pawl_reader *r;
    pawl_batch batch;
    int rc = pawl_stream_find(p, stream, &info);
    if (rc < 0 || (rc = pawl_partition_bounds(p, info.id, 0, &b)) < 0 ||
        (rc = pawl_reader_open(p, info.id, 0, b.first, 0, &r)) < 0)
        return rc;
    while ((rc = pawl_read(r, 0, 0, &batch)) > 0 || rc == PAWL_LOST)
        for (size_t i = 0; rc > 0 && i < batch.count; i++, (*count)++) {
            uint32_t len = make_value(value, batch.records[i].offset, letter);
            assert_int_equal(batch.records[i].value_len, len);
            assert_memory_equal(batch.records[i].value, value, len);
        }
    pawl_reader_close(r);
    return rc;
}

static int open_to_read(struct work *w, uint32_t flags, pawl **p) {
    pawl_options o = PAWL_OPTIONS_INIT;
    o.flags = flags, o.backend = w->v->backend, o.direct = w->v->direct, o.no_thread = 1;
    o.lock_wait_ms = 10000; /* as above */
    int rc, tries = 0;
    uint64_t failed;
    do {
        failed = f.failed;
        rc = pawl_open(w->dir, &o, p, NULL);
    } while (again(rc == PAWL_UNSUPPORTED, failed, &tries));
    return rc;
}

static bool damage_told(int rc) {
    return rc == PAWL_DAMAGED || rc == PAWL_TILING || rc == PAWL_NOT_FOUND;
}

/* Every way to look at it, then repair. */
static void look(struct work *w) {
    pawl *p;
    unsigned count = 0;
    int rc = open_to_read(w, PAWL_OPEN_READ | PAWL_OPEN_SALVAGE, &p);
    expect_honest(damage_told(rc) ? 0 : rc, "opening to salvage");
    if (rc == 0) {
        rc = read_rest(p, "in", 'i', &count);
        expect_honest(damage_told(rc) ? 0 : rc, "salvaging");
        rc = read_rest(p, "out", 'o', &count);
        expect_honest(damage_told(rc) ? 0 : rc, "salvaging");
        assert_int_equal(pawl_close(p), 0);
    }
    pawl_check c = PAWL_CHECK_INIT;
    rc = pawl_verify(w->dir, &c, NULL);
    assert_int_not_equal(rc, 0);
    rc = pawl_audit(w->dir, &c, NULL);
    assert_int_not_equal(rc, 0);
    rc = pawl_dump(w->dir, 0, ignore_frame, NULL, NULL);
    expect_honest(damage_told(rc) ? 0 : rc, "dumping");
    rc = pawl_repair(w->dir, &c, NULL);
    expect_honest(damage_told(rc) ? 0 : rc, "repairing");
}

enum { SAVED_FILES = 16 };
struct saved {
    int count;
    char name[SAVED_FILES][48];
    uint8_t *data[SAVED_FILES];
    size_t len[SAVED_FILES];
};

static void save_all(const char *dir, struct saved *s) {
    DIR *d = opendir(dir);
    struct dirent *e;
    while ((e = readdir(d)) != NULL) {
        char path[128];
        struct stat st;
        snprintf(path, sizeof path, "%s/%.40s", dir, e->d_name);
        assert_int_equal(stat(path, &st), 0);
        if (!S_ISREG(st.st_mode) || strcmp(e->d_name, "lock") == 0)
            continue;
        assert_true(s->count < SAVED_FILES);
        snprintf(s->name[s->count], sizeof s->name[0], "%.40s", e->d_name);
        FILE *in = fopen(path, "rb");
        s->len[s->count] = (size_t)st.st_size;
        s->data[s->count] = malloc((size_t)st.st_size);
        assert_int_equal(fread(s->data[s->count], 1, (size_t)st.st_size, in), st.st_size);
        fclose(in);
        s->count++;
    }
    closedir(d);
}

static void restore_all(const char *dir, const struct saved *s) {
    test_dir_empty(dir);
    for (int i = 0; i < s->count; i++) {
        char path[128];
        snprintf(path, sizeof path, "%s/%s", dir, s->name[i]);
        FILE *out = fopen(path, "wb");
        assert_int_equal(fwrite(s->data[i], 1, s->len[i], out), s->len[i]);
        fclose(out);
    }
}

/* How many records a whole repair leaves, with an exact value each. */
static unsigned mend(struct work *w) {
    pawl *p;
    pawl_error e;
    unsigned count = 0;
    pawl_check c = PAWL_CHECK_INIT;
    int rc, tries = 0;
    do
        rc = pawl_repair(w->dir, &c, &e);
    while (again(rc == PAWL_LOCKED, f.failed, &tries));
    if (rc != 0)
        wrong("repair, after failing %s no. %llu: %s", f.name, (unsigned long long)f.at, e.message);
    if (pawl_verify(w->dir, &c, &e) != 0)
        wrong("verify after repair, after failing %s no. %llu: %s", f.name,
              (unsigned long long)f.at, e.message);
    assert_int_equal(open_to_read(w, PAWL_OPEN_READ, &p), 0);
    assert_int_equal(read_rest(p, "in", 'i', &count), 0);
    assert_int_equal(read_rest(p, "out", 'o', &count), 0);
    assert_int_equal(pawl_close(p), 0);
    return count;
}

/* Damages an output that was spilled: its frame shares a block with the commit's, which is good. */
static bool flip_spilled(uint8_t *data, size_t len) {
    static uint8_t value[9000];
    size_t n = make_value(value, 12, 'o');
    for (uint8_t *at = data; (at = memmem(at, len - (size_t)(at - data), value, n)) != NULL; at++)
        if (at[n] != (uint8_t)(at[n - 1] + 1)) { /* else it is a part of a longer one */
            at[3] ^= 16;
            return true;
        }
    return false;
}

static void each_fails_while_mending(void **state) {
    struct work *w = *state;
    struct saved s = {.count = 0};
    w->keep_all = true;
    need_backend(w);
    assert_true(work(w));
    save_all(w->dir, &s);
    static uint8_t value[9000];
    bool flipped = false, spilled = false;
    make_value(value, 2, 'i');
    for (int i = 0; i < s.count; i++) {
        spilled = spilled || flip_spilled(s.data[i], s.len[i]);
        uint8_t *record = memmem(s.data[i], s.len[i], value + 200, 1000);
        if (record != NULL && !flipped)
            flipped = true, record[0] ^= 4;
        else if (strcmp(s.name[i], "0000000000000000.seg") == 0)
            s.data[i][100] ^= 1; /* one copy of the header */
    }
    assert_true(flipped && spilled);
    restore_all(w->dir, &s);
    unsigned left = mend(w);
    assert_true(left < 2 * RECORDS - 1 && left >= 2 * RECORDS - 6); /* two frames are lost */
    uint64_t lives = 0;
    for (int kind = CALLS; kind <= ALLOCATIONS; kind++)
        for (int for_ever = 0; for_ever < 2; for_ever++) {
            bool more = true;
            for (uint64_t at = 0; more; at++, lives++) {
                restore_all(w->dir, &s);
                int files = open_files();
                memset(&f, 0, sizeof f);
                f.kind = (enum kind)kind, f.at = at, f.for_ever = for_ever != 0, f.error = EIO,
                f.armed = true;
                look(w);
                f.armed = false;
                more = f.failed != 0;
                assert_int_equal(open_files(), files);
                assert_int_equal(mend(w), left);
            }
        }
    print_message("%s: %llu lives of a damaged log\n", w->v->name, (unsigned long long)lives);
    for (int i = 0; i < s.count; i++)
        free(s.data[i]);
}

static int setup(void **state) {
    struct work *w = calloc(1, sizeof *w);
    w->v = *state;
    *state = w;
    return test_dir_make(w->dir, access("/dev/shm", W_OK) == 0 ? "/dev/shm/test_every_call"
                                                               : "/var/tmp/test_every_call");
}

static int teardown(void **state) {
    struct work *w = *state;
    test_dir_empty(w->dir);
    rmdir(w->dir);
    free(w);
    return 0;
}

int main(int argc, char **argv) {
    static const struct variant uring = {"io_uring, direct", PAWL_BACKEND_URING, PAWL_DIRECT_ON},
                                posix = {"posix, buffered", PAWL_BACKEND_POSIX, PAWL_DIRECT_OFF};
    const struct CMUnitTest tests[] = {
        {"each call fails in turn, io_uring", each_call_fails_in_turn, setup, teardown,
         (void *)&uring},
        {"each call fails in turn, posix", each_call_fails_in_turn, setup, teardown,
         (void *)&posix},
        {"each allocation fails in turn, io_uring", each_allocation_fails_in_turn, setup, teardown,
         (void *)&uring},
        {"each allocation fails in turn, posix", each_allocation_fails_in_turn, setup, teardown,
         (void *)&posix},
        {"each fails while a log is mended, io_uring", each_fails_while_mending, setup, teardown,
         (void *)&uring},
        {"each fails while a log is mended, posix", each_fails_while_mending, setup, teardown,
         (void *)&posix},
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
