/* SPDX-License-Identifier: Apache-2.0 */
#include "connect.h"

int pawl_sink_add(pawl *p, const pawl_sink_config *c, const pawl_sink_ops *ops, pawl_sink **out, pawl_error *err) {
    (void)p, (void)c, (void)ops, (void)out;
    return connect_error(err, PAWL_UNSUPPORTED, "not in this version");
}
int pawl_sink_step(pawl_sink *s) {
    (void)s;
    return PAWL_UNSUPPORTED;
}
int pawl_sink_start(pawl_sink *s) {
    (void)s;
    return PAWL_UNSUPPORTED;
}
int pawl_sink_stop(pawl_sink *s, uint32_t drain_ms) {
    (void)s, (void)drain_ms;
    return PAWL_UNSUPPORTED;
}
void pawl_sink_remove(pawl_sink *s) {
    (void)s;
}
int pawl_sink_status(pawl_sink *s, pawl_flow_status *out) {
    (void)s, (void)out;
    return PAWL_UNSUPPORTED;
}
