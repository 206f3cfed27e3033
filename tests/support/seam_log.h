/* SPDX-License-Identifier: Apache-2.0
 *
 * A test's own log, in a new directory, on a seam that the test may change. For tests that use more
 * than the public header.
 */
#ifndef PAWL_TESTS_SEAM_LOG_H
#define PAWL_TESTS_SEAM_LOG_H

#include <stdio.h>
#include <stdlib.h>

#include "pipeline/engine.h"

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
    snprintf(l->dir, sizeof l->dir, "/var/tmp/test_%s.XXXXXX", name);
    if (mkdtemp(l->dir) == NULL ||
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
    char command[96];
    int rc = pawl_close(l->log);
    snprintf(command, sizeof command, "rm -rf -- '%s'", l->dir);
    return system(command) != 0 ? -1 : rc;
}

#endif
