/* SPDX-License-Identifier: Apache-2.0
 *
 * The senders of the numbered protocol: their numbers, who may use their names, and which of them
 * may be forgotten. A pure state machine: no clock, no log, no socket; a table of cases tests it.
 *
 * THE RULES
 *   A greeting leaves nothing behind: a sender has a row from its first line on.
 *   A name belongs to the peer that sent its first line (struct peer_id), until it is forgotten.
 *   A number that was never here is never acknowledged: of one that began at 78, 77 is refused.
 *   A number follows the last one; the first may be any up to SENDER_FIRST_MAX.
 *   There are at most `max` senders, and at most `peer_max` of one peer. Where a new one finds no
 *   place, it takes that of the sender that was silent longest, if that is longer than forget_ms.
 *   A forgotten name is never taken again: what such a sender sends again is refused, so that no
 *   line comes twice. The place keeps the hashes of the last SENDER_TOMBS names that it had; one
 *   whose hashes are all used is not given away any more. So a log forgets SENDER_TOMBS times `max`
 *   senders, and then refuses new ones.
 *
 * THE POSITION of a sender's producer in the log (SENDER_POSITION bytes, little-endian)
 *   0   8  number: the last that was taken; 0: the place is given away, and has no sender yet
 *   8   8  first: the lowest that was taken; numbers below it were never here
 *   16  1  enum peer_kind of the owner
 *   17  6  the owner
 *   23  4  when the last line came, in seconds since 1970; 0: not known
 *   27  5  two hashes of forgotten names, of 20 bits; 0: none
 * Positions of 8 bytes are those of earlier versions: number alone, no owner, no first.
 */
#ifndef PAWL_CONNECTORS_SENDERS_H
#define PAWL_CONNECTORS_SENDERS_H

#include "connectors/net/listen.h"

#define SENDER_NAME_MAX 40u
#define SENDER_POSITION 32u
#define SENDER_TOMBS 2u
/* So that numbers never end. */
#define SENDER_FIRST_MAX (UINT64_C(1) << 63)

struct sender {
    char name[SENDER_NAME_MAX + 1];
    uint64_t given, durable; /* the last number taken, and the last that is durable; given 0: the
                                place is given away to this name, and no line has come yet */
    uint64_t first;          /* the lowest taken; 0: not known */
    struct peer_id owner;
    uint32_t stamp;               /* when the last line came, in seconds; 0: not known */
    uint32_t tombs[SENDER_TOMBS]; /* hashes of forgotten names; 0: none */
    bool named;                   /* the log names numbers of it as read */
};

struct senders {
    struct sender *list;
    uint32_t count, room;
    uint32_t max, peer_max; /* of new ones; those that the log knows stay */
    uint64_t forget_s;      /* 0: none is forgotten */
    uint8_t salt[16];       /* of the hashes: the log's id */
};

enum sender_place {
    SENDER_FRESH,     /* there is room for one more */
    SENDER_TAKES,     /* it takes the place *at */
    SENDER_FULL,      /* as many as `max`, and none to forget */
    SENDER_PEER_FULL, /* as many of this peer as `peer_max` */
    SENDER_FORGOTTEN  /* the name was forgotten */
};

/* Notes a sender that the log knows; passes over a position of another form. False: no memory. */
bool senders_load(struct senders *s, const char *name, const uint8_t *position, int len);
void senders_free(struct senders *s);
/* The sender of that name that has sent lines; NULL: none. */
struct sender *senders_find(const struct senders *s, const char *name);
/* May the peer use the name of this sender? A sender without an owner is anybody's. */
bool sender_is_of(const struct sender *who, const struct peer_id *peer);
/* Where may a new sender of this name have its row? Changes nothing. now_s: seconds since 1970. */
enum sender_place senders_place(const struct senders *s, const char *name,
                                const struct peer_id *peer, int64_t now_s, uint32_t *at);
/* Makes the row of a new sender: one more, or that at *at, of which the name is now forgotten (or
 * was before). Its number is 0 until its first line is taken. NULL: no memory. */
struct sender *senders_add(struct senders *s, const char *name, enum sender_place place,
                           uint32_t at);
/* Takes a line's number of this peer. */
void sender_take(struct sender *who, uint64_t number, const struct peer_id *peer, int64_t now_s);
/* The position after `number`, or of a place that is given away (number 0). */
void sender_position(const struct sender *who, uint64_t number, uint8_t out[SENDER_POSITION]);
/* The number in a position; false: it has another form. */
bool sender_number(const uint8_t *position, size_t len, uint64_t *number);
/* A position for the row at `at` once its name is forgotten. */
void senders_forget(const struct senders *s, uint32_t at, uint8_t out[SENDER_POSITION]);

#endif
