/* SPDX-License-Identifier: Apache-2.0
 *
 * What the files of this folder share. It may include pawl.h and pawl_connect.h, nothing else of
 * Pawl.
 */
#ifndef PAWL_CONNECTORS_CONNECT_H
#define PAWL_CONNECTORS_CONNECT_H

#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>

#include "pawl_connect.h"

/* connect_error(err, code, FORMAT, ...) fills *err (may be NULL) and is `code`. It is a macro, so
 * that the compiler and static analysis see the code. */
void connect_error_set(pawl_error *err, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
#define connect_error(err, code, ...) (connect_error_set((err), (code), __VA_ARGS__), (code))
/* The log's own last error, into *err (may be NULL); returns code. */
static inline int connect_log_error(pawl_error *err, int code) {
    if (err != NULL)
        pawl_last_error(err);
    return code;
}

/* Writes a message, with what strangers wrote in it escaped (pawl_show()), and secrets hidden; it
 * is one line. */
void connect_text(char *out, size_t size, const char *format, va_list args)
    __attribute__((format(printf, 3, 0)));
void connect_shown(char *out, size_t size, const char *text);

/* ---- secrets (secret.c) */

#define CONNECT_SECRET_MAX 4096 /* bytes of one, with its NUL */
#define CONNECT_SECRETS_MAX 16

struct stat;
/* May the open file hold a secret? 0; else INVALID or PERMISSION, and *why says what it does. */
int connect_secret_judge(const struct stat *st, const char **why);

/* Settings in which each NAME_file of a secret has become NAME with what the file holds. */
struct connect_secrets {
    pawl_settings settings;
    pawl_setting *items;
    char *texts[CONNECT_SECRETS_MAX]; /* names and secrets */
    size_t count;
};
/* Reads the files, and remembers the secrets among `s`. */
int connect_secrets_take(const pawl_connector *c, const pawl_settings *s,
                         struct connect_secrets *own, pawl_error *err);
void connect_secrets_free(struct connect_secrets *own); /* wipes them */
/* The length of NAME where `name` is NAME_file and NAME is a secret of c; else 0. */
size_t connect_secret_file(const pawl_connector *c, const char *name);

/* ---- for the runtimes */

/* The sizes that the public structs had in the first release (pawl_struct_take()). */
#define CONNECT_END(type, last) (offsetof(type, last) + sizeof(((type *)0)->last))
#define SINK_OPS_FIRST CONNECT_END(pawl_sink_ops, destroy)
#define SINK_CONFIG_FIRST CONNECT_END(pawl_sink_config, hooks)
#define SOURCE_OPS_FIRST CONNECT_END(pawl_source_ops, destroy)
#define SOURCE_CONFIG_FIRST CONNECT_END(pawl_source_config, hooks)
#define PROCESSOR_OPS_FIRST CONNECT_END(pawl_processor_ops, destroy)
#define PROCESSOR_CONFIG_FIRST CONNECT_END(pawl_processor_config, batch_bytes)
#define SOURCE_OUTSIDE_FIRST CONNECT_END(pawl_outside, mark_count)
#define FLOW_STATUS_FIRST CONNECT_END(pawl_flow_status, target)

/* A number from outside as 32 bits: one that doesn't fit is the largest that does. */
static inline uint32_t connect_small(uint64_t n) {
    return n < UINT32_MAX ? (uint32_t)n : UINT32_MAX;
}
/* The same of a setting. */
uint32_t connect_setting_small(const pawl_connector *c, const pawl_settings *s, const char *name);
/* The index of the choice that a setting names, or a number that was found to be small. */
int connect_setting_choice(const pawl_connector *c, const pawl_settings *s, const char *name);
/* Milliseconds from `now` until `until` (nanoseconds), rounded up, as poll() takes them: 0 where it
 * is over, INT_MAX where it is longer than that. */
static inline int connect_wait_ms(uint64_t until_ns, uint64_t now_ns) {
    uint64_t left = until_ns > now_ns ? until_ns - now_ns : 0;
    uint64_t ms = left / 1000000u + (left % 1000000u != 0);
    return ms < INT_MAX ? (int)ms : INT_MAX;
}
/* The pace of reports of which a stranger can cause any number: the first at once, then one every
 * CONNECT_SAY_MS at most, with the number of those that were held back. */
#define CONNECT_SAY_MS 10000u
struct connect_pace {
    uint64_t next_ns, held; /* when one is due again; how many wait for that */
};
/* One more. True: it is reported now; else it is held back. */
static inline bool connect_pace_one(struct connect_pace *p, uint64_t now_ns) {
    if (now_ns < p->next_ns) {
        p->held++;
        return false;
    }
    p->next_ns = now_ns + CONNECT_SAY_MS * UINT64_C(1000000);
    return true;
}
/* How many of those that were held back are reported now, `all`: due or not; 0: none. */
static inline uint64_t connect_pace_held(struct connect_pace *p, uint64_t now_ns, bool all) {
    uint64_t held = p->held;
    if (held == 0 || (now_ns < p->next_ns && !all))
        return 0;
    p->held = 0;
    p->next_ns = now_ns + CONNECT_SAY_MS * UINT64_C(1000000);
    return held;
}
/* Nanoseconds of a clock that never goes back. NULL: the system's. */
uint64_t connect_now(const pawl_hooks *h);
/* Nanoseconds since 1970. */
int64_t connect_wall_ns(void);
void connect_point(const pawl_hooks *h, const char *point);
/* Pause before attempt n (from 1): doubled each time, capped, a random 50 to 100 per cent of it.
 * Changes *state. Milliseconds. */
uint32_t connect_pause(uint32_t n, uint32_t first_ms, uint32_t most_ms, uint64_t *state);
uint64_t connect_seed(const pawl_hooks *h);
/* What a source answers where pawl_source_position() answered code < 0. */
int connect_position_fault(int code, pawl_fault *f);
/* Calls fn for each item of the source that the log has a position for, the item "" included, and
 * doesn't take their producers over. Also calls it for the producers of another source whose name
 * is this source's name, a dot and more: fn must know its own positions. */
typedef void (*connect_item_fn)(void *arg, const char *item, const uint8_t *position, int len);
void connect_items(pawl_source_context *x, connect_item_fn fn, void *arg);
/* Durably gives the item `old` another name, and `position` instead of its own: the new item gets
 * its producer, so that the log needs no further one. Nothing of `old` may be on its way. After a
 * crash the item has either its old name and position, or `position` and one of the two names.
 * Returns 0 or a PAWL_ code. Only open() and read() may call it. */
int connect_item_replace(pawl_source_context *x, const char *old, const char *name,
                         const void *position, size_t len);
/* The log's id. */
void connect_log_id(const pawl_source_context *x, uint8_t id[16]);
/* For a source's read(): a descriptor that becomes readable when read() should return early, since
 * the source is to stop; -1: none (its owner steps it). A source that has asked for it gets long
 * timeouts. It is the runtime's. */
int connect_wake_fd(pawl_source_context *x);
/* Is the setting given, or is its value the default? */
bool connect_setting_given(const pawl_settings *s, const char *name);
/* The name of the source, as its configuration has it. */
const char *connect_source_name(const pawl_source_context *x);
/* Calls hooks.on_point. */
void connect_source_point(pawl_source_context *x, const char *point);
/* For a read() with nothing to give: lets the time pass, until the source is to stop. */
void connect_idle(pawl_source_context *x, int timeout_ms);
/* Bytes as 2 * n lower-case hex digits and a NUL. */
void connect_hex(const uint8_t *bytes, size_t n, char *out);
/* A log's id in this form. */
void log_id_text(const uint8_t id[16], char out[33]);
/* Little-endian numbers of 1 to 8 bytes, in positions. */
void connect_put_le(uint8_t *to, uint64_t n, int bytes);
uint64_t connect_get_le(const uint8_t *from, int bytes);
/* Finds a stream by id. */
bool connect_stream(pawl *p, uint32_t id, pawl_stream_info *out);
/* What a dead letter keeps of a value that is cut. Any log takes that much, with 64 KiB of headers
 * and a key. */
#define DEAD_VALUE_MAX 65536u
/* As pawl_commit(), or (not `durable`) pawl_commit_async() without a callback. Also ends a
 * transaction that the log can't take now, which these leave open. */
int connect_commit(pawl_tx *tx, bool durable, pawl_receipt *receipt);
/* A name for a sink or source: 1 to 64 bytes of those that are allowed. */
bool connect_name_ok(const char *name);
/* Puts a dead letter for r, with the headers that a processor's has, into tx. At most `value_max`
 * bytes of its value, and DEAD_VALUE_MAX where the log can't take more; a value that is cut has the
 * header pawl-length, with its whole length. */
int connect_dead_letter(pawl *p, pawl_tx *tx, uint32_t to, const char *who, const char *stream,
                        const pawl_record *r, const char *why, uint32_t value_max);

#endif
