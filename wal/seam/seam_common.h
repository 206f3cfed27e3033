/* SPDX-License-Identifier: Apache-2.0
 *
 * seam_common.h - the code that the production backends of seam.h share: everything except
 * asynchronous requests. Private to seam_*.c.
 */
#ifndef PAWL_WAL_SEAM_COMMON_H
#define PAWL_WAL_SEAM_COMMON_H

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

#include "wal/seam/seam.h"

/* Every function that can be called from outside begins with this: the library never changes
 * errno. */
#define KEEP_ERRNO int kept_errno_ __attribute__((unused, cleanup(common_restore_errno))) = errno
static inline void common_restore_errno(const int *kept) {
    errno = *kept;
}

/* the lock's slot in a backend's table of descriptors, after the files */
#define SLOT_LOCK SEAM_FILES_MAX
#define SLOTS (SEAM_FILES_MAX + 1)

#define FD_FREE (-1)
#define FD_TAKEN (-2) /* being opened */

struct common {
    struct seam seam; /* first: a `struct seam *` is a `struct common *` */
    int dir;          /* constant */
    int direct;       /* enum pawl_direct, constant */
    /* Backend's hook: `slot` now refers to descriptor `fd`, or to none if fd is -1. May be NULL;
     * constant. The thread that opens or closes calls it; several threads may call it at once, for
     * different slots. */
    void (*slot)(struct common *c, int slot, int fd);

    pthread_mutex_t mutex; /* guards the choice of a free slot in fd[] */
    /* Descriptor of each handle, FD_FREE or FD_TAKEN. Read without the mutex: a handle is only used
     * between its open() and its close(). file_direct[] is written before fd[] is. */
    _Atomic int fd[SEAM_FILES_MAX];
    bool file_direct[SEAM_FILES_MAX];
    int lock_fd; /* -1: not held. The caller's lock() and unlock() never run at once. */
};

/* The results of seam_create()'s probes, for a backend's constructor. The backend owns `dir` once
 * the constructor has succeeded. */
struct start {
    int dir;
    int direct_option;
    bool direct;
};

/* Constructors. On failure they return -errno, and `why` names the call that failed. */
PAWL_CHECKED int posix_create(const struct start *st, struct common **out);
PAWL_CHECKED int uring_create(const struct start *st, struct common **out, const char **why);

/* Nanoseconds since 1970, within 0 and INT64_MAX. */
static inline uint64_t common_time_ns(int64_t s, int64_t part) {
    int64_t ns;
    if (s < 0)
        return 0;
    return __builtin_mul_overflow(s, INT64_C(1000000000), &ns) ||
                   __builtin_add_overflow(ns, part, &ns)
               ? (uint64_t)INT64_MAX
               : (uint64_t)ns;
}
PAWL_CHECKED int common_init(struct common *c, const struct start *st);
void common_end(struct common *c); /* releases the lock, closes every descriptor */

/* Moves a descriptor above 2, so that a stray write to a closed stderr can never reach the log.
 * Takes ownership of fd; -errno. */
PAWL_CHECKED int common_fd_high(int fd);
/* Opens the directory that the first `len` bytes of the path name; 0: the working directory.
 * O_PATH. A symbolic link on the way is followed only if root or our own user made it. -errno. */
PAWL_CHECKED int common_parent(const char *path, size_t len);
/* Opens a regular file of the directory, buffered; refuses any other kind of file. -errno. */
PAWL_CHECKED int common_open_regular(int dir, const char *name, int flags);
PAWL_CHECKED int common_fd(struct common *c, int file); /* -EBADF if it isn't open */

PAWL_CHECKED int common_list(struct seam *s, int (*fn)(void *arg, const char *name), void *arg);
PAWL_CHECKED int common_open(struct seam *s, const char *name, uint32_t flags);
void common_close(struct seam *s, int file);
PAWL_CHECKED int common_size(struct seam *s, int file, uint64_t *size);
PAWL_CHECKED int common_names(struct seam *s, int file);
PAWL_CHECKED int common_place(struct seam *s, int file, struct seam_place *out);
PAWL_CHECKED int common_allocate(struct seam *s, int file, uint64_t size);
PAWL_CHECKED int common_written(struct seam *s, int file, uint64_t *bytes);
/* In an open directory; -EEXIST if `to` is there. */
PAWL_CHECKED int common_rename_in(int dir, const char *from, const char *to);
PAWL_CHECKED int common_sync_fd(int fd); /* of a directory */
PAWL_CHECKED int common_rename(struct seam *s, const char *from, const char *to);
PAWL_CHECKED int common_replace(struct seam *s, const char *from, const char *to);
PAWL_CHECKED int common_unlink(struct seam *s, const char *name);
PAWL_CHECKED int common_link(struct seam *s, const char *name, struct seam *to);
PAWL_CHECKED int common_sync_dir(struct seam *s);
PAWL_CHECKED int64_t common_read(struct seam *s, int file, void *data, size_t len, uint64_t offset);
PAWL_CHECKED int64_t common_write(struct seam *s, int file, const void *data, size_t len,
                                  uint64_t offset);
PAWL_CHECKED int common_sync(struct seam *s, int file);
void common_drop_cache(struct seam *s, int file);
PAWL_CHECKED int common_lock(struct seam *s, uint64_t wait_ns, int *pid);
void common_unlock(struct seam *s);
PAWL_CHECKED int common_holder(struct seam *s);
uint64_t common_now(struct seam *s);
uint64_t common_realtime(struct seam *s);
void common_clocks(struct seam *s, struct seam_clock *out);
void common_sleep(struct seam *s, uint64_t ns);
PAWL_CHECKED int common_random(struct seam *s, void *data, size_t len);
PAWL_CHECKED int common_free_space(struct seam *s, uint64_t *bytes);

#define COMMON_OPS \
    .list = common_list, .open = common_open, .close = common_close, .size = common_size, \
    .names = common_names, .place = common_place, .allocate = common_allocate, \
    .written = common_written, .rename = common_rename, .link = common_link, \
    .replace = common_replace, .unlink = common_unlink, .sync_dir = common_sync_dir, \
    .read = common_read, .write = common_write, .sync = common_sync, \
    .drop_cache = common_drop_cache, .lock = common_lock, .unlock = common_unlock, \
    .holder = common_holder, .now = common_now, .realtime = common_realtime, \
    .clocks = common_clocks, .sleep = common_sleep, .random = common_random, \
    .free_space = common_free_space

/* First in, first out, linked through the requests themselves. Zeroed is empty. */
struct req_queue {
    struct seam_req *head, *last;
};

static inline void queue_put(struct req_queue *q, struct seam_req *r) {
    r->next = NULL;
    if (q->head == NULL)
        q->head = r;
    else
        q->last->next = r;
    q->last = r;
}

static inline struct seam_req *queue_take(struct req_queue *q) {
    struct seam_req *r = q->head;
    if (r != NULL) {
        q->head = r->next;
        r->next = NULL;
    }
    return r;
}

#endif
