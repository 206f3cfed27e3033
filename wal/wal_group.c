/* SPDX-License-Identifier: Apache-2.0
 *
 * Groups to the device. Each is written and made durable on its own, several at once; the durable
 * LSN moves over the longest finished prefix. A short or failed part is completed here, followed by
 * a fresh sync: a sync that ran before the last byte was there proves nothing.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>

#include "wal/wal.h"

#define TRIES_MAX 1000

int wal_error(const struct wal *w) {
    return fail_again(&w->error);
}

int wal_fail(struct wal *w, int sys_errno, const char *call, uint64_t lsn) {
    if (w->failed != 0)
        return wal_error(w);
    char name[24];
    segment_name(name, lsn / w->segment_size, "seg");
    const char *text = strerrordesc_np(sys_errno);
    w->failed = fail_at(PAWL_IO, sys_errno, call, name, lsn,
                        "%s of %s at LSN %llu failed: %s. Nothing more is acknowledged; close and "
                        "open the log again to recover",
                        call, name, (unsigned long long)lsn, text != NULL ? text : "unknown error");
    fail_copy(&w->error);
    return w->failed;
}

static void submit(struct wal *w, struct group *g) {
    assert(g->lsn >= w->durable); /* PAWL-5: durable bytes are not written again */
    struct seam_req *r = &g->req;
    memset(r, 0, sizeof *r);
    r->owner = g;
    r->file = w->file;
    r->buffer = g->buffer;
    if (g->state == GROUP_SYNCING) {
        assert(g->done == g->len); /* PAWL-1: a sync before the last byte proves nothing */
        r->op = SEAM_SYNC;
        w->syncs++;
    } else {
        assert(g->done < g->len);
        uint32_t from = g->done / BLOCK * BLOCK; /* O_DIRECT needs whole blocks again */
        r->op = SEAM_WRITE;
        r->flags = w->dsync ? SEAM_DSYNC : 0;
        r->data = g->data + from;
        r->len = g->len - from;
        r->offset = g->lsn % w->segment_size + from;
        g->done = from;
        w->syncs += w->dsync;
    }
    w->io->ops->submit(w->io, r);
}

static bool goes(const struct wal *w, const struct group *g) {
    struct pace_group pg = {.in_flight = w->in_flight,
                            .in_flight_max = w->in_flight_max,
                            .frames = w->frames - g->first_frame,
                            .len = g->len,
                            .buffer_size = w->group_size};
    return pace_group_goes(&w->pace, &pg);
}

void wal_submit(struct wal *w, bool force) {
    struct group *g = w->gathering;
    if (w->failed != 0 || g == NULL || (!force && !goes(w, g)))
        return;
    if (w->fresh)
        w->last_fresh_ns = w->io->ops->now(w->io);
    w->fresh = false;
    assert(g->state == GROUP_GATHERING && g->lsn + g->len == w->tail);
    assert(w->flight_tail == NULL || w->flight_tail->lsn + w->flight_tail->len == g->lsn);
    uint32_t whole = (uint32_t)align_up(g->len, BLOCK);
    assert(whole <= g->cap);
    memset(g->data + g->len, 0, whole - g->len);
    w->tail += whole - g->len;
    g->len = whole;
    g->state = GROUP_WRITING;
    g->next = NULL;
    if (w->flight_tail != NULL)
        w->flight_tail->next = g;
    else
        w->flight_head = g;
    w->flight_tail = g;
    if (!g->own) { /* less than half a buffer isn't worth keeping for the next group */
        uint32_t end = (uint32_t)(g->data - w->buffers[g->buffer]) + whole;
        w->rest = w->group_size - end >= w->group_size / 2 ? g->buffer : -1;
        w->rest_at = end;
    }
    w->gathering = NULL;
    w->in_flight++;
    w->groups_written++;
    pace_group_went(&w->pace, whole, w->in_flight);
    w->bytes_written += whole;
    g->need_sync = !w->dsync;
    g->frames_then = w->frames;
    submit(w, g);
    w->kick_due = true;
    point(&w->hooks.points, "group-submitted");
}

/* Is g the continuation of `before`, in memory and in the log? */
static bool continues(const struct group *g, const struct group *before) {
    return before != NULL && before->state == GROUP_IDLE && before->lsn + before->len == g->lsn &&
           before->buffer == g->buffer && before->data + before->len == g->data;
}

