/* SPDX-License-Identifier: Apache-2.0
 *
 * pawl_state.h - keyed state: tables of pairs that never disagree with position and output.
 *
 * It is in libpawl, as pawl.h is, whose conventions hold here too. A table belongs to a processor.
 * Whatever the processor's callback changes in it is committed in one frame with the batch's
 * outputs and position, and comes back with them after a crash. (At least once: with the outputs; a
 * crash before the position is committed repeats both. At most once: there is no state.) A table
 * may be larger than memory: what is in the log is its write-ahead log, and what doesn't fit into
 * memory lies in files beside it, *runs*, which the handle writes and merges by itself.
 *
 *     // once: the processor's name, then its table
 *     pawl_processor_register(log, "counter", NULL);
 *     pawl_table_config c = PAWL_TABLE_CONFIG_INIT;
 *     c.name = "counts", c.owner = "counter", c.partitions = 1;
 *     pawl_table_create(log, &c, &table);
 *     // in the callback, for each record
 *     int64_t n;
 *     pawl_state_add(ctx, table, record->key, record->key_len, 1, &n);
 *
 * EXPIRY  A pair of a table with a time to live is gone once its time is over: get, scan and delete
 *         don't see it, and a counter begins at 0 again. The time begins anew with each put, add
 *         and append. A batch, or a transaction, reads the clock once, when it first touches such a
 *         table; the log keeps the reading, as the time of the commit. The clock is the wall clock,
 *         but it never goes back, not even when the log is opened again: where the wall clock is
 *         set back, or ahead and back again, it goes on from where it was at the speed of time, so
 *         pairs live as long as they should. While the wall clock is ahead by mistake, pairs expire
 *         too early by as much, and don't come back. Reading from outside uses the same clock.
 *         The handle that writes removes expired pairs by itself, whether anybody touches the table
 *         or not: by a commit within a second for each MiB that the table's partition holds, but
 *         within half of the table's time to live if it has one, and at least a second; and then
 *         from the runs within two seconds for each 64 KiB that all runs take together, and at
 *         least two. What reading and writing takes comes on top, and opening a log begins the
 *         times for runs anew. The log's own bytes go with its segments. No batch is refused for
 *         that; a transaction of pawl_begin() may be, as after any other change.
 *
 * LIMITS (PAWL_LIMIT where nothing else is said)
 *   tables      1,024 at a time, with 1 to 1,024 partitions each, and 16,384 together
 *   keys        1 to 8,192 bytes (PAWL_TOO_LARGE)
 *   values      4 MiB; and all changes of one commit together at most half of what a record may
 *               have (PAWL_TOO_LARGE)
 *
 * MEMORY  Half of what write buffers leave of the handle's memory cap holds pairs: a quarter of a
 *         small cap, nearly half of a large one. At most half of these pairs are in no run yet, as
 *         many again come in while a run is written, and the others are those that were used
 *         lately. A pair and its key take some 80 bytes more there. A sixteenth of the cap caches
 *         blocks of runs.
 * DISK    Changes stay in the log until a run has them; segments that hold others are kept from
 *         retention. Opening a log reads the frames since the last flush; one begins when these are
 *         three quarters of 64 MiB of log, or of two segments if that is more; with a disk cap a
 *         quarter of it, with retention by bytes half of these; and when the log is full. The disk
 *         cap counts runs twice, since a merge writes its run before the old ones go, and what is
 *         in memory once: no segment is begun that would leave them less, and then the log is full.
 *         (Changes in the segments that are there already may exceed it by twice their size.)
 *         pawl_status has the bytes of runs. A flush or merge that finds the disk full leaves
 *         nothing behind, and is tried again each second; commits that wait for a flush get
 *         PAWL_FULL meanwhile.
 */
#ifndef PAWL_STATE_H
#define PAWL_STATE_H

#include "pawl.h"

