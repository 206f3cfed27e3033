/* SPDX-License-Identifier: Apache-2.0
 *
 * Files that are new to the source: which of them are read, and from where.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "connectors/file/trail.h"
#include "connectors/runtime/reach.h"

/* What was noted of the entry's file; NULL: nothing. */
static struct held *held_of(const struct trail *s, const struct entry *e) {
    for (size_t i = 0; i < s->held_count; i++)
        if (s->held[i].inode == e->inode && s->held[i].device == e->device)
            return &s->held[i];
    return NULL;
}

/* The same; it is noted if it wasn't. NULL: no memory. */
static struct held *hold(struct trail *s, const struct entry *e) {
    struct held *h = held_of(s, e);
    if (h != NULL)
        return h;
    struct held *more = realloc(s->held, (s->held_count + 1) * sizeof *more);
    if (more == NULL)
        return NULL;
    s->held = more;
    h = &more[s->held_count++];
    *h = (struct held){.device = e->device,
                       .inode = e->inode,
                       .birth = birth_of_path(e->path),
                       .size = UINT64_MAX};
    return h;
}

/* The entry's file has kept `size` for a while: its own size, or that of what it is compared
 * with. */
static bool has_settled(struct trail *s, const struct entry *e, uint64_t size) {
    uint64_t now = trail_now();
    struct held *h = hold(s, e);
    if (h != NULL && h->size == size)
        return now - h->since_ns >= SETTLED_NS;
    if (h != NULL)
        *h = (struct held){.device = e->device,
                           .inode = e->inode,
                           .birth = birth_of_path(e->path),
                           .size = size,
                           .since_ns = now,
                           .newer = h->newer};
    return false;
}

static bool is_passed(const struct trail *s, const struct entry *e) {
    const struct held *h = held_of(s, e);
    return h != NULL && h->passed && h->size == e->size;
}

void trail_pass(struct trail *s, const struct entry *e) {
    if (is_passed(s, e))
        return;
    int fd = reach_read(e->path, e->links);
    const struct decompress_format *f = fd >= 0 ? decompress_format_of(fd) : NULL;
    if (fd >= 0)
        close(fd);
    (void)has_settled(s, e, e->size); /* it is in the list now */
    struct held *h = held_of(s, e);
    if (h != NULL)
        h->passed = true;
    if (f == NULL)
        pawl_source_report(s->context, 1,
                           "%s isn't compressed, or not yet, as its name says: it is "
                           "passed over",
                           e->path);
    else if (s->glob != NULL && !s->set.packed)
        pawl_source_report(s->context, 1,
                           "%s is a %s file: it is passed over, without compressed: read", e->path,
                           f->name);
    else
        pawl_source_report(
            s->context, 2,
            "%s can't be read, since %s%s: the lines of its %" PRIu64
            " compressed bytes are missing",
            e->path, f->library != NULL ? "this build lacks " : "nothing here reads the format ",
            f->library != NULL ? f->library : f->name, e->size);
}

static void forget_held(struct trail *s, const struct entry *e) {
    struct held *h = held_of(s, e);
    if (h != NULL)
        *h = s->held[--s->held_count];
}

/* The last file before a new one: its predecessor. */
static struct file *last_of(const struct trail *s, const char *base) {
    for (size_t i = s->count; i-- > 0;) {
        struct file *x = s->files[i];
        if (x->place == PLACE_SOUGHT || x->place == PLACE_LOST || x->leaving)
            continue;
        if (s->glob == NULL || (base != NULL && x->base != NULL && strcmp(base, x->base) == 0))
            return x;
    }
    return NULL;
}

/* x's position becomes the last beginning of a line in the `common` bytes that it shares with
 * `with`. They are hashed as `with` has them, since x may have been rewritten after it was
 * compared: then reading it shows that it has other bytes. -1 with errno. */
