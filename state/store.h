/* SPDX-License-Identifier: Apache-2.0
 *
 * store.h - the keyed state of a log: memory tables of what the log says since the last flush, and
 * runs of what it said before. The log is its write-ahead log and its manifest: the owner applies
 * changes that a commit holds, and names a run in a commit after it was written.
 *
 * store.c         partitions, their memory tables, one key
 * store_runs.c    which runs are live, and their files
 * store_cursor.c  a range of a partition
 * store_flush.c   memory tables -> a run, runs -> one run
 * store_memory.c  what memory tables take, and what goes when that is too much
 *
 * A *partition* here is one partition of a table. Its *generation* is a memory table, which has the
 * newest change of each key in it; what is in none is in the newest run that has it. A change is
 * *clean* once a live run has it too, until then it is *dirty*: which of them it is, its LSN says.
 * store_freeze() notes a place in the log; a flush writes the dirty changes up to there to a run;
 * once the log names the run, store_flushed() makes them clean. So what was flushed stays in
 * memory, and the next use of its key reads no file.
 *
 * Memory tables take about `memory_max` bytes. Beyond that, clean changes go: those that were not
 * used lately first (store_reserve()), and whole generations that are clean, after a flush. Half of
 * it may be dirty; then a flush is due.
 *
 * Threads: any thread may call any function. store_reserve(), store_apply(), store_freeze(),
 * store_flushed() and store_runs_are() come from one thread at a time (the owner's lock), under
 * which `clean_lsn`, `frozen_lsn`, `has_frozen` and `snapshots` change. `mutex` guards the map of
 * partitions and `live`; a partition's lock guards its generation and the memory table in it. Runs
 * never change. Nothing is read from a file under a lock. Lock order: the owner's lock,
 * store.mutex, store_part.lock.
 *
 * A cursor holds the generation and the runs that were there when it was opened. While it is open,
 * nothing goes from that generation; but the partition may get another one.
 */
#ifndef PAWL_STATE_STORE_H
#define PAWL_STATE_STORE_H

#include <pthread.h>
#include <stdatomic.h>

#include "state/digest.h"
#include "state/memtable.h"
#include "state/merge.h"
#include "state/run.h"
#include "wal/bytes.h"
#include "wal/error.h"
#include "wal/mem.h"

struct store_gen {
    _Atomic uint32_t refs; /* of its partition, and of cursors */
    struct store *store;
    uint64_t newest_lsn;      /* of its changes */
    uint64_t dirty, freezing; /* bytes, about: changes since the last freeze; what a flush writes */
    uint64_t dirty_counted;   /* of `dirty`, what the store has counted */
    uint64_t bytes, used;     /* as the store has counted them */
    _Atomic uint32_t cursors; /* that read it */
    bool detached;            /* no partition has it: cursors alone hold it */
    struct memtable table;
};

struct store_part {
    uint32_t table, partition; /* (constant) */
    _Atomic uint32_t refs;     /* of the store, and of transactions and cursors */
    /* For the owner, who removes expired pairs: the batches that have begun to use the partition,
     * raised under the owner's lock; the earliest expiry of its pairs, or an earlier time
     * (UINT64_MAX: none expires); when it was last looked through, under the owner's lock. */
    _Atomic uint32_t in_use;
    _Atomic uint64_t expiry_min_ms;
    uint64_t looked_ms;
    pthread_mutex_t lock;
    struct store_gen *gen;   /* NULL: nothing is in memory */
    struct store_part *next; /* in its bucket */
};

/* The live runs, newest first. Never changes once it is made. */
struct store_live {
    _Atomic uint32_t refs;
    uint32_t count;
    struct store_run *runs[];
};
struct store_run {
    _Atomic uint32_t refs;
    struct run_ident ident;
    struct run_file *file; /* NULL: it can't be read, and `error` says why */
    pawl_error error;
    _Atomic bool damaged; /* a merge has met damage in it */
    /* when its tombstones were flushed, by the owner's clock, or when it was opened; 0: not told
     * yet. Under the owner's lock. */
    uint64_t made_ms;
};

