/* SPDX-License-Identifier: Apache-2.0
 *
 * command.c - the program, and what it gets, from settings: see child.h.
 */
#include <errno.h>
#include <grp.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "connectors/exec/child.h"

#define NAMES_MAX ((size_t)64 << 10) /* bytes of a user's entry */

/* ---- the environment */

/* What the service manager has for us alone: a program that had it could say in our name that we
 * are well, or ready, or take our sockets. */
static const char *const never[] = {"NOTIFY_SOCKET", "WATCHDOG_PID",    "WATCHDOG_USEC",
                                    "LISTEN_PID",    "LISTEN_FDS",      "LISTEN_FDNAMES",
                                    "MAINPID",       "SYSTEMD_EXEC_PID"};
/* What is passed without being asked for; and all names with LC_. */
static const char *const passed[] = {"HOME", "LANG", "TZ", "TMPDIR", "USER", "LOGNAME"};

static bool is_name(const char *variable, const char *name) {
    size_t n = strlen(name);
    return strncmp(variable, name, n) == 0 && (variable[n] == '=' || variable[n] == 0);
}

static bool listed(const char *variable, const char *const *names, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (is_name(variable, names[i]))
            return true;
    return false;
}
#define LISTED(variable, names) listed((variable), (names), sizeof(names) / sizeof(names)[0])

/* Adds "NAME=value", in place of an earlier one of that name. Takes the text over. */
static int put(struct child_program *p, char *text) {
    size_t n = 0, length = text != NULL ? strcspn(text, "=") + 1 : 0;
    if (text == NULL)
        return PAWL_MEMORY;
    while (p->env[n] != NULL && strncmp(p->env[n], text, length) != 0)
        n++;
    if (p->env[n] != NULL) {
        free(p->env[n]);
        p->env[n] = text;
        return 0;
    }
    char **more = realloc((void *)p->env, (n + 2) * sizeof *more);
    if (more == NULL) {
        free(text);
        return PAWL_MEMORY;
    }
    p->env = more;
    more[n] = text;
    more[n + 1] = NULL;
    return 0;
}

static int put_pair(struct child_program *p, const char *name, const char *value) {
    size_t size = strlen(name) + strlen(value) + 2;
    char *text = malloc(size);
    if (text != NULL)
        snprintf(text, size, "%s=%s", name, value);
    return put(p, text);
}

static int put_passed(struct child_program *p, bool all) {
    int rc = put_pair(p, "PATH", CHILD_PATH);
    for (char **e = environ; rc == 0 && *e != NULL; e++)
        if (!LISTED(*e, never) && strchr(*e, '=') != NULL &&
            (all || LISTED(*e, passed) || strncmp(*e, "LC_", 3) == 0))
            rc = put(p, strdup(*e));
    return rc;
}

/* An element of the setting `environment`: NAME, NAME=value; "*" has been taken. */
static int put_element(struct child_program *p, const pawl_setting *s, pawl_error *err) {
    const char *text = s->value;
    size_t n = strcspn(text, "=");
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_";
    if (strcmp(text, "*") == 0)
        return 0;
    if (n == 0 || n > 200 || strspn(text, letters) != n || (text[0] >= '0' && text[0] <= '9'))
        return connect_error(err, PAWL_INVALID,
                             "line %u: environment takes NAME, NAME=value or *, not %.40s", s->line,
                             text);
    if (LISTED(text, never) || strncmp(text, "PAWL_", 5) == 0)
        return connect_error(err, PAWL_INVALID,
                             "line %u: %.*s is pawl's own, and no program gets it", s->line, (int)n,
                             text);
    if (text[n] == '=')
        return put(p, strdup(text)) == 0 ? 0
                                         : connect_error(err, PAWL_MEMORY, "no memory for a text");
    const char *value = getenv(text);
    return value == NULL || put_pair(p, text, value) == 0
               ? 0
               : connect_error(err, PAWL_MEMORY, "no memory for a text");
}

static int take_environment(struct child_program *p, const pawl_settings *s,
                            const struct passwd *user, pawl_error *err) {
    bool all = false;
    for (size_t i = 0; i < s->count; i++)
        all |= strncmp(s->items[i].name, "environment.", 12) == 0 &&
               strcmp(s->items[i].value, "*") == 0;
    if (put_passed(p, all) != 0 || (user != NULL && (put_pair(p, "HOME", user->pw_dir) != 0 ||
                                                     put_pair(p, "USER", user->pw_name) != 0 ||
                                                     put_pair(p, "LOGNAME", user->pw_name) != 0)))
        return connect_error(err, PAWL_MEMORY, "no memory for a text");
    int rc = 0;
    for (size_t i = 0; i < s->count && rc == 0; i++)
        if (strncmp(s->items[i].name, "environment.", 12) == 0)
            rc = put_element(p, &s->items[i], err);
    return rc;
}

