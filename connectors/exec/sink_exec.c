/* SPDX-License-Identifier: Apache-2.0
 *
 * A program as a sink: it is run for each batch, gets the records on its standard input, and finds
 * the batch's name in its environment. Idempotent with stable batches: a batch that comes again has
 * the same name and the same records, so a program that remembers names delivers exactly once.
 *
 * Its exit status is the answer:
 *   0         it is done, durably
 *   65        (EX_DATAERR) a record of it can't be taken: the batch is halved until it is found
 *   78        (EX_CONFIG) stop: someone has to look
 *   126, 127  it can't be run: stop
 *   other, a signal, or none in time: again, later
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "connectors/text/encode.h"

#define ARGUMENTS_MAX 256

struct exec {
    char **program; /* NULL-terminated */
    struct encoding encoding;
    uint64_t timeout_ms;
    struct buffer buffer;
};

static const pawl_setting_info settings[] = {
    {"command", PAWL_SETTING_TEXT, 0, NULL, NULL, "a command line for /bin/sh"},
    {"command.*", PAWL_SETTING_TEXT, 0, NULL, NULL, "or a program and its arguments, as a list"},
    {"timeout", PAWL_SETTING_TIME, 0, NULL, "60s",
     "it is ended (with what it started) if it takes longer"},
    ENCODE_SETTINGS,
    {NULL, 0, 0, NULL, NULL, NULL},
};
static int make_sink(const pawl_settings *s, pawl_sink_ops *out, pawl_error *err);
const pawl_connector connect_sink_exec = {
    "exec", "a program that is given each batch on its standard input", settings, make_sink, NULL};

/* ---- running it */

enum { VARIABLES = 6 };
struct environment {
    char text[VARIABLES][288];
    char **all;
};

static bool is_ours(const char *variable) {
    static const char *const names[] = {"PAWL_BATCH=", "PAWL_STREAM=", "PAWL_PARTITION=",
                                        "PAWL_FROM=",  "PAWL_TO=",     "PAWL_REDELIVERY="};
    for (size_t i = 0; i < VARIABLES; i++)
        if (strncmp(variable, names[i], strlen(names[i])) == 0)
            return true;
    return false;
}

static bool make_environment(struct environment *e, const pawl_sink_batch *b) {
    size_t count = 0, n = 0;
    while (environ[count] != NULL)
        count++;
    e->all = calloc(count + VARIABLES + 1, sizeof *e->all);
    for (size_t i = 0; e->all != NULL && i < count; i++)
        if (!is_ours(environ[i]))
            e->all[n++] = environ[i];
    snprintf(e->text[0], sizeof e->text[0], "PAWL_BATCH=%s", b->name);
    snprintf(e->text[1], sizeof e->text[1], "PAWL_STREAM=%s", b->stream);
    snprintf(e->text[2], sizeof e->text[2], "PAWL_PARTITION=%" PRIu32, b->partition);
    snprintf(e->text[3], sizeof e->text[3], "PAWL_FROM=%" PRIu64, b->from);
    snprintf(e->text[4], sizeof e->text[4], "PAWL_TO=%" PRIu64, b->to);
    snprintf(e->text[5], sizeof e->text[5], "PAWL_REDELIVERY=%" PRIu32, b->redelivery);
    for (size_t i = 0; e->all != NULL && i < VARIABLES; i++)
        e->all[n++] = e->text[i];
    return e->all != NULL;
}

/* Its output goes where our messages go: it has no other meaning here. A process group of its own,
 * so that all of it can be ended. 0 or an errno. */
