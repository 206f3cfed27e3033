/* SPDX-License-Identifier: Apache-2.0
 *
 * Compression of batches. Each batch is its own gzip member or zstd frame, so a file of several can
 * be cut between any two of them.
 */
#ifndef PAWL_CONNECTORS_COMPRESS_H
#define PAWL_CONNECTORS_COMPRESS_H

#include "connectors/runtime/connect.h"
#include "connectors/text/buffer.h"

enum compress_kind { COMPRESS_NONE = 0, COMPRESS_GZIP = 1, COMPRESS_ZSTD = 2 };
#define COMPRESS_KINDS "none|gzip|zstd"

struct compressor;

/* compress_available(): false if this build lacks the library. compress_new(): NULL if it lacks it
 * or memory is short; level 0 is the library's own choice. */
bool compress_available(int kind);
struct compressor *compress_new(int kind, int level);
/* Appends the compressed form of `size` bytes to `out`. `end` also ends the member, so that the
 * next call begins another. False: no memory, or the library failed. */
bool compress_add(struct compressor *c, struct buffer *out, const void *bytes, size_t size,
                  bool end);
/* Drops a member that was begun. */
void compress_reset(struct compressor *c);
void compress_free(struct compressor *c);

#endif
