/* SPDX-License-Identifier: Apache-2.0
 *
 * file_sink.c - see file_sink.h.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/file_sink.h"

/* ---- the calls of the sink, which the linker leads here; those of the log pass */

struct fsink_trap fsink_trap;
static atomic_int watching; /* fsink_trap.directory is set, and may be read by the log's threads */

void fsink_watch(const char *directory) {
    snprintf(fsink_trap.directory, sizeof fsink_trap.directory, "%s", directory);
    atomic_store(&watching, 1);
}

void fsink_watch_end(void) {
    atomic_store(&watching, 0);
}

static _Thread_local bool this_one; /* this thread's call it is that it happens at */

static bool ours(int fd, char path[PATH_MAX]) {
    char link[32];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = atomic_load(&watching) != 0 ? readlink(link, path, PATH_MAX - 1) : -1;
    if (n < 0)
        return false;
    path[n] = 0;
    return strncmp(path, fsink_trap.directory, strlen(fsink_trap.directory)) == 0;
}

static bool ends(const char *name, const char *end) {
    size_t n = strlen(name), m = strlen(end);
    return n >= m && strcmp(name + n - m, end) == 0;
}

/* Notes what a call that succeeded has left to be synced. */
static void track(const char *call, int fd) {
    char path[PATH_MAX];
    if (!ours(fd, path))
        return;
    bool directory = strcmp(path, fsink_trap.directory) == 0, part = ends(path, ".part");
    if (strncmp(call, "renameat", 8) == 0 || strcmp(call, "openat") == 0)
        fsink_trap.names = 1;
    else if (strncmp(call, "pwrite", 6) == 0 && part)
        fsink_trap.bytes = 1;
    else if (strcmp(call, "fsync") == 0 && directory)
        fsink_trap.names = 0;
    else if (strcmp(call, "fdatasync") == 0 && part)
        fsink_trap.bytes = 0;
}

/* Whether this call is to fail. */
static bool before(int fd) {
    char path[PATH_MAX];
    if (fsink_trap.armed == 0 || !ours(fd, path) || fsink_trap.left-- != 0)
        return false;
    fsink_trap.happened = 1;
    this_one = true;
    if (fsink_trap.mode == KILL_BEFORE)
        _exit(7);
    errno = fsink_trap.error;
    return fsink_trap.mode == FAIL;
}

static void after(void) {
    if (this_one && fsink_trap.armed != 0 && fsink_trap.mode == KILL_AFTER)
        _exit(7);
}

#define WRAP(type, name, fd, parameters, arguments) \
    type __real_##name parameters; \
    type __wrap_##name parameters; \
    type __wrap_##name parameters { \
        if (before(fd)) \
            return -1; \
        type rc = __real_##name arguments; \
        after(); \
        if (rc >= 0) \
            track(#name, fd); \
        return rc; \
    }
WRAP(ssize_t, pwrite, fd, (int fd, const void *b, size_t n, off_t at), (fd, b, n, at))
WRAP(ssize_t, pwritev2, fd, (int fd, const struct iovec *v, int n, off_t at, int flags),
     (fd, v, n, at, flags))
WRAP(int, fdatasync, fd, (int fd), (fd))
WRAP(int, fsync, fd, (int fd), (fd))
WRAP(int, ftruncate, fd, (int fd, off_t n), (fd, n))
WRAP(int, renameat, a, (int a, const char *b, int c, const char *d), (a, b, c, d))
WRAP(int, unlinkat, d, (int d, const char *name, int flags), (d, name, flags))

bool fsink_no_replace;

int __real_renameat2(int a, const char *b, int c, const char *d, unsigned flags);
int __wrap_renameat2(int a, const char *b, int c, const char *d, unsigned flags);
int __wrap_renameat2(int a, const char *b, int c, const char *d, unsigned flags) {
    if (before(a))
        return -1;
    if (fsink_no_replace) {
        errno = EINVAL;
        return -1;
    }
    int rc = __real_renameat2(a, b, c, d, flags);
    after();
    if (rc >= 0)
        track("renameat2", a);
    return rc;
}

int __real_openat(int d, const char *name, int flags, ...);
int __wrap_openat(int d, const char *name, int flags, ...);
int __wrap_openat(int d, const char *name, int flags, ...) {
    va_list args;
    va_start(args, flags);
    mode_t mode = (flags & O_CREAT) != 0 ? va_arg(args, mode_t) : 0;
    va_end(args);
    if (before(d))
        return -1;
    int rc = __real_openat(d, name, flags, mode);
    after();
    if (rc >= 0 && (flags & O_EXCL) != 0)
        track("openat", d);
    return rc;
}

