/* SPDX-License-Identifier: Apache-2.0
 *
 * cmd_rename.c - `pawl rename`: a name for what lost its own, or another one.
 */
#include <string.h>

#include "cli/cli.h"

static int run(cli_args *a) {
    static const char *const kinds[] = {"", "stream", "producer", "processor"};
    const char *dir = a->positional[0], *kind = a->positional[1], *name = a->positional[2],
               *fresh = a->positional[3];
    int what = PAWL_NAMED_STREAM;
    while (what <= PAWL_NAMED_PROCESSOR && strcmp(kinds[what], kind) != 0)
        what++;
    if (what > PAWL_NAMED_PROCESSOR)
        return cli_usage(a, "'%s' is not stream, producer or processor", kind);
    pawl *log;
    int exit_code = cli_open(a, dir, 0, &log);
    if (exit_code != CLI_OK)
        return exit_code;
    int code = pawl_rename(log, what, name, fresh);
    if (code == PAWL_NOT_FOUND || code == PAWL_EXISTS) {
        cli_error("%s; nothing was changed", code == PAWL_EXISTS
                                                 ? "something of that kind has the new name already"
                                                 : "nothing of that kind has this name");
        exit_code = CLI_PROBLEM;
    } else if (code < 0) {
        exit_code = cli_library_error(code, "renaming %s '%s' in %s", kind, name, dir);
    }
    return cli_close(log, dir, exit_code);
}

const cli_command cli_rename = {
    .name = "rename",
    .synopsis = "DIR stream|producer|processor NAME NEW-NAME",
    .summary = "Give a stream, producer or processor another name",
    .details =
        "Its id, records, positions and sequences stay. What lost its name to damage is called\n"
        "lost-N after 'pawl repair': give the name back before the programs that use it start,\n"
        "which would create it anew.",
    .min = 4,
    .max = 4,
    .opens = true,
    .run = run,
};
