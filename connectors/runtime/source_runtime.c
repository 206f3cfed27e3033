/* SPDX-License-Identifier: Apache-2.0
 *
 * Sources: records and the position after them in one commit, under a producer for each item.
 * Commits are not waited for; what became durable is acknowledged in order. While the log is full
 * the batch at hand is kept and the source isn't read on.
 */
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "connectors/runtime/flow.h"
#include "connectors/runtime/source_origin.h"

#define PENDING_MAX 64u /* commits not yet durable */
/* What read() may wait for its first record, which is also how late a stop is noticed; and a source
 * that watches connect_wake_fd(). */
#define READ_WAIT_MS 20
#define READ_WAIT_LONG_MS 60000

struct item {
    char name[64];
    pawl_producer *producer;
};

struct pending { /* appended, not yet acknowledged */
    uint64_t lsn;
    uint32_t item; /* index */
    uint32_t position_len;
    uint8_t position[PAWL_SOURCE_POSITION_MAX];
};

struct pawl_source_context {
    struct pawl_source *source;
    bool wakes; /* it watches connect_wake_fd() */
};

/* Only the thread that steps uses what follows `flow`. */
struct pawl_source {
    struct flow flow;
    pawl_source_config config;
    pawl_source_ops ops;
    pawl_source_context context;
    pawl_stream_info stream;
    struct item *items;
    uint32_t item_count;
    pawl_source_batch batch; /* read, not yet appended */
    struct origins from;     /* what that was read from */
    bool have, ended;
    struct pending pending[PENDING_MAX]; /* a ring */
    uint32_t pending_at, pending_count;
    bool waits;                 /* read() may wait: the source has a thread */
    struct connect_pace poison; /* of reports of it; held: records */
    char poison_why[400];       /* the last */
};

int pawl_source_origin(pawl_source_context *x, const pawl_outside *o, uint64_t records) {
    pawl_outside own = PAWL_OUTSIDE_INIT;
    if (x == NULL)
        return PAWL_INVALID;
    int rc = pawl_struct_take(&own, sizeof own, o, SOURCE_OUTSIDE_FIRST, "pawl_outside");
    return rc < 0 ? rc : origins_add(&x->source->from, &own, records);
}

void pawl_source_report(pawl_source_context *x, int severity, const char *format, ...) {
    va_list args;
    if (x == NULL)
        return;
    va_start(args, format);
    flow_report_args(&x->source->flow, severity, format, args);
    va_end(args);
}

int connect_wake_fd(pawl_source_context *x) {
    x->wakes = true;
    return x->source->waits ? x->source->flow.wake_fd : -1;
}

const char *connect_source_name(const pawl_source_context *x) {
    return x->source->flow.name;
}

void connect_source_point(pawl_source_context *x, const char *point) {
    flow_point(&x->source->flow, point);
}

void connect_idle(pawl_source_context *x, int timeout_ms) {
    struct pollfd p = {connect_wake_fd(x), POLLIN, 0};
    if (timeout_ms > 0)
        (void)poll(&p, 1, timeout_ms);
}

/* ---- items */

static int item_of(struct pawl_source *s, const char *name, uint32_t *out) {
    char producer[128];
    if (name[0] != 0 && (!connect_name_ok(name) || strlen(name) > 60))
        return PAWL_INVALID;
    for (uint32_t i = 0; i < s->item_count; i++)
        if (strcmp(s->items[i].name, name) == 0) {
            *out = i;
            return 0;
        }
    struct item *q = realloc(s->items, (s->item_count + 1) * sizeof *q);
    if (q == NULL)
        return PAWL_MEMORY;
    s->items = q;
    q += s->item_count;
    snprintf(q->name, sizeof q->name, "%s", name);
    snprintf(producer, sizeof producer, "%s%s%s", s->flow.name, name[0] != 0 ? "." : "", name);
    int rc = pawl_producer_open(s->flow.log, producer, &q->producer);
    if (rc == 0)
        *out = s->item_count++;
    return rc;
}

