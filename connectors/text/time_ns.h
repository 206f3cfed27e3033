/* SPDX-License-Identifier: Apache-2.0
 *
 * Seconds as nanoseconds since 1970, in the 63 bits that a record has for its time. One rule for
 * all of them:
 *
 * | from                                   | what doesn't fit                                    |
 * |----------------------------------------|-----------------------------------------------------|
 * | a clock, the time of a file            | is the nearest time that does: 0 before 1970,       |
 * |                                        | INT64_MAX after 2262-04-11T23:47:16.854775807Z      |
 * | a text of a stranger: a date that      | is refused (RFC 3339), or unknown (syslog: the time |
 * | exists, in the years 1970 to 2200      | of arrival counts)                                  |
 */
#ifndef PAWL_CONNECTORS_TIME_NS_H
#define PAWL_CONNECTORS_TIME_NS_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#define TIME_NS_PER_S 1000000000

/* Clamped to [0, INT64_MAX]. */
static inline int64_t time_ns(int64_t s, int64_t part) {
    int64_t ns;
    if (s < 0)
        return 0;
    return __builtin_mul_overflow(s, (int64_t)TIME_NS_PER_S, &ns) ||
                   __builtin_add_overflow(ns, part, &ns)
               ? INT64_MAX
               : ns;
}

/* Of a date in the proleptic Gregorian calendar, month and day from 1. */
static inline bool time_date_exists(int year, int month, int day) {
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    return year >= 1970 && year <= 2200 && month >= 1 && month <= 12 && day >= 1 &&
           day <= days[month - 1] + (month == 2 && leap);
}

/* A time of day on a date that exists, `east` seconds east of UTC. False: it is before 1970. */
static inline bool time_of_date(struct tm *m, int year, int month, int day, int east, int64_t part,
                                int64_t *ns) {
    m->tm_year = year - 1900;
    m->tm_mon = month - 1;
    m->tm_mday = day;
    int64_t s = (int64_t)timegm(m) - east;
    *ns = time_ns(s, part);
    return s >= 0;
}

#endif
