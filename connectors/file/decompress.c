/* SPDX-License-Identifier: Apache-2.0
 *
 * decompress.c - see decompress.h. A format is a row of `formats`, and a decoder (decoders.c) if a
 * library for it was found.
 */
#include "connectors/file/decompress.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "connectors/file/decoder.h"

/* ---- formats */

struct row {
    struct decompress_format format;
    const struct decoder *decoder;
    const char *magic;
    uint8_t magic_len;
    /* where a file has no more bytes yet, this number of them is enough: they are no text */
    uint8_t least;
};

#if PAWL_WITH_ZLIB
#define GZIP &decoder_gzip
#else
#define GZIP NULL
#endif
#if PAWL_WITH_ZSTD
#define ZSTD &decoder_zstd
#else
#define ZSTD NULL
#endif
#if PAWL_WITH_LZMA
#define XZ &decoder_xz
#else
#define XZ NULL
#endif
#if PAWL_WITH_BZIP2
#define BZIP2 &decoder_bzip2
#else
#define BZIP2 NULL
#endif

/* bzip2 has two rows, since its magic goes on with that of a first block, or of the end; so no text
 * is taken for it. The formats without a library are known in order not to be read as lines. */
static const struct row rows[] = {
    {{"gzip", ".gz", "zlib", PAWL_WITH_ZLIB}, GZIP, "\x1F\x8B\x08", 3, 2},
    {{"zstd", ".zst", "libzstd", PAWL_WITH_ZSTD}, ZSTD, "\x28\xB5\x2F\xFD", 4, 2},
    {{"xz", ".xz", "liblzma", PAWL_WITH_LZMA},
     XZ,
     "\xFD"
     "7zXZ\0",
     6,
     2},
    {{"bzip2", ".bz2", "libbz2", PAWL_WITH_BZIP2}, BZIP2, "BZh?1AY&SY", 10, 10},
    {{"bzip2", ".bz2", "libbz2", PAWL_WITH_BZIP2}, BZIP2, "BZh?\x17\x72\x45\x38\x50\x90", 10, 10},
    {{"lz4", ".lz4", NULL, false}, NULL, "\x04\x22\x4D\x18", 4, 2},
    {{"compress", ".Z", NULL, false}, NULL, "\x1F\x9D", 2, 2},
    {{"zip", ".zip", NULL, false}, NULL, "PK\x03\x04", 4, 4},
    {{"lzip", ".lz", NULL, false}, NULL, "LZIP\x01", 5, 5},
    {{"lzop", ".lzo", NULL, false}, NULL, "\x89LZO\0\r\n", 7, 2},
    {{"7z", ".7z", NULL, false}, NULL, "7z\xBC\xAF\x27\x1C", 6, 3},
};
#define ROW_ZSTD (&rows[1])
#define ROWS (sizeof rows / sizeof rows[0])

/* True if the first bytes agree, as far as there are any; '?' stands for a digit. */
static bool agrees(const struct row *r, const uint8_t *bytes, size_t n) {
    n = n < r->magic_len ? n : r->magic_len;
    for (size_t i = 0; i < n; i++)
        if (bytes[i] != (uint8_t)r->magic[i] &&
            (r->magic[i] != '?' || bytes[i] < '1' || bytes[i] > '9'))
            return false;
    return true;
}

/* A zstd file may have frames without content, and begin with one. */
static bool skippable(const struct row *r, const uint8_t *bytes, size_t n) {
    static const uint8_t magic[] = {0x50, 0x2A, 0x4D, 0x18};
    return r == ROW_ZSTD && (n < 1 || (bytes[0] & 0xF0) == magic[0]) &&
           (n < 2 || memcmp(bytes + 1, magic + 1, n < 4 ? n - 1 : 3) == 0);
}

const struct decompress_format *decompress_format(const void *bytes, size_t n) {
    for (size_t i = 0; i < ROWS; i++)
        if ((n >= rows[i].least && agrees(&rows[i], bytes, n)) ||
            (n >= 4 && skippable(&rows[i], bytes, n)))
            return &rows[i].format;
    return NULL;
}

