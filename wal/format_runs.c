/* SPDX-License-Identifier: Apache-2.0
 *
 * Entries of runs; docs/format.md, sections 5 and 6. Every length read here is untrusted: a frame
 * whose hash is right may still have been written by a faulty program, so decoders check each bound
 * before use.
 */
#include <assert.h>

#include "wal/format.h"

/* What an encoder asserts, its decoder checks. */

void position_encode(struct bytes *b, const struct position_entry *e) {
    assert(e->from <= e->to); /* PAWL-4 */
    uint8_t *p = bytes_add(b, POSITION_ENTRY_SIZE);
    if (p == NULL)
        return;
    put32(p, e->processor);
    put32(p + 4, e->stream);
    put32(p + 8, e->partition);
    put64(p + 16, e->from);
    put64(p + 24, e->to);
}

bool position_decode(const uint8_t *data, uint32_t len, uint32_t *at, struct position_entry *e) {
    if (!bytes_fit(len, *at, POSITION_ENTRY_SIZE))
        return false;
    const uint8_t *p = data + *at;
    e->processor = get32(p);
    e->stream = get32(p + 4);
    e->partition = get32(p + 8);
    e->from = get64(p + 16);
    e->to = get64(p + 24);
    *at += POSITION_ENTRY_SIZE;
    return get32(p + 12) == 0 && e->from <= e->to;
}

void producer_encode(struct bytes *b, const struct producer_entry *e) {
    assert(e->first >= 1 && e->last + 1 >= e->first && e->cookie_len <= COOKIE_MAX); /* PAWL-3 */
    uint8_t *p = bytes_add(b, PRODUCER_ENTRY_SIZE);
    if (p == NULL)
        return;
    put32(p, e->producer);
    put32(p + 4, e->epoch);
    put64(p + 8, e->first);
    put64(p + 16, e->last);
    put32(p + 24, e->cookie_len);
    memcpy(p + 32, e->cookie, COOKIE_MAX);
}

bool producer_decode(const uint8_t *data, uint32_t len, uint32_t *at, struct producer_entry *e) {
    if (!bytes_fit(len, *at, PRODUCER_ENTRY_SIZE))
        return false;
    const uint8_t *p = data + *at;
    e->producer = get32(p);
    e->epoch = get32(p + 4);
    e->first = get64(p + 8);
    e->last = get64(p + 16);
    e->cookie_len = get32(p + 24);
    memcpy(e->cookie, p + 32, COOKIE_MAX);
    *at += PRODUCER_ENTRY_SIZE;
    return e->cookie_len <= COOKIE_MAX && e->first >= 1 && e->last + 1 >= e->first;
}

void catalog_encode(struct bytes *b, const struct catalog_entry *e) {
    assert(e->name_len <= NAME_LEN_MAX);
    uint8_t *p = bytes_add(b, (size_t)align_up(24u + e->name_len, 8));
    if (p == NULL)
        return;
    put16(p, e->op);
    put16(p + 2, e->name_len);
    put32(p + 4, e->id);
    put64(p + 8, e->a);
    put64(p + 16, e->b);
    if (e->name_len != 0)
        memcpy(p + 24, e->name, e->name_len);
}

bool catalog_decode(const uint8_t *data, uint32_t len, uint32_t *at, struct catalog_entry *e) {
    if (!bytes_fit(len, *at, 24))
        return false;
    const uint8_t *p = data + *at;
    e->op = get16(p);
    e->name_len = get16(p + 2);
    e->id = get32(p + 4);
    e->a = get64(p + 8);
    e->b = get64(p + 16);
    e->name = (const char *)p + 24;
    uint64_t size = align_up(24u + e->name_len, 8);
    if (e->name_len > NAME_LEN_MAX || !bytes_fit(len, *at, size))
        return false;
    *at += (uint32_t)size;
    return true;
}

void sink_encode(struct bytes *b, const struct sink_entry *e) {
    assert(e->name_len != 0 && e->name_len <= SINK_NAME_MAX);
    uint8_t *p = bytes_add(b, (size_t)align_up(8u + e->name_len, 8));
    if (p == NULL)
        return;
    put32(p, e->processor);
    put16(p + 4, e->op);
    put16(p + 6, e->name_len);
    memcpy(p + 8, e->name, e->name_len);
}

bool sink_decode(const uint8_t *data, uint32_t len, uint32_t *at, struct sink_entry *e) {
    if (!bytes_fit(len, *at, 8))
        return false;
    const uint8_t *p = data + *at;
    e->processor = get32(p);
    e->op = get16(p + 4);
    e->name_len = get16(p + 6);
    e->name = (const char *)p + 8;
    uint64_t size = align_up(8u + e->name_len, 8);
    if (e->name_len == 0 || e->name_len > SINK_NAME_MAX || !bytes_fit(len, *at, size))
        return false;
    *at += (uint32_t)size;
    return true;
}

