/* SPDX-License-Identifier: Apache-2.0
 *
 * Segment files ahead of need. A write into space that is allocated and was written before needs no
 * commit of the file system's journal, which doubles the syncs a second. So zeros are written into
 * the next segment, part by part, as the active one fills up; not where groups are large and many
 * are in flight (pace.h, 6), since the zeros would double the bytes written and save little. Where
 * retention lets a segment go, its file was written before: it is renamed, and written over.
 *
 * What is in a prepared file means nothing (docs/format.md): zeros are for speed alone.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>

#include "wal/wal.h"

uint64_t wal_segments_on_disk(const struct wal *w) {
    assert(w->first_segment <= w->segment);
    assert((w->next == NEXT_READY) == (w->next_file >= 0));
    assert(w->spare_file < 0 || w->next == NEXT_READY);
    /* what is being recycled counts as kept until then */
    bool making = w->next == NEXT_MAKING && !w->recycling;
    return w->segment - w->first_segment + 1 + (w->next == NEXT_READY || making) +
           (w->spare_file >= 0);
}

/* Are there LSNs for `more` segments after the active one? Only a forged log runs out of them. */
static bool wal_has_lsns(const struct wal *w, uint64_t more) {
    return w->segment + more < LSN_MAX / w->segment_size;
}

/* Does the disk cap leave room for `more` segments besides those that are there? */
static bool fits(const struct wal *w, uint64_t more) {
    return w->disk_cap == 0 ||
           (w->beside <= w->disk_cap &&
            (wal_segments_on_disk(w) + more) * w->segment_size <= w->disk_cap - w->beside);
}

bool wal_wants_next(struct wal *w) {
    if (w->next != NEXT_NONE || w->failed != 0 || !wal_has_lsns(w, 1))
        return false;
    return fits(w, 1);
}

/* Never written, so it costs no memory, and preparing can't fail for lack of it. */
static _Alignas(BLOCK) const uint8_t zero_bytes[MIB / 4];

static int fill(struct seam *io, int file, uint64_t from, uint64_t to) {
    int64_t rc = 0;
    for (uint64_t at = from; at < to && rc >= 0; at += sizeof zero_bytes)
        rc =
            io->ops->write(io, file, zero_bytes,
                           to - at < sizeof zero_bytes ? (size_t)(to - at) : sizeof zero_bytes, at);
    return rc < 0 ? (int)rc : 0;
}

/* A segment without its name: a `.tmp` file, durable, filled with zeros if *zeros. */
static int make_tmp(struct seam *io, const struct points *points, const char *tmp, uint64_t size,
                    bool *zeros) {
    int rc = io->ops->unlink(io, tmp);
    if (rc < 0 && rc != -ENOENT)
        return rc;
    int file = io->ops->open(io, tmp, SEAM_CREATE | SEAM_RDWR);
    if (file < 0)
        return file;
    rc = io->ops->allocate(io, file, size);
    *zeros |= rc > 0; /* nothing is reserved: a full disk must show now (PAWL-11) */
    if (rc >= 0)
        rc = *zeros ? fill(io, file, 0, size) : 0;
    if (rc == 0)
        rc = io->ops->sync(io, file);
    if (rc < 0) {
        io->ops->close(io, file);
        (void)!io->ops->unlink(io, tmp); /* give the space back at once */
        return rc;
    }
    point(points, "segment-written");
    return file;
}

#define ASIDE_MAX 1000u

int wal_set_aside(struct seam *io, uint64_t index) {
    char name[24], aside[48];
    int rc = -EEXIST;
    segment_name(name, index, "seg");
    for (unsigned i = 0; rc == -EEXIST && i < ASIDE_MAX; i++) {
        snprintf(aside, sizeof aside, "aside-%016llx.%u", (unsigned long long)index, i);
        rc = io->ops->rename(io, name, aside);
    }
    return rc;
}

/* Gives it its name, durably: whole or not there. */
static int name_tmp(struct seam *io, const struct points *points, uint64_t index, const char *tmp,
                    const char *name) {
    int rc = io->ops->rename(io, tmp, name);
    if (rc == -EEXIST) {
        rc = wal_set_aside(io, index);
        if (rc == 0 || rc == -ENOENT)
            rc = io->ops->rename(io, tmp, name);
    }
    if (rc < 0)
        return rc;
    point(points, "segment-named");
    rc = io->ops->sync_dir(io);
    if (rc == 0)
        point(points, "segment-prepared");
    return rc;
}

