/* SPDX-License-Identifier: Apache-2.0
 *
 * Which table of which database of which cluster is at the other end.
 *
 *   part       from                   another value means
 *   system     pg_control_system()    another cluster: restored, upgraded, or another server
 *                                     behind the same name. A promoted standby has the same
 *   database   pg_database.oid        the database was made anew
 *   table      regclass               the table was dropped and made anew. TRUNCATE, ALTER and
 *                                     VACUUM keep it
 *
 * Roles that may not call pg_control_system(), and servers that don't have it, go without `system`.
 */
#include <stdio.h>
#include <stdlib.h>

#include "connectors/postgres/link_postgres.h"

/* Asked once for a connection. */
static int system_of(struct pg_link *l, char out[32], pawl_fault *f) {
    PGresult *r = NULL;
    snprintf(out, 32, "%s", l->cluster[0] != '-' ? l->cluster : "");
    if (l->cluster[0] != 0)
        return PAWL_DONE;
    int outcome = pg_query(l, "SELECT system_identifier FROM pg_control_system()", 0, NULL,
                           PG_ROW_OR_NONE(1), &r, f);
    if (outcome == PAWL_DONE && PQntuples(r) == 1)
        snprintf(out, 32, "%.31s", PQgetvalue(r, 0, 0));
    PQclear(r);
    if (outcome != PAWL_DONE && outcome != PAWL_FATAL)
        return outcome;
    snprintf(l->cluster, sizeof l->cluster, "%s", out[0] != 0 ? out : "-");
    return PAWL_DONE;
}

int pg_identity(struct pg_link *l, const char *table, char *out, size_t size, pawl_fault *f) {
    char cluster[32];
    PGresult *r = NULL;
    int outcome = system_of(l, cluster, f);
    if (outcome == PAWL_DONE)
        outcome = pg_query(l,
                           "SELECT (SELECT oid FROM pg_database WHERE datname = "
                           "current_database()), $1::regclass::oid",
                           1, &table, PG_ROW(2), &r, f);
    if (outcome == PAWL_DONE)
        snprintf(out, size, "%s%s%sdatabase=%s table=%s", cluster[0] != 0 ? "system=" : "", cluster,
                 cluster[0] != 0 ? " " : "", PQgetvalue(r, 0, 0), PQgetvalue(r, 0, 1));
    PQclear(r);
    return outcome;
}

/* FNV-1a, 24 bits. */
static uint32_t hash(const char *text) {
    uint32_t h = 2166136261u;
    for (; *text != 0; text++)
        h = (h ^ (unsigned char)*text) * 16777619u;
    return (h ^ h >> 24) & 0xFFFFFFu;
}

int pg_see(struct pg_link *l, const char *table, struct pg_seen *out, pawl_fault *f) {
    char cluster[32], place[64];
    PGresult *r = NULL;
    int outcome = system_of(l, cluster, f);
    if (outcome == PAWL_DONE)
        outcome = pg_query(l,
                           "SELECT c.oid::bigint, (SELECT oid FROM pg_database WHERE datname = "
                           "current_database()), coalesce(pg_relation_filenode(c.oid), 0)::text, "
                           "txid_snapshot_xmax(txid_current_snapshot()) % 4294967296, c.relkind IN "
                           "('r', 'm', 'p') "
                           "FROM pg_class c WHERE c.oid = $1::regclass",
                           1, &table, PG_ROW_OR_NONE(5), &r, f);
    if (outcome == PAWL_DONE && PQntuples(r) == 1) {
        snprintf(place, sizeof place, "%s %.20s", cluster, PQgetvalue(r, 0, 1));
        *out = (struct pg_seen){.table = connect_small(strtoull(PQgetvalue(r, 0, 0), NULL, 10)),
                                .database = connect_small(strtoull(PQgetvalue(r, 0, 1), NULL, 10)),
                                .place = hash(place),
                                .file = hash(PQgetvalue(r, 0, 2)),
                                .horizon = connect_small(strtoull(PQgetvalue(r, 0, 3), NULL, 10)),
                                .cluster = cluster[0] != 0,
                                .rows_know = PQgetvalue(r, 0, 4)[0] == 't'};
    } else if (outcome == PAWL_DONE) {
        outcome = pawl_fault_set(f, PAWL_RETRY, "the table %s is gone", table);
    }
    PQclear(r);
    return outcome;
}
