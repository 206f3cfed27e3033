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
 * The function finds its streams with pawl_stream_find(). The object is linked without libpawl; it
 * uses the functions of the program that loads it.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "processors/proc.h"

typedef int (*open_fn)(pawl *log, const pawl_settings *options, void **arg, pawl_error *err);
typedef void (*close_fn)(void *arg);

typedef struct plugin {
    char *library, *symbol;
    pawl_setting *options; /* copies, without "options." in front */
    size_t count;
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
    for (size_t i = 0; x->options != NULL && i < s->count; i++) {
        if (strncmp(s->items[i].name, "options.", 8) == 0)
            x->options[x->count++] = (pawl_setting){strdup(s->items[i].name + 8),
                                                    strdup(s->items[i].value), s->items[i].line};
        int rc =
            strncmp(s->items[i].name, "outputs.", 8) == 0 ? proc_output(p, &s->items[i], err) : 0;
        if (rc < 0)
            return rc;
    }
    return x->library != NULL && x->symbol != NULL && x->options != NULL
               ? 0
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
    return proc_make(&connect_processor_plugin, &type, s, out, err);
}
