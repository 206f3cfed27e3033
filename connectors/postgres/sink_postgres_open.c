/* SPDX-License-Identifier: Apache-2.0
 *
 * Sets up a new connection, in this order: limits, lock, table, positions, staging. The lock keeps
 * out a former session of this sink: the server may still be working for a process that was killed,
 * and only when that session is over is its effect known.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "connectors/postgres/sink_postgres.h"

void pg_forget(struct pg_sink *s) {
    free(s->copy);
    free(s->upsert);
    free(s->full_table);
    free(s->full_positions);
    s->copy = s->upsert = s->full_table = s->full_positions = NULL;
    for (size_t i = 0; i < COLUMNS_MAX; i++) {
        free(s->types[i]);
        s->types[i] = NULL;
    }
    s->stands.count = 0;
}

static int no_memory(pawl_fault *f) {
    return pawl_fault_set(f, PAWL_RETRY, "no memory");
}

#define THE_LOCK \
    " FROM pg_locks l WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND " \
    "(l.classid::bigint << 32 | l.objid::bigint) = hashtextextended($1, 0)"

/* Another session has the sink's lock: one that a killed process left, or another pipeline's. */
static int still_at_work(struct pg_sink *s, const char *name, pawl_fault *f) {
    PGresult *r = NULL;
    int outcome = pg_query(&s->link,
                           "SELECT string_agg(l.pid || coalesce(' since ' || (SELECT backend_start "
                           "FROM pg_stat_activity a WHERE a.pid = l.pid), ''), ', ')" THE_LOCK,
                           1, &name, PG_ROW(1), &r, NULL);
    pawl_fault_set(
        f, PAWL_RETRY, "another session of sink %s is still at work in the server: process %.120s",
        s->name, outcome == PAWL_DONE && !PQgetisnull(r, 0, 0) ? PQgetvalue(r, 0, 0) : "unknown");
    PQclear(r);
    return PAWL_RETRY;
}

/* The lock is the session's, if the session is ours alone. A pooler that pools transactions gives
 * each statement another one, and then nothing keeps an older process's statements out. */
static int holds_lock(struct pg_sink *s, const char *name, pawl_fault *f) {
    PGresult *r = NULL;
    int outcome = pg_query(&s->link, "SELECT bool_or(l.pid = pg_backend_pid())" THE_LOCK, 1, &name,
                           PG_ROW(1), &r, f);
    bool holds = outcome == PAWL_DONE && PQgetvalue(r, 0, 0)[0] == 't';
    PQclear(r);
    return holds || outcome != PAWL_DONE
               ? outcome
               : pawl_fault_set(f, PAWL_FATAL,
                                "the session does not hold the lock that it took: a pooler between "
                                "pools transactions or statements. Let it pool sessions "
                                "(pool_mode = session), or connect without it");
}

static int session(struct pg_sink *s, pawl_fault *f) {
    char statement[16], lock[16], name[128];
    snprintf(statement, sizeof statement, "%u", s->link.statement_ms);
    snprintf(lock, sizeof lock, "%u", s->lock_ms);
    const char *limits[] = {statement, lock};
    int outcome = pg_query(
        &s->link,
        "SELECT set_config('statement_timeout', $1, false), set_config('lock_timeout', $2, false), "
        "set_config('idle_in_transaction_session_timeout', '0', false), CASE WHEN "
        "current_setting('synchronous_commit') = 'off' THEN set_config('synchronous_commit', 'on', "
        "false) END",
        2, limits, PG_ROW(4), NULL, f);
    if (outcome != PAWL_DONE)
        return outcome;
    /* Makes the server notice a client that is gone, even in the middle of a statement. Some
     * versions and systems lack these settings. */
    (void)pg_run(&s->link,
                 "SELECT set_config(name, CASE name WHEN 'client_connection_check_interval' THEN "
                 "'1000' ELSE "
                 "'15' END, false) FROM pg_settings "
                 "WHERE name IN ('client_connection_check_interval', 'tcp_keepalives_idle', "
                 "'tcp_keepalives_interval')",
                 NULL, NULL);
    snprintf(name, sizeof name, "pawl-%s-%s", s->log, s->name);
    outcome = pg_query(&s->link, "SELECT pg_advisory_lock(hashtextextended($1, 0))", 1,
                       (const char *const[]){name}, PG_ROW(1), NULL, f);
    if (outcome != PAWL_DONE && strcmp(pg_state(), "55P03") == 0)
        return still_at_work(s, name, f);
    return outcome == PAWL_DONE ? holds_lock(s, name, f) : outcome;
}

