/* SPDX-License-Identifier: Apache-2.0
 * test-timeout: 300
 *
 * Makes each system call of a savepoint and of a fork fail in turn, and then kills the process at
 * each: what has the name is whole, the log is as it was, and the next try succeeds.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/support/state_log.h"

static struct {
    bool armed, kill;
    int64_t seen, at;
    int error;
    const char *name;
} f;

static bool due(const char *name) {
    if (!f.armed || f.seen++ != f.at)
        return false;
    if (f.kill)
        kill(getpid(), SIGKILL);
    f.name = name;
    errno = f.error;
    return true;
}

// NOLINTBEGIN(bugprone-reserved-identifier)
#define WRAP(type, name, parameters, arguments, failure) \
    type __real_##name parameters; \
    type __wrap_##name parameters; \
    type __wrap_##name parameters { \
        return due(#name) ? (failure) : __real_##name arguments; \
    }

WRAP(ssize_t, pread, (int fd, void *p, size_t n, off_t at), (fd, p, n, at), -1)
WRAP(ssize_t, pwrite, (int fd, const void *p, size_t n, off_t at), (fd, p, n, at), -1)
WRAP(int, fdatasync, (int fd), (fd), -1)
WRAP(int, fsync, (int fd), (fd), -1)
WRAP(int, ftruncate, (int fd, off_t size), (fd, size), -1)
WRAP(int, fallocate, (int fd, int mode, off_t at, off_t size), (fd, mode, at, size), -1)
WRAP(int, renameat2, (int a, const char *from, int b, const char *to, unsigned flags),
     (a, from, b, to, flags), -1)
WRAP(int, linkat, (int a, const char *from, int b, const char *to, int flags),
     (a, from, b, to, flags), -1)
WRAP(int, unlinkat, (int fd, const char *name, int flags), (fd, name, flags), -1)
WRAP(int, mkdirat, (int dir, const char *path, mode_t mode), (dir, path, mode), -1)
WRAP(DIR *, fdopendir, (int fd), (fd), NULL)
WRAP(struct dirent *, readdir, (DIR * d), (d), NULL)
WRAP(int, flock, (int fd, int how), (fd, how), -1)
WRAP(int, fstat, (int fd, struct stat *st), (fd, st), -1)
int __real_openat(int dir, const char *path, int flags, ...);
int __wrap_openat(int dir, const char *path, int flags, ...);
int __wrap_openat(int dir, const char *path, int flags, ...) {
    va_list a;
    va_start(a, flags);
    mode_t mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(a, mode_t) : 0;
    va_end(a);
    return due("openat") ? -1 : __real_openat(dir, path, flags, mode);
}
// NOLINTEND(bugprone-reserved-identifier)

struct here {
    struct fixture *log;
    char save[96], to[96];
};

typedef int (*make_fn)(const struct here *h);

static int make_savepoint(const struct here *h) {
    return pawl_savepoint(h->log->log, h->to, NULL);
}
static int make_fork(const struct here *h) {
    return pawl_fork(h->save, h->to, NULL, NULL);
}

static bool is_there(const char *path) {
    struct stat st;
    return lstat(path, &st) == 0;
}

/* It says what the log says. */
static void is_whole(const struct here *h, const char *dir, int64_t at) {
    pawl_error e;
    pawl_table_digest want, got;
    pawl *p;
    pawl_options o = PAWL_OPTIONS_INIT;
    if (pawl_audit(dir, NULL, &e) != 0)
        fail_msg("%s, call %lld (%s): %s", dir, (long long)at, f.name, e.message);
    o.flags = PAWL_OPEN_READ;
    o.no_thread = 1;
    must_open(dir, &o, &p);
    assert_int_equal(pawl_table_get_digest(p, h->log->table, 0, &got), 0);
    assert_int_equal(pawl_close(p), 0);
    assert_int_equal(pawl_table_get_digest(h->log->log, h->log->table, 0, &want), 0);
    assert_true(want.low == got.low && want.high == got.high && want.pairs == got.pairs);
}

