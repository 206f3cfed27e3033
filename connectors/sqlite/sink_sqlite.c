/* SPDX-License-Identifier: Apache-2.0
 *
 * Rows of a SQLite table.
 *
 *   transactional  the position is in a table of the same database. Each batch moves it in its own
 *                  transaction, from the value that this sink last knew. If anyone else has moved
 *                  it, the batch is rolled back and the position is read again
 *   idempotent     INSERT ... ON CONFLICT; a commit is durable before the log records it. The
 *                  position is written too, so that records that the target lost are noticed
 *
 * Every open makes a new connection, so it doesn't matter what a fault left of the old one. Whether
 * the file is still the one that has its name is asked before and after each commit (place.h).
 *
 * IDENTITY. At first use the position table gets a row with a random id, and the log keeps it. The
 * other part is whether the table is older or younger than the position table, by their places in
 * sqlite_schema: a table that was dropped and made anew has become younger. (VACUUM keeps the
 * order.) A changed schema is looked at in a new connection.
 *
 *   row of the position table     log_id       sink   stream_id, partition, position
 *   the target's id               target-HEX   ""     0
 *   a position                    the log's    sink   that of the sink
 *   the mark of the record below  the log's    sink   partition: -1 - that of the position
 *
 *   result of SQLite                                                 outcome
 *   BUSY, LOCKED, FULL, IOERR, NOMEM, INTERRUPT, PROTOCOL, SCHEMA    RETRY
 *   READONLY_DBMOVED (the file was replaced); CANTOPEN, if it could  RETRY
 *   be opened before
 *   CONSTRAINT, MISMATCH, TOOBIG, RANGE; ERROR while a row is        POISON
 *     inserted, if the statement itself is still good
 *   the rest: no such table or column, READONLY, CANTOPEN, CORRUPT,  FATAL
 *   NOTADB, PERM, AUTH
 */
#include <errno.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "connectors/runtime/reach.h"
#include "connectors/runtime/stands.h"
#include "connectors/sqlite/place.h"
#include "connectors/text/columns.h"

extern const pawl_connector connect_sink_sqlite;

struct sqlite_sink {
    struct columns columns;
    char *path, *table, *positions, *setup, *journal, *conflict;
    mode_t mode; /* of a new database */
    bool mode_exact;
    bool update, idempotent;
    uint32_t busy_ms;
    sqlite3 *db;
    sqlite3_stmt *insert, *begin, *commit, *move, *put, *version;
    uint64_t mark; /* of the batch's last record */
    struct place place;
    bool opened_before;
    int64_t schema; /* the schema's version when the connection was made */
    struct stands stands;
    struct column_value *values;
};

/* ---- answers */

static int outcome_of(int code) {
    switch (code & 0xFF) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_FULL:
    case SQLITE_IOERR:
    case SQLITE_NOMEM:
    case SQLITE_INTERRUPT:
    case SQLITE_PROTOCOL:
    case SQLITE_SCHEMA:
        return PAWL_RETRY;
    case SQLITE_CONSTRAINT:
    case SQLITE_MISMATCH:
    case SQLITE_TOOBIG:
    case SQLITE_RANGE:
        return PAWL_POISON;
    case SQLITE_READONLY:
        return code == SQLITE_READONLY_DBMOVED ? PAWL_RETRY : PAWL_FATAL;
    default:
        return PAWL_FATAL;
    }
}

static int answer(struct sqlite_sink *s, const char *what, pawl_fault *f) {
    int code = s->db != NULL ? sqlite3_extended_errcode(s->db) : SQLITE_NOMEM;
    return pawl_fault_set(f, outcome_of(code), "%s %s: %s (%s)", what, s->path,
                          s->db != NULL ? sqlite3_errmsg(s->db) : "no memory",
                          sqlite3_errstr(code));
}

/* For statements that carry no record: FATAL instead of POISON. */
static int answer_all(struct sqlite_sink *s, const char *what, pawl_fault *f) {
    int outcome = answer(s, what, f);
    return outcome == PAWL_POISON ? PAWL_FATAL : outcome;
}

