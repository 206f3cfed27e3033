/* SPDX-License-Identifier: Apache-2.0
 *
 * The source "dir": the files of one directory. Each file is an item with its own producer and
 * position. New files are noticed. A finished file is remembered by its position and opened again
 * when it grows. The item is the file's name if that has at most 60 bytes of A-Z a-z 0-9 . _ - and
 * doesn't begin with "h-", else "h-" and the hash of the name. So a renamed file counts as another
 * file. A producer stays in the log for ever: at most `files` names are taken.
 */
#include <dirent.h>
#include <errno.h>
#include <fnmatch.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "connectors/file/tail.h"

#define BATCHES_MAX 16u            /* from one file in a row */
#define LOOK_NS UINT64_C(50000000) /* between two looks at all sizes */

struct entry {
    char *name;
    char item[64];
    uint64_t size, mtime; /* when it was last read to its end; UINT64_MAX: it wasn't */
};

struct dir_source {
    char *path, *pattern;
    struct tail_settings tail;
    uint64_t files_max, scan_ms, scanned_ns;
    bool told_full;
    pawl_source_context *context;
    struct entry *entries;
    size_t count, turn;
    struct tail *reading; /* file of entries[turn]; NULL: none is open */
    uint32_t batches;     /* from this file, in a row */
    uint64_t look_at_ns;  /* not before then */
    struct watch watch;
    pthread_mutex_t mutex; /* guards shown */
    char shown[200];
};

static const pawl_setting_info settings[] = {
    {"path", PAWL_SETTING_TEXT, 1, NULL, NULL, "the directory"},
    {"glob", PAWL_SETTING_TEXT, 0, NULL, "*",
     "pattern of the names; those that begin with a dot only if it does"},
    {"follow", PAWL_SETTING_BOOL, 0, NULL, "true",
     "wait for more at the files' ends and for new files; else it ends when all that are there are "
     "read"},
    {"scan", PAWL_SETTING_TIME, 0, NULL, "1s", "how often the directory is looked at"},
    {"files", PAWL_SETTING_NUMBER, 0, NULL, "1000",
     "limit of names; each is a producer in the log for ever"},
    {"crlf", PAWL_SETTING_BOOL, 0, NULL, "false", "lines end with CR LF: the CR is taken off too"},
    {"line_max", PAWL_SETTING_SIZE, 0, NULL, "1M", "the longest line"},
    {"on_long", PAWL_SETTING_CHOICE, 0, "poison|cut", "poison",
     "a longer one goes by the source's poison policy, or is cut into parts"},
    {"on_replaced", PAWL_SETTING_CHOICE, 0, "read|stop", "read",
     "if no file has the bytes before a position any more: read what is there from its start, or "
     "stop"},
    {0},
};

static void item_of(const char *name, char item[64]) {
    size_t n = strlen(name);
    if (n <= 60 && strncmp(name, "h-", 2) != 0 && connect_name_ok(name))
        memcpy(item, name, n + 1);
    else
        snprintf(item, 64, "h-%016" PRIx64, tail_hash((const uint8_t *)name, n));
}

static struct entry *entry_of(struct dir_source *s, const char *name, pawl_fault *f) {
    for (size_t i = 0; i < s->count; i++)
        if (strcmp(s->entries[i].name, name) == 0)
            return &s->entries[i];
    if (s->count == s->files_max) {
        if (!s->told_full)
            pawl_source_report(s->context, 2,
                               "%s: more than %" PRIu64 " files; the others aren't read", s->path,
                               s->files_max);
        s->told_full = true;
        return NULL;
    }
    struct entry *more = realloc(s->entries, (s->count + 1) * sizeof *more);
    char *copy = strdup(name);
    if (more != NULL)
        s->entries = more;
    if (more == NULL || copy == NULL) {
        free(copy);
        (void)pawl_fault_set(f, PAWL_RETRY, "no memory for a file");
        return NULL;
    }
    struct entry *e = &more[s->count++];
    *e = (struct entry){.name = copy, .size = UINT64_MAX};
    item_of(name, e->item);
    return e;
}

