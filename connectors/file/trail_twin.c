/* SPDX-License-Identifier: Apache-2.0
 *
 * Compares the bytes of two files: is a new one a copy of one that was read?
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "connectors/file/trail.h"

#define BLOCK 65536u

int64_t common_bytes(struct content *a, struct content *b, uint64_t most) {
    uint8_t *buf = malloc(2 * (size_t)BLOCK);
    uint64_t at = 0;
    int error = buf == NULL ? ENOMEM : 0;
    /* most files differ in their first bytes */
    for (size_t size = 512; error == 0 && at < most; size = BLOCK) {
        size_t want = most - at < size ? (size_t)(most - at) : size, same = 0;
        ssize_t n = content_read(a, buf, want, at), m = -1;
        if (n >= 0)
            m = content_read(b, buf + BLOCK, want, at);
        if (m < 0) {
            error = errno;
            break;
        }
        size_t least = (size_t)(n < m ? n : m);
        if (memcmp(buf, buf + BLOCK, least) == 0)
            same = least;
        else
            while (buf[same] == buf[BLOCK + same])
                same++;
        at += same;
        if (same < want)
            break;
    }
    free(buf);
    errno = error;
    return error != 0 ? -1 : (int64_t)at;
}

static int line_start(struct content *c, uint64_t at, uint64_t *out) {
    uint8_t buf[4096];
    for (*out = 0; at > 0;) {
        size_t n = at < sizeof buf ? (size_t)at : sizeof buf;
        ssize_t got = content_read(c, buf, n, at - n);
        if (got != (ssize_t)n) {
            errno = got < 0 ? errno : EBUSY; /* it was truncated just now */
            return -1;
        }
        const uint8_t *newline = memrchr(buf, '\n', n);
        if (newline != NULL) {
            *out = at - n + (uint64_t)(newline - buf) + 1;
            break;
        }
        at -= n;
    }
    return 0;
}

int position_at_line(struct content *c, uint64_t at, struct tail_position *p) {
    uint8_t window[TAIL_WINDOW];
    if (line_start(c, at, &at) != 0)
        return -1;
    size_t n = at < TAIL_WINDOW ? (size_t)at : TAIL_WINDOW;
    ssize_t got = content_read(c, window, n, at - n);
    if (got != (ssize_t)n) {
        errno = got < 0 ? errno : EBUSY; /* it was truncated just now */
        return -1;
    }
    p->at = at;
    p->flags &= (uint8_t)~TAIL_FLAGS;
    p->hash = tail_hash(window, n);
    return 0;
}

/* Is one name made from the other, as those of rotated files and backups are? app.log.1, app.log~
 * and app-20260101.log are called after app.log. */
static bool called_after(const char *name, const char *first) {
    size_t n = strlen(first), m = strlen(name);
    const char *end = strrchr(first, '.');
    if (strncmp(name, first, n) == 0 && name[n] != 0 && strchr(".-~_#", name[n]) != NULL)
        return true;
    if (end == NULL || end == first)
        return false;
    size_t stem = (size_t)(end - first), ext = n - stem;
    return m > n && strncmp(name, first, stem) == 0 && strchr(".-_", name[stem]) != NULL &&
           strcmp(name + m - ext, end) == 0;
}

static const char *last_part(const char *path) {
    const char *slash = path != NULL ? strrchr(path, '/') : NULL;
    return slash != NULL ? slash + 1 : path != NULL ? path : "";
}

/* Are both called after a third file that is read? */
static bool have_one_base(const struct trail *s, const struct file *x, const struct entry *e) {
    const char *a = last_part(x->path), *b = e->name;
    if ((x->base != NULL && called_after(b, x->base)) ||
        (e->base != NULL && called_after(a, e->base)))
        return true;
    for (size_t i = 0; i < s->count; i++) {
        const char *base = last_part(s->files[i]->path);
        if (s->files[i]->place == PLACE_LIVE && called_after(a, base) && called_after(b, base))
            return true;
    }
    return false;
}

