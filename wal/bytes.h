/* SPDX-License-Identifier: Apache-2.0
 *
 * bytes.h - little-endian integers in memory, and a string of bytes that grows. What the integers
 * mean on disk is known in wal/format*.c only (tests/layering.sh).
 */
#ifndef PAWL_WAL_BYTES_H
#define PAWL_WAL_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the encoders assume a little-endian machine"
#endif

static inline uint64_t align_up(uint64_t x, uint64_t n) {
    return (x + n - 1) / n * n;
}
static inline uint16_t get16(const void *p) {
    uint16_t v;
    memcpy(&v, p, 2);
    return v;
}
static inline uint32_t get32(const void *p) {
    uint32_t v;
    memcpy(&v, p, 4);
    return v;
}
static inline uint64_t get64(const void *p) {
    uint64_t v;
    memcpy(&v, p, 8);
    return v;
}
static inline void put16(void *p, uint16_t v) {
    memcpy(p, &v, 2);
}
static inline void put32(void *p, uint32_t v) {
    memcpy(p, &v, 4);
}
static inline void put64(void *p, uint64_t v) {
    memcpy(p, &v, 8);
}

bool all_zero(const void *data, size_t len);
/* Do `size` bytes at `at` lie within `len`? */
static inline bool bytes_fit(uint64_t len, uint64_t at, uint64_t size) {
    return at <= len && size <= len - at;
}
/* As memcmp(); a string comes before every longer one that it begins. */
static inline int bytes_compare(const uint8_t *a, size_t a_len, const uint8_t *b, size_t b_len) {
    int order = memcmp(a, b, a_len < b_len ? a_len : b_len);
    return order != 0 ? order : (a_len > b_len) - (a_len < b_len);
}

/* A string of bytes that grows as it is added to. `failed` stays set once memory was refused. */
struct mem;
struct bytes {
    uint8_t *data;
    size_t len, cap;
    struct mem *mem;
    bool failed;
};
void bytes_init(struct bytes *b, struct mem *m);
void bytes_free(struct bytes *b);
uint8_t *bytes_add(struct bytes *b, size_t len);  /* zeroed space, or NULL */
uint8_t *bytes_grow(struct bytes *b, size_t len); /* space that is not zeroed, or NULL */
bool bytes_put(struct bytes *b, const void *data, size_t len);
static inline uint8_t *bytes_room(struct bytes *b, size_t len) { /* as bytes_grow() */
    if (b->failed || b->data == NULL || len > b->cap - b->len)
        return bytes_grow(b, len);
    uint8_t *at = b->data + b->len;
    b->len += len;
    return at;
}
/* A copy that is mostly a few words long: no call for up to 32 bytes, also where memcpy() would
 * check the size of an array. */
typedef uint64_t __attribute__((may_alias, aligned(1))) word_anywhere;
static inline void copy_word(uint8_t *to, const uint8_t *from) {
    *(word_anywhere *)to = *(const word_anywhere *)from;
}
static inline bool same_word(const uint8_t *a, const uint8_t *b) {
    return *(const word_anywhere *)a == *(const word_anywhere *)b;
}
static inline void copy_short(uint8_t *to, const uint8_t *from, size_t len) {
    if (len > 32) {
        memcpy(to, from, len);
    } else if (len >= 16) {
        copy_word(to, from);
        copy_word(to + 8, from + 8);
        copy_word(to + len - 16, from + len - 16);
        copy_word(to + len - 8, from + len - 8);
    } else if (len >= 8) {
        copy_word(to, from);
        copy_word(to + len - 8, from + len - 8);
    } else {
        for (size_t i = 0; i < len; i++)
            to[i] = from[i];
    }
}
/* A long copy in pieces that the C library does with vector moves: what it does with longer ones
 * (`rep movsb`) is no faster here. */
void copy_long(uint8_t *to, const uint8_t *from, size_t len);

#endif
