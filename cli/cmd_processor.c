/* SPDX-License-Identifier: Apache-2.0
 *
 * cmd_processor.c - `pawl processor list` and `pawl processor forget`.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <string.h>

#include "cli/cli.h"
#include "pawl_state.h"

enum { TABLES };
static const cli_option options[] = {
    [TABLES] = {"tables", NULL, "forget: with the tables of state that it keeps"},
    {NULL, NULL, NULL},
};

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

/* A table that the processor owns: its own one before the others, so that what a kill leaves is
 * never taken for whole. Internal ones ('~') go with the processor. */
static bool owned_table(pawl *log, const char *processor, pawl_table_info *out) {
    pawl_table_info at = PAWL_TABLE_INFO_INIT;
    bool found = false;
    for (uint32_t i = 0; pawl_table_at(log, i, &at) >= 0; i++)
        if (strcmp(at.owner_name, processor) == 0 && at.name[0] != '~' &&
            (!found || strlen(at.name) < strlen(out->name))) {
            *out = at;
            found = true;
        }
    return found;
}

static int forget_tables(const cli_args *a, pawl *log, const char *processor, const char *dir) {
    pawl_table_info t = PAWL_TABLE_INFO_INIT;
    while (owned_table(log, processor, &t)) {
        if (a->value[TABLES] == NULL) {
            cli_error("processor '%s' keeps the table %s, of %" PRIu64 " pairs; --tables deletes "
                      "what it keeps, too",
                      processor, t.name, t.pairs);
            return CLI_PROBLEM;
        }
        int code = pawl_table_delete(log, t.name);
        if (code < 0)
            return cli_library_error(code, "deleting table '%s' in %s", t.name, dir);
    }
    return CLI_OK;
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
    if ((exit_code = forget_tables(a, log, name, dir)) != CLI_OK)
        return cli_close(log, dir, exit_code);
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
    .synopsis = "list DIR\nforget DIR NAME [--tables]",
    .summary = "List the processors, or forget one and its positions",
    .details = "A processor that will never run again holds back retention until it is forgotten. "
               "One that "
               "is forgotten\n"
               "and runs again begins at the oldest record that is kept. A sink with batches that "
               "it has\ndecided on and not settled in its target isn't forgotten; nor is a "
               "processor that keeps "
               "tables,\nwithout --tables.",
    .options = options,
    .min = 2,
    .max = 3,
    .opens = true,
    .run = run,
};
