/* SPDX-License-Identifier: Apache-2.0
 *
 * writer_thread.c - see writer_thread.h.
 */
#include "connectors/file/writer_thread.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

enum job { NONE, WRITE, END };

struct writer {
    pthread_mutex_t mutex;
    pthread_cond_t wake; /* signals a new job and the end of one */
    pthread_t thread;
    bool begun;
    /* NONE: idle. The fields below belong to the thread while there is a job, else to the owner */
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

static int do_write(const struct writer *w) {
    if (write_whole(w->fd, &w->bytes, w->offset) != 0)
        return errno;
    /* Errors are ignored: fdatasync() will report them. */
    (void)sync_file_range(w->fd, (off_t)w->offset, (off_t)w->bytes.len, SYNC_FILE_RANGE_WRITE);
    return 0;
}

static void *run(void *arg) {
    struct writer *w = arg;
    pthread_mutex_lock(&w->mutex);
    while (w->job != END) {
        if (w->job == NONE) {
            pthread_cond_wait(&w->wake, &w->mutex);
            continue;
        }
        pthread_mutex_unlock(&w->mutex);
        int error = do_write(w);
        pthread_mutex_lock(&w->mutex);
        w->error = error;
        w->job = NONE;
        pthread_cond_broadcast(&w->wake);
    }
    pthread_mutex_unlock(&w->mutex);
    return NULL;
}

struct writer *writer_new(void) {
    struct writer *w = calloc(1, sizeof *w);
    if (w == NULL)
        return NULL;
    pthread_mutex_init(&w->mutex, NULL);
    pthread_cond_init(&w->wake, NULL);
    return w;
}

int writer_wait(struct writer *w) {
    pthread_mutex_lock(&w->mutex);
    while (w->job != NONE)
        pthread_cond_wait(&w->wake, &w->mutex);
    errno = w->error;
    w->error = 0;
    pthread_mutex_unlock(&w->mutex);
    return errno == 0 ? 0 : -1;
}

static int submit(struct writer *w, enum job job) {
    if (!w->begun) { /* with all signals blocked: other threads handle them */
        sigset_t all, before;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        int error = pthread_create(&w->thread, NULL, run, w);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        if (error != 0) {
            errno = error;
            return -1;
        }
        w->begun = true;
    }
    pthread_mutex_lock(&w->mutex);
    w->job = job;
    pthread_cond_broadcast(&w->wake);
    pthread_mutex_unlock(&w->mutex);
    return 0;
}

int writer_write(struct writer *w, int fd, struct buffer *bytes, uint64_t offset) {
    if (writer_wait(w) != 0)
        return -1;
    struct buffer empty = w->bytes;
    empty.len = 0;
    w->bytes = *bytes;
    *bytes = empty;
    w->fd = fd;
    w->offset = offset;
    return submit(w, WRITE);
}

void writer_free(struct writer *w) {
    if (w == NULL)
        return;
    (void)writer_wait(w);
    if (w->begun && submit(w, END) == 0)
        pthread_join(w->thread, NULL);
    buffer_free(&w->bytes);
    pthread_cond_destroy(&w->wake);
    pthread_mutex_destroy(&w->mutex);
    free(w);
}
