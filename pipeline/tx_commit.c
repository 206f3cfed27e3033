/* SPDX-License-Identifier: Apache-2.0
 *
 * Committing. The committer builds and hashes the transaction's body without the lock. Under the
 * lock it makes all checks, assigns offsets, LSN and header, and copies the bytes; so a refused
 * transaction leaves no trace.
 */
#include <assert.h>

#include "pipeline/engine.h"

static bool tx_empty(const struct pawl_tx *tx) {
    return tx->records == 0 && tx->position_count == 0 && tx->producer == NULL && !tx->takeover &&
           tx->catalog_count == 0 && tx->table_count == 0 && tx->sink_count == 0 &&
           tx->origin_count == 0 && state_runs(tx) == 0;
}

/* A commit with fewer bytes of records than this has them copied into one buffer; with more, each
 * run stays where it is. */
#define JOIN_MAX 16384u

static void add_run(struct tx_build *b, uint16_t type, uint32_t stream, uint32_t partition,
                    uint32_t count, size_t len) {
    b->runs[b->count++] = (struct run){.type = type,
                                       .stream = stream,
                                       .partition = partition,
                                       .count = count,
                                       .start = (uint32_t)b->len,
                                       .len = (uint32_t)len};
    b->len += len;
}

void tx_build_rest(struct tx_build *b, uint16_t type, uint32_t stream, uint32_t partition,
                   uint32_t count, size_t from) {
    if (count != 0)
        add_run(b, type, stream, partition, count, b->rest->len - from);
}

static int make_room(pawl *p, struct tx_build *b, uint32_t count) {
    if (count > UINT16_MAX)
        return fail(PAWL_TOO_LARGE,
                    "the transaction touches too many partitions or spilled too often");
    if (count <= sizeof b->few / sizeof b->few[0]) {
        b->runs = b->few;
        b->pieces = b->few_pieces;
        return 0;
    }
    if (count > b->many_cap) {
        void *q = mem_grow(&p->mem, b->many, TX_MANY_SIZE(b->many_cap), TX_MANY_SIZE(count));
        if (q == NULL)
            return fail(PAWL_MEMORY, "no memory for a commit");
        b->many = q;
        b->many_cap = count;
    }
    b->pieces = b->many;
    b->runs = (struct run *)(b->many + b->many_cap);
    return 0;
}

/* The transaction's run of records if it is the only one, nothing precedes it in the body, and its
 * buffer may grow; otherwise NULL. */
static struct tx_run *only_run(const struct pawl_tx *tx) {
    struct tx_run *only = NULL;
    if (tx->spilled_count != 0 || tx->catalog_count != 0 || tx->table_count != 0)
        return NULL;
    for (uint32_t i = 0; i < tx->run_count; i++) {
        if (tx->runs[i].count == 0)
            continue;
        if (only != NULL)
            return NULL;
        only = &tx->runs[i];
    }
    bool small = only != NULL && only->data.len <= tx->p->spill_bytes;
    return small && only->loan.data == NULL ? only : NULL;
}

/* The frame's body: catalog changes, changes of tables, spilled runs, records, state, positions,
 * the producer, decisions, origins. */
