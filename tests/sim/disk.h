/* SPDX-License-Identifier: Apache-2.0
 *
 * disk.h - a storage device with a file system, in memory. Knows nothing of Pawl.
 *
 * Each file has what processes see (`now`) and what a power cut leaves (`disk`), page by page, with
 * the sectors in which they may differ. Names are kept twice in the same way. Pages and inodes are
 * shared between copies of a disk and copied when written, so a copy costs some pointers.
 */
#ifndef PAWL_SIM_DISK_H
#define PAWL_SIM_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DISK_PAGE 4096u
#define DISK_SECTOR 512u
#define DISK_PAGES 16u /* a file at most: 64 KiB */
#define DISK_INODES 40
#define DISK_NAMES 24
#define DISK_PENDING 48
#define DISK_FLIGHTS 16
#define DISK_STALE 8

struct page {
    uint64_t refs; /* eight bytes, so that data is aligned: freed pages are linked through it */
    uint8_t data[DISK_PAGE];
};

struct slot {
    struct page *now, *disk; /* NULL: zeros */
    uint8_t dirty;           /* sectors of `now` that a sync would bring to the disk */
};

struct inode {
    uint32_t refs;
    uint64_t size, disk_size;
    struct slot slot[DISK_PAGES];
};

struct name {
    char text[24];
    int inode;
};

struct names {
    int count;
    struct name name[DISK_NAMES];
};

/* A change of the directory that is not durable yet. On its own it may survive a power cut or not,
 * whatever came before or after it. */
struct pending {
    /* a name that vanishes, and one that stands for `inode` from then on; "" none */
    char gone[24], there[24];
    int inode;
};

/* A write or sync that the device was asked for and has not answered. */
struct flight {
    bool used, sync, durable; /* durable: of a write, that it is stable when answered */
    int inode;
    uint64_t offset;
    uint32_t len;
    struct page *page[DISK_PAGES]; /* what is being written */
    struct inode *covers;          /* of a sync: the file as it was when asked */
};

struct disk {
    struct inode *inode[DISK_INODES];
    /* handles of a process: what is unlinked stays until they are closed */
    uint8_t open[DISK_INODES];
    struct names now, durable;
    struct pending pending[DISK_PENDING];
    int pending_count;
    struct flight flight[DISK_FLIGHTS];
    /* bytes of files that are gone: what a torn write may bring back */
    struct page *stale[DISK_STALE];
    unsigned stale_at;
    uint64_t space; /* bytes that files may take together */
    /* a file with a sector that can't be read any more, until it is written; -1 none */
    int bad_inode;
    uint64_t bad_offset;
};

/* What a power cut does to one thing that isn't durable. */
enum disk_thing { DISK_A_SECTOR, DISK_A_NAME, DISK_A_SIZE };
enum disk_fate { FATE_OLD, FATE_NEW, FATE_ZERO, FATE_STALE };
typedef enum disk_fate (*disk_fate_fn)(void *arg, enum disk_thing thing);

void disk_init(struct disk *d, uint64_t space);
/* without the handles: they are the process's */
void disk_copy(struct disk *to, const struct disk *from);
void disk_free(struct disk *d);

int disk_find(const struct disk *d, const char *name); /* inode or -1 */
int disk_create(struct disk *d, const char *name);     /* inode, -EEXIST, -ENOSPC */
int disk_rename(struct disk *d, const char *from, const char *to);
int disk_unlink(struct disk *d, const char *name);
void disk_sync_names(struct disk *d);
/* what was never written reads as garbage */
int disk_allocate(struct disk *d, int inode, uint64_t size);
uint64_t disk_used(const struct disk *d);

uint32_t disk_read(const struct disk *d, int inode, bool medium, void *data, uint32_t len,
                   uint64_t offset);
/* Makes `len` bytes from page-aligned pages (as flight.page) what processes see. With durable: and
 * what the disk holds. */
void disk_write(struct disk *d, int inode, struct page *const *page, uint32_t len, uint64_t offset,
                bool durable);
void disk_sync(struct disk *d, int inode);
/* A sync that failed: the kernel forgets that these sectors have to be written, processes go on
 * seeing them. */
void disk_sync_fails(struct disk *d, int inode);

/* What processes see is read anew from the disk, but for what is still to be written. */
void disk_drop_cache(struct disk *d, int inode);

/* Pages that hold a copy of data; to be given up with disk_drop_pages(). */
void disk_take_pages(struct page **page, const void *data, uint32_t len);
void disk_drop_pages(struct page **page);

int disk_begin(struct disk *d, const struct flight *f); /* takes f->page over; slot or -1 */
/* Ends a flight: `done` bytes of a write were written; a sync took effect if `done` is not 0. */
void disk_end(struct disk *d, int flight, uint32_t done);

/* Power cut: all that isn't durable meets its fate. Nothing is in flight afterwards, and `now`
 * equals `disk`. */
void disk_cut(struct disk *d, disk_fate_fn fate, void *arg);
/* The process is killed: each flight doesn't happen (FATE_OLD), reaches the cache (FATE_NEW), or
 * the medium too; what processes see stays. */
void disk_kill(struct disk *d, disk_fate_fn fate, void *arg);

/* Media damage. */
void disk_flip(struct disk *d, int inode, uint64_t offset, uint8_t mask);
/* The sector at `offset` can't be read. */
void disk_spoil(struct disk *d, int inode, uint64_t offset);
/* Does [offset, offset + len) of the file hold a sector that can't be read? */
bool disk_unreadable(const struct disk *d, int inode, uint64_t offset, uint64_t len);
/* one sector */
void disk_misdirect(struct disk *d, int from, uint64_t from_offset, int to, uint64_t to_offset);

#endif
