/* SPDX-License-Identifier: Apache-2.0
 *
 * tables_state.h - what the log says of keyed state: tables, with what each of their partitions
 * holds after the newest commit (a digest, and how much), the files that hold it (runs), and up to
 * which LSN those have it. The pairs themselves are not here.
 */
#ifndef PAWL_PIPELINE_TABLES_STATE_H
#define PAWL_PIPELINE_TABLES_STATE_H

#include "wal/error.h"
#include "wal/format.h"

#define STATE_NS_PER_MS UINT64_C(1000000)

struct tables;

struct state_part {
    struct state_sum sum; /* digest, pairs, bytes */
    uint64_t commits;     /* that have changed it */
    uint64_t changed_lsn; /* of the newest one seen; 0: none was */
    /* What damage took (docs/format.md, section 9): */
    bool lost; /* changes are lost, and no file has them */
    /* 0, or changes below this are missing in the frames; a file may have them */
    uint64_t lost_lsn;
    /* 0, or as lost_lsn, but perhaps nothing is missing: the partition's next frame tells */
    uint64_t doubt_lsn;
};
/* Isn't it known what the partition holds? Then it can't be read, nor changed. */
static inline bool state_lost(const struct state_part *p) {
    return p->lost || p->lost_lsn != 0 || p->doubt_lsn != 0;
}
struct state_table {
    uint32_t id;    /* first, as in the other rows */
    uint32_t owner; /* processor; 0: its creation is lost */
    uint32_t partitions, version, flags;
    uint64_t ttl_ms;
    char name[NAME_LEN_MAX + 1];
    struct state_part *parts;
};
/* Does the pipeline keep it for itself? No program can give a name that begins so. */
#define TABLE_INTERNAL_MARK '~'
static inline bool state_internal(const struct state_table *t) {
    return t->name[0] == TABLE_INTERNAL_MARK;
}
struct run_row {
    uint32_t id, level;
    uint64_t flush_lsn, bytes;
    uint64_t header_hash; /* 0: an earlier version has named it, and it isn't known */
};
/* Called for each STATE run that is applied, with the whole run: state_sum_decode(), then
 * state_change_decode() up to `len`. An error ends what applies the frame. For a writer's own
 * frame, which is in the log already, there must be none. */
typedef int (*state_fn)(void *ctx, const struct state_table *table, uint32_t partition,
                        uint64_t lsn, const uint8_t *data, uint32_t len);
/* A table's row is about to go. */
typedef void (*state_gone_fn)(void *ctx, const struct state_table *table);

struct state_tables {
    struct state_table **tables; /* ascending by id */
    uint32_t count, cap;
    uint32_t partition_count;
    uint32_t expiring; /* tables whose pairs may expire */
    /* While there is one: the latest time of a COMMIT or CHECKPOINT, ms since 1970. The clock by
     * which pairs expire is never behind it. */
    uint64_t clock_ms;
    struct run_row *runs; /* ascending by id */
    uint32_t run_count, run_cap;
    uint32_t next_run;   /* id */
    uint64_t flush_lsn;  /* the runs have all changes up to the frame at this LSN; 0: none */
    uint64_t replay_max; /* as the newest writer's checkpoint says; 0: not known */
    bool any;            /* the log has a table, or has had one */
    bool doubted;        /* a partition has a lost_lsn or doubt_lsn */
    state_fn hook;       /* NULL: the pairs are ignored */
    state_gone_fn gone;
    void *ctx; /* of both */
};

void tables_state_free(struct tables *t);
struct state_table *tables_table(const struct tables *t, uint32_t id);
/* Changes of rows by frames applied, as in tables.h. */
PAWL_CHECKED int tables_add_table(struct tables *t, const struct table_entry *e);
/* Gives a table more partitions (lost.c). */
PAWL_CHECKED int tables_grow_table(struct tables *t, struct state_table *s, uint32_t partitions);
void tables_delete_table(struct tables *t, uint32_t id);
/* A processor goes. */
void tables_delete_owned(struct tables *t, uint32_t processor);
/* The first table that the processor owns, an internal one if it has no other; or NULL. */
const struct state_table *tables_owned(const struct tables *t, uint32_t processor);
/* What a checkpoint grows by with a table. */
uint64_t tables_table_bytes(uint32_t name_len, uint32_t partitions);

/* Room for one more file, so that applying can't run out of memory. */
PAWL_CHECKED int state_reserve(struct tables *t);
/* A TABLES or STATE run of a commit. */
PAWL_CHECKED int state_apply_tables(struct tables *t, const struct frame_header *h,
                                    const struct run *r, const uint8_t *data, bool lost);
PAWL_CHECKED int state_apply_changes(struct tables *t, const struct frame_header *h,
                                     const struct run *r, const uint8_t *data, bool lost);
/* The entry at *at of a checkpoint's run. 1: loaded, 0: it doesn't fit its run, negative: error. */
int state_load_entry(struct tables *t, const struct run *r, const uint8_t *data, uint32_t *at);
static inline bool state_loads(uint16_t type) {
    return (type >= RUN_C_TABLES && type <= RUN_C_STATE) || type == RUN_C_RUN_HASHES;
}
/* Hashes that `old` knows of the same files, and `t` doesn't: an earlier version's checkpoint has
 * none. */
void state_keep_hashes(struct tables *t, const struct tables *old);
/* Do the runs of a checkpoint agree with each other? */
PAWL_CHECKED int state_check_loaded(const struct tables *t, const struct frame_header *h);
/* A COMMIT or CHECKPOINT says a time. */
static inline void state_note_time(struct state_tables *s, uint64_t time_ns) {
    uint64_t ms = time_ns / STATE_NS_PER_MS;
    if (s->expiring != 0 && ms > s->clock_ms)
        s->clock_ms = ms;
}
/* A checkpoint at `lsn` was loaded in the place of `old`: what it says of what was lost before. */
void state_loaded(struct tables *t, const struct tables *old, uint64_t lsn, bool lost);
/* A position of the processor jumped: what its tables hold there is in doubt. */
void state_doubt(struct tables *t, uint32_t processor, uint32_t partition);

#endif
