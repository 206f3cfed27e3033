/* SPDX-License-Identifier: Apache-2.0
 *
 * Notices that a file or a directory has changed, by inotify(7), so that nobody has to look again
 * and again. One thread.
 *
 * Not everything is told: what another machine writes to a shared file system, what is written
 * through a mapping, and a change of a symbolic link's target. A file system that isn't known to
 * tell all of its own changes is not watched; and who watches looks by himself now and then, too
 * (WATCH_LOOK_MS).
 */
#ifndef PAWL_CONNECTORS_WATCH_H
#define PAWL_CONNECTORS_WATCH_H

#include <stdbool.h>

#define WATCH_LOOK_MS 2000
/* A path may lead to another directory meanwhile: it is watched anew this often. */
#define WATCH_AGAIN_MS 30000

struct watch {
    int fd; /* of inotify; -1: none */
    int directory, file;
};
#define WATCH_INIT \
    { -1, -1, -1 }

/* What to notice of a directory: names that come (made, or renamed), and with `contents` also
 * changes of the files in it. Calling it again follows the path to where it leads now. Returns -1
 * if it can't be watched, 1 if it is watched anew, so that the caller must look once more before he
 * waits, 0 if it was watched already. */
int watch_directory(struct watch *w, const char *path, bool contents);
/* The same for an open file: that it was written, truncated, renamed or removed. Instead of the
 * file watched before. */
int watch_file(struct watch *w, int fd);
/* Forgets what was told so far. */
void watch_clear(struct watch *w);
void watch_end(struct watch *w);

#endif
