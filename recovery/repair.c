/* SPDX-License-Identifier: Apache-2.0
 *
 * Mending: what is damaged goes into a side file, a LOST frame takes its place, and everything
 * after it stays. The only place of Pawl that rewrites durable bytes (PAWL-5), asked for by name,
 * under the writer's lock.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>

#include "recovery/verify.h"

struct repair {
    struct seam *io;
    struct mem *mem;
    pawl_check *check;
    struct repaired *done;
    uint64_t first; /* index of the oldest segment's file */
    /* of the newest with a good header: what is before it was begun, whatever is left of it */
    uint64_t last_good;
};

static int note_area(struct repaired *d, uint64_t from, uint64_t to) {
    if (d->count == d->cap) {
        uint32_t want = d->cap == 0 ? 16 : d->cap * 2;
        void *p = mem_grow(d->mem, d->areas, d->cap * sizeof *d->areas, want * sizeof *d->areas);
        if (p == NULL)
            return fail(PAWL_MEMORY, "no memory to remember what was mended");
        d->areas = p;
        d->cap = want;
    }
    d->areas[d->count].from = from;
    d->areas[d->count++].to = to;
    return 0;
}

/* Does the file have `size` bytes? A link or whatever else has the name does not. */
static bool has_bytes(struct seam *io, const char *name, uint64_t size) {
    uint64_t there = 0;
    int file = io->ops->open(io, name, SEAM_BUFFERED);
    if (file < 0)
        return false;
    bool whole = io->ops->size(io, file, &there) == 0 && there >= size;
    io->ops->close(io, file);
    return whole;
}

#define NAMES_MAX 100

/* The file for the bytes that are about to go. -EEXIST: an earlier repair, which was interrupted,
 * has saved them; those are the originals. */
static int save_file(struct seam *io, uint64_t from, uint64_t size, char name[32]) {
    int file = -EEXIST;
    for (unsigned n = 0; n < NAMES_MAX && file == -EEXIST; n++) {
        if (n == 0)
            snprintf(name, 32, "lost-%016llx.bin", (unsigned long long)from);
        else
            snprintf(name, 32, "lost-%016llx.%u.bin", (unsigned long long)from, n);
        file = io->ops->open(io, name, SEAM_CREATE | SEAM_RDWR | SEAM_BUFFERED);
        if (file == -EEXIST && has_bytes(io, name, size))
            return file;
    }
    return file == -EEXIST ? -ENOSPC : file;
}

/* The bytes that are about to go, kept beside the segments. */
static int save(struct repair *r, struct scan *s, uint64_t from, uint64_t to) {
    char name[32];
    int file = save_file(r->io, from, to - from, name);
    if (file == -EEXIST)
        return 0;
    if (file < 0)
        return fail_sys(file, "create", name, from);
    int rc = 0;
    uint64_t base = s->index * s->segment_size;
    for (uint64_t at = from; at < to && rc == 0;) {
        size_t len = (size_t)(to - at < SCAN_CHUNK / 4 ? to - at : SCAN_CHUNK / 4);
        const uint8_t *bytes = scan_read(s, at - base, len, &rc);
        int64_t n = 0;
        if (bytes != NULL)
            n = r->io->ops->write(r->io, file, bytes, len, at - from);
        if (n < 0)
            rc = fail_sys((int)n, "write", name, at);
        if (rc == PAWL_IO)
            rc = 0; /* unreadable sectors: the rest is still worth keeping */
        at += len;
    }
    int synced = r->io->ops->sync(r->io, file);
    r->io->ops->close(r->io, file);
    if (rc == 0 && synced < 0)
        rc = fail_sys(synced, "fdatasync", name, from);
    if (rc == 0 && r->io->ops->sync_dir(r->io) < 0)
        rc = fail(PAWL_IO, "the directory can't be synced");
    return rc;
}

