/* SPDX-License-Identifier: Apache-2.0
 *
 * Reading a partition: the reader walks over frames. It takes recent frames from memory, and older
 * ones from disk, with large direct reads, and verifies everything. Records of recent runs are
 * returned in place, in the log's write buffers; a reader pins at most PINS_MAX groups at once. All
 * other runs are gathered into the reader's own buffer. So a slow reader never stalls the writer.
 */
#include <assert.h>
#include <errno.h>

#include "pipeline/reader.h"

uint64_t reader_limit(const pawl *p, uint32_t flags) {
    if (p->read_only)
        return p->follow.shown;
    return (flags & PAWL_READ_UNCOMMITTED) != 0 ? p->wal.tail : p->wal.durable;
}

static int take_frame(struct pawl_reader *r, const struct frame_header *h, const uint8_t *frame,
                      bool locked);

void reader_init(struct pawl_reader *r, pawl *p, uint32_t flags, take_fn take) {
    *r = (struct pawl_reader){
        .live = HANDLE_LIVE, .p = p, .flags = flags, .take = take, .file = -1, .room = &r->own};
    bytes_init(&r->buf, &p->mem);
}

void record_room_free(pawl *p, struct record_room *room) {
    mem_free(&p->mem, room->records, room->cap * sizeof *room->records);
    *room = (struct record_room){NULL, 0};
}

void reader_close_file(struct pawl_reader *r) {
    r->astray = false;
    if (r->file < 0)
        return;
    scan_end(&r->scan);
    r->p->io->ops->close(r->p->io, r->file);
    r->file = -1;
}

void reader_drop_pieces(struct pawl_reader *r) {
    while (r->pin_count > 0)
        wal_unpin(&r->p->wal, r->pins[--r->pin_count]);
    r->buf.len = r->gathered = r->gathered_records = 0;
    r->piece_count = r->piece_at = 0;
}

bool reader_pin(struct pawl_reader *r, uint64_t lsn) {
    int group = wal_pin(&r->p->wal, lsn);
    if (group < 0)
        return false;
    for (uint32_t i = 0; i < r->pin_count; i++)
        if (r->pins[i] == group) {
            wal_unpin(&r->p->wal, group);
            return true;
        }
    if (r->pin_count == PINS_MAX) {
        wal_unpin(&r->p->wal, group);
        return false;
    }
    r->pins[r->pin_count++] = group;
    return true;
}

/* Under the lock: is the offset valid? PAWL_END in *offset is replaced by the current end. */
static int check_offset(const struct pawl_reader *r, uint64_t *offset) {
    const pawl *p = r->p;
    const struct stream *s = tables_stream(&p->tables, r->stream);
    if (s == NULL)
        return fail(PAWL_NOT_FOUND, "there is no stream with id %u", r->stream);
    if (r->partition >= s->partitions)
        return fail(PAWL_RANGE, "stream %s has %u partitions, so there is no partition %u", s->name,
                    s->partitions, r->partition);
    const struct partition *part = &s->parts[r->partition];
    uint64_t end = part->next;
    if (*offset == PAWL_END)
        *offset = p->read_only ? end : tables_durable_next(part, p->wal.durable);
    if (*offset > end)
        return fail(PAWL_RANGE, "offset %llu is beyond the end of %s/%u, which is %llu",
                    (unsigned long long)*offset, s->name, r->partition, (unsigned long long)end);
    return 0;
}

/* Under the lock, released while it reads: finds the place to start. */
static int seek(struct pawl_reader *r, uint64_t offset) {
    pawl *p = r->p;
    uint64_t first, lsn;
    TRY(check_offset(r, &offset));
    int rc = locate(p, r->stream, r->partition, offset, &first, &lsn);
    if (rc > 0)
        return fail(PAWL_TRIMMED,
                    "offset %llu of %s/%u has been dropped by retention; the first kept is %llu",
                    (unsigned long long)offset, tables_stream(&p->tables, r->stream)->name,
                    r->partition, (unsigned long long)first);
    TRY(rc);
    r->astray = r->file >= 0;
    reader_drop_pieces(r);
    r->next = r->want = offset;
    r->linked = false;
    r->lsn = lsn;
    return 0;
}

