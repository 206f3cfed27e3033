/* SPDX-License-Identifier: Apache-2.0
 *
 * cmd_pipe.c - `pawl pipe`: any program as a processor. A batch of records goes to its stdin, a
 * line each; all lines of its stdout are committed together with the position, or nothing is. The
 * work is done by the library's processor exec.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "pawl_connect.h"

enum { NAME, FROM, TO, BATCH, FOLLOW, GUARANTEE };
static const cli_option options[] = {
    [NAME] = {"name", "NAME", "the processor's name; its position is kept under it"},
    [FROM] = {"from", "A", "the stream to read"},
    [TO] = {"to", "B", "the stream to write"},
    [BATCH] = {"batch", "N", "records a run of CMD at most, also at most 1 MiB (1000)"},
    [FOLLOW] = {"follow", NULL, "at the end wait for more, until told to stop"},
    [GUARANTEE] = {"guarantee", "G", "exactly-once, at-least-once or at-most-once (exactly-once)"},
    {NULL, NULL, NULL},
};

typedef struct job {
    const cli_args *args;
    const char *dir;
    pawl *log;
    pawl_stream_info from, to;
    pawl_processor_ops exec;
    cli_progress progress;
    uint64_t todo, batches, taken, emitted; /* in records, but batches */
} job;

/* The processor exec, of the program after "--". It gets the environment of the person who typed
 * this, but for what a service manager had for pawl. */
static int make_exec(job *j, pawl_error *err) {
    size_t n = 0;
    while (j->args->program[n] != NULL)
        n++;
    pawl_setting *items = calloc(n + 2, sizeof *items);
    char(*names)[32] = calloc(n, sizeof *names);
    int rc = items != NULL && names != NULL ? 0 : PAWL_MEMORY;
    for (size_t i = 0; rc == 0 && i < n; i++) {
        snprintf(names[i], sizeof names[i], "command.%zu", i);
        items[i] = (pawl_setting){names[i], j->args->program[i], 0};
    }
    if (rc == 0) {
        j->exec = (pawl_processor_ops)PAWL_PROCESSOR_OPS_INIT;
        items[n] = (pawl_setting){"to", j->to.name, 0};
        items[n + 1] = (pawl_setting){"environment.0", "*", 0};
        rc = pawl_processor_make("exec", &(pawl_settings){.items = items, .count = n + 2}, &j->exec,
                                 err);
    }
    free(names);
    free(items);
    return rc;
}

/* Around the processor: counts, and shows how far it is. */

static int start(void *self, pawl *log, const pawl_processor_place *at, pawl_error *err) {
    const job *j = self;
    return j->exec.start(j->exec.self, log, at, err);
}

static int process(pawl_context *ctx, const pawl_record *records, size_t count, void *self) {
    job *j = self;
    uint64_t taken, before, after;
    j->exec.counts(j->exec.self, &taken, &before);
    int rc = j->exec.process(ctx, records, count, j->exec.self);
    if (rc < 0)
        return rc;
    j->exec.counts(j->exec.self, &taken, &after);
    j->emitted += after - before;
    j->batches++;
    j->taken += count;
    if (j->todo > 0)
        cli_progress_show(&j->progress, j->taken, j->todo);
    return 0;
}

/* ---- the run */

/* How many records the run will go through; for the progress bar only. */
static uint64_t count_todo(const job *j) {
    uint64_t todo = 0;
    for (uint32_t p = 0; p < j->from.partitions; p++) {
        pawl_bounds b;
        uint64_t at = 0;
        if (pawl_partition_bounds(j->log, j->from.id, p, &b) < 0)
            return 0;
        if (pawl_position_get(j->log, j->args->value[NAME], j->from.id, p, &at) < 0 || at < b.first)
            at = b.first;
        todo += b.durable > at ? b.durable - at : 0;
    }
    return todo;
}

static int run_attached(job *j, bool follow) {
    int exit_code = CLI_OK;
    j->todo = follow ? 0 : count_todo(j);
    cli_progress_begin(&j->progress, "piping");
    /* A stop that came before pawl_run() is in force in it. */
    int code = pawl_run(j->log, 0, follow ? 0 : PAWL_RUN_UNTIL_IDLE);
    cli_progress_clear(&j->progress);
    if (code == PAWL_PROCESSOR) {
        pawl_error e;
        pawl_last_error(&e);
        cli_error("%s; nothing of that batch was kept. Mend the cause and run this again: it goes "
                  "on there",
                  e.message);
        exit_code = CLI_PROBLEM;
    } else if (code < 0 && code != PAWL_STOPPED) {
        exit_code = cli_library_error(code, "processor '%s' in %s", j->args->value[NAME], j->dir);
    } else if (cli_stopping() && !follow) {
        cli_error("stopped on request, before it had caught up; run it again to go on");
        exit_code = CLI_PROBLEM;
    }
    cli_print_to(stderr,
                 "piped %" PRIu64 " records of %s in %" PRIu64 " batches into %" PRIu64 " of %s\n",
                 j->taken, j->from.name, j->batches, j->emitted, j->to.name);
    return exit_code;
}