static int share(struct file *x, struct file *with, uint64_t common) {
    bool held = with == NULL || with->tail.content.fd >= 0;
    if (!held && trail_hold(with) != 0)
        return -1;
    int rc = position_at_line(with != NULL ? &with->tail.content : &x->tail.content, common,
                              &x->tail.pos);
    if (!held) {
        int error = errno;
        content_close(&with->tail.content);
        errno = error;
    }
    return rc;
}

/* Begins to read the entry's file at its beginning, at its end, or after the `common` bytes that it
 * shares with `with` (NULL: with one that doesn't have them any more). */
static struct file *begin(struct trail *s, struct entry *e, struct file *with, uint64_t common,
                          int start) {
    struct file *before = last_of(s, e->base);
    for (size_t i = s->count; i-- > 0;) /* the position that meant no file yet */
        if (s->files[i]->tail.pos.ident == 0)
            files_remove(s, s->files[i]);
    struct stat st;
    int fd = files_open(e, &st);
    if (fd < 0) {
        trail_error(s, NULL, errno, e->path);
        return NULL;
    }
    struct file *x = files_add(s, e->path, e->base);
    bool good = x != NULL && files_identify(x, fd, &st, e->path) == 0;
    if (good && e->packed && x->tail.content.unpack == NULL) { /* an archive by its name only */
        errno = ENOTSUP;
        good = false;
    }
    if (!good) {
        if (x != NULL && errno == ENOTSUP)
            trail_pass(s, e);
        else
            trail_error(s, NULL, x == NULL ? ENOMEM : errno, e->path);
        if (x == NULL)
            close(fd);
        else
            files_remove(s, x);
        return NULL;
    }
    trail_take_name(x, e);
    /* Of the survey, not of the open file: one that was copied and truncated in between has a
     * copy that is younger than this, and that the survey hasn't. */
    x->mtime = e->mtime;
    x->tail.pos.mtime = trail_seen_until(s, x);
    x->rank = (size_t)0;
    x->skipped = start == START_END ? "start: end" : "the same bytes as the file before it";
    if (start == START_END)
        common = (uint64_t)st.st_size;
    if (common != 0 && share(x, with, common) != 0) {
        trail_error(s, NULL, errno, e->path);
        files_remove(s, x);
        return NULL;
    }
    x->begun_at = x->tail.pos.at;
    x->after = before != x ? before : NULL;
    /* A file without a predecessor is a chosen start. The others are found again by their place
     * behind it: a position at 0 proves nothing once the file that it names is compressed. */
    x->dirty = (s->glob == NULL && x->after == NULL) || common != 0;
    e->file = x;
    forget_held(s, e);
    s->begun = true;
    return x;
}

/* The new file continues x at its position. What x itself has after the bytes that they share is
 * read as well: its writer may still have it open. */
static void continue_in(struct trail *s, struct file *x, struct entry *e, uint64_t common) {
    bool held = x->tail.content.fd >= 0 || trail_hold(x) == 0;
    struct content old = x->tail.content;
    struct file *rest = held ? files_add(s, x->path, x->base) : NULL;
    s->again |= !held;
    if (rest == NULL)
        return;
    struct file copy = *x;
    trail_stop_reading(s, x);
    x->tail.content = (struct content)CONTENT_INIT;
    if (!trail_move_to(s, x, e)) {
        x->tail.content = old;
        files_remove(s, rest);
        return;
    }
    rest->tail.content = old;
    rest->known = true;
    rest->device = copy.device;
    rest->inode = copy.inode;
    rest->birth = copy.birth;
    rest->tail.pos.ident = copy.tail.pos.ident;
    rest->tail.pos.mtime = copy.tail.pos.mtime;
    rest->called = copy.called;
    rest->was_followed = copy.was_followed;
    rest->place = copy.place;
    rest->aside_ns = copy.aside_ns;
    rest->size = copy.size;
    memcpy(rest->head, copy.head, HEAD_BYTES);
    rest->head_len = copy.head_len;
    rest->skipped = "the same bytes as the copy that is read instead";
    if (position_at_line(&rest->tail.content, common, &rest->tail.pos) != 0)
        files_remove(s, rest);
    else {
        rest->tail.pos.flags |= TAIL_REST;
        rest->begun_at = rest->tail.pos.at;
    }
}

