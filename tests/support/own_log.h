/* SPDX-License-Identifier: Apache-2.0
 *
 * How a test opens a log of its own. To be included after cmocka.h.
 */
#ifndef PAWL_TESTS_OWN_LOG_H
#define PAWL_TESTS_OWN_LOG_H

#include "pawl.h"
#include "tests/support/test_dir.h"

static inline pawl_options small_segments(void) {
    pawl_options o = PAWL_OPTIONS_INIT;
    o.flags = PAWL_OPEN_CREATE;
    o.segment_size = 1u << 20;
    return o;
}

static inline void must_open(const char *dir, const pawl_options *o, pawl **log) {
    pawl_error e;
    if (pawl_open(dir, o, log, &e) != 0)
        fail_msg("%s", e.message);
}

/* Closes the log and removes its directory. Returns 0 or an error. */
static inline int close_and_remove(pawl *log, const char *dir) {
    int rc = pawl_close(log);
    return test_dir_remove(dir) != 0 ? -1 : rc;
}

#endif
