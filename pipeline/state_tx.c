/* SPDX-License-Identifier: Apache-2.0
 *
 * State in transactions and callbacks. A transaction keeps its changes to itself, in a memory table
 * for each partition that it touches; its reads look there first. The commit takes them to the log.
 */
#include <assert.h>

#include "pipeline/processor.h"
#include "pipeline/state.h"
#include "pipeline/struct_size.h"
#include "pipeline/timed.h"

#define COUNTER_SIZE 8u

uint32_t state_partition_of(const void *key, size_t key_len, uint32_t partitions) {
    return partitions == 1 ? 0 : (uint32_t)(format_hash(key, key_len, 0) % partitions);
}

/* ---- the partitions that a transaction has touched */

static void let_go(struct pawl_tx *tx, struct tx_state *st) {
    if (st->in_use)
        atomic_fetch_sub(&st->part->in_use, 1);
    if (st->part != NULL)
        store_part_release(&tx->p->store, st->part);
    st->part = NULL;
    st->in_use = false;
    st->changed = false;
    st->bytes = 0;
    memtable_clear(&st->own);
}

void state_tx_reset(struct pawl_tx *tx) {
    for (uint32_t i = 0; i < tx->state_count; i++)
        let_go(tx, tx->states[i]);
    tx->state_count = 0;
    tx->state_bytes = 0;
    tx->clock_ms = 0;
    tx->expires = false;
    tx->got_from = NULL;
}

void state_tx_free(struct pawl_tx *tx) {
    state_tx_reset(tx);
    for (uint32_t i = 0; i < tx->state_made; i++) {
        memtable_free(&tx->states[i]->own);
        mem_free(&tx->p->mem, tx->states[i], sizeof(struct tx_state));
    }
    mem_free(&tx->p->mem, tx->states, tx->state_cap * sizeof(void *));
    tx->states = NULL;
    tx->state_made = tx->state_cap = 0;
    bytes_free(&tx->state_value);
    bytes_free(&tx->state_before);
}

uint64_t state_tx_memory(const struct pawl_tx *tx) {
    uint64_t n = tx->state_cap * sizeof(void *) + tx->state_value.cap + tx->state_before.cap;
    for (uint32_t i = 0; i < tx->state_made; i++)
        n += sizeof(struct tx_state) + memtable_bytes(&tx->states[i]->own);
    return n;
}

/* The state can't be read: that is no record's fault, whatever a callback makes of it. */
static int at_fault(struct pawl_tx *tx, int rc) {
    if (rc < 0 && rc != PAWL_MEMORY && rc != PAWL_INVALID && rc != PAWL_TOO_LARGE)
        fail_copy(&tx->state_error);
    return rc;
}

/* The table's row, as the transaction finds it first. */
static int look(struct pawl_tx *tx, struct tx_state *st, const struct state_place *at) {
    pawl *p = tx->p;
    TRY(engine_enter_writer(p));
    const struct state_table *t = tables_table(&p->tables, st->table);
    int rc = 0;
    if (t == NULL)
        rc = fail(PAWL_NOT_FOUND, "there is no table with id %u", st->table);
    else if (at->owner != 0 && t->owner != at->owner)
        rc = fail(PAWL_STATE, "table %s belongs to processor %s", t->name,
                  tables_processor_name(&p->tables, t->owner));
    else if (state_internal(t) && !at->internal)
        rc = fail(PAWL_STATE, "table %s is internal: no transaction changes it", t->name);
    else if (st->partition >= t->partitions)
        rc = fail(PAWL_RANGE, "table %s has %u partitions, so there is no partition %u", t->name,
                  t->partitions, st->partition);
    else if (state_lost(&t->parts[st->partition]))
        rc = at_fault(tx, fail(PAWL_LOST, "damage has taken changes of partition %u of table %s",
                               st->partition, t->name));
    else if (st->table == p->state.migrating)
        rc = fail(PAWL_BUSY, "table %s is being brought to another version", t->name);
    else if (p->state.error.code != 0)
        rc = at_fault(tx, fail_again(&p->state.error));
    if (rc == 0 && (st->part = store_part(&p->store, st->table, st->partition)) == NULL)
        rc = fail(PAWL_MEMORY, "no memory for the state of a partition");
    if (rc == 0) {
        const struct state_part *part = &t->parts[st->partition];
        st->in_use = at->owner != 0; /* before the partition is as it is now */
        if (st->in_use)
            atomic_fetch_add(&st->part->in_use, 1);
        st->partitions = t->partitions;
        st->flags = t->flags;
        st->ttl_ms = (t->flags & TABLE_EXPIRES) != 0 ? t->ttl_ms : 0;
        if ((t->flags & TABLE_EXPIRES) != 0 && tx->clock_ms == 0)
            tx->clock_ms = state_clock(p); /* PAWL-14: one reading, which the commit says */
        st->base_lsn = part->changed_lsn;
        st->sum = part->sum;
    }
    engine_leave(p);
    return rc;
}

