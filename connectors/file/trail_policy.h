/* SPDX-License-Identifier: Apache-2.0
 *
 * What a changed name, a changed file and an error mean: pure decisions over evidence that
 * trail*.c gathers. Each table is scanned from the top; the first case that fits counts. The test
 * trail_policy has a row for each label.
 *
 * A source owes one promise: as long as the bytes of a line exist under any name that belongs to
 * the source, the line comes once; where bytes are gone, a warning says which (PAWL-15).
 */
#ifndef PAWL_CONNECTORS_TRAIL_POLICY_H
#define PAWL_CONNECTORS_TRAIL_POLICY_H

#include <stdbool.h>
#include <stddef.h>

/* ---- a file that the source has a position in */

/* Where the file itself (device, inode, birth) is found now. */
enum seen_name {
    NAME_FOLLOWED, /* under a name that is followed: the path, or one that the glob matches */
    NAME_OTHER,    /* under another name beside it */
    NAME_NONE,     /* under no name */
    NAME_UNKNOWN,  /* the directory can't be looked at, or isn't there */
    NAME_ANY
};
/* The bytes before the position, in the file itself. */
enum seen_bytes {
    BYTES_SAME,
    BYTES_CHANGED,  /* it is shorter than the position, or has other bytes there */
    BYTES_EMPTYING, /* the same, but it may be a rewrite that is still under way */
    BYTES_UNREAD,   /* it can't be opened or read now */
    BYTES_NONE,     /* no name leads to it, and it isn't held open */
    BYTES_ANY
};
/* Is there another file that has the bytes before the position? YES: one that is new to the
 * source. */
enum seen_copy {
    COPY_NO,
    COPY_YES,
    COPY_READ, /* a file that is read has them, and was read further */
    COPY_ANY
};
/* Was it read to its end, and is the time over that a writer is waited for? */
enum seen_end { END_AHEAD, END_REACHED, END_WAITED, END_ANY };

struct file_evidence {
    enum seen_name name;
    enum seen_bytes bytes;
    enum seen_copy copy;
    enum seen_end end;
};

enum file_action {
    FILE_READ,    /* it is followed */
    FILE_LINGER,  /* it is read as well, until it has been at its end for rotate_wait */
    FILE_LET_GO,  /* no more is expected: the position is marked as finished */
    FILE_TO_COPY, /* the position moves into the copy */
    FILE_ANEW,    /* the same file is read from its start */
    FILE_AGAIN,   /* bytes are gone: a warning; the same file is read from its start */
    FILE_LOST, /* bytes may be gone: a warning; the position is kept, as the file may come back */
    FILE_WAIT  /* nothing is concluded */
};

struct file_case {
    const char *label;
    struct file_evidence when;
    enum file_action action;
    const char *why;
};

const struct file_case *file_table(size_t *count);
const struct file_case *file_decide(const struct file_evidence *e);

/* ---- a file that is new to the source */

enum new_name {
    NEW_FOLLOWED, /* the path, or a name that the glob matches */
    NEW_NEWER,    /* a rotated file, written after those that were read */
    NEW_OLDER,    /* a rotated file, written before them */
    NEW_OTHER,    /* a name that doesn't belong to the source */
    NEW_ANY
};
/* Its beginning, compared with the files that are read. */
enum twin {
    TWIN_NONE,    /* it begins otherwise than all of them */
    TWIN_WHOLE,   /* it has all bytes before the position of one */
    TWIN_PART,    /* it begins with the same bytes, at least half of those before the position */
    TWIN_LITTLE,  /* it begins with the same bytes, fewer than half */
    TWIN_GROWING, /* all that it has is the beginning of one */
    TWIN_EMPTY,   /* it has nothing yet, and may become a copy of one */
    TWIN_ANY
};
/* The file that it is compared with. */
enum twin_name {
    TWIN_GONE,     /* has no name any more */
    TWIN_ASIDE,    /* has another name now, and the bytes that were read prove something */
    TWIN_RENAMED,  /* has another name now, and too few bytes were read to prove anything */
    TWIN_KEPT,     /* has its name, and the new one is called after it */
    TWIN_IN_PLACE, /* has its name, and the new one has another */
    TWIN_COPIED,   /* is called as a rotated file, and was made from the new one */
    TWIN_NAME_ANY
};
/* Has it kept its size for a while? */
enum settled { SETTLED_NO, SETTLED_YES, SETTLED_ANY };

struct new_evidence {
    enum new_name name;
    enum twin twin;
    enum twin_name of;
    enum settled settled;
};

enum new_action {
    NEW_BEGIN,       /* a file of its own, read from its start */
    NEW_BEGIN_AGAIN, /* the same, with a warning: lines may come twice */
    NEW_COPY,        /* continues the other one at its position */
    NEW_SHARE,       /* read from where it differs */
    NEW_HOLD,        /* looked at again; newer ones of its group wait */
    NEW_LEAVE,       /* looked at again; newer ones don't wait */
    NEW_SKIP         /* not read */
};

struct new_case {
    const char *label;
    struct new_evidence when;
    enum new_action action;
    const char *why;
};

const struct new_case *new_table(size_t *count);
const struct new_case *new_decide(const struct new_evidence *e);

/* ---- an error of a system call on a followed file or directory */

enum error_kind {
    ERROR_ABSENT,  /* the name isn't there: as the directory says, or a part of the path */
    ERROR_PASSES,  /* time can mend it: tried again, said once */
    ERROR_HANDLES, /* too many open files: some are closed, then as PASSES */
    ERROR_RACE     /* the name meant another file a moment ago: look again at once */
};
/* Every error is one of these: none of them ends the source (PAWL-16). */
enum error_kind error_kind_of(int error);

#endif
