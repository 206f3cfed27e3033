/* SPDX-License-Identifier: Apache-2.0
 * test-label: slow
 * test-timeout: 300
 *
 * The file sink's directory is other people's too: what they take away, change or add, while the
 * sink is down and while it runs, and after a kill at each of its calls. Nothing that was committed
 * is missed in silence, and nothing that isn't ours is lost (PAWL-15).
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
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "connectors/file/sink_file.h"
#include "tests/support/file_sink.h"
#include "tests/support/skip.h"

static pawl_flow_status status(struct files *f) {
    pawl_flow_status s = PAWL_FLOW_STATUS_INIT;
    assert_int_equal(pawl_sink_status(f->sink, &s), 0);
    return s;
}

static void append(struct files *f, const char *text) {
    pawl_record r = {.value = text, .value_len = (uint32_t)strlen(text)};
    assert_int_equal(pawl_append(f->log, f->in, 0, &r, NULL), 0);
}

static void again(struct files *f) {
    fsink_close(f);
    fsink_open_log(f);
    f->reports[0] = 0;
    fsink_add(f);
}

/* The records n0 to n39, then `more`, each once, and nothing else. */
static bool once_beside(struct files *f, const char *more, uint32_t hidden_max) {
    uint32_t files, hidden;
    char want[1024] = "", *got = fsink_visible(f, "cat", &files, &hidden);
    for (uint32_t i = 0; i < COUNT; i++)
        snprintf(want + strlen(want), sizeof want - strlen(want), "n%u\n", i);
    strcat(want, more);
    bool same = strcmp(got, want) == 0 && hidden <= hidden_max;
    if (!same)
        print_message("%u files, %u hidden, with:\n%s", files, hidden, got);
    free(got);
    return same;
}

static bool once(struct files *f, const char *more) {
    return once_beside(f, more, 0);
}

/* ---- the table: what others do, as a shell command in the directory; $P is the part */

enum { LOST, SAME, KEPT }; /* LOST: said, and the sink stops. KEPT: set aside, and said */

static const struct {
    const char *label, *command;
    int down, up; /* what becomes of it */
    const char *says;
} table[] = {
    {"part removed", "rm $P", LOST, LOST, "records 0 to 39 of in/0 (40)"},
    {"part cut", "truncate -s 10 $P", LOST, LOST, "has 10 of 150 committed bytes"},
    {"part emptied", ": >$P", LOST, LOST, "has 0 of 150 committed bytes"},
    {"a byte changed", "printf X | dd of=$P bs=1 seek=70 conv=notrunc status=none", LOST, LOST,
     "has other bytes"},
    {"another file in its place", "seq 100 >t; mv t $P", LOST, LOST, "has other bytes"},
    {"a directory in its place", "rm $P; mkdir $P", LOST, LOST, "is not a file"},
    {"a link in its place", "mv $P t; ln -s t $P", LOST, LOST, "is not there"},
    {"a pipe in its place", "rm $P; mkfifo $P", LOST, LOST, "is not a file"},
    {"part renamed", "mv $P t", LOST, LOST, "is not there"},
    {"renamed as Pawl would", "mv $P files-in-0-00000000000000000000.log", SAME, SAME, ""},
    {"a copy in its place", "cp $P t; mv t $P", SAME, SAME, ""},
    {"part touched", "touch $P; chmod 600 $P", SAME, SAME, ""},
    {"bytes appended", "echo scraps >>$P", KEPT, KEPT, "7 bytes that this sink did not write"},
    {"a part unknown to the log", "echo scraps >files-1-0-00000000000000000003.part", KEPT, SAME,
     "is not known to the log"},
    {"a hidden part unknown to the log", "echo scraps >.files-1-0-00000000000000000003.part", KEPT,
     SAME, "is not known to the log"},
    {"marker removed", "rm files.pawl", SAME, SAME, ""},
    {"marker cut", "truncate -s 100 files.pawl", SAME, SAME, ""},
    {"part and marker removed", "rm $P files.pawl", LOST, LOST, "records 0 to 39"},
    {"marker of another directory", "sed -i 's/^directory .../directory fff/' files.pawl", SAME,
     SAME, ""},
    {"all files removed", "rm -f -- *", LOST, LOST, "records 0 to 39"},
    {"everything removed", "find . -mindepth 1 -delete", LOST, LOST, "records 0 to 39"},
    {"directory removed", "d=$PWD; cd ..; rm -r $d", LOST, LOST, "records 0 to 39"},
    {"directory empty and new", "d=$PWD; cd ..; mv $d $d.old; mkdir $d", LOST, LOST,
     "records 0 to 39"},
    {"directory copied", "d=$PWD; cd ..; mv $d $d.old; cp -a $d.old $d", SAME, SAME, ""},
    {"directory becomes a link to itself", "d=$PWD; cd ..; mv $d $d.real; ln -s $d.real $d", SAME,
     SAME, ""},
    {"directory becomes a link to another",
     "d=$PWD; cd ..; mv $d $d.real; mkdir $d.other; ln -s $d.other $d", LOST, LOST,
     "records 0 to 39"},
    {"what cleaners take", "find . -name '.*' -type f -delete", SAME, SAME, ""},
    {"consumers take whole files", "rm -f *.log", SAME, SAME, ""},
};

