/* SPDX-License-Identifier: Apache-2.0
 *
 * run.h - runs: immutable files of sorted pairs, beside the segments. docs/format.md, section 10,
 * has their bytes.
 *
 *   format_run.c  encodes and decodes headers, blocks and entries
 *   filter.c      filters of keys
 *   cache.c       blocks in memory, shared by all runs of a store
 *   run_write.c   writes a run from pairs in ascending order
 *   run_read.c    opens a run, gets a pair
 *   run_iter.c    a cursor over a run, both ways
 *   run_verify.c  checks every byte of a run
 *
 * A run is there if a commit in the log names it. Its file is written in this order: a header that
 * says "unfinished", synced; the blocks, synced; the header, synced; the directory, synced. So a
 * file with a good header is a whole run, and what a crash leaves is known for what it is.
 *
 * Every block that is read from the file is checked: hash, place, length, order of the keys. What
 * is wrong is PAWL_DAMAGED, with a message that names file, offset and the keys between which the
 * block lies. A read that the system refuses is PAWL_IO.
 */
#ifndef PAWL_STATE_RUN_H
#define PAWL_STATE_RUN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "state/pair.h"
#include "wal/mem.h"
#include "wal/seam/seam.h"

#define RUN_NAME_SIZE 24u
/* The name of a run's file, "%016x.run". */
void run_name(char out[RUN_NAME_SIZE], uint32_t run_id);
/* Is it such a name? */
bool run_parse_name(const char *name, uint32_t *run_id);

/* Which run. A writer is told the first four fields. A reader is told all: what the log says. */
struct run_ident {
    uint8_t log_id[16];
    uint32_t run_id;
    uint32_t level;
    uint64_t flush_lsn;
    uint64_t length; /* of the file, in bytes */
    /* Of the header, which has the run's random key: no other file has it, even one of the same
     * log, name and length. 0: the reader doesn't know it. */
    uint64_t header_hash;
};

/* What is in a run. */
struct run_summary {
    uint64_t length; /* of the file, in bytes */
    uint64_t header_hash;
    uint64_t pairs;                  /* deletes included */
    uint64_t deletes;                /* tombstones */
    uint64_t key_bytes, value_bytes; /* of all pairs; store keys whole */
    uint64_t expiry_min_ms;          /* the earliest expiry in it; 0: nothing expires */
};

/* ---- writing (run_write.c). One thread at a time. */

struct run_writer;

/* Creates the file. The memory that a writer takes doesn't grow with the run: less than 256 KiB,
 * unless keys are long. Errors: EXISTS (there is a file of this name), FULL, MEMORY, PERMISSION,
 * IO. */
PAWL_CHECKED int run_writer_open(struct seam *io, struct mem *m, const struct run_ident *ident,
                                 struct run_writer **out);
/* Appends a pair with a whole store key, which must be greater than the last one's. Copies what it
 * keeps. After an error the writer only repeats it: abandon it. Errors: INVALID (order, a length),
 * FULL, MEMORY, IO. */
PAWL_CHECKED int run_writer_add(struct run_writer *w, const struct state_pair *pair);
/* Completes the file; when it returns 0 the file and its name are durable. Frees the writer, also
 * on an error: then the file is gone, or it can't be taken for a run. A run may be empty. Errors:
 * as run_writer_add(). */
PAWL_CHECKED int run_writer_finish(struct run_writer *w, struct run_summary *out);
/* Removes the file and frees the writer; NULL is allowed. It leaves the thread's last error. */
void run_writer_abandon(struct run_writer *w);

/* ---- what a file is (run_read.c) */

enum run_file_kind {
    RUN_FILE_WHOLE,      /* it has a good header; *out is filled */
    RUN_FILE_UNFINISHED, /* a writer began it and didn't finish; *out says for which log */
    RUN_FILE_BLANK,      /* at most one block, of zeros: nothing was written yet */
    RUN_FILE_OTHER,      /* anything else: damaged, of a later version, or no run at all */
};
/* Looks at the first block of any file of the directory. Returns enum run_file_kind, or an error:
 * MEMORY, IO, PERMISSION, NOT_FOUND. */
PAWL_CHECKED int run_identify(struct seam *io, struct mem *m, const char *name,
                              struct run_ident *out);

/* ---- the cache of blocks (cache.c). Any thread. */

struct run_cache;

/* At most `cap` bytes of blocks are kept, out of `m`. Blocks in use are never dropped; a block that
 * doesn't fit lives as long as it is used. */
PAWL_CHECKED int run_cache_create(struct mem *m, uint64_t cap, struct run_cache **out);
/* After every run that uses it is closed. NULL is allowed. */
void run_cache_destroy(struct run_cache *c);
/* Drops blocks until at most `bytes` are kept, as far as they aren't in use. */
void run_cache_shrink(struct run_cache *c, uint64_t bytes);
struct run_cache_counts {
    uint64_t hits, misses; /* look-ups */
    uint64_t bytes;        /* kept now */
};
void run_cache_count(struct run_cache *c, struct run_cache_counts *out);

