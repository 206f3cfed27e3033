/* SPDX-License-Identifier: Apache-2.0
 *
 * lines.c - see lines.h.
 */
#include "cli/lines.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"

enum { CHUNK = 256 * 1024, POLL_MS = 200 };
/* The largest value of a record (pawl.h, LIMITS); a log with small segments or little memory takes
 * less, and says so itself. */
#define LINE_MAX_BYTES ((size_t)16 << 20)

int lines_open(lines *l, const char *path, bool follow) {
    *l = (lines){.path = path, .fd = STDIN_FILENO, .follow = follow};
    if (path != NULL) {
        l->fd = open(path, O_RDONLY | O_CLOEXEC);
        if (l->fd < 0)
            return -1;
    }
    struct stat st;
    if (fstat(l->fd, &st) != 0)
        return -1;
    if (S_ISDIR(st.st_mode)) {
        errno = EISDIR;
        return -1;
    }
    /* Standard input may be a file that a caller has read a part of: then its start is where it
     * stands. */
    l->regular = S_ISREG(st.st_mode) && lseek(l->fd, 0, SEEK_CUR) == 0;
    l->capacity = CHUNK;
    l->buffer = malloc(l->capacity);
    return l->buffer != NULL ? 0 : -1;
}

void lines_close(lines *l) {
    free(l->buffer);
    l->buffer = NULL;
    if (l->path != NULL && l->fd >= 0)
        close(l->fd);
    l->fd = -1;
}

uint64_t lines_total(const lines *l) {
    struct stat st;
    return l->regular && fstat(l->fd, &st) == 0 ? (uint64_t)st.st_size : 0;
}

bool lines_partial(const lines *l) {
    return l->begin != l->end;
}

/* Makes room after the bytes not yet given out. */
static enum lines_result make_room(lines *l) {
    if (l->begin > 0) {
        memmove(l->buffer, l->buffer + l->begin, l->end - l->begin);
        l->scanned -= l->begin;
        l->end -= l->begin;
        l->begin = 0;
    }
    if (l->capacity - l->end >= CHUNK / 2)
        return LINES_ONE;
    if (l->end > LINE_MAX_BYTES)
        return LINES_TOO_LONG;
    char *larger = realloc(l->buffer, l->capacity * 2);
    if (larger == NULL)
        return LINES_ERROR;
    l->buffer = larger;
    l->capacity *= 2;
    return LINES_ONE;
}

/* At the end of a file that is followed: what has become of it? */
static enum lines_result look_after_file(lines *l) {
    struct stat now, named;
    uint64_t reached = l->offset + (l->end - l->begin);
    if (fstat(l->fd, &now) != 0)
        return LINES_ERROR;
    if ((uint64_t)now.st_size < reached)
        return LINES_SHRUNK;
    if ((uint64_t)now.st_size > reached)
        return LINES_WAIT;
    if (l->path != NULL && stat(l->path, &named) == 0 &&
        (named.st_dev != now.st_dev || named.st_ino != now.st_ino))
        return LINES_REPLACED;
    cli_sleep_ms(POLL_MS);
    return LINES_WAIT;
}

/* Reads more: LINES_ONE if some came, WAIT, END, or an error. */
static enum lines_result fill(lines *l) {
    if (l->ended)
        return LINES_END;
    enum lines_result room = make_room(l);
    if (room != LINES_ONE)
        return room;
    if (!l->regular) {
        struct pollfd ready = {.fd = l->fd, .events = POLLIN};
        if (poll(&ready, 1, POLL_MS) <= 0)
            return LINES_WAIT;
    }
    ssize_t got = read(l->fd, l->buffer + l->end, l->capacity - l->end);
    if (got > 0) {
        l->end += (size_t)got;
        return LINES_ONE;
    }
    if (got < 0)
        return errno == EINTR || errno == EAGAIN ? LINES_WAIT : LINES_ERROR;
    if (l->regular && l->follow)
        return look_after_file(l);
    l->ended = true;
    return LINES_END;
}

static void take(lines *l, size_t size) {
    l->begin += size;
    l->offset += size;
    if (l->scanned < l->begin)
        l->scanned = l->begin;
}

enum lines_result lines_next(lines *l, const char **line, size_t *size) {
    for (;;) {
        const char *newline =
            l->end > l->scanned ? memchr(l->buffer + l->scanned, '\n', l->end - l->scanned) : NULL;
        if (newline != NULL) {
            *line = l->buffer + l->begin;
            *size = (size_t)(newline - *line);
            if (*size > LINE_MAX_BYTES)
                return LINES_TOO_LONG;
            take(l, *size + 1);
            return LINES_ONE;
        }
        l->scanned = l->end;
        enum lines_result got = fill(l);
        if (got == LINES_ONE)
            continue;
        if (got != LINES_END || l->begin == l->end || l->follow)
            return got;
        *line = l->buffer + l->begin;
        *size = l->end - l->begin;
        if (*size > LINE_MAX_BYTES)
            return LINES_TOO_LONG;
        take(l, *size);
        return LINES_UNTERMINATED;
    }
}

enum lines_result lines_peek(lines *l, char *byte) {
    if (l->begin == l->end) {
        enum lines_result got = fill(l);
        if (got != LINES_ONE)
            return got;
    }
    *byte = l->buffer[l->begin];
    return LINES_ONE;
}

void lines_drop_byte(lines *l) {
    take(l, 1);
}

static enum lines_result skip_file(lines *l, uint64_t offset, char tail[LINES_TAIL_MAX],
                                   size_t *tail_size) {
    if (lines_total(l) < offset)
        return LINES_SHRUNK;
    size_t want = offset < LINES_TAIL_MAX ? (size_t)offset : LINES_TAIL_MAX;
    ssize_t got = pread(l->fd, tail, want, (off_t)(offset - want));
    if (got < 0 || lseek(l->fd, (off_t)offset, SEEK_SET) < 0)
        return LINES_ERROR;
    if ((size_t)got < want)
        return LINES_SHRUNK;
    *tail_size = want;
    l->offset = offset;
    return LINES_ONE;
}

enum lines_result lines_skip(lines *l, uint64_t offset, char tail[LINES_TAIL_MAX],
                             size_t *tail_size) {
    if (l->regular)
        return skip_file(l, offset, tail, tail_size);
    size_t kept = 0;
    while (l->offset < offset) {
        if (cli_stopping())
            return LINES_WAIT;
        enum lines_result got = l->begin < l->end ? LINES_ONE : fill(l);
        if (got == LINES_WAIT)
            continue;
        if (got != LINES_ONE)
            return got == LINES_END ? LINES_SHRUNK : got;
        uint64_t left = offset - l->offset;
        size_t chunk = l->end - l->begin;
        if (chunk > left)
            chunk = (size_t)left;
        /* Keep the last bytes: of this chunk, and before them what is left of the earlier ones. */
        size_t fresh = chunk < LINES_TAIL_MAX ? chunk : LINES_TAIL_MAX;
        size_t old = kept < LINES_TAIL_MAX - fresh ? kept : LINES_TAIL_MAX - fresh;
        memmove(tail, tail + (kept - old), old);
        memcpy(tail + old, l->buffer + l->begin + (chunk - fresh), fresh);
        kept = old + fresh;
        take(l, chunk);
    }
    *tail_size = kept;
    return LINES_ONE;
}