int pawl_reader_open(pawl *p, uint32_t stream, uint32_t partition, uint64_t from, uint32_t flags,
                     pawl_reader **out) {
    if (out == NULL)
        return fail(PAWL_INVALID, "result pointer is NULL");
    *out = NULL;
    TRY(engine_enter(p));
    int rc = p->read_only ? follow_refresh(p) : 0;
    struct pawl_reader *r = rc < 0 ? NULL : mem_alloc(&p->mem, sizeof *r);
    if (rc >= 0 && r == NULL)
        rc = fail(PAWL_MEMORY, "no memory for a reader");
    if (rc >= 0) {
        reader_init(r, p, flags, take_frame);
        r->stream = stream;
        r->partition = partition;
        rc = seek(r, from);
        if (rc < 0)
            mem_free(&p->mem, r, sizeof *r);
        else
            *out = r, p->open_readers++;
    }
    engine_leave(p);
    return rc < 0 ? rc : 0;
}

void reader_rest(pawl_reader *r) {
    reader_close_file(r);
    if (r->piece_at != r->piece_count)
        return;
    bytes_free(&r->buf);
    bytes_init(&r->buf, &r->p->mem);
    record_room_free(r->p, r->room);
}

void pawl_reader_close(pawl_reader *r) {
    if (r == NULL || handle_live(r, "reader") < 0 || engine_check_fork(r->p) < 0)
        return;
    pawl *p = r->p;
    r->live = HANDLE_ENDED;
    reader_close_file(r);
    bytes_free(&r->buf);
    record_room_free(p, &r->own);
    pthread_mutex_lock(&p->mutex);
    reader_drop_pieces(r);
    mem_free(&p->mem, r->pieces, r->piece_cap * sizeof *r->pieces);
    p->open_readers--;
    ended_keep(p, r, sizeof *r);
    engine_leave(p);
}

void reader_unpin(pawl_reader *r) {
    pthread_mutex_lock(&r->p->mutex);
    if (r->piece_at == r->piece_count)
        reader_drop_pieces(r);
    engine_leave(r->p);
}

int pawl_reader_seek(pawl_reader *r, uint64_t offset) {
    TRY(handle_live(r, "reader"));
    TRY(engine_enter(r->p));
    int rc = seek(r, offset);
    engine_leave(r->p);
    if (r->astray)
        reader_close_file(r);
    return rc;
}

uint64_t pawl_reader_position(const pawl_reader *r) {
    return handle_live(r, "reader") < 0 ? 0 : r->next;
}

int reader_add_piece(struct pawl_reader *r, const struct run *run, const uint8_t *data,
                     uint64_t lsn, bool stays) {
    if (r->piece_count == r->piece_cap) {
        uint32_t want = r->piece_cap == 0 ? 16 : r->piece_cap * 2;
        void *q = mem_grow(&r->p->mem, r->pieces, r->piece_cap * sizeof *r->pieces,
                           want * sizeof *r->pieces);
        if (q == NULL)
            return fail(PAWL_MEMORY, "no memory for a reader");
        r->pieces = q;
        r->piece_cap = want;
    }
    struct run_piece piece = {
        .start = r->buf.len, .len = run->len, .count = run->count, .offset = run->base, .lsn = lsn};
    /* the read starts in the middle of a run */
    while (piece.offset < r->want && piece.count != 0) {
        pawl_record ignored;
        if (!record_decode(data, run->len, &piece.at, &ignored))
            return fail_at(PAWL_DAMAGED, 0, "", "", lsn, "a record does not fit its run");
        piece.offset++;
        piece.count--;
    }
    if (piece.count == 0)
        return 0;
    assert(piece.offset == r->want); /* PAWL-4: gathered without a gap or an overlap, */
    if (stays) {
        piece.pinned = data;
    } else if (!bytes_put(&r->buf, data, run->len)) {
        r->buf.failed = false;
        return fail(PAWL_MEMORY, "no memory to read a run of %u bytes; raise memory_cap", run->len);
    }
    r->gathered += run->len;
    r->gathered_records += piece.count;
    r->pieces[r->piece_count++] = piece;
    r->want = piece.offset + piece.count;
    return 0;
}

