/* SPDX-License-Identifier: Apache-2.0
 *
 * config_works.c - pipelines that are well formed and known beforehand not to work: space that is
 * never freed, records that nobody keeps, what is written and comes back as input, one target or
 * origin used twice. Nothing is opened; the names of files and directories are resolved, so that a
 * symbolic link, `..` or a second mount doesn't hide that two names are one.
 */
#include <fnmatch.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/run/config.h"

#define MIB (UINT64_C(1) << 20)

static const char *text_of(const flow_config *w, const char *name) {
    const pawl_connector *c =
        pawl_connector_find(w->type, w->kind == FLOW_SOURCE ? PAWL_KIND_SOURCE
                                     : w->kind == FLOW_SINK ? PAWL_KIND_SINK
                                                            : PAWL_KIND_PROCESSOR);
    pawl_settings s = {.items = w->settings, .count = w->setting_count};
    const char *text = c != NULL ? pawl_setting_text(c, &s, name) : NULL;
    return text != NULL ? text : "";
}

static uint32_t line_of(const flow_config *w, const char *name) {
    pawl_settings s = {.items = w->settings, .count = w->setting_count};
    uint32_t line = pawl_setting_line(&s, name);
    return line != 0 ? line : w->line;
}

static bool is(const flow_config *w, enum flow_kind kind, const char *type) {
    return w->kind == kind && strcmp(w->type, type) == 0;
}

/* ---- sizes and space */

/* The longest record that a log takes: wal_payload_max() less what a record's frame needs, and the
 * 16 bytes before each record. */
static uint64_t record_max(const config *c) {
    uint64_t n = c->segment_size / 4 + (c->segment_size >= 64 * MIB ? MIB : 0);
    if (c->memory / 4 < n)
        n = c->memory / 4;
    n = (n < 17 * MIB ? n : 17 * MIB) - 80 - 4096 - 16;
    return n < 16 * MIB ? n : 16 * MIB;
}

/* The longest record that a source makes of a line: as JSON each byte may become six. */
static uint64_t longest_record(const pawl_connector *c, const pawl_settings *s) {
    uint64_t line_max = pawl_setting_number(c, s, "line_max");
    const char *format = pawl_setting_text(c, s, "format");
    bool json = strcmp(c->type, "syslog") == 0 && format != NULL && strcmp(format, "json") == 0;
    return json ? 6 * line_max + 256 : line_max;
}

static void check_line_max(config_reading *r, const flow_config *w) {
    pawl_settings s = {.items = w->settings, .count = w->setting_count};
    const pawl_connector *c = pawl_connector_find(w->type, PAWL_KIND_SOURCE);
    uint64_t most = record_max(r->c);
    if (w->kind != FLOW_SOURCE || c == NULL || pawl_setting_text(c, &s, "line_max") == NULL)
        return;
    uint64_t line_max = pawl_setting_number(c, &s, "line_max");
    uint32_t line = pawl_setting_line(&s, "line_max");
    uint64_t longest = longest_record(c, &s);
    if (longest <= most)
        return;
    if (longest != line_max)
        config_problem(r, line != 0 ? line : w->line, line != 0 ? 1 : 0,
                       "\"%s\": a message of line_max, %" PRIu64 " bytes, may become %" PRIu64
                       " bytes of JSON, but this log takes records of at most %" PRIu64 ": %s",
                       w->name, line_max, longest, most,
                       line != 0 ? "lower line_max, or raise segment_size or memory"
                                 : "such a one goes by on_error; line_max says less, segment_size "
                                   "and memory allow more");
    else if (line != 0)
        config_problem(r, line, 1,
                       "\"%s\": line_max is %" PRIu64 " bytes, but a log with segments of %" PRIu64
                       "M and %" PRIu64 "M of memory takes records of at most %" PRIu64
                       ": lower it, or raise segment_size or memory",
                       w->name, line_max, r->c->segment_size / MIB, r->c->memory / MIB, most);
    else
        config_problem(r, w->line, 0,
                       "\"%s\": a line of more than %" PRIu64
                       " bytes doesn't fit into this log and goes by on_error; line_max says less, "
                       "segment_size and memory allow more",
                       w->name, most);
}

