/* SPDX-License-Identifier: Apache-2.0 */
#include "sim_seam.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pawl.h"

#define QUEUE 32

struct handle {
    bool used, writable, buffered;
    int inode;
};

struct sim {
    struct seam seam;
    struct sim_machine *m;
    struct handle handle[SIM_HANDLES];
    bool holds_lock;
    struct seam_req *queue[QUEUE]; /* submitted, not completed */
    int flight[QUEUE];             /* of each request */
    bool stuck[QUEUE];             /* never completes */
    int queued;
};

struct seam_reads {
    struct sim *s;
    struct seam_req *queue[SIM_SYNC_MAX];
    int count;
};

static struct sim *self(struct seam *s) {
    return (struct sim *)s;
}

static void broken_rule(struct sim_machine *m, const char *what) {
    if (m->note[0] == 0)
        snprintf(m->note, sizeof m->note, "%s", what);
}

/* ---------------------------------------------------------------- the trace */

static void trace(struct sim_machine *m, uint64_t what, uint64_t a, uint64_t b) {
    uint64_t h = m->trace ^ what;
    h = (h ^ a) * 0x9fb21c651e98df25u;
    h = (h ^ h >> 29 ^ b) * 0xd6e8feb86659fd93u;
    m->trace = h ^ h >> 32;
}

static uint64_t hash_bytes(const void *data, size_t len) {
    const uint8_t *p = data;
    uint64_t h = len, x;
    for (; len >= 64; p += 64, len -= 64) { /* a sample is enough to detect a different run */
        memcpy(&x, p + 24, 8);
        h = (h ^ x) * 0x9fb21c651e98df25u;
        h ^= h >> 31;
    }
    return h;
}

static uint64_t hash_name(const char *name) {
    uint64_t h = 7;
    for (; *name != 0; name++)
        h = h * 131 + (uint8_t)*name;
    return h;
}

/* ---------------------------------------------------------------- steps and faults */

/* Called before each call that may fail; a crash may happen here. Returns the fault to inject, or
 * -1. */
static int step(struct sim_machine *m) {
    if (m->dead)
        return FAULT_EIO;
    if (m->step != NULL)
        m->step(m->arg, m);
    m->clock_ns += 20000;
    uint64_t n = m->steps++;
    if (n >= m->step_limit) {
        broken_rule(m, "it does not come to an end");
        return FAULT_EIO;
    }
    for (int i = 0; i < m->fault_count; i++)
        if (m->fault[i].step == n || (m->for_ever && n > m->fault[i].step)) {
            m->fault_hits++;
            return (int)m->fault[i].kind;
        }
    return -1;
}

static int errno_of(int fault) {
    switch (fault) {
    case FAULT_EAGAIN:
        return -EAGAIN;
    case FAULT_EINTR:
        return -EINTR;
    case FAULT_ECANCELED:
        return -ECANCELED;
    case FAULT_ENOSPC:
        return -ENOSPC;
    case FAULT_EROFS:
        return -EROFS;
    case FAULT_NO_DSYNC:
        return -EOPNOTSUPP;
    default:
        return -EIO;
    }
}

/* Blocking calls hide interruptions and short counts: they fail permanently or not at all. */
static bool fails_for_good(int fault) {
    return fault == FAULT_ENOSPC || fault == FAULT_EROFS || fault == FAULT_EIO;
}

/* ---------------------------------------------------------------- directory */

static int sim_list(struct seam *s, int (*fn)(void *arg, const char *name), void *arg) {
    struct names copy = self(s)->m->disk.now;
    int rc = 0;
    for (int i = 0; i < copy.count && rc == 0; i++)
        rc = fn(arg, copy.name[i].text);
    return rc;
}

