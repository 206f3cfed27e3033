/* SPDX-License-Identifier: Apache-2.0
 *
 * Before a batch is given to a program again, everything that an earlier run started for it has
 * ended (PAWL-15). For each way in which a program can outlive pawl: it is started, says so, and
 * waits for a gate before it has its effect; pawl is killed; the next incarnation delivers. Then
 * the gate opens, and each record must have had its effect once.
 *
 * The programs are this one, run with --program CASE.
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

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "connectors/exec/fence.h"
#include "pawl_connect.h"
#include "tests/support/skip.h"

#define COUNT 10u

static char self[4096];

/* ---- the programs */

static void pause_ms(unsigned ms) {
    (void)usleep(ms * 1000);
}

static void append(const char *file, const char *text, size_t size) {
    int fd = open(file, O_WRONLY | O_APPEND | O_CREAT, 0666);
    if (fd < 0 || write(fd, text, size) != (ssize_t)size)
        _exit(9);
    close(fd);
}

/* Says that it runs, waits for the gate, has its effect. */
static void effect(const char *input, size_t size) {
    char pid[16];
    append("pids", pid, (size_t)snprintf(pid, sizeof pid, "%ld\n", (long)getpid()));
    for (int i = 0; i < 15000 && access("gate", F_OK) != 0; i++) /* a failed test opens none */
        pause_ms(2);
    append("effects", input, size);
}

static void close_all(void) {
    struct rlimit l;
    getrlimit(RLIMIT_NOFILE, &l);
    for (int fd = 0; fd < (int)(l.rlim_cur < 4096 ? l.rlim_cur : 4096); fd++)
        close(fd);
}

static _Noreturn void wait_for_ever(void) {
    for (;;)
        pause();
}

static int program(const char *how) {
    char input[4096];
    ssize_t n, size = 0;
    while ((n = read(STDIN_FILENO, input + size, sizeof input - (size_t)size)) > 0)
        size += n;
    bool on_purpose = strcmp(how, "left on purpose") == 0, fails = strcmp(how, "fails") == 0;
    if (strcmp(how, "ignores SIGTERM") == 0)
        signal(SIGTERM, SIG_IGN);
    if (strcmp(how, "stopped") == 0 && fork() == 0) {
        char pid[16];
        append("pids", pid, (size_t)snprintf(pid, sizeof pid, "%ld\n", (long)getpid()));
        raise(SIGSTOP);
        append("effects", input, (size_t)size);
        _exit(0);
    } else if (strcmp(how, "stopped") == 0) {
        wait_for_ever();
    }
    bool forks = strcmp(how, "grandchild") == 0 || strcmp(how, "daemon") == 0 ||
                 strcmp(how, "daemon without descriptors") == 0 ||
                 strcmp(how, "daemon without environment") == 0 || on_purpose || fails;
    if (forks && fork() != 0) {
        if (!on_purpose && !fails)
            wait_for_ever();
        while (access("pids", F_OK) != 0)
            pause_ms(2);
        if (on_purpose)
            append("effects", input, (size_t)size);
        return fails ? 1 : 0;
    }
    if (forks && strcmp(how, "grandchild") != 0) {
        setsid();
        if (fork() != 0)
            _exit(0);
    }
    if (strcmp(how, "daemon without descriptors") == 0)
        close_all();
    if (strcmp(how, "daemon without environment") == 0) {
        input[size] = 0;
        char *argv[] = {self, (char[]){"--effect"}, input, NULL}, *none[] = {NULL};
        execve(self, argv, none);
        _exit(9);
    }
    effect(input, on_purpose ? 0 : (size_t)size);
    return 0;
}

/* ---- a log, and its stream into programs */

struct fixture {
    char dir[64];
    pawl *log;
    uint32_t in;
    pawl_sink *sink;
    uint64_t now_ns;
};

static uint64_t now(void *arg) {
    return ((struct fixture *)arg)->now_ns;
}

static void open_log(struct fixture *f) {
    pawl_options o = PAWL_OPTIONS_INIT;
    o.flags = PAWL_OPEN_CREATE;
    o.segment_size = 1u << 20;
    o.lock_wait_ms = 20000; /* a killed one may hold it until the last of its writes is done */
    assert_int_equal(pawl_open("log", &o, &f->log, NULL), 0);
}

