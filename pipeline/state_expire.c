/* SPDX-License-Identifier: Apache-2.0
 *
 * Removes expired pairs, a chore of the maintenance thread. It looks through a partition at a time,
 * notes the keys of pairs that have expired, and deletes them by a commit as any transaction's. It
 * sleeps until the next pair can be due: nothing is looked at while nothing expires (PAWL-17).
 *
 * When a partition is looked through: once the earliest expiry that was put or seen there has
 * passed, but not before a pause after the last look (pause_ms()). So each look reads all pairs of
 * the partition, and no pair is read more than about three times in its life where the table has a
 * time to live: an index of expiries would have cost a second pair, and the log its bytes, for each
 * put.
 *
 * A processor's batch that changes the partition at the same time must not be refused, so the
 * chore's commit gives way to one that has begun (store_part.in_use). The keys are then offered to
 * whoever commits a change of the partition next, which takes the deletes along; if nobody comes,
 * the chore tries again. No batch can see the difference, as it doesn't see these pairs.
 *
 * What leaves the log's state leaves its run files with merges. state_purge_at() says when one is
 * due only for that.
 */
#include <assert.h>

#include "pipeline/engine.h"
#include "pipeline/state.h"

#define PAIRS_MAX 20000u /* looked at before other chores have their turn */
#define READ_MAX (1u << 20)
#define PAUSE_MIN_MS 1000u
#define OFFER_NS UINT64_C(20000000) /* the first wait for somebody to take keys along */
#define FAILED_NS UINT64_C(1000000000)
#define FAILED_MS 60000u /* a look that failed is repeated after that */

static bool expires(const struct state_table *t) {
    return (t->flags & TABLE_EXPIRES) != 0;
}

/* ---- which partition, and when */

