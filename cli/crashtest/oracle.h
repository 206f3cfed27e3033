/* SPDX-License-Identifier: Apache-2.0
 *
 * oracle.h - says whether a log holds what a crash test's worker must have left, from the
 * log's bytes, the seed and the guarantee alone. Shares no code with the library: chain.c
 * reads frames, this reads what they mean.
 *
 * Streams `in` and `out`, processor `crashtest` (and producer `crashtest`, if there is one) are
 * looked at record by record; of others only that their offsets join. Record n of `in` is
 * ct_record(seed, n), in partition n mod P; `out` gets it inverted, in the same partition.
 */
#ifndef PAWL_CLI_CRASHTEST_ORACLE_H
#define PAWL_CLI_CRASHTEST_ORACLE_H

#include "cli/crashtest/chain.h"
#include "cli/crashtest/record.h"

#define CT_PARTITIONS_MAX 16
#define CT_STREAMS_MAX 64

enum ct_guarantee { CT_EXACTLY_ONCE, CT_AT_LEAST_ONCE, CT_AT_MOST_ONCE };

typedef struct ct_stream {
    uint32_t id, partitions;
    char name[128];
    uint64_t *next; /* by partition */
} ct_stream;

/* Where the processor stands in one partition. All counts are of records of that partition. */
typedef struct ct_lane {
    uint64_t from, position; /* the last committed interval */
    uint64_t next;           /* which input the next output must be of */
    uint64_t covered;        /* one past the highest input with an output */
    /* loaded from a checkpoint, which can't tell where outputs stand unless it is exactly-once; up
     * to the first output */
    bool guessed;
} ct_lane;

typedef struct ct_oracle {
    ct_chain chain;
    ct_problem *problem;
    uint64_t seed;
    int guarantee;
    ct_stream streams[CT_STREAMS_MAX];
    uint32_t stream_count;
    uint32_t processor, producer; /* ids; 0: not there */
    /* the highest id that a stream, producer, processor has had, if the log says so */
    uint32_t used[3];
    bool ids_known;
    uint64_t sequence; /* the producer's last */
    ct_lane lanes[CT_PARTITIONS_MAX];
    uint64_t inputs, outputs; /* records checked */
    uint64_t lost, doubled;
    uint8_t want[CT_RECORD_MAX], wanted_out[CT_RECORD_MAX];
} ct_oracle;

/* `dir`: a descriptor, the caller's. Problems go to *problem. */
void ct_oracle_init(ct_oracle *o, int dir, uint64_t seed, int guarantee, ct_problem *problem);
void ct_oracle_free(ct_oracle *o);
/* Reads and checks what is new. 0; 1: there is no log yet; -1: a problem. */
int ct_oracle_advance(ct_oracle *o);
/* Next offset of a partition of `in` or `out` (0 if it isn't there), and of all partitions
 * together. */
uint64_t ct_oracle_next(const ct_oracle *o, const char *stream, uint32_t partition);
uint64_t ct_oracle_total(const ct_oracle *o, const char *stream);
/* Inputs that the position has passed and that have no output: lost for good once nothing runs any
 * more. */
uint64_t ct_oracle_missing(const ct_oracle *o);
/* Does all that o knows about where the log stands agree with another reading of it? */
int ct_oracle_compare(const ct_oracle *o, const ct_oracle *other);

#endif
