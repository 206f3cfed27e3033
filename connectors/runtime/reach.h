/* SPDX-License-Identifier: Apache-2.0
 *
 * The files of connectors lie in directories that other users may write to. Two rules say what a
 * name there may lead to.
 *
 * LINKS. A symbolic link on the way to a file or directory of the settings is followed if and only
 * if root or our own user made it, or its maker owns what it leads to. So nobody can lead Pawl to
 * something that he doesn't own. (A user who owns a file may as well move it there.) User 65534
 * owns nothing here: in a user namespace, it stands for everybody else.
 *
 * OWN FILES. What a connector keeps in a directory it reaches by one name in the open directory:
 *
 *   under the name is             to write     to read    errno
 *   a symbolic link               refused      refused    ELOOP
 *   a directory                   refused      refused    EISDIR
 *   a pipe, a socket, a device    refused      refused    ENOTSUP; it is not opened at all
 *   a file with a second name     refused      read       EMLINK
 *   a file of another user        refused      read       EPERM
 *   a file                        opened       opened
 *
 * Another user is one that is neither root nor our user, nor the owner of the directory. A new file
 * is made under a name that is free (O_EXCL): nothing is followed, and nothing is replaced.
 */
#ifndef PAWL_CONNECTORS_REACH_H
#define PAWL_CONNECTORS_REACH_H

#include <stdbool.h>
#include <sys/stat.h>

/* The descriptors have close-on-exec. -1 with errno; a link that is not followed: ELOOP. */

/* Whose links are followed: REACH_ANY is for an operator who trusts all makers of links. */
enum reach_links { REACH_OWNED, REACH_ANY };
/* Opens a directory. */
int reach_directory(const char *path, enum reach_links links);
/* Opens the directory that the path's last part is in, and makes the last part there if it isn't
 * there: a directory with the mode, less the umask. Its name is durable. */
int reach_make_directory(const char *path, mode_t mode);
/* Opens a regular file to read it. A pipe, socket or device is not opened: ENOTSUP. */
int reach_read(const char *path, enum reach_links links);
/* As stat(). */
int reach_stat(const char *path, enum reach_links links, struct stat *out);
/* The path without links, of a file that may not be there yet; its directory must be. For libraries
 * that open it by themselves. The caller frees it. NULL with errno. */
char *reach_resolve(const char *path);

enum reach_how { REACH_READ, REACH_WRITE };
/* Opens a file of ours by its name in `dir`, for reading, or for reading and writing. */
int reach_own(int dir, const char *name, enum reach_how how);
/* May the file be ours? 0, or -1 with errno as in the table above. */
int reach_is_ours(int dir, const struct stat *file, enum reach_how how);
/* Makes a file and opens it for reading and writing. `exact`: the umask doesn't count. */
int reach_new(int dir, const char *name, mode_t mode, bool exact);
/* Renames within the directory; what has the new name already is never replaced. 0, or -1 with
 * errno. EEXIST: it has kept its name. Where the file system can't do that in one step, a crash in
 * between leaves the file under both names, and the next call with these names finishes it. */
int reach_rename(int dir, const char *from, const char *to);
/* Are the two names those of one file? */
bool reach_one_file(int dir, const char *a, const char *b);
/* Something else than a file of ours has the name. */
bool reach_is_plant(int error);
/* As strerror(), with what an error of this file's means. */
const char *reach_text(int error);

/* The setting `mode` of sinks: 3 octal digits, or 4; NULL: it isn't given. *exact: for reach_new().
 * False: it is none. */
bool reach_mode(const char *text, mode_t *mode, bool *exact);
#define REACH_MODE 0640           /* of new files, less the umask, if the setting isn't given */
#define REACH_DIRECTORY_MODE 0750 /* of new directories, less the umask */

#endif
