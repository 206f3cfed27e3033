/* SPDX-License-Identifier: Apache-2.0
 *
 * The engine of the sources `file` and `dir`: follows files through rotation, replacement,
 * truncation and removal.
 *   trail_policy.c    what a change means: pure decisions
 *   survey.c          which files there are, in the order of their age
 *   trail.c           compares the survey with the files that are read, and acts
 *   trail_new.c       files that are new
 *   trail_twin.c      compares the bytes of two files
 *   trail_files.c     files and slots, in memory and in the log
 *   trail_read.c      which file is read next; waiting; errors that pass
 *   trail_name.c      what a batch was read from, for the audit
 *   tail.c            reads one of them line by line
 *
 * FILES AND SLOTS. A file is what has a device, an inode and a time of birth, and the bytes before
 * the position; names only lead to it. Each file that is read has a slot: an item of the source,
 * with a position that says which file it means. The slots are "", s1, s2, ... and are used again:
 * so producers in the log are as many as files were read at a time, not as many as there ever were.
 * Items that older versions named after files of a directory are slots as well.
 *
 * HOLDING. A file that is read is held open. So it can be read to its end after it was renamed or
 * removed, and its inode can't be used again. `dir` holds HELD_MAX files at most; the others are
 * opened when they change.
 *
 * ORDER. A file that took the name of another begins when the other one has been read to its end.
 * It waits for no more than that: the other one lingers beside it for rotate_wait.
 */
#ifndef PAWL_CONNECTORS_TRAIL_H
#define PAWL_CONNECTORS_TRAIL_H

#include <sys/stat.h>

#include "connectors/file/tail.h"
#include "connectors/file/trail_policy.h"
#include "connectors/file/watch.h"
#include "connectors/runtime/reach.h"

#define IDENT_INODE ((UINT64_C(1) << 40) - 1) /* bits of a position's identity */
#define HELD_MAX 100u
#define LINGER_MAX 64u /* files that linger, at most: more are let go early */
#define HEAD_BYTES 256u
#define SETTLED_NS UINT64_C(3000000000) /* a file that kept its size for that long is whole */
#define REWRITE_NS UINT64_C(1000000000) /* how long an emptied file may be one being rewritten */
/* A file that can't be read for that many attempts (about 3 s) no longer delays the next one. */
#define ERRORS_IN_ORDER 6
#define SURE_BYTES 32u /* this many equal bytes prove a copy even where the original has a name */

enum { START_BEGINNING = 0, START_OLDEST = 1, START_END = 2 };
enum { REPLACED_READ = 0, REPLACED_STOP = 1 };

struct trail_settings {
    const char *path;    /* the file; with `glob`, the directory */
    const char *glob;    /* NULL: one file is followed */
    const char *rotated; /* pattern; NULL: the name, . or -, and a digit; "": no rotated files */
    bool follow;
    bool packed; /* with `glob`: compressed files are read, too */
    int start, on_replaced;
    uint64_t rotate_wait_ms, scan_ms, files_max;
    enum reach_links links; /* whose are followed */
    struct tail_settings tail;
};

/* ---- survey.c */

enum entry_kind { ENTRY_LIVE, ENTRY_ROTATED, ENTRY_OTHER };

struct file;
struct entry {
    char *path;
    const char *name; /* in path */
    dev_t device;
    ino_t inode;
    uint64_t mtime, size;
    char *base;  /* the followed name that it belongs to; NULL: none */
    bool newest; /* its name is the base */
    long number; /* in its name; -1: none */
    enum entry_kind kind;
    enum reach_links links;
    bool packed;       /* compressed, as its name says */
    struct file *file; /* the file that is read and that it leads to; NULL: it is new */
};

struct survey {
    struct entry *entry; /* by group; in a group the oldest first */
    size_t count;
    int error;       /* errno of a directory or name that can't be looked at; 0: none */
    char where[512]; /* which */
    bool absent;     /* the directory isn't there */
    enum reach_links links;
    size_t refused; /* links that are not followed (connectors/runtime/reach.h), one of them: */
    char refused_path[512];
};

struct trail;
/* Lists all regular files beside the followed names, until two looks agree: a directory that is
 * read during a rotation may show one file under two names, or not at all. -1: no memory. */
int survey_take(struct trail *s, struct survey *out);
void survey_free(struct survey *l);
/* Does the name begin with the first `n` bytes of `base`, then . or -, and a digit? */
bool rotated_from(const char *name, const char *base, size_t n);

/* ---- trail.c */

