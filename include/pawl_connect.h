/* SPDX-License-Identifier: Apache-2.0
 *
 * pawl_connect.h - sources and sinks: exactly-once past the log's edge; and processors by name.
 *
 * A second library beside libpawl (link pawl_connect and pawl; CMake: pawl::pawl_connect). It uses
 * pawl.h and pawl_state.h only. A *sink* carries the records of streams to a target (a database,
 * files, a program), a *source* brings records from the world into a stream. To write one, fill a
 * struct of functions; the runtime here does the rest: batches, positions, recovery, retries, dead
 * letters, threads. docs/connectors.md has the protocols and the state after a crash at each step;
 * examples/sink.c is a whole sink.
 *
 *     pawl_sink_ops ops = PAWL_SINK_OPS_INIT;          // your functions, or
 *                                                      // pawl_sink_make("postgres", ...)
 *     pawl_sink_config c = PAWL_SINK_CONFIG_INIT;
 *     c.name = "to-db", c.inputs = &stream, c.input_count = 1;
 *     pawl_sink_add(log, &c, &ops, &sink, &err);
 *     pawl_sink_start(sink);  ...  pawl_sink_stop(sink, 10000);  pawl_sink_remove(sink);
 *
 * The built-in processors (regex, json, filter, route, dedup, count, last, table, rekey,
 * aggregate, exec, plugin; docs/run.md) are made by name and settings, like sinks and sources;
 * examples/builtin.c.
 *
 *     pawl_processor_ops ops = PAWL_PROCESSOR_OPS_INIT;
 *     pawl_processor_make("regex", &settings, &ops, &err);
 *     pawl_processor_attach(log, &config, &ops, &processor, &err);
 *     pawl_run(log, 0, 0);  pawl_processor_remove(processor);  ops.destroy(ops.self);
 *
 * CONVENTIONS are those of pawl.h: codes, names, struct sizes, times, sizes, forks. Differences:
 *   Errors      Functions return PAWL_ codes. A `pawl_error *err` (may be NULL) gets the text.
 *               Later errors, in the thread of a sink or source, are in its status. Your own
 *               functions return an enum pawl_outcome.
 *   Threads     Any thread may call the functions of a pawl_sink or pawl_source. But only one
 *               thread at a time may call step(), and none after start(); the last user calls
 *               remove(). The runtime calls your functions of one `self` from one thread at a
 *               time, except status().
 *   Lifetime    A sink or source must be removed before its log is closed. `self` must live until
 *               destroy() has been called.
 */
#ifndef PAWL_CONNECT_H
#define PAWL_CONNECT_H

#include "pawl.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---------------------------------------------------------------- outcomes of your functions */

/* What a function of a sink or source returns. With every outcome but DONE it puts a text into the
 * fault. */
enum pawl_outcome {
    PAWL_DONE = 0,
    /* may work later: target absent, slow, full; deadlock; connection lost. Whether the call took
     * effect may be unknown: the runtime aborts, waits, opens again and recovers before it does
     * anything else */
    PAWL_RETRY = 1,
    /* this record will never be taken. fault.offset names it; with UINT64_MAX the runtime finds it
     * by halving the batch */
    PAWL_POISON = 2,
    /* stop: an operator has to look (table missing, permission denied, wrong settings) */
    PAWL_FATAL = 3,
    /* position(): none stored. commit_prepared(), rollback_prepared(): not held. committed(): the
     * target doesn't have the batch. idle(): nothing is open */
    PAWL_GONE = 4,
    PAWL_UNKNOWN = 5, /* committed(): the target can't tell */
    PAWL_ENDED = 6    /* read() of a source: there will be no more records */
};

typedef struct pawl_fault {
    uint64_t offset;   /* POISON: the record's offset; UINT64_MAX: unknown */
    char message[400]; /* one sentence: what, and what to do */
} pawl_fault;

/* Sets the text (printf-like; cut if too long) and returns `outcome`: return pawl_fault_set(f,
 * PAWL_RETRY, "no connection: %s", why); It doesn't change the offset, which is UINT64_MAX when
 * each call starts. `f` may be NULL. */
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
    /* idempotent: the log has the batch's bounds, durably, before commit() is called. So a batch
     * that is delivered again has the same name and the same records (costs a flush per batch) */
    PAWL_SINK_STABLE = 1 << 0,
    /* two-phase, idempotent: the target moves a position with the rows all the same, and position()
     * answers it. So records that the target has lost are noticed */
    PAWL_SINK_POSITION = 1 << 1
};

