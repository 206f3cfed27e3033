/* SPDX-License-Identifier: Apache-2.0
 *
 * Which file is read next, waiting for changes, and errors that pass.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "connectors/file/trail.h"
#include "connectors/runtime/reach.h"

#define BATCHES_MAX 16u /* from one file in a row, while others have lines */
#define LOOK_MS 20  /* how often files are read that can't be watched or that change all the time */
#define HOLD_MS 100 /* how often a new file is looked at that is held back */
#define GATHER_NS UINT64_C(50000000)   /* between two looks at a directory that changes */
#define BEHIND_NS UINT64_C(1000000000) /* between two looks while there are lines to read */
#define RETRY_MAX_MS 2000
#define ROUNDS_MAX 1000

/* ---- errors that pass */

static uint64_t pause_ms(uint32_t attempts) {
    uint64_t ms = UINT64_C(50) << (attempts < 6 ? attempts : 6);
    return ms < RETRY_MAX_MS ? ms : RETRY_MAX_MS;
}

/* Closes what can be opened again. */
static void give_back_handles(struct trail *s, const struct file *but) {
    for (size_t i = 0; i < s->count; i++) {
        struct file *x = s->files[i];
        if (s->glob != NULL && x != but && x->place == PLACE_LIVE && x != s->reading)
            trail_unhold(s, x);
    }
}

void trail_error(struct trail *s, struct file *x, int error, const char *where) {
    enum error_kind kind = error_kind_of(error);
    if (kind == ERROR_RACE || kind == ERROR_ABSENT) { /* the next look sees what became of it */
        s->again = true;
        return;
    }
    if (kind == ERROR_HANDLES)
        give_back_handles(s, x);
    if (x == NULL) {
        if (s->look_error == 0) {
            s->look_error = error;
            snprintf(s->where, sizeof s->where, "%s", where);
        }
        return;
    }
    if (x->error == 0)
        pawl_source_report(s->context, 2, "%s: %s; it is tried again until it can be read", where,
                           reach_text(error));
    x->error = error;
    x->retry_ns = trail_now() + pause_ms(x->attempts++) * 1000000u;
}

void trail_mended(struct trail *s, struct file *x) {
    if (x->error != 0)
        pawl_source_report(s->context, 1, "%s: it can be read again", x->tail.path);
    x->error = 0;
    x->attempts = 0;
    x->retry_ns = 0;
}

void trail_say_error(struct trail *s) {
    if (s->look_error != 0 && s->error == 0)
        pawl_source_report(s->context, 2, "%s: %s; it is tried again until it can be read",
                           s->where, reach_text(s->look_error));
    if (s->look_error == 0 && s->error != 0)
        pawl_source_report(s->context, 1, "%s: it can be read again", s->where);
    s->error = s->look_error;
    s->attempts = s->error != 0 ? s->attempts + 1 : 0;
}

/* ---- status */

void trail_status(void *self, char *text, size_t size) {
    struct trail *s = self;
    pthread_mutex_lock(&s->mutex);
    snprintf(text, size, "%s", s->shown);
    pthread_mutex_unlock(&s->mutex);
}

static void show(struct trail *s) {
    size_t live = 0, aside = 0, lost = 0;
    const struct file *x = NULL, *bad = NULL;
    char more[90] = "";
    for (size_t i = 0; i < s->count; i++) {
        live += s->files[i]->place == PLACE_LIVE;
        aside += s->files[i]->place == PLACE_ASIDE || s->files[i]->place == PLACE_NAMELESS;
        lost += s->files[i]->place == PLACE_LOST && s->files[i]->tail.pos.ident != 0;
        x = s->files[i]->place == PLACE_LIVE ? s->files[i] : x;
        bad = s->files[i]->error != 0 ? s->files[i] : bad;
    }
    if (s->error != 0 || bad != NULL)
        snprintf(more, sizeof more, "; waiting: %.60s",
                 reach_text(s->error != 0 ? s->error : bad->error));
    else if (s->not_read != 0)
        snprintf(more, sizeof more, "; %zu over the limit", s->not_read);
    else if (s->tail->hole_bytes != 0)
        snprintf(more, sizeof more, "; %" PRIu64 " bytes of holes", s->tail->hole_bytes);
    pthread_mutex_lock(&s->mutex);
    if (s->glob == NULL && x != NULL)
        snprintf(s->shown, sizeof s->shown,
                 "%.64s: inode %" PRIu64 ", offset %" PRIu64 ", %zu rotated%s%s", s->path,
                 x->tail.pos.ident & IDENT_INODE, x->tail.pos.at, aside,
                 lost != 0 ? ", one is gone" : "", more);
    else
        snprintf(s->shown, sizeof s->shown, "%.64s: %zu files, %zu rotated%s", s->path, live, aside,
                 more);
    pthread_mutex_unlock(&s->mutex);
}

