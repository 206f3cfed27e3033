/* SPDX-License-Identifier: Apache-2.0
 *
 * limits.h - the one table of what a log may hold. The interface asks it before a change, and
 * tables_apply() asks it with every frame and checkpoint that is applied: by a writer, in recovery,
 * by followers, verify, audit and repair. So no log can take more than the interface allows.
 */
#ifndef PAWL_PIPELINE_LIMITS_H
#define PAWL_PIPELINE_LIMITS_H

#include "wal/error.h"
#include "wal/format.h"

/* at the same time */
#define STREAMS_MAX 4096u
#define STREAM_PARTITIONS_MAX 1024u
#define PARTITIONS_MAX 16384u
#define PRODUCERS_MAX 16384u
#define PROCESSORS_MAX 1024u
#define DECISIONS_MAX 16384u
#define TABLES_MAX 1024u
#define TABLE_PARTITIONS_MAX 1024u
#define STATE_PARTITIONS_MAX 16384u

enum limit {
    LIMIT_STREAMS,
    LIMIT_STREAM_PARTITIONS,
    LIMIT_PARTITIONS,
    LIMIT_PRODUCERS,
    LIMIT_PROCESSORS,
    LIMIT_DECISIONS,
    LIMIT_TABLES,
    LIMIT_TABLE_PARTITIONS,
    LIMIT_STATE_PARTITIONS,
    LIMIT_STATE_RUNS,
    LIMIT_NAME,
    LIMIT_ID,
    LIMIT_OFFSET,
    LIMIT_SEQUENCE,
    LIMIT_TAKEOVERS,
    LIMIT_INCARNATIONS,
    LIMIT_LSN,
    LIMITS
};
uint64_t limit_of(enum limit l);
/* 0, or PAWL_LIMIT with the limit's name, the value and the most that is allowed. */
PAWL_CHECKED int limit_refuse(enum limit l, uint64_t value);
PAWL_CHECKED static inline int limit_check(enum limit l, uint64_t value);

extern const uint64_t limit_most[LIMITS];
static inline int limit_check(enum limit l, uint64_t value) {
    return value <= limit_most[l] ? 0 : limit_refuse(l, value);
}

/* The checkpoint of a log's tables, in bytes: what the interface lets them grow to, and what a log
 * is refused beyond. The second is larger, as earlier versions let one commit overstep the first;
 * it always fits into a segment, and so does what follows it. */
static inline uint64_t limit_tables(uint64_t segment_size) {
    return segment_size / 8 - 1024;
}
static inline uint64_t limit_tables_load(uint64_t segment_size) {
    return segment_size / 2;
}
/* 0, or PAWL_LIMIT: a disk cap is none, or at least four segments. */
PAWL_CHECKED int limit_disk_cap(uint64_t cap, uint64_t segment_size);

#endif
