/* SPDX-License-Identifier: Apache-2.0
 *
 * tables.h - the log's small tables: streams with next offsets, producers, processors, positions,
 * decisions, settings, and what the log says of keyed state (tables_state.h). Only applying frames
 * changes them, in the same way for commit, recovery and followers. Each segment's checkpoint holds
 * them whole.
 */
#ifndef PAWL_PIPELINE_TABLES_H
#define PAWL_PIPELINE_TABLES_H

#include "pipeline/limits.h"
#include "pipeline/lookup.h"
#include "pipeline/spill_refs.h"
#include "pipeline/tables_state.h"
#include "pipeline/work.h"
#include "wal/error.h"
#include "wal/format.h"
#include "wal/mem.h"

struct partition {
    uint64_t next;     /* offset of the next record appended */
    uint64_t last_end; /* end LSN of the last commit that has records here */
    uint64_t safe;     /* records below this were durable when a later commit was made */
    /* records below this are durable once mid_end is: one commit in flight, so that `safe` keeps
     * up */
    uint64_t mid;
    uint64_t mid_end;
    uint64_t base;                /* `next` when the active segment began */
    uint64_t first;               /* oldest offset kept, if known: locate_first() */
    uint64_t index_lsn;           /* of the last index entry in the active segment; 0: none */
    uint64_t least;               /* the lowest position of a processor here: tables_find_least() */
    uint32_t watchers;            /* readers of several partitions that read this one: any.c */
    uint32_t workers[WORK_KINDS]; /* those that process it, as bits: work.h */
};
struct stream {
    uint32_t id; /* first in each row that has one */
    uint32_t partitions;
    uint32_t positions; /* the first row of a position in it, + 1; 0: none */
    char name[NAME_LEN_MAX + 1];
    struct partition *parts;
};
struct producer {
    uint32_t id;
    uint32_t epoch;
    uint64_t sequence;
    uint32_t stream, partition;
    uint64_t offset;
    uint32_t cookie_len;
    uint8_t cookie[COOKIE_MAX];
    char name[NAME_LEN_MAX + 1];
};
struct processor_row {
    uint32_t id;
    uint32_t positions; /* its first row, + 1; 0: none */
    char name[NAME_LEN_MAX + 1];
};
struct position_row {
    uint32_t processor, stream, partition;
    /* other rows of the same processor, and of the same stream; + 1 */
    struct position_links {
        uint32_t before, after;
    } of_processor, of_stream;
    uint64_t offset;
};
struct decision_row {
    uint32_t processor;
    uint16_t name_len; /* 0: finished, and the row is not removed yet */
    char name[SINK_NAME_MAX];
};
struct span_row {
    uint64_t segment, oldest;
};

/* What lost areas have held. */
struct loss {
    uint64_t commits, changes;           /* those that are known exactly */
    uint64_t unknown;                    /* areas of which it isn't known */
    uint64_t commits_most, changes_most; /* and what they have held at most */
};

struct tables {
    struct mem *mem;
    uint64_t segment_size;
    uint64_t watched_end; /* end LSN of the last commit with records of a watched partition */
    /* bits of the workers that process a partition of the last commit */
    uint32_t touched[WORK_KINDS];
    struct stream **streams; /* these three: ascending by id */
    uint32_t stream_count, stream_cap;
    uint32_t partition_count;
    struct producer **producers;
    uint32_t producer_count, producer_cap;
    struct processor_row **processors;
    uint32_t processor_count, processor_cap;
    struct state_tables state;      /* tables of keyed state, and the files that hold it */
    struct lookup names[4];         /* ids by name: streams, producers, processors, tables */
    struct position_row *positions; /* by row; in order after tables_sort_positions() */
    uint32_t position_count, position_cap;
    bool positions_sorted;
    struct lookup position_lookup;
    struct decision_row *decisions; /* in the order in which they were made, finished ones too */
    uint32_t decision_rows, decision_cap;
    uint32_t decision_count; /* of the open ones */
    uint32_t decision_first; /* rows before this one are finished */
    struct lookup decision_lookup;
    struct span_row *spans; /* ascending */
    uint32_t span_count, span_cap;
    struct spill_refs spills;
    uint64_t retain_bytes, retain_ms;
    bool consumed;
    /* set since the last checkpoint; otherwise the value in the segment's header counts */
    bool disk_cap_set;
    uint64_t disk_cap;
    uint64_t rows_bytes; /* a checkpoint's body, but for what tables_size() adds */
    uint64_t commits, records;

