/* SPDX-License-Identifier: Apache-2.0
 *
 * aggregate.c - folds the records of each window, by key, and emits what they come to.
 *
 * Its table has one pair for each slice of windows, or for each session:
 *   key    length of the group's key (2, big-endian), the key, start (8, big-endian, sign turned)
 *   value  end (8), panes emitted so far (4), what fold_encode() writes
 * Each open window has one event-time timer, at its end: its key is the group's key, then the start
 * (of a session), the end of what is emitted (else) as above, then a byte for what it is for. A
 * window that closes sets the timer of the next one that has something of its slices. A session
 * that grew is found by its timer to be still open, and gets a new one.
 *
 * A record is late for a window if its own input partition's watermark has reached the window's
 * end; for a session if it has passed the record. It is in all of its windows or in none. So the
 * last pane of each window doesn't depend on the order in which partitions are read (PAWL-14).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "connectors/text/json_text.h"
#include "processors/fold.h"
#include "processors/grouping.h"
#include "processors/keeper.h"
#include "processors/window.h"

#define GROUP_MAX 8000
#define STATE_HEAD 12 /* of a pair's value */
enum { TIMER_CLOSE, TIMER_DROP };
enum { EMIT_CLOSE, EMIT_UPDATE };

typedef struct aggregate {
    grouping group;
    keeper keep;
    selector time, of;
    bool has_time, has_of;
    enum time_format format;
    window w;
    uint32_t what;  /* enum fold_what */
    int emit, late; /* late: output, -1: none */
    int64_t grace;
    struct part {
        struct scratch group, of;
        struct buffer pairs; /* that were read together */
        struct buffer key;   /* of a pair or timer */
    } * parts;               /* of each partition */
    uint32_t part_count;
} aggregate;

static const pawl_setting_info settings[] = {
    PROC_TO,
    GROUPING_SETTINGS,
    WINDOW_SETTINGS,
    {"compute", PAWL_SETTING_TEXT, 0, NULL, "count",
     "what is computed, a list: count, sum, mean, min, max, first, last"},
    {"of", PAWL_SETTING_TEXT, 0, NULL, NULL,
     "of what, if not count: value, key, json:PATH or header:NAME; a record without it counts, and "
     "that is all"},
    {"time", PAWL_SETTING_TEXT, 0, NULL, NULL,
     "where the event time is: value, key, json:PATH or header:NAME; without it the record's "
     "timestamp"},
    {"time_format", PAWL_SETTING_CHOICE, 0, TIME_FORMATS, "rfc3339",
     "how it is written: RFC 3339, or a number of seconds, ms, us or ns since 1970"},
    {"out_of_order", PAWL_SETTING_TIME, 0, NULL, "0",
     "by how much the records of a partition may be out of order"},
    {"idle", PAWL_SETTING_TIME, 0, NULL, "0",
     "with several inputs: one without a record for so long holds the others back no more; 0: it "
     "does for ever"},
    {"emit", PAWL_SETTING_CHOICE, 0, "close|update", "close",
     "when a window closes, or after each record too"},
    {"grace", PAWL_SETTING_TIME, 0, NULL, "0",
     "so long after its end a window takes late records, and emits itself again"},
    {"late", PAWL_SETTING_TEXT, 0, NULL, NULL,
     "the stream that gets late records, unchanged; without it they are only counted"},
    {NULL, 0, 0, NULL, NULL, NULL},
};
static int make_processor(const pawl_settings *s, pawl_processor_ops *out, pawl_error *err);
const pawl_connector connect_processor_aggregate = {
    .type = "aggregate",
    .help = "counts, sums and more over windows of event time, by key",
    .settings = settings,
    .make_processor = make_processor,
};

static void free_scratch(struct scratch *s) {
    matcher_space_free(s->space);
    buffer_free(&s->value);
    buffer_free(&s->own);
    buffer_free(&s->batch);
}

static void free_parts(aggregate *x) {
    for (uint32_t i = 0; i < x->part_count; i++) {
        free_scratch(&x->parts[i].group);
        free_scratch(&x->parts[i].of);
        buffer_free(&x->parts[i].pairs);
        buffer_free(&x->parts[i].key);
    }
    free(x->parts);
    x->parts = NULL;
    x->part_count = 0;
}

static void destroy(void *self) {
    aggregate *x = self;
    grouping_free(&x->group);
    keeper_free(&x->keep);
    selector_free(&x->time);
    selector_free(&x->of);
    free_parts(x);
    free(x);
}

