/* SPDX-License-Identifier: Apache-2.0
 *
 * The source "stdin": lines of standard input, until its end. It can't rewind: lines that were read
 * but aren't durable at a crash are lost, and a second run takes all its input as new. For a file
 * use the source "file".
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "connectors/file/tail.h"

struct stdin_source {
    pawl_source_context *context;
    uint64_t lines, line_max;
    bool crlf, ended, skipping;
    uint8_t *buf; /* cap bytes and 64 more */
    size_t from, len, cap;
    pawl_record *records;
    size_t record_max;
};

static const pawl_setting_info settings[] = {
    {"crlf", PAWL_SETTING_BOOL, 0, NULL, "false", "a CR before the LF is taken off"},
    {"line_max", PAWL_SETTING_SIZE, 0, NULL, "1M",
     "the longest line; a longer one goes by the source's poison policy"},
    {0},
};

static int source_open(void *self, pawl_source_context *x, pawl_fault *f) {
    struct stdin_source *s = self;
    uint8_t at[PAWL_SOURCE_POSITION_MAX] = {0};
    s->context = x;
    int n = pawl_source_position(x, "", at);
    if (n < 0)
        return connect_position_fault(n, f);
    memcpy(&s->lines, at, sizeof s->lines);
    return PAWL_DONE;
}

static void give(struct stdin_source *s, pawl_source_batch *out, size_t n) {
    s->lines += n;
    out->item = "";
    out->records = s->records;
    out->count = n;
    memcpy(out->position, &s->lines, sizeof s->lines);
    out->position_len = sizeof s->lines;
}

/* Gives records from the buffer. False: it has no whole line. */
static bool take(struct stdin_source *s, pawl_source_batch *out, size_t max) {
    const uint8_t *from = s->buf + s->from, *next;
    size_t n = s->len - s->from;
    const uint8_t *last = n != 0 ? memrchr(from, '\n', n) : NULL;
    /* the rest of a line that is too long; its beginning was given */
    if (s->skipping && last != NULL) {
        const uint8_t *first = memchr(from, '\n', n);
        s->from += (size_t)(first - from) + 1;
        s->skipping = false;
        return take(s, out, max);
    }
    if (s->skipping) {
        s->from = s->len = 0;
        return false;
    }
    size_t count = last != NULL ? lines_split(from, last + 1, s->records, max, s->line_max, s->crlf,
                                              connect_wall_ns(), &next)
                                : 0;
    if (count != 0) {
        s->from += (size_t)(next - from);
        give(s, out, count);
        return true;
    }
    bool full = n > s->line_max, end = s->ended && n != 0;
    if (!full && !end)
        return false;
    s->records[0].value = from;
    s->records[0].value_len = (uint32_t)(full ? s->line_max : n);
    s->records[0].timestamp_ns = connect_wall_ns();
    out->poison = full ? "a line of standard input is over line_max" : NULL;
    s->skipping = full;
    s->from += full ? s->line_max : n;
    give(s, out, 1);
    return true;
}

static int source_read(void *self, pawl_source_batch *out, size_t max_records, size_t max_bytes,
                       int timeout_ms, pawl_fault *f) {
    struct stdin_source *s = self;
    (void)max_bytes;
    if (s->record_max < max_records) {
        free(s->records);
        s->records = calloc(max_records, sizeof *s->records);
        s->record_max = s->records != NULL ? max_records : 0;
        if (s->records == NULL)
            return pawl_fault_set(f, PAWL_RETRY, "no memory for records");
    }
    if (take(s, out, max_records))
        return PAWL_DONE;
    if (s->ended)
        return PAWL_ENDED;
    memmove(s->buf, s->buf + s->from, s->len - s->from);
    s->len -= s->from;
    s->from = 0;
    struct pollfd p[2] = {{STDIN_FILENO, POLLIN, 0}, {connect_wake_fd(s->context), POLLIN, 0}};
    if (poll(p, 2, timeout_ms) <= 0 || p[0].revents == 0)
        return PAWL_DONE;
    ssize_t n = read(STDIN_FILENO, s->buf + s->len, s->cap - s->len);
    if (n < 0 && errno != EINTR && errno != EAGAIN)
        return pawl_fault_set(f, PAWL_FATAL, "read: %s", strerror(errno));
    s->ended = n == 0;
    s->len += n > 0 ? (size_t)n : 0;
    return take(s, out, max_records) || !s->ended ? PAWL_DONE : PAWL_ENDED;
}

static void source_destroy(void *self) {
    struct stdin_source *s = self;
    free(s->buf);
    free(s->records);
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
    const pawl_connector *c = &connect_source_stdin;
    uint64_t line_max = pawl_setting_number(c, g, "line_max");
    if (line_max < 64 || line_max > 64u << 20)
        return connect_error(err, PAWL_INVALID, "line_max must be 64 to 64M");
    struct stdin_source *s = calloc(1, sizeof *s);
    if (s != NULL) {
        s->crlf = pawl_setting_number(c, g, "crlf") != 0;
        s->line_max = line_max;
        s->cap = line_max + (1u << 20);
        s->buf = calloc(1, s->cap + 64);
    }
    if (s == NULL || s->buf == NULL) {
        free(s);
        return connect_error(err, PAWL_MEMORY, "no memory for a source");
    }
    *out = (pawl_source_ops){.struct_size = sizeof *out,
                             .type = c->type,
                             .self = s,
                             .open = source_open,
                             .read = source_read,
                             .destroy = source_destroy};
    return 0;
}
