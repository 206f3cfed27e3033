/* SPDX-License-Identifier: Apache-2.0
 *
 * Compares what there is with the files that are read: gathers evidence, and carries out what
 * trail_policy.c decides.
 */
#include "connectors/file/trail.h"
#include "connectors/runtime/reach.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- life */

static void destroy(void *self) {
    struct trail *s = self;
    while (s->count > 0)
        files_remove(s, s->files[s->count - 1]);
    tail_free(s->tail);
    for (size_t i = 0; i < s->slot_count; i++) {
        free(s->slots[i]->item);
        free(s->slots[i]);
    }
    free(s->slots);
    free(s->files);
    free(s->held);
    watch_end(&s->watch);
    free(s->path);
    free(s->glob);
    free(s->rotated);
    free(s->directory);
    pthread_mutex_destroy(&s->mutex);
    free(s);
}

/* NULL: no memory. */
static struct trail *new_trail(const struct trail_settings *g) {
    struct trail *s = calloc(1, sizeof *s);
    if (s == NULL) {
        split_free(g->tail.split);
        return NULL;
    }
    pthread_mutex_init(&s->mutex, NULL);
    s->set = *g;
    s->watch = (struct watch)WATCH_INIT;
    s->path = strdup(g->path);
    s->glob = g->glob != NULL ? strdup(g->glob) : NULL;
    s->rotated = g->rotated != NULL ? strdup(g->rotated) : NULL;
    s->tail = tail_new(&g->tail);
    const char *slash = strrchr(g->path, '/');
    s->directory = g->glob != NULL    ? strdup(g->path)
                   : slash == NULL    ? strdup(".")
                   : slash == g->path ? strdup("/")
                                      : strndup(g->path, (size_t)(slash - g->path));
    if (s->path == NULL || s->directory == NULL || s->tail == NULL ||
        (g->glob != NULL && s->glob == NULL) || (g->rotated != NULL && s->rotated == NULL)) {
        destroy(s);
        return NULL;
    }
    s->name = slash == NULL ? s->path : s->path + (slash - g->path) + 1;
    return s;
}

int trail_make(const pawl_connector *c, const pawl_settings *g, struct trail_settings *t,
               pawl_source_ops *out, pawl_error *err) {
    t->path = pawl_setting_text(c, g, "path");
    t->follow = pawl_setting_number(c, g, "follow") != 0;
    t->links = (enum reach_links)pawl_setting_number(c, g, "links");
    t->on_replaced = connect_setting_choice(c, g, "on_replaced");
    t->rotate_wait_ms = pawl_setting_number(c, g, "rotate_wait");
    t->tail.on_long = connect_setting_choice(c, g, "on_long");
    if (t->path[0] == 0)
        return connect_error(err, PAWL_INVALID, "path is empty");
    int rc = split_make(c, g, &t->tail.split, err);
    if (rc < 0)
        return rc;
    struct trail *s = new_trail(t);
    if (s == NULL)
        return connect_error(err, PAWL_MEMORY, "no memory for a source");
    *out = (pawl_source_ops){.struct_size = sizeof *out,
                             .flags = PAWL_SOURCE_REWINDABLE | PAWL_SOURCE_STRANGERS,
                             .type = c->type,
                             .self = s,
                             .open = trail_open,
                             .read = trail_read,
                             .status = trail_status,
                             .destroy = destroy};
    return 0;
}

uint64_t trail_now(void) {
    return connect_now(&(pawl_hooks){0});
}

bool trail_at_end(const struct file *x) {
    struct stat st;
    if (x->tail.content.fd >= 0 && fstat(x->tail.content.fd, &st) == 0)
        return x->tail.seen_size == (uint64_t)st.st_size &&
               x->tail.seen_mtime == tail_mtime(&st.st_mtim);
    return x->tail.seen_size == x->size && x->tail.seen_mtime == x->mtime;
}

/* ---- holding */

void trail_stop_reading(struct trail *s, struct file *x) {
    if (s->reading == x) {
        tail_leave(s->tail);
        s->reading = NULL;
    }
}

void trail_unhold(struct trail *s, struct file *x) {
    trail_stop_reading(s, x);
    watch_forget(&s->watch, &x->wd);
    content_close(&x->tail.content);
}

