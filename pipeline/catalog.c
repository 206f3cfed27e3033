/* SPDX-License-Identifier: Apache-2.0
 *
 * Streams, producers, processors' names and settings: small transactions of catalog changes, each
 * durable on return.
 */
#include <assert.h>
#include <stdio.h>

#include "pipeline/catalog.h"
#include "pipeline/processor.h"

/* What the tables grow by at most. */
static uint64_t catalog_adds(const struct catalog_entry *e) {
    return e->op == CATALOG_STREAM      ? c_stream_size(e->name_len) + e->a * C_NEXT_SIZE
           : e->op == CATALOG_PRODUCER  ? c_producer_size(e->name_len)
           : e->op == CATALOG_PROCESSOR ? c_processor_size(e->name_len)
           : e->op == CATALOG_RENAME    ? align_up(e->name_len, 8)
                                        : 0;
}

/* Under the lock: commits one catalog change, with the rest of the transaction. */
static int commit_change(struct pawl_tx *tx, const struct catalog_entry *e) {
    tx->tables_bytes += catalog_adds(e);
    int rc = tx_add_catalog(tx, e);
    pawl_receipt receipt;
    return rc < 0 ? rc : tx_commit_locked(tx, &receipt);
}

static int change(pawl *p, const struct catalog_entry *e) {
    struct pawl_tx *tx;
    int rc = tx_new(p, &tx);
    if (rc == 0) {
        tx->for_input = e->op == CATALOG_STREAM;
        rc = commit_change(tx, e);
    }
    tx_free(tx);
    return rc;
}

int catalog_enter(pawl *p) {
    TRY(engine_enter_writer(p));
    while (p->catalog_busy) {
        engine_wait(p);
        if (p->wal.failed != 0) {
            int rc = wal_error(&p->wal);
            engine_leave(p);
            return rc;
        }
    }
    p->catalog_busy = true;
    return 0;
}

void catalog_leave(pawl *p) {
    p->catalog_busy = false;
    engine_tell(p);
    engine_leave(p);
}

int catalog_bad_name(const char *what) {
    return fail(PAWL_INVALID, "a %s name has 1 to 127 of the bytes A-Z a-z 0-9 . _ -", what);
}

int catalog_check_new(const char *what, const char *name, uint32_t id) {
    if (name_lost(name))
        return fail(PAWL_INVALID, "the names lost-N are kept for what loses its name to damage");
    return id <= limit_of(LIMIT_ID) ? 0 : fail(PAWL_LIMIT, "there is no id left for a %s", what);
}

int pawl_stream_create(pawl *p, const char *name, uint32_t partitions, uint32_t *id) {
    if (!name_allowed(name))
        return catalog_bad_name("stream");
    if (partitions == 0 || partitions > limit_of(LIMIT_STREAM_PARTITIONS))
        return fail(PAWL_INVALID, "a stream has 1 to 1024 partitions");
    TRY(catalog_enter(p));
    struct tables *t = &p->tables;
    uint32_t existing = tables_find_stream(t, name);
    int rc;
    if (existing != 0)
        rc = fail(PAWL_EXISTS, "there is a stream %s already", name);
    else if ((rc = limit_check(LIMIT_STREAMS, t->stream_count + UINT64_C(1))) == 0 &&
             (rc = limit_check(LIMIT_PARTITIONS, (uint64_t)t->partition_count + partitions)) == 0)
        rc = catalog_check_new("stream", name, t->ids.stream);
    uint32_t fresh = t->ids.stream;
    if (rc == 0)
        rc = change(p, &(struct catalog_entry){CATALOG_STREAM, fresh, partitions, 0, name,
                                               (uint16_t)strlen(name)});
    if (id != NULL)
        *id = existing != 0 ? existing : fresh;
    catalog_leave(p);
    return rc;
}

/* Under the lock: does a processor of this handle read the stream, or write dead letters to it? */
static bool processed(const pawl *p, uint32_t id) {
    for (const struct pawl_processor *q = p->processors; q != NULL; q = q->next) {
        if (q->config.on_error == PAWL_ON_ERROR_DEAD_LETTER && q->config.dead_letter == id)
            return true;
        for (uint32_t i = 0; i < q->config.input_count; i++)
            if (q->inputs[i] == id)
                return true;
    }
    return false;
}

