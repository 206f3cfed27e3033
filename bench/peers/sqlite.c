/* SPDX-License-Identifier: Apache-2.0
 *
 * SQLite in its fastest setup with a durable commit each time: WAL, synchronous=FULL, exclusive
 * locking (no shared memory), prepared statements, integer keys in order, a log that has grown to
 * its full size. `bench --tune` compares the settings.
 */
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "peers.h"

struct peer_sqlite {
    sqlite3 *db;
    sqlite3_stmt *begin, *commit, *put_in, *put_out, *read, *position, *count;
    uint8_t value[65536];
};

static void must(int rc, sqlite3 *db, const char *what) {
    if (rc != SQLITE_OK && rc != SQLITE_DONE && rc != SQLITE_ROW)
        give_up("sqlite, %s: %s", what, db != NULL ? sqlite3_errmsg(db) : "?");
}

static void run(sqlite3 *db, const char *sql) {
    must(sqlite3_exec(db, sql, NULL, NULL, NULL), db, sql);
}

static void step(struct peer_sqlite *p, sqlite3_stmt *s) {
    must(sqlite3_step(s), p->db, "step");
    sqlite3_reset(s);
}

static sqlite3_stmt *prepare(struct peer_sqlite *p, const char *sql) {
    sqlite3_stmt *s = NULL;
    must(sqlite3_prepare_v3(p->db, sql, -1, SQLITE_PREPARE_PERSISTENT, &s, NULL), p->db, sql);
    return s;
}

/* Lets the log grow to its size before a checkpoint; from then on it is overwritten. Each sync of a
 * growing file costs a commit of the file system's journal, which a program that runs for days pays
 * only at first. */
static void warm_up(struct peer_sqlite *p, long pages) {
    char sql[200];
    run(p->db, "CREATE TABLE w(v BLOB)");
    snprintf(sql, sizeof sql, "INSERT INTO w VALUES(zeroblob(%ld))", (pages + 100) * 4096);
    run(p->db, sql);
    run(p->db, "DROP TABLE w; PRAGMA wal_checkpoint(RESTART)");
}

static void *open_it(const struct setting *s) {
    struct peer_sqlite *p = must_allocate(sizeof *p);
    char path[4200], sql[400];
    snprintf(path, sizeof path, "%s/db", s->dir);
    must(sqlite3_open(path, &p->db), p->db, "open");
    snprintf(
        sql, sizeof sql,
        "PRAGMA page_size=%ld; PRAGMA locking_mode=%s; PRAGMA journal_mode=WAL; PRAGMA "
        "synchronous=%s;"
        "PRAGMA wal_autocheckpoint=%ld; PRAGMA temp_store=MEMORY; PRAGMA cache_size=-%ld; PRAGMA "
        "mmap_size=%ld;",
        setting_tuned(s, "page", 4096), setting_tuned(s, "exclusive", 1) ? "EXCLUSIVE" : "NORMAL",
        setting_tuned(s, "sync", 1) ? "FULL" : "OFF", setting_tuned(s, "checkpoint", 1000),
        s->memory != 0 ? (long)(s->memory >> 10) : 65536, setting_tuned(s, "mmap", 0));
    run(p->db, sql);
    run(p->db, "CREATE TABLE i(k INTEGER PRIMARY KEY, v BLOB); CREATE TABLE o(k INTEGER PRIMARY "
               "KEY, v BLOB);"
               "CREATE TABLE p(k INTEGER PRIMARY KEY, at INTEGER); INSERT INTO p VALUES(1,0)");
    if (setting_tuned(s, "warm", 1))
        warm_up(p, setting_tuned(s, "checkpoint", 1000));
    run(p->db, "CREATE TABLE s(k BLOB PRIMARY KEY, n INTEGER) WITHOUT ROWID");
    p->count = prepare(p, "INSERT INTO s VALUES(?,1) ON CONFLICT(k) DO UPDATE SET n=n+1 "
                          "RETURNING n");
    p->begin = prepare(p, "BEGIN IMMEDIATE");
    p->commit = prepare(p, "COMMIT");
    p->put_in = prepare(p, "INSERT INTO i VALUES(?,?)");
    p->put_out = prepare(p, "INSERT INTO o VALUES(?,?)");
    p->read = prepare(p, "SELECT k,v FROM i WHERE k>=? ORDER BY k LIMIT ?");
    p->position = prepare(p, "UPDATE p SET at=? WHERE k=1");
    return p;
}

