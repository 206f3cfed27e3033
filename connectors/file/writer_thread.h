/* SPDX-License-Identifier: Apache-2.0
 *
 * A thread that writes finished bytes while its owner makes more: one job at a time. All calls on
 * one `writer` come from one thread.
 */
#ifndef PAWL_CONNECTORS_WRITER_THREAD_H
#define PAWL_CONNECTORS_WRITER_THREAD_H

#include "connectors/runtime/connect.h"
#include "connectors/text/buffer.h"

struct writer;
/* NULL: no memory. The thread starts with the first job. */
struct writer *writer_new(void);
/* Waits for the job in flight, then frees. Accepts NULL. */
void writer_free(struct writer *b);

/* Waits for the previous job, then submits a write of the buffer's bytes at `offset` and asks the
 * kernel to start writing them to the device. Takes over the bytes and leaves an empty buffer in
 * their place. Returns 0, or -1 with errno if the previous job failed or the thread could not be
 * started; then nothing was submitted. */
int writer_write(struct writer *b, int fd, struct buffer *bytes, uint64_t offset);
/* Waits for the job in flight. Returns 0, or -1 with its errno. */
int writer_wait(struct writer *b);

/* Writes all of the bytes in the caller's thread, without starting the device. Returns 0, or -1
 * with errno. */
int write_whole(int fd, const struct buffer *bytes, uint64_t offset);

#endif
