/* SPDX-License-Identifier: Apache-2.0
 *
 * cmd_processor.c - `pawl processor list` and `pawl processor forget`.
 */
#include <inttypes.h>
#include <stdbool.h>
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

/* Batches that a sink has decided on in two phases, and that its target may still hold prepared:
 * nobody will settle them once the sink is forgotten. False: there are some; each is named. */
static bool settled(pawl *log, const char *processor, const char *dir) {
    uint32_t id, open = 0;
    char name[128];
    pawl_decision d;
    bool found = false;
    for (uint32_t i = 0; !found && pawl_processor_at(log, i, &id, name) >= 0; i++)
        found = strcmp(name, processor) == 0;
    for (uint32_t i = 0; found && pawl_decision_at(log, i, &d) >= 0; i++)
        if (d.processor == id && strncmp(d.name, "pawl-", 5) == 0) {
            cli_error("the batch %s is decided and not settled", d.name);
            open++;
        }
    if (open != 0)
        cli_error("%s: run the sink '%s' once more, so that it settles them, or end them in the "
                  "target by hand and run it with on_lost: accept; then forget it",
                  dir, processor);
    return open == 0;
}

static int forget(cli_args *a) {
    if (a->count != 3)
        return cli_usage(a, "forget takes DIR and NAME");
    const char *dir = a->positional[1], *name = a->positional[2];
    pawl *log;
    int exit_code = cli_open(a, dir, 0, &log);
    if (exit_code != CLI_OK)
        return exit_code;
    if (!settled(log, name, dir))
        return cli_close(log, dir, CLI_PROBLEM);
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
               "and runs again begins at the oldest record that is kept. A sink with batches that "
               "it has\ndecided on and not settled in its target isn't forgotten.",
    .min = 2,
    .max = 3,
    .opens = true,
    .run = run,
};
