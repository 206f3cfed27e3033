/* SPDX-License-Identifier: Apache-2.0
 *
 * engine.h - the handle behind pawl.h: the log's state machine and tables under one lock, and the
 * thin shell of threads around them.
 *
 * lock.c       entry and release of the lock, waiting and waking
 * lead.c       the thread that waits for the device (the leader), commits that wait, the
 *              background thread
 * async.c      asynchronous commits and their callbacks, the event descriptor
 * chores.c     maintenance: segments are prepared and dropped
 * event.c      futex and eventfd
 * apply.c      what a frame changes, whoever wrote it
 * open.c       opening, closing      follow.c   read-only handles that follow a live writer
 * tx*.c        transactions          catalog.c  streams, producers, processors' names, settings
 * reader.c     reading a partition   locate.c   from an offset to a place in the log
 * any.c        reading several partitions with one wait
 * processor.c  one step of a processor    runtime.c  pawl_run()
 * retention.c  what may be dropped        status.c   figures
 * ended.c      what was closed or committed, and closing a log in use
 * notice.c     what the application is told by itself    struct_size.c  older and newer programs
 * inspect*.c   dump, explain, audit       repair.c, verify.c are in recovery/
 *
 * Concurrency: every field of struct pawl is guarded by `mutex`, but for those marked (constant) or
 * (atomic). While a thread waits for the device as leader, the lock is free: others append, and
 * their groups go out with the next flush.
 */
#ifndef PAWL_PIPELINE_ENGINE_H
#define PAWL_PIPELINE_ENGINE_H

#include <pthread.h>
#include <stdatomic.h>

#include "pipeline/tables.h"
#include "recovery/replay.h"
#include "wal/wal.h"

#define ASYNC_MAX 65536u

/* A commit that waits to become durable, for its callback. */
struct async_commit {
    uint64_t lsn;
    pawl_commit_fn fn;
    void *arg;
    pawl_receipt receipt;
    struct async_commit *next;
};

/* Read-only handle: two walks over the newest segment. `front` verifies all there is and learns
 * what later frames know to be durable; `apply` changes the tables, and never passes that. */
struct follow {
    struct scan front, apply;
    uint64_t known;    /* durable LSN as witnessed */
    uint64_t disk_cap; /* as the header of the segment of `apply` says */
    /* Guarded by the lock, the fields above by `busy`: segment, end and epoch of the newest frame
     * that the tables hold. */
    uint64_t index, shown, epoch;
    bool busy; /* a thread looks for more */
    int front_file, apply_file;
    bool begun;
    int writer; /* pid of the live writer, 0 none */
};

/* What the application has been told of the log: notice.c. */
struct notice {
    pawl_log_fn fn; /* (constant); NULL: tell nobody */
    void *arg;
    bool telling; /* a thread is in fn */
    bool full, failed;
    uint64_t first_segment;
    /* an append was refused, when the log began with `refused_first`; and no space came since */
    bool refused;
    uint64_t refused_first;
};

struct run_control;
struct task;

#define ENDED_MAX 32 /* readers, producers and processors: ended.c */

struct pawl {
    struct seam *io;           /* (constant) */
    struct mem mem;            /* (atomic inside) */
    readahead_spare readahead; /* of readers; given up when memory is short */
    /* a reader met want of memory: since then they keep nothing between calls that can be had
     * again */
    atomic_bool tight;
    bool read_only, salvage, no_thread, app_dispatch, block_when_full; /* (constant) */
    uint64_t fork_generation;                                          /* (constant) */
    uint64_t witness_ns;                                               /* (constant); 0 none */
    struct segment_header header; /* (constant) of the newest segment at open */
    struct points points;         /* (constant) */
    pthread_mutex_t mutex;
    pthread_cond_t progress; /* something became durable, was appended, or failed */
    pthread_cond_t work;     /* for the background thread */
    pthread_cond_t chores;   /* for the maintenance thread */
    struct wal wal;
    struct tables tables;
    struct follow follow;

