/* SPDX-License-Identifier: Apache-2.0 */
#include "recovery/scan.h"

#include <assert.h>
#include <errno.h>

static int read_failed(const struct scan *s, int64_t rc, uint64_t offset) {
    char name[24];
    segment_name(name, s->index, "seg");
    return fail_sys((int)rc, "read", name, s->index * s->segment_size + offset);
}

/* Windows read one after the other before reading ahead begins: openings and short looks need
 * none. */
#define SEQUENTIAL_MIN 2u
#define READAHEAD_SLOTS 4u
#define READAHEAD_SLOT_MIN (64u * 1024u)

/* Damaged places may hold frames that look good until they are hashed, one inside the other. So a
 * segment's bytes are looked at this many times at most. */
#define WORK_MAX 64u

static int count_work(struct scan *s, uint64_t bytes) {
    char name[24];
    s->work += bytes;
    if (s->work / WORK_MAX <= s->segment_size)
        return 0;
    segment_name(name, s->index, "seg");
    return fail_at(PAWL_LIMIT, 0, "", name, s->at,
                   "%s has more damaged places that look like frames than are searched: %llu bytes "
                   "were looked at; restore it from a copy",
                   name, (unsigned long long)s->work);
}

static uint64_t offset_of(const struct scan *s, uint64_t lsn) {
    return lsn - s->index * s->segment_size;
}

void scan_forget(struct scan *s) {
    readahead_end(s->readahead);
    s->readahead = NULL;
    s->sequential = 0;
    s->window = (struct window){0};
}

static int grow_buffer(struct scan *s, size_t want) {
    if (want <= s->buf_cap)
        return 0;
    /* one size for all but the largest frames, so that the memory can be kept */
    if (want < s->chunk + s->chunk / 4)
        want = (size_t)align_up(s->chunk + s->chunk / 4, BLOCK);
    mem_keep(s->mem, s->buf, s->buf_cap);
    s->buf_cap = 0;
    s->buf = mem_alloc_block(s->mem, want);
    if (s->buf == NULL)
        return fail(PAWL_MEMORY, "no memory to read a frame of %zu bytes", want);
    s->buf_cap = want;
    return 0;
}

/* End of what may be kept. */
static uint64_t readable_end(const struct scan *s) {
    return s->limit != 0 && s->limit < s->segment_size ? s->limit : s->segment_size;
}

/* Plain read of a window that holds [offset, offset + len), as far as the file has it. */
static int read_window(struct scan *s, uint64_t offset, size_t len) {
    uint64_t from = offset / BLOCK * BLOCK;
    uint64_t needed = align_up(offset + len - from, BLOCK), want = needed;
    if (want < s->chunk)
        want = s->chunk;
    if (want > s->segment_size - from)
        want = s->segment_size - from;
    bool follows =
        s->window.len != 0 && offset >= s->window.at && from <= s->window.at + s->window.len;
    s->sequential = follows ? s->sequential + 1 : 0;
    s->window.len = 0;
    TRY(grow_buffer(s, (size_t)want));
    int64_t n = s->io->ops->read(s->io, s->file, s->buf, (size_t)want, from);
    if (n == -EIO && needed < want) /* perhaps only of what isn't needed */
        n = s->io->ops->read(s->io, s->file, s->buf, (size_t)needed, from);
    if (n < 0)
        return read_failed(s, n, from);
    uint64_t end = from + (uint64_t)n, readable = readable_end(s);
    if (end > readable)
        end = readable > from ? readable : from;
    s->window = (struct window){s->buf, from, end - from};
    return 0;
}

static void announce(struct scan *s) {
    if (s->readahead != NULL && s->then >= 0)
        readahead_then(s->readahead, s->then, SEGMENT_HEADER_SIZE, s->segment_size);
}

/* After some windows in a row, or where it is known that the whole is wanted: the following ones
 * come while this one is worked on. */
