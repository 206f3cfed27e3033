/* SPDX-License-Identifier: Apache-2.0
 *
 * The source "postgres": rows of a table, polled by a column that grows. The position is the last
 * row's value of that column and, if there is one, of a second column, so the source can always
 * rewind.
 *
 * MISSED ROWS. Values are assigned before their transactions commit: a row with a smaller value may
 * become visible after one with a larger value was read. Polling by that column alone misses it.
 *   txid = COLUMN   the safe way: a column xid8 (or bigint) that holds the id of the row's
 *                   transaction: DEFAULT pg_current_xact_id() (or txid_current()). Rows are read in
 *                   order of (txid, column), and only those of transactions older than every
 *                   running one: none of these can add a row any more. Cost: a transaction that
 *                   stays open holds everything back.
 *   lag = TIME      only for a timestamptz column: rows younger than that aren't read yet. Safe as
 *                   long as no transaction takes longer, and clocks don't jump.
 *   neither         rows committed out of order are missed. For tables with one writer at a time.
 * TIES. Rows with the same value must have a second column `key` (integer, unique among them).
 * Without it, the source takes all rows of a value that are visible when it reads that value, and
 * misses rows that come later with the same value. Rows whose column is NULL (or an infinite time)
 * are never read. Updates are not noticed, unless they raise the column.
 *
 * ANOTHER TABLE. A position means something only in the table that it was read from, so it has
 * that table in it; and a table can begin anew under the same oid (TRUNCATE ... RESTART IDENTITY).
 * Looked at when the source opens and after each query, before its rows are given:
 *   what is seen                                         then
 *   another cluster, database or table                   on_replaced
 *   the column has another type                          stop
 *   no row at or above the position, and the highest     on_replaced: numbers began anew
 *   below it is of a transaction younger than that
 *   another file of the table (TRUNCATE, rewritten),     on_replaced: numbers began anew, and may
 *   and its lowest row is at or below the position and   have passed the position again
 *   younger than that
 * Not seen: rows that were deleted and added again (DELETE, and a sequence that was set back) if by
 * the next look they are beyond the position; and in a view anything but the first line.
 *
 *   position, 32 bytes (17: a version without the rest; it is taken, and said)
 *   0  shape (1)      1  first (8)       9  second (8)    17  oid of the table (4)
 *   21 a hash of cluster and database (3)                 24  kinds of the columns (1); bit 7: the
 *   25 horizon (4)    29 a hash of the table's file (3)       cluster is in the hash; bit 6: the
 *                                                             rows were named by the identity
 *
 * WHAT WAS READ is named, for the audit, by the identity: "postgres SYSTEM/DATABASE/TABLE", the
 * cluster's system identifier and the oids. Where the identifier can't be known, HOST/DATABASE
 * stands for it. Names are for people, in the note.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "connectors/postgres/link_postgres.h"

#define FETCH_MAX 10000u

enum { INTEGER = 1, TIMESTAMP = 2, XID8 = 3 };
enum replaced { STOP, READ, ADOPT };
/* In the byte of the columns' kinds. */
#define CLUSTER_KNOWN 0x80u
#define NAMED 0x40u

struct pg_source {
    pawl_source_context *context;
    char *conninfo, *password, *schema, *table, *column, *key, *txid, *record_key, *value;
    uint64_t lag_ms, poll_ms, fetch;
    struct pg_link link;
    PGresult *rows;        /* rows of the last batch */
    char *query;           /* NULL: must be built */
    int64_t first, second; /* position: (txid, column), (column, key) or (column, -) */
    bool have;             /* there is a position */
    bool known;            /* and it says of which table */
    int on_replaced;       /* enum replaced */
    struct pg_seen seen;   /* of the position */
    uint8_t kinds;         /* of the columns */
    char *from;            /* the table, quoted */
    char *newer;           /* a query: was the row at one end added after the position? */
    bool by_name;          /* the rows up to the position were named by an earlier version */
    char thing[256];       /* what they are named; "": not known */
    uint64_t poll_at_ns;
    pawl_record *records;
    uint64_t *marks;       /* of each row, the first value of its position */
    pthread_mutex_t mutex; /* guards shown */
    char shown[256];
    char where[120]; /* for status; never changes */
};