int trail_hold(struct file *x) {
    struct stat st;
    int fd = reach_read(x->path, x->links);
    if (fd < 0)
        return -1;
    if (fstat(fd, &st) != 0 || !ident_fits(x->tail.pos.ident, st.st_ino, birth_of(fd))) {
        close(fd);
        errno = EINTR; /* the path has just been given to another file */
        return -1;
    }
    return files_identify(x, fd, &st, x->path);
}

/* ---- evidence */

static int by_inode(const void *a, const void *b) {
    const struct entry *const *x = a, *const *y = b;
    uint64_t i = (*x)->inode & IDENT_INODE, k = (*y)->inode & IDENT_INODE;
    return i != k ? (i < k ? -1 : 1) : (int)(*x)->kind - (int)(*y)->kind;
}

static size_t first_of(const struct look *l, uint64_t inode) {
    size_t from = 0, to = l->survey.count;
    while (from < to) {
        size_t mid = (from + to) / 2;
        if ((l->by_inode[mid]->inode & IDENT_INODE) < inode)
            from = mid + 1;
        else
            to = mid;
    }
    return from;
}

/* The item that version 1 gave to a file of a directory. */
static bool old_item_of(const char *name, const char *item) {
    char own[64];
    size_t n = strlen(name);
    if (n <= 60 && strncmp(name, "h-", 2) != 0 && connect_name_ok(name))
        memcpy(own, name, n + 1);
    else
        snprintf(own, sizeof own, "h-%016" PRIx64, tail_hash((const uint8_t *)name, n));
    return strcmp(own, item) == 0;
}

/* Does the entry lead to the file that x means? *birth: 0 if it wasn't asked for. */
static bool leads_to(const struct file *x, const struct entry *e) {
    if (x->old_item && (e->kind != ENTRY_LIVE || !old_item_of(e->name, x->tail.item)))
        return false;
    if (x->tail.content.fd >= 0) /* held: the inode can't be another file's */
        return e->inode == x->inode && e->device == x->device;
    return ident_fits(x->tail.pos.ident, e->inode, birth_of_path(e->path));
}

static struct entry *entry_of(const struct look *l, const struct file *x) {
    uint64_t inode = x->tail.pos.ident & IDENT_INODE;
    for (size_t i = first_of(l, inode);
         i < l->survey.count && (l->by_inode[i]->inode & IDENT_INODE) == inode; i++)
        if (l->by_inode[i]->file == NULL && leads_to(x, l->by_inode[i]))
            return l->by_inode[i];
    return NULL;
}

/* Is the emptied file one that is being written again? It is empty, or has its old beginning. */
static bool may_be_rewritten(const struct trail *s, struct file *x, uint64_t size) {
    uint8_t head[HEAD_BYTES];
    uint64_t now = trail_now();
    if (!s->set.follow || size >= x->tail.pos.at || x->place == PLACE_SOUGHT ||
        x->place == PLACE_LOST) /* what it began with isn't known */
        return false;
    if (x->emptied_ns == 0)
        x->emptied_ns = now;
    if (now - x->emptied_ns > REWRITE_NS)
        return false;
    ssize_t n = content_read(&x->tail.content, head, HEAD_BYTES, 0);
    size_t least = n < 0 ? 0 : (size_t)n < x->head_len ? (size_t)n : x->head_len;
    return n >= 0 && (size_t)n <= size && memcmp(head, x->head, least) == 0;
}

/* What the file itself has. Opens it if it isn't known yet. */
static enum seen_bytes bytes_of(struct trail *s, struct file *x, const struct entry *e) {
    bool moved = s->glob == NULL || e == NULL || x->path == NULL || strcmp(x->path, e->path) != 0;
    if (e != NULL && files_set_path(x, e->path, e->base) != 0)
        return BYTES_UNREAD;
    if (x->tail.content.fd < 0) {
        if (e == NULL)
            return BYTES_NONE;
        if (x->known && !x->changed && (e->packed || e->size >= x->tail.pos.at) &&
            x->place != PLACE_LOST)
            return BYTES_SAME; /* compared again when it is read */
        if (trail_hold(x) != 0) {
            trail_error(s, x, errno, x->tail.path);
            return BYTES_UNREAD;
        }
    }
    struct stat st = {0};
    int enough = content_may_have(&x->tail.content, x->tail.pos.at);
    int same = enough <= 0 || fstat(x->tail.content.fd, &st) != 0 ? (enough == 0 ? 0 : -1)
               : moved || x->place == PLACE_SOUGHT || x->place == PLACE_LOST || x->changed
                   ? tail_matches(&x->tail.content, &x->tail.pos)
                   : 1;
    if (same < 0) {
        trail_error(s, x, errno, x->tail.path);
        return BYTES_UNREAD;
    }
    if (x->error != 0 && (x->ended || trail_at_end(x))) /* no read will show it */
        trail_mended(s, x);
    x->changed = same == 0;
    if (same)
        x->emptied_ns = 0;
    return same ? BYTES_SAME
           : x->tail.content.unpack == NULL && may_be_rewritten(s, x, (uint64_t)st.st_size)
               ? BYTES_EMPTYING
               : BYTES_CHANGED;
}

