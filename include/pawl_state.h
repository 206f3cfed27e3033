/* SPDX-License-Identifier: Apache-2.0
 *
 * pawl_state.h - keyed state: tables from keys to values, each owned by a processor.
 *
 * It is in libpawl, as pawl.h is, whose conventions hold here too. What a transaction changes in
 * tables is in its frame, beside its output and position, so none of the three is ever ahead of the
 * others.
 *
 * LIMITS (PAWL_LIMIT where nothing else is said)
 *   tables      1,024 at a time, with 1 to 1,024 partitions each, and 16,384 together
 *   keys        1 to 8,192 bytes
 *   values      4 MiB, and at most what a record may have (PAWL_TOO_LARGE)
 */
#ifndef PAWL_STATE_H
#define PAWL_STATE_H

#include "pawl.h"

#ifdef __cplusplus
extern "C" {
#endif

#define PAWL_STATE_KEY_MAX 8192u
#define PAWL_STATE_VALUE_MAX (4u << 20)

/* ---------------------------------------------------------------- tables */

/* Flags of a table. */
enum pawl_table_flags {
    /* a partition takes any key, not only those that a record with that key would go to */
    PAWL_TABLE_LOCAL = 1
};

/* A table to be made. */
typedef struct pawl_table_config {
    size_t struct_size;
    const char *name;    /* as a stream's */
    const char *owner;   /* the name of a processor, which must be registered */
    uint32_t partitions; /* 1 to 1024: partition p belongs to the owner's input partition p */
    uint32_t version;    /* of the state that it holds, as the program counts */
    uint32_t flags;      /* enum pawl_table_flags */
    uint64_t ttl_ms;     /* a pair goes this long after it was put; 0: it stays */
} pawl_table_config;
#define PAWL_TABLE_CONFIG_INIT \
    { sizeof(pawl_table_config), 0, 0, 0, 0, 0, 0 }

/* What is known of a table. */
typedef struct pawl_table_info {
    size_t struct_size;
    uint32_t id;    /* from 1; never reused */
    uint32_t owner; /* id of a processor; 0: its creation was lost to damage */
    uint32_t partitions, version, flags;
    uint32_t lost; /* partitions of which damage has taken what they hold: PAWL_LOST */
    uint64_t ttl_ms;
    uint64_t pairs, bytes; /* live ones, and the bytes of their keys and values */
    char name[128];
    char owner_name[128];
} pawl_table_info;
#define PAWL_TABLE_INFO_INIT \
    { \
        sizeof(pawl_table_info), 0, 0, 0, 0, 0, 0, 0, 0, 0, {0}, { \
            0 \
        } \
    }

/* Creates a table; durable on return. `id` may be NULL. The pairs that it is going to hold are the
 * owner's: they are changed in the transactions that move its positions, and the owner can't be
 * forgotten while it has a table.
 * Errors: INVALID (name, partitions, flags), EXISTS (then *id is the existing one's), NOT_FOUND (no
 * such processor), UNSUPPORTED (pawl.h, Structs), LIMIT, FULL, IO, READ_ONLY, FORKED. */
PAWL_API PAWL_CHECKED int pawl_table_create(pawl *p, const pawl_table_config *c, uint32_t *id);
/* Deletes a table; durable on return. What it held is never seen again: a new table of this name
 * gets a new id and is empty. Transactions that change it get NOT_FOUND.
 * Errors: NOT_FOUND, FULL, IO, READ_ONLY, FORKED. */
PAWL_API PAWL_CHECKED int pawl_table_delete(pawl *p, const char *name);
/* A table by its name, by its id, or by its place in a list of all (`index` from 0), as of the
 * newest commit of this process; of a reader: as of the newest durable one. Begin with
 * PAWL_TABLE_INFO_INIT.
 * Errors: NOT_FOUND, INVALID, IO, DAMAGED, FORKED. */
PAWL_API PAWL_CHECKED int pawl_table_find(pawl *p, const char *name, pawl_table_info *out);
PAWL_API PAWL_CHECKED int pawl_table_get_info(pawl *p, uint32_t id, pawl_table_info *out);
PAWL_API PAWL_CHECKED int pawl_table_at(pawl *p, uint32_t index, pawl_table_info *out);

#ifdef __cplusplus
}
#endif
#endif