/* Records of several lines. */
static void check_joined(config_reading *r, const flow_config *w) {
    static const char name[] = "multiline.max_bytes";
    pawl_settings s = {.items = w->settings, .count = w->setting_count};
    const pawl_connector *c = pawl_connector_find(w->type, PAWL_KIND_SOURCE);
    uint64_t most = record_max(r->c);
    if (w->kind != FLOW_SOURCE || c == NULL || pawl_setting_text(c, &s, name) == NULL)
        return;
    const char *format = pawl_setting_text(c, &s, "format");
    bool joins = pawl_setting_text(c, &s, "multiline.begin") != NULL ||
                 pawl_setting_text(c, &s, "multiline.continue") != NULL ||
                 strcmp(format, "cri") == 0 || strcmp(format, "docker") == 0;
    uint64_t bytes = pawl_setting_number(c, &s, name);
    uint32_t line = pawl_setting_line(&s, name);
    if (joins && bytes > most)
        config_problem(r, line != 0 ? line : w->line, line != 0,
                       "\"%s\": %s is %" PRIu64
                       " bytes, but this log takes records of at most %" PRIu64 ": %s",
                       w->name, name, bytes, most,
                       line != 0 ? "lower it, or raise segment_size or memory"
                                 : "a longer one goes by on_error; set it lower, or raise "
                                   "segment_size or memory");
}

static void check_space(config_reading *r) {
    const config *c = r->c;
    const pawl_retention *k = &c->retention;
    bool drops = k->bytes != 0 || k->ms != 0 || k->consumed != 0;
    if (c->disk_cap != 0 && !drops)
        config_problem(r, c->log_line, 0,
                       "disk_cap, and %s: once the log has reached the cap nothing frees space, "
                       "and nothing is taken any more; set retention.bytes, age or consumed",
                       c->has_retention ? "retention keeps everything"
                                        : "no retention here (a log made before may have one)");
    if (c->disk_cap != 0 && k->bytes != 0 && k->ms == 0 && k->consumed == 0 &&
        k->bytes + 2 * c->segment_size > c->disk_cap)
        config_problem(r, c->log_line, 0,
                       "retention.bytes leaves less than two segments below disk_cap: the log is "
                       "full before anything is dropped");
    size_t readers = 0;
    for (size_t i = 0; i < c->flow_count; i++)
        readers += c->flows[i].kind != FLOW_SOURCE;
    if (k->consumed != 0 && readers == 0)
        config_problem(r, c->log_line, 1,
                       "retention.consumed drops what every processor and sink has passed, and "
                       "there are none: it would drop everything");
}

static bool is_read(const config *c, const char *stream) {
    for (size_t i = 0; i < c->flow_count; i++)
        if (config_reads(&c->flows[i], stream))
            return true;
    return false;
}

static void check_unread(config_reading *r) {
    const config *c = r->c;
    for (size_t i = 0; c->retention.consumed != 0 && i < c->stream_count; i++)
        if (!is_read(c, c->streams[i].name))
            config_problem(r, c->streams[i].line, 0,
                           "nothing here reads the stream \"%s\", so retention.consumed drops its "
                           "records as soon as all others of their segment are read",
                           c->streams[i].name);
}

/* ---- places */

typedef struct place {
    char path[PATH_MAX]; /* absolute, without links as far as it exists */
    bool there;
    dev_t dev;
    ino_t ino;
} place;

/* Resolves as much of a path as exists; the rest is taken as it is written. */
static bool place_of(const char *path, place *out) {
    char head[PATH_MAX], rest[PATH_MAX] = "", real[PATH_MAX];
    struct stat st;
    if (snprintf(head, sizeof head, "%s", path) >= (int)sizeof head || path[0] == 0)
        return false;
    while (realpath(head, real) == NULL) {
        char *slash = strrchr(head, '/'), kept[PATH_MAX];
        snprintf(kept, sizeof kept, "%s", rest);
        const char *name = slash != NULL ? slash + 1 : head;
        if (name[0] != 0 && snprintf(rest, sizeof rest, "/%s%s", name, kept) >= (int)sizeof rest)
            return false;
        if (slash == head)
            snprintf(head, sizeof head, "/");
        else if (slash != NULL)
            *slash = 0;
        else
            snprintf(head, sizeof head, ".");
        if (strcmp(head, "/") == 0 && realpath(head, real) == NULL)
            return false;
    }
    if (snprintf(out->path, sizeof out->path, "%s%s", strcmp(real, "/") == 0 ? "" : real, rest) >=
        (int)sizeof out->path)
        return false;
    out->there = stat(out->path, &st) == 0;
    out->dev = out->there ? st.st_dev : 0;
    out->ino = out->there ? st.st_ino : 0;
    return true;
}

