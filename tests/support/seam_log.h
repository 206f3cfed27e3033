/* SPDX-License-Identifier: Apache-2.0
 *
 * A test's own log, in a new directory, on a seam that the test may change. For tests that use more
 * than the public header.
 */
#ifndef PAWL_TESTS_SEAM_LOG_H
#define PAWL_TESTS_SEAM_LOG_H

#include "pipeline/engine.h"
#include "tests/support/test_dir.h"

struct seam_log {
    char dir[64];
    pawl *log;
    uint32_t stream; /* "s", with one partition */
};

/* `name`: of the test; `change`: called on the seam before the log is opened, or NULL. Returns 0 or
 * -1. */
static inline int seam_log_open(struct seam_log *l, const char *name,
                                void (*change)(struct seam *)) {
    struct seam *io;
    pawl_options o = PAWL_OPTIONS_INIT;
    char path[64];
    snprintf(path, sizeof path, "/var/tmp/test_%s", name);
    if (test_dir_make(l->dir, path) != 0 ||
        seam_create(l->dir, true, PAWL_BACKEND_AUTO, PAWL_DIRECT_AUTO, &io) != 0)
        return -1;
    if (change != NULL)
        change(io);
    o.flags = PAWL_OPEN_CREATE, o.segment_size = 16u << 20;
    return engine_open(io, &o, &l->log) != 0 || pawl_stream_create(l->log, "s", 1, &l->stream) != 0
               ? -1
               : 0;
}

static inline int seam_log_remove(struct seam_log *l) {
    int rc = pawl_close(l->log);
    return test_dir_remove(l->dir) != 0 ? -1 : rc;
}

#endif
