/* SPDX-License-Identifier: Apache-2.0
 *
 * One file, followed line by line through rotation and truncation. For the sources `file` and
 * `dir`.
 *   tail.c         reading, the window that is compared, lines too long, the end of a file
 *   tail_find.c    which file a position means, and which comes after it
 *   tail_prefetch.c   one read under way while the lines of the one before are appended
 *   lines.c        lines of a buffer
 *
 * POSITION (32 bytes, little-endian): [0] 1; [1] flags; [2..7] modification time of the file, in
 * units of 65,536 ns; [8..15] inode; [16..23] byte offset; [24..31] hash of the TAIL_WINDOW bytes
 * before the offset (of all, if there are fewer).
 *
 * WHICH FILE. A position means the file that has these bytes before that offset: the one of that
 * inode if they are there, else the path itself, else one of the rotated files beside it, so
 * renaming, copying and truncating, and restoring are all seen through. The same bytes are compared
 * by every read, so a file that was truncated or rewritten while it was followed isn't read on at
 * an offset that means nothing.
 */
#ifndef PAWL_CONNECTORS_TAIL_H
#define PAWL_CONNECTORS_TAIL_H

#include <sys/types.h>

#include "connectors/file/watch.h"
#include "connectors/runtime/connect.h"

#define TAIL_WINDOW 4096u
#define TAIL_DEAD_MAX 65536u /* what is kept of a line that is too long */

/* ---- lines.c */

/* Finds lines (ended by \n) in [from, end), at most max; stops before one longer than line_max.
 * `end` comes after a \n, and 64 more bytes may be read there. Sets value and value_len (without
 * \n, with crlf without \r\n) of the records, and their timestamp. *next: where it stopped. */
size_t lines_split(const uint8_t *from, const uint8_t *end, pawl_record *records, size_t max,
                   size_t line_max, bool crlf, int64_t timestamp_ns, const uint8_t **next);

/* ---- tail_prefetch.c: a thread that does one read at a time */

struct prefetch;
/* NULL: no memory. */
struct prefetch *prefetch_new(void);
void prefetch_submit(struct prefetch *a, int fd, void *buf, size_t size, uint64_t offset);
/* What became of it: bytes read, or -1 with errno. */
ssize_t prefetch_wait(struct prefetch *a);
void prefetch_free(struct prefetch *a);
/* Reads until size bytes are there or the file ends. */
ssize_t read_whole(int fd, void *buf, size_t size, uint64_t offset);

/* ---- tail.c */

enum { TAIL_LONG_POISON = 0, TAIL_LONG_CUT = 1 };
enum { TAIL_BEGINNING = 0, TAIL_OLDEST = 1, TAIL_END = 2 };
enum { TAIL_REPLACED_READ = 0, TAIL_REPLACED_STOP = 1 };
enum { TAIL_MIDDLE = 1, TAIL_UNTERMINATED = 2 }; /* flags of a position */

struct tail_settings {
    const char *path; /* copied */
    /* pattern of the rotated files' names; NULL: the path's name, . or -, and a digit; "": there
     * are none. Copied */
    const char *rotated;
    bool follow, crlf, prefetch;
    int start, on_long, on_replaced;
    uint32_t rotate_wait_ms;
    uint64_t line_max;
};

struct chunk {
    uint8_t *buf;
    size_t cap;    /* 64 bytes less than there are */
    size_t asked;  /* bytes to read */
    size_t len;    /* bytes read */
    size_t window; /* of them, those before `at` as it was when it was read */
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
    struct watch watch;   /* of the directory, and the file that was read then */
    bool watched, at_end; /* at_end: the owner's, for tail_wait() */
    dev_t watched_device;
    ino_t watched_inode;
    uint64_t watched_ns; /* when it was set up */
    int fd;              /* -1: none */
    dev_t device;
    ino_t inode;
    uint64_t mtime;
    uint64_t at; /* offset of the next byte */
    /* where the file ended when it was read last; UINT64_MAX: it hasn't been read to its end */
    uint64_t seen_size;
    uint8_t before[TAIL_WINDOW];
    uint32_t before_len;
    uint8_t flags;
    struct tail_position wanted; /* fd -1: what to look for when the path is there again */
    bool have_wanted;
    bool finished;             /* nothing more: not followed, and at its end */
    uint64_t gone_since_ns;    /* the path leads elsewhere, and nothing came since */
    struct chunk chunk[2];     /* [0]: at hand; [1]: being read */
    const uint8_t *next, *end; /* in chunk[0]: whole lines not given yet */
    bool submitted;
    struct prefetch *prefetch;
    pawl_record *records;
    size_t record_max;
    pawl_header part;
    uint8_t *dead; /* first bytes of a line that is too long and whose end isn't found yet */
    size_t dead_len;
    uint64_t scan_at; /* so far it was looked for; 0: not looking */
    char why[256];
    pthread_mutex_t mutex; /* guards what status() shows */
    char shown[200];
};

/* NULL: no memory. */
struct tail *tail_new(const struct tail_settings *s);
void tail_free(struct tail *t);
/* Goes to a committed position (len 0: none yet). */
int tail_open(struct tail *t, pawl_source_context *x, const uint8_t *position, int len,
              pawl_fault *f);
/* Lines and the position after them, without waiting. DONE with out->item NULL: none now. The item
 * is the caller's. ENDED: not followed, and at its end. */
int tail_read(struct tail *t, const char *item, pawl_source_batch *out, size_t max_records,
              size_t max_bytes, pawl_fault *f);
void tail_status(struct tail *t, char *text, size_t size);

/* ---- tail_wait.c */

/* Where nothing tells of changes, or they come one after the other, files are looked at this
 * often. */
#define TAIL_LOOK_MS 20
/* After a tail_read() that found nothing: waits until it may find something, at most ms. */
void tail_wait(struct tail *t, int ms);

/* ---- between tail.c and tail_find.c */

uint64_t tail_hash(const uint8_t *bytes, size_t n);
/* Finds the file of a position and goes there. DONE with fd -1: the path isn't there (yet). */
int tail_find(struct tail *t, const struct tail_position *p, pawl_fault *f);
/* The file after this one, from its beginning. */
int tail_successor(struct tail *t, pawl_fault *f);
/* Makes fd the file that is read, at `at`, with the window before it. Takes fd. */
int tail_enter(struct tail *t, int fd, uint64_t at, uint8_t flags, pawl_fault *f);
void tail_leave(struct tail *t);
uint64_t tail_mtime(const struct timespec *t);

#endif
