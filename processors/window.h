/* SPDX-License-Identifier: Apache-2.0
 *
 * window.h - windows over event time, as arithmetic: which windows a time is in, and how event
 * times are written. A window is [start, end), in nanoseconds since 1970.
 *
 * Tumbling windows begin every `size`. Hopping windows begin every `step`, and are `size` long; the
 * records are folded into slices, of which each window is made. A session ends when its key has had
 * no record for `gap`.
 */
#ifndef PAWL_PROCESSORS_WINDOW_H
#define PAWL_PROCESSORS_WINDOW_H

#include "processors/proc.h"

enum window_kind { WINDOW_TUMBLING, WINDOW_HOPPING, WINDOW_SESSION };

typedef struct window {
    enum window_kind kind;
    int64_t size, step, offset; /* ns; a session's size is its gap */
    int64_t slice;              /* length of a slice: what divides size and step */
} window;

#define WINDOW_SETTINGS \
    {"window", \
     PAWL_SETTING_CHOICE, \
     0, \
     "tumbling|hopping|session", \
     "tumbling", \
     "tumbling: one after the other; hopping: a new one every `step`; session: until a key has " \
     "had no record for `gap`"}, \
        {"size", PAWL_SETTING_TIME, 0, NULL, NULL, "how long a window is"}, \
        {"step", PAWL_SETTING_TIME, 0, NULL, NULL, "with window: hopping, when the next begins"}, \
        {"gap", PAWL_SETTING_TIME, \
         0,     NULL, \
         NULL,  "with window: session, the time without a record that ends it"}, \
    { \
        "offset", PAWL_SETTING_TIME, 0, NULL, "0", \
            "windows begin so much later than at multiples of size or step since 1970" \
    }

/* From the settings. Errors: INVALID. */
int window_make(window *w, const pawl_connector *c, const pawl_settings *s, pawl_error *err);
/* Start of the slice that a time is in, and the end of the first window to close that has it.
 * False: the time is too near to the ends of what can be written. Not for sessions. */
bool window_slice(const window *w, int64_t time, int64_t *start, int64_t *first_end);
/* Is the time of a session's record within what can be written? */
bool window_session(const window *w, int64_t time, int64_t *end);

/* ---- event times */

enum time_format { TIME_RFC3339, TIME_S, TIME_MS, TIME_US, TIME_NS };
#define TIME_FORMATS "rfc3339|s|ms|us|ns"
/* False: it is no such time, or beyond the years 1677 to 2262. */
bool time_parse(enum time_format format, const char *text, size_t len, int64_t *ns);
#define TIME_TEXT_MAX 48
/* As RFC 3339, in UTC, with as many digits as are needed: 2026-01-31T12:00:00.5Z. */
size_t time_text(int64_t ns, char out[TIME_TEXT_MAX]);

#endif
