/* SPDX-License-Identifier: Apache-2.0
 *
 * model.h - the expected content of a log: an ordered list of commits. Shares nothing with the
 * library, not even a header.
 *
 * A log keeps a prefix of what was committed, in order, and at least what was acknowledged or
 * shown. So all that must be known of a recovered log is which prefix it holds; everything else
 * follows, and is compared.
 */
#ifndef PAWL_SIM_MODEL_H
#define PAWL_SIM_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MODEL_PARTS 3 /* in/0, in/1, out/0 */
#define MODEL_COMMITS 512
#define MODEL_RECORDS 3000
#define MODEL_FORGED 200 /* records with bytes that are given */
#define MODEL_FORGED_SIZE 1584u

/* Everything that can be read from a log, except the records. */
struct model_view {
    uint64_t streams, processors, producers;
    uint64_t end[MODEL_PARTS];
    uint64_t started;     /* the processor has positions */
    uint64_t position[2]; /* of the processor, in in/0 and in/1 */
    uint64_t sequence[2]; /* of the producers */
    uint64_t epoch[2];
    uint64_t retention, cap;
    /* id of a stream that is created and deleted; 0: it doesn't exist */
    uint64_t passing;
    uint64_t used;              /* the highest id of all streams so far */
    uint64_t decided, finished; /* how many decisions, and how many of them are finished */
};

struct model_place {
    int part;
    uint64_t offset;
};

struct model {
    int count;                                  /* commits submitted */
    int acknowledged;                           /* number of those that must be in the log */
    struct model_view after[MODEL_COMMITS + 1]; /* after[n]: the view after n commits */
    uint32_t id[MODEL_PARTS][MODEL_RECORDS];    /* of the record at an offset */
    /* and the number of its commit */
    uint16_t commit[MODEL_PARTS][MODEL_RECORDS];
    uint32_t next_id;
    /* by producer and sequence: the place of its record */
    struct model_place produced[2][MODEL_COMMITS + 1];
};

/* A record of the model: its id determines its bytes. Of a forged one they are kept, for all
 * models. */
struct model_record {
    uint8_t key[16];
    const uint8_t *value; /* static */
    uint32_t key_len, value_len;
    int64_t time;
};

void model_init(struct model *m);
/* Copies the parts in use. */
void model_copy(struct model *to, const struct model *from);
void model_make(uint32_t id, struct model_record *r);
bool model_matches(uint32_t id, const void *key, size_t key_len, const void *value,
                   size_t value_len, int64_t time);
uint64_t model_cookie(int producer, uint64_t sequence);

/* Adds a commit whose view equals the last one's; the caller changes the returned view and adds
 * records. */
struct model_view *model_submit(struct model *m);
uint32_t model_add_record(struct model *m, int part); /* to the last commit; its id */
/* the same with a value that is given; its time */
int64_t model_add_forged(struct model *m, int part, const void *value, uint32_t len);
/* removes the last commit: it was not appended */
void model_take_back(struct model *m);
void model_acknowledge(struct model *m, int count); /* the number of commits known to be durable */
static inline const struct model_view *model_last(const struct model *m) {
    return &m->after[m->count];
}

/* The log was recovered with `count` commits: the later ones are removed. */
void model_cut(struct model *m, int count);

#endif
