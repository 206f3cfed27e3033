/* SPDX-License-Identifier: Apache-2.0
 *
 * config.h - a pipeline as a file, read and checked. A file has one YAML document for each
 * pipeline. Nothing is opened by it.
 */
#ifndef PAWL_CLI_CONFIG_H
#define PAWL_CLI_CONFIG_H

#include "cli/run/tree.h"
#include "pawl_connect.h"

enum flow_kind { FLOW_SOURCE, FLOW_PROCESSOR, FLOW_SINK };

typedef struct stream_config {
    const char *name;
    uint32_t line, partitions;
} stream_config;

/* A source, processor or sink. Strings belong to the tree, or to `owned`. */
typedef struct flow_config {
    enum flow_kind kind;
    const char *name, *type;
    uint32_t line;
    const char *inputs[64];
    uint32_t input_lines[64], input_count;
    const char *to; /* source: its stream */
    uint32_t to_line;
    const char *dead_letter;
    uint32_t dead_letter_line;
    int32_t guarantee, on_error, on_lost, on_replaced;
    bool on_error_given;
    uint32_t batch_records, linger_ms, backoff_ms, backoff_max_ms, retries, start_at_end;
    uint64_t batch_bytes;
    pawl_setting *settings; /* of its type; those of this program apart */
    size_t setting_count;
    char **owned; /* names and values that were joined */
    size_t owned_count;
    pawl_processor_ops ops; /* processor: made, unless self is NULL */
    int32_t sink_kind;      /* sink: enum pawl_sink_kind */
    uint32_t sink_flags, source_flags;
} flow_config;

typedef struct config {
    const char *file;
    uint32_t line; /* where its document begins */
    const char *name;
    const char *directory;
    uint32_t log_line; /* where the section log begins */
    bool create;
    uint64_t segment_size, disk_cap, memory;
    int32_t backend, direct;
    uint32_t socket_mode; /* of run.sock */
    bool has_retention;
    pawl_retention retention;
    uint32_t threads, drain_ms;
    int32_t guarantee;
    bool end_on_failure; /* else the other parts go on */
    stream_config *streams;
    size_t stream_count;
    flow_config *flows; /* sources, then processors, then sinks, each in the file's order */
    size_t flow_count;
} config;

/* Gets each problem, in the order in which they are found; line 0: unknown. severity 0: a
 * remark. */
typedef void (*config_problem_fn)(void *arg, uint32_t line, int severity, const char *message);

typedef struct config_file {
    char *path;
    tree_node *documents;
    size_t count;
    config *pipelines; /* one for each document */
    size_t problems;   /* remarks apart */
    const char *bytes; /* its content, while it is read */
    size_t size;
    bool is_public; /* every user can read it */
} config_file;

/* Reads what `bytes` hold; f->is_public is set. 0 if there was no problem, else -1 (the file is
 * filled in as far as it could be). */
int config_parse(config_file *f, const char *path, const char *bytes, size_t size,
                 config_problem_fn fn, void *arg);
/* Reads a file. As above; a file that can't be read is a problem. */
int config_load(config_file *f, const char *path, config_problem_fn fn, void *arg);
void config_free(config_file *f);

/* ---- between config.c and config_check.c */

typedef struct config_reading {
    config_file *file;
    config *c;
    config_problem_fn fn;
    void *arg;
} config_reading;
void config_problem(config_reading *r, uint32_t line, int severity, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* What a connector or processor says, whose text begins with "line N: " where it knows the line. */
void config_pawl_problem(config_reading *r, uint32_t line, const char *who, const pawl_error *e);
/* The name of `names` that is most like `text`, if any is alike; for "did you mean". */
const char *config_alike(const char *text, const char *const *names, size_t count);
/* Streams, cycles, guarantees: what no section can tell by itself. */
void config_check(config_reading *r);
/* Is the stream one of its inputs? */
/* Looks at the limits again that follow from the size of segments: a log keeps the one that it was
 * made with. Returns 0, or -1 where something can't work. */
int config_check_log(config *c, uint64_t segment_size, config_problem_fn fn, void *arg);
bool config_reads(const flow_config *w, const char *stream);
/* config_works.c: what is well formed and can't work. */
void config_check_works(config_reading *r);

#endif
