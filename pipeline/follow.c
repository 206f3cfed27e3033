/* SPDX-License-Identifier: Apache-2.0
 *
 * Read-only handles. While a writer is live, a frame is shown only when a later frame witnesses
 * that it is durable (PAWL-1 across processes, without shared memory). Without a live writer, the
 * handle syncs the files first; then the whole chain is valid.
 *
 * One thread at a time looks for new frames (`follow.busy`), without the lock; it takes the lock
 * only to show each frame. The two scans belong to that thread.
 */
#include <assert.h>
#include <errno.h>

#include "pipeline/engine.h"

/* Opens segment `index` for one of the scans, and closes its previous one. */
static int enter_segment(pawl *p, struct scan *s, int *file, uint64_t index) {
    struct segment_header h;
    int fresh = segment_open(p->io, &p->mem, index, &p->header, false, &h);
    if (fresh < 0)
        return fresh;
    if (s->mem != NULL)
        scan_end(s);
    if (*file >= 0)
        p->io->ops->close(p->io, *file);
    *file = fresh;
    if (s == &p->follow.apply)
        p->follow.disk_cap = h.disk_cap;
    scan_begin(s, p->io, &p->mem, fresh, &h, true);
    return 0;
}

/* Is segment `index` begun? *gone: there is no such file. */
static bool is_begun(pawl *p, uint64_t index, bool *gone) {
    struct segment_header h;
    pawl_error saved, e;
    fail_copy(&saved);
    int file = segment_open(p->io, &p->mem, index, &p->header, false, &h);
    fail_copy(&e);
    fail_again(&saved);
    *gone = file < 0 && e.sys_errno == ENOENT;
    if (file < 0)
        return false;
    p->io->ops->close(p->io, file);
    return true;
}

/* Moves both scans to the beginning of the newest segment, from `last` down, that has its
 * checkpoint (repair may have taken one out). */
static int start_at(pawl *p, uint64_t first, uint64_t last) {
    struct follow *fo = &p->follow;
    for (uint64_t n = last;; n--) {
        struct scan_frame f;
        TRY(enter_segment(p, &fo->apply, &fo->apply_file, n));
        int rc = scan_next(&fo->apply, &f);
        if (rc < 0)
            return rc;
        bool checkpoint = rc == 1 && f.header.kind == FRAME_CHECKPOINT;
        if (!checkpoint && n != first)
            continue;
        /* A checkpoint holds only what was durable when the previous segment was sealed, so it
         * counts as durable at once. */
        uint64_t known = checkpoint ? f.header.lsn + frame_length(&f.header) : 0;
        TRY(enter_segment(p, &fo->apply, &fo->apply_file, n));
        TRY(enter_segment(p, &fo->front, &fo->front_file, n));
        if (known > fo->known)
            fo->known = known;
        return 0;
    }
}

/* The writer has dropped the next segment: continues with the segments that exist now. 1: done, 0:
 * not possible now. */
static int catch_up(pawl *p) {
    struct log_extent x;
    pawl_error saved;
    fail_copy(&saved);
    /* may fail while the writer drops more segments: then the next call retries */
    int rc = log_extent_find(p->io, &p->mem, false, &x);
    if (rc == 0 && x.first > p->follow.apply.index) {
        rc = start_at(p, x.first, x.last);
        pthread_mutex_lock(&p->mutex);
        if (x.first > p->wal.first_segment)
            p->wal.first_segment = x.first;
        engine_leave(p);
        if (rc == 0)
            return 1;
    }
    fail_again(&saved);
    return 0;
}

