/* SPDX-License-Identifier: Apache-2.0 */
/* What `pawl run` gives up: each call is tried in a child, and fails with EPERM or ENOSYS where the
 * table says so, and not otherwise. */
#include <setjmp.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/run/sandbox.c"

#undef fail
#include <cmocka.h>

#include "tests/support/skip.h"

static char said[200];

void cli_error(const char *format, ...) {
    va_list list;
    va_start(list, format);
    vsnprintf(said, sizeof said, format, list);
    va_end(list);
}

#if PAWL_WITH_SECCOMP

#define KEYS SANDBOX_KEYS
#define PROGRAMS SANDBOX_PROGRAMS
#define FREE (-1) /* it is not refused: it works, or fails as it would without */

static const struct {
    const char *label;
    enum sandbox_mode mode;
    unsigned needs;
    long number, a, b, c;
    int expected; /* errno */
} calls[] = {
    {"another program", SANDBOX_AUTO, 0, SYS_execve, 0, 0, 0, EPERM},
    {"another program, by descriptor", SANDBOX_AUTO, 0, SYS_execveat, -1, 0, 0, EPERM},
    {"another program, with a database", SANDBOX_AUTO, KEYS, SYS_execve, 0, 0, 0, EPERM},
    {"a program of exec, on", SANDBOX_ON, PROGRAMS, SYS_execve, 0, 0, 0, FREE},
    {"another program, on", SANDBOX_ON, 0, SYS_execve, 0, 0, 0, EPERM},
    {"ptrace", SANDBOX_AUTO, 0, SYS_ptrace, PTRACE_TRACEME, 0, 0, EPERM},
    {"ptrace by a program, on", SANDBOX_ON, PROGRAMS, SYS_ptrace, PTRACE_TRACEME, 0, 0, EPERM},
    {"ptrace by a program, auto", SANDBOX_AUTO, PROGRAMS, SYS_ptrace, PTRACE_TRACEME, 0, 0, FREE},
    {"ptrace, off", SANDBOX_OFF, 0, SYS_ptrace, PTRACE_TRACEME, 0, 0, FREE},
    {"another's memory", SANDBOX_AUTO, 0, SYS_process_vm_readv, 1, 0, 0, EPERM},
    {"a mount", SANDBOX_AUTO, 0, SYS_mount, 0, 0, 0, EPERM},
    {"an unmount", SANDBOX_AUTO, 0, SYS_umount2, 0, 0, 0, EPERM},
    {"a new mount", SANDBOX_AUTO, 0, SYS_fsopen, 0, 0, 0, EPERM},
    {"another root", SANDBOX_AUTO, 0, SYS_chroot, 0, 0, 0, EPERM},
    {"a namespace", SANDBOX_AUTO, 0, SYS_unshare, 0, 0, 0, EPERM},
    {"a namespace of a child", SANDBOX_AUTO, 0, SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, EPERM},
    {"clone3", SANDBOX_AUTO, 0, SYS_clone3, 0, 0, 0, ENOSYS},
    {"a module", SANDBOX_AUTO, 0, SYS_init_module, 0, 0, 0, EPERM},
    {"a module, by descriptor", SANDBOX_AUTO, 0, SYS_finit_module, -1, 0, 0, EPERM},
    {"another kernel", SANDBOX_AUTO, 0, SYS_kexec_load, 0, 0, 0, EPERM},
    {"bpf", SANDBOX_AUTO, 0, SYS_bpf, 0, 0, 0, EPERM},
    {"perf", SANDBOX_AUTO, 0, SYS_perf_event_open, 0, 0, 0, EPERM},
    {"userfaultfd", SANDBOX_AUTO, 0, SYS_userfaultfd, 0x7fff, 0, 0, EPERM},
    {"keys", SANDBOX_AUTO, 0, SYS_keyctl, 0x7fff, 0, 0, EPERM},
    {"keys of a database", SANDBOX_AUTO, KEYS, SYS_keyctl, 0x7fff, 0, 0, FREE},
    {"keys, on", SANDBOX_ON, PROGRAMS, SYS_add_key, 0, 0, 0, EPERM},
    {"the clock", SANDBOX_AUTO, 0, SYS_settimeofday, 0, 0, 0, EPERM},
    {"typing into a terminal", SANDBOX_AUTO, 0, SYS_ioctl, -1, TIOCSTI, 0, EPERM},
    {"another request of a terminal", SANDBOX_AUTO, 0, SYS_ioctl, -1, TIOCGWINSZ, 0, FREE},
    {"what every part does", SANDBOX_AUTO, 0, SYS_getpid, 0, 0, 0, FREE},
    {"a file", SANDBOX_AUTO, 0, SYS_openat, AT_FDCWD, 0, 0, FREE},
    {"io_uring", SANDBOX_AUTO, 0, SYS_io_uring_setup, 0, 0, 0, FREE},
    {"the state of the clock", SANDBOX_AUTO, 0, SYS_adjtimex, 0, 0, 0, FREE},
};