/* ---- settings */

static int meaningless(const pawl_settings *s, const char *name, const char *without,
                       pawl_error *err) {
    return connect_error(err, PAWL_INVALID, "line %u: %s has no meaning %s",
                         pawl_setting_line(s, name), name, without);
}

static int check(const aggregate *x, const pawl_settings *s, pawl_error *err) {
    bool tumbling = x->w.kind == WINDOW_TUMBLING;
    if (x->what == 0)
        return connect_error(
            err, PAWL_INVALID,
            "line %u: compute must be a list of count, sum, mean, min, max, first, "
            "last, each once",
            pawl_setting_line(s, "compute"));
    if (!x->has_of && (x->what & ~(uint32_t)FOLD_COUNT) != 0)
        return connect_error(err, PAWL_INVALID,
                             "line %u: compute needs `of`: the sum, minimum ... of what?",
                             pawl_setting_line(s, "compute"));
    if (x->has_of && x->what == FOLD_COUNT)
        return meaningless(s, "of", "with compute: count", err);
    if (!x->has_time && connect_setting_given(s, "time_format"))
        return meaningless(s, "time_format", "without time", err);
    if (x->emit == EMIT_UPDATE && !tumbling)
        return meaningless(s, "emit", "but with window: tumbling", err);
    if (x->grace != 0 && !tumbling)
        return meaningless(s, "grace", "but with window: tumbling", err);
    return 0;
}

static int take_time(uint64_t ms, const pawl_settings *s, const char *name, uint64_t *ns,
                     pawl_error *err) {
    if (ms > (uint64_t)INT64_MAX / 8000000)
        return connect_error(err, PAWL_INVALID, "line %u: %s is longer than 36 years",
                             pawl_setting_line(s, name), name);
    *ns = ms * 1000000;
    return 0;
}

static int make(proc *p, const pawl_settings *s, pawl_error *err) {
    static const char *const matter[] = {"by",   "match", "all",    "caseless", "window", "size",
                                         "step", "gap",   "offset", "compute",  "of",     NULL};
    const pawl_connector *c = &connect_processor_aggregate;
    aggregate *x = calloc(1, sizeof *x);
    if (x == NULL)
        return connect_error(err, PAWL_MEMORY, "no memory");
    p->self = x;
    x->keep.flags = PAWL_TABLE_LOCAL;
    x->has_time = pawl_setting_text(c, s, "time") != NULL;
    x->has_of = pawl_setting_text(c, s, "of") != NULL;
    x->format = (enum time_format)connect_setting_choice(c, s, "time_format");
    x->emit = connect_setting_choice(c, s, "emit");
    x->what = fold_parse(pawl_setting_text(c, s, "compute"));
    uint64_t grace = 0;
    int rc = proc_output_of(p, s, "late", &x->late, err);
    if (rc == 0)
        rc = grouping_make(&x->group, c, s, err);
    if (rc == 0)
        rc = keeper_make(&x->keep, c, s, matter, err);
    if (rc == 0)
        rc = window_make(&x->w, c, s, err);
    if (rc == 0 && x->has_time)
        rc = selector_make(&x->time, c, s, "time", err);
    if (rc == 0 && x->has_of)
        rc = selector_make(&x->of, c, s, "of", err);
    if (rc == 0)
        rc = take_time(pawl_setting_number(c, s, "out_of_order"), s, "out_of_order",
                       &p->time.out_of_order_ns, err);
    if (rc == 0)
        rc = take_time(pawl_setting_number(c, s, "idle"), s, "idle", &p->time.idle_ns, err);
    if (rc == 0)
        rc = take_time(pawl_setting_number(c, s, "grace"), s, "grace", &grace, err);
    x->grace = (int64_t)grace;
    return rc < 0 ? rc : check(x, s, err);
}

static int start(proc *p, pawl *log, pawl_error *err) {
    aggregate *x = p->self;
    free_parts(x);
    x->parts = calloc(p->inputs[0].partitions, sizeof *x->parts);
    if (x->parts == NULL)
        return connect_error(err, PAWL_MEMORY, "no memory for processor %s", p->name);
    x->part_count = p->inputs[0].partitions;
    for (uint32_t i = 0; i < x->part_count && x->group.match != NULL; i++)
        if ((x->parts[i].group.space = matcher_space_new(x->group.match)) == NULL)
            return connect_error(err, PAWL_MEMORY, "no memory for processor %s", p->name);
    return keeper_open(&x->keep, p, log, false, err);
}

