/* SPDX-License-Identifier: Apache-2.0 */
#include "recovery/replay.h"

#include <errno.h>
#include <stdlib.h>

struct lister {
    struct segment_list *list;
    const char *suffix;
    int rc;
};

static int add_index(struct segment_list *l, uint64_t index) {
    if (l->count == l->cap) {
        size_t cap = l->cap == 0 ? 64 : l->cap * 2;
        uint64_t *p = mem_grow(l->mem, l->index, l->cap * sizeof *p, cap * sizeof *p);
        if (p == NULL)
            return fail(PAWL_MEMORY, "no memory to list the log's segments");
        l->index = p;
        l->cap = cap;
    }
    l->index[l->count++] = index;
    return 0;
}

static int on_name(void *arg, const char *name) {
    struct lister *x = arg;
    uint64_t index;
    if (strlen(name) != 20)
        return 0;
    if (segment_parse_name(name, x->suffix, &index))
        x->rc = add_index(x->list, index);
    return x->rc;
}

static int by_value(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static int list(struct seam *io, struct mem *m, const char *suffix, struct segment_list *l) {
    *l = (struct segment_list){.mem = m};
    struct lister x = {.list = l, .suffix = suffix};
    int rc = io->ops->list(io, on_name, &x);
    if (rc < 0 && x.rc == 0)
        rc = fail_sys(rc, "readdir", NULL, NO_LSN);
    if (rc < 0)
        segment_list_free(l);
    else if (l->count > 1)
        qsort(l->index, l->count, sizeof *l->index, by_value);
    return rc < 0 ? rc : 0;
}

int segment_list_read(struct seam *io, struct mem *m, struct segment_list *l) {
    return list(io, m, "seg", l);
}

void segment_remove_tmp(struct seam *io, struct mem *m) {
    struct segment_list l;
    pawl_error saved;
    fail_copy(&saved);
    if (list(io, m, "tmp", &l) < 0) {
        fail_again(&saved);
        return;
    }
    for (size_t i = 0; i < l.count; i++) {
        char name[24];
        segment_name(name, l.index[i], "tmp");
        io->ops->unlink(io, name);
    }
    segment_list_free(&l);
}

void segment_list_free(struct segment_list *l) {
    mem_free(l->mem, l->index, l->cap * sizeof *l->index);
    l->index = NULL;
    l->count = l->cap = 0;
}

static int open_file(struct seam *io, uint64_t index, bool writable) {
    char name[24];
    segment_name(name, index, "seg");
    int file = io->ops->open(io, name, writable ? SEAM_RDWR : 0);
    return file < 0 ? fail_sys(file, "open", name, NO_LSN) : file;
}

/* `h`: what the header says, if it is of this format; `size`: of the log's segments. */
int segment_header_error(uint64_t index, enum segment_verdict v, const struct segment_header *h,
                         uint64_t size) {
    char name[24];
    struct format_unknown u = {0};
    segment_name(name, index, "seg");
    if (v == SEGMENT_UNKNOWN && h != NULL && h->segment_size != 0) {
        segment_judge_features(h, &u);
        return unknown_error(&u, name);
    }
    if (v == SEGMENT_UNKNOWN)
        return fail_at(PAWL_VERSION, 0, "open", name, index * size,
                       "%s was written in a format this version of Pawl (format %u) doesn't know; "
                       "use a newer one",
                       name, FORMAT_VERSION);
    return fail_at(PAWL_DAMAGED, 0, "open", name, index * size,
                   "segment-header-damaged: both copies of the header of %s are damaged; run 'pawl "
                   "verify', then 'pawl repair'",
                   name);
}

int segment_check_writable(const struct segment_header *h) {
    char name[24];
    struct format_unknown u = {0};
    segment_name(name, h->index, "seg");
    segment_judge_features(h, &u);
    return u.need >= NEED_TO_WRITE ? unknown_error(&u, name) : 0;
}

static int not_there(uint64_t index) {
    char name[24];
    segment_name(name, index, "seg");
    return fail_sys(-ENOENT, "open", name, NO_LSN);
}

int segment_there(struct seam *io, uint64_t index) {
    char name[24];
    segment_name(name, index, "seg");
    int file = io->ops->open(io, name, 0);
    if (file == -ENOENT)
        return 0;
    if (file < 0)
        return fail_sys(file, "open", name, NO_LSN);
    io->ops->close(io, file);
    return 1;
}

int segment_open(struct seam *io, struct mem *m, uint64_t index, const struct segment_header *like,
                 bool writable, struct segment_header *h) {
    int bad_copy;
    return segment_open_judged(io, m, index, like, writable, h, &bad_copy);
}

int segment_open_judged(struct seam *io, struct mem *m, uint64_t index,
                        const struct segment_header *like, bool writable, struct segment_header *h,
                        int *bad_copy) {
    int file = open_file(io, index, writable);
    if (file < 0)
        return file;
    enum segment_verdict v;
    int rc = scan_header(io, m, file, index, h, &v, bad_copy);
    if (rc == 0 && v != SEGMENT_GOOD && v != SEGMENT_ONE_COPY) {
        int there = segment_there(io, index);
        rc = there > 0    ? segment_header_error(index, v, h, like->segment_size)
             : there == 0 ? not_there(index)
                          : there;
    } else if (rc == 0 && (memcmp(h->log_id, like->log_id, 16) != 0 ||
                           h->segment_size != like->segment_size)) {
        char name[24];
        segment_name(name, index, "seg");
        rc = fail_at(PAWL_FOREIGN, 0, "open", name, index * like->segment_size,
                     "%s belongs to another log; move it out of the directory", name);
    }
    if (rc < 0) {
        io->ops->close(io, file);
        return rc;
    }
    return file;
}

/* A file above the newest begun segment that has no header: was it begun all the same? */
static int check_unbegun(struct seam *io, struct mem *m, uint64_t index,
                         const struct segment_header *like) {
    int file = open_file(io, index, false);
    if (file < 0)
        return file;
    uint64_t lsn;
    int rc =
        scan_for_begun(io, m, file, index, like->segment_size, format_seed(like->log_id), &lsn);
    io->ops->close(io, file);
    if (rc == 0 && lsn != NO_LSN)
        rc = segment_header_error(index, SEGMENT_BAD, NULL, like->segment_size);
    return rc;
}

static int judge_file(struct seam *io, struct mem *m, uint64_t index, struct segment_header *h,
                      enum segment_verdict *v) {
    int file = open_file(io, index, false);
    if (file < 0)
        return file;
    int bad;
    int rc = scan_header(io, m, file, index, h, v, &bad);
    io->ops->close(io, file);
    return rc;
}

/* The newest begun segment; above it only prepared files. */
static int find_newest(struct seam *io, struct mem *m, const struct segment_list *l,
                       struct log_extent *x, size_t *at) {
    enum segment_verdict v = SEGMENT_PREPARED, worst = SEGMENT_PREPARED;
    size_t i = l->count;
    while (i > 0) {
        TRY(judge_file(io, m, l->index[i - 1], &x->newest, &v));
        if (v == SEGMENT_UNKNOWN)
            return segment_header_error(l->index[i - 1], v, &x->newest, MIB);
        if (v == SEGMENT_GOOD || v == SEGMENT_ONE_COPY)
            break;
        if (v == SEGMENT_BAD)
            worst = v;
        i--;
    }
    if (i == 0)
        return worst == SEGMENT_BAD
                   ? segment_header_error(l->index[l->count - 1], SEGMENT_BAD, NULL, MIB)
                   : fail(PAWL_NOT_A_LOG,
                          "the directory holds no Pawl log; create one with 'pawl init'");
    *at = i - 1;
    x->last = l->index[i - 1];
    x->prepared = i < l->count && l->index[i] == x->last + 1;
    x->spare = x->prepared && i + 1 < l->count && l->index[i + 1] == x->last + 2;
    if (i < l->count && l->index[i] == x->last + 1 && worst == SEGMENT_BAD)
        TRY(check_unbegun(io, m, l->index[i], &x->newest));
    return 0;
}

static int extent_find(struct seam *io, struct mem *m, bool writable, struct log_extent *x) {
    struct segment_list l;
    memset(x, 0, sizeof *x);
    TRY(segment_list_read(io, m, &l));
    size_t at = 0;
    int rc = find_newest(io, m, &l, x, &at);
    if (rc == 0 && writable)
        rc = segment_check_writable(&x->newest);
    if (writable && (rc == 0 || rc == PAWL_NOT_A_LOG))
        segment_remove_tmp(io, m);
    if (rc < 0) {
        segment_list_free(&l);
        return rc;
    }
    size_t i = at;
    while (i > 0 && l.index[i - 1] == l.index[i] - 1)
        i--;
    x->first = l.index[i];
    bool gap = i > 0;
    segment_list_free(&l);
    if (gap)
        return fail_at(
            PAWL_DAMAGED, 0, "open", "", x->first * x->newest.segment_size,
            "segment-missing: segment %016llx is not there but older ones are; put it back, or "
            "move the older ones out of the directory: what they hold is then gone",
            (unsigned long long)(x->first - 1));
    struct segment_header h;
    /* the neighbour and the oldest tell foreign files */
    for (uint64_t n = x->last; n-- > x->first;) {
        if (n != x->first && n + 1 != x->last)
            continue;
        int file = segment_open(io, m, n, &x->newest, false, &h);
        if (file < 0)
            return file;
        io->ops->close(io, file);
        if (n == x->first)
            x->oldest = h;
        else
            n = x->first + 1;
    }
    if (x->first == x->last)
        x->oldest = x->newest;
    return 0;
}

/* Times that a writer may rename or remove what was just listed. */
#define LISTINGS_MAX 100

int log_extent_find(struct seam *io, struct mem *m, bool writable, struct log_extent *x) {
    int rc = 0;
    for (int i = 0; i < LISTINGS_MAX; i++) {
        pawl_error e;
        rc = extent_find(io, m, writable, x);
        fail_copy(&e);
        if (rc == 0 || e.sys_errno != ENOENT)
            break;
    }
    return rc;
}

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
                TRY(r->frame(r->ctx, &f.header, f.bytes, s->after_lost));
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

/* The newest segment is sealed: make sure that the file behind it was really never begun. */
static int check_after_seal(struct seam *io, struct mem *m, const struct log_extent *x) {
    return x->prepared ? check_unbegun(io, m, x->last + 1, &x->newest) : 0;
}

/* Files that a writer may have left unsynced: the newest begun segment and the one before; behind
 * them there may be two prepared ones. */
#define UNSETTLED 4u

/* All at once, the directory too: a device that is busy takes as long for four flushes at a time as
 * for one. */
static int sync_files(struct seam *io, struct seam_req *req, size_t count) {
    for (size_t i = 0; i < count; i++)
        io->ops->submit(io, &req[i]);
    io->ops->kick(io);
    int rc = io->ops->sync_dir(io);
    rc = settled(rc) ? 0 : rc;
    for (size_t left = count; left > 0;) {
        struct seam_req *done[UNSETTLED];
        int n = io->ops->reap(io, done, UNSETTLED, true);
        left -= n > 0 ? (size_t)n : 0;
    }
    for (size_t i = 0; i < count; i++) {
        int64_t result = req[i].result;
        /* not begun: no sync that failed (PAWL-7) */
        if (result == -EINTR || result == -EAGAIN || result == -ECANCELED)
            result = io->ops->sync(io, req[i].file);
        if (!settled((int)result) && (rc == 0 || rc == -EROFS))
            rc = (int)result;
    }
    return rc;
}

int replay_settle(struct seam *io, struct mem *m, bool *stuck) {
    struct segment_list l;
    TRY(segment_list_read(io, m, &l));
    struct seam_req req[UNSETTLED];
    size_t count = 0;
    int rc = 0;
    for (size_t i = l.count > UNSETTLED ? l.count - UNSETTLED : 0; i < l.count && rc == 0; i++) {
        int file = open_file(io, l.index[i], false);
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
        TRY(scan_header_torn(io, m, g->file, &g->header, &torn));
    return torn ? scan_header_mend(io, m, g->file, &g->header, g->bad_copy) : 0;
}

/* A prepared file, or one of another size out of the way: *file is -1 then. */
static int take_prepared(struct seam *io, uint64_t index, uint64_t want, int *file) {
    uint64_t size = 0;
    *file = open_file(io, index, true);
    if (*file < 0)
        return *file;
    int rc = io->ops->size(io, *file, &size);
    if (rc == 0 && size == want)
        return 0;
    io->ops->close(io, *file);
    *file = -1;
    char name[24];
    segment_name(name, index, "seg");
    rc = io->ops->unlink(io, name);
    return rc < 0 ? fail_sys(rc, "unlink", name, NO_LSN) : 0;
}

static int take_over(struct seam *io, struct mem *m, const struct reading *g, struct log_extent *x,
                     struct recovered *out) {
    struct wal_start *st = &out->start;
    uint64_t size = x->newest.segment_size;
    TRY(mend_torn_copy(io, m, g));
    int rc = x->prepared ? take_prepared(io, x->last + 1, size, &st->next_file) : 0;
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
    st->tail = s->accepted_end;
    st->link = s->link;
    st->epoch = s->epoch;
    st->sealed = scan_sealed(s);
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
            return 0;
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
