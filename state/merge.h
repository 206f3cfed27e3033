/* SPDX-License-Identifier: Apache-2.0
 *
 * merge.h - one cursor over several sources of sorted pairs, both ways: the memory tables and runs
 * that a scan reads, or the runs that become one. The sources are given newest first. Of each key
 * the first source that has it wins, whatever it says: a tombstone or an expired pair hides what
 * older sources have.
 *
 * One thread at a time. Every allocation goes through a struct mem (PAWL-11).
 */
#ifndef PAWL_STATE_MERGE_H
#define PAWL_STATE_MERGE_H

#include <stdbool.h>

#include "state/memtable.h"
#include "state/pair.h"
#include "wal/error.h"

#define MERGE_SOURCES_MAX 256u

/* What a source can do. Moves return 1 (it stands at a pair), 0 (there is none; it stands nowhere)
 * or an error. A key of length 0 means the first pair of all to seek_ge, and is never given to
 * seek_le. */
struct merge_ops {
    int (*seek_ge)(void *source, const void *key, uint32_t len);
    int (*seek_le)(void *source, const void *key, uint32_t len);
    int (*next)(void *source);
    int (*prev)(void *source);
    const struct state_pair *(*pair)(const void *source); /* lives until it moves */
};

struct merge_source {
    const struct merge_ops *ops;
    void *source;
    bool bare; /* its keys don't have the prefix of the options */
};

/* Keys are pointers into memory of the caller, which must outlive the merge. */
struct merge_options {
    const uint8_t
        *prefix;         /* of a table partition: only keys that begin so; results go without it */
    uint32_t prefix_len; /* 0 or STORE_PREFIX_SIZE */
    const uint8_t *from; /* the first key; a length of 0: no bound */
    uint32_t from_len;
    const uint8_t *to; /* the first key beyond; a length of 0: no bound */
    uint32_t to_len;
    uint64_t now_ms; /* a pair whose expiry is at or before it has expired; 0: none has */
    /* Tombstones are results too, and so are expired pairs, as tombstones. For a merge that leaves
     * an older run out: it may not forget what they hide. */
    bool tombstones;
};

struct merge;
/* Copies sources and options; the sources stay the caller's. Errors: MEMORY, LIMIT (too many
 * sources). */
PAWL_CHECKED int merge_open(struct mem *m, const struct merge_source *sources, uint32_t count,
                            const struct merge_options *o, struct merge **out);
void merge_close(struct merge *m); /* NULL is allowed */

/* Each returns 1 if the merge now stands at a pair, 0 if there is none (it stands nowhere, and must
 * seek before it moves), or an error: what a source returned. Errors stay: every later call repeats
 * the first one. What a source says where it stands must stay as it is until it moves. */
PAWL_CHECKED int merge_first(struct merge *m);
PAWL_CHECKED int merge_last(struct merge *m);
PAWL_CHECKED int merge_seek_ge(struct merge *m, const void *key, uint32_t len);
PAWL_CHECKED int merge_seek_le(struct merge *m, const void *key, uint32_t len);
PAWL_CHECKED int merge_next(struct merge *m);
PAWL_CHECKED int merge_prev(struct merge *m);
/* Where the merge stands; NULL: nowhere. It lives until the merge moves. */
const struct state_pair *merge_pair(const struct merge *m);

/* A memory table as a source. Open and close the cursor with memtable_cursor_open() and
 * memtable_cursor_close(). */
struct merge_memtable {
    struct memtable_cursor cursor;
    struct state_pair pair;
    bool stands;
};
extern const struct merge_ops merge_memtable_ops; /* source: a struct merge_memtable */
extern const struct merge_ops merge_run_ops;      /* source: a struct run_cursor */

#endif