static const pawl_setting_info settings[] = {
    {"conninfo", PAWL_SETTING_SECRET, 1, NULL, NULL, "how to connect, as libpq understands it"},
    {"password", PAWL_SETTING_SECRET, 0, NULL, NULL, "in place of one in conninfo"},
    {"schema", PAWL_SETTING_TEXT, 0, NULL, NULL, "schema of the table; else by the search path"},
    {"table", PAWL_SETTING_TEXT, 1, NULL, NULL, "the table or view"},
    {"column", PAWL_SETTING_TEXT, 1, NULL, NULL,
     "the column that grows: an integer or timestamptz"},
    {"key", PAWL_SETTING_TEXT, 0, NULL, NULL,
     "an integer column that tells rows of the same value apart"},
    {"txid", PAWL_SETTING_TEXT, 0, NULL, NULL,
     "a column with the id of the row's transaction (xid8 or bigint): nothing is missed"},
    {"lag", PAWL_SETTING_TIME, 0, NULL, "0",
     "rows younger than this aren't read yet (timestamptz only)"},
    {"record_key", PAWL_SETTING_TEXT, 0, NULL, NULL, "the column that becomes the record's key"},
    {"value", PAWL_SETTING_TEXT, 0, NULL, NULL,
     "the column that becomes its value; else the whole row as a JSON object"},
    {"fetch", PAWL_SETTING_NUMBER, 0, NULL, "1000",
     "rows a query at most; they are in memory together"},
    {"poll", PAWL_SETTING_TIME, 0, NULL, "1s", "how often to ask when there was nothing new"},
    {"on_replaced", PAWL_SETTING_CHOICE, 0, "stop|read|adopt", "stop",
     "another table, or numbers that began anew: stop, read from the start, or go on from the "
     "position"},
    {"connect_timeout", PAWL_SETTING_TIME, 0, NULL, "10s", "how long connecting may take"},
    {"statement_timeout", PAWL_SETTING_TIME, 0, NULL, "30s", "how long a query may take"},
    {0},
};

static void forget(struct pg_source *s) {
    PQclear(s->rows);
    s->rows = NULL;
    free(s->query);
    free(s->newer);
    free(s->from);
    s->query = s->newer = s->from = NULL;
    pg_disconnect(&s->link);
}

/* Opens a read-only connection that shows times in UTC, whatever the server's zone is. */
static int session(struct pg_source *s, pawl_fault *f) {
    char statement[16];
    forget(s);
    int outcome = pg_connect(&s->link, f);
    if (outcome != PAWL_DONE)
        return outcome;
    snprintf(statement, sizeof statement, "%u", s->link.statement_ms);
    return pg_query(
        &s->link,
        "SELECT set_config('statement_timeout', $1, false), set_config('TimeZone', 'UTC', false), "
        "set_config('default_transaction_read_only', 'on', false)",
        1, (const char *const[]){statement}, PG_ROW(3), NULL, f);
}

/* ---- the query */

/* Asks the server for a column's type, by `SELECT column`. *kind 0: an unsupported type. */
static int kind_of(struct pg_source *s, const char *table, const char *column, int *kind,
                   pawl_fault *f) {
    char query[600];
    PGresult *r = NULL;
    snprintf(query, sizeof query, "SELECT %s FROM %s LIMIT 0", column, table);
    int outcome = pg_query(&s->link, query, 0, NULL, PG_ROW_OR_NONE(1), &r, f);
    if (outcome == PAWL_DONE)
        switch (PQftype(r, 0)) {
        case 20: /* int8 */
        case 21: /* int2 */
        case 23: /* int4 */
            *kind = INTEGER;
            break;
        case 1184:
            *kind = TIMESTAMP;
            break;
        case 5069:
            *kind = XID8;
            break;
        default:
            *kind = 0;
        }
    PQclear(r);
    return outcome;
}

struct parts { /* quoted names, and the kinds of the columns */
    char *table, *column, *key, *txid, *record_key, *value;
    int column_kind, key_kind, txid_kind;
};