static int sim_open(struct seam *s, const char *name, uint32_t flags) {
    struct sim *x = self(s);
    int fault = (flags & SEAM_CREATE) != 0 ? step(x->m) : -1;
    if (fails_for_good(fault))
        return errno_of(fault);
    int inode =
        (flags & SEAM_CREATE) != 0 ? disk_create(&x->m->disk, name) : disk_find(&x->m->disk, name);
    trace(x->m, 1, hash_name(name), (uint64_t)inode);
    if (inode < 0)
        return (flags & SEAM_CREATE) != 0 ? inode : -ENOENT;
    for (int i = 0; i < SIM_HANDLES; i++)
        if (!x->handle[i].used) {
            x->handle[i] = (struct handle){true, (flags & SEAM_RDWR) != 0,
                                           (flags & SEAM_BUFFERED) != 0, inode};
            x->m->disk.open[inode]++;
            return i;
        }
    broken_rule(x->m, "handles are not closed");
    return -EMFILE;
}

static void sim_close(struct seam *s, int file) {
    struct sim *x = self(s);
    if (file < 0 || file >= SIM_HANDLES || !x->handle[file].used) {
        broken_rule(x->m, "a handle that is not open is closed");
        return;
    }
    x->handle[file].used = false;
    x->m->disk.open[x->handle[file].inode]--;
}

static int inode_of(struct sim *x, int file, bool write) {
    if (file < 0 || file >= SIM_HANDLES || !x->handle[file].used ||
        (write && !x->handle[file].writable)) {
        broken_rule(x->m, "a handle is used that is not open, or not for writing");
        return -EBADF;
    }
    return x->m->disk.inode[x->handle[file].inode] != NULL ? x->handle[file].inode : -EIO;
}

static int sim_size(struct seam *s, int file, uint64_t *size) {
    struct sim *x = self(s);
    int i = inode_of(x, file, false);
    if (i >= 0)
        *size = x->m->disk.inode[i]->size;
    return i < 0 ? i : 0;
}

static int sim_allocate(struct seam *s, int file, uint64_t size) {
    struct sim *x = self(s);
    int fault = step(x->m), i = inode_of(x, file, true);
    if (fails_for_good(fault) || i < 0)
        return i < 0 ? i : errno_of(fault);
    int rc = disk_allocate(&x->m->disk, i, size);
    trace(x->m, 2, size, (uint64_t)rc);
    return rc;
}

static int sim_rename(struct seam *s, const char *from, const char *to) {
    struct sim_machine *m = self(s)->m;
    int fault = step(m);
    if (fails_for_good(fault))
        return errno_of(fault);
    int rc = disk_rename(&m->disk, from, to);
    trace(m, 3, hash_name(from), hash_name(to) + (uint64_t)rc);
    return rc;
}

static int sim_unlink(struct seam *s, const char *name) {
    struct sim_machine *m = self(s)->m;
    int fault = disk_find(&m->disk, name) >= 0 ? step(m) : -1;
    if (fails_for_good(fault))
        return errno_of(fault);
    int rc = disk_unlink(&m->disk, name);
    trace(m, 4, hash_name(name), (uint64_t)rc);
    return rc;
}

static int sim_sync_dir(struct seam *s) {
    struct sim_machine *m = self(s)->m;
    int fault = step(m);
    trace(m, 5, 0, (uint64_t)fault);
    if (fails_for_good(fault))
        return errno_of(fault);
    disk_sync_names(&m->disk);
    return 0;
}

/* ---------------------------------------------------------------- blocking I/O */

static int64_t sim_read(struct seam *s, int file, void *data, size_t len, uint64_t offset) {
    struct sim *x = self(s);
    int i = inode_of(x, file, false), fault = step(x->m);
    if (i < 0)
        return i;
    if (((uintptr_t)data | len | offset) % SEAM_BLOCK != 0)
        broken_rule(x->m, "a read is not aligned");
    if (fault == FAULT_EIO)
        return -EIO;
    if (disk_unreadable(&x->m->disk, i, offset, len)) {
        x->m->fault_hits++;
        return -EIO;
    }
    uint32_t n = disk_read(&x->m->disk, i, x->m->direct, data, (uint32_t)len, offset);
    trace(x->m, 6, offset, n);
    return n;
}