static void begin_readahead(struct scan *s) {
    uint64_t from = s->window.at + s->window.len, end = readable_end(s) / BLOCK * BLOCK;
    size_t slot = s->chunk / 2 / BLOCK * BLOCK;
    bool wanted = s->whole
                      ? slot != 0
                      : (s->much || s->sequential >= SEQUENTIAL_MIN) && slot >= READAHEAD_SLOT_MIN;
    if (wanted && from % BLOCK == 0 && from + slot <= end)
        s->readahead = readahead_begin(s->io, s->mem, s->spare, s->file, slot,
                                       s->whole ? READAHEAD_SLOTS_MAX : READAHEAD_SLOTS, from, end);
    announce(s);
}

void scan_whole(struct scan *s) {
    s->whole = true;
}

void scan_one(struct scan *s) {
    s->chunk = BLOCK;
}

void scan_much(struct scan *s, uint64_t until) {
    s->much = until >= offset_of(s, s->at) + 2 * s->chunk;
}

void scan_then(struct scan *s, int file) {
    s->then = file;
    announce(s);
}

void scan_whole_after(struct scan *s, struct scan *before) {
    s->whole = true;
    if (before->readahead == NULL || !readahead_turn(before->readahead, s->file, &s->window))
        return;
    s->readahead = before->readahead;
    before->readahead = NULL;
    scan_forget(before); /* its window was in there */
}

/* Brings [offset, offset + len) into the window. */
static int window(struct scan *s, uint64_t offset, size_t len) {
    uint64_t end = s->window.at + s->window.len;
    if (offset >= s->window.at && offset + len <= end)
        return 0;
    if ((s->whole || s->much) && s->readahead == NULL && s->window.len == 0) {
        s->window.at = end = offset / BLOCK * BLOCK;
        begin_readahead(s);
        end = offset; /* the window is empty: anything goes on from there */
    }
    if (s->readahead != NULL) {
        if (offset <= end && readahead_extend(s->readahead, offset, offset + len, &s->window))
            return 0;
        scan_forget(s);
    }
    TRY(read_window(s, offset, len));
    begin_readahead(s);
    return 0;
}

/* scan_read() where the window has them, which it mostly does. */
static inline const uint8_t *bytes_at(struct scan *s, uint64_t offset, size_t len, int *rc) {
    const struct window *w = &s->window;
    if (offset < w->at || offset - w->at > w->len || len > w->len - (offset - w->at))
        return scan_read(s, offset, len, rc);
    *rc = 0;
    return w->data + (offset - w->at);
}

const uint8_t *scan_read(struct scan *s, uint64_t offset, size_t len, int *rc) {
    *rc = 0;
    if (offset > s->segment_size || len > s->segment_size - offset)
        return NULL;
    *rc = window(s, offset, len);
    if (*rc < 0 || offset + len > s->window.at + s->window.len)
        return NULL;
    return s->window.data + (offset - s->window.at);
}

void scan_rewind(struct scan *s, const struct segment_header *h) {
    s->at = s->accepted_end = h->index * h->segment_size + SEGMENT_HEADER_SIZE;
    s->link = h->link;
    s->epoch = h->epoch;
    s->durable = 0;
    s->kind = 0;
    s->after_lost = false;
    s->next_counts = s->counts ? counts_encode(h->ids.commits, h->ids.changes) : 0;
}

void scan_begin(struct scan *s, struct seam *io, struct mem *m, int file,
                const struct segment_header *h, bool newest) {
    memset(s, 0, sizeof *s);
    s->io = io;
    s->mem = m;
    s->file = file;
    s->then = -1;
    s->index = h->index;
    s->segment_size = h->segment_size;
    (void)segment_key(h, KEY_OWN, &s->key);
    s->newest = newest;
    s->refuses = NEED_TO_READ;
    segment_judge_features(h, &s->unknown);
    s->counts = segment_counts(h);
    s->ids = h->ids;
    scan_rewind(s, h);
    uint64_t chunk = SCAN_CHUNK;
    /* a small segment: most of what is asked for lies at its head or its end */
    if (h->segment_size / 4 < chunk)
        chunk = h->segment_size / 4;
    if (m->cap != 0 && m->cap / 32 < chunk)
        chunk = m->cap / 32;
    s->chunk = (size_t)align_up(chunk, BLOCK);
}