/* Moves the verifying scan to the last frame in the files. */
static int advance_front(pawl *p) {
    struct follow *fo = &p->follow;
    struct scan_frame f;
    for (;;) {
        int rc;
        scan_forget(&fo->front); /* the file may have grown */
        while ((rc = scan_next(&fo->front, &f)) == 1) {
            if (f.header.durable > fo->known)
                fo->known = f.header.durable;
            if (f.header.kind == FRAME_COMMIT)
                fo->there = fo->front.accepted_end;
        }
        if (rc < 0)
            return rc;
        bool gone;
        if (!scan_sealed(&fo->front)) {
            int there = segment_there(p->io, fo->front.index);
            if (there != 0 || catch_up(p) == 0)
                return there < 0 ? there : 0;
            continue; /* it was dropped, and its file may have become another segment */
        }
        if (!is_begun(p, fo->front.index + 1, &gone)) {
            if (!gone || catch_up(p) == 0)
                return 0;
            continue;
        }
        uint64_t link = fo->front.link, epoch = fo->front.epoch;
        TRY(enter_segment(p, &fo->front, &fo->front_file, fo->front.index + 1));
        if (fo->front.link != link || fo->front.epoch < epoch)
            return fail(PAWL_DAMAGED, "segment %016llx does not continue the one before it",
                        (unsigned long long)fo->front.index);
        /* the header shows that everything before it is durable */
        fo->known = fo->front.index * p->header.segment_size;
    }
}

/* Shows a frame that is known to be durable. */
static int show(pawl *p, const struct scan_frame *f) {
    struct follow *fo = &p->follow;
    pthread_mutex_lock(&p->mutex);
    if (fo->apply.index != fo->index) /* the checkpoint does this itself, unless it can't be read */
        engine_begin_segment(p);
    if (fo->apply.index != fo->index)
        p->wal.disk_cap = fo->disk_cap;
    fo->index = fo->apply.index;
    int rc = engine_apply(p, &f->header, f->data, fo->apply.after_lost);
    if (rc == 0) {
        assert(fo->apply.accepted_end > fo->shown);  /* PAWL-1: nothing shown is withdrawn, */
        assert(fo->apply.accepted_end <= fo->known); /* and nothing is shown too early */
        fo->shown = fo->apply.accepted_end;
        fo->epoch = fo->apply.epoch;
    }
    engine_leave(p);
    return rc;
}

/* Applies the frames that are known to be durable. 1 if there were any. */
static int apply_known(pawl *p) {
    struct follow *fo = &p->follow;
    struct scan_frame f;
    int any = 0;
    for (;;) {
        uint64_t base = fo->apply.index * p->header.segment_size;
        if (fo->known <= fo->apply.at)
            return any;
        fo->apply.limit = fo->known - base < p->header.segment_size ? fo->known - base : 0;
        scan_forget(&fo->apply);
        int rc;
        while ((rc = scan_next(&fo->apply, &f)) == 1) {
            TRY(show(p, &f));
            any = 1;
        }
        if (rc < 0)
            return rc;
        int there = scan_sealed(&fo->apply) ? 1 : segment_there(p->io, fo->apply.index);
        if (there <= 0)
            return there < 0 ? there : catch_up(p) == 1 ? 1 : any;
        if (!scan_sealed(&fo->apply) || fo->front.index == fo->apply.index) {
            if (!p->salvage || fo->apply.at + BLOCK > fo->known)
                return any;
            uint64_t lsn; /* salvage: skip what can't be read */
            fo->apply.limit = 0;
            TRY(scan_resync(&fo->apply, fo->apply.at, &lsn));
            if (lsn == NO_LSN)
                return any;
            TRY(scan_jump(&fo->apply, lsn));
            continue;
        }
        bool gone;
        if (!is_begun(p, fo->apply.index + 1, &gone) && gone)
            return catch_up(p) == 1 ? 1 : any;
        TRY(enter_segment(p, &fo->apply, &fo->apply_file, fo->apply.index + 1));
    }
}

/* The writer has ended, and no frame will witness the frames after its last witness. So a sync
 * makes them durable, and then they count. */