    bool catalog_busy; /* a change of the catalog is being committed */
    bool leader;       /* a thread is in reap() */
    bool closing;
    /* the lock's next release wakes the sleepers of these groups (as wal.done_mask) */
    uint32_t wake_due;
    _Atomic uint32_t sleepers; /* threads in engine_commit_wait() that may have to be woken */
    _Atomic uint32_t progress_count;
    _Atomic uint64_t durable_lsn; /* wal.durable, for them */
    bool bg_running, chores_running;
    bool chores_asked;
    bool chores_wait; /* the maintenance thread sleeps until there is progress */
    pthread_t bg, maintenance;
    _Atomic int stop;   /* pawl_stop() */
    uint32_t stoppable; /* threads in engine_wait_or_stop() */
    _Atomic uint32_t
        stop_word; /* changes with each progress while there are any, and with a stop */
    int event_fd;
    _Atomic bool event_used;

    struct notice notice;
    pawl_error last_error;                 /* of a call in any thread */
    _Atomic uint32_t open_txs;             /* transactions that have not ended */
    uint32_t open_readers, open_producers; /* not closed */
    void *ended[ENDED_MAX];                /* what was closed last; a ring */
    uint32_t ended_count;

    struct pawl_any *any;      /* readers of several partitions: any.c */
    uint32_t any_opened;       /* a count */
    uint32_t any_watched;      /* those to be told when something can be read */
    uint32_t any_watched_tail; /* of them, those that read what is appended */
    _Atomic uint32_t any_word; /* changes whenever one of them is told */

    /* Asynchronous commits that are not durable, in the order of the calls. An empty one waits for
     * those before it, though its LSN is durable. */
    struct async_commit *async_head, *async_tail;
    struct async_commit *ready_head, *ready_tail; /* durable or failed, callback due */
    struct async_commit *async_free;              /* memory for later ones */
    uint32_t async_count;                         /* of all but the free ones */
    bool dispatching;

    struct index_entry *index; /* sparse, of the active segment */
    uint32_t index_count, index_cap;
    _Atomic uint32_t round_robin;
    /* by stream id; 0: not looked up yet. Streams never change */
    _Atomic uint16_t partitions_of[STREAMS_MAX + 1];
    /* (constant): a record's largest size; a transaction spills beyond */
    uint64_t record_max, spill_bytes;
    uint64_t drop_to; /* segments below this are being removed */
    /* partition.first is right, as long as the first whole segment is no later than this one:
     * locate_first() */
    uint64_t firsts_from;
    bool firsts_known;
    uint32_t drop_waiters; /* threads that wait until wal.dropping is false */
    uint64_t full_since;   /* when there was no space for a segment */

    struct pawl_processor *processors; /* added ones, a list */
    bool running;
    /* of the last pawl_run(), for the next; whoever runs, adds or removes processors has them */
    struct task *tasks;
    uint32_t task_count, task_room;

    pthread_mutex_t spill_mutex; /* taken last of all */
    /* open transactions with a part in the log: retention must keep it. Guarded by spill_mutex */
    struct pawl_tx *spilling;

    /* Transactions that ended, with their memory, for the next ones to use: a commit then allocates
     * nothing. Guarded by tx_pool_busy, which nobody waits for: who finds it set does without. */
    atomic_flag tx_pool_busy;
    struct pawl_tx *tx_pool;
    uint32_t tx_pool_count;
    uint64_t tx_pool_bytes;

    uint64_t payload_bytes, commits, records;
    uint64_t recovered_bytes, cut_bytes, recovery_ns;
    bool clean;
};

/* Keeps this thread's last error as the handle's, and returns its code. Without the lock. */
int engine_keep_error(pawl *p, int rc);
static inline int engine_answer(pawl *p, int rc) {
    return rc < 0 ? engine_keep_error(p, rc) : rc;
}

/* -- notice.c */
/* Under the lock: has something changed that the application wants to be told of? */
bool notice_due(pawl *p);
void notice_full(pawl *p); /* under the lock: an append was refused */
void notice_tell(pawl *p); /* under the lock, released inside */
void notice_opened(pawl *p, const pawl_options *o);

