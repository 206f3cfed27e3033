/* SPDX-License-Identifier: Apache-2.0
 *
 * cmd_retention.c - `pawl retention`: shows or sets what a log drops, and when.
 */
#include <inttypes.h>
#include <string.h>

#include "cli/cli.h"

enum { BYTES, AGE, CONSUMED, DISK_CAP };
static const cli_option options[] = {
    [BYTES] = {"bytes", "SIZE", "drop the oldest segments while the log is larger; 0: no limit"},
    [AGE] = {"age", "TIME", "drop segments whose newest frame is older; 0: no limit"},
    [CONSUMED] = {"consumed", "on|off", "drop segments that every processor has passed"},
    [DISK_CAP] = {"disk-cap", "SIZE", "bytes that all segments together may take; 0: no cap"},
    {NULL, NULL, NULL},
};

/* Only what was given is changed. */
static int parse(const cli_args *a, pawl_retention *r, uint64_t *cap) {
    const char *text;
    if ((text = a->value[DISK_CAP]) != NULL && !cli_parse_size(text, cap))
        return cli_usage(a, "--disk-cap takes a size like 512M or 10G, not '%s'", text);
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

static void print(const pawl_retention *r, uint64_t cap) {
    char text[32];
    cli_printf("bytes     %s\n", r->bytes > 0 ? cli_format_size(r->bytes, text) : "no limit");
    cli_printf("age       %s\n", r->ms > 0 ? cli_format_duration(r->ms, text) : "no limit");
    cli_printf("consumed  %s\n", r->consumed ? "on" : "off");
    cli_printf("disk cap  %s\n", cap > 0 ? cli_format_size(cap, text) : "none");
}

/* Without processors and sinks "what all of them have passed" is everything. */
static bool would_drop_all(pawl *log, const cli_args *a) {
    pawl_position at;
    return a->value[CONSUMED] != NULL && strcmp(a->value[CONSUMED], "on") == 0 &&
           pawl_position_at(log, 0, &at) < 0;
}

/* Sets what was given; how many segments that dropped, or an error. */
static int set(pawl *log, const cli_args *a, pawl_retention *r, uint64_t *cap) {
    parse(a, r, cap);
    int code = a->value[DISK_CAP] != NULL ? pawl_disk_cap_set(log, *cap) : 0;
    if (code >= 0)
        code = pawl_retention_set(log, r);
    return code < 0 ? code : pawl_retention_apply(log);
}

static int run(cli_args *a) {
    const char *dir = a->positional[0];
    bool change = a->value[BYTES] != NULL || a->value[AGE] != NULL || a->value[CONSUMED] != NULL ||
                  a->value[DISK_CAP] != NULL;
    pawl_retention r = {0};
    pawl_status status = PAWL_STATUS_INIT;
    uint64_t cap = 0;
    int exit_code = parse(a, &r, &cap); /* wrong usage is told before anything is opened */
    if (exit_code != CLI_OK)
        return exit_code;
    pawl *log;
    exit_code = cli_open(a, dir, change ? 0 : PAWL_OPEN_READ, &log);
    if (exit_code != CLI_OK)
        return exit_code;
    int code = pawl_retention_get(log, &r);
    if (code >= 0)
        code = pawl_get_status(log, &status);
    cap = status.disk_cap;
    int dropped = 0;
    if (change && would_drop_all(log, a)) {
        cli_error("no processor or sink has a position in %s, so --consumed on would drop "
                  "everything; run the pipeline once, or use --bytes",
                  dir);
        return cli_close(log, dir, CLI_PROBLEM);
    }
    if (code >= 0 && change)
        code = dropped = set(log, a, &r, &cap);
    if (code < 0)
        exit_code = cli_library_error(code, "retention of %s", dir);
    else
        print(&r, cap);
    if (dropped > 0)
        cli_printf("%d segment%s dropped\n", dropped, dropped == 1 ? "" : "s");
    return cli_close(log, dir, cli_finish_output(exit_code));
}

const cli_command cli_retention = {
    .name = "retention",
    .synopsis = "DIR [--bytes SIZE] [--age TIME] [--consumed on|off] [--disk-cap SIZE]",
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
