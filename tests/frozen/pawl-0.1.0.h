/* SPDX-License-Identifier: Apache-2.0
 *
 * pawl.h - exactly-once stream pipelines inside one process, without a broker.
 *
 * One directory holds one totally ordered, checksummed log: input, output and processing positions.
 * A transaction is one frame under one checksum: after a crash it is there whole or not at all.
 *
 *     pawl *log;
 *     pawl_open("data", NULL, &log, NULL);
 *     pawl_record r = { .value = "hello", .value_len = 5 };
 *     pawl_append(log, stream, PAWL_ANY, &r, NULL);     // durable when it returns 0
 *     pawl_close(log);
 *
 * CONVENTIONS
 *   Results     Functions return 0 or a positive count when all is well, else a negative code
 *               (PAWL_ERRORS below; the values never change). The library never prints, exits, or
 *               sets errno. pawl_last_error() tells which call, file and offset failed, and what to
 *               do.
 *   Threads     A `pawl *` may be used by any number of threads at once. A transaction, reader,
 *               producer or batch belongs to one thread at a time.
 *   Fork        A child of fork() must not use a handle of its parent: every call answers
 *               PAWL_FORKED.
 *   One writer  A directory is opened for writing by one process at a time (PAWL_LOCKED names the
 *               holder's pid), and once within a process. Any number of processes may read it at
 *               the same time (PAWL_OPEN_READ).
 *   Memory      Pointers that you pass are not kept after the call returns, unless it says so.
 *               Pointers that you get live as long as the call's comment says.
 *   Structs     Options and configurations carry their size; initialise them with their _INIT
 *               macro, so that a program built against an older header goes on working.
 *   Time        Nanoseconds since 1970-01-01 UTC in `_ns` fields, milliseconds in `_ms` ones. Sizes
 *               are bytes.
 *
 * LIMITS (a call beyond one gets its own error, nothing is cut silently)
 *   record      value 16 MiB, key 65,535 bytes, encoded headers 65,535 bytes; and key, headers and
 *               value together, with 8 KiB to spare, a quarter of a segment and a quarter of the
 *               memory cap: just below 8 MiB at the default cap of 32 MiB; 16 MiB values need
 *               segments of 64 MiB (the default) and a memory cap of 72 MiB (PAWL_TOO_LARGE)
 *   names       1 to 127 bytes of A-Z a-z 0-9 . _ - (PAWL_INVALID)
 *   tables      4,096 streams, 1,024 partitions a stream, 16,384 partitions, 16,384 producers,
 *               1,024 processors, and all tables together an eighth of a segment (PAWL_LIMIT)
 */
#ifndef PAWL_H
#define PAWL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PAWL_VERSION_MAJOR 0
#define PAWL_VERSION_MINOR 1
#define PAWL_VERSION_PATCH 0

#if defined(__GNUC__)
#define PAWL_API __attribute__((visibility("default")))
#else
#define PAWL_API
#endif

/* ---------------------------------------------------------------- errors */

/* name, value, text. Values are pinned: they never change and are never used again. */
#define PAWL_ERRORS(X) \
    X(INVALID, -1, "invalid argument") \
    X(MEMORY, -2, "out of memory, or the memory cap is reached") \
    X(IO, -3, "a read, write or sync failed; this handle acknowledges nothing more") \
    X(FULL, -4, "the disk is full or the disk cap is reached; works again once space is freed") \
    X(LOCKED, -5, "another writer has this log open") \
    X(NOT_A_LOG, -6, "the directory is not a Pawl log") \
    X(VERSION, -7, "the log was written in a format this library does not know") \
    X(DAMAGED, -8, "bytes that were durable are damaged") \
    X(FOREIGN, -9, "a segment belongs to another log") \
    X(NOT_FOUND, -10, "no such stream, processor or producer") \
    X(EXISTS, -11, "it exists already") \
    X(RANGE, -12, "partition or offset out of range") \
    X(TRIMMED, -13, "the offset is older than what is still kept") \
    X(TOO_LARGE, -14, "larger than the stated limit") \
    X(LIMIT, -15, "a table has reached its stated limit") \
    X(FENCED, -16, "a newer holder has taken this producer over") \
    X(SEQUENCE, -17, "the producer sequence skips or overlaps") \
    X(TILING, -18, "the interval does not begin at the committed position") \
    X(READ_ONLY, -19, "the handle is read-only") \
    X(STATE, -20, "not possible in this state") \
    X(FORKED, -21, "the handle belongs to the parent process") \
    X(TIMEOUT, -22, "nothing came within the given time") \
    X(BUSY, -23, "it is in use") \
    X(PROCESSOR, -24, "a processor failed and its policy is to stop") \
    X(UNSUPPORTED, -25, "not available on this system, or not known to this version") \
    X(STOPPED, -26, "stopped on request") \
    X(PERMISSION, -27, "permission denied") \
    X(LOST, -28, "records were lost to damage and taken out by repair")

