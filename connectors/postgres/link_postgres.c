/* SPDX-License-Identifier: Apache-2.0
 *
 * The connection. libpq is used in non-blocking mode, and each wait has a limit. The server's own
 * time limits come first; if the server doesn't even report those, the connection is closed. The
 * effect of the statement in flight is then unknown: the runtime opens the sink again and recovers.
 *
 *   SQLSTATE                                                             outcome
 *   none (connection lost, no answer in time), 08...                     RETRY
 *   21... cardinality, 22... data, 23... constraints, 38/39... in a       POISON while rows are
 *     routine, 44... view check, 54... too large, P0... raised           copied, inserted,
 *                                                                        committed or prepared: a
 *                                                                        record can be at fault;
 *                                                                        FATAL elsewhere
 *   25006 read-only (a standby), 25P03/57P05 idle too long, 40...        RETRY
 *     rolled back, 53... resources (disk full, connections), 55006 in
 *     use, 55P03 lock, 57... stopped or cancelled, 58... system
 *   57P04 database dropped                                               FATAL
 *   anything else: 28... password, 3D/3F... no such database or schema,  FATAL
 *     42... no such table or column, no permission, 55000 two-phase off
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "connectors/postgres/link_postgres.h"

#define UNSENT_MAX (1u << 20) /* bytes that libpq may buffer for a slow server */
#define COPY_MAX (1u << 24)
#define RESULTS_MAX 100 /* of one call: more than any has statements */
#define GRACE_MS 5000   /* the server's time to report that its own limit has passed */

static _Thread_local char last_state[6];

/* ---- the outcome of an answer */

static int outcome_of(const char *state, bool rows) {
    static const char *const poison[] = {"21", "22", "23", "38", "39", "44", "54", "P0"},
                             *const retry[] = {"08",    "25006", "25P03", "40", "53",
                                               "55006", "55P03", "57",    "58"};
    if (state == NULL || state[0] == 0)
        return PAWL_RETRY;
    for (size_t i = 0; rows && i < sizeof poison / sizeof poison[0]; i++)
        if (strncmp(state, poison[i], strlen(poison[i])) == 0)
            return PAWL_POISON;
    for (size_t i = 0; i < sizeof retry / sizeof retry[0] && strcmp(state, "57P04") != 0; i++)
        if (strncmp(state, retry[i], strlen(retry[i])) == 0)
            return PAWL_RETRY;
    return PAWL_FATAL;
}

const char *pg_state(void) {
    return last_state;
}

static void set_state(const char *state) {
    snprintf(last_state, sizeof last_state, "%s", state != NULL ? state : "");
}

/* The offset of the row at fault, from the server's context: "COPY TABLE, line N". Only for errors
 * that the server raises while it processes that line; else UINT64_MAX. */
static uint64_t offset_of(const struct pg_link *l, const PGresult *r, const char *state) {
    const char *at = PQresultErrorField(r, PG_DIAG_CONTEXT);
    char begin[160];
    unsigned long long line;
    if (strncmp(state, "22", 2) != 0 && strncmp(state, "23", 2) != 0 &&
        strncmp(state, "P0", 2) != 0)
        return UINT64_MAX;
    int n = snprintf(begin, sizeof begin, "COPY %s, line ", l->copied);
    for (; at != NULL && n < (int)sizeof begin; at = strchr(at, '\n')) {
        at += *at == '\n';
        if (strncmp(at, begin, (size_t)n) != 0)
            continue;
        line = strtoull(at + n, NULL, 10);
        return line >= 1 && line <= l->rows ? l->first + line - 1 : UINT64_MAX;
    }
    return UINT64_MAX;
}

static void trim(char *text) {
    for (size_t n = strlen(text); n > 0 && (text[n - 1] == '\n' || text[n - 1] == ' '); n--)
        text[n - 1] = 0;
}

/* libpq's message; its length without what is blank at the end. It is not cut before secrets are
 * hidden in it. */
static const char *message(const struct pg_link *l, int *len) {
    const char *text = l->conn != NULL ? PQerrorMessage(l->conn) : "";
    size_t n = strlen(text);
    while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == ' '))
        n--;
    *len = n < 4096 ? (int)n : 4096;
    return text;
}

