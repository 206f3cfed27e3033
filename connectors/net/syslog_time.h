/* SPDX-License-Identifier: Apache-2.0
 *
 * The times at the beginning of syslog messages.
 */
#ifndef PAWL_CONNECTORS_SYSLOG_TIME_H
#define PAWL_CONNECTORS_SYSLOG_TIME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Length of a time as RFC 3339 writes it at the beginning of [p, end), 0: there is none. With
 * `zone` it must have one ("Z", "+02:00"), else "+0200" and none are known too. *ns: nanoseconds
 * since 1970; 0: unknown, as it has no zone or is before 1970. */
size_t syslog_time_iso(const char *p, const char *end, bool zone, int64_t *ns);
/* Length of "Oct 11 22:14:15", "Oct  1 22:14:15" or "Oct 1 22:14:15", with a fraction or a year
 * where devices write them ("Oct 11 22:14:15.003", "Oct 11 2003 22:14:15", "Oct 11 22:14:15 2003");
 * 0: there is none. */
size_t syslog_time_bsd(const char *p, const char *end);

#endif
