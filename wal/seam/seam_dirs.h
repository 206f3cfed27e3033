/* SPDX-License-Identifier: Apache-2.0
 *
 * seam_dirs.h - directories: one is made under one name beside others, filled, and gets its real
 * name in one step. Only for what isn't part of a log's own work (savepoints); the simulator has
 * none of it. Blocking; any thread, one at a time. All functions return -errno on failure.
 */
#ifndef PAWL_WAL_SEAM_DIRS_H
#define PAWL_WAL_SEAM_DIRS_H

#include "wal/seam/seam.h"

/* The directory that holds the one that a path names. */
struct seam_above;
/* *name: the last part of the path, which lives as long as *out. -EINVAL: it has none that could
 * be made (".", "..", "/"). Symbolic links on the way are followed as seam_create() does. */
PAWL_CHECKED int seam_above_open(const char *path, struct seam_above **out, const char **name);
void seam_above_close(struct seam_above *a); /* NULL is allowed */
/* Is there anything of this name? 1, or 0. */
PAWL_CHECKED int seam_above_there(struct seam_above *a, const char *name);
/* Makes a directory, of mode 0700. -EEXIST. */
PAWL_CHECKED int seam_above_make(struct seam_above *a, const char *name);
/* Removes an empty directory. -ENOTEMPTY. */
PAWL_CHECKED int seam_above_remove(struct seam_above *a, const char *name);
/* Durable on return. -EEXIST if `to` is there: nothing is replaced. */
PAWL_CHECKED int seam_above_rename(struct seam_above *a, const char *from, const char *to);
/* Opens a directory in it; no symbolic link is followed. */
PAWL_CHECKED int seam_above_enter(struct seam_above *a, const char *name, struct seam **out);
/* Is it the directory of `s`, or does it lie anywhere below it? 1, or 0. */
PAWL_CHECKED int seam_above_within(struct seam_above *a, struct seam *s);
/* Is the directory of `s` the one that has this name now? 1, or 0. */
PAWL_CHECKED int seam_above_is(struct seam_above *a, const char *name, struct seam *s);

/* A file's lock, as the writer's: held until seam_claim_end() or the end of the process. Returns
 * what seam_claim_end() takes. -EWOULDBLOCK: somebody has it. -ENOENT also if the file has lost its
 * name meanwhile. */
PAWL_CHECKED int seam_claim(struct seam *s, const char *name);
void seam_claim_end(int claim); /* a negative one is none */

#endif
