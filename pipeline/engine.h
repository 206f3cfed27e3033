/* SPDX-License-Identifier: Apache-2.0
 *
 * engine.h - the handle behind pawl.h: the log's state machine and tables under one lock, and the
 * threads that drive them.
 *
 * lock.c       entry and release of the lock, waiting and waking
 * lead.c       the thread that waits for the device (the leader), commits that wait, the
 *              background thread
 * async.c      asynchronous commits and their callbacks, the event descriptor
 * chores.c     maintenance: segments are prepared and dropped
 * event.c      futex and eventfd
 * apply.c      what a frame changes, whoever wrote it     lost.c   what damage means for the tables
 * open.c       opening, closing      follow.c   read-only handles that follow a live writer
 * tx*.c        transactions          catalog.c  streams, producers, processors' names, settings
 *              (tx_origin.c: what they were read from)
 * reader.c     reading a partition   locate.c   from an offset to a place in the log
 * any.c        reading several partitions with one wait
 * processor.c  one step of a processor    runtime.c  processors, pawl_run()
 * worker.c     the threads of pawl_run()  feed.c     what gives their tasks their input
 * work.c       which of them are woken
 * retention.c  what may be dropped        status.c   figures
 * ended.c      what was closed or committed, and closing a log in use
 * notice.c     what the application is told by itself    struct_size.c  older and newer programs
 * inspect*.c   dump, audit    explain.c   where a record came from
 *                                         repair.c, verify.c are in recovery/
 *
 * Concurrency: `mutex` guards every field of struct pawl, except those marked (constant) or
 * (atomic). The leader waits for the device without the lock: other threads append meanwhile, and
 * their groups are submitted with the next flush.
 */
#ifndef PAWL_PIPELINE_ENGINE_H
#define PAWL_PIPELINE_ENGINE_H

#include <pthread.h>
#include <stdatomic.h>

#include "pipeline/state.h"
#include "pipeline/tables.h"
#include "pipeline/work.h"
#include "recovery/replay.h"
#include "wal/wal.h"

#define ASYNC_MAX 65536u
#define PARTITIONS_CACHED 4096u

/* An asynchronous commit that is not durable yet; its callback is still due. */
struct async_commit {
    uint64_t lsn;
    pawl_commit_fn fn;
    void *arg;
    pawl_receipt receipt;
    struct async_commit *next;
};

/* Read-only handle: two scans of the newest segment. `front` verifies every frame in the file, and
 * learns from later frames how far the log is durable; `apply` changes the tables, up to that LSN
 * only. */
struct follow {
    struct scan front, apply;
    uint64_t known;    /* durable LSN that frames have witnessed */
    uint64_t there;    /* end of the last commit in the files */
    uint64_t disk_cap; /* from the header of the segment that `apply` reads */
    /* Segment, end and epoch of the newest frame applied to the tables. Guarded by the lock; the
     * fields above are guarded by `busy`. */
    uint64_t index, shown, epoch;
    bool busy; /* a thread is looking for new frames */
    int front_file, apply_file;
    bool begun;
    int writer; /* pid of the live writer; 0: none */
};

/* What the log callback has reported to the application: notice.c. */
struct notice {
    pawl_log_fn fn; /* (constant); NULL: no callback */
    void *arg;
    bool telling; /* a thread is running fn */
    bool full, failed;
    bool copied; /* (constant) the log was copied, or restored from a copy */
    uint64_t first_segment;
    /* an append was refused while the log began with `refused_first`, and no space was freed
     * since */
    bool refused;
    uint64_t refused_first;
};

struct run_control;
struct task;

#define ENDED_MAX 32 /* readers, producers and processors: ended.c */

struct pawl {
    struct seam *io;           /* (constant) */
    struct mem mem;            /* (atomic inside) */
    readahead_spare readahead; /* of readers; freed when memory is short */
    /* a reader ran out of memory: since then readers keep nothing between calls that they can read
     * or allocate again */
    atomic_bool tight;
    bool read_only, salvage, no_thread, app_dispatch, block_when_full; /* (constant) */
    uint64_t fork_generation;                                          /* (constant) */
    uint64_t witness_ns;                                               /* (constant); 0: none */
    struct segment_header header; /* (constant) of the newest segment at open */
    struct points points;         /* (constant) */
    pthread_mutex_t mutex;
    pthread_cond_t progress; /* bytes became durable or were appended, or the log failed */
    pthread_cond_t work;     /* for the background thread */
    pthread_cond_t chores;   /* for the maintenance thread */
    struct wal wal;
    struct tables tables;
    struct store store; /* the pairs of keyed state; it has locks of its own */
    struct state_handle state;
    struct follow follow;

