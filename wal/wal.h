/* SPDX-License-Identifier: Apache-2.0
 *
 * wal.h - the log as a deterministic state machine: frames in, durable LSN out. Knows bytes and
 * durability, nothing of streams.
 *
 * wal_append.c  frames into groups, room and reserves, sealing and beginning of segments
 * wal_group.c   groups to the device: submission, completion, the durable LSN
 * wal_prepare.c segment files made ready ahead of need, and removed
 * pace.c        when groups go (the policy; wal_group.c carries it out)
 *
 * Concurrency: the owner's lock guards a struct wal, and every function here is called under it.
 * There are three exceptions. wal_prepare_file(), wal_zero_part() and wal_drop_file() touch only
 * the seam, and run without the lock. The seam's reap() is called without the lock by one thread at
 * a time, the leader, which then gives the results to wal_complete() under the lock. `failed` and
 * two fields of `pace` are atomic.
 *
 * Life of a byte: wal_append() copies it into the gathering group. wal_submit() pads the group to
 * whole blocks and hands it to the device. wal_complete() sees it written and synced. Once every
 * earlier group is durable too, `durable` moves over it (PAWL-1). The group's memory serves readers
 * until a new group needs it.
 */
#ifndef PAWL_WAL_WAL_H
#define PAWL_WAL_WAL_H

#include "wal/age.h"
#include "wal/error.h"
#include "wal/format.h"
#include "wal/mem.h"
#include "wal/pace.h"
#include "wal/points.h"
#include "wal/seam/seam.h"

#define WAL_WAIT 1 /* not now: complete() something, or prepare a segment, then try again */

#define WAL_BUFFERS 14  /* write buffers that groups gather in */
#define WAL_LOANS 2     /* and those that large transactions borrow and fill themselves */
#define WAL_IN_FLIGHT 8 /* groups in flight, where each frame doesn't fill one */
/* and in space that was never written: a write takes longer there, see pace.h */
#define WAL_IN_FLIGHT_UNWRITTEN 10
#define WAL_ALIVE_MAX 22  /* groups that gather or are in flight; below 32: see wal.done_mask */
#define WAL_GROUPS_MAX 40 /* and those whose bytes serve readers */
/* At most this many groups are pinned at once: the writer always has the other buffers. */
#define WAL_PINNED_MAX 4
/* A loan's first bytes stay free for the header and directory of a frame with one run, so that the
 * frame is complete where it lies. */
#define WAL_LOAN_HEAD (FRAME_HEADER_SIZE + RUN_SIZE)

enum wal_class {                /* who may use the last bytes before the log is full (PAWL-11) */
                 WAL_INGEST,    /* new input: stops first */
                 WAL_PROCESS,   /* output with positions: so that processors can drain a full log */
                 WAL_POSITIONS, /* positions and catalog only: may use the reserve */
};

/* A write buffer that a transaction has borrowed and fills. */
struct wal_loan {
    uint8_t *data; /* group_size bytes; NULL: none */
    int number;    /* of the buffer, or -1 */
};

/* A frame to be appended. The body is the pieces, one after the other. With a loan it has one run
 * and one piece, which begins after the loan's head. Nothing is copied then: the buffer becomes the
 * group's, and the loan gets another one. */
struct wal_frame {
    uint8_t kind;
    enum wal_class class;
    const struct run *runs;
    uint32_t run_count;
    const struct piece *pieces;
    uint32_t piece_count;
    uint32_t body_len;
    struct wal_loan *loan; /* or NULL */
    /* of the body, under `key`; computed when the frame is put if that isn't the log's by then */
    uint64_t body_hash;
    const struct frame_key *key; /* or NULL */
    uint64_t time_ns;
};

/* FREE -> GATHERING -> WRITING (-> SYNCING) -> DONE -> IDLE -> FREE; a short write leads back to
 * WRITING, and a group of its own memory goes from DONE to FREE. */
enum group_state {
    GROUP_FREE,
    GROUP_GATHERING,
    GROUP_WRITING,
    GROUP_SYNCING,
    GROUP_DONE, /* durable (or failed), but groups before it may not be */
    GROUP_IDLE, /* left the flight; its bytes serve readers until the buffer is used again */
};

/* A run of whole blocks in a write buffer. Small groups share a buffer, one after the other. Once
 * durable, a group joins the one before it, so that readers see one run of bytes.
 *
 * Concurrency: the log's lock guards the fields. While the group is WRITING or SYNCING, the device
 * reads `data` and the seam writes `req` without the lock; the log changes neither until
 * wal_complete() gets `req` back. While `pins` is not 0, readers read `data` without the lock. */
