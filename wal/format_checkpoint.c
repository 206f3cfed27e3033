/* SPDX-License-Identifier: Apache-2.0
 *
 * Entries of a checkpoint's runs; docs/format.md, section 5 (types from 64). Lengths are untrusted,
 * as in format_runs.c.
 */
#include <assert.h>

#include "wal/format.h"

void c_stream_encode(struct bytes *b, const struct c_stream *e) {
    assert(e->name_len <= NAME_LEN_MAX); /* as the decoder checks; so in the following ones */
    uint8_t *p = bytes_add(b, c_stream_size(e->name_len));
    if (p == NULL)
        return;
    put32(p, e->id);
    put32(p + 4, e->partitions);
    put32(p + 8, e->name_len);
    memcpy(p + 16, e->name, e->name_len);
}

bool c_stream_decode(const uint8_t *data, uint32_t len, uint32_t *at, struct c_stream *e) {
    if (!bytes_fit(len, *at, 16))
        return false;
    const uint8_t *p = data + *at;
    e->id = get32(p);
    e->partitions = get32(p + 4);
    e->name_len = get32(p + 8);
    e->name = (const char *)p + 16;
    if (e->name_len > NAME_LEN_MAX || !bytes_fit(len, *at, c_stream_size(e->name_len)))
        return false;
    *at += (uint32_t)c_stream_size(e->name_len);
    return true;
}

void c_producer_encode(struct bytes *b, const struct c_producer *e) {
    assert(e->name_len <= NAME_LEN_MAX && e->cookie_len <= COOKIE_MAX);
    uint8_t *p = bytes_add(b, c_producer_size(e->name_len));
    if (p == NULL)
        return;
    put32(p, e->id);
    put32(p + 4, e->epoch);
    put64(p + 8, e->sequence);
    put32(p + 16, e->stream);
    put32(p + 20, e->partition);
    put64(p + 24, e->offset);
    put32(p + 32, e->cookie_len);
    put32(p + 36, e->name_len);
    memcpy(p + 40, e->cookie, COOKIE_MAX);
    memcpy(p + 72, e->name, e->name_len);
}

bool c_producer_decode(const uint8_t *data, uint32_t len, uint32_t *at, struct c_producer *e) {
    if (!bytes_fit(len, *at, 72))
        return false;
    const uint8_t *p = data + *at;
    e->id = get32(p);
    e->epoch = get32(p + 4);
    e->sequence = get64(p + 8);
    e->stream = get32(p + 16);
    e->partition = get32(p + 20);
    e->offset = get64(p + 24);
    e->cookie_len = get32(p + 32);
    e->name_len = get32(p + 36);
    memcpy(e->cookie, p + 40, COOKIE_MAX);
    e->name = (const char *)p + 72;
    if (e->cookie_len > COOKIE_MAX || e->name_len > NAME_LEN_MAX ||
        !bytes_fit(len, *at, c_producer_size(e->name_len)))
        return false;
    *at += (uint32_t)c_producer_size(e->name_len);
    return true;
}

void c_processor_encode(struct bytes *b, const struct c_processor *e) {
    assert(e->name_len <= NAME_LEN_MAX);
    uint8_t *p = bytes_add(b, c_processor_size(e->name_len));
    if (p == NULL)
        return;
    put32(p, e->id);
    put32(p + 4, e->name_len);
    memcpy(p + 8, e->name, e->name_len);
}

bool c_processor_decode(const uint8_t *data, uint32_t len, uint32_t *at, struct c_processor *e) {
    if (!bytes_fit(len, *at, 8))
        return false;
    const uint8_t *p = data + *at;
    *e = (struct c_processor){get32(p), (const char *)p + 8, get32(p + 4)};
    size_t size = c_processor_size(e->name_len);
    if (e->name_len > NAME_LEN_MAX || !bytes_fit(len, *at, size))
        return false;
    *at += (uint32_t)size;
    return true;
}

void c_next_encode(struct bytes *b, const struct c_next *e) {
    uint8_t *p = bytes_add(b, C_NEXT_SIZE);
    if (p == NULL)
        return;
    put32(p, e->stream);
    put32(p + 4, e->partition);
    put64(p + 8, e->next);
}

bool c_next_decode(const uint8_t *data, uint32_t len, uint32_t *at, struct c_next *e) {
    if (!bytes_fit(len, *at, C_NEXT_SIZE))
        return false;
    const uint8_t *p = data + *at;
    *e = (struct c_next){get32(p), get32(p + 4), get64(p + 8)};
    *at += C_NEXT_SIZE;
    return true;
}

void c_position_encode(struct bytes *b, const struct c_position *e) {
    uint8_t *p = bytes_add(b, C_POSITION_SIZE);
    if (p == NULL)
        return;
    put32(p, e->processor);
    put32(p + 4, e->stream);
    put32(p + 8, e->partition);
    put64(p + 16, e->offset);
}

