/* SPDX-License-Identifier: Apache-2.0
 *
 * config.c - from a tree to a pipeline. Each section is flattened into settings
 * ("retention.bytes"), which are looked up in a list of what it understands; so sections, this
 * program's own keys of sources, processors and sinks, and the settings of each type are all
 * checked by the same code.
 */
#include "cli/run/config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NAMES "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"
#define SETTINGS_MAX 4096u

static const pawl_setting_info top_settings[] = {
    {"name", PAWL_SETTING_TEXT, 0, NULL, NULL, "the pipeline's name in messages; else the file's"},
    {"guarantee", PAWL_SETTING_CHOICE, 0, "exactly-once|at-least-once|at-most-once", "exactly-once",
     "of all processors and sinks"},
    {"threads", PAWL_SETTING_NUMBER, 0, NULL, "1", "that run the processors"},
    {"drain", PAWL_SETTING_TIME, 0, NULL, "30s", "how long an end may take"},
    {"on_failure", PAWL_SETTING_CHOICE, 0, "continue|end", "continue",
     "when a part has failed for good: the others go on, or the pipeline is ended"},
    {"log", PAWL_SETTING_TEXT, 0, NULL, NULL, ""},
    {"streams", PAWL_SETTING_TEXT, 0, NULL, NULL, ""},
    {"sources", PAWL_SETTING_TEXT, 0, NULL, NULL, ""},
    {"processors", PAWL_SETTING_TEXT, 0, NULL, NULL, ""},
    {"sinks", PAWL_SETTING_TEXT, 0, NULL, NULL, ""},
    {NULL, 0, 0, NULL, NULL, NULL},
};
static const pawl_setting_info log_settings[] = {
    {"directory", PAWL_SETTING_TEXT, 1, NULL, NULL, "where the log is"},
    {"create", PAWL_SETTING_BOOL, 0, NULL, "true", "make it if there is none"},
    {"segment_size", PAWL_SETTING_SIZE, 0, NULL, "64M", "on creation"},
    {"disk_cap", PAWL_SETTING_SIZE, 0, NULL, "0", "on creation; 0: none"},
    {"memory", PAWL_SETTING_SIZE, 0, NULL, "128M", "that the log may hold"},
    {"backend", PAWL_SETTING_CHOICE, 0, "auto|uring|posix", "auto", "how to do I/O"},
    {"direct", PAWL_SETTING_CHOICE, 0, "auto|on|off", "auto", "whether to bypass the page cache"},
    {"socket_mode", PAWL_SETTING_TEXT, 0, NULL, "0600",
     "of run.sock, where `pawl status` asks: who may write to it, may ask"},
    {"retention.bytes", PAWL_SETTING_SIZE, 0, NULL, "0", "drop the oldest segments beyond so much"},
    {"retention.age", PAWL_SETTING_TIME, 0, NULL, "0", "drop segments that are so old"},
    {"retention.consumed", PAWL_SETTING_BOOL, 0, NULL, "false",
     "drop what every processor and sink has passed"},
    {NULL, 0, 0, NULL, NULL, NULL},
};
static const pawl_setting_info stream_settings[] = {
    {"partitions", PAWL_SETTING_NUMBER, 0, NULL, "1", "1 to 1024"},
    {NULL, 0, 0, NULL, NULL, NULL},
};
#define ERROR_SETTINGS \
    {"on_error", PAWL_SETTING_CHOICE, \
     0,          "stop|skip|dead-letter", \
     NULL,       "what to do about a record that can't be taken"}, \
    { \
        "dead_letter", PAWL_SETTING_TEXT, 0, NULL, NULL, "the stream that gets it" \
    }
#define BATCH_SETTINGS \
    {"batch_records", PAWL_SETTING_NUMBER, 0, NULL, "0", "records a batch at most"}, { \
        "batch_bytes", PAWL_SETTING_SIZE, 0, NULL, "0", "bytes a batch, about" \
    }
#define BACKOFF_SETTINGS \
    { "backoff", PAWL_SETTING_TIME, 0, NULL, "0", "the first pause before another attempt" }
