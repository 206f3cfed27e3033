/* SPDX-License-Identifier: Apache-2.0
 *
 * A thread that does one read at a time, so that reading and appending overlap.
 */
#include <errno.h>
#include <stdlib.h>

#include "connectors/file/tail.h"

#define PREFETCH_BYTES (8u << 20) /* read-ahead asked of the kernel after a read */

struct prefetch {
    pthread_t thread;
    pthread_mutex_t mutex; /* guards all fields below */
    pthread_cond_t change;
    bool wanted, done, stop;
    struct content *content;
    int error;
    void *buf;
    size_t size;
    uint64_t offset;
    ssize_t result;
};

static void *work(void *arg) {
    struct prefetch *a = arg;
    uint64_t asked = 0;
    struct content *asked_of = NULL;
    pthread_mutex_lock(&a->mutex);
    for (;;) {
        while (!a->wanted && !a->stop)
            pthread_cond_wait(&a->change, &a->mutex);
        if (a->stop)
            break;
        struct content *c = a->content;
        uint64_t end = a->offset + a->size;
        pthread_mutex_unlock(&a->mutex);
        ssize_t n = content_read(c, a->buf, a->size, a->offset);
        int error = errno;
        if (n > 0 && (c != asked_of || end + PREFETCH_BYTES / 2 > asked ||
                      asked > end + 2 * PREFETCH_BYTES)) {
            content_will_need(c, end, PREFETCH_BYTES);
            asked = end + PREFETCH_BYTES;
            asked_of = c;
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

void prefetch_submit(struct prefetch *a, struct content *c, void *buf, size_t size,
                     uint64_t offset) {
    pthread_mutex_lock(&a->mutex);
    a->content = c;
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
