/* SPDX-License-Identifier: Apache-2.0
 *
 * Entries of ORIGINS runs: what a commit's records were read from outside the log; docs/format.md,
 * section 6. As in format_runs.c every length is untrusted.
 */
#include <assert.h>

#include "wal/format.h"

void varint_put(struct bytes *b, uint64_t v) {
    uint8_t buf[VARINT_MAX];
    bytes_put(b, buf, (size_t)(varint_write(buf, v) - buf));
}

bool varint_get(const uint8_t *data, uint32_t len, uint32_t *at, uint64_t *v) {
    *v = 0;
    for (uint32_t i = 0; i < VARINT_MAX && *at < len; i++) {
        uint8_t byte = data[(*at)++];
        if (i == VARINT_MAX - 1 && byte > 1)
            return false;
        *v |= (uint64_t)(byte & 0x7f) << (7 * i);
        if (byte < 0x80)
            return true;
    }
    return false;
}

void mark_put(struct bytes *b, uint64_t before, uint64_t mark) {
    uint64_t up = mark - before, down = before - mark;
    varint_put(b, mark >= before ? up << 1 : (down << 1) - 1);
}

/* Is the distance from one mark to the next one that fits? */
bool mark_fits(uint64_t before, uint64_t mark) {
    return (mark >= before ? mark - before : before - mark) < UINT64_C(1) << 62;
}

bool mark_get(const uint8_t *data, uint32_t len, uint32_t *at, uint64_t *mark) {
    uint64_t v;
    if (!varint_get(data, len, at, &v))
        return false;
    *mark = (v & 1) == 0 ? *mark + (v >> 1) : *mark - (v >> 1) - 1;
    return true;
}

void origin_encode(struct bytes *b, const struct origin_entry *e) {
    assert(e->from <= e->to && e->thing_len != 0); /* PAWL-4 */
    size_t size = (size_t)ORIGIN_ENTRY_SIZE + e->thing_len + e->note_len + e->order_len +
                  (size_t)e->marks_len;
    uint8_t *p = bytes_add(b, (size_t)align_up(size, 8));
    if (p == NULL)
        return;
    put32(p, e->producer);
    put32(p + 4, e->stream);
    put64(p + 8, e->from);
    put64(p + 16, e->to);
    put32(p + 24, e->records);
    put16(p + 28, e->flags);
    p[30] = e->unit;
    p[31] = e->mark_kind;
    p[32] = e->thing_len;
    p[33] = e->note_len;
    put16(p + 34, e->step);
    put32(p + 36, e->order_len);
    put32(p + 40, e->marks_len);
    p += ORIGIN_ENTRY_SIZE;
    memcpy(p, e->thing, e->thing_len);
    p += e->thing_len;
    if (e->note_len != 0)
        memcpy(p, e->note, e->note_len);
    p += e->note_len;
    if (e->order_len != 0)
        memcpy(p, e->order, e->order_len);
    p += e->order_len;
    if (e->marks_len != 0)
        memcpy(p, e->marks, e->marks_len);
}

/* Is the order a list of whole spans, with at least one where there are records? */
static bool order_whole(const struct origin_entry *e) {
    uint64_t stream, partition, count;
    uint32_t at = 0;
    while (at < e->order_len)
        if (!varint_get(e->order, e->order_len, &at, &stream) ||
            !varint_get(e->order, e->order_len, &at, &partition) ||
            !varint_get(e->order, e->order_len, &at, &count) || count == 0 || stream > UINT32_MAX ||
            partition > UINT32_MAX || count > UINT32_MAX)
            return false;
    return (e->records == 0) == (e->order_len == 0);
}

/* Is there a mark for each record, and each within the interval? */
static bool marks_whole(const struct origin_entry *e) {
    if (e->mark_kind != PAWL_MARKS_GIVEN)
        return e->mark_kind > PAWL_MARKS_GIVEN || e->marks_len == 0;
    uint64_t mark = e->from;
    uint32_t at = 0;
    for (uint32_t i = 0; i < e->records; i++)
        if (!mark_get(e->marks, e->marks_len, &at, &mark) || mark < e->from || mark > e->to)
            return false;
    return at == e->marks_len;
}

bool origin_decode(const uint8_t *data, uint32_t len, uint32_t *at, struct origin_entry *e) {
    if (!bytes_fit(len, *at, ORIGIN_ENTRY_SIZE))
        return false;
    const uint8_t *p = data + *at;
    *e = (struct origin_entry){.producer = get32(p),
                               .stream = get32(p + 4),
                               .from = get64(p + 8),
                               .to = get64(p + 16),
                               .records = get32(p + 24),
                               .flags = get16(p + 28),
                               .unit = p[30],
                               .mark_kind = p[31],
                               .thing_len = p[32],
                               .note_len = p[33],
                               .step = get16(p + 34),
                               .order_len = get32(p + 36),
                               .marks_len = get32(p + 40)};
    uint64_t size = (uint64_t)ORIGIN_ENTRY_SIZE + e->thing_len + e->note_len + e->order_len +
                    (uint64_t)e->marks_len;
    if (get32(p + 44) != 0 || e->thing_len == 0 || e->from > e->to ||
        !bytes_fit(len, *at, align_up(size, 8)))
        return false;
    e->thing = (const char *)p + ORIGIN_ENTRY_SIZE;
    e->note = e->thing + e->thing_len;
    e->order = (const uint8_t *)e->note + e->note_len;
    e->marks = e->order + e->order_len;
    *at += (uint32_t)align_up(size, 8);
    return order_whole(e) && marks_whole(e);
}

uint64_t frame_records(const struct frame_header *h, const uint8_t *frame) {
    uint64_t n = 0;
    for (uint32_t i = 0; i < h->runs; i++) {
        struct run r;
        const uint8_t *ignored;
        frame_run(frame, h, i, &r, &ignored);
        n += run_has_records(&r) ? r.count : 0;
    }
    return n;
}

void origin_spans(const struct origin_entry *e, struct origin_span *s) {
    *s = (struct origin_span){.left = e->records};
}

bool origin_next_span(const struct origin_entry *e, struct origin_span *s) {
    uint64_t stream, partition, count;
    s->first += s->count;
    s->count = 0;
    if (s->left == 0)
        return false;
    if (s->at == e->order_len)
        s->at = 0; /* the list repeats until there are no more records */
    if (!varint_get(e->order, e->order_len, &s->at, &stream) ||
        !varint_get(e->order, e->order_len, &s->at, &partition) ||
        !varint_get(e->order, e->order_len, &s->at, &count))
        return false; /* origin_decode() has excluded it */
    s->stream = (uint32_t)stream;
    s->partition = (uint32_t)partition;
    s->count = count < s->left ? (uint32_t)count : s->left;
    s->left -= s->count;
    return true;
}

bool origin_mark(const struct origin_entry *e, uint32_t i, uint64_t *mark) {
    uint32_t at = 0;
    *mark = e->from;
    if (e->mark_kind == PAWL_MARKS_NUMBERS) {
        *mark += i;
        return i < e->records && *mark <= e->to;
    }
    if (e->mark_kind != PAWL_MARKS_GIVEN || i >= e->records)
        return false;
    for (uint32_t k = 0; k <= i; k++)
        if (!mark_get(e->marks, e->marks_len, &at, mark))
            return false;
    return true;
}
