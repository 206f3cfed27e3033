/* SPDX-License-Identifier: Apache-2.0
 *
 * One file of a savepoint. Runs and sealed segments never change, so it may be the same file, by a
 * hard link. Who would write over a segment asks first whether it has another name
 * (wal_file_is_kept()). What can't be linked is copied and synced, at its exact length.
 */
#include <assert.h>
#include <errno.h>

#include "pipeline/engine.h"
#include "pipeline/savepoint.h"

#define COPY_MOST MIB
#define COPY_LEAST (64u * 1024u)

/* A link that isn't possible here may be so as a copy. */
static bool link_refused(int rc) {
    return rc == -EXDEV || rc == -EMLINK || rc == -EPERM || rc == -EACCES || rc == -EOPNOTSUPP ||
           rc == -ENOSYS || rc == -EINVAL;
}

/* ---- copying */

struct copying {
    struct save *s;
    const struct save_file *f;
    int from, to;
    uint8_t *buffer;
    size_t size;
};

static int copy_bytes(const struct copying *c) {
    struct save *s = c->s;
    for (uint64_t at = 0; at < c->f->upto;) {
        uint64_t left = c->f->upto - at, want = align_up(left, BLOCK);
        size_t n = want < c->size ? (size_t)want : c->size;
        int64_t got = s->io->ops->read(s->io, c->from, c->buffer, n, at);
        if (got < 0)
            return fail_sys((int)got, "read", c->f->name, NO_LSN);
        if ((uint64_t)got < (left < n ? left : n))
            return fail_at(PAWL_DAMAGED, 0, "read", c->f->name, NO_LSN,
                           "%s ends after %llu bytes; it should have %llu", c->f->name,
                           (unsigned long long)(at + (uint64_t)got),
                           (unsigned long long)c->f->length);
        size_t use = left < n ? (size_t)left : n;
        got = s->to->ops->write(s->to, c->to, c->buffer, use, at);
        if (got < 0)
            return fail_sys((int)got, "write", c->f->name, NO_LSN);
        at += use;
        if (s->info->progress != NULL && s->info->progress(s->info->arg, at, c->f->upto) != 0)
            return fail(PAWL_STOPPED, "it was asked to stop");
    }
    int rc = s->to->ops->sync(s->to, c->to);
    return rc < 0 ? fail_sys(rc, "fdatasync", c->f->name, NO_LSN) : 0;
}

static int copy_open(struct copying *c) {
    struct save *s = c->s;
    uint64_t size = 0;
    int rc = s->io->ops->size(s->io, c->from, &size);
    if (rc < 0)
        return fail_sys(rc, "fstat", c->f->name, NO_LSN);
    if (size != c->f->length)
        return fail_at(PAWL_DAMAGED, 0, "fstat", c->f->name, NO_LSN,
                       "%s has %llu bytes; the log says %llu", c->f->name, (unsigned long long)size,
                       (unsigned long long)c->f->length);
    rc = s->to->ops->allocate(s->to, c->to, c->f->length);
    if (rc < 0)
        return fail_sys(rc, "fallocate", c->f->name, NO_LSN);
    c->size = COPY_MOST;
    while ((c->buffer = mem_alloc_block(s->mem, c->size)) == NULL && c->size > COPY_LEAST)
        c->size /= 4;
    if (c->buffer == NULL)
        return fail(PAWL_MEMORY, "no memory to copy a file");
    rc = copy_bytes(c);
    mem_free(s->mem, c->buffer, c->size);
    return rc;
}

/* 0, 1 if the source is gone, or an error; then nothing is left of the copy. */
static int copy(struct save *s, const struct save_file *f) {
    struct copying c = {.s = s, .f = f};
    c.from = s->io->ops->open(s->io, f->name, 0);
    if (c.from == -ENOENT)
        return 1;
    if (c.from < 0)
        return fail_sys(c.from, "open", f->name, NO_LSN);
    c.to = s->to->ops->open(s->to, f->name, SEAM_CREATE | SEAM_RDWR | SEAM_BUFFERED);
    int rc = c.to < 0 ? fail_sys(c.to, "create", f->name, NO_LSN) : copy_open(&c);
    s->io->ops->close(s->io, c.from);
    if (c.to >= 0)
        s->to->ops->close(s->to, c.to);
    uint64_t index;
    if (f->segment && segment_parse_name(f->name, "seg", &index)) {
        /* a writer may have let it go meanwhile, and written over it */
        int there = segment_there(s->io, index);
        rc = there < 0 ? there : there == 0 ? 1 : rc;
    }
    if (rc != 0 && c.to >= 0)
        (void)!s->to->ops->unlink(s->to, f->name);
    return rc;
}

