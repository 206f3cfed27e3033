/* SPDX-License-Identifier: Apache-2.0
 *
 * plugin.c - a function of a shared object as a processor:
 *
 *   int SYMBOL(pawl_context *ctx, const pawl_record *records, size_t count, void *arg);
 *       has the signature of pawl_process_fn
 *   int SYMBOL_open(pawl *log, const pawl_settings *options, void **arg, pawl_error *err);
 *       optional; without it arg is NULL
 *   void SYMBOL_close(void *arg);
 *       optional
 *
 * The function finds its streams with pawl_stream_find(), and the tables that `tables` names, which
 * are there when SYMBOL_open() is called, with pawl_table_find() (pawl_state.h). The object is
 * linked without libpawl; it uses the functions of the program that loads it.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pawl_state.h"
#include "processors/proc.h"

typedef int (*open_fn)(pawl *log, const pawl_settings *options, void **arg, pawl_error *err);
typedef void (*close_fn)(void *arg);

typedef struct plugin {
    char *library, *symbol;
    pawl_setting *options; /* copies, without "options." in front */
    size_t count;
    char **tables;
    size_t table_count;
    uint32_t table_flags;
    void *object;
    pawl_process_fn process;
    void *arg;
    close_fn close;
    bool opened;
} plugin;

static const pawl_setting_info settings[] = {
    {"library", PAWL_SETTING_TEXT, 1, NULL, NULL,
     "the shared object; a path with a slash, or a name that the loader finds"},
    {"symbol", PAWL_SETTING_TEXT, 0, NULL, "process", "the function"},
    {"outputs.*", PAWL_SETTING_TEXT, 1, NULL, NULL, "the streams that it emits to, as a list"},
    {"tables.*", PAWL_SETTING_TEXT, 0, NULL, NULL,
     "the tables of keyed state that it keeps, as a list; each is made if it isn't there, with as "
     "many partitions as the input"},
    {"table_keys", PAWL_SETTING_CHOICE, 0, "partition|any", "partition",
     "which keys a partition of a table takes: those of records that belong into the partition, or "
     "any"},
    {"options.*", PAWL_SETTING_TEXT, 0, NULL, NULL, "what SYMBOL_open() gets"},
    {NULL, 0, 0, NULL, NULL, NULL},
};
static int make_processor(const pawl_settings *s, pawl_processor_ops *out, pawl_error *err);
const pawl_connector connect_processor_plugin = {
    .type = "plugin",
    .help = "a function of a shared object",
    .settings = settings,
    .make_processor = make_processor,
};

static void unload(plugin *x) {
    if (x->opened && x->close != NULL)
        x->close(x->arg);
    if (x->object != NULL)
        dlclose(x->object);
    x->opened = false;
    x->object = NULL;
    x->close = NULL;
    x->arg = NULL;
}

static void destroy(void *self) {
    plugin *x = self;
    unload(x);
    for (size_t i = 0; i < x->count; i++) {
        free((char *)(uintptr_t)x->options[i].name);
        free((char *)(uintptr_t)x->options[i].value);
    }
    for (size_t i = 0; i < x->table_count; i++)
        free(x->tables[i]);
    free(x->tables);
    free(x->options);
    free(x->library);
    free(x->symbol);
    free(x);
}

static int make(proc *p, const pawl_settings *s, pawl_error *err) {
    plugin *x = calloc(1, sizeof *x);
    if (x == NULL)
        return connect_error(err, PAWL_MEMORY, "no memory");
    p->self = x;
    x->library = strdup(pawl_setting_text(&connect_processor_plugin, s, "library"));
    x->symbol = strdup(pawl_setting_text(&connect_processor_plugin, s, "symbol"));
    x->options = calloc(s->count + 1, sizeof *x->options);
    x->tables = calloc(s->count + 1, sizeof *x->tables);
    x->table_flags = connect_setting_choice(&connect_processor_plugin, s, "table_keys") == 1
                         ? PAWL_TABLE_LOCAL
                         : 0;
    if (x->options == NULL || x->tables == NULL)
        return connect_error(err, PAWL_MEMORY, "no memory");
    for (size_t i = 0; i < s->count; i++) {
        if (strncmp(s->items[i].name, "tables.", 7) == 0 &&
            (x->tables[x->table_count++] = strdup(s->items[i].value)) == NULL)
            return connect_error(err, PAWL_MEMORY, "no memory");
        if (strncmp(s->items[i].name, "options.", 8) == 0)
            x->options[x->count++] = (pawl_setting){strdup(s->items[i].name + 8),
                                                    strdup(s->items[i].value), s->items[i].line};
        int rc =
            strncmp(s->items[i].name, "outputs.", 8) == 0 ? proc_output(p, &s->items[i], err) : 0;
        if (rc < 0)
            return rc;
    }
    return x->library != NULL && x->symbol != NULL ? 0
                                                   : connect_error(err, PAWL_MEMORY, "no memory");
}

