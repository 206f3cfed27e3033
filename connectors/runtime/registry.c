/* SPDX-License-Identifier: Apache-2.0
 *
 * The connectors compiled in. A new one is a file sink_NAME.c or source_NAME.c that defines `const
 * pawl_connector connect_sink_NAME`, and one line below: X(sink_NAME) where it is always built, or
 * within the #if of the library it needs.
 */
#include <string.h>

#include "connectors/runtime/connect.h"

#define ALWAYS(X) X(sink_file) X(sink_stdout) X(sink_exec)
#define SOURCES(X) X(source_file) X(source_dir) X(source_stdin) X(source_socket) X(source_syslog)

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

#define CONNECTORS(X) ALWAYS(X) SOURCES(X) SQLITE(X) POSTGRES(X)

#define DECLARE(name) extern const pawl_connector connect_##name;
CONNECTORS(DECLARE)

#define ADDRESS(name) &connect_##name,
static const pawl_connector *const all[] = {CONNECTORS(ADDRESS) NULL};

const pawl_connector *pawl_connector_at(uint32_t index) {
    return index < sizeof all / sizeof all[0] ? all[index] : NULL;
}

const pawl_connector *pawl_connector_find(const char *type, int is_source) {
    for (size_t i = 0; type != NULL && all[i] != NULL; i++)
        if (strcmp(all[i]->type, type) == 0 &&
            (is_source ? all[i]->make_source != NULL : all[i]->make_sink != NULL))
            return all[i];
    return NULL;
}

static int make(const char *type, const pawl_settings *s, int is_source, const pawl_connector **out,
                pawl_error *err) {
    *out = pawl_connector_find(type, is_source);
    if (*out == NULL)
        return connect_error(err, PAWL_NOT_FOUND, "there is no %s of type \"%s\" in this build",
                             is_source ? "source" : "sink", type != NULL ? type : "");
    return pawl_settings_check(*out, s, err);
}

int pawl_sink_make(const char *type, const pawl_settings *s, pawl_sink_ops *out, pawl_error *err) {
    const pawl_connector *c;
    int rc = make(type, s, 0, &c, err);
    if (rc < 0)
        return rc;
    *out = (pawl_sink_ops)PAWL_SINK_OPS_INIT;
    return c->make_sink(s, out, err);
}

int pawl_source_make(const char *type, const pawl_settings *s, pawl_source_ops *out,
                     pawl_error *err) {
    const pawl_connector *c;
    int rc = make(type, s, 1, &c, err);
    if (rc < 0)
        return rc;
    *out = (pawl_source_ops)PAWL_SOURCE_OPS_INIT;
    return c->make_source(s, out, err);
}
