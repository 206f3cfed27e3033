/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>
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

void event_sleep_for(_Atomic uint32_t *word, uint32_t seen, uint32_t bit, uint64_t ns) {
    struct timespec t;
    if (ns == UINT64_MAX) {
        event_sleep(word, seen, bit);
        return;
    }
    clock_gettime(CLOCK_MONOTONIC, &t);
    uint64_t until = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec + ns;
    t = (struct timespec){(time_t)(until / 1000000000u), (long)(until % 1000000000u)};
    syscall(SYS_futex, word, FUTEX_WAIT_BITSET_PRIVATE, seen, &t, NULL, bit);
}

void event_wake_all(_Atomic uint32_t *word, uint32_t bits) {
    syscall(SYS_futex, word, FUTEX_WAKE_BITSET_PRIVATE, INT_MAX, NULL, NULL, bits);
}

void event_yield(void) {
    syscall(SYS_sched_yield);
}

/* Waking many threads at once is expensive: the kernel spreads them over all CPUs, with an
 * interrupt for each idle one, and they contend for the futex's lock when they sleep again. */
#define WAKE_FEW 8

void event_wake(_Atomic uint32_t *word, uint32_t bits) {
    for (; bits != 0; bits &= bits - 1)
        syscall(SYS_futex, word, FUTEX_WAKE_BITSET_PRIVATE, WAKE_FEW, NULL, NULL, bits & -bits);
}