static void run_on_part(struct files *f, const char *command) {
    char text[600];
    snprintf(text, sizeof text, "cd %s && P=$(ls | grep 'part$' | head -n 1) && %s", f->target,
             command);
    if (system(text) != 0)
        fail_msg("the command failed: %s", command);
}

static void said(struct files *f, size_t i, const char *when) {
    char all[3000];
    snprintf(all, sizeof all, "%s%s", f->reports, status(f).message);
    if (strstr(all, table[i].says) == NULL)
        fail_msg("%s, %s: it says only: %s", table[i].label, when, all);
}

static void judge(struct files *f, size_t i, int want, const char *when) {
    int rc = fsink_drive(f);
    if ((rc < 0) != (want == LOST))
        fail_msg("%s, %s: %d %s", table[i].label, when, rc, status(f).message);
    if (want == LOST) {
        said(f, i, when);
        again(f);
        assert_true(fsink_drive(f) < 0); /* and once more: it isn't forgotten */
        said(f, i, when);
        return;
    }
    fsink_close(f);
    bool up = strcmp(when, "up") == 0; /* strange parts stay where they are until the next start */
    if (!once_beside(f, up ? "late\n" : "", up && table[i].down == KEPT))
        fail_msg("%s, %s: not each record, once", table[i].label, when);
    if (want == KEPT) {
        char *kept = fsink_aside(f);
        assert_string_equal(kept, "scraps\n");
        free(kept);
        if (strstr(f->reports, table[i].says) == NULL)
            fail_msg("%s, %s: it says only: %s", table[i].label, when, f->reports);
    }
}

static void while_it_is_down(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct files *f = fsink_hidden();
        run_on_part(f, table[i].command);
        judge(f, i, table[i].down, "down");
        fsink_free(f);
    }
}

static void while_it_runs(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct files *f = fsink_hidden();
        assert_int_equal(fsink_drive(f), 0);
        run_on_part(f, table[i].command);
        append(f, "late");
        judge(f, i, table[i].up, "up");
        fsink_free(f);
    }
}

/* Bytes of others are where the next batch goes. They are set aside, and what the log then says of
 * the part is true: a crash after the batch finds it well. */
static void bytes_in_the_way(void **state) {
    int status_of_child;
    (void)state;
    struct files *f = fsink_hidden();
    run_on_part(f, "echo scraps >>$P");
    pawl_sink_remove(f->sink);
    f->sink = NULL;
    fsink_close(f);
    fflush(NULL);
    int child = fork();
    if (child == 0) {
        fsink_open_log(f);
        fsink_add(f);
        append(f, "late");
        _exit(fsink_drive(f) == 0 ? 7 : 1);
    }
    assert_int_equal(waitpid(child, &status_of_child, 0), child);
    assert_true(WIFEXITED(status_of_child));
    assert_int_equal(WEXITSTATUS(status_of_child), 7);
    fsink_open_log(f);
    fsink_add(f);
    assert_int_equal(fsink_drive(f), 0);
    fsink_close(f);
    assert_true(once(f, "late\n"));
    char *kept = fsink_aside(f);
    assert_string_equal(kept, "scraps\n");
    free(kept);
    fsink_free(f);
}

/* No record comes any more: it is the end that notices. */
static void at_the_end(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct files *f = fsink_hidden();
        assert_int_equal(fsink_drive(f), 0);
        run_on_part(f, table[i].command);
        fsink_close(f);
        if (table[i].up == LOST && f->reports[0] == 0)
            fail_msg("%s, at the end: nothing is said", table[i].label);
        fsink_open_log(f);
        fsink_add(f);
        int rc = fsink_drive(f);
        if ((rc < 0) != (table[i].up == LOST))
            fail_msg("%s, after the end: %d %s", table[i].label, rc, status(f).message);
        fsink_free(f);
    }
}