static int build(struct pawl_tx *tx, struct tx_build *b) {
    pawl *p = tx->p;
    b->count = b->piece_count = 0;
    b->len = b->own.len = 0;
    struct tx_run *only = only_run(tx);
    b->rest = only != NULL ? &only->data : &b->own;
    b->rest_len = b->rest->len;
    TRY(make_room(p, b, tx->spilled_count + tx->run_count + state_runs(tx) + 6));
    struct bytes *rest = b->rest;
    bool apart = only == NULL && tx->bytes > JOIN_MAX;
    size_t at = rest->len;
    if (tx->catalog_count != 0)
        bytes_put(rest, tx->catalog.data, tx->catalog.len);
    tx_build_rest(b, RUN_CATALOG, 0, 0, tx->catalog_count, at);
    at = rest->len;
    if (tx->table_count != 0)
        bytes_put(rest, tx->tables.data, tx->tables.len);
    tx_build_rest(b, RUN_TABLES, 0, 0, tx->table_count, at);
    for (uint32_t i = 0; i < tx->spilled_count; i++) {
        at = rest->len;
        spilled_encode(rest, &tx->spilled[i].at);
        tx_build_rest(b, RUN_SPILLED, tx->spilled[i].stream, tx->spilled[i].partition,
                      tx->spilled[i].count, at);
    }
    size_t before = rest->len;
    b->pieces[b->piece_count++] = (struct piece){NULL, before};
    for (uint32_t i = 0; i < tx->run_count; i++) {
        const struct tx_run *r = &tx->runs[i];
        if (r->count == 0)
            continue;
        if (apart)
            b->pieces[b->piece_count++] = (struct piece){r->data.data, r->data.len};
        else if (only == NULL)
            bytes_put(rest, r->data.data, r->data.len);
        add_run(b, RUN_RECORDS, r->stream, r->partition, r->count, r->data.len);
    }
    if (tx->state_count != 0)
        state_build(tx, b);
    at = rest->len;
    for (uint32_t i = 0; i < tx->position_count; i++)
        position_encode(rest, &tx->positions[i]);
    tx_build_rest(b, RUN_POSITIONS, 0, 0, tx->position_count, at);
    at = rest->len;
    uint32_t producers = tx->producer != NULL || tx->takeover;
    if (producers != 0)
        producer_encode(rest, &tx->sequence);
    tx_build_rest(b, RUN_PRODUCERS, 0, 0, producers, at);
    at = rest->len;
    if (tx->sink_count != 0)
        bytes_put(rest, tx->sinks.data, tx->sinks.len);
    tx_build_rest(b, RUN_SINKS, 0, 0, tx->sink_count, at);
    at = rest->len;
    if (tx->origin_count != 0)
        bytes_put(rest, tx->origins.data, tx->origins.len);
    assert(tx->origin_records <= tx->records); /* PAWL-3: they are records of this commit */
    tx_build_rest(b, RUN_ORIGINS, 0, 0, tx->origin_count, at);
    if (rest->failed)
        return fail(PAWL_MEMORY, "no memory for a commit of %llu bytes",
                    (unsigned long long)tx->bytes);
    if (apart) {
        b->pieces[0].data = rest->data;
        if (rest->len != before)
            b->pieces[b->piece_count++] = (struct piece){rest->data + before, rest->len - before};
    } else {
        b->pieces[0] = (struct piece){rest->data, rest->len};
    }
    b->key = wal_key(&p->wal);
    b->hash = frame_hash_pieces(b->pieces, b->piece_count, b->key);
    return 0;
}

void tx_build_free(struct pawl_tx *tx) {
    struct tx_build *b = &tx->build;
    if (b->rest != &b->own) {
        b->rest->len = b->rest_len;
        b->rest->failed = false;
    }
    b->own.len = 0;
    b->own.failed = false;
    b->runs = NULL;
    b->pieces = NULL;
    tx->built = false;
}

/* The number of the commit among those that change the table's partition. */
static int assign_state(const pawl *p, struct run *r) {
    const struct state_table *s = tables_table(&p->tables, r->stream);
    if (s == NULL || r->partition >= s->partitions)
        return fail(PAWL_NOT_FOUND, "a table of the transaction is gone");
    r->base = s->parts[r->partition].commits + 1;
    return 0;
}

/* Assigns offsets: each (stream, partition) continues at its next offset. The runs with records are
 * in the order of build(): those of the spilled ones, then those of the transaction. */
static int assign(struct pawl_tx *tx) {
    pawl *p = tx->p;
    struct tx_build *b = &tx->build;
    uint32_t spilled = 0, own = 0;
    for (uint32_t i = 0; i < tx->run_count; i++)
        tx->runs[i].end = NO_OFFSET;
    for (uint32_t i = 0; i < b->count; i++) {
        struct run *r = &b->runs[i];
        if (r->type == RUN_STATE)
            TRY(assign_state(p, r));
        if (!run_has_records(r))
            continue;
        while (r->type == RUN_RECORDS && tx->runs[own].count == 0)
            own++;
        struct tx_run *of = &tx->runs[r->type == RUN_RECORDS ? own++ : tx->spilled[spilled++].run];
        assert(of->stream == r->stream && of->partition == r->partition); /* PAWL-4 */
        struct stream *s = tables_stream(&p->tables, r->stream);
        if (s == NULL || r->partition >= s->partitions)
            return fail(PAWL_NOT_FOUND, "a stream of the transaction is gone");
        r->base = of->end != NO_OFFSET ? of->end : s->parts[r->partition].next;
        of->end = r->base + r->count;
        TRY(limit_check(LIMIT_OFFSET, of->end));
    }
    return 0;
}

