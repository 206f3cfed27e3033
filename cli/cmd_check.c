/* SPDX-License-Identifier: Apache-2.0
 *
 * cmd_check.c - `pawl check`: reads a pipeline's file, and says in words what it would do, or what
 * is wrong with it. Opens nothing else, but for files of secrets.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/run/config.h"

enum { QUIET, TYPES };
static const cli_option options[] = {
    [QUIET] = {"quiet", NULL, "say nothing if all is well"},
    [TYPES] = {"types", NULL,
               "tell the types of sources, processors and sinks of this build, and their settings"},
    {NULL, NULL, NULL},
};

void cli_config_problem(void *arg, uint32_t line, int severity, const char *message) {
    const char *kind = severity == 0 ? "remark: " : "";
    if (line != 0)
        cli_print_to(stderr, "%s:%" PRIu32 ": %s%s\n", (const char *)arg, line, kind, message);
    else
        cli_print_to(stderr, "%s: %s%s\n", (const char *)arg, kind, message);
}

/* ---- in words */

static const char *guarantee_name(int32_t g) {
    return g == PAWL_EXACTLY_ONCE    ? "exactly once"
           : g == PAWL_AT_LEAST_ONCE ? "at least once"
                                     : "at most once";
}

static void explain_log(const config *c) {
    char a[32], b[32];
    cli_printf("pipeline %s\n  log %s: segments of %s", c->name, c->directory,
               cli_format_size(c->segment_size, a));
    if (c->disk_cap != 0)
        cli_printf(", at most %s on disk", cli_format_size(c->disk_cap, b));
    cli_printf(", at most %s in memory\n", cli_format_size(c->memory, a));
    const pawl_retention *k = &c->retention;
    if (!c->has_retention)
        cli_printf("  retention: as the log has it; a new log keeps everything\n");
    else if (k->bytes == 0 && k->ms == 0 && k->consumed == 0)
        cli_printf("  retention: everything is kept\n");
    else if (k->consumed != 0)
        cli_printf(
            "  retention: a segment is dropped once every processor and sink has passed it\n");
    else
        cli_printf("  retention: a segment is dropped once every processor and sink has passed it "
                   "and %s%s%s%s%s\n",
                   k->bytes != 0 ? "the log is larger than " : "",
                   k->bytes != 0 ? cli_format_size(k->bytes, a) : "",
                   k->bytes != 0 && k->ms != 0 ? ", or " : "",
                   k->ms != 0 ? "it is older than " : "",
                   k->ms != 0 ? cli_format_duration(k->ms, b) : "");
    for (size_t i = 0; i < c->stream_count; i++)
        cli_printf("  stream %s, %" PRIu32 " partition%s\n", c->streams[i].name,
                   c->streams[i].partitions, c->streams[i].partitions == 1 ? "" : "s");
}

static void explain_errors(const flow_config *w) {
    if (w->on_error == PAWL_ON_ERROR_DEAD_LETTER)
        cli_printf("    a record that can't be taken goes to %s, with the reason\n",
                   w->dead_letter);
    else
        cli_printf("    a record that can't be taken %s\n",
                   w->on_error == PAWL_ON_ERROR_SKIP ? "is passed over" : "stops the pipeline");
}

static const char *sink_promise(const flow_config *w) {
    if (w->guarantee != PAWL_EXACTLY_ONCE)
        return guarantee_name(w->guarantee);
    switch (w->sink_kind) {
    case PAWL_SINK_TRANSACTIONAL:
        return "exactly once: the target's own transaction holds rows and position";
    case PAWL_SINK_TWO_PHASE:
        return "exactly once, in two phases: prepared in the target, decided in the log, committed";
    default:
        return (w->sink_flags & PAWL_SINK_STABLE) != 0
                   ? "a batch may come again under the same name with the same records; exactly "
                     "once if the "
                     "target drops it"
                   : "a record may come again with the same id; exactly once if the target drops "
                     "it";
    }
}