/* ---- the table */

static int known_column(struct pg_sink *s, const PGresult *r, int row, bool seen[COLUMNS_MAX],
                        pawl_fault *f) {
    const char *name = PQgetvalue(r, row, 0), *type = PQgetvalue(r, row, 1);
    int i = columns_find(&s->columns, name, strlen(name));
    if (i < 0)
        return PAWL_DONE;
    if (PQgetvalue(r, row, 3)[0] != 0)
        return pawl_fault_set(f, PAWL_FATAL, "column \"%s\" of %s is generated and can't be filled",
                              name, s->full_table);
    seen[i] = true;
    s->columns.items[i].as = strcmp(type, "bytea") == 0 ? COLUMN_AS_BYTES
                             : strcmp(type, "json") == 0 || strcmp(type, "jsonb") == 0
                                 ? COLUMN_AS_JSON
                             : strcmp(type, "double precision") == 0 ? COLUMN_AS_DOUBLE
                             : strcmp(type, "real") == 0             ? COLUMN_AS_FLOAT
                                                                     : COLUMN_AS_TEXT;
    free(s->types[i]); /* whoever answers may name a column twice */
    s->types[i] = strdup(PQgetvalue(r, row, 2));
    return s->types[i] != NULL ? PAWL_DONE : no_memory(f);
}

static int look_at_table(struct pg_sink *s, pawl_fault *f) {
    bool seen[COLUMNS_MAX] = {0};
    PGresult *r = NULL;
    int outcome =
        pg_query(&s->link,
                 "SELECT a.attname, coalesce(nullif(t.typbasetype, 0), t.oid)::regtype::text, "
                 "format_type(a.atttypid, a.atttypmod), a.attgenerated, a.attrelid::bigint FROM "
                 "pg_attribute a "
                 "JOIN pg_type t ON t.oid = a.atttypid WHERE a.attrelid = $1::regclass AND "
                 "a.attnum > 0 AND NOT a.attisdropped",
                 1, (const char *const[]){s->full_table}, (struct pg_shape){5, 0, INT_MAX}, &r, f);
    if (outcome != PAWL_DONE && strcmp(pg_state(), "42P01") == 0)
        return pawl_fault_set(f, PAWL_FATAL, "there is no table %s: create it (or give setup)",
                              s->full_table);
    for (int i = 0; outcome == PAWL_DONE && i < PQntuples(r); i++)
        outcome = known_column(s, r, i, seen, f);
    if (outcome == PAWL_DONE && PQntuples(r) > 0)
        snprintf(s->table_oid, sizeof s->table_oid, "%s", PQgetvalue(r, 0, 4));
    PQclear(r);
    for (size_t i = 0; outcome == PAWL_DONE && i < s->columns.count; i++)
        if (!seen[i])
            outcome = pawl_fault_set(f, PAWL_FATAL, "table %s has no column \"%s\"", s->full_table,
                                     s->columns.items[i].name);
    return outcome;
}

/* ---- positions */

static int there_is(struct pg_sink *s, const char *name, bool *there, pawl_fault *f) {
    PGresult *r = NULL;
    int outcome =
        pg_query(&s->link, "SELECT to_regclass($1) IS NOT NULL", 1, &name, PG_ROW(1), &r, f);
    *there = outcome == PAWL_DONE && PQgetvalue(r, 0, 0)[0] == 't';
    PQclear(r);
    return outcome;
}

