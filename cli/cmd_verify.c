/* SPDX-License-Identifier: Apache-2.0
 *
 * cmd_verify.c - `pawl verify`, `pawl audit` and `pawl repair`: one call of the library each,
 * findings a line each, a summary.
 */
#include <inttypes.h>
#include <string.h>

#include "cli/cli.h"

typedef int (*check_fn)(const char *dir, pawl_check *c, pawl_error *err);

static void on_finding(void *arg, const pawl_finding *f) {
    cli_progress_clear(arg);
    cli_printf("%s%s: segment %" PRIu64 ", LSN %" PRIu64, f->code == 0 ? "remark: " : "", f->label,
               f->segment, f->lsn);
    if (f->bytes > 0)
        cli_printf(", %" PRIu64 " bytes", f->bytes);
    cli_printf(": %s\n", f->message);
    cli_flush();
}

/* Problems of the log, in contrast to what kept it from being looked at. */
static bool is_finding(int code) {
    return code == PAWL_DAMAGED || code == PAWL_FOREIGN || code == PAWL_VERSION ||
           code == PAWL_TILING || code == PAWL_LIMIT;
}

static void summarise(const char *dir, const pawl_check *c, const char *verdict) {
    char size[32];
    cli_printf("%s: %s; %" PRIu64 " segments, %" PRIu64 " frames, %" PRIu64 " commits, %" PRIu64
               " records, %s",
               dir, verdict, c->segments, c->frames, c->commits, c->records,
               cli_format_size(c->bytes, size));
    if (c->torn_bytes > 0)
        cli_printf(", %" PRIu64 " bytes of torn tail (nothing that was acknowledged)",
                   c->torn_bytes);
    if (c->runs > 0)
        cli_printf(", %" PRIu64 " run%s of %s with %" PRIu64 " pair%s of state", c->runs,
                   c->runs == 1 ? "" : "s", cli_format_size(c->run_bytes, size), c->state_pairs,
                   c->state_pairs == 1 ? "" : "s");
    cli_printf("%s\n", c->live    ? "; a writer has it open, its newest part was not judged"
                       : c->clean ? "; closed in good order"
                                  : "; not closed in good order");
}

/* *answer is what the library answered. */
static int check(cli_args *a, const char *what, check_fn call, pawl_check *c, int *answer) {
    const char *dir = a->positional[0];
    cli_progress progress;
    cli_progress_begin(&progress, what);
    *c = (pawl_check){.struct_size = sizeof *c,
                      .finding = on_finding,
                      .progress = cli_progress_call,
                      .arg = &progress};
    pawl_error e = {0};
    int code = *answer = call(dir, c, &e);
    cli_progress_clear(&progress);
    if (code < 0 && !is_finding(code)) {
        cli_error("cannot %s %s: %s", a->command->name, dir,
                  e.message[0] != '\0' ? e.message : pawl_strerror(code));
        return CLI_CANNOT_OPEN;
    }
    if (code < 0) {
        cli_flush();
        cli_error("%s: %s", dir, e.message[0] != '\0' ? e.message : pawl_strerror(code));
    }
    return code < 0 || c->problems > 0 ? CLI_PROBLEM : CLI_OK;
}

static void verdict(char text[96], const char *good, const pawl_check *c, int exit_code) {
    if (exit_code == CLI_OK)
        snprintf(text, 96, "%s", good);
    else if (c->problems == 0)
        snprintf(text, 96, "a problem was found");
    else
        snprintf(text, 96, "%" PRIu64 " problem%s found", c->problems, c->problems == 1 ? "" : "s");
}

static bool any_lost(const pawl_check *c) {
    return c->lost_records + c->lost_commits + c->lost_unknown + c->lost_names != 0;
}

static int add(char *text, size_t size, int at, uint64_t n, const char *what) {
    if (n == 0 || at < 0 || (size_t)at >= size)
        return at;
    int more =
        snprintf(text + at, size - (size_t)at, ", %" PRIu64 " %s%s", n, what, n == 1 ? "" : "s");
    return more < 0 ? at : at + more;
}

/* What damage took, in words. Where some of it is unknown, no number is the whole. */
static const char *lost_text(const pawl_check *c, char text[240]) {
    int at;
    if (!any_lost(c))
        return c->repaired != 0 ? "nothing lost (0 records)" : "nothing more lost";
    bool more = c->lost_unknown + c->lost_untold != 0;
    if (more && c->lost_records == 0)
        at = snprintf(text, 240, "how many records are lost is unknown");
    else
        at = snprintf(text, 240, "%s%" PRIu64 " record%s lost", more ? "at least " : "",
                      c->lost_records, c->lost_records == 1 ? "" : "s");
    at = add(text, 240, at, c->lost_commits, "commit");
    at = add(text, 240, at, c->lost_changes, "catalog change");
    at = add(text, 240, at, c->lost_names, "name");
    add(text, 240, at, c->lost_unknown, "place of unknown content");
    return text;
}

