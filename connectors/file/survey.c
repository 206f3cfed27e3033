/* SPDX-License-Identifier: Apache-2.0
 *
 * Which files there are beside the followed names.
 *
 * A rotated name belongs to a followed name, its base; a base and its rotated names are a group. In
 * a group the base is the newest. Rotated files whose names end in a number of at most five digits
 * are ordered by that number. The largest number is the oldest, as when each rotation renames all
 * files, unless most modification times show that the numbers count upwards. Other files are
 * ordered by modification time, then by name.
 *
 * Where a followed name is a symbolic link, the directory of its target is looked at as well. Where
 * a directory of the path is one (`current` -> a release), and a file is sought, so are the
 * directories beside its target.
 */
#include <dirent.h>
#include <errno.h>
#include <fnmatch.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "connectors/file/trail.h"
#include "connectors/runtime/reach.h"

#define ENTRIES_MAX 40000u
#define EXTRA_MAX 64u /* directories of targets of links */
#define BESIDE_MAX 256
#define TRIES_MAX 100
#define NUMBER_MAX 99999

void survey_free(struct survey *l) {
    for (size_t i = 0; i < l->count; i++) {
        free(l->entry[i].path);
        free(l->entry[i].base);
    }
    free(l->entry);
    *l = (struct survey){0};
}

/* ---- names */

bool rotated_from(const char *name, const char *base, size_t n) {
    return strncmp(name, base, n) == 0 && (name[n] == '.' || name[n] == '-') &&
           name[n + 1] >= '0' && name[n + 1] <= '9';
}

/* Is it a name of a file sink's own: its SINK.pawl, a part that is not whole yet
 * ("...-FIRST.part"), or what it has set aside of one? */
static bool is_sinks_own(const char *name) {
    const char *end = strrchr(name, '.'), *part = strstr(name, ".part");
    if (end != NULL && strcmp(end, ".pawl") == 0)
        return true;
    return part != NULL && part - name > 20 && part[-21] == '-' &&
           strspn(part - 20, "0123456789") == 20;
}

static bool followed(const char *glob, const char *name) {
    return fnmatch(glob, name, FNM_PERIOD) == 0 && !is_sinks_own(name);
}

static bool is_rotated(const struct trail *s, const char *name, const char *base) {
    char stem[NAME_MAX + 1];
    size_t n = decompress_stem(name);
    if (strcmp(name, base) == 0 || n >= sizeof stem)
        return false;
    memcpy(stem, name, n);
    stem[n] = 0;
    if (s->rotated != NULL)
        return s->rotated[0] != 0 && (fnmatch(s->rotated, name, FNM_PERIOD) == 0 ||
                                      (n != 0 && fnmatch(s->rotated, stem, FNM_PERIOD) == 0));
    return rotated_from(name, base, strlen(base)) || (n != 0 && strcmp(stem, base) == 0);
}

static long number_of(const char *name, const char *base) {
    size_t n = strlen(base);
    if (strncmp(name, base, n) != 0 || name[n] == 0)
        return -1;
    const char *digits = name + n + 1;
    size_t len = strspn(digits, "0123456789");
    bool ends = digits[len] == 0 || n + 1 + len == decompress_stem(name);
    return len >= 1 && len <= 5 && ends ? strtol(digits, NULL, 10) : -1;
}

/* ---- order */

static int by_age(const void *a, const void *b) {
    const struct entry *x = a, *y = b;
    int group = x->base == NULL || y->base == NULL ? (x->base == NULL) - (y->base == NULL)
                                                   : strcmp(x->base, y->base);
    if (group != 0)
        return group;
    if (x->newest != y->newest)
        return x->newest ? 1 : -1;
    if (x->number >= 0 && y->number >= 0 && x->number != y->number)
        return x->number > y->number ? -1 : 1;
    if (x->mtime != y->mtime)
        return x->mtime < y->mtime ? -1 : 1;
    return strcmp(x->path, y->path);
}

static int by_number(const void *a, const void *b) {
    const struct entry *x = a, *y = b;
    return x->number < y->number ? -1 : x->number > y->number;
}

/* Inverts the numbers of a group if they count upwards, so that the largest is always the
 * oldest. */
