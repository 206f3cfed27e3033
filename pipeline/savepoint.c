/* SPDX-License-Identifier: Apache-2.0
 *
 * Savepoints. A log's files as they are at one LSN are a log: the segments before that LSN's, the
 * LSN's own up to it, and the runs that the log names there. Sealed segments and runs never change,
 * so the writer goes on meanwhile. What it removes before it was
 * reached makes the savepoint begin again at a later LSN.
 */
#include <errno.h>

#include "pipeline/engine.h"
#include "pipeline/inspect.h"
#include "pipeline/savepoint.h"
#include "pipeline/state.h"
#include "pipeline/struct_size.h"

#define PAUSE_NS UINT64_C(5000000)
/* how long a writer may take to say that a commit is durable, and may remove what was looked for */
#define WITNESS_NS UINT64_C(5000000000)
#define REMOVED_NS UINT64_C(30000000000)

/* What a log holds at one LSN. */
struct view {
    uint64_t lsn;            /* the end of a frame, durable */
    uint64_t first, segment; /* of the segments: the oldest, and the one of that frame */
    uint64_t segment_size;
    bool alone;     /* a reader's handle, and no writer is alive */
    uint64_t state; /* a hash of the sums of all partitions of all tables */
    struct run_ident runs[STATE_RUNS_MAX];
    uint32_t run_count, decisions;
};

/* ---- what is to be saved */

/* Under the lock. */
static void note_state(const pawl *p, struct view *v) {
    v->run_count = state_idents(p, v->runs);
    v->decisions = p->tables.decision_count;
    v->state = 0;
    for (uint32_t i = 0; i < p->tables.state.count; i++) {
        const struct state_table *t = p->tables.state.tables[i];
        for (uint32_t k = 0; k < t->partitions; k++) {
            const struct state_sum *sum = &t->parts[k].sum;
            uint64_t of[7] = {v->state, t->id, k, sum->low, sum->high, sum->pairs, sum->bytes};
            v->state = format_hash(of, sizeof of, 0);
        }
    }
}

/* Under the lock, released inside: the log's end, once it is durable. */
static int look_writer(pawl *p, struct view *v) {
    while (p->wal.state != WAL_RUNNING && p->wal.failed == 0 && !p->wal.starved)
        engine_wait(p);
    if (p->wal.failed != 0)
        return wal_error(&p->wal);
    if (p->wal.state != WAL_RUNNING)
        return fail(PAWL_MEMORY, "no memory to begin the log's next segment");
    v->lsn = p->wal.last.lsn + frame_length(&p->wal.last);
    v->segment = p->wal.last.lsn / p->wal.segment_size;
    note_state(p, v);
    return engine_wait_durable(p, v->lsn);
}

/* Under the lock, released inside: all frames that are in the files now, once the writer's later
 * ones say that they are durable. What the writer has removed until now, it removed because of
 * these. */
static int look_reader(pawl *p, struct view *v) {
    uint64_t until = engine_now(p) + WITNESS_NS;
    TRY(follow_refresh(p));
    uint64_t there = p->follow.there;
    while (p->follow.shown < there) {
        if (engine_now(p) >= until)
            return fail(PAWL_BUSY, "the writer doesn't say that its newest commits are durable: "
                                   "make the savepoint in its own process");
        engine_leave(p);
        p->io->ops->sleep(p->io, PAUSE_NS);
        pthread_mutex_lock(&p->mutex);
        TRY(follow_refresh(p));
    }
    if (p->follow.shown == 0)
        return fail(PAWL_NOT_A_LOG, "nothing of this log is durable yet");
    v->lsn = p->follow.shown;
    v->segment = p->follow.index;
    v->alone = p->follow.writer == 0;
    note_state(p, v);
    return 0;
}

/* Before anything else is looked at: the segments that are there, so that none is missed that was
 * let go because of later commits than those that are saved. */
