/* SPDX-License-Identifier: Apache-2.0
 *
 * A seam whose few files are in memory: what a test of run files needs, and nothing else. It can
 * make a call fail, flip a bit of what is read, and tells in which order things were done.
 */
#ifndef PAWL_TESTS_RAM_FILES_H
#define PAWL_TESTS_RAM_FILES_H

#include <stdbool.h>

#include "wal/seam/seam.h"

#define RAM_FILES 4
#define RAM_TRACE 64

struct ram_file {
    char name[32]; /* "": free */
    uint8_t *data;
    uint64_t size, room;
};

struct ram_files {
    struct seam seam; /* first */
    struct ram_file file[RAM_FILES];
    uint64_t flip;   /* bit of each file that reads find flipped; UINT64_MAX: none */
    int64_t fail_at; /* counts down at each call that can fail, which fails at 0; negative: never */
    int error;       /* -errno of that call */
    bool fail_on;    /* and of each one after it */
    uint64_t calls;
    uint64_t random; /* state */
    char
        trace[RAM_TRACE]; /* of the last open for writing on: w write, h write of unit 0, s, d, u */
    uint32_t traced;
    uint64_t reads; /* calls of read() */
};

void ram_files_init(struct ram_files *f);
void ram_files_end(struct ram_files *f);
struct ram_file *ram_files_find(struct ram_files *f, const char *name); /* NULL: none */
struct ram_file *ram_files_put(struct ram_files *f, const char *name, const void *data,
                               uint64_t size);

#endif
