/* SPDX-License-Identifier: Apache-2.0
 *
 * cmd_status.c - `pawl status`: what is in a log and how it is doing. One JSON tree is made; the
 * readable form is written from it, so the two can't tell different things.
 */
#include <inttypes.h>
#include <jansson.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/run/pipeline.h"

enum { JSON };
static const cli_option options[] = {
    [JSON] = {"json", NULL, "one JSON object instead of text for people"},
    {NULL, NULL, NULL},
};

static json_t *number(uint64_t n) {
    return json_integer(n <= INT64_MAX ? (json_int_t)n : INT64_MAX);
}

static json_t *bits(uint64_t n) {
    return json_sprintf("0x%" PRIx64, n);
}

/* ---- gathering */

static json_t *gather_partition(pawl *log, uint32_t stream, uint32_t partition) {
    pawl_bounds b;
    int code = pawl_partition_bounds(log, stream, partition, &b);
    if (code < 0)
        return json_pack("{s:I,s:s}", "partition", (json_int_t)partition, "error",
                         pawl_strerror(code));
    return json_pack("{s:I,s:o,s:o,s:o}", "partition", (json_int_t)partition, "first",
                     number(b.first), "durable", number(b.durable), "end", number(b.end));
}

static json_t *gather_streams(pawl *log) {
    json_t *streams = json_array();
    pawl_stream_info s;
    for (uint32_t i = 0; pawl_stream_at(log, i, &s) >= 0; i++) {
        json_t *partitions = json_array();
        for (uint32_t p = 0; p < s.partitions; p++)
            json_array_append_new(partitions, gather_partition(log, s.id, p));
        json_array_append_new(streams, json_pack("{s:s,s:I,s:o}", "name", s.name, "id",
                                                 (json_int_t)s.id, "partitions", partitions));
    }
    return streams;
}

static const char *stream_name(pawl *log, uint32_t id, pawl_stream_info *s) {
    return pawl_stream_get(log, id, s) == 0 ? s->name : "?";
}

static json_t *gather_positions(pawl *log) {
    json_t *positions = json_array();
    pawl_position at;
    for (uint32_t i = 0; pawl_position_at(log, i, &at) >= 0; i++) {
        pawl_stream_info s;
        pawl_bounds b;
        json_t *lag = json_null();
        if (pawl_partition_bounds(log, at.stream, at.partition, &b) >= 0)
            lag = number(b.durable > at.offset ? b.durable - at.offset : 0);
        json_array_append_new(positions, json_pack("{s:s,s:s,s:I,s:o,s:o}", "processor", at.name,
                                                   "stream", stream_name(log, at.stream, &s),
                                                   "partition", (json_int_t)at.partition, "offset",
                                                   number(at.offset), "lag", lag));
    }
    return positions;
}

static json_t *gather_producers(pawl *log) {
    json_t *producers = json_array();
    pawl_producer_info p;
    for (uint32_t i = 0; pawl_producer_at(log, i, &p) >= 0; i++)
        json_array_append_new(producers,
                              json_pack("{s:s,s:o,s:I}", "name", p.name, "sequence",
                                        number(p.sequence), "epoch", (json_int_t)p.epoch));
    return producers;
}

