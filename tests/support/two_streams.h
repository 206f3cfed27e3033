/* SPDX-License-Identifier: Apache-2.0
 *
 * The fixture of tests that need a log with two streams, in a new directory. To be included after
 * cmocka.h. (seam_log.h has a log whose seam the test may change.)
 */
#ifndef PAWL_TESTS_TWO_STREAMS_H
#define PAWL_TESTS_TWO_STREAMS_H

#include "tests/support/own_log.h"

struct fixture {
    char dir[64];
    pawl_options options;
    pawl *log;
    uint32_t a, b; /* streams: one partition, four */
};

/* The directory and the options; the log isn't open yet. `path`: see test_dir_make(). */
static inline int fixture_make(void **state, const char *path) {
    struct fixture *f = calloc(1, sizeof *f);
    *state = f;
    if (f == NULL || test_dir_make(f->dir, path) != 0)
        return -1;
    f->options = small_segments();
    return 0;
}

/* Opens it for the first time. */
static inline int fixture_begin(struct fixture *f) {
    must_open(f->dir, &f->options, &f->log);
    return pawl_stream_create(f->log, "a", 1, &f->a) != 0 ||
           pawl_stream_create(f->log, "b", 4, &f->b) != 0;
}

static inline int fixture_setup(void **state, const char *path) {
    return fixture_make(state, path) != 0 ? -1 : fixture_begin(*state);
}

static inline void reopen(struct fixture *f) {
    if (f->log != NULL)
        assert_int_equal(pawl_close(f->log), 0);
    must_open(f->dir, &f->options, &f->log);
}

static inline int teardown(void **state) {
    struct fixture *f = *state;
    int rc = close_and_remove(f->log, f->dir);
    free(f);
    return rc;
}

#endif
