/* SPDX-License-Identifier: Apache-2.0
 *
 * format_run.h - every byte of a run file is encoded and decoded through here; docs/format.md,
 * section 10, is its specification, and changes with it.
 *
 * A run file is blocks of one or more units of 4,096 bytes. Unit 0 is the header. A block is valid
 * if and only if its hash is that of its bytes under the run's own key, it says the unit where it
 * lies, its kind, level and length are those that the index or the header names, and its entries
 * lie in its bytes in ascending order of their keys.
 *
 * Blocks of pairs (data) and blocks of the index have the same layout: what all keys begin with,
 * then entries of the rest of a key and a payload, then the entries' places. So one search serves
 * both, and a cursor moves either way by counting.
 */
#ifndef PAWL_STATE_FORMAT_RUN_H
#define PAWL_STATE_FORMAT_RUN_H

#include "state/pair.h"
#include "state/run.h"
#include "wal/format.h"

#define RUN_UNIT 4096u
#define RUN_VERSION 1u
#define RUN_LEVELS_MAX \
    32u /* of the index; each level has at most half the blocks of the one below */
#define RUN_BLOCK_HEAD 24u       /* bytes before a block's content */
#define RUN_PAYLOAD_HEAD_MAX 16u /* of a pair, before its value: flags, expiry, length */
/* No valid block is larger: a pair with the longest key and value. */
#define RUN_UNITS_MAX \
    ((RUN_BLOCK_HEAD + STORE_KEY_MAX + RUN_PAYLOAD_HEAD_MAX + STORE_VALUE_MAX + 8u) / RUN_UNIT + 1u)

/* ---- the header */

enum run_header_state { RUN_UNFINISHED = 1, RUN_WHOLE = 2 };

struct run_header {
    enum run_header_state state;
    uint8_t log_id[16];
    uint8_t key[KEY_SIZE];
    uint32_t run_id, level;
    uint64_t flush_lsn;
    struct run_summary sum; /* its header_hash is set by encode and decode */
    uint32_t data_blocks, index_blocks, filter_blocks;
    uint32_t root, root_units; /* of the index; 0: the run is empty */
    uint32_t height;           /* levels of the index */
};

enum run_header_verdict {
    RUN_HEADER_GOOD, /* *h is filled; it may be unfinished */
    RUN_HEADER_BLANK,
    RUN_HEADER_UNKNOWN, /* a good hash, but another version, or features that a reader must know */
    RUN_HEADER_BAD,     /* a run's magic, and a wrong hash or numbers that contradict each other */
    RUN_HEADER_OTHER,   /* no magic */
};
void run_header_encode(uint8_t out[RUN_UNIT], struct run_header *h);
enum run_header_verdict run_header_decode(const uint8_t in[RUN_UNIT], struct run_header *h);
/* Counts a pair, as the writer sums up and as a reader checks. */
void run_summary_add(struct run_summary *s, const struct state_pair *p);

/* ---- blocks */

enum run_block_kind { BLOCK_DATA = 1, BLOCK_INDEX = 2, BLOCK_FILTER = 3 };

/* Where a block is, as the index or the header says. */
struct run_place {
    uint32_t unit, units;
};

/* A checked block. The pointers are into its bytes. */
struct run_view {
    const uint8_t *data;
    uint32_t length; /* of the bytes used */
    struct run_place place;
    uint8_t kind, level;
    uint16_t prefix_len;
    uint32_t count; /* of entries; of a filter: of keys */
    const uint8_t *prefix;
    const uint8_t *offsets;
};

/* Checks everything about a block that is at `place`. NULL: it is good, and *v is filled; else what
 * is wrong with it. */
const char *run_block_decode(const uint8_t *data, struct run_place place, uint8_t kind,
                             uint8_t level, const struct frame_key *key, struct run_view *v);

/* Entry i of a checked block. *payload, unless NULL: the bytes after the key. */
const uint8_t *run_entry_suffix(const struct run_view *v, uint32_t i, uint32_t *len,
                                const uint8_t **payload);
/* The whole key of entry i, copied to `out`; returns its length. */
uint32_t run_entry_key(const struct run_view *v, uint32_t i, uint8_t out[STORE_KEY_MAX]);
/* The first entry whose key is not less than `key`; v->count if there is none. *same: it is that
 * key. */