void spilled_encode(struct bytes *b, const struct spilled_entry *e) {
    uint8_t *p = bytes_add(b, SPILLED_ENTRY_SIZE);
    if (p == NULL)
        return;
    put64(p, e->lsn);
    put64(p + 8, e->hash);
    put32(p + 16, e->run);
}

bool spilled_decode(const uint8_t *data, uint32_t len, struct spilled_entry *e) {
    if (len != SPILLED_ENTRY_SIZE)
        return false;
    e->lsn = get64(data);
    e->hash = get64(data + 8);
    e->run = get32(data + 16);
    return get32(data + 20) == 0;
}

void index_encode(struct bytes *b, const struct index_entry *e) {
    uint8_t *p = bytes_add(b, INDEX_ENTRY_SIZE);
    if (p == NULL)
        return;
    put32(p, e->stream);
    put32(p + 4, e->partition);
    put64(p + 8, e->base);
    put64(p + 16, e->lsn);
}

bool index_decode(const uint8_t *data, uint32_t len, uint32_t *at, struct index_entry *e) {
    if (!bytes_fit(len, *at, INDEX_ENTRY_SIZE))
        return false;
    const uint8_t *p = data + *at;
    e->stream = get32(p);
    e->partition = get32(p + 4);
    e->base = get64(p + 8);
    e->lsn = get64(p + 16);
    *at += INDEX_ENTRY_SIZE;
    return true;
}

/* Encoded length of the headers, or UINT32_MAX where a limit is passed. */
static inline uint32_t headers_size(const pawl_record *r) {
    if (r->raw_headers != NULL || r->header_count == 0)
        return r->raw_headers != NULL ? r->raw_headers_len : 0;
    uint32_t size = 0;
    for (uint32_t i = 0; i < r->header_count; i++) {
        size += 4u + r->headers[i].name_len + r->headers[i].value_len;
        if (size > UINT16_MAX)
            return UINT32_MAX;
    }
    return size;
}

uint64_t record_size(const pawl_record *r) {
    uint32_t headers = headers_size(r);
    if (headers == UINT32_MAX || r->value_len > RECORD_VALUE_MAX)
        return 0;
    return (uint64_t)RECORD_HEADER_SIZE + r->key_len + headers + r->value_len;
}

static uint8_t *copy(uint8_t *out, const void *from, size_t len) {
    if (len != 0)
        memcpy(out, from, len);
    return out + len;
}

static uint8_t *encode_headers(uint8_t *out, const pawl_record *r) {
    if (r->raw_headers != NULL)
        return copy(out, r->raw_headers, r->raw_headers_len);
    for (uint32_t i = 0; i < r->header_count; i++) {
        put16(out, r->headers[i].name_len);
        put16(out + 2, r->headers[i].value_len);
        out = copy(out + 4, r->headers[i].name, r->headers[i].name_len);
        out = copy(out, r->headers[i].value, r->headers[i].value_len);
    }
    return out;
}

void record_encode(uint8_t *out, const pawl_record *r, int64_t timestamp_ns) {
    put32(out, r->value_len);
    put16(out + 4, r->key_len);
    put16(out + 6, (uint16_t)headers_size(r));
    put64(out + 8, (uint64_t)timestamp_ns);
    out += RECORD_HEADER_SIZE;
    if (r->key_len != 0)
        out = copy(out, r->key, r->key_len);
    if (r->raw_headers != NULL || r->header_count != 0)
        out = encode_headers(out, r);
    copy(out, r->value, r->value_len);
}

bool record_headers_whole(const uint8_t *raw, uint32_t len) {
    while (len != 0) {
        if (len < 4 || (uint32_t)get16(raw) + get16(raw + 2) > len - 4)
            return false;
        uint32_t size = 4u + get16(raw) + get16(raw + 2);
        raw += size;
        len -= size;
    }
    return true;
}

bool records_whole(const struct run *r, const uint8_t *data) {
    uint32_t at = 0, n = 0;
    while (n < r->count && record_skip(data, r->len, &at))
        n++;
    return n == r->count && at == r->len;
}

int pawl_record_header(const pawl_record *r, uint32_t index, pawl_header *out) {
    if (r == NULL || out == NULL)
        return PAWL_INVALID;
    const uint8_t *p = r->raw_headers;
    uint32_t left = p == NULL ? 0 : r->raw_headers_len;
    for (uint32_t i = 0; left >= 4; i++) {
        uint32_t name_len = get16(p), value_len = get16(p + 2);
        if (name_len + value_len > left - 4)
            break;
        if (i == index) {
            *out = (pawl_header){p + 4, p + 4 + name_len, (uint16_t)name_len, (uint16_t)value_len};
            return 0;
        }
        p += 4 + name_len + value_len;
        left -= 4 + name_len + value_len;
    }
    return PAWL_NOT_FOUND;
}
