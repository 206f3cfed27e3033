/* SPDX-License-Identifier: Apache-2.0
 *
 * log.pml - groups to the device, acknowledgements, crashes, recovery and incarnations.
 *
 * A log of a few places; one group fills a place. Two groups may be in flight. The device keeps a written place in its cache until a sync; at a power cut each unsynced place
 * is kept or not. A frame carries the epoch of its writer and the durable end known when it was made (the witness).
 *
 * In the code: tail, durable, epoch: struct wal (wal/wal.h). Writing: wal_group.c: submit, wrote, wal_complete. Recovery: recovery/scan.c: scan_next, scan_judge; wal_group.c: append_first.
 * Links are modelled by generation: a frame follows if it is of the same life as the one before it, or an OPEN of a newer one.
 *
 * Mutations, each of which must fail: -DACK_BEFORE_SYNC -DACK_OUT_OF_ORDER -DNO_NEW_EPOCH -DOPEN_NOT_DURABLE -DNO_SYNC_OF_TAIL -DIGNORE_WITNESS -DRETRY_FAILED_SYNC
 */
#define PLACES 5
#define CRASHES 2

#define EMPTY 0
#define DATA 1
#define OPEN 2

typedef frame {
    byte kind;
    byte epoch;   /* of the incarnation that wrote it */
    byte follows; /* epoch of the frame that it links to; with the place this is the link */
    byte known;   /* durable end when it was made */
    byte value    /* which append it is, to tell frames of one epoch and place apart */
};

frame disk[PLACES];  /* what the medium holds */
frame cache[PLACES]; /* what processes see */
bool dirty[PLACES];  /* cache differs from the medium, and a sync would write it */

byte acked = 0;          /* places acknowledged or shown: below this nothing may ever change */
byte ack_value[PLACES];  /* what was acknowledged there */
byte next_value = 1;
byte crashes = 0;
int dead = 0;            /* appends (by value, as bits) that a recovery has cut: they must never come back */
bool hurt = false;       /* the medium has lost a place that was acknowledged, and a later frame knows of it */

byte tail = 0, durable = 0, epoch = 0, last_epoch = 0;
bool running = false, failed = false;
bool flying[PLACES];     /* submitted, not finished */
bool written[PLACES];    /* the write was answered */
bool synced[PLACES];     /* durable, as the writer believes */

inline to_disk(p) {
    d_step {
        disk[p].kind = cache[p].kind; disk[p].epoch = cache[p].epoch; disk[p].follows = cache[p].follows;
        disk[p].known = cache[p].known; disk[p].value = cache[p].value; dirty[p] = false
    }
}

inline to_cache(p) {
    d_step {
        cache[p].kind = disk[p].kind; cache[p].epoch = disk[p].epoch; cache[p].follows = disk[p].follows;
        cache[p].known = disk[p].known; cache[p].value = disk[p].value; dirty[p] = false
    }
}

/* The device has taken the bytes; they are not durable yet. */
inline write_frame(p, k) {
    d_step {
        cache[p].kind = k; cache[p].epoch = epoch; cache[p].follows = last_epoch; cache[p].known = durable;
        cache[p].value = next_value; next_value = next_value + 1; dirty[p] = true; last_epoch = epoch
    }
}

/* PAWL-1 and 2: what was acknowledged is on the medium, unchanged. */
inline check_acked() {
    d_step {
        i = 0;
        do
        :: i < acked -> assert(disk[i].value == ack_value[i]); i++
        :: else -> break
        od
    }
}

inline advance() {
    do
    :: durable < tail && synced[durable] -> ack_value[durable] = cache[durable].value; durable++
    :: else -> break
    od;
#ifdef ACK_OUT_OF_ORDER
    i = durable;
    do
    :: i < tail -> if :: synced[i] -> ack_value[i] = cache[i].value; acked = i + 1 :: else fi; i++
    :: else -> break
    od;
#endif
    if :: durable > acked -> acked = durable :: else fi;
    i = 0
}

