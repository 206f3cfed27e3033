/* SPDX-License-Identifier: Apache-2.0
 *
 * What verify says of keyed state: every byte of every run that the log names; what each table
 * partition holds, recomputed from the runs and the changes since the last flush, and compared with
 * the digest in the log; and files that no commit names.
 *
 * The changes since the last flush are kept in memory. If they don't fit, those of every second key
 * are kept, and the runs are read twice; or of every fourth key, and so on: a digest is a sum, so
 * it can be computed in parts.
 *
 * A writer that has the log open may name other runs meanwhile, remove those that were named, and
 * drop segments. What is missing then is looked for again, with what the newest segment says now.
 */
#include <assert.h>
#include <stdio.h>

#include "pipeline/inspect.h"
#include "pipeline/state.h"

#define ROUNDS 10u      /* that a living writer may be quicker */
#define PARTS_MAX 4096u /* of the keys */

typedef unsigned long long ull;

struct state_check {
    struct judge *judge;
    struct seam *io;
    const struct tables *t; /* the judge's, or `fresh` */
    struct tables fresh;
    bool fresh_begun;
    uint64_t end_lsn; /* of the last frame that `t` has */
    uint8_t log_id[16];
    struct store store;
    uint32_t parts, part;   /* of the keys: how many, and which is looked at */
    struct lookup hash;     /* of the choice */
    struct state_sum *sums; /* of each partition of each table, in order */
    bool *unread;           /* the same; it can't be told */
    uint64_t sums_cap;
    const struct run_row *row; /* whose damage is told */
    int error;                 /* of a frame's changes */
};

static const struct state_tables *state_of(const struct state_check *s) {
    return &s->t->state;
}

/* ---- findings */

static void tell_run(struct state_check *s, int code, const struct run_row *r, uint64_t bytes,
                     const char *label, const char *message) {
    verify_tell(s->judge->check, code, r->flush_lsn / s->t->segment_size, r->flush_lsn, bytes,
                label, "%s", message);
    s->judge->check->state_problems += code != 0;
}

/* A run that can't be opened. 0, or what keeps it from being looked at. */
static int tell_unopened(struct state_check *s, const struct run_row *r, const pawl_error *e) {
    if (e->code == PAWL_MEMORY || e->code == PAWL_PERMISSION)
        return fail_again(e);
    tell_run(s, e->code == PAWL_FOREIGN || e->code == PAWL_VERSION ? e->code : PAWL_DAMAGED, r,
             r->bytes,
             e->code == PAWL_NOT_FOUND ? "run-missing"
             : e->code == PAWL_FOREIGN ? "run-foreign"
             : e->code == PAWL_VERSION ? "run-unknown"
                                       : "run-damaged",
             e->message);
    return 0;
}

/* ---- runs */

static int on_damage(void *arg, const struct run_damage *d) {
    struct state_check *s = arg;
    char text[400], after[RUN_KEY_TEXT], upto[RUN_KEY_TEXT];
    run_show_key(after, d->after, d->after_len, "the first one");
    run_show_key(upto, d->upto, d->upto_len, "the last one");
    snprintf(text, sizeof text,
             "the run %016x.run, %llu bytes at offset %llu: %s; keys (table/partition key) after "
             "%s up to %s are concerned",
             s->row->id, (ull)d->length, (ull)d->offset, d->what, after, upto);
    tell_run(s, PAWL_DAMAGED, s->row, d->length, "run-damaged", text);
    return 0;
}

static int verify_runs(struct state_check *s) {
    struct store_live *live = store_live_take(&s->store);
    int rc = 0;
    for (uint32_t i = 0; live != NULL && i < live->count && rc == 0; i++) {
        const struct store_run *r = live->runs[i];
        struct run_row row = {.id = r->ident.run_id,
                              .level = r->ident.level,
                              .flush_lsn = r->ident.flush_lsn,
                              .bytes = r->ident.length};
        s->row = &row;
        rc =
            r->file == NULL ? tell_unopened(s, &row, &r->error) : run_verify(r->file, on_damage, s);
        rc = rc == PAWL_DAMAGED ? 0 : rc; /* which was told */
        s->judge->check->runs++;
        s->judge->check->run_bytes += row.bytes;
        if (s->judge->check->progress != NULL)
            s->judge->check->progress(s->judge->check->arg, i + 1, live->count);
    }
    store_live_release(&s->store, live);
    return rc;
}

