/* SPDX-License-Identifier: Apache-2.0
 *
 * The tables of what a change of a followed file means, case by case: each label is reached by the
 * evidence that its name says. What must hold for all evidence is tried for all evidence.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "connectors/file/trail_policy.h"

static const struct {
    const char *label;
    struct file_evidence evidence;
    enum file_action action;
} files[] = {
    {"unreadable", {NAME_FOLLOWED, BYTES_UNREAD, COPY_NO, END_AHEAD}, FILE_WAIT},
    {"copied-and-truncated", {NAME_FOLLOWED, BYTES_CHANGED, COPY_YES, END_AHEAD}, FILE_TO_COPY},
    {"copied-and-emptied", {NAME_FOLLOWED, BYTES_EMPTYING, COPY_YES, END_AHEAD}, FILE_TO_COPY},
    {"truncated-after-copy", {NAME_FOLLOWED, BYTES_CHANGED, COPY_READ, END_AHEAD}, FILE_ANEW},
    {"being-rewritten", {NAME_FOLLOWED, BYTES_EMPTYING, COPY_NO, END_AHEAD}, FILE_WAIT},
    {"truncated", {NAME_FOLLOWED, BYTES_CHANGED, COPY_NO, END_REACHED}, FILE_AGAIN},
    {"truncated-aside", {NAME_OTHER, BYTES_CHANGED, COPY_NO, END_REACHED}, FILE_AGAIN},
    {"truncated-unseen", {NAME_UNKNOWN, BYTES_CHANGED, COPY_NO, END_REACHED}, FILE_WAIT},
    {"truncated-removed", {NAME_NONE, BYTES_CHANGED, COPY_NO, END_REACHED}, FILE_LOST},
    {"unseen", {NAME_UNKNOWN, BYTES_NONE, COPY_NO, END_AHEAD}, FILE_WAIT},
    {"unseen-held", {NAME_UNKNOWN, BYTES_SAME, COPY_NO, END_WAITED}, FILE_READ},
    {"followed", {NAME_FOLLOWED, BYTES_SAME, COPY_NO, END_REACHED}, FILE_READ},
    {"renamed-read", {NAME_OTHER, BYTES_SAME, COPY_NO, END_WAITED}, FILE_LET_GO},
    {"renamed", {NAME_OTHER, BYTES_SAME, COPY_NO, END_REACHED}, FILE_LINGER},
    {"removed-read", {NAME_NONE, BYTES_SAME, COPY_NO, END_WAITED}, FILE_LET_GO},
    {"removed", {NAME_NONE, BYTES_SAME, COPY_NO, END_REACHED}, FILE_LINGER},
    {"restored", {NAME_NONE, BYTES_NONE, COPY_YES, END_AHEAD}, FILE_TO_COPY},
    {"gone-beside-copy", {NAME_NONE, BYTES_NONE, COPY_READ, END_AHEAD}, FILE_LET_GO},
    {"gone-finished", {NAME_NONE, BYTES_NONE, COPY_NO, END_WAITED}, FILE_LET_GO},
    {"gone-read", {NAME_NONE, BYTES_NONE, COPY_NO, END_REACHED}, FILE_LET_GO},
    {"gone", {NAME_NONE, BYTES_NONE, COPY_NO, END_AHEAD}, FILE_LOST},
};

static const struct {
    const char *label;
    struct new_evidence evidence;
    enum new_action action;
} news[] = {
    {"not-ours", {NEW_OTHER, TWIN_WHOLE, TWIN_IN_PLACE, SETTLED_NO}, NEW_SKIP},
    {"read-before", {NEW_OLDER, TWIN_WHOLE, TWIN_ASIDE, SETTLED_NO}, NEW_SKIP},
    {"new", {NEW_FOLLOWED, TWIN_NONE, TWIN_GONE, SETTLED_NO}, NEW_BEGIN},
    {"empty", {NEW_NEWER, TWIN_EMPTY, TWIN_GONE, SETTLED_NO}, NEW_LEAVE},
    {"stays-empty", {NEW_NEWER, TWIN_EMPTY, TWIN_GONE, SETTLED_YES}, NEW_BEGIN},
    {"copied-not-truncated", {NEW_FOLLOWED, TWIN_WHOLE, TWIN_COPIED, SETTLED_NO}, NEW_HOLD},
    {"copied-and-kept", {NEW_FOLLOWED, TWIN_WHOLE, TWIN_COPIED, SETTLED_YES}, NEW_SHARE},
    {"copied-and-begun-anew", {NEW_FOLLOWED, TWIN_GROWING, TWIN_COPIED, SETTLED_NO}, NEW_BEGIN},
    {"copy-in-its-place", {NEW_FOLLOWED, TWIN_WHOLE, TWIN_GONE, SETTLED_NO}, NEW_COPY},
    {"copy-beside-backup", {NEW_FOLLOWED, TWIN_WHOLE, TWIN_ASIDE, SETTLED_NO}, NEW_COPY},
    {"older-copy", {NEW_FOLLOWED, TWIN_PART, TWIN_GONE, SETTLED_NO}, NEW_SHARE},
    {"little-in-common", {NEW_FOLLOWED, TWIN_LITTLE, TWIN_GONE, SETTLED_NO}, NEW_BEGIN_AGAIN},
    {"copy-growing", {NEW_FOLLOWED, TWIN_GROWING, TWIN_GONE, SETTLED_NO}, NEW_HOLD},
    {"shorter-copy", {NEW_FOLLOWED, TWIN_GROWING, TWIN_GONE, SETTLED_YES}, NEW_SHARE},
    {"editing", {NEW_FOLLOWED, TWIN_GROWING, TWIN_ASIDE, SETTLED_NO}, NEW_HOLD},
    {"editing-little", {NEW_FOLLOWED, TWIN_GROWING, TWIN_RENAMED, SETTLED_NO}, NEW_HOLD},
    {"little-under-another-name",
     {NEW_FOLLOWED, TWIN_WHOLE, TWIN_RENAMED, SETTLED_NO},
     NEW_BEGIN_AGAIN},
    {"heading-after-rotation", {NEW_FOLLOWED, TWIN_PART, TWIN_RENAMED, SETTLED_NO}, NEW_BEGIN},
    {"like-a-rotated-one", {NEW_FOLLOWED, TWIN_PART, TWIN_ASIDE, SETTLED_NO}, NEW_BEGIN},
    {"maybe-copytruncate", {NEW_FOLLOWED, TWIN_WHOLE, TWIN_KEPT, SETTLED_NO}, NEW_HOLD},
    {"copying", {NEW_FOLLOWED, TWIN_GROWING, TWIN_KEPT, SETTLED_NO}, NEW_HOLD},
    {"backup", {NEW_FOLLOWED, TWIN_WHOLE, TWIN_KEPT, SETTLED_YES}, NEW_SHARE},
    {"older-backup", {NEW_FOLLOWED, TWIN_GROWING, TWIN_KEPT, SETTLED_YES}, NEW_SHARE},
    {"same-heading", {NEW_FOLLOWED, TWIN_PART, TWIN_KEPT, SETTLED_NO}, NEW_BEGIN},
    {"maybe-moving", {NEW_FOLLOWED, TWIN_WHOLE, TWIN_IN_PLACE, SETTLED_NO}, NEW_HOLD},
    {"maybe-copying", {NEW_FOLLOWED, TWIN_GROWING, TWIN_IN_PLACE, SETTLED_NO}, NEW_HOLD},
    {"equal-file", {NEW_FOLLOWED, TWIN_WHOLE, TWIN_IN_PLACE, SETTLED_YES}, NEW_BEGIN},
};

static void each_case_has_its_evidence(void **state) {
    (void)state;
    size_t n, m;
    const struct file_case *f = file_table(&n);
    const struct new_case *w = new_table(&m);
    assert_int_equal(n, sizeof files / sizeof *files);
    assert_int_equal(m, sizeof news / sizeof *news);
    for (size_t i = 0; i < n; i++) {
        assert_string_equal(f[i].label, files[i].label);
        assert_string_equal(file_decide(&files[i].evidence)->label, files[i].label);
        assert_int_equal(file_decide(&files[i].evidence)->action, files[i].action);
        assert_true(strlen(f[i].why) > 20);
    }
    for (size_t i = 0; i < m; i++) {
        assert_string_equal(w[i].label, news[i].label);
        assert_string_equal(new_decide(&news[i].evidence)->label, news[i].label);
        assert_int_equal(new_decide(&news[i].evidence)->action, news[i].action);
        assert_true(strlen(w[i].why) > 20);
    }
}

static void nothing_is_given_up_on_what_cannot_be_seen(void **state) {
    (void)state;
    struct file_evidence e;
    for (e.name = NAME_FOLLOWED; e.name < NAME_ANY; e.name++)
        for (e.bytes = BYTES_SAME; e.bytes < BYTES_ANY; e.bytes++)
            for (e.copy = COPY_NO; e.copy < COPY_ANY; e.copy++)
                for (e.end = END_AHEAD; e.end < END_ANY; e.end++) {
                    enum file_action a = file_decide(&e)->action;
                    if (e.name == NAME_UNKNOWN || e.bytes == BYTES_UNREAD) /* PAWL-15 */
                        assert_true(a == FILE_WAIT || a == FILE_READ || a == FILE_TO_COPY);
                    if (a == FILE_LET_GO) /* never with bytes that are there and unread */
                        assert_true(e.end != END_AHEAD || e.copy == COPY_READ);
                    if (a == FILE_AGAIN || a == FILE_LOST)
                        assert_true(e.copy != COPY_YES && e.bytes != BYTES_SAME);
                    if (e.bytes == BYTES_SAME && e.end != END_WAITED) /* it stays read */
                        assert_true(a == FILE_READ || a == FILE_LINGER);
                }
}