/* ---- when to look */

/* Does the followed path still lead to the file that it led to? */
static bool path_is_as_before(const struct trail *s) {
    struct stat st;
    for (size_t i = s->count; i-- > 0;) {
        const struct file *x = s->files[i];
        if (x->place == PLACE_LIVE)
            return stat(s->path, &st) == 0 && st.st_ino == x->inode && st.st_dev == x->device &&
                   (x->tail.content.unpack != NULL || (uint64_t)st.st_size >= x->tail.pos.at);
    }
    return false;
}

static bool look_is_due(const struct trail *s, uint64_t now, int timeout_ms) {
    if (s->looked_ns == 0 || s->again)
        return true;
    if (s->glob == NULL)
        return s->holds || s->error != 0 || !path_is_as_before(s);
    if (!s->set.follow || now - s->looked_ns >= s->set.scan_ms * 1000000u)
        return true;
    return now >= s->look_ns && (timeout_ms == 0 || now - s->looked_ns >= GATHER_NS);
}

/* ---- which file */

static bool is_blocked(struct trail *s, struct file *x) {
    struct file *before = x->after;
    if (before == NULL)
        return false;
    if (before->place != PLACE_LOST && before->place != PLACE_SOUGHT &&
        (before->error == 0 || before->attempts <= ERRORS_IN_ORDER) && !before->ended &&
        !before->leaving && !before->changed &&
        (before->after != NULL || (before->tail.final && before->tail.cut_ns == 0) ||
         !trail_at_end(before)))
        return true;
    if (before->error != 0 && !before->committed && before->tail.pos.ident != 0)
        before->dirty = s->owes =
            true; /* else it is older than x after a restart, and passed over */
    x->after = NULL;
    return false;
}

static bool is_ready(struct trail *s, struct file *x, uint64_t now, bool retry) {
    if (x->place == PLACE_SOUGHT || x->place == PLACE_LOST || x->leaving || x->changed || x->over ||
        (x->error != 0 && !retry && now < x->retry_ns))
        return false;
    x->tail.final = !s->set.follow ||
                    (x->aside_ns != 0 && now - x->aside_ns >= s->set.rotate_wait_ms * 1000000u);
    if (x->ended || is_blocked(s, x) || (now < x->tail.cut_ns && trail_at_end(x)))
        return false;
    return x->tail.final || !trail_at_end(x) || (x->tail.wait_ns != 0 && now >= x->tail.wait_ns);
}

/* The oldest file that has something to read; with a glob all of them in turn. */
static struct file *choose(struct trail *s, uint64_t now, bool retry) {
    if (s->reading != NULL && tail_has_lines(s->tail) &&
        (s->glob == NULL || s->batches < BATCHES_MAX))
        return s->reading;
    for (size_t i = 0; i < s->count; i++) {
        size_t k = s->glob == NULL ? i : (s->turn + i) % s->count;
        if (s->glob != NULL && s->files[k] == s->reading && s->batches >= BATCHES_MAX &&
            i + 1 < s->count)
            continue;
        if (is_ready(s, s->files[k], now, retry)) {
            s->turn = k;
            return s->files[k];
        }
    }
    /* no other file has anything: the one that had its turn goes on */
    s->batches = 0;
    return s->reading != NULL && (tail_has_lines(s->tail) || is_ready(s, s->reading, now, retry))
               ? s->reading
               : NULL;
}

