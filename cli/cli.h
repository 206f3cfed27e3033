/* SPDX-License-Identifier: Apache-2.0
 *
 * cli.h - what the commands share. The command knows the public header only, so whatever it can do,
 * any program can do.
 *
 * A command is a row of the table in main.c: its options and positional arguments are data, from
 * which both parsing and --help are made, so the two can't disagree. Its run() gets them parsed and
 * returns the process's exit code.
 */
#ifndef PAWL_CLI_H
#define PAWL_CLI_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "pawl.h"

/* Longer than the library's own 250 ms: on a busy device a killed writer's last writes, and its
 * lock with them, take their time. */
#define CLI_LOCK_WAIT_MS 2000

enum cli_exit { CLI_OK = 0, CLI_PROBLEM = 1, CLI_USAGE = 2, CLI_CANNOT_OPEN = 3 };

#define CLI_OPTIONS_MAX 12

typedef struct cli_option {
    const char *name;     /* long name; NULL ends the table */
    const char *argument; /* what --help calls it; NULL: a flag */
    const char *help;
} cli_option;

typedef struct cli_command cli_command;

typedef struct cli_args {
    const cli_command *command;
    /* by row of the command's option table; NULL: not given; "": a flag given */
    const char *value[CLI_OPTIONS_MAX];
    char **positional;
    int count;
    char **program; /* what follows "--", NULL-terminated; NULL: no "--" */
    int32_t backend, direct;
    uint64_t memory;
    bool warns; /* cli_open(): what the log warns of later is shown on standard error */
} cli_args;

struct cli_command {
    const char *name;
    const char *synopsis; /* what follows the name, one form a line */
    const char *summary;
    const char *details;       /* for `pawl help NAME`, or NULL */
    const cli_option *options; /* may be NULL */
    int min, max;              /* positional arguments */
    bool opens;                /* takes the options for opening a log */
    bool program;              /* takes "-- CMD…" */
    int (*run)(cli_args *a);
};

extern const cli_command cli_init, cli_stream, cli_ingest, cli_cat, cli_pipe, cli_status,
    cli_verify, cli_audit, cli_repair, cli_rename, cli_explain, cli_dump, cli_processor,
    cli_retention, cli_crashtest, cli_bench, cli_run, cli_check, cli_savepoint, cli_table,
    cli_restore, cli_fork, cli_replay_check, cli_rehearse;

/* ---- text (show.c). All that the command writes goes through these functions. What a %s stands
 * for may come from a stranger: it is escaped by pawl_show(). They know %s %c %d %i %u %x %X %o %f
 * %g %e %p %%, with flags, width, precision, and h, hh, l, ll, z, j. */

bool cli_print_to(FILE *to, const char *format, ...) __attribute__((format(printf, 2, 3)));
bool cli_print_args(FILE *to, const char *format, va_list list)
    __attribute__((format(printf, 2, 0)));
/* Into `size` bytes, cut where they are full. Returns the length. */
size_t cli_text(char *text, size_t size, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
size_t cli_text_args(char *text, size_t size, const char *format, va_list list)
    __attribute__((format(printf, 3, 0)));

/* ---- messages: "pawl: what, where, and what to do" on stderr */

void cli_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Same, followed by the command's usage; returns CLI_USAGE. */
int cli_usage(const cli_args *a, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Tells the library's last error of this thread, after what was being done; returns CLI_PROBLEM, or
 * CLI_USAGE where an argument is not valid. */
int cli_library_error(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* As config.h's problem callback; arg is the file's name. */
void cli_config_problem(void *arg, uint32_t line, int severity, const char *message);

/* ---- programs that are run (programs.c): on a terminal, what they write to standard error is
 * shown, escaped */

/* Before the first one is run, and before other threads write messages. */
void cli_programs_begin(void);
/* After the last one. What still runs gets SIGPIPE for what it writes there. */
void cli_programs_end(void);
FILE *cli_messages(void);   /* where messages go; cli_print_to(stderr, ...) writes there */
bool cli_on_terminal(void); /* does it go to one? */

/* ---- output: every write is checked, a reader that has gone away (`| head`) ends the command
 * quietly */

bool cli_write(const void *data, size_t size);       /* as it is: records, for a file or a pipe */
bool cli_write_much(const void *data, size_t size);  /* the same, at once and without a copy */
bool cli_write_shown(const void *data, size_t size); /* through pawl_show() */
/* A JSON text (NULL: no memory), and a newline; the text is freed. What would drive a terminal is
 * escaped, so it is the same JSON. */
bool cli_write_json(char *json);
bool cli_printf(const char *format, ...) __attribute__((format(printf, 1, 2)));
bool cli_flush(void);
bool cli_output_failed(void);
/* Flushes, and gives the exit code: `code`, or CLI_PROBLEM with a message if output was lost. */
int cli_finish_output(int code);

/* ---- opening a log */

/* Opens DIR with the common options and `flags`; on failure tells why and returns CLI_CANNOT_OPEN,
 * *out = NULL. */
int cli_open(const cli_args *a, const char *dir, uint32_t flags, pawl **out);
/* Closes; if that fails, tells it, and CLI_PROBLEM takes the place of a good code. */
int cli_close(pawl *log, const char *dir, int code);
/* "tmpfs", say, where the directory is kept in memory and nothing is durable; else NULL. */
const char *cli_in_memory(const char *dir);
/* Finds a stream; if there is none, says which there are and returns CLI_PROBLEM. */
int cli_find_stream(pawl *log, const char *dir, const char *name, pawl_stream_info *out);

/* ---- signals: SIGINT and SIGTERM ask for an end after the batch at hand; a second one kills */

void cli_catch_signals(pawl *log);
/* Before the handle goes. */
void cli_release_signals(void);
/* The signal that came, or 0. */
int cli_stopping(void);
void cli_sleep_ms(int ms);
uint64_t cli_now_ns(void);

/* ---- numbers as people write them (size.c); false: not one */

bool cli_parse_number(const char *text, uint64_t *out);
bool cli_parse_size(const char *text, uint64_t *bytes); /* 4096, 64K, 64M, 10G, 1T; also 64MiB */
/* 500ms, 90s, 5m, 12h, 7d, 2w; a bare number is seconds */
bool cli_parse_duration(const char *text, uint64_t *ms);
const char *cli_format_size(uint64_t bytes, char buffer[32]); /* "1.5 MiB" */
const char *cli_format_duration(uint64_t ms, char buffer[32]);
const char *cli_format_time(uint64_t ns, char buffer[40]); /* UTC, to the microsecond */

/* ---- a progress bar on stderr, only if that is a terminal, and only after half a second
 * (progress.c) */

typedef struct cli_progress {
    const char *what;
    uint64_t begun_ns, shown_ns; /* shown_ns 0: nothing on the screen */
    bool on;
} cli_progress;

void cli_progress_begin(cli_progress *p, const char *what);
void cli_progress_show(cli_progress *p, uint64_t done, uint64_t total);
/* Wipes the bar, so that a message can be written in its place. */
void cli_progress_clear(cli_progress *p);
/* In the form the library calls; `arg` is the cli_progress. */
int cli_progress_call(void *arg, uint64_t done, uint64_t total);

#endif
