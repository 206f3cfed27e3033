/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "pipeline/engine.h"

int event_open(void) {
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd > 2 || fd < 0)
        return fd;
    int high = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    close(fd);
    return high;
}

void event_ring(int fd) {
    uint64_t one = 1;
    ssize_t n = write(fd, &one, sizeof one); /* full means that it is readable already */
    (void)n;
}

void event_clear(int fd) {
    uint64_t count;
    ssize_t n = read(fd, &count, sizeof count);
    (void)n;
}

void event_close(int fd) {
    if (fd >= 0)
        close(fd);
}

void event_sleep(_Atomic uint32_t *word, uint32_t seen, uint32_t bits) {
    syscall(SYS_futex, word, FUTEX_WAIT_BITSET_PRIVATE, seen, NULL, NULL, bits);
}

void event_wake(_Atomic uint32_t *word, uint32_t bits) {
    syscall(SYS_futex, word, FUTEX_WAKE_BITSET_PRIVATE, INT_MAX, NULL, NULL, bits);
}
