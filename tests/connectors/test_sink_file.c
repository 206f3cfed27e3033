/* SPDX-License-Identifier: Apache-2.0
 * test-timeout: 300
 *
 * The file sink: killed before and after each of its calls to the system, each of them failing in
 * turn, in every format and compression; the visible files together are the stream, once.
 */
#include <setjmp.h>
#include <stdarg.h>
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

#include "pawl_connect.h"
#include "tests/support/skip.h"

#define COUNT 40u
enum { KILL_BEFORE, KILL_AFTER, FAIL };

/* ---- the calls of the sink, which the linker leads here; those of the log pass */

static struct {
    _Atomic int armed; /* all but `left` and `happened` stay as they are while it is */
    char directory[96];
    int mode;
    _Atomic int left; /* calls until it happens */
    int error;
    _Atomic int happened;
} trap;
static _Thread_local bool this_one; /* this thread's call it is that it happens at */

static bool ours(int fd) {
    char link[32], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0)
        return false;
    path[n] = 0;
    return strncmp(path, trap.directory, strlen(trap.directory)) == 0;
}

/* Whether this call is to fail. */
static bool before(int fd) {
    if (trap.armed == 0 || !ours(fd) || trap.left-- != 0)
        return false;
    trap.happened = 1;
    this_one = true;
    if (trap.mode == KILL_BEFORE)
        _exit(7);
    errno = trap.error;
    return trap.mode == FAIL;
}

static void after(void) {
    if (this_one && trap.armed != 0 && trap.mode == KILL_AFTER)
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
        return rc; \
    }
WRAP(ssize_t, pwrite, fd, (int fd, const void *b, size_t n, off_t at), (fd, b, n, at))
WRAP(ssize_t, pwritev2, fd, (int fd, const struct iovec *v, int n, off_t at, int flags),
     (fd, v, n, at, flags))
WRAP(int, fdatasync, fd, (int fd), (fd))
WRAP(int, fsync, fd, (int fd), (fd))
WRAP(int, ftruncate, fd, (int fd, off_t n), (fd, n))
WRAP(int, renameat, a, (int a, const char *b, int c, const char *d), (a, b, c, d))
WRAP(int, renameat2, a, (int a, const char *b, int c, const char *d, unsigned flags),
     (a, b, c, d, flags))
WRAP(int, unlinkat, d, (int d, const char *name, int flags), (d, name, flags))

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
    return rc;
}

/* ---- a log, and its stream into files */

struct fixture {
    char dir[64], target[96];
    pawl *log;
    uint32_t in;
    pawl_sink *sink;
    pawl_setting settings[8];
    size_t setting_count;
    int32_t on_lost, guarantee;
    uint32_t batch_records;
    uint64_t now_ns;
};

static void set(struct fixture *f, const char *name, const char *value) {
    for (size_t i = 0; i < f->setting_count; i++)
        if (strcmp(f->settings[i].name, name) == 0) {
            f->settings[i].value = value;
            return;
        }
    f->settings[f->setting_count++] = (pawl_setting){name, value, 1};
}

static void open_log(struct fixture *f) {
    pawl_error e;
    pawl_options o = PAWL_OPTIONS_INIT;
    o.flags = PAWL_OPEN_CREATE;
    o.segment_size = 1u << 20;
    o.lock_wait_ms = 20000; /* a killed one may hold it until the last of its writes is done */
    o.memory_cap = 2u << 20;
    if (pawl_open(f->dir, &o, &f->log, &e) != 0)
        fail_msg("%s", e.message);
}

