/* SPDX-License-Identifier: Apache-2.0
 *
 * cmd_dump.c - `pawl dump`: the frames of a log, readable.
 */
#include <inttypes.h>
#include <string.h>

#include "cli/cli.h"

static int on_frame(void *arg, const pawl_frame_info *f) {
    (void)arg;
    char when[40];
    cli_printf("%" PRIu64 " %s %s, %" PRIu64 " bytes, epoch %" PRIu64 ", durable %" PRIu64
               ", %s, link %016" PRIx64 ", hash %016" PRIx64 ", %" PRIu32 " runs\n",
               f->lsn, f->kind, f->state, f->bytes, f->epoch, f->durable,
               cli_format_time(f->time_ns, when), f->link, f->hash, f->runs);
    for (const char *line = f->text; line != NULL && *line != '\0';) {
        size_t size = strcspn(line, "\n");
        cli_printf("    %.*s\n", (int)size, line);
        line += size + (line[size] == '\n');
    }
    return cli_output_failed() || cli_stopping();
}

static int run(cli_args *a) {
    uint64_t from = 0;
    const char *dir = a->positional[0];
    if (a->count == 2 && !cli_parse_number(a->positional[1], &from))
        return cli_usage(a, "'%s' is not an LSN", a->positional[1]);
    pawl_error e = {0};
    cli_catch_signals(NULL);
    int code = pawl_dump(dir, from, on_frame, NULL, &e);
    if (code >= 0 || cli_output_failed())
        return cli_finish_output(CLI_OK);
    cli_flush();
    bool found =
        code == PAWL_DAMAGED || code == PAWL_FOREIGN || code == PAWL_VERSION || code == PAWL_RANGE;
    cli_error("%s: %s", dir, e.message[0] != '\0' ? e.message : pawl_strerror(code));
    return cli_finish_output(found ? CLI_PROBLEM : CLI_CANNOT_OPEN);
}

const cli_command cli_dump = {
    .name = "dump",
    .synopsis = "DIR [LSN]",
    .summary = "Show a log's frames, from the oldest or from the one at or after LSN",
    .details = "A line for each frame, and below it one for each of its runs. The last line tells "
               "what ends "
               "the log.",
    .min = 1,
    .max = 2,
    .run = run,
};