/* A range of records of one partition, and the sink that delivers it. Strings are valid during the
 * call. The same [from, to) has the same name for ever. */
typedef struct pawl_sink_batch {
    uint8_t log_id[16];
    const char *sink;   /* the sink's name */
    const char *stream; /* name of the input stream */
    uint32_t stream_id; /* id of the input stream */
    uint32_t partition; /* of that stream */
    /* offset of the first record; it may be above the target's stored position: the records between
     * were moved elsewhere */
    uint64_t from;
    /* one past the last; 0 in begin() and write(), where it isn't settled yet, and in position() */
    uint64_t to;
    /* "pawl-LOGID-SINK-STREAMID-PARTITION-FROM-TO", at most 180 bytes of A-Z a-z 0-9 . _ -; ""
     * while `to` is 0 */
    const char *name;
    uint32_t redelivery; /* 1: the target may have it already (idempotent), or has lost it */
    uint32_t attempt;    /* earlier attempts in a row that ended with RETRY */
} pawl_sink_batch;

#define PAWL_MESSAGE_ID_SIZE 80
/* Deterministic id of a record: "LOGID-STREAMID-PARTITION-OFFSET", LOGID as 32 hex digits;
 * NUL-terminated. Always succeeds; returns its length. */
PAWL_API size_t pawl_message_id(const uint8_t log_id[16], const pawl_record *r,
                                char out[PAWL_MESSAGE_ID_SIZE]);

typedef void (*pawl_prepared_fn)(void *arg, const char *name);

/* The functions of a sink. The mark of each says which kinds need it: T transactional, 2 two-phase,
 * I idempotent; the others may be NULL. The order of calls:
 *   open  (T: position for each partition; 2: list_prepared, then commit_prepared, committed,
 *         rollback_prepared as needed)
 *   for each batch: begin, write (once or more), then T, I: commit; 2: prepare, commit_prepared
 *   abort at any time after begin, and always after RETRY, POISON and FATAL (2: it leaves prepared
 *         batches alone)
 * Every function returns an enum pawl_outcome, and should return within some seconds (RETRY if the
 * target is slower). */