struct group {
    struct seam_req req;
    uint8_t *data;
    uint64_t lsn; /* of its first byte */
    uint32_t cap;
    uint32_t len;    /* filled; a multiple of the block once submitted */
    uint32_t done;   /* written so far */
    uint32_t tries;  /* consecutive answers without progress */
    int buffer;      /* number of its buffer, as registered with the seam; -1: memory of its own */
    bool own;        /* allocated for one large frame, freed when done */
    uint32_t pins;   /* readers that use its bytes in place: it isn't used again meanwhile */
    uint32_t number; /* counts groups; fewer than 32 gather or are in flight at once */
    uint64_t first_frame; /* count of frames before its first */
    uint64_t frames_then; /* count of frames when it was submitted */
    bool need_sync;       /* the write alone doesn't make it durable: a fresh sync follows */
    enum group_state state;
    struct group *next; /* in flight: in LSN order */
};

enum wal_state {
    WAL_RUNNING,
    WAL_SEALING,   /* SEAL appended; waits until all is durable, and for a prepared segment */
    WAL_BEGINNING, /* header and checkpoint of the next segment are being written */
};

enum next_state {
    NEXT_NONE,   /* there is none, and no thread prepares one */
    NEXT_MAKING, /* a thread prepares it, or gives a dropped segment's file its name */
    NEXT_READY,  /* prepared, named and durable */
    NEXT_FULL,   /* no space or cap reached; tried again when asked */
};

struct wal_hooks {
    /* The checkpoint of all tables as they stand: fills `body` and the runs (their start and len
     * included), at most 16, and what the segment's header says of them. */
    int (*checkpoint)(void *ctx, struct bytes *body, struct run *runs, uint32_t *count,
                      struct c_ids *ids);
    /* The index of the segment being sealed: INDEX entries, at most `max` bytes. */
    int (*index)(void *ctx, struct bytes *body, size_t max);
    /* A segment has begun at its first frame. */
    void (*begun)(void *ctx, uint64_t index);
    void *ctx;
    struct points points;
};

/* A key, and the first LSN of the frames under it. */
struct wal_key {
    uint64_t from;
    struct frame_key key;
};
/* of one handle: an earlier version's log gets its first key with the second segment that begins, a
 * copied one a key that the other one doesn't have, and one that was mended another with the
 * first */
#define WAL_TURNS_MAX 2

/* Concurrency: the owner's lock guards the fields. Without it, threads read `failed` and `key`,
 * which are atomic, keys[key], which doesn't change while the log is open, what `pace` declares
 * atomic, and io, hooks.points and segment_size, which don't change after wal_init(). */
struct wal {
    struct seam *io;
    struct mem *mem;
    struct wal_hooks hooks;
    uint8_t log_id[16];
    struct wal_key keys[1 + WAL_TURNS_MAX];
    _Atomic uint32_t key; /* which of them is in use; those before it are of older frames */
    uint8_t unused[WAL_TURNS_MAX][KEY_SIZE]; /* random, for turns to come */
    uint32_t turns;                          /* number of them that are left */
    uint32_t turns_due;                      /* segments to come that get another key each */
    uint64_t segment_size;
    uint64_t disk_cap; /* in force */
    uint64_t beside;   /* bytes of it that files beside the segments take, or are to have free */
    uint64_t disk_cap_said;   /* by the log so far, and by the headers of segments to come */
    uint64_t time_least;      /* the time of a CHECKPOINT isn't before it */
    struct features features; /* of the log, for each new segment's header */
    struct c_ids ids;         /* in the header of the active segment */
    struct age_stamp age;     /* as the clocks were read last */
    uint64_t stamped_age_ns;  /* in the last stamp that the log has */
    int64_t clock_set_ns;     /* by how much the wall clock was set, and it wasn't told yet */
    /* of the frame that comes next, in segments that count: set by the owner after each frame */
    uint32_t counts;
    uint64_t epoch;

    enum wal_state state;
    /* sealed, all is there for the next segment, but no memory for its checkpoint */
    int starved;
    /* this incarnation has no durable record yet: the next segment's header must be it */
    bool needs_open;
    uint64_t segment; /* index of the active one */
    int file;
    uint64_t first_segment; /* oldest kept */
    uint64_t tail;          /* LSN of the next frame */
    uint64_t durable;       /* PAWL-1 */
    uint64_t link;          /* header hash of the last frame appended */
    uint64_t seal_lsn;      /* of the last SEAL, for the next segment's header */
    uint8_t last_kind;
    /* frames other than a witness have been appended since the last group went */
    bool fresh;
    uint64_t last_fresh_ns; /* monotonic time when the last group with such a frame went */
    /* of the last frame appended, and its bytes, which are there until the next group goes */
    struct frame_header last;
    const uint8_t *last_frame;

