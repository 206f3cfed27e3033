/* SPDX-License-Identifier: Apache-2.0
 *
 * memtable.h - the memory table: an ordered map from keys to their newest change, a put or a delete
 * (which stays as a tombstone), each with the LSN of its commit. One for each table partition holds
 * the changes since the last flush; another serves as a transaction's own writes.
 *
 * It is a B+tree. A node holds eight bytes of each key inline, after the bytes that all keys of the
 * node share, so most comparisons touch no other cache line. Entries leave the tree only by
 * memtable_evict() and memtable_drop(), for changes that are in a run too, and with the table.
 *
 * Not thread-safe: the owner locks. All memory comes from the struct mem (PAWL-11): PAWL_MEMORY
 * leaves the table as it was.
 *
 * Lifetimes: an entry lives until the next put or clear of its table. A cursor stays on its key
 * whatever is put: a key put ahead of it is met, one put behind it isn't.
 */
#ifndef PAWL_STATE_MEMTABLE_H
#define PAWL_STATE_MEMTABLE_H

#include "state/pair.h"
#include "wal/mem.h"

#define MEMTABLE_KEY_MAX STATE_KEY_MAX
#define MEMTABLE_VALUE_MAX STATE_VALUE_MAX
#define MEMTABLE_NEWEST UINT64_MAX /* as an LSN to read at: every change */

struct mem_entry {
    struct mem_entry *older; /* the version before this one, which a snapshot may need; or NULL */
    uint64_t lsn;            /* of the commit; versions of a key have ascending ones */
    uint64_t expiry_ms;
    uint32_t value_len;
    uint16_t key_len;
    uint8_t op : 7;   /* STATE_PUT or STATE_DELETE */
    uint8_t used : 1; /* put or read since memtable_evict() passed it last */
    uint8_t size_class : 7;
    uint8_t separator : 1; /* inner nodes point to its key: the piece is not given back */
    uint8_t bytes[];       /* the key, then the value */
};

static inline const uint8_t *mem_entry_value(const struct mem_entry *e) {
    return e->bytes + e->key_len;
}
static inline void mem_entry_pair(const struct mem_entry *e, struct state_pair *out) {
    *out = (struct state_pair){.key = e->bytes,
                               .key_len = e->key_len,
                               .value = e->bytes + e->key_len,
                               .value_len = e->value_len,
                               .expiry_ms = e->expiry_ms,
                               .op = e->op};
}

/* ---- snapshots: LSNs at which somebody reads. The tables of a store share one set. A version that
 * a snapshot sees is kept when a newer one replaces it. */

struct snapshot {
    uint64_t lsn;
    uint64_t floor; /* versions up to this one are in runs: they aren't kept; 0: none is */
    struct snapshot *older, *newer;
};
struct snapshots { /* zeroed: none */
    struct snapshot *oldest, *newest;
};
/* The caller owns `s`, which stays in the set until it is removed. It must be in the set before a
 * change after `lsn` is put. */
/* `floor` becomes 0; the caller may set it before a change after `lsn` is put. */
void snapshots_add(struct snapshots *set, struct snapshot *s, uint64_t lsn);
/* Versions that only it needed go when their key is put again, or with the table. */
void snapshots_remove(struct snapshots *set, struct snapshot *s);

/* ---- the table */

struct memtable {
    struct mem *mem;
    const struct snapshots *snapshots; /* NULL: none, ever */
    struct memtable_body *body;        /* NULL until the first put: an empty table takes nothing */
    struct memtable_cursor *cursors;   /* open ones */
    uint64_t index_from;               /* a table of this many keys has an index; 0: never */
};

/* Takes no memory. `snapshots` must outlive the table. */
void memtable_init(struct memtable *m, struct mem *mem, const struct snapshots *snapshots);
void memtable_free(struct memtable *m); /* no cursor may be open */
/* Empties it; keeps up to 1 MiB of memory for the next use. Open cursors lose their place. */
void memtable_clear(struct memtable *m);
uint64_t memtable_bytes(const struct memtable *m); /* of memory that it takes, chunks included */
uint64_t memtable_used(const struct memtable *m);  /* the part of it that holds something */
uint64_t memtable_keys(const struct memtable *m);  /* tombstones included */