void scan_end(struct scan *s) {
    scan_forget(s);
    mem_keep(s->mem, s->buf, s->buf_cap);
    s->buf = NULL;
    s->buf_cap = 0;
}

static enum chain_evidence chain_of(const struct scan *s, const struct frame_header *h) {
    bool begins = h->kind == FRAME_OPEN || h->kind == FRAME_CHECKPOINT || h->kind == FRAME_SEAL;
    if (h->epoch < s->epoch)
        return CHAIN_OLDER;
    begins = begins || s->kind == FRAME_LOST; /* what was lost may have begun an incarnation */
    if (h->link != s->link || (h->epoch > s->epoch && !begins))
        return CHAIN_BROKEN;
    /* A checkpoint stands first in its segment and nowhere else, but for one that repair
     * replaced. */
    bool first = segment_offset(s->at, s->segment_size) == SEGMENT_HEADER_SIZE;
    if ((h->kind == FRAME_CHECKPOINT) != first && !(first && h->kind == FRAME_LOST))
        return CHAIN_BROKEN;
    return CHAIN_FOLLOWS;
}

/* Judges what stands at LSN p. */
static int look(struct scan *s, uint64_t p, struct evidence *e, struct scan_frame *f) {
    int rc;
    *e = (struct evidence){HEAD_ZERO, PAYLOAD_NONE, CHAIN_NONE, WITNESS_NO};
    memset(f, 0, sizeof *f);
    const uint8_t *head = bytes_at(s, offset_of(s, p), FRAME_HEADER_SIZE, &rc);
    if (head == NULL) {
        uint64_t left = s->segment_size - offset_of(s, p);
        const uint8_t *rest = rc == 0 && left < FRAME_HEADER_SIZE
                                  ? bytes_at(s, offset_of(s, p), (size_t)left, &rc)
                                  : NULL;
        if (rest != NULL && !all_zero(rest, (size_t)left))
            e->head = HEAD_GARBAGE;
        return rc;
    }
    switch (frame_decode_header(head, p, s->segment_size, &s->key, &f->header)) {
    case FRAME_GOOD:
        e->head = HEAD_GOOD;
        break;
    case FRAME_OTHER_LSN:
        e->head = HEAD_ELSEWHERE;
        return 0;
    case FRAME_NO_MAGIC: {
        size_t len = (size_t)(align_up(p + 1, BLOCK) - p);
        const uint8_t *block = bytes_at(s, offset_of(s, p), len, &rc);
        if (rc < 0)
            return rc;
        e->head = block == NULL || all_zero(block, len) ? HEAD_ZERO : HEAD_GARBAGE;
        return 0;
    }
    default:
        e->head = HEAD_BAD;
        return 0;
    }
    e->chain = chain_of(s, &f->header);
    /* nothing in it counts but the header, and it may be very large */
    if (f->header.kind == FRAME_LOST) {
        f->data = head;
        e->payload = PAYLOAD_GOOD;
        return 0;
    }
    f->data = bytes_at(s, offset_of(s, p), (size_t)frame_length(&f->header), &rc);
    if (rc < 0)
        return rc;
    e->payload = f->data != NULL && frame_check(f->data, &f->header, &s->key) == FRAME_GOOD
                     ? PAYLOAD_GOOD
                     : PAYLOAD_BAD;
    return e->payload == PAYLOAD_GOOD ? 0 : count_work(s, frame_length(&f->header));
}

static bool accepted(const struct evidence *e) {
    return decide(e)->action == ACCEPT;
}