/* -- ended.c */
/* The first word of what an application holds and ends: a transaction, reader, producer or
 * processor. */
enum { HANDLE_LIVE = 0x6576696c, HANDLE_ENDED = 0x6e65646f };
PAWL_CHECKED int ended_refuse(const void *what, const char *kind);
/* PAWL_STATE for what has ended, PAWL_INVALID for NULL. `what` begins with that word. */
static inline int handle_live(const void *what, const char *kind) {
    return what != NULL && *(const uint32_t *)what == HANDLE_LIVE ? 0 : ended_refuse(what, kind);
}
/* Under the lock: what was closed, marked as ended, is freed some time later. */
void ended_keep(pawl *p, void *what, size_t size);
void ended_free(pawl *p);
/* PAWL_BUSY while a transaction, reader or producer is open. */
PAWL_CHECKED int ended_all(pawl *p);

/* -- lock.c */
/* Entry of every public call: fork and state check, then the lock. */
PAWL_CHECKED int engine_enter(pawl *p);
PAWL_CHECKED int engine_enter_writer(pawl *p); /* PAWL_READ_ONLY on a read-only handle */
/* Once the lock is released: hands queued requests to the kernel, and wakes the threads that sleep
 * in engine_commit_wait(). */
void engine_after(pawl *p, bool kick, uint32_t wake);
static inline void engine_leave(pawl *p) {
    bool kick = p->wal.kick_due;
    uint32_t wake = p->wake_due;
    p->wal.kick_due = false;
    p->wake_due = 0;
    pthread_mutex_unlock(&p->mutex);
    if (kick || wake != 0)
        engine_after(p, kick, wake);
}
/* Under the lock, before waiting for anything: does what is due, with the lock released. True if it
 * did: then look again before you wait. */
static inline bool engine_did_due(pawl *p) {
    if (!p->wal.kick_due && p->wake_due == 0)
        return false;
    engine_leave(p);
    pthread_mutex_lock(&p->mutex);
    return true;
}
PAWL_CHECKED int engine_check_fork(const pawl *p);
uint64_t engine_fork_generation(void);
uint64_t engine_now(const pawl *p);        /* monotonic ns */
extern _Atomic uint64_t engine_generation; /* counts the forks that led to this process */
int engine_refuse(pawl *p);                /* why engine_check_writer() says no */
/* As engine_enter_writer(), without the lock. */
static inline int engine_check_writer(pawl *p) {
    bool well =
        p->fork_generation == atomic_load_explicit(&engine_generation, memory_order_relaxed) &&
        !p->read_only && atomic_load_explicit(&p->wal.failed, memory_order_relaxed) == 0;
    return well ? 0 : engine_refuse(p);
}
/* Under the lock: asks for what the background thread does, or the maintenance thread. */
void engine_poke(pawl *p);
void engine_ask_chores(pawl *p);
/* Under the lock: something became durable, was appended, or failed: wakes all threads that wait
 * for it, and moves the callbacks that are due. */
void engine_progress(pawl *p);
/* Under the lock: sleeps on one of the handle's conditions, at most until `deadline` (monotonic ns;
 * UINT64_MAX: none). False when it passed. */
bool engine_sleep(pawl *p, pthread_cond_t *cond, uint64_t deadline);
/* Under the lock: wakes all threads that wait for progress. */
void engine_tell(pawl *p);
/* Wakes those in engine_wait_or_stop(). A signal handler may call it: it takes no lock. */
void engine_tell_stop(pawl *p);
/* Under the lock: waits for progress or pawl_stop(), at most until `deadline`. False when it had
 * passed. The condition `progress` can't do that: a signal handler may not use it. */
bool engine_wait_or_stop(pawl *p, uint64_t deadline);
/* Under the lock: waits for progress, at most until `deadline`. False when it passed. */
bool engine_wait_until(pawl *p, uint64_t deadline);