static int kinds(struct pg_source *s, struct parts *p, pawl_fault *f) {
    p->key_kind = INTEGER;
    p->txid_kind = XID8;
    int outcome = kind_of(s, p->table, p->column, &p->column_kind, f);
    if (outcome == PAWL_DONE && s->key != NULL)
        outcome = kind_of(s, p->table, p->key, &p->key_kind, f);
    if (outcome == PAWL_DONE && s->txid != NULL)
        outcome = kind_of(s, p->table, p->txid, &p->txid_kind, f);
    if (outcome != PAWL_DONE)
        return outcome;
    if (p->column_kind != INTEGER && (p->column_kind != TIMESTAMP || s->txid != NULL))
        return pawl_fault_set(f, PAWL_FATAL, "column %s must be an integer%s", s->column,
                              s->txid != NULL ? " where txid is given" : " or timestamptz");
    if (p->key_kind != INTEGER)
        return pawl_fault_set(f, PAWL_FATAL, "key %s must be an integer", s->key);
    if (p->txid_kind == TIMESTAMP || p->txid_kind == 0)
        return pawl_fault_set(f, PAWL_FATAL, "txid %s must be xid8 or bigint", s->txid);
    if (s->lag_ms != 0 && p->column_kind != TIMESTAMP)
        return pawl_fault_set(f, PAWL_FATAL, "lag needs a timestamptz column");
    return PAWL_DONE;
}

/* $1 in the type of the position's first column. */
static const char *typed_of(const struct pg_source *s, const struct parts *p) {
    return s->txid != NULL && p->txid_kind == XID8 ? "$1::text::xid8"
           : s->txid == NULL && p->column_kind == TIMESTAMP
               ? "(timestamptz 'epoch' + $1::bigint * interval '1 microsecond')"
               : "$1::bigint";
}

/* Builds SELECT first, second, key, value ... ; $1 and $2 are the position, $3 is the limit. NULL:
 * no memory. */
static char *build(struct pg_source *s, const struct parts *p) {
    char first[400], second[300], from[900], more[500] = "", *query = NULL;
    const char *one, *two = s->txid != NULL ? p->column : s->key != NULL ? p->key : NULL;
    if (s->txid != NULL) {
        one = p->txid;
        snprintf(first, sizeof first, "t.%s::text::bigint", one);
        snprintf(more, sizeof more, " AND t.%s < %s", one,
                 p->txid_kind == XID8 ? "pg_snapshot_xmin(pg_current_snapshot())"
                                      : "txid_snapshot_xmin(txid_current_snapshot())");
    } else if (p->column_kind == TIMESTAMP) {
        one = p->column;
        snprintf(first, sizeof first, "(extract(epoch from t.%s)::numeric * 1000000)::bigint", one);
        snprintf(more, sizeof more, " AND isfinite(t.%s)", one);
        if (s->lag_ms != 0)
            snprintf(more + strlen(more), 200,
                     " AND t.%s <= statement_timestamp() - %llu * interval '1 millisecond'", one,
                     (unsigned long long)s->lag_ms);
    } else {
        one = p->column;
        snprintf(first, sizeof first, "t.%s::bigint", one);
    }
    const char *typed = typed_of(s, p);
    if (two != NULL)
        snprintf(second, sizeof second, "t.%s::bigint", two);
    else
        snprintf(second, sizeof second, "0");
    if (!s->have)
        snprintf(from, sizeof from,
                 "t.%s IS NOT NULL%s%s%s AND $1::text IS NOT NULL AND $2::text IS NOT NULL", one,
                 two != NULL ? " AND t." : "", two != NULL ? two : "",
                 two != NULL ? " IS NOT NULL" : "");
    else if (two != NULL)
        snprintf(from, sizeof from, "(t.%s, t.%s) > (%s, $2::bigint)", one, two, typed);
    else
        snprintf(from, sizeof from, "t.%s > %s AND $2::bigint IS NOT NULL", one, typed);
    if (asprintf(
            &query,
            "SELECT %s, %s, %s%s, %s%s FROM %s t WHERE %s%s ORDER BY t.%s%s%s LIMIT $3::bigint",
            first, second, p->record_key != NULL ? "t." : "NULL",
            p->record_key != NULL ? p->record_key : "",
            p->value != NULL ? "t." : "row_to_json(t)::text", p->value != NULL ? p->value : "",
            p->table, from, more, one, two != NULL ? ", t." : "", two != NULL ? two : "") < 0)
        return NULL;
    return query;
}

/* $1 is the position's first value, $2 its horizon. One row: is there a row at or above the
 * position; is the highest row below it younger than the horizon; is the lowest row at or below it?
 */