    /* The next ids, which no row ever had, and what the log has had so far (docs/format.md, section
     * 9); all changed in lost.c and where frames are applied. */
    struct c_ids ids;
    struct age_stamp age; /* the last one seen */
    uint64_t epoch;       /* of the last frame; 0: none yet */
    uint64_t epoch_from;  /* where that incarnation began; 0: before the first frame seen */
    bool begun;           /* a checkpoint was applied, or what damage left of the oldest one */
    bool past_unknown;    /* no checkpoint since: a partition begins where it is first mentioned */
    bool counted;         /* ids.commits and ids.changes are known */
    uint32_t counts;      /* of them, as the next frame of a segment that counts says them */
    /* of the lost area that the last frame applied belongs to: its bytes, and whether something
     * followed when it was repaired */
    uint64_t area_bytes;
    bool area_open;
    struct loss loss; /* all that was found lost so far */
    /* LSN of the frame after the last area that may have held commits, since the last checkpoint */
    uint64_t lost_end;
};

/* Room for one more of `count` elements in a growing array, whose new elements are zeros. */
PAWL_CHECKED int tables_grow(struct mem *m, void **array, uint32_t count, uint32_t *cap,
                             size_t each);
void tables_init(struct tables *t, struct mem *m, uint64_t segment_size);
void tables_free(struct tables *t);

/* Changes of rows by the frames applied (apply.c). PAWL_DAMAGED for an impossible change. */
PAWL_CHECKED int tables_add_stream(struct tables *t, uint32_t id, uint32_t partitions,
                                   const char *name, uint32_t name_len);
/* Removes a stream and every position in it. */
void tables_delete_stream(struct tables *t, uint32_t id);
/* Gives a stream more partitions (lost.c). */
PAWL_CHECKED int tables_grow_stream(struct tables *t, struct stream *s, uint32_t partitions);
PAWL_CHECKED int tables_add_producer(struct tables *t, uint32_t id, const char *name,
                                     uint32_t name_len);
PAWL_CHECKED int tables_add_processor(struct tables *t, uint32_t id, const char *name,
                                      uint32_t name_len);
void tables_forget(struct tables *t, uint32_t processor);
void tables_remove_producer(struct tables *t, uint32_t id);
/* Another name for what has the id. It must be there. */
PAWL_CHECKED int tables_rename(struct tables *t, enum catalog_kind kind, uint32_t id,
                               const char *name, uint32_t name_len);
PAWL_CHECKED int tables_set_position(struct tables *t, uint32_t processor, uint32_t stream,
                                     uint32_t partition, uint64_t offset);
PAWL_CHECKED int tables_set_decision(struct tables *t, const struct sink_entry *e);
/* The index-th open decision, in the order in which they were made; NULL: there are fewer. */
const struct decision_row *tables_decision_at(struct tables *t, uint32_t index);
void tables_remove_position(struct tables *t, uint32_t row);
/* The rows of positions in order. */
void tables_sort_positions(struct tables *t);
/* Sets `least` of each partition; NO_OFFSET: no processor has a position there. */
void tables_find_least(const struct tables *t);
/* PAWL_DAMAGED for segments that don't ascend. */
PAWL_CHECKED int tables_set_span(struct tables *t, uint64_t segment, uint64_t oldest);
/* Removes the spans of segments below `first`, which have been dropped. */
void tables_drop_spans(struct tables *t, uint64_t first);

/* Rows of the four kinds that have an id and a name (tables.c). A row for an id that has none:
 * zeros but for id and name. */
PAWL_CHECKED int tables_row_insert(struct tables *t, enum catalog_kind kind, uint32_t id,
                                   const char *name, uint32_t name_len, void **out);
/* It must be there; its memory is the caller's. */
void *tables_row_remove(struct tables *t, enum catalog_kind kind, uint32_t id);
/* The row of an id in an array of pointers to rows, ascending; NULL: there is none. */
void *tables_row_find(const void *rows, uint32_t count, uint32_t id);

/* Reserves room for the most that a frame can add, so that applying it can't run out of memory.
 * Doesn't cover what its catalog changes create. */
