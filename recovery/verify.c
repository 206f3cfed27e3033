/* SPDX-License-Identifier: Apache-2.0 */
#include "recovery/verify.h"

#include <stdarg.h>

#include "wal/show.h"

void verify_tell(pawl_check *c, int code, uint64_t segment, uint64_t lsn, uint64_t bytes,
                 const char *label, const char *message, ...) {
    char text[512];
    va_list ap;
    va_start(ap, message);
    show_format(text, sizeof text, message, ap);
    va_end(ap);
    if (code != 0)
        c->problems++;
    pawl_finding f = {code, segment, lsn, bytes, label, text};
    if (c->finding != NULL)
        c->finding(c->arg, &f);
}

/* Counts what is in a frame. Do its records fit their runs? */
static bool count(pawl_check *c, const struct frame_header *h, const uint8_t *frame) {
    bool whole = true, commit = h->kind == FRAME_COMMIT;
    c->frames++;
    c->bytes += frame_length(h);
    c->commits += commit;
    for (uint32_t i = 0; i < h->runs; i++) {
        struct run r;
        const uint8_t *data;
        frame_run(frame, h, i, &r, &data);
        if (r.type == RUN_RECORDS)
            whole &= records_whole(&r, data);
        if (commit && run_has_records(&r))
            c->records += r.count;
        if (commit && r.type == RUN_POSITIONS)
            c->intervals += r.count;
    }
    return whole;
}

static void on_good(struct verify *v, const struct scan_frame *f, bool lost) {
    pawl_check *c = v->check;
    if (!count(c, &f->header, f->data))
        verify_tell(c, PAWL_DAMAGED, f->header.lsn / v->segment_size, f->header.lsn,
                    frame_length(&f->header), "records-malformed",
                    "the frame at LSN %llu has a right checksum but its records don't fit",
                    (unsigned long long)f->header.lsn);
    if (v->frame != NULL && v->frame(v->ctx, &f->header, f->data, lost) < 0) {
        pawl_error e;
        fail_copy(&e);
        bool tiling = strstr(e.message, "interval") != NULL;
        verify_tell(c, tiling ? PAWL_TILING : e.code, f->header.lsn / v->segment_size,
                    f->header.lsn, 0, tiling ? "tiling" : "contradiction", "%s", e.message);
    }
    c->clean = f->header.kind == FRAME_CLOSE;
}

/* A living writer's retention let it go while it was being read. */
static int on_dropped(struct verify *v, uint64_t index) {
    v->cut_off = true; /* nothing is known of what the next one follows */
    verify_tell(v->check, 0, index, index * v->segment_size, 0, "segment-dropped",
                "segment %016llx was dropped by retention meanwhile", (unsigned long long)index);
    return 0;
}

/* The chain broke: is it damage, and where does it go on? 1: go on, 0: the end, negative: error. */
static int on_end(struct verify *v, struct scan *s) {
    struct scan_end end;
    TRY(scan_judge(s, &end));
    if (end.decision == NULL)
        return 0;
    if (end.decision->action != DAMAGE) {
        if (!scan_can_seal(s)) {
            pawl_error e;
            full_error(s, s->accepted_end);
            fail_copy(&e);
            verify_tell(v->check, PAWL_DAMAGED, s->index, s->accepted_end, 0, "segment-full", "%s",
                        e.message);
        }
        if (end.decision->action == CUT && !scan_leftover(s, &end)) {
            v->check->torn_bytes = align_up(end.lsn + 1, BLOCK) - end.lsn;
            verify_tell(v->check, 0, s->index, end.lsn, v->check->torn_bytes, end.decision->label,
                        "torn tail at LSN %llu, never acknowledged: %s",
                        (unsigned long long)end.lsn, end.decision->why);
        }
        return 0;
    }
    struct scan_frame f;
    scan_forget(s); /* a live writer may have got there since: look again */
    if (scan_next(s, &f) == 1) {
        on_good(v, &f, s->after_lost);
        return 1;
    }
    int there = segment_there(v->io, s->index);
    if (there <= 0)
        return there < 0 ? there : on_dropped(v, s->index);
    uint64_t q;
    TRY(scan_resync(s, s->at, &q));
    uint64_t stop = q != NO_LSN ? q : (s->index + 1) * s->segment_size;
    damage_error(s, &end);
    pawl_error e;
    fail_copy(&e);
    verify_tell(v->check, PAWL_DAMAGED, s->index, end.lsn, stop - end.lsn, end.decision->label,
                "%s", e.message);
    if (v->damage != NULL)
        TRY(v->damage(v->ctx, s, &end, q));
    if (q == NO_LSN) {
        v->cut_off = true;
        return 0;
    }
    TRY(scan_jump(s, q));
    return 1;
}

/* A cut while the newest segment was being begun may have left one copy of its header; the next
 * writer mends that. */
static int on_bad_copy(struct verify *v, int file, const struct segment_header *h, bool newest,
                       int bad_copy) {
    bool torn = false;
    if (newest)
        TRY(segment_header_torn(v->io, v->mem, file, h, &torn));
    verify_tell(v->check, torn ? 0 : PAWL_DAMAGED, h->index, h->index * h->segment_size, BLOCK,
                torn ? "header-copy-torn" : "header-copy-damaged",
                torn ? "copy %d of the header of segment %016llx was not written any more; the "
                       "other one is good"
                     : "copy %d of the header of segment %016llx is damaged; the other one is good",
                bad_copy + 1, (unsigned long long)h->index);
    return v->header != NULL ? v->header(v->ctx, file, h, bad_copy) : 0;
}