/* ---- reading (run_read.c). Any number of threads may use a run at once, and close it last. */

struct run_file;

/* Opens the run and checks its header. Errors: NOT_FOUND (no such file), FOREIGN (a run of another
 * log, or another run), VERSION, DAMAGED (header, length), MEMORY, PERMISSION, IO. */
PAWL_CHECKED int run_open(struct seam *io, struct mem *m, struct run_cache *cache,
                          const struct run_ident *ident, struct run_file **out);
/* NULL is allowed. No pin or cursor of the run may be left. */
void run_close(struct run_file *r);
void run_summarise(const struct run_file *r, struct run_summary *out);

/* Keeps the block in memory in which a pair lies. All zeros: nothing is pinned. */
struct run_pin {
    struct run_block *block;
};
void run_unpin(struct run_pin *pin); /* a pin of nothing is allowed */

/* The pair of a whole store key: 1 if the run has it (a delete, or one that has expired, too), 0 if
 * it hasn't. The value in *out lives until *pin is released; `out->key` is `key`. *pin must pin
 * nothing before, and pins nothing unless the result is 1. Errors: DAMAGED, MEMORY, IO. */
PAWL_CHECKED int run_get(struct run_file *r, const void *key, uint32_t len, struct run_pin *pin,
                         struct state_pair *out);
/* As run_get(), without asking the filter first: for a key that the run probably has, as the oldest
 * run has most keys. It reads no filter, and needs none in memory. */
PAWL_CHECKED int run_get_likely(struct run_file *r, const void *key, uint32_t len,
                                struct run_pin *pin, struct state_pair *out);

/* ---- cursors (run_iter.c). One thread at a time each. */

struct run_cursor;
enum run_cursor_flags {
    /* Most pairs will be visited, forward: reads ahead in large pieces and leaves the cache as it
     * is. For merges. */
    RUN_CURSOR_SEQUENTIAL = 1,
};
#define RUN_WINDOW (256u * 1024u) /* what such a cursor reads at once, and takes of memory */

PAWL_CHECKED int run_cursor_open(struct run_file *r, uint32_t flags, struct run_cursor **out);
void run_cursor_close(struct run_cursor *c); /* NULL is allowed */
/* Each returns 1 if the cursor now stands at a pair, 0 if there is none, or an error: DAMAGED,
 * MEMORY, IO. After 0 or an error the cursor stands nowhere: it must seek before it moves. seek_ge:
 * the first pair whose key is `key` or a later one (a key of length 0: the first pair of all);
 * seek_le: the last pair whose key is `key` or an earlier one; seek_last: the last pair. */
PAWL_CHECKED int run_cursor_seek_ge(struct run_cursor *c, const void *key, uint32_t len);
PAWL_CHECKED int run_cursor_seek_le(struct run_cursor *c, const void *key, uint32_t len);
PAWL_CHECKED int run_cursor_seek_last(struct run_cursor *c);
PAWL_CHECKED int run_cursor_next(struct run_cursor *c);
PAWL_CHECKED int run_cursor_prev(struct run_cursor *c);
/* The pair at which the cursor stands, with its whole store key; NULL: it stands nowhere. Pair, key
 * and value live until the cursor moves or closes. */
const struct state_pair *run_cursor_pair(const struct run_cursor *c);

/* ---- verifying (run_verify.c) */

/* One damaged place. The keys between which it lies: what the damage may hide is greater than
 * `after` and not greater than `upto`. A length of 0: from the first key, or up to the last. */
struct run_damage {
    int code;        /* PAWL_DAMAGED, or PAWL_IO if it can't be read */
    uint64_t offset; /* in the file, in bytes */
    uint64_t length;
    const char *what;
    const uint8_t *after, *upto; /* store keys */
    uint32_t after_len, upto_len;
};
/* A store key as a message shows it: table/partition, and some of its bytes. `none`: what a key of
 * length 0 is called. */
#define RUN_KEY_TEXT 80u
void run_show_key(char out[RUN_KEY_TEXT], const uint8_t *key, uint32_t len, const char *none);
/* Reads and checks every byte of the file: hashes, order, what the index and the filters say of the
 * data, the sums in the header. Calls `fn` (NULL is allowed) for each damaged place and goes on
 * after it. Returns 0 (whole), DAMAGED (fn was called at least once), MEMORY; a negative result of
 * `fn` ends it and is returned. */
PAWL_CHECKED int run_verify(struct run_file *r, int (*fn)(void *arg, const struct run_damage *d),
                            void *arg);

#endif
