/* SPDX-License-Identifier: Apache-2.0
 *
 * Tables of keyed state as the log's catalog knows them: made, deleted, found. Each change is
 * durable on return.
 */
#include <assert.h>

#include "pipeline/catalog.h"
#include "pipeline/struct_size.h"

int catalog_change_table(pawl *p, const struct table_entry *e) {
    struct pawl_tx *tx;
    int rc = tx_new(p, &tx);
    if (rc == 0) {
        tx->for_input = e->op == TABLE_CREATE;
        rc = tx_add_table(tx, e);
    }
    if (rc == 0)
        rc = tx_commit_locked(tx, NULL);
    tx_free(tx);
    return rc;
}

int catalog_check_table(const pawl_table_config *c) {
    if (!name_allowed(c->name))
        return catalog_bad_name("table");
    if (c->owner == NULL)
        return fail(PAWL_INVALID, "the owner's name is NULL");
    if (c->partitions == 0 || c->partitions > limit_of(LIMIT_TABLE_PARTITIONS))
        return fail(PAWL_INVALID, "a table has 1 to 1024 partitions");
    if ((c->flags & ~TABLE_FLAGS_KNOWN) != 0)
        return fail(PAWL_INVALID, "a table has no flags 0x%x", c->flags & ~TABLE_FLAGS_KNOWN);
    return 0;
}

int catalog_fresh_table(const struct tables *t, const pawl_table_config *c, uint32_t *owner) {
    *owner = tables_find_processor(t, c->owner);
    if (*owner == 0)
        return fail(PAWL_NOT_FOUND, "there is no processor %s to own table %s", c->owner, c->name);
    TRY(limit_check(LIMIT_TABLES, t->state.count + UINT64_C(1)));
    TRY(limit_check(LIMIT_STATE_PARTITIONS, (uint64_t)t->state.partition_count + c->partitions));
    return catalog_check_new("table", c->name, t->ids.table);
}

int catalog_create_table(pawl *p, const pawl_table_config *config, uint32_t *id) {
    const pawl_table_config c = *config;
    TRY(catalog_enter(p));
    struct tables *t = &p->tables;
    uint32_t existing = tables_find_table(t, c.name), fresh = t->ids.table, owner = 0;
    int rc = existing != 0 ? fail(PAWL_EXISTS, "there is a table %s already", c.name)
                           : catalog_fresh_table(t, &c, &owner);
    if (rc == 0)
        rc = catalog_change_table(
            p, &(struct table_entry){.op = TABLE_CREATE,
                                     .name_len = (uint16_t)strlen(c.name),
                                     .id = fresh,
                                     .owner = owner,
                                     .partitions = c.partitions,
                                     .version = c.version,
                                     .flags = c.flags | (c.ttl_ms != 0 ? TABLE_EXPIRES : 0),
                                     .ttl_ms = c.ttl_ms,
                                     .name = c.name});
    if (id != NULL)
        *id = existing != 0 ? existing : fresh;
    assert(rc < 0 || tables_table(t, fresh) != NULL); /* PAWL-3 */
    catalog_leave(p);
    return rc;
}

int pawl_table_create(pawl *p, const pawl_table_config *given, uint32_t *id) {
    pawl_table_config c;
    TRY(pawl_struct_take(&c, sizeof c, given, TABLE_CONFIG_FIRST, "pawl_table_config"));
    TRY(catalog_check_table(&c));
    return catalog_create_table(p, &c, id);
}

int catalog_internal_table(pawl *p, const char *name, const char *owner, uint32_t partitions,
                           uint32_t *id) {
    pawl_table_config c = PAWL_TABLE_CONFIG_INIT;
    assert(name[0] == TABLE_INTERNAL_MARK && !name_allowed(name));
    c.name = name;
    c.owner = owner;
    c.partitions = partitions;
    c.flags = PAWL_TABLE_LOCAL; /* timers' keys aren't the records' */
    return catalog_create_table(p, &c, id);
}

int pawl_table_delete(pawl *p, const char *name) {
    if (name == NULL)
        return fail(PAWL_INVALID, "the name is NULL");
    TRY(catalog_enter(p));
    uint32_t id = tables_find_table(&p->tables, name);
    bool internal = id != 0 && state_internal(tables_table(&p->tables, id));
    int rc = id == 0 ? fail(PAWL_NOT_FOUND, "there is no table %s", name)
             : internal
                 ? fail(PAWL_STATE, "table %s is internal; it goes with its processor", name)
                 : catalog_change_table(p, &(struct table_entry){.op = TABLE_DELETE, .id = id});
    if (rc == 0) {
        assert(tables_table(&p->tables, id) == NULL && p->tables.ids.table > id); /* PAWL-9 */
        engine_ask_chores(p);
    }
    catalog_leave(p);
    return rc;
}

static void fill(const struct tables *t, const struct state_table *s, pawl_table_info *out) {
    const char *owner = tables_processor_name(t, s->owner);
    *out = (pawl_table_info){.struct_size = sizeof *out,
                             .id = s->id,
                             .owner = s->owner,
                             .partitions = s->partitions,
                             .version = s->version,
                             .flags = s->flags,
                             .ttl_ms = s->ttl_ms};
    for (uint32_t i = 0; i < s->partitions; i++) {
        out->pairs += s->parts[i].sum.pairs;
        out->bytes += s->parts[i].sum.bytes;
        out->lost += state_lost(&s->parts[i]);
    }
    memcpy(out->name, s->name, sizeof s->name);
    if (owner != NULL)
        memcpy(out->owner_name, owner, sizeof out->owner_name);
}

/* Gives what is known of a table, and leaves. */
static int tell(pawl *p, const struct state_table *s, pawl_table_info *out) {
    pawl_table_info own;
    if (s != NULL)
        fill(&p->tables, s, &own);
    engine_leave(p);
    return s == NULL ? PAWL_NOT_FOUND
                     : pawl_struct_give(out, TABLE_INFO_FIRST, &own, sizeof own, "pawl_table_info");
}

int pawl_table_find(pawl *p, const char *name, pawl_table_info *out) {
    if (name == NULL)
        return fail(PAWL_INVALID, "the name is NULL");
    TRY(catalog_refreshed(p));
    uint32_t id = tables_find_table(&p->tables, name);
    int rc = tell(p, id != 0 ? tables_table(&p->tables, id) : NULL, out);
    return id != 0 ? rc : fail(PAWL_NOT_FOUND, "there is no table %s", name);
}

int pawl_table_get_info(pawl *p, uint32_t id, pawl_table_info *out) {
    TRY(catalog_refreshed(p));
    const struct state_table *s = tables_table(&p->tables, id);
    int rc = tell(p, s, out);
    return s != NULL ? rc : fail(PAWL_NOT_FOUND, "there is no table with id %u", id);
}

int pawl_table_at(pawl *p, uint32_t index, pawl_table_info *out) {
    TRY(catalog_refreshed(p));
    return tell(p, index < p->tables.state.count ? p->tables.state.tables[index] : NULL, out);
}