static struct tx_state *find(const struct pawl_tx *tx, uint32_t table, uint32_t partition) {
    for (uint32_t i = tx->state_count; i-- > 0;)
        if (tx->states[i]->table == table && tx->states[i]->partition == partition)
            return tx->states[i];
    return NULL;
}

/* A partition that the transaction touches for the first time. */
static int touch_new(struct pawl_tx *tx, const struct state_place *at, struct tx_state **out) {
    TRY(tx_grow(tx->p, (void **)&tx->states, tx->state_count, &tx->state_cap, sizeof(void *)));
    if (tx->state_count == tx->state_made) { /* each stays where it is: a scan may be open on it */
        struct tx_state *made = mem_alloc(&tx->p->mem, sizeof *made);
        if (made == NULL)
            return fail(PAWL_MEMORY, "no memory for a transaction's state");
        memtable_init(&made->own, &tx->p->mem, NULL);
        tx->states[tx->state_made++] = made;
    }
    struct tx_state *st = tx->states[tx->state_count];
    st->table = at->table;
    st->partition = at->partition;
    TRY(look(tx, st, at));
    tx->state_count++;
    *out = st;
    return 0;
}

/* How many partitions a table has, where the key decides which. */
static int partitions_of(struct pawl_tx *tx, uint32_t table, uint32_t *n) {
    for (uint32_t i = tx->state_count; i-- > 0;)
        if (tx->states[i]->table == table) {
            *n = tx->states[i]->partitions;
            return 0;
        }
    TRY(engine_enter_writer(tx->p));
    const struct state_table *t = tables_table(&tx->p->tables, table);
    int rc = t != NULL ? 0 : fail(PAWL_NOT_FOUND, "there is no table with id %u", table);
    if (rc == 0)
        *n = t->partitions;
    engine_leave(tx->p);
    return rc;
}

static int touch(struct pawl_tx *tx, struct state_place at, const void *key, size_t key_len,
                 struct tx_state **out) {
    if (key == NULL || key_len == 0)
        return fail(PAWL_INVALID, "a key of state has at least one byte");
    if (key_len > PAWL_STATE_KEY_MAX)
        return fail(PAWL_TOO_LARGE, "a key of %zu bytes; keys of state have at most %u", key_len,
                    PAWL_STATE_KEY_MAX);
    if (at.partition == PAWL_ANY) {
        uint32_t n = 1;
        TRY(partitions_of(tx, at.table, &n));
        at.partition = state_partition_of(key, key_len, n);
    }
    struct tx_state *st = find(tx, at.table, at.partition);
    if (st == NULL)
        TRY(touch_new(tx, &at, &st));
    if ((st->flags & PAWL_TABLE_LOCAL) == 0 &&
        state_partition_of(key, key_len, st->partitions) != st->partition)
        return fail(PAWL_RANGE,
                    "the key belongs to partition %u of the table, not to partition %u; make the "
                    "table with PAWL_TABLE_LOCAL for keys that aren't the records' keys",
                    state_partition_of(key, key_len, st->partitions), st->partition);
    *out = st;
    return 0;
}

/* ---- one key */

/* What a transaction finds of a key. */
struct looked {
    const void *value;
    size_t value_len;
    uint64_t expiry_ms;
    bool there;                /* there is a pair; it may have expired */
    bool own;                  /* the transaction has changed it: `value` is in st->own */
    struct memtable_spot spot; /* in st->own */
};

static uint64_t clock_of(const struct pawl_tx *tx, const struct tx_state *st) {
    return (st->flags & TABLE_EXPIRES) != 0 ? tx->clock_ms : 0;
}

