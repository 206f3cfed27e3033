/* SPDX-License-Identifier: Apache-2.0
 *
 * damage_log.h - a log with every kind of frame and run type in its oldest kept segment, in
 * one between and in the newest; and its frames, read without the library's recovery.
 */
#ifndef PAWL_TESTS_DAMAGE_LOG_H
#define PAWL_TESTS_DAMAGE_LOG_H

#include "pipeline/engine.h"

#define SEGMENT MIB
#define FRAMES_MAX 400
#define SEGMENTS_MAX 8
enum { OLDEST, MIDDLE, NEWEST, PLACES };

struct dl_frame {
    struct frame_header h;
    uint64_t end;        /* of its bytes, and of the area that repair takes out with it */
    uint64_t changes;    /* of the catalog */
    const uint8_t *data; /* in the image */
    char label[160];     /* kind and types of runs */
};

struct dl_range {
    uint32_t stream, partition;
    uint64_t from, to;
    bool told; /* something later shows it */
};

extern uint8_t *dl_image[SEGMENTS_MAX];
extern uint64_t dl_first, dl_count; /* segments */
extern struct dl_frame dl_frames[FRAMES_MAX];
extern int dl_frame_count;

pawl *dl_open(const char *dir, uint32_t flags);
pawl_tx *dl_begin(pawl *log);
/* A record whose value begins with a number that no other has. */
void dl_put(pawl_tx *tx, uint32_t stream, uint32_t partition, uint32_t len);
void dl_commit(pawl_tx *tx);
/* Makes the log in a directory that isn't there yet. */
void dl_make(const char *good);
/* Reads its segments and frames into what is declared above. */
void dl_read(const char *dir);
void dl_file_name(char path[160], const char *dir, uint64_t segment);
bool dl_read_file(const char *dir, uint64_t segment, uint8_t *out);
int dl_place(uint64_t lsn);
/* The ranges of offsets whose records go with a frame; their number. */
int dl_ranges(int damaged, struct dl_range *out);
/* Names that only the changes which make them mention. */
bool dl_never_mentioned(const char *name, size_t len);

#endif
