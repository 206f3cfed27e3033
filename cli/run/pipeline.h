/* SPDX-License-Identifier: Apache-2.0
 *
 * pipeline.h - a pipeline of a configuration, running: its log, its sources, sinks and processors,
 * and their threads.
 *
 * Threads: the main loop calls pipeline_*(); one thread of ours runs the processors (which may have
 * more, of the library's), one ends or reloads. Each source and sink has its own. `mutex` guards
 * the lists of sources and sinks against status while they are taken down, and `parts`.
 *
 * One failed part ends no other (PAWL-16): it is said and shown, the rest goes on, and the exit
 * code is 1 in the end. With `on_failure: end` the first failure ends the pipeline.
 */
#ifndef PAWL_CLI_PIPELINE_H
#define PAWL_CLI_PIPELINE_H

#include <jansson.h>
#include <pthread.h>
#include <stdatomic.h>

#include "cli/cli.h"
#include "cli/run/config.h"

enum pipeline_state { PIPELINE_NEW, PIPELINE_RUNNING, PIPELINE_ENDING, PIPELINE_ENDED };

/* A processor's failure, by the index of its flow; sources and sinks show theirs by themselves. */
typedef struct part_failure {
    struct pipeline *pipeline;
    pawl_processor *processor;
    bool failed;
    char why[512];
} part_failure;

/* The status socket, and which file it made. */
typedef struct run_socket {
    int fd;                 /* -1: there is none */
    uint64_t device, inode; /* inode 0: it made none */
} run_socket;

typedef struct pipeline {
    config *c;
    config *next; /* to reload */
    const cli_args *args;
    pawl *log;
    pawl_source **sources; /* in order of c's flows, as sinks */
    pawl_sink **sinks;
    pawl_processor **processors;
    size_t source_count, sink_count, processor_count;
    part_failure *parts; /* one for each flow of c */
    pthread_t runner, closer;
    bool runner_begun, closer_begun;
    _Atomic int run_ended, run_code; /* pawl_run() has returned, and what */
    _Atomic int draining;            /* pawl_run() drains: stopping it is all right */
    _Atomic int state;               /* enum pipeline_state */
    _Atomic int failed;
    _Atomic int log_failed; /* the log acknowledges nothing more */
    _Atomic int broken;     /* it couldn't be built again after a reload */
    _Atomic uint64_t drain_until_ns;
    _Atomic int reloading;
    uint64_t idle_since_ns;
    bool told_waiting; /* the sources have ended, and what is still waited for was said */
    char why[600];     /* of the first failure */
    pthread_mutex_t mutex;
    run_socket listener;
    int wake; /* an eventfd that the main loop waits on; its owner closes it */
} pipeline;

/* Opens the log, makes the streams, adds everything and starts it. CLI_OK, or an exit code after a
 * message; then nothing is left open. Where pipeline_tick() has something to notice, `wake` is made
 * readable. */
int pipeline_start(pipeline *p, config *c, const cli_args *a, int wake);
/* Begins to end it in a thread: sources first, then what is in the log goes through processors and
 * sinks, for at most the file's `drain`; or without `drain` only the batches at hand. */
void pipeline_end(pipeline *p, bool drain);
/* Begins to put `c` in the place of what runs, the log staying open. */
void pipeline_reload(pipeline *p, config *c);
/* Notices failures, drives the deadline. To be called when `wake` is readable, and some times a
 * second while the pipeline is ending or being reloaded. */
void pipeline_tick(pipeline *p);
/* Whether there is nothing to do any more: sources idle, ended or failed, processors and sinks at
 * the end of the log or failed. `ended_only`: idle sources don't count, and neither does a pipeline
 * without sources, so nothing can come any more. */
bool pipeline_idle(pipeline *p, bool ended_only);
/* Have all sources ended or failed, and is there one? Then pipeline_idle() is to be asked often. */
bool pipeline_sources_over(pipeline *p);
/* What it is doing. New reference. */
json_t *pipeline_status(pipeline *p);
/* After ENDED: joins threads, frees. Exit code. */
int pipeline_finish(pipeline *p);

/* output.c: messages of all threads, and the line on a terminal */
void run_say(int severity, const char *where, const char *name, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
void run_line(const char *text);
/* To the service manager, if there is one; "READY=1" and so on. */
void run_notify(const char *format, ...) __attribute__((format(printf, 1, 2)));
bool run_notifies(void); /* is there one? */
/* Microseconds between two signs of life that the service manager wants; 0: it doesn't. */
uint64_t run_watchdog_us(void);

/* socket.c: makes DIR/run.sock, where `pawl status` asks. fd -1: there is none, and a message says
 * so. */
run_socket run_socket_open(const char *dir, uint32_t mode);
/* Removes it, if what has its name is still it. */
void run_socket_close(const char *dir, run_socket *s);
/* Accepts a connection, and answers it. */
void run_socket_answer(int fd, json_t *status);
/* What the process that runs a pipeline on the log says; NULL: none does, or none that is listened
 * to, and a message says so. */
json_t *run_socket_ask(const char *dir);

#endif
