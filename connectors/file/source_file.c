/* SPDX-License-Identifier: Apache-2.0
 *
 * The source "file": the lines of one file, followed through rotation. trail.h has the rules.
 */
#include "connectors/file/trail.h"

static const pawl_setting_info settings[] = {
    {"path", PAWL_SETTING_TEXT, 1, NULL, NULL, "the file"},
    {"follow", PAWL_SETTING_BOOL, 0, NULL, "true",
     "wait for more at its end, and go on with the next file when it is rotated; else it ends "
     "there"},
    {"start", PAWL_SETTING_CHOICE, 0, "beginning|oldest|end", "beginning",
     "where to begin the first time: the file, the oldest of its rotated files, or its end"},
    {"rotated", PAWL_SETTING_TEXT, 0, NULL, NULL,
     "pattern of the names that it gets by rotation, in the same directory (by default its name, "
     "then . or - and a digit; empty: none)"},
    TRAIL_SETTINGS,
    {"on_replaced", PAWL_SETTING_CHOICE, 0, "read|stop", "read",
     "if no file has the bytes before the position any more: read what is there from its start, or "
     "stop"},
    {0},
};

static int make(const pawl_settings *s, pawl_source_ops *out, pawl_error *err);

const pawl_connector connect_source_file = {
    .type = "file",
    .help = "lines of a file, followed through rotation",
    .settings = settings,
    .make_source = make,
};

static int make(const pawl_settings *s, pawl_source_ops *out, pawl_error *err) {
    const pawl_connector *c = &connect_source_file;
    struct trail_settings t = {
        .rotated = pawl_setting_text(c, s, "rotated"),
        .start = connect_setting_choice(c, s, "start"),
        .tail = {.prefetch = true},
    };
    return trail_make(c, s, &t, out, err);
}
