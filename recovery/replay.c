/* SPDX-License-Identifier: Apache-2.0 */
#include "recovery/replay.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

int damage_error(const struct scan *s, const struct scan_end *end) {
    char name[24];
    segment_name(name, s->index, "seg");
    const char *label = end->decision != NULL ? end->decision->label : "not-sealed";
    const char *why =
        end->decision != NULL ? end->decision->why : "the segment does not end with its seal";
    if (end->witness_lsn != NO_LSN)
        return fail_at(
            PAWL_DAMAGED, 0, "", name, end->lsn,
            "%s in %s at offset %llu (LSN %llu): %s; the frame at LSN %llu knew it to be durable. "
            "Run 'pawl verify', "
            "then 'pawl repair'",
            label, name, (unsigned long long)(end->lsn % s->segment_size),
            (unsigned long long)end->lsn, why, (unsigned long long)end->witness_lsn);
    return fail_at(
        PAWL_DAMAGED, 0, "", name, end->lsn,
        "%s in %s at offset %llu (LSN %llu): %s; a later segment proves that it was durable. Run "
        "'pawl verify', then "
        "'pawl repair'",
        label, name, (unsigned long long)(end->lsn % s->segment_size), (unsigned long long)end->lsn,
        why);
}

int full_error(const struct scan *s, uint64_t lsn) {
    char name[24];
    segment_name(name, s->index, "seg");
    return fail_at(PAWL_DAMAGED, 0, "", name, lsn,
                   "segment-full: %s is full up to its end (LSN %llu) and has no room for its "
                   "seal; no version of Pawl wrote it so. It can be read, not written to",
                   name, (unsigned long long)lsn);
}

/* Walks one segment, handing frames over. *checkpoint: whether the first frame was a real
 * checkpoint. In salvage, damage is jumped over. */
static int walk(struct scan *s, const struct replay *r, bool salvage, struct scan_end *end,
                bool *checkpoint, struct recovered *out) {
    struct scan_frame f;
    bool again = false;
    *checkpoint = false;
    for (;;) {
        int rc;
        while ((rc = scan_next(s, &f)) == 1) {
            again = false;
            if (f.header.kind == FRAME_CHECKPOINT)
                *checkpoint = true;
            if (r->frame != NULL)
                TRY(r->frame(r->ctx, &f.header, f.data, s->after_lost));
            if (r->progress != NULL)
                r->progress(r->progress_arg, s->at % s->segment_size, s->segment_size);
        }
        if (rc < 0)
            return rc;
        TRY(scan_judge(s, end));
        bool damaged = end->decision != NULL && end->decision->action == DAMAGE;
        if (!damaged)
            return 0;
        if (!again) { /* a writer may have got there since these bytes were read: look again */
            again = true;
            scan_forget(s);
            continue;
        }
        if (!salvage)
            return damage_error(s, end);
        uint64_t lsn;
        TRY(scan_resync(s, s->at, &lsn));
        out->salvaged = true;
        if (lsn == NO_LSN)
            return 0;
        TRY(scan_jump(s, lsn));
    }
}

/* A segment being read. */
struct reading {
    int file;
    int bad_copy; /* of its header, or -1 */
    struct segment_header header;
    struct scan scan;
};

static int begin_reading(struct seam *io, struct mem *m, const struct log_extent *x, uint64_t n,
                         bool writable, struct reading *g) {
    g->file = segment_open_judged(io, m, n, &x->newest, writable, &g->header, &g->bad_copy);
    if (g->file < 0)
        return g->file;
    scan_begin(&g->scan, io, m, g->file, &g->header, n == x->last);
    g->scan.refuses = writable ? NEED_TO_WRITE : NEED_TO_READ;
    scan_whole(&g->scan);
    return 0;
}

static void end_reading(struct seam *io, struct reading *g) {
    scan_end(&g->scan);
    io->ops->close(io, g->file);
}

/* Is a segment's checkpoint a frame, a torn creation (then the segment was never begun), or lost to
 * repair? */
enum first_frame { FIRST_GOOD, FIRST_TORN, FIRST_LOST, FIRST_DAMAGED };

static int judge_first(struct scan *s, enum first_frame *first) {
    struct scan_frame f;
    struct scan_end end;
    int rc = scan_next(s, &f);
    if (rc == 1) {
        *first = f.header.kind == FRAME_CHECKPOINT ? FIRST_GOOD : FIRST_LOST;
        return 0;
    }
    if (rc == 0)
        rc = scan_judge(s, &end);
    if (rc == 0)
        *first =
            end.decision != NULL && end.decision->action == DAMAGE ? FIRST_DAMAGED : FIRST_TORN;
    return rc;
}

/* Where replay must start: the newest segment whose checkpoint is there, in *g; drops a segment
 * whose creation was torn from x. */
