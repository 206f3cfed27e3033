/* SPDX-License-Identifier: Apache-2.0
 *
 * seam_uring.c - backend that uses io_uring.
 *
 * A request is first `queued` (in a list of this file), then `staged` (in the submission ring, not
 * accepted by the kernel yet), then in the kernel, then in the completion ring. The number of
 * requests staged or later never exceeds the capacity of the completion ring: an overflow would
 * cost a system call, or lose the completion on old kernels.
 *
 * submit(), kick() and reap() share the submission side, under `mutex`. The completion side belongs
 * to the thread that reaps; it waits without a lock, so that other threads can submit meanwhile.
 */
#include <liburing.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "pawl.h"
#include "wal/seam/seam_common.h"

#define ENTRIES 128
#define BATCH 64
/* the pause when the kernel has no memory for a submission, and nothing in flight could free any */
#define NAP_NS 500000u
/* How long make_ring_patiently() retries while the kernel still charges the memory of a closed
 * ring. */
#define CHARGED_NS 250000000u
/* more than a ring needs: under a lower RLIMIT_MEMLOCK, waiting can't help */
#define RING_BYTES 65536u

struct uring {
    struct common c;
    struct io_uring ring;
    unsigned capacity; /* of the completion ring; constant */
    bool fixed_files;  /* constant */
    /* Is the slot in the kernel's table in use? set_slot() writes it while no other thread can use
     * the handle. */
    _Atomic bool fixed[SLOTS];

    pthread_mutex_t mutex; /* guards the fields below and the submission ring */
    struct req_queue queued, queued_back, staged, refused;
    unsigned in_flight; /* staged or in the kernel */
    unsigned staged_count;
    int fixed_buffers; /* number of registered buffers */
    int broken;        /* -errno: the ring accepts nothing more */
};

static struct uring *self(struct seam *s) {
    return (struct uring *)s;
}

/* ---------------------------------------------------------------- registration */

/* The lock's descriptor is registered too. The kernel keeps the table until the ring's last request
 * is done, even if the process is killed; the table keeps the file description, and the description
 * keeps the flock. So the last write of a killed writer can't reach the log of a new owner. */
static void set_slot(struct common *c, int slot, int fd) {
    struct uring *u = (struct uring *)c;
    if (!u->fixed_files)
        return;
    int rc = io_uring_register_files_update(&u->ring, (unsigned)slot, &fd, 1);
    atomic_store_explicit(&u->fixed[slot], fd >= 0 && rc == 1, memory_order_release);
}

static void register_files(struct uring *u) {
    int none[SLOTS];
    for (int i = 0; i < SLOTS; i++)
        none[i] = -1;
    /* Not liburing's function, because it would raise the process's RLIMIT_NOFILE. */
    u->fixed_files =
        io_uring_register((unsigned)u->ring.ring_fd, IORING_REGISTER_FILES, none, SLOTS) >= 0;
}

static void uring_buffers(struct seam *s, void *const *data, size_t each, int count) {
    KEEP_ERRNO;
    struct uring *u = self(s);
    struct iovec *v = count > 0 ? calloc((size_t)count, sizeof *v) : NULL;
    pthread_mutex_lock(&u->mutex);
    if (u->fixed_buffers > 0)
        io_uring_unregister_buffers(&u->ring);
    u->fixed_buffers = 0;
    for (int i = 0; v != NULL && i < count; i++)
        v[i] = (struct iovec){.iov_base = data[i], .iov_len = each};
    if (v != NULL && io_uring_register_buffers(&u->ring, v, (unsigned)count) == 0)
        /* on failure (mostly ENOMEM from RLIMIT_MEMLOCK) writes only cost a little more */
        u->fixed_buffers = count;
    pthread_mutex_unlock(&u->mutex);
    free(v);
}

/* ---------------------------------------------------------------- submission; the mutex is held */