/* ---- a log, and its stream into files */

const char *fsink_where = "/tmp";

void fsink_set(struct files *f, const char *name, const char *value) {
    for (size_t i = 0; i < f->setting_count; i++)
        if (strcmp(f->settings[i].name, name) == 0) {
            f->settings[i].value = value;
            return;
        }
    f->settings[f->setting_count++] = (pawl_setting){name, value, 1};
}

void fsink_open_log(struct files *f) {
    pawl_error e;
    pawl_options o = PAWL_OPTIONS_INIT;
    o.flags = PAWL_OPEN_CREATE;
    o.segment_size = 1u << 20;
    o.lock_wait_ms = 20000; /* a killed one may hold it until the last of its writes is done */
    o.memory_cap = 2u << 20;
    if (pawl_open(f->dir, &o, &f->log, &e) != 0)
        fail_msg("%s", e.message);
}

struct files *fsink_new(void) {
    struct files *f = calloc(1, sizeof *f);
    assert_non_null(f);
    snprintf(f->dir, sizeof f->dir, "%s/test_sink_file.XXXXXX", fsink_where);
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->target, sizeof f->target, "%s/out", f->dir);
    f->batch_records = 7;
    fsink_set(f, "directory", f->target);
    fsink_set(f, "rotate_size", "60");
    fsink_open_log(f);
    assert_int_equal(pawl_stream_create(f->log, "in", 1, &f->in), 0);
    pawl_tx *tx;
    assert_int_equal(pawl_begin(f->log, &tx), 0);
    for (uint32_t i = 0; i < COUNT; i++) {
        char text[16];
        pawl_record r = {.value = text,
                         .value_len = (uint32_t)snprintf(text, sizeof text, "n%u", i)};
        assert_int_equal(pawl_put(tx, f->in, 0, &r), 0);
    }
    assert_int_equal(pawl_commit(tx, NULL), 0);
    return f;
}

static void remove_files(const char *directory) {
    DIR *d = opendir(directory);
    const struct dirent *e;
    while (d != NULL && (e = readdir(d)) != NULL)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 &&
            unlinkat(dirfd(d), e->d_name, 0) != 0) {
            char path[PATH_MAX];
            snprintf(path, sizeof path, "%s/%s", directory, e->d_name);
            remove_files(path);
        }
    if (d != NULL)
        closedir(d);
    rmdir(directory);
}

void fsink_close(struct files *f) {
    pawl_sink_remove(f->sink);
    f->sink = NULL;
    if (f->log != NULL)
        assert_int_equal(pawl_close(f->log), 0);
    f->log = NULL;
    fsink_watch_end(); /* no thread of the log is left */
}

void fsink_free(struct files *f) {
    fsink_trap.armed = 0;
    fsink_close(f);
    remove_files(f->dir);
    free(f);
}

static uint64_t now(void *arg) {
    return ((struct files *)arg)->now_ns;
}

static void report(void *arg, const char *name, int severity, const char *message) {
    struct files *f = arg;
    size_t n = strlen(f->reports);
    (void)name;
    if (severity > 1)
        snprintf(f->reports + n, sizeof f->reports - n, "%s\n", message);
}

static void on_point(void *arg, const char *point) {
    struct files *f = arg;
    if (f->on_point != NULL)
        f->on_point(f, point);
}

void fsink_add(struct files *f) {
    pawl_error e = {0};
    pawl_sink_ops ops = PAWL_SINK_OPS_INIT;
    pawl_settings s = {.items = f->settings, .count = f->setting_count};
    pawl_sink_config c = PAWL_SINK_CONFIG_INIT;
    c.name = "files", c.inputs = &f->in, c.input_count = 1;
    c.batch_records = f->batch_records;
    c.on_lost = f->on_lost;
    c.guarantee = f->guarantee;
    c.hooks.now_ns = now, c.hooks.now_arg = f, c.hooks.seed = 1;
    c.hooks.report = report, c.hooks.report_arg = f;
    c.hooks.on_point = on_point, c.hooks.on_point_arg = f;
    if (pawl_sink_make("file", &s, &ops, &e) != 0 ||
        pawl_sink_add(f->log, &c, &ops, &f->sink, &e) != 0)
        fail_msg("%s", e.message);
}

