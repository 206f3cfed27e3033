/* SPDX-License-Identifier: Apache-2.0
 *
 * Is the database that is open still the one that has its name? SQLite goes on in a file that was
 * removed or renamed, or whose -wal file was; what it commits there is gone with the last
 * connection. So a sink looks before and after each commit.
 *
 *   what happened                             what is seen                      place_look()
 *   file removed, renamed                     no such name                      CHANGED
 *   another file renamed onto it              another inode under the name      CHANGED
 *   a link on the way switched                the same                          CHANGED
 *   its directory replaced                    the same                          CHANGED
 *   any of these, and the old -wal is left    and the -wal's inode is still     MIXED: SQLite would
 *     beside the new file                     that of ours                      apply it to the new
 *                                                                               file
 *   -wal or -shm removed or replaced          another inode there, or none      CHANGED
 *   written over in place (cp), with a -wal   a change counter below one seen   MIXED
 *                                             before
 *   written over in place, without a -wal     nothing here: SQLite itself drops SAME
 *                                             its cache, and the position is
 *                                             another one
 */
#ifndef PAWL_CONNECTORS_PLACE_H
#define PAWL_CONNECTORS_PLACE_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Before SQLite opens anything: the path without links, if others have planted nothing under it or
 * under the names of the files beside it, which SQLite opens by itself. Links on the path are
 * followed as reach.h says. With `create`, makes an empty file if none is there, with the mode
 * (`exact`: whatever the umask is); SQLite gives the others the mode of the database. The caller
 * frees it. NULL with errno, and *end says which file it is: "", "-wal", "-shm" or "-journal". */
char *place_reach(const char *path, bool create, mode_t mode, bool exact, const char **end);

enum place_state { PLACE_SAME, PLACE_CHANGED, PLACE_MIXED };

struct place_file {
    dev_t dev;
    ino_t ino; /* 0: there is none */
};

/* Belongs to one connection. */
struct place {
    bool wal; /* the journal is a -wal file */
    struct place_file file, log, shared;
    uint32_t counter; /* the largest change counter seen in the file's header */
    /* a -wal file that outlived the name of the file that it belongs to; ino 0: none */
    struct place_file left_file, left_log;
    char left_name[4200];
};

/* Before opening again: does a file that has the name now stand beside the -wal of the one before?
 * CHANGED: there is no file yet. */
enum place_state place_before(const struct place *p, const char *path, const char **why);
/* Remembers what the open database is. False: the file under `path` is not the one that is open. */
bool place_take(struct place *p, sqlite3 *db, const char *path);
/* Compares; *why gets a text that fits after "FILE ". */
enum place_state place_look(struct place *p, sqlite3 *db, const char *path, const char **why);

#endif
