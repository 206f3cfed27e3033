/* SPDX-License-Identifier: Apache-2.0
 *
 * child.c - see child.h.
 */
#include "processors/child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { READ_SIZE = 64 * 1024 };

typedef struct flow {
    int in, out; /* our ends of its stdin and stdout; -1: closed */
    const char *input;
    size_t left;
    char *buffer; /* output that has no newline yet, from 0 to `held` */
    size_t held, capacity;
    child_line_fn line;
    void *arg;
} flow;

static void close_end(int *fd) {
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/* The ignored SIGPIPE would be inherited, and then a program like `yes | head` would never end. */
static int spawn(char **program, char **env, int in, int out, pid_t *pid) {
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t defaults, none;
    sigemptyset(&none);
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGPIPE);
    int error = posix_spawn_file_actions_init(&actions);
    if (error != 0)
        return error;
    error = posix_spawnattr_init(&attributes);
    if (error == 0) {
        error = posix_spawn_file_actions_adddup2(&actions, in, STDIN_FILENO);
        if (error == 0)
            error = posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
        posix_spawnattr_setsigdefault(&attributes, &defaults);
        posix_spawnattr_setsigmask(&attributes, &none);
        posix_spawnattr_setpgroup(&attributes, 0);
        posix_spawnattr_setflags(
            &attributes,
            (short)(POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP));
        if (error == 0)
            error = posix_spawnp(pid, program[0], &actions, &attributes, program, env);
        posix_spawnattr_destroy(&attributes);
    }
    posix_spawn_file_actions_destroy(&actions);
    return error;
}

static int start(flow *f, char **program, char **env, pid_t *pid) {
    int to[2], from[2];
    if (pipe2(to, O_CLOEXEC) != 0)
        return errno;
    if (pipe2(from, O_CLOEXEC) != 0) {
        int error = errno;
        close(to[0]);
        close(to[1]);
        return error;
    }
    int error = spawn(program, env, to[0], from[1], pid);
    close(to[0]);
    close(from[1]);
    f->in = to[1];
    f->out = from[0];
    if (error == 0 &&
        (fcntl(f->in, F_SETFL, O_NONBLOCK) != 0 || fcntl(f->out, F_SETFL, O_NONBLOCK) != 0)) {
        error = errno;
        kill(*pid, SIGKILL);
        waitpid(*pid, NULL, 0);
    }
    return error;
}

static int feed(flow *f) {
    ssize_t put = f->left > 0 ? write(f->in, f->input, f->left) : 0;
    if (put >= 0) {
        f->input += put;
        f->left -= (size_t)put;
    } else if (errno == EPIPE) {
        f->left = 0; /* it has read enough, like `head` */
    } else if (errno != EAGAIN && errno != EINTR) {
        return errno;
    }
    if (f->left == 0)
        close_end(&f->in);
    return 0;
}

/* Hands out the whole lines in the buffer; `fresh` bytes at its end have not been looked at. */
static bool hand_out(flow *f, size_t fresh) {
    char *begin = f->buffer, *end = f->buffer + f->held, *look = end - fresh, *newline;
    while (look < end && (newline = memchr(look, '\n', (size_t)(end - look))) != NULL) {
        if (!f->line(f->arg, begin, (size_t)(newline - begin)))
            return false;
        begin = look = newline + 1;
    }
    f->held = (size_t)(end - begin);
    memmove(f->buffer, begin, f->held);
    return true;
}

static int drain(flow *f, bool *refused) {
    if (f->capacity - f->held < READ_SIZE) {
        size_t capacity = f->capacity * 2 + READ_SIZE;
        char *larger = realloc(f->buffer, capacity);
        if (larger == NULL)
            return ENOMEM;
        f->buffer = larger;
        f->capacity = capacity;
    }
    ssize_t got = read(f->out, f->buffer + f->held, f->capacity - f->held);
    if (got < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : errno;
    if (got == 0) {
        close_end(&f->out);
        /* a last line needs no newline */
        *refused = f->held > 0 && !f->line(f->arg, f->buffer, f->held);
        return 0;
    }
    f->held += (size_t)got;
    *refused = !hand_out(f, (size_t)got);
    return 0;
}

static uint64_t now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

void child_run(char **program, char **env, const char *input, size_t input_size,
               uint64_t timeout_ms, child_line_fn line, void *arg, child_result *result) {
    *result = (child_result){0};
    flow f = {.in = -1, .out = -1, .input = input, .left = input_size, .line = line, .arg = arg};
    pid_t pid = -1;
    int error = start(&f, program, env, &pid);
    if (error != 0)
        pid = -1;
    /* A program may close its stdout and go on reading: what it is fed must be whole all the
     * same. */
    uint64_t end_ms = now_ms() + timeout_ms;
    while (error == 0 && !result->refused && !result->late && (f.out >= 0 || f.in >= 0)) {
        /* fd -1 is passed over */
        struct pollfd ends[2] = {{.fd = f.out, .events = POLLIN}, {.fd = f.in, .events = POLLOUT}};
        uint64_t now = timeout_ms != 0 ? now_ms() : 0;
        result->late = timeout_ms != 0 && now >= end_ms;
        int wait = timeout_ms == 0       ? -1
                   : result->late        ? 0
                   : end_ms - now > 1000 ? 1000
                                         : (int)(end_ms - now);
        if (poll(ends, 2, wait) < 0) {
            error = errno == EINTR ? 0 : errno;
            continue;
        }
        if (ends[1].revents != 0)
            error = feed(&f);
        if (error == 0 && ends[0].revents != 0)
            error = drain(&f, &result->refused);
    }
    if (pid > 0 && (error != 0 || result->refused || result->late))
        kill(-pid, SIGKILL); /* its group: what it started must not go on either */
    close_end(&f.in);
    close_end(&f.out);
    free(f.buffer);
    while (pid > 0 && waitpid(pid, &result->status, 0) < 0 && errno == EINTR)
        ;
    result->start_errno = error;
}
