/* SPDX-License-Identifier: Apache-2.0
 *
 * turns.c - the parent's end: starts contenders and gives them their slices in turn. Each child
 * holds one end of a socket and sends
 *   'r'            ready for a slice; the parent answers with a byte, or closes the socket if
 *                  there are no more
 *   'R' + turn     its result, the last message
 *   'E' + text     the reason it gave up
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "measure.h"

enum { ENTRIES_MAX = 16 };

struct child {
    pid_t pid;
    int socket;
    bool over; /* it has sent its last message */
    struct setting s;
};

static void fail(struct entry *e, const char *why) {
    e->failed = true;
    snprintf(e->why, e->why_size, "%s", why);
}

/* Receives the next message of a child. False: stopped. */
static bool listen_to(struct child *c, struct entry *e, int (*stopping)(void)) {
    struct pollfd p = {.fd = c->socket, .events = POLLIN};
    struct {
        char kind[8];
        struct turn t;
    } said = {.kind = ""};
    while (poll(&p, 1, 200) <= 0)
        if (stopping())
            return false;
    ssize_t n = recv(c->socket, &said, 1, 0);
    if (n == 1 && said.kind[0] == 'r')
        return true;
    c->over = true;
    if (n == 1 && said.kind[0] == 'R') {
        if (recv(c->socket, (char *)&said + 1, sizeof said - 1, MSG_WAITALL) ==
            (ssize_t)sizeof said - 1)
            *e->t = said.t;
        else
            fail(e, "its result is not whole");
    } else if (n == 1) {
        char text[400];
        n = recv(c->socket, text, sizeof text - 1, 0);
        text[n > 0 ? n : 0] = '\0';
        fail(e, text);
    } else {
        fail(e, "it ended without a result");
    }
    return true;
}

static bool start(const char *parent, unsigned index, struct child *c, struct entry *e,
                  int (*stopping)(void)) {
    int pair[2];
    c->s = *e->s;
    c->s.parent = parent;
    c->over = true;
    snprintf(c->s.dir, sizeof c->s.dir, "%s/turn%u", parent, index);
    remove_dir(c->s.dir);
    if (mkdir(c->s.dir, 0700) != 0 ||
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
        fail(e, strerror(errno));
        return true;
    }
    fflush(NULL);
    c->pid = fork();
    if (c->pid == 0) {
        close(pair[0]);
        contender_main(e->fn, &c->s, pair[1]);
    }
    close(pair[1]);
    c->socket = pair[0];
    if (c->pid < 0) {
        fail(e, strerror(errno));
        return true;
    }
    c->over = false;
    return listen_to(c, e, stopping);
}

/* Whatever happened, leaves no process and no file. */
static void clean_up(struct child *c) {
    if (c->pid > 0) {
        if (!c->over)
            kill(c->pid, SIGKILL);
        while (waitpid(c->pid, NULL, 0) < 0 && errno == EINTR) {
        }
    }
    if (c->socket > 0)
        close(c->socket);
    if (c->s.dir[0] != '\0')
        remove_dir(c->s.dir);
}

static bool take_slices(struct child *children, struct entry *all, unsigned count, unsigned first,
                        unsigned slices, int (*stopping)(void)) {
    for (unsigned slice = 0; slice < slices; slice++)
        for (unsigned k = 0; k < count; k++) {
            unsigned i = (first + slice + k) % count;
            if (children[i].over)
                continue;
            /* if the child has ended, the next receive reports it */
            (void)send(children[i].socket, "g", 1, MSG_NOSIGNAL);
            if (!listen_to(&children[i], &all[i], stopping))
                return false;
        }
    for (unsigned i = 0; i < count; i++) {
        if (children[i].over)
            continue;
        shutdown(children[i].socket, SHUT_WR);
        if (!listen_to(&children[i], &all[i], stopping))
            return false;
    }
    return true;
}

bool turns_run(const char *parent, struct entry *all, unsigned count, unsigned first,
               unsigned slices, int (*stopping)(void)) {
    static struct child children[ENTRIES_MAX];
    bool well = true;
    memset(children, 0, sizeof children);
    for (unsigned k = 0; well && k < count; k++) {
        unsigned i = (first + k) % count;
        well = start(parent, i, &children[i], &all[i], stopping);
    }
    well = well && take_slices(children, all, count, first, slices, stopping);
    for (unsigned i = 0; i < count; i++)
        clean_up(&children[i]);
    return well;
}
