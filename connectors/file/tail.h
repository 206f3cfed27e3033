/* SPDX-License-Identifier: Apache-2.0
 *
 * Reads one open file line by line. Which file that is, and what a changed name means, is decided
 * elsewhere (trail.h).
 *   tail.c            reading, comparing the window, lines too long, the end of a file
 *   tail_prefetch.c   reads ahead while the previous lines are appended
 *   content.c         the bytes of an open file
 *   split.h           what is a line, and a record, in a buffer
 *
 * POSITION (32 bytes, little-endian): [0] version 2; [1] flags; [2..7] modification time of the
 * file when it was read, in units of 65,536 ns; [8..15] identity: 40 bits of the inode, 24 bits of
 * a hash of the time when the file was born (0: the file system doesn't say); [16..23] byte offset;
 * [24..31] hash of the TAIL_WINDOW bytes before the offset (of all, if there are fewer). Version 1
 * has the whole inode and no birth.
 *
 * Every read compares the bytes before the offset again: a file that was truncated or rewritten
 * while it was followed is not read on at a meaningless offset.
 */
#ifndef PAWL_CONNECTORS_TAIL_H
#define PAWL_CONNECTORS_TAIL_H

#include <sys/types.h>

#include "connectors/file/content.h"
#include "connectors/file/split.h"
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
/* Flags of a position. MIDDLE: of a line that is cut. UNTERMINATED: the last line was given without
 * its newline. FINISHED: the file was read to its end and let go. REST: what a file has that its
 * copy, which is read instead, has not. */
enum { TAIL_MIDDLE = 1, TAIL_UNTERMINATED = 2, TAIL_FINISHED = 4, TAIL_REST = 8 };
#define TAIL_FLAGS 0x0fu /* the other bits mark the source (trail.c) */

struct tail_settings {
    struct split *split; /* the tail owns it */
    bool prefetch;
    int on_long;
};

struct chunk {
    uint8_t *buf;
    size_t cap;    /* usable bytes; SPLIT_SPARE more are allocated, and a line end */
    size_t asked;  /* bytes to read */
    size_t len;    /* bytes read */
    size_t window; /* of these, the bytes before `from` */
    uint64_t from; /* file offset of buf[window] */
};

struct tail_position {
    uint8_t flags;
    uint64_t mtime, ident, at, hash;
};

#define PASSED_MAX 8u
struct tail_passed {
    uint64_t from, to;
    const char *why; /* static */
};

/* The file that is read, and how far. Its owner keeps it while it isn't entered. */
struct tail_file {
    struct content content;
    struct tail_position pos;
    const char *path; /* for messages */
    const char *item; /* of the batches */
    /* where the file ended at the last read; UINT64_MAX: it hasn't been read to its end */
    uint64_t seen_size, seen_mtime;
    bool final;       /* no more will be written: the rest is a line without its end */
    uint8_t encoding; /* SPLIT_AUTO: not known yet */
    uint64_t hole;    /* NULs before the position that were passed over and not reported yet */
    /* when a record at the end that isn't complete has waited long enough; 0: there is none */
    uint64_t wait_ns;
    uint64_t cut_ns; /* a compressed file ends in the middle, and may be written until then */
    bool told_end;   /* it was reported that a compressed file ends too early */
    /* what was passed over since the last batch; its owner clears it */
    struct tail_passed passed[PASSED_MAX];
    uint32_t passed_count;
};

struct tail {
    struct tail_settings set;
    pawl_source_context *context; /* for reports; set by its owner */
    struct tail_file *file;       /* NULL: none */
    uint8_t before[TAIL_WINDOW];
    uint32_t before_len;
    struct chunk chunk[2];     /* [0]: current; [1]: being read ahead */
    const uint8_t *next, *end; /* in chunk[0]: whole lines not given yet */
    bool submitted;
    struct prefetch *prefetch;
    pawl_record *records;
    uint64_t *marks; /* where each record began; room as for records */
    size_t record_max;
    uint64_t given_from; /* where the last batch began */
    int given_marks;     /* enum pawl_marks */
    pawl_header part;
    uint8_t *dead; /* first bytes of a line that is too long, while its end is searched for */
    size_t dead_len;
    uint64_t hole_bytes; /* NULs that were passed over, in all files; for the status */
    uint64_t scan_at;    /* offset up to which it was searched; 0: no search */
    bool last;           /* what isn't complete at t->end is given */
    bool open;           /* the bytes from the position on belong to a record that isn't complete */
    bool stuck;          /* and this is all that the buffer has */
    bool late;           /* such a record at the end of the file has waited long enough */
    bool ended;          /* the end is reached, and no more will be written */
    char why[256];
};

/* Takes over the split. NULL: no memory. */
struct tail *tail_new(const struct tail_settings *s);
void tail_free(struct tail *t);
/* Begins to read a file whose content is open, at its position. DONE; GONE: it no longer has the
 * bytes before the position; RETRY: it can't be read now, errno says why. */
int tail_enter(struct tail *t, struct tail_file *file, pawl_fault *f);
/* Forgets the file; its content stays open. Safe without one. */
void tail_leave(struct tail *t);
/* Gives lines of the file and the position after them. DONE with out->item NULL: it has no more
 * now; it may have at file->wait_ns. ENDED: the same, and it is final. GONE: the bytes before the
 * position have changed. RETRY: as tail_enter(). */
int tail_read(struct tail *t, pawl_source_batch *out, size_t max_records, size_t max_bytes,
              pawl_fault *f);
/* Only reads lines into memory, if none are there. As tail_read(); but a line longer than the
 * buffer is given. */
int tail_fill(struct tail *t, pawl_source_batch *out, size_t max_records, size_t max_bytes,
              pawl_fault *f);
/* Lines are in memory that weren't given yet. */
bool tail_has_lines(const struct tail *t);
/* Has the file still the lines that are in memory? -1 with errno: it can't be read. */
int tail_lines_match(struct tail *t);
/* Does the content have the bytes before the position? -1 with errno: it can't be read. */
int tail_matches(struct content *c, const struct tail_position *p);

uint64_t tail_hash(const uint8_t *bytes, size_t n);
uint64_t tail_mtime(const struct timespec *t);
void tail_encode(const struct tail_position *p, pawl_source_batch *out);
/* False: it isn't a position of this kind. */
bool tail_decode(const uint8_t *position, int len, struct tail_position *p);

#endif
