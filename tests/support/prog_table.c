/* SPDX-License-Identifier: Apache-2.0
 *
 * prog_table.c - a log with tables of keyed state, for scripts. "make": a new one, with runs.
 * "hold": changes it, says so by the file "held" in its directory, and keeps it open until its
 * standard input ends. "again": deletes the table "few" and makes it anew.
 */
#include <stdio.h>
#include <string.h>

#include "pawl_state.h"

static int ended(int rc, const char *what) {
    if (rc < 0) {
        pawl_error e;
        pawl_last_error(&e);
        fprintf(stderr, "prog_table: %s: %s\n", what, e.message);
    }
    return rc;
}

static int make_table(pawl *log, const char *name, uint32_t partitions, uint32_t version,
                      uint32_t *id) {
    pawl_table_config c = PAWL_TABLE_CONFIG_INIT;
    c.name = name;
    c.owner = "owner";
    c.partitions = partitions;
    c.version = version;
    return ended(pawl_table_create(log, &c, id), name);
}

static int put(pawl_tx *tx, uint32_t table, const void *key, size_t len, const char *value,
               size_t value_len) {
    return pawl_tx_state_put(tx, table, PAWL_ANY, key, len, value, value_len);
}

static int fill(pawl *log, uint32_t few, uint32_t many) {
    pawl_tx *tx;
    int rc = pawl_begin(log, &tx);
    if (rc < 0)
        return rc;
    if ((rc = put(tx, few, "a", 1, "one", 3)) < 0 || (rc = put(tx, few, "ab", 2, "two", 3)) < 0 ||
        (rc = put(tx, few, "b", 1, "", 0)) < 0 || (rc = put(tx, few, "z\t", 2, "last", 4)) < 0 ||
        (rc = put(tx, few, "\0\377", 2, "\0\t\n", 3)) < 0)
        return rc;
    for (int i = 0; i < 400 && rc >= 0; i++) {
        char key[16], value[16];
        int k = snprintf(key, sizeof key, "k%d", i),
            v = snprintf(value, sizeof value, "value %d", i);
        rc = put(tx, many, key, (size_t)k, value, (size_t)v);
    }
    return rc < 0 ? rc : pawl_commit(tx, NULL);
}

static int make(pawl *log) {
    uint32_t few, many;
    int rc = pawl_processor_register(log, "owner", NULL);
    if (rc < 0 || (rc = make_table(log, "few", 1, 7, &few)) < 0 ||
        (rc = make_table(log, "many", 4, 0, &many)) < 0 || (rc = fill(log, few, many)) < 0)
        return rc;
    return pawl_state_flush(log);
}

static int hold(pawl *log, const char *dir) {
    pawl_table_info t = PAWL_TABLE_INFO_INIT;
    char path[512];
    int rc = pawl_table_find(log, "few", &t);
    for (int i = 0; rc >= 0 && i < 2; i++) { /* the second commit makes the first one known */
        pawl_tx *tx;
        if ((rc = pawl_begin(log, &tx)) < 0)
            break;
        rc = put(tx, t.id, i == 0 ? "a" : "ab", i == 0 ? 1 : 2, "beside", 6);
        rc = rc < 0 ? rc : pawl_commit(tx, NULL);
        if (i == 0 && rc >= 0)
            rc = pawl_state_flush(log);
    }
    snprintf(path, sizeof path, "%s/held", dir);
    FILE *held = fopen(path, "w");
    if (held == NULL)
        return -1;
    fclose(held);
    while (getchar() != EOF)
        ;
    remove(path);
    return rc;
}

static int again(pawl *log) {
    uint32_t id;
    int rc = pawl_table_delete(log, "few");
    return rc < 0 ? rc : make_table(log, "few", 1, 7, &id);
}

int main(int argc, char **argv) {
    pawl *log;
    pawl_options o = PAWL_OPTIONS_INIT;
    if (argc != 3)
        return 2;
    o.flags = PAWL_OPEN_CREATE;
    o.segment_size = 1u << 20;
    if (ended(pawl_open(argv[1], &o, &log, NULL), "open") < 0)
        return 1;
    int rc = strcmp(argv[2], "make") == 0   ? make(log)
             : strcmp(argv[2], "hold") == 0 ? hold(log, argv[1])
                                            : again(log);
    ended(rc, argv[2]);
    int closed = ended(pawl_close(log), "close");
    return rc < 0 || closed < 0;
}