#define PAWL_X(name, value, text) PAWL_##name = (value),
enum pawl_code { PAWL_OK = 0, PAWL_ERRORS(PAWL_X) PAWL_CODE_MIN = -28 };
#undef PAWL_X

/* What went wrong, in full. Plain data: copy it freely. */
typedef struct pawl_error {
    int code;          /* a PAWL_ code; 0: no error */
    int sys_errno;     /* the system's errno where a system call failed, else 0 */
    uint64_t lsn;      /* log address concerned, or UINT64_MAX */
    char call[24];     /* which call: "write", "fdatasync", "open", ... or "" */
    char file[64];     /* file name inside the directory, or "" */
    char message[384]; /* one English sentence or two: what, where, and what to do */
} pawl_error;

/* Short text of a code, never NULL, static. */
PAWL_API const char *pawl_strerror(int code);
/* Name of a code without prefix ("FULL"), never NULL, static. */
PAWL_API const char *pawl_errname(int code);
/* Version of the library as linked, "0.1.0", static. */
PAWL_API const char *pawl_version(void);

/* ---------------------------------------------------------------- open and close */

typedef struct pawl pawl;

enum pawl_open_flags {
    PAWL_OPEN_CREATE = 1 << 0, /* create the log (and the directory, mode 0700) if there is none */
    /* read only; follows a live writer in another process without disturbing it */
    PAWL_OPEN_READ = 1 << 1,
    /* with READ: open a damaged log too; what can't be read is passed over (PAWL_LOST) */
    PAWL_OPEN_SALVAGE = 1 << 2,
    PAWL_OPEN_EXCLUSIVE = 1 << 3 /* with CREATE: PAWL_EXISTS if there is a log already */
};

enum pawl_backend { PAWL_BACKEND_AUTO = 0, PAWL_BACKEND_URING = 1, PAWL_BACKEND_POSIX = 2 };
enum pawl_direct { PAWL_DIRECT_AUTO = 0, PAWL_DIRECT_ON = 1, PAWL_DIRECT_OFF = 2 };

