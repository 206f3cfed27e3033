/* SPDX-License-Identifier: Apache-2.0 */
#include "ram.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wal/seam/seam.h"

#define HANDLES 64
#define QUEUE 64

struct ram ram;

struct handle {
    bool used;
    int file;
};

struct backend {
    struct seam seam;
    struct handle handle[HANDLES];
    bool holds_lock;
    struct seam_req *queue[QUEUE];
    int queued;
};

static struct backend *self(struct seam *s) {
    return (struct backend *)s;
}

static void must(bool well) {
    if (!well)
        abort();
}

/* ---- files: their bytes are the disk's, which meter.c doesn't count */

int __real_posix_memalign(void **out, size_t alignment, size_t n);
void __real_free(void *p);

void ram_clear(void) {
    for (int i = 0; i < ram.count; i++)
        __real_free(ram.file[i].data);
    memset(&ram, 0, sizeof ram);
    ram.space = 64u << 20;
    ram.clock_ns = 1000000000;
}

uint64_t ram_bytes(void) {
    uint64_t sum = 0;
    for (int i = 0; i < ram.count; i++)
        sum += ram.file[i].data != NULL ? ram.file[i].size : 0;
    return sum;
}

static int find(const char *name) {
    for (int i = 0; i < ram.count; i++)
        if (strcmp(ram.file[i].name, name) == 0)
            return i;
    return -1;
}

/* Files that were unlinked keep their place, since handles may still refer to it. */
static int create(const char *name) {
    if (find(name) >= 0)
        return -EEXIST;
    if (ram.count == RAM_FILES)
        return -ENOSPC;
    struct ram_file *f = &ram.file[ram.count];
    *f = (struct ram_file){0};
    snprintf(f->name, sizeof f->name, "%s", name);
    return ram.count++;
}

static int resize(int i, uint64_t size) {
    struct ram_file *f = &ram.file[i];
    if (size <= f->size)
        return 0;
    if (size - f->size > ram.space || ram_bytes() > ram.space - (size - f->size))
        return -ENOSPC;
    void *p = NULL;
    must(__real_posix_memalign(&p, SEAM_BLOCK, size) == 0);
    memset(p, 0, size);
    if (f->data != NULL)
        memcpy(p, f->data, f->size);
    __real_free(f->data);
    f->data = p;
    f->size = size;
    return 0;
}

uint8_t *ram_make(const char *name, uint64_t size) {
    int i = create(name);
    return i >= 0 && resize(i, size) == 0 ? ram.file[i].data : NULL;
}

/* ---- the directory */

static int ram_list(struct seam *s, int (*fn)(void *arg, const char *name), void *arg) {
    int rc = 0;
    (void)s;
    for (int i = 0; i < ram.count && rc == 0; i++)
        if (ram.file[i].name[0] != 0)
            rc = fn(arg, ram.file[i].name);
    return rc;
}

static int ram_open(struct seam *s, const char *name, uint32_t flags) {
    struct backend *b = self(s);
    int i = (flags & SEAM_CREATE) != 0 ? create(name) : find(name);
    if (i < 0)
        return (flags & SEAM_CREATE) != 0 ? i : -ENOENT;
    for (int k = 0; k < HANDLES; k++)
        if (!b->handle[k].used) {
            b->handle[k] = (struct handle){true, i};
            return k;
        }
    abort(); /* handles are not closed */
}

static void ram_close(struct seam *s, int file) {
    must(file >= 0 && file < HANDLES && self(s)->handle[file].used);
    self(s)->handle[file].used = false;
}

static struct ram_file *file_of(struct seam *s, int file) {
    must(file >= 0 && file < HANDLES && self(s)->handle[file].used);
    return &ram.file[self(s)->handle[file].file];
}

static int ram_size(struct seam *s, int file, uint64_t *size) {
    *size = file_of(s, file)->size;
    return 0;
}

static int ram_allocate(struct seam *s, int file, uint64_t size) {
    struct ram_file *f = file_of(s, file);
    if (size < f->size)
        f->size = size;
    return resize((int)(f - ram.file), size);
}

static int ram_unlink(struct seam *s, const char *name) {
    int i = find(name);
    (void)s;
    if (i < 0)
        return -ENOENT;
    ram.file[i].name[0] = 0;
    return 0;
}

static int ram_rename(struct seam *s, const char *from, const char *to) {
    int i = find(from);
    if (i < 0)
        return -ENOENT;
    (void)s;
    if (find(to) >= 0)
        return -EEXIST;
    snprintf(ram.file[i].name, sizeof ram.file[i].name, "%s", to);
    return 0;
}

static int ram_sync_dir(struct seam *s) {
    (void)s;
    return 0;
}

/* ---- bytes */

