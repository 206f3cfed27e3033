/* SPDX-License-Identifier: Apache-2.0
 *
 * flow.c - see flow.h.
 */
#include "connectors/runtime/flow.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* ---- life */

void flow_init(struct flow *f, pawl *log, const char *name, const char *type,
               const pawl_hooks *hooks) {
    f->log = log;
    f->hooks = *hooks;
    f->wake_fd = -1;
    f->jitter = connect_seed(hooks);
    snprintf(f->name, sizeof f->name, "%s", name);
    snprintf(f->type, sizeof f->type, "%s", type != NULL ? type : "");
    pthread_mutex_init(&f->mutex, NULL);
}

void flow_backoff(struct flow *f, uint32_t first_ms, uint32_t most_ms) {
    f->backoff_ms = first_ms != 0 ? first_ms : 100;
    f->backoff_max_ms = most_ms != 0 ? most_ms : 30000;
}

void flow_free(struct flow *f) {
    if (f->wake_fd >= 0)
        close(f->wake_fd);
    pthread_mutex_destroy(&f->mutex);
}

/* ---- the thread */

/* The threads' clock, whatever clock the hooks have for the pauses. */
static uint64_t real_now(void) {
    return connect_now(&(pawl_hooks){0});
}

int flow_start(struct flow *f, void *(*main)(void *), void *arg) {
    if (f->running)
        return PAWL_BUSY;
    if (f->status.flow == PAWL_FLOW_FAILED)
        return PAWL_STATE;
    if (f->wake_fd < 0)
        f->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    atomic_store(&f->stop, 0);
    if (f->wake_fd < 0 || pthread_create(&f->thread, NULL, main, arg) != 0)
        return PAWL_MEMORY;
    f->running = true;
    return 0;
}

bool flow_stop(struct flow *f, uint32_t drain_ms) {
    if (!f->running)
        return false;
    atomic_store(&f->drain_until_ns,
                 drain_ms == 0 ? 0 : real_now() + (uint64_t)drain_ms * 1000000u);
    atomic_store(&f->stop, 1);
    (void)!write(f->wake_fd, &(uint64_t){1}, sizeof(uint64_t));
    pthread_join(f->thread, NULL);
    f->running = false;
    return true;
}

bool flow_stopping(const struct flow *f) {
    return atomic_load(&f->stop) != 0;
}

bool flow_drained(const struct flow *f) {
    return real_now() >= atomic_load(&f->drain_until_ns);
}

void flow_wait(struct flow *f, int fd, int ms) {
    struct pollfd p[2] = {{f->wake_fd, POLLIN, 0}, {fd, POLLIN, 0}};
    uint64_t rung;
    if (poll(p, 2, ms) > 0 && p[0].revents != 0)
        (void)!read(f->wake_fd, &rung, sizeof rung); /* `stop` says the same from now on */
}

int flow_retry_ms(const struct flow *f) {
    return connect_wait_ms(f->retry_at_ns, flow_now(f));
}

/* ---- status and reports */

uint64_t flow_now(const struct flow *f) {
    return connect_now(&f->hooks);
}

void flow_point(const struct flow *f, const char *point) {
    connect_point(&f->hooks, point);
}

static void tell(const struct flow *f, int severity, const char *text) {
    if (f->hooks.report != NULL)
        f->hooks.report(f->hooks.report_arg, f->name, severity, text);
}

void flow_report_args(struct flow *f, int severity, const char *format, va_list args) {
    char text[512];
    connect_text(text, sizeof text, format, args);
    pthread_mutex_lock(&f->mutex);
    memcpy(f->status.message, text, sizeof text);
    pthread_mutex_unlock(&f->mutex);
    tell(f, severity, text);
}

void flow_report(struct flow *f, int severity, const char *format, ...) {
    va_list args;
    va_start(args, format);
    flow_report_args(f, severity, format, args);
    va_end(args);
}

void flow_report_paced(struct flow *f, struct flow_pace *p, int severity, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(p->last, sizeof p->last, format, args);
    va_end(args);
    if (connect_pace_one(&p->pace, flow_now(f)))
        flow_report(f, severity, "%s", p->last);
}

void flow_report_held(struct flow *f, struct flow_pace *p, bool all) {
    uint64_t held = connect_pace_held(&p->pace, flow_now(f), all);
    if (held == 1)
        flow_report(f, 2, "%s", p->last);
    else if (held != 0)
        flow_report(f, 2, "%s (and %llu more like it before)", p->last,
                    (unsigned long long)held - 1);
}