/* `at`: LSN of the frame that holds the bytes, if they are in the log's memory and the lock is
 * held; otherwise NO_LSN. */
static int add_piece(struct pawl_reader *r, const struct run *run, const uint8_t *data,
                     uint64_t lsn, uint64_t at) {
    return reader_add_piece(r, run, data, lsn, at != NO_LSN && reader_pin(r, at));
}

/* After the scan found no frame below the limit: 1 if the file is still the same segment, else
 * PAWL_TRIMMED, or the error of the check. */
static int still_there(const pawl *p, uint64_t segment) {
    int there = segment_there(p->io, segment);
    return there != 0 ? there
                      : fail(PAWL_TRIMMED, "the segment being read has been dropped by retention");
}

/* Did repair take out the frame at `lsn`? Scans from the segment's first frame, since a LOST frame
 * may begin before `lsn`; *by is that frame. */
static bool was_taken_out(pawl *p, int file, const struct segment_header *h, uint64_t lsn,
                          struct frame_header *by) {
    struct scan s;
    struct scan_frame f = {0};
    bool lost = false;
    pawl_error e;
    fail_copy(&e);
    scan_begin(&s, p->io, &p->mem, file, h, false);
    while (s.at <= lsn && scan_next(&s, &f) == 1)
        lost = f.header.kind == FRAME_LOST && s.at > lsn;
    *by = f.header;
    scan_end(&s);
    fail_again(&e);
    return lost;
}

/* The same for a spilled run. The area is remembered: a commit may have many of its runs there, and
 * each look takes the whole segment. */
static bool spilled_was_taken_out(struct pawl_reader *r, int file, const struct segment_header *h,
                                  uint64_t lsn) {
    if (lsn >= r->gone_from && lsn < r->gone_to)
        return true;
    struct frame_header lost;
    if (!was_taken_out(r->p, file, h, lsn, &lost))
        return false;
    r->gone_from = lost.lsn;
    r->gone_to = lost.lsn + frame_length(&lost);
    return true;
}

/* Takes the run that a commit refers to from the spilled frame. */
static int take_spilled(struct pawl_reader *r, const struct run *run, const struct spilled_entry *e,
                        const struct frame_header *h, const uint8_t *frame, uint64_t lsn,
                        bool in_memory) {
    struct run inner = {0};
    const uint8_t *bytes = NULL;
    if (h->hash == e->hash && h->kind == FRAME_SPILL && e->run < h->runs)
        frame_run(frame, h, e->run, &inner, &bytes);
    inner.base = run->base;
    if (bytes == NULL || inner.type != RUN_RECORDS || inner.count != run->count ||
        inner.stream != run->stream || inner.partition != run->partition)
        return fail_at(PAWL_DAMAGED, 0, "", "", e->lsn,
                       "the spilled frame at LSN %llu is not the one that was committed",
                       (unsigned long long)e->lsn);
    TRY(spill_refs_take(&r->spills, e->lsn, run));
    return add_piece(r, &inner, bytes, lsn, in_memory ? e->lsn : NO_LSN);
}

/* Under the lock. 1: taken; 0: not in memory. */
static int spilled_from_memory(struct pawl_reader *r, const struct run *run,
                               const struct spilled_entry *e, uint64_t lsn) {
    pawl *p = r->p;
    uint64_t avail;
    struct frame_header h;
    const uint8_t *frame = p->read_only ? NULL : wal_peek(&p->wal, e->lsn, &avail);
    if (frame == NULL || avail < FRAME_HEADER_SIZE ||
        frame_decode_header(frame, e->lsn, p->wal.segment_size, wal_key_at(&p->wal, e->lsn), &h) !=
            FRAME_GOOD ||
        frame_length(&h) > avail)
        return 0;
    TRY(take_spilled(r, run, e, &h, frame, lsn, true));
    return 1;
}

