/* SPDX-License-Identifier: Apache-2.0
 *
 * The directory of a savepoint. It is made beside its place, under its name and ".unfinished", with
 * a file `making` that this process holds locked; once it is whole and durable, it is renamed. So
 * what has the name is whole. What a crash leaves has the other name, and a file `making` that
 * nobody holds: the next run removes it, if it holds nothing but what a run puts there. What isn't
 * known stays (PAWL-15).
 *
 * A crash                            leaves
 *   before `making` is there           an empty directory: removed
 *   before the renaming is durable     `NAME.unfinished`: removed, or NAME, whole
 *   after it                           NAME, and perhaps `making` in it, which nobody reads
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>

#include "pipeline/engine.h"
#include "pipeline/savepoint.h"

static const char making_text[] = "pawl savepoint in the making\n";
#define MAKING_SIZE (sizeof making_text - 1)

/* ---- what is in it */

struct names {
    struct save *s;
    char (*names)[32];
    uint32_t count, cap;
    bool strange; /* there is something that no run puts there */
    int rc;
};

static bool is_known(const char *name) {
    uint64_t index;
    uint32_t id;
    return segment_parse_name(name, "seg", &index) || run_parse_name(name, &id) ||
           strcmp(name, SAVE_MAKING) == 0 || strcmp(name, SAVE_TEXT) == 0 ||
           strcmp(name, "lock") == 0;
}

static int note_name(void *arg, const char *name) {
    struct names *n = arg;
    if (!is_known(name)) {
        n->strange = true;
        return 0;
    }
    if (n->count == n->cap) {
        uint32_t more = n->cap == 0 ? 64 : n->cap * 2;
        void *p =
            mem_grow(n->s->mem, n->names, n->cap * sizeof n->names[0], more * sizeof n->names[0]);
        if (p == NULL) {
            n->rc = fail(PAWL_MEMORY, "no memory to list a directory");
            return -ENOMEM;
        }
        n->names = p;
        n->cap = more;
    }
    snprintf(n->names[n->count++], sizeof n->names[0], "%s", name);
    return 0;
}

static int remove_names(struct save *s, const struct names *n, bool making) {
    for (uint32_t i = 0; i < n->count; i++) {
        if ((strcmp(n->names[i], SAVE_MAKING) == 0) != making)
            continue;
        int rc = s->to->ops->unlink(s->to, n->names[i]);
        if (rc < 0 && rc != -ENOENT)
            return fail_sys(rc, "unlink", n->names[i], NO_LSN);
    }
    return 0;
}

/* Empties the directory, `making` last. */
static int empty(struct save *s) {
    struct names n = {.s = s};
    int rc = s->to->ops->list(s->to, note_name, &n);
    if (rc < 0)
        rc = n.rc < 0 ? n.rc : fail_sys(rc, "readdir", s->unfinished, NO_LSN);
    else if (n.strange)
        rc = fail_at(PAWL_EXISTS, 0, "", s->unfinished, NO_LSN,
                     "%s is in the way, and holds files that no savepoint has: move it away",
                     s->path);
    if (rc == 0)
        rc = remove_names(s, &n, false);
    if (rc == 0)
        rc = remove_names(s, &n, true);
    mem_free(s->mem, n.names, n.cap * sizeof n.names[0]);
    return rc;
}

/* ---- `making` */

static int write_making(struct save *s) {
    int file = s->to->ops->open(s->to, SAVE_MAKING, SEAM_CREATE | SEAM_RDWR | SEAM_BUFFERED);
    if (file < 0)
        return fail_sys(file, "create", SAVE_MAKING, NO_LSN);
    int64_t n = s->to->ops->write(s->to, file, making_text, MAKING_SIZE, 0);
    s->to->ops->close(s->to, file);
    return n < 0 ? fail_sys((int)n, "write", SAVE_MAKING, NO_LSN) : 0;
}

/* Is it what write_making() writes, or as much of it as a crash left? 1, 0 or an error. */
static int is_making(struct save *s) {
    char text[MAKING_SIZE + 1];
    int file = s->to->ops->open(s->to, SAVE_MAKING, SEAM_BUFFERED);
    if (file < 0)
        return fail_sys(file, "open", SAVE_MAKING, NO_LSN);
    int64_t n = s->to->ops->read(s->to, file, text, sizeof text, 0);
    s->to->ops->close(s->to, file);
    if (n < 0)
        return fail_sys((int)n, "read", SAVE_MAKING, NO_LSN);
    return n <= (int64_t)MAKING_SIZE && memcmp(text, making_text, (size_t)n) == 0;
}

static int in_the_way(struct save *s) {
    return fail_at(PAWL_EXISTS, 0, "mkdir", s->unfinished, NO_LSN,
                   "%s is in the way, and isn't known to be an unfinished savepoint: move it away",
                   s->path);
}

static int taken(struct save *s) {
    return fail_at(PAWL_BUSY, 0, "flock", s->unfinished, NO_LSN,
                   "another process is making %s: wait for it, or choose another name", s->path);
}

/* Something has the name. 0: it was an unfinished savepoint that nobody makes any more, and is
 * gone. */
static int remove_leftover(struct save *s) {
    s->claim = seam_claim(s->to, SAVE_MAKING);
    int rc = s->claim;
    if (rc == -EWOULDBLOCK)
        return taken(s);
    if (rc < 0 && rc != -ENOENT)
        return in_the_way(s);
    if (rc >= 0) {
        rc = is_making(s);
        if (rc <= 0)
            return rc < 0 ? rc : in_the_way(s);
        TRY(empty(s));
    }
    rc = seam_above_remove(s->above, s->unfinished); /* if it is empty */
    return rc == 0 || rc == -ENOENT ? 0 : in_the_way(s);
}