    bool catalog_busy; /* a catalog change is being committed */
    bool leader;       /* a thread is in reap() */
    bool closing;
    /* groups whose waiting threads the next release of the lock wakes (as wal.done_mask) */
    uint32_t wake_due;
    _Atomic uint32_t sleepers; /* threads in engine_commit_wait() that may need waking */
    _Atomic uint32_t progress_count;
    _Atomic uint64_t durable_lsn; /* copy of wal.durable for those threads */
    bool bg_running, chores_running;
    bool chores_asked;
    bool chores_wait; /* the maintenance thread sleeps until there is progress */
    uint32_t blocked; /* threads that wait for space in a full log */
    pthread_t bg, maintenance;
    _Atomic int stop;   /* pawl_stop() */
    uint32_t stoppable; /* threads in engine_wait_or_stop() */
    _Atomic uint32_t
        stop_word; /* changes with each progress while there are such threads, and with a stop */
    int event_fd;
    _Atomic bool event_used;

    struct todo todo; /* of the workers of pawl_run() */

    struct notice notice;
    pawl_error last_error;                 /* of the last failed call of any thread */
    _Atomic uint32_t open_txs;             /* of pawl_begin() that have not ended */
    uint32_t open_readers, open_producers; /* not closed */
    void *ended[ENDED_MAX];                /* the objects closed last; a ring */
    uint32_t ended_count;

    struct pawl_any *any;      /* readers of several partitions: any.c */
    uint32_t any_opened;       /* how many have been opened so far */
    uint32_t any_watched;      /* number to be notified when a record can be read */
    uint64_t any_told;         /* the durable LSN when they were last notified */
    uint32_t any_watched_tail; /* number of those that also read appended, non-durable records */
    _Atomic uint32_t any_word; /* changes whenever one of them is notified */

    /* Asynchronous commits that are not durable, in the order of the calls. An empty commit waits
     * for those before it, even if its LSN is durable. */
    struct async_commit *async_head, *async_tail;
    struct async_commit *ready_head, *ready_tail; /* durable or failed, callback due */
    struct async_commit *async_free;              /* free list */
    uint32_t async_count;                         /* in all lists except the free list */
    bool dispatching;

    struct index_entry *index; /* sparse, of the active segment */
    uint32_t index_count, index_cap;
    _Atomic uint32_t round_robin;
    /* id << 16 | number of partitions, in the place id % PARTITIONS_CACHED; 0: not looked up yet.
     * While a log is written to, a stream's partitions never change */
    _Atomic uint64_t partitions_of[PARTITIONS_CACHED];
    /* (constant): largest size of a record; size above which a transaction spills */
    uint64_t record_max, spill_bytes;
    uint64_t drop_to; /* segments below this are being removed */
    /* partition.first is valid while the first whole segment is not later than this one:
     * locate_first() */
    uint64_t firsts_from;
    bool firsts_known;
    uint32_t drop_waiters; /* threads waiting until wal.dropping is false */
    uint64_t full_since;   /* since when there is no space for a segment */

    struct pawl_processor *processors; /* list of the processors added */
    bool running;
    /* kept from the last pawl_run() for the next; owned by the thread that runs, adds or removes
     * processors */
    struct task *tasks;
    uint32_t task_count, task_room;

    pthread_mutex_t spill_mutex; /* last in the lock order */
    /* open transactions that have spilled: retention must keep those parts. Guarded by
     * spill_mutex */
    struct pawl_tx *spilling;

    /* Ended transactions, kept with their memory for reuse, so that a commit allocates nothing.
     * Guarded by tx_pool_busy. No thread waits for that flag: if it is set, the thread doesn't use
     * the pool. */
    atomic_flag tx_pool_busy;
    struct pawl_tx *tx_pool;
    uint32_t tx_pool_count;
    uint64_t tx_pool_bytes;

