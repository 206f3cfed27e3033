/* SPDX-License-Identifier: Apache-2.0
 *
 * savepoint.h - a log's files as they are at one LSN, in another directory.
 *
 * savepoint.c        which files these are, and whether what was made says the same as the source
 * savepoint_dir.c    the directory: claimed, filled, named; what an unfinished one leaves
 * savepoint_file.c   one file: a link or a copy
 * savepoint_text.c   the file that says what a savepoint has
 */
#ifndef PAWL_PIPELINE_SAVEPOINT_H
#define PAWL_PIPELINE_SAVEPOINT_H

#include "pawl_state.h"
#include "wal/mem.h"
#include "wal/seam/seam_dirs.h"

/* The directory has this name until it is whole, and this file until it has its own. */
#define SAVE_SUFFIX ".unfinished"
#define SAVE_MAKING "making"
#define SAVE_TEXT "savepoint"

enum save_as {
    SAVE_POINT,    /* nobody writes to it */
    SAVE_RESTORED, /* the same log, which goes on */
    SAVE_FORK      /* a log of its own */
};

struct save_file {
    char name[24];
    uint64_t length;
    uint64_t upto; /* bytes of the source, less than `length` if zeros follow */
    bool segment;  /* it may be written over once it has lost its name */
    bool may_link;
    bool own_header; /* it gets the fork's identity */
    bool wanted, linked;
};

struct save {
    struct seam *io; /* of the source */
    struct mem *mem;
    pawl_savepoint_info *info;
    enum save_as as;
    uint8_t id[16];     /* what the log goes by that is made */
    uint64_t saved_lsn; /* of the savepoint that it is made from */
    struct seam_above *above;
    const char *name;        /* in `above`; owned by it */
    char *unfinished, *path; /* the name until it is whole, and the path with it */
    size_t name_size, path_size;
    struct seam *to;
    int claim;
    bool made;               /* there is something to take back */
    struct save_file *files; /* that are in the directory, whole */
    uint32_t count, cap;
};

/* -- savepoint_dir.c */
/* Makes the directory. s->io, mem and info are set. Errors: EXISTS, INVALID, NOT_FOUND, BUSY, and
 * those of the system. After an error too: save_end(). */
PAWL_CHECKED int save_begin(struct save *s, const char *to);
/* Everything in it is durable, or this is an error. */
PAWL_CHECKED int save_sync(struct save *s);
/* Gives it its name, durably. */
PAWL_CHECKED int save_name(struct save *s);
/* Takes back what hasn't got its name, and frees everything. The thread's last error stays. */
void save_end(struct save *s);

/* -- savepoint_file.c */
/* A file of the source. 0: it is in the directory. 1: the source has it no more. */
PAWL_CHECKED int save_take(struct save *s, const struct save_file *want);
/* Removes the files that weren't taken since save_again(). */
PAWL_CHECKED int save_drop(struct save *s);
void save_again(struct save *s); /* none is wanted yet */

/* -- savepoint_text.c */
/* Writes it, for the files that are in the directory, and syncs it. */
PAWL_CHECKED int save_text_write(struct save *s, const uint8_t id[16], uint64_t lsn);
/* Is what it says there? Errors: NOT_FOUND (no savepoint), VERSION, DAMAGED. */
PAWL_CHECKED int save_text_check(struct seam *io, struct mem *m, uint64_t *lsn);
/* Is the directory a savepoint? 1, or 0. */
PAWL_CHECKED int save_text_there(struct seam *io);

/* -- open.c */
/* For a writer. PAWL_READ_ONLY: the directory is a savepoint. */
PAWL_CHECKED int open_no_savepoint(struct seam *io);

#endif
