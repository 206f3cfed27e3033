/* SPDX-License-Identifier: Apache-2.0
 *
 * What the log says of keyed state: rows of tables and of the files that hold their pairs, changed
 * by TABLES and STATE runs of commits, and loaded from checkpoints. What damage means for them is
 * in docs/format.md, section 9.
 */
#include <assert.h>

#include "pipeline/tables.h"

/* ---- rows of tables */

uint64_t tables_table_bytes(uint32_t name_len, uint32_t partitions) {
    return table_size(name_len) + (uint64_t)partitions * C_DIGEST_SIZE;
}

struct state_table *tables_table(const struct tables *t, uint32_t id) {
    return tables_row_find(t->state.tables, t->state.count, id);
}

int tables_add_table(struct tables *t, const struct table_entry *e) {
    void *row;
    if (e->partitions == 0)
        return fail(PAWL_DAMAGED, "a table has no partition");
    if ((e->flags & ~TABLE_FLAGS_KNOWN) != 0)
        return fail(PAWL_VERSION, "flags 0x%x of a table are not known to this version of Pawl",
                    e->flags);
    TRY(limit_check(LIMIT_TABLE_PARTITIONS, e->partitions));
    TRY(limit_check(LIMIT_STATE_PARTITIONS, (uint64_t)t->state.partition_count + e->partitions));
    struct state_part *parts = mem_alloc(t->mem, e->partitions * sizeof *parts);
    if (parts == NULL)
        return fail(PAWL_MEMORY, "no memory for a table of %u partitions", e->partitions);
    int rc = tables_row_insert(t, KIND_TABLE, e->id, e->name, e->name_len, &row);
    if (rc < 0) {
        mem_free(t->mem, parts, e->partitions * sizeof *parts);
        return rc;
    }
    struct state_table *s = row;
    s->parts = parts;
    s->owner = e->owner;
    s->partitions = e->partitions;
    s->version = e->version;
    s->flags = e->flags;
    s->ttl_ms = e->ttl_ms;
    t->state.partition_count += e->partitions;
    t->state.expiring += (e->flags & TABLE_EXPIRES) != 0;
    t->state.any = true;
    t->rows_bytes += (uint64_t)e->partitions * C_DIGEST_SIZE;
    return 0;
}

int tables_grow_table(struct tables *t, struct state_table *s, uint32_t partitions) {
    uint32_t had = s->partitions, more = partitions - had;
    assert(partitions > had);
    TRY(limit_check(LIMIT_TABLE_PARTITIONS, partitions));
    TRY(limit_check(LIMIT_STATE_PARTITIONS, (uint64_t)t->state.partition_count + more));
    void *parts = mem_grow(t->mem, s->parts, had * sizeof *s->parts, partitions * sizeof *s->parts);
    if (parts == NULL)
        return fail(PAWL_MEMORY, "no memory for a table of %u partitions", partitions);
    s->parts = parts;
    memset(&s->parts[had], 0, more * sizeof *s->parts);
    s->partitions = partitions;
    t->state.partition_count += more;
    t->rows_bytes += (uint64_t)more * C_DIGEST_SIZE;
    return 0;
}

static void free_table(struct tables *t, struct state_table *s) {
    mem_free(t->mem, s->parts, s->partitions * sizeof *s->parts);
    mem_free(t->mem, s, sizeof *s);
}

void tables_delete_table(struct tables *t, uint32_t id) {
    struct state_table *s = tables_table(t, id);
    assert(s != NULL);
    if (t->state.gone != NULL)
        t->state.gone(t->state.ctx, s);
    t->rows_bytes -= (uint64_t)s->partitions * C_DIGEST_SIZE;
    t->state.partition_count -= s->partitions;
    t->state.expiring -= (s->flags & TABLE_EXPIRES) != 0;
    free_table(t, tables_row_remove(t, KIND_TABLE, id));
    assert(t->ids.table > id); /* PAWL-9: the id is never used again */
}

