/* SPDX-License-Identifier: Apache-2.0
 *
 * RFC 5424:  <PRI>1 TIME HOST APP PROCID MSGID DATA [TEXT]   "-" means no value; the text may begin
 *                                                            with a byte-order mark
 * RFC 3164:  <PRI>TIME HOST TAG[PID]: TEXT                   describes what was seen, so there are
 *                                                            many variants:
 *
 *   TIME HOST TAG: TEXT, TIME HOST TAG[PID]: TEXT     what forwards; HOST may be an IPv6 address
 *   TIME TAG: TEXT, TIME TAG[PID]: TEXT               what programs write to their own machine
 *   TAG: TEXT, TAG[PID]: TEXT                         the same, without a time
 *   TIME HOST TEXT                                    only if HOST is an address, or the text can't
 *                                                     be taken for anything else: CEF, LEEF, "last
 *                                                     message repeated 3 times"
 *
 * TIME is that of RFC 3164 or an ISO time, as rsyslog's forward format has it. Anything else is not
 * understood; a host or program that was only guessed would be a wrong one without a word.
 */
#include "connectors/net/syslog.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "connectors/net/syslog_time.h"

#define HOST_MAX 255
#define TAG_MAX 128

struct text {
    const char *at, *end;
};

static void put(struct syslog_message *m, int field, const char *from, const char *to) {
    m->at[field] = from;
    m->len[field] = (size_t)(to - from);
}

