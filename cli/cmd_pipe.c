/* SPDX-License-Identifier: Apache-2.0
 *
 * cmd_pipe.c - `pawl pipe`: any program as a processor. A batch of records goes to its stdin, a
 * line each; all lines of its stdout are committed together with the position, or nothing is.
 *
 * Only durable input is given to it (committed_input): it may act on the world, and that must not
 * happen for records that a power cut takes back.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "connectors/exec/child.h"

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
    char **env; /* this process's without PAWL_ variables, then room for VARIABLES of ours */
    size_t env_count;
    cli_progress progress;
    uint64_t todo, batches, taken, emitted; /* in records, but batches */
    char why[256];                          /* of the last failure */
    uint64_t failed_from, failed_to;
    uint32_t failed_partition;
} job;

/* ---- the environment of CMD */

enum { VARIABLES = 4 };

static bool make_environment(job *j) {
    size_t count = 0;
    while (environ[count] != NULL)
        count++;
    j->env = calloc(count + VARIABLES + 1, sizeof *j->env);
    for (size_t i = 0; j->env != NULL && i < count; i++) {
        static const char *const ours[] = {
            "PAWL_STREAM=", "PAWL_PARTITION=", "PAWL_FROM=", "PAWL_TO="};
        bool replaced = false;
        for (size_t k = 0; k < VARIABLES; k++)
            replaced = replaced || strncmp(environ[i], ours[k], strlen(ours[k])) == 0;
        if (!replaced)
            j->env[j->env_count++] = environ[i];
    }
    return j->env != NULL;
}

/* ---- one batch */

typedef struct emission {
    job *job;
    pawl_context *ctx;
    uint32_t partition; /* of the output */
    uint64_t lines;
    int code; /* why an emit failed */
    size_t refused_size;
} emission;

static bool emit_line(void *arg, const char *line, size_t size) {
    emission *e = arg;
    pawl_record r = {.value = line, .value_len = (uint32_t)size};
    e->code =
        size > UINT32_MAX ? PAWL_TOO_LARGE : pawl_emit(e->ctx, e->job->to.id, e->partition, &r);
    e->refused_size = size;
    e->lines += e->code >= 0;
    return e->code >= 0;
}

static char *join_values(const pawl_record *records, size_t count, size_t *size) {
    size_t total = 0;
    for (size_t i = 0; i < count; i++)
        total += (size_t)records[i].value_len + 1;
    char *all = malloc(total), *to = all;
    for (size_t i = 0; all != NULL && i < count; i++) {
        if (records[i].value_len > 0)
            memcpy(to, records[i].value, records[i].value_len);
        to += records[i].value_len;
        *to++ = '\n';
    }
    *size = total;
    return all;
}

