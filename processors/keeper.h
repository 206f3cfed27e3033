/* SPDX-License-Identifier: Apache-2.0
 *
 * keeper.h - the table of keyed state that a processor keeps, named after it. A second table,
 * NAME.settings, has the settings that give the first one's pairs their meaning, so that other
 * settings are not taken for a continuation.
 */
#ifndef PAWL_PROCESSORS_KEEPER_H
#define PAWL_PROCESSORS_KEEPER_H

#include "pawl_state.h"
#include "processors/proc.h"

/* A setting on which the meaning of the pairs depends. */
struct keeper_setting {
    const char *name;
    char *value;          /* as given or by default; "" if it has none */
    const char *fallback; /* what a table has whose maker didn't know the setting */
};

typedef struct keeper {
    const char *type;
    struct keeper_setting settings[12];
    uint32_t count;
    uint32_t flags; /* of the table: enum pawl_table_flags */
    /* From keeper_open() on: */
    uint32_t table;
    bool fresh; /* it was made by this start */
} keeper;

/* Remembers the settings of these names, NULL ends them. To be freed also after an error. Errors:
 * MEMORY. */
int keeper_make(keeper *k, const pawl_connector *c, const pawl_settings *s,
                const char *const *names, pawl_error *err);
void keeper_free(keeper *k);

/* Finds the processor's table, or makes it. `from_nothing`: the processor may have read something
 * before it had a table. Errors: STATE (other settings, another type, another number of
 * partitions; input was read and there is no table), those of pawl_table_create() and
 * pawl_table_get(). */
int keeper_open(keeper *k, const proc *p, pawl *log, bool from_nothing, pawl_error *err);

/* A call of state has failed with `code`: what one() returns for it, with *why. What is no record's
 * fault ends the processor. */
int keeper_error(pawl_context *ctx, int code, const char **why);

#endif