/* -- lead.c */
/* Under the lock, released inside: waits for the device once, as the leader. There must be no other
 * leader, and something in flight. */
void engine_lead(pawl *p);
/* Under the lock: waits for I/O once: leads if no thread does, else waits for progress. */
void engine_wait(pawl *p);
/* Under the lock: waits for space in a full log, for a short time, or until pawl_stop(). */
void engine_wait_space(pawl *p);
/* Under the lock: until everything below lsn is durable, or the log failed. */
PAWL_CHECKED int engine_wait_durable(pawl *p, uint64_t lsn);
/* The same for the commit that was appended last, and releases the lock. A thread that is woken
 * doesn't take the lock again, so many committers can wait at once. */
PAWL_CHECKED int engine_commit_wait(pawl *p, uint64_t lsn);
PAWL_CHECKED int engine_start_threads(pawl *p);
void engine_stop_threads(pawl *p);

/* -- async.c */
/* Under the lock: memory for one more commit, once there is room among them. NULL: no memory. */
struct async_commit *async_take(pawl *p);
void async_give_back(pawl *p, struct async_commit *a);
/* Under the lock: an appended commit joins the queue, and gets to the device. */
void async_add(pawl *p, struct async_commit *a);
/* Under the lock: commits that are durable, or failed with the log, leave the queue; those with a
 * callback move to the ready list. */
void async_due(pawl *p);
void async_free(pawl *p); /* the memory of commits that have ended */
/* Under the lock, released around callbacks: runs those that are due. Returns how many. */
int engine_dispatch(pawl *p);
/* Makes the event descriptor readable, if the application has asked for one. */
void engine_ring(pawl *p);

/* -- chores.c */
/* Under the lock, released inside: prepares a segment or drops old ones, if wanted. True if it did
 * something. */
bool engine_chore(pawl *p);
void *engine_maintenance(void *p); /* the maintenance thread's function */

/* -- event.c: the doorbell for the application's own poll loop */
PAWL_CHECKED int event_open(void); /* a descriptor, or negative */
void event_ring(int fd);
void event_clear(int fd);
void event_close(int fd);
/* Sleeps while *word is `seen` (it may return earlier); true if it was woken. event_wake() wakes a
 * few of those who sleep with each bit; who is woken wakes the next few. */
bool event_sleep(_Atomic uint32_t *word, uint32_t seen, uint32_t bit);
void event_wake(_Atomic uint32_t *word, uint32_t bits);
/* Sleeps while *word is `seen`, for `ns` at most (UINT64_MAX: no limit), or until one of its bits
 * is woken; it may return earlier. event_wake_all() wakes everybody who sleeps with one of the
 * bits, and may be called by a signal handler. */
void event_sleep_for(_Atomic uint32_t *word, uint32_t seen, uint32_t bit, uint64_t ns);
void event_wake_all(_Atomic uint32_t *word, uint32_t bits);
void event_yield(void); /* the processor goes to another thread that wants it */

/* -- open.c */
/* Sets the error for a directory that the seam answered `rc` for, and returns its code. */
int open_error(int rc, const char *dir, bool create);
struct wal_hooks engine_hooks(pawl *p);
/* pawl_open() on a seam that the caller made, which the handle owns from here on, also when opening
 * fails. Simulators and fault injectors come in here. The options are not checked, so segments and
 * memory caps may be smaller than the public limits. */
PAWL_CHECKED int engine_open(struct seam *io, const pawl_options *o, pawl **out);

/* -- tx.c, tx_commit.c */
struct tx_run {
    uint32_t stream, partition, count;
    struct bytes data;    /* its own memory, or what lies behind the head of its loan */
    struct wal_loan loan; /* once it has become large, where one was to be had */
    struct bytes kept;    /* its own memory meanwhile */
};
struct tx_spilled {
    uint32_t stream, partition, count;
    struct spilled_entry at;
    uint64_t order; /* spill number, to keep offset order */
};
/* The body of the commit frame and its runs, bases still open. What lies before and behind the
 * records is in `own`; they too, if they are few; else they stay where they are, as pieces, or,
 * being all that there is before the rest, have the rest put behind them. */
