/* SPDX-License-Identifier: Apache-2.0
 *
 * behind.c - see behind.h.
 */
#include "connectors/file/behind.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

enum job { NONE, WRITE, SYNC, END };

struct behind {
    pthread_mutex_t mutex;
    pthread_cond_t wake; /* both ways */
    pthread_t thread;
    bool begun;
    /* NONE: idle. All that follows is the thread's while there is a job, else the owner's */
    enum job job;
    int fd;
    struct buffer bytes;
    uint64_t offset;
    int error; /* errno of the last job */
};

int write_whole(int fd, const struct buffer *bytes, uint64_t offset) {
    for (size_t done = 0; done < bytes->len;) {
        ssize_t put = pwrite(fd, bytes->bytes + done, bytes->len - done, (off_t)(offset + done));
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0) {
            errno = put == 0 ? ENOSPC : errno;
            return -1;
        }
        done += (size_t)put;
    }
    return 0;
}

static int do_write(const struct behind *b) {
    if (write_whole(b->fd, &b->bytes, b->offset) != 0)
        return errno;
    /* Whether the device did it is for fdatasync() to say. */
    (void)sync_file_range(b->fd, (off_t)b->offset, (off_t)b->bytes.len, SYNC_FILE_RANGE_WRITE);
    return 0;
}

static void *run(void *arg) {
    struct behind *b = arg;
    pthread_mutex_lock(&b->mutex);
    while (b->job != END) {
        if (b->job == NONE) {
            pthread_cond_wait(&b->wake, &b->mutex);
            continue;
        }
        pthread_mutex_unlock(&b->mutex);
        int error = b->job == WRITE ? do_write(b) : fdatasync(b->fd) == 0 ? 0 : errno;
        pthread_mutex_lock(&b->mutex);
        b->error = error;
        b->job = NONE;
        pthread_cond_broadcast(&b->wake);
    }
    pthread_mutex_unlock(&b->mutex);
    return NULL;
}

struct behind *behind_new(void) {
    struct behind *b = calloc(1, sizeof *b);
    if (b == NULL)
        return NULL;
    pthread_mutex_init(&b->mutex, NULL);
    pthread_cond_init(&b->wake, NULL);
    return b;
}

int behind_wait(struct behind *b) {
    pthread_mutex_lock(&b->mutex);
    while (b->job != NONE)
        pthread_cond_wait(&b->wake, &b->mutex);
    errno = b->error;
    b->error = 0;
    pthread_mutex_unlock(&b->mutex);
    return errno == 0 ? 0 : -1;
}

static int submit(struct behind *b, enum job job) {
    if (!b->begun) { /* with all signals blocked: they are for others */
        sigset_t all, before;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        int error = pthread_create(&b->thread, NULL, run, b);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        if (error != 0) {
            errno = error;
            return -1;
        }
        b->begun = true;
    }
    pthread_mutex_lock(&b->mutex);
    b->job = job;
    pthread_cond_broadcast(&b->wake);
    pthread_mutex_unlock(&b->mutex);
    return 0;
}

int behind_write(struct behind *b, int fd, struct buffer *bytes, uint64_t offset) {
    if (behind_wait(b) != 0)
        return -1;
    struct buffer empty = b->bytes;
    empty.len = 0;
    b->bytes = *bytes;
    *bytes = empty;
    b->fd = fd;
    b->offset = offset;
    return submit(b, WRITE);
}

int behind_sync(struct behind *b, int fd) {
    if (behind_wait(b) != 0)
        return -1;
    b->fd = fd;
    return submit(b, SYNC);
}

void behind_free(struct behind *b) {
    if (b == NULL)
        return;
    (void)behind_wait(b);
    if (b->begun && submit(b, END) == 0)
        pthread_join(b->thread, NULL);
    buffer_free(&b->bytes);
    pthread_cond_destroy(&b->wake);
    pthread_mutex_destroy(&b->mutex);
    free(b);
}