/* Without the lock. */
static int spilled_from_disk(struct pawl_reader *r, const struct away *away) {
    pawl *p = r->p;
    const struct run *run = &away->run;
    const struct spilled_entry *e = &away->at;
    uint64_t lsn = away->lsn;
    struct segment_header sh;
    struct scan s;
    struct scan_frame f = {0};
    int file =
        segment_open(p->io, &p->mem, e->lsn / p->header.segment_size, &p->header, false, &sh);
    if (file < 0) {
        pawl_error error;
        fail_copy(&error);
        return error.sys_errno != ENOENT
                   ? file
                   : fail(PAWL_TRIMMED,
                          "the spilled part of the transaction at LSN %llu has been dropped",
                          (unsigned long long)lsn);
    }
    scan_begin(&s, p->io, &p->mem, file, &sh, false);
    scan_one(&s);
    int rc = scan_jump(&s, e->lsn);
    if (rc == 0)
        rc = scan_next(&s, &f);
    if (rc == 1)
        rc = take_spilled(r, run, e, &f.header, f.data, lsn, false);
    else if (rc == 0 && (rc = still_there(p, e->lsn / p->header.segment_size)) > 0)
        rc = fail_at(PAWL_DAMAGED, 0, "", "", e->lsn, "the spilled frame at LSN %llu is damaged",
                     (unsigned long long)e->lsn);
    scan_end(&s);
    if (rc == PAWL_DAMAGED && spilled_was_taken_out(r, file, &sh, e->lsn)) {
        r->behind_gap = run->base + run->count;
        rc = PAWL_LOST;
    }
    p->io->ops->close(p->io, file);
    return rc;
}

/* Adds a spilled run: from memory, under the lock, or from its segment, without the lock. `locked`:
 * the lock is held. Returns AWAY and sets r->away if the caller must read the run from disk:
 * without the lock, or after closing the scan because memory is short. */
static int add_spilled(struct pawl_reader *r, const struct run *run, const uint8_t *data,
                       uint64_t lsn, bool locked) {
    pawl *p = r->p;
    struct away away = {.run = *run, .lsn = lsn};
    if (!spilled_decode(data, run->len, &away.at))
        return fail_at(PAWL_DAMAGED, 0, "", "", lsn,
                       "a reference to a spilled run is not well formed");
    if (!locked)
        pthread_mutex_lock(&p->mutex);
    int rc = spilled_from_memory(r, run, &away.at, lsn);
    if (!locked)
        engine_leave(p);
    if (rc != 0)
        return rc < 0 ? rc : 0;
    if (!locked)
        rc = spilled_from_disk(r, &away);
    if (!locked && rc != PAWL_MEMORY)
        return rc;
    r->away = away;
    return AWAY;
}

/* Takes this partition's runs from a good frame. 1: all taken. 0: the buffer is full before that,
 * because a transaction's spilled runs may exceed the memory many times; then the next call reads
 * the frame again. PAWL_LOST if offsets jump. AWAY as add_spilled(). */
static int take_frame(struct pawl_reader *r, const struct frame_header *h, const uint8_t *frame,
                      bool locked) {
    if (h->kind != FRAME_COMMIT)
        return 1;
    for (uint32_t i = 0; i < h->runs; i++) {
        struct run run;
        const uint8_t *data;
        frame_run(frame, h, i, &run, &data);
        if (!run_has_records_of(&run, r->stream, r->partition) || run.base + run.count <= r->want)
            continue;
        if (run.base > r->want) {
            r->behind_gap = run.base;
            return PAWL_LOST;
        }
        if (r->buf.len >= gather_bytes(r->p))
            return 0;
        int rc = run.type == RUN_RECORDS
                     ? add_piece(r, &run, data, h->lsn, locked ? h->lsn : NO_LSN)
                     : add_spilled(r, &run, data, h->lsn, locked);
        if (rc != 0)
            return rc;
    }
    return 1;
}

