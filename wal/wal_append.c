/* SPDX-License-Identifier: Apache-2.0
 *
 * Frames into groups; which frames still have room; sealing a segment and beginning the next.
 */
#include <assert.h>

#include "wal/wal.h"

#define SCRATCH_KEPT (64u * 1024u)

/* What a segment keeps free at its end for its SEAL frame and index. */
static uint64_t index_max(uint64_t segment_size) {
    uint64_t n = segment_size / 256;
    return n > 1024 * 1024 ? 1024 * 1024 : n;
}

uint64_t wal_usable_end(uint64_t segment_size) {
    return segment_size - align_up(FRAME_HEADER_SIZE + RUN_SIZE + index_max(segment_size), BLOCK) -
           BLOCK;
}

uint64_t wal_payload_max(const struct wal *w) {
    uint64_t by_segment = w->segment_size / 4 + (w->segment_size >= 64ull * MIB ? MIB : 0);
    uint64_t by_memory = w->mem->cap == 0 ? UINT64_MAX : w->mem->cap / 4;
    uint64_t n = by_segment < by_memory ? by_segment : by_memory;
    if (n > 17ull * MIB)
        n = 17ull * MIB;
    return n - FRAME_HEADER_SIZE;
}

/* May a frame go into the active segment now? */
enum room { ROOM_YES, ROOM_ROLL, ROOM_WAIT, ROOM_FULL };

static enum room room_for(struct wal *w, uint64_t size, enum wal_class class) {
    uint64_t used = w->tail - wal_base(w), end = wal_usable_end(w->segment_size);
    bool fits = !w->needs_open && used + size <= end;
    if (w->next == NEXT_READY)
        return fits ? ROOM_YES : ROOM_ROLL;
    bool can_come = w->next == NEXT_MAKING || wal_wants_next(w);
    /* input stops first, so that processors and positions can still drain the log */
    uint64_t reserve = 0;
    if (class == WAL_PROCESS || (class == WAL_INGEST && can_come))
        reserve = w->segment_size / 16;
    else if (class == WAL_INGEST)
        reserve = w->segment_size / 4;
    if (fits && used + size + reserve <= end)
        return ROOM_YES;
    return can_come ? ROOM_WAIT : ROOM_FULL;
}

bool wal_is_full(struct wal *w) {
    return room_for(w, BLOCK, WAL_INGEST) == ROOM_FULL;
}

void wal_encode_frame(uint8_t *out, const struct wal_frame *f, struct frame_header *h,
                      const struct frame_key *key) {
    h->kind = f->kind;
    h->kind_flags = frame_kind_flags(f->kind);
    h->runs = (uint16_t)f->run_count;
    h->body_len = f->body_len;
    h->time_ns = f->time_ns;
    h->body_hash = f->key == key ? f->body_hash : frame_hash_pieces(f->pieces, f->piece_count, key);
    frame_encode(out, h, f->runs, f->pieces, f->piece_count, key);
}

/* A place for a new group: a free one, or the one with the oldest bytes. */
static struct group *place(struct wal *w) {
    struct group *oldest = NULL;
    for (int i = 0; i < WAL_GROUPS_MAX; i++) {
        struct group *g = &w->groups[i];
        if (g->state == GROUP_FREE)
            return g;
        if (g->state == GROUP_IDLE && g->pins == 0 && (oldest == NULL || g->lsn < oldest->lsn))
            oldest = g;
    }
    assert(oldest != NULL); /* fewer are alive or pinned than there are places */
    return oldest;
}

/* The buffer that was written least recently, so that recent bytes stay readable. Its groups are
 * freed. -1: all are in use. */
static int free_buffer(struct wal *w) {
    enum { COUNT = WAL_BUFFERS + WAL_LOANS };
    bool busy[COUNT];
    uint64_t newest[COUNT] = {0};
    int best = -1;
    memcpy(busy, w->for_loans, sizeof busy);
    for (int i = 0; i < WAL_GROUPS_MAX; i++) {
        const struct group *g = &w->groups[i];
        if (g->state == GROUP_FREE || g->own)
            continue;
        busy[g->buffer] |= g->state != GROUP_IDLE || g->pins != 0;
        if (g->lsn > newest[g->buffer])
            newest[g->buffer] = g->lsn;
    }
    for (int i = 0; i < COUNT; i++)
        if (!busy[i] && (best < 0 || newest[i] < newest[best]))
            best = i;
    for (int i = 0; i < WAL_GROUPS_MAX && best >= 0; i++) {
        struct group *g = &w->groups[i];
        if (g->state == GROUP_FREE || g->buffer != best || g->own)
            continue;
        assert(g->state == GROUP_IDLE && g->pins == 0); /* PAWL-5: no reader, not in flight */
        g->state = GROUP_FREE;
    }
    if (best >= 0 && best == w->rest)
        w->rest = -1;
    return best;
}