/* Rules 2 and 3 of docs/format.md, section 3: 1 found, 0 not; then *e is the evidence that counts,
 * and s->at where it stands. */
static int find(struct scan *s, struct evidence *e, struct scan_frame *f) {
    TRY(look(s, s->at, e, f));
    uint64_t p = s->at, q = align_up(p, BLOCK);
    if (accepted(e))
        return 1;
    if (q == p || q % s->segment_size == 0)
        return 0;
    int rc;
    const uint8_t *gap = bytes_at(s, offset_of(s, p), (size_t)(q - p), &rc);
    if (gap == NULL)
        return rc;
    bool zeros = all_zero(gap, (size_t)(q - p));
    struct evidence at_q;
    s->at = q;
    rc = look(s, q, &at_q, f);
    if (rc < 0) {
        s->at = p; /* a read that failed may be tried again */
        return rc;
    }
    bool begins = f->header.kind == FRAME_OPEN || f->header.kind == FRAME_SEAL;
    if (accepted(&at_q) && (zeros || (begins && f->header.epoch > s->epoch)))
        return 1;
    if (zeros)
        *e = at_q;
    else
        s->at = p;
    return 0;
}

bool scan_sealed(const struct scan *s) {
    return s->kind == FRAME_SEAL || (s->kind == FRAME_LOST && s->at % s->segment_size == 0);
}

bool scan_can_seal(const struct scan *s) {
    uint64_t at = align_up(offset_of(s, s->accepted_end), BLOCK);
    return scan_sealed(s) || at + FRAME_HEADER_SIZE <= s->segment_size;
}

/* A frame's counts, and what it adds to them. */
static void note_counts(struct scan *s, const struct frame_header *h, const uint8_t *frame) {
    if (!s->counts)
        return;
    uint32_t commits = h->flags >> 12, changes = h->flags >> 24;
    s->next_counts = counts_encode((uint64_t)commits + (h->kind == FRAME_COMMIT),
                                   changes + frame_changes(h, frame));
}

int scan_next(struct scan *s, struct scan_frame *f) {
    if (scan_sealed(s))
        return 0;
    struct evidence e;
    uint64_t p = s->at;
    int rc = find(s, &e, f);
    if (rc <= 0) {
        s->at = p; /* beside a living writer, the rest of a group may come yet */
        return rc;
    }
    struct frame_header *h = &f->header;
    h->ids = s->counts ? &s->ids : NULL;
    frame_judge_features(h, f->data, &s->unknown);
    if (s->unknown.need >= s->refuses) {
        s->at = p;
        return unknown_error(&s->unknown, "");
    }
    assert(h->lsn == s->at && h->durable <= h->lsn);                      /* PAWL-9 */
    assert(h->link == s->link && h->epoch >= s->epoch);                   /* PAWL-2: the chain */
    assert(h->lsn + frame_length(h) <= (s->index + 1) * s->segment_size); /* PAWL-2 */
    s->link = h->kind == FRAME_LOST ? h->dir_hash : h->hash;
    s->epoch = h->epoch;
    s->kind = h->kind;
    note_counts(s, h, f->data);
    s->after_lost |= h->kind == FRAME_LOST;
    s->at = s->accepted_end = h->lsn + frame_length(h);
    if (h->durable > s->durable)
        s->durable = h->durable;
    return 1;
}

static bool is_header(const struct scan *s, const uint8_t *head, uint64_t p,
                      struct frame_header *h) {
    return frame_decode_header(head, p, s->segment_size, &s->key, h) == FRAME_GOOD ||
           (s->other_key != NULL &&
            frame_decode_header(head, p, s->segment_size, s->other_key, h) == FRAME_GOOD);
}

/* Calls for every multiple of 8 beyond `from` where a good header stands; *h is it. 1 found, 0
 * none, negative error. */