static void note_shared(struct trail *s, const struct entry *e, uint64_t at) {
    struct held *h = held_of(s, e);
    if (h != NULL)
        h->shared = at;
}

/* A new file that had nothing but the beginning of one that was read, which then was truncated:
 * copied before the last lines came, which were read in the original. */
static uint64_t shared_of(const struct trail *s, const struct entry *e) {
    const struct held *h = held_of(s, e);
    /* an inode number is used again, and a copy never gets shorter */
    if (h == NULL || h->shared == 0 || h->size > e->size || h->birth != birth_of_path(e->path))
        return 0;
    return h->shared < e->size ? h->shared : e->size;
}

/* Returns what was decided; HOLD where that isn't known yet. */
static enum new_action see_new(struct trail *s, struct entry *e, enum new_name name) {
    struct new_evidence v = {.name = name, .settled = SETTLED_NO};
    struct file *with = NULL;
    uint64_t common = 0;
    if (is_passed(s, e))
        return NEW_SKIP;
    if (twin_find(s, e, &v, &with, &common) != 0) {
        if (errno == ENOTSUP)
            trail_pass(s, e);
        else
            trail_error(s, NULL, errno, e->path);
        return NEW_HOLD;
    }
    uint64_t size = v.of == TWIN_COPIED ? with->size : e->size; /* the writer doesn't stop */
    if (v.twin != TWIN_NONE)
        v.settled = !s->set.follow || has_settled(s, e, size) ? SETTLED_YES : SETTLED_NO;
    uint64_t shared = v.twin == TWIN_NONE ? shared_of(s, e) : 0;
    if (shared != 0) {
        (void)begin(s, e, NULL, shared, START_BEGINNING);
        return NEW_SHARE;
    }
    if (v.twin != TWIN_NONE && (v.of == TWIN_KEPT || v.of == TWIN_IN_PLACE))
        note_shared(s, e, with->tail.pos.at);
    enum new_action action = new_decide(&v)->action;
    switch (action) {
    case NEW_BEGIN_AGAIN:
        pawl_source_report(s->context, 2,
                           "%s begins with the same %" PRIu64
                           " bytes as the file before it, too few to prove a copy: it is read "
                           "from its start, and if it is a copy, these bytes come twice",
                           e->path, common);
        (void)begin(s, e, NULL, 0, START_BEGINNING);
        break;
    case NEW_BEGIN:
        (void)begin(s, e, NULL, 0, START_BEGINNING);
        break;
    case NEW_COPY: /* only what is left when all that can be read there was read */
        if (with->error == 0 && !with->ended && !trail_at_end(with))
            with->awaited = s->holds = true;
        else
            continue_in(s, with, e, common);
        break;
    case NEW_SHARE:
        if (common != 0)
            pawl_source_report(s->context, 1,
                               "%s begins with the same %" PRIu64
                               " bytes as the file before it: it is read from there",
                               e->path, common);
        (void)begin(s, e, with, common, START_BEGINNING);
        break;
    case NEW_HOLD:
    case NEW_LEAVE:
        s->holds = true;
        break;
    case NEW_SKIP:
        break;
    }
    return action;
}

/* Has the file no name that shows its place in the order? */
static bool without_place(const struct file *x) {
    return x->place == PLACE_LOST || (x->place == PLACE_NAMELESS && !x->leaving) ||
           (x->place == PLACE_ASIDE && x->entry != NULL && x->entry->kind == ENTRY_OTHER);
}

/* May x have had this followed name? After a restart the name of a file that is gone isn't
 * known. */