static const pawl_setting_info source_settings[] = {
    {"type", PAWL_SETTING_TEXT, 1, NULL, NULL, "which kind of source"},
    {"to", PAWL_SETTING_TEXT, 1, NULL, NULL, "the stream that its records go to"},
    ERROR_SETTINGS,
    BATCH_SETTINGS,
    BACKOFF_SETTINGS,
    {"backoff_max", PAWL_SETTING_TIME, 0, NULL, "0", "the longest pause"},
    {NULL, 0, 0, NULL, NULL, NULL},
};
#define FLOW_SETTINGS \
    {"from", PAWL_SETTING_TEXT, 0, NULL, NULL, "the stream, or a list of streams, that it reads"}, \
        {"from.*", PAWL_SETTING_TEXT, 0, NULL, NULL, ""}, \
        {"guarantee", PAWL_SETTING_CHOICE,    0, "exactly-once|at-least-once|at-most-once", \
         NULL,        "if not the pipeline's"}, \
    { \
        "start", PAWL_SETTING_CHOICE, 0, "beginning|end", "beginning", "where a new one begins" \
    }
static const pawl_setting_info processor_settings[] = {
    {"type", PAWL_SETTING_TEXT, 1, NULL, NULL, "which kind of processor"},
    FLOW_SETTINGS,
    ERROR_SETTINGS,
    BATCH_SETTINGS,
    BACKOFF_SETTINGS,
    {"retries", PAWL_SETTING_NUMBER, 0, NULL, "3", "further attempts at a failing record"},
    {NULL, 0, 0, NULL, NULL, NULL},
};
static const pawl_setting_info sink_settings[] = {
    {"type", PAWL_SETTING_TEXT, 1, NULL, NULL, "which kind of sink"},
    FLOW_SETTINGS,
    ERROR_SETTINGS,
    BATCH_SETTINGS,
    BACKOFF_SETTINGS,
    {"backoff_max", PAWL_SETTING_TIME, 0, NULL, "0", "the longest pause"},
    {"linger", PAWL_SETTING_TIME, 0, NULL, "0", "how long a batch may wait for more records"},
    {"on_lost", PAWL_SETTING_CHOICE, 0, "stop|redeliver|accept", "stop",
     "what to do about records that were delivered and that the target has lost"},
    {"on_replaced", PAWL_SETTING_CHOICE, 0, "stop|adopt|redeliver", "stop",
     "what to do about a target that is not the one delivered to before"},
    {NULL, 0, 0, NULL, NULL, NULL},
};
static const pawl_connector sections[] = {
    {.type = "the configuration", .settings = top_settings},
    {.type = "log", .settings = log_settings},
    {.type = "a stream", .settings = stream_settings},
    {.type = "a source", .settings = source_settings},
    {.type = "a processor", .settings = processor_settings},
    {.type = "a sink", .settings = sink_settings},
};
enum section { TOP, LOG, STREAM, SOURCE, PROCESSOR, SINK };

/* ---- problems */

#define PROBLEM_SIZE 2048

/* `cut`: the text, or a part of it, lacks its end. */
static void tell(config_reading *r, uint32_t line, int severity, char text[PROBLEM_SIZE],
                 bool cut) {
    pawl_secret_hide(text, cut);
    tree_hide_variables(text, PROBLEM_SIZE, cut);
    r->file->problems += severity != 0;
    if (r->fn != NULL)
        r->fn(r->arg, line, severity, text);
}

void config_problem(config_reading *r, uint32_t line, int severity, const char *format, ...) {
    char text[PROBLEM_SIZE];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    tell(r, line, severity, text, n >= (int)sizeof text);
}

void config_pawl_problem(config_reading *r, uint32_t line, const char *who, const pawl_error *e) {
    const char *why = e->message[0] != 0 ? e->message : pawl_strerror(e->code);
    char text[PROBLEM_SIZE];
    if (strncmp(why, "line ", 5) == 0) {
        char *end;
        unsigned long told = strtoul(why + 5, &end, 10);
        if (end != why + 5 && strncmp(end, ": ", 2) == 0 && told <= UINT32_MAX) {
            line = (uint32_t)told;
            why = end + 2;
        }
    }
    bool cut = strlen(e->message) == sizeof e->message - 1;
    int n = snprintf(text, sizeof text, "%s%s%s", who, who[0] != 0 ? ": " : "", why);
    tell(r, line, 1, text, cut || n >= (int)sizeof text);
}

