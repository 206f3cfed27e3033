/* SPDX-License-Identifier: Apache-2.0 */
#include "floor.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

enum { BLOCK = 4096, MIB = 1 << 20, DEPTH_MAX = 16 };

/* Size and number of the requests, found by floor_prepare(). */
struct form {
    unsigned len, depth;
};
static struct {
    char path[4096];
    uint64_t size;
    struct form write, read;
    char choice[128];
} its;

struct file {
    int fd;
    uint64_t at;
    uint8_t *data; /* DEPTH_MAX MiB */
    bool fixed;    /* the buffer is registered */
    struct io_uring ring;
};

static void make_ring(struct io_uring *ring) {
    /* The submitting thread reaps the completions: with newer kernels that saves an interrupt. */
#ifdef IORING_SETUP_DEFER_TASKRUN
    if (io_uring_queue_init(2 * DEPTH_MAX, ring,
                            IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN) == 0)
        return;
#endif
    int rc = io_uring_queue_init(2 * DEPTH_MAX, ring, 0);
    if (rc != 0)
        give_up("io_uring: %s", strerror(-rc));
}

static void file_open(struct file *f, const struct setting *s) {
    void *data = NULL;
    memset(f, 0, sizeof *f);
    if (posix_memalign(&data, BLOCK, (size_t)DEPTH_MAX * MIB) != 0)
        give_up("no memory for the floor");
    f->data = data;
    for (size_t i = 0; i < (size_t)DEPTH_MAX * MIB; i++)
        f->data[i] = (uint8_t)(i * 2654435761u >> 13);
    f->fd = open(its.path, O_RDWR | (setting_tuned(s, "buffered", 0) ? 0 : O_DIRECT) | O_CLOEXEC);
    if (f->fd < 0)
        give_up("open of %s with O_DIRECT: %s", its.path, strerror(errno));
    make_ring(&f->ring);
    struct iovec v = {f->data, (size_t)DEPTH_MAX * MIB};
    if (io_uring_register_files(&f->ring, &f->fd, 1) != 0)
        give_up("io_uring refuses to register a file");
    /* may fail at the limit of locked memory */
    f->fixed = io_uring_register_buffers(&f->ring, &v, 1) == 0;
}

static uint64_t next(struct file *f, uint64_t len) {
    if (f->at + len > its.size)
        f->at = 0;
    uint64_t at = f->at;
    f->at += len;
    return at;
}

/* ---- F1 */

static void submit(struct file *f, bool write, unsigned slot, unsigned len, uint64_t at);
static unsigned finish(struct file *f);

/* Writes one block durably. The other ways show that the first is the fastest. */
static void write_block(struct file *f, long way) {
    enum { PWRITEV2, FDATASYNC, RING };
    struct iovec v = {f->data, BLOCK};
    uint64_t at = next(f, BLOCK);
    if (way == RING) {
        submit(f, true, 0, BLOCK, at);
        finish(f);
    } else if (pwritev2(f->fd, &v, 1, (off_t)at, way == PWRITEV2 ? RWF_DSYNC : 0) != BLOCK ||
               (way == FDATASYNC && fdatasync(f->fd) != 0)) {
        give_up("a durable write: %s", strerror(errno));
    }
}

/* rate 0: each block starts when the previous one is durable. Else each has its intended time, and
 * its latency counts from there. */
static void blocks(const struct setting *s, uint32_t rate, struct turn *t) {
    struct file f;
    long way = setting_tuned(s, "way", 0);
    struct hdr *h = must_allocate(sizeof *h);
    file_open(&f, s);
    for (int i = 0; i < 50; i++)
        write_block(&f, way);
    for (uint64_t end; slice_begin(t, &end); slice_end(t)) {
        uint64_t start = measure_now(), begun = start;
        for (uint64_t n = 1; begun < end; n++) {
            write_block(&f, way);
            uint64_t now = measure_now();
            hdr_add(h, now - begun);
            begun = rate == 0 ? now : start + n * 1000000000u / rate;
            if (rate != 0)
                measure_sleep_until(begun);
        }
    }
    t->records = t->commits = h->count;
    turn_latencies(t, h);
    free(h);
}

