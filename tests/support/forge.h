/* SPDX-License-Identifier: Apache-2.0
 *
 * forge.h - writes logs that no writer makes: every hash, link and count is right, and what the
 * runs say is up to the test. Only the library's codecs are used, none of its checks.
 *
 *     struct forge f;
 *     forge_begin(&f, dir, 64 * 1024);     segment 0, with an empty checkpoint, and OPEN
 *     forge_run(&f, RUN_CATALOG, 0, 0, 1, 0);
 *     catalog_encode(&f.body, &(struct catalog_entry){...});
 *     forge_frame(&f, FRAME_COMMIT);
 *     forge_end(&f);                       CLOSE, and the files are written
 */
#ifndef PAWL_TESTS_FORGE_H
#define PAWL_TESTS_FORGE_H

#include "wal/format.h"
#include "wal/mem.h"

#define FORGE_RUNS_MAX 65535u

struct forge {
    const char *dir;
    struct mem mem;
    struct segment_header header; /* of the segment being made: may be changed before its frames */
    uint8_t *image;
    uint64_t at; /* LSN of the next frame */
    uint64_t link, epoch, durable;
    uint64_t last_lsn, last_hash; /* of the last frame */
    struct c_ids ids;             /* counted; may be changed */
    struct bytes body;            /* of the frame being made */
    struct run *runs;
    uint32_t run_count;
    bool open_run;
};

/* Makes the directory, and begins segment 0. */
void forge_begin(struct forge *f, const char *dir, uint64_t segment_size);
/* The same, but the first frame is left to the caller. */
void forge_begin_bare(struct forge *f, const char *dir, uint64_t segment_size);
/* Begins a run: its bytes are those added to f->body from now on. */
void forge_run(struct forge *f, uint16_t type, uint32_t stream, uint32_t partition, uint32_t count,
               uint64_t base);
/* Puts the frame made of the runs; room for it is not checked but asserted. Returns its LSN. */
uint64_t forge_frame(struct forge *f, uint8_t kind);
/* A LOST frame of `bytes` that are as damage left them. */
void forge_lost(struct forge *f, uint32_t bytes);
/* Makes the body of the frame at `lsn` wrong. */
void forge_spoil(struct forge *f, uint64_t lsn);
/* Where the next frame would be, and `n` times 80 bytes further on: a header of a frame up to the
 * segment's end, whose body is wrong. */
void forge_nest(struct forge *f, uint32_t n);
/* SEAL, and the header of the next segment: its first frame is left to the caller. */
void forge_next(struct forge *f);
/* CLOSE; writes the last segment. */
void forge_end(struct forge *f);
/* Writes the last segment without CLOSE. */
void forge_cut(struct forge *f);

/* Commits of one catalog change each. */
void forge_stream(struct forge *f, uint32_t id, uint32_t partitions, const char *name);
void forge_processor(struct forge *f, uint32_t id, const char *name);
void forge_producer(struct forge *f, uint32_t id, const char *name);
/* A run of `count` records with empty values; offsets from `base`. */
void forge_records(struct forge *f, uint32_t stream, uint32_t partition, uint32_t count,
                   uint64_t base);

#endif
