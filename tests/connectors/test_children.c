/* SPDX-License-Identifier: Apache-2.0
 *
 * What a program gets of ours: the processor exec, the sink exec and `pawl pipe` run one that
 * prints it. This process has secrets in its environment, the service manager's variables, open
 * descriptors, blocked and ignored signals, and a PATH with other programs in it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pawl_connect.h"
#include "tests/support/skip.h"

#define CHILD PAWL_BUILD_DIR "/tests/prog_child"
#define LEAK 77

static char dir[] = "/tmp/test_children.XXXXXX";

/* ---- what this process has, and no program may get */

static int unsound(void **state) {
    sigset_t some;
    (void)state;
    assert_non_null(mkdtemp(dir));
    assert_int_equal(chmod(dir, 0755), 0);
    assert_int_equal(chdir(dir), 0);
    assert_int_equal(mkdir("bin", 0755), 0);
    /* others' programs of these names, in the caller's PATH and in the working directory */
    assert_int_equal(system("printf '#!/bin/sh\\necho wrong\\n' >tool; chmod 755 tool; "
                            "cp tool cat; cp tool bin/cat; cp tool sh; "
                            "printf '#!/bin/sh\\necho right\\n' >bin/tool; chmod 755 bin/tool"),
                     0);
    assert_int_equal(clearenv(), 0);
    setenv("HOME", "/home/somebody", 1);
    setenv("LANG", "C", 1);
    setenv("LC_TIME", "C", 1);
    setenv("TZ", "UTC", 1);
    setenv("TMPDIR", dir, 1);
    setenv("PATH", ".:bin:/usr/bin:/bin", 1);
    setenv("NOTIFY_SOCKET", "/run/systemd/notify", 1);
    setenv("WATCHDOG_USEC", "1000000", 1);
    setenv("LISTEN_FDS", "1", 1);
    setenv("LISTEN_PID", "1", 1);
    setenv("PGPASSWORD", "secret", 1);
    setenv("LD_LIBRARY_PATH", "/nowhere", 1);
    setenv("PAWL_COLOUR", "red", 1);
    int fd = open("/dev/null", O_RDONLY); /* without close-on-exec */
    assert_int_equal(dup2(fd, LEAK), LEAK);
    signal(SIGHUP, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&some);
    sigaddset(&some, SIGTERM);
    sigaddset(&some, SIGUSR2);
    assert_int_equal(sigprocmask(SIG_BLOCK, &some, NULL), 0);
    return 0;
}

static int clean(void **state) {
    char command[100];
    (void)state;
    assert_int_equal(chdir("/"), 0);
    snprintf(command, sizeof command, "/bin/rm -rf %s", dir);
    return system(command);
}

/* ---- a run */

struct run {
    pawl *log;
    uint32_t in, out;
    char got[8192]; /* what the program printed */
};

static void begin(struct run *r) {
    pawl_options o = PAWL_OPTIONS_INIT;
    pawl_error e;
    *r = (struct run){0};
    assert_int_equal(system("/bin/rm -rf log"), 0);
    o.flags = PAWL_OPEN_CREATE;
    o.segment_size = 1u << 20;
    if (pawl_open("log", &o, &r->log, &e) != 0)
        fail_msg("%s", e.message);
    assert_int_equal(pawl_stream_create(r->log, "in", 1, &r->in), 0);
    assert_int_equal(pawl_stream_create(r->log, "out", 1, &r->out), 0);
    pawl_record record = {.value = "one", .value_len = 3};
    assert_int_equal(pawl_append(r->log, r->in, 0, &record, NULL), 0);
}

static void take_output(struct run *r) {
    pawl_reader *reader;
    pawl_batch batch;
    assert_int_equal(pawl_reader_open(r->log, r->out, 0, 0, 0, &reader), 0);
    while (pawl_read(reader, 100, 0, &batch) > 0)
        for (size_t i = 0; i < batch.count; i++) {
            size_t n = strlen(r->got);
            snprintf(r->got + n, sizeof r->got - n, "%.*s\n", (int)batch.records[i].value_len,
                     (const char *)batch.records[i].value);
        }
    pawl_reader_close(reader);
}