typedef struct pawl_sink_ops {
    size_t struct_size;
    int32_t kind;     /* enum pawl_sink_kind */
    uint32_t flags;   /* enum pawl_sink_flags */
    const char *type; /* "postgres", ...; static; for status */
    void *self;
    /* T2I  Connects, and creates what it needs. Called first and after every RETRY; a connection
     *      that still works may be kept. `batch` has only log_id and sink. Nothing of an unfinished
     *      batch may remain. */
    int (*open)(void *self, const pawl_sink_batch *batch, pawl_fault *f);
    /* T2I  Begins a batch. */
    int (*begin)(void *self, const pawl_sink_batch *batch, pawl_fault *f);
    /* T2I  Writes more of its records, in order. The pointers are valid during the call. */
    int (*write)(void *self, const pawl_sink_batch *batch, const pawl_record *records, size_t count,
                 pawl_fault *f);
    /* T    Commits the rows and, in the same transaction, the position batch->to for (log_id, sink,
     *      stream_id, partition).
     * I    On DONE all that was written is durable in the target.
     * 2    Only for guarantees below exactly-once. */
    int (*commit)(void *self, const pawl_sink_batch *batch, pawl_fault *f);
    /* T    The position that the target has stored for (log_id, sink, stream_id, partition). GONE:
     *      none. 2, I: with PAWL_SINK_POSITION. */
    int (*position)(void *self, const pawl_sink_batch *batch, uint64_t *offset, pawl_fault *f);
    /* 2    Makes the batch durable in the target under batch->name, invisible to the target's
     *      readers. It must survive a crash of either side. */
    int (*prepare)(void *self, const pawl_sink_batch *batch, pawl_fault *f);
    /* 2    Makes the prepared batch->name visible, durably. GONE: the target doesn't hold it (any
     *      more). */
    int (*commit_prepared)(void *self, const pawl_sink_batch *batch, pawl_fault *f);
    /* 2    Drops the prepared batch->name. GONE is as good as DONE. */
    int (*rollback_prepared)(void *self, const pawl_sink_batch *batch, pawl_fault *f);
    /* 2    Calls fn for every prepared name that begins with prefix, whichever session prepared it.
     *      fn must not call the sink. */
    int (*list_prepared)(void *self, const char *prefix, pawl_prepared_fn fn, void *arg,
                         pawl_fault *f);
    /* 2    Called after commit_prepared() returned GONE: does the target have the batch (a marker
     *      row, the final file)? DONE yes, GONE no, UNKNOWN it can't tell. */
    int (*committed)(void *self, const pawl_sink_batch *batch, pawl_fault *f);
    /* T2I  Drops the open batch, if any. Can't fail: open() finds what is left. */
    void (*abort)(void *self);
    /* -    Called about every second while there is nothing to deliver: closes what is too old,
     *      keeps the connection alive. After GONE (nothing open needs it) it isn't called again
     *      before the next batch. */
    int (*idle)(void *self, pawl_fault *f);
    /* -    Writes a short text for status. Any thread may call it at any time. */
    void (*status)(void *self, char *text, size_t size);
    /* -    Disconnects and frees self. Called once: by pawl_sink_remove(), or by pawl_sink_add() if
     *      that fails. */
    void (*destroy)(void *self);
    /* -    What the target must have of this partition and can lose: a text of 1 to 170 bytes of
     *      A-Z a-z 0-9 . _ -, the prepared batch included. The log keeps the text, in the same
     *      commit as the decision or the position. GONE: nothing. Called after prepare(), after
     *      commit(), and whenever the text may have changed. */
    int (*holds)(void *self, const pawl_sink_batch *batch, char *text, size_t size);
    /* -    Called after open(), once for each partition, before everything else. `batch->from` is
     *      where the next batch begins. `text` is what the log keeps of holds(); "": nothing. Does
     *      the target have that? DONE: yes. GONE: no; `fault` says what is missing, and [*from,
     *      *to) which records went with it. Then on_lost decides; if the loss is accepted, or its
     *      records are delivered again, check() is called once more with `text` NULL: what the log
     *      kept is void, and what is left of it is not to be touched. */
    int (*check)(void *self, const pawl_sink_batch *batch, const char *text, uint64_t *from,
                 uint64_t *to, pawl_fault *f);
    /* -    The log has the text of holds() durably. Does what waits for that: makes a file visible,
     *      say. Called after each batch, and after idle() and ending() for each partition. */
    int (*settle)(void *self, const pawl_sink_batch *batch, pawl_fault *f);
    /* -    The sink is about to end in good order: settle() shall do all that is left to do. */
    int (*ending)(void *self, pawl_fault *f);
    /* -    A text to be reported as a warning: what the sink noticed and dealt with. GONE: nothing.
     *      Called after each step. */
    int (*remark)(void *self, char *text, size_t size);
    /* -    Writes what identifies the target, as "NAME=VALUE NAME=VALUE ..." (at most 160 bytes
     *      with NUL): random ids stored there, numbers of databases and tables. Called after
     *      open(). The log keeps the text. If a part has another value later, it is another
     *      target, and on_replaced decides. Parts that can't be found out are left out. A part
     *      "log=LOGID" says that another log has positions there under the sink's name, and this
     *      one none. GONE: the target can't tell. */
    int (*identity)(void *self, const pawl_sink_batch *batch, char *text, size_t size,
                    pawl_fault *f);
    /* -    With position(): a number that stands for the batch's last record, and that no other
     *      record of any log has. Called before commit(), which stores it with the position. */
    void (*mark)(void *self, uint64_t mark);
    /* -    The number stored with the position. If the target is ahead of the log, it tells whether
     *      the log was restored and went another way. GONE: none. */
    int (*marked)(void *self, const pawl_sink_batch *batch, uint64_t *mark, pawl_fault *f);
} pawl_sink_ops;
#define PAWL_SINK_OPS_INIT \
    { \
        sizeof(pawl_sink_ops), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, \
            0, 0, 0, 0 \
    }

/* ---------------------------------------------------------------- running sinks */

/* For what was committed and is not in the target: a batch whose commit was decided, but which the
 * target neither holds as prepared nor has committed (it was rolled back by hand, it timed out, or
 * the target was restored); and what check() misses (somebody removed it). */
enum pawl_on_lost {
    /* report and stop; the log keeps what is missing, so a later start finds it again */
    PAWL_LOST_STOP = 0,
    /* report, and deliver the same interval again from the log, if the log still has it and the
     * target is sure that it doesn't (else stop) */
    PAWL_LOST_REDELIVER = 1,
    /* report, and continue without it: for use after a repair by hand. The log remembers which
     * records were lost, and `lost` in the status counts them from then on */
    PAWL_LOST_ACCEPT = 2
};

/* For a target that is not the one that the sink delivered to (identity()), that has lost its
 * position, or that has another log's positions under the sink's name. Once it is taken, its own
 * position of this log counts, if it has one, since rows and position are from one transaction. */
