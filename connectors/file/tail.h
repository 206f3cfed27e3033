/* SPDX-License-Identifier: Apache-2.0
 *
 * One file, followed line by line through rotation and truncation. For the sources `file` and
 * `dir`.
 *   tail.c            reading, comparing the window, lines too long, the end of a file
 *   tail_find.c       which file a position means, and which file comes after it
 *   tail_prefetch.c   reads ahead while the previous lines are appended
 *   content.c         the bytes of an open file
 *   split.h           what is a line, and a record, in a buffer
 *
 * POSITION (32 bytes, little-endian): [0] 1; [1] flags; [2..7] modification time of the file, in
 * units of 65,536 ns; [8..15] inode; [16..23] byte offset; [24..31] hash of the TAIL_WINDOW bytes
 * before the offset (of all, if there are fewer).
 *
 * WHICH FILE. A position means the file that has these bytes before that offset. The file with that
 * inode is tried first, then the path itself, then the rotated files beside it. So a position
 * survives renaming, copy-and-truncate, and restoring. Every read compares the same bytes again: a
 * file that was truncated or rewritten while it was followed is not read on at a meaningless
 * offset.
 */
#ifndef PAWL_CONNECTORS_TAIL_H
#define PAWL_CONNECTORS_TAIL_H

#include <sys/types.h>

#include "connectors/file/content.h"
#include "connectors/file/split.h"
#include "connectors/file/watch.h"
#include "connectors/runtime/connect.h"

#define TAIL_WINDOW 4096u
#define TAIL_DEAD_MAX 65536u /* bytes kept of a line that is too long */

/* ---- tail_prefetch.c: a thread that does one read at a time */

struct prefetch;
/* NULL: no memory. */
struct prefetch *prefetch_new(void);
void prefetch_submit(struct prefetch *a, struct content *c, void *buf, size_t size,
                     uint64_t offset);
/* Waits for the read. Returns the bytes read, or -1 with errno. */
ssize_t prefetch_wait(struct prefetch *a);
void prefetch_free(struct prefetch *a);

/* ---- tail.c */

enum { TAIL_LONG_POISON = 0, TAIL_LONG_CUT = 1 };
enum { TAIL_BEGINNING = 0, TAIL_OLDEST = 1, TAIL_END = 2 };
enum { TAIL_REPLACED_READ = 0, TAIL_REPLACED_STOP = 1 };
enum { TAIL_MIDDLE = 1, TAIL_UNTERMINATED = 2 }; /* flags of a position */

struct tail_settings {
    const char *path; /* copied */
    /* pattern of the rotated files' names, copied. NULL: the path's name, . or -, and a digit; "":
     * no rotated files */
    const char *rotated;
    bool follow, crlf, prefetch;
    int start, on_long, on_replaced;
    uint32_t rotate_wait_ms;
    uint64_t line_max;
};

struct chunk {
    uint8_t *buf;
    size_t cap;    /* usable bytes; 64 more are allocated */
    size_t asked;  /* bytes to read */
    size_t len;    /* bytes read */
    size_t window; /* of these, the bytes before `from` */
    uint64_t from; /* file offset of buf[window] */
};

struct tail_position {
    uint8_t flags;
    uint64_t mtime, inode, at, hash;
};

struct tail {
    struct tail_settings set;
    char *path, *directory, *rotated;
    const char *name; /* in path */
    pawl_source_context *context;
    struct watch watch;   /* of the directory, and of the file with watched_inode */
    bool watched, at_end; /* at_end: kept by the source, for tail_wait() */
    dev_t watched_device;
    ino_t watched_inode;
    uint64_t watched_ns; /* when the watch was set up */
    struct content file; /* closed: none */
    dev_t device;
    ino_t inode;
    uint64_t mtime;
    uint64_t at; /* offset of the next byte */
    /* where the file ended at the last read; UINT64_MAX: it hasn't been read to its end */
    uint64_t seen_size;
    uint8_t before[TAIL_WINDOW];
    uint32_t before_len;
    uint8_t flags;
    struct tail_position
        wanted; /* while the file is closed: what to look for when the path exists again */
    bool have_wanted;
    bool finished;             /* no more lines: not followed, and at its end */
    uint64_t gone_since_ns;    /* when the path was first seen elsewhere, with no new bytes since */
    struct chunk chunk[2];     /* [0]: current; [1]: being read ahead */
    const uint8_t *next, *end; /* in chunk[0]: whole lines not given yet */
    bool submitted;
    struct prefetch *prefetch;
    pawl_record *records;
    size_t record_max;
    pawl_header part;
    uint8_t *dead; /* first bytes of a line that is too long, while its end is searched for */
    size_t dead_len;
    uint64_t scan_at; /* offset up to which it was searched; 0: no search */
    char why[256];
    pthread_mutex_t mutex; /* guards what status() shows */
    char shown[200];
};

/* NULL: no memory. */
struct tail *tail_new(const struct tail_settings *s);
void tail_free(struct tail *t);
/* Finds the file of a committed position and goes there (len 0: no position yet). */
int tail_open(struct tail *t, pawl_source_context *x, const uint8_t *position, int len,
              pawl_fault *f);
/* Gives lines and the position after them, without waiting. DONE with out->item NULL: none now.
 * `item` stays the caller's. ENDED: not followed, and at its end. */
int tail_read(struct tail *t, const char *item, pawl_source_batch *out, size_t max_records,
              size_t max_bytes, pawl_fault *f);
void tail_status(struct tail *t, char *text, size_t size);

/* ---- tail_wait.c */

/* How often files are read that can't be watched or that change all the time. */
#define TAIL_LOOK_MS 20
/* Called after a tail_read() that gave nothing. Waits at most `ms` until there may be more to
 * read. */
void tail_wait(struct tail *t, int ms);

/* ---- shared by tail.c and tail_find.c */

uint64_t tail_hash(const uint8_t *bytes, size_t n);
/* Finds the file of a position and enters it. DONE with the file closed: the path doesn't exist
 * (yet). */
int tail_find(struct tail *t, const struct tail_position *p, pawl_fault *f);
/* Enters the file after this one, at its beginning. DONE with the file unchanged: there is none. */
int tail_successor(struct tail *t, pawl_fault *f);
/* Makes `file`, at offset `at`, the file that is read, and reads the window before it. Takes
 * ownership of the open file. */
int tail_enter(struct tail *t, struct content file, uint64_t at, uint8_t flags, pawl_fault *f);
void tail_leave(struct tail *t);
uint64_t tail_mtime(const struct timespec *t);

#endif
