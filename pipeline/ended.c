/* SPDX-License-Identifier: Apache-2.0
 *
 * What the application has ended. Readers, producers and processors that were closed stay for a
 * while, without what they held: a program that goes on using one is told (PAWL_STATE), as long as
 * it can be told, instead of reading freed memory. Ended transactions stay in their pool (tx.c).
 * And the log isn't closed while anything of it is in use.
 */
#include "pipeline/engine.h"

int ended_refuse(const void *what, const char *kind) {
    if (what == NULL)
        return fail(PAWL_INVALID, "the %s is NULL", kind);
    return fail(PAWL_STATE, "the %s has ended already: it may not be used any more", kind);
}

void ended_keep(pawl *p, void *what, size_t size) {
    struct ended *at = &p->ended[p->ended_count++ % ENDED_MAX];
    mem_free(&p->mem, at->what, at->size);
    *at = (struct ended){what, size};
}

void ended_free(pawl *p) {
    for (uint32_t i = 0; i < ENDED_MAX; i++) {
        mem_free(&p->mem, p->ended[i].what, p->ended[i].size);
        p->ended[i] = (struct ended){NULL, 0};
    }
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