/* ---- the pairs */

/* What a call works on. */
struct call {
    proc *p;
    pawl_context *ctx;
    struct part *part;
    const char *group;
    size_t group_len;
    struct fold_value value;
    int64_t time;
    bool late; /* the record is */
};

static void put_time(char out[8], int64_t time) {
    uint64_t turned = (uint64_t)time ^ (UINT64_C(1) << 63);
    for (int i = 7; i >= 0; i--, turned >>= 8)
        out[i] = (char)(unsigned char)turned;
}

static int64_t get_time(const char *in) {
    uint64_t turned = 0;
    for (int i = 0; i < 8; i++)
        turned = turned << 8 | (unsigned char)in[i];
    return (int64_t)(turned ^ (UINT64_C(1) << 63));
}

/* Makes the key of a pair in k->part->key. (There, as an array for the longest one is cleared in
 * each call of a hardened build.) */
static int state_key(const struct call *k, int64_t start, const char **why) {
    struct buffer *b = &k->part->key;
    char head[2] = {(char)(unsigned char)(k->group_len >> 8), (char)(unsigned char)k->group_len};
    char time[8];
    put_time(time, start);
    b->len = 0;
    *why = "out of memory";
    return buffer_add(b, head, sizeof head) && buffer_add(b, k->group, k->group_len) &&
                   buffer_add(b, time, sizeof time)
               ? 0
               : PAWL_MEMORY;
}

struct pane {
    int64_t start, end;
    uint32_t emitted;
    fold f;
};

static int broken(pawl_context *ctx) {
    pawl_broken(ctx, "its table has a value that it didn't write");
    return PROC_TOLD;
}

static int read_pane(const struct call *k, const void *value, size_t len, struct pane *out) {
    const aggregate *x = k->p->self;
    if (len < STATE_HEAD)
        return broken(k->ctx);
    memcpy(&out->end, value, 8);
    memcpy(&out->emitted, (const char *)value + 8, 4);
    return fold_decode(&out->f, x->what, (const char *)value + STATE_HEAD, len - STATE_HEAD)
               ? 1
               : broken(k->ctx);
}

/* 1: it is there; its values live until the next call of state. */
static int get_pane(const struct call *k, int64_t start, struct pane *out, const char **why) {
    const aggregate *x = k->p->self;
    const struct buffer *key = &k->part->key;
    const void *value;
    size_t len;
    int rc = state_key(k, start, why);
    if (rc < 0)
        return rc;
    rc = pawl_state_get(k->ctx, x->keep.table, key->bytes, key->len, &value, &len);
    if (rc < 0)
        return keeper_error(k->ctx, rc, why);
    out->start = start;
    if (rc == 1)
        return read_pane(k, value, len, out);
    out->end = 0;
    out->emitted = 0;
    fold_init(&out->f, x->what);
    return 0;
}

static int put_pane(const struct call *k, const struct pane *pane, const char **why) {
    const aggregate *x = k->p->self;
    struct buffer *b = &k->part->group.batch;
    const struct buffer *key = &k->part->key;
    int rc = state_key(k, pane->start, why);
    b->len = 0;
    if (rc < 0 || !buffer_add(b, &pane->end, 8) || !buffer_add(b, &pane->emitted, 4) ||
        !fold_encode(&pane->f, b))
        return PAWL_MEMORY;
    rc = pawl_state_put(k->ctx, x->keep.table, key->bytes, key->len, b->bytes, b->len);
    return rc < 0 ? keeper_error(k->ctx, rc, why) : 0;
}

static int delete_pane(const struct call *k, int64_t start, const char **why) {
    const aggregate *x = k->p->self;
    const struct buffer *key = &k->part->key;
    int rc = state_key(k, start, why);
    if (rc < 0)
        return rc;
    rc = pawl_state_delete(k->ctx, x->keep.table, key->bytes, key->len);
    return rc < 0 ? keeper_error(k->ctx, rc, why) : 0;
}