const struct state_table *tables_owned(const struct tables *t, uint32_t processor) {
    const struct state_table *internal = NULL;
    for (uint32_t i = 0; i < t->state.count; i++) {
        const struct state_table *s = t->state.tables[i];
        if (s->owner == processor && !state_internal(s))
            return s;
        if (s->owner == processor)
            internal = s;
    }
    return internal;
}

void tables_delete_owned(struct tables *t, uint32_t processor) {
    const struct state_table *s;
    while ((s = tables_owned(t, processor)) != NULL)
        tables_delete_table(t, s->id);
}

void tables_state_free(struct tables *t) {
    for (uint32_t i = 0; i < t->state.count; i++)
        free_table(t, t->state.tables[i]);
    mem_free(t->mem, t->state.tables, t->state.cap * sizeof(void *));
    mem_free(t->mem, t->state.runs, t->state.run_cap * sizeof *t->state.runs);
}

/* ---- rows of files */

/* What a checkpoint grows by with a file. */
static uint64_t run_bytes(const struct run_row *r) {
    return C_RUN_SIZE + (r->header_hash != 0 ? C_RUN_HASH_SIZE : 0);
}

static uint32_t run_place(const struct state_tables *s, uint32_t id) {
    uint32_t i = s->run_count;
    while (i > 0 && s->runs[i - 1].id >= id)
        i--;
    return i;
}

/* The files have all changes up to the frame at `lsn`. */
static void flushed(struct tables *t, uint64_t lsn) {
    if (lsn <= t->state.flush_lsn)
        return;
    t->state.flush_lsn = lsn;
    if (!t->state.doubted) /* a log may name any number of flushes */
        return;
    t->state.doubted = false;
    for (uint32_t i = 0; i < t->state.count; i++)
        for (uint32_t k = 0; k < t->state.tables[i]->partitions; k++) {
            struct state_part *p = &t->state.tables[i]->parts[k];
            /* whoever wrote it said so first, if it didn't have what the frames lack */
            p->lost_lsn = p->lost_lsn <= lsn ? 0 : p->lost_lsn;
            p->doubt_lsn = p->doubt_lsn <= lsn ? 0 : p->doubt_lsn;
            t->state.doubted |= p->lost_lsn != 0 || p->doubt_lsn != 0;
        }
}

int state_reserve(struct tables *t) {
    struct state_tables *s = &t->state;
    return tables_grow(t->mem, (void **)&s->runs, s->run_count, &s->run_cap, sizeof *s->runs);
}

static int add_run(struct tables *t, const struct run_row *row) {
    struct state_tables *s = &t->state;
    uint32_t i = run_place(s, row->id);
    TRY(limit_check(LIMIT_ID, row->id));
    if (row->id == 0 || row->level >= STATE_RUNS_MAX)
        return fail(PAWL_DAMAGED, "the id or level of a file of state is out of range");
    if (i < s->run_count && s->runs[i].id == row->id)
        return fail(PAWL_DAMAGED, "a file of state was added twice");
    TRY(limit_check(LIMIT_STATE_RUNS, s->run_count + UINT64_C(1)));
    TRY(state_reserve(t));
    memmove(&s->runs[i + 1], &s->runs[i], (s->run_count - i) * sizeof *s->runs);
    s->runs[i] = *row;
    s->run_count++;
    t->rows_bytes += run_bytes(row);
    if (row->id >= s->next_run)
        s->next_run = row->id + 1;
    assert(s->next_run > row->id); /* PAWL-9: a file's name is never used again */
    s->any = true;
    return 0;
}

/* False: there is no such file. */
static bool remove_run(struct tables *t, uint32_t id) {
    struct state_tables *s = &t->state;
    uint32_t i = run_place(s, id);
    if (i == s->run_count || s->runs[i].id != id)
        return false;
    t->rows_bytes -= run_bytes(&s->runs[i]);
    memmove(&s->runs[i], &s->runs[i + 1], (s->run_count - i - 1) * sizeof *s->runs);
    s->run_count--;
    return true;
}

