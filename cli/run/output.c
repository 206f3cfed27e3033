/* SPDX-License-Identifier: Apache-2.0
 *
 * output.c - messages of `pawl run`: from any thread, with a priority that the journal
 * understands; and the service manager's protocol (sd_notify(3) documents it: a datagram of
 * VARIABLE=VALUE lines to the socket in NOTIFY_SOCKET).
 */
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "cli/run/pipeline.h"

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static bool line_shown;

void run_say(int severity, const char *where, const char *name, const char *format, ...) {
    static const char *const priorities[] = {"<6>", "<6>", "<4>", "<3>"};
    char text[1024];
    va_list args;
    va_start(args, format);
    cli_text_args(text, sizeof text, format, args);
    va_end(args);
    pthread_mutex_lock(&mutex);
    if (line_shown)
        cli_print_to(stderr, "\r\033[K");
    cli_print_to(stderr, "%spawl: %s%s%s: %s\n",
                 getenv("JOURNAL_STREAM") != NULL ? priorities[severity & 3] : "", where,
                 name[0] != 0 ? "/" : "", name, text);
    line_shown = false;
    pthread_mutex_unlock(&mutex);
}

void run_line(const char *text) {
    pthread_mutex_lock(&mutex);
    if (text[0] != 0 || line_shown)
        cli_print_to(stderr, "\r\033[K%.200s", text);
    line_shown = text[0] != 0;
    pthread_mutex_unlock(&mutex);
}

void run_notify(const char *format, ...) {
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    char text[512];
    size_t n = path != NULL ? strlen(path) : 0;
    if (n < 2 || n >= sizeof to.sun_path || (path[0] != '/' && path[0] != '@'))
        return;
    va_list args;
    va_start(args, format);
    cli_text_args(text, sizeof text, format, args); /* a name can't add a line, and so a variable */
    va_end(args);
    memcpy(to.sun_path, path, n);
    if (path[0] == '@')
        to.sun_path[0] = 0;
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    (void)sendto(fd, text, strlen(text), MSG_NOSIGNAL, (const struct sockaddr *)&to,
                 (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n));
    close(fd);
}

bool run_notifies(void) {
    return getenv("NOTIFY_SOCKET") != NULL;
}

uint64_t run_watchdog_us(void) {
    const char *us = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
    uint64_t n;
    if (us == NULL || !cli_parse_number(us, &n) ||
        (pid != NULL && strtol(pid, NULL, 10) != (long)getpid()))
        return 0;
    return n;
}
