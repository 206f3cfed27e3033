/* SPDX-License-Identifier: Apache-2.0
 *
 * Reading one file. Each read begins with the window of bytes before the offset, which must be
 * unchanged.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "connectors/file/tail.h"

#define SPARE 64u /* lines_split() may read this far past the end */

/* ---- position */

uint64_t tail_hash(const uint8_t *bytes, size_t n) {
    uint64_t h = UINT64_C(0x9E3779B97F4A7C15) ^ n, w;
    for (; n >= 8; bytes += 8, n -= 8) {
        memcpy(&w, bytes, 8);
        h = (h ^ w) * UINT64_C(0xD6E8FEB86659FD93);
        h ^= h >> 32;
    }
    for (; n > 0; bytes++, n--)
        h = (h ^ *bytes) * UINT64_C(0x100000001B3);
    h ^= h >> 29;
    h *= UINT64_C(0xBF58476D1CE4E5B9);
    return h ^ (h >> 32);
}

uint64_t tail_mtime(const struct timespec *t) {
    return ((uint64_t)t->tv_sec * 1000000000u + (uint64_t)t->tv_nsec) >> 16;
}

/* `after` points to the byte at the offset; the window is in memory before it. */
static void encode(const struct tail *t, const uint8_t *after, pawl_source_batch *out) {
    size_t n = t->at < TAIL_WINDOW ? (size_t)t->at : TAIL_WINDOW;
    out->position[0] = 1;
    out->position[1] = t->flags;
    connect_put_le(out->position + 2, t->mtime, 6);
    connect_put_le(out->position + 8, t->inode, 8);
    connect_put_le(out->position + 16, t->at, 8);
    connect_put_le(out->position + 24, tail_hash(after - n, n), 8);
    out->position_len = 32;
}

/* ---- life */