/* Is one of them not there? */
static bool any_missing(struct state_check *s) {
    struct store_live *live = store_live_take(&s->store);
    bool missing = false;
    for (uint32_t i = 0; live != NULL && i < live->count; i++)
        missing |= live->runs[i]->file == NULL && live->runs[i]->error.code == PAWL_NOT_FOUND;
    store_live_release(&s->store, live);
    return missing;
}

static int note_file(void *arg, const char *name) {
    struct state_check *s = arg;
    uint32_t id;
    if (!run_parse_name(name, &id))
        return 0;
    if (s->judge->check->live && id >= state_of(s)->next_run)
        return 0; /* the writer is going to name it */
    for (uint32_t i = 0; i < state_of(s)->run_count; i++)
        if (state_of(s)->runs[i].id == id)
            return 0;
    verify_tell(s->judge->check, 0, s->end_lsn / s->t->segment_size, s->end_lsn, 0, "run-unnamed",
                "no commit names the run %s: it isn't part of the log", name);
    return 0;
}

static int tell_unnamed(struct state_check *s) {
    int rc = s->io->ops->list(s->io, note_file, s);
    return rc < 0 ? fail_sys(rc, "readdir", NULL, NO_LSN) : 0;
}

/* ---- changes since the last flush */

static bool is_in_part(const struct state_check *s, const void *key, uint32_t len) {
    return s->parts == 1 || lookup_hash_text(&s->hash, 0, key, len) % s->parts == s->part;
}

static int apply_run(struct state_check *s, const struct run *r, const uint8_t *data,
                     uint64_t lsn) {
    const struct state_table *t = tables_table(s->t, r->stream);
    struct state_sum sum;
    struct state_change c;
    uint32_t at = 0;
    int rc = 0;
    if (t == NULL || r->partition >= t->partitions) /* deleted since */
        return 0;
    struct store_part *part = store_part(&s->store, r->stream, r->partition);
    if (part == NULL)
        return fail(PAWL_MEMORY, "no memory for the state of a partition");
    bool well = state_sum_decode(data, r->len, &at, &sum);
    while (well && rc == 0 && at < r->len && (well = state_change_decode(data, r->len, &at, &c))) {
        struct state_pair pair = {.key = c.key,
                                  .key_len = c.key_len,
                                  .value = c.value,
                                  .value_len = c.value_len,
                                  .expiry_ms = c.expiry_ms,
                                  .op = (c.flags & STATE_DELETED) != 0 ? STATE_DELETE : STATE_PUT};
        if (!is_in_part(s, c.key, c.key_len))
            continue;
        store_apply_begin(part);
        rc = store_apply(&s->store, part, &pair, lsn);
        store_apply_end(&s->store, part);
    }
    store_part_release(&s->store, part);
    return rc; /* changes that aren't well formed were told when the frame was judged */
}

static int on_frame(void *ctx, const struct frame_header *h, const uint8_t *frame, bool lost) {
    struct state_check *s = ctx;
    (void)lost;
    if (h->kind != FRAME_COMMIT || h->lsn <= state_of(s)->flush_lsn || h->lsn > s->end_lsn)
        return 0;
    for (uint32_t i = 0; i < h->runs && s->error == 0; i++) {
        struct run r;
        const uint8_t *data;
        frame_run(frame, h, i, &r, &data);
        if (r.type == RUN_STATE)
            s->error = apply_run(s, &r, data, h->lsn);
    }
    return 0;
}

/* Walks over the frames from a segment on, without telling anything. */
static int walk_from(struct state_check *s, uint64_t segment, void *ctx,
                     int (*frame)(void *, const struct frame_header *, const uint8_t *, bool)) {
    pawl_check quiet = PAWL_CHECK_INIT;
    struct verify v = {.io = s->io,
                       .mem = s->judge->mem,
                       .check = &quiet,
                       .frame = frame,
                       .ctx = ctx,
                       .from = segment,
                       .writable = s->judge->repaired != NULL};
    return verify_log(&v);
}

/* Does the log still have the changes since the last flush? */
static int changes_there(struct state_check *s, bool *there) {
    struct log_extent x;
    TRY(log_extent_find(s->io, s->judge->mem, false, &x));
    uint64_t flush = state_of(s)->flush_lsn;
    *there = flush == 0 || flush / s->t->segment_size >= x.first;
    return 0;
}

