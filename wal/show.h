/* SPDX-License-Identifier: Apache-2.0
 *
 * show.h - text that may be shown. Names, texts of peers and bytes of records come from strangers;
 * what they would do to a terminal, or to a log file that is read line by line, is escaped by
 * pawl_show(), and every message of the library goes through it.
 */
#ifndef PAWL_WAL_SHOW_H
#define PAWL_WAL_SHOW_H

#include <stdarg.h>

#include "pawl.h"

/* Writes a formatted message to `out`, with everything in it escaped: the message is one line. It
 * is cut to `size` bytes with its NUL. */
void show_format(char *out, size_t size, const char *format, va_list args)
    __attribute__((format(printf, 3, 0)));

#endif
