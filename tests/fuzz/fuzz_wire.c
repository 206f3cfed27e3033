/* SPDX-License-Identifier: Apache-2.0 */
/* Connections of strangers: the input says which of four peers connects, sends which bytes in which
 * pieces, reads, goes away, and how much time passes. The sources live with it; a line is taken
 * once, numbers go on without a gap, and nothing is acknowledged before it was durable. */
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "connectors/runtime/connect.h"
#include "pawl_connect.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool well) {
    if (!well)
        abort();
}

/* What was read of records goes here, so that it is read. */
static volatile uint32_t read_bytes;

static const uint8_t *input, *input_end;
static uint8_t byte(void) {
    return input < input_end ? *input++ : 0;
}

#define PEERS 4u
#define NAMES 8u
#define LINE_MAX_SET 1024u

/* ---- the run-time of the source */

static uint64_t clock_ns;

/* What is durable of each sender: the log's producers. */
static struct {
    char item[64];
    uint64_t number;
} durable[NAMES];
static uint32_t names;

int __wrap_pawl_source_position(pawl_source_context *x, const char *item, void *position);
int __wrap_pawl_source_position(pawl_source_context *x, const char *item, void *position) {
    (void)x, (void)item, (void)position;
    return 0;
}
void __wrap_pawl_source_report(pawl_source_context *x, int severity, const char *format, ...);
void __wrap_pawl_source_report(pawl_source_context *x, int severity, const char *format, ...) {
    (void)x, (void)severity;
    must(format != NULL);
}
int __wrap_pawl_source_origin(pawl_source_context *x, const pawl_outside *o, uint64_t records);
int __wrap_pawl_source_origin(pawl_source_context *x, const pawl_outside *o, uint64_t records) {
    (void)x;
    must(o->thing != NULL && o->to >= o->from && (o->to - o->from == records || records == 0));
    return 0;
}
const char *__wrap_connect_source_name(const pawl_source_context *x);
const char *__wrap_connect_source_name(const pawl_source_context *x) {
    (void)x;
    return "w";
}
void __wrap_connect_log_id(const pawl_source_context *x, uint8_t id[16]);
void __wrap_connect_log_id(const pawl_source_context *x, uint8_t id[16]) {
    (void)x;
    memset(id, 7, 16);
}
void __wrap_connect_items(pawl_source_context *x, connect_item_fn fn, void *arg);
void __wrap_connect_items(pawl_source_context *x, connect_item_fn fn, void *arg) {
    (void)x, (void)fn, (void)arg;
}
int __wrap_connect_item_replace(pawl_source_context *x, const char *old, const char *name,
                                const void *position, size_t len);
int __wrap_connect_item_replace(pawl_source_context *x, const char *old, const char *name,
                                const void *position, size_t len) {
    (void)x, (void)position;
    must(len <= PAWL_SOURCE_POSITION_MAX);
    for (uint32_t i = 0; i < names; i++)
        if (strcmp(durable[i].item, old) == 0) {
            snprintf(durable[i].item, sizeof durable[i].item, "%s", name);
            durable[i].number = 0;
        }
    return 0;
}
int __wrap_connect_wake_fd(pawl_source_context *x);
int __wrap_connect_wake_fd(pawl_source_context *x) {
    (void)x;
    return -1;
}
uint64_t __wrap_connect_now(const pawl_hooks *h);
uint64_t __wrap_connect_now(const pawl_hooks *h) {
    (void)h;
    return clock_ns += 1000;
}

/* ---- peers */

static char directory[64], path[96];
static struct peer {
    int fd;
    char said[512]; /* answers not looked at yet */
    size_t len;
    char name[64]; /* that it greeted with last */
} peers[PEERS];

static void leave(struct peer *p) {
    if (p->fd >= 0)
        close(p->fd);
    *p = (struct peer){.fd = -1};
}