static int look_first(pawl *p, struct segment_list *l, struct view *v) {
    TRY(segment_list_read(p->io, &p->mem, l));
    TRY(engine_enter(p));
    v->segment_size = p->header.segment_size;
    int rc = p->read_only ? look_reader(p, v) : look_writer(p, v);
    engine_leave(p);
    return rc;
}

static int look(pawl *p, struct view *v) {
    struct segment_list l = {.mem = &p->mem};
    int rc = look_first(p, &l, v);
    v->first = v->segment;
    for (size_t i = l.count; i-- > 0;)
        if (l.index[i] + 1 == v->first)
            v->first--;
    segment_list_free(&l);
    return rc;
}

/* ---- filling the directory */

/* 0: all of it is there. 1: a file is gone meanwhile; its name is in `gone`. */
static int take_all(struct save *s, const struct view *v, char gone[24]) {
    bool may_link = (s->info->flags & PAWL_SAVEPOINT_COPY) == 0;
    save_again(s);
    if (s->as != SAVE_POINT && v->lsn != s->saved_lsn)
        return fail(PAWL_DAMAGED,
                    "the savepoint was made at LSN %llu, and ends at %llu now: it was "
                    "changed since",
                    (unsigned long long)s->saved_lsn, (unsigned long long)v->lsn);
    for (uint32_t i = 0; i < v->run_count; i++) {
        struct save_file f = {
            .length = v->runs[i].length, .upto = v->runs[i].length, .may_link = may_link};
        run_name(f.name, v->runs[i].run_id);
        memcpy(gone, f.name, sizeof f.name);
        int rc = save_take(s, &f);
        if (rc != 0)
            return rc;
    }
    for (uint64_t n = v->first; n <= v->segment; n++) {
        struct save_file f = {.length = v->segment_size, .upto = v->segment_size, .segment = true};
        if (n == v->segment)
            f.upto = v->lsn - n * v->segment_size;
        /* the last two: so one header's loss doesn't take it */
        f.own_header = s->as == SAVE_FORK && n + 1 >= v->segment;
        f.may_link = n < v->segment && !f.own_header && may_link;
        segment_name(f.name, n, "seg");
        memcpy(gone, f.name, sizeof f.name);
        int rc = save_take(s, &f);
        if (rc != 0)
            return rc;
    }
    return 0;
}

/* The log names what isn't there. With a writer, that may be what it has just removed, and a reader
 * sees that a little later. */
static int is_gone(pawl *p, const struct view *v, const char *gone, bool again, bool late) {
    if (again && (late || v->alone || !p->read_only))
        return fail_at(PAWL_DAMAGED, ENOENT, "open", gone, NO_LSN,
                       "%s is not there, though the log names it", gone);
    if (late)
        return fail(PAWL_BUSY,
                    "the writer removes files faster than they can be copied, %s was the last: "
                    "make the savepoint on the log's own file system, or keep more of the log",
                    gone);
    if (again)
        p->io->ops->sleep(p->io, PAUSE_NS);
    return 0;
}

static int fill(pawl *p, struct save *s, struct view *v) {
    char gone[24] = "", before[24] = "";
    for (uint64_t until = engine_now(p) + REMOVED_NS;;) {
        TRY(look(p, v));
        int rc = take_all(s, v, gone);
        if (rc == 0)
            rc = save_drop(s);
        if (rc <= 0)
            return rc;
        TRY(is_gone(p, v, gone, strcmp(gone, before) == 0, engine_now(p) >= until));
        memcpy(before, gone, sizeof before);
    }
}

/* ---- is it what it should be? */

/* Can all of its runs be opened? pawl_verify() reads them. */
static int open_runs(pawl *p) {
    struct store_live *live = store_live_take(&p->store);
    int rc = 0;
    for (uint32_t i = 0; live != NULL && i < live->count && rc == 0; i++)
        if (live->runs[i]->file == NULL)
            rc = fail(PAWL_DAMAGED, "run %u of keyed state is damaged, or another file",
                      live->runs[i]->ident.run_id);
    store_live_release(&p->store, live);
    return rc;
}

