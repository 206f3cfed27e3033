/* SPDX-License-Identifier: Apache-2.0
 *
 * measure.h - time that passes, and memory that this process has used.
 */
#ifndef PAWL_TESTS_MEASURE_H
#define PAWL_TESTS_MEASURE_H

#include <stdint.h>

/* Of the monotonic clock. */
uint64_t now_ms(void);
/* The most memory that was resident at once. */
uint64_t memory_kib(void);

#endif
