/* SPDX-License-Identifier: Apache-2.0
 *
 * pawl_connect.h - sources and sinks: exactly-once past the log's edge.
 *
 * A second library beside libpawl (link pawl_connect and pawl; CMake: pawl::pawl_connect). It uses
 * pawl.h only. A *sink* carries the records of streams to a target (a database, files, a program),
 * a *source* brings records from the world into a stream. Who writes one fills a struct of
 * functions; the runtime here does the rest: batches, positions, recovery, retries, dead letters,
 * threads. docs/connectors.md has the protocols and what a crash at each step leaves;
 * examples/sink.c is a whole sink.
 *
 *     pawl_sink_ops ops = PAWL_SINK_OPS_INIT;                       // your functions, or
 *                                                                   pawl_sink_make("postgres", ...)
 *     pawl_sink_config c = PAWL_SINK_CONFIG_INIT;
 *     c.name = "to-db", c.inputs = &stream, c.input_count = 1;
 *     pawl_sink_add(log, &c, &ops, &sink, &err);
 *     pawl_sink_start(sink);  ...  pawl_sink_stop(sink, 10000);  pawl_sink_remove(sink);
 *
 * CONVENTIONS are those of pawl.h: codes, names, struct sizes, times, sizes, forks. What differs:
 *   Errors      Functions return PAWL_ codes; where they take a `pawl_error *err` (may be NULL) it
 *               gets the text. What happens later, in a sink's or source's own thread, is in its
 *               status. Your own functions return an enum pawl_outcome.
 *   Threads     Functions of one pawl_sink or pawl_source may be called by any thread, but step()
 *               by one at a time and not after start(); remove() by the last user. Your functions
 *               of one `self` are called by one thread at a time, status() apart.
 *   Lifetime    A sink or source must be removed before its log is closed. `self` must live until
 *               destroy() has been called.
 */
#ifndef PAWL_CONNECT_H
#define PAWL_CONNECT_H

#include "pawl.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---------------------------------------------------------------- what your functions answer */

/* What a function of a sink or source answers. Anything but DONE comes with a text in the fault. */
enum pawl_outcome {
    PAWL_DONE = 0,
    /* may work later: target absent, slow, full; deadlock; connection lost. Whether the call took
     * effect may be unknown: the runtime aborts, waits, opens again and recovers before anything
     * else */
    PAWL_RETRY = 1,
    /* this record will never be taken; fault.offset says which, or UINT64_MAX: the runtime finds
     * out by halves */
    PAWL_POISON = 2,
    /* stop: someone has to look (table missing, permission denied, wrong settings) */
    PAWL_FATAL = 3,
    /* position(): none stored. commit_prepared(), rollback_prepared(): not held. committed(): its
     * effect isn't there */
    PAWL_GONE = 4,
    PAWL_UNKNOWN = 5, /* committed(): can't be told */
    PAWL_ENDED = 6    /* read() of a source: there will be no more */
};

typedef struct pawl_fault {
    uint64_t offset;   /* POISON: the record's offset; UINT64_MAX: not known */
    char message[400]; /* one sentence: what, and what to do */
} pawl_fault;

/* Sets the text (printf-like; cut if too long) and returns `outcome`: return pawl_fault_set(f,
 * PAWL_RETRY, "no connection: %s", why); The offset is left as it is (UINT64_MAX at the start of
 * each call). `f` may be NULL. */
PAWL_API int pawl_fault_set(pawl_fault *f, int outcome, const char *format, ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 3, 4)))
#endif
    ;

/* ---------------------------------------------------------------- the sink interface */

enum pawl_sink_kind {
    PAWL_SINK_TRANSACTIONAL = 1, /* the target's own transaction holds rows and position */
    PAWL_SINK_TWO_PHASE = 2,     /* prepare, durable decision in the log, commit */
    PAWL_SINK_IDEMPOTENT = 3     /* may get a record again, with the same id: upsert */
};

enum pawl_sink_flags {
    /* idempotent: the batch's bounds are made durable in the log before commit() is called, so that
     * a batch which comes again has the same name and the same records (costs a flush a batch) */
    PAWL_SINK_STABLE = 1 << 0
};

