/* SPDX-License-Identifier: Apache-2.0
 *
 * Open transactions: adding records, spilling when a transaction grows large, and the pool that
 * reuses the memory of ended ones.
 */
#include <assert.h>

#include "pipeline/engine.h"

#define POOL_MAX 64
#define RUNS_KEPT 4
#define RUNS_KEPT_BYTES (256u * 1024u)
#define INDEXED_FROM 8u /* entries; fewer are found faster one by one */

int tx_grow(pawl *p, void **array, uint32_t count, uint32_t *cap, size_t each) {
    if (count < *cap)
        return 0;
    uint32_t want = *cap == 0 ? 4 : *cap * 2;
    void *q = mem_grow(&p->mem, *array, *cap * each, want * each);
    if (q == NULL)
        return fail(PAWL_MEMORY, "no memory for a transaction");
    *array = q;
    *cap = want;
    return 0;
}

/* Frees everything it holds. */
static void strip(struct pawl_tx *tx) {
    struct mem *m = &tx->p->mem;
    for (uint32_t i = 0; i < tx->run_made; i++)
        bytes_free(&tx->runs[i].data);
    mem_free(m, tx->runs, tx->run_cap * sizeof *tx->runs);
    mem_free(m, tx->spilled, tx->spilled_cap * sizeof *tx->spilled);
    mem_free(m, tx->positions, tx->position_cap * sizeof *tx->positions);
    lookup_free(&tx->run_index);
    lookup_free(&tx->position_index);
    bytes_free(&tx->catalog);
    bytes_free(&tx->tables);
    bytes_free(&tx->sinks);
    bytes_free(&tx->origins);
    bytes_free(&tx->marks);
    mem_free(m, tx->order, tx->order_cap * sizeof *tx->order);
    state_tx_free(tx);
    bytes_free(&tx->build.own);
    mem_free(m, tx->build.many, TX_MANY_SIZE(tx->build.many_cap));
}

static void destroy(struct pawl_tx *tx) {
    struct mem *m = &tx->p->mem;
    strip(tx);
    mem_free(m, tx, sizeof *tx);
}

static void init(struct pawl_tx *tx, pawl *p) {
    *tx = (struct pawl_tx){.live = HANDLE_ENDED, .p = p};
    lookup_init(&tx->run_index, &p->mem);
    lookup_init(&tx->position_index, &p->mem);
    bytes_init(&tx->catalog, &p->mem);
    bytes_init(&tx->tables, &p->mem);
    bytes_init(&tx->sinks, &p->mem);
    bytes_init(&tx->origins, &p->mem);
    bytes_init(&tx->marks, &p->mem);
    bytes_init(&tx->state_value, &p->mem);
    bytes_init(&tx->state_before, &p->mem);
    bytes_init(&tx->build.own, &p->mem);
}

static uint64_t memory_of(const struct pawl_tx *tx) {
    uint64_t n = sizeof *tx + tx->run_cap * sizeof *tx->runs +
                 tx->spilled_cap * sizeof *tx->spilled + tx->position_cap * sizeof *tx->positions +
                 (tx->run_index.size + tx->position_index.size) * sizeof(struct lookup_slot) +
                 tx->catalog.cap + tx->tables.cap + tx->sinks.cap + tx->origins.cap +
                 tx->marks.cap + tx->order_cap * sizeof *tx->order + tx->build.own.cap +
                 TX_MANY_SIZE(tx->build.many_cap) + (tx->state_made != 0 ? state_tx_memory(tx) : 0);
    for (uint32_t i = 0; i < tx->run_made; i++)
        n += tx->runs[i].data.cap;
    return n;
}

/* Frees the memory of a pooled transaction's runs, but for the first ones, or for those that take
 * little together. */
static void trim_runs(struct pawl_tx *tx) {
    if (tx->run_made <= RUNS_KEPT)
        return;
    uint64_t cap = tx->p->mem.cap, kept = 0;
    uint64_t most = cap == 0 || cap / 64 > RUNS_KEPT_BYTES ? RUNS_KEPT_BYTES : cap / 64;
    uint32_t n = 0;
    while (n < tx->run_made &&
           ((kept += tx->runs[n].data.cap + sizeof *tx->runs) <= most || n < RUNS_KEPT))
        n++;
    while (tx->run_made > n)
        bytes_free(&tx->runs[--tx->run_made].data);
}

