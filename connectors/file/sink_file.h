/* SPDX-License-Identifier: Apache-2.0
 *
 * What the files of the file sink share. In the target directory, for each partition:
 *
 *   SINK-STREAM-PARTITION-FIRST.log   visible files; FIRST is the offset of the first record, 20
 *                                     digits
 *   .SINK-STREAMID-PARTITION-FIRST.part   the hidden file that grows; its first `length` bytes are
 *                                         committed, what follows may be prepared
 *   .SINK-STREAMID-PARTITION.state    two slots, written in turn: how long the part is, how far the
 *                                     stream has come, what is prepared
 *
 * A batch is appended to the part and made durable; then a slot says that it is prepared (with its
 * name), later one that it is committed. A part that is large or old enough, and has nothing
 * prepared, becomes visible by a rename between two slots. The state, not the visible files, is
 * what recovery goes by: whoever consumes them may move them away at any time.
 */
#ifndef PAWL_CONNECTORS_SINK_FILE_H
#define PAWL_CONNECTORS_SINK_FILE_H

#include "connectors/runtime/connect.h"

#define FILE_NONE UINT64_MAX
#define FILE_SLOT 1024u
#define FILE_SLOT_APART 4096u /* each in a block of its own: a torn write harms one */

struct file_state {
    uint64_t seq; /* of the slot: the higher one holds */
    uint8_t log_id[16];
    char stream[128];                      /* name */
    uint64_t first;                        /* names the part; FILE_NONE: there is none */
    uint64_t length;                       /* committed bytes of the part */
    uint64_t to;                           /* one past the last committed record */
    int64_t begun_ns;                      /* of the part */
    uint32_t rotating;                     /* the part is being renamed */
    char prepared[200];                    /* name of the batch; "" none */
    uint64_t prepared_to, prepared_length; /* as to and length will be */
};

/* Encodes a state into a slot, NUL-padded. */
void file_state_encode(const struct file_state *s, char slot[FILE_SLOT]);
/* False: no valid slot. */
bool file_state_decode(struct file_state *s, const char slot[FILE_SLOT]);

/* Reads both slots of an open state file and takes the newer valid one. 0, -1 with errno, 1:
 * neither is valid. */
int file_state_read(int fd, struct file_state *s);
/* Writes the next slot, durably. 0, or -1 with errno. */
int file_state_write(int fd, struct file_state *s);
/* Makes a state file, all at once, durably but for the directory. Its descriptor, or -1 with
 * errno. */
int file_state_create(int dir, const char *name, struct file_state *s);

#endif