static char *build_newer(struct pg_source *s, const struct parts *p) {
    char *query = NULL;
    const char *one = s->txid != NULL ? p->txid : p->column;
    const char *typed = typed_of(s, p);
    static const char age[] = "(t.xmin::text::bigint - $2::bigint + 4294967296) % 4294967296 < "
                              "2147483648";
    if (asprintf(
            &query,
            "SELECT EXISTS (SELECT 1 FROM %s t WHERE t.%s >= %s), "
            "coalesce((SELECT %s FROM %s t WHERE t.%s < %s ORDER BY t.%s DESC LIMIT 1), false), "
            "coalesce((SELECT %s FROM %s t WHERE t.%s <= %s ORDER BY t.%s LIMIT 1), false)",
            p->table, one, typed, age, p->table, one, typed, one, age, p->table, one, typed,
            one) < 0)
        return NULL;
    return query;
}

static int prepare(struct pg_source *s, pawl_fault *f) {
    struct parts p = {0};
    const struct {
        const char *name;
        char **quoted;
    } names[] = {{s->column, &p.column},
                 {s->key, &p.key},
                 {s->txid, &p.txid},
                 {s->record_key, &p.record_key},
                 {s->value, &p.value}};
    bool well = (p.table = pg_name(s->schema, s->table)) != NULL;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (names[i].name != NULL)
            well = (*names[i].quoted = pg_name(NULL, names[i].name)) != NULL && well;
    int rc = well ? kinds(s, &p, f) : pawl_fault_set(f, PAWL_RETRY, "no memory for names");
    free(s->query);
    free(s->newer);
    free(s->from);
    s->query = s->newer = NULL;
    s->from = p.table; /* kept */
    if (rc == PAWL_DONE &&
        ((s->query = build(s, &p)) == NULL || (s->newer = build_newer(s, &p)) == NULL))
        rc = pawl_fault_set(f, PAWL_RETRY, "no memory for a query");
    s->kinds = (uint8_t)(p.column_kind | p.key_kind << 2 | p.txid_kind << 4);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        free(*names[i].quoted);
    return rc;
}

/* ---- the source */

/* Tells which columns the position is of, so that one of other columns is not mistaken for it. */
static uint8_t shape(const struct pg_source *s) {
    return (uint8_t)(1 + (s->txid != NULL ? 2 : s->key != NULL ? 1 : 0));
}

/* ---- is it the table that the position is of */

/* The table is another one, or began anew. READ: the query is to be built again. */
static int replaced(struct pg_source *s, const struct pg_seen *now, const char *what,
                    pawl_fault *f) {
    if (s->on_replaced == STOP)
        return pawl_fault_set(f, PAWL_FATAL,
                              "%.60s: %s. Set on_replaced: \"read\" reads it from the start, "
                              "\"adopt\" goes on from the position, %lld",
                              s->table, what, (long long)s->first);
    pawl_source_report(s->context, 2, "%.60s: %s; as on_replaced says, %s", s->table, what,
                       s->on_replaced == READ ? "it is read from the start"
                                              : "the source goes on from its position");
    s->seen = *now;
    s->known = true;
    if (s->on_replaced == READ) {
        s->have = false;
        free(s->query);
        s->query = NULL;
    }
    return PAWL_DONE;
}

/* Numbers that began anew, in the same table. */
static int began_anew(struct pg_source *s, const struct pg_seen *now, pawl_fault *f) {
    char first[24], horizon[16];
    PGresult *r = NULL;
    if (!now->rows_know)
        return PAWL_DONE;
    snprintf(first, sizeof first, "%lld", (long long)s->first);
    snprintf(horizon, sizeof horizon, "%u", s->seen.horizon);
    int outcome =
        pg_query(&s->link, s->newer, 2, (const char *const[]){first, horizon}, PG_ROW(3), &r, f);
    if (outcome != PAWL_DONE)
        return outcome;
    bool above = PQgetvalue(r, 0, 0)[0] == 't', below = PQgetvalue(r, 0, 1)[0] == 't',
         lowest = PQgetvalue(r, 0, 2)[0] == 't';
    PQclear(r);
    if (!above && below)
        return replaced(s, now,
                        "its rows end below the position, and the last one is newer: its numbers "
                        "began anew, and rows below the position would never be read",
                        f);
    if (now->file != s->seen.file && lowest)
        return replaced(s, now,
                        "it was emptied or rewritten, and rows at or below the position are newer "
                        "than that: its numbers began anew, and these rows would never be read",
                        f);
    return PAWL_DONE;
}