/* Adds the new files of the directory. */
static int scan(struct dir_source *s, pawl_fault *f) {
    struct stat st;
    DIR *d = opendir(s->path);
    if (d == NULL)
        return pawl_fault_set(
            f, errno == EACCES || errno == ENOENT || errno == ENOTDIR ? PAWL_FATAL : PAWL_RETRY,
            "%s: %s", s->path, strerror(errno));
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        if (fnmatch(s->pattern, e->d_name, FNM_PERIOD) != 0 ||
            fstatat(dirfd(d), e->d_name, &st, 0) != 0 || !S_ISREG(st.st_mode))
            continue;
        (void)entry_of(s, e->d_name, f);
    }
    closedir(d);
    s->scanned_ns = connect_now(NULL);
    pthread_mutex_lock(&s->mutex);
    snprintf(s->shown, sizeof s->shown, "%.100s: %zu files", s->path, s->count);
    pthread_mutex_unlock(&s->mutex);
    return PAWL_DONE;
}

static void close_file(struct dir_source *s) {
    tail_free(s->reading);
    s->reading = NULL;
}

static int source_open(void *self, pawl_source_context *x, pawl_fault *f) {
    struct dir_source *s = self;
    s->context = x;
    close_file(s);
    for (size_t i = 0; i < s->count; i++)
        s->entries[i].size = UINT64_MAX;
    return scan(s, f);
}

/* Opens the file if it has changed since it was read to its end. GONE: it hasn't. */
static int open_file(struct dir_source *s, struct entry *e, pawl_fault *f) {
    char path[4096];
    uint8_t at[PAWL_SOURCE_POSITION_MAX];
    struct stat st;
    if ((size_t)snprintf(path, sizeof path, "%s/%s", s->path, e->name) >= sizeof path ||
        stat(path, &st) != 0 || st.st_size == 0 ||
        (e->size == (uint64_t)st.st_size && e->mtime == tail_mtime(&st.st_mtim)))
        return PAWL_GONE;
    int len = pawl_source_position(s->context, e->item, at);
    if (len < 0)
        return pawl_fault_set(f, len == PAWL_FULL || len == PAWL_MEMORY ? PAWL_RETRY : PAWL_FATAL,
                              "%s: position: %s", e->name, pawl_strerror(len));
    struct tail_settings t = s->tail;
    t.path = path;
    s->reading = tail_new(&t);
    if (s->reading == NULL)
        return pawl_fault_set(f, PAWL_RETRY, "no memory for a file");
    e->size = (uint64_t)st.st_size;
    e->mtime = tail_mtime(&st.st_mtim);
    s->batches = 0;
    return tail_open(s->reading, s->context, at, len, f);
}

/* Ends this file's turn and begins the next one's. */
static void turn(struct dir_source *s) {
    close_file(s);
    s->turn = (s->turn + 1) % s->count;
}

/* Gives the next batch of any file that has one. */
static int read_files(struct dir_source *s, pawl_source_batch *out, size_t max_records,
                      size_t max_bytes, pawl_fault *f) {
    if (s->reading != NULL && s->batches++ == BATCHES_MAX) {
        s->entries[s->turn].size = UINT64_MAX; /* not at its end yet */
        turn(s);
    }
    for (size_t i = 0; i <= s->count && s->count != 0; i++) {
        struct entry *e = &s->entries[s->turn];
        int rc = s->reading == NULL ? open_file(s, e, f) : PAWL_DONE;
        if (rc == PAWL_DONE)
            rc = tail_read(s->reading, e->item, out, max_records, max_bytes, f);
        if ((rc != PAWL_DONE && rc != PAWL_GONE && rc != PAWL_ENDED) || out->item != NULL)
            return rc;
        turn(s);
    }
    return PAWL_DONE;
}

