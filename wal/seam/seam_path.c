/* SPDX-License-Identifier: Apache-2.0
 *
 * seam_path.c - the way to the log's directory. Other users may have put symbolic links there: one
 * is followed only if root or our own user made it.
 */
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "wal/seam/seam_common.h"

#ifdef SYS_openat2
#include <linux/openat2.h>
#endif

#define NESTED_MAX 20 /* links in the targets of links */

/* Without a link on the way, the kernel answers in one call. -ELOOP: there is one. -ENOSYS: it
 * can't say. */
static int open_plain(const char *path) {
#ifdef SYS_openat2
    struct open_how how = {.flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
                           .resolve = RESOLVE_NO_SYMLINKS};
    int fd = (int)syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof how);
    return fd < 0 ? -errno : fd;
#else
    (void)path;
    return -ENOSYS;
#endif
}

static int walk(int at, char *path, int nested);

/* `link` is an open symbolic link in `at`. Opens what it leads to; -errno. */
static int follow(int at, int link, const struct stat *st, int nested) {
    if ((st->st_uid != 0 && st->st_uid != geteuid()) || nested == NESTED_MAX)
        return -ELOOP;
    char *target = malloc(PATH_MAX);
    if (target == NULL)
        return -ENOMEM;
    ssize_t n = readlinkat(link, "", target, PATH_MAX);
    int fd = n < 0 ? -errno : n == PATH_MAX ? -ENAMETOOLONG : n == 0 ? -ENOENT : 0;
    if (fd == 0) {
        target[n] = 0;
        fd = walk(at, target, nested + 1);
    }
    free(target);
    return fd;
}

/* Opens the part of a path in `dir`; -errno. */
static int open_part(int dir, const char *name, int nested) {
    struct stat st;
    int fd = openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    if (fstat(fd, &st) != 0) {
        int rc = -errno;
        close(fd);
        return rc;
    }
    if (!S_ISLNK(st.st_mode))
        return fd;
    int to = follow(dir, fd, &st, nested);
    close(fd);
    return to;
}

/* Opens a directory, part by part. Changes the path. -errno. */
static int walk(int at, char *path, int nested) {
    char *next = NULL;
    int fd = openat(at, path[0] == '/' ? "/" : ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    for (char *name = strtok_r(path, "/", &next); name != NULL && fd >= 0;
         name = strtok_r(NULL, "/", &next)) {
        int part = open_part(fd, name, nested);
        close(fd);
        fd = part;
    }
    return fd;
}

int common_parent(const char *path, size_t len) {
    char *above = malloc(len + 2);
    if (above == NULL)
        return -ENOMEM;
    memcpy(above, path, len);
    memcpy(above + len, len == 0 ? "." : "", len == 0 ? 2 : 1);
    int fd = open_plain(above);
    if (fd == -ELOOP || fd == -ENOSYS || fd == -EPERM) /* EPERM: a filter of system calls */
        fd = walk(AT_FDCWD, above, 0);
    free(above);
    return fd < 0 ? fd : common_fd_high(fd);
}