int reader_walk_memory(struct pawl_reader *r, uint64_t limit) {
    pawl *p = r->p;
    uint64_t avail;
    if (p->read_only)
        return 0;
    const uint8_t *at = wal_peek(&p->wal, r->lsn, &avail);
    if (at == NULL)
        return 0;
    /* PAWL-1: nothing is shown before it is durable, except to PAWL_READ_UNCOMMITTED */
    assert(limit <= ((r->flags & PAWL_READ_UNCOMMITTED) != 0 ? p->wal.tail : p->wal.durable));
    struct frame_header h;
    if (avail < FRAME_HEADER_SIZE ||
        frame_decode_header(at, r->lsn, p->wal.segment_size, wal_key_at(&p->wal, r->lsn), &h) !=
            FRAME_GOOD) {
        r->lsn = align_up(r->lsn + 1, BLOCK); /* the group's padding */
        return 1;
    }
    uint64_t size = frame_length(&h);
    if (size > avail || r->lsn + size > limit)
        return fail(PAWL_STATE, "a frame reaches beyond what was appended");
    int taken = r->take(r, &h, at, true);
    if (taken != 1)
        return taken != 0 ? taken : 1;
    r->astray = r->file >= 0;
    r->linked = true;
    r->link = h.hash;
    r->epoch = h.epoch;
    r->lsn = h.kind == FRAME_SEAL
                 ? (r->lsn / p->wal.segment_size + 1) * p->wal.segment_size + SEGMENT_HEADER_SIZE
                 : r->lsn + size;
    return 1;
}

/* Begins the scan at r->lsn: after the frame taken last, or at a place from the index. */
static int begin_scan(struct pawl_reader *r, int file, const struct segment_header *h) {
    pawl *p = r->p;
    int rc = 0;
    scan_begin(&r->scan, p->io, &p->mem, file, h, true);
    r->scan.spare = &p->readahead;
    bool first = r->lsn % h->segment_size == SEGMENT_HEADER_SIZE;
    if (!first && r->linked) {
        scan_resume(&r->scan, r->lsn, r->link, r->epoch);
    } else if (!first) {
        rc = scan_jump(&r->scan, r->lsn);
        scan_forget(&r->scan); /* it read without a limit: later bytes may still change */
    } else if (r->linked && h->link != r->link)
        rc = fail_at(PAWL_DAMAGED, 0, "", "", r->lsn,
                     "segment %016llx does not continue the one before it",
                     (unsigned long long)h->index);
    if (rc < 0) {
        pawl_error e;
        fail_copy(&e);
        reader_close_file(r);
        return fail_again(&e);
    }
    return 0;
}

/* Opens the scan at r->lsn, in the file of that segment. */
static int open_scan(struct pawl_reader *r, uint64_t limit) {
    pawl *p = r->p;
    uint64_t segment = r->lsn / p->header.segment_size;
    if (r->file < 0 || r->astray || r->segment != segment) {
        reader_close_file(r);
        struct segment_header h;
        int file = segment_open(p->io, &p->mem, segment, &p->header, false, &h);
        if (file < 0) {
            pawl_error e;
            fail_copy(&e);
            return e.sys_errno == ENOENT
                       ? fail(PAWL_TRIMMED, "the segment being read has been dropped by retention")
                       : file;
        }
        r->file = file;
        r->segment = segment;
        TRY(begin_scan(r, file, &h));
    }
    uint64_t base = segment * p->header.segment_size;
    bool all = limit >= base + p->header.segment_size;
    uint64_t until = all ? 0 : limit - base;
    if (r->scan.limit != until) {
        if (r->scan.limit != 0)
            scan_forget(&r->scan);
        r->scan.limit = until;
    }
    if (r->linked) /* continues with the bytes it has */
        scan_much(&r->scan, all ? p->header.segment_size : until);
    return 0;
}

static int damage_here(struct pawl_reader *r) {
    struct scan_end end;
    TRY(scan_judge(&r->scan, &end));
    if (end.decision != NULL && end.witness_lsn == NO_LSN && end.decision->action != DAMAGE) {
        /* The log's state shows that it is durable, even if no witness in the segment does. */
        struct evidence e = {HEAD_GARBAGE, PAYLOAD_NONE, CHAIN_NONE, WITNESS_YES};
        end.decision = decide(&e);
    }
    return damage_error(&r->scan, &end);
}

/* If repair took out the frame that the segment's index refers to: restarts at the segment's first
 * frame, to reach the LOST frame, and returns 1. Otherwise 0. */
