/* SPDX-License-Identifier: Apache-2.0
 *
 * fence.c - see fence.h.
 *
 * A process is named by a pidfd, opened before it is looked at: when its number has been given to
 * another process meanwhile, the signal finds nobody.
 */
#include "connectors/exec/fence.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#define VARIABLE "PAWL_FENCE="
#define ENVIRON_MAX ((size_t)4 << 20)
#define FOUND_MAX 64 /* processes looked at in one round; the next round finds the others */
#define LOOK_MS 20   /* pause where the lock is held by a process that can't be seen */

void fence_token(char out[FENCE_TOKEN_SIZE], const uint8_t log_id[16], const char *name,
                 uint32_t stream, uint32_t partition, uint64_t from) {
    char hex[33];
    log_id_text(log_id, hex);
    snprintf(out, FENCE_TOKEN_SIZE, "%s.%.64s.%" PRIu32 ".%" PRIu32 ".%" PRIu64, hex, name, stream,
             partition, from);
}

void fence_variable(const char *token, char *out, size_t size) {
    const char *outer = getenv("PAWL_FENCE");
    bool nested = outer != NULL && outer[0] != 0 && strlen(outer) + strlen(token) + 32 < size;
    snprintf(out, size, VARIABLE "%s%s%s", nested ? outer : "", nested ? " " : "", token);
}

/* ---- the lock */

static socklen_t lock_address(const char *token, struct sockaddr_un *a, char text[64]) {
    uint64_t h = UINT64_C(0xcbf29ce484222325); /* FNV-1a: a token is longer than an address */
    for (const char *c = token; *c != 0; c++)
        h = (h ^ (unsigned char)*c) * UINT64_C(0x100000001b3);
    snprintf(text, 64, "pawl-%.32s-%016" PRIx64, token, h);
    *a = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(a->sun_path + 1, text, strlen(text));
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(text));
}

int fence_lock(const char *token) {
    struct sockaddr_un a;
    char text[64];
    socklen_t size = lock_address(token, &a, text);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && bind(fd, (const struct sockaddr *)&a, size) != 0) {
        int why = errno;
        close(fd);
        errno = why;
        return -1;
    }
    return fd;
}

/* Looks for a socket in a part of the kernel's list of Unix sockets. 1: *owner is its user. 0: it
 * isn't in this part. -1: the list has ended, or is none. */
static int owner_in(const void *part, size_t left, const char *name, uid_t *owner) {
    for (const struct nlmsghdr *h = part; NLMSG_OK(h, left); h = NLMSG_NEXT(h, left)) {
        const struct unix_diag_msg *m = NLMSG_DATA(h);
        if (h->nlmsg_type != SOCK_DIAG_BY_FAMILY)
            return -1;
        bool named = false, owned = false;
        uint32_t user = 0;
        size_t rest = h->nlmsg_len - NLMSG_LENGTH(sizeof *m), n = strlen(name);
        for (const struct rtattr *a = (const struct rtattr *)(m + 1); RTA_OK(a, rest);
             a = RTA_NEXT(a, rest)) {
            const char *data = RTA_DATA(a);
            if (a->rta_type == UNIX_DIAG_NAME)
                named = RTA_PAYLOAD(a) == n + 1 && data[0] == 0 && memcmp(data + 1, name, n) == 0;
            else if (a->rta_type == UNIX_DIAG_UID && RTA_PAYLOAD(a) == sizeof user) {
                memcpy(&user, data, sizeof user);
                owned = true;
            }
        }
        if (named && owned) {
            *owner = user;
            return 1;
        }
    }
    return 0;
}

/* The user who made the socket of that abstract name. False: it isn't known here (before Linux
 * 5.3). */
static bool lock_owner(const char *token, uid_t *owner) {
    _Alignas(struct nlmsghdr) char part[16384];
    struct sockaddr_un a;
    char name[64];
    struct {
        struct nlmsghdr h;
        struct unix_diag_req r;
    } ask = {.h = {.nlmsg_len = sizeof ask,
                   .nlmsg_type = SOCK_DIAG_BY_FAMILY,
                   .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP},
             .r = {.sdiag_family = AF_UNIX,
                   .udiag_states = ~0u,
                   .udiag_show = UDIAG_SHOW_NAME | UDIAG_SHOW_UID}};
    (void)lock_address(token, &a, name);
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG), found = 0;
    if (fd < 0 || send(fd, &ask, sizeof ask, 0) != (ssize_t)sizeof ask)
        found = -1;
    while (found == 0) {
        ssize_t n = recv(fd, part, sizeof part, 0);
        found = n > 0 ? owner_in(part, (size_t)n, name, owner) : -1;
    }
    if (fd >= 0)
        close(fd);
    return found > 0;
}

/* True: nobody holds the lock, or there are no such sockets here, or another user has taken the
 * name, which anybody can: a program of ours has our user's socket. */
