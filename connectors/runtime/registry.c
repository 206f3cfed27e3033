/* SPDX-License-Identifier: Apache-2.0
 *
 * The sinks, sources and processors compiled in. A new one is a file that defines `const
 * pawl_connector connect_sink_NAME` (source, processor), and one row below: X(sink_NAME) where it
 * is always built, or within the #if of the library it needs.
 */
#include <string.h>

#include "connectors/runtime/connect.h"

#define ALWAYS(X) X(sink_file) X(sink_stdout) X(sink_exec)
#define SOURCES(X) X(source_file) X(source_dir) X(source_stdin) X(source_socket) X(source_syslog)

#define PROCESSORS(X) \
    X(processor_regex) \
    X(processor_json) \
    X(processor_filter) \
    X(processor_route) \
    X(processor_dedup) \
    X(processor_count) \
    X(processor_last) \
    X(processor_table) \
    X(processor_rekey) \
    X(processor_aggregate) \
    X(processor_exec) \
    X(processor_plugin)

#if PAWL_WITH_SQLITE
#define SQLITE(X) X(sink_sqlite)
#else
#define SQLITE(X)
#endif

#if PAWL_WITH_POSTGRES
#define POSTGRES(X) X(sink_postgres) X(source_postgres)
#else
#define POSTGRES(X)
#endif

#define CONNECTORS(X) ALWAYS(X) SOURCES(X) PROCESSORS(X) SQLITE(X) POSTGRES(X)

#define DECLARE(name) extern const pawl_connector connect_##name;
CONNECTORS(DECLARE)

#define ADDRESS(name) &connect_##name,
static const pawl_connector *const all[] = {CONNECTORS(ADDRESS) NULL};

const pawl_connector *pawl_connector_at(uint32_t index) {
    return index < sizeof all / sizeof all[0] ? all[index] : NULL;
}

static bool is_kind(const pawl_connector *c, int kind) {
    return (kind == PAWL_KIND_SINK && c->make_sink != NULL) ||
           (kind == PAWL_KIND_SOURCE && c->make_source != NULL) ||
           (kind == PAWL_KIND_PROCESSOR && c->make_processor != NULL);
}

const pawl_connector *pawl_connector_find(const char *type, int kind) {
    for (size_t i = 0; type != NULL && all[i] != NULL; i++)
        if (strcmp(all[i]->type, type) == 0 && is_kind(all[i], kind))
            return all[i];
    return NULL;
}

/* Finds the type and checks the settings. */
static int find(const char *type, const pawl_settings **s, int kind, const pawl_connector **out,
                pawl_error *err) {
    static const char *const kinds[] = {"sink", "source", "processor"};
    static const pawl_settings none = {.items = NULL};
    *s = *s != NULL ? *s : &none;
    *out = pawl_connector_find(type, kind);
    if (*out == NULL)
        return connect_error(err, PAWL_NOT_FOUND, "there is no %s of type \"%s\" in this build",
                             kinds[kind], type != NULL ? type : "");
    return pawl_settings_check(*out, *s, err);
}

int pawl_sink_make(const char *type, const pawl_settings *s, pawl_sink_ops *out, pawl_error *err) {
    const pawl_connector *c;
    struct connect_secrets secrets;
    int rc = find(type, &s, PAWL_KIND_SINK, &c, err);
    if (rc < 0)
        return rc;
    pawl_sink_ops own = PAWL_SINK_OPS_INIT, theirs;
    rc = pawl_struct_take(&theirs, sizeof theirs, out, SINK_OPS_FIRST, "pawl_sink_ops");
    if (rc < 0)
        return connect_log_error(err, rc);
    rc = connect_secrets_take(c, s, &secrets, err);
    if (rc < 0)
        return rc;
    rc = c->make_sink(&secrets.settings, &own, err);
    connect_secrets_free(&secrets);
    return rc < 0 ? rc : pawl_struct_give(out, SINK_OPS_FIRST, &own, sizeof own, "pawl_sink_ops");
}

int pawl_source_make(const char *type, const pawl_settings *s, pawl_source_ops *out,
                     pawl_error *err) {
    const pawl_connector *c;
    struct connect_secrets secrets;
    int rc = find(type, &s, PAWL_KIND_SOURCE, &c, err);
    if (rc < 0)
        return rc;
    pawl_source_ops own = PAWL_SOURCE_OPS_INIT, theirs;
    rc = pawl_struct_take(&theirs, sizeof theirs, out, SOURCE_OPS_FIRST, "pawl_source_ops");
    if (rc < 0)
        return connect_log_error(err, rc);
    rc = connect_secrets_take(c, s, &secrets, err);
    if (rc < 0)
        return rc;
    rc = c->make_source(&secrets.settings, &own, err);
    connect_secrets_free(&secrets);
    return rc < 0 ? rc
                  : pawl_struct_give(out, SOURCE_OPS_FIRST, &own, sizeof own, "pawl_source_ops");
}

int pawl_processor_make(const char *type, const pawl_settings *s, pawl_processor_ops *out,
                        pawl_error *err) {
    const pawl_connector *c;
    struct connect_secrets secrets;
    int rc = find(type, &s, PAWL_KIND_PROCESSOR, &c, err);
    if (rc < 0)
        return rc;
    pawl_processor_ops own = PAWL_PROCESSOR_OPS_INIT, theirs;
    rc = pawl_struct_take(&theirs, sizeof theirs, out, PROCESSOR_OPS_FIRST, "pawl_processor_ops");
    if (rc < 0)
        return connect_log_error(err, rc);
    rc = connect_secrets_take(c, s, &secrets, err);
    if (rc < 0)
        return rc;
    rc = c->make_processor(&secrets.settings, &own, err);
    connect_secrets_free(&secrets);
    return rc < 0
               ? rc
               : pawl_struct_give(out, PROCESSOR_OPS_FIRST, &own, sizeof own, "pawl_processor_ops");
}