int pawl_source_position(pawl_source_context *x, const char *item, void *buf) {
    uint32_t i;
    if (x == NULL || item == NULL || buf == NULL)
        return PAWL_INVALID;
    int rc = item_of(x->source, item, &i);
    return rc < 0
               ? rc
               : pawl_producer_cookie(x->source->items[i].producer, buf, PAWL_SOURCE_POSITION_MAX);
}

/* ---- the items that the log knows */

void connect_items(pawl_source_context *x, connect_item_fn fn, void *arg) {
    pawl_producer_info p;
    uint8_t position[PAWL_SOURCE_POSITION_MAX];
    const char *name = x->source->flow.name;
    size_t n = strlen(name);
    for (uint32_t i = 0; pawl_producer_at(x->source->flow.log, i, &p) == 0; i++) {
        if (strncmp(p.name, name, n) != 0 || (p.name[n] != 0 && p.name[n] != '.'))
            continue;
        const char *item = p.name[n] == 0 ? "" : p.name + n + 1;
        if (strlen(item) > 60 || (p.name[n] == '.' && item[0] == 0))
            continue;
        int len =
            pawl_producer_find(x->source->flow.log, p.name, &p, NULL, position, sizeof position);
        if (len >= 0)
            fn(arg, item, position, len);
    }
}

static int move_position(struct pawl_source *s, const struct item *i, const void *position,
                         size_t len) {
    pawl_tx *tx;
    int rc = pawl_begin(s->flow.log, &tx);
    if (rc < 0)
        return rc;
    uint64_t next = pawl_producer_sequence(i->producer) + 1;
    rc = pawl_tx_sequence(tx, i->producer, next, next, position, len);
    if (rc < 0) {
        pawl_abort(tx);
        return rc;
    }
    return connect_commit(tx, true, NULL);
}

int connect_item_replace(pawl_source_context *x, const char *old, const char *name,
                         const void *position, size_t len) {
    struct pawl_source *s = x->source;
    char from[128], to[128];
    uint32_t i = 0;
    int rc = connect_name_ok(name) && strlen(name) <= 60 ? item_of(s, old, &i) : PAWL_INVALID;
    /* before the name: nobody must find the old position under the new one */
    if (rc == 0)
        rc = move_position(s, &s->items[i], position, len);
    if (rc < 0 || strcmp(old, name) == 0)
        return rc;
    snprintf(from, sizeof from, "%s.%s", s->flow.name, old);
    snprintf(to, sizeof to, "%s.%s", s->flow.name, name);
    rc = pawl_rename(s->flow.log, PAWL_NAMED_PRODUCER, from, to);
    if (rc == 0)
        snprintf(s->items[i].name, sizeof s->items[i].name, "%s", name);
    return rc;
}

void connect_log_id(const pawl_source_context *x, uint8_t id[16]) {
    pawl_status status = PAWL_STATUS_INIT;
    memset(id, 0, 16);
    if (pawl_get_status(x->source->flow.log, &status) == 0)
        memcpy(id, status.log_id, 16);
}

/* Is this the position that the log has for the item? */
static bool is_committed(struct pawl_source *s, const pawl_source_batch *b) {
    uint8_t position[PAWL_SOURCE_POSITION_MAX];
    uint32_t i;
    if (item_of(s, b->item, &i) < 0) /* append() meets the error again, and handles it */
        return false;
    int len = pawl_producer_cookie(s->items[i].producer, position, sizeof position);
    return len == (int)b->position_len && memcmp(position, b->position, b->position_len) == 0;
}

/* ---- appending */

/* A record that the log can't take, or that the source doesn't want there, by policy. */
static int poison(struct pawl_source *s, pawl_tx *tx, const pawl_record *r, const char *why,
                  uint64_t *poisoned) {
    ++*poisoned;
    if (s->config.on_poison == PAWL_ON_ERROR_SKIP)
        return 0;
    if (s->config.on_poison == PAWL_ON_ERROR_STOP)
        return PAWL_TOO_LARGE;
    pawl_record cut = *r;
    cut.partition = 0; /* it has neither partition nor offset */
    cut.offset = 0;
    cut.key_len = 0;
    return connect_dead_letter(s->flow.log, tx, s->config.dead_letter, s->flow.name, s->stream.name,
                               &cut, why, DEAD_VALUE_MAX);
}

