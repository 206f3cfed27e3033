/* SPDX-License-Identifier: Apache-2.0
 *
 * keeper.c - see keeper.h. The settings are durable before the table is made, so a table never
 * lacks them, and settings without a table have no meaning.
 */
#include "processors/keeper.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define SETTINGS_END ".settings"
#define SHOWN_MAX 64 /* of a setting, in a message */
/* pairs of the table of settings, beside them: the type, what keeper.h calls seed and pending */
#define TYPE "type"
#define SEED "#seed"
#define PENDING "#pending"

int keeper_make(keeper *k, const pawl_connector *c, const pawl_settings *s,
                const char *const *names, pawl_error *err) {
    k->type = c->type;
    for (; *names != NULL; names++) {
        const char *text = pawl_setting_text(c, s, *names);
        const pawl_setting_info *i = c->settings;
        while (strcmp(i->name, *names) != 0)
            i++;
        int rc = keeper_add(k, *names, text != NULL ? text : "",
                            i->fallback != NULL ? i->fallback : "", err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

int keeper_add(keeper *k, const char *name, const char *value, const char *fallback,
               pawl_error *err) {
    assert(k->count < KEEPER_SETTINGS_MAX);
    struct keeper_setting *x = &k->settings[k->count++];
    x->name = name;
    x->fallback = fallback;
    x->value = strdup(value);
    return x->value != NULL ? 0 : connect_error(err, PAWL_MEMORY, "no memory for a processor");
}

void keeper_free(keeper *k) {
    for (uint32_t i = 0; i < k->count; i++)
        free(k->settings[i].value);
    k->count = 0;
}

static bool is_settings(const char *name) {
    size_t n = strlen(name), end = strlen(SETTINGS_END);
    return n >= end && strcmp(name + n - end, SETTINGS_END) == 0;
}

/* A table of the processor, by its owner: a renamed processor keeps its tables. False: there is
 * none. */
static bool find_table(pawl *log, uint32_t owner, bool settings, pawl_table_info *out) {
    for (uint32_t i = 0;; i++) {
        *out = (pawl_table_info)PAWL_TABLE_INFO_INIT;
        if (pawl_table_at(log, i, out) < 0)
            return false;
        if (out->owner == owner && out->name[0] != '~' && is_settings(out->name) == settings)
            return true; /* '~': an internal one (pawl_time.h) */
    }
}

static bool has_read(pawl *log, uint32_t owner) {
    pawl_position at;
    for (uint32_t i = 0; pawl_position_at(log, i, &at) >= 0; i++)
        if (at.processor == owner && at.offset != 0)
            return true;
    return false;
}

int keeper_says(const proc *p, int code, pawl_error *err) {
    pawl_error e;
    pawl_last_error(&e);
    return connect_error(err, code, "processor %s: its table: %.400s", p->name,
                         e.message[0] != 0 ? e.message : pawl_strerror(code));
}

/* ---- settings */

static int put(pawl_tx *tx, uint32_t table, const char *name, const void *value, size_t size) {
    return pawl_tx_state_put(tx, table, 0, name, strlen(name), value, size);
}

static int end_tx(const proc *p, pawl_tx *tx, int rc, pawl_error *err) {
    if (rc < 0)
        pawl_abort(tx);
    else
        rc = connect_commit(tx, true, NULL);
    return rc < 0 ? keeper_says(p, rc, err) : 0;
}

static int write_settings(keeper *k, const proc *p, pawl *log, pawl_error *err) {
    pawl_tx *tx;
    uint8_t seed[8];
    if (getrandom(&k->seed, sizeof k->seed, 0) != (ssize_t)sizeof k->seed)
        return connect_error(err, PAWL_IO, "processor %s: no random numbers", p->name);
    connect_put_le(seed, k->seed, sizeof seed);
    int rc = pawl_begin(log, &tx);
    if (rc < 0)
        return keeper_says(p, rc, err);
    rc = put(tx, k->notes, TYPE, k->type, strlen(k->type));
    if (rc == 0)
        rc = put(tx, k->notes, SEED, seed, sizeof seed);
    if (rc == 0)
        rc = k->pending ? put(tx, k->notes, PENDING, "", 0)
                        : pawl_tx_state_delete(tx, k->notes, 0, PENDING, strlen(PENDING));
    for (uint32_t i = 0; i < k->count && rc >= 0; i++)
        rc = put(tx, k->notes, k->settings[i].name, k->settings[i].value,
                 strlen(k->settings[i].value));
    return end_tx(p, tx, rc, err);
}

static int read_notes(keeper *k, const proc *p, pawl *log, pawl_error *err) {
    uint8_t seed[8] = {0};
    size_t size;
    int rc = pawl_table_get(log, k->notes, 0, SEED, strlen(SEED), seed, sizeof seed, &size);
    k->seed = connect_get_le(seed, sizeof seed);
    if (rc >= 0)
        rc = pawl_table_get(log, k->notes, 0, PENDING, strlen(PENDING), NULL, 0, &size);
    k->pending = rc == 1;
    return rc < 0 ? keeper_says(p, rc, err) : 0;
}

int keeper_done(keeper *k, const proc *p, pawl *log, pawl_error *err) {
    pawl_tx *tx;
    int rc = pawl_begin(log, &tx);
    if (rc < 0)
        return keeper_says(p, rc, err);
    rc = end_tx(p, tx, pawl_tx_state_delete(tx, k->notes, 0, PENDING, strlen(PENDING)), err);
    k->pending = rc < 0;
    return rc;
}

/* Are the settings that the table was made with those of now? */
static int compare(const proc *p, pawl *log, const pawl_table_info *t, const char *name,
                   const char *value, const char *fallback, pawl_error *err) {
    size_t size = 0, want = strlen(value), room = want + SHOWN_MAX;
    char *stored = malloc(room), shown[SHOWN_MAX], now[SHOWN_MAX];
    if (stored == NULL)
        return connect_error(err, PAWL_MEMORY, "no memory for processor %s", p->name);
    int rc = pawl_table_get(log, t->id, 0, name, strlen(name), stored, room, &size);
    if (rc == 0)
        size = (size_t)snprintf(stored, room, "%s", fallback);
    bool same = rc >= 0 && size == want && memcmp(stored, value, want) == 0;
    pawl_show(stored, rc < 0 ? 0 : size < room ? size : room, NULL, shown, sizeof shown);
    free(stored);
    if (rc < 0)
        return keeper_says(p, rc, err);
    if (same)
        return 0;
    pawl_show(value, want, NULL, now, sizeof now);
    return connect_error(
        err, PAWL_STATE,
        "processor %s: what its table %.*s holds was made with %s \"%s\", and now %s is \"%s\". "
        "Write what it was, or give the processor another name, or begin anew: pawl processor "
        "forget DIR %s --tables",
        p->name, (int)(strlen(t->name) - strlen(SETTINGS_END)), t->name, name, shown, name, now,
        p->name);
}

static int check_settings(const keeper *k, const proc *p, pawl *log, const pawl_table_info *t,
                          pawl_error *err) {
    int rc = compare(p, log, t, TYPE, k->type, "", err);
    for (uint32_t i = 0; i < k->count && rc == 0; i++)
        rc = compare(p, log, t, k->settings[i].name, k->settings[i].value, k->settings[i].fallback,
                     err);
    return rc;
}

/* ---- the tables */

static int create(const proc *p, pawl *log, const char *end, uint32_t partitions, uint32_t flags,
                  uint32_t *id, pawl_error *err) {
    char name[160];
    pawl_table_config c = PAWL_TABLE_CONFIG_INIT;
    snprintf(name, sizeof name, "%s%s", p->name, end);
    c.name = name, c.owner = p->name, c.partitions = partitions, c.version = 1, c.flags = flags;
    int rc = pawl_table_create(log, &c, id);
    if (rc == PAWL_EXISTS)
        return connect_error(err, rc,
                             "processor %s: its table would be called %s, and another processor "
                             "has a table of that name; give this processor another name",
                             p->name, name);
    return rc < 0 ? keeper_says(p, rc, err) : 0;
}

static int make_tables(keeper *k, const proc *p, pawl *log, uint32_t owner, pawl_error *err) {
    pawl_table_info settings;
    bool there = find_table(log, owner, true, &settings);
    k->notes = settings.id;
    int rc = there ? 0 : create(p, log, SETTINGS_END, 1, PAWL_TABLE_LOCAL, &k->notes, err);
    if (rc == 0)
        rc = write_settings(k, p, log, err);
    if (rc == 0)
        rc = create(p, log, "", p->inputs[0].partitions, k->flags, &k->table, err);
    return rc;
}

int keeper_open(keeper *k, const proc *p, pawl *log, bool older, pawl_error *err) {
    pawl_table_info t, settings;
    uint32_t owner;
    int rc = pawl_processor_register(log, p->name, &owner);
    if (rc < 0)
        return keeper_says(p, rc, err);
    if (!find_table(log, owner, false, &t)) {
        k->pending = has_read(log, owner);
        if (!older && k->pending)
            return connect_error(
                err, PAWL_STATE,
                "processor %s has read records already, and has no table: what it would keep of "
                "them is missing. Give it another name, or begin anew: pawl processor forget DIR "
                "%s",
                p->name, p->name);
        return make_tables(k, p, log, owner, err);
    }
    k->table = t.id;
    if (!find_table(log, owner, true, &settings))
        return connect_error(err, PAWL_STATE,
                             "processor %s: its table %s was not made by a processor of type %s; "
                             "give the processor another name",
                             p->name, t.name, k->type);
    k->notes = settings.id;
    if ((rc = check_settings(k, p, log, &settings, err)) < 0 ||
        (rc = read_notes(k, p, log, err)) < 0)
        return rc;
    if (t.partitions != p->inputs[0].partitions)
        return connect_error(err, PAWL_STATE,
                             "processor %s: its table %s has %u partitions, and what it reads has "
                             "%u: its state can't be shared out anew. Give it another name, or "
                             "begin anew: pawl processor forget DIR %s --tables",
                             p->name, t.name, t.partitions, p->inputs[0].partitions, p->name);
    return 0;
}

int keeper_error(pawl_context *ctx, int code, const char **why) {
    pawl_error e;
    pawl_last_error(&e);
    if (code == PAWL_TOO_LARGE) {
        *why = "what it changes in the processor's table is too large for a commit";
        return code;
    }
    if (code == PAWL_RANGE) {
        pawl_broken(ctx, "a record lies in another partition than its key belongs to, so it can't "
                         "be put together with the others of that key. Put a processor of type "
                         "rekey between, which puts each record where its key belongs");
        return PROC_TOLD;
    }
    *why = "the processor's table could not be used";
    if (code == PAWL_MEMORY || code == PAWL_FULL || code == PAWL_IO || code == PAWL_FORKED)
        return code;
    pawl_broken(ctx, e.message[0] != 0 ? e.message : pawl_strerror(code));
    return PROC_TOLD;
}
