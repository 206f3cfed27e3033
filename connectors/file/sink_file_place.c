/* SPDX-License-Identifier: Apache-2.0
 *
 * The file sink's directory belongs to other people too. What the log says must be there, and what
 * else is there:
 *
 *   there is                                       then
 *   the part, with the log's bytes                 go on
 *   the part with more bytes                       go on; what the next batch doesn't write again,
 *                                                  byte for byte, is set aside
 *   the part with fewer or other bytes             lost
 *   no part, but the visible file it was to be     go on: it has been made visible
 *   no part, and the marker names it as the last   go on: it has been made visible, and taken
 *   no part otherwise                              lost
 *   another marker, or none and no part            lost: it is another directory
 *   a marker that counts fewer files than the log  lost: the directory is older than the log
 *   the part that was made visible last, hidden    a power cut has taken that back: visible again
 *   a part that the log doesn't name               set aside
 *   a state of version 1, and the log says nothing taken over
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

#include "connectors/file/sink_file.h"

#define CHUNK ((size_t)256 << 10)

/* ---- names */

static void mark_name(const struct file_sink *s, char out[FILE_NAME_SIZE]) {
    snprintf(out, FILE_NAME_SIZE, "%s.pawl", s->sink);
}

/* True if `name` is "SINK-", `wanted` numbers separated by dashes, then `end`, and nothing else. */
static bool name_is(const struct file_sink *s, const char *name, int wanted, const char *end,
                    uint64_t n[3]) {
    size_t len = strlen(s->sink);
    if (strncmp(name, s->sink, len) != 0 || name[len] != '-')
        return false;
    const char *at = name + len + 1;
    for (int i = 0; i < wanted; i++) {
        char *rest;
        if (*at < '0' || *at > '9')
            return false;
        errno = 0;
        n[i] = strtoull(at, &rest, 10);
        if (errno != 0 || (i + 1 < wanted && *rest != '-'))
            return false;
        at = rest + (i + 1 < wanted);
    }
    return strcmp(at, end) == 0;
}

/* The n-th name for something that is set aside; a hidden name becomes visible. */
static void aside_name(const char *name, unsigned n, char out[FILE_NAME_SIZE]) {
    char number[16] = "";
    if (n > 0)
        snprintf(number, sizeof number, ".%u", n);
    snprintf(out, FILE_NAME_SIZE, "%.250s.aside%s", name + (name[0] == '.'), number);
}

int file_set_aside(struct file_sink *s, const char *name) {
    char to[FILE_NAME_SIZE];
    for (unsigned n = 0; n < 1000; n++) {
        aside_name(name, n, to);
        int rc = reach_rename(s->dir, name, to);
        if (rc == 0) {
            file_remark(s, "%s in %s is not known to the log: it was set aside as %s", name,
                        s->directory, to);
            return file_synced(s->dir, fsync(s->dir));
        }
        if (errno != EEXIST)
            return errno == ENOENT ? 0 : -1;
    }
    return -1;
}

/* ---- bytes */

int file_hash_bytes(int fd, uint64_t from, uint64_t to, XXH3_state_t *hash) {
    char *chunk = malloc(CHUNK);
    while (chunk != NULL && from < to) {
        size_t want = to - from < CHUNK ? (size_t)(to - from) : CHUNK;
        ssize_t got = pread(fd, chunk, want, (off_t)from);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0) {
            errno = got == 0 ? 0 : errno;
            break;
        }
        XXH3_64bits_update(hash, chunk, (size_t)got);
        from += (uint64_t)got;
    }
    if (chunk == NULL)
        return -1;
    free(chunk);
    return from == to ? 0 : -1;
}

static int copy_bytes(int from, uint64_t at, uint64_t end, int to) {
    char chunk[16384];
    while (at < end) {
        size_t want = end - at < sizeof chunk ? (size_t)(end - at) : sizeof chunk;
        ssize_t got = pread(from, chunk, want, (off_t)at);
        if (got <= 0 || write(to, chunk, (size_t)got) != got)
            return -1;
        at += (uint64_t)got;
    }
    return fdatasync(to);
}

