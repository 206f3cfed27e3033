/* SPDX-License-Identifier: Apache-2.0
 *
 * socket.c - a Unix socket beside the log's segments: a program that connects gets the running
 * pipeline's status as one JSON object. It costs no write to the disk. After a crash nobody
 * answers, so no stale state is ever shown.
 *
 * Neither side trusts the other, nor what lies in the socket's place:
 *
 *   the listener   has its mode (`socket_mode`) from the first moment; what is in its place and is
 *                  no socket of this user's stays; it reads nothing, and waits for nobody
 *   the client     follows no symbolic link; takes an answer only from root, its own user and the
 *                  owner of the log's directory; limits its bytes and its time
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
#define ANSWER_BYTES_MAX (4u << 20) /* of a status that is read */
#define ANSWER_MS 3000              /* for all of it */
#define SEND_MS 200                 /* a reader that is slower gets no more */

/* The directory's path may be longer than an address: it is named by its descriptor. */
static struct sockaddr_un address_in(int dir_fd) {
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof a.sun_path, "/proc/self/fd/%d/%s", dir_fd, NAME);
    return a;
}

/* A crashed run's socket is in the way; the log's lock says that it is of no other. Anything else
 * isn't ours. NULL: the place is free, else why it isn't. */
static const char *make_room(int dir_fd) {
    struct stat st;
    if (fstatat(dir_fd, NAME, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT ? NULL : strerror(errno);
    if (!S_ISSOCK(st.st_mode))
        return "what is there is no socket, and stays";
    if (st.st_uid != geteuid())
        return "the socket there belongs to another user, and stays";
    return unlinkat(dir_fd, NAME, 0) == 0 ? NULL : strerror(errno);
}

/* Binds and listens. The file gets the mode of the descriptor, less the umask: never a wider one.
 * The umask belongs to all threads, so what it took is given back by the file's name, if that is
 * still ours. */
static const char *listen_in(int dir_fd, uint32_t mode, run_socket *s) {
    struct sockaddr_un a = address_in(dir_fd);
    struct stat st;
    char path[40];
    s->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (s->fd < 0 || fchmod(s->fd, (mode_t)mode) != 0 ||
        bind(s->fd, (const struct sockaddr *)&a, sizeof a) != 0)
        return strerror(errno);
    int file = openat(dir_fd, NAME, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (file < 0 || fstat(file, &st) != 0 || !S_ISSOCK(st.st_mode) || st.st_uid != geteuid()) {
        if (file >= 0)
            close(file);
        return "somebody put something else in its place";
    }
    s->device = st.st_dev;
    s->inode = st.st_ino;
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    bool good = (st.st_mode & 0777) == mode || chmod(path, (mode_t)mode) == 0;
    close(file);
    return good && listen(s->fd, 8) == 0 ? NULL : strerror(errno);
}

run_socket run_socket_open(const char *dir, uint32_t mode) {
    run_socket s = {.fd = -1};
    int dir_fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    const char *why = dir_fd >= 0 ? make_room(dir_fd) : strerror(errno);
    if (why == NULL)
        why = listen_in(dir_fd, mode, &s);
    if (why != NULL) {
        run_say(2, dir, "", "no status socket (%s): `pawl status` will not show the pipeline", why);
        run_socket_close(dir, &s);
    }
    if (dir_fd >= 0)
        close(dir_fd);
    return s;
}

void run_socket_close(const char *dir, run_socket *s) {
    struct stat st;
    int dir_fd = s->inode != 0 ? open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
    if (dir_fd >= 0 && fstatat(dir_fd, NAME, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
        st.st_dev == s->device && st.st_ino == s->inode)
        (void)unlinkat(dir_fd, NAME, 0);
    if (dir_fd >= 0)
        close(dir_fd);
    if (s->fd >= 0)
        close(s->fd);
    *s = (run_socket){.fd = -1};
}

static int left_ms(uint64_t until_ns) {
    uint64_t now = cli_now_ns();
    return until_ns > now ? (int)((until_ns - now) / 1000000) + 1 : 0;
}

/* Nearly always it all fits into the socket's buffer. */
static void send_all(int fd, const char *at, size_t left) {
    uint64_t until = cli_now_ns() + SEND_MS * UINT64_C(1000000);
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    int room = left < 1u << 20 ? (int)left + 4096 : 1 << 20;
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    while (left > 0) {
        ssize_t put = send(fd, at, left, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (put < 0 && errno == EAGAIN && poll(&p, 1, left_ms(until)) > 0 && left_ms(until) > 0)
            continue;
        if (put <= 0)
            return;
        at += put;
        left -= (size_t)put;
    }
}

void run_socket_answer(int fd, json_t *status) {
    int to = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
    if (to < 0)
        return;
    char *text = json_dumps(status, JSON_COMPACT);
    if (text != NULL)
        send_all(to, text, strlen(text));
    free(text);
    close(to);
}

/* ---- asking */

/* Connects to the socket itself, whatever is put in its place meanwhile. -1: there is none, or
 * nobody listens. */
static int connect_in(int dir_fd, uint64_t until) {
    struct stat st;
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int file = openat(dir_fd, NAME, O_PATH | O_NOFOLLOW | O_CLOEXEC), fd = -1, rc = -1;
    if (file >= 0 && fstat(file, &st) == 0 && S_ISSOCK(st.st_mode))
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    snprintf(a.sun_path, sizeof a.sun_path, "/proc/self/fd/%d", file);
    while (fd >= 0 && (rc = connect(fd, (const struct sockaddr *)&a, sizeof a)) != 0 &&
           errno == EAGAIN && left_ms(until) > 0)
        cli_sleep_ms(10); /* its queue is full */
    if (file >= 0)
        close(file);
    if (rc == 0)
        return fd;
    if (fd >= 0)
        close(fd);
    return -1;
}

/* Who listens: root, this user, or the owner of the directory? */
static bool trusted(int fd, int dir_fd, struct ucred *peer) {
    struct stat st;
    socklen_t size = sizeof *peer;
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, peer, &size) == 0 &&
           (peer->uid == 0 || peer->uid == geteuid() ||
            (fstat(dir_fd, &st) == 0 && peer->uid == st.st_uid));
}

/* The bytes until the end; NULL with *why: too many, too slow, or none. */
static char *receive(int fd, uint64_t until, size_t *size, const char **why) {
    struct pollfd p = {.fd = fd, .events = POLLIN};
    char *bytes = malloc(ANSWER_BYTES_MAX + 1);
    *why = bytes == NULL ? "no memory" : NULL;
    for (*size = 0; *why == NULL;) {
        ssize_t got = recv(fd, bytes + *size, ANSWER_BYTES_MAX + 1 - *size, 0);
        if (got == 0)
            return bytes;
        *size += got > 0 ? (size_t)got : 0;
        if (*size > ANSWER_BYTES_MAX)
            *why = "it is larger than 4 MiB";
        else if (got < 0 && errno != EAGAIN && errno != EINTR)
            *why = strerror(errno);
        else if (left_ms(until) == 0 || (got < 0 && poll(&p, 1, left_ms(until)) == 0))
            *why = "it did not come within 3 seconds";
    }
    free(bytes);
    return NULL;
}

json_t *run_socket_ask(const char *dir) {
    struct ucred peer = {0};
    uint64_t until = cli_now_ns() + ANSWER_MS * UINT64_C(1000000);
    json_t *status = NULL;
    size_t size;
    const char *why = NULL;
    int dir_fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    int fd = dir_fd >= 0 ? connect_in(dir_fd, until) : -1;
    char *bytes = NULL;
    if (fd >= 0 && !trusted(fd, dir_fd, &peer))
        why = "neither root, nor this user, nor the directory's owner";
    else if (fd >= 0 && (bytes = receive(fd, until, &size, &why)) != NULL) {
        status = json_loadb(bytes, size, 0, NULL);
        if (size != 0 && !json_is_object(status))
            why = "it is no JSON object";
    }
    if (why != NULL) {
        cli_error("%s/%s: the answer of process %ld, user %lu, is not shown: %s", dir, NAME,
                  (long)peer.pid, (unsigned long)peer.uid, why);
        json_decref(status);
        status = NULL;
    }
    free(bytes);
    if (fd >= 0)
        close(fd);
    if (dir_fd >= 0)
        close(dir_fd);
    return status;
}
