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

#include "connectors/postgres/link_postgres.h"

static int system_of(struct pg_link *l, char out[32], pawl_fault *f) {
    PGresult *r = NULL;
    out[0] = 0;
    int outcome = pg_query(l, "SELECT system_identifier FROM pg_control_system()", 0, NULL, &r, f);
    if (outcome == PAWL_DONE && PQntuples(r) == 1)
        snprintf(out, 32, "%.31s", PQgetvalue(r, 0, 0));
    PQclear(r);
    return outcome == PAWL_FATAL ? PAWL_DONE : outcome;
}

int pg_identity(struct pg_link *l, const char *table, char *out, size_t size, pawl_fault *f) {
    char cluster[32];
    PGresult *r = NULL;
    int outcome = system_of(l, cluster, f);
    if (outcome == PAWL_DONE)
        outcome = pg_query(l,
                           "SELECT (SELECT oid FROM pg_database WHERE datname = "
                           "current_database()), $1::regclass::oid",
                           1, &table, &r, f);
    if (outcome == PAWL_DONE)
        snprintf(out, size, "%s%s%sdatabase=%s table=%s", cluster[0] != 0 ? "system=" : "", cluster,
                 cluster[0] != 0 ? " " : "", PQgetvalue(r, 0, 0), PQgetvalue(r, 0, 1));
    PQclear(r);
    return outcome;
}
