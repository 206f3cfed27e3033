/* SPDX-License-Identifier: Apache-2.0
 *
 * catalog.h - what the calls that change or read the catalog share.
 */
#ifndef PAWL_PIPELINE_CATALOG_H
#define PAWL_PIPELINE_CATALOG_H

#include "pipeline/engine.h"

/* Allows one catalog change at a time: ids and epochs are chosen before the append, and the append
 * may release the lock while it waits for room. */
PAWL_CHECKED int catalog_enter(pawl *p);
void catalog_leave(pawl *p);
/* The same for a call that only reads; engine_leave() ends it. */
PAWL_CHECKED int catalog_refreshed(pawl *p);
int catalog_bad_name(const char *what);
/* Names that damage gives are refused, and so are ids beyond the last one. */
PAWL_CHECKED int catalog_check_new(const char *what, const char *name, uint32_t id);
/* ---- tables (catalog_state.c) */
/* Under the lock: commits one change of tables. */
PAWL_CHECKED int catalog_change_table(pawl *p, const struct table_entry *e);
PAWL_CHECKED int catalog_check_table(const pawl_table_config *c);
/* What the tables say to a new one; *owner is the processor's id. */
PAWL_CHECKED int catalog_fresh_table(const struct tables *t, const pawl_table_config *c,
                                     uint32_t *owner);
/* Creates a table whose configuration was checked. */
PAWL_CHECKED int catalog_create_table(pawl *p, const pawl_table_config *config, uint32_t *id);
/* Creates an internal table; its name begins with TABLE_INTERNAL_MARK. Errors: as
 * pawl_table_create(). */
PAWL_CHECKED int catalog_internal_table(pawl *p, const char *name, const char *owner,
                                        uint32_t partitions, uint32_t *id);

#endif
