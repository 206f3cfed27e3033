/* SPDX-License-Identifier: Apache-2.0
 *
 * Which connection makes room where a listener has as many as it may. A pure function, tested by a
 * table of cases. One peer (struct peer_id) never keeps another out:
 *
 *   the newcomer's peer has as many as peer_max     one of its own makes room
 *   all places are taken                            one of the peer that has most makes room; first
 *                                                   of the newcomer's own, if it has as many
 *
 * Of those the least worth goes: first what never said anything useful, then what greeted and sent
 * nothing, then what is quiet; among equals the one that was silent longest. A busy connection
 * stays, whoever waits.
 */
#ifndef PAWL_CONNECTORS_CROWD_H
#define PAWL_CONNECTORS_CROWD_H

#include <stdbool.h>
#include <stdint.h>

enum crowd_worth {
    CROWD_NEW,   /* nothing useful has come from it */
    CROWD_OPEN,  /* it has greeted, and no line has come */
    CROWD_QUIET, /* it was useful, is silent for its time limit, and owes nothing */
    CROWD_BUSY
};

struct crowd_member {
    uint64_t peer;
    enum crowd_worth worth;
    uint64_t heard_ns; /* when the last bytes came */
};

struct crowd_rule {
    uint32_t max, peer_max; /* connections in all, and of one peer */
    bool keeps_quiet;       /* a peer's only connection stays while it is quiet: without
                               acknowledgements the peer may lose what it sends meanwhile */
};

enum { CROWD_ROOM = -1, CROWD_REFUSED = -2 };

/* Where a connection of `peer` finds a place: ROOM, REFUSED, or the index of the member that has to
 * go. */
int crowd_place(const struct crowd_rule *r, const struct crowd_member *m, uint32_t count,
                uint64_t peer);

#endif