static bool same_base(const struct file *x, const struct entry *e) {
    return x->base != NULL && e->base != NULL && strcmp(x->base, e->base) == 0;
}

/* Opens the entry's file, to compare it. 1, 0 (this build can never read it), or -1. */
static int open_other(struct trail *s, const struct entry *e, struct content *c) {
    if (twin_open(e, c) == 0)
        return 1;
    if (errno != ENOTSUP)
        return -1;
    trail_pass(s, e);
    return 0;
}

/* Has the entry's file the bytes before x's position? -1: it can't be read. */
static int has_position(struct trail *s, const struct entry *e, const struct file *x) {
    struct content c;
    int same = open_other(s, e, &c);
    if (same > 0) {
        same = tail_matches(&c, &x->tail.pos);
        content_close(&c);
    }
    return same;
}

/* Has it these, and more after all that it shares with x? -1: one can't be read. */
static int has_more(struct trail *s, const struct entry *e, struct file *x) {
    struct content c;
    uint8_t more;
    int same = open_other(s, e, &c);
    if (same <= 0)
        return same;
    same = tail_matches(&c, &x->tail.pos);
    if (same > 0) {
        int64_t common = common_bytes(&x->tail.content, &c, UINT64_MAX);
        same = common < 0 ? -1 : content_read(&c, &more, 1, (uint64_t)common) == 1;
    }
    content_close(&c);
    return same;
}

/* Can the entry's file be a copy of x, as far as kind and names tell? `late`: one that was written
 * after the position was made. */
static bool may_be_copy(const struct trail *s, const struct file *x, const struct entry *e,
                        int kind, bool late) {
    if ((int)e->kind != kind || e->file != NULL || (!e->packed && e->size < x->tail.pos.at) ||
        (x->known && e->inode == x->inode && e->device == x->device))
        return false;
    if (kind == ENTRY_ROTATED && late != (e->mtime >= x->tail.pos.mtime))
        return false;
    if (kind != ENTRY_OTHER || s->glob == NULL)
        return kind != ENTRY_OTHER;
    /* the name isn't known after a restart; an archive keeps the time of its original */
    return x->base != NULL ? strncmp(e->name, x->base, strlen(x->base)) == 0
                           : e->packed && e->mtime >= x->tail.pos.mtime;
}

/* Has y lost its own file, as far as names and sizes tell? */
static bool is_homeless(struct file *y) {
    if (y->leaving || y->tail.pos.ident == 0)
        return false;
    if (y->tail.content.fd >= 0)
        return y->changed || tail_matches(&y->tail.content, &y->tail.pos) == 0;
    return y->entry == NULL || (!y->entry->packed && y->entry->size < y->tail.pos.at);
}

/* A copy continues the position that is furthest in it: does the entry's file belong to another one
 * than x? */
static bool is_owed(struct trail *s, const struct entry *e, const struct file *x) {
    for (size_t i = 0; i < s->count; i++) {
        struct file *y = s->files[i];
        if (y != x && y->tail.pos.at > x->tail.pos.at && is_homeless(y) &&
            has_position(s, e, y) > 0)
            return true;
    }
    return false;
}

/* Finds a new file that has the bytes before x's position: the followed names first; then rotated
 * ones that were written after the position was made, the oldest first, since a short beginning may
 * be that of several; then the other rotated ones, and names that continue x's. */
