/* SPDX-License-Identifier: Apache-2.0
 *
 * cmd_retention.c - `pawl retention`: shows or sets what a log drops, and when.
 */
#include <inttypes.h>
#include <string.h>

#include "cli/cli.h"

enum { BYTES, AGE, CONSUMED };
static const cli_option options[] = {
    [BYTES] = {"bytes", "SIZE", "drop the oldest segments while the log is larger; 0: no limit"},
    [AGE] = {"age", "TIME", "drop segments whose newest frame is older; 0: no limit"},
    [CONSUMED] = {"consumed", "on|off", "drop segments that every processor has passed"},
    {NULL, NULL, NULL},
};

/* Only what was given is changed. */
static int parse(const cli_args *a, pawl_retention *r) {
    const char *text;
    if ((text = a->value[BYTES]) != NULL && !cli_parse_size(text, &r->bytes))
        return cli_usage(a, "--bytes takes a size like 512M or 10G, not '%s'", text);
    if ((text = a->value[AGE]) != NULL && !cli_parse_duration(text, &r->ms))
        return cli_usage(a, "--age takes a time like 90s, 12h or 7d, not '%s'", text);
    if ((text = a->value[CONSUMED]) != NULL) {
        r->consumed = strcmp(text, "on") == 0;
        if (!r->consumed && strcmp(text, "off") != 0)
            return cli_usage(a, "--consumed takes on or off, not '%s'", text);
    }
    return CLI_OK;
}

static void print(const pawl_retention *r) {
    char text[32];
    cli_printf("bytes     %s\n", r->bytes > 0 ? cli_format_size(r->bytes, text) : "no limit");
    cli_printf("age       %s\n", r->ms > 0 ? cli_format_duration(r->ms, text) : "no limit");
    cli_printf("consumed  %s\n", r->consumed ? "on" : "off");
}

static int run(cli_args *a) {
    const char *dir = a->positional[0];
    bool set = a->value[BYTES] != NULL || a->value[AGE] != NULL || a->value[CONSUMED] != NULL;
    pawl_retention r = {0};
    int exit_code = parse(a, &r); /* wrong usage is told before anything is opened */
    if (exit_code != CLI_OK)
        return exit_code;
    pawl *log;
    exit_code = cli_open(a, dir, set ? 0 : PAWL_OPEN_READ, &log);
    if (exit_code != CLI_OK)
        return exit_code;
    int code = pawl_retention_get(log, &r);
    int dropped = 0;
    if (code >= 0 && set) {
        parse(a, &r);
        code = pawl_retention_set(log, &r);
        if (code >= 0)
            code = dropped = pawl_retention_apply(log);
    }
    if (code < 0)
        exit_code = cli_library_error(code, "retention of %s", dir);
    else
        print(&r);
    if (dropped > 0)
        cli_printf("%d segment%s dropped\n", dropped, dropped == 1 ? "" : "s");
    return cli_close(log, dir, cli_finish_output(exit_code));
}

const cli_command cli_retention = {
    .name = "retention",
    .synopsis = "DIR [--bytes SIZE] [--age TIME] [--consumed on|off]",
    .summary = "Show or set what a log drops, and when",
    .details = "Whole segments are dropped, oldest first, never one that a processor has yet to "
               "read. A new "
               "log keeps\n"
               "everything.",
    .options = options,
    .min = 1,
    .max = 1,
    .opens = true,
    .run = run,
};