/* A plugin's tables have names of their own. */
static void explain_tables(const flow_config *w) {
    const char *before = w->ops.output_count != 0 ? " and" : " ->";
    if (strcmp(w->type, "plugin") != 0)
        cli_printf("%s the table %s", before, w->name);
    for (size_t i = 0; i < w->setting_count; i++)
        if (strncmp(w->settings[i].name, "tables.", 7) == 0) {
            cli_printf("%s the table %s", before, w->settings[i].value);
            before = ",";
        }
}

static void explain_flow(const flow_config *w) {
    static const char *const names[] = {"source", "processor", "sink"};
    cli_printf("  %s %s (%s):", names[w->kind], w->name, w->type);
    for (uint32_t i = 0; i < w->input_count; i++)
        cli_printf("%s %s", i > 0 ? "," : "", w->inputs[i]);
    if (w->kind == FLOW_SOURCE)
        cli_printf(" -> %s\n", w->to);
    for (uint32_t i = 0; w->kind == FLOW_PROCESSOR && i < w->ops.output_count; i++)
        cli_printf("%s %s", i > 0 ? "," : " ->", w->ops.outputs[i].value);
    if (w->kind == FLOW_PROCESSOR && (w->ops.flags & PAWL_PROCESSOR_KEEPS_TABLES) != 0)
        explain_tables(w);
    if (w->kind == FLOW_SOURCE)
        cli_printf(
            "    %s\n",
            (w->source_flags & PAWL_SOURCE_REWINDABLE) != 0
                ? "can be read again from any place: nothing lost, nothing doubled"
                : "can't be read again: what had not been acknowledged when it ends may be lost");
    else
        cli_printf("\n    %s\n",
                   w->kind == FLOW_SINK ? sink_promise(w) : guarantee_name(w->guarantee));
    explain_errors(w);
}

static void explain(const config *c) {
    explain_log(c);
    for (size_t i = 0; i < c->flow_count; i++)
        explain_flow(&c->flows[i]);
}

/* ---- types */

static void print_type(const char *kind, const pawl_connector *c) {
    cli_printf("%s %s: %s\n", kind, c->type, c->help);
    for (const pawl_setting_info *i = c->settings; i != NULL && i->name != NULL; i++) {
        cli_printf("    %-16s %s", i->name, i->help);
        if (i->kind == PAWL_SETTING_CHOICE)
            cli_printf(" (%s)", i->choices);
        if (i->kind == PAWL_SETTING_SECRET)
            cli_printf(" (secret; or %s_file: a file that holds it)", i->name);
        if (i->required != 0)
            cli_printf(" [needed]");
        else if (i->fallback != NULL)
            cli_printf(" [%s]", i->fallback);
        cli_printf("\n");
    }
}

static int print_types(void) {
    const pawl_connector *c;
    for (uint32_t i = 0; (c = pawl_connector_at(i)) != NULL; i++)
        if (c->make_source != NULL)
            print_type("source", c);
    for (uint32_t i = 0; (c = pawl_connector_at(i)) != NULL; i++)
        if (c->make_processor != NULL)
            print_type("processor", c);
    for (uint32_t i = 0; (c = pawl_connector_at(i)) != NULL; i++)
        if (c->make_sink != NULL)
            print_type("sink", c);
    return cli_finish_output(CLI_OK);
}

static int run(cli_args *a) {
    if (a->value[TYPES] != NULL)
        return print_types();
    if (a->count == 0)
        return cli_usage(a, "which file?");
    int code = CLI_OK;
    for (int i = 0; i < a->count; i++) {
        config_file f;
        if (config_load(&f, a->positional[i], cli_config_problem, a->positional[i]) != 0)
            code = CLI_PROBLEM;
        else
            for (size_t k = 0; k < f.count && a->value[QUIET] == NULL; k++)
                explain(&f.pipelines[k]);
        config_free(&f);
    }
    return cli_finish_output(code);
}

const cli_command cli_check = {
    .name = "check",
    .synopsis = "FILE... [--quiet]\n--types",
    .summary = "Tell what the pipelines of a file would do, or what is wrong with it",
    .details = "Nothing is opened or connected to, but for files of secrets. Problems are told "
               "with their lines; the exit "
               "code is then 1.",
    .options = options,
    .min = 0,
    .max = 64,
    .run = run,
};
