/* SPDX-License-Identifier: Apache-2.0
 *
 * From a transaction's changes to the STATE runs of its commit, and from STATE runs to the store:
 * of this handle's commits, of the log's in recovery, and of another process's in a follower.
 */
#include <assert.h>

#include "pipeline/engine.h"
#include "pipeline/state.h"

#define FLUSH_LOOK_NS 100000000u
#define APPLIED_TOGETHER 256u

/* One run: the partition's sum after the commit, then the changes in ascending order. */
static uint32_t encode_changes(struct tx_state *st, struct bytes *out) {
    uint8_t sum_bytes[STATE_SUM_SIZE];
    uint32_t n = 0;
    state_sum_encode(sum_bytes, &st->sum);
    bytes_put(out, sum_bytes, sizeof sum_bytes);
    struct memtable_cursor c;
    memtable_cursor_open(&c, &st->own, MEMTABLE_NEWEST);
    for (const struct mem_entry *e = memtable_first(&c); e != NULL; e = memtable_next(&c), n++) {
        uint8_t flags = (uint8_t)((e->op == STATE_DELETE ? STATE_DELETED : 0) |
                                  (e->expiry_ms != 0 ? STATE_EXPIRES : 0));
        state_change_encode(out, &(struct state_change){.flags = flags,
                                                        .key_len = e->key_len,
                                                        .value_len = e->value_len,
                                                        .expiry_ms = e->expiry_ms,
                                                        .key = e->bytes,
                                                        .value = mem_entry_value(e)});
    }
    memtable_cursor_close(&c);
    return n;
}

void state_build(struct pawl_tx *tx, struct tx_build *b) {
    for (uint32_t i = 0; i < tx->state_count; i++) {
        struct tx_state *st = tx->states[i];
        if (!st->changed)
            continue;
        size_t at = b->rest->len;
        uint32_t n = encode_changes(st, b->rest);
        assert(n == memtable_keys(&st->own) && n != 0); /* PAWL-3: all of them */
        tx_build_rest(b, RUN_STATE, st->table, st->partition, n, at);
    }
}

/* Waits for a flush, as memory holds as much as it may. WAL_WAIT: check again; 0: there can be no
 * flush now, so memory alone decides. An error of the last flush is the committer's too: else it
 * would wait for ever. */
static int wait_for_flush(pawl *p) {
    if (p->no_thread && !p->state.busy && state_chore(p))
        return WAL_WAIT;
    if (p->state.flush_error.code != 0 || (p->no_thread && !p->state.busy))
        return fail_again(&p->state.flush_error); /* 0, if there was none */
    engine_ask_chores(p);
    if (!engine_did_due(p))
        engine_wait_until(p, engine_now(p) + FLUSH_LOOK_NS);
    return WAL_WAIT;
}

/* There is no memory for the changes: what runs have leaves memory, and then what a flush writes. A
 * commit waits for it, as it does for a full store. */
static int make_memory(struct pawl_tx *tx, struct tx_state *st) {
    pawl *p = tx->p;
    pawl_error e;
    store_shed(&p->store);
    int rc = store_reserve(&p->store, st->part, (uint32_t)memtable_keys(&st->own), st->bytes);
    if (rc != PAWL_MEMORY || !store_is_dirty(&p->store))
        return rc;
    if (tx->expires)
        return fail(PAWL_BUSY, "a flush comes first");
    fail_copy(&e);
    p->state.pressed = true;
    rc = wait_for_flush(p);
    return rc != 0 ? rc : fail_again(&e);
}

