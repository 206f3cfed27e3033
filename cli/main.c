/* SPDX-License-Identifier: Apache-2.0
 *
 * main.c - the table of commands, parsing, and help.
 */
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"

static const cli_command *const commands[] = {
    &cli_init,         &cli_stream,    &cli_ingest,    &cli_cat,       &cli_pipe,    &cli_status,
    &cli_verify,       &cli_audit,     &cli_explain,   &cli_repair,    &cli_dump,    &cli_processor,
    &cli_table,        &cli_retention, &cli_rename,    &cli_savepoint, &cli_restore, &cli_fork,
    &cli_replay_check, &cli_rehearse,  &cli_crashtest, &cli_run,       &cli_check,   &cli_bench,
};
#define COMMAND_COUNT (sizeof commands / sizeof commands[0])

static const cli_option opening_options[] = {
    {"backend", "auto|uring|posix", "how to do I/O (auto: io_uring where it works)"},
    {"direct", "auto|on|off", "whether to bypass the page cache (auto: where the file system can)"},
    {"memory", "SIZE", "how much memory the log may hold, at least 2M (128M)"},
    {NULL, NULL, NULL},
};

/* Values that getopt_long() gives for options; a command's own are its rows, from 0. */
enum { OPTION_OPENING = 64, OPTION_HELP = 128, OPTION_VERSION = 129 };

/* ---- help */

static void print_options(const cli_option *options) {
    for (const cli_option *o = options; o != NULL && o->name != NULL; o++) {
        char left[64];
        snprintf(left, sizeof left, "--%s%s%s", o->name, o->argument ? " " : "",
                 o->argument ? o->argument : "");
        cli_printf("  %-28s  %s\n", left, o->help);
    }
}

static void print_usage(FILE *to, const cli_command *c) {
    const char *lead = "usage:";
    for (const char *form = c->synopsis; *form != '\0'; lead = "      ") {
        size_t length = strcspn(form, "\n");
        cli_print_to(to, "%s pawl %s %.*s\n", lead, c->name, (int)length, form);
        form += length + (form[length] == '\n');
    }
}

/* Of several lines. */
static void print_details(const char *text) {
    cli_printf("\n");
    while (*text != '\0') {
        size_t length = strcspn(text, "\n");
        cli_printf("%.*s\n", (int)length, text);
        text += length + (text[length] == '\n');
    }
}

static int help_command(const cli_command *c) {
    print_usage(stdout, c);
    cli_printf("\n%s.\n", c->summary);
    if (c->details != NULL)
        print_details(c->details);
    cli_printf("\nOptions:\n");
    print_options(c->options);
    if (c->opens)
        print_options(opening_options);
    cli_printf("  %-28s  %s\n", "--help", "this text");
    return cli_finish_output(CLI_OK);
}

static int help_all(void) {
    cli_printf("usage: pawl [OPTIONS] COMMAND DIR [ARGUMENTS]\n\n"
               "Exactly-once stream pipelines over one log in the directory DIR.\n\nCommands:\n");
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        cli_printf("  %-10s  %s\n", commands[i]->name, commands[i]->summary);
    cli_printf("  %-10s  %s\n", "help", "Tell about a command: pawl help COMMAND");
    cli_printf("\nOptions of every command that opens a log:\n");
    print_options(opening_options);
    cli_printf("\nOther options:\n  %-28s  %s\n  %-28s  %s\n", "--help",
               "this text, or after a command its own", "--version", "the version");
    cli_printf("\nSizes: 4096, 64K, 64M, 10G. Times: 500ms, 90s, 5m, 12h, 7d.\n"
               "Exit codes: 0 well, 1 a problem found, 2 wrong usage, 3 cannot open.\n");
    return cli_finish_output(CLI_OK);
}

static const cli_command *find_command(const char *name) {
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        if (strcmp(commands[i]->name, name) == 0)
            return commands[i];
    cli_error("there is no command '%s'; `pawl help` lists them", name);
    return NULL;
}

int cli_usage(const cli_args *a, const char *format, ...) {
    char text[512];
    va_list list;
    va_start(list, format);
    cli_text_args(text, sizeof text, format, list);
    va_end(list);
    cli_error("%s: %s", a->command->name, text);
    print_usage(stderr, a->command);
    return CLI_USAGE;
}

/* ---- parsing */

static bool choose(const char *text, const char *const names[3], int32_t *out) {
    for (int32_t i = 0; text != NULL && i < 3; i++) {
        if (strcmp(text, names[i]) == 0) {
            *out = i;
            return true;
        }
    }
    return false;
}

