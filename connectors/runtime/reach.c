/* SPDX-License-Identifier: Apache-2.0
 *
 * reach.c - see reach.h.
 *
 * openat2() answers in one call where the path has no link at all, which is nearly always. Else the
 * path is walked part by part, each part opened without following it.
 */
#include "connectors/runtime/reach.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifdef SYS_openat2
#include <linux/openat2.h>
#endif

#define LINKS_MAX 40 /* the kernel's own limit */
/* How the kernel shows all users that this user namespace doesn't have: two of them may be two. */
#define UNKNOWN_USER 65534u

static void close_keeping_errno(int fd) {
    int error = errno;
    if (fd >= 0)
        close(fd);
    errno = error;
}

/* ---- the walk */

/* What a path leads to. */
struct reached {
    int parent;              /* the directory that has it */
    char name[NAME_MAX + 1]; /* its name there, not that of a link; "." of the root */
    int fd;                  /* O_PATH; -1: it isn't there */
    struct stat st;
};

static void let_go(struct reached *r) {
    close_keeping_errno(r->fd);
    close_keeping_errno(r->parent);
}

/* A link of somebody that isn't trusted: he must own what is reached once only `left` bytes of the
 * path remain. */
struct owed {
    uid_t owner;
    size_t left;
};

struct walk {
    char *rest; /* of the path; it ends with the buffer */
    int dir;
    struct owed owed[LINKS_MAX];
    int owed_count, links;
};

static bool trusted(uid_t owner) {
    return owner == 0 || owner == geteuid();
}

/* The target of a link, with `more` bytes of room after it. NULL with errno. */
static char *target_of(int link, size_t more, size_t *len) {
    char *text = malloc((size_t)PATH_MAX + more);
    ssize_t n = text != NULL ? readlinkat(link, "", text, PATH_MAX) : -1;
    if (n > 0 && n < PATH_MAX) {
        *len = (size_t)n;
        return text;
    }
    int error = n == 0 ? ENOENT : n > 0 ? ENAMETOOLONG : errno;
    free(text);
    errno = error;
    return NULL;
}

/* Puts the link's target in front of the rest, which lies in *buffer. */
static int take_link(struct walk *w, char **buffer, int link, uid_t maker) {
    size_t left = strlen(w->rest), n;
    if (w->links++ == LINKS_MAX) {
        errno = ELOOP;
        return -1;
    }
    char *all = target_of(link, left + 2, &n);
    if (all == NULL)
        return -1;
    if (!trusted(maker))
        w->owed[w->owed_count++] = (struct owed){maker, left};
    if (left > 0)
        all[n++] = '/';
    memcpy(all + n, w->rest, left + 1);
    free(*buffer);
    *buffer = w->rest = all;
    if (all[0] != '/')
        return 0;
    int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0)
        return -1;
    close(w->dir);
    w->dir = root;
    return 0;
}

/* Do the makers of all links that lead here own it? Else ELOOP. NULL: nothing is here. */
static bool paid(struct walk *w, const struct stat *st) {
    size_t left = strlen(w->rest);
    while (w->owed_count > 0 && w->owed[w->owed_count - 1].left >= left)
        if (st == NULL || st->st_uid == UNKNOWN_USER ||
            w->owed[--w->owed_count].owner != st->st_uid) {
            errno = ELOOP;
            return false;
        }
    return true;
}

/* The next part of the path. False: there is none. */
static bool next_part(struct walk *w, char name[NAME_MAX + 1]) {
    w->rest += strspn(w->rest, "/");
    size_t n = strcspn(w->rest, "/");
    if (n == 0)
        return false;
    if (n > NAME_MAX) {
        errno = ENAMETOOLONG;
        name[0] = 0;
        return true;
    }
    memcpy(name, w->rest, n);
    name[n] = 0;
    w->rest += n;
    w->rest += strspn(w->rest, "/");
    return true;
}

/* 1: the path ends here. 0: it goes on. -1 with errno. */
static int step(struct walk *w, char **buffer, struct reached *r) {
    if (r->fd >= 0) { /* what was reached is a directory on the way */
        close(w->dir);
        w->dir = r->fd;
        r->fd = -1;
    }
    if (!next_part(w, r->name)) /* it was the root */
        snprintf(r->name, sizeof r->name, ".");
    r->fd = r->name[0] != 0 ? openat(w->dir, r->name, O_PATH | O_NOFOLLOW | O_CLOEXEC) : -1;
    if (r->fd < 0) /* only the last part may be missing */
        return errno == ENOENT && w->rest[0] == 0 && paid(w, NULL) ? 1 : -1;
    if (fstat(r->fd, &r->st) != 0)
        return -1;
    if (S_ISLNK(r->st.st_mode)) {
        int rc = take_link(w, buffer, r->fd, r->st.st_uid);
        close_keeping_errno(r->fd);
        r->fd = -1;
        return rc;
    }
    if (!paid(w, &r->st))
        return -1;
    return w->rest[0] == 0;
}