const struct decompress_format *decompress_format_of(int fd) {
    uint8_t bytes[DECOMPRESS_MAGIC];
    ssize_t n;
    while ((n = pread(fd, bytes, sizeof bytes, 0)) < 0 && errno == EINTR) {
    }
    return n > 0 ? decompress_format(bytes, (size_t)n) : NULL;
}

size_t decompress_stem(const char *name) {
    size_t n = strlen(name);
    for (size_t i = 0; i < ROWS; i++) {
        size_t end = strlen(rows[i].format.suffix);
        if (n > end && strcmp(name + n - end, rows[i].format.suffix) == 0)
            return n - end;
    }
    return 0;
}

/* ---- reading */

struct decompress {
    int fd;
    const struct row *row;
    void *decoder; /* NULL: the allocation failed; the next read tries again */
    enum decompress_state state;
    int error;        /* FAILED: errno */
    const char *what; /* DAMAGED */
    bool inside;      /* a member was begun and hasn't ended */
    bool behind;      /* a member has ended */
    uint8_t in[65536];
    size_t in_at, in_len;
    uint64_t file_at; /* offset of the byte after `in` */
    uint8_t *out;     /* the last bytes that were decompressed */
    size_t out_len, out_cap;
    size_t keep;       /* number of them that stay */
    uint64_t out_from; /* offset of out[0], in uncompressed bytes */
};

struct decompress *decompress_new(int fd, const struct decompress_format *format) {
    const struct row *row = NULL;
    for (size_t i = 0; i < ROWS; i++)
        if (&rows[i].format == format)
            row = &rows[i];
    if (row == NULL || row->decoder == NULL) {
        errno = ENOTSUP;
        return NULL;
    }
    struct decompress *d = calloc(1, sizeof *d);
    if (d == NULL)
        return NULL;
    d->fd = fd;
    d->row = row;
    d->keep = DECOMPRESS_BACK;
    return d;
}

void decompress_free(struct decompress *d) {
    if (d == NULL)
        return;
    if (d->decoder != NULL)
        d->row->decoder->free(d->decoder);
    free(d->out);
    free(d);
}

static bool rewind_all(struct decompress *d) {
    if (d->decoder != NULL)
        d->row->decoder->free(d->decoder);
    d->decoder = d->row->decoder->make();
    d->state = DECOMPRESS_READING;
    d->inside = d->behind = false;
    d->in_at = d->in_len = d->out_len = 0;
    d->file_at = d->out_from = 0;
    if (d->decoder == NULL) {
        d->state = DECOMPRESS_FAILED;
        d->error = ENOMEM;
    }
    return d->decoder != NULL;
}

/* Reads more of the file, behind what is left in `in`. False: there is no more, or it failed. */
static bool fill_in(struct decompress *d) {
    ssize_t n;
    memmove(d->in, d->in + d->in_at, d->in_len - d->in_at);
    d->in_len -= d->in_at;
    d->in_at = 0;
    while ((n = pread(d->fd, d->in + d->in_len, sizeof d->in - d->in_len, (off_t)d->file_at)) < 0 &&
           errno == EINTR) {
    }
    if (n < 0) {
        d->state = DECOMPRESS_FAILED;
        d->error = errno;
        return false;
    }
    d->in_len += (size_t)n;
    d->file_at += (uint64_t)n;
    return n > 0;
}

static bool damaged(struct decompress *d, const char *what) {
    d->state = DECOMPRESS_DAMAGED;
    d->what = what;
    return false;
}

/* Between two members: skips NULs, and finds the next one. False: there is none. */
static bool next_member(struct decompress *d) {
    for (;;) {
        while (d->behind && d->in_at < d->in_len && d->in[d->in_at] == 0)
            d->in_at++;
        size_t n = d->in_len - d->in_at;
        if (n < d->row->magic_len && fill_in(d))
            continue;
        if (d->state == DECOMPRESS_FAILED)
            return false;
        bool possible = false;
        for (size_t i = 0; i < ROWS; i++)
            possible |=
                rows[i].decoder == d->row->decoder &&
                (agrees(&rows[i], d->in + d->in_at, n) || skippable(&rows[i], d->in + d->in_at, n));
        if (!possible)
            return damaged(d, "what follows a complete part is no such file");
        if (n < d->row->magic_len) {
            d->state = n == 0 && d->behind ? DECOMPRESS_WHOLE : DECOMPRESS_CUT;
            return false;
        }
        if (!d->row->decoder->begin(d->decoder)) {
            d->state = DECOMPRESS_FAILED;
            d->error = ENOMEM;
            return false;
        }
        d->inside = true;
        return true;
    }
}