static void show(struct tail *t, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void show(struct tail *t, const char *format, ...) {
    va_list args;
    va_start(args, format);
    pthread_mutex_lock(&t->mutex);
    vsnprintf(t->shown, sizeof t->shown, format, args);
    pthread_mutex_unlock(&t->mutex);
    va_end(args);
}

void tail_status(struct tail *t, char *text, size_t size) {
    pthread_mutex_lock(&t->mutex);
    snprintf(text, size, "%s", t->shown);
    pthread_mutex_unlock(&t->mutex);
}

struct tail *tail_new(const struct tail_settings *s) {
    struct tail *t = calloc(1, sizeof *t);
    if (t == NULL)
        return NULL;
    pthread_mutex_init(&t->mutex, NULL);
    t->set = *s;
    t->file = (struct content)CONTENT_INIT;
    t->watch = (struct watch)WATCH_INIT;
    t->path = strdup(s->path);
    t->rotated = s->rotated != NULL ? strdup(s->rotated) : NULL;
    const char *slash = strrchr(s->path, '/');
    t->directory = slash == NULL      ? strdup(".")
                   : slash == s->path ? strdup("/")
                                      : strndup(s->path, (size_t)(slash - s->path));
    if (t->path == NULL || t->directory == NULL || (s->rotated != NULL && t->rotated == NULL)) {
        tail_free(t);
        return NULL;
    }
    t->name = slash == NULL ? t->path : t->path + (slash - s->path) + 1;
    return t;
}

static void end_prefetch(struct tail *t) {
    if (t->submitted)
        (void)prefetch_wait(t->prefetch);
    t->submitted = false;
}

void tail_leave(struct tail *t) {
    end_prefetch(t);
    content_close(&t->file);
    t->next = t->end = NULL;
    t->scan_at = 0;
    t->gone_since_ns = 0;
    t->have_wanted = false;
}

void tail_free(struct tail *t) {
    if (t == NULL)
        return;
    tail_leave(t);
    watch_end(&t->watch);
    prefetch_free(t->prefetch);
    free(t->chunk[0].buf);
    free(t->chunk[1].buf);
    free(t->records);
    free(t->dead);
    free(t->path);
    free(t->rotated);
    free(t->directory);
    pthread_mutex_destroy(&t->mutex);
    free(t);
}

static int read_fault(struct tail *t, pawl_fault *f) {
    return pawl_fault_set(f, PAWL_RETRY, "%s: read: %s", t->path, strerror(errno));
}

int tail_enter(struct tail *t, struct content file, uint64_t at, uint8_t flags, pawl_fault *f) {
    struct stat st;
    tail_leave(t);
    t->file = file;
    t->before_len = at < TAIL_WINDOW ? (uint32_t)at : TAIL_WINDOW;
    if (fstat(t->file.fd, &st) != 0 || content_read(&t->file, t->before, t->before_len,
                                                    at - t->before_len) != (ssize_t)t->before_len)
        return read_fault(t, f);
    t->device = st.st_dev;
    t->inode = st.st_ino;
    t->mtime = tail_mtime(&st.st_mtim);
    t->at = at;
    t->flags = flags;
    t->seen_size = UINT64_MAX;
    t->finished = false;
    return PAWL_DONE;
}

/* No position yet: opens the path, at its beginning or end. */
static int first_time(struct tail *t, pawl_fault *f) {
    struct stat st;
    int fd = open(t->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 && errno == ENOENT && t->set.follow) {
        t->wanted = (struct tail_position){.mtime = UINT64_MAX}; /* no rotated file is newer */
        t->have_wanted = true;
        return PAWL_DONE;
    }
    if (fd < 0)
        return pawl_fault_set(f, errno == EACCES || errno == ENOENT ? PAWL_FATAL : PAWL_RETRY,
                              "%s: %s", t->path, strerror(errno));
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        close(fd);
        return pawl_fault_set(f, PAWL_FATAL, "%s is not a regular file", t->path);
    }
    struct content file;
    if (content_open(&file, fd, t->name) != 0)
        return pawl_fault_set(f, PAWL_RETRY, "%s: %s", t->path, strerror(errno));
    return tail_enter(t, file, t->set.start == TAIL_END ? (uint64_t)st.st_size : 0, 0, f);
}

int tail_open(struct tail *t, pawl_source_context *x, const uint8_t *position, int len,
              pawl_fault *f) {
    t->context = x;
    tail_leave(t);
    if (t->set.prefetch && t->prefetch == NULL && (t->prefetch = prefetch_new()) == NULL)
        return pawl_fault_set(f, PAWL_RETRY, "no memory for a thread");
    if (len == 0 && t->set.start == TAIL_OLDEST)
        return tail_find(t, &(struct tail_position){0}, f);
    if (len == 0)
        return first_time(t, f);
    if (len != 32 || position[0] != 1)
        return pawl_fault_set(
            f, PAWL_FATAL,
            "the position under this name was not written by a file source of this version");
    struct tail_position p = {.flags = position[1],
                              .mtime = connect_get_le(position + 2, 6),
                              .inode = connect_get_le(position + 8, 8),
                              .at = connect_get_le(position + 16, 8),
                              .hash = connect_get_le(position + 24, 8)};
    return tail_find(t, &p, f);
}

/* ---- reading */

static int room(struct chunk *c, size_t cap, pawl_fault *f) {
    if (c->cap >= cap)
        return PAWL_DONE;
    free(c->buf);
    c->cap = 0;
    c->buf = malloc(cap + SPARE);
    if (c->buf == NULL)
        return pawl_fault_set(f, PAWL_RETRY, "no memory for a buffer of %zu bytes", cap);
    memset(c->buf + cap, 0, SPARE);
    c->cap = cap;
    return PAWL_DONE;
}