int wal_prepare_file(struct seam *io, const struct points *points, uint64_t index, uint64_t size,
                     bool *zeros) {
    char tmp[24], name[24];
    segment_name(tmp, index, "tmp");
    segment_name(name, index, "seg");
    int file = make_tmp(io, points, tmp, size, zeros);
    if (file < 0)
        return file;
    int rc = name_tmp(io, points, index, tmp, name);
    if (rc < 0) {
        io->ops->close(io, file);
        return rc;
    }
    return file;
}

/* Is it lack of something that may come back? */
static bool is_lack(int e) {
    return e == ENOSPC || e == EDQUOT || e == ENOMEM || e == EMFILE || e == ENFILE || e == EFBIG;
}

void wal_next_done(struct wal *w, int file_or_errno, uint64_t written) {
    assert(w->next == NEXT_MAKING && w->next_file < 0 && w->spare_file < 0);
    if (file_or_errno >= 0) {
        w->next = NEXT_READY;
        w->next_file = file_or_errno;
        w->next_written = written;
        wal_step(w);
        return;
    }
    int e = -file_or_errno;
    if (is_lack(e))
        w->next = NEXT_FULL;
    else
        wal_fail(w, e, "prepare", (w->segment + 1) * w->segment_size);
}

/* ---- zeros ahead: twice as far into the next segment as the active one is full, so that the way
 * groups go is known before most of them are written */

#define PARTS 16u

bool wal_wants_zeros(const struct wal *w) {
    if (w->next != NEXT_READY || w->zeroing || w->failed != 0 || w->state != WAL_RUNNING ||
        w->next_written >= w->segment_size || !w->io->zeros)
        return false;
    uint64_t part = w->segment_size / PARTS, used = w->tail - wal_base(w);
    return w->next_written < (2 * used / part + 1) * part && pace_wants_zeros(&w->pace);
}

struct wal_part wal_zeros_begin(struct wal *w) {
    assert(wal_wants_zeros(w));
    w->zeroing = true;
    uint64_t to = align_up(w->next_written + w->segment_size / PARTS, BLOCK);
    struct wal_part part = {.file = w->next_file,
                            .from = w->next_written / BLOCK * BLOCK,
                            .to = to < w->segment_size ? to : w->segment_size};
    assert(part.file >= 0 && part.file != w->file); /* PAWL-5: not where frames are */
    assert(part.from < part.to && part.from <= w->next_written);
    return part;
}

int wal_zero_part(struct seam *io, const struct wal_part *part) {
    assert(part->from % BLOCK == 0 && part->to % BLOCK == 0);
    int rc = fill(io, part->file, part->from, part->to);
    return rc < 0 ? rc : io->ops->sync(io, part->file);
}

void wal_zeros_done(struct wal *w, const struct wal_part *part, int rc) {
    assert(w->zeroing && w->next == NEXT_READY && w->next_file == part->file); /* PAWL-1 */
    assert(part->from <= w->next_written && part->to <= w->segment_size);
    assert(w->file != part->file); /* PAWL-5: it has not begun meanwhile */
    w->zeroing = false;
    w->next_written = rc < 0 ? w->segment_size : part->to; /* no more zeros where that fails */
    if (rc < 0 && !is_lack(-rc))
        wal_fail(w, -rc, "prepare", (w->segment + 1) * w->segment_size + part->from);
    wal_step(w);
}

/* ---- recycling. The old header stays. Under the new name it isn't a valid one. Nothing is written
 * to the file before the rename is durable, so a power cut that takes the rename back leaves the
 * old segment whole. */

uint64_t wal_recycle_begin(struct wal *w) {
    if (w->failed != 0 || w->next == NEXT_MAKING || w->spare_file >= 0 || !wal_has_lsns(w, 2) ||
        !fits(w, 0))
        return 0;
    assert(!w->recycling); /* one thread at a time drops segments */
    w->recycling = true;
    if (w->next == NEXT_READY)
        return w->segment + 2;
    w->next = NEXT_MAKING;
    return w->segment + 1;
}

bool wal_file_is_kept(struct seam *io, int file) {
    return io->ops->names != NULL && io->ops->names(io, file) != 1;
}