int state_check(struct pawl_tx *tx) {
    pawl *p = tx->p;
    if (tx->expires && state_must_wait(p)) /* the chore that flushes is this one */
        return fail(PAWL_BUSY, "a flush comes first");
    int rc = state_must_wait(p) ? wait_for_flush(p) : 0;
    if (rc != 0)
        return rc;
    state_take_space(p);
    if (state_due(p) && !p->state.busy)
        engine_ask_chores(p);
    for (uint32_t i = 0; i < tx->state_count; i++) {
        struct tx_state *st = tx->states[i];
        if (!st->changed)
            continue;
        const struct state_table *t = tables_table(&p->tables, st->table);
        if (t == NULL)
            return fail(PAWL_NOT_FOUND, "a table of the transaction is gone");
        assert(st->partition < t->partitions); /* its number never falls */
        const struct state_part *part = &t->parts[st->partition];
        if (st->table == p->state.migrating)
            return fail(PAWL_BUSY, "table %s is being brought to another version", t->name);
        if (part->changed_lsn != st->base_lsn)
            return fail(PAWL_BUSY,
                        "another transaction has changed partition %u of table %s since this one "
                        "first touched it: begin again",
                        st->partition, t->name);
        if (tx->expires && atomic_load(&st->part->in_use) != 0)
            return fail(PAWL_BUSY, "a batch uses the partition");
        if (state_lost(part))
            return fail(PAWL_LOST, "damage has taken changes of partition %u of table %s",
                        st->partition, t->name);
        rc = store_reserve(&p->store, st->part, (uint32_t)memtable_keys(&st->own), st->bytes);
        if (rc == PAWL_MEMORY)
            rc = make_memory(tx, st);
        if (rc != 0)
            return rc;
    }
    return 0;
}

/* ---- from the log to the store */

/* An error that the log's frame can't be blamed for: state can't be read until the log is opened
 * again; streams can. */
void state_broken(pawl *p) {
    if (p->state.error.code == 0)
        fail_copy(&p->state.error);
}

int state_apply_store(struct store *s, uint32_t table, uint32_t partition, uint64_t lsn,
                      const uint8_t *data, uint32_t len, uint64_t *least_ms) {
    struct store_part *part = store_part(s, table, partition);
    if (part == NULL)
        return fail(PAWL_MEMORY, "no memory for the state of a partition");
    struct state_sum sum;
    struct state_change c;
    uint32_t at = 0;
    int rc = 0;
    bool well = state_sum_decode(data, len, &at, &sum);
    while (well && rc == 0 && at < len) {
        store_apply_begin(part); /* for some at a time: others read the partition */
        for (uint32_t n = 0; well && rc == 0 && at < len && n < APPLIED_TOGETHER; n++) {
            well = state_change_decode(data, len, &at, &c);
            if (!well)
                break;
            struct state_pair pair = {.key = c.key,
                                      .key_len = c.key_len,
                                      .value = c.value,
                                      .value_len = c.value_len,
                                      .expiry_ms = c.expiry_ms,
                                      .op = (c.flags & STATE_DELETED) != 0 ? STATE_DELETE
                                                                           : STATE_PUT};
            rc = store_apply(s, part, &pair, lsn);
            if (c.expiry_ms != 0 && c.expiry_ms < *least_ms)
                *least_ms = c.expiry_ms;
        }
        store_apply_end(s, part);
    }
    if (*least_ms != UINT64_MAX)
        store_part_expires(part, *least_ms);
    store_part_release(s, part);
    return well ? rc
                : fail_at(PAWL_DAMAGED, 0, "", "", lsn,
                          "the changes of state in the commit at LSN %llu are not well formed",
                          (unsigned long long)lsn);
}

int state_apply_part(pawl *p, uint32_t table, uint32_t partition, uint64_t lsn, const uint8_t *data,
                     uint32_t len) {
    uint64_t least = UINT64_MAX;
    int rc = state_apply_store(&p->store, table, partition, lsn, data, len, &least);
    if (least != UINT64_MAX && !p->read_only)
        state_expire_put(p, least);
    return rc;
}

int state_apply_hook(void *ctx, const struct state_table *table, uint32_t partition, uint64_t lsn,
                     const uint8_t *data, uint32_t len) {
    pawl *p = ctx;
    p->state.last_lsn = lsn > p->state.last_lsn ? lsn : p->state.last_lsn;
    if (p->state.error.code != 0)
        return 0;
    int rc = state_apply_part(p, table->id, partition, lsn, data, len);
    if (rc < 0 && p->read_only) { /* its streams can still be read: PAWL-16 */
        state_broken(p);
        return 0;
    }
    return rc;
}

void state_gone_hook(void *ctx, const struct state_table *table) {
    pawl *p = ctx;
    store_drop_table(&p->store, table->id);
}

/* Changes up to the flush LSN are in runs. A reader may not have opened them yet, so what goes is
 * what the flush before this one had. */
void state_applied(pawl *p) {
    p->state.runs_stale = true;
    if (p->state.flushing) /* this handle's own flush knows better what is in its run */
        return;
    store_passed_flush(&p->store, p->tables.state.flush_lsn);
}