enum place {
    PLACE_SOUGHT,   /* not found yet */
    PLACE_LIVE,     /* under a name that is followed */
    PLACE_ASIDE,    /* under another name */
    PLACE_NAMELESS, /* held open, and under no name that was found */
    PLACE_LOST      /* said to be gone; the position is kept, as the file may come back */
};

struct slot {
    char *item;
    bool ours; /* false: the item of another source, or of an older version's file */
    struct file *user;
};

struct file {
    enum reach_links links; /* to open it by its path */
    struct tail_file tail;  /* content, position, item */
    struct slot *slot;
    char *path;             /* the last name known */
    char *base;             /* the followed name that it belongs to; NULL: none */
    enum entry_kind called; /* the kind of that name */
    bool was_followed;      /* it has had a followed name since this source began to read it */
    bool known;             /* device, inode and birth are those of the file */
    dev_t device;
    ino_t inode;
    uint64_t birth;
    enum place place;
    struct entry *entry;  /* during a look: the name that leads to it */
    size_t rank;          /* in the survey's order; SIZE_MAX: not in it */
    uint64_t aside_ns;    /* when it was first seen without a followed name; 0: it has one */
    uint64_t size, mtime; /* at the last look */
    uint64_t since;       /* it is begun again: its position was made then; 0: all since was seen */
    uint64_t emptied_ns;  /* when it was first seen emptied; 0: it isn't */
    struct file *after;   /* begins when this one is at its end */
    bool old_item;        /* item of version 1, named after the file */
    bool committed;       /* the log has a position of it */
    bool changed;         /* the bytes before the position are others */
    bool dirty;           /* the position is to be committed without records */
    bool ended;           /* final, and at its end */
    bool awaited;         /* a copy of it is read from its end: it isn't let go before */
    bool over;            /* there are more files than the source may read */
    bool leaving;         /* is forgotten as soon as the position is given */
    int wd;               /* of inotify; -1: not watched */
    int error;            /* errno that passes; 0: none */
    uint32_t attempts;
    uint64_t retry_ns; /* not before then */
    /* What the log names: this file, up to there. `restarted`: since then it begins again;
     * gone_to: bytes up to there are lost; begun_at: where it was begun; skipped: why not at 0
     * (static) */
    bool named, named_rest, restarted;
    uint64_t named_ident, named_at, gone_to, begun_at;
    const char *skipped;
    uint8_t head[HEAD_BYTES]; /* its first bytes, as they were read */
    uint32_t head_len;
};

struct held { /* a new file that is looked at again, or passed over */
    dev_t device;
    ino_t inode;
    uint64_t birth;
    uint64_t size, since_ns;
    uint64_t shared; /* at most this much of it was read in a file that it looked like a copy of */
    bool passed;
    bool newer; /* a rotated one, newer than those that were read when it was first seen */
};

struct trail {
    struct trail_settings set;
    char *path, *glob, *rotated, *directory;
    const char *name; /* of the path */
    pawl_source_context *context;
    struct tail *tail;
    struct file **files; /* the oldest first */
    size_t count, turn;
    struct file *reading; /* the one that `tail` has entered; NULL: none */
    uint32_t batches;     /* in a row from it */
    struct slot **slots;
    size_t slot_count;
    struct held *held;
    size_t held_count;
    uint8_t mark;                /* flags that mark this source's positions */
    bool loaded, again;          /* again: look once more at once */
    bool begun;                  /* a file has been begun, or the log had positions */
    bool holds;                  /* a new file is held back */
    bool owes;                   /* a file that can't be read needs a position: is_blocked() */
    size_t not_read;             /* files over the limit, at the last look */
    uint64_t looked_ns, look_ns; /* the last look; not before then */
    int error;                   /* errno of a name or directory that was said; 0: none */
    uint32_t attempts;           /* looks in a row that met one */
    int look_error;              /* in this look */
    size_t refused;              /* links that are not followed, as told */
    char where[512];
    struct watch watch;
    uint64_t watched_ns;
    bool watched;
    bool at_end;           /* the last read found nothing */
    pthread_mutex_t mutex; /* guards shown */
    char shown[280];
};

/* clang-format off */
/* Rows of settings for both sources. */
#define TRAIL_SETTINGS \
    {"rotate_wait", PAWL_SETTING_TIME, 0, NULL, "5m", \
     "how long a file that was renamed or removed is read beside the new one; the new one " \
     "doesn't wait for that"}, \
    {"links", PAWL_SETTING_CHOICE, 0, "owned|any", "owned", \
     "symbolic links that are followed: those that root or pawl's user made, and those whose " \
     "maker owns what they lead to; or any"}, \
    SPLIT_SETTINGS, \
    {"on_long", PAWL_SETTING_CHOICE, 0, "poison|cut", "poison", \
     "a longer one goes by the source's poison policy, or is cut into parts"}
