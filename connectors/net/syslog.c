/* SPDX-License-Identifier: Apache-2.0
 *
 * RFC 5424:  <PRI>1 TIME HOST APP PROCID MSGID DATA [TEXT]      "-" means no value; the text may
 *                                                               begin with a byte-order mark
 * RFC 3164:  <PRI>Mmm dd hh:mm:ss HOST TAG[PID]: TEXT           has many variants: missing fields
 *                                                               are left out
 */
#include "connectors/net/syslog.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct text {
    const char *at, *end;
};

static void put(struct syslog_message *m, int field, const char *from, const char *to) {
    m->at[field] = from;
    m->len[field] = (size_t)(to - from);
}

static bool priority(struct text *t, struct syslog_message *m) {
    int n = 0, digits = 0;
    const char *p = t->at;
    if (p == t->end || *p++ != '<')
        return false;
    for (; p < t->end && *p >= '0' && *p <= '9' && digits < 4; p++, digits++)
        n = n * 10 + (*p - '0');
    if (digits < 1 || digits > 3 || n > 191 || p == t->end || *p != '>')
        return false;
    m->facility = n / 8;
    m->severity = n % 8;
    t->at = p + 1;
    return true;
}

/* Takes a word up to the next space, and skips the space. */
static bool word(struct text *t, struct syslog_message *m, int field) {
    const char *from = t->at, *p = memchr(from, ' ', (size_t)(t->end - from));
    if (p == NULL)
        p = t->end;
    if (p == from)
        return false;
    if (!(p - from == 1 && *from == '-'))
        put(m, field, from, p);
    t->at = p < t->end ? p + 1 : p;
    return true;
}

static bool digits(const char **p, const char *end, int count, int *out) {
    *out = 0;
    for (int i = 0; i < count; i++, ++*p) {
        if (*p == end || !isdigit((unsigned char)**p))
            return false;
        *out = *out * 10 + (**p - '0');
    }
    return true;
}

static bool literal(const char **p, const char *end, char c) {
    return *p < end && *(*p)++ == c;
}

/* Parses "2003-10-11T22:14:15.003Z" or "...+02:00". 0: not a time. */
static int64_t time_of(const char *p, size_t n) {
    const char *end = p + n;
    int year, month, day, hour, minute, second, zone_hour = 0, zone_minute = 0, sign = 1;
    int64_t fraction = 0, unit = 1000000000;
    if (!digits(&p, end, 4, &year) || !literal(&p, end, '-') || !digits(&p, end, 2, &month) ||
        !literal(&p, end, '-') || !digits(&p, end, 2, &day) || !literal(&p, end, 'T') ||
        !digits(&p, end, 2, &hour) || !literal(&p, end, ':') || !digits(&p, end, 2, &minute) ||
        !literal(&p, end, ':') || !digits(&p, end, 2, &second))
        return 0;
    if (p < end && *p == '.')
        for (p++; p < end && isdigit((unsigned char)*p); p++)
            if (unit > 1) {
                unit /= 10;
                fraction += (*p - '0') * unit;
            }
    if (p < end && (*p == '+' || *p == '-')) {
        sign = *p++ == '-' ? -1 : 1;
        if (!digits(&p, end, 2, &zone_hour) || !literal(&p, end, ':') ||
            !digits(&p, end, 2, &zone_minute))
            return 0;
    } else if (!literal(&p, end, 'Z'))
        return 0;
    if (p != end || year < 1970 || year > 2200 || month < 1 || month > 12 || day < 1 || day > 31 ||
        hour > 23 || minute > 59 || second > 60)
        return 0;
    struct tm tm = {.tm_year = year - 1900,
                    .tm_mon = month - 1,
                    .tm_mday = day,
                    .tm_hour = hour,
                    .tm_min = minute,
                    .tm_sec = second};
    int64_t seconds = (int64_t)timegm(&tm) - sign * (zone_hour * 3600 + zone_minute * 60);
    return seconds * 1000000000 + fraction;
}