static int set_timer(const struct call *k, int64_t at, int64_t of, char what, const char **why) {
    struct buffer *b = &k->part->key;
    char end[9];
    put_time(end, of);
    end[8] = what;
    b->len = 0;
    *why = "out of memory";
    if (!buffer_add(b, k->group, k->group_len) || !buffer_add(b, end, sizeof end))
        return PAWL_MEMORY;
    int rc = pawl_timer_set(k->ctx, PAWL_EVENT_TIME, at, b->bytes, b->len, NULL, 0);
    return rc < 0 ? keeper_error(k->ctx, rc, why) : 0;
}

/* ---- emitting */

static bool print_pane(const struct call *k, const struct pane *pane, bool final,
                       struct buffer *out) {
    char head[64 + 2 * TIME_TEXT_MAX], from[TIME_TEXT_MAX], to[TIME_TEXT_MAX];
    (void)time_text(pane->start, from);
    (void)time_text(pane->end, to);
    snprintf(head, sizeof head, ",\"start\":\"%s\",\"end\":\"%s\",\"pane\":%u,\"final\":%s,", from,
             to, pane->emitted, final ? "true" : "false");
    out->len = 0;
    return buffer_add_text(out, "{\"key\":") && json_add_string(out, k->group, k->group_len) &&
           buffer_add_text(out, head) && fold_print(&pane->f, out) && buffer_add_text(out, "}");
}

static int emit_pane(const struct call *k, struct pane *pane, bool final, const char **why) {
    struct buffer *b = &k->part->group.value;
    *why = "out of memory";
    if (!print_pane(k, pane, final, b))
        return PAWL_MEMORY;
    pane->emitted++;
    pawl_record r = {.key = k->group,
                     .key_len = (uint16_t)k->group_len,
                     .value = b->bytes,
                     .value_len = (uint32_t)b->len,
                     .timestamp_ns = pane->end != 0 ? pane->end : 1};
    *why = "a window could not be emitted";
    int rc = proc_emit(k->p, k->ctx, 0, &r, true);
    return rc < 0 ? rc : 0;
}

/* ---- a record in tumbling and hopping windows */

static int add_to_slice(struct call *k, const char **why) {
    const aggregate *x = k->p->self;
    struct pane pane = {.start = 0};
    int64_t start, end, mark = pawl_input_watermark(k->ctx);
    *why = "its time is too near to the years 1677 or 2262";
    if (!window_slice(&x->w, k->time, &start, &end) || end > INT64_MAX - x->grace)
        return PAWL_PROCESSOR;
    if (end + x->grace <= mark) {
        k->late = true;
        return 0;
    }
    bool open = end > pawl_watermark(k->ctx);
    int there = get_pane(k, start, &pane, why);
    if (there < 0)
        return there;
    if (there == 0) {
        pane.end = x->w.kind == WINDOW_TUMBLING ? end : start + x->w.slice;
        int rc =
            set_timer(k, open ? end : end + x->grace, end, open ? TIMER_CLOSE : TIMER_DROP, why);
        if (rc < 0)
            return rc;
    }
    fold_add(&pane.f, &k->value);
    int rc = 0;
    if (x->emit == EMIT_UPDATE || !open) /* with grace, a closed window is emitted again */
        rc = emit_pane(k, &pane, false, why);
    return rc < 0 ? rc : put_pane(k, &pane, why);
}

/* ---- a record in a session */

/* ---- several pairs at once */

struct head {
    int64_t start;
    size_t len;
};

/* Reads pairs of the group into k->part->pairs: those that start before `to`; in descending order,
 * as long as they end after `after`, or are slices that start at it or later. Their number. */
static int gather(const struct call *k, int64_t to, int64_t after, const char **why) {
    const aggregate *x = k->p->self;
    pawl_state_range range = PAWL_STATE_RANGE_INIT;
    pawl_state_cursor *c;
    pawl_state_pair pair;
    struct buffer *b = &k->part->pairs;
    int n = 0, rc = state_key(k, to, why);
    if (rc < 0)
        return rc;
    range.to = range.prefix = k->part->key.bytes;
    range.to_len = k->part->key.len;
    range.prefix_len = range.to_len - 8;
    range.reverse = 1;
    b->len = 0;
    rc = pawl_state_scan(k->ctx, x->keep.table, &range, &c);
    if (rc < 0)
        return keeper_error(k->ctx, rc, why);
    for (; (rc = pawl_state_next(c, &pair)) == 1; n++) {
        struct head head = {get_time((const char *)pair.key + pair.key_len - 8), pair.value_len};
        int64_t ends = INT64_MAX;
        if (pair.value_len >= 8)
            memcpy(&ends, pair.value, 8);
        if (ends <= after)
            break;
        if (!buffer_add(b, &head, sizeof head) || !buffer_add(b, pair.value, pair.value_len)) {
            *why = "out of memory";
            rc = PAWL_MEMORY;
            break;
        }
    }
    pawl_state_close(c);
    if (rc < 0)
        return rc == PAWL_MEMORY ? rc : keeper_error(k->ctx, rc, why);
    return n;
}

