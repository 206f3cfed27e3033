/* SPDX-License-Identifier: Apache-2.0
 *
 * lines.h - cuts a file, a growing file or a pipe into lines, and knows how far into it they reach.
 */
#ifndef PAWL_CLI_LINES_H
#define PAWL_CLI_LINES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum lines_result {
    LINES_ONE,          /* a line with its newline */
    LINES_UNTERMINATED, /* the rest of the source, without a newline (never when following) */
    LINES_WAIT,         /* nothing whole is there yet */
    LINES_END,          /* nothing more will come */
    LINES_TOO_LONG,     /* longer than any record may be */
    LINES_SHRUNK,       /* the file is shorter than what was read already */
    /* following: the path names another file now (rotation), and the old one is read to its end */
    LINES_REPLACED,
    LINES_ERROR /* errno tells */
};

typedef struct lines {
    const char *path; /* NULL: standard input */
    int fd;
    bool regular, follow;
    bool ended;      /* a pipe's end was seen */
    uint64_t offset; /* in the source, of the first byte that has not been given out */
    char *buffer;
    /* begin <= scanned <= end <= capacity; no newline in [begin, scanned) */
    size_t capacity, begin, scanned, end;
} lines;

/* The last bytes before a place in the source: at most LINES_TAIL_MAX, fewer at its beginning. */
enum { LINES_TAIL_MAX = 72 };

/* path NULL: standard input. 0, or -1 with errno. */
int lines_open(lines *l, const char *path, bool follow);
void lines_close(lines *l);
/* Goes on to `offset` from the start and gives the bytes before it. LINES_ONE: done; LINES_SHRUNK:
 * the source is shorter. */
enum lines_result lines_skip(lines *l, uint64_t offset, char tail[LINES_TAIL_MAX],
                             size_t *tail_size);
/* The next line; it lives until the next call. Never waits longer than a fifth of a second, so that
 * signals are seen. */
enum lines_result lines_next(lines *l, const char **line, size_t *size);
/* The next byte without taking it: LINES_ONE, WAIT, END, or an error. */
enum lines_result lines_peek(lines *l, char *byte);
void lines_drop_byte(lines *l);
/* Whether bytes of a begun line are waiting for their newline. */
bool lines_partial(const lines *l);
/* Size of a regular file now, else 0. */
uint64_t lines_total(const lines *l);

#endif
