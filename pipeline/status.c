/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "pipeline/engine.h"
#include "pipeline/struct_size.h"

static void fill_writer(pawl *p, pawl_status *s) {
    const struct wal *w = &p->wal;
    s->first_segment = w->first_segment;
    s->last_segment = w->segment;
    s->disk_bytes = wal_segments_on_disk(w) * w->segment_size;
    s->durable_lsn = w->durable;
    s->end_lsn = w->tail;
    s->epoch = w->epoch;
    s->commits = p->commits;
    s->records = p->records;
    s->groups = w->groups_written;
    s->syncs = w->syncs;
    s->bytes_written = w->bytes_written;
    s->payload_bytes = p->payload_bytes;
    s->full = wal_is_full(&p->wal);
    s->in_flight = w->in_flight;
    s->recycled = w->recycled;
    s->group_pace = (uint32_t)pace_mean(&w->pace);
    s->group_wait = (uint32_t)pace_group_wait(&w->pace);
}

/* Without the lock: the number of segment files, including those that a writer has prepared; 0:
 * unknown. */
static uint64_t count_files(pawl *p) {
    struct segment_list l;
    pawl_error saved;
    fail_copy(&saved);
    if (segment_list_read(p->io, &p->mem, &l) < 0) {
        fail_again(&saved);
        return 0;
    }
    uint64_t count = l.count;
    segment_list_free(&l);
    return count;
}

static void fill_reader(pawl *p, pawl_status *s, uint64_t files) {
    const struct follow *f = &p->follow;
    uint64_t begun = f->index - p->wal.first_segment + 1;
    s->first_segment = p->wal.first_segment;
    s->last_segment = f->index;
    s->disk_bytes = (files > begun ? files : begun) * p->header.segment_size;
    s->durable_lsn = s->end_lsn = f->shown;
    s->epoch = f->epoch;
    s->writer_pid = f->writer < 0 ? -1 : f->writer;
}

static void fill(pawl *p, pawl_status *out) {
    memcpy(out->log_id, segment_identity(&p->header), 16);
    out->segment_size = p->header.segment_size;
    out->features_read = p->header.features.read;
    out->features_write = p->header.features.write;
    out->features_ignore = p->header.features.ignore;
    if (p->read_only) {
        (void)!follow_refresh(p); /* on an error, the earlier state counts */
        engine_leave(p);
        uint64_t files = count_files(p);
        pthread_mutex_lock(&p->mutex);
        fill_reader(p, out, files);
    } else {
        fill_writer(p, out);
    }
    out->disk_cap = p->wal.disk_cap;
    out->first_lsn = out->first_segment * out->segment_size;
    out->memory_used = atomic_load(&p->mem.used);
    out->memory_cap = p->mem.cap;
    out->runs = p->tables.state.run_count;
    for (uint32_t i = 0; i < p->tables.state.run_count; i++)
        out->run_bytes += p->tables.state.runs[i].bytes;
    out->recovered_bytes = p->recovered_bytes;
    out->cut_bytes = p->cut_bytes;
    out->recovery_ns = p->recovery_ns;
    out->backend = p->io->backend;
    out->direct = p->io->direct;
    out->clean = p->clean;
    snprintf(out->backend_note, sizeof out->backend_note, "%s", p->io->note);
}

int pawl_get_status(pawl *p, pawl_status *out) {
    pawl_status own = PAWL_STATUS_INIT;
    TRY(engine_enter(p));
    fill(p, &own);
    engine_leave(p);
    return pawl_struct_give(out, STATUS_FIRST, &own, sizeof own, "pawl_status");
}