    uint64_t payload_bytes, commits, records;
    uint64_t recovered_bytes, cut_bytes, recovery_ns;
    enum age_case age_case; /* how certain the time since the log was last open is */
    bool clean;
};

/* Without the lock: copies this thread's last error to the handle, and returns its code. */
int engine_keep_error(pawl *p, int rc);
static inline int engine_answer(pawl *p, int rc) {
    return rc < 0 ? engine_keep_error(p, rc) : rc;
}

/* -- notice.c */
/* Under the lock: is there a change to report to the log callback? */
bool notice_due(pawl *p);
void notice_full(pawl *p); /* under the lock: an append was refused */
void notice_tell(pawl *p); /* under the lock, released inside */
/* outside the lock, by a thread that runs processors */
void notice_refused(pawl *p, const char *name, uint64_t count, const char *what, const char *why);
void notice_later(pawl *p, const char *name, const char *why);
void notice_opened(pawl *p, const pawl_options *o);

/* -- ended.c */
/* The first word of each object that an application opens and ends: transaction, reader, producer,
 * processor. */
enum { HANDLE_LIVE = 0x6576696c, HANDLE_ENDED = 0x6e65646f };
PAWL_CHECKED int ended_refuse(const void *what, const char *kind);
/* PAWL_STATE if the object has ended, PAWL_INVALID for NULL. `what` begins with that word. */
static inline int handle_live(const void *what, const char *kind) {
    return what != NULL && *(const uint32_t *)what == HANDLE_LIVE ? 0 : ended_refuse(what, kind);
}
/* Under the lock: keeps a closed object that is marked as ended; it is freed some time later. */
void ended_keep(pawl *p, void *what, size_t size);
void ended_free(pawl *p);
/* PAWL_BUSY while a transaction, reader or producer is open. */
PAWL_CHECKED int ended_all(pawl *p);

/* -- lock.c */
/* Entry of every public call: fork and state check, then the lock. */
PAWL_CHECKED int engine_enter(pawl *p);
PAWL_CHECKED int engine_enter_writer(pawl *p); /* PAWL_READ_ONLY on a read-only handle */
/* After the lock is released: passes queued requests to the kernel, and wakes the threads that
 * sleep in engine_commit_wait(). */
void engine_after(pawl *p, bool kick, uint32_t wake, uint32_t workers);
static inline void engine_leave(pawl *p) {
    bool kick = p->wal.kick_due;
    uint32_t wake = p->wake_due, workers = p->todo.due;
    p->wal.kick_due = false;
    p->wake_due = p->todo.due = 0;
    pthread_mutex_unlock(&p->mutex);
    if (kick || (wake | workers) != 0)
        engine_after(p, kick, wake, workers);
}
/* Under the lock, before a wait: does the work that is due, with the lock released. True if there
 * was any: then the caller checks its condition again before it waits. */
static inline bool engine_did_due(pawl *p) {
    if (!p->wal.kick_due && (p->wake_due | p->todo.due) == 0)
        return false;
    engine_leave(p);
    pthread_mutex_lock(&p->mutex);
    return true;
}
PAWL_CHECKED int engine_check_fork(const pawl *p);
uint64_t engine_fork_generation(void);
uint64_t engine_now(const pawl *p);        /* monotonic ns */
extern _Atomic uint64_t engine_generation; /* number of forks that led to this process */
int engine_refuse(pawl *p);                /* the error for which engine_check_writer() fails */
/* As engine_enter_writer(), without the lock. */
static inline int engine_check_writer(pawl *p) {
    bool well =
        p->fork_generation == atomic_load_explicit(&engine_generation, memory_order_relaxed) &&
        !p->read_only && atomic_load_explicit(&p->wal.failed, memory_order_relaxed) == 0;
    return well ? 0 : engine_refuse(p);
}
/* Under the lock: wakes the background thread, or the maintenance thread. */
void engine_poke(pawl *p);
void engine_ask_chores(pawl *p);
/* Under the lock, after bytes became durable or were appended, or the log failed: wakes all threads
 * that wait for progress, and moves due callbacks to the ready list. */