static int begin_earlier(struct pawl_reader *r) {
    pawl *p = r->p;
    struct segment_header h;
    struct frame_header by;
    enum segment_verdict v;
    int bad;
    uint64_t first = r->segment * p->header.segment_size + SEGMENT_HEADER_SIZE;
    if (r->linked || r->lsn == first)
        return 0;
    TRY(segment_header_read(p->io, &p->mem, r->file, r->segment, &h, &v, &bad));
    if ((v != SEGMENT_GOOD && v != SEGMENT_ONE_COPY) || !was_taken_out(p, r->file, &h, r->lsn, &by))
        return 0;
    reader_close_file(r);
    r->lsn = first;
    return 1;
}

int reader_walk_disk(struct pawl_reader *r, uint64_t limit) {
    pawl *p = r->p;
    struct scan_frame f;
    TRY(open_scan(r, limit));
    int rc = scan_next(&r->scan, &f);
    if (rc < 0)
        return rc;
    if (rc == 0 && scan_sealed(&r->scan)) {
        r->lsn = (r->segment + 1) * p->header.segment_size + SEGMENT_HEADER_SIZE;
        return 1;
    }
    if (rc == 0) {
        uint64_t q = align_up(r->scan.at, BLOCK);
        if (q >= limit) { /* only a group's padding is left below the limit */
            r->lsn = q;
            reader_close_file(r);
            return 1;
        }
        TRY(still_there(p, r->segment));
        rc = begin_earlier(r);
        if (rc != 0)
            return rc;
        if (!p->salvage)
            return damage_here(r);
        uint64_t lsn;
        TRY(scan_resync(&r->scan, r->scan.at, &lsn));
        r->lsn =
            lsn != NO_LSN ? lsn : (r->segment + 1) * p->header.segment_size + SEGMENT_HEADER_SIZE;
        r->linked = false;
        reader_close_file(r);
        return 1;
    }
    uint64_t behind = r->scan.at;
    rc = r->take(r, &f.header, f.data, false);
    if (rc <= 0 || rc == AWAY) {
        reader_close_file(r); /* skips nothing: the next call reads this frame again */
        r->lsn = f.header.lsn;
        if (rc == AWAY)
            rc = spilled_from_disk(r, &r->away);
        return rc < 0 ? rc : 1;
    }
    /* a new incarnation may have begun in the bytes it replaces */
    r->linked = f.header.kind != FRAME_LOST;
    r->link = r->scan.link;
    r->epoch = r->scan.epoch;
    bool sealed = scan_sealed(&r->scan);
    r->lsn = sealed ? (r->segment + 1) * p->header.segment_size + SEGMENT_HEADER_SIZE : behind;
    return 1;
}

/* Skips the lost records. */
static int jump(struct pawl_reader *r, pawl_batch *batch) {
    batch->from = r->want;
    batch->to = r->next = r->want = r->behind_gap;
    return fail_at(PAWL_LOST, 0, "", "", r->lsn, "offsets %llu to %llu were lost to damage",
                   (unsigned long long)batch->from, (unsigned long long)batch->to - 1);
}

/* Under the lock, released while it reads: retention has dropped the current segment. If no record
 * of it is still needed, the reader continues after it. */
static int relocate(struct pawl_reader *r) {
    pawl_error e;
    fail_copy(&e);
    uint64_t first, lsn;
    int rc = locate(r->p, r->stream, r->partition, r->want, &first, &lsn);
    TRY(rc);
    if (rc > 0 || lsn <= r->lsn)
        return fail_again(&e);
    r->astray = r->file >= 0;
    r->lsn = lsn;
    r->linked = false;
    return 1;
}

/* Is enough gathered for a caller that takes `max` records? Records in the log's memory cost
 * nothing. */
static bool enough(const struct pawl_reader *r, size_t max) {
    size_t records = max == 0 || max > RECORDS_MAX ? RECORDS_MAX : max;
    return r->buf.len >= gather_bytes(r->p) || r->gathered >= 8 * gather_bytes(r->p) ||
           (r->gathered >= gather_bytes(r->p) && r->gathered_records >= records);
}

