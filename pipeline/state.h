/* SPDX-License-Identifier: Apache-2.0
 *
 * state.h - the keyed state of a handle: what transactions change, what commits of it say, and how
 * it comes back after a crash. The pairs are in p->store (state/store.h); which tables and runs
 * there are is in p->tables (tables_state.h).
 *
 * state_tx.c      a transaction's changes, and the calls of callbacks and transactions
 * state_migrate.c brings a table to another version of its state
 * state_expire.c  removes expired pairs
 * state_clock.c   the clock by which pairs expire
 * state_commit.c  from a transaction's changes to STATE runs, and from STATE runs to the store
 * state_open.c    what the log says since the last flush, when it is opened; its runs
 * state_chores.c  flushes and merges
 * state_rebuild.c damaged runs, written anew from the log
 * state_read.c    reading from outside
 */
#ifndef PAWL_PIPELINE_STATE_H
#define PAWL_PIPELINE_STATE_H

#include "pawl_state.h"
#include "pipeline/tables_state.h"
#include "state/store.h"

_Static_assert(PAWL_STATE_KEY_MAX == STATE_KEY_MAX && PAWL_STATE_VALUE_MAX == STATE_VALUE_MAX,
               "what the interface takes fits a commit");
_Static_assert((int)PAWL_TABLE_LOCAL == (int)TABLE_LOCAL_KEYS &&
                   (int)PAWL_TABLE_EXPIRES == (int)TABLE_EXPIRES,
               "the flags of the interface are those of the log");
/* what a change takes in a commit beside its key and value, at most */
#define STATE_CHANGE_HEAD_MAX 24u
#define STATE_REPLAY_MAX (64ull * 1024 * 1024)

struct tx_build;

/* The removal of expired pairs: state_expire.c. Guarded by the handle's lock, but for what only the
 * chore uses while a look is under way: part, from, next, and, unless `waits`, keys. */
struct state_expiry {
    uint64_t
        wake_ms; /* by the clock of state, nothing is due before; UINT64_MAX: nothing expires */
    uint32_t next_table, next_partition; /* the place in all tables to look at next */
    struct store_part *part;             /* that is being looked through; NULL: none */
    struct bytes from, next;             /* the key to go on from */
    struct bytes keys;                   /* of expired pairs: length (2), key, and so on */
    uint64_t found_ms;                   /* the earliest expiry of the pairs that stay */
    bool over;                           /* the end of the partition was reached */
    bool waits;           /* the next commit that changes the partition may take the keys along */
    _Atomic bool offered; /* the same, for a look without the lock */
    uint64_t retry_ns;    /* if it waits: the chore tries again then */
    uint32_t tries;
    uint64_t deletes_ms; /* deletes are in memory since then, of pairs in files; 0: none */
};

/* Of a handle; guarded by its lock. */
struct state_handle {
    pawl_error error;  /* why state can't be used until the log is opened again; code 0: it can */
    uint64_t last_lsn; /* of the newest commit applied that changes state */
    bool runs_stale;   /* the log names other runs than those that are open */
    bool flushing;     /* a flush or merge of this handle is being named */
    bool busy;         /* a thread flushes or merges */
    bool pressed;      /* a commit waits for the memory that a flush gives back */
    bool closed;       /* the handle is being closed: no flush or merge begins any more */
    uint32_t last_run; /* the highest id that this handle has made a file for */
    uint64_t retry_ns; /* no flush or merge before this time; 0: at once */
    pawl_error flush_error;    /* of the last flush; code 0: it went well */
    bool beginning, following; /* of a read-only handle: state_read.c */
    /* The clock by which pairs expire: the last reading, and one from which it goes on, with the
     * seam's time then. */
    uint64_t read_ms, clock_ms, clock_at_ns;
    struct state_expiry expiry;
    uint32_t migrating; /* id of a table that nobody may change now: state_migrate.c; 0: none */
};

/* What a transaction changes in one partition of a table. */
struct tx_state {
    uint32_t table, partition;
    uint32_t partitions, flags; /* of the table */
    uint64_t ttl_ms;
    struct store_part *part; /* NULL: unused, and it only keeps its memory */
    struct memtable own;
    /* The partition when the transaction first touched it: the LSN of its newest change, and its
     * digest; the digest then follows the transaction's changes. A commit is refused if the
     * partition was changed meanwhile. */
    uint64_t base_lsn;
    struct state_sum sum;
    uint64_t bytes; /* of its changes in a commit, at most */
    bool changed;
    bool in_use; /* part->in_use counts it */
};

/* Who touches what. */
struct state_place {
    uint32_t table, partition;
    uint32_t owner; /* the processor that must own the table; 0: any may */
    bool internal;  /* the pipeline itself: internal tables too */
};