/* Opens it as a reader, and its runs. */
static int compare(const char *path, const struct view *want, uint64_t memory) {
    struct view got;
    pawl *p;
    pawl_options o = PAWL_OPTIONS_INIT;
    o.flags = PAWL_OPEN_READ;
    o.no_thread = 1;
    o.memory_cap = memory;
    TRY(pawl_open(path, &o, &p, NULL));
    int rc = look(p, &got);
    if (rc == 0 && (got.lsn != want->lsn || got.first != want->first || got.state != want->state ||
                    got.run_count != want->run_count))
        rc = fail(PAWL_DAMAGED,
                  "what was made ends at LSN %llu with %u runs, not at LSN %llu with "
                  "%u, or says something else of its tables",
                  (unsigned long long)got.lsn, got.run_count, (unsigned long long)want->lsn,
                  want->run_count);
    if (rc == 0 && want->run_count != 0)
        rc = state_ready(p);
    if (rc == 0 && want->run_count != 0)
        rc = open_runs(p);
    pawl_error e;
    fail_copy(&e);
    int closed = pawl_close(p);
    return rc < 0 ? fail_again(&e) : closed;
}

static int check(struct save *s, const struct view *v) {
    pawl_savepoint_info *info = s->info;
    pawl_check c = PAWL_CHECK_INIT;
    c.finding = info->finding;
    c.progress = info->progress;
    c.arg = info->arg;
    bool whole = (info->flags & PAWL_SAVEPOINT_QUICK) == 0;
    int rc = compare(s->path, v, CHECK_MEMORY);
    if (rc >= 0 && whole)
        rc = pawl_verify(s->path, &c, NULL);
    if (rc >= 0 || rc == PAWL_MEMORY || rc == PAWL_IO || rc == PAWL_STOPPED)
        return rc;
    pawl_error e;
    fail_copy(&e);
    return fail_at(rc, e.sys_errno, e.call, e.file, e.lsn,
                   "nothing was made, since what it is made from is not well: %s",
                   e.message[0] != 0 ? e.message : pawl_strerror(rc));
}

/* What the original has decided on in the world outside is the original's to finish. */
static int finish_all(pawl *p) {
    pawl_decision d;
    pawl_tx *tx;
    TRY(pawl_begin(p, &tx));
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && (rc = pawl_decision_at(p, i, &d)) == 0; i++)
        rc = pawl_finish(tx, d.processor, d.name);
    if (rc == PAWL_NOT_FOUND)
        return pawl_commit(tx, NULL);
    pawl_abort(tx);
    return rc;
}

static int finish_decisions(const char *path) {
    pawl *p;
    pawl_options o = PAWL_OPTIONS_INIT;
    o.no_thread = 1;
    o.memory_cap = CHECK_MEMORY;
    TRY(pawl_open(path, &o, &p, NULL));
    int rc = finish_all(p);
    pawl_error e;
    fail_copy(&e);
    int closed = pawl_close(p);
    return rc < 0 ? fail_again(&e) : closed;
}

/* ---- the calls */

static void sum_up(struct save *s, const struct view *v) {
    pawl_savepoint_info *info = s->info;
    memcpy(info->log_id, s->id, sizeof info->log_id);
    info->lsn = v->lsn;
    info->segments = v->segment - v->first + 1;
    info->runs = v->run_count;
    info->linked = info->copied = 0;
    for (uint32_t i = 0; i < s->count; i++)
        *(s->files[i].linked ? &info->linked : &info->copied) += s->files[i].upto;
}

static int choose_id(pawl *p, struct save *s) {
    int rc = 0;
    if (s->as == SAVE_FORK)
        rc = p->io->ops->random(p->io, s->id, sizeof s->id);
    else
        memcpy(s->id, segment_identity(&p->header), sizeof s->id);
    return rc < 0 ? fail_sys(rc, "getrandom", NULL, NO_LSN) : 0;
}