/* ---- what on_lost does */

static void accepted(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        if (table[i].down != LOST)
            continue;
        struct files *f = fsink_hidden();
        uint32_t files, hidden;
        run_on_part(f, table[i].command);
        f->on_lost = PAWL_LOST_ACCEPT;
        again(f);
        append(f, "late");
        for (int start = 0; start < 2; start++, again(f)) {
            fsink_drive(f);
            if (status(f).lost != COUNT)
                fail_msg("%s: %llu records are counted as lost", table[i].label,
                         (unsigned long long)status(f).lost);
            if ((strstr(f->reports, table[i].says) != NULL) != (start == 0))
                fail_msg("%s, start %d: it says %s", table[i].label, start, f->reports);
        }
        fsink_close(f);
        fsink_shell(f, "cd %s && rm -rf t"); /* the command's own */
        char *got = fsink_visible(f, "tail -n 1", &files, &hidden);
        assert_string_equal(got, "late\n");
        free(got);
        fsink_free(f);
    }
}

static void delivered_again(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        if (table[i].down != LOST)
            continue;
        struct files *f = fsink_hidden();
        run_on_part(f, table[i].command);
        f->on_lost = PAWL_LOST_REDELIVER;
        again(f);
        append(f, "late");
        if (fsink_drive(f) != 0)
            fail_msg("%s: %s", table[i].label, status(f).message);
        assert_int_equal(status(f).redelivered, COUNT);
        assert_non_null(strstr(f->reports, table[i].says));
        fsink_close(f);
        fsink_shell(f, "cd %s && rm -rf t"); /* the command's own */
        if (!once(f, "late\n"))
            fail_msg("%s: not each record, once", table[i].label);
        fsink_free(f);
    }
}

/* ---- places */

/* The sink's directory is a file system of its own. Skips the test where none can be mounted. */
static struct files *on_tmpfs(void) {
    char command[300];
    if (geteuid() != 0)
        SKIP("mounting a file system needs root");
    struct files *f = fsink_new();
    assert_int_equal(mkdir(f->target, 0700), 0);
    snprintf(command, sizeof command, "mount -t tmpfs none %s 2>/dev/null", f->target);
    if (system(command) != 0) {
        fsink_free(f);
        SKIP("no tmpfs can be mounted here");
    }
    return f;
}

static void mount_away(void **state) {
    (void)state;
    struct files *f = on_tmpfs();
    fsink_set(f, "rotate_size", "1M");
    fsink_add(f);
    assert_int_equal(fsink_drive(f), 0);
    fsink_close(f);
    fsink_shell(f, "umount %s");
    fsink_open_log(f);
    append(f, "late");
    fsink_add(f);
    assert_true(fsink_drive(f) < 0);
    assert_non_null(strstr(status(f).message, "is not the directory that this sink wrote to"));
    fsink_shell(f, "test -z \"$(ls -A %s)\""); /* nothing was written below it */
    fsink_free(f);
}

/* Another setting `directory`: that is no loss, if nothing is left in the old one. */
static void another_setting(void **state) {
    (void)state;
    for (int held = 0; held < 2; held++) {
        char other[200];
        uint32_t files, hidden;
        struct files *f = held ? fsink_hidden() : fsink_new();
        if (!held) {
            fsink_add(f);
            assert_int_equal(fsink_drive(f), 0);
        }
        if (held) /* without opening the old one first */
            pawl_sink_remove(f->sink), f->sink = NULL;
        else
            fsink_close(f), fsink_open_log(f);
        snprintf(other, sizeof other, "%s/other", f->dir);
        fsink_set(f, "directory", other);
        append(f, "late");
        f->reports[0] = 0;
        fsink_add(f);
        int rc = fsink_drive(f);
        assert_int_equal(rc < 0, held);
        assert_non_null(strstr(held ? status(f).message : f->reports,
                               held ? "records 0 to 39" : "/other from now on"));
        fsink_close(f);
        strcpy(f->target, other);
        if (!held) {
            char *got = fsink_visible(f, "cat", &files, &hidden);
            assert_string_equal(got, "late\n");
            free(got);
        }
        fsink_free(f);
    }
}

/* A power cut takes the last rename back, although the log has noted it. The file is made visible
 * again if it has the bytes that it had then; else it is set aside, as any part that the log
 * doesn't know. */
