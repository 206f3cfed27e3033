/* SPDX-License-Identifier: Apache-2.0
 *
 * The tables as a checkpoint.
 */
#include <assert.h>

#include "pipeline/tables.h"

/* Does a checkpoint need an entry that keeps the highest stream id from being used again, by
 * versions that know no C_IDS? */
static bool last_is_gone(const struct tables *t) {
    return t->ids.stream > 1 &&
           (t->stream_count == 0 || t->streams[t->stream_count - 1]->id + 1 != t->ids.stream);
}

uint64_t tables_size(const struct tables *t) {
    return t->rows_bytes + C_SETTINGS_SIZE + C_IDS_SIZE + (last_is_gone(t) ? c_stream_size(0) : 0) +
           (t->state.any ? C_STATE_SIZE : 0);
}

/* Closes the run that began at `start`, unless it is empty. */
static void end_run(struct bytes *body, struct run *runs, uint32_t *count, uint16_t type,
                    uint32_t entries, size_t start) {
    if (entries != 0)
        runs[(*count)++] = (struct run){.type = type,
                                        .count = entries,
                                        .start = (uint32_t)start,
                                        .len = (uint32_t)(body->len - start)};
}

static uint32_t write_streams(const struct tables *t, struct bytes *body) {
    for (uint32_t i = 0; i < t->stream_count; i++) {
        const struct stream *s = t->streams[i];
        c_stream_encode(
            body, &(struct c_stream){s->id, s->partitions, s->name, (uint32_t)strlen(s->name)});
    }
    if (last_is_gone(t))
        c_stream_encode(body, &(struct c_stream){t->ids.stream - 1, 0, "", 0});
    return t->stream_count + last_is_gone(t);
}

static uint32_t write_next(const struct tables *t, struct bytes *body) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < t->stream_count; i++)
        for (uint32_t k = 0; k < t->streams[i]->partitions; k++) {
            c_next_encode(body,
                          &(struct c_next){t->streams[i]->id, k, t->streams[i]->parts[k].next});
            n++;
        }
    return n;
}

static uint32_t write_producers(const struct tables *t, struct bytes *body) {
    for (uint32_t i = 0; i < t->producer_count; i++) {
        const struct producer *p = t->producers[i];
        struct c_producer c = {
            p->id,     p->epoch,      p->sequence, p->stream, p->partition,
            p->offset, p->cookie_len, {0},         p->name,   (uint32_t)strlen(p->name)};
        memcpy(c.cookie, p->cookie, COOKIE_MAX);
        c_producer_encode(body, &c);
    }
    return t->producer_count;
}

static uint32_t write_processors(const struct tables *t, struct bytes *body) {
    for (uint32_t i = 0; i < t->processor_count; i++) {
        const struct processor_row *p = t->processors[i];
        c_processor_encode(body, &(struct c_processor){p->id, p->name, (uint32_t)strlen(p->name)});
    }
    return t->processor_count;
}

static uint32_t write_positions(const struct tables *t, struct bytes *body) {
    for (uint32_t i = 0; i < t->position_count; i++) {
        const struct position_row *p = &t->positions[i];
        c_position_encode(body,
                          &(struct c_position){p->processor, p->stream, p->partition, p->offset});
    }
    return t->position_count;
}

static uint32_t write_settings(const struct tables *t, struct bytes *body) {
    c_settings_encode(body, &(struct c_settings){t->retain_bytes, t->retain_ms,
                                                 t->consumed ? SETTINGS_CONSUMED : 0});
    return 1;
}

static uint32_t write_sinks(const struct tables *t, struct bytes *body) {
    for (uint32_t i = t->decision_first; i < t->decision_rows; i++)
        if (t->decisions[i].name_len != 0)
            c_sink_encode(body, &(struct c_sink){t->decisions[i].processor, t->decisions[i].name,
                                                 t->decisions[i].name_len});
    return t->decision_count;
}

static uint32_t write_spans(const struct tables *t, struct bytes *body) {
    for (uint32_t i = 0; i < t->span_count; i++)
        c_span_encode(body, &(struct c_span){t->spans[i].segment, t->spans[i].oldest});
    return t->span_count;
}