static struct fixture *new_fixture(void) {
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    strcpy(f->dir, "/tmp/test_sink_file.XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->target, sizeof f->target, "%s/out", f->dir);
    f->batch_records = 7;
    set(f, "directory", f->target);
    set(f, "rotate_size", "60");
    open_log(f);
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

static void close_all(struct fixture *f) {
    pawl_sink_remove(f->sink);
    f->sink = NULL;
    if (f->log != NULL)
        assert_int_equal(pawl_close(f->log), 0);
    f->log = NULL;
}

static void free_fixture(struct fixture *f) {
    trap.armed = 0;
    close_all(f);
    remove_files(f->dir);
    free(f);
}

static uint64_t now(void *arg) {
    return ((struct fixture *)arg)->now_ns;
}

static void add(struct fixture *f) {
    pawl_error e = {0};
    pawl_sink_ops ops = PAWL_SINK_OPS_INIT;
    pawl_settings s = {.items = f->settings, .count = f->setting_count};
    pawl_sink_config c = PAWL_SINK_CONFIG_INIT;
    c.name = "files", c.inputs = &f->in, c.input_count = 1;
    c.batch_records = f->batch_records;
    c.on_lost = f->on_lost;
    c.guarantee = f->guarantee;
    c.hooks.now_ns = now, c.hooks.now_arg = f, c.hooks.seed = 1;
    if (pawl_sink_make("file", &s, &ops, &e) != 0 ||
        pawl_sink_add(f->log, &c, &ops, &f->sink, &e) != 0)
        fail_msg("%s", e.message);
}

/* Until all is delivered, or it has failed for good; an hour passes with each step that waits. */
static int drive(struct fixture *f) {
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

static int by_name(const struct dirent **a, const struct dirent **b) {
    return strcmp((*a)->d_name, (*b)->d_name);
}

static bool ends(const char *name, const char *end) {
    size_t n = strlen(name), m = strlen(end);
    return n >= m && strcmp(name + n - m, end) == 0;
}

/* What all visible files hold, in order of their names; *hidden: how many others there are, the
 * marker and what was set aside apart. */
static char *visible(struct fixture *f, const char *filter, uint32_t *files, uint32_t *hidden) {
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

static void all_there(struct fixture *f, const char *filter, const char *when) {
    uint32_t files, hidden;
    char want[1024] = "", *got = visible(f, filter, &files, &hidden);
    for (uint32_t i = 0; i < COUNT; i++)
        snprintf(want + strlen(want), sizeof want - strlen(want), "n%u\n", i);
    if (strcmp(got, want) != 0)
        fail_msg("%s: the files hold %zu bytes:\n%s", when, strlen(got), got);
    if (hidden != 0 || files < 2)
        fail_msg("%s: %u files, %u leftovers", when, files, hidden);
    free(got);
}

/* ---- what is shown */

static void whole_stream(void **state) {
    static const struct {
        const char *compress, *filter;
    } all[] = {{"none", "cat"}, {"gzip", "gzip -dc"}, {"zstd", "zstd -qdc"}};
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        if (i == 2 && system("zstd --version >/dev/null 2>&1") != 0) {
            print_message("zstd is not installed: its files are not looked into\n");
            continue;
        }
        struct fixture *f = new_fixture();
        set(f, "compress", all[i].compress);
        add(f);
        assert_int_equal(drive(f), 0);
        close_all(f);
        all_there(f, all[i].filter, all[i].compress);
        free_fixture(f);
    }
}

static void json_and_lengths(void **state) {
    (void)state;
    for (int json = 0; json < 2; json++) {
        struct fixture *f = new_fixture();
        uint32_t files, hidden;
        pawl_record r = {
            .key = "k\"", .key_len = 2, .value = "\xff\n", .value_len = 2, .timestamp_ns = 5};
        assert_int_equal(pawl_append(f->log, f->in, 0, &r, NULL), 0);
        set(f, "format", json ? "json" : "length");
        set(f, "rotate_size", "1M");
        add(f);
        assert_int_equal(drive(f), 0);
        close_all(f);
        char *got = visible(f, json ? "tail -n 1" : "tail -c 90", &files, &hidden);
        const char *want =
            json ? "{\"offset\":40,\"partition\":0,\"timestamp\":5,\"key\":\"k\\\"\",\"value_"
                   "base64\":\"/wo=\",\"headers\":[]}\n"
                 : "\x03";
        assert_int_equal(files, 1);
        if (json)
            assert_string_equal(want, got);
        else /* n39, then the odd one */
            assert_memory_equal(got + 90 - 13, "\3\0\0\0n39\2\0\0\0\xff\n", 13);
        free(got);
        free_fixture(f);
    }
}

static void killed_at_each_call(void **state) {
    (void)state;
    for (int mode = KILL_BEFORE; mode <= KILL_AFTER; mode++)
        for (int nth = 0, more = 1; more; nth++) {
            struct fixture *f = new_fixture();
            char when[64];
            snprintf(when, sizeof when, "killed %s call %d",
                     mode == KILL_BEFORE ? "before" : "after", nth);
            close_all(f);
            fflush(NULL);
            int child = fork(), rc;
            assert_true(child >= 0);
            if (child == 0) {
                open_log(f);
                add(f);
                snprintf(trap.directory, sizeof trap.directory, "%s", f->target);
                trap.mode = mode;
                trap.left = nth;
                trap.armed = 1;
                drive(f);
                close_all(f);
                _exit(0);
            }
            assert_int_equal(waitpid(child, &rc, 0), child);
            assert_true(WIFEXITED(rc) && (WEXITSTATUS(rc) == 7 || WEXITSTATUS(rc) == 0));
            more = WEXITSTATUS(rc) == 7;
            if (!more && nth <= 30)
                fail_msg("only %d calls were seen", nth);
            open_log(f);
            add(f);
            assert_int_equal(drive(f), 0);
            close_all(f);
            all_there(f, "cat", when);
            free_fixture(f);
        }
}

static void each_call_fails(void **state) {
    static const int errors[] = {ENOSPC, EIO};
    (void)state;
    for (size_t e = 0; e < 2; e++)
        for (int nth = 0, more = 1; more; nth++) {
            struct fixture *f = new_fixture();
            char when[64];
            snprintf(when, sizeof when, "call %d answers %s", nth, strerror(errors[e]));
            add(f);
            snprintf(trap.directory, sizeof trap.directory, "%s", f->target);
            trap.mode = FAIL, trap.error = errors[e];
            trap.left = nth;
            trap.happened = 0;
            trap.armed = 1;
            assert_int_equal(drive(f), 0);
            more = trap.happened;
            trap.armed = 0;
            close_all(f);
            /* what a failing call at the end left hidden is shown by the next clean end */
            open_log(f);
            add(f);
            assert_int_equal(drive(f), 0);
            close_all(f);
            all_there(f, "cat", when);
            free_fixture(f);
        }
}

/* A disk that is full for a while: everything that writes fails, until it has room again. */
static void full_disk(void **state) {
    (void)state;
    if (geteuid() != 0 || access("/dev/loop-control", R_OK | W_OK) != 0)
        SKIP("mounting a small file system needs root");
    struct fixture *f = new_fixture();
    char command[300];
    assert_int_equal(mkdir(f->target, 0700), 0);
    snprintf(command, sizeof command, "mount -t tmpfs -o size=8k none %s 2>/dev/null", f->target);
    if (system(command) != 0) {
        free_fixture(f);
        SKIP("no tmpfs can be mounted here");
    }
    set(f, "rotate_size", "1M");
    add(f);
    for (int i = 0; i < 30; i++) { /* 8 KiB hold the marker and little more */
        pawl_record r = {.value = command, .value_len = sizeof command};
        memset(command, 'x', sizeof command);
        assert_int_equal(pawl_append(f->log, f->in, 0, &r, NULL), 0);
    }
    pawl_flow_status s = PAWL_FLOW_STATUS_INIT;
    for (int i = 0; i < 60 && s.flow != PAWL_FLOW_WAITING; i++) {
        assert_true(pawl_sink_step(f->sink) >= 0);
        assert_int_equal(pawl_sink_status(f->sink, &s), 0);
    }
    assert_int_equal(s.flow, PAWL_FLOW_WAITING);
    assert_non_null(strstr(s.message, "No space left"));
    snprintf(command, sizeof command, "mount -o remount,size=1m %s", f->target);
    assert_int_equal(system(command), 0);
    assert_int_equal(drive(f), 0);
    close_all(f);
    uint32_t files, hidden;
    char *got = visible(f, "cat", &files, &hidden);
    assert_int_equal(strlen(got), 10 * 3 + 30 * 4 + 30 * 301);
    assert_int_equal(hidden, 0);
    free(got);
    snprintf(command, sizeof command, "umount %s", f->target);
    assert_int_equal(system(command), 0);
    free_fixture(f);
}

static void hidden_part(struct fixture *f, const char *what) {
    char command[400];
    snprintf(command, sizeof command, what, f->target);
    assert_int_equal(system(command), 0);
}

/* Ends with a part that is committed and hidden: a process that is killed at its very end. */
static struct fixture *with_hidden_part(void) {
    struct fixture *f = new_fixture();
    close_all(f);
    set(f, "rotate_size", "1M");
    set(f, "rotate_age", "0");
    fflush(NULL);
    int child = fork(), rc;
    if (child == 0) {
        open_log(f);
        add(f);
        drive(f);
        _exit(7);
    }
    assert_int_equal(waitpid(child, &rc, 0), child);
    open_log(f);
    add(f);
    return f;
}

static void committed_bytes_removed(void **state) {
    (void)state;
    pawl_flow_status s = PAWL_FLOW_STATUS_INIT;
    struct fixture *f = with_hidden_part();
    hidden_part(f, "truncate -s 10 %s/files-*.part");
    assert_int_equal(drive(f), PAWL_PROCESSOR);
    assert_int_equal(pawl_sink_status(f->sink, &s), 0);
    assert_non_null(strstr(s.message, "has 10 of 150 committed bytes"));
    free_fixture(f);
}

/* The text of the file that was set aside; fails if there is not one. */
static char *aside(struct fixture *f) {
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

/* What is not ours: bytes after those that are committed, and a part that the log doesn't know. It
 * is kept, and not among what is delivered. Another sink's is left alone. */
static void not_ours(void **state) {
    (void)state;
    struct fixture *f = with_hidden_part();
    uint32_t files, hidden;
    hidden_part(f, "for p in %s/files-*.part; do echo scraps >>$p; done");
    hidden_part(f, "echo more >%s/files-1-0-00000000000000000003.part");
    assert_int_equal(drive(f), 0);
    close_all(f);
    char *got = visible(f, "cat", &files, &hidden), *kept = aside(f);
    assert_int_equal(files, 1);
    assert_int_equal(hidden, 0);
    assert_int_equal(strlen(got), 150);
    assert_null(strstr(got, "scraps"));
    assert_non_null(strstr(kept, "scraps\n"));
    assert_non_null(strstr(kept, "more\n"));
    free(got);
    free(kept);
    hidden_part(f, "touch %s/files-x-1-0-00000000000000000003.part");
    open_log(f);
    add(f);
    assert_int_equal(drive(f), 0);
    close_all(f);
    free(visible(f, "cat", &files, &hidden));
    assert_int_equal(hidden, 1);
    free_fixture(f);
}

static void another_log(void **state) {
    (void)state;
    struct fixture *f = with_hidden_part(), *g = new_fixture();
    pawl_flow_status s = PAWL_FLOW_STATUS_INIT;
    set(g, "directory", f->target);
    add(g);
    assert_int_equal(drive(g), PAWL_PROCESSOR);
    assert_int_equal(pawl_sink_status(g->sink, &s), 0);
    assert_non_null(strstr(s.message, "belongs to another log"));
    free_fixture(g);
    assert_int_equal(drive(f), 0);
    free_fixture(f);
}

static void visible_files_may_go(void **state) {
    (void)state;
    struct fixture *f = new_fixture();
    add(f);
    assert_int_equal(drive(f), 0);
    hidden_part(f, "rm %s/files-*");
    close_all(f);
    open_log(f);
    add(f);
    assert_int_equal(drive(f), 0);
    pawl_flow_status s = PAWL_FLOW_STATUS_INIT;
    assert_int_equal(pawl_sink_status(f->sink, &s), 0);
    assert_int_equal(s.records, 0);
    free_fixture(f);
}

static void newline_refused(void **state) {
    (void)state;
    struct fixture *f = new_fixture();
    pawl_record r = {.value = "a\nb", .value_len = 3};
    assert_int_equal(pawl_append(f->log, f->in, 0, &r, NULL), 0);
    set(f, "newline", "refuse");
    add(f);
    assert_int_equal(drive(f), PAWL_PROCESSOR);
    close_all(f);
    all_there(f, "cat", "all but the refused one");
    free_fixture(f);
}

static void bad_settings(void **state) {
    static const char *const bad[][2] = {
        {"compress", "lzma"}, {"level", "10"},   {"rotate_size", "0"}, {"name", "a/b"},
        {"suffix", ""},       {"directory", ""}, {"nonsense", "1"}};
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        pawl_setting s[] = {{"directory", "/tmp", 1}, {bad[i][0], bad[i][1], 2}};
        pawl_sink_ops ops = PAWL_SINK_OPS_INIT;
        pawl_error e = {0};
        bool own = strcmp(bad[i][0], "directory") == 0;
        if (pawl_sink_make("file", &(pawl_settings){.items = own ? s + 1 : s, .count = own ? 1 : 2},
                           &ops, &e) == 0 ||
            e.message[0] == 0)
            fail_msg("%s = %s was taken", bad[i][0], bad[i][1]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_stream),
        cmocka_unit_test(json_and_lengths),
        cmocka_unit_test(killed_at_each_call),
        cmocka_unit_test(each_call_fails),
        cmocka_unit_test(full_disk),
        cmocka_unit_test(committed_bytes_removed),
        cmocka_unit_test(another_log),
        cmocka_unit_test(not_ours),
        cmocka_unit_test(visible_files_may_go),
        cmocka_unit_test(newline_refused),
        cmocka_unit_test(bad_settings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