/* The pool may hold an eighth of the memory cap, and frees it when memory is short. Above that, a
 * transaction is pooled without its memory and reused last, so that a use after its end can still
 * be detected. */
static bool pool_put(struct pawl_tx *tx) {
    pawl *p = tx->p;
    trim_runs(tx);
    tx->pool_bytes = memory_of(tx);
    if (atomic_flag_test_and_set_explicit(&p->tx_pool_busy, memory_order_acquire))
        return false;
    bool room = p->tx_pool_count < POOL_MAX;
    if (room) {
        struct pawl_tx **at = &p->tx_pool;
        if (p->mem.cap != 0 && p->tx_pool_bytes + tx->pool_bytes > p->mem.cap / 8) {
            strip(tx);
            init(tx, p);
            tx->pool_bytes = sizeof *tx;
            while (*at != NULL)
                at = &(*at)->pool_next;
        }
        tx->pool_next = *at;
        *at = tx;
        p->tx_pool_count++;
        p->tx_pool_bytes += tx->pool_bytes;
    }
    atomic_flag_clear_explicit(&p->tx_pool_busy, memory_order_release);
    return room;
}

static struct pawl_tx *pool_get(pawl *p) {
    if (atomic_flag_test_and_set_explicit(&p->tx_pool_busy, memory_order_acquire))
        return NULL;
    struct pawl_tx *tx = p->tx_pool;
    if (tx != NULL) {
        p->tx_pool = tx->pool_next;
        p->tx_pool_count--;
        p->tx_pool_bytes -= tx->pool_bytes;
    }
    atomic_flag_clear_explicit(&p->tx_pool_busy, memory_order_release);
    return tx;
}

void tx_pool_drain(pawl *p) {
    struct pawl_tx *tx;
    while ((tx = pool_get(p)) != NULL)
        destroy(tx);
}

int tx_new(pawl *p, struct pawl_tx **out) {
    struct pawl_tx *tx = pool_get(p);
    *out = tx;
    if (tx == NULL) {
        *out = tx = mem_alloc(&p->mem, sizeof *tx);
        if (tx == NULL)
            return fail(PAWL_MEMORY, "no memory for a transaction");
        init(tx, p);
    }
    assert(tx->live == HANDLE_ENDED); /* the application holds no pooled one */
    tx->live = HANDLE_LIVE;
    assert(!tx->counted);
    return 0;
}

/* Moves a run that grows large into a write buffer, if one is free: spilling from there needs no
 * further copy. */
static void borrow(pawl *p, struct tx_run *r) {
    struct wal_loan loan;
    pthread_mutex_lock(&p->mutex);
    bool lent = wal_lend(&p->wal, &loan);
    engine_leave(p);
    if (!lent)
        return;
    r->loan = loan;
    r->kept = r->data;
    r->data.data = loan.data + WAL_LOAN_HEAD;
    r->data.cap = p->wal.group_size - WAL_LOAN_HEAD;
    copy_long(r->data.data, r->kept.data, r->kept.len);
}

/* Returns a run's write buffer, when its records are gone or don't fit there. */
static void give_back(pawl *p, struct tx_run *r) {
    assert(r->data.len == 0);
    if (r->loan.data == NULL)
        return;
    pthread_mutex_lock(&p->mutex);
    wal_give_back(&p->wal, &r->loan);
    engine_leave(p);
    r->data = r->kept;
    r->data.len = 0;
}

/* Takes the log's lock, so that retention sees the spill before it next checks what must be
 * kept. */
static void hold_spill(struct pawl_tx *tx, uint64_t lsn) {
    pawl *p = tx->p;
    pthread_mutex_lock(&p->spill_mutex);
    tx->first_spill = lsn;
    tx->spilling = true;
    tx->spilling_next = p->spilling;
    p->spilling = tx;
    pthread_mutex_unlock(&p->spill_mutex);
}

static void release_spill(struct pawl_tx *tx) {
    pawl *p = tx->p;
    if (!tx->spilling)
        return;
    pthread_mutex_lock(&p->spill_mutex);
    for (struct pawl_tx **q = &p->spilling; *q != NULL; q = &(*q)->spilling_next)
        if (*q == tx) {
            *q = tx->spilling_next;
            break;
        }
    tx->spilling = false;
    pthread_mutex_unlock(&p->spill_mutex);
}

