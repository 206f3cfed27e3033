/* SPDX-License-Identifier: Apache-2.0
 *
 * cmd_table.c - `pawl table`: what the tables of keyed state hold. It opens the log read-only, so
 * it works beside a writer, and shows what is durable.
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/record_text.h"

enum { PARTITION, FROM, TO, PREFIX, HEX, REVERSE, LIMIT, FORMAT };
static const cli_option options[] = {
    [PARTITION] = {"partition", "P", "this partition (get: that of the key; else all, in turn)"},
    [FROM] = {"from", "KEY", "scan: begin at this key"},
    [TO] = {"to", "KEY", "scan: end before this key"},
    [PREFIX] = {"prefix", "KEY", "scan: only keys that begin so"},
    [HEX] = {"hex", NULL, "keys of the command line are hexadecimal digits"},
    [REVERSE] = {"reverse", NULL, "scan: in descending order of the keys"},
    [LIMIT] = {"limit", "N", "scan: at most so many pairs"},
    [FORMAT] = {"format", "text|hex|json|raw", "how to write a pair (text; export: json)"},
    {NULL, NULL, NULL},
};

typedef struct bytes_argument {
    unsigned char *data; /* NULL: not given */
    size_t len;
} bytes_argument;

typedef struct job {
    const cli_args *args;
    const char *dir;
    pawl *log;
    pawl_table_info table;
    uint32_t first, last; /* partitions, both included */
    uint32_t partition;   /* of a key: PAWL_ANY, that of the key */
    pair_text_fn format;
    bool json; /* of list and digest */
    uint64_t limit;
    bytes_argument key, from, to, prefix;
} job;

/* ---- arguments */

static int hex_digit(char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* A key as it is written on the command line. */
static int take_key(const job *j, const char *what, const char *text, bytes_argument *out) {
    size_t len = strlen(text);
    bool hex = j->args->value[HEX] != NULL;
    if (len == 0)
        return cli_usage(j->args, "%s is empty; a key has at least one byte", what);
    out->data = malloc(len);
    if (out->data == NULL) {
        cli_error("out of memory for a key of %zu bytes", len);
        return CLI_PROBLEM;
    }
    out->len = hex ? len / 2 : len;
    if (!hex)
        memcpy(out->data, text, len);
    for (size_t i = 0; hex && i < len; i += 2) {
        int high = hex_digit(text[i]), low = hex_digit(text[i + 1]);
        if (high < 0 || low < 0)
            return cli_usage(j->args,
                             "%s takes two hexadecimal digits for each byte with --hex, not '%s'",
                             what, text);
        out->data[i / 2] = (unsigned char)(high << 4 | low);
    }
    return CLI_OK;
}

static int take_keys(job *j) {
    const struct {
        int option;
        const char *what;
        bytes_argument *out;
    } all[] = {{FROM, "--from", &j->from}, {TO, "--to", &j->to}, {PREFIX, "--prefix", &j->prefix}};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        const char *text = j->args->value[all[i].option];
        int code = text == NULL ? CLI_OK : take_key(j, all[i].what, text, all[i].out);
        if (code != CLI_OK)
            return code;
    }
    return CLI_OK;
}

static int take_partition(job *j) {
    const char *text = j->args->value[PARTITION];
    uint64_t n;
    j->partition = PAWL_ANY;
    if (text == NULL)
        return CLI_OK;
    if (!cli_parse_number(text, &n) || n >= PAWL_ANY)
        return cli_usage(j->args, "--partition takes a number, not '%s'", text);
    j->partition = (uint32_t)n;
    return CLI_OK;
}

static int take_format(job *j, const char *usual) {
    const char *name = j->args->value[FORMAT] != NULL ? j->args->value[FORMAT] : usual;
    j->format = pair_text_by_name(name);
    j->json = strcmp(name, "json") == 0;
    if (j->format == NULL)
        return cli_usage(j->args, "--format takes text, hex, json or raw, not '%s'", name);
    return CLI_OK;
}

static int take_limit(job *j) {
    const char *text = j->args->value[LIMIT];
    j->limit = UINT64_MAX;
    if (text != NULL && !cli_parse_number(text, &j->limit))
        return cli_usage(j->args, "--limit takes a number, not '%s'", text);
    return CLI_OK;
}

/* ---- the table */

static int library_error(const job *j, int code, const char *doing) {
    int exit_code = cli_library_error(code, "%s table %s in %s", doing, j->table.name, j->dir);
    if (code == PAWL_DAMAGED || code == PAWL_FOREIGN || code == PAWL_NOT_FOUND)
        cli_error("`pawl verify %s` tells what is damaged", j->dir);
    return exit_code;
}

