/* SPDX-License-Identifier: Apache-2.0
 *
 * seam.h - the one way out: files, syncs, time and random bytes (PAWL-12).
 *
 * Everything above this interface is a deterministic state machine; nothing above it makes a system
 * call. Backends are equals: seam_uring.c, seam_posix.c, and the simulator in tests/. May be
 * included by everyone; includes nothing.
 *
 * Synchronous calls may be made by any thread. Asynchronous requests are put in with submit() under
 * the caller's lock (never two threads at once), and taken out with reap() by one thread at a time,
 * which may run while another thread submits. A backend reports what the kernel said, raw: short
 * counts, -EAGAIN, -EINTR, -ECANCELED reach the caller, who completes the bytes and issues a fresh
 * sync (group.c); no backend retries. All functions return -errno on failure.
 */
#ifndef PAWL_WAL_SEAM_H
#define PAWL_WAL_SEAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pawl.h"

#define SEAM_BLOCK \
    4096u /* alignment of every buffer, offset and length of asynchronous requests, and of read() */

enum seam_op { SEAM_WRITE = 1, SEAM_READ = 2, SEAM_SYNC = 3 };
enum seam_req_flags {
    /* WRITE: durable when complete (RWF_DSYNC); -EOPNOTSUPP if the backend can't */
    SEAM_DSYNC = 1,
    /* must not delay requests without this flag (preparation of the next segment) */
    SEAM_BACKGROUND = 2,
};

/* One asynchronous request. Owned by the caller, who leaves it and its buffer alone from submit()
 * until reap() hands it back. */
struct seam_req {
    enum seam_op op;
    uint32_t flags;
    int file;
    int32_t buffer; /* index of the registered buffer that `data` lies in, or -1 */
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

struct seam;
struct seam_reads;

struct seam_ops {
    /* Calls fn with every name in the directory but . and ..; stops at non-zero and returns
     * that. */
    int (*list)(struct seam *s, int (*fn)(void *arg, const char *name), void *arg) PAWL_CHECKED;
    /* Opens a regular file (no symbolic link followed, CLOEXEC, mode 0600, descriptor never 0 to
     * 2); returns a small handle >= 0 for use below. Handles may be used as indexes: less than
     * SEAM_FILES_MAX. */
    int (*open)(struct seam *s, const char *name, uint32_t flags) PAWL_CHECKED;
    void (*close)(struct seam *s, int file);
    int (*size)(struct seam *s, int file, uint64_t *size) PAWL_CHECKED;
    /* how many names the file has (hard links); may be NULL: one */
    int (*names)(struct seam *s, int file);
    /* Makes the file `size` bytes long with its space reserved where the file system can
     * (fallocate; -ENOSPC is told, "not supported" falls back to ftruncate). */
    int (*allocate)(struct seam *s, int file, uint64_t size) PAWL_CHECKED;
    int (*rename)(struct seam *s, const char *from, const char *to) PAWL_CHECKED;
    int (*unlink)(struct seam *s, const char *name) PAWL_CHECKED;
    int (*sync_dir)(struct seam *s) PAWL_CHECKED;

    /* Blocking, for recovery and maintenance. Both do the whole length or fail, but read stops
     * early at the end of the file and returns the bytes read (up to 2 GiB). Data, offset and
     * length are block-aligned, unless the file was opened SEAM_BUFFERED. */
    int64_t (*read)(struct seam *s, int file, void *data, size_t len, uint64_t offset) PAWL_CHECKED;
    int64_t (*write)(struct seam *s, int file, const void *data, size_t len,
                     uint64_t offset) PAWL_CHECKED;
    int (*sync)(struct seam *s, int file) PAWL_CHECKED;
    /* Lets go of what the system keeps of the file in memory, so that reads show what the medium
     * holds: after a sync that failed in an earlier life, the two may differ. Best effort. */
    void (*drop_cache)(struct seam *s, int file);

    /* Asynchronous. submit() queues; kick() hands what is queued to the kernel without waiting for
     * it; reap() takes out finished requests, at most max: with wait it blocks until there is at
     * least one, and returns how many; 0 if nothing is under way. */
    void (*submit)(struct seam *s, struct seam_req *r);
    int (*kick)(struct seam *s);
    int (*reap)(struct seam *s, struct seam_req **out, int max, bool wait);
    /* Tells the backend the buffers that requests will use most (registration is an optimisation:
     * refusal is not an error). */
    void (*buffers)(struct seam *s, void *const *data, size_t each, int count);

    /* Reading ahead: a queue of reads of its own, apart from submit() and reap(), for one thread at
     * a time. reads_open() may be NULL, and may answer NULL: then there is none, and read() does.
     * All its reads land in `memory`. reads_put() hands at most `depth` requests at once to the
     * kernel; reads_take() waits for one to finish, NULL if none is under way; reads_close() waits
     * for all. */
    struct seam_reads *(*reads_open)(struct seam *s, unsigned depth, void *memory, size_t size);
    void (*reads_put)(struct seam_reads *q, struct seam_req *r);
    struct seam_req *(*reads_take)(struct seam_reads *q);
    void (*reads_close)(struct seam_reads *q);

    /* The writer's lock: a file `lock` with the pid in it, tried until wait_ns is over;
     * -EWOULDBLOCK with *pid of the holder (0 unknown). It is held until unlock() or the end of the
     * process, and beyond it while the kernel still has I/O of this process in flight. */
    int (*lock)(struct seam *s, uint64_t wait_ns, int *pid) PAWL_CHECKED;
    void (*unlock)(struct seam *s);
    /* Pid of a live writer, 0 if there is none; never takes the lock. */
    int (*holder)(struct seam *s);

    uint64_t (*now)(struct seam *s);      /* monotonic nanoseconds */
    uint64_t (*realtime)(struct seam *s); /* nanoseconds since 1970-01-01 UTC */
    void (*sleep)(struct seam *s, uint64_t ns);
    int (*random)(struct seam *s, void *data, size_t len) PAWL_CHECKED;
    int (*free_space)(struct seam *s, uint64_t *bytes);
    void (*destroy)(struct seam *s); /* closes all; frees the seam */
};

#define SEAM_FILES_MAX 1024

/* Head of every backend's own struct. Constant after creation. */
struct seam {
    const struct seam_ops *ops;
    int backend;    /* enum pawl_backend */
    bool direct;    /* O_DIRECT in use */
    char note[128]; /* why this backend */
};

/* Opens directory `dir` (with create: makes it, mode 0700, if it is not there; its parent is
 * synced). `backend` and `direct` as in pawl_options; a forced one that isn't available is
 * -EOPNOTSUPP; AUTO falls back and says so in note. -ENOTDIR, -ELOOP (a symbolic link), -ENOENT,
 * -EACCES as the system says. */
PAWL_CHECKED int seam_create(const char *dir, bool create, int backend, int direct,
                             struct seam **out);

#endif
