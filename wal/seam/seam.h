/* SPDX-License-Identifier: Apache-2.0
 *
 * seam.h - the one interface to the system: files, syncs, time and random bytes (PAWL-12).
 *
 * Everything above this interface is a deterministic state machine; nothing above it makes a system
 * call. The backends are equals: seam_uring.c, seam_posix.c, and the simulator in tests/. Every
 * folder may include this file; it includes only pawl.h.
 *
 * Any thread may make synchronous calls. Asynchronous requests are submitted with submit() under
 * the caller's lock (never by two threads at once), and completed with reap() by one thread at a
 * time; reap() may run while another thread submits. A backend reports the kernel's result
 * unchanged: short counts, -EAGAIN, -EINTR and -ECANCELED reach the caller, which writes the
 * missing bytes and submits a new sync (group.c); no backend retries. All functions return -errno
 * on failure.
 */
#ifndef PAWL_WAL_SEAM_H
#define PAWL_WAL_SEAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pawl.h"

/* A large local array that is written before it is read, in a function that every commit calls: the
 * compiler doesn't set it to zero first (cmake/harden.cmake). Only where the cost was measured. */
#if defined(__has_attribute)
#if __has_attribute(uninitialized)
#define UNSET __attribute__((uninitialized))
#endif
#endif
#ifndef UNSET
#define UNSET
#endif

#define SEAM_BLOCK \
    4096u /* alignment of every buffer, offset and length of asynchronous requests, and of read() */

enum seam_op { SEAM_WRITE = 1, SEAM_READ = 2, SEAM_SYNC = 3 };
enum seam_req_flags {
    /* WRITE: durable when complete (RWF_DSYNC); -EOPNOTSUPP if the backend can't */
    SEAM_DSYNC = 1,
    /* must not delay requests without this flag (preparation of the next segment) */
    SEAM_BACKGROUND = 2,
};

/* One asynchronous request. The caller owns it, and doesn't touch it or its buffer from submit()
 * until reap() returns it. */
struct seam_req {
    enum seam_op op;
    uint32_t flags;
    int file;
    int32_t buffer; /* index of the registered buffer that contains `data`, or -1 */
    void *data;
    uint32_t len;
    uint64_t offset;
    int64_t result;        /* bytes done, or -errno; set by reap() */
    void *owner;           /* the caller's */
    struct seam_req *next; /* the backend's while submitted */
};

enum seam_open_flags {
    SEAM_CREATE = 1, /* create, must not exist (O_EXCL) */
    SEAM_RDWR = 2,   /* else read-only */
    /* don't use O_DIRECT for this file even if the seam does (small odd-sized side files) */
    SEAM_BUFFERED = 4,
};

/* The clocks, read together. */
struct seam_clock {
    uint64_t wall_ns; /* since 1970-01-01 UTC; may be set at any time */
    uint64_t boot_ns; /* since the boot, suspended time included; can't be set */
    uint64_t boot_id; /* differs from boot to boot; 0: unknown */
    bool network;     /* the kernel says that the wall clock is kept by the network */
};

/* Which file it is, for as long as it exists: kept when it is renamed, or its directory is. A copy
 * is another file. */
struct seam_place {
    uint64_t inode;
    uint64_t born_ns; /* since 1970-01-01 UTC; 0: the file system doesn't say */
};

struct seam;
struct seam_reads;

struct seam_ops {
    /* Calls fn for every name in the directory except . and ..; stops at the first non-zero result
     * and returns it. */
    int (*list)(struct seam *s, int (*fn)(void *arg, const char *name), void *arg) PAWL_CHECKED;
    /* Opens a regular file (no symbolic link followed, CLOEXEC, mode 0600, descriptor never 0 to
     * 2); returns a small handle >= 0 for use below. Handles may be used as indexes: less than
     * SEAM_FILES_MAX. */
    int (*open)(struct seam *s, const char *name, uint32_t flags) PAWL_CHECKED;
    void (*close)(struct seam *s, int file);
    int (*size)(struct seam *s, int file, uint64_t *size) PAWL_CHECKED;
    /* number of hard links of the file; NULL in a backend where it is always one */
    int (*names)(struct seam *s, int file);
    /* Doesn't wait for the disk. NULL in a backend whose files have no such thing. */
    int (*place)(struct seam *s, int file, struct seam_place *out);
    /* Sets the file's length to `size` and reserves the space if the file system can (fallocate).
     * Returns -ENOSPC; falls back to ftruncate where fallocate is not supported: then 1, and
     * nothing is reserved. */
    int (*allocate)(struct seam *s, int file, uint64_t size) PAWL_CHECKED;
    /* *bytes: how much of the file, from its start, was written; the rest is a hole, or reserved
     * space. What the file system doesn't say counts as written. NULL in a backend where all is. */
    int (*written)(struct seam *s, int file, uint64_t *bytes) PAWL_CHECKED;
    /* -EEXIST if `to` is there: nothing is replaced. */
    int (*rename)(struct seam *s, const char *from, const char *to) PAWL_CHECKED;
    /* A second name, in another directory, for a file. -EEXIST, -EXDEV; -EMLINK, -EPERM and
     * -EOPNOTSUPP where the file system or the system refuses. NULL in a backend without links. */
    int (*link)(struct seam *s, const char *name, struct seam *to) PAWL_CHECKED;
    /* A rename that replaces `to`, in one step. NULL where `names` is. */
    int (*replace)(struct seam *s, const char *from, const char *to) PAWL_CHECKED;
    int (*unlink)(struct seam *s, const char *name) PAWL_CHECKED;
    int (*sync_dir)(struct seam *s) PAWL_CHECKED;