/* A group of its own for a frame that is larger than a buffer. */
static struct group *own_group(struct wal *w, uint64_t size) {
    uint8_t *data = mem_alloc_block(w->mem, (size_t)size);
    if (data == NULL)
        return NULL;
    struct group *g = place(w);
    g->data = data;
    g->cap = (uint32_t)size;
    g->buffer = -1;
    g->own = true;
    return g;
}

/* A place for a group of at least `size` bytes, with memory: the rest of the last group's buffer,
 * if that is enough, or a buffer. With a loan, it is the loan's buffer, and the loan gets the other
 * one in exchange. NULL: none now. */
static struct group *new_group(struct wal *w, uint64_t size, struct wal_loan *loan) {
    if (w->in_flight >= (size > w->group_size ? WAL_ALIVE_MAX : WAL_BUFFERS))
        return NULL;
    if (size > w->group_size)
        return own_group(w, size);
    int buffer = w->rest;
    uint32_t at = w->rest_at;
    if (buffer < 0 || loan != NULL || w->group_size - at < size) {
        buffer = free_buffer(w);
        at = 0;
        if (buffer < 0)
            return NULL;
    }
    w->rest = -1;
    if (loan != NULL) {
        struct wal_loan fresh = {w->buffers[buffer], buffer};
        w->for_loans[buffer] = true;
        buffer = loan->number;
        assert(w->for_loans[buffer] && w->buffers[buffer] == loan->data);
        w->for_loans[buffer] = false;
        *loan = fresh;
    }
    struct group *g = place(w);
    g->data = w->buffers[buffer] + at;
    g->cap = w->group_size - at;
    g->buffer = buffer;
    g->own = false;
    return g;
}

static inline void start_group(struct wal *w, struct group *g) {
    assert(w->gathering == NULL && g->pins == 0);
    assert(w->tail % BLOCK == 0); /* PAWL-5: whole blocks */
    g->state = GROUP_GATHERING;
    g->lsn = w->tail;
    g->len = g->done = g->tries = 0;
    g->need_sync = false;
    g->first_frame = w->frames;
    g->number = ++w->number;
    w->gathering = g;
}

/* Space for a frame of `size` bytes at the tail, in the gathering group or a new one; in a loan, if
 * there is one. */
static int space(struct wal *w, uint64_t size, struct wal_loan *loan, uint8_t **out) {
    if (w->gathering != NULL && (loan != NULL || w->gathering->cap - w->gathering->len < size))
        wal_submit(w, true);
    if (w->failed != 0)
        return wal_error(w);
    if (w->gathering == NULL) {
        uint64_t whole = align_up(size, BLOCK);
        struct group *g = new_group(w, whole, loan);
        if (g == NULL) {
            if (w->in_flight != 0)
                return WAL_WAIT;
            return fail(PAWL_MEMORY,
                        "no memory for a frame of %llu bytes: raise memory_cap or make "
                        "transactions smaller",
                        (unsigned long long)size);
        }
        start_group(w, g);
    }
    *out = w->gathering->data + w->gathering->len;
    return 0;
}