uint64_t tx_oldest_spill(pawl *p) {
    uint64_t oldest = UINT64_MAX;
    pthread_mutex_lock(&p->spill_mutex);
    for (const struct pawl_tx *tx = p->spilling; tx != NULL; tx = tx->spilling_next)
        if (tx->first_spill / p->wal.segment_size < oldest)
            oldest = tx->first_spill / p->wal.segment_size;
    pthread_mutex_unlock(&p->spill_mutex);
    return oldest;
}

/* Empty runs keep their memory for the next records, but not in each partition that once had a
 * large run. */
static void keep_some(struct pawl_tx *tx) {
    uint64_t kept = 0, most = 2 * tx->p->spill_bytes;
    for (uint32_t i = 0; i < tx->run_made; i++) {
        struct tx_run *r = &tx->runs[i];
        if (r->loan.data != NULL || r->data.len != 0)
            continue;
        kept += r->data.cap;
        if (kept > most) {
            kept -= r->data.cap;
            bytes_free(&r->data);
            bytes_init(&r->data, &tx->p->mem);
        }
    }
}

void tx_reset(struct pawl_tx *tx) {
    release_spill(tx);
    if (tx->built)
        tx_build_free(tx);
    for (uint32_t i = 0; i < tx->run_made; i++) {
        tx->runs[i].data.len = 0;
        give_back(tx->p, &tx->runs[i]);
        tx->runs[i].count = 0;
    }
    if (tx->run_made > 1 || (tx->run_made == 1 && tx->runs[0].data.cap > tx->p->spill_bytes))
        keep_some(tx);
    if (tx->run_index.used != 0)
        lookup_clear(&tx->run_index);
    if (tx->position_index.used != 0)
        lookup_clear(&tx->position_index);
    if (tx->state_count != 0)
        state_tx_reset(tx);
    tx->run_count = 0;
    tx->recent = NULL;
    tx->spilled_count = tx->position_count = tx->catalog_count = tx->sink_count = 0;
    tx->table_count = 0;
    tx->state_files = 0;
    tx->catalog.len = tx->tables.len = tx->sinks.len = tx->origins.len = 0;
    tx->origin_count = tx->order_count = 0;
    tx->origin_records = 0;
    tx->named = false;
    if (tx->producer != NULL)
        producer_release(tx->producer);
    tx->producer = NULL;
    tx->takeover = tx->for_input = false;
    tx->bytes = tx->records = tx->tables_bytes = 0;
    tx->decisions = 0;
}

void tx_free(struct pawl_tx *tx) {
    if (tx == NULL)
        return;
    tx_reset(tx);
    assert(tx->live == HANDLE_LIVE);
    tx->live = HANDLE_ENDED;
    if (tx->counted)
        atomic_fetch_sub_explicit(&tx->p->open_txs, 1, memory_order_relaxed);
    tx->counted = false;
    if (!pool_put(tx))
        destroy(tx);
}

int pawl_begin(pawl *p, pawl_tx **out) {
    if (out == NULL)
        return fail(PAWL_INVALID, "result pointer is NULL");
    *out = NULL;
    if (p == NULL)
        return fail(PAWL_INVALID, "the handle is NULL");
    TRY(engine_check_writer(p));
    TRY(tx_new(p, out));
    (*out)->counted = true;
    atomic_fetch_add_explicit(&p->open_txs, 1, memory_order_relaxed);
    return 0;
}

void pawl_abort(pawl_tx *tx) {
    if (tx != NULL && handle_live(tx, "transaction") == 0 && engine_check_fork(tx->p) == 0)
        tx_free(tx);
}

static uint32_t hash_of_run(const struct pawl_tx *tx, uint32_t stream, uint32_t partition) {
    return lookup_hash(&tx->run_index, stream, partition);
}

static bool is_of(const struct tx_run *r, uint32_t stream, uint32_t partition) {
    return r->stream == stream && r->partition == partition;
}

/* The run of that partition; NULL: none yet. */
static struct tx_run *look_for_run(const struct pawl_tx *tx, uint32_t stream, uint32_t partition) {
    const struct lookup *l = &tx->run_index;
    uint32_t at;
    if (tx->run_count < INDEXED_FROM) {
        for (uint32_t i = tx->run_count; i-- > 0;)
            if (is_of(&tx->runs[i], stream, partition))
                return &tx->runs[i];
        return NULL;
    }
    assert(l->used == tx->run_count); /* PAWL-3: one run for each partition */
    uint32_t hash = hash_of_run(tx, stream, partition);
    for (uint32_t i = lookup_first(l, hash, &at); i != LOOKUP_NONE; i = lookup_next(l, hash, &at))
        if (is_of(&tx->runs[i], stream, partition))
            return &tx->runs[i];
    return NULL;
}