struct tx_build {
    struct run *runs; /* `few` or `many`; NULL: not built */
    struct piece *pieces;
    uint32_t count, piece_count;
    struct run few[8];
    struct piece few_pieces[8];
    /* so many pieces, and as many runs behind them; stays for the next transaction */
    struct piece *many;
    uint32_t many_cap;
    struct bytes own;
    struct bytes *rest; /* where what is no record goes */
    size_t rest_len;    /* and how long that was before */
    size_t len;         /* of the body */
    uint64_t hash;
};
struct pawl_tx {
    uint32_t live; /* HANDLE_LIVE or HANDLE_ENDED */
    pawl *p;
    struct tx_run *runs;
    /* those from run_count to run_made hold nothing but memory */
    uint32_t run_count, run_made, run_cap;
    struct tx_run *recent; /* the one put into last, or NULL */
    struct tx_spilled *spilled;
    uint32_t spilled_count, spilled_cap;
    struct position_entry *positions;
    uint32_t position_count, position_cap;
    pawl_producer *producer;
    struct producer_entry sequence;
    bool takeover; /* `sequence` is a new holder's, without sequences */
    /* a catalog change that only new input needs: it must not eat up a full log's reserve */
    bool for_input;
    struct bytes catalog, sinks;
    uint32_t catalog_count, sink_count;
    uint64_t bytes; /* of records held */
    uint64_t records;
    struct tx_build build;
    bool built;
    /* Of its first SPILL frame, and its place in pawl.spilling; changed under pawl.spill_mutex. */
    uint64_t first_spill;
    bool spilling;
    struct pawl_tx *spilling_next;
    struct pawl_tx *pool_next;
    uint64_t pool_bytes; /* what it holds in the pool */
};
struct pawl_producer {
    uint32_t live; /* HANDLE_LIVE or HANDLE_ENDED */
    pawl *p;
    /* open transactions with a sequence of it, and one for its owner: the last one frees it */
    _Atomic uint32_t refs;
    uint32_t id, epoch;
    uint64_t sequence;
    uint32_t cookie_len;
    uint8_t cookie[COOKIE_MAX];
};
#define TX_MANY_SIZE(cap) ((cap) * (sizeof(struct piece) + sizeof(struct run)))
PAWL_CHECKED int tx_new(pawl *p, struct pawl_tx **out); /* without a check of its own */
void producer_release(pawl_producer *producer);
void tx_pool_drain(pawl *p);
/* When a record is from; *now: what one without a time of its own gets; 0: the clock is still to be
 * read. */
static inline int64_t tx_time(const struct pawl_tx *tx, const pawl_record *r, int64_t *now) {
    if (r->timestamp_ns != 0)
        return r->timestamp_ns;
    if (*now == 0)
        *now = (int64_t)tx->p->io->ops->realtime(tx->p->io);
    return *now;
}
/* Most records are plain, and go where the one before went: a place that was checked then. Adds
 * such ones while there is room, and tells how many. */
static inline size_t tx_put_plain(struct pawl_tx *tx, uint32_t stream, uint32_t partition,
                                  const pawl_record *records, size_t count, int64_t *now) {
    struct tx_run *run = tx->recent;
    if (run == NULL || run->stream != stream || run->partition != partition ||
        tx->bytes > tx->p->spill_bytes)
        return 0;
    uint8_t *begin = run->data.data + run->data.len, *at = begin;
    size_t left = run->data.cap - run->data.len, n;
    if (left > tx->p->spill_bytes - tx->bytes)
        left = tx->p->spill_bytes - tx->bytes;
    for (n = 0; n < count; n++) {
        const pawl_record *r = &records[n];
        size_t size = (size_t)RECORD_HEADER_SIZE + r->key_len + r->value_len;
        if (size > left ||
            (r->raw_headers_len | r->header_count | r->reserved | r->reserved2) != 0 ||
            r->value == NULL || (r->key == NULL && r->key_len != 0))
            break;
        record_encode_plain(at, r, tx_time(tx, r, now));
        at += size;
        left -= size;
    }
    run->data.len += (size_t)(at - begin);
    tx->bytes += (size_t)(at - begin);
    run->count += (uint32_t)n;
    tx->records += n;
    return n;
}
/* Adds them all; on an error those before the one concerned. */
PAWL_CHECKED int tx_put_many(struct pawl_tx *tx, uint32_t stream, uint32_t partition,
                             const pawl_record *records, size_t count, int64_t *now);