static int make_positions(struct pg_sink *s, pawl_fault *f) {
    bool there = false;
    int outcome = there_is(s, s->full_positions, &there, f);
    if (there || outcome != PAWL_DONE)
        return outcome;
    struct bytes b = {0};
    if (!bytes_text(&b, "CREATE TABLE IF NOT EXISTS ") || !bytes_text(&b, s->full_positions) ||
        !bytes_text(
            &b, " (log_id text NOT NULL, sink text NOT NULL, stream_id bigint NOT NULL, partition "
                "bigint NOT NULL, "
                "position bigint NOT NULL, PRIMARY KEY (log_id, sink, stream_id, partition))"))
        outcome = no_memory(f);
    else
        outcome = pg_run(&s->link, b.at, NULL, f);
    free(b.at);
    /* Two sessions may create the table at the same time in spite of IF NOT EXISTS. The later one
     * fails (42710, 23505), and the table exists. */
    bool denied = outcome == PAWL_FATAL && strcmp(pg_state(), "42501") == 0;
    if (outcome == PAWL_FATAL && there_is(s, s->full_positions, &there, NULL) == PAWL_DONE && there)
        return PAWL_DONE;
    if (denied && s->kind == PAWL_SINK_IDEMPOTENT)
        return pawl_fault_set(f, PAWL_FATAL,
                              "SQLSTATE 42501: permission denied to create the position table %s. "
                              "Create it, or grant CREATE on its schema; or set position_table: "
                              "\"\", and a database that was set back isn't noticed",
                              s->full_positions);
    return outcome;
}

/* ---- statements */

static bool list(const struct pg_sink *s, struct bytes *b, const char *before) {
    bool well = true;
    for (size_t i = 0; i < s->columns.count && well; i++)
        well = (i == 0 || bytes_text(b, ", ")) && bytes_text(b, before) &&
               bytes_name(b, s->columns.items[i].name);
    return well;
}

static int make_copy(struct pg_sink *s, pawl_fault *f) {
    struct bytes b = {0};
    bool staged = s->kind == PAWL_SINK_IDEMPOTENT;
    if (!bytes_text(&b, "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; COPY ") ||
        !bytes_text(&b, staged ? "pg_temp." STAGING : s->full_table) || !bytes_text(&b, " (") ||
        !list(s, &b, "") || !bytes_text(&b, ") FROM STDIN")) {
        free(b.at);
        return no_memory(f);
    }
    s->copy = b.at;
    return PAWL_DONE;
}

static int make_staging(struct pg_sink *s, pawl_fault *f) {
    struct bytes b = {0};
    bool well = bytes_text(&b, "CREATE TEMPORARY TABLE " STAGING " (");
    for (size_t i = 0; i < s->columns.count && well; i++)
        well = (i == 0 || bytes_text(&b, ", ")) && bytes_name(&b, s->columns.items[i].name) &&
               bytes_text(&b, " ") && bytes_text(&b, s->types[i]);
    well = well && bytes_text(&b, ") ON COMMIT DELETE ROWS");
    int outcome = well ? pg_run(&s->link, b.at, NULL, f) : no_memory(f);
    free(b.at);
    return outcome;
}

struct joiner {
    struct pg_sink *s;
    struct bytes *b;
    int count;
    const char *between;
    bool equal; /* t.NAME = s.NAME instead of NAME */
};

static int join(void *arg, const char *name, size_t len) {
    struct joiner *j = arg;
    const char *column = j->s->columns.items[columns_find(&j->s->columns, name, len)].name;
    bool well = j->count++ == 0 || bytes_text(j->b, j->between);
    if (!j->equal)
        well = well && bytes_name(j->b, column);
    else
        well = well && bytes_text(j->b, "t.") && bytes_name(j->b, column) &&
               bytes_text(j->b, " = s.") && bytes_name(j->b, column);
    return well ? 0 : -1;
}

static bool join_conflict(struct pg_sink *s, struct bytes *b, const char *between, bool equal) {
    struct joiner j = {.s = s, .b = b, .between = between, .equal = equal};
    return columns_names(s->conflict, join, &j) == 0;
}

/* Appends "SET a = FROM.a, ..." for all columns except the key; *any: there are some. */
static bool set_list(struct pg_sink *s, struct bytes *b, const char *begin, const char *from,
                     bool *any) {
    bool well = true;
    *any = false;
    for (size_t i = 0; i < s->columns.count && well; i++) {
        const char *name = s->columns.items[i].name;
        if (columns_listed(s->conflict, name))
            continue;
        well = bytes_text(b, *any ? ", " : begin) && bytes_name(b, name) && bytes_text(b, " = ") &&
               bytes_text(b, from) && bytes_name(b, name);
        *any = true;
    }
    return well;
}

/* A statement may change a row only once. So of the rows with the same key in a batch only one is
 * used: the last for an update, the first for an insert. Their order is that of the staging table,
 * which is empty before each batch. */
