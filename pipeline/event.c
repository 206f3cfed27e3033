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

bool event_sleep(_Atomic uint32_t *word, uint32_t seen, uint32_t bit) {
    return syscall(SYS_futex, word, FUTEX_WAIT_BITSET_PRIVATE, seen, NULL, NULL, bit) == 0;
}

void event_yield(void) {
    syscall(SYS_sched_yield);
}

/* Waking all at once is dear where there are many: they are put on all processors, with an
 * interrupt for each that idles, and meet again at the futex's lock when they go back to sleep. */
#define WAKE_FEW 8

void event_wake(_Atomic uint32_t *word, uint32_t bits) {
    for (; bits != 0; bits &= bits - 1)
        syscall(SYS_futex, word, FUTEX_WAKE_BITSET_PRIVATE, WAKE_FEW, NULL, NULL, bits & -bits);
}
