/* SPDX-License-Identifier: Apache-2.0
 *
 * command.c - the program and its environment, from settings and variables: see child.h.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "connectors/exec/child.h"

static bool replaced(const char *variable, const char *const *ours, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (strncmp(variable, ours[i], strcspn(ours[i], "=") + 1) == 0)
            return true;
    return false;
}

char **child_environment(const char *const *ours, size_t count) {
    size_t all = 0, n = 0;
    while (environ[all] != NULL)
        all++;
    char **env = calloc(all + count + 1, sizeof *env);
    if (env == NULL)
        return NULL;
    for (size_t i = 0; i < all; i++)
        if (!replaced(environ[i], ours, count))
            env[n++] = environ[i];
    for (size_t i = 0; i < count; i++)
        env[n++] = (char *)(uintptr_t)ours[i];
    return env;
}

void child_program_free(char **program) {
    for (size_t i = 0; program != NULL && program[i] != NULL; i++)
        free(program[i]);
    free((void *)program);
}

/* The value of "command.N"; NULL: not set. */
static const char *element(const pawl_settings *s, size_t n) {
    char name[32];
    snprintf(name, sizeof name, "command.%zu", n);
    for (size_t i = 0; i < s->count; i++)
        if (strcmp(s->items[i].name, name) == 0)
            return s->items[i].value;
    return NULL;
}

int child_program(const pawl_settings *s, char ***out, pawl_error *err) {
    const char *shell[] = {"/bin/sh", "-c", NULL};
    size_t listed = 0;
    for (size_t i = 0; i < s->count; i++) {
        listed += strncmp(s->items[i].name, "command.", 8) == 0;
        if (strcmp(s->items[i].name, "command") == 0)
            shell[2] = s->items[i].value;
    }
    if ((shell[2] != NULL) == (listed != 0))
        return connect_error(
            err, PAWL_INVALID,
            "exec needs a command: a text for /bin/sh, or a list of a program and its arguments");
    size_t count = listed != 0 ? listed : 3;
    char **program = calloc(count + 1, sizeof *program);
    *out = program;
    for (size_t i = 0; program != NULL && i < count; i++) {
        const char *word = listed != 0 ? element(s, i) : shell[i];
        if (word == NULL)
            return connect_error(err, PAWL_INVALID, "exec: the command has no element %zu", i);
        if (i == 0 && word[0] == 0)
            return connect_error(err, PAWL_INVALID, "exec: the program's name is empty");
        if ((program[i] = strdup(word)) == NULL)
            return connect_error(err, PAWL_MEMORY, "no memory for a command");
    }
    return program != NULL ? 0 : connect_error(err, PAWL_MEMORY, "no memory for a command");
}

bool child_survivors_end(const pawl_connector *c, const pawl_settings *s) {
    return pawl_setting_number(c, s, "survivors") == 1;
}