/* Counts the run after the last one, and enters it where there are many. */
static int count_run(struct pawl_tx *tx) {
    uint32_t count = tx->run_count + 1, first = tx->run_index.used;
    if (count >= INDEXED_FROM)
        TRY(lookup_reserve(&tx->run_index, count - first));
    for (uint32_t i = first; i < count && count >= INDEXED_FROM; i++)
        lookup_add(&tx->run_index, hash_of_run(tx, tx->runs[i].stream, tx->runs[i].partition), i);
    tx->run_count = count;
    return 0;
}

static struct tx_run *find_run(struct pawl_tx *tx, uint32_t stream, uint32_t partition) {
    struct tx_run *found = look_for_run(tx, stream, partition);
    if (found != NULL)
        return tx->recent = found;
    if (tx_grow(tx->p, (void **)&tx->runs, tx->run_count, &tx->run_cap, sizeof *tx->runs) < 0)
        return NULL;
    assert(tx->runs != NULL);
    struct tx_run *r = &tx->runs[tx->run_count];
    if (tx->run_count == tx->run_made) {
        bytes_init(&r->data, &tx->p->mem);
        r->loan.data = NULL;
        tx->run_made++;
    }
    r->stream = stream;
    r->partition = partition;
    r->count = 0;
    return count_run(tx) == 0 ? tx->recent = r : NULL;
}

/* Bytes of the records held. */
static size_t gathered(const struct pawl_tx *tx) {
    size_t n = 0;
    for (uint32_t i = 0; i < tx->run_count; i++)
        n += tx->runs[i].data.len;
    return n;
}

/* Writes the records held as a SPILL frame, which has no effect until the commit refers to it. */
int tx_spill(struct pawl_tx *tx) {
    pawl *p = tx->p;
    struct run runs[64];
    struct piece pieces[64];
    struct wal_loan *loan = NULL;
    uint32_t n = 0;
    size_t total = 0;
    for (uint32_t i = 0; i < tx->run_count && n < 64; i++) {
        struct tx_run *r = &tx->runs[i];
        if (r->count == 0)
            continue;
        pieces[n] = (struct piece){r->data.data, r->data.len};
        runs[n++] = (struct run){.type = RUN_RECORDS,
                                 .stream = r->stream,
                                 .partition = r->partition,
                                 .count = r->count,
                                 .base = NO_OFFSET,
                                 .start = (uint32_t)total,
                                 .len = (uint32_t)r->data.len};
        loan = n == 1 && r->loan.data != NULL ? &r->loan : NULL;
        total += r->data.len;
    }
    int rc = 0;
    for (uint32_t i = 0; i < n && rc == 0; i++)
        rc = tx_grow(p, (void **)&tx->spilled, tx->spilled_count + i, &tx->spilled_cap,
                     sizeof *tx->spilled);
    const struct frame_key *key = wal_key(&p->wal);
    uint64_t lsn = 0, end = 0, hash = 0;
    struct wal_frame f = {.kind = FRAME_SPILL,
                          .class = tx->position_count != 0 ? WAL_PROCESS : WAL_INGEST,
                          .runs = runs,
                          .run_count = n,
                          .pieces = pieces,
                          .piece_count = n,
                          .body_len = (uint32_t)total,
                          .body_hash = rc == 0 ? frame_hash_pieces(pieces, n, key) : 0,
                          .key = key,
                          .loan = loan};
    if (rc == 0)
        rc = engine_enter_writer(p);
    if (rc == 0) {
        f.time_ns = p->io->ops->realtime(p->io);
        bool drained = false;
        do {
            rc = wal_append(&p->wal, &f, &lsn, &end);
            if (rc == PAWL_MEMORY && !drained) { /* the pool's memory may be enough */
                tx_pool_drain(p);
                drained = true;
                rc = WAL_WAIT;
            } else {
                rc = tx_wait(p, rc, p->block_when_full);
            }
        } while (rc == WAL_WAIT);
        hash = p->wal.link;
        if (rc == 0 && !tx->spilling)
            hold_spill(tx, lsn);
        engine_leave(p);
    }
    TRY(rc);
    for (uint32_t i = 0, k = 0; i < tx->run_count && k < n; i++) {
        struct tx_run *r = &tx->runs[i];
        if (r->count == 0)
            continue;
        tx->spilled[tx->spilled_count++] = (struct tx_spilled){.stream = r->stream,
                                                               .partition = r->partition,
                                                               .count = r->count,
                                                               .run = i,
                                                               .at = {lsn, hash, k++}};
        r->count = 0;
        r->data.len = 0;
        if (r->loan.data != NULL)
            r->data.data = r->loan.data + WAL_LOAN_HEAD; /* may be another buffer now */
    }
    tx->bytes = gathered(tx);
    keep_some(tx);
    return 0;
}