static uint64_t add(uint64_t a, uint64_t b) {
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

/* The pause between two looks through a partition: a second for each MiB in it, but not more than
 * half of the table's time to live, and at least a second. */
static uint64_t pause_ms(const struct state_table *t, uint32_t partition) {
    uint64_t ms = t->parts[partition].sum.bytes / 1024;
    if (t->ttl_ms != 0 && ms > t->ttl_ms / 2)
        ms = t->ttl_ms / 2;
    return ms > PAUSE_MIN_MS ? ms : PAUSE_MIN_MS;
}

/* When the partition is due, by the clock of state; UINT64_MAX: nothing in it expires. */
static uint64_t due_ms(const struct state_table *t, uint32_t partition,
                       const struct store_part *part) {
    const struct state_part *row = &t->parts[partition];
    uint64_t least = atomic_load_explicit(&part->expiry_min_ms, memory_order_relaxed);
    if (row->sum.pairs == 0 || state_lost(row) || least == UINT64_MAX)
        return UINT64_MAX;
    uint64_t rested = part->looked_ms == 0 ? 0 : add(part->looked_ms, pause_ms(t, partition));
    return least > rested ? least : rested;
}

/* Under the lock: the next partition that is due, after the one before; NULL: none is, and the wake
 * time says when one will be. */
static struct store_part *choose(pawl *p, uint64_t now_ms) {
    struct state_expiry *e = &p->state.expiry;
    const struct state_tables *s = &p->tables.state;
    uint64_t wake = UINT64_MAX;
    for (uint32_t round = 0; round <= s->count; round++) {
        const struct state_table *t = s->count != 0 ? s->tables[e->next_table % s->count] : NULL;
        if (t != NULL && expires(t))
            for (; e->next_partition < t->partitions; e->next_partition++) {
                struct store_part *part = store_part(&p->store, t->id, e->next_partition);
                uint64_t due = part != NULL ? due_ms(t, e->next_partition, part) : add(now_ms, 1);
                if (part != NULL && due <= now_ms) {
                    e->next_partition++;
                    return part;
                }
                store_part_release(&p->store, part);
                wake = due < wake ? due : wake;
            }
        e->next_partition = 0;
        e->next_table = s->count != 0 ? (e->next_table + 1) % s->count : 0;
    }
    e->wake_ms = wake;
    return NULL;
}

static bool begin_look(pawl *p) {
    struct state_expiry *e = &p->state.expiry;
    uint64_t now = state_clock(p);
    if (now < e->wake_ms)
        return false;
    e->part = choose(p, now);
    if (e->part == NULL)
        return false;
    e->wake_ms = 0;
    e->part->looked_ms = now;
    /* what is put from now on counts again */
    atomic_store(&e->part->expiry_min_ms, UINT64_MAX);
    e->found_ms = UINT64_MAX;
    e->over = false;
    e->from.len = e->keys.len = 0;
    return true;
}

static void end_look(pawl *p) {
    struct state_expiry *e = &p->state.expiry;
    store_part_expires(e->part, e->found_ms);
    store_part_release(&p->store, e->part);
    e->part = NULL;
    e->from.len = e->keys.len = 0;
    e->waits = false;
    atomic_store(&e->offered, false);
}

/* ---- a look */

/* Without the lock: notes keys of expired pairs, until there are enough for one commit. */
static int gather(struct store *s, struct state_expiry *e, uint64_t now_ms, uint64_t most) {
    struct store_range range = {.from = e->from.len != 0 ? e->from.data : NULL,
                                .from_len = (uint32_t)e->from.len,
                                .at_lsn = MEMTABLE_NEWEST};
    struct store_cursor *c;
    struct state_pair pair;
    uint64_t read = 0, bytes = 0;
    TRY(store_cursor_take(s, e->part, &range, NULL, &c));
    int rc = 1;
    for (uint32_t n = 0; n < PAIRS_MAX && read < READ_MAX && bytes < most; n++) {
        rc = store_cursor_next(c, &pair);
        if (rc != 1)
            break;
        read += pair.key_len + pair.value_len;
        e->next.len = 0;
        bytes_put(&e->next, pair.key, pair.key_len);
        uint16_t len = (uint16_t)pair.key_len;
        if (state_expired(pair.expiry_ms, now_ms)) {
            bytes_put(&e->keys, &len, sizeof len);
            bytes_put(&e->keys, pair.key, pair.key_len);
            bytes += STATE_CHANGE_HEAD_MAX + pair.key_len;
        } else if (pair.expiry_ms != 0 && pair.expiry_ms < e->found_ms) {
            e->found_ms = pair.expiry_ms;
        }
    }
    store_cursor_close(c);
    if (rc == 1) { /* on from the key after the last one */
        bytes_put(&e->next, "", 1);
        struct bytes t = e->from;
        e->from = e->next;
        e->next = t;
    }
    e->over = rc == 0;
    if (e->keys.failed || e->next.failed || e->from.failed) {
        e->keys.failed = e->next.failed = e->from.failed = false;
        rc = fail(PAWL_MEMORY, "no memory to look for expired pairs");
    }
    return rc < 0 ? rc : 0;
}

/* ---- deleting */

/* Under the lock, released inside: deletes the keys by a commit of its own. */
static int commit_deletes(pawl *p) {
    struct state_expiry *e = &p->state.expiry;
    struct pawl_tx *tx;
    struct pawl_receipt receipt;
    TRY(tx_new(p, &tx));
    tx->expires = true;
    engine_leave(p);
    int rc = state_tx_expire(tx, e->part->table, e->part->partition, &e->keys);
    pthread_mutex_lock(&p->mutex);
    assert(!p->state.closed); /* PAWL-7: nothing comes after the closing mark */
    if (rc == 0 && state_runs(tx) != 0) {
        rc = tx_append(tx, &receipt, false);
        if (rc == 0) {
            engine_tell_appended(p);
            rc = engine_wait_durable(p, receipt.lsn);
        }
    }
    tx_free(tx);
    return rc;
}

/* Somebody else may take the keys along, or time may mend what was in the way. */
static void offer(pawl *p, int rc) {
    struct state_expiry *e = &p->state.expiry;
    uint64_t wait = rc == PAWL_BUSY ? OFFER_NS << (e->tries < 6 ? e->tries : 6) : FAILED_NS;
    e->tries++;
    e->retry_ns = engine_now(p) + (wait < FAILED_NS ? wait : FAILED_NS);
    e->waits = true;
    e->found_ms = 1; /* whoever takes them may fail, so it is looked again */
    atomic_store(&e->offered, true);
}

/* Under the lock: a delete is in memory, or will be. What it deletes leaves the files with a flush
 * and a merge. */
static void note_deletes(pawl *p) {
    struct state_expiry *e = &p->state.expiry;
    if (e->deletes_ms == 0 && (p->tables.state.run_count != 0 || p->store.has_frozen))
        e->deletes_ms = state_clock(p);
}

static int remove_found(pawl *p) {
    struct state_expiry *e = &p->state.expiry;
    e->waits = false;
    atomic_store(&e->offered, false);
    int rc = commit_deletes(p);
    if (rc == PAWL_BUSY || rc == PAWL_FULL || rc == PAWL_MEMORY) {
        offer(p, rc);
        return 0;
    }
    e->keys.len = 0;
    e->tries = 0;
    if (rc == 0)
        note_deletes(p);
    return rc == PAWL_NOT_FOUND ? 0 : rc; /* the table is gone */
}

void state_take_expired(struct pawl_tx *tx) {
    pawl *p = tx->p;
    struct state_expiry *e = &p->state.expiry;
    struct bytes keys;
    if (!atomic_load_explicit(&e->offered, memory_order_relaxed))
        return;
    pthread_mutex_lock(&p->mutex);
    bool mine = e->waits && state_tx_touches(tx, e->part->table, e->part->partition);
    uint32_t table = 0, partition = 0;
    if (mine) {
        table = e->part->table, partition = e->part->partition;
        keys = e->keys;
        bytes_init(&e->keys, &p->mem);
        e->waits = false;
        e->tries = 0;
        atomic_store(&e->offered, false);
        note_deletes(p);
        engine_ask_chores(p);
    }
    engine_leave(p);
    if (!mine)
        return;
    /* what can't be deleted now is found again */
    if (state_tx_expire(tx, table, partition, &keys) < 0)
        fail_clear();
    bytes_free(&keys);
}

/* ---- the chore */

bool state_expire_chore(pawl *p) {
    struct state_expiry *e = &p->state.expiry;
    if (p->tables.state.expiring == 0 && e->part == NULL)
        return false;
    if (e->waits && engine_now(p) < e->retry_ns)
        return false;
    if (e->part == NULL && !begin_look(p))
        return false;
    p->state.busy = true;
    int rc = 0;
    if (e->keys.len == 0 && !e->over) {
        uint64_t now = state_clock(p);
        engine_leave(p);
        rc = gather(&p->store, e, now, p->record_max / 4);
        pthread_mutex_lock(&p->mutex);
    }
    if (rc == 0 && e->keys.len != 0 && !p->state.closed && p->wal.failed == 0)
        rc = remove_found(p);
    p->state.busy = false;
    if (rc < 0) { /* a damaged run, for instance */
        e->part->looked_ms = add(state_clock(p), FAILED_MS);
        e->found_ms = 1;
        end_look(p);
    } else if (e->keys.len == 0 && e->over) {
        end_look(p);
    }
    engine_ask_chores(p); /* what follows, unless it waits */
    engine_progress(p);   /* wakes threads that wait until this chore is done */
    return !e->waits;
}

/* Under the lock: when the chore has something to do, on the monotonic clock; UINT64_MAX: never, as
 * things are. */
uint64_t state_expire_at(pawl *p) {
    const struct state_expiry *e = &p->state.expiry;
    if (e->waits)
        return e->retry_ns;
    if (p->tables.state.expiring == 0 || e->wake_ms == UINT64_MAX)
        return UINT64_MAX;
    uint64_t now = state_clock(p), at = engine_now(p);
    return e->wake_ms <= now ? at : add(at, (e->wake_ms - now) * STATE_NS_PER_MS);
}

void state_expire_put(pawl *p, uint64_t expiry_ms) {
    struct state_expiry *e = &p->state.expiry;
    if (expiry_ms >= e->wake_ms)
        return;
    e->wake_ms = expiry_ms;
    if (p->wal.state == WAL_RUNNING)
        engine_ask_chores(p);
}

int state_expire_begin(pawl *p) {
    const struct state_tables *s = &p->tables.state;
    struct store_live *live = store_live_take(&p->store);
    uint64_t least = UINT64_MAX;
    for (uint32_t i = 0; live != NULL && i < live->count; i++) {
        struct run_summary sum;
        if (live->runs[i]->file == NULL) /* nobody can read what is in it */
            continue;
        run_summarise(live->runs[i]->file, &sum);
        if (sum.expiry_min_ms != 0 && sum.expiry_min_ms < least)
            least = sum.expiry_min_ms;
    }
    store_live_release(&p->store, live);
    for (uint32_t i = 0; i < s->count && least != UINT64_MAX; i++)
        for (uint32_t k = 0; expires(s->tables[i]) && k < s->tables[i]->partitions; k++) {
            struct store_part *part = store_part(&p->store, s->tables[i]->id, k);
            if (part == NULL)
                return fail(PAWL_MEMORY, "no memory for the state of a partition");
            store_part_expires(part, least);
            store_part_release(&p->store, part);
        }
    note_deletes(p); /* there may be some in memory */
    p->state.expiry.wake_ms = 0;
    return 0;
}

void state_expire_free(pawl *p) {
    struct state_expiry *e = &p->state.expiry;
    if (e->part != NULL)
        store_part_release(&p->store, e->part);
    e->part = NULL;
    bytes_free(&e->from);
    bytes_free(&e->next);
    bytes_free(&e->keys);
}

/* ---- from the files */

uint64_t state_purge_ms(const pawl *p) {
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < p->tables.state.run_count; i++)
        bytes = add(bytes, p->tables.state.runs[i].bytes);
    return bytes / 64 > PAUSE_MIN_MS ? bytes / 64 : PAUSE_MIN_MS;
}
