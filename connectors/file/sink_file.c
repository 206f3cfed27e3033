/* SPDX-License-Identifier: Apache-2.0
 *
 * Two-phase sink into rotating files. sink_file.h describes the files and the protocol.
 *
 * While a batch is being encoded, a writer thread already writes the finished pieces of it.
 *
 * A crash leaves bytes of a batch in the part that no commit knows of. They are not cut off: they
 * may be another program's. The next batch has the same records, so it writes the same bytes; where
 * they differ, what was there is set aside first.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "connectors/file/sink_file.h"

#define PIECE ((size_t)1 << 20) /* bytes per write */

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
    {"mode", PAWL_SETTING_TEXT, 0, NULL, NULL,
     "permissions of the files, octal; 0640, less the umask, if not given"},
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

void file_part_name(const struct file_sink *s, const struct target *t, char out[FILE_NAME_SIZE]) {
    snprintf(out, FILE_NAME_SIZE, "%s-%" PRIu32 "-%" PRIu32 "-%020" PRIu64 ".part", s->sink,
             t->stream, t->partition, t->note.first);
}

/* Time or a person can mend all of them, a directory that is read-only or not ours among them:
 * another part of the pipeline doesn't depend on it (PAWL-16). */
int file_failed(const struct file_sink *s, pawl_fault *f, const char *doing) {
    return pawl_fault_set(f, PAWL_RETRY, "%s in %s: %s", doing, s->directory, reach_text(errno));
}

void file_remark(struct file_sink *s, const char *format, ...) {
    va_list args;
    size_t n = strlen(s->remark);
    if (n + 80 > sizeof s->remark)
        return; /* it ends in "..." where it was cut */
    if (n > 0)
        n += (size_t)snprintf(s->remark + n, sizeof s->remark - n, "; ");
    va_start(args, format);
    if (vsnprintf(s->remark + n, sizeof s->remark - n, format, args) >= (int)(sizeof s->remark - n))
        memcpy(s->remark + sizeof s->remark - 4, "...", 4);
    va_end(args);
}

void file_close_part(struct file_sink *s) {
    if (s->writer != NULL) /* for a batch that was given up */
        (void)writer_wait(s->writer);
    if (s->part >= 0)
        close(s->part);
    s->part = -1;
    s->at = SIZE_MAX;
}

void file_tell(struct file_sink *s, uint64_t files) {
    uint64_t hidden = 0;
    for (size_t i = 0; i < s->count; i++)
        hidden += s->targets[i].note.first != FILE_NONE ? s->targets[i].note.length : 0;
    pthread_mutex_lock(&s->mutex);
    s->files += files;
    s->hidden = hidden;
    pthread_mutex_unlock(&s->mutex);
}

struct target *file_find(struct file_sink *s, uint32_t stream, uint32_t partition) {
    for (size_t i = 0; i < s->count; i++)
        if (s->targets[i].stream == stream && s->targets[i].partition == partition)
            return &s->targets[i];
    return NULL;
}

static int sink_open(void *self, const pawl_sink_batch *b, pawl_fault *f) {
    struct file_sink *s = self;
    s->begun = false;
    return file_open_place(s, b, f);
}

/* ---- a batch */

/* Opens the part, or makes it. What is there under its name is left of a crash. */
static int open_fresh(struct file_sink *s, struct target *t, const pawl_sink_batch *b) {
    char name[FILE_NAME_SIZE];
    struct stat st;
    bool made = true;
    t->note.first = b->from; /* in memory only, until the batch is decided on */
    t->note.length = 0;
    t->note.begun_s = (uint64_t)(connect_wall_ns() / 1000000000);
    t->tail_end = 0;
    XXH3_64bits_reset(t->hash);
    file_part_name(s, t, name);
    file_close_part(s);
    s->part = reach_new(s->dir, name, s->mode, s->mode_exact);
    if (s->part < 0 && errno == EEXIST) {
        s->part = reach_own(s->dir, name, REACH_WRITE);
        made = s->part < 0 && reach_is_plant(errno) && file_set_aside(s, name) == 0;
        if (made)
            s->part = reach_new(s->dir, name, s->mode, s->mode_exact);
    }
    s->made = made && s->part >= 0;
    if (s->part < 0 || fstat(s->part, &st) != 0) {
        t->note.first = FILE_NONE;
        return -1;
    }
    t->tail_end = (uint64_t)st.st_size;
    s->at = (size_t)(t - s->targets);
    return 0;
}

