/* SPDX-License-Identifier: Apache-2.0
 *
 * The files that are read, and their slots: in memory, and as the log has them.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "connectors/file/trail.h"
#include "connectors/runtime/reach.h"
#include "connectors/text/time_ns.h"

/* ---- identity */

uint64_t birth_of(int fd) {
#ifdef STATX_BTIME
    struct statx x;
    if (statx(fd, "", AT_EMPTY_PATH, STATX_BTIME, &x) == 0 && (x.stx_mask & STATX_BTIME) != 0)
        return (uint64_t)time_ns(x.stx_btime.tv_sec, x.stx_btime.tv_nsec);
#endif
    (void)fd;
    return 0;
}

uint64_t birth_of_path(const char *path) {
#ifdef STATX_BTIME
    struct statx x;
    if (statx(AT_FDCWD, path, 0, STATX_BTIME, &x) == 0 && (x.stx_mask & STATX_BTIME) != 0)
        return (uint64_t)time_ns(x.stx_btime.tv_sec, x.stx_btime.tv_nsec);
#endif
    (void)path;
    return 0;
}

uint64_t ident_of(ino_t inode, uint64_t birth) {
    uint8_t bytes[8];
    uint64_t tag = 0;
    if (birth != 0) {
        connect_put_le(bytes, birth, 8);
        tag = tail_hash(bytes, 8) >> 40;
        tag += tag == 0;
    }
    return ((uint64_t)inode & IDENT_INODE) | tag << 40;
}

bool ident_fits(uint64_t position, ino_t inode, uint64_t birth) {
    uint64_t now = ident_of(inode, birth);
    return ((position ^ now) & IDENT_INODE) == 0 &&
           (position >> 40 == now >> 40 || position >> 40 == 0 || now >> 40 == 0);
}

void files_read_head(struct file *x) {
    ssize_t n = content_read(&x->tail.content, x->head, HEAD_BYTES, 0);
    x->head_len = n > 0 ? (uint32_t)n : 0;
}

int files_open(const struct entry *e, struct stat *st) {
    int fd = reach_read(e->path, e->links);
    if (fd < 0)
        return -1;
    int error = fstat(fd, st) != 0                                  ? errno
                : st->st_ino != e->inode || st->st_dev != e->device ? ENOENT
                                                                    : 0;
    if (error == 0)
        return fd;
    close(fd);
    errno = error;
    return -1;
}

int files_identify(struct file *x, int fd, const struct stat *st, const char *path) {
    const char *slash = strrchr(path, '/');
    uint64_t birth = birth_of(fd);
    content_close(&x->tail.content);
    if (content_open(&x->tail.content, fd, slash != NULL ? slash + 1 : path) != 0)
        return -1;
    x->known = true;
    x->device = st->st_dev;
    x->inode = st->st_ino;
    x->birth = birth;
    uint64_t ident = ident_of(st->st_ino, birth);
    if (x->tail.pos.ident != ident) /* it is said of the file that was read before */
        x->tail.pos.flags &= (uint8_t)~TAIL_FINISHED;
    x->tail.pos.ident = ident;
    x->mtime = tail_mtime(&st->st_mtim);
    files_read_head(x);
    return 0;
}

/* ---- slots */

static struct slot *add_slot(struct trail *s, const char *item, bool ours) {
    struct slot **more = realloc(s->slots, (s->slot_count + 1) * sizeof(struct slot *));
    struct slot *q = calloc(1, sizeof *q);
    if (more != NULL)
        s->slots = more;
    if (more == NULL || q == NULL || (q->item = strdup(item)) == NULL) {
        free(q);
        return NULL;
    }
    q->ours = ours;
    s->slots[s->slot_count++] = q;
    return q;
}

static bool is_numbered(const char *item) {
    size_t n = strlen(item);
    return n >= 2 && n <= 7 && item[0] == 's' && item[1] != '0' &&
           strspn(item + 1, "0123456789") == n - 1;
}

static struct slot *free_slot(struct trail *s) {
    char item[16];
    for (size_t i = 0; i < s->slot_count; i++)
        if (s->slots[i]->ours && s->slots[i]->user == NULL)
            return s->slots[i];
    for (uint32_t n = s->glob == NULL ? 0 : 1;; n++) { /* `file` begins with "" */
        item[0] = 0;
        if (n != 0)
            snprintf(item, sizeof item, "s%" PRIu32, n);
        bool taken = false;
        for (size_t i = 0; i < s->slot_count && !taken; i++)
            taken = strcmp(s->slots[i]->item, item) == 0;
        if (!taken)
            return add_slot(s, item, true);
    }
}

/* ---- files */

static void take_slot(struct file *x, struct slot *q) {
    x->slot = q;
    x->tail.item = q->item;
    q->user = x;
}

