/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <string.h>

#include "pipeline/watermark.h"

void watermark_init(struct watermark *w, const uint32_t *streams, uint32_t count) {
    assert(count <= WATERMARK_INPUTS_MAX);
    memset(w, 0, sizeof *w);
    w->combined = w->clock = WATERMARK_NONE;
    w->count = count;
    for (uint32_t i = 0; i < count; i++)
        w->in[i] = (struct watermark_input){streams[i], false, WATERMARK_NONE};
}

/* The inputs have changed: the combined watermark follows them, and never falls. */
static void combine(struct watermark *w) {
    int64_t lowest = INT64_MAX, highest = WATERMARK_NONE;
    bool counts = false;
    for (uint32_t i = 0; i < w->count; i++) {
        int64_t own = w->in[i].time;
        highest = own > highest ? own : highest;
        if (w->in[i].idle)
            continue;
        counts = true;
        lowest = own < lowest ? own : lowest;
    }
    int64_t now = counts ? lowest : highest;
    if (now > w->combined)
        w->combined = now;
}

void watermark_set_inputs(struct watermark *w, const uint32_t *streams, uint32_t count) {
    assert(count <= WATERMARK_INPUTS_MAX);
    struct watermark before = *w;
    bool same = before.count == count;
    for (uint32_t i = 0; i < count; i++) {
        struct watermark_input in = {streams[i], false, before.combined}; /* new-input */
        for (uint32_t k = 0; k < before.count; k++)
            if (before.in[k].stream == streams[i])
                in = before.in[k];
        same = same && before.in[i].stream == in.stream;
        w->in[i] = in;
    }
    w->count = count;
    if (!same)
        combine(w); /* input-gone */
}

bool watermark_record(struct watermark *w, uint32_t input, int64_t time) {
    assert(input < w->count);
    struct watermark_input *in = &w->in[input];
    if (in->idle) { /* back-* */
        in->idle = false;
        in->time = in->time > w->combined ? in->time : w->combined;
    }
    bool late = in->time != WATERMARK_NONE && time < in->time;
    w->late += late;
    return late;
}

void watermark_processed(struct watermark *w, uint32_t input, int64_t time, uint64_t allowed) {
    assert(input < w->count && !w->in[input].idle);
    struct watermark_input *in = &w->in[input];
    uint64_t room = (uint64_t)time - (uint64_t)WATERMARK_LOWEST; /* time >= WATERMARK_LOWEST */
    int64_t mark = time == WATERMARK_NONE || allowed > room ? WATERMARK_LOWEST
                                                            : (int64_t)((uint64_t)time - allowed);
    if (mark > in->time)
        in->time = mark;
    int64_t before = w->combined;
    combine(w);
    assert(w->combined >= before); /* PAWL-14: what has fired was due */
}

bool watermark_idle(struct watermark *w, uint32_t input) {
    assert(input < w->count);
    if (w->in[input].idle)
        return false;
    w->in[input].idle = true;
    combine(w);
    return true;
}

void watermark_clock(struct watermark *w, int64_t reading) {
    if (reading > w->clock)
        w->clock = reading;
}