/* Changes of a character that make one of the other, at most `most` + 1. */
static size_t distance(const char *a, const char *b, size_t most) {
    size_t row[65], la = strlen(a), lb = strlen(b);
    if (la > 64 || lb > 64 || la > lb + most || lb > la + most)
        return most + 1;
    for (size_t k = 0; k <= lb; k++)
        row[k] = k;
    for (size_t i = 1; i <= la; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t k = 1; k <= lb; k++) {
            size_t replaced = diagonal + (a[i - 1] != b[k - 1]),
                   least = row[k] < row[k - 1] ? row[k] + 1 : row[k - 1] + 1;
            diagonal = row[k];
            row[k] = replaced < least ? replaced : least;
        }
    }
    return row[lb];
}

const char *config_alike(const char *text, const char *const *names, size_t count) {
    size_t best = 3;
    const char *found = NULL;
    for (size_t i = 0; i < count; i++) {
        size_t d = distance(text, names[i], 2);
        if (d < best && d < strlen(names[i])) {
            best = d;
            found = names[i];
        }
    }
    return found;
}

static const pawl_setting_info *info_of(const pawl_setting_info *list, const char *name) {
    for (const pawl_setting_info *i = list; i != NULL && i->name != NULL; i++) {
        size_t n = strlen(i->name);
        bool open = n > 2 && strcmp(i->name + n - 2, ".*") == 0;
        bool file = i->kind == PAWL_SETTING_SECRET && strncmp(i->name, name, n) == 0 &&
                    strcmp(name + n, "_file") == 0;
        if (open ? strncmp(i->name, name, n - 1) == 0 && name[n - 1] != 0
                 : strcmp(i->name, name) == 0 || file)
            return i;
    }
    return NULL;
}

static void unknown(config_reading *r, uint32_t line, const char *what, const char *name,
                    const pawl_setting_info *one, const pawl_setting_info *two) {
    const char *names[128], *alike;
    size_t n = 0;
    for (const pawl_setting_info *i = one; i != NULL && i->name != NULL && n < 128; i++)
        names[n++] = i->name;
    for (const pawl_setting_info *i = two; i != NULL && i->name != NULL && n < 128; i++)
        names[n++] = i->name;
    alike = config_alike(name, names, n);
    config_problem(r, line, 1, "%s has no setting \"%s\"%s%s%s", what, name,
                   alike != NULL ? "; did you mean \"" : "", alike != NULL ? alike : "",
                   alike != NULL ? "\"?" : "");
}

/* ---- flattening */

typedef struct flat {
    pawl_setting *items;
    size_t count;
    char **owned;
    size_t owned_count;
} flat;

static bool flat_add(flat *f, char *name, const char *value, uint32_t line) {
    if ((f->count & (f->count - 1)) == 0) {
        size_t room = f->count == 0 ? 1 : f->count * 2;
        pawl_setting *items = realloc(f->items, room * sizeof *items);
        if (items != NULL)
            f->items = items;
        char **owned = items != NULL ? realloc(f->owned, room * sizeof *owned) : NULL;
        if (owned == NULL) {
            free(name);
            return false;
        }
        f->owned = owned;
    }
    f->items[f->count++] = (pawl_setting){name, value, line};
    f->owned[f->owned_count++] = name;
    return true;
}