/* The records of a batch, while its callback runs. If it looks their keys up one after the other,
 * as most do, those that come next are fetched into the processor's caches. */
#define STATE_AHEAD 16u
struct state_ahead {
    const struct pawl_record *records;
    size_t count, at;    /* `at`: the record whose key is looked up next */
    size_t taken, ready; /* records before `taken` had the first step, before `ready` both */
    struct memtable_ahead keys[2 * STATE_AHEAD]; /* of the records from `ready` to `taken` */
};

/* -- state_tx.c */
/* As the calls of transactions in pawl_state.h. */
PAWL_CHECKED int state_tx_get(struct pawl_tx *tx, struct state_place at, const void *key,
                              size_t key_len, const void **value, size_t *value_len);
PAWL_CHECKED int state_tx_put(struct pawl_tx *tx, struct state_place at, const void *key,
                              size_t key_len, const void *value, size_t value_len);
/* `expiry_ms`: since 1970; 0: none. */
PAWL_CHECKED int state_tx_put_until(struct pawl_tx *tx, struct state_place at, uint64_t expiry_ms,
                                    const void *key, size_t key_len, const void *value,
                                    size_t value_len);
PAWL_CHECKED int state_tx_delete(struct pawl_tx *tx, struct state_place at, const void *key,
                                 size_t key_len);
PAWL_CHECKED int state_tx_scan(struct pawl_tx *tx, struct state_place at,
                               const pawl_state_range *range, pawl_state_cursor **out);
/* Deletes those of the keys (as in state_expiry.keys) that have expired for the transaction, and
 * that it hasn't changed itself, as far as its commit has room. */
PAWL_CHECKED int state_tx_expire(struct pawl_tx *tx, uint32_t table, uint32_t partition,
                                 const struct bytes *keys);
bool state_tx_touches(const struct pawl_tx *tx, uint32_t table, uint32_t partition);
/* The transaction's changes are gone. */
void state_tx_reset(struct pawl_tx *tx);
void state_tx_free(struct pawl_tx *tx); /* and its memory */
uint64_t state_tx_memory(const struct pawl_tx *tx);
/* The partition that a key belongs to, in a table of `partitions` partitions. */
uint32_t state_partition_of(const void *key, size_t key_len, uint32_t partitions);

/* -- state_scan.c */
struct pawl_state_cursor {
    pawl *p;
    struct pawl_tx *tx; /* NULL: it reads from outside */
    struct store_cursor *at;
    struct snapshot snapshot; /* if `snapped` */
    bool snapped;
    size_t keys_size;
    uint8_t keys[]; /* the range's own copies of keys */
};
/* `snapshot`: later changes aren't seen. */
PAWL_CHECKED int state_cursor_open(struct pawl *p, struct store_part *part,
                                   const pawl_state_range *range, struct memtable *own,
                                   uint64_t now_ms, bool snapshot, pawl_state_cursor **out);
/* Under the lock: scans of pawl_table_scan() that aren't closed. */
uint32_t state_open_scans(const struct pawl *p);

/* -- state_clock.c */
/* Under the lock: reads the clock by which pairs expire, in milliseconds since 1970. */
uint64_t state_clock(struct pawl *p);

/* -- state_commit.c */
/* Adds the STATE runs of the transaction's commit to the body (b->rest). */
void state_build(struct pawl_tx *tx, struct tx_build *b);
/* Under the lock, before the commit is appended: are the partitions as the transaction has seen
 * them? And room, so that applying the commit can't fail. WAL_WAIT: it has waited for a flush, with
 * the lock released; everything must be checked again. */
PAWL_CHECKED int state_check(struct pawl_tx *tx);
/* The hooks of p->tables: a STATE run is applied, a table goes. */
int state_apply_hook(void *ctx, const struct state_table *table, uint32_t partition, uint64_t lsn,
                     const uint8_t *data, uint32_t len);
void state_gone_hook(void *ctx, const struct state_table *table);
/* A STATE run of a frame at `lsn` goes to the store, unless what is there is newer. */
PAWL_CHECKED int state_apply_part(struct pawl *p, uint32_t table, uint32_t partition, uint64_t lsn,
                                  const uint8_t *data, uint32_t len);
/* The same, to any store. *least_ms falls to the earliest expiry of what was put. */
PAWL_CHECKED int state_apply_store(struct store *s, uint32_t table, uint32_t partition,
                                   uint64_t lsn, const uint8_t *data, uint32_t len,
                                   uint64_t *least_ms);
/* Under the lock: a frame was applied that names a flush. */
void state_applied(struct pawl *p);
/* Under the lock: this thread's last error keeps state from being used. */
void state_broken(struct pawl *p);