char **child_environment(const struct child_program *p, const char *const *ours, size_t count) {
    size_t all = 0, n = 0;
    while (p->env[all] != NULL)
        all++;
    char **env = calloc(all + count + 1, sizeof *env);
    if (env == NULL)
        return NULL;
    for (size_t i = 0; i < all; i++) {
        bool replaced = false;
        for (size_t k = 0; k < count && !replaced; k++)
            replaced = strncmp(p->env[i], ours[k], strcspn(ours[k], "=") + 1) == 0;
        if (!replaced)
            env[n++] = p->env[i];
    }
    for (size_t i = 0; i < count; i++)
        env[n++] = (char *)(uintptr_t)ours[i];
    return env;
}

int child_find(const struct child_program *p, char out[CHILD_FILE_SIZE]) {
    const char *name = p->argv[0], *path = "";
    int error = ENOENT;
    if (strchr(name, '/') != NULL)
        return (size_t)snprintf(out, CHILD_FILE_SIZE, "%s", name) < CHILD_FILE_SIZE ? 0
                                                                                    : ENAMETOOLONG;
    for (char **e = p->env; *e != NULL; e++)
        if (strncmp(*e, "PATH=", 5) == 0)
            path = *e + 5;
    for (size_t n; *path != 0; path += n + (path[n] == ':')) {
        struct stat st;
        n = strcspn(path, ":");
        if (path[0] != '/') /* what it means depends on where pawl was started */
            continue;
        if ((size_t)snprintf(out, CHILD_FILE_SIZE, "%.*s/%s", (int)n, path, name) >=
                CHILD_FILE_SIZE ||
            stat(out, &st) != 0 || !S_ISREG(st.st_mode))
            continue;
        if (access(out, X_OK) == 0)
            return 0;
        error = EACCES;
    }
    return error;
}

/* ---- the command */

/* The value of "command.N"; NULL: not set. */
static const char *element(const pawl_settings *s, size_t n) {
    char name[32];
    snprintf(name, sizeof name, "command.%zu", n);
    for (size_t i = 0; i < s->count; i++)
        if (strcmp(s->items[i].name, name) == 0)
            return s->items[i].value;
    return NULL;
}

static int take_command(struct child_program *p, const pawl_settings *s, pawl_error *err) {
    const char *shell[] = {"/bin/sh", "-c", NULL};
    size_t elements = 0;
    for (size_t i = 0; i < s->count; i++) {
        elements += strncmp(s->items[i].name, "command.", 8) == 0;
        if (strcmp(s->items[i].name, "command") == 0)
            shell[2] = s->items[i].value;
    }
    if ((shell[2] != NULL) == (elements != 0))
        return connect_error(
            err, PAWL_INVALID,
            "exec needs a command: a text for /bin/sh, or a list of a program and its arguments");
    size_t count = elements != 0 ? elements : 3;
    p->argv = calloc(count + 1, sizeof *p->argv);
    for (size_t i = 0; p->argv != NULL && i < count; i++) {
        const char *word = elements != 0 ? element(s, i) : shell[i];
        if (word == NULL)
            return connect_error(err, PAWL_INVALID, "exec: the command has no element %zu", i);
        if (i == 0 && word[0] == 0)
            return connect_error(err, PAWL_INVALID, "exec: the program's name is empty");
        if ((p->argv[i] = strdup(word)) == NULL)
            return connect_error(err, PAWL_MEMORY, "no memory for a command");
    }
    return p->argv != NULL ? 0 : connect_error(err, PAWL_MEMORY, "no memory for a command");
}

/* ---- user and limits */

static bool is_number(const char *text, unsigned *out) {
    char *end;
    errno = 0;
    unsigned long n = strtoul(text, &end, 10);
    *out = (unsigned)n;
    return text[0] >= '0' && text[0] <= '9' && *end == 0 && errno == 0 && n < UINT32_MAX;
}

/* The user's entry, in `room`. */
static int find_user(const char *name, struct passwd *entry, char *room, pawl_error *err) {
    struct passwd *found = NULL;
    unsigned number;
    int rc = getpwnam_r(name, entry, room, NAMES_MAX, &found);
    if (found == NULL && is_number(name, &number))
        rc = getpwuid_r(number, entry, room, NAMES_MAX, &found);
    if (found != NULL)
        return 0;
    return connect_error(err, PAWL_INVALID, "exec: there is no user %.40s%s%s", name,
                         rc != 0 ? ": " : "", rc != 0 ? strerror(rc) : "");
}

