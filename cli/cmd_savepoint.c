/* SPDX-License-Identifier: Apache-2.0
 *
 * cmd_savepoint.c - `pawl savepoint`, `pawl restore`, `pawl fork`: a log as it is now, in another
 * directory, and logs made of that.
 */
#include <inttypes.h>
#include <string.h>

#include "cli/cli.h"
#include "pawl_state.h"

enum { QUICK, COPY };

static const cli_option options[] = {
    {"quick", NULL, "don't read what is linked: damage in the log is not found"},
    {"copy", NULL, "link nothing: share no byte on the device with the log"},
    {NULL, NULL, NULL},
};

static void on_finding(void *arg, const pawl_finding *f) {
    cli_progress_clear(arg);
    cli_printf("%s%s: segment %" PRIu64 ", LSN %" PRIu64 ": %s\n", f->code == 0 ? "remark: " : "",
               f->label, f->segment, f->lsn, f->message);
    cli_flush();
}

/* The sum of what its partitions hold. */
static int show_table(pawl *log, const pawl_table_info *t) {
    uint64_t low = 0, high = 0;
    for (uint32_t k = 0; k < t->partitions; k++) {
        pawl_table_digest d;
        int code = pawl_table_get_digest(log, t->id, k, &d);
        if (code == PAWL_LOST)
            continue;
        if (code < 0)
            return code;
        low += d.low;
        high += d.high + (low < d.low);
    }
    cli_printf("table %s: %" PRIu64 " pairs, digest %016" PRIx64 "%016" PRIx64 "%s\n", t->name,
               t->pairs, high, low, t->lost != 0 ? ", less what damage took" : "");
    return 0;
}

static int show_tables(const cli_args *a, const char *to) {
    pawl *log;
    pawl_table_info t = PAWL_TABLE_INFO_INIT;
    int exit_code = cli_open(a, to, PAWL_OPEN_READ, &log);
    if (exit_code != CLI_OK)
        return exit_code;
    int code = 0;
    for (uint32_t i = 0; code == 0 && (code = pawl_table_at(log, i, &t)) == 0; i++)
        code = show_table(log, &t);
    if (code < 0 && code != PAWL_NOT_FOUND)
        exit_code = cli_library_error(code, "looking at the tables of %s", to);
    return cli_close(log, to, exit_code);
}

static void show(const char *to, const pawl_savepoint_info *s) {
    char linked[32], copied[32];
    cli_printf("%s: the log up to LSN %" PRIu64 ", %" PRIu64 " segment%s and %" PRIu64
               " run%s of state; %s linked, %s copied; durable after %.3f s, ",
               to, s->lsn, s->segments, s->segments == 1 ? "" : "s", s->runs,
               s->runs == 1 ? "" : "s", cli_format_size(s->linked, linked),
               cli_format_size(s->copied, copied), (double)s->made_ns / 1e9);
    if ((s->flags & PAWL_SAVEPOINT_QUICK) != 0)
        cli_printf("what is linked was not read\n");
    else
        cli_printf("verified in another %.3f s\n", (double)s->verified_ns / 1e9);
}

static void begin(const cli_args *a, pawl_savepoint_info *info, cli_progress *progress,
                  const char *what) {
    *info = (pawl_savepoint_info)PAWL_SAVEPOINT_INIT;
    info->flags = (a->value[QUICK] != NULL ? PAWL_SAVEPOINT_QUICK : 0u) |
                  (a->value[COPY] != NULL ? PAWL_SAVEPOINT_COPY : 0u);
    info->finding = on_finding;
    info->progress = cli_progress_call;
    info->arg = progress;
    cli_progress_begin(progress, what);
}

static int run_savepoint(cli_args *a) {
    const char *dir = a->positional[0], *to = a->positional[1];
    pawl *log;
    int exit_code = cli_open(a, dir, PAWL_OPEN_READ, &log);
    if (exit_code != CLI_OK)
        return exit_code;
    cli_progress progress;
    pawl_savepoint_info info;
    begin(a, &info, &progress, "saving");
    int code = pawl_savepoint(log, to, &info);
    cli_progress_clear(&progress);
    if (code < 0)
        exit_code = cli_library_error(code, "making savepoint %s of %s", to, dir);
    exit_code = cli_close(log, dir, exit_code);
    if (exit_code != CLI_OK)
        return exit_code;
    show(to, &info);
    return cli_finish_output(show_tables(a, to));
}

typedef int (*remake_fn)(const char *savepoint, const char *to, pawl_savepoint_info *info,
                         pawl_error *err);

static int remake(cli_args *a, const char *what, remake_fn call, pawl_savepoint_info *info) {
    const char *from = a->positional[0], *to = a->positional[1];
    cli_progress progress;
    begin(a, info, &progress, what);
    int code = call(from, to, info, NULL);
    cli_progress_clear(&progress);
    if (code < 0)
        return cli_library_error(code, "making %s of savepoint %s", to, from);
    show(to, info);
    return show_tables(a, to);
}

static int run_restore(cli_args *a) {
    pawl_savepoint_info info;
    int exit_code = remake(a, "restoring", pawl_restore, &info);
    if (exit_code != CLI_OK)
        return exit_code;
    cli_printf(
        "it goes on at LSN %" PRIu64
        " in the place of the log that was saved, which must not go on too. Producers,\n"
        "sources and sinks may know more than it does: `man pawl` says what becomes of that.\n",
        info.lsn);
    return cli_finish_output(CLI_OK);
}

static int run_fork(cli_args *a) {
    pawl_savepoint_info info;
    int exit_code = remake(a, "forking", pawl_fork, &info);
    if (exit_code != CLI_OK)
        return exit_code;
    cli_printf("it is a log of its own from LSN %" PRIu64 " on, and goes by the id ", info.lsn);
    for (int i = 0; i < 16; i++)
        cli_printf("%02x", info.log_id[i]);
    cli_printf("\n");
    return cli_finish_output(CLI_OK);
}

const cli_command cli_savepoint = {
    .name = "savepoint",
    .synopsis = "DIR TO",
    .summary = "Save a log as it is now, with its state, while it runs",
    .details =
        "TO is a new directory. 'pawl verify' and readers take it as a log; nothing writes to it:\n"
        "'pawl restore' and 'pawl fork' make logs of it. Files are hard links where TO is on the\n"
        "log's file system; the rest is copied. It is verified before it gets its name. What an\n"
        "interrupted run leaves is called TO.unfinished; the next one removes it.",
    .options = options,
    .min = 2,
    .max = 2,
    .opens = true,
    .run = run_savepoint,
};

const cli_command cli_restore = {
    .name = "restore",
    .synopsis = "SAVEPOINT TO",
    .summary = "Make a log of a savepoint that goes on in the saved log's place",
    .details =
        "The log that was saved must not go on too. Producers send again what came after the\n"
        "savepoint, sources read on from its positions, and sinks compare their targets with it.",
    .options = options,
    .min = 2,
    .max = 2,
    .opens = true,
    .run = run_restore,
};

const cli_command cli_fork = {
    .name = "fork",
    .synopsis = "SAVEPOINT TO",
    .summary = "Make a log of its own of a savepoint",
    .details =
        "It goes by another id, so to sinks it is a log that their targets have never seen.\n"
        "The log that was saved, its sources and its sinks are not touched.",
    .options = options,
    .min = 2,
    .max = 2,
    .opens = true,
    .run = run_fork,
};
