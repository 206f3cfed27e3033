/* SPDX-License-Identifier: Apache-2.0
 *
 * What a transaction's records were read from, outside the log. Each interval covers the records
 * put since the one before. A reader finds records by partition and offset, so an entry also has
 * the order in which its records went to the partitions.
 */
#include <assert.h>

#include "pipeline/engine.h"
#include "pipeline/struct_size.h"

int tx_note_order(struct pawl_tx *tx, const struct tx_run *run) {
    uint32_t index = (uint32_t)(run - tx->runs), n = tx->order_count;
    if (n != 0 && tx->order[n - 1].run == index)
        return 0;
    if (n != 0 && tx->order[n - 1].first == tx->records) { /* that put failed */
        tx->order[n - 1].run = index;
        return 0;
    }
    TRY(tx_grow(tx->p, (void **)&tx->order, n, &tx->order_cap, sizeof *tx->order));
    tx->order[tx->order_count++] = (struct tx_order){tx->records, index};
    return 0;
}

/* From now on the order is kept. */
static int begin_order(struct pawl_tx *tx) {
    if (tx->named)
        return 0;
    if (tx->run_count > 1)
        return fail(PAWL_STATE, "the records went to several partitions, and their order was not "
                                "kept: call pawl_tx_origin() with NULL before the first record");
    if (tx->run_count == 1) {
        TRY(tx_grow(tx->p, (void **)&tx->order, 0, &tx->order_cap, sizeof *tx->order));
        tx->order[0] = (struct tx_order){0, 0};
        tx->order_count = 1;
    }
    tx->named = true;
    return 0;
}

/* Number of the uncovered records of the i-th span. */
static uint64_t span_count(const struct pawl_tx *tx, uint32_t i) {
    uint64_t first = tx->order[i].first,
             end = i + 1 < tx->order_count ? tx->order[i + 1].first : tx->records;
    if (first < tx->origin_records)
        first = tx->origin_records;
    assert(first <= end && end <= tx->records); /* PAWL-3 */
    return end - first;
}

/* The length of the beginning of the list of spans that, repeated, is all of it. */
static uint32_t period(const struct pawl_tx *tx) {
    uint32_t n = tx->order_count, p = 1;
    while (p < n && tx->order[p].run != tx->order[0].run)
        p++;
    for (uint32_t i = p; i < n; i++) {
        uint64_t mine = span_count(tx, i), other = span_count(tx, i - p);
        bool last = i == n - 1 && mine < other;
        if (tx->order[i].run != tx->order[i - p].run || (mine != other && !last))
            return n;
    }
    return p;
}

/* The order of the uncovered records, encoded into `marks`. */
static void encode_order(struct pawl_tx *tx) {
    /* the run of a put that failed has no record */
    bool failed = tx->order[tx->order_count - 1].first == tx->records;
    tx->order_count -= failed;
    for (uint32_t i = 0, n = period(tx); i < n; i++) {
        const struct tx_run *r = &tx->runs[tx->order[i].run];
        varint_put(&tx->marks, r->stream);
        varint_put(&tx->marks, r->partition);
        varint_put(&tx->marks, span_count(tx, i));
    }
    tx->order_count += failed;
}

static int encode_marks(struct pawl_tx *tx, const pawl_outside *o) {
    uint64_t before = o->from;
    for (uint64_t i = 0; i < o->mark_count; i++) {
        if (o->marks[i] < o->from || o->marks[i] > o->to || !mark_fits(before, o->marks[i]))
            return fail(PAWL_INVALID, "the marks of %.60s are not within the interval", o->thing);
        mark_put(&tx->marks, before, o->marks[i]);
        before = o->marks[i];
    }
    return 0;
}