static void put(void *peer, uint64_t first, uint32_t count, uint32_t record) {
    struct peer_sqlite *p = peer;
    step(p, p->begin);
    for (uint32_t i = 0; i < count; i++) {
        fill_record(p->value, record, first + i);
        sqlite3_bind_int64(p->put_in, 1, (sqlite3_int64)(first + i));
        sqlite3_bind_blob(p->put_in, 2, p->value, (int)record, SQLITE_STATIC);
        step(p, p->put_in);
    }
    step(p, p->commit);
}

static uint64_t process(void *peer, uint64_t from, uint32_t count) {
    struct peer_sqlite *p = peer;
    uint64_t done = 0;
    step(p, p->begin);
    sqlite3_bind_int64(p->read, 1, (sqlite3_int64)from);
    sqlite3_bind_int64(p->read, 2, count);
    for (; sqlite3_step(p->read) == SQLITE_ROW; done++) {
        sqlite3_bind_int64(p->put_out, 1, sqlite3_column_int64(p->read, 0));
        sqlite3_bind_blob(p->put_out, 2, sqlite3_column_blob(p->read, 1),
                          sqlite3_column_bytes(p->read, 1), SQLITE_STATIC);
        step(p, p->put_out);
    }
    sqlite3_reset(p->read);
    sqlite3_bind_int64(p->position, 1, (sqlite3_int64)(from + done));
    step(p, p->position);
    step(p, p->commit);
    return done;
}

static uint64_t keyed(void *peer, uint64_t from, uint32_t count) {
    struct peer_sqlite *p = peer;
    uint8_t out[KEY_BYTES + 8];
    uint64_t done = 0;
    step(p, p->begin);
    sqlite3_bind_int64(p->read, 1, (sqlite3_int64)from);
    sqlite3_bind_int64(p->read, 2, count);
    for (; sqlite3_step(p->read) == SQLITE_ROW; done++) {
        memcpy(out, sqlite3_column_blob(p->read, 1), KEY_BYTES);
        sqlite3_bind_blob(p->count, 1, out, KEY_BYTES, SQLITE_STATIC);
        must(sqlite3_step(p->count), p->db, "count");
        sqlite3_int64 n = sqlite3_column_int64(p->count, 0);
        sqlite3_reset(p->count);
        memcpy(out + KEY_BYTES, &n, sizeof n);
        sqlite3_bind_int64(p->put_out, 1, sqlite3_column_int64(p->read, 0));
        sqlite3_bind_blob(p->put_out, 2, out, sizeof out, SQLITE_STATIC);
        step(p, p->put_out);
    }
    sqlite3_reset(p->read);
    sqlite3_bind_int64(p->position, 1, (sqlite3_int64)(from + done));
    step(p, p->position);
    step(p, p->commit);
    return done;
}

static void close_it(void *peer) {
    struct peer_sqlite *p = peer;
    sqlite3_stmt *all[] = {p->begin, p->commit,   p->put_in, p->put_out,
                           p->read,  p->position, p->count};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        sqlite3_finalize(all[i]);
    sqlite3_close(p->db);
    free(p);
}

static const struct peer_ops ops = {open_it, put, process, keyed, close_it};

void sqlite_keyed(const struct setting *s, struct turn *t) {
    peer_keyed(&ops, s, t);
}

void sqlite_step(const struct setting *s, struct turn *t) {
    peer_step(&ops, s, t);
}

void sqlite_append(const struct setting *s, struct turn *t) {
    peer_append(&ops, s, t);
}