/* The file of a segment, if it can be used again. */
static int open_used(struct seam *io, const char *name, uint64_t want) {
    uint64_t size = 0;
    int file = io->ops->open(io, name, SEAM_RDWR);
    if (file < 0)
        return file;
    int rc = io->ops->size(io, file, &size);
    if (rc == 0 && size == want && !wal_file_is_kept(io, file))
        return file;
    io->ops->close(io, file);
    return -EINVAL;
}

int wal_drop_file(struct seam *io, const struct points *points, uint64_t index, uint64_t size,
                  uint64_t to, int *file) {
    char name[24], later[24];
    segment_name(name, index, "seg");
    segment_name(later, to, "seg");
    *file = to != 0 ? open_used(io, name, size) : -1;
    int rc = -ENOENT;
    if (*file >= 0) {
        rc = io->ops->rename(io, name, later);
        if (rc == 0)
            point(points, "segment-recycled");
        /* Whoever has linked it meanwhile found it by its name, which is gone now: asked again, it
         * has all the names that it will have. */
        bool kept = rc == 0 && wal_file_is_kept(io, *file);
        if (kept && (rc = io->ops->unlink(io, later)) < 0)
            point(points, "segment-kept"); /* recovery asks too */
        if (kept || rc < 0) {
            io->ops->close(io, *file);
            *file = -1;
        }
    }
    if (*file < 0)
        rc = io->ops->unlink(io, name);
    if (rc < 0 && rc != -ENOENT)
        return 1;
    point(points, "segment-dropped");
    rc = io->ops->sync_dir(io);
    if (rc < 0 && *file >= 0) {
        io->ops->close(io, *file);
        *file = -1;
    }
    return rc < 0 ? rc : 0;
}

void wal_recycle_end(struct wal *w, uint64_t to, int file) {
    if (to == 0)
        return;
    assert(w->recycling && (to == w->segment + 1 || to == w->segment + 2));
    w->recycling = false;
    w->recycled += file >= 0;
    /* It was to be the next one from the start, or the log has gone on to the segment before it. */
    if (to == w->segment + 1) {
        if (file >= 0)
            wal_next_done(w, file, w->segment_size);
        else
            w->next = NEXT_NONE;
    } else {
        assert(w->next == NEXT_READY && w->spare_file < 0);
        w->spare_file = file;
    }
}

int wal_create(struct seam *io, struct mem *m, const struct points *points, uint64_t segment_size,
               uint64_t disk_cap) {
    char tmp[24], name[24];
    segment_name(tmp, 0, "tmp");
    segment_name(name, 0, "seg");
    struct segment_header sh = {
        .segment_size = segment_size,
        .epoch = 1,
        .disk_cap = disk_cap,
        .created_ns = io->ops->realtime(io),
        .features = {.read = FEATURE_KEYED, .write = FEATURE_COUNTS | FEATURE_KEYS},
        .ids = {1, 1, 1, 0, 0, 0}};
    struct frame_key key;
    int rc = io->ops->random(io, sh.log_id, 16);
    if (rc == 0)
        rc = io->ops->random(io, sh.features.carried, (size_t)KEYS * KEY_SIZE);
    if (rc < 0)
        return fail_sys(rc, "getrandom", NULL, NO_LSN);
    (void)segment_key(&sh, KEY_OWN, &key);
    size_t len = SEGMENT_HEADER_SIZE + BLOCK;
    uint8_t *head = mem_alloc_block(m, len);
    if (head == NULL)
        return fail(PAWL_MEMORY, "no memory to create a log");
    bool zeros = io->zeros;
    int file = make_tmp(io, points, tmp, segment_size, &zeros);
    if (file < 0) {
        mem_free(m, head, len);
        return fail_sys(file, "create", tmp, 0);
    }
    if (seam_knows_place(io, file, &sh.place))
        sh.features.ignore |= FEATURE_PLACED;
    memset(head, 0, len);
    segment_encode(head, &sh);
    struct wal_frame f = {.kind = FRAME_CHECKPOINT, .time_ns = sh.created_ns};
    struct frame_header h = {.lsn = SEGMENT_HEADER_SIZE, .epoch = 1, .durable = 0};
    wal_encode_frame(head + SEGMENT_HEADER_SIZE, &f, &h, &key);
    int64_t n = io->ops->write(io, file, head, len, 0);
    rc = n < 0 ? (int)n : io->ops->sync(io, file);
    io->ops->close(io, file);
    mem_free(m, head, len);
    if (rc == 0)
        rc = name_tmp(io, points, 0, tmp, name);
    return rc < 0 ? fail_sys(rc, "create", name, 0) : 0;
}
