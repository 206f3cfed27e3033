/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "wal/bytes.h"
#include "wal/format_time.h"

#define VERSION 1u
#define FLAG_IDLE 1u

size_t watermark_encode(const struct watermark *w, uint8_t out[WATERMARK_SIZE_MAX]) {
    put32(out, VERSION);
    put32(out + 4, w->count);
    put64(out + 8, (uint64_t)w->combined);
    put64(out + 16, (uint64_t)w->clock);
    put64(out + 24, w->late);
    uint8_t *at = out + WATERMARK_HEAD;
    for (uint32_t i = 0; i < w->count; i++, at += WATERMARK_INPUT_SIZE) {
        put32(at, w->in[i].stream);
        put32(at + 4, w->in[i].idle ? FLAG_IDLE : 0);
        put64(at + 8, (uint64_t)w->in[i].time);
    }
    return (size_t)(at - out);
}

int watermark_decode(struct watermark *w, const uint8_t *data, size_t len) {
    memset(w, 0, sizeof *w);
    if (len >= 4 && get32(data) > VERSION)
        return fail(PAWL_VERSION, "a newer version of Pawl wrote the watermarks");
    bool well = len >= WATERMARK_HEAD && get32(data) == VERSION &&
                get32(data + 4) <= WATERMARK_INPUTS_MAX &&
                len == WATERMARK_HEAD + get32(data + 4) * WATERMARK_INPUT_SIZE;
    if (!well)
        return fail(PAWL_DAMAGED, "the watermarks are not well formed");
    w->count = get32(data + 4);
    w->combined = (int64_t)get64(data + 8);
    w->clock = (int64_t)get64(data + 16);
    w->late = get64(data + 24);
    const uint8_t *at = data + WATERMARK_HEAD;
    for (uint32_t i = 0; i < w->count; i++, at += WATERMARK_INPUT_SIZE)
        w->in[i] = (struct watermark_input){get32(at), (get32(at + 4) & FLAG_IDLE) != 0,
                                            (int64_t)get64(at + 8)};
    return 0;
}

uint8_t timer_kind_encode(int kind) {
    return (uint8_t)(kind + 1);
}

void timer_head_encode(uint8_t out[TIMER_HEAD], int kind, int64_t time) {
    uint64_t turned = (uint64_t)time ^ (UINT64_C(1) << 63);
    out[0] = timer_kind_encode(kind);
    for (int i = 8; i >= 1; i--, turned >>= 8)
        out[i] = (uint8_t)turned;
}

int64_t timer_time_decode(const uint8_t head[TIMER_HEAD]) {
    uint64_t turned = 0;
    for (int i = 1; i <= 8; i++)
        turned = turned << 8 | head[i];
    return (int64_t)(turned ^ (UINT64_C(1) << 63));
}