static void flatten(config_reading *r, const tree_node *n, const char *prefix, flat *f) {
    for (size_t i = 0; i < n->count && f->count < SETTINGS_MAX; i++) {
        const tree_node *child = &n->children[i];
        char number[24], *name = NULL;
        snprintf(number, sizeof number, "%zu", i);
        if (asprintf(&name, "%s%s%s", prefix, prefix[0] != 0 ? "." : "",
                     child->key != NULL ? child->key : number) < 0) {
            config_problem(r, child->line, 1, "out of memory");
            return;
        }
        if (child->kind != YAML_TEXT) {
            flatten(r, child, name, f);
            free(name);
        } else if (child->empty) {
            config_problem(r, child->line, 1, "\"%s\" has no value; write '' for an empty text",
                           name);
            free(name);
        } else if (!flat_add(f, name, child->text,
                             child->key != NULL ? child->key_line : child->line)) {
            config_problem(r, child->line, 1, "out of memory");
        }
    }
}

static void flat_free(flat *f) {
    for (size_t i = 0; i < f->owned_count; i++)
        free(f->owned[i]);
    free(f->owned);
    free(f->items);
    *f = (flat){0};
}

/* Flattens a map and checks it against a section. False: it can't be used. */
static bool read_section(config_reading *r, const tree_node *n, enum section which, flat *f) {
    const pawl_connector *c = &sections[which];
    size_t before = r->file->problems;
    *f = (flat){0};
    if (n->kind != YAML_MAP && !(n->kind == YAML_TEXT && n->empty)) {
        config_problem(r, n->line, 1, "%s must be a map of settings", c->type);
        return false;
    }
    flatten(r, n, "", f);
    for (size_t i = 0; i < f->count; i++)
        if (info_of(c->settings, f->items[i].name) == NULL)
            unknown(r, f->items[i].line, c->type, f->items[i].name, c->settings, NULL);
    pawl_error e;
    if (r->file->problems == before &&
        pawl_settings_check(c, &(pawl_settings){.items = f->items, .count = f->count}, &e) < 0)
        config_pawl_problem(r, n->line, "", &e);
    return r->file->problems == before;
}

static uint64_t number(enum section which, const flat *f, const char *name) {
    return pawl_setting_number(&sections[which],
                               &(pawl_settings){.items = f->items, .count = f->count}, name);
}

/* ---- top, log, streams */

static bool name_ok(const char *name, size_t most) {
    size_t n = strlen(name);
    return n >= 1 && n <= most && strspn(name, NAMES) == n;
}

static uint32_t small(uint64_t n) {
    return n > UINT32_MAX ? UINT32_MAX : (uint32_t)n;
}

/* The index of the choice that a setting names. */
static int32_t chosen(enum section which, const flat *f, const char *name) {
    uint64_t n = number(which, f, name);
    return n <= INT16_MAX ? (int32_t)n : 0;
}

static void read_top(config_reading *r, const tree_node *doc) {
    config *c = r->c;
    tree_node own = *doc; /* the scalars among its children */
    own.children = calloc(doc->count + 1, sizeof *own.children);
    own.count = 0;
    for (size_t i = 0; own.children != NULL && i < doc->count; i++) {
        const tree_node *child = &doc->children[i];
        bool section = info_of(top_settings, child->key) != NULL &&
                       info_of(top_settings, child->key)->help[0] == 0;
        if (info_of(top_settings, child->key) == NULL)
            unknown(r, child->key_line, sections[TOP].type, child->key, top_settings, NULL);
        else if (!section && child->kind != YAML_TEXT)
            config_problem(r, child->key_line, 1, "\"%s\" must be a single value", child->key);
        else if (!section)
            own.children[own.count++] = *child;
    }
    flat f;
    if (read_section(r, &own, TOP, &f)) {
        const tree_node *name = tree_get(doc, "name");
        c->guarantee = chosen(TOP, &f, "guarantee");
        c->threads = small(number(TOP, &f, "threads"));
        c->end_on_failure = number(TOP, &f, "on_failure") != 0;
        uint64_t drain = number(TOP, &f, "drain");
        c->drain_ms = drain > 86400000 ? 86400000 : (uint32_t)drain;
        if (name != NULL)
            c->name = name->text;
        if (number(TOP, &f, "threads") > 64)
            config_problem(
                r,
                pawl_setting_line(&(pawl_settings){.items = f.items, .count = f.count}, "threads"),
                1, "threads must be from 0 to 64");
    }
    flat_free(&f);
    free(own.children);
}