static void every_new_file_is_decided_in_the_end(void **state) {
    (void)state;
    struct new_evidence e;
    for (e.name = NEW_FOLLOWED; e.name < NEW_ANY; e.name++)
        for (e.twin = TWIN_NONE; e.twin < TWIN_ANY; e.twin++)
            for (e.of = TWIN_GONE; e.of < TWIN_NAME_ANY; e.of++)
                for (e.settled = SETTLED_NO; e.settled < SETTLED_ANY; e.settled++) {
                    enum new_action a = new_decide(&e)->action;
                    if (e.settled == SETTLED_YES)
                        assert_true(a != NEW_HOLD && a != NEW_LEAVE);
                    if (e.twin == TWIN_EMPTY) /* it has no lines: newer ones wait for nothing */
                        assert_true(a != NEW_HOLD);
                    if (e.name == NEW_OLDER || e.name == NEW_OTHER)
                        assert_int_equal(a, NEW_SKIP);
                    else
                        assert_true(a != NEW_SKIP);
                    if (e.of == TWIN_IN_PLACE || e.of == TWIN_RENAMED) /* two files are two */
                        assert_true(a != NEW_COPY && a != NEW_SHARE);
                }
}

static void no_error_ends_a_source(void **state) {
    (void)state;
    for (int e = 1; e < 200; e++)
        assert_true(error_kind_of(e) >= ERROR_ABSENT && error_kind_of(e) <= ERROR_RACE);
    assert_int_equal(error_kind_of(ENOENT), ERROR_ABSENT);
    assert_int_equal(error_kind_of(EMFILE), ERROR_HANDLES);
    static const int pass[] = {EACCES, EPERM, EIO, ESTALE, ENOTCONN, ELOOP, ENOMEM, EHOSTDOWN};
    for (size_t i = 0; i < sizeof pass / sizeof *pass; i++)
        assert_int_equal(error_kind_of(pass[i]), ERROR_PASSES);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_case_has_its_evidence),
        cmocka_unit_test(nothing_is_given_up_on_what_cannot_be_seen),
        cmocka_unit_test(every_new_file_is_decided_in_the_end),
        cmocka_unit_test(no_error_ends_a_source),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