/* Puts a frame at the tail. The caller has checked that there is room. */
static int put_frame(struct wal *w, const struct wal_frame *f, uint64_t *lsn, uint64_t *end) {
    uint64_t size = frame_size(f->run_count, f->body_len);
    uint8_t *out = NULL;
    int rc = space(w, size, f->loan, &out);
    if (rc != 0)
        return rc;
    struct group *g = w->gathering;
    assert(g->lsn + g->len == w->tail && g->len + size <= g->cap);  /* PAWL-2: LSN is place */
    assert(w->tail >= wal_base(w) + SEGMENT_HEADER_SIZE);           /* and in its segment, */
    assert(w->tail + size <= wal_base(w) + w->segment_size);        /* which scan_next() asserts */
    assert(w->durable <= w->tail);                                  /* PAWL-9: the witness */
    assert(w->link == w->last.hash);                                /* PAWL-2: the chain */
    assert(w->state == WAL_RUNNING || f->kind == FRAME_CHECKPOINT); /* PAWL-9 */
    bool counts = (w->features.write & FEATURE_COUNTS) != 0;
    struct frame_header h = {.lsn = w->tail,
                             .epoch = w->epoch,
                             .durable = w->durable,
                             .link = w->link,
                             .flags = counts ? w->counts : 0,
                             .ids = counts ? &w->ids : NULL};
    wal_encode_frame(out, f, &h, wal_key(w));
    g->len += (uint32_t)size;
    w->tail += size;
    w->link = h.hash;
    w->last_kind = f->kind;
    w->frames++;
    w->fresh |= f->kind != FRAME_WITNESS;
    w->last = h;
    w->last_frame = out;
    *lsn = h.lsn;
    *end = w->tail;
    return 0;
}

/* Most checkpoints and indexes are small: the memory stays for the next one. */
static struct bytes *scratch(struct wal *w) {
    w->scratch.len = 0;
    w->scratch.failed = false;
    return &w->scratch;
}

static void scratch_done(struct wal *w) {
    if (w->scratch.cap > SCRATCH_KEPT)
        bytes_free(&w->scratch);
}

static void seal(struct wal *w) {
    assert(w->state == WAL_RUNNING);
    struct bytes *body = scratch(w);
    /* recovery knows that there is room for a SEAL, but perhaps not for its index */
    uint64_t max = index_max(w->segment_size),
             room = wal_base(w) + w->segment_size - w->tail - FRAME_HEADER_SIZE;
    if (room < RUN_SIZE + max)
        max = room < RUN_SIZE ? 0 : room - RUN_SIZE;
    if (w->hooks.index(w->hooks.ctx, body, (size_t)max) != 0)
        body->len = 0; /* no memory for an index: the segment is then read from its first frame */
    struct run r = {.type = RUN_INDEX,
                    .count = (uint32_t)(body->len / INDEX_ENTRY_SIZE),
                    .len = (uint32_t)body->len};
    struct wal_frame f = {.kind = FRAME_SEAL,
                          .runs = &r,
                          .run_count = body->len != 0,
                          .pieces = &(struct piece){body->data, body->len},
                          .piece_count = 1,
                          .body_len = (uint32_t)body->len,
                          .time_ns = w->io->ops->realtime(w->io)};
    uint64_t lsn, end;
    if (put_frame(w, &f, &lsn, &end) == 0) { /* else tried again at the next append */
        w->seal_lsn = lsn;
        w->state = WAL_SEALING;
        point(&w->hooks.points, "seal-appended");
        wal_submit(w, true);
    }
    scratch_done(w);
}

const struct age_stamp *wal_age(struct wal *w) {
    struct seam_clock now;
    uint64_t before = w->age.age_ns;
    w->io->ops->clocks(w->io, &now);
    w->clock_set_ns += age_move(&w->age, &now);
    assert(w->age.age_ns >= before); /* PAWL-11: nothing becomes younger */
    return &w->age;
}

void wal_stamp(struct wal *w, uint8_t out[AGE_STAMP_SIZE], struct run *r, uint32_t start) {
    age_encode(out, wal_age(w));
    assert((w->age.flags & AGE_VALID) != 0);    /* PAWL-11 */
    assert(w->age.age_ns >= w->stamped_age_ns); /* PAWL-11 */
    w->stamped_age_ns = w->age.age_ns;
    *r = (struct run){.type = RUN_CLOCK, .count = 1, .start = start, .len = AGE_STAMP_SIZE};
}

/* The same at the end of a checkpoint. */
static void stamp_checkpoint(struct wal *w, struct bytes *body, struct run *runs, uint32_t *count) {
    uint32_t start = (uint32_t)body->len;
    uint8_t *out = bytes_add(body, AGE_STAMP_SIZE);
    if (out != NULL)
        wal_stamp(w, out, &runs[(*count)++], start);
}

/* The segment that begins gets another key, if it is time. */
static void turn_key(struct wal *w) {
    bool keyed = (w->features.read & FEATURE_KEYED) != 0;
    if (keyed && w->turns_due == 0)
        return;
    assert(w->turns > 0 && w->key < WAL_TURNS_MAX);
    features_turn_key(&w->features, w->unused[--w->turns]);
    w->turns_due -= w->turns_due != 0;
    struct segment_header sh = {.features = w->features};
    memcpy(sh.log_id, w->log_id, 16);
    struct wal_key *next = &w->keys[w->key + 1];
    next->from = wal_base(w);
    (void)segment_key(&sh, KEY_OWN, &next->key);
    w->key++;
}