/* What applying the transaction adds to the tables, in a checkpoint's bytes. Checked with each
 * attempt to append it, as others may commit while it waits for room. `fresh`: positions that are
 * not there yet. */
static int check_tables(const struct pawl_tx *tx, uint32_t fresh) {
    const struct tables *t = &tx->p->tables;
    uint64_t bytes = tx->tables_bytes + (uint64_t)fresh * C_POSITION_SIZE;
    if (tx->decisions != 0)
        TRY(limit_check(LIMIT_DECISIONS, (uint64_t)t->decision_count + tx->decisions));
    if (tx->state_files > 0)
        TRY(limit_check(LIMIT_STATE_RUNS,
                        (uint64_t)t->state.run_count + (uint32_t)tx->state_files));
    if (tx->spilled_count != 0 && tx->spilled[0].at.lsn / t->segment_size != tx->p->wal.segment)
        bytes += C_SPAN_SIZE;
    return bytes == 0 ? 0 : tables_room(t, bytes);
}

static int check_positions(const struct pawl_tx *tx, uint32_t *fresh) {
    const struct tables *t = &tx->p->tables;
    for (uint32_t i = 0; i < tx->position_count; i++) {
        const struct position_entry *e = &tx->positions[i];
        const struct stream *s = tables_stream(t, e->stream);
        if (!tables_has_processor(t, e->processor) || s == NULL)
            return fail(PAWL_NOT_FOUND, "a processor or stream of the transaction is gone");
        if (e->to > s->parts[e->partition].next)
            return fail(PAWL_RANGE, "position %llu is beyond the end of the partition (%llu)",
                        (unsigned long long)e->to, (unsigned long long)s->parts[e->partition].next);
        const struct position_row *row = tables_position(t, e->processor, e->stream, e->partition);
        if (row == NULL)
            ++*fresh;
        else if (row->offset != e->from)
            return fail(PAWL_TILING, "the interval begins at %llu, but %s stands at %llu in %s/%u",
                        (unsigned long long)e->from, tables_processor_name(t, e->processor),
                        (unsigned long long)row->offset, s->name, e->partition);
    }
    return 0;
}

/* All that the tables say to the transaction, and room in them for what it adds. */
static int check_and_assign(struct pawl_tx *tx) {
    uint32_t fresh = 0;
    TRY(check_positions(tx, &fresh));
    TRY(check_tables(tx, fresh));
    TRY(assign(tx));
    if (tx->table_count != 0)
        TRY(state_reserve(&tx->p->tables));
    if (state_runs(tx) != 0) {
        int rc = state_check(tx);
        if (rc != 0)
            return rc;
    }
    return tables_reserve(&tx->p->tables, tx->position_count, tx->sink_count);
}

/* 1: the sequence is committed already, and *receipt is that commit's. */
static int check_sequence(const struct pawl_tx *tx, pawl_receipt *receipt) {
    if (tx->producer == NULL)
        return 0;
    const struct producer *p = tables_producer(&tx->p->tables, tx->sequence.producer);
    if (p == NULL || p->epoch != tx->sequence.epoch)
        return fail(PAWL_FENCED, "a newer holder has taken producer %s over",
                    p != NULL ? p->name : "?");
    if (tx->sequence.first == p->sequence + 1)
        return 0;
    if (tx->sequence.last <= p->sequence) {
        bool latest = tx->sequence.last == p->sequence;
        *receipt = (pawl_receipt){.lsn = tx->p->wal.tail,
                                  .duplicate = 1,
                                  .offset = latest && p->stream != 0 ? p->offset : NO_OFFSET,
                                  .stream = latest ? p->stream : 0,
                                  .partition = latest ? p->partition : 0};
        return 1;
    }
    return fail(PAWL_SEQUENCE,
                "producer %s stands at sequence %llu; the next must be %llu, not %llu", p->name,
                (unsigned long long)p->sequence, (unsigned long long)p->sequence + 1,
                (unsigned long long)tx->sequence.first);
}

/* An older holder may have committed while this thread waited for room: then the takeover must
 * start again. */
static int check_takeover(const struct pawl_tx *tx) {
    const struct producer *p = tables_producer(&tx->p->tables, tx->sequence.producer);
    if (p->sequence + 1 != tx->sequence.first || p->epoch + 1 != tx->sequence.epoch)
        return fail(PAWL_BUSY, "the producer moved on meanwhile");
    return 0;
}