static const char *fault_of(const pawl_outside *o, uint64_t records) {
    const uint32_t known =
        PAWL_OUTSIDE_BEGINS | PAWL_OUTSIDE_CONTINUES | PAWL_OUTSIDE_PASSED | PAWL_OUTSIDE_SPARSE;
    size_t thing = o->thing != NULL ? strnlen(o->thing, 256) : 0;
    size_t note = o->note != NULL ? strnlen(o->note, 256) : 0;
    if (thing == 0 || thing > 255 || note > 255)
        return "the name of what was read outside has 1 to 255 bytes, its note at most 255";
    if (o->from > o->to)
        return "an interval can't end before it begins";
    if ((o->flags & ~known) != 0 || o->unit < 0 || o->unit > PAWL_OUTSIDE_ROWS ||
        o->mark_kind < 0 || o->mark_kind > PAWL_MARKS_GIVEN || o->step > UINT16_MAX ||
        o->reserved != 0)
        return "an interval has an unknown flag, unit or kind of marks, or too large a step";
    if ((o->flags & (PAWL_OUTSIDE_PASSED | PAWL_OUTSIDE_CONTINUES)) != 0 && note == 0)
        return "an interval passed over needs the reason as its note, one that continues another "
               "thing needs that thing";
    if ((o->flags & PAWL_OUTSIDE_PASSED) != 0 &&
        (records != 0 || (o->flags & PAWL_OUTSIDE_CONTINUES) != 0))
        return "an interval passed over has no records, and continues no other thing";
    if (o->mark_kind == PAWL_MARKS_GIVEN &&
        (o->mark_count != records || (o->marks == NULL && records != 0)))
        return "there must be a mark for each record put since the interval before";
    return records > UINT32_MAX ? "an interval covers at most 4,294,967,295 records" : NULL;
}

/* The records are covered now: only the run that the last one went to matters from here on. */
static void covered(struct pawl_tx *tx) {
    if (tx->order_count != 0)
        tx->order[0] = (struct tx_order){tx->records, tx->order[tx->order_count - 1].run};
    tx->order_count = tx->order_count != 0;
    tx->origin_records = tx->records;
    tx->origin_count++;
    assert(tx->order_count == 0 || tx->order[0].run < tx->run_count); /* PAWL-3 */
}

static int add(struct pawl_tx *tx, const pawl_producer *producer, const pawl_outside *o) {
    uint64_t records = tx->records - tx->origin_records;
    const char *fault = fault_of(o, records);
    if (fault != NULL)
        return fail(PAWL_INVALID, "%s", fault);
    uint32_t partitions;
    TRY(tx_look_up(tx->p, o->stream, PAWL_ANY, &partitions));
    tx->marks.len = 0;
    tx->marks.failed = tx->origins.failed = false;
    if (records != 0)
        encode_order(tx);
    size_t order_len = tx->marks.len, before = tx->origins.len;
    if (o->mark_kind == PAWL_MARKS_GIVEN)
        TRY(encode_marks(tx, o));
    if (before + tx->marks.len + ORIGIN_ENTRY_SIZE + 512 > tx->p->record_max)
        return fail(PAWL_TOO_LARGE,
                    "what the transaction was read from takes more than %llu bytes; put fewer "
                    "records into a transaction",
                    (unsigned long long)tx->p->record_max);
    struct origin_entry e = {.producer = producer != NULL ? producer->id : 0,
                             .stream = o->stream,
                             .from = o->from,
                             .to = o->to,
                             .records = (uint32_t)records,
                             .flags = (uint16_t)o->flags,
                             .unit = (uint8_t)o->unit,
                             .mark_kind = (uint8_t)o->mark_kind,
                             .thing_len = (uint8_t)strlen(o->thing),
                             .note_len = o->note != NULL ? (uint8_t)strlen(o->note) : 0,
                             .step = (uint16_t)o->step,
                             .order_len = (uint32_t)order_len,
                             .marks_len = (uint32_t)(tx->marks.len - order_len),
                             .thing = o->thing,
                             .note = o->note,
                             .order = tx->marks.data,
                             .marks = tx->marks.len != 0 ? tx->marks.data + order_len : NULL};
    if (!tx->marks.failed)
        origin_encode(&tx->origins, &e);
    if (tx->marks.failed || tx->origins.failed) {
        tx->origins.len = before;
        tx->origins.failed = false;
        return fail(PAWL_MEMORY, "no memory for what a transaction was read from");
    }
    covered(tx);
    return 0;
}

int pawl_tx_origin(pawl_tx *tx, const pawl_producer *producer, const pawl_outside *o) {
    pawl_outside own = PAWL_OUTSIDE_INIT;
    TRY(handle_live(tx, "transaction"));
    int rc = engine_check_writer(tx->p);
    if (rc == 0 && producer != NULL)
        rc = handle_live(producer, "producer");
    if (rc == 0 && producer != NULL && producer->p != tx->p)
        rc = fail(PAWL_INVALID, "the producer belongs to another handle than the transaction");
    if (rc == 0 && o != NULL)
        rc = pawl_struct_take(&own, sizeof own, o, OUTSIDE_FIRST, "pawl_outside");
    if (rc == 0)
        rc = begin_order(tx);
    if (rc == 0 && o != NULL)
        rc = add(tx, producer, &own);
    return engine_answer(tx->p, rc);
}