/* What rows of the position's table are named. Its database is that of `seen`. */
static void thing_of(const struct pg_source *s, const struct pg_seen *seen, char out[256]) {
    if (seen->cluster)
        snprintf(out, 256, "postgres %.31s/%u/%u", s->link.cluster, seen->database, s->seen.table);
    else
        snprintf(out, 256, "postgres %.119s %u/%u", s->where, seen->database, s->seen.table);
}

/* As versions did that named no identity. */
static void thing_by_name(const struct pg_source *s, char out[256]) {
    snprintf(out, 256, "postgres %.110s %.63s%s%.63s", s->where, s->schema != NULL ? s->schema : "",
             s->schema != NULL ? "." : "", s->table);
}

/* What the rows up to the position that was read were named, as far as it can be told: it has only
 * a hash of cluster and database. */
static void named_before(struct pg_source *s, const struct pg_seen *now) {
    if (s->known && s->by_name)
        thing_by_name(s, s->thing);
    else if (s->known && now->cluster == s->seen.cluster && now->place == s->seen.place)
        thing_of(s, now, s->thing);
}

/* Looks at the table; before the `rows` of a query are given (-1: the source opens). *again: they
 * are void, and the query is to be made again. */
static int look(struct pg_source *s, int rows, struct pg_seen *now, bool *again, pawl_fault *f) {
    char what[160];
    bool had = s->have;
    int outcome = pg_see(&s->link, s->from, now, f);
    *again = false;
    if (outcome != PAWL_DONE || !s->have)
        return outcome;
    bool file = now->file != s->seen.file;
    if (rows < 0) /* later `seen` may be another table's */
        named_before(s, now);
    if (!s->known) {
        pawl_source_report(s->context, 1, "%s: the table is known from now on as oid %u", s->table,
                           now->table);
        s->seen = *now;
        s->known = true;
    }
    if (now->cluster == s->seen.cluster && now->place != s->seen.place) {
        outcome = replaced(s, now, "the position is of another cluster or database", f);
    } else if (now->table != s->seen.table) {
        snprintf(what, sizeof what, "the position is of another table: its oid was %u and is %u",
                 s->seen.table, now->table);
        outcome = replaced(s, now, what, f);
    } else if (file || rows <= 0) {
        outcome = began_anew(s, now, f);
        /* of the new file or of the old one? */
        *again = file && rows > 0;
        if (outcome == PAWL_DONE)
            s->seen.file = now->file;
    }
    *again |= had && !s->have;
    return outcome;
}

static int read_stored(struct pg_source *s, pawl_source_context *x, uint8_t *kinds, pawl_fault *f) {
    uint8_t at[PAWL_SOURCE_POSITION_MAX];
    int n = pawl_source_position(x, "", at);
    if (n < 0)
        return connect_position_fault(n, f);
    if (n != 0 && ((n != 17 && n != 32) || at[0] != shape(s)))
        return pawl_fault_set(f, PAWL_FATAL,
                              "the position under this name is of other columns (key, txid)");
    s->have = n != 0;
    s->known = n == 32;
    s->thing[0] = 0;
    *kinds = 0;
    if (s->have) {
        s->first = (int64_t)connect_get_le(at + 1, 8);
        s->second = (int64_t)connect_get_le(at + 9, 8);
    }
    if (s->known) {
        s->seen = (struct pg_seen){.table = (uint32_t)connect_get_le(at + 17, 4),
                                   .place = (uint32_t)connect_get_le(at + 21, 3),
                                   .horizon = (uint32_t)connect_get_le(at + 25, 4),
                                   .file = (uint32_t)connect_get_le(at + 29, 3),
                                   .cluster = (at[24] & CLUSTER_KNOWN) != 0};
        *kinds = (uint8_t)(at[24] & ~(CLUSTER_KNOWN | NAMED));
        s->by_name = (at[24] & NAMED) == 0;
    }
    return PAWL_DONE;
}

