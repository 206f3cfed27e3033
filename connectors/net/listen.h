/* SPDX-License-Identifier: Apache-2.0
 *
 * Addresses and listening sockets. A Unix socket is a name in a directory that others use too:
 * what is at that name is removed only if it is a socket of our own user on which no process
 * listens; at the end, only if it is still the one that was made here.
 */
#ifndef PAWL_CONNECTORS_LISTEN_H
#define PAWL_CONNECTORS_LISTEN_H

#include <sys/socket.h>
#include <sys/types.h>

#include "connectors/runtime/connect.h"

#define PEER_MAX 192 /* with the subject of a certificate */
#define LISTEN_BACKLOG 128

/* Who a peer is, as far as names and limits go: its user, or its address without the port. */
enum peer_kind {
    PEER_UNKNOWN = 0,
    PEER_USER = 1, /* bytes 0 to 3: the uid at the other end of a Unix socket */
    PEER_IPV4 = 2, /* bytes 0 to 3: the address */
    PEER_IPV6 = 3  /* a hash of the network of 64 bits, as hosts choose the rest of an address anew;
                      of a link-local address all of it */
};
struct peer_id {
    uint8_t kind; /* enum peer_kind */
    uint8_t bytes[6];
};

struct listening {
    int stream_fd, datagram_fd; /* -1: none */
    dev_t dev;                  /* of the Unix socket that was made here */
    ino_t ino;
};

/* Is it "unix:PATH"? */
bool listen_is_unix(const char *address);
/* Checks the address. Returns 0 or PAWL_INVALID. */
int listen_check(const char *address, pawl_error *err);
/* Binds and listens where it doesn't yet; a Unix address is either a stream or for datagrams.
 * `mode`: the permissions of a Unix socket. `shown` gets a text for the status. Everything that
 * fails here may work later: RETRY. */
int listen_open(struct listening *l, const char *address, bool stream, bool datagram, unsigned mode,
                char *shown, size_t size, pawl_fault *f);
void listen_close(struct listening *l, const char *address);

/* Who is at the other end of a connection: "192.0.2.1:514", or "pid 17 of user 0". */
void listen_peer(int fd, char out[PEER_MAX]);
/* The same for limits and names. */
struct peer_id listen_peer_id(int fd);
bool peer_same(const struct peer_id *a, const struct peer_id *b);
/* Receives a datagram of at most `size` bytes. Returns its real length, which is larger if it was
 * cut off; -1: none is there. `from` gets its sender, `*drops` the number of datagrams that the
 * kernel has dropped on this socket so far, since nobody read them (unchanged if it doesn't say).
 */
ssize_t listen_receive(int fd, void *buf, size_t size, char from[PEER_MAX], uint32_t *drops);
/* The same number, asked for: also known if no datagram follows those that were dropped. */
void listen_drops(int fd, uint32_t *drops);

#endif
