/* SPDX-License-Identifier: Apache-2.0
 *
 * pawl.h - exactly-once stream pipelines inside one process, without a broker.
 *
 * One directory holds one totally ordered, checksummed log of input, output and processing
 * positions. A transaction is one frame under one checksum: after a crash it is there whole or not
 * at all.
 *
 *     pawl *log;
 *     pawl_open("data", NULL, &log, NULL);
 *     pawl_record r = { .value = "hello", .value_len = 5 };
 *     pawl_append(log, stream, PAWL_ANY, &r, NULL);     // durable when it returns 0
 *     pawl_close(log);
 *
 * CONVENTIONS
 *   Results     A function returns 0 or a positive count on success, and a negative code on
 *               failure (PAWL_ERRORS below; the values never change). The library never prints,
 *               exits or sets errno. pawl_last_error() says which call failed, on which file and
 *               offset, and what to do.
 *   Threads     Any number of threads may use a `pawl *` at once. A transaction, reader, producer
 *               or batch belongs to one thread at a time.
 *   Misuse      A transaction that was committed or aborted, and a reader, producer or processor
 *               that was closed, must not be used again. Such a call returns PAWL_STATE as long as
 *               the library can tell: it keeps the memory of the last few that ended.
 *   Fork        A child of fork() must not use a handle of its parent: every call returns
 *               PAWL_FORKED.
 *   One writer  One process at a time opens a directory for writing, once within the process
 *               (PAWL_LOCKED names the holder's pid). Any number of processes may read it at the
 *               same time (PAWL_OPEN_READ).
 *   Memory      The library does not keep the pointers that you pass after the call returns, unless
 *               the call's comment says so. Pointers that you get live as long as that comment
 *               says.
 *   Structs     A program built against an older header keeps working. One built against a newer
 *               header works as long as it asks for nothing that this version lacks.
 *               Initialise a struct that begins with struct_size with its _INIT macro. A smaller
 *               struct than this version's lacks the newer fields: they count as 0, and a result is
 *               filled in as far as it fits. A larger struct is accepted if the bytes that this
 *               version does not know are 0 (else PAWL_UNSUPPORTED). A struct smaller than in the
 *               first release is PAWL_INVALID.
 *               Structs without struct_size that you own never change: what they lack comes with a
 *               new function. Structs that you only get a pointer to may grow at their end.
 *   Checked     The compiler warns where the result of a PAWL_CHECKED function is ignored: it may
 *               be the only sign of a loss or a failure.
 *   Time        Nanoseconds since 1970-01-01 UTC in `_ns` fields, milliseconds in `_ms` ones. Sizes
 *               are bytes.
 *
 * LIMITS (a call beyond a limit returns the error named; nothing is truncated silently)
 *   record      value 16 MiB, key 65,535 bytes, encoded headers 65,535 bytes. Key, headers and
 *               value together: at most a quarter of a segment and a quarter of the memory cap,
 *               less 8 KiB; just below 8 MiB at the default cap of 32 MiB. Values of 16 MiB need
 *               segments of 64 MiB (the default) and a memory cap of 72 MiB (PAWL_TOO_LARGE)
 *   names       1 to 127 bytes of A-Z a-z 0-9 . _ - (PAWL_INVALID)
 *   tables      at a time 4,096 streams, 1,024 partitions a stream, 16,384 partitions, 16,384
 *               producers, 1,024 processors and 16,384 open decisions, and all tables together an
 *               eighth of a segment (PAWL_LIMIT). Ids are never used again
 *   offsets     below 2^63; sequences below 2^64 - 1. A log beyond limits is refused (PAWL_LIMIT)
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
#if defined(__GNUC__)
#define PAWL_CHECKED __attribute__((warn_unused_result))
#else
#define PAWL_CHECKED
#endif

/* ---------------------------------------------------------------- errors */

/* Name, value, text. The values are pinned: they never change and are never reused. */
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

/* An error in full. Plain data: copy it freely. */
typedef struct pawl_error {
    int code;      /* a PAWL_ code; 0: no error */
    int sys_errno; /* errno of the system call that failed, else 0 */
    uint64_t lsn;  /* the log address concerned, or UINT64_MAX */
    char call[24]; /* the call that failed: "write", "fdatasync", "open", ... or "" */
    char file[64]; /* file name inside the directory, or "" */
    /* one English sentence or two: what, where, and what to do; one line, fit to be shown */
    char message[384];
} pawl_error;

/* The short text of a code. Static, never NULL. */
PAWL_API const char *pawl_strerror(int code);
/* The name of a code without its prefix ("FULL"). Static, never NULL. */
PAWL_API const char *pawl_errname(int code);
/* The version of the linked library, "0.1.0". Static. */
PAWL_API const char *pawl_version(void);
/* Makes bytes of strangers fit to be shown on a terminal or in a log file: writes them to `out`
 * (`out_size` bytes with the NUL), with controls, invisible characters and those that break lines
 * or turn the direction of writing as \n, \t, \r or \uNNNN, and bytes that are not UTF-8 as \xNN.
 * So the text is one line. A backslash stays: showing a shown text changes nothing. `used` (may be
 * NULL) gets the number of bytes that found room; continue there. At most 6 bytes come of one.
 * Returns the length written. */
PAWL_API size_t pawl_show(const void *bytes, size_t size, size_t *used, char *out, size_t out_size);

/* ---------------------------------------------------------------- structs with a size */

/* The rule of *Structs* above, for libraries on top of this one whose structs also begin with a
 * size_t struct_size (pawl_connect does this). `smallest` is the struct's size in its first
 * release; `name` is for the error's text. */
/* Copies a caller's struct into `own`. Fields that the caller's struct lacks become 0, and own's
 * struct_size becomes own_size.
 * Errors: INVALID (missing or not initialised), UNSUPPORTED (bytes that this version does not know
 * are not 0). */
PAWL_API PAWL_CHECKED int pawl_struct_take(void *own, size_t own_size, const void *given,
                                           size_t smallest, const char *name);
/* Copies a result into a caller's struct, as far as its struct_size reaches; struct_size stays.
 * Errors: INVALID (missing or not initialised). */
PAWL_API PAWL_CHECKED int pawl_struct_give(void *given, size_t smallest, const void *own,
                                           size_t own_size, const char *name);

/* ---------------------------------------------------------------- open and close */

typedef struct pawl pawl;

enum pawl_open_flags {
    PAWL_OPEN_CREATE = 1 << 0, /* create the log (and the directory, mode 0700) if there is none */
    /* read-only; follows a live writer in another process without disturbing it */
    PAWL_OPEN_READ = 1 << 1,
    /* with READ: open a damaged log too; readers skip what cannot be read (PAWL_LOST) */
    PAWL_OPEN_SALVAGE = 1 << 2,
    PAWL_OPEN_EXCLUSIVE = 1 << 3 /* with CREATE: PAWL_EXISTS if there is a log already */
};

