/* SPDX-License-Identifier: Apache-2.0 */
/* A PostgreSQL server that lies: libpq's functions are these, and each answer is the honest one, or
 * as the input changes it: another status, other values, another number of rows and columns, no
 * end. The source and the three kinds of sinks live with it: no memory error, no call that doesn't
 * return, no more records than were asked for. */
#include <libpq-fe.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "pawl_connect.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool well) {
    if (!well)
        abort();
}

/* ---- the input: what the next answer is changed by */

/* What was read of records goes here, so that it is read. */
static volatile uint32_t read_bytes;

static const uint8_t *input, *input_end;

static uint8_t byte(void) {
    return input < input_end ? *input++ : 0;
}

/* A text of at most 47 bytes. */
static void text_of(char out[48]) {
    uint32_t n = byte() % 48u;
    for (uint32_t i = 0; i < n; i++)
        out[i] = (char)byte();
    out[n] = 0;
}

/* ---- answers */

#define CELLS 6u
struct pg_result {
    ExecStatusType status;
    int rows, columns;
    bool null;
    char tag[48], changed[48];
    char cell[CELLS][48]; /* by column, of every row */
};
struct pg_conn {
    char sql[600]; /* what was sent; "": answered */
    int answers;   /* to it, so far */
    bool copying, bad;
    PGresult out; /* of a COPY that never ends */
};

static int wake_fd = -1;
static uint64_t allocated; /* answers that nobody cleared */

static const struct honest {
    const char *in; /* the statement has these words */
    int rows;
    const char *cells[CELLS];
} honest[] = {
    {"system_identifier", 1, {"7012"}},
    {"current_database()), $1::regclass::oid", 1, {"5", "16384"}},
    {"relkind IN", 1, {"16384", "5", "16390", "900", "t"}},
    {"LIMIT 0", 0, {"1"}},
    {"set_config('TimeZone'", 1, {"1", "UTC", "on"}},
    {"set_config('lock_timeout'", 1, {"1", "1", "0", ""}},
    {"SELECT EXISTS", 1, {"t", "f", "f"}},
    {"LIMIT $3", 3, {"17", "4", "key", "{\"a\":1}"}},
    {"SELECT position", 1, {"10"}},
    {"pg_advisory_lock(", 1, {""}},
    {"bool_or(l.pid", 1, {"t"}},
    {"string_agg(l.pid", 1, {"77"}},
    {"a.attname", 1, {"v", "text", "text", "", "16384"}},
    {"to_regclass", 1, {"t"}},
    {"::regclass::oid = $2", 1, {"t"}},
    {"max_prepared_transactions", 1, {"10"}},
    {"pg_prepared_xacts", 2, {"pawl-00000000000000000000000000000000-s-1-0-0-10"}},
    {"array_agg(log_id)", 0, {""}},
};

static void be_honest(const char *sql, PGresult *r) {
    static const char *const tags[] = {"COMMIT", "BEGIN", "PREPARE", "ROLLBACK", "COPY"};
    const char *last = sql;
    *r = (PGresult){.status = PGRES_COMMAND_OK, .changed = "1"};
    for (const char *at = sql; (at = strchr(at, ';')) != NULL && at[1] != 0; last = at)
        at += 1 + (at[1] == ' ');
    for (size_t i = 0; i < sizeof tags / sizeof *tags; i++)
        if (strncmp(last, tags[i], strlen(tags[i])) == 0)
            snprintf(r->tag, sizeof r->tag, "%s", tags[i]);
    if (strstr(sql, "FROM STDIN") != NULL)
        r->status = PGRES_COPY_IN;
    for (size_t i = 0; i < sizeof honest / sizeof *honest; i++) {
        if (strstr(sql, honest[i].in) == NULL)
            continue;
        r->status = PGRES_TUPLES_OK;
        r->rows = honest[i].rows;
        for (; r->columns < (int)CELLS && honest[i].cells[r->columns] != NULL; r->columns++)
            snprintf(r->cell[r->columns], 48, "%s", honest[i].cells[r->columns]);
        return;
    }
}