void floor_f1(const struct setting *s, struct turn *t) {
    blocks(s, 0, t);
    t->payload = t->records * s->record;
    t->value = (double)t->p50;
}

void floor_f1_rate(const struct setting *s, struct turn *t) {
    blocks(s, 0, t);
    t->payload = t->records * s->record;
    t->value = (double)t->commits * 1e9 / (double)t->ns;
}

void floor_f1_paced(const struct setting *s, struct turn *t) {
    blocks(s, s->rate, t);
    t->payload = t->records * s->record;
    t->value = (double)t->p99;
}

/* ---- several in flight */

static void submit(struct file *f, bool write, unsigned slot, unsigned len, uint64_t at) {
    struct io_uring_sqe *e = io_uring_get_sqe(&f->ring);
    uint8_t *data = f->data + (size_t)slot * MIB;
    if (write && f->fixed)
        io_uring_prep_write_fixed(e, 0, data, len, at, 0);
    else if (write)
        io_uring_prep_write(e, 0, data, len, at);
    else if (f->fixed)
        io_uring_prep_read_fixed(e, 0, data, len, at, 0);
    else
        io_uring_prep_read(e, 0, data, len, at);
    e->flags |= IOSQE_FIXED_FILE;
    e->rw_flags = write ? RWF_DSYNC : 0;
    io_uring_sqe_set_data64(e, (uint64_t)slot << 32 | len);
}

/* Waits for one completion; returns its slot. */
static unsigned finish(struct file *f) {
    struct io_uring_cqe *c;
    int rc = io_uring_submit_and_wait(&f->ring, 1);
    if (rc < 0 || io_uring_peek_cqe(&f->ring, &c) != 0)
        give_up("io_uring: %s", strerror(-rc));
    uint64_t d = io_uring_cqe_get_data64(c);
    if (c->res != (int)(uint32_t)d)
        give_up("a request of %u bytes answered %d", (uint32_t)d, c->res);
    io_uring_cqe_seen(&f->ring, c);
    return (unsigned)(d >> 32);
}

static void stream(const struct setting *s, bool write, struct form form, struct turn *t) {
    struct file f;
    file_open(&f, s);
    for (uint64_t end; slice_begin(t, &end); slice_end(t)) {
        unsigned busy = 0;
        for (; busy < form.depth; busy++)
            submit(&f, write, busy, form.len, next(&f, form.len));
        while (busy > 0) {
            unsigned slot = finish(&f);
            t->commits++;
            if (measure_now() < end)
                submit(&f, write, slot, form.len, next(&f, form.len));
            else
                busy--;
        }
    }
    t->payload = t->commits * form.len;
    t->value = (double)t->payload * 1e9 / (double)t->ns;
}

void floor_f4(const struct setting *s, struct turn *t) {
    stream(s, true, its.write, t);
}

void floor_r4(const struct setting *s, struct turn *t) {
    stream(s, false, its.read, t);
}

/* Runs batches: a batch's input in pieces until all are durable, then its output. Four batches are
 * in flight, each in its own slot. Returns how many were finished. */
static uint64_t two_phase(struct file *f, uint64_t padded, unsigned piece, uint64_t end) {
    enum { BATCHES = 4 };
    uint64_t left[BATCHES], finished = 0;
    bool output[BATCHES] = {false};
    unsigned busy = 0;
    for (; busy < BATCHES; busy++) {
        unsigned len = (unsigned)(padded < piece ? padded : piece);
        left[busy] = padded - len;
        submit(f, true, busy, len, next(f, len));
    }
    while (busy > 0) {
        unsigned i = finish(f);
        if (left[i] == 0) {
            finished += output[i];
            if (output[i] && measure_now() >= end) {
                busy--;
                continue;
            }
            output[i] = !output[i];
            left[i] = padded;
        }
        unsigned len = (unsigned)(left[i] < piece ? left[i] : piece);
        left[i] -= len;
        submit(f, true, i, len, next(f, len));
    }
    return finished;
}