int pg_lost(struct pg_link *l, const char *what, pawl_fault *f) {
    int len;
    const char *text = message(l, &len);
    set_state(NULL);
    return len != 0 ? pawl_fault_set(f, PAWL_RETRY, "%s: %.*s", what, len, text)
                    : pawl_fault_set(f, PAWL_RETRY, "%s: no connection", what);
}

static int answer(struct pg_link *l, const char *what, const PGresult *r, bool rows,
                  pawl_fault *f) {
    const char *state = PQresultErrorField(r, PG_DIAG_SQLSTATE);
    if (state == NULL || state[0] == 0)
        return pg_lost(l, what, f);
    const char *detail = PQresultErrorField(r, PG_DIAG_MESSAGE_DETAIL);
    const char *text = PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY);
    int outcome = outcome_of(state, rows);
    set_state(state);
    if (outcome == PAWL_POISON && f != NULL)
        f->offset = l->rows == 1 ? l->first : offset_of(l, r, state);
    return pawl_fault_set(f, outcome, "%s: %s (SQLSTATE %s)%s%s", what, text != NULL ? text : "",
                          last_state, detail != NULL ? ": " : "", detail != NULL ? detail : "");
}

/* ---- waiting */

static uint64_t now_ms(void) {
    return connect_now(NULL) / 1000000;
}

static uint64_t limit(const struct pg_link *l) {
    return now_ms() + l->statement_ms + GRACE_MS;
}

/* False: the time limit has passed. */
static bool wait_socket(PGconn *c, short events, uint64_t until) {
    struct pollfd p = {.fd = PQsocket(c), .events = events};
    for (;;) {
        uint64_t now = now_ms();
        int rc = now >= until ? 0 : poll(&p, 1, until - now > 60000 ? 60000 : (int)(until - now));
        if (rc > 0)
            return true;
        if ((rc < 0 && errno != EINTR) || (rc == 0 && now_ms() >= until))
            return false;
    }
}

static int give_up(struct pg_link *l, const char *what, pawl_fault *f) {
    pg_disconnect(l);
    set_state(NULL);
    return pawl_fault_set(f, PAWL_RETRY, "%s: the server has not answered within %u ms", what,
                          l->statement_ms + GRACE_MS);
}

/* Sends all bytes that libpq has buffered. DONE or RETRY. */
static int flush(struct pg_link *l, const char *what, pawl_fault *f) {
    uint64_t until = limit(l);
    int rc;
    while ((rc = PQflush(l->conn)) == 1) {
        if (!wait_socket(l->conn, POLLIN | POLLOUT, until))
            return give_up(l, what, f);
        if (PQconsumeInput(l->conn) == 0)
            return pg_lost(l, what, f);
    }
    l->unsent = 0;
    return rc == 0 ? PAWL_DONE : pg_lost(l, what, f);
}

/* Gets the next result; NULL if there is none. */
static int next(struct pg_link *l, const char *what, PGresult **out, pawl_fault *f) {
    uint64_t until = limit(l);
    *out = NULL;
    while (PQisBusy(l->conn)) {
        if (!wait_socket(l->conn, POLLIN, until))
            return give_up(l, what, f);
        if (PQconsumeInput(l->conn) == 0)
            return pg_lost(l, what, f);
    }
    *out = PQgetResult(l->conn);
    return PAWL_DONE;
}

/* ---- statements */

/* Nothing that is sent here begins such a COPY; libpq gives its result again and again. */
static bool endless(ExecStatusType status) {
    return status == PGRES_COPY_OUT || status == PGRES_COPY_BOTH;
}

static int no_end(struct pg_link *l, const char *what, pawl_fault *f) {
    pg_disconnect(l);
    set_state(NULL);
    return pawl_fault_set(f, PAWL_RETRY, "%s: the server's answers have no end", what);
}

/* Reads all results of what was sent. *last gets the last one, if all are good and `last` isn't
 * NULL. After an error the remaining results are read and dropped. */
