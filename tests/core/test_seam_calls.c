/* SPDX-License-Identifier: Apache-2.0
 *
 * Each call of the seam's to the C library fails once, with each of a set of errors. The seam
 * answers with success or with an error, keeps no descriptor, leaves errno alone, and does the same
 * thing well right after. An interrupted call (EINTR) that may be made again is made again.
 *
 * The functions below take the place of the C library's, in this program alone.
 */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/timex.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "pawl.h"
#include "tests/support/test_dir.h"
#include "wal/seam/seam.h"

/* ---- the calls */

static _Atomic int fail_at = -1; /* counts down; the call at 0 fails */
static _Atomic int fail_with;
static const char *_Atomic failed_call;

/* Not static: some of the functions below are inline in the C library's headers. */
bool fails(const char *name);
bool fails(const char *name) {
    if (fail_at < 0 || fail_at-- != 0)
        return false;
    failed_call = name;
    errno = fail_with;
    return true;
}

/* a name in parentheses would be no name for the linker */
// NOLINTNEXTLINE(bugprone-macro-parentheses)
#define REAL(name) (__extension__(__typeof__(&name)) dlsym(RTLD_NEXT, #name))
#define STAND_IN(type, name, parameters, ...) \
    type name parameters { \
        return fails(#name) ? (type)-1 : REAL(name)(__VA_ARGS__); \
    }

STAND_IN(int, fstat, (int fd, struct stat *st), fd, st)
STAND_IN(int, fstatat, (int dir, const char *name, struct stat *st, int flags), dir, name, st,
         flags)
STAND_IN(int, statx, (int dir, const char *name, int flags, unsigned mask, struct statx *st), dir,
         name, flags, mask, st)
STAND_IN(int, fsync, (int fd), fd)
STAND_IN(int, fdatasync, (int fd), fd)
STAND_IN(int, mkdirat, (int dir, const char *name, mode_t mode), dir, name, mode)
STAND_IN(int, renameat2, (int dir, const char *from, int dir2, const char *to, unsigned flags), dir,
         from, dir2, to, flags)
STAND_IN(int, renameat, (int dir, const char *from, int dir2, const char *to), dir, from, dir2, to)
STAND_IN(int, unlinkat, (int dir, const char *name, int flags), dir, name, flags)
STAND_IN(int, fallocate, (int fd, int mode, off_t from, off_t len), fd, mode, from, len)
STAND_IN(int, ftruncate, (int fd, off_t len), fd, len)
STAND_IN(int, flock, (int fd, int how), fd, how)
STAND_IN(int, fstatvfs, (int fd, struct statvfs *st), fd, st)
STAND_IN(int, adjtimex, (struct timex * t), t)
STAND_IN(int, nanosleep, (const struct timespec *t, struct timespec *left), t, left)
STAND_IN(ssize_t, pread, (int fd, void *p, size_t n, off_t at), fd, p, n, at)
STAND_IN(ssize_t, pwrite, (int fd, const void *p, size_t n, off_t at), fd, p, n, at)
STAND_IN(ssize_t, pwritev2, (int fd, const struct iovec *v, int n, off_t at, int flags), fd, v, n,
         at, flags)
STAND_IN(ssize_t, readlinkat, (int dir, const char *name, char *out, size_t n), dir, name, out, n)
STAND_IN(ssize_t, getrandom, (void *p, size_t n, unsigned flags), p, n, flags)

DIR *fdopendir(int fd) {
    return fails("fdopendir") ? NULL : REAL(fdopendir)(fd);
}

struct dirent *readdir(DIR *d) {
    return fails("readdir") ? NULL : REAL(readdir)(d);
}

int fcntl(int fd, int command, ...) {
    va_list args;
    va_start(args, command);
    long arg = va_arg(args, long);
    va_end(args);
    return fails("fcntl") ? -1 : REAL(fcntl)(fd, command, arg);
}

int openat(int dir, const char *name, int flags, ...) {
    va_list args;
    va_start(args, flags);
    mode_t mode = (flags & (O_CREAT | __O_TMPFILE)) != 0 ? va_arg(args, mode_t) : 0;
    va_end(args);
    return fails("openat") ? -1 : REAL(openat)(dir, name, flags, mode);
}

/* ---- what is done */

struct bench {
    char dir[64], link[80];
    int backend, direct;
    struct seam *s;
    int file;
    uint8_t *block; /* two */
};

static int name_of(void *arg, const char *name) {
    (void)name;
    ++*(int *)arg;
    return 0;
}

/* Of each: 0 or more, or an error. What it makes it takes away again, even after an error. */
static int64_t do_create(struct bench *b) {
    struct seam *s = NULL;
    int rc = seam_create(b->dir, true, b->backend, b->direct, &s);
    if (rc == 0)
        s->ops->destroy(s);
    return rc;
}
static int64_t do_create_by_link(struct bench *b) {
    char path[100];
    struct seam *s = NULL;
    snprintf(path, sizeof path, "%s/log", b->link);
    int rc = seam_create(path, true, b->backend, b->direct, &s);
    if (rc == 0)
        s->ops->destroy(s);
    return rc;
}
static int64_t do_make(struct bench *b) {
    int file = b->s->ops->open(b->s, "made", SEAM_CREATE | SEAM_RDWR);
    if (file >= 0)
        b->s->ops->close(b->s, file);
    return file;
}
static int64_t do_open(struct bench *b) {
    int file = b->s->ops->open(b->s, "file", SEAM_RDWR);
    if (file >= 0)
        b->s->ops->close(b->s, file);
    return file;
}
static int64_t do_list(struct bench *b) {
    int n = 0;
    return b->s->ops->list(b->s, name_of, &n);
}
static int64_t do_rename(struct bench *b) {
    return b->s->ops->rename(b->s, "one", "two");
}
static int64_t do_unlink(struct bench *b) {
    return b->s->ops->unlink(b->s, "made");
}
static int64_t do_size(struct bench *b) {
    uint64_t size = 0;
    return b->s->ops->size(b->s, b->file, &size);
}
static int64_t do_names(struct bench *b) {
    return b->s->ops->names(b->s, b->file);
}
static int64_t do_place(struct bench *b) {
    struct seam_place place;
    return b->s->ops->place(b->s, b->file, &place);
}
static int64_t do_allocate(struct bench *b) {
    return b->s->ops->allocate(b->s, b->file, 4 * SEAM_BLOCK);
}
static int64_t do_read(struct bench *b) {
    return b->s->ops->read(b->s, b->file, b->block, 2 * SEAM_BLOCK, 0);
}
static int64_t do_write(struct bench *b) {
    return b->s->ops->write(b->s, b->file, b->block, 2 * SEAM_BLOCK, 0);
}
static int64_t do_sync(struct bench *b) {
    return b->s->ops->sync(b->s, b->file);
}
static int64_t do_sync_dir(struct bench *b) {
    return b->s->ops->sync_dir(b->s);
}
static int64_t do_lock(struct bench *b) {
    int pid = 0;
    int rc = b->s->ops->lock(b->s, 0, &pid);
    if (rc == 0)
        b->s->ops->unlock(b->s);
    return rc;
}
static int64_t do_holder(struct bench *b) {
    (void)b->s->ops->holder(b->s);
    return 0;
}
static int64_t do_clocks(struct bench *b) {
    struct seam_clock c = {0};
    b->s->ops->clocks(b->s, &c);
    b->s->ops->sleep(b->s, 1000);
    return c.boot_ns != 0 && c.wall_ns != 0 ? 0 : INT64_MIN;
}
static int64_t do_random(struct bench *b) {
    return b->s->ops->random(b->s, b->block, 64);
}
static int64_t do_free_space(struct bench *b) {
    uint64_t n;
    return b->s->ops->free_space(b->s, &n);
}
static int64_t request(struct bench *b, enum seam_op op, bool dsync) {
    struct seam_req r, *out = NULL;
    memset(&r, 0, sizeof r);
    r.op = op, r.file = b->file, r.data = b->block, r.len = SEAM_BLOCK, r.buffer = -1;
    r.flags = dsync ? SEAM_DSYNC : 0;
    b->s->ops->submit(b->s, &r);
    while (b->s->ops->kick(b->s) < 0) {
    }
    if (b->s->ops->reap(b->s, &out, 1, true) != 1 || out != &r)
        return INT64_MIN;
    return r.result;
}
static int64_t do_write_request(struct bench *b) {
    return request(b, SEAM_WRITE, true);
}
static int64_t do_sync_request(struct bench *b) {
    return request(b, SEAM_SYNC, false);
}

static const struct action {
    const char *label;
    int64_t (*act)(struct bench *b);
    bool again;        /* EINTR is no error of it */
    const char *needs; /* a file that is made before */
} actions[] = {
    {"create", do_create, false, NULL},
    {"create, behind a link", do_create_by_link, false, NULL},
    {"make a file", do_make, false, NULL},
    {"open a file", do_open, false, NULL},
    {"list", do_list, false, NULL},
    {"rename", do_rename, false, "one"},
    {"unlink", do_unlink, false, "made"},
    {"size", do_size, false, NULL},
    {"names", do_names, false, NULL},
    {"place", do_place, false, NULL},
    {"allocate", do_allocate, false, NULL},
    {"read", do_read, true, NULL},
    {"write", do_write, true, NULL},
    {"sync", do_sync, true, NULL},
    {"sync the directory", do_sync_dir, true, NULL},
    {"lock", do_lock, false, NULL},
    {"holder", do_holder, true, NULL},
    {"clocks", do_clocks, true, NULL},
    {"random", do_random, true, NULL},
    {"free space", do_free_space, false, NULL},
    {"a write that is submitted", do_write_request, false, NULL},
    {"a sync that is submitted", do_sync_request, false, NULL},
};

/* ---- the test */

static int descriptors(void) {
    int n = 0;
    DIR *d = opendir("/proc/self/fd");
    assert_non_null(d);
    while (readdir(d) != NULL)
        n++;
    closedir(d);
    return n;
}

static void touch(const struct bench *b, const char *name) {
    char path[100];
    snprintf(path, sizeof path, "%s/%s", b->dir, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    close(fd);
}

static int64_t act(struct bench *b, const struct action *a, int at, int with) {
    static const char *const made[] = {"made", "two"};
    for (size_t i = 0; i < 2; i++) {
        char path[100];
        snprintf(path, sizeof path, "%s/%s", b->dir, made[i]);
        (void)unlink(path);
    }
    if (a->needs != NULL)
        touch(b, a->needs);
    fail_with = with;
    failed_call = NULL;
    fail_at = at;
    errno = 4711;
    int64_t rc = a->act(b);
    fail_at = -1;
    if (errno != 4711)
        fail_msg("%s: %s fails with %d: errno is %d", a->label, failed_call, with, errno);
    return rc;
}

static void each_error_of_each_call(struct bench *b, const struct action *a) {
    static const int errors[] = {EIO,    EINTR,  EINVAL, ENOSYS, EOPNOTSUPP, ENOMEM,
                                 ENOSPC, EACCES, ELOOP,  ENOENT, EMFILE,     EEXIST};
    int64_t well = act(b, a, -1, 0);
    if (well < 0)
        fail_msg("%s: %lld", a->label, (long long)well);
    int before = descriptors(), count = 1;
    for (int at = 0; at < count; at++)
        for (size_t e = 0; e < sizeof errors / sizeof errors[0]; e++) {
            int64_t rc = act(b, a, at, errors[e]);
            count = failed_call != NULL ? at + 2 : at + 1; /* as long as there is a call to fail */
            if (rc < -4095)
                fail_msg("%s: %s fails with %s: %lld is no answer", a->label, failed_call,
                         strerror(errors[e]), (long long)rc);
            if (a->again && errors[e] == EINTR && rc != well)
                fail_msg("%s: %s is interrupted: %lld", a->label, failed_call, (long long)rc);
            if (descriptors() != before)
                fail_msg("%s: %s fails with %s: %d descriptors instead of %d", a->label,
                         failed_call, strerror(errors[e]), descriptors(), before);
            rc = act(b, a, -1, 0);
            if (rc < 0)
                fail_msg("%s: %s failed with %s, and later: %lld", a->label, failed_call,
                         strerror(errors[e]), (long long)rc);
        }
}

static void fails_once(int backend, int direct) {
    struct bench b = {.backend = backend, .direct = direct, .file = -1};
    void *data = NULL;
    char command[200];
    assert_int_equal(test_dir_make(b.dir, "/tmp/test_seam_calls"), 0);
    snprintf(b.link, sizeof b.link, "%s.link", b.dir);
    assert_int_equal(symlink(b.dir, b.link), 0);
    assert_int_equal(posix_memalign(&data, SEAM_BLOCK, 2 * SEAM_BLOCK), 0);
    b.block = memset(data, 7, 2 * SEAM_BLOCK);
    assert_int_equal(seam_create(b.dir, true, backend, direct, &b.s), 0);
    b.file = b.s->ops->open(b.s, "file", SEAM_CREATE | SEAM_RDWR);
    assert_true(b.file >= 0);
    for (size_t i = 0; i < sizeof actions / sizeof actions[0]; i++)
        each_error_of_each_call(&b, &actions[i]);
    b.s->ops->destroy(b.s);
    free(data);
    snprintf(command, sizeof command, "rm -rf %s %s", b.dir, b.link);
    assert_int_equal(system(command), 0);
}

static void without_a_ring(void **state) {
    (void)state;
    fails_once(PAWL_BACKEND_POSIX, PAWL_DIRECT_AUTO);
    fails_once(PAWL_BACKEND_POSIX, PAWL_DIRECT_OFF);
}

static void with_a_ring(void **state) {
    (void)state;
    struct seam *s = NULL;
    if (seam_create("/tmp", false, PAWL_BACKEND_URING, PAWL_DIRECT_OFF, &s) < 0) {
        print_message("SKIPPED: no io_uring here\n");
        return;
    }
    s->ops->destroy(s);
    fails_once(PAWL_BACKEND_URING, PAWL_DIRECT_AUTO);
}

/* Names and handles that are not the seam's to take. */
static void names_and_handles_are_checked(void **state) {
    (void)state;
    static const char *const names[] = {"", ".", "..", "a/b", "/etc/passwd", "../x"};
    struct seam *s = NULL;
    char dir[] = "/tmp/test_seam_calls.XXXXXX";
    assert_non_null(mkdtemp(dir));
    assert_int_equal(seam_create(dir, true, PAWL_BACKEND_POSIX, PAWL_DIRECT_OFF, &s), 0);
    const struct seam_ops *o = s->ops;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        assert_int_equal(o->open(s, names[i], SEAM_CREATE | SEAM_RDWR), -EINVAL);
        assert_int_equal(o->rename(s, names[i], "b"), -EINVAL);
        assert_int_equal(o->rename(s, "a", names[i]), -EINVAL);
        assert_int_equal(o->unlink(s, names[i]), -EINVAL);
    }
    int file = o->open(s, "file", SEAM_CREATE | SEAM_RDWR);
    assert_true(file >= 0);
    assert_int_equal(o->allocate(s, file, UINT64_MAX), -EFBIG);
    assert_int_equal(o->allocate(s, file, 0), 0);
    o->close(s, file);
    const int handles[] = {-1, file, SEAM_FILES_MAX, INT32_MAX};
    for (size_t i = 0; i < sizeof handles / sizeof handles[0]; i++) {
        uint64_t size;
        struct seam_place place;
        uint8_t byte = 0;
        assert_int_equal(o->size(s, handles[i], &size), -EBADF);
        assert_int_equal(o->names(s, handles[i]), -EBADF);
        assert_int_equal(o->place(s, handles[i], &place), -EBADF);
        assert_int_equal(o->allocate(s, handles[i], 1), -EBADF);
        assert_int_equal(o->read(s, handles[i], &byte, 1, 0), -EBADF);
        assert_int_equal(o->write(s, handles[i], &byte, 1, 0), -EBADF);
        assert_int_equal(o->sync(s, handles[i]), -EBADF);
        o->drop_cache(s, handles[i]);
    }
    struct seam *none = NULL;
    assert_int_equal(seam_create(dir, false, -1, PAWL_DIRECT_OFF, &none), -EINVAL);
    assert_int_equal(seam_create(dir, false, 99, PAWL_DIRECT_OFF, &none), -EINVAL);
    assert_int_equal(seam_create(dir, false, PAWL_BACKEND_POSIX, -1, &none), -EINVAL);
    assert_int_equal(seam_create(dir, false, PAWL_BACKEND_POSIX, 99, &none), -EINVAL);
    o->destroy(s);
    assert_int_equal(test_dir_remove(dir), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_ring),
        cmocka_unit_test(with_a_ring),
        cmocka_unit_test(names_and_handles_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