/* The bytes of the open part from `from` on are not ours. */
int file_tail_aside(struct file_sink *s, struct target *t, uint64_t from, uint64_t cut) {
    char part[FILE_NAME_SIZE], to[FILE_NAME_SIZE];
    int fd = -1;
    file_part_name(s, t, part);
    for (unsigned n = 0; n < 1000 && fd < 0; n++) {
        aside_name(part, n, to);
        fd = reach_new(s->dir, to, s->mode, s->mode_exact);
        if (fd < 0 && errno != EEXIST)
            return -1;
    }
    if (fd < 0)
        return -1;
    int rc = copy_bytes(s->part, from, t->tail_end, fd);
    if (close(fd) != 0 || rc != 0 || file_synced(s->dir, fsync(s->dir)) != 0 ||
        ftruncate(s->part, (off_t)cut) != 0)
        return -1;
    file_remark(s,
                "%s in %s had %" PRIu64 " bytes that this sink did not write, from byte %" PRIu64
                " on: they were set aside as %s",
                part, s->directory, t->tail_end - from, from, to);
    t->tail_end = 0;
    return file_changed(s, t);
}

int file_synced(int fd, int rc) {
    struct statvfs v;
    if (rc != 0 || fstatvfs(fd, &v) != 0)
        return -1;
    if ((v.f_flag & ST_RDONLY) == 0)
        return 0;
    errno = EROFS;
    return -1;
}

int file_changed(struct file_sink *s, struct target *t) {
    struct stat st;
    if (fstat(s->part, &st) != 0)
        return -1;
    t->changed = st.st_ctim;
    return 0;
}

/* ---- the marker */

int file_mark_write(struct file_sink *s, bool durable) {
    char text[FILE_MARK_SIZE];
    file_mark_encode(&s->mark, text);
    errno = ENOSPC; /* for a short write */
    if (pwrite(s->marker, text, sizeof text, 0) != (ssize_t)sizeof text)
        return -1;
    return durable ? file_synced(s->marker, fdatasync(s->marker)) : 0;
}

static int read_mark(struct file_sink *s, pawl_fault *f) {
    char name[FILE_NAME_SIZE], text[FILE_MARK_SIZE];
    mark_name(s, name);
    s->marker = reach_own(s->dir, name, REACH_WRITE);
    if (s->marker < 0) /* what has only the name is set aside if the marker is made anew */
        return errno == ENOENT || reach_is_plant(errno) ? PAWL_DONE
                                                        : file_failed(s, f, "opening SINK.pawl");
    ssize_t got = pread(s->marker, text, sizeof text, 0);
    if (got < 0)
        return file_failed(s, f, "reading SINK.pawl");
    s->marked = got == (ssize_t)sizeof text && file_mark_decode(&s->mark, text);
    if (s->marked && memcmp(s->mark.log_id, s->log_id, sizeof s->log_id) != 0)
        return pawl_fault_set(
            f, PAWL_FATAL,
            "%s in %s belongs to another log: give the sink another name or directory", name,
            s->directory);
    return PAWL_DONE;
}

/* Makes the marker durable under its name. What has the name and is no marker is set aside, unless
 * it is empty: a crash has left it. */
static int make_mark(struct file_sink *s, uint64_t directory, uint64_t shown, pawl_fault *f) {
    char name[FILE_NAME_SIZE];
    struct stat st;
    mark_name(s, name);
    if (s->marker >= 0 && (fstat(s->marker, &st) != 0 || st.st_size != 0)) {
        close(s->marker);
        s->marker = -1;
    }
    if (s->marker < 0 && file_set_aside(s, name) != 0)
        return file_failed(s, f, "setting a file aside");
    if (s->marker < 0)
        s->marker = reach_new(s->dir, name, s->mode, s->mode_exact);
    s->mark = (struct file_mark){.directory = directory, .shown = shown, .last_first = FILE_NONE};
    memcpy(s->mark.log_id, s->log_id, sizeof s->log_id);
    if (s->marker < 0 || file_mark_write(s, true) != 0 || file_synced(s->dir, fsync(s->dir)) != 0)
        return file_failed(s, f, "making SINK.pawl");
    s->marked = s->remade = true;
    return PAWL_DONE;
}

/* ---- opening */

void file_close_place(struct file_sink *s) {
    file_close_part(s);
    if (s->marker >= 0)
        close(s->marker);
    if (s->dir >= 0)
        close(s->dir);
    s->marker = s->dir = -1;
    s->marked = s->remade = false;
    free(s->found);
    s->found = NULL;
    s->found_count = 0;
}

