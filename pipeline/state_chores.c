/* SPDX-License-Identifier: Apache-2.0
 *
 * Flushes and merges: chores of the maintenance thread, one at a time, without the lock while they
 * read and write files.
 *
 * A run is written and durable before a commit names it. Its changes need not be durable then: the
 * commit comes after theirs in the log, so it is never durable without them. The runs that a merge
 * replaces are removed only once the commit that says so is durable.
 */
#include <assert.h>

#include "pipeline/engine.h"
#include "pipeline/state.h"
#include "state/policy.h"

#define RETRY_NS UINT64_C(1000000000)
#define LATER_NS UINT64_C(10000000) /* another thread is at work, and tells when it is done */
#define NAME_TRIES 20u

/* ---- what is due */

static uint64_t least(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

/* How much log there may be since the last flush: what opening reads, and what retention keeps. */
static uint64_t distance_max(const pawl *p) {
    uint64_t two = 2 * p->wal.segment_size;
    uint64_t n = (STATE_REPLAY_MAX > two ? STATE_REPLAY_MAX : two) / 4 * 3;
    if (p->wal.disk_cap != 0)
        n = least(n, p->wal.disk_cap / 4);
    if (p->tables.state.count != 0 && p->tables.retain_bytes != 0)
        n = least(n, p->tables.retain_bytes / 2);
    return n > p->wal.segment_size ? n : p->wal.segment_size; /* one segment is kept anyhow */
}

/* ---- space */

static uint64_t runs_bytes(const pawl *p) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < p->tables.state.run_count; i++) {
        uint64_t more = p->tables.state.runs[i].bytes; /* a forged log may say anything */
        sum += more < UINT64_MAX / STATE_RUNS_MAX / 4 ? more : UINT64_MAX / STATE_RUNS_MAX / 4;
    }
    return sum;
}

/* The runs themselves; what is in memory, which becomes one; and as much as all of them, so that
 * they can be merged before the old ones go. */
void state_take_space(pawl *p) {
    if (p->tables.state.any)
        p->wal.beside =
            2 * runs_bytes(p) + atomic_load(&p->store.freezing) + atomic_load(&p->store.dirty);
}

/* Is there room for what a merge of these runs writes? */
static bool merge_fits(const pawl *p, const struct state_job *j) {
    uint64_t inputs = 0;
    for (uint32_t i = 0; i < p->tables.state.run_count; i++)
        for (uint32_t k = 0; k < j->count; k++)
            if (p->tables.state.runs[i].id == j->ids[k])
                inputs += p->tables.state.runs[i].bytes;
    return p->wal.disk_cap == 0 ||
           wal_segments_on_disk(&p->wal) * p->wal.segment_size + runs_bytes(p) + inputs <=
               p->wal.disk_cap;
}

bool state_due(const pawl *p) {
    const struct state_tables *t = &p->tables.state;
    if (!t->any)
        return false;
    if (store_wants_flush(&p->store) || p->store.has_frozen ||
        (p->state.pressed && store_is_dirty(&p->store)))
        return true;
    if (p->wal.last.lsn <= t->flush_lsn)
        return false;
    if (p->state.expiry.deletes_ms != 0 &&
        p->state.read_ms - p->state.expiry.deletes_ms >= state_purge_ms(p))
        return true; /* pairs that have expired are to leave the files */
    /* a full log: what state holds back may be all that retention waits for */
    return p->wal.tail - t->flush_lsn > distance_max(p) ||
           (p->wal.next == NEXT_FULL && state_oldest(p) < p->wal.segment);
}

bool state_must_wait(pawl *p) {
    return store_is_full(&p->store);
}

/* ---- which tables there are, for a thread that doesn't hold the lock */

struct kept {
    struct mem *mem;
    uint32_t *ids, count;
};

