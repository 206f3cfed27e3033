/* SPDX-License-Identifier: Apache-2.0
 *
 * merge_run.c - a run as a source of a merge.
 */
#include "state/merge.h"
#include "state/run.h"

static int run_seek_ge(void *source, const void *key, uint32_t len) {
    return run_cursor_seek_ge(source, key, len);
}

static int run_seek_le(void *source, const void *key, uint32_t len) {
    return run_cursor_seek_le(source, key, len);
}

static int run_next(void *source) {
    return run_cursor_next(source);
}

static int run_prev(void *source) {
    return run_cursor_prev(source);
}

static const struct state_pair *run_pair(const void *source) {
    return run_cursor_pair(source);
}

const struct merge_ops merge_run_ops = {
    .seek_ge = run_seek_ge,
    .seek_le = run_seek_le,
    .next = run_next,
    .prev = run_prev,
    .pair = run_pair,
};