static int find_start(struct seam *io, struct mem *m, struct log_extent *x, enum replay_mode mode,
                      struct reading *g) {
    for (uint64_t n = x->last;; n--) {
        TRY(begin_reading(io, m, x, n, mode == REPLAY_WRITE, g));
        enum first_frame first = FIRST_GOOD;
        int rc = judge_first(&g->scan, &first);
        if (rc == 0 && (first == FIRST_GOOD || n == x->first ||
                        (first == FIRST_DAMAGED && mode != REPLAY_SALVAGE))) {
            scan_rewind(&g->scan, &g->header); /* what was read stays */
            /* a damaged one is reported by the walk; in segment 0 the tables start empty */
            return 0;
        }
        end_reading(io, g);
        TRY(rc);
        if (first == FIRST_TORN && n == x->last) {
            x->last--;
            x->spare = x->prepared;
            x->prepared = true;
            int file = segment_open(io, m, x->last, &x->newest, false, &g->header);
            if (file < 0)
                return file;
            io->ops->close(io, file);
            x->newest = g->header;
        }
    }
}

/* The newest segment is sealed: make sure that the file after it was never begun. */
static int check_after_seal(struct seam *io, struct mem *m, const struct log_extent *x) {
    return x->prepared ? segment_check_unbegun(io, m, x->last + 1, &x->newest) : 0;
}

/* Files that a writer may have left unsynced: the newest begun segment and the one before; after
 * them there may be two prepared ones. */
#define UNSYNCED_MAX 4u

/* All at once, the directory too: a device that is busy takes as long for four flushes at a time as
 * for one. */
static int sync_files(struct seam *io, struct seam_req *req, size_t count) {
    for (size_t i = 0; i < count; i++)
        io->ops->submit(io, &req[i]);
    io->ops->kick(io);
    int rc = io->ops->sync_dir(io);
    rc = synced(rc) ? 0 : rc;
    for (size_t left = count; left > 0;) {
        struct seam_req *done[UNSYNCED_MAX];
        int n = io->ops->reap(io, done, UNSYNCED_MAX, true);
        left -= n > 0 ? (size_t)n : 0;
    }
    for (size_t i = 0; i < count; i++) {
        int64_t result = req[i].result;
        /* not begun: no sync that failed (PAWL-7) */
        if (result == -EINTR || result == -EAGAIN || result == -ECANCELED)
            result = io->ops->sync(io, req[i].file);
        if (!synced((int)result) && (rc == 0 || rc == -EROFS))
            rc = (int)result;
    }
    return rc;
}

int replay_sync(struct seam *io, struct mem *m, bool *stuck) {
    struct segment_list l;
    TRY(segment_list_read(io, m, &l));
    struct seam_req req[UNSYNCED_MAX];
    size_t count = 0;
    int rc = 0;
    for (size_t i = l.count > UNSYNCED_MAX ? l.count - UNSYNCED_MAX : 0; i < l.count && rc == 0;
         i++) {
        int file = segment_open_file(io, l.index[i], false);
        if (file >= 0)
            req[count++] = (struct seam_req){.op = SEAM_SYNC, .file = file, .buffer = -1};
        else
            rc = file;
    }
    segment_list_free(&l);
    int synced = rc == 0 ? sync_files(io, req, count) : 0;
    for (size_t i = 0; i < count; i++) {
        io->ops->drop_cache(io, req[i].file);
        io->ops->close(io, req[i].file);
    }
    if (synced == -EROFS && stuck != NULL) {
        *stuck = true;
        return rc;
    }
    return rc < 0 || synced == 0 ? rc : fail_sys(synced, "fdatasync", NULL, NO_LSN);
}

/* Both copies of the newest header, before anything in the segment vouches for them. Damage is left
 * as it is, for verify to tell. */
static int mend_torn_copy(struct seam *io, struct mem *m, const struct reading *g) {
    bool torn = false;
    if (g->bad_copy >= 0)
        TRY(segment_header_torn(io, m, g->file, &g->header, &torn));
    return torn ? segment_header_mend(io, m, g->file, &g->header, g->bad_copy) : 0;
}

/* A prepared file. One of another size is set aside, and so is one that has another name: it was
 * linked while it was being recycled, or somebody has put it here. *file is -1 then. */
static int take_prepared(struct seam *io, uint64_t index, uint64_t want, int *file) {
    uint64_t size = 0;
    *file = segment_open_file(io, index, true);
    if (*file < 0)
        return *file;
    char name[24];
    segment_name(name, index, "seg");
    int rc = io->ops->size(io, *file, &size);
    if (rc == 0 && size == want && !wal_file_is_kept(io, *file))
        return 0;
    io->ops->close(io, *file);
    *file = -1;
    rc = wal_set_aside(io, index);
    return rc < 0 ? fail_sys(rc, "rename", name, index * want) : 0;
}

/* Other bytes may follow in the log that this one was copied from, and have come into other hands:
 * the first turn takes another key than they have, the second one that isn't in any copy. */
