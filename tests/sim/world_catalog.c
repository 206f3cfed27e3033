/* SPDX-License-Identifier: Apache-2.0
 *
 * The simulated process's operations on the catalog.
 */
#include "world.h"

#undef fail
#include "wal/format.h"

/* Creates a stream, or deletes it. Its ids grow, even if a crash undoes a change. */
void world_stream(struct world *w) {
    struct model *m = w->model;
    bool going = model_last(m)->passing != 0;
    struct model_view *v = model_submit(m);
    v->passing = going ? 0 : ++v->used;
    uint64_t due = v->used;
    uint32_t id = 0;
    int rc = going ? pawl_stream_delete(w->log, "passing")
                   : pawl_stream_create(w->log, "passing", 1, &id);
    world_ended(w, going ? "stream_delete" : "stream_create", rc, m->count);
    if (rc == 0 && !going && id != due)
        world_wrong(w, "a new stream gets id %u, not %llu", id, (unsigned long long)due);
}

void world_cap(struct world *w, uint32_t arg) {
    uint64_t cap = arg % 3 == 0 ? 0 : (uint64_t)(8 + arg % 9) * SEGMENT_SIZE_UNIT;
    model_submit(w->model)->cap = cap;
    world_ended(w, "disk_cap_set", pawl_disk_cap_set(w->log, cap), w->model->count);
}
