/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline/spill_refs.h"

int spill_refs_take(struct spill_refs *s, uint64_t lsn, const struct run *r) {
    for (uint32_t i = 0; i < s->count; i++) {
        const struct spill_ref *x = &s->refs[i];
        if (x->lsn != lsn || x->stream != r->stream || x->partition != r->partition)
            continue;
        if (x->base != r->base)
            return fail(PAWL_DAMAGED, "two commits refer to one spilled run, which belongs to one");
        return 0;
    }
    uint32_t at = s->count < SPILL_REFS_MAX ? s->count++ : s->oldest++ % SPILL_REFS_MAX;
    s->refs[at] = (struct spill_ref){lsn, r->stream, r->partition, r->base};
    return 0;
}