void engine_progress(pawl *p);
/* Under the lock: waits on one of the handle's conditions, at most until `deadline` (monotonic ns;
 * UINT64_MAX: none). False if the deadline passed. */
bool engine_sleep(pawl *p, pthread_cond_t *cond, uint64_t deadline);
/* Under the lock: wakes all threads that wait for progress, but for workers. */
void engine_tell(pawl *p);
/* Under the lock, after a commit was appended that its thread doesn't wait for: wakes the threads
 * that read what isn't durable yet. */
void engine_tell_appended(pawl *p);
/* Wakes the threads in engine_wait_or_stop(), but for workers. A signal handler may call it: it
 * takes no lock. */
void engine_tell_stop(pawl *p);
/* Under the lock, after engine_did_due(): sleeps until the word changes, which pawl_stop() does to
 * each such word, at most until `deadline`. False if it had passed. */
bool engine_sleep_on(pawl *p, _Atomic uint32_t *word, uint64_t deadline);
/* Under the lock: waits for progress or pawl_stop(), at most until `deadline`. False if it had
 * passed. It can't use the condition `progress`, because a signal handler may not signal one. */
bool engine_wait_or_stop(pawl *p, uint64_t deadline);
/* Under the lock: waits for progress, at most until `deadline`. False if the deadline passed. */
bool engine_wait_until(pawl *p, uint64_t deadline);

/* -- lead.c */
/* Under the lock, released inside: waits for the device once, as the leader. Requires that there is
 * no other leader, and a request in flight. */
void engine_lead(pawl *p);
/* Under the lock: waits for I/O once. Leads if no thread does; otherwise waits for progress. */
void engine_wait(pawl *p);
/* Under the lock: waits for space in a full log, for a short time, or until pawl_stop(). */
void engine_wait_space(pawl *p);
/* Under the lock: waits until everything below lsn is durable, or the log failed. */
PAWL_CHECKED int engine_wait_durable(pawl *p, uint64_t lsn);
/* The same for the commit that was appended last, but releases the lock. A woken thread doesn't
 * take the lock again; this lets many committers wait at once. */
PAWL_CHECKED int engine_commit_wait(pawl *p, uint64_t lsn);
PAWL_CHECKED int engine_start_threads(pawl *p);
void engine_stop_threads(pawl *p);

/* -- async.c */
/* Under the lock: waits until the queue has room, and returns memory for one more commit. NULL: no
 * memory. */
struct async_commit *async_take(pawl *p);
void async_give_back(pawl *p, struct async_commit *a);
/* Under the lock: adds an appended commit to the queue, and makes sure it is submitted. */
void async_add(pawl *p, struct async_commit *a);
/* Under the lock: removes the commits from the queue that are durable, or failed with the log.
 * Those with a callback move to the ready list. */
void async_due(pawl *p);
void async_free(pawl *p); /* frees the memory of ended commits */
/* Under the lock, released around callbacks: runs the callbacks that are due. Returns their
 * number. */
int engine_dispatch(pawl *p);
/* Makes the event descriptor readable, if the application has asked for one. */
void engine_ring(pawl *p);

/* -- chores.c */
/* Under the lock, released inside: prepares a segment or drops old ones, if that is due. True if it
 * did something. */
bool engine_chore(pawl *p);
void *engine_maintenance(void *p); /* the maintenance thread's function */

/* -- event.c: futex waits, and the event descriptor for the application's poll loop */
PAWL_CHECKED int event_open(void); /* a descriptor, or negative */
void event_ring(int fd);
void event_clear(int fd);
void event_close(int fd);
/* Sleeps while *word is `seen` (it may return earlier); true if it was woken. event_wake() wakes a
 * few of the threads that sleep with each bit; each woken thread wakes the next few. */
bool event_sleep(_Atomic uint32_t *word, uint32_t seen, uint32_t bit);
void event_wake(_Atomic uint32_t *word, uint32_t bits);
/* Sleeps while *word is `seen`, for at most `ns` (UINT64_MAX: no limit), or until one of its bits
 * is woken; it may return earlier. event_wake_all() wakes all threads that sleep with one of the
 * bits; a signal handler may call it. */
