/* SPDX-License-Identifier: Apache-2.0
 *
 * cmd_cat.c - `pawl cat`: writes a stream's durable records to standard output. It opens the log
 * read-only, so it works beside a writer.
 */
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/record_text.h"

enum { PARTITION, FROM, FOLLOW, FORMAT };
static const cli_option options[] = {
    [PARTITION] = {"partition", "P", "this partition only (all, one after the other)"},
    [FROM] = {"from", "OFFSET", "begin at this offset of each partition (the oldest kept)"},
    [FOLLOW] = {"follow", NULL, "at the end wait for more, until told to stop"},
    [FORMAT] = {"format", "text|json|raw", "how to write a record (text)"},
    {NULL, NULL, NULL},
};

enum { IDLE_MS = 100, STALLED_MS = 2000 };

typedef struct job {
    const cli_args *args;
    const char *dir;
    pawl *log;
    pawl_stream_info stream;
    uint32_t first, last; /* partitions, both included */
    uint64_t from;        /* UINT64_MAX: the oldest kept */
    bool follow;
    record_text_fn format;
    bool on_terminal;
    bool lost; /* some records were lost to damage, and that was told */
} job;

/* Finds where a partition's reading begins and ends, and whether --from is in it. */
static int find_bounds(const job *j, uint32_t partition, pawl_bounds *b) {
    int code = pawl_partition_bounds(j->log, j->stream.id, partition, b);
    if (code < 0)
        return cli_library_error(code, "%s, stream %s, partition %" PRIu32, j->dir, j->stream.name,
                                 partition);
    if (j->from == UINT64_MAX)
        return CLI_OK;
    if (j->from > b->durable)
        cli_error("offset %" PRIu64 " is beyond the end of stream %s, partition %" PRIu32
                  ", in %s; the next record there gets offset %" PRIu64,
                  j->from, j->stream.name, partition, j->dir, b->durable);
    else if (j->from < b->first)
        cli_error("offset %" PRIu64 " of stream %s, partition %" PRIu32
                  ", in %s is not kept any more; the oldest that is, is %" PRIu64,
                  j->from, j->stream.name, partition, j->dir, b->first);
    else {
        b->first = j->from;
        return CLI_OK;
    }
    return CLI_PROBLEM;
}

static int open_reader(const job *j, uint32_t partition, uint64_t from, pawl_reader **out) {
    int code = pawl_reader_open(j->log, j->stream.id, partition, from, PAWL_READ_COMMITTED, out);
    if (code >= 0)
        return CLI_OK;
    *out = NULL;
    return cli_library_error(code,
                             "reading stream %s, partition %" PRIu32 ", in %s from offset %" PRIu64,
                             j->stream.name, partition, j->dir, from);
}

/* Reads and writes one batch. *got: records written, or -1 if the reading is to end with
 * *exit_code. */
static int read_batch(job *j, pawl_reader *r, uint32_t partition, int timeout_ms, uint64_t end,
                      int *exit_code) {
    pawl_batch batch = {0};
    int got = pawl_read(r, 0, timeout_ms, &batch);
    if (got < 0)
        record_text_flush(); /* what was good comes before a message, and before the end */
    if (got == PAWL_LOST) {
        cli_error("stream %s, partition %" PRIu32 ": records %" PRIu64 " to %" PRIu64
                  " were lost to damage; continuing after them",
                  j->stream.name, partition, batch.from, batch.to - 1);
        j->lost = true;
        return 1;
    }
    if (got == PAWL_STOPPED)
        return -1;
    if (got < 0) {
        *exit_code =
            cli_library_error(got, "stream %s, partition %" PRIu32 ", after offset %" PRIu64,
                              j->stream.name, partition, pawl_reader_position(r));
        if (got == PAWL_DAMAGED)
            cli_error("`pawl verify %s` tells what is damaged, `pawl repair %s` saves what is not",
                      j->dir, j->dir);
        return -1;
    }
    for (size_t i = 0; i < batch.count && batch.records[i].offset < end; i++) {
        if (!j->format(&batch.records[i]))
            return -1;
    }
    if (j->on_terminal && !record_text_flush())
        return -1;
    return got;
}

/* Up to the durable end as it is when this begins: a writer beside it must not keep it from
 * ending. */
static int cat_partition(job *j, uint32_t partition) {
    pawl_bounds b;
    int exit_code = find_bounds(j, partition, &b);
    if (exit_code != CLI_OK || b.first >= b.durable)
        return exit_code;
    pawl_reader *r;
    exit_code = open_reader(j, partition, b.first, &r);
    if (exit_code != CLI_OK)
        return exit_code;
    while (pawl_reader_position(r) < b.durable && !cli_stopping()) {
        int got = read_batch(j, r, partition, STALLED_MS, b.durable, &exit_code);
        if (got < 0)
            break;
        if (got == 0) {
            record_text_flush();
            cli_error("stream %s, partition %" PRIu32 ": nothing to be read at offset %" PRIu64
                      ", though %" PRIu64 " is durable; `pawl verify %s` may tell why",
                      j->stream.name, partition, pawl_reader_position(r), b.durable, j->dir);
            exit_code = CLI_PROBLEM;
            break;
        }
    }
    pawl_reader_close(r);
    record_text_flush();
    return exit_code;
}

