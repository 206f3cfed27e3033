/* SPDX-License-Identifier: Apache-2.0
 *
 * For tests of sources: a log in a temporary directory, a source given by type and settings, and
 * access to the records that it appended.
 */
#ifndef PAWL_TESTS_SOURCE_HELP_H
#define PAWL_TESTS_SOURCE_HELP_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "pawl_connect.h"

struct feed {
    char dir[64];   /* holds "log", and the files of the test */
    char path[128]; /* dir/in */
    pawl_options options;
    pawl *log;
    pawl_source *source;
    pawl_source_config config;
    uint32_t to, dead;
    pawl_setting settings[16];
    size_t setting_count;
    const char *type;
    uint32_t remarks;                                   /* reports of severity 1 */
    uint32_t warnings;                                  /* reports of severity 2 and up */
    char warning[512];                                  /* the last */
    char reports[96];                                   /* a file that gets all reports; "": none */
    void (*wrap)(struct feed *f, pawl_source_ops *ops); /* changes what was made; may be NULL */
};

struct feed *feed_new(const char *type);
/* Text is copied. */
void feed_set(struct feed *f, const char *name, const char *value);
/* Opens the log, creates the source and adds it. */
void feed_begin(struct feed *f);
/* Removes the source and closes the log; the records appended are durable. */
void feed_end(struct feed *f);
void feed_free(struct feed *f);
/* Steps the source until three steps in a row find nothing to do. Returns the last result, or an
 * error. */
int feed_drive(struct feed *f);
pawl_flow_status feed_status(struct feed *f);
/* How many producers the log has. */
uint32_t feed_producers(struct feed *f);
/* All values of the stream, each followed by \n; NUL-terminated. The caller frees it. */
char *feed_text(struct feed *f, uint32_t stream, size_t *size);
/* Asserts that the stream holds these lines. */
void feed_holds(struct feed *f, const char *text);
/* Value of a header of the index-th record of the stream; "" if it has none. Static. */
const char *feed_header(struct feed *f, uint32_t stream, uint64_t index, const char *name);

/* Asserts that the index-th record of the stream was read at `at` of `thing`, as its commit names
 * it; `note` is a part of the note. */
void feed_came_from(struct feed *f, uint64_t index, const char *thing, uint64_t at,
                    const char *note);
/* Closes the log, and asserts that `pawl audit` finds nothing. */
void feed_audit(struct feed *f);

/* The port at which the source listens, as its status says. */
uint16_t feed_port(struct feed *f);
/* Connects to a port of this machine: SOCK_STREAM or SOCK_DGRAM. */
int dial_port(uint16_t port, int type);

/* A certificate and its key, both in one file, made by the command openssl in a directory of its
 * own. */
struct cert {
    char dir[40], file[60];
};
void cert_make(struct cert *c);
void cert_remove(const struct cert *c);

void put_file(const char *path, const char *text);
void add_file(const char *path, const char *text);

#endif