static void empty(const struct here *h) {
    char command[256];
    snprintf(command, sizeof command, "rm -rf %s %s.unfinished", h->to, h->to);
    assert_int_equal(system(command), 0);
}

/* After a failure or a kill: `to` is whole or not there, and the next try makes it. */
static void settle(const struct here *h, make_fn make, int64_t at) {
    bool there = is_there(h->to);
    if (there)
        is_whole(h, h->to, at);
    int rc = make(h);
    pawl_error e;
    pawl_last_error(&e);
    if (rc != (there ? PAWL_EXISTS : 0))
        fail_msg("after call %lld (%s): %s", (long long)at, f.name, e.message);
    if (!there)
        is_whole(h, h->to, at);
    empty(h);
}

static int with(const struct here *h, make_fn make, int64_t at, bool killed) {
    static const int errors[] = {EIO, ENOSPC, ENOENT, EACCES, EMFILE, EXDEV};
    f.seen = 0, f.at = at, f.kill = killed, f.name = "";
    f.error = errors[(at < 0 ? 0 : at) % 6];
    f.armed = true;
    int rc = make(h);
    f.armed = false;
    return rc;
}

/* Of the calls that fail, each `step`th; of the kills, each fourth. */
static void each_call(const struct here *h, make_fn make, int64_t step) {
    assert_int_equal(with(h, make, -1, false), 0);
    int64_t calls = f.seen;
    assert_true(calls > 60);
    empty(h);
    for (int64_t at = 0; at < calls; at += step) {
        int rc = with(h, make, at, false);
        if (rc == 0) { /* the call doesn't matter, or another way was found */
            is_whole(h, h->to, at);
            empty(h);
            continue;
        }
        settle(h, make, at);
    }
    for (int64_t at = 0; at < calls; at += 4) {
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0)
            _exit(with(h, make, at, true) == 0 ? 0 : 1);
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        settle(h, make, at);
    }
}

static void prepare(struct here *h, struct fixture *log) {
    static char value[60000];
    h->log = log;
    snprintf(h->save, sizeof h->save, "%s.save", log->dir);
    snprintf(h->to, sizeof h->to, "%s.to", log->dir);
    put_one(log, "a", "1");
    assert_int_equal(pawl_state_flush(log->log), 1);
    for (int i = 0; i < 30; i++) { /* into the third segment */
        pawl_record r = {.value = value, .value_len = sizeof value};
        assert_int_equal(pawl_append(log->log, log->in, 0, &r, NULL), 0);
    }
    put_one(log, "b", "2");
    assert_int_equal(pawl_close(log->log), 0);
    log->options.flags = PAWL_OPEN_READ;
    log->options.no_thread = 1;
    log->options.backend = PAWL_BACKEND_POSIX;
    open_log(log);
    pawl_status st = PAWL_STATUS_INIT;
    do
        assert_int_equal(pawl_get_status(log->log, &st), 0);
    while (st.writer_pid != 0);
    assert_int_equal(pawl_savepoint(log->log, h->save, NULL), 0);
}

static void finish(struct here *h) {
    is_whole(h, h->log->dir, -1);
    is_whole(h, h->save, -1);
    assert_int_equal(test_dir_remove(h->save), 0);
}

/* The child that is killed can't use its parent's handle: it opens its own. */
static int savepoint_of_its_own(const struct here *h) {
    pawl *p;
    struct here own = *h;
    struct fixture log = *h->log;
    int rc = pawl_open(log.dir, &log.options, &p, NULL);
    if (rc < 0)
        return rc;
    log.log = p;
    own.log = &log;
    rc = make_savepoint(&own);
    pawl_error e;
    pawl_last_error(&e);
    return pawl_close(p) < 0 && rc == 0 ? PAWL_IO : rc;
}

static void a_savepoint(void **state) {
    struct here h;
    prepare(&h, *state);
    each_call(&h, savepoint_of_its_own, 1);
    finish(&h);
}

static void a_fork(void **state) {
    struct here h;
    prepare(&h, *state);
    each_call(&h, make_fork, 3);
    finish(&h);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_savepoint, setup, teardown),
        cmocka_unit_test_setup_teardown(a_fork, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