/* Groups leave in the log's order, so the one that left last is the one before g. Readers see both
 * as one run of bytes. */
static void leave_flight(struct wal *w, struct group *g) {
    assert(g->state == GROUP_DONE && g != w->gathering);
    g->state = GROUP_IDLE;
    if (g->own) {
        mem_free(w->mem, g->data, g->cap);
        g->own = false;
        g->state = GROUP_FREE;
    } else if (g->pins == 0 && continues(g, w->left_last)) {
        w->left_last->len += g->len;
        g->state = GROUP_FREE;
        return;
    }
    w->left_last = g;
}

/* Does it follow the end of the segment before? */
static bool begins_segment(const struct wal *w, const struct group *g) {
    return g->lsn > w->durable && g->lsn == wal_base(w);
}

static void advance_durable(struct wal *w) {
    uint64_t before = w->durable;
    while (w->flight_head != NULL && w->flight_head->state == GROUP_DONE) {
        struct group *g = w->flight_head;
        w->flight_head = g->next;
        if (w->flight_head == NULL)
            w->flight_tail = NULL;
        if (w->failed == 0) {
            assert(g->done == g->len);                            /* PAWL-1: it is whole */
            assert(g->lsn == w->durable || begins_segment(w, g)); /* and nothing is left out */
            w->durable = g->lsn + g->len;
        }
        assert(w->in_flight != 0);
        w->in_flight--;
        w->done_mask |= 1u << g->number % 32;
        leave_flight(w, g);
    }
    assert(w->durable <= w->tail); /* PAWL-1 */
    if (w->durable != before)
        point(&w->hooks.points, "durable-advanced");
}

/* What a write's answer means for its group. */
static void wrote(struct wal *w, struct group *g, int64_t n) {
    if (n == -EOPNOTSUPP && w->dsync && g->done == 0) {
        w->dsync = false; /* this file system has no RWF_DSYNC: sync after each write from now on */
        g->need_sync = true;
        submit(w, g);
        return;
    }
    if (n == -EAGAIN || n == -EINTR || n == -ECANCELED || n == 0) {
        if (++g->tries > TRIES_MAX) {
            wal_fail(w, n == 0 ? EIO : (int)-n, "write", g->lsn + g->done);
            g->state = GROUP_DONE;
            return;
        }
        g->need_sync = true;
        submit(w, g);
        return;
    }
    if (n < 0) {
        wal_fail(w, (int)-n, "write", g->lsn + g->done);
        g->state = GROUP_DONE;
        return;
    }
    assert((uint64_t)n <= g->req.len); /* no backend writes more than it was asked to */
    g->done += (uint32_t)n;
    if (g->done < g->len) {
        g->tries++;
        g->need_sync = true; /* the part that was written was synced before the rest existed */
        if (g->tries > TRIES_MAX) {
            wal_fail(w, EIO, "write", g->lsn + g->done);
            g->state = GROUP_DONE;
            return;
        }
        submit(w, g);
    } else if (g->need_sync) {
        g->state = GROUP_SYNCING;
        submit(w, g);
    } else {
        g->state = GROUP_DONE;
    }
}

void wal_complete(struct wal *w, struct seam_req *r) {
    struct group *g = r->owner;
    assert(g->state == GROUP_WRITING || g->state == GROUP_SYNCING);
    if (g->state == GROUP_SYNCING) {
        int64_t n = r->result;
        if ((n == -EAGAIN || n == -EINTR || n == -ECANCELED) && ++g->tries <= TRIES_MAX) {
            submit(w, g); /* it never ran: not a failed sync */
        } else {
            if (n < 0)
                wal_fail(w, (int)-n, "fdatasync", g->lsn);
            g->state = GROUP_DONE;
        }
    } else {
        wrote(w, g, r->result);
    }
    if (g->state != GROUP_DONE) {
        w->kick_due = true;
    } else if (w->failed == 0) {
        pace_group_done(&w->pace, w->frames - g->frames_then);
        point(&w->hooks.points, "group-completed");
    }
    advance_durable(w);
    wal_step(w);
}

bool wal_quiet(const struct wal *w) {
    return w->in_flight == 0 && w->gathering == NULL && w->state == WAL_RUNNING;
}