enum pawl_on_replaced {
    PAWL_REPLACED_STOP = 0,     /* report and stop */
    PAWL_REPLACED_ADOPT = 1,    /* report, and take it; without a position: from the log's on */
    PAWL_REPLACED_REDELIVER = 2 /* report, and take it; without a position: all that the log has */
};

/* Reports something an operator should know (severity 1: a remark, 2: a warning, 3: an error that
 * stops it). The sink's or source's thread calls it; it must not call the functions of that sink or
 * source. */
typedef void (*pawl_report_fn)(void *arg, const char *name, int severity, const char *message);

/* For both runtimes: makes runs deterministic, and lets a test kill them at a named point. All
 * fields may be NULL/0. */
typedef struct pawl_hooks {
    uint64_t (*now_ns)(void *arg); /* a clock that never goes back; NULL: CLOCK_MONOTONIC */
    void *now_arg;
    uint64_t seed; /* of the random back-off; 0: from the system */
    /* called at each point named below; must not call the library */
    void (*on_point)(void *arg, const char *point);
    void *on_point_arg;
    pawl_report_fn report;
    void *report_arg;
} pawl_hooks;

typedef struct pawl_sink_config {
    size_t struct_size;
    /* positions and decisions are stored under it, as a processor's are; at most 64 bytes */
    const char *name;
    const uint32_t *inputs; /* stream ids */
    uint32_t input_count;   /* 1 to 64 */
    /* enum pawl_guarantee; below exactly-once every kind uses commit() */
    int32_t guarantee;
    /* 1: without a position, begin at the durable end, not at the first kept record */
    uint32_t start_at_end;
    uint32_t batch_records; /* records in a batch, at most; 0 = 10,000 */
    uint64_t batch_bytes;   /* keys and values in a batch, about; 0 = 4 MiB */
    /* how long a batch may wait for more records; 0 = not at all */
    uint32_t linger_ms;
    uint32_t backoff_ms; /* first pause after RETRY; doubled each time; 0 = 100 */
    /* the longest pause; 0 = 30,000. The actual pause is a random 50 to 100 per cent */
    uint32_t backoff_max_ms;
    int32_t on_poison;    /* enum pawl_policy: stop, skip, dead-letter */
    uint32_t dead_letter; /* stream id, for PAWL_ON_ERROR_DEAD_LETTER */
    int32_t on_lost;      /* enum pawl_on_lost */
    pawl_hooks hooks;
    int32_t on_replaced; /* enum pawl_on_replaced */
} pawl_sink_config;
#define PAWL_SINK_CONFIG_INIT \
    { sizeof(pawl_sink_config), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, {0, 0, 0, 0, 0, 0, 0}, 0 }

/* Points of a sink: sink-opened, position-judged, target-kept, sink-recovered; batch-begun,
 * batch-written; T, I: target-committed, log-advanced; stable: batch-promised; 2: batch-prepared,
 * batch-decided, batch-committed, batch-finished; poison-moved. Points of a source: source-opened,
 * source-read, source-appended, source-acked, source-idle; of files: source-looks (before each look
 * at them), source-looked (after one that nothing kept from seeing all). */

typedef struct pawl_sink pawl_sink;

/* Registers the name durably, with a position in every partition of the inputs, so that retention
 * keeps the records that the sink has not read yet. Copies config, strings and ops. Doesn't open
 * the target yet. On error ops->destroy() has been called.
 * Errors: INVALID, NOT_FOUND (stream), LIMIT, FULL, MEMORY, IO, READ_ONLY, FORKED. */
PAWL_API PAWL_CHECKED int pawl_sink_add(pawl *p, const pawl_sink_config *c,
                                        const pawl_sink_ops *ops, pawl_sink **out, pawl_error *err);

/* Does one step: opens and recovers, or delivers one batch, or moves one poison record. Returns 0
 * if there is more to do at once; n > 0 if there is nothing to do for n milliseconds (or until
 * records come); < 0 if it has stopped for good, and the status has the reason: PROCESSOR (the
 * target's fault, or a policy), or a code of the log. For tests, and for owners with their own
 * loop. */
PAWL_API PAWL_CHECKED int pawl_sink_step(pawl_sink *s);

/* Runs the sink in its own thread.
 * Errors: BUSY (it runs), MEMORY, STATE (it failed). */
PAWL_API PAWL_CHECKED int pawl_sink_start(pawl_sink *s);
/* Ends the thread. First it delivers what is durable in the log now, for at most drain_ms (0: only
 * the current batch). Returns 0 when the thread has ended; TIMEOUT if records are left, which the
 * next start will deliver. Without a thread: 0. */