static int run_verify(cli_args *a) {
    pawl_check c;
    char text[96];
    int code, exit_code = check(a, "verifying", pawl_verify, &c, &code);
    if (exit_code == CLI_CANNOT_OPEN)
        return exit_code;
    verdict(text, "well", &c, exit_code);
    summarise(a->positional[0], &c, text);
    return cli_finish_output(exit_code);
}

static void tell_outside(const char *dir, const pawl_check *c, bool well) {
    if (c->outside == 0)
        return;
    cli_printf("%s: %" PRIu64 " intervals of %" PRIu64 " thing%s outside%s", dir, c->outside,
               c->things, c->things == 1 ? "" : "s", well ? " join" : " looked at");
    if (c->passed_over > 0)
        cli_printf(", %" PRIu64 " of them passed over", c->passed_over);
    if (c->begun_again > 0)
        cli_printf(", %" PRIu64 " where a thing began again", c->begun_again);
    if (c->twice > 0)
        cli_printf(", the same content as two things %" PRIu64 " time%s", c->twice,
                   c->twice == 1 ? "" : "s");
    cli_printf("\n");
}

static int run_audit(cli_args *a) {
    pawl_check c;
    char text[96];
    int code, exit_code = check(a, "auditing", pawl_audit, &c, &code);
    if (exit_code == CLI_CANNOT_OPEN)
        return exit_code;
    verdict(text, any_lost(&c) ? "exactly once, but for what damage took" : "exactly once", &c,
            exit_code);
    summarise(a->positional[0], &c, text);
    char lost[240];
    if (any_lost(&c))
        cli_printf("%s: damage took what is listed above: %s\n", a->positional[0],
                   lost_text(&c, lost));
    cli_printf("%s: %" PRIu64 " intervals over %" PRIu64 " positions%s\n", a->positional[0],
               c.intervals, c.positions,
               exit_code == CLI_OK ? " tile their inputs, with no gap and no overlap"
                                   : " looked at");
    tell_outside(a->positional[0], &c, exit_code == CLI_OK);
    return cli_finish_output(exit_code);
}

static int run_repair(cli_args *a) {
    pawl_check c;
    const char *dir = a->positional[0];
    int code, exit_code = check(a, "repairing", pawl_repair, &c, &code);
    if (exit_code == CLI_CANNOT_OPEN)
        return exit_code;
    bool opens = code >= 0;
    char lost[240];
    cli_printf("%s: %" PRIu64 " place%s mended, %s; %s\n", dir, c.repaired,
               c.repaired == 1 ? "" : "s", lost_text(&c, lost),
               !opens                  ? "it can still not be opened: see above"
               : c.state_problems == 0 ? "it is well, and can be opened"
                                       : "it can be opened, but keyed state is damaged: see above");
    if (any_lost(&c) && opens)
        cli_printf("%s: what was taken out is in its lost-*.bin files\n", dir);
    /* A mended place is no problem any more; only what is lost for good is. */
    return cli_finish_output(opens && !any_lost(&c) && c.state_problems == 0 ? CLI_OK
                                                                             : CLI_PROBLEM);
}

const cli_command cli_verify = {
    .name = "verify",
    .synopsis = "DIR",
    .summary = "Read every byte of a log and check it",
    .details = "Changes nothing. Findings come a line each: label, segment, LSN, what it is. A "
               "torn tail is "
               "no problem:\n"
               "nothing in it was ever acknowledged.",
    .min = 1,
    .max = 1,
    .run = run_verify,
};

const cli_command cli_audit = {
    .name = "audit",
    .synopsis = "DIR",
    .summary = "Verify, and show that every input was processed exactly once",
    .details =
        "Each commit names the interval of input that it consumed; audit shows that for every "
        "processor these\n"
        "intervals tile each input with no gap and no overlap. It also shows that what sources\n"
        "named as read outside (bytes of files, messages, rows) joins, and finds content that was\n"
        "read twice under two names. Changes nothing.",
    .min = 1,
    .max = 1,
    .run = run_audit,
};

const cli_command cli_repair = {
    .name = "repair",
    .synopsis = "DIR",
    .summary = "Mend a damaged log, and tell what was lost",
    .details =
        "What is taken out is kept in lost-*.bin files in the directory; everything after "
        "the damage "
        "stays. Then\n"
        "the whole log is read again and opened. Ends with 0 if nothing was lost, and with 1\n"
        "if anything was, or if that can't be known. What has lost its name is called lost-N\n"
        "('pawl rename' gives it back). No writer may have the log open.",
    .min = 1,
    .max = 1,
    .run = run_repair,
};
