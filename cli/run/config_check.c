/* SPDX-License-Identifier: Apache-2.0
 *
 * config_check.c - what no section can tell by itself: names, streams, what each type says to its
 * settings, cycles.
 */
#include <stdlib.h>
#include <string.h>

#include "cli/run/config.h"

static const stream_config *find_stream(const config *c, const char *name) {
    for (size_t i = 0; i < c->stream_count; i++)
        if (strcmp(c->streams[i].name, name) == 0)
            return &c->streams[i];
    return NULL;
}

static void want_stream(config_reading *r, const char *name, uint32_t line) {
    const char **names = calloc(r->c->stream_count + 1, sizeof *names);
    if (find_stream(r->c, name) == NULL) {
        for (size_t i = 0; names != NULL && i < r->c->stream_count; i++)
            names[i] = r->c->streams[i].name;
        const char *alike = names != NULL ? config_alike(name, names, r->c->stream_count) : NULL;
        config_problem(r, line, 1, "there is no stream \"%s\" under streams%s%s%s", name,
                       alike != NULL ? "; did you mean \"" : "", alike != NULL ? alike : "",
                       alike != NULL ? "\"?" : "");
    }
    free(names);
}

static const char *kind_name(enum flow_kind k) {
    return k == FLOW_SOURCE ? "source" : k == FLOW_PROCESSOR ? "processor" : "sink";
}

static void check_names(config_reading *r, const flow_config *w) {
    for (const flow_config *o = r->c->flows; o < w; o++)
        if (strcmp(o->name, w->name) == 0)
            config_problem(r, w->line, 1, "the name \"%s\" is taken by the %s in line %u", w->name,
                           kind_name(o->kind), o->line);
}

/* Is `longer` the name `name` and a dot and more? Then its producer, or one of its items, can be an
 * item of `name`: the sender "b.x" of a source "a" would be the sender "x" of a source "a.b". */
static bool is_within(const flow_config *name, const flow_config *longer) {
    size_t n = strlen(name->name);
    return strncmp(name->name, longer->name, n) == 0 && longer->name[n] == '.';
}

static void check_sources(config_reading *r, const flow_config *w) {
    for (const flow_config *o = r->c->flows; o < w; o++) {
        const flow_config *shorter = is_within(o, w) ? o : w;
        if (o->kind == FLOW_SOURCE && w->kind == FLOW_SOURCE &&
            (is_within(o, w) || is_within(w, o)) && strcmp(shorter->type, "socket") == 0)
            config_problem(
                r, w->line, 1,
                "\"%s\" and \"%s\" could share producers, as senders choose their names: "
                "give one of them another name",
                o->name, w->name);
    }
}

static void check_streams(config_reading *r, const flow_config *w) {
    for (uint32_t i = 0; i < w->input_count; i++) {
        want_stream(r, w->inputs[i], w->input_lines[i]);
        for (uint32_t k = 0; k < i; k++)
            if (strcmp(w->inputs[k], w->inputs[i]) == 0)
                config_problem(r, w->input_lines[i], 1, "\"%s\" reads the stream \"%s\" twice",
                               w->name, w->inputs[i]);
    }
    if (w->kind == FLOW_SOURCE)
        want_stream(r, w->to, w->to_line);
    if (w->dead_letter != NULL)
        want_stream(r, w->dead_letter, w->dead_letter_line);
    for (uint32_t i = 0; w->kind == FLOW_PROCESSOR && i < w->ops.output_count; i++)
        want_stream(r, w->ops.outputs[i].value, w->ops.outputs[i].line);
}

/* What the type says to its settings. Connectors are made and thrown away: that connects to
 * nothing. */
