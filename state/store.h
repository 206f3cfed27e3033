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
 *
 * A *partition* here is one partition of a table. Its changes go to the active *generation*, a
 * memory table. store_freeze() makes the active generations of all partitions the frozen ones, at a
 * place in the log; a flush writes the frozen ones to a run; once the log names the run,
 * store_flushed() lets them go.
 *
 * Threads: any thread may call any function. store_apply(), store_freeze(), store_flushed() and
 * store_runs_are() come from one thread at a time (the owner's lock). `mutex` guards the map of
 * partitions and `live`; a partition's lock guards its generations and the memory tables in them
 * while they are active. Frozen memory tables and runs never change. Nothing is read from a file
 * under a lock. Lock order: the owner's lock, store.mutex, store_part.lock.
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
    struct mem *mem;
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
    struct store_gen *active, *frozen; /* NULL: nothing in them */
    struct store_part *next;           /* in its bucket */
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
    struct store_live *live;       /* NULL: no runs */
    _Atomic uint64_t active_bytes; /* about; what the active generations take */
    bool has_frozen;               /* guarded by the owner's lock */
    struct snapshots snapshots;    /* guarded by the owner's lock, as all changes are */
    bool begun;
};

PAWL_CHECKED int store_init(struct store *s, struct seam *io, struct mem *mem,
                            uint64_t cache_bytes);
void store_free(struct store *s);

/* The partition, made if it isn't there; NULL: no memory. The caller gives it back. */
struct store_part *store_part(struct store *s, uint32_t table, uint32_t partition);
void store_part_release(struct store *s, struct store_part *part);
/* A pair of the partition expires then. */
void store_part_expires(struct store_part *part, uint64_t expiry_ms);
/* A table was deleted: its changes in memory are let go. */
void store_drop_table(struct store *s, uint32_t table);

/* Makes sure that applying `changes` changes with `bytes` bytes of keys and values can't fail. */
PAWL_CHECKED int store_reserve(struct store *s, struct store_part *part, uint32_t changes,
                               uint64_t bytes);
/* A change that the log holds at `lsn`. A newer one of the same key stays. `older`: it is older
 * than all that was frozen, and belongs there if anything is. */
PAWL_CHECKED int store_apply(struct store *s, struct store_part *part, const struct state_pair *c,
                             uint64_t lsn, bool older);

/* Of a pair that store_get() has found. */
struct store_found {
    uint64_t lsn;       /* of its change; 0: it is in a run */
    uint64_t expiry_ms; /* since 1970; 0: it stays */
};
/* The newest change of a key: 1 with its value in *value (its bytes are replaced), also if it has
 * expired; 0: there is no such pair, or it was deleted. */
PAWL_CHECKED int store_get(struct store *s, struct store_part *part, const void *key,
                           uint32_t key_len, struct bytes *value, struct store_found *found);

/* A range of a partition as it is when the cursor is opened, but for changes that come into the
 * active generation meanwhile; with a snapshot, without them. */
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
void store_gen_release(struct store_gen *g);

/* ---- flush and merge (store_flush.c) */

/* The active generations become the frozen ones. The last frozen ones must be gone. */
void store_freeze(struct store *s);
/* Of a reader of the log, when it meets the commit that names a flush: what it holds of before the
 * last such commit goes. `more`: it holds changes that the flush doesn't have. */
void store_passed_flush(struct store *s, bool more);
/* Without the owner's lock: writes the frozen generations to a run, durable on return. 1: *out is
 * its summary; 0: there was nothing to write. `drop_deletes`: no older run is there. `keep` says
 * whether a table still exists. */
typedef bool (*store_keep_fn)(void *ctx, uint32_t table);
PAWL_CHECKED int store_flush(struct store *s, const struct run_ident *ident, bool drop_deletes,
                             store_keep_fn keep, void *ctx, struct run_summary *out);
/* The frozen generations are in a run that is live. */
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
