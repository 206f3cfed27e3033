/* SPDX-License-Identifier: Apache-2.0
 *
 * The log callback (pawl_options.log): compares the log's state with the state reported last. So
 * nothing is queued, and a burst of changes is reported once. The maintenance thread, pawl_open(),
 * pawl_tick() and pawl_close() call it, never under the lock.
 */
#include <stdio.h>

#include "pipeline/engine.h"
#include "wal/show.h"

void notice_full(pawl *p) {
    p->notice.refused = true;
    p->notice.refused_first = p->wal.first_segment;
    if (notice_due(p))
        engine_ask_chores(p);
}

static bool is_full(const pawl *p) {
    return p->notice.refused && p->notice.refused_first == p->wal.first_segment &&
           p->wal.next != NEXT_READY;
}

bool notice_due(pawl *p) {
    const struct notice *n = &p->notice;
    return n->fn != NULL && !n->telling &&
           (n->failed != (p->wal.failed != 0) || n->first_segment != p->wal.first_segment ||
            p->wal.clock_set_ns != 0 || (!p->wal.failed && n->full != is_full(p)));
}

static void tell(const pawl *p, int severity, const char *text) {
    char shown[512]; /* names of the log, and what the kernel said of its files */
    pawl_show(text, strlen(text), NULL, shown, sizeof shown);
    p->notice.fn(p->notice.arg, severity, shown);
}

/* Writes one change as a sentence to `text`; returns its severity, or 0 if there is none. */
static int next_change(pawl *p, char *text, size_t size) {
    struct notice *n = &p->notice;
    const struct wal *w = &p->wal;
    if (n->first_segment != w->first_segment) {
        snprintf(text, size, "retention has dropped segments %llu to %llu",
                 (unsigned long long)n->first_segment, (unsigned long long)w->first_segment - 1);
        n->first_segment = w->first_segment;
        return PAWL_LOG_REMARK;
    }
    if (w->clock_set_ns != 0) {
        int64_t s = w->clock_set_ns / 1000000000;
        snprintf(text, size,
                 "the clock was set %lld seconds %s; ages are counted by the time that has passed, "
                 "so retention neither drops nor keeps a record because of it",
                 (long long)(s < 0 ? -s : s), s < 0 ? "back" : "ahead");
        p->wal.clock_set_ns = 0;
        return PAWL_LOG_WARNING;
    }
    if (!n->failed && w->failed != 0) {
        n->failed = true;
        snprintf(text, size, "the log acknowledges nothing more: %s", w->error.message);
        return PAWL_LOG_ERROR;
    }
    if (w->failed == 0 && n->full != is_full(p)) {
        n->full = !n->full;
        snprintf(text, size, "%s",
                 n->full ? "the log is full: appends are refused until space is freed"
                         : "the log has space again");
        return n->full ? PAWL_LOG_WARNING : PAWL_LOG_REMARK;
    }
    return 0;
}

void notice_tell(pawl *p) {
    char text[512];
    int severity;
    while (notice_due(p) && (severity = next_change(p, text, sizeof text)) != 0) {
        p->notice.telling = true;
        engine_leave(p);
        tell(p, severity, text);
        pthread_mutex_lock(&p->mutex);
        p->notice.telling = false;
    }
}

/* Records that went by on_error. A stranger may cause any number of them: the thread that runs the
 * processor reports the first at once, and then their number every REFUSED_SAY_NS at most. */
void notice_refused(pawl *p, const char *name, uint64_t count, const char *what, const char *why) {
    char text[512];
    if (p->notice.fn == NULL)
        return;
    snprintf(text, sizeof text, "processor %s: %llu record%s %s (on_error): %s", name,
             (unsigned long long)count, count == 1 ? "" : "s", what, why);
    tell(p, PAWL_LOG_WARNING, text);
}

void notice_later(pawl *p, const char *name, const char *why) {
    char text[512];
    if (p->notice.fn == NULL)
        return;
    snprintf(text, sizeof text, "processor %s waits, and tries again: %s", name, why);
    tell(p, PAWL_LOG_WARNING, text);
}

/* Programs that use the names would create them anew. */
static void tell_lost_names(pawl *p) {
    const struct tables *t = &p->tables;
    const char *name = NULL;
    uint32_t n = 0;
    char text[400];
    for (uint32_t i = 0; i < t->stream_count; i++)
        if (name_lost(t->streams[i]->name) && n++ == 0)
            name = t->streams[i]->name;
    for (uint32_t i = 0; i < t->producer_count; i++)
        if (name_lost(t->producers[i]->name) && n++ == 0)
            name = t->producers[i]->name;
    for (uint32_t i = 0; i < t->processor_count; i++)
        if (name_lost(t->processors[i]->name) && n++ == 0)
            name = t->processors[i]->name;
    if (n == 0)
        return;
    snprintf(
        text, sizeof text,
        "%u stream%s lost to damage (%s): 'pawl rename' gives a name back, before anything "
        "creates it anew",
        n, n == 1 ? ", producer or processor has a name" : "s, producers and processors have names",
        name);
    tell(p, PAWL_LOG_WARNING, text);
}

void notice_opened(pawl *p, const pawl_options *o) {
    char text[256];
    p->notice.first_segment = p->wal.first_segment;
    if (p->notice.fn == NULL)
        return;
    if (o->backend == PAWL_BACKEND_AUTO && p->io->backend != PAWL_BACKEND_URING) {
        snprintf(text, sizeof text, "io_uring is not used: %s", p->io->note);
        tell(p, PAWL_LOG_WARNING, text);
    }
    if (o->direct == PAWL_DIRECT_AUTO && !p->io->direct)
        tell(p, PAWL_LOG_WARNING, "the file system has no O_DIRECT: writes are buffered");
    if (p->tables.retain_ms != 0 && (p->age_case == AGE_UNSURE || p->age_case == AGE_BOOT_BEHIND))
        tell(p, PAWL_LOG_REMARK,
             "retention by age doesn't count the time since the log was last open: the machine was "
             "started anew, and its clock isn't kept by the network");
    tell_lost_names(p);
    if (p->notice.copied)
        tell(p, PAWL_LOG_WARNING,
             "the log's files are copies of those that were written, as after a restore: the "
             "segments that begin next get another secret key");
    if (p->cut_bytes != 0) {
        snprintf(text, sizeof text,
                 "recovery has cut %llu bytes at the log's end, none of them acknowledged",
                 (unsigned long long)p->cut_bytes);
        tell(p, PAWL_LOG_REMARK, text);
    }
}