bool c_position_decode(const uint8_t *data, uint32_t len, uint32_t *at, struct c_position *e) {
    if (!bytes_fit(len, *at, C_POSITION_SIZE))
        return false;
    const uint8_t *p = data + *at;
    *e = (struct c_position){get32(p), get32(p + 4), get32(p + 8), get64(p + 16)};
    *at += C_POSITION_SIZE;
    return true;
}

void c_settings_encode(struct bytes *b, const struct c_settings *e) {
    uint8_t *p = bytes_add(b, C_SETTINGS_SIZE);
    if (p == NULL)
        return;
    put64(p, e->retain_bytes);
    put64(p + 8, e->retain_ms);
    put64(p + 16, e->flags);
}

bool c_settings_decode(const uint8_t *data, uint32_t len, uint32_t *at, struct c_settings *e) {
    if (!bytes_fit(len, *at, C_SETTINGS_SIZE))
        return false;
    const uint8_t *p = data + *at;
    *e = (struct c_settings){get64(p), get64(p + 8), get64(p + 16)};
    *at += C_SETTINGS_SIZE;
    return true;
}

void c_sink_encode(struct bytes *b, const struct c_sink *e) {
    assert(e->name_len != 0 && e->name_len <= SINK_NAME_MAX);
    uint8_t *p = bytes_add(b, c_sink_size(e->name_len));
    if (p == NULL)
        return;
    put32(p, e->processor);
    put16(p + 6, e->name_len);
    memcpy(p + 8, e->name, e->name_len);
}

bool c_sink_decode(const uint8_t *data, uint32_t len, uint32_t *at, struct c_sink *e) {
    if (!bytes_fit(len, *at, 8))
        return false;
    const uint8_t *p = data + *at;
    *e = (struct c_sink){get32(p), (const char *)p + 8, get16(p + 6)};
    size_t size = c_sink_size(e->name_len);
    if (e->name_len == 0 || e->name_len > SINK_NAME_MAX || !bytes_fit(len, *at, size))
        return false;
    *at += (uint32_t)size;
    return true;
}

void c_span_encode(struct bytes *b, const struct c_span *e) {
    assert(e->oldest < e->segment); /* PAWL-11: only such pairs tie segments together */
    uint8_t *p = bytes_add(b, C_SPAN_SIZE);
    if (p == NULL)
        return;
    put64(p, e->segment);
    put64(p + 8, e->oldest);
}

bool c_span_decode(const uint8_t *data, uint32_t len, uint32_t *at, struct c_span *e) {
    if (!bytes_fit(len, *at, C_SPAN_SIZE))
        return false;
    const uint8_t *p = data + *at;
    *e = (struct c_span){get64(p), get64(p + 8)};
    *at += C_SPAN_SIZE;
    return e->oldest < e->segment;
}

void c_ids_encode(uint8_t out[C_IDS_SIZE], const struct c_ids *e) {
    put32(out, e->stream);
    put32(out + 4, e->producer);
    put32(out + 8, e->processor);
    put32(out + 12, e->table > 1 ? e->table : 0);
    put64(out + 16, e->commits);
    put64(out + 24, e->changes);
}

bool c_ids_decode(const uint8_t *data, uint32_t len, uint32_t *at, struct c_ids *e) {
    if (!bytes_fit(len, *at, C_IDS_SIZE))
        return false;
    const uint8_t *p = data + *at;
    *e = (struct c_ids){get32(p),      get32(p + 4),  get32(p + 8),
                        get64(p + 16), get64(p + 24), get32(p + 12)};
    *at += C_IDS_SIZE;
    return true;
}

bool checkpoint_ids(const struct frame_header *h, const uint8_t *frame, struct c_ids *ids) {
    for (uint32_t i = 0; h->kind == FRAME_CHECKPOINT && i < h->runs; i++) {
        struct run r;
        const uint8_t *data;
        uint32_t at = 0;
        frame_run(frame, h, i, &r, &data);
        if (r.type == RUN_C_IDS)
            return c_ids_decode(data, r.len, &at, ids);
    }
    return false;
}

/* ---- CLOCK, which other frames have too */

void age_encode(uint8_t out[AGE_STAMP_SIZE], const struct age_stamp *e) {
    assert((e->flags & AGE_VALID) != 0); /* frame_age() takes no other */
    put64(out, e->age_ns);
    put64(out + 8, e->boot_ns);
    put64(out + 16, e->boot_id);
    put64(out + 24, e->wall_ns);
    put32(out + 32, e->flags);
    put32(out + 36, 0);
}

bool frame_age(const struct frame_header *h, const uint8_t *frame, struct age_stamp *e) {
    for (uint32_t i = 0; i < h->runs; i++) {
        struct run r;
        const uint8_t *p;
        if (frame_run_type(frame, i) != RUN_CLOCK)
            continue;
        frame_run(frame, h, i, &r, &p);
        if (r.len < AGE_STAMP_SIZE)
            return false;
        *e =
            (struct age_stamp){get64(p), get64(p + 8), get64(p + 16), get64(p + 24), get32(p + 32)};
        return (e->flags & AGE_VALID) != 0;
    }
    return false;
}