/* Takes "[id a="b" ...][...]" or "-". */
static bool data(struct text *t, struct syslog_message *m) {
    const char *p = t->at, *from = p;
    if (p < t->end && *p == '-') {
        t->at = p + 1;
        return true;
    }
    while (p < t->end && *p == '[') {
        bool quoted = false;
        for (p++; p < t->end && (quoted || *p != ']'); p++) {
            if (quoted && *p == '\\' && p + 1 < t->end)
                p++;
            else if (*p == '"')
                quoted = !quoted;
        }
        if (p == t->end)
            return false;
        p++;
    }
    if (p == from)
        return false;
    put(m, SYSLOG_DATA, from, p);
    t->at = p;
    return true;
}

static bool new_kind(struct text *t, struct syslog_message *m) {
    if (t->end - t->at < 2 || t->at[0] != '1' || t->at[1] != ' ')
        return false;
    t->at += 2;
    for (int field = SYSLOG_TIME; field <= SYSLOG_MSGID; field++)
        if (!word(t, m, field))
            return false;
    if (!data(t, m) || (t->at < t->end && *t->at != ' '))
        return false;
    t->at += t->at < t->end;
    if (t->end - t->at >= 3 && memcmp(t->at, "\xEF\xBB\xBF", 3) == 0)
        t->at += 3;
    put(m, SYSLOG_TEXT, t->at, t->end);
    m->time_ns = m->len[SYSLOG_TIME] != 0 ? time_of(m->at[SYSLOG_TIME], m->len[SYSLOG_TIME]) : 0;
    m->version = 5424;
    return true;
}

static bool old_time(const struct text *t) {
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    const char *p = t->at;
    if (t->end - p < 15 || p[3] != ' ' || p[6] != ' ' || p[9] != ':' || p[12] != ':')
        return false;
    for (size_t i = 0; i < 36; i += 3)
        if (memcmp(p, months + i, 3) == 0)
            return true;
    return false;
}

static void old_kind(struct text *t, struct syslog_message *m) {
    m->version = 3164;
    if (t->at < t->end && old_time(t)) {
        put(m, SYSLOG_TIME, t->at, t->at + 15);
        t->at += 15;
        t->at += t->at < t->end && *t->at == ' ';
        size_t n = (size_t)(t->end - t->at);
        const char *space = n != 0 ? memchr(t->at, ' ', n) : NULL,
                   *colon = n != 0 ? memchr(t->at, ':', n) : NULL;
        if (space != NULL && (colon == NULL || space < colon) && space != t->at) {
            put(m, SYSLOG_HOST, t->at, space);
            t->at = space + 1;
        }
    }
    const char *p = t->at;
    while (p < t->end && p - t->at < 64 && *p != ':' && *p != '[' && *p != ' ' &&
           isprint((unsigned char)*p))
        p++;
    const char *tag = p;
    const char *close = p < t->end && *p == '[' ? memchr(p, ']', (size_t)(t->end - p)) : NULL;
    const char *after = close != NULL ? close + 1 : p;
    if (tag != t->at && after < t->end && *after == ':') {
        put(m, SYSLOG_APP, t->at, tag);
        if (close != NULL)
            put(m, SYSLOG_PROCID, tag + 1, close);
        t->at = after + 1;
        t->at += t->at < t->end && *t->at == ' ';
    }
    put(m, SYSLOG_TEXT, t->at, t->end);
}

void syslog_parse(const char *message, size_t n, struct syslog_message *out) {
    struct text t = {message, message + n};
    *out = (struct syslog_message){0};
    while (t.end > t.at && (t.end[-1] == '\n' || t.end[-1] == '\r' || t.end[-1] == 0))
        t.end--;
    struct text whole = t;
    if (!priority(&t, out)) {
        out->facility = out->severity = -1;
        put(out, SYSLOG_TEXT, whole.at, whole.end);
        return;
    }
    struct text after = t;
    struct syslog_message kept = *out;
    if (new_kind(&t, out))
        return;
    *out = kept;
    old_kind(&after, out);
}