static void come(struct peer *p, bool stream) {
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    leave(p);
    snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
    p->fd = socket(AF_UNIX, (stream ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    must(p->fd >= 0);
    if (connect(p->fd, (const struct sockaddr *)&a, sizeof a) != 0)
        leave(p);
}

static uint64_t known(const char *name) {
    for (uint32_t i = 0; i < names; i++)
        if (strcmp(durable[i].item, name) == 0)
            return durable[i].number;
    return 0;
}

/* Whole answers: OK and ACK never say more than is durable. */
static void listen_to(struct peer *p) {
    ssize_t n = p->fd < 0 ? 0 : recv(p->fd, p->said + p->len, sizeof p->said - 1 - p->len, 0);
    char *end;
    p->len += n > 0 ? (size_t)n : 0;
    p->said[p->len] = 0;
    while ((end = strchr(p->said, '\n')) != NULL) {
        const char *number = strncmp(p->said, "ACK ", 4) == 0  ? p->said + 4
                             : strncmp(p->said, "OK ", 3) == 0 ? p->said + 3
                                                               : NULL;
        if (number != NULL && p->name[0] != 0)
            must(strtoull(number, NULL, 10) <= known(p->name));
        p->len -= (size_t)(end + 1 - p->said);
        memmove(p->said, end + 1, p->len + 1);
    }
    if (p->len == sizeof p->said - 1)
        p->len = 0;
}

static void say(struct peer *p, const void *bytes, size_t n) {
    if (p->fd >= 0 && send(p->fd, bytes, n, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 && errno == EPIPE)
        leave(p);
}

/* ---- the source */

static pawl_source_ops source;
static uint32_t value_max; /* of a record */

/* A batch of a sender: its numbers go on, and are durable from now on. */
static void take_batch(const pawl_source_batch *b) {
    uint32_t sum = 0;
    must(b->count <= 16 && b->position_len <= PAWL_SOURCE_POSITION_MAX);
    for (size_t i = 0; i < b->count; i++) {
        must(b->records[i].value_len <= value_max);
        for (size_t k = 0; k < b->records[i].value_len; k++)
            sum += ((const uint8_t *)b->records[i].value)[k];
    }
    read_bytes = sum;
    must(strlen(b->item) < sizeof durable[0].item);
    if (b->item[0] != 0) {
        uint64_t number = connect_get_le(b->position, 8);
        uint32_t i = 0;
        while (i < names && strcmp(durable[i].item, b->item) != 0)
            i++;
        must(i < NAMES);
        if (i == names)
            snprintf(durable[names++].item, sizeof durable[0].item, "%s", b->item);
        else if (durable[i].number != 0)
            must(number == durable[i].number + b->count);
        durable[i].number = number;
    }
    if (source.ack != NULL && byte() % 4 != 0)
        source.ack(source.self, b->item, b->position, b->position_len);
}

static bool step(void) {
    pawl_source_batch b = {0};
    pawl_fault f = {0};
    int rc = source.read(source.self, &b, 16, 4096, 0, &f);
    must(rc == PAWL_DONE || rc == PAWL_RETRY);
    if (rc == PAWL_DONE && b.item != NULL)
        take_batch(&b);
    return rc == PAWL_DONE && (rc = source.open(source.self, NULL, &f)) == PAWL_DONE;
}

static void act(bool stream) {
    static const char *const words[] = {"PAWL1 a\n", "PAWL1 b\n", "1 x\n", "2 y\n",   "3 z\n",
                                        "\n",        "4 ",        "+",     "PAWL1 c", "\r\n"};
    uint8_t what = byte();
    struct peer *p = &peers[what % PEERS];
    switch (what / PEERS % 8) {
    case 0:
        come(p, stream);
        break;
    case 1:
    case 2: {
        const char *word = words[byte() % 10];
        say(p, word, strlen(word));
        if (strncmp(word, "PAWL1 ", 6) == 0)
            snprintf(p->name, sizeof p->name, "%.1s", word + 6);
        break;
    }
    case 3: {
        size_t n = byte() % 64u;
        n = n < (size_t)(input_end - input) ? n : (size_t)(input_end - input);
        say(p, input, n);
        p->name[0] = 0; /* whoever that is now */
        input += n;
        break;
    }
    case 4: {
        char many[400];
        memset(many, byte(), sizeof many);
        say(p, many, sizeof many);
        break;
    }
    case 5:
        leave(p);
        break;
    case 6:
        clock_ns += (uint64_t)byte() * 1000000000u;
        break;
    default:
        listen_to(p);
    }
}

static bool make(uint8_t which) {
    char address[128];
    pawl_error e;
    snprintf(address, sizeof address, "unix:%s", path);
    const pawl_setting items[] = {
        {"address", address, 1},
        {"line_max", "1k", 2},
        {"connections", "3", 3},
        {"senders", "4", 4},
        {"auth", which % 4 == 1 ? "none" : "peer", 5},
        {"protocol", which % 4 == 2 ? "plain" : "numbered", 6},
    };
    const pawl_setting syslog[] = {
        {"address", address, 1}, {"format", "json", 2}, {"transport", "udp", 3}};
    pawl_settings set = {.items = items, .count = 6};
    if (which % 4 == 3)
        set = (pawl_settings){.items = syslog, .count = 3};
    value_max = which % 4 == 3 ? 8 * 1024 : LINE_MAX_SET + 16; /* as JSON it is longer */
    source = (pawl_source_ops)PAWL_SOURCE_OPS_INIT;
    int rc = pawl_source_make(which % 4 == 3 ? "syslog" : "socket", &set, &source, &e);
    if (rc != 0)
        fprintf(stderr, "%s\n", e.message);
    return rc == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    pawl_fault f = {0};
    if (size > 4096)
        return 0;
    if (directory[0] == 0) {
        strcpy(directory, "/tmp/fuzz_wire.XXXXXX");
        must(mkdtemp(directory) != NULL);
        snprintf(path, sizeof path, "%s/s", directory);
    }
    must(mkdir(directory, 0700) == 0 || errno == EEXIST);
    input = data;
    input_end = size != 0 ? data + size : data;
    clock_ns = 1000000000;
    names = 0;
    memset(durable, 0, sizeof durable);
    for (uint32_t i = 0; i < PEERS; i++)
        peers[i] = (struct peer){.fd = -1};
    uint8_t which = byte();
    must(make(which));
    must(source.open(source.self, NULL, &f) == PAWL_DONE);
    for (int n = 0; n < 300 && input < input_end; n++) {
        act(which % 4 != 3);
        if (!step())
            break;
    }
    char text[200];
    source.status(source.self, text, sizeof text);
    must(strlen(text) < sizeof text);
    source.destroy(source.self);
    for (uint32_t i = 0; i < PEERS; i++)
        leave(&peers[i]);
    unlink(path);
    rmdir(directory);
    return 0;
}
