/* SPDX-License-Identifier: Apache-2.0
 *
 * Which file a position means, and which file comes after it. The path itself is always the newest.
 * Rotated files whose names end in a number of at most five digits are ordered by that number. The
 * largest number is the oldest, as when each rotation renames all files, unless most modification
 * times show that the numbers count upwards. Other files are ordered by modification time, then by
 * name.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "connectors/file/tail.h"

#define FILES_MAX 4096u
#define TRIES_MAX 100
#define NUMBER_MAX 99999

struct file {
    char *name;
    dev_t device;
    ino_t inode;
    uint64_t mtime, size;
    long number; /* in its name; -1: none */
    bool live;   /* the path itself */
};
struct files {
    struct file *file; /* oldest first */
    size_t count;
};

static void files_free(struct files *l) {
    for (size_t i = 0; i < l->count; i++)
        free(l->file[i].name);
    free(l->file);
    *l = (struct files){0};
}

static bool compressed(const char *name) {
    static const char *const ends[] = {".gz", ".xz", ".bz2", ".zst", ".lz4", ".Z", ".zip"};
    size_t n = strlen(name);
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++)
        if (n > strlen(ends[i]) && strcmp(name + n - strlen(ends[i]), ends[i]) == 0)
            return true;
    return false;
}

static bool is_rotated(const struct tail *t, const char *name) {
    size_t n = strlen(t->name);
    if (strcmp(name, t->name) == 0 || compressed(name))
        return false;
    if (t->rotated != NULL)
        return t->rotated[0] != 0 && fnmatch(t->rotated, name, FNM_PERIOD) == 0;
    return strncmp(name, t->name, n) == 0 && (name[n] == '.' || name[n] == '-') &&
           name[n + 1] >= '0' && name[n + 1] <= '9';
}

static long number_of(const struct tail *t, const char *name) {
    size_t n = strlen(t->name);
    if (strncmp(name, t->name, n) != 0 || name[n] == 0)
        return -1;
    const char *digits = name + n + 1;
    size_t len = strspn(digits, "0123456789");
    return len >= 1 && len <= 5 && digits[len] == 0 ? strtol(digits, NULL, 10) : -1;
}

static int by_age(const void *a, const void *b) {
    const struct file *x = a, *y = b;
    if (x->live != y->live)
        return x->live ? 1 : -1;
    if (x->number >= 0 && y->number >= 0)
        return x->number > y->number ? -1 : x->number < y->number;
    if (x->mtime != y->mtime)
        return x->mtime < y->mtime ? -1 : 1;
    return strcmp(x->name, y->name);
}

static int by_number(const void *a, const void *b) {
    const struct file *x = a, *y = b;
    return x->number < y->number ? -1 : x->number > y->number;
}

/* Inverts the numbers if they count upwards, so that the largest is always the oldest. */
static void turn_numbers(struct files *l) {
    size_t up = 0, down = 0;
    qsort(l->file, l->count, sizeof *l->file, by_number);
    for (size_t i = 1; i < l->count; i++)
        if (l->file[i - 1].number >= 0) {
            up += l->file[i].mtime > l->file[i - 1].mtime;
            down += l->file[i].mtime < l->file[i - 1].mtime;
        }
    for (size_t i = 0; i < l->count && up > down; i++)
        if (l->file[i].number >= 0)
            l->file[i].number = NUMBER_MAX - l->file[i].number;
}

static int add_file(struct tail *t, int directory, const char *name, bool live, struct files *l) {
    struct stat st;
    if (fstatat(directory, name, &st, 0) != 0 || !S_ISREG(st.st_mode) || l->count == FILES_MAX)
        return 0;
    struct file *more = realloc(l->file, (l->count + 1) * sizeof *more);
    if (more == NULL)
        return -1;
    l->file = more;
    more[l->count] = (struct file){.name = strdup(name),
                                   .device = st.st_dev,
                                   .inode = st.st_ino,
                                   .mtime = tail_mtime(&st.st_mtim),
                                   .size = (uint64_t)st.st_size,
                                   .number = live ? -1 : number_of(t, name),
                                   .live = live};
    return more[l->count++].name != NULL ? 0 : -1;
}

/* look() for the followed path alone. */
static int look_at_one(struct tail *t, struct files *l) {
    int rc = add_file(t, AT_FDCWD, t->path, true, l);
    if (rc != 0)
        files_free(l);
    return rc;
}

static int look(struct tail *t, struct files *l) {
    *l = (struct files){0};
    if (t->rotated != NULL && t->rotated[0] == 0)
        return look_at_one(t, l);
    DIR *d = opendir(t->directory);
    if (d == NULL)
        return -1;
    int rc = 0;
    for (struct dirent *e; rc == 0 && (e = readdir(d)) != NULL;)
        if (is_rotated(t, e->d_name))
            rc = add_file(t, dirfd(d), e->d_name, false, l);
    if (rc == 0)
        rc = add_file(t, dirfd(d), t->name, true, l);
    closedir(d);
    if (rc != 0)
        files_free(l);
    if (rc == 0 && l->count > 1) {
        turn_numbers(l);
        qsort(l->file, l->count, sizeof *l->file, by_age);
    }
    return rc;
}

static bool same(const struct files *a, const struct files *b) {
    bool yes = a->count == b->count;
    for (size_t i = 0; yes && i < a->count; i++)
        yes = strcmp(a->file[i].name, b->file[i].name) == 0 && a->file[i].inode == b->file[i].inode;
    return yes;
}

/* Lists the files until two looks in a row agree. A directory that is read during a rotation may
 * show one file under two names, or not at all. */