static int results(struct pg_link *l, const char *what, bool rows, const char *tag, PGresult **last,
                   pawl_fault *f) {
    PGresult *r = NULL, *kept = NULL;
    int outcome = flush(l, what, f), count = 0;
    while (outcome == PAWL_DONE) {
        outcome = next(l, what, &r, f);
        if (outcome != PAWL_DONE || r == NULL)
            break;
        ExecStatusType status = PQresultStatus(r);
        if (endless(status) || count++ == RESULTS_MAX) {
            PQclear(r);
            outcome = no_end(l, what, f);
            break;
        }
        if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK && status != PGRES_COPY_IN)
            outcome = answer(l, what, r, rows, f);
        PQclear(kept);
        kept = r;
        if (status == PGRES_COPY_IN)
            break;
    }
    for (PGresult *more = NULL;
         outcome != PAWL_DONE && l->conn != NULL && PQstatus(l->conn) == CONNECTION_OK;
         PQclear(more))
        if (next(l, what, &more, NULL) != PAWL_DONE || more == NULL)
            break;
        else if (endless(PQresultStatus(more)) || count++ >= RESULTS_MAX)
            pg_disconnect(l);
    if (outcome == PAWL_DONE && tag != NULL &&
        /* a failed transaction ends with ROLLBACK */
        (kept == NULL || strncmp(PQcmdStatus(kept), tag, strlen(tag)) != 0))
        outcome = pawl_fault_set(f, PAWL_RETRY, "%s: the server answered %s", what,
                                 kept != NULL ? PQcmdStatus(kept) : "nothing");
    if (outcome == PAWL_DONE && last != NULL)
        *last = kept;
    else
        PQclear(kept);
    return outcome;
}

static int run(struct pg_link *l, const char *sql, const char *tag, bool rows, pawl_fault *f) {
    char what[40];
    snprintf(what, sizeof what, "%.*s", (int)strcspn(sql, "'\"(;"), sql);
    trim(what);
    if (l->conn == NULL || PQsendQuery(l->conn, sql) == 0)
        return pg_lost(l, what, f);
    return results(l, what, rows, tag, NULL, f);
}

int pg_run(struct pg_link *l, const char *sql, const char *tag, pawl_fault *f) {
    return run(l, sql, tag, false, f);
}

int pg_run_rows(struct pg_link *l, const char *sql, const char *tag, pawl_fault *f) {
    return run(l, sql, tag, true, f);
}

/* Whoever answers may answer anything. */
static int check_shape(const char *what, struct pg_shape shape, PGresult **r, pawl_fault *f) {
    int rows = PQntuples(*r), columns = PQnfields(*r);
    if (columns == shape.columns && rows >= shape.rows_min && rows <= shape.rows_max)
        return PAWL_DONE;
    PQclear(*r);
    *r = NULL;
    set_state(NULL);
    return pawl_fault_set(f, PAWL_RETRY,
                          "%s: the server answered with %d rows of %d columns, which is no answer "
                          "to what it was asked",
                          what, rows, columns);
}

int pg_query(struct pg_link *l, const char *sql, int count, const char *const *values,
             struct pg_shape shape, PGresult **out, pawl_fault *f) {
    char what[40];
    snprintf(what, sizeof what, "%.*s", (int)strcspn(sql, "'\"(;"), sql);
    trim(what);
    if (l->conn == NULL || PQsendQueryParams(l->conn, sql, count, NULL, values, NULL, NULL, 0) == 0)
        return pg_lost(l, what, f);
    int outcome = results(l, what, false, NULL, out, f);
    return outcome == PAWL_DONE && out != NULL ? check_shape(what, shape, out, f) : outcome;
}

/* ---- COPY */

int pg_copy_begin(struct pg_link *l, const char *sql, pawl_fault *f) {
    PGresult *r = NULL;
    l->out.used = 0;
    l->rows = 0;
    if (l->conn == NULL || PQsendQuery(l->conn, sql) == 0)
        return pg_lost(l, "COPY", f);
    int outcome = results(l, "COPY", false, NULL, &r, f);
    l->copying = outcome == PAWL_DONE && PQresultStatus(r) == PGRES_COPY_IN;
    PQclear(r);
    return outcome == PAWL_DONE && !l->copying ? pawl_fault_set(f, PAWL_RETRY, "COPY did not begin")
                                               : outcome;
}

int pg_copy_send(struct pg_link *l, pawl_fault *f) {
    if (l->out.used == 0)
        return PAWL_DONE;
    if (l->conn == NULL)
        return pg_lost(l, "COPY", f);
    int rc = 1;
    for (size_t at = 0, n; at < l->out.used && rc > 0; at += n) { /* libpq takes an int */
        n = l->out.used - at < COPY_MAX ? l->out.used - at : COPY_MAX;
        rc = PQputCopyData(l->conn, l->out.at + at, (int)n);
    }
    if (rc == 0)
        return pawl_fault_set(f, PAWL_RETRY, "COPY: no memory");
    l->unsent += l->out.used;
    l->out.used = 0;
    if (rc < 0 || (rc = PQflush(l->conn)) < 0)
        return pg_lost(l, "COPY", f);
    if (rc == 0)
        l->unsent = 0;
    return l->unsent > UNSENT_MAX ? flush(l, "COPY", f) : PAWL_DONE;
}

