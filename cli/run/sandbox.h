/* SPDX-License-Identifier: Apache-2.0
 *
 * sandbox.h - what `pawl run` gives up before it starts its parts, so that a mistake in one of them
 * is worth less: system calls that no part needs, new privileges, its memory as a file.
 *
 * | --sandbox | memory on disk, other processes | system calls and new privileges               |
 * |-----------|---------------------------------|-----------------------------------------------|
 * | auto      | kept from them                  | given up, unless a part runs foreign code     |
 * | on        | kept from them                  | given up; the programs of `exec` inherit that |
 * | off       | as the system has it            | as the system has it                          |
 *
 * Foreign code is a program of `exec` or a shared object of `plugin`: nobody knows what it needs,
 * and a filter can't be taken back. So the parts that were there at the start are remembered, and a
 * reload that adds another kind needs a restart.
 */
#ifndef PAWL_CLI_SANDBOX_H
#define PAWL_CLI_SANDBOX_H

#include "cli/run/config.h"

enum sandbox_mode { SANDBOX_AUTO, SANDBOX_ON, SANDBOX_OFF };

enum sandbox_need {
    SANDBOX_PROGRAMS = 1, /* foreign code */
    SANDBOX_KEYS = 2      /* the kernel's keys: Kerberos has its tickets there */
};

/* False: no such mode. NULL is the default: auto; off where a sanitizer looks into the process. */
bool sandbox_mode_of(const char *text, enum sandbox_mode *out);
/* enum sandbox_need of a pipeline. */
unsigned sandbox_needs(const config *c);
/* Gives up what `mode` says, for this process and those that it starts. To be called before there
 * are threads. 0; -1: with `on`, what was asked for can't be done, and a message says so. */
int sandbox_enter(enum sandbox_mode mode, unsigned needs);
/* May parts be added that need this? */
bool sandbox_allows(unsigned needs);

#endif