uint64_t reader_end_below(const struct pawl_reader *r, uint64_t limit) {
    const pawl *p = r->p;
    const struct stream *s = tables_stream(&p->tables, r->stream);
    if (s == NULL)
        return r->want;
    const struct partition *part = &s->parts[r->partition];
    return p->read_only || limit >= p->wal.tail ? part->next : tables_durable_next(part, limit);
}

bool reader_ready(const pawl_reader *r) {
    return reader_pending(r) || tables_stream(&r->p->tables, r->stream) == NULL ||
           r->want < reader_end_below(r, reader_limit(r->p, r->flags));
}

bool reader_pending(const pawl_reader *r) {
    return r->piece_at != r->piece_count;
}

/* Gathers runs until there are enough, or no more. The lock is held on entry and return, and
 * released while it reads from disk. */
static int gather(struct pawl_reader *r, size_t max) {
    pawl *p = r->p;
    reader_drop_pieces(r);
    for (;;) {
        uint64_t limit = reader_limit(p, r->flags);
        if (tables_stream(&p->tables, r->stream) == NULL)
            return fail(PAWL_NOT_FOUND, "the stream with id %u has been deleted", r->stream);
        if (r->lsn >= limit && r->piece_count == 0 && r->want < reader_end_below(r, limit)) {
            r->behind_gap =
                reader_end_below(r, limit); /* repair took out the partition's last records */
            return PAWL_LOST;
        }
        if (r->lsn >= limit || enough(r, max))
            return 0;
        int rc = reader_walk_memory(r, limit);
        if (rc == AWAY) {
            engine_leave(p);
            rc = spilled_from_disk(r, &r->away);
            pthread_mutex_lock(&p->mutex);
        } else if (rc == 0) {
            /* Frames that are not in memory are durable. Bytes after the durable LSN may still
             * change, and must not get into the window. */
            uint64_t settled = p->read_only || limit < p->wal.durable ? limit : p->wal.durable;
            engine_leave(p);
            rc = reader_walk_disk(r, settled);
            pthread_mutex_lock(&p->mutex);
        }
        if (rc == PAWL_TRIMMED)
            rc = relocate(r);
        /* the gathered records are returned first; the next call meets the error again */
        if (rc < 0)
            return r->piece_count != 0 && rc != PAWL_MEMORY ? 0 : rc;
    }
}

/* The same for any handle. A follower looks for new frames only when it has none left: a look opens
 * files and reads a part of the newest segment. What it meets among the frames that it knows, it
 * judges after such a look, since the writer may have dropped them meanwhile. */
static int gather_known(struct pawl_reader *r, size_t max) {
    pawl *p = r->p;
    if (!p->read_only)
        return gather(r, max);
    if (r->lsn < p->follow.shown && gather(r, max) >= 0 && r->piece_count != 0)
        return 0;
    TRY(follow_refresh(p));
    return gather(r, max);
}

/* Makes room for n records, or as many as there is memory for. Returns their number; 0: none. */
static size_t make_room(struct pawl_reader *r, size_t n) {
    struct record_room *room = r->room;
    for (size_t want = n; want > room->cap; want /= 2) {
        void *q = mem_grow(&r->p->mem, room->records, room->cap * sizeof *room->records,
                           want * sizeof *room->records);
        if (q != NULL)
            *room = (struct record_room){q, want};
    }
    return n < room->cap ? n : room->cap;
}

