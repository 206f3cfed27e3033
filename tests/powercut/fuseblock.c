/* SPDX-License-Identifier: Apache-2.0
 *
 * fuseblock.c - a disk with a volatile write cache, as a FUSE file system of two files: `disk`, to
 * lie under a loop device, and `control`.
 *
 *     fuseblock MOUNTPOINT MIB SEED   serves in the foreground until it is unmounted, or its parent
 *                                     dies
 *
 * What is written is in the cache until an fsync (a flush of the block device) moves it to the
 * medium. When the power goes, each sector of 512 bytes that was not flushed is what the medium
 * last held or what was last written, or any state between, each by chance; from then on everything
 * fails with EIO until the power is on again. Commands, one a write to `control`; reading it tells
 * the state:
 *
 *     on                        power; what is then read is what survived
 *     cut N PERCENT             the power goes at the N-th write or flush from now (0: now, in this
 *                               very command); PERCENT is how likely it is, sector by sector, that
 *                               a write from now on survives without a flush. The write that is cut
 *                               is there in part
 *     fail write|flush N COUNT  the N-th from now and COUNT - 1 more get EIO; a failed write is
 *                               there in part, a failed flush flushes nothing
 *
 * One thread serves, so requests have an order, and the arrays need no lock. Whether a sector
 * survives is drawn as it is written, not at the cut.
 */
#define FUSE_USE_VERSION 31
#include <errno.h>
#include <fuse.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#define SECTOR 512u
#define NEVER INT64_MAX

static uint8_t *cached, *medium; /* what is read, and what would survive a cut now */
static uint8_t *dirty;           /* by sector: written since the last flush */
static size_t disk_size;
static uint64_t chance_state;
static bool power = true;
static unsigned survive_percent = 50;

static int64_t cut_in = NEVER, fail_write_in = NEVER, fail_flush_in = NEVER; /* countdowns */
static int64_t fail_left; /* how many fail once it has begun */

static uint64_t writes, flushes, injected, cuts, lost_sectors, kept_sectors;

static uint64_t chance(void) { /* xorshift64* */
    chance_state ^= chance_state >> 12;
    chance_state ^= chance_state << 25;
    chance_state ^= chance_state >> 27;
    return chance_state * 0x2545f4914f6cdd1du >> 16;
}

/* The first dirty sector from `s` on, or the number of sectors. */
static size_t next_dirty(size_t s) {
    size_t all = disk_size / SECTOR;
    const uint8_t *found = s < all ? memchr(dirty + s, 1, all - s) : NULL;
    return found != NULL ? (size_t)(found - dirty) : all;
}

static void cut_power(void) {
    power = false;
    cuts++;
    cut_in = fail_write_in = fail_flush_in = NEVER;
    for (size_t s = next_dirty(0); s < disk_size / SECTOR; s = next_dirty(s)) {
        bool same = memcmp(cached + s * SECTOR, medium + s * SECTOR, SECTOR) == 0;
        lost_sectors += !same, kept_sectors += same;
        memcpy(cached + s * SECTOR, medium + s * SECTOR, SECTOR);
        dirty[s] = 0;
    }
}

/* Counts down to an event; true when it is there. */
static bool due(int64_t *in) {
    return *in != NEVER && --*in <= 0;
}

/* Is this request one that an injected fault hits? */
static bool fault(int64_t *in) {
    if (!due(in))
        return false;
    if (--fail_left <= 0)
        *in = NEVER;
    injected++;
    return true;
}

static void write_sectors(const uint8_t *data, size_t at, size_t len, bool part) {
    while (len > 0) {
        size_t s = at / SECTOR, n = SECTOR - at % SECTOR;
        if (n > len)
            n = len;
        if (!part || chance() % 2 == 0) {
            memcpy(cached + at, data, n);
            dirty[s] = 1;
            if (chance() % 100 < survive_percent)
                memcpy(medium + s * SECTOR, cached + s * SECTOR, SECTOR);
        }
        data += n, at += n, len -= n;
    }
}

/* ---- the files */

static bool is_disk(const char *path) {
    return strcmp(path, "/disk") == 0;
}

static bool is_control(const char *path) {
    return strcmp(path, "/control") == 0;
}

static int get_attributes(const char *path, struct stat *st, struct fuse_file_info *fi) {
    (void)fi;
    memset(st, 0, sizeof *st);
    if (strcmp(path, "/") == 0) {
        st->st_mode = S_IFDIR | 0700;
        st->st_nlink = 2;
        return 0;
    }
    if (!is_disk(path) && !is_control(path))
        return -ENOENT;
    st->st_mode = S_IFREG | 0600;
    st->st_nlink = 1;
    st->st_size = is_disk(path) ? (off_t)disk_size : 0;
    return 0;
}