int pawl_stream_delete(pawl *p, const char *name) {
    if (name == NULL)
        return fail(PAWL_INVALID, "the name is NULL");
    TRY(catalog_enter(p));
    uint32_t id = tables_find_stream(&p->tables, name);
    int rc;
    if (id == 0)
        rc = fail(PAWL_NOT_FOUND, "there is no stream %s", name);
    else if (processed(p, id))
        rc = fail(PAWL_BUSY, "a processor of this handle uses stream %s; remove it first", name);
    else
        rc = change(p, &(struct catalog_entry){CATALOG_DELETE, id, 0, 0, NULL, 0});
    if (id != 0)
        engine_forget_partitions(p, id);
    if (rc == 0) {
        assert(tables_stream(&p->tables, id) == NULL && p->tables.ids.stream > id); /* PAWL-9 */
        engine_ask_chores(p); /* retention may be able to drop more now */
        if (p->any_watched != 0)
            any_tell(p, false); /* wakes the readers of its partitions */
    }
    catalog_leave(p);
    return rc;
}

static uint32_t find_named(const struct tables *t, int what, const char *name) {
    return what == PAWL_NAMED_STREAM     ? tables_find_stream(t, name)
           : what == PAWL_NAMED_PRODUCER ? tables_find_producer(t, name)
                                         : tables_find_processor(t, name);
}

int pawl_rename(pawl *p, int what, const char *name, const char *new_name) {
    static const char *const words[] = {"", "stream", "producer", "processor"};
    if (what < PAWL_NAMED_STREAM || what > PAWL_NAMED_PROCESSOR || name == NULL)
        return fail(PAWL_INVALID, "the name is NULL, or no such kind of name");
    if (!name_allowed(new_name))
        return catalog_bad_name(words[what]);
    TRY(catalog_enter(p));
    const struct tables *t = &p->tables;
    uint32_t id = find_named(t, what, name);
    int rc = catalog_check_new(words[what], new_name, 0);
    if (rc == 0 && id == 0)
        rc = fail(PAWL_NOT_FOUND, "there is no %s %s", words[what], name);
    else if (rc == 0 && find_named(t, what, new_name) != 0)
        rc = fail(PAWL_EXISTS, "there is a %s %s already", words[what], new_name);
    if (rc == 0)
        rc = change(p, &(struct catalog_entry){CATALOG_RENAME, id, (uint64_t)what, 0, new_name,
                                               (uint16_t)strlen(new_name)});
    assert(rc < 0 || find_named(t, what, new_name) == id); /* PAWL-9: the id stays */
    catalog_leave(p);
    return rc;
}

int catalog_refreshed(pawl *p) {
    TRY(engine_enter(p));
    if (p->read_only) {
        int rc = follow_refresh(p);
        if (rc < 0) {
            engine_leave(p);
            return rc;
        }
    }
    return 0;
}

static void fill_stream(const struct stream *s, pawl_stream_info *out) {
    memset(out, 0, sizeof *out);
    out->id = s->id;
    out->partitions = s->partitions;
    memcpy(out->name, s->name, sizeof s->name);
}

int pawl_stream_find(pawl *p, const char *name, pawl_stream_info *out) {
    if (name == NULL || out == NULL)
        return fail(PAWL_INVALID, "name or result pointer is NULL");
    TRY(catalog_refreshed(p));
    uint32_t id = tables_find_stream(&p->tables, name);
    if (id != 0)
        fill_stream(tables_stream(&p->tables, id), out);
    engine_leave(p);
    return id != 0 ? 0 : fail(PAWL_NOT_FOUND, "there is no stream %s", name);
}

int pawl_stream_get(pawl *p, uint32_t id, pawl_stream_info *out) {
    if (out == NULL)
        return fail(PAWL_INVALID, "result pointer is NULL");
    TRY(catalog_refreshed(p));
    const struct stream *s = tables_stream(&p->tables, id);
    if (s != NULL)
        fill_stream(s, out);
    engine_leave(p);
    return s != NULL ? 0 : fail(PAWL_NOT_FOUND, "there is no stream with id %u", id);
}

int pawl_stream_at(pawl *p, uint32_t index, pawl_stream_info *out) {
    if (out == NULL)
        return fail(PAWL_INVALID, "result pointer is NULL");
    TRY(catalog_refreshed(p));
    int rc = index < p->tables.stream_count ? 0 : PAWL_NOT_FOUND;
    if (rc == 0)
        fill_stream(p->tables.streams[index], out);
    engine_leave(p);
    return rc;
}

