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
     "if no file has the bytes before the position any more: read what is there from its start, or "
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
        .path = pawl_setting_text(c, s, "path"),
        .rotated = pawl_setting_text(c, s, "rotated"),
        .follow = pawl_setting_number(c, s, "follow") != 0,
        .start = connect_setting_choice(c, s, "start"),
        .links = (enum reach_links)pawl_setting_number(c, s, "links"),
        .on_replaced = connect_setting_choice(c, s, "on_replaced"),
        .rotate_wait_ms = pawl_setting_number(c, s, "rotate_wait"),
        .tail = {.prefetch = true, .on_long = connect_setting_choice(c, s, "on_long")},
    };
    if (t.path[0] == 0)
        return connect_error(err, PAWL_INVALID, "path is empty");
    int rc = split_make(c, s, &t.tail.split, err);
    if (rc < 0)
        return rc;
    out->self = trail_new(&t);
    if (out->self == NULL)
        return connect_error(err, PAWL_MEMORY, "no memory for a source");
    out->type = c->type;
    out->flags = PAWL_SOURCE_REWINDABLE | PAWL_SOURCE_STRANGERS;
    out->open = source_open;
    out->read = source_read;
    out->status = source_status;
    out->destroy = source_destroy;
    return 0;
}