/* While one segment is read, the next one is opened, so that reading goes on with it without a
 * pause. An error comes again when it is its turn. Not while repair changes what lies ahead. */
static void open_next(struct verify *v, const struct log_extent *x, uint64_t n) {
    struct verify_next *next = &v->next;
    if (n > x->last || v->writable)
        return;
    next->file =
        segment_open_judged(v->io, v->mem, n, &x->newest, false, &next->header, &next->bad_copy);
    next->open = next->file >= 0;
}

static int take_next(struct verify *v, const struct log_extent *x, uint64_t n,
                     struct verify_next *taken) {
    *taken = v->next;
    v->next.open = false;
    if (!taken->open)
        taken->file = segment_open_judged(v->io, v->mem, n, &x->newest, v->writable, &taken->header,
                                          &taken->bad_copy);
    return taken->file < 0 ? taken->file : 0;
}

/* Every frame to the segment's end. `after_damage`: damage reached to the end of the segment
 * before. */
static int walk(struct verify *v, const struct log_extent *x, struct scan *s, bool after_damage,
                uint64_t total) {
    struct scan_frame f;
    uint64_t done = (s->index - x->first) * s->segment_size;
    for (;;) {
        int rc = scan_next(s, &f);
        if (rc == 1) {
            on_good(v, &f, s->after_lost || after_damage);
            after_damage &= f.header.kind != FRAME_CHECKPOINT;
        } else if (rc == 0)
            rc = on_end(v, s);
        if (rc <= 0)
            return rc;
        if (v->check->progress != NULL)
            v->check->progress(v->check->arg, done + s->at % s->segment_size, total);
    }
}

/* What a later version put there is no problem, but it keeps this one from writing. */
static void tell_unknown(struct verify *v, const struct scan *s) {
    pawl_error saved, e;
    if (s->unknown.need == NEED_NOTHING || v->told_unknown)
        return;
    v->told_unknown = true;
    fail_copy(&saved);
    unknown_error(&s->unknown, "");
    fail_copy(&e);
    fail_again(&saved);
    verify_tell(v->check, 0, s->index, s->unknown.lsn, 0, "not-for-writing", "%s", e.message);
}

/* *s is the scan of the segment before, if there is one, and then of this one. */
static int check_segment(struct verify *v, const struct log_extent *x, uint64_t n, struct scan *s,
                         uint64_t total) {
    struct verify_next seg;
    struct scan before = *s;
    bool first = s->file < 0;
    int rc = take_next(v, x, n, &seg);
    if (rc == 0) {
        scan_begin(s, v->io, v->mem, seg.file, &seg.header, n == x->last);
        if (v->writable)
            s->refuses = NEED_TO_WRITE;
        if (first)
            scan_whole(s);
        else
            scan_whole_after(s, &before);
    }
    if (!first) {
        scan_end(&before);
        v->io->ops->close(v->io, before.file);
    }
    if (rc < 0) {
        s->file = -1;
        return v->check->live && segment_there(v->io, n) == 0 ? on_dropped(v, n) : rc;
    }
    open_next(v, x, n + 1);
    if (v->next.open)
        scan_then(s, v->next.file);
    if (seg.bad_copy >= 0)
        rc = on_bad_copy(v, seg.file, &seg.header, n == x->last, seg.bad_copy);
    bool after_damage = v->cut_off;
    v->cut_off = false;
    if (rc == 0 && !first && !after_damage &&
        (before.link != seg.header.link || before.epoch > seg.header.epoch))
        verify_tell(v->check, PAWL_DAMAGED, n, n * seg.header.segment_size, 0,
                    "segment-chain-broken", "segment %016llx does not continue the one before it",
                    (unsigned long long)n);
    if (rc >= 0)
        rc = walk(v, x, s, after_damage, total);
    if (rc >= 0)
        tell_unknown(v, s);
    v->check->segments++;
    return rc;
}

static int check_segments(struct verify *v, const struct log_extent *x, uint64_t total) {
    struct scan s = {.file = -1};
    int rc = 0;
    for (uint64_t n = x->first > v->from ? x->first : v->from; n <= x->last && rc >= 0; n++)
        rc = check_segment(v, x, n, &s, total);
    if (s.file >= 0) {
        scan_end(&s);
        v->io->ops->close(v->io, s.file);
    }
    if (v->next.open)
        v->io->ops->close(v->io, v->next.file);
    v->next.open = false;
    return rc;
}

/* A file after the newest segment without a header: if it was begun all the same, that is damage. A
 * live writer may begin it at any time. */
static int check_prepared(struct verify *v, const struct log_extent *x) {
    if (!x->prepared || v->check->live)
        return 0;
    int rc = segment_check_unbegun(v->io, v->mem, x->last + 1, &x->newest);
    if (rc != PAWL_DAMAGED)
        return rc;
    pawl_error e;
    fail_copy(&e);
    verify_tell(v->check, PAWL_DAMAGED, x->last + 1, (x->last + 1) * v->segment_size,
                SEGMENT_HEADER_SIZE, "segment-header-damaged", "%s", e.message);
    return 0;
}

int verify_log(struct verify *v) {
    struct log_extent x;
    v->check->live = v->io->ops->holder(v->io) != 0 && !v->writable;
    TRY(log_extent_find(v->io, v->mem, false, &x));
    v->segment_size = x.newest.segment_size;
    uint64_t total = (x.last - x.first + 1) * x.newest.segment_size;
    TRY(check_segments(v, &x, total));
    TRY(check_prepared(v, &x));
    if (v->check->progress != NULL)
        v->check->progress(v->check->arg, total, total);
    return 0;
}