static bool holds(const struct group *g, uint64_t lsn) {
    return g->state != GROUP_FREE && lsn >= g->lsn && lsn - g->lsn < g->len;
}

/* Readers mostly go on where they were. */
static struct group *holder(struct wal *w, uint64_t lsn) {
    if (holds(&w->groups[w->found], lsn))
        return &w->groups[w->found];
    for (uint32_t i = 0; i < WAL_GROUPS_MAX; i++)
        if (holds(&w->groups[i], lsn)) {
            w->found = i;
            return &w->groups[i];
        }
    return NULL;
}

const uint8_t *wal_peek(struct wal *w, uint64_t lsn, uint64_t *avail) {
    const struct group *g = holder(w, lsn);
    if (g == NULL)
        return NULL;
    assert(g->lsn + g->len <= w->tail); /* PAWL-2: nothing after the tail is shown */
    assert(g != w->gathering || g->lsn >= w->durable);
    *avail = g->lsn + g->len - lsn;
    return g->data + (lsn - g->lsn);
}

int wal_pin(struct wal *w, uint64_t lsn) {
    struct group *g = holder(w, lsn);
    if (g == NULL || g->own || (g->pins == 0 && w->pinned >= WAL_PINNED_MAX))
        return -1;
    w->pinned += g->pins++ == 0;
    assert(w->pinned <= WAL_PINNED_MAX); /* the writer has the other buffers */
    return (int)(g - w->groups);
}

void wal_unpin(struct wal *w, int group) {
    assert(group >= 0 && group < WAL_GROUPS_MAX);
    struct group *g = &w->groups[group];
    assert(g->pins > 0 && w->pinned > 0);
    assert(g->state != GROUP_FREE && !g->own); /* PAWL-2: its bytes stayed what they were */
    w->pinned -= --g->pins == 0;
}

bool wal_lend(struct wal *w, struct wal_loan *loan) {
    if (w->loan_count == 0)
        return false;
    *loan = w->loans[--w->loan_count];
    assert(w->for_loans[loan->number] && w->buffers[loan->number] == loan->data);
    return true;
}

void wal_give_back(struct wal *w, struct wal_loan *loan) {
    assert(w->loan_count < WAL_LOANS);
    assert(w->for_loans[loan->number] && w->buffers[loan->number] == loan->data);
    w->loans[w->loan_count++] = *loan;
    *loan = (struct wal_loan){NULL, -1};
}

static int make_buffers(struct wal *w, uint64_t bytes) {
    enum { COUNT = WAL_BUFFERS + WAL_LOANS };
    uint64_t size = bytes / COUNT / BLOCK * BLOCK;
    if (size > MIB)
        size = MIB;
    if (size < 16 * 1024)
        size = 16 * 1024;
    w->group_size = (uint32_t)size;
    w->rest = -1;
    for (int i = 0; i < COUNT; i++) {
        w->buffers[i] = mem_alloc_block(w->mem, (size_t)size);
        if (w->buffers[i] == NULL)
            return fail(PAWL_MEMORY, "no memory for write buffers of %llu bytes",
                        (unsigned long long)bytes);
    }
    for (int i = WAL_BUFFERS; i < COUNT; i++) {
        w->for_loans[i] = true;
        w->loans[w->loan_count++] = (struct wal_loan){w->buffers[i], i};
    }
    w->in_flight_max = WAL_IN_FLIGHT;
    w->io->ops->buffers(w->io, (void *const *)w->buffers, (size_t)size, COUNT);
    /* Touches every page before it is needed. With registered buffers, page faults took a third of
     * the time. */
    for (int i = 0; i < 8; i++)
        memset(w->buffers[i], 0, (size_t)size);
    return 0;
}

/* The first frame of this incarnation: OPEN, or the checkpoint if the segment has only its header.
 */
