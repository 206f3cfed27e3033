/* SPDX-License-Identifier: Apache-2.0
 *
 * lost.c - what damage means for the tables: how many commits and catalog changes a lost area has
 * held, which ids come next, and what has lost its name (docs/format.md, section 9). Writers,
 * recovery, followers and verify all draw the same conclusions, since they all come here.
 */
#include <assert.h>
#include <stdio.h>

#include "pipeline/tables.h"

/* The next ids where not even the header of the oldest segment knows them: far beyond any. */
#define IDS_UNKNOWN (1u << 24 | 1u)

static void jump(uint32_t *next, uint64_t by) {
    *next = by < UINT32_MAX - *next ? *next + (uint32_t)by : UINT32_MAX;
}

/* What was lost since the frame before the one at `lsn`: the differences of the counts, if they are
 * exact. */
static void lose(struct tables *t, uint64_t lsn, uint64_t commits, uint64_t changes, bool exact) {
    if (!exact || commits != 0) {
        uint64_t most = t->area_bytes / TABLE_ENTRY_SIZE, ids = most > commits ? most : commits;
        jump(&t->ids.table, ids);
        jump(&t->state.next_run, ids);
        t->lost_end = lsn;
    }
    uint64_t most = t->area_bytes / CHANGE_SIZE_MIN;
    uint64_t ids = exact ? changes : most > changes ? most : changes;
    jump(&t->ids.stream, ids);
    jump(&t->ids.producer, ids);
    jump(&t->ids.processor, ids);
    if (exact) {
        t->loss.commits += commits;
        t->loss.changes += changes;
    } else {
        t->loss.unknown++;
        t->loss.commits_most += t->area_bytes / COMMIT_SIZE_MIN;
        t->loss.changes_most += most;
    }
    t->ids.commits += commits;
    t->ids.changes += changes;
    t->counts = counts_encode(t->ids.commits, t->ids.changes);
    t->area_bytes = 0;
    t->area_open = false;
}

/* A LOST frame. In the place of the oldest segment's checkpoint, tables begin with it. */
static void lost_frame(struct tables *t, const struct frame_header *h) {
    bool first = segment_offset(h->lsn, t->segment_size) == SEGMENT_HEADER_SIZE;
    if (first && !t->begun) {
        if (h->ids != NULL && h->ids->stream != 0 && h->ids->producer != 0 &&
            h->ids->processor != 0) {
            t->ids = *h->ids;
            t->state.any = t->ids.table > 1;
            t->ids.table = t->state.any ? t->ids.table : 1;
            t->counted = true;
        } else if (h->lsn > SEGMENT_HEADER_SIZE) {
            t->ids = (struct c_ids){IDS_UNKNOWN, IDS_UNKNOWN, IDS_UNKNOWN, 0, 0, IDS_UNKNOWN};
        }
        if (t->ids.table > 1)
            t->state.next_run = IDS_UNKNOWN; /* no header says it */
        t->counts = counts_encode(t->ids.commits, t->ids.changes);
        t->past_unknown = h->lsn > SEGMENT_HEADER_SIZE;
        t->begun = true;
    }
    t->area_bytes += frame_length(h);
    t->area_open |= h->dir_hash == 0;
}

static int disagrees(const struct frame_header *h) {
    return fail_at(PAWL_DAMAGED, 0, "", "", h->lsn,
                   "the frame at LSN %llu contradicts the log before it: it counts other commits "
                   "or catalog changes",
                   (unsigned long long)h->lsn);
}

int lost_judge(struct tables *t, const struct frame_header *h, const uint8_t *frame, bool lost) {
    if (h->kind == FRAME_LOST) {
        lost_frame(t, h);
        return 0;
    }
    if (h->ids == NULL) {
        if (t->area_bytes != 0)
            lose(t, h->lsn, 0, 0, false);
        t->counted = false;
        return 0;
    }
    uint32_t flags = h->flags & FRAME_FLAGS_COUNTS;
    struct c_ids ids;
    bool whole = checkpoint_ids(h, frame, &ids), known = t->counted, area = t->area_bytes != 0;
    uint64_t commits = ((flags >> 12) - t->ids.commits) % COUNT_COMMITS_MOD;
    uint64_t changes = ((flags >> 24) - t->ids.changes) % COUNT_CHANGES_MOD;
    if (whole) {
        commits = ids.commits - t->ids.commits;
        changes = ids.changes - t->ids.changes;
    }
    if (!lost && !area &&
        whole) /* the checkpoint counts; a follower may have passed segments over */
        return 0;
    if (known && !lost && !area)
        return disagrees(h);
    bool exact = known && !t->area_open && (whole || t->area_bytes < COUNTS_EXACT_BYTES);
    if (known || area)
        lose(t, h->lsn, commits, changes, exact);
    if (!known) { /* from here on it is */
        t->ids.commits = flags >> 12 & (COUNT_COMMITS_MOD - 1);
        t->ids.changes = flags >> 24;
        t->counts = flags;
        t->counted = true;
    }
    assert(t->area_bytes == 0);
    return 0;
}