/* The processor, or the sink, whose program writes into the file `got`. */
static int run_it(struct run *r, bool sink, const pawl_setting *given, size_t count,
                  pawl_error *e) {
    pawl_setting s[16];
    int rc;
    memcpy(s, given, count * sizeof *s);
    if (sink) {
        pawl_sink_ops ops = PAWL_SINK_OPS_INIT;
        pawl_sink_config c = PAWL_SINK_CONFIG_INIT;
        pawl_sink *k;
        c.name = "k", c.inputs = &r->in, c.input_count = 1;
        rc = pawl_sink_make("exec", &(pawl_settings){.items = s, .count = count}, &ops, e);
        if (rc < 0)
            return rc;
        assert_int_equal(pawl_sink_add(r->log, &c, &ops, &k, e), 0);
        for (int i = 0; i < 50 && rc >= 0; i++)
            rc = pawl_sink_step(k);
        pawl_sink_remove(k);
        return rc < 0 ? rc : 0;
    }
    pawl_processor_ops ops = PAWL_PROCESSOR_OPS_INIT;
    pawl_processor_config c = PAWL_PROCESSOR_INIT;
    pawl_processor *p;
    s[count++] = (pawl_setting){"to", "out", 0};
    c.name = "p", c.inputs = &r->in, c.input_count = 1;
    rc = pawl_processor_make("exec", &(pawl_settings){.items = s, .count = count}, &ops, e);
    if (rc < 0)
        return rc;
    assert_int_equal(pawl_processor_attach(r->log, &c, &ops, &p, e), 0);
    rc = pawl_run(r->log, 0, PAWL_RUN_UNTIL_IDLE);
    if (rc < 0)
        pawl_last_error(e);
    pawl_processor_remove(p);
    ops.destroy(ops.self);
    take_output(r);
    return rc;
}

static void has(const char *got, const char *line, const char *label) {
    size_t n = strlen(line);
    for (const char *at = got; (at = strstr(at, line)) != NULL; at++)
        if ((at == got || at[-1] == '\n') && (at[n] == '\n' || at[n] == 0))
            return;
    fail_msg("%s: not \"%s\", but:\n%s", label, line, got);
}

#define MOST 5
static const struct {
    const char *label;
    bool root; /* only root can do it */
    pawl_setting given[MOST];
    const char *lines[10];
} cases[] = {
    {"nothing is set",
     false,
     {{0}},
     {"environment HOME LANG LC_TIME PATH PAWL_FENCE PAWL_FROM PAWL_PARTITION PAWL_STREAM PAWL_TO "
      "TMPDIR TZ",
      "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "blocked 0", "ignored 0",
      "leader 1 1", "gain 1", "parent 9", "core 0 0", "ambient 0", "SECRET=(not set)"}},
    {"a variable is passed, one is set, one isn't there",
     false,
     {{"environment.0", "PGPASSWORD", 1},
      {"environment.1", "SECRET=a b=c", 1},
      {"environment.2", "NOT_THERE", 1},
      {"environment.3", "TZ=", 1}},
     {"environment HOME LANG LC_TIME PATH PAWL_FENCE PAWL_FROM PAWL_PARTITION PAWL_STREAM PAWL_TO "
      "PGPASSWORD SECRET TMPDIR TZ",
      "SECRET=a b=c", "TZ="}},
    {"all are passed, but the manager's",
     false,
     {{"environment.0", "*", 1}, {"environment.1", "TZ=CET", 1}},
     {"environment HOME LANG LC_TIME LD_LIBRARY_PATH PATH PAWL_COLOUR PAWL_FENCE PAWL_FROM "
      "PAWL_PARTITION PAWL_STREAM PAWL_TO PGPASSWORD TMPDIR TZ",
      "PATH=.:bin:/usr/bin:/bin", "TZ=CET"}},
    {"limits",
     false,
     {{"limits.memory", "1000T", 1}, /* the sanitizers need more than a terabyte */
      {"limits.files", "32", 1},
      {"limits.file_size", "5M", 1},
      {"limits.cpu", "90s", 1},
      {"limits.processes", "4000", 1}},
     {"memory 1099511627776000 1099511627776000", "files 32 32", "file_size 5242880 5242880",
      "cpu 90 90", "processes 4000 4000", "core 0 0"}},
    {"it may gain privileges", false, {{"new_privileges", "true", 1}}, {"gain 0"}},
    {"another user",
     true,
     {{"user", "nobody", 1}},
     {"user 65534 65534", "group 65534 65534", "groups 65534", "parent 9", "gain 1", "USER=nobody",
      "HOME=/nonexistent", "leader 1 1"}},
    {"another user by number, another group",
     true,
     {{"user", "65534", 1}, {"group", "12345", 1}},
     {"user 65534 65534", "group 12345 12345", "groups 12345", "parent 9"}},
    {"another group", true, {{"group", "daemon", 1}}, {"user 0 0", "group 1 1", "groups 1"}},
};

