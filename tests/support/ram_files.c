/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/ram_files.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct ram_files *self(struct seam *s) {
    return (struct ram_files *)s;
}

/* 0, or the error of a call that fails. */
static int fault(struct ram_files *f) {
    f->calls++;
    if (f->fail_at < 0)
        return 0;
    if (f->fail_at-- > 0)
        return 0;
    if (f->fail_on)
        f->fail_at = 0;
    return f->error;
}

static void trace(struct ram_files *f, char what) {
    if (f->traced < RAM_TRACE - 1 && (f->traced == 0 || f->trace[f->traced - 1] != what))
        f->trace[f->traced++] = what;
    f->trace[f->traced] = 0;
}

struct ram_file *ram_files_find(struct ram_files *f, const char *name) {
    for (int i = 0; i < RAM_FILES; i++)
        if (f->file[i].name[0] != 0 && strcmp(f->file[i].name, name) == 0)
            return &f->file[i];
    return NULL;
}

static void resize(struct ram_file *r, uint64_t size) {
    if (size > r->room) {
        uint64_t room = size * 2;
        uint8_t *p = realloc(r->data, room);
        if (p == NULL)
            abort();
        r->data = p;
        r->room = room;
    }
    if (size > r->size)
        memset(r->data + r->size, 0, size - r->size);
    r->size = size;
}

struct ram_file *ram_files_put(struct ram_files *f, const char *name, const void *data,
                               uint64_t size) {
    struct ram_file *r = ram_files_find(f, name);
    for (int i = 0; i < RAM_FILES && r == NULL; i++)
        if (f->file[i].name[0] == 0)
            r = &f->file[i];
    if (r == NULL)
        abort();
    snprintf(r->name, sizeof r->name, "%s", name);
    resize(r, size);
    if (size != 0)
        memcpy(r->data, data, size);
    return r;
}

static int ram_open(struct seam *s, const char *name, uint32_t flags) {
    struct ram_files *f = self(s);
    int rc = fault(f);
    struct ram_file *r = ram_files_find(f, name);
    if (rc != 0)
        return rc;
    if ((flags & SEAM_CREATE) != 0) {
        if (r != NULL)
            return -EEXIST;
        r = ram_files_put(f, name, NULL, 0);
        f->traced = 0;
    }
    return r == NULL ? -ENOENT : (int)(r - f->file);
}

static void ram_close(struct seam *s, int file) {
    (void)s, (void)file;
}

static int ram_size(struct seam *s, int file, uint64_t *size) {
    *size = self(s)->file[file].size;
    return fault(self(s));
}

static int ram_allocate(struct seam *s, int file, uint64_t size) {
    int rc = fault(self(s));
    if (rc == 0)
        resize(&self(s)->file[file], size);
    return rc;
}

static int ram_unlink(struct seam *s, const char *name) {
    struct ram_files *f = self(s);
    int rc = fault(f);
    struct ram_file *r = ram_files_find(f, name);
    trace(f, 'u');
    if (rc != 0 || r == NULL)
        return rc != 0 ? rc : -ENOENT;
    r->name[0] = 0;
    r->size = 0;
    return 0;
}

static int ram_sync_dir(struct seam *s) {
    trace(self(s), 'd');
    return fault(self(s));
}

static int64_t ram_read(struct seam *s, int file, void *data, size_t len, uint64_t offset) {
    struct ram_files *f = self(s);
    const struct ram_file *r = &f->file[file];
    int rc = fault(f);
    if (rc != 0)
        return rc;
    if ((uintptr_t)data % SEAM_BLOCK != 0 || len % SEAM_BLOCK != 0 || offset % SEAM_BLOCK != 0)
        return -EINVAL;
    f->reads++;
    if (offset >= r->size)
        return 0;
    size_t n = len < r->size - offset ? len : (size_t)(r->size - offset);
    memcpy(data, r->data + offset, n);
    if (f->flip / 8 >= offset && f->flip / 8 < offset + n)
        ((uint8_t *)data)[f->flip / 8 - offset] ^= (uint8_t)(1u << f->flip % 8);
    return (int64_t)n;
}

static int64_t ram_write(struct seam *s, int file, const void *data, size_t len, uint64_t offset) {
    struct ram_files *f = self(s);
    struct ram_file *r = &f->file[file];
    int rc = fault(f);
    if ((uintptr_t)data % SEAM_BLOCK != 0 || len % SEAM_BLOCK != 0 || offset % SEAM_BLOCK != 0)
        return -EINVAL;
    trace(f, offset == 0 ? 'h' : 'w');
    if (rc != 0)
        return rc;
    if (offset + len > r->size)
        resize(r, offset + len);
    memcpy(r->data + offset, data, len);
    return (int64_t)len;
}

static int ram_sync(struct seam *s, int file) {
    (void)file;
    trace(self(s), 's');
    return fault(self(s));
}

static int ram_random(struct seam *s, void *data, size_t len) {
    struct ram_files *f = self(s);
    for (size_t i = 0; i < len; i++) {
        f->random = f->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        ((uint8_t *)data)[i] = (uint8_t)(f->random >> 56);
    }
    return fault(f);
}

void ram_files_init(struct ram_files *f) {
    static const struct seam_ops ops = {
        .open = ram_open,
        .close = ram_close,
        .size = ram_size,
        .allocate = ram_allocate,
        .unlink = ram_unlink,
        .sync_dir = ram_sync_dir,
        .read = ram_read,
        .write = ram_write,
        .sync = ram_sync,
        .random = ram_random,
    };
    memset(f, 0, sizeof *f);
    f->seam.ops = &ops;
    f->flip = UINT64_MAX;
    f->fail_at = -1;
    f->random = 1;
}

void ram_files_end(struct ram_files *f) {
    for (int i = 0; i < RAM_FILES; i++)
        free(f->file[i].data);
}
