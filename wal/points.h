/* SPDX-License-Identifier: Apache-2.0
 *
 * points.h - named points of a log's life, for crash tests: whoever opened the log may be told of
 * each (pawl_options.on_point). The names and what holds at them are in pawl.h. Where nobody asked,
 * a point costs one comparison.
 */
#ifndef PAWL_WAL_POINTS_H
#define PAWL_WAL_POINTS_H

#include <stddef.h>

struct points {
    void (*fn)(void *arg, const char *point); /* NULL: nobody asked */
    void *arg;
};

static inline void point(const struct points *p, const char *name) {
    if (p->fn != NULL)
        p->fn(p->arg, name);
}

#endif