static void everything(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct run r;
        pawl_error e;
        pawl_setting s[16] = {{"command.0", CHILD, 1},    {"command.1", "PATH", 1},
                              {"command.2", "SECRET", 1}, {"command.3", "TZ", 1},
                              {"command.4", "USER", 1},   {"command.5", "HOME", 1}};
        size_t n = 6;
        if (cases[i].root && geteuid() != 0) {
            print_message("SKIPPED: %s: only root can do it\n", cases[i].label);
            continue;
        }
        for (size_t k = 0; k < MOST && cases[i].given[k].name != NULL; k++)
            s[n++] = cases[i].given[k];
        begin(&r);
        if (run_it(&r, false, s, n, &e) != 0)
            fail_msg("%s: %s", cases[i].label, e.message);
        for (size_t k = 0; k < 10 && cases[i].lines[k] != NULL; k++)
            has(r.got, cases[i].lines[k], cases[i].label);
        const char *fds = strstr(r.got, "descriptors ");
        assert_non_null(fds); /* standard input, output and error, and the fence's lock */
        int count = 0, fd, taken;
        for (fds += 11; sscanf(fds, " %d%n", &fd, &taken) == 1; fds += taken, count++)
            if (fd == LEAK)
                fail_msg("%s: it has our descriptor %d", cases[i].label, fd);
        assert_true(count == 3 || count == 4);
        assert_int_equal(pawl_close(r.log), 0);
    }
}

/* The sink starts its program in the same way. */
static void the_sink_too(void **state) {
    (void)state;
    struct run r;
    pawl_error e;
    pawl_setting s[] = {{"command", CHILD " SECRET >got", 1}, {"environment.0", "SECRET=told", 2}};
    begin(&r);
    assert_int_equal(run_it(&r, true, s, 2, &e), 0);
    int fd = open("got", O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0 && read(fd, r.got, sizeof r.got - 1) > 0);
    close(fd);
    has(r.got,
        "environment HOME LANG LC_TIME PATH PAWL_BATCH PAWL_FENCE PAWL_FROM PAWL_PARTITION "
        "PAWL_REDELIVERY PAWL_STREAM PAWL_TO PWD SECRET TMPDIR TZ", /* PWD: the shell's own */
        "the sink");
    has(r.got, "SECRET=told", "the sink");
    has(r.got, "gain 1", "the sink");
    assert_null(strstr(r.got, " 77"));
    assert_int_equal(pawl_close(r.log), 0);
}

