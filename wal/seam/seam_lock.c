/* SPDX-License-Identifier: Apache-2.0
 *
 * seam_lock.c - one writer (PAWL-10): flock() on the file `lock`, which contains the holder's pid
 * as text.
 *
 * flock() and not fcntl(), because flock() belongs to the open file description. So a second open
 * in the same process is refused too, and closing another descriptor of the file doesn't release
 * the lock. The io_uring backend also registers the descriptor with the kernel (its slot hook): the
 * kernel keeps the description, and with it the lock, until the last request of a killed writer has
 * completed. The file is never unlinked: otherwise two writers could each lock a file of that name.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "wal/seam/seam_common.h"

#define LOCK_NAME "lock"
#define RETRY_NS 2000000u
#define HOLDER_TRIES 5
#define GONE_NS (10 * UINT64_C(1000000000))

static int try_lock(int fd, int how) {
    int rc;
    do
        rc = flock(fd, how | LOCK_NB);
    while (rc != 0 && errno == EINTR);
    return rc != 0 ? -errno : 0;
}

/* 0 if the file contains no pid, or only part of one yet. */
static int read_pid(int fd) {
    char text[24];
    ssize_t n = pread(fd, text, sizeof text - 1, 0);
    if (n <= 0)
        return 0;
    text[n] = 0;
    char *end;
    long pid = strtol(text, &end, 10);
    return *end == '\n' && pid > 0 && pid <= INT32_MAX ? (int)pid : 0;
}

/* The pid is only information: the lock is valid without it. But no old pid may remain. */
static void write_pid(int fd) {
    char text[24];
    int len = snprintf(text, sizeof text, "%d\n", (int)getpid());
    ssize_t n = pwrite(fd, text, (size_t)len, 0);
    if (ftruncate(fd, n == len ? len : 0) != 0) {
        /* nothing more can be done */
    }
}

/* Another user who can open the file can lock it, and shut us out for ever. It is made with this
 * mode; somebody may have changed it since. */
static void only_for_us(int fd) {
    struct stat st;
    if (fstat(fd, &st) == 0 && (st.st_mode & 077) != 0 && fchmod(fd, 0600) != 0) {
        /* a file of root's or of the directory's owner: it is theirs to do */
    }
}

/* Has the holder's process ended? Then the kernel keeps the lock until the last requests of that
 * process have completed, which takes a while on a busy machine. */
static bool holder_gone(int fd) {
    int pid = read_pid(fd);
    return pid > 0 && kill(pid, 0) != 0 && errno == ESRCH;
}

int common_lock(struct seam *s, uint64_t wait_ns, int *pid) {
    KEEP_ERRNO;
    struct common *c = (struct common *)s;
    *pid = 0;
    int fd = common_open_regular(c->dir, LOCK_NAME, O_RDWR | O_CREAT);
    if (fd < 0)
        return fd;
    only_for_us(fd);
    uint64_t start = common_now(s);
    int rc;
    while ((rc = try_lock(fd, LOCK_EX)) == -EWOULDBLOCK) {
        uint64_t waited = common_now(s) - start;
        if (waited >= wait_ns && (waited >= GONE_NS || !holder_gone(fd)))
            break;
        common_sleep(s,
                     waited < wait_ns && wait_ns - waited < RETRY_NS ? wait_ns - waited : RETRY_NS);
    }
    if (rc < 0) {
        if (rc == -EWOULDBLOCK)
            *pid = read_pid(fd);
        close(fd);
        return rc;
    }
    write_pid(fd);
    c->lock_fd = fd;
    if (c->slot != NULL)
        c->slot(c, SLOT_LOCK, fd);
    return 0;
}

void common_unlock(struct seam *s) {
    KEEP_ERRNO;
    struct common *c = (struct common *)s;
    if (c->lock_fd < 0)
        return;
    if (ftruncate(c->lock_fd, 0) != 0) {
        /* The next holder overwrites the pid; until then holder() sees that the lock is free. */
    }
    if (c->slot != NULL)
        c->slot(c, SLOT_LOCK, -1);
    /* Explicit, because close() may not unlock at once: the kernel may keep its own reference to
     * the description for some milliseconds. */
    flock(c->lock_fd, LOCK_UN);
    close(c->lock_fd);
    c->lock_fd = -1;
}

/* Takes a shared lock for about a microsecond, since flock() has no query. A writer that tries in
 * that microsecond is refused once; it retries for 250 ms, so that is harmless. */
int common_holder(struct seam *s) {
    KEEP_ERRNO;
    struct common *c = (struct common *)s;
    int fd = common_open_regular(c->dir, LOCK_NAME, O_RDONLY);
    if (fd < 0)
        return fd == -ENOENT ? 0 : fd;
    int result = 0;
    for (int i = 0; i < HOLDER_TRIES; i++) {
        int rc = try_lock(fd, LOCK_SH);
        if (rc != -EWOULDBLOCK) {
            result = rc; /* close() releases the lock */
            break;
        }
        result = read_pid(fd);
        if (result > 0)
            break;
        result = -EWOULDBLOCK; /* there is a writer, but it has not written its pid yet */
        common_sleep(s, RETRY_NS);
    }
    close(fd);
    return result;
}