/* Reads [at - window, ...) into chunk[0], or takes the prefetch of these bytes. */
static int fetch(struct tail *t, size_t cap, pawl_fault *f) {
    struct chunk *c = &t->chunk[0], *ahead = &t->chunk[1];
    ssize_t n;
    if (t->submitted) {
        n = prefetch_wait(t->prefetch);
        t->submitted = false;
        if (n >= 0 && ahead->from == t->at && ahead->window == t->before_len) {
            struct chunk other = *c;
            *c = *ahead;
            *ahead = other;
            c->len = (size_t)n;
            return PAWL_DONE;
        }
    }
    int rc = room(c, cap, f);
    if (rc != PAWL_DONE)
        return rc;
    c->from = t->at;
    c->window = t->before_len;
    c->asked = cap;
    n = content_read(&t->file, c->buf, cap, t->at - c->window);
    if (n < 0)
        return read_fault(t, f);
    c->len = (size_t)n;
    return PAWL_DONE;
}

/* Starts to read ahead the bytes after the whole lines of chunk[0]. */
static void begin_prefetch(struct tail *t, size_t cap) {
    struct chunk *c = &t->chunk[1];
    if (t->prefetch == NULL || room(c, cap, NULL) != PAWL_DONE)
        return;
    c->from = t->at + (uint64_t)(t->end - t->next);
    c->window = c->from < TAIL_WINDOW ? (size_t)c->from : TAIL_WINDOW;
    c->asked = cap;
    prefetch_submit(t->prefetch, &t->file, c->buf, cap, c->from - c->window);
    t->submitted = true;
}

/* Moves the offset to `after`, a place in chunk[0]. */
static void move(struct tail *t, const uint8_t *after) {
    t->at += (uint64_t)(after - t->next);
    t->next = after;
    t->before_len = t->at < TAIL_WINDOW ? (uint32_t)t->at : TAIL_WINDOW;
}

/* Saves the window before the chunk is reused. */
static void keep_window(struct tail *t) {
    if (t->next != NULL)
        memcpy(t->before, t->next - t->before_len, t->before_len);
    t->next = t->end = NULL;
}

/* ---- giving records */

static int records_room(struct tail *t, size_t max, pawl_fault *f) {
    if (t->record_max >= max)
        return PAWL_DONE;
    free(t->records);
    t->record_max = 0;
    t->records = calloc(max, sizeof *t->records);
    if (t->records == NULL)
        return pawl_fault_set(f, PAWL_RETRY, "no memory for %zu records", max);
    t->record_max = max;
    return PAWL_DONE;
}

static void give(struct tail *t, const char *item, pawl_source_batch *out, size_t count,
                 const uint8_t *after) {
    move(t, after);
    t->flags &= (uint8_t)~TAIL_UNTERMINATED;
    encode(t, after, out);
    out->item = item;
    out->records = t->records;
    out->count = count;
}

/* Gives one record, [from, from + len), with the position of `after`. A header says which part of
 * its line it is, if `part` isn't NULL. */
static void give_one(struct tail *t, const char *item, pawl_source_batch *out, const uint8_t *from,
                     size_t len, const char *part, const uint8_t *after) {
    static const char name[] = "pawl-line-part";
    pawl_record *r = &t->records[0];
    *r =
        (pawl_record){.value = from, .value_len = (uint32_t)len, .timestamp_ns = connect_wall_ns()};
    if (part != NULL) {
        t->part = (pawl_header){name, part, sizeof name - 1, (uint16_t)strlen(part)};
        r->headers = &t->part;
        r->header_count = 1;
    }
    give(t, item, out, 1, after);
}

/* lines_split() leaves the other fields as they are. */
static void plain_records(struct tail *t) {
    t->records[0].headers = NULL;
    t->records[0].header_count = 0;
}

static int too_long(struct tail *t, uint64_t begin, uint64_t len, pawl_source_batch *out) {
    snprintf(t->why, sizeof t->why,
             "a line of %" PRIu64 " bytes at offset %" PRIu64
             " of %.100s is over line_max (%" PRIu64 ")",
             len, begin, t->path, t->set.line_max);
    out->poison = t->why;
    return PAWL_DONE;
}

