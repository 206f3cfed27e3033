/* SPDX-License-Identifier: Apache-2.0
 *
 * Waiting at the end of a file.
 */
#include <poll.h>

#include "connectors/file/tail.h"

static int shorter(int a, int b) {
    return a < b ? a : b;
}

static uint64_t now_ns(void) {
    return connect_now(&(pawl_hooks){0});
}

/* Watches the current file and its name. 0: later changes will be reported; 1: the same, but
 * changes before this call may have been missed; -1: changes can't be reported. */
static int watch(struct tail *t) {
    uint64_t now = now_ns();
    if (t->watched_inode == t->inode && t->watched_device == t->device &&
        now - t->watched_ns < WATCH_AGAIN_MS * UINT64_C(1000000))
        return t->watched ? 0 : -1;
    int name = watch_directory(&t->watch, t->directory, false),
        file = name >= 0 && t->file.fd >= 0 ? watch_file(&t->watch, t->file.fd) : name;
    t->watched = name >= 0 && file >= 0;
    t->watched_inode = t->inode;
    t->watched_device = t->device;
    t->watched_ns = now;
    return !t->watched ? -1 : name > 0 || file > 0 ? 1 : 0;
}

void tail_wait(struct tail *t, int ms) {
    int told = t->gone_since_ns != 0 ? -1 : watch(t); /* a rotated file is polled */
    if (told > 0)
        return;
    if (told < 0) {
        connect_idle(t->context, shorter(ms, TAIL_LOOK_MS));
        return;
    }
    struct pollfd p[2] = {{connect_wake_fd(t->context), POLLIN, 0}, {t->watch.fd, POLLIN, 0}};
    uint64_t begun = now_ns();
    if (poll(p, 2, shorter(ms, WATCH_LOOK_MS)) <= 0 || p[1].revents == 0)
        return;
    /* Writes that follow each other closely are read together: a commit for each would cost more
     * than the write. */
    uint64_t waited_ms = (now_ns() - begun) / 1000000;
    if (waited_ms < TAIL_LOOK_MS)
        connect_idle(t->context, shorter(ms, TAIL_LOOK_MS - (int)waited_ms));
    watch_clear(&t->watch);
}
