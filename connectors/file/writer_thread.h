/* SPDX-License-Identifier: Apache-2.0
 *
 * A thread that writes what its owner has made while the owner makes more: one job at a time. The
 * owner's calls of one `writer` come from one thread.
 */
#ifndef PAWL_CONNECTORS_WRITER_THREAD_H
#define PAWL_CONNECTORS_WRITER_THREAD_H

#include "connectors/runtime/connect.h"
#include "connectors/text/buffer.h"

struct writer;
/* NULL: no memory. The thread begins with the first job. */
struct writer *writer_new(void);
/* Waits for the job under way, and frees. Safe with NULL. */
void writer_free(struct writer *b);

/* Waits for the job before. Takes over the buffer's bytes, and leaves it another one to fill; they
 * are written at `offset`, and the device is told to begin with them. What became of it, and of the
 * jobs before that were not waited for: 0, or -1 with errno (then nothing new was begun). */
int writer_write(struct writer *b, int fd, struct buffer *bytes, uint64_t offset);
/* Waits for the job before, and begins fdatasync(). As above. */
int writer_sync(struct writer *b, int fd);
/* Waits for what is under way: 0, or -1 with errno. */
int writer_wait(struct writer *b);

/* The same in the caller's own thread, with nothing told to the device: all of the bytes, or -1
 * with errno. */
int write_whole(int fd, const struct buffer *bytes, uint64_t offset);

#endif