void event_sleep_for(_Atomic uint32_t *word, uint32_t seen, uint32_t bit, uint64_t ns);
void event_wake_all(_Atomic uint32_t *word, uint32_t bits);
void event_yield(void); /* yields the CPU to another thread that is ready to run */

/* -- open.c */
/* Sets the error for a directory that the seam could not open (`rc`), and returns its code. */
int open_error(int rc, const char *dir, bool create);
struct wal_hooks engine_hooks(pawl *p);
/* What a writer checks besides what applying the frames has checked; `epoch`: of the last frame. 0,
 * or PAWL_LIMIT. */
PAWL_CHECKED int engine_may_write(const struct tables *t, const struct segment_header *h,
                                  uint64_t epoch);
/* pawl_open() on a seam that the caller created. The handle owns the seam from now on, even if
 * opening fails. For simulators and fault injectors. The options are not checked, so segments and
 * memory caps may be smaller than the public limits. */
PAWL_CHECKED int engine_open(struct seam *io, const pawl_options *o, pawl **out);

/* -- tx.c, tx_commit.c */
/* Under the lock: a stream is gone, and so is what is remembered of its partitions. */
static inline void engine_forget_partitions(pawl *p, uint32_t stream) {
    atomic_store_explicit(&p->partitions_of[stream % PARTITIONS_CACHED], 0, memory_order_relaxed);
}
struct tx_run {
    uint32_t stream, partition, count;
    struct bytes data;    /* its own memory, or the bytes after the head of its loan */
    struct wal_loan loan; /* a large run's write buffer, if one was free */
    struct bytes kept;    /* its own memory while it uses the loan */
    uint64_t end; /* while offsets are assigned: where its partition goes on; or NO_OFFSET */
};
/* From the transaction's record number `first` on, the records went to this run. */
struct tx_order {
    uint64_t first;
    uint32_t run; /* index */
};
struct tx_spilled {
    uint32_t stream, partition, count;
    uint32_t run; /* of its partition, by number */
    struct spilled_entry at;
    uint64_t order; /* spill number, keeps the order of offsets */
};
/* The body of the commit frame and its runs, before their base offsets are assigned. `own` holds
 * the parts before and after the records. A few records are copied into `own` too; otherwise they
 * stay where they are, as pieces. If one run of records is all that precedes the rest, the rest is
 * appended to that run's buffer. */
