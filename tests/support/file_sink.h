/* SPDX-License-Identifier: Apache-2.0
 *
 * A log, and its stream into files: what the tests of the file sink share. The linker leads the
 * system calls of these tests through file_sink.c, where each can be made to fail, or to be the
 * last. Include <cmocka.h> first.
 */
#ifndef TESTS_SUPPORT_FILE_SINK_H
#define TESTS_SUPPORT_FILE_SINK_H

#include <stdbool.h>
#include <stdint.h>

#include "pawl_connect.h"

#define COUNT 40u
enum { KILL_BEFORE, KILL_AFTER, FAIL };

/* What happens at one of the calls on files in the directory. */
extern struct fsink_trap {
    _Atomic int armed; /* all but `left` and `happened` stay as they are while it is */
    char directory[96];
    int mode;
    _Atomic int left; /* calls until it happens */
    int error;
    _Atomic int happened;
    /* names made in the directory, and bytes written to its files, that no sync has followed */
    _Atomic int names, bytes;
} fsink_trap;
/* The file system can't rename without replacing: renameat2() answers EINVAL. */
extern bool fsink_no_replace;
/* Calls in this directory count from now on; until fsink_close(), or no more. */
void fsink_watch(const char *directory);
void fsink_watch_end(void);

/* The directory in which all is made; /tmp if nothing else is set. */
extern const char *fsink_where;

struct files {
    char dir[64], target[96];
    pawl *log;
    uint32_t in;
    pawl_sink *sink;
    pawl_setting settings[8];
    size_t setting_count;
    int32_t on_lost, guarantee;
    uint32_t batch_records;
    uint64_t now_ns;
    char reports[2048]; /* warnings and errors, a line each */
    void (*on_point)(struct files *f, const char *point);
};

void fsink_set(struct files *f, const char *name, const char *value);
void fsink_open_log(struct files *f);
/* A log with COUNT records, n0 to n39; batches of 7, a file for each 60 bytes. */
struct files *fsink_new(void);
void fsink_close(struct files *f);
void fsink_free(struct files *f);
void fsink_add(struct files *f);
/* Drives the sink in a process of its own, which ends at call `nth` in the directory, before or
 * after it (mode: KILL_BEFORE, KILL_AFTER). Returns false if there are not so many calls. Closes
 * the log, and leaves it closed. */
bool fsink_killed(struct files *f, int mode, int nth);
/* Until all is delivered (0), or it has failed for good (< 0); an hour passes with each step that
 * waits. */
int fsink_drive(struct files *f);
/* What all visible files hold, in order of their names; *hidden: how many others there are, the
 * marker and what was set aside apart. */
char *fsink_visible(struct files *f, const char *filter, uint32_t *files, uint32_t *hidden);
/* All records are visible, once and in order, and nothing else is there. */
void fsink_all_there(struct files *f, const char *filter, const char *when);
/* Runs a command; its %s is the directory. */
void fsink_shell(struct files *f, const char *what);
/* Ends with a part that is committed and hidden: a process that is killed at its very end. */
struct files *fsink_hidden(void);
/* The text of the file that was set aside; fails if there is not one. */
char *fsink_aside(struct files *f);

#endif