    enum next_state next;
    int next_file;
    uint64_t next_written; /* bytes of it, from its start, that were written before their use */
    bool zeroing;          /* a thread writes zeros into it; it isn't begun meanwhile */
    int spare_file; /* of the segment after the next one, or -1; only if the next one is ready */
    bool dropping;  /* a thread is removing old segments */
    bool recycling; /* and is giving the file of one the name of a later segment */
    uint64_t recycled;

    struct group groups[WAL_GROUPS_MAX];
    uint8_t *buffers[WAL_BUFFERS + WAL_LOANS]; /* all write buffers, lent ones too */
    bool for_loans[WAL_BUFFERS + WAL_LOANS];   /* of these, those that groups don't use */
    struct wal_loan loans[WAL_LOANS];          /* of these, those that aren't lent */
    int loan_count;
    uint32_t group_size; /* bytes of a buffer */
    int rest;            /* the buffer that the last group left half of or more, or -1 */
    uint32_t rest_at;    /* where the free part begins */
    uint32_t found;      /* index of the group that a reader found its bytes in last */
    uint32_t in_flight_max;
    struct group *gathering;
    struct group *flight_head, *flight_tail;
    struct group *left_last; /* the place of the group that left the flight last */
    uint32_t in_flight;
    uint32_t pinned; /* groups with pins */
    bool dsync;      /* RWF_DSYNC works here */
    bool kick_due;   /* requests are queued: once the lock is free, the owner calls io->kick */
    uint32_t number; /* of the group that the last frame went to */
    /* groups that became durable or failed: bit number % 32; cleared by the owner */
    uint32_t done_mask;
    struct pace pace; /* when groups go; it has a concurrency argument of its own */

    /* 0, or the code of `error` (PAWL-7). Written under the lock, read anywhere */
    _Atomic int failed;
    pawl_error error;

    struct bytes scratch; /* for a checkpoint or an index */
    uint64_t frames, groups_written, syncs, bytes_written;
};

/* Where a recovered or new log stands. */
struct wal_start {
    uint8_t log_id[16];
    uint64_t segment_size, disk_cap;
    struct features features;
    struct c_ids ids;     /* in the header of the active segment */
    struct age_stamp age; /* the last one in the log */
    uint32_t turns_due;   /* segments to come that get another key each */
    uint32_t counts;      /* of the frame that comes next */
    uint64_t epoch;       /* of the last frame; the new incarnation is one more */
    uint64_t segment, first_segment;
    int file;      /* of the active segment, open for writing; the wal owns it from here on */
    uint64_t tail; /* end of the last good frame */
    uint64_t link;
    uint64_t seal_lsn;
    bool sealed;           /* the last frame is a SEAL */
    int next_file;         /* a prepared segment was found: its handle, else -1 */
    uint64_t next_written; /* as in struct wal */
    int spare_file;        /* the same for the segment after that */
};

/* Takes over a log; everything below start->tail must be durable. Appends the OPEN record (durable
 * once the next group is done). Buffers take `buffer_bytes`. */
PAWL_CHECKED int wal_init(struct wal *w, struct seam *io, struct mem *m,
                          const struct wal_hooks *hooks, const struct wal_start *start,
                          uint64_t buffer_bytes);
/* Frees what it holds. Nothing may be in flight. */
void wal_free(struct wal *w);

/* Appends a frame: 0 with its LSN and end, WAL_WAIT, PAWL_FULL, PAWL_TOO_LARGE, PAWL_MEMORY, or the
 * sticky error. Nothing is kept on failure. */
PAWL_CHECKED int wal_append(struct wal *w, const struct wal_frame *f, uint64_t *lsn, uint64_t *end);
/* Largest directory + body that a frame may have. */
uint64_t wal_payload_max(const struct wal *w);
/* Where in a segment ordinary frames must end, so that its SEAL fits. */
uint64_t wal_usable_end(uint64_t segment_size);
static inline uint64_t wal_base(const struct wal *w) {
    return w->segment * w->segment_size;
}
/* Reads the clocks, and returns how old the log is. */
const struct age_stamp *wal_age(struct wal *w);
/* Writes a stamp of now as the body of a run that begins at `start`. */
void wal_stamp(struct wal *w, uint8_t out[AGE_STAMP_SIZE], struct run *r, uint32_t start);
/* Appends a frame without tables (WITNESS, CLOSE). WAL_WAIT: the segment is full. If the state
 * isn't WAL_RUNNING, the next one is being begun; else there is none to begin. */
PAWL_CHECKED int wal_append_mark(struct wal *w, uint8_t kind);
/* Would an ordinary append of new input get PAWL_FULL now? */
bool wal_is_full(struct wal *w);

