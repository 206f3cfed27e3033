/* SPDX-License-Identifier: Apache-2.0
 *
 * The decision table. Scanned from the top; the first case that fits counts. Labels are those of
 * messages, docs and tests.
 *
 * Evidence is gathered at the place p where the frame before ended (or at the next block, see
 * docs/format.md): is there a good header, is its payload whole, does it follow, and does any later
 * frame of the same or a newer incarnation say that p was durable when it was written? Groups are
 * acknowledged whole and in order, so without such a witness nothing at or after p was
 * acknowledged, whatever it looks like; and with one, everything at p had to be there.
 */
#include "recovery/decide.h"

// clang-format off
static const struct decision_case table[] = {
    {"frame", {HEAD_GOOD, PAYLOAD_GOOD, CHAIN_FOLLOWS, WITNESS_ANY}, ACCEPT,
     "header, payload and chain are right: the frame is part of the log"},

    {"zeroed", {HEAD_ZERO, PAYLOAD_ANY, CHAIN_ANY, WITNESS_YES}, DAMAGE,
     "zeros where a frame was durable: the device lost a write that it had confirmed, or the "
     "file was tampered with"},
    {"garbage", {HEAD_GARBAGE, PAYLOAD_ANY, CHAIN_ANY, WITNESS_YES}, DAMAGE,
     "no frame begins where one was durable"},
    {"header-damaged", {HEAD_BAD, PAYLOAD_ANY, CHAIN_ANY, WITNESS_YES}, DAMAGE,
     "the header of a durable frame does not match its checksum"},
    {"misplaced", {HEAD_ELSEWHERE, PAYLOAD_ANY, CHAIN_ANY, WITNESS_YES}, DAMAGE,
     "a frame of another place lies where another one was durable"},
    {"payload-damaged", {HEAD_GOOD, PAYLOAD_BAD, CHAIN_FOLLOWS, WITNESS_YES}, DAMAGE,
     "the payload of a durable frame does not match its checksum"},
    {"superseded", {HEAD_GOOD, PAYLOAD_ANY, CHAIN_OLDER, WITNESS_YES}, DAMAGE,
     "an older incarnation's frame lies where a newer one's was durable: a write was lost"},
    {"chain-broken", {HEAD_GOOD, PAYLOAD_ANY, CHAIN_BROKEN, WITNESS_YES}, DAMAGE,
     "a frame that was durable does not follow the one before it: something between them is "
     "missing or was replaced"},

    {"clean-end", {HEAD_ZERO, PAYLOAD_ANY, CHAIN_ANY, WITNESS_NO}, END,
     "nothing was written here; groups in flight after it, if any, were never acknowledged"},
    {"torn-garbage", {HEAD_GARBAGE, PAYLOAD_ANY, CHAIN_ANY, WITNESS_NO}, CUT,
     "a group was being written when the power went, or these are what is left of one cut "
     "earlier, or of what a recycled file held before"},
    {"torn-header", {HEAD_BAD, PAYLOAD_ANY, CHAIN_ANY, WITNESS_NO}, CUT,
     "part of a header reached the device, and nobody was told that it had"},
    {"stale-place", {HEAD_ELSEWHERE, PAYLOAD_ANY, CHAIN_ANY, WITNESS_NO}, STALE,
     "a frame of the segment that this file was before it was recycled"},
    {"torn-payload", {HEAD_GOOD, PAYLOAD_BAD, CHAIN_FOLLOWS, WITNESS_NO}, CUT,
     "the header reached the device and the payload did not wholly, and nobody was told that it "
     "had"},
    {"stale-epoch", {HEAD_GOOD, PAYLOAD_ANY, CHAIN_OLDER, WITNESS_NO}, STALE,
     "a frame that an older incarnation wrote and recovery cut: it must never come back"},
    {"orphan", {HEAD_GOOD, PAYLOAD_ANY, CHAIN_BROKEN, WITNESS_NO}, CUT,
     "a group whose predecessor in flight never arrived"},
};
// clang-format on

const struct decision_case *decision_table(size_t *count) {
    *count = sizeof table / sizeof *table;
    return table;
}

static int fits(const struct evidence *when, const struct evidence *e) {
    return (when->head == HEAD_ANY || when->head == e->head) &&
           (when->payload == PAYLOAD_ANY || when->payload == e->payload) &&
           (when->chain == CHAIN_ANY || when->chain == e->chain) &&
           (when->witness == WITNESS_ANY || when->witness == e->witness);
}

const struct decision_case *decide(const struct evidence *e) {
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (fits(&table[i].when, e))
            return &table[i];
    /* Only contradictory evidence gets here (payload judged without a header): treat it as the
     * header it claims to lack. */
    return e->witness == WITNESS_YES ? &table[3] : &table[10];
}