static void fill(struct uring *u, struct io_uring_sqe *sqe, struct seam_req *r) {
    bool fixed = r->file >= 0 && r->file < SEAM_FILES_MAX &&
                 atomic_load_explicit(&u->fixed[r->file], memory_order_acquire);
    /* if there is no such handle, the kernel returns -EBADF */
    int fd = fixed ? r->file : common_fd(&u->c, r->file);
    switch (r->op) {
    case SEAM_WRITE:
        if (r->buffer >= 0 && r->buffer < u->fixed_buffers)
            io_uring_prep_write_fixed(sqe, fd, r->data, r->len, r->offset, r->buffer);
        else
            io_uring_prep_write(sqe, fd, r->data, r->len, r->offset);
        sqe->rw_flags = (r->flags & SEAM_DSYNC) != 0 ? RWF_DSYNC : 0;
        break;
    case SEAM_READ:
        io_uring_prep_read(sqe, fd, r->data, r->len, r->offset);
        break;
    case SEAM_SYNC:
        io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC);
        break;
    }
    /* A kernel thread starts background requests, so that they don't cost the submitting thread
     * time. */
    unsigned flags =
        (fixed ? IOSQE_FIXED_FILE : 0u) | ((r->flags & SEAM_BACKGROUND) != 0 ? IOSQE_ASYNC : 0u);
    sqe->flags = (unsigned char)flags;
    io_uring_sqe_set_data(sqe, r);
}

/* Background requests may fill only half of the ring, so that there is always room for foreground
 * requests. */
static struct seam_req *next_request(struct uring *u) {
    if (u->in_flight >= u->capacity)
        return NULL;
    if (u->queued.head != NULL)
        return queue_take(&u->queued);
    return u->in_flight < u->capacity / 2 ? queue_take(&u->queued_back) : NULL;
}

static void stage(struct uring *u) {
    while (io_uring_sq_space_left(&u->ring) > 0) {
        struct seam_req *r = next_request(u);
        if (r == NULL)
            return;
        if (r->op != SEAM_WRITE && r->op != SEAM_READ && r->op != SEAM_SYNC) {
            r->result = -EINVAL;
            queue_put(&u->refused, r);
            continue;
        }
        fill(u, io_uring_get_sqe(&u->ring), r);
        queue_put(&u->staged, r);
        u->staged_count++;
        u->in_flight++;
    }
}

static void refuse_all(struct uring *u, struct req_queue *q, int error) {
    struct seam_req *r;
    while ((r = queue_take(q)) != NULL) {
        r->result = error;
        queue_put(&u->refused, r);
    }
}

/* The ring itself failed. The kernel will never accept the requests that it has not accepted yet,
 * since nothing is submitted any more; so they complete with the error. */
static int give_up(struct uring *u, int error) {
    u->broken = error;
    u->in_flight -= u->staged_count;
    u->staged_count = 0;
    refuse_all(u, &u->staged, error);
    refuse_all(u, &u->queued, error);
    refuse_all(u, &u->queued_back, error);
    return error;
}

/* Submits as many requests as possible. Those that the kernel has no room for stay staged until the
 * next call. */
static int flush(struct uring *u) {
    if (u->broken != 0)
        return give_up(u, u->broken);
    for (;;) {
        stage(u);
        if (u->staged_count == 0)
            return 0;
        int n = io_uring_submit(&u->ring);
        if (n == -EAGAIN || n == -EBUSY || n == -EINTR || n == 0)
            return 0;
        if (n < 0)
            return give_up(u, n);
        for (; n > 0 && u->staged_count > 0; n--) {
            queue_take(&u->staged);
            u->staged_count--;
        }
        if (u->staged_count > 0) /* the kernel stopped early: it has no memory for more */
            return 0;
    }
}

static void uring_submit(struct seam *s, struct seam_req *r) {
    KEEP_ERRNO;
    struct uring *u = self(s);
    pthread_mutex_lock(&u->mutex);
    queue_put((r->flags & SEAM_BACKGROUND) != 0 ? &u->queued_back : &u->queued, r);
    pthread_mutex_unlock(&u->mutex);
}

static int uring_kick(struct seam *s) {
    KEEP_ERRNO;
    struct uring *u = self(s);
    pthread_mutex_lock(&u->mutex);
    int rc = flush(u);
    pthread_mutex_unlock(&u->mutex);
    return rc;
}

/* ---------------------------------------------------------------- completion */

/* Takes out the completed requests. Called with the mutex held. */
static int harvest(struct uring *u, struct seam_req **out, int max) {
    UNSET struct io_uring_cqe *cqe[BATCH];
    int n = 0;
    struct seam_req *r;
    while (n < max && (r = queue_take(&u->refused)) != NULL)
        out[n++] = r;
    unsigned found = 0;
    if (n < max)
        found =
            io_uring_peek_batch_cqe(&u->ring, cqe, (unsigned)(max - n < BATCH ? max - n : BATCH));
    for (unsigned i = 0; i < found; i++) {
        r = io_uring_cqe_get_data(cqe[i]);
        r->result = cqe[i]->res;
        out[n++] = r;
    }
    io_uring_cq_advance(&u->ring, found);
    u->in_flight -= found;
    return n;
}

