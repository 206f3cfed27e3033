/* SPDX-License-Identifier: Apache-2.0
 *
 * sinks DIR [RECORDS] - the database sinks against the database itself with the same rows in
 * transactions of the same size: psql's COPY, and a bare loop of prepared inserts. They alternate;
 * the ratio is that of the medians. bench/sinks.sh starts the server.
 */
#include <pawl_connect.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define ROUNDS 5
#define BATCH 10000u

static unsigned records = 300000;
static char dir[400], script[512], database[512];

static void stop(const char *what, const char *why) {
    fprintf(stderr, "sinks: %s: %s\n", what, why);
    exit(1);
}

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* 100 bytes: {"n":123,"level":"info","text":"xxxx..."} */
static int make_value(char *out, unsigned i) {
    int n =
        sprintf(out, "{\"n\":%u,\"level\":\"%s\",\"text\":\"", i, i % 7 == 0 ? "warning" : "info");
    while (n < 98)
        out[n] = (char)('a' + (i * 31 + (unsigned)n * 7) % 26), n++;
    memcpy(out + n, "\"}", 3);
    return n + 2;
}

static void shell(const char *what, const char *command) {
    if (system(command) != 0)
        stop(what, command);
}

static void sql(const char *statements) {
    char command[1024];
    snprintf(command, sizeof command, "psql -XAtq -v ON_ERROR_STOP=1 -c \"%s\"", statements);
    shell("psql", command);
}

/* ---- the log, and the same rows as a script for psql */

static uint32_t make_log(pawl **log) {
    char path[512];
    pawl_options o = PAWL_OPTIONS_INIT;
    pawl_error e;
    uint32_t stream;
    o.flags = PAWL_OPEN_CREATE;
    snprintf(path, sizeof path, "%s/log", dir);
    if (pawl_open(path, &o, log, &e) != 0)
        stop("log", e.message);
    if (pawl_stream_create(*log, "in", 1, &stream) != 0)
        stop("log", "stream");
    FILE *f = fopen(script, "w");
    if (f == NULL)
        stop(script, "can't be written");
    pawl_tx *tx = NULL;
    for (unsigned i = 0; i < records; i++) {
        char value[128];
        pawl_record r = {.value = value, .value_len = (uint32_t)make_value(value, i)};
        if (i % BATCH == 0)
            fprintf(f, "BEGIN;\nCOPY rows (off, value) FROM STDIN;\n");
        fprintf(f, "%u\t%s\n", i, value);
        if (i % BATCH == BATCH - 1 || i == records - 1)
            fprintf(f, "\\.\nCOMMIT;\n");
        if (i % 1000 == 0 && pawl_begin(*log, &tx) != 0)
            stop("log", "begin");
        if (pawl_put(tx, stream, 0, &r) != 0)
            stop("log", "put");
        if ((i % 1000 == 999 || i == records - 1) && pawl_commit_async(tx, NULL, NULL, NULL) != 0)
            stop("log", "commit");
    }
    if (fclose(f) != 0 || pawl_sync(*log) != 0)
        stop("log", "sync");
    return stream;
}

/* ---- contenders: seconds */

static double sink_run(pawl *log, uint32_t stream, const char *type, const pawl_setting *items,
                       size_t count) {
    static unsigned number;
    char name[32];
    pawl_settings settings = {.items = items, .count = count};
    pawl_sink_ops ops = PAWL_SINK_OPS_INIT;
    pawl_sink *sink = NULL;
    pawl_error e;
    pawl_sink_config c = PAWL_SINK_CONFIG_INIT;
    snprintf(name, sizeof name, "bench-%u", number++);
    c.name = name, c.inputs = &stream, c.input_count = 1, c.batch_records = BATCH;
    double begun = now_s();
    if (pawl_sink_make(type, &settings, &ops, &e) != 0 ||
        pawl_sink_add(log, &c, &ops, &sink, &e) != 0)
        stop(type, e.message);
    int rc;
    while ((rc = pawl_sink_step(sink)) == 0)
        ;
    pawl_flow_status s = PAWL_FLOW_STATUS_INIT;
    if (pawl_sink_status(sink, &s) < 0 || rc < 0 || s.records != records)
        stop(type, s.message);
    double took = now_s() - begun;
    pawl_sink_remove(sink);
    if (pawl_processor_forget(log, name) < 0)
        stop(type, "the sink's name can't be forgotten");
    return took;
}