active proctype machine() {
    byte i = 0, p = 0, q = 0;
    bool witness = false, kill = false;
    byte at_epoch = 0;

recover:
    /* Before anything is judged: what is in the cache only is made durable. */
#ifndef NO_SYNC_OF_TAIL
    atomic {
        p = 0;
        do
        :: p < PLACES -> if :: dirty[p] -> to_disk(p) :: else fi; p++
        :: else -> break
        od
    }
#endif
    /* Scan: the longest chain from the front. */
    atomic {
        p = 0; at_epoch = 0;
        do
        :: p < PLACES && cache[p].kind != EMPTY && cache[p].follows == at_epoch &&
           (cache[p].epoch == at_epoch || (cache[p].kind == OPEN && cache[p].epoch > at_epoch)) ->
            assert((dead >> cache[p].value & 1) == 0); /* PAWL-8: what was cut stays cut */
            at_epoch = cache[p].epoch; p++
        :: else -> break
        od;
        /* Judge what ended it: a later frame of the same or a newer epoch that knew this place to be durable? */
        witness = false; q = p;
        do
        :: q < PLACES ->
            if :: cache[q].kind != EMPTY && cache[q].epoch >= at_epoch && cache[q].known > p -> witness = true :: else fi;
            q++
        :: else -> break
        od;
        q = 0
    }
#ifdef IGNORE_WITNESS
    witness = false;
#endif
    assert(witness == hurt); /* PAWL-9: damage is told, and a sound medium is never called damaged */
    if :: hurt -> goto refused :: else fi;
    assert(p >= acked);      /* PAWL-8: nothing acknowledged is cut */
    d_step {
        q = p;
        do
        :: q < PLACES -> if :: cache[q].kind != EMPTY -> dead = dead | (1 << cache[q].value) :: else fi; q++
        :: else -> break
        od;
        q = 0
    }
    d_step { tail = p; durable = p; last_epoch = at_epoch; epoch = at_epoch + 1; failed = false;
#ifdef NO_NEW_EPOCH
             epoch = (at_epoch == 0 -> 1 : at_epoch);
#endif
             i = 0;
             do :: i < PLACES -> flying[i] = false; written[i] = false; synced[i] = (i < p); i++ :: else -> break od;
             i = 0 }
    if :: tail >= PLACES -> goto done :: else fi;
    /* The new incarnation's record, durable before anything is accepted or shown. */
    write_frame(tail, OPEN);
    tail++;
    if :: crashes < CRASHES -> goto crash :: true fi;
#ifndef OPEN_NOT_DURABLE
    to_disk(tail - 1);
    synced[tail - 1] = true;
    durable = tail;
#else
    flying[tail - 1] = true; written[tail - 1] = true;
#endif
    /* What was recovered is shown from here on. */
    d_step {
        i = 0;
        do :: i < durable -> ack_value[i] = cache[i].value; i++ :: else -> break od;
        if :: durable > acked -> acked = durable :: else fi;
        i = 0
    }
    check_acked();
    running = true;

    do
    /* A group is made and submitted; at most two in flight. */
    :: atomic { !failed && tail < PLACES && tail < durable + 2 ->
        write_frame(tail, DATA); flying[tail] = true; tail++ }
    /* A write is answered. */
    :: atomic { !failed && durable < tail && flying[durable] && !written[durable] -> written[durable] = true }
    :: atomic { !failed && durable + 1 < tail && flying[durable + 1] && !written[durable + 1] -> written[durable + 1] = true }
    /* It is synced: in any order. Or the sync fails: the cache forgets that it is dirty. */
    :: atomic { !failed && durable < tail && written[durable] && !synced[durable] ->
        if
        :: to_disk(durable); synced[durable] = true
        :: dirty[durable] = false;
#ifdef RETRY_FAILED_SYNC
           synced[durable] = true
#else
           failed = true
#endif
        fi }
    :: atomic { !failed && durable + 1 < tail && written[durable + 1] && !synced[durable + 1] ->
        to_disk(durable + 1); synced[durable + 1] = true }
#ifdef ACK_BEFORE_SYNC
    :: atomic { !failed && durable < tail && written[durable] -> synced[durable] = true; advance() }
#endif
    :: atomic { !failed && (durable < tail && synced[durable]
#ifdef ACK_OUT_OF_ORDER
        || durable + 1 < tail && synced[durable + 1]
#endif
        ) -> advance(); check_acked() }
    :: crashes < CRASHES -> goto crash
    :: atomic { durable == tail && tail == PLACES -> goto done }
    :: atomic { failed && crashes == CRASHES -> goto done }
    od;

crash:
    /* A power cut: each place that isn't durable is kept or not. A kill: the cache stays, as if the cut had not been. After a failed sync what only the
     * cache holds is not read again: recovery drops it. */
    atomic {
        crashes++; running = false; p = 0;
        if :: kill = true :: kill = false fi;
        do
        :: p < PLACES ->
            if
            :: dirty[p] && !kill -> if :: to_disk(p) :: to_cache(p) fi
            :: !dirty[p] -> to_cache(p)
            :: else
            fi;
            p++
        :: else -> break
        od;
        check_acked();
        p = 0;
        /* Once, perhaps: the medium loses a place below what the last frame knows to be durable. */
        do
        :: p < tail && p < acked ->
            q = p + 1; witness = false;
            do
            :: q < PLACES ->
                if :: disk[q].kind != EMPTY && disk[q].known > p && disk[q].epoch >= disk[p].epoch -> witness = true :: else fi;
                q++
            :: else -> break
            od;
            if
            :: witness && !hurt -> hurt = true; disk[p].kind = EMPTY; cache[p].kind = EMPTY; break
            :: true -> p++
            fi
        :: else -> break
        od;
        p = 0; q = 0; witness = false
    }
    goto recover;

done:
    check_acked();
refused:
    skip
}