static void rename_taken_back(void **state) {
    static const struct {
        const char *label, *also;
        bool again;
    } cases[] = {
        {"the rename alone", "true", true},
        {"and its bytes", "truncate -s 10 $P", false},
        {"and other bytes", "printf X | dd of=$P bs=1 seek=7 conv=notrunc status=none", false},
        {"and it has grown", "echo more >>$P", false},
        {"its copy is visible", "cp $P $V", false},
        {"it has a second name", "ln $P other", false}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char command[600];
        struct files *f = fsink_new();
        fsink_add(f);
        assert_int_equal(fsink_drive(f), 0);
        fsink_close(f);
        snprintf(command, sizeof command,
                 "cd %s && V=$(ls *.log | tail -n 1) && "
                 "P=$(echo $V | sed 's/in-0/1-0/; s/log$/part/') && mv $V $P && %s",
                 f->target, cases[i].also);
        assert_int_equal(system(command), 0);
        fsink_open_log(f);
        append(f, "late");
        f->reports[0] = 0;
        fsink_add(f);
        if (fsink_drive(f) != 0)
            fail_msg("%s: %s", cases[i].label, status(f).message);
        if ((strstr(f->reports, "made visible") != NULL) != cases[i].again ||
            (strstr(f->reports, "set aside") != NULL) == cases[i].again)
            fail_msg("%s: it says %s", cases[i].label, f->reports);
        fsink_close(f);
        if (cases[i].again)
            assert_true(once(f, "late\n"));
        fsink_free(f);
    }
}

/* It waits, and goes on by itself once it may write again (PAWL-16). */
static void read_only(void **state) {
    (void)state;
    struct files *f = on_tmpfs();
    fsink_add(f);
    assert_int_equal(fsink_drive(f), 0);
    fsink_close(f); /* while files are open for writing, the kernel refuses to remount it */
    fsink_shell(f, "mount -o remount,ro %s");
    fsink_open_log(f);
    append(f, "late");
    fsink_add(f);
    for (int i = 0; i < 20; i++) {
        assert_true(pawl_sink_step(f->sink) >= 0);
        f->now_ns += UINT64_C(3600000000000);
    }
    assert_non_null(strstr(status(f).message, "Read-only file system"));
    fsink_shell(f, "mount -o remount,rw %s");
    assert_int_equal(fsink_drive(f), 0);
    fsink_close(f);
    assert_true(once(f, "late\n"));
    fsink_shell(f, "umount %s");
    fsink_free(f);
}

/* A copy of the directory from before the last files were made visible. */
static void older_copy(void **state) {
    (void)state;
    for (int up = 0; up < 2; up++) {
        struct files *f = fsink_new();
        fsink_add(f);
        assert_int_equal(fsink_drive(f), 0);
        fsink_shell(f, "d=%s; cp -a $d $d.copy");
        append(f, "a record that is long enough to make one more file, for itself, of 60 bytes");
        assert_int_equal(fsink_drive(f), 0);
        if (up == 0)
            fsink_close(f);
        fsink_shell(f, "d=%s; rm -r $d && mv $d.copy $d");
        if (up == 0) {
            fsink_open_log(f);
            fsink_add(f);
        }
        append(f, "late");
        assert_true(fsink_drive(f) < 0);
        if (strstr(status(f).message, "is older than the log") == NULL &&
            strstr(status(f).message, "committed bytes") == NULL)
            fail_msg("it says: %s", status(f).message);
        fsink_free(f);
    }
}

/* ---- a kill at each call, and then somebody takes something away */

/* Returns how often it stopped since it couldn't tell. */
static int takes(const char *label, const char *command, bool may_lose, bool may_stop) {
    int untold = 0;
    for (int mode = KILL_BEFORE; mode <= KILL_AFTER; mode++)
        for (int nth = 0, more = 1; more; nth++) {
            struct files *f = fsink_new();
            char when[128];
            snprintf(when, sizeof when, "%s, killed %s call %d", label,
                     mode == KILL_BEFORE ? "before" : "after", nth);
            more = fsink_killed(f, mode, nth);
            fsink_shell(f, "mkdir -p %s");
            run_on_part(f, command);
            fsink_open_log(f);
            fsink_add(f);
            bool stopped = fsink_drive(f) < 0;
            pawl_flow_status s = status(f);
            if (stopped && strstr(s.message, "lost: ") == NULL)
                fail_msg("%s: %s", when, s.message);
            if (stopped && !may_lose && (!may_stop || strstr(s.message, "can't be told") == NULL))
                fail_msg("%s: nothing was lost: %s", when, s.message);
            untold += stopped && strstr(s.message, "can't be told") != NULL;
            fsink_close(f);
            fsink_shell(f, "d=%s; [ ! -d $d.taken ] || find $d.taken -type f -exec mv {} $d \\;");
            if (!stopped && !once(f, ""))
                fail_msg("%s: it went on, and not each record is there, once", when);
            fsink_free(f);
        }
    return untold;
}

