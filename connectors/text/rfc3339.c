/* SPDX-License-Identifier: Apache-2.0
 *
 * rfc3339.c - see rfc3339.h.
 */
#include "connectors/text/rfc3339.h"

#include "connectors/text/time_ns.h"

struct text {
    const char *at, *end;
};

/* Takes exactly `n` digits. */
static bool number(struct text *t, int n, int *out) {
    *out = 0;
    for (; n > 0; n--, t->at++) {
        if (t->at == t->end || *t->at < '0' || *t->at > '9')
            return false;
        *out = *out * 10 + (*t->at - '0');
    }
    return true;
}

static bool literal(struct text *t, char c) {
    if (t->at == t->end || *t->at != c)
        return false;
    t->at++;
    return true;
}

static bool fraction(struct text *t, int64_t *ns) {
    const char *from = t->at;
    int64_t unit = 100000000;
    for (; t->at < t->end && *t->at >= '0' && *t->at <= '9'; t->at++, unit /= 10)
        *ns += (*t->at - '0') * unit;
    return t->at != from;
}

/* Seconds east of UTC. */
static bool zone(struct text *t, int *seconds) {
    int hours, minutes;
    *seconds = 0;
    if (literal(t, 'Z') || literal(t, 'z'))
        return true;
    int sign = literal(t, '-') ? -1 : 1;
    if ((sign > 0 && !literal(t, '+')) || !number(t, 2, &hours) || !literal(t, ':') ||
        !number(t, 2, &minutes) || hours > 23 || minutes > 59)
        return false;
    *seconds = sign * (hours * 3600 + minutes * 60);
    return true;
}

bool rfc3339_parse(const char *text, size_t len, int64_t *ns) {
    struct text t = {text, text + len};
    struct tm m = {0};
    int64_t part = 0;
    int east, year, month, day;
    if (!number(&t, 4, &year) || !literal(&t, '-') || !number(&t, 2, &month) || !literal(&t, '-') ||
        !number(&t, 2, &day) || (!literal(&t, 'T') && !literal(&t, 't')) ||
        !number(&t, 2, &m.tm_hour) || !literal(&t, ':') || !number(&t, 2, &m.tm_min) ||
        !literal(&t, ':') || !number(&t, 2, &m.tm_sec) ||
        (literal(&t, '.') && !fraction(&t, &part)) || !zone(&t, &east) || t.at != t.end ||
        !time_date_exists(year, month, day) || m.tm_hour > 23 || m.tm_min > 59 || m.tm_sec > 60)
        return false;
    return time_of_date(&m, year, month, day, east, part, ns);
}
