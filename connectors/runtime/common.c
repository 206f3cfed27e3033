/* SPDX-License-Identifier: Apache-2.0
 *
 * What sinks and sources need alike: errors, clock, pauses, ids, dead letters.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "connectors/runtime/connect.h"
#include "connectors/text/time_ns.h"

#define HEADERS_MAX 64

void connect_text(char *out, size_t size, const char *format, va_list args) {
    char text[1024] = ""; /* larger than any `out`, so the cut is made below, between characters */
    int n = vsnprintf(text, sizeof text, format, args);
    size_t len = pawl_secret_hide(text, n >= (int)sizeof text);
    pawl_show(text, len, NULL, out, size);
}

static void shown_of(char *out, size_t size, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static void shown_of(char *out, size_t size, const char *format, ...) {
    va_list args;
    va_start(args, format);
    connect_text(out, size, format, args);
    va_end(args);
}

void connect_shown(char *out, size_t size, const char *text) {
    shown_of(out, size, "%s", text);
}

int pawl_fault_set(pawl_fault *f, int outcome, const char *format, ...) {
    va_list args;
    if (f != NULL) {
        va_start(args, format);
        connect_text(f->message, sizeof f->message, format, args);
        va_end(args);
    }
    return outcome;
}

/* Messages begin with the setting's line; a program that sets none has no lines. */
void connect_error_set(pawl_error *err, int code, const char *format, ...) {
    static const char unknown[] = "line 0: ";
    va_list args;
    if (err != NULL) {
        *err = (pawl_error){.code = code, .lsn = UINT64_MAX};
        va_start(args, format);
        connect_text(err->message, sizeof err->message, format, args);
        va_end(args);
        if (strncmp(err->message, unknown, strlen(unknown)) == 0)
            memmove(err->message, err->message + strlen(unknown),
                    strlen(err->message) - strlen(unknown) + 1);
    }
}

uint64_t connect_now(const pawl_hooks *h) {
    if (h != NULL && h->now_ns != NULL)
        return h->now_ns(h->now_arg);
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

int64_t connect_wall_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return time_ns(t.tv_sec, t.tv_nsec);
}

int connect_position_fault(int code, pawl_fault *f) {
    return pawl_fault_set(f, code == PAWL_FULL || code == PAWL_MEMORY ? PAWL_RETRY : PAWL_FATAL,
                          "position: %s", pawl_strerror(code));
}

void connect_hex(const uint8_t *bytes, size_t n, char *out) {
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < n; i++) {
        out[2 * i] = digits[bytes[i] >> 4];
        out[2 * i + 1] = digits[bytes[i] & 15];
    }
    out[2 * n] = 0;
}

void log_id_text(const uint8_t id[16], char out[33]) {
    connect_hex(id, 16, out);
}

void connect_put_le(uint8_t *to, uint64_t n, int bytes) {
    for (int i = 0; i < bytes; i++)
        to[i] = (uint8_t)(n >> (8 * i));
}

uint64_t connect_get_le(const uint8_t *from, int bytes) {
    uint64_t n = 0;
    for (int i = 0; i < bytes; i++)
        n |= (uint64_t)from[i] << (8 * i);
    return n;
}

void connect_point(const pawl_hooks *h, const char *point) {
    if (h->on_point != NULL)
        h->on_point(h->on_point_arg, point);
}

uint64_t connect_seed(const pawl_hooks *h) {
    uint64_t seed = h->seed;
    if (seed == 0 && getrandom(&seed, sizeof seed, GRND_NONBLOCK) != (ssize_t)sizeof seed)
        seed = connect_now(h) | 1;
    return seed;
}

uint32_t connect_pause(uint32_t n, uint32_t first_ms, uint32_t most_ms, uint64_t *state) {
    uint64_t pause = (uint64_t)first_ms << (n < 1 ? 0 : n > 32 ? 31 : n - 1);
    pause = pause > most_ms ? most_ms : pause;
    uint64_t z = (*state += UINT64_C(0x9E3779B97F4A7C15)); /* splitmix64 */
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    z ^= z >> 31;
    return (uint32_t)(pause - z % (pause / 2 + 1));
}

bool connect_stream(pawl *p, uint32_t id, pawl_stream_info *out) {
    return pawl_stream_get(p, id, out) == 0;
}

