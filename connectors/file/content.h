/* SPDX-License-Identifier: Apache-2.0
 *
 * The bytes of one open file, as the reader of lines and the search for a position see them. Every
 * offset of the sources `file` and `dir` is an offset into these bytes; a decoder belongs here.
 *
 * One thread at a time uses a content. tail_prefetch.c lends it to its thread for one read.
 */
#ifndef PAWL_CONNECTORS_CONTENT_H
#define PAWL_CONNECTORS_CONTENT_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "connectors/file/decompress.h"

struct content {
    int fd;                    /* -1: closed */
    struct decompress *unpack; /* NULL: a plain file */
};
#define CONTENT_INIT \
    { -1, NULL }

/* Opens the bytes of `fd` and takes ownership of it. A compressed file, whatever its name, has its
 * uncompressed bytes. `name` (without a directory) is the file's name now. Returns 0, or -1 with
 * errno (ENOTSUP: this build can't read that format); then fd is closed. */
int content_open(struct content *c, int fd, const char *name);
/* Reads until `size` bytes are read or the bytes end. Returns the bytes read, or -1 with errno. */
ssize_t content_read(struct content *c, void *buf, size_t size, uint64_t offset);
/* True if the file may have `size` bytes. Of a compressed file that isn't known before they are
 * read. -1 with errno. */
int content_may_have(const struct content *c, uint64_t size);
/* After a read that gave less than it was asked for: where do the bytes end? WHOLE: at the end of
 * the file, as those of a plain file always do. CUT: at the end of the file, in the middle of what
 * was compressed; it may still be written, and later reads go on. DAMAGED: before the end of the
 * file. */
enum decompress_state content_state(const struct content *c);
/* Says it in words, with the number of bytes; "" for WHOLE. */
void content_why(const struct content *c, char *text, size_t size);
/* Asks the kernel to read ahead. */
void content_will_need(struct content *c, uint64_t offset, size_t size);
/* Closes the file. Safe if it is closed. */
void content_close(struct content *c);

#endif