static size_t line_end(const struct tail *t, const uint8_t *from, size_t n) {
    return t->set.crlf && n != 0 && from[n - 1] == '\r' ? n - 1 : n;
}

/* Gives the line at t->next, whose newline is in the buffer. It is longer than line_max, or it is
 * the rest of a line that is being cut. */
static int give_long(struct tail *t, const char *item, pawl_source_batch *out) {
    const uint8_t *newline = memchr(t->next, '\n', (size_t)(t->end - t->next)), *from = t->next;
    size_t n = (size_t)(newline - from);
    if (n > t->set.line_max && t->set.on_long == TAIL_LONG_CUT) {
        const char *part = t->flags & TAIL_MIDDLE ? "middle" : "first";
        t->flags |= TAIL_MIDDLE;
        give_one(t, item, out, from, (size_t)t->set.line_max, part, from + t->set.line_max);
        return PAWL_DONE;
    }
    if (t->flags & TAIL_MIDDLE) {
        t->flags &= (uint8_t)~TAIL_MIDDLE;
        give_one(t, item, out, from, line_end(t, from, n), "last", newline + 1);
        return PAWL_DONE;
    }
    uint64_t begin = t->at;
    give_one(t, item, out, from, n < TAIL_DEAD_MAX ? n : TAIL_DEAD_MAX, NULL, newline + 1);
    return too_long(t, begin, n, out);
}

static int give_lines(struct tail *t, const char *item, pawl_source_batch *out, size_t max,
                      size_t bytes) {
    const uint8_t *next, *end = t->end;
    /* the newline of a line that was already given, because it seemed to be the last */
    if (t->flags & TAIL_UNTERMINATED && *t->next == '\n') {
        move(t, t->next + 1);
        t->flags &= (uint8_t)~TAIL_UNTERMINATED;
        if (t->next == t->end)
            return PAWL_DONE;
    }
    if (t->flags & TAIL_MIDDLE)
        return give_long(t, item, out);
    if ((size_t)(end - t->next) > bytes) {
        const uint8_t *last = memrchr(t->next, '\n', bytes);
        end = last != NULL ? last + 1
                           : (const uint8_t *)memchr(t->next, '\n', (size_t)(end - t->next)) + 1;
    }
    plain_records(t);
    size_t n = lines_split(t->next, end, t->records, max, (size_t)t->set.line_max, t->set.crlf,
                           connect_wall_ns(), &next);
    if (n == 0)
        return give_long(t, item, out);
    give(t, item, out, n, next);
    return PAWL_DONE;
}

/* ---- a line whose end is far away */

/* The `n` bytes at t->next fill the buffer and have no newline. */
static int begin_long(struct tail *t, const char *item, pawl_source_batch *out, size_t n,
                      pawl_fault *f) {
    if (t->set.on_long == TAIL_LONG_CUT) {
        const char *part = t->flags & TAIL_MIDDLE ? "middle" : "first";
        t->flags |= TAIL_MIDDLE;
        give_one(t, item, out, t->next, (size_t)t->set.line_max, part, t->next + t->set.line_max);
        keep_window(t); /* the record is still in the buffer, until the next read */
        return PAWL_DONE;
    }
    if (t->dead == NULL && (t->dead = malloc(TAIL_DEAD_MAX)) == NULL)
        return pawl_fault_set(f, PAWL_RETRY, "no memory for a long line");
    t->dead_len = n < TAIL_DEAD_MAX ? n : TAIL_DEAD_MAX;
    memcpy(t->dead, t->next, t->dead_len);
    t->scan_at = t->at + n;
    keep_window(t);
    return PAWL_DONE;
}

