/* SPDX-License-Identifier: Apache-2.0
 *
 * A library to be loaded before the C library's (LD_PRELOAD). It counts the calls with which a
 * process touches the world outside its log, and makes one of them fail. It leaves alone what the
 * log itself does: that has tests of its own (every_call, the simulator).
 *
 *   FAULTS_UNDER=DIR   files below DIR count, and so do sockets, pipes and descriptors of no file
 *   FAULTS_EXEMPT=DIR  but not files below this directory (the log)
 *   FAULTS_AT=N        the call with this number fails (from 1); 0 or unset: none, count only
 *   FAULTS_CHOICE=K    the K-th way in which such a call can fail, modulo their number
 *   FAULTS_FOR=M       calls of the same function go on failing until M of them did; unset: 1
 *   FAULTS_LOG=FILE    gets a line for each call that failed, and the number of calls at the end
 *
 * Children of the process run without it.
 */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define FDS 4096

/* ---- what counts */

static char under[PATH_MAX], exempt[PATH_MAX], report[PATH_MAX];
static unsigned long fail_at, choice;
static atomic_long left_to_fail;
static atomic_ulong calls;
static const char *volatile failing; /* the function that goes on failing */
static atomic_uchar counts[FDS];     /* 1: calls on this descriptor count */
static bool active;

static bool below(const char *path, const char *dir) {
    size_t n = strlen(dir);
    return n != 0 && strncmp(path, dir, n) == 0 && (path[n] == '/' || path[n] == 0);
}

/* The path that a call means, without resolving its last part. False: it can't be known. */
static bool full_path(int dir_fd, const char *path, char out[PATH_MAX * 2]) {
    char link[40], base[PATH_MAX];
    if (path[0] == '/') {
        snprintf(out, PATH_MAX * 2, "%s", path);
    } else {
        snprintf(link, sizeof link, dir_fd == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d",
                 dir_fd);
        ssize_t n = syscall(SYS_readlinkat, AT_FDCWD, link, base, sizeof base - 1);
        if (n <= 0)
            return false;
        base[n] = 0;
        snprintf(out, PATH_MAX * 2, "%s/%s", base, path);
    }
    static const char self[] = "/proc/self/fd/"; /* a directory named by its descriptor */
    if (strncmp(out, self, sizeof self - 1) == 0) {
        char *rest = strchr(out + sizeof self - 1, '/'), tail[PATH_MAX];
        snprintf(tail, sizeof tail, "%s", rest != NULL ? rest : "");
        if (rest != NULL)
            *rest = 0;
        ssize_t n = syscall(SYS_readlinkat, AT_FDCWD, out, base, sizeof base - 1);
        if (n <= 0)
            return false;
        base[n] = 0;
        snprintf(out, PATH_MAX * 2, "%s%s", base, tail);
    }
    return true;
}

static bool path_counts(int dir_fd, const char *path) {
    char full[PATH_MAX * 2];
    int saved = errno;
    bool yes = active && path != NULL && full_path(dir_fd, path, full) && below(full, under) &&
               !(exempt[0] != 0 && below(full, exempt));
    errno = saved;
    return yes;
}

static bool fd_counts(int fd) {
    return active && fd >= 0 && fd < FDS && atomic_load(&counts[fd]) != 0;
}

static int opened(int fd, bool yes) {
    if (fd >= 0 && fd < FDS)
        atomic_store(&counts[fd], yes);
    return fd;
}

/* ---- who fails */