static int append_first(struct wal *w) {
    struct bytes body;
    struct run runs[16];
    uint32_t count = 0;
    struct c_ids ids;
    bool begins = w->tail - wal_base(w) == SEGMENT_HEADER_SIZE;
    bytes_init(&body, w->mem);
    int rc = begins ? w->hooks.checkpoint(w->hooks.ctx, &body, runs, &count, &ids) : 0;
    uint32_t start = (uint32_t)body.len;
    uint8_t *stamp = bytes_add(&body, AGE_STAMP_SIZE);
    if (stamp != NULL)
        wal_stamp(w, stamp, &runs[count++], start);
    if (rc == 0 && body.failed)
        rc = fail(PAWL_MEMORY, "no memory for the first frame");
    struct wal_frame f = {.kind = begins ? FRAME_CHECKPOINT : FRAME_OPEN,
                          .class = WAL_POSITIONS,
                          .runs = runs,
                          .run_count = count,
                          .pieces = &(struct piece){body.data, body.len},
                          .piece_count = 1,
                          .body_len = (uint32_t)body.len,
                          .time_ns = w->io->ops->realtime(w->io)};
    uint64_t lsn, end;
    if (rc == 0)
        rc = wal_append(w, &f, &lsn, &end);
    bytes_free(&body);
    return rc;
}

/* The key of the active segment, and random bytes for those to come. */
static int take_keys(struct wal *w, const struct wal_start *start) {
    struct segment_header h = {.features = start->features};
    memcpy(h.log_id, start->log_id, 16);
    (void)segment_key(&h, KEY_OWN, &w->keys[0].key);
    assert(start->turns_due <= WAL_TURNS_MAX);
    w->turns_due = start->turns_due;
    w->turns = !w->keys[0].key.keyed ? WAL_TURNS_MAX : w->turns_due;
    int rc = w->turns != 0 ? w->io->ops->random(w->io, w->unused, sizeof w->unused) : 0;
    return rc < 0 ? fail_sys(rc, "getrandom", NULL, NO_LSN) : 0;
}

int wal_init(struct wal *w, struct seam *io, struct mem *m, const struct wal_hooks *hooks,
             const struct wal_start *start, uint64_t buffer_bytes) {
    memset(w, 0, sizeof *w);
    w->io = io;
    w->mem = m;
    w->hooks = *hooks;
    memcpy(w->log_id, start->log_id, 16);
    w->segment_size = start->segment_size;
    w->disk_cap = w->disk_cap_said = start->disk_cap;
    w->features = start->features;
    w->ids = start->ids;
    w->age = start->age;
    w->stamped_age_ns = start->age.age_ns;
    w->counts = start->counts;
    w->epoch = start->epoch + 1;
    w->segment = start->segment;
    w->first_segment = start->first_segment;
    w->file = start->file;
    w->tail = align_up(start->tail, BLOCK);
    w->durable = w->tail;
    /* PAWL-8: it goes on where recovery ended, after everything that is there */
    assert(w->first_segment <= w->segment && start->tail > wal_base(w));
    assert(w->tail <= wal_base(w) + w->segment_size);
    w->link = w->last.hash = start->link;
    w->seal_lsn = start->seal_lsn;
    w->next_file = start->next_file;
    w->next_written = start->next_written;
    w->spare_file = start->spare_file;
    w->next = start->next_file >= 0 ? NEXT_READY : NEXT_NONE;
    w->dsync = true;
    w->needs_open = true;
    bytes_init(&w->scratch, m);
    TRY(take_keys(w, start));
    TRY(make_buffers(w, buffer_bytes));
    if (start->sealed) {
        w->state = WAL_SEALING; /* the next segment's header will be this incarnation's record */
        return 0;
    }
    w->needs_open = false;
    if (w->tail - wal_base(w) + BLOCK <= wal_usable_end(w->segment_size))
        return append_first(w);
    w->needs_open = true; /* no room: the next segment's header will be the record */
    return 0;
}

void wal_free(struct wal *w) {
    for (int i = 0; i < WAL_GROUPS_MAX; i++)
        if (w->groups[i].own)
            mem_free(w->mem, w->groups[i].data, w->groups[i].cap);
    for (int i = 0; i < WAL_BUFFERS + WAL_LOANS; i++)
        mem_free(w->mem, w->buffers[i], w->group_size);
    memset(w->buffers, 0, sizeof w->buffers);
    bytes_free(&w->scratch);
    if (w->file >= 0)
        w->io->ops->close(w->io, w->file);
    if (w->next_file >= 0)
        w->io->ops->close(w->io, w->next_file);
    if (w->spare_file >= 0)
        w->io->ops->close(w->io, w->spare_file);
    memset(w->groups, 0, sizeof w->groups);
    w->file = w->next_file = w->spare_file = -1;
}
