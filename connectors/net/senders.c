/* SPDX-License-Identifier: Apache-2.0
 *
 * senders.c - see senders.h.
 */
#include "connectors/net/senders.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- hashes of names: 20 bits, never 0 */

static uint32_t tomb_of(const struct senders *s, const char *name) {
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < sizeof s->salt; i++)
        h = (h ^ s->salt[i]) * UINT64_C(0x100000001b3);
    for (; *name != 0; name++)
        h = (h ^ (uint8_t)*name) * UINT64_C(0x100000001b3);
    h ^= h >> 32;
    h *= UINT64_C(0xd6e8feb86659fd93);
    uint32_t tomb = (uint32_t)(h >> 44);
    return tomb != 0 ? tomb : 1;
}

static bool has_tomb(const struct sender *who, uint32_t tomb) {
    for (uint32_t i = 0; i < SENDER_TOMBS; i++)
        if (who->tombs[i] == tomb)
            return true;
    return false;
}

static uint32_t free_tomb(const struct sender *who) {
    uint32_t i = 0;
    while (i < SENDER_TOMBS && who->tombs[i] != 0)
        i++;
    return i;
}

/* ---- positions */

static uint32_t stamp_of(int64_t now_s) {
    return now_s <= 0 ? 0 : now_s > UINT32_MAX ? UINT32_MAX : (uint32_t)now_s;
}

void sender_position(const struct sender *who, uint64_t number, uint8_t out[SENDER_POSITION]) {
    connect_put_le(out, number, 8);
    connect_put_le(out + 8, who->first, 8);
    out[16] = (uint8_t)who->owner.kind;
    memcpy(out + 17, who->owner.bytes, sizeof who->owner.bytes);
    connect_put_le(out + 23, who->stamp, 4);
    connect_put_le(out + 27, who->tombs[0] | (uint64_t)who->tombs[1] << 20, 5);
}

bool sender_number(const uint8_t *position, size_t len, uint64_t *number) {
    if (len != 8 && len != SENDER_POSITION)
        return false;
    *number = connect_get_le(position, 8);
    return true;
}

bool senders_load(struct senders *s, const char *name, const uint8_t *position, int len) {
    uint64_t number;
    if (len <= 0 || strlen(name) > SENDER_NAME_MAX ||
        !sender_number(position, (size_t)len, &number))
        return true;
    struct sender *who = senders_add(s, name, SENDER_FRESH, 0);
    if (who == NULL)
        return false;
    who->given = who->durable = number;
    who->named = number != 0;
    if (len != SENDER_POSITION)
        return true;
    who->first = connect_get_le(position + 8, 8);
    who->owner.kind = position[16];
    memcpy(who->owner.bytes, position + 17, sizeof who->owner.bytes);
    who->stamp = (uint32_t)connect_get_le(position + 23, 4);
    uint64_t tombs = connect_get_le(position + 27, 5);
    who->tombs[0] = (uint32_t)(tombs & 0xFFFFF);
    who->tombs[1] = (uint32_t)(tombs >> 20);
    return true;
}

/* ---- rows */

void senders_free(struct senders *s) {
    free(s->list);
    s->list = NULL;
    s->count = s->room = 0;
}

struct sender *senders_find(const struct senders *s, const char *name) {
    for (uint32_t i = 0; i < s->count; i++)
        if (s->list[i].given != 0 && strcmp(s->list[i].name, name) == 0)
            return &s->list[i];
    return NULL;
}

bool sender_is_of(const struct sender *who, const struct peer_id *peer) {
    return who->owner.kind == PEER_UNKNOWN || peer->kind == PEER_UNKNOWN ||
           peer_same(&who->owner, peer);
}

/* Nothing of it is on its way, its hash has a place, and it was silent for long enough. */
static bool forgettable(const struct senders *s, const struct sender *who, int64_t now_s) {
    uint32_t now = stamp_of(now_s);
    return s->forget_s != 0 && who->given == who->durable && free_tomb(who) < SENDER_TOMBS &&
           who->stamp != 0 && now > who->stamp && now - who->stamp >= s->forget_s;
}

enum sender_place senders_place(const struct senders *s, const char *name,
                                const struct peer_id *peer, int64_t now_s, uint32_t *at) {
    uint32_t tomb = tomb_of(s, name), own = 0, best = s->count;
    bool crowded = false;
    for (uint32_t i = 0; i < s->count; i++) {
        const struct sender *who = &s->list[i];
        if (has_tomb(who, tomb))
            return SENDER_FORGOTTEN;
        own += who->given != 0 && peer->kind != PEER_UNKNOWN && peer_same(&who->owner, peer);
    }
    crowded = own >= s->peer_max;
    for (uint32_t i = 0; i < s->count; i++) { /* a place that was given away to this name */
        const struct sender *who = &s->list[i];
        *at = i;
        if (who->given == 0 && strcmp(who->name, name) == 0)
            return crowded ? SENDER_PEER_FULL : SENDER_TAKES;
        if (who->given == 0
                ? !crowded && s->count >= s->max
                : (!crowded || peer_same(&who->owner, peer)) && forgettable(s, who, now_s)) {
            /* an empty place before any other, then the one that was silent longest */
            if (best == s->count ||
                (s->list[best].given != 0 && (who->given == 0 || who->stamp < s->list[best].stamp)))
                best = i;
        }
    }
    if (!crowded && s->count < s->max)
        return SENDER_FRESH;
    *at = best;
    return best != s->count ? SENDER_TAKES : crowded ? SENDER_PEER_FULL : SENDER_FULL;
}

/* The row loses its owner and numbers; its hashes stay. */
static void empty(const struct senders *s, struct sender *who) {
    if (who->given != 0) {
        assert(free_tomb(who) < SENDER_TOMBS); /* PAWL-3: a forgotten name is known to be one */
        who->tombs[free_tomb(who)] = tomb_of(s, who->name);
    }
    who->given = who->durable = who->first = 0;
    who->owner = (struct peer_id){0};
    who->named = false;
}

void senders_forget(const struct senders *s, uint32_t at, uint8_t out[SENDER_POSITION]) {
    struct sender copy = s->list[at];
    empty(s, &copy);
    sender_position(&copy, 0, out);
}

struct sender *senders_add(struct senders *s, const char *name, enum sender_place place,
                           uint32_t at) {
    struct sender *who;
    if (place == SENDER_TAKES) {
        who = &s->list[at];
        empty(s, who);
    } else {
        uint32_t room = s->room == 0 ? 64 : 2 * s->room;
        if (s->count == s->room) {
            struct sender *list = realloc(s->list, room * sizeof *list);
            if (list == NULL)
                return NULL;
            s->list = list;
            s->room = room;
        }
        who = &s->list[s->count++];
        *who = (struct sender){.given = 0};
    }
    snprintf(who->name, sizeof who->name, "%s", name);
    return who;
}

void sender_take(struct sender *who, uint64_t number, const struct peer_id *peer, int64_t now_s) {
    assert(number > who->given); /* PAWL-3 */
    if (who->given == 0)
        who->first = number;
    if (peer->kind != PEER_UNKNOWN)
        who->owner = *peer;
    who->given = number;
    who->stamp = stamp_of(now_s);
}
