/* SPDX-License-Identifier: Apache-2.0
 *
 * prog_filter.c - runs a program that may make only some system calls; the others fail with EPERM.
 *
 *     prog_filter FILE PROGRAM [ARGUMENT...]     FILE: a name on each line
 *
 * It exits with 77 where it was built without libseccomp.
 */
#include <stdio.h>
#include <unistd.h>

#if PAWL_WITH_SECCOMP

#include <errno.h>
#include <seccomp.h>
#include <string.h>

static int fill(scmp_filter_ctx filter, FILE *names) {
    char line[100];
    int rc = 0;
    while (rc == 0 && fgets(line, sizeof line, names) != NULL) {
        line[strcspn(line, "\n")] = 0;
        int number = seccomp_syscall_resolve_name(line);
        if (number != __NR_SCMP_ERROR)
            rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, number, 0);
    }
    return rc;
}

int main(int argc, char **argv) {
    FILE *names = argc > 2 ? fopen(argv[1], "r") : NULL;
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    if (names == NULL || filter == NULL || fill(filter, names) != 0 || seccomp_load(filter) != 0)
        return 1;
    fclose(names);
    seccomp_release(filter);
    execv(argv[2], argv + 2);
    perror(argv[2]);
    return 1;
}

#else

int main(void) {
    puts("SKIPPED: this build has no libseccomp");
    return 77;
}

#endif