static void exec(sqlite3 *db, const char *text) {
    if (sqlite3_exec(db, text, NULL, NULL, NULL) != SQLITE_OK)
        stop("SQLite", sqlite3_errmsg(db));
}

static sqlite3 *new_database(void) {
    static const char *const ends[] = {"", "-wal", "-shm"};
    sqlite3 *db;
    for (size_t i = 0; i < 3; i++) {
        char path[520];
        snprintf(path, sizeof path, "%s%s", database, ends[i]);
        unlink(path);
    }
    if (sqlite3_open(database, &db) != SQLITE_OK)
        stop("SQLite", "open");
    exec(db, "PRAGMA journal_mode=wal; PRAGMA synchronous=FULL; CREATE TABLE rows(off INTEGER, "
             "value TEXT)");
    return db;
}

/* The records are in memory, and nothing is checked: it only binds, steps and commits. */
static double bare_sqlite(char (*values)[128]) {
    sqlite3 *db = new_database();
    sqlite3_stmt *q;
    double begun = now_s();
    if (sqlite3_prepare_v2(db, "INSERT INTO rows(off, value) VALUES(?, ?)", -1, &q, NULL) !=
        SQLITE_OK)
        stop("SQLite", sqlite3_errmsg(db));
    for (unsigned i = 0; i < records; i++) {
        if (i % BATCH == 0)
            exec(db, "BEGIN IMMEDIATE");
        sqlite3_bind_int64(q, 1, i);
        sqlite3_bind_text(q, 2, values[i], 100, SQLITE_STATIC);
        if (sqlite3_step(q) != SQLITE_DONE)
            stop("SQLite", sqlite3_errmsg(db));
        sqlite3_reset(q);
        if (i % BATCH == BATCH - 1 || i == records - 1)
            exec(db, "COMMIT");
    }
    double took = now_s() - begun;
    sqlite3_finalize(q);
    sqlite3_close(db);
    return took;
}

static double psql_copy(void) {
    char command[600];
    sql("TRUNCATE rows");
    snprintf(command, sizeof command, "psql -XAtq -v ON_ERROR_STOP=1 -f '%s'", script);
    double begun = now_s();
    shell("psql", command);
    return now_s() - begun;
}

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

enum {
    BARE,
    SQLITE,
    SQLITE_JSON,
    SQLITE_IDEMPOTENT,
    PSQL,
    PG,
    PG_TWO_PHASE,
    PG_IDEMPOTENT,
    PG_JSON,
    CONTENDERS
};
static const struct {
    const char *name;
    int beside;
    double goal;
} contenders[CONTENDERS] = {
    [BARE] = {"SQLite: bare prepared inserts", BARE, 0},
    [SQLITE] = {"sqlite sink", BARE, 0.8},
    [SQLITE_JSON] = {"sqlite sink, columns from JSON", BARE, 0},
    [SQLITE_IDEMPOTENT] = {"sqlite sink, idempotent (index on id)", BARE, 0},
    [PSQL] = {"psql: COPY", PSQL, 0},
    [PG] = {"postgres sink, transactional", PSQL, 0.7},
    [PG_TWO_PHASE] = {"postgres sink, two-phase", PSQL, 0.7},
    [PG_IDEMPOTENT] = {"postgres sink, idempotent (index on id)", PSQL, 0},
    [PG_JSON] = {"postgres sink, columns from JSON", PSQL, 0},
};

