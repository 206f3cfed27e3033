/* SPDX-License-Identifier: Apache-2.0
 *
 * pace.h - the group commit's policy: when what has gathered goes to the device, how long it is
 * left for others to join, and how a thread waits for its commit. Pure: events and clock readings
 * in, decisions out; no thread, no clock and no I/O. tests/core/test_pace.c has a case for each
 * policy.
 *
 * 1. Beside groups in flight. While few frames come, each goes at once. When many come, groups
 *    would be small and many, and each costs system calls: a group then waits for half of the
 *    frames that come in the time of a write, so that about two groups are in flight.
 * 2. Company. Committers that wait and commit again: a group is done, its committers are woken, and
 *    come back. The next group is held until as many are in it as waited when the last one was
 *    done, or until none has come for PACE_COMPANY_NS. After a hold in vain, none is held for a
 *    number of completions, which doubles each time. More than PACE_COMPANY_MAX committers take as
 *    long to come back as the device takes to write: then two groups take turns.
 * 3. Followed. A program appends input without waiting, processes it, and waits for the output: one
 *    write is enough for both. If a waiter came within PACE_FOLLOW_NS after an asynchronous commit
 *    PACE_FOLLOWED_MANY times in a row, an asynchronous commit is left to the next waiter, at most
 *    that long.
 * 4. Yields. If many wait, their group is done by the time each of them has had the processor a few
 *    times: a thread yields before it sleeps. If a turn takes long, other programs want the
 *    processors, and PACE_CROWDED commits sleep at once.
 * 5. Naps. The background thread looks in time after what is held. While policies 2 or 3 are at
 *    work it takes short naps, so that a hold seldom has to wake it.
 * 6. Zeros. A write into space that was never written needs a commit of the file system's journal,
 *    which takes about as long as writing PACE_LARGE bytes. Where groups are smaller, or few are in
 *    flight so that each waits for a commit of its own, the space is written with zeros before its
 *    use. Else the zeros would only double the bytes.
 */
#ifndef PAWL_WAL_PACE_H
#define PAWL_WAL_PACE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define PACE_FEW 8u             /* frames in the time of a write: below, each goes at once */
#define PACE_COMPANY_NS 150000u /* a held group waits at most this long for the next committer */
#define PACE_COMPANY_MAX 16u
#define PACE_ALONE_MIN 4u /* completions without a hold, after one in vain */
#define PACE_ALONE_MAX 1024u
#define PACE_FOLLOW_NS 250000u /* a waiter that comes within this time comes soon */
#define PACE_FOLLOWED_MANY 4u
#define PACE_YIELD_FROM 8u /* no thread yields while at most this many wait */
#define PACE_YIELDS 10u
/* A turn that takes longer than this for each thread that waits is a long one. It takes 1 to 2 us
 * where no other program wants the processors. */
#define PACE_TURN_LONG_NS 10000u
#define PACE_CROWDED 1000         /* commits */
#define PACE_LARGE (256u * 1024u) /* bytes of a group */
#define PACE_SHARED 3u            /* groups in flight: they share the journal's commits */

/* Concurrency: the log's lock guards every field, except `waiting` and `crowded`, which are atomic:
 * a thread that was woken leaves, and a thread that is about to sleep yields, without the lock.
 * They are hints; a value that is out of date costs time, not a commit. Only pace.c and the inline
 * functions below touch the fields. All zero is the initial state. Times are monotonic ns. */
struct pace {
    uint64_t mean; /* frames that come while a group is in flight, a running mean */

    _Atomic uint32_t waiting; /* threads that wait for their commit */
    uint64_t company;         /* committers who come together; 0: they don't */
    uint32_t expected;        /* committers the gathering group is held for; 0: no such hold */
    uint64_t company_until;   /* end of that hold */
    uint32_t gathered;        /* committers in the gathering group */
    uint32_t alone;           /* completions left after which no group is held */
    uint32_t alone_next;      /* and how many the next hold in vain costs */

    uint64_t async_since; /* the first asynchronous commit since the last waiter; 0: none */
    uint64_t async_until; /* so long it is left to the next waiter; 0: it isn't */
    uint32_t followed;    /* times in a row that a waiter came soon, at most PACE_FOLLOWED_MANY */

    _Atomic int32_t crowded; /* commits that still sleep at once */

    uint64_t wakes_at;    /* when the background thread looks again; UINT64_MAX: when it is woken;
                             0: it is awake */
    uint64_t nap_commits; /* count of commits at its last nap */

    uint64_t len;    /* bytes of a group, a running mean */
    uint32_t beside; /* 16 times the groups in flight when one goes, itself included, the same */
};