int pawl_partition_bounds(pawl *p, uint32_t stream, uint32_t partition, pawl_bounds *out) {
    if (out == NULL)
        return fail(PAWL_INVALID, "result pointer is NULL");
    TRY(catalog_refreshed(p));
    struct stream *s = tables_stream(&p->tables, stream);
    uint64_t first = 0;
    int rc = 0;
    if (s == NULL) {
        rc = fail(PAWL_NOT_FOUND, "there is no stream with id %u", stream);
    } else if (partition >= s->partitions) {
        rc = fail(PAWL_RANGE, "stream %s has %u partitions, so there is no partition %u", s->name,
                  s->partitions, partition);
    } else {
        rc = locate_first(p, stream, partition, &first);
        s = tables_stream(&p->tables, stream); /* the lock may have been released */
    }
    if (rc == 0) {
        const struct partition *part = &s->parts[partition];
        memset(out, 0, sizeof *out);
        out->first = first;
        out->end = part->next;
        out->durable = p->read_only ? part->next : tables_durable_next(part, p->wal.durable);
        assert(out->first <= out->durable && out->durable <= out->end); /* PAWL-1, PAWL-11 */
    }
    engine_leave(p);
    return rc;
}

int pawl_producer_open(pawl *p, const char *name, pawl_producer **out) {
    if (!name_allowed(name))
        return catalog_bad_name("producer");
    if (out == NULL)
        return fail(PAWL_INVALID, "result pointer is NULL");
    *out = NULL;
    TRY(catalog_enter(p));
    struct tables *t = &p->tables;
    struct pawl_tx *tx = NULL;
    uint32_t id = tables_find_producer(t, name);
    int rc = tx_new(p, &tx);
    if (rc == 0)
        tx->for_input = true;
    if (rc == 0 && id == 0) {
        id = t->ids.producer;
        rc = limit_check(LIMIT_PRODUCERS, t->producer_count + UINT64_C(1));
        if (rc == 0)
            rc = catalog_check_new("producer", name, id);
        if (rc == 0)
            rc = commit_change(tx, &(struct catalog_entry){CATALOG_PRODUCER, id, 0, 0, name,
                                                           (uint16_t)strlen(name)});
    }
    pawl_producer *pr = rc == 0 ? mem_alloc(&p->mem, sizeof *pr) : NULL;
    if (rc == 0 && pr == NULL)
        rc = fail(PAWL_MEMORY, "no memory for a producer");
    if (rc == 0) { /* the takeover is a producer entry that covers no sequence */
        tx_reset(tx);
        rc = tx_takeover(tx, id);
    }
    if (rc == 0) {
        const struct producer *row = tables_producer(t, id);
        *pr = (pawl_producer){.live = HANDLE_LIVE,
                              .p = p,
                              .refs = 1,
                              .id = id,
                              .epoch = row->epoch,
                              .sequence = row->sequence,
                              .cookie_len = row->cookie_len};
        memcpy(pr->cookie, row->cookie, COOKIE_MAX);
        *out = pr;
        p->open_producers++;
    } else if (pr != NULL) {
        mem_free(&p->mem, pr, sizeof *pr);
    }
    tx_free(tx);
    catalog_leave(p);
    return rc;
}

uint64_t pawl_producer_sequence(const pawl_producer *producer) {
    return handle_live(producer, "producer") < 0 ? 0 : producer->sequence;
}

int pawl_producer_cookie(const pawl_producer *producer, void *buf, size_t size) {
    TRY(handle_live(producer, "producer"));
    if (buf == NULL)
        return fail(PAWL_INVALID, "the buffer is NULL");
    size_t n = producer->cookie_len < size ? producer->cookie_len : size;
    memcpy(buf, producer->cookie, n);
    return (int)n;
}

void producer_release(pawl_producer *producer) {
    pawl *p = producer->p;
    if (atomic_fetch_sub(&producer->refs, 1) != 1)
        return;
    pthread_mutex_lock(&p->mutex);
    ended_keep(p, producer, sizeof *producer);
    engine_leave(p);
}

void pawl_producer_close(pawl_producer *producer) {
    if (producer == NULL || handle_live(producer, "producer") < 0 || engine_enter(producer->p) < 0)
        return;
    producer->live = HANDLE_ENDED;
    producer->p->open_producers--;
    engine_leave(producer->p);
    producer_release(producer);
}

