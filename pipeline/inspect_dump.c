/* SPDX-License-Identifier: Apache-2.0
 *
 * Frames in readable form.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "pipeline/inspect.h"

struct text {
    char data[8192];
    size_t len;
};

static void say(struct text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void say(struct text *t, const char *format, ...) {
    if (t->len >= sizeof t->data - 1)
        return;
    va_list ap;
    va_start(ap, format);
    int n = vsnprintf(t->data + t->len, sizeof t->data - t->len, format, ap);
    va_end(ap);
    t->len += n < 0 ? 0 : (size_t)n;
    if (t->len >= sizeof t->data)
        t->len = sizeof t->data - 1;
}

/* Names and other texts of the log, which strangers may have chosen. */
static void say_text(struct text *t, const char *s, uint32_t len) {
    t->len += pawl_show(s, len, NULL, t->data + t->len, sizeof t->data - t->len);
}

static void describe_origin(struct text *t, const struct origin_entry *e) {
    static const char *const units[] = {"bytes", "messages", "rows"};
    say(t, "    %s [%llu, %llu) of ", e->unit <= PAWL_OUTSIDE_ROWS ? units[e->unit] : "numbers",
        (unsigned long long)e->from, (unsigned long long)e->to);
    say_text(t, e->thing, e->thing_len);
    say(t, ", for stream %u by producer %u: %u records%s%s", e->stream, e->producer, e->records,
        (e->flags & PAWL_OUTSIDE_BEGINS) != 0 ? ", begins" : "",
        (e->flags & PAWL_OUTSIDE_SPARSE) != 0 ? ", sparse" : "");
    if (e->note_len != 0)
        say(t, ", %s",
            (e->flags & PAWL_OUTSIDE_PASSED) != 0      ? "passed over: "
            : (e->flags & PAWL_OUTSIDE_CONTINUES) != 0 ? "continues "
                                                       : "");
    say_text(t, e->note, e->note_len);
    say(t, "\n");
}

static void describe_change(struct text *t, const struct catalog_entry *e) {
    say(t, "    change %u id %u a %llu b %llu name ", e->op, e->id, (unsigned long long)e->a,
        (unsigned long long)e->b);
    say_text(t, e->name, e->name_len);
    say(t, "\n");
}

static void describe_decision(struct text *t, const struct sink_entry *e) {
    say(t, "    sink of processor %u: %s ", e->processor,
        e->op == SINK_DECIDED ? "decided" : "finished");
    say_text(t, e->name, e->name_len);
    say(t, "\n");
}

static void describe_table(struct text *t, const struct table_entry *e) {
    say(t, "    change %u id %u owner %u partitions %u version %u a %llu b %llu name ", e->op,
        e->id, e->owner, e->partitions, e->version, (unsigned long long)e->a,
        (unsigned long long)e->b);
    say_text(t, e->name, e->name_len);
    if (e->op == TABLE_RUN_ADDED)
        say(t, " header %016llx", (unsigned long long)e->ttl_ms);
    say(t, "\n");
}

/* What a table's partition holds after the commit. Keys and values are not shown. */
static void describe_state(struct text *t, const struct run *r, const uint8_t *data) {
    struct state_sum s;
    uint32_t at = 0;
    if (state_sum_decode(data, r->len, &at, &s))
        say(t, "    commit %llu of the partition: %llu pairs, %llu bytes, digest %016llx%016llx\n",
            (unsigned long long)r->base, (unsigned long long)s.pairs, (unsigned long long)s.bytes,
            (unsigned long long)s.high, (unsigned long long)s.low);
}

static void describe_entries(struct text *t, const struct run *r, const uint8_t *data) {
    uint32_t at = 0;
    for (uint32_t i = 0; i < r->count && i < 16; i++) {
        struct position_entry pos;
        struct producer_entry prod;
        struct catalog_entry cat;
        struct sink_entry sink;
        struct origin_entry from;
        struct table_entry table;
        if (r->type == RUN_POSITIONS && position_decode(data, r->len, &at, &pos))
            say(t, "    processor %u stream %u/%u consumed [%llu, %llu)\n", pos.processor,
                pos.stream, pos.partition, (unsigned long long)pos.from,
                (unsigned long long)pos.to);
        else if (r->type == RUN_PRODUCERS && producer_decode(data, r->len, &at, &prod))
            say(t, "    producer %u epoch %u sequence %llu to %llu\n", prod.producer, prod.epoch,
                (unsigned long long)prod.first, (unsigned long long)prod.last);
        else if (r->type == RUN_CATALOG && catalog_decode(data, r->len, &at, &cat))
            describe_change(t, &cat);
        else if (r->type == RUN_SINKS && sink_decode(data, r->len, &at, &sink))
            describe_decision(t, &sink);
        else if (r->type == RUN_ORIGINS && origin_decode(data, r->len, &at, &from))
            describe_origin(t, &from);
        else if (r->type == RUN_TABLES && table_decode(data, r->len, &at, &table))
            describe_table(t, &table);
        else
            return;
    }
}