typedef struct pawl_options {
    size_t struct_size;
    uint32_t flags; /* enum pawl_open_flags */
    /* enum pawl_backend; AUTO takes io_uring where it works, else pwritev2 and fdatasync */
    int32_t backend;
    int32_t direct; /* enum pawl_direct; AUTO takes O_DIRECT where the file system has it */
    int32_t block_when_full; /* 1: a commit waits for space instead of returning PAWL_FULL */
    /* on creation: bytes, a multiple of 1 MiB, 1 MiB to 4 GiB; 0 = 64 MiB */
    uint64_t segment_size;
    /* on creation: bytes for all segments together, at least 4 segments; 0 = none */
    uint64_t disk_cap;
    uint64_t memory_cap; /* bytes this handle may hold, at least 2 MiB; 0 = 32 MiB */
    /* idle witness so long after the last commit; 0 = 50; UINT32_MAX = none */
    uint32_t witness_ms;
    /* 1: callbacks run in pawl_dispatch() only; 0: in the library's own thread */
    uint32_t app_dispatch;
    uint32_t no_thread; /* 1: no thread of the library's own: call pawl_tick() now and then */
    /* how long to wait for another writer's lock; 0 = 250. A killed writer's last writes may hold
     * it past its death: where its process is gone (or of another PID namespace), 10 s at least */
    uint32_t lock_wait_ms;
    /* during recovery; bytes. Non-zero return is ignored */
    int (*progress)(void *arg, uint64_t done, uint64_t total);
    void *progress_arg;
    /* for crash tests: called at each of the points below; NULL: never */
    void (*on_point)(void *arg, const char *point);
    void *on_point_arg;
} pawl_options;
#define PAWL_OPTIONS_INIT \
    { sizeof(pawl_options), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/* Named points of a log's life, so that a crash test can end the process exactly there (`pawl
 * crashtest` does). The callback must not call the library; it may be called by any thread of the
 * handle, at those marked * with the handle's lock held. No cost where it is NULL. Of a read-only
 * handle, the close- points only. Names may be added; those here stay.
 *   pawl_open()    recovery-synced        what may have lived in the page cache only is durable
 *                  recovery-scanned       the newest segment has been read and judged
 *                  incarnation-durable    the record of the new incarnation is durable; not reached
 *                                         where the next segment's header has to be it
 *   groups         group-submitted *      a group of frames is about to be handed to the system
 *                  group-completed *      it came back written and durable, those before it perhaps
 *                                         not
 *                  durable-advanced *     the durable LSN has moved; who waits for it has not heard
 *                                         of it
 *   segments       segment-written        a new segment's file is durable, under its temporary name
 *                                         (also on creation, as the two that follow)
 *                  segment-named          it has its name, perhaps not durably
 *                  segment-prepared       durably
 *                  seal-appended *        a segment's last frame is in memory
 *                  header-submitted *     the next segment's header and checkpoint are with the
 *                                         system
 *                  segment-begun *        they are durable
 *                  segment-recycled       retention has given a file the name of a segment to come,
 *                                         perhaps not durably
 *                  segment-dropped        retention has removed a file, or given it another name,
 *                                         perhaps not durably
 *   processors     outputs-durable        at-least-once: a batch's outputs are, its position isn't
 *                  position-durable       at-most-once: the position is, the callback has not run
 *   pawl_close()   close-begun, close-durable */

/* Opens the log in directory `dir`; `o` may be NULL (open an existing log for writing, all
 * defaults). Opening for writing recovers: finds the tail, makes it durable, begins a new
 * incarnation durably. `*out` is the handle, to be given to pawl_close(); NULL on error. `err` may
 * be NULL; else it tells all. Errors: INVALID, MEMORY, IO, LOCKED, NOT_A_LOG, VERSION, DAMAGED,
 * FOREIGN, EXISTS, UNSUPPORTED, PERMISSION, FULL (creation only). */
PAWL_API int pawl_open(const char *dir, const pawl_options *o, pawl **out, pawl_error *err);

/* Makes everything appended durable, marks the log as cleanly closed, releases all. Transactions,
 * readers and producers of the handle must be finished before. The handle is gone whatever is
 * returned. Safe with NULL. Errors: IO (what was not acknowledged may be lost), FORKED. */
PAWL_API int pawl_close(pawl *p);

/* The error of the last failing call of this thread on any handle; the sticky one after PAWL_IO.
 * Always succeeds. */
PAWL_API void pawl_last_error(pawl_error *out);

/* Waits until everything appended so far is durable. Errors: IO (also when the handle failed
 * before, whatever was durable by then), FORKED. */
PAWL_API int pawl_sync(pawl *p);

/* With no_thread: does what a background thread would (prepares segments, writes the witness,
 * finishes asynchronous commits). Returns the number of milliseconds after which it wants to be
 * called again. Without no_thread: does nothing. */
PAWL_API int pawl_tick(pawl *p);

/* ---------------------------------------------------------------- streams */

/* Any partition: by hash of the key (XXH3-64, seed 0, modulo the number of partitions) if there is
 * a key, else partitions in turn. */
#define PAWL_ANY UINT32_MAX

typedef struct pawl_stream_info {
    uint32_t id;         /* 1 and up; never used again */
    uint32_t partitions; /* 1 to 1024 */
    char name[128];
} pawl_stream_info;

/* Creates a stream; durable on return. `id` may be NULL. Errors: INVALID (name), EXISTS (then *id
 * is the existing one's), LIMIT, FULL, IO, READ_ONLY, FORKED. */
PAWL_API int pawl_stream_create(pawl *p, const char *name, uint32_t partitions, uint32_t *id);
/* Finds a stream by name. Errors: NOT_FOUND. */
PAWL_API int pawl_stream_find(pawl *p, const char *name, pawl_stream_info *out);
/* The index-th stream in order of id, from 0. Errors: NOT_FOUND when there are no more. */
PAWL_API int pawl_stream_at(pawl *p, uint32_t index, pawl_stream_info *out);

typedef struct pawl_bounds {
    uint64_t first;   /* oldest offset still kept */
    uint64_t durable; /* one past the newest durable (committed) record */
    uint64_t end;     /* one past the newest appended record; >= durable */
} pawl_bounds;
/* Errors: NOT_FOUND, RANGE, IO, DAMAGED. */
PAWL_API int pawl_partition_bounds(pawl *p, uint32_t stream, uint32_t partition, pawl_bounds *out);

/* ---------------------------------------------------------------- records */

typedef struct pawl_header {
    const void *name;
    const void *value;
    uint16_t name_len;
    uint16_t value_len;
} pawl_header;

/* A record, to write or as read. As read, pointers live as long as the batch or callback they came
 * with; use pawl_record_header() for its headers. */
typedef struct pawl_record {
    const void *key;
    const void *value;
    const pawl_header *headers; /* to write: header_count of them. As read: NULL */
    /* as read: encoded headers. To write: used instead of `headers` if not NULL */
    const void *raw_headers;
    int64_t timestamp_ns; /* to write: 0 = now */
    uint64_t offset;      /* as read; ignored when writing */
    uint64_t lsn;         /* as read: LSN of the commit's frame */
    uint32_t value_len;
    uint32_t stream;    /* as read */
    uint32_t partition; /* as read */
    uint16_t key_len;
    uint16_t header_count;    /* to write */
    uint16_t raw_headers_len; /* as read; or to write with raw_headers */
} pawl_record;

/* The index-th header of a record as read. Errors: NOT_FOUND when there are no more. */
PAWL_API int pawl_record_header(const pawl_record *r, uint32_t index, pawl_header *out);

/* ---------------------------------------------------------------- transactions */

typedef struct pawl_tx pawl_tx;
typedef struct pawl_producer pawl_producer;

/* What a commit did. */
typedef struct pawl_receipt {
    /* one past the commit's last byte: durable once the durable LSN is at least this */
    uint64_t lsn;
    /* offset of the first record of the transaction's first run; UINT64_MAX if there were no
     * records or (duplicate of an older sequence) it is not known any more */
    uint64_t offset;
    uint32_t stream; /* of that record, or 0 */
    uint32_t partition;
    int duplicate; /* 1: the producer sequence was there already; nothing was written */
} pawl_receipt;

/* Begins a transaction: any number of records to any streams, positions, producer sequences; all of
 * it becomes visible and durable together, or nothing. It blocks nobody while open, and holds
 * memory up to a share of the cap; beyond that it spills to the log. Errors: MEMORY, READ_ONLY, IO,
 * FORKED. */
PAWL_API int pawl_begin(pawl *p, pawl_tx **out);
/* Adds a record; its bytes are copied. Errors: NOT_FOUND, RANGE, TOO_LARGE, INVALID (headers),
 * MEMORY, FULL, IO, STATE. After an error the transaction can go on or be aborted; the failing
 * record is not in it. */
PAWL_API int pawl_put(pawl_tx *tx, uint32_t stream, uint32_t partition, const pawl_record *r);
/* Adds `count` records to one stream, in order, as so many calls of pawl_put() would, but at half
 * the cost of each. PAWL_ANY chooses for each record. Those without a timestamp get one and the
 * same. Errors as pawl_put(): then those before the one concerned are in the transaction. */
PAWL_API int pawl_put_many(pawl_tx *tx, uint32_t stream, uint32_t partition,
                           const pawl_record *records, size_t count);
/* Moves a processor's position over the input interval [from, to). `from` must be the committed
 * position at the time of commit. Errors: NOT_FOUND, RANGE (also: to beyond the partition's end, to
 * < from), LIMIT, MEMORY, STATE. TILING comes from the commit. */
PAWL_API int pawl_advance(pawl_tx *tx, uint32_t processor, uint32_t stream, uint32_t partition,
                          uint64_t from, uint64_t to);
/* Says that this transaction is the producer's sequence numbers first to last. `cookie` (at most 32
 * bytes, may be NULL) is kept with the sequence, for instance how far the source has been read.
 * Once per transaction. Errors: INVALID, FENCED, STATE. SEQUENCE comes from the commit. */
PAWL_API int pawl_tx_sequence(pawl_tx *tx, pawl_producer *producer, uint64_t first, uint64_t last,
                              const void *cookie, size_t cookie_len);

/* Commits; durable on return. `receipt` may be NULL. The transaction is gone whatever is returned,
 * except after PAWL_FULL and PAWL_MEMORY (space or memory may come: commit again, or abort).
 * Errors: FULL, MEMORY, TILING, SEQUENCE, FENCED, RANGE, TOO_LARGE, IO, FORKED. After an error
 * nothing of it is in the log. IO: whether it is, is known only after reopening. An empty
 * transaction commits without writing. */
PAWL_API int pawl_commit(pawl_tx *tx, pawl_receipt *receipt);

/* Called once for every pawl_commit_async() that returned 0: status 0, durable; or PAWL_IO. It must
 * not block; it may begin, put and commit_async. */
typedef void (*pawl_commit_fn)(void *arg, int status, const pawl_receipt *receipt);
/* Commits without waiting: 0 means appended, in order, not yet durable; `fn` (may be NULL) tells
 * when it is. Waits while all write buffers are under way (back-pressure). Errors as pawl_commit();
 * then `fn` is not called. */
PAWL_API int pawl_commit_async(pawl_tx *tx, pawl_commit_fn fn, void *arg, pawl_receipt *receipt);
/* Drops the transaction. Safe with NULL. */
PAWL_API void pawl_abort(pawl_tx *tx);

/* One record, durable on return. Errors as begin, put and commit. */
PAWL_API int pawl_append(pawl *p, uint32_t stream, uint32_t partition, const pawl_record *r,
                         pawl_receipt *receipt);

/* A descriptor that becomes readable when callbacks are due (app_dispatch) or new records became
 * durable, for poll(), select() or epoll. It is owned by the handle. Errors: UNSUPPORTED (also on a
 * read-only handle, where nothing would ring it), FORKED. */
PAWL_API int pawl_eventfd(pawl *p);
/* Runs the callbacks that are due and clears the descriptor. Returns how many ran. Errors:
 * FORKED. */
PAWL_API int pawl_dispatch(pawl *p);

/* ---------------------------------------------------------------- producers */

/* Takes a producer over by name (creating it), durably: an older holder's commits fail with
 * PAWL_FENCED from now on. Errors: INVALID, LIMIT, FULL, MEMORY, IO, READ_ONLY, FORKED. */
PAWL_API int pawl_producer_open(pawl *p, const char *name, pawl_producer **out);
/* Last committed sequence (0: none yet). The next is one more. */
PAWL_API uint64_t pawl_producer_sequence(const pawl_producer *producer);
/* Copies the cookie of the last committed sequence, at most 32 bytes; returns its length. */
PAWL_API int pawl_producer_cookie(const pawl_producer *producer, void *buf, size_t size);
/* Frees the handle; the producer's name and sequence stay for ever. Safe with NULL. */
PAWL_API void pawl_producer_close(pawl_producer *producer);

typedef struct pawl_producer_info {
    uint32_t id;
    uint32_t epoch;
    uint64_t sequence;
    char name[128];
} pawl_producer_info;
/* The index-th producer in order of id. Errors: NOT_FOUND. */
PAWL_API int pawl_producer_at(pawl *p, uint32_t index, pawl_producer_info *out);

/* ---------------------------------------------------------------- readers */

typedef struct pawl_reader pawl_reader;

enum pawl_read_flags {
    PAWL_READ_COMMITTED = 0,        /* durable records only */
    PAWL_READ_UNCOMMITTED = 1 << 0, /* appended ones too; only in the writing process */
};
#define PAWL_END UINT64_MAX /* as a starting offset: the durable end now */

typedef struct pawl_batch {
    const pawl_record *records;
    size_t count;
    /* the interval of offsets covered: to - from == count unless something was lost */
    uint64_t from, to;
} pawl_batch;

/* Reads one partition in order from offset `from`. Errors: NOT_FOUND, RANGE (beyond the end),
 * TRIMMED (err tells the first kept), MEMORY. */
PAWL_API int pawl_reader_open(pawl *p, uint32_t stream, uint32_t partition, uint64_t from,
                              uint32_t flags, pawl_reader **out);
/* The next records, at most `max` (0 = no limit but the buffer's), waiting up to timeout_ms for the
 * first (0 = don't, -1 = for ever). The batch lives until the next call on this reader. Returns the
 * count; 0 if nothing came in time. Errors: IO, DAMAGED (nothing is passed over: call again and get
 * it again), TRIMMED, LOST (records were taken out by repair or, with SALVAGE, can't be read:
 * batch->from and to tell which; the next call goes on behind them), STOPPED, FORKED. */
PAWL_API int pawl_read(pawl_reader *r, size_t max, int timeout_ms, pawl_batch *batch);
/* Goes to another offset. Errors as pawl_reader_open(). */
PAWL_API int pawl_reader_seek(pawl_reader *r, uint64_t offset);
/* Offset of the next record. */
PAWL_API uint64_t pawl_reader_position(const pawl_reader *r);
PAWL_API void pawl_reader_close(pawl_reader *r);

/* ---------------------------------------------------------------- processors */

typedef struct pawl_processor pawl_processor;
typedef struct pawl_context pawl_context;

/* Processes `count` >= 1 records of one partition, in order. Emits go through ctx. Return 0, or
 * anything else to say that it failed: then nothing of it is kept, and after retries the
 * processor's policy decides. Called by one thread at a time for a partition, by several for
 * different ones. */
typedef int (*pawl_process_fn)(pawl_context *ctx, const pawl_record *records, size_t count,
                               void *arg);

/* Emits a record into the batch's transaction; its bytes are copied. Errors as pawl_put(). */
PAWL_API int pawl_emit(pawl_context *ctx, uint32_t stream, uint32_t partition,
                       const pawl_record *r);
/* Emits `count` records, as pawl_put_many(). */
PAWL_API int pawl_emit_many(pawl_context *ctx, uint32_t stream, uint32_t partition,
                            const pawl_record *records, size_t count);
/* Tells why the batch fails, and at which record (its index; the ones before it are good). Kept for
 * the dead-letter record and the error. */
PAWL_API void pawl_fail(pawl_context *ctx, size_t index, const char *why);
/* The log, the partition being processed, and the number of earlier attempts at this very batch. */
PAWL_API pawl *pawl_context_log(pawl_context *ctx);
PAWL_API uint32_t pawl_context_partition(const pawl_context *ctx);
PAWL_API uint32_t pawl_context_attempt(const pawl_context *ctx);

enum pawl_guarantee {
    PAWL_EXACTLY_ONCE = 0,  /* outputs and position in one commit */
    PAWL_AT_LEAST_ONCE = 1, /* outputs durable first, then the position: a crash between doubles */
    /* the position durable first, then the outputs: a crash between loses */
    PAWL_AT_MOST_ONCE = 2
};
enum pawl_policy {
    PAWL_ON_ERROR_STOP = 0, /* pawl_run() returns PAWL_PROCESSOR */
    PAWL_ON_ERROR_SKIP = 1, /* pass over the record */
    PAWL_ON_ERROR_DEAD_LETTER =
        /* move it to the dead-letter stream, exactly once, with headers pawl-processor,
         * pawl-stream, pawl-partition, pawl-offset, pawl-error */
    2
};

typedef struct pawl_processor_config {
    size_t struct_size;
    const char *name;       /* positions are kept under it */
    const uint32_t *inputs; /* stream ids */
    uint32_t input_count;   /* 1 to 64 */
    int32_t guarantee;      /* enum pawl_guarantee */
    pawl_process_fn process;
    void *arg;
    uint32_t batch_max;   /* records a batch at most; 0 = 1000 */
    int32_t on_error;     /* enum pawl_policy */
    uint32_t dead_letter; /* stream id, for PAWL_ON_ERROR_DEAD_LETTER */
    /* further attempts at a failing record; UINT32_MAX = for ever; default 3 */
    uint32_t retries;
    /* before the first retry, doubled each time up to 64 times that; default 10 */
    uint32_t backoff_ms;
    /* 1: a processor with no position yet begins at the durable end, not at the first kept
     * record */
    uint32_t start_at_end;
    /* 1: consume only durable records (needed if the callback acts on the world outside the log) */
    uint32_t committed_input;
    uint64_t batch_bytes; /* bytes of input a batch at most; 0 = 1 MiB */
} pawl_processor_config;
#define PAWL_PROCESSOR_INIT \
    { sizeof(pawl_processor_config), 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 10, 0, 0, 0 }

/* Adds a processor to the handle and registers its name durably. Strings and arrays are copied;
 * `arg` must live until pawl_processor_remove() or close. Not while pawl_run() runs. Errors:
 * INVALID, NOT_FOUND, EXISTS (added already), LIMIT, FULL, MEMORY, IO, READ_ONLY, BUSY, FORKED. */
PAWL_API int pawl_processor_add(pawl *p, const pawl_processor_config *c, pawl_processor **out);
/* Takes it out of the handle and frees it; pawl_close() does so with those that are left. Not while
 * pawl_run() runs. NULL: does nothing. */
PAWL_API void pawl_processor_remove(pawl_processor *proc);

enum pawl_run_flags {
    /* end when every processor has consumed all there is, and that is durable; else run until
     * pawl_stop() */
    PAWL_RUN_UNTIL_IDLE = 1 << 0
};
/* Runs all processors added, with `threads` worker threads (0: in the calling thread). Blocks. A
 * stage consumes what the stage before has appended but not yet made durable, so a chain of stages
 * costs one flush. Returns 0 when idle or stopped, all of it durable. Errors: PROCESSOR
 * (pawl_last_error() has the reason), FULL (the log is full and the processor can't go on), IO,
 * DAMAGED, TRIMMED, MEMORY, BUSY, FORKED. What pawl_repair() took out is passed over: the position
 * moves behind it. */
PAWL_API int pawl_run(pawl *p, uint32_t threads, uint32_t flags);
/* Asks pawl_run() and waiting readers to end after the batch at hand; safe in a signal handler.
 * Stays in force until pawl_run() has returned. */
PAWL_API void pawl_stop(pawl *p);

/* Registers a processor's name without a callback, for positions that you move yourself with
 * pawl_advance(). Durable. `id` may be NULL. Existing: its id. It holds back retention in a
 * partition from its first advance there on; an empty one, from n to n, will do. Errors: INVALID,
 * LIMIT, FULL, IO, READ_ONLY. */
PAWL_API int pawl_processor_register(pawl *p, const char *name, uint32_t *id);
/* Forgets a processor and its positions, so that it no longer holds back retention. Errors:
 * NOT_FOUND, BUSY (running), FULL, IO. */
PAWL_API int pawl_processor_forget(pawl *p, const char *name);

typedef struct pawl_position {
    uint32_t processor;
    uint32_t stream;
    uint32_t partition;
    uint64_t offset; /* the next offset it will consume */
    char name[128];  /* the processor's */
} pawl_position;
/* Position of a processor; NOT_FOUND if it has none there yet. */
PAWL_API int pawl_position_get(pawl *p, const char *processor, uint32_t stream, uint32_t partition,
                               uint64_t *offset);
/* The index-th position in ascending order of ids. Errors: NOT_FOUND. */
PAWL_API int pawl_position_at(pawl *p, uint32_t index, pawl_position *out);
/* Name of the index-th registered processor. Errors: NOT_FOUND. */
PAWL_API int pawl_processor_at(pawl *p, uint32_t index, uint32_t *id, char name[128]);

/* ---------------------------------------------------------------- two-phase sinks: the decision */

/* In a transaction: decides that the sink's prepared transaction `name` (1 to 200 bytes) is to be
 * committed. Once this commit is durable, it is decided for ever; after a crash pawl_decision_at()
 * still lists it, until pawl_finish() is durable. Errors: NOT_FOUND, INVALID, EXISTS, LIMIT,
 * MEMORY, STATE. */
PAWL_API int pawl_decide(pawl_tx *tx, uint32_t processor, const char *name);
/* In a transaction: the sink has committed it. Errors: NOT_FOUND, MEMORY, STATE. */
PAWL_API int pawl_finish(pawl_tx *tx, uint32_t processor, const char *name);
typedef struct pawl_decision {
    uint32_t processor;
    char name[208];
} pawl_decision;
/* The index-th decided and unfinished one. Errors: NOT_FOUND. */
PAWL_API int pawl_decision_at(pawl *p, uint32_t index, pawl_decision *out);

/* ---------------------------------------------------------------- retention and status */

typedef struct pawl_retention {
    uint64_t bytes; /* drop the oldest segments while the log is larger than this; 0 = no limit */
    uint64_t ms;    /* drop segments whose newest frame is older than this; 0 = no limit */
    /* 1: drop a segment once every processor has passed it (a stream that no processor reads
     * doesn't hold it) */
    uint32_t consumed;
} pawl_retention;
/* Sets the log's retention, durably. Whole segments are dropped, oldest first, never one that a
 * processor has yet to read. All zero (the start): nothing is ever dropped. Errors: FULL, IO,
 * READ_ONLY, FORKED. */
PAWL_API int pawl_retention_set(pawl *p, const pawl_retention *r);
PAWL_API int pawl_retention_get(pawl *p, pawl_retention *out);
/* Applies retention now instead of within a second. Returns the number of segments dropped. */
PAWL_API int pawl_retention_apply(pawl *p);

typedef struct pawl_status {
    size_t struct_size;
    uint8_t log_id[16];
    uint64_t segment_size, disk_cap;
    uint64_t first_segment, last_segment; /* indexes of the oldest and newest begun segment */
    uint64_t disk_bytes;                  /* of all segment files, prepared ones included */
    uint64_t first_lsn, durable_lsn, end_lsn;
    uint64_t epoch; /* incarnation: times the log was opened for writing */
    uint64_t memory_used, memory_cap;
    uint64_t commits, records, groups, syncs, bytes_written, payload_bytes; /* since this open */
    uint64_t recovered_bytes;                                               /* scanned at open */
    uint64_t cut_bytes;   /* unacknowledged tail cut at open */
    uint64_t recovery_ns; /* time that opening took */
    int32_t backend;      /* the one in use */
    int32_t direct;       /* 1: O_DIRECT is in use */
    int32_t clean;        /* 1: the log had been closed in good order */
    /* read-only handles: pid of the live writer; 0: none; -1: can't be told */
    int32_t writer_pid;
    int32_t full;       /* 1: appends get PAWL_FULL now */
    uint32_t in_flight; /* groups being written */
    /* why this backend: "io_uring", "posix: io_uring_setup: Operation not permitted", ... */
    char backend_note[128];
    /* frames that come in the time of a write, a running mean: what the engine measures to choose
     * the next */
    uint32_t group_pace;
    /* frames that a further group waits for while others are under way (or until it is large); 0:
     * none, each frame goes at once */
    uint32_t group_wait;
    /* segments let go by retention whose files became later ones, since this open */
    uint64_t recycled;
} pawl_status;
#define PAWL_STATUS_INIT \
    { .struct_size = sizeof(pawl_status) }
/* Errors: FORKED. */
PAWL_API int pawl_get_status(pawl *p, pawl_status *out);

/* ---------------------------------------------------------------- looking into a log (read-only,
 * whole log) */

/* What verify, audit and repair tell, one call each finding. Pointers live during the call. */
typedef struct pawl_finding {
    int code;         /* PAWL_DAMAGED, PAWL_FOREIGN, PAWL_TILING, ...; 0: a remark, not a problem */
    uint64_t segment; /* its index */
    uint64_t lsn;
    uint64_t bytes; /* how many are concerned, 0 if it has no extent */
    /* short fixed name of the case, as in docs: "payload-damaged", "torn-tail", ... */
    const char *label;
    const char *message; /* a sentence */
} pawl_finding;
typedef void (*pawl_finding_fn)(void *arg, const pawl_finding *f);
typedef int (*pawl_progress_fn)(void *arg, uint64_t done, uint64_t total);

typedef struct pawl_check {
    size_t struct_size;
    pawl_finding_fn finding;   /* may be NULL */
    pawl_progress_fn progress; /* may be NULL; bytes */
    void *arg;                 /* for both */
    /* results */
    uint64_t segments, frames, commits, records, bytes, problems, torn_bytes;
    /* audit: intervals checked, of so many (processor, stream, partition) */
    uint64_t intervals, positions;
    uint64_t repaired;     /* repair: mended places */
    uint64_t lost_records; /* repair: records known to be lost */
    int32_t clean;         /* 1: ends with a clean close */
    int32_t live; /* 1: a writer had the log open; what it had not yet witnessed was not judged */
} pawl_check;
#define PAWL_CHECK_INIT \
    { .struct_size = sizeof(pawl_check) }

/* Reads every byte of every segment and checks all of docs/format.md. Returns 0 if all is well (a
 * torn tail is well), PAWL_DAMAGED, PAWL_FOREIGN or PAWL_VERSION if not; or the error that kept it
 * from checking (NOT_A_LOG, PERMISSION, IO, MEMORY). */
PAWL_API int pawl_verify(const char *dir, pawl_check *c, pawl_error *err);
/* Verifies, and shows that each processor's intervals tile each input and each partition's offsets
 * run without a gap. Returns as pawl_verify(), or PAWL_TILING. */
PAWL_API int pawl_audit(const char *dir, pawl_check *c, pawl_error *err);
/* Mends what verify finds: takes damaged bytes out into lost-….bin files beside the segments, puts
 * LOST frames in their place, restores header copies; everything behind the damage stays. Needs the
 * writer's lock. Findings tell what was lost. Returns 0 if the log can be opened now (even if
 * records were lost: see lost_records), else why not. */
PAWL_API int pawl_repair(const char *dir, pawl_check *c, pawl_error *err);

/* A frame as pawl_dump() shows it. */
typedef struct pawl_frame_info {
    uint64_t lsn, bytes, epoch, durable, time_ns, link, hash;
    const char *kind;  /* "COMMIT", "SPILL", ... */
    const char *state; /* "good", or the decision table's label for what ends the chain */
    uint32_t runs;
    const char *text; /* its runs, readable, a line each */
} pawl_frame_info;
/* Calls fn for each frame from the one at or after `from` (0: the oldest); a non-zero answer ends
 * it. Goes on to what ends the chain. Errors as pawl_verify(). */
typedef int (*pawl_frame_fn)(void *arg, const pawl_frame_info *f);
PAWL_API int pawl_dump(const char *dir, uint64_t from, pawl_frame_fn fn, void *arg,
                       pawl_error *err);

/* Where a record came from: the commit that holds it, and the input intervals that this commit
 * consumed. */
typedef struct pawl_origin {
    uint64_t lsn, time_ns, epoch;
    uint32_t input_count; /* how many intervals there are; at most 64 are given */
    struct {
        char processor[128];
        char stream[128];
        uint32_t partition;
        uint64_t from, to;
    } inputs[64];
    char producer[128]; /* "" if none */
    uint64_t sequence_first, sequence_last;
} pawl_origin;
/* Errors: NOT_FOUND (stream), RANGE, TRIMMED, DAMAGED, IO. */
PAWL_API int pawl_explain(pawl *p, uint32_t stream, uint32_t partition, uint64_t offset,
                          pawl_origin *out);

#ifdef __cplusplus
}
#endif
#endif