static bool same_place(const place *a, const place *b) {
    return a->there && b->there ? a->dev == b->dev && a->ino == b->ino
                                : a->there == b->there && strcmp(a->path, b->path) == 0;
}

/* The directory that a path is in, and its last name. */
static bool parent_of(const place *p, place *directory, const char **name) {
    char head[PATH_MAX];
    memcpy(head, p->path, sizeof head);
    char *slash = strrchr(head, '/');
    if (slash == NULL)
        return false;
    *name = p->path + (slash - head) + 1;
    slash[slash == head ? 1 : 0] = 0;
    return place_of(head, directory);
}

/* Does the source read the file of that name in that directory? */
static bool source_reads(const flow_config *source, const place *directory, const char *name) {
    place own, parent;
    const char *last;
    if (!is(source, FLOW_SOURCE, "dir") && !is(source, FLOW_SOURCE, "file"))
        return false;
    if (!place_of(text_of(source, "path"), &own))
        return false;
    if (source->type[0] == 'd')
        return same_place(&own, directory) &&
               fnmatch(text_of(source, "glob"), name, FNM_PERIOD) == 0;
    return parent_of(&own, &parent, &last) && same_place(&parent, directory) &&
           strcmp(last, name) == 0;
}

static bool source_reads_file(const flow_config *source, const place *file) {
    place directory, own;
    const char *name;
    if (is(source, FLOW_SOURCE, "file") && place_of(text_of(source, "path"), &own) &&
        same_place(&own, file))
        return true; /* one inode by two names too */
    return parent_of(file, &directory, &name) && source_reads(source, &directory, name);
}

/* ---- what comes back */

/* The file that a descriptor of this process writes to. */
static bool place_of_descriptor(int fd, place *out) {
    char link[40], path[PATH_MAX];
    struct stat st;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
        return false;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n <= 0)
        return false;
    path[n] = 0;
    return place_of(path, out) && out->dev == st.st_dev && out->ino == st.st_ino;
}

/* A name like those that the file sink gives. */
static void sample_name(const flow_config *sink, char *out, size_t size) {
    const char *name = text_of(sink, "name"), *suffix = text_of(sink, "suffix"),
               *format = text_of(sink, "format"), *compress = text_of(sink, "compress");
    snprintf(out, size, "%s-%s-0-%020d%s%s", name[0] != 0 ? name : sink->name, sink->inputs[0], 0,
             suffix[0] != 0                ? suffix
             : strcmp(format, "json") == 0 ? ".jsonl"
             : strcmp(format, "text") == 0 ? ".log"
                                           : ".bin",
             suffix[0] != 0                  ? ""
             : strcmp(compress, "gzip") == 0 ? ".gz"
             : strcmp(compress, "zstd") == 0 ? ".zst"
                                             : "");
}

static void check_file_sink(config_reading *r, const flow_config *sink, const flow_config *source) {
    char name[512];
    place directory;
    sample_name(sink, name, sizeof name);
    if (place_of(text_of(sink, "directory"), &directory) && source_reads(source, &directory, name))
        config_problem(r, line_of(sink, "directory"), 1,
                       "the sink \"%s\" writes files into %s that the source \"%s\" reads: each "
                       "record would come back for ever",
                       sink->name, directory.path, source->name);
}

static void check_stdout(config_reading *r, const flow_config *sink, const flow_config *source) {
    place out;
    if (place_of_descriptor(STDOUT_FILENO, &out) && source_reads_file(source, &out))
        config_problem(r, sink->line, 1,
                       "the sink \"%s\" writes to standard output, which goes into %s, and the "
                       "source \"%s\" reads that: each record would come back for ever",
                       sink->name, out.path, source->name);
}