static void make(config_reading *r, flow_config *w) {
    pawl_settings s = {.items = w->settings, .count = w->setting_count};
    pawl_error e = {0};
    bool strangers = true; /* its records, or what it does with them, may be a stranger's doing */
    int rc;
    if (w->kind == FLOW_PROCESSOR) {
        w->ops = (pawl_processor_ops)PAWL_PROCESSOR_OPS_INIT;
        rc = pawl_processor_make(w->type, &s, &w->ops, &e);
        if (rc < 0)
            w->ops = (pawl_processor_ops){0};
    } else if (w->kind == FLOW_SINK) {
        pawl_sink_ops ops = PAWL_SINK_OPS_INIT;
        rc = pawl_sink_make(w->type, &s, &ops, &e);
        if (rc == 0) {
            w->sink_kind = ops.kind;
            w->sink_flags = ops.flags;
            if (ops.destroy != NULL)
                ops.destroy(ops.self);
        }
    } else {
        pawl_source_ops ops = PAWL_SOURCE_OPS_INIT;
        rc = pawl_source_make(w->type, &s, &ops, &e);
        if (rc == 0) {
            w->source_flags = ops.flags;
            strangers = (ops.flags & PAWL_SOURCE_STRANGERS) != 0;
            if (ops.destroy != NULL)
                ops.destroy(ops.self);
        }
    }
    if (strangers && !w->on_error_given && w->dead_letter == NULL)
        w->on_error = PAWL_ON_ERROR_SKIP; /* what a stranger sends stops nothing */
    if (rc < 0)
        config_pawl_problem(r, w->line, w->name, &e);
}

/* ---- which streams are read and written */

static bool writes(const flow_config *w, const char *stream) {
    if (w->kind == FLOW_SOURCE && strcmp(w->to, stream) == 0)
        return true;
    if (w->dead_letter != NULL && strcmp(w->dead_letter, stream) == 0)
        return true;
    for (uint32_t i = 0; w->kind == FLOW_PROCESSOR && i < w->ops.output_count; i++)
        if (strcmp(w->ops.outputs[i].value, stream) == 0)
            return true;
    return false;
}

bool config_reads(const flow_config *w, const char *stream) {
    for (uint32_t i = 0; i < w->input_count; i++)
        if (strcmp(w->inputs[i], stream) == 0)
            return true;
    return false;
}

static void check_state(config_reading *r, const flow_config *w) {
    if (w->kind != FLOW_PROCESSOR || (w->ops.flags & PAWL_PROCESSOR_KEEPS_STATE) == 0)
        return;
    const char *output = w->ops.outputs[0].value;
    if (w->guarantee != PAWL_EXACTLY_ONCE)
        config_problem(r, w->line, 1,
                       "\"%s\" reads its state back from what it wrote, so it must be exactly-once",
                       w->name);
    for (size_t i = 0; i < r->c->flow_count; i++)
        if (&r->c->flows[i] != w && writes(&r->c->flows[i], output))
            config_problem(
                r, r->c->flows[i].line, 1,
                "\"%s\" must not write to \"%s\": \"%s\" reads its state back from there",
                r->c->flows[i].name, output, w->name);
    const stream_config *from = find_stream(r->c, w->inputs[0]), *to = find_stream(r->c, output);
    if (w->input_count != 1 || (from != NULL && to != NULL && from->partitions != to->partitions))
        config_problem(r, w->line, 1,
                       "\"%s\" needs one input, and an output with as many partitions", w->name);
}

/* As pawl_processor_attach() checks it, with the lines of the file. */
static void check_tables(config_reading *r, const flow_config *w) {
    bool keeps = w->kind == FLOW_PROCESSOR && (w->ops.flags & PAWL_PROCESSOR_KEEPS_TABLES) != 0,
         one = w->kind == FLOW_PROCESSOR && (w->ops.flags & PAWL_PROCESSOR_ONE_PARTITION) != 0;
    const stream_config *first = find_stream(r->c, w->input_count != 0 ? w->inputs[0] : "");
    if (keeps && w->guarantee == PAWL_AT_MOST_ONCE)
        config_problem(r, w->line, 1,
                       "\"%s\" keeps state, so it can't be at-most-once: its position would be "
                       "committed before its state",
                       w->name);
    for (uint32_t i = 0; i < w->input_count && first != NULL; i++) {
        const stream_config *from = find_stream(r->c, w->inputs[i]);
        if (keeps && from != NULL && from->partitions != first->partitions)
            config_problem(r, w->input_lines[i], 1,
                           "\"%s\" keeps state, so all that it reads must have as many partitions: "
                           "\"%s\" has %u and \"%s\" has %u",
                           w->name, first->name, first->partitions, from->name, from->partitions);
        else if (one && from != NULL && from->partitions != 1)
            config_problem(
                r, w->input_lines[i], 1,
                "\"%s\" puts records together by something else than their key, and \"%s\" has %u "
                "partitions: records that belong together would be in several. Put a processor of "
                "type rekey with the same `by` and `match` before it, and let this one go by the "
                "key; or give \"%s\" one partition",
                w->name, from->name, from->partitions, from->name);
    }
}

