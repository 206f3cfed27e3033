/* SPDX-License-Identifier: Apache-2.0
 *
 * What the files of the file sink share. The target directory has:
 *
 *   SINK-STREAM-PARTITION-FIRST.log     visible files; FIRST is the offset of the first record, 20
 *                                       digits. Their consumer may move them away at any time
 *   SINK-STREAMID-PARTITION-FIRST.part  the file that grows, at most one for each partition
 *   SINK.pawl                           the directory's id, and which file was made visible last
 *   NAME.aside, NAME.aside.N            what was found under a name or in a file of ours, and that
 *                                       this sink had not written
 *
 * The truth is in the log (PAWL-15): for each partition an open decision says which part there is,
 * how many of its bytes are committed, their hash, and the id of the directory. It is a part of the
 * commit that decides on a batch. So whatever is taken away from the directory is missed, and
 * whatever is there beyond that is not ours.
 *
 * A batch is appended to the part and made durable; then the log decides; nothing is left to do. A
 * part that is large or old enough becomes visible by a rename, after the log says that it is about
 * to (`rotating`), and before the log says that it has.
 *
 *   sink_file.c        a batch, settings
 *   sink_file_place.c  the directory: what must be there, what else is there
 *   sink_file_show.c   making a part visible
 *   sink_file_old.c    what version 1 has left
 *   sink_file_state.c  the texts: of the log's decision, of SINK.pawl, of the state of version 1
 */
#ifndef PAWL_CONNECTORS_SINK_FILE_H
#define PAWL_CONNECTORS_SINK_FILE_H

#include <sys/stat.h>
#include <xxhash.h>

#include "connectors/file/compress.h"
#include "connectors/file/writer_thread.h"
#include "connectors/runtime/connect.h"
#include "connectors/runtime/reach.h"
#include "connectors/text/encode.h"

#define FILE_NONE UINT64_MAX
#define FILE_NAME_SIZE 300

/* ---- sink_file_state.c: the texts */

/* What the log says of a partition. */
struct file_note {
    uint64_t directory; /* id */
    uint32_t path;      /* hash of the setting `directory` */
    uint64_t shown;     /* number of files that had been made visible in the directory */
    uint64_t to;        /* one past the last committed record */
    uint64_t first;     /* names the part; FILE_NONE: no part */
    uint64_t length;    /* committed bytes of the part */
    uint64_t hash;      /* of these bytes */
    uint64_t begun_s;   /* when the part was begun, in seconds since 1970 */
    bool rotating;      /* the part is about to be made visible */
    /* while there is no part: the last one, which was made visible; FILE_NONE: there was none */
    uint64_t last_first, last_length, last_hash;
};
#define FILE_NOTE_SIZE 178
void file_note_encode(const struct file_note *n, char out[FILE_NOTE_SIZE]);
/* False: it is no such text. */
bool file_note_decode(struct file_note *n, const char *text);

/* SINK.pawl */
struct file_mark {
    uint8_t log_id[16];
    uint64_t directory; /* random id */
    uint64_t shown;     /* number of files that were made visible, or were about to be */
    /* the last one that was; FILE_NONE: none yet */
    uint64_t last_stream, last_partition, last_first;
};
#define FILE_MARK_SIZE 512 /* one sector: a torn write leaves the old or the new one */
void file_mark_encode(const struct file_mark *m, char out[FILE_MARK_SIZE]);
bool file_mark_decode(struct file_mark *m, const char text[FILE_MARK_SIZE]);

/* The state of version 1, a hidden file of two slots for each partition. It is only read. */
struct file_state {
    uint64_t seq; /* of the slot: the higher one is valid */
    uint8_t log_id[16];
    char stream[128];
    uint64_t first, length, to;
    int64_t begun_ns;
    uint32_t rotating;
    char prepared[200]; /* name of the prepared batch; "" none */
    uint64_t prepared_to, prepared_length;
};
#define FILE_SLOT 1024u
#define FILE_SLOT_APART 4096u
/* For tests. */
void file_state_encode(const struct file_state *s, char slot[FILE_SLOT]);
/* Reads both slots and takes the newer valid one. Returns 0, -1 with errno, or 1 if neither is
 * valid. */
int file_state_read(int fd, struct file_state *s);

/* ---- the sink */

/* A partition of an input. All of it belongs to the sink's thread. */
struct target {
    uint32_t stream, partition;
    char stream_name[128];
    struct file_note note; /* as committed */
    bool due;              /* its part is to become visible whatever its size is */
    char prepared[208];    /* name of the prepared batch; "" none. What the note becomes: */
    uint64_t prepared_to, prepared_length;
    XXH3_state_t *hash, *prepared_hash; /* of the part's committed bytes, and with the batch */
    /* The part has bytes up to here that are not committed and that no batch has claimed yet; at
     * most note.length: none. What a crash left is written again by the next batch, byte for byte;
     * anything else is set aside. */
    uint64_t tail_end;
    struct timespec changed; /* the part's ctime after our last change */
    bool old_state;          /* a state of version 1 is to be removed */
};

