/* SPDX-License-Identifier: Apache-2.0
 *
 * The PostgreSQL sink's own parts:
 *   sink_postgres.c        settings, the three kinds
 *   sink_postgres_open.c   what is done with a new connection: session, table, positions, staging
 *   sink_postgres_rows.c   records as COPY text
 *   sink_postgres_link.c   the connection: nothing waits for ever; what each answer means
 */
#ifndef PAWL_CONNECTORS_SINK_POSTGRES_H
#define PAWL_CONNECTORS_SINK_POSTGRES_H

#include <libpq-fe.h>

#include "columns.h"
#include "stands.h"

#define STAGING "pawl_staging"

struct bytes {
    char *at;
    size_t used, size;
};

struct pg_sink {
    struct columns columns;
    struct column_value *values;
    char *conninfo, *schema, *table, *positions, *setup, *conflict;
    int kind; /* enum pawl_sink_kind */
    bool update, merge;
    uint32_t connect_ms, statement_ms, lock_ms;
    char target[200]; /* for status; never changes */

    PGconn *conn;                      /* NULL: none */
    char *copy, *upsert;               /* statements, made at opening */
    char *full_table, *full_positions; /* quoted */
    char *types[COLUMNS_MAX];          /* of the table's columns, as SQL */
    char log[33], name[65];            /* log id and sink, as in the position table */
    struct stands stands;
    bool copying;
    uint64_t first, rows; /* of the COPY under way: offset of its first row, how many */
    uint64_t unsent;      /* bytes given to libpq since it last had none to send */
    struct bytes out;
};

/* ---- sink_postgres_link.c */

/* Connects anew; the old connection is gone. */
int pg_connect(struct pg_sink *s, pawl_fault *f);
void pg_disconnect(struct pg_sink *s);
/* A statement, or several joined by semicolons. DONE, or what its answer means; never POISON. `tag`: the last one's command tag must begin with it. */
int pg_run(struct pg_sink *s, const char *sql, const char *tag, pawl_fault *f);
/* One statement with text parameters. DONE: *out is the result, to be cleared; it may be NULL. */
int pg_query(struct pg_sink *s, const char *sql, int count, const char *const *values, PGresult **out,
             pawl_fault *f);
/* As pg_run(), where a record may be at fault: then POISON. */
int pg_run_rows(struct pg_sink *s, const char *sql, const char *tag, pawl_fault *f);
/* What an answer means. rows: a record may be at fault. */
int pg_answer(struct pg_sink *s, const char *what, const PGresult *r, bool rows, pawl_fault *f);
int pg_lost(struct pg_sink *s, const char *what, pawl_fault *f);
/* SQLSTATE (five characters, or NULL) -> an enum pawl_outcome. */
int pg_outcome(const char *state, bool rows);
/* SQLSTATE of the last answer that was not DONE; "" where there was none. */
const char *pg_state(void);
/* Begins "...; COPY ... FROM STDIN". */
int pg_copy_begin(struct pg_sink *s, const char *sql, pawl_fault *f);
/* Sends s->out and empties it. */
int pg_copy_send(struct pg_sink *s, pawl_fault *f);
/* why: NULL ends it well, else it is broken off. */
int pg_copy_end(struct pg_sink *s, const char *why, pawl_fault *f);

/* ---- sink_postgres_open.c */

int pg_open(void *self, const pawl_sink_batch *b, pawl_fault *f);
void pg_forget(struct pg_sink *s);

/* ---- sink_postgres_rows.c */

/* Appends the rows to s->out and sends now and then. */
int pg_rows(struct pg_sink *s, const pawl_sink_batch *b, const pawl_record *r, size_t count, pawl_fault *f);
/* Room for n more bytes. */
bool bytes_room(struct bytes *b, size_t n);
/* Appends a text, or a quoted identifier. False: no memory. */
bool bytes_text(struct bytes *b, const char *text);
bool bytes_name(struct bytes *b, const char *name);

#endif