static void lie(PGresult *r) {
    static const int counts[] = {0, 1, 2, 4, 7, 8, 9, 100, 20000, INT32_MAX};
    switch (byte() % 10) {
    case 1:
        r->status = (ExecStatusType)(byte() % 12);
        break;
    case 2:
        r->rows = counts[byte() % 9];
        break;
    case 3:
        r->columns = counts[byte() % 7];
        break;
    case 4:
        text_of(r->cell[byte() % CELLS]);
        break;
    case 5:
        r->null = true;
        break;
    case 6:
        text_of(r->tag);
        break;
    case 7:
        text_of(r->changed);
        break;
    case 8:
        text_of(r->cell[0]);
        text_of(r->cell[1]);
        break;
    default:
        break;
    }
}

/* ---- libpq */

PGconn *PQconnectStartParams(const char *const *keywords, const char *const *values, int expand) {
    (void)keywords, (void)values, (void)expand;
    return calloc(1, sizeof(PGconn));
}
void PQfinish(PGconn *c) {
    free(c);
}
PostgresPollingStatusType PQconnectPoll(PGconn *c) {
    (void)c;
    return byte() == 200 ? PGRES_POLLING_FAILED : PGRES_POLLING_OK;
}
ConnStatusType PQstatus(const PGconn *c) {
    return c == NULL || c->bad ? CONNECTION_BAD : CONNECTION_OK;
}
PGTransactionStatusType PQtransactionStatus(const PGconn *c) {
    (void)c;
    return (PGTransactionStatusType)(byte() % 5);
}
char *PQerrorMessage(const PGconn *c) {
    static char text[64] = "ERROR:  40001: ";
    (void)c;
    text_of(text + 15);
    return text;
}
char *PQpass(const PGconn *c) {
    (void)c;
    return NULL;
}
int PQsocket(const PGconn *c) {
    return c == NULL ? -1 : wake_fd;
}
PGVerbosity PQsetErrorVerbosity(PGconn *c, PGVerbosity v) {
    (void)c;
    return v;
}
PQnoticeProcessor PQsetNoticeProcessor(PGconn *c, PQnoticeProcessor p, void *arg) {
    (void)c, (void)p, (void)arg;
    return NULL;
}
int PQsetnonblocking(PGconn *c, int on) {
    (void)c, (void)on;
    return 0;
}
int PQsendQuery(PGconn *c, const char *sql) {
    if (c == NULL || c->bad)
        return 0;
    snprintf(c->sql, sizeof c->sql, "%s", sql);
    c->answers = 0;
    return 1;
}
int PQsendQueryParams(PGconn *c, const char *sql, int n, const Oid *types,
                      const char *const *values, const int *lengths, const int *formats,
                      int format) {
    (void)types, (void)lengths, (void)formats, (void)format;
    for (int i = 0; i < n; i++)
        must(values[i] == NULL || strlen(values[i]) < (1u << 20));
    return PQsendQuery(c, sql);
}
int PQflush(PGconn *c) {
    (void)c;
    return byte() == 201 ? -1 : 0;
}
int PQconsumeInput(PGconn *c) {
    c->bad = byte() == 202;
    return !c->bad;
}
int PQisBusy(PGconn *c) {
    (void)c;
    return byte() == 203;
}
PGresult *PQgetResult(PGconn *c) {
    PGresult *r;
    if (c == NULL || (c->sql[0] == 0 && c->out.status != PGRES_COPY_OUT))
        return NULL;
    r = malloc(sizeof *r);
    must(r != NULL);
    allocated++;
    if (c->out.status == PGRES_COPY_OUT || c->out.status == PGRES_COPY_BOTH) {
        *r = c->out; /* as the real one, again and again */
        return r;
    }
    be_honest(c->sql, r);
    uint8_t lies = byte();
    for (uint32_t i = 0; i < lies % 4u; i++)
        lie(r);
    if (r->status == PGRES_COPY_OUT || r->status == PGRES_COPY_BOTH)
        c->out = *r;
    /* 199: another answer, to the same */
    if (lies != 199 || c->answers++ > 1000)
        c->sql[0] = 0;
    return r;
}
void PQclear(PGresult *r) {
    allocated -= r != NULL;
    free(r);
}
ExecStatusType PQresultStatus(const PGresult *r) {
    return r != NULL ? r->status : PGRES_FATAL_ERROR;
}
char *PQresultErrorField(const PGresult *r, int field) {
    static char text[48];
    (void)field;
    if (r == NULL || byte() % 3 == 0)
        return NULL;
    text_of(text);
    return text;
}
char *PQresultErrorMessage(const PGresult *r) {
    static char text[48];
    (void)r;
    text_of(text);
    return text;
}
char *PQcmdStatus(PGresult *r) {
    return r != NULL ? r->tag : NULL;
}
char *PQcmdTuples(PGresult *r) {
    static char none[1];
    return r != NULL ? r->changed : none;
}
int PQntuples(const PGresult *r) {
    return r != NULL ? r->rows : 0;
}
int PQnfields(const PGresult *r) {
    return r != NULL ? r->columns : 0;
}
static bool inside(const PGresult *r, int row, int column) {
    return r != NULL && row >= 0 && row < r->rows && column >= 0 && column < r->columns;
}
Oid PQftype(const PGresult *r, int column) {
    return r != NULL && column >= 0 && column < r->columns ? byte() == 0 ? 20 : 1184 : 0;
}
char *PQgetvalue(const PGresult *r, int row, int column) {
    return inside(r, row, column) ? ((PGresult *)(uintptr_t)r)->cell[column % (int)CELLS] : NULL;
}
int PQgetlength(const PGresult *r, int row, int column) {
    return inside(r, row, column) ? (int)strlen(r->cell[column % (int)CELLS]) : 0;
}
int PQgetisnull(const PGresult *r, int row, int column) {
    return !inside(r, row, column) || r->null;
}
int PQputCopyData(PGconn *c, const char *bytes, int n) {
    for (int i = 0; i < n; i++)
        must(bytes[i] != 0);
    return c->bad || byte() == 204 ? -1 : 1;
}
int PQputCopyEnd(PGconn *c, const char *why) {
    (void)why;
    snprintf(c->sql, sizeof c->sql, "COPY");
    return 1;
}
PQconninfoOption *PQconninfoParse(const char *conninfo, char **why) {
    (void)conninfo, (void)why;
    return calloc(1, sizeof(PQconninfoOption));
}
void PQconninfoFree(PQconninfoOption *o) {
    free(o);
}
void PQfreemem(void *p) {
    free(p);
}