/* Overwrites [from, to) with `head` and zeros, whole blocks at a time. */
static int overwrite(struct repair *r, const struct scan *s, uint64_t from, uint64_t to,
                     const uint8_t *head, size_t head_len) {
    uint8_t *block = mem_alloc_block(r->mem, BLOCK);
    if (block == NULL)
        return fail(PAWL_MEMORY, "no memory to repair");
    uint64_t base = s->index * s->segment_size;
    int rc = 0;
    assert(base < from && from < to &&
           to <= base + s->segment_size); /* PAWL-5: and no other bytes */
    for (uint64_t at = from / BLOCK * BLOCK; at < to && rc == 0; at += BLOCK) {
        bool whole = from <= at && at + BLOCK <= to;
        memset(block, 0, BLOCK);
        /* A block that can never be read is damaged as a whole, and so isn't read here. The others
         * have good bytes beside the damage: they aren't given up for one failing read (PAWL-8). */
        int64_t n = whole ? 0 : r->io->ops->read(r->io, s->file, block, BLOCK, at - base);
        if (n < 0) {
            rc = fail_sys((int)n, "read", NULL, at);
            break;
        }
        for (uint64_t i = at < from ? from : at; i < to && i < at + BLOCK; i++)
            block[i - at] = i - from < head_len ? head[i - from] : 0;
        n = r->io->ops->write(r->io, s->file, block, BLOCK, at - base);
        if (n < 0)
            rc = fail_sys((int)n, "write", NULL, at);
    }
    if (rc == 0 && r->io->ops->sync(r->io, s->file) < 0)
        rc = fail(PAWL_IO, "the segment can't be synced");
    mem_free(r->mem, block, BLOCK);
    return rc;
}

/* The link that what follows the damage carries, and where that is. */
static int continuation(struct repair *r, struct scan *s, const struct scan_end *end, uint64_t *q,
                        uint64_t *link) {
    struct segment_header next;
    uint64_t stop = (s->index + 1) * s->segment_size;
    int rc;
    if (*q != NO_LSN) {
        struct frame_header h;
        const uint8_t *head = scan_read(s, *q - s->index * s->segment_size, FRAME_HEADER_SIZE, &rc);
        if (head == NULL ||
            frame_decode_header(head, *q, s->segment_size, &s->key, &h) != FRAME_GOOD)
            return fail(PAWL_IO, "the frame after the damage can't be read again");
        *link = h.link;
        return 0;
    }
    *link = 0;
    /* only headers of witnesses are left: give up what lies up to the last one, which is all that
     * they know of */
    if (s->newest) {
        *q = align_up(end->witnessed_to, BLOCK);
        return 0;
    }
    int file = segment_open_file(r->io, s->index + 1, false);
    enum segment_verdict v;
    int bad;
    if (file < 0)
        return file;
    rc = segment_header_read(r->io, r->mem, file, s->index + 1, &next, &v, &bad);
    r->io->ops->close(r->io, file);
    if (rc == 0 && v != SEGMENT_GOOD && v != SEGMENT_ONE_COPY)
        rc = fail(
            PAWL_DAMAGED,
            "the header of segment %016llx can't be mended, so the damage before it can't either",
            (unsigned long long)(s->index + 1));
    if (rc == 0) {
        *q = stop;
        *link = next.link;
    }
    return rc;
}