/* For the transaction's eyes. */
static bool visible(const struct pawl_tx *tx, const struct tx_state *st, const struct looked *l) {
    return l->there && !state_expired(l->expiry_ms, clock_of(tx, st));
}

/* Does tx->state_value hold what the store has of this key? Nobody else may have changed it since:
 * else the commit is refused. */
static bool remembers(const struct pawl_tx *tx, const struct tx_state *st, const void *key,
                      size_t key_len) {
    return tx->got_from == st && tx->got_key_len == key_len &&
           memcmp(tx->got_key, key, key_len) == 0;
}

static void remember(struct pawl_tx *tx, const struct tx_state *st, const void *key, size_t key_len,
                     const struct looked *l) {
    tx->got_from = NULL;
    if (key_len > sizeof tx->got_key)
        return;
    tx->got_from = st;
    tx->got_there = l->there;
    tx->got_expiry_ms = l->expiry_ms;
    tx->got_key_len = key_len;
    copy_short(tx->got_key, key, key_len);
}

/* The next records' keys after `at`: STATE_AHEAD of them get the second step, as many after those
 * the first. */
static void fetch_ahead(struct state_ahead *a, struct tx_state *st) {
    uint32_t second = (uint32_t)(a->taken - a->ready), count = second;
    for (; a->taken < a->count && count < 2 * STATE_AHEAD; a->taken++) {
        const pawl_record *r = &a->records[a->taken];
        if (r->key_len != 0)
            a->keys[count++] = (struct memtable_ahead){r->key, r->key_len, 0};
    }
    store_fetch(st->part, a->keys, second, count);
    memmove(a->keys, a->keys + second, (count - second) * sizeof a->keys[0]);
    a->ready = a->taken - (count - second);
}

/* A callback looks a key up. */
static void notice(struct state_ahead *a, struct tx_state *st, const void *key) {
    if (a->at > 0 && a->records[a->at - 1].key == key)
        return; /* once more */
    size_t end = a->at + STATE_AHEAD < a->count ? a->at + STATE_AHEAD : a->count;
    for (size_t i = a->at; i < end; i++)
        if (a->records[i].key == key) {
            a->at = i + 1;
            if (a->at + STATE_AHEAD > a->ready && a->ready < a->count)
                fetch_ahead(a, st);
            return;
        }
}

static int look_into_store(struct pawl_tx *tx, struct tx_state *st, const void *key, size_t key_len,
                           struct bytes *room, struct looked *l) {
    struct store_found found;
    int rc = at_fault(tx, store_get(&tx->p->store, st->part, key, (uint32_t)key_len, room, &found));
    l->there = rc == 1;
    l->expiry_ms = found.expiry_ms;
    return rc;
}

/* `get`: for a call that returns the value, which stays in tx->state_value. */
static int look_up(struct pawl_tx *tx, struct tx_state *st, const void *key, size_t key_len,
                   bool get, struct looked *l) {
    if (tx->ahead != NULL)
        notice(tx->ahead, st, key);
    const struct mem_entry *e = memtable_find(&st->own, key, key_len, &l->spot);
    l->own = e != NULL;
    if (e != NULL) {
        l->value = mem_entry_value(e);
        l->value_len = e->value_len;
        l->expiry_ms = e->expiry_ms;
        l->there = e->op == STATE_PUT;
        return 0;
    }
    struct bytes *room = &tx->state_value;
    if (remembers(tx, st, key, key_len)) {
        l->there = tx->got_there;
        l->expiry_ms = tx->got_expiry_ms;
    } else if (get) {
        tx->got_from = NULL;
        TRY(look_into_store(tx, st, key, key_len, room, l));
        remember(tx, st, key, key_len, l);
    } else { /* the new value may be what was got of another key */
        room = &tx->state_before;
        TRY(look_into_store(tx, st, key, key_len, room, l));
    }
    l->value = room->data != NULL ? (const void *)room->data : "";
    l->value_len = room->len;
    return 0;
}

/* What all changes of a transaction may take in its commit. */
static uint64_t changes_max(const pawl *p) {
    return p->record_max / 2;
}

static int check_room(struct pawl_tx *tx, size_t key_len, size_t value_len) {
    uint64_t after = tx->state_bytes + STATE_CHANGE_HEAD_MAX + key_len + value_len;
    if (after > changes_max(tx->p))
        return fail(PAWL_TOO_LARGE,
                    "the changes of state in one commit take more than %llu bytes, what the log's "
                    "segments and memory cap allow; commit smaller batches",
                    (unsigned long long)changes_max(tx->p));
    return 0;
}

