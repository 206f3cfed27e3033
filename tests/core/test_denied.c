/* SPDX-License-Identifier: Apache-2.0 */
/* What the system may refuse: io_uring by seccomp or by a limit on descriptors' memory, and bytes
 * beyond a file size limit. Each in a process of its own. */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "pawl.h"
#include "tests/support/skip.h"
#include "tests/support/test_dir.h"

static char dir[64];

static int setup(void **state) {
    (void)state;
    return test_dir_make(dir, "/var/tmp/test_denied");
}

static int teardown(void **state) {
    (void)state;
    return test_dir_remove(dir);
}

/* Runs fn in a child; its result is the exit code: 0 for success, otherwise the line that failed,
 * or 77 to skip, for the reason given. */
static void in_child(int (*fn)(void), const char *skipped) {
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(fn());
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77)
        SKIP("%s", skipped);
    if (WEXITSTATUS(status) != 0)
        fail_msg("the child went wrong at line %d (modulo 256)", WEXITSTATUS(status));
}

#define EXPECT(condition) \
    do { \
        if (!(condition)) \
            return __LINE__ % 256 == 0 || __LINE__ % 256 == 77 ? 1 : __LINE__ % 256; \
    } while (0)

static int open_log(int backend, pawl **log) {
    pawl_options o = PAWL_OPTIONS_INIT;
    o.flags = PAWL_OPEN_CREATE, o.segment_size = 1u << 20, o.backend = backend;
    return pawl_open(dir, &o, log, NULL);
}

static int append(pawl *log, uint32_t stream, uint32_t n) {
    static uint8_t value[20000];
    memcpy(value, &n, sizeof n);
    pawl_record r = {.value = value, .value_len = sizeof value};
    return pawl_append(log, stream, 0, &r, NULL);
}

static uint32_t count(pawl *log, uint32_t stream) {
    pawl_reader *r;
    pawl_batch b;
    uint32_t n = 0;
    if (pawl_reader_open(log, stream, 0, 0, 0, &r) != 0)
        return UINT32_MAX;
    while (pawl_read(r, 0, 0, &b) > 0)
        for (size_t i = 0; i < b.count; i++) {
            uint32_t k;
            memcpy(&k, b.records[i].value, sizeof k);
            if (k != n++)
                return UINT32_MAX;
        }
    pawl_reader_close(r);
    return n;
}

static int deny_io_uring(int with_errno) {
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)with_errno),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
                   prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0
               ? 0
               : -1;
}

static int works_without_io_uring(int with_errno) {
    pawl *log;
    uint32_t stream;
    if (deny_io_uring(with_errno) != 0)
        return 77;
    EXPECT(open_log(PAWL_BACKEND_URING, &log) == PAWL_UNSUPPORTED);
    EXPECT(open_log(PAWL_BACKEND_AUTO, &log) == 0);
    pawl_status s = PAWL_STATUS_INIT;
    EXPECT(pawl_get_status(log, &s) == 0);
    EXPECT(s.backend == PAWL_BACKEND_POSIX);
    EXPECT(strstr(s.backend_note, "io_uring_setup") != NULL);
    EXPECT(strstr(s.backend_note, strerror(with_errno)) != NULL);
    EXPECT(pawl_stream_create(log, "s", 1, &stream) == 0);
    for (uint32_t i = 0; i < 100; i++)
        EXPECT(append(log, stream, i) == 0);
    EXPECT(count(log, stream) == 100);
    EXPECT(pawl_close(log) == 0);
    return 0;
}

static int child_eperm(void) {
    return works_without_io_uring(EPERM);
}
static int child_enosys(void) {
    return works_without_io_uring(ENOSYS);
}

static void io_uring_forbidden_by_seccomp(void **state) {
    (void)state;
    in_child(child_eperm, "no filter of system calls can be set here");
}
static void io_uring_unknown_to_the_kernel(void **state) {
    (void)state;
    in_child(child_enosys, "no filter of system calls can be set here");
}