static struct fixture *new_fixture(void) {
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    strcpy(f->dir, "/tmp/test_fence.XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    assert_int_equal(chdir(f->dir), 0);
    open_log(f);
    assert_int_equal(pawl_stream_create(f->log, "in", 1, &f->in), 0);
    for (uint32_t i = 0; i < COUNT; i++) {
        char text[16];
        pawl_record r = {.value = text,
                         .value_len = (uint32_t)snprintf(text, sizeof text, "n%u", i)};
        assert_int_equal(pawl_append(f->log, f->in, 0, &r, NULL), 0);
    }
    return f;
}

static void free_fixture(struct fixture *f) {
    char command[96];
    pawl_sink_remove(f->sink);
    assert_int_equal(pawl_close(f->log), 0);
    assert_int_equal(chdir("/"), 0);
    snprintf(command, sizeof command, "rm -r %s", f->dir);
    assert_int_equal(system(command), 0);
    free(f);
}

static void add(struct fixture *f, const char *how, const char *survivors) {
    pawl_error e = {0};
    pawl_setting s[] = {
        {"survivors", survivors, 1},
        {how != NULL ? "command.0" : "command", how != NULL ? self : "cat >>effects", 1},
        {"command.1", "--program", 1},
        {"command.2", how, 1}};
    pawl_sink_ops ops = PAWL_SINK_OPS_INIT;
    pawl_sink_config c = PAWL_SINK_CONFIG_INIT;
    c.name = "to", c.inputs = &f->in, c.input_count = 1, c.batch_records = COUNT / 2;
    c.hooks.now_ns = now, c.hooks.now_arg = f, c.hooks.seed = 1;
    if (pawl_sink_make("exec", &(pawl_settings){.items = s, .count = how != NULL ? 4 : 2}, &ops,
                       &e) != 0 ||
        pawl_sink_add(f->log, &c, &ops, &f->sink, &e) != 0)
        fail_msg("%s", e.message);
}

/* At most `steps` steps; an hour passes with each. True: all is delivered. */
static bool drive(struct fixture *f, int steps) {
    pawl_flow_status s = PAWL_FLOW_STATUS_INIT;
    for (int i = 0; i < steps; i++) {
        assert_true(pawl_sink_step(f->sink) >= 0);
        assert_int_equal(pawl_sink_status(f->sink, &s), 0);
        if (s.behind == 0)
            return true;
        f->now_ns += UINT64_C(3600000000000);
    }
    return false;
}

/* The number of processes in the file `pids` that still live. */
static int living(void) {
    long pid;
    int n = 0;
    FILE *f = fopen("pids", "re");
    assert_non_null(f);
    while (fscanf(f, "%ld", &pid) == 1) {
        char path[64], state = 0;
        snprintf(path, sizeof path, "/proc/%ld/stat", pid);
        FILE *p = fopen(path, "re");
        if (p != NULL && fscanf(p, "%*d (%*[^)]) %c", &state) == 1)
            n += state != 'Z' && state != 'X';
        if (p != NULL)
            fclose(p);
    }
    fclose(f);
    return n;
}

static void touch(const char *file) {
    append(file, "", 0);
}

static void end_survivors(void) {
    touch("gate");
    for (int i = 0; living() > 0; i++) {
        if (i == 10000)
            fail_msg("a program doesn't end");
        pause_ms(2);
    }
}

/* One incarnation of pawl that is killed once the program runs. */
static void killed(struct fixture *f, const char *how) {
    int child, rc;
    assert_int_equal(pawl_close(f->log), 0);
    fflush(NULL);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        open_log(f);
        add(f, how, "kill");
        drive(f, 1000);
        _exit(0);
    }
    while (access("pids", F_OK) != 0) {
        assert_int_equal(waitpid(child, &rc, WNOHANG), 0);
        pause_ms(2);
    }
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, &rc, 0), child);
    open_log(f);
}

static void each_effect_once(const char *when) {
    if (system("seq 0 9 | sed s/^/n/ >want; sort effects | cmp -s - want") != 0)
        fail_msg("%s: the effects are not those of each record, once", when);
}

/* ---- what is shown */