PAWL_API PAWL_CHECKED int pawl_sink_stop(pawl_sink *s, uint32_t drain_ms);
/* Stops, calls destroy() and frees. The name stays registered and holds back retention until
 * pawl_processor_forget(). Accepts NULL. */
PAWL_API void pawl_sink_remove(pawl_sink *s);

enum pawl_flow {
    PAWL_FLOW_NEW = 0,     /* not opened yet */
    PAWL_FLOW_RUNNING = 1, /* moving records */
    PAWL_FLOW_IDLE = 2,    /* nothing to do */
    PAWL_FLOW_WAITING = 3, /* after RETRY, or the log is full: tries again in retry_in_ms */
    PAWL_FLOW_FAILED = 4,  /* stopped for good; the message has the reason */
    PAWL_FLOW_ENDED = 5    /* a source that has no more records */
};

typedef struct pawl_flow_status {
    size_t struct_size;
    int32_t flow;                     /* enum pawl_flow */
    int32_t code;                     /* FAILED: a PAWL_ code */
    uint32_t attempts;                /* in a row that ended with RETRY */
    uint32_t retry_in_ms;             /* WAITING */
    uint64_t records, bytes, batches; /* delivered (sink) or appended (source) since it was added */
    uint64_t retries;                 /* number of RETRY outcomes */
    uint64_t poisoned;                /* records moved to the dead-letter stream, or skipped */
    uint64_t redelivered;             /* records that the target had lost, delivered again */
    /* records that did not arrive: at-most-once, accepted as lost, or removed from the log by
     * repair */
    uint64_t lost;
    /* sink: records that are durable and not delivered. Source: commits not yet acknowledged */
    uint64_t behind;
    uint64_t recovered;   /* two-phase: prepared batches committed at recovery */
    uint64_t rolled_back; /* two-phase: prepared batches rolled back at recovery */
    int64_t last_ns;      /* when the last batch was delivered; 0: none yet */
    char type[32];
    char name[128];
    char message[512]; /* the last fault or report, "" if there was none */
    char target[256];  /* the text of status() */
} pawl_flow_status;
#define PAWL_FLOW_STATUS_INIT \
    { \
        sizeof(pawl_flow_status), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, {0}, {0}, {0}, { \
            0 \
        } \
    }
/* May be called by any thread, at any time between add and remove.
 * Errors: INVALID. */
PAWL_API PAWL_CHECKED int pawl_sink_status(pawl_sink *s, pawl_flow_status *out);
/* Short name of an enum pawl_flow: "waiting". Never NULL, static. */
PAWL_API const char *pawl_flow_name(int flow);

/* ---------------------------------------------------------------- the source interface */

#define PAWL_SOURCE_POSITION_MAX 32

enum pawl_source_flags {
    /* can rewind to any committed position: nothing is lost, nothing is duplicated */
    PAWL_SOURCE_REWINDABLE = 1 << 0,
    PAWL_SOURCE_ACKS = 1 << 1, /* wants ack() soon after durability */
    /* its records come from strangers, and what a stranger sends ends no pipeline: where on_poison
     * is PAWL_ON_ERROR_STOP, such records are skipped, unless stop_on_strangers is 1 */
    PAWL_SOURCE_STRANGERS = 1 << 2
};

typedef struct pawl_source_context pawl_source_context;

/* Gets the committed position of an item: the one committed with its last durable records. Returns
 * its length, 0 if there is none yet, or < 0 as pawl_producer_open(). Call it in open() or read(),
 * before the item's first record is given. Takes over the item's producer. */
PAWL_API PAWL_CHECKED int pawl_source_position(pawl_source_context *x, const char *item, void *buf);

/* Names what the batch that read() is about to return was read from, as pawl_tx_origin() does: the
 * next `records` of the batch's records, which may be 0. Several calls cover the batch in order; a
 * batch with the end of one file and the beginning of the next has two. A batch without records may
 * name intervals too; those of a read() that returns no batch are committed with the next one.
 * Records that on_poison skips are named as passed over by the runtime, if the marks say where they
 * are. The stream is the source's; `o->stream` is ignored. The strings are copied; the marks must
 * stay valid as the batch does. Only read() may call it, at most 16 times for a batch.
 * Errors: INVALID, MEMORY, UNSUPPORTED. */
PAWL_API PAWL_CHECKED int pawl_source_origin(pawl_source_context *x, const pawl_outside *o,
                                             uint64_t records);