static int64_t sim_write(struct seam *s, int file, const void *data, size_t len, uint64_t offset) {
    struct sim *x = self(s);
    int i = inode_of(x, file, true), fault = step(x->m);
    struct page *page[DISK_PAGES];
    if (i < 0)
        return i;
    bool odd = ((uintptr_t)data | len | offset) % SEAM_BLOCK != 0 && !x->handle[file].buffered;
    if (odd || offset % DISK_SECTOR != 0 || offset + len > (uint64_t)DISK_PAGES * DISK_PAGE) {
        broken_rule(x->m, "a write is not aligned, or ends beyond the file");
        return -EINVAL;
    }
    uint32_t done = (uint32_t)len;
    if (fails_for_good(fault))
        done = rng_below(&x->m->rng, (unsigned)(len / DISK_SECTOR)) * DISK_SECTOR;
    disk_take_pages(page, data, done);
    disk_write(&x->m->disk, i, page, done, offset, false);
    disk_drop_pages(page);
    trace(x->m, 7, offset, hash_bytes(data, done));
    return fails_for_good(fault) ? errno_of(fault) : (int64_t)len;
}

static int sim_sync(struct seam *s, int file) {
    struct sim *x = self(s);
    int i = inode_of(x, file, false), fault = step(x->m);
    trace(x->m, 8, (uint64_t)i, (uint64_t)fault);
    if (i < 0)
        return i;
    if (fails_for_good(fault)) {
        disk_sync_fails(&x->m->disk, i);
        x->m->failed_sync = true;
        return errno_of(fault);
    }
    disk_sync(&x->m->disk, i);
    return 0;
}

static void sim_drop_cache(struct seam *s, int file) {
    struct sim *x = self(s);
    int i = inode_of(x, file, false);
    if (i >= 0)
        disk_drop_cache(&x->m->disk, i);
}

/* ---------------------------------------------------------------- requests */

static void sim_submit(struct seam *s, struct seam_req *r) {
    struct sim *x = self(s);
    int i = inode_of(x, r->file, r->op == SEAM_WRITE);
    struct flight f = {.sync = r->op == SEAM_SYNC,
                       .durable = (r->flags & SEAM_DSYNC) != 0,
                       .inode = i,
                       .offset = r->offset,
                       .len = r->len};
    if (x->m->step != NULL && !x->m->dead)
        x->m->step(x->m->arg, x->m);
    if (i < 0 || x->queued == QUEUE || (r->op != SEAM_WRITE && r->op != SEAM_SYNC)) {
        broken_rule(x->m, "a request that can't be");
        abort();
    }
    if (r->op == SEAM_WRITE) {
        if (((uintptr_t)r->data | r->len | r->offset) % SEAM_BLOCK != 0 || r->len == 0 ||
            r->offset + r->len > x->m->disk.inode[i]->size)
            broken_rule(x->m, "a request is not aligned, empty, or ends beyond the file");
        disk_take_pages(f.page, r->data, r->len);
        /* processes may see all or part of it before it is durable */
        if (!x->m->calm && rng_chance(&x->m->rng, 2))
            disk_write(&x->m->disk, i, f.page,
                       r->len / (1 + rng_below(&x->m->rng, 3)) / DISK_SECTOR * DISK_SECTOR,
                       r->offset, false);
    }
    trace(x->m, 9, r->offset, r->op == SEAM_WRITE ? hash_bytes(r->data, r->len) : 1);
    x->flight[x->queued] = disk_begin(&x->m->disk, &f);
    x->stuck[x->queued] = false;
    x->queue[x->queued++] = r;
}

static int sim_kick(struct seam *s) {
    (void)s;
    return 0;
}

static int64_t answer_write(struct sim_machine *m, const struct seam_req *r, int fault,
                            uint32_t *done) {
    *done = r->len;
    switch (fault) {
    case -1:
        return r->len;
    case FAULT_SHORT:
        *done = rng_below(&m->rng, r->len / DISK_SECTOR) * DISK_SECTOR;
        return *done;
    case FAULT_NOTHING:
        *done = 0;
        return 0;
    case FAULT_NO_DSYNC:
        *done = 0;
        return (r->flags & SEAM_DSYNC) != 0 ? -EOPNOTSUPP : -EAGAIN;
    case FAULT_EIO:
        *done = rng_below(&m->rng, r->len / DISK_SECTOR) * DISK_SECTOR;
        m->failed_sync = true;
        return -EIO;
    default:
        *done = 0;
        return errno_of(fault);
    }
}