static int process(pawl_context *ctx, const pawl_record *records, size_t count, void *arg) {
    job *j = arg;
    uint32_t partition = pawl_context_partition(ctx);
    uint64_t from = records[0].offset, to = records[count - 1].offset + 1;
    char variables[VARIABLES][160];
    snprintf(variables[0], sizeof variables[0], "PAWL_STREAM=%s", j->from.name);
    snprintf(variables[1], sizeof variables[1], "PAWL_PARTITION=%" PRIu32, partition);
    snprintf(variables[2], sizeof variables[2], "PAWL_FROM=%" PRIu64, from);
    snprintf(variables[3], sizeof variables[3], "PAWL_TO=%" PRIu64, to);
    for (size_t i = 0; i < VARIABLES; i++)
        j->env[j->env_count + i] = variables[i];

    emission e = {.job = j, .ctx = ctx, .partition = partition % j->to.partitions};
    struct child_job c = {.program = j->args->program, .env = j->env, .line = emit_line, .arg = &e};
    struct child_result result = {.error = ENOMEM};
    char *input = join_values(records, count, &c.input_size);
    c.input = input;
    if (input != NULL)
        child_run(&c, &result);
    free(input);
    if (child_succeeded(&result)) {
        j->batches++;
        j->taken += count;
        j->emitted += e.lines;
        if (j->todo > 0)
            cli_progress_show(&j->progress, j->taken, j->todo);
        return 0;
    }
    j->failed_partition = partition;
    j->failed_from = from;
    j->failed_to = to;
    child_why(&c, &result, j->why, sizeof j->why);
    if (result.refused)
        snprintf(j->why, sizeof j->why,
                 "%s wrote a line of %zu bytes that stream %s did not take: %s", c.program[0],
                 e.refused_size, j->to.name, pawl_strerror(e.code));
    /* which record it was, CMD doesn't tell: none of the batch is good */
    pawl_fail(ctx, 0, j->why);
    return result.refused ? e.code : PAWL_PROCESSOR;
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

static int run_processor(job *j, int32_t guarantee, uint32_t batch) {
    pawl_processor_config c = PAWL_PROCESSOR_INIT;
    c.name = j->args->value[NAME];
    c.inputs = &j->from.id;
    c.input_count = 1;
    c.guarantee = guarantee;
    c.process = process;
    c.arg = j;
    c.batch_max = batch;
    c.committed_input = 1;
    c.on_error = PAWL_ON_ERROR_STOP;
    pawl_processor *processor;
    int code = pawl_processor_add(j->log, &c, &processor);
    if (code < 0)
        return cli_library_error(code, "adding processor '%s' to %s", c.name, j->dir);
    bool follow = j->args->value[FOLLOW] != NULL;
    j->todo = follow ? 0 : count_todo(j);
    cli_progress_begin(&j->progress, "piping");
    int exit_code = CLI_OK;
    /* A stop that comes before pawl_run() is still in force in it. */
    code = pawl_run(j->log, 0, follow ? 0 : PAWL_RUN_UNTIL_IDLE);
    cli_progress_clear(&j->progress);
    if (code == PAWL_PROCESSOR && j->why[0] != '\0') {
        cli_error(
            "%s, on %s partition %" PRIu32 " offsets %" PRIu64 " to %" PRIu64
            "; nothing of that batch was kept. Mend the cause and run this again: it goes on there",
            j->why, j->from.name, j->failed_partition, j->failed_from, j->failed_to - 1);
        exit_code = CLI_PROBLEM;
    } else if (code < 0 && code != PAWL_STOPPED) {
        exit_code = cli_library_error(code, "processor '%s' in %s", c.name, j->dir);
    } else if (cli_stopping() && !follow) {
        cli_error("stopped on request, before it had caught up; run it again to go on");
        exit_code = CLI_PROBLEM;
    }
    fprintf(stderr,
            "piped %" PRIu64 " records of %s in %" PRIu64 " batches into %" PRIu64 " of %s\n",
            j->taken, j->from.name, j->batches, j->emitted, j->to.name);
    pawl_processor_remove(processor);
    return exit_code;
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

    int exit_code = cli_open(a, j.dir, 0, &j.log);
    if (exit_code != CLI_OK)
        return exit_code;
    cli_catch_signals(j.log);
    exit_code = cli_find_stream(j.log, j.dir, a->value[FROM], &j.from);
    if (exit_code == CLI_OK)
        exit_code = cli_find_stream(j.log, j.dir, a->value[TO], &j.to);
    if (exit_code == CLI_OK && !make_environment(&j)) {
        cli_error("out of memory for the environment");
        exit_code = CLI_PROBLEM;
    }
    if (exit_code == CLI_OK)
        exit_code = run_processor(&j, guarantee, (uint32_t)batch);
    free(j.env);
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
        "further attempts pawl ends with 1. CMD finds PAWL_STREAM, PAWL_PARTITION, PAWL_FROM and "
        "PAWL_TO in its\n"
        "environment: the batch is the records from PAWL_FROM up to, not including, PAWL_TO.",
    .options = options,
    .min = 1,
    .max = 1,
    .opens = true,
    .program = true,
    .run = run,
};