static int child_no_locked_memory(void) {
    struct rlimit none = {0, 0};
    pawl *log;
    uint32_t stream;
    EXPECT(setrlimit(RLIMIT_MEMLOCK, &none) == 0);
    /* with io_uring or without: it works, and says which */
    EXPECT(open_log(PAWL_BACKEND_AUTO, &log) == 0);
    pawl_status s = PAWL_STATUS_INIT;
    EXPECT(pawl_get_status(log, &s) == 0 && s.backend_note[0] != 0);
    EXPECT(pawl_stream_create(log, "s", 1, &stream) == 0);
    for (uint32_t i = 0; i < 100; i++)
        EXPECT(append(log, stream, i) == 0);
    EXPECT(count(log, stream) == 100);
    EXPECT(pawl_close(log) == 0);
    return 0;
}

static void no_locked_memory(void **state) {
    (void)state;
    in_child(child_no_locked_memory, "");
}

static void limit_file_size(rlim_t bytes) {
    struct rlimit limit = {bytes, RLIM_INFINITY};
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &limit);
}

static int child_cannot_create(void) {
    pawl *log;
    limit_file_size(300 * 1024);
    int rc = open_log(PAWL_BACKEND_AUTO, &log);
    EXPECT(rc == PAWL_FULL || rc == PAWL_IO);
    limit_file_size(RLIM_INFINITY);
    /* the files that the failed creation left don't prevent a new one */
    EXPECT(open_log(PAWL_BACKEND_AUTO, &log) == 0);
    EXPECT(pawl_close(log) == 0);
    return 0;
}

static void creation_beyond_the_file_size_limit(void **state) {
    (void)state;
    in_child(child_cannot_create, "");
}

/* Within the log's life: writes into a segment beyond the limit are cut short, then refused. */
static int limited(int backend) {
    pawl *log;
    uint32_t stream, acknowledged = 0;
    pawl_options o = PAWL_OPTIONS_INIT;
    o.flags = PAWL_OPEN_CREATE, o.segment_size = 1u << 20, o.backend = backend, o.no_thread = 1;
    int rc = pawl_open(dir, &o, &log, NULL);
    if (rc == PAWL_UNSUPPORTED)
        return 77;
    EXPECT(rc == 0);
    EXPECT(pawl_stream_create(log, "s", 1, &stream) == 0);
    limit_file_size(300 * 1024 + 512);
    while ((rc = append(log, stream, acknowledged)) == 0)
        acknowledged++;
    EXPECT(rc == PAWL_IO);
    EXPECT(acknowledged > 5 && acknowledged < 20);
    limit_file_size(RLIM_INFINITY);
    EXPECT(append(log, stream, 99) == PAWL_IO); /* sticky, though the limit is gone */
    EXPECT(pawl_close(log) == PAWL_IO);
    EXPECT(open_log(backend, &log) == 0);
    uint32_t n = count(log, stream);
    EXPECT(n == acknowledged || n == acknowledged + 1);
    EXPECT(append(log, stream, n) == 0);
    EXPECT(pawl_close(log) == 0);
    return 0;
}

static int child_limited_uring(void) {
    return limited(PAWL_BACKEND_URING);
}
static int child_limited_posix(void) {
    return limited(PAWL_BACKEND_POSIX);
}

static void short_writes_at_the_file_size_limit_uring(void **state) {
    (void)state;
    in_child(child_limited_uring, "no io_uring here");
}
static void short_writes_at_the_file_size_limit_posix(void **state) {
    (void)state;
    in_child(child_limited_posix, "");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(io_uring_forbidden_by_seccomp),
        TEST(io_uring_unknown_to_the_kernel),
        TEST(no_locked_memory),
        TEST(creation_beyond_the_file_size_limit),
        TEST(short_writes_at_the_file_size_limit_uring),
        TEST(short_writes_at_the_file_size_limit_posix),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
