/* SPDX-License-Identifier: Apache-2.0
 *
 * The state of version 1, which lay in the directory itself, is taken over into the log: the file
 * .SINK-STREAMID-PARTITION.state, and the hidden part beside it.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "connectors/file/sink_file.h"

void file_old_name(const struct file_sink *s, const struct target *t, const char *end,
                   char out[FILE_NAME_SIZE]) {
    snprintf(out, FILE_NAME_SIZE, ".%s-%" PRIu32 "-%" PRIu32 "%s", s->sink, t->stream, t->partition,
             end);
}

int file_old_state(struct file_sink *s, const struct target *t, struct file_state *state,
                   pawl_fault *f) {
    char name[FILE_NAME_SIZE];
    file_old_name(s, t, ".state", name);
    int fd = reach_own(s->dir, name, REACH_WRITE); /* not to write: nobody else can have made it */
    int rc = fd < 0 ? -1 : file_state_read(fd, state);
    if (fd >= 0)
        close(fd);
    if (rc < 0 && reach_is_plant(errno))
        return file_set_aside(s, name) == 0 ? PAWL_GONE : file_failed(s, f, "setting a file aside");
    if (rc < 0)
        return errno == ENOENT ? PAWL_GONE : file_failed(s, f, "reading a state");
    if (rc > 0)
        return pawl_fault_set(f, PAWL_FATAL, "%s in %s has no valid slot: it is damaged", name,
                              s->directory);
    if (memcmp(state->log_id, s->log_id, sizeof s->log_id) != 0)
        return pawl_fault_set(
            f, PAWL_FATAL,
            "%s in %s belongs to another log: give the sink another name or directory", name,
            s->directory);
    return PAWL_DONE;
}

bool file_stray_part(const struct file_sink *s, const struct target *t, uint64_t *first) {
    for (size_t i = 0; i < s->found_count; i++)
        if (s->found[i].old && s->found[i].n[0] == t->stream && s->found[i].n[1] == t->partition) {
            *first = s->found[i].n[2];
            return true;
        }
    return false;
}

/* The hidden part gets the name of today. */
static int rename_old_part(struct file_sink *s, const struct target *t) {
    char number[40], from[FILE_NAME_SIZE], to[FILE_NAME_SIZE];
    snprintf(number, sizeof number, "-%020" PRIu64 ".part", t->note.first);
    file_old_name(s, t, number, from);
    file_part_name(s, t, to);
    for (size_t i = 0; i < s->found_count; i++)
        if (strcmp(s->found[i].name, from) == 0) {
            s->found[i].old = false;
            snprintf(s->found[i].name, sizeof s->found[i].name, "%.255s", to);
        }
    int rc = reach_rename(s->dir, from, to);
    if (rc != 0 && errno == EEXIST && file_set_aside(s, to) == 0)
        rc = reach_rename(s->dir, from, to);
    return rc == 0 || errno == ENOENT ? file_synced(s->dir, fsync(s->dir)) : -1;
}

int file_take_over(struct file_sink *s, struct target *t, const struct file_state *st,
                   pawl_fault *f) {
    struct stat info;
    char name[FILE_NAME_SIZE];
    t->old_state = true;
    t->note.to = st->to;
    if (st->first == FILE_NONE)
        return PAWL_DONE;
    t->note.first = st->first;
    t->note.begun_s = (uint64_t)(st->begun_ns / 1000000000);
    if (rename_old_part(s, t) != 0)
        return file_failed(s, f, "renaming a part");
    file_part_name(s, t, name);
    int fd = reach_own(s->dir, name, REACH_READ);
    if (fd < 0 && errno == ENOENT && st->rotating != 0) {
        file_no_part(t);
        return PAWL_DONE;
    }
    if ((fd < 0 && errno != ENOENT) || (fd >= 0 && fstat(fd, &info) != 0)) {
        int failed = file_failed(s, f, "opening a part");
        if (fd >= 0)
            close(fd);
        return failed;
    }
    uint64_t size = fd >= 0 ? (uint64_t)info.st_size : 0;
    int outcome = PAWL_DONE;
    if (size < st->length)
        outcome =
            pawl_fault_set(f, PAWL_GONE, "%s in %s has %" PRIu64 " of %" PRIu64 " committed bytes",
                           name, s->directory, size, st->length);
    else if (fd >= 0 && (file_hash_bytes(fd, 0, st->length, t->hash) != 0 ||
                         file_synced(fd, fdatasync(fd)) != 0))
        outcome = file_failed(s, f, "reading a part");
    t->note.length = st->length;
    t->note.hash = XXH3_64bits_digest(t->hash);
    t->tail_end = size;
    if (fd >= 0)
        t->changed = info.st_ctim;
    if (outcome == PAWL_DONE && st->prepared[0] != 0 && size >= st->prepared_length) {
        snprintf(t->prepared, sizeof t->prepared, "%s", st->prepared);
        t->prepared_to = st->prepared_to;
        t->prepared_length = st->prepared_length;
        XXH3_copyState(t->prepared_hash, t->hash);
        if (file_hash_bytes(fd, st->length, st->prepared_length, t->prepared_hash) != 0)
            outcome = file_failed(s, f, "reading a part");
    }
    if (fd >= 0)
        close(fd);
    if (outcome == PAWL_DONE && size == 0 && t->prepared[0] == 0)
        file_no_part(t);
    return outcome;
}
