/* SPDX-License-Identifier: Apache-2.0
 *
 * The source "stdin": lines of standard input, until its end. It can't rewind: lines that were read
 * but aren't durable at a crash are lost, and a second run takes all its input as new. For a file
 * use the source "file".
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "connectors/file/split.h"

struct stdin_source {
    pawl_source_context *context;
    struct split *split;
    uint64_t records_given;
    bool begun, ended, skipping;
    int encoding;
    uint8_t *buf; /* cap bytes, room for the end of a line, and SPLIT_SPARE more */
    size_t from, len, cap;
    uint64_t consumed;   /* bytes of the input before buf[0] */
    uint64_t arrived_ns; /* when the last bytes came */
    uint64_t hole;       /* NULs passed over so far, while a hole lasts */
    bool open;           /* what is there waits for its next line */
    bool quiet;          /* no more bytes are there */
    size_t added;        /* bytes at the end that the last line lacked */
    uint64_t named;      /* bytes of the input that are named: where the last interval ended */
    bool named_once;     /* this run's first interval is */
    pawl_record *records;
    uint64_t *marks; /* where each record began; its room is that of the records */
    size_t record_max;
};

static const pawl_setting_info settings[] = {SPLIT_SETTINGS, {0}};

static int source_open(void *self, pawl_source_context *x, pawl_fault *f) {
    struct stdin_source *s = self;
    uint8_t at[PAWL_SOURCE_POSITION_MAX] = {0};
    s->context = x;
    int n = pawl_source_position(x, "", at);
    if (n < 0)
        return connect_position_fault(n, f);
    memcpy(&s->records_given, at, sizeof s->records_given);
    return PAWL_DONE;
}

/* Bytes of the input before the next one that is looked at. */
static uint64_t place(const struct stdin_source *s) {
    uint64_t at = s->consumed + s->from;
    return s->from == s->len ? at - s->added : at;
}

/* Names what is before the next byte: `n` records, or bytes that are passed over. The input of each
 * run begins anew. It is no reason to stop if that can't be named. */
static void name(struct stdin_source *s, size_t n, int marks, const char *passed) {
    pawl_outside o = PAWL_OUTSIDE_INIT;
    o.thing = "standard input";
    o.note = passed;
    o.from = s->named;
    o.to = place(s);
    o.flags = (s->named_once ? 0u : (uint32_t)PAWL_OUTSIDE_BEGINS) |
              (passed != NULL ? (uint32_t)PAWL_OUTSIDE_PASSED : 0u);
    o.mark_kind = marks;
    o.step = marks == PAWL_MARKS_LINES ? 1 : 0;
    o.marks = s->marks;
    o.mark_count = marks == PAWL_MARKS_GIVEN ? n : 0;
    if (o.from == o.to && n == 0)
        return;
    if (pawl_source_origin(s->context, &o, n) < 0)
        pawl_source_report(s->context, 2, "what was read up to byte %" PRIu64 " can't be named",
                           o.to);
    s->named = o.to;
    s->named_once = true;
}

static bool give(struct stdin_source *s, pawl_source_batch *out, size_t n, int marks) {
    name(s, n, marks, NULL);
    s->records_given += n;
    out->item = "";
    out->records = s->records;
    out->count = n;
    memcpy(out->position, &s->records_given, sizeof s->records_given);
    out->position_len = sizeof s->records_given;
    return true;
}

/* A line that is longer than line_max: its first bytes are given, the others are skipped. */
static bool give_long(struct stdin_source *s, pawl_source_batch *out) {
    size_t n = split_settings(s->split)->line_max & ~(size_t)1, len;
    const void *text = split_text(s->split, s->encoding, s->buf + s->from, n, &len);
    s->marks[0] = place(s);
    s->records[0] = (pawl_record){.value = text, .value_len = (uint32_t)(text != NULL ? len : 0)};
    out->poison = "a line of standard input is over line_max";
    s->skipping = true;
    s->from += n;
    return give(s, out, 1, PAWL_MARKS_GIVEN);
}

