/* SPDX-License-Identifier: Apache-2.0
 *
 * programs.c - what programs that the command runs write to standard error, on a terminal. They get
 * a pipe in its place, and a thread shows their lines, escaped: a program repeats what strangers
 * have sent to it. Elsewhere they inherit standard error, so one that outlives the command can
 * still write.
 */
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "cli/cli.h"

static struct {
    FILE *terminal; /* NULL: it isn't taken */
    int lines;      /* the pipe's end that is read */
    int over;       /* eventfd */
    pthread_t reader;
} taken;

FILE *cli_messages(void) {
    return taken.terminal != NULL ? taken.terminal : stderr;
}

bool cli_on_terminal(void) {
    return taken.terminal != NULL || isatty(STDERR_FILENO) == 1;
}

static void show_line(const char *line, size_t len) {
    cli_print_to(stderr, "\r\x1b[K%.*s\n", (int)len, line);
}

/* Shows whole lines, and what is too long for one in pieces. */
static size_t show_lines(char *text, size_t len, size_t room) {
    char *at = text, *end = text + len, *newline;
    while ((newline = memchr(at, '\n', (size_t)(end - at))) != NULL) {
        show_line(at, (size_t)(newline - at));
        at = newline + 1;
    }
    if (at == text && len == room) {
        show_line(at, len);
        at = end;
    }
    memmove(text, at, (size_t)(end - at));
    return (size_t)(end - at);
}

static void *read_lines(void *arg) {
    static char text[4096];
    size_t len = 0;
    struct pollfd p[2] = {{.fd = taken.lines, .events = POLLIN},
                          {.fd = taken.over, .events = POLLIN}};
    (void)arg;
    for (;;) {
        if (poll(p, 2, -1) < 0)
            continue; /* signals are blocked here, but not all can be */
        ssize_t got = read(taken.lines, text + len, sizeof text - len);
        if (got > 0)
            len = show_lines(text, len + (size_t)got, sizeof text);
        else if (got == 0 || p[1].revents != 0) /* all that had come is shown */
            break;
    }
    if (len > 0)
        show_line(text, len);
    return NULL;
}

void cli_programs_begin(void) {
    int ends[2], terminal;
    sigset_t all, before;
    if (isatty(STDERR_FILENO) != 1 || pipe2(ends, O_CLOEXEC) != 0)
        return;
    taken.lines = ends[0];
    taken.over = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    terminal = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    FILE *to = terminal >= 0 ? fdopen(terminal, "w") : NULL;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    bool good = to != NULL && taken.over >= 0 && fcntl(ends[0], F_SETFL, O_NONBLOCK) == 0 &&
                pthread_create(&taken.reader, NULL, read_lines, NULL) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (good) {
        taken.terminal = to;
        (void)dup2(ends[1], STDERR_FILENO);
    } else {
        close(ends[0]); /* standard error stays what it is */
    }
    close(ends[1]);
}

void cli_programs_end(void) {
    if (taken.terminal == NULL)
        return;
    fflush(taken.terminal);
    (void)dup2(fileno(taken.terminal), STDERR_FILENO);
    (void)!write(taken.over, &(uint64_t){1}, sizeof(uint64_t));
    pthread_join(taken.reader, NULL);
    FILE *to = taken.terminal;
    taken.terminal = NULL;
    fclose(to);
    close(taken.lines);
    close(taken.over);
}