static void leave(struct save *s) {
    seam_claim_end(s->claim);
    s->claim = -1;
    if (s->to != NULL)
        s->to->ops->destroy(s->to);
    s->to = NULL;
}

/* A directory of this name is ours now. */
static int claim_new(struct save *s) {
    int rc = write_making(s);
    if (rc < 0) {
        pawl_error e;
        fail_copy(&e);
        if (empty(s) == 0)
            (void)!seam_above_remove(s->above, s->unfinished);
        return fail_again(&e);
    }
    s->claim = seam_claim(s->to, SAVE_MAKING);
    if (s->claim == -EWOULDBLOCK || s->claim == -ENOENT)
        return taken(s); /* by a process that found it before it was claimed */
    if (s->claim < 0)
        return fail_sys(s->claim, "flock", SAVE_MAKING, NO_LSN);
    rc = seam_above_is(s->above, s->unfinished, s->to);
    return rc < 0 ? fail_sys(rc, "fstat", s->unfinished, NO_LSN) : rc == 0 ? taken(s) : 0;
}

static int make(struct save *s) {
    for (int i = 0; i < 3; i++) {
        int rc = seam_above_make(s->above, s->unfinished);
        if (rc < 0 && rc != -EEXIST)
            return fail_sys(rc, "mkdir", s->unfinished, NO_LSN);
        bool ours = rc == 0;
        rc = seam_above_enter(s->above, s->unfinished, &s->to);
        if (rc == -ENOTDIR || rc == -ELOOP)
            return in_the_way(s);
        if (rc < 0 && rc != -ENOENT)
            return fail_sys(rc, "open", s->unfinished, NO_LSN);
        if (rc == 0 && ours) {
            s->made = true;
            return claim_new(s);
        }
        if (rc == 0)
            TRY(remove_leftover(s));
        leave(s);
    }
    return taken(s);
}

/* ---- its place */

static int look_above(struct save *s, const char *to) {
    int rc = seam_above_open(to, &s->above, &s->name);
    if (rc == -EINVAL)
        return fail(PAWL_INVALID, "'%s' can't be the name of a new directory", to);
    if (rc == -ENOENT || rc == -ENOTDIR)
        return fail(PAWL_NOT_FOUND, "the directory above %s isn't there: make it first", to);
    if (rc < 0)
        return fail_sys(rc, "open", to, NO_LSN);
    rc = seam_above_within(s->above, s->io);
    if (rc != 0)
        return rc < 0 ? fail_sys(rc, "open", to, NO_LSN)
                      : fail(PAWL_INVALID,
                             "%s lies in the directory that it is made from: choose "
                             "a place outside",
                             to);
    rc = seam_above_there(s->above, s->name);
    return rc == 0  ? 0
           : rc < 0 ? fail_sys(rc, "stat", to, NO_LSN)
                    : fail(PAWL_EXISTS, "%s is there already; nothing is replaced", to);
}

int save_begin(struct save *s, const char *to) {
    s->claim = -1;
    TRY(look_above(s, to));
    size_t name = strlen(s->name), above = strlen(to);
    while (above > 1 && to[above - 1] == '/')
        above--;
    s->name_size = name + sizeof SAVE_SUFFIX;
    s->path_size = above + sizeof SAVE_SUFFIX;
    s->unfinished = mem_alloc(s->mem, s->name_size);
    s->path = mem_alloc(s->mem, s->path_size);
    if (s->unfinished == NULL || s->path == NULL)
        return fail(PAWL_MEMORY, "no memory for a name");
    snprintf(s->unfinished, s->name_size, "%s" SAVE_SUFFIX, s->name);
    snprintf(s->path, s->path_size, "%.*s" SAVE_SUFFIX, (int)above, to);
    return make(s);
}

int save_sync(struct save *s) {
    int rc = s->to->ops->sync_dir(s->to);
    return rc < 0 ? fail_sys(rc, "fsync", s->unfinished, NO_LSN) : 0;
}

int save_name(struct save *s) {
    int rc = seam_above_rename(s->above, s->unfinished, s->name);
    if (rc == -EEXIST)
        return fail(PAWL_EXISTS, "%s is there since; nothing is replaced", s->name);
    if (rc < 0 && seam_above_there(s->above, s->unfinished) == 0)
        s->made = false; /* it has its name; only whether that is durable isn't known */
    if (rc < 0)
        return fail_sys(rc, "rename", s->unfinished, NO_LSN);
    s->made = false;
    /* Nobody reads it: whether it goes doesn't matter. */
    if (s->to->ops->unlink(s->to, SAVE_MAKING) == 0)
        (void)!s->to->ops->sync_dir(s->to);
    return 0;
}

void save_end(struct save *s) {
    pawl_error e;
    fail_copy(&e);
    if (s->made && s->to != NULL && s->claim >= 0 && empty(s) == 0)
        (void)!seam_above_remove(s->above, s->unfinished);
    leave(s);
    seam_above_close(s->above);
    mem_free(s->mem, s->unfinished, s->name_size);
    mem_free(s->mem, s->path, s->path_size);
    mem_free(s->mem, s->files, s->cap * sizeof *s->files);
    fail_again(&e);
}