enum pawl_backend { PAWL_BACKEND_AUTO = 0, PAWL_BACKEND_URING = 1, PAWL_BACKEND_POSIX = 2 };
enum pawl_direct { PAWL_DIRECT_AUTO = 0, PAWL_DIRECT_ON = 1, PAWL_DIRECT_OFF = 2 };

enum pawl_log_severity { PAWL_LOG_REMARK = 1, PAWL_LOG_WARNING = 2, PAWL_LOG_ERROR = 3 };
/* Reports what the library does on its own: it chose a fallback, recovery cut an unacknowledged
 * tail, retention dropped segments, the log is full or has space again, the log has failed.
 * `message` is one sentence and lives during the call. A thread of the library, pawl_open(),
 * pawl_tick() or pawl_close() calls it, one call at a time for a handle and without the handle's
 * lock. It may call the library, but not pawl_close(). It should be short: retention and the
 * preparation of segments wait for it. */
typedef void (*pawl_log_fn)(void *arg, int severity, const char *message);

typedef struct pawl_options {
    size_t struct_size;
    uint32_t flags; /* enum pawl_open_flags */
    /* enum pawl_backend; AUTO: io_uring where it works, else pwritev2 and fdatasync */
    int32_t backend;
    int32_t direct; /* enum pawl_direct; AUTO: O_DIRECT where the file system supports it */
    int32_t block_when_full; /* 1: a commit waits for space instead of returning PAWL_FULL */
    /* on creation: bytes, a multiple of 1 MiB, 1 MiB to 4 GiB; 0 = 64 MiB */
    uint64_t segment_size;
    /* on creation: bytes for all segments together, at least 4 segments; 0 = none */
    uint64_t disk_cap;
    uint64_t memory_cap; /* bytes this handle may hold, at least 2 MiB; 0 = 32 MiB */
    /* delay of the idle witness after the last commit; 0 = 50; UINT32_MAX = no idle witness */
    uint32_t witness_ms;
    /* 1: callbacks run only in pawl_dispatch(); 0: in a thread of the library */
    uint32_t app_dispatch;
    uint32_t no_thread; /* 1: the library starts no thread; the application calls pawl_tick() */
    /* how long to wait for another writer's lock; 0 = 250. The last writes of a killed writer may
     * hold the lock after its death: if the holder's process is gone, or is in another PID
     * namespace, the wait is at least 10 s */
    uint32_t lock_wait_ms;
    /* called during recovery, in bytes. Its result is ignored */
    int (*progress)(void *arg, uint64_t done, uint64_t total);
    void *progress_arg;
    /* for crash tests: called at each point below; NULL: never */
    void (*on_point)(void *arg, const char *point);
    void *on_point_arg;
    /* tells what the library does by itself; NULL: nobody is told */
    pawl_log_fn log;
    void *log_arg;
} pawl_options;
#define PAWL_OPTIONS_INIT \
    { sizeof(pawl_options), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/* Named points of a log's life, at which a crash test can end the process (`pawl crashtest` does).
 * The callback must not call the library. Any thread of the handle may call it; at the points
 * marked * it does so with the handle's lock held. A NULL callback costs nothing. A read-only
 * handle has the close- points only. Later versions may add points; those listed here stay.
 *   pawl_open()    recovery-synced        what may have been only in the page cache is durable
 *                  recovery-scanned       the newest segment has been read and judged
 *                  incarnation-durable    the record of the new incarnation is durable. Not reached
 *                                         where the next segment's header has to be that record
 *   groups         group-submitted *      a group of frames is about to be submitted
 *                  group-completed *      the group is durable; earlier groups may not be
 *                  durable-advanced *     the durable LSN has moved; the threads that wait for it
 *                                         have not been woken yet
 *   segments       segment-written        a new segment's file is durable under its temporary name
 *                                         (also when a log is created, like the next two)
 *                  segment-named          it has its final name, perhaps not durably
 *                  segment-prepared       its name is durable
 *                  seal-appended *        a segment's last frame is in memory
 *                  header-submitted *     the next segment's header and checkpoint were submitted
 *                  segment-begun *        they are durable
 *                  segment-recycled       retention has renamed a file for a later segment, perhaps
 *                                         not durably
 *                  segment-dropped        retention has removed or renamed a file, perhaps not
 *                                         durably
 *   processors     outputs-durable        at-least-once: the outputs of a batch are durable, its
 *                                         position is not
 *                  position-durable       at-most-once: the position is durable, the callback has
 *                                         not run
 *   pawl_close()   close-begun, close-durable */

/* Opens the log in directory `dir`. `o` may be NULL: open an existing log for writing, with the
 * defaults. Opening for writing recovers: it finds the tail, makes it durable, and begins a new
 * incarnation durably. `*out` is the handle, which pawl_close() releases; NULL on error. `err` may
 * be NULL; else it gets the error in full. A log that a later version wrote to may be one to read
 * only here, or not even that: VERSION says what this version would have to know, and nothing was
 * changed.
 * Errors: INVALID, MEMORY, IO, LOCKED, NOT_A_LOG, VERSION, DAMAGED, FOREIGN, EXISTS, UNSUPPORTED,
 * PERMISSION, FULL (creation only), LIMIT (the log holds more than a log may). */
PAWL_API PAWL_CHECKED int pawl_open(const char *dir, const pawl_options *o, pawl **out,
                                    pawl_error *err);

/* Makes everything appended durable, marks the log as cleanly closed, and releases the handle.
 * While a transaction, reader, producer or scan of it is open, or pawl_run() runs, it returns
 * BUSY and changes nothing: finish them and close again. After any other result but FORKED the
 * handle is gone. Processors that are left are removed. 0 means that all data is durable, and the
 * mark too, unless the disk or memory had no room for the mark: the next opening then recovers as
 * after a crash. Safe with NULL.
 * Errors: IO (unacknowledged data may be lost), BUSY, FORKED. */
PAWL_API PAWL_CHECKED int pawl_close(pawl *p);

/* The error of the last failing call of this thread on any handle; the sticky one after PAWL_IO.
 * Always succeeds. */
PAWL_API void pawl_last_error(pawl_error *out);

/* The last error of a handle, in any thread: the sticky error once the handle has failed, else the
 * error of the last failing put, commit, read, run or sync. `out->code` is 0 if none has failed. It
 * serves a thread that supervises others, and shows errors of asynchronous commits and of the
 * library's threads.
 * Errors: INVALID, FORKED. */
PAWL_API PAWL_CHECKED int pawl_error_of(pawl *p, pawl_error *out);

/* Waits until everything appended so far is durable.
 * Errors: IO (also if the handle has failed before, even if everything was durable by then),
 * FORKED. */
PAWL_API PAWL_CHECKED int pawl_sync(pawl *p);

/* With no_thread: does the work of the background threads (prepares segments, writes the witness,
 * completes asynchronous commits). Returns the number of milliseconds after which to call it again.
 * Without no_thread: does nothing. */
PAWL_API int pawl_tick(pawl *p);

/* ---------------------------------------------------------------- streams */

/* Any partition: by the hash of the key (XXH3-64, seed 0, modulo the number of partitions), or the
 * partitions in turn for a record without a key. */
#define PAWL_ANY UINT32_MAX

typedef struct pawl_stream_info {
    uint32_t id;         /* from 1; never reused */
    uint32_t partitions; /* 1 to 1024 */
    char name[128];
} pawl_stream_info;

/* Creates a stream; durable on return. `id` may be NULL.
 * Errors: INVALID (name), EXISTS (then *id is the existing one's), LIMIT, FULL, IO, READ_ONLY,
 * FORKED. */
PAWL_API PAWL_CHECKED int pawl_stream_create(pawl *p, const char *name, uint32_t partitions,
                                             uint32_t *id);
/* Deletes a stream; durable on return. Its records can no longer be read, its positions are
 * dropped, and retention keeps nothing for it: the space is freed as segments are dropped. Open
 * readers of the stream get NOT_FOUND, as do transactions that put records into it or move
 * positions in it. The id is never reused: a new stream of this name gets a new id and begins at
 * offset 0. The last sequences of producers stay known.
 * Errors: NOT_FOUND, BUSY (a processor added to this handle reads it, or puts dead letters into
 * it), FULL, IO, READ_ONLY, FORKED. */
PAWL_API PAWL_CHECKED int pawl_stream_delete(pawl *p, const char *name);
/* What pawl_rename() renames. */
enum pawl_named { PAWL_NAMED_STREAM = 1, PAWL_NAMED_PRODUCER = 2, PAWL_NAMED_PROCESSOR = 3 };
/* Gives a stream, producer or processor (`what`: enum pawl_named) another name; durable on return.
 * Its id, records, positions and sequences stay. It is meant for what lost its name to damage, and
 * is called lost-N since (pawl_repair()); do it before the programs that use the name start, which
 * would create it anew. Until the log's next checkpoint, versions that don't know the change can't
 * read the log. The names lost-N can't be given.
 * Errors: INVALID (name), NOT_FOUND, EXISTS (the new name is in use), LIMIT, FULL, IO, READ_ONLY,
 * FORKED. */
PAWL_API PAWL_CHECKED int pawl_rename(pawl *p, int what, const char *name, const char *new_name);
/* Finds a stream by name.
 * Errors: NOT_FOUND. */
PAWL_API PAWL_CHECKED int pawl_stream_find(pawl *p, const char *name, pawl_stream_info *out);
/* Finds a stream by its id.
 * Errors: NOT_FOUND. */
PAWL_API PAWL_CHECKED int pawl_stream_get(pawl *p, uint32_t id, pawl_stream_info *out);
/* The index-th stream in order of id, from 0.
 * Errors: NOT_FOUND when there are no more. */
PAWL_API PAWL_CHECKED int pawl_stream_at(pawl *p, uint32_t index, pawl_stream_info *out);

typedef struct pawl_bounds {
    uint64_t first;   /* oldest offset still kept */
    uint64_t durable; /* one past the newest durable (committed) record */
    uint64_t end;     /* one past the newest appended record; >= durable */
} pawl_bounds;
/* Errors: NOT_FOUND, RANGE, IO, DAMAGED. */
PAWL_API PAWL_CHECKED int pawl_partition_bounds(pawl *p, uint32_t stream, uint32_t partition,
                                                pawl_bounds *out);

/* ---------------------------------------------------------------- records */

typedef struct pawl_header {
    const void *name;
    const void *value;
    uint16_t name_len;
    uint16_t value_len;
} pawl_header;

/* A record, to write or as read. The pointers of a record that was read live as long as its batch
 * or callback; pawl_record_header() gets its headers. */
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

/* Gets the index-th header of a record that was read.
 * Errors: NOT_FOUND when there are no more. */
PAWL_API int pawl_record_header(const pawl_record *r, uint32_t index, pawl_header *out);

/* ---------------------------------------------------------------- transactions */

typedef struct pawl_tx pawl_tx;
typedef struct pawl_producer pawl_producer;

/* What a commit did. */
typedef struct pawl_receipt {
    /* one past the commit's last byte: durable once the durable LSN is at least this */
    uint64_t lsn;
    /* offset of the first record of the transaction's first run; UINT64_MAX if it had no records,
     * or if it is a duplicate of an older sequence, whose offset is no longer known */
    uint64_t offset;
    uint32_t stream; /* of that record, or 0 */
    uint32_t partition;
    int duplicate; /* 1: the log had the producer sequence already; nothing was written */
} pawl_receipt;

/* Begins a transaction: any number of records to any streams, positions and producer sequences. All
 * of it becomes visible and durable together, or nothing does. An open transaction blocks no other
 * and no reader. It uses at most a share of the memory cap; what exceeds that spills to the log.
 * Errors: MEMORY, READ_ONLY, IO, FORKED. */
PAWL_API PAWL_CHECKED int pawl_begin(pawl *p, pawl_tx **out);
/* Adds a record; its bytes are copied.
 * Errors: NOT_FOUND, RANGE, TOO_LARGE, INVALID (headers), MEMORY, FULL, IO, STATE. After an error
 * the transaction can go on or be aborted; the failing record is not in it. */
PAWL_API PAWL_CHECKED int pawl_put(pawl_tx *tx, uint32_t stream, uint32_t partition,
                                   const pawl_record *r);
/* Adds `count` records to one stream, in order, as `count` calls of pawl_put() would, at half the
 * cost of each. PAWL_ANY chooses a partition for each record. Records without a timestamp all get
 * the same one.
 * Errors: as pawl_put(); the records before the failing one are then in the transaction. */
PAWL_API PAWL_CHECKED int pawl_put_many(pawl_tx *tx, uint32_t stream, uint32_t partition,
                                        const pawl_record *records, size_t count);
/* Moves a processor's position over the input interval [from, to). `from` must be the committed
 * position at the time of commit.
 * Errors: NOT_FOUND, RANGE (also: to beyond the partition's end, to < from), LIMIT, MEMORY, STATE.
 * TILING comes from the commit. */
PAWL_API PAWL_CHECKED int pawl_advance(pawl_tx *tx, uint32_t processor, uint32_t stream,
                                       uint32_t partition, uint64_t from, uint64_t to);
/* Gives this transaction the producer's sequence numbers first to last. `cookie` (at most 32 bytes,
 * may be NULL) is stored with the sequence, for instance how far the source has been read. At most
 * once in a transaction.
 * Errors: INVALID, FENCED, STATE. SEQUENCE comes from the commit. */
PAWL_API PAWL_CHECKED int pawl_tx_sequence(pawl_tx *tx, pawl_producer *producer, uint64_t first,
                                           uint64_t last, const void *cookie, size_t cookie_len);

/* Commits; durable on return. `receipt` may be NULL. The transaction is gone whatever is returned,
 * except after FULL, MEMORY and STOPPED (space or memory may come: commit again, or abort) and
 * FORKED. An empty transaction commits without writing.
 * Errors: FULL, MEMORY, STOPPED (block_when_full), TILING, SEQUENCE, FENCED, RANGE, TOO_LARGE, IO,
 * FORKED. After an error nothing of it is in the log. IO: whether it is, is known only after
 * reopening. */
PAWL_API PAWL_CHECKED int pawl_commit(pawl_tx *tx, pawl_receipt *receipt);

/* Called once for every pawl_commit_async() that returned 0. `status` is 0 (durable) or PAWL_IO. It
 * must not block; it may call pawl_begin(), pawl_put() and pawl_commit_async(). */
typedef void (*pawl_commit_fn)(void *arg, int status, const pawl_receipt *receipt);
/* Commits without waiting: 0 means appended, in order, but not durable yet; `fn` (may be NULL) is
 * called when it is. Waits while all write buffers are in flight (back-pressure).
 * Errors: as pawl_commit(); then `fn` is not called. */
PAWL_API PAWL_CHECKED int pawl_commit_async(pawl_tx *tx, pawl_commit_fn fn, void *arg,
                                            pawl_receipt *receipt);
/* Drops the transaction. Safe with NULL. */
PAWL_API void pawl_abort(pawl_tx *tx);

/* One record, durable on return.
 * Errors: as pawl_begin(), pawl_put() and pawl_commit(). */
PAWL_API PAWL_CHECKED int pawl_append(pawl *p, uint32_t stream, uint32_t partition,
                                      const pawl_record *r, pawl_receipt *receipt);

/* A descriptor for poll(), select() or epoll that becomes readable when callbacks are due
 * (app_dispatch) or new records have become durable. The handle owns it.
 * Errors: UNSUPPORTED (also on a read-only handle, which nothing would signal), FORKED. */
PAWL_API PAWL_CHECKED int pawl_eventfd(pawl *p);
/* Runs the callbacks that are due and clears the descriptor. Returns how many ran.
 * Errors: FORKED. */
PAWL_API int pawl_dispatch(pawl *p);

/* ---------------------------------------------------------------- what was read outside */

/* What the numbers of a thing count. */
enum pawl_outside_unit {
    PAWL_OUTSIDE_BYTES = 0,    /* bytes of a file */
    PAWL_OUTSIDE_MESSAGES = 1, /* a sender's messages */
    PAWL_OUTSIDE_ROWS = 2      /* a table's rows, or their keys */
};
enum pawl_outside_flags {
    /* The thing begins with this interval, or begins again: a file that was truncated, a table that
     * was emptied and counts from 1 again. Without it, `from` must be where the interval before
     * ended */
    PAWL_OUTSIDE_BEGINS = 1 << 0,
    /* The thing goes on where another one ended, which `note` names: a file that was replaced by a
     * longer copy of itself. `from` must be where the other one ended */
    PAWL_OUTSIDE_CONTINUES = 1 << 1,
    /* Nothing of the interval came into the log, and that is meant so: bytes that are gone, a hole,
     * "start: end", a record that the policy skips. `note` gives the reason */
    PAWL_OUTSIDE_PASSED = 1 << 2,
    /* The thing's numbers have gaps of their own: `from` may be above the end of the interval
     * before, but not below it */
    PAWL_OUTSIDE_SPARSE = 1 << 3
};
/* Where in the interval each record began. */
enum pawl_marks {
    PAWL_MARKS_NONE = 0, /* not known */
    /* the first at `from`, each next one `step` bytes after the end of the value before: lines */
    PAWL_MARKS_LINES = 1,
    PAWL_MARKS_NUMBERS = 2, /* the i-th at from + i */
    PAWL_MARKS_GIVEN = 3    /* as `marks` says */
};

/* An interval of something outside that was read: which thing, from where to where. */
typedef struct pawl_outside {
    size_t struct_size;
    /* The thing's identity, 1 to 255 bytes: what is one thing must always have the same one, also
     * after a restart, and two things must not share one. "file 2049:1311 /var/log/app.log",
     * "tcp 10.0.0.1 client 7" */
    const char *thing;
    const char *note; /* NULL, or at most 255 bytes: see the flags; else free text for people */
    /* from <= to. What was read is from <= x < to; of rows that are numbered by a key it is those
     * after `from`, up to `to` itself */
    uint64_t from, to;
    uint32_t flags; /* enum pawl_outside_flags */
    int32_t unit;   /* enum pawl_outside_unit */
    /* id of the stream that the thing's records go to. A thing is read once for each stream */
    uint32_t stream;
    int32_t mark_kind; /* enum pawl_marks */
    uint32_t step;     /* at most 65,535 */
    uint32_t reserved; /* 0 */
    /* PAWL_MARKS_GIVEN: for each record covered, where it began, from <= mark <= to */
    const uint64_t *marks;
    uint64_t mark_count;
} pawl_outside;
#define PAWL_OUTSIDE_INIT \
    { sizeof(pawl_outside), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/* Names what the transaction's records were read from. The interval covers the records put since
 * the call before, or since the transaction began; there may be none. pawl_audit() shows that each
 * thing's intervals join, and pawl_explain_outside() leads a record back. An interval costs about
 * 80 bytes in the log and the two texts, marks that are given one or two bytes a record.
 * `producer` (may be NULL) is the producer of the records. With `o` NULL the call only announces
 * others: it must come before the first record if the records go to more than one partition, since
 * the order of records of different partitions is otherwise not kept (STATE).
 * Errors: INVALID, NOT_FOUND (stream), TOO_LARGE (the intervals of a transaction and their marks
 * are larger than a record may be), MEMORY, STATE, READ_ONLY, IO, FORKED. After an error the
 * transaction can go on or be aborted; the interval is not in it. */
PAWL_API PAWL_CHECKED int pawl_tx_origin(pawl_tx *tx, const pawl_producer *producer,
                                         const pawl_outside *o);

/* ---------------------------------------------------------------- producers */

/* Takes a producer over by name, durably, and creates it if necessary. From now on, commits of an
 * older holder fail with PAWL_FENCED.
 * Errors: INVALID, LIMIT, FULL, MEMORY, IO, READ_ONLY, FORKED. */
PAWL_API PAWL_CHECKED int pawl_producer_open(pawl *p, const char *name, pawl_producer **out);
/* The last committed sequence (0: none yet). The next one is one higher. */
PAWL_API uint64_t pawl_producer_sequence(const pawl_producer *producer);
/* Copies the cookie of the last committed sequence, at most 32 bytes; returns its length. */
PAWL_API int pawl_producer_cookie(const pawl_producer *producer, void *buf, size_t size);
/* Frees the handle; the producer's name and sequence stay in the log. Safe with NULL. */
PAWL_API void pawl_producer_close(pawl_producer *producer);

typedef struct pawl_producer_info {
    uint32_t id;
    uint32_t epoch;
    uint64_t sequence; /* the last one committed; 0: none yet */
    char name[128];
} pawl_producer_info;
/* The index-th producer in order of id.
 * Errors: NOT_FOUND. */
PAWL_API PAWL_CHECKED int pawl_producer_at(pawl *p, uint32_t index, pawl_producer_info *out);
/* Finds a producer by name without taking it over; its holder is not disturbed. Works on read-only
 * handles too. `last` (may be NULL) gets stream, partition and offset of the first record of the
 * last sequence's transaction, with stream 0 if it had none; its other fields are 0. `cookie` gets
 * at most `size` bytes of the last sequence's cookie; it may be NULL with a size of 0. Returns the
 * cookie's length.
 * Errors: NOT_FOUND. */
PAWL_API PAWL_CHECKED int pawl_producer_find(pawl *p, const char *name, pawl_producer_info *out,
                                             pawl_receipt *last, void *cookie, size_t size);

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
    /* the offsets covered, from <= offset < to; to - from == count unless records were lost */
    uint64_t from, to;
} pawl_batch;

/* Opens a reader of one partition, in order, from offset `from`.
 * Errors: NOT_FOUND, RANGE (after the end), TRIMMED (the error's text names the first offset kept),
 * MEMORY. */
PAWL_API PAWL_CHECKED int pawl_reader_open(pawl *p, uint32_t stream, uint32_t partition,
                                           uint64_t from, uint32_t flags, pawl_reader **out);
/* Gets the next records, at most `max` (0 = only the buffer limits them). Waits up to timeout_ms
 * for the first one (0 = does not wait, -1 = no limit). The batch lives until the next call on this
 * reader. Returns the number of records; 0 if none came in time.
 * Errors: IO, DAMAGED (the reader skips nothing: the next call returns the same), TRIMMED, LOST
 * (repair took records out, or with SALVAGE they cannot be read: batch->from and to say which; the
 * next call continues after them), STOPPED, FORKED. */
PAWL_API PAWL_CHECKED int pawl_read(pawl_reader *r, size_t max, int timeout_ms, pawl_batch *batch);
/* Moves to another offset.
 * Errors: as pawl_reader_open(). */
PAWL_API PAWL_CHECKED int pawl_reader_seek(pawl_reader *r, uint64_t offset);
/* The offset of the next record. */
PAWL_API uint64_t pawl_reader_position(const pawl_reader *r);
PAWL_API void pawl_reader_close(pawl_reader *r);

/* A reader of any number of partitions, of one or several streams, with one wait for all of them.
 * Like a pawl_reader it belongs to one thread at a time. It keeps the order within a partition and
 * takes the partitions in turn, batch by batch, so that none is starved. */
typedef struct pawl_any pawl_any;

/* A place in a partition: the record at `offset`. This struct never grows. */
typedef struct pawl_place {
    uint32_t stream, partition;
    uint64_t offset;
} pawl_place;

/* Opens a reader of `count` partitions, each from its offset on (PAWL_END: the durable end now).
 * `count` may be 0: add them later. `flags` are those of pawl_reader_open().
 * Errors: as pawl_reader_open(); EXISTS (a partition is named twice). */
PAWL_API PAWL_CHECKED int pawl_any_open(pawl *p, const pawl_place *from, size_t count,
                                        uint32_t flags, pawl_any **out);
/* Adds a partition to the reader, or removes one.
 * Errors: add: as pawl_reader_open(); EXISTS (the reader has it already). Remove: NOT_FOUND. */
PAWL_API PAWL_CHECKED int pawl_any_add(pawl_any *a, const pawl_place *from);
PAWL_API PAWL_CHECKED int pawl_any_remove(pawl_any *a, uint32_t stream, uint32_t partition);
/* Gets the next records of one partition that has some, at most `max`, and waits up to timeout_ms
 * for the first one, as pawl_read(). `at` (may be NULL) gets the partition of the batch or of the
 * error, and the batch's first offset. The batch lives until the next call on this reader. Returns
 * the number of records; 0 if none came in time.
 * A wait makes no system call until records of this reader's partitions arrive or the time is over.
 * A read-only handle is not signalled when another process appends: it looks every 10 ms.
 * Errors: as pawl_read(). After an error of one partition, the next call continues with the others
 * first. */
PAWL_API PAWL_CHECKED int pawl_read_any(pawl_any *a, size_t max, int timeout_ms, pawl_batch *batch,
                                        pawl_place *at);
/* Moves to another offset in one of its partitions.
 * Errors: as pawl_reader_open(); NOT_FOUND also if the reader does not have the partition. */
PAWL_API PAWL_CHECKED int pawl_any_seek(pawl_any *a, const pawl_place *to);
/* The offset of the next record of a partition; PAWL_END if the reader does not have it. */
PAWL_API uint64_t pawl_any_position(const pawl_any *a, uint32_t stream, uint32_t partition);
/* A descriptor for poll(), select() or epoll that is readable while there is something to read:
 * durable records, or with PAWL_READ_UNCOMMITTED appended ones. A call of pawl_read_any() that
 * returns 0 clears it, so read until then before you poll again. The reader owns it.
 * Errors: UNSUPPORTED (also on a read-only handle, which nothing would signal), FORKED. */
PAWL_API PAWL_CHECKED int pawl_any_fd(pawl_any *a);
/* Safe with NULL. */
PAWL_API void pawl_any_close(pawl_any *a);

/* ---------------------------------------------------------------- processors */

typedef struct pawl_processor pawl_processor;
typedef struct pawl_context pawl_context;

/* Processes `count` >= 1 records of one partition, in order, and emits through ctx. Any result but
 * 0 says that the batch failed: nothing of it is kept, and after the retries the processor's policy
 * decides. One thread at a time calls it for a partition; several threads may call it for different
 * partitions. */
typedef int (*pawl_process_fn)(pawl_context *ctx, const pawl_record *records, size_t count,
                               void *arg);

/* Emits a record into the batch's transaction; its bytes are copied.
 * Errors: as pawl_put(). */
PAWL_API PAWL_CHECKED int pawl_emit(pawl_context *ctx, uint32_t stream, uint32_t partition,
                                    const pawl_record *r);
/* Emits `count` records, as pawl_put_many(). */
PAWL_API PAWL_CHECKED int pawl_emit_many(pawl_context *ctx, uint32_t stream, uint32_t partition,
                                         const pawl_record *records, size_t count);
/* Says why the batch fails, and at which record (its index; the records before it are good). The
 * text goes into the dead-letter record and the error. */
PAWL_API void pawl_fail(pawl_context *ctx, size_t index, const char *why);
/* As pawl_fail(), for a record that can never be processed: the policy applies, without retries. */
PAWL_API void pawl_refuse(pawl_context *ctx, size_t index, const char *why);
/* No record is at fault: the batch is tried again, with growing pauses, until it works; or the
 * processor itself must be mended, and fails for good. Retries and policy don't apply. */
PAWL_API void pawl_try_later(pawl_context *ctx, const char *why);
PAWL_API void pawl_broken(pawl_context *ctx, const char *why);
/* The log, the partition that is processed, and the number of earlier attempts at this batch. */
PAWL_API pawl *pawl_context_log(pawl_context *ctx);
PAWL_API uint32_t pawl_context_partition(const pawl_context *ctx);
PAWL_API uint32_t pawl_context_attempt(const pawl_context *ctx);

enum pawl_guarantee {
    PAWL_EXACTLY_ONCE = 0,  /* outputs and position in one commit */
    PAWL_AT_LEAST_ONCE = 1, /* outputs durable, then the position: a crash doubles records */
    PAWL_AT_MOST_ONCE = 2   /* the position durable, then the outputs: a crash loses records */
};
enum pawl_policy {
    PAWL_ON_ERROR_STOP = 0, /* pawl_run() returns PAWL_PROCESSOR */
    PAWL_ON_ERROR_SKIP = 1, /* skip the record */
    /* to the dead-letter stream, exactly once, with headers pawl-processor, -stream, -partition,
     * -offset and -error; if it is too large then, cut to 64 KiB, and -length has the length */
    PAWL_ON_ERROR_DEAD_LETTER = 2
};

/* Gets the error of a processor that has failed for good; the error is valid during the call. */
typedef void (*pawl_failed_fn)(void *arg, const char *name, const pawl_error *e);

typedef struct pawl_processor_config {
    size_t struct_size;
    const char *name;       /* the log keeps its positions under this name */
    const uint32_t *inputs; /* stream ids */
    uint32_t input_count;   /* 1 to 64 */
    int32_t guarantee;      /* enum pawl_guarantee */
    pawl_process_fn process;
    void *arg;
    /* at most this many records in a batch; 0 = 10,000: a batch grows with the backlog */
    uint32_t batch_max;
    int32_t on_error;     /* enum pawl_policy */
    uint32_t dead_letter; /* stream id, for PAWL_ON_ERROR_DEAD_LETTER */
    /* further attempts at a failing record; UINT32_MAX = no limit; default 3 */
    uint32_t retries;
    /* pause before the first retry; doubles each time, up to 64 times this; default 10 */
    uint32_t backoff_ms;
    /* 1: a processor without a position begins at the durable end, not at the first record kept */
    uint32_t start_at_end;
    /* 1: consume only durable records (needed if the callback acts on the world outside the log) */
    uint32_t committed_input;
    uint64_t batch_bytes; /* at most this many bytes of input in a batch; 0 = 1 MiB */
    /* NULL: an error of this processor ends pawl_run(). Else a failure is this processor's alone:
     * it takes no more records until it is removed and added again, `failed` is called once, by a
     * worker thread and outside the lock, and the other processors go on. Pauses before retries
     * delay no other processor, a full log or a lack of memory is waited out, and with
     * committed_input the processor has a worker thread of its own. `failed` must not call
     * functions of this handle that wait. */
    pawl_failed_fn failed;
    void *failed_arg;
} pawl_processor_config;
#define PAWL_PROCESSOR_INIT \
    { sizeof(pawl_processor_config), 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 10, 0, 0, 0, 0, 0 }

/* Adds a processor to the handle and registers its name durably. Strings and arrays are copied;
 * `arg` must live until pawl_processor_remove() or pawl_close(). Not allowed while pawl_run() runs.
 * Errors: INVALID, NOT_FOUND, EXISTS (added already), LIMIT, FULL, MEMORY, IO, READ_ONLY, BUSY,
 * FORKED. */
PAWL_API PAWL_CHECKED int pawl_processor_add(pawl *p, const pawl_processor_config *c,
                                             pawl_processor **out);
/* Removes a processor from the handle and frees it; pawl_close() does this for those that are left.
 * Not allowed while pawl_run() runs. Safe with NULL. */
PAWL_API void pawl_processor_remove(pawl_processor *proc);

/* Tells how many records on_error has passed over or moved to the dead-letter stream since the
 * processor was added, and why the last of them: `why` (may be NULL) gets at most `size` bytes,
 * with a NUL. Any thread may call it.
 * Errors: INVALID, FORKED. */
PAWL_API PAWL_CHECKED int pawl_processor_refused(pawl_processor *proc, uint64_t *count, char *why,
                                                 size_t size);

enum pawl_run_flags {
    /* end when every processor has consumed all there is, and that is durable; else run until
     * pawl_stop() */
    PAWL_RUN_UNTIL_IDLE = 1 << 0
};
/* Runs all processors added, with `threads` worker threads (0: in the calling thread). Blocks. A
 * stage consumes what the stage before has appended but not yet made durable, so a chain of stages
 * costs one flush. Returns 0 when idle. On return everything is durable, also when stopped. Records
 * that pawl_repair() took out are skipped: the position moves past them. Processors with `failed`
 * set that fail don't end it; to "idle" they count as done.
 * Errors: STOPPED (a stop ended it, or is in force), PROCESSOR (pawl_last_error() has the reason),
 * FULL (the log is full and the processor can't go on), IO, DAMAGED, TRIMMED, MEMORY, BUSY,
 * FORKED. */
PAWL_API PAWL_CHECKED int pawl_run(pawl *p, uint32_t threads, uint32_t flags);
/* Ends every wait on the handle at once, with PAWL_STOPPED: pawl_run() ends after the current
 * batch, readers stop waiting for records, and commits stop waiting for space (block_when_full).
 * Calls that need no such wait work as before: existing records are read, and commits become
 * durable. Safe in a signal handler. It stays in force until pawl_stop_clear(). */
PAWL_API void pawl_stop(pawl *p);
/* Ends the effect of pawl_stop(), so that calls on the handle may wait again. Call it after the
 * stopped calls have returned. Safe with NULL. */
PAWL_API void pawl_stop_clear(pawl *p);

/* Registers a processor's name without a callback, for positions that you move with pawl_advance().
 * Durable on return. `id` may be NULL; it gets the id, also of an existing processor. The processor
 * holds back retention in a partition from its first advance there; an empty one, from n to n, is
 * enough.
 * Errors: INVALID, LIMIT, FULL, IO, READ_ONLY. */
PAWL_API PAWL_CHECKED int pawl_processor_register(pawl *p, const char *name, uint32_t *id);
/* Forgets a processor, its positions and open decisions, durably; it holds back retention no more.
 * Errors: NOT_FOUND, BUSY (running, or it owns a table), FULL, IO. */
PAWL_API PAWL_CHECKED int pawl_processor_forget(pawl *p, const char *name);

typedef struct pawl_position {
    uint32_t processor;
    uint32_t stream;
    uint32_t partition;
    uint64_t offset; /* the next offset that the processor consumes */
    char name[128];  /* of the processor */
} pawl_position;
/* Gets a processor's position.
 * Errors: NOT_FOUND (also if it has no position there yet). */
PAWL_API PAWL_CHECKED int pawl_position_get(pawl *p, const char *processor, uint32_t stream,
                                            uint32_t partition, uint64_t *offset);
/* The index-th position in ascending order of ids.
 * Errors: NOT_FOUND. */
PAWL_API PAWL_CHECKED int pawl_position_at(pawl *p, uint32_t index, pawl_position *out);
/* Name of the index-th registered processor.
 * Errors: NOT_FOUND. */
PAWL_API PAWL_CHECKED int pawl_processor_at(pawl *p, uint32_t index, uint32_t *id, char name[128]);

/* ---------------------------------------------------------------- two-phase sinks: the decision */

/* In a transaction: decides that the sink's prepared transaction `name` (1 to 200 bytes) must be
 * committed. Once this commit is durable, the decision is final; pawl_decision_at() lists it, also
 * after a crash, until pawl_finish() is durable.
 * Errors: NOT_FOUND, INVALID, EXISTS, LIMIT, MEMORY, STATE. */
PAWL_API PAWL_CHECKED int pawl_decide(pawl_tx *tx, uint32_t processor, const char *name);
/* In a transaction: records that the sink has committed `name`.
 * Errors: NOT_FOUND, MEMORY, STATE. */
PAWL_API PAWL_CHECKED int pawl_finish(pawl_tx *tx, uint32_t processor, const char *name);
typedef struct pawl_decision {
    uint32_t processor;
    char name[208];
} pawl_decision;
/* The index-th decided and unfinished one, the oldest first. When one is finished, the later ones
 * move down by one: to miss none that another thread leaves open, count the index down.
 * Errors: NOT_FOUND. */
PAWL_API PAWL_CHECKED int pawl_decision_at(pawl *p, uint32_t index, pawl_decision *out);

/* ---------------------------------------------------------------- retention and status */

typedef struct pawl_retention {
    uint64_t bytes; /* drop the oldest segments while the log is larger than this; 0 = no limit */
    /* drop segments whose newest frame is older than this; 0 = no limit. Age is time that has
     * certainly passed: setting the clock makes no record older or younger */
    uint64_t ms;
    /* 1: drop a segment once every processor has passed it (a stream that no processor reads holds
     * nothing back) */
    uint32_t consumed;
} pawl_retention;
/* Sets the log's retention, durably. Retention drops whole segments, oldest first, and never one
 * that a processor has yet to read. All zero, the initial setting: nothing is ever dropped.
 * Errors: FULL, IO, READ_ONLY, FORKED. */
PAWL_API PAWL_CHECKED int pawl_retention_set(pawl *p, const pawl_retention *r);
PAWL_API PAWL_CHECKED int pawl_retention_get(pawl *p, pawl_retention *out);
/* Sets the disk cap: what all segments and runs together may take, at least 4 segments; 0 = none.
 * Durable on return, and kept when the log is reopened. The cap may be below the present use: the
 * existing files are filled, and then appends get FULL until retention has dropped enough.
 * Errors: INVALID, FULL (no room is left even for this), IO, READ_ONLY, FORKED. */
PAWL_API PAWL_CHECKED int pawl_disk_cap_set(pawl *p, uint64_t bytes);
/* Applies retention now, instead of within a second. Returns the number of segments dropped. */
PAWL_API PAWL_CHECKED int pawl_retention_apply(pawl *p);

typedef struct pawl_status {
    size_t struct_size;
    uint8_t log_id[16];
    uint64_t segment_size, disk_cap;
    uint64_t first_segment, last_segment; /* indexes of the oldest and newest begun segment */
    uint64_t disk_bytes;                  /* of all segment files, prepared ones included */
    uint64_t first_lsn, durable_lsn, end_lsn;
    uint64_t epoch; /* incarnation: how often the log was opened for writing */
    uint64_t memory_used, memory_cap;
    uint64_t commits, records, groups, syncs, bytes_written, payload_bytes; /* since this open */
    uint64_t recovered_bytes;                                               /* scanned at open */
    uint64_t cut_bytes;   /* unacknowledged tail that was cut at open */
    uint64_t recovery_ns; /* time that opening took */
    int32_t backend;      /* the backend in use */
    int32_t direct;       /* 1: O_DIRECT is in use */
    int32_t clean;        /* 1: the log had been closed cleanly */
    int32_t writer_pid;   /* read-only handles: of the live writer; 0: none; -1: unknown */
    int32_t full;         /* 1: appends get PAWL_FULL now */
    uint32_t in_flight;   /* groups being written */
    /* why this backend: "io_uring", "posix: io_uring_setup: Operation not permitted", ... */
    char backend_note[128];
    /* frames that arrive during one write, a running mean; group_wait follows from it */
    uint32_t group_pace;
    /* frames that a further group waits for while others are in flight, unless it is large; 0: each
     * frame is submitted at once */
    uint32_t group_wait;
    /* dropped segments whose files became later segments, since this open */
    uint64_t recycled;
    /* Features of the log, one bit each (docs/format.md): those a version must know to read the
     * log, to write it, and those it may ignore. With an unknown bit in features_write, this
     * version can only read the log. */
    uint64_t features_read, features_write, features_ignore;
    uint64_t runs, run_bytes; /* of keyed state: pawl_state.h */
} pawl_status;
#define PAWL_STATUS_INIT \
    { \
        sizeof(pawl_status), {0}, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, \
            0, 0, 0, 0, 0, {0}, 0, 0, 0, 0, 0, 0, 0, 0 \
    }
/* Errors: FORKED. */
PAWL_API PAWL_CHECKED int pawl_get_status(pawl *p, pawl_status *out);

/* ---------------------------------------------------------------- looking into a whole log */

/* A finding of verify, audit or repair; the callback is called once for each. Pointers live during
 * the call. */
typedef struct pawl_finding {
    int code;         /* PAWL_DAMAGED, PAWL_FOREIGN, PAWL_TILING, ...; 0: a remark, not a problem */
    uint64_t segment; /* its index */
    uint64_t lsn;
    uint64_t bytes;      /* length of the place, 0 if it has none */
    const char *label;   /* short fixed name of the case: "payload-damaged", "torn-tail", ... */
    const char *message; /* one sentence */
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
    /* audit: intervals checked, and the number of (processor, stream, partition) they belong to */
    uint64_t intervals, positions;
    uint64_t repaired;     /* repair: places mended */
    uint64_t lost_records; /* records known to be lost; after repair, in what it has mended now */
    int32_t clean;         /* 1: the log ends with a clean close */
    int32_t live; /* 1: a writer had the log open; bytes without a witness yet were not judged */
    /* audit, of what was read outside (pawl_tx_origin()): things, intervals, intervals passed over,
     * times that a thing began again, findings of the same content read as two things */
    uint64_t things, outside, passed_over, begun_again, twice;
    /* what damage took (docs/format.md, section 9): commits and the catalog changes in them, as far
     * as they are known; places of which it is unknown what they held; streams, producers and
     * processors that have lost their names, and are called lost-N */
    uint64_t lost_commits, lost_changes, lost_unknown, lost_names;
    /* of the lost commits, those after which no checkpoint came: what they held is only told as far
     * as later commits show it, so lost_records may be too low */
    uint64_t lost_untold;
    uint64_t memory_cap; /* set by the caller: bytes of memory at most; 0: 128 MiB */
    uint64_t runs, run_bytes, state_pairs, state_problems; /* of keyed state alone */
} pawl_check;
#define PAWL_CHECK_INIT \
    { \
        sizeof(pawl_check), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, \
            0, 0, 0, 0, 0, 0, 0, 0 \
    }

/* Reads every byte of all segments and runs and checks everything in docs/format.md, digests of
 * tables included. 0: the log is well, as a torn tail is. Takes `memory_cap` bytes at most.
 * Errors: DAMAGED, FOREIGN, VERSION or LIMIT if it is not; NOT_A_LOG, PERMISSION, IO or MEMORY if
 * it could not be checked. */
PAWL_API PAWL_CHECKED int pawl_verify(const char *dir, pawl_check *c, pawl_error *err);
/* Verifies, and checks that each processor's intervals tile each input, and that each partition's
 * offsets have no gap. What was read outside (pawl_tx_origin()) is checked too: for each stream and
 * thing the intervals must join, and no content may have come twice as two things. Up to 65,536
 * things are followed at once; of more, those not read for longest are forgotten, with a remark.
 * Errors: as pawl_verify(), and TILING. */
PAWL_API PAWL_CHECKED int pawl_audit(const char *dir, pawl_check *c, pawl_error *err);
/* Mends what verify finds. Moves damaged bytes to lost-LSN.bin files beside the segments, puts LOST
 * frames in their place, and restores header copies; everything after the damage stays. Damaged
 * runs of state are written anew if the log still has the frames that made them. Takes the writer's
 * lock. Then it verifies the mended log, opens it, and checks what the next writer would. The
 * findings say what was lost: records, commits, positions, sequences, names; where that can't be
 * known, they say so. Nothing was lost if lost_records, lost_commits, lost_unknown, lost_names and
 * state_problems are 0. What has lost its name is called lost-N (pawl_rename()); no id is given
 * again. Returns 0 if the log can be opened now, even if something was lost, else why it can't. */
PAWL_API PAWL_CHECKED int pawl_repair(const char *dir, pawl_check *c, pawl_error *err);

/* A frame as pawl_dump() shows it; link and hash are fingerprints, equal for equal ones. */
typedef struct pawl_frame_info {
    uint64_t lsn, bytes, epoch, durable, time_ns, link, hash;
    const char *kind;  /* "COMMIT", "SPILL", ... */
    const char *state; /* "good", or the decision table's label of what ends the chain */
    uint32_t runs;
    const char *text; /* its runs as text, a line each; names in it went through pawl_show() */
} pawl_frame_info;
typedef int (*pawl_frame_fn)(void *arg, const pawl_frame_info *f);
/* Calls fn for each frame from `from` on (0: the oldest), up to and including what ends the chain.
 * A result of fn other than 0 ends it.
 * Errors: as pawl_verify(). */
PAWL_API PAWL_CHECKED int pawl_dump(const char *dir, uint64_t from, pawl_frame_fn fn, void *arg,
                                    pawl_error *err);

/* The origin of a record: the commit that holds it, and the input intervals that this commit
 * consumed. */
typedef struct pawl_origin {
    uint64_t lsn, time_ns, epoch;
    uint32_t input_count; /* number of intervals; at most 64 of them are in `inputs` */
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
PAWL_API PAWL_CHECKED int pawl_explain(pawl *p, uint32_t stream, uint32_t partition,
                                       uint64_t offset, pawl_origin *out);

/* Where outside the log a record was read. */
typedef struct pawl_outside_place {
    size_t struct_size;
    uint64_t lsn;      /* of the commit */
    uint64_t from, to; /* the interval of the thing that was read with the record */
    /* where in the thing the record began, and where the next one; UINT64_MAX: not known */
    uint64_t at, end;
    uint32_t flags;     /* enum pawl_outside_flags */
    int32_t unit;       /* enum pawl_outside_unit */
    char producer[128]; /* "" if none */
    char thing[256];    /* this and the note are texts of a source, as it gave them: pawl_show() */
    char note[256];
} pawl_outside_place;
#define PAWL_OUTSIDE_PLACE_INIT \
    { \
        sizeof(pawl_outside_place), 0, 0, 0, 0, 0, 0, 0, {0}, {0}, { \
            0 \
        } \
    }
/* Leads a record back to where it was read outside the log, as its commit names it
 * (pawl_tx_origin()).
 * Errors: NOT_FOUND (stream, or the record's commit names nothing outside for it), RANGE, TRIMMED,
 * DAMAGED, IO, MEMORY, INVALID, FORKED. */
PAWL_API PAWL_CHECKED int pawl_explain_outside(pawl *p, uint32_t stream, uint32_t partition,
                                               uint64_t offset, pawl_outside_place *out);

#ifdef __cplusplus
}
#endif
#endif