/* The next of them, from *at on; it stays there. 1, or an error. */
static int next_pane(const struct call *k, size_t *at, struct pane *out) {
    const struct buffer *b = &k->part->pairs;
    struct head head;
    memcpy(&head, b->bytes + *at, sizeof head);
    out->start = head.start;
    int rc = read_pane(k, b->bytes + *at + sizeof head, head.len, out);
    *at += sizeof head + head.len;
    return rc;
}

/* ---- a record in a session */

static int add_to_session(struct call *k, const char **why) {
    const aggregate *x = k->p->self;
    struct pane all = {.start = k->time}, one;
    bool timed = false; /* a session that begins where the new one does has a timer */
    *why = "its time is too near to the years 1677 or 2262";
    if (!window_session(&x->w, k->time, &all.end))
        return PAWL_PROCESSOR;
    k->late = pawl_is_late(k->ctx) == 1;
    if (k->late)
        return 0;
    fold_init(&all.f, x->what);
    fold_add(&all.f, &k->value);
    int count = gather(k, all.end, k->time, why), rc = count;
    size_t at = 0;
    for (int i = 0; i < count && rc >= 0; i++) { /* two at most: they are a gap apart */
        rc = next_pane(k, &at, &one);
        if (rc < 0)
            break;
        fold_merge(&all.f, &one.f);
        all.start = one.start < all.start ? one.start : all.start;
        all.end = one.end > all.end ? one.end : all.end;
        rc = delete_pane(k, one.start, why);
        timed = one.start == all.start;
    }
    if (rc >= 0 && !timed)
        rc = set_timer(k, all.end, all.start, TIMER_CLOSE, why);
    return rc < 0 ? rc : put_pane(k, &all, why);
}

static int close_session(const struct call *k, int64_t at, int64_t start, const char **why) {
    struct pane pane = {.start = 0};
    int rc = get_pane(k, start, &pane, why);
    if (rc <= 0)
        return rc; /* it was merged into one that begins earlier */
    if (pane.end > at)
        return set_timer(k, pane.end, start, TIMER_CLOSE, why);
    rc = emit_pane(k, &pane, true, why);
    return rc < 0 ? rc : delete_pane(k, start, why);
}

/* ---- a window closes */

static int close_hopping(const struct call *k, int64_t end, const char **why) {
    const aggregate *x = k->p->self;
    struct pane all = {.start = end - x->w.size, .end = end}, one;
    int count = gather(k, end, all.start, why), rc = count;
    bool more = false;
    size_t at = 0;
    fold_init(&all.f, x->what);
    for (int i = 0; i < count && rc >= 0; i++) {
        if ((rc = next_pane(k, &at, &one)) < 0)
            break;
        fold_merge(&all.f, &one.f);
        bool stays = one.start >= all.start + x->w.step; /* the next window has it too */
        more |= stays;
        if (!stays)
            rc = delete_pane(k, one.start, why);
    }
    if (rc >= 0 && count > 0)
        rc = emit_pane(k, &all, true, why);
    return rc >= 0 && more ? set_timer(k, end + x->w.step, end + x->w.step, TIMER_CLOSE, why) : rc;
}

static int close_tumbling(const struct call *k, int64_t end, char what, const char **why) {
    const aggregate *x = k->p->self;
    struct pane pane = {.start = 0};
    bool final = what == TIMER_DROP || x->grace == 0;
    int rc = get_pane(k, end - x->w.size, &pane, why);
    if (rc <= 0)
        return rc;
    rc = emit_pane(k, &pane, final, why);
    if (rc < 0)
        return rc;
    if (final)
        return delete_pane(k, pane.start, why);
    rc = put_pane(k, &pane, why);
    return rc < 0 ? rc : set_timer(k, end + x->grace, end, TIMER_DROP, why);
}