static void set_hash(struct tables *t, struct run_row *r, uint64_t hash) {
    t->rows_bytes -= run_bytes(r);
    r->header_hash = hash;
    t->rows_bytes += run_bytes(r);
}

static int load_hash(struct tables *t, const struct c_run_hash *e) {
    struct state_tables *s = &t->state;
    uint32_t i = run_place(s, e->id);
    if (i == s->run_count || s->runs[i].id != e->id || e->header_hash == 0)
        return fail(PAWL_DAMAGED, "a checkpoint has a hash of a file of state that is not there");
    set_hash(t, &s->runs[i], e->header_hash);
    return 0;
}

void state_keep_hashes(struct tables *t, const struct tables *old) {
    for (uint32_t i = 0; i < t->state.run_count; i++) {
        struct run_row *r = &t->state.runs[i];
        uint32_t k = run_place(&old->state, r->id);
        const struct run_row *o = k < old->state.run_count ? &old->state.runs[k] : NULL;
        if (r->header_hash == 0 && o != NULL && o->id == r->id && o->flush_lsn == r->flush_lsn &&
            o->level == r->level && o->bytes == r->bytes)
            set_hash(t, r, o->header_hash);
    }
}

/* ---- TABLES */

static int apply_create(struct tables *t, const struct frame_header *h, const struct table_entry *e,
                        bool lost) {
    if (!tables_has_processor(t, e->owner)) {
        if (!lost)
            return apply_damaged(h, "a table of a processor that was never created");
        TRY(lost_processor(t, e->owner));
    }
    return tables_add_table(t, e);
}

static int apply_flush(struct tables *t, const struct frame_header *h,
                       const struct table_entry *e) {
    if (e->a >= h->lsn)
        return apply_damaged(h, "a file of state is said to hold later changes");
    if (e->op == TABLE_RUN_ADDED)
        TRY(add_run(t, &(struct run_row){e->id, e->owner, e->a, e->b, e->ttl_ms}));
    t->state.any = true;
    flushed(t, e->a);
    return 0;
}

/* A change of what is there. What damage took with its creation isn't. */
static int apply_change(struct tables *t, const struct frame_header *h, const struct table_entry *e,
                        bool lost) {
    struct state_table *s = tables_table(t, e->id);
    if (s == NULL)
        return lost ? 0 : apply_damaged(h, "a change of a table that was never created");
    if (e->op == TABLE_DELETE)
        tables_delete_table(t, e->id);
    else if (e->op == TABLE_VERSION)
        s->version = e->version;
    else if (e->partitions < s->partitions)
        s->parts[e->partitions].lost = true;
    else
        return apply_damaged(h, "a partition that its table doesn't have");
    return 0;
}

/* A table takes the place of another one, which goes. */
static int apply_replaces(struct tables *t, const struct frame_header *h,
                          const struct table_entry *e, bool lost) {
    struct state_table *s = tables_table(t, e->id);
    bool there = e->a <= UINT32_MAX && tables_table(t, (uint32_t)e->a) != NULL;
    if (e->a == e->id || ((s == NULL || !there) && !lost))
        return apply_damaged(h, "a table takes the place of one that was never created");
    if (there)
        tables_delete_table(t, (uint32_t)e->a);
    if (s == NULL)
        return 0;
    char name[NAME_LEN_MAX + 1];
    memcpy(name, e->name, e->name_len); /* table_decode() has bounded it */
    name[e->name_len] = 0;
    uint32_t named = tables_find_table(t, name);
    if (named == e->id)
        return 0;
    if (named != 0 && !lost)
        return apply_damaged(h, "a table takes the name of another one");
    if (named != 0)
        tables_delete_table(t, named);
    return tables_rename(t, KIND_TABLE, e->id, e->name, e->name_len);
}