static struct entry *copy_of(struct trail *s, const struct look *l, const struct file *x,
                             bool *unread, bool *owed) {
    static const struct {
        int kind;
        bool late;
    } steps[] = {
        {ENTRY_LIVE, true}, {ENTRY_ROTATED, true}, {ENTRY_ROTATED, false}, {ENTRY_OTHER, true}};
    size_t n = l->survey.count;
    for (size_t k = 0; k < sizeof steps / sizeof *steps && x->tail.pos.at != 0; k++)
        for (size_t i = 0; i < n; i++) {
            struct entry *e = &l->survey.entry[k == 1 ? i : n - 1 - i];
            if (!may_be_copy(s, x, e, steps[k].kind, steps[k].late))
                continue;
            int same = has_position(s, e, x);
            if (same > 0 && !is_owed(s, e, x))
                return e;
            *owed |= same > 0;
            *unread |= same < 0 && e->mtime >= x->tail.pos.mtime;
        }
    return NULL;
}

/* When the first file was born that got the followed name after x; 0: x has it, or that isn't
 * known. */
static uint64_t birth_of_next(const struct trail *s, const struct look *l, const struct file *x) {
    uint64_t next = 0;
    for (size_t i = 0; i < l->survey.count; i++) {
        const struct entry *e = &l->survey.entry[i];
        if (e->newest && same_base(x, e))
            next = e->inode == x->inode && e->device == x->device ? 0 : birth_of_path(e->path);
    }
    for (size_t i = 0; i < s->count && next != 0; i++) {
        const struct file *y = s->files[i];
        if (y->was_followed && y->birth > x->birth && y->birth < next && y->base != NULL &&
            strcmp(y->base, x->base) == 0)
            next = y->birth;
    }
    return next;
}

/* The followed file has the bytes before the position, but they prove little: was it copied and
 * truncated, and has it the same beginning again? Then a copy that was made since has bytes after
 * the position that the file has not. What was copied once another file had its name was copied
 * from that one. */
static struct entry *copied_unseen(struct trail *s, const struct look *l, struct file *x,
                                   bool *unread) {
    uint64_t next = birth_of_next(s, l, x);
    for (size_t i = 0; i < x->rank; i++) { /* it is older in the order */
        struct entry *e = &l->survey.entry[i];
        if (e->kind != ENTRY_ROTATED || e->file != NULL || !same_base(x, e) ||
            (e->packed ? x->tail.pos.at == 0 : e->size <= x->tail.pos.at) ||
            e->mtime < x->tail.pos.mtime)
            continue;
        uint64_t birth = birth_of_path(e->path);
        if (birth != 0 && x->birth != 0 && birth <= x->birth)
            continue; /* it was there before: one rotated by renaming */
        if (birth != 0 && next != 0 && birth >= next)
            continue;
        int more = has_more(s, e, x);
        if (more > 0)
            return e;
        *unread |= more < 0;
    }
    return NULL;
}

/* Does another file that is read have the bytes before x's position, and is it past them? */
static bool is_read_elsewhere(struct trail *s, const struct file *x) {
    for (size_t i = 0; i < s->count && x->tail.pos.at >= SURE_BYTES; i++) {
        struct file *y = s->files[i];
        if (y != x && y->tail.content.fd >= 0 && !y->changed && y->tail.pos.at >= x->tail.pos.at &&
            tail_matches(&y->tail.content, &x->tail.pos) > 0)
            return true;
    }
    return false;
}

/* ---- acting */

static void report_gone(struct trail *s, struct look *l, struct file *x, bool again) {
    uint64_t at = x->tail.pos.at,
             size = x->size > at && decompress_stem(x->tail.path) == 0 ? x->size - at : 0;
    char known[100];
    snprintf(known, sizeof known,
             size != 0 ? "at least %" PRIu64 " bytes after it were not read"
                       : "how many bytes followed it unread isn't known",
             size);
    if (s->set.on_replaced == REPLACED_STOP) {
        l->stop = true;
        (void)pawl_fault_set(l->fault, PAWL_FATAL,
                             "%s: no file has the bytes before offset %" PRIu64 " of inode %" PRIu64
                             " any more: truncated, rewritten or removed; see "
                             "to it, then start with on_replaced = read",
                             x->tail.path, at, x->tail.pos.ident & IDENT_INODE);
        return;
    }
    x->gone_to = size != 0 ? x->size : 0;
    pawl_source_report(s->context, 2,
                       "%s: no file has the bytes before offset %" PRIu64 " of inode %" PRIu64
                       " any more: truncated, rewritten or removed; %s; they are lost%s",
                       x->tail.path, at, x->tail.pos.ident & IDENT_INODE, known,
                       again ? "; reading goes on with this file from its start" : "");
}