/* The long line ends at offset `newline`, and the next one begins at `after`. */
static int end_long(struct tail *t, const char *item, pawl_source_batch *out, uint64_t newline,
                    uint64_t after, pawl_fault *f) {
    uint64_t begin = t->at;
    if (content_read(&t->file, t->before, TAIL_WINDOW, after - TAIL_WINDOW) != (ssize_t)TAIL_WINDOW)
        return read_fault(t, f);
    t->scan_at = 0;
    t->next = t->end = NULL;
    t->at = after;
    t->before_len = TAIL_WINDOW;
    t->flags = 0;
    encode(t, t->before + TAIL_WINDOW, out);
    t->records[0] = (pawl_record){
        .value = t->dead, .value_len = (uint32_t)t->dead_len, .timestamp_ns = connect_wall_ns()};
    out->item = item;
    out->records = t->records;
    out->count = 1;
    return too_long(t, begin, newline - begin, out);
}

/* Searches on for the end of the line. GONE: the file ends first. */
static int scan(struct tail *t, const char *item, pawl_source_batch *out, pawl_fault *f) {
    struct chunk *c = &t->chunk[0];
    for (;;) {
        ssize_t n = content_read(&t->file, c->buf, c->cap, t->scan_at);
        if (n < 0)
            return read_fault(t, f);
        if (n == 0)
            return PAWL_GONE;
        const uint8_t *newline = memchr(c->buf, '\n', (size_t)n);
        if (newline != NULL) {
            uint64_t at = t->scan_at + (uint64_t)(newline - c->buf);
            return end_long(t, item, out, at, at + 1, f);
        }
        t->scan_at += (uint64_t)n;
    }
}

/* ---- the end of the file */

/* True if no more will be written into this file: it isn't followed, or the path has led to another
 * file for rotate_wait_ms. */
static bool complete(struct tail *t) {
    struct stat st;
    if (!t->set.follow)
        return true;
    if (stat(t->path, &st) == 0 && st.st_ino == t->inode && st.st_dev == t->device) {
        t->gone_since_ns = 0;
        return false;
    }
    uint64_t now = connect_now(NULL);
    if (t->gone_since_ns == 0)
        t->gone_since_ns = now;
    return now - t->gone_since_ns >= (uint64_t)t->set.rotate_wait_ms * 1000000u;
}

static int next_file(struct tail *t, const char *item, pawl_source_batch *out, pawl_fault *f) {
    ino_t inode = t->inode;
    dev_t device = t->device;
    int rc = tail_successor(t, f);
    if (rc != PAWL_DONE)
        return rc;
    if (t->inode != inode || t->device != device) {
        encode(t, t->before, out);
        out->item = item;
        return PAWL_DONE;
    }
    t->finished = !t->set.follow;
    return t->finished ? PAWL_ENDED : PAWL_DONE;
}

/* The file ends after the `n` bytes at t->next, which have no newline. */
static int at_end(struct tail *t, const char *item, pawl_source_batch *out, size_t n,
                  pawl_fault *f) {
    const uint8_t *from = t->next;
    if (!complete(t))
        return PAWL_DONE;
    if (n == 0)
        return next_file(t, item, out, f);
    if (n > t->set.line_max && t->set.on_long != TAIL_LONG_CUT) {
        uint64_t begin = t->at;
        give_one(t, item, out, from, n < TAIL_DEAD_MAX ? n : TAIL_DEAD_MAX, NULL, from + n);
        too_long(t, begin, n, out);
    } else if (n > t->set.line_max) {
        const char *part = t->flags & TAIL_MIDDLE ? "middle" : "first";
        t->flags |= TAIL_MIDDLE;
        give_one(t, item, out, from, (size_t)t->set.line_max, part, from + t->set.line_max);
    } else {
        const char *part = t->flags & TAIL_MIDDLE ? "last" : NULL;
        t->flags &= (uint8_t)~TAIL_MIDDLE;
        give_one(t, item, out, from, n, part, from + n);
    }
    if (!(t->flags & TAIL_MIDDLE)) {
        t->flags |= TAIL_UNTERMINATED;
        out->position[1] = t->flags;
    }
    keep_window(t);
    return PAWL_DONE;
}

