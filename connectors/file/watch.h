/* SPDX-License-Identifier: Apache-2.0
 *
 * Reports changes of a file or a directory by inotify(7), which saves polling. For one thread.
 *
 * Some changes are not reported: writes by another machine on a shared file system, writes through
 * a mapping, and a new target of a symbolic link. Only file systems known to report all of their
 * own changes are watched, and the caller must still look now and then (WATCH_LOOK_MS).
 */
#ifndef PAWL_CONNECTORS_WATCH_H
#define PAWL_CONNECTORS_WATCH_H

#include <stdbool.h>

#define WATCH_LOOK_MS 2000
/* The path may lead to another directory by now, so the watch is renewed this often. */
#define WATCH_AGAIN_MS 30000

struct watch {
    int fd; /* inotify; -1: none */
    int directory;
};
#define WATCH_INIT \
    { -1, -1 }

/* Watches a directory for names that appear (created or renamed), and with `contents` also for
 * changes of the files in it. A repeated call follows the path to where it leads now. Returns -1 if
 * it can't be watched, 1 if the watch is new, so that the caller must look once more before it
 * waits, 0 if it was watched already. */
int watch_directory(struct watch *w, const char *path, bool contents);
/* The same for an open file: written, truncated, renamed or removed. *wd is -1 at first, and then
 * names this watch. */
int watch_file(struct watch *w, int fd, int *wd);
/* Ends the watch of a file. Safe with -1. */
void watch_forget(struct watch *w, int *wd);
/* Drops the changes reported so far. True: one of them was of a name in the directory that begins
 * with `prefix`, or some were not reported. */
bool watch_clear(struct watch *w, const char *prefix);
void watch_end(struct watch *w);

#endif