/* Passes over the rest of a line that is too long. False: its end hasn't come. */
static bool skip_line(struct stdin_source *s) {
    size_t n = s->len - s->from;
    const uint8_t *after = split_first_end(s->encoding, s->buf + s->from, n);
    s->skipping = after == NULL;
    s->from = after != NULL ? (size_t)(after - s->buf) : s->from + (n & ~(size_t)1);
    if (after == NULL && s->encoding == SPLIT_BYTES)
        s->from = s->len;
    if (after != NULL)
        name(s, 0, PAWL_MARKS_NONE, "the rest of a line that is over line_max");
    return after != NULL;
}

/* Passes over NULs that are no content: those at the very beginning, and a run of them that is a
 * hole. */
static void skip_hole(struct stdin_source *s) {
    size_t n = 0, left = s->len - s->from;
    while (n < left && s->buf[s->from + n] == 0)
        n++;
    if (n != 0 && (s->hole != 0 || n >= SPLIT_HOLE_MIN || s->consumed + s->from == 0)) {
        s->hole += n;
        s->from += n;
        left -= n;
    }
    if (s->hole == 0 || (left == 0 && !s->ended))
        return;
    pawl_source_report(s->context, 2,
                       "standard input: %" PRIu64 " NUL bytes at byte %" PRIu64
                       " are a hole and were passed over",
                       s->hole, s->consumed + s->from - s->hole);
    s->hole = 0;
    name(s, 0, PAWL_MARKS_NONE, "a hole");
}

/* The input has ended: its last line gets the end that it lacks. */
static void end_last_line(struct stdin_source *s) {
    const uint8_t *from = s->buf + s->from;
    size_t n = s->len - s->from;
    if (n == 0 || split_last_end(s->encoding, from, n) == from + n)
        return;
    bool wide = s->encoding != SPLIT_BYTES;
    size_t before = s->len;
    if (wide && n % 2 != 0) { /* the odd byte becomes U+FFFD */
        s->buf[s->len++] = 0xD8;
        s->buf[s->len - 2] = s->encoding == SPLIT_UTF16BE ? 0xD8 : s->buf[s->len - 2];
    }
    if (s->encoding == SPLIT_UTF16BE)
        s->buf[s->len++] = 0;
    s->buf[s->len++] = '\n';
    if (s->encoding == SPLIT_UTF16LE)
        s->buf[s->len++] = 0;
    s->added = s->len - before;
}

static uint64_t wait_ns(const struct stdin_source *s) {
    return split_settings(s->split)->wait_ms * UINT64_C(1000000);
}

/* Nothing of the line at hand has an end. */
static bool take_unended(struct stdin_source *s, pawl_source_batch *out) {
    size_t n = s->len - s->from;
    const uint8_t *from = s->buf + s->from,
                  *hole = s->encoding == SPLIT_BYTES ? lines_hole(from, n) : NULL;
    if (hole != NULL) { /* it ends there; at its beginning there is none, after skip_hole() */
        s->marks[0] = place(s);
        s->records[0] = (pawl_record){.value = from, .value_len = (uint32_t)(hole - from)};
        s->from += (size_t)(hole - from);
        return give(s, out, 1, PAWL_MARKS_GIVEN);
    }
    return n > split_settings(s->split)->line_max && give_long(s, out);
}

/* Gives records from the buffer. False: it has none. */
static bool take(struct stdin_source *s, pawl_source_batch *out, size_t max, size_t bytes) {
    size_t mark;
    if (!s->begun) {
        if (s->len < 4 && !s->ended)
            return false;
        s->encoding = split_encoding(s->split, s->buf, s->len, &mark);
        s->from = mark;
        s->begun = true;
        name(s, 0, PAWL_MARKS_NONE, "a byte order mark");
    }
    for (;;) {
        if (s->skipping && !skip_line(s))
            return false;
        if (s->encoding == SPLIT_BYTES)
            skip_hole(s);
        if (s->ended)
            end_last_line(s);
        size_t n = s->len - s->from;
        s->open = false;
        const uint8_t *from = s->buf + s->from, *end = split_last_end(s->encoding, from, n);
        if (end == NULL)
            return take_unended(s, out);
        bool late = s->quiet && connect_now(NULL) - s->arrived_ns >= wait_ns(s);
        bool lines = split_plain(s->split, s->encoding) && !split_settings(s->split)->crlf &&
                     s->named == place(s);
        struct split_job j = {.encoding = s->encoding,
                              .from = from,
                              .end = end,
                              .last = s->ended || late || n >= split_most(s->split),
                              .records = s->records,
                              .marks = lines ? NULL : s->marks,
                              .max = max,
                              .bytes = bytes,
                              .now_ns = connect_wall_ns()};
        uint64_t begin = place(s);
        enum split_result rc = split_take(s->split, &j);
        s->from += (size_t)(j.next - from);
        for (size_t i = 0; !lines && i < j.count; i++)
            s->marks[i] += begin;
        if (j.count != 0)
            return give(s, out, j.count, lines ? PAWL_MARKS_LINES : PAWL_MARKS_GIVEN);
        if (rc == SPLIT_LONG)
            return give_long(s, out);
        s->open = rc == SPLIT_OPEN;
        if (rc == SPLIT_OPEN || rc == SPLIT_MEMORY)
            return false;
    }
}

