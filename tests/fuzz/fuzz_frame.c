/* SPDX-License-Identifier: Apache-2.0 */
/* One frame: header, directory, every kind of run, its records, and what the tables make of it.
 * Checksums are mended, so that everything behind them is reached. */
#include <stdlib.h>
#include <string.h>

#include "pipeline/tables.h"

#define LSN (SEGMENT_HEADER_SIZE)
#define CAP 60000u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use_records(const uint8_t *data, const struct run *r) {
    pawl_record out;
    uint32_t at = 0;
    while (record_decode(data, r->len, &at, &out)) {
        pawl_header h;
        for (uint32_t i = 0; pawl_record_header(&out, i, &h) == 0; i++)
            if ((const uint8_t *)h.value + h.value_len > data + r->len)
                abort();
        if (at > r->len)
            abort();
    }
}

/* Whatever the run's type is: its bytes as origins. */
static void use_origins(const uint8_t *data, const struct run *r) {
    struct origin_entry e;
    struct origin_span s;
    uint64_t mark;
    uint32_t at = 0;
    while (origin_decode(data, r->len, &at, &e)) {
        uint32_t n = 0;
        origin_spans(&e, &s);
        for (uint32_t i = 0; i < 1000 && origin_next_span(&e, &s); i++)
            n += s.count;
        if (at > r->len || n > e.records || (const uint8_t *)e.marks + e.marks_len > data + r->len)
            abort();
        if (e.records != 0 && origin_mark(&e, e.records - 1, &mark) &&
            (mark < e.from || mark > e.to))
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static uint8_t frame[FRAME_HEADER_SIZE + CAP];
    static const struct frame_key key = {.seed = 42};
    struct frame_header h = {.lsn = LSN, .epoch = 1};
    if (size < 4 || size > CAP)
        return 0;
    h.kind = (uint8_t)(1 + data[0] % 9);
    h.kind_flags = data[1];
    h.runs = (uint16_t)(data[2] % 40);
    h.flags = data[3] * 0x01010101u;
    data += 4, size -= 4;
    size_t dir = (size_t)h.runs * RUN_SIZE;
    if (dir > size || h.kind == FRAME_LOST)
        h.runs = 0, dir = 0;
    memset(frame, 0, sizeof frame);
    memcpy(frame + FRAME_HEADER_SIZE, data, size);
    h.body_len = (uint32_t)(size - dir);
    h.dir_hash = frame_hash(frame + FRAME_HEADER_SIZE, dir, &key);
    h.body_hash = frame_hash(frame + FRAME_HEADER_SIZE + dir, h.body_len, &key);
    frame_encode_header(frame, &h, &key);
    struct frame_header seen;
    if (frame_decode_header(frame, LSN, MIB, &key, &seen) != FRAME_GOOD ||
        frame_check(frame, &seen, &key) != FRAME_GOOD)
        return 0;
    struct format_unknown u = {0};
    frame_judge_features(&seen, frame, &u);
    if (frame_kind_known(seen.kind) && (seen.flags & FRAME_FLAGS_TO_READ) != 0 &&
        u.need != NEED_TO_READ)
        abort();
    for (uint32_t i = 0; i < seen.runs; i++) {
        struct run r;
        const uint8_t *at;
        frame_run(frame, &seen, i, &r, &at);
        if (at + r.len > frame + sizeof frame)
            abort();
        use_origins(at, &r);
        if (r.type == RUN_RECORDS)
            use_records(at, &r);
    }
    struct mem m;
    struct tables t;
    mem_init(&m, 16u * MIB);
    tables_init(&t, &m, MIB);
    bool lost = (h.kind_flags & 2) != 0;
    struct bytes body;
    struct run runs[16];
    uint32_t count;
    bytes_init(&body, &m);
    for (int i = 0; i < 2 && tables_apply(&t, &seen, frame, lost || i == 1) == 0; i++) {
    }
    (void)!tables_checkpoint(&t, &body, runs, &count); /* its size must be what the tables say */
    bytes_free(&body);
    tables_free(&t);
    if (m.used != 0)
        abort();
    return 0;
}