static void say(const char *format, ...) {
    char line[256];
    va_list args;
    int saved = errno;
    va_start(args, format);
    int n = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (report[0] == 0)
        return;
    int fd =
        (int)syscall(SYS_openat, AT_FDCWD, report, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (fd >= 0) {
        (void)!syscall(SYS_write, fd, line, n);
        syscall(SYS_close, fd);
    }
    errno = saved;
}

static const struct way {
    const char *name;
    int errors[6]; /* ended by 0; SHORT: less than asked for */
} ways[] = {
#define SHORT (-1)
    {"open", {EMFILE, EACCES, EIO, ENFILE, ESTALE, ENOMEM}},
    {"opendir", {EMFILE, EACCES, EIO, ENOMEM}},
    {"read", {EIO, EINTR, SHORT, ESTALE}},
    {"write", {ENOSPC, EIO, SHORT, EINTR, EDQUOT, EFBIG}},
    {"sync", {EIO, ENOSPC}},
    {"resize", {EIO, ENOSPC, EINTR}},
    {"name", {EIO, ENOSPC, EACCES, EROFS}},
    {"remove", {EIO, EACCES, EROFS}},
    {"look", {EIO, EACCES, ESTALE, ENOMEM}},
    {"list", {EIO}},
    {"lock", {EIO, ENOLCK, EINTR}},
    {"close", {EIO, EINTR}},
    {"socket", {EMFILE, ENFILE, ENOMEM, ENOBUFS}},
    {"bind", {EADDRINUSE, EACCES, ENOMEM}},
    {"accept", {EMFILE, ECONNABORTED, EINTR, ENFILE, ENOMEM, EPERM}},
    {"receive", {ECONNRESET, EINTR, EAGAIN, ENOMEM, SHORT, ETIMEDOUT}},
    {"send", {ECONNRESET, EPIPE, EINTR, ENOMEM, SHORT, ENOBUFS}},
    {"option", {ENOMEM}},
    {"pipe", {EMFILE, ENFILE}},
    {"fork", {EAGAIN, ENOMEM}},
    {"wait", {EINTR}},
    {"poll", {EINTR, ENOMEM}},
    {"watch", {ENOSPC, EMFILE, ENOMEM}},
};

/* The error with which this call fails; 0: it doesn't. */
static int fails(const char *way, const char *function) {
    unsigned long n = atomic_fetch_add(&calls, 1) + 1;
    bool more = failing != NULL && strcmp(failing, function) == 0;
    if (n != fail_at && !more)
        return 0;
    if (atomic_fetch_sub(&left_to_fail, 1) <= 0)
        return 0;
    failing = function;
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        unsigned many = 0;
        if (strcmp(ways[i].name, way) != 0)
            continue;
        while (many < 6 && ways[i].errors[many] != 0)
            many++;
        int e = ways[i].errors[choice % many];
        say("%s: call %lu failed: %s\n", function, n, e == SHORT ? "short" : strerrorname_np(e));
        return e;
    }
    abort();
}