static void store(const struct pg_source *s, pawl_source_batch *out) {
    out->position[0] = shape(s);
    connect_put_le(out->position + 1, (uint64_t)s->first, 8);
    connect_put_le(out->position + 9, (uint64_t)s->second, 8);
    connect_put_le(out->position + 17, s->seen.table, 4);
    connect_put_le(out->position + 21, s->seen.place, 3);
    out->position[24] = (uint8_t)(s->kinds | NAMED | (s->seen.cluster ? CLUSTER_KNOWN : 0));
    connect_put_le(out->position + 25, s->seen.horizon, 4);
    connect_put_le(out->position + 29, s->seen.file, 3);
    out->position_len = 32;
}

static int source_open(void *self, pawl_source_context *x, pawl_fault *f) {
    struct pg_source *s = self;
    struct pg_seen now;
    uint8_t kinds = 0;
    bool again;
    s->context = x;
    int rc = read_stored(s, x, &kinds, f);
    s->poll_at_ns = 0;
    if (rc == PAWL_DONE)
        rc = session(s, f);
    if (rc == PAWL_DONE)
        rc = prepare(s, f);
    if (rc == PAWL_DONE && s->known && kinds != s->kinds)
        return pawl_fault_set(f, PAWL_FATAL,
                              "the columns of %.60s have other types than those of the position "
                              "under this name: give the source another name",
                              s->table);
    return rc == PAWL_DONE ? look(s, -1, &now, &again, f) : rc;
}

/* Without a second column, a full result may end between rows of one value. These rows are left to
 * the next query, which begins before them. */
static int whole_values(struct pg_source *s, int rows, int most, pawl_fault *f) {
    if (shape(s) != 1 || rows < most)
        return rows;
    const char *last = PQgetvalue(s->rows, rows - 1, 0);
    int n = rows;
    while (n > 0 && strcmp(PQgetvalue(s->rows, n - 1, 0), last) == 0)
        n--;
    if (n == 0)
        return -pawl_fault_set(
            f, PAWL_FATAL,
            "%d rows and more have the same %s: raise fetch and batch_records, or give a key", rows,
            s->column);
    return n;
}

/* A value as a place. Values below 0 all count as 0. */
static uint64_t place_of(const char *value) {
    int64_t n = strtoll(value, NULL, 10);
    return n > 0 ? (uint64_t)n : 0;
}

/* Names one interval. */
static void name(struct pg_source *s, pawl_outside *o, size_t rows) {
    if (pawl_source_origin(s->context, o, rows) < 0)
        pawl_source_report(s->context, 2,
                           "%s: the rows up to %lld can't be named; `pawl audit` will show a gap",
                           s->table, (long long)o->to);
}

/* The position goes on in what has another name than what it was read from: a table that was
 * adopted, or names of an earlier version. */
static void name_change(struct pg_source *s, const char *thing, uint64_t at) {
    pawl_outside o = PAWL_OUTSIDE_INIT;
    o.thing = thing;
    o.unit = PAWL_OUTSIDE_ROWS;
    o.to = at;
    if (s->thing[0] != 0) {
        o.from = at;
        o.note = s->thing;
        o.flags = PAWL_OUTSIDE_CONTINUES;
    } else {
        o.note = "up to the position, which is of another cluster or database, or was not named";
        o.flags = PAWL_OUTSIDE_BEGINS | PAWL_OUTSIDE_PASSED;
    }
    name(s, &o, 0);
}

/* Names the rows: those after the last batch's last one, up to this batch's. Their numbers are the
 * values of the position's first column; rows of one value may be in two batches. */
static void name_rows(struct pg_source *s, int rows) {
    pawl_outside o = PAWL_OUTSIDE_INIT;
    char thing[256], note[256];
    for (int i = 0; i < rows; i++)
        s->marks[i] = place_of(PQgetvalue(s->rows, i, 0));
    thing_of(s, &s->seen, thing);
    snprintf(note, sizeof note, "%.63s%s%.63s by %.63s at %.50s",
             s->schema != NULL ? s->schema : "", s->schema != NULL ? "." : "", s->table,
             s->txid != NULL ? s->txid : s->column, s->where);
    o.from = s->have ? (uint64_t)(s->first > 0 ? s->first : 0) : s->marks[0];
    if (s->have && strcmp(thing, s->thing) != 0)
        name_change(s, thing, o.from);
    snprintf(s->thing, sizeof s->thing, "%s", thing);
    o.thing = thing;
    o.note = note;
    o.unit = PAWL_OUTSIDE_ROWS;
    o.to = s->marks[rows - 1];
    o.flags = s->have ? 0 : PAWL_OUTSIDE_BEGINS;
    o.mark_kind = PAWL_MARKS_GIVEN;
    o.marks = s->marks;
    o.mark_count = (uint64_t)rows;
    name(s, &o, (size_t)rows);
}

