/* SPDX-License-Identifier: Apache-2.0 */
#include "connect.h"

int pawl_source_add(pawl *p, const pawl_source_config *c, const pawl_source_ops *ops, pawl_source **out,
                    pawl_error *err) {
    (void)p, (void)c, (void)ops, (void)out;
    return connect_error(err, PAWL_UNSUPPORTED, "not in this version");
}
int pawl_source_step(pawl_source *s) {
    (void)s;
    return PAWL_UNSUPPORTED;
}
int pawl_source_start(pawl_source *s) {
    (void)s;
    return PAWL_UNSUPPORTED;
}
int pawl_source_stop(pawl_source *s, uint32_t drain_ms) {
    (void)s, (void)drain_ms;
    return PAWL_UNSUPPORTED;
}
void pawl_source_remove(pawl_source *s) {
    (void)s;
}
int pawl_source_status(pawl_source *s, pawl_flow_status *out) {
    (void)s, (void)out;
    return PAWL_UNSUPPORTED;
}
int pawl_source_position(pawl_source_context *x, const char *item, void *buf) {
    (void)x, (void)item, (void)buf;
    return PAWL_UNSUPPORTED;
}