static int on_damage(void *ctx, struct scan *s, const struct scan_end *end, uint64_t q) {
    struct repair *r = ctx;
    uint64_t p = end->lsn, link = 0;
    TRY(continuation(r, s, end, &q, &link));
    TRY(save(r, s, p, q));
    scan_forget(s);
    bool padding_only =
        link == s->link && q < (s->index + 1) * s->segment_size && q - align_up(p, BLOCK) == 0;
    uint8_t head[FRAME_HEADER_SIZE];
    struct frame_header h = {.lsn = p,
                             .epoch = s->epoch,
                             .durable = p,
                             .time_ns = r->io->ops->realtime(r->io),
                             .link = s->link,
                             .flags = s->next_counts};
    if (!padding_only && q - p < FRAME_HEADER_SIZE)
        return fail_at(PAWL_DAMAGED, 0, "", "", p,
                       "the damaged place at LSN %llu is too small for a LOST frame",
                       (unsigned long long)p);
    if (!padding_only)
        frame_encode_lost(head, &h, q, link, &s->key);
    TRY(overwrite(r, s, p, q, head, padding_only ? 0 : sizeof head));
    if (!padding_only)
        TRY(note_area(r->done, p, q));
    r->check->repaired++;
    verify_tell(r->check, 0, s->index, p, q - p, padding_only ? "padding-mended" : "taken-out",
                "%llu bytes at LSN %llu went into lost-%016llx.bin", (unsigned long long)(q - p),
                (unsigned long long)p, (unsigned long long)p);
    return 0;
}

static int on_header(void *ctx, int file, const struct segment_header *h, int bad_copy) {
    struct repair *r = ctx;
    TRY(segment_header_mend(r->io, r->mem, file, h, bad_copy));
    r->check->repaired++;
    return 0;
}

/* What the header of segment index + 1 says of the segment before it. */
struct before {
    uint64_t link, seal_lsn, epoch;
};

/* From the seal of segment `index`, found across whatever damage there is before it. Zeros where
 * that is damaged too: any link is as good then, as the LOST frame in its place takes it over. */
static struct before look_before(struct repair *r, uint64_t index,
                                 const struct segment_header *like) {
    struct before b = {0};
    struct segment_header h;
    struct scan s;
    struct scan_frame f;
    uint64_t lsn = 0, last = 0;
    int rc, file = segment_open(r->io, r->mem, index, like, false, &h);
    if (file < 0)
        return b;
    scan_begin(&s, r->io, r->mem, file, &h, false);
    do {
        while ((rc = scan_next(&s, &f)) == 1)
            last = f.header.lsn;
        if (rc == 0 && !scan_sealed(&s) && (rc = scan_resync(&s, s.at, &lsn)) == 0 && lsn != NO_LSN)
            rc = scan_jump(&s, lsn);
    } while (rc == 0 && lsn != NO_LSN && !scan_sealed(&s));
    if (scan_sealed(&s))
        b = (struct before){s.link, s.kind == FRAME_SEAL ? last : 0, s.epoch};
    scan_end(&s);
    r->io->ops->close(r->io, file);
    return b;
}

/* Do the frames of a segment count? Only what they say tells, the header being gone. */
static bool seems_to_count(struct repair *r, int file, const struct segment_header *guess) {
    struct segment_header plain = *guess;
    struct scan s;
    struct scan_frame f;
    uint64_t lsn = 0;
    bool counts = segment_counts(guess), commit = false, told = false;
    plain.features.write &= ~FEATURE_COUNTS;
    scan_begin(&s, r->io, r->mem, file, &plain, true);
    int rc = scan_jump(&s, s.at);
    while (rc == 0 && lsn != NO_LSN && !told) {
        while (!told && (rc = scan_next(&s, &f)) == 1) {
            uint32_t flags = f.header.flags & FRAME_FLAGS_COUNTS;
            told = flags != 0 || commit;
            counts = told ? flags != 0 : counts;
            commit |= f.header.kind == FRAME_COMMIT;
        }
        if (!told && rc == 0 && (rc = scan_resync(&s, s.at, &lsn)) == 0 && lsn != NO_LSN)
            rc = scan_jump(&s, lsn);
    }
    scan_end(&s);
    return counts;
}

/* The first frame of the segment: its header in *h, if that is good; what follows it otherwise.
 * *whole: it is good, and *ids are those that it tells. */
