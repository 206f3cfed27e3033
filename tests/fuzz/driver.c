/* SPDX-License-Identifier: Apache-2.0
 *
 * driver.c - runs a fuzz target over files and folders, where it isn't linked with libFuzzer: each
 * corpus is an ordinary test.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned done;

static int run_file(const char *path) {
    FILE *f = fopen(path, "rb");
    if (f == NULL) {
        perror(path);
        return 1;
    }
    static uint8_t data[1 << 20];
    size_t n = fread(data, 1, sizeof data, f);
    fclose(f);
    /* so that a read beyond the end is seen by a sanitizer */
    uint8_t *exact = malloc(n == 0 ? 1 : n);
    if (exact == NULL)
        return 1;
    memcpy(exact, data, n);
    LLVMFuzzerTestOneInput(exact, n);
    free(exact);
    done++;
    return 0;
}

static int run(const char *path) {
    struct stat st;
    if (stat(path, &st) != 0)
        return 0; /* no finds yet */
    if (!S_ISDIR(st.st_mode))
        return run_file(path);
    DIR *d = opendir(path);
    const struct dirent *e;
    int rc = 0;
    while (d != NULL && (e = readdir(d)) != NULL) {
        char name[512];
        snprintf(name, sizeof name, "%s/%s", path, e->d_name);
        if (e->d_name[0] != '.')
            rc |= run_file(name);
    }
    if (d != NULL)
        closedir(d);
    return rc;
}

int main(int argc, char **argv) {
    int rc = 0;
    LLVMFuzzerTestOneInput(NULL, 0);
    for (int i = 1; i < argc; i++)
        rc |= run(argv[i]);
    printf("%u inputs\n", done);
    return rc;
}
