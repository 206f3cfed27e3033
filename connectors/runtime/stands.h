/* SPDX-License-Identifier: Apache-2.0
 *
 * Where each partition's position in the target stood when a sink last looked, so that it is only
 * moved from there.
 */
#ifndef PAWL_CONNECTORS_STANDS_H
#define PAWL_CONNECTORS_STANDS_H

#include <stdlib.h>

#include "connectors/runtime/connect.h"

struct stand {
    uint32_t stream, partition;
    bool asked; /* else (guarantees below exactly-once) the position is written without looking */
    bool there; /* the target has a row for it */
    uint64_t at;
};
struct stands {
    struct stand *items;
    size_t count;
};

/* The batch's partition; made where it is new. NULL: no memory. */
static inline struct stand *stands_of(struct stands *s, const pawl_sink_batch *b) {
    for (size_t i = 0; i < s->count; i++)
        if (s->items[i].stream == b->stream_id && s->items[i].partition == b->partition)
            return &s->items[i];
    if (s->count % 16 == 0) {
        struct stand *q = realloc(s->items, (s->count + 16) * sizeof *q);
        if (q == NULL)
            return NULL;
        s->items = q;
    }
    s->items[s->count] = (struct stand){.stream = b->stream_id, .partition = b->partition};
    return &s->items[s->count++];
}

#endif
