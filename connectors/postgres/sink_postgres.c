/* SPDX-License-Identifier: Apache-2.0
 *
 * Rows of a PostgreSQL table, through COPY.
 *
 *   transactional  rows are copied into the table. The position is in a table beside it, and the
 *                  same transaction moves it, but only from the value that this sink knows
 *   two-phase      the same, but the transaction is prepared under the batch's name. It also moves
 *                  the row of the position, from the value that this sink knows; committed() reads
 *                  it
 *   idempotent     rows are copied into a temporary table; INSERT ... ON CONFLICT (or MERGE) takes
 *                  them from there into the table. The same transaction moves the position, which
 *                  shows a database that was set back to an older state
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "connectors/postgres/sink_postgres.h"

extern const pawl_connector connect_sink_postgres;

/* ---- the position's row */

struct place {
    char stream[16], partition[16], to[24], from[24];
    const char *values[9];
};

static void place_of(const struct pg_sink *s, const pawl_sink_batch *b, uint64_t to, uint64_t from,
                     struct place *p) {
    snprintf(p->stream, sizeof p->stream, "%u", b->stream_id);
    snprintf(p->partition, sizeof p->partition, "%u", b->partition);
    snprintf(p->to, sizeof p->to, "%llu", (unsigned long long)to);
    snprintf(p->from, sizeof p->from, "%llu", (unsigned long long)from);
    const char *values[9] = {s->log,  s->name,       p->stream,    p->partition, p->to,
                             p->from, s->full_table, s->table_oid, s->mark};
    memcpy(p->values, values, sizeof values);
}

#define THE_ROW " WHERE log_id = $1 AND sink = $2 AND stream_id = $3 AND partition = $4"
/* The statements go by name. The rows are in the table that has the name now, which can't change
 * before the transaction ends; is it the one that was there at opening? */
#define THE_TABLE " AND $7::regclass::oid = $8::oid"
/* The mark of the batch's last record, in a row of its own beside the position's. */
#define PUT_MARK \
    "WITH m AS (INSERT INTO %s VALUES ($1, $2, $3, -1 - $4::bigint, $9) ON CONFLICT (log_id, " \
    "sink, stream_id, partition) DO UPDATE SET position = excluded.position) "

/* Runs a statement; each %s becomes the position table. *changed: number of rows changed. */
static int on_positions(struct pg_sink *s, const char *format, int count, const struct place *p,
                        PGresult **out, long *changed, pawl_fault *f) {
    struct bytes b = {0};
    PGresult *r = NULL;
    char piece[300];
    bool well = s->full_positions != NULL;
    for (const char *at = format, *hole; well && at != NULL; at = hole != NULL ? hole + 2 : NULL) {
        hole = strstr(at, "%s");
        snprintf(piece, sizeof piece, "%.*s", hole != NULL ? (int)(hole - at) : 299, at);
        well = bytes_text(&b, piece) && (hole == NULL || bytes_text(&b, s->full_positions));
    }
    struct pg_shape shape = {out != NULL, 0, out != NULL}; /* one position, or none */
    int outcome = well ? pg_query(&s->link, b.at, count, p->values, shape, &r, f)
                       : pawl_fault_set(f, PAWL_RETRY, "no memory");
    free(b.at);
    if (changed != NULL)
        *changed = outcome == PAWL_DONE ? strtol(PQcmdTuples(r), NULL, 10) : 0;
    if (out != NULL)
        *out = r;
    else
        PQclear(r);
    return outcome;
}

/* The number in the row that the statement selects. DONE, or GONE: no row. */
static int read_row(struct pg_sink *s, const pawl_sink_batch *b, const char *statement,
                    uint64_t *at, pawl_fault *f) {
    struct place p;
    PGresult *r = NULL;
    place_of(s, b, 0, 0, &p);
    int outcome = on_positions(s, statement, 4, &p, &r, NULL, f);
    *at = 0;
    if (outcome == PAWL_DONE && PQntuples(r) == 0)
        outcome = PAWL_GONE;
    else if (outcome == PAWL_DONE)
        *at = strtoull(PQgetvalue(r, 0, 0), NULL, 10);
    PQclear(r);
    return outcome;
}

