/* SPDX-License-Identifier: Apache-2.0
 *
 * A new directory of a test, and how it goes.
 */
#ifndef PAWL_TESTS_TEST_DIR_H
#define PAWL_TESTS_TEST_DIR_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* `dir` becomes `path`, a dot and six characters. Returns 0 or -1. */
static inline int test_dir_make(char dir[64], const char *path) {
    return snprintf(dir, 64, "%s.XXXXXX", path) >= 64 || mkdtemp(dir) == NULL ? -1 : 0;
}

/* With all that is in it. Returns 0 or -1. */
static inline int test_dir_remove(const char *dir) {
    char command[320];
    if (snprintf(command, sizeof command, "rm -rf -- '%s'", dir) >= (int)sizeof command)
        return -1;
    return system(command) != 0 ? -1 : 0;
}

/* Removes its files, in this process. */
static inline void test_dir_empty(const char *dir) {
    char path[320];
    DIR *d = opendir(dir);
    struct dirent *e;
    while (d != NULL && (e = readdir(d)) != NULL) {
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        unlink(path);
    }
    if (d != NULL)
        closedir(d);
}

#endif
