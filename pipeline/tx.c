/* SPDX-License-Identifier: Apache-2.0
 *
 * Transactions. Records are encoded and hashed by their own thread; under the lock only offsets, LSN and header are settled and
 * the bytes copied. Everything is checked under the lock before the append, so a refused transaction leaves no trace.
 */
#include "pipeline/engine.h"

#define SPILL_BYTES_MAX (1024u * 1024u)

static void build_free(struct pawl_tx *tx, struct tx_build *b);

static uint64_t spill_at(const pawl *p) {
    uint64_t n = wal_payload_max(&p->wal) / 2;
    uint64_t by_memory = p->mem.cap / 16;
    n = n < by_memory ? n : by_memory;
    return n < SPILL_BYTES_MAX ? n : SPILL_BYTES_MAX;
}

static int grow(pawl *p, void **array, uint32_t count, uint32_t *cap, size_t each) {
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

int tx_new(pawl *p, struct pawl_tx **out) {
    struct pawl_tx *tx = mem_alloc(&p->mem, sizeof *tx);
    *out = tx;
    if (tx == NULL)
        return fail(PAWL_MEMORY, "no memory for a transaction");
    tx->p = p;
    bytes_init(&tx->catalog, &p->mem);
    bytes_init(&tx->sinks, &p->mem);
    return 0;
}

/* Under the log's lock, so that retention sees it before it can look at what is kept again. */
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

void tx_reset(struct pawl_tx *tx) {
    release_spill(tx);
    if (tx->built)
        build_free(tx, &tx->build);
    tx->built = false;
    uint64_t kept = 0, most = 2 * spill_at(tx->p);
    for (uint32_t i = 0; i < tx->run_count; i++) {
        struct bytes *data = &tx->runs[i].data;
        data->len = 0; /* the memory stays for the next batch, but not for every partition that ever was the large one */
        kept += data->cap;
        if (kept > most) {
            kept -= data->cap;
            bytes_free(data);
        }
        tx->runs[i].count = 0;
    }
    tx->spilled_count = tx->position_count = tx->catalog_count = tx->sink_count = 0;
    tx->catalog.len = tx->sinks.len = 0;
    tx->producer = NULL;
    tx->takeover = false;
    tx->bytes = tx->records = 0;
}

void tx_free(struct pawl_tx *tx) {
    if (tx == NULL)
        return;
    struct mem *m = &tx->p->mem;
    release_spill(tx);
    if (tx->built)
        build_free(tx, &tx->build);
    for (uint32_t i = 0; i < tx->run_count; i++)
        bytes_free(&tx->runs[i].data);
    mem_free(m, tx->runs, tx->run_cap * sizeof *tx->runs);
    mem_free(m, tx->spilled, tx->spilled_cap * sizeof *tx->spilled);
    mem_free(m, tx->positions, tx->position_cap * sizeof *tx->positions);
    bytes_free(&tx->catalog);
    bytes_free(&tx->sinks);
    mem_free(m, tx, sizeof *tx);
}

int pawl_begin(pawl *p, pawl_tx **out) {
    if (out == NULL)
        return fail(PAWL_INVALID, "result pointer is NULL");
    *out = NULL;
    TRY(engine_enter_writer(p));
    int rc = tx_new(p, out);
    engine_leave(p);
    return rc;
}

void pawl_abort(pawl_tx *tx) {
    if (tx != NULL && engine_check_fork(tx->p) == 0)
        tx_free(tx);
}

static struct tx_run *find_run(struct pawl_tx *tx, uint32_t stream, uint32_t partition) {
    for (uint32_t i = tx->run_count; i-- > 0;)
        if (tx->runs[i].stream == stream && tx->runs[i].partition == partition)
            return &tx->runs[i];
    if (grow(tx->p, (void **)&tx->runs, tx->run_count, &tx->run_cap, sizeof *tx->runs) < 0)
        return NULL;
    struct tx_run *r = &tx->runs[tx->run_count++];
    *r = (struct tx_run){.stream = stream, .partition = partition};
    bytes_init(&r->data, &tx->p->mem);
    return r;
}

/* Writes the records held as a SPILL frame, which means nothing until the commit refers to it. */
static int spill(struct pawl_tx *tx) {
    pawl *p = tx->p;
    struct run runs[64];
    struct bytes body;
    uint32_t n = 0;
    bytes_init(&body, &p->mem);
    for (uint32_t i = 0; i < tx->run_count && n < 64; i++) {
        struct tx_run *r = &tx->runs[i];
        if (r->count == 0)
            continue;
        runs[n++] = (struct run){.type = RUN_RECORDS,
                                 .stream = r->stream,
                                 .partition = r->partition,
                                 .count = r->count,
                                 .base = NO_OFFSET,
                                 .start = (uint32_t)body.len,
                                 .len = (uint32_t)r->data.len};
        bytes_put(&body, r->data.data, r->data.len);
    }
    int rc = body.failed ? fail(PAWL_MEMORY, "no memory to spill a transaction") : 0;
    for (uint32_t i = 0; i < n && rc == 0; i++)
        rc = grow(p, (void **)&tx->spilled, tx->spilled_count + i, &tx->spilled_cap, sizeof *tx->spilled);
    uint64_t lsn = 0, end = 0, hash = 0;
    struct wal_frame f = {.kind = FRAME_SPILL,
                          .class = tx->position_count != 0 ? WAL_PROCESS : WAL_INGEST,
                          .runs = runs,
                          .run_count = n,
                          .piece_count = 1,
                          .pieces = {{body.data, body.len}},
                          .body_len = (uint32_t)body.len,
                          .body_hash = format_hash(body.data, body.len, p->wal.seed)};
    if (rc == 0)
        rc = engine_enter_writer(p);
    if (rc == 0) {
        f.time_ns = p->io->ops->realtime(p->io);
        while ((rc = wal_append(&p->wal, &f, &lsn, &end)) == WAL_WAIT ||
               (rc == PAWL_FULL && p->block_when_full && !atomic_load(&p->stop)))
            rc == WAL_WAIT ? engine_wait(p) : engine_wait_space(p);
        hash = p->wal.link;
        if (rc == 0 && !tx->spilling)
            hold_spill(tx, lsn);
        engine_leave(p);
    }
    bytes_free(&body);
    TRY(rc);
    for (uint32_t i = 0, k = 0; i < tx->run_count && k < n; i++) {
        struct tx_run *r = &tx->runs[i];
        if (r->count == 0)
            continue;
        tx->spilled[tx->spilled_count++] = (struct tx_spilled){
            .stream = r->stream, .partition = r->partition, .count = r->count, .at = {lsn, hash, k++}};
        r->count = 0;
        r->data.len = 0;
    }
    tx->bytes = 0;
    for (uint32_t i = 0; i < tx->run_count; i++)
        tx->bytes += tx->runs[i].data.len;
    return 0;
}

/* Checks the place and settles PAWL_ANY. */
static int choose_partition(pawl *p, uint32_t stream, uint32_t *partition, const pawl_record *r) {
    TRY(engine_enter_writer(p));
    struct stream *s = tables_stream(&p->tables, stream);
    int rc = 0;
    if (s == NULL)
        rc = fail(PAWL_NOT_FOUND, "there is no stream with id %u", stream);
    else if (*partition == PAWL_ANY)
        *partition = s->partitions == 1 ? 0
                     : r->key_len != 0  ? (uint32_t)(format_hash(r->key, r->key_len, 0) % s->partitions)
                                        : p->round_robin++ % s->partitions;
    else if (*partition >= s->partitions)
        rc = fail(PAWL_RANGE, "stream %s has %u partitions, so there is no partition %u", s->name,
                  s->partitions, *partition);
    engine_leave(p);
    return rc;
}

static bool headers_well_formed(const pawl_record *r) {
    if (r->raw_headers == NULL)
        return r->header_count == 0 || r->headers != NULL;
    const uint8_t *h = r->raw_headers;
    uint32_t left = r->raw_headers_len;
    while (left != 0) {
        if (left < 4 || (uint32_t)get16(h) + get16(h + 2) > left - 4)
            return false;
        uint32_t size = 4u + get16(h) + get16(h + 2);
        h += size;
        left -= size;
    }
    return true;
}

int pawl_put(pawl_tx *tx, uint32_t stream, uint32_t partition, const pawl_record *r) {
    if (tx == NULL || r == NULL || (r->value == NULL && r->value_len != 0) ||
        (r->key == NULL && r->key_len != 0) || !headers_well_formed(r))
        return fail(PAWL_INVALID, "the record has a NULL part with a length, or malformed headers");
    pawl *p = tx->p;
    TRY(choose_partition(p, stream, &partition, r));
    uint64_t size = record_size(r);
    uint64_t max = wal_payload_max(&p->wal) - 4096;
    if (size == 0 || size > max)
        return fail(
            PAWL_TOO_LARGE,
            "a record of %u bytes is too large: this log takes %llu with key and headers, and 16 MiB at most",
            r->value_len, (unsigned long long)max);
    if (tx->bytes != 0 && tx->bytes + size > spill_at(p))
        TRY(spill(tx));
    struct tx_run *run = find_run(tx, stream, partition);
    if (run == NULL)
        return PAWL_MEMORY;
    uint8_t *out = bytes_add(&run->data, (size_t)size);
    if (out == NULL) {
        run->data.failed = false;
        return fail(PAWL_MEMORY, "the memory cap is reached: raise memory_cap, or finish other transactions");
    }
    pawl_record copy = *r;
    if (copy.timestamp_ns == 0)
        copy.timestamp_ns = (int64_t)p->io->ops->realtime(p->io);
    record_encode(out, &copy);
    run->count++;
    tx->bytes += size;
    tx->records++;
    return 0;
}

int tx_add_position(struct pawl_tx *tx, uint32_t processor, uint32_t stream, uint32_t partition,
                    uint64_t from, uint64_t to) {
    for (uint32_t i = 0; i < tx->position_count; i++) {
        struct position_entry *e = &tx->positions[i];
        if (e->processor == processor && e->stream == stream && e->partition == partition) {
            if (e->to != from)
                return fail(PAWL_TILING,
                            "within a transaction, an interval must begin where the one before ended");
            e->to = to;
            return 0;
        }
    }
    TRY(grow(tx->p, (void **)&tx->positions, tx->position_count, &tx->position_cap, sizeof *tx->positions));
    tx->positions[tx->position_count++] = (struct position_entry){processor, stream, partition, from, to};
    return 0;
}

int pawl_advance(pawl_tx *tx, uint32_t processor, uint32_t stream, uint32_t partition, uint64_t from, uint64_t to) {
    if (tx == NULL)
        return fail(PAWL_INVALID, "the transaction is NULL");
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

int pawl_tx_sequence(pawl_tx *tx, pawl_producer *producer, uint64_t first, uint64_t last, const void *cookie,
                     size_t cookie_len) {
    if (tx == NULL || producer == NULL || first == 0 || last < first || last == UINT64_MAX ||
        cookie_len > COOKIE_MAX || (cookie == NULL && cookie_len != 0))
        return fail(PAWL_INVALID,
                    "sequences start at 1, last must not be below first, and a cookie has at most 32 bytes");
    if (tx->producer != NULL)
        return fail(PAWL_STATE, "the transaction has a producer sequence already");
    tx->producer = producer;
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

static int add_sink(struct pawl_tx *tx, uint32_t processor, const char *name, uint16_t op) {
    size_t len = name == NULL ? 0 : strlen(name);
    if (tx == NULL || len == 0 || len > SINK_NAME_MAX)
        return fail(PAWL_INVALID, "a prepared transaction's name has 1 to 200 bytes");
    TRY(engine_enter_writer(tx->p));
    struct tables *t = &tx->p->tables;
    struct decision_row *d = tables_decision(t, processor, name, (uint16_t)len);
    int rc = 0;
    if (!tables_has_processor(t, processor) || (op == SINK_FINISHED && d == NULL))
        rc = fail(PAWL_NOT_FOUND, "no such processor, or no open decision of that name");
    else if (op == SINK_DECIDED && d != NULL)
        rc = fail(PAWL_EXISTS, "a decision of that name is open already");
    else if (op == SINK_DECIDED)
        rc = tables_room(t, len + 16);
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

static bool tx_empty(const struct pawl_tx *tx) {
    return tx->records == 0 && tx->position_count == 0 && tx->producer == NULL && !tx->takeover &&
           tx->catalog_count == 0 && tx->sink_count == 0;
}

static void add_run(struct tx_build *b, uint16_t type, uint32_t stream, uint32_t partition, uint32_t count,
                    size_t start) {
    b->runs[b->count++] = (struct run){.type = type,
                                       .stream = stream,
                                       .partition = partition,
                                       .count = count,
                                       .start = (uint32_t)start,
                                       .len = (uint32_t)(b->body->len - start)};
}

/* The one run of a transaction that has nothing which must lie before it. */
static struct tx_run *only_run(const struct pawl_tx *tx) {
    struct tx_run *only = NULL;
    if (tx->spilled_count != 0 || tx->catalog_count != 0)
        return NULL;
    for (uint32_t i = 0; i < tx->run_count; i++) {
        if (tx->runs[i].count == 0)
            continue;
        if (only != NULL)
            return NULL;
        only = &tx->runs[i];
    }
    return only;
}

static int build(struct pawl_tx *tx, struct tx_build *b) {
    pawl *p = tx->p;
    memset(b, 0, sizeof *b);
    bytes_init(&b->own, &p->mem);
    struct tx_run *only = only_run(tx);
    b->body = only != NULL ? &only->data : &b->own;
    b->records_len = b->body->len;
    uint32_t producers = tx->producer != NULL || tx->takeover;
    b->cap = tx->spilled_count + tx->run_count + 4;
    if (b->cap > UINT16_MAX)
        return fail(PAWL_TOO_LARGE, "the transaction touches too many partitions or spilled too often");
    b->runs = mem_alloc(&p->mem, b->cap * sizeof *b->runs);
    if (b->runs == NULL)
        return fail(PAWL_MEMORY, "no memory for a commit");
    struct bytes *body = b->body;
    size_t at = 0;
    if (tx->catalog_count != 0) {
        bytes_put(body, tx->catalog.data, tx->catalog.len);
        add_run(b, RUN_CATALOG, 0, 0, tx->catalog_count, at);
    }
    for (uint32_t i = 0; i < tx->spilled_count; i++) {
        at = body->len;
        spilled_encode(body, &tx->spilled[i].at);
        add_run(b, RUN_SPILLED, tx->spilled[i].stream, tx->spilled[i].partition, tx->spilled[i].count, at);
    }
    for (uint32_t i = 0; i < tx->run_count; i++) {
        if (tx->runs[i].count == 0)
            continue;
        at = only != NULL ? 0 : body->len;
        if (only == NULL)
            bytes_put(body, tx->runs[i].data.data, tx->runs[i].data.len);
        add_run(b, RUN_RECORDS, tx->runs[i].stream, tx->runs[i].partition, tx->runs[i].count, at);
    }
    at = body->len;
    for (uint32_t i = 0; i < tx->position_count; i++)
        position_encode(body, &tx->positions[i]);
    if (tx->position_count != 0)
        add_run(b, RUN_POSITIONS, 0, 0, tx->position_count, at);
    at = body->len;
    if (producers != 0) {
        producer_encode(body, &tx->sequence);
        add_run(b, RUN_PRODUCERS, 0, 0, 1, at);
    }
    at = body->len;
    if (tx->sink_count != 0) {
        bytes_put(body, tx->sinks.data, tx->sinks.len);
        add_run(b, RUN_SINKS, 0, 0, tx->sink_count, at);
    }
    b->hash = format_hash(body->data, body->len, p->wal.seed);
    return body->failed ? fail(PAWL_MEMORY, "no memory for a commit of %llu bytes", (unsigned long long)tx->bytes)
                        : 0;
}

static void build_free(struct pawl_tx *tx, struct tx_build *b) {
    if (b->body != &b->own) {
        b->body->len = b->records_len;
        b->body->failed = false;
    }
    bytes_free(&b->own);
    mem_free(&tx->p->mem, b->runs, b->cap * sizeof *b->runs);
}

/* Assigns offsets: each (stream, partition) goes on where it stands. */
static int assign(pawl *p, struct tx_build *b) {
    for (uint32_t i = 0; i < b->count; i++) {
        struct run *r = &b->runs[i];
        if (r->type != RUN_RECORDS && r->type != RUN_SPILLED)
            continue;
        struct stream *s = tables_stream(&p->tables, r->stream);
        if (s == NULL || r->partition >= s->partitions)
            return fail(PAWL_NOT_FOUND, "a stream of the transaction is gone");
        uint64_t base = s->parts[r->partition].next;
        for (uint32_t k = i; k-- > 0;)
            if (b->runs[k].stream == r->stream && b->runs[k].partition == r->partition &&
                (b->runs[k].type == RUN_RECORDS || b->runs[k].type == RUN_SPILLED)) {
                base = b->runs[k].base + b->runs[k].count;
                break;
            }
        r->base = base;
    }
    return 0;
}

static int check_positions(const struct pawl_tx *tx) {
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
            TRY(tables_room(t, C_POSITION_SIZE));
        else if (row->offset != e->from)
            return fail(PAWL_TILING, "the interval begins at %llu, but %s stands at %llu in %s/%u",
                        (unsigned long long)e->from, t->processors[e->processor - 1].name,
                        (unsigned long long)row->offset, s->name, e->partition);
    }
    return 0;
}

/* 1: the sequence is there already and *receipt answers for it. */
static int check_sequence(const struct pawl_tx *tx, pawl_receipt *receipt) {
    if (tx->producer == NULL)
        return 0;
    const struct producer *p = tables_producer(&tx->p->tables, tx->sequence.producer);
    if (p == NULL || p->epoch != tx->sequence.epoch)
        return fail(PAWL_FENCED, "a newer holder has taken producer %s over", p != NULL ? p->name : "?");
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
    return fail(PAWL_SEQUENCE, "producer %s stands at sequence %llu; the next must be %llu, not %llu",
                p->name, (unsigned long long)p->sequence, (unsigned long long)p->sequence + 1,
                (unsigned long long)tx->sequence.first);
}

/* An older holder may have committed while this waited for room: then the takeover must be made anew. */
static int check_takeover(const struct pawl_tx *tx) {
    const struct producer *p = tables_producer(&tx->p->tables, tx->sequence.producer);
    if (p->sequence + 1 != tx->sequence.first || p->epoch + 1 != tx->sequence.epoch)
        return fail(PAWL_BUSY, "the producer moved on meanwhile");
    return 0;
}

/* Tables, index and figures follow the frame that was appended. They take it from the frame's own bytes, as recovery does. */
static int follow_up(pawl *p, const struct tx_build *b, uint64_t lsn, uint64_t end) {
    uint64_t avail;
    const uint8_t *frame = wal_peek(&p->wal, lsn, &avail);
    struct frame_header h;
    if (frame == NULL || avail < end - lsn ||
        frame_decode_header(frame, lsn, p->wal.segment_size, p->wal.seed, &h) != FRAME_GOOD)
        return fail(PAWL_STATE, "the frame just appended can't be read back");
    TRY(tables_apply(&p->tables, &h, frame, false));
    locate_index_add(p, &h, frame + FRAME_HEADER_SIZE);
    p->commits++;
    p->payload_bytes += b->body->len;
    return 0;
}

static enum wal_class class_of(const struct pawl_tx *tx) {
    if (tx->takeover || tx->for_input)
        return WAL_INGEST;
    if (tx->records == 0)
        return WAL_POSITIONS;
    return tx->position_count != 0 ? WAL_PROCESS : WAL_INGEST;
}

int tx_prepare(struct pawl_tx *tx) {
    if (tx->built || tx_empty(tx))
        return 0;
    int rc = build(tx, &tx->build);
    tx->built = rc == 0;
    if (rc < 0)
        build_free(tx, &tx->build);
    return rc;
}

int tx_append(struct pawl_tx *tx, pawl_receipt *receipt, bool wait_full) {
    pawl *p = tx->p;
    *receipt = (pawl_receipt){.lsn = p->wal.durable, .offset = NO_OFFSET};
    if (tx_empty(tx))
        return 0;
    int rc = tx_prepare(tx);
    if (rc < 0)
        return rc;
    struct tx_build *b = &tx->build;
    struct wal_frame f = {.kind = FRAME_COMMIT,
                          .class = class_of(tx),
                          .runs = b->runs,
                          .run_count = b->count,
                          .piece_count = 1,
                          .pieces = {{b->body->data, b->body->len}},
                          .body_len = (uint32_t)b->body->len,
                          .body_hash = b->hash};
    uint64_t lsn = 0, end = 0;
    while (rc == 0) {
        /* Everything is judged anew after each wait: the lock was free meanwhile. */
        rc = tx->takeover ? check_takeover(tx) : check_sequence(tx, receipt);
        if (rc != 0)
            break;
        rc = check_positions(tx);
        if (rc == 0)
            rc = assign(p, b);
        if (rc == 0)
            rc = tables_reserve(&p->tables, tx->position_count, tx->sink_count);
        if (rc < 0)
            break;
        f.time_ns = p->io->ops->realtime(p->io);
        rc = wal_append(&p->wal, &f, &lsn, &end);
        if (rc == WAL_WAIT || (rc == PAWL_FULL && wait_full && !atomic_load(&p->stop))) {
            rc == WAL_WAIT ? engine_wait(p) : engine_wait_space(p);
            rc = p->wal.failed != 0 ? wal_error(&p->wal) : 0;
            continue;
        }
        if (rc == 0) {
            receipt->lsn = end;
            for (uint32_t i = 0; i < b->count; i++)
                if (b->runs[i].type == RUN_RECORDS || b->runs[i].type == RUN_SPILLED) {
                    receipt->stream = b->runs[i].stream;
                    receipt->partition = b->runs[i].partition;
                    receipt->offset = b->runs[i].base;
                    break;
                }
            rc = follow_up(p, b, lsn, end);
            p->records += tx->records;
            if (rc < 0) { /* log and tables disagree: acknowledge nothing more, and say that the commit may be there */
                pawl_error e;
                fail_copy(&e);
                rc = fail_at(PAWL_IO, 0, "", "",
                             lsn, "the commit at LSN %llu is in the log, but the tables can't follow: %.300s; close and open the log again",
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
    build_free(tx, b);
    tx->built = false;
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
    if (p->bg_idle)
        engine_poke(p);
    return rc;
}

int tx_takeover(struct pawl_tx *tx, uint32_t producer) {
    int rc;
    do {
        const struct producer *row = tables_producer(&tx->p->tables, producer);
        tx->takeover = true;
        tx->sequence = (struct producer_entry){
            .producer = producer, .epoch = row->epoch + 1, .first = row->sequence + 1, .last = row->sequence};
        rc = tx_commit_locked(tx, NULL);
    } while (rc == PAWL_BUSY);
    return rc;
}

int pawl_commit(pawl_tx *tx, pawl_receipt *receipt) {
    if (tx == NULL)
        return fail(PAWL_INVALID, "the transaction is NULL");
    pawl *p = tx->p;
    int rc = engine_check_fork(p);
    if (rc == 0)
        rc = tx_prepare(tx);
    if (rc == 0)
        rc = engine_enter_writer(p);
    if (rc == 0) {
        rc = tx_commit_locked(tx, receipt);
        engine_leave(p);
    }
    if (rc == PAWL_FORKED || rc == PAWL_FULL || rc == PAWL_MEMORY)
        return rc;
    tx_free(tx);
    return rc;
}

static struct async_commit *new_async(pawl *p) {
    struct async_commit *a = p->async_free;
    if (a != NULL)
        p->async_free = a->next;
    else
        a = mem_alloc(&p->mem, sizeof *a);
    return a;
}

int pawl_commit_async(pawl_tx *tx, pawl_commit_fn fn, void *arg, pawl_receipt *receipt) {
    if (tx == NULL)
        return fail(PAWL_INVALID, "the transaction is NULL");
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
        while (p->async_count >= ASYNC_MAX && p->wal.failed == 0 && !p->dispatching)
            engine_wait(p);
        struct async_commit *a = new_async(p);
        rc = a == NULL ? fail(PAWL_MEMORY, "no memory for an asynchronous commit")
                       : tx_append(tx, receipt, p->block_when_full);
        if (rc == 0) {
            *a = (struct async_commit){.lsn = receipt->lsn, .fn = fn, .arg = arg, .receipt = *receipt};
            if (p->async_tail != NULL)
                p->async_tail->next = a;
            else
                p->async_head = a;
            p->async_tail = a;
            p->async_count++;
            wal_flush(&p->wal, false);
            if (receipt->lsn <= p->wal.durable)
                engine_progress(p);
            else
                pthread_cond_broadcast(&p->progress); /* readers of what is not yet durable */
            if (!p->leader)
                engine_poke(p);
        } else if (a != NULL) {
            a->next = p->async_free;
            p->async_free = a;
        }
        engine_leave(p);
    }
    if (rc == PAWL_FORKED || rc == PAWL_FULL || rc == PAWL_MEMORY)
        return rc;
    tx_free(tx);
    return rc;
}

int pawl_append(pawl *p, uint32_t stream, uint32_t partition, const pawl_record *r, pawl_receipt *receipt) {
    pawl_tx *tx;
    TRY(pawl_begin(p, &tx));
    int rc = pawl_put(tx, stream, partition, r);
    if (rc < 0) {
        pawl_abort(tx);
        return rc;
    }
    rc = pawl_commit(tx, receipt);
    if (rc == PAWL_FULL || rc == PAWL_MEMORY)
        pawl_abort(tx);
    return rc;
}
