/* SPDX-License-Identifier: Apache-2.0
 *
 * What a compression library must do for decompress.c: a stream of bytes in, a stream of bytes out.
 */
#ifndef PAWL_CONNECTORS_DECODER_H
#define PAWL_CONNECTORS_DECODER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Of each array: the bytes that are left. step() moves the pointers. */
struct decoder_bytes {
    const uint8_t *in;
    size_t in_len;
    uint8_t *out;
    size_t out_len;
};

struct decoder {
    /* NULL: no memory. */
    void *(*make)(void);
    /* Called before each member. False: no memory. */
    bool (*begin)(void *self);
    /* Decompresses. *ended: the member is complete, its checksum too. Returns NULL, or a static
     * text that says what is wrong: decoder_no_memory, or damage. A step that neither takes nor
     * gives a byte needs more input. */
    const char *(*step)(void *self, struct decoder_bytes *b, bool *ended);
    void (*free)(void *self);
};

extern const char decoder_no_memory[];
extern const struct decoder decoder_gzip, decoder_zstd, decoder_xz, decoder_bzip2;

#endif