/* ISO C has no conversion between pointers to objects and to functions; dlsym() gives the one for
 * the other. */
static bool find(void *object, const char *symbol, const char *end, void *function) {
    char name[256];
    snprintf(name, sizeof name, "%s%s", symbol, end);
    void *found = dlsym(object, name);
    memcpy(function, &found, sizeof found);
    return found != NULL;
}

/* Makes a table, or sees that the one that is there is as it would be made. */
static int want_table(const proc *p, pawl *log, const char *name, pawl_error *err) {
    const plugin *x = p->self;
    pawl_table_config c = PAWL_TABLE_CONFIG_INIT;
    pawl_table_info t = PAWL_TABLE_INFO_INIT;
    c.name = name, c.owner = p->name, c.partitions = p->inputs[0].partitions, c.version = 1;
    c.flags = x->table_flags;
    int rc = pawl_table_create(log, &c, NULL);
    if (rc == PAWL_EXISTS)
        rc = pawl_table_find(log, name, &t);
    if (rc < 0) {
        pawl_error e;
        pawl_last_error(&e);
        return connect_error(err, rc, "processor %s: its table %s: %.400s", p->name, name,
                             e.message[0] != 0 ? e.message : pawl_strerror(rc));
    }
    if (t.id != 0 && strcmp(t.owner_name, p->name) != 0)
        return connect_error(err, PAWL_EXISTS,
                             "processor %s: the table %s belongs to processor %s; give it another "
                             "name",
                             p->name, name, t.owner_name);
    if (t.id != 0 && (t.partitions != c.partitions || (t.flags & PAWL_TABLE_LOCAL) != c.flags))
        return connect_error(err, PAWL_STATE,
                             "processor %s: the table %s has %u partitions and table_keys \"%s\", "
                             "and would be made with %u and \"%s\"; give it another name, or begin "
                             "anew: pawl processor forget DIR %s --tables",
                             p->name, name, t.partitions,
                             (t.flags & PAWL_TABLE_LOCAL) != 0 ? "any" : "partition", c.partitions,
                             c.flags != 0 ? "any" : "partition", p->name);
    return 0;
}

static int want_tables(const proc *p, pawl *log, pawl_error *err) {
    const plugin *x = p->self;
    int rc = x->table_count != 0 ? pawl_processor_register(log, p->name, NULL) : 0;
    if (rc < 0)
        return connect_log_error(err, rc);
    for (size_t i = 0; i < x->table_count && rc == 0; i++)
        rc = want_table(p, log, x->tables[i], err);
    return rc;
}

static int start(proc *p, pawl *log, pawl_error *err) {
    plugin *x = p->self;
    open_fn opening;
    unload(x); /* of an earlier start */
    x->object = dlopen(x->library, RTLD_NOW | RTLD_LOCAL);
    if (x->object == NULL)
        return connect_error(err, PAWL_NOT_FOUND, "processor %s: %s", p->name, dlerror());
    if (!find(x->object, x->symbol, "", &x->process))
        return connect_error(err, PAWL_NOT_FOUND, "processor %s: %s has no function %s", p->name,
                             x->library, x->symbol);
    int made = want_tables(p, log, err);
    if (made < 0)
        return made;
    (void)find(x->object, x->symbol, "_close", &x->close);
    if (find(x->object, x->symbol, "_open", &opening)) {
        pawl_error why = {0};
        int rc =
            opening(log, &(pawl_settings){.items = x->options, .count = x->count}, &x->arg, &why);
        if (rc < 0)
            return connect_error(err, rc, "processor %s: %s_open: %.300s", p->name, x->symbol,
                                 why.message[0] != 0 ? why.message : pawl_strerror(rc));
    }
    x->opened = true;
    return 0;
}

static int process(proc *p, pawl_context *ctx, const pawl_record *records, size_t count) {
    const plugin *x = p->self;
    return x->process(ctx, records, count, x->arg);
}

static const proc_type type = {
    .make = make,
    .start = start,
    .process = process,
    .destroy = destroy,
};

static int make_processor(const pawl_settings *s, pawl_processor_ops *out, pawl_error *err) {
    int rc = proc_make(&connect_processor_plugin, &type, s, out, err);
    if (rc == 0 && ((const plugin *)((const proc *)out->self)->self)->table_count != 0)
        out->flags |= PAWL_PROCESSOR_KEEPS_TABLES;
    return rc;
}