/* Reports something an operator should know (severity as in pawl_report_fn), and shows it in the
 * status. Only the source's functions may call it. */
PAWL_API void pawl_source_report(pawl_source_context *x, int severity, const char *format, ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 3, 4)))
#endif
    ;

/* What read() returns: records of one item, and the position after them. All of it must stay valid
 * until the next call of read(). */
typedef struct pawl_source_batch {
    /* "" if the source has only one. Else a part of it, such as a file, with its own position: 1 to
     * 60 bytes of A-Z a-z 0-9 . _ -. Each item is a producer for ever (a log has at most 16,384):
     * "NAME" or "NAME.ITEM" */
    const char *item;
    /* key, value, headers, timestamp_ns; stream and partition come from the config */
    const pawl_record *records;
    /* 0: only the position moves; it is written if it isn't the item's committed one */
    size_t count;
    uint8_t position[PAWL_SOURCE_POSITION_MAX];
    uint32_t position_len; /* at most 32; > 0 */
    /* NULL; else why none of these records may go to the stream: on_poison applies to them */
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
    /* Gives the next records: at most max_records, about max_bytes, waiting up to timeout_ms for
     * the first. DONE with out->item NULL: nothing came in time. The runtime keeps given records
     * until they are appended, so it doesn't ask for them again, unless the process ends. ENDED: no
     * more (out is ignored). FATAL ends the source. */
    int (*read)(void *self, pawl_source_batch *out, size_t max_records, size_t max_bytes,
                int timeout_ms, pawl_fault *f);
    /* Called when all records up to this position are durable in the log. In order, in the source's
     * thread. May be NULL. */
    void (*ack)(void *self, const char *item, const void *position, size_t len);
    void (*status)(void *self, char *text, size_t size); /* as a sink's */
    void (*destroy)(void *self);
} pawl_source_ops;
#define PAWL_SOURCE_OPS_INIT \
    { sizeof(pawl_source_ops), 0, 0, 0, 0, 0, 0, 0, 0 }

typedef struct pawl_source_config {
    size_t struct_size;
    const char *name;                    /* prefix of the producers; at most 64 bytes */
    uint32_t stream;                     /* id of the stream that gets the records */
    uint32_t partition;                  /* or PAWL_ANY */
    uint32_t batch_records;              /* records in a transaction, at most; 0 = 10,000 */
    uint32_t backoff_ms, backoff_max_ms; /* as a sink's; also while the log is full */
    uint64_t batch_bytes;                /* 0 = 1 MiB */
    /* enum pawl_policy, for records that the log can't take (too large) or that the source calls
     * poison; the dead letter has the first 64 KiB */
    int32_t on_poison;
    uint32_t dead_letter; /* stream id */
    pawl_hooks hooks;
    /* 1: PAWL_ON_ERROR_STOP also stops a source with PAWL_SOURCE_STRANGERS */
    uint32_t stop_on_strangers;
} pawl_source_config;
#define PAWL_SOURCE_CONFIG_INIT \
    { sizeof(pawl_source_config), 0, 0, PAWL_ANY, 0, 0, 0, 0, 0, 0, {0, 0, 0, 0, 0, 0, 0}, 0 }

typedef struct pawl_source pawl_source;

/* As the sink's. Records and position are in one commit (pawl_tx_sequence). Commits are not waited
 * for; ack() reports when they are durable. While the log is full, the source is not read. stop()
 * stops reading and waits until all records read are durable and acknowledged, at most drain_ms
 * (TIMEOUT).
 * Errors: INVALID, NOT_FOUND, MEMORY, READ_ONLY, FORKED (pawl_source_add()). */
PAWL_API PAWL_CHECKED int pawl_source_add(pawl *p, const pawl_source_config *c,
                                          const pawl_source_ops *ops, pawl_source **out,
                                          pawl_error *err);
PAWL_API PAWL_CHECKED int pawl_source_step(pawl_source *s);
PAWL_API PAWL_CHECKED int pawl_source_start(pawl_source *s);
PAWL_API PAWL_CHECKED int pawl_source_stop(pawl_source *s, uint32_t drain_ms);
PAWL_API void pawl_source_remove(pawl_source *s);
PAWL_API PAWL_CHECKED int pawl_source_status(pawl_source *s, pawl_flow_status *out);

/* ---------------------------------------------------------------- settings */

/* A setting as text. In a configuration file: tables are joined by dots ("columns.id"), elements of
 * arrays have numbers ("paths.0"). */