/* ---- what partitions hold */

static int sum_partition(struct state_check *s, uint32_t table, uint32_t partition,
                         struct state_sum *sum) {
    struct store_range range = {.at_lsn = UINT64_MAX, .ahead = true};
    struct store_cursor *c;
    struct state_pair pair;
    struct store_part *part = store_part(&s->store, table, partition);
    if (part == NULL)
        return fail(PAWL_MEMORY, "no memory for the state of a partition");
    int rc = store_cursor_take(&s->store, part, &range, NULL, &c);
    store_part_release(&s->store, part);
    TRY(rc);
    while ((rc = store_cursor_next(c, &pair)) == 1)
        if (is_in_part(s, pair.key, pair.key_len))
            digest_add(sum, pair.key, pair.key_len, pair.value, pair.value_len);
    store_cursor_close(c);
    return rc;
}

/* One part of the keys of all partitions. */
static int sum_part(struct state_check *s) {
    uint32_t at = 0;
    s->error = 0;
    TRY(walk_from(s, state_of(s)->flush_lsn / s->t->segment_size, s, on_frame));
    if (s->error != 0)
        return s->error;
    for (uint32_t i = 0; i < state_of(s)->count; i++) {
        const struct state_table *t = state_of(s)->tables[i];
        for (uint32_t k = 0; k < t->partitions; k++, at++) {
            int rc = sum_partition(s, t->id, k, &s->sums[at]);
            if (rc == PAWL_MEMORY)
                return rc;
            s->unread[at] |= rc < 0; /* its run is damaged, which was told */
        }
    }
    return 0;
}

static void forget_changes(struct state_check *s) {
    for (uint32_t i = 0; i < state_of(s)->count; i++)
        store_drop_table(&s->store, state_of(s)->tables[i]->id);
}

/* All parts; PAWL_MEMORY: they must be smaller. */
static int sum_parts(struct state_check *s) {
    int rc = 0;
    memset(s->sums, 0, state_of(s)->partition_count * sizeof *s->sums);
    memset(s->unread, 0, state_of(s)->partition_count * sizeof *s->unread);
    for (s->part = 0; s->part < s->parts && rc == 0; s->part++) {
        rc = sum_part(s);
        forget_changes(s);
    }
    return rc;
}

static void compare_partition(struct state_check *s, const struct state_table *t, uint32_t k,
                              uint32_t at) {
    const struct state_sum *is = &s->sums[at], *says = &t->parts[k].sum;
    s->judge->check->state_pairs += is->pairs;
    if (state_lost(&t->parts[k]) || s->unread[at]) {
        verify_tell(s->judge->check, 0, s->end_lsn / s->t->segment_size, s->end_lsn, 0,
                    "state-unknown",
                    "table %s, partition %u: what it holds can't be told, since %s", t->name, k,
                    s->unread[at] ? "runs are damaged" : "damage took changes of it");
        return;
    }
    if (digest_equal(is, says))
        return;
    verify_tell(s->judge->check, PAWL_DAMAGED, s->end_lsn / s->t->segment_size, s->end_lsn, 0,
                "state-differs",
                "table %s, partition %u: %llu pairs of %llu bytes with the digest %016llx%016llx "
                "are there, and the log says %llu of %llu bytes with %016llx%016llx",
                t->name, k, (ull)is->pairs, (ull)is->bytes, (ull)is->high, (ull)is->low,
                (ull)says->pairs, (ull)says->bytes, (ull)says->high, (ull)says->low);
    s->judge->check->state_problems++;
}

static int sum_all(struct state_check *s) {
    uint32_t n = state_of(s)->partition_count;
    if (n == 0)
        return 0;
    s->sums = mem_alloc(s->judge->mem, n * sizeof *s->sums);
    s->unread = mem_alloc(s->judge->mem, n * sizeof *s->unread);
    s->sums_cap = n;
    int rc = s->sums == NULL || s->unread == NULL
                 ? fail(PAWL_MEMORY, "no memory for the digests of %u partitions", n)
                 : PAWL_MEMORY;
    for (s->parts = 1; rc == PAWL_MEMORY && s->unread != NULL && s->parts <= PARTS_MAX;
         s->parts *= 2)
        if ((rc = sum_parts(s)) == 0)
            break;
    return rc;
}