static void fill_producer(const struct producer *row, pawl_producer_info *out) {
    *out = (pawl_producer_info){.id = row->id, .epoch = row->epoch, .sequence = row->sequence};
    memcpy(out->name, row->name, sizeof row->name);
}

int pawl_producer_at(pawl *p, uint32_t index, pawl_producer_info *out) {
    if (out == NULL)
        return fail(PAWL_INVALID, "result pointer is NULL");
    TRY(catalog_refreshed(p));
    int rc = index < p->tables.producer_count ? 0 : PAWL_NOT_FOUND;
    if (rc == 0)
        fill_producer(p->tables.producers[index], out);
    engine_leave(p);
    return rc;
}

int pawl_producer_find(pawl *p, const char *name, pawl_producer_info *out, pawl_receipt *last,
                       void *cookie, size_t size) {
    if (name == NULL || out == NULL || (cookie == NULL && size != 0))
        return fail(PAWL_INVALID, "name, result or cookie pointer is NULL");
    TRY(catalog_refreshed(p));
    int rc = PAWL_NOT_FOUND;
    uint32_t id = tables_find_producer(&p->tables, name);
    if (id != 0) {
        const struct producer *row = tables_producer(&p->tables, id);
        fill_producer(row, out);
        if (last != NULL)
            *last = (pawl_receipt){
                .offset = row->offset, .stream = row->stream, .partition = row->partition};
        if (size != 0)
            memcpy(cookie, row->cookie, row->cookie_len < size ? row->cookie_len : size);
        rc = (int)row->cookie_len;
    }
    engine_leave(p);
    return rc >= 0 ? rc : fail(PAWL_NOT_FOUND, "there is no producer %s", name);
}

int pawl_processor_register(pawl *p, const char *name, uint32_t *id) {
    if (!name_allowed(name))
        return catalog_bad_name("processor");
    TRY(catalog_enter(p));
    struct tables *t = &p->tables;
    uint32_t found = tables_find_processor(t, name);
    int rc = 0;
    if (found == 0) {
        found = t->ids.processor;
        rc = limit_check(LIMIT_PROCESSORS, t->processor_count + UINT64_C(1));
        if (rc == 0)
            rc = catalog_check_new("processor", name, found);
        if (rc == 0)
            rc = change(p, &(struct catalog_entry){CATALOG_PROCESSOR, found, 0, 0, name,
                                                   (uint16_t)strlen(name)});
    }
    if (id != NULL)
        *id = found;
    catalog_leave(p);
    return rc;
}

/* Its open decisions go with it, and those that an earlier version left behind with others. */
static int forget(pawl *p, uint32_t id) {
    struct pawl_tx *tx;
    int rc = tx_new(p, &tx);
    if (rc == 0)
        rc = tx_finish_all(tx, id);
    if (rc == 0)
        rc = commit_change(tx, &(struct catalog_entry){CATALOG_FORGET, id, 0, 0, NULL, 0});
    tx_free(tx);
    return rc;
}

int pawl_processor_forget(pawl *p, const char *name) {
    if (name == NULL)
        return fail(PAWL_INVALID, "the name is NULL");
    TRY(catalog_enter(p));
    uint32_t id = tables_find_processor(&p->tables, name);
    const struct state_table *owned = tables_owned(&p->tables, id);
    int rc;
    if (id == 0)
        rc = fail(PAWL_NOT_FOUND, "there is no processor %s", name);
    else if (p->running)
        rc = fail(PAWL_BUSY, "processors are running");
    else if (owned != NULL && !state_internal(owned))
        rc = fail(PAWL_BUSY, "processor %s owns table %s; delete that first", name, owned->name);
    else
        rc = forget(p, id);
    catalog_leave(p);
    return rc;
}

int pawl_processor_at(pawl *p, uint32_t index, uint32_t *id, char name[128]) {
    if (name == NULL)
        return fail(PAWL_INVALID, "name is NULL");
    TRY(catalog_refreshed(p));
    int rc = index < p->tables.processor_count ? 0 : PAWL_NOT_FOUND;
    if (rc == 0) {
        const struct processor_row *row = p->tables.processors[index];
        if (id != NULL)
            *id = row->id;
        memcpy(name, row->name, 128);
    }
    engine_leave(p);
    return rc;
}

