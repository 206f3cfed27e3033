/* SPDX-License-Identifier: Apache-2.0
 *
 * What the files of the file sink share. The target directory has for each partition:
 *
 *   SINK-STREAM-PARTITION-FIRST.log   visible files; FIRST is the offset of the first record, 20
 *                                     digits
 *   .SINK-STREAMID-PARTITION-FIRST.part   the hidden file that grows; its first `length` bytes are
 *                                         committed, the bytes after them may be prepared
 *   .SINK-STREAMID-PARTITION.state    two slots, written alternately: the length of the part, the
 *                                     end of the committed records, the prepared batch
 *
 * A batch is appended to the part and made durable. Then a slot records that the batch is prepared,
 * with its name, and a later slot that it is committed. A part that is large or old enough and has
 * no prepared batch becomes visible by a rename between two slots. Recovery relies on the state,
 * not on the visible files: their consumer may move them away at any time.
 */
#ifndef PAWL_CONNECTORS_SINK_FILE_H
#define PAWL_CONNECTORS_SINK_FILE_H

#include "connectors/runtime/connect.h"

#define FILE_NONE UINT64_MAX
#define FILE_SLOT 1024u
#define FILE_SLOT_APART 4096u /* each slot has its own block: a torn write damages only one */

struct file_state {
    uint64_t seq; /* of the slot: the higher one is valid */
    uint8_t log_id[16];
    char stream[128];                      /* name */
    uint64_t first;                        /* names the part; FILE_NONE: no part */
    uint64_t length;                       /* committed bytes of the part */
    uint64_t to;                           /* one past the last committed record */
    int64_t begun_ns;                      /* when the part was begun */
    uint32_t rotating;                     /* the part is being renamed */
    char prepared[200];                    /* name of the batch; "" none */
    uint64_t prepared_to, prepared_length; /* what `to` and `length` become at commit */
};

/* Encodes a state into a slot, NUL-padded. */
void file_state_encode(const struct file_state *s, char slot[FILE_SLOT]);
/* False: no valid slot. */
bool file_state_decode(struct file_state *s, const char slot[FILE_SLOT]);

/* Reads both slots of an open state file and takes the newer valid one. Returns 0, -1 with errno,
 * or 1 if neither is valid. */
int file_state_read(int fd, struct file_state *s);
/* Writes the next slot and makes it durable. Returns 0, or -1 with errno. */
int file_state_write(int fd, struct file_state *s);
/* Creates a state file atomically. The file is durable, its directory entry is not: the caller
 * syncs the directory. Returns the descriptor, or -1 with errno. */
int file_state_create(int dir, const char *name, struct file_state *s);

#endif