static int sink_begin(void *self, const pawl_sink_batch *b, pawl_fault *f) {
    struct file_sink *s = self;
    struct target *t = file_find(s, b->stream_id, b->partition);
    if (t == NULL)
        return pawl_fault_set(f, PAWL_FATAL, "partition %u of %s was not checked", b->partition,
                              b->stream);
    int outcome = file_same(s, t, f);
    if (outcome != PAWL_DONE)
        return outcome;
    s->fresh = t->note.first == FILE_NONE;
    s->made = false;
    if (s->fresh && open_fresh(s, t, b) != 0)
        return file_failed(s, f, "making a part");
    s->begun = true;
    s->written = t->note.length;
    XXH3_copyState(s->hash, t->hash);
    s->plain.len = s->packed.len = 0;
    compress_reset(s->compressor);
    return PAWL_DONE;
}

/* The next bytes of the batch go to s->written. Where the part has bytes there already that differ,
 * these are kept elsewhere. 0, or -1 with errno. */
static int claim(struct file_sink *s, struct target *t, const struct buffer *out) {
    char there[16384];
    uint64_t end = s->written + out->len;
    if (end > t->tail_end)
        end = t->tail_end;
    for (uint64_t at = s->written; at < end;) {
        size_t want = end - at < sizeof there ? (size_t)(end - at) : sizeof there;
        ssize_t got = pread(s->part, there, want, (off_t)at);
        if (got < 0)
            return -1;
        if (got == 0 || memcmp(there, out->bytes + (at - s->written), (size_t)got) != 0) {
            if (writer_wait(s->writer) != 0 ||
                file_tail_aside(s, t, t->note.length, s->written) != 0)
                return -1;
            break;
        }
        at += (uint64_t)got;
    }
    XXH3_64bits_update(s->hash, out->bytes, out->len);
    return 0;
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
    if (claim(s, &s->targets[s->at], out) != 0)
        return file_failed(s, f, "writing a part");
    uint64_t at = s->written;
    s->written += out->len;
    if (!end) /* the device works while the next piece is encoded */
        return writer_write(s->writer, s->part, out, at) == 0 ? PAWL_DONE
                                                              : file_failed(s, f, "writing a part");
    if (writer_wait(s->writer) != 0 || write_whole(s->part, out, at) != 0)
        return file_failed(s, f, "writing a part");
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

/* Writes the rest of the batch and makes it durable, with the name of a new part. */
static int finish_part(struct file_sink *s, struct target *t, pawl_fault *f) {
    struct stat st;
    int outcome = flush(s, true, f);
    if (outcome != PAWL_DONE)
        return outcome;
    uint64_t ours = s->written > t->tail_end ? s->written : t->tail_end;
    if (fstat(s->part, &st) != 0)
        return file_failed(s, f, "syncing a part");
    if ((uint64_t)st.st_size > ours) { /* another program has appended meanwhile */
        t->tail_end = (uint64_t)st.st_size;
        if (file_tail_aside(s, t, s->written, s->written) != 0)
            return file_failed(s, f, "setting bytes aside");
    }
    if (file_synced(s->part, fdatasync(s->part)) != 0 || file_changed(s, t) != 0)
        return file_failed(s, f, "syncing a part");
    if (s->fresh && file_synced(s->dir, fsync(s->dir)) != 0)
        return file_failed(s, f, "syncing the directory");
    (void)futimens(s->marker, NULL); /* as old as the part, for cleaners that go by age */
    return PAWL_DONE;
}

/* It becomes visible for its age, or because the clock has gone back. */
static bool old_enough(const struct file_sink *s, const struct target *t) {
    uint64_t now_s = (uint64_t)(connect_wall_ns() / 1000000000);
    return s->rotate_ms != 0 &&
           (now_s < t->note.begun_s || (now_s - t->note.begun_s) * 1000u >= s->rotate_ms);
}

static void prepared(struct file_sink *s, struct target *t, const pawl_sink_batch *b) {
    t->due = t->due || old_enough(s, t);
    t->prepared_to = b->to;
    t->prepared_length = s->written;
    XXH3_copyState(t->prepared_hash, s->hash);
    s->begun = false;
}

static int sink_prepare(void *self, const pawl_sink_batch *b, pawl_fault *f) {
    struct file_sink *s = self;
    struct target *t = &s->targets[s->at];
    int outcome = finish_part(s, t, f);
    if (outcome != PAWL_DONE)
        return outcome;
    snprintf(t->prepared, sizeof t->prepared, "%s", b->name);
    prepared(s, t, b);
    return PAWL_DONE;
}

/* The log has decided: the bytes are there, and count. */
static void committed_now(struct file_sink *s, struct target *t) {
    XXH3_state_t *before = t->hash;
    t->hash = t->prepared_hash;
    t->prepared_hash = before;
    t->prepared[0] = 0;
    t->note.length = t->prepared_length;
    t->note.hash = XXH3_64bits_digest(t->hash);
    if (t->note.to < t->prepared_to) /* else the batch was delivered again */
        t->note.to = t->prepared_to;
    file_tell(s, 0);
}

static int sink_commit_prepared(void *self, const pawl_sink_batch *b, pawl_fault *f) {
    struct target *t = file_find(self, b->stream_id, b->partition);
    (void)f;
    if (t == NULL || strcmp(t->prepared, b->name) != 0)
        return PAWL_GONE;
    committed_now(self, t);
    return PAWL_DONE;
}

static int sink_rollback_prepared(void *self, const pawl_sink_batch *b, pawl_fault *f) {
    struct target *t = file_find(self, b->stream_id, b->partition);
    (void)f;
    if (t == NULL || strcmp(t->prepared, b->name) != 0)
        return PAWL_GONE;
    t->prepared[0] = 0; /* its bytes are those that the next batch writes again */
    return PAWL_DONE;
}

static int sink_list_prepared(void *self, const char *prefix, pawl_prepared_fn fn, void *arg,
                              pawl_fault *f) {
    const struct file_sink *s = self;
    (void)f;
    for (size_t i = 0; i < s->count; i++)
        if (s->targets[i].prepared[0] != 0 &&
            strncmp(s->targets[i].prepared, prefix, strlen(prefix)) == 0)
            fn(arg, s->targets[i].prepared);
    return PAWL_DONE;
}

static int sink_committed(void *self, const pawl_sink_batch *b, pawl_fault *f) {
    const struct target *t = file_find(self, b->stream_id, b->partition);
    (void)f;
    return t == NULL ? PAWL_UNKNOWN : t->note.to >= b->to ? PAWL_DONE : PAWL_GONE;
}

static int sink_commit(void *self, const pawl_sink_batch *b, pawl_fault *f) {
    struct file_sink *s = self;
    struct target *t = &s->targets[s->at];
    int outcome = finish_part(s, t, f);
    if (outcome != PAWL_DONE)
        return outcome;
    prepared(s, t, b);
    committed_now(s, t);
    return PAWL_DONE;
}

static void sink_abort(void *self) {
    struct file_sink *s = self;
    char name[FILE_NAME_SIZE];
    if (!s->begun)
        return;
    struct target *t = &s->targets[s->at];
    s->begun = false;
    s->plain.len = s->packed.len = 0;
    (void)writer_wait(s->writer);
    /* Only what this batch wrote is cut off. If that fails, it counts as left of a crash. */
    if (t->tail_end <= t->note.length && s->part >= 0) {
        if (ftruncate(s->part, (off_t)t->note.length) != 0 || file_changed(s, t) != 0)
            t->changed = (struct timespec){0};
    }
    if (s->fresh) {
        file_part_name(s, t, name);
        if (s->made) /* if this fails, the next batch finds it */
            (void)unlinkat(s->dir, name, 0);
        t->note.first = FILE_NONE;
        t->tail_end = 0;
        file_close_part(s);
    }
}

/* ---- between batches */

/* What the log is to say of the partition, with the prepared batch. */
static int sink_holds(void *self, const pawl_sink_batch *b, char *text, size_t size) {
    struct file_sink *s = self;
    const struct target *t = file_find(s, b->stream_id, b->partition);
    char out[FILE_NOTE_SIZE];
    if (t == NULL)
        return PAWL_GONE;
    struct file_note n = t->note;
    if (t->prepared[0] != 0) {
        n.length = t->prepared_length;
        n.hash = XXH3_64bits_digest(t->prepared_hash);
        n.to = n.to < t->prepared_to ? t->prepared_to : n.to;
    }
    n.rotating = n.first != FILE_NONE && n.length != 0 && (t->due || n.length >= s->rotate_bytes);
    file_note_encode(&n, out);
    snprintf(text, size, "%s", out);
    return PAWL_DONE;
}

/* GONE: no part can become due by its age. */
static int sink_idle(void *self, pawl_fault *f) {
    struct file_sink *s = self;
    bool waits = false;
    for (size_t i = 0; i < s->count; i++) {
        struct target *t = &s->targets[i];
        if (t->note.first == FILE_NONE || t->note.length == 0)
            continue;
        int outcome = file_same(s, t, f);
        if (outcome != PAWL_DONE)
            return outcome;
        t->due = t->due || old_enough(s, t);
        waits = true;
    }
    return waits && s->rotate_ms != 0 ? PAWL_DONE : PAWL_GONE;
}

/* A clean end makes all that is committed visible. */
static int sink_ending(void *self, pawl_fault *f) {
    struct file_sink *s = self;
    (void)f;
    for (size_t i = 0; i < s->count; i++)
        s->targets[i].due = true;
    return PAWL_DONE;
}

static int sink_remark(void *self, char *text, size_t size) {
    struct file_sink *s = self;
    if (s->remark[0] == 0)
        return PAWL_GONE;
    snprintf(text, size, "%s", s->remark);
    s->remark[0] = 0;
    return PAWL_DONE;
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
    file_close_place(s);
    writer_free(s->writer);
    compress_free(s->compressor);
    buffer_free(&s->plain);
    buffer_free(&s->packed);
    pthread_mutex_destroy(&s->mutex);
    for (size_t i = 0; i < s->count; i++) {
        XXH3_freeState(s->targets[i].hash);
        XXH3_freeState(s->targets[i].prepared_hash);
    }
    XXH3_freeState(s->hash);
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
    int kind = connect_setting_choice(c, set, "compress");
    uint64_t level = pawl_setting_number(c, set, "level");
    if (pawl_setting_text(c, set, "directory")[0] == 0)
        return connect_error(err, PAWL_INVALID, "file: directory is empty");
    if (suffix != NULL && (strcmp(suffix, ".part") == 0 || strcmp(suffix, ".pawl") == 0))
        return connect_error(err, PAWL_INVALID, "file: the suffix %s is the sink's own", suffix);
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
    mode_t mode;
    bool exact;
    if (!reach_mode(pawl_setting_text(c, set, "mode"), &mode, &exact))
        return connect_error(err, PAWL_INVALID, "file: mode takes 3 octal digits, such as 640");
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
    s->dir = s->part = s->marker = -1;
    s->at = SIZE_MAX;
    pthread_mutex_init(&s->mutex, NULL);
    s->writer = writer_new();
    s->hash = XXH3_createState();
    encode_settings(c, set, &s->encoding);
    (void)reach_mode(pawl_setting_text(c, set, "mode"), &s->mode, &s->mode_exact);
    s->compression = connect_setting_choice(c, set, "compress");
    s->rotate_bytes = pawl_setting_number(c, set, "rotate_size");
    s->rotate_ms = pawl_setting_number(c, set, "rotate_age");
    s->directory = strdup(pawl_setting_text(c, set, "directory"));
    s->prefix = name != NULL ? strdup(name) : NULL;
    s->suffix = choose_suffix(pawl_setting_text(c, set, "suffix"), s);
    if (s->compression != COMPRESS_NONE)
        s->compressor = compress_new(s->compression, connect_setting_choice(c, set, "level"));
    if (s->writer == NULL || s->hash == NULL || s->directory == NULL || s->suffix == NULL ||
        (name != NULL && s->prefix == NULL) ||
        (s->compression != COMPRESS_NONE && s->compressor == NULL)) {
        sink_destroy(s);
        return connect_error(err, PAWL_MEMORY, "no memory for a sink");
    }
    out->kind = PAWL_SINK_TWO_PHASE;
    out->type = "file";
    out->self = s;
    out->open = sink_open;
    out->begin = sink_begin;
    out->write = sink_write;
    out->commit = sink_commit;
    out->prepare = sink_prepare;
    out->commit_prepared = sink_commit_prepared;
    out->rollback_prepared = sink_rollback_prepared;
    out->list_prepared = sink_list_prepared;
    out->committed = sink_committed;
    out->abort = sink_abort;
    out->idle = sink_idle;
    out->status = sink_status;
    out->destroy = sink_destroy;
    out->holds = sink_holds;
    out->check = file_check;
    out->settle = file_settle;
    out->ending = sink_ending;
    out->remark = sink_remark;
    return 0;
}