static bool printable(const char *from, const char *to) {
    for (; from < to; from++)
        if (*from <= ' ' || *from > '~')
            return false;
    return true;
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

/* ---- RFC 5424 */

/* Takes a word up to the next space, and skips the space. */
static bool word(struct text *t, struct syslog_message *m, int field) {
    const char *from = t->at, *p = memchr(from, ' ', (size_t)(t->end - from));
    if (p == NULL)
        p = t->end;
    if (p == from || !printable(from, p))
        return false;
    if (!(p - from == 1 && *from == '-'))
        put(m, field, from, p);
    t->at = p < t->end ? p + 1 : p;
    return true;
}

/* A name in structured data. */
static bool data_name(const char **p, const char *end) {
    const char *from = *p;
    while (*p<end &&* * p> ' ' && **p <= '~' && **p != '=' && **p != ']' && **p != '"')
        ++*p;
    return *p != from;
}

/* [ID NAME="VALUE" ...]; a backslash in a value keeps the next byte from ending it. */
static bool element(const char **p, const char *end) {
    if (*p == end || *(*p)++ != '[' || !data_name(p, end))
        return false;
    while (*p < end && **p == ' ') {
        ++*p;
        if (!data_name(p, end) || end - *p < 2 || (*p)[0] != '=' || (*p)[1] != '"')
            return false;
        for (*p += 2; *p < end && **p != '"'; ++*p)
            if (**p == '\\' && *p + 1 < end)
                ++*p;
        if (*p == end)
            return false;
        ++*p;
    }
    return *p < end && *(*p)++ == ']';
}

/* Takes one element or more, or "-". */
static bool data(struct text *t, struct syslog_message *m) {
    const char *p = t->at, *from = p;
    if (p < t->end && *p == '-') {
        t->at = p + 1;
        return true;
    }
    do {
        if (!element(&p, t->end))
            return false;
    } while (p < t->end && *p == '[');
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
    const char *time = m->at[SYSLOG_TIME];
    size_t n = m->len[SYSLOG_TIME];
    if (n != 0 && syslog_time_iso(time, time + n, true, &m->time_ns) != n)
        return false;
    if (!data(t, m) || (t->at < t->end && *t->at != ' '))
        return false;
    t->at += t->at < t->end;
    if (t->end - t->at >= 3 && memcmp(t->at, "\xEF\xBB\xBF", 3) == 0)
        t->at += 3;
    put(m, SYSLOG_TEXT, t->at, t->end);
    m->version = 5424;
    return true;
}

/* ---- RFC 3164 */

/* An IPv4 or IPv6 address, the latter perhaps in brackets or with a zone ("fe80::1%eth0"). */
static bool is_address(const char *from, const char *to) {
    char text[64];
    struct in6_addr out;
    if (to - from >= 2 && *from == '[' && to[-1] == ']')
        from++, to--;
    if (to == from || to - from >= (int)sizeof text)
        return false;
    memcpy(text, from, (size_t)(to - from));
    text[to - from] = 0;
    char *zone = strchr(text, '%');
    if (zone != NULL && zone[1] != 0)
        *zone = 0;
    return (zone == NULL && inet_pton(AF_INET, text, &out) == 1) ||
           inet_pton(AF_INET6, text, &out) == 1;
}

static bool is_host(const char *from, const char *to) {
    if (is_address(from, to))
        return true;
    if (to == from || to - from > HOST_MAX || !isalnum((unsigned char)*from))
        return false;
    for (; from < to; from++)
        if (!isalnum((unsigned char)*from) && strchr("-_.", *from) == NULL)
            return false;
    return true;
}

/* A program's name: not JSON, not NAME=VALUE, not a number (Cisco's sequence numbers). Returns its
 * end, which may be its beginning. */
static const char *tag_name(const struct text *t) {
    const char *p = t->at;
    bool letter = false;
    while (p < t->end && p - t->at<TAG_MAX && * p> ' ' && *p <= '~' &&
           (isalnum((unsigned char)*p) || strchr("-_./%()@+#$,", *p) != NULL)) {
        letter |= isalpha((unsigned char)*p) != 0;
        p++;
    }
    return letter ? p : t->at;
}

/* "TAG: ", "TAG[PID]:" or "TAG[NUMBER] " at the beginning. Returns where the text begins; NULL:
 * there is none. */
static const char *tag(const struct text *t, struct syslog_message *m) {
    const char *name_end = tag_name(t), *p = name_end, *close = NULL;
    if (p == t->at || p == t->end || (*p != ':' && *p != '['))
        return NULL;
    if (*p == '[') {
        close = memchr(p, ']', (size_t)(t->end - p));
        if (close == NULL || close == p + 1 || !printable(p + 1, close))
            return NULL;
        p = close + 1;
    }
    bool colon = p < t->end && *p == ':';
    p += colon;
    bool blank = p == t->end || *p == ' ';
    if (close == NULL && !blank)
        return NULL; /* "http://..." */
    for (const char *q = name_end + 1; close != NULL && !colon && q < close; q++)
        if (!blank || !isdigit((unsigned char)*q))
            return NULL; /* "array[index] is ..." */
    put(m, SYSLOG_APP, t->at, name_end);
    if (close != NULL)
        put(m, SYSLOG_PROCID, name_end + 1, close);
    return p < t->end && *p == ' ' ? p + 1 : p;
}

/* Is the first word the name of a time zone ("UTC:")? Some devices write it after the time. */
static bool zone_name(const struct text *t) {
    static const char *const zones[] = {
        "UTC", "GMT", "WET", "WEST", "CET",  "CEST", "EET",  "EEST", "BST",  "IST",  "MSK",
        "EST", "EDT", "CST", "CDT",  "MST",  "MDT",  "PST",  "PDT",  "AKST", "AKDT", "HST",
        "JST", "KST", "HKT", "SGT",  "AEST", "AEDT", "ACST", "ACDT", "AWST", "NZST", "NZDT"};
    for (size_t i = 0; i < sizeof zones / sizeof zones[0]; i++) {
        size_t n = strlen(zones[i]);
        if ((size_t)(t->end - t->at) > n && memcmp(t->at, zones[i], n) == 0 &&
            (t->at[n] == ' ' || t->at[n] == ':'))
            return true;
    }
    return false;
}

static bool begins(const struct text *t, const char *with) {
    size_t n = strlen(with);
    return (size_t)(t->end - t->at) >= n && memcmp(t->at, with, n) == 0;
}

/* "last message repeated 3 times", "message repeated 3 times: [ text]" */
static bool is_repeat(const struct text *t) {
    return begins(t, "last message repeated ") || begins(t, "message repeated ");
}

static bool is_plain_text(const struct text *t) {
    return is_repeat(t) || begins(t, "CEF:") || begins(t, "LEEF:");
}

/* What follows the time. False: it isn't certain what it is. */
static bool host_and_tag(struct text *t, struct syslog_message *m) {
    if (zone_name(t))
        return false;
    const char *text = tag(t, m);
    if (text != NULL || is_repeat(t)) { /* no host */
        t->at = text != NULL ? text : t->at;
        return true;
    }
    const char *from = t->at, *space = memchr(from, ' ', (size_t)(t->end - from));
    if (space == NULL || !is_host(from, space))
        return false;
    struct text rest = {space + 1, t->end};
    text = tag(&rest, m);
    if (text == NULL && !is_plain_text(&rest) && !is_address(from, space))
        return false;
    put(m, SYSLOG_HOST, from, space);
    t->at = text != NULL ? text : rest.at;
    return true;
}

static void old_kind(struct text *t, struct syslog_message *m) {
    const char *at = t->at;
    m->version = 3164;
    while (at < t->end && *at == ' ')
        at++;
    size_t n = syslog_time_iso(at, t->end, false, &m->time_ns);
    n = n != 0 ? n : syslog_time_bsd(at, t->end);
    if (n != 0 && (at + n == t->end || at[n] == ' ')) {
        put(m, SYSLOG_TIME, at, at + n);
        t->at = at + n + (at + n < t->end);
        if (!host_and_tag(t, m))
            m->unparsed = "host";
    } else {
        m->time_ns = 0;
        const char *text = tag(t, m);
        if (text == NULL)
            m->unparsed = "header";
        else
            t->at = text;
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
        out->unparsed = "message";
        put(out, SYSLOG_TEXT, whole.at, whole.end);
        return;
    }
    struct text after = t;
    struct syslog_message kept = *out;
    if (!new_kind(&t, out)) {
        *out = kept;
        t = after;
        old_kind(&t, out);
    }
    size_t fields = 0;
    for (int i = 0; i < SYSLOG_TEXT; i++)
        fields += out->len[i];
    if (fields > SYSLOG_FIELDS_MAX) {
        *out = kept;
        out->version = 3164;
        out->unparsed = "header";
        put(out, SYSLOG_TEXT, after.at, after.end);
    }
}
