/* SPDX-License-Identifier: Apache-2.0
 *
 * format_time.h - what a processor that knows time keeps in its internal table (docs/format.md,
 * section 11): the pair of the watermarks, and the keys of timers.
 */
#ifndef PAWL_WAL_FORMAT_TIME_H
#define PAWL_WAL_FORMAT_TIME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wal/error.h"

#define WATERMARK_NONE INT64_MIN /* no time yet */
#define WATERMARK_INPUTS_MAX 64u

struct watermark_input {
    uint32_t stream;
    bool idle;
    int64_t time; /* its watermark */
};

struct watermark {
    int64_t combined; /* the combined watermark */
    int64_t clock;    /* highest reading of the clock, ns since 1970; WATERMARK_NONE: none yet */
    uint64_t late;    /* records that were late */
    uint32_t count;
    struct watermark_input in[WATERMARK_INPUTS_MAX];
};

/* Key of the watermarks' pair, and its value. */
#define WATERMARK_KEY "\0"
#define WATERMARK_KEY_LEN 1u
#define WATERMARK_HEAD 32u
#define WATERMARK_INPUT_SIZE 16u
#define WATERMARK_SIZE_MAX (WATERMARK_HEAD + WATERMARK_INPUTS_MAX * WATERMARK_INPUT_SIZE)
size_t watermark_encode(const struct watermark *w, uint8_t out[WATERMARK_SIZE_MAX]);
/* Errors: VERSION (a newer version wrote it), DAMAGED. */
PAWL_CHECKED int watermark_decode(struct watermark *w, const uint8_t *data, size_t len);

/* A timer's key begins with its kind and its time. The time is big-endian with its sign bit turned
 * over, so that timers of a kind lie in the order in which they fire. */
#define TIMER_KINDS 2
#define TIMER_HEAD 9u
uint8_t timer_kind_encode(int kind);
void timer_head_encode(uint8_t out[TIMER_HEAD], int kind, int64_t time);
int64_t timer_time_decode(const uint8_t head[TIMER_HEAD]);

#endif
