/* SPDX-License-Identifier: Apache-2.0
 *
 * meter.h - what a call takes, counted: bytes of memory at its peak, and steps of work. A step is a
 * basic block of the library that was entered (the objects are compiled with
 * -fsanitize-coverage=trace-pc), or 64 bytes moved by the C library. So a bound on work is the same
 * on every machine, and an ordinary test may have it.
 */
#ifndef PAWL_FUZZ_METER_H
#define PAWL_FUZZ_METER_H

#include <stdint.h>

struct meter {
    uint64_t memory;      /* in use */
    uint64_t memory_peak; /* since meter_begin() */
    uint64_t steps;       /* since meter_begin() */
};
extern struct meter meter;

/* The counts begin; `name` is for the message. */
void meter_begin(const char *name);
/* Aborts with a message if more was taken since. */
void meter_end(uint64_t memory_max, uint64_t steps_max);

#endif