static int find_group(const char *name, gid_t *out, pawl_error *err) {
    struct group entry, *found = NULL;
    unsigned number;
    char *room = malloc(NAMES_MAX);
    if (room == NULL)
        return connect_error(err, PAWL_MEMORY, "no memory for a group");
    (void)getgrnam_r(name, &entry, room, NAMES_MAX, &found);
    bool known = found != NULL || is_number(name, &number);
    if (known)
        *out = found != NULL ? found->gr_gid : number;
    free(room);
    return known ? 0 : connect_error(err, PAWL_INVALID, "exec: there is no group %.40s", name);
}

/* The groups of the user, or only the group that is set. */
static int take_groups(struct child_rules *r, const struct passwd *user, bool only,
                       pawl_error *err) {
    int count = 1, room = 64;
    r->groups = calloc((size_t)room, sizeof *r->groups);
    if (r->groups == NULL)
        return connect_error(err, PAWL_MEMORY, "no memory for groups");
    r->groups[0] = r->group;
    if (!only) {
        count = room;
        if (getgrouplist(user->pw_name, r->group, r->groups, &count) < 0)
            return connect_error(err, PAWL_INVALID, "exec: %s is in more than %d groups",
                                 user->pw_name, room);
    }
    r->group_count = (size_t)count;
    r->as_group = true;
    return 0;
}

static int take_user(struct child_rules *r, const char *group, const struct passwd *user,
                     pawl_error *err) {
    if (user == NULL && group == NULL)
        return 0;
    if (user != NULL) {
        r->user = user->pw_uid;
        r->group = user->pw_gid;
        if (group == NULL && r->user == geteuid() && r->user == getuid())
            return 0; /* it is ours */
        r->as_user = true;
    }
    int rc = group != NULL ? find_group(group, &r->group, err) : 0;
    return rc < 0 ? rc : take_groups(r, user, group != NULL, err);
}

static void limit(struct child_rules *r, int what, uint64_t most) {
    struct rlimit now;
    if (getrlimit((__rlimit_resource_t)what, &now) == 0 && most > now.rlim_max)
        most = now.rlim_max; /* it is no larger for us */
    r->limits[r->limit_count].what = what;
    r->limits[r->limit_count++].most = (struct child_limit){most, most};
}

static void take_limits(struct child_rules *r, const pawl_connector *c, const pawl_settings *s) {
    static const struct {
        const char *name;
        int what;
        uint64_t unit;
    } all[] = {{"limits.memory", RLIMIT_AS, 1},
               {"limits.files", RLIMIT_NOFILE, 1},
               {"limits.file_size", RLIMIT_FSIZE, 1},
               {"limits.processes", RLIMIT_NPROC, 1},
               {"limits.cpu", RLIMIT_CPU, 1000}};
    _Static_assert(sizeof all / sizeof all[0] < CHILD_LIMITS, "and one for core dumps");
    limit(r, RLIMIT_CORE, 0); /* they would hold records */
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        uint64_t n = pawl_setting_number(c, s, all[i].name);
        if (n != 0)
            limit(r, all[i].what, (n + all[i].unit - 1) / all[i].unit);
    }
}

int child_program(const pawl_connector *c, const pawl_settings *s, struct child_program **out,
                  pawl_error *err) {
    const char *name = pawl_setting_text(c, s, "user"), *group = pawl_setting_text(c, s, "group");
    struct passwd entry, *user = name != NULL ? &entry : NULL;
    struct child_program *p = *out = calloc(1, sizeof *p);
    char *room = malloc(NAMES_MAX);
    if (p != NULL)
        p->env = calloc(1, sizeof *p->env);
    int rc = room != NULL && p != NULL && p->env != NULL
                 ? 0
                 : connect_error(err, PAWL_MEMORY, "no memory for a program");
    if (rc == 0)
        rc = take_command(p, s, err);
    if (rc == 0 && name != NULL)
        rc = find_user(name, user, room, err);
    if (rc == 0)
        rc = take_user(&p->rules, group, user, err);
    if (rc == 0)
        rc = take_environment(p, s, user, err);
    if (rc == 0) {
        p->rules.may_gain = pawl_setting_number(c, s, "new_privileges") != 0;
        p->lets_end = pawl_setting_number(c, s, "survivors") == 1;
        take_limits(&p->rules, c, s);
    }
    free(room);
    return rc;
}

void child_program_free(struct child_program *p) {
    if (p == NULL)
        return;
    for (size_t i = 0; p->argv != NULL && p->argv[i] != NULL; i++)
        free(p->argv[i]);
    for (size_t i = 0; p->env != NULL && p->env[i] != NULL; i++)
        free(p->env[i]);
    free((void *)p->argv);
    free((void *)p->env);
    free(p->rules.groups);
    free(p);
}
