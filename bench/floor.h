/* SPDX-License-Identifier: Apache-2.0
 *
 * floor.h - the bare system calls: the limit that device and kernel set. One file, written once
 * beforehand and opened with O_DIRECT, because that is the fastest way known here to make bytes
 * durable; buffered writes and growing files halve it.
 *   F1         one block after the other, pwritev2(RWF_DSYNC)
 *   F4         256 KiB or 1 MiB writes, 2, 4, 8 or 16 in flight through io_uring, each RWF_DSYNC:
 *              the best of them
 *   R4         the same for reads
 *   two-phase  the input batch durable, then the output batch durable, four batches in flight;
 *              pieces of 256 KiB or 1 MiB, whichever is better
 */
#ifndef PAWL_BENCH_FLOOR_H
#define PAWL_BENCH_FLOOR_H

#include "measure.h"

/* Makes the file and finds the best form of F4, R4 and two-phase. False: O_DIRECT or io_uring is
 * missing, and `why` has the reason. */
bool floor_prepare(const char *dir, uint64_t size, uint64_t slice_ns, unsigned slices,
                   int (*stopping)(void), char *why, size_t why_size);
const char *floor_choice(void); /* "F4 256 KiB, 4 in flight; R4 ..." */
void floor_remove(void);

/* Contenders. */
void floor_f1(const struct setting *s, struct turn *t);      /* value: p50 in ns */
void floor_f1_rate(const struct setting *s, struct turn *t); /* syncs/s */
/* p99 in ns from the intended time, at s->rate */
void floor_f1_paced(const struct setting *s, struct turn *t);
void floor_f4(const struct setting *s, struct turn *t);        /* bytes/s */
void floor_r4(const struct setting *s, struct turn *t);        /* bytes/s */
void floor_two_phase(const struct setting *s, struct turn *t); /* records/s */

#endif