/* An octal number of read and write permissions. */
static uint32_t read_mode(config_reading *r, uint32_t line, const char *text) {
    size_t n = strspn(text, "01234567");
    unsigned long mode = strtoul(text, NULL, 8);
    if (n >= 3 && n <= 4 && text[n] == 0 && (mode & ~0666ul) == 0 && (mode & 0600) == 0600)
        return (uint32_t)mode;
    config_problem(r, line, 1, "socket_mode must be an octal mode from 0600 to 0666");
    return 0600;
}

static void read_log(config_reading *r, const tree_node *doc) {
    config *c = r->c;
    const tree_node *n = tree_get(doc, "log");
    flat f;
    c->log_line = n != NULL && n->key_line != 0 ? n->key_line : doc->line;
    if (n == NULL) {
        config_problem(r, doc->line, 1, "there is no section log, with the directory of the log");
        return;
    }
    if (read_section(r, n, LOG, &f)) {
        pawl_settings s = {.items = f.items, .count = f.count};
        c->directory = tree_get(n, "directory")->text;
        c->create = number(LOG, &f, "create") != 0;
        c->segment_size = number(LOG, &f, "segment_size");
        c->disk_cap = number(LOG, &f, "disk_cap");
        c->memory = number(LOG, &f, "memory");
        c->backend = chosen(LOG, &f, "backend");
        c->direct = chosen(LOG, &f, "direct");
        c->socket_mode = read_mode(r, pawl_setting_line(&s, "socket_mode"),
                                   pawl_setting_text(&sections[LOG], &s, "socket_mode"));
        c->has_retention = tree_get(n, "retention") != NULL;
        c->retention = (pawl_retention){.bytes = number(LOG, &f, "retention.bytes"),
                                        .ms = number(LOG, &f, "retention.age"),
                                        .consumed = number(LOG, &f, "retention.consumed") != 0};
        if (c->segment_size % (1u << 20) != 0 || c->segment_size < 1u << 20 ||
            c->segment_size > UINT64_C(4) << 30)
            config_problem(r, pawl_setting_line(&s, "segment_size"), 1,
                           "segment_size must be a multiple of 1M, from 1M to 4G");
        if (c->disk_cap != 0 && c->disk_cap < 4 * c->segment_size)
            config_problem(r, pawl_setting_line(&s, "disk_cap"), 1,
                           "disk_cap must be at least four segments");
        if (c->memory < 2u << 20)
            config_problem(r, pawl_setting_line(&s, "memory"), 1, "memory must be at least 2M");
        if (c->directory[0] == 0)
            config_problem(r, pawl_setting_line(&s, "directory"), 1, "directory is empty");
    }
    flat_free(&f);
}

static void read_streams(config_reading *r, const tree_node *doc) {
    const tree_node *n = tree_get(doc, "streams");
    config *c = r->c;
    if (n == NULL || (n->kind == YAML_TEXT && n->empty) || n->count == 0) {
        config_problem(r, n != NULL ? n->line : doc->line, 1, "there are no streams");
        return;
    }
    c->streams = n->kind != YAML_TEXT ? calloc(n->count, sizeof *c->streams) : NULL;
    if (c->streams == NULL) {
        config_problem(r, n->line, 1, "streams must be a map of names, or a list");
        return;
    }
    for (size_t i = 0; i < n->count; i++) {
        const tree_node *child = &n->children[i];
        const char *name = child->key != NULL         ? child->key
                           : child->kind == YAML_TEXT ? child->text
                                                      : "";
        uint32_t line = child->key != NULL ? child->key_line : child->line;
        stream_config *s = &c->streams[c->stream_count++];
        *s = (stream_config){.name = name, .line = line, .partitions = 1};
        if (!name_ok(name, 127))
            config_problem(r, line, 1,
                           "\"%s\" can't be a stream's name: 1 to 127 of A-Z a-z 0-9 . _ -", name);
        for (size_t k = 0; k + 1 < c->stream_count; k++)
            if (strcmp(c->streams[k].name, name) == 0)
                config_problem(r, line, 1, "the stream \"%s\" is there twice", name);
        flat f;
        if (child->key == NULL)
            continue;
        if (read_section(r, child, STREAM, &f)) {
            uint64_t p = number(STREAM, &f, "partitions");
            s->partitions = p >= 1 && p <= 1024 ? (uint32_t)p : 1;
            if (p < 1 || p > 1024)
                config_problem(r, line, 1, "partitions must be from 1 to 1024");
        }
        flat_free(&f);
    }
}

