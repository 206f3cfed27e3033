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

void tail_encode(const struct tail_position *p, pawl_source_batch *out) {
    out->position[0] = 2;
    out->position[1] = p->flags;
    connect_put_le(out->position + 2, p->mtime, 6);
    connect_put_le(out->position + 8, p->ident, 8);
    connect_put_le(out->position + 16, p->at, 8);
    connect_put_le(out->position + 24, p->hash, 8);
    out->position_len = 32;
}

bool tail_decode(const uint8_t *position, int len, struct tail_position *p) {
    if (len != 32 || (position[0] != 1 && position[0] != 2))
        return false;
    *p = (struct tail_position){.flags = position[1],
                                .mtime = connect_get_le(position + 2, 6),
                                .ident = connect_get_le(position + 8, position[0] == 1 ? 5 : 8),
                                .at = connect_get_le(position + 16, 8),
                                .hash = connect_get_le(position + 24, 8)};
    return true;
}

static size_t window_of(uint64_t at) {
    return at < TAIL_WINDOW ? (size_t)at : TAIL_WINDOW;
}

/* The position is now at `at`; the window is in memory before `after`. */
static void set_position(struct tail *t, uint64_t at, const uint8_t *after) {
    struct tail_position *p = &t->file->pos;
    p->at = at;
    t->before_len = (uint32_t)window_of(at);
    p->hash = tail_hash(after - t->before_len, t->before_len);
}

int tail_matches(struct content *c, const struct tail_position *p) {
    uint8_t window[TAIL_WINDOW];
    size_t n = window_of(p->at);
    ssize_t got = content_read(c, window, n, p->at - n);
    return got < 0 ? -1 : got == (ssize_t)n && tail_hash(window, n) == p->hash;
}

/* ---- life */

struct tail *tail_new(const struct tail_settings *s) {
    struct tail *t = calloc(1, sizeof *t);
    if (t == NULL)
        return NULL;
    t->set = *s;
    return t;
}

static void end_prefetch(struct tail *t) {
    if (t->submitted)
        (void)prefetch_wait(t->prefetch);
    t->submitted = false;
}

void tail_leave(struct tail *t) {
    end_prefetch(t);
    if (t->next != t->end) /* these lines were not given */
        t->file->seen_size = UINT64_MAX;
    t->file = NULL;
    t->next = t->end = NULL;
    t->scan_at = 0;
}

void tail_free(struct tail *t) {
    if (t == NULL)
        return;
    tail_leave(t);
    prefetch_free(t->prefetch);
    free(t->chunk[0].buf);
    free(t->chunk[1].buf);
    free(t->records);
    free(t->dead);
    free(t);
}

static int read_fault(struct tail *t, pawl_fault *f) {
    return pawl_fault_set(f, PAWL_RETRY, "%s: read: %s", t->file->path, strerror(errno));
}

int tail_enter(struct tail *t, struct tail_file *file, pawl_fault *f) {
    tail_leave(t);
    if (t->set.prefetch && t->prefetch == NULL)
        t->prefetch = prefetch_new(); /* without this thread it works as well */
    t->file = file;
    t->before_len = (uint32_t)window_of(file->pos.at);
    ssize_t n =
        content_read(&file->content, t->before, t->before_len, file->pos.at - t->before_len);
    int rc = n < 0 ? read_fault(t, f)
             : n == (ssize_t)t->before_len && tail_hash(t->before, (size_t)n) == file->pos.hash
                 ? PAWL_DONE
                 : PAWL_GONE;
    if (rc != PAWL_DONE)
        t->file = NULL;
    return rc;
}