/* Reports records that were moved to the dead-letter stream or skipped; `all`: due or not. */
static void say_poison(struct pawl_source *s, bool all) {
    uint64_t n = connect_pace_held(&s->poison, flow_now(&s->flow), all);
    if (n != 0)
        flow_report(&s->flow, 2, "%llu record%s %s: %s", (unsigned long long)n, n == 1 ? "" : "s",
                    s->config.on_poison == PAWL_ON_ERROR_SKIP ? "skipped (on_error)"
                                                              : "moved to the dead-letter stream",
                    s->poison_why);
}

struct filling {
    struct pawl_source *s;
    pawl_tx *tx;
    const char *why;
    uint64_t bytes, poisoned;
    bool stopped; /* by on_poison */
};

static int put_record(void *arg, size_t i) {
    struct filling *f = arg;
    struct pawl_source *s = f->s;
    const pawl_record *r = &s->batch.records[i];
    int rc = 0;
    f->bytes += (uint64_t)r->value_len + r->key_len;
    if (s->batch.poison == NULL)
        rc = pawl_put(f->tx, s->config.stream, s->config.partition, r);
    /* too large, or with headers that no record can have */
    if (s->batch.poison == NULL && rc != PAWL_TOO_LARGE && rc != PAWL_INVALID)
        return rc;
    f->why = s->batch.poison != NULL ? s->batch.poison : pawl_strerror(rc);
    return 1;
}

static int put_refused(void *arg, size_t i, const char **why) {
    struct filling *f = arg;
    *why = f->why;
    snprintf(f->s->poison_why, sizeof f->s->poison_why, "%s", f->why);
    int rc = poison(f->s, f->tx, &f->s->batch.records[i], f->why, &f->poisoned);
    f->stopped = f->s->config.on_poison == PAWL_ON_ERROR_STOP;
    return rc < 0 ? rc : f->s->config.on_poison == PAWL_ON_ERROR_SKIP;
}

static int fill_tx(struct filling *f, const struct item *item) {
    const pawl_source_batch *b = &f->s->batch;
    struct origins_putter q = {f, put_record, put_refused};
    int rc = origins_put(&f->s->from, f->tx, item->producer, f->s->config.stream, b->records,
                         b->count, &q);
    uint64_t next = pawl_producer_sequence(item->producer) + 1;
    return rc < 0
               ? rc
               : pawl_tx_sequence(f->tx, item->producer, next, next, b->position, b->position_len);
}

static void acknowledge_one(struct pawl_source *s) {
    const struct pending *p = &s->pending[s->pending_at];
    if (s->ops.ack != NULL)
        s->ops.ack(s->ops.self, s->items[p->item].name, p->position, p->position_len);
    s->pending_at = (s->pending_at + 1) % PENDING_MAX;
    s->pending_count--;
    flow_point(&s->flow, "source-acked");
}

/* Acknowledges what is durable; `wait`: all of it. */
static int acknowledge(struct pawl_source *s, bool wait) {
    pawl_status status = PAWL_STATUS_INIT;
    if (s->pending_count == 0)
        return 0;
    int rc = wait ? pawl_sync(s->flow.log) : 0;
    if (rc == 0)
        rc = pawl_get_status(s->flow.log, &status);
    while (rc == 0 && s->pending_count != 0 && s->pending[s->pending_at].lsn <= status.durable_lsn)
        acknowledge_one(s);
    return rc;
}

/* What the batch was read from takes more room than a transaction has: each record that is refused
 * divides it. The records count for more. */
static int without_origins(struct pawl_source *s) {
    s->from.count = 0;
    flow_report(&s->flow, 2,
                "what a batch was read from takes too much room in the log, and isn't noted; `pawl "
                "audit` will show a gap. Lower batch_records");
    return 0;
}