static int first_frame(struct repair *r, int file, const struct segment_header *guess,
                       struct frame_header *h, struct c_ids *ids, bool *whole) {
    struct scan s;
    uint64_t first = guess->index * guess->segment_size + SEGMENT_HEADER_SIZE, lsn = first;
    int rc = 0;
    scan_begin(&s, r->io, r->mem, file, guess, true);
    s.epoch = 0;
    const uint8_t *head = scan_read(&s, SEGMENT_HEADER_SIZE, FRAME_HEADER_SIZE, &rc);
    *whole = head != NULL &&
             frame_decode_header(head, first, s.segment_size, &s.key, h) == FRAME_GOOD &&
             (h->kind == FRAME_CHECKPOINT || h->kind == FRAME_LOST);
    const uint8_t *frame =
        *whole ? scan_read(&s, SEGMENT_HEADER_SIZE, (size_t)frame_length(h), &rc) : NULL;
    if (frame != NULL && frame_check(frame, h, &s.key) == FRAME_GOOD)
        checkpoint_ids(h, frame, ids);
    if (!*whole && rc == 0)
        rc = scan_resync(&s, first, &lsn);
    if (!*whole && rc == 0 && lsn == NO_LSN && guess->index < r->last_good) {
        *h = (struct frame_header){0}; /* all of it is lost */
        scan_end(&s);
        return 0;
    }
    if (!*whole && rc == 0 && lsn == NO_LSN)
        rc = fail(PAWL_DAMAGED, "nothing whole is left of segment %016llx: that can't be mended",
                  (unsigned long long)guess->index);
    if (!*whole && rc == 0) {
        head = scan_read(&s, lsn % s.segment_size, FRAME_HEADER_SIZE, &rc);
        if (head == NULL || frame_decode_header(head, lsn, s.segment_size, &s.key, h) != FRAME_GOOD)
            rc =
                fail(PAWL_IO, "the frame at LSN %llu can't be read again", (unsigned long long)lsn);
    }
    scan_end(&s);
    return rc;
}

/* What a begun segment's header must have said, both copies of it being gone: its first frame and
 * the end of the segment before tell (docs/format.md, section 9). */
static int guess_header(struct repair *r, int file, const struct segment_header *like,
                        struct segment_header *guess) {
    struct frame_header h = {0};
    struct before before = {0};
    bool whole, kept = guess->index > r->first;
    memset(&guess->ids, 0, sizeof guess->ids);
    if (guess->index == 0)
        guess->ids = (struct c_ids){1, 1, 1, 0, 0, 0};
    TRY(first_frame(r, file, guess, &h, &guess->ids, &whole));
    if (!seems_to_count(r, file, guess))
        guess->features.write &= ~FEATURE_COUNTS;
    else
        guess->features.write |= FEATURE_COUNTS;
    if (kept)
        before = look_before(r, guess->index - 1, like);
    bool begins = h.kind == FRAME_OPEN || h.kind == 0;
    guess->epoch = !whole && begins && before.epoch != 0 ? before.epoch : h.epoch;
    /* where nothing tells, any link does but 0, which says that nothing followed */
    guess->link = whole ? h.link : before.link != 0 || guess->index == 0 ? before.link : 1;
    guess->seal_lsn = before.seal_lsn;
    guess->created_ns = h.time_ns;
    guess->place = (struct seam_place){0};
    return 0;
}

static int rebuild_header(struct repair *r, const struct segment_header *like, int file) {
    struct segment_header guess = *like;
    uint64_t index = like->index;
    char name[24];
    segment_name(name, index, "seg");
    if (index > LSN_MAX / like->segment_size - 1) /* as segment_decode() has it */
        return fail_at(PAWL_DAMAGED, 0, "", name, NO_LSN,
                       "the file %s has a number that no log reaches; move it out of the directory",
                       name);
    TRY(guess_header(r, file, like, &guess));
    uint8_t *head = mem_alloc_block(r->mem, SEGMENT_HEADER_SIZE);
    if (head == NULL)
        return fail(PAWL_MEMORY, "no memory to repair");
    segment_encode(head, &guess);
    int64_t n = r->io->ops->write(r->io, file, head, SEGMENT_HEADER_SIZE, 0);
    int rc = n < 0 ? fail_sys((int)n, "write", NULL, NO_LSN) : 0;
    if (rc == 0 && r->io->ops->sync(r->io, file) < 0)
        rc = fail(PAWL_IO, "the segment can't be synced");
    mem_free(r->mem, head, SEGMENT_HEADER_SIZE);
    if (rc == 0) {
        r->check->repaired++;
        verify_tell(r->check, 0, index, index * like->segment_size, SEGMENT_HEADER_SIZE,
                    "header-rebuilt",
                    "the header of segment %016llx was rebuilt from what follows it",
                    (unsigned long long)index);
    }
    return rc;
}