/* Room for more output: drops what is older than `keep`. False: no memory. */
static bool room(struct decompress *d) {
    size_t cap = 2 * d->keep;
    if (d->out_cap < cap) {
        uint8_t *more = realloc(d->out, cap);
        if (more == NULL) {
            d->state = DECOMPRESS_FAILED;
            d->error = ENOMEM;
            return false;
        }
        d->out = more;
        d->out_cap = cap;
    }
    if (d->out_len == d->out_cap) {
        size_t drop = d->out_len - d->keep;
        memmove(d->out, d->out + drop, d->keep);
        d->out_len = d->keep;
        d->out_from += drop;
    }
    return true;
}

/* Decompresses some more. False: nothing more can be had now; `state` says why. */
static bool go_on(struct decompress *d) {
    if (d->state == DECOMPRESS_DAMAGED || !room(d))
        return false;
    d->state = DECOMPRESS_READING;
    if (!d->inside && !next_member(d))
        return false;
    bool ended = false;
    struct decoder_bytes b = {d->in + d->in_at, d->in_len - d->in_at, d->out + d->out_len,
                              d->out_cap - d->out_len};
    size_t in = b.in_len, out = b.out_len;
    const char *fault = d->row->decoder->step(d->decoder, &b, &ended);
    d->in_at = d->in_len - b.in_len;
    d->out_len = d->out_cap - b.out_len;
    if (fault == decoder_no_memory) {
        d->state = DECOMPRESS_FAILED;
        d->error = ENOMEM;
        d->row->decoder->free(d->decoder);
        d->decoder = NULL; /* so the next read begins anew */
        return false;
    }
    if (fault != NULL)
        return damaged(d, fault);
    if (ended) {
        d->inside = false;
        d->behind = true;
        return true;
    }
    if (b.out_len != out || (b.in_len != in && b.in_len != 0) || fill_in(d))
        return true;
    if (d->state != DECOMPRESS_FAILED)
        d->state = DECOMPRESS_CUT;
    return false;
}

ssize_t decompress_read(struct decompress *d, void *buf, size_t size, uint64_t offset) {
    if (d->keep < size + DECOMPRESS_BACK)
        d->keep = size + DECOMPRESS_BACK;
    if ((d->decoder == NULL || offset < d->out_from) && !rewind_all(d)) {
        errno = d->error;
        return -1;
    }
    while (d->out_from + d->out_len < offset + size && go_on(d)) {
    }
    if (d->state == DECOMPRESS_FAILED) {
        errno = d->error;
        return -1;
    }
    uint64_t end = d->out_from + d->out_len;
    if (end <= offset)
        return 0;
    size_t n = end - offset < size ? (size_t)(end - offset) : size;
    memcpy(buf, d->out + (offset - d->out_from), n);
    return (ssize_t)n;
}

enum decompress_state decompress_state(const struct decompress *d) {
    return d->state;
}

void decompress_reached(const struct decompress *d, uint64_t *in, uint64_t *out) {
    *in = d->file_at - (d->in_len - d->in_at);
    *out = d->out_from + d->out_len;
}

void decompress_why(const struct decompress *d, char *text, size_t size) {
    uint64_t in, out;
    const char *name = d->row->format.name;
    decompress_reached(d, &in, &out);
    text[0] = 0;
    if (d->state == DECOMPRESS_CUT)
        snprintf(text, size,
                 "the %s file ends in the middle, at byte %" PRIu64 ", after %" PRIu64
                 " uncompressed bytes",
                 name, in, out);
    else if (d->state == DECOMPRESS_DAMAGED)
        snprintf(text, size,
                 "the %s file is damaged near byte %" PRIu64 ", after %" PRIu64
                 " uncompressed bytes: %s",
                 name, in, out, d->what);
    else if (d->state == DECOMPRESS_FAILED)
        snprintf(text, size, "the %s file can't be read: %s", name, strerror(d->error));
}