/* The file that the next segment's header names. None while another turn of the key is due: the
 * next writer turns it then, if this one doesn't come to it. */
static struct seam_place place_of(struct wal *w) {
    struct seam_place place = {0};
    assert(w->tail == wal_base(w) && w->file >= 0); /* PAWL-2: the segment that begins */
    bool known = seam_knows_place(w->io, w->file, &place);
    if (!known)
        w->features.ignore &= ~FEATURE_PLACED;
    else
        w->features.ignore |= FEATURE_PLACED;
    return known && w->turns_due == 0 ? place : (struct seam_place){0};
}

/* Builds header and checkpoint of the next segment in one group and submits it. */
static int begin(struct wal *w) {
    assert(w->durable == w->tail);                      /* PAWL-9: all before is durable */
    assert(w->next == NEXT_READY && w->next_file >= 0); /* PAWL-8: and the file is prepared */
    assert(!w->zeroing);                                /* PAWL-1: no zeros over what is written */
    struct bytes *body = scratch(w);
    struct run runs[16];
    uint32_t count = 0;
    struct c_ids ids;
    int rc = w->hooks.checkpoint(w->hooks.ctx, body, runs, &count, &ids);
    stamp_checkpoint(w, body, runs, &count);
    if (rc != 0 || body->failed) {
        scratch_done(w);
        return rc != 0 ? rc : fail(PAWL_MEMORY, "no memory for a checkpoint");
    }
    uint64_t first = SEGMENT_HEADER_SIZE, size = frame_size(count, body->len);
    if (first + size > wal_usable_end(w->segment_size)) {
        scratch_done(w);
        return fail(PAWL_LIMIT, "a checkpoint of %llu bytes doesn't fit into a segment of %llu",
                    (unsigned long long)size, (unsigned long long)w->segment_size);
    }
    uint64_t whole = align_up(first + size, BLOCK);
    struct group *g = new_group(w, whole, NULL);
    if (g == NULL) {
        scratch_done(w);
        return fail(PAWL_MEMORY, "no memory for a checkpoint of %llu bytes",
                    (unsigned long long)size);
    }
    uint64_t now = w->io->ops->realtime(w->io), old_link = w->link;
    w->segment++;
    w->file = w->next_file;
    w->in_flight_max = w->next_written < w->segment_size ? WAL_IN_FLIGHT_UNWRITTEN : WAL_IN_FLIGHT;
    w->next_file = w->spare_file;
    w->next_written = w->segment_size; /* a spare one is a recycled one */
    w->spare_file = -1;
    w->next = w->next_file >= 0 ? NEXT_READY : w->recycling ? NEXT_MAKING : NEXT_NONE;
    w->tail = wal_base(w);
    start_group(w, g);
    w->features.write |= FEATURE_COUNTS;
    if (ids.table != 0)
        w->features.write |= FEATURE_TABLES;
    turn_key(w);
    struct seam_place place = place_of(w);
    w->ids = ids;
    w->counts = counts_encode(ids.commits, ids.changes);
    struct segment_header sh = {.segment_size = w->segment_size,
                                .index = w->segment,
                                .epoch = w->epoch,
                                .link = old_link,
                                .seal_lsn = w->seal_lsn,
                                .created_ns = now,
                                .disk_cap = w->disk_cap_said,
                                .features = w->features,
                                .ids = ids,
                                .place = place};
    memcpy(sh.log_id, w->log_id, 16);
    segment_encode(g->data, &sh);
    g->len = (uint32_t)first;
    w->tail += first;
    struct wal_frame f = {.kind = FRAME_CHECKPOINT,
                          .runs = runs,
                          .run_count = count,
                          .pieces = &(struct piece){body->data, body->len},
                          .piece_count = 1,
                          .body_len = (uint32_t)body->len,
                          .time_ns = now > w->time_least ? now : w->time_least};
    uint64_t lsn, end;
    rc = put_frame(w, &f, &lsn, &end);
    assert(rc == 0);
    scratch_done(w);
    w->state = WAL_BEGINNING;
    wal_submit(w, true);
    point(&w->hooks.points, "header-submitted");
    return 0;
}