static bool select_staged(struct pg_sink *s, struct bytes *b) {
    int id = columns_id(&s->columns);
    bool unique = id >= 0 && columns_listed(s->conflict, s->columns.items[id].name);
    if (unique)
        return bytes_text(b, "SELECT ") && list(s, b, "") &&
               bytes_text(b, " FROM pg_temp." STAGING);
    return bytes_text(b, "SELECT DISTINCT ON (") && join_conflict(s, b, ", ", false) &&
           bytes_text(b, ") ") && list(s, b, "") &&
           bytes_text(b, " FROM pg_temp." STAGING " ORDER BY ") &&
           join_conflict(s, b, ", ", false) && bytes_text(b, s->update ? ", ctid DESC" : ", ctid");
}

static bool insert_text(struct pg_sink *s, struct bytes *b) {
    bool any = false;
    return bytes_text(b, "INSERT INTO ") && bytes_text(b, s->full_table) && bytes_text(b, " (") &&
           list(s, b, "") && bytes_text(b, ") ") && select_staged(s, b) &&
           bytes_text(b, " ON CONFLICT (") && join_conflict(s, b, ", ", false) &&
           bytes_text(b, ") DO ") &&
           (!s->update || set_list(s, b, "UPDATE SET ", "excluded.", &any)) &&
           (any || bytes_text(b, "NOTHING"));
}

static bool merge_text(struct pg_sink *s, struct bytes *b) {
    bool any = false;
    return bytes_text(b, "MERGE INTO ") && bytes_text(b, s->full_table) &&
           bytes_text(b, " AS t USING (") && select_staged(s, b) && bytes_text(b, ") AS s ON ") &&
           join_conflict(s, b, " AND ", true) && bytes_text(b, " WHEN NOT MATCHED THEN INSERT (") &&
           list(s, b, "") && bytes_text(b, ") VALUES (") && list(s, b, "s.") &&
           bytes_text(b, ")") &&
           (!s->update || set_list(s, b, " WHEN MATCHED THEN UPDATE SET ", "s.", &any));
}

static int make_upsert(struct pg_sink *s, pawl_fault *f) {
    struct bytes b = {0};
    if (!(s->merge ? merge_text(s, &b) : insert_text(s, &b))) {
        free(b.at);
        return no_memory(f);
    }
    s->upsert = b.at;
    return make_staging(s, f);
}

/* One sink at a time runs its setup in a database: CREATE ... IF NOT EXISTS fails if two run at
 * once. Closing the connection also releases the lock. */
static int create(struct pg_sink *s, pawl_fault *f) {
    int outcome =
        pg_run(&s->link, "SELECT pg_advisory_lock(hashtextextended('pawl-setup', 0))", NULL, f);
    if (outcome != PAWL_DONE && strcmp(pg_state(), "55P03") == 0)
        return pawl_fault_set(f, PAWL_RETRY, "another sink's setup is still at work in the server");
    if (outcome == PAWL_DONE && s->setup != NULL)
        outcome = pg_run(&s->link, s->setup, NULL, f);
    if (outcome == PAWL_DONE)
        outcome = look_at_table(s, f);
    if (outcome == PAWL_DONE && pg_positions(s))
        outcome = make_positions(s, f);
    return outcome == PAWL_DONE
               ? pg_run(&s->link, "SELECT pg_advisory_unlock(hashtextextended('pawl-setup', 0))",
                        NULL, f)
               : outcome;
}

int pg_open(void *self, const pawl_sink_batch *b, pawl_fault *f) {
    struct pg_sink *s = self;
    pg_forget(s);
    log_id_text(b->log_id, s->log);
    snprintf(s->name, sizeof s->name, "%s", b->sink);
    int outcome = pg_connect(&s->link, f);
    s->full_table = pg_name(s->schema, s->table);
    s->full_positions = pg_name(s->schema, s->positions);
    if (outcome == PAWL_DONE && (s->full_table == NULL || s->full_positions == NULL))
        outcome = no_memory(f);
    if (outcome == PAWL_DONE)
        outcome = session(s, f);
    if (outcome == PAWL_DONE)
        outcome = create(s, f);
    if (outcome == PAWL_DONE)
        outcome = make_copy(s, f);
    if (outcome == PAWL_DONE && s->kind == PAWL_SINK_IDEMPOTENT)
        outcome = make_upsert(s, f);
    if (outcome != PAWL_DONE)
        pg_disconnect(&s->link);
    return outcome;
}