struct tx_build {
    struct run *runs; /* `few` or `many`; NULL: not built */
    struct piece *pieces;
    uint32_t count, piece_count;
    struct run few[8];
    struct piece few_pieces[8];
    /* many_cap pieces, followed by as many runs; kept for the next transaction */
    struct piece *many;
    uint32_t many_cap;
    struct bytes own;
    struct bytes *rest; /* buffer that the parts after the records go to */
    size_t rest_len;    /* its length before that */
    size_t len;         /* of the body */
    uint64_t hash;      /* of the body, under `key` */
    const struct frame_key *key;
};
struct pawl_tx {
    uint32_t live; /* HANDLE_LIVE or HANDLE_ENDED */
    /* The application began it and must end it, or pawl_close() refuses. The handle's own ones end
     * by themselves: pawl_close() waits for the chore or the call that made them. */
    bool counted;
    pawl *p;
    struct tx_run *runs;
    /* runs from run_count to run_made are unused and only keep their memory */
    uint32_t run_count, run_made, run_cap;
    /* Of a transaction with many: the runs by stream and partition, the positions by these and the
     * processor. */
    struct lookup run_index, position_index;
    struct tx_run *recent; /* the run that got the last record, or NULL */
    struct tx_spilled *spilled;
    uint32_t spilled_count, spilled_cap;
    struct position_entry *positions;
    uint32_t position_count, position_cap;
    pawl_producer *producer;
    struct producer_entry sequence;
    bool takeover; /* `sequence` announces a new holder and covers no sequence */
    /* a catalog change that only new input needs: it must not use a full log's reserve */
    bool for_input;
    struct bytes catalog, tables, sinks;
    uint32_t catalog_count, table_count, sink_count;
    int32_t state_files; /* by how many its changes of tables add to the files of state */
    /* what it changes in tables of keyed state; states from state_count to state_made only keep
     * their memory */
    struct tx_state **states;
    uint32_t state_count, state_made, state_cap;
    /* The reading of the clock by which pairs have expired for it, ms since 1970; 0: none yet. The
     * commit's frame has it as its time. */
    uint64_t clock_ms;
    bool expires;         /* it removes expired pairs, and gives way to everybody */
    uint64_t state_bytes; /* of the changes in the commit, at most */
    struct bytes state_value, state_before; /* values that were looked up */
    struct state_ahead *ahead; /* what the callback is probably going to look up; NULL: unknown */
    /* whose value in the store `state_value` is; NULL: it is something else */
    const struct tx_state *got_from;
    bool got_there;
    uint64_t got_expiry_ms;
    size_t got_key_len;
    uint8_t got_key[64];
    uint32_t decisions; /* of the entries of sinks, those that open one */
    pawl_error
        state_error; /* what was wrong with the state itself in this attempt; code 0: nothing */
    uint64_t tables_bytes; /* what its catalog changes and decisions add to a checkpoint */
    /* What the records were read from: entries encoded so far, and the number of records that they
     * cover. `order` has the runs that the records since then went to; it is kept only once
     * `named` is set. `marks` is memory for an entry's order and marks. */
    struct bytes origins, marks;
    uint32_t origin_count;
    uint64_t origin_records;
    bool named;
    struct tx_order *order;
    uint32_t order_count, order_cap;
    uint64_t bytes; /* of records held */
    uint64_t records;
    struct tx_build build;
    bool built;
    /* LSN of its first SPILL frame, and its place in pawl.spilling; changed under
     * pawl.spill_mutex. */
    uint64_t first_spill;
    bool spilling;
    struct pawl_tx *spilling_next;
    struct pawl_tx *pool_next;
    uint64_t pool_bytes; /* memory that it holds in the pool */
};
struct pawl_producer {
    uint32_t live; /* HANDLE_LIVE or HANDLE_ENDED */
    pawl *p;
    /* one for each open transaction with a sequence of it, and one for its owner: the last frees
     * it */
    _Atomic uint32_t refs;
    uint32_t id, epoch;
    uint64_t sequence;
    uint32_t cookie_len;
    uint8_t cookie[COOKIE_MAX];
};
/* Number of STATE runs that its commit has. */
static inline uint32_t state_runs(const struct pawl_tx *tx) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < tx->state_count; i++)
        n += tx->states[i]->changed;
    return n;
}
#define TX_MANY_SIZE(cap) ((cap) * (sizeof(struct piece) + sizeof(struct run)))
PAWL_CHECKED int tx_new(pawl *p, struct pawl_tx **out); /* doesn't check the handle */
void producer_release(pawl_producer *producer);
void tx_pool_drain(pawl *p);
/* A record's timestamp. *now is the time for records without one; 0: the clock has not been read
 * yet. */
static inline int64_t tx_time(const struct pawl_tx *tx, const pawl_record *r, int64_t *now) {
    if (r->timestamp_ns != 0)
        return r->timestamp_ns;
    if (*now == 0)
        *now = (int64_t)tx->p->io->ops->realtime(tx->p->io);
    return *now;
}
/* Most records are plain and go to the same partition as the record before, which was checked then.
 * Adds such records while there is room, and returns their number. */
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
        if (size > left || (r->raw_headers_len | r->header_count) != 0 || r->value == NULL ||
            (r->key == NULL && r->key_len != 0))
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
/* Adds all records; on an error, those before the record that failed. */
PAWL_CHECKED int tx_put_many(struct pawl_tx *tx, uint32_t stream, uint32_t partition,
                             const pawl_record *records, size_t count, int64_t *now);
static inline int tx_put(struct pawl_tx *tx, uint32_t stream, uint32_t partition,
                         const pawl_record *r, int64_t *now) {
    return tx_put_plain(tx, stream, partition, r, 1, now) == 1
               ? 0
               : tx_put_many(tx, stream, partition, r, 1, now);
}
/* Adds a record's run to the order of runs, if that is kept: before a record is put into a run that
 * is not the one before. */