/* A run of records of one partition, and who delivers it. Strings live during the call. The same
 * [from, to) has the same name for ever. */
typedef struct pawl_sink_batch {
    uint8_t log_id[16];
    const char *sink;   /* its name */
    const char *stream; /* name of the input stream */
    uint32_t stream_id; /* its id */
    uint32_t partition; /* of that stream */
    /* offset of the first record; it may lie above the target's stored position: what is between
     * went elsewhere */
    uint64_t from;
    /* one past the last; in begin() and write() not settled yet: 0. In position(): 0 */
    uint64_t to;
    /* "pawl-LOGID-SINK-STREAMID-PARTITION-FROM-TO", at most 180 bytes of A-Z a-z 0-9 . _ -; ""
     * while `to` is 0 */
    const char *name;
    uint32_t redelivery; /* 1: the target may have it already (idempotent), or had it and lost it */
    uint32_t attempt;    /* earlier attempts in a row that ended with RETRY */
} pawl_sink_batch;

#define PAWL_MESSAGE_ID_SIZE 80
/* Deterministic id of a record: "LOGID-STREAMID-PARTITION-OFFSET", LOGID as 32 hex digits;
 * NUL-terminated. Always succeeds; returns its length. */
PAWL_API size_t pawl_message_id(const uint8_t log_id[16], const pawl_record *r,
                                char out[PAWL_MESSAGE_ID_SIZE]);

typedef void (*pawl_prepared_fn)(void *arg, const char *name);

/* The functions of a sink. Which are needed: T transactional, 2 two-phase, I idempotent; others may
 * be NULL. The order of calls:
 *   open  (T: position for each partition; 2: list_prepared, then commit_prepared, committed,
 *         rollback_prepared as needed)
 *   then for each batch: begin, write (once or more), then T, I: commit; 2: prepare,
 *   commit_prepared abort may come at any time after begin; after RETRY, POISON and FATAL it always
 *   does (2: it doesn't touch what is prepared)
 * Every function returns an enum pawl_outcome, and should return within some seconds (RETRY if the
 * target is slower). */
