/* SPDX-License-Identifier: Apache-2.0
 *
 * age.h - how old things in the log are, whatever is done to the clock.
 *
 * The wall clock is no measure of age: it is set by people, by the network, and by nothing at all
 * in machines without a battery, which begin in 1970. So the log has an age of its own, a number
 * that only grows, by time that has certainly passed. A stamp in the log (run CLOCK of
 * docs/format.md) says how old the log was at that place, and what the clocks showed. The age of
 * something is the difference of two such ages.
 *
 * The rule: nothing may be older by the log's age than it is in truth, so a jump alone drops no
 * record. And the age goes on with the time that the log is watched, so a jump keeps no record for
 * ever. This file includes only seam.h and format.h; the function is pure, and age.c has its table.
 */
#ifndef PAWL_WAL_AGE_H
#define PAWL_WAL_AGE_H

#include "wal/format.h"
#include "wal/seam/seam.h"

/* Why so much time has passed between a stamp and a reading. The labels of the table in age.c. */
enum age_case {
    AGE_NO_STAMP,     /* an older version's log: its age begins now */
    AGE_SAME_BOOT,    /* the boot clock says how much */
    AGE_BOOT_BEHIND,  /* the same boot, and the boot clock went back: nothing is certain */
    AGE_CLOCKS_AGREE, /* the boot isn't known, and both clocks went on alike */
    AGE_NETWORK_TIME, /* another boot, and the wall clock was set by the network both times */
    AGE_UNSURE,       /* another boot, and only the wall clock to ask: nothing is certain */
    AGE_CASES
};

/* Nanoseconds that have certainly passed from the stamp to the reading; *why may be NULL. */
uint64_t age_passed(const struct age_stamp *from, const struct seam_clock *now, enum age_case *why);
/* Moves a stamp to a reading: it is older by what has passed. Returns by how much the wall clock
 * was set meanwhile, in nanoseconds, as far as that can be told: 0 if it only drifted. */
int64_t age_move(struct age_stamp *at, const struct seam_clock *now);
/* May what the stamp `next` was written after be dropped, for being older than limit_ms? What is
 * exactly as old stays. */
bool age_over(const struct age_stamp *next, const struct age_stamp *now, uint64_t limit_ms);

#endif
