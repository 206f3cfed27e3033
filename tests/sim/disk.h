/* SPDX-License-Identifier: Apache-2.0
 *
 * disk.h - a storage device with a file system, in memory. Doesn't depend on Pawl.
 *
 * Each file has two versions of each page: the one that processes see (`now`) and the one that a
 * power cut leaves (`disk`), with a mask of the sectors in which they may differ. Names have two
 * versions in the same way. Copies of a disk share pages and inodes, which are copied on write; so
 * a copy costs only some pointers.
 */
#ifndef PAWL_SIM_DISK_H
#define PAWL_SIM_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DISK_PAGE 4096u
#define DISK_SECTOR 512u
#define DISK_PAGES 16u /* largest file: 64 KiB */
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
    uint8_t dirty;           /* sectors of `now` that a sync would write to the disk */
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

/* A change of the directory that is not durable yet. It may survive a power cut or not,
 * independently of the changes before and after it. */
struct pending {
    /* the name removed, and the name that refers to `inode` from then on; "": none */
    char gone[24], there[24];
    int inode;
};

/* A write or sync in flight: submitted to the device, and not completed. */
struct flight {
    bool used, sync, durable; /* durable: a write that is stable when it completes */
    int inode;
    uint64_t offset;
    uint32_t len;
    struct page *page[DISK_PAGES]; /* the data being written */
    struct inode *covers;          /* of a sync: the file when the sync was submitted */
};

struct disk {
    struct inode *inode[DISK_INODES];
    /* handles of a process: an unlinked file stays until they are closed */
    uint8_t open[DISK_INODES];
    struct names now, durable;
    struct pending pending[DISK_PENDING];
    int pending_count;
    struct flight flight[DISK_FLIGHTS];
    /* bytes of removed files: a torn write may bring them back */
    struct page *stale[DISK_STALE];
    unsigned stale_at;
    uint64_t space; /* bytes that all files together may use */
    /* a file with a sector that can't be read until it is written again; -1: none */
    int bad_inode;
    uint64_t bad_offset;
};

/* The kinds of state that a power cut decides on, one by one, if they aren't durable. */
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
/* bytes never written read as garbage */
int disk_allocate(struct disk *d, int inode, uint64_t size);
uint64_t disk_used(const struct disk *d);

uint32_t disk_read(const struct disk *d, int inode, bool medium, void *data, uint32_t len,
                   uint64_t offset);
/* Writes `len` bytes from page-aligned pages (as flight.page) to the version that processes see,
 * and with `durable` to the disk too. */
void disk_write(struct disk *d, int inode, struct page *const *page, uint32_t len, uint64_t offset,
                bool durable);
void disk_sync(struct disk *d, int inode);
/* A sync failed: the kernel marks the sectors clean, though they were not written; processes still
 * see them. */
void disk_sync_fails(struct disk *d, int inode);

/* Reloads the version that processes see from the disk, except for the dirty sectors. */
void disk_drop_cache(struct disk *d, int inode);

/* Allocates pages with a copy of data; the caller releases them with disk_drop_pages(). */
void disk_take_pages(struct page **page, const void *data, uint32_t len);
void disk_drop_pages(struct page **page);

int disk_begin(struct disk *d, const struct flight *f); /* takes ownership of f->page; slot or -1 */
/* Ends a flight: `done` bytes of a write were written; a sync took effect if `done` is not 0. */
void disk_end(struct disk *d, int flight, uint32_t done);

/* Power cut: `fate` decides for each thing that isn't durable. Afterwards nothing is in flight, and
 * `now` equals `disk`. */
void disk_cut(struct disk *d, disk_fate_fn fate, void *arg);
/* The process is killed. Each flight has no effect (FATE_OLD), reaches the cache (FATE_NEW), or the
 * medium too. The version that processes see stays. */
void disk_kill(struct disk *d, disk_fate_fn fate, void *arg);

/* Media damage. */
void disk_flip(struct disk *d, int inode, uint64_t offset, uint8_t mask);
/* The sector at `offset` can't be read. */
void disk_spoil(struct disk *d, int inode, uint64_t offset);
/* Does [offset, offset + len) of the file contain a sector that can't be read? */
bool disk_unreadable(const struct disk *d, int inode, uint64_t offset, uint64_t len);
/* one sector */
void disk_misdirect(struct disk *d, int from, uint64_t from_offset, int to, uint64_t to_offset);

#endif
