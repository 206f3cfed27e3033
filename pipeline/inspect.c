/* SPDX-License-Identifier: Apache-2.0
 *
 * The public functions verify, audit and repair. Recovery walks over the frames; this file judges
 * their meaning: it applies them to tables of its own, and compares each checkpoint with those
 * tables. inspect_state.c judges run files and what tables hold.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "pipeline/inspect.h"
#include "pipeline/savepoint.h"
#include "pipeline/state.h"
#include "pipeline/struct_size.h"

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
    state_keep_hashes(&theirs, &j->tables);
    j->tables.state.replay_max = theirs.state.replay_max; /* a setting that no frame says */
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

/* Opening reads what it needs of a change; whether a commit's changes are whole and in order is
 * judged here. */
static int judge_state(const struct frame_header *h, const uint8_t *frame) {
    for (uint32_t i = 0; h->kind == FRAME_COMMIT && i < h->runs; i++) {
        struct run r;
        const uint8_t *data;
        frame_run(frame, h, i, &r, &data);
        if (r.type == RUN_STATE && !state_whole(&r, data))
            return fail_at(PAWL_DAMAGED, 0, "", "", h->lsn,
                           "the frame at LSN %llu has changes of state that are not whole, or not "
                           "in order",
                           (unsigned long long)h->lsn);
    }
    return 0;
}

static int judge_frame(void *ctx, const struct frame_header *h, const uint8_t *frame, bool lost) {
    struct judge *j = ctx;
    struct loss before = j->tables.loss;
    j->lost |= lost || h->kind == FRAME_LOST;
    int rc = judge_lost(j, h, frame);
    if (rc == 0)
        rc = judge_state(h, frame);
    bool after = j->lost || !j->tables.begun;
    if (h->kind == FRAME_CHECKPOINT) {
        if (rc == 0 && !after)
            rc = compare(j, h, frame);
        j->lost = false;
    }
    int applied = tables_apply(&j->tables, h, frame, after);
    judge_counts(j, h, &before);
    j->last_lsn = h->lsn;
    if (h->kind == FRAME_CHECKPOINT)
        judge_checkpoint(j);
    int outside = j->outside != NULL ? judge_outside(j, h, frame) : 0;
    return rc < 0 ? rc : applied < 0 ? applied : outside;
}

static int begin_outside(struct judge *j, const struct log_extent *x) {
    j->outside = outside_new(j->mem, j->check, x->newest.segment_size, x->first != 0);
    return j->outside != NULL ? 0 : fail(PAWL_MEMORY, "no memory for the audit");
}

/* Judges the whole log, frame by frame. */
static int judge_log(struct judge *j, struct seam *io, bool writable, bool audit) {
    struct verify v = {.io = io,
                       .mem = j->mem,
                       .check = j->check,
                       .frame = judge_frame,
                       .writable = writable,
                       .ctx = j};
    struct log_extent x;
    int rc = log_extent_find(io, j->mem, false, &x);
    lookup_init(&j->spill_lookup, j->mem);
    lookup_init(&j->end_lookup, j->mem);
    tables_init(&j->tables, j->mem, rc == 0 ? x.newest.segment_size : MIB);
    if (rc == 0 && audit)
        rc = begin_outside(j, &x);
    if (rc == 0)
        rc = verify_log(&v);
    if (rc == 0)
        judge_lost_end(j);
    if (rc == 0 && audit)
        outside_end(j->outside);
    if (rc == 0)
        rc = judge_state_end(j, io, &x);
    j->check->positions = j->tables.position_count;
    judge_free(j);
    return rc;
}

/* Repair has mended what it found. What is there now is judged anew, frame by frame, and what the
 * mended places took is told. */
static int judge_repaired(struct seam *io, struct mem *mem, pawl_check *c,
                          const struct repaired *repaired) {
    pawl_check now = {.finding = c->finding, .progress = c->progress, .arg = c->arg};
    struct judge j = {.mem = mem, .check = &now, .repaired = repaired};
    int rc = judge_log(&j, io, true, false); /* the lock is ours */
    uint64_t problems = c->problems;
    now.struct_size = c->struct_size;
    now.repaired = c->repaired;
    now.memory_cap = c->memory_cap;
    now.problems += problems;
    *c = now;
    if (rc < 0)
        return rc;
    /* what is wrong with state doesn't keep the log from being opened */
    if (now.problems - now.state_problems != problems)
        return fail(PAWL_DAMAGED, "the mended log is not well: see the findings");
    return 0;
}

static int repair(struct seam *io, struct mem *mem, pawl_check *c) {
    struct repaired repaired = {.mem = mem};
    int rc = repair_log(io, mem, c, &repaired);
    if (rc == 0)
        rc = judge_repaired(io, mem, c, &repaired);
    mem_free(mem, repaired.areas, repaired.cap * sizeof *repaired.areas);
    return rc;
}

/* Would the next writer take the log? */
static int writer_takes(pawl *p) {
    pthread_mutex_lock(&p->mutex);
    int rc = engine_may_write(&p->tables, &p->header, p->follow.apply.epoch);
    engine_leave(p);
    return rc;
}