static bool set_opening_option(cli_args *a, int row, const char *text) {
    static const char *const backends[3] = {"auto", "uring", "posix"};
    static const char *const directs[3] = {"auto", "on", "off"};
    bool good = row == 0   ? choose(text, backends, &a->backend)
                : row == 1 ? choose(text, directs, &a->direct)
                           : cli_parse_size(text, &a->memory) && a->memory >= UINT64_C(2) << 20;
    if (!good)
        cli_error("--%s takes %s, not '%s'", opening_options[row].name,
                  row == 2 ? "a size of at least 2M" : opening_options[row].argument, text);
    return good;
}

/* Fills getopt's table from ours. */
static void make_table(struct option *table, const cli_command *c) {
    size_t n = 0;
    if (c != NULL) {
        for (int i = 0; c->options != NULL && c->options[i].name != NULL; i++)
            table[n++] =
                (struct option){c->options[i].name, c->options[i].argument != NULL, NULL, i};
    }
    for (int i = 0; (c == NULL || c->opens) && opening_options[i].name != NULL; i++)
        table[n++] =
            (struct option){opening_options[i].name, required_argument, NULL, OPTION_OPENING + i};
    table[n++] = (struct option){"help", no_argument, NULL, OPTION_HELP};
    if (c == NULL)
        table[n++] = (struct option){"version", no_argument, NULL, OPTION_VERSION};
    table[n] = (struct option){NULL, 0, NULL, 0};
}

/* Parses the options of a command, or with c == NULL those before it. Returns -1 to go on, else an
 * exit code. */
static int parse_options(cli_args *a, const cli_command *c, int argc, char **argv) {
    struct option table[CLI_OPTIONS_MAX + 8];
    make_table(table, c);
    optind = 0; /* makes getopt begin anew */
    opterr = 0;
    for (;;) {
        int at = optind == 0 ? 1 : optind;
        int got = getopt_long(argc, argv, c == NULL ? "+:hV" : ":h", table, NULL);
        if (got == -1)
            return -1;
        if (got == OPTION_HELP || got == 'h')
            return c != NULL ? help_command(c) : help_all();
        if (got == OPTION_VERSION || got == 'V') {
            cli_printf("pawl %s\n", pawl_version());
            return cli_finish_output(CLI_OK);
        }
        if (got == '?' || got == ':') {
            const char *text = argv[optind > 0 ? optind - 1 : at];
            const char *why =
                got == ':' ? "needs a value" : "is not an option here, or takes no value";
            if (c != NULL)
                return cli_usage(a, "%s %s", text, why);
            cli_error("%s %s; see `pawl help`", text, why);
            return CLI_USAGE;
        }
        if (got >= OPTION_OPENING) {
            if (!set_opening_option(a, got - OPTION_OPENING, optarg))
                return CLI_USAGE;
        } else {
            a->value[got] = optarg != NULL ? optarg : "";
        }
    }
}

static int run_command(cli_args *a, int argc, char **argv) {
    const cli_command *c = find_command(argv[0]);
    if (c == NULL)
        return CLI_USAGE;
    a->command = c;
    /* getopt would take "--" out and forget where it was; CMD's own options must not be looked
     * at. */
    for (int i = 1; c->program && i < argc; i++) {
        if (strcmp(argv[i], "--") == 0) {
            a->program = argv + i + 1;
            argc = i;
            break;
        }
    }
    int code = parse_options(a, c, argc, argv);
    if (code >= 0)
        return code;
    a->positional = argv + optind;
    a->count = argc - optind;
    if (a->count < c->min)
        return cli_usage(a, "something is missing");
    if (a->count > c->max)
        return cli_usage(a, "'%s' is too much%s", a->positional[c->max],
                         c->program ? " (CMD comes after --)" : "");
    for (int i = 0; i < a->count; i++)
        if (a->positional[i][0] == '\0')
            return cli_usage(a, "an argument is empty");
    return c->run(a);
}

/* A log's file must never get a standard descriptor's number, or a stray message would be written
 * into it. */
static void occupy_standard_descriptors(void) {
    int fd;
    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= 2);
    if (fd > 2)
        close(fd);
}

int main(int argc, char **argv) {
    occupy_standard_descriptors();
    /* so that EPIPE comes as an error, and a log is closed in good order */
    signal(SIGPIPE, SIG_IGN);
    cli_args a = {0};
    int code = parse_options(&a, NULL, argc, argv);
    if (code >= 0)
        return code;
    argc -= optind;
    argv += optind;
    if (argc == 0) {
        cli_error("which command? `pawl help` lists them");
        return CLI_USAGE;
    }
    if (strcmp(argv[0], "help") == 0) {
        if (argc == 1)
            return help_all();
        const cli_command *c = find_command(argv[1]);
        return c != NULL ? help_command(c) : CLI_USAGE;
    }
    return run_command(&a, argc, argv);
}