static bool is_of(const struct trail *s, const struct file *x, const char *base) {
    return s->glob == NULL || x->base == NULL || (base != NULL && strcmp(x->base, base) == 0);
}

/* Files of a group that were written after this are new. *any: a file of it is gone. */
static uint64_t newest_lost(const struct trail *s, const char *base, bool *any) {
    uint64_t newest = 0;
    for (size_t i = 0; i < s->count; i++) {
        const struct file *x = s->files[i];
        uint64_t mtime = x->place == PLACE_LOST ? x->tail.pos.mtime : x->mtime;
        if (!without_place(x) || !is_of(s, x, base))
            continue;
        *any = true;
        newest = mtime > newest ? mtime : newest;
    }
    return newest;
}

static size_t live_files(const struct trail *s) {
    size_t n = 0;
    for (size_t i = 0; i < s->count; i++)
        n += s->files[i]->place == PLACE_LIVE || s->files[i]->place == PLACE_SOUGHT;
    return n;
}

/* The limit may be lower than it was. */
static void limit_files(struct trail *s) {
    uint64_t n = 0;
    for (size_t i = 0; i < s->count && s->glob != NULL; i++) {
        s->files[i]->over = s->files[i]->place == PLACE_LIVE && ++n > s->set.files_max;
        s->not_read += s->files[i]->over;
    }
}

/* Begins to read the rotated files and the followed one. False: one can't be read now. Then none is
 * begun, since an older one that is begun after a newer one would be passed over. */
static bool begin_all(struct trail *s, struct survey *v) {
    for (size_t i = 0; i < v->count; i++) {
        if (v->entry[i].kind == ENTRY_OTHER ||
            begin(s, &v->entry[i], NULL, 0, START_BEGINNING) != NULL ||
            (s->look_error == 0 && !s->again)) /* one that is passed over */
            continue;
        for (size_t k = 0; k < i; k++)
            if (v->entry[k].kind != ENTRY_OTHER && v->entry[k].file != NULL)
                files_remove(s, v->entry[k].file);
        s->begun = false;
        return false;
    }
    return true;
}

/* No position yet: where the followed file is begun. */
static void begin_first(struct trail *s, struct look *l) {
    struct survey *v = &l->survey;
    struct entry *live =
        v->count != 0 && v->entry[v->count - 1].newest ? &v->entry[v->count - 1] : NULL;
    for (size_t i = 0; i < v->count && live == NULL; i++)
        if (v->entry[i].newest)
            live = &v->entry[i];
    if (s->set.start == START_OLDEST && (v->error != 0 || !begin_all(s, v)))
        return; /* without all names, which is the oldest isn't known */
    if (s->begun)
        return;
    if (live != NULL) {
        (void)begin(s, live, NULL, 0, s->set.start);
        return;
    }
    if (s->count != 0 || v->error != 0 || v->absent || !s->set.follow)
        return;
    struct file *x = files_add(s, s->path, s->name); /* means no file yet */
    if (x == NULL)
        return;
    for (size_t i = 0; i < v->count; i++)
        if (v->entry[i].kind == ENTRY_ROTATED && v->entry[i].mtime > x->tail.pos.mtime)
            x->tail.pos.mtime = v->entry[i].mtime;
    x->place = PLACE_LOST;
    x->dirty = s->begun = true;
}

/* Hasn't the entry's file all the same bytes as x now? A copy of what x has now is sought when x is
 * truncated, if something was read of it. */
static bool is_no_copy_of_now(struct trail *s, struct file *x, const struct entry *e) {
    struct content c;
    if (twin_open(e, &c) != 0)
        return true;
    int64_t n = x->tail.content.fd >= 0 ? common_bytes(&x->tail.content, &c, UINT64_MAX) : 0;
    content_close(&c);
    bool copy = n > 0 && (uint64_t)n == e->size;
    s->holds |= copy && x->tail.pos.at == 0;
    return !copy;
}