static double try_piece(struct file *f, uint64_t padded, unsigned piece, uint64_t ns) {
    uint64_t begun = measure_now(), finished = two_phase(f, padded, piece, begun + ns);
    return (double)finished * 1e9 / (double)(measure_now() - begun);
}

void floor_two_phase(const struct setting *s, struct turn *t) {
    struct file f;
    uint64_t padded = ((uint64_t)s->batch * s->record + BLOCK - 1) / BLOCK * BLOCK, finished = 0;
    unsigned piece = MIB;
    file_open(&f, s);
    if (padded > MIB / 4 && try_piece(&f, padded, MIB / 4, setting_warm_ns(s)) >
                                try_piece(&f, padded, MIB, setting_warm_ns(s)))
        piece = MIB / 4;
    for (uint64_t end; slice_begin(t, &end); slice_end(t))
        finished += two_phase(&f, padded, piece, end);
    t->records = finished * s->batch, t->commits = 2 * finished,
    t->payload = 2 * t->records * s->record;
    t->value = (double)t->records * 1e9 / (double)t->ns;
}

/* ---- the file, and the best forms */

enum { FORMS = 8 };

static struct form form_of(uint32_t i) {
    return (struct form){i < 4 ? MIB / 4 : MIB, 2u << i % 4};
}

static void try_write(const struct setting *s, struct turn *t) {
    stream(s, true, form_of(s->batch), t);
}

static void try_read(const struct setting *s, struct turn *t) {
    stream(s, false, form_of(s->batch), t);
}

/* Tries all forms in turns, and takes the one with the highest rate. */
static bool best_form(const char *dir, contender_fn fn, uint64_t slice_ns, unsigned slices,
                      int (*stopping)(void), struct form *best, char *why, size_t why_size) {
    struct setting s[FORMS] = {0};
    struct turn t[FORMS] = {0};
    struct entry all[FORMS];
    uint32_t top = 0;
    for (uint32_t i = 0; i < FORMS; i++) {
        s[i].batch = i, s[i].run_ns = slice_ns;
        all[i] = (struct entry){.fn = fn, .s = &s[i], .t = &t[i], .why = why, .why_size = why_size};
    }
    if (!turns_run(dir, all, FORMS, 0, slices, stopping))
        return false;
    for (uint32_t i = 0; i < FORMS; i++) {
        if (all[i].failed)
            return false;
        top = t[i].value > t[top].value ? i : top;
    }
    *best = form_of(top);
    return true;
}

bool floor_prepare(const char *dir, uint64_t size, uint64_t slice_ns, unsigned slices,
                   int (*stopping)(void), char *why, size_t why_size) {
    void *data = NULL;
    snprintf(its.path, sizeof its.path, "%s/floor", dir);
    its.size = size;
    int fd = open(its.path, O_RDWR | O_CREAT | O_TRUNC | O_DIRECT | O_CLOEXEC, 0600);
    bool well = fd >= 0 && posix_memalign(&data, BLOCK, MIB) == 0;
    if (well)
        memset(data, 0x5a, MIB);
    for (uint64_t at = 0; well && at < size && !stopping(); at += MIB)
        well = pwrite(fd, data, MIB, (off_t)at) == MIB;
    well = well && fsync(fd) == 0;
    if (!well)
        snprintf(why, why_size, "%s, O_DIRECT: %s", its.path, strerror(errno));
    if (fd >= 0)
        close(fd);
    free(data);
    if (!well ||
        !best_form(dir, try_write, slice_ns, slices, stopping, &its.write, why, why_size) ||
        !best_form(dir, try_read, slice_ns, slices, stopping, &its.read, why, why_size))
        return false;
    snprintf(its.choice, sizeof its.choice, "F4: %u KiB, %u in flight; R4: %u KiB, %u in flight",
             its.write.len / 1024, its.write.depth, its.read.len / 1024, its.read.depth);
    return true;
}

const char *floor_choice(void) {
    return its.choice;
}

void floor_remove(void) {
    unlink(its.path);
}