/* clang-format on */
/* Makes a source. `t` has what the two differ in; the settings of both are added to it. */
int trail_make(const pawl_connector *c, const pawl_settings *g, struct trail_settings *t,
               pawl_source_ops *out, pawl_error *err);
/* Its operations; `self` is the trail. */
int trail_open(void *self, pawl_source_context *x, pawl_fault *f);
int trail_read(void *self, pawl_source_batch *out, size_t max_records, size_t max_bytes,
               int timeout_ms, pawl_fault *f);
void trail_status(void *self, char *text, size_t size);

/* Takes a survey, decides what has become of each file, and begins new ones. FATAL: on_replaced is
 * `stop`, and bytes are gone. */
int trail_look(struct trail *s, pawl_fault *f);
/* Marks the position of a removed file that is at its end. */
void trail_finish_nameless(struct file *x);
/* Stops to read x line by line, if it is the one that is read. */
void trail_stop_reading(struct trail *s, struct file *x);
/* The entry's file is compressed, and isn't read: says why, once. */
void trail_pass(struct trail *s, const struct entry *e);
/* What x is called, and where that is, from now on: its file is the entry's. */
void trail_take_name(struct file *x, const struct entry *e);
/* x reads the entry's file from now on, at the same position. False: the entry has become another
 * file, or it can't be opened. */
bool trail_move_to(struct trail *s, struct file *x, struct entry *e);
/* A copy of x that is not older than this has not been seen: the time of the survey's x, or after
 * that of its youngest copy that is read. */
uint64_t trail_seen_until(const struct trail *s, const struct file *x);
/* Opens the content of a file by its path, if that still leads to it. -1 with errno. */
int trail_hold(struct file *x);
void trail_unhold(struct trail *s, struct file *x);
/* An error that time can mend, of a file that is read, or (NULL) met while looking: said once, and
 * tried again later. */
void trail_error(struct trail *s, struct file *x, int error, const char *where);
void trail_mended(struct trail *s, struct file *x);
/* After a look: says that an error is new, or over. */
void trail_say_error(struct trail *s);
uint64_t trail_now(void);
/* Is it at its end, as far as the last look shows? */
bool trail_at_end(const struct file *x);

/* ---- trail_name.c */

/* Names what x's batch, or (records 0) its position, stands for. */
void trail_name(struct trail *s, struct file *x, size_t records);

/* ---- trail_new.c */

struct look {
    struct survey survey;
    struct entry **by_inode; /* all entries; of one inode, followed names first */
    bool stop;               /* on_replaced: stop, and bytes are gone; fault says which */
    bool late;               /* a file was changed after the survey: that explains nothing */
    pawl_fault *fault;
};

/* Begins to read what is new in the survey, or to continue a file there. */
void trail_see_new(struct trail *s, struct look *l);

/* ---- trail_files.c: files and slots in memory */

int files_load(struct trail *s, pawl_fault *f);
/* NULL: no memory, or no slot left. */
struct file *files_add(struct trail *s, const char *path, const char *base);
void files_remove(struct trail *s, struct file *x);
int files_set_path(struct file *x, const char *path, const char *base);
/* Opens the entry's file. -1 with errno; ENOENT: the name leads to another file by now. */
int files_open(const struct entry *e, struct stat *st);
/* Makes the open file `fd` the one that x means. -1 with errno; fd is closed. */
int files_identify(struct file *x, int fd, const struct stat *st, const char *path);
/* Reads the first bytes. */
void files_read_head(struct file *x);
uint64_t birth_of(int fd);
uint64_t birth_of_path(const char *path);
uint64_t ident_of(ino_t inode, uint64_t birth);
bool ident_fits(uint64_t position, ino_t inode, uint64_t birth);

/* ---- trail_twin.c */

/* How many bytes two files have in common at their beginning, `most` at the most. -1 with errno:
 * one can't be read. */
int64_t common_bytes(struct content *a, struct content *b, uint64_t most);
/* Sets the position to the last beginning of a line that isn't after `at`, with the hash of the
 * bytes before it. -1 with errno. */
int position_at_line(struct content *c, uint64_t at, struct tail_position *p);
/* Opens the bytes of the entry's file. -1 with errno; ENOENT: as files_open(). */
int twin_open(const struct entry *e, struct content *c);
/* Compares a new file with those that are read. *with: the one that it is most like; *bytes: what
 * they have in common. -1 with errno: it can't be read now. */
int twin_find(struct trail *s, const struct entry *e, struct new_evidence *out, struct file **with,
              uint64_t *bytes);

#endif