static bool lock_free(const char *token) {
    int fd = fence_lock(token);
    if (fd >= 0)
        close(fd);
    if (fd >= 0 || errno != EADDRINUSE)
        return true;
    uid_t owner;
    return lock_owner(token, &owner) && owner != geteuid() && owner != 0;
}

/* The socket as /proc/PID/fd shows it; "" if it isn't found. */
static void lock_link(const char *token, char out[40]) {
    struct sockaddr_un a;
    char text[64], line[512], name[128];
    unsigned long inode;
    (void)lock_address(token, &a, text);
    out[0] = 0;
    FILE *f = fopen("/proc/net/unix", "re");
    while (f != NULL && out[0] == 0 && fgets(line, sizeof line, f) != NULL)
        /* NOLINTNEXTLINE(cert-err34-c): the kernel's own numbers */
        if (sscanf(line, "%*s %*s %*s %*s %*s %*s %lu @%127s", &inode, name) == 2 &&
            strcmp(name, text) == 0)
            snprintf(out, 40, "socket:[%lu]", inode);
    if (f != NULL)
        fclose(f);
}

/* ---- who carries the token */

struct found {
    int pidfd; /* -1: this kernel has none */
    pid_t pid;
};

/* Whether one of the words of the variable is the token. */
static bool has_word(const char *value, const char *token) {
    size_t n = strlen(token);
    for (const char *at = value; (at = strstr(at, token)) != NULL; at++)
        if ((at == value || at[-1] == ' ') && (at[n] == 0 || at[n] == ' '))
            return true;
    return false;
}

static char *read_all(int fd, size_t *size) {
    size_t room = (size_t)16 << 10;
    char *all = malloc(room);
    *size = 0;
    while (all != NULL && *size < ENVIRON_MAX) {
        if (room - *size < 4096) {
            char *q = realloc(all, room *= 2);
            if (q == NULL)
                break;
            all = q;
        }
        ssize_t got = read(fd, all + *size, room - *size - 1);
        if (got <= 0)
            break;
        *size += (size_t)got;
    }
    if (all != NULL)
        all[*size] = 0;
    return all;
}

static bool in_environment(int proc, long pid, const char *token) {
    char path[64];
    size_t size = 0;
    bool found = false;
    snprintf(path, sizeof path, "%ld/environ", pid);
    int fd = openat(proc, path, O_RDONLY | O_CLOEXEC);
    char *all = fd >= 0 ? read_all(fd, &size) : NULL;
    for (char *at = all; at != NULL && at < all + size && !found; at += strlen(at) + 1)
        found =
            strncmp(at, VARIABLE, strlen(VARIABLE)) == 0 && has_word(at + strlen(VARIABLE), token);
    free(all);
    if (fd >= 0)
        close(fd);
    return found;
}

/* Is the descriptor closed when the process runs a program? */
static bool closes(int proc, long pid, const char *fd) {
    char path[300], line[128];
    unsigned long flags = 0;
    snprintf(path, sizeof path, "%ld/fdinfo/%s", pid, fd);
    int info = openat(proc, path, O_RDONLY | O_CLOEXEC);
    FILE *f = info >= 0 ? fdopen(info, "r") : NULL;
    while (f != NULL && fgets(line, sizeof line, f) != NULL)
        if (sscanf(line, "flags: %lo", &flags) == 1) /* NOLINT(cert-err34-c): the kernel's own */
            break;
    if (f != NULL)
        fclose(f);
    else if (info >= 0)
        close(info);
    return (flags & O_CLOEXEC) != 0;
}

/* Does the process hold the lock? A program that was run holds it without close-on-exec. With it,
 * the process is a copy of one that runs programs (it has called fork() meanwhile), or is about to
 * run one and dies with its parent: *copy is set, and it is neither killed nor waited for. */