static struct file *add(struct trail *s, struct slot *q) {
    struct file **more = realloc(s->files, (s->count + 1) * sizeof(struct file *));
    struct file *x = calloc(1, sizeof *x);
    if (more != NULL)
        s->files = more;
    if (more == NULL || x == NULL) {
        free(x);
        return NULL;
    }
    x->tail.content = (struct content)CONTENT_INIT;
    x->tail.seen_size = UINT64_MAX;
    x->links = s->set.links;
    x->tail.pos.flags = s->mark;
    x->tail.pos.hash = tail_hash(NULL, 0);
    x->tail.path = s->path;
    x->wd = -1;
    x->rank = SIZE_MAX;
    take_slot(x, q);
    s->files[s->count++] = x;
    return x;
}

int files_set_path(struct file *x, const char *path, const char *base) {
    if (x->path == NULL || strcmp(x->path, path) != 0) {
        char *copy = strdup(path);
        if (copy == NULL)
            return -1;
        free(x->path);
        x->path = copy;
        x->tail.path = copy;
    }
    if (base != NULL && (x->base == NULL || strcmp(x->base, base) != 0)) {
        free(x->base);
        x->base = strdup(base);
    }
    return 0;
}

/* Positions of files that are gone keep at most LINGER_MAX slots. */
static void drop_lost(struct trail *s) {
    size_t lost = 0;
    struct file *oldest = NULL;
    for (size_t i = 0; i < s->count; i++)
        if (s->files[i]->place == PLACE_LOST) {
            oldest = oldest == NULL ? s->files[i] : oldest;
            lost++;
        }
    if (lost >= LINGER_MAX)
        files_remove(s, oldest);
}

struct file *files_add(struct trail *s, const char *path, const char *base) {
    drop_lost(s);
    struct slot *q = free_slot(s);
    struct file *x = q != NULL ? add(s, q) : NULL;
    if (x != NULL && files_set_path(x, path, base) != 0) {
        files_remove(s, x);
        x = NULL;
    }
    return x;
}

void files_remove(struct trail *s, struct file *x) {
    trail_unhold(s, x);
    size_t k = 0;
    for (size_t i = 0; i < s->count; i++) {
        if (s->files[i]->after == x)
            s->files[i]->after = NULL;
        if (s->files[i] != x)
            s->files[k++] = s->files[i];
    }
    s->count = k;
    if (x->slot != NULL)
        x->slot->user = NULL;
    free(x->path);
    free(x->base);
    free(x);
}

/* ---- the positions in the log */

struct loading {
    struct trail *s;
    bool strange, no_memory;
};

static void load_one(void *arg, const char *item, const uint8_t *position, int len) {
    struct loading *l = arg;
    struct trail *s = l->s;
    struct tail_position p;
    bool is_position = tail_decode(position, len, &p), version_1 = len > 0 && position[0] == 1;
    bool ours = is_position && (s->glob == NULL ? item[0] == 0 || (is_numbered(item) && !version_1)
                                                : item[0] != 0);
    if (ours && !version_1 && (p.flags & ~TAIL_FLAGS) != s->mark)
        ours = false; /* the item of a source whose name continues this one's */
    if (s->glob == NULL && item[0] == 0 && len > 0 && !ours)
        l->strange = true;
    if (len == 0 && item[0] == 0) /* a producer without a position yet */
        ours = s->glob == NULL;
    struct slot *q = add_slot(s, item, ours && !(version_1 && s->glob != NULL));
    struct file *x = q != NULL && ours && len != 0 ? add(s, q) : NULL;
    l->no_memory |= q == NULL || (ours && len != 0 && x == NULL);
    if (x == NULL)
        return;
    x->tail.pos = p;
    x->tail.pos.flags = (uint8_t)((p.flags & TAIL_FLAGS) | s->mark);
    x->place = p.ident == 0 ? PLACE_LOST : PLACE_SOUGHT;
    x->old_item = version_1 && s->glob != NULL;
    x->committed = x->named = true;
    x->named_ident = p.ident;
    x->named_at = p.at;
    x->named_rest = (p.flags & TAIL_REST) != 0;
    x->ended = (p.flags & TAIL_FINISHED) != 0;
    s->begun = true;
}

int files_load(struct trail *s, pawl_fault *f) {
    struct loading l = {.s = s};
    const char *name = connect_source_name(s->context);
    s->mark = (uint8_t)(tail_hash((const uint8_t *)name, strlen(name)) & ~TAIL_FLAGS & 0xffu);
    connect_items(s->context, load_one, &l);
    if (l.strange)
        return pawl_fault_set(
            f, PAWL_FATAL,
            "the position under this name was not written by a file source of this version");
    return l.no_memory ? pawl_fault_set(f, PAWL_RETRY, "no memory for a file") : PAWL_DONE;
}