static int give(struct pg_source *s, int rows, pawl_source_batch *out) {
    int64_t now_ns = connect_wall_ns();
    name_rows(s, rows);
    for (int i = 0; i < rows; i++) {
        int key = PQgetlength(s->rows, i, 2);
        s->records[i] = (pawl_record){.value = PQgetvalue(s->rows, i, 3),
                                      .value_len = (uint32_t)PQgetlength(s->rows, i, 3),
                                      .timestamp_ns = now_ns};
        if (!PQgetisnull(s->rows, i, 2)) {
            if (key > UINT16_MAX)
                pawl_source_report(s->context, 2,
                                   "%s: the key of the row %lld has %d bytes; the record gets the "
                                   "first 65,535",
                                   s->table, strtoll(PQgetvalue(s->rows, i, 0), NULL, 10), key);
            s->records[i].key = PQgetvalue(s->rows, i, 2);
            s->records[i].key_len = (uint16_t)(key < UINT16_MAX ? key : UINT16_MAX);
        }
    }
    s->first = strtoll(PQgetvalue(s->rows, rows - 1, 0), NULL, 10);
    s->second = strtoll(PQgetvalue(s->rows, rows - 1, 1), NULL, 10);
    if (!s->have) { /* from now on the query starts at a position */
        free(s->query);
        s->query = NULL;
        s->have = true;
    }
    out->item = "";
    out->records = s->records;
    out->count = (size_t)rows;
    store(s, out);
    pthread_mutex_lock(&s->mutex);
    snprintf(s->shown, sizeof s->shown, "%.100s: %.60s, %.60s up to %lld", s->where, s->table,
             s->txid != NULL ? s->txid : s->column, (long long)s->first);
    pthread_mutex_unlock(&s->mutex);
    return PAWL_DONE;
}

static int source_read(void *self, pawl_source_batch *out, size_t max_records, size_t max_bytes,
                       int timeout_ms, pawl_fault *f) {
    struct pg_source *s = self;
    char first[24], second[24], limit[24];
    const char *values[] = {first, second, limit};
    int most = (int)(max_records < s->fetch ? max_records : s->fetch);
    uint64_t now_ns = connect_now(NULL);
    struct pg_seen now;
    bool again;
    (void)max_bytes; /* `fetch` limits the batch instead */
    if (now_ns < s->poll_at_ns) {
        uint64_t left_ms = (s->poll_at_ns - now_ns) / 1000000 + 1;
        connect_idle(s->context, (uint64_t)timeout_ms < left_ms ? timeout_ms : (int)left_ms);
        return PAWL_DONE;
    }
    int outcome = s->query == NULL ? prepare(s, f) : PAWL_DONE;
    if (outcome != PAWL_DONE)
        return outcome;
    snprintf(first, sizeof first, "%lld", (long long)s->first);
    snprintf(second, sizeof second, "%lld", (long long)s->second);
    snprintf(limit, sizeof limit, "%d", most);
    PQclear(s->rows);
    s->rows = NULL;
    outcome = pg_query(&s->link, s->query, 3, values, (struct pg_shape){4, 0, most}, &s->rows, f);
    if (outcome != PAWL_DONE)
        return outcome;
    int rows = PQntuples(s->rows);
    s->poll_at_ns = rows < most ? now_ns + s->poll_ms * 1000000u : 0;
    outcome = look(s, rows, &now, &again, f);
    s->poll_at_ns = again ? 0 : s->poll_at_ns;
    if (outcome != PAWL_DONE || again)
        return outcome;
    rows = whole_values(s, rows, most, f);
    if (rows <= 0)
        return -rows;
    s->seen = now;
    s->known = true;
    return give(s, rows, out);
}

static void source_status(void *self, char *text, size_t size) {
    struct pg_source *s = self;
    pthread_mutex_lock(&s->mutex);
    snprintf(text, size, "%s", s->shown);
    pthread_mutex_unlock(&s->mutex);
}