/* ---- statements */

static int prepare(struct sqlite_sink *s, sqlite3_stmt **out, sqlite3_str *text, pawl_fault *f) {
    char *sql = sqlite3_str_finish(text);
    if (sql == NULL)
        return pawl_fault_set(f, PAWL_RETRY, "no memory");
    int rc = sqlite3_prepare_v3(s->db, sql, -1, SQLITE_PREPARE_PERSISTENT, out, NULL);
    sqlite3_free(sql);
    return rc == SQLITE_OK ? PAWL_DONE : answer_all(s, "preparing for", f);
}

static int simple(struct sqlite_sink *s, sqlite3_stmt **out, const char *sql, pawl_fault *f) {
    sqlite3_str *text = sqlite3_str_new(s->db);
    sqlite3_str_appendall(text, sql);
    return prepare(s, out, text, f);
}

struct listing {
    sqlite3_str *text;
    const struct columns *columns;
    int count;
};

static int list_name(void *arg, const char *name, size_t len) {
    struct listing *l = arg;
    int i = columns_find(l->columns, name, len);
    sqlite3_str_appendf(l->text, "%s\"%w\"", l->count++ > 0 ? "," : "", l->columns->items[i].name);
    return 0;
}

static int prepare_insert(struct sqlite_sink *s, pawl_fault *f) {
    sqlite3_str *text = sqlite3_str_new(s->db);
    sqlite3_str_appendf(text, "INSERT INTO \"%w\" (", s->table);
    for (size_t i = 0; i < s->columns.count; i++)
        sqlite3_str_appendf(text, "%s\"%w\"", i > 0 ? "," : "", s->columns.items[i].name);
    sqlite3_str_appendall(text, ") VALUES (");
    for (size_t i = 0; i < s->columns.count; i++)
        sqlite3_str_appendall(text, i > 0 ? ",?" : "?");
    sqlite3_str_appendall(text, ")");
    if (s->idempotent) {
        struct listing l = {.text = text, .columns = &s->columns};
        sqlite3_str_appendall(text, " ON CONFLICT (");
        columns_names(s->conflict, list_name, &l);
        sqlite3_str_appendall(text, ") DO ");
        int set = 0;
        for (size_t i = 0; s->update && i < s->columns.count; i++)
            if (!columns_listed(s->conflict, s->columns.items[i].name))
                sqlite3_str_appendf(text, "%s\"%w\"=excluded.\"%w\"",
                                    set++ > 0 ? "," : "UPDATE SET ", s->columns.items[i].name,
                                    s->columns.items[i].name);
        if (set == 0)
            sqlite3_str_appendall(text, "NOTHING");
    }
    return prepare(s, &s->insert, text, f);
}

static int run(struct sqlite_sink *s, sqlite3_stmt *q) {
    (void)s;
    int rc = sqlite3_step(q);
    int end = sqlite3_reset(q);
    return rc == SQLITE_DONE || rc == SQLITE_ROW ? SQLITE_OK : end;
}

/* ---- opening */

static void disconnect(struct sqlite_sink *s) {
    sqlite3_stmt **all[] = {&s->insert, &s->begin, &s->commit, &s->move, &s->put, &s->version};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        sqlite3_finalize(*all[i]);
        *all[i] = NULL;
    }
    sqlite3_close_v2(s->db);
    s->db = NULL;
    s->stands.count = 0;
}

/* DONE: the database that is open still has its name. What is closed then leaves the files alone:
 * they may be another database's. */
