/* SPDX-License-Identifier: Apache-2.0
 *
 * Finds the place of an offset in the log: the checkpoints' next offsets give the segment, its
 * index gives the place in it. Also finds the oldest offset kept of each partition.
 *
 * Files are read without the log's lock (PAWL-17). Retention may drop a segment meanwhile: then its
 * file is gone, the result is PAWL_TRIMMED, and the caller tries again with the segments kept now.
 */
#include <assert.h>
#include <errno.h>

#include "pipeline/engine.h"

/* The minimum distance in bytes between two index entries of one partition. */
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
        if (!run_has_records(&r))
            continue;
        struct stream *s = tables_stream(&p->tables, r.stream);
        if (s == NULL || r.partition >= s->partitions)
            continue;
        struct partition *part = &s->parts[r.partition];
        if (part->index_lsn != 0 && h->lsn - part->index_lsn < stride(p))
            continue;
        if (p->index_count >= index_cap(p))
            return; /* the partition is then scanned from the segment's beginning */
        if (p->index_count == p->index_cap) {
            uint32_t want = p->index_cap == 0 ? 64 : p->index_cap * 2;
            void *q = mem_grow(&p->mem, p->index, p->index_cap * sizeof *p->index,
                               want * sizeof *p->index);
            if (q == NULL)
                return; /* without the entry, reads are only slower */
            p->index = q;
            p->index_cap = want;
        }
        assert(p->index_count == 0 || p->index[p->index_count - 1].lsn <= h->lsn); /* ascending */
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

