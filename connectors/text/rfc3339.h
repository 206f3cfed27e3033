/* SPDX-License-Identifier: Apache-2.0
 *
 * Times as RFC 3339 writes them: 2026-01-31T12:00:00.123456789+01:00.
 */
#ifndef PAWL_CONNECTORS_RFC3339_H
#define PAWL_CONNECTORS_RFC3339_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Nanoseconds since 1970, of the years 1970 to 2200. Digits below a nanosecond are dropped. False:
 * the text isn't a time, has something after it, or says a date that doesn't exist. */
bool rfc3339_parse(const char *text, size_t len, int64_t *ns);

#endif
