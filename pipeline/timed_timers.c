/* SPDX-License-Identifier: Apache-2.0
 *
 * The timers of a group. Due ones are read in one scan for many, and each is deleted before its
 * callback runs. What was read is dropped where a callback sets or deletes a timer among it.
 */
#include <assert.h>

#include "pipeline/timed.h"

#define DUE_COUNT_MAX 64u
#define DUE_BYTES_MAX (64u * 1024u)
#define DUE_HEAD sizeof(struct due_head)

struct due_head {
    uint32_t key_len, value_len;
};

/* ---- what lies before no timer */

static void bound_set(struct timer_bound *b, const uint8_t *key, size_t len) {
    b->len = (uint8_t)(len < sizeof b->key ? len : sizeof b->key);
    memcpy(b->key, key, b->len);
    b->never = false;
}

void timers_forget(struct time_group *g) {
    for (int kind = 0; kind < TIMER_KINDS; kind++)
        g->bound[kind] = (struct timer_bound){.key = {timer_kind_encode(kind)}, .len = 1};
    g->due.len = g->due_at = 0;
}

int64_t timers_next(const struct time_group *g, int kind) {
    const struct timer_bound *b = &g->bound[kind];
    return b->never ? INT64_MAX : b->len < TIMER_HEAD ? INT64_MIN : timer_time_decode(b->key);
}

/* ---- reading those that are due */

static void read_due(const struct time_group *g, struct due_timer *out) {
    const uint8_t *at = g->due.data + g->due_at;
    struct due_head head;
    memcpy(&head, at, sizeof head);
    at += DUE_HEAD;
    *out = (struct due_timer){.key = at,
                              .key_len = head.key_len,
                              .timer = {.time_ns = timer_time_decode(at),
                                        .key = at + TIMER_HEAD,
                                        .value = at + head.key_len,
                                        .key_len = head.key_len - TIMER_HEAD,
                                        .value_len = head.value_len,
                                        .kind = g->due_kind}};
}

static int add_due(struct time_group *g, const pawl_state_pair *pair) {
    g->due_last = g->due.len;
    uint8_t *at = bytes_grow(&g->due, DUE_HEAD + pair->key_len + pair->value_len);
    if (at == NULL) {
        g->due.failed = false;
        g->due.len = 0;
        return fail(PAWL_MEMORY, "no memory for a timer of %zu bytes",
                    pair->key_len + pair->value_len);
    }
    struct due_head head = {(uint32_t)pair->key_len, (uint32_t)pair->value_len};
    memcpy(at, &head, sizeof head);
    memcpy(at + DUE_HEAD, pair->key, pair->key_len);
    if (pair->value_len != 0)
        memcpy(at + DUE_HEAD + pair->key_len, pair->value, pair->value_len);
    return 0;
}

/* Reads due timers, from the bound on. Where there is none, the bound moves to the next timer. */
static int fill(struct time_group *g, pawl_state_cursor *c, int kind, int64_t until) {
    pawl_state_pair pair;
    int rc;
    for (uint32_t n = 0; (rc = pawl_state_next(c, &pair)) == 1; n++) {
        if (pair.key_len < TIMER_HEAD)
            return fail(PAWL_DAMAGED, "a timer of processor %s is not well formed",
                        g->processor->name);
        bool is_due = timer_time_decode(pair.key) <= until;
        if (n == 0)
            bound_set(&g->bound[kind], pair.key, pair.key_len);
        if (!is_due || n == DUE_COUNT_MAX || (n != 0 && g->due.len > DUE_BYTES_MAX))
            return 0;
        TRY(add_due(g, &pair));
    }
    if (rc == 0 && g->due.len == 0)
        g->bound[kind].never = true;
    return rc;
}

int timers_due(struct time_group *g, struct pawl_tx *tx, int kind, int64_t until,
               struct due_timer *out) {
    if (until == WATERMARK_NONE || timers_next(g, kind) > until)
        return 0;
    if (g->due_at == g->due.len || g->due_kind != kind) {
        uint8_t prefix = timer_kind_encode(kind);
        pawl_state_range range = PAWL_STATE_RANGE_INIT;
        pawl_state_cursor *c;
        range.from = g->bound[kind].key;
        range.from_len = g->bound[kind].len;
        range.prefix = &prefix;
        range.prefix_len = 1;
        g->due.len = g->due_at = 0;
        g->due_kind = kind;
        TRY(state_tx_scan(tx, timed_place(g), &range, &c));
        int rc = fill(g, c, kind, until);
        pawl_state_close(c);
        TRY(rc);
        if (g->due.len == 0)
            return 0;
    }
    read_due(g, out);
    assert(out->timer.time_ns <= until); /* PAWL-14: none fires early */
    return 1;
}

