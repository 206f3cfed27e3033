/* SPDX-License-Identifier: Apache-2.0
 *
 * A target in shared memory, which outlives the process that writes to it, as a database would. One
 * sink for all three kinds.
 */
#ifndef PAWL_TESTS_FAKE_SINK_H
#define PAWL_TESTS_FAKE_SINK_H

#include <stdbool.h>

#include "pawl_connect.h"

#define FAKE_RECORDS 256u
#define FAKE_PREPARED 8u

struct fake_prepared {
    char name[200];
    uint64_t from, to;
    uint8_t has[FAKE_RECORDS];
};

struct fake {
    /* durable in the target */
    /* how often the target holds the record of this offset; idempotent: how often it was written */
    uint32_t rows[FAKE_RECORDS];
    uint64_t position;  /* UINT64_MAX: none */
    uint64_t marker;    /* two-phase: end of the last batch committed */
    char identity[160]; /* "": it has none (asked when fake_ops() is called) */
    struct fake_prepared prepared[FAKE_PREPARED];
    /* the session */
    uint8_t open[FAKE_RECORDS];
    bool begun;
    /* faults */
    uint64_t poison;      /* refuse this offset; UINT64_MAX: none */
    bool poison_untold;   /* without naming the record */
    bool poison_misnamed; /* naming one that isn't in the batch */
    bool poison_at_end;   /* only at commit or prepare */
    bool poison_prepared; /* commit_prepared() refuses the batch */
    uint32_t retry_every; /* every n-th call returns RETRY; 0: none */
    uint32_t retry_in;    /* the n-th call from now on, once; 0: none */
    bool retry_after;     /* after the call has taken effect */
    bool untellable;
    uint32_t calls;
    uint64_t last_from, last_to;
};

struct fake *fake_new(void); /* shared with children */
pawl_sink_ops fake_ops(struct fake *f, int kind);

#endif
