/* SPDX-License-Identifier: Apache-2.0
 *
 * Tables read from outside a transaction: by other threads of the writing process, and by other
 * processes. What is shown is durable (PAWL-1).
 */
#include <assert.h>

#include "pipeline/engine.h"
#include "pipeline/state.h"

/* ---- a handle that only reads */

/* Under the lock, released inside: reads what the log has said since the last flush. The writer may
 * flush and drop segments meanwhile; a look for new frames then shows the newer flush, and the
 * caller tries again. */
static int read_since_flush(pawl *p) {
    uint64_t flush_lsn = p->tables.state.flush_lsn, end = p->follow.shown;
    bool any = p->tables.state.any;
    if (p->store.clean_lsn < flush_lsn)
        p->store.clean_lsn = flush_lsn;
    engine_leave(p);
    int rc = any ? state_read_older(p, flush_lsn, end) : 0;
    pthread_mutex_lock(&p->mutex);
    if (rc == 0) {
        p->state.following = p->state.runs_stale = true;
        return 0;
    }
    pawl_error e;
    fail_copy(&e);
    rc = follow_refresh(p);
    return rc < 0 || p->tables.state.flush_lsn != flush_lsn ? rc : fail_again(&e);
}

/* Without the lock: a read-only handle keeps changes in memory only once somebody asks for state.
 * From state_init() on, what is shown is applied too. */
static int follow_begin(pawl *p) {
    int rc = 0;
    pthread_mutex_lock(&p->mutex);
    while (p->state.beginning)
        engine_wait_until(p, UINT64_MAX);
    if (!p->state.following) {
        p->state.beginning = true;
        rc = p->store.begun ? 0 : state_init(p);
        while (rc >= 0 && !p->state.following)
            rc = read_since_flush(p);
        p->state.beginning = false;
        engine_tell(p); /* a reader has no progress of a log of its own to tell of */
    }
    engine_leave(p);
    return rc < 0 ? rc : 0;
}

/* Opens the runs that the log names now. A writer that merges may remove one before it is opened
 * here: the log then names others. */
static int fresh_runs(pawl *p) {
    for (int round = 0;; round++) {
        pthread_mutex_lock(&p->mutex);
        int rc = p->read_only ? follow_refresh(p) : 0;
        bool stale = p->state.runs_stale;
        engine_leave(p);
        TRY(rc);
        if (!stale)
            return 0;
        rc = state_open_runs(p, true);
        if (rc >= 0 || rc == PAWL_MEMORY)
            return rc;
        if (rc != PAWL_NOT_FOUND || round == 10)
            return state_open_runs(p, false);
    }
}

int state_ready(pawl *p) {
    if (p == NULL)
        return fail(PAWL_INVALID, "the handle is NULL");
    TRY(engine_check_fork(p));
    if (!p->read_only)
        return 0;
    TRY(follow_begin(p));
    return fresh_runs(p);
}

/* ---- which partition */

/* Under the lock. *now_ms (NULL is allowed): by when a pair has expired; 0: none does. */
static int choose(pawl *p, uint32_t table, uint32_t *partition, const void *key, size_t key_len,
                  uint64_t *now_ms) {
    const struct state_table *t = tables_table(&p->tables, table);
    if (t == NULL)
        return fail(PAWL_NOT_FOUND, "there is no table with id %u", table);
    if (*partition == PAWL_ANY && key != NULL)
        *partition = state_partition_of(key, key_len, t->partitions);
    if (*partition >= t->partitions)
        return fail(PAWL_RANGE, "table %s has %u partitions, so there is no partition %u", t->name,
                    t->partitions, *partition);
    if (p->state.error.code != 0)
        return fail_again(&p->state.error);
    if (state_lost(&t->parts[*partition]))
        return fail(PAWL_LOST, "damage has taken changes of partition %u of table %s", *partition,
                    t->name);
    if (now_ms != NULL)
        *now_ms = (t->flags & TABLE_EXPIRES) != 0 ? state_clock(p) : 0;
    return 0;
}