/* ---- what the source's run-time gives */

int __wrap_pawl_source_position(pawl_source_context *x, const char *item, void *position);
int __wrap_pawl_source_position(pawl_source_context *x, const char *item, void *position) {
    (void)x, (void)item;
    if (byte() % 2 == 0)
        return 0;
    uint32_t n = byte() % (PAWL_SOURCE_POSITION_MAX + 1u);
    for (uint32_t i = 0; i < n; i++)
        ((uint8_t *)position)[i] = byte();
    return (int)n;
}
void __wrap_pawl_source_report(pawl_source_context *x, int severity, const char *format, ...);
void __wrap_pawl_source_report(pawl_source_context *x, int severity, const char *format, ...) {
    (void)x, (void)severity;
    must(format != NULL);
}
int __wrap_pawl_source_origin(pawl_source_context *x, const pawl_outside *o, uint64_t records);
int __wrap_pawl_source_origin(pawl_source_context *x, const pawl_outside *o, uint64_t records) {
    (void)x;
    must(o->thing != NULL && (o->marks == NULL || o->mark_count == records));
    return 0;
}
void __wrap_connect_idle(pawl_source_context *x, int ms);
void __wrap_connect_idle(pawl_source_context *x, int ms) {
    (void)x, (void)ms;
}

/* ---- the two ends */

#define RECORDS 8
static const pawl_setting source_items[] = {{"conninfo", "dbname=x", 1},
                                            {"table", "t", 2},
                                            {"column", "id", 3},
                                            {"fetch", "20", 4},
                                            {"poll", "1ms", 5},
                                            {"on_replaced", "read", 6},
                                            {"key", "k", 7}};