/* Where the program of a list is looked for. */
static void stated_path(void **state) {
    (void)state;
    static const struct {
        const char *name, *path;
        const char *got; /* NULL: it can't be run */
    } tools[] = {
        {"cat", NULL, "one\n"},       /* not ./cat, nor bin/cat */
        {"tool", NULL, NULL},         /* the caller's PATH doesn't count */
        {"tool", "PATH", NULL},       /* its relative directories never do */
        {"tool", "PATH=.:bin", NULL}, /* nor those that are set */
        {"./tool", NULL, "wrong\n"},  /* a path is a path */
        {"tool", "PATH=%s/bin", "right\n"},
        {"tool", "PATH=:%s/none:%s/bin", "right\n"},
    };
    for (size_t i = 0; i < sizeof tools / sizeof tools[0]; i++) {
        struct run r;
        pawl_error e = {0};
        char path[200] = "";
        if (tools[i].path != NULL)
            snprintf(path, sizeof path, tools[i].path, dir, dir); /* NOLINT: from the table */
        pawl_setting s[] = {{"command.0", tools[i].name, 1}, {"environment.0", path, 2}};
        begin(&r);
        int rc = run_it(&r, false, s, tools[i].path != NULL ? 2 : 1, &e);
        if ((rc == 0) != (tools[i].got != NULL))
            fail_msg("%s with %s: %d %s", tools[i].name, path, rc, e.message);
        assert_string_equal(r.got, tools[i].got != NULL ? tools[i].got : "");
        if (tools[i].got == NULL)
            assert_non_null(strstr(e.message, "it is in no directory of its PATH"));
        assert_int_equal(pawl_close(r.log), 0);
    }
}

static void refused(void **state) {
    (void)state;
    static const pawl_setting wrong[] = {
        {"environment.0", "NOTIFY_SOCKET", 1},
        {"environment.0", "NOTIFY_SOCKET=/x", 1},
        {"environment.0", "LISTEN_FDS=3", 1},
        {"environment.0", "PAWL_FENCE=x", 1},
        {"environment.0", "A B", 1},
        {"environment.0", "1A=x", 1},
        {"environment.0", "", 1},
        {"environment.0", "=x", 1},
        {"environment.0", "**", 1},
        {"user", "no such user", 1},
        {"group", "no such group", 1},
        {"limits.memory", "much", 1},
        {"limits.tea", "1", 1},
        {"new_privileges", "yes", 1},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        pawl_setting s[] = {{"command", "true", 1}, wrong[i]};
        pawl_sink_ops ops = PAWL_SINK_OPS_INIT;
        pawl_error e;
        int rc = pawl_sink_make("exec", &(pawl_settings){.items = s, .count = 2}, &ops, &e);
        if (rc != PAWL_INVALID)
            fail_msg("%s %s: %d", wrong[i].name, wrong[i].value, rc);
    }
}

/* A person's own environment, at the command line; but not what the manager has for pawl. */
static void pipe_command(void **state) {
    (void)state;
    struct run r;
    char command[600];
    begin(&r);
    assert_int_equal(pawl_close(r.log), 0);
    snprintf(command, sizeof command,
             PAWL_BUILD_DIR "/pawl pipe log --name p --from in --to out -- " CHILD
                            " PGPASSWORD 2>/dev/null");
    assert_int_equal(system(command), 0);
    pawl_options o = PAWL_OPTIONS_INIT;
    assert_int_equal(pawl_open("log", &o, &r.log, NULL), 0);
    take_output(&r);
    has(r.got, "PGPASSWORD=secret", "pawl pipe");
    has(r.got, "gain 1", "pawl pipe");
    assert_null(strstr(r.got, "NOTIFY_SOCKET"));
    assert_null(strstr(r.got, "WATCHDOG_USEC"));
    assert_null(strstr(r.got, "LISTEN_"));
    assert_int_equal(pawl_close(r.log), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything), cmocka_unit_test(the_sink_too), cmocka_unit_test(stated_path),
        cmocka_unit_test(refused),    cmocka_unit_test(pipe_command),
    };
    return cmocka_run_group_tests(tests, unsound, clean);
}