PAWL_CHECKED int tx_note_order(struct pawl_tx *tx, const struct tx_run *run);
/* Is there a stream with this id, and how many partitions has it? */
PAWL_CHECKED int tx_look_up(pawl *p, uint32_t stream, uint32_t partition, uint32_t *partitions);
/* Makes room in an array for one more element. */
PAWL_CHECKED int tx_grow(pawl *p, void **array, uint32_t count, uint32_t *cap, size_t each);
void tx_build_free(struct pawl_tx *tx);
/* Adds the bytes of b->rest from `from` on as a run. */
void tx_build_rest(struct tx_build *b, uint16_t type, uint32_t stream, uint32_t partition,
                   uint32_t count, size_t from);
/* Without the lock: writes the records held as a SPILL frame. */
PAWL_CHECKED int tx_spill(struct pawl_tx *tx);
/* Must the record that it holds be spilled too? A commit that refers to spilled frames must not
 * hold a large record itself: reading it would need memory for both. Beside a large record there
 * may be no room in the frame for changes of state. */
bool tx_must_spill(const struct pawl_tx *tx);
/* Without the lock: encodes and hashes the bytes that tx_append() will append. Nothing may be added
 * after this. */
PAWL_CHECKED int tx_prepare(struct pawl_tx *tx);
/* Under the lock: appends the transaction; 0 with its receipt, or an error. `wait_full`: as
 * block_when_full. */
PAWL_CHECKED int tx_append(struct pawl_tx *tx, pawl_receipt *receipt, bool wait_full);
void tx_free(struct pawl_tx *tx);
/* After a commit that returned `rc`, can the transaction still be committed again, or aborted? */
static inline bool tx_stays(int rc) {
    return rc == PAWL_FULL || rc == PAWL_MEMORY || rc == PAWL_STOPPED || rc == PAWL_FORKED;
}
/* Under the lock, after wal_append() returned `rc`: waits if that may help, and returns WAL_WAIT:
 * append again. `wait_full`: as block_when_full; PAWL_STOPPED if a stop ends the wait. */
PAWL_CHECKED int tx_wait(pawl *p, int rc, bool wait_full);
/* The oldest segment that holds a spilled part of an open transaction; UINT64_MAX: none. */
uint64_t tx_oldest_spill(pawl *p);
/* Empties a transaction so that it can be filled again. */
void tx_reset(struct pawl_tx *tx);
/* The transaction finishes all open decisions of the processor, and of processors that are not
 * there. */
PAWL_CHECKED int tx_finish_all(struct pawl_tx *tx, uint32_t processor);
PAWL_CHECKED int tx_add_catalog(struct pawl_tx *tx, const struct catalog_entry *e);
/* Under the lock. Before a flush, it adds what the flush doesn't make good: TABLE_LOST. */
PAWL_CHECKED int tx_add_table(struct pawl_tx *tx, const struct table_entry *e);
PAWL_CHECKED int tx_add_position(struct pawl_tx *tx, uint32_t processor, uint32_t stream,
                                 uint32_t partition, uint64_t from, uint64_t to);
/* Under the lock: appends, and waits until it is durable. The caller frees the transaction. */
PAWL_CHECKED int tx_commit_locked(struct pawl_tx *tx, pawl_receipt *receipt);

/* Under the lock: commits a new epoch of a producer, which fences its older holders. */
PAWL_CHECKED int tx_takeover(struct pawl_tx *tx, uint32_t producer);

/* -- apply.c */
/* Under the lock: applies a frame to the tables and the index, no matter which process wrote it.
 * `lost`: damage was skipped since the last checkpoint. Errors: as tables_apply(). */
PAWL_CHECKED int engine_apply(pawl *p, const struct frame_header *h, const uint8_t *frame,
                              bool lost);
/* Under the lock: begins a segment, with an empty index. */
void engine_begin_segment(pawl *p);

/* -- locate.c */
/* Under the lock: the first segment with all its records present, if `first` is the oldest segment
 * kept. Older ones may hold commits that refer to spilled parts in dropped segments. */
uint64_t locate_whole_from(const pawl *p, uint64_t first);
/* The first frame of a segment, as on disk: each partition's next offset when the segment began. */
struct checkpoint {
    uint64_t segment;
    struct segment_header header;
    int file; /* -1: none open */
    struct scan scan;
    struct scan_frame frame; /* its bytes are in the scan's window */
};
/* Without the lock: reads the checkpoint of a segment. Errors: PAWL_LOST (repair took it out),
 * PAWL_TRIMMED (the segment has been dropped), PAWL_DAMAGED, PAWL_IO; then there is nothing to
 * free. */