/* The sum is what a log says, and the pairs are what its runs say: a log may contradict itself. */
static int contradicts(const struct tx_state *st) {
    return fail(
        PAWL_DAMAGED,
        "partition %u of table %u has other pairs than the log says: run 'pawl verify', and "
        "delete the table if nothing is found",
        st->partition, st->table);
}

/* Changes a pair that was looked up, and the digest with it; an expired pair counts until it is
 * changed. `op`: STATE_PUT or STATE_DELETE. 1: there was such a pair before, for the transaction's
 * eyes. */
static int change(struct pawl_tx *tx, struct tx_state *st, uint8_t op, uint64_t expiry_ms,
                  const void *key, size_t key_len, const void *value, size_t value_len,
                  struct looked *l) {
    TRY(check_room(tx, key_len, value_len));
    if (op == STATE_DELETE && !l->there)
        return 0; /* nothing changes */
    struct state_sum sum = st->sum;
    size_t before_len = l->value_len;
    if (l->there)
        digest_subtract(&sum, key, key_len, l->value, before_len);
    if (op == STATE_PUT)
        digest_add(&sum, key, key_len, value, value_len);
    if (!state_sum_possible(&sum))
        return contradicts(st);
    TRY(memtable_put_at(&st->own, &l->spot, op, expiry_ms, value, value_len, 0));
    if (!l->own) {
        st->bytes += STATE_CHANGE_HEAD_MAX + key_len;
        tx->state_bytes += STATE_CHANGE_HEAD_MAX + key_len;
    } else {
        assert(tx->state_bytes >= before_len && st->bytes >= before_len);
        st->bytes -= before_len;
        tx->state_bytes -= before_len;
    }
    st->bytes += value_len;
    tx->state_bytes += value_len;
    st->sum = sum;
    st->changed = true;
    return visible(tx, st, l);
}

bool state_tx_touches(const struct pawl_tx *tx, uint32_t table, uint32_t partition) {
    return find(tx, table, partition) != NULL;
}

int state_tx_expire(struct pawl_tx *tx, uint32_t table, uint32_t partition,
                    const struct bytes *keys) {
    struct tx_state *st = find(tx, table, partition);
    if (st == NULL)
        TRY(touch_new(tx, &(struct state_place){table, partition, 0, true}, &st));
    for (size_t at = 0; at < keys->len;) {
        struct looked l;
        uint16_t len;
        memcpy(&len, keys->data + at, sizeof len);
        const uint8_t *key = keys->data + at + sizeof len;
        at += sizeof len + len;
        if (tx->state_bytes + STATE_CHANGE_HEAD_MAX + len > changes_max(tx->p))
            break;
        TRY(look_up(tx, st, key, len, false, &l));
        if (l.there && !l.own && state_expired(l.expiry_ms, clock_of(tx, st)))
            TRY(change(tx, st, STATE_DELETE, 0, key, len, NULL, 0, &l));
    }
    return 0;
}

static int get(struct pawl_tx *tx, struct state_place at, const void *key, size_t key_len,
               const void **value, size_t *value_len) {
    if (value == NULL || value_len == NULL)
        return fail(PAWL_INVALID, "a result pointer is NULL");
    struct tx_state *st;
    struct looked l;
    TRY(touch(tx, at, key, key_len, &st));
    TRY(look_up(tx, st, key, key_len, true, &l));
    bool there = visible(tx, st, &l);
    *value = l.value;
    *value_len = l.value_len;
    if (there && l.own) { /* it may be passed to the next change, which may move it */
        tx->got_from = NULL;
        tx->state_value.len = 0;
        if (*value_len != 0 && !bytes_put(&tx->state_value, *value, *value_len)) {
            tx->state_value.failed = false;
            return fail(PAWL_MEMORY, "no memory for a value of %zu bytes", *value_len);
        }
        *value = tx->state_value.data != NULL ? (const void *)tx->state_value.data : "";
    }
    return there;
}