/* ---- damaged runs of keyed state */

struct told_rebuilt {
    pawl_check *check;
    uint64_t segment_size;
};

static void tell_rebuilt(void *arg, const struct run_ident *run, int code) {
    const struct told_rebuilt *t = arg;
    pawl_error e;
    fail_copy(&e);
    if (code >= 0)
        t->check->repaired++;
    verify_tell(t->check, 0, run->flush_lsn / t->segment_size, run->flush_lsn, run->length,
                code >= 0 ? "run-rebuilt" : "run-not-rebuilt",
                code >= 0 ? "the run %016x.run was written anew from the log%s"
                          : "the run %016x.run can't be written anew from the log: %s; take its "
                            "file from a savepoint",
                run->run_id, code >= 0 ? "" : e.message);
}

static int rebuild(const char *dir, uint64_t memory_cap, pawl_check *c) {
    pawl *p;
    pawl_options o = PAWL_OPTIONS_INIT;
    o.no_thread = 1;
    o.memory_cap = memory_cap;
    TRY(pawl_open(dir, &o, &p, NULL));
    struct told_rebuilt t = {c, p->header.segment_size};
    int rc = state_rebuild(p, tell_rebuilt, &t);
    pawl_error e;
    fail_copy(&e);
    int closed = pawl_close(p);
    return rc < 0 ? fail_again(&e) : closed;
}

/* What is still wrong with state takes the place of what was found before. */
static int judge_rebuilt(const char *dir, struct seam *io, struct mem *mem, pawl_check *c) {
    TRY(rebuild(dir, mem->cap, c));
    pawl_check now = PAWL_CHECK_INIT;
    struct judge j = {.mem = mem, .check = &now};
    TRY(judge_log(&j, io, false, false));
    c->problems = c->problems - c->state_problems + now.state_problems;
    c->state_problems = now.state_problems;
    c->state_pairs = now.state_pairs;
    c->runs = now.runs;
    c->run_bytes = now.run_bytes;
    return 0;
}

/* Opens what repair has made as a reader would, and checks what a writer would. The lock is no
 * longer held: a writer may have come meanwhile, and then it has checked all that itself. */
static int opens(const char *dir, uint64_t memory_cap) {
    pawl *p;
    pawl_options o = PAWL_OPTIONS_INIT;
    o.flags = PAWL_OPEN_READ;
    o.no_thread = 1;
    o.memory_cap = memory_cap;
    TRY(pawl_open(dir, &o, &p, NULL));
    int rc = writer_takes(p);
    pawl_error e;
    fail_copy(&e);
    int closed = pawl_close(p);
    return rc < 0 ? fail_again(&e) : closed;
}

static int lock_for_repair(struct seam *io) {
    int pid = 0, rc = io->ops->lock(io, 250000000u, &pid);
    if (rc == -EWOULDBLOCK)
        return fail_at(PAWL_LOCKED, -rc, "flock", "lock", NO_LSN,
                       "a writer (pid %d) has this log open; stop it before repairing", pid);
    return rc < 0 ? fail_sys(rc, "flock", "lock", NO_LSN) : open_no_savepoint(io);
}

enum call { VERIFY, AUDIT, REPAIR };

static int verify(struct seam *io, struct mem *mem, pawl_check *c, bool audit) {
    struct judge j = {.mem = mem, .check = c};
    return judge_log(&j, io, false, audit);
}

static void clear_results(pawl_check *c) {
    *c = (pawl_check){.struct_size = c->struct_size,
                      .finding = c->finding,
                      .progress = c->progress,
                      .arg = c->arg,
                      .memory_cap = c->memory_cap};
}

static int check(const char *dir, pawl_check *c, enum call call, pawl_error *err) {
    bool for_repair = call == REPAIR;
    int saved = errno;
    struct mem mem;
    struct seam *io = NULL;
    int rc = seam_create(dir, false, PAWL_BACKEND_AUTO, PAWL_DIRECT_AUTO, &io);
    bool made = rc >= 0;
    if (!made)
        rc = open_error(rc, dir, false);
    clear_results(c);
    mem_init(&mem, c->memory_cap != 0 ? c->memory_cap : CHECK_MEMORY);
    if (made) {
        rc = for_repair ? lock_for_repair(io) : 0;
        bool locked = for_repair && rc == 0;
        if (rc == 0)
            rc = for_repair ? repair(io, &mem, c) : verify(io, &mem, c, call == AUDIT);
        pawl_error e;
        fail_copy(&e);
        if (locked)
            io->ops->unlock(io);
        if (rc < 0)
            fail_again(&e);
        else if (locked)
            rc = opens(dir, mem.cap);
        if (rc == 0 && locked && c->state_problems != 0)
            rc = judge_rebuilt(dir, io, &mem, c);
        fail_copy(&e);
        io->ops->destroy(io);
        if (rc < 0)
            fail_again(&e);
    }
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
