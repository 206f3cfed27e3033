/* SPDX-License-Identifier: Apache-2.0
 *
 * watch.c - see watch.h.
 */
#include "connectors/file/watch.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/vfs.h>
#include <unistd.h>

/* File systems on which only this kernel changes files. */
static bool tells_all(uint64_t type) {
    static const uint32_t known[] = {
        0xEF53,     /* ext2, ext3, ext4 */
        0x58465342, /* XFS */
        0x9123683E, /* Btrfs */
        0x01021994, /* tmpfs */
        0x858458F6, /* ramfs */
        0xF2F52010, /* F2FS */
        0x794C7630, /* overlayfs */
        0x2FC12FC1, /* ZFS */
        0xCA451A4E, /* bcachefs */
        0x24051905, /* UBIFS */
        0x72B6,     /* JFFS2 */
        0x3434,     /* NILFS */
        0x3153464A, /* JFS */
        0x4D44,     /* FAT */
        0x2011BAB0, /* exFAT */
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (type == known[i])
            return true;
    return false;
}

/* Replaces the watch `*old` by one of `path`. Returns as described in watch.h. */
static int watch_path(struct watch *w, const char *path, uint32_t what, int *old) {
    struct statfs s;
    if (w->fd < 0)
        w->fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (w->fd < 0 || statfs(path, &s) != 0 || !tells_all((uint32_t)s.f_type))
        return -1;
    int now = inotify_add_watch(w->fd, path, what);
    if (now < 0)
        return -1;
    if (now == *old)
        return 0;
    if (*old >= 0)
        (void)inotify_rm_watch(w->fd, *old);
    *old = now;
    return 1;
}

int watch_directory(struct watch *w, const char *path, bool contents) {
    uint32_t what = IN_CREATE | IN_MOVED_TO | IN_ONLYDIR;
    if (contents)
        what |= IN_MODIFY | IN_ATTRIB;
    return watch_path(w, path, what, &w->directory);
}

int watch_file(struct watch *w, int fd, int *wd) {
    char path[40];
    if (*wd >= 0)
        return 0;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return watch_path(w, path, IN_MODIFY | IN_ATTRIB | IN_MOVE_SELF | IN_DELETE_SELF, wd);
}

void watch_forget(struct watch *w, int *wd) {
    if (w->fd >= 0 && *wd >= 0)
        (void)inotify_rm_watch(w->fd, *wd);
    *wd = -1;
}

bool watch_clear(struct watch *w, const char *prefix) {
    _Alignas(struct inotify_event) char events[4096];
    bool directory = false;
    for (ssize_t n; w->fd >= 0 && (n = read(w->fd, events, sizeof events)) > 0;)
        for (ssize_t at = 0; at < n;) {
            struct inotify_event e;
            memcpy(&e, events + at, sizeof e);
            directory |= (e.mask & IN_Q_OVERFLOW) != 0 ||
                         (e.wd == w->directory && e.len > strlen(prefix) &&
                          strncmp(events + at + sizeof e, prefix, strlen(prefix)) == 0);
            at += (ssize_t)sizeof e + (ssize_t)e.len;
        }
    return directory;
}

void watch_end(struct watch *w) {
    if (w->fd >= 0)
        close(w->fd);
    *w = (struct watch)WATCH_INIT;
}
