/* SPDX-License-Identifier: Apache-2.0
 *
 * The inside of split.h, shared by split.c and split_join.c.
 */
#ifndef PAWL_CONNECTORS_SPLIT_JOIN_H
#define PAWL_CONNECTORS_SPLIT_JOIN_H

#include "connectors/file/container.h"
#include "connectors/file/split.h"

struct piece {
    const char *at;
    size_t len;
};

/* Text that isn't complete. Places are offsets from the job's `from`. */
struct group {
    struct piece *pieces;
    size_t count, room;
    size_t bytes;
    size_t start; /* of its first line; SIZE_MAX: it is empty */
    size_t last;  /* start of its last line */
    uint32_t lines;
    int64_t time_ns;
    const char *attrs; /* docker: of its first line */
    size_t attrs_len;
};

struct block {
    struct block *next;
    size_t used, size;
    char bytes[];
};

struct split {
    struct split_settings set;
    matcher_space *space;
    struct group part[CONTAINER_STREAMS]; /* partial lines of a container */
    struct group join[CONTAINER_STREAMS]; /* lines of a record */
    struct block *blocks;                 /* memory that the records refer to */
};

enum split_result join_take(struct split *s, struct split_job *j);
void join_free(struct split *s);

#endif