/* What was copied from x is younger than x is; what it was renamed to isn't. */
uint64_t trail_seen_until(const struct trail *s, const struct file *x) {
    uint64_t until = x->mtime;
    for (size_t i = 0; i < s->count; i++) {
        const struct file *y = s->files[i];
        struct stat st;
        if (y == x || y->birth < x->birth || y->base == NULL || x->base == NULL ||
            strcmp(y->base, x->base) != 0)
            continue;
        uint64_t mtime = y->tail.content.fd >= 0 && fstat(y->tail.content.fd, &st) == 0
                             ? tail_mtime(&st.st_mtim)
                             : y->mtime;
        until = mtime >= until ? mtime + 1 : until;
    }
    return until;
}

static void restart(struct trail *s, struct file *x) {
    x->since = x->tail.pos.mtime;
    x->tail.pos.at = x->begun_at = 0;
    x->tail.passed_count = 0;
    x->tail.pos.flags &= (uint8_t)~TAIL_FLAGS;
    x->tail.pos.hash = tail_hash(NULL, 0);
    x->tail.pos.mtime = trail_seen_until(s, x);
    x->tail.seen_size = UINT64_MAX;
    x->changed = false;
    x->ended = false;
    x->emptied_ns = 0;
    x->dirty = x->restarted = true;
    files_read_head(x);
}

void trail_take_name(struct file *x, const struct entry *e) {
    x->called = e->kind;
    x->was_followed = e->kind == ENTRY_LIVE;
    x->place = e->kind == ENTRY_LIVE ? PLACE_LIVE : PLACE_ASIDE;
    x->aside_ns = x->place == PLACE_LIVE ? 0 : trail_now();
    x->size = e->size;
}

bool trail_move_to(struct trail *s, struct file *x, struct entry *e) {
    trail_stop_reading(s, x);
    struct stat st;
    int fd = files_open(e, &st);
    if (fd < 0) {
        trail_error(s, x, errno, e->path); /* the next look sees what became of it */
        return false;
    }
    watch_forget(&s->watch, &x->wd);
    if (files_set_path(x, e->path, e->base) != 0) {
        close(fd);
        trail_error(s, x, ENOMEM, e->path);
        return false;
    }
    if (files_identify(x, fd, &st, e->path) != 0) {
        trail_error(s, x, errno, e->path);
        return false;
    }
    trail_take_name(x, e);
    x->tail.seen_size = UINT64_MAX;
    x->changed = x->ended = x->old_item = false;
    x->emptied_ns = 0;
    x->dirty = true;
    e->file = x;
    x->entry = e;
    return true;
}

static void set_aside(struct file *x, enum place place) {
    if (x->aside_ns == 0)
        x->aside_ns = trail_now();
    x->place = place;
}

static void let_go(struct trail *s, struct file *x) {
    if (!x->known) { /* since the start; until the new files are seen it says which are newer */
        x->place = PLACE_LOST;
        x->leaving = true;
        return;
    }
    if (!x->committed) {
        files_remove(s, x);
        return;
    }
    x->tail.pos.flags |= TAIL_FINISHED;
    x->dirty = x->leaving = true;
    trail_unhold(s, x);
}

/* Nothing finds a removed file after a restart: its position says at each end of it that all was
 * read. */
void trail_finish_nameless(struct file *x) {
    struct stat st;
    if (x->place != PLACE_NAMELESS || !x->committed || (x->tail.pos.flags & TAIL_FINISHED) != 0 ||
        !trail_at_end(x) || fstat(x->tail.content.fd, &st) != 0 || st.st_nlink != 0)
        return;
    x->tail.pos.flags |= TAIL_FINISHED;
    x->dirty = true;
}

