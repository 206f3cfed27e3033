/* SPDX-License-Identifier: Apache-2.0
 *
 * Sources: records and the position behind them in one commit, under a producer for each item.
 * Commits are not waited for; what became durable is acknowledged in order. While the log is full
 * the batch at hand is kept and the source isn't read on.
 */
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "connectors/runtime/connect.h"

#define PENDING_MAX 64u /* commits not yet durable */
#define READ_WAIT_MS 20
#define DEAD_VALUE_MAX 65536u

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
};

/* Everything but status and stop belongs to whoever steps. */
struct pawl_source {
    pawl *log;
    pawl_source_config config;
    pawl_source_ops ops;
    pawl_source_context context;
    char name[65];
    pawl_stream_info stream;
    struct item *items;
    uint32_t item_count;
    pawl_source_batch batch; /* read, not yet appended */
    bool have, opened, ended;
    /* the batch is a position without records, not written yet */
    bool moved;
    struct pending pending[PENDING_MAX]; /* a ring */
    uint32_t pending_at, pending_count;
    uint32_t attempts;
    uint64_t retry_at_ns, jitter;
    int wait_ms;

    pthread_t thread;
    bool running;
    _Atomic int stop;
    _Atomic uint64_t drain_until_ns;

    pthread_mutex_t mutex; /* guards status and what follows */
    pthread_cond_t wake;
    pawl_flow_status status;
    uint64_t status_retry_at_ns;
};