static void turn_numbers(struct entry *e, size_t count) {
    size_t up = 0, down = 0;
    qsort(e, count, sizeof *e, by_number);
    for (size_t i = 1; i < count; i++)
        if (e[i - 1].number >= 0) {
            up += e[i].mtime > e[i - 1].mtime;
            down += e[i].mtime < e[i - 1].mtime;
        }
    for (size_t i = 0; i < count && up > down; i++)
        if (e[i].number >= 0)
            e[i].number = NUMBER_MAX - e[i].number;
}

static void order(struct survey *l) {
    if (l->count < 2)
        return;
    qsort(l->entry, l->count, sizeof *l->entry, by_age);
    for (size_t from = 0, to; from < l->count && l->entry[from].base != NULL; from = to) {
        for (to = from + 1; to < l->count && l->entry[to].base != NULL &&
                            strcmp(l->entry[from].base, l->entry[to].base) == 0;)
            to++;
        turn_numbers(l->entry + from, to - from);
    }
    qsort(l->entry, l->count, sizeof *l->entry, by_age);
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* With a glob: finds the base of each file, the longest followed name that it is rotated from. */
static int set_bases(const struct trail *s, struct survey *l) {
    const char **live = calloc(l->count + 1, sizeof *live);
    size_t n = 0;
    if (live == NULL)
        return -1;
    for (size_t i = 0; i < l->count; i++)
        if (l->entry[i].kind == ENTRY_LIVE)
            live[n++] = l->entry[i].name;
    qsort(live, n, sizeof *live, by_name);
    int rc = 0;
    for (size_t i = 0; i < l->count && rc == 0; i++) {
        struct entry *e = &l->entry[i];
        char part[NAME_MAX + 1];
        const char *base = e->kind == ENTRY_LIVE ? e->name : NULL;
        for (size_t k = strlen(e->name); k-- > 1 && k < sizeof part;) {
            if (!rotated_from(e->name, e->name, k) || (e->packed && !s->set.packed))
                continue;
            memcpy(part, e->name, k);
            part[k] = 0;
            const char *key = part;
            const char **found = bsearch(&key, live, n, sizeof *live, by_name);
            if (found == NULL)
                continue;
            base = *found;
        }
        if (base == NULL)
            continue;
        e->kind = e->kind == ENTRY_LIVE && (!e->packed || strcmp(base, e->name) == 0)
                      ? ENTRY_LIVE
                      : ENTRY_ROTATED;
        e->newest = base == e->name || strcmp(base, e->name) == 0;
        e->number = e->newest ? -1 : number_of(e->name, base);
        e->base = strdup(base);
        rc = e->base != NULL ? 0 : -1;
    }
    free(live);
    return rc;
}

/* ---- looking */

static void note_error(struct survey *l, int error, const char *path) {
    if (l->error != 0)
        return;
    l->error = error;
    snprintf(l->where, sizeof l->where, "%s", path);
}

static int add(struct survey *l, const char *path, enum entry_kind kind, const char *base) {
    struct stat st;
    int rc = lstat(path, &st);
    if (rc == 0 && S_ISLNK(st.st_mode))
        rc = reach_stat(path, l->links, &st);
    if (rc != 0 && errno == ELOOP && (kind != ENTRY_LIVE || base == NULL)) {
        if (l->refused++ == 0) /* one name of many: it must not keep the others waiting */
            snprintf(l->refused_path, sizeof l->refused_path, "%s", path);
        return 0;
    }
    if (rc != 0) {
        if (error_kind_of(errno) != ERROR_ABSENT)
            note_error(l, errno, path);
        return 0;
    }
    if (!S_ISREG(st.st_mode) || l->count == ENTRIES_MAX)
        return 0;
    if ((l->count & (l->count - 1)) == 0) {
        struct entry *more = realloc(l->entry, (l->count != 0 ? 2 * l->count : 1) * sizeof *more);
        if (more == NULL)
            return -1;
        l->entry = more;
    }
    struct entry *e = &l->entry[l->count];
    *e = (struct entry){.path = strdup(path),
                        .base = base != NULL ? strdup(base) : NULL,
                        .device = st.st_dev,
                        .inode = st.st_ino,
                        .mtime = tail_mtime(&st.st_mtim),
                        .size = (uint64_t)st.st_size,
                        .number = -1,
                        .links = l->links,
                        .kind = kind};
    if (e->path == NULL || (base != NULL && e->base == NULL)) {
        free(e->path);
        free(e->base);
        return -1;
    }
    const char *slash = strrchr(e->path, '/');
    e->name = slash != NULL ? slash + 1 : e->path;
    e->packed = decompress_stem(e->name) != 0;
    l->count++;
    return 0;
}

/* Is a name that doesn't belong to the source worth a look? One that a file which is read may have
 * got: it has its inode number, or begins with the followed name. */
static bool worth(const struct trail *s, const struct dirent *d, const char *base) {
    if (s->glob != NULL || strncmp(d->d_name, base, strlen(base)) == 0)
        return true;
    for (size_t i = 0; i < s->count; i++)
        if (((d->d_ino ^ s->files[i]->tail.pos.ident) & IDENT_INODE) == 0)
            return true;
    return false;
}

/* A file is compressed beside the plain one, which is removed when that is done. So while a plain
 * one is there, it is the one to read. */
static bool being_packed(const char *path, const char *base) {
    char plain[PATH_MAX];
    struct stat st;
    size_t n = decompress_stem(path);
    if (n == 0 || n >= sizeof plain)
        return false;
    memcpy(plain, path, n);
    plain[n] = 0;
    const char *slash = strrchr(plain, '/');
    bool of_base = base != NULL && slash != NULL && strcmp(slash + 1, base) == 0;
    return !of_base && stat(plain, &st) == 0;
}

/* Adds the files of one directory. `base`: the followed name there; NULL: none. */
static int look_in(struct trail *s, const char *directory, const char *base, bool first,
                   struct survey *l) {
    char path[PATH_MAX];
    int fd = reach_directory(directory, s->set.links);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    if (d == NULL && fd >= 0)
        close(fd);
    if (d == NULL) {
        if (error_kind_of(errno) != ERROR_ABSENT)
            note_error(l, errno, directory);
        l->absent |= first;
        return 0;
    }
    int rc = 0;
    for (struct dirent *e; rc == 0 && (errno = 0, e = readdir(d)) != NULL;) {
        if (e->d_type != DT_REG && e->d_type != DT_LNK && e->d_type != DT_UNKNOWN)
            continue;
        if ((size_t)snprintf(path, sizeof path, "%s%s%s", directory,
                             strcmp(directory, "/") == 0 ? "" : "/", e->d_name) >= sizeof path)
            continue;
        if (being_packed(path, base))
            continue;
        if (s->glob != NULL && first && followed(s->glob, e->d_name) &&
            (s->set.packed || decompress_stem(e->d_name) == 0))
            rc = add(l, path, ENTRY_LIVE, NULL);
        else if (s->glob == NULL && first && strcmp(e->d_name, s->name) == 0)
            continue; /* the path itself is added last */
        else if (s->glob == NULL && base != NULL && is_rotated(s, e->d_name, base)) {
            rc = add(l, path, ENTRY_ROTATED, s->name);
            if (rc == 0 && l->count != 0 && strcmp(l->entry[l->count - 1].path, path) == 0)
                l->entry[l->count - 1].number = number_of(e->d_name, base);
        } else if (worth(s, e, base != NULL ? base : s->name))
            rc = add(l, path, ENTRY_OTHER, NULL);
    }
    if (rc == 0 && errno != 0)
        note_error(l, errno, directory);
    closedir(d);
    return rc;
}

static char *target_of(const char *path) {
    struct stat st;
    return lstat(path, &st) == 0 && S_ISLNK(st.st_mode) ? realpath(path, NULL) : NULL;
}

/* Adds what is beside the targets of followed names that are links. */
static int look_at_targets(struct trail *s, struct survey *l) {
    char *seen[EXTRA_MAX];
    size_t n = 0, count = l->count;
    int rc = 0;
    for (size_t i = 0; i < count && rc == 0 && n < EXTRA_MAX; i++) {
        char *target = l->entry[i].kind == ENTRY_LIVE ? target_of(l->entry[i].path) : NULL;
        char *slash = target != NULL ? strrchr(target, '/') : NULL;
        if (slash == NULL || slash == target) {
            free(target);
            continue;
        }
        *slash = 0;
        bool again = false;
        for (size_t k = 0; k < n; k++)
            again |= strcmp(seen[k], target) == 0;
        if (!again || s->glob == NULL)
            rc = look_in(s, target, slash + 1, false, l);
        seen[n++] = target;
    }
    while (n > 0)
        free(seen[--n]);
    return rc;
}

/* Adds what is at the path PARENT/any/REST, except in PARENT/`but`. */
static int look_in_all(struct trail *s, const char *parent, const char *but, const char *rest,
                       const char *base, struct survey *l) {
    char path[PATH_MAX];
    int rc = 0, left = BESIDE_MAX;
    DIR *d = opendir(parent);
    if (d == NULL)
        return 0;
    for (struct dirent *e; rc == 0 && left > 0 && (e = readdir(d)) != NULL;) {
        if (e->d_name[0] == '.' || strcmp(e->d_name, but) == 0 || e->d_type == DT_REG)
            continue;
        left--;
        if ((size_t)snprintf(path, sizeof path, "%s/%s%s", parent, e->d_name, rest) < sizeof path)
            rc = look_in(s, path, base, false, l);
    }
    closedir(d);
    return rc;
}

/* Adds what is beside the target of a linked directory of the path, and, where the path is a link,
 * in the directories beside that of its target. */
static int look_beside(struct trail *s, struct survey *l) {
    char part[PATH_MAX];
    int rc = 0;
    for (const char *end = s->path; rc == 0 && end != NULL;) {
        end = strchr(end + 1, '/');
        snprintf(part, sizeof part, "%.*s", end != NULL ? (int)(end - s->path) : PATH_MAX - 1,
                 s->path);
        char *target = target_of(part), *base = NULL;
        if (target != NULL && end == NULL) { /* the path itself */
            base = strrchr(target, '/');
            *base++ = 0;
        }
        char *slash = target != NULL ? strrchr(target, '/') : NULL;
        if (slash != NULL && slash != target) {
            const char *file = end != NULL ? strrchr(end, '/') : NULL;
            snprintf(part, sizeof part, "%.*s", file != NULL ? (int)(file - end) : 0,
                     end != NULL ? end : "");
            *slash = 0;
            rc = look_in_all(s, target, slash + 1, part, base, l);
        }
        free(target);
    }
    return rc;
}

static int look(struct trail *s, struct survey *l) {
    *l = (struct survey){.links = s->set.links};
    int rc = s->glob == NULL && s->rotated != NULL && s->rotated[0] == 0 && s->count == 0
                 ? 0
                 : look_in(s, s->directory, s->glob == NULL ? s->name : NULL, true, l);
    if (rc == 0 && s->glob == NULL) {
        rc = add(l, s->path, ENTRY_LIVE, s->name);
        if (rc == 0 && l->count != 0 && l->entry[l->count - 1].kind == ENTRY_LIVE)
            l->entry[l->count - 1].newest = true;
    }
    if (rc == 0)
        rc = look_at_targets(s, l);
    bool sought = false;
    for (size_t i = 0; i < s->count; i++)
        sought |= s->files[i]->place == PLACE_SOUGHT;
    if (rc == 0 && sought && s->glob == NULL)
        rc = look_beside(s, l);
    if (rc == 0 && s->glob != NULL)
        rc = set_bases(s, l);
    if (rc != 0) {
        survey_free(l);
        return rc;
    }
    order(l);
    return 0;
}

static bool same(const struct survey *a, const struct survey *b) {
    bool yes = a->count == b->count && a->error == b->error && a->absent == b->absent;
    for (size_t i = 0; yes && i < a->count; i++)
        yes = strcmp(a->entry[i].path, b->entry[i].path) == 0 &&
              a->entry[i].inode == b->entry[i].inode && a->entry[i].device == b->entry[i].device;
    return yes;
}

/* Size and time of each file are those before the directory was listed once more: a copy of it that
 * is older than this time is in the list. */
static void keep_times(struct survey *out, const struct survey *before) {
    for (size_t i = 0; i < out->count; i++) {
        out->entry[i].mtime = before->entry[i].mtime;
        out->entry[i].size = before->entry[i].size;
    }
}

int survey_take(struct trail *s, struct survey *out) {
    struct survey again;
    if (look(s, out) != 0)
        return -1;
    for (int i = 0; i < TRIES_MAX; i++) {
        if (look(s, &again) != 0) {
            survey_free(out);
            return -1;
        }
        bool well = same(out, &again);
        if (well)
            keep_times(&again, out);
        survey_free(out);
        *out = again;
        if (well)
            return 0;
    }
    note_error(out, EBUSY, s->directory); /* it changes all the time */
    return 0;
}
