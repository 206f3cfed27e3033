/* SPDX-License-Identifier: Apache-2.0
 *
 * Reads compressed files as pread() reads plain ones: by offset in the uncompressed bytes.
 *
 * Decompression is a stream. A read at a higher offset decompresses up to there; a read of bytes
 * that were read a moment ago takes them from memory; any other lower offset starts again from the
 * beginning. Memory is bounded by the largest read (twice, and DECOMPRESS_BACK bytes) and by the
 * limits of the decoders (DECOMPRESS_WINDOW), whatever the file contains.
 *
 * Members or frames that follow each other are read as one file. NULs after a member are padding.
 * What else follows a member is damage.
 */
#ifndef PAWL_CONNECTORS_DECOMPRESS_H
#define PAWL_CONNECTORS_DECOMPRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define DECOMPRESS_MAGIC 16u /* bytes that decompress_format() looks at */
#define DECOMPRESS_BACK (64u << 10)
#define DECOMPRESS_WINDOW (128u << 20) /* the largest window of a frame (zstd, xz) */

/* ---- formats */

struct decompress_format {
    const char *name;    /* "gzip" */
    const char *suffix;  /* of file names, ".gz" */
    const char *library; /* that reads it; NULL: nothing here reads this format */
    bool available;      /* this build has the library */
};

/* The format that the first bytes of a file show, whatever its name; NULL: not compressed. */
const struct decompress_format *decompress_format(const void *bytes, size_t n);
/* The same for an open file. */
const struct decompress_format *decompress_format_of(int fd);
/* The length of `name` without the suffix of a format; 0: it has none. */
size_t decompress_stem(const char *name);

/* ---- reading */

enum decompress_state {
    DECOMPRESS_READING = 0, /* its end has not been reached yet */
    DECOMPRESS_WHOLE = 1,   /* it was read to its end, and all members were complete */
    DECOMPRESS_CUT = 2,     /* it ends in the middle of a member: perhaps it is still written */
    DECOMPRESS_DAMAGED = 3, /* the bytes at `in` can't be decompressed */
    DECOMPRESS_FAILED = 4   /* the file could not be read, or memory was short: errno */
};

struct decompress;

/* NULL with errno: ENOMEM; ENOTSUP: this build lacks the library. `fd` stays the caller's, and must
 * stay open. */
struct decompress *decompress_new(int fd, const struct decompress_format *format);
/* Reads until `size` bytes are read or no more can be had; decompress_state() then says why. A
 * later call goes on where a file was cut and has grown since. Returns the bytes read, or -1 with
 * errno. */
ssize_t decompress_read(struct decompress *d, void *buf, size_t size, uint64_t offset);
enum decompress_state decompress_state(const struct decompress *d);
/* How far it got: *in is the offset in the file, *out in the uncompressed bytes. */
void decompress_reached(const struct decompress *d, uint64_t *in, uint64_t *out);
/* Says in words why reading ended before the end of the file; "" for WHOLE and READING. */
void decompress_why(const struct decompress *d, char *text, size_t size);
void decompress_free(struct decompress *d);

#endif
