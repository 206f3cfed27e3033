/* SPDX-License-Identifier: Apache-2.0
 *
 * child.c - see child.h.
 */
#include "connectors/exec/child.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "connectors/exec/birth.h"

enum { READ_SIZE = 64 * 1024, PIPE_SIZE = 1024 * 1024 };

struct flow {
    const struct child_job *job;
    int in, out; /* our ends of the child's standard input and output; -1: closed */
    const char *input;
    size_t left;
    char *buffer; /* output without a newline yet: `held` bytes */
    size_t held, capacity;
    uint64_t end_ns; /* 0: no limit */
};

static void close_end(int *fd) {
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/* ---- starting the program */

/* A pipe that holds most batches whole: the two processes change less often. Where the kernel
 * doesn't grant that, the pipe stays as it is. */
static void enlarge(int pipe, size_t size) {
    if (pipe >= 0 && size > READ_SIZE)
        (void)fcntl(pipe, F_SETPIPE_SZ, size < PIPE_SIZE ? (int)size : PIPE_SIZE);
}

/* Returns 0 or an errno; *pid is -1 if the program was not started. */
static int start(struct flow *f, int lock, pid_t *pid) {
    char file[CHILD_FILE_SIZE];
    int to[2] = {-1, -1}, from[2] = {-1, -1}, error = child_find(f->job->program, file);
    *pid = -1;
    if (error != 0)
        return error;
    if (pipe2(to, O_CLOEXEC) != 0 || (f->job->line != NULL && pipe2(from, O_CLOEXEC) != 0))
        error = errno;
    if (error == 0)
        error = birth_give(&(struct birth){.rules = &f->job->program->rules,
                                           .file = file,
                                           .argv = f->job->program->argv,
                                           .env = f->job->env,
                                           .in = to[0],
                                           .out = from[1] >= 0 ? from[1] : STDERR_FILENO,
                                           .lock = lock},
                           pid);
    close_end(&to[0]);
    close_end(&from[1]);
    f->in = to[1];
    f->out = from[0];
    enlarge(f->in, f->left);
    enlarge(f->out, f->left);
    if (error == 0 && (fcntl(f->in, F_SETFL, O_NONBLOCK) != 0 ||
                       (f->out >= 0 && fcntl(f->out, F_SETFL, O_NONBLOCK) != 0)))
        error = errno;
    return error;
}

static int feed(struct flow *f) {
    ssize_t put = f->left > 0 ? write(f->in, f->input, f->left) : 0;
    if (put >= 0) {
        f->input += put;
        f->left -= (size_t)put;
    } else if (errno == EPIPE) {
        f->left = 0; /* the program has read enough, like `head` */
    } else if (errno != EAGAIN && errno != EINTR) {
        return errno;
    }
    if (f->left == 0)
        close_end(&f->in);
    return 0;
}

/* Gives the whole lines in the buffer to line(). Only the last `fresh` bytes haven't been
 * searched. */
static bool hand_out(struct flow *f, size_t fresh) {
    char *begin = f->buffer, *end = f->buffer + f->held, *look = end - fresh, *newline;
    while (look < end && (newline = memchr(look, '\n', (size_t)(end - look))) != NULL) {
        if (!f->job->line(f->job->arg, begin, (size_t)(newline - begin)))
            return false;
        begin = look = newline + 1;
    }
    f->held = (size_t)(end - begin);
    memmove(f->buffer, begin, f->held);
    return true;
}

static int drain(struct flow *f, bool *refused) {
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
        *refused = f->held > 0 && !f->job->line(f->job->arg, f->buffer, f->held);
        return 0;
    }
    f->held += (size_t)got;
    *refused = !hand_out(f, (size_t)got);
    return 0;
}

/* Milliseconds left, at most 1000; 0: the time limit has passed. */
static int left_ms(const struct flow *f) {
    uint64_t now = connect_now(NULL), left;
    if (f->end_ns == 0)
        return 1000;
    left = f->end_ns > now ? (f->end_ns - now + 999999) / 1000000 : 0;
    return left > 1000 ? 1000 : (int)left;
}

/* Moves input and output until both ends are closed. A program may close its output and still read,
 * and it must get its whole input. */
static void let_flow(struct flow *f, struct child_result *r) {
    while (r->error == 0 && !r->refused && !r->late && (f->out >= 0 || f->in >= 0)) {
        /* poll() ignores a descriptor of -1 */
        struct pollfd ends[2] = {{.fd = f->out, .events = POLLIN},
                                 {.fd = f->in, .events = POLLOUT}};
        int wait = left_ms(f);
        r->late = wait == 0;
        if (poll(ends, 2, wait) < 0) {
            r->error = errno == EINTR ? 0 : errno;
            continue;
        }
        if (ends[1].revents != 0)
            r->error = feed(f);
        if (r->error == 0 && ends[0].revents != 0)
            r->error = drain(f, &r->refused);
    }
}