static void a_killed_pawl(void **state) {
    static const char *const all[] = {"plain",
                                      "ignores SIGTERM",
                                      "stopped",
                                      "grandchild",
                                      "daemon",
                                      "daemon without descriptors",
                                      "daemon without environment"};
    (void)state;
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        struct fixture *f = new_fixture();
        killed(f, all[i]);
        add(f, NULL, "kill");
        if (!drive(f, 20))
            fail_msg("%s: nothing is delivered", all[i]);
        if (living() != 0)
            fail_msg("%s: its program goes on beside its repetition", all[i]);
        end_survivors();
        each_effect_once(all[i]);
        free_fixture(f);
    }
}

/* It ends at once, not only when the next incarnation looks for it. */
static void ends_with_pawl(void **state) {
    (void)state;
    struct fixture *f = new_fixture();
    killed(f, "plain");
    for (int i = 0; living() > 0; i++) {
        if (i == 5000)
            fail_msg("the program lives on");
        pause_ms(2);
    }
    free_fixture(f);
}

static void waits_if_told(void **state) {
    (void)state;
    struct fixture *f = new_fixture();
    pawl_flow_status s = PAWL_FLOW_STATUS_INIT;
    killed(f, "daemon");
    add(f, NULL, "wait");
    assert_false(drive(f, 2));
    assert_int_equal(living(), 1);
    assert_int_equal(access("effects", F_OK), -1);
    assert_int_equal(pawl_sink_status(f->sink, &s), 0);
    assert_int_equal(s.flow, PAWL_FLOW_WAITING);
    if (strstr(s.message, "have not ended: ") == NULL || strstr(s.message, "(test_fence)") == NULL)
        fail_msg("the status says: %s", s.message);
    end_survivors();
    assert_true(drive(f, 20));
    free_fixture(f);
}

/* The run failed and is repeated by the same pawl: what it left ends first. */
static void a_failed_run(void **state) {
    (void)state;
    struct fixture *f = new_fixture();
    add(f, "fails", "kill");
    assert_false(drive(f, 2));
    assert_int_equal(living(), 0);
    end_survivors();
    assert_int_equal(access("effects", F_OK), -1);
    free_fixture(f);
}

/* A program that succeeded may leave a daemon: its batch is not repeated. */
static void left_on_purpose(void **state) {
    (void)state;
    struct fixture *f = new_fixture();
    add(f, "left on purpose", "kill");
    assert_true(drive(f, 20));
    pawl_sink_remove(f->sink);
    assert_int_equal(pawl_close(f->log), 0);
    open_log(f);
    add(f, NULL, "kill");
    pawl_record r = {.value = "late", .value_len = 4};
    assert_int_equal(pawl_append(f->log, f->in, 0, &r, NULL), 0);
    assert_true(drive(f, 20));
    assert_true(living() >= 1);
    assert_int_equal(system("grep -v late effects >kept && mv kept effects"), 0);
    each_effect_once("left on purpose");
    end_survivors();
    free_fixture(f);
}

/* A process that merely has a number, a name or a similar token is none of ours. */
/* Only a run that succeeded, and that ended where the next one begins or before, leaves nothing to
 * wait for. */
static void what_a_run_follows(void **state) {
    static const struct {
        uint64_t done, from;
        bool follows;
    } cases[] = {{5, 5, true},
                 {5, 6, true},
                 {5, 4, false},
                 {0, 0, true},
                 {FENCE_UNSURE, 0, false},
                 {FENCE_UNSURE, 1, false},
                 {FENCE_UNSURE, 5, false}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct fence_memory m;
        fence_memory_init(&m);
        assert_false(fence_follows(&m, 1, 0, cases[i].from)); /* none is known */
        fence_done(&m, 1, 0, cases[i].done);
        assert_int_equal(fence_follows(&m, 1, 0, cases[i].from), cases[i].follows);
        assert_false(fence_follows(&m, 1, 1, cases[i].from)); /* another partition */
        fence_done(&m, 1, 0, 7);
        assert_int_equal(fence_follows(&m, 1, 0, 7), true);
        fence_memory_free(&m);
    }
}