int timers_take(struct time_group *g, struct pawl_tx *tx, const struct due_timer *due) {
    int rc = state_tx_delete(tx, timed_place(g), due->key, due->key_len);
    TRY(rc);
    assert(rc == 1); /* PAWL-3: it was there, so it fires once */
    bound_set(&g->bound[due->timer.kind], due->key, due->key_len);
    g->due_at += DUE_HEAD + due->key_len + due->timer.value_len;
    return 0;
}

/* ---- the calls of a callback */

static int check(const pawl_context *ctx, int32_t kind, int64_t time, const void *key,
                 size_t key_len) {
    if (ctx == NULL || (key == NULL && key_len != 0))
        return fail(PAWL_INVALID, "the context or the key is NULL");
    TRY(engine_check_writer(ctx->tx->p));
    const struct pawl_processor *proc = ctx->task->processor;
    if (ctx->task->group == NULL || proc->timed->config.on_timer == NULL)
        return fail(PAWL_STATE,
                    "processor %s has no callback for timers: call "
                    "pawl_processor_set_time() before pawl_run()",
                    proc->name);
    if (kind != PAWL_EVENT_TIME && kind != PAWL_CLOCK_TIME)
        return fail(PAWL_INVALID, "there is no kind %d of timers", kind);
    if (kind == PAWL_CLOCK_TIME && (proc->timed->config.flags & PAWL_TIME_USES_CLOCK) == 0)
        return fail(PAWL_STATE, "processor %s doesn't use the clock: set PAWL_TIME_USES_CLOCK",
                    proc->name);
    if (time == INT64_MIN || time == INT64_MAX)
        return fail(PAWL_RANGE, "%s is no time of a timer",
                    time == INT64_MIN ? "INT64_MIN" : "INT64_MAX");
    if (key_len > PAWL_TIMER_KEY_MAX)
        return fail(PAWL_TOO_LARGE, "a timer's key of %zu bytes; it has at most %u", key_len,
                    PAWL_TIMER_KEY_MAX);
    return 0;
}

/* The timer's key in the table, in g->key: an array for the longest one would be cleared in each
 * call of a hardened build. */
static int table_key(struct time_group *g, int32_t kind, int64_t time, const void *key,
                     size_t key_len) {
    g->key.len = 0;
    uint8_t *at = bytes_grow(&g->key, TIMER_HEAD + key_len);
    if (at == NULL) {
        g->key.failed = false;
        return fail(PAWL_MEMORY, "no memory for a timer's key of %zu bytes", key_len);
    }
    timer_head_encode(at, kind, time);
    if (key_len != 0)
        memcpy(at + TIMER_HEAD, key, key_len);
    return 0;
}

/* A timer changes: what was read no longer holds if it lies among it, nor does the bound if it lies
 * before that. */
static void touched(struct time_group *g, int32_t kind, const uint8_t *key, size_t len) {
    struct timer_bound *b = &g->bound[kind];
    if (b->never || bytes_compare(key, len, b->key, b->len) < 0)
        bound_set(b, key, len);
    if (g->due_kind == kind && g->due_at < g->due.len) {
        const uint8_t *last = g->due.data + g->due_last;
        struct due_head head;
        memcpy(&head, last, sizeof head);
        if (bytes_compare(key, len, last + DUE_HEAD, head.key_len) <= 0)
            g->due.len = g->due_at = 0;
    }
}

int pawl_timer_set(pawl_context *ctx, int32_t kind, int64_t time_ns, const void *key,
                   size_t key_len, const void *value, size_t value_len) {
    TRY(check(ctx, kind, time_ns, key, key_len));
    if (value_len > PAWL_TIMER_VALUE_MAX)
        return fail(PAWL_TOO_LARGE, "a timer's value of %zu bytes; it has at most %u", value_len,
                    PAWL_TIMER_VALUE_MAX);
    struct time_group *g = ctx->task->group;
    TRY(table_key(g, kind, time_ns, key, key_len));
    const struct bytes *own = &g->key;
    if (ctx->firing != NULL && ctx->firing[0] == own->data[0] &&
        bytes_compare(own->data, own->len, ctx->firing, ctx->firing_len) <= 0)
        return fail(PAWL_RANGE, "a timer's callback can only set timers that come after it");
    TRY(state_tx_put(ctx->tx, timed_place(g), own->data, own->len, value, value_len));
    touched(g, kind, own->data, own->len);
    return 0;
}

int pawl_timer_delete(pawl_context *ctx, int32_t kind, int64_t time_ns, const void *key,
                      size_t key_len) {
    TRY(check(ctx, kind, time_ns, key, key_len));
    struct time_group *g = ctx->task->group;
    TRY(table_key(g, kind, time_ns, key, key_len));
    int rc = state_tx_delete(ctx->tx, timed_place(g), g->key.data, g->key.len);
    if (rc == 1)
        touched(g, kind, g->key.data, g->key.len);
    return rc;
}
