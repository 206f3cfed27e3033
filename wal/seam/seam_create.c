/* SPDX-License-Identifier: Apache-2.0
 *
 * seam_create.c - opens the directory, and chooses between the backends and between direct and
 * buffered I/O.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pawl.h"
#include "wal/seam/seam_common.h"

/* Makes the directory's own name durable, even if the directory existed: the process that created
 * it may have crashed before the sync. */
static int sync_parent(int dir, bool made) {
    int fd = common_fd_high(openat(dir, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (fd < 0)
        return made ? fd : 0;
    int rc = fsync(fd) != 0 ? -errno : 0;
    close(fd);
    return made ? rc : 0;
}

/* Makes the directory if it isn't there, and opens it. With O_DIRECTORY | O_NOFOLLOW, Linux returns
 * ENOTDIR for a symbolic link. */
static int open_in(int parent, const char *name, bool create, bool *made) {
    struct stat st;
    *made = create && mkdirat(parent, name, 0700) == 0;
    if (create && !*made && errno != EEXIST)
        return -errno;
    int fd = common_fd_high(openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (fd == -ENOTDIR && fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
        S_ISLNK(st.st_mode))
        return -ELOOP;
    return fd;
}

static int open_dir(const char *path, bool create) {
    char *whole = strdup(path);
    if (whole == NULL)
        return -ENOMEM;
    size_t len = strlen(whole);
    for (; len > 1 && whole[len - 1] == '/'; len--)
        whole[len - 1] = 0; /* with a slash at its end, a link would be followed */
    const char *slash = strrchr(whole, '/'), *name = slash != NULL ? slash + 1 : whole;
    bool made = false;
    int parent = common_parent(whole, (size_t)(name - whole));
    int fd = parent < 0 ? parent : open_in(parent, name[0] != 0 ? name : ".", create, &made);
    if (parent >= 0)
        close(parent);
    free(whole);
    int rc = fd >= 0 && create ? sync_parent(fd, made) : 0;
    if (rc < 0) {
        close(fd);
        return rc;
    }
    return fd;
}

/* Tries one direct write to an unnamed file. If that isn't possible (read-only directory, no
 * O_TMPFILE, disk full), the test happens when each file is opened. */
static bool direct_works(int dir) {
    int fd = common_fd_high(openat(dir, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
    if (fd < 0)
        return true;
    void *block = NULL;
    bool works = true;
    if (fcntl(fd, F_SETFL, O_DIRECT) != 0) {
        works = errno != EINVAL;
    } else if (posix_memalign(&block, SEAM_BLOCK, SEAM_BLOCK) == 0) {
        memset(block, 0, SEAM_BLOCK);
        ssize_t n = pwrite(fd, block, SEAM_BLOCK, 0);
        /* EINVAL: the device's blocks are larger */
        works = n >= 0 || (errno != EINVAL && errno != EOPNOTSUPP);
    }
    free(block);
    close(fd);
    return works;
}

static int create_backend(const struct start *st, int backend, struct common **c) {
    char reason[96] = "";
    if (backend != PAWL_BACKEND_POSIX) {
        const char *why = "";
        int rc = uring_create(st, c, &why);
        if (rc == 0) {
            snprintf((*c)->seam.note, sizeof(*c)->seam.note, "io_uring");
            return 0;
        }
        if (backend == PAWL_BACKEND_URING)
            /* ENOMEM too: it mostly means that the ring exceeds RLIMIT_MEMLOCK (newer kernels
             * charge it) */
            return -EOPNOTSUPP;
        const char *text = strerrordesc_np(-rc);
        snprintf(reason, sizeof reason, ": %s: %s", why, text != NULL ? text : "unknown error");
    }
    int rc = posix_create(st, c);
    if (rc == 0)
        snprintf((*c)->seam.note, sizeof(*c)->seam.note, "posix%s", reason);
    return rc;
}

int seam_create(const char *dir, bool create, int backend, int direct, struct seam **out) {
    KEEP_ERRNO;
    *out = NULL;
    if (backend < PAWL_BACKEND_AUTO || backend > PAWL_BACKEND_POSIX || direct < PAWL_DIRECT_AUTO ||
        direct > PAWL_DIRECT_OFF)
        return -EINVAL;
    struct start st = {.dir = open_dir(dir, create), .direct_option = direct};
    if (st.dir < 0)
        return st.dir;
    st.direct = direct != PAWL_DIRECT_OFF && direct_works(st.dir);
    struct common *c = NULL;
    int rc =
        direct == PAWL_DIRECT_ON && !st.direct ? -EOPNOTSUPP : create_backend(&st, backend, &c);
    if (rc < 0) {
        close(st.dir);
        return rc;
    }
    if (direct == PAWL_DIRECT_AUTO && !st.direct) {
        size_t used = strlen(c->seam.note);
        snprintf(c->seam.note + used, sizeof c->seam.note - used, "; buffered: no O_DIRECT here");
    }
    *out = &c->seam;
    return 0;
}