static void report(struct pawl_source *s, int severity, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void report(struct pawl_source *s, int severity, const char *format, ...) {
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    pthread_mutex_lock(&s->mutex);
    memcpy(s->status.message, text, sizeof text);
    pthread_mutex_unlock(&s->mutex);
    if (s->config.hooks.report != NULL)
        s->config.hooks.report(s->config.hooks.report_arg, s->name, severity, text);
}

static void set_flow(struct pawl_source *s, int flow, int code) {
    pthread_mutex_lock(&s->mutex);
    s->status.flow = flow;
    s->status.code = code;
    s->status.behind = s->pending_count;
    pthread_mutex_unlock(&s->mutex);
}

static int fail_for_good(struct pawl_source *s, int code, const char *text) {
    pawl_error e;
    pawl_last_error(&e);
    report(s, 3, "%s", text != NULL ? text : e.message[0] != 0 ? e.message : pawl_strerror(code));
    set_flow(s, PAWL_FLOW_FAILED, code);
    return code;
}

static int try_later(struct pawl_source *s, const char *text) {
    uint32_t pause =
        connect_pause(++s->attempts, s->config.backoff_ms, s->config.backoff_max_ms, &s->jitter);
    s->retry_at_ns = connect_now(&s->config.hooks) + (uint64_t)pause * 1000000u;
    pthread_mutex_lock(&s->mutex);
    s->status.flow = PAWL_FLOW_WAITING;
    s->status.attempts = s->attempts;
    s->status.retries++;
    s->status_retry_at_ns = s->retry_at_ns;
    pthread_mutex_unlock(&s->mutex);
    report(s, 1, "%s; next attempt in %u ms", text, pause);
    return 1;
}

static int log_answer(struct pawl_source *s, int code) {
    if (code == PAWL_FULL || code == PAWL_MEMORY)
        return try_later(s, pawl_strerror(code));
    return fail_for_good(s, code, NULL);
}

void pawl_source_report(pawl_source_context *x, int severity, const char *format, ...) {
    char text[512];
    va_list args;
    if (x == NULL)
        return;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    report(x->source, severity, "%s", text);
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
    snprintf(producer, sizeof producer, "%s%s%s", s->name, name[0] != 0 ? "." : "", name);
    int rc = pawl_producer_open(s->log, producer, &q->producer);
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
    return connect_dead_letter(s->log, tx, s->config.dead_letter, s->name, s->stream.name, &cut,
                               why, DEAD_VALUE_MAX);
}

static int fill_tx(struct pawl_source *s, pawl_tx *tx, const struct item *item, uint64_t *bytes,
                   uint64_t *poisoned) {
    const pawl_source_batch *b = &s->batch;
    int rc = 0;
    for (size_t i = 0; i < b->count && rc == 0; i++) {
        if (b->poison == NULL)
            rc = pawl_put(tx, s->config.stream, s->config.partition, &b->records[i]);
        if (b->poison != NULL || rc == PAWL_TOO_LARGE)
            rc = poison(s, tx, &b->records[i], b->poison != NULL ? b->poison : pawl_strerror(rc),
                        poisoned);
        *bytes += (uint64_t)b->records[i].value_len + b->records[i].key_len;
    }
    uint64_t next = pawl_producer_sequence(item->producer) + 1;
    return rc < 0 ? rc
                  : pawl_tx_sequence(tx, item->producer, next, next, b->position, b->position_len);
}

static void acknowledge_one(struct pawl_source *s) {
    const struct pending *p = &s->pending[s->pending_at];
    if (s->ops.ack != NULL)
        s->ops.ack(s->ops.self, s->items[p->item].name, p->position, p->position_len);
    s->pending_at = (s->pending_at + 1) % PENDING_MAX;
    s->pending_count--;
    connect_point(&s->config.hooks, "source-acked");
}

/* Acknowledges what is durable; `wait`: all of it. */
static int acknowledge(struct pawl_source *s, bool wait) {
    pawl_status status = PAWL_STATUS_INIT;
    if (s->pending_count == 0)
        return 0;
    int rc = wait ? pawl_sync(s->log) : 0;
    if (rc == 0)
        rc = pawl_get_status(s->log, &status);
    while (rc == 0 && s->pending_count != 0 && s->pending[s->pending_at].lsn <= status.durable_lsn)
        acknowledge_one(s);
    return rc;
}

static int append(struct pawl_source *s) {
    uint32_t i = 0;
    uint64_t bytes = 0, poisoned = 0;
    pawl_tx *tx = NULL;
    pawl_receipt receipt;
    int rc = item_of(s, s->batch.item, &i);
    if (rc == 0 && s->pending_count == PENDING_MAX)
        rc = acknowledge(s, true);
    if (rc == 0)
        rc = pawl_begin(s->log, &tx);
    if (rc < 0)
        return log_answer(s, rc);
    rc = fill_tx(s, tx, &s->items[i], &bytes, &poisoned);
    if (rc < 0) {
        pawl_abort(tx);
        return rc == PAWL_TOO_LARGE && s->batch.poison != NULL
                   ? fail_for_good(s, rc, s->batch.poison)
                   : log_answer(s, rc);
    }
    rc = pawl_commit_async(tx, NULL, NULL, &receipt);
    if (rc == PAWL_FULL || rc == PAWL_MEMORY)
        pawl_abort(tx);
    if (rc < 0)
        return log_answer(s, rc);
    connect_point(&s->config.hooks, "source-appended");
    struct pending *p = &s->pending[(s->pending_at + s->pending_count++) % PENDING_MAX];
    *p = (struct pending){.lsn = receipt.lsn, .item = i, .position_len = s->batch.position_len};
    memcpy(p->position, s->batch.position, sizeof p->position);
    s->have = s->moved = false;
    s->attempts = 0;
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    pthread_mutex_lock(&s->mutex);
    s->status.records += s->batch.count - poisoned;
    s->status.poisoned += poisoned;
    s->status.bytes += bytes;
    s->status.batches++;
    s->status.attempts = 0;
    s->status.last_ns = (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
    pthread_mutex_unlock(&s->mutex);
    return 0;
}

/* ---- steps: 0 more, 1 nothing now, < 0 failed */

static int answer(struct pawl_source *s, const char *call, int outcome, const pawl_fault *f) {
    char text[480];
    snprintf(text, sizeof text, "%s: %s", call, f->message);
    if (outcome == PAWL_RETRY) {
        s->opened = false;
        return try_later(s, text);
    }
    return fail_for_good(s, PAWL_PROCESSOR, text);
}

static int read_some(struct pawl_source *s) {
    pawl_fault f = {.offset = UINT64_MAX};
    pawl_source_batch *b = &s->batch;
    *b = (pawl_source_batch){0};
    s->moved = false;
    int outcome = s->ops.read(s->ops.self, b, s->config.batch_records, s->config.batch_bytes,
                              s->pending_count != 0 ? 0 : s->wait_ms, &f);
    if (outcome == PAWL_ENDED) {
        s->ended = true;
        return 0;
    }
    if (outcome != PAWL_DONE)
        return answer(s, "read", outcome, &f);
    if (b->item != NULL && (b->position_len == 0 || b->position_len > PAWL_SOURCE_POSITION_MAX))
        return fail_for_good(s, PAWL_PROCESSOR, "the source gave no position of 1 to 32 bytes");
    if (b->item == NULL)
        return 1;
    s->have = b->count != 0;
    s->moved = b->count == 0;
    connect_point(&s->config.hooks, "source-read");
    return 0;
}

static int step_once(struct pawl_source *s) {
    bool early = s->retry_at_ns > connect_now(&s->config.hooks);
    /* whoever waits for that shall not wait for space in the log as well */
    int rc = acknowledge(s, early);
    if (rc < 0)
        return fail_for_good(s, rc, NULL);
    if (early)
        return 1;
    s->retry_at_ns = 0;
    if (s->have) /* before opening: what was read is not read again */
        return append(s);
    if (!s->opened) {
        pawl_fault f = {.offset = UINT64_MAX};
        int outcome = s->ops.open(s->ops.self, &s->context, &f);
        if (outcome != PAWL_DONE)
            return answer(s, "open", outcome, &f);
        s->opened = true;
        connect_point(&s->config.hooks, "source-opened");
    }
    rc = s->ended ? 1 : read_some(s);
    if (rc == 0 && s->have)
        return append(s);
    /* nothing else to do: see to what is on its way */
    if (rc > 0 && s->retry_at_ns == 0 && s->pending_count != 0) {
        rc = acknowledge(s, true);
        return rc < 0 ? fail_for_good(s, rc, NULL) : 0;
    }
    return rc;
}

int pawl_source_step(pawl_source *s) {
    if (s == NULL)
        return PAWL_INVALID;
    if (s->status.flow == PAWL_FLOW_FAILED)
        return s->status.code;
    int rc = step_once(s);
    if (rc < 0)
        return rc;
    if (s->retry_at_ns == 0)
        set_flow(s, rc == 0 ? PAWL_FLOW_RUNNING : s->ended ? PAWL_FLOW_ENDED : PAWL_FLOW_IDLE, 0);
    if (rc == 0)
        return 0;
    uint64_t now = connect_now(&s->config.hooks);
    return s->retry_at_ns > now ? (int)((s->retry_at_ns - now + 999999) / 1000000) : READ_WAIT_MS;
}

/* ---- add and remove, the thread */

static const char *config_fault(const pawl_source_config *c, const pawl_source_ops *o) {
    if (c->struct_size != sizeof *c || o->struct_size != sizeof *o)
        return "config and ops need PAWL_SOURCE_CONFIG_INIT and PAWL_SOURCE_OPS_INIT";
    if (!connect_name_ok(c->name))
        return "a source's name has 1 to 64 bytes of A-Z a-z 0-9 . _ -";
    if (o->open == NULL || o->read == NULL)
        return "a source needs open and read";
    return c->on_poison < 0 || c->on_poison > 2 ? "on_poison has no such value" : NULL;
}

static int set_up(struct pawl_source *s, pawl_error *err) {
    pawl_stream_info dead;
    pawl_status status = PAWL_STATUS_INIT;
    int rc = pawl_get_status(s->log, &status);
    if (rc < 0)
        return connect_log_error(err, rc);
    if (!connect_stream(s->log, s->config.stream, &s->stream))
        return connect_error(err, PAWL_NOT_FOUND, "source %s: there is no stream %u", s->name,
                             s->config.stream);
    if (s->config.on_poison == PAWL_ON_ERROR_DEAD_LETTER &&
        !connect_stream(s->log, s->config.dead_letter, &dead))
        return connect_error(err, PAWL_NOT_FOUND, "source %s: the dead-letter stream is not there",
                             s->name);
    return 0;
}

int pawl_source_add(pawl *p, const pawl_source_config *c, const pawl_source_ops *ops,
                    pawl_source **out, pawl_error *err) {
    if (ops == NULL)
        return connect_error(err, PAWL_INVALID, "ops is NULL");
    const char *fault = p == NULL || c == NULL || out == NULL
                            ? "log, config or result pointer is NULL"
                            : config_fault(c, ops);
    struct pawl_source *s = fault == NULL ? calloc(1, sizeof *s) : NULL;
    if (s == NULL) {
        if (ops->destroy != NULL)
            ops->destroy(ops->self);
        return connect_error(err, fault != NULL ? PAWL_INVALID : PAWL_MEMORY, "%s",
                             fault != NULL ? fault : "no memory for a source");
    }
    s->log = p;
    s->config = *c;
    s->ops = *ops;
    s->context.source = s;
    snprintf(s->name, sizeof s->name, "%s", c->name);
    s->config.batch_records = c->batch_records != 0 ? c->batch_records : 10000;
    s->config.batch_bytes = c->batch_bytes != 0 ? c->batch_bytes : UINT64_C(1) << 20;
    s->config.backoff_ms = c->backoff_ms != 0 ? c->backoff_ms : 100;
    s->config.backoff_max_ms = c->backoff_max_ms != 0 ? c->backoff_max_ms : 30000;
    s->jitter = connect_seed(&s->config.hooks);
    pthread_mutex_init(&s->mutex, NULL);
    connect_condition(&s->wake);
    int rc = set_up(s, err);
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
    pawl_source_stop(s, 0);
    for (uint32_t i = 0; i < s->item_count; i++)
        pawl_producer_close(s->items[i].producer);
    if (s->ops.destroy != NULL)
        s->ops.destroy(s->ops.self);
    pthread_cond_destroy(&s->wake);
    pthread_mutex_destroy(&s->mutex);
    free(s->items);
    free(s);
}

/* Stopping: what was read is appended and acknowledged; nothing more is read. */
static int drain_once(struct pawl_source *s) {
    s->have |= s->moved;
    if (s->have)
        return pawl_source_step(s);
    int rc = acknowledge(s, true);
    if (rc < 0)
        return fail_for_good(s, rc, NULL);
    set_flow(s, s->ended ? PAWL_FLOW_ENDED : PAWL_FLOW_IDLE, 0);
    return 1;
}

static void *run(void *arg) {
    struct pawl_source *s = arg;
    s->wait_ms = READ_WAIT_MS;
    for (;;) {
        bool stopping = atomic_load(&s->stop);
        int rc = stopping ? drain_once(s) : pawl_source_step(s);
        if (rc < 0 || (!stopping && s->ended && rc > 0))
            break;
        bool drained = !s->have && s->pending_count == 0;
        if (stopping &&
            (drained || connect_now(&(pawl_hooks){0}) >= atomic_load(&s->drain_until_ns)))
            break;
        if (rc > 0 && s->retry_at_ns != 0)
            connect_wait(&s->mutex, &s->wake, stopping ? NULL : &s->stop,
                         stopping && rc > READ_WAIT_MS ? READ_WAIT_MS : rc);
    }
    s->wait_ms = 0;
    return NULL;
}

int pawl_source_start(pawl_source *s) {
    if (s == NULL)
        return PAWL_INVALID;
    if (s->running)
        return PAWL_BUSY;
    if (s->status.flow == PAWL_FLOW_FAILED)
        return PAWL_STATE;
    atomic_store(&s->stop, 0);
    if (pthread_create(&s->thread, NULL, run, s) != 0)
        return PAWL_MEMORY;
    s->running = true;
    return 0;
}

int pawl_source_stop(pawl_source *s, uint32_t drain_ms) {
    if (s == NULL)
        return PAWL_INVALID;
    if (!s->running)
        return 0;
    pthread_mutex_lock(&s->mutex);
    atomic_store(&s->drain_until_ns,
                 drain_ms == 0 ? 0 : connect_now(&(pawl_hooks){0}) + (uint64_t)drain_ms * 1000000u);
    atomic_store(&s->stop, 1);
    pthread_cond_broadcast(&s->wake);
    pthread_mutex_unlock(&s->mutex);
    pthread_join(s->thread, NULL);
    s->running = false;
    return s->have || s->pending_count != 0 ? PAWL_TIMEOUT : 0;
}

int pawl_source_status(pawl_source *s, pawl_flow_status *out) {
    if (s == NULL || out == NULL || out->struct_size != sizeof *out)
        return PAWL_INVALID;
    pthread_mutex_lock(&s->mutex);
    *out = s->status;
    uint64_t at = s->status_retry_at_ns;
    pthread_mutex_unlock(&s->mutex);
    out->struct_size = sizeof *out;
    uint64_t now = connect_now(&s->config.hooks);
    out->retry_in_ms =
        out->flow == PAWL_FLOW_WAITING && at > now ? (uint32_t)((at - now) / 1000000u) : 0;
    snprintf(out->name, sizeof out->name, "%s", s->name);
    snprintf(out->type, sizeof out->type, "%s", s->ops.type != NULL ? s->ops.type : "");
    if (s->ops.status != NULL)
        s->ops.status(s->ops.self, out->target, sizeof out->target);
    return 0;
}