static json_t *gather_log(const char *dir, const pawl_status *s) {
    char id[33], shown[1024]; /* a path may be no UTF-8 */
    pawl_show(dir, strlen(dir), NULL, shown, sizeof shown);
    for (size_t i = 0; i < 16; i++)
        snprintf(id + 2 * i, 3, "%02x", s->log_id[i]);
    json_t *o = json_pack("{s:s,s:s,s:o,s:b,s:I,s:b}", "directory", shown, "log_id", id, "epoch",
                          number(s->epoch), "clean", s->clean, "writer_pid",
                          (json_int_t)s->writer_pid, "full", s->full);
    json_object_set_new(o, "backend",
                        json_string(s->backend == PAWL_BACKEND_URING ? "uring" : "posix"));
    json_object_set_new(o, "backend_note", json_string(s->backend_note));
    json_object_set_new(o, "direct", json_boolean(s->direct));
    const struct {
        const char *name;
        uint64_t value;
    } numbers[] = {
        {"segment_size", s->segment_size},
        {"disk_cap", s->disk_cap},
        {"disk_bytes", s->disk_bytes},
        {"first_segment", s->first_segment},
        {"last_segment", s->last_segment},
        {"first_lsn", s->first_lsn},
        {"durable_lsn", s->durable_lsn},
        {"end_lsn", s->end_lsn},
        {"memory_used", s->memory_used},
        {"memory_cap", s->memory_cap},
        {"recovery_ns", s->recovery_ns},
        {"recovered_bytes", s->recovered_bytes},
        {"cut_bytes", s->cut_bytes},
        {"recycled", s->recycled},
        {"runs", s->runs},
        {"run_bytes", s->run_bytes},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        json_object_set_new(o, numbers[i].name, number(numbers[i].value));
    json_object_set_new(o, "in_memory", json_boolean(cli_in_memory(dir) != NULL));
    json_object_set_new(o, "features_read", bits(s->features_read));
    json_object_set_new(o, "features_write", bits(s->features_write));
    json_object_set_new(o, "features_ignore", bits(s->features_ignore));
    return o;
}

/* What will stop the log, or empty it, if nobody does anything about it. */
static json_t *gather_warnings(pawl *log, const pawl_status *s, const pawl_retention *r) {
    json_t *all = json_array();
    pawl_position at;
    bool drops = r->bytes != 0 || r->ms != 0 || r->consumed != 0,
         at_cap =
             s->disk_cap != 0 && s->disk_bytes + 2 * s->run_bytes + s->segment_size > s->disk_cap;
    if (s->disk_cap != 0 && !drops)
        json_array_append_new(
            all, json_sprintf("%s, and nothing frees space: `pawl retention` says what may be "
                              "dropped",
                              at_cap ? "all that the disk cap allows is in use"
                                     : "once the disk cap is reached the log takes nothing more"));
    else if (at_cap && s->full)
        json_array_append_new(all, json_string("the log is full until retention may drop a "
                                               "segment: look which position lags"));
    if (s->disk_cap != 0 && r->bytes != 0 && r->ms == 0 && r->consumed == 0 &&
        r->bytes + 2 * s->segment_size > s->disk_cap)
        json_array_append_new(all, json_string("the retention of bytes leaves less than two "
                                               "segments below the disk cap"));
    if (r->consumed != 0 && pawl_position_at(log, 0, &at) < 0)
        json_array_append_new(all, json_string("what every processor has passed is dropped, and no "
                                               "processor has a position: that is everything"));
    return all;
}

/* ---- the readable form */

static json_int_t get(const json_t *o, const char *name) {
    return json_integer_value(json_object_get(o, name));
}

static const char *text(const json_t *o, const char *name) {
    const char *value = json_string_value(json_object_get(o, name));
    return value != NULL ? value : "?";
}

static const char *size_of(const json_t *o, const char *name, char buffer[32]) {
    return cli_format_size((uint64_t)get(o, name), buffer);
}

static void print_log(const json_t *o) {
    char a[32], b[32];
    bool clean = json_is_true(json_object_get(o, "clean"));
    cli_printf("log        %s, id %s, epoch %" PRId64 "\n", text(o, "directory"), text(o, "log_id"),
               (int64_t)get(o, "epoch"));
    if (get(o, "writer_pid") < 0)
        cli_printf(
            "state      perhaps open for writing: its file 'lock' can't tell by which process\n");
    else if (get(o, "writer_pid") > 0)
        cli_printf("state      open for writing by process %" PRId64 "\n",
                   (int64_t)get(o, "writer_pid"));
    else
        cli_printf("state      %s\n",
                   clean ? "closed in good order"
                         : "not closed in good order; the next writer recovers it");
    cli_printf("space      %s on disk", size_of(o, "disk_bytes", a));
    if (get(o, "disk_cap") != 0)
        cli_printf(" of at most %s", size_of(o, "disk_cap", b));
    cli_printf(", segments %" PRId64 " to %" PRId64 " of %s%s\n", (int64_t)get(o, "first_segment"),
               (int64_t)get(o, "last_segment"), size_of(o, "segment_size", a),
               json_is_true(json_object_get(o, "full")) ? "; FULL" : "");
    if (get(o, "runs") != 0)
        cli_printf("state      %s in %" PRId64 " run%s\n", size_of(o, "run_bytes", a),
                   (int64_t)get(o, "runs"), get(o, "runs") == 1 ? "" : "s");
    if (json_is_true(json_object_get(o, "in_memory")))
        cli_printf("place      in memory (tmpfs): nothing outlives a reboot or a power cut\n");
    cli_printf("address    LSN %" PRId64 " to %" PRId64 ", durable to %" PRId64 "\n",
               (int64_t)get(o, "first_lsn"), (int64_t)get(o, "end_lsn"),
               (int64_t)get(o, "durable_lsn"));
    cli_printf("I/O        %s, %s; memory %s of %s\n",
               text(o, "backend_note")[0] != '\0' ? text(o, "backend_note") : text(o, "backend"),
               json_is_true(json_object_get(o, "direct")) ? "direct" : "buffered",
               size_of(o, "memory_used", a), size_of(o, "memory_cap", b));
    cli_printf("opening    %.1f ms, %s read", (double)get(o, "recovery_ns") / 1e6,
               size_of(o, "recovered_bytes", a));
    if (get(o, "cut_bytes") != 0)
        cli_printf(", %s of unacknowledged tail", size_of(o, "cut_bytes", b));
    cli_printf("\n");
    const char *read = text(o, "features_read"), *write = text(o, "features_write"),
               *ignore = text(o, "features_ignore");
    if (strcmp(read, "0x0") != 0 || strcmp(write, "0x0") != 0 || strcmp(ignore, "0x0") != 0)
        cli_printf("features   %s to read, %s to write, %s that may be ignored\n", read, write,
                   ignore);
    const json_t *r = json_object_get(o, "retention");
    bool bytes = get(r, "bytes") != 0, ms = get(r, "ms") != 0,
         consumed = json_is_true(json_object_get(r, "consumed"));
    cli_printf("retention  %s%s%s%s%s\n",
               bytes ? cli_format_size((uint64_t)get(r, "bytes"), a) : "",
               bytes && (ms || consumed) ? ", " : "",
               ms ? cli_format_duration((uint64_t)get(r, "ms"), b) : "", ms && consumed ? ", " : "",
               consumed      ? "what every processor has passed is dropped"
               : bytes || ms ? ""
                             : "everything is kept");
    size_t i;
    json_t *one;
    json_array_foreach(json_object_get(o, "warnings"), i, one) {
        cli_printf("warning    %s\n", json_string_value(one));
    }
}

static void print_tables(const json_t *o) {
    size_t i, k;
    json_t *one, *p;
    cli_printf("\n%-32s %9s %14s %14s %14s\n", "stream", "partition", "first", "durable", "end");
    json_array_foreach(json_object_get(o, "streams"), i, one) {
        json_array_foreach(json_object_get(one, "partitions"), k, p) {
            cli_printf("%-32s %9" PRId64, text(one, "name"), (int64_t)get(p, "partition"));
            if (json_object_get(p, "error") != NULL)
                cli_printf(" %s\n", text(p, "error"));
            else
                cli_printf(" %14" PRId64 " %14" PRId64 " %14" PRId64 "\n", (int64_t)get(p, "first"),
                           (int64_t)get(p, "durable"), (int64_t)get(p, "end"));
        }
    }
    if (json_array_size(json_object_get(o, "positions")) > 0)
        cli_printf("\n%-24s %-24s %9s %14s %14s\n", "processor", "stream", "partition", "position",
                   "lag");
    json_array_foreach(json_object_get(o, "positions"), i, one) {
        cli_printf("%-24s %-24s %9" PRId64 " %14" PRId64 " %14" PRId64 "\n", text(one, "processor"),
                   text(one, "stream"), (int64_t)get(one, "partition"), (int64_t)get(one, "offset"),
                   (int64_t)get(one, "lag"));
    }
    if (json_array_size(json_object_get(o, "producers")) > 0)
        cli_printf("\n%-32s %14s %9s\n", "producer", "sequence", "epoch");
    json_array_foreach(json_object_get(o, "producers"), i, one) {
        cli_printf("%-32s %14" PRId64 " %9" PRId64 "\n", text(one, "name"),
                   (int64_t)get(one, "sequence"), (int64_t)get(one, "epoch"));
    }
}

/* What a process that runs a pipeline on this log says of it. */
static void print_pipeline(const json_t *told) {
    size_t i;
    json_t *one;
    char size[32];
    if (told == NULL)
        return;
    cli_printf("\npipeline %s (%s): %s%s%s\n", text(told, "name"), text(told, "file"),
               text(told, "state"), text(told, "failure")[0] != '\0' ? ", " : "",
               text(told, "failure"));
    const json_t *g = json_object_get(told, "groups");
    if (get(g, "written") > 0) {
        cli_printf("writes     %" PRId64 " groups of frames, %s each", (int64_t)get(g, "written"),
                   cli_format_size((uint64_t)(get(g, "bytes") / get(g, "written")), size));
        if (get(g, "wait") > 0)
            cli_printf("; many frames come: while others are under way, a group waits for %" PRId64
                       "\n",
                       (int64_t)get(g, "wait"));
        else
            cli_printf("; few frames come: each goes at once\n");
    }
    cli_printf("%-10s %-24s %-10s %-8s %14s %14s %8s\n", "", "name", "type", "state", "records",
               "behind", "retries");
    json_array_foreach(json_object_get(told, "flows"), i, one) {
        cli_printf("%-10s %-24s %-10s %-8s %14" PRId64 " %14" PRId64 " %8" PRId64 "\n",
                   text(one, "kind"), text(one, "name"), text(one, "type"), text(one, "state"),
                   (int64_t)get(one, "records"), (int64_t)get(one, "behind"),
                   (int64_t)get(one, "retries"));
        if (get(one, "poisoned") > 0)
            cli_printf("           %" PRId64 " records refused (on_error)\n",
                       (int64_t)get(one, "poisoned"));
        static const char *const more[] = {"target", "message"};
        for (size_t k = 0; k < 2; k++) {
            const json_t *t = json_object_get(one, more[k]);
            if (json_string_length(t) > 0)
                cli_printf("           %s\n", json_string_value(t));
        }
    }
}

static int run(cli_args *a) {
    const char *dir = a->positional[0];
    pawl *log;
    int exit_code = cli_open(a, dir, PAWL_OPEN_READ, &log);
    if (exit_code != CLI_OK)
        return exit_code;
    pawl_status s = {.struct_size = sizeof s};
    pawl_retention r = {0};
    int code = pawl_get_status(log, &s);
    if (code >= 0)
        code = pawl_retention_get(log, &r);
    if (code < 0)
        return cli_close(log, dir, cli_library_error(code, "status of %s", dir));
    json_t *o = gather_log(dir, &s);
    json_object_set_new(o, "retention",
                        json_pack("{s:o,s:o,s:b}", "bytes", number(r.bytes), "ms", number(r.ms),
                                  "consumed", (int)r.consumed));
    json_object_set_new(o, "warnings", gather_warnings(log, &s, &r));
    json_object_set_new(o, "streams", gather_streams(log));
    json_object_set_new(o, "positions", gather_positions(log));
    json_object_set_new(o, "producers", gather_producers(log));
    json_t *told = run_socket_ask(dir);
    if (told != NULL)
        json_object_set_new(o, "pipeline", told);
    if (a->value[JSON] != NULL) {
        cli_write_json(json_dumps(o, JSON_INDENT(2)));
    } else {
        print_log(o);
        print_tables(o);
        print_pipeline(json_object_get(o, "pipeline"));
    }
    json_decref(o);
    return cli_close(log, dir, cli_finish_output(CLI_OK));
}

const cli_command cli_status = {
    .name = "status",
    .synopsis = "DIR [--json]",
    .summary = "Tell what is in a log and how it is doing",
    .details = "A position's lag is how many durable records its processor has yet to take. Works "
               "beside a writer.\n"
               "If that is `pawl run`, the state of its sources, processors and sinks is told too, "
               "and how its "
               "writes\nto the log are grouped.",
    .options = options,
    .min = 1,
    .max = 1,
    .opens = true,
    .run = run,
};
