/* SPDX-License-Identifier: Apache-2.0
 *
 * The public functions verify, audit and repair. Recovery walks over the frames; this file judges
 * their meaning: it applies them to tables of its own, and compares each checkpoint with those
 * tables.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "pipeline/engine.h"
#include "pipeline/outside.h"
#include "pipeline/struct_size.h"
#include "recovery/verify.h"

struct judge {
    struct tables tables;
    struct mem *mem;
    pawl_check *check;
    /* the walk has passed a checkpoint or the log's beginning: the tables are complete */
    bool begun;
    bool lost; /* damage was skipped since then */
    /* what was read outside; NULL: not audited */
    struct outside *outside;
    uint64_t link; /* that the next frame carries, if nothing is lost before it; 0: not known */
};

/* Does a checkpoint match the tables that the frames before it produce? Spans are not compared:
 * retention prunes them. Both sides are encoded again for the comparison, since a checkpoint may
 * omit a partition or setting that is still zero. */
static int compare(struct judge *j, const struct frame_header *h, const uint8_t *frame) {
    struct tables theirs;
    struct bytes a, b;
    struct run runs[16];
    uint32_t count;
    bytes_init(&a, j->mem);
    bytes_init(&b, j->mem);
    tables_init(&theirs, j->mem, j->tables.segment_size);
    struct c_ids ids;
    int rc = tables_apply(&theirs, h, frame, false);
    /* what an earlier version's checkpoint doesn't say, and where it first says it */
    if (rc == 0 && (!j->tables.counted || !checkpoint_ids(h, frame, &ids))) {
        uint32_t stream = theirs.ids.stream;
        theirs.ids = j->tables.ids;
        theirs.ids.stream = stream;
    }
    tables_drop_spans(&theirs, UINT64_MAX);
    tables_drop_spans(&j->tables, UINT64_MAX);
    if (rc == 0)
        rc = tables_checkpoint(&theirs, &a, runs, &count);
    if (rc == 0)
        rc = tables_checkpoint(&j->tables, &b, runs, &count);
    if (rc == 0 && (a.len != b.len || memcmp(a.data, b.data, a.len) != 0))
        rc = fail_at(PAWL_DAMAGED, 0, "", "", h->lsn,
                     "the checkpoint at LSN %llu does not agree with the log before it",
                     (unsigned long long)h->lsn);
    bytes_free(&a);
    bytes_free(&b);
    tables_free(&theirs);
    return rc;
}

static void tell_lost(struct judge *j, const struct frame_header *h, uint32_t stream,
                      uint32_t partition, uint64_t from, uint64_t to) {
    const struct stream *s = tables_stream(&j->tables, stream);
    j->check->lost_records += to - from;
    verify_tell(j->check, 0, h->lsn / j->tables.segment_size, h->lsn, 0, "records-lost",
                "stream %s, partition %u: offsets %llu to %llu are lost", s != NULL ? s->name : "?",
                partition, (unsigned long long)from, (unsigned long long)to - 1);
}

/* The offset at which a commit's run should begin: after the frame's previous run of that
 * partition, or else the partition's next offset. */
static uint64_t expected_base(const struct stream *s, const struct frame_header *h,
                              const uint8_t *frame, uint32_t i) {
    struct run r, before;
    const uint8_t *ignored;
    frame_run(frame, h, i, &r, &ignored);
    while (i-- > 0) {
        frame_run(frame, h, i, &before, &ignored);
        if ((before.type == RUN_RECORDS || before.type == RUN_SPILLED) &&
            before.stream == r.stream && before.partition == r.partition)
            return before.base + before.count;
    }
    return s->parts[r.partition].next;
}

/* After damage, a jump of offsets shows which records are lost. */
static void find_lost(struct judge *j, const struct frame_header *h, const uint8_t *frame) {
    for (uint32_t i = 0; i < h->runs; i++) {
        struct run r;
        const uint8_t *data;
        frame_run(frame, h, i, &r, &data);
        if (h->kind == FRAME_COMMIT && (r.type == RUN_RECORDS || r.type == RUN_SPILLED)) {
            const struct stream *s = tables_stream(&j->tables, r.stream);
            uint64_t next = s != NULL && r.partition < s->partitions ? expected_base(s, h, frame, i)
                                                                     : UINT64_MAX;
            if (r.base > next)
                tell_lost(j, h, r.stream, r.partition, next, r.base);
        }
        struct c_next e;
        uint32_t at = 0;
        for (uint32_t k = 0; r.type == RUN_C_NEXT && k < r.count; k++) {
            if (!c_next_decode(data, r.len, &at, &e))
                break;
            const struct stream *s = tables_stream(&j->tables, e.stream);
            if (s != NULL && e.partition < s->partitions && e.next > s->parts[e.partition].next)
                tell_lost(j, h, e.stream, e.partition, s->parts[e.partition].next, e.next);
        }
    }
}

/* A frame that doesn't follow the one before shows that frames between them are lost, once for each
 * place. */
static int judge_outside(struct judge *j, const struct frame_header *h, const uint8_t *frame) {
    bool lost = (j->link != 0 && h->link != j->link) || h->kind == FRAME_LOST;
    j->link = h->kind == FRAME_LOST ? h->dir_hash : h->hash;
    if (lost)
        outside_lost(j->outside);
    if (h->kind == FRAME_SPILL)
        outside_spill(j->outside, h, frame);
    return h->kind == FRAME_COMMIT ? outside_commit(j->outside, h, frame, &j->tables) : 0;
}

