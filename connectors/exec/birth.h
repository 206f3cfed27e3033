/* SPDX-License-Identifier: Apache-2.0
 *
 * A program is started, with nothing of ours but what is given to it: three descriptors and the
 * fence's lock, an environment, the default signals, a session of its own, limits, no privileges
 * that it could gain, and perhaps another user. Like posix_spawn(), which can't do half of this.
 */
#ifndef PAWL_CONNECTORS_BIRTH_H
#define PAWL_CONNECTORS_BIRTH_H

#include <sys/types.h>

struct child_rules;

struct birth {
    const struct child_rules *rules;
    const char *file; /* of the program; with a slash */
    char **argv, **env;
    int in, out, lock; /* lock: -1: none */
    pid_t parent;      /* these three are birth_give()'s own */
    int descriptors;   /* no descriptor is so large */
    int error;         /* errno of what the new process could not do */
};

/* Returns 0 or an errno; *pid is -1 if the program was not started. */
int birth_give(const struct birth *b, pid_t *pid);

#endif