/* Carries out what was decided about x, whose name is e (NULL: none). */
static void act(struct trail *s, struct look *l, struct file *x, struct entry *e,
                struct entry *copy, enum file_action action) {
    enum place aside = e != NULL ? PLACE_ASIDE : PLACE_NAMELESS;
    switch (action) {
    case FILE_READ:
        if (e == NULL) /* the directory is away */
            break;
        if (x->aside_ns != 0)
            x->ended = false;
        x->aside_ns = 0;
        x->place = PLACE_LIVE;
        break;
    case FILE_LINGER:
        set_aside(x, aside);
        trail_finish_nameless(x);
        break;
    case FILE_LET_GO:
        let_go(s, x);
        break;
    case FILE_TO_COPY:
        assert(copy != NULL); /* the evidence says that there is one */
        if (e != NULL)        /* the emptied file is a new one */
            e->file = NULL;
        (void)trail_move_to(s, x, copy);
        break;
    case FILE_AGAIN:
        report_gone(s, l, x, true);
        if (l->stop)
            return;
        /* fall through */
    case FILE_ANEW:
        trail_stop_reading(s, x);
        restart(s, x);
        if (e != NULL && e->kind == ENTRY_LIVE)
            x->place = PLACE_LIVE;
        else
            set_aside(x, aside);
        break;
    case FILE_LOST:
        if (x->place != PLACE_LOST && x->tail.pos.at != 0)
            report_gone(s, l, x, false);
        x->dirty |= x->place != PLACE_LOST && x->committed;
        x->tail.pos.flags |= TAIL_FINISHED; /* it is said once */
        trail_unhold(s, x);
        x->place = PLACE_LOST;
        break;
    case FILE_WAIT:
        break;
    }
}

/* A position whose file isn't there is said to be gone only when another file is. */
static bool something_new(const struct look *l, const struct file *x) {
    for (size_t i = 0; i < l->survey.count; i++)
        if (l->survey.entry[i].file == NULL && l->survey.entry[i].kind != ENTRY_OTHER &&
            (x->base == NULL || same_base(x, &l->survey.entry[i])))
            return true;
    return false;
}

/* Finds the name of each file that is read. */
static void see_names(struct trail *s, struct look *l) {
    for (size_t i = 0; i < s->count; i++) {
        struct file *x = s->files[i];
        struct entry *e = x->leaving || x->tail.pos.ident == 0 ? NULL : entry_of(l, x);
        x->entry = e;
        x->rank = SIZE_MAX;
        if (e == NULL)
            continue;
        e->file = x;
        x->called = e->kind;
        x->was_followed |= e->kind == ENTRY_LIVE;
        x->size = e->size;
        x->mtime = e->mtime;
        x->rank = (size_t)(e - l->survey.entry);
    }
}

static void see_file(struct trail *s, struct look *l, struct file *x) {
    struct entry *e = x->entry, *copy = NULL;
    if (x->leaving || x->tail.pos.ident == 0)
        return;
    bool known_before = x->changed; /* so the survey is younger than the change */
    bool found_again = (x->place == PLACE_SOUGHT || x->place == PLACE_LOST) && e != NULL;
    bool unread = false, owed = false;
    struct file_evidence v = {
        .name = e == NULL ? (l->survey.error != 0 || l->survey.absent ? NAME_UNKNOWN : NAME_NONE)
                : e->kind == ENTRY_LIVE ? NAME_FOLLOWED
                                        : NAME_OTHER,
        .bytes = bytes_of(s, x, e),
    };
    if (found_again && v.bytes == BYTES_SAME) { /* look once more at what was let go */
        if (x->ended)
            x->aside_ns = 1;
        x->tail.pos.flags &= (uint8_t)~TAIL_FINISHED;
        x->ended = x->old_item = false;
        x->place = PLACE_ASIDE;
    }
    v.end = x->ended                                                ? END_WAITED
            : x->known && x->place != PLACE_LOST && trail_at_end(x) ? END_REACHED
                                                                    : END_AHEAD;
    if (v.bytes == BYTES_SAME && e != NULL && x->tail.pos.at < TAIL_WINDOW &&
        x->tail.content.fd >= 0) {
        copy = copied_unseen(s, l, x, &unread);
        v.bytes = copy != NULL ? BYTES_CHANGED : v.bytes;
    } else if (v.bytes == BYTES_CHANGED || v.bytes == BYTES_EMPTYING || v.bytes == BYTES_NONE)
        copy = copy_of(s, l, x, &unread, &owed);
    v.copy = copy != NULL                                                 ? COPY_YES
             : owed || (v.bytes != BYTES_SAME && is_read_elsewhere(s, x)) ? COPY_READ
                                                                          : COPY_NO;
    if (copy == NULL && unread)
        v.bytes = BYTES_UNREAD;
    if (copy == NULL && v.bytes == BYTES_CHANGED && !known_before) { /* a copy may be younger */
        s->again = l->late = true;
        return;
    }
    s->holds |= v.bytes == BYTES_UNREAD || v.bytes == BYTES_EMPTYING;
    enum file_action action = file_decide(&v)->action;
    if (action == FILE_LOST && x->place != PLACE_LOST && v.bytes == BYTES_NONE &&
        (s->glob == NULL ? !something_new(l, x) : l->survey.count == 0))
        action = FILE_WAIT;
    if (action == FILE_LET_GO && x->awaited)
        action = FILE_LINGER;
    if (x->old_item && v.bytes == BYTES_NONE && !l->survey.error && !l->survey.absent) {
        files_remove(s, x); /* its name is gone, as it was for the older version */
        return;
    }
    act(s, l, x, e, copy, action);
}

