/* SPDX-License-Identifier: Apache-2.0
 *
 * A table and the version of its state that a program declares. An older state is brought to it by
 * the program's callback, pair by pair, into a new, internal table, by commits of a bounded size.
 * The last one also says that the new table takes the place of the old one (TABLES op 8). So
 * whoever reads, and whatever kills the process, sees the state of the old version, whole, or that
 * of the new one, whole. What a kill has left of a new table is deleted by the next attempt, which
 * begins from the start: as nothing changes the old table meanwhile, it comes to the same.
 */
#include <assert.h>
#include <stdio.h>

#include "pipeline/catalog.h"
#include "pipeline/struct_size.h"

struct pawl_migration {
    pawl *p;
    pawl_tx *tx;
    uint32_t from, fresh;  /* ids of both tables */
    uint32_t from_version; /* of the old one */
    uint32_t partitions, partition;
    bool local;
    uint64_t now_ms;    /* by when old pairs have expired; 0: none has */
    uint64_t expiry_ms; /* of the pair that the callback has */
};

/* ---- the callback's */

uint32_t pawl_migrate_from(const pawl_migration *m) {
    return m->from_version;
}

int pawl_migrate_put(pawl_migration *m, const void *key, size_t key_len, const void *value,
                     size_t value_len) {
    if (m == NULL)
        return fail(PAWL_INVALID, "the migration is NULL");
    return state_tx_put_until(
        m->tx, (struct state_place){m->fresh, m->local ? m->partition : PAWL_ANY, 0, true},
        m->expiry_ms, key, key_len, value, value_len);
}

/* ---- what is there, and what is declared */

static uint32_t flags_of(const pawl_table_config *c) {
    return c->flags | (c->ttl_ms != 0 ? (uint32_t)TABLE_EXPIRES : 0);
}

static int differs(const struct state_table *t, const char *what) {
    return fail(PAWL_STATE,
                "table %s has %s than the program declares for version %u: declare a newer version",
                t->name, what, t->version);
}

/* Under the lock: 0: the table is as declared; 1: its state is older. */
static int compare(pawl *p, const struct state_table *t, const pawl_table_config *c) {
    const char *owner = tables_processor_name(&p->tables, t->owner);
    if (t->version > c->version)
        return fail(PAWL_VERSION,
                    "table %s holds state of version %u, and this program knows %u: run the newer "
                    "program, or restore a savepoint of before",
                    t->name, t->version, c->version);
    if (owner == NULL || strcmp(owner, c->owner) != 0)
        return fail(PAWL_STATE, "table %s belongs to processor %s, not to %s", t->name,
                    owner != NULL ? owner : "?", c->owner);
    if (t->version < c->version)
        return 1;
    if (t->partitions != c->partitions)
        return differs(t, "another number of partitions");
    if (t->flags != flags_of(c))
        return differs(t, "other flags");
    return t->ttl_ms == c->ttl_ms ? 0 : differs(t, "another time to live");
}

/* ---- the new table */

#define FRESH_NAME_SIZE 24u

static void fresh_name(char out[FRESH_NAME_SIZE], uint32_t from) {
    snprintf(out, FRESH_NAME_SIZE, "%cmigrate-%u", TABLE_INTERNAL_MARK, from);
}

/* Under the lock: deletes what an attempt has left. */
static int drop_fresh(pawl *p, uint32_t from) {
    char name[FRESH_NAME_SIZE];
    fresh_name(name, from);
    uint32_t id = tables_find_table(&p->tables, name);
    return id == 0 ? 0
                   : catalog_change_table(p, &(struct table_entry){.op = TABLE_DELETE, .id = id});
}

/* Under the lock: begins a new table beside the old one, which stays as it is from now on. */
static int begin(struct pawl_migration *m, const struct state_table *t,
                 const pawl_table_config *c) {
    pawl *p = m->p;
    char name[FRESH_NAME_SIZE];
    uint32_t owner;
    pawl_table_config fresh = *c;
    if (p->running)
        return fail(PAWL_BUSY, "processors are running");
    if (p->state.error.code != 0)
        return fail_again(&p->state.error);
    for (uint32_t k = 0; k < t->partitions; k++)
        if (state_lost(&t->parts[k]))
            return fail(PAWL_LOST, "damage has taken changes of partition %u of table %s", k,
                        t->name);
    m->from_version = t->version;
    m->partitions = t->partitions;
    m->local = (flags_of(c) & PAWL_TABLE_LOCAL) != 0;
    m->now_ms = (t->flags & TABLE_EXPIRES) != 0 ? state_clock(p) : 0;
    if (m->local && c->partitions < t->partitions)
        return fail(PAWL_STATE, "table %s is local and has %u partitions: they can't become fewer",
                    t->name, t->partitions);
    p->state.migrating = m->from;
    TRY(drop_fresh(p, m->from));
    fresh_name(name, m->from);
    fresh.name = name;
    TRY(catalog_fresh_table(&p->tables, &fresh, &owner));
    m->fresh = p->tables.ids.table;
    return catalog_change_table(p, &(struct table_entry){.op = TABLE_CREATE,
                                                         .name_len = (uint16_t)strlen(name),
                                                         .id = m->fresh,
                                                         .owner = owner,
                                                         .partitions = c->partitions,
                                                         .version = c->version,
                                                         .flags = flags_of(c),
                                                         .ttl_ms = c->ttl_ms,
                                                         .name = name});
}