/* errno of the call in a child that has entered the sandbox; 0: it worked. */
static int tried(size_t i, bool sandboxed) {
    int status = 0;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        if (sandboxed && sandbox_enter(calls[i].mode, calls[i].needs) != 0)
            _exit(250);
        long rc = syscall(calls[i].number, calls[i].a, calls[i].b, calls[i].c, 0, 0);
        _exit(rc >= 0 ? 0 : errno);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void each_call(void **state) {
    (void)state;
    if (DEFAULT_MODE == SANDBOX_OFF)
        SKIP("a sanitizer looks into the process");
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        int without = tried(i, false), with = tried(i, true);
        print_message("%s: %s, without %s\n", calls[i].label, strerror(with), strerror(without));
        assert_int_equal(with, calls[i].expected == FREE ? without : calls[i].expected);
    }
}

static void every_row_is_refused(void **state) {
    (void)state;
    if (DEFAULT_MODE == SANDBOX_OFF)
        SKIP("a sanitizer looks into the process");
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        int status = 0, number = seccomp_syscall_resolve_name(refused[i].call);
        if (number < 0)
            continue;
        pid_t pid = fork();
        if (pid == 0) {
            if (sandbox_enter(SANDBOX_AUTO, 0) != 0)
                _exit(250);
            _exit(syscall(number, -1, -1, -1, -1, -1, -1) == -1 ? errno : 0);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
        if (WEXITSTATUS(status) != EPERM)
            print_message("%s: %s\n", refused[i].call, strerror(WEXITSTATUS(status)));
        assert_int_equal(WEXITSTATUS(status), EPERM);
    }
}

static void modes(void **state) {
    static const struct {
        const char *label;
        enum sandbox_mode mode;
        unsigned needs;
        bool dumpable, privileges, programs, keys; /* afterwards */
    } cases[] = {
        {"off", SANDBOX_OFF, 0, true, true, true, true},
        {"auto", SANDBOX_AUTO, 0, false, false, false, false},
        {"auto with a database", SANDBOX_AUTO, KEYS, false, false, false, true},
        {"auto with a program", SANDBOX_AUTO, PROGRAMS, false, true, true, true},
        {"on", SANDBOX_ON, 0, false, false, false, false},
        {"on with a program", SANDBOX_ON, PROGRAMS, false, false, true, false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int status = 0;
        print_message("%s\n", cases[i].label);
        pid_t pid = fork();
        if (pid == 0) {
            prctl(PR_SET_DUMPABLE, 1);
            int rc = sandbox_enter(cases[i].mode, cases[i].needs);
            int bad = (rc != 0) | (prctl(PR_GET_DUMPABLE) != cases[i].dumpable) << 1 |
                      ((prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 0) != cases[i].privileges) << 2 |
                      (sandbox_allows(PROGRAMS) != cases[i].programs) << 3 |
                      (sandbox_allows(KEYS) != cases[i].keys) << 4 | !sandbox_allows(0) << 5;
            _exit(bad);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
    }
}

#else

static void each_call(void **state) {
    (void)state;
    SKIP("this build has no libseccomp");
}

#endif

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_call),
#if PAWL_WITH_SECCOMP
        cmocka_unit_test(every_row_is_refused),
        cmocka_unit_test(modes),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