/* ---- a look */

static int by_rank(const void *a, const void *b) {
    const struct file *const *x = a, *const *y = b;
    return (*x)->rank < (*y)->rank ? -1 : (*x)->rank > (*y)->rank;
}

/* Positions that were loaded get the order of their files. */
static void order_loaded(struct trail *s) {
    for (size_t i = 0; i < s->count; i++)
        if (s->files[i]->rank == SIZE_MAX)
            s->files[i]->rank = 0; /* lost ones come first */
    if (s->count > 1)
        qsort(s->files, s->count, sizeof(struct file *), by_rank);
    for (size_t i = 1; i < s->count; i++) {
        struct file *x = s->files[i], *b = s->files[i - 1];
        if (x->base != NULL && b->base != NULL && strcmp(x->base, b->base) == 0)
            x->after = b;
    }
}

/* More files linger than slots and descriptors are kept for: the first ones are let go. */
static void limit_lingering(struct trail *s) {
    size_t n = 0;
    for (size_t i = s->count; i-- > 0;) {
        struct file *x = s->files[i];
        if (x->aside_ns != 0 && !x->leaving && ++n > LINGER_MAX && x->aside_ns != 1)
            x->aside_ns = 1;
    }
}

/* Says how many links are not followed, when there are more than before. */
static void say_refused(struct trail *s, const struct survey *l) {
    if (l->refused > s->refused)
        pawl_source_report(s->context, 2,
                           "%s and %zu other symbolic links are not followed, since neither root "
                           "nor this user made them and their makers don't own what they lead to",
                           l->refused_path, l->refused - 1);
    s->refused = l->refused;
}

/* Did this look see all files as they were then? */
static bool is_whole(const struct trail *s, const struct look *l) {
    bool whole = s->look_error == 0 && !l->survey.absent && !l->late;
    for (size_t i = 0; i < s->count; i++)
        whole &= s->files[i]->error == 0;
    return whole;
}

int trail_look(struct trail *s, pawl_fault *f) {
    struct look l = {.fault = f};
    bool first = s->looked_ns == 0;
    s->again = s->holds = false;
    s->look_error = 0;
    connect_source_point(s->context, "source-looks");
    if (survey_take(s, &l.survey) != 0 ||
        (l.by_inode = calloc(l.survey.count + 1, sizeof(struct entry *))) == NULL) {
        survey_free(&l.survey);
        return pawl_fault_set(f, PAWL_RETRY, "no memory to look at %s", s->directory);
    }
    uint64_t begun = trail_now();
    for (size_t i = 0; i < l.survey.count; i++)
        l.by_inode[i] = &l.survey.entry[i];
    qsort(l.by_inode, l.survey.count, sizeof(struct entry *), by_inode);
    if (l.survey.error != 0)
        trail_error(s, NULL, l.survey.error, l.survey.where);
    say_refused(s, &l.survey);
    see_names(s, &l);
    for (size_t i = 0; i < s->count && !l.stop;) {
        struct file *x = s->files[i];
        see_file(s, &l, x);
        i += i < s->count && s->files[i] == x;
    }
    if (first)
        order_loaded(s);
    if (!l.stop && !l.late)
        trail_see_new(s, &l);
    for (size_t i = s->count; i-- > 0;)
        if (s->files[i]->leaving && s->files[i]->place == PLACE_LOST)
            files_remove(s, s->files[i]);
    limit_lingering(s);
    trail_say_error(s);
    if (is_whole(s, &l))
        connect_source_point(s->context, "source-looked");
    s->looked_ns = trail_now();
    s->look_ns = s->looked_ns + 10 * (s->looked_ns - begun);
    free(l.by_inode);
    survey_free(&l.survey);
    return l.stop ? PAWL_FATAL : PAWL_DONE;
}