static int on_timer(proc *p, pawl_context *ctx, const pawl_timer *timer) {
    const aggregate *x = p->self;
    const char *key = timer->key, *why = "a timer that it didn't set";
    int rc = PAWL_PROCESSOR;
    if (timer->key_len >= 9) {
        struct call k = {.p = p,
                         .ctx = ctx,
                         .part = &x->parts[pawl_context_partition(ctx)],
                         .group = key,
                         .group_len = timer->key_len - 9};
        int64_t of = get_time(key + k.group_len);
        rc = x->w.kind == WINDOW_SESSION   ? close_session(&k, timer->time_ns, of, &why)
             : x->w.kind == WINDOW_HOPPING ? close_hopping(&k, of, &why)
                                           : close_tumbling(&k, of, key[timer->key_len - 1], &why);
    }
    if (rc < 0)
        proc_tell(ctx, 0, rc, why);
    return rc < 0 ? PAWL_PROCESSOR : 0;
}

/* ---- records */

static int event_time(proc *p, pawl_context *ctx, const pawl_record *r, int64_t *time_ns) {
    const aggregate *x = p->self;
    const char *bytes, *why = "";
    size_t size;
    *time_ns = r->timestamp_ns;
    if (!x->has_time)
        return 0;
    int rc =
        selector_get(&x->time, r, &x->parts[pawl_context_partition(ctx)].of, &bytes, &size, &why);
    if (rc == 1 && time_parse(x->format, bytes, size, time_ns))
        return 0;
    if (rc >= 0) {
        why = rc == 0 ? "it has no event time where `time` says"
                      : "its event time is none of `time_format`, or too far from now";
        rc = PAWL_PROCESSOR;
    }
    proc_tell(ctx, 0, rc, why);
    return rc;
}

static int add_group(void *arg, const char *text, size_t size, const char **why) {
    struct call *k = arg;
    const aggregate *x = k->p->self;
    *why = "what it is grouped by is longer than 8,000 bytes";
    if (size > GROUP_MAX)
        return PAWL_TOO_LARGE;
    k->group = text;
    k->group_len = size;
    return x->w.kind == WINDOW_SESSION ? add_to_session(k, why) : add_to_slice(k, why);
}

/* The record's value, of which something is computed. */
static int take_value(struct call *k, const pawl_record *r, const char **why) {
    const aggregate *x = k->p->self;
    const char *bytes;
    size_t size;
    k->value = (struct fold_value){.at = {k->time, r->stream, r->offset}};
    if (!x->has_of)
        return 0;
    int rc = selector_get(&x->of, r, &k->part->of, &bytes, &size, why);
    if (rc <= 0)
        return rc;
    *why = "its value is longer than 64 KiB";
    if (size > 65536)
        return PAWL_TOO_LARGE;
    k->value.bytes = bytes;
    k->value.len = (uint32_t)size;
    *why = "its value is no number";
    return (x->what & FOLD_NUMBERS) == 0 || number_parse(&k->value.n, bytes, size) ? 0
                                                                                   : PAWL_PROCESSOR;
}

static int process(proc *p, pawl_context *ctx, const pawl_record *records, size_t count) {
    const aggregate *x = p->self;
    const char *why = "out of memory";
    int rc = 0;
    for (size_t i = 0; i < count && rc >= 0; i++) {
        struct call k = {.p = p,
                         .ctx = ctx,
                         .part = &x->parts[pawl_context_partition(ctx)],
                         .time = pawl_event_time(ctx)};
        rc = take_value(&k, &records[i], &why);
        if (rc >= 0)
            rc = grouping_each(&x->group, &records[i], &k.part->group, add_group, &k, &why);
        if (rc >= 0 && k.late && x->late >= 0)
            rc = proc_emit(p, ctx, (uint32_t)x->late, &records[i], false);
        if (rc < 0)
            proc_tell(ctx, i, rc, why);
    }
    return rc == PROC_TOLD ? PAWL_PROCESSOR : rc < 0 ? rc : 0;
}

static const proc_type type = {
    .flags = PAWL_PROCESSOR_KEEPS_TABLES,
    .make = make,
    .start = start,
    .process = process,
    .destroy = destroy,
    .timer = on_timer,
    .event_time = event_time,
};

static int make_processor(const pawl_settings *s, pawl_processor_ops *out, pawl_error *err) {
    int rc = proc_make(&connect_processor_aggregate, &type, s, out, err);
    if (rc == 0 && !((const aggregate *)((const proc *)out->self)->self)->group.by_key)
        out->flags |= PAWL_PROCESSOR_ONE_PARTITION;
    return rc;
}