enum pace_decision {
    PACE_SUBMIT, /* what has gathered goes to the device, if pace_group_goes() */
    PACE_HOLD,   /* it stays; the background thread looks in time */
    PACE_POKE,   /* it stays, and the background thread must be woken: it will look */
};

enum pace_event { PACE_ASYNC_CAME, PACE_WAITER_CAME, PACE_REAPED };

/* Must the clock be read for this event? If not, pass any time. Reading it isn't free. */
static inline bool pace_needs_clock(const struct pace *p, enum pace_event e) {
    if (e == PACE_ASYNC_CAME)
        return p->async_since == 0;
    if (e == PACE_WAITER_CAME)
        return p->async_since != 0 || p->expected != 0;
    return atomic_load_explicit(&p->waiting, memory_order_relaxed) > 1;
}

/* -- groups: wal_group.c */

/* The gathering group, beside those in flight. */
struct pace_group {
    uint32_t in_flight, in_flight_max;
    uint64_t frames;
    uint32_t len, buffer_size;
};
/* Is it worth its system calls? */
bool pace_group_worth(const struct pace *p, const struct pace_group *g);
/* Does it go now? Where nothing is in flight, at once. */
static inline bool pace_group_goes(const struct pace *p, const struct pace_group *g) {
    return g->in_flight == 0 || pace_group_worth(p, g);
}
/* The gathering group was submitted, with `len` bytes; with it, `in_flight` are in flight. */
static inline void pace_group_went(struct pace *p, uint32_t len, uint32_t in_flight) {
    p->gathered = 0;
    p->len = (7 * p->len + len) / 8;
    p->beside = (7 * p->beside + 16 * in_flight) / 8;
}
/* Is space to be written with zeros before its use? */
static inline bool pace_wants_zeros(const struct pace *p) {
    return p->len < PACE_LARGE || p->beside < 16 * PACE_SHARED;
}
/* A group was written; `frames` came while it was in flight. */
static inline void pace_group_done(struct pace *p, uint64_t frames) {
    p->mean = (3 * p->mean + frames) / 4;
}
/* Frames that a further group waits for; 0: none. */
uint64_t pace_group_wait(const struct pace *p);
static inline uint64_t pace_mean(const struct pace *p) {
    return p->mean;
}

/* -- commits: lead.c, async.c */

/* A commit was appended that no thread waits for. HOLD or POKE. */
enum pace_decision pace_async_came(struct pace *p, uint32_t in_flight, uint64_t now);
/* A thread has appended a commit, and begins to wait for it. */
void pace_committer_came(struct pace *p, uint64_t now);
/* Without the lock: it waits no more. */
static inline void pace_committer_left(struct pace *p) {
    atomic_fetch_sub(&p->waiting, 1);
}
/* A thread wants all that was appended to be durable, now. */
void pace_sync_came(struct pace *p, uint64_t now);
/* The leader came back from the device, and `in_flight` groups are left. */
enum pace_decision pace_reaped(struct pace *p, uint32_t in_flight, uint64_t now);
/* May a committer submit what has gathered? */
static inline bool pace_committer_submits(const struct pace *p, uint32_t in_flight) {
    return p->expected == 0 || in_flight != 0;
}
/* Is anything held? */
static inline bool pace_holds(const struct pace *p) {
    return p->expected != 0 || p->async_until != 0;
}

/* -- threads that wait, without the lock */

struct pace_turns {
    uint32_t count;   /* times to yield at most; 0: sleep at once */
    uint64_t long_ns; /* turns that take longer on average are long */
};
/* A thread is about to sleep until its commit is durable. */
struct pace_turns pace_yields(struct pace *p);
/* It has yielded `count` times, which took `ns`. */
void pace_yielded(struct pace *p, const struct pace_turns *t, uint32_t count, uint64_t ns);

/* -- the background thread */

/* It looks: SUBMIT or HOLD. `gathered`: something has gathered. Ends the holds that are over. */
enum pace_decision pace_looked(struct pace *p, bool gathered, uint32_t in_flight, uint64_t now);
/* When it should look again, as far as holds are concerned; UINT64_MAX: when it is woken. `commits`
 * counts all so far. */
uint64_t pace_nap(struct pace *p, uint64_t commits, uint64_t now);
/* It goes to sleep until then (UINT64_MAX: until it is woken), or it is awake. */
static inline void pace_sleeps(struct pace *p, uint64_t until) {
    p->wakes_at = until;
}
static inline void pace_wakes(struct pace *p) {
    p->wakes_at = 0;
}
/* Does it sleep until it is woken? */
static inline bool pace_sleeps_long(const struct pace *p) {
    return p->wakes_at == UINT64_MAX;
}

#endif