static int64_t ram_read(struct seam *s, int file, void *data, size_t len, uint64_t offset) {
    const struct ram_file *f = file_of(s, file);
    if (offset >= f->size)
        return 0;
    if (len > f->size - offset)
        len = (size_t)(f->size - offset);
    memcpy(data, f->data + offset, len);
    ram.read += len;
    return (int64_t)len;
}

static int64_t ram_write(struct seam *s, int file, const void *data, size_t len, uint64_t offset) {
    struct ram_file *f = file_of(s, file);
    if (len == 0)
        return 0;
    int rc = resize((int)(f - ram.file), offset + len);
    if (rc < 0)
        return rc;
    memcpy(f->data + offset, data, len);
    ram.written += len;
    return (int64_t)len;
}

static int ram_sync(struct seam *s, int file) {
    (void)file_of(s, file);
    return 0;
}

static void ram_drop_cache(struct seam *s, int file) {
    (void)file_of(s, file);
}

static void ram_submit(struct seam *s, struct seam_req *r) {
    struct backend *b = self(s);
    must(b->queued < QUEUE && r->op != SEAM_READ);
    r->result = r->op == SEAM_WRITE ? ram_write(s, r->file, r->data, r->len, r->offset) : 0;
    b->queue[b->queued++] = r;
}

static int ram_kick(struct seam *s) {
    (void)s;
    return 0;
}

static int ram_reap(struct seam *s, struct seam_req **out, int max, bool wait) {
    struct backend *b = self(s);
    int n = b->queued < max ? b->queued : max;
    (void)wait;
    memcpy(out, b->queue, (size_t)n * sizeof *out);
    memmove(b->queue, b->queue + n, (size_t)(b->queued - n) * sizeof *out);
    b->queued -= n;
    return n;
}

static void ram_buffers(struct seam *s, void *const *data, size_t each, int count) {
    (void)s, (void)data, (void)each, (void)count;
}

/* ---- lock, time, random bytes */

static int ram_lock(struct seam *s, uint64_t wait_ns, int *pid) {
    (void)wait_ns;
    *pid = 1000;
    if (ram.locked)
        return -EWOULDBLOCK;
    ram.locked = self(s)->holds_lock = true;
    return 0;
}

static void ram_unlock(struct seam *s) {
    if (self(s)->holds_lock)
        ram.locked = false;
    self(s)->holds_lock = false;
}

static int ram_holder(struct seam *s) {
    (void)s;
    return ram.locked ? 1000 : 0;
}

static uint64_t ram_now(struct seam *s) {
    (void)s;
    return ram.clock_ns += 1000;
}

static uint64_t ram_realtime(struct seam *s) {
    return ram_now(s) + 1700000000000000000u;
}

static void ram_clocks(struct seam *s, struct seam_clock *out) {
    uint64_t now = ram_now(s);
    *out = (struct seam_clock){
        .wall_ns = now + 1700000000000000000u, .boot_ns = now, .boot_id = 1, .network = false};
}

static void ram_sleep(struct seam *s, uint64_t ns) {
    (void)s;
    ram.clock_ns += ns;
}

static int ram_random(struct seam *s, void *data, size_t len) {
    (void)s;
    memset(data, 7, len);
    return 0;
}

static int ram_free_space(struct seam *s, uint64_t *bytes) {
    (void)s;
    *bytes = ram.space - ram_bytes();
    return 0;
}

static void ram_destroy(struct seam *s) {
    must(self(s)->queued == 0);
    ram_unlock(s);
    free(s);
}

static const struct seam_ops ops = {
    .list = ram_list,
    .open = ram_open,
    .close = ram_close,
    .size = ram_size,
    .allocate = ram_allocate,
    .rename = ram_rename,
    .unlink = ram_unlink,
    .sync_dir = ram_sync_dir,
    .read = ram_read,
    .write = ram_write,
    .sync = ram_sync,
    .drop_cache = ram_drop_cache,
    .submit = ram_submit,
    .kick = ram_kick,
    .reap = ram_reap,
    .buffers = ram_buffers,
    .lock = ram_lock,
    .unlock = ram_unlock,
    .holder = ram_holder,
    .now = ram_now,
    .realtime = ram_realtime,
    .clocks = ram_clocks,
    .sleep = ram_sleep,
    .random = ram_random,
    .free_space = ram_free_space,
    .destroy = ram_destroy,
};

/* In the place of seam_create(), by the linker's --wrap. */
int __wrap_seam_create(const char *dir, bool make, int backend, int direct, struct seam **out);
int __wrap_seam_create(const char *dir, bool make, int backend, int direct, struct seam **out) {
    (void)dir, (void)make, (void)backend, (void)direct;
    struct backend *b = calloc(1, sizeof *b);
    must(b != NULL);
    b->seam = (struct seam){.ops = &ops, .backend = PAWL_BACKEND_POSIX, .direct = true};
    snprintf(b->seam.note, sizeof b->seam.note, "in memory");
    *out = &b->seam;
    return 0;
}