static void killed_and_taken(void **state) {
    (void)state;
    (void)takes("the part goes", "rm -f $P", true, true);
    (void)takes("the marker goes", "rm -f files.pawl", true, true);
    (void)takes("all goes", "rm -rf -- *", true, true);
}

/* A consumer that takes each visible file at once loses nothing and doubles nothing. The one moment
 * in which it can't be told is between the rename and the marker's word of it. */
static void killed_and_consumed(void **state) {
    (void)state;
    int untold =
        takes("a consumer comes",
              "d=$PWD; mkdir -p $d.taken; for i in *.log; do [ ! -e $i ] || mv $i $d.taken; done",
              false, true);
    if (untold > 2 * 3) /* before and after that moment, for each of three files */
        fail_msg("it could not be told %d times", untold);
}

/* ---- durable before the log says so */

static void synced(struct files *f, const char *point) {
    (void)f;
    if (strcmp(point, "batch-prepared") == 0 && (fsink_trap.names != 0 || fsink_trap.bytes != 0))
        fail_msg("prepared, but %s not synced",
                 fsink_trap.names != 0 ? "the name is" : "bytes are");
    if (strcmp(point, "target-settled") == 0 && fsink_trap.names != 0)
        fail_msg("made visible, but the name is not synced");
}

static void names_are_synced(void **state) {
    (void)state;
    struct files *f = fsink_new();
    f->on_point = synced;
    fsink_watch(f->target);
    fsink_add(f);
    assert_int_equal(fsink_drive(f), 0);
    fsink_close(f);
    fsink_watch_end();
    assert_true(once(f, ""));
    fsink_free(f);
}

/* What was set aside before stays as well. */
static void asides_are_kept(void **state) {
    (void)state;
    struct files *f = fsink_hidden();
    run_on_part(f, "n=files-1-0-00000000000000000003.part; echo one >$n.aside; echo two >$n");
    assert_int_equal(fsink_drive(f), 0);
    fsink_close(f);
    char *kept = fsink_aside(f);
    assert_non_null(strstr(kept, "one\n"));
    assert_non_null(strstr(kept, "two\n"));
    free(kept);
    fsink_free(f);
}

/* No record comes any more, and the part is far from full: its age makes it visible. */
static void an_old_part_becomes_visible(void **state) {
    (void)state;
    struct files *f = fsink_new();
    uint32_t files = 0, hidden;
    fsink_set(f, "rotate_size", "1M");
    fsink_set(f, "rotate_age", "1s");
    fsink_add(f);
    for (int i = 0; i < 200 && files == 0; i++) { /* the age is that of the real clock */
        f->now_ns += UINT64_C(2000000000);
        assert_int_equal(fsink_drive(f), 0);
        free(fsink_visible(f, "cat", &files, &hidden));
        if (files == 0)
            usleep(50000);
    }
    assert_int_equal(files, 1);
    assert_true(once(f, ""));
    fsink_free(f);
}

/* ---- version 1 */

/* Writes what version 1 left: a hidden state, and a hidden part with the records 0 to 39. */
static void old_files(struct files *f, const char *prepared, bool rotating) {
    char slot[FILE_SLOT], path[200];
    pawl_status log = PAWL_STATUS_INIT;
    struct file_state st = {.seq = 1, .first = 0, .length = 150, .to = COUNT, .rotating = rotating};
    assert_int_equal(pawl_get_status(f->log, &log), 0);
    memcpy(st.log_id, log.log_id, sizeof st.log_id);
    strcpy(st.stream, "in");
    if (prepared != NULL) {
        snprintf(st.prepared, sizeof st.prepared, "%s", prepared);
        st.prepared_to = COUNT + 1;
        st.prepared_length = 155;
    }
    fsink_shell(f, "mkdir -p %s");
    fsink_shell(f, "seq 0 39 | sed s/^/n/ >%s/.files-1-0-00000000000000000000.part");
    fsink_shell(f, "echo late >>%s/.files-1-0-00000000000000000000.part");
    file_state_encode(&st, slot);
    snprintf(path, sizeof path, "%s/.files-1-0.state", f->target);
    int fd = open(path, O_WRONLY | O_CREAT, 0600);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, slot, sizeof slot, FILE_SLOT_APART), sizeof slot);
    close(fd);
}