static int append(struct pawl_source *s) {
    uint32_t i = 0;
    struct filling f = {.s = s};
    pawl_receipt receipt;
    int rc = item_of(s, s->batch.item, &i);
    if (rc == 0 && s->pending_count == PENDING_MAX)
        rc = acknowledge(s, true);
    if (rc == 0)
        rc = pawl_begin(s->flow.log, &f.tx);
    if (rc < 0)
        return flow_log_answer(&s->flow, rc);
    rc = fill_tx(&f, &s->items[i]);
    if (rc < 0) {
        pawl_abort(f.tx);
        if (rc == PAWL_TOO_LARGE && !f.stopped && s->from.count != 0)
            return without_origins(s);
        return rc == PAWL_TOO_LARGE && s->batch.poison != NULL
                   ? flow_fail(&s->flow, rc, s->batch.poison)
                   : flow_log_answer(&s->flow, rc);
    }
    rc = connect_commit(f.tx, false, &receipt);
    if (rc < 0)
        return flow_log_answer(&s->flow, rc);
    flow_point(&s->flow, "source-appended");
    struct pending *p = &s->pending[(s->pending_at + s->pending_count++) % PENDING_MAX];
    *p = (struct pending){.lsn = receipt.lsn, .item = i, .position_len = s->batch.position_len};
    memcpy(p->position, s->batch.position, sizeof p->position);
    s->have = false;
    s->from.count = 0;
    flow_arrived(&s->flow, &(pawl_flow_status){.records = s->batch.count - f.poisoned,
                                               .poisoned = f.poisoned,
                                               .bytes = f.bytes});
    s->poison.held += f.poisoned;
    say_poison(s, false);
    return 0;
}

/* ---- steps: 0 more, 1 nothing now, < 0 failed */

/* Commits that are not acknowledged yet come first. While it waits, the status says idle. */
static int wait_ms(const struct pawl_source *s) {
    if (!s->waits || s->pending_count != 0 || s->flow.status.flow != PAWL_FLOW_IDLE)
        return 0;
    return s->context.wakes ? READ_WAIT_LONG_MS : READ_WAIT_MS;
}

static int read_some(struct pawl_source *s) {
    pawl_fault f = {.offset = UINT64_MAX};
    pawl_source_batch *b = &s->batch;
    *b = (pawl_source_batch){0};
    int outcome =
        s->ops.read(s->ops.self, b, s->config.batch_records, s->config.batch_bytes, wait_ms(s), &f);
    if (outcome == PAWL_DONE)
        flow_works(&s->flow);
    if (outcome == PAWL_ENDED) {
        s->ended = true;
        return 0;
    }
    if (outcome != PAWL_DONE)
        return flow_answer(&s->flow, "read", outcome, &f);
    if (b->item != NULL && (b->position_len == 0 || b->position_len > PAWL_SOURCE_POSITION_MAX))
        return flow_fail(&s->flow, PAWL_PROCESSOR, "the source gave no position of 1 to 32 bytes");
    if (b->item == NULL)
        return 1;
    s->have = b->count != 0 || s->from.count != 0 || !is_committed(s, b);
    flow_point(&s->flow, "source-read");
    return 0;
}

static int step_once(struct pawl_source *s) {
    bool early = s->flow.retry_at_ns > flow_now(&s->flow);
    /* whoever waits for that shall not wait for space in the log as well */
    int rc = acknowledge(s, early);
    if (rc < 0)
        return flow_fail(&s->flow, rc, NULL);
    if (early)
        return 1;
    s->flow.retry_at_ns = 0;
    if (s->have) /* before opening: what was read is not read again */
        return append(s);
    if (!s->flow.opened) {
        pawl_fault f = {.offset = UINT64_MAX};
        if ((s->ops.flags & PAWL_SOURCE_REWINDABLE) != 0)
            s->from.count = 0; /* it begins again at the committed positions */
        int outcome = s->ops.open(s->ops.self, &s->context, &f);
        if (outcome != PAWL_DONE)
            return flow_answer(&s->flow, "open", outcome, &f);
        s->flow.opened = true;
        flow_point(&s->flow, "source-opened");
    }
    say_poison(s, false);
    rc = s->ended ? 1 : read_some(s);
    if (rc == 0 && s->have)
        return append(s);
    /* nothing else to do: see to what is on its way */
    if (rc > 0 && s->flow.retry_at_ns == 0 && s->pending_count != 0) {
        rc = acknowledge(s, true);
        return rc < 0 ? flow_fail(&s->flow, rc, NULL) : 0;
    }
    if (rc > 0 && s->flow.retry_at_ns == 0)
        flow_point(&s->flow, "source-idle"); /* what it gave so far is durable */
    return rc;
}