/* A window of ids is of one partition. */
static void remark_dedup(config_reading *r, const flow_config *w) {
    const stream_config *from = find_stream(r->c, w->input_count != 0 ? w->inputs[0] : "");
    for (size_t i = 0; i < w->setting_count && from != NULL && from->partitions > 1; i++)
        if (strcmp(w->type, "dedup") == 0 && strcmp(w->settings[i].name, "id") == 0 &&
            strcmp(w->settings[i].value, "key") != 0)
            config_problem(
                r, w->settings[i].line, 0,
                "\"%s\" looks for an id in its own partition only, and \"%s\" has %u: the "
                "same id may pass once in each. A processor of type rekey before it, by "
                "the same part of the record, puts equal ids together",
                w->name, from->name, from->partitions);
}

/* Follows a stream to its readers, and on to the streams that they write. True: it comes back to a
 * stream on its way. mark 1: on the way, 2: done. */
static bool round_and_round(config_reading *r, size_t at, uint8_t *mark, const flow_config **by) {
    const config *c = r->c;
    mark[at] = 1;
    for (size_t i = 0; i < c->flow_count; i++) {
        const flow_config *w = &c->flows[i];
        if (!config_reads(w, c->streams[at].name))
            continue;
        for (size_t k = 0; k < c->stream_count; k++) {
            if (!writes(w, c->streams[k].name) || mark[k] == 2)
                continue;
            if (mark[k] == 1 || round_and_round(r, k, mark, by)) {
                if (*by == NULL)
                    *by = w;
                return true;
            }
        }
    }
    mark[at] = 2;
    return false;
}

static void check_cycles(config_reading *r) {
    uint8_t *mark = calloc(r->c->stream_count + 1, 1);
    for (size_t i = 0; mark != NULL && i < r->c->stream_count; i++) {
        const flow_config *by = NULL;
        if (mark[i] == 0 && round_and_round(r, i, mark, &by)) {
            config_problem(r, by->line, 1,
                           "what \"%s\" writes comes back to it: the streams go round in a circle",
                           by->name);
            break;
        }
    }
    free(mark);
}

static void remark_unused(config_reading *r) {
    const config *c = r->c;
    for (size_t i = 0; i < c->stream_count; i++) {
        bool written = false, read = false;
        for (size_t k = 0; k < c->flow_count; k++) {
            written = written || writes(&c->flows[k], c->streams[i].name);
            read = read || config_reads(&c->flows[k], c->streams[i].name);
        }
        if (!written && !read)
            config_problem(r, c->streams[i].line, 0,
                           "nothing here reads or writes the stream \"%s\"", c->streams[i].name);
        else if (!written)
            config_problem(r, c->streams[i].line, 0, "nothing here writes to the stream \"%s\"",
                           c->streams[i].name);
    }
}

void config_check(config_reading *r) {
    config *c = r->c;
    if (c->flow_count == 0)
        config_problem(r, c->line, 1, "there are no sources, processors or sinks: nothing to run");
    for (size_t i = 0; i < c->flow_count; i++) {
        check_names(r, &c->flows[i]);
        check_sources(r, &c->flows[i]);
        make(r, &c->flows[i]);
        check_streams(r, &c->flows[i]);
    }
    if (r->file->problems != 0)
        return;
    for (size_t i = 0; i < c->flow_count; i++)
        check_state(r, &c->flows[i]);
    for (size_t i = 0; i < c->flow_count; i++)
        check_tables(r, &c->flows[i]);
    for (size_t i = 0; i < c->flow_count; i++)
        remark_dedup(r, &c->flows[i]);
    check_cycles(r);
    remark_unused(r);
    config_check_works(r);
}