typedef struct pawl_setting {
    const char *name;
    const char *value;
    uint32_t line; /* line of the file, 0 if unknown; for messages */
} pawl_setting;
typedef struct pawl_settings {
    const pawl_setting *items;
    size_t count;
} pawl_settings;

enum pawl_setting_kind {
    PAWL_SETTING_TEXT = 0,
    PAWL_SETTING_NUMBER = 1, /* decimal, >= 0 */
    PAWL_SETTING_SIZE = 2,   /* a number, optionally with k, M, G or T (powers of 1024) */
    PAWL_SETTING_TIME = 3,   /* a number with ms, s, m, h, d or w; alone it is in seconds */
    PAWL_SETTING_BOOL = 4,   /* true or false */
    PAWL_SETTING_CHOICE = 5, /* one of the words of `choices` */
    /* a text that is never shown. Each setting NAME of this kind may be given as NAME_file instead:
     * the path of a file that holds it (pawl_secret_read()); make() gets it as NAME */
    PAWL_SETTING_SECRET = 6
};
typedef struct pawl_setting_info {
    const char *name;     /* NULL ends the list. "columns.*": any name below columns */
    int32_t kind;         /* enum pawl_setting_kind */
    int32_t required;     /* 1: must be given. The other bits are reserved: 0 */
    const char *choices;  /* "text|json" */
    const char *fallback; /* the default value, or NULL */
    const char *help;     /* a sentence */
} pawl_setting_info;

/* ---------------------------------------------------------------- secrets */

/* Reads a secret from a file into `out` (`size` bytes), without the newline at its end, and does
 * pawl_secret_add(). The file must be regular and belong to root or to the process's user; other
 * users must not be able to read it, nor they or its group to write it. Returns the secret's
 * length.
 * Errors: INVALID (no regular file, empty, longer than fits, a zero byte in it), PERMISSION (also
 * where others may read it), IO. */
PAWL_API PAWL_CHECKED int pawl_secret_read(const char *path, char *out, size_t size,
                                           pawl_error *err);
/* Remembers a secret for the process's life: from then on no message of this library shows it, and
 * pawl_secret_hide() finds it. One of fewer than 4 bytes isn't hidden, nor is one after the 128th.
 * Any thread may call it. */
PAWL_API void pawl_secret_add(const char *secret);
/* Puts *** in place of each remembered secret in the text. `cut` 1: the text's end was cut off, so
 * the beginning of a secret there is hidden too. Returns the text's length, which never grows. */
PAWL_API size_t pawl_secret_hide(char *text, int cut);

/* ---------------------------------------------------------------- processors as functions */

enum pawl_processor_flags {
    /* acts on the world outside the log: it gets only durable records */
    PAWL_PROCESSOR_ACTS_OUTSIDE = 1 << 0,
    /* reads its state back from its output; no built-in processor does. Requires exactly-once, one
     * input, and one output with as many partitions, to which nothing else writes */
    PAWL_PROCESSOR_KEEPS_STATE = 1 << 1,
    /* keeps tables (pawl_state.h): requires another guarantee than at most once, and inputs with
     * equally many partitions */
    PAWL_PROCESSOR_KEEPS_TABLES = 1 << 2,
    /* what it keeps doesn't follow the records' keys: requires inputs of one partition */
    PAWL_PROCESSOR_ONE_PARTITION = 1 << 3
};

/* Where a processor is attached. All of it is valid only during start(). Fields may be added at the
 * end. */
typedef struct pawl_processor_place {
    const char *name;                /* of the processor */
    const pawl_stream_info *inputs;  /* in the order of the config's */
    const pawl_stream_info *outputs; /* in the order of the ops' */
    uint32_t input_count;
    uint32_t output_count;
} pawl_processor_place;

/* A processor as functions, from pawl_processor_make() or your own. Its maker owns it, and calls
 * destroy() after pawl_processor_remove() (or pawl_close()). It is attached to one log at a time,
 * and may be attached again after it was removed. */