static int find_table(job *j, const char *name) {
    j->table = (pawl_table_info)PAWL_TABLE_INFO_INIT;
    int code = pawl_table_find(j->log, name, &j->table);
    if (code == PAWL_NOT_FOUND) {
        cli_error("there is no table '%s' in %s; `pawl table list %s` shows what there is", name,
                  j->dir, j->dir);
        return CLI_PROBLEM;
    }
    if (code < 0)
        return cli_library_error(code, "looking for table %s in %s", name, j->dir);
    if (j->partition != PAWL_ANY && j->partition >= j->table.partitions) {
        cli_error("table %s in %s has %" PRIu32 " partition%s, from 0 on, so there is no partition "
                  "%" PRIu32,
                  name, j->dir, j->table.partitions, j->table.partitions == 1 ? "" : "s",
                  j->partition);
        return CLI_PROBLEM;
    }
    j->first = j->partition != PAWL_ANY ? j->partition : 0;
    j->last = j->partition != PAWL_ANY ? j->partition : j->table.partitions - 1;
    return CLI_OK;
}

/* ---- list and digest */

static int write_object(json_t *o) {
    char *text = o != NULL ? json_dumps(o, JSON_COMPACT) : NULL;
    json_decref(o);
    return cli_write_json(text) ? CLI_OK : CLI_PROBLEM;
}

static int list(job *j) {
    pawl_table_info t = PAWL_TABLE_INFO_INIT;
    for (uint32_t i = 0; pawl_table_at(j->log, i, &t) >= 0; i++) {
        if (j->json) {
            if (write_object(json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I}", "name", t.name,
                                       "owner", t.owner_name, "id", (json_int_t)t.id, "partitions",
                                       (json_int_t)t.partitions, "version", (json_int_t)t.version,
                                       "pairs", (json_int_t)t.pairs, "bytes", (json_int_t)t.bytes,
                                       "lost", (json_int_t)t.lost)) != CLI_OK)
                break;
            continue;
        }
        cli_printf("%s\t%s\t%" PRIu32 " partition%s\tversion %" PRIu32 "\t%" PRIu64
                   " pair%s\t%" PRIu64 " bytes",
                   t.name, t.owner_name[0] != '\0' ? t.owner_name : "-", t.partitions,
                   t.partitions == 1 ? "" : "s", t.version, t.pairs, t.pairs == 1 ? "" : "s",
                   t.bytes);
        if (t.lost != 0)
            cli_printf("\t%" PRIu32 " lost", t.lost);
        cli_printf("\n");
    }
    return CLI_OK;
}

static int digest_partition(const job *j, uint32_t partition) {
    pawl_table_digest d;
    char text[40];
    int code = pawl_table_get_digest(j->log, j->table.id, partition, &d);
    if (code < 0)
        return library_error(j, code, "reading the digest of");
    snprintf(text, sizeof text, "%016" PRIx64 "%016" PRIx64, d.high, d.low);
    if (j->json)
        return write_object(json_pack("{s:s, s:I, s:s, s:I, s:I, s:I}", "table", j->table.name,
                                      "partition", (json_int_t)partition, "digest", text, "pairs",
                                      (json_int_t)d.pairs, "bytes", (json_int_t)d.bytes, "lsn",
                                      (json_int_t)d.lsn));
    cli_printf("%s\t%" PRIu32 "\t%s\t%" PRIu64 " pair%s\t%" PRIu64 " bytes\n", j->table.name,
               partition, text, d.pairs, d.pairs == 1 ? "" : "s", d.bytes);
    return CLI_OK;
}

static int digest(job *j) {
    int worst = CLI_OK;
    for (uint32_t p = j->first; p <= j->last; p++) {
        int code = digest_partition(j, p);
        worst = worst == CLI_OK ? code : worst;
    }
    return worst;
}

/* ---- pairs */

static int get(job *j) {
    size_t size = 64 * 1024, len = 0;
    unsigned char *value = NULL;
    int code;
    do {
        unsigned char *more = realloc(value, size);
        if (more == NULL) {
            free(value);
            cli_error("out of memory for a value of %zu bytes", size);
            return CLI_PROBLEM;
        }
        value = more;
        code = pawl_table_get(j->log, j->table.id, j->partition, j->key.data, j->key.len, value,
                              size, &len);
    } while (code == 1 && len > size && (size = len) != 0);
    int exit_code = CLI_OK;
    if (code == 1) {
        pawl_state_pair pair = {j->key.data, value, j->key.len, len};
        j->format(j->partition, &pair, true);
        record_text_flush();
    } else if (code == 0) {
        cli_error("table %s in %s has no pair with this key", j->table.name, j->dir);
        exit_code = CLI_PROBLEM;
    } else {
        exit_code = library_error(j, code, "reading");
    }
    free(value);
    return exit_code;
}

/* *left: pairs that --limit still allows. */
static int scan_partition(job *j, uint32_t partition, uint64_t *left) {
    pawl_state_range range = PAWL_STATE_RANGE_INIT;
    range.from = j->from.data, range.from_len = j->from.len;
    range.to = j->to.data, range.to_len = j->to.len;
    range.prefix = j->prefix.data, range.prefix_len = j->prefix.len;
    range.reverse = j->args->value[REVERSE] != NULL;
    pawl_state_cursor *c;
    int code = pawl_table_scan(j->log, j->table.id, partition, &range, &c);
    if (code < 0)
        return library_error(j, code, "reading");
    pawl_state_pair pair;
    code = 0;
    while (*left > 0 && !cli_stopping() && (code = pawl_state_next(c, &pair)) == 1) {
        if (!j->format(partition, &pair, false))
            break;
        *left -= 1;
    }
    record_text_flush(); /* what was good comes before a message */
    int exit_code = code < 0 ? library_error(j, code, "reading") : CLI_OK;
    pawl_state_close(c);
    return exit_code;
}

