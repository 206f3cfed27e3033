/* SPDX-License-Identifier: Apache-2.0
 *
 * record.h - the input of a crash test: record n of seed s, as the man page defines it.
 * Both the writer and the checker derive it from (s, n), so the checker needs nothing from the
 * log to know what must be there.
 */
#ifndef PAWL_CLI_CRASHTEST_RECORD_H
#define PAWL_CLI_CRASHTEST_RECORD_H

#include <stddef.h>
#include <stdint.h>

#define CT_RECORD_MAX (8u + 65536u)

/* splitmix64: the next number of a sequence. */
static inline uint64_t ct_next(uint64_t *state) {
    uint64_t z = (*state += UINT64_C(0x9E3779B97F4A7C15));
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

/* Fills `out` with record n; returns its length, 8 to CT_RECORD_MAX. Its first 8 bytes are n,
 * little-endian. */
size_t ct_record(uint64_t seed, uint64_t n, uint8_t out[CT_RECORD_MAX]);

/* What the processor makes of a record: every bit inverted. */
void ct_invert(uint8_t *out, const void *in, size_t len);

#endif
