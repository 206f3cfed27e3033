/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/source_help.h"

#include <arpa/inet.h>
#include <sys/socket.h>

struct feed *feed_new(const char *type) {
    struct feed *f = calloc(1, sizeof *f);
    assert_non_null(f);
    const char *tmp = getenv("TMPDIR");
    snprintf(f->dir, sizeof f->dir, "%.40s/test_source.XXXXXX", tmp != NULL ? tmp : "/tmp");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->path, sizeof f->path, "%s/in", f->dir);
    f->type = type;
    f->options = (pawl_options)PAWL_OPTIONS_INIT;
    f->options.flags = PAWL_OPEN_CREATE;
    f->options.segment_size = 4u << 20;
    f->config = (pawl_source_config)PAWL_SOURCE_CONFIG_INIT;
    f->config.name = "src";
    return f;
}

void feed_set(struct feed *f, const char *name, const char *value) {
    pawl_setting *s = NULL;
    for (size_t i = 0; i < f->setting_count; i++)
        if (strcmp(f->settings[i].name, name) == 0)
            s = &f->settings[i];
    if (s == NULL) {
        assert_true(f->setting_count < 16);
        s = &f->settings[f->setting_count++];
        s->name = strdup(name);
    } else
        free((void *)(uintptr_t)s->value);
    s->value = strdup(value);
}

static void told(void *arg, const char *name, int severity, const char *message) {
    struct feed *f = arg;
    FILE *out = f->reports[0] != 0 ? fopen(f->reports, "a") : NULL;
    if (out != NULL) {
        fprintf(out, "%s: severity %d: %s\n", name, severity, message);
        fclose(out);
    }
    f->remarks += severity == 1;
    if (severity < 2)
        return;
    f->warnings++;
    snprintf(f->warning, sizeof f->warning, "%s", message);
}

void feed_begin(struct feed *f) {
    char log[80];
    pawl_error e;
    pawl_source_ops ops = PAWL_SOURCE_OPS_INIT;
    pawl_settings s = {.items = f->settings, .count = f->setting_count};
    snprintf(log, sizeof log, "%s/log", f->dir);
    if (pawl_open(log, &f->options, &f->log, &e) != 0)
        fail_msg("%s", e.message);
    int lines = pawl_stream_create(f->log, "lines", 1, &f->to);
    int dead = pawl_stream_create(f->log, "dead", 1, &f->dead);
    if ((lines != 0 && lines != PAWL_EXISTS) || (dead != 0 && dead != PAWL_EXISTS))
        fail_msg("creating the streams: %d, %d", lines, dead);
    if (pawl_source_make(f->type, &s, &ops, &e) != 0)
        fail_msg("%s", e.message);
    if (f->wrap != NULL)
        f->wrap(f, &ops);
    f->config.stream = f->to;
    if (f->config.on_poison == PAWL_ON_ERROR_DEAD_LETTER)
        f->config.dead_letter = f->dead;
    f->config.hooks.report = told;
    f->config.hooks.report_arg = f;
    if (pawl_source_add(f->log, &f->config, &ops, &f->source, &e) != 0)
        fail_msg("%s", e.message);
}

void feed_end(struct feed *f) {
    pawl_source_remove(f->source);
    f->source = NULL;
    assert_int_equal(pawl_close(f->log), 0);
    f->log = NULL;
}

void feed_free(struct feed *f) {
    char command[96];
    if (f->log != NULL)
        feed_end(f);
    snprintf(command, sizeof command, "rm -rf -- '%s'", f->dir);
    assert_int_equal(system(command), 0);
    for (size_t i = 0; i < f->setting_count; i++) {
        free((void *)(uintptr_t)f->settings[i].name);
        free((void *)(uintptr_t)f->settings[i].value);
    }
    free(f);
}

int feed_drive(struct feed *f) {
    int idle = 0, rc = 0;
    for (int i = 0; i < 1000000 && idle < 3; i++) {
        rc = pawl_source_step(f->source);
        if (rc < 0)
            return rc;
        idle = rc > 0 ? idle + 1 : 0;
    }
    assert_int_equal(idle, 3);
    return rc;
}

pawl_flow_status feed_status(struct feed *f) {
    pawl_flow_status s = PAWL_FLOW_STATUS_INIT;
    assert_int_equal(pawl_source_status(f->source, &s), 0);
    return s;
}

