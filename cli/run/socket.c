/* SPDX-License-Identifier: Apache-2.0
 *
 * socket.c - a Unix socket beside the log's segments: a program that connects gets the running
 * pipeline's status as one JSON object. It costs no write to the disk. After a crash nobody
 * answers, so no stale state is ever shown.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "cli/run/pipeline.h"

#define NAME "run.sock"

/* The directory's path may be longer than an address: it is named by its descriptor. */
static int address(const char *dir, struct sockaddr_un *a, int *dir_fd) {
    *dir_fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    *a = (struct sockaddr_un){.sun_family = AF_UNIX};
    snprintf(a->sun_path, sizeof a->sun_path, "/proc/self/fd/%d/%s", *dir_fd, NAME);
    return *dir_fd;
}

int run_socket_open(const char *dir) {
    struct sockaddr_un a;
    int dir_fd, fd = -1;
    if (address(dir, &a, &dir_fd) >= 0) {
        /* of a crashed one: the log's lock says that there is no other */
        (void)unlinkat(dir_fd, NAME, 0);
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd >= 0 &&
            (bind(fd, (const struct sockaddr *)&a, sizeof a) != 0 || listen(fd, 8) != 0)) {
            close(fd);
            fd = -1;
        }
        if (fd < 0)
            run_say(1, dir, "", "no status socket (%s): `pawl status` will not show the pipeline",
                    strerror(errno));
        close(dir_fd);
    }
    return fd;
}

void run_socket_close(const char *dir, int fd) {
    int dir_fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0 && dir_fd >= 0)
        (void)unlinkat(dir_fd, NAME, 0);
    if (dir_fd >= 0)
        close(dir_fd);
    if (fd >= 0)
        close(fd);
}

static void send_all(int fd, const char *at, size_t left) {
    while (left > 0) {
        ssize_t put = send(fd, at, left, MSG_NOSIGNAL);
        if (put <= 0)
            return; /* a reader that is slower than a second gets no more */
        at += put;
        left -= (size_t)put;
    }
}

void run_socket_answer(int fd, json_t *status) {
    int to = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
    if (to < 0)
        return;
    struct timeval second = {1, 0};
    char *text = json_dumps(status, JSON_COMPACT);
    setsockopt(to, SOL_SOCKET, SO_SNDTIMEO, &second, sizeof second);
    if (text != NULL)
        send_all(to, text, strlen(text));
    free(text);
    close(to);
}

json_t *run_socket_ask(const char *dir) {
    struct sockaddr_un a;
    int dir_fd, fd = -1;
    json_t *status = NULL;
    if (address(dir, &a, &dir_fd) < 0)
        return NULL;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (const struct sockaddr *)&a, sizeof a) == 0) {
        struct timeval wait = {3, 0};
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
        status = json_loadfd(fd, 0, NULL);
    }
    if (fd >= 0)
        close(fd);
    close(dir_fd);
    return status;
}
