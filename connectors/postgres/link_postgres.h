/* SPDX-License-Identifier: Apache-2.0
 *
 * A connection to PostgreSQL, for the sink and the source. Every wait has a time limit, and one
 * place maps answers to outcomes.
 */
#ifndef PAWL_CONNECTORS_LINK_POSTGRES_H
#define PAWL_CONNECTORS_LINK_POSTGRES_H

#include <libpq-fe.h>

#include "connectors/runtime/connect.h"

struct bytes {
    char *at;
    size_t used, size;
};

/* Belongs to one thread. The owner sets the first five fields before anything else. */
struct pg_link {
    const char *conninfo, *password;   /* password NULL: that of conninfo, if any */
    uint32_t connect_ms, statement_ms; /* time limits of a connection, of a statement */
    const char *copied;                /* the table as COPY's context names it */

    PGconn *conn;     /* NULL: none */
    char cluster[32]; /* its system identifier; "": not asked yet, "-": unknown */
    bool copying;
    uint64_t first, rows; /* of the current COPY: offset of its first row, number of rows */
    uint64_t unsent;      /* bytes given to libpq since its buffer was last empty */
    struct bytes out;     /* rows to send */
};

/* Closes the old connection and opens a new one. */
int pg_connect(struct pg_link *l, pawl_fault *f);
void pg_disconnect(struct pg_link *l);
/* Runs a statement, or several joined by semicolons. DONE, or the outcome of the answer; never
 * POISON. `tag`: the command tag of the last one must begin with it; NULL: any. */
int pg_run(struct pg_link *l, const char *sql, const char *tag, pawl_fault *f);
/* What a statement gives if the server is what it says: a number of columns, and of rows. A value
 * inside of that is never NULL to PQgetvalue(); outside of it, it is. */
struct pg_shape {
    int columns, rows_min, rows_max;
};
#define PG_ROW(columns) ((struct pg_shape){(columns), 1, 1}) /* one row */
#define PG_ROW_OR_NONE(columns) ((struct pg_shape){(columns), 0, 1})
/* Runs one statement with text parameters. DONE: *out is the result, which has the shape, and which
 * the caller clears; `out` may be NULL: then the shape doesn't matter. */
int pg_query(struct pg_link *l, const char *sql, int count, const char *const *values,
             struct pg_shape shape, PGresult **out, pawl_fault *f);
/* As pg_run(), but POISON if a record may be at fault. */
int pg_run_rows(struct pg_link *l, const char *sql, const char *tag, pawl_fault *f);
/* The connection is lost: sets RETRY and libpq's message. */
int pg_lost(struct pg_link *l, const char *what, pawl_fault *f);
/* SQLSTATE of the last answer that was not DONE; "" if it had none. */
const char *pg_state(void);
/* Begins "...; COPY ... FROM STDIN". */
int pg_copy_begin(struct pg_link *l, const char *sql, pawl_fault *f);
/* Sends l->out and empties it. */
int pg_copy_send(struct pg_link *l, pawl_fault *f);
/* Ends the COPY; if `why` isn't NULL, makes it fail with that reason. */
int pg_copy_end(struct pg_link *l, const char *why, pawl_fault *f);

/* ---- identity_postgres.c */

/* Writes "system=N database=N table=N" of the connection and the table (quoted, with its schema).
 * An outcome as of pg_query(). */
int pg_identity(struct pg_link *l, const char *table, char *out, size_t size, pawl_fault *f);

/* The same, as it fits into a source's position; and what tells rows that were added later. */
struct pg_seen {
    uint32_t table, database; /* oids */
    uint32_t place;           /* a hash of cluster and database, 24 bits */
    uint32_t file; /* a hash of the table's file, 24 bits: TRUNCATE and whatever rewrites it change
                         that */
    uint32_t horizon; /* transactions from this one on (modulo 2^32) had not begun */
    bool cluster;     /* `place` has the cluster in it */
    bool rows_know;   /* its rows have xmin: it is a table, not a view */
};
int pg_see(struct pg_link *l, const char *table, struct pg_seen *out, pawl_fault *f);

/* ---- text */

/* Checks that libpq understands the string, and writes "HOST/DATABASE" for status, without the
 * password, which is remembered as a secret. An error quotes nothing of the string. Returns 0, or
 * INVALID, MEMORY. */
int pg_conninfo(const char *conninfo, char *where, size_t size, pawl_error *err);

/* Makes room for n more bytes. False: no memory. */
bool bytes_room(struct bytes *b, size_t n);
/* Appends a text, or a quoted identifier. False: no memory. */
bool bytes_text(struct bytes *b, const char *text);
bool bytes_name(struct bytes *b, const char *name);
/* A name as a quoted identifier, after that of a schema (or NULL). The caller frees it. NULL: no
 * memory. */
char *pg_name(const char *schema, const char *name);

#endif
