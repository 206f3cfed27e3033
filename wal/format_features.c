/* SPDX-License-Identifier: Apache-2.0
 *
 * What of a later version must be understood; docs/format.md, section 8. Everything that a version
 * may not know has one of three classes: without it a log can't be read, or can be read but not
 * written to, or it may be ignored. This file is the only place that knows which class a bit has.
 */
#include "wal/format.h"

static void note(struct format_unknown *u, enum format_need need, const char *what, uint64_t value,
                 uint64_t lsn) {
    if (need > u->need)
        *u = (struct format_unknown){need, what, value, lsn};
}

/* Flags of which some must be understood to read, some to write. */
static void note_flags(struct format_unknown *u, const char *what, uint32_t flags, uint32_t read,
                       uint32_t write, uint64_t lsn) {
    if ((flags & read) != 0)
        note(u, NEED_TO_READ, what, flags & read, lsn);
    else if ((flags & write) != 0)
        note(u, NEED_TO_WRITE, what, flags & write, lsn);
}

void segment_judge_features(const struct segment_header *h, struct format_unknown *u) {
    uint64_t lsn = h->index * h->segment_size;
    uint64_t read = h->features.read & ~FEATURES_READ_KNOWN;
    uint64_t write = h->features.write & ~FEATURES_WRITE_KNOWN;
    if (read != 0)
        note(u, NEED_TO_READ, "features", read, lsn);
    if (write != 0)
        note(u, NEED_TO_WRITE, "features", write, lsn);
}

static void judge_type(const struct run *r, uint64_t lsn, struct format_unknown *u) {
    if ((r->type & RUN_SKIP_READING) == 0)
        note(u, NEED_TO_READ, "run type", r->type, lsn);
    else if ((r->type & RUN_SKIP_WRITING) == 0)
        note(u, NEED_TO_WRITE, "run type", r->type, lsn);
}

static void judge_settings(const struct run *r, const uint8_t *data, uint64_t lsn,
                           struct format_unknown *u) {
    struct c_settings e;
    uint32_t at = 0;
    if (c_settings_decode(data, r->len, &at, &e) && (e.flags & ~(uint64_t)SETTINGS_CONSUMED) != 0)
        note(u, NEED_TO_WRITE, "settings", e.flags & ~(uint64_t)SETTINGS_CONSUMED, lsn);
}

void frame_judge_features(const struct frame_header *h, const uint8_t *frame,
                          struct format_unknown *u) {
    if (!frame_kind_known(h->kind)) {
        /* a kind that may be skipped is skipped whole: nothing else of it is judged */
        note(u,
             (h->kind_flags & KIND_TO_READ) != 0    ? NEED_TO_READ
             : (h->kind_flags & KIND_TO_WRITE) != 0 ? NEED_TO_WRITE
                                                    : NEED_NOTHING,
             "frame kind", h->kind, h->lsn);
        return;
    }
    note_flags(u, "kind flags", h->kind_flags, (uint8_t) ~(KIND_TO_READ | KIND_TO_WRITE), 0,
               h->lsn);
    /* in a segment that counts, the other bits are the counts */
    uint32_t to_write = h->ids != NULL ? 0 : FRAME_FLAGS_TO_WRITE;
    note_flags(u, "frame flags", h->flags, FRAME_FLAGS_TO_READ, to_write, h->lsn);
    for (uint32_t i = 0; i < h->runs; i++) {
        struct run r;
        const uint8_t *data;
        frame_run(frame, h, i, &r, &data);
        if (!run_type_known(r.type))
            judge_type(&r, h->lsn, u);
        if (r.flags != 0 && run_type_known(r.type))
            note_flags(u, "run flags", r.flags, RUN_FLAGS_TO_READ, RUN_FLAGS_TO_WRITE, h->lsn);
        if (r.type == RUN_C_SETTINGS)
            judge_settings(&r, data, h->lsn, u);
    }
}