/* A shell's command is only text here: the path in it is a hint, no proof. */
static void check_command(config_reading *r, const flow_config *w, const flow_config *source) {
    const char *path = text_of(source, is(source, FLOW_SOURCE, "syslog") ? "address" : "path");
    if (strncmp(path, "unix:", 5) == 0)
        path += 5;
    for (size_t i = 0; path[0] == '/' && i < w->setting_count; i++)
        if (strncmp(w->settings[i].name, "command", 7) == 0 &&
            strstr(w->settings[i].value, path) != NULL) {
            config_problem(r, w->settings[i].line, 0,
                           "the command of \"%s\" names %s, which the source \"%s\" reads: what it "
                           "writes there comes back",
                           w->name, path, source->name);
            return;
        }
}

/* What a command gets as an argument is no secret. */
static void check_arguments(config_reading *r, const flow_config *w) {
    for (size_t i = 0; i < w->setting_count; i++) {
        char *text =
            strncmp(w->settings[i].name, "command", 7) == 0 ? strdup(w->settings[i].value) : NULL;
        size_t n = text != NULL ? strlen(text) : 0;
        if (text != NULL && (pawl_secret_hide(text, 0) != n || strstr(text, "***") != NULL) &&
            strstr(w->settings[i].value, "***") == NULL)
            config_problem(r, w->settings[i].line, 1,
                           "a secret is an argument of the command of \"%s\": every user can read "
                           "the arguments of a process; give it in a file",
                           w->name);
        free(text);
    }
}

static void check_table(config_reading *r, const flow_config *sink, const flow_config *source) {
    static const char *const parts[] = {"conninfo", "schema", "table"};
    for (size_t i = 0; i < 3; i++)
        if (strcmp(text_of(sink, parts[i]), text_of(source, parts[i])) != 0)
            return;
    config_problem(r, line_of(sink, "table"), 1,
                   "the sink \"%s\" writes to the table that the source \"%s\" reads: each row "
                   "would come back for ever",
                   sink->name, source->name);
}

static void check_comes_back(config_reading *r, const flow_config *w, const flow_config *source) {
    if (is(w, FLOW_SINK, "file"))
        check_file_sink(r, w, source);
    else if (is(w, FLOW_SINK, "stdout"))
        check_stdout(r, w, source);
    else if (is(w, FLOW_SINK, "exec") || is(w, FLOW_PROCESSOR, "exec"))
        check_command(r, w, source);
    else if (is(w, FLOW_SINK, "postgres") && is(source, FLOW_SOURCE, "postgres"))
        check_table(r, w, source);
}

/* The log's own files, and the messages of this program. */
static void check_source(config_reading *r, const flow_config *source) {
    place log, messages;
    if (place_of(r->c->directory, &log) &&
        (source_reads(source, &log, "0000000000000000.seg") || source_reads(source, &log, "lock")))
        config_problem(r, line_of(source, "path"), 1,
                       "the source \"%s\" reads the files of the log itself in %s", source->name,
                       log.path);
    if (place_of_descriptor(STDERR_FILENO, &messages) && source_reads_file(source, &messages))
        config_problem(r, source->line, 0,
                       "the source \"%s\" reads %s, where standard error goes: the messages of "
                       "this program become records",
                       source->name, messages.path);
}

/* ---- one thing used twice */

static bool same_settings(const flow_config *a, const flow_config *b, const char *name) {
    return strcmp(text_of(a, name), text_of(b, name)) == 0;
}

