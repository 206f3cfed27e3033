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
    {"rotate_wait", PAWL_SETTING_TIME, 0, NULL, "5m",
     "how long a file that was renamed or removed is read beside the new one; the new one doesn't "
     "wait for that"},
    {"links", PAWL_SETTING_CHOICE, 0, "owned|any", "owned",
     "symbolic links that are followed: those that root or pawl's user made, and those whose maker "
     "owns what they lead to; or any"},
    SPLIT_SETTINGS,
    {"on_long", PAWL_SETTING_CHOICE, 0, "poison|cut", "poison",
     "a longer one goes by the source's poison policy, or is cut into parts"},
    {"on_replaced", PAWL_SETTING_CHOICE, 0, "read|stop", "read",
     "if no file has the bytes before a position any more: read what is there from its start, or "
     "stop"},
    {0},
};

static int source_open(void *self, pawl_source_context *x, pawl_fault *f) {
    return trail_open(self, x, f);
}

static int source_read(void *self, pawl_source_batch *out, size_t max_records, size_t max_bytes,
                       int timeout_ms, pawl_fault *f) {
    return trail_read(self, out, max_records, max_bytes, timeout_ms, f);
}

static void source_status(void *self, char *text, size_t size) {
    trail_status(self, text, size);
}

static void source_destroy(void *self) {
    trail_free(self);
}

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
        .path = pawl_setting_text(c, g, "path"),
        .glob = pawl_setting_text(c, g, "glob"),
        .follow = pawl_setting_number(c, g, "follow") != 0,
        .packed = pawl_setting_number(c, g, "compressed") != 0,
        .links = (enum reach_links)pawl_setting_number(c, g, "links"),
        .on_replaced = connect_setting_choice(c, g, "on_replaced"),
        .rotate_wait_ms = pawl_setting_number(c, g, "rotate_wait"),
        .scan_ms = pawl_setting_number(c, g, "scan"),
        .files_max = files,
        .tail = {.on_long = connect_setting_choice(c, g, "on_long")},
    };
    if (t.path[0] == 0)
        return connect_error(err, PAWL_INVALID, "path is empty");
    int rc = split_make(c, g, &t.tail.split, err);
    if (rc < 0)
        return rc;
    struct trail *s = trail_new(&t);
    if (s == NULL)
        return connect_error(err, PAWL_MEMORY, "no memory for a source");
    *out = (pawl_source_ops){.struct_size = sizeof *out,
                             .flags = PAWL_SOURCE_REWINDABLE | PAWL_SOURCE_STRANGERS,
                             .type = c->type,
                             .self = s,
                             .open = source_open,
                             .read = source_read,
                             .status = source_status,
                             .destroy = source_destroy};
    return 0;
}