/* ---- the pairs */

static int migrate_pair(struct pawl_migration *m, const struct state_pair *old, pawl_migrate_fn fn,
                        void *arg) {
    pawl_state_pair pair = {old->key, old->value, old->key_len, old->value_len};
    m->expiry_ms = old->expiry_ms;
    fail_clear();
    int rc = fn(m, &pair, arg);
    if (rc != 0) {
        pawl_error e;
        fail_copy(&e);
        return rc == e.code
                   ? rc
                   : fail(PAWL_PROCESSOR, "the migration refused a pair with result %d", rc);
    }
    if (m->tx->state_bytes <= m->p->record_max / 8)
        return 0;
    rc = pawl_commit(m->tx, NULL);
    if (tx_stays(rc))
        pawl_abort(m->tx);
    m->tx = NULL;
    return rc < 0 ? rc : pawl_begin(m->p, &m->tx);
}

static int migrate_partition(struct pawl_migration *m, pawl_migrate_fn fn, void *arg) {
    struct store_part *part = store_part(&m->p->store, m->from, m->partition);
    struct store_range range = {.at_lsn = MEMTABLE_NEWEST, .now_ms = m->now_ms};
    struct store_cursor *c;
    struct state_pair pair;
    if (part == NULL)
        return fail(PAWL_MEMORY, "no memory for the state of a partition");
    int rc = store_cursor_take(&m->p->store, part, &range, NULL, &c);
    store_part_release(&m->p->store, part);
    TRY(rc);
    while ((rc = store_cursor_next(c, &pair)) == 1)
        if ((rc = migrate_pair(m, &pair, fn, arg)) < 0)
            break;
    store_cursor_close(c);
    return rc;
}

static int migrate_pairs(struct pawl_migration *m, pawl_migrate_fn fn, void *arg) {
    TRY(pawl_begin(m->p, &m->tx));
    for (m->partition = 0; m->partition < m->partitions; m->partition++)
        TRY(migrate_partition(m, fn, arg));
    return 0;
}

/* Under the lock: the last pairs, and the change of tables with them. */
static int replace(struct pawl_migration *m, const char *name) {
    assert(tables_table(&m->p->tables, m->from) != NULL); /* PAWL-13: it is whole until now */
    TRY(tx_add_table(m->tx, &(struct table_entry){.op = TABLE_REPLACES,
                                                  .name_len = (uint16_t)strlen(name),
                                                  .id = m->fresh,
                                                  .a = m->from,
                                                  .name = name}));
    return tx_commit_locked(m->tx, NULL);
}

/* Under the lock, released inside. */
static int migrate(struct pawl_migration *m, const struct state_table *t,
                   const pawl_table_config *c, pawl_migrate_fn fn, void *arg) {
    pawl *p = m->p;
    int rc = begin(m, t, c);
    if (rc == 0) {
        engine_leave(p);
        rc = migrate_pairs(m, fn, arg);
        pthread_mutex_lock(&p->mutex);
        if (rc == 0)
            rc = replace(m, c->name);
    }
    pawl_error e;
    fail_copy(&e);
    if (m->tx != NULL)
        tx_free(m->tx);
    if (rc < 0 && p->wal.failed == 0 && m->fresh != 0)
        (void)drop_fresh(p, m->from); /* else the next attempt does */
    p->state.migrating = 0;
    return rc < 0 ? fail_again(&e) : 0;
}

int pawl_table_use(pawl *p, const pawl_table_config *given, pawl_migrate_fn fn, void *arg,
                   uint32_t *id) {
    pawl_table_config c;
    uint32_t found = 0;
    TRY(pawl_struct_take(&c, sizeof c, given, TABLE_CONFIG_FIRST, "pawl_table_config"));
    TRY(catalog_check_table(&c));
    int rc = catalog_create_table(p, &c, &found);
    if (rc == PAWL_EXISTS) {
        struct pawl_migration m = {.p = p, .from = found};
        TRY(catalog_enter(p));
        const struct state_table *t = tables_table(&p->tables, found);
        rc = t == NULL ? fail(PAWL_NOT_FOUND, "table %s was deleted meanwhile", c.name)
                       : compare(p, t, &c);
        if (rc == 1 && fn == NULL)
            rc = fail(PAWL_VERSION,
                      "table %s holds state of version %u, and this program, which declares %u, "
                      "has no migration",
                      c.name, t->version, c.version);
        else if (rc == 1 && (rc = migrate(&m, t, &c, fn, arg)) == 0)
            found = m.fresh;
        else if (rc == 0)
            rc = drop_fresh(p, found);
        engine_ask_chores(p);
        catalog_leave(p);
    }
    if (rc == 0 && id != NULL)
        *id = found;
    return rc < 0 ? engine_keep_error(p, rc) : rc;
}