typedef struct pawl_sink_ops {
    size_t struct_size;
    int32_t kind;     /* enum pawl_sink_kind */
    uint32_t flags;   /* enum pawl_sink_flags */
    const char *type; /* "postgres", ...; static; for status */
    void *self;
    /* T2I  Connects, creates what it needs. Called first and after every RETRY: a connection that
     *      still works may be kept. `batch` has log_id, sink
     * only. Nothing of an unfinished batch may remain. */
    int (*open)(void *self, const pawl_sink_batch *batch, pawl_fault *f);
    /* T2I  A new batch. */
    int (*begin)(void *self, const pawl_sink_batch *batch, pawl_fault *f);
    /* T2I  Some more of its records, in order; pointers live during the call. */
    int (*write)(void *self, const pawl_sink_batch *batch, const pawl_record *records, size_t count,
                 pawl_fault *f);
    /* T    Commits the rows and, in the same transaction, the position batch->to for (log_id, sink,
     *      stream_id, partition).
     * I    Everything written is durable in the target on DONE. 2: for guarantees below
     *      exactly-once only. */
    int (*commit)(void *self, const pawl_sink_batch *batch, pawl_fault *f);
    /* T    The position that the target has stored for (log_id, sink, stream_id, partition). GONE:
     *      none. */
    int (*position)(void *self, const pawl_sink_batch *batch, uint64_t *offset, pawl_fault *f);
    /* 2    Makes the batch durable in the target under batch->name, invisible to its readers,
     *      surviving a crash of either side. */
    int (*prepare)(void *self, const pawl_sink_batch *batch, pawl_fault *f);
    /* 2    Makes the prepared batch->name visible, durably. GONE: the target holds no such thing
     *      (any more). */
    int (*commit_prepared)(void *self, const pawl_sink_batch *batch, pawl_fault *f);
    /* 2    Drops the prepared batch->name. GONE is as good as DONE. */
    int (*rollback_prepared)(void *self, const pawl_sink_batch *batch, pawl_fault *f);
    /* 2    Calls fn for every prepared name that begins with prefix, from whatever session it came.
     *      fn must not call the sink. */
    int (*list_prepared)(void *self, const char *prefix, pawl_prepared_fn fn, void *arg,
                         pawl_fault *f);
    /* 2    commit_prepared() said GONE: is the batch's effect there (a marker row, the final file)?
     *      DONE yes, GONE no, UNKNOWN can't be told. */
    int (*committed)(void *self, const pawl_sink_batch *batch, pawl_fault *f);
    /* T2I  Drops the batch begun, if any. Can't fail: what is left is found by open(). */
    void (*abort)(void *self);
    /* -    Nothing to deliver just now (about every second): close what is too old, keep the
     *      connection alive. */
    int (*idle)(void *self, pawl_fault *f);
    /* -    A short text for status; called by any thread at any time. */
    void (*status)(void *self, char *text, size_t size);
    /* -    Disconnects and frees self. Called once, by pawl_sink_remove(), or by pawl_sink_add()
     *      where it fails. */
    void (*destroy)(void *self);
} pawl_sink_ops;
#define PAWL_SINK_OPS_INIT \
    { sizeof(pawl_sink_ops), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/* ---------------------------------------------------------------- running sinks */

/* A decided batch that the target neither holds as prepared nor has: it was rolled back by hand,
 * timed out, or the target was restored. */
enum pawl_on_lost {
    /* report and stop; the decision stays open, so that a later start comes here again */
    PAWL_LOST_STOP = 0,
    /* report, and deliver the same interval again from the log, if the target says for sure that it
     * isn't there (else stop) */
    PAWL_LOST_REDELIVER = 1,
    PAWL_LOST_ACCEPT = 2 /* report, and go on without it: after someone has mended it by hand */
};

/* Tells of something that someone should know (severity 1: a remark, 2: a warning, 3: an error that
 * stops it). Called by the sink's or source's thread; must not call its functions. */
typedef void (*pawl_report_fn)(void *arg, const char *name, int severity, const char *message);

/* What both runtimes need to be run deterministically, and to be killed at a named point. All may
 * be NULL/0. */
typedef struct pawl_hooks {
    uint64_t (*now_ns)(void *arg); /* a clock that never goes back; NULL: CLOCK_MONOTONIC */
    void *now_arg;
    uint64_t seed; /* of the jitter; 0: from the system */
    /* at each point named below; must not call the library */
    void (*on_point)(void *arg, const char *point);
    void *on_point_arg;
    pawl_report_fn report;
    void *report_arg;
} pawl_hooks;

typedef struct pawl_sink_config {
    size_t struct_size;
    /* positions and decisions are kept under it, as a processor's; at most 64 bytes */
    const char *name;
    const uint32_t *inputs; /* stream ids */
    uint32_t input_count;   /* 1 to 64 */
    /* enum pawl_guarantee; below exactly-once every kind is driven through commit() */
    int32_t guarantee;
    /* 1: with no position yet begin at the durable end, not at the first kept record */
    uint32_t start_at_end;
    uint32_t batch_records; /* a batch at most; 0 = 10,000 */
    uint64_t batch_bytes;   /* keys and values of a batch, about; 0 = 4 MiB */
    /* a batch may wait so long for more records; 0 = what is there goes at once */
    uint32_t linger_ms;
    uint32_t backoff_ms; /* first pause after RETRY, doubled each time; 0 = 100 */
    /* longest; 0 = 30,000. Each pause is a random 50 to 100 per cent of it */
    uint32_t backoff_max_ms;
    int32_t on_poison;    /* enum pawl_policy: stop, skip, dead-letter */
    uint32_t dead_letter; /* stream id, for PAWL_ON_ERROR_DEAD_LETTER */
    int32_t on_lost;      /* enum pawl_on_lost */
    pawl_hooks hooks;
} pawl_sink_config;
#define PAWL_SINK_CONFIG_INIT \
    { \
        sizeof(pawl_sink_config), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, { \
            0, 0, 0, 0, 0, 0, 0 \
        } \
    }

/* Points of a sink: sink-opened, sink-recovered; batch-begun, batch-written; T, I:
 * target-committed, log-advanced; stable: batch-promised; 2: batch-prepared, batch-decided,
 * batch-committed, batch-finished; poison-moved. Of a source: source-opened, source-read,
 * source-appended, source-acked. */

typedef struct pawl_sink pawl_sink;

/* Registers the name durably, with a position in every partition of the inputs, so that retention
 * keeps what the sink has yet to read. Copies config, strings and ops. Doesn't open the target yet.
 * On error ops->destroy() has been called. Errors: INVALID, NOT_FOUND (stream), LIMIT, FULL,
 * MEMORY, IO, READ_ONLY, FORKED. */
PAWL_API int pawl_sink_add(pawl *p, const pawl_sink_config *c, const pawl_sink_ops *ops,
                           pawl_sink **out, pawl_error *err);

/* Does one thing: opens and recovers, or delivers one batch, or moves one poison record. Returns 0:
 * there is more to do at once; n > 0: nothing to do for n milliseconds (or until records come); <
 * 0: it has stopped for good, the status tells why: PROCESSOR (the target's fault, or a policy), or
 * a code of the log. For tests and for owners with a loop of their own. */
PAWL_API int pawl_sink_step(pawl_sink *s);

/* Runs it in a thread of its own. Errors: BUSY (it runs), MEMORY, STATE (it failed). */
PAWL_API int pawl_sink_start(pawl_sink *s);
/* Ends the thread: delivers what is durable in the log now, for at most drain_ms (0: only the batch
 * at hand). Returns 0 when the thread has ended; TIMEOUT if something was left (it will be
 * delivered by the next start). Without a thread: 0. */
PAWL_API int pawl_sink_stop(pawl_sink *s, uint32_t drain_ms);
/* Stops, calls destroy() and frees. The name stays registered and holds back retention:
 * pawl_processor_forget() ends that. Safe with NULL. */
PAWL_API void pawl_sink_remove(pawl_sink *s);

enum pawl_flow {
    PAWL_FLOW_NEW = 0,     /* not opened yet */
    PAWL_FLOW_RUNNING = 1, /* moving records */
    PAWL_FLOW_IDLE = 2,    /* nothing to do */
    PAWL_FLOW_WAITING = 3, /* after RETRY, or a full log: tries again at retry_in_ms */
    PAWL_FLOW_FAILED = 4,  /* stopped for good; the message tells why */
    PAWL_FLOW_ENDED = 5    /* a source that has no more */
};

typedef struct pawl_flow_status {
    size_t struct_size;
    int32_t flow;                     /* enum pawl_flow */
    int32_t code;                     /* FAILED: a PAWL_ code */
    uint32_t attempts;                /* in a row that ended with RETRY */
    uint32_t retry_in_ms;             /* WAITING */
    uint64_t records, bytes, batches; /* delivered (sink) or appended (source) since it was added */
    uint64_t retries;                 /* answers RETRY */
    uint64_t poisoned;                /* records moved to the dead-letter stream, or skipped */
    uint64_t redelivered;             /* records that the target had lost, delivered again */
    /* records that did not arrive: at-most-once, accepted, or taken out of the log by repair */
    uint64_t lost;
    /* sink: records that are durable and not delivered. Source: commits not yet acknowledged */
    uint64_t behind;
    uint64_t recovered;   /* two-phase: prepared ones committed at recovery */
    uint64_t rolled_back; /* two-phase: prepared ones rolled back at recovery */
    int64_t last_ns;      /* when the last batch was delivered; 0: none yet */
    char type[32];
    char name[128];
    char message[512]; /* the last fault or report, "" if there was none */
    char target[256];  /* what the sink or source says of itself */
} pawl_flow_status;
#define PAWL_FLOW_STATUS_INIT \
    { .struct_size = sizeof(pawl_flow_status) }
/* Any thread, at any time between add and remove. Errors: INVALID. */
PAWL_API int pawl_sink_status(pawl_sink *s, pawl_flow_status *out);
/* Short name of an enum pawl_flow: "waiting". Never NULL, static. */
PAWL_API const char *pawl_flow_name(int flow);

/* ---------------------------------------------------------------- the source interface */

#define PAWL_SOURCE_POSITION_MAX 32

enum pawl_source_flags {
    /* can go back to any committed position: nothing is lost, nothing doubled */
    PAWL_SOURCE_REWINDABLE = 1 << 0,
    PAWL_SOURCE_ACKS = 1 << 1 /* wants ack() soon after durability */
};

typedef struct pawl_source_context pawl_source_context;

/* The committed position of an item: what came with its last durable records. Returns its length, 0
 * if there is none yet; or < 0 as pawl_producer_open(). To be asked in open() or read(), before the
 * item's first record is given. Takes the item's producer over. */
PAWL_API int pawl_source_position(pawl_source_context *x, const char *item, void *buf);

/* Tells of something that someone should know (severity as in pawl_report_fn), and shows it in the
 * status. To be called by the source's functions only. */
PAWL_API void pawl_source_report(pawl_source_context *x, int severity, const char *format, ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 3, 4)))
#endif
    ;