static int list(struct tail *t, struct files *l, pawl_fault *f) {
    struct files again = {0};
    if (look(t, l) != 0)
        return pawl_fault_set(f, errno == EACCES || errno == ENOENT ? PAWL_FATAL : PAWL_RETRY,
                              "%s: %s", t->directory, strerror(errno));
    for (int i = 0; i < TRIES_MAX; i++) {
        if (look(t, &again) != 0) {
            files_free(&again);
            break;
        }
        bool well = same(l, &again);
        files_free(l);
        *l = again;
        if (well)
            return PAWL_DONE;
    }
    files_free(l);
    return pawl_fault_set(f, PAWL_RETRY, "%s: its files change all the time", t->directory);
}

/* Opens a listed file if it is still the same. -1 with errno: it isn't, or it can't be opened. */
static int open_file(struct tail *t, const struct file *e, struct content *out) {
    char path[4096];
    struct stat st;
    const char *name = e->live ? t->name : e->name;
    if ((size_t)snprintf(path, sizeof path, "%s/%s", t->directory, name) >= sizeof path)
        return -1;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd >= 0 && (fstat(fd, &st) != 0 || st.st_ino != e->inode || st.st_dev != e->device)) {
        close(fd);
        errno = ESTALE;
        fd = -1;
    }
    return fd < 0 ? -1 : content_open(out, fd, name);
}

static bool matches(struct content *file, const struct tail_position *p) {
    uint8_t window[TAIL_WINDOW];
    size_t n = p->at < TAIL_WINDOW ? (size_t)p->at : TAIL_WINDOW;
    return content_read(file, window, n, p->at - n) == (ssize_t)n &&
           tail_hash(window, n) == p->hash;
}

static int cannot_open(struct tail *t, const char *name, pawl_fault *f) {
    int how = errno == EACCES ? PAWL_FATAL : PAWL_RETRY;
    return pawl_fault_set(f, how, "%s/%s: %s", t->directory, name, strerror(errno));
}

/* Tries the files of one kind: 0 the path with that inode, 1 a rotated file with that inode, 2 the
 * path, 3 the rotated files. DONE: entered; GONE: none matches. */
static int try_kind(struct tail *t, const struct files *l, int kind, const struct tail_position *p,
                    pawl_fault *f) {
    for (size_t i = l->count; i-- > 0;) {
        const struct file *e = &l->file[i];
        if (e->live != (kind % 2 == 0) || (e->inode == p->inode) != (kind < 2) || e->size < p->at ||
            (p->at == 0 && kind >= 2))
            continue;
        struct content file;
        if (open_file(t, e, &file) != 0)
            return cannot_open(t, e->name, f);
        if (matches(&file, p))
            return tail_enter(t, file, p->at, p->flags, f);
        content_close(&file);
    }
    return PAWL_GONE;
}

static int begin_file(struct tail *t, const struct file *e, pawl_fault *f) {
    struct content file;
    return open_file(t, e, &file) != 0 ? cannot_open(t, e->name, f) : tail_enter(t, file, 0, 0, f);
}

/* The position's file is gone or was rewritten: reports it and goes on with a newer file. */
static int lost(struct tail *t, const struct files *l, const struct tail_position *p,
                pawl_fault *f) {
    const struct file *newer = NULL, *live = l->count != 0 && l->file[l->count - 1].live
                                                 ? &l->file[l->count - 1]
                                                 : NULL;
    for (size_t i = 0; i < l->count && newer == NULL; i++)
        if (!l->file[i].live && l->file[i].mtime > p->mtime && l->file[i].inode != p->inode)
            newer = &l->file[i];
    newer = newer != NULL ? newer : live;
    if (newer == NULL) {
        t->wanted = *p;
        t->have_wanted = true;
        return PAWL_DONE;
    }
    if (p->at != 0 && t->set.on_replaced == TAIL_REPLACED_STOP)
        return pawl_fault_set(f, PAWL_FATAL,
                              "%s: no file has the bytes before offset %" PRIu64
                              " any more: truncated, rewritten or removed; see to it, then start "
                              "with on_replaced = read",
                              t->path, p->at);
    if (p->at != 0)
        pawl_source_report(
            t->context, 2,
            "%s: no file has the bytes before offset %" PRIu64
            " any more: truncated, rewritten or removed; what followed them there and wasn't "
            "read yet is lost; "
            "reading goes on with %s from its start",
            t->path, p->at, newer->name);
    return begin_file(t, newer, f);
}

int tail_find(struct tail *t, const struct tail_position *p, pawl_fault *f) {
    struct files l = {0};
    tail_leave(t);
    int rc = list(t, &l, f);
    if (rc != PAWL_DONE) {
        files_free(&l);
        return rc;
    }
    rc = PAWL_GONE;
    for (int kind = 0; kind < 4 && rc == PAWL_GONE; kind++)
        rc = try_kind(t, &l, kind, p, f);
    if (rc == PAWL_GONE)
        rc = lost(t, &l, p, f);
    files_free(&l);
    return rc;
}

int tail_successor(struct tail *t, pawl_fault *f) {
    struct files l = {0};
    int rc = list(t, &l, f);
    if (rc != PAWL_DONE) {
        files_free(&l);
        return rc;
    }
    size_t after = 0;
    for (size_t i = 0; i < l.count; i++)
        if (l.file[i].inode == t->inode && l.file[i].device == t->device)
            after = i + 1;
    /* the file has no name any more: the next one was written later, and the path is the newest */
    if (after == 0)
        while (after < l.count && !l.file[after].live && l.file[after].mtime <= t->mtime)
            after++;
    if (after < l.count)
        rc = begin_file(t, &l.file[after], f);
    files_free(&l);
    return rc;
}
