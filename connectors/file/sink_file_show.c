/* SPDX-License-Identifier: Apache-2.0
 *
 * A part becomes visible. The order, so that a crash at any point is told from a part that somebody
 * took away:
 *
 *   the log       the part is about to be made visible (`rotating`)
 *   the marker    counts it, durably: a directory that is older than the log has counted fewer
 *   the rename    then the marker names it, so that it isn't missed when its consumer takes it at
 *                 once; both durable
 *   the log       there is no part
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "connectors/file/sink_file.h"

bool file_due(const struct file_sink *s, const struct target *t) {
    return t->note.first != FILE_NONE && t->note.length != 0 && t->prepared[0] == 0 &&
           (t->due || t->note.length >= s->rotate_bytes);
}

void file_visible_name(const struct file_sink *s, const struct target *t, unsigned twin,
                       char out[FILE_NAME_SIZE]) {
    char number[16] = "";
    if (twin > 0)
        snprintf(number, sizeof number, ".%u", twin);
    snprintf(out, FILE_NAME_SIZE, "%.64s-%.127s-%" PRIu32 "-%020" PRIu64 "%s%.32s",
             s->prefix != NULL ? s->prefix : s->sink, t->stream_name, t->partition, t->note.first,
             number, s->suffix);
}

static int rename_part(struct file_sink *s, const struct target *t) {
    char from[FILE_NAME_SIZE], to[FILE_NAME_SIZE];
    file_part_name(s, t, from);
    for (unsigned twin = 0; twin < 1000; twin++) {
        file_visible_name(s, t, twin, to);
        int rc = reach_rename(s->dir, from, to);
        if (rc == 0 && twin > 0)
            file_remark(s, "the name was taken: a file was made visible as %s in %s", to,
                        s->directory);
        if (rc == 0 || errno != EEXIST)
            return rc;
    }
    return -1;
}

static int show(struct file_sink *s, struct target *t, pawl_fault *f) {
    int outcome = file_same(s, t, f);
    if (outcome != PAWL_DONE)
        return outcome;
    if (t->tail_end > t->note.length && file_tail_aside(s, t, t->note.length, t->note.length) != 0)
        return file_failed(s, f, "setting bytes aside");
    s->mark.shown++;
    if (file_mark_write(s, true) != 0 || rename_part(s, t) != 0)
        return file_failed(s, f, "making a part visible");
    s->mark.last_stream = t->stream;
    s->mark.last_partition = t->partition;
    s->mark.last_first = t->note.first;
    if (file_mark_write(s, false) != 0 || file_synced(s->dir, fsync(s->dir)) != 0 ||
        file_synced(s->marker, fdatasync(s->marker)) != 0)
        return file_failed(s, f, "making a part visible");
    t->note.shown = s->mark.shown;
    file_was_shown(t);
    t->due = false;
    file_close_part(s);
    file_tell(s, 1);
    return PAWL_DONE;
}

int file_settle(void *self, const pawl_sink_batch *b, pawl_fault *f) {
    struct file_sink *s = self;
    struct target *t = file_find(s, b->stream_id, b->partition);
    if (t == NULL)
        return PAWL_DONE;
    if (t->old_state) { /* the log has what it says */
        char name[FILE_NAME_SIZE];
        file_old_name(s, t, ".state", name);
        if (t->prepared[0] != 0)
            return PAWL_DONE; /* not all of it yet */
        if (unlinkat(s->dir, name, 0) != 0 && errno != ENOENT)
            return file_failed(s, f, "removing a state");
        t->old_state = false;
    }
    return file_due(s, t) ? show(s, t, f) : PAWL_DONE;
}
