/* SPDX-License-Identifier: Apache-2.0
 *
 * Splits bytes into records: lines, or several lines joined into one. For the sources `file`, `dir`
 * and `stdin`. Without a setting that needs more, lines_split() does it all.
 *
 * A record that isn't complete (its last line may not have come) isn't given, and the caller's
 * position stays before its first line. So nothing of it has to be remembered: after a restart its
 * lines are read again. `last` gives it as it is: the file was rotated, the input has ended, or the
 * time limit has passed.
 *
 * Lines of two streams (stdout and stderr) may be interleaved. Records are given when every line
 * before the position belongs to a complete record. More than `bytes_max` bytes of input are never
 * held back: then everything that is begun is given as it is, marked by the header
 * "pawl-incomplete".
 */
#ifndef PAWL_CONNECTORS_SPLIT_H
#define PAWL_CONNECTORS_SPLIT_H

#include "connectors/runtime/connect.h"
#include "connectors/text/matcher.h"

/* What may be read after the last byte that is given to split_take(). */
#define SPLIT_SPARE 64u
/* A run of NULs of this length is a hole, wherever it is. */
#define SPLIT_HOLE_MIN 512u
/* Additional room in the array of records: a cut between interleaved streams may come after more
 * records than were asked for. */
#define SPLIT_ROOM 16u

/* ---- lines.c */

/* Finds at most `max` lines (ended by \n) in [from, end), and stops before one longer than line_max
 * and before one with a hole. `end` is just after a \n, and 64 bytes after it must be readable.
 * Sets value, value_len (without \n; with crlf without \r\n) and timestamp_ns of the records.
 * *next: where it stopped. */
size_t lines_split(const uint8_t *from, const uint8_t *end, pawl_record *records, size_t max,
                   size_t line_max, bool crlf, int64_t timestamp_ns, const uint8_t **next);
/* The first run of at least SPLIT_HOLE_MIN NULs in n bytes; NULL: there is none. */
const uint8_t *lines_hole(const uint8_t *from, size_t n);

/* ---- split.c */

enum { SPLIT_LINES = 0, SPLIT_JSON = 1, SPLIT_CRI = 2, SPLIT_DOCKER = 3 };
/* AUTO is a setting only: the encoding that a file's first bytes show. */
enum { SPLIT_AUTO = 0, SPLIT_BYTES = 1, SPLIT_UTF16LE = 2, SPLIT_UTF16BE = 3 };

struct split_settings {
    int format, encoding;
    bool crlf, skip_blank;
    size_t line_max;
    matcher *begin, *go_on; /* at most one of them; the split owns it */
    uint32_t wait_ms, lines_max;
    size_t bytes_max;
};

/* Rows of settings for a source. */
/* clang-format off */
#define SPLIT_SETTINGS \
    {"crlf", PAWL_SETTING_BOOL, 0, NULL, "false", \
     "lines end with CR LF: the CR is taken off too"}, \
    {"line_max", PAWL_SETTING_SIZE, 0, NULL, "1M", "the longest line"}, \
    {"format", PAWL_SETTING_CHOICE, 0, "lines|json|cri|docker", "lines", \
     "what the lines are: json skips blank ones; cri and docker are logs of containers, whose " \
     "partial lines are joined"}, \
    {"encoding", PAWL_SETTING_CHOICE, 0, "auto|bytes|utf-16le|utf-16be", "auto", \
     "auto: a byte order mark at the start is taken off, and UTF-16 becomes UTF-8"}, \
    {"blank", PAWL_SETTING_CHOICE, 0, "keep|skip", "keep", \
     "lines that have nothing but spaces and tabs"}, \
    {"multiline.begin", PAWL_SETTING_TEXT, 0, NULL, NULL, \
     "a regular expression: a line that matches begins a record, other lines belong to the one " \
     "before them"}, \
    {"multiline.continue", PAWL_SETTING_TEXT, 0, NULL, NULL, \
     "a regular expression: a line that matches belongs to the record before it"}, \
    {"multiline.max_wait", PAWL_SETTING_TIME, 0, NULL, "1s", \
     "how long a record, or a partial line of a container, waits for its next line"}, \
    {"multiline.max_lines", PAWL_SETTING_NUMBER, 0, NULL, "1000", "limit of a record's lines"}, \
    {"multiline.max_bytes", PAWL_SETTING_SIZE, 0, NULL, "1M", \
     "limit of the bytes of input that are held back for joining"}
/* clang-format on */

struct split;

/* Errors: INVALID, NOT_FOUND (this build has no regular expressions), MEMORY. */
int split_make(const pawl_connector *c, const pawl_settings *g, struct split **out,
               pawl_error *err);
/* Takes over begin and go_on. NULL: no memory. */
struct split *split_new(const struct split_settings *s);
void split_free(struct split *s);
const struct split_settings *split_settings(const struct split *s);

/* The encoding of a file that begins with these bytes (at least 4, or all). *mark: bytes of a byte
 * order mark, to be passed over. */
int split_encoding(const struct split *s, const uint8_t *bytes, size_t n, size_t *mark);

/* True if every record is one line of bytes, as it is. */
bool split_plain(const struct split *s, int encoding);
/* True if a record may wait for a line that isn't there yet. */
bool split_joins(const struct split *s);
/* The bytes that a caller must be able to offer at once, for a line or for what is held back. */
size_t split_most(const struct split *s);
/* The place after the first (last) line end of n bytes; NULL: there is none. */
const uint8_t *split_first_end(int encoding, const uint8_t *from, size_t n);
const uint8_t *split_last_end(int encoding, const uint8_t *from, size_t n);

enum split_result {
    SPLIT_DONE = 0, /* records were given, or lines passed over */
    SPLIT_OPEN = 1, /* what is there belongs to a record that isn't complete */
    SPLIT_LONG = 2, /* the line at `from` is longer than line_max */
    SPLIT_HOLE = 3, /* a hole begins at `from` */
    SPLIT_MEMORY = 4
};

struct split_job {
    int encoding;
    /* Whole lines: `end` is just after a line end, and SPLIT_SPARE bytes after it are readable. For
     * UTF-16, `from` is at an even offset of the file. */
    const uint8_t *from, *end;
    bool last;            /* gives what isn't complete, too */
    pawl_record *records; /* room for max + SPLIT_ROOM */
    /* for each record, how far after `from` its first line began; room as for records. NULL: not
     * asked for */
    uint64_t *marks;
    size_t max, bytes; /* limits, roughly: number of records, and bytes of input */
    int64_t now_ns;    /* timestamp of lines that have none */
    /* results */
    size_t count;
    const uint8_t *next; /* the position after these records */
};

/* The records refer to the input and to memory of `s`, until the next call. */
enum split_result split_take(struct split *s, struct split_job *j);
/* Converts a part of a line for a record. Returns the bytes, which live until the next call. NULL:
 * no memory. */
const void *split_text(struct split *s, int encoding, const uint8_t *from, size_t n, size_t *len);

#endif