static int apply_entry(struct tables *t, const struct frame_header *h, const struct table_entry *e,
                       bool lost) {
    switch (e->op) {
    case TABLE_CREATE:
        /* the change that ended what has its name or id may be lost */
        if (lost)
            lost_end_older_table(t, e);
        return apply_create(t, h, e, lost);
    case TABLE_DELETE:
    case TABLE_VERSION:
    case TABLE_LOST:
        return apply_change(t, h, e, lost);
    case TABLE_REPLACES:
        return apply_replaces(t, h, e, lost);
    case TABLE_RUN_ADDED:
    case TABLE_FLUSHED:
        return apply_flush(t, h, e);
    case TABLE_RUN_REMOVED:
        return remove_run(t, e->id) || lost
                   ? 0
                   : apply_damaged(h, "a file of state goes that was never added");
    default:
        return apply_unknown(h, "table change", e->op);
    }
}

int state_apply_tables(struct tables *t, const struct frame_header *h, const struct run *r,
                       const uint8_t *data, bool lost) {
    uint32_t at = 0;
    for (uint32_t i = 0; i < r->count; i++) {
        struct table_entry e;
        if (!table_decode(data, r->len, &at, &e))
            return apply_damaged(h, "a table entry does not fit its run");
        TRY(apply_entry(t, h, &e, lost));
    }
    return 0;
}

/* ---- STATE */

int state_apply_changes(struct tables *t, const struct frame_header *h, const struct run *r,
                        const uint8_t *data, bool lost) {
    struct state_table *s = tables_table(t, r->stream);
    struct state_sum sum;
    uint32_t at = 0;
    if (s == NULL || r->partition >= s->partitions) {
        if (!lost)
            return apply_damaged(h, "state of a table or partition that was never created");
        TRY(lost_table(t, r->stream, r->partition));
        s = tables_table(t, r->stream);
    }
    struct state_part *p = &s->parts[r->partition];
    if (!state_sum_decode(data, r->len, &at, &sum) || r->count == 0 ||
        r->count > (r->len - at) / STATE_CHANGE_SIZE_MIN)
        return apply_damaged(h, "changes of state do not fit their run");
    if (p->changed_lsn == h->lsn)
        return apply_damaged(h, "one commit changes a table's partition twice");
    if (r->base != p->commits + 1 && !(lost && r->base > p->commits))
        return apply_damaged(h, "a table's partition misses changes");
    if (r->base != p->commits + 1) {
        p->lost_lsn = t->lost_end != 0 ? t->lost_end : h->lsn;
        t->state.doubted = true;
    }
    p->doubt_lsn = 0; /* it is known now */
    p->commits = r->base;
    p->sum = sum;
    p->changed_lsn = h->lsn;
    return t->state.hook == NULL
               ? 0
               : t->state.hook(t->state.ctx, s, r->partition, h->lsn, data, r->len);
}

void state_doubt(struct tables *t, uint32_t processor, uint32_t partition) {
    for (uint32_t i = 0; t->lost_end != 0 && i < t->state.count; i++) {
        struct state_table *s = t->state.tables[i];
        if ((s->owner == processor || s->owner == 0) && partition < s->partitions) {
            s->parts[partition].doubt_lsn = t->lost_end;
            t->state.doubted = true;
        }
    }
}

/* ---- CHECKPOINT */

static int load_table(struct tables *t, const struct table_entry *e) {
    if (e->op != TABLE_CREATE)
        return fail(PAWL_DAMAGED, "a checkpoint's table is none");
    if (e->owner != 0 && !tables_has_processor(t, e->owner))
        return fail(PAWL_DAMAGED, "a checkpoint's table belongs to no processor");
    return tables_add_table(t, e);
}

static int load_digest(struct tables *t, const struct c_digest *e) {
    struct state_table *s = tables_table(t, e->table);
    if (s == NULL || e->partition >= s->partitions)
        return fail(PAWL_DAMAGED, "a checkpoint names a table's partition that is not there");
    if ((e->flags & ~(uint32_t)DIGEST_LOST) != 0)
        return fail(PAWL_VERSION,
                    "flags 0x%x of a table's partition are not known to this version "
                    "of Pawl",
                    e->flags);
    struct state_part *p = &s->parts[e->partition];
    p->sum = e->sum;
    p->commits = e->commits;
    p->lost = (e->flags & DIGEST_LOST) != 0;
    return 0;
}