static int save(pawl *p, struct save *s, const char *to) {
    struct view v = {0};
    uint64_t began = engine_now(p);
    TRY(choose_id(p, s));
    TRY(save_begin(s, to));
    point(&p->points, "savepoint-claimed");
    TRY(fill(p, s, &v));
    if (s->as == SAVE_POINT)
        TRY(save_text_write(s, s->id, v.lsn));
    TRY(save_sync(s));
    point(&p->points, "savepoint-filled");
    sum_up(s, &v);
    uint64_t filled = engine_now(p);
    s->info->made_ns = filled - began;
    TRY(check(s, &v));
    if (s->as == SAVE_FORK && v.decisions != 0)
        TRY(finish_decisions(s->path));
    s->info->verified_ns = engine_now(p) - filled;
    point(&p->points, "savepoint-verified");
    TRY(save_name(s));
    point(&p->points, "savepoint-named");
    return 0;
}

static int take_info(pawl_savepoint_info *own, const pawl_savepoint_info *info) {
    *own = (pawl_savepoint_info)PAWL_SAVEPOINT_INIT;
    if (info == NULL)
        return 0;
    return pawl_struct_take(own, sizeof *own, info, SAVEPOINT_FIRST, "pawl_savepoint_info");
}

static int give_info(pawl_savepoint_info *info, const pawl_savepoint_info *own) {
    return info == NULL
               ? 0
               : pawl_struct_give(info, SAVEPOINT_FIRST, own, sizeof *own, "pawl_savepoint_info");
}

int pawl_savepoint(pawl *p, const char *to, pawl_savepoint_info *info) {
    pawl_savepoint_info own;
    if (p == NULL || to == NULL)
        return fail(PAWL_INVALID, "the handle or the directory is NULL");
    TRY(engine_check_fork(p));
    TRY(take_info(&own, info));
    if (p->salvage)
        return engine_keep_error(
            p, fail(PAWL_STATE, "a log opened for salvage may have gaps: repair it first"));
    struct save s = {.io = p->io, .mem = &p->mem, .info = &own, .claim = -1, .as = SAVE_POINT};
    int rc = save(p, &s, to);
    save_end(&s);
    return engine_answer(p, rc < 0 ? rc : give_info(info, &own));
}

/* From a savepoint that is open. */
static int remake(pawl *p, const char *from, const char *to, enum save_as as,
                  pawl_savepoint_info *own) {
    struct save s = {.io = p->io, .mem = &p->mem, .info = own, .claim = -1, .as = as};
    if (p->io->ops->holder(p->io) != 0)
        return fail(PAWL_LOCKED, "a writer has %s open, so it is no savepoint", from);
    TRY(save_text_check(p->io, &p->mem, &s.saved_lsn));
    int rc = save(p, &s, to);
    save_end(&s);
    return rc;
}

static int remake_at(const char *from, const char *to, enum save_as as, pawl_savepoint_info *info,
                     pawl_error *err) {
    pawl_savepoint_info own;
    pawl_options o = PAWL_OPTIONS_INIT;
    pawl *p = NULL;
    fail_clear();
    o.flags = PAWL_OPEN_READ;
    o.no_thread = 1;
    o.memory_cap = CHECK_MEMORY;
    int rc = from == NULL || to == NULL ? fail(PAWL_INVALID, "a directory is NULL")
                                        : take_info(&own, info);
    if (rc == 0)
        rc = pawl_open(from, &o, &p, NULL);
    if (rc == 0)
        rc = remake(p, from, to, as, &own);
    if (rc == 0)
        rc = give_info(info, &own);
    pawl_error e;
    fail_copy(&e);
    int closed = pawl_close(p);
    if (rc >= 0)
        rc = closed;
    else
        fail_again(&e);
    if (err != NULL)
        fail_copy(err);
    return rc;
}

int pawl_restore(const char *savepoint, const char *to, pawl_savepoint_info *info,
                 pawl_error *err) {
    return remake_at(savepoint, to, SAVE_RESTORED, info, err);
}

int pawl_fork(const char *savepoint, const char *to, pawl_savepoint_info *info, pawl_error *err) {
    return remake_at(savepoint, to, SAVE_FORK, info, err);
}
