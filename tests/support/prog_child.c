/* SPDX-License-Identifier: Apache-2.0
 *
 * prog_child - prints what it got from the process that started it, one name and value a line:
 *   environment   the names of the variables, sorted
 *   NAME=value    the variables that the arguments name
 *   descriptors   those that are open, beside the directory that is read for it
 *   blocked, ignored   signals, as /proc has them
 *   leader        of its session, and of its process group: 1 1
 *   gain          1: no new privileges
 *   ambient       capabilities
 *   parent        the signal that comes when the parent dies
 *   user, group, groups
 *   core, memory, files, file_size, processes, cpu   soft and hard limits; "-": none
 */
#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

static int by_text(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void variables(int argc, char **argv) {
    size_t n = 0;
    while (environ[n] != NULL)
        n++;
    for (int i = 1; i < argc; i++)
        printf("%s=%s\n", argv[i], getenv(argv[i]) != NULL ? getenv(argv[i]) : "(not set)");
    qsort((void *)environ, n, sizeof *environ, by_text);
    printf("environment");
    for (size_t i = 0; i < n; i++)
        printf(" %.*s", (int)strcspn(environ[i], "="), environ[i]);
    printf("\n");
}

static void descriptors(void) {
    DIR *d = opendir("/proc/self/fd");
    const struct dirent *e;
    int open[64], n = 0;
    while (d != NULL && n < 64 && (e = readdir(d)) != NULL)
        if (e->d_name[0] != '.' && atoi(e->d_name) != dirfd(d))
            open[n++] = atoi(e->d_name);
    printf("descriptors");
    for (int i = 0; i < n; i++)
        printf(" %d", open[i]);
    printf("\n");
    if (d != NULL)
        closedir(d);
}

static void status(void) {
    char line[200];
    unsigned long long n;
    FILE *f = fopen("/proc/self/status", "r");
    while (f != NULL && fgets(line, sizeof line, f) != NULL)
        if (sscanf(line, "SigBlk: %llx", &n) == 1)
            printf("blocked %llx\n", n);
        else if (sscanf(line, "SigIgn: %llx", &n) == 1)
            printf("ignored %llx\n", n);
        else if (sscanf(line, "CapAmb: %llx", &n) == 1)
            printf("ambient %llx\n", n);
    if (f != NULL)
        fclose(f);
}

static void limit(const char *name, int what) {
    struct rlimit l = {0};
    (void)getrlimit((__rlimit_resource_t)what, &l);
    if (l.rlim_cur == RLIM_INFINITY)
        printf("%s -\n", name);
    else
        printf("%s %ju %ju\n", name, (uintmax_t)l.rlim_cur, (uintmax_t)l.rlim_max);
}

int main(int argc, char **argv) {
    gid_t groups[64];
    int signal = 0, n = getgroups(64, groups);
    descriptors();
    variables(argc, argv);
    status();
    (void)prctl(PR_GET_PDEATHSIG, &signal);
    printf("leader %d %d\ngain %d\nparent %d\nuser %u %u\ngroup %u %u\ngroups",
           getsid(0) == getpid(), getpgrp() == getpid(), prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0),
           signal, getuid(), geteuid(), getgid(), getegid());
    for (int i = 0; i < n; i++)
        printf(" %u", groups[i]);
    printf("\n");
    limit("core", RLIMIT_CORE);
    limit("memory", RLIMIT_AS);
    limit("files", RLIMIT_NOFILE);
    limit("file_size", RLIMIT_FSIZE);
    limit("processes", RLIMIT_NPROC);
    limit("cpu", RLIMIT_CPU);
    return 0;
}