/* All frames of one segment, past whatever damage there is. */
static int look_at_frames(struct repair *r, int file, const struct segment_header *h) {
    struct scan s;
    struct scan_frame f;
    uint64_t lsn;
    scan_begin(&s, r->io, r->mem, file, h, true);
    scan_whole(&s);
    s.refuses = NEED_TO_WRITE;
    int rc = scan_jump(&s, s.at);
    while (rc == 0) {
        while ((rc = scan_next(&s, &f)) == 1) {
        }
        if (rc < 0 || scan_sealed(&s))
            break;
        rc = scan_resync(&s, s.at, &lsn);
        if (rc < 0 || lsn == NO_LSN)
            break;
        rc = scan_jump(&s, lsn);
    }
    scan_end(&s);
    return rc == PAWL_VERSION ? rc : 0; /* what can't be read is for the repair itself */
}

struct headers {
    struct segment_list list;
    /* good ones; segment_size 0: there is none */
    struct segment_header like;          /* the newest */
    bool seen;                           /* all headers have been */
    struct segment_header before, after; /* the ones nearest to the segment */
    bool searched;                       /* `after` was looked for */
};

/* What is done with each segment; `good`: the header was valid, and is *h. */
typedef int (*header_fn)(struct repair *r, struct headers *all, int file, bool good,
                         struct segment_header *h);

/* The good header nearest to the i-th segment, of those after it. */
static int find_after(struct repair *r, struct headers *all, size_t i) {
    uint64_t index = all->list.index[i];
    bool known = all->after.segment_size == 0 || all->after.index > index;
    if (all->searched && known)
        return 0;
    all->searched = true;
    all->after.segment_size = 0;
    while (++i < all->list.count && all->after.segment_size == 0) {
        struct segment_header h;
        enum segment_verdict v = SEGMENT_BAD;
        int bad, file = segment_open_file(r->io, all->list.index[i], false);
        if (file < 0)
            return file;
        int rc = segment_header_read(r->io, r->mem, file, all->list.index[i], &h, &v, &bad);
        r->io->ops->close(r->io, file);
        TRY(rc);
        if (v == SEGMENT_GOOD || v == SEGMENT_ONE_COPY)
            all->after = h;
    }
    return 0;
}

/* The features of a segment without a good header: its key is its neighbours', or one that they
 * name. Frames of the segment tell which. */
static int guess_features(struct repair *r, struct headers *all, size_t i, int file,
                          struct segment_header *h) {
    struct features may[4];
    uint8_t fresh[KEY_SIZE];
    uint32_t count = 0;
    bool found = false;
    TRY(find_after(r, all, i));
    int rc = r->io->ops->random(r->io, fresh, sizeof fresh);
    if (rc < 0)
        return fail_sys(rc, "getrandom", NULL, NO_LSN);
    /* first those that would be right as a whole */
    if (all->after.segment_size != 0)
        may[count++] = all->after.features;
    if (all->before.segment_size != 0)
        may[count++] = all->before.features;
    if (all->after.segment_size != 0 && (all->after.features.write & FEATURE_KEYS) != 0) {
        may[count] = all->after.features;
        features_turn_back(&may[count++]);
    }
    if (all->before.segment_size != 0 && (all->before.features.write & FEATURE_KEYS) != 0) {
        may[count] = all->before.features;
        features_turn_key(&may[count++], fresh);
    }
    for (uint32_t k = 0; k < count && !found; k++) {
        h->features = may[k];
        TRY(scan_for_frame(r->io, r->mem, file, h, &found));
    }
    if (!found && count != 0)
        h->features = may[0];
    return 0;
}

