/* SPDX-License-Identifier: Apache-2.0
 *
 * plant.c - see plant.h.
 */
#include "tests/support/plant.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <unistd.h>

#define NOBODY 65534u
static const char victim_text[] = "the victim's own bytes\n";

const char *const plant_names[PLANT_KINDS] = {
    "a link to a file", "a dangling link", "a link to a directory", "a hard link",         "a pipe",
    "a socket",         "a device",        "a directory",           "another user's file",
};

static void write_file(const char *path, const char *text) {
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    assert_int_equal(close(fd), 0);
}

void plant_begin(struct plant *p, const char *ground) {
    char path[PATH_MAX];
    *p = (struct plant){0};
    snprintf(p->ground, sizeof p->ground, "%s", ground);
    assert_int_equal(mkdir(ground, 0755), 0);
    snprintf(path, sizeof path, "%s/victim", ground);
    write_file(path, victim_text);
    snprintf(path, sizeof path, "%s/empty", ground);
    assert_int_equal(mkdir(path, 0755), 0);
}

bool plant_put(struct plant *p, enum plant_kind kind, const char *path) {
    char victim[PATH_MAX], none[PATH_MAX], empty[PATH_MAX];
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    struct stat st;
    int rc = 0, fd;
    p->kind = kind;
    snprintf(victim, sizeof victim, "%s/victim", p->ground);
    snprintf(none, sizeof none, "%s/none", p->ground);
    snprintf(empty, sizeof empty, "%s/empty", p->ground);
    if ((kind == PLANT_DEVICE || kind == PLANT_OTHERS) && geteuid() != 0)
        return false;
    switch (kind) {
    case PLANT_LINK:
        rc = symlink(victim, path);
        break;
    case PLANT_DANGLING:
        rc = symlink(none, path);
        break;
    case PLANT_LINK_DIR:
        rc = symlink(empty, path);
        break;
    case PLANT_HARD_LINK:
        rc = link(victim, path);
        break;
    case PLANT_PIPE:
        rc = mkfifo(path, 0666);
        break;
    case PLANT_SOCKET:
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_true(strlen(path) < sizeof a.sun_path);
        memcpy(a.sun_path, path, strlen(path));
        rc = bind(fd, (const struct sockaddr *)&a, sizeof a);
        close(fd);
        break;
    case PLANT_DEVICE:
        if (mknod(path, S_IFCHR | 0666, makedev(1, 7)) != 0)
            return false; /* a container forbids it */
        break;
    case PLANT_DIRECTORY:
        rc = mkdir(path, 0777);
        break;
    default:
        write_file(path, victim_text);
        rc = chown(path, NOBODY, NOBODY);
        break;
    }
    assert_int_equal(rc, 0);
    if (geteuid() == 0 && kind != PLANT_HARD_LINK)
        assert_int_equal(lchown(path, NOBODY, NOBODY), 0);
    assert_int_equal(lstat(path, &st), 0);
    p->dev = st.st_dev;
    p->ino = st.st_ino;
    return true;
}

bool plant_is(const struct plant *p, const char *path) {
    struct stat st;
    return lstat(path, &st) == 0 && st.st_dev == p->dev && st.st_ino == p->ino;
}

static void same_text(const char *path, const char *when) {
    char text[256] = "";
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof text - 1) : -1;
    if (fd >= 0)
        close(fd);
    if (n != (ssize_t)strlen(victim_text) || strcmp(text, victim_text) != 0)
        fail_msg("%s: %s was changed: \"%s\"", when, path, text);
}

static unsigned entries(const char *directory) {
    unsigned n = 0;
    DIR *d = opendir(directory);
    assert_non_null(d);
    while (readdir(d) != NULL)
        n++;
    closedir(d);
    return n - 2;
}

void plant_judge(const struct plant *p, const char *directory, const char *when) {
    char path[PATH_MAX], victim[PATH_MAX];
    const struct dirent *e;
    bool found = false;
    snprintf(victim, sizeof victim, "%s/victim", p->ground);
    same_text(victim, when);
    snprintf(path, sizeof path, "%s/none", p->ground);
    if (access(path, F_OK) == 0)
        fail_msg("%s: a link was followed, and a file made", when);
    snprintf(path, sizeof path, "%s/empty", p->ground);
    if (entries(path) != 0)
        fail_msg("%s: something was made in a directory that a link leads to", when);
    if (directory == NULL)
        return;
    DIR *d = opendir(directory);
    assert_non_null(d);
    while (!found && (e = readdir(d)) != NULL) {
        snprintf(path, sizeof path, "%s/%s", directory, e->d_name);
        found = strcmp(e->d_name, "..") != 0 && plant_is(p, path);
    }
    closedir(d);
    if (!found)
        fail_msg("%s: what was planted was removed", when);
    if (p->kind == PLANT_OTHERS)
        same_text(path, when);
    if (p->kind == PLANT_DIRECTORY && entries(path) != 0)
        fail_msg("%s: something was made in the planted directory", when);
}

void plant_end(const struct plant *p) {
    char command[PATH_MAX];
    snprintf(command, sizeof command, "rm -rf '%s'", p->ground);
    assert_int_equal(system(command), 0);
}