static int uring_reap(struct seam *s, struct seam_req **out, int max, bool wait) {
    KEEP_ERRNO;
    struct uring *u = self(s);
    if (max <= 0)
        return 0;
    for (;;) {
        pthread_mutex_lock(&u->mutex);
        flush(u);
        /* Only this thread takes out completions, so a request that is in the kernel now will still
         * wake it below. */
        unsigned in_kernel = u->in_flight - u->staged_count;
        bool rest = u->staged_count > 0 || u->queued.head != NULL || u->queued_back.head != NULL;
        int n = harvest(u, out, max);
        pthread_mutex_unlock(&u->mutex);
        if (n > 0 && rest)
            uring_kick(s);
        if (n > 0 || !wait || (in_kernel == 0 && !rest))
            return n;
        struct io_uring_cqe *cqe;
        if (in_kernel > 0)
            io_uring_wait_cqe(&u->ring, &cqe); /* -EINTR: the loop repeats */
        else
            common_sleep(s, NAP_NS);
    }
}

/* ---------------------------------------------------------------- reading ahead */

struct seam_reads {
    struct uring *u;
    struct io_uring ring;
    bool fixed; /* `memory` is registered: the kernel looks up its pages once, not for each read */
    unsigned in_flight;
    struct req_queue refused;
};

static int make_ring(int spare_fd, unsigned entries, struct io_uring *ring, unsigned *completions);

static struct seam_reads *uring_reads_open(struct seam *s, unsigned depth, void *memory,
                                           size_t size) {
    KEEP_ERRNO;
    struct seam_reads *q = calloc(1, sizeof *q);
    unsigned completions;
    if (q == NULL)
        return NULL;
    q->u = self(s);
    if (make_ring(q->u->c.dir, depth, &q->ring, &completions) != 0) {
        free(q);
        return NULL;
    }
    struct iovec v = {.iov_base = memory, .iov_len = size};
    /* a failure is mostly RLIMIT_MEMLOCK, and harmless */
    q->fixed = io_uring_register_buffers(&q->ring, &v, 1) == 0;
    return q;
}

static void uring_reads_put(struct seam_reads *q, struct seam_req *r) {
    KEEP_ERRNO;
    struct io_uring_sqe *sqe = io_uring_get_sqe(&q->ring);
    int rc = -EBUSY;
    if (sqe != NULL) {
        int fd = common_fd(&q->u->c, r->file);
        if (q->fixed)
            io_uring_prep_read_fixed(sqe, fd, r->data, r->len, r->offset, 0);
        else
            io_uring_prep_read(sqe, fd, r->data, r->len, r->offset);
        io_uring_sqe_set_data(sqe, r);
        do
            rc = io_uring_submit(&q->ring);
        while (rc == -EINTR);
    }
    if (rc > 0 && io_uring_sq_ready(&q->ring) == 0) {
        q->in_flight++;
        return;
    }
    /* The kernel did not accept it. A later submission must not execute the staged read, because
     * its memory may be in use for something else by then. */
    if (sqe != NULL) {
        io_uring_prep_nop(sqe);
        io_uring_sqe_set_data(sqe, NULL);
    }
    r->result = rc < 0 ? rc : -EAGAIN;
    queue_put(&q->refused, r);
}

static struct seam_req *uring_reads_take(struct seam_reads *q) {
    KEEP_ERRNO;
    struct seam_req *r = queue_take(&q->refused);
    while (r == NULL && q->in_flight > 0) {
        struct io_uring_cqe *cqe;
        if (io_uring_wait_cqe(&q->ring, &cqe) != 0)
            continue; /* -EINTR */
        r = io_uring_cqe_get_data(cqe);
        if (r != NULL) {
            r->result = cqe->res;
            q->in_flight--;
        }
        io_uring_cqe_seen(&q->ring, cqe);
    }
    return r;
}

static void uring_reads_close(struct seam_reads *q) {
    KEEP_ERRNO;
    while (uring_reads_take(q) != NULL) {
    }
    /* the kernel frees the ring some time after queue_exit(); this returns the memory charged to
     * RLIMIT_MEMLOCK at once */
    if (q->fixed)
        io_uring_unregister_buffers(&q->ring);
    io_uring_queue_exit(&q->ring);
    free(q);
}

