/* SPDX-License-Identifier: Apache-2.0 */
#include "wal/seam/seam_common.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>

#include "pawl.h"

#define NS_PER_S 1000000000u
#define IO_MAX 0x7ffff000u /* the most that Linux transfers in one call; block-aligned */

_Static_assert(sizeof(off_t) == 8, "segments are up to 4 GiB: compile with -D_FILE_OFFSET_BITS=64");
_Static_assert(IO_MAX % SEAM_BLOCK == 0, "continued direct I/O must stay aligned");

static struct common *self(struct seam *s) {
    return (struct common *)s;
}

int common_init(struct common *c, const struct start *st) {
    int rc = pthread_mutex_init(&c->mutex, NULL);
    if (rc != 0)
        return -rc;
    c->seam.direct = st->direct;
    c->seam.zeros = true;
    c->direct = st->direct_option;
    c->dir = st->dir;
    c->lock_fd = -1;
    for (int i = 0; i < SEAM_FILES_MAX; i++)
        atomic_init(&c->fd[i], FD_FREE);
    return 0;
}

void common_end(struct common *c) {
    for (int i = 0; i < SEAM_FILES_MAX; i++)
        common_close(&c->seam, i);
    /* Last: no other process may get the lock while this one still has a file open for writing. */
    common_unlock(&c->seam);
    close(c->dir);
    pthread_mutex_destroy(&c->mutex);
}

/* ---------------------------------------------------------------- descriptors */

int common_fd_high(int fd) {
    if (fd < 0)
        return -errno;
    if (fd > 2)
        return fd;
    int high = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    int rc = high < 0 ? -errno : high;
    close(fd);
    return rc;
}

int common_fd(struct common *c, int file) {
    if (file < 0 || file >= SEAM_FILES_MAX)
        return -EBADF;
    int fd = atomic_load_explicit(&c->fd[file], memory_order_acquire);
    return fd < 0 ? -EBADF : fd;
}

/* O_NOFOLLOW applies only to the last component, so a name must have just one. */
static bool name_ok(const char *name) {
    return name[0] != 0 && strchr(name, '/') == NULL && strcmp(name, ".") != 0 &&
           strcmp(name, "..") != 0;
}

/* How the kernel shows all users that this user namespace doesn't have: two of them may be two. */
#define UNKNOWN_USER 65534u

static int kind_error(const struct stat *st) {
    return S_ISREG(st->st_mode) ? 0 : S_ISDIR(st->st_mode) ? -EISDIR : -EINVAL;
}

/* May the file be written to? Others may have put it into a directory that they can write to, or
 * that they have handed over: as a second name of a file of ours, or as one of theirs, whose lock
 * they hold for ever. Where only our user can write, a second name is a copy that somebody
 * keeps. */
static int is_ours(int dir, const struct stat *st) {
    struct stat place;
    if (fstat(dir, &place) != 0)
        return -errno;
    bool only_us = place.st_uid == geteuid() && (place.st_mode & (S_IWGRP | S_IWOTH)) == 0;
    if (st->st_uid != 0 && st->st_uid != geteuid() &&
        (st->st_uid != place.st_uid || st->st_uid == UNKNOWN_USER))
        return -EPERM;
    return st->st_nlink > 1 && !only_us ? -EMLINK : 0;
}

int common_open_regular(int dir, const char *name, int flags) {
    struct stat st;
    if (!name_ok(name))
        return -EINVAL;
    /* a device may do something when it is opened; a link is left to open(), which refuses it */
    if ((flags & O_EXCL) == 0 && fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
        !S_ISLNK(st.st_mode) && kind_error(&st) != 0)
        return kind_error(&st);
    int fd;
    do /* O_NONBLOCK: a FIFO under this name must not hang us */
        fd = openat(dir, name, flags | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0600);
    while (fd < 0 && errno == EINTR);
    fd = common_fd_high(fd);
    if (fd < 0)
        return fd;
    int rc = fstat(fd, &st) != 0 ? -errno : kind_error(&st);
    if (rc == 0 && (flags & O_ACCMODE) != O_RDONLY)
        rc = is_ours(dir, &st);
    /* with O_NONBLOCK io_uring would return -EAGAIN instead of waiting */
    if (rc == 0 && fcntl(fd, F_SETFL, 0) != 0)
        rc = -errno;
    if (rc == 0)
        return fd;
    close(fd);
    return rc;
}

