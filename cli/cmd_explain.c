/* SPDX-License-Identifier: Apache-2.0
 *
 * cmd_explain.c - `pawl explain`: which input made a given record.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "cli/cli.h"

enum { PARTITION };
static const cli_option options[] = {
    [PARTITION] = {"partition", "P", "the record's partition (0)"},
    {NULL, NULL, NULL},
};

static void print_origin(const cli_args *a, uint64_t partition, uint64_t offset,
                         const pawl_origin *o) {
    char when[40];
    cli_printf("%s partition %" PRIu64 " offset %" PRIu64 "\n", a->positional[1], partition,
               offset);
    cli_printf("commit     LSN %" PRIu64 ", %s, epoch %" PRIu64 "\n", o->lsn,
               cli_format_time(o->time_ns, when), o->epoch);
    if (o->producer[0] != '\0')
        cli_printf("producer   %s, sequence %" PRIu64 " to %" PRIu64 "\n", o->producer,
                   o->sequence_first, o->sequence_last);
    uint32_t given = o->input_count < 64 ? o->input_count : 64;
    for (uint32_t i = 0; i < given; i++)
        cli_printf("input      %s partition %" PRIu32 " offsets %" PRIu64 " to %" PRIu64
                   ", by processor %s\n",
                   o->inputs[i].stream, o->inputs[i].partition, o->inputs[i].from,
                   o->inputs[i].to - 1, o->inputs[i].processor);
    if (o->input_count > given)
        cli_printf("           and %" PRIu32 " more intervals\n", o->input_count - given);
    if (o->input_count == 0 && o->producer[0] == '\0')
        cli_printf("origin     appended by a program, without a producer or input of this log\n");
}

static int explain(pawl *log, const cli_args *a, uint64_t partition, uint64_t offset) {
    const char *dir = a->positional[0];
    pawl_stream_info s;
    int exit_code = cli_find_stream(log, dir, a->positional[1], &s);
    if (exit_code != CLI_OK)
        return exit_code;
    if (partition >= s.partitions) {
        cli_error("stream %s in %s has no partition %" PRIu64 "; it has %" PRIu32
                  ", counted from 0",
                  s.name, dir, partition, s.partitions);
        return CLI_PROBLEM;
    }
    pawl_origin *o = calloc(1, sizeof *o); /* some 18 KiB */
    if (o == NULL) {
        cli_error("out of memory");
        return CLI_PROBLEM;
    }
    int code = pawl_explain(log, s.id, (uint32_t)partition, offset, o);
    if (code >= 0)
        print_origin(a, partition, offset, o);
    else
        exit_code =
            cli_library_error(code, "stream %s, partition %" PRIu64 ", offset %" PRIu64 ", in %s",
                              s.name, partition, offset, dir);
    free(o);
    return exit_code;
}

static int run(cli_args *a) {
    uint64_t offset, partition = 0;
    if (!cli_parse_number(a->positional[2], &offset))
        return cli_usage(a, "'%s' is not an offset", a->positional[2]);
    if (a->value[PARTITION] != NULL && !cli_parse_number(a->value[PARTITION], &partition))
        return cli_usage(a, "--partition takes a number, not '%s'", a->value[PARTITION]);
    pawl *log;
    int exit_code = cli_open(a, a->positional[0], PAWL_OPEN_READ, &log);
    if (exit_code != CLI_OK)
        return exit_code;
    return cli_close(log, a->positional[0], cli_finish_output(explain(log, a, partition, offset)));
}

const cli_command cli_explain = {
    .name = "explain",
    .synopsis = "DIR STREAM OFFSET [--partition P]",
    .summary = "Tell where a record came from: its commit and that commit's input",
    .options = options,
    .min = 3,
    .max = 3,
    .opens = true,
    .run = run,
};
