/* SPDX-License-Identifier: Apache-2.0
 *
 * fold.h - what a window knows of its records: count, sum, minimum and so on. Two of them can be
 * put together, and the order of records and of parts doesn't matter: sums are exact, and first and
 * last go by event time, then by input and offset.
 */
#ifndef PAWL_PROCESSORS_FOLD_H
#define PAWL_PROCESSORS_FOLD_H

#include "connectors/text/buffer.h"
#include "processors/exact.h"

/* What is computed, as bits. */
enum fold_what {
    FOLD_COUNT = 1 << 0,
    FOLD_SUM = 1 << 1,
    FOLD_MEAN = 1 << 2,
    FOLD_MIN = 1 << 3,
    FOLD_MAX = 1 << 4,
    FOLD_FIRST = 1 << 5,
    FOLD_LAST = 1 << 6,
};
#define FOLD_NAMES 7
extern const char *const fold_names[FOLD_NAMES]; /* in the order of the bits */
/* Those for which the value must be a number. */
#define FOLD_NUMBERS (FOLD_SUM | FOLD_MEAN | FOLD_MIN | FOLD_MAX)
/* "count,sum": the bits, or 0 if a name isn't known or comes twice. */
uint32_t fold_parse(const char *list);

/* The place of a record among those of the partition number. */
struct fold_place {
    int64_t time;
    uint32_t stream;
    uint64_t offset;
};
struct fold_end { /* the first or last value; its bytes belong to somebody else */
    struct fold_place at;
    const char *bytes;
    uint32_t len;
    bool set;
};

typedef struct fold {
    uint32_t what;
    uint64_t count, values; /* records; those that had a value */
    exact sum;              /* with SUM or MEAN */
    number min, max;
    struct fold_end first, last;
} fold;

/* The value of a record; bytes NULL: it has none. */
struct fold_value {
    struct fold_place at;
    const char *bytes;
    uint32_t len;
    number n; /* if what is computed needs numbers */
};

void fold_init(fold *f, uint32_t what);
void fold_add(fold *f, const struct fold_value *v);
void fold_merge(fold *f, const fold *other);
/* Appends its bytes; they are the same for the same records. False: the allocation failed. */
bool fold_encode(const fold *f, struct buffer *out);
/* The values of first and last stay in `data`. False: it isn't well formed. */
bool fold_decode(fold *f, uint32_t what, const char *data, size_t len);
/* Appends its results as members of a JSON object: "count":3,"sum":6. What has no value is null. */
bool fold_print(const fold *f, struct buffer *out);

#endif