/* Direct I/O is switched on after the open, because some file systems create the file before they
 * refuse O_DIRECT. */
static int make_direct(struct common *c, int fd, bool *direct) {
    if (fcntl(fd, F_SETFL, O_DIRECT) == 0) {
        *direct = true;
        return 0;
    }
    if (errno != EINVAL)
        return -errno;
    return c->direct == PAWL_DIRECT_ON ? -EOPNOTSUPP : 0;
}

static int take_handle(struct common *c) {
    int file = -EMFILE;
    pthread_mutex_lock(&c->mutex);
    for (int i = 0; i < SEAM_FILES_MAX && file < 0; i++)
        if (atomic_load_explicit(&c->fd[i], memory_order_relaxed) == FD_FREE) {
            atomic_store_explicit(&c->fd[i], FD_TAKEN, memory_order_relaxed);
            file = i;
        }
    pthread_mutex_unlock(&c->mutex);
    return file;
}

static void set_handle(struct common *c, int file, int fd) {
    pthread_mutex_lock(&c->mutex);
    atomic_store_explicit(&c->fd[file], fd, memory_order_release);
    pthread_mutex_unlock(&c->mutex);
}

int common_open(struct seam *s, const char *name, uint32_t flags) {
    KEEP_ERRNO;
    struct common *c = self(s);
    int file = take_handle(c);
    if (file < 0)
        return file;
    int how = (flags & (SEAM_RDWR | SEAM_CREATE)) != 0 ? O_RDWR : O_RDONLY;
    int fd = common_open_regular(c->dir, name,
                                 how | ((flags & SEAM_CREATE) != 0 ? O_CREAT | O_EXCL : 0));
    bool direct = false;
    int rc = fd < 0 ? fd : 0;
    if (rc == 0 && s->direct && (flags & SEAM_BUFFERED) == 0) {
        rc = make_direct(c, fd, &direct);
        if (rc < 0) {
            close(fd);
            if ((flags & SEAM_CREATE) != 0)
                unlinkat(c->dir, name, 0);
        }
    }
    if (rc < 0) {
        set_handle(c, file, FD_FREE);
        return rc;
    }
    c->file_direct[file] = direct;
    if (c->slot != NULL)
        c->slot(c, file, fd);
    set_handle(c, file, fd);
    return file;
}

void common_close(struct seam *s, int file) {
    KEEP_ERRNO;
    struct common *c = self(s);
    int fd = common_fd(c, file);
    if (fd < 0)
        return;
    if (c->slot != NULL)
        c->slot(c, file, -1);
    close(fd);
    set_handle(c, file, FD_FREE); /* last: no other thread can get the slot before this */
}

/* ---------------------------------------------------------------- directory */