/* ---- sources, processors, sinks */

static void read_own(config_reading *r, flow_config *w, enum section which, const flat *own) {
    pawl_settings s = {.items = own->items, .count = own->count};
    const pawl_connector *c = &sections[which];
    w->to = pawl_setting_text(c, &s, "to");
    w->to_line = pawl_setting_line(&s, "to");
    w->dead_letter = pawl_setting_text(c, &s, "dead_letter");
    w->dead_letter_line = pawl_setting_line(&s, "dead_letter");
    w->on_error_given = pawl_setting_text(c, &s, "on_error") != NULL;
    w->on_error = w->on_error_given        ? chosen(which, own, "on_error")
                  : w->dead_letter != NULL ? PAWL_ON_ERROR_DEAD_LETTER
                                           : PAWL_ON_ERROR_STOP;
    w->guarantee = pawl_setting_text(c, &s, "guarantee") != NULL ? chosen(which, own, "guarantee")
                                                                 : r->c->guarantee;
    w->on_lost = chosen(which, own, "on_lost");
    w->on_replaced = chosen(which, own, "on_replaced");
    w->batch_records = small(number(which, own, "batch_records"));
    w->batch_bytes = number(which, own, "batch_bytes");
    w->linger_ms = small(number(which, own, "linger"));
    w->backoff_ms = small(number(which, own, "backoff"));
    w->backoff_max_ms = small(number(which, own, "backoff_max"));
    w->retries = small(number(which, own, "retries"));
    w->start_at_end = number(which, own, "start") != 0;
    for (size_t i = 0; i < own->count; i++) {
        if (strcmp(own->items[i].name, "from") != 0 && strncmp(own->items[i].name, "from.", 5) != 0)
            continue;
        if (w->input_count == 64) {
            config_problem(r, own->items[i].line, 1, "\"%s\" reads more than 64 streams", w->name);
            break;
        }
        w->inputs[w->input_count] = own->items[i].value;
        w->input_lines[w->input_count++] = own->items[i].line;
    }
    if (which != SOURCE && w->input_count == 0)
        config_problem(r, w->line, 1, "\"%s\" needs \"from\": the stream that it reads", w->name);
    if ((w->on_error == PAWL_ON_ERROR_DEAD_LETTER) != (w->dead_letter != NULL))
        config_problem(r, w->line, 1,
                       w->dead_letter == NULL
                           ? "\"%s\" needs dead_letter: the stream for what fails"
                           : "\"%s\" has a dead_letter stream, but another on_error",
                       w->name);
}

static int connector_kind(enum flow_kind kind) {
    return kind == FLOW_SOURCE      ? PAWL_KIND_SOURCE
           : kind == FLOW_PROCESSOR ? PAWL_KIND_PROCESSOR
                                    : PAWL_KIND_SINK;
}

static void list_types(enum flow_kind kind, const char **names, size_t *n) {
    const pawl_connector *c;
    *n = 0;
    for (uint32_t i = 0; (c = pawl_connector_at(i)) != NULL && *n < 64; i++)
        if (pawl_connector_find(c->type, connector_kind(kind)) == c)
            names[(*n)++] = c->type;
}

static const pawl_setting_info *type_settings(config_reading *r, flow_config *w, enum section which,
                                              uint32_t line) {
    const pawl_connector *c = pawl_connector_find(w->type, connector_kind(w->kind));
    if (c != NULL)
        return c->settings;
    const char *names[64];
    char known[320] = "";
    size_t n;
    list_types(w->kind, names, &n);
    const char *alike = config_alike(w->type, names, n);
    for (size_t i = 0; i < n; i++)
        snprintf(known + strlen(known), sizeof known - strlen(known), "%s%s", i > 0 ? ", " : "",
                 names[i]);
    config_problem(r, line, 1, "%s of type \"%s\" is not in this build%s%s%s; there are: %s",
                   sections[which].type, w->type, alike != NULL ? "; did you mean \"" : "",
                   alike != NULL ? alike : "", alike != NULL ? "\"?" : "", known);
    return NULL;
}