/* The newest change of the key; NULL: none. */
const struct mem_entry *memtable_get(const struct memtable *m, const void *key, size_t key_len);

/* A place in the tree, for a put that follows. It refers to the caller's key. */
struct memtable_spot {
    const void *key;
    size_t key_len;
    struct mem_entry *entry; /* found by the index; then `leaf` is NULL */
    void *leaf;
    uint32_t index;
    bool found;
    uint64_t stamp;
};
/* As memtable_get(), and keeps the place. */
const struct mem_entry *memtable_find(const struct memtable *m, const void *key, size_t key_len,
                                      struct memtable_spot *spot);

/* Keys that are going to be looked up soon: memtable_get() then waits less for memory. */
struct memtable_ahead {
    const void *key;
    size_t key_len;
    uint64_t hash; /* set by the first step */
};
/* The first step for keys from `second` to `count`, and the second one for those before. */
void memtable_fetch(const struct memtable *m, struct memtable_ahead *keys, uint32_t second,
                    uint32_t count);

/* Puts a change; the table copies key and value. `key_len` is 1 to MEMTABLE_KEY_MAX, `value_len` at
 * most MEMTABLE_VALUE_MAX, 0 for a delete; `lsn` not below that of the key's newest change.
 * Errors: MEMORY (never after memtable_reserve()). */
int memtable_put(struct memtable *m, const void *key, size_t key_len, uint8_t op,
                 uint64_t expiry_ms, const void *value, size_t value_len, uint64_t lsn);
/* The same at the place of memtable_find() for this table. If keys were put since, or the table was
 * cleared, it searches again. */
int memtable_put_at(struct memtable *m, struct memtable_spot *spot, uint8_t op, uint64_t expiry_ms,
                    const void *value, size_t value_len, uint64_t lsn);
/* Guarantees that the next `changes` puts, of `bytes` bytes of keys and values in all, can't fail:
 * a commit that is in the log must be applied. A later call replaces the guarantee. Errors: MEMORY.
 */
int memtable_reserve(struct memtable *m, uint64_t changes, uint64_t bytes);

/* ---- changes that are in a run as well may go. Leaves in which a cursor stands keep theirs; but
 * a cursor that goes on doesn't meet what is gone, so its owner must know the runs. */

/* Takes changes up to `upto` out, which were not used since it passed them last, until `bytes`
 * bytes are free for others, or it has looked at `leaves` leaves: a clock. Returns what it freed.
 */
uint64_t memtable_evict(struct memtable *m, uint64_t upto, uint64_t bytes, uint32_t leaves);
/* Takes all changes up to `upto` out. */
void memtable_drop(struct memtable *m, uint64_t upto);
/* Somebody has read it. */
static inline void mem_entry_use(const struct mem_entry *e) {
    if (e->used == 0)
        ((struct mem_entry *)(uintptr_t)e)->used = 1;
}

/* ---- cursors. Each call returns the entry on which the cursor stands now; NULL: there is none,
 * and the cursor has no place until it seeks again. Entries without a version at `lsn` are passed
 * over. Tombstones are returned. */

struct memtable_cursor {
    struct memtable *table;
    uint64_t lsn;
    void *leaf; /* NULL: no place */
    uint32_t index;
    struct memtable_cursor *before, *after; /* all open ones of the table */
};
/* `lsn`: MEMTABLE_NEWEST, or that of a snapshot. Must be closed before memtable_free(). */
void memtable_cursor_open(struct memtable_cursor *c, struct memtable *m, uint64_t lsn);
void memtable_cursor_close(struct memtable_cursor *c);
/* The smallest key at or above `key`; the greatest at or below it. */
const struct mem_entry *memtable_seek_ge(struct memtable_cursor *c, const void *key, size_t len);
const struct mem_entry *memtable_seek_le(struct memtable_cursor *c, const void *key, size_t len);
const struct mem_entry *memtable_first(struct memtable_cursor *c);
const struct mem_entry *memtable_here(struct memtable_cursor *c); /* where it stands */
const struct mem_entry *memtable_next(struct memtable_cursor *c);
const struct mem_entry *memtable_prev(struct memtable_cursor *c);

#endif
