/* SPDX-License-Identifier: Apache-2.0
 *
 * proc.h - what the built-in processors share. They are a part of libpawl_connect: C programs and
 * pipeline files make them by name, see pawl_processor_make().
 *
 * All are exactly-once by themselves: what they emit goes into the batch's own transaction, with
 * the position. So does what they remember, in tables of keyed state (keeper.h).
 *
 * A new type is a file NAME.c that defines `const pawl_connector connect_processor_NAME`, and its
 * row in connectors/runtime/registry.c. A file of this folder may include the public headers, this
 * folder's headers, connectors/runtime/connect.h, connectors/text/ and connectors/exec/.
 */
#ifndef PAWL_PROCESSORS_PROC_H
#define PAWL_PROCESSORS_PROC_H

#include <stdatomic.h>

#include "pawl_time.h"

#include "connectors/runtime/connect.h"
#include "connectors/text/buffer.h"
#include "connectors/text/json_scan.h"
#include "connectors/text/matcher.h"

#define PROC_OUTPUTS_MAX 64

typedef struct proc proc;

/* What a type does. One thread at a time calls process() for a partition, several may for
 * different ones. */
typedef struct proc_type {
    uint32_t flags; /* enum pawl_processor_flags */
    /* Checks what the settings mean, names output streams by proc_output(), allocates p->self.
     * Opens nothing. The settings live during the call only. After an error self is destroyed. */
    int (*make)(proc *p, const pawl_settings *s, pawl_error *err);
    /* With the log open and p's streams known, before anything runs. May be called again after
     * the processor was removed. May be NULL. */
    int (*start)(proc *p, pawl *log, pawl_error *err);
    int (*process)(proc *p, pawl_context *ctx, const pawl_record *records, size_t count);
    void (*destroy)(void *self); /* p->self; not called if it is NULL */
    /* Of a type that knows time (pawl_time.h), NULL in others. make() sets p->time; process() then
     * gets one record at a time. */
    int (*timer)(proc *p, pawl_context *ctx, const pawl_timer *timer);
    int (*event_time)(proc *p, pawl_context *ctx, const pawl_record *r, int64_t *time_ns);
} proc_type;

struct proc {
    const proc_type *type;
    void *self;
    pawl_time_config time;                  /* callbacks and arg are set by proc_make() */
    pawl_setting outputs[PROC_OUTPUTS_MAX]; /* as in pawl_processor_ops; the strings are ours */
    uint32_t output_count;
    /* From start() on: */
    char *name;
    pawl_stream_info *inputs;
    uint32_t input_count;
    struct proc_stream {
        uint32_t id, partitions;
    } to[PROC_OUTPUTS_MAX]; /* in the order of outputs */
    /* records of batches that were processed, some of them again; and records emitted */
    _Atomic uint64_t taken, emitted;
};

/* The setting of a type with one main output, which is output 0. */
#define PROC_TO \
    { "to", PAWL_SETTING_TEXT, 1, NULL, NULL, "the stream that it writes" }

/* make_processor() of a pawl_connector: makes a proc of that type as the ops' self. */
int proc_make(const pawl_connector *c, const proc_type *type, const pawl_settings *s,
              pawl_processor_ops *out, pawl_error *err);

/* ---- for the types */

/* Index of the output stream that the setting names; it is added unless another setting named it
 * before. Errors: LIMIT, MEMORY. */
int proc_output(proc *p, const pawl_setting *s, pawl_error *err);
/* As above, for a setting by its name; -1 in *index: not given. */
int proc_output_of(proc *p, const pawl_settings *s, const char *name, int *index, pawl_error *err);
/* Emits into an output: in the input's partition modulo the output's, or by_key: where its key
 * belongs. */
int proc_emit(proc *p, pawl_context *ctx, uint32_t output, const pawl_record *r, bool by_key);

/* A part of a record: "value", "key", "json:PATH" (a member of a JSON value, see json_scan.h) or
 * "header:NAME". */
typedef struct selector {
    int what;
    char *header;
    struct json_path path;
} selector;
/* From a setting. To be freed also after an error. Errors: INVALID, MEMORY. */
int selector_make(selector *s, const pawl_connector *c, const pawl_settings *settings,
                  const char *name, pawl_error *err);
void selector_free(selector *s);
/* Memory of a batch, kept from one record to the next. */
struct scratch {
    struct matcher_space *space; /* of the matcher that was given */
    struct buffer value, own;
    struct buffer batch;       /* what a type gathers in a batch */
    char told[JSON_FAULT_MAX]; /* a *why that names what was wrong with this record */
};
/* The bytes, which belong to the record or to the scratch. 1: there they are; 0: the record has
 * none. PROCESSOR: the record is refused, MEMORY; with *why. */
int selector_get(const selector *s, const pawl_record *r, struct scratch *own, const char **bytes,
                 size_t *size, const char **why);
/* Takes values out of a record's value as json_scan() does. 0, PROCESSOR: it is no JSON, MEMORY. */
int value_scan(const pawl_record *r, const struct json_path *paths, size_t count,
               struct json_found *found, struct scratch *own, const char **why);
/* A found value as text: a string's content, or the token without blanks. As selector_get(); null
 * and missing are 0. */
int value_text(const struct json_found *f, struct scratch *own, const char **bytes, size_t *size,
               const char **why);

/* ---- a batch */

/* Handles a record: 0, or an error with *why. PROCESSOR and TOO_LARGE say that the record is
 * refused for what it contains: no retry can help. */
typedef int (*proc_one_fn)(proc *p, pawl_context *ctx, const pawl_record *r, struct scratch *s,
                           const char **why);
/* Calls one() for each record of a batch. At the first error it calls pawl_refuse(), or pawl_fail()
 * if a retry can help, and returns.
 * m may be NULL. */
int proc_each(proc *p, pawl_context *ctx, const pawl_record *records, size_t count,
              const matcher *m, proc_one_fn one);
/* As above; then calls end() once, with the same scratch. end() may be NULL. */
int proc_batch(proc *p, pawl_context *ctx, const pawl_record *records, size_t count,
               const matcher *m, proc_one_fn one,
               int (*end)(proc *p, pawl_context *ctx, struct scratch *s, const char **why));
/* Says why a record or timer fails: pawl_refuse(), or pawl_fail() if a retry can help. */
void proc_tell(pawl_context *ctx, size_t index, int code, const char *why);
/* What one() and end() return once they have told the context themselves why the batch fails. */
#define PROC_TOLD INT_MIN

#endif