static int judge_frame(void *ctx, const struct frame_header *h, const uint8_t *frame, bool lost) {
    struct judge *j = ctx;
    int rc = 0;
    if (lost)
        j->lost = true;
    if (h->kind == FRAME_LOST)
        j->lost = true;
    if (j->begun && j->lost && (h->kind == FRAME_COMMIT || h->kind == FRAME_CHECKPOINT))
        find_lost(j, h, frame);
    if (h->kind == FRAME_CHECKPOINT) {
        if (j->begun && !j->lost)
            rc = compare(j, h, frame);
        j->begun = true;
        j->lost = false;
    }
    int applied = tables_apply(&j->tables, h, frame, j->lost || !j->begun);
    int outside = j->outside != NULL ? judge_outside(j, h, frame) : 0;
    return rc < 0 ? rc : applied < 0 ? applied : outside;
}

enum call { VERIFY, AUDIT, REPAIR };

static int begin_outside(struct judge *j, const struct log_extent *x) {
    j->outside = outside_new(j->mem, j->check, x->newest.segment_size, x->first != 0);
    return j->outside != NULL ? 0 : fail(PAWL_MEMORY, "no memory for the audit");
}

static int check(const char *dir, pawl_check *c, enum call call, pawl_error *err) {
    bool repair = call == REPAIR;
    int saved = errno;
    struct mem mem;
    struct seam *io = NULL;
    int rc = seam_create(dir, false, PAWL_BACKEND_AUTO, PAWL_DIRECT_AUTO, &io);
    if (rc < 0)
        rc = open_error(rc, dir, false);
    c->segments = c->frames = c->commits = c->records = c->bytes = c->problems = c->torn_bytes = 0;
    c->intervals = c->positions = c->repaired = c->lost_records = 0;
    c->things = c->outside = c->passed_over = c->begun_again = c->twice = 0;
    c->clean = c->live = 0;
    mem_init(&mem, 0);
    struct judge j = {.mem = &mem, .check = c};
    tables_init(&j.tables, &mem, 4096ull * MIB);
    int pid = 0;
    bool locked = false;
    if (io != NULL && repair) {
        rc = io->ops->lock(io, 250000000u, &pid);
        locked = rc == 0;
        if (rc == -EWOULDBLOCK)
            rc = fail_at(PAWL_LOCKED, -rc, "flock", "lock", NO_LSN,
                         "a writer (pid %d) has this log open; stop it before repairing", pid);
        else if (rc < 0)
            rc = fail_sys(rc, "flock", "lock", NO_LSN);
    }
    if (io != NULL && rc == 0) {
        struct verify v = {.io = io, .mem = &mem, .check = c, .frame = judge_frame, .ctx = &j};
        struct log_extent x;
        rc = log_extent_find(io, &mem, false, &x);
        if (rc == 0)
            tables_init(&j.tables, &mem, x.newest.segment_size);
        if (rc == 0 && call == AUDIT)
            rc = begin_outside(&j, &x);
        /* repair fixes headers first: a damaged header may be the reason that the extent was not
         * found */
        if (rc == 0 || repair)
            rc = repair ? repair_log(io, &mem, c, judge_frame, &j) : verify_log(&v);
        if (j.outside != NULL && rc == 0)
            outside_end(j.outside);
        c->positions = j.tables.position_count;
    }
    pawl_error e;
    fail_copy(&e);
    outside_free(j.outside);
    tables_free(&j.tables);
    if (io != NULL) {
        if (locked)
            io->ops->unlock(io);
        io->ops->destroy(io);
    }
    if (rc < 0)
        fail_again(&e);
    if (err != NULL)
        fail_copy(err);
    errno = saved;
    return rc;
}

/* The first problem found determines the error returned. */
struct first {
    const pawl_check *user;
    pawl_finding_fn finding;
    void *arg;
    int code;
};
static void keep_first(void *arg, const pawl_finding *f) {
    struct first *x = arg;
    if (x->code == 0 && f->code != 0)
        x->code = f->code;
    if (x->finding != NULL)
        x->finding(x->arg, f);
}
static int pass_progress(void *arg, uint64_t done, uint64_t total) {
    struct first *x = arg;
    return x->user->progress(x->arg, done, total);
}

static int check_all(const char *dir, pawl_check *c, enum call call, pawl_error *err, int *found) {
    pawl_check own = PAWL_CHECK_INIT;
    fail_clear();
    int rc = dir == NULL ? fail(PAWL_INVALID, "the directory is NULL")
             : c != NULL ? pawl_struct_take(&own, sizeof own, c, CHECK_FIRST, "pawl_check")
                         : 0;
    *found = 0;
    if (rc < 0) {
        if (err != NULL)
            fail_copy(err);
        return rc;
    }
    struct first x = {&own, own.finding, own.arg, 0};
    pawl_check inner = own;
    inner.finding = keep_first;
    inner.progress = own.progress != NULL ? pass_progress : NULL;
    inner.arg = &x;
    rc = check(dir, &inner, call, err);
    inner.finding = own.finding;
    inner.progress = own.progress;
    inner.arg = own.arg;
    if (c != NULL)
        TRY(pawl_struct_give(c, CHECK_FIRST, &inner, sizeof inner, "pawl_check"));
    *found = x.code;
    return rc;
}

int pawl_verify(const char *dir, pawl_check *c, pawl_error *err) {
    int found;
    int rc = check_all(dir, c, VERIFY, err, &found);
    if (rc == 0 && found != 0)
        return found == PAWL_TILING ? PAWL_DAMAGED : found;
    return rc;
}

int pawl_audit(const char *dir, pawl_check *c, pawl_error *err) {
    int found;
    int rc = check_all(dir, c, AUDIT, err, &found);
    return rc == 0 ? found : rc;
}

int pawl_repair(const char *dir, pawl_check *c, pawl_error *err) {
    int found;
    return check_all(dir, c, REPAIR, err, &found);
}