static int64_t answer(struct sim *x, int at, int fault) {
    struct sim_machine *m = x->m;
    struct seam_req *r = x->queue[at];
    struct flight *f = &m->disk.flight[x->flight[at]];
    int64_t result = 0;
    uint32_t done = 1;
    if (r->op == SEAM_WRITE) {
        result = answer_write(m, r, fault, &done);
        /* a partial write was not made durable */
        if (result != (int64_t)r->len && (fault != FAULT_EIO || m->direct))
            f->durable = false;
    } else if (fault == FAULT_EAGAIN || fault == FAULT_EINTR || fault == FAULT_ECANCELED) {
        done = 0;
        result = errno_of(fault);
    } else if (fails_for_good(fault)) {
        disk_sync_fails(&m->disk, f->inode);
        m->failed_sync = true;
        done = 0;
        result = errno_of(fault);
    }
    int inode = f->inode;
    bool write_back_failed = r->op == SEAM_WRITE && fault == FAULT_EIO && f->durable && !m->direct;
    /* the bytes reached the cache, where all processes see them, and stay there, marked clean */
    if (write_back_failed) {
        done = r->len;
        f->durable = false;
    }
    disk_end(&m->disk, x->flight[at], done);
    if (write_back_failed)
        disk_sync_fails(&m->disk, inode);
    return result;
}

/* The request that completes next; -1: none ever completes. */
static int next_answer(struct sim *x) {
    int first = x->m->calm ? 0 : (int)rng_below(&x->m->rng, (unsigned)x->queued);
    for (int i = 0; i < x->queued; i++) {
        int at = (first + i) % x->queued;
        if (!x->stuck[at] || x->m->dead)
            return at;
    }
    return -1;
}

/* The process waits for ever. The simulator can't leave it there, so the process continues as a
 * dead one, and its further calls don't count. */
static void hang(struct sim_machine *m) {
    m->hung = m->dead = true;
    disk_copy(&m->hung_disk, &m->disk);
}

void sim_machine_revive(struct sim_machine *m) {
    if (!m->hung)
        return;
    disk_free(&m->disk);
    m->disk = m->hung_disk;
    m->hung = m->dead = m->locked = false;
}

static void forget_request(struct sim *x, int at) {
    x->queued--;
    for (int i = at; i < x->queued; i++) {
        x->queue[i] = x->queue[i + 1];
        x->flight[i] = x->flight[i + 1];
        x->stuck[i] = x->stuck[i + 1];
    }
}

static int sim_reap(struct seam *s, struct seam_req **out, int max, bool wait) {
    struct sim *x = self(s);
    int n = 0;
    while (x->queued > 0 && n < max) {
        if (n > 0 || !wait) { /* without wait, requests may complete later */
            if (!x->m->calm && rng_chance(&x->m->rng, 2))
                break;
        }
        int at = next_answer(x);
        if (at < 0) {
            if (n > 0 || !wait)
                break;
            hang(x->m);
            at = 0;
        }
        int fault = step(x->m);
        if (fault == FAULT_NEVER) {
            x->stuck[at] = true;
            continue;
        }
        struct seam_req *r = x->queue[at];
        r->result = answer(x, at, fault);
        trace(x->m, 10, r->offset, (uint64_t)r->result);
        forget_request(x, at);
        out[n++] = r;
    }
    return n;
}

static void sim_buffers(struct seam *s, void *const *data, size_t each, int count) {
    (void)s, (void)data, (void)each, (void)count;
}

/* ---------------------------------------------------------------- reading ahead */

static struct seam_reads *sim_reads_open(struct seam *s, unsigned depth, void *memory,
                                         size_t size) {
    (void)memory, (void)size;
    struct seam_reads *q = calloc(1, sizeof *q);
    if (q != NULL)
        q->s = self(s);
    return depth <= SIM_SYNC_MAX ? q : NULL;
}

static void sim_reads_put(struct seam_reads *q, struct seam_req *r) {
    q->queue[q->count++] = r;
}