static int read_position(struct pg_sink *s, const pawl_sink_batch *b, uint64_t *at, pawl_fault *f) {
    return read_row(s, b, "SELECT position FROM %s" THE_ROW, at, f);
}

static int pg_position(void *self, const pawl_sink_batch *b, uint64_t *offset, pawl_fault *f) {
    struct pg_sink *s = self;
    struct stand *t = stands_of(&s->stands, b);
    if (t == NULL)
        return pawl_fault_set(f, PAWL_RETRY, "no memory");
    int outcome = read_position(s, b, offset, f);
    t->asked = true;
    t->there = outcome == PAWL_DONE;
    t->at = *offset;
    return outcome;
}

static void pg_mark(void *self, uint64_t mark) {
    struct pg_sink *s = self;
    snprintf(s->mark, sizeof s->mark, "%llu", (unsigned long long)mark);
}

static int pg_marked(void *self, const pawl_sink_batch *b, uint64_t *mark, pawl_fault *f) {
    return read_row(self, b,
                    "SELECT position FROM %s WHERE log_id = $1 AND sink = $2 AND stream_id = $3 "
                    "AND partition = -1 - $4::bigint",
                    mark, f);
}

/* Runs in the batch's transaction, so rows and position are committed together or not at all. */
static int move_position(struct pg_sink *s, const pawl_sink_batch *b, pawl_fault *f) {
    struct stand *t = stands_of(&s->stands, b);
    struct place p;
    long changed = 0;
    if (t == NULL)
        return pawl_fault_set(f, PAWL_RETRY, "no memory");
    place_of(s, b, b->to, t->at, &p);
    int outcome;
    if (!t->asked)
        outcome = on_positions(
            s,
            "INSERT INTO %s AS p VALUES ($1, $2, $3, $4, $5) ON CONFLICT (log_id, sink, "
            "stream_id, partition) "
            "DO UPDATE SET position = excluded.position",
            5, &p, NULL, &changed, f);
    else if (t->there)
        outcome = on_positions(
            s, PUT_MARK "UPDATE %s SET position = $5" THE_ROW " AND position = $6" THE_TABLE, 9, &p,
            NULL, &changed, f);
    else
        outcome =
            on_positions(s, "INSERT INTO %s VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING", 5,
                         &p, NULL, &changed, f);
    if (outcome == PAWL_DONE && changed != 1)
        return pawl_fault_set(f, PAWL_RETRY,
                              "the position in %s was moved by someone else, or %s was replaced",
                              s->full_positions, s->full_table);
    return outcome;
}

/* DONE: the table is the one that was there at opening. */
static int same_table(struct pg_sink *s, pawl_fault *f) {
    PGresult *r = NULL;
    int outcome = pg_query(&s->link, "SELECT $1::regclass::oid = $2::oid", 2,
                           (const char *const[]){s->full_table, s->table_oid}, PG_ROW(1), &r, f);
    bool same = outcome == PAWL_DONE && PQgetvalue(r, 0, 0)[0] == 't';
    PQclear(r);
    return same || outcome != PAWL_DONE
               ? outcome
               : pawl_fault_set(f, PAWL_RETRY, "the table %s was replaced", s->full_table);
}

/* ---- batches */

/* Two-phase: makes the row before the batch, so that a missing row never means that a batch was
 * rolled back. */
static int ensure_row(struct pg_sink *s, const pawl_sink_batch *b, pawl_fault *f) {
    struct stand *t = stands_of(&s->stands, b);
    struct place p;
    if (t == NULL)
        return pawl_fault_set(f, PAWL_RETRY, "no memory");
    if (t->there)
        return PAWL_DONE;
    place_of(s, b, b->from, 0, &p); /* nothing above it was ever there */
    int outcome =
        on_positions(s, "INSERT INTO %s VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING", 5, &p,
                     NULL, NULL, f);
    t->there = outcome == PAWL_DONE;
    t->at = b->from;
    return outcome;
}