/* At most HELD_MAX files of a directory stay open. */
static void limit_held(struct trail *s, const struct file *but) {
    size_t n = 0;
    for (size_t i = 0; i < s->count && s->glob != NULL; i++)
        n += s->files[i]->tail.content.fd >= 0;
    for (size_t i = 0; i < s->count && n > HELD_MAX; i++) {
        struct file *x = s->files[i];
        if (x->tail.content.fd >= 0 && x != but && x->place == PLACE_LIVE) {
            trail_unhold(s, x);
            n--;
        }
    }
}

static int enter(struct trail *s, struct file *x, pawl_fault *f) {
    int rc = PAWL_DONE;
    if (s->reading == x)
        return PAWL_DONE;
    tail_leave(s->tail);
    s->reading = NULL;
    s->batches = 0;
    if (x->tail.content.fd < 0) {
        limit_held(s, x);
        if (trail_hold(x) != 0)
            return PAWL_RETRY;
    }
    rc = tail_enter(s->tail, &x->tail, f);
    if (rc == PAWL_DONE)
        s->reading = x;
    return rc;
}

/* x is at its end. `written`: it was changed since the last look. */
static void nothing_new(struct trail *s, struct file *x, bool written) {
    /* it may have been copied and truncated, and have the same beginning again */
    s->again |= written && x->place == PLACE_LIVE && x->tail.pos.at < TAIL_WINDOW;
    trail_finish_nameless(x);
}

/* Was x changed after the last look saw it? */
static bool changed_since_look(const struct file *x) {
    struct stat st;
    return fstat(x->tail.content.fd, &st) != 0 || tail_mtime(&st.st_mtim) != x->mtime ||
           (uint64_t)st.st_size != x->size;
}

/* Reads lines of x, and gives them. The bytes before the position prove little in the first
 * TAIL_WINDOW bytes of a file: it may have been copied and truncated since the last look, and these
 * be its next lines. So there they are read into memory first, and given after a look that is
 * younger than they are, if the file still has them: else a copy of it, which is a file of its own
 * since then, may have them. */
static int read_lines(struct trail *s, struct file *x, pawl_source_batch *out, size_t max_records,
                      size_t max_bytes, pawl_fault *f) {
    bool proven = x->tail.pos.at >= TAIL_WINDOW || x->place != PLACE_LIVE || !s->set.follow;
    if (!proven && tail_has_lines(s->tail)) {
        int same = tail_lines_match(s->tail);
        if (same <= 0) {
            trail_stop_reading(s, x);
            s->again = true;
            return same < 0 ? PAWL_RETRY : PAWL_DONE;
        }
    } else if (!proven) {
        int rc = tail_fill(s->tail, out, max_records, max_bytes, f);
        if (rc != PAWL_DONE || out->item != NULL || !tail_has_lines(s->tail))
            return rc;
        if (changed_since_look(x)) {
            s->again = true;
            return PAWL_DONE;
        }
    }
    return tail_read(s->tail, out, max_records, max_bytes, f);
}

/* Reads from x. DONE with out->item NULL: it has no more now, or can't be read. */
static int read_one(struct trail *s, struct file *x, pawl_source_batch *out, size_t max_records,
                    size_t max_bytes, pawl_fault *f) {
    uint64_t mtime = x->tail.seen_mtime;
    errno = 0;
    int rc = enter(s, x, f);
    if (rc == PAWL_DONE)
        rc = read_lines(s, x, out, max_records, max_bytes, f);
    int error = errno;
    if (rc == PAWL_RETRY && error == ENOMEM)
        return rc;
    if (rc == PAWL_RETRY) {
        trail_unhold(s, x);
        trail_error(s, x, error, x->tail.path);
        return PAWL_DONE;
    }
    trail_mended(s, x);
    if (rc == PAWL_GONE) { /* the bytes before the position have changed */
        x->changed = s->again = true;
        tail_leave(s->tail);
        s->reading = NULL;
    } else if (rc == PAWL_ENDED) {
        x->ended = true;
        s->again |= x->aside_ns != 0;
    } else if (rc == PAWL_DONE && out->item == NULL && !tail_has_lines(s->tail))
        nothing_new(s, x, mtime != x->tail.seen_mtime);
    if (out->item != NULL) {
        trail_name(s, x, out->count);
        s->batches++;
        x->committed = true;
        x->dirty = false;
        if (x->head_len < HEAD_BYTES)
            files_read_head(x);
    }
    return PAWL_DONE;
}