static inline int tx_put(struct pawl_tx *tx, uint32_t stream, uint32_t partition,
                         const pawl_record *r, int64_t *now) {
    return tx_put_plain(tx, stream, partition, r, 1, now) == 1
               ? 0
               : tx_put_many(tx, stream, partition, r, 1, now);
}
void tx_build_free(struct pawl_tx *tx);
/* Without the lock: writes the records held as a SPILL frame. */
PAWL_CHECKED int tx_spill(struct pawl_tx *tx);
/* Is the record that it holds spilled too? A commit that refers to spilled frames has no large one
 * of its own: reading them would need memory for both. */
bool tx_must_spill(const struct pawl_tx *tx);
/* Without the lock: encodes and hashes what tx_append() will append. Nothing may be added
 * afterwards. */
PAWL_CHECKED int tx_prepare(struct pawl_tx *tx);
/* Under the lock: appends the transaction; 0 with its receipt, or an error. `wait_full`: as
 * block_when_full. */
PAWL_CHECKED int tx_append(struct pawl_tx *tx, pawl_receipt *receipt, bool wait_full);
void tx_free(struct pawl_tx *tx);
/* Has a commit that answered `rc` left the transaction to be committed again, or aborted? */
static inline bool tx_stays(int rc) {
    return rc == PAWL_FULL || rc == PAWL_MEMORY || rc == PAWL_STOPPED || rc == PAWL_FORKED;
}
/* Under the lock, where wal_append() answered `rc`: waits if that may help, and answers WAL_WAIT:
 * append again. `wait_full`: as block_when_full; PAWL_STOPPED where a stop ends that. */
PAWL_CHECKED int tx_wait(pawl *p, int rc, bool wait_full);
/* The oldest segment that holds a part of a transaction which is not finished; UINT64_MAX: none. */
uint64_t tx_oldest_spill(pawl *p);
/* Takes a transaction's content away so that it can be filled anew. */
void tx_reset(struct pawl_tx *tx);
PAWL_CHECKED int tx_add_catalog(struct pawl_tx *tx, const struct catalog_entry *e);
PAWL_CHECKED int tx_add_position(struct pawl_tx *tx, uint32_t processor, uint32_t stream,
                                 uint32_t partition, uint64_t from, uint64_t to);
/* Under the lock: append and wait until it is durable. The caller frees. */
PAWL_CHECKED int tx_commit_locked(struct pawl_tx *tx, pawl_receipt *receipt);

/* Under the lock: commits a new epoch of a producer, which fences its older holders. */
PAWL_CHECKED int tx_takeover(struct pawl_tx *tx, uint32_t producer);

/* -- apply.c */
/* Under the lock: the tables and the index follow a frame, whoever wrote it. `lost`: damage was
 * passed over since the last checkpoint. Errors: as tables_apply(). */
PAWL_CHECKED int engine_apply(pawl *p, const struct frame_header *h, const uint8_t *frame,
                              bool lost);
/* Under the lock: a segment begins, with nothing in its index. */
void engine_begin_segment(pawl *p);

/* -- locate.c */
/* Under the lock: if `first` is the oldest segment kept, the first one whose records are all there:
 * older ones may hold commits that refer to spilled parts in segments that are gone. */
