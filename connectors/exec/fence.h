/* SPDX-License-Identifier: Apache-2.0
 *
 * The fence around a program's run (PAWL-15): before work is repeated, every process that an
 * earlier run started for the same work has ended. pawl may have been killed, so nothing can be
 * remembered; the processes themselves carry the marks:
 *
 *   the environment   PAWL_FENCE=TOKEN, which every descendant inherits, also one that has left its
 *                     session and closed its descriptors
 *   a lock            a socket bound to an abstract name made from the token, which every
 *                     descendant inherits too, also one that has cleared its environment. The name
 *                     is free once nobody holds the socket. No file can be left over or taken away.
 *                     A socket of another user's under that name is not ours, and doesn't count
 *   the parent        the program gets SIGKILL when pawl dies (see child.c)
 *
 * A token names the log, the sink or processor, the stream, the partition and the first offset:
 * what a program leaves behind on purpose after it has succeeded is not touched, since its batch is
 * not repeated.
 *
 * What can't be fenced: a process that has cleared its environment and closed its descriptors, and
 * whatever runs on another machine or is started by another program on request (ssh, cron, at,
 * systemd-run, a container engine).
 */
#ifndef PAWL_CONNECTORS_FENCE_H
#define PAWL_CONNECTORS_FENCE_H

#include "connectors/runtime/connect.h"

#define FENCE_TOKEN_SIZE 160

/* Which work this is; each string is valid during the call. */
void fence_token(char out[FENCE_TOKEN_SIZE], const uint8_t log_id[16], const char *name,
                 uint32_t stream, uint32_t partition, uint64_t from);
/* The variable for the program's environment, the outer one of a nested pawl included. */
void fence_variable(const char *token, char *out, size_t size);

/* Waits until no process carries the token, at most wait_ms; `end` kills them first. Returns 0, or
 * 1 with the processes that are left in *why. */
int fence_wait(const char *token, bool end, uint64_t wait_ms, char *why, size_t size);
/* Takes the lock for a run. The descriptor is closed in programs that are run (close-on-exec). -1:
 * somebody holds it (errno EADDRINUSE), or there are no such sockets here. */
int fence_lock(const char *token);

/* Up to where the runs of each partition have succeeded since this process began. A run that begins
 * there has no predecessor, so that nothing has to be looked for. */
struct fence_memory {
    pthread_mutex_t mutex;
    struct fence_done {
        uint32_t stream, partition;
        uint64_t to;
    } * items;
    size_t count;
};
void fence_memory_init(struct fence_memory *m);
void fence_memory_free(struct fence_memory *m);
bool fence_follows(struct fence_memory *m, uint32_t stream, uint32_t partition, uint64_t from);
/* The run of [.., to) has succeeded; FENCE_UNSURE: a run has failed. */
void fence_done(struct fence_memory *m, uint32_t stream, uint32_t partition, uint64_t to);
#define FENCE_UNSURE UINT64_MAX

#endif