static int find_header(struct scan *s, uint64_t *lsn, struct frame_header *h) {
    uint64_t end = (s->index + 1) * s->segment_size;
    for (uint64_t p = *lsn + 8; p + FRAME_HEADER_SIZE <= end; p += 8) {
        int rc;
        uint64_t left = align_up(p + 1, BLOCK) - p;
        const uint8_t *rest = bytes_at(s, offset_of(s, p), (size_t)left, &rc);
        if (rc < 0)
            return rc;
        if (rest == NULL && left == BLOCK)
            return 0;
        if (rest != NULL) { /* most of what is scanned is zeros, or an older segment's */
            uint64_t skip =
                left == BLOCK && all_zero(rest, BLOCK) ? left : frame_search(rest, p, left);
            p += skip;
            if (skip == left) {
                p -= 8;
                continue;
            }
        }
        const uint8_t *head = bytes_at(s, offset_of(s, p), FRAME_HEADER_SIZE, &rc);
        if (rc < 0)
            return rc;
        if (head == NULL)
            return 0;
        if (is_header(s, head, p, h)) {
            *lsn = p;
            return 1;
        }
    }
    *lsn = end;
    return 0;
}

static int next_header(struct scan *s, uint64_t *lsn, struct frame_header *h) {
    uint64_t from = *lsn;
    int rc = find_header(s, lsn, h);
    TRY(rc < 0 ? 0 : count_work(s, *lsn - from));
    return rc;
}

/* Header and first frame are written together: a frame that knew any of them knew both, whatever
 * epoch the header says. */
static bool is_witness(const struct scan *s, const struct witness *w) {
    uint64_t base = s->index * s->segment_size;
    bool first = s->at == base + SEGMENT_HEADER_SIZE;
    return w->lsn > s->at && (w->epoch >= s->epoch || first) && w->durable > (first ? base : s->at);
}

/* The first witness after `lsn`, by its header alone; its lsn is NO_LSN if there is none. */
static int next_witness(struct scan *s, uint64_t lsn, struct witness *w) {
    struct frame_header h;
    int rc;
    while ((rc = next_header(s, &lsn, &h)) == 1) {
        *w = (struct witness){lsn, h.epoch, h.durable};
        if (is_witness(s, w))
            return 0;
    }
    *w = (struct witness){NO_LSN, 0, 0};
    return rc;
}

/* Finds the first witness, and in the newest segment the last one. As `at` and `epoch` only grow,
 * what was no witness before is none now: so the walk's searches together look at each byte about
 * once, however many damaged places there are. */
static int find_witnesses(struct scan *s) {
    bool again = s->looked_from != 0 && s->looked_from <= s->at;
    if (!again) {
        s->last = (struct witness){0};
        TRY(next_witness(s, s->at, &s->first));
    } else if (s->first.lsn == NO_LSN || !is_witness(s, &s->first)) {
        uint64_t from = s->first.lsn != NO_LSN && s->first.lsn > s->at ? s->first.lsn : s->at;
        TRY(next_witness(s, from, &s->first));
    }
    s->looked_from = s->at;
    if (!s->newest || s->first.lsn == NO_LSN || is_witness(s, &s->last))
        return 0;
    for (struct witness w = s->first; w.lsn != NO_LSN;) {
        s->last = w;
        TRY(next_witness(s, w.lsn, &w));
    }
    return 0;
}

int scan_judge(struct scan *s, struct scan_end *end) {
    struct evidence e;
    struct scan_frame f;
    memset(end, 0, sizeof *end);
    end->lsn = s->at;
    end->witness_lsn = NO_LSN;
    if (scan_sealed(s))
        return 0;
    TRY(find(s, &e, &f));
    end->lsn = s->at;
    e.witness = s->newest ? WITNESS_NO : WITNESS_YES;
    TRY(find_witnesses(s));
    if (s->first.lsn != NO_LSN) {
        e.witness = WITNESS_YES;
        end->witness_lsn = s->first.lsn;
        /* the witness itself was written, whatever is left of it */
        end->witnessed_to = (s->newest ? s->last.lsn : s->first.lsn) + FRAME_HEADER_SIZE;
    }
    end->decision = decide(&e);
    /* PAWL-9: nothing that was durable is cut, and nothing is called damage without a witness */
    bool durable = e.witness == WITNESS_YES;
    assert(end->decision->action == ACCEPT || (end->decision->action == DAMAGE) == durable);
    assert(end->witness_lsn == NO_LSN || (end->witness_lsn > end->lsn && durable));
    return 0;
}