static struct seam_req *sim_reads_take(struct seam_reads *q) {
    if (q->count == 0)
        return NULL;
    int at = (int)rng_below(&q->s->m->rng, (unsigned)q->count);
    struct seam_req *r = q->queue[at];
    q->queue[at] = q->queue[--q->count];
    r->result = sim_read(&q->s->seam, r->file, r->data, r->len, r->offset);
    return r;
}

static void sim_reads_close(struct seam_reads *q) {
    free(q);
}

/* ---------------------------------------------------------------- lock, time, random bytes,
 * creation */

static int sim_lock(struct seam *s, uint64_t wait_ns, int *pid) {
    struct sim *x = self(s);
    (void)wait_ns;
    *pid = 1000;
    if (x->m->locked)
        return -EWOULDBLOCK;
    x->m->locked = x->holds_lock = true;
    return 0;
}

static void sim_unlock(struct seam *s) {
    struct sim *x = self(s);
    if (x->holds_lock)
        x->m->locked = false;
    x->holds_lock = false;
}

static int sim_holder(struct seam *s) {
    return self(s)->m->locked ? 1000 : 0;
}

static uint64_t sim_now(struct seam *s) {
    return self(s)->m->clock_ns;
}

static uint64_t sim_realtime(struct seam *s) {
    const struct sim_machine *m = self(s)->m;
    return m->clock_ns + 1700000000000000000u + (uint64_t)m->clock_set_ns;
}

static void sim_clocks(struct seam *s, struct seam_clock *out) {
    const struct sim_machine *m = self(s)->m;
    *out = (struct seam_clock){
        .wall_ns = sim_realtime(s), .boot_ns = m->clock_ns, .boot_id = 1 + m->boots};
}

static void sim_sleep(struct seam *s, uint64_t ns) {
    self(s)->m->clock_ns += ns;
}

static int sim_random(struct seam *s, void *data, size_t len) {
    for (size_t i = 0; i < len; i++)
        ((uint8_t *)data)[i] = (uint8_t)rng_next(&self(s)->m->rng);
    return 0;
}

static int sim_free_space(struct seam *s, uint64_t *bytes) {
    const struct disk *d = &self(s)->m->disk;
    uint64_t used = disk_used(d);
    *bytes = d->space > used ? d->space - used : 0;
    return 0;
}

static void sim_destroy(struct seam *s) {
    struct sim *x = self(s);
    if (x->queued != 0)
        broken_rule(x->m, "the seam is destroyed with requests in flight");
    sim_unlock(s);
    free(x);
}

static const struct seam_ops ops = {
    .list = sim_list,
    .open = sim_open,
    .close = sim_close,
    .size = sim_size,
    .allocate = sim_allocate,
    .rename = sim_rename,
    .unlink = sim_unlink,
    .sync_dir = sim_sync_dir,
    .read = sim_read,
    .write = sim_write,
    .sync = sim_sync,
    .drop_cache = sim_drop_cache,
    .submit = sim_submit,
    .kick = sim_kick,
    .reap = sim_reap,
    .buffers = sim_buffers,
    .reads_open = sim_reads_open,
    .reads_put = sim_reads_put,
    .reads_take = sim_reads_take,
    .reads_close = sim_reads_close,
    .lock = sim_lock,
    .unlock = sim_unlock,
    .holder = sim_holder,
    .now = sim_now,
    .realtime = sim_realtime,
    .clocks = sim_clocks,
    .sleep = sim_sleep,
    .random = sim_random,
    .free_space = sim_free_space,
    .destroy = sim_destroy,
};

void sim_machine_init(struct sim_machine *m, uint64_t seed, uint64_t space) {
    memset(m, 0, sizeof *m);
    disk_init(&m->disk, space);
    m->rng.state = seed;
    m->step_limit = 20000;
}

struct seam *sim_seam(struct sim_machine *m) {
    struct sim *x = calloc(1, sizeof *x);
    if (x == NULL)
        abort();
    x->seam = (struct seam){
        .ops = &ops, .backend = PAWL_BACKEND_POSIX, .direct = m->direct, .zeros = m->zeros};
    snprintf(x->seam.note, sizeof x->seam.note, "simulated");
    x->m = m;
    return &x->seam;
}