bool tx_must_spill(const struct pawl_tx *tx) {
    return (tx->spilled_count != 0 || tx->state_bytes != 0) && tx->bytes > tx->p->spill_bytes;
}

/* Looks up a stream's number of partitions, if it is not cached or the partition is out of
 * range. */
int tx_look_up(pawl *p, uint32_t stream, uint32_t partition, uint32_t *partitions) {
    TRY(engine_enter_writer(p));
    const struct stream *s = tables_stream(&p->tables, stream);
    int rc = 0;
    if (s == NULL)
        rc = fail(PAWL_NOT_FOUND, "there is no stream with id %u", stream);
    else if (partition >= s->partitions && partition != PAWL_ANY)
        rc = fail(PAWL_RANGE, "stream %s has %u partitions, so there is no partition %u", s->name,
                  s->partitions, partition);
    else
        atomic_store_explicit(&p->partitions_of[stream % PARTITIONS_CACHED],
                              (uint64_t)stream << 16 | s->partitions, memory_order_relaxed);
    if (rc == 0)
        *partitions = s->partitions;
    engine_leave(p);
    return rc;
}

/* Checks stream and partition, and resolves PAWL_ANY; mostly without the lock. */
static int choose_partition(pawl *p, uint32_t stream, uint32_t *partition, const pawl_record *r) {
    uint64_t seen =
        atomic_load_explicit(&p->partitions_of[stream % PARTITIONS_CACHED], memory_order_relaxed);
    uint32_t n = seen >> 16 == stream ? (uint32_t)(seen & 0xffff) : 0;
    if (*partition < n)
        return 0;
    if (*partition != PAWL_ANY || n == 0)
        TRY(tx_look_up(p, stream, *partition, &n));
    if (*partition == PAWL_ANY)
        *partition = n == 1 ? 0
                     : r->key_len != 0
                         ? (uint32_t)(format_hash(r->key, r->key_len, 0) % n)
                         : atomic_fetch_add_explicit(&p->round_robin, 1, memory_order_relaxed) % n;
    return 0;
}

static bool headers_well_formed(const pawl_record *r) {
    if (r->raw_headers == NULL)
        return r->header_count == 0 || r->headers != NULL;
    return record_headers_whole(r->raw_headers, r->raw_headers_len);
}

/* Waits until no group is being written. */
static void wait_for_groups(pawl *p) {
    pthread_mutex_lock(&p->mutex);
    wal_submit(&p->wal, true);
    while (p->wal.in_flight != 0 && p->wal.failed == 0)
        engine_wait(p);
    engine_leave(p);
}

/* Frees the memory of empty runs. */
static void free_empty(struct pawl_tx *tx) {
    for (uint32_t i = 0; i < tx->run_made; i++) {
        struct tx_run *r = &tx->runs[i];
        if (r->loan.data == NULL && r->data.len == 0) {
            bytes_free(&r->data);
            bytes_init(&r->data, &tx->p->mem);
        }
    }
}

/* Room for a record larger than the spill size: allocates no more than it needs. */
static uint8_t *large_room(struct pawl_tx *tx, struct tx_run *run, size_t size) {
    struct mem *m = &tx->p->mem;
    if (run->data.len == 0 && size > run->data.cap && size > tx->p->spill_bytes) {
        bytes_free(&run->data);
        bytes_init(&run->data, m);
        run->data.data = mem_alloc(m, size);
        run->data.cap = run->data.data != NULL ? size : 0;
        if (run->data.data == NULL)
            return NULL;
    }
    return bytes_room(&run->data, size);
}

