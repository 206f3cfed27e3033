/* SPDX-License-Identifier: Apache-2.0
 *
 * A thread that does one read at a time, so that reading and appending overlap.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "connectors/file/tail.h"

#define PREFETCH_BYTES (8u << 20) /* read-ahead asked of the kernel after a read */

struct prefetch {
    pthread_t thread;
    pthread_mutex_t mutex; /* guards all fields below */
    pthread_cond_t change;
    bool wanted, done, stop;
    int fd, error;
    void *buf;
    size_t size;
    uint64_t offset;
    ssize_t result;
};

ssize_t read_whole(int fd, void *buf, size_t size, uint64_t offset) {
    size_t done = 0;
    while (done < size) {
        ssize_t n = pread(fd, (char *)buf + done, size - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        if (n == 0)
            break;
        done += (size_t)n;
    }
    return (ssize_t)done;
}

static void *work(void *arg) {
    struct prefetch *a = arg;
    uint64_t asked = 0;
    int asked_fd = -1;
    pthread_mutex_lock(&a->mutex);
    for (;;) {
        while (!a->wanted && !a->stop)
            pthread_cond_wait(&a->change, &a->mutex);
        if (a->stop)
            break;
        int fd = a->fd;
        uint64_t end = a->offset + a->size;
        pthread_mutex_unlock(&a->mutex);
        ssize_t n = read_whole(fd, a->buf, a->size, a->offset);
        int error = errno;
        if (n > 0 && (fd != asked_fd || end + PREFETCH_BYTES / 2 > asked ||
                      asked > end + 2 * PREFETCH_BYTES)) {
            posix_fadvise(fd, (off_t)end, PREFETCH_BYTES, POSIX_FADV_WILLNEED);
            asked = end + PREFETCH_BYTES;
            asked_fd = fd;
        }
        pthread_mutex_lock(&a->mutex);
        a->result = n;
        a->error = error;
        a->wanted = false;
        a->done = true;
        pthread_cond_broadcast(&a->change);
    }
    pthread_mutex_unlock(&a->mutex);
    return NULL;
}

struct prefetch *prefetch_new(void) {
    struct prefetch *a = calloc(1, sizeof *a);
    if (a == NULL)
        return NULL;
    pthread_mutex_init(&a->mutex, NULL);
    pthread_cond_init(&a->change, NULL);
    if (pthread_create(&a->thread, NULL, work, a) == 0)
        return a;
    pthread_cond_destroy(&a->change);
    pthread_mutex_destroy(&a->mutex);
    free(a);
    return NULL;
}

void prefetch_submit(struct prefetch *a, int fd, void *buf, size_t size, uint64_t offset) {
    pthread_mutex_lock(&a->mutex);
    a->fd = fd;
    a->buf = buf;
    a->size = size;
    a->offset = offset;
    a->done = false;
    a->wanted = true;
    pthread_cond_broadcast(&a->change);
    pthread_mutex_unlock(&a->mutex);
}

ssize_t prefetch_wait(struct prefetch *a) {
    pthread_mutex_lock(&a->mutex);
    while (!a->done)
        pthread_cond_wait(&a->change, &a->mutex);
    ssize_t n = a->result;
    errno = a->error;
    pthread_mutex_unlock(&a->mutex);
    return n;
}

void prefetch_free(struct prefetch *a) {
    if (a == NULL)
        return;
    pthread_mutex_lock(&a->mutex);
    a->stop = true;
    pthread_cond_broadcast(&a->change);
    pthread_mutex_unlock(&a->mutex);
    pthread_join(a->thread, NULL);
    pthread_cond_destroy(&a->change);
    pthread_mutex_destroy(&a->mutex);
    free(a);
}
