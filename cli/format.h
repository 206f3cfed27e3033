/* SPDX-License-Identifier: Apache-2.0
 *
 * format.h - the ways in which `pawl cat` writes a record.
 */
#ifndef PAWL_CLI_FORMAT_H
#define PAWL_CLI_FORMAT_H

#include <stdbool.h>

#include "pawl.h"

/* Writes a record to standard output; false: output has failed. */
typedef bool (*format_fn)(const pawl_record *r);
/* text, json or raw; NULL: none of them. */
format_fn format_by_name(const char *name);

#endif
