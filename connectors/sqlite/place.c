/* SPDX-License-Identifier: Apache-2.0
 *
 * place.c - see place.h. SQLite's own descriptor is never opened a second time: closing any
 * descriptor of a file drops the process's locks on it.
 */
#include "connectors/sqlite/place.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "connectors/runtime/reach.h"

/* Is there a file that SQLite may write to, or none? The database itself may be another user's, as
 * the settings name it; what is beside it may be that user's too. */
static bool sound(int dir, const char *name, const char *end, uid_t *owner) {
    char beside[4200];
    struct stat st;
    snprintf(beside, sizeof beside, "%s%s", name, end);
    if (fstatat(dir, beside, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT;
    int rc = reach_is_ours(dir, &st, REACH_WRITE);
    if (end[0] == 0)
        *owner = st.st_uid;
    return rc == 0 || (errno == EPERM && st.st_uid == *owner);
}

char *place_reach(const char *path, bool create, mode_t mode, bool exact, const char **end) {
    static const char *const ends[] = {"", "-wal", "-shm", "-journal"};
    char *real = reach_resolve(path), *slash = real != NULL ? strrchr(real, '/') : NULL;
    uid_t owner = 0;
    *end = "";
    if (slash == NULL)
        return NULL;
    *slash = 0;
    int dir = reach_directory(slash == real ? "/" : real, REACH_OWNED);
    *slash = '/';
    bool good = dir >= 0;
    for (size_t i = 0; good && i < sizeof ends / sizeof ends[0]; i++) {
        *end = ends[i];
        good = sound(dir, slash + 1, ends[i], &owner);
    }
    if (good && create) {
        int fd = reach_new(dir, slash + 1, mode, exact);
        good = fd >= 0 || errno == EEXIST;
        if (fd >= 0) /* no connection of this process can have it open yet */
            close(fd);
        *end = "";
    }
    int error = errno;
    if (dir >= 0)
        close(dir);
    if (!good)
        free(real);
    errno = error;
    return good ? real : NULL;
}

static struct place_file file_at(const char *path) {
    struct stat st;
    if (path == NULL || path[0] == 0 || stat(path, &st) != 0)
        return (struct place_file){0};
    return (struct place_file){st.st_dev, st.st_ino};
}

static bool same(struct place_file a, struct place_file b) {
    return a.dev == b.dev && a.ino == b.ino;
}

/* The path with links resolved, as SQLite opened it, and an end such as "-shm". */
static struct place_file beside(sqlite3 *db, const char *end) {
    char name[4200];
    const char *file = sqlite3_db_filename(db, "main");
    int n = file != NULL ? (int)strlen(file) : 0;
    if (n == 0)
        return (struct place_file){0};
    sqlite3_snprintf(sizeof name, name, "%s%s", file, end);
    return file_at(name);
}

static bool moved(sqlite3 *db) {
    int yes = 0;
    return sqlite3_file_control(db, "main", SQLITE_FCNTL_HAS_MOVED, &yes) == SQLITE_OK && yes != 0;
}

/* The change counter in the header of the main file itself, not in its -wal; 0: unknown. */
static uint32_t counter_of(sqlite3 *db) {
    sqlite3_file *file = NULL;
    unsigned char b[4];
    if (sqlite3_file_control(db, "main", SQLITE_FCNTL_FILE_POINTER, &file) != SQLITE_OK ||
        file == NULL || file->pMethods == NULL ||
        file->pMethods->xRead(file, b, sizeof b, 24) != SQLITE_OK)
        return 0;
    return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

static bool is_wal(sqlite3 *db) {
    sqlite3_stmt *q = NULL;
    bool yes = sqlite3_prepare_v2(db, "PRAGMA journal_mode", -1, &q, NULL) == SQLITE_OK &&
               sqlite3_step(q) == SQLITE_ROW && sqlite3_column_text(q, 0) != NULL &&
               strcmp((const char *)sqlite3_column_text(q, 0), "wal") == 0;
    sqlite3_finalize(q);
    return yes;
}

static const char mixed[] =
    "was replaced, but its -wal file is still that of the file before: SQLite would apply it to "
    "the new one. Stop what uses the database, put the files aside, and restore it without -wal "
    "and -shm";

enum place_state place_before(const struct place *p, const char *path, const char **why) {
    struct place_file now = file_at(path);
    *why = "was removed or renamed";
    if (p->left_log.ino == 0 || !same(file_at(p->left_name), p->left_log) ||
        same(now, p->left_file))
        return PLACE_SAME;
    *why = now.ino == 0 ? "was removed or renamed, and its -wal file was left: remove that too "
                          "before you restore it"
                        : mixed;
    return now.ino == 0 ? PLACE_CHANGED : PLACE_MIXED;
}

bool place_take(struct place *p, sqlite3 *db, const char *path) {
    struct place_file file = file_at(path), log = beside(db, "-wal");
    /* the same two as before: what was seen of them still counts */
    bool again = p->wal && file.ino != 0 && same(p->file, file) && same(p->log, log);
    uint32_t counter = again ? p->counter : 0;
    *p = (struct place){.wal = is_wal(db), .file = file, .counter = counter};
    if (file.ino == 0 || moved(db) || !same(file, beside(db, "")))
        return false;
    if (!again)
        p->counter = counter_of(db);
    return true;
}

/* The files beside it exist from its first transaction on. */
static bool others_changed(struct place *p, sqlite3 *db) {
    struct place_file log = beside(db, "-wal"), shared = beside(db, "-shm");
    bool changed =
        (p->log.ino != 0 && !same(p->log, log)) || (p->shared.ino != 0 && !same(p->shared, shared));
    p->log = log;
    p->shared = shared;
    return changed;
}

static enum place_state another(struct place *p, sqlite3 *db, const char *path, const char **why) {
    struct place_file now = file_at(path), log = beside(db, "-wal");
    /* a switched link leads elsewhere, where the old -wal doesn't matter */
    bool here = same(now, beside(db, ""));
    if (p->wal && here && p->log.ino != 0 && same(p->log, log)) {
        p->left_file = p->file;
        p->left_log = p->log;
        sqlite3_snprintf(sizeof p->left_name, p->left_name, "%s-wal",
                         sqlite3_db_filename(db, "main"));
    }
    if (p->left_log.ino != 0 && now.ino != 0) {
        *why = mixed;
        return PLACE_MIXED;
    }
    *why = now.ino == 0 ? "was removed or renamed" : "was replaced: another file has its name";
    return PLACE_CHANGED;
}

enum place_state place_look(struct place *p, sqlite3 *db, const char *path, const char **why) {
    if (moved(db) || !same(p->file, file_at(path)))
        return another(p, db, path, why);
    if (!p->wal)
        return PLACE_SAME;
    if (others_changed(p, db)) {
        *why = "has lost its -wal or -shm file: what was committed into it may be gone";
        return PLACE_CHANGED;
    }
    uint32_t counter = counter_of(db);
    if (counter < p->counter) {
        *why = "was written over in place while its -wal file was in use, and the two no longer "
               "fit. Stop what uses the database, remove its -wal and -shm files, and restore it "
               "again";
        return PLACE_MIXED;
    }
    p->counter = counter;
    return PLACE_SAME;
}
