/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PAWL_BENCH_TUNE_H
#define PAWL_BENCH_TUNE_H

#include "bench/bench.h"

/* Makes the cases of --tune. False: no memory. */
bool tune_make(struct bench *b);

#endif
