/* SPDX-License-Identifier: Apache-2.0
 *
 * reader.h - a reader of a partition, and what a feed (feed.h) uses of it: the walk over the log's
 * frames, and the pieces that records are given out from.
 */
#ifndef PAWL_PIPELINE_READER_H
#define PAWL_PIPELINE_READER_H

#include "pipeline/engine.h"

#define PINS_MAX 2
#define RECORDS_MAX 16384u /* gathered at once */

struct run_piece { /* a run */
    /* its bytes, which stay where they are until the pieces are dropped; NULL: they are in the
     * reader's `buf`, from `start` on */
    const uint8_t *pinned;
    size_t start;
    uint32_t len, at; /* at: bytes already given out */
    uint32_t count;   /* records left */
    uint64_t offset;  /* of the next one */
    uint64_t lsn;
};

/* Memory for the records of a batch. */
struct record_room {
    pawl_record *records;
    size_t cap;
};

/* What a walk does with a good frame. 1: it has taken all it wants. 0: not all; the walk stays at
 * this frame. Or PAWL_LOST, AWAY, an error. `locked`: the bytes are in the log's memory, and the
 * lock is held. */
enum { AWAY = 2 };
typedef int (*take_fn)(struct pawl_reader *r, const struct frame_header *h, const uint8_t *frame,
                       bool locked);

/* Used by one thread at a time. */
struct pawl_reader {
    uint32_t live; /* HANDLE_LIVE or HANDLE_ENDED */
    pawl *p;
    uint32_t stream, partition, flags;
    take_fn take;
    uint64_t next;       /* offset of the next record to return */
    uint64_t want;       /* offset of the next record to gather */
    uint64_t behind_gap; /* with PAWL_LOST: the offset found instead of `want` */
    uint64_t lsn;        /* where the walk looks next */
    bool linked;         /* the previous frame was taken: the next one must link to it */
    uint64_t link, epoch;
    uint64_t segment; /* of the open scan */
    int file;         /* -1: none open */
    /* the scan is no longer at `lsn`; it is closed as soon as the lock is free */
    bool astray;
    struct away { /* a spilled run that is to be read from disk */
        struct run run;
        struct spilled_entry at;
        uint64_t lsn;
    } away;
    struct spill_refs spills;    /* those taken */
    uint64_t gone_from, gone_to; /* the area of a LOST frame that spilled runs were looked for in */
    struct scan scan;
    struct bytes buf;
    int pins[PINS_MAX]; /* groups of the log's memory that hold the pieces */
    uint32_t pin_count;
    size_t gathered, gathered_records; /* of all pieces */
    struct run_piece *pieces;
    uint32_t piece_count, piece_at, piece_cap;
    struct record_room own;
    struct record_room *room; /* `own`, or its worker's */
};

/* Bytes of runs gathered at once: fewer under a small memory cap. */
static inline size_t gather_bytes(const pawl *p) {
    uint64_t n = p->mem.cap / 64;
    return n > 256u * 1024u || p->mem.cap == 0 ? 256u * 1024u : (size_t)n;
}

/* A reader that is not opened by an application: reads nothing by itself. */
void reader_init(struct pawl_reader *r, pawl *p, uint32_t flags, take_fn take);
/* Without the lock: closes the scan, which may have reads under way. */
void reader_close_file(struct pawl_reader *r);
/* Under the lock, if the reader holds pins: releases the pieces of the last batch. */
void reader_drop_pieces(struct pawl_reader *r);
/* Under the lock: pins the log's memory at an LSN, so that bytes can be returned in place. False if
 * it can't. */
bool reader_pin(struct pawl_reader *r, uint64_t lsn);
/* Adds the records of a run from r->want on, which must be one of them or the next after them.
 * `stays`: the bytes stay where they are until the pieces are dropped. */
PAWL_CHECKED int reader_add_piece(struct pawl_reader *r, const struct run *run, const uint8_t *data,
                                  uint64_t lsn, bool stays);
/* Under the lock: one frame from memory. 1: taken, or moved past it; 0: not in memory; or an answer
 * of r->take. */
PAWL_CHECKED int reader_walk_memory(struct pawl_reader *r, uint64_t limit);
/* Without the lock: one frame from disk. */
PAWL_CHECKED int reader_walk_disk(struct pawl_reader *r, uint64_t limit);
/* Returns up to max of the gathered records, and of these as many as have max_bytes of keys and
 * values, but one at least. */
PAWL_CHECKED int reader_give(struct pawl_reader *r, size_t max, uint64_t max_bytes,
                             pawl_batch *batch);
/* pawl_read() without a wait, for at most max_bytes of keys and values. */
PAWL_CHECKED int reader_read(struct pawl_reader *r, size_t max, uint64_t max_bytes,
                             pawl_batch *batch);
/* Under the lock: the end offset of the partition's records below `limit`, as far as the tables
 * show. */
uint64_t reader_end_below(const struct pawl_reader *r, uint64_t limit);
void record_room_free(pawl *p, struct record_room *room);

#endif