/* What read() gives: records of one item, and the position behind them. All of it lives until the
 * next call of read(). */
typedef struct pawl_source_batch {
    /* "" if the source has only one; else a part of it, a file say, with a position of its own: 1
     * to 60 bytes of A-Z a-z 0-9 . _ -. Each is a producer for ever (a log has at most 16,384):
     * "NAME" or "NAME.ITEM" */
    const char *item;
    /* key, value, headers, timestamp_ns; stream and partition are the config's */
    const pawl_record *records;
    /* 0: only the position moves; not written before records come or the source stops */
    size_t count;
    uint8_t position[PAWL_SOURCE_POSITION_MAX];
    uint32_t position_len; /* at most 32; > 0 */
    /* NULL; else why none of these records may go to the stream: they go by on_poison */
    const char *poison;
} pawl_source_batch;

typedef struct pawl_source_ops {
    size_t struct_size;
    uint32_t flags;   /* enum pawl_source_flags */
    const char *type; /* "file", ...; static */
    void *self;
    /* Opens at the committed positions (pawl_source_position()). Called first and after every
     * RETRY. */
    int (*open)(void *self, pawl_source_context *x, pawl_fault *f);
    /* The next records: at most max_records, about max_bytes, waiting up to timeout_ms for the
     * first. DONE with out->item NULL: nothing came in time. What was given is kept by the runtime
     * until it is appended: it isn't asked for again, unless the process ends. ENDED: no more (out
     * is not looked at). FATAL ends the source. */
    int (*read)(void *self, pawl_source_batch *out, size_t max_records, size_t max_bytes,
                int timeout_ms, pawl_fault *f);
    /* All records given up to this position are durable in the log. Called in order, in the
     * source's thread. May be NULL. */
    void (*ack)(void *self, const char *item, const void *position, size_t len);
    void (*status)(void *self, char *text, size_t size); /* as a sink's */
    void (*destroy)(void *self);
} pawl_source_ops;
#define PAWL_SOURCE_OPS_INIT \
    { sizeof(pawl_source_ops), 0, 0, 0, 0, 0, 0, 0, 0 }

