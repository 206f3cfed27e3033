/* SPDX-License-Identifier: Apache-2.0
 *
 * The parts of the PostgreSQL sink:
 *   sink_postgres.c        settings, the three kinds
 *   sink_postgres_open.c   sets up a new connection: session, table, positions, staging
 *   sink_postgres_rows.c   records as COPY text
 *   link_postgres.c        the connection
 *   identity_postgres.c    which cluster, database and table it leads to
 */
#ifndef PAWL_CONNECTORS_SINK_POSTGRES_H
#define PAWL_CONNECTORS_SINK_POSTGRES_H

#include "connectors/postgres/link_postgres.h"
#include "connectors/runtime/stands.h"
#include "connectors/text/columns.h"

#define STAGING "pawl_staging"

struct pg_sink {
    struct columns columns;
    struct column_value *values;
    char *conninfo, *password, *schema, *table, *positions, *setup, *conflict;
    int kind; /* enum pawl_sink_kind */
    bool update, merge;
    uint32_t lock_ms;
    char target[200]; /* for status; never changes */

    struct pg_link link;
    char *copy, *upsert;               /* statements, made by pg_open() */
    char *full_table, *full_positions; /* quoted */
    char *types[COLUMNS_MAX];          /* of the table's columns, as SQL */
    char table_oid[24];                /* when it was opened */
    char mark[24];                     /* of the batch's last record */
    char log[33], name[65];            /* log id and sink, as in the position table */
    struct stands stands;
};

/* The target has a position: always, but an idempotent sink may be told to do without. */
static inline bool pg_positions(const struct pg_sink *s) {
    return s->positions != NULL && s->positions[0] != 0;
}

/* ---- sink_postgres_open.c */

int pg_open(void *self, const pawl_sink_batch *b, pawl_fault *f);
void pg_forget(struct pg_sink *s);

/* ---- sink_postgres_rows.c */

/* Appends the rows to link.out, and sends it whenever it is large enough. */
int pg_rows(struct pg_sink *s, const pawl_sink_batch *b, const pawl_record *r, size_t count,
            pawl_fault *f);

#endif