struct file_name {
    char name[256];
    uint64_t n[3]; /* stream, partition, first */
    bool old;      /* of version 1: hidden */
};

struct file_sink {
    /* settings */
    char *directory, *prefix, *suffix;
    struct encoding encoding;
    int compression;
    mode_t mode; /* of new files */
    bool mode_exact;
    uint64_t rotate_bytes, rotate_ms;
    /* what is open; all of it belongs to the sink's thread */
    char sink[65];
    uint8_t log_id[16];
    int dir, marker, part; /* part: of targets[at]; -1: not open */
    dev_t dir_dev;
    ino_t dir_ino;
    bool marked; /* there is a valid marker: */
    struct file_mark mark;
    bool remade; /* it was made since opening */
    struct target *targets;
    size_t count;
    size_t at;               /* index of the target whose part is open; SIZE_MAX: none */
    struct file_name *found; /* the parts that were there at opening */
    size_t found_count;
    bool begun, fresh, made; /* a batch is open; its part's name isn't durable; it made the part */
    uint64_t written;        /* where the batch's next byte goes */
    XXH3_state_t *hash;      /* of the bytes before */
    struct buffer plain, packed;
    struct compressor *compressor;
    struct writer *writer; /* writes to the part of the open batch */
    char remark[400];      /* to be reported; "" none */
    pthread_mutex_t mutex; /* guards what status() shows */
    uint64_t files, hidden;
};

/* RETRY, with errno in the text. */
int file_failed(const struct file_sink *s, pawl_fault *f, const char *doing);
/* Reports it with the next step; one that waits already is kept. */
void file_remark(struct file_sink *s, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void file_part_name(const struct file_sink *s, const struct target *t, char out[FILE_NAME_SIZE]);
struct target *file_find(struct file_sink *s, uint32_t stream, uint32_t partition);
void file_close_part(struct file_sink *s);
/* What status() shows; `files` more were made visible. */
void file_tell(struct file_sink *s, uint64_t files);

/* ---- sink_file_place.c */

/* Opens the directory and sees what is there. */
int file_open_place(struct file_sink *s, const pawl_sink_batch *b, pawl_fault *f);
/* check() of the interface. */
int file_check(void *self, const pawl_sink_batch *b, const char *text, uint64_t *from, uint64_t *to,
               pawl_fault *f);
/* Is everything as we left it: the directory, its marker, the target's part, which is opened? RETRY
 * with a text if not: check() finds out what is lost. */
int file_same(struct file_sink *s, struct target *t, pawl_fault *f);
/* What a sync's answer `rc` proves: 0, or -1 with errno. A sync that failed may answer 0 when it is
 * tried again, and the page cache then shows bytes and names that the device never got. A file
 * system that has given up its journal is read-only by then: it proves nothing. */
int file_synced(int fd, int rc);
/* Notes how our own change has left the open part. 0, or -1 with errno. */
int file_changed(struct file_sink *s, struct target *t);
/* The bytes of the open part from `from` to tail_end are not ours: keeps them in a file of their
 * own, and cuts the part off at `cut`. 0, or -1 with errno. */
int file_tail_aside(struct file_sink *s, struct target *t, uint64_t from, uint64_t cut);
int file_mark_write(struct file_sink *s, bool durable);
/* Nothing that is not ours is removed or overwritten: it gets another name. 0, also if nothing has
 * the name; or -1 with errno. */
int file_set_aside(struct file_sink *s, const char *name);
/* Adds bytes of the file to the hash. 0, or -1 with errno (0: the file is shorter). */
int file_hash_bytes(int fd, uint64_t from, uint64_t to, XXH3_state_t *hash);
/* The partition has no part now: it was made visible, and its note remains. */
void file_was_shown(struct target *t);
/* The partition has no part, and had none that counts. */
void file_no_part(struct target *t);
void file_close_place(struct file_sink *s);

/* ---- sink_file_old.c */

/* The name of a hidden file of version 1. */
void file_old_name(const struct file_sink *s, const struct target *t, const char *end,
                   char out[FILE_NAME_SIZE]);
/* Reads the state. DONE, GONE (there is none), FATAL (a damaged one, or another log's), RETRY. */
int file_old_state(struct file_sink *s, const struct target *t, struct file_state *state,
                   pawl_fault *f);
/* Whether a hidden part is there without the state that says what it is. */
bool file_stray_part(const struct file_sink *s, const struct target *t, uint64_t *first);
/* Takes over what the state says: its lengths are trusted, the hash is of what is there. */
int file_take_over(struct file_sink *s, struct target *t, const struct file_state *st,
                   pawl_fault *f);

/* ---- sink_file_show.c */

/* Is the part to become visible? */
bool file_due(const struct file_sink *s, const struct target *t);
/* settle() of the interface. */
int file_settle(void *self, const pawl_sink_batch *b, pawl_fault *f);
/* The part's visible name, or that of its n-th twin. */
void file_visible_name(const struct file_sink *s, const struct target *t, unsigned twin,
                       char out[FILE_NAME_SIZE]);

#endif
