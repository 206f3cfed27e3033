/* SPDX-License-Identifier: Apache-2.0
 *
 * proc.h - the processors built into `pawl run`. Each type is a file NAME.c and a row in
 * make.c. All are exactly-once by themselves: what they emit goes into the batch's own transaction,
 * with the position; what they remember is either nothing or can be read back from what they
 * emitted.
 */
#ifndef PAWL_PROCESSORS_PROC_H
#define PAWL_PROCESSORS_PROC_H

#include <stdatomic.h>
#include <stdbool.h>

#include "pawl_connect.h"

#define PROC_OUTPUTS_MAX 64

typedef struct proc proc;

typedef struct proc_type {
    pawl_connector info; /* type, help, settings; neither makes a sink nor a source */
    bool acts_outside;   /* gets durable input only */
    bool needs_to;       /* the setting `to` */
    bool keeps_state;    /* exactly-once only, and alone on its output */
    /* Checks the settings' meaning, names its output streams by proc_output(), allocates p->self.
     * Opens nothing. */
    int (*make)(proc *p, const pawl_settings *s, pawl_error *err);
    /* With the log open and p's streams known, before anything runs. May be NULL. */
    int (*start)(proc *p, pawl *log, pawl_error *err);
    /* As pawl_process_fn. */
    int (*process)(proc *p, pawl_context *ctx, const pawl_record *records, size_t count);
    void (*destroy)(void *self); /* p->self, if it isn't NULL */
} proc_type;

typedef struct proc_stream {
    const char *name; /* of the settings */
    uint32_t line, id, partitions;
} proc_stream;

struct proc {
    const proc_type *type;
    const char *name;
    void *self;
    const char *to; /* NULL: none */
    proc_stream outputs[PROC_OUTPUTS_MAX];
    uint32_t output_count;
    proc_stream inputs[64]; /* filled in before start() */
    uint32_t input_count;
    /* records, of batches that were processed; some of them again */
    _Atomic uint64_t taken, emitted;
};

extern const proc_type proc_regex, proc_json, proc_filter, proc_route, proc_dedup, proc_exec,
    proc_plugin;

/* The index-th type, NULL when there are no more. */
const proc_type *proc_type_at(size_t index);
const proc_type *proc_type_find(const char *name);

/* Checks the settings and makes p->self. */
int proc_make(proc *p, const pawl_settings *s, uint32_t to_line, pawl_error *err);
void proc_destroy(proc *p);
/* In the form that pawl_processor_config wants; arg is the proc. */
int proc_process(pawl_context *ctx, const pawl_record *records, size_t count, void *arg);

/* ---- for the types */

int proc_error(pawl_error *err, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Line of a setting, 0 if it isn't given. */
uint32_t proc_line(const pawl_settings *s, const char *name);
/* Index of an output stream, added if need be; -1: too many. */
int proc_output(proc *p, const char *stream, uint32_t line);
/* Emits into an output: in the input's partition modulo the output's, or by_key: where its key
 * belongs. */
int proc_emit(proc *p, pawl_context *ctx, uint32_t output, const pawl_record *r, bool by_key);

/* A part of a record: "value", "key", "json:PATH" (a member of a JSON value; PATH like a.b.0) or
 * "header:NAME". */
typedef struct selector {
    int what;
    char name[128];
} selector;
bool selector_parse(selector *s, const char *text);
/* The bytes; *owned (to be freed) holds them where they were made. 1, 0: the record has none; -1:
 * it can't be told (no JSON; *why tells). */
int selector_get(const selector *s, const pawl_record *r, const char **bytes, size_t *size,
                 char **owned, const char **why);

/* ---- a regular expression with limits */

typedef struct matcher matcher;
/* The pattern, compiled; NULL with the error. limit: steps that a match may take. */
matcher *matcher_new(const char *pattern, bool caseless, uint64_t limit, pawl_error *err);
void matcher_free(matcher *m);
/* 1 matches, 0 doesn't, -1 can't be told: *why. Several threads may use one matcher, each with its
 * own space. */
typedef struct matcher_space matcher_space;
matcher_space *matcher_space_new(const matcher *m);
void matcher_space_free(matcher_space *s);
int matcher_run(const matcher *m, matcher_space *s, const char *bytes, size_t size,
                const char **why);
/* The named groups: how many, each one's name, and what it matched last (false: it took no
 * part). */
uint32_t matcher_groups(const matcher *m);
const char *matcher_group_name(const matcher *m, uint32_t index);
bool matcher_group(const matcher *m, const matcher_space *s, uint32_t index, size_t *from,
                   size_t *to);

#endif