/* The segment that the tables' bases and the index belong to. */
static uint64_t last_segment(const pawl *p) {
    if (p->read_only)
        return p->follow.index;
    return p->wal.state == WAL_BEGINNING ? p->wal.segment - 1 : p->wal.segment;
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

int checkpoint_each(const struct checkpoint *c, checkpoint_fn each, void *ctx) {
    const struct scan_frame *f = &c->frame;
    for (uint32_t i = 0; i < f->header.runs; i++) {
        struct run r;
        const uint8_t *data;
        frame_run(f->data, &f->header, i, &r, &data);
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

int checkpoint_read(pawl *p, uint64_t index, struct checkpoint *c) {
    *c = (struct checkpoint){.segment = index};
    c->file = segment_open(p->io, &p->mem, index, &p->header, false, &c->header);
    if (c->file < 0)
        return trimmed(c->file, index);
    scan_begin(&c->scan, p->io, &p->mem, c->file, &c->header, false);
    c->scan.chunk = 64 * 1024;
    int rc = scan_next(&c->scan, &c->frame);
    if (rc == 1)
        rc = c->frame.header.kind == FRAME_CHECKPOINT ? 0 : PAWL_LOST;
    else if (rc == 0 && (rc = segment_there(p->io, index)) > 0)
        rc = fail_at(
            PAWL_DAMAGED, 0, "", "", first_frame(p, index),
            "the checkpoint of segment %016llx is damaged; run 'pawl verify', then 'pawl repair'",
            (unsigned long long)index);
    else if (rc == 0)
        rc = dropped(index);
    if (rc < 0)
        checkpoint_free(p, c);
    return rc;
}

void checkpoint_free(pawl *p, struct checkpoint *c) {
    if (c->file < 0)
        return;
    scan_end(&c->scan);
    p->io->ops->close(p->io, c->file);
    c->file = -1;
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

/* Without the lock: a partition's next offset when segment `index` began. */
static int next_at(pawl *p, uint64_t index, uint32_t stream, uint32_t partition, uint64_t *next) {
    struct sought s = {stream, partition, 0};
    struct checkpoint c;
    TRY(checkpoint_read(p, index, &c));
    int rc = checkpoint_each(&c, is_sought, &s);
    checkpoint_free(p, &c);
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

static bool set_first(void *ctx, uint32_t stream, uint32_t partition, uint64_t next) {
    pawl *p = ctx;
    struct stream *s = tables_stream(&p->tables, stream);
    if (s != NULL && partition < s->partitions) {
        struct partition *part = &s->parts[partition];
        part->first = next < part->next ? next : part->next;
    }
    return true;
}

static void set_first_to_base(pawl *p) {
    for (uint32_t i = 0; i < p->tables.stream_count; i++)
        for (uint32_t k = 0; k < p->tables.streams[i]->partitions; k++)
            p->tables.streams[i]->parts[k].first = p->tables.streams[i]->parts[k].base;
}

int locate_firsts_are(pawl *p, uint64_t segment, const struct checkpoint *c) {
    if (p->firsts_known && p->firsts_from >= segment)
        return 0;                       /* a first offset never moves back */
    assert(segment <= last_segment(p)); /* PAWL-11: the active segment is never dropped */
    for (uint32_t i = 0; i < p->tables.stream_count; i++)
        for (uint32_t k = 0; k < p->tables.streams[i]->partitions; k++)
            p->tables.streams[i]->parts[k].first = 0;
    p->firsts_from = segment;
    p->firsts_known = true;
    return c != NULL ? checkpoint_each(c, set_first, p) : 0;
}

/* ---- where partitions begin in a segment whose checkpoint is lost */

/* The first base of each partition, ascending. */
struct bases {
    struct mem *mem;
    struct c_next *rows;
    uint32_t count, cap;
    struct lookup lookup;
};

static int note_base(struct bases *b, uint32_t stream, uint32_t partition, uint64_t base) {
    struct lookup *l = &b->lookup;
    uint32_t at, hash = lookup_hash(l, stream, partition);
    for (uint32_t i = lookup_first(l, hash, &at); i != LOOKUP_NONE; i = lookup_next(l, hash, &at)) {
        assert(b->rows != NULL); /* the index has rows */
        if (b->rows[i].stream == stream && b->rows[i].partition == partition)
            return 0;
    }
    TRY(lookup_reserve(l, 1));
    TRY(tables_grow(b->mem, (void **)&b->rows, b->count, &b->cap, sizeof *b->rows));
    lookup_add(l, hash, b->count);
    b->rows[b->count++] = (struct c_next){stream, partition, base};
    return 0;
}

/* Without the lock: from the commits of segment `index`. */
static int bases_read(pawl *p, uint64_t index, struct bases *b) {
    struct segment_header header;
    struct scan s;
    struct scan_frame f;
    int file = segment_open(p->io, &p->mem, index, &p->header, false, &header);
    if (file < 0)
        return trimmed(file, index);
    scan_begin(&s, p->io, &p->mem, file, &header, false);
    int rc;
    while ((rc = scan_next(&s, &f)) == 1) {
        for (uint32_t i = 0; f.header.kind == FRAME_COMMIT && i < f.header.runs && rc >= 0; i++) {
            struct run r;
            const uint8_t *ignored;
            frame_run(f.data, &f.header, i, &r, &ignored);
            if (run_has_records(&r))
                rc = note_base(b, r.stream, r.partition, r.base);
        }
        if (rc < 0)
            break;
    }
    scan_end(&s);
    p->io->ops->close(p->io, file);
    return rc;
}

/* Under the lock, released while it reads: a partition begins at its first base in segment n; if it
 * has none there, where the following checkpoint says that it stands; else at its end. */
static int firsts_without_checkpoint(pawl *p, uint64_t n) {
    struct bases b = {.mem = &p->mem};
    lookup_init(&b.lookup, &p->mem);
    struct checkpoint c = {.file = -1};
    uint64_t last = last_segment(p);
    engine_leave(p);
    int rc = bases_read(p, n, &b);
    uint64_t after = n + 1;
    int found = PAWL_LOST;
    while (rc == 0 && after <= last && found == PAWL_LOST)
        found = checkpoint_read(p, after++, &c);
    pthread_mutex_lock(&p->mutex);
    if (rc == 0 && (!p->firsts_known || p->firsts_from < n)) {
        rc = locate_firsts_are(p, n, NULL);
        /* what the following checkpoint doesn't mention began later */
        for (uint32_t i = 0; found != 0 && i < p->tables.stream_count; i++)
            for (uint32_t k = 0; k < p->tables.streams[i]->partitions; k++)
                p->tables.streams[i]->parts[k].first = p->tables.streams[i]->parts[k].next;
        if (rc == 0 && found == 0)
            rc = checkpoint_each(&c, set_first, p);
        for (uint32_t i = 0; i < b.count; i++)
            (void)set_first(p, b.rows[i].stream, b.rows[i].partition, b.rows[i].next);
    }
    if (c.file >= 0) {
        engine_leave(p);
        checkpoint_free(p, &c);
        pthread_mutex_lock(&p->mutex);
    }
    mem_free(&p->mem, b.rows, b.cap * sizeof *b.rows);
    lookup_free(&b.lookup);
    return rc;
}

/* Under the lock, released inside; for a read-only handle: has the writer dropped the oldest
 * segment that this handle knows? Then updates the handle and returns 1; otherwise 0, or an
 * error. */
static int oldest_is_gone(pawl *p) {
    uint64_t n = p->wal.first_segment;
    if (!p->read_only || n >= last_segment(p))
        return 0;
    engine_leave(p);
    int there = segment_there(p->io, n);
    pthread_mutex_lock(&p->mutex);
    if (there == 0 && p->wal.first_segment == n)
        p->wal.first_segment = n + 1;
    return there < 0 ? there : there == 0;
}

/* Under the lock, released while it reads: makes sure that `first` is valid in all partitions.
 * The first caller reads it from disk; after that, the thread that drops segments keeps it up to
 * date. */
static int know_firsts(pawl *p) {
    for (;;) {
        int gone = oldest_is_gone(p);
        if (gone < 0)
            return gone;
        if (gone > 0)
            continue;
        uint64_t oldest = first_segment(p), n = locate_whole_from(p, oldest);
        if (p->firsts_known && p->firsts_from >= n)
            return 0;
        if (n == 0)
            return locate_firsts_are(p, 0, NULL);
        if (n == last_segment(p)) {
            TRY(locate_firsts_are(p, n, NULL));
            set_first_to_base(p);
            return 0;
        }
        struct checkpoint c;
        engine_leave(p);
        int rc = checkpoint_read(p, n, &c);
        pthread_mutex_lock(&p->mutex);
        /* dropped meanwhile: by a writer in another process, or by a thread that has updated the
         * tables */
        if (rc == PAWL_TRIMMED && p->read_only && n < last_segment(p) && p->wal.first_segment <= n)
            p->wal.first_segment = n + 1;
        else if (rc == PAWL_TRIMMED && first_segment(p) == oldest)
            return rc;
        else if (rc == PAWL_LOST)
            rc = firsts_without_checkpoint(p, n);
        else if (rc == 0 && (!p->firsts_known || p->firsts_from < n))
            rc = locate_firsts_are(p, n, &c);
        if (c.file >= 0) {
            engine_leave(p);
            checkpoint_free(p, &c);
            pthread_mutex_lock(&p->mutex);
        }
        if (rc < 0 && rc != PAWL_TRIMMED)
            return rc;
    }
}

int locate_first(pawl *p, uint32_t stream, uint32_t partition, uint64_t *first) {
    TRY(know_firsts(p));
    const struct stream *s = tables_stream(&p->tables, stream);
    if (s == NULL)
        return fail(PAWL_NOT_FOUND, "there is no stream with id %u any more", stream);
    *first = s->parts[partition].first;
    assert(*first <= s->parts[partition].next); /* first <= end */
    return 0;
}

/* The last entry of a sealed segment's index at or below the offset; the segment's first frame if
 * there is none. */
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
        frame_run(f.data, &f.header, 0, &r, &data);
        struct index_entry e;
        for (uint32_t at = 0; index_decode(data, r.len, &at, &e);)
            if (e.stream == stream && e.partition == partition && e.base <= offset &&
                e.lsn / h.segment_size == index)
                *lsn = e.lsn;
    }
    scan_end(&s);
    p->io->ops->close(p->io, file);
    return rc < 0 ? rc : 0; /* a damaged index only costs time: the scan checks everything itself */
}

/* Without the lock: finds the offset in one of the segments [lo, hi). */
static int in_segments(pawl *p, uint64_t lo, uint64_t hi, uint32_t stream, uint32_t partition,
                       uint64_t offset, uint64_t *lsn) {
    while (hi - lo > 1) {
        uint64_t mid = lo + (hi - lo) / 2, next;
        int rc = next_at(p, mid, stream, partition, &next);
        if (rc == PAWL_LOST) { /* no checkpoint: begin earlier */
            hi = mid;
            continue;
        }
        TRY(rc);
        if (next <= offset)
            lo = mid;
        else
            hi = mid;
    }
    TRY(in_sealed(p, lo, stream, partition, offset, lsn));
    assert(*lsn / p->header.segment_size == lo);
    return 0;
}

/* Under the lock, released while it reads. */
static int locate_now(pawl *p, uint32_t stream, uint32_t partition, uint64_t offset,
                      uint64_t *lsn) {
    const struct stream *s = tables_stream(&p->tables, stream);
    if (s == NULL)
        return fail(PAWL_NOT_FOUND, "there is no stream with id %u any more", stream);
    uint64_t first = first_segment(p), last = last_segment(p);
    if (offset >= s->parts[partition].base) {
        *lsn = first_frame(p, last);
        for (uint32_t i = 0; i < p->index_count; i++) {
            const struct index_entry *e = &p->index[i];
            if (e->stream == stream && e->partition == partition && e->base <= offset)
                *lsn = e->lsn;
        }
        return 0;
    }
    engine_leave(p);
    int rc = in_segments(p, first, last, stream, partition, offset, lsn);
    pthread_mutex_lock(&p->mutex);
    return rc;
}

int locate(pawl *p, uint32_t stream, uint32_t partition, uint64_t offset, uint64_t *first,
           uint64_t *lsn) {
    for (;;) {
        TRY(locate_first(p, stream, partition, first));
        if (offset < *first)
            return 1;
        uint64_t oldest = first_segment(p);
        int rc = locate_now(p, stream, partition, offset, lsn);
        assert(rc != 0 || *lsn >= oldest * p->header.segment_size);
        if (rc != PAWL_TRIMMED)
            return rc;
        pawl_error e;
        fail_copy(&e);
        TRY(know_firsts(p));
        if (first_segment(p) == oldest) /* it was not retention that removed the file */
            return fail_again(&e);
    }
}
