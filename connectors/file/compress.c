/* SPDX-License-Identifier: Apache-2.0
 *
 * compress.c - see compress.h. zlib and zstd are optional: compress_available() is false in a build
 * without them.
 */
#include "connectors/file/compress.h"

#include <stdlib.h>
#include <string.h>

#if PAWL_WITH_ZLIB
#include <zlib.h>
#endif
#if PAWL_WITH_ZSTD
#include <zstd.h>
#endif

struct compressor {
    int kind;
#if PAWL_WITH_ZLIB
    z_stream gzip;
#endif
#if PAWL_WITH_ZSTD
    ZSTD_CCtx *zstd;
#endif
    char piece[65536];
};

bool compress_available(int kind) {
    return kind == COMPRESS_NONE || (kind == COMPRESS_GZIP && PAWL_WITH_ZLIB) ||
           (kind == COMPRESS_ZSTD && PAWL_WITH_ZSTD);
}

struct compressor *compress_new(int kind, int level) {
    struct compressor *c = calloc(1, sizeof *c);
    bool good = false;
    if (c == NULL)
        return NULL;
    c->kind = kind;
    (void)level;
#if PAWL_WITH_ZLIB
    if (kind == COMPRESS_GZIP) /* 15 + 16: a gzip header and the largest window */
        good = deflateInit2(&c->gzip, level != 0 ? level : Z_DEFAULT_COMPRESSION, Z_DEFLATED,
                            15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK;
#endif
#if PAWL_WITH_ZSTD
    if (kind == COMPRESS_ZSTD && (c->zstd = ZSTD_createCCtx()) != NULL)
        good = !ZSTD_isError(ZSTD_CCtx_setParameter(c->zstd, ZSTD_c_compressionLevel, level)) &&
               !ZSTD_isError(ZSTD_CCtx_setParameter(c->zstd, ZSTD_c_checksumFlag, 1));
#endif
    if (good)
        return c;
    compress_free(c);
    return NULL;
}

bool compress_add(struct compressor *c, struct buffer *out, const void *bytes, size_t size,
                  bool end) {
    (void)c; /* unused in a build with neither library */
#if PAWL_WITH_ZLIB
    if (c->kind == COMPRESS_GZIP) {
        int rc = Z_OK;
        c->gzip.next_in = (Bytef *)(uintptr_t)bytes; /* zlib only reads it */
        c->gzip.avail_in = (uInt)size;
        do {
            c->gzip.next_out = (Bytef *)c->piece;
            c->gzip.avail_out = sizeof c->piece;
            rc = deflate(&c->gzip, end ? Z_FINISH : Z_NO_FLUSH);
            if (rc == Z_STREAM_ERROR ||
                !buffer_add(out, c->piece, sizeof c->piece - c->gzip.avail_out))
                return false;
        } while (c->gzip.avail_out == 0 || (end && rc != Z_STREAM_END));
        return !end || deflateReset(&c->gzip) == Z_OK;
    }
#endif
#if PAWL_WITH_ZSTD
    if (c->kind == COMPRESS_ZSTD) {
        ZSTD_inBuffer in = {bytes, size, 0};
        size_t left;
        do {
            ZSTD_outBuffer piece = {c->piece, sizeof c->piece, 0};
            left = ZSTD_compressStream2(c->zstd, &piece, &in, end ? ZSTD_e_end : ZSTD_e_continue);
            if (ZSTD_isError(left) || !buffer_add(out, c->piece, piece.pos))
                return false;
        } while (in.pos < in.size || (end && left != 0));
        return true;
    }
#endif
    (void)end;
    return buffer_add(out, bytes, size);
}

void compress_reset(struct compressor *c) {
    (void)c;
#if PAWL_WITH_ZLIB
    if (c != NULL && c->kind == COMPRESS_GZIP)
        deflateReset(&c->gzip);
#endif
#if PAWL_WITH_ZSTD
    if (c != NULL && c->kind == COMPRESS_ZSTD)
        ZSTD_CCtx_reset(c->zstd, ZSTD_reset_session_only);
#endif
}

void compress_free(struct compressor *c) {
#if PAWL_WITH_ZLIB
    if (c != NULL && c->kind == COMPRESS_GZIP)
        deflateEnd(&c->gzip);
#endif
#if PAWL_WITH_ZSTD
    if (c != NULL && c->kind == COMPRESS_ZSTD)
        ZSTD_freeCCtx(c->zstd);
#endif
    free(c);
}
