/* SPDX-License-Identifier: Apache-2.0
 *
 * cmd_processor.c - `pawl processor list` and `pawl processor forget`.
 */
#include <inttypes.h>
#include <string.h>

#include "cli/cli.h"

static int list(cli_args *a) {
    if (a->count != 2)
        return cli_usage(a, "list takes DIR only");
    const char *dir = a->positional[1];
    pawl *log;
    int exit_code = cli_open(a, dir, PAWL_OPEN_READ, &log);
    if (exit_code != CLI_OK)
        return exit_code;
    uint32_t id;
    char name[128];
    for (uint32_t i = 0; pawl_processor_at(log, i, &id, name) >= 0; i++)
        cli_printf("%s\n", name);
    return cli_close(log, dir, cli_finish_output(CLI_OK));
}

static int forget(cli_args *a) {
    if (a->count != 3)
        return cli_usage(a, "forget takes DIR and NAME");
    const char *dir = a->positional[1], *name = a->positional[2];
    pawl *log;
    int exit_code = cli_open(a, dir, 0, &log);
    if (exit_code != CLI_OK)
        return exit_code;
    int code = pawl_processor_forget(log, name);
    if (code == PAWL_NOT_FOUND) {
        cli_error("there is no processor '%s' in %s; `pawl processor list %s` shows what there is",
                  name, dir, dir);
        exit_code = CLI_PROBLEM;
    } else if (code < 0) {
        exit_code = cli_library_error(code, "forgetting processor '%s' in %s", name, dir);
    }
    return cli_close(log, dir, exit_code);
}

static int run(cli_args *a) {
    if (strcmp(a->positional[0], "list") == 0)
        return list(a);
    if (strcmp(a->positional[0], "forget") == 0)
        return forget(a);
    return cli_usage(a, "'%s' is neither list nor forget", a->positional[0]);
}

const cli_command cli_processor = {
    .name = "processor",
    .synopsis = "list DIR\nforget DIR NAME",
    .summary = "List the processors, or forget one and its positions",
    .details = "A processor that will never run again holds back retention until it is forgotten. "
               "One that "
               "is forgotten\n"
               "and runs again begins at the oldest record that is kept.",
    .min = 2,
    .max = 3,
    .opens = true,
    .run = run,
};
