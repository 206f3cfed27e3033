/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline/limits.h"

const uint64_t limit_most[LIMITS] = {
    [LIMIT_STREAMS] = STREAMS_MAX,
    [LIMIT_STREAM_PARTITIONS] = STREAM_PARTITIONS_MAX,
    [LIMIT_PARTITIONS] = PARTITIONS_MAX,
    [LIMIT_PRODUCERS] = PRODUCERS_MAX,
    [LIMIT_PROCESSORS] = PROCESSORS_MAX,
    [LIMIT_DECISIONS] = DECISIONS_MAX,
    [LIMIT_TABLES] = TABLES_MAX,
    [LIMIT_TABLE_PARTITIONS] = TABLE_PARTITIONS_MAX,
    [LIMIT_STATE_PARTITIONS] = STATE_PARTITIONS_MAX,
    [LIMIT_STATE_RUNS] = STATE_RUNS_MAX,
    [LIMIT_NAME] = NAME_LEN_MAX,
    [LIMIT_ID] = UINT32_MAX - 1,
    [LIMIT_OFFSET] = INT64_MAX,
    [LIMIT_SEQUENCE] = UINT64_MAX - 1,
    [LIMIT_TAKEOVERS] = UINT32_MAX,
    [LIMIT_INCARNATIONS] = UINT64_MAX - 1,
    [LIMIT_LSN] = LSN_MAX,
};

static const char *const names[LIMITS] = {
    [LIMIT_STREAMS] = "streams at a time",
    [LIMIT_STREAM_PARTITIONS] = "partitions of a stream",
    [LIMIT_PARTITIONS] = "partitions at a time",
    [LIMIT_PRODUCERS] = "producers",
    [LIMIT_PROCESSORS] = "processors at a time",
    [LIMIT_DECISIONS] = "open decisions of sinks",
    [LIMIT_TABLES] = "tables at a time",
    [LIMIT_TABLE_PARTITIONS] = "partitions of a table",
    [LIMIT_STATE_PARTITIONS] = "partitions of tables at a time",
    [LIMIT_STATE_RUNS] = "files of state at a time",
    [LIMIT_NAME] = "bytes of a name",
    [LIMIT_ID] = "an id",
    [LIMIT_OFFSET] = "an offset",
    [LIMIT_SEQUENCE] = "a producer's sequence",
    [LIMIT_TAKEOVERS] = "times that a producer was opened",
    [LIMIT_INCARNATIONS] = "times that the log was opened",
    [LIMIT_LSN] = "an LSN",
};

uint64_t limit_of(enum limit l) {
    return limit_most[l];
}

int limit_refuse(enum limit l, uint64_t value) {
    return fail(PAWL_LIMIT, "%s: %llu, and a log's limit is %llu", names[l],
                (unsigned long long)value, (unsigned long long)limit_most[l]);
}

int limit_disk_cap(uint64_t cap, uint64_t segment_size) {
    if (cap == 0 || cap / 4 >= segment_size)
        return 0;
    return fail(PAWL_LIMIT,
                "the disk cap: %llu, and it must be at least four segments (%llu bytes)",
                (unsigned long long)cap, (unsigned long long)(4 * segment_size));
}
