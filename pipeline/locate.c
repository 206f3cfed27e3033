/* SPDX-License-Identifier: Apache-2.0
 *
 * From an offset to a place in the log: the segment by its checkpoint's next offsets, the place in
 * it by its index.
 */
#include <errno.h>

#include "pipeline/engine.h"

/* Entries of the active segment's index lie at least so many bytes apart for each partition. */
static uint64_t stride(const pawl *p) {
    uint64_t n = p->tables.segment_size / 1024;
    return n < 16 * 1024 ? 16 * 1024 : n;
}

static uint64_t index_cap(const pawl *p) {
    uint64_t n = p->tables.segment_size / 256;
    return (n > MIB ? MIB : n) / INDEX_ENTRY_SIZE;
}

void locate_index_add(pawl *p, const struct frame_header *h, const uint8_t *frame) {
    for (uint32_t i = 0; i < h->runs; i++) {
        struct run r;
        const uint8_t *ignored;
        frame_run(frame, h, i, &r, &ignored);
        if (r.type != RUN_RECORDS && r.type != RUN_SPILLED)
            continue;
        struct stream *s = tables_stream(&p->tables, r.stream);
        if (s == NULL || r.partition >= s->partitions)
            continue;
        struct partition *part = &s->parts[r.partition];
        if (part->index_lsn != 0 && h->lsn - part->index_lsn < stride(p))
            continue;
        if (p->index_count >= index_cap(p))
            return; /* the partition is then read from the segment's beginning */
        if (p->index_count == p->index_cap) {
            uint32_t want = p->index_cap == 0 ? 64 : p->index_cap * 2;
            void *q = mem_grow(&p->mem, p->index, p->index_cap * sizeof *p->index,
                               want * sizeof *p->index);
            if (q == NULL)
                return; /* only slower */
            p->index = q;
            p->index_cap = want;
        }
        p->index[p->index_count++] = (struct index_entry){r.stream, r.partition, r.base, h->lsn};
        part->index_lsn = h->lsn;
    }
}

static uint64_t first_frame(const pawl *p, uint64_t index) {
    return index * p->header.segment_size + SEGMENT_HEADER_SIZE;
}

static uint64_t first_segment(const pawl *p) {
    return p->drop_to > p->wal.first_segment ? p->drop_to : p->wal.first_segment;
}

static uint64_t last_segment(const pawl *p) {
    return p->read_only ? p->follow.index : p->wal.segment;
}

static int dropped(uint64_t index) {
    return fail(PAWL_TRIMMED, "segment %016llx has been dropped by retention meanwhile",
                (unsigned long long)index);
}

static int trimmed(int rc, uint64_t index) {
    pawl_error e;
    fail_copy(&e);
    return rc < 0 && e.sys_errno == ENOENT ? dropped(index) : rc;
}

/* The run of a checkpoint that tells where each partition stood. */
static int tell_nexts(const struct scan_frame *f, locate_next_fn each, void *ctx) {
    for (uint32_t i = 0; i < f->header.runs; i++) {
        struct run r;
        const uint8_t *data;
        frame_run(f->bytes, &f->header, i, &r, &data);
        if (r.type != RUN_C_NEXT)
            continue;
        struct c_next e;
        for (uint32_t k = 0, at = 0; k < r.count; k++) {
            if (!c_next_decode(data, r.len, &at, &e))
                return fail(PAWL_DAMAGED, "a checkpoint entry does not fit its run");
            if (!each(ctx, e.stream, e.partition, e.next))
                return 0;
        }
    }
    return 0;
}

int locate_nexts(pawl *p, uint64_t index, struct segment_header *h, locate_next_fn each,
                 void *ctx) {
    int file = segment_open(p->io, &p->mem, index, &p->header, false, h);
    if (file < 0)
        return trimmed(file, index);
    struct scan s;
    struct scan_frame f;
    scan_begin(&s, p->io, &p->mem, file, h, false);
    s.chunk = 64 * 1024;
    int rc = scan_next(&s, &f);
    if (rc == 1)
        rc = f.header.kind == FRAME_CHECKPOINT ? tell_nexts(&f, each, ctx) : PAWL_LOST;
    else if (rc == 0 && (rc = segment_there(p->io, index)) > 0)
        rc = fail_at(
            PAWL_DAMAGED, 0, "", "", first_frame(p, index),
            "the checkpoint of segment %016llx is damaged; run 'pawl verify', then 'pawl repair'",
            (unsigned long long)index);
    else if (rc == 0)
        rc = dropped(index);
    scan_end(&s);
    p->io->ops->close(p->io, file);
    return rc;
}