static int pg_begin(void *self, const pawl_sink_batch *b, pawl_fault *f) {
    struct pg_sink *s = self;
    s->link.first = b->from;
    int outcome = s->kind == PAWL_SINK_TWO_PHASE ? ensure_row(s, b, f) : PAWL_DONE;
    return outcome == PAWL_DONE ? pg_copy_begin(&s->link, s->copy, f) : outcome;
}

static int pg_write(void *self, const pawl_sink_batch *b, const pawl_record *r, size_t count,
                    pawl_fault *f) {
    return pg_rows(self, b, r, count, f);
}

static int pg_commit(void *self, const pawl_sink_batch *b, pawl_fault *f) {
    struct pg_sink *s = self;
    int outcome = pg_copy_end(&s->link, NULL, f);
    if (outcome == PAWL_DONE && s->kind == PAWL_SINK_IDEMPOTENT)
        outcome = pg_run_rows(&s->link, s->upsert, NULL, f);
    if (outcome == PAWL_DONE && pg_positions(s))
        outcome = move_position(s, b, f);
    if (outcome == PAWL_DONE && s->kind == PAWL_SINK_IDEMPOTENT)
        outcome = same_table(s, f);
    if (outcome == PAWL_DONE)
        outcome = pg_run_rows(&s->link, "COMMIT", "COMMIT", f);
    struct stand *t = outcome == PAWL_DONE && pg_positions(s) ? stands_of(&s->stands, b) : NULL;
    if (t != NULL) {
        t->there = true;
        t->at = b->to;
    }
    return outcome;
}

static void pg_abort(void *self) {
    struct pg_sink *s = self;
    if (s->link.conn == NULL)
        return;
    if (s->link.copying)
        (void)pg_copy_end(&s->link, "the batch is given up", NULL);
    if (s->link.conn != NULL && PQtransactionStatus(s->link.conn) != PQTRANS_IDLE &&
        pg_run(&s->link, "ROLLBACK", "ROLLBACK", NULL) != PAWL_DONE)
        pg_disconnect(&s->link);
}

/* ---- two-phase */

/* Runs "VERB 'name'", a statement without parameters. Names have only A-Z a-z 0-9 . _ - */
static int with_name(struct pg_sink *s, const char *verb, const char *name, bool rows,
                     pawl_fault *f) {
    char sql[256];
    if (strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") !=
            strlen(name) ||
        strlen(name) > 199)
        return pawl_fault_set(f, PAWL_FATAL,
                              "\"%.60s\" can't be the name of a prepared transaction", name);
    snprintf(sql, sizeof sql, "%s '%s'", verb, name);
    return rows ? pg_run_rows(&s->link, sql, verb, f) : pg_run(&s->link, sql, verb, f);
}

/* The row did not move: why? */
static int not_moved(struct pg_sink *s, const pawl_sink_batch *b, pawl_fault *f) {
    uint64_t at;
    int outcome = same_table(s, f);
    if (outcome == PAWL_DONE)
        outcome = read_position(s, b, &at, f);
    if (outcome == PAWL_DONE && at > b->from)
        return pawl_fault_set(f, PAWL_FATAL,
                              "the position in %s is beyond %llu already: the log was restored, or "
                              "the position set by hand",
                              s->full_positions, (unsigned long long)b->from);
    if (outcome == PAWL_DONE || outcome == PAWL_GONE) /* recovery judges where it stands now */
        return pawl_fault_set(f, PAWL_RETRY, "the position in %s was moved by someone else",
                              s->full_positions);
    return outcome;
}