typedef struct pawl_source_config {
    size_t struct_size;
    const char *name;                    /* of the producers; at most 64 bytes */
    uint32_t stream;                     /* id of the stream that its records go to */
    uint32_t partition;                  /* or PAWL_ANY */
    uint32_t batch_records;              /* records a transaction at most; 0 = 10,000 */
    uint32_t backoff_ms, backoff_max_ms; /* as a sink's; also while the log is full */
    uint64_t batch_bytes;                /* 0 = 1 MiB */
    /* enum pawl_policy, for records that the log can't take (too large) or the source calls poison:
     * the dead letter has the first 64 KiB */
    int32_t on_poison;
    uint32_t dead_letter; /* stream id */
    pawl_hooks hooks;
} pawl_source_config;
#define PAWL_SOURCE_CONFIG_INIT \
    { \
        sizeof(pawl_source_config), 0, 0, PAWL_ANY, 0, 0, 0, 0, 0, 0, { \
            0, 0, 0, 0, 0, 0, 0 \
        } \
    }

typedef struct pawl_source pawl_source;

/* As the sink's. Records and position are in one commit (pawl_tx_sequence); commits are not waited
 * for, ack() tells when they are durable. A full log is waited out: the source isn't read on.
 * Errors of add: INVALID, NOT_FOUND, MEMORY, READ_ONLY, FORKED. stop(): reads no more, and waits
 * until what was read is durable and acknowledged, at most drain_ms (TIMEOUT). */