    /* Blocking, for recovery and maintenance. Both transfer the whole length or fail, except that
     * read stops at the end of the file; it returns the bytes read (up to 2 GiB). Data, offset and
     * length are block-aligned, unless the file was opened SEAM_BUFFERED. */
    int64_t (*read)(struct seam *s, int file, void *data, size_t len, uint64_t offset) PAWL_CHECKED;
    int64_t (*write)(struct seam *s, int file, const void *data, size_t len,
                     uint64_t offset) PAWL_CHECKED;
    int (*sync)(struct seam *s, int file) PAWL_CHECKED;
    /* Drops the file's pages from the page cache, so that reads return what the medium holds: the
     * two may differ after a failed sync of an earlier process. Best effort. */
    void (*drop_cache)(struct seam *s, int file);

    /* Asynchronous. submit() queues a request; kick() passes the queued requests to the kernel and
     * doesn't wait; reap() returns at most max completed requests and their number. With wait it
     * blocks until there is at least one; 0 if nothing is in flight. */
    void (*submit)(struct seam *s, struct seam_req *r);
    int (*kick)(struct seam *s);
    int (*reap)(struct seam *s, struct seam_req **out, int max, bool wait);
    /* Registers the buffers that most requests will use. Registration is an optimisation: if the
     * kernel refuses it, that is not an error. */
    void (*buffers)(struct seam *s, void *const *data, size_t each, int count);

    /* Read-ahead: a separate queue of reads, independent of submit() and reap(), used by one thread
     * at a time. reads_open() may be NULL or return NULL: then the caller uses read(). All reads of
     * the queue go into `memory`. reads_put() submits a read; at most `depth` are in flight.
     * reads_take() waits until one completes and returns it, or NULL if none is in flight;
     * reads_close() waits for all. */
    struct seam_reads *(*reads_open)(struct seam *s, unsigned depth, void *memory, size_t size);
    void (*reads_put)(struct seam_reads *q, struct seam_req *r);
    struct seam_req *(*reads_take)(struct seam_reads *q);
    void (*reads_close)(struct seam_reads *q);

    /* The writer's lock: a file `lock` that contains the pid. Retries for wait_ns; then
     * -EWOULDBLOCK, with the holder's pid in *pid (0: unknown). The lock is held until unlock() or
     * the end of the process, and after that while the kernel still has I/O of the process in
     * flight. */
    int (*lock)(struct seam *s, uint64_t wait_ns, int *pid) PAWL_CHECKED;
    void (*unlock)(struct seam *s);
    /* Pid of a live writer, 0 if there is none. Never takes the writer's lock. */
    int (*holder)(struct seam *s);

    uint64_t (*now)(struct seam *s);      /* monotonic nanoseconds */
    uint64_t (*realtime)(struct seam *s); /* nanoseconds since 1970-01-01 UTC */
    void (*clocks)(struct seam *s, struct seam_clock *out);
    void (*sleep)(struct seam *s, uint64_t ns);
    int (*random)(struct seam *s, void *data, size_t len) PAWL_CHECKED;
    int (*free_space)(struct seam *s, uint64_t *bytes);
    void (*destroy)(struct seam *s); /* closes all; frees the seam */
};

#define SEAM_FILES_MAX 1024

/* First member of every backend's struct. Constant after creation. */
struct seam {
    const struct seam_ops *ops;
    int backend;    /* enum pawl_backend */
    bool direct;    /* O_DIRECT in use */
    bool zeros;     /* a sync of what was written before costs less than of what wasn't */
    char note[128]; /* why this backend */
};

/* Which file it is. False: the backend or the system doesn't say. */
static inline bool seam_knows_place(struct seam *s, int file, struct seam_place *out) {
    return s->ops->place != NULL && s->ops->place(s, file, out) == 0;
}

/* Opens directory `dir`. With `create`, makes it (mode 0700) if it doesn't exist, and syncs its
 * parent. `backend` and `direct` are as in pawl_options: a forced one that isn't available is
 * -EOPNOTSUPP; AUTO falls back and writes the reason to `note`. Also -ENOTDIR, -ELOOP (a symbolic
 * link), -ENOENT, -EACCES from the system. */
PAWL_CHECKED int seam_create(const char *dir, bool create, int backend, int direct,
                             struct seam **out);

#endif