/* ---------------------------------------------------------------- creation and destruction */

static void uring_destroy(struct seam *s) {
    KEEP_ERRNO;
    struct uring *u = self(s);
    while (u->in_flight > u->staged_count) { /* the kernel still uses the caller's buffers */
        struct io_uring_cqe *cqe;
        if (io_uring_wait_cqe(&u->ring, &cqe) == 0) {
            io_uring_cqe_seen(&u->ring, cqe);
            u->in_flight--;
        }
    }
    /* As in uring_reads_close(): the next handle needs the locked memory at once. */
    if (u->fixed_buffers > 0)
        io_uring_unregister_buffers(&u->ring);
    common_end(&u->c);
    io_uring_queue_exit(&u->ring);
    pthread_mutex_destroy(&u->mutex);
    free(u);
}

static const struct seam_ops ops = {
    COMMON_OPS,
    .submit = uring_submit,
    .kick = uring_kick,
    .reap = uring_reap,
    .buffers = uring_buffers,
    .destroy = uring_destroy,
    .reads_open = uring_reads_open,
    .reads_put = uring_reads_put,
    .reads_take = uring_reads_take,
    .reads_close = uring_reads_close,
};

/* The ring's descriptor can't be moved, so descriptors 0 to 2 are occupied while it is created. */
static int make_ring(int spare_fd, unsigned entries, struct io_uring *ring, unsigned *completions) {
    int low[3], lows = 0, fd;
    while (lows < 3 && (fd = fcntl(spare_fd, F_DUPFD_CLOEXEC, 0)) >= 0) {
        if (fd > 2) {
            close(fd);
            break;
        }
        low[lows++] = fd;
    }
    struct io_uring_params params;
    memset(&params, 0, sizeof params);
    params.flags = IORING_SETUP_CLAMP;
    int rc = io_uring_queue_init_params(entries, ring, &params);
    while (lows > 0)
        close(low[--lows]);
    *completions = params.cq_entries;
    return rc;
}

/* Since 6.14 the kernel charges a ring's memory to the user's RLIMIT_MEMLOCK, and returns it only
 * some milliseconds after the ring is closed. Without a retry, a program that opens one log after
 * another would be refused. */
static int make_ring_patiently(struct uring *u) {
    struct seam *s = &u->c.seam;
    struct rlimit limit = {0, 0};
    uint64_t start = common_now(s);
    int rc;
    while ((rc = make_ring(u->c.dir, ENTRIES, &u->ring, &u->capacity)) == -ENOMEM) {
        if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0 || limit.rlim_cur < RING_BYTES ||
            common_now(s) - start >= CHARGED_NS)
            break;
        common_sleep(s, 4 * NAP_NS);
    }
    return rc;
}

static bool has_operations(struct uring *u) {
    static const int needed[] = {IORING_OP_WRITE, IORING_OP_READ, IORING_OP_FSYNC,
                                 IORING_OP_WRITE_FIXED};
    struct io_uring_probe *probe = io_uring_get_probe_ring(&u->ring);
    bool all = probe != NULL;
    for (size_t i = 0; all && i < sizeof needed / sizeof needed[0]; i++)
        all = io_uring_opcode_supported(probe, needed[i]) != 0;
    io_uring_free_probe(probe);
    return all;
}

int uring_create(const struct start *st, struct common **out, const char **why) {
    *why = "memory";
    struct uring *u = calloc(1, sizeof *u);
    if (u == NULL)
        return -ENOMEM;
    int rc = common_init(&u->c, st);
    if (rc < 0) {
        free(u);
        return rc;
    }
    *why = "io_uring_setup";
    rc = make_ring_patiently(u);
    if (rc == 0 && !has_operations(u)) {
        *why = "io_uring probe";
        rc = -EOPNOTSUPP;
        io_uring_queue_exit(&u->ring);
    }
    if (rc < 0) {
        pthread_mutex_destroy(&u->c.mutex);
        free(u);
        return rc;
    }
    pthread_mutex_init(&u->mutex, NULL);
    register_files(u);
    u->c.slot = set_slot;
    u->c.seam.ops = &ops;
    u->c.seam.backend = PAWL_BACKEND_URING;
    *out = &u->c;
    return 0;
}