int pg_copy_end(struct pg_link *l, const char *why, pawl_fault *f) {
    int outcome = why == NULL ? pg_copy_send(l, f) : PAWL_DONE;
    l->copying = false;
    if (outcome != PAWL_DONE)
        return outcome;
    if (l->conn == NULL || PQputCopyEnd(l->conn, why) != 1)
        return pg_lost(l, "COPY", f);
    return results(l, "COPY", true, "COPY", NULL, f);
}

/* ---- connecting */

static void silent(void *arg, const char *message) {
    (void)arg;
    (void)message;
}

/* Finds the SQLSTATE in a message "SEVERITY:  28P01: text", which is libpq's verbose form. For a
 * failed connection libpq reports it nowhere else. */
static void state_of(const char *message, char out[6]) {
    out[0] = 0;
    for (const char *at = message; (at = strstr(at, ":  ")) != NULL; at += 3)
        if (strspn(at + 3, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") == 5 && at[8] == ':') {
            memcpy(out, at + 3, 5);
            out[5] = 0;
        }
}

static int refused(struct pg_link *l, pawl_fault *f) {
    char state[6];
    int len;
    const char *text = message(l, &len);
    state_of(text, state);
    set_state(state);
    int outcome = pawl_fault_set(f, outcome_of(state, false), "connecting: %.*s", len, text);
    pg_disconnect(l);
    return outcome;
}

int pg_connect(struct pg_link *l, pawl_fault *f) {
    const char *const names[] = {"dbname", "fallback_application_name", "client_encoding",
                                 l->password != NULL ? "password" : NULL, NULL};
    const char *const values[] = {l->conninfo, "pawl", "UTF8", l->password, NULL};
    uint64_t until = now_ms() + l->connect_ms;
    pg_disconnect(l);
    l->cluster[0] = 0;
    l->conn = PQconnectStartParams(names, values, 1);
    if (l->conn == NULL)
        return pawl_fault_set(f, PAWL_RETRY, "no memory");
    pawl_secret_add(PQpass(l->conn)); /* it may be of a service, a passfile, the environment */
    /* the conninfo string is wrong, or a socket's file doesn't exist */
    if (PQstatus(l->conn) == CONNECTION_BAD)
        return refused(l, f);
    PQsetErrorVerbosity(l->conn, PQERRORS_VERBOSE);
    PQsetNoticeProcessor(l->conn, silent, NULL);
    for (PostgresPollingStatusType want = PGRES_POLLING_WRITING; want != PGRES_POLLING_OK;
         want = PQconnectPoll(l->conn)) {
        if (want == PGRES_POLLING_FAILED)
            return refused(l, f);
        if (!wait_socket(l->conn, want == PGRES_POLLING_READING ? POLLIN : POLLOUT, until)) {
            pg_disconnect(l);
            return pawl_fault_set(f, PAWL_RETRY, "no connection within %u ms", l->connect_ms);
        }
    }
    PQsetErrorVerbosity(l->conn, PQERRORS_DEFAULT);
    return PQsetnonblocking(l->conn, 1) == 0 ? PAWL_DONE : pg_lost(l, "connecting", f);
}

void pg_disconnect(struct pg_link *l) {
    PQfinish(l->conn); /* accepts NULL */
    l->conn = NULL;
    l->copying = false;
    l->unsent = 0;
}

/* What libpq says of a string that it can't parse quotes pieces of it, and any piece may be one of
 * the password. So only its first words are used. */
static const struct {
    const char *begins, *means;
} parse_errors[] = {
    {"missing \"=\"", "a word without = after it (a value with blanks needs quotes: 'a b')"},
    {"unterminated quoted", "a quote ' without its end"},
    {"invalid connection option", "a word before = that is no option of libpq"},
    {"invalid URI query parameter", "a parameter after ? that is no option of libpq"},
    {"invalid percent-encoded", "a % that is not followed by two hexadecimal digits (%25 is %)"},
    {"forbidden value %00", "%00, which is not possible"},
    {"invalid integer value", "a number that is none"},
    {"definition of service", "a service that is not defined"},
};

static int bad_conninfo(const char *why, pawl_error *err) {
    const char *means = "it is no connection string";
    for (size_t i = 0; why != NULL && i < sizeof parse_errors / sizeof parse_errors[0]; i++)
        if (strncmp(why, parse_errors[i].begins, strlen(parse_errors[i].begins)) == 0)
            means = parse_errors[i].means;
    return why == NULL
               ? connect_error(err, PAWL_MEMORY, "no memory for conninfo")
               : connect_error(err, PAWL_INVALID,
                               "conninfo: %s. It isn't shown, since it may hold a password", means);
}

/* A password with / @ or ? in a URI that isn't written as %2F %40 %3F becomes a part of the host,
 * port or database, and those are shown. */
static bool uri_is_ambiguous(const char *conninfo) {
    const char *at = strstr(conninfo, "://");
    if (strncmp(conninfo, "postgres", 8) != 0 || at == NULL ||
        strcspn(conninfo, "=' ") < (size_t)(at - conninfo))
        return false;
    at += 3;
    const char *sign = strchr(at, '@');
    return sign != NULL && (strcspn(at, "/?") < (size_t)(sign - at) || strchr(sign + 1, '@'));
}

static bool ports_ok(const char *ports) {
    return ports == NULL || ports[strspn(ports, "0123456789,")] == 0;
}

int pg_conninfo(const char *conninfo, char *where, size_t size, pawl_error *err) {
    char *why = NULL;
    if (uri_is_ambiguous(conninfo))
        return connect_error(
            err, PAWL_INVALID,
            "conninfo: an @ / or ? of the password or user must be written as %%40 "
            "%%2F %%3F, or give the password as password_file");
    PQconninfoOption *all = PQconninfoParse(conninfo, &why);
    if (all == NULL) {
        int rc = bad_conninfo(why, err);
        PQfreemem(why);
        return rc;
    }
    const char *host = "", *database = "", *port = NULL;
    for (const PQconninfoOption *o = all; o->keyword != NULL; o++) {
        if (o->val == NULL)
            continue;
        if (strcmp(o->keyword, "host") == 0)
            host = o->val;
        else if (strcmp(o->keyword, "dbname") == 0)
            database = o->val;
        else if (strcmp(o->keyword, "port") == 0)
            port = o->val;
        else if (strcmp(o->keyword, "password") == 0 || strcmp(o->keyword, "sslpassword") == 0)
            pawl_secret_add(o->val);
    }
    snprintf(where, size, "%s/%s", host, database);
    bool good = ports_ok(port);
    PQconninfoFree(all);
    return good ? 0
                : connect_error(
                      err, PAWL_INVALID,
                      "conninfo: the port is no number (after a : in a URI comes the port, "
                      "or with an @ after it the password)");
}

/* ---- text */

bool bytes_room(struct bytes *b, size_t n) {
    if (b->at != NULL && b->size - b->used >= n)
        return true;
    size_t size = b->size * 2 > b->used + n ? b->size * 2 : b->used + n + 256;
    char *q = realloc(b->at, size);
    if (q == NULL)
        return false;
    b->at = q;
    b->size = size;
    return true;
}

bool bytes_text(struct bytes *b, const char *text) {
    size_t n = strlen(text);
    if (!bytes_room(b, n + 1))
        return false;
    memcpy(b->at + b->used, text, n + 1);
    b->used += n;
    return true;
}

bool bytes_name(struct bytes *b, const char *name) {
    if (!bytes_room(b, 2 * strlen(name) + 3))
        return false;
    char *to = b->at + b->used;
    *to++ = '"';
    for (; *name != 0; name++) {
        if (*name == '"')
            *to++ = '"';
        *to++ = *name;
    }
    *to++ = '"';
    *to = 0;
    b->used = (size_t)(to - b->at);
    return true;
}

char *pg_name(const char *schema, const char *name) {
    struct bytes b = {0};
    bool well = schema == NULL || (bytes_name(&b, schema) && bytes_text(&b, "."));
    if (!well || !bytes_name(&b, name)) {
        free(b.at);
        return NULL;
    }
    return b.at;
}