static int run_processor(job *j, int32_t guarantee, uint32_t batch) {
    pawl_error e = {0};
    pawl_processor *processor;
    pawl_processor_config c = PAWL_PROCESSOR_INIT;
    c.name = j->args->value[NAME];
    c.inputs = &j->from.id;
    c.input_count = 1;
    c.guarantee = guarantee;
    c.batch_max = batch;
    c.on_error = PAWL_ON_ERROR_STOP;
    int code = make_exec(j, &e);
    if (code < 0) {
        cli_error("%s", e.message[0] != 0 ? e.message : pawl_strerror(code));
        return code == PAWL_INVALID ? CLI_USAGE : CLI_PROBLEM;
    }
    pawl_processor_ops around = j->exec;
    around.self = j;
    around.start = start;
    around.process = process;
    code = pawl_processor_attach(j->log, &c, &around, &processor, &e);
    if (code < 0) {
        cli_error("adding processor '%s' to %s: %s", c.name, j->dir, e.message);
        code = code == PAWL_INVALID ? CLI_USAGE : CLI_PROBLEM;
    } else {
        code = run_attached(j, j->args->value[FOLLOW] != NULL);
        pawl_processor_remove(processor);
    }
    j->exec.destroy(j->exec.self);
    return code;
}

static int parse_guarantee(const char *text, int32_t *out) {
    static const char *const names[] = {"exactly-once", "at-least-once", "at-most-once"};
    for (int32_t i = 0; i < 3; i++) {
        if (text == NULL || strcmp(text, names[i]) == 0) {
            *out = i;
            return 0;
        }
    }
    return -1;
}

static int run(cli_args *a) {
    job j = {.args = a, .dir = a->positional[0]};
    static const int needed[] = {NAME, FROM, TO};
    for (size_t i = 0; i < sizeof needed / sizeof needed[0]; i++)
        if (a->value[needed[i]] == NULL)
            return cli_usage(a, "--%s is missing", options[needed[i]].name);
    if (a->program == NULL || a->program[0] == NULL)
        return cli_usage(a, "which program? It comes after --");
    if (strcmp(a->value[FROM], a->value[TO]) == 0)
        return cli_usage(a, "--from and --to are the same stream; that would never end");
    uint64_t batch = 1000;
    if (a->value[BATCH] != NULL &&
        (!cli_parse_number(a->value[BATCH], &batch) || batch < 1 || batch > 1000000))
        return cli_usage(a, "--batch takes a number from 1 to 1000000, not '%s'", a->value[BATCH]);
    int32_t guarantee;
    if (parse_guarantee(a->value[GUARANTEE], &guarantee) != 0)
        return cli_usage(a,
                         "--guarantee takes exactly-once, at-least-once or at-most-once, not '%s'",
                         a->value[GUARANTEE]);

    a->warns = true;
    int exit_code = cli_open(a, j.dir, 0, &j.log);
    if (exit_code != CLI_OK)
        return exit_code;
    cli_catch_signals(j.log);
    exit_code = cli_find_stream(j.log, j.dir, a->value[FROM], &j.from);
    if (exit_code == CLI_OK)
        exit_code = cli_find_stream(j.log, j.dir, a->value[TO], &j.to);
    if (exit_code == CLI_OK) {
        cli_programs_begin();
        exit_code = run_processor(&j, guarantee, (uint32_t)batch);
        cli_programs_end();
    }
    return cli_close(j.log, j.dir, exit_code);
}

const cli_command cli_pipe = {
    .name = "pipe",
    .synopsis = "DIR --name NAME --from A --to B [--batch N] [--follow] [--guarantee G] -- CMD...",
    .summary = "Run any program as a processor from one stream to another",
    .details =
        "CMD is run once for each batch: it gets the records' values on its standard input, a line "
        "each, and each\n"
        "line of its standard output becomes a record of B, in the input's partition modulo B's "
        "partitions. If it\n"
        "ends with status 0, all of that and the position are committed together, else nothing is; "
        "after three\n"
        "further attempts pawl ends with 1. Status 75 means \"not now\": the batch is tried again, "
        "with growing\n"
        "pauses, until it works; pawl says so at once, then every 10 seconds at most. CMD finds "
        "PAWL_STREAM,\n"
        "PAWL_PARTITION, PAWL_FROM and PAWL_TO in its environment: the batch is the records "
        "from PAWL_FROM\n"
        "up to, not including, PAWL_TO. Beside these it gets your environment, but not what a "
        "service manager\n"
        "has for pawl, no other descriptor, no terminal, and no new privileges (sudo). Relative "
        "directories in PATH are passed over.",
    .options = options,
    .min = 1,
    .max = 1,
    .opens = true,
    .program = true,
    .run = run,
};