/* Does a secret of such a name hold more than where to connect? */
static bool holds_password(const pawl_setting *s) {
    const char *at = strstr(s->value, "://"), *sign = at != NULL ? strchr(at, '@') : NULL;
    return strcmp(s->name, "conninfo") != 0 || strstr(s->value, "password") != NULL ||
           (sign != NULL && memchr(at + 3, ':', (size_t)(sign - at - 3)) != NULL);
}

/* A secret, or the path of its file. One that is written into a file that everybody can read is
 * none. */
static void take_secret(config_reading *r, const pawl_setting *s) {
    size_t n = strlen(s->name);
    if (n > 5 && strcmp(s->name + n - 5, "_file") == 0)
        return;
    tree_secret(s->value);
    if (r->file->is_public && s->value[0] != 0 && holds_password(s) &&
        memmem(r->file->bytes, r->file->size, s->value, strlen(s->value)) != NULL)
        config_problem(
            r, s->line, 0,
            "%s is a secret, and every user can read this file: chmod o-r, or give it as "
            "%s_file, ${credential:NAME} or ${file:PATH}",
            s->name, s->name);
}

/* Separates this program's own settings from those of the type. */
static void read_flow(config_reading *r, const tree_node *n, flow_config *w, enum section which) {
    const tree_node *type = tree_get(n, "type");
    flat all = {0}, own = {0};
    size_t before = r->file->problems;
    w->name = n->key;
    w->line = n->key_line;
    if (!name_ok(w->name, 64))
        config_problem(r, w->line, 1, "\"%s\" can't be a name: 1 to 64 of A-Z a-z 0-9 . _ -",
                       w->name);
    if (n->kind != YAML_MAP || type == NULL || type->kind != YAML_TEXT) {
        config_problem(r, w->line, 1, "\"%s\" must be a map of settings, with a type", w->name);
        return;
    }
    w->type = type->text;
    const pawl_setting_info *theirs = type_settings(r, w, which, type->line);
    if (theirs == NULL)
        return;
    flatten(r, n, "", &all);
    for (size_t i = 0; i < all.count; i++) {
        pawl_setting *s = &all.items[i];
        if (info_of(sections[which].settings, s->name) != NULL) {
            if (!flat_add(&own, strdup(s->name), s->value, s->line))
                config_problem(r, s->line, 1, "out of memory");
        } else if (info_of(theirs, s->name) == NULL) {
            unknown(r, s->line, w->type, s->name, theirs, sections[which].settings);
        } else {
            if (info_of(theirs, s->name)->kind == PAWL_SETTING_SECRET)
                take_secret(r, s);
            all.items[w->setting_count++] = *s; /* moves up: those before it are done */
        }
    }
    w->settings = all.items;
    w->owned = all.owned;
    w->owned_count = all.owned_count;
    pawl_error e;
    if (r->file->problems == before &&
        pawl_settings_check(&sections[which],
                            &(pawl_settings){.items = own.items, .count = own.count}, &e) < 0)
        config_pawl_problem(r, w->line, w->name, &e);
    if (r->file->problems == before)
        read_own(r, w, which, &own);
    flat_free(&own);
}

static void read_flows(config_reading *r, const tree_node *doc, const char *key,
                       enum flow_kind kind, enum section which) {
    const tree_node *n = tree_get(doc, key);
    config *c = r->c;
    if (n == NULL || (n->kind == YAML_TEXT && n->empty))
        return;
    if (n->kind != YAML_MAP) {
        config_problem(r, n->line, 1, "%s must be a map: a name and settings for each", key);
        return;
    }
    flow_config *q = realloc(c->flows, (c->flow_count + n->count + 1) * sizeof *q);
    if (q == NULL) {
        config_problem(r, n->line, 1, "out of memory");
        return;
    }
    c->flows = q;
    for (size_t i = 0; i < n->count; i++) {
        flow_config *w = &c->flows[c->flow_count++];
        *w = (flow_config){.kind = kind};
        read_flow(r, &n->children[i], w, which);
    }
}

