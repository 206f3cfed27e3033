/* SPDX-License-Identifier: Apache-2.0
 *
 * A thread that writes what its owner has made while the owner makes more: one job at a time. The
 * owner's calls of one `behind` come from one thread.
 */
#ifndef PAWL_CONNECTORS_BEHIND_H
#define PAWL_CONNECTORS_BEHIND_H

#include "connectors/runtime/connect.h"
#include "connectors/text/buffer.h"

struct behind;
/* NULL: no memory. The thread begins with the first job. */
struct behind *behind_new(void);
/* Waits for the job under way, and frees. Safe with NULL. */
void behind_free(struct behind *b);

/* Waits for the job before. Takes over the buffer's bytes, and leaves it another one to fill; they
 * are written at `offset`, and the device is told to begin with them. What became of it, and of the
 * jobs before that were not waited for: 0, or -1 with errno (then nothing new was begun). */
int behind_write(struct behind *b, int fd, struct buffer *bytes, uint64_t offset);
/* Waits for the job before, and begins fdatasync(). As above. */
int behind_sync(struct behind *b, int fd);
/* Waits for what is under way: 0, or -1 with errno. */
int behind_wait(struct behind *b);

/* The same in the caller's own thread, with nothing told to the device: all of the bytes, or -1
 * with errno. */
int write_whole(int fd, const struct buffer *bytes, uint64_t offset);

#endif
