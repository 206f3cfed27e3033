/* SPDX-License-Identifier: Apache-2.0
 *
 * seam_lock.c - one writer (PAWL-10): flock() on the file `lock`, with the holder's pid as text in it.
 *
 * flock() and not fcntl(): it belongs to the open file description, so a second open in the same process is refused too, closing
 * some other descriptor of the file doesn't lose it, and the io_uring backend can hand the description to the kernel (its
 * slot hook), which keeps it, and the lock with it, until the last request of a killed writer has landed.
 * The file is never unlinked: two writers could each hold a lock on a file of that name.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

#include "wal/seam_common.h"

#define LOCK_NAME "lock"
#define RETRY_NS 2000000u
#define HOLDER_TRIES 5

static int try_lock(int fd, int how) {
    int rc;
    do
        rc = flock(fd, how | LOCK_NB);
    while (rc != 0 && errno == EINTR);
    return rc != 0 ? -errno : 0;
}

/* 0 if there is none, or not a whole one yet. */
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

/* The pid is a courtesy: if it can't be written the lock is as good. But no old pid may stay. */
static void write_pid(int fd) {
    char text[24];
    int len = snprintf(text, sizeof text, "%d\n", (int)getpid());
    ssize_t n = pwrite(fd, text, (size_t)len, 0);
    if (ftruncate(fd, n == len ? len : 0) != 0)
        return;
}

/* A `lock` that isn't a regular file is nothing to be waited for. O_NONBLOCK is for FIFOs. */
static int open_lock(int dir, int flags) {
    return common_fd_high(openat(dir, LOCK_NAME, flags | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0600));
}
