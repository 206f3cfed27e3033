/* SPDX-License-Identifier: Apache-2.0
 *
 * common.c - errors of the library, opening, signals.
 */
#include <errno.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/vfs.h>
#include <time.h>

#include "cli/cli.h"

/* ---- messages */

int cli_library_error(int code, const char *format, ...) {
    char doing[512];
    va_list list;
    va_start(list, format);
    cli_text_args(doing, sizeof doing, format, list);
    va_end(list);
    pawl_error e;
    pawl_last_error(&e);
    /* The last error may be of another call than the one that answered `code`; then the code's own
     * text is truer. */
    cli_error("%s: %s", doing,
              e.code == code && e.message[0] != '\0' ? e.message : pawl_strerror(code));
    return code == PAWL_INVALID ? CLI_USAGE : CLI_PROBLEM; /* a name that can't be one, say */
}

/* ---- opening */

/* Warnings while the command works: they come from the log's threads. What opening finds is told by
 * cli_open() itself. */
static _Atomic bool log_warns;

static void on_log(void *arg, int severity, const char *message) {
    (void)arg;
    if (severity >= PAWL_LOG_WARNING && log_warns)
        cli_error("%s", message);
}

int cli_open(const cli_args *a, const char *dir, uint32_t flags, pawl **out) {
    cli_progress progress;
    cli_progress_begin(&progress, "recovering");
    pawl_options o = PAWL_OPTIONS_INIT;
    o.flags = flags;
    o.backend = a->backend;
    o.direct = a->direct;
    /* room for records of 16 MiB */
    o.memory_cap = a->memory != 0 ? a->memory : UINT64_C(128) << 20;
    o.lock_wait_ms = CLI_LOCK_WAIT_MS;
    o.progress = cli_progress_call;
    o.progress_arg = &progress;
    o.log = on_log;
    pawl_error e = {0};
    int code = pawl_open(dir, &o, out, &e);
    cli_progress_clear(&progress);
    if (code < 0) {
        *out = NULL;
        cli_error("cannot open %s: %s", dir,
                  e.message[0] != '\0' ? e.message : pawl_strerror(code));
        return CLI_CANNOT_OPEN;
    }
    log_warns = a->warns;
    pawl_status s = {.struct_size = sizeof s};
    if ((flags & PAWL_OPEN_READ) == 0 && pawl_get_status(*out, &s) == 0 && !s.clean && s.epoch > 1)
        cli_error("%s had not been closed in good order: recovered in %.1f ms (%" PRIu64
                  " bytes read, %" PRIu64 " bytes of unacknowledged tail cut)",
                  dir, (double)s.recovery_ns / 1e6, s.recovered_bytes, s.cut_bytes);
    return CLI_OK;
}

const char *cli_in_memory(const char *dir) {
    struct statfs s;
    if (statfs(dir, &s) != 0)
        return NULL;
    return s.f_type == TMPFS_MAGIC ? "tmpfs" : s.f_type == RAMFS_MAGIC ? "ramfs" : NULL;
}

int cli_close(pawl *log, const char *dir, int code) {
    cli_release_signals();
    int closed = pawl_close(log);
    if (closed == 0)
        return code;
    cli_library_error(closed, "closing %s", dir);
    return code == CLI_OK ? CLI_PROBLEM : code;
}

int cli_find_stream(pawl *log, const char *dir, const char *name, pawl_stream_info *out) {
    int code = pawl_stream_find(log, name, out);
    if (code >= 0)
        return CLI_OK;
    if (code != PAWL_NOT_FOUND)
        return cli_library_error(code, "looking for stream %s in %s", name, dir);
    cli_error("there is no stream '%s' in %s; `pawl stream list %s` shows what there is, `pawl "
              "stream create "
              "%s %s` makes it",
              name, dir, dir, dir, name);
    return CLI_PROBLEM;
}

/* ---- signals. The handler reads `stopping_log` and calls pawl_stop(), which is safe there; it is
 * cleared before the handle goes. */

static pawl *volatile stopping_log;
static volatile sig_atomic_t stopping_signal;

static void on_signal(int number) {
    stopping_signal = number;
    pawl *log = stopping_log;
    if (log != NULL)
        pawl_stop(log);
}

void cli_catch_signals(pawl *log) {
    stopping_log = log;
    struct sigaction action = {0};
    action.sa_handler = on_signal;
    action.sa_flags = (int)SA_RESETHAND; /* no SA_RESTART: a read that waits must end */
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

void cli_release_signals(void) {
    stopping_log = NULL;
}

int cli_stopping(void) {
    return stopping_signal;
}

/* ---- time */

void cli_sleep_ms(int ms) {
    struct timespec wait = {ms / 1000, (long)(ms % 1000) * 1000000L};
    nanosleep(&wait, NULL); /* ends early on a signal, which is wanted */
}

uint64_t cli_now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}
