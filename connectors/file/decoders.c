/* SPDX-License-Identifier: Apache-2.0
 *
 * decoders.c - see decoder.h. Each library is optional.
 */
#include <limits.h>
#include <stdlib.h>

#include "connectors/file/decoder.h"
#include "connectors/file/decompress.h"

#if PAWL_WITH_ZLIB
#include <zlib.h>
#endif
#if PAWL_WITH_ZSTD
#include <zstd.h>
#include <zstd_errors.h>
#endif
#if PAWL_WITH_LZMA
#include <lzma.h>
#endif
#if PAWL_WITH_BZIP2
#include <bzlib.h>
#endif

const char decoder_no_memory[] = "no memory";

static const char wrong[] = "the bytes there, or a checksum, are wrong";
static const char window[] = "it needs more than 128 MiB of memory to decompress";

/* The libraries take lengths as unsigned int. */
static unsigned int length(size_t n) {
    return n < UINT_MAX ? (unsigned int)n : UINT_MAX;
}

#if PAWL_WITH_ZLIB

static void *gzip_make(void) {
    z_stream *z = calloc(1, sizeof *z);
    if (z != NULL && inflateInit2(z, 15 + 16) != Z_OK) { /* with a gzip header */
        free(z);
        z = NULL;
    }
    return z;
}

static bool gzip_begin(void *self) {
    return inflateReset(self) == Z_OK;
}

static const char *gzip_step(void *self, struct decoder_bytes *b, bool *ended) {
    z_stream *z = self;
    z->next_in = (Bytef *)(uintptr_t)b->in; /* zlib only reads it */
    z->avail_in = length(b->in_len);
    z->next_out = b->out;
    z->avail_out = length(b->out_len);
    int rc = inflate(z, Z_NO_FLUSH);
    b->in_len -= (size_t)(z->next_in - b->in);
    b->in = z->next_in;
    b->out_len -= (size_t)(z->next_out - b->out);
    b->out = z->next_out;
    *ended = rc == Z_STREAM_END;
    return rc == Z_OK || rc == Z_STREAM_END || rc == Z_BUF_ERROR ? NULL
           : rc == Z_MEM_ERROR                                   ? decoder_no_memory
                                                                 : wrong;
}

static void gzip_free(void *self) {
    inflateEnd(self);
    free(self);
}

const struct decoder decoder_gzip = {gzip_make, gzip_begin, gzip_step, gzip_free};

#endif
#if PAWL_WITH_ZSTD

static void *zstd_make(void) {
    ZSTD_DCtx *z = ZSTD_createDCtx();
    if (z != NULL && ZSTD_isError(ZSTD_DCtx_setParameter(z, ZSTD_d_windowLogMax, 27))) {
        ZSTD_freeDCtx(z);
        z = NULL;
    }
    return z;
}

static bool zstd_begin(void *self) {
    return !ZSTD_isError(ZSTD_DCtx_reset(self, ZSTD_reset_session_only));
}

static const char *zstd_step(void *self, struct decoder_bytes *b, bool *ended) {
    ZSTD_inBuffer in = {b->in, b->in_len, 0};
    ZSTD_outBuffer out = {b->out, b->out_len, 0};
    size_t rc = ZSTD_decompressStream(self, &out, &in);
    b->in += in.pos;
    b->in_len -= in.pos;
    b->out += out.pos;
    b->out_len -= out.pos;
    *ended = rc == 0;
    if (!ZSTD_isError(rc))
        return NULL;
    ZSTD_ErrorCode code = ZSTD_getErrorCode(rc);
    return code == ZSTD_error_memory_allocation               ? decoder_no_memory
           : code == ZSTD_error_frameParameter_windowTooLarge ? window
                                                              : wrong;
}

static void zstd_free(void *self) {
    ZSTD_freeDCtx(self);
}

const struct decoder decoder_zstd = {zstd_make, zstd_begin, zstd_step, zstd_free};

#endif
#if PAWL_WITH_LZMA

static void *xz_make(void) {
    return calloc(1, sizeof(lzma_stream));
}

static bool xz_begin(void *self) {
    lzma_stream *z = self;
    lzma_end(z);
    *z = (lzma_stream)LZMA_STREAM_INIT;
    return lzma_stream_decoder(z, DECOMPRESS_WINDOW, 0) == LZMA_OK;
}

static const char *xz_step(void *self, struct decoder_bytes *b, bool *ended) {
    lzma_stream *z = self;
    z->next_in = b->in;
    z->avail_in = b->in_len;
    z->next_out = b->out;
    z->avail_out = b->out_len;
    lzma_ret rc = lzma_code(z, LZMA_RUN);
    b->in = z->next_in;
    b->in_len = z->avail_in;
    b->out = z->next_out;
    b->out_len = z->avail_out;
    *ended = rc == LZMA_STREAM_END;
    return rc == LZMA_OK || rc == LZMA_STREAM_END || rc == LZMA_BUF_ERROR ? NULL
           : rc == LZMA_MEM_ERROR                                         ? decoder_no_memory
           : rc == LZMA_MEMLIMIT_ERROR                                    ? window
                                                                          : wrong;
}

static void xz_free(void *self) {
    lzma_end(self);
    free(self);
}

const struct decoder decoder_xz = {xz_make, xz_begin, xz_step, xz_free};

#endif
#if PAWL_WITH_BZIP2

struct bzip2 {
    bz_stream z;
    bool begun;
};

static void *bzip2_make(void) {
    return calloc(1, sizeof(struct bzip2));
}

static bool bzip2_begin(void *self) {
    struct bzip2 *s = self;
    if (s->begun)
        BZ2_bzDecompressEnd(&s->z);
    s->z = (bz_stream){0};
    s->begun = BZ2_bzDecompressInit(&s->z, 0, 0) == BZ_OK;
    return s->begun;
}

static const char *bzip2_step(void *self, struct decoder_bytes *b, bool *ended) {
    struct bzip2 *s = self;
    s->z.next_in = (char *)(uintptr_t)b->in; /* libbz2 only reads it */
    s->z.avail_in = length(b->in_len);
    s->z.next_out = (char *)b->out;
    s->z.avail_out = length(b->out_len);
    int rc = BZ2_bzDecompress(&s->z);
    size_t taken = (size_t)((const uint8_t *)s->z.next_in - b->in),
           given = (size_t)((uint8_t *)s->z.next_out - b->out);
    b->in += taken;
    b->in_len -= taken;
    b->out += given;
    b->out_len -= given;
    *ended = rc == BZ_STREAM_END;
    return rc == BZ_OK || rc == BZ_STREAM_END ? NULL
           : rc == BZ_MEM_ERROR               ? decoder_no_memory
                                              : wrong;
}

static void bzip2_free(void *self) {
    struct bzip2 *s = self;
    if (s->begun)
        BZ2_bzDecompressEnd(&s->z);
    free(s);
}

const struct decoder decoder_bzip2 = {bzip2_make, bzip2_begin, bzip2_step, bzip2_free};

#endif