static int kept_make(pawl *p, struct kept *k) {
    const struct state_tables *t = &p->tables.state;
    *k = (struct kept){.mem = &p->mem, .count = t->count};
    if (t->count == 0)
        return 0;
    k->ids = mem_alloc(&p->mem, t->count * sizeof *k->ids);
    if (k->ids == NULL)
        return fail(PAWL_MEMORY, "no memory to flush state");
    for (uint32_t i = 0; i < t->count; i++)
        k->ids[i] = t->tables[i]->id;
    return 0;
}

static bool is_kept(void *ctx, uint32_t table) {
    const struct kept *k = ctx;
    uint32_t lo = 0, hi = k->count;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (k->ids[mid] < table)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < k->count && k->ids[lo] == table;
}

/* ---- naming runs */

/* Names a run that is going to be made. Levels and ids come from the log: a level at its limit
 * stays there, and an id beyond it is refused before the log has it. */
static int name_run(const pawl *p, struct run_ident *e) {
    uint64_t id = p->tables.state.next_run;
    if (id <= p->state.last_run)
        id = p->state.last_run + UINT64_C(1); /* a file of this name stood in the way */
    TRY(limit_check(LIMIT_ID, id));
    e->run_id = (uint32_t)id;
    e->level = e->level < STATE_RUNS_MAX ? e->level : STATE_RUNS_MAX - 1;
    memcpy(e->log_id, p->header.log_id, sizeof e->log_id);
    return 0;
}

/* Files that others planted may have the next names, any number of them. So the steps become wider,
 * and where they end can't be known outside. */
static void pass_names(pawl *p, uint32_t tries) {
    uint64_t wide = UINT64_C(1) << tries;
    uint64_t id = p->state.last_run + lookup_mix(p->mem.hash_seed ^ p->state.last_run) % wide;
    p->state.last_run = id < UINT32_MAX ? (uint32_t)id : UINT32_MAX;
}

void state_remove_file(pawl *p, uint32_t id) {
    char name[RUN_NAME_SIZE];
    run_name(name, id);
    if (p->io->ops->unlink(p->io, name) < 0)
        return; /* the next writer tries again */
}

int state_commit_runs(pawl *p, const struct run_ident *added, uint32_t added_count,
                      const uint32_t *removed, uint32_t removed_count, bool durable) {
    struct pawl_tx *tx;
    TRY(tx_new(p, &tx));
    int rc = 0;
    for (uint32_t i = 0; i < removed_count && rc == 0; i++)
        rc = tx_add_table(tx, &(struct table_entry){.op = TABLE_RUN_REMOVED, .id = removed[i]});
    bool made = false;
    for (uint32_t i = 0; i < added_count && rc == 0; i++) {
        if (added[i].length == 0) /* there was nothing to write */
            continue;
        made = true;
        rc = tx_add_table(tx, &(struct table_entry){.op = TABLE_RUN_ADDED,
                                                    .id = added[i].run_id,
                                                    .owner = added[i].level,
                                                    .ttl_ms = added[i].header_hash,
                                                    .a = added[i].flush_lsn,
                                                    .b = added[i].length});
    }
    if (rc == 0 && !made && removed_count == 0)
        rc = tx_add_table(tx, &(struct table_entry){.op = TABLE_FLUSHED, .a = added->flush_lsn});
    pawl_receipt receipt;
    assert(!p->state.closed); /* PAWL-7: nothing comes after the closing mark */
    p->state.flushing = true;
    if (rc == 0)
        rc = tx_append(tx, &receipt, false);
    p->state.flushing = false;
    if (rc == 0) {
        engine_tell_appended(p);
        if (durable)
            rc = engine_wait_durable(p, receipt.lsn);
    }
    tx_free(tx);
    return rc;
}

/* Without the lock: the runs that the log names, less `removed`, and `added`. */
static int show_runs(pawl *p, const struct run_ident *added, const uint32_t *removed,
                     uint32_t removed_count) {
    struct run_ident all[STATE_RUNS_MAX + 1], list[STATE_RUNS_MAX + 1];
    uint32_t n = 0;
    pthread_mutex_lock(&p->mutex);
    uint32_t count = state_idents(p, all);
    pthread_mutex_unlock(&p->mutex);
    bool in = added == NULL || added->length == 0;
    for (uint32_t i = 0; i < count; i++) {
        bool gone = false;
        for (uint32_t k = 0; k < removed_count; k++)
            gone |= removed[k] == all[i].run_id;
        if (gone)
            continue;
        if (!in && added->flush_lsn > all[i].flush_lsn) {
            list[n++] = *added;
            in = true;
        }
        list[n++] = all[i];
    }
    if (!in)
        list[n++] = *added;
    return store_runs_are(&p->store, list, n, true);
}