/* Walks the path. 0: *r says what is there, or that only its last part is missing. -1 with errno:
 * nothing is open. */
static int walk(const char *path, struct reached *r) {
    char *buffer = strdup(path);
    struct walk w = {.rest = buffer, .dir = -1};
    int rc = 0;
    *r = (struct reached){.parent = -1, .fd = -1};
    if (buffer == NULL || path[0] == 0) {
        errno = buffer == NULL ? ENOMEM : ENOENT;
        rc = -1;
    }
    if (rc == 0)
        w.dir = open(path[0] == '/' ? "/" : ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (w.dir < 0)
        rc = -1;
    while (rc == 0)
        rc = step(&w, &buffer, r);
    r->parent = w.dir;
    if (rc < 0)
        let_go(r);
    int error = errno;
    free(buffer);
    errno = error;
    return rc < 0 ? -1 : 0;
}

/* ---- without a link */

/* As open(), where no part of the path is a link. ELOOP: one is. ENOSYS: the kernel can't say. */
static int open_plain(const char *path, int flags) {
#ifdef SYS_openat2
    struct open_how how = {.flags = (unsigned)flags | O_CLOEXEC, .resolve = RESOLVE_NO_SYMLINKS};
    return (int)syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof how);
#else
    (void)path, (void)flags;
    errno = ENOSYS;
    return -1;
#endif
}

static bool may_have_links(int error) {
    return error == ELOOP || error == ENOSYS || error == EPERM; /* EPERM: seccomp */
}

/* An O_PATH descriptor of what the path leads to. */
static int look(const char *path, enum reach_links links) {
    struct reached r;
    if (links == REACH_ANY)
        return open(path, O_PATH | O_CLOEXEC);
    int fd = open_plain(path, O_PATH);
    if (fd >= 0 || !may_have_links(errno))
        return fd;
    if (walk(path, &r) != 0)
        return -1;
    close_keeping_errno(r.parent);
    if (r.fd < 0)
        errno = ENOENT;
    return r.fd;
}

/* ---- directories and files of the settings */