static int pg_prepare(void *self, const pawl_sink_batch *b, pawl_fault *f) {
    struct pg_sink *s = self;
    struct stand *t = stands_of(&s->stands, b);
    struct place p;
    long changed = 0;
    int outcome = pg_copy_end(&s->link, NULL, f);
    if (t == NULL)
        return pawl_fault_set(f, PAWL_RETRY, "no memory");
    if (outcome != PAWL_DONE)
        return outcome;
    place_of(s, b, b->to, t->asked ? t->at : b->from, &p);
    outcome =
        t->asked
            ? on_positions(s, "UPDATE %s SET position = $5" THE_ROW " AND position = $6" THE_TABLE,
                           8, &p, NULL, &changed, f)
            : on_positions(s, "UPDATE %s SET position = $5" THE_ROW " AND position <= $6" THE_TABLE,
                           8, &p, NULL, &changed, f);
    if (outcome == PAWL_DONE && changed != 1)
        return not_moved(s, b, f);
    if (outcome == PAWL_DONE)
        outcome = with_name(s, "PREPARE TRANSACTION", b->name, true, f);
    if (outcome == PAWL_FATAL && strcmp(pg_state(), "42710") == 0)
        return PAWL_RETRY; /* the name is taken: recovery resolves the batch that has it */
    return outcome;
}

/* DONE, GONE, RETRY or FATAL. */
static int end_prepared(struct pg_sink *s, const char *verb, const pawl_sink_batch *b,
                        pawl_fault *f) {
    int outcome = with_name(s, verb, b->name, false, f);
    if (outcome == PAWL_FATAL && strcmp(pg_state(), "42704") == 0)
        return PAWL_GONE;
    if (outcome == PAWL_FATAL && strcmp(pg_state(), "55000") == 0)
        return PAWL_RETRY; /* another session is ending it now */
    return outcome;
}

static int pg_commit_prepared(void *self, const pawl_sink_batch *b, pawl_fault *f) {
    struct pg_sink *s = self;
    int outcome = end_prepared(s, "COMMIT PREPARED", b, f);
    struct stand *t = outcome == PAWL_DONE ? stands_of(&s->stands, b) : NULL;
    if (t != NULL)
        t->at = b->to;
    return outcome;
}

static int pg_rollback_prepared(void *self, const pawl_sink_batch *b, pawl_fault *f) {
    return end_prepared(self, "ROLLBACK PREPARED", b, f);
}

static int pg_list_prepared(void *self, const char *prefix, pawl_prepared_fn fn, void *arg,
                            pawl_fault *f) {
    struct pg_sink *s = self;
    PGresult *r = NULL;
    int outcome = pg_query(&s->link, "SELECT current_setting('max_prepared_transactions')", 0, NULL,
                           PG_ROW(1), &r, f);
    bool none = outcome == PAWL_DONE && strcmp(PQgetvalue(r, 0, 0), "0") == 0;
    PQclear(r);
    if (none)
        return pawl_fault_set(
            f, PAWL_FATAL,
            "the server's max_prepared_transactions is 0, which kind = \"two-phase\" can't "
            "work with: raise it and "
            "restart the server, or use another kind");
    if (outcome == PAWL_DONE)
        outcome =
            pg_query(&s->link,
                     "SELECT gid FROM pg_prepared_xacts WHERE database = current_database() "
                     "AND starts_with(gid, $1)",
                     1, (const char *const[]){prefix}, (struct pg_shape){1, 0, INT_MAX}, &r, f);
    if (outcome != PAWL_DONE)
        return outcome;
    for (int i = 0; i < PQntuples(r); i++)
        fn(arg, PQgetvalue(r, i, 0));
    PQclear(r);
    return PAWL_DONE;
}

static int pg_committed(void *self, const pawl_sink_batch *b, pawl_fault *f) {
    uint64_t at;
    int outcome = read_position(self, b, &at, f);
    if (outcome == PAWL_GONE)
        return PAWL_UNKNOWN;
    if (outcome != PAWL_DONE)
        return outcome;
    return at >= b->to ? PAWL_DONE : at <= b->from ? PAWL_GONE : PAWL_UNKNOWN;
}

/* ---- identity */

/* Also that there is a position: earlier versions kept none for the kind idempotent. And the id of
 * another log, if only another log has positions under the sink's name. */