/* Under the lock, released inside: shows a new run, then names it. If that fails, everything is as
 * before. */
static int publish(pawl *p, const struct run_ident *added, const uint32_t *removed, uint32_t count,
                   bool durable) {
    engine_leave(p);
    int rc = show_runs(p, added, removed, count);
    pthread_mutex_lock(&p->mutex);
    if (rc == 0)
        rc = state_commit_runs(p, added, 1, removed, count, durable);
    if (rc == 0)
        return 0;
    pawl_error e;
    fail_copy(&e);
    engine_leave(p);
    /* An append that failed with the log may be in it: then the file must stay. */
    bool named = p->wal.failed != 0;
    if (!named)
        (void)show_runs(p, NULL, NULL, 0);
    if (!named && added->length != 0)
        state_remove_file(p, added->run_id);
    pthread_mutex_lock(&p->mutex);
    return fail_again(&e);
}

/* ---- flush and merge */

/* Under the lock, released inside: writes the run, whose length and hash are set. 1: done, 0: there
 * was nothing to write. */
static int write_run(pawl *p, const struct state_job *j, struct run_ident *ident) {
    struct run_summary sum = {0};
    struct kept kept;
    TRY(kept_make(p, &kept));
    p->state.last_run = ident->run_id;
    engine_leave(p);
    int rc = j->count == 0
                 ? store_flush(j->frozen != NULL ? j->frozen : &p->store, ident, j->drops, is_kept,
                               &kept, &sum)
                 : store_merge(&p->store, j->ids, j->count, ident, j->drops, is_kept, &kept, &sum);
    mem_free(kept.mem, kept.ids, kept.count * sizeof *kept.ids);
    ident->length = sum.length;
    ident->header_hash = sum.header_hash;
    if (rc == 1)
        point(&p->points, j->count == 0 ? "state-flushed" : "state-merged");
    pthread_mutex_lock(&p->mutex);
    return rc;
}

int state_write_named(pawl *p, const struct state_job *j, struct run_ident *ident) {
    int rc = PAWL_EXISTS;
    for (uint32_t tries = 0; rc == PAWL_EXISTS && tries < NAME_TRIES; tries++) {
        pass_names(p, tries);
        TRY(name_run(p, ident));
        rc = write_run(p, j, ident);
    }
    return rc;
}

static int flush(pawl *p) {
    if (!p->store.has_frozen) {
        /* the last frame that can hold a change of what is frozen here */
        uint64_t lsn = p->wal.last.lsn > p->state.last_lsn ? p->wal.last.lsn : p->state.last_lsn;
        store_freeze(&p->store, lsn);
        p->state.expiry.deletes_ms = 0;
    }
    struct state_job j = {.count = 0, .drops = p->tables.state.run_count == 0};
    struct run_ident ident = {.level = 0, .flush_lsn = p->store.frozen_lsn};
    int rc = state_write_named(p, &j, &ident);
    TRY(rc);
    TRY(publish(p, &ident, NULL, 0, false));
    store_flushed(&p->store);
    p->state.pressed = false;
    state_take_space(p);
    return rc;
}

/* What the pairs of all tables take in runs, at most. */
static uint64_t live_bytes(const struct state_tables *t) {
    uint64_t pairs = 0, bytes = 0;
    for (uint32_t i = 0; i < t->count; i++)
        for (uint32_t k = 0; k < t->tables[i]->partitions; k++) {
            const struct state_sum *sum = &t->tables[i]->parts[k].sum;
            pairs += sum->pairs;
            bytes += sum->bytes + STORE_PREFIX_SIZE * sum->pairs;
        }
    return policy_live_bytes(pairs, bytes);
}

