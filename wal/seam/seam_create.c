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

/* With O_DIRECTORY | O_NOFOLLOW, Linux returns ENOTDIR for a symbolic link, but follows the link if
 * the name ends in a slash. */
static int open_dir(const char *path, bool create) {
    char *name = strdup(path);
    if (name == NULL)
        return -ENOMEM;
    for (size_t len = strlen(name); len > 1 && name[len - 1] == '/'; len--)
        name[len - 1] = 0;
    bool made = create && mkdir(name, 0700) == 0;
    int fd = 0;
    if (create && !made && errno != EEXIST)
        fd = -errno;
    if (fd == 0)
        fd = common_fd_high(open(name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    struct stat st;
    if (fd == -ENOTDIR && lstat(name, &st) == 0 && S_ISLNK(st.st_mode))
        fd = -ELOOP;
    free(name);
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