#ifdef __cplusplus
extern "C" {
#endif

#define PAWL_STATE_KEY_MAX 8192u
#define PAWL_STATE_VALUE_MAX (4u << 20)

/* ---------------------------------------------------------------- tables */

/* Flags of a table. */
enum pawl_table_flags {
    /* a partition takes any key, not only those that a record with that key would go to */
    PAWL_TABLE_LOCAL = 1,
    /* pairs may have a time to live of their own; every table with one for all has this flag */
    PAWL_TABLE_EXPIRES = 2
};

/* A table to be made. */
typedef struct pawl_table_config {
    size_t struct_size;
    const char *name;    /* as a stream's */
    const char *owner;   /* the name of a processor, which must be registered */
    uint32_t partitions; /* 1 to 1024: partition p belongs to the owner's input partition p */
    uint32_t version;    /* of the state that it holds, as the program counts */
    uint32_t flags;      /* enum pawl_table_flags */
    /* A pair expires this many milliseconds after it was put last (Expiry, above); 0: never, unless
     * it was put with a time of its own. */
    uint64_t ttl_ms;
} pawl_table_config;
#define PAWL_TABLE_CONFIG_INIT \
    { sizeof(pawl_table_config), 0, 0, 0, 0, 0, 0 }

/* What is known of a table. */
typedef struct pawl_table_info {
    size_t struct_size;
    uint32_t id;    /* from 1; never reused */
    uint32_t owner; /* id of a processor; 0: its creation was lost to damage */
    uint32_t partitions, version, flags;
    uint32_t lost; /* partitions of which damage has taken what they hold: PAWL_LOST */
    uint64_t ttl_ms;
    /* pairs, and the bytes of their keys and values; expired ones count until they are removed */
    uint64_t pairs, bytes;
    char name[128];
    char owner_name[128];
} pawl_table_info;
#define PAWL_TABLE_INFO_INIT \
    { \
        sizeof(pawl_table_info), 0, 0, 0, 0, 0, 0, 0, 0, 0, {0}, { \
            0 \
        } \
    }

/* Creates a table; durable on return. `id` may be NULL. The pairs that it is going to hold are the
 * owner's: they are changed in the transactions that move its positions, and the owner can't be
 * forgotten while it has a table.
 * Errors: INVALID (name, partitions, flags), EXISTS (then *id is the existing one's), NOT_FOUND (no
 * such processor), UNSUPPORTED (pawl.h, Structs), LIMIT, FULL, IO, READ_ONLY, FORKED. */
PAWL_API PAWL_CHECKED int pawl_table_create(pawl *p, const pawl_table_config *c, uint32_t *id);
/* Deletes a table; durable on return. What it held is never seen again: a new table of this name
 * gets a new id and is empty. Transactions that change it get NOT_FOUND.
 * Errors: NOT_FOUND, FULL, IO, READ_ONLY, FORKED. */
PAWL_API PAWL_CHECKED int pawl_table_delete(pawl *p, const char *name);
/* A table by its name, by its id, or by its place in a list of all (`index` from 0), as of the
 * newest commit of this process; of a reader: as of the newest durable one. Begin with
 * PAWL_TABLE_INFO_INIT.
 * Errors: NOT_FOUND, INVALID, IO, DAMAGED, FORKED. */
PAWL_API PAWL_CHECKED int pawl_table_find(pawl *p, const char *name, pawl_table_info *out);
PAWL_API PAWL_CHECKED int pawl_table_get_info(pawl *p, uint32_t id, pawl_table_info *out);
PAWL_API PAWL_CHECKED int pawl_table_at(pawl *p, uint32_t index, pawl_table_info *out);

/* A pair; its bytes live until the next call with the cursor that gave it, or until the callback
 * that was given it returns. This struct never grows. */
typedef struct pawl_state_pair {
    const void *key, *value;
    size_t key_len, value_len;
} pawl_state_pair;

/* ---------------------------------------------------------------- versions of the state */

/* A pair of an older version of a table's state, on its way to the program's version. */
typedef struct pawl_migration pawl_migration;
/* Is given each pair of the old version, and puts what becomes of it: nothing, a pair, or several,
 * with the same keys or with others. Of several with one key the last one stays. It may be called
 * again for the same pair after a failure or a kill. Any result but 0 ends the migration. */
typedef int (*pawl_migrate_fn)(pawl_migration *m, const pawl_state_pair *pair, void *arg);
/* In the callback: the version from which the pair comes. */
PAWL_API uint32_t pawl_migrate_from(const pawl_migration *m);
/* In the callback: puts a pair of the new version; key and value are copied. If the old pair
 * expires, this one expires at the same time.
 * Errors: as those of state in a callback; an error is the callback's result. */
PAWL_API PAWL_CHECKED int pawl_migrate_put(pawl_migration *m, const void *key, size_t key_len,
                                           const void *value, size_t value_len);
/* Finds or creates the table that a program uses, with the version of its state that the program
 * declares; durable on return. The state of an older version is brought to it by `fn`, and the
 * table gets the partitions, flags and time to live of `c` and a new id. A newer version, which
 * this program doesn't know, is refused, and so is an older one without `fn` (NULL).
 *
 * The new state replaces the old one by one commit, with the last pairs that were migrated. Up to
 * it everybody reads the old state, also after a failure or a kill; a further call begins the
 * migration again. While it goes on, the disk holds both, other changes of the table get BUSY, and
 * no processor may run. Processors of an older program, which knows the table's id, must be made
 * anew.
 * Errors: VERSION, STATE (the same version, but another owner, number of partitions, flags or time
 * to live; a local table would get fewer partitions), PROCESSOR (the callback), INVALID, NOT_FOUND
 * (no such processor), BUSY, LOST, DAMAGED, TOO_LARGE, MEMORY, LIMIT, FULL, IO, READ_ONLY, FORKED,
 * UNSUPPORTED (pawl.h, Structs). */
PAWL_API PAWL_CHECKED int pawl_table_use(pawl *p, const pawl_table_config *c, pawl_migrate_fn fn,
                                         void *arg, uint32_t *id);

/* ---------------------------------------------------------------- state in a callback */

/* These calls belong to the batch that the callback processes. The table's owner must be this
 * processor, and the partition is that of the records. Reads see the changes that the batch has
 * made so far. The changes are committed in one frame with the batch's outputs and position, or,
 * if the batch fails, not at all. In a table of several partitions a key belongs to the partition
 * that a record with this key goes to (PAWL_ANY); elsewhere it is refused, unless the table has
 * PAWL_TABLE_LOCAL.
 *
 * Their errors: NOT_FOUND (no such table), STATE (another processor owns it, or an
 * at-most-once processor, whose position is committed before its changes), RANGE (the table has no
 * such partition, or the key belongs to another one), INVALID (an empty key, a NULL pointer),
 * TOO_LARGE (the key, the value, or all changes of the batch together), LOST (damage has taken
 * commits of this table, and its pairs are not known any more), DAMAGED, IO, MEMORY, READ_ONLY,
 * FORKED. */

/* Gets a pair's value. 1: *value and *value_len are set; 0: there is no such pair. The value lives
 * until the next call with this context.
 * Errors: as above. */
PAWL_API PAWL_CHECKED int pawl_state_get(pawl_context *ctx, uint32_t table, const void *key,
                                         size_t key_len, const void **value, size_t *value_len);
/* Sets a pair; key and value are copied.
 * Errors: as above. */
PAWL_API PAWL_CHECKED int pawl_state_put(pawl_context *ctx, uint32_t table, const void *key,
                                         size_t key_len, const void *value, size_t value_len);
/* Sets a pair that expires `ttl_ms` milliseconds after the batch's reading of the clock, whatever
 * the table's own time to live is; 0: never.
 * Errors: as above; STATE also for a table without PAWL_TABLE_EXPIRES. */
PAWL_API PAWL_CHECKED int pawl_state_put_expiring(pawl_context *ctx, uint32_t table,
                                                  const void *key, size_t key_len,
                                                  const void *value, size_t value_len,
                                                  uint64_t ttl_ms);
/* Gives the batch's reading of the clock by which the table's pairs expire, in milliseconds since
 * 1970: all calls of the batch have the same one, and the log keeps it.
 * Errors: as above; STATE also for a table without PAWL_TABLE_EXPIRES. */
PAWL_API PAWL_CHECKED int pawl_state_clock(pawl_context *ctx, uint32_t table, uint64_t *now_ms);
/* Deletes a pair. 1: it was there; 0: it wasn't.
 * Errors: as above. */
PAWL_API PAWL_CHECKED int pawl_state_delete(pawl_context *ctx, uint32_t table, const void *key,
                                            size_t key_len);
/* Adds to a counter: a pair whose value is a signed number of 8 bytes, little-endian. A missing
 * pair counts as 0. `sum` (may be NULL) gets the new value.
 * Errors: as above; RANGE also for a sum that does not fit, STATE for a value of another length. */
PAWL_API PAWL_CHECKED int pawl_state_add(pawl_context *ctx, uint32_t table, const void *key,
                                         size_t key_len, int64_t add, int64_t *sum);
/* Appends bytes to a pair's value; a missing pair has an empty one.
 * Errors: as above. */
PAWL_API PAWL_CHECKED int pawl_state_append(pawl_context *ctx, uint32_t table, const void *key,
                                            size_t key_len, const void *more, size_t more_len);

/* Which pairs a scan takes, and in which order. Zeros: all, ascending. */
typedef struct pawl_state_range {
    size_t struct_size;
    const void *from; /* the first key, itself included; NULL: from the beginning */
    size_t from_len;
    const void *to; /* the end, itself not included; NULL: to the end */
    size_t to_len;
    const void *prefix; /* only keys that begin with this; NULL: any */
    size_t prefix_len;
    uint32_t reverse; /* 1: in descending order */
} pawl_state_range;
#define PAWL_STATE_RANGE_INIT \
    { sizeof(pawl_state_range), 0, 0, 0, 0, 0, 0, 0 }

typedef struct pawl_state_cursor pawl_state_cursor;

/* Begins a scan in a callback. Keys are in the order of memcmp(), a prefix before what it begins.
 * A pair that the batch changes while the cursor is open is seen as it was or as it is then. Close
 * the cursor before the callback returns. `range` may be NULL: all pairs.
 * Errors: as above. */
PAWL_API PAWL_CHECKED int pawl_state_scan(pawl_context *ctx, uint32_t table,
                                          const pawl_state_range *range, pawl_state_cursor **out);
/* The next pair. 1: *pair is set; 0: the scan is over.
 * Errors: DAMAGED, IO, MEMORY, INVALID. */
PAWL_API PAWL_CHECKED int pawl_state_next(pawl_state_cursor *cursor, pawl_state_pair *pair);
/* Safe with NULL. */
PAWL_API void pawl_state_close(pawl_state_cursor *cursor);
/* Deletes all pairs of a range, one by one. `deleted` (may be NULL) gets their number.
 * Errors: as above. */
PAWL_API PAWL_CHECKED int pawl_state_delete_range(pawl_context *ctx, uint32_t table,
                                                  const pawl_state_range *range, uint64_t *deleted);

/* ---------------------------------------------------------------- state in a transaction */

/* The same in a transaction of pawl_begin(), for a partition that the caller names (PAWL_ANY: that
 * of the key; not for a scan), whoever owns the table. Close a scan before the transaction ends.
 * pawl_commit() answers BUSY, and the transaction is gone, if another one has changed the same
 * partition of a table since this one first touched it: begin again.
 * Errors: as in a callback. */
PAWL_API PAWL_CHECKED int pawl_tx_state_get(pawl_tx *tx, uint32_t table, uint32_t partition,
                                            const void *key, size_t key_len, const void **value,
                                            size_t *value_len);
PAWL_API PAWL_CHECKED int pawl_tx_state_put(pawl_tx *tx, uint32_t table, uint32_t partition,
                                            const void *key, size_t key_len, const void *value,
                                            size_t value_len);
PAWL_API PAWL_CHECKED int pawl_tx_state_put_expiring(pawl_tx *tx, uint32_t table,
                                                     uint32_t partition, const void *key,
                                                     size_t key_len, const void *value,
                                                     size_t value_len, uint64_t ttl_ms);
PAWL_API PAWL_CHECKED int pawl_tx_state_delete(pawl_tx *tx, uint32_t table, uint32_t partition,
                                               const void *key, size_t key_len);
PAWL_API PAWL_CHECKED int pawl_tx_state_scan(pawl_tx *tx, uint32_t table, uint32_t partition,
                                             const pawl_state_range *range,
                                             pawl_state_cursor **out);

/* ---------------------------------------------------------------- tables from outside */

/* Copies the value of a pair to `value`, at most `size` bytes, and its whole length to *value_len.
 * What it shows is durable; a writer's handle waits for the flush under way if need be.
 * `partition`: PAWL_ANY means that of the key. 1: found; 0: there is no such pair. Any thread may
 * call it, beside running processors, and on a read-only handle in another process.
 * Errors: NOT_FOUND (table), RANGE, INVALID, LOST, DAMAGED, IO, MEMORY, FORKED. */
PAWL_API PAWL_CHECKED int pawl_table_get(pawl *p, uint32_t table, uint32_t partition,
                                         const void *key, size_t key_len, void *value, size_t size,
                                         size_t *value_len);
/* A scan of one partition, as it is durable when this call returns: later commits don't change what
 * the cursor sees. One thread at a time uses a cursor. While it is open it holds memory and files
 * that merges could give back otherwise, and pawl_close() answers BUSY.
 * Errors: as pawl_table_get(). */
PAWL_API PAWL_CHECKED int pawl_table_scan(pawl *p, uint32_t table, uint32_t partition,
                                          const pawl_state_range *range, pawl_state_cursor **out);

/* What is in a table partition, as one number: the sum modulo 2^128 of a hash (XXH3-128) of each
 * pair. Equal digests of two logs mean equal pairs, but for chance and for whoever forges pairs on
 * purpose (multiset hash MSet-Add-Hash, Clarke et al., ASIACRYPT 2003; XXH3 is no cryptographic
 * hash). This struct never grows. */
typedef struct pawl_table_digest {
    uint64_t low, high;
    uint64_t pairs, bytes; /* bytes of all keys and values */
    uint64_t lsn;          /* of the newest commit that changed the partition; 0: none yet */
} pawl_table_digest;
/* The digest that the newest commit of the partition names. It reads nothing.
 * Errors: NOT_FOUND, RANGE, FORKED. */
PAWL_API PAWL_CHECKED int pawl_table_get_digest(pawl *p, uint32_t table, uint32_t partition,
                                                pawl_table_digest *out);
/* Writes what tables hold in memory to a run file now, and names it durably. It is never needed:
 * the handle does so by itself. Returns 1 if there was something to write, else 0.
 * Errors: FULL, IO, MEMORY, READ_ONLY, FORKED. */
PAWL_API PAWL_CHECKED int pawl_state_flush(pawl *p);

/* ---------------------------------------------------------------- savepoints */

/* How a savepoint is made. */
enum pawl_savepoint_flags {
    /* Doesn't read what it has linked, nor all of what it has copied: what is damaged in the log
     * may be so in the savepoint. Headers, names, lengths, and the newest segment are checked. */
    PAWL_SAVEPOINT_QUICK = 1,
    /* links nothing: it shares no byte on the device with the log */
    PAWL_SAVEPOINT_COPY = 2
};

/* What is wanted of a savepoint, and what has become of it. */
typedef struct pawl_savepoint_info {
    size_t struct_size;
    uint32_t flags;            /* enum pawl_savepoint_flags */
    pawl_finding_fn finding;   /* what is found when it is verified; may be NULL */
    pawl_progress_fn progress; /* bytes of a file; may be NULL. Copying ends where it isn't 0 */
    void *arg;                 /* for both */
    /* results */
    uint8_t log_id[16];
    uint64_t lsn; /* it holds the log below this LSN */
    uint64_t segments, runs;
    uint64_t linked, copied; /* bytes of files that are the log's own, and of copies */
    uint64_t made_ns;        /* until all of it was durable */
    uint64_t verified_ns;    /* from then on, until it was verified */
} pawl_savepoint_info;
#define PAWL_SAVEPOINT_INIT \
    { sizeof(pawl_savepoint_info), 0, 0, 0, 0, {0}, 0, 0, 0, 0, 0, 0, 0 }

/* Makes a savepoint: a new directory `to` that holds the log as it is now, durably, with its state.
 * It is a log itself: pawl_verify(), pawl_audit() and readers take it as it is. A writer's handle
 * saves what was committed before the call, a reader's what is known to be durable. Writers and
 * readers go on meanwhile. Run files are hard links where the file system can, so they take no
 * space; the rest is copied. It is verified before it gets its name: if this call fails, or the
 * process is killed, there is no `to`, but perhaps `to`.unfinished, which the next call for the
 * same place removes. `info` may be NULL.
 * Errors: EXISTS (there is a `to`, or a `to`.unfinished that no savepoint left), INVALID (no name,
 * or inside the log's own directory), NOT_FOUND (the directory above), BUSY (another process makes
 * it; or retention is faster than the copying), DAMAGED, FOREIGN, VERSION, LIMIT (what verifying
 * the log would answer), FULL, IO, PERMISSION, MEMORY, STATE (opened for salvage), STOPPED (by
 * `progress`), FORKED. */
PAWL_API PAWL_CHECKED int pawl_savepoint(pawl *p, const char *to, pawl_savepoint_info *info);

/* Makes a log of a savepoint: a new directory `to` that goes on where the savepoint ends. It is
 * linked, verified and named as a savepoint is. The savepoint stays as it is, and is first compared
 * with the list of its files. The log goes by the same id as the one that was saved: it takes its
 * place, and the two must not both go on. What both the log and the world outside knew after the
 * savepoint, only the world still knows: producers send those records again (their sequences are
 * those of the savepoint), sources read on from the savepoint's positions, and sinks compare
 * their targets (docs/connectors.md): one that has a position of its own goes on there if the log
 * has the same records, an idempotent one overwrites. Its next segments get other keys, as those of
 * every copy (docs/format.md), and the log callback says so when it is opened.
 * Errors: as pawl_savepoint(); NOT_FOUND also if it is no savepoint, LOCKED, VERSION, DAMAGED (a
 * file is missing, or isn't the one that was saved). */
PAWL_API PAWL_CHECKED int pawl_restore(const char *savepoint, const char *to,
                                       pawl_savepoint_info *info, pawl_error *err);
/* The same for a log of its own. It gets another id, so that ids of messages, positions in targets
 * of sinks, and prepared transactions are its own: to a sink it is a log that the target has never
 * seen. What the original had decided to commit outside is finished by the original alone. An
 * earlier version of the library doesn't write to a fork.
 * Errors: as pawl_restore(). */
PAWL_API PAWL_CHECKED int pawl_fork(const char *savepoint, const char *to,
                                    pawl_savepoint_info *info, pawl_error *err);

/* ---------------------------------------------------------------- the same input again */

/* What is to be compared, and what came out. */
typedef struct pawl_replay_info {
    size_t struct_size;
    uint64_t from_lsn; /* commits from here on: where the savepoint ends; 0: from the first */
    pawl_progress_fn progress; /* LSNs; may be NULL. It ends where this isn't 0 */
    void *arg;
    /* results: what was compared. Of commits: those of the processor */
    uint64_t commits, records, outputs, sums; /* records of input; sums of table partitions */
    uint64_t lsn;                             /* of the first commit that differs */
    char what[384];                           /* and how; one line, fit to be shown */
} pawl_replay_info;
#define PAWL_REPLAY_INIT \
    { \
        sizeof(pawl_replay_info), 0, 0, 0, 0, 0, 0, 0, 0, { \
            0 \
        } \
    }

/* Is a processor deterministic? Runs it over the input that it has committed in `original`, once
 * more, in `again`, and compares what it emits, record by record (keys, values, headers), and the
 * digests of its tables, after each commit: each batch is the interval of one commit of the
 * original. It ends at the first commit that differs. `original` is open read-only; a writer may
 * write to it. `again` is open for writing, has the processor (pawl_processor_add()), runs nothing,
 * and is a fork of a savepoint of the original, or, with from_lsn 0, a new log with streams of the
 * same names and partitions, and the processor's tables. What the processor reads is copied there,
 * so it may be new code too: then this says what it does otherwise. Returns 0 if all is the same,
 * 1 if not. `info` may be NULL.
 * Errors: NOT_FOUND (processor, stream or table in one of the logs), STATE, BUSY, TRIMMED (the
 * input isn't kept), TILING (`again` isn't a fork made there), UNSUPPORTED (not exactly
 * once, knows time, or reads what it writes), PROCESSOR (it fails in `again`), STOPPED, DAMAGED,
 * FULL, IO, MEMORY, FORKED. */
PAWL_API PAWL_CHECKED int pawl_replay_check(pawl *original, pawl *again, const char *processor,
                                            pawl_replay_info *info);

#ifdef __cplusplus
}
#endif
#endif