void wal_step(struct wal *w) {
    if (w->failed != 0)
        return;
    if (w->state == WAL_SEALING && w->in_flight == 0 && w->gathering == NULL &&
        w->next == NEXT_READY && !w->zeroing) {
        int old = w->file;
        w->starved = begin(w); /* nothing was changed: tried again with the next step */
        if (w->starved)
            return;
        if (old >= 0)
            w->io->ops->close(w->io, old);
    }
    if (w->state == WAL_BEGINNING && w->in_flight == 0) {
        /* Only now may frames go in: a torn tail is always in the newest segment. */
        assert(w->durable == w->tail); /* PAWL-9 */
        w->state = WAL_RUNNING;
        w->needs_open = false;
        point(&w->hooks.points, "segment-begun");
        w->hooks.begun(w->hooks.ctx, w->segment);
    }
}

int wal_append(struct wal *w, const struct wal_frame *f, uint64_t *lsn, uint64_t *end) {
    if (w->failed != 0)
        return wal_error(w);
    uint64_t size = frame_size(f->run_count, f->body_len);
    if ((uint64_t)f->run_count * RUN_SIZE + f->body_len > wal_payload_max(w) ||
        f->run_count > UINT16_MAX)
        return fail(PAWL_TOO_LARGE, "a frame of %llu bytes is larger than this log's limit of %llu",
                    (unsigned long long)size, (unsigned long long)wal_payload_max(w));
    wal_step(w);
    if (w->failed != 0)
        return wal_error(w);
    if (w->starved == PAWL_LIMIT)
        return fail(PAWL_LIMIT, "the log's tables are too large for the head of a segment");
    if (w->starved)
        return fail(PAWL_MEMORY,
                    "no memory to begin a segment: raise memory_cap, or finish other transactions");
    if (w->state != WAL_RUNNING) {
        bool none = w->next == NEXT_FULL || (w->next == NEXT_NONE && !wal_wants_next(w));
        return w->state == WAL_SEALING && none
                   ? fail(PAWL_FULL,
                          "the log is full: no segment is left; free space, or let retention drop "
                          "old segments")
                   : WAL_WAIT;
    }
    switch (room_for(w, size, f->class)) {
    case ROOM_YES:
        return put_frame(w, f, lsn, end);
    case ROOM_ROLL:
        seal(w);
        if (w->failed != 0)
            return wal_error(w);
        return WAL_WAIT;
    case ROOM_WAIT:
        return WAL_WAIT;
    default:
        return fail(
            PAWL_FULL,
            "the log is full (%s); free space, raise the cap, or let retention drop old segments",
            w->disk_cap != 0 && w->next != NEXT_FULL ? "its disk cap is reached"
                                                     : "no space for another segment");
    }
}

/* A stamp with each idle witness would make each a third larger: one a minute is enough. */
#define STAMP_NS UINT64_C(60000000000)

int wal_append_mark(struct wal *w, uint8_t kind) {
    struct run r;
    uint8_t body[AGE_STAMP_SIZE];
    bool stamped = kind != FRAME_WITNESS || wal_age(w)->age_ns - w->stamped_age_ns >= STAMP_NS;
    uint32_t len = stamped ? AGE_STAMP_SIZE : 0;
    uint64_t before = w->stamped_age_ns;
    if (stamped)
        wal_stamp(w, body, &r, 0);
    struct wal_frame f = {.kind = kind,
                          .class = WAL_POSITIONS,
                          .runs = &r,
                          .run_count = stamped,
                          .pieces = &(struct piece){body, len},
                          .piece_count = stamped,
                          .body_len = len,
                          .time_ns = w->io->ops->realtime(w->io)};
    uint64_t lsn, end;
    uint64_t size = frame_size(stamped, len);
    if (w->failed != 0)
        return wal_error(w);
    wal_step(w);
    if (w->state != WAL_RUNNING)
        return WAL_WAIT;
    if (w->needs_open || w->tail - wal_base(w) + size > wal_usable_end(w->segment_size)) {
        if (w->next == NEXT_READY)
            seal(w); /* the next segment's header says the same: all before it is durable */
        return w->failed != 0 ? wal_error(w) : WAL_WAIT;
    }
    int rc = put_frame(w, &f, &lsn, &end);
    if (rc < 0)
        w->stamped_age_ns = before;
    return rc;
}
