/* SPDX-License-Identifier: Apache-2.0
 *
 * attach.c - pawl_processor_attach(): from functions and names of streams to a processor of the
 * log. It keeps nothing: what runs is the log's own processor.
 */
#include <stdlib.h>
#include <string.h>

#include "connectors/runtime/connect.h"
#include "pawl_time.h"

/* Takes config and ops, and checks them. */
static int check_arguments(const pawl *p, pawl_processor_config *c,
                           const pawl_processor_config *config, pawl_processor_ops *ops,
                           const pawl_processor_ops *given, pawl_error *err) {
    int rc =
        pawl_struct_take(c, sizeof *c, config, PROCESSOR_CONFIG_FIRST, "pawl_processor_config");
    if (rc == 0)
        rc = pawl_struct_take(ops, sizeof *ops, given, PROCESSOR_OPS_FIRST, "pawl_processor_ops");
    if (rc < 0)
        return connect_log_error(err, rc);
    if (p == NULL)
        return connect_error(err, PAWL_INVALID, "the log is NULL");
    if (c->name == NULL || c->inputs == NULL || c->input_count < 1 || c->input_count > 64)
        return connect_error(err, PAWL_INVALID, "a processor needs a name and 1 to 64 inputs");
    if (ops->process == NULL || (ops->output_count != 0 && ops->outputs == NULL))
        return connect_error(err, PAWL_INVALID,
                             "processor %s: the ops have no process() or outputs", c->name);
    return 0;
}

static int find_streams(pawl *p, const pawl_processor_config *c, const pawl_processor_ops *ops,
                        pawl_stream_info *inputs, pawl_stream_info *outputs, pawl_error *err) {
    for (uint32_t i = 0; i < c->input_count; i++)
        if (!connect_stream(p, c->inputs[i], &inputs[i]))
            return connect_error(err, PAWL_NOT_FOUND,
                                 "processor %s: there is no stream with the id %u", c->name,
                                 c->inputs[i]);
    for (uint32_t i = 0; i < ops->output_count; i++) {
        const pawl_setting *s = &ops->outputs[i];
        int rc = pawl_stream_find(p, s->value, &outputs[i]);
        if (rc < 0)
            return connect_error(err, rc, "line %u: processor %s: %s names the stream \"%s\": %s",
                                 s->line, c->name, s->name, s->value, pawl_strerror(rc));
        for (uint32_t k = 0; k < c->input_count; k++)
            if (outputs[i].id == inputs[k].id)
                return connect_error(
                    err, PAWL_INVALID,
                    "line %u: processor %s reads the stream \"%s\" and writes to it: no end",
                    s->line, c->name, s->value);
    }
    return 0;
}

/* A processor that keeps tables. A table's partition has what the input's partition of that number
 * has. */
static int check_tables(const pawl_processor_config *c, const pawl_processor_ops *ops,
                        const pawl_stream_info *inputs, pawl_error *err) {
    if ((ops->flags & PAWL_PROCESSOR_KEEPS_TABLES) != 0 && c->guarantee == PAWL_AT_MOST_ONCE)
        return connect_error(err, PAWL_INVALID,
                             "processor %s keeps state, so it can't be at-most-once: its position "
                             "would be committed before its state",
                             c->name);
    for (uint32_t i = 0; i < c->input_count; i++) {
        if ((ops->flags & PAWL_PROCESSOR_KEEPS_TABLES) != 0 &&
            inputs[i].partitions != inputs[0].partitions)
            return connect_error(err, PAWL_INVALID,
                                 "processor %s keeps state, so all that it reads must have as many "
                                 "partitions: \"%s\" has %u and \"%s\" has %u",
                                 c->name, inputs[0].name, inputs[0].partitions, inputs[i].name,
                                 inputs[i].partitions);
        if ((ops->flags & PAWL_PROCESSOR_ONE_PARTITION) != 0 && inputs[i].partitions != 1)
            return connect_error(
                err, PAWL_INVALID,
                "processor %s puts records together by something else than their key, and \"%s\" "
                "has %u partitions: records that belong together would be in several. Put a "
                "processor of type rekey with the same `by` and `match` before it, and let this "
                "one go by the key; or read a stream of one partition",
                c->name, inputs[i].name, inputs[i].partitions);
    }
    return 0;
}

/* A processor whose state is its output. */
static int check_state(const pawl_processor_config *c, const pawl_processor_ops *ops,
                       const pawl_stream_info *inputs, const pawl_stream_info *outputs,
                       pawl_error *err) {
    if ((ops->flags & PAWL_PROCESSOR_KEEPS_STATE) == 0)
        return 0;
    if (c->guarantee != PAWL_EXACTLY_ONCE)
        return connect_error(
            err, PAWL_INVALID,
            "processor %s reads its state back from what it wrote, so it must be exactly-once",
            c->name);
    if (c->input_count != 1 || ops->output_count != 1 ||
        inputs[0].partitions != outputs[0].partitions)
        return connect_error(err, PAWL_INVALID,
                             "processor %s needs one input, and an output with as many partitions",
                             c->name);
    return 0;
}

int pawl_processor_attach(pawl *p, const pawl_processor_config *config,
                          const pawl_processor_ops *given, pawl_processor **out, pawl_error *err) {
    pawl_processor_config own = PAWL_PROCESSOR_INIT;
    pawl_processor_ops taken = PAWL_PROCESSOR_OPS_INIT;
    int rc = check_arguments(p, &own, config, &taken, given, err);
    if (rc < 0)
        return rc;
    const pawl_processor_config *c = &own;
    const pawl_processor_ops *ops = &taken;
    pawl_stream_info *inputs = calloc(c->input_count, sizeof *inputs),
                     *outputs = calloc(ops->output_count + 1u, sizeof *outputs);
    const pawl_processor_place at = {c->name, inputs, outputs, c->input_count, ops->output_count};
    own.process = ops->process;
    own.arg = ops->self;
    own.committed_input |= (ops->flags & PAWL_PROCESSOR_ACTS_OUTSIDE) != 0;
    if (inputs == NULL || outputs == NULL) {
        free(inputs);
        free(outputs);
        return connect_error(err, PAWL_MEMORY, "no memory for processor %s", c->name);
    }
    rc = find_streams(p, c, ops, inputs, outputs, err);
    if (rc == 0)
        rc = check_state(c, ops, inputs, outputs, err);
    if (rc == 0)
        rc = check_tables(c, ops, inputs, err);
    if (rc == 0 && ops->start != NULL)
        rc = ops->start(ops->self, p, &at, err);
    pawl_processor *added = NULL;
    if (rc == 0 && (rc = pawl_processor_add(p, &own, &added)) < 0)
        (void)connect_log_error(err, rc);
    if (rc == 0 && ops->time != NULL && (rc = pawl_processor_set_time(added, ops->time)) < 0) {
        (void)connect_log_error(err, rc);
        pawl_processor_remove(added);
    }
    if (rc == 0 && out != NULL)
        *out = added;
    free(inputs);
    free(outputs);
    return rc;
}