/* Nothing to read: waits until something has changed or a scan is due. */
static void wait_for_change(struct dir_source *s, int ms) {
    uint64_t now = connect_now(&(pawl_hooks){0}), scan = s->scanned_ns + s->scan_ms * 1000000u,
             left_ms = scan > now ? (scan - now) / 1000000 + 1 : 0;
    int told = watch_directory(&s->watch, s->path, true);
    if (told > 0) { /* earlier changes were not reported */
        s->look_at_ns = 0;
        return;
    }
    if (told < 0) {
        connect_idle(s->context, ms < TAIL_LOOK_MS ? ms : TAIL_LOOK_MS);
        return;
    }
    ms = (uint64_t)ms < left_ms ? ms : (int)left_ms;
    struct pollfd p[2] = {{connect_wake_fd(s->context), POLLIN, 0}, {s->watch.fd, POLLIN, 0}};
    if (poll(p, 2, ms) <= 0 || p[1].revents == 0)
        return;
    now = connect_now(&(pawl_hooks){0});
    if (now < s->look_at_ns)
        connect_idle(s->context, (int)((s->look_at_ns - now) / 1000000) + 1);
    watch_clear(&s->watch);
}

static int source_read(void *self, pawl_source_batch *out, size_t max_records, size_t max_bytes,
                       int timeout_ms, pawl_fault *f) {
    struct dir_source *s = self;
    size_t before = s->count;
    int rc = PAWL_DONE;
    uint64_t now = connect_now(NULL);
    if (s->reading != NULL || timeout_ms == 0 || now >= s->look_at_ns) {
        rc = read_files(s, out, max_records, max_bytes, f);
        if (rc != PAWL_DONE || out->item != NULL)
            return rc;
        s->look_at_ns = now + LOOK_NS;
        if (now - s->scanned_ns >= s->scan_ms * 1000000u || !s->tail.follow)
            rc = scan(s, f);
        if (rc != PAWL_DONE || s->count != before)
            return rc;
        if (!s->tail.follow)
            return PAWL_ENDED;
    }
    if (timeout_ms > 0)
        wait_for_change(s, timeout_ms);
    return PAWL_DONE;
}

static void source_status(void *self, char *text, size_t size) {
    struct dir_source *s = self;
    pthread_mutex_lock(&s->mutex);
    snprintf(text, size, "%s", s->shown);
    pthread_mutex_unlock(&s->mutex);
}

static void source_destroy(void *self) {
    struct dir_source *s = self;
    close_file(s);
    watch_end(&s->watch);
    for (size_t i = 0; i < s->count; i++)
        free(s->entries[i].name);
    free(s->entries);
    free(s->path);
    free(s->pattern);
    pthread_mutex_destroy(&s->mutex);
    free(s);
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
    uint64_t line_max = pawl_setting_number(c, g, "line_max"),
             files = pawl_setting_number(c, g, "files");
    if (line_max < 64 || line_max > 64u << 20 || files < 1 || files > 16000)
        return connect_error(err, PAWL_INVALID, "line_max must be 64 to 64M, files 1 to 16000");
    struct dir_source *s = calloc(1, sizeof *s);
    if (s == NULL)
        return connect_error(err, PAWL_MEMORY, "no memory for a source");
    pthread_mutex_init(&s->mutex, NULL);
    s->watch = (struct watch)WATCH_INIT;
    s->path = strdup(pawl_setting_text(c, g, "path"));
    s->pattern = strdup(pawl_setting_text(c, g, "glob"));
    s->files_max = files;
    s->scan_ms = pawl_setting_number(c, g, "scan");
    s->tail = (struct tail_settings){.rotated = "",
                                     .follow = pawl_setting_number(c, g, "follow") != 0,
                                     .crlf = pawl_setting_number(c, g, "crlf") != 0,
                                     .on_long = (int)pawl_setting_number(c, g, "on_long"),
                                     .on_replaced = (int)pawl_setting_number(c, g, "on_replaced"),
                                     .rotate_wait_ms = 1000,
                                     .line_max = line_max};
    if (s->path == NULL || s->pattern == NULL) {
        source_destroy(s);
        return connect_error(err, PAWL_MEMORY, "no memory for a source");
    }
    *out = (pawl_source_ops){.struct_size = sizeof *out,
                             .flags = PAWL_SOURCE_REWINDABLE,
                             .type = c->type,
                             .self = s,
                             .open = source_open,
                             .read = source_read,
                             .status = source_status,
                             .destroy = source_destroy};
    return 0;
}