/* Applies the appended frame to tables, index and figures: from the frame's own bytes, as recovery
 * does. */
static int follow_up(pawl *p, const struct tx_build *b) {
    assert(p->wal.last.lsn + frame_length(&p->wal.last) == p->wal.tail); /* PAWL-3: this frame */
    TRY(engine_apply(p, &p->wal.last, p->wal.last_frame, false));
    p->commits++;
    p->payload_bytes += b->len;
    if ((p->tables.touched[WORK_APPENDED] | p->tables.touched[WORK_DURABLE]) != 0)
        work_appended(p, p->wal.last.lsn);
    if (p->any_watched_tail != 0)
        any_tell(p, true);
    return 0;
}

static enum wal_class class_of(const struct pawl_tx *tx) {
    if (tx->takeover || tx->for_input)
        return WAL_INGEST;
    if (tx->expires)
        return WAL_PROCESS;
    if (tx->records == 0 && state_runs(tx) == 0)
        return WAL_POSITIONS;
    return tx->position_count != 0 ? WAL_PROCESS : WAL_INGEST;
}

int tx_wait(pawl *p, int rc, bool wait_full) {
    if (rc == PAWL_FULL)
        notice_full(p);
    if (rc == WAL_WAIT) {
        engine_wait(p);
    } else if (rc == PAWL_FULL && wait_full) {
        if (atomic_load(&p->stop))
            return fail(PAWL_STOPPED, "stopped on request while the log is full");
        engine_wait_space(p);
        rc = WAL_WAIT;
    }
    return rc;
}

static int prepare(struct pawl_tx *tx) {
    if (tx->built || tx_empty(tx))
        return 0;
    int rc = build(tx, &tx->build);
    tx->built = rc == 0;
    if (rc < 0)
        tx_build_free(tx);
    return rc;
}

int tx_prepare(struct pawl_tx *tx) {
    if (!tx->built && tx->state_count != 0)
        state_take_expired(tx);
    if (!tx->built && tx_must_spill(tx))
        TRY(tx_spill(tx));
    return prepare(tx);
}

/* Where the first records of the commit are. */
static void tell_place(const struct tx_build *b, pawl_receipt *receipt) {
    for (uint32_t i = 0; i < b->count; i++)
        if (run_has_records(&b->runs[i])) {
            receipt->stream = b->runs[i].stream;
            receipt->partition = b->runs[i].partition;
            receipt->offset = b->runs[i].base;
            break;
        }
}

int tx_append(struct pawl_tx *tx, pawl_receipt *receipt, bool wait_full) {
    pawl *p = tx->p;
    *receipt = (pawl_receipt){.lsn = p->wal.durable, .offset = NO_OFFSET};
    if (tx_empty(tx))
        return 0;
    int rc = prepare(tx);
    if (rc < 0)
        return rc;
    struct tx_build *b = &tx->build;
    struct wal_frame f = {.kind = FRAME_COMMIT,
                          .class = class_of(tx),
                          .runs = b->runs,
                          .run_count = b->count,
                          .pieces = b->pieces,
                          .piece_count = b->piece_count,
                          .body_len = (uint32_t)b->len,
                          .body_hash = b->hash,
                          .key = b->key};
    uint64_t lsn = 0, end = 0;
    bool drained = false;
    while (rc == 0) {
        /* All checks are repeated after each wait, because the wait released the lock. */
        rc = tx->takeover ? check_takeover(tx) : check_sequence(tx, receipt);
        if (rc != 0)
            break;
        rc = check_and_assign(tx);
        if (rc < 0)
            break;
        if (rc == 0) {
            f.time_ns =
                tx->clock_ms != 0 ? tx->clock_ms * STATE_NS_PER_MS : p->io->ops->realtime(p->io);
            rc = wal_append(&p->wal, &f, &lsn, &end);
            rc = tx_wait(p, rc, wait_full);
        }
        if (rc == WAL_WAIT) { /* it has waited: for a flush of state, or for room in the log */
            rc = p->wal.failed != 0 ? wal_error(&p->wal) : 0;
            continue;
        }
        if (rc == PAWL_MEMORY && !drained) { /* the pool's memory may be enough */
            tx_pool_drain(p);
            drained = true;
            rc = 0;
            continue;
        }
        if (rc == 0) {
            receipt->lsn = end;
            tell_place(b, receipt);
            rc = follow_up(p, b);
            p->records += tx->records;
            /* log and tables disagree: acknowledge nothing more, and report that the commit may be
             * in the log */
            if (rc < 0) {
                pawl_error e;
                fail_copy(&e);
                rc = fail_at(PAWL_IO, 0, "", "", lsn,
                             "the commit at LSN %llu is in the log, but the tables can't follow: "
                             "%.300s; close and open the log again",
                             (unsigned long long)lsn, e.message);
                p->wal.failed = rc;
                fail_copy(&p->wal.error);
            } else if (tx->producer != NULL) {
                tx->producer->sequence = tx->sequence.last;
                tx->producer->cookie_len = tx->sequence.cookie_len;
                memcpy(tx->producer->cookie, tx->sequence.cookie, COOKIE_MAX);
            }
        }
        break;
    }
    tx_build_free(tx);
    return rc == 1 ? 0 : rc;
}