static void strangers(void **state) {
    static const uint8_t log_id[16] = {1, 2, 3};
    static const struct {
        const char *label, *format;
    } all[] = {{"no token", "OTHER=%s"},
               {"a longer token", "PAWL_FENCE=%s0"},
               {"a token with another in front", "PAWL_FENCE=x%s"},
               {"another variable", "MY_PAWL_FENCE=%s"}};
    char token[FENCE_TOKEN_SIZE], why[200], variable[300];
    (void)state;
    fence_token(token, log_id, "to", 1, 0, 7);
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        snprintf(variable, sizeof variable, all[i].format, token); /* NOLINT: formats of ours */
        int ends[2], child, rc;
        assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
        child = fork();
        if (child == 0) {
            char *argv[] = {(char[]){"sleep"}, (char[]){"60"}, NULL}, *env[] = {variable, NULL};
            execve("/bin/sleep", argv, env);
            _exit(9);
        }
        close(ends[1]);
        assert_int_equal(read(ends[0], why, 1), 0); /* it has its own environment now */
        close(ends[0]);
        if (fence_wait(token, true, 2000, why, sizeof why) != 0)
            fail_msg("%s: it is waited for: %s", all[i].label, why);
        if (waitpid(child, &rc, WNOHANG) != 0)
            fail_msg("%s: it was killed", all[i].label);
        kill(child, SIGKILL);
        assert_int_equal(waitpid(child, &rc, 0), child);
    }
}

/* A process that holds the lock ends. A copy of this process, which has called fork() for a purpose
 * of its own, holds it by chance: it is left alone, and not waited for. */
static void only_the_lock(void **state) {
    static const uint8_t log_id[16] = {1, 2, 3};
    char token[FENCE_TOKEN_SIZE], why[200], pid[16];
    int rc;
    (void)state;
    fence_token(token, log_id, "to", 1, 0, 7);
    for (int copy = 0; copy < 2; copy++) {
        int lock = fence_lock(token), child;
        assert_true(lock >= 0);
        if (copy == 0)
            assert_int_equal(fcntl(lock, F_SETFD, 0), 0);
        child = fork();
        if (child == 0)
            wait_for_ever();
        close(lock);
        assert_int_equal(fence_lock(token), -1);
        if (copy == 0) {
            assert_int_equal(fence_wait(token, false, 1, why, sizeof why), 1);
            snprintf(pid, sizeof pid, "%d (", child);
            assert_non_null(strstr(why, pid));
        }
        assert_int_equal(fence_wait(token, true, 10000, why, sizeof why), 0);
        if (copy == 1) {
            assert_int_equal(waitpid(child, &rc, WNOHANG), 0);
            kill(child, SIGKILL);
        }
        assert_int_equal(waitpid(child, &rc, 0), child);
    }
}

/* Anybody can bind a name that he can guess. He holds up nothing. */
static void taken_by_another_user(void **state) {
    static const uint8_t log_id[16] = {1, 2, 3};
    char token[FENCE_TOKEN_SIZE], why[200];
    int ends[2], rc;
    (void)state;
    if (geteuid() != 0)
        SKIP("only root can become another user");
    fence_token(token, log_id, "to", 1, 0, 7);
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    int child = fork();
    if (child == 0) {
        int lock = setuid(65534) == 0 ? fence_lock(token) : -1;
        if (lock < 0 || fcntl(lock, F_SETFD, 0) != 0 || write(ends[1], "x", 1) != 1)
            _exit(9);
        wait_for_ever();
    }
    close(ends[1]);
    assert_int_equal(read(ends[0], why, 1), 1);
    close(ends[0]);
    assert_int_equal(fence_lock(token), -1);
    if (fence_wait(token, true, 10000, why, sizeof why) != 0)
        fail_msg("it is waited for: %s", why);
    if (waitpid(child, &rc, WNOHANG) != 0)
        fail_msg("it was killed");
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, &rc, 0), child);
}

int main(int argc, char **argv) {
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n < 0)
        return 1;
    if (argc > 2 && strcmp(argv[1], "--program") == 0)
        return program(argv[2]);
    if (argc > 2 && strcmp(argv[1], "--effect") == 0) {
        effect(argv[2], strlen(argv[2]));
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_killed_pawl),      cmocka_unit_test(ends_with_pawl),
        cmocka_unit_test(waits_if_told),      cmocka_unit_test(a_failed_run),
        cmocka_unit_test(left_on_purpose),    cmocka_unit_test(strangers),
        cmocka_unit_test(only_the_lock),      cmocka_unit_test(taken_by_another_user),
        cmocka_unit_test(what_a_run_follows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