int common_list(struct seam *s, int (*fn)(void *arg, const char *name), void *arg) {
    KEEP_ERRNO;
    /* A new file description: a dup() would share its position with other threads that list. */
    int fd = common_fd_high(openat(self(s)->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (fd < 0)
        return fd;
    DIR *d = fdopendir(fd);
    if (d == NULL) {
        int rc = -errno;
        close(fd);
        return rc;
    }
    int rc = 0;
    while (rc == 0) {
        errno = 0; /* only errno distinguishes an error of readdir() from the end */
        const struct dirent *e = readdir(d);
        if (e == NULL) {
            rc = -errno;
            break;
        }
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            rc = fn(arg, e->d_name);
    }
    closedir(d);
    return rc;
}

int common_rename_in(int dir, const char *from, const char *to) {
    struct stat st;
    if (!name_ok(from) || !name_ok(to))
        return -EINVAL;
    if (renameat2(dir, from, dir, to, RENAME_NOREPLACE) == 0)
        return 0;
    if (errno != EINVAL && errno != ENOSYS)
        return -errno;
    /* This file system can't rename so. Only those who may write to the directory could put
     * something there between the two calls. */
    if (fstatat(dir, to, &st, AT_SYMLINK_NOFOLLOW) == 0)
        return -EEXIST;
    return errno != ENOENT || renameat(dir, from, dir, to) != 0 ? -errno : 0;
}

int common_rename(struct seam *s, const char *from, const char *to) {
    KEEP_ERRNO;
    return common_rename_in(self(s)->dir, from, to);
}

int common_replace(struct seam *s, const char *from, const char *to) {
    KEEP_ERRNO;
    int dir = self(s)->dir;
    if (!name_ok(from) || !name_ok(to))
        return -EINVAL;
    return renameat(dir, from, dir, to) != 0 ? -errno : 0;
}

int common_unlink(struct seam *s, const char *name) {
    KEEP_ERRNO;
    if (!name_ok(name))
        return -EINVAL;
    return unlinkat(self(s)->dir, name, 0) != 0 ? -errno : 0;
}

static int sync_fd(int fd, int (*how)(int)) {
    int rc;
    /* EINTR means "not done", not a failed write-back: the only error that may be retried
     * (PAWL-7) */
    do
        rc = how(fd);
    while (rc != 0 && errno == EINTR);
    return rc != 0 ? -errno : 0;
}

int common_sync_fd(int fd) {
    return sync_fd(fd, fsync);
}

int common_sync_dir(struct seam *s) {
    KEEP_ERRNO;
    return common_sync_fd(self(s)->dir);
}

/* ---------------------------------------------------------------- blocking file I/O */

int common_size(struct seam *s, int file, uint64_t *size) {
    KEEP_ERRNO;
    int fd = common_fd(self(s), file);
    struct stat st;
    if (fd < 0)
        return fd;
    if (fstat(fd, &st) != 0)
        return -errno;
    *size = (uint64_t)st.st_size;
    return 0;
}

int common_names(struct seam *s, int file) {
    KEEP_ERRNO;
    int fd = common_fd(self(s), file);
    struct stat st;
    if (fd < 0)
        return fd;
    return fstat(fd, &st) != 0 ? -errno : (int)st.st_nlink;
}

int common_place(struct seam *s, int file, struct seam_place *out) {
    KEEP_ERRNO;
    int fd = common_fd(self(s), file);
    struct statx st;
    if (fd < 0)
        return fd;
    /* what the kernel has, even if the file system is far away */
    if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_INO | STATX_BTIME, &st) != 0)
        return -errno;
    bool born = (st.stx_mask & STATX_BTIME) != 0;
    *out = (struct seam_place){
        st.stx_ino, born ? common_time_ns(st.stx_btime.tv_sec, st.stx_btime.tv_nsec) : 0};
    return 0;
}

int common_allocate(struct seam *s, int file, uint64_t size) {
    KEEP_ERRNO;
    int fd = common_fd(self(s), file);
    if (fd < 0)
        return fd;
    if (size > INT64_MAX)
        return -EFBIG;
    int rc = -1;
    errno = EINVAL; /* the kernel refuses a fallocate() of 0 bytes */
    if (size != 0)
        do
            rc = fallocate(fd, 0, 0, (off_t)size);
        while (rc != 0 && errno == EINTR);
    if (rc != 0 && errno != EOPNOTSUPP && errno != EINVAL && errno != ENOSYS)
        return -errno;
    int unreserved = rc != 0 && size != 0;
    struct stat st;
    if (fstat(fd, &st) != 0)
        return -errno;
    if (st.st_size == (off_t)size) /* fallocate() extends a file but never truncates it */
        return unreserved;
    do
        rc = ftruncate(fd, (off_t)size);
    while (rc != 0 && errno == EINTR);
    return rc != 0 ? -errno : unreserved;
}

int common_written(struct seam *s, int file, uint64_t *bytes) {
    KEEP_ERRNO;
    int fd = common_fd(self(s), file);
    if (fd < 0)
        return fd;
    off_t at = lseek(fd, 0, SEEK_HOLE);
    *bytes = at < 0 ? UINT64_MAX : (uint64_t)at;
    return 0;
}