int reach_directory(const char *path, enum reach_links links) {
    int at = look(path, links);
    if (at < 0)
        return -1;
    int fd = openat(at, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    close_keeping_errno(at);
    return fd;
}

int reach_make_directory(const char *path, mode_t mode) {
    struct reached r;
    if (walk(path, &r) != 0)
        return -1;
    int rc = r.fd >= 0 ? 0 : mkdirat(r.parent, r.name, mode);
    int fd =
        rc == 0 ? openat(r.parent, r.name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
    int above =
        fd >= 0 && r.fd < 0 ? openat(r.parent, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (fd >= 0 && r.fd < 0 && (above < 0 || fsync(above) != 0)) {
        close_keeping_errno(fd);
        fd = -1;
    }
    close_keeping_errno(above);
    let_go(&r);
    return fd;
}

int reach_stat(const char *path, enum reach_links links, struct stat *out) {
    int at = look(path, links);
    int rc = at >= 0 ? fstat(at, out) : -1;
    close_keeping_errno(at);
    return rc;
}

static bool same(const struct stat *a, const struct stat *b) {
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* `fd` was opened by a name that `seen` was seen under. A regular file, and the same one? Else
 * closes it. */
static int only_if_same(int fd, const struct stat *seen) {
    struct stat st;
    if (fd < 0)
        return -1;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || !same(&st, seen)) {
        close(fd);
        errno = EINTR; /* the name was given to another file meanwhile */
        return -1;
    }
    return fd;
}

#define READING (O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)

int reach_read(const char *path, enum reach_links links) {
    struct reached r = {.parent = -1};
    struct stat st;
    bool any = links == REACH_ANY;
    int at = any ? open(path, O_PATH | O_CLOEXEC) : open_plain(path, O_PATH), fd = -1;
    if (at < 0 && !any && may_have_links(errno) && walk(path, &r) == 0) {
        at = r.fd;
        errno = ENOENT; /* where at < 0 */
    }
    if (at < 0 || fstat(at, &st) != 0)
        fd = -1;
    else if (!S_ISREG(st.st_mode))
        errno = S_ISDIR(st.st_mode) ? EISDIR : ENOTSUP;
    else if (any)
        fd = only_if_same(open(path, READING), &st);
    else if (r.parent < 0)
        fd = only_if_same(open_plain(path, READING), &st);
    else
        fd = only_if_same(openat(r.parent, r.name, READING | O_NOFOLLOW), &st);
    close_keeping_errno(at);
    close_keeping_errno(r.parent);
    return fd;
}

char *reach_resolve(const char *path) {
    struct reached r;
    char from[40], dir[PATH_MAX], *all = NULL;
    if (walk(path, &r) != 0)
        return NULL;
    snprintf(from, sizeof from, "/proc/self/fd/%d", r.parent);
    ssize_t n = readlink(from, dir, sizeof dir - 1);
    if (n > 0) {
        dir[n] = 0;
        size_t size = (size_t)n + strlen(r.name) + 2;
        all = malloc(size);
        if (all != NULL)
            snprintf(all, size, "%s/%s", strcmp(dir, "/") == 0 ? "" : dir, r.name);
    }
    let_go(&r);
    return all;
}

/* ---- our own files */

int reach_is_ours(int dir, const struct stat *file, enum reach_how how) {
    struct stat place;
    if (!S_ISREG(file->st_mode)) {
        errno = S_ISLNK(file->st_mode) ? ELOOP : S_ISDIR(file->st_mode) ? EISDIR : ENOTSUP;
        return -1;
    }
    if (how == REACH_READ)
        return 0;
    if (file->st_nlink > 1) { /* 0: removed, and still open */
        errno = EMLINK;
        return -1;
    }
    if (trusted(file->st_uid))
        return 0;
    if (fstat(dir, &place) != 0)
        return -1;
    errno = EPERM;
    return place.st_uid == file->st_uid && file->st_uid != UNKNOWN_USER ? 0 : -1;
}

int reach_own(int dir, const char *name, enum reach_how how) {
    struct stat st;
    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) != 0 || reach_is_ours(dir, &st, how) != 0)
        return -1;
    int fd = openat(dir, name,
                    (how == REACH_WRITE ? O_RDWR : O_RDONLY) | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY |
                        O_CLOEXEC);
    if (fd >= 0 && (fstat(fd, &st) != 0 || reach_is_ours(dir, &st, how) != 0)) {
        close_keeping_errno(fd);
        return -1;
    }
    return fd;
}

int reach_new(int dir, const char *name, mode_t mode, bool exact) {
    int fd = openat(dir, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
    if (fd >= 0 && exact && fchmod(fd, mode) != 0) {
        close_keeping_errno(fd);
        (void)unlinkat(dir, name, 0); /* ours: O_EXCL */
        return -1;
    }
    return fd;
}

bool reach_one_file(int dir, const char *a, const char *b) {
    struct stat x, y;
    return fstatat(dir, a, &x, AT_SYMLINK_NOFOLLOW) == 0 &&
           fstatat(dir, b, &y, AT_SYMLINK_NOFOLLOW) == 0 && same(&x, &y);
}

/* Takes the new name with something empty of our own, which the rename replaces then. */
static int rename_onto_own(int dir, const char *from, const char *to) {
    struct stat st;
    if (fstatat(dir, from, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return -1;
    bool is_dir = S_ISDIR(st.st_mode);
    int fd = is_dir ? mkdirat(dir, to, 0700) : reach_new(dir, to, 0600, false);
    if (fd < 0)
        return -1;
    if (!is_dir)
        close(fd);
    if (renameat(dir, from, dir, to) == 0)
        return 0;
    int error = errno;
    (void)unlinkat(dir, to, is_dir ? AT_REMOVEDIR : 0); /* a file in it now keeps a directory */
    errno = error;
    return -1;
}

int reach_rename(int dir, const char *from, const char *to) {
    int rc = renameat2(dir, from, dir, to, RENAME_NOREPLACE);
    if (rc == 0 || (errno != EINVAL && errno != ENOSYS && errno != EOPNOTSUPP))
        return rc;
    if (linkat(dir, from, dir, to, 0) == 0)
        return unlinkat(dir, from, 0);
    if (errno == EEXIST)
        return reach_one_file(dir, from, to) ? unlinkat(dir, from, 0) : -1;
    return errno == ENOENT ? -1 : rename_onto_own(dir, from, to);
}

bool reach_is_plant(int error) {
    return error == ELOOP || error == EISDIR || error == ENOTSUP || error == EMLINK ||
           error == EPERM;
}

const char *reach_text(int error) {
    switch (error) {
    case ELOOP:
        return "it is a symbolic link, or behind one that is not followed, since neither root nor "
               "this user made it and its maker doesn't own what it leads to";
    case ENOTSUP:
        return "it is no file";
    case EMLINK:
        return "the file has a second name (a hard link)";
    default:
        return strerror(error);
    }
}

bool reach_mode(const char *text, mode_t *mode, bool *exact) {
    *mode = REACH_MODE;
    *exact = text != NULL;
    if (text == NULL)
        return true;
    size_t n = strlen(text);
    if (n < 3 || n > 4 || strspn(text, "01234567") != n || (n == 4 && text[0] != '0'))
        return false;
    *mode = (mode_t)strtoul(text, NULL, 8);
    return true;
}