static void describe(struct text *t, const struct frame_header *h, const uint8_t *frame) {
    struct format_unknown u = {0};
    frame_judge_features(h, frame, &u);
    if (!frame_kind_known(h->kind))
        say(t, "  kind %u\n", h->kind);
    if (h->flags != 0)
        say(t, "  flags 0x%x\n", h->flags);
    if (u.need != NEED_NOTHING)
        say(t, "  %s 0x%llx must be understood to %s\n", u.what, (unsigned long long)u.value,
            u.need == NEED_TO_READ ? "read the log" : "write to the log");
    for (uint32_t i = 0; i < h->runs; i++) {
        struct run r;
        const uint8_t *data;
        frame_run(frame, h, i, &r, &data);
        say(t, "  %s", run_type_name(r.type));
        if (!run_type_known(r.type))
            say(t, " type 0x%x", r.type);
        if (r.flags != 0)
            say(t, " flags 0x%x", r.flags);
        if (run_has_records(&r) || r.type == RUN_STATE)
            say(t, " %s %u/%u", r.type == RUN_STATE ? "table" : "stream", r.stream, r.partition);
        if (r.base != NO_OFFSET && run_has_records(&r))
            say(t, " offsets [%llu, %llu)", (unsigned long long)r.base,
                (unsigned long long)(r.base + r.count));
        say(t, " count %u, %u bytes\n", r.count, r.len);
        if (r.type == RUN_STATE)
            describe_state(t, &r, data);
        describe_entries(t, &r, data);
    }
}

/* Hashes under the log's key are never shown: they tell of it. */
static int show(struct text *t, const struct frame_key *key, const struct frame_header *h,
                const uint8_t *frame, const char *state, pawl_frame_fn fn, void *arg) {
    t->len = 0;
    t->data[0] = 0;
    if (frame != NULL)
        describe(t, h, frame);
    pawl_frame_info info = {.lsn = h->lsn,
                            .bytes = frame != NULL ? frame_length(h) : 0,
                            .epoch = h->epoch,
                            .durable = h->durable,
                            .time_ns = h->time_ns,
                            .link = frame_fingerprint(h->link, key),
                            .hash = frame_fingerprint(h->hash, key),
                            .kind = frame != NULL ? frame_kind_name(h->kind) : "-",
                            .state = state,
                            .runs = h->runs,
                            .text = t->data};
    return fn(arg, &info);
}

static int dump_segment(struct scan *s, uint64_t from, pawl_frame_fn fn, void *arg, struct text *t,
                        bool *over) {
    struct scan_frame f;
    int rc;
    while ((rc = scan_next(s, &f)) == 1)
        if (f.header.lsn >= from && show(t, &s->key, &f.header, f.data, "good", fn, arg) != 0) {
            *over = true;
            return 0;
        }
    if (rc < 0 || scan_sealed(s))
        return rc;
    struct scan_end end;
    TRY(scan_judge(s, &end));
    rc =
        end.decision != NULL && end.decision->action == DAMAGE ? segment_there(s->io, s->index) : 1;
    if (rc <= 0)
        return rc; /* a live writer's retention has dropped it: continue with the next segment */
    struct frame_header none = {.lsn = end.lsn};
    *over = true;
    show(t, &s->key, &none, NULL, end.decision != NULL ? end.decision->label : "sealed", fn, arg);
    return end.decision != NULL && end.decision->action == DAMAGE ? damage_error(s, &end) : 0;
}

static int dump(struct seam *io, struct mem *m, uint64_t from, pawl_frame_fn fn, void *arg) {
    struct log_extent x;
    TRY(log_extent_find(io, m, false, &x));
    struct text *t = mem_alloc(m, sizeof *t);
    if (t == NULL)
        return fail(PAWL_MEMORY, "no memory to dump");
    uint64_t n = from / x.newest.segment_size;
    if (n < x.first)
        n = x.first;
    int rc = n > x.last ? fail(PAWL_RANGE, "LSN %llu is beyond the end of the log",
                               (unsigned long long)from)
                        : 0;
    bool over = false;
    for (; n <= x.last && rc == 0 && !over; n++) {
        struct segment_header h;
        int file = segment_open(io, m, n, &x.newest, false, &h);
        if (file < 0 && segment_there(io, n) == 0)
            continue;
        if (file < 0) {
            rc = file;
            break;
        }
        struct scan s;
        scan_begin(&s, io, m, file, &h, n == x.last);
        s.refuses = NEED_NEVER; /* chain and lengths have the same meaning whatever the flags are */
        rc = dump_segment(&s, from, fn, arg, t, &over);
        scan_end(&s);
        io->ops->close(io, file);
    }
    mem_free(m, t, sizeof *t);
    return rc;
}

int pawl_dump(const char *dir, uint64_t from, pawl_frame_fn fn, void *arg, pawl_error *err) {
    int saved = errno;
    struct mem mem;
    struct seam *io = NULL;
    mem_init(&mem, CHECK_MEMORY);
    fail_clear();
    int rc;
    if (dir == NULL || fn == NULL)
        rc = fail(PAWL_INVALID, "directory or callback is NULL");
    else if ((rc = seam_create(dir, false, PAWL_BACKEND_POSIX, PAWL_DIRECT_AUTO, &io)) < 0)
        rc = open_error(rc, dir, false);
    else
        rc = dump(io, &mem, from, fn, arg);
    if (io != NULL)
        io->ops->destroy(io);
    if (err != NULL)
        fail_copy(err);
    errno = saved;
    return rc;
}