#define AS_THE_TABLE_SAYS UINT64_MAX /* as a time to live */
/* *expiry_ms: when a pair that is put now expires; 0: never. */
static int expiry_of(const struct pawl_tx *tx, const struct tx_state *st, uint64_t ttl_ms,
                     uint64_t *expiry_ms) {
    *expiry_ms = 0;
    if (ttl_ms == AS_THE_TABLE_SAYS)
        ttl_ms = st->ttl_ms;
    else if ((st->flags & TABLE_EXPIRES) == 0)
        return fail(PAWL_STATE, "the pairs of this table don't expire: make it with a time to live "
                                "or PAWL_TABLE_EXPIRES");
    if (ttl_ms != 0 && __builtin_add_overflow(tx->clock_ms, ttl_ms, expiry_ms))
        *expiry_ms = UINT64_MAX;
    return 0;
}

static int check_ttl(uint64_t ttl_ms) {
    return ttl_ms != AS_THE_TABLE_SAYS ? 0 : fail(PAWL_INVALID, "a time to live of 2^64 - 1 ms");
}

/* `until`: when the pair expires, since 1970; NULL: as `ttl_ms` says. */
static int put_pair(struct pawl_tx *tx, struct state_place at, uint64_t ttl_ms,
                    const uint64_t *until, const void *key, size_t key_len, const void *value,
                    size_t value_len) {
    if (value == NULL && value_len != 0)
        return fail(PAWL_INVALID, "the value is NULL");
    if (value_len > PAWL_STATE_VALUE_MAX)
        return fail(PAWL_TOO_LARGE, "a value of %zu bytes; values of state have at most %u",
                    value_len, PAWL_STATE_VALUE_MAX);
    struct tx_state *st;
    struct looked l;
    uint64_t expiry_ms = until != NULL ? *until : 0;
    TRY(touch(tx, at, key, key_len, &st));
    if (until == NULL)
        TRY(expiry_of(tx, st, ttl_ms, &expiry_ms));
    TRY(look_up(tx, st, key, key_len, false, &l));
    int rc = change(tx, st, STATE_PUT, expiry_ms, key, key_len, value, value_len, &l);
    return rc < 0 ? rc : 0;
}

static int put(struct pawl_tx *tx, struct state_place at, uint64_t ttl_ms, const void *key,
               size_t key_len, const void *value, size_t value_len) {
    return put_pair(tx, at, ttl_ms, NULL, key, key_len, value, value_len);
}

static int add(struct pawl_tx *tx, struct state_place at, const void *key, size_t key_len,
               int64_t n, int64_t *sum) {
    struct tx_state *st;
    struct looked l;
    uint64_t expiry_ms;
    int64_t now = 0;
    TRY(touch(tx, at, key, key_len, &st));
    TRY(expiry_of(tx, st, AS_THE_TABLE_SAYS, &expiry_ms));
    TRY(look_up(tx, st, key, key_len, false, &l));
    bool there = visible(tx, st, &l);
    if (there && l.value_len != COUNTER_SIZE)
        return fail(PAWL_STATE, "the value has %zu bytes; a counter has 8", l.value_len);
    if (there)
        memcpy(&now, l.value, sizeof now);
    if (__builtin_add_overflow(now, n, &now))
        return fail(PAWL_RANGE, "the counter would not fit into 64 bits");
    if (sum != NULL)
        *sum = now;
    int rc = change(tx, st, STATE_PUT, expiry_ms, key, key_len, &now, sizeof now, &l);
    return rc < 0 ? rc : 0;
}

static int take_away(struct pawl_tx *tx, struct state_place at, const void *key, size_t key_len) {
    struct tx_state *st;
    struct looked l;
    TRY(touch(tx, at, key, key_len, &st));
    TRY(look_up(tx, st, key, key_len, false, &l));
    return change(tx, st, STATE_DELETE, 0, key, key_len, NULL, 0, &l);
}

/* ---- a scan */

int pawl_state_next(pawl_state_cursor *cursor, pawl_state_pair *pair) {
    if (cursor == NULL || pair == NULL)
        return fail(PAWL_INVALID, "the cursor or the result pointer is NULL");
    struct state_pair got;
    int rc = store_cursor_next(cursor->at, &got);
    if (rc == 1)
        *pair = (pawl_state_pair){got.key, got.value, got.key_len, got.value_len};
    return cursor->tx != NULL ? at_fault(cursor->tx, rc) : rc;
}