static int still_there(struct sqlite_sink *s, pawl_fault *f) {
    const char *why = "";
    enum place_state state = place_look(&s->place, s->db, s->path, &why);
    if (state == PLACE_SAME)
        return PAWL_DONE;
    sqlite3_db_config(s->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    return pawl_fault_set(f, state == PLACE_MIXED ? PAWL_FATAL : PAWL_RETRY, "%s %s", s->path, why);
}

/* One number, of a statement without parameters. */
static int number_of(struct sqlite_sink *s, sqlite3_stmt *q, const char *what, int64_t *out,
                     pawl_fault *f) {
    int rc = sqlite3_step(q);
    *out = rc == SQLITE_ROW ? sqlite3_column_int64(q, 0) : 0;
    int end = sqlite3_reset(q);
    return rc == SQLITE_ROW && end == SQLITE_OK ? PAWL_DONE : answer_all(s, what, f);
}

static bool has(const char *type, const char *part) {
    size_t n = strlen(part);
    for (; *type != 0; type++)
        if (sqlite3_strnicmp(type, part, (int)n) == 0)
            return true;
    return false;
}

/* What a column of a declared type keeps: SQLite's rules of affinity, in their order. */
static int as_of(const char *type) {
    if (sqlite3_stricmp(type, "BLOB") == 0)
        return COLUMN_AS_BYTES;
    if (has(type, "INT"))
        return COLUMN_AS_NUMERIC;
    if (has(type, "CHAR") || has(type, "CLOB") || has(type, "TEXT") || has(type, "BLOB") ||
        type[0] == 0)
        return COLUMN_AS_TEXT;
    if (has(type, "REAL") || has(type, "FLOA") || has(type, "DOUB"))
        return COLUMN_AS_DOUBLE;
    return COLUMN_AS_NUMERIC;
}

/* Reads the table's columns and their types. */
static int look_at_table(struct sqlite_sink *s, pawl_fault *f) {
    sqlite3_stmt *q = NULL;
    sqlite3_str *text = sqlite3_str_new(s->db);
    sqlite3_str_appendf(text, "SELECT name, type FROM pragma_table_info(%Q)", s->table);
    int outcome = prepare(s, &q, text, f), rc;
    if (outcome != PAWL_DONE)
        return outcome;
    size_t found = 0, all = 0;
    bool seen[COLUMNS_MAX] = {0};
    while ((rc = sqlite3_step(q)) == SQLITE_ROW) {
        const char *name = (const char *)sqlite3_column_text(q, 0),
                   *type = (const char *)sqlite3_column_text(q, 1);
        all++;
        for (size_t i = 0; i < s->columns.count && name != NULL; i++)
            if (sqlite3_stricmp(s->columns.items[i].name, name) == 0) {
                found += !seen[i];
                seen[i] = true;
                s->columns.items[i].as = as_of(type != NULL ? type : "");
            }
    }
    if (rc != SQLITE_DONE)
        outcome = answer_all(s, "looking at", f);
    sqlite3_finalize(q);
    if (outcome != PAWL_DONE)
        return outcome;
    if (all == 0)
        return pawl_fault_set(f, PAWL_FATAL, "%s has no table \"%s\": create it (or give setup)",
                              s->path, s->table);
    for (size_t i = 0; i < s->columns.count && found < s->columns.count; i++)
        if (!seen[i])
            return pawl_fault_set(f, PAWL_FATAL, "table \"%s\" of %s has no column \"%s\"",
                                  s->table, s->path, s->columns.items[i].name);
    return PAWL_DONE;
}

static int exec(struct sqlite_sink *s, const char *what, const char *sql, pawl_fault *f) {
    return sqlite3_exec(s->db, sql, NULL, NULL, NULL) == SQLITE_OK ? PAWL_DONE
                                                                   : answer_all(s, what, f);
}

static int prepare_positions(struct sqlite_sink *s, pawl_fault *f) {
    char *sql =
        sqlite3_mprintf("CREATE TABLE IF NOT EXISTS \"%w\" (log_id TEXT NOT NULL, sink TEXT NOT "
                        "NULL, stream_id INTEGER NOT NULL, "
                        "partition INTEGER NOT NULL, position INTEGER NOT NULL, "
                        "PRIMARY KEY (log_id, sink, stream_id, partition)) WITHOUT ROWID",
                        s->positions);
    int outcome = sql != NULL ? exec(s, "creating the position table in", sql, f)
                              : pawl_fault_set(f, PAWL_RETRY, "no memory");
    sqlite3_free(sql);
    if (outcome != PAWL_DONE)
        return outcome;
    sqlite3_str *text = sqlite3_str_new(s->db);
    sqlite3_str_appendf(text,
                        "UPDATE \"%w\" SET position=?5 WHERE log_id=?1 AND sink=?2 AND "
                        "stream_id=?3 AND partition=?4 AND position=?6",
                        s->positions);
    outcome = prepare(s, &s->move, text, f);
    if (outcome != PAWL_DONE)
        return outcome;
    text = sqlite3_str_new(s->db);
    sqlite3_str_appendf(
        text,
        "INSERT INTO \"%w\" VALUES (?1,?2,?3,?4,?5) ON CONFLICT DO UPDATE SET position=?5 WHERE ?6",
        s->positions);
    return prepare(s, &s->put, text, f);
}

static int connect(struct sqlite_sink *s, pawl_fault *f) {
    const char *why = "";
    enum place_state state = place_before(&s->place, s->path, &why);
    if (state != PLACE_SAME)
        return pawl_fault_set(f, state == PLACE_MIXED ? PAWL_FATAL : PAWL_RETRY, "%s %s", s->path,
                              why);
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
    bool create = s->setup != NULL && !s->opened_before; /* else it is away, and comes back */
    const char *end;
    char *real = place_reach(s->path, create, s->mode, s->mode_exact, &end);
    if (real == NULL && reach_is_plant(errno))
        return pawl_fault_set(f, PAWL_RETRY, "opening %s%s: %s", s->path, end, reach_text(errno));
    if (real != NULL)
        flags |= SQLITE_OPEN_NOFOLLOW;
    int rc = sqlite3_open_v2(real != NULL ? real : s->path, &s->db,
                             flags | (create ? SQLITE_OPEN_CREATE : 0), NULL);
    free(real);
    if (rc != SQLITE_OK) {
        int outcome = answer_all(s, "opening", f);
        bool away = (sqlite3_errcode(s->db) & 0xFF) == SQLITE_CANTOPEN && s->opened_before;
        return away ? PAWL_RETRY : outcome;
    }
    sqlite3_busy_timeout(s->db, s->busy_ms < INT_MAX ? (int)s->busy_ms : INT_MAX);
    if (strcmp(s->journal, "keep") == 0)
        return PAWL_DONE;
    char sql[64];
    snprintf(sql, sizeof sql, "PRAGMA journal_mode=%s", s->journal);
    return exec(s, "setting the journal mode of", sql, f);
}

/* What the connection is of: the file, the schema. */
static int look_around(struct sqlite_sink *s, pawl_fault *f) {
    int outcome = simple(s, &s->version, "PRAGMA schema_version", f);
    if (outcome == PAWL_DONE)
        outcome = number_of(s, s->version, "looking at", &s->schema, f);
    if (outcome != PAWL_DONE)
        return outcome;
    if (!place_take(&s->place, s->db, s->path)) {
        sqlite3_db_config(s->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
        return pawl_fault_set(f, PAWL_RETRY, "%s was replaced while it was being opened", s->path);
    }
    return still_there(s, f);
}

static int sqlite_open(void *self, const pawl_sink_batch *b, pawl_fault *f) {
    struct sqlite_sink *s = self;
    (void)b;
    disconnect(s);
    int outcome = connect(s, f);
    if (outcome == PAWL_DONE) /* in WAL mode the same as FULL: each commit is synced */
        outcome = exec(s, "opening", "PRAGMA synchronous=EXTRA", f);
    if (outcome == PAWL_DONE && s->setup != NULL)
        outcome = exec(s, "setting up", s->setup, f);
    if (outcome == PAWL_DONE)
        outcome = look_at_table(s, f);
    if (outcome == PAWL_DONE)
        outcome = prepare_insert(s, f);
    if (outcome == PAWL_DONE)
        outcome = prepare_positions(s, f);
    if (outcome == PAWL_DONE)
        outcome = simple(s, &s->begin, "BEGIN IMMEDIATE", f);
    if (outcome == PAWL_DONE)
        outcome = simple(s, &s->commit, "COMMIT", f);
    if (outcome == PAWL_DONE)
        outcome = look_around(s, f);
    s->opened_before |= outcome == PAWL_DONE;
    return outcome;
}

/* ---- identity */

/* The target's id; made where there is none. */
static int make_id(struct sqlite_sink *s, pawl_fault *f) {
    char *sql = sqlite3_mprintf(
        "INSERT INTO \"%w\" SELECT 'target-' || lower(hex(randomblob(8))), '', 0, 0, 0 WHERE NOT "
        "EXISTS (SELECT 1 FROM \"%w\" WHERE sink = '' AND substr(log_id, 1, 7) = 'target-')",
        s->positions, s->positions);
    int outcome = sql != NULL ? exec(s, "storing the target's id in", sql, f)
                              : pawl_fault_set(f, PAWL_RETRY, "no memory");
    sqlite3_free(sql);
    return outcome;
}

/* What identifies the target: its id; is the table older than the position table; another log's id,
 * if only another log has positions here. */
static int sqlite_identity(void *self, const pawl_sink_batch *b, char *out, size_t size,
                           pawl_fault *f) {
    struct sqlite_sink *s = self;
    sqlite3_stmt *q = NULL;
    char hex[33];
    int outcome = make_id(s, f);
    if (outcome != PAWL_DONE)
        return outcome;
    sqlite3_str *text = sqlite3_str_new(s->db);
    sqlite3_str_appendf(
        text,
        "SELECT (SELECT substr(log_id, 8) FROM \"%w\" WHERE sink = '' AND substr(log_id, 1, 7) = "
        "'target-' LIMIT 1), (SELECT t.rowid < p.rowid FROM sqlite_master t, sqlite_master p WHERE "
        "t.type = 'table' AND p.type = 'table' AND t.name = %Q COLLATE NOCASE AND p.name = %Q "
        "COLLATE NOCASE), (SELECT log_id FROM \"%w\" WHERE sink = ?2 AND log_id <> ?1 AND NOT "
        "EXISTS (SELECT 1 FROM \"%w\" WHERE sink = ?2 AND log_id = ?1) LIMIT 1)",
        s->positions, s->table, s->positions, s->positions, s->positions);
    outcome = prepare(s, &q, text, f);
    if (outcome != PAWL_DONE)
        return outcome;
    log_id_text(b->log_id, hex);
    sqlite3_bind_text(q, 1, hex, 32, SQLITE_STATIC);
    sqlite3_bind_text(q, 2, b->sink, -1, SQLITE_STATIC);
    if (sqlite3_step(q) != SQLITE_ROW) {
        outcome = answer_all(s, "asking for the identity of", f);
    } else {
        const char *id = (const char *)sqlite3_column_text(q, 0),
                   *other = (const char *)sqlite3_column_text(q, 2);
        bool view = sqlite3_column_type(q, 1) == SQLITE_NULL;
        snprintf(out, size, "id=%.16s%s%s%.32s", id != NULL ? id : "",
                 view                            ? ""
                 : sqlite3_column_int(q, 1) != 0 ? " table=older-than-its-positions"
                                                 : " table=younger-than-its-positions",
                 other != NULL ? " log=" : "", other != NULL ? other : "");
    }
    sqlite3_finalize(q);
    return outcome;
}

/* ---- position */

static void bind_place(sqlite3_stmt *q, const pawl_sink_batch *b, char hex[33]) {
    log_id_text(b->log_id, hex);
    sqlite3_bind_text(q, 1, hex, 32, SQLITE_STATIC);
    sqlite3_bind_text(q, 2, b->sink, -1, SQLITE_STATIC);
    sqlite3_bind_int64(q, 3, b->stream_id);
    sqlite3_bind_int64(q, 4, b->partition);
}

/* DONE, or GONE: no such row. `partition`: of the row. */
static int read_row(struct sqlite_sink *s, const pawl_sink_batch *b, int64_t partition,
                    uint64_t *at, pawl_fault *f) {
    sqlite3_stmt *q = NULL;
    char hex[33];
    sqlite3_str *text = sqlite3_str_new(s->db);
    sqlite3_str_appendf(
        text,
        "SELECT position FROM \"%w\" WHERE log_id=? AND sink=? AND stream_id=? AND partition=?",
        s->positions);
    int outcome = prepare(s, &q, text, f);
    if (outcome != PAWL_DONE)
        return outcome;
    bind_place(q, b, hex);
    sqlite3_bind_int64(q, 4, partition);
    int rc = sqlite3_step(q);
    *at = rc == SQLITE_ROW ? (uint64_t)sqlite3_column_int64(q, 0) : 0;
    if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        outcome = answer_all(s, "reading the position in", f);
    else
        outcome = rc == SQLITE_ROW ? PAWL_DONE : PAWL_GONE;
    sqlite3_finalize(q);
    return outcome;
}

static int sqlite_position(void *self, const pawl_sink_batch *b, uint64_t *offset, pawl_fault *f) {
    struct sqlite_sink *s = self;
    struct stand *t = stands_of(&s->stands, b);
    if (t == NULL)
        return pawl_fault_set(f, PAWL_RETRY, "no memory");
    int outcome = read_row(s, b, b->partition, offset, f);
    t->asked = true;
    t->there = outcome == PAWL_DONE;
    t->at = *offset;
    return outcome;
}

static void sqlite_mark(void *self, uint64_t mark) {
    struct sqlite_sink *s = self;
    s->mark = mark;
}

static int sqlite_marked(void *self, const pawl_sink_batch *b, uint64_t *mark, pawl_fault *f) {
    return read_row(self, b, -1 - (int64_t)b->partition, mark, f);
}

/* In the transaction that moves the position. */
static int put_mark(struct sqlite_sink *s, const pawl_sink_batch *b, pawl_fault *f) {
    char hex[33];
    bind_place(s->put, b, hex);
    sqlite3_bind_int64(s->put, 4, -1 - (sqlite3_int64)b->partition);
    sqlite3_bind_int64(s->put, 5, (sqlite3_int64)s->mark);
    sqlite3_bind_int(s->put, 6, 1);
    int rc = run(s, s->put);
    sqlite3_clear_bindings(s->put);
    return rc == SQLITE_OK ? PAWL_DONE : answer_all(s, "moving the position in", f);
}

static int move_position(struct sqlite_sink *s, const pawl_sink_batch *b, pawl_fault *f) {
    struct stand *t = stands_of(&s->stands, b);
    char hex[33];
    if (t == NULL)
        return pawl_fault_set(f, PAWL_RETRY, "no memory");
    sqlite3_stmt *q = t->asked && t->there ? s->move : s->put;
    bind_place(q, b, hex);
    sqlite3_bind_int64(q, 5, (sqlite3_int64)b->to);
    if (q == s->move)
        sqlite3_bind_int64(q, 6, (sqlite3_int64)t->at);
    else
        sqlite3_bind_int(q, 6, !t->asked); /* asked: there was no row, and there must be none now */
    int rc = run(s, q);
    int changed = sqlite3_changes(s->db);
    sqlite3_clear_bindings(q);
    if (rc != SQLITE_OK)
        return answer_all(s, "moving the position in", f);
    if (changed != 1)
        return pawl_fault_set(f, PAWL_RETRY, "the position in %s was moved by someone else",
                              s->path);
    return put_mark(s, b, f);
}

/* ---- batches */

static int sqlite_begin(void *self, const pawl_sink_batch *b, pawl_fault *f) {
    struct sqlite_sink *s = self;
    int64_t schema;
    (void)b;
    int outcome = still_there(s, f);
    if (outcome != PAWL_DONE)
        return outcome;
    if (run(s, s->begin) != SQLITE_OK)
        return answer_all(s, "beginning in", f);
    outcome = number_of(s, s->version, "looking at", &schema, f);
    if (outcome == PAWL_DONE && schema != s->schema)
        return pawl_fault_set(f, PAWL_RETRY, "the schema of %s was changed: it is opened again",
                              s->path);
    return outcome;
}

static int bind(sqlite3_stmt *q, int i, const struct column *c, const struct column_value *v) {
    /* columns_of() has refused what doesn't fit; other columns keep the digits as text */
    if (v->type == COLUMN_NUMBER && (c->as == COLUMN_AS_DOUBLE || c->as == COLUMN_AS_NUMERIC))
        return sqlite3_bind_double(q, i, json_double(v->text, v->len));
    switch (v->type) {
    case COLUMN_NULL:
        return sqlite3_bind_null(q, i);
    case COLUMN_INTEGER:
    case COLUMN_BOOL:
        return sqlite3_bind_int64(q, i, v->number);
    default:
        if (c->as == COLUMN_AS_BYTES)
            return sqlite3_bind_blob64(q, i, v->text, v->len, SQLITE_STATIC);
        return sqlite3_bind_text64(q, i, v->text, v->len, SQLITE_STATIC, SQLITE_UTF8);
    }
}

/* An error without a code of its own, while rows are inserted. Where the statement can still be
 * prepared, the table and its columns are there: then it is the row that an expression of the table
 * (a generated column, an index, a trigger) can't take. */
static bool is_of_row(struct sqlite_sink *s) {
    sqlite3_stmt *probe = NULL;
    if ((sqlite3_errcode(s->db) & 0xFF) != SQLITE_ERROR)
        return false;
    int rc = sqlite3_prepare_v2(s->db, sqlite3_sql(s->insert), -1, &probe, NULL);
    sqlite3_finalize(probe);
    return rc == SQLITE_OK;
}

static int sqlite_write(void *self, const pawl_sink_batch *b, const pawl_record *r, size_t count,
                        pawl_fault *f) {
    struct sqlite_sink *s = self;
    for (; count > 0; count--, r++) {
        int outcome = columns_of(&s->columns, b, r, s->values, f), rc = SQLITE_OK;
        if (outcome != PAWL_DONE)
            return outcome;
        for (size_t i = 0; i < s->columns.count && rc == SQLITE_OK; i++)
            rc = bind(s->insert, (int)i + 1, &s->columns.items[i], &s->values[i]);
        if (rc == SQLITE_OK)
            rc = run(s, s->insert);
        if (rc == SQLITE_OK)
            continue;
        outcome = answer(s, "inserting into", f);
        if (outcome == PAWL_FATAL && is_of_row(s))
            outcome = PAWL_POISON;
        if (outcome == PAWL_POISON && f != NULL)
            f->offset = r->offset;
        sqlite3_clear_bindings(s->insert);
        return outcome;
    }
    return PAWL_DONE;
}

static int sqlite_commit(void *self, const pawl_sink_batch *b, pawl_fault *f) {
    struct sqlite_sink *s = self;
    int outcome = move_position(s, b, f);
    if (outcome == PAWL_DONE)
        outcome = still_there(s, f);
    if (outcome != PAWL_DONE)
        return outcome;
    if (run(s, s->commit) != SQLITE_OK)
        /* a deferred constraint: the runtime finds the record by halves */
        return answer(s, "committing in", f);
    /* Only now it is certain in which file that was. If the file is another one by now, the sink
     * asks that one for its position before the log moves on. */
    outcome = still_there(s, f);
    if (outcome != PAWL_DONE)
        return outcome;
    struct stand *t = stands_of(&s->stands, b);
    if (t != NULL) {
        t->there = true;
        t->at = b->to;
    }
    return PAWL_DONE;
}

static void sqlite_abort(void *self) {
    struct sqlite_sink *s = self;
    if (s->db != NULL && sqlite3_get_autocommit(s->db) == 0)
        sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
}

/* ---- making one */

static void sqlite_status(void *self, char *text, size_t size) {
    const struct sqlite_sink *s = self;
    snprintf(text, size, "%s, table %s", s->path, s->table);
}

static void sqlite_destroy(void *self) {
    struct sqlite_sink *s = self;
    disconnect(s);
    columns_free(&s->columns);
    char *all[] = {s->path, s->table, s->positions, s->setup, s->journal, s->conflict};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        free(all[i]);
    free(s->stands.items);
    free(s->values);
    free(s);
}

static bool copy(char **out, const pawl_settings *g, const char *name) {
    const char *text = pawl_setting_text(&connect_sink_sqlite, g, name);
    *out = text != NULL ? strdup(text) : NULL;
    return text == NULL || *out != NULL;
}

static int sqlite_make(const pawl_settings *g, pawl_sink_ops *out, pawl_error *err) {
    const pawl_connector *c = &connect_sink_sqlite;
    struct sqlite_sink *s = calloc(1, sizeof *s);
    if (s == NULL)
        return connect_error(err, PAWL_MEMORY, "no memory");
    s->idempotent = pawl_setting_number(c, g, "kind") == 1;
    s->update = pawl_setting_number(c, g, "on_conflict") == 1;
    s->busy_ms = connect_setting_small(c, g, "busy_timeout");
    int rc =
        reach_mode(pawl_setting_text(c, g, "mode"), &s->mode, &s->mode_exact)
            ? columns_make(&s->columns, c, g, err)
            : connect_error(err, PAWL_INVALID, "sqlite: mode takes 3 octal digits, such as 640");
    if (rc == 0 && !(copy(&s->path, g, "path") && copy(&s->table, g, "table") &&
                     copy(&s->setup, g, "setup") && copy(&s->positions, g, "position_table") &&
                     copy(&s->journal, g, "journal") && copy(&s->conflict, g, "conflict") &&
                     (s->values = calloc(s->columns.count, sizeof *s->values)) != NULL))
        rc = connect_error(err, PAWL_MEMORY, "no memory");
    if (rc == 0)
        rc = columns_conflict(&s->columns, s->idempotent, &s->conflict, err);
    if (rc < 0) {
        sqlite_destroy(s);
        return rc;
    }
    *out = (pawl_sink_ops)PAWL_SINK_OPS_INIT;
    out->kind = s->idempotent ? PAWL_SINK_IDEMPOTENT : PAWL_SINK_TRANSACTIONAL;
    out->type = "sqlite", out->self = s;
    out->open = sqlite_open, out->begin = sqlite_begin, out->write = sqlite_write,
    out->commit = sqlite_commit;
    out->position = sqlite_position, out->abort = sqlite_abort;
    out->status = sqlite_status, out->destroy = sqlite_destroy;
    out->identity = sqlite_identity;
    out->mark = sqlite_mark, out->marked = sqlite_marked;
    out->flags = s->idempotent ? PAWL_SINK_POSITION : 0;
    return 0;
}

static const pawl_setting_info settings[] = {
    {"path", PAWL_SETTING_TEXT, 1, NULL, NULL, "the database file"},
    {"table", PAWL_SETTING_TEXT, 1, NULL, NULL, "the table that gets a row a record"},
    {"kind", PAWL_SETTING_CHOICE, 0, "transactional|idempotent", "transactional",
     "how exactly-once is kept"},
    {"conflict", PAWL_SETTING_TEXT, 0, NULL, NULL,
     "idempotent: the columns of the unique index, joined by commas; without: the column that is "
     "\"id\""},
    {"on_conflict", PAWL_SETTING_CHOICE, 0, "ignore|update", "ignore",
     "idempotent: what happens to a row that is there"},
    {"position_table", PAWL_SETTING_TEXT, 0, NULL, "pawl_positions",
     "for the position and the target's id; created where it is missing"},
    {"setup", PAWL_SETTING_TEXT, 0, NULL, NULL,
     "SQL to run at each opening, such as CREATE TABLE IF NOT EXISTS; then the file is created "
     "too"},
    {"journal", PAWL_SETTING_CHOICE, 0, "wal|keep", "wal", "the journal mode to set"},
    {"busy_timeout", PAWL_SETTING_TIME, 0, NULL, "5s",
     "how long to wait for another process's lock"},
    {"mode", PAWL_SETTING_TEXT, 0, NULL, NULL,
     "permissions of a database that is made, octal; 0640, less the umask, if not given"},
    COLUMN_SETTINGS,
    {0}};

const pawl_connector connect_sink_sqlite = {.type = "sqlite",
                                            .help = "rows of a SQLite table",
                                            .settings = settings,
                                            .make_sink = sqlite_make};
