/* SPDX-License-Identifier: Apache-2.0
 *
 * A connection to PostgreSQL, for the sink and the source: nothing waits for ever, and what each
 * answer means is told in one place.
 */
#ifndef PAWL_CONNECTORS_LINK_POSTGRES_H
#define PAWL_CONNECTORS_LINK_POSTGRES_H

#include <libpq-fe.h>

#include "connectors/runtime/connect.h"

struct bytes {
    char *at;
    size_t used, size;
};

/* Of one thread. The first four are set by the owner, before anything else. */
struct pg_link {
    const char *conninfo;
    uint32_t connect_ms, statement_ms; /* how long a connection, a statement may take */
    const char *copied;                /* the table as COPY's context names it */

    PGconn *conn; /* NULL: none */
    bool copying;
    uint64_t first, rows; /* of the COPY under way: offset of its first row, how many */
    uint64_t unsent;      /* bytes given to libpq since it last had none to send */
    struct bytes out;     /* rows to be sent */
};

/* Connects anew; the old connection is gone. */
int pg_connect(struct pg_link *l, pawl_fault *f);
void pg_disconnect(struct pg_link *l);
/* A statement, or several joined by semicolons. DONE, or what its answer means; never POISON.
 * `tag`: the last one's command tag must begin with it. */
int pg_run(struct pg_link *l, const char *sql, const char *tag, pawl_fault *f);
/* One statement with text parameters. DONE: *out is the result, to be cleared; it may be NULL. */
int pg_query(struct pg_link *l, const char *sql, int count, const char *const *values,
             PGresult **out, pawl_fault *f);
/* As pg_run(), where a record may be at fault: then POISON. */
int pg_run_rows(struct pg_link *l, const char *sql, const char *tag, pawl_fault *f);
/* The connection is lost: RETRY, with libpq's words. */
int pg_lost(struct pg_link *l, const char *what, pawl_fault *f);
/* SQLSTATE of the last answer that was not DONE; "" where there was none. */
const char *pg_state(void);
/* Begins "...; COPY ... FROM STDIN". */
int pg_copy_begin(struct pg_link *l, const char *sql, pawl_fault *f);
/* Sends l->out and empties it. */
int pg_copy_send(struct pg_link *l, pawl_fault *f);
/* why: NULL ends it well, else it is broken off. */
int pg_copy_end(struct pg_link *l, const char *why, pawl_fault *f);

/* Whether libpq understands the string, and "HOST/DATABASE" of it for status: no password shows
 * there. 0, or INVALID, MEMORY. */
int pg_conninfo(const char *conninfo, char *where, size_t size, pawl_error *err);

/* Room for n more bytes. */
bool bytes_room(struct bytes *b, size_t n);
/* Appends a text, or a quoted identifier. False: no memory. */
bool bytes_text(struct bytes *b, const char *text);
bool bytes_name(struct bytes *b, const char *name);
/* A name as an identifier, after a schema's (or NULL), to be freed. NULL: no memory. */
char *pg_name(const char *schema, const char *name);

#endif