static double run(int which, pawl *log, uint32_t stream, char (*values)[128]) {
    char conninfo[300];
    snprintf(conninfo, sizeof conninfo, "host=%s user=postgres dbname=postgres", getenv("PGHOST"));
    const char *kind = which == PG_TWO_PHASE                                  ? "two-phase"
                       : which == PG_IDEMPOTENT || which == SQLITE_IDEMPOTENT ? "idempotent"
                                                                              : "transactional";
    bool postgres = which > PSQL, json = which == PG_JSON || which == SQLITE_JSON,
         id = kind[0] == 'i';
    pawl_setting items[8] = {
        {postgres ? "conninfo" : "path", postgres ? conninfo : database, 0},
        {"table",
         id     ? "keyed"
         : json ? "parsed"
                : "rows",
         0},
        {"kind", kind, 0},
        {json ? "columns.n" : "columns.off", json ? "$.n" : "offset", 0},
        {json ? "columns.level" : "columns.value", json ? "$.level" : "value", 0}};
    size_t count = 5;
    if (json)
        items[count++] = (pawl_setting){"columns.text", "$.text", 0};
    if (id)
        items[count++] = (pawl_setting){"columns.id", "id", 0};
    switch (which) {
    case BARE:
        return bare_sqlite(values);
    case PSQL:
        return psql_copy();
    case SQLITE:
    case SQLITE_JSON:
    case SQLITE_IDEMPOTENT: {
        sqlite3 *db = new_database();
        exec(db, "CREATE TABLE parsed(n INTEGER, level TEXT, text TEXT); CREATE TABLE keyed(id "
                 "TEXT PRIMARY "
                 "KEY, off INTEGER, value TEXT)");
        sqlite3_close(db);
        return sink_run(log, stream, "sqlite", items, count);
    }
    default:
        sql("TRUNCATE rows, parsed, keyed");
        return sink_run(log, stream, "postgres", items, count);
    }
}

int main(int argc, char **argv) {
    if (argc < 2 || getenv("PGHOST") == NULL)
        stop("usage", "bench/sinks.sh starts this");
    if (argc > 2)
        records = (unsigned)strtoul(argv[2], NULL, 10);
    snprintf(dir, sizeof dir, "%s", argv[1]);
    snprintf(script, sizeof script, "%s/rows.sql", dir);
    snprintf(database, sizeof database, "%s/rows.db", dir);
    char(*values)[128] = calloc(records, sizeof *values);
    if (values == NULL)
        stop("memory", "none");
    for (unsigned i = 0; i < records; i++)
        make_value(values[i], i);
    pawl *log;
    uint32_t stream = make_log(&log);
    sql("CREATE TABLE rows(off bigint, value text); CREATE TABLE parsed(n int, level text, text "
        "text); "
        "CREATE TABLE keyed(id text PRIMARY KEY, off bigint, value text)");
    double took[CONTENDERS][ROUNDS];
    for (int round = -1; round < ROUNDS; round++) /* the first is the warm-up */
        for (int k = 0; k < CONTENDERS; k++) {
            double t = run(k, log, stream, values);
            if (round >= 0)
                took[k][round] = t;
        }
    printf(
        "%u records of 100 bytes, transactions of %u, %d rounds in turns\n\n%-42s %12s %8s %6s\n",
        records, BATCH, ROUNDS, "", "records/s", "ratio", "goal");
    int missed = 0;
    for (int k = 0; k < CONTENDERS; k++) {
        qsort(took[k], ROUNDS, sizeof took[k][0], by_size);
        double ratio = took[contenders[k].beside][ROUNDS / 2] / took[k][ROUNDS / 2];
        printf("%-42s %12.0f %8.2f", contenders[k].name, records / took[k][ROUNDS / 2], ratio);
        if (contenders[k].goal > 0)
            printf(" %6.2f%s", contenders[k].goal, ratio < contenders[k].goal ? "  missed" : "");
        missed += ratio < contenders[k].goal;
        printf("\n");
    }
    free(values);
    return pawl_close(log) < 0 || missed != 0;
}
