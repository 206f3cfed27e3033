/* SPDX-License-Identifier: Apache-2.0
 *
 * source_origin.h - what a source's batches were read from (pawl_source_origin()), from read() to
 * the commit.
 */
#ifndef PAWL_CONNECTORS_SOURCE_ORIGIN_H
#define PAWL_CONNECTORS_SOURCE_ORIGIN_H

#include <stdbool.h>

#include "connectors/runtime/connect.h"

#define ORIGINS_MAX 16u

/* An interval, and the number of the batch's records that it covers. */
struct origin {
    pawl_outside o; /* its texts are `thing` and `note` */
    char thing[256], note[256];
    uint64_t records;
};
/* The intervals of a batch, in order. */
struct origins {
    struct origin *list; /* ORIGINS_MAX; NULL: none allocated */
    uint32_t count;
};

/* Adds an interval. One without records that continues the one before is joined to it. */
int origins_add(struct origins *to, const pawl_outside *o, uint64_t records);
void origins_free(struct origins *s);

struct origins_putter {
    void *arg;
    /* Puts the record with this index as it is. 0: done; 1: it must not go into the stream. */
    int (*put)(void *arg, size_t index);
    /* What becomes of such a record. 0: something else was put for it (a dead letter); 1: it is
     * skipped, and *why says why. */
    int (*refused)(void *arg, size_t index, const char **why);
};
/* Puts `count` records and names what they were read from. Records that no interval covers come
 * last. */
int origins_put(const struct origins *from, pawl_tx *tx, const pawl_producer *producer,
                uint32_t stream, const pawl_record *records, size_t count,
                const struct origins_putter *putter);

#endif