/* A copy of a segment gets the identity of the fork. */
static int set_identity(struct save *s, const char *name) {
    struct segment_header h;
    uint64_t index;
    int bad;
    uint8_t *head = mem_alloc_block(s->mem, SEGMENT_HEADER_SIZE);
    if (head == NULL)
        return fail(PAWL_MEMORY, "no memory for a segment's header");
    int file = s->to->ops->open(s->to, name, SEAM_RDWR | SEAM_BUFFERED);
    int64_t n = file < 0 ? file : s->to->ops->read(s->to, file, head, SEGMENT_HEADER_SIZE, 0);
    int rc = n < 0 ? fail_sys((int)n, "read", name, NO_LSN) : 0;
    if (rc == 0 && (n != SEGMENT_HEADER_SIZE || !segment_parse_name(name, "seg", &index) ||
                    segment_decode(head, index, &h, &bad) != SEGMENT_GOOD))
        rc = fail_at(PAWL_DAMAGED, 0, "read", name, NO_LSN, "the header of %s is damaged", name);
    if (rc == 0)
        rc = segment_check_writable(&h);
    if (rc == 0) {
        segment_set_identity(head, s->id);
        n = s->to->ops->write(s->to, file, head, SEGMENT_HEADER_SIZE, 0);
        if (n >= 0)
            n = s->to->ops->sync(s->to, file);
        rc = n < 0 ? fail_sys((int)n, "write", name, NO_LSN) : 0;
    }
    if (file >= 0)
        s->to->ops->close(s->to, file);
    mem_free(s->mem, head, SEGMENT_HEADER_SIZE);
    return rc;
}

/* ---- what is there */

void save_again(struct save *s) {
    for (uint32_t i = 0; i < s->count; i++)
        s->files[i].wanted = false;
}

static struct save_file *find(struct save *s, const char *name) {
    for (uint32_t i = 0; i < s->count; i++)
        if (strcmp(s->files[i].name, name) == 0)
            return &s->files[i];
    return NULL;
}

static int drop_one(struct save *s, struct save_file *f) {
    int rc = s->to->ops->unlink(s->to, f->name);
    if (rc < 0 && rc != -ENOENT)
        return fail_sys(rc, "unlink", f->name, NO_LSN);
    *f = s->files[--s->count];
    return 0;
}

int save_drop(struct save *s) {
    for (uint32_t i = s->count; i-- > 0;)
        if (!s->files[i].wanted)
            TRY(drop_one(s, &s->files[i]));
    return 0;
}

int save_take(struct save *s, const struct save_file *want) {
    struct save_file *there = find(s, want->name);
    if (there != NULL && there->length == want->length && there->upto == want->upto) {
        there->wanted = true;
        return 0;
    }
    if (there != NULL)
        TRY(drop_one(s, there));
    if (s->count == s->cap) {
        uint32_t more = s->cap == 0 ? 64 : s->cap * 2;
        void *p = mem_grow(s->mem, s->files, s->cap * sizeof *want, more * sizeof *want);
        if (p == NULL)
            return fail(PAWL_MEMORY, "no memory to list the files");
        s->files = p;
        s->cap = more;
    }
    struct save_file f = *want;
    int rc = -EXDEV;
    if (f.may_link && s->io->ops->link != NULL)
        rc = s->io->ops->link(s->io, f.name, s->to);
    f.linked = rc == 0;
    if (rc == -ENOENT)
        return 1;
    if (rc < 0)
        rc = link_refused(rc) ? copy(s, &f) : fail_sys(rc, "link", f.name, NO_LSN);
    if (rc != 0)
        return rc;
    if (f.own_header && (rc = set_identity(s, f.name)) < 0) {
        (void)!s->to->ops->unlink(s->to, f.name);
        return rc;
    }
    f.wanted = true;
    s->files[s->count++] = f;
    return 0;
}