static int source_read(void *self, pawl_source_batch *out, size_t max_records, size_t max_bytes,
                       int timeout_ms, pawl_fault *f) {
    struct stdin_source *s = self;
    if (s->record_max < max_records) {
        free(s->records);
        free(s->marks);
        s->records = calloc(max_records + SPLIT_ROOM, sizeof *s->records);
        s->marks = calloc(max_records + SPLIT_ROOM, sizeof *s->marks);
        s->record_max = s->records != NULL && s->marks != NULL ? max_records : 0;
        if (s->record_max == 0)
            return pawl_fault_set(f, PAWL_RETRY, "no memory for records");
    }
    s->quiet = false;
    if (take(s, out, max_records, max_bytes))
        return PAWL_DONE;
    if (s->ended)
        return PAWL_ENDED;
    memmove(s->buf, s->buf + s->from, s->len - s->from);
    s->len -= s->from;
    s->consumed += s->from;
    s->from = 0;
    if (s->open) { /* its time limit may come first */
        uint64_t passed = connect_now(NULL) - s->arrived_ns,
                 left_ms = passed < wait_ns(s) ? (wait_ns(s) - passed) / 1000000 + 1 : 0;
        timeout_ms = left_ms < (uint64_t)timeout_ms ? (int)left_ms : timeout_ms;
    }
    struct pollfd p[2] = {{STDIN_FILENO, POLLIN, 0}, {connect_wake_fd(s->context), POLLIN, 0}};
    s->quiet = poll(p, 2, timeout_ms) <= 0 || p[0].revents == 0;
    if (!s->quiet) {
        ssize_t n = read(STDIN_FILENO, s->buf + s->len, s->cap - s->len);
        if (n < 0 && errno != EINTR && errno != EAGAIN)
            return pawl_fault_set(f, PAWL_FATAL, "read: %s", strerror(errno));
        s->ended = n == 0;
        s->len += n > 0 ? (size_t)n : 0;
        s->arrived_ns = connect_now(NULL);
    }
    return take(s, out, max_records, max_bytes) || !s->ended ? PAWL_DONE : PAWL_ENDED;
}

static void source_destroy(void *self) {
    struct stdin_source *s = self;
    split_free(s->split);
    free(s->buf);
    free(s->records);
    free(s->marks);
    free(s);
}

static int make(const pawl_settings *g, pawl_source_ops *out, pawl_error *err);

const pawl_connector connect_source_stdin = {
    .type = "stdin",
    .help = "lines of standard input",
    .settings = settings,
    .make_source = make,
};

static int make(const pawl_settings *g, pawl_source_ops *out, pawl_error *err) {
    struct split *split;
    int rc = split_make(&connect_source_stdin, g, &split, err);
    if (rc < 0)
        return rc;
    struct stdin_source *s = calloc(1, sizeof *s);
    if (s != NULL) {
        s->split = split;
        s->encoding = SPLIT_BYTES;
        s->cap = split_most(split) + (1u << 20);
        s->buf = calloc(1, s->cap + 4 + SPLIT_SPARE);
    }
    if (s == NULL || s->buf == NULL) {
        split_free(split);
        free(s);
        return connect_error(err, PAWL_MEMORY, "no memory for a source");
    }
    *out = (pawl_source_ops){.struct_size = sizeof *out,
                             .flags = PAWL_SOURCE_STRANGERS,
                             .type = connect_source_stdin.type,
                             .self = s,
                             .open = source_open,
                             .read = source_read,
                             .destroy = source_destroy};
    return 0;
}
