/* SPDX-License-Identifier: Apache-2.0 */
#include "wal/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "wal/show.h"

static _Thread_local pawl_error last;

static void put(int code, int sys_errno, const char *call, const char *file, uint64_t lsn,
                const char *message, va_list ap) {
    int saved = errno; /* the library never changes errno */
    pawl_error e;
    memset(&e, 0, sizeof e);
    e.code = code;
    e.sys_errno = sys_errno;
    e.lsn = lsn;
    snprintf(e.call, sizeof e.call, "%s", call != NULL ? call : "");
    if (file != NULL)
        pawl_show(file, strlen(file), NULL, e.file, sizeof e.file);
    show_format(e.message, sizeof e.message, message, ap);
    last = e;
    errno = saved;
}

void fail_set(int code, const char *message, ...) {
    va_list ap;
    va_start(ap, message);
    put(code, 0, NULL, NULL, NO_LSN, message, ap);
    va_end(ap);
}

void fail_set_at(int code, int sys_errno, const char *call, const char *file, uint64_t lsn,
                 const char *message, ...) {
    va_list ap;
    va_start(ap, message);
    put(code, sys_errno, call, file, lsn, message, ap);
    va_end(ap);
}

int fail_sys(int negative_errno, const char *call, const char *file, uint64_t lsn) {
    int e = -negative_errno;
    int code = PAWL_IO;
    const char *advice = "check the device and the kernel's log";
    if (e == ENOSPC || e == EDQUOT) {
        code = PAWL_FULL;
        advice = "free space on this file system";
    } else if (e == EACCES || e == EPERM || e == EROFS) {
        code = PAWL_PERMISSION;
        advice = e == EROFS
                     ? "the file system is mounted read-only: readers need no more, a writer does"
                     : "check the owner and mode of the directory and its files";
    } else if (e == ENOMEM) {
        code = PAWL_MEMORY;
        advice = "give it more memory";
    }
    if (e == ELOOP)
        advice = "it is a symbolic link, and those are not followed: put the file itself there";
    else if (e == EMLINK)
        advice = "the file has a second name (a hard link) in a directory that others can write "
                 "to: put a copy in its place";
    else if (e == EMFILE || e == ENFILE)
        advice = "raise the limit of open files";
    char text[96];
    snprintf(text, sizeof text, "%s",
             strerrordesc_np(e) != NULL ? strerrordesc_np(e) : "unknown error");
    return fail_at(code, e, call, file, lsn, "%s of %s failed: %s; %s", call,
                   file != NULL ? file : "the directory", text, advice);
}

void fail_copy(pawl_error *out) {
    *out = last;
}

int fail_again(const pawl_error *err) {
    last = *err;
    return err->code;
}

void fail_clear(void) {
    memset(&last, 0, sizeof last);
    last.lsn = NO_LSN;
}

void pawl_last_error(pawl_error *out) {
    if (out != NULL)
        fail_copy(out);
}

const char *pawl_strerror(int code) {
    switch (code) {
    case PAWL_OK:
        return "no error";
#define TEXT(name, value, text) \
    case PAWL_##name: \
        return text;
        PAWL_ERRORS(TEXT)
#undef TEXT
    default:
        return "unknown error";
    }
}

const char *pawl_errname(int code) {
    switch (code) {
    case PAWL_OK:
        return "OK";
#define NAME(name, value, text) \
    case PAWL_##name: \
        return #name;
        PAWL_ERRORS(NAME)
#undef NAME
    default:
        return "UNKNOWN";
    }
}

#define STR_(x) #x
#define STR(x) STR_(x)
const char *pawl_version(void) {
    return STR(PAWL_VERSION_MAJOR) "." STR(PAWL_VERSION_MINOR) "." STR(PAWL_VERSION_PATCH);
}