static bool output_closed(void) {
    struct pollfd out = {.fd = STDOUT_FILENO, .events = 0};
    return poll(&out, 1, 0) == 1 && (out.revents & POLLERR) != 0;
}

static int follow_readers(job *j, pawl_reader **readers, uint32_t count) {
    int exit_code = CLI_OK;
    bool idle = false;
    while (!cli_stopping()) {
        bool some = false;
        for (uint32_t i = 0; i < count; i++) {
            /* Only when a whole round brought nothing does the first partition's turn wait a little
             * for all. */
            int got = read_batch(j, readers[i], j->first + i, i == 0 && idle ? IDLE_MS : 0,
                                 UINT64_MAX, &exit_code);
            if (got < 0)
                return exit_code;
            some = some || got > 0;
        }
        idle = !some;
        if (!record_text_flush() || (idle && output_closed()))
            return exit_code;
    }
    return exit_code;
}

static int follow(job *j) {
    uint32_t count = j->last - j->first + 1, opened = 0;
    pawl_reader **readers =
        calloc(count, sizeof *readers); // NOLINT(bugprone-sizeof-expression): an array of pointers
    if (readers == NULL) {
        cli_error("out of memory for %" PRIu32 " partitions", count);
        return CLI_PROBLEM;
    }
    int exit_code = CLI_OK;
    for (; opened < count && exit_code == CLI_OK; opened++) {
        pawl_bounds b;
        exit_code = find_bounds(j, j->first + opened, &b);
        if (exit_code == CLI_OK)
            exit_code = open_reader(j, j->first + opened, b.first, &readers[opened]);
    }
    if (exit_code == CLI_OK)
        exit_code = follow_readers(j, readers, count);
    for (uint32_t i = 0; i < opened; i++)
        if (readers[i] != NULL)
            pawl_reader_close(readers[i]);
    free(readers);
    return exit_code;
}

static int run_open_log(job *j) {
    int exit_code = cli_find_stream(j->log, j->dir, j->args->positional[1], &j->stream);
    if (exit_code != CLI_OK)
        return exit_code;
    j->last = j->stream.partitions - 1;
    const char *text = j->args->value[PARTITION];
    if (text != NULL) {
        uint64_t partition = 0;
        cli_parse_number(text, &partition);
        if (partition > j->last) {
            cli_error("stream %s in %s has no partition %" PRIu64 "; it has %" PRIu32
                      ", counted from 0",
                      j->stream.name, j->dir, partition, j->stream.partitions);
            return CLI_PROBLEM;
        }
        j->first = j->last = (uint32_t)partition;
    }
    for (uint32_t p = j->first; p <= j->last; p++) { /* before anything is written */
        pawl_bounds b;
        exit_code = find_bounds(j, p, &b);
        if (exit_code != CLI_OK)
            return exit_code;
    }
    if (j->follow)
        exit_code = follow(j);
    else
        for (uint32_t p = j->first;
             p <= j->last && exit_code == CLI_OK && !cli_output_failed() && !cli_stopping(); p++)
            exit_code = cat_partition(j, p);
    return exit_code == CLI_OK && j->lost ? CLI_PROBLEM : exit_code;
}

static int run(cli_args *a) {
    job j = {.args = a,
             .dir = a->positional[0],
             .from = UINT64_MAX,
             .follow = a->value[FOLLOW] != NULL,
             .on_terminal = isatty(STDOUT_FILENO) != 0};
    const char *text;
    uint64_t partition;
    if ((text = a->value[PARTITION]) != NULL && !cli_parse_number(text, &partition))
        return cli_usage(a, "--partition takes a number, not '%s'", text);
    if ((text = a->value[FROM]) != NULL &&
        (!cli_parse_number(text, &j.from) || j.from == UINT64_MAX))
        return cli_usage(a, "--from takes an offset, not '%s'", text);
    text = a->value[FORMAT];
    j.format = record_text_by_name(text != NULL ? text : "text");
    if (j.format == NULL)
        return cli_usage(a, "--format takes text, json or raw, not '%s'", text);
    if (text != NULL && strcmp(text, "raw") == 0 && j.on_terminal)
        return cli_usage(a, "--format raw is for a file or a pipe, not for a terminal");
    int exit_code = cli_open(a, j.dir, PAWL_OPEN_READ, &j.log);
    if (exit_code != CLI_OK)
        return exit_code;
    cli_catch_signals(j.log);
    exit_code = cli_finish_output(run_open_log(&j));
    if (exit_code == CLI_OK && cli_stopping() && !j.follow)
        exit_code = CLI_PROBLEM; /* not all was written */
    return cli_close(j.log, j.dir, exit_code);
}

const cli_command cli_cat = {
    .name = "cat",
    .synopsis = "DIR STREAM [--partition P] [--from OFFSET] [--follow] [--format text|json|raw]",
    .summary = "Write a stream's durable records to standard output",
    .details =
        "text: the value and a newline. json: one object a line with offset, partition, timestamp "
        "(nanoseconds),\n"
        "key, value, headers; what is not UTF-8 comes as base64 under a name that ends in _base64. "
        "raw: the\n"
        "value's length in 4 bytes, little-endian, and the value. Works beside a writer.",
    .options = options,
    .min = 2,
    .max = 2,
    .opens = true,
    .run = run,
};