/* The C library's own function. (ISO C has no cast from a data pointer to a function.) */
#define NEXT(name) \
    static __typeof__(&name) next; \
    if (next == NULL) { \
        void *found = dlsym(RTLD_NEXT, #name); \
        memcpy(&next, &found, sizeof next); \
    }
#define FAIL(condition, way, name) \
    do { \
        int e = (condition) ? fails(way, #name) : 0; \
        if (e > 0) { \
            errno = e; \
            return -1; \
        } \
    } while (0)
/* the same for a call with a size, which may be cut short */
#define FAIL_SIZE(condition, way, name, size) \
    do { \
        int e = (condition) ? fails(way, #name) : 0; \
        if (e > 0) { \
            errno = e; \
            return -1; \
        } \
        if (e == SHORT && (size) > 1) \
            (size) /= 2; \
    } while (0)

__attribute__((constructor)) static void begin(void) {
    const char *s = getenv("FAULTS_UNDER");
    if (s == NULL)
        return;
    snprintf(under, sizeof under, "%s", s);
    s = getenv("FAULTS_EXEMPT");
    snprintf(exempt, sizeof exempt, "%s", s != NULL ? s : "");
    s = getenv("FAULTS_LOG");
    snprintf(report, sizeof report, "%s", s != NULL ? s : "");
    s = getenv("FAULTS_AT");
    fail_at = s != NULL ? strtoul(s, NULL, 10) : 0;
    s = getenv("FAULTS_CHOICE");
    choice = s != NULL ? strtoul(s, NULL, 10) : 0;
    s = getenv("FAULTS_FOR");
    atomic_store(&left_to_fail, s != NULL ? strtol(s, NULL, 10) : 1);
    unsetenv("LD_PRELOAD");
    unsetenv("FAULTS_UNDER");
    active = true;
}

__attribute__((destructor)) static void end(void) {
    if (active)
        say("calls %lu\n", atomic_load(&calls));
}

/* ---- files */

#define OPEN(name) \
    EXPORT int name(const char *path, int flags, ...) { \
        va_list args; \
        va_start(args, flags); \
        mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(args, mode_t) : 0; \
        va_end(args); \
        NEXT(name); \
        bool yes = path_counts(AT_FDCWD, path); \
        FAIL(yes, "open", name); \
        return opened(next(path, flags, mode), yes); \
    }
OPEN(open)
OPEN(open64)
#define OPENAT(name) \
    EXPORT int name(int dir, const char *path, int flags, ...) { \
        va_list args; \
        va_start(args, flags); \
        mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(args, mode_t) : 0; \
        va_end(args); \
        NEXT(name); \
        bool yes = path_counts(dir, path); \
        FAIL(yes, "open", name); \
        return opened(next(dir, path, flags, mode), yes); \
    }
OPENAT(openat)
OPENAT(openat64)

EXPORT DIR *opendir(const char *path) {
    NEXT(opendir);
    int e = path_counts(AT_FDCWD, path) ? fails("opendir", "opendir") : 0;
    if (e > 0) {
        errno = e;
        return NULL;
    }
    return next(path);
}

#define READDIR(type, name) \
    EXPORT type *name(DIR *d) { \
        NEXT(name); \
        int e = active && fd_counts(dirfd(d)) ? fails("list", #name) : 0; \
        if (e > 0) { \
            errno = e; \
            return NULL; \
        } \
        return next(d); \
    }
READDIR(struct dirent, readdir)
READDIR(struct dirent64, readdir64)

EXPORT ssize_t read(int fd, void *buf, size_t size) {
    NEXT(read);
    FAIL_SIZE(fd_counts(fd), "read", read, size);
    return next(fd, buf, size);
}
/* What read() and poll() become where the compiler knows the size of the buffer. */
EXPORT ssize_t __read_chk(int fd, void *buf, size_t size, size_t room);
EXPORT ssize_t __read_chk(int fd, void *buf, size_t size, size_t room) {
    if (size > room)
        abort();
    return read(fd, buf, size);
}
#define PREAD(name, offset_type) \
    EXPORT ssize_t name(int fd, void *buf, size_t size, offset_type at) { \
        NEXT(name); \
        FAIL_SIZE(fd_counts(fd), "read", name, size); \
        return next(fd, buf, size, at); \
    }
PREAD(pread, off_t)
PREAD(pread64, off64_t)
EXPORT ssize_t write(int fd, const void *buf, size_t size) {
    NEXT(write);
    FAIL_SIZE(fd_counts(fd), "write", write, size);
    return next(fd, buf, size);
}
#define PWRITE(name, offset_type) \
    EXPORT ssize_t name(int fd, const void *buf, size_t size, offset_type at) { \
        NEXT(name); \
        FAIL_SIZE(fd_counts(fd), "write", name, size); \
        return next(fd, buf, size, at); \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)
EXPORT ssize_t writev(int fd, const struct iovec *v, int n) {
    NEXT(writev);
    FAIL_SIZE(fd_counts(fd), "write", writev, n);
    return next(fd, v, n);
}
#define PWRITEV2(name, offset_type) \
    EXPORT ssize_t name(int fd, const struct iovec *v, int n, offset_type at, int flags) { \
        NEXT(name); \
        FAIL_SIZE(fd_counts(fd), "write", name, n); \
        return next(fd, v, n, at, flags); \
    }
PWRITEV2(pwritev2, off_t)
PWRITEV2(pwritev64v2, off64_t)
#define ON_FD(name, way) \
    EXPORT int name(int fd) { \
        NEXT(name); \
        FAIL(fd_counts(fd), way, name); \
        return next(fd); \
    }
ON_FD(fsync, "sync")
ON_FD(fdatasync, "sync")
#define RESIZE(name, offset_type) \
    EXPORT int name(int fd, offset_type size) { \
        NEXT(name); \
        FAIL(fd_counts(fd), "resize", name); \
        return next(fd, size); \
    }
RESIZE(ftruncate, off_t)
RESIZE(ftruncate64, off64_t)
#define FALLOCATE(name, offset_type) \
    EXPORT int name(int fd, int mode, offset_type at, offset_type size) { \
        NEXT(name); \
        FAIL(fd_counts(fd), "resize", name); \
        return next(fd, mode, at, size); \
    }
FALLOCATE(fallocate, off_t)
FALLOCATE(fallocate64, off64_t)

EXPORT int close(int fd) { /* it fails, and the descriptor is closed all the same */
    NEXT(close);
    int e = fd_counts(fd) ? fails("close", "close") : 0;
    opened(fd, false);
    int rc = next(fd);
    if (e > 0) {
        errno = e;
        return -1;
    }
    return rc;
}

/* ---- names */

EXPORT int rename(const char *from, const char *to) {
    NEXT(rename);
    FAIL(path_counts(AT_FDCWD, from), "name", rename);
    return next(from, to);
}
EXPORT int renameat(int a, const char *from, int b, const char *to) {
    NEXT(renameat);
    FAIL(path_counts(a, from), "name", renameat);
    return next(a, from, b, to);
}
EXPORT int renameat2(int a, const char *from, int b, const char *to, unsigned flags) {
    NEXT(renameat2);
    FAIL(path_counts(a, from), "name", renameat2);
    return next(a, from, b, to, flags);
}
EXPORT int linkat(int a, const char *from, int b, const char *to, int flags) {
    NEXT(linkat);
    FAIL(path_counts(b, to), "name", linkat);
    return next(a, from, b, to, flags);
}
EXPORT int link(const char *from, const char *to) {
    NEXT(link);
    FAIL(path_counts(AT_FDCWD, to), "name", link);
    return next(from, to);
}
EXPORT int mkdir(const char *path, mode_t mode) {
    NEXT(mkdir);
    FAIL(path_counts(AT_FDCWD, path), "name", mkdir);
    return next(path, mode);
}
EXPORT int mkdirat(int dir, const char *path, mode_t mode) {
    NEXT(mkdirat);
    FAIL(path_counts(dir, path), "name", mkdirat);
    return next(dir, path, mode);
}
EXPORT int unlink(const char *path) {
    NEXT(unlink);
    FAIL(path_counts(AT_FDCWD, path), "remove", unlink);
    return next(path);
}
EXPORT int unlinkat(int dir, const char *path, int flags) {
    NEXT(unlinkat);
    FAIL(path_counts(dir, path), "remove", unlinkat);
    return next(dir, path, flags);
}
#define STAT(name, type) \
    EXPORT int name(const char *path, struct type *out) { \
        NEXT(name); \
        FAIL(path_counts(AT_FDCWD, path), "look", name); \
        return next(path, out); \
    }
STAT(stat, stat)
STAT(stat64, stat64)
STAT(lstat, stat)
STAT(lstat64, stat64)
#define FSTAT(name, type) \
    EXPORT int name(int fd, struct type *out) { \
        NEXT(name); \
        FAIL(fd_counts(fd), "look", name); \
        return next(fd, out); \
    }
FSTAT(fstat, stat)
FSTAT(fstat64, stat64)
#define FSTATAT(name, type) \
    EXPORT int name(int dir, const char *path, struct type *out, int flags) { \
        NEXT(name); \
        FAIL(path_counts(dir, path), "look", name); \
        return next(dir, path, out, flags); \
    }
FSTATAT(fstatat, stat)
FSTATAT(fstatat64, stat64)
EXPORT int flock(int fd, int operation) {
    NEXT(flock);
    FAIL(fd_counts(fd), "lock", flock);
    return next(fd, operation);
}

/* ---- sockets, pipes, programs: all of them count */

EXPORT int socket(int domain, int type, int protocol) {
    NEXT(socket);
    FAIL(active, "socket", socket);
    return next(domain, type, protocol);
}
EXPORT int bind(int fd, __CONST_SOCKADDR_ARG a, socklen_t len) {
    NEXT(bind);
    FAIL(active, "bind", bind);
    return next(fd, a, len);
}
EXPORT int listen(int fd, int backlog) {
    NEXT(listen);
    FAIL(active, "bind", listen);
    return next(fd, backlog);
}
EXPORT int accept4(int fd, __SOCKADDR_ARG a, socklen_t *len, int flags) {
    NEXT(accept4);
    FAIL(active, "accept", accept4);
    return next(fd, a, len, flags);
}
EXPORT ssize_t recv(int fd, void *buf, size_t size, int flags) {
    NEXT(recv);
    FAIL_SIZE(active, "receive", recv, size);
    return next(fd, buf, size, flags);
}
EXPORT ssize_t recvmsg(int fd, struct msghdr *m, int flags) {
    NEXT(recvmsg);
    FAIL(active, "receive", recvmsg);
    return next(fd, m, flags);
}
EXPORT ssize_t send(int fd, const void *buf, size_t size, int flags) {
    NEXT(send);
    FAIL_SIZE(active, "send", send, size);
    return next(fd, buf, size, flags);
}
EXPORT int setsockopt(int fd, int level, int name, const void *value, socklen_t len) {
    NEXT(setsockopt);
    FAIL(active, "option", setsockopt);
    return next(fd, level, name, value, len);
}
EXPORT int pipe2(int fds[2], int flags) {
    NEXT(pipe2);
    FAIL(active, "pipe", pipe2);
    return next(fds, flags);
}
EXPORT pid_t fork(void) {
    NEXT(fork);
    FAIL(active, "fork", fork);
    return next();
}
EXPORT pid_t vfork(void) {
    return fork();
}
#define SPAWN(name) \
    EXPORT int name(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions, \
                    const posix_spawnattr_t *attributes, char *const argv[], char *const envp[]) { \
        NEXT(name); \
        int e = active ? fails("fork", #name) : 0; \
        return e > 0 ? e : next(pid, path, actions, attributes, argv, envp); \
    }
SPAWN(posix_spawn)
SPAWN(posix_spawnp)
EXPORT pid_t waitpid(pid_t pid, int *status, int options) {
    NEXT(waitpid);
    FAIL(active, "wait", waitpid);
    return next(pid, status, options);
}
EXPORT int poll(struct pollfd *fds, nfds_t n, int ms) {
    NEXT(poll);
    FAIL(active, "poll", poll);
    return next(fds, n, ms);
}
EXPORT int __poll_chk(struct pollfd *fds, nfds_t n, int ms, size_t room);
EXPORT int __poll_chk(struct pollfd *fds, nfds_t n, int ms, size_t room) {
    if (n > room / sizeof *fds)
        abort();
    return poll(fds, n, ms);
}
EXPORT int inotify_init1(int flags) {
    NEXT(inotify_init1);
    FAIL(active, "watch", inotify_init1);
    return next(flags);
}
EXPORT int inotify_add_watch(int fd, const char *path, unsigned mask) {
    NEXT(inotify_add_watch);
    FAIL(active, "watch", inotify_add_watch);
    return next(fd, path, mask);
}
