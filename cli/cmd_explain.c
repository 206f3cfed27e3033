/* SPDX-License-Identifier: Apache-2.0
 *
 * cmd_explain.c - `pawl explain`: which input made a given record, and where outside the log it
 * was read.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

enum { PARTITION };
static const cli_option options[] = {
    [PARTITION] = {"partition", "P", "the record's partition (0)"},
    {NULL, NULL, NULL},
};

#define DEPTH_MAX 16 /* processors through which an input is followed back */
#define LINES_MAX 200

typedef struct walk {
    pawl *log;
    unsigned lines;
} walk;

static void label(int depth, const char *text) {
    cli_printf("%*s%-*s ", 2 * depth, "", depth > 0 ? 9 : 10, text);
}

/* Where outside the log the records from `a` to `b`, of one thing, were read. */
static void print_outside(int depth, const pawl_outside_place *a, const pawl_outside_place *b) {
    static const char *const units[] = {"byte", "message", "row"};
    const char *unit = a->unit >= 0 && a->unit <= 2 ? units[a->unit] : "number";
    label(depth, "outside");
    cli_printf("%s", a->thing);
    if (a->at == UINT64_MAX || b->at == UINT64_MAX)
        cli_printf(", within %ss %" PRIu64 " to %" PRIu64, unit, a->from, b->to);
    else if (a->unit == PAWL_OUTSIDE_BYTES && b->end == UINT64_MAX)
        cli_printf(", from byte %" PRIu64, a->at);
    else if (a->unit == PAWL_OUTSIDE_BYTES)
        cli_printf(", bytes %" PRIu64 " to %" PRIu64, a->at, b->end);
    else if (a->at == b->at)
        cli_printf(", %s %" PRIu64, unit, a->at);
    else
        cli_printf(", %ss %" PRIu64 " to %" PRIu64, unit, a->at, b->at);
    if ((a->flags & PAWL_OUTSIDE_CONTINUES) != 0)
        cli_printf(", which continues ");
    else if (a->note[0] != '\0')
        cli_printf(", ");
    cli_printf("%s\n", a->note);
}

static void follow_inputs(walk *w, const pawl_origin *o, int depth);

/* A record that has nothing outside: the input that made it, unless its commit is `shown` already.
 * Returns the LSN of the commit. */
static uint64_t follow_record(walk *w, const pawl_stream_info *s, uint32_t partition,
                              uint64_t offset, int depth, uint64_t shown) {
    pawl_origin *o = depth < DEPTH_MAX ? calloc(1, sizeof *o) : NULL; /* some 18 KiB */
    uint64_t lsn = UINT64_MAX;
    if (o != NULL && pawl_explain(w->log, s->id, partition, offset, o) == 0) {
        lsn = o->lsn;
        if (lsn != shown)
            follow_inputs(w, o, depth);
    }
    free(o);
    return lsn;
}

/* The records from `from` up to `to` of an input: outside, or by another processor. The first and
 * the last of them stand for all. */
static void follow(walk *w, const char *stream, uint32_t partition, uint64_t from, uint64_t to,
                   int depth) {
    pawl_stream_info s;
    pawl_outside_place a = PAWL_OUTSIDE_PLACE_INIT, b = PAWL_OUTSIDE_PLACE_INIT;
    uint64_t shown = UINT64_MAX;
    if (from == to || pawl_stream_find(w->log, stream, &s) < 0)
        return;
    int first = pawl_explain_outside(w->log, s.id, partition, from, &a);
    int last = pawl_explain_outside(w->log, s.id, partition, to - 1, &b);
    if (first == 0 && last == 0 && strcmp(a.thing, b.thing) == 0) {
        print_outside(depth, &a, &b);
        return;
    }
    if (first == PAWL_TRIMMED || first == PAWL_LOST) {
        label(depth, "outside");
        cli_printf("not known any more: the input is %s\n",
                   first == PAWL_LOST ? "lost" : "no longer kept");
    } else if (first == 0) {
        print_outside(depth, &a, &a);
    } else if (first == PAWL_NOT_FOUND) {
        shown = follow_record(w, &s, partition, from, depth, shown);
    }
    if (last == 0)
        print_outside(depth, &b, &b);
    else if (last == PAWL_NOT_FOUND && to - from > 1)
        (void)follow_record(w, &s, partition, to - 1, depth, shown);
}