int state_load_entry(struct tables *t, const struct run *r, const uint8_t *data, uint32_t *at) {
    union {
        struct table_entry table;
        struct c_digest digest;
        struct c_run run;
        struct c_run_hash hash;
        struct c_state state;
    } e;
    int rc = 0;
    switch (r->type) {
    case RUN_C_TABLES:
        if (!table_decode(data, r->len, at, &e.table))
            return 0;
        rc = load_table(t, &e.table);
        break;
    case RUN_C_DIGESTS:
        if (!c_digest_decode(data, r->len, at, &e.digest))
            return 0;
        rc = load_digest(t, &e.digest);
        break;
    case RUN_C_RUNS:
        if (!c_run_decode(data, r->len, at, &e.run))
            return 0;
        rc = add_run(t, &(struct run_row){e.run.id, e.run.level, e.run.flush_lsn, e.run.bytes, 0});
        break;
    case RUN_C_RUN_HASHES:
        if (!c_run_hash_decode(data, r->len, at, &e.hash))
            return 0;
        rc = load_hash(t, &e.hash);
        break;
    default:
        assert(r->type == RUN_C_STATE);
        if (!c_state_decode(data, r->len, at, &e.state))
            return 0;
        if (e.state.next_run < t->state.next_run)
            rc = fail(PAWL_DAMAGED, "a checkpoint's next file of state is there already");
        t->state.next_run = e.state.next_run;
        t->state.flush_lsn = e.state.flush_lsn;
        t->state.replay_max = e.state.replay_max;
        t->state.any = true;
    }
    return rc < 0 ? rc : 1;
}

int state_check_loaded(const struct tables *t, const struct frame_header *h) {
    uint64_t flush = t->state.flush_lsn;
    bool ok = flush < h->lsn && (t->state.any || t->state.count == 0);
    for (uint32_t i = 0; i < t->state.run_count; i++)
        ok = ok && t->state.runs[i].flush_lsn <= flush;
    return ok ? 0 : apply_damaged(h, "a checkpoint's files of state hold later changes");
}

/* What the checkpoint says of a partition, and what was known of it before. */
static void compare_part(struct state_part *p, const struct state_part *old, uint64_t lost_end,
                         uint64_t flush) {
    static const struct state_part none;
    const struct state_part *o = old != NULL ? old : &none;
    uint64_t lost_lsn = o->lost_lsn;
    if (p->commits > o->commits && lost_end > lost_lsn)
        lost_lsn = lost_end; /* and the doubt was right, if there was one */
    p->lost_lsn = lost_lsn > flush ? lost_lsn : 0;
    p->changed_lsn = p->commits == o->commits ? o->changed_lsn : 0;
}

void state_loaded(struct tables *t, const struct tables *old, uint64_t lsn, bool lost) {
    struct state_tables *s = &t->state;
    uint64_t lost_end = !lost ? 0 : old->lost_end != 0 ? old->lost_end : lsn;
    s->clock_ms = old->state.clock_ms;
    s->doubted = lost || old->state.doubted;
    s->hook = old->state.hook;
    s->gone = old->state.gone;
    s->ctx = old->state.ctx;
    state_keep_hashes(t, old);
    for (uint32_t i = 0; old->begun && i < s->count; i++) {
        const struct state_table *before = tables_table(old, s->tables[i]->id);
        for (uint32_t k = 0; k < s->tables[i]->partitions; k++)
            compare_part(&s->tables[i]->parts[k],
                         before != NULL && k < before->partitions ? &before->parts[k] : NULL,
                         lost_end, s->flush_lsn);
    }
    for (uint32_t i = 0; i < old->state.count && s->gone != NULL; i++)
        if (tables_table(t, old->state.tables[i]->id) == NULL)
            s->gone(s->ctx, old->state.tables[i]);
}
