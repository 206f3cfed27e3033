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
#include "connectors/text/time_ns.h"

#define SPARE (SPLIT_SPARE + 4)          /* of a chunk, with room for a line end */
#define MARK_MAX 3u                      /* bytes of a byte order mark */
#define CUT_WAIT_NS INT64_C(60000000000) /* how long a cut archive may be one being written */

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
    return (uint64_t)time_ns(t->tv_sec, t->tv_nsec) >> 16;
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
    if (t == NULL) {
        split_free(s->split);
        return NULL;
    }
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
    free(t->marks);
    free(t->dead);
    split_free(t->set.split);
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
    t->last = t->open = t->late = t->ended = false;
    t->before_len = (uint32_t)window_of(file->pos.at);
    if (file->encoding == SPLIT_AUTO && file->pos.at != 0) {
        uint8_t head[4];
        size_t mark;
        ssize_t n = content_read(&file->content, head, sizeof head, 0);
        if (n < 0)
            return read_fault(t, f);
        file->encoding = (uint8_t)split_encoding(t->set.split, head, (size_t)n, &mark);
    }
    ssize_t n =
        content_read(&file->content, t->before, t->before_len, file->pos.at - t->before_len);
    int rc = n < 0 ? read_fault(t, f)
             : n == (ssize_t)t->before_len && tail_hash(t->before, (size_t)n) == file->pos.hash
                 ? PAWL_DONE
                 : PAWL_GONE;
    if (rc == PAWL_DONE)
        return rc;
    file->hole = 0;
    t->file = NULL;
    return rc;
}

bool tail_has_lines(const struct tail *t) {
    return t->file != NULL && t->next != t->end;
}

