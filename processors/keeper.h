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

#define KEEPER_SETTINGS_MAX 12

/* A setting on which the meaning of the pairs depends. */
struct keeper_setting {
    const char *name;
    char *value;          /* as given or by default; "" if it has none */
    const char *fallback; /* what a table has whose maker didn't know the setting */
};

typedef struct keeper {
    const char *type;
    struct keeper_setting settings[KEEPER_SETTINGS_MAX];
    uint32_t count;
    uint32_t flags; /* of the table: enum pawl_table_flags */
    /* From keeper_open() on: */
    uint32_t table, notes; /* the tables' ids */
    uint64_t seed; /* a random number of the table's own, for hashes of what strangers send */
    bool pending;  /* what was read before there was a table is still to be put there */
} keeper;

/* Remembers the settings of these names, NULL ends them. To be freed also after an error. Errors:
 * MEMORY. */
int keeper_make(keeper *k, const pawl_connector *c, const pawl_settings *s,
                const char *const *names, pawl_error *err);
/* One more, with a value that the type makes up; the strings are not copied, but the value is.
 * Errors: MEMORY. */
int keeper_add(keeper *k, const char *name, const char *value, const char *fallback,
               pawl_error *err);
void keeper_free(keeper *k);

/* Finds the processor's table, or makes it. `older`: the processor may have read something before
 * it had a table, as an older version's could; then `pending` is set until keeper_done().
 * Errors: STATE (other settings, another type, another number of
 * partitions; input was read and there is no table), those of pawl_table_create() and
 * pawl_table_get(). */
int keeper_open(keeper *k, const proc *p, pawl *log, bool older, pawl_error *err);
/* The table has what was pending, durably. */
int keeper_done(keeper *k, const proc *p, pawl *log, pawl_error *err);
/* Sets *err to what the log says of the table, and returns the code. */
int keeper_says(const proc *p, int code, pawl_error *err);

/* A call of state has failed with `code`: what one() returns for it, with *why. What is no record's
 * fault ends the processor. */
int keeper_error(pawl_context *ctx, int code, const char **why);

#endif
