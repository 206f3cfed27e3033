/* SPDX-License-Identifier: Apache-2.0
 *
 * error.h - errors with their circumstances. The last one is kept for each thread
 * (pawl_last_error()).
 */
#ifndef PAWL_WAL_ERROR_H
#define PAWL_WAL_ERROR_H

#include "pawl.h"

#define NO_LSN UINT64_MAX

/* Records an error and returns its code. `call` and `file` may be NULL; `message` is a printf
 * format. */
void fail_set(int code, const char *message, ...) __attribute__((format(printf, 2, 3)));
void fail_set_at(int code, int sys_errno, const char *call, const char *file, uint64_t lsn,
                 const char *message, ...) __attribute__((format(printf, 6, 7)));
/* Macros, so that the compiler and analysers see the code itself come back. */
#define fail(code, ...) (fail_set((code), __VA_ARGS__), (code))
#define fail_at(code, ...) (fail_set_at((code), __VA_ARGS__), (code))
/* The code for what a system call said (a negative errno): ENOSPC and EDQUOT are FULL, EACCES and
 * EPERM PERMISSION, ENOMEM MEMORY, else IO. */
int fail_sys(int negative_errno, const char *call, const char *file, uint64_t lsn);
void fail_copy(pawl_error *out); /* of this thread */
/* makes a kept error this thread's last one; returns its code */
int fail_again(const pawl_error *err);
void fail_clear(void);

#define TRY(expr) \
    do { \
        int try_rc_ = (expr); \
        if (try_rc_ < 0) \
            return try_rc_; \
    } while (0)

#endif
