/* SPDX-License-Identifier: Apache-2.0
 *
 * A log of 60 records, and a sink that delivers them to a target of fake_sink.h: what the tests of
 * the sinks' runtime share. Include <cmocka.h> first.
 */
#ifndef PAWL_TESTS_SINK_HELP_H
#define PAWL_TESTS_SINK_HELP_H

#include "tests/support/fake_sink.h"

#define COUNT 60u

enum { STABLE = 4 }; /* a kind of these tests: idempotent with stable batches */

struct fixture {
    char dir[64];
    pawl_options options;
    pawl *log;
    pawl_sink *sink;
    uint32_t in, dead;
    struct fake *target;
    uint64_t now_ns;
    pawl_sink_config config;
    int kind;
    bool position; /* the target has one, although its kind doesn't need it */
};

void open_log(struct fixture *f);
void add(struct fixture *f);
void close_all(struct fixture *f);
struct fixture *new_fixture(int kind);
void free_fixture(struct fixture *f);
/* Steps until nothing is left to do; time passes where it waits. Returns what the last step did. */
int drive(struct fixture *f);
pawl_flow_status status(struct fixture *f);
/* Appends records after the COUNT first. */
void put(struct fixture *f, uint32_t count);
/* All is delivered; `but`: refused. */
void all_there(struct fixture *f, uint64_t but, const char *when);
uint32_t dead_letters(struct fixture *f);
void no_decision_is_open(struct fixture *f, const char *when);

/* hooks.report, and what it was told. */
extern char reports[4096];
void note(void *arg, const char *name, int severity, const char *message);

/* hooks.on_point: the process ends at a visit of that point. */
extern struct killer {
    const char *point;
    int left;
} killer;
void kill_here(void *arg, const char *point);
/* A process that runs the sink and is killed at the point. */
void kill_at(struct fixture *f, const char *point);

#endif