/* Room for a record of `size` bytes in a run, or NULL. If memory is short, it frees the pool's
 * memory, then spills this transaction, then waits for the groups being written. */
static uint8_t *room(struct pawl_tx *tx, struct tx_run *run, size_t size) {
    pawl *p = tx->p;
    if (size <= run->data.cap - run->data.len)
        return bytes_room(&run->data, size);
    /* a large record is alone in the transaction: the earlier records have been spilled */
    if (run->loan.data != NULL)
        give_back(p, run);
    else if (run->data.cap >= p->wal.group_size / 4 && run->data.len + size <= p->spill_bytes)
        borrow(p, run);
    for (int step = 0;; step++) {
        uint8_t *out = large_room(tx, run, size);
        if (out != NULL)
            return out;
        run->data.failed = false;
        if (step == 0) {
            tx_pool_drain(p);
        } else if (step == 1) {
            if (tx->bytes != 0 && tx_spill(tx) < 0)
                return NULL;
        } else if (step == 2) {
            free_empty(tx);
            wait_for_groups(p);
        } else {
            fail_set(PAWL_MEMORY,
                     "the memory cap is reached: raise memory_cap, or finish other transactions");
            return NULL;
        }
    }
}

static int too_large(const pawl *p, const pawl_record *r) {
    return fail(PAWL_TOO_LARGE,
                "a record of %u bytes is too large: this log takes %llu with key and headers, and "
                "16 MiB at most",
                r->value_len, (unsigned long long)p->record_max);
}

/* Adds a record of any kind to any partition. */
static int put_any(struct pawl_tx *tx, uint32_t stream, uint32_t partition, const pawl_record *r,
                   int64_t timestamp_ns) {
    bool headers = r->raw_headers != NULL || r->header_count != 0;
    if ((r->value == NULL && r->value_len != 0) || (r->key == NULL && r->key_len != 0) ||
        (headers && !headers_well_formed(r)))
        return fail(PAWL_INVALID, "the record has a NULL part with a length, or malformed headers");
    pawl *p = tx->p;
    TRY(choose_partition(p, stream, &partition, r));
    uint64_t size = record_size(r);
    if (size == 0 || size > p->record_max)
        return too_large(p, r);
    while (tx->bytes + size > p->spill_bytes && tx->bytes != 0)
        TRY(tx_spill(tx));
    struct tx_run *run = find_run(tx, stream, partition);
    if (run != NULL && tx->named)
        TRY(tx_note_order(tx, run));
    uint8_t *out = run == NULL ? NULL : room(tx, run, (size_t)size);
    if (out == NULL)
        return PAWL_MEMORY;
    record_encode(out, r, timestamp_ns);
    run->count++;
    tx->bytes += size;
    tx->records++;
    return 0;
}

int tx_put_many(struct pawl_tx *tx, uint32_t stream, uint32_t partition, const pawl_record *records,
                size_t count, int64_t *now) {
    for (size_t n = 0;
         (n += tx_put_plain(tx, stream, partition, records + n, count - n, now)) < count; n++)
        TRY(put_any(tx, stream, partition, &records[n], tx_time(tx, &records[n], now)));
    return 0;
}

int pawl_put(pawl_tx *tx, uint32_t stream, uint32_t partition, const pawl_record *r) {
    if (r == NULL)
        return fail(PAWL_INVALID, "the record is NULL");
    int64_t now = 0;
    TRY(handle_live(tx, "transaction"));
    int rc = engine_check_writer(tx->p);
    return engine_answer(tx->p, rc < 0 ? rc : tx_put(tx, stream, partition, r, &now));
}

int pawl_put_many(pawl_tx *tx, uint32_t stream, uint32_t partition, const pawl_record *records,
                  size_t count) {
    if (records == NULL && count != 0)
        return fail(PAWL_INVALID, "there are no records");
    int64_t now = 0;
    TRY(handle_live(tx, "transaction"));
    int rc = engine_check_writer(tx->p);
    return engine_answer(tx->p,
                         rc < 0 ? rc : tx_put_many(tx, stream, partition, records, count, &now));
}

static uint32_t hash_of_position(const struct pawl_tx *tx, const struct position_entry *e) {
    return lookup_hash(&tx->position_index, e->processor, (uint64_t)e->stream << 32 | e->partition);
}