static bool has_descriptor(int proc, long pid, const char *link, bool *copy) {
    char path[64], text[64];
    const struct dirent *e;
    bool found = false;
    snprintf(path, sizeof path, "%ld/fd", pid);
    int fd = openat(proc, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    while (d != NULL && !found && (e = readdir(d)) != NULL) {
        ssize_t n = readlinkat(dirfd(d), e->d_name, text, sizeof text - 1);
        text[n > 0 ? n : 0] = 0;
        if (strcmp(text, link) == 0 && closes(proc, pid, e->d_name))
            *copy = true;
        else
            found = strcmp(text, link) == 0;
    }
    if (d != NULL)
        closedir(d);
    else if (fd >= 0)
        close(fd);
    return found;
}

/* Finds processes that carry the token, this one excepted. *free: nobody else holds the lock. */
static size_t look(const char *token, struct found found[FOUND_MAX], bool *free) {
    char link[40] = "";
    bool copy = false;
    size_t count = 0;
    const struct dirent *e;
    if (!lock_free(token))
        lock_link(token, link);
    DIR *d = opendir("/proc");
    while (d != NULL && count < FOUND_MAX && (e = readdir(d)) != NULL) {
        char *end;
        long pid = strtol(e->d_name, &end, 10);
        if (pid <= 1 || *end != 0 || pid == (long)getpid())
            continue;
        int pidfd = (int)syscall(SYS_pidfd_open, (pid_t)pid, 0);
        if (in_environment(dirfd(d), pid, token) ||
            (link[0] != 0 && has_descriptor(dirfd(d), pid, link, &copy)))
            found[count++] = (struct found){pidfd, (pid_t)pid};
        else if (pidfd >= 0)
            close(pidfd);
    }
    if (d != NULL)
        closedir(d);
    *free = copy || lock_free(token);
    return count;
}

/* "1234 (sh), 1240 (sleep, stopped)" */
static void describe(const struct found *found, size_t count, char *out, size_t size) {
    size_t n = 0;
    out[0] = 0;
    for (size_t i = 0; i < count && n + 80 < size; i++) {
        char path[64], name[40] = "?", state = '?';
        snprintf(path, sizeof path, "/proc/%ld/stat", (long)found[i].pid);
        FILE *f = fopen(path, "re");
        /* NOLINTNEXTLINE(cert-err34-c): only words are read */
        if (f != NULL && fscanf(f, "%*d (%39[^)]) %c", name, &state) < 1)
            name[0] = '?', name[1] = 0;
        if (f != NULL)
            fclose(f);
        n += (size_t)snprintf(out + n, size - n, "%s%ld (%s%s)", i > 0 ? ", " : "",
                              (long)found[i].pid, name,
                              state == 'T'   ? ", stopped"
                              : state == 'D' ? ", waiting for a device"
                                             : "");
    }
    if (count == 0)
        snprintf(out, size, "one that can't be seen from here");
}

static void close_all(const struct found *found, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (found[i].pidfd >= 0)
            close(found[i].pidfd);
}

static void wait_for_ends(const struct found *found, size_t count, uint64_t until_ns) {
    for (size_t i = 0; i < count; i++) {
        uint64_t now = connect_now(NULL);
        struct pollfd p = {.fd = found[i].pidfd, .events = POLLIN};
        int ms = until_ns > now ? (int)((until_ns - now) / 1000000) + 1 : 0;
        (void)poll(&p, 1, p.fd >= 0 || ms < LOOK_MS ? ms : LOOK_MS);
    }
    if (count == 0)
        (void)poll(NULL, 0, LOOK_MS);
}

int fence_wait(const char *token, bool end, uint64_t wait_ms, char *why, size_t size) {
    struct found found[FOUND_MAX];
    uint64_t until_ns = connect_now(NULL) + wait_ms * 1000000u;
    for (;;) {
        bool free;
        size_t count = look(token, found, &free);
        if (count == 0 && free)
            return 0;
        for (size_t i = 0; end && i < count; i++)
            if (found[i].pidfd >= 0)
                (void)syscall(SYS_pidfd_send_signal, found[i].pidfd, SIGKILL, NULL, 0);
        wait_for_ends(found, count, until_ns);
        bool late = connect_now(NULL) >= until_ns;
        if (late)
            describe(found, count, why, size);
        close_all(found, count);
        if (late)
            return 1;
    }
}

/* ---- what has succeeded */

void fence_memory_init(struct fence_memory *m) {
    *m = (struct fence_memory){0};
    pthread_mutex_init(&m->mutex, NULL);
}

void fence_memory_free(struct fence_memory *m) {
    pthread_mutex_destroy(&m->mutex);
    free(m->items);
}

static struct fence_done *item(struct fence_memory *m, uint32_t stream, uint32_t partition) {
    for (size_t i = 0; i < m->count; i++)
        if (m->items[i].stream == stream && m->items[i].partition == partition)
            return &m->items[i];
    return NULL;
}

bool fence_follows(struct fence_memory *m, uint32_t stream, uint32_t partition, uint64_t from) {
    pthread_mutex_lock(&m->mutex);
    const struct fence_done *one = item(m, stream, partition);
    bool follows = one != NULL && one->to != FENCE_UNSURE && one->to <= from;
    pthread_mutex_unlock(&m->mutex);
    return follows;
}

void fence_done(struct fence_memory *m, uint32_t stream, uint32_t partition, uint64_t to) {
    pthread_mutex_lock(&m->mutex);
    struct fence_done *one = item(m, stream, partition);
    if (one == NULL) {
        struct fence_done *q = realloc(m->items, (m->count + 1) * sizeof *q);
        if (q != NULL) { /* else the next run looks for predecessors, as the first one does */
            m->items = q;
            one = &q[m->count++];
        }
    }
    if (one != NULL)
        *one = (struct fence_done){stream, partition, to};
    pthread_mutex_unlock(&m->mutex);
}