/* ---- deletes in runs, where pairs expire: they leave the files in time */

/* Calls fn for each live run that has deletes. */
static void each_waste(pawl *p, void (*fn)(void *ctx, struct store_run *r, uint64_t deletes),
                       void *ctx) {
    struct store_live *live = p->tables.state.expiring != 0 ? store_live_take(&p->store) : NULL;
    for (uint32_t i = 0; live != NULL && i < live->count; i++) {
        struct run_summary sum;
        if (live->runs[i]->file == NULL || atomic_load(&live->runs[i]->damaged))
            break; /* it isn't merged, nor is what is older */
        run_summarise(live->runs[i]->file, &sum);
        if (live->runs[i]->made_ms == 0)
            live->runs[i]->made_ms = p->state.read_ms;
        if (sum.deletes != 0)
            fn(ctx, live->runs[i], sum.deletes);
    }
    store_live_release(&p->store, live);
}

struct waste {
    const struct run_ident *idents;
    struct policy_run *runs;
    uint32_t count;
};

static void tell_waste(void *ctx, struct store_run *r, uint64_t deletes) {
    const struct waste *w = ctx;
    for (uint32_t i = 0; i < w->count; i++)
        if (w->idents[i].run_id == r->ident.run_id) {
            w->runs[i].deletes = deletes;
            w->runs[i].made_ms = r->made_ms;
        }
}

struct made {
    uint32_t run; /* id */
    uint64_t made_ms;
};

/* A merge keeps the deletes of its inputs, and their time. */
static void set_made(void *ctx, struct store_run *r, uint64_t deletes) {
    const struct made *m = ctx;
    (void)deletes;
    if (r->ident.run_id == m->run && m->made_ms != 0)
        r->made_ms = m->made_ms;
}

static void find_first(void *ctx, struct store_run *r, uint64_t deletes) {
    uint64_t *first_ms = ctx;
    (void)deletes;
    *first_ms = least(*first_ms, r->made_ms);
}

uint64_t state_next(pawl *p) {
    if (!p->store.begun || p->read_only || p->state.closed || p->state.error.code != 0 ||
        p->wal.failed != 0 || p->tables.state.expiring == 0)
        return UINT64_MAX;
    if (p->state.busy || p->wal.state != WAL_RUNNING)
        return engine_now(p) + LATER_NS;
    uint64_t now = state_clock(p), within = state_purge_ms(p), at = state_expire_at(p);
    uint64_t first = p->state.expiry.deletes_ms != 0 ? p->state.expiry.deletes_ms : UINT64_MAX;
    each_waste(p, find_first, &first);
    if (first == UINT64_MAX)
        return at;
    uint64_t due = first + within;
    due = engine_now(p) + (due > now ? due - now : 0) * STATE_NS_PER_MS;
    return least(at, due > p->state.retry_ns ? due : p->state.retry_ns);
}

/* Under the lock: should runs be merged now? Then *j says which, and *ident the level and flush LSN
 * of what they become. */
static bool choose(pawl *p, struct state_job *j, struct run_ident *ident) {
    struct run_ident idents[STATE_RUNS_MAX];
    struct policy_run runs[STATE_RUNS_MAX];
    uint32_t n = state_idents(p, idents);
    /* What is older than a run that can't be read can't be merged with what is newer. */
    uint32_t all = n;
    for (n = 0; n < all && !store_run_damaged(&p->store, idents[n].run_id);)
        n++;
    for (uint32_t i = 0; i < n; i++)
        runs[i] = (struct policy_run){.level = idents[i].level, .bytes = idents[i].length};
    struct policy_limits limits = {.live_bytes = live_bytes(&p->tables.state),
                                   .flush_bytes = p->store.memory_max / 4,
                                   .runs_max = POLICY_RUNS_MAX};
    if (p->tables.state.expiring != 0) {
        each_waste(p, tell_waste, &(struct waste){idents, runs, n});
        limits.now_ms = p->state.read_ms;
        limits.drop_within_ms = state_purge_ms(p);
    }
    struct policy_merge m = policy_decide(runs, n, &limits);
    if (n == 0 || m.why == POLICY_NOTHING)
        return false;
    j->count = m.count;
    j->drops = m.drops && n == all;
    for (uint32_t i = 0; i < m.count; i++) {
        const struct policy_run *r = &runs[m.first + i];
        j->ids[i] = idents[m.first + i].run_id;
        if (r->deletes != 0 && (j->made_ms == 0 || r->made_ms < j->made_ms))
            j->made_ms = r->made_ms;
    }
    ident->level = m.level;
    ident->flush_lsn = idents[m.first].flush_lsn; /* of the newest of them */
    return true;
}