/* Is x called as rotation calls the file before the new one? If it has no name any more, was it? */
static bool has_rotated_name(const struct file *x, const struct entry *e) {
    if (x->place == PLACE_NAMELESS || (x->place == PLACE_ASIDE && x->entry != NULL))
        return x->called == ENTRY_ROTATED;
    return (x->place == PLACE_LIVE || x->place == PLACE_ASIDE) &&
           rotated_from(last_part(x->path), e->name, strlen(e->name));
}

/* Was x copied from the new file, as "copy and truncate" does it? What was renamed is older than
 * the file that got its name; a copy is younger. A compressed file's age says nothing. */
static bool is_copied_from(const struct file *x, const struct entry *e) {
    uint64_t birth;
    if (!has_rotated_name(x, e) || x->tail.content.unpack != NULL || e->packed || x->birth == 0 ||
        (x->base != NULL && e->base != NULL && strcmp(x->base, e->base) != 0))
        return false;
    birth = birth_of_path(e->path);
    return birth != 0 && x->birth >= birth; /* they tick in milliseconds */
}

/* `common`: bytes that both begin with. */
static enum twin_name name_of(const struct trail *s, const struct file *x, const struct entry *e,
                              uint64_t common) {
    struct stat st;
    bool linked = fstat(x->tail.content.fd, &st) != 0 || st.st_nlink != 0;
    bool sure = common >= SURE_BYTES;
    const char *name = last_part(x->path);
    if (is_copied_from(x, e))
        return TWIN_COPIED;
    if (x->place == PLACE_LIVE && sure && called_after(e->name, name))
        return TWIN_KEPT;
    if (x->place == PLACE_LIVE && called_after(name, e->name))
        return sure ? TWIN_ASIDE : TWIN_RENAMED;
    if (x->place == PLACE_LIVE && have_one_base(s, x, e)) {
        bool backup = e->base == NULL || !rotated_from(name, e->base, strlen(e->base));
        return sure ? TWIN_KEPT : backup ? TWIN_RENAMED : TWIN_IN_PLACE;
    }
    if (x->place == PLACE_LIVE)
        return TWIN_IN_PLACE;
    if (x->place == PLACE_NAMELESS && !linked)
        return TWIN_GONE;
    return sure ? TWIN_ASIDE : TWIN_RENAMED;
}

/* Do the two differ at this offset? Where one of them ends, they don't. */
static bool differ(struct content *a, struct content *b, uint64_t at) {
    uint8_t p, q;
    return content_read(a, &p, 1, at) == 1 && content_read(b, &q, 1, at) == 1 && p != q;
}

/* The new file has the bytes of its copy, and no more: was it written after the copy was? Then it
 * was truncated, and begins in the same way: what is only appended gets longer. */
static bool rewritten(const struct entry *e, const struct stat *copy, uint64_t common) {
    return e->size == common && e->mtime > tail_mtime(&copy->st_mtim);
}

/* Were the bytes compared those of which x's position says that they were read? Where x has been
 * truncated or rewritten meanwhile, the next look decides about x first: the new file may be a copy
 * of what x had. -1 with errno. */
static int still_same(struct file *x) {
    int same = tail_matches(&x->tail.content, &x->tail.pos);
    if (same == 0) {
        x->changed = true;
        errno = EINTR;
    }
    return same > 0 ? 0 : -1;
}

/* Compares the new file `c` with x. */
static int compare(const struct trail *s, struct file *x, const struct entry *e, struct content *c,
                   struct new_evidence *out, uint64_t *bytes) {
    struct stat st;
    uint64_t at = x->tail.pos.at;
    if (fstat(x->tail.content.fd, &st) != 0)
        return -1;
    bool packed = x->tail.content.unpack != NULL;
    int64_t n = common_bytes(&x->tail.content, c, packed ? UINT64_MAX : (uint64_t)st.st_size);
    if (n < 0 || still_same(x) != 0)
        return -1;
    *bytes = (uint64_t)n;
    if (at == 0) /* nothing was read of it: a copy has all of it, or it has all of the copy */
        out->twin = n > 0 && (packed || n == st.st_size)                          ? TWIN_WHOLE
                    : st.st_size > 0 && !differ(&x->tail.content, c, (uint64_t)n) ? TWIN_GROWING
                                                                                  : TWIN_NONE;
    else if ((uint64_t)n >= at)
        out->twin = TWIN_WHOLE;
    else if (!differ(&x->tail.content, c, (uint64_t)n))
        out->twin = TWIN_GROWING;
    else
        out->twin = n == 0 ? TWIN_NONE : (uint64_t)n >= at / 2 ? TWIN_PART : TWIN_LITTLE;
    if (out->twin == TWIN_GROWING && n == 0)
        out->twin = TWIN_EMPTY;
    out->of = name_of(s, x, e, (uint64_t)n);
    if (out->of == TWIN_COPIED) { /* while it isn't truncated it has all that the copy has */
        bool whole = n == st.st_size && !rewritten(e, &st, (uint64_t)n); /* 0: it is begun */
        out->twin = whole ? TWIN_WHOLE : n == 0 ? TWIN_NONE : TWIN_PART;
    }
    if (out->of == TWIN_IN_PLACE && (uint64_t)n < SURE_BYTES &&
        !called_after(e->name, last_part(x->path)))
        out->twin = TWIN_NONE; /* so little is equal in any two files */
    return 0;
}