/* Waits for the program's end, and kills it when the time limit passes. */
static void wait_for(pid_t pid, const struct flow *f, struct child_result *r) {
    int fd = (int)syscall(SYS_pidfd_open, pid, 0); /* an old kernel has no pidfd: poll every 5 ms */
    pid_t got;
    while ((got = waitpid(pid, &r->status, WNOHANG)) == 0 || (got < 0 && errno == EINTR)) {
        struct pollfd end = {.fd = fd, .events = POLLIN};
        int wait = left_ms(f);
        if (wait == 0) {
            r->late = true;
            kill(-pid, SIGKILL);
            while (waitpid(pid, &r->status, 0) < 0 && errno == EINTR) {
            }
            break;
        }
        poll(&end, 1, fd >= 0 || wait < 5 ? wait : 5);
    }
    close_end(&fd);
}

/* PAWL-15: nothing that an earlier run for the same work started is left. Takes the lock. False: r
 * says what is left. */
static bool enter(const struct child_job *j, struct child_result *r, int *lock) {
    *lock = -1;
    if (j->fence == NULL)
        return true;
    if (j->follows && (*lock = fence_lock(j->fence)) >= 0)
        return true;
    if (fence_wait(j->fence, !j->program->lets_end, j->fence_ms, r->left, sizeof r->left) != 0)
        return false;
    *lock = fence_lock(j->fence); /* without it (no such sockets here) the environment remains */
    return true;
}

/* A run that failed is repeated: what it started, and what has left its process group, ends. */
static void leave(const struct child_job *j, const struct child_result *r, int lock) {
    char left[sizeof r->left];
    if (lock >= 0)
        close(lock);
    if (j->fence != NULL && !child_succeeded(r)) /* if some are left, the next run waits for them */
        (void)fence_wait(j->fence, true, j->fence_ms, left, sizeof left);
}

void child_run(const struct child_job *j, struct child_result *r) {
    struct flow f = {.job = j, .in = -1, .out = -1, .input = j->input, .left = j->input_size};
    sigset_t pipes, before, pending;
    pid_t pid;
    int lock;
    *r = (struct child_result){0};
    if (!enter(j, r, &lock))
        return;
    if (j->timeout_ms != 0)
        f.end_ns = connect_now(NULL) + j->timeout_ms * 1000000u;
    sigemptyset(&pipes);
    sigaddset(&pipes, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipes, &before);
    sigpending(&pending);
    r->error = start(&f, lock, &pid);
    let_flow(&f, r);
    close_end(&f.in);
    close_end(&f.out);
    free(f.buffer);
    while (sigismember(&pending, SIGPIPE) == 0 &&
           sigtimedwait(&pipes, NULL, &(struct timespec){0}) == SIGPIPE) {
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (pid > 0 && (r->error != 0 || r->refused || r->late))
        kill(-pid, SIGKILL); /* its process group: its own children must end too */
    if (pid > 0)
        wait_for(pid, &f, r);
    leave(j, r, lock);
}

bool child_succeeded(const struct child_result *r) {
    return r->left[0] == 0 && r->error == 0 && !r->refused && !r->late && WIFEXITED(r->status) &&
           WEXITSTATUS(r->status) == 0;
}

/* Is it an error of starting a program that time may mend? */
static bool passes(int error) {
    return error == EAGAIN || error == ENOMEM || error == ETXTBSY || error == EMFILE ||
           error == ENFILE;
}

enum child_says child_says(const struct child_result *r) {
    if (r->left[0] != 0)
        return CHILD_LATER;
    if (r->error != 0)
        return passes(r->error) ? CHILD_LATER : CHILD_BROKEN;
    if (r->late || r->refused || !WIFEXITED(r->status))
        return CHILD_FAILED;
    int code = WEXITSTATUS(r->status);
    return code == 65                                 ? CHILD_DATA
           : code == 75                               ? CHILD_LATER
           : code == 78 || code == 126 || code == 127 ? CHILD_BROKEN
                                                      : CHILD_FAILED;
}

void child_why(const struct child_job *j, const struct child_result *r, char *text, size_t size) {
    const char *name = j->program->argv[0];
    if (r->left[0] != 0)
        snprintf(text, size,
                 "%s is not run yet: processes that an earlier run for the same records started "
                 "have not ended: %s",
                 name, r->left);
    else if (r->error == ENOENT && strchr(name, '/') == NULL)
        snprintf(text, size, "%s cannot be run: it is in no directory of its PATH", name);
    else if (r->error != 0)
        snprintf(text, size, "%s cannot be run: %s", name, strerror(r->error));
    else if (r->refused)
        snprintf(text, size, "%s wrote a line that was not taken", name);
    else if (r->late)
        snprintf(text, size, "%s took longer than %" PRIu64 " ms and was killed", name,
                 j->timeout_ms);
    else if (WIFSIGNALED(r->status))
        snprintf(text, size, "%s was ended by signal %d (%s)", name, WTERMSIG(r->status),
                 strsignal(WTERMSIG(r->status)));
    else
        snprintf(text, size, "%s ended with status %d", name, WEXITSTATUS(r->status));
}