bool tail_has_lines(const struct tail *t) {
    return t->file != NULL && t->next != t->end;
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
        if (n >= 0 && ahead->from == t->file->pos.at && ahead->window == t->before_len) {
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
    c->from = t->file->pos.at;
    c->window = t->before_len;
    c->asked = cap;
    n = content_read(&t->file->content, c->buf, cap, t->file->pos.at - c->window);
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
    c->from = t->file->pos.at + (uint64_t)(t->end - t->next);
    c->window = c->from < TAIL_WINDOW ? (size_t)c->from : TAIL_WINDOW;
    c->asked = cap;
    prefetch_submit(t->prefetch, &t->file->content, c->buf, cap, c->from - c->window);
    t->submitted = true;
}

/* Moves the offset to `after`, a place in chunk[0]. */
static void move(struct tail *t, const uint8_t *after) {
    set_position(t, t->file->pos.at + (uint64_t)(after - t->next), after);
    t->next = after;
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

static void give(struct tail *t, pawl_source_batch *out, size_t count, const uint8_t *after) {
    move(t, after);
    t->file->pos.flags &= (uint8_t) ~(TAIL_UNTERMINATED | TAIL_FINISHED);
    t->file->pos.mtime = t->file->seen_mtime;
    tail_encode(&t->file->pos, out);
    out->item = t->file->item;
    out->records = t->records;
    out->count = count;
}

/* Gives one record, [from, from + len), with the position of `after`. A header says which part of
 * its line it is, if `part` isn't NULL. */
static void give_one(struct tail *t, pawl_source_batch *out, const uint8_t *from, size_t len,
                     const char *part, const uint8_t *after) {
    static const char name[] = "pawl-line-part";
    pawl_record *r = &t->records[0];
    *r =
        (pawl_record){.value = from, .value_len = (uint32_t)len, .timestamp_ns = connect_wall_ns()};
    if (part != NULL) {
        t->part = (pawl_header){name, part, sizeof name - 1, (uint16_t)strlen(part)};
        r->headers = &t->part;
        r->header_count = 1;
    }
    give(t, out, 1, after);
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
             len, begin, t->file->path, t->set.line_max);
    out->poison = t->why;
    return PAWL_DONE;
}

static size_t line_end(const struct tail *t, const uint8_t *from, size_t n) {
    return t->set.crlf && n != 0 && from[n - 1] == '\r' ? n - 1 : n;
}

/* Gives the line at t->next, whose newline is in the buffer. It is longer than line_max, or it is
 * the rest of a line that is being cut. */
static int give_long(struct tail *t, pawl_source_batch *out) {
    const uint8_t *newline = memchr(t->next, '\n', (size_t)(t->end - t->next)), *from = t->next;
    size_t n = (size_t)(newline - from);
    if (n > t->set.line_max && t->set.on_long == TAIL_LONG_CUT) {
        const char *part = t->file->pos.flags & TAIL_MIDDLE ? "middle" : "first";
        t->file->pos.flags |= TAIL_MIDDLE;
        give_one(t, out, from, (size_t)t->set.line_max, part, from + t->set.line_max);
        return PAWL_DONE;
    }
    if (t->file->pos.flags & TAIL_MIDDLE) {
        t->file->pos.flags &= (uint8_t)~TAIL_MIDDLE;
        give_one(t, out, from, line_end(t, from, n), "last", newline + 1);
        return PAWL_DONE;
    }
    uint64_t begin = t->file->pos.at;
    give_one(t, out, from, n < TAIL_DEAD_MAX ? n : TAIL_DEAD_MAX, NULL, newline + 1);
    return too_long(t, begin, n, out);
}

static int give_lines(struct tail *t, pawl_source_batch *out, size_t max, size_t bytes) {
    const uint8_t *next, *end = t->end;
    /* the newline of a line that was already given, because it seemed to be the last */
    if (t->file->pos.flags & TAIL_UNTERMINATED && *t->next == '\n') {
        move(t, t->next + 1);
        t->file->pos.flags &= (uint8_t)~TAIL_UNTERMINATED;
        if (t->next == t->end)
            return PAWL_DONE;
    }
    if (t->file->pos.flags & TAIL_MIDDLE)
        return give_long(t, out);
    if ((size_t)(end - t->next) > bytes) {
        const uint8_t *last = memrchr(t->next, '\n', bytes);
        end = last != NULL ? last + 1
                           : (const uint8_t *)memchr(t->next, '\n', (size_t)(end - t->next)) + 1;
    }
    plain_records(t);
    size_t n = lines_split(t->next, end, t->records, max, (size_t)t->set.line_max, t->set.crlf,
                           connect_wall_ns(), &next);
    if (n == 0)
        return give_long(t, out);
    give(t, out, n, next);
    return PAWL_DONE;
}

/* ---- a line whose end is far away */

/* The `n` bytes at t->next fill the buffer and have no newline. */
static int begin_long(struct tail *t, pawl_source_batch *out, size_t n, pawl_fault *f) {
    if (t->set.on_long == TAIL_LONG_CUT) {
        const char *part = t->file->pos.flags & TAIL_MIDDLE ? "middle" : "first";
        t->file->pos.flags |= TAIL_MIDDLE;
        give_one(t, out, t->next, (size_t)t->set.line_max, part, t->next + t->set.line_max);
        keep_window(t); /* the record is still in the buffer, until the next read */
        return PAWL_DONE;
    }
    if (t->dead == NULL && (t->dead = malloc(TAIL_DEAD_MAX)) == NULL)
        return pawl_fault_set(f, PAWL_RETRY, "no memory for a long line");
    t->dead_len = n < TAIL_DEAD_MAX ? n : TAIL_DEAD_MAX;
    memcpy(t->dead, t->next, t->dead_len);
    t->scan_at = t->file->pos.at + n;
    keep_window(t);
    return PAWL_DONE;
}

/* The long line ends at offset `newline`, and the next one begins at `after`. */
static int end_long(struct tail *t, pawl_source_batch *out, uint64_t newline, uint64_t after,
                    pawl_fault *f) {
    uint64_t begin = t->file->pos.at;
    if (content_read(&t->file->content, t->before, TAIL_WINDOW, after - TAIL_WINDOW) !=
        (ssize_t)TAIL_WINDOW)
        return read_fault(t, f);
    t->scan_at = 0;
    t->next = t->end = NULL;
    set_position(t, after, t->before + TAIL_WINDOW);
    t->file->pos.flags &= (uint8_t) ~(TAIL_MIDDLE | TAIL_UNTERMINATED | TAIL_FINISHED);
    t->file->pos.mtime = t->file->seen_mtime;
    tail_encode(&t->file->pos, out);
    t->records[0] = (pawl_record){
        .value = t->dead, .value_len = (uint32_t)t->dead_len, .timestamp_ns = connect_wall_ns()};
    out->item = t->file->item;
    out->records = t->records;
    out->count = 1;
    return too_long(t, begin, newline - begin, out);
}

/* Searches on for the end of the line. GONE: the file ends first. */
static int scan(struct tail *t, pawl_source_batch *out, pawl_fault *f) {
    struct chunk *c = &t->chunk[0];
    for (;;) {
        ssize_t n = content_read(&t->file->content, c->buf, c->cap, t->scan_at);
        if (n < 0)
            return read_fault(t, f);
        if (n == 0)
            return PAWL_GONE;
        const uint8_t *newline = memchr(c->buf, '\n', (size_t)n);
        if (newline != NULL) {
            uint64_t at = t->scan_at + (uint64_t)(newline - c->buf);
            return end_long(t, out, at, at + 1, f);
        }
        t->scan_at += (uint64_t)n;
    }
}

/* ---- the end of the file */

/* The file ends after the `n` bytes at t->next, which have no newline. */
static int at_end(struct tail *t, pawl_source_batch *out, size_t n) {
    const uint8_t *from = t->next;
    if (!t->file->final)
        return PAWL_DONE;
    if (n == 0)
        return PAWL_ENDED;
    if (n > t->set.line_max && t->set.on_long != TAIL_LONG_CUT) {
        uint64_t begin = t->file->pos.at;
        give_one(t, out, from, n < TAIL_DEAD_MAX ? n : TAIL_DEAD_MAX, NULL, from + n);
        too_long(t, begin, n, out);
    } else if (n > t->set.line_max) {
        const char *part = t->file->pos.flags & TAIL_MIDDLE ? "middle" : "first";
        t->file->pos.flags |= TAIL_MIDDLE;
        give_one(t, out, from, (size_t)t->set.line_max, part, from + t->set.line_max);
    } else {
        const char *part = t->file->pos.flags & TAIL_MIDDLE ? "last" : NULL;
        t->file->pos.flags &= (uint8_t)~TAIL_MIDDLE;
        give_one(t, out, from, n, part, from + n);
    }
    if (!(t->file->pos.flags & TAIL_MIDDLE)) {
        t->file->pos.flags |= TAIL_UNTERMINATED;
        tail_encode(&t->file->pos, out);
    }
    keep_window(t);
    return PAWL_DONE;
}

/* Reads on. DONE: lines are at t->next, or a record was given, or there is nothing now. */
static int more(struct tail *t, pawl_source_batch *out, size_t ask, pawl_fault *f) {
    struct stat st;
    struct tail_file *file = t->file;
    size_t most = TAIL_WINDOW + (size_t)t->set.line_max + 2;
    keep_window(t);
    for (most = most > ask ? most : ask;; ask = ask > most / 2 ? most : ask * 2) {
        if (fstat(file->content.fd, &st) != 0)
            return read_fault(t, f);
        uint64_t mtime = tail_mtime(&st.st_mtim);
        if ((uint64_t)st.st_size == file->seen_size && mtime == file->seen_mtime && !file->final)
            return PAWL_DONE;
        int rc = fetch(t, ask, f);
        if (rc != PAWL_DONE)
            return rc;
        struct chunk *c = &t->chunk[0];
        if (c->len < c->window || memcmp(c->buf, t->before, c->window) != 0)
            return PAWL_GONE;
        file->seen_mtime = mtime;
        size_t n = c->len - c->window;
        bool full = c->len == c->asked;
        file->seen_size = full ? UINT64_MAX : (uint64_t)st.st_size;
        t->next = c->buf + c->window;
        const uint8_t *last = n != 0 ? memrchr(t->next, '\n', n) : NULL;
        t->end = last != NULL ? last + 1 : t->next;
        if (last != NULL && full)
            begin_prefetch(t, ask);
        if (last != NULL)
            return PAWL_DONE;
        if (!full)
            return at_end(t, out, n);
        if (c->asked >= most)
            return begin_long(t, out, n, f);
        ask = c->asked;
        t->next = t->end = NULL;
    }
}

static int search_end(struct tail *t, pawl_source_batch *out, pawl_fault *f) {
    struct stat st;
    struct tail_file *file = t->file;
    if (fstat(file->content.fd, &st) != 0)
        return read_fault(t, f);
    int rc = scan(t, out, f);
    if (rc != PAWL_GONE)
        return rc;
    file->seen_size = (uint64_t)st.st_size;
    file->seen_mtime = tail_mtime(&st.st_mtim);
    return file->final ? end_long(t, out, t->scan_at, t->scan_at, f) : PAWL_DONE;
}

int tail_read(struct tail *t, pawl_source_batch *out, size_t max_records, size_t max_bytes,
              pawl_fault *f) {
    int rc = records_room(t, max_records, f);
    if (rc != PAWL_DONE)
        return rc;
    if (t->next == t->end && t->scan_at == 0)
        rc = more(t, out, TAIL_WINDOW + max_bytes, f);
    if (rc == PAWL_DONE && t->scan_at != 0)
        return search_end(t, out, f);
    if (rc == PAWL_DONE && out->item == NULL && t->next != t->end)
        rc = give_lines(t, out, max_records, max_bytes);
    return rc;
}