struct sought {
    uint32_t stream, partition;
    uint64_t next;
};

static bool is_sought(void *ctx, uint32_t stream, uint32_t partition, uint64_t next) {
    struct sought *s = ctx;
    if (stream != s->stream || partition != s->partition)
        return true;
    s->next = next;
    return false;
}

int locate_next_at(pawl *p, uint64_t index, uint32_t stream, uint32_t partition, uint64_t *next) {
    struct sought s = {stream, partition, 0};
    struct segment_header h;
    int rc = locate_nexts(p, index, &h, is_sought, &s);
    *next = s.next;
    return rc;
}

uint64_t locate_whole_from(const pawl *p, uint64_t first) {
    uint64_t from = first;
    for (uint32_t i = 0; i < p->tables.span_count; i++) {
        const struct span_row *s = &p->tables.spans[i];
        if (s->oldest < first && s->segment >= from)
            from = s->segment + 1;
    }
    return from;
}

int locate_first(pawl *p, uint32_t stream, uint32_t partition, uint64_t *first) {
    uint64_t n = locate_whole_from(p, first_segment(p));
    *first = 0;
    if (n == 0)
        return 0;
    if (n == last_segment(p)) {
        *first = tables_stream(&p->tables, stream)->parts[partition].base;
        return 0;
    }
    int rc = locate_next_at(p, n, stream, partition, first);
    /* the writer dropped it meanwhile */
    while (p->read_only && rc == PAWL_TRIMMED && ++n < last_segment(p)) {
        p->wal.first_segment = n;
        rc = locate_next_at(p, n, stream, partition, first);
    }
    return rc == PAWL_LOST ? 0 : rc;
}

/* The last entry of a sealed segment's index at or below the offset; its first frame if there is
 * none. */
static int in_sealed(pawl *p, uint64_t index, uint32_t stream, uint32_t partition, uint64_t offset,
                     uint64_t *lsn) {
    struct segment_header h, next;
    *lsn = first_frame(p, index);
    int file = segment_open(p->io, &p->mem, index + 1, &p->header, false, &next);
    if (file < 0)
        return trimmed(file, index + 1);
    p->io->ops->close(p->io, file);
    if (next.seal_lsn / p->header.segment_size != index)
        return 0;
    file = segment_open(p->io, &p->mem, index, &p->header, false, &h);
    if (file < 0)
        return trimmed(file, index);
    struct scan s;
    struct scan_frame f = {0};
    scan_begin(&s, p->io, &p->mem, file, &h, false);
    int rc = scan_jump(&s, next.seal_lsn);
    if (rc == 0)
        rc = scan_next(&s, &f);
    if (rc == 1 && f.header.kind == FRAME_SEAL && f.header.runs == 1) {
        struct run r;
        const uint8_t *data;
        frame_run(f.bytes, &f.header, 0, &r, &data);
        struct index_entry e;
        for (uint32_t at = 0; index_decode(data, r.len, &at, &e);)
            if (e.stream == stream && e.partition == partition && e.base <= offset &&
                e.lsn / h.segment_size == index)
                *lsn = e.lsn;
    }
    scan_end(&s);
    p->io->ops->close(p->io, file);
    return rc < 0 ? rc : 0; /* a damaged index only costs time: the walk checks everything itself */
}

int locate(pawl *p, uint32_t stream, uint32_t partition, uint64_t offset, uint64_t *lsn) {
    const struct partition *part = &tables_stream(&p->tables, stream)->parts[partition];
    uint64_t last = last_segment(p);
    if (offset >= part->base) {
        *lsn = first_frame(p, last);
        for (uint32_t i = 0; i < p->index_count; i++) {
            const struct index_entry *e = &p->index[i];
            if (e->stream == stream && e->partition == partition && e->base <= offset)
                *lsn = e->lsn;
        }
        return 0;
    }
    uint64_t lo = first_segment(p), hi = last; /* the offset lies in [lo, hi) */
    while (hi - lo > 1) {
        uint64_t mid = lo + (hi - lo) / 2, next;
        int rc = locate_next_at(p, mid, stream, partition, &next);
        if (rc == PAWL_LOST) { /* no checkpoint to tell: begin earlier */
            hi = mid;
            continue;
        }
        TRY(rc);
        if (next <= offset)
            lo = mid;
        else
            hi = mid;
    }
    return in_sealed(p, lo, stream, partition, offset, lsn);
}
