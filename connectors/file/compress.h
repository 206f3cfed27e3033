/* SPDX-License-Identifier: Apache-2.0
 *
 * Compression of a batch: each is a gzip member or a zstd frame of its own, so that a file of
 * several can be cut between any two of them.
 */
#ifndef PAWL_CONNECTORS_COMPRESS_H
#define PAWL_CONNECTORS_COMPRESS_H

#include "connectors/runtime/connect.h"
#include "connectors/text/buffer.h"

enum compress_kind { COMPRESS_NONE = 0, COMPRESS_GZIP = 1, COMPRESS_ZSTD = 2 };
#define COMPRESS_KINDS "none|gzip|zstd"

struct compressor;

/* False: not in this build, or no memory. level 0: the library's own choice. */
bool compress_available(int kind);
struct compressor *compress_new(int kind, int level);
/* Appends the compressed form of `size` bytes to `out`; `end`: and ends the member, so that the
 * next call begins another. */
bool compress_add(struct compressor *c, struct buffer *out, const void *bytes, size_t size,
                  bool end);
/* Forgets a member that was begun. */
void compress_reset(struct compressor *c);
void compress_free(struct compressor *c);

#endif