static int read_dir(const char *path, void *buf, fuse_fill_dir_t fill, off_t at,
                    struct fuse_file_info *fi, enum fuse_readdir_flags flags) {
    (void)at, (void)fi, (void)flags;
    if (strcmp(path, "/") != 0)
        return -ENOENT;
    fill(buf, "disk", NULL, 0, 0);
    fill(buf, "control", NULL, 0, 0);
    return 0;
}

static int open_file(const char *path, struct fuse_file_info *fi) {
    if (!is_disk(path) && !is_control(path))
        return -ENOENT;
    fi->direct_io = 1; /* the kernel must keep nothing of it */
    return 0;
}

static int truncate_file(const char *path, off_t size, struct fuse_file_info *fi) {
    (void)size, (void)fi;
    return is_control(path) ? 0 : -EPERM; /* for the shell's > */
}

static int tell_state(char *buf, size_t size, off_t at) {
    char text[256];
    int len =
        snprintf(text, sizeof text,
                 "power %s writes %" PRIu64 " flushes %" PRIu64 " cuts %" PRIu64 " lost %" PRIu64
                 " kept %" PRIu64 " injected %" PRIu64 "\n",
                 power ? "on" : "off", writes, flushes, cuts, lost_sectors, kept_sectors, injected);
    if (at >= len)
        return 0;
    size_t n = (size_t)len - (size_t)at < size ? (size_t)len - (size_t)at : size;
    memcpy(buf, text + at, n);
    return (int)n;
}

static int read_file(const char *path, char *buf, size_t size, off_t at,
                     struct fuse_file_info *fi) {
    (void)fi;
    if (is_control(path))
        return tell_state(buf, size, at);
    if (!power)
        return -EIO;
    if (at < 0 || (size_t)at >= disk_size)
        return 0;
    if (size > disk_size - (size_t)at)
        size = disk_size - (size_t)at;
    memcpy(buf, cached + at, size);
    return (int)size;
}

static int obey(const char *buf, size_t size) {
    char line[64] = "", what[8];
    int64_t n, count;
    unsigned percent;
    memcpy(line, buf, size < sizeof line - 1 ? size : sizeof line - 1);
    if (strncmp(line, "on", 2) == 0) {
        power = true;
        cut_in = fail_write_in = fail_flush_in = NEVER;
    } else if (sscanf(line, "cut %" SCNd64 " %u", &n, &percent) == 2) {
        survive_percent = percent;
        cut_in = n;
        if (n == 0)
            cut_power();
    } else if (sscanf(line, "fail %7s %" SCNd64 " %" SCNd64, what, &n, &count) == 3) {
        *(strcmp(what, "write") == 0 ? &fail_write_in : &fail_flush_in) = n;
        fail_left = count;
    } else {
        return -EINVAL;
    }
    return (int)size;
}

static int write_file(const char *path, const char *buf, size_t size, off_t at,
                      struct fuse_file_info *fi) {
    (void)fi;
    if (is_control(path))
        return obey(buf, size);
    if (at < 0 || (size_t)at > disk_size || size > disk_size - (size_t)at)
        return -ENOSPC;
    writes++;
    if (!power)
        return -EIO;
    bool last = due(&cut_in), failing = fault(&fail_write_in);
    write_sectors((const uint8_t *)buf, (size_t)at, size, last || failing);
    if (last)
        cut_power();
    return last || failing ? -EIO : (int)size;
}

static int sync_file(const char *path, int data_only, struct fuse_file_info *fi) {
    (void)data_only, (void)fi;
    if (is_control(path))
        return 0;
    flushes++;
    if (power && due(&cut_in))
        cut_power();
    if (!power || fault(&fail_flush_in))
        return -EIO;
    for (size_t s = next_dirty(0); s < disk_size / SECTOR; s = next_dirty(s)) {
        memcpy(medium + s * SECTOR, cached + s * SECTOR, SECTOR);
        dirty[s] = 0;
    }
    return 0;
}

static void *nothing_kept(struct fuse_conn_info *conn, struct fuse_config *config) {
    (void)conn;
    config->entry_timeout = config->attr_timeout = 0;
    return NULL;
}

static void *zeros(size_t size) {
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);
    if (p == MAP_FAILED) {
        perror("fuseblock: mmap");
        exit(1);
    }
    return p;
}

int main(int argc, char **argv) {
    static const struct fuse_operations operations = {
        .getattr = get_attributes,
        .readdir = read_dir,
        .open = open_file,
        .truncate = truncate_file,
        .read = read_file,
        .write = write_file,
        .fsync = sync_file,
        .init = nothing_kept,
    };
    if (argc != 4)
        return 2;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    disk_size = (size_t)strtoul(argv[2], NULL, 10) << 20;
    chance_state = strtoull(argv[3], NULL, 10) * 2 + 1;
    cached = zeros(disk_size), medium = zeros(disk_size), dirty = zeros(disk_size / SECTOR);
    char *options[] = {argv[0], argv[1], (char[]){"-f"}, (char[]){"-s"}, NULL};
    return fuse_main(4, options, &operations, NULL);
}
