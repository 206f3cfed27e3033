/* SPDX-License-Identifier: Apache-2.0
 *
 * seam_posix.c - backend that uses plain system calls, for systems where io_uring is missing or
 * forbidden.
 *
 * The thread that reaps executes the foreground requests, one a round: each is reported as soon as
 * it is done, and needs no hand-off to another thread. A helper thread executes the background
 * requests; it starts with the first of them.
 */
#include <signal.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

#include "pawl.h"
#include "wal/seam/seam_common.h"

struct posix {
    struct common c;
    pthread_mutex_t mutex; /* guards the fields below; never held during I/O */
    /* for reap(): a request completed, or a foreground request was submitted */
    pthread_cond_t news;
    pthread_cond_t work; /* for the helper */
    struct req_queue fore, back, finished;
    bool helper_busy; /* it is executing a request */
    bool helper_runs;
    bool stop;
    pthread_t helper;
};

static struct posix *self(struct seam *s) {
    return (struct posix *)s;
}

static int64_t run(struct posix *p, const struct seam_req *r) {
    int fd = common_fd(&p->c, r->file);
    if (fd < 0)
        return fd;
    struct iovec v = {.iov_base = r->data, .iov_len = r->len};
    ssize_t n;
    switch (r->op) {
    case SEAM_WRITE:
        n = pwritev2(fd, &v, 1, (off_t)r->offset, (r->flags & SEAM_DSYNC) != 0 ? RWF_DSYNC : 0);
        break;
    case SEAM_READ:
        n = pread(fd, r->data, r->len, (off_t)r->offset);
        break;
    case SEAM_SYNC:
        n = fdatasync(fd);
        break;
    default:
        return -EINVAL;
    }
    if (n >= 0)
        return n;
    return errno == ENOSYS ? -EOPNOTSUPP : -errno;
}

/* Called and returns with the mutex held. */
static void run_unlocked(struct posix *p, struct seam_req *r) {
    pthread_mutex_unlock(&p->mutex);
    int64_t result = run(p, r);
    pthread_mutex_lock(&p->mutex);
    r->result = result;
    queue_put(&p->finished, r);
}

static void *helper(void *arg) {
    struct posix *p = arg;
    pthread_mutex_lock(&p->mutex);
    while (!p->stop) {
        struct seam_req *r = queue_take(&p->back);
        if (r == NULL) {
            pthread_cond_wait(&p->work, &p->mutex);
            continue;
        }
        p->helper_busy = true;
        run_unlocked(p, r);
        p->helper_busy = false;
        pthread_cond_signal(&p->news);
    }
    pthread_mutex_unlock(&p->mutex);
    return NULL;
}

/* The helper blocks all signals: they are for the application's threads. If it can't be started,
 * reap() executes the background requests when it has no others. */
static void start_helper(struct posix *p) {
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    p->helper_runs = pthread_create(&p->helper, NULL, helper, p) == 0;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
}

static void posix_submit(struct seam *s, struct seam_req *r) {
    KEEP_ERRNO;
    struct posix *p = self(s);
    pthread_mutex_lock(&p->mutex);
    if ((r->flags & SEAM_BACKGROUND) != 0) {
        queue_put(&p->back, r);
        if (!p->helper_runs)
            start_helper(p);
        pthread_cond_signal(p->helper_runs ? &p->work : &p->news);
    } else {
        queue_put(&p->fore, r);
        pthread_cond_signal(&p->news);
    }
    pthread_mutex_unlock(&p->mutex);
}

static int posix_kick(struct seam *s) {
    (void)s;
    return 0; /* the next reap() executes the requests */
}

static int posix_reap(struct seam *s, struct seam_req **out, int max, bool wait) {
    KEEP_ERRNO;
    struct posix *p = self(s);
    int n = 0;
    pthread_mutex_lock(&p->mutex);
    while (max > 0) {
        struct seam_req *r = queue_take(&p->fore);
        if (r == NULL && !p->helper_runs && p->finished.head == NULL)
            r = queue_take(&p->back);
        if (r != NULL)
            run_unlocked(p, r);
        while (n < max && (r = queue_take(&p->finished)) != NULL)
            out[n++] = r;
        bool under_way = p->helper_busy || p->back.head != NULL || p->fore.head != NULL;
        if (n > 0 || !wait || !under_way)
            break;
        if (p->fore.head == NULL && p->helper_runs)
            pthread_cond_wait(&p->news, &p->mutex);
    }
    pthread_mutex_unlock(&p->mutex);
    return n;
}

static void posix_buffers(struct seam *s, void *const *data, size_t each, int count) {
    (void)s, (void)data, (void)each, (void)count;
}

static void posix_destroy(struct seam *s) {
    KEEP_ERRNO;
    struct posix *p = self(s);
    pthread_mutex_lock(&p->mutex);
    p->stop = true; /* once it has completed its current request */
    pthread_cond_signal(&p->work);
    pthread_mutex_unlock(&p->mutex);
    if (p->helper_runs)
        pthread_join(p->helper, NULL);
    common_end(&p->c);
    pthread_cond_destroy(&p->work);
    pthread_cond_destroy(&p->news);
    pthread_mutex_destroy(&p->mutex);
    free(p);
}

static const struct seam_ops ops = {
    COMMON_OPS,         .submit = posix_submit,   .kick = posix_kick,
    .reap = posix_reap, .buffers = posix_buffers, .destroy = posix_destroy,
};

int posix_create(const struct start *st, struct common **out) {
    struct posix *p = calloc(1, sizeof *p);
    if (p == NULL)
        return -ENOMEM;
    int rc = common_init(&p->c, st);
    if (rc < 0) {
        free(p);
        return rc;
    }
    /* On Linux these can't fail with default attributes. */
    pthread_mutex_init(&p->mutex, NULL);
    pthread_cond_init(&p->news, NULL);
    pthread_cond_init(&p->work, NULL);
    p->c.seam.ops = &ops;
    p->c.seam.backend = PAWL_BACKEND_POSIX;
    *out = &p->c;
    return 0;
}
