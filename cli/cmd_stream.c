/* SPDX-License-Identifier: Apache-2.0
 *
 * cmd_stream.c - `pawl stream create`, `pawl stream delete` and `pawl stream list`.
 */
#include <inttypes.h>
#include <string.h>

#include "cli/cli.h"

enum { PARTITIONS };
static const cli_option options[] = {
    [PARTITIONS] = {"partitions", "N", "with create: how many partitions, 1 to 1024 (1)"},
    {NULL, NULL, NULL},
};

static int create(cli_args *a) {
    if (a->count != 3)
        return cli_usage(a, "create takes DIR and NAME");
    const char *dir = a->positional[1], *name = a->positional[2];
    uint64_t partitions = 1;
    const char *text = a->value[PARTITIONS];
    if (text != NULL &&
        (!cli_parse_number(text, &partitions) || partitions < 1 || partitions > 1024))
        return cli_usage(a, "--partitions takes a number from 1 to 1024, not '%s'", text);

    pawl *log;
    int exit_code = cli_open(a, dir, 0, &log);
    if (exit_code != CLI_OK)
        return exit_code;
    int code = pawl_stream_create(log, name, (uint32_t)partitions, NULL);
    if (code == PAWL_EXISTS) {
        cli_error("stream '%s' exists already in %s; nothing was changed", name, dir);
        exit_code = CLI_PROBLEM;
    } else if (code < 0) {
        exit_code = cli_library_error(code, "creating stream '%s' in %s", name, dir);
    }
    return cli_close(log, dir, exit_code);
}

static int delete (cli_args *a) {
    if (a->count != 3)
        return cli_usage(a, "delete takes DIR and NAME");
    if (a->value[PARTITIONS] != NULL)
        return cli_usage(a, "--partitions goes with create");
    const char *dir = a->positional[1], *name = a->positional[2];
    pawl *log;
    int exit_code = cli_open(a, dir, 0, &log);
    if (exit_code != CLI_OK)
        return exit_code;
    int code = pawl_stream_delete(log, name);
    if (code < 0)
        exit_code = cli_library_error(code, "deleting stream '%s' in %s", name, dir);
    return cli_close(log, dir, exit_code);
}

static int list(cli_args *a) {
    if (a->count != 2)
        return cli_usage(a, "list takes DIR only");
    if (a->value[PARTITIONS] != NULL)
        return cli_usage(a, "--partitions goes with create");
    const char *dir = a->positional[1];
    pawl *log;
    int exit_code = cli_open(a, dir, PAWL_OPEN_READ, &log);
    if (exit_code != CLI_OK)
        return exit_code;
    pawl_stream_info s;
    for (uint32_t i = 0; pawl_stream_at(log, i, &s) >= 0; i++) {
        uint64_t records = 0;
        for (uint32_t p = 0; p < s.partitions; p++) {
            pawl_bounds b;
            if (pawl_partition_bounds(log, s.id, p, &b) >= 0)
                records += b.durable - b.first;
        }
        cli_printf("%s\t%" PRIu32 " partition%s\t%" PRIu64 " records\n", s.name, s.partitions,
                   s.partitions == 1 ? "" : "s", records);
    }
    return cli_close(log, dir, cli_finish_output(CLI_OK));
}

static int run(cli_args *a) {
    if (strcmp(a->positional[0], "create") == 0)
        return create(a);
    if (strcmp(a->positional[0], "list") == 0)
        return list(a);
    if (strcmp(a->positional[0], "delete") == 0)
        return delete (a);
    return cli_usage(a, "'%s' is not create, delete or list", a->positional[0]);
}

const cli_command cli_stream = {
    .name = "stream",
    .synopsis = "create DIR NAME [--partitions N]\ndelete DIR NAME\nlist DIR",
    .summary = "Create or delete a stream, or list the streams",
    .details =
        "A name is 1 to 127 bytes of A-Z a-z 0-9 . _ - Deleting also drops the positions of\n"
        "processors in the stream; its space comes back as retention drops segments.",
    .options = options,
    .min = 2,
    .max = 3,
    .opens = true,
    .run = run,
};
