/* SPDX-License-Identifier: Apache-2.0 */
#include "wal/seam/seam_dirs.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "wal/seam/seam_common.h"

struct seam_above {
    int dir;
    char path[]; /* its last part is the name */
};

static bool same(const struct stat *a, const struct stat *b) {
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* The descriptor that fsync() and ".." want, from one that only has a place. */
static int real_dir(int place) {
    return common_fd_high(openat(place, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

int seam_above_open(const char *path, struct seam_above **out, const char **name) {
    KEEP_ERRNO;
    size_t len = strlen(path);
    *out = NULL;
    while (len > 1 && path[len - 1] == '/')
        len--;
    struct seam_above *a = malloc(sizeof *a + len + 1);
    if (a == NULL)
        return -ENOMEM;
    memcpy(a->path, path, len);
    a->path[len] = 0;
    char *slash = strrchr(a->path, '/');
    *name = slash != NULL ? slash + 1 : a->path;
    bool usable = **name != 0 && strcmp(*name, ".") != 0 && strcmp(*name, "..") != 0;
    int place = usable ? common_parent(a->path, (size_t)(*name - a->path)) : -EINVAL;
    a->dir = place < 0 ? place : real_dir(place);
    if (place >= 0)
        close(place);
    if (a->dir < 0) {
        int rc = a->dir;
        free(a);
        return rc;
    }
    *out = a;
    return 0;
}

void seam_above_close(struct seam_above *a) {
    KEEP_ERRNO;
    if (a == NULL)
        return;
    close(a->dir);
    free(a);
}

int seam_above_there(struct seam_above *a, const char *name) {
    KEEP_ERRNO;
    struct stat st;
    if (fstatat(a->dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
        return 1;
    return errno == ENOENT ? 0 : -errno;
}

int seam_above_make(struct seam_above *a, const char *name) {
    KEEP_ERRNO;
    return mkdirat(a->dir, name, 0700) != 0 ? -errno : 0;
}

int seam_above_remove(struct seam_above *a, const char *name) {
    KEEP_ERRNO;
    return unlinkat(a->dir, name, AT_REMOVEDIR) != 0 ? -errno : 0;
}

int seam_above_rename(struct seam_above *a, const char *from, const char *to) {
    KEEP_ERRNO;
    int rc = common_rename_in(a->dir, from, to);
    return rc < 0 ? rc : common_sync_fd(a->dir);
}

int seam_above_enter(struct seam_above *a, const char *name, struct seam **out) {
    KEEP_ERRNO;
    *out = NULL;
    int dir = common_fd_high(openat(a->dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (dir < 0)
        return dir;
    struct start st = {.dir = dir, .direct_option = PAWL_DIRECT_OFF, .direct = false};
    struct common *c;
    int rc = posix_create(&st, &c);
    if (rc < 0) {
        close(dir);
        return rc;
    }
    *out = &c->seam;
    return 0;
}

int seam_above_within(struct seam_above *a, struct seam *s) {
    KEEP_ERRNO;
    struct stat log, here, above;
    if (fstat(((struct common *)s)->dir, &log) != 0 || fstat(a->dir, &here) != 0)
        return -errno;
    int dir = real_dir(a->dir), rc = dir < 0 ? dir : 0;
    while (rc == 0) {
        if (same(&here, &log)) {
            rc = 1;
            break;
        }
        int up = common_fd_high(openat(dir, "..", O_PATH | O_DIRECTORY | O_CLOEXEC));
        close(dir);
        dir = up;
        if (up < 0)
            return up;
        if (fstat(up, &above) != 0)
            rc = -errno;
        else if (same(&above, &here)) /* the root */
            break;
        here = above;
    }
    if (dir >= 0)
        close(dir);
    return rc;
}

int seam_above_is(struct seam_above *a, const char *name, struct seam *s) {
    KEEP_ERRNO;
    struct stat named, its;
    if (fstat(((struct common *)s)->dir, &its) != 0)
        return -errno;
    if (fstatat(a->dir, name, &named, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT ? 0 : -errno;
    return same(&named, &its);
}

int common_link(struct seam *s, const char *name, struct seam *to) {
    KEEP_ERRNO;
    return linkat(((struct common *)s)->dir, name, ((struct common *)to)->dir, name, 0) != 0
               ? -errno
               : 0;
}

int seam_claim(struct seam *s, const char *name) {
    KEEP_ERRNO;
    int dir = ((struct common *)s)->dir;
    struct stat st = {0}, named = {0};
    int fd = common_open_regular(dir, name, O_RDWR);
    if (fd < 0)
        return fd;
    int rc;
    do
        rc = flock(fd, LOCK_EX | LOCK_NB);
    while (rc != 0 && errno == EINTR);
    rc = rc != 0 ? -errno : 0;
    if (rc == 0 && (fstat(fd, &st) != 0 || fstatat(dir, name, &named, AT_SYMLINK_NOFOLLOW) != 0))
        rc = -errno;
    if (rc == 0 && !same(&st, &named))
        rc = -ENOENT;
    if (rc < 0) {
        close(fd);
        return rc;
    }
    return fd;
}

void seam_claim_end(int claim) {
    KEEP_ERRNO;
    if (claim >= 0)
        close(claim);
}
