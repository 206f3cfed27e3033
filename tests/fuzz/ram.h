/* SPDX-License-Identifier: Apache-2.0
 *
 * ram.h - a log's directory in memory, as a backend of the seam. A target that links ram.c and
 * wraps seam_create() uses the public functions of the library on it: each directory name is this
 * one directory. Every request completes at once; nothing fails but for lack of space. It counts
 * the bytes that are read and written.
 */
#ifndef PAWL_FUZZ_RAM_H
#define PAWL_FUZZ_RAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RAM_FILES 64

struct ram_file {
    char name[32];
    uint8_t *data; /* aligned to a block */
    uint64_t size;
};

struct ram {
    struct ram_file file[RAM_FILES];
    int count;
    uint64_t space;         /* bytes that all files may take together */
    uint64_t read, written; /* bytes, since ram_clear() */
    bool locked;
    uint64_t clock_ns;
};

/* The one directory. */
extern struct ram ram;

void ram_clear(void);
/* Makes a file of `size` zeros; its bytes, to be filled. NULL: there is one of that name. */
uint8_t *ram_make(const char *name, uint64_t size);
uint64_t ram_bytes(void); /* of all files together */

#endif
