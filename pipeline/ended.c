/* SPDX-License-Identifier: Apache-2.0
 *
 * What the application has ended. Readers, producers and processors that were closed stay for a
 * while, without what they held: a program that goes on using one is told (PAWL_STATE), as long as
 * it can be told, instead of reading freed memory. Ended transactions stay in their pool (tx.c).
 * And the log isn't closed while anything of it is in use.
 */
#include <stdlib.h>

#include "pipeline/engine.h"

int ended_refuse(const void *what, const char *kind) {
    if (what == NULL)
        return fail(PAWL_INVALID, "the %s is NULL", kind);
    return fail(PAWL_STATE, "the %s has ended already: it may not be used any more", kind);
}

void ended_keep(pawl *p, void *what, size_t size) {
    void **at = &p->ended[p->ended_count++ % ENDED_MAX];
    atomic_fetch_sub(&p->mem.used, size); /* a few hundred bytes each: no part of the cap */
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
    uint32_t producers = p->open_producers;
    int rc = 0;
    if ((txs | readers | producers) != 0 || p->any != NULL)
        rc = fail(PAWL_BUSY,
                  "the log has %u open transactions, %u readers and %u producers: commit or abort "
                  "and close them first",
                  txs, readers, producers);
    engine_leave(p);
    return rc;
}