bool scan_leftover(const struct scan *s, const struct scan_end *end) {
    return s->kind == FRAME_CLOSE && strcmp(end->decision->label, "torn-garbage") == 0;
}

int scan_resync(struct scan *s, uint64_t from, uint64_t *lsn) {
    struct frame_header h;
    *lsn = from;
    for (;;) {
        int rc = next_header(s, lsn, &h);
        if (rc < 0)
            return rc;
        if (rc == 0) {
            *lsn = NO_LSN;
            return 0;
        }
        size_t len = h.kind == FRAME_LOST ? FRAME_HEADER_SIZE : (size_t)frame_length(&h);
        const uint8_t *bytes = scan_read(s, offset_of(s, *lsn), len, &rc);
        if (rc < 0)
            return rc;
        TRY(count_work(s, len));
        if (bytes != NULL && h.epoch >= s->epoch && frame_check(bytes, &h, &s->key) == FRAME_GOOD)
            return 0;
    }
}

/* Takes the link of the frame at p on trust, if there is one. */
static int trust(struct scan *s, uint64_t p) {
    int rc;
    struct frame_header h;
    const uint8_t *head = scan_read(s, offset_of(s, p), FRAME_HEADER_SIZE, &rc);
    if (head == NULL || frame_decode_header(head, p, s->segment_size, &s->key, &h) != FRAME_GOOD)
        return rc;
    s->link = h.link;
    s->epoch = h.epoch;
    return 0;
}

int scan_jump(struct scan *s, uint64_t lsn) {
    s->at = lsn;
    s->after_lost = true;
    s->link = 0; /* none: without a good frame here, nothing follows */
    return trust(s, lsn);
}

void scan_resume(struct scan *s, uint64_t lsn, uint64_t link, uint64_t epoch) {
    s->at = lsn;
    s->link = link;
    s->epoch = epoch;
}

/* Ends a scan that has just begun: finds the first header of a frame beyond the file's first byte
 * that knew an LSN of `durable` or above to be durable. *lsn is its place or UINT64_MAX. */
static int first_header(struct scan *s, uint64_t durable, uint64_t *lsn) {
    struct frame_header fh;
    int rc;
    scan_whole(s);
    *lsn = s->index * s->segment_size;
    while ((rc = next_header(s, lsn, &fh)) == 1 && fh.durable < durable) {
    }
    if (rc != 1)
        *lsn = NO_LSN;
    scan_end(s);
    return rc < 0 ? rc : 0;
}

int scan_for_begun(struct seam *io, struct mem *m, int file, uint64_t index,
                   const struct segment_header *h, uint64_t *lsn) {
    struct segment_header of = *h;
    struct frame_key next;
    struct scan s;
    of.index = index;
    scan_begin(&s, io, m, file, &of, true);
    bool turned = h->index != index && segment_key(h, KEY_NEXT, &next);
    if (turned && segment_keyed(h))
        s.other_key = &next;
    else if (turned) /* the first key comes with the segment after the one that names it */
        s.key = next;
    /* frames go in only when header and checkpoint are durable */
    return first_header(&s, index * h->segment_size + 1, lsn);
}

int scan_for_frame(struct seam *io, struct mem *m, int file, const struct segment_header *h,
                   bool *found) {
    struct scan s;
    uint64_t lsn;
    scan_begin(&s, io, m, file, h, true);
    int rc = first_header(&s, 0, &lsn);
    *found = lsn != NO_LSN;
    return rc;
}
