/* SPDX-License-Identifier: Apache-2.0
 *
 * syslog_time.c - see syslog_time.h.
 */
#include "connectors/net/syslog_time.h"

#include <string.h>
#include <time.h>

#include "connectors/text/time_ns.h"

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static bool digits(const char **p, const char *end, int count, int *out) {
    *out = 0;
    for (int i = 0; i < count; i++, ++*p) {
        if (*p == end || !is_digit(**p))
            return false;
        *out = *out * 10 + (**p - '0');
    }
    return true;
}

static bool literal(const char **p, const char *end, char c) {
    return *p < end && *(*p)++ == c;
}

/* "22:14:15" */
static bool clock_time(const char **p, const char *end, struct tm *tm) {
    return digits(p, end, 2, &tm->tm_hour) && literal(p, end, ':') &&
           digits(p, end, 2, &tm->tm_min) && literal(p, end, ':') &&
           digits(p, end, 2, &tm->tm_sec) && tm->tm_hour <= 23 && tm->tm_min <= 59 &&
           tm->tm_sec <= 60;
}

/* ".003"; nothing is a fraction too. */
static bool fraction(const char **p, const char *end, int64_t *ns) {
    int64_t unit = 1000000000;
    *ns = 0;
    if (*p == end || **p != '.')
        return true;
    const char *from = ++*p;
    for (; *p < end && is_digit(**p); ++*p)
        if (unit > 1) {
            unit /= 10;
            *ns += (**p - '0') * unit;
        }
    return *p != from;
}

enum zone { ZONE_NONE, ZONE_BAD, ZONE_LOOSE, ZONE_RFC };

/* "Z", "+02:00" or "+0200". */
static enum zone zone_of(const char **p, const char *end, int *seconds) {
    int hour, minute;
    *seconds = 0;
    if (*p < end && **p == 'Z') {
        ++*p;
        return ZONE_RFC;
    }
    if (*p == end || (**p != '+' && **p != '-'))
        return ZONE_NONE;
    int sign = *(*p)++ == '-' ? -1 : 1;
    if (!digits(p, end, 2, &hour))
        return ZONE_BAD;
    bool colon = *p < end && **p == ':';
    *p += colon;
    if (!digits(p, end, 2, &minute) || hour > 23 || minute > 59)
        return ZONE_BAD;
    *seconds = sign * (hour * 3600 + minute * 60);
    return colon ? ZONE_RFC : ZONE_LOOSE;
}

size_t syslog_time_iso(const char *p, const char *end, bool zone, int64_t *ns) {
    const char *from = p;
    struct tm tm = {0};
    int year, month, day, offset;
    int64_t part;
    *ns = 0;
    if (!digits(&p, end, 4, &year) || !literal(&p, end, '-') || !digits(&p, end, 2, &month) ||
        !literal(&p, end, '-') || !digits(&p, end, 2, &day) || !literal(&p, end, 'T') ||
        !time_date_exists(year, month, day) || !clock_time(&p, end, &tm) ||
        !fraction(&p, end, &part))
        return 0;
    enum zone kind = zone_of(&p, end, &offset);
    if (kind == ZONE_BAD || (zone && kind != ZONE_RFC))
        return 0;
    if (kind != ZONE_NONE && !time_of_date(&tm, year, month, day, offset, part, ns))
        *ns = 0;
    return (size_t)(p - from);
}

/* " 2003", if a blank or the end follows. */
static size_t year_at(const char *p, const char *end) {
    int year;
    const char *from = p;
    return literal(&p, end, ' ') && digits(&p, end, 4, &year) && year >= 1970 && year <= 2200 &&
                   (p == end || *p == ' ')
               ? (size_t)(p - from)
               : 0;
}

size_t syslog_time_bsd(const char *p, const char *end) {
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    const char *from = p;
    struct tm tm;
    int64_t part;
    int day;
    size_t month = 0;
    while (month < 36 && (end - p < 4 || memcmp(p, months + month, 3) != 0))
        month += 3;
    if (month == 36 || p[3] != ' ')
        return 0;
    p += 4;
    p += p < end && *p == ' ';
    int wide = end - p >= 2 && is_digit(p[1]) ? 2 : 1;
    if (!digits(&p, end, wide, &day) || !time_date_exists(2000, (int)month / 3 + 1, day))
        return 0;
    size_t year = year_at(p, end); /* before the time of day */
    p += year;
    if (!literal(&p, end, ' ') || !clock_time(&p, end, &tm) || !fraction(&p, end, &part))
        return 0;
    if (year == 0)
        p += year_at(p, end);
    return (size_t)(p - from);
}
