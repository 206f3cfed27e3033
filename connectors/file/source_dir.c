/* SPDX-License-Identifier: Apache-2.0
 *
 * The source "dir": the lines of the files of one directory. trail.h has the rules.
 */
#include "connectors/file/trail.h"

static const pawl_setting_info settings[] = {
    {"path", PAWL_SETTING_TEXT, 1, NULL, NULL, "the directory"},
    {"glob", PAWL_SETTING_TEXT, 0, NULL, "*",
     "pattern of the names; those that begin with a dot only if it does"},
    {"follow", PAWL_SETTING_BOOL, 0, NULL, "true",
     "wait for more at the files' ends and for new files; else it ends when all that are there are "
     "read"},
    {"compressed", PAWL_SETTING_CHOICE, 0, "skip|read", "skip",
     "files that are compressed (gzip, zstd, xz, bzip2): pass over them, or read them"},
    {"scan", PAWL_SETTING_TIME, 0, NULL, "1s", "how often the directory is looked at"},
    {"files", PAWL_SETTING_NUMBER, 0, NULL, "1000",
     "how many files are read at a time; others wait until some are gone"},
    TRAIL_SETTINGS,
    {"on_replaced", PAWL_SETTING_CHOICE, 0, "read|stop", "read",
     "if no file has the bytes before a position any more: read what is there from its start, or "
     "stop"},
    {0},
};

static int make(const pawl_settings *g, pawl_source_ops *out, pawl_error *err);

const pawl_connector connect_source_dir = {
    .type = "dir",
    .help = "lines of the files of a directory, new ones included",
    .settings = settings,
    .make_source = make,
};

static int make(const pawl_settings *g, pawl_source_ops *out, pawl_error *err) {
    const pawl_connector *c = &connect_source_dir;
    uint64_t files = pawl_setting_number(c, g, "files");
    if (files < 1 || files > 16000)
        return connect_error(err, PAWL_INVALID, "files must be 1 to 16000");
    struct trail_settings t = {
        .glob = pawl_setting_text(c, g, "glob"),
        .packed = pawl_setting_number(c, g, "compressed") != 0,
        .scan_ms = pawl_setting_number(c, g, "scan"),
        .files_max = files,
    };
    return trail_make(c, g, &t, out, err);
}
