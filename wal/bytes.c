/* SPDX-License-Identifier: Apache-2.0 */
#include "wal/bytes.h"

#include "wal/mem.h"

bool all_zero(const void *data, size_t len) {
    const uint8_t *p = data;
    if (len == 0)
        return true;
    return p[0] == 0 && memcmp(p, p + 1, len - 1) == 0;
}

void bytes_init(struct bytes *b, struct mem *m) {
    memset(b, 0, sizeof *b);
    b->mem = m;
}

void bytes_free(struct bytes *b) {
    mem_free(b->mem, b->data, b->cap);
    b->data = NULL;
    b->len = b->cap = 0;
}

uint8_t *bytes_grow(struct bytes *b, size_t len) {
    if (b->failed)
        return NULL;
    if (b->data == NULL || b->len + len > b->cap) { /* no bytes are at no place, either */
        size_t cap = b->cap < 256 ? 256 : b->cap * 2;
        while (cap < b->len + len)
            cap *= 2;
        uint8_t *p = mem_grow(b->mem, b->data, b->cap, cap);
        if (p == NULL && cap > b->len + len) {
            cap = b->len + len; /* near the memory cap, take no more than is needed */
            p = mem_grow(b->mem, b->data, b->cap, cap);
        }
        if (p == NULL) {
            b->failed = true;
            return NULL;
        }
        b->data = p;
        b->cap = cap;
    }
    uint8_t *at = b->data + b->len;
    b->len += len;
    return at;
}

uint8_t *bytes_add(struct bytes *b, size_t len) {
    uint8_t *at = bytes_room(b, len);
    if (at != NULL)
        memset(at, 0, len);
    return at;
}

/* The C library's own, which knows the processor's vectors: the compiler would put `rep movsq` in
 * its place. */
static void *(*const volatile library_memcpy)(void *, const void *, size_t) = memcpy;

void copy_long(uint8_t *to, const uint8_t *from, size_t len) {
    while (len != 0) {
        size_t n = len < 2048 ? len : 2048;
        library_memcpy(to, from, n);
        to += n;
        from += n;
        len -= n;
    }
}

bool bytes_put(struct bytes *b, const void *data, size_t len) {
    uint8_t *at = bytes_room(b, len);
    if (at == NULL)
        return false;
    copy_long(at, data, len);
    return true;
}