int64_t common_read(struct seam *s, int file, void *data, size_t len, uint64_t offset) {
    KEEP_ERRNO;
    struct common *c = self(s);
    int fd = common_fd(c, file);
    if (fd < 0)
        return fd;
    size_t done = 0;
    while (done < len) {
        size_t want = len - done < IO_MAX ? len - done : IO_MAX;
        ssize_t n = pread(fd, (char *)data + done, want, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        done += (size_t)n;
        /* A direct read that ends inside a block has reached the end of the file; it could not
         * continue at that offset anyway. */
        if (n == 0 || (c->file_direct[file] && (size_t)n % SEAM_BLOCK != 0))
            break;
    }
    return (int64_t)done;
}

int64_t common_write(struct seam *s, int file, const void *data, size_t len, uint64_t offset) {
    KEEP_ERRNO;
    struct common *c = self(s);
    int fd = common_fd(c, file);
    if (fd < 0)
        return fd;
    size_t done = 0;
    while (done < len) {
        size_t want = len - done < IO_MAX ? len - done : IO_MAX;
        ssize_t n = pwrite(fd, (const char *)data + done, want, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        size_t whole = (size_t)n;
        /* direct I/O can continue only at a block's start, so a partly written block is written
         * again */
        if (c->file_direct[file])
            whole -= whole % SEAM_BLOCK;
        /* only a full disk, a quota or a limit cuts the first block short; a retry would fail the
         * same way */
        if (whole == 0)
            return -ENOSPC;
        done += whole;
    }
    return (int64_t)done;
}

int common_sync(struct seam *s, int file) {
    KEEP_ERRNO;
    int fd = common_fd(self(s), file);
    return fd < 0 ? fd : sync_fd(fd, fdatasync);
}

void common_drop_cache(struct seam *s, int file) {
    KEEP_ERRNO;
    struct common *c = self(s);
    int fd = common_fd(c, file);
    if (fd >= 0 && !c->file_direct[file])
        posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
}

/* ---------------------------------------------------------------- time, random bytes, space */

/* Within 0 and INT64_MAX, since records have their time as an int64_t: a clock that was set before
 * 1970 or after 2262 says the nearest time that there is. */
static uint64_t clock_ns(clockid_t id) {
    struct timespec t = {0};
    clock_gettime(id, &t);
    return common_time_ns(t.tv_sec, t.tv_nsec);
}

uint64_t common_now(struct seam *s) {
    (void)s;
    KEEP_ERRNO;
    return clock_ns(CLOCK_MONOTONIC);
}

uint64_t common_realtime(struct seam *s) {
    (void)s;
    KEEP_ERRNO;
    return clock_ns(CLOCK_REALTIME);
}

/* 128 random bits as text, of which 64 are enough. */
static uint64_t boot_id(void) {
    char text[40] = "";
    uint64_t id = 0;
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    for (ssize_t i = 0; i < n; i++) {
        char c = text[i];
        if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'))
            id = id * 31 + (uint64_t)(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    return id;
}

void common_clocks(struct seam *s, struct seam_clock *out) {
    static _Atomic uint64_t id; /* the same for the life of a process */
    struct timex t = {0};
    (void)s;
    KEEP_ERRNO;
    if (atomic_load(&id) == 0)
        atomic_store(&id, boot_id());
    int state = adjtimex(&t);
    *out = (struct seam_clock){.wall_ns = clock_ns(CLOCK_REALTIME),
                               .boot_ns = clock_ns(CLOCK_BOOTTIME),
                               .boot_id = atomic_load(&id),
                               .network = state >= 0 && state != TIME_ERROR &&
                                          (t.status & STA_UNSYNC) == 0};
}

void common_sleep(struct seam *s, uint64_t ns) {
    (void)s;
    KEEP_ERRNO;
    struct timespec left = {.tv_sec = (time_t)(ns / NS_PER_S), .tv_nsec = (long)(ns % NS_PER_S)};
    while (nanosleep(&left, &left) != 0 && errno == EINTR) {
    }
}

int common_random(struct seam *s, void *data, size_t len) {
    (void)s;
    KEEP_ERRNO;
    size_t done = 0;
    while (done < len) {
        ssize_t n = getrandom((char *)data + done, len - done, 0);
        if (n < 0 && errno != EINTR)
            return -errno;
        if (n > 0)
            done += (size_t)n;
    }
    return 0;
}

int common_free_space(struct seam *s, uint64_t *bytes) {
    KEEP_ERRNO;
    struct statvfs v;
    int rc;
    do
        rc = fstatvfs(self(s)->dir, &v);
    while (rc != 0 && errno == EINTR);
    if (rc != 0)
        return -errno;
    *bytes = (uint64_t)v.f_bavail * v.f_frsize;
    return 0;
}