static int each_header(struct repair *r, struct headers *all, bool writable, header_fn fn) {
    int rc = 0;
    all->before = all->after = (struct segment_header){.segment_size = 0};
    all->searched = false;
    for (size_t i = 0; i < all->list.count && rc == 0; i++) {
        struct segment_header h;
        enum segment_verdict v;
        int bad;
        uint64_t index = all->list.index[i];
        int file = segment_open_file(r->io, index, writable);
        if (file < 0)
            return file;
        rc = segment_header_read(r->io, r->mem, file, index, &h, &v, &bad);
        if (rc == 0 && v == SEGMENT_UNKNOWN)
            rc = segment_header_error(index, v, &h, h.segment_size);
        bool good = v == SEGMENT_GOOD || v == SEGMENT_ONE_COPY;
        if (rc == 0 && !good) {
            h = all->like;
            h.index = index;
            h.epoch = 0;
            rc = all->seen && h.segment_size != 0 ? guess_features(r, all, i, file, &h) : 0;
        }
        if (rc == 0)
            rc = fn(r, all, file, good, &h);
        if (good || (writable && index < r->last_good)) /* or mended now */
            all->before = h;
        r->io->ops->close(r->io, file);
    }
    return rc;
}

static int find_good(struct repair *r, struct headers *all, int file, bool good,
                     struct segment_header *h) {
    (void)r;
    (void)file;
    if (!good)
        return 0;
    all->like = *h;
    r->last_good = h->index;
    return segment_check_writable(h);
}

static int look_at_segment(struct repair *r, struct headers *all, int file, bool good,
                           struct segment_header *h) {
    (void)all;
    (void)good;
    return h->segment_size != 0 ? look_at_frames(r, file, h) : 0;
}

static int rebuild(struct repair *r, struct headers *all, int file, bool good,
                   struct segment_header *h) {
    uint64_t witness = NO_LSN;
    (void)all;
    if (good || h->segment_size == 0)
        return 0;
    if (h->index > r->last_good)
        TRY(scan_for_begun(r->io, r->mem, file, h->index, h, &witness));
    return h->index < r->last_good || witness != NO_LSN ? rebuild_header(r, h, file) : 0;
}

/* Nothing is changed before the whole log was looked at: one with anything that this version must
 * not write to stays as it is (docs/format.md, section 8). Then the headers, without which nothing
 * can be walked. */
static int repair_headers(struct repair *r) {
    struct headers all = {.like = {.segment_size = 0}};
    TRY(segment_list_read(r->io, r->mem, &all.list));
    r->first = all.list.count != 0 ? all.list.index[0] : 0;
    int rc = each_header(r, &all, false, find_good);
    if (rc == 0 && all.list.count != 0 && all.like.segment_size == 0)
        rc = fail(PAWL_DAMAGED,
                  "no segment has a good copy of its header: the log's id is in it, and "
                  "without that no frame can be told from garbage. Put one header block "
                  "of any segment back from a backup, then repair again");
    all.seen = true;
    if (rc == 0)
        rc = each_header(r, &all, false, look_at_segment);
    if (rc == 0) {
        segment_remove_tmp(r->io, r->mem);
        rc = each_header(r, &all, true, rebuild);
    }
    segment_list_free(&all.list);
    return rc;
}

int repair_log(struct seam *io, struct mem *m, pawl_check *c, struct repaired *done) {
    struct repair r = {.io = io, .mem = m, .check = c, .done = done};
    struct verify v = {.io = io,
                       .mem = m,
                       .check = c,
                       .damage = on_damage,
                       .header = on_header,
                       .writable = true,
                       .ctx = &r};
    TRY(own_files(io, m));
    TRY(repair_headers(&r));
    return verify_log(&v);
}