uint64_t locate_whole_from(const pawl *p, uint64_t first);
/* The first frame of a segment, as it is on disk: where each partition stood as it began. */
struct checkpoint {
    uint64_t segment;
    struct segment_header header;
    int file; /* -1: nothing is held */
    struct scan scan;
    struct scan_frame frame; /* its bytes lie in the scan's window */
};
/* Without the lock: reads the checkpoint of a segment. Errors: PAWL_LOST (repair took it out),
 * PAWL_TRIMMED (the segment has been dropped), PAWL_DAMAGED, PAWL_IO; then there is nothing to
 * free. */
PAWL_CHECKED int checkpoint_read(pawl *p, uint64_t index, struct checkpoint *c);
void checkpoint_free(pawl *p, struct checkpoint *c); /* without the lock */
/* Tells each partition's next offset, until `each` answers false. Reads nothing. */
typedef bool (*checkpoint_fn)(void *ctx, uint32_t stream, uint32_t partition, uint64_t next);
PAWL_CHECKED int checkpoint_each(const struct checkpoint *c, checkpoint_fn each, void *ctx);

/* Under the lock: from now on the partitions begin where the checkpoint `c` of `segment` says
 * (NULL: at 0). Whoever drops segments says so before it begins. */
PAWL_CHECKED int locate_firsts_are(pawl *p, uint64_t segment, const struct checkpoint *c);
/* Under the lock: oldest offset kept of a partition. It is in memory; the lock is released, and the
 * disk read, only by the first call after the log was opened. A read-only handle looks each time
 * whether the oldest segment is still there, also without the lock. */
PAWL_CHECKED int locate_first(pawl *p, uint32_t stream, uint32_t partition, uint64_t *first);
/* Under the lock, released while it reads: an LSN from which a walk meets the offset. 1: the offset
 * is no longer kept. *first is the oldest that is. */
PAWL_CHECKED int locate(pawl *p, uint32_t stream, uint32_t partition, uint64_t offset,
                        uint64_t *first, uint64_t *lsn);
/* Under the lock: notes where a commit's runs lie in the newest segment. */
void locate_index_add(pawl *p, const struct frame_header *h, const uint8_t *frame);

/* -- follow.c */
PAWL_CHECKED int follow_open(pawl *p);
/* Under the lock, released while it reads: looks for more. 1 if there was any, 0, or an error. */
PAWL_CHECKED int follow_refresh(pawl *p);
void follow_close(pawl *p);

/* -- reader.c */
/* Under the lock: what may be read: durable, or everything appended. */
uint64_t reader_limit(const pawl *p, uint32_t flags);
/* Gives back memory that can be had again: the window into the file, and the buffers once all of
 * them is given out, which ends the life of the last batch. */
void reader_rest(pawl_reader *r);
/* Lets go of what its last batch took of the log's memory, if nothing of that is left to read. */
void reader_unpin(pawl_reader *r);

/* Under the lock: would a read without waiting give records, or an error? */
bool reader_ready(const pawl_reader *r);
/* Has it gathered records that are not given out yet? */
bool reader_pending(const pawl_reader *r);

/* -- any.c */
/* Under the lock, where any_watched is not 0: records became durable, or the log failed; or
 * (`appended`, any_watched_tail) records were appended. Wakes the readers that can go on. */
void any_tell(pawl *p, bool appended);
/* Without the lock: all waiting ones look at p->stop. */
void any_stop(pawl *p);

/* -- runtime.c */
void engine_forget_tasks(pawl *p);
void engine_free_processors(pawl *p); /* those that the application left to pawl_close() */

/* -- retention.c */
/* What may be dropped, and what says so. */
struct droppable {
    uint64_t keep;        /* the first segment that must be kept */
    uint64_t asked;       /* the segment whose size and age were looked at */
    struct checkpoint at; /* of the first segment that is whole without those before `keep` */
};
bool retention_is_set(const pawl *p);
/* Under the lock, released while it reads: is there anything that may be dropped now? To be freed
 * without the lock in any case: checkpoint_free(&d->at). */
bool retention_find(pawl *p, struct droppable *d);
/* Under the lock: may that still be dropped? Positions, settings and transactions may have come
 * since. */
bool retention_holds(const pawl *p, const struct droppable *d);

#endif