static void set_state(struct pawl_source *s, int state, int code) {
    flow_set(&s->flow, state, code);
    pthread_mutex_lock(&s->flow.mutex);
    s->flow.status.behind = s->pending_count;
    pthread_mutex_unlock(&s->flow.mutex);
}

int pawl_source_step(pawl_source *s) {
    if (s == NULL)
        return PAWL_INVALID;
    if (s->flow.status.flow == PAWL_FLOW_FAILED)
        return s->flow.status.code;
    int rc = step_once(s);
    if (rc < 0)
        return rc;
    if (s->flow.retry_at_ns == 0)
        set_state(s, rc == 0 ? PAWL_FLOW_RUNNING : s->ended ? PAWL_FLOW_ENDED : PAWL_FLOW_IDLE, 0);
    if (rc == 0)
        return 0;
    int ms = flow_retry_ms(&s->flow);
    return ms > 0 ? ms : READ_WAIT_MS;
}

/* ---- add and remove, the thread */

static const char *config_fault(const pawl_source_config *c, const pawl_source_ops *o) {
    if (!connect_name_ok(c->name))
        return "a source's name has 1 to 64 bytes of A-Z a-z 0-9 . _ -";
    if (o->open == NULL || o->read == NULL)
        return "a source needs open and read";
    return c->on_poison < 0 || c->on_poison > 2 ? "on_poison has no such value" : NULL;
}

static int set_up(struct pawl_source *s, pawl_error *err) {
    pawl_stream_info dead;
    pawl_status status = PAWL_STATUS_INIT;
    int rc = pawl_get_status(s->flow.log, &status);
    if (rc < 0)
        return connect_log_error(err, rc);
    if (!connect_stream(s->flow.log, s->config.stream, &s->stream))
        return connect_error(err, PAWL_NOT_FOUND, "source %s: there is no stream %u", s->flow.name,
                             s->config.stream);
    if (s->config.on_poison == PAWL_ON_ERROR_DEAD_LETTER &&
        !connect_stream(s->flow.log, s->config.dead_letter, &dead))
        return connect_error(err, PAWL_NOT_FOUND, "source %s: the dead-letter stream is not there",
                             s->flow.name);
    return 0;
}

/* Takes config and ops, and checks them. ops->destroy is set as soon as it may be called. */
static int check(pawl *p, pawl_source_config *c, const pawl_source_config *config,
                 pawl_source_ops *ops, const pawl_source_ops *given, pawl_error *err) {
    int rc = pawl_struct_take(ops, sizeof *ops, given, SOURCE_OPS_FIRST, "pawl_source_ops");
    if (rc == PAWL_UNSUPPORTED)
        ops->destroy = given->destroy, ops->self = given->self;
    if (rc == 0)
        rc = pawl_struct_take(c, sizeof *c, config, SOURCE_CONFIG_FIRST, "pawl_source_config");
    if (rc < 0)
        return connect_log_error(err, rc);
    const char *fault = p == NULL ? "the log is NULL" : config_fault(c, ops);
    return fault != NULL ? connect_error(err, PAWL_INVALID, "%s", fault) : 0;
}

static void defaults(pawl_source_config *c, uint32_t flags) {
    c->batch_records = c->batch_records != 0 ? c->batch_records : 10000;
    c->batch_bytes = c->batch_bytes != 0 ? c->batch_bytes : UINT64_C(1) << 20;
    if ((flags & PAWL_SOURCE_STRANGERS) != 0 && c->on_poison == PAWL_ON_ERROR_STOP &&
        c->stop_on_strangers == 0)
        c->on_poison = PAWL_ON_ERROR_SKIP;
}

