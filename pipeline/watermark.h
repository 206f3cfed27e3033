/* SPDX-License-Identifier: Apache-2.0
 *
 * watermark.h - how far event time has come in one partition of a processor's inputs: a pure state
 * machine. Records and readings of the clock go in; whether a record is late, and the watermarks,
 * come out. It reads no clock, takes no lock and allocates nothing, so the same records and
 * readings give the same answers (PAWL-14).
 *
 * Each input has a watermark of its own: the highest event time that it had, less what the records
 * may be out of order. The combined watermark is that of all inputs; timers fire by it. The rules;
 * tests/core/test_watermark.c has a case of each label:
 *
 *   the input of a record
 *     first            the first record with time t        its watermark is t less the allowance
 *     ahead            t less the allowance is higher      its watermark follows
 *     out-of-order     t is not below its watermark, but t less the allowance is: nothing changes
 *     late             t is below its watermark: the record is late, and nothing else changes.
 *                      Other inputs have no say in that, so that their order doesn't matter
 *     lowest           t less the allowance is below what can be written: the lowest time instead
 *   the combined watermark
 *     slowest          it is the lowest of the watermarks of the inputs that aren't idle
 *     waits            an input without a record holds it where it is: at none, if it has none yet
 *     never-back       it never falls
 *   an input that has been idle for too long, by a reading of the clock that the log holds
 *     idle             it doesn't count any more; the combined watermark is the others'
 *     idle-first       so also if it never had a record
 *     idle-again       nothing changes
 *     idle-last        no input is left: it is the highest watermark that any of them has, which
 *                      doesn't depend on the order in which they became idle
 *   a record of an idle input
 *     back-behind      the others have passed it: it begins at the combined watermark, so that they
 *                      need not wait for it. Its records below that are late
 *     back-ahead       it keeps its own, and counts again
 *     back-first       as back-behind, though it had none
 *   other inputs than when the state was written
 *     new-input        as if it came back: it begins at the combined watermark, and counts
 *     input-gone       it doesn't count any more
 *   a reading of the clock
 *     clock-forward    the new reading counts
 *     clock-back       the clock was set back: the highest reading counts
 */
#ifndef PAWL_PIPELINE_WATERMARK_H
#define PAWL_PIPELINE_WATERMARK_H

#include "wal/format_time.h"

#define WATERMARK_LOWEST (INT64_MIN + 1) /* the lowest time, in ns since 1970 */

/* Nothing has come yet. */
void watermark_init(struct watermark *w, const uint32_t *streams, uint32_t count);
/* After a look at what the log holds: the inputs are these now. */
void watermark_set_inputs(struct watermark *w, const uint32_t *streams, uint32_t count);
/* A record of an input comes. True: it is late. */
bool watermark_record(struct watermark *w, uint32_t input, int64_t time);
/* It has been processed. `allowed`: how much the records may be out of order, in ns. */
void watermark_processed(struct watermark *w, uint32_t input, int64_t time, uint64_t allowed);
/* The input has been idle for too long. True: that changes something. */
bool watermark_idle(struct watermark *w, uint32_t input);
/* A reading of the clock. */
void watermark_clock(struct watermark *w, int64_t reading);

#endif