/* A partition that can't be read keeps none of the others from being shown. */
static int scan(job *j) {
    uint64_t left = j->limit;
    int worst = CLI_OK;
    for (uint32_t p = j->first; p <= j->last && left > 0 && !cli_output_failed(); p++) {
        int code = scan_partition(j, p, &left);
        worst = worst == CLI_OK ? code : worst;
    }
    return worst;
}

/* ---- what to do */

static const struct form {
    const char *name;
    int min, max; /* positional arguments, with the name of the form */
    const char *takes, *usual;
    unsigned allowed; /* options */
    int (*run)(job *j);
} forms[] = {
    {"list", 2, 2, "DIR only", "text", 1u << FORMAT, list},
    {"get", 4, 4, "DIR, NAME and KEY", "text", 1u << PARTITION | 1u << HEX | 1u << FORMAT, get},
    {"scan", 3, 3, "DIR and NAME", "text",
     1u << PARTITION | 1u << FROM | 1u << TO | 1u << PREFIX | 1u << HEX | 1u << REVERSE |
         1u << LIMIT | 1u << FORMAT,
     scan},
    {"export", 3, 3, "DIR and NAME", "json", 1u << PARTITION | 1u << FORMAT, scan},
    {"digest", 3, 3, "DIR and NAME", "text", 1u << PARTITION | 1u << FORMAT, digest},
};

static int check_form(const job *j, const struct form *f) {
    if (j->args->count < f->min || j->args->count > f->max)
        return cli_usage(j->args, "%s takes %s", f->name, f->takes);
    for (int i = 0; options[i].name != NULL; i++)
        if (j->args->value[i] != NULL && (f->allowed >> i & 1) == 0)
            return cli_usage(j->args, "--%s doesn't go with %s", options[i].name, f->name);
    bool pairs = f->run == get || f->run == scan;
    const char *format = j->args->value[FORMAT];
    if (!pairs && format != NULL && strcmp(format, "text") != 0 && strcmp(format, "json") != 0)
        return cli_usage(j->args, "with %s, --format takes text or json", f->name);
    return CLI_OK;
}

static int run_form(job *j, const struct form *f) {
    int code = check_form(j, f);
    if (code == CLI_OK)
        code = take_partition(j);
    if (code == CLI_OK)
        code = take_format(j, f->usual);
    if (code == CLI_OK)
        code = take_limit(j);
    if (code == CLI_OK)
        code = take_keys(j);
    if (code == CLI_OK && f->max == 4)
        code = take_key(j, "KEY", j->args->positional[3], &j->key);
    j->dir = j->args->positional[1];
    if (code != CLI_OK)
        return code;
    code = cli_open(j->args, j->dir, PAWL_OPEN_READ, &j->log);
    if (code != CLI_OK)
        return code;
    cli_catch_signals(j->log);
    if (f->max > 2)
        code = find_table(j, j->args->positional[2]);
    if (code == CLI_OK)
        code = f->run(j);
    return cli_close(j->log, j->dir, cli_finish_output(code));
}

static int run(cli_args *a) {
    job j = {.args = a};
    int code = -1;
    for (size_t i = 0; i < sizeof forms / sizeof forms[0] && code < 0; i++)
        if (strcmp(a->positional[0], forms[i].name) == 0)
            code = run_form(&j, &forms[i]);
    free(j.key.data);
    free(j.from.data);
    free(j.to.data);
    free(j.prefix.data);
    return code >= 0
               ? code
               : cli_usage(a, "'%s' is not list, get, scan, export or digest", a->positional[0]);
}

const cli_command cli_table = {
    .name = "table",
    .synopsis = "list DIR [--format text|json]\n"
                "get DIR NAME KEY [--partition P] [--hex] [--format text|hex|json|raw]\n"
                "scan DIR NAME [--partition P] [--from KEY] [--to KEY] [--prefix KEY] [--hex] "
                "[--reverse] [--limit N] [--format text|hex|json|raw]\n"
                "export DIR NAME [--partition P] [--format text|hex|json|raw]\n"
                "digest DIR NAME [--partition P] [--format text|json]",
    .summary = "Show the tables of keyed state, their pairs and digests",
    .details =
        "It shows what is durable, each partition at one moment, and works beside a writer.\n"
        "Formats: text is key, tab, value, with escapes, so that a line is a pair; get writes\n"
        "the value only. hex is the same in hexadecimal digits. json is an object a line; what\n"
        "isn't UTF-8 comes in base64, as key_base64 or value_base64. raw is length (4 bytes,\n"
        "little-endian) and bytes of the key, then of the value; get writes the value's bytes.\n"
        "Equal digests of two logs mean equal pairs.",
    .options = options,
    .min = 2,
    .max = 4,
    .opens = true,
    .run = run,
};