static void run_source(void) {
    pawl_source_ops ops = PAWL_SOURCE_OPS_INIT;
    pawl_error e;
    uint8_t which = byte();
    pawl_settings set = {.items = source_items, .count = 6u + which % 2};
    must(pawl_source_make("postgres", &set, &ops, &e) == 0);
    pawl_fault f = {0};
    int rc = ops.open(ops.self, NULL, &f);
    for (int i = 0; i < 6 && rc == PAWL_DONE; i++) {
        pawl_source_batch b = {0};
        rc = ops.read(ops.self, &b, RECORDS, 1u << 20, 0, &f);
        must(rc != PAWL_DONE || (b.count <= RECORDS && b.position_len <= PAWL_SOURCE_POSITION_MAX));
        uint32_t sum = 0;
        for (size_t k = 0; rc == PAWL_DONE && k < b.count; k++) {
            for (size_t n = 0; n < b.records[k].value_len; n++)
                sum += ((const uint8_t *)b.records[k].value)[n];
            for (size_t n = 0; n < b.records[k].key_len; n++)
                sum += ((const uint8_t *)b.records[k].key)[n];
        }
        read_bytes = sum;
    }
    must(rc == PAWL_DONE || f.message[0] != 0);
    ops.destroy(ops.self);
}

static void on_prepared(void *arg, const char *name) {
    must(name != NULL);
    *(uint64_t *)arg += strlen(name);
}

static int one_batch(const pawl_sink_ops *s, const pawl_sink_batch *b, pawl_fault *f) {
    const pawl_record r = {.value = "{\"v\":\"x\"}", .value_len = 9, .offset = 10};
    uint64_t at;
    int rc = s->position != NULL ? s->position(s->self, b, &at, f) : PAWL_DONE;
    if (rc == PAWL_DONE || rc == PAWL_GONE)
        rc = s->begin(s->self, b, f);
    if (rc == PAWL_DONE)
        rc = s->write(s->self, b, &r, 1, f);
    if (rc == PAWL_DONE && s->kind == PAWL_SINK_TWO_PHASE)
        rc = s->prepare(s->self, b, f);
    else if (rc == PAWL_DONE)
        rc = s->commit(s->self, b, f);
    if (rc == PAWL_DONE && s->kind == PAWL_SINK_TWO_PHASE)
        rc = s->commit_prepared(s->self, b, f);
    if (rc == PAWL_GONE && s->committed != NULL)
        rc = s->committed(s->self, b, f);
    return rc;
}

static void run_sink(void) {
    static const char *const kinds[] = {"transactional", "two-phase", "idempotent"};
    pawl_sink_ops ops = PAWL_SINK_OPS_INIT;
    pawl_error e = {0};
    uint8_t which = byte();
    pawl_setting items[] = {{"conninfo", "dbname=x", 1},
                            {"table", "t", 2},
                            {"columns.v", "$.v", 3},
                            {"kind", kinds[which % 3], 4},
                            {"conflict", "v", 5}};
    pawl_settings set = {.items = items, .count = which % 3 == 2 ? 5 : 4};
    must(pawl_sink_make("postgres", &set, &ops, &e) == 0);
    pawl_fault f = {0};
    pawl_sink_batch b = {.sink = "s", .stream = "in", .stream_id = 1, .name = ""};
    char text[200];
    uint64_t sum = 0;
    int rc = ops.open(ops.self, &b, &f);
    if (rc == PAWL_DONE && ops.identity != NULL)
        rc = ops.identity(ops.self, &b, text, sizeof text, &f);
    if (rc == PAWL_DONE && ops.kind == PAWL_SINK_TWO_PHASE)
        rc = ops.list_prepared(ops.self, "pawl-", on_prepared, &sum, &f);
    b.from = 10;
    b.to = 11;
    b.name = "pawl-00000000000000000000000000000000-s-1-0-10-11";
    for (int i = 0; i < 3 && rc == PAWL_DONE; i++) {
        rc = one_batch(&ops, &b, &f);
        if (rc != PAWL_DONE)
            ops.abort(ops.self);
    }
    if (ops.idle != NULL)
        (void)ops.idle(ops.self, &f);
    ops.destroy(ops.self);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size > 4096)
        return 0;
    if (wake_fd < 0)
        wake_fd = eventfd(1, EFD_CLOEXEC);
    must(wake_fd >= 0);
    input = data;
    input_end = size != 0 ? data + size : data;
    allocated = 0;
    if (byte() % 2 == 0)
        run_source();
    else
        run_sink();
    must(allocated == 0);
    return 0;
}
