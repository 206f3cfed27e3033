/* SPDX-License-Identifier: Apache-2.0
 *
 * pipeline.pml - a processor, a second stage that consumes what isn't durable yet, and a two-phase sink, over a log of which a crash keeps any prefix that holds all that is durable (log.pml shows that).
 *
 * In the code: one step of a processor: pipeline/processor.c: commit, promise. Chained stages: runtime.c. Decisions: pawl_decide, pawl_finish, pawl_decision_at (include/pawl.h); what a sink does with them: docs/crash-safety.md.
 *
 * -DAT_LEAST_ONCE, -DAT_MOST_ONCE: the weaker guarantees; with -DSTRICT the strong claim is made of them, and must fail.
 * Mutations that must fail: -DPOSITION_SPLIT -DEFFECT_BEFORE_DECISION -DNO_RESOLUTION -DRESOLVE_BY_GUESS -DSTAGE_TWO_UNORDERED
 */
#define INPUTS 2
#define LOG 14
#define CRASHES 2

/* A commit is a set of these, in one frame. */
#define OUT1 1   /* first stage's output for input k */
#define POS1 2   /* first stage's position is behind k */
#define OUT2 4
#define POS2 8
#define DECIDED 16 /* the sink's transaction k shall be committed */
#define FINISHED 32

byte what[LOG], input[LOG];
byte length = 0, durable = 0;
byte crashes = 0;
byte prepared = 0, committed = 0; /* in the sink, durable there: transactions as bits */
byte effects[INPUTS];             /* how often k took effect outside */
bool over = false;

inline append(w, k) {
    d_step { assert(length < LOG); what[length] = w; input[length] = k; length++ }
}

/* Where a stage stands: behind the last position in the log, durable or not. */
inline position(w, to) {
    d_step {
        i = 0; to = 0;
        do
        :: i < length -> if :: (what[i] & w) != 0 -> to = input[i] + 1 :: else fi; i++
        :: else -> break
        od;
        i = 0
    }
}

inline is_in_log(w, k, to, found) {
    d_step {
        i = 0; found = false;
        do
        :: i < to -> if :: (what[i] & w) != 0 && input[i] == k -> found = true :: else fi; i++
        :: else -> break
        od;
        i = 0
    }
}

inline take_effect(k) {
    d_step { committed = committed | (1 << k); prepared = prepared & (255 - (1 << k)); effects[k]++ }
}

/* The device makes more of the log durable, at any time. */
active proctype device() {
    do
    :: atomic { durable < length && !over -> durable++ }
    :: over -> break
    od
}

active proctype process() {
    byte i = 0, k = 0, p1 = 0, p2 = 0, s = 0, n = 0, m = 0;
    bool found = false, decided = false;

again:
    /* What is in doubt is resolved before anything goes on (PAWL-6). */
    s = 0;
    do
    :: s < INPUTS ->
        if
        :: (prepared >> s & 1) != 0 ->
#ifndef NO_RESOLUTION
            is_in_log(DECIDED, s, length, decided);
#ifdef RESOLVE_BY_GUESS
            decided = true;
#endif
            if
            :: decided -> take_effect(s)
            :: else -> prepared = prepared & (255 - (1 << s))
            fi
#else
            prepared = prepared & (255 - (1 << s))
#endif
        :: else
        fi;
        s++
    :: else -> break
    od;
    position(POS1, p1);
    position(POS2, p2);
    s = 0;
    do
    :: s < INPUTS -> is_in_log(DECIDED, s, length, found); if :: found -> s++ :: else -> break fi
    :: else -> break
    od;

    do
    /* First stage: input k, one step. */
    :: p1 < INPUTS ->
#ifdef AT_LEAST_ONCE
        append(OUT1, p1);
        if :: (durable == length) :: crashes < CRASHES -> goto crash fi;
        append(POS1, p1);
#else
#ifdef AT_MOST_ONCE
        append(POS1, p1);
        if :: (durable == length) :: crashes < CRASHES -> goto crash fi;
        append(OUT1, p1);
#else
#ifdef POSITION_SPLIT
        append(OUT1, p1);
        append(POS1, p1);
#else
        append(OUT1 + POS1, p1);
#endif
#endif
#endif
        p1++
    /* Second stage: consumes the first's output although it isn't durable: the order of the log is enough (the design's one idea). */
    :: atomic { p2 < p1 ->
#ifdef STAGE_TWO_UNORDERED
        /* its commit reaches the device on its own, before what it consumed */
        if :: length + 1 < LOG && durable + 1 == length ->
            what[length] = what[length - 1]; input[length] = input[length - 1];
            what[length - 1] = OUT2 + POS2; input[length - 1] = p2; length++; durable = length - 1
        :: else -> append(OUT2 + POS2, p2)
        fi;
#else
        append(OUT2 + POS2, p2);
#endif
        p2++ }
    /* Sink: prepare outside, decide in the log, durable, then commit outside. Only durable input is shown to it. */
    :: s < INPUTS && (prepared >> s & 1) == 0 ->
        is_in_log(POS1, s, durable, found);
        if
        :: found ->
            prepared = prepared | (1 << s);
#ifdef EFFECT_BEFORE_DECISION
            take_effect(s);
#endif
            append(DECIDED, s);
            if :: (durable == length) :: crashes < CRASHES -> goto crash fi;
#ifndef EFFECT_BEFORE_DECISION
            assert(durable == length); /* the decision is durable */
            take_effect(s);
#endif
            append(FINISHED, s);
            s++
        :: else
        fi
    :: p1 == INPUTS && p2 == INPUTS && s == INPUTS && durable == length -> break
    :: crashes < CRASHES -> goto crash
    od;

    /* What is there in the end. */
    over = true;
    k = 0;
    do
    :: k < INPUTS ->
        n = 0; m = 0; i = 0;
        do
        :: i < length ->
            if :: input[i] == k && (what[i] & OUT1) != 0 -> n++ :: else fi;
            if :: input[i] == k && (what[i] & OUT2) != 0 -> m++ :: else fi;
            i++
        :: else -> break
        od;
        i = 0;
#if defined(AT_LEAST_ONCE) && !defined(STRICT)
        assert(n >= 1);
#else
#if defined(AT_MOST_ONCE) && !defined(STRICT)
        assert(n <= 1);
#else
        assert(n == 1); /* no loss, no duplicate */
#endif
#endif
        assert(m == 1);
        assert(effects[k] == 1); /* no effect lost, none twice */
        k++
    :: else -> break
    od;
    goto end;

crash:
    /* Any prefix that holds what is durable. What the sink has is durable there; a decision that is cut was never acted upon. */
    atomic {
        crashes++;
        do
        :: length > durable -> length--
        :: true -> break
        od;
        durable = length; /* recovery makes it so before anything goes on */
        k = 0;
        do
        :: k < INPUTS ->
            is_in_log(DECIDED, k, length, found);
            assert(found || effects[k] == 0); /* no early effect (PAWL-6) */
            k++
        :: else -> break
        od;
        k = 0;
        /* The second stage never has consumed what isn't there. */
        position(POS1, p1); position(POS2, p2);
        assert(p2 <= p1)
    }
    goto again;
end:
    skip
}