static void follow_inputs(walk *w, const pawl_origin *o, int depth) {
    uint32_t given = o->input_count < 64 ? o->input_count : 64;
    for (uint32_t i = 0; i < given && w->lines < LINES_MAX; i++) {
        label(depth, "input");
        w->lines++;
        if (o->inputs[i].from == o->inputs[i].to)
            cli_printf("%s partition %" PRIu32 ", none of its records, by processor %s\n",
                       o->inputs[i].stream, o->inputs[i].partition, o->inputs[i].processor);
        else
            cli_printf("%s partition %" PRIu32 " offsets %" PRIu64 " to %" PRIu64
                       ", by processor %s\n",
                       o->inputs[i].stream, o->inputs[i].partition, o->inputs[i].from,
                       o->inputs[i].to - 1, o->inputs[i].processor);
        follow(w, o->inputs[i].stream, o->inputs[i].partition, o->inputs[i].from, o->inputs[i].to,
               depth + 1);
    }
    if (o->input_count > given)
        cli_printf("           and %" PRIu32 " more intervals\n", o->input_count - given);
}

static void print_origin(walk *w, const pawl_stream_info *s, uint32_t partition, uint64_t offset,
                         const pawl_origin *o) {
    char when[40];
    pawl_outside_place place = PAWL_OUTSIDE_PLACE_INIT;
    cli_printf("%s partition %" PRIu32 " offset %" PRIu64 "\n", s->name, partition, offset);
    cli_printf("commit     LSN %" PRIu64 ", %s, epoch %" PRIu64 "\n", o->lsn,
               cli_format_time(o->time_ns, when), o->epoch);
    if (o->producer[0] != '\0')
        cli_printf("producer   %s, sequence %" PRIu64 " to %" PRIu64 "\n", o->producer,
                   o->sequence_first, o->sequence_last);
    int outside = pawl_explain_outside(w->log, s->id, partition, offset, &place);
    if (outside == 0)
        print_outside(0, &place, &place);
    follow_inputs(w, o, 0);
    if (o->input_count == 0 && o->producer[0] == '\0' && outside != 0)
        cli_printf("origin     appended by a program, without a producer or input of this log\n");
}

static int explain(pawl *log, const cli_args *a, uint64_t partition, uint64_t offset) {
    const char *dir = a->positional[0];
    pawl_stream_info s;
    walk w = {log, 0};
    int exit_code = cli_find_stream(log, dir, a->positional[1], &s);
    if (exit_code != CLI_OK)
        return exit_code;
    if (partition >= s.partitions) {
        cli_error("stream %s in %s has no partition %" PRIu64 "; it has %" PRIu32
                  ", counted from 0",
                  s.name, dir, partition, s.partitions);
        return CLI_PROBLEM;
    }
    pawl_origin *o = calloc(1, sizeof *o);
    if (o == NULL) {
        cli_error("out of memory");
        return CLI_PROBLEM;
    }
    int code = pawl_explain(log, s.id, (uint32_t)partition, offset, o);
    if (code >= 0)
        print_origin(&w, &s, (uint32_t)partition, offset, o);
    else
        exit_code =
            cli_library_error(code, "stream %s, partition %" PRIu64 ", offset %" PRIu64 ", in %s",
                              s.name, partition, offset, dir);
    free(o);
    return exit_code;
}

static int run(cli_args *a) {
    uint64_t offset, partition = 0;
    if (!cli_parse_number(a->positional[2], &offset))
        return cli_usage(a, "'%s' is not an offset", a->positional[2]);
    if (a->value[PARTITION] != NULL && !cli_parse_number(a->value[PARTITION], &partition))
        return cli_usage(a, "--partition takes a number, not '%s'", a->value[PARTITION]);
    pawl *log;
    int exit_code = cli_open(a, a->positional[0], PAWL_OPEN_READ, &log);
    if (exit_code != CLI_OK)
        return exit_code;
    return cli_close(log, a->positional[0], cli_finish_output(explain(log, a, partition, offset)));
}

const cli_command cli_explain = {
    .name = "explain",
    .synopsis = "DIR STREAM OFFSET [--partition P]",
    .summary = "Tell where a record came from: its commit, that commit's input, the file and byte",
    .options = options,
    .min = 3,
    .max = 3,
    .opens = true,
    .run = run,
};