static bool same_place(const struct position_entry *a, const struct position_entry *b) {
    return a->processor == b->processor && a->stream == b->stream && a->partition == b->partition;
}

/* The transaction's entry for the place of `e`; NULL: none yet. */
static struct position_entry *look_for_position(const struct pawl_tx *tx,
                                                const struct position_entry *e) {
    const struct lookup *l = &tx->position_index;
    uint32_t at;
    if (tx->position_count < INDEXED_FROM) {
        for (uint32_t i = 0; i < tx->position_count; i++)
            if (same_place(&tx->positions[i], e))
                return &tx->positions[i];
        return NULL;
    }
    uint32_t hash = hash_of_position(tx, e);
    for (uint32_t i = lookup_first(l, hash, &at); i != LOOKUP_NONE; i = lookup_next(l, hash, &at))
        if (same_place(&tx->positions[i], e))
            return &tx->positions[i];
    return NULL;
}

int tx_add_position(struct pawl_tx *tx, uint32_t processor, uint32_t stream, uint32_t partition,
                    uint64_t from, uint64_t to) {
    struct position_entry fresh = {processor, stream, partition, from, to};
    struct position_entry *e = look_for_position(tx, &fresh);
    if (e != NULL && e->to != from)
        return fail(PAWL_TILING,
                    "within a transaction, an interval must begin where the one before ended");
    if (e != NULL) {
        e->to = to;
        return 0;
    }
    TRY(tx_grow(tx->p, (void **)&tx->positions, tx->position_count, &tx->position_cap,
                sizeof *tx->positions));
    uint32_t count = tx->position_count + 1, first = tx->position_index.used;
    if (count >= INDEXED_FROM)
        TRY(lookup_reserve(&tx->position_index, count - first));
    tx->positions[count - 1] = fresh;
    for (uint32_t i = first; i < count && count >= INDEXED_FROM; i++)
        lookup_add(&tx->position_index, hash_of_position(tx, &tx->positions[i]), i);
    tx->position_count = count;
    return 0;
}

int pawl_advance(pawl_tx *tx, uint32_t processor, uint32_t stream, uint32_t partition,
                 uint64_t from, uint64_t to) {
    TRY(handle_live(tx, "transaction"));
    if (from > to)
        return fail(PAWL_RANGE, "an interval can't end before it begins");
    TRY(engine_enter_writer(tx->p));
    struct stream *s = tables_stream(&tx->p->tables, stream);
    int rc = 0;
    if (!tables_has_processor(&tx->p->tables, processor) || s == NULL)
        rc = fail(PAWL_NOT_FOUND, "no such processor or stream");
    else if (partition >= s->partitions || to > s->parts[partition].next)
        rc = fail(PAWL_RANGE, "the partition or the position is beyond the end");
    else
        rc = tx_add_position(tx, processor, stream, partition, from, to);
    engine_leave(tx->p);
    return rc;
}

int pawl_tx_sequence(pawl_tx *tx, pawl_producer *producer, uint64_t first, uint64_t last,
                     const void *cookie, size_t cookie_len) {
    TRY(handle_live(tx, "transaction"));
    TRY(handle_live(producer, "producer"));
    if (tx->p != producer->p)
        return fail(PAWL_INVALID, "the producer belongs to another handle than the transaction");
    if (first == 0 || last < first || last > limit_of(LIMIT_SEQUENCE) || cookie_len > COOKIE_MAX ||
        (cookie == NULL && cookie_len != 0))
        return fail(PAWL_INVALID, "sequences start at 1, last must not be below first, and a "
                                  "cookie has at most 32 bytes");
    if (tx->producer != NULL)
        return fail(PAWL_STATE, "the transaction has a producer sequence already");
    tx->producer = producer;
    atomic_fetch_add(&producer->refs, 1);
    tx->sequence = (struct producer_entry){.producer = producer->id,
                                           .epoch = producer->epoch,
                                           .first = first,
                                           .last = last,
                                           .cookie_len = (uint32_t)cookie_len};
    if (cookie_len != 0)
        memcpy(tx->sequence.cookie, cookie, cookie_len);
    return 0;
}

int tx_add_catalog(struct pawl_tx *tx, const struct catalog_entry *e) {
    catalog_encode(&tx->catalog, e);
    tx->catalog_count++;
    return tx->catalog.failed ? fail(PAWL_MEMORY, "no memory for a catalog change") : 0;
}