static int pg_sink_identity(void *self, const pawl_sink_batch *b, char *text, size_t size,
                            pawl_fault *f) {
    struct pg_sink *s = self;
    struct place p;
    PGresult *r = NULL;
    int outcome = pg_identity(&s->link, s->full_table, text, size, f);
    if (outcome != PAWL_DONE || !pg_positions(s))
        return outcome;
    size_t n = strlen(text);
    n += (size_t)snprintf(text + n, size - n, " position=kept");
    place_of(s, b, 0, 0, &p);
    outcome = on_positions(s,
                           "SELECT (array_agg(log_id))[1] FROM %s WHERE sink = $2 "
                           "HAVING NOT bool_or(log_id = $1)",
                           2, &p, &r, NULL, f);
    if (outcome == PAWL_DONE && n < size && PQntuples(r) == 1 && !PQgetisnull(r, 0, 0))
        snprintf(text + n, size - n, " log=%.32s", PQgetvalue(r, 0, 0));
    PQclear(r);
    return outcome;
}

/* ---- the rest */

static int pg_idle(void *self, pawl_fault *f) {
    struct pg_sink *s = self;
    if (s->link.conn == NULL || PQconsumeInput(s->link.conn) == 0 ||
        PQstatus(s->link.conn) != CONNECTION_OK)
        return pg_lost(&s->link, "while idle", f);
    return PAWL_DONE;
}

static void pg_status(void *self, char *text, size_t size) {
    const struct pg_sink *s = self;
    snprintf(text, size, "%s", s->target);
}

static void pg_destroy(void *self) {
    struct pg_sink *s = self;
    pg_disconnect(&s->link);
    pg_forget(s);
    columns_free(&s->columns);
    char *all[] = {s->conninfo,  s->password, s->schema,   s->table,
                   s->positions, s->setup,    s->conflict, s->link.out.at};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        free(all[i]);
    free(s->stands.items);
    free(s->values);
    free(s);
}

static bool copy(char **out, const pawl_settings *g, const char *name) {
    const char *text = pawl_setting_text(&connect_sink_postgres, g, name);
    *out = text != NULL ? strdup(text) : NULL;
    return text == NULL || *out != NULL;
}

static int fill(struct pg_sink *s, const pawl_settings *g, pawl_error *err) {
    const pawl_connector *c = &connect_sink_postgres;
    static const int kinds[] = {PAWL_SINK_TRANSACTIONAL, PAWL_SINK_TWO_PHASE, PAWL_SINK_IDEMPOTENT};
    s->kind = kinds[pawl_setting_number(c, g, "kind")];
    s->update = pawl_setting_number(c, g, "on_conflict") == 1;
    s->merge = pawl_setting_number(c, g, "upsert") == 1;
    uint64_t times[] = {pawl_setting_number(c, g, "connect_timeout"),
                        pawl_setting_number(c, g, "statement_timeout"),
                        pawl_setting_number(c, g, "lock_timeout")};
    for (size_t i = 0; i < 3; i++)
        if (times[i] == 0 || times[i] > 3600000)
            return connect_error(
                err, PAWL_INVALID,
                "connect_timeout, statement_timeout and lock_timeout are 1ms to 1h");
    s->link.connect_ms = (uint32_t)times[0], s->link.statement_ms = (uint32_t)times[1],
    s->lock_ms = (uint32_t)times[2];
    int rc = columns_make(&s->columns, c, g, err);
    if (rc < 0)
        return rc;
    if (!copy(&s->conninfo, g, "conninfo") || !copy(&s->password, g, "password") ||
        !copy(&s->schema, g, "schema") || !copy(&s->table, g, "table") ||
        !copy(&s->positions, g, "position_table") || !copy(&s->setup, g, "setup") ||
        !copy(&s->conflict, g, "conflict") ||
        (s->values = calloc(s->columns.count, sizeof *s->values)) == NULL)
        return connect_error(err, PAWL_MEMORY, "no memory");
    if (s->kind != PAWL_SINK_IDEMPOTENT && !pg_positions(s))
        return connect_error(
            err, PAWL_INVALID,
            "position_table may be empty for kind = \"idempotent\" only: the other "
            "kinds need it");
    char where[100];
    rc = pg_conninfo(s->conninfo, where, sizeof where, err);
    snprintf(s->target, sizeof s->target, "%.99s, table %.90s", rc == 0 ? where : "", s->table);
    s->link.conninfo = s->conninfo;
    s->link.password = s->password;
    s->link.copied = s->kind == PAWL_SINK_IDEMPOTENT ? STAGING : s->table;
    return rc < 0
               ? rc
               : columns_conflict(&s->columns, s->kind == PAWL_SINK_IDEMPOTENT, &s->conflict, err);
}

