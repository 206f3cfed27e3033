/* SPDX-License-Identifier: Apache-2.0
 *
 * forge_target.h - what the forged targets do with a log: the calls of the library, each with its
 * bounds on memory and work, and what the answers say of each other.
 */
#ifndef PAWL_FUZZ_FORGE_TARGET_H
#define PAWL_FUZZ_FORGE_TARGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pawl.h"

#define FORGE_TARGET_HEAD 4u /* bytes of the input that are the target's; edits follow */

/* Makes the forged log that the input describes. */
void target_make(const uint8_t *data, size_t size);
void target_make_state(const uint8_t *data, size_t size); /* with keyed state */

/* Opens as a reader and reads everything. 0 and the sum of all there is; or why it doesn't open. */
int target_read(uint64_t *sum);
/* Opens as a writer, works, closes, and opens again: then what was committed is there. 0, or why
 * it doesn't open. `all`: with streams, producers and processors made, renamed and removed. `well`:
 * verify had no complaint. */
int target_write(bool all, bool well);

enum target_call { TARGET_VERIFY, TARGET_AUDIT, TARGET_REPAIR };
/* The call's answer; *problems as the findings say. */
int target_check(enum target_call call, uint64_t *problems);
int target_dump(void);

/* Aborts with a message. */
void target_must(bool well, const char *what, int rc);

#endif