/* -- state_open.c */
PAWL_CHECKED int state_init(struct pawl *p);
void state_free(struct pawl *p);
/* STATE runs of COMMIT frames after one LSN and before another, in older segments too; without the
 * lock. */
struct scan_frame;
struct state_walk {
    uint64_t after, end;
    int (*state)(void *ctx, const struct scan_frame *f, const struct run *r, const uint8_t *data);
    int (*frame_end)(void *ctx, const struct scan_frame *f); /* NULL, or after each such frame */
    int (*lost)(void *ctx, uint64_t lsn);                    /* a LOST frame */
    void *ctx;
};
PAWL_CHECKED int state_walk_frames(struct pawl *p, const struct state_walk *w);
/* Without the lock: the changes in frames after `flush_lsn` and before `end`. */
PAWL_CHECKED int state_read_older(struct pawl *p, uint64_t flush_lsn, uint64_t end);
/* After replay, which has applied the segments from `newest` on: everything else. */
PAWL_CHECKED int state_recover(struct pawl *p, uint64_t newest);
/* The oldest segment that recovery needs for state; UINT64_MAX: none. */
uint64_t state_oldest(const struct pawl *p);
/* The runs that the log names, newest first; at most STATE_RUNS_MAX. */
uint32_t state_tables_idents(const struct state_tables *t, const uint8_t log_id[16],
                             struct run_ident *out);
/* The same of a handle, under the lock. */
uint32_t state_idents(const struct pawl *p, struct run_ident *out);
/* Without the lock: opens them. `whole`: all of them, or it fails. */
PAWL_CHECKED int state_open_runs(struct pawl *p, bool whole);

/* -- state_read.c */
/* Without the lock: the state can be read, all that the log says until now; its runs are open. */
PAWL_CHECKED int state_ready(struct pawl *p);

/* -- state_rebuild.c */
/* Of a writer without a maintenance thread: writes each damaged run anew, if the log still has what
 * it was made of. `tell` hears of each: 0, or why it stays damaged. Every byte of runs is read. */
PAWL_CHECKED int state_rebuild(struct pawl *p,
                               void (*tell)(void *arg, const struct run_ident *run, int code),
                               void *arg);

/* -- state_chores.c */
/* What becomes a run: runs, newest first, or, if there are none, frozen generations. */
struct state_job {
    uint32_t ids[STATE_RUNS_MAX], count;
    bool drops;           /* no older run is there: deletes go */
    uint64_t made_ms;     /* of the oldest of the runs that have deletes; 0: none has */
    struct store *frozen; /* whose generations; NULL: the handle's */
};
/* Under the lock, released inside: writes a run, under the first name that is free. Level and flush
 * LSN are in *ident, which gets all the rest. 1: done, 0: there was nothing to write. */
PAWL_CHECKED int state_write_named(struct pawl *p, const struct state_job *j,
                                   struct run_ident *ident);
/* Under the lock, released inside: commits what a flush or merge has made. */
PAWL_CHECKED int state_commit_runs(struct pawl *p, const struct run_ident *added,
                                   uint32_t added_count, const uint32_t *removed,
                                   uint32_t removed_count, bool durable);
void state_remove_file(struct pawl *p, uint32_t id);
/* Under the lock, released inside: ends flushes and merges, before the log's closing mark. */
void state_close(struct pawl *p);
/* Under the lock, released inside: flushes or merges, if that is due. True if it did something. */
bool state_chore(struct pawl *p);
/* Under the lock: when it is to be called if nothing else happens, on the monotonic clock. */
uint64_t state_next(struct pawl *p);
/* Under the lock: tells the log's writer what of the disk cap runs take, and are to have free. */
void state_take_space(struct pawl *p);
/* Under the lock: is a flush due? */
bool state_due(const struct pawl *p);
/* Under the lock: must commits that change state wait until a flush is done? */
bool state_must_wait(struct pawl *p);

/* -- state_expire.c */
/* Under the lock, released inside: looks for expired pairs, or removes them. True if it did
 * something. */
bool state_expire_chore(struct pawl *p);
/* Under the lock: when that is to be called, on the monotonic clock; UINT64_MAX: not before a put
 * asks for it. */
uint64_t state_expire_at(struct pawl *p);
/* Under the lock: a pair that expires then was put. */
void state_expire_put(struct pawl *p, uint64_t expiry_ms);
/* Without the lock, before the commit of a transaction is built: it takes deletes of expired pairs
 * along. */
void state_take_expired(struct pawl_tx *tx);
/* After recovery. */
PAWL_CHECKED int state_expire_begin(struct pawl *p);
void state_expire_free(struct pawl *p);
/* How long a delete stays in memory before a flush, and then in a run before a merge, at most. */
uint64_t state_purge_ms(const struct pawl *p);

#endif