static int scan(struct pawl_tx *tx, struct state_place at, const pawl_state_range *range,
                pawl_state_cursor **out) {
    struct tx_state *st = find(tx, at.table, at.partition);
    if (st == NULL)
        TRY(touch_new(tx, &at, &st));
    TRY(at_fault(
        tx, state_cursor_open(tx->p, st->part, range, &st->own, clock_of(tx, st), false, out)));
    (*out)->tx = tx;
    return 0;
}

/* ---- the calls of a callback */

static int enter(pawl_context *ctx, uint32_t table, struct state_place *at) {
    if (ctx == NULL)
        return fail(PAWL_INVALID, "the context is NULL");
    TRY(engine_check_writer(ctx->tx->p));
    const struct pawl_processor *proc = ctx->task->processor;
    if (proc->config.guarantee == PAWL_AT_MOST_ONCE)
        return fail(PAWL_STATE,
                    "processor %s is at-most-once: its position is committed before its changes of "
                    "state could be",
                    proc->name);
    if (proc->timed != NULL && table == proc->timed->table)
        return fail(PAWL_STATE, "the table with id %u is internal: no callback changes it", table);
    *at = (struct state_place){table, ctx->task->partition, proc->id, false};
    return 0;
}

int pawl_state_get(pawl_context *ctx, uint32_t table, const void *key, size_t key_len,
                   const void **value, size_t *value_len) {
    struct state_place at;
    TRY(enter(ctx, table, &at));
    return get(ctx->tx, at, key, key_len, value, value_len);
}

int pawl_state_put(pawl_context *ctx, uint32_t table, const void *key, size_t key_len,
                   const void *value, size_t value_len) {
    struct state_place at;
    TRY(enter(ctx, table, &at));
    return put(ctx->tx, at, AS_THE_TABLE_SAYS, key, key_len, value, value_len);
}

int pawl_state_put_expiring(pawl_context *ctx, uint32_t table, const void *key, size_t key_len,
                            const void *value, size_t value_len, uint64_t ttl_ms) {
    struct state_place at;
    TRY(check_ttl(ttl_ms));
    TRY(enter(ctx, table, &at));
    return put(ctx->tx, at, ttl_ms, key, key_len, value, value_len);
}

int pawl_state_clock(pawl_context *ctx, uint32_t table, uint64_t *now_ms) {
    struct state_place at;
    struct tx_state *st;
    if (now_ms == NULL)
        return fail(PAWL_INVALID, "the result pointer is NULL");
    TRY(enter(ctx, table, &at));
    st = find(ctx->tx, at.table, at.partition);
    if (st == NULL)
        TRY(touch_new(ctx->tx, &at, &st));
    if ((st->flags & TABLE_EXPIRES) == 0)
        return fail(PAWL_STATE, "the pairs of this table don't expire, so it has no clock");
    *now_ms = ctx->tx->clock_ms;
    return 0;
}

int pawl_state_delete(pawl_context *ctx, uint32_t table, const void *key, size_t key_len) {
    struct state_place at;
    TRY(enter(ctx, table, &at));
    return take_away(ctx->tx, at, key, key_len);
}

int pawl_state_add(pawl_context *ctx, uint32_t table, const void *key, size_t key_len, int64_t n,
                   int64_t *sum) {
    struct state_place at;
    TRY(enter(ctx, table, &at));
    return add(ctx->tx, at, key, key_len, n, sum);
}

int pawl_state_append(pawl_context *ctx, uint32_t table, const void *key, size_t key_len,
                      const void *more, size_t more_len) {
    struct state_place at;
    const void *value;
    size_t len;
    if (more == NULL && more_len != 0)
        return fail(PAWL_INVALID, "the bytes to append are NULL");
    TRY(enter(ctx, table, &at));
    int rc = get(ctx->tx, at, key, key_len, &value, &len);
    TRY(rc);
    size_t before = rc == 1 ? len : 0;
    if (more_len > PAWL_STATE_VALUE_MAX - before)
        return fail(PAWL_TOO_LARGE, "the value would have more than %u bytes",
                    PAWL_STATE_VALUE_MAX);
    struct bytes b;
    bytes_init(&b, &ctx->tx->p->mem);
    if (before != 0)
        bytes_put(&b, value, before);
    if (more_len != 0)
        bytes_put(&b, more, more_len);
    rc = b.failed ? fail(PAWL_MEMORY, "no memory for a value of %zu bytes", before + more_len)
                  : put(ctx->tx, at, AS_THE_TABLE_SAYS, key, key_len,
                        b.len != 0 ? (const void *)b.data : "", b.len);
    bytes_free(&b);
    return rc;
}