/* ---- a file */

static void read_document(config_reading *r, const tree_node *doc) {
    config *c = r->c;
    c->file = r->file->path;
    c->line = doc->line;
    const char *slash = strrchr(c->file, '/');
    c->name = slash != NULL ? slash + 1 : c->file;
    if (doc->kind != YAML_MAP) {
        config_problem(
            r, doc->line, 1,
            "a pipeline is a map with the sections log, streams, sources, processors, sinks");
        return;
    }
    read_top(r, doc);
    read_log(r, doc);
    read_streams(r, doc);
    read_flows(r, doc, "sources", FLOW_SOURCE, SOURCE);
    read_flows(r, doc, "processors", FLOW_PROCESSOR, PROCESSOR);
    read_flows(r, doc, "sinks", FLOW_SINK, SINK);
    if (r->file->problems == 0)
        config_check(r);
}

int config_parse(config_file *f, const char *path, const char *bytes, size_t size,
                 config_problem_fn fn, void *arg) {
    tree_error e = {0};
    config_reading r = {.file = f, .fn = fn, .arg = arg};
    *f = (config_file){
        .path = strdup(path), .bytes = bytes, .size = size, .is_public = f->is_public};
    if (f->path == NULL || tree_read(bytes, size, &f->documents, &f->count, &e) != 0) {
        config_problem(&r, e.line, 1, "%s", e.message);
        return -1;
    }
    f->pipelines = calloc(f->count + 1, sizeof *f->pipelines);
    if (f->count == 0 || f->pipelines == NULL)
        config_problem(&r, 0, 1, "there is nothing in it");
    for (size_t i = 0; f->pipelines != NULL && i < f->count; i++) {
        r.c = &f->pipelines[i];
        read_document(&r, &f->documents[i]);
        for (size_t k = 0; k < i && f->problems == 0; k++)
            if (strcmp(f->pipelines[k].directory, r.c->directory) == 0)
                config_problem(&r, r.c->line, 1, "the log %s belongs to another pipeline already",
                               r.c->directory);
    }
    return f->problems == 0 ? 0 : -1;
}

int config_load(config_file *f, const char *path, config_problem_fn fn, void *arg) {
    config_reading r = {.file = f, .fn = fn, .arg = arg};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    char *bytes = fd >= 0 ? malloc(YAML_BYTES_MAX + 1) : NULL;
    size_t size = 0;
    ssize_t got = bytes != NULL ? 1 : -1;
    while (got > 0 && size <= YAML_BYTES_MAX) {
        got = read(fd, bytes + size, YAML_BYTES_MAX + 1 - size);
        size += got > 0 ? (size_t)got : 0;
    }
    int rc = -1, why = errno;
    struct stat st;
    *f = (config_file){0};
    f->is_public = fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & S_IROTH);
    if (fd >= 0)
        close(fd);
    if (got < 0)
        config_problem(&r, 0, 1, "cannot be read: %s", strerror(why));
    else
        rc = config_parse(f, path, bytes, size, fn, arg);
    f->bytes = NULL;
    free(bytes);
    return rc;
}

void config_free(config_file *f) {
    for (size_t i = 0; f->pipelines != NULL && i < f->count; i++) {
        config *c = &f->pipelines[i];
        for (size_t k = 0; k < c->flow_count; k++) {
            flow_config *w = &c->flows[k];
            if (w->ops.self != NULL)
                w->ops.destroy(w->ops.self);
            for (size_t m = 0; m < w->owned_count; m++)
                free(w->owned[m]);
            free(w->owned);
            free(w->settings);
        }
        free(c->flows);
        free(c->streams);
    }
    free(f->pipelines);
    tree_free(f->documents, f->count);
    free(f->path);
    *f = (config_file){0};
}