int tx_commit_locked(struct pawl_tx *tx, pawl_receipt *receipt) {
    pawl *p = tx->p;
    pawl_receipt local;
    if (receipt == NULL)
        receipt = &local;
    int rc = tx_append(tx, receipt, p->block_when_full);
    if (rc == 0)
        rc = engine_wait_durable(p, receipt->lsn);
    if (pace_sleeps_long(&p->wal.pace))
        engine_poke(p);
    return rc;
}

int tx_takeover(struct pawl_tx *tx, uint32_t producer) {
    int rc;
    do {
        const struct producer *row = tables_producer(&tx->p->tables, producer);
        TRY(limit_check(LIMIT_TAKEOVERS, row->epoch + UINT64_C(1)));
        tx->takeover = true;
        tx->sequence = (struct producer_entry){.producer = producer,
                                               .epoch = row->epoch + 1,
                                               .first = row->sequence + 1,
                                               .last = row->sequence};
        rc = tx_commit_locked(tx, NULL);
    } while (rc == PAWL_BUSY);
    return rc;
}

int pawl_commit(pawl_tx *tx, pawl_receipt *receipt) {
    TRY(handle_live(tx, "transaction"));
    pawl *p = tx->p;
    pawl_receipt local;
    if (receipt == NULL)
        receipt = &local;
    int rc = engine_check_fork(p);
    if (rc == 0)
        rc = tx_prepare(tx);
    if (rc == 0)
        rc = engine_enter_writer(p);
    if (rc == 0) {
        rc = tx_append(tx, receipt, p->block_when_full);
        if (rc == 0)
            rc = engine_commit_wait(p, receipt->lsn);
        else
            engine_leave(p);
    }
    (void)engine_answer(p, rc);
    if (!tx_stays(rc))
        tx_free(tx);
    return rc;
}

int pawl_commit_async(pawl_tx *tx, pawl_commit_fn fn, void *arg, pawl_receipt *receipt) {
    TRY(handle_live(tx, "transaction"));
    pawl *p = tx->p;
    pawl_receipt local;
    if (receipt == NULL)
        receipt = &local;
    int rc = engine_check_fork(p);
    if (rc == 0)
        rc = tx_prepare(tx);
    if (rc == 0)
        rc = engine_enter_writer(p);
    if (rc == 0) {
        struct async_commit *a = async_take(p);
        rc = a == NULL ? fail(PAWL_MEMORY, "no memory for an asynchronous commit")
                       : tx_append(tx, receipt, p->block_when_full);
        if (rc == 0) {
            *a = (struct async_commit){
                .lsn = receipt->lsn, .fn = fn, .arg = arg, .receipt = *receipt};
            async_add(p, a);
        } else if (a != NULL) {
            async_give_back(p, a);
        }
        engine_leave(p);
    }
    (void)engine_answer(p, rc);
    if (!tx_stays(rc))
        tx_free(tx);
    return rc;
}

int pawl_append(pawl *p, uint32_t stream, uint32_t partition, const pawl_record *r,
                pawl_receipt *receipt) {
    pawl_tx *tx;
    TRY(pawl_begin(p, &tx));
    int rc = pawl_put(tx, stream, partition, r);
    if (rc < 0) {
        pawl_abort(tx);
        return rc;
    }
    rc = pawl_commit(tx, receipt);
    if (tx_stays(rc))
        pawl_abort(tx);
    return rc;
}