uint32_t run_search(const struct run_view *v, const uint8_t *key, uint32_t len, bool *same);
/* Entry i of a checked data block; the key isn't set. */
void run_entry_pair(const struct run_view *v, uint32_t i, struct state_pair *out);

/* Entry i of a checked index block. */
struct run_child {
    struct run_place place;
    uint32_t filter; /* of level 0: the unit of the filter that has the child's keys */
};
void run_entry_child(const struct run_view *v, uint32_t i, struct run_child *out);

/* ---- making blocks */

/* Entries of one block, in ascending order of their keys. */
struct run_builder {
    struct bytes raw;   /* the first key, then what each key and payload adds */
    struct bytes slots; /* where each entry is in `raw` */
    uint32_t count;
    uint32_t first_len;  /* of the first key, at the beginning of `raw` */
    uint32_t prefix_len; /* that all keys have in common */
    uint64_t suffixes;   /* bytes of all entries' keys after the prefix, with their lengths */
    uint64_t payloads;
};
void run_builder_init(struct run_builder *b, struct mem *m);
void run_builder_free(struct run_builder *b);
void run_builder_clear(struct run_builder *b);
/* The bytes of the block as it is, and with one more entry. */
uint64_t run_builder_size(const struct run_builder *b);
uint64_t run_builder_size_with(const struct run_builder *b, const uint8_t *key, uint32_t key_len,
                               uint64_t payload_len);
/* Copies key and payload. False: no memory; then the builder may only be freed. */
bool run_builder_add(struct run_builder *b, const uint8_t *key, uint32_t key_len,
                     const struct piece *payload, uint32_t pieces);
uint32_t run_builder_last_key(const struct run_builder *b, uint8_t out[STORE_KEY_MAX]);
/* How many bytes two keys begin with in common. */
uint32_t run_shared_len(const uint8_t *a, uint32_t a_len, const uint8_t *b, uint32_t b_len);
static inline uint32_t run_units(uint64_t length) {
    return (uint32_t)((length + RUN_UNIT - 1) / RUN_UNIT);
}
/* The whole block, with its padding: `out` has run_units(run_builder_size()) units. */
void run_builder_encode(const struct run_builder *b, uint8_t *out, uint8_t kind, uint8_t level,
                        uint32_t unit, const struct frame_key *key);

/* Payloads; each returns its length. */
uint32_t run_pair_payload(uint8_t out[RUN_PAYLOAD_HEAD_MAX], const struct state_pair *p);
uint32_t run_child_payload(uint8_t out[RUN_PAYLOAD_HEAD_MAX], const struct run_child *c,
                           uint8_t level);

/* A block of one large pair, in pieces, since its value stays where it is: head, value, tail. */
struct run_large {
    struct bytes head;
    uint8_t tail[RUN_UNIT + 2];
    struct piece pieces[3];
    uint32_t units;
};
/* False: no memory. run_large_free() after either. */
bool run_large_encode(struct run_large *l, struct mem *m, const struct state_pair *p, uint32_t unit,
                      const struct frame_key *key);
void run_large_free(struct run_large *l);

/* ---- filters (filter.c) */

#define RUN_FILTER_START 64u /* the lines begin here; one is 64 bytes */
#define RUN_FILTER_LINES_MAX ((RUN_UNIT - RUN_FILTER_START) / 64u)
#define RUN_FILTER_BITS 10u /* a key, at least */
#define RUN_FILTER_KEYS_MAX (RUN_FILTER_LINES_MAX * 512u / RUN_FILTER_BITS)
static inline uint64_t run_filter_hash(const uint8_t *key, uint32_t len,
                                       const struct frame_key *secret) {
    return frame_hash(key, len, secret);
}
/* A filter of one unit that has the keys with these hashes; 1 to RUN_FILTER_KEYS_MAX of them. */
void run_filter_encode(uint8_t out[RUN_UNIT], const uint64_t *hashes, uint32_t count, uint32_t unit,
                       const struct frame_key *key);
/* False: the key isn't among them. */
bool run_filter_maybe(const struct run_view *v, uint64_t hash);

/* For format_run.c and filter.c. */
void run_block_seal(uint8_t *block, uint32_t units, const struct frame_key *key);
void run_block_head_encode(uint8_t out[RUN_BLOCK_HEAD], uint8_t kind, uint8_t level, uint32_t unit,
                           uint32_t length, uint32_t prefix_len, uint32_t count);

#endif