static void free_sums(struct state_check *s) {
    if (s->sums != NULL)
        mem_free(s->judge->mem, s->sums, s->sums_cap * sizeof *s->sums);
    if (s->unread != NULL)
        mem_free(s->judge->mem, s->unread, s->sums_cap * sizeof *s->unread);
    s->sums = NULL;
    s->unread = NULL;
}

static void compare_all(struct state_check *s) {
    uint32_t at = 0;
    for (uint32_t i = 0; i < state_of(s)->count; i++)
        for (uint32_t k = 0; k < state_of(s)->tables[i]->partitions; k++, at++)
            compare_partition(s, state_of(s)->tables[i], k, at);
    assert(at == state_of(s)->partition_count);
}

/* ---- the whole */

static int on_fresh(void *ctx, const struct frame_header *h, const uint8_t *frame, bool lost) {
    struct state_check *s = ctx;
    int rc = tables_apply(&s->fresh, h, frame, lost || !s->fresh.begun);
    s->end_lsn = h->lsn;
    s->error = s->error != 0 ? s->error : rc;
    return 0;
}

/* What the newest segment says now. */
static int look_again(struct state_check *s) {
    struct log_extent x;
    TRY(log_extent_find(s->io, s->judge->mem, false, &x));
    if (s->fresh_begun)
        tables_free(&s->fresh);
    tables_init(&s->fresh, s->judge->mem, x.newest.segment_size);
    s->fresh_begun = true;
    s->t = &s->fresh;
    s->error = 0;
    TRY(walk_from(s, x.last, s, on_fresh));
    return s->error;
}

static int open_runs(struct state_check *s) {
    struct run_ident idents[STATE_RUNS_MAX];
    uint32_t n = state_tables_idents(state_of(s), s->log_id, idents);
    uint64_t cache = s->judge->mem->cap != 0 ? s->judge->mem->cap / 16 : MIB;
    store_free(&s->store);
    TRY(store_init(&s->store, s->io, s->judge->mem, s->judge->mem->cap, cache));
    return store_runs_are(&s->store, idents, n, false);
}

/* Opens the runs, and computes the sums. False in *whole: the log has changed meanwhile. */
static int look(struct state_check *s, bool *whole) {
    free_sums(s);
    TRY(open_runs(s));
    *whole = !any_missing(s);
    if (*whole)
        TRY(changes_there(s, whole));
    TRY(sum_all(s));
    bool there;
    TRY(changes_there(s, &there));
    *whole = *whole && there;
    return 0;
}

static int check_all(struct state_check *s) {
    bool whole = false;
    TRY(look(s, &whole));
    for (uint32_t i = 0; !whole && s->judge->check->live && i < ROUNDS; i++) {
        TRY(look_again(s));
        TRY(look(s, &whole));
    }
    bool there;
    TRY(changes_there(s, &there));
    if (!there && state_of(s)->count != 0) {
        verify_tell(s->judge->check, PAWL_DAMAGED, state_of(s)->flush_lsn / s->t->segment_size,
                    state_of(s)->flush_lsn, 0, "state-changes-missing",
                    "the segments from LSN %llu on hold changes of state since the last flush, "
                    "and are gone",
                    (ull)state_of(s)->flush_lsn);
        s->judge->check->state_problems++;
    }
    TRY(verify_runs(s));
    if (there)
        compare_all(s);
    return tell_unnamed(s);
}

int judge_state_end(struct judge *j, struct seam *io, const struct log_extent *x) {
    struct state_check *s;
    if (!j->tables.state.any)
        return 0;
    s = mem_alloc(j->mem, sizeof *s);
    if (s == NULL)
        return fail(PAWL_MEMORY, "no memory to verify keyed state");
    s->judge = j;
    s->io = io;
    s->t = &j->tables;
    lookup_init(&s->hash, j->mem);
    s->end_lsn = j->last_lsn;
    memcpy(s->log_id, x->newest.log_id, sizeof s->log_id);
    int rc = check_all(s);
    free_sums(s);
    store_free(&s->store);
    if (s->fresh_begun)
        tables_free(&s->fresh);
    mem_free(j->mem, s, sizeof *s);
    return rc;
}