static void source_destroy(void *self) {
    struct pg_source *s = self;
    char *texts[] = {s->conninfo, s->password, s->schema,     s->table, s->column,
                     s->key,      s->txid,     s->record_key, s->value};
    forget(s);
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        free(texts[i]);
    free(s->records);
    free(s->marks);
    pthread_mutex_destroy(&s->mutex);
    free(s);
}

static int make(const pawl_settings *g, pawl_source_ops *out, pawl_error *err);

const pawl_connector connect_source_postgres = {
    .type = "postgres",
    .help = "rows of a PostgreSQL table, polled by a column that grows",
    .settings = settings,
    .make_source = make,
};

static bool copy(const pawl_settings *g, const char *name, char **out) {
    const char *text = pawl_setting_text(&connect_source_postgres, g, name);
    *out = text != NULL && text[0] != 0 ? strdup(text) : NULL;
    return *out != NULL || text == NULL || text[0] == 0;
}

static int make(const pawl_settings *g, pawl_source_ops *out, pawl_error *err) {
    const pawl_connector *c = &connect_source_postgres;
    static const char *const names[] = {"table", "schema",     "column", "key",
                                        "txid",  "record_key", "value"};
    uint64_t fetch = pawl_setting_number(c, g, "fetch");
    uint64_t times[] = {pawl_setting_number(c, g, "connect_timeout"),
                        pawl_setting_number(c, g, "statement_timeout")};
    for (size_t i = 0; i < 2; i++)
        if (times[i] == 0 || times[i] > 3600000)
            return connect_error(err, PAWL_INVALID,
                                 "connect_timeout and statement_timeout are 1ms to 1h");
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const char *text = pawl_setting_text(c, g, names[i]);
        if (text != NULL && strlen(text) > 63)
            return connect_error(err, PAWL_INVALID, "%s: a name of PostgreSQL has at most 63 bytes",
                                 names[i]);
    }
    if (fetch < 1 || fetch > FETCH_MAX)
        return connect_error(err, PAWL_INVALID, "fetch must be 1 to %u", FETCH_MAX);
    if (pawl_setting_text(c, g, "key") != NULL && pawl_setting_text(c, g, "txid") != NULL)
        return connect_error(err, PAWL_INVALID,
                             "with txid, the column itself tells rows apart: no key");
    struct pg_source *s = calloc(1, sizeof *s);
    if (s == NULL)
        return connect_error(err, PAWL_MEMORY, "no memory for a source");
    pthread_mutex_init(&s->mutex, NULL);
    s->link.connect_ms = (uint32_t)times[0];
    s->link.statement_ms = (uint32_t)times[1];
    s->link.copied = "";
    s->fetch = fetch;
    s->lag_ms = pawl_setting_number(c, g, "lag");
    s->poll_ms = pawl_setting_number(c, g, "poll");
    s->on_replaced = connect_setting_choice(c, g, "on_replaced");
    s->records = calloc(fetch, sizeof *s->records);
    s->marks = calloc(fetch, sizeof *s->marks);
    if (s->records == NULL || s->marks == NULL || !copy(g, "conninfo", &s->conninfo) ||
        !copy(g, "password", &s->password) || !copy(g, "table", &s->table) ||
        !copy(g, "schema", &s->schema) || !copy(g, "column", &s->column) ||
        !copy(g, "key", &s->key) || !copy(g, "txid", &s->txid) ||
        !copy(g, "record_key", &s->record_key) || !copy(g, "value", &s->value)) {
        source_destroy(s);
        return connect_error(err, PAWL_MEMORY, "no memory for a source");
    }
    if (s->table == NULL || s->column == NULL || s->conninfo == NULL) {
        source_destroy(s);
        return connect_error(err, PAWL_INVALID, "conninfo, table and column must not be empty");
    }
    int rc = pg_conninfo(s->conninfo, s->where, sizeof s->where, err);
    if (rc < 0) {
        source_destroy(s);
        return rc;
    }
    s->link.conninfo = s->conninfo;
    s->link.password = s->password;
    snprintf(s->shown, sizeof s->shown, "%.100s: %.60s", s->where, s->table);
    *out = (pawl_source_ops){.struct_size = sizeof *out,
                             .flags = PAWL_SOURCE_REWINDABLE | PAWL_SOURCE_STRANGERS,
                             .type = c->type,
                             .self = s,
                             .open = source_open,
                             .read = source_read,
                             .status = source_status,
                             .destroy = source_destroy};
    return 0;
}