static int merge(pawl *p, const struct state_job *j, struct run_ident *ident) {
    TRY(state_write_named(p, j, ident));
    TRY(publish(p, ident, j->ids, j->count, true));
    each_waste(p, set_made, &(struct made){ident->run_id, j->made_ms});
    assert(p->wal.failed == 0); /* PAWL-8: the merge is durable before its inputs go */
    engine_leave(p);
    for (uint32_t i = 0; i < j->count; i++)
        state_remove_file(p, j->ids[i]);
    pthread_mutex_lock(&p->mutex);
    return 1;
}

/* ---- the chore */

/* An error of a flush or merge: time may mend it, and what is in memory is in the log too. Only
 * that of a flush concerns commits. */
static void note_result(pawl *p, bool flushed, int rc) {
    if (rc < 0)
        p->state.retry_ns = engine_now(p) + RETRY_NS;
    if (rc < 0 && flushed)
        fail_copy(&p->state.flush_error);
    else if (flushed)
        p->state.flush_error = (pawl_error){.code = 0};
}

bool state_chore(pawl *p) {
    if (!p->store.begun || p->read_only || p->state.busy || p->state.closed || p->wal.failed != 0 ||
        p->state.error.code != 0 || p->wal.state != WAL_RUNNING)
        return false;
    if (p->tables.state.expiring != 0)
        (void)state_clock(p); /* what is due for its age */
    bool due = state_due(p), late = p->state.retry_ns != 0 && engine_now(p) < p->state.retry_ns;
    if (late && (!due || p->state.flush_error.code != 0)) /* a failed merge delays no flush */
        return false;
    struct state_job j = {.count = 0};
    struct run_ident ident = {0};
    state_take_space(p);
    bool wanted = !due && p->tables.state.run_count != 0 && choose(p, &j, &ident);
    if (wanted && !merge_fits(p, &j))
        p->state.retry_ns = engine_now(p) + RETRY_NS;
    if (!due && (!wanted || !merge_fits(p, &j)))
        return state_expire_chore(p);
    p->state.busy = true;
    p->state.retry_ns = 0;
    int rc = due ? flush(p) : merge(p, &j, &ident);
    p->state.busy = false;
    note_result(p, due, rc);
    if (rc >= 0)
        engine_ask_chores(p); /* another merge may be due now */
    engine_progress(p);       /* wakes committers that wait for room in memory */
    return rc >= 0;
}

/* Under the lock, released inside. */
static void wait_until_idle(pawl *p) {
    while (p->state.busy)
        engine_wait_until(p, UINT64_MAX);
}

void state_close(pawl *p) {
    wait_until_idle(p);
    p->state.closed = true;
}

int pawl_state_flush(pawl *p) {
    TRY(engine_enter_writer(p));
    int rc = 0;
    wait_until_idle(p);
    if (p->state.error.code != 0)
        rc = fail_again(&p->state.error);
    else if (p->tables.state.any && (p->store.has_frozen || atomic_load(&p->store.dirty) != 0)) {
        p->state.busy = true;
        rc = flush(p);
        p->state.busy = false;
        if (rc >= 0)
            note_result(p, true, rc);
        engine_progress(p);
    }
    engine_leave(p);
    return rc;
}
