/* SPDX-License-Identifier: Apache-2.0
 *
 * record_text.h - the ways in which `pawl cat` writes a record.
 */
#ifndef PAWL_CLI_RECORD_TEXT_H
#define PAWL_CLI_RECORD_TEXT_H

#include <stdbool.h>

#include "pawl.h"

/* Writes a record to standard output; false: output has failed. */
typedef bool (*record_text_fn)(const pawl_record *r);
/* text, json or raw; NULL: none of them. */
record_text_fn record_text_by_name(const char *name);

#endif
