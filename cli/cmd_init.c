/* SPDX-License-Identifier: Apache-2.0
 *
 * cmd_init.c - `pawl init`: makes a log.
 */
#include <inttypes.h>
#include <sys/statvfs.h>

#include "cli/cli.h"

enum { SEGMENT_SIZE, DISK_CAP };
static const cli_option options[] = {
    [SEGMENT_SIZE] = {"segment-size", "SIZE",
                      "bytes a segment file, a multiple of 1M, from 1M to 4G (64M)"},
    [DISK_CAP] = {"disk-cap", "SIZE",
                  "bytes that all segments may take, at least four of them (no cap)"},
    {NULL, NULL, NULL},
};

/* What works, and will disappoint. */
static void remark(const char *dir, uint64_t segment_size) {
    const uint64_t mib = UINT64_C(1) << 20;
    const char *memory = cli_in_memory(dir);
    struct statvfs s;
    if (memory != NULL)
        cli_error("remark: %s is on %s, in memory: nothing in it outlives a reboot or a power cut",
                  dir, memory);
    if (statvfs(dir, &s) != 0)
        return;
    uint64_t size = s.f_blocks * s.f_frsize, fits = segment_size;
    while (fits > mib && fits > size / 8)
        fits = fits / 2 / mib * mib;
    if (size / 4 < segment_size && fits < segment_size)
        cli_error("remark: the file system of %s holds less than four segments of %" PRIu64
                  " MiB, and the log will be full soon; --segment-size %" PRIu64 "M suits it",
                  dir, segment_size / mib, fits / mib);
}

static int run(cli_args *a) {
    const uint64_t mib = UINT64_C(1) << 20;
    const char *dir = a->positional[0];
    pawl_options o = PAWL_OPTIONS_INIT;
    o.flags = PAWL_OPEN_CREATE | PAWL_OPEN_EXCLUSIVE;
    o.backend = a->backend;
    o.direct = a->direct;
    o.memory_cap = a->memory;
    o.segment_size = 64 * mib;
    const char *size = a->value[SEGMENT_SIZE], *cap = a->value[DISK_CAP];
    if (size != NULL && (!cli_parse_size(size, &o.segment_size) || o.segment_size % mib != 0 ||
                         o.segment_size < mib || o.segment_size > 4096 * mib))
        return cli_usage(a, "--segment-size takes a multiple of 1M from 1M to 4G, not '%s'", size);
    if (cap != NULL && (!cli_parse_size(cap, &o.disk_cap) || o.disk_cap / 4 < o.segment_size))
        return cli_usage(a, "--disk-cap takes a size of at least four segments, not '%s'", cap);

    pawl *log = NULL;
    pawl_error e = {0};
    int code = pawl_open(dir, &o, &log, &e);
    if (code == PAWL_EXISTS) {
        cli_error("%s holds a log already; nothing was changed", dir);
        return CLI_PROBLEM;
    }
    if (code < 0) {
        cli_error("cannot make a log in %s: %s", dir,
                  e.message[0] != '\0' ? e.message : pawl_strerror(code));
        return CLI_CANNOT_OPEN;
    }
    remark(dir, o.segment_size);
    return cli_close(log, dir, CLI_OK);
}

const cli_command cli_init = {
    .name = "init",
    .synopsis = "DIR [--segment-size SIZE] [--disk-cap SIZE]",
    .summary = "Make a log in a directory, which is made too if need be",
    .options = options,
    .min = 1,
    .max = 1,
    .opens = true,
    .run = run,
};
