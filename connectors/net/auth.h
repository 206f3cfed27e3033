/* SPDX-License-Identifier: Apache-2.0
 *
 * Shared secrets of senders: a file of names and secrets, challenges, and their proofs, which are
 * HMAC-SHA256 (OpenSSL). The secret never crosses the connection, and a proof is good for one
 * challenge. It says who greeted, not that nobody on the way changes what follows: that takes TLS.
 *
 * THE FILE has a line for each sender: its name, a space, its secret (16 to 256 bytes, to the end
 * of the line). The name * stands for all that have no line of their own. Empty lines, and those
 * that begin with #, are passed over. It is read again when it has changed. Other users may neither
 * read nor write it: connect_secret_judge().
 *
 * THE PROOF of NAME for CHALLENGE (64 hex digits) is HMAC-SHA256(secret, "PAWL1 NAME CHALLENGE") as
 * 64 lower-case hex digits.
 */
#ifndef PAWL_CONNECTORS_AUTH_H
#define PAWL_CONNECTORS_AUTH_H

#include "connectors/runtime/connect.h"

#define AUTH_HEX 64u

struct auth;

/* Takes the path. Returns 0, PAWL_MEMORY, or PAWL_INVALID: this build has no OpenSSL. */
int auth_new(const char *path, struct auth **out, pawl_error *err);
void auth_free(struct auth *a);
/* Reads the file, unless it is read and hasn't changed. RETRY: it is missing or bad, and none is
 * read. `warning` (of `size` bytes) gets a text where new secrets can't be used; else "". */
int auth_load(struct auth *a, char *warning, size_t size, pawl_fault *f);
/* A new challenge; false: the system gives no random numbers now. */
bool auth_challenge(char out[AUTH_HEX + 1]);
/* Is this the proof of that name for that challenge? */
bool auth_proves(const struct auth *a, const char *name, const char *challenge, const char *proof,
                 size_t len);

#endif