typedef struct pawl_processor_ops {
    size_t struct_size;
    uint32_t flags;        /* enum pawl_processor_flags */
    uint32_t output_count; /* at most 64 */
    const char *type;      /* "regex", ...; static */
    void *self;
    /* The streams that it writes, each once: `value` is the stream, `name` the setting that named
     * it, `line` that setting's line. They live as long as self. */
    const pawl_setting *outputs;
    /* Called with the log open and its streams known, before anything runs. Opens what it needs and
     * reads its state back. May be NULL. On an error err has the text. */
    int (*start)(void *self, pawl *p, const pawl_processor_place *at, pawl_error *err);
    /* Processes a batch; `arg` is self. One thread at a time calls it for a partition; several may
     * call it for different ones. */
    pawl_process_fn process;
    /* Number of records in the processed batches, and of records emitted, since it was made; a
     * batch processed again counts again. Any thread may call it at any time. May be NULL. */
    void (*counts)(void *self, uint64_t *taken, uint64_t *emitted);
    /* Frees self. Must not be called while it is attached. */
    void (*destroy)(void *self);
    /* Not NULL: it knows time, pawl_processor_set_time(). It lives as long as self; start() may
     * change it. */
    const struct pawl_time_config *time;
} pawl_processor_ops;
#define PAWL_PROCESSOR_OPS_INIT \
    { sizeof(pawl_processor_ops), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/* Adds a processor to the log, like pawl_processor_add(): finds the output streams by name, checks
 * that none of them is an input, checks what the flags require, calls start(). Ignores the config's
 * `process` and `arg`, and sets `committed_input` if the processor acts outside. Copies config and
 * strings; `ops` itself may go, but its self must live on. Must not be called while pawl_run()
 * runs. `out` and `err` may be NULL. On an error you still own ops.
 * Errors: NOT_FOUND (a stream that doesn't exist; make it first), INVALID, MEMORY, those of
 * pawl_processor_add(), and what start() returns. */
PAWL_API PAWL_CHECKED int pawl_processor_attach(pawl *p, const pawl_processor_config *c,
                                                const pawl_processor_ops *ops, pawl_processor **out,
                                                pawl_error *err);

/* ---------------------------------------------------------------- connectors by name */

enum pawl_connector_kind { PAWL_KIND_SINK = 0, PAWL_KIND_SOURCE = 1, PAWL_KIND_PROCESSOR = 2 };

/* A type of sink, source or processor that is compiled in. make_*() checks the settings' meaning,
 * allocates self and fills ops; it doesn't connect. On error err has the text, with the line.
 * Exactly one of the three is not NULL. */
typedef struct pawl_connector {
    const char *type; /* "postgres" */
    const char *help;
    const pawl_setting_info *settings;
    int (*make_sink)(const pawl_settings *s, pawl_sink_ops *out, pawl_error *err);
    int (*make_source)(const pawl_settings *s, pawl_source_ops *out, pawl_error *err);
    int (*make_processor)(const pawl_settings *s, pawl_processor_ops *out, pawl_error *err);
} pawl_connector;

/* The index-th connector; NULL when there are no more. Static. */
PAWL_API const pawl_connector *pawl_connector_at(uint32_t index);
/* Finds a connector by type, among those of a kind (enum pawl_connector_kind). NULL: not compiled
 * in. */
PAWL_API const pawl_connector *pawl_connector_find(const char *type, int kind);
/* Checks the settings against the connector's list: unknown names, required ones, kinds.
 * Errors: INVALID, err names the setting and its line. */
PAWL_API PAWL_CHECKED int pawl_settings_check(const pawl_connector *c, const pawl_settings *s,
                                              pawl_error *err);
/* Finds the connector, checks the settings, fills `*out`, which must have been initialised with its
 * _INIT macro. The settings (NULL: none) must be valid only during the call. A processor's settings
 * are those of a pipeline file that belong to its type, `to` included (docs/run.md).
 * Errors: NOT_FOUND (no such type in this build), INVALID, MEMORY, and what the connector
 * returns. */
PAWL_API PAWL_CHECKED int pawl_sink_make(const char *type, const pawl_settings *s,
                                         pawl_sink_ops *out, pawl_error *err);
PAWL_API PAWL_CHECKED int pawl_source_make(const char *type, const pawl_settings *s,
                                           pawl_source_ops *out, pawl_error *err);
PAWL_API PAWL_CHECKED int pawl_processor_make(const char *type, const pawl_settings *s,
                                              pawl_processor_ops *out, pawl_error *err);

/* Value of a setting: as given, else the default, else NULL. For connectors. */
PAWL_API const char *pawl_setting_text(const pawl_connector *c, const pawl_settings *s,
                                       const char *name);
/* NUMBER, SIZE (bytes), TIME (milliseconds), BOOL (0, 1), CHOICE (index of the word) as a number; 0
 * if it has neither value nor default. The settings must have been checked. */
PAWL_API uint64_t pawl_setting_number(const pawl_connector *c, const pawl_settings *s,
                                      const char *name);
/* Line of a setting; 0: it isn't given, or its line is unknown. */
PAWL_API uint32_t pawl_setting_line(const pawl_settings *s, const char *name);

#ifdef __cplusplus
}
#endif
#endif
