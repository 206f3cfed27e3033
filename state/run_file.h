/* SPDX-License-Identifier: Apache-2.0
 *
 * run_file.h - an open run, and the way through its index; for run_read.c, run_iter.c and
 * run_verify.c.
 */
#ifndef PAWL_STATE_RUN_FILE_H
#define PAWL_STATE_RUN_FILE_H

#include "state/cache.h"

/* Constant after run_open(): any thread reads it without a lock. */
struct run_file {
    struct seam *io;
    struct mem *mem;
    struct run_cache *cache;
    uint64_t number; /* in the cache */
    int file;
    char name[RUN_NAME_SIZE];
    struct run_ident ident;
    struct run_header h;
    struct frame_key key;
};

/* Where a cursor or a look-up is: a block of each level of the index, and an entry in it. All zeros
 * is no place. */
struct run_step {
    struct run_block *block;
    uint32_t entry;
};
struct run_path {
    struct run_step step[RUN_LEVELS_MAX]; /* by level */
};

/* Bytes of the file that were read ahead; of one thread. */
struct run_window {
    uint8_t *data;
    size_t size;
    uint64_t at, len; /* what of the file is in it */
};

/* Gives it as much memory as there is, up to RUN_WINDOW; without any, each block is read alone. */
void run_window_open(struct run_file *r, struct run_window *w);
void run_window_close(struct run_file *r, struct run_window *w);

/* How a block is read. */
struct run_source {
    bool fresh;                /* not from the cache, nor kept in it */
    struct run_window *window; /* NULL: without read-ahead */
};

/* The first block of an open file; what isn't there counts as zeros. */
PAWL_CHECKED int run_read_header(struct seam *io, struct mem *m, int file, const char *name,
                                 struct run_header *h, enum run_header_verdict *verdict);
/* Reads and checks a block; *out is pinned. `path` has the steps of the levels above `level`, for a
 * block of pairs or a filter those of all levels: the keys must lie where they say. A filter has no
 * keys to check. */
PAWL_CHECKED int run_load(struct run_file *r, const struct run_source *from, struct run_place place,
                          enum run_block_kind kind, uint32_t level, const struct run_path *path,
                          struct run_block **out);
/* The same, without a message: *wrong says what is wrong, and the result is DAMAGED or IO. */
PAWL_CHECKED int run_load_quietly(struct run_file *r, const struct run_source *from,
                                  struct run_place place, enum run_block_kind kind, uint32_t level,
                                  const struct run_path *path, struct run_block **out,
                                  const char **wrong);
/* Keys between which a block lies that the entry of `level` in the path names: greater than `after`
 * (a length of 0: from the first key), not greater than `upto` (0: to the last one). */
struct run_bounds {
    uint8_t after[STORE_KEY_MAX], upto[STORE_KEY_MAX];
    uint32_t after_len, upto_len;
};
void run_bounds(const struct run_path *path, uint32_t level, uint32_t height,
                struct run_bounds *out);
void run_path_release(struct run_path *p);
/* Loads the block of the index that the path's step above names, or the root. */
PAWL_CHECKED int run_load_index(struct run_file *r, uint32_t level, struct run_path *path);
/* Loads the way down to the entry of the lowest level in whose block the key would be. 0: there is
 * none. */
PAWL_CHECKED int run_descend(struct run_file *r, const uint8_t *key, uint32_t len,
                             struct run_path *path);

#endif