/* Until all is delivered, or it has failed for good; an hour passes with each step that waits. */
int fsink_drive(struct files *f) {
    pawl_flow_status s = PAWL_FLOW_STATUS_INIT;
    for (int i = 0; i < 1000; i++) {
        int rc = pawl_sink_step(f->sink);
        if (rc < 0)
            return rc;
        assert_int_equal(pawl_sink_status(f->sink, &s), 0);
        if (rc > 0 && s.behind == 0 && s.flow == PAWL_FLOW_IDLE)
            return 0;
        if (rc > 0)
            f->now_ns += UINT64_C(3600000000000);
    }
    fail_msg("it goes on for ever: %s", s.message);
    return 0;
}

bool fsink_killed(struct files *f, int mode, int nth) {
    int rc;
    fsink_close(f);
    fflush(NULL);
    int child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        fsink_open_log(f);
        fsink_add(f);
        fsink_watch(f->target);
        fsink_trap.mode = mode;
        fsink_trap.left = nth;
        fsink_trap.armed = 1;
        fsink_drive(f);
        fsink_close(f);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &rc, 0), child);
    assert_true(WIFEXITED(rc) && (WEXITSTATUS(rc) == 7 || WEXITSTATUS(rc) == 0));
    return WEXITSTATUS(rc) == 7;
}

static int by_name(const struct dirent **a, const struct dirent **b) {
    return strcmp((*a)->d_name, (*b)->d_name);
}

/* What all visible files hold, in order of their names; *hidden: how many others there are, the
 * marker and what was set aside apart. */
char *fsink_visible(struct files *f, const char *filter, uint32_t *files, uint32_t *hidden) {
    struct dirent **names;
    char command[PATH_MAX + 300], *all = calloc(1, 1u << 20);
    size_t len = 0;
    *files = *hidden = 0;
    int n = scandir(f->target, &names, NULL, by_name);
    assert_non_null(all);
    for (int i = 0; i < n; i++) {
        const char *name = names[i]->d_name;
        if (name[0] != '.' && strstr(name, ".aside") == NULL && !ends(name, ".part") &&
            !ends(name, ".pawl")) {
            snprintf(command, sizeof command, "%s '%s/%s'", filter, f->target, name);
            FILE *p = popen(command, "r");
            assert_non_null(p);
            len += fread(all + len, 1, (1u << 20) - 1 - len, p);
            assert_int_equal(pclose(p), 0);
            ++*files;
        } else if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0 && !ends(name, ".pawl") &&
                   strstr(name, ".aside") == NULL) {
            ++*hidden;
        }
        free(names[i]);
    }
    if (n >= 0)
        free(names);
    return all;
}

void fsink_all_there(struct files *f, const char *filter, const char *when) {
    uint32_t files, hidden;
    char want[1024] = "", *got = fsink_visible(f, filter, &files, &hidden);
    for (uint32_t i = 0; i < COUNT; i++)
        snprintf(want + strlen(want), sizeof want - strlen(want), "n%u\n", i);
    if (strcmp(got, want) != 0)
        fail_msg("%s: the files hold %zu bytes:\n%s", when, strlen(got), got);
    if (hidden != 0 || files < 2)
        fail_msg("%s: %u files, %u leftovers", when, files, hidden);
    free(got);
}

void fsink_shell(struct files *f, const char *what) {
    char command[400];
    snprintf(command, sizeof command, what, f->target);
    assert_int_equal(system(command), 0);
}

/* Ends with a part that is committed and hidden: a process that is killed at its very end. */
struct files *fsink_hidden(void) {
    struct files *f = fsink_new();
    fsink_close(f);
    fsink_set(f, "rotate_size", "1M");
    fsink_set(f, "rotate_age", "0");
    fflush(NULL);
    int child = fork(), rc;
    if (child == 0) {
        fsink_open_log(f);
        fsink_add(f);
        fsink_drive(f);
        _exit(7);
    }
    assert_int_equal(waitpid(child, &rc, 0), child);
    fsink_open_log(f);
    fsink_add(f);
    return f;
}

/* The text of the file that was set aside; fails if there is not one. */
char *fsink_aside(struct files *f) {
    char command[PATH_MAX], *text = calloc(1, 4096);
    assert_non_null(text);
    snprintf(command, sizeof command, "cat %s/*.aside*", f->target);
    FILE *p = popen(command, "r");
    assert_non_null(p);
    (void)!fread(text, 1, 4095, p);
    if (pclose(p) != 0)
        fail_msg("nothing was set aside");
    return text;
}