int reader_give(struct pawl_reader *r, size_t max, uint64_t max_bytes, pawl_batch *batch) {
    size_t n = 0, have = 0;
    uint64_t bytes = 0;
    bool full = false;
    for (uint32_t i = r->piece_at; i < r->piece_count; i++)
        have += r->pieces[i].count;
    max = make_room(r, max == 0 || have < max ? have : max);
    if (max == 0)
        return fail(PAWL_MEMORY, "no memory for a batch of %zu records", have);
    batch->from = r->next;
    batch->records = r->room->records;
    while (n < max && r->piece_at < r->piece_count && !full) {
        struct run_piece *piece = &r->pieces[r->piece_at];
        const uint8_t *data = piece->pinned != NULL ? piece->pinned : r->buf.data + piece->start;
        uint32_t count = piece->count < max - n ? piece->count : (uint32_t)(max - n),
                 at = piece->at, given = 0;
        assert(piece->offset == r->next + n); /* PAWL-4: and returned so */
        for (; given < count; given++) {
            pawl_record *out = &r->room->records[n + given];
            uint32_t begin = at;
            if (!record_decode(data, piece->len, &at, out))
                return fail_at(PAWL_DAMAGED, 0, "", "", piece->lsn,
                               "a record does not fit its run");
            bytes += (uint64_t)out->key_len + out->value_len;
            full = bytes > max_bytes && n + given != 0;
            if (full) {
                at = begin;
                break;
            }
            out->offset = piece->offset + given;
            out->lsn = piece->lsn;
            out->stream = r->stream;
            out->partition = r->partition;
        }
        piece->at = at;
        piece->offset += given;
        piece->count -= given;
        n += given;
        if (piece->count == 0)
            r->piece_at++;
    }
    r->next += n;
    batch->count = n;
    batch->to = r->next;
    assert(batch->to - batch->from == batch->count && r->next <= r->want);
    return (int)(n > INT32_MAX ? INT32_MAX : n);
}

/* Under the lock: waits for more records. False if the deadline passed. */
static bool wait_for_more(struct pawl_reader *r, uint64_t deadline) {
    pawl *p = r->p;
    if (!p->read_only && !p->no_thread) {
        uint32_t tail = (r->flags & PAWL_READ_UNCOMMITTED) != 0;
        p->todo.tail_readers += tail;
        bool again = engine_wait_or_stop(p, deadline);
        p->todo.tail_readers -= tail;
        return again;
    }
    if (!p->read_only && p->wal.in_flight != 0) {
        engine_wait(p);
        return true;
    }
    uint64_t now = engine_now(p), step = 10000000;
    if (now >= deadline)
        return false;
    engine_leave(p);
    p->io->ops->sleep(p->io, deadline - now < step ? deadline - now : step);
    pthread_mutex_lock(&p->mutex);
    return true;
}

static int read_next(pawl_reader *r, size_t max, uint64_t max_bytes, int timeout_ms,
                     pawl_batch *batch) {
    pawl *p = r->p;
    memset(batch, 0, sizeof *batch);
    batch->from = batch->to = r->next;
    TRY(engine_enter(p));
    uint64_t deadline =
        timeout_ms < 0 ? UINT64_MAX : engine_now(p) + (uint64_t)timeout_ms * 1000000u;
    int rc = 0;
    while (r->piece_at == r->piece_count) {
        rc = gather_known(r, max);
        if (rc < 0 || r->piece_count != 0)
            break;
        if (atomic_load(&p->stop)) {
            rc = fail(PAWL_STOPPED, "stopped on request");
            break;
        }
        if (p->wal.failed != 0) {
            rc = wal_error(&p->wal);
            break;
        }
        if (timeout_ms == 0 || !wait_for_more(r, deadline)) {
            engine_leave(p);
            if (atomic_load(&p->tight))
                reader_rest(r);
            else if (r->astray)
                reader_close_file(r);
            return 0;
        }
    }
    engine_leave(p);
    if (r->astray)
        reader_close_file(r);
    if (rc == PAWL_MEMORY) {
        atomic_store(&p->tight, true);
        reader_rest(r);
    } else if (atomic_load(&p->tight)) {
        reader_close_file(r);
    }
    if (rc == PAWL_LOST)
        return jump(r, batch);
    return rc < 0 ? rc : reader_give(r, max, max_bytes, batch);
}

int pawl_read(pawl_reader *r, size_t max, int timeout_ms, pawl_batch *batch) {
    TRY(handle_live(r, "reader"));
    if (batch == NULL)
        return fail(PAWL_INVALID, "the batch is NULL");
    return engine_answer(r->p, read_next(r, max, UINT64_MAX, timeout_ms, batch));
}

int reader_read(pawl_reader *r, size_t max, uint64_t max_bytes, pawl_batch *batch) {
    return engine_answer(r->p, read_next(r, max, max_bytes, 0, batch));
}