/* Submits what has gathered, if `force` or pace_group_goes(). It waits for nothing; the owner must
 * then kick (kick_due). */
void wal_submit(struct wal *w, bool force);
/* Takes a finished request back, moves the durable LSN, goes on with sealing. */
void wal_complete(struct wal *w, struct seam_req *r);
/* Goes on with sealing or beginning where it can. */
void wal_step(struct wal *w);
/* Is everything appended durable, and no segment change under way? */
bool wal_quiet(const struct wal *w);

/* Bytes at an LSN if they are still in memory: pointer valid while the lock is held, *avail of
 * them; else NULL. */
const uint8_t *wal_peek(struct wal *w, uint64_t lsn, uint64_t *avail);

/* Keeps the memory that holds an LSN as it is until wal_unpin(). -1: it isn't in a write buffer, or
 * WAL_PINNED_MAX groups are pinned. */
PAWL_CHECKED int wal_pin(struct wal *w, uint64_t lsn);
void wal_unpin(struct wal *w, int group);

/* Lends a write buffer until wal_give_back(). False: none is left. */
bool wal_lend(struct wal *w, struct wal_loan *loan);
void wal_give_back(struct wal *w, struct wal_loan *loan);

/* Makes the error sticky (PAWL-7). Returns its code. */
int wal_fail(struct wal *w, int sys_errno, const char *call, uint64_t lsn);
int wal_error(const struct wal *w); /* the sticky one as this thread's last error */

/* -- wal_prepare.c */
/* Is a next segment wanted, and may one be made now (cap)? */
bool wal_wants_next(struct wal *w);
/* Makes segment `index`: allocated, synced, named, directory synced; before the sync written with
 * zeros if *zeros, which is set where the file system can't reserve space otherwise. Without the
 * lock. Returns the handle or -errno. */
PAWL_CHECKED int wal_prepare_file(struct seam *io, const struct points *points, uint64_t index,
                                  uint64_t size, bool *zeros);
/* Gives a file that isn't of the log, but has the name of segment `index`, another name that no
 * reader looks at. -errno. */
PAWL_CHECKED int wal_set_aside(struct seam *io, uint64_t index);
/* Has the file another name (a hard link)? Then it is a copy that somebody keeps, a savepoint say:
 * its bytes stay as they are. */
bool wal_file_is_kept(struct seam *io, int file);
/* `written`: see wal.next_written. */
void wal_next_done(struct wal *w, int file_or_errno, uint64_t written);
/* Is the next part of the prepared segment to be written with zeros now? */
bool wal_wants_zeros(const struct wal *w);
/* A part of a prepared segment's file. */
struct wal_part {
    int file;
    uint64_t from, to;
};
/* To be followed by wal_zero_part(), without the lock, and wal_zeros_done() with its answer. */
struct wal_part wal_zeros_begin(struct wal *w);
PAWL_CHECKED int wal_zero_part(struct seam *io, const struct wal_part *part);
void wal_zeros_done(struct wal *w, const struct wal_part *part, int rc);
/* A segment is about to be let go: the index that its file is to be prepared for, 0 if none is
 * wanted. To be followed by wal_recycle_end(). */
uint64_t wal_recycle_begin(struct wal *w);
/* Lets segment `index` go, durably. Its file becomes the prepared segment `to` as it is; if `to` is
 * 0, or the file can't be used, it is removed. Without the lock. *file: the handle, or -1.
 * Returns 0; 1: the file could be neither renamed nor removed, and stays; negative: the directory
 * can't be synced, so it is unknown what a power cut would leave. */
PAWL_CHECKED int wal_drop_file(struct seam *io, const struct points *points, uint64_t index,
                               uint64_t size, uint64_t to, int *file);
void wal_recycle_end(struct wal *w, uint64_t to, int file);
uint64_t wal_segments_on_disk(const struct wal *w);
/* Creates a new log with segment 0 in the directory, durably. */
PAWL_CHECKED int wal_create(struct seam *io, struct mem *m, const struct points *points,
                            uint64_t segment_size, uint64_t disk_cap);

/* Encodes a whole frame at `out` (which has room), at f's LSN; shared by append and creation. */
void wal_encode_frame(uint8_t *out, const struct wal_frame *f, struct frame_header *h,
                      const struct frame_key *key);

/* The key of frames that are written now. Any thread. */
static inline const struct frame_key *wal_key(const struct wal *w) {
    return &w->keys[w->key].key;
}
/* The key of a frame that is still in memory. */
static inline const struct frame_key *wal_key_at(const struct wal *w, uint64_t lsn) {
    uint32_t i = w->key;
    while (i > 0 && lsn < w->keys[i].from)
        i--;
    return &w->keys[i].key;
}

#endif
