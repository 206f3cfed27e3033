/* SPDX-License-Identifier: Apache-2.0
 *
 * What a batch was read from, for the audit (pawl_source_origin()). A file's thing is its inode and
 * birth, as in the position; its path is for people. What stands between the last place named and
 * this batch must have a reason: without one it is left out, and `pawl audit` finds the gap.
 */
#include <inttypes.h>
#include <stdio.h>

#include "connectors/file/trail.h"

#define NEWLINE_MAX 2u /* bytes of the end of a line that was given without it */

/* Without a birth the inode alone may be another file system's: then the directory is in it. */
static void thing_of(const struct trail *s, uint64_t ident, bool rest, char out[256]) {
    uint64_t birth = ident >> 40;
    int n =
        birth != 0
            ? snprintf(out, 256, "file %" PRIu64 ".%06" PRIx64, ident & IDENT_INODE, birth)
            : snprintf(out, 256, "file %" PRIu64 " in %.200s", ident & IDENT_INODE, s->directory);
    if (rest)
        snprintf(out + n, 256 - (size_t)n, " (rest)");
}

static void add(struct trail *s, pawl_outside *o, uint64_t from, uint64_t to, uint32_t flags,
                const char *note, size_t records) {
    o->from = from;
    o->to = to;
    o->flags = flags;
    o->note = note;
    if (pawl_source_origin(s->context, o, records) < 0)
        pawl_source_report(s->context, 2,
                           "what was read up to byte %" PRIu64 " of %s can't be named; `pawl "
                           "audit` will show a gap",
                           to, o->thing);
    o->note = NULL;
}

/* What became of the file since it was named last. */
static void name_change(struct trail *s, struct file *x, pawl_outside *o, const char *path) {
    uint64_t from = x->begun_at;
    bool rest = (x->tail.pos.flags & TAIL_REST) != 0;
    char older[256];
    if (x->named && x->named_ident == x->tail.pos.ident && x->named_rest == rest && !x->restarted)
        return;
    if (x->named)
        thing_of(s, x->named_ident, x->named_rest, older);
    if (x->named && x->gone_to > x->named_at) {
        const char *thing = o->thing;
        o->thing = older;
        add(s, o, x->named_at, x->gone_to, PAWL_OUTSIDE_PASSED,
            "truncated, rewritten or removed before it was read", 0);
        o->thing = thing;
    }
    if (x->named && !x->restarted) {
        add(s, o, x->named_at, x->named_at, PAWL_OUTSIDE_CONTINUES, older, 0);
        return;
    }
    x->named_at = from;
    if (from == 0)
        add(s, o, 0, 0, PAWL_OUTSIDE_BEGINS, path, 0);
    else
        add(s, o, 0, from, PAWL_OUTSIDE_BEGINS | PAWL_OUTSIDE_PASSED,
            x->skipped != NULL ? x->skipped : "read under another name", 0);
}

/* Bytes that held no record: the end of the last line, blank lines. */
static void name_empty(struct trail *s, struct file *x, pawl_outside *o, uint64_t to,
                       const char *path) {
    bool blank = split_settings(s->tail->set.split)->skip_blank;
    if (to <= x->named_at || (to - x->named_at > NEWLINE_MAX && !blank))
        return;
    add(s, o, x->named_at, to, 0, path, 0);
    x->named_at = to;
}

void trail_name(struct trail *s, struct file *x, size_t records) {
    char thing[256], path[200];
    pawl_outside o = PAWL_OUTSIDE_INIT;
    const struct tail *t = s->tail;
    uint64_t from = records != 0 ? t->given_from : x->tail.pos.at;
    if (x->tail.pos.ident == 0)
        return;
    thing_of(s, x->tail.pos.ident, (x->tail.pos.flags & TAIL_REST) != 0, thing);
    snprintf(path, sizeof path, "%.190s", x->tail.path);
    o.thing = thing;
    name_change(s, x, &o, path);
    for (uint32_t i = 0; i < x->tail.passed_count; i++) {
        const struct tail_passed *p = &x->tail.passed[i];
        if (p->to > from || p->from < x->named_at)
            continue;
        name_empty(s, x, &o, p->from, path);
        add(s, &o, p->from, p->to, PAWL_OUTSIDE_PASSED, p->why, 0);
        x->named_at = p->to;
    }
    name_empty(s, x, &o, from, path);
    if (records != 0) {
        o.mark_kind = t->given_marks;
        o.step = t->given_marks == PAWL_MARKS_LINES ? 1 : 0;
        o.marks = t->marks;
        o.mark_count = t->given_marks == PAWL_MARKS_GIVEN ? records : 0;
        add(s, &o, from, x->tail.pos.at, 0, path, records);
    }
    x->named = true;
    x->named_ident = x->tail.pos.ident;
    x->named_rest = (x->tail.pos.flags & TAIL_REST) != 0;
    x->named_at = x->tail.pos.at;
    x->restarted = false;
    x->gone_to = 0;
    x->skipped = NULL;
    x->tail.passed_count = 0;
}
