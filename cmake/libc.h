/* SPDX-License-Identifier: Apache-2.0
 *
 * What this C library lacks of what Linux has. Included before everything else by the build, where
 * cmake/libc.cmake found something missing; each PAWL_NO_ word is one thing.
 */
#ifndef PAWL_CMAKE_LIBC_H
#define PAWL_CMAKE_LIBC_H

#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#ifdef PAWL_NO_RWF_DSYNC
#define RWF_DSYNC 0x00000002
#endif

#ifdef PAWL_NO_PWRITEV2
static inline ssize_t pwritev2(int fd, const struct iovec *iov, int count, off_t offset,
                               int flags) {
    long low = (long)offset, high = (long)((unsigned long long)offset >> 32);
    return syscall(SYS_pwritev2, fd, iov, count, low, high, flags);
}
#endif

#ifdef PAWL_NO_RENAMEAT2
#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE (1 << 0)
#endif
static inline int renameat2(int old_dir, const char *old, int new_dir, const char *name,
                            unsigned flags) {
    return (int)syscall(SYS_renameat2, old_dir, old, new_dir, name, flags);
}
#endif

#ifdef PAWL_NO_STATX
#include <linux/stat.h>
static inline int statx(int dir, const char *name, int flags, unsigned mask, struct statx *out) {
    return (int)syscall(SYS_statx, dir, name, flags, mask, out);
}
#endif

#ifdef PAWL_NO_STRERRORDESC
#define strerrordesc_np(error) strerror(error) /* musl's gives constant texts, as the other does */
#endif

#ifdef PAWL_NO_ADAPTIVE_MUTEX
#define PTHREAD_MUTEX_ADAPTIVE_NP PTHREAD_MUTEX_DEFAULT
#endif

#endif
