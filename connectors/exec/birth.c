/* SPDX-License-Identifier: Apache-2.0
 *
 * birth.c - see birth.h.
 *
 * The new process shares our memory until it runs the program, and this thread stands still
 * meanwhile. Where the program gets another user, the process has a copy of our memory instead: a
 * process of that user must not share it, and the kernel forbids core dumps and debugging of what
 * does, for ever.
 */
#include "connectors/exec/birth.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "connectors/exec/child.h"

#define BARE __attribute__((no_sanitize("address", "thread", "undefined")))
#define STACK_SIZE ((size_t)256 << 10)
#define FIRST_FREE 3 /* after standard input, output and error */

#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC (1u << 2)
#endif
/* Those with 32 bits for a user's number, where there are two. */
#ifdef SYS_setresuid32
#define SETRESUID SYS_setresuid32
#define SETRESGID SYS_setresgid32
#define SETGROUPS SYS_setgroups32
#else
#define SETRESUID SYS_setresuid
#define SETRESGID SYS_setresgid
#define SETGROUPS SYS_setgroups
#endif

/* Makes the descriptor `to` of the program, without close-on-exec. */
BARE static long give(int from, int to) {
    return from == to ? syscall(SYS_fcntl, to, F_SETFD, 0) : syscall(SYS_dup3, from, to, 0);
}

/* Nothing that the host program has left open, by mistake or without close-on-exec, reaches the
 * program. */
BARE static void close_others(const struct birth *b) {
#ifdef SYS_close_range
    if (syscall(SYS_close_range, FIRST_FREE, ~0u, CLOSE_RANGE_CLOEXEC) == 0)
        return;
#endif
    for (int fd = FIRST_FREE; fd < b->descriptors; fd++) /* before Linux 5.11 */
        (void)syscall(SYS_fcntl, fd, F_SETFD, FD_CLOEXEC);
}

/* Limits, then the user: root may still set them, and may still become one. */
BARE static bool restrict_it(const struct child_rules *r) {
    for (size_t i = 0; i < r->limit_count; i++)
        if (syscall(SYS_prlimit64, 0, r->limits[i].what, &r->limits[i].most, NULL) != 0 &&
            r->limits[i].what != RLIMIT_CORE) /* nobody has asked for that one */
            return false;
    if (r->as_group && (syscall(SETGROUPS, r->group_count, r->groups) != 0 ||
                        syscall(SETRESGID, r->group, r->group, r->group) != 0))
        return false;
    if (r->as_user && syscall(SETRESUID, r->user, r->user, r->user) != 0)
        return false;
    (void)syscall(SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    return r->may_gain || syscall(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0;
}

/* In the new process. Only system calls, by number where the sanitizers would take the call for
 * ours, or the C library would have all our threads change their user.
 *
 * The kernel sends SIGKILL when the thread that started the program ends. That thread waits in
 * child_run() until the program has ended, so it ends before only if the whole process dies. If
 * that happened before prctl(), the parent is another one by now. A change of the user undoes the
 * prctl(), so it comes after that.
 *
 * All signals get their defaults: the program would inherit signals that we ignore, and with
 * SIGPIPE ignored `yes | head` never ends. The program leads a session of its own: it has no
 * terminal, and killing its group ends its children too. */
BARE static int become(void *arg) {
    struct birth *b = arg;
    long nothing[32] = {0}; /* of struct sigaction: SIG_DFL; of a set of signals: none */
    for (int i = 1; i < 65; i++)
        (void)syscall(SYS_rt_sigaction, i, nothing, NULL, 8);
    if (syscall(SYS_setsid) < 0 || give(b->in, STDIN_FILENO) < 0 || give(b->out, STDOUT_FILENO) < 0)
        goto failed;
    close_others(b);
    if ((b->lock >= 0 && give(b->lock, b->lock) < 0) || !restrict_it(b->rules))
        goto failed;
    if (syscall(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0)
        goto failed;
    if (syscall(SYS_getppid) != b->parent)
        syscall(SYS_exit_group, 127);
    (void)syscall(SYS_rt_sigprocmask, SIG_SETMASK, nothing, NULL, 8);
    execvpe(b->file, b->argv, b->env); /* the name has a slash: nothing is looked up */
failed:
    b->error = errno != 0 ? errno : EINVAL;
    syscall(SYS_exit_group, 127);
    return 0;
}

/* The thread sanitizer takes clone() for fork(), and its state, which the child shares here, for a
 * copy. */
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SANITIZED_CLONE
#endif
#elif defined(__SANITIZE_THREAD__)
#define SANITIZED_CLONE
#endif
#ifdef SANITIZED_CLONE
extern int __clone(int (*run)(void *), void *stack, int flags, void *arg, ...);
#define CLONE __clone
#else
#define CLONE clone
#endif

int birth_give(const struct birth *given, pid_t *pid) {
    sigset_t all, before;
    char *stack = mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    *pid = -1;
    if (stack == MAP_FAILED)
        return errno;
    struct birth *b = (struct birth *)(void *)stack; /* the stack grows down, from the other end */
    long most = sysconf(_SC_OPEN_MAX);
    *b = *given;
    b->error = 0;
    b->parent = getpid();
    b->descriptors = most > 0 && most < 1 << 20 ? (int)most : 1 << 20;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before); /* no handler of ours may run in it */
    int memory = b->rules->as_user || b->rules->as_group ? 0 : CLONE_VM;
    *pid = CLONE(become, stack + STACK_SIZE, memory | CLONE_VFORK | SIGCHLD, b);
    int error = *pid < 0 ? errno : b->error;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    munmap(stack, STACK_SIZE);
    if (*pid > 0 && error != 0)
        while (waitpid(*pid, NULL, 0) < 0 && errno == EINTR) {
        }
    if (error != 0)
        *pid = -1;
    return error;
}