int flow_held_ms(const struct flow *f, const struct flow_pace *p) {
    uint64_t now = flow_now(f);
    if (p->pace.held == 0)
        return -1;
    return p->pace.next_ns > now ? connect_wait_ms(p->pace.next_ns, now) : 1;
}

void flow_set(struct flow *f, int state, int code) {
    pthread_mutex_lock(&f->mutex);
    f->status.flow = state;
    f->status.code = code;
    pthread_mutex_unlock(&f->mutex);
}

/* The status says that it has failed before the report does: whoever is woken by the report may
 * look at the status only once. */
int flow_fail(struct flow *f, int code, const char *text) {
    pawl_error e;
    pawl_last_error(&e);
    if (text == NULL)
        text = e.message[0] != 0 ? e.message : pawl_strerror(code);
    f->opened = false;
    char shown[sizeof f->status.message];
    connect_shown(shown, sizeof shown, text);
    pthread_mutex_lock(&f->mutex);
    memcpy(f->status.message, shown, sizeof shown);
    f->status.flow = PAWL_FLOW_FAILED;
    f->status.code = code;
    pthread_mutex_unlock(&f->mutex);
    tell(f, 3, shown);
    return code;
}

int flow_retry(struct flow *f, const char *text) {
    uint32_t pause = connect_pause(++f->attempts, f->backoff_ms, f->backoff_max_ms, &f->jitter);
    f->retry_at_ns = flow_now(f) + (uint64_t)pause * 1000000u;
    pthread_mutex_lock(&f->mutex);
    f->status.flow = PAWL_FLOW_WAITING;
    f->status.attempts = f->attempts;
    f->status.retries++;
    f->status_retry_at_ns = f->retry_at_ns;
    pthread_mutex_unlock(&f->mutex);
    bool known = strncmp(f->retry_text, text, sizeof f->retry_text - 1) == 0;
    snprintf(f->retry_text, sizeof f->retry_text, "%s", text);
    if (!known)
        flow_report(f, 1, "%s; it is tried again, the first time in %u ms", text, pause);
    return STEP_IDLE;
}

void flow_works(struct flow *f) {
    uint32_t attempts = f->attempts;
    f->attempts = 0;
    if (f->retry_text[0] == 0)
        return;
    f->retry_text[0] = 0;
    pthread_mutex_lock(&f->mutex);
    f->status.attempts = 0;
    pthread_mutex_unlock(&f->mutex);
    flow_report(f, 1, "works again; %u attempt%s had failed", attempts, attempts == 1 ? "" : "s");
}

int flow_answer(struct flow *f, const char *call, int outcome, const pawl_fault *fault) {
    char text[480];
    f->opened = false;
    if (outcome == PAWL_RETRY || outcome == PAWL_FATAL)
        snprintf(text, sizeof text, "%s: %s", call, fault->message);
    else
        snprintf(text, sizeof text, "%s answered %d, which it may not: %.300s", call, outcome,
                 fault->message);
    return outcome == PAWL_RETRY ? flow_retry(f, text) : flow_fail(f, PAWL_PROCESSOR, text);
}

int flow_log_answer(struct flow *f, int code) {
    if (code == PAWL_FULL || code == PAWL_MEMORY || code == PAWL_STOPPED)
        return flow_retry(f, pawl_strerror(code));
    return flow_fail(f, code, NULL);
}

void flow_arrived(struct flow *f, const pawl_flow_status *more) {
    flow_works(f);
    pthread_mutex_lock(&f->mutex);
    f->status.records += more->records;
    f->status.redelivered += more->redelivered;
    f->status.poisoned += more->poisoned;
    f->status.bytes += more->bytes;
    f->status.batches++;
    f->status.attempts = 0;
    f->status.last_ns = connect_wall_ns();
    pthread_mutex_unlock(&f->mutex);
}

void flow_status(struct flow *f, pawl_flow_status *out) {
    size_t size = out->struct_size;
    pthread_mutex_lock(&f->mutex);
    *out = f->status;
    uint64_t at = f->status_retry_at_ns;
    pthread_mutex_unlock(&f->mutex);
    uint64_t now = flow_now(f);
    out->struct_size = size;
    out->retry_in_ms =
        out->flow == PAWL_FLOW_WAITING && at > now ? (uint32_t)((at - now) / 1000000u) : 0;
    snprintf(out->name, sizeof out->name, "%s", f->name);
    snprintf(out->type, sizeof out->type, "%s", f->type);
}

void flow_target(void (*status)(void *self, char *text, size_t size), void *self,
                 pawl_flow_status *out) {
    char text[sizeof out->target] = "";
    status(self, text, sizeof text);
    text[sizeof text - 1] = 0;
    connect_shown(out->target, sizeof out->target, text);
}