/* Which of two likenesses says more. */
static int weight(const struct new_evidence *e) {
    static const int of_twin[] = {[TWIN_NONE] = 0, [TWIN_EMPTY] = 1,   [TWIN_LITTLE] = 1,
                                  [TWIN_PART] = 2, [TWIN_GROWING] = 3, [TWIN_WHOLE] = 4};
    return of_twin[e->twin] * 8 + (e->twin == TWIN_NONE ? 0 : TWIN_NAME_ANY - (int)e->of);
}

/* May a new file under this name be a copy of x? One file that is followed has one name, so what
 * keeps that name has no copy that would be read. */
static bool comparable(const struct trail *s, const struct file *x, const struct entry *e) {
    if (x->place == PLACE_SOUGHT || x->place == PLACE_LOST || x->changed || x->leaving)
        return false;
    if (has_rotated_name(x, e)) /* the new file is the next one, whatever it begins with */
        return s->set.follow && is_copied_from(x, e);
    return x->place != PLACE_LIVE || (s->glob != NULL && e->kind == ENTRY_LIVE && s->set.follow);
}

int twin_open(const struct entry *e, struct content *c) {
    struct stat st;
    int fd = files_open(e, &st);
    return fd >= 0 ? content_open(c, fd, e->name) : -1;
}

int twin_find(struct trail *s, const struct entry *e, struct new_evidence *out, struct file **with,
              uint64_t *bytes) {
    uint8_t head[HEAD_BYTES];
    struct content c;
    *with = NULL;
    *bytes = 0;
    out->twin = TWIN_NONE;
    out->of = TWIN_NAME_ANY;
    if (twin_open(e, &c) != 0)
        return -1;
    if (c.unpack != NULL ? s->glob != NULL && !s->set.packed : e->packed) {
        content_close(&c);
        errno = ENOTSUP;
        return -1;
    }
    ssize_t n = content_read(&c, head, sizeof head, 0);
    int rc = n < 0 ? -1 : 0;
    for (size_t i = 0; i < s->count && rc == 0; i++) {
        struct file *x = s->files[i];
        struct new_evidence one = *out;
        uint64_t common;
        size_t least = (size_t)n < x->head_len ? (size_t)n : x->head_len;
        bool held = x->tail.content.fd >= 0;
        if (!comparable(s, x, e) || memcmp(head, x->head, least) != 0 ||
            (least == 0 && x->place == PLACE_LIVE))
            continue;
        if (!held && trail_hold(x) != 0) {
            enum error_kind kind = error_kind_of(errno);
            rc = kind == ERROR_RACE || kind == ERROR_ABSENT ? 0 : -1;
            continue; /* the next look sees what became of it */
        }
        rc = compare(s, x, e, &c, &one, &common);
        if (!held)
            trail_unhold(s, x);
        /* of several copies of one file, the one that it shares most with */
        if (rc == 0 && one.twin != TWIN_NONE &&
            (*with == NULL || common > *bytes ||
             (common == *bytes && weight(&one) > weight(out)))) {
            *out = one;
            *with = x;
            *bytes = common;
        }
    }
    int error = errno;
    content_close(&c);
    errno = error;
    return rc;
}