static void note_copy(struct seam *io, const struct reading *g, struct recovered *out) {
    const struct seam_place *said = &g->header.place;
    struct seam_place is;
    uint32_t due = 0;
    if ((g->header.features.ignore & FEATURE_PLACED) == 0 || !seam_knows_place(io, g->file, &is))
        return;
    if (said->inode == 0 && said->born_ns == 0)
        due = 1;
    else if (said->inode != is.inode ||
             (said->born_ns != is.born_ns && said->born_ns != 0 && is.born_ns != 0))
        due = 2;
    out->copied = due == 2;
    if (out->start.turns_due < due)
        out->start.turns_due = due;
}

static int take_over(struct seam *io, struct mem *m, const struct reading *g, struct log_extent *x,
                     struct recovered *out) {
    struct wal_start *st = &out->start;
    uint64_t size = x->newest.segment_size;
    TRY(mend_torn_copy(io, m, g));
    note_copy(io, g, out);
    int rc = x->prepared ? take_prepared(io, x->last + 1, size, &st->next_file) : 0;
    st->next_written = size;
    if (rc == 0 && st->next_file >= 0 && io->ops->written != NULL)
        rc = io->ops->written(io, st->next_file, &st->next_written);
    if (rc == 0 && st->next_file >= 0 && x->spare)
        rc = take_prepared(io, x->last + 2, size, &st->spare_file);
    if (rc < 0 && st->next_file >= 0) {
        io->ops->close(io, st->next_file);
        st->next_file = -1;
    }
    return rc;
}

/* Where the walk over a segment ended. */
static void note_end(const struct scan *s, const struct scan_end *end, struct recovered *out) {
    struct wal_start *st = &out->start;
    out->scanned += s->at % s->segment_size;
    out->end = end->decision;
    out->clean = s->kind == FRAME_CLOSE;
    bool cut = end->decision != NULL && end->decision->action == CUT && !scan_leftover(s, end);
    out->cut = cut ? align_up(s->at + 1, BLOCK) - s->at : 0;
    /* PAWL-8, PAWL-9: all that a frame knew durable is there */
    assert(s->accepted_end >= s->durable && s->accepted_end <= s->at);
    st->tail = s->accepted_end;
    st->link = s->link;
    st->epoch = s->epoch;
    st->sealed = scan_sealed(s);
    st->turns_due = s->after_lost; /* repair keeps a copy of what it took out */
}

/* *g is the newest one afterwards, open in out->start. */
static int replay_segments(struct seam *io, struct mem *m, enum replay_mode mode,
                           const struct replay *r, struct log_extent *x, struct reading *g,
                           struct recovered *out) {
    TRY(find_start(io, m, x, mode, g));
    out->header = x->newest;
    for (;;) {
        struct scan_end end = {0};
        bool checkpoint;
        int rc = walk(&g->scan, r, mode == REPLAY_SALVAGE, &end, &checkpoint, out);
        note_end(&g->scan, &end, out);
        uint64_t n = g->header.index;
        if (rc == 0 && n == x->last) {
            scan_end(&g->scan);
            out->start.file = g->file;
            return mode == REPLAY_WRITE && !scan_can_seal(&g->scan)
                       ? full_error(&g->scan, g->scan.accepted_end)
                       : 0;
        }
        end_reading(io, g);
        TRY(rc);
        TRY(begin_reading(io, m, x, n + 1, mode == REPLAY_WRITE, g));
    }
}

/* Remembers the last frame's LSN on its way to the caller's callback. */
struct tap {
    const struct replay *inner;
    uint64_t last_lsn;
};
static int tap_frame(void *ctx, const struct frame_header *h, const uint8_t *frame,
                     bool after_lost) {
    struct tap *t = ctx;
    t->last_lsn = h->lsn;
    return t->inner->frame(t->inner->ctx, h, frame, after_lost);
}

int replay_log(struct seam *io, struct mem *m, enum replay_mode mode, struct log_extent *x,
               const struct replay *r, struct recovered *out) {
    memset(out, 0, sizeof *out);
    out->start.file = out->start.next_file = out->start.spare_file = -1;
    struct tap t = {.inner = r};
    struct replay tapped = {tap_frame, &t, r->progress, r->progress_arg};
    struct reading newest;
    int rc = replay_segments(io, m, mode, &tapped, x, &newest, out);
    struct wal_start *st = &out->start;
    if (rc == 0 && st->sealed)
        rc = check_after_seal(io, m, x);
    st->seal_lsn = st->sealed ? t.last_lsn : 0;
    memcpy(st->log_id, x->newest.log_id, 16);
    st->segment_size = x->newest.segment_size;
    st->disk_cap = x->newest.disk_cap;
    st->features = x->newest.features;
    st->ids = x->newest.ids;
    st->segment = x->last;
    st->first_segment = x->first;
    if (rc == 0 && mode == REPLAY_WRITE)
        rc = take_over(io, m, &newest, x, out);
    if ((rc < 0 || mode != REPLAY_WRITE) && st->file >= 0) {
        io->ops->close(io, st->file);
        st->file = -1;
    }
    return rc;
}