static int trust_the_rest(pawl *p) {
    struct follow *fo = &p->follow;
    if (fo->writer != 0 || fo->front.accepted_end <= fo->known)
        return 0;
    int rc = p->io->ops->sync(p->io, fo->front_file);
    /* the file system turned read-only after an error, and can't write the bytes: they don't
     * count */
    if (rc == -EROFS)
        return 0;
    if (!synced(rc))
        return fail_sys(rc, "fsync", NULL, NO_LSN);
    /* otherwise the frames may be in-flight writes of a new writer */
    if (p->io->ops->holder(p->io) == 0)
        fo->known = fo->front.accepted_end;
    return 0;
}

/* Without the lock. */
static int refresh(pawl *p) {
    int writer = p->io->ops->holder(p->io);
    pthread_mutex_lock(&p->mutex);
    p->follow.writer = writer;
    engine_leave(p);
    p->follow.front.work = p->follow.apply.work = 0; /* a frame may be half written each time */
    TRY(advance_front(p));
    TRY(trust_the_rest(p));
    return apply_known(p);
}

int follow_refresh(pawl *p) {
    struct follow *fo = &p->follow;
    if (!fo->begun)
        return 0;
    /* a result of another thread may come from reads before this call */
    while (fo->busy)
        pthread_cond_wait(&p->progress, &p->mutex);
    fo->busy = true;
    engine_leave(p);
    int rc = refresh(p);
    pthread_mutex_lock(&p->mutex);
    fo->busy = false;
    pthread_cond_broadcast(&p->progress);
    return rc;
}

static int trust_all(void *ctx, const struct frame_header *h, const uint8_t *frame, bool lost) {
    pawl *p = ctx;
    p->follow.known = h->lsn + frame_length(h);
    (void)frame;
    (void)lost;
    return 0;
}

int follow_open(pawl *p) {
    struct log_extent x;
    struct follow *fo = &p->follow;
    fo->writer = p->io->ops->holder(p->io);
    bool alone = fo->writer == 0;
    if (alone) {
        bool stuck = false;
        TRY(replay_sync(p->io, &p->mem, &stuck));
        alone = !stuck;
    }
    TRY(log_extent_find(p->io, &p->mem, false, &x));
    p->header = x.newest;
    p->wal.first_segment = x.first;
    p->wal.segment_size = x.newest.segment_size;
    tables_init(&p->tables, &p->mem, x.newest.segment_size);
    if (alone) {
        /* Also finds damage: without a live writer, the log must be as recovery would find it. */
        struct replay r = {trust_all, p, NULL, NULL};
        struct recovered out;
        int rc =
            replay_log(p->io, &p->mem, p->salvage ? REPLAY_SALVAGE : REPLAY_READ, &x, &r, &out);
        fo->writer = p->io->ops->holder(p->io);
        alone = fo->writer == 0;
        if (alone) {
            TRY(rc);
            p->clean = out.clean;
            p->recovered_bytes = out.scanned;
            x.last = out.start.segment;
        } else {
            /* a writer has opened the log: the frames read may be its in-flight writes */
            fo->known = 0;
        }
    }
    TRY(start_at(p, x.first, x.last));
    fo->index = fo->apply.index;
    p->wal.disk_cap = fo->disk_cap;
    fo->begun = true;
    if (!alone || fo->index != x.last) {
        uint64_t known = fo->known;
        TRY(advance_front(p));
        if (known > fo->known)
            fo->known = known;
    }
    int rc = apply_known(p);
    return rc < 0 ? rc : 0;
}

void follow_close(pawl *p) {
    struct follow *fo = &p->follow;
    if (!p->read_only)
        return;
    if (fo->front.mem != NULL)
        scan_end(&fo->front);
    if (fo->apply.mem != NULL)
        scan_end(&fo->apply);
    if (fo->front_file >= 0)
        p->io->ops->close(p->io, fo->front_file);
    if (fo->apply_file >= 0)
        p->io->ops->close(p->io, fo->apply_file);
    fo->front_file = fo->apply_file = -1;
}