static void check_two_sources(config_reading *r, const flow_config *a, const flow_config *b) {
    place one, two;
    bool together = strcmp(a->to, b->to) == 0;
    if (is(a, FLOW_SOURCE, "stdin") && is(b, FLOW_SOURCE, "stdin"))
        config_problem(r, b->line, 1, "\"%s\" and \"%s\" both read standard input", a->name,
                       b->name);
    else if ((is(a, FLOW_SOURCE, "socket") || is(a, FLOW_SOURCE, "syslog")) &&
             (is(b, FLOW_SOURCE, "socket") || is(b, FLOW_SOURCE, "syslog"))) {
        const char *x = text_of(a, "transport"), *y = text_of(b, "transport");
        bool apart = x[0] != 0 && y[0] != 0 && strcmp(x, y) != 0 && strcmp(x, "both") != 0 &&
                     strcmp(y, "both") != 0;
        if (same_settings(a, b, "address") && !apart && strcmp(text_of(a, "address"), "0") != 0)
            config_problem(r, line_of(b, "address"), 1, "\"%s\" and \"%s\" both listen on %s",
                           a->name, b->name, text_of(a, "address"));
    } else if (place_of(text_of(a, "path"), &one) && place_of(text_of(b, "path"), &two)) {
        bool files = is(a, FLOW_SOURCE, "file") && is(b, FLOW_SOURCE, "file"),
             dirs = is(a, FLOW_SOURCE, "dir") && is(b, FLOW_SOURCE, "dir");
        bool same =
            (files && same_place(&one, &two)) ||
            (dirs && same_place(&one, &two) && same_settings(a, b, "glob")) ||
            (is(a, FLOW_SOURCE, "file") && is(b, FLOW_SOURCE, "dir") &&
             source_reads_file(b, &one)) ||
            (is(a, FLOW_SOURCE, "dir") && is(b, FLOW_SOURCE, "file") && source_reads_file(a, &two));
        if (same)
            config_problem(r, line_of(b, "path"), together ? 1 : 0,
                           "\"%s\" and \"%s\" both read %s%s", a->name, b->name, two.path,
                           together ? ": each line would come twice into one stream" : "");
    }
}

static void check_two_sinks(config_reading *r, const flow_config *a, const flow_config *b) {
    place one, two;
    if (!is(a, FLOW_SINK, "file") || !is(b, FLOW_SINK, "file"))
        return;
    const char *x = text_of(a, "name"), *y = text_of(b, "name");
    if (strcmp(x[0] != 0 ? x : a->name, y[0] != 0 ? y : b->name) != 0 ||
        !place_of(text_of(a, "directory"), &one) || !place_of(text_of(b, "directory"), &two) ||
        !same_place(&one, &two))
        return;
    for (uint32_t i = 0; i < a->input_count; i++)
        for (uint32_t k = 0; k < b->input_count; k++)
            if (strcmp(a->inputs[i], b->inputs[k]) == 0) {
                config_problem(r, line_of(b, "directory"), 1,
                               "the sinks \"%s\" and \"%s\" write files of the same names into %s: "
                               "give one of them another name or directory",
                               a->name, b->name, one.path);
                return;
            }
}

/* ---- a log that is there */

int config_check_log(config *c, uint64_t segment_size, config_problem_fn fn, void *arg) {
    config_file file = {.problems = 0};
    config_reading r = {.file = &file, .c = c, .fn = fn, .arg = arg};
    uint64_t wanted = c->segment_size;
    c->segment_size = segment_size;
    for (size_t i = 0; i < c->flow_count && segment_size != wanted; i++) {
        check_line_max(&r, &c->flows[i]);
        check_joined(&r, &c->flows[i]);
    }
    c->segment_size = wanted;
    return file.problems == 0 ? 0 : -1;
}

/* ---- all of it */

void config_check_works(config_reading *r) {
    const config *c = r->c;
    check_space(r);
    check_unread(r);
    for (size_t i = 0; i < c->flow_count; i++) {
        const flow_config *w = &c->flows[i];
        check_line_max(r, w);
        check_arguments(r, w);
        check_joined(r, w);
        if (w->kind == FLOW_SOURCE)
            check_source(r, w);
        for (size_t k = 0; k < c->flow_count; k++) {
            const flow_config *other = &c->flows[k];
            if (other->kind == FLOW_SOURCE && w->kind != FLOW_SOURCE)
                check_comes_back(r, w, other);
            if (k > i && w->kind == FLOW_SOURCE && other->kind == FLOW_SOURCE)
                check_two_sources(r, w, other);
            if (k > i && w->kind == FLOW_SINK && other->kind == FLOW_SINK)
                check_two_sinks(r, w, other);
        }
    }
}
