/* SPDX-License-Identifier: Apache-2.0 */
#include "processors/window.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "connectors/text/rfc3339.h"

#define NS_PER_MS 1000000
#define NS_PER_S 1000000000

static int bad(const pawl_settings *s, const char *name, const char *why, pawl_error *err) {
    return connect_error(err, PAWL_INVALID, "line %u: %s %s", pawl_setting_line(s, name), name,
                         why);
}

/* A length of time in ns; 0: it isn't given. */
static int length(const pawl_connector *c, const pawl_settings *s, const char *name, int64_t *ns,
                  pawl_error *err) {
    uint64_t ms = pawl_setting_number(c, s, name);
    *ns = 0;
    if (ms > (uint64_t)INT64_MAX / NS_PER_MS / 8)
        return bad(s, name, "is longer than 36 years", err);
    *ns = (int64_t)ms * NS_PER_MS;
    if (*ns == 0 && connect_setting_given(s, name) && strcmp(name, "offset") != 0)
        return bad(s, name, "is no length of time: it must be at least 1ms", err);
    return 0;
}

static int64_t divisor(int64_t a, int64_t b) {
    while (b != 0) {
        int64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

static int check(const window *w, int64_t gap, const pawl_settings *s, pawl_error *err) {
    bool session = w->kind == WINDOW_SESSION, hopping = w->kind == WINDOW_HOPPING;
    if (session && (w->size != 0 || w->offset != 0))
        return bad(s, w->size != 0 ? "size" : "offset", "has no meaning with window: session", err);
    if (session != (gap != 0))
        return bad(s, "gap",
                   session ? "is missing: window: session needs it"
                           : "has no meaning without window: session",
                   err);
    if (!session && w->size == 0)
        return bad(s, "size", "is missing: how long is a window?", err);
    if (hopping != (w->step != 0))
        return bad(s, "step",
                   hopping ? "is missing: window: hopping needs it"
                           : "has no meaning without window: hopping",
                   err);
    if (hopping && w->step > w->size)
        return bad(s, "step", "is longer than size, so records between windows would be in none",
                   err);
    if (hopping && w->size / divisor(w->size, w->step) > 10000)
        return bad(s, "step", "and size divide a window into more than 10000 slices", err);
    if (!session && w->offset >= (hopping ? w->step : w->size))
        return bad(s, "offset", "must be less than the time from one window to the next", err);
    return 0;
}

int window_make(window *w, const pawl_connector *c, const pawl_settings *s, pawl_error *err) {
    int64_t gap;
    *w = (window){.kind = (enum window_kind)connect_setting_choice(c, s, "window")};
    int rc = length(c, s, "size", &w->size, err);
    if (rc == 0)
        rc = length(c, s, "step", &w->step, err);
    if (rc == 0)
        rc = length(c, s, "gap", &gap, err);
    if (rc == 0)
        rc = length(c, s, "offset", &w->offset, err);
    if (rc == 0)
        rc = check(w, gap, s, err);
    if (rc < 0)
        return rc;
    if (w->kind == WINDOW_SESSION)
        w->size = gap;
    if (w->kind == WINDOW_TUMBLING)
        w->step = w->size;
    w->slice = w->kind == WINDOW_SESSION ? 0 : divisor(w->size, w->step);
    return 0;
}

/* The highest multiple of `each`, plus offset, that is not above the time. */
static int64_t multiple_below(int64_t time, int64_t each, int64_t offset) {
    int64_t rest = (time - offset) % each;
    return time - (rest < 0 ? rest + each : rest);
}

bool window_slice(const window *w, int64_t time, int64_t *start, int64_t *first_end) {
    int64_t room = 2 * w->size + w->offset; /* fits: window_make() */
    if (time < INT64_MIN + room || time > INT64_MAX - room)
        return false;
    *start = multiple_below(time, w->slice, w->offset);
    /* windows end at size + a multiple of step: the first end after the time */
    *first_end = multiple_below(time, w->step, w->offset + w->size % w->step) + w->step;
    return true;
}

bool window_session(const window *w, int64_t time, int64_t *end) {
    if (time < INT64_MIN + 2 * w->size || time > INT64_MAX - 2 * w->size)
        return false;
    *end = time + w->size;
    return true;
}

/* ---- event times */

bool time_parse(enum time_format format, const char *text, size_t len, int64_t *ns) {
    static const int64_t units[] = {0, NS_PER_S, NS_PER_MS, 1000, 1};
    if (format == TIME_RFC3339)
        return rfc3339_parse(text, len, ns);
    bool negative = len != 0 && text[0] == '-', fits = true;
    size_t at = negative, digits = 0;
    int64_t sum = 0, unit = units[format];
    for (; at < len && text[at] >= '0' && text[at] <= '9'; at++, digits++)
        fits = fits && !__builtin_mul_overflow(sum, 10, &sum) &&
               !__builtin_add_overflow(sum, text[at] - '0', &sum);
    fits = fits && digits != 0 && !__builtin_mul_overflow(sum, unit, &sum);
    if (at < len && text[at] == '.') { /* digits below a nanosecond are dropped */
        fits = fits && ++at != len;
        for (; at < len && text[at] >= '0' && text[at] <= '9'; at++) {
            unit /= 10;
            fits = fits && !__builtin_add_overflow(sum, unit * (text[at] - '0'), &sum);
        }
    }
    *ns = negative ? -sum : sum;
    return fits && at == len && sum != INT64_MAX;
}

size_t time_text(int64_t ns, char out[TIME_TEXT_MAX]) {
    int64_t rest = ns % NS_PER_S;
    time_t s = (time_t)(ns / NS_PER_S - (rest < 0));
    rest = rest < 0 ? rest + NS_PER_S : rest;
    struct tm m;
    char part[16] = "";
    gmtime_r(&s, &m);
    if (rest != 0) {
        size_t len = (size_t)snprintf(part, sizeof part, ".%09lld", (long long)rest);
        while (part[len - 1] == '0')
            part[--len] = 0;
    }
    return (size_t)snprintf(out, TIME_TEXT_MAX, "%04d-%02d-%02dT%02d:%02d:%02d%sZ",
                            m.tm_year + 1900, m.tm_mon + 1, m.tm_mday, m.tm_hour, m.tm_min,
                            m.tm_sec, part);
}