static int start(char **program, char **env, int in, pid_t *pid) {
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t defaults, none;
    int error = posix_spawn_file_actions_init(&actions);
    if (error != 0)
        return error;
    error = posix_spawnattr_init(&attributes);
    if (error == 0) {
        sigemptyset(&none);
        sigfillset(&defaults);
        sigdelset(&defaults, SIGKILL);
        sigdelset(&defaults, SIGSTOP);
        error = posix_spawn_file_actions_adddup2(&actions, in, STDIN_FILENO);
        if (error == 0)
            error = posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO);
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

static int left_ms(uint64_t end_ns) {
    uint64_t now = connect_now(&(pawl_hooks){0});
    return now >= end_ns ? 0 : (int)((end_ns - now + 999999) / 1000000);
}

/* Writes all of it, until the time is over or the reader has gone (which is its right). False: the
 * time is over. SIGPIPE must not end us: the thread has it blocked meanwhile. */
static bool feed(int fd, const char *at, size_t left, uint64_t end_ns) {
    while (left > 0) {
        struct pollfd p = {.fd = fd, .events = POLLOUT};
        int wait = left_ms(end_ns);
        if (wait == 0)
            return false;
        if (poll(&p, 1, wait > 1000 ? 1000 : wait) <= 0)
            continue;
        ssize_t put = write(fd, at, left);
        if (put > 0) {
            at += put;
            left -= (size_t)put;
        } else if (errno != EAGAIN && errno != EINTR) {
            return true;
        }
    }
    return true;
}

/* False: the time is over, and it was killed. */
static bool wait_for(pid_t pid, uint64_t end_ns, int *status) {
    int fd = (int)syscall(SYS_pidfd_open, pid, 0); /* without it (old kernels): look every 5 ms */
    pid_t got;
    bool in_time = true;
    while ((got = waitpid(pid, status, WNOHANG)) == 0 || (got < 0 && errno == EINTR)) {
        int wait = left_ms(end_ns);
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (wait == 0) {
            in_time = false;
            kill(-pid, SIGKILL);
            while (waitpid(pid, status, 0) < 0 && errno == EINTR) {
            }
            break;
        }
        poll(&p, fd >= 0 ? 1 : 0, fd >= 0 ? (wait > 1000 ? 1000 : wait) : 5);
    }
    if (fd >= 0)
        close(fd);
    return in_time;
}

static int judge(const struct exec *x, int status, pawl_fault *f) {
    const char *name = x->program[0];
    if (WIFSIGNALED(status))
        return pawl_fault_set(f, PAWL_RETRY, "%s was ended by signal %d (%s)", name,
                              WTERMSIG(status), strsignal(WTERMSIG(status)));
    int code = WEXITSTATUS(status);
    if (code == 0)
        return PAWL_DONE;
    int outcome = code == 65                                 ? PAWL_POISON
                  : code == 78 || code == 126 || code == 127 ? PAWL_FATAL
                                                             : PAWL_RETRY;
    return pawl_fault_set(f, outcome, "%s ended with status %d", name, code);
}

static int run(struct exec *x, char **env, pawl_fault *f) {
    int ends[2], status = 0;
    pid_t pid;
    sigset_t pipes, before;
    if (pipe2(ends, O_CLOEXEC) != 0)
        return pawl_fault_set(f, PAWL_RETRY, "a pipe for %s: %s", x->program[0], strerror(errno));
    int error = start(x->program, env, ends[0], &pid);
    close(ends[0]);
    if (error != 0) {
        close(ends[1]);
        bool later = error == EAGAIN || error == ENOMEM || error == ETXTBSY || error == EMFILE ||
                     error == ENFILE;
        return pawl_fault_set(f, later ? PAWL_RETRY : PAWL_FATAL, "%s cannot be run: %s",
                              x->program[0], strerror(error));
    }
    uint64_t end_ns = connect_now(&(pawl_hooks){0}) + x->timeout_ms * 1000000u;
    sigemptyset(&pipes);
    sigaddset(&pipes, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipes, &before);
    bool in_time = fcntl(ends[1], F_SETFL, O_NONBLOCK) == 0 &&
                   feed(ends[1], x->buffer.bytes, x->buffer.len, end_ns);
    close(ends[1]);
    while (sigtimedwait(&pipes, NULL, &(struct timespec){0}) == SIGPIPE) {
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    in_time = wait_for(pid, in_time ? end_ns : 0, &status) && in_time;
    if (!in_time)
        return pawl_fault_set(f, PAWL_RETRY, "%s took longer than %" PRIu64 " ms and was killed",
                              x->program[0], x->timeout_ms);
    return judge(x, status, f);
}

/* ---- the sink */

static int exec_begin(void *self, const pawl_sink_batch *b, pawl_fault *f) {
    struct exec *x = self;
    (void)b, (void)f;
    x->buffer.len = 0;
    return PAWL_DONE;
}

static int exec_open(void *self, const pawl_sink_batch *b, pawl_fault *f) {
    return exec_begin(self, b, f);
}

static int exec_write(void *self, const pawl_sink_batch *b, const pawl_record *records,
                      size_t count, pawl_fault *f) {
    struct exec *x = self;
    int outcome = PAWL_DONE;
    (void)b;
    for (size_t i = 0; i < count && outcome == PAWL_DONE; i++)
        outcome = encode_record(&x->buffer, &x->encoding, &records[i], f);
    return outcome;
}

static int exec_commit(void *self, const pawl_sink_batch *b, pawl_fault *f) {
    struct environment e;
    int outcome = make_environment(&e, b)
                      ? run(self, e.all, f)
                      : pawl_fault_set(f, PAWL_RETRY, "no memory for the environment");
    free(e.all);
    return outcome;
}

static void exec_abort(void *self) {
    ((struct exec *)self)->buffer.len = 0;
}

static void exec_destroy(void *self) {
    struct exec *x = self;
    for (size_t i = 0; x->program != NULL && x->program[i] != NULL; i++)
        free(x->program[i]);
    free((void *)x->program);
    buffer_free(&x->buffer);
    free(x);
}

/* The program from "command", or from "command.0", "command.1", ... */
static int choose_program(struct exec *x, const pawl_settings *set, pawl_error *err) {
    const pawl_connector *c = &connect_sink_exec;
    const char *line = pawl_setting_text(c, set, "command");
    const char *words[ARGUMENTS_MAX + 1] = {"/bin/sh", "-c", line, NULL};
    size_t n = line != NULL ? 3 : 0, numbered = 0;
    for (size_t i = 0; i < set->count; i++)
        numbered += strncmp(set->items[i].name, "command.", 8) == 0;
    if ((line != NULL) == (numbered != 0) || numbered > ARGUMENTS_MAX)
        return connect_error(
            err, PAWL_INVALID,
            "exec needs a command: a text for /bin/sh, or a list of a program and its arguments");
    for (char name[24]; n < numbered; n++) {
        snprintf(name, sizeof name, "command.%zu", n);
        words[n] = NULL;
        for (size_t i = 0; i < set->count; i++)
            if (strcmp(set->items[i].name, name) == 0)
                words[n] = set->items[i].value;
        if (words[n] == NULL)
            return connect_error(err, PAWL_INVALID, "exec: the command has no element %zu", n);
    }
    if (words[0][0] == 0)
        return connect_error(err, PAWL_INVALID, "exec: the program's name is empty");
    x->program = calloc(n + 1, sizeof *x->program);
    for (size_t i = 0; x->program != NULL && i < n; i++)
        if ((x->program[i] = strdup(words[i])) == NULL)
            return connect_error(err, PAWL_MEMORY, "no memory for a sink");
    return x->program != NULL ? 0 : connect_error(err, PAWL_MEMORY, "no memory for a sink");
}

static int make_sink(const pawl_settings *set, pawl_sink_ops *out, pawl_error *err) {
    struct exec *x = calloc(1, sizeof *x);
    if (x == NULL)
        return connect_error(err, PAWL_MEMORY, "no memory for a sink");
    int rc = choose_program(x, set, err);
    if (rc < 0) {
        exec_destroy(x);
        return rc;
    }
    encode_settings(&connect_sink_exec, set, &x->encoding);
    x->timeout_ms = pawl_setting_number(&connect_sink_exec, set, "timeout");
    out->kind = PAWL_SINK_IDEMPOTENT;
    out->flags = PAWL_SINK_STABLE;
    out->type = "exec";
    out->self = x;
    out->open = exec_open;
    out->begin = exec_begin;
    out->write = exec_write;
    out->commit = exec_commit;
    out->abort = exec_abort;
    out->destroy = exec_destroy;
    return 0;
}
