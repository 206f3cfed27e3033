/* SPDX-License-Identifier: Apache-2.0
 *
 * Frames in readable form, and the origin of a record.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "pipeline/engine.h"

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

static void describe_entries(struct text *t, const struct run *r, const uint8_t *data) {
    uint32_t at = 0;
    for (uint32_t i = 0; i < r->count && i < 16; i++) {
        struct position_entry pos;
        struct producer_entry prod;
        struct catalog_entry cat;
        struct sink_entry sink;
        if (r->type == RUN_POSITIONS && position_decode(data, r->len, &at, &pos))
            say(t, "    processor %u stream %u/%u consumed [%llu, %llu)\n", pos.processor,
                pos.stream, pos.partition, (unsigned long long)pos.from,
                (unsigned long long)pos.to);
        else if (r->type == RUN_PRODUCERS && producer_decode(data, r->len, &at, &prod))
            say(t, "    producer %u epoch %u sequence %llu to %llu\n", prod.producer, prod.epoch,
                (unsigned long long)prod.first, (unsigned long long)prod.last);
        else if (r->type == RUN_CATALOG && catalog_decode(data, r->len, &at, &cat))
            say(t, "    change %u id %u a %llu b %llu name %.*s\n", cat.op, cat.id,
                (unsigned long long)cat.a, (unsigned long long)cat.b, (int)cat.name_len, cat.name);
        else if (r->type == RUN_SINKS && sink_decode(data, r->len, &at, &sink))
            say(t, "    sink of processor %u: %s %.*s\n", sink.processor,
                sink.op == SINK_DECIDED ? "decided" : "finished", (int)sink.name_len, sink.name);
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
        if (r.type == RUN_RECORDS || r.type == RUN_SPILLED || r.type == RUN_STATE)
            say(t, " stream %u/%u", r.stream, r.partition);
        if (r.base != NO_OFFSET && (r.type == RUN_RECORDS || r.type == RUN_SPILLED))
            say(t, " offsets [%llu, %llu)", (unsigned long long)r.base,
                (unsigned long long)(r.base + r.count));
        say(t, " count %u, %u bytes\n", r.count, r.len);
        describe_entries(t, &r, data);
    }
}

static int show(struct text *t, const struct frame_header *h, const uint8_t *frame,
                const char *state, pawl_frame_fn fn, void *arg) {
    t->len = 0;
    t->data[0] = 0;
    if (frame != NULL)
        describe(t, h, frame);
    pawl_frame_info info = {h->lsn,     frame != NULL ? frame_length(h) : 0,
                            h->epoch,   h->durable,
                            h->time_ns, h->link,
                            h->hash,    frame != NULL ? frame_kind_name(h->kind) : "-",
                            state,      h->runs,
                            t->data};
    return fn(arg, &info);
}

static int dump_segment(struct scan *s, uint64_t from, pawl_frame_fn fn, void *arg, struct text *t,
                        bool *over) {
    struct scan_frame f;
    int rc;
    while ((rc = scan_next(s, &f)) == 1)
        if (f.header.lsn >= from && show(t, &f.header, f.data, "good", fn, arg) != 0) {
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
    show(t, &none, NULL, end.decision != NULL ? end.decision->label : "sealed", fn, arg);
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
    mem_init(&mem, 0);
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

static void name_of_stream(const struct tables *t, uint32_t id, char out[128]) {
    const struct stream *s = tables_stream(t, id);
    snprintf(out, 128, "%s", s != NULL ? s->name : "?");
}

static void fill_origin(const struct tables *t, const struct frame_header *h, const uint8_t *frame,
                        pawl_origin *out) {
    memset(out, 0, sizeof *out);
    out->lsn = h->lsn;
    out->time_ns = h->time_ns;
    out->epoch = h->epoch;
    for (uint32_t i = 0; i < h->runs; i++) {
        struct run r;
        const uint8_t *data;
        frame_run(frame, h, i, &r, &data);
        struct position_entry e;
        struct producer_entry p;
        uint32_t at = 0;
        while (r.type == RUN_POSITIONS && position_decode(data, r.len, &at, &e)) {
            if (out->input_count < 64) {
                char *name = out->inputs[out->input_count].processor;
                snprintf(name, 128, "%s",
                         tables_has_processor(t, e.processor) ? t->processors[e.processor - 1].name
                                                              : "?");
                name_of_stream(t, e.stream, out->inputs[out->input_count].stream);
                out->inputs[out->input_count].partition = e.partition;
                out->inputs[out->input_count].from = e.from;
                out->inputs[out->input_count].to = e.to;
            }
            out->input_count++;
        }
        if (r.type == RUN_PRODUCERS && producer_decode(data, r.len, &at, &p)) {
            const struct producer *row = tables_producer(t, p.producer);
            snprintf(out->producer, sizeof out->producer, "%s", row != NULL ? row->name : "?");
            out->sequence_first = p.first;
            out->sequence_last = p.last;
        }
    }
}

int pawl_explain(pawl *p, uint32_t stream, uint32_t partition, uint64_t offset, pawl_origin *out) {
    pawl_reader *r;
    pawl_batch b;
    if (out == NULL)
        return fail(PAWL_INVALID, "result pointer is NULL");
    TRY(pawl_reader_open(p, stream, partition, offset, PAWL_READ_COMMITTED, &r));
    int rc = pawl_read(r, 1, 0, &b);
    uint64_t lsn = rc == 1 ? b.records[0].lsn : 0;
    pawl_reader_close(r);
    if (rc < 0)
        return rc;
    if (rc == 0)
        return fail(PAWL_RANGE, "there is no record at offset %llu yet",
                    (unsigned long long)offset);
    struct segment_header h;
    struct scan s;
    struct scan_frame f = {0};
    int file = segment_open(p->io, &p->mem, lsn / p->header.segment_size, &p->header, false, &h);
    if (file < 0)
        return file;
    scan_begin(&s, p->io, &p->mem, file, &h, true);
    rc = scan_jump(&s, lsn);
    if (rc == 0)
        rc = scan_next(&s, &f);
    if (rc == 1) {
        pthread_mutex_lock(&p->mutex); /* for the names */
        fill_origin(&p->tables, &f.header, f.data, out);
        engine_leave(p);
    } else if (rc == 0 && (rc = segment_there(p->io, lsn / p->header.segment_size)) >= 0) {
        rc = rc > 0 ? fail(PAWL_DAMAGED, "the frame at LSN %llu can't be read again",
                           (unsigned long long)lsn)
                    : fail(PAWL_TRIMMED, "the segment being read has been dropped by retention");
    }
    scan_end(&s);
    p->io->ops->close(p->io, file);
    return rc < 0 ? rc : 0;
}