static int find(pawl *p, uint32_t table, uint32_t *partition, const void *key, size_t key_len,
                struct store_part **part, uint64_t *now_ms) {
    TRY(engine_enter(p));
    int rc = choose(p, table, partition, key, key_len, now_ms);
    engine_leave(p);
    TRY(rc);
    *part = store_part(&p->store, table, *partition);
    return *part != NULL ? 0 : fail(PAWL_MEMORY, "no memory for the state of a partition");
}

/* What was read may be newer than what is durable: waits until it is. */
static int wait_durable(pawl *p, uint64_t lsn) {
    if (p->read_only || lsn < atomic_load(&p->durable_lsn))
        return 0;
    TRY(engine_enter(p));
    int rc = lsn < p->wal.durable ? 0 : engine_wait_durable(p, p->wal.tail);
    engine_leave(p);
    return rc;
}

int pawl_table_get(pawl *p, uint32_t table, uint32_t partition, const void *key, size_t key_len,
                   void *value, size_t size, size_t *value_len) {
    struct store_part *part;
    struct bytes value_found;
    struct store_found found;
    uint64_t now_ms;
    if (key == NULL || key_len == 0 || value_len == NULL || (value == NULL && size != 0))
        return fail(PAWL_INVALID, "the key is empty, or a pointer is NULL");
    if (key_len > PAWL_STATE_KEY_MAX)
        return fail(PAWL_TOO_LARGE, "a key of %zu bytes; keys of state have at most %u", key_len,
                    PAWL_STATE_KEY_MAX);
    TRY(state_ready(p));
    TRY(find(p, table, &partition, key, key_len, &part, &now_ms));
    bytes_init(&value_found, &p->mem);
    int rc = store_get(&p->store, part, key, (uint32_t)key_len, &value_found, &found);
    store_part_release(&p->store, part);
    if (rc >= 0) {
        int waited = wait_durable(p, found.lsn);
        rc = waited < 0 ? waited : rc;
    }
    if (rc == 1 && state_expired(found.expiry_ms, now_ms))
        rc = 0;
    if (rc == 1) {
        *value_len = value_found.len;
        if (value_found.len != 0 && size != 0)
            memcpy(value, value_found.data, value_found.len < size ? value_found.len : size);
    }
    bytes_free(&value_found);
    return rc < 0 ? engine_keep_error(p, rc) : rc;
}

int pawl_table_scan(pawl *p, uint32_t table, uint32_t partition, const pawl_state_range *range,
                    pawl_state_cursor **out) {
    struct store_part *part;
    if (out == NULL)
        return fail(PAWL_INVALID, "the result pointer is NULL");
    *out = NULL;
    if (partition == PAWL_ANY)
        return fail(PAWL_INVALID, "a scan is of one partition");
    TRY(state_ready(p));
    uint64_t now_ms = 0;
    TRY(find(p, table, &partition, NULL, 0, &part, &now_ms));
    int rc = state_cursor_open(p, part, range, NULL, now_ms, true, out);
    store_part_release(&p->store, part);
    if (rc == 0 && (rc = wait_durable(p, atomic_load(&p->durable_lsn))) < 0) {
        pawl_state_close(*out);
        *out = NULL;
    }
    return rc < 0 ? engine_keep_error(p, rc) : rc;
}

int pawl_table_get_digest(pawl *p, uint32_t table, uint32_t partition, pawl_table_digest *out) {
    if (out == NULL)
        return fail(PAWL_INVALID, "the result pointer is NULL");
    TRY(engine_enter(p));
    int rc = p->read_only ? follow_refresh(p) : 0;
    if (rc == 0)
        rc = choose(p, table, &partition, NULL, 0, NULL);
    if (rc == 0) {
        const struct state_part *part = &tables_table(&p->tables, table)->parts[partition];
        *out = (pawl_table_digest){part->sum.low, part->sum.high, part->sum.pairs, part->sum.bytes,
                                   part->changed_lsn};
    }
    engine_leave(p);
    return engine_answer(p, rc);
}
