/* SPDX-License-Identifier: Apache-2.0
 *
 * Two-phase sink into rotating files. sink_file.h describes the files and the protocol.
 *
 * While a batch is being encoded, a writer thread already writes the finished pieces of it. The
 * sync of the part and the sync of the slot are in flight together.
 *
 * Recovery (open): each state is written again before it is trusted, because what was read may only
 * be in the page cache. Bytes of a part after the committed or prepared length are cut off. A
 * rename that was under way is completed. Parts that no state names are removed.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "connectors/file/compress.h"
#include "connectors/file/sink_file.h"
#include "connectors/file/writer_thread.h"
#include "connectors/text/encode.h"

#define PIECE ((size_t)1 << 20) /* bytes per write */

/* A partition of an input that has a state in the directory. */
struct target {
    uint32_t stream, partition;
    struct file_state state;
};

struct file_sink {
    /* settings */
    char *directory, *prefix, *suffix;
    struct encoding encoding;
    int compression;
    uint64_t rotate_bytes, rotate_ms;
    /* what is open; all of it belongs to the sink's thread */
    char sink[65];
    uint8_t log_id[16];
    int dir, part, state; /* part and state: of targets[at]; -1: not open */
    struct target *targets;
    size_t count;
    size_t at; /* index of the target whose files are open; SIZE_MAX: none */
    /* opened, and no call has failed since: the states in memory are those on disk */
    bool whole;
    bool begun, fresh; /* begun: a batch is open; fresh: its part's name isn't durable yet */
    uint64_t written;  /* where the batch's next byte goes */
    struct buffer plain, packed;
    struct compressor *compressor;
    struct writer *writer; /* writes to the part of the open batch */
    pthread_mutex_t mutex; /* guards what status() shows */
    uint64_t files, hidden;
};

static const pawl_setting_info settings[] = {
    {"directory", PAWL_SETTING_TEXT, 1, NULL, NULL,
     "where the files go; made if only its last part is missing"},
    {"name", PAWL_SETTING_TEXT, 0, NULL, NULL,
     "what the files' names begin with; the sink's name if not given"},
    {"suffix", PAWL_SETTING_TEXT, 0, NULL, NULL,
     "what they end with; .log, .jsonl or .bin by format if not given, and .gz or .zst"},
    ENCODE_SETTINGS,
    {"compress", PAWL_SETTING_CHOICE, 0, COMPRESS_KINDS, "none",
     "compress each batch as a gzip member or a zstd frame"},
    {"level", PAWL_SETTING_NUMBER, 0, NULL, "0", "of the compression; 0: the library's own choice"},
    {"rotate_size", PAWL_SETTING_SIZE, 0, NULL, "64M",
     "a file becomes visible once it has this many bytes"},
    {"rotate_age", PAWL_SETTING_TIME, 0, NULL, "1m", "or is so old; 0: not for its age"},
    {NULL, 0, 0, NULL, NULL, NULL},
};
static int make_sink(const pawl_settings *s, pawl_sink_ops *out, pawl_error *err);
const pawl_connector connect_sink_file = {
    .type = "file",
    .help = "rotating files, each visible once all of it is committed",
    .settings = settings,
    .make_sink = make_sink,
};

/* ---- names and answers */

static void part_name(const struct file_sink *s, const struct target *t, char out[256]) {
    snprintf(out, 256, ".%s-%" PRIu32 "-%" PRIu32 "-%020" PRIu64 ".part", s->sink, t->stream,
             t->partition, t->state.first);
}

static void state_name(const struct file_sink *s, const struct target *t, char out[256]) {
    snprintf(out, 256, ".%s-%" PRIu32 "-%" PRIu32 ".state", s->sink, t->stream, t->partition);
}

/* True if `name` is ".SINK-", `wanted` numbers separated by dashes, then `end`, and nothing
 * else. */
