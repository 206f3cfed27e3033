/* SPDX-License-Identifier: Apache-2.0
 *
 * Objects that the application has ended. Closed readers, producers and processors are kept for a
 * while, without their buffers: a program that still uses one gets PAWL_STATE instead of reading
 * freed memory, until it is freed. Ended transactions stay in their pool (tx.c). And the log can't
 * be closed while one of its objects is in use.
 */
#include <stdlib.h>

#include "pipeline/engine.h"
#include "pipeline/state.h"

int ended_refuse(const void *what, const char *kind) {
    if (what == NULL)
        return fail(PAWL_INVALID, "the %s is NULL", kind);
    return fail(PAWL_STATE, "the %s has ended already: it may not be used any more", kind);
}

void ended_keep(pawl *p, void *what, size_t size) {
    void **at = &p->ended[p->ended_count++ % ENDED_MAX];
    /* a few hundred bytes each: not counted against the cap */
    atomic_fetch_sub(&p->mem.used, size);
    free(*at);
    *at = what;
}

void ended_free(pawl *p) {
    for (uint32_t i = 0; i < ENDED_MAX; i++)
        free(p->ended[i]);
}

int ended_all(pawl *p) {
    pthread_mutex_lock(&p->mutex);
    uint32_t txs = atomic_load(&p->open_txs), readers = p->open_readers;
    uint32_t producers = p->open_producers, scans = state_open_scans(p);
    int rc = 0;
    if ((txs | readers | producers | scans) != 0 || p->any != NULL)
        rc = fail(
            PAWL_BUSY,
            "the log has %u open transactions, %u readers, %u producers and %u scans of tables: "
            "commit or abort and close them first",
            txs, readers, producers, scans);
    engine_leave(p);
    return rc;
}