/* May the log have a position of x now? Files are begun in the order of their age, and after a
 * restart those that are older than one with a position count as read. So none gets its first
 * position before it is its turn. */
static bool may_have_position(struct trail *s, struct file *x) {
    return x->committed || x->leaving || !is_blocked(s, x);
}

/* A position that is to be committed without records. */
static bool give_position(struct trail *s, pawl_source_batch *out) {
    for (size_t i = 0; i < s->count; i++)
        if (s->files[i]->dirty)
            (void)may_have_position(s, s->files[i]);
    s->owes = false; /* what is owed is dirty now, and comes first */
    for (size_t i = 0; i < s->count; i++) {
        struct file *x = s->files[i];
        if (!x->dirty || !may_have_position(s, x))
            continue;
        tail_encode(&x->tail.pos, out);
        trail_name(s, x, 0);
        out->item = x->tail.item;
        x->dirty = false;
        x->committed = true;
        if (x->leaving)
            files_remove(s, x);
        return true;
    }
    return false;
}

/* Gives what any file has. */
static int read_files(struct trail *s, pawl_source_batch *out, size_t max_records, size_t max_bytes,
                      int timeout_ms, pawl_fault *f) {
    int rc = PAWL_DONE;
    for (int i = 0; i < ROUNDS_MAX && rc == PAWL_DONE; i++) {
        uint64_t now = trail_now();
        bool lines = s->reading != NULL && tail_has_lines(s->tail);
        if (lines ? s->again || now - s->looked_ns >= BEHIND_NS
                  : look_is_due(s, now, i == 0 ? timeout_ms : 1))
            rc = trail_look(s, f);
        if (rc != PAWL_DONE || give_position(s, out))
            break;
        struct file *x = choose(s, trail_now(), timeout_ms == 0 && i == 0);
        if (s->owes && give_position(s, out))
            break;
        if (x == NULL && !s->again)
            break;
        if (x != NULL)
            rc = read_one(s, x, out, max_records, max_bytes, f);
        if (out->item != NULL)
            break;
    }
    return rc;
}

/* ---- waiting */

static int until(int ms, uint64_t now, uint64_t at) {
    uint64_t left = at > now ? (at - now) / 1000000 + 1 : 0;
    return left < (uint64_t)ms ? (int)left : ms;
}

/* How long nothing is to be done unless something changes. */
static int quiet_ms(const struct trail *s, int ms, uint64_t now) {
    ms = ms < WATCH_LOOK_MS ? ms : WATCH_LOOK_MS;
    if (s->holds)
        ms = ms < HOLD_MS ? ms : HOLD_MS;
    if (s->glob != NULL)
        ms = until(ms, now, s->looked_ns + s->set.scan_ms * 1000000u);
    for (size_t i = 0; i < s->count; i++) {
        const struct file *x = s->files[i];
        if (now < x->tail.cut_ns)
            ms = until(ms, now, x->tail.cut_ns);
        else if (x->aside_ns > 1 && !x->ended)
            ms = until(ms, now, x->aside_ns + s->set.rotate_wait_ms * 1000000u);
        if (x->tail.wait_ns != 0)
            ms = until(ms, now, x->tail.wait_ns);
        if (x->error != 0)
            ms = until(ms, now, x->retry_ns);
    }
    return ms;
}

/* Watches the directory and the files that are read. 0: later changes will be reported; 1: the
 * same, but changes before this call may have been missed; -1: changes can't be reported. */