int pawl_state_scan(pawl_context *ctx, uint32_t table, const pawl_state_range *range,
                    pawl_state_cursor **out) {
    struct state_place at;
    TRY(enter(ctx, table, &at));
    return scan(ctx->tx, at, range, out);
}

int pawl_state_delete_range(pawl_context *ctx, uint32_t table, const pawl_state_range *range,
                            uint64_t *deleted) {
    struct state_place at;
    pawl_state_cursor *c;
    pawl_state_pair pair;
    uint64_t n = 0;
    TRY(enter(ctx, table, &at));
    TRY(scan(ctx->tx, at, range, &c));
    int rc;
    while ((rc = pawl_state_next(c, &pair)) == 1) {
        rc = take_away(ctx->tx, at, pair.key, pair.key_len);
        if (rc < 0)
            break;
        n++;
    }
    pawl_state_close(c);
    if (deleted != NULL)
        *deleted = n;
    return rc < 0 ? rc : 0;
}

/* ---- the calls of a transaction */

static int enter_tx(pawl_tx *tx) {
    TRY(handle_live(tx, "transaction"));
    TRY(engine_check_writer(tx->p));
    if (tx->built)
        tx_build_free(tx); /* a commit that was refused is built anew */
    return 0;
}

int pawl_tx_state_get(pawl_tx *tx, uint32_t table, uint32_t partition, const void *key,
                      size_t key_len, const void **value, size_t *value_len) {
    TRY(enter_tx(tx));
    return get(tx, (struct state_place){table, partition, 0, false}, key, key_len, value,
               value_len);
}

int pawl_tx_state_put(pawl_tx *tx, uint32_t table, uint32_t partition, const void *key,
                      size_t key_len, const void *value, size_t value_len) {
    TRY(enter_tx(tx));
    return put(tx, (struct state_place){table, partition, 0, false}, AS_THE_TABLE_SAYS, key,
               key_len, value, value_len);
}

int pawl_tx_state_put_expiring(pawl_tx *tx, uint32_t table, uint32_t partition, const void *key,
                               size_t key_len, const void *value, size_t value_len,
                               uint64_t ttl_ms) {
    TRY(check_ttl(ttl_ms));
    TRY(enter_tx(tx));
    return put(tx, (struct state_place){table, partition, 0, false}, ttl_ms, key, key_len, value,
               value_len);
}

int pawl_tx_state_delete(pawl_tx *tx, uint32_t table, uint32_t partition, const void *key,
                         size_t key_len) {
    TRY(enter_tx(tx));
    return take_away(tx, (struct state_place){table, partition, 0, false}, key, key_len);
}

int pawl_tx_state_scan(pawl_tx *tx, uint32_t table, uint32_t partition,
                       const pawl_state_range *range, pawl_state_cursor **out) {
    TRY(enter_tx(tx));
    if (partition == PAWL_ANY)
        return fail(PAWL_INVALID, "a scan is of one partition");
    return scan(tx, (struct state_place){table, partition, 0, false}, range, out);
}

/* ---- the calls of the pipeline itself */

int state_tx_get(struct pawl_tx *tx, struct state_place at, const void *key, size_t key_len,
                 const void **value, size_t *value_len) {
    return get(tx, at, key, key_len, value, value_len);
}

int state_tx_put(struct pawl_tx *tx, struct state_place at, const void *key, size_t key_len,
                 const void *value, size_t value_len) {
    return put(tx, at, AS_THE_TABLE_SAYS, key, key_len, value, value_len);
}

int state_tx_put_until(struct pawl_tx *tx, struct state_place at, uint64_t expiry_ms,
                       const void *key, size_t key_len, const void *value, size_t value_len) {
    return put_pair(tx, at, 0, &expiry_ms, key, key_len, value, value_len);
}

int state_tx_delete(struct pawl_tx *tx, struct state_place at, const void *key, size_t key_len) {
    return take_away(tx, at, key, key_len);
}

int state_tx_scan(struct pawl_tx *tx, struct state_place at, const pawl_state_range *range,
                  pawl_state_cursor **out) {
    return scan(tx, at, range, out);
}