PAWL_API int pawl_source_add(pawl *p, const pawl_source_config *c, const pawl_source_ops *ops,
                             pawl_source **out, pawl_error *err);
PAWL_API int pawl_source_step(pawl_source *s);
PAWL_API int pawl_source_start(pawl_source *s);
PAWL_API int pawl_source_stop(pawl_source *s, uint32_t drain_ms);
PAWL_API void pawl_source_remove(pawl_source *s);
PAWL_API int pawl_source_status(pawl_source *s, pawl_flow_status *out);

/* ---------------------------------------------------------------- connectors by name */

/* A setting as text. Of a configuration file: tables joined by dots ("columns.id"), elements of
 * arrays by number ("paths.0"). */
typedef struct pawl_setting {
    const char *name;
    const char *value;
    uint32_t line; /* where it was read, 0 if unknown; for messages */
} pawl_setting;
typedef struct pawl_settings {
    const pawl_setting *items;
    size_t count;
} pawl_settings;

enum pawl_setting_kind {
    PAWL_SETTING_TEXT = 0,
    PAWL_SETTING_NUMBER = 1, /* decimal, >= 0 */
    PAWL_SETTING_SIZE = 2,   /* a number, with k, M or G (1024s) */
    PAWL_SETTING_TIME = 3,   /* a number with ms, s, m or h; without: seconds */
    PAWL_SETTING_BOOL = 4,   /* true or false */
    PAWL_SETTING_CHOICE = 5  /* one of the words of `choices` */
};
typedef struct pawl_setting_info {
    const char *name; /* NULL ends the list. "columns.*": any name below columns */
    int32_t kind;     /* enum pawl_setting_kind */
    int32_t required;
    const char *choices;  /* "text|json" */
    const char *fallback; /* what holds where it isn't given, or NULL */
    const char *help;     /* a sentence */
} pawl_setting_info;

/* A kind of sink or source as compiled in. make_*() checks the settings' meaning, allocates self
 * and fills ops; it connects to nothing. On error err has the text, with the line. Exactly one of
 * the two is not NULL. */
typedef struct pawl_connector {
    const char *type; /* "postgres" */
    const char *help;
    const pawl_setting_info *settings;
    int (*make_sink)(const pawl_settings *s, pawl_sink_ops *out, pawl_error *err);
    int (*make_source)(const pawl_settings *s, pawl_source_ops *out, pawl_error *err);
} pawl_connector;

/* The index-th connector; NULL when there are no more. Static. */
PAWL_API const pawl_connector *pawl_connector_at(uint32_t index);
/* By type, among the sinks or (is_source) the sources. NULL: not compiled in. */
PAWL_API const pawl_connector *pawl_connector_find(const char *type, int is_source);
/* Checks the settings against the connector's list: unknown names, required ones, kinds. Errors:
 * INVALID, err tells which and its line. */
PAWL_API int pawl_settings_check(const pawl_connector *c, const pawl_settings *s, pawl_error *err);
/* Finds, checks, makes. Errors: NOT_FOUND (no such type in this build), INVALID, MEMORY, and what
 * the connector says. */
PAWL_API int pawl_sink_make(const char *type, const pawl_settings *s, pawl_sink_ops *out,
                            pawl_error *err);
PAWL_API int pawl_source_make(const char *type, const pawl_settings *s, pawl_source_ops *out,
                              pawl_error *err);

/* Value of a setting: as given, else the fallback, else NULL. For connectors. */
PAWL_API const char *pawl_setting_text(const pawl_connector *c, const pawl_settings *s,
                                       const char *name);
/* NUMBER, SIZE (bytes), TIME (milliseconds), BOOL (0, 1), CHOICE (index of the word) as a number; 0
 * if it has neither value nor fallback. The settings must have been checked. */
PAWL_API uint64_t pawl_setting_number(const pawl_connector *c, const pawl_settings *s,
                                      const char *name);

#ifdef __cplusplus
}
#endif
#endif