void lost_at_end(struct tables *t) {
    if (t->area_bytes != 0)
        lose(t, 0, 0, 0, false);
}

/* ---- what has lost its name */

static bool digits(const char *p) {
    size_t n = strspn(p, "0123456789");
    return n != 0 && p[n + strspn(p + n, "+")] == 0;
}

bool name_lost(const char *name) {
    return strncmp(name, "lost-", 5) == 0 && digits(name + 5);
}

typedef uint32_t (*find_fn)(const struct tables *t, const char *name);

static uint32_t lost_name(const struct tables *t, uint32_t id, find_fn find,
                          char name[NAME_LEN_MAX + 1]) {
    size_t len = (size_t)snprintf(name, NAME_LEN_MAX + 1, "lost-%u", id);
    while (find(t, name) != 0 && len < NAME_LEN_MAX) {
        name[len++] = '+'; /* an earlier version may have given such a name to something */
        name[len] = 0;
    }
    return (uint32_t)len;
}

int lost_stream(struct tables *t, uint32_t id, uint32_t partition) {
    char name[NAME_LEN_MAX + 1];
    struct stream *s = tables_stream(t, id);
    TRY(limit_check(LIMIT_STREAM_PARTITIONS, partition + UINT64_C(1)));
    if (s == NULL)
        return tables_add_stream(t, id, partition + 1, name,
                                 lost_name(t, id, tables_find_stream, name));
    if (partition < s->partitions)
        return 0;
    if (!name_lost(s->name))
        return fail(PAWL_DAMAGED, "a partition that its stream doesn't have");
    return tables_grow_stream(t, s, partition + 1);
}

int lost_processor(struct tables *t, uint32_t id) {
    char name[NAME_LEN_MAX + 1];
    return tables_has_processor(t, id)
               ? 0
               : tables_add_processor(t, id, name, lost_name(t, id, tables_find_processor, name));
}

int lost_producer(struct tables *t, uint32_t id) {
    char name[NAME_LEN_MAX + 1];
    return tables_producer(t, id) != NULL
               ? 0
               : tables_add_producer(t, id, name, lost_name(t, id, tables_find_producer, name));
}

int lost_table(struct tables *t, uint32_t id, uint32_t partition) {
    char name[NAME_LEN_MAX + 1];
    struct state_table *s = tables_table(t, id);
    TRY(limit_check(LIMIT_TABLE_PARTITIONS, partition + UINT64_C(1)));
    if (s == NULL)
        return tables_add_table(t, &(struct table_entry){.op = TABLE_CREATE,
                                                         .id = id,
                                                         .partitions = partition + 1,
                                                         .name = name,
                                                         .name_len = (uint16_t)lost_name(
                                                             t, id, tables_find_table, name)});
    if (partition < s->partitions)
        return 0;
    if (!name_lost(s->name))
        return fail(PAWL_DAMAGED, "a partition that its table doesn't have");
    return tables_grow_table(t, s, partition + 1);
}

void lost_end_older_table(struct tables *t, const struct table_entry *e) {
    char name[NAME_LEN_MAX + 1];
    memcpy(name, e->name, e->name_len); /* table_decode() has bounded it */
    name[e->name_len] = 0;
    uint32_t named = tables_find_table(t, name);
    if (named != 0)
        tables_delete_table(t, named);
    if (tables_table(t, e->id) != NULL)
        tables_delete_table(t, e->id);
}

void lost_end_older(struct tables *t, const struct catalog_entry *e) {
    char name[NAME_LEN_MAX + 1];
    uint32_t len = e->name_len <= NAME_LEN_MAX ? e->name_len : NAME_LEN_MAX;
    memcpy(name, e->name, len);
    name[len] = 0;
    for (int i = 0; i < 2; i++) {
        uint32_t id = e->id;
        if (i == 1)
            id = e->op == CATALOG_STREAM     ? tables_find_stream(t, name)
                 : e->op == CATALOG_PRODUCER ? tables_find_producer(t, name)
                                             : tables_find_processor(t, name);
        if (e->op == CATALOG_STREAM && tables_stream(t, id) != NULL)
            tables_delete_stream(t, id);
        else if (e->op == CATALOG_PRODUCER && tables_producer(t, id) != NULL)
            tables_remove_producer(t, id);
        else if (e->op == CATALOG_PROCESSOR && tables_has_processor(t, id))
            tables_forget(t, id);
    }
}