static int take_name(struct file_sink *s, const char *name, pawl_fault *f) {
    struct file_name one = {.old = name[0] == '.'};
    if (!name_is(s, name + one.old, 3, ".part", one.n) || strlen(name) >= sizeof one.name)
        return PAWL_DONE;
    struct file_name *q = realloc(s->found, (s->found_count + 1) * sizeof *q);
    if (q == NULL)
        return pawl_fault_set(f, PAWL_RETRY, "no memory for the names in %s", s->directory);
    snprintf(one.name, sizeof one.name, "%s", name);
    s->found = q;
    s->found[s->found_count++] = one;
    return PAWL_DONE;
}

static int scan(struct file_sink *s, pawl_fault *f) {
    int fd = openat(s->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    if (d == NULL) {
        int outcome = file_failed(s, f, "reading the directory");
        if (fd >= 0)
            close(fd);
        return outcome;
    }
    int outcome = PAWL_DONE;
    const struct dirent *e;
    while (outcome == PAWL_DONE && (errno = 0, e = readdir(d)) != NULL)
        outcome = take_name(s, e->d_name, f);
    if (outcome == PAWL_DONE && errno != 0)
        outcome = file_failed(s, f, "reading the directory");
    closedir(d);
    return outcome;
}

/* Takes the directory. 0, or -1 with errno. */
static int take_directory(struct file_sink *s, int fd) {
    struct stat st;
    s->dir = fd;
    if (s->dir < 0 || fstat(s->dir, &st) != 0)
        return -1;
    s->dir_dev = st.st_dev;
    s->dir_ino = st.st_ino;
    return 0;
}

int file_open_place(struct file_sink *s, const pawl_sink_batch *b, pawl_fault *f) {
    file_close_place(s);
    snprintf(s->sink, sizeof s->sink, "%s", b->sink);
    memcpy(s->log_id, b->log_id, sizeof s->log_id);
    if (take_directory(s, reach_directory(s->directory, REACH_OWNED)) !=
        0) /* if it isn't there, check() knows whether it must be */
        return s->dir < 0 && errno == ENOENT ? PAWL_DONE
                                             : file_failed(s, f, "opening the directory");
    int outcome = read_mark(s, f);
    return outcome == PAWL_DONE ? scan(s, f) : outcome;
}

static int make_place(struct file_sink *s, pawl_fault *f) {
    uint64_t id;
    if (s->dir < 0 &&
        take_directory(s, reach_make_directory(s->directory, REACH_DIRECTORY_MODE)) != 0)
        return file_failed(s, f, "making the directory");
    if (s->marked)
        return PAWL_DONE;
    if (getrandom(&id, sizeof id, 0) != (ssize_t)sizeof id)
        return file_failed(s, f, "getting a random number");
    return make_mark(s, id, 0, f);
}

/* ---- what the log says of a partition */

static struct target *target_of(struct file_sink *s, const pawl_sink_batch *b) {
    struct target *t = file_find(s, b->stream_id, b->partition);
    if (t == NULL) {
        struct target *q = realloc(s->targets, (s->count + 1) * sizeof *q);
        if (q == NULL)
            return NULL;
        s->targets = q;
        t = &q[s->count];
        *t = (struct target){.stream = b->stream_id, .partition = b->partition};
        t->hash = XXH3_createState();
        t->prepared_hash = XXH3_createState();
        if (t->hash == NULL || t->prepared_hash == NULL) {
            XXH3_freeState(t->hash);
            XXH3_freeState(t->prepared_hash);
            return NULL;
        }
        s->count++;
    }
    snprintf(t->stream_name, sizeof t->stream_name, "%s", b->stream);
    t->prepared[0] = 0;
    t->due = t->old_state = false;
    t->tail_end = 0;
    t->note = (struct file_note){.first = FILE_NONE, .last_first = FILE_NONE};
    XXH3_64bits_reset(t->hash);
    return t;
}

/* Tells that the setting `directory` was changed. */
static uint32_t path_hash(const struct file_sink *s) {
    return (uint32_t)XXH3_64bits(s->directory, strlen(s->directory));
}

void file_was_shown(struct target *t) {
    t->note.last_first = t->note.first;
    t->note.last_length = t->note.length;
    t->note.last_hash = t->note.hash;
    file_no_part(t);
}

void file_no_part(struct target *t) {
    t->note.first = FILE_NONE;
    t->note.length = t->note.hash = 0;
    t->note.rotating = false;
    t->tail_end = 0;
}

/* Opens a file and compares its first bytes with the note. DONE, GONE (fewer or other bytes), or a
 * fault. */
static int compare_bytes(struct file_sink *s, struct target *t, const char *name, pawl_fault *f) {
    struct stat st;
    int fd = reach_own(s->dir, name, REACH_READ);
    if (fd < 0 || fstat(fd, &st) != 0) {
        int outcome =
            errno == ENOENT || errno == ELOOP
                ? pawl_fault_set(f, PAWL_GONE, "%s in %s is not there", name, s->directory)
            : errno == EISDIR || errno == ENOTSUP
                ? pawl_fault_set(f, PAWL_GONE, "%s in %s is not a file", name, s->directory)
                : file_failed(s, f, "opening a file");
        if (fd >= 0)
            close(fd);
        return outcome;
    }
    int outcome = PAWL_DONE;
    XXH3_64bits_reset(t->hash);
    if ((uint64_t)st.st_size < t->note.length)
        outcome =
            pawl_fault_set(f, PAWL_GONE, "%s in %s has %" PRIu64 " of %" PRIu64 " committed bytes",
                           name, s->directory, (uint64_t)st.st_size, t->note.length);
    else if (file_hash_bytes(fd, 0, t->note.length, t->hash) != 0 ||
             file_synced(fd, fdatasync(fd)) != 0)
        outcome = file_failed(s, f, "reading a file");
    else if (XXH3_64bits_digest(t->hash) != t->note.hash)
        outcome = pawl_fault_set(f, PAWL_GONE,
                                 "%s in %s has other bytes than the %" PRIu64 " committed ones",
                                 name, s->directory, t->note.length);
    close(fd);
    t->tail_end = (uint64_t)st.st_size;
    t->changed = st.st_ctim;
    return outcome;
}

/* The part isn't there: has it been made visible? DONE, GONE (no), or a fault: a file that can't be
 * read now may be it. */
static int was_shown(struct file_sink *s, struct target *t, pawl_fault *f) {
    char name[FILE_NAME_SIZE];
    const struct file_note *n = &t->note;
    if (n->rotating && s->marked && s->mark.last_stream == t->stream &&
        s->mark.last_partition == t->partition && s->mark.last_first == n->first)
        return PAWL_DONE;
    for (unsigned twin = 0; twin < 10; twin++) {
        file_visible_name(s, t, twin, name);
        int outcome = compare_bytes(s, t, name, f);
        if (outcome == PAWL_DONE && t->tail_end == n->length)
            return PAWL_DONE;
        if (outcome != PAWL_DONE && outcome != PAWL_GONE)
            return outcome;
    }
    return PAWL_GONE;
}

/* What the directory shows is durable. A sync alone doesn't prove it: one before may have failed,
 * and a repeated one may answer 0. But a file system that can still make a new name durable has
 * made those before it durable too. 0, or -1 with errno. */
static int prove_names(struct file_sink *s) {
    char name[FILE_NAME_SIZE + 8];
    struct stat st;
    mark_name(s, name);
    strcat(name, ".new");
    int fd = reach_new(s->dir, name, s->mode, false);
    if (fd < 0 && errno == EEXIST) { /* left of a crash, if it is empty and ours */
        fd = reach_own(s->dir, name, REACH_WRITE);
        bool ours = fd >= 0 && fstat(fd, &st) == 0 && st.st_size == 0;
        if (!ours && fd >= 0)
            close(fd);
        if (!ours && file_set_aside(s, name) == 0)
            fd = reach_new(s->dir, name, s->mode, false);
        else if (!ours)
            fd = -1;
    }
    int rc = fd >= 0 ? file_synced(s->dir, fsync(s->dir)) : -1;
    if (fd >= 0 && (close(fd) != 0 || unlinkat(s->dir, name, 0) != 0))
        rc = -1;
    return rc;
}

/* The part has its visible name as well: a crash came between the two steps of reach_rename(). 1:
 * it is finished now. 0: it isn't so. -1 with errno. */
static int finish_rename(struct file_sink *s, const struct target *t, const char *part) {
    char name[FILE_NAME_SIZE];
    for (unsigned twin = 0; t->note.rotating && twin < 10; twin++) {
        file_visible_name(s, t, twin, name);
        if (reach_one_file(s->dir, part, name))
            return unlinkat(s->dir, part, 0) == 0 ? 1 : -1;
    }
    return 0;
}

static int check_part(struct file_sink *s, struct target *t, pawl_fault *f) {
    char name[FILE_NAME_SIZE];
    if (t->note.first == FILE_NONE)
        return PAWL_DONE;
    file_part_name(s, t, name);
    int finished = finish_rename(s, t, name);
    if (finished < 0)
        return file_failed(s, f, "making a part visible");
    if (finished == 0 && faccessat(s->dir, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
        return compare_bytes(s, t, name, f);
    if (finished == 0 && errno != ENOENT)
        return file_failed(s, f, "looking for a part");
    int outcome = was_shown(s, t, f);
    if (outcome == PAWL_DONE) {
        file_was_shown(t);
        return prove_names(s) == 0 ? PAWL_DONE : file_failed(s, f, "syncing the directory");
    }
    if (outcome != PAWL_GONE)
        return outcome;
    return pawl_fault_set(
        f, PAWL_GONE, "%s in %s is not there%s%s", name, s->directory,
        t->note.rotating ? ", and it can't be told whether it was made visible" : "",
        s->marked ? "" : ", nor is the sink's .pawl file: is it another directory?");
}

/* Is it the directory that the log means, and not an earlier copy of it? */
static int check_place(struct file_sink *s, const struct target *t, pawl_fault *f) {
    const struct file_note *n = &t->note;
    bool proven = n->first != FILE_NONE || s->found_count != 0;
    if (!s->marked && !proven)
        return pawl_fault_set(f, PAWL_GONE,
                              "%s has no %s.pawl: it is not the directory that this sink wrote to "
                              "(not mounted, emptied, another one?)",
                              s->directory, s->sink);
    if (!s->marked) { /* the parts are there, so only the marker was taken away */
        file_remark(s, "%s.pawl was missing in %s and was made again", s->sink, s->directory);
        return make_mark(s, n->directory, n->shown, f);
    }
    if (s->mark.directory != n->directory)
        return pawl_fault_set(
            f, PAWL_GONE,
            "%s is not the directory that this sink wrote to (%s.pawl has another id)",
            s->directory, s->sink);
    if (s->mark.shown < n->shown && s->remade)
        s->mark.shown = n->shown;
    if (s->mark.shown < n->shown)
        return pawl_fault_set(f, PAWL_GONE,
                              "%s is older than the log (restored from a backup?): it knows of "
                              "%" PRIu64 " of %" PRIu64 " files that were made visible",
                              s->directory, s->mark.shown, n->shown);
    return PAWL_DONE;
}

/* The last part that was made visible has its hidden name, although the log knows that it was
 * renamed: a power cut took that back. The rename is done again. 1: so it was. 0: it is another
 * file. -1 with errno. */
static int show_again(struct file_sink *s, const struct target *t, const struct file_name *p) {
    char to[FILE_NAME_SIZE];
    struct stat st;
    struct target shown = {.stream = t->stream, .partition = t->partition, .note = t->note};
    if (p->old || t->note.first != FILE_NONE || p->n[2] != t->note.last_first)
        return 0;
    int fd = reach_own(s->dir, p->name, REACH_WRITE);
    if (fd < 0)
        return reach_is_plant(errno) ? 0 : -1;
    XXH3_64bits_reset(t->hash);
    bool same = fstat(fd, &st) == 0 && (uint64_t)st.st_size == t->note.last_length &&
                file_hash_bytes(fd, 0, t->note.last_length, t->hash) == 0 &&
                XXH3_64bits_digest(t->hash) == t->note.last_hash;
    close(fd);
    XXH3_64bits_reset(t->hash);
    if (!same)
        return 0;
    memcpy(shown.stream_name, t->stream_name, sizeof shown.stream_name);
    shown.note.first = t->note.last_first;
    file_visible_name(s, &shown, 0, to);
    if (reach_rename(s->dir, p->name, to) != 0)
        return errno == EEXIST ? 0 : -1;
    file_remark(s,
                "%s in %s had been made visible, and a power cut has taken that back: it is %s "
                "again",
                p->name, s->directory, to);
    return file_synced(s->dir, fsync(s->dir)) == 0 ? 1 : -1;
}

/* Sets aside what looks like the partition's part and isn't. A part that begins where the next
 * batch does is what a crash left of that batch. */
static int clear_others(struct file_sink *s, const struct target *t, uint64_t next, pawl_fault *f) {
    for (size_t i = 0; i < s->found_count; i++) {
        const struct file_name *p = &s->found[i];
        uint64_t ours = t->note.first != FILE_NONE ? t->note.first : next;
        struct stat st;
        if (p->n[0] != t->stream || p->n[1] != t->partition)
            continue;
        if (fstatat(s->dir, p->name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
            if (errno == ENOENT) /* taken away just now */
                continue;
            return file_failed(s, f, "looking at a part");
        }
        if (!p->old && p->n[2] == ours && S_ISREG(st.st_mode))
            continue;
        int again = show_again(s, t, p);
        if (again < 0)
            return file_failed(s, f, "making a part visible again");
        if (again == 0 && file_set_aside(s, p->name) != 0)
            return file_failed(s, f, "setting a file aside");
    }
    return PAWL_DONE;
}

/* ---- what the log doesn't know, or says is gone */

/* The partition begins at b->from, in a directory that is made if it isn't there. */
static int begin_anew(struct file_sink *s, struct target *t, const pawl_sink_batch *b,
                      pawl_fault *f) {
    int outcome = make_place(s, f);
    if (outcome != PAWL_DONE)
        return outcome;
    t->note.directory = s->mark.directory;
    t->note.path = path_hash(s);
    t->note.shown = s->mark.shown;
    t->note.to = b->from;
    return PAWL_DONE;
}

/* The log says nothing of the partition: it is new, or version 1 has delivered it. */
static int first_time(struct file_sink *s, struct target *t, const pawl_sink_batch *b,
                      uint64_t *from, pawl_fault *f) {
    struct file_state state = {0};
    char name[FILE_NAME_SIZE];
    int outcome = begin_anew(s, t, b, f);
    if (outcome != PAWL_DONE)
        return outcome;
    file_old_name(s, t, ".state", name);
    outcome = file_old_state(s, t, &state, f);
    if (outcome == PAWL_DONE) {
        *from = state.first != FILE_NONE ? state.first : b->from;
        outcome = file_take_over(s, t, &state, f);
    } else if (outcome == PAWL_GONE && file_stray_part(s, t, from)) {
        return pawl_fault_set(
            f, PAWL_GONE, "%s in %s was removed, and the part beside it holds committed records",
            name, s->directory);
    } else if (outcome == PAWL_GONE) {
        outcome = PAWL_DONE;
    }
    return outcome == PAWL_DONE ? clear_others(s, t, b->from, f) : outcome;
}

/* What the log says is gone: begins anew at b->from. */
static int forget(struct file_sink *s, struct target *t, const pawl_sink_batch *b, pawl_fault *f) {
    char name[FILE_NAME_SIZE];
    int outcome = begin_anew(s, t, b, f);
    if (outcome != PAWL_DONE)
        return outcome;
    file_old_name(s, t, ".state", name);
    if (faccessat(s->dir, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0 ? file_set_aside(s, name) != 0
                                                                : errno != ENOENT)
        return file_failed(s, f, "setting a file aside");
    return clear_others(s, t, b->from, f);
}

/* The log has what a state of version 1 says: it is removed. What isn't one is set aside. */
static int old_state_left(struct file_sink *s, struct target *t, pawl_fault *f) {
    struct file_state state;
    char name[FILE_NAME_SIZE];
    int outcome = file_old_state(s, t, &state, f);
    t->old_state = outcome == PAWL_DONE;
    if (outcome != PAWL_FATAL)
        return outcome == PAWL_RETRY ? outcome : PAWL_DONE;
    file_old_name(s, t, ".state", name);
    return file_set_aside(s, name) == 0 ? PAWL_DONE : file_failed(s, f, "setting a file aside");
}

int file_check(void *self, const pawl_sink_batch *b, const char *text, uint64_t *from, uint64_t *to,
               pawl_fault *f) {
    struct file_sink *s = self;
    struct target *t = target_of(s, b);
    if (t == NULL)
        return pawl_fault_set(f, PAWL_RETRY, "no memory for a partition");
    *from = *to = b->from;
    if (text == NULL)
        return forget(s, t, b, f);
    if (text[0] == 0)
        return first_time(s, t, b, from, f);
    if (!file_note_decode(&t->note, text))
        return pawl_fault_set(f, PAWL_FATAL,
                              "this version doesn't understand \"%s\", which the log "
                              "keeps for it",
                              text);
    if (t->note.first != FILE_NONE)
        *from = t->note.first;
    *to = t->note.to;
    bool moved = t->note.path != path_hash(s), held = t->note.first != FILE_NONE;
    t->note.path = path_hash(s);
    if (!held)
        *from = *to;
    if (moved && !held && (!s->marked || s->mark.directory != t->note.directory)) {
        file_remark(s, "the files of %s/%u go to %s from now on", b->stream, b->partition,
                    s->directory); /* another setting, and nothing is left in the other place */
        return first_time(s, t, b, from, f);
    }
    if (s->dir < 0)
        return pawl_fault_set(f, PAWL_GONE, "%s is not there", s->directory);
    int outcome = check_part(s, t, f);
    if (outcome == PAWL_DONE && (outcome = check_place(s, t, f)) != PAWL_DONE)
        *from = *to; /* the part is there */
    if (outcome != PAWL_DONE)
        return outcome;
    outcome = old_state_left(s, t, f);
    return outcome != PAWL_DONE ? outcome : clear_others(s, t, b->from, f);
}

/* ---- while it runs */

static int not_same(struct file_sink *s, pawl_fault *f, const char *what) {
    file_close_part(s);
    return pawl_fault_set(f, PAWL_RETRY, "%s in %s was removed, replaced or changed by others",
                          what, s->directory);
}

static int same_place(struct file_sink *s, pawl_fault *f) {
    char name[FILE_NAME_SIZE];
    struct stat now, ours;
    if (s->dir < 0 || stat(s->directory, &now) != 0)
        return file_failed(s, f, "looking at the directory");
    if (now.st_dev != s->dir_dev || now.st_ino != s->dir_ino)
        return pawl_fault_set(f, PAWL_RETRY, "%s is another directory now", s->directory);
    mark_name(s, name);
    bool named = fstatat(s->dir, name, &now, AT_SYMLINK_NOFOLLOW) == 0;
    if ((!named && errno != ENOENT) || (s->marker >= 0 && fstat(s->marker, &ours) != 0))
        return file_failed(s, f, "looking at SINK.pawl");
    if (s->marker < 0 || !named || now.st_ino != ours.st_ino)
        return not_same(s, f, name);
    return PAWL_DONE;
}

int file_same(struct file_sink *s, struct target *t, pawl_fault *f) {
    char name[FILE_NAME_SIZE];
    struct stat now, ours;
    int outcome = same_place(s, f);
    if (outcome != PAWL_DONE)
        return outcome;
    if (s->at != (size_t)(t - s->targets))
        file_close_part(s);
    if (t->note.first == FILE_NONE)
        return PAWL_DONE;
    file_part_name(s, t, name);
    if (s->part < 0)
        s->part = reach_own(s->dir, name, REACH_WRITE);
    s->at = (size_t)(t - s->targets);
    uint64_t size = t->tail_end > t->note.length ? t->tail_end : t->note.length;
    if (s->part < 0 && errno != ENOENT &&
        (errno == EMLINK || errno == EPERM || !reach_is_plant(errno)))
        return file_failed(s, f, "opening a part");
    if (s->part >= 0 && fstat(s->part, &ours) != 0)
        return file_failed(s, f, "looking at a part");
    bool named = fstatat(s->dir, name, &now, AT_SYMLINK_NOFOLLOW) == 0;
    if (!named && errno != ENOENT)
        return file_failed(s, f, "looking at a part");
    if (s->part < 0 || !named || now.st_ino != ours.st_ino || (uint64_t)ours.st_size != size)
        return not_same(s, f, name);
    if (ours.st_ctim.tv_sec == t->changed.tv_sec && ours.st_ctim.tv_nsec == t->changed.tv_nsec)
        return PAWL_DONE;
    XXH3_64bits_reset(t->hash); /* somebody has touched it: are these still our bytes? */
    if (file_hash_bytes(s->part, 0, t->note.length, t->hash) != 0)
        return file_failed(s, f, "reading a part");
    if (XXH3_64bits_digest(t->hash) != t->note.hash)
        return not_same(s, f, name);
    t->changed = ours.st_ctim;
    return PAWL_DONE;
}