int pawl_source_add(pawl *p, const pawl_source_config *config, const pawl_source_ops *given,
                    pawl_source **out, pawl_error *err) {
    pawl_source_ops ops = PAWL_SOURCE_OPS_INIT;
    pawl_source_config c = PAWL_SOURCE_CONFIG_INIT;
    struct pawl_source *s = NULL;
    int rc = out == NULL ? connect_error(err, PAWL_INVALID, "the result pointer is NULL") : 0;
    if (rc == 0)
        rc = check(p, &c, config, &ops, given, err);
    if (rc == 0 && (s = calloc(1, sizeof *s)) == NULL)
        rc = connect_error(err, PAWL_MEMORY, "no memory for a source");
    if (rc < 0) {
        if (ops.destroy != NULL)
            ops.destroy(ops.self);
        return rc;
    }
    s->config = c;
    s->ops = ops;
    s->context.source = s;
    defaults(&s->config, ops.flags);
    flow_init(&s->flow, p, c.name, ops.type, &c.hooks);
    flow_backoff(&s->flow, c.backoff_ms, c.backoff_max_ms);
    rc = set_up(s, err);
    if (rc < 0) {
        pawl_source_remove(s);
        return rc;
    }
    *out = s;
    return 0;
}

void pawl_source_remove(pawl_source *s) {
    if (s == NULL)
        return;
    flow_stop(&s->flow, 0);
    for (uint32_t i = 0; i < s->item_count; i++)
        pawl_producer_close(s->items[i].producer);
    origins_free(&s->from);
    if (s->ops.destroy != NULL)
        s->ops.destroy(s->ops.self);
    flow_free(&s->flow);
    free(s->items);
    free(s);
}

/* Stopping: what was read is appended and acknowledged; nothing more is read. */
static int drain_once(struct pawl_source *s) {
    if (s->have)
        return pawl_source_step(s);
    int rc = acknowledge(s, true);
    if (rc < 0)
        return flow_fail(&s->flow, rc, NULL);
    set_state(s, s->ended ? PAWL_FLOW_ENDED : PAWL_FLOW_IDLE, 0);
    return 1;
}

static void *run(void *arg) {
    struct pawl_source *s = arg;
    s->waits = true;
    for (;;) {
        bool stopping = flow_stopping(&s->flow);
        int rc = stopping ? drain_once(s) : pawl_source_step(s);
        if (!stopping && s->ended && rc > 0) /* the status says so already */
            flow_report(&s->flow, 1, "all is read and in the log: it has ended");
        if (rc < 0 || (!stopping && s->ended && rc > 0))
            break;
        bool drained = !s->have && s->pending_count == 0;
        if (stopping && (drained || flow_drained(&s->flow)))
            break;
        if (rc > 0 && s->flow.retry_at_ns != 0)
            flow_wait(&s->flow, -1, stopping && rc > FLOW_DRAIN_MS ? FLOW_DRAIN_MS : rc);
    }
    s->waits = false;
    say_poison(s, true); /* nothing stays unsaid */
    return NULL;
}

int pawl_source_start(pawl_source *s) {
    return s == NULL ? PAWL_INVALID : flow_start(&s->flow, run, s);
}

int pawl_source_stop(pawl_source *s, uint32_t drain_ms) {
    if (s == NULL)
        return PAWL_INVALID;
    bool ran = flow_stop(&s->flow, drain_ms);
    return ran && (s->have || s->pending_count != 0) ? PAWL_TIMEOUT : 0;
}

int pawl_source_status(pawl_source *s, pawl_flow_status *given) {
    if (s == NULL)
        return PAWL_INVALID;
    pawl_flow_status own = PAWL_FLOW_STATUS_INIT, *out = &own;
    flow_status(&s->flow, out);
    if (s->ops.status != NULL)
        flow_target(s->ops.status, s->ops.self, out);
    return pawl_struct_give(given, FLOW_STATUS_FIRST, out, sizeof *out, "pawl_flow_status");
}