int tail_lines_match(struct tail *t) {
    const uint8_t *real = t->chunk[0].buf + t->chunk[0].len; /* a line end is added behind */
    const uint8_t *end = t->end < real ? t->end : real;
    uint8_t now[TAIL_WINDOW];
    uint64_t at = t->file->pos.at;
    for (const uint8_t *p = t->next; p < end;) {
        size_t n = (size_t)(end - p) < sizeof now ? (size_t)(end - p) : sizeof now;
        ssize_t got = content_read(&t->file->content, now, n, at);
        if (got != (ssize_t)n || memcmp(now, p, n) != 0)
            return got < 0 ? -1 : 0;
        p += n;
        at += n;
    }
    return 1;
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

/* Moves the offset to `after`, a place in chunk[0]. The line end that the last line got isn't in
 * the file. */
static void move(struct tail *t, const uint8_t *after) {
    const uint8_t *end = t->chunk[0].buf + t->chunk[0].len;
    if (after > end)
        t->file->pos.flags |= TAIL_UNTERMINATED;
    const uint8_t *real = after < end ? after : end;
    set_position(t, t->file->pos.at + (uint64_t)(real - t->next), real);
    t->next = real;
    t->end = after > end ? real : t->end;
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
    free(t->marks);
    t->record_max = 0;
    t->records = calloc(max + SPLIT_ROOM, sizeof *t->records);
    t->marks = calloc(max + SPLIT_ROOM, sizeof *t->marks);
    if (t->records == NULL || t->marks == NULL)
        return pawl_fault_set(f, PAWL_RETRY, "no memory for %zu records", max);
    t->record_max = max;
    return PAWL_DONE;
}

/* The bytes before the position were read when the file had this time. */
static void keep_time(struct tail_file *file) {
    if (file->pos.mtime < file->seen_mtime)
        file->pos.mtime = file->seen_mtime;
}

static void give(struct tail *t, pawl_source_batch *out, size_t count, const uint8_t *after) {
    t->given_from = t->file->pos.at;
    t->file->pos.flags &= (uint8_t) ~(TAIL_UNTERMINATED | TAIL_FINISHED);
    keep_time(t->file);
    move(t, after);
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
    const void *text = split_text(t->set.split, t->file->encoding, from, len, &len);
    *r = (pawl_record){.value = text,
                       .value_len = (uint32_t)(text != NULL ? len : 0),
                       .timestamp_ns = connect_wall_ns()};
    if (part != NULL) {
        t->part = (pawl_header){name, part, sizeof name - 1, (uint16_t)strlen(part)};
        r->headers = &t->part;
        r->header_count = 1;
    }
    t->marks[0] = t->file->pos.at;
    t->given_marks = PAWL_MARKS_GIVEN;
    give(t, out, 1, after);
}

/* lines_split() leaves the other fields as they are. */
static void plain_records(struct tail *t) {
    t->records[0].headers = NULL;
    t->records[0].header_count = 0;
}

static uint64_t line_max(const struct tail *t) {
    return split_settings(t->set.split)->line_max;
}

/* Length of a part that a long line is cut into. */
static size_t part_len(const struct tail *t) {
    return t->file->encoding == SPLIT_BYTES ? (size_t)line_max(t)
                                            : (size_t)line_max(t) & ~(size_t)1;
}

static int too_long(struct tail *t, uint64_t begin, uint64_t len, pawl_source_batch *out) {
    snprintf(t->why, sizeof t->why,
             "a line of %" PRIu64 " bytes at offset %" PRIu64
             " of %.100s is over line_max (%" PRIu64 ")",
             len, begin, t->file->path, line_max(t));
    out->poison = t->why;
    return PAWL_DONE;
}

static size_t line_end(const struct tail *t, const uint8_t *from, size_t n) {
    return split_settings(t->set.split)->crlf && t->file->encoding == SPLIT_BYTES && n != 0 &&
                   from[n - 1] == '\r'
               ? n - 1
               : n;
}

static void give_part(struct tail *t, pawl_source_batch *out) {
    const char *part = t->file->pos.flags & TAIL_MIDDLE ? "middle" : "first";
    size_t n = part_len(t);
    t->file->pos.flags |= TAIL_MIDDLE;
    give_one(t, out, t->next, n, part, t->next + n);
}

/* Gives the n bytes at t->next, which are a line or end at a hole; the next line begins at `after`.
 * They are longer than line_max, or the rest of a line that is being cut, or all of it. */
static int give_long(struct tail *t, pawl_source_batch *out, size_t n, const uint8_t *after) {
    const uint8_t *from = t->next;
    bool is_long = n > line_max(t);
    if (is_long && t->set.on_long == TAIL_LONG_CUT) {
        give_part(t, out);
        return PAWL_DONE;
    }
    if (t->file->pos.flags & TAIL_MIDDLE || !is_long) {
        const char *part = t->file->pos.flags & TAIL_MIDDLE ? "last" : NULL;
        t->file->pos.flags &= (uint8_t)~TAIL_MIDDLE;
        give_one(t, out, from, line_end(t, from, n), part, after);
        return PAWL_DONE;
    }
    uint64_t begin = t->file->pos.at;
    give_one(t, out, from, n < TAIL_DEAD_MAX ? n : TAIL_DEAD_MAX, NULL, after);
    return too_long(t, begin, n, out);
}

/* The same for a line whose end is in the buffer. */
static int give_long_line(struct tail *t, pawl_source_batch *out) {
    const uint8_t *after = split_first_end(t->file->encoding, t->next, (size_t)(t->end - t->next));
    size_t n = (size_t)(after - t->next) - (t->file->encoding == SPLIT_BYTES ? 1 : 2);
    const uint8_t *hole = t->file->encoding == SPLIT_BYTES ? lines_hole(t->next, n) : NULL;
    return hole != NULL ? give_long(t, out, (size_t)(hole - t->next), hole)
                        : give_long(t, out, n, after);
}

/* Gives records of the lines at t->next. DONE with out->item NULL: they were passed over, or wait
 * for more (t->end is t->next then). */
static int give_lines(struct tail *t, pawl_source_batch *out, size_t max, size_t bytes,
                      pawl_fault *f) {
    struct tail_file *file = t->file;
    size_t end_len = file->encoding == SPLIT_BYTES ? 1 : 2;
    /* the newline of a line that was already given, because it seemed to be the last */
    if (file->pos.flags & TAIL_UNTERMINATED &&
        split_first_end(file->encoding, t->next, end_len) != NULL) {
        move(t, t->next + end_len);
        file->pos.flags &= (uint8_t)~TAIL_UNTERMINATED;
        if (t->next == t->end)
            return PAWL_DONE;
    }
    if (file->pos.flags & TAIL_MIDDLE)
        return give_long_line(t, out);
    plain_records(t);
    bool lines = split_plain(t->set.split, file->encoding) && !split_settings(t->set.split)->crlf;
    t->given_marks = lines ? PAWL_MARKS_LINES : PAWL_MARKS_GIVEN;
    struct split_job j = {.encoding = file->encoding,
                          .from = t->next,
                          .end = t->end,
                          .last = t->last,
                          .records = t->records,
                          .marks = lines ? NULL : t->marks,
                          .max = max,
                          .bytes = bytes,
                          .now_ns = connect_wall_ns()};
    enum split_result rc = split_take(t->set.split, &j);
    t->last = false;
    for (size_t i = 0; !lines && i < j.count; i++)
        t->marks[i] += file->pos.at;
    if (j.count != 0) {
        give(t, out, j.count, j.next);
        return PAWL_DONE;
    }
    if (rc == SPLIT_MEMORY)
        return pawl_fault_set(f, PAWL_RETRY, "no memory for records");
    if (rc == SPLIT_LONG)
        return give_long_line(t, out);
    if (j.next != t->next)
        move(t, j.next);
    if (rc != SPLIT_DONE) { /* more lines, or the hole, are read from here on */
        t->end = t->next;
        t->open = rc == SPLIT_OPEN;
        t->stuck = file->pos.at - t->chunk[0].from <= MARK_MAX;
        file->seen_size = t->open ? file->seen_size : UINT64_MAX;
    }
    return PAWL_DONE;
}

/* ---- a line whose end is far away */

/* The `n` bytes at t->next fill the buffer and have no newline. */
static int begin_long(struct tail *t, pawl_source_batch *out, size_t n, pawl_fault *f) {
    if (t->set.on_long == TAIL_LONG_CUT) {
        give_part(t, out);
        keep_window(t); /* the record is still in the buffer, until the next read */
        return PAWL_DONE;
    }
    if (t->dead == NULL && (t->dead = malloc(TAIL_DEAD_MAX)) == NULL)
        return pawl_fault_set(f, PAWL_RETRY, "no memory for a long line");
    t->dead_len = n < TAIL_DEAD_MAX ? n : TAIL_DEAD_MAX;
    memcpy(t->dead, t->next, t->dead_len);
    t->scan_at = t->file->pos.at + (n & ~(size_t)1);
    keep_window(t);
    return PAWL_DONE;
}

/* The long line ends at offset `newline`, and the next one begins at `after`. */
static int end_long(struct tail *t, pawl_source_batch *out, uint64_t newline, uint64_t after,
                    pawl_fault *f) {
    uint64_t begin = t->file->pos.at;
    t->given_from = t->marks[0] = begin;
    t->given_marks = PAWL_MARKS_GIVEN;
    if (content_read(&t->file->content, t->before, TAIL_WINDOW, after - TAIL_WINDOW) !=
        (ssize_t)TAIL_WINDOW)
        return read_fault(t, f);
    t->scan_at = 0;
    t->next = t->end = NULL;
    set_position(t, after, t->before + TAIL_WINDOW);
    t->file->pos.flags &= (uint8_t) ~(TAIL_MIDDLE | TAIL_UNTERMINATED | TAIL_FINISHED);
    keep_time(t->file);
    tail_encode(&t->file->pos, out);
    size_t len;
    const void *text = split_text(t->set.split, t->file->encoding, t->dead, t->dead_len, &len);
    t->records[0] = (pawl_record){.value = text,
                                  .value_len = (uint32_t)(text != NULL ? len : 0),
                                  .timestamp_ns = connect_wall_ns()};
    out->item = t->file->item;
    out->records = t->records;
    out->count = 1;
    return too_long(t, begin, newline - begin, out);
}

/* Searches on for the end of the line. GONE: the file ends first. */
static int scan(struct tail *t, pawl_source_batch *out, pawl_fault *f) {
    struct chunk *c = &t->chunk[0];
    int encoding = t->file->encoding;
    for (;;) {
        ssize_t got = content_read(&t->file->content, c->buf, c->cap & ~(size_t)1, t->scan_at);
        if (got < 0)
            return read_fault(t, f);
        size_t n = (size_t)got;
        const uint8_t *after = split_first_end(encoding, c->buf, n);
        size_t line = after != NULL ? (size_t)(after - c->buf) : n;
        const uint8_t *hole = encoding == SPLIT_BYTES ? lines_hole(c->buf, line) : NULL;
        if (hole != NULL) {
            uint64_t at = t->scan_at + (uint64_t)(hole - c->buf);
            return end_long(t, out, at, at, f);
        }
        if (after != NULL) {
            uint64_t at = t->scan_at + line;
            return end_long(t, out, at - (encoding == SPLIT_BYTES ? 1 : 2), at, f);
        }
        while (n > 0 && encoding == SPLIT_BYTES && c->buf[n - 1] == 0)
            n--; /* perhaps the beginning of a hole: it is read again, with what follows */
        n = encoding == SPLIT_BYTES ? n : n & ~(size_t)1;
        if (n == 0)
            return PAWL_GONE;
        t->scan_at += n;
    }
}

/* ---- holes */

/* How many of the n bytes at t->next are a hole. At the beginning of a file, and where one has
 * begun, every NUL belongs to it. */
static size_t hole_len(const struct tail *t, size_t n) {
    const struct tail_position *p = &t->file->pos;
    size_t k = 0;
    if (t->file->encoding != SPLIT_BYTES || n == 0 || t->next[0] != 0)
        return 0;
    while (k < n && t->next[k] == 0)
        k++;
    bool begun =
        p->at == 0 || (!(p->flags & (TAIL_MIDDLE | TAIL_UNTERMINATED)) && t->next[-1] == 0);
    return begun || k >= SPLIT_HOLE_MIN ? k : 0;
}

/* Bytes before the position that are no lines, and why. */
static void note_passed(struct tail_file *file, uint64_t from, const char *why) {
    struct tail_passed *p = &file->passed[file->passed_count];
    if (file->passed_count < PASSED_MAX)
        file->passed_count++;
    else
        from = (--p)->from; /* what is between has no lines either */
    *p = (struct tail_passed){from, file->pos.at, why};
}

static void end_hole(struct tail *t) {
    struct tail_file *file = t->file;
    t->hole_bytes += file->hole;
    if (file->hole != 0)
        note_passed(file, file->pos.at - file->hole, "a hole");
    if (file->hole != 0)
        pawl_source_report(t->context, 2,
                           "%s: %" PRIu64 " NUL bytes from offset %" PRIu64
                           " on are a hole, not lines: they were passed over",
                           file->path, file->hole, file->pos.at - file->hole);
    file->hole = 0;
}

/* The rest of a sparse hole needs no reading. */
static int jump_hole(struct tail *t, pawl_fault *f) {
    struct tail_file *file = t->file;
    struct stat st;
    off_t data =
        file->content.unpack == NULL ? lseek(file->content.fd, (off_t)file->pos.at, SEEK_DATA) : 0;
    if (data < 0 && errno == ENXIO && fstat(file->content.fd, &st) == 0)
        data = st.st_size; /* it reaches to the end */
    if (data <= 0 || (uint64_t)data <= file->pos.at + TAIL_WINDOW)
        return PAWL_DONE;
    if (content_read(&file->content, t->before, TAIL_WINDOW, (uint64_t)data - TAIL_WINDOW) !=
        (ssize_t)TAIL_WINDOW)
        return read_fault(t, f);
    file->hole += (uint64_t)data - file->pos.at;
    set_position(t, (uint64_t)data, t->before + TAIL_WINDOW);
    return PAWL_DONE;
}

/* ---- the end of the file */

static int64_t age_ns(const struct stat *st) {
    return connect_wall_ns() - time_ns(st->st_mtim.tv_sec, st->st_mtim.tv_nsec);
}

/* The compressed file ends before its bytes do. True: it may still be written. */
static bool ends_early(struct tail *t, size_t n, const struct stat *st) {
    struct tail_file *file = t->file;
    char why[200];
    enum decompress_state state = content_state(&file->content);
    int64_t age = age_ns(st);
    if (state == DECOMPRESS_CUT && !file->told_end && age < CUT_WAIT_NS) {
        file->cut_ns = connect_now(NULL) + (uint64_t)(age > 0 ? CUT_WAIT_NS - age : CUT_WAIT_NS);
        return true;
    }
    content_why(&file->content, why, sizeof why);
    if (!file->told_end)
        pawl_source_report(t->context, 2,
                           "%s: %s; of its %ju bytes the rest is lost, with an unfinished line of "
                           "%zu bytes",
                           file->path, why, (uintmax_t)st->st_size, n);
    file->told_end = true;
    return false;
}

/* The file ends after the `n` bytes at t->next, of which those from t->end on have no newline.
 * Where no more will be written, they get one. True: what isn't complete is given now. */
static bool at_end(struct tail *t, size_t n, const struct stat *st) {
    struct tail_file *file = t->file;
    uint8_t *end = t->chunk[0].buf + t->chunk[0].len;
    enum decompress_state state = content_state(&file->content);
    if (state == DECOMPRESS_CUT || state == DECOMPRESS_DAMAGED) {
        t->ended = !ends_early(t, (size_t)(end - t->end), st);
        return t->ended;
    }
    /* an archive that is complete and was not written for a while gets no more */
    bool packed = file->content.unpack != NULL && age_ns(st) >= CUT_WAIT_NS;
    if (!file->final && !packed)
        return t->late;
    t->ended = file->final;
    if (n == 0 || t->end == end)
        return true;
    bool wide = file->encoding != SPLIT_BYTES;
    if (wide && (size_t)(end - t->next) % 2 != 0) { /* the odd byte becomes U+FFFD */
        *end++ = 0xD8;
        end[-2] = file->encoding == SPLIT_UTF16BE ? 0xD8 : end[-2];
    }
    if (file->encoding == SPLIT_UTF16BE)
        *end++ = 0;
    *end++ = '\n';
    if (file->encoding == SPLIT_UTF16LE)
        *end++ = 0;
    t->end = end;
    return true;
}

/* Nothing has been written since the file was read to its end. True: a record that isn't complete
 * has waited long enough. */
static bool waited(const struct tail_file *file) {
    return file->wait_ns != 0 && connect_now(NULL) >= file->wait_ns;
}

/* What was read begins with a byte order mark, or with a hole, or in one. True: all of it is passed
 * over. */
static bool pass_over(struct tail *t, size_t *n) {
    struct tail_file *file = t->file;
    size_t mark = 0;
    if (file->pos.at == 0)
        file->encoding = (uint8_t)split_encoding(t->set.split, t->next, *n, &mark);
    if (mark != 0) {
        move(t, t->next + mark);
        note_passed(file, 0, "a byte order mark");
    }
    size_t hole = hole_len(t, *n - mark);
    if (hole != 0)
        move(t, t->next + hole);
    file->hole += hole;
    if (hole < *n - mark)
        end_hole(t);
    *n -= mark + hole;
    return hole != 0 && *n == 0;
}

/* Reads the file from its position on, and finds its last line end. DONE: *full tells whether there
 * is more than was asked for. */
static int read_chunk(struct tail *t, size_t ask, bool *full, size_t *n, struct stat *st,
                      pawl_fault *f) {
    struct tail_file *file = t->file;
    int rc = fetch(t, ask, f);
    if (rc != PAWL_DONE)
        return rc;
    struct chunk *c = &t->chunk[0];
    if (c->len < c->window || memcmp(c->buf, t->before, c->window) != 0)
        return PAWL_GONE;
    file->seen_mtime = tail_mtime(&st->st_mtim);
    *n = c->len - c->window;
    *full = c->len == c->asked;
    file->seen_size = *full ? UINT64_MAX : (uint64_t)st->st_size;
    file->wait_ns = file->cut_ns = 0;
    t->next = t->end = c->buf + c->window;
    return PAWL_DONE;
}

/* Reads on. DONE: lines are at t->next, or a record was given, or there is nothing now. */
static int more(struct tail *t, pawl_source_batch *out, size_t ask, pawl_fault *f) {
    struct stat st;
    struct tail_file *file = t->file;
    size_t most = TAIL_WINDOW + split_most(t->set.split), n;
    bool full, open = t->open;
    keep_window(t);
    t->open = t->ended = false;
    /* the whole buffer belongs to records that aren't complete: it was too small, or has to do */
    open = open && t->stuck && file->seen_size == UINT64_MAX;
    bool enough = open && t->chunk[0].asked >= most;
    if (open && ask <= t->chunk[0].asked)
        ask = t->chunk[0].asked > most / 2 ? most : 2 * t->chunk[0].asked;
    for (most = most > ask ? most : ask;; ask = ask > most / 2 ? most : ask * 2) {
        if (fstat(file->content.fd, &st) != 0)
            return read_fault(t, f);
        t->late = waited(file);
        if ((uint64_t)st.st_size == file->seen_size &&
            tail_mtime(&st.st_mtim) == file->seen_mtime && !file->final && !t->late)
            return PAWL_DONE;
        int rc = read_chunk(t, ask, &full, &n, &st, f);
        if (rc != PAWL_DONE)
            return rc;
        if (pass_over(t, &n) && full) {
            keep_window(t);
            rc = jump_hole(t, f);
            if (rc != PAWL_DONE)
                return rc;
            continue;
        }
        const uint8_t *last = split_last_end(file->encoding, t->next, n);
        t->end = last != NULL ? last : t->next;
        t->last = full ? enough : at_end(t, n, &st);
        if (t->end != t->next) {
            if (full && split_plain(t->set.split, file->encoding))
                begin_prefetch(t, ask);
            return PAWL_DONE;
        }
        const uint8_t *hole = file->encoding == SPLIT_BYTES ? lines_hole(t->next, n) : NULL;
        if (hole != NULL) {
            rc = give_long(t, out, (size_t)(hole - t->next), hole);
            t->end = t->next; /* the hole is read from here on */
            file->seen_size = UINT64_MAX;
            return rc;
        }
        if (!full && t->ended)
            end_hole(t);
        if (!full)
            return t->ended ? PAWL_ENDED : PAWL_DONE;
        if (t->chunk[0].asked >= most)
            return begin_long(t, out, n, f);
        ask = t->chunk[0].asked;
        keep_window(t);
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

int tail_fill(struct tail *t, pawl_source_batch *out, size_t max_records, size_t max_bytes,
              pawl_fault *f) {
    int rc = records_room(t, max_records, f);
    if (rc == PAWL_DONE && t->next == t->end && t->scan_at == 0)
        rc = more(t, out, TAIL_WINDOW + max_bytes, f);
    return rc == PAWL_DONE && t->scan_at != 0 ? search_end(t, out, f) : rc;
}

int tail_read(struct tail *t, pawl_source_batch *out, size_t max_records, size_t max_bytes,
              pawl_fault *f) {
    int rc = records_room(t, max_records, f);
    while (rc == PAWL_DONE && out->item == NULL) {
        if (t->next == t->end && t->scan_at == 0)
            rc = more(t, out, TAIL_WINDOW + max_bytes, f);
        if (rc == PAWL_DONE && t->scan_at != 0)
            return search_end(t, out, f);
        if (rc != PAWL_DONE || out->item != NULL || t->next == t->end)
            break;
        rc = give_lines(t, out, max_records, max_bytes, f);
        if (rc == PAWL_DONE && out->item == NULL && t->open && t->file->seen_size != UINT64_MAX) {
            /* the record waits for its next line */
            t->file->wait_ns =
                connect_now(NULL) + 1 + split_settings(t->set.split)->wait_ms * UINT64_C(1000000);
            break;
        }
    }
    return rc;
}