/* Was this rotated file copied from one whose position could not be found any more, after that
 * position was made? Then it has what was written in between, wherever its name stands. */
static bool was_copied_since(struct trail *s, const struct entry *e) {
    for (size_t i = 0; i < s->count; i++) {
        struct file *x = s->files[i];
        uint64_t birth = x->since != 0 && e->mtime > x->since ? birth_of_path(e->path) : 0;
        if (birth > x->birth && x->birth != 0 && is_of(s, x, e->base))
            return is_no_copy_of_now(s, x, e);
    }
    return false;
}

/* A rotated file that isn't begun yet, since it is held back or can't be read now, stays newer than
 * those that were read: else it would be passed over once a newer one is read. True: newer ones
 * wait for it. */
static bool keep_newer(struct trail *s, const struct entry *e) {
    if (e->file != NULL || is_passed(s, e))
        return false;
    struct held *h = hold(s, e);
    if (h != NULL)
        h->newer = true;
    return s->attempts <= ERRORS_IN_ORDER;
}

static bool is_kept_newer(const struct trail *s, const struct entry *e) {
    const struct held *h = held_of(s, e);
    return h != NULL && h->newer && h->birth == birth_of_path(e->path);
}

static void see_group(struct trail *s, struct entry *from, struct entry *to) {
    struct entry *last = NULL;
    bool some_lost = false;
    uint64_t lost = newest_lost(s, from->base, &some_lost);
    for (struct entry *e = from; e < to; e++) {
        if (e->file != NULL)
            forget_held(s, e); /* once it was read, it isn't new any more */
        if (e->file != NULL && e->file->place != PLACE_LOST)
            last = e;
    }
    for (struct entry *e = from; e < to; e++) {
        if (e->file != NULL || (s->glob != NULL && e->size == 0))
            continue;
        bool newer = last != NULL ? e > last : some_lost && e->mtime > lost;
        newer =
            newer || (e->kind == ENTRY_ROTATED && (is_kept_newer(s, e) || was_copied_since(s, e)));
        if (s->glob != NULL && e->kind == ENTRY_LIVE && live_files(s) >= s->set.files_max) {
            s->not_read++;
            continue;
        }
        enum new_action action =
            see_new(s, e,
                    e->kind == ENTRY_LIVE      ? NEW_FOLLOWED
                    : e->kind == ENTRY_ROTATED ? (newer ? NEW_NEWER : NEW_OLDER)
                                               : NEW_OTHER);
        if (e->kind == ENTRY_ROTATED && newer && keep_newer(s, e) && action != NEW_LEAVE)
            break;
        if (e->file != NULL && last != NULL && e < last) /* its place shows nothing any more */
            e->file->dirty = true;
        for (struct entry *k = from; k < to && e->file != NULL; k++) /* other names of it */
            if (k->inode == e->inode && k->device == e->device)
                k->file = e->file;
    }
}

void trail_see_new(struct trail *s, struct look *l) {
    struct survey *v = &l->survey;
    size_t before = s->not_read;
    s->not_read = 0;
    for (size_t i = 0; i < s->count; i++)
        s->files[i]->awaited = false;
    if (s->glob == NULL && !s->begun) {
        begin_first(s, l);
        return;
    }
    for (size_t from = 0, to; from < v->count && v->entry[from].base != NULL; from = to) {
        for (to = from + 1; to < v->count && v->entry[to].base != NULL &&
                            strcmp(v->entry[from].base, v->entry[to].base) == 0;)
            to++;
        see_group(s, v->entry + from, v->entry + to);
    }
    for (size_t i = 0; i < s->count && !s->holds && s->look_error == 0; i++)
        s->files[i]->since = 0;
    limit_files(s);
    if (s->not_read != 0 && before == 0)
        pawl_source_report(s->context, 2,
                           "%s: more than %" PRIu64 " files are there; %zu aren't read until "
                           "others are gone",
                           s->path, s->set.files_max, s->not_read);
}