PAWL_CHECKED int checkpoint_read(pawl *p, uint64_t index, struct checkpoint *c);
void checkpoint_free(pawl *p, struct checkpoint *c); /* without the lock */
/* Calls `each` with each partition's next offset, until it returns false. Does no I/O. */
typedef bool (*checkpoint_fn)(void *ctx, uint32_t stream, uint32_t partition, uint64_t next);
PAWL_CHECKED int checkpoint_each(const struct checkpoint *c, checkpoint_fn each, void *ctx);

/* Under the lock: sets each partition's first offset from the checkpoint `c` of `segment` (NULL: to
 * 0). A thread that drops segments calls this before it begins. */
PAWL_CHECKED int locate_firsts_are(pawl *p, uint64_t segment, const struct checkpoint *c);
/* Under the lock: the oldest offset kept of a partition. It is in memory; only the first call after
 * the log was opened releases the lock and reads from disk. A read-only handle checks each time,
 * without the lock, whether the oldest segment still exists. */
PAWL_CHECKED int locate_first(pawl *p, uint32_t stream, uint32_t partition, uint64_t *first);
/* Under the lock, released while it reads: an LSN from which a scan reaches the offset. 1: the
 * offset is no longer kept. *first is the oldest that is. */
PAWL_CHECKED int locate(pawl *p, uint32_t stream, uint32_t partition, uint64_t offset,
                        uint64_t *first, uint64_t *lsn);
/* Under the lock: adds a commit's runs to the index of the newest segment. */
void locate_index_add(pawl *p, const struct frame_header *h, const uint8_t *frame);

/* -- follow.c */
PAWL_CHECKED int follow_open(pawl *p);
/* Under the lock, released while it reads: looks for new frames. 1 if there were any, 0, or an
 * error. */
PAWL_CHECKED int follow_refresh(pawl *p);
void follow_close(pawl *p);

/* -- reader.c */
/* Under the lock: the LSN up to which a reader may read: the durable one, or the log's end. */
uint64_t reader_limit(const pawl *p, uint32_t flags);
/* Frees memory that can be filled again: the window into the file, and the buffers if all their
 * records are given out. That invalidates the last batch. */
void reader_rest(pawl_reader *r);
/* Unpins the log's memory that its last batch used, if no records there are left to read. */
void reader_unpin(pawl_reader *r);

/* Under the lock: would a read return records or an error without waiting? */
bool reader_ready(const pawl_reader *r);
/* Has it gathered records that it has not given out yet? */
bool reader_pending(const pawl_reader *r);

/* -- any.c */
/* Under the lock: can a reader have got something to read since it was last notified? Commits to
 * partitions that none of them reads cost no more than this. */
bool any_may_read(const pawl *p);
/* Under the lock, if any_watched is not 0: records became durable, or the log failed. With
 * `appended`, if any_watched_tail is not 0: records were appended. Wakes the readers that can
 * continue. */
void any_tell(pawl *p, bool appended);
/* Without the lock: all waiting readers check p->stop. */
void any_stop(pawl *p);

/* -- runtime.c */
void engine_forget_tasks(pawl *p);
/* those that the application has not removed before pawl_close() */
void engine_free_processors(pawl *p);

/* -- retention.c */
/* The segments that may be dropped, and the checkpoint that proves it. */
struct droppable {
    uint64_t keep;  /* the first segment that must be kept */
    uint64_t asked; /* the segment whose size and age were checked */
    /* checkpoint of the first segment that is whole without those before `keep` */
    struct checkpoint at;
};
bool retention_is_set(const pawl *p);
/* Under the lock, released while it reads: may any segment be dropped now? In any case the caller
 * frees the result without the lock: checkpoint_free(&d->at). */
bool retention_find(pawl *p, struct droppable *d);
/* Under the lock: may those segments still be dropped? Positions, settings and transactions may
 * have changed since. */
bool retention_holds(const pawl *p, const struct droppable *d);

#endif