bool connect_name_ok(const char *name) {
    size_t n = name != NULL ? strlen(name) : 0;
    return n >= 1 && n <= 64 &&
           strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") == n;
}

int connect_commit(pawl_tx *tx, bool durable, pawl_receipt *receipt) {
    int rc = durable ? pawl_commit(tx, receipt) : pawl_commit_async(tx, NULL, NULL, receipt);
    if (rc == PAWL_FULL || rc == PAWL_MEMORY || rc == PAWL_STOPPED)
        pawl_abort(tx);
    return rc;
}

static char *put_number(char *out, uint64_t n) {
    char digits[20];
    size_t i = sizeof digits;
    do
        digits[--i] = (char)('0' + n % 10);
    while ((n /= 10) != 0);
    *out++ = '-';
    memcpy(out, digits + i, sizeof digits - i);
    return out + sizeof digits - i;
}

/* Made for each record that a sink writes: no printf. */
size_t pawl_message_id(const uint8_t log_id[16], const pawl_record *r,
                       char out[PAWL_MESSAGE_ID_SIZE]) {
    log_id_text(log_id, out);
    char *at = put_number(out + 32, r->stream);
    at = put_number(at, r->partition);
    at = put_number(at, r->offset);
    *at = 0;
    return (size_t)(at - out);
}

const char *pawl_flow_name(int flow) {
    static const char *const names[] = {"new", "running", "idle", "waiting", "failed", "ended"};
    return flow >= 0 && flow <= PAWL_FLOW_ENDED ? names[flow] : "unknown";
}

static int put_dead_letter(pawl *p, pawl_tx *tx, uint32_t to, const char *who, const char *stream,
                           const pawl_record *r, const char *why, uint32_t value_max) {
    char partition[16], offset[24], length[16];
    snprintf(partition, sizeof partition, "%u", r->partition);
    snprintf(offset, sizeof offset, "%llu", (unsigned long long)r->offset);
    snprintf(length, sizeof length, "%u", r->value_len);
    bool cut = r->value_len > value_max;
    const char *pairs[][2] = {{"pawl-processor", who},       {"pawl-stream", stream},
                              {"pawl-partition", partition}, {"pawl-offset", offset},
                              {"pawl-error", why},           {"pawl-length", length}};
    pawl_header own[HEADERS_MAX];
    uint16_t n = 0;
    uint32_t bytes = 0;
    for (size_t i = 0; i < (cut ? 6u : 5u); i++, n++) {
        own[n] = (pawl_header){pairs[i][0], pairs[i][1], (uint16_t)strlen(pairs[i][0]),
                               (uint16_t)strlen(pairs[i][1])};
        bytes += 4u + own[n].name_len + own[n].value_len;
    }
    for (uint32_t i = 0; n < HEADERS_MAX && pawl_record_header(r, i, &own[n]) == 0; i++) {
        bytes += 4u + own[n].name_len + own[n].value_len;
        if (bytes > UINT16_MAX)
            break; /* ours come first; what does not fit after them is left out */
        n++;
    }
    pawl_record out = *r;
    pawl_stream_info info;
    out.raw_headers = NULL;
    out.raw_headers_len = 0;
    out.headers = own;
    out.header_count = n;
    out.value_len = cut ? value_max : r->value_len;
    if (!connect_stream(p, to, &info))
        return PAWL_NOT_FOUND;
    return pawl_put(tx, to, r->partition % info.partitions, &out);
}

/* With its headers a dead letter can be too large where its record wasn't. The record's own headers
 * may be the reason why it is one: then it goes without them. */
int connect_dead_letter(pawl *p, pawl_tx *tx, uint32_t to, const char *who, const char *stream,
                        const pawl_record *r, const char *why, uint32_t value_max) {
    int rc = put_dead_letter(p, tx, to, who, stream, r, why, value_max);
    pawl_record bare = *r;
    bare.headers = NULL;
    bare.raw_headers = NULL;
    bare.header_count = 0;
    bare.raw_headers_len = 0;
    if (rc == PAWL_INVALID)
        rc = put_dead_letter(p, tx, to, who, stream, r = &bare, why, value_max);
    return rc == PAWL_TOO_LARGE && value_max > DEAD_VALUE_MAX
               ? put_dead_letter(p, tx, to, who, stream, r, why, DEAD_VALUE_MAX)
               : rc;
}