/* The bytes before the offset have changed. */
static int replaced(struct tail *t, pawl_fault *f) {
    struct tail_position p = {.flags = t->flags,
                              .mtime = t->mtime,
                              .inode = t->inode,
                              .at = t->at,
                              .hash = tail_hash(t->before, t->before_len)};
    return tail_find(t, &p, f);
}

/* Reads on. DONE: lines are at t->next, or a record was given, or there is nothing now. */
static int more(struct tail *t, const char *item, pawl_source_batch *out, size_t ask,
                pawl_fault *f) {
    struct stat st;
    size_t most = TAIL_WINDOW + (size_t)t->set.line_max + 2;
    keep_window(t);
    for (most = most > ask ? most : ask;; ask = ask > most / 2 ? most : ask * 2) {
        if (fstat(t->file.fd, &st) != 0)
            return read_fault(t, f);
        uint64_t mtime = tail_mtime(&st.st_mtim);
        bool grown = (uint64_t)st.st_size != t->seen_size || mtime != t->mtime;
        if (!grown && !complete(t))
            return PAWL_DONE;
        if (grown)
            t->gone_since_ns = 0;
        int rc = fetch(t, ask, f);
        if (rc != PAWL_DONE)
            return rc;
        struct chunk *c = &t->chunk[0];
        if (c->len < c->window || memcmp(c->buf, t->before, c->window) != 0)
            return replaced(t, f);
        t->mtime = mtime;
        size_t n = c->len - c->window;
        bool full = c->len == c->asked;
        t->seen_size = full ? UINT64_MAX : t->at + n;
        t->next = c->buf + c->window;
        const uint8_t *last = n != 0 ? memrchr(t->next, '\n', n) : NULL;
        t->end = last != NULL ? last + 1 : t->next;
        if (last != NULL && full)
            begin_prefetch(t, ask);
        if (last != NULL)
            return PAWL_DONE;
        if (!full)
            return at_end(t, item, out, n, f);
        if (c->asked >= most)
            return begin_long(t, item, out, n, f);
        ask = c->asked;
        t->next = t->end = NULL;
    }
}

static int find_again(struct tail *t, pawl_fault *f) {
    struct stat st;
    if (stat(t->path, &st) != 0)
        return errno == ENOENT ? PAWL_DONE
                               : pawl_fault_set(f, PAWL_RETRY, "%s: %s", t->path, strerror(errno));
    struct tail_position p = t->wanted;
    return t->have_wanted ? tail_find(t, &p, f) : PAWL_DONE;
}

int tail_read(struct tail *t, const char *item, pawl_source_batch *out, size_t max_records,
              size_t max_bytes, pawl_fault *f) {
    int rc = records_room(t, max_records, f);
    if (rc == PAWL_DONE && t->file.fd < 0) {
        rc = find_again(t, f);
        if (t->file.fd < 0 && rc == PAWL_DONE && !t->set.follow)
            return PAWL_ENDED;
    }
    if (rc != PAWL_DONE || t->file.fd < 0)
        return rc;
    if (t->finished)
        return PAWL_ENDED;
    if (t->scan_at != 0) {
        rc = scan(t, item, out, f);
        if (rc == PAWL_GONE)
            rc = complete(t) ? end_long(t, item, out, t->scan_at, t->scan_at, f) : PAWL_DONE;
        return rc;
    }
    if (t->next == t->end)
        rc = more(t, item, out, TAIL_WINDOW + max_bytes, f);
    if (rc == PAWL_DONE && out->item == NULL && t->next != t->end)
        rc = give_lines(t, item, out, max_records, max_bytes);
    show(t, "%s: inode %ju, offset %" PRIu64, t->path, (uintmax_t)t->inode, t->at);
    return rc;
}
