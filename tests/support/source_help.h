/* SPDX-License-Identifier: Apache-2.0
 *
 * For tests of sources: a log in a temporary directory, a source by type and settings, and what it
 * put into the log.
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
    char dir[64];   /* holds "log", and whatever the test puts there */
    char path[128]; /* dir/in */
    pawl_options options;
    pawl *log;
    pawl_source *source;
    pawl_source_config config;
    uint32_t to, dead;
    pawl_setting settings[16];
    size_t setting_count;
    const char *type;
    uint32_t warnings; /* reports of severity 2 and up */
    char warning[512]; /* the last */
};

struct feed *feed_new(const char *type);
/* Text is copied. */
void feed_set(struct feed *f, const char *name, const char *value);
/* Opens the log, makes and adds the source. */
void feed_begin(struct feed *f);
/* Removes it and closes the log; what it appended is durable. */
void feed_end(struct feed *f);
void feed_free(struct feed *f);
/* Steps until nothing comes any more, n times in a row. Returns the last step's answer. */
int feed_drive(struct feed *f);
pawl_flow_status feed_status(struct feed *f);
/* All values of the stream, each with a \n behind, NUL-terminated; to be freed. */
char *feed_text(struct feed *f, uint32_t stream, size_t *size);
/* The stream holds these lines. */
void feed_holds(struct feed *f, const char *text);
/* Value of a header of the index-th record of the stream; "" if it has none. Static. */
const char *feed_header(struct feed *f, uint32_t stream, uint64_t index, const char *name);

void put_file(const char *path, const char *text);
void add_file(const char *path, const char *text);

#endif