uint32_t feed_producers(struct feed *f) {
    pawl_producer_info p;
    uint32_t n = 0;
    while (pawl_producer_at(f->log, n, &p) == 0)
        n++;
    return n;
}

char *feed_text(struct feed *f, uint32_t stream, size_t *size) {
    pawl_reader *r;
    pawl_batch b;
    char *text = NULL;
    FILE *out = open_memstream(&text, size);
    assert_int_equal(pawl_sync(f->log), 0);
    assert_non_null(out);
    assert_int_equal(pawl_reader_open(f->log, stream, 0, 0, 0, &r), 0);
    while (pawl_read(r, 0, 0, &b) > 0)
        for (size_t i = 0; i < b.count; i++) {
            fwrite(b.records[i].value, 1, b.records[i].value_len, out);
            fputc('\n', out);
        }
    pawl_reader_close(r);
    assert_int_equal(fclose(out), 0);
    return text;
}

void feed_holds(struct feed *f, const char *text) {
    size_t n;
    char *got = feed_text(f, f->to, &n);
    if (n != strlen(text) || memcmp(got, text, n) != 0)
        fail_msg("it holds %zu bytes:\n%.2000s\ninstead of %zu:\n%.2000s", n, got, strlen(text),
                 text);
    free(got);
}

const char *feed_header(struct feed *f, uint32_t stream, uint64_t index, const char *name) {
    static char value[1024];
    pawl_reader *r;
    pawl_batch b;
    pawl_header h;
    value[0] = 0;
    assert_int_equal(pawl_sync(f->log), 0);
    assert_int_equal(pawl_reader_open(f->log, stream, 0, index, 0, &r), 0);
    if (pawl_read(r, 1, 0, &b) == 1)
        for (uint32_t i = 0; pawl_record_header(&b.records[0], i, &h) == 0; i++)
            if (h.name_len == strlen(name) && memcmp(h.name, name, h.name_len) == 0)
                snprintf(value, sizeof value, "%.*s", (int)h.value_len, (const char *)h.value);
    pawl_reader_close(r);
    return value;
}

void feed_came_from(struct feed *f, uint64_t index, const char *thing, uint64_t at,
                    const char *note) {
    pawl_outside_place place = PAWL_OUTSIDE_PLACE_INIT;
    assert_int_equal(pawl_sync(f->log), 0);
    assert_int_equal(pawl_explain_outside(f->log, f->to, 0, index, &place), 0);
    if (strcmp(place.thing, thing) != 0 || place.at != at || strstr(place.note, note) == NULL)
        fail_msg("record %llu is %llu of \"%s\" (%s), not %llu of \"%s\" (%s)",
                 (unsigned long long)index, (unsigned long long)place.at, place.thing, place.note,
                 (unsigned long long)at, thing, note);
}

void feed_audit(struct feed *f) {
    char log[80];
    pawl_check c = PAWL_CHECK_INIT;
    pawl_error e;
    snprintf(log, sizeof log, "%s/log", f->dir);
    feed_end(f);
    if (pawl_audit(log, &c, &e) != 0)
        fail_msg("audit: %s", e.message);
}

uint16_t feed_port(struct feed *f) {
    pawl_flow_status s = feed_status(f);
    const char *colon = strrchr(s.target, ':');
    assert_non_null(colon);
    return (uint16_t)atoi(colon + 1);
}

int dial_port(uint16_t port, int type) {
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

void cert_make(struct cert *c) {
    char command[300];
    strcpy(c->dir, "/tmp/test_cert.XXXXXX");
    assert_non_null(mkdtemp(c->dir));
    snprintf(c->file, sizeof c->file, "%s/cert.pem", c->dir);
    snprintf(command, sizeof command,
             "umask 077; cd %s && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 "
             "-nodes -days 2 -subj /CN=x -keyout key -out crt 2>/dev/null && cat crt key >cert.pem",
             c->dir);
    assert_int_equal(system(command), 0);
}

void cert_remove(const struct cert *c) {
    char command[96];
    snprintf(command, sizeof command, "rm -rf -- %s", c->dir);
    assert_int_equal(system(command), 0);
}

static void write_file(const char *path, const char *how, const char *text) {
    FILE *out = fopen(path, how);
    assert_non_null(out);
    assert_int_equal(fwrite(text, 1, strlen(text), out), strlen(text));
    assert_int_equal(fclose(out), 0);
}

void put_file(const char *path, const char *text) {
    write_file(path, "w", text);
}

void add_file(const char *path, const char *text) {
    write_file(path, "a", text);
}