static uint32_t write_tables(const struct tables *t, struct bytes *body) {
    for (uint32_t i = 0; i < t->state.count; i++) {
        const struct state_table *s = t->state.tables[i];
        table_encode(body, &(struct table_entry){.op = TABLE_CREATE,
                                                 .name_len = (uint16_t)strlen(s->name),
                                                 .id = s->id,
                                                 .owner = s->owner,
                                                 .partitions = s->partitions,
                                                 .version = s->version,
                                                 .flags = s->flags,
                                                 .ttl_ms = s->ttl_ms,
                                                 .name = s->name});
    }
    return t->state.count;
}

static uint32_t write_digests(const struct tables *t, struct bytes *body) {
    for (uint32_t i = 0; i < t->state.count; i++)
        for (uint32_t k = 0; k < t->state.tables[i]->partitions; k++) {
            const struct state_part *p = &t->state.tables[i]->parts[k];
            c_digest_encode(body, &(struct c_digest){.table = t->state.tables[i]->id,
                                                     .partition = k,
                                                     .sum = p->sum,
                                                     .commits = p->commits,
                                                     .flags = state_lost(p) ? DIGEST_LOST : 0});
        }
    return t->state.partition_count;
}

static uint32_t write_runs(const struct tables *t, struct bytes *body) {
    for (uint32_t i = 0; i < t->state.run_count; i++) {
        const struct run_row *r = &t->state.runs[i];
        c_run_encode(body, &(struct c_run){r->id, r->level, r->flush_lsn, r->bytes});
    }
    return t->state.run_count;
}

static uint32_t write_run_hashes(const struct tables *t, struct bytes *body) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < t->state.run_count; i++) {
        const struct run_row *r = &t->state.runs[i];
        if (r->header_hash == 0)
            continue;
        c_run_hash_encode(body, &(struct c_run_hash){r->id, r->header_hash});
        n++;
    }
    return n;
}

static uint32_t write_state(const struct tables *t, struct bytes *body) {
    if (!t->state.any)
        return 0;
    c_state_encode(body,
                   &(struct c_state){t->state.next_run, t->state.flush_lsn, t->state.replay_max});
    return 1;
}

struct c_ids tables_next_ids(const struct tables *t) {
    struct c_ids ids = t->ids;
    ids.table = t->state.any ? t->ids.table : 0;
    return ids;
}

static uint32_t write_ids(const struct tables *t, struct bytes *body) {
    uint8_t *out = bytes_add(body, C_IDS_SIZE);
    struct c_ids ids = tables_next_ids(t);
    if (out != NULL)
        c_ids_encode(out, &ids);
    return 1;
}

int tables_checkpoint(struct tables *t, struct bytes *body, struct run *runs, uint32_t *count) {
    static const struct {
        uint16_t type;
        uint32_t (*write)(const struct tables *, struct bytes *);
    } parts[] = {{RUN_C_STREAMS, write_streams},
                 {RUN_C_NEXT, write_next},
                 {RUN_C_PRODUCERS, write_producers},
                 {RUN_C_PROCESSORS, write_processors},
                 {RUN_C_POSITIONS, write_positions},
                 {RUN_C_SETTINGS, write_settings},
                 {RUN_C_SINKS, write_sinks},
                 {RUN_C_SPANS, write_spans},
                 {RUN_C_TABLES, write_tables},
                 {RUN_C_DIGESTS, write_digests},
                 {RUN_C_RUNS, write_runs},
                 {RUN_C_STATE, write_state},
                 {RUN_C_RUN_HASHES, write_run_hashes},
                 {RUN_C_IDS, write_ids}};
    size_t before = body->len;
    tables_sort_positions(t);
    *count = 0;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        size_t start = body->len;
        uint32_t n = parts[i].write(t, body);
        end_run(body, runs, count, parts[i].type, n, start);
    }
    /* PAWL-11: the size that tables_room() checked is the size written */
    assert(body->failed || body->len - before == tables_size(t));
    return body->failed ? fail(PAWL_MEMORY, "no memory for a checkpoint") : 0;
}