static void add_table(struct pawl_tx *tx, const struct table_entry *e) {
    table_encode(&tx->tables, e);
    tx->table_count++;
}

/* A file that is written now lacks what the frames lack: from now on no frame can have it. */
static void add_lost_parts(struct pawl_tx *tx) {
    const struct state_tables *s = &tx->p->tables.state;
    for (uint32_t i = 0; i < s->count; i++)
        for (uint32_t k = 0; k < s->tables[i]->partitions; k++)
            if (state_lost(&s->tables[i]->parts[k]) && !s->tables[i]->parts[k].lost)
                add_table(tx, &(struct table_entry){
                                  .op = TABLE_LOST, .id = s->tables[i]->id, .partitions = k});
}

int tx_add_table(struct pawl_tx *tx, const struct table_entry *e) {
    if (e->op == TABLE_RUN_ADDED || e->op == TABLE_FLUSHED)
        add_lost_parts(tx);
    add_table(tx, e);
    if (e->op == TABLE_CREATE)
        tx->tables_bytes += tables_table_bytes(e->name_len, e->partitions);
    else if (e->op == TABLE_REPLACES)
        tx->tables_bytes += table_size(e->name_len); /* its name may be longer than before */
    else if (e->op == TABLE_RUN_ADDED)
        tx->tables_bytes += C_RUN_SIZE + C_RUN_HASH_SIZE;
    tx->state_files += (e->op == TABLE_RUN_ADDED) - (e->op == TABLE_RUN_REMOVED);
    return tx->tables.failed ? fail(PAWL_MEMORY, "no memory for a change of tables") : 0;
}

int tx_finish_all(struct pawl_tx *tx, uint32_t processor) {
    const struct tables *t = &tx->p->tables;
    for (uint32_t i = 0; i < t->decision_rows; i++) {
        const struct decision_row *d = &t->decisions[i];
        if (d->name_len == 0 || /* taken out */
            (d->processor != processor && tables_has_processor(t, d->processor)))
            continue;
        sink_encode(&tx->sinks,
                    &(struct sink_entry){d->processor, SINK_FINISHED, d->name, d->name_len});
        tx->sink_count++;
    }
    return tx->sinks.failed ? fail(PAWL_MEMORY, "no memory for a decision") : 0;
}

static int add_sink(struct pawl_tx *tx, uint32_t processor, const char *name, uint16_t op) {
    size_t len = name == NULL ? 0 : strlen(name);
    TRY(handle_live(tx, "transaction"));
    if (len == 0 || len > SINK_NAME_MAX)
        return fail(PAWL_INVALID, "a prepared transaction's name has 1 to 200 bytes");
    TRY(engine_enter_writer(tx->p));
    struct tables *t = &tx->p->tables;
    struct decision_row *d = tables_decision(t, processor, name, (uint16_t)len);
    int rc = 0;
    if (!tables_has_processor(t, processor) || (op == SINK_FINISHED && d == NULL))
        rc = fail(PAWL_NOT_FOUND, "no such processor, or no open decision of that name");
    else if (op == SINK_DECIDED && d != NULL)
        rc = fail(PAWL_EXISTS, "a decision of that name is open already");
    if (rc == 0 && op == SINK_DECIDED) {
        rc = tables_room(t, tx->tables_bytes + c_sink_size((uint32_t)len));
        if (rc == 0)
            rc = limit_check(LIMIT_DECISIONS, (uint64_t)t->decision_count + tx->decisions + 1);
    }
    if (rc == 0 && op == SINK_DECIDED) {
        tx->tables_bytes += c_sink_size((uint32_t)len);
        tx->decisions++;
    }
    if (rc == 0) {
        sink_encode(&tx->sinks, &(struct sink_entry){processor, op, name, (uint16_t)len});
        tx->sink_count++;
        rc = tx->sinks.failed ? fail(PAWL_MEMORY, "no memory for a decision") : 0;
    }
    engine_leave(tx->p);
    return rc;
}

int pawl_decide(pawl_tx *tx, uint32_t processor, const char *name) {
    return add_sink(tx, processor, name, SINK_DECIDED);
}

int pawl_finish(pawl_tx *tx, uint32_t processor, const char *name) {
    return add_sink(tx, processor, name, SINK_FINISHED);
}