/* A log whose sink has delivered the records 0 to 39, as version 1 left it. */
static struct files *old_log(const char *decide) {
    struct files *f = fsink_new();
    uint32_t id;
    pawl_tx *tx;
    fsink_set(f, "rotate_size", "1M");
    fsink_set(f, "rotate_age", "0");
    append(f, "late");
    assert_int_equal(pawl_processor_register(f->log, "files", &id), 0);
    assert_int_equal(pawl_begin(f->log, &tx), 0);
    assert_int_equal(pawl_advance(tx, id, f->in, 0, 0, decide != NULL ? COUNT + 1 : COUNT), 0);
    if (decide != NULL)
        assert_int_equal(pawl_decide(tx, id, decide), 0);
    assert_int_equal(pawl_commit(tx, NULL), 0);
    return f;
}

static void batch_name(struct files *f, char out[200]) {
    pawl_status log = PAWL_STATUS_INIT;
    assert_int_equal(pawl_get_status(f->log, &log), 0);
    strcpy(out, "pawl-");
    for (int i = 0; i < 16; i++)
        snprintf(out + strlen(out), 3, "%02x", log.log_id[i]);
    strcat(out, "-files-1-0-40-41");
}

static void version_1(void **state) {
    static const struct {
        const char *label, *command;
        bool prepared, decided, rotating, lost;
    } all[] = {
        {"committed", ":", false, false, false, false},
        {"prepared", ":", true, false, false, false},
        {"decided", ":", true, true, false, false},
        {"rotating", ":", false, false, true, false},
        {"state removed", "rm .*.state", false, false, false, true},
        {"part removed", "rm .*.part", false, false, false, true},
        {"part cut", "truncate -s 100 .*.part", false, false, false, true},
    };
    (void)state;
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        for (int nth = -1, more = 1; more; nth++) {
            struct files *f = old_log(NULL);
            char name[200], command[200];
            batch_name(f, name);
            if (all[i].decided) {
                uint32_t id;
                pawl_tx *tx;
                assert_int_equal(pawl_processor_register(f->log, "files", &id), 0);
                assert_int_equal(pawl_begin(f->log, &tx), 0);
                assert_int_equal(pawl_advance(tx, id, f->in, 0, COUNT, COUNT + 1), 0);
                assert_int_equal(pawl_decide(tx, id, name), 0);
                assert_int_equal(pawl_commit(tx, NULL), 0);
            }
            old_files(f, all[i].prepared ? name : NULL, all[i].rotating);
            snprintf(command, sizeof command, "cd %%s && %s", all[i].command);
            fsink_shell(f, command);
            fsink_close(f);
            more = nth < 0 || fsink_killed(f, KILL_BEFORE, nth);
            fsink_open_log(f);
            fsink_add(f);
            int rc = fsink_drive(f);
            if ((rc < 0) != all[i].lost)
                fail_msg("%s, killed at call %d: %d %s", all[i].label, nth, rc, status(f).message);
            if (all[i].lost)
                assert_non_null(strstr(status(f).message, "lost: records 0 to 39"));
            fsink_close(f);
            if (!all[i].lost && !once(f, "late\n"))
                fail_msg("%s, killed at call %d: not each record, once", all[i].label, nth);
            fsink_free(f);
        }
}

int main(void) {
    if (access("/dev/shm", W_OK) ==
        0) /* some thousand logs are made here, and nothing is cut off */
        fsink_where = "/dev/shm";
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(while_it_is_down),  cmocka_unit_test(while_it_runs),
        cmocka_unit_test(at_the_end),        cmocka_unit_test(accepted),
        cmocka_unit_test(delivered_again),   cmocka_unit_test(mount_away),
        cmocka_unit_test(rename_taken_back), cmocka_unit_test(read_only),
        cmocka_unit_test(another_setting),   cmocka_unit_test(older_copy),
        cmocka_unit_test(killed_and_taken),  cmocka_unit_test(killed_and_consumed),
        cmocka_unit_test(names_are_synced),  cmocka_unit_test(version_1),
        cmocka_unit_test(asides_are_kept),   cmocka_unit_test(an_old_part_becomes_visible),
        cmocka_unit_test(bytes_in_the_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