static int watch(struct trail *s, uint64_t now) {
    int all = 0;
    if (s->watched_ns == 0 || now - s->watched_ns >= WATCH_AGAIN_MS * UINT64_C(1000000)) {
        all = watch_directory(&s->watch, s->directory, s->glob != NULL);
        s->watched = all >= 0;
        s->watched_ns = now;
    }
    if (!s->watched)
        return -1;
    for (size_t i = 0; i < s->count; i++) {
        struct file *x = s->files[i];
        if (x->tail.content.fd < 0 || (s->glob != NULL && x->place == PLACE_LIVE))
            continue;
        int one = watch_file(&s->watch, x->tail.content.fd, &x->wd);
        if (one < 0)
            return -1;
        all = one > all ? one : all;
    }
    return all;
}

static void wait_for_change(struct trail *s, int ms) {
    uint64_t now = trail_now();
    if (s->error != 0) { /* away: changes may not be reported either */
        s->watched_ns = 0;
        connect_idle(s->context, (int)pause_ms(s->attempts) < ms ? (int)pause_ms(s->attempts) : ms);
        return;
    }
    int told = watch(s, now);
    if (told > 0) {
        s->again = true;
        return;
    }
    ms = quiet_ms(s, ms, now);
    if (told < 0) {
        connect_idle(s->context, ms < LOOK_MS ? ms : LOOK_MS);
        return;
    }
    struct pollfd p[2] = {{connect_wake_fd(s->context), POLLIN, 0}, {s->watch.fd, POLLIN, 0}};
    if (poll(p, 2, ms) <= 0 || p[1].revents == 0)
        return;
    /* Writes that follow each other closely are read together: a commit for each would cost more
     * than the write. */
    uint64_t waited_ms = (trail_now() - now) / 1000000;
    if (s->glob != NULL)
        connect_idle(
            s->context,
            until(ms, trail_now(),
                  s->look_ns > s->looked_ns + GATHER_NS ? s->look_ns : s->looked_ns + GATHER_NS));
    else if (waited_ms < LOOK_MS)
        connect_idle(s->context, ms < LOOK_MS - (int)waited_ms ? ms : LOOK_MS - (int)waited_ms);
    s->again |= watch_clear(&s->watch, s->rotated != NULL ? "" : s->name) && s->glob == NULL;
}

/* ---- the source */

/* All that is there was read, and it isn't followed. */
static bool is_over(const struct trail *s) {
    if (s->set.follow || s->holds || s->again || s->error != 0)
        return false;
    for (size_t i = 0; i < s->count; i++)
        if (s->files[i]->error != 0 || s->files[i]->changed ||
            (s->files[i]->tail.cut_ns != 0 && !s->files[i]->ended))
            return false;
    return true;
}

int trail_open(void *self, pawl_source_context *x, pawl_fault *f) {
    struct trail *s = self;
    struct stat st;
    s->context = s->tail->context = x;
    if (s->loaded) /* what was read is in the log, or on its way there */
        return PAWL_DONE;
    bool there = stat(s->path, &st) == 0;
    int error = errno;
    if (there && s->glob == NULL && !S_ISREG(st.st_mode))
        return pawl_fault_set(f, PAWL_FATAL, "%s is not a regular file", s->path);
    if (there && s->glob != NULL && !S_ISDIR(st.st_mode))
        return pawl_fault_set(f, PAWL_FATAL, "%s is not a directory", s->path);
    int rc = files_load(s, f);
    if (rc != PAWL_DONE)
        return rc;
    s->loaded = true;
    if (!there && !s->set.follow &&
        (s->glob != NULL || (!s->begun && s->set.start != START_OLDEST)))
        return pawl_fault_set(f, PAWL_FATAL, "%s: %s", s->path, reach_text(error));
    return PAWL_DONE;
}

int trail_read(void *self, pawl_source_batch *out, size_t max_records, size_t max_bytes,
               int timeout_ms, pawl_fault *f) {
    struct trail *s = self;
    if (timeout_ms > 0 && s->at_end) /* the last read found nothing */
        wait_for_change(s, timeout_ms);
    int rc = read_files(s, out, max_records, max_bytes, timeout_ms, f);
    s->at_end = rc == PAWL_DONE && out->item == NULL;
    if (s->at_end && is_over(s))
        rc = PAWL_ENDED;
    show(s);
    return rc;
}