int pawl_position_get(pawl *p, const char *processor, uint32_t stream, uint32_t partition,
                      uint64_t *offset) {
    if (processor == NULL || offset == NULL)
        return fail(PAWL_INVALID, "name or result pointer is NULL");
    TRY(catalog_refreshed(p));
    uint32_t id = tables_find_processor(&p->tables, processor);
    const struct position_row *row =
        id != 0 ? tables_position(&p->tables, id, stream, partition) : NULL;
    if (row != NULL)
        *offset = row->offset;
    engine_leave(p);
    return row != NULL ? 0 : fail(PAWL_NOT_FOUND, "processor %s has no position there", processor);
}

int pawl_position_at(pawl *p, uint32_t index, pawl_position *out) {
    if (out == NULL)
        return fail(PAWL_INVALID, "result pointer is NULL");
    TRY(catalog_refreshed(p));
    int rc = index < p->tables.position_count ? 0 : PAWL_NOT_FOUND;
    if (rc == 0) {
        tables_sort_positions(&p->tables);
        const struct position_row *row = &p->tables.positions[index];
        memset(out, 0, sizeof *out);
        out->processor = row->processor;
        out->stream = row->stream;
        out->partition = row->partition;
        out->offset = row->offset;
        const char *name = tables_processor_name(&p->tables, row->processor);
        if (name != NULL)
            memcpy(out->name, name, sizeof out->name);
    }
    engine_leave(p);
    return rc;
}

int pawl_decision_at(pawl *p, uint32_t index, pawl_decision *out) {
    if (out == NULL)
        return fail(PAWL_INVALID, "result pointer is NULL");
    TRY(catalog_refreshed(p));
    const struct decision_row *d = tables_decision_at(&p->tables, index);
    int rc = d != NULL ? 0 : PAWL_NOT_FOUND;
    if (rc == 0) {
        memset(out, 0, sizeof *out);
        out->processor = d->processor;
        memcpy(out->name, d->name, d->name_len);
    }
    engine_leave(p);
    return rc;
}

int pawl_retention_set(pawl *p, const pawl_retention *r) {
    if (r == NULL)
        return fail(PAWL_INVALID, "the settings are NULL");
    TRY(catalog_enter(p));
    struct pawl_tx *tx;
    int rc = tx_new(p, &tx);
    if (rc == 0)
        rc = tx_add_catalog(tx,
                            &(struct catalog_entry){CATALOG_RETAIN, 0, r->bytes, r->ms, NULL, 0});
    if (rc == 0)
        rc = commit_change(
            tx, &(struct catalog_entry){CATALOG_CONSUMED, 0, r->consumed != 0, 0, NULL, 0});
    tx_free(tx);
    if (rc == 0)
        engine_ask_chores(p);
    catalog_leave(p);
    return rc;
}

int pawl_retention_get(pawl *p, pawl_retention *out) {
    if (out == NULL)
        return fail(PAWL_INVALID, "result pointer is NULL");
    TRY(catalog_refreshed(p));
    *out = (pawl_retention){
        .bytes = p->tables.retain_bytes, .ms = p->tables.retain_ms, .consumed = p->tables.consumed};
    engine_leave(p);
    return 0;
}

int pawl_disk_cap_set(pawl *p, uint64_t bytes) {
    TRY(catalog_enter(p));
    uint64_t before = p->wal.disk_cap;
    int rc = 0;
    if (bytes != 0 && bytes / 4 < p->wal.segment_size)
        rc = fail(PAWL_INVALID, "the disk cap must be at least four segments (%llu bytes)",
                  (unsigned long long)(4 * p->wal.segment_size));
    if (rc == 0) {
        /* in a full log, a larger cap provides the room for its own entry */
        if (before != 0 && (bytes == 0 || bytes > before))
            p->wal.disk_cap = bytes;
        rc = change(p, &(struct catalog_entry){CATALOG_DISK_CAP, 0, bytes, 0, NULL, 0});
        if (rc < 0 && p->wal.failed == 0)
            p->wal.disk_cap = before;
    }
    if (rc == 0) {
        assert(p->wal.disk_cap == bytes); /* PAWL-11 */
        if (wal_wants_next(&p->wal))
            engine_ask_chores(p);
    }
    catalog_leave(p);
    return rc;
}