PAWL_CHECKED int tables_reserve(struct tables *t, uint32_t positions, uint32_t decisions);
/* Applies a frame (apply.c). `lost`: damage was skipped, so offsets and positions may jump.
 * PAWL_DAMAGED if the frame contradicts the tables, PAWL_VERSION for a run that must be known. */
PAWL_CHECKED int tables_apply(struct tables *t, const struct frame_header *h, const uint8_t *frame,
                              bool lost);
/* Why it can't: the frame says what can't be, or a newer version wrote it. */
PAWL_CHECKED int apply_damaged(const struct frame_header *h, const char *what);
PAWL_CHECKED int apply_unknown(const struct frame_header *h, const char *what, uint32_t op);
/* Writes the checkpoint of the tables: at most 16 runs with their start and len, and the body. */
PAWL_CHECKED int tables_checkpoint(struct tables *t, struct bytes *body, struct run *runs,
                                   uint32_t *count);
uint64_t tables_size(const struct tables *t); /* of its body */
/* As they are written: a log without tables says nothing of the next one. */
struct c_ids tables_next_ids(const struct tables *t);

/* One past the newest record of a partition that is known to be durable when everything below LSN
 * `durable` is. */
uint64_t tables_durable_next(const struct partition *p, uint64_t durable);
struct stream *tables_stream(const struct tables *t, uint32_t id);
uint32_t tables_find_stream(const struct tables *t, const char *name);    /* id or 0 */
uint32_t tables_find_producer(const struct tables *t, const char *name);  /* id or 0 */
uint32_t tables_find_processor(const struct tables *t, const char *name); /* id or 0 */
uint32_t tables_find_table(const struct tables *t, const char *name);     /* id or 0 */
struct producer *tables_producer(const struct tables *t, uint32_t id);
struct processor_row *tables_processor(const struct tables *t, uint32_t id);
bool tables_has_processor(const struct tables *t, uint32_t id);
const char *tables_processor_name(const struct tables *t, uint32_t id); /* NULL: no such id */
struct position_row *tables_position(const struct tables *t, uint32_t processor, uint32_t stream,
                                     uint32_t partition);
struct decision_row *tables_decision(const struct tables *t, uint32_t processor, const char *name,
                                     uint16_t len);
/* Is the checkpoint of the tables within the limit of a log that is read? 0, or PAWL_LIMIT. */
PAWL_CHECKED int tables_fit(const struct tables *t);
/* May a checkpoint of the tables grow by `bytes`? 0, or PAWL_LIMIT. */
PAWL_CHECKED int tables_room(const struct tables *t, uint64_t bytes);
/* Begins a segment: resets the bases and the places of index entries. */
void tables_begin_segment(struct tables *t);
bool name_allowed(const char *name);
/* Is it a name that damage gives: lost-N? */
bool name_lost(const char *name);

/* ---- lost.c: what damage means for the tables (docs/format.md, section 9) */

/* Judges a frame's counts before it is applied, and what was lost if they are ahead. `lost`: damage
 * was passed since the last checkpoint. */
PAWL_CHECKED int lost_judge(struct tables *t, const struct frame_header *h, const uint8_t *frame,
                            bool lost);
/* Would lost_judge() find nothing? So it is with nearly every frame. */
static inline bool lost_nothing(const struct tables *t, const struct frame_header *h) {
    return h->ids != NULL && (h->flags & FRAME_FLAGS_COUNTS) == t->counts && t->counted &&
           t->area_bytes == 0 && h->kind != FRAME_LOST;
}
/* The log ends here: what an area at its end has held is unknown. Before a writer goes on. */
void lost_at_end(struct tables *t);
/* The row of an id that no frame has made, with a name that damage gives, if there is none yet. */
PAWL_CHECKED int lost_stream(struct tables *t, uint32_t id, uint32_t partition);
PAWL_CHECKED int lost_processor(struct tables *t, uint32_t id);
PAWL_CHECKED int lost_producer(struct tables *t, uint32_t id);
PAWL_CHECKED int lost_table(struct tables *t, uint32_t id, uint32_t partition);
/* A catalog change creates something after damage: ends what has the same id or name. */
void lost_end_older(struct tables *t, const struct catalog_entry *e);
void lost_end_older_table(struct tables *t, const struct table_entry *e);

#endif
