/* SPDX-License-Identifier: Apache-2.0
 *
 * policy.h - which runs become one, and when: a pure function of their sizes and ages. The caller
 * merges what it says, names the result in the log, and asks again until it says nothing.
 *
 * Runs are in the order of their age. Only neighbours are merged, so the order stays one of age.
 * A run of a flush has level 0; eight of a level become one of the next (tiers). What this costs:
 * each byte is written once for each level, and once more when the whole becomes one run.
 *
 * What holds if each answer is carried out before the next flush:
 *   - bytes: changes that overwrite all keys alike cost at most six bytes written for each byte
 *     changed, the log's 1.2 included, while the live pairs are at most 1,024 flushes;
 *   - number: at most `runs_max` runs and the one that is flushed;
 *   - space: the runs take at most twice the live pairs and one flush, beside the one that was just
 *     flushed. While a merge goes on, its result takes room too;
 *   - waste: a tombstone is gone `drop_within_ms` after its run was made, and an expired pair
 *     `drop_within_ms` after its expiry, whatever else is written. Only a merge that includes the
 *     oldest run may drop them, since an older run may have a pair that they hide.
 */
#ifndef PAWL_STATE_POLICY_H
#define PAWL_STATE_POLICY_H

#include <stdbool.h>
#include <stdint.h>

#define POLICY_TIER 8u       /* runs of a level that become one */
#define POLICY_RUNS_MAX 20u  /* the usual limit; it leaves room for flushes during a merge */
#define POLICY_RUNS_HARD 24u /* with this many runs, a flush must wait for a merge */

struct policy_run {
    uint32_t level;
    uint64_t bytes;
    uint64_t made_ms;       /* when it was flushed; after a merge, of the oldest of the inputs */
    uint64_t deletes;       /* tombstones in it */
    uint64_t expiry_min_ms; /* the earliest expiry in it; 0: nothing expires */
};

struct policy_limits {
    uint64_t live_bytes;     /* policy_live_bytes() of all tables */
    uint64_t flush_bytes;    /* of a usual flush */
    uint64_t now_ms;         /* since 1970; 0: unknown, then nothing is dropped for its age */
    uint64_t drop_within_ms; /* 0: no bound */
    uint32_t runs_max;       /* 2 to POLICY_RUNS_HARD */
};

enum policy_why {
    POLICY_NOTHING,
    POLICY_SPACE,  /* too much of the runs is dead: all become one */
    POLICY_WASTE,  /* tombstones or expired pairs are due: all from theirs to the oldest */
    POLICY_TIERED, /* eight runs of a level */
    POLICY_NUMBER, /* too many runs: the neighbours that cost least for each run less */
};

struct policy_merge {
    enum policy_why why;
    uint32_t first, count; /* of the runs, newest first */
    uint32_t level;        /* of the result */
    bool drops;            /* it has the oldest run: tombstones and expired pairs go */
};

/* What live pairs take in a run, at most: keys and values of `bytes` bytes. */
uint64_t policy_live_bytes(uint64_t pairs, uint64_t bytes);
/* `runs`: newest first. */
struct policy_merge policy_decide(const struct policy_run *runs, uint32_t count,
                                  const struct policy_limits *limits);

#endif