#define STORE_BUCKETS 1024u
/* as many as a log may name, and one that it doesn't name yet */
#define STORE_RUNS_MAX (STATE_RUNS_MAX + 1u)

struct store {
    struct seam *io;
    struct mem *mem;
    struct run_cache *_Atomic cache; /* NULL before the first run: a log without state has none */
    uint64_t cache_bytes;
    pthread_mutex_t mutex;
    struct store_part *buckets[STORE_BUCKETS];
    struct store_live *live; /* NULL: no runs */
    uint64_t memory_max;     /* (constant) of memory tables */
    /* About: what generations take, the part of it that holds something, changes since the last
     * freeze, changes that a flush writes; what those take that only cursors hold. */
    _Atomic uint64_t bytes, used, dirty, freezing, detached;
    uint64_t clean_lsn;  /* changes up to here are in live runs */
    uint64_t frozen_lsn; /* a flush writes the changes up to here */
    bool has_frozen;
    struct snapshots snapshots;
    uint32_t hand; /* the bucket at which store_trim() goes on */
    bool begun;
};

PAWL_CHECKED int store_init(struct store *s, struct seam *io, struct mem *mem, uint64_t memory_max,
                            uint64_t cache_bytes);
void store_free(struct store *s);

/* The partition, made if it isn't there; NULL: no memory. The caller gives it back. */
struct store_part *store_part(struct store *s, uint32_t table, uint32_t partition);
void store_part_release(struct store *s, struct store_part *part);
/* A pair of the partition expires then. */
void store_part_expires(struct store_part *part, uint64_t expiry_ms);
/* A table was deleted: its changes in memory are let go. */
void store_drop_table(struct store *s, uint32_t table);

/* Makes sure that applying `changes` changes with `bytes` bytes of keys and values can't fail. If
 * memory is short, clean changes of the partition go first. */
PAWL_CHECKED int store_reserve(struct store *s, struct store_part *part, uint32_t changes,
                               uint64_t bytes);
/* A change that the log holds at `lsn`. A newer one of the same key stays. Between
 * store_apply_begin() and store_apply_end(), which hold the partition's lock. */
void store_apply_begin(struct store_part *part);
PAWL_CHECKED int store_apply(struct store *s, struct store_part *part, const struct state_pair *c,
                             uint64_t lsn);
void store_apply_end(struct store *s, struct store_part *part);

/* Of a pair that store_get() has found. */
struct store_found {
    uint64_t lsn;       /* of its change; 0: it is in a run */
    uint64_t expiry_ms; /* since 1970; 0: it stays */
};
/* The newest change of a key: 1 with its value in *value (its bytes are replaced), also if it has
 * expired; 0: there is no such pair, or it was deleted. */
PAWL_CHECKED int store_get(struct store *s, struct store_part *part, const void *key,
                           uint32_t key_len, struct bytes *value, struct store_found *found);

/* As memtable_fetch(), for store_get(). It reads no file. */
void store_fetch(struct store_part *part, struct memtable_ahead *keys, uint32_t second,
                 uint32_t count);

/* A range of a partition as it is when the cursor is opened, but for changes that come meanwhile;
 * with a snapshot, without them. */
struct store_range {
    const uint8_t *from, *to; /* NULL: open */
    uint32_t from_len, to_len;
    bool reverse;
    bool ahead;      /* most of it will be read, forward: RUN_CURSOR_SEQUENTIAL */
    uint64_t at_lsn; /* UINT64_MAX: the newest */
    uint64_t now_ms; /* pairs that have expired by then are passed over; 0: none is */
};
struct store_cursor;
/* Takes what the cursor is going to read, and reads nothing yet. For a snapshot it is called under
 * the owner's lock, so that no flush comes in between. `own` (may be NULL): changes of a
 * transaction, which hide what is older. */
PAWL_CHECKED int store_cursor_take(struct store *s, struct store_part *part,
                                   const struct store_range *range, struct memtable *own,
                                   struct store_cursor **out);
