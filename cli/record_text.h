/* SPDX-License-Identifier: Apache-2.0
 *
 * record_text.h - the ways in which `pawl cat` writes a record, and `pawl table` a
 * pair. They are gathered and written in
 * large pieces.
 */
#ifndef PAWL_CLI_RECORD_TEXT_H
#define PAWL_CLI_RECORD_TEXT_H

#include <stdbool.h>

#include "pawl_state.h"

/* Writes a record towards standard output; false: output has failed. */
typedef bool (*record_text_fn)(const pawl_record *r);
/* text, json or raw; NULL: none of them. */
record_text_fn record_text_by_name(const char *name);
/* The same of a pair of a table. `alone`: it was asked for by its key, so text, hex and raw are
 * the value only. */
typedef bool (*pair_text_fn)(uint32_t partition, const pawl_state_pair *pair, bool alone);
/* text, hex, json or raw; NULL: none of them. */
pair_text_fn pair_text_by_name(const char *name);
/* Writes what is gathered; false: output has failed. Before anything else goes to standard output,
 * before a message, and where a reader waits for the records. */
bool record_text_flush(void);

#endif