static bool name_is(const struct file_sink *s, const char *name, int wanted, const char *end,
                    uint64_t n[3]) {
    size_t len = strlen(s->sink);
    if (name[0] != '.' || strncmp(name + 1, s->sink, len) != 0 || name[1 + len] != '-')
        return false;
    const char *at = name + 2 + len;
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

/* RETRY for errors that may go away by themselves, FATAL for those that need an operator. */
static int failed(struct file_sink *s, pawl_fault *f, const char *doing) {
    int e = errno;
    bool final =
        e == EACCES || e == EPERM || e == EROFS || e == ENOTDIR || e == ELOOP || e == ENAMETOOLONG;
    s->whole = false;
    return pawl_fault_set(f, final ? PAWL_FATAL : PAWL_RETRY, "%s in %s: %s", doing, s->directory,
                          strerror(e));
}

static void close_files(struct file_sink *s) {
    if (s->writer != NULL) /* for a batch that was given up */
        (void)writer_wait(s->writer);
    if (s->part >= 0)
        close(s->part);
    if (s->state >= 0)
        close(s->state);
    s->part = s->state = -1;
    s->at = SIZE_MAX;
}

static void tell(struct file_sink *s, uint64_t files) {
    uint64_t hidden = 0;
    for (size_t i = 0; i < s->count; i++)
        hidden += s->targets[i].state.first != FILE_NONE ? s->targets[i].state.length : 0;
    pthread_mutex_lock(&s->mutex);
    s->files += files;
    s->hidden = hidden;
    pthread_mutex_unlock(&s->mutex);
}

static struct target *find(struct file_sink *s, uint32_t stream, uint32_t partition) {
    for (size_t i = 0; i < s->count; i++)
        if (s->targets[i].stream == stream && s->targets[i].partition == partition)
            return &s->targets[i];
    return NULL;
}

static struct target *add(struct file_sink *s, uint32_t stream, uint32_t partition) {
    struct target *q = realloc(s->targets, (s->count + 1) * sizeof *q);
    if (q == NULL)
        return NULL;
    s->targets = q;
    q += s->count++;
    *q = (struct target){.stream = stream, .partition = partition, .state = {.first = FILE_NONE}};
    memcpy(q->state.log_id, s->log_id, sizeof q->state.log_id);
    return q;
}

/* Opens the target's state file, and its part if it has one. 0, or -1 with errno. */
static int open_files(struct file_sink *s, struct target *t) {
    char name[256];
    if (s->at != (size_t)(t - s->targets)) {
        close_files(s);
        state_name(s, t, name);
        s->state = openat(s->dir, name, O_RDWR | O_CLOEXEC);
        if (s->state < 0)
            return -1;
        s->at = (size_t)(t - s->targets);
    }
    if (s->part < 0 && t->state.first != FILE_NONE) {
        part_name(s, t, name);
        s->part = openat(s->dir, name, O_WRONLY | O_CLOEXEC);
    }
    return s->part < 0 && t->state.first != FILE_NONE ? -1 : 0;
}

/* ---- making a part visible */

static int rename_part(struct file_sink *s, const struct target *t) {
    char from[256], to[300];
    part_name(s, t, from);
    for (unsigned again = 0; again < 1000; again++) { /* an existing file is never replaced */
        char twin[16] = "";
        if (again > 0)
            snprintf(twin, sizeof twin, ".%u", again);
        snprintf(to, sizeof to, "%s-%s-%" PRIu32 "-%020" PRIu64 "%s%s",
                 s->prefix != NULL ? s->prefix : s->sink, t->state.stream, t->partition,
                 t->state.first, twin, s->suffix);
        int rc = renameat2(s->dir, from, s->dir, to, RENAME_NOREPLACE);
        if (rc != 0 && errno == EINVAL) /* unsupported here; nobody else makes such names */
            rc = faccessat(s->dir, to, F_OK, AT_SYMLINK_NOFOLLOW) == 0
                     ? (errno = EEXIST, -1)
                     : renameat(s->dir, from, s->dir, to);
        if (rc == 0 || errno != EEXIST)
            return rc;
    }
    return -1;
}

/* Makes the part visible: a slot, the rename, another slot. The target's files must be open.
 * Returns 0, or -1 with errno. */
static int rotate(struct file_sink *s, struct target *t) {
    if (t->state.rotating == 0) {
        t->state.rotating = 1;
        if (file_state_write(s->state, &t->state) != 0) {
            t->state.rotating = 0;
            return -1;
        }
    }
    if (rename_part(s, t) != 0 || fsync(s->dir) != 0)
        return -1;
    t->state.rotating = 0;
    t->state.first = FILE_NONE;
    t->state.length = 0;
    if (file_state_write(s->state, &t->state) != 0)
        return -1;
    close_files(s);
    tell(s, 1);
    return 0;
}

static bool due(const struct file_sink *s, const struct target *t, bool any_age) {
    const struct file_state *st = &t->state;
    if (st->first == FILE_NONE || st->length == 0 || st->prepared[0] != 0)
        return false;
    int64_t age_ms = (connect_wall_ns() - st->begun_ns) / 1000000;
    return any_age || st->length >= s->rotate_bytes ||
           (s->rotate_ms != 0 && (age_ms < 0 || (uint64_t)age_ms >= s->rotate_ms));
}

/* ---- opening */

/* Cuts a part to the length in its state and syncs it. FATAL if committed bytes are missing. */
static int agree_with_state(struct file_sink *s, struct target *t, pawl_fault *f) {
    struct file_state *st = &t->state;
    struct stat info;
    char name[256];
    part_name(s, t, name);
    int fd = openat(s->dir, name, O_WRONLY | O_CLOEXEC);
    if (fd < 0 && errno != ENOENT)
        return failed(s, f, "opening a part");
    if (fd < 0 && st->rotating != 0) { /* renamed, but the slot after the rename was not written */
        st->rotating = 0;
        st->first = FILE_NONE;
        st->length = 0;
        return fsync(s->dir) == 0 ? PAWL_DONE : failed(s, f, "syncing the directory");
    }
    uint64_t size = 0;
    if (fd >= 0 && fstat(fd, &info) == 0)
        size = (uint64_t)info.st_size;
    if (size < st->length) {
        if (fd >= 0)
            close(fd);
        return pawl_fault_set(
            f, PAWL_FATAL,
            "%s in %s has %" PRIu64 " of %" PRIu64
            " committed bytes: they were removed; take its .state file away to go on without them",
            name, s->directory, size, st->length);
    }
    if (st->prepared[0] != 0 && size < st->prepared_length)
        st->prepared[0] = 0; /* lost; committed() reports it if it was to be committed */
    uint64_t keep = st->prepared[0] != 0 ? st->prepared_length : st->length;
    int bad = fd >= 0 && ((size > keep && ftruncate(fd, (off_t)keep) != 0) || fdatasync(fd) != 0);
    if (bad)
        (void)failed(s, f, "cutting a part");
    if (fd >= 0)
        close(fd);
    if (!bad && keep == 0)
        st->first = FILE_NONE; /* nothing to keep: scan() removes the part */
    return bad ? PAWL_RETRY : PAWL_DONE;
}

static int load(struct file_sink *s, struct target *t, pawl_fault *f) {
    char name[256];
    state_name(s, t, name);
    int fd = openat(s->dir, name, O_RDWR | O_CLOEXEC);
    int rc = fd < 0 ? -1 : file_state_read(fd, &t->state);
    int outcome = PAWL_DONE;
    if (rc < 0)
        outcome = failed(s, f, "reading a state");
    else if (rc > 0)
        outcome = pawl_fault_set(f, PAWL_FATAL, "%s in %s has no valid slot: it is damaged", name,
                                 s->directory);
    else if (memcmp(t->state.log_id, s->log_id, sizeof s->log_id) != 0)
        outcome = pawl_fault_set(
            f, PAWL_FATAL,
            "%s in %s belongs to another log: give the sink another name or directory", name,
            s->directory);
    if (outcome == PAWL_DONE && t->state.first != FILE_NONE)
        outcome = agree_with_state(s, t, f);
    /* What was read may only be in the page cache. Writing it again makes it durable. */
    if (outcome == PAWL_DONE && file_state_write(fd, &t->state) != 0)
        outcome = failed(s, f, "writing a state");
    if (fd >= 0)
        close(fd);
    return outcome;
}

static bool known_part(const struct file_sink *s, const uint64_t n[3]) {
    for (size_t i = 0; i < s->count; i++)
        if (s->targets[i].stream == n[0] && s->targets[i].partition == n[1])
            return s->targets[i].state.first == n[2];
    return false;
}

/* Reads the directory: pass 0 finds the states, pass 1 removes the parts that no state names. */
static int scan(struct file_sink *s, int pass, pawl_fault *f) {
    int fd = openat(s->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    if (d == NULL) {
        int outcome = failed(s, f, "reading the directory");
        if (fd >= 0)
            close(fd);
        return outcome;
    }
    int outcome = PAWL_DONE;
    const struct dirent *e;
    while (outcome == PAWL_DONE && (e = readdir(d)) != NULL) {
        uint64_t n[3];
        if (pass == 0 && name_is(s, e->d_name, 2, ".state", n) && n[0] <= UINT32_MAX &&
            n[1] <= UINT32_MAX) {
            if (add(s, (uint32_t)n[0], (uint32_t)n[1]) == NULL)
                outcome =
                    pawl_fault_set(f, PAWL_RETRY, "no memory for the states of %s", s->directory);
        } else if (pass == 1 && name_is(s, e->d_name, 3, ".part", n) && !known_part(s, n)) {
            if (unlinkat(s->dir, e->d_name, 0) != 0 && errno != ENOENT)
                outcome = failed(s, f, "removing a leftover part");
        }
    }
    closedir(d);
    return outcome;
}

static int open_directory(struct file_sink *s, pawl_fault *f) {
    if (s->dir >= 0)
        close(s->dir);
    s->dir = open(s->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (s->dir < 0 && errno == ENOENT && mkdir(s->directory, 0777) == 0)
        s->dir = open(s->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return s->dir < 0 ? failed(s, f, "opening the directory") : PAWL_DONE;
}

static int sink_open(void *self, const pawl_sink_batch *b, pawl_fault *f) {
    struct file_sink *s = self;
    close_files(s);
    s->whole = s->begun = false;
    s->count = 0;
    snprintf(s->sink, sizeof s->sink, "%s", b->sink);
    memcpy(s->log_id, b->log_id, sizeof s->log_id);
    int outcome = open_directory(s, f);
    if (outcome == PAWL_DONE)
        outcome = scan(s, 0, f);
    for (size_t i = 0; outcome == PAWL_DONE && i < s->count; i++)
        outcome = load(s, &s->targets[i], f);
    if (outcome == PAWL_DONE)
        outcome = scan(s, 1, f);
    for (size_t i = 0; outcome == PAWL_DONE && i < s->count; i++)
        if (s->targets[i].state.rotating != 0 && s->targets[i].state.prepared[0] == 0 &&
            (open_files(s, &s->targets[i]) != 0 || rotate(s, &s->targets[i]) != 0))
            outcome = failed(s, f, "making a part visible");
    s->whole = outcome == PAWL_DONE;
    if (s->whole)
        tell(s, 0);
    return outcome;
}

/* ---- a batch */

static int new_target(struct file_sink *s, const pawl_sink_batch *b, struct target **out,
                      pawl_fault *f) {
    char name[256];
    struct target *t = add(s, b->stream_id, b->partition);
    if (t == NULL)
        return pawl_fault_set(f, PAWL_RETRY, "no memory for a partition");
    snprintf(t->state.stream, sizeof t->state.stream, "%s", b->stream);
    state_name(s, t, name);
    int fd = file_state_create(s->dir, name, &t->state);
    if (fd < 0 || fsync(s->dir) != 0) {
        int outcome = failed(s, f, "making a state file");
        if (fd >= 0)
            close(fd);
        s->count--;
        return outcome;
    }
    close(fd);
    *out = t;
    return PAWL_DONE;
}

static int sink_begin(void *self, const pawl_sink_batch *b, pawl_fault *f) {
    struct file_sink *s = self;
    char name[256];
    struct target *t = find(s, b->stream_id, b->partition);
    int outcome = t == NULL ? new_target(s, b, &t, f) : PAWL_DONE;
    if (outcome != PAWL_DONE || t == NULL)
        return outcome;
    if (open_files(s, t) != 0)
        return failed(s, f, "opening a part");
    /* an earlier rotation failed */
    if (t->state.rotating != 0 && (rotate(s, t) != 0 || open_files(s, t) != 0))
        return failed(s, f, "making a part visible");
    s->fresh = t->state.first == FILE_NONE;
    if (s->fresh) { /* in memory only, until the batch is prepared */
        t->state.first = b->from;
        t->state.begun_ns = connect_wall_ns();
        part_name(s, t, name);
        if (s->part >= 0)
            close(s->part);
        s->part = openat(s->dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
        if (s->part < 0) {
            t->state.first = FILE_NONE;
            return failed(s, f, "making a part");
        }
    }
    s->begun = true;
    s->written = t->state.length;
    s->plain.len = s->packed.len = 0;
    compress_reset(s->compressor);
    return PAWL_DONE;
}

static int flush(struct file_sink *s, bool end, pawl_fault *f) {
    struct buffer *out = s->compression == COMPRESS_NONE ? &s->plain : &s->packed;
    if (s->compression != COMPRESS_NONE) {
        if (!compress_add(s->compressor, &s->packed, s->plain.bytes, s->plain.len, end))
            return pawl_fault_set(f, PAWL_RETRY, "no memory for the compression");
        s->plain.len = 0;
        if (!end && s->packed.len < PIECE)
            return PAWL_DONE;
    }
    if (!end) { /* the device works while the next piece is encoded */
        uint64_t at = s->written;
        s->written += out->len;
        return writer_write(s->writer, s->part, out, at) == 0 ? PAWL_DONE
                                                              : failed(s, f, "writing a part");
    }
    if (writer_wait(s->writer) != 0 || write_whole(s->part, out, s->written) != 0)
        return failed(s, f, "writing a part");
    s->written += out->len;
    out->len = 0;
    return PAWL_DONE;
}

static int sink_write(void *self, const pawl_sink_batch *b, const pawl_record *records,
                      size_t count, pawl_fault *f) {
    struct file_sink *s = self;
    int outcome = PAWL_DONE;
    (void)b;
    for (size_t i = 0; i < count && outcome == PAWL_DONE; i++) {
        outcome = encode_record(&s->plain, &s->encoding, &records[i], f);
        if (outcome == PAWL_DONE && s->plain.len >= PIECE)
            outcome = flush(s, false, f);
    }
    return outcome;
}

/* Writes the rest of the batch, cuts off any bytes after it, and submits the sync. make_durable()
 * waits for it. */
static int finish_part(struct file_sink *s, pawl_fault *f) {
    struct stat info;
    int outcome = flush(s, true, f);
    if (outcome != PAWL_DONE)
        return outcome;
    if (fstat(s->part, &info) != 0 ||
        ((uint64_t)info.st_size > s->written && ftruncate(s->part, (off_t)s->written) != 0) ||
        writer_sync(s->writer, s->part) != 0)
        return failed(s, f, "syncing a part");
    return PAWL_DONE;
}

static int make_durable(struct file_sink *s, pawl_fault *f) {
    if (writer_wait(s->writer) != 0)
        return failed(s, f, "syncing a part");
    if (s->fresh && fsync(s->dir) != 0)
        return failed(s, f, "syncing the directory");
    return PAWL_DONE;
}

static int sink_prepare(void *self, const pawl_sink_batch *b, pawl_fault *f) {
    struct file_sink *s = self;
    struct file_state *st = &s->targets[s->at].state;
    int outcome = finish_part(s, f);
    if (outcome != PAWL_DONE)
        return outcome;
    snprintf(st->prepared, sizeof st->prepared, "%s", b->name);
    st->prepared_to = b->to;
    st->prepared_length = s->written;
    s->begun = false;
    /* The slot and the part become durable in either order. The decision to commit comes after
     * both, and until then recovery rolls back, whatever the slot says. */
    bool written = file_state_write(s->state, st) == 0;
    outcome = written ? PAWL_DONE : failed(s, f, "writing a state");
    int durable = make_durable(s, outcome == PAWL_DONE ? f : NULL);
    return outcome == PAWL_DONE ? durable : outcome;
}

/* Finds the target that holds this batch as prepared, and opens its files. GONE: none holds it. */
static int holding(struct file_sink *s, const pawl_sink_batch *b, struct target **out,
                   pawl_fault *f) {
    struct target *t = find(s, b->stream_id, b->partition);
    if (t == NULL || strcmp(t->state.prepared, b->name) != 0)
        return PAWL_GONE;
    *out = t;
    return open_files(s, t) == 0 ? PAWL_DONE : failed(s, f, "opening a part");
}

static int committed_now(struct file_sink *s, struct target *t, pawl_fault *f) {
    struct file_state *st = &t->state;
    st->prepared[0] = 0;
    st->length = st->prepared_length;
    if (st->to < st->prepared_to) /* else the batch was delivered again */
        st->to = st->prepared_to;
    st->prepared_to = st->prepared_length = 0;
    if (st->length == 0)
        st->first = FILE_NONE;
    if (file_state_write(s->state, st) != 0)
        return failed(s, f, "writing a state");
    tell(s, 0);
    if (due(s, t, false) && rotate(s, t) != 0)
        /* the batch is committed anyway; idle() reports the error */
        s->whole = false;
    return PAWL_DONE;
}

static int sink_commit_prepared(void *self, const pawl_sink_batch *b, pawl_fault *f) {
    struct target *t;
    int outcome = holding(self, b, &t, f);
    return outcome == PAWL_DONE ? committed_now(self, t, f) : outcome;
}

static int sink_rollback_prepared(void *self, const pawl_sink_batch *b, pawl_fault *f) {
    struct file_sink *s = self;
    struct target *t;
    int outcome = holding(s, b, &t, f);
    if (outcome != PAWL_DONE)
        return outcome;
    struct file_state *st = &t->state;
    st->prepared[0] = 0;
    st->prepared_to = st->prepared_length = 0;
    if (file_state_write(s->state, st) != 0 || ftruncate(s->part, (off_t)st->length) != 0)
        return failed(s, f, "rolling back");
    return PAWL_DONE;
}

static int sink_list_prepared(void *self, const char *prefix, pawl_prepared_fn fn, void *arg,
                              pawl_fault *f) {
    const struct file_sink *s = self;
    (void)f;
    for (size_t i = 0; i < s->count; i++)
        if (s->targets[i].state.prepared[0] != 0 &&
            strncmp(s->targets[i].state.prepared, prefix, strlen(prefix)) == 0)
            fn(arg, s->targets[i].state.prepared);
    return PAWL_DONE;
}

static int sink_committed(void *self, const pawl_sink_batch *b, pawl_fault *f) {
    const struct target *t = find(self, b->stream_id, b->partition);
    (void)f; /* without a state the sink can't tell: the directory was emptied, or is another one */
    return t == NULL ? PAWL_UNKNOWN : t->state.to >= b->to ? PAWL_DONE : PAWL_GONE;
}

static int sink_commit(void *self, const pawl_sink_batch *b, pawl_fault *f) {
    struct file_sink *s = self;
    struct target *t = &s->targets[s->at];
    int outcome = finish_part(s, f);
    if (outcome == PAWL_DONE)
        outcome = make_durable(s, f); /* before the slot, which says that it is committed */
    if (outcome != PAWL_DONE)
        return outcome;
    t->state.prepared_to = b->to;
    t->state.prepared_length = s->written;
    s->begun = false;
    return committed_now(s, t, f);
}

static void sink_abort(void *self) {
    struct file_sink *s = self;
    if (!s->begun)
        return;
    struct file_state *st = &s->targets[s->at].state;
    s->begun = false;
    s->plain.len = s->packed.len = 0;
    (void)writer_wait(s->writer);
    if (!s->fresh && s->part >= 0 && ftruncate(s->part, (off_t)st->length) != 0)
        s->whole = false; /* the next batch or open() cuts it */
    if (s->fresh) {
        char name[256];
        part_name(s, &s->targets[s->at], name);
        (void)unlinkat(s->dir, name, 0); /* if this fails, open() removes it */
        st->first = FILE_NONE;
        close_files(s);
    }
}

/* ---- between batches */

static int rotate_all(struct file_sink *s, bool any_age, pawl_fault *f) {
    for (size_t i = 0; i < s->count; i++)
        if (due(s, &s->targets[i], any_age) &&
            (open_files(s, &s->targets[i]) != 0 || rotate(s, &s->targets[i]) != 0))
            return failed(s, f, "making a part visible");
    return PAWL_DONE;
}

/* GONE: no part can become due by its age. */
static int sink_idle(void *self, pawl_fault *f) {
    struct file_sink *s = self;
    int outcome = rotate_all(s, false, f);
    bool waits = false;
    for (size_t i = 0; i < s->count; i++)
        waits =
            waits || (s->targets[i].state.first != FILE_NONE && s->targets[i].state.length != 0);
    return outcome == PAWL_DONE && (!waits || s->rotate_ms == 0) ? PAWL_GONE : outcome;
}

static void sink_status(void *self, char *text, size_t size) {
    struct file_sink *s = self;
    pthread_mutex_lock(&s->mutex);
    snprintf(text, size,
             "%s: %" PRIu64 " files made visible, %" PRIu64 " bytes committed and still hidden",
             s->directory, s->files, s->hidden);
    pthread_mutex_unlock(&s->mutex);
}

static void sink_destroy(void *self) {
    struct file_sink *s = self;
    if (s->whole) /* a clean end makes all that is committed visible */
        (void)rotate_all(s, true, NULL);
    close_files(s);
    if (s->dir >= 0)
        close(s->dir);
    writer_free(s->writer);
    compress_free(s->compressor);
    buffer_free(&s->plain);
    buffer_free(&s->packed);
    pthread_mutex_destroy(&s->mutex);
    free(s->targets);
    free(s->directory);
    free(s->prefix);
    free(s->suffix);
    free(s);
}

/* ---- making one */

static bool name_part_ok(const char *text) {
    return text == NULL || (strlen(text) <= 32 && strchr(text, '/') == NULL && text[0] != 0);
}

static int check(const pawl_settings *set, pawl_error *err) {
    const pawl_connector *c = &connect_sink_file;
    const char *name = pawl_setting_text(c, set, "name"),
               *suffix = pawl_setting_text(c, set, "suffix");
    int kind = (int)pawl_setting_number(c, set, "compress");
    uint64_t level = pawl_setting_number(c, set, "level");
    if (pawl_setting_text(c, set, "directory")[0] == 0)
        return connect_error(err, PAWL_INVALID, "file: directory is empty");
    if (!name_part_ok(name) || !name_part_ok(suffix) || (name != NULL && name[0] == '.'))
        return connect_error(
            err, PAWL_INVALID,
            "file: name and suffix have 1 to 32 characters, no slash, and name no dot in front");
    if (!compress_available(kind))
        return connect_error(err, PAWL_UNSUPPORTED, "file: this build has no %s",
                             kind == COMPRESS_GZIP ? "zlib" : "zstd");
    if (level > (kind == COMPRESS_ZSTD ? 19u : 9u))
        return connect_error(err, PAWL_INVALID,
                             "file: level goes to 9 for gzip and to 19 for zstd");
    if (pawl_setting_number(c, set, "rotate_size") == 0)
        return connect_error(err, PAWL_INVALID, "file: rotate_size must not be 0");
    return 0;
}

static char *choose_suffix(const char *given, const struct file_sink *s) {
    static const char *const by_format[] = {".log", ".jsonl", ".bin"}, *const by_kind[] = {
                                                                           "", ".gz", ".zst"};
    char text[16];
    snprintf(text, sizeof text, "%s%s", by_format[s->encoding.format], by_kind[s->compression]);
    return strdup(given != NULL ? given : text);
}

static int make_sink(const pawl_settings *set, pawl_sink_ops *out, pawl_error *err) {
    const pawl_connector *c = &connect_sink_file;
    int rc = check(set, err);
    if (rc < 0)
        return rc;
    struct file_sink *s = calloc(1, sizeof *s);
    if (s == NULL)
        return connect_error(err, PAWL_MEMORY, "no memory for a sink");
    const char *name = pawl_setting_text(c, set, "name");
    s->dir = s->part = s->state = -1;
    s->at = SIZE_MAX;
    pthread_mutex_init(&s->mutex, NULL);
    s->writer = writer_new();
    encode_settings(c, set, &s->encoding);
    s->compression = (int)pawl_setting_number(c, set, "compress");
    s->rotate_bytes = pawl_setting_number(c, set, "rotate_size");
    s->rotate_ms = pawl_setting_number(c, set, "rotate_age");
    s->directory = strdup(pawl_setting_text(c, set, "directory"));
    s->prefix = name != NULL ? strdup(name) : NULL;
    s->suffix = choose_suffix(pawl_setting_text(c, set, "suffix"), s);
    if (s->compression != COMPRESS_NONE)
        s->compressor = compress_new(s->compression, (int)pawl_setting_number(c, set, "level"));
    if (s->writer == NULL || s->directory == NULL || s->suffix == NULL ||
        (name != NULL && s->prefix == NULL) ||
        (s->compression != COMPRESS_NONE && s->compressor == NULL)) {
        sink_destroy(s);
        return connect_error(err, PAWL_MEMORY, "no memory for a sink");
    }
    *out = (pawl_sink_ops){sizeof *out,
                           PAWL_SINK_TWO_PHASE,
                           0,
                           "file",
                           s,
                           sink_open,
                           sink_begin,
                           sink_write,
                           sink_commit,
                           NULL,
                           sink_prepare,
                           sink_commit_prepared,
                           sink_rollback_prepared,
                           sink_list_prepared,
                           sink_committed,
                           sink_abort,
                           sink_idle,
                           sink_status,
                           sink_destroy};
    return 0;
}