/* 1: *pair, which lives until the next call; 0: the end. */
PAWL_CHECKED int store_cursor_next(struct store_cursor *c, struct state_pair *pair);
void store_cursor_close(struct store_cursor *c);

/* The first bytes of the store keys of a partition: STORE_PREFIX_SIZE. */
void store_key(uint8_t *out, uint32_t table, uint32_t partition);

/* ---- memory (store_memory.c) */

/* Under the partition's lock: its generation, made if there is none; NULL: no memory. */
struct store_gen *store_gen_of(struct store *s, struct store_part *part);
void store_gen_hold(struct store_gen *g);
void store_gen_release(struct store_gen *g);
/* Under the partition's lock: the partition has no generation any more. */
void store_gen_detach(struct store *s, struct store_part *part);
/* Under the partition's lock, after its generation has changed. */
void store_count(struct store *s, struct store_gen *g);
/* Under the partition's lock: clean changes go, until there is room for `bytes` bytes. */
void store_make_room(struct store *s, struct store_gen *g, uint32_t changes, uint64_t bytes);
/* What a change takes, about: its entry, and its share of a leaf. */
static inline uint64_t store_change_bytes(uint64_t key_len, uint64_t value_len) {
    return sizeof(struct mem_entry) + 32 + key_len + value_len;
}
/* Generations that are clean go, if all take too much. */
void store_trim(struct store *s);
/* All clean changes go, but those of partitions in which a cursor stands. */
void store_shed(struct store *s);
/* Is there a change in memory that no run has? */
bool store_is_dirty(const struct store *s);
/* Under the owner's lock. Is there so much in memory that a flush is due; that changes must wait
 * for one? */
bool store_wants_flush(const struct store *s);
bool store_is_full(const struct store *s);

/* ---- flush and merge (store_flush.c) */

typedef void (*store_part_fn)(struct store *s, struct store_part *part);
void store_each_part(struct store *s, store_part_fn fn); /* under its lock */

/* A flush is going to write the changes up to `lsn`, the newest ones that there are. */
void store_freeze(struct store *s, uint64_t lsn);
/* Of a reader of the log, when it meets the commit that names a flush of changes up to `lsn`: what
 * it holds of before the last such commit goes. */
void store_passed_flush(struct store *s, uint64_t lsn);
/* After recovery has applied all: counts what is dirty. */
void store_recount(struct store *s);
/* Without the owner's lock: writes the frozen changes to a run, durable on return. 1: *out is its
 * summary; 0: there was nothing to write. `drop_deletes`: no older run is there. `keep` says
 * whether a table still exists. */
typedef bool (*store_keep_fn)(void *ctx, uint32_t table);
PAWL_CHECKED int store_flush(struct store *s, const struct run_ident *ident, bool drop_deletes,
                             store_keep_fn keep, void *ctx, struct run_summary *out);
/* The frozen changes are in a run that is live. */
void store_flushed(struct store *s);
/* Writes the runs with the given ids, neighbours in age, to one. As store_flush(). */
PAWL_CHECKED int store_merge(struct store *s, const uint32_t *ids, uint32_t count,
                             const struct run_ident *ident, bool drop_deletes, store_keep_fn keep,
                             void *ctx, struct run_summary *out);

/* ---- the live runs (store_runs.c) */

/* These are the live runs now, newest first. Opens those that aren't open yet: without the owner's
 * lock, if any of them may not be. Those that go stay open for cursors that use them. `whole`: an
 * error of opening one is returned, and nothing has changed. Else a run that is missing or damaged
 * is in the list all the same, and whoever comes as far as this run gets the error: what newer runs
 * and memory tables say is read as before, and what it hides is never taken for the truth. */
PAWL_CHECKED int store_runs_are(struct store *s, const struct run_ident *idents, uint32_t count,
                                bool whole);
/* Can the run with this id not be read, as far as is known? */
bool store_run_damaged(struct store *s, uint32_t id);
/* The live runs, for as long as the caller uses them. */
struct store_live *store_live_take(struct store *s);
void store_live_release(struct store *s, struct store_live *live);

#endif