static int pg_make(const pawl_settings *g, pawl_sink_ops *out, pawl_error *err) {
    struct pg_sink *s = calloc(1, sizeof *s);
    if (s == NULL)
        return connect_error(err, PAWL_MEMORY, "no memory");
    int rc = fill(s, g, err);
    if (rc < 0) {
        pg_destroy(s);
        return rc;
    }
    *out = (pawl_sink_ops)PAWL_SINK_OPS_INIT;
    out->kind = s->kind, out->type = "postgres", out->self = s;
    out->open = pg_open, out->begin = pg_begin, out->write = pg_write, out->commit = pg_commit;
    out->position = pg_position, out->prepare = pg_prepare,
    out->commit_prepared = pg_commit_prepared;
    out->rollback_prepared = pg_rollback_prepared, out->list_prepared = pg_list_prepared,
    out->committed = pg_committed;
    out->identity = pg_sink_identity;
    out->mark = pg_mark, out->marked = pg_marked;
    out->flags = s->kind != PAWL_SINK_TRANSACTIONAL && pg_positions(s) ? PAWL_SINK_POSITION : 0;
    out->abort = pg_abort, out->idle = pg_idle, out->status = pg_status, out->destroy = pg_destroy;
    return 0;
}

static const pawl_setting_info settings[] = {
    {"conninfo", PAWL_SETTING_SECRET, 1, NULL, NULL,
     "the connection string or URI, as libpq takes it (TLS: sslmode, sslrootcert, ...)"},
    {"password", PAWL_SETTING_SECRET, 0, NULL, NULL, "in place of one in conninfo"},
    {"schema", PAWL_SETTING_TEXT, 0, NULL, NULL,
     "of the table and the position table; without, the search path finds them"},
    {"table", PAWL_SETTING_TEXT, 1, NULL, NULL, "the table that gets a row a record"},
    {"kind", PAWL_SETTING_CHOICE, 0, "transactional|two-phase|idempotent", "transactional",
     "how exactly-once is kept"},
    {"conflict", PAWL_SETTING_TEXT, 0, NULL, NULL,
     "idempotent: the columns of the unique index, joined by commas; without: the column that is "
     "\"id\""},
    {"on_conflict", PAWL_SETTING_CHOICE, 0, "ignore|update", "ignore",
     "idempotent: what happens to a row that is there"},
    {"upsert", PAWL_SETTING_CHOICE, 0, "conflict|merge", "conflict",
     "idempotent: INSERT ... ON CONFLICT, or MERGE (15 and newer), which needs no unique index"},
    {"position_table", PAWL_SETTING_TEXT, 0, NULL, "pawl_positions",
     "created where it is missing. Empty (idempotent only): none, and a database that was set back "
     "isn't noticed"},
    {"setup", PAWL_SETTING_TEXT, 0, NULL, NULL,
     "SQL to run at each opening, such as CREATE TABLE IF NOT EXISTS"},
    {"connect_timeout", PAWL_SETTING_TIME, 0, NULL, "10s", "for a connection"},
    {"statement_timeout", PAWL_SETTING_TIME, 0, NULL, "30s",
     "for a statement; a batch's COPY is one"},
    {"lock_timeout", PAWL_SETTING_TIME, 0, NULL, "5s", "for a lock in the server"},
    COLUMN_SETTINGS,
    {0}};

const pawl_connector connect_sink_postgres = {.type = "postgres",
                                              .help = "rows of a PostgreSQL table",
                                              .settings = settings,
                                              .make_sink = pg_make};
