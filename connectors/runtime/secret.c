/* SPDX-License-Identifier: Apache-2.0
 *
 * Secrets: passwords, passphrases of keys, connection strings that hold one. They are read here,
 * and remembered, so that no message of this library shows one, whoever wrote the message: each
 * goes through connect_text(), and that through pawl_secret_hide().
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "connectors/runtime/connect.h"

#define KNOWN_MAX 256
#define LENGTH_MIN 4 /* what is shorter is hidden nowhere: it would be found in every message */

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static char *known[KNOWN_MAX]; /* the longest first; never freed, so a late message is covered */
static size_t known_count;

static void remember(const char *secret, size_t len) {
    if (len < LENGTH_MIN)
        return;
    pthread_mutex_lock(&mutex);
    size_t at = 0;
    bool there = false;
    for (size_t i = 0; i < known_count; i++) {
        there = there || (strlen(known[i]) == len && memcmp(known[i], secret, len) == 0);
        at += strlen(known[i]) >= len;
    }
    char *copy = there || known_count == KNOWN_MAX ? NULL : strndup(secret, len);
    if (copy != NULL) {
        memmove(known + at + 1, known + at, (known_count - at) * sizeof *known);
        known[at] = copy;
        known_count++;
    }
    pthread_mutex_unlock(&mutex);
}

void pawl_secret_add(const char *secret) {
    size_t len = secret != NULL ? strlen(secret) : 0;
    char shown[1024];
    remember(secret, len);
    /* as it may already have been written into a message */
    remember(shown, pawl_show(secret, len, NULL, shown, sizeof shown));
}

/* Does the text's end, which was cut, have the beginning of the secret? Its length. */
static size_t cut_secret(const char *text, size_t len, const char *secret) {
    size_t n = strlen(secret) - 1;
    for (n = n < len ? n : len; n >= LENGTH_MIN; n--)
        if (memcmp(text + len - n, secret, n) == 0)
            return n;
    return 0;
}

size_t pawl_secret_hide(char *text, int cut) {
    size_t len = strlen(text);
    pthread_mutex_lock(&mutex);
    for (size_t i = 0; i < known_count; i++) {
        size_t n = strlen(known[i]), part;
        for (char *at = text; (at = strstr(at, known[i])) != NULL; at += 3) {
            memset(at, '*', 3);
            memmove(at + 3, at + n, (size_t)(text + len - at) - n + 1);
            len -= n - 3;
        }
        if (cut != 0 && (part = cut_secret(text, len, known[i])) != 0) {
            memcpy(text + len - part, "***", 4);
            len -= part - 3;
        }
    }
    pthread_mutex_unlock(&mutex);
    return len;
}

/* ---- files */

static int refused(pawl_error *err, int code, const char *path, const char *why) {
    return connect_error(err, code, "the secret's file %s %s", path, why);
}

int connect_secret_judge(const struct stat *st, const char **why) {
    *why = !S_ISREG(st->st_mode) ? "is not a regular file"
           : (st->st_mode & (S_IROTH | S_IWOTH | S_IWGRP)) != 0
               ? "can be read or written by other users: chmod o-rwx,g-w"
           : st->st_uid != 0 && st->st_uid != geteuid() ? "belongs to another user"
                                                        : NULL;
    return *why == NULL ? 0 : S_ISREG(st->st_mode) ? PAWL_PERMISSION : PAWL_INVALID;
}

int pawl_secret_read(const char *path, char *out, size_t size, pawl_error *err) {
    if (path == NULL || out == NULL || size < 2)
        return connect_error(err, PAWL_INVALID, "path or buffer is missing");
    struct stat st;
    const char *why = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    int rc = fd >= 0 && fstat(fd, &st) == 0
                 ? connect_secret_judge(&st, &why)
                 : connect_error(err, errno == EACCES ? PAWL_PERMISSION : PAWL_IO,
                                 "the secret's file %s cannot be read: %s", path, strerror(errno));
    if (why != NULL)
        rc = refused(err, rc, path, why);
    size_t len = 0;
    for (ssize_t got = 1; rc == 0 && got > 0 && len < size; len += (size_t)got)
        if ((got = read(fd, out + len, size - len)) < 0)
            rc = refused(err, PAWL_IO, path, strerror(errno)), got = 0;
    if (fd >= 0)
        close(fd);
    if (rc == 0 && len == size)
        rc = refused(err, PAWL_INVALID, path, "is too long");
    if (rc == 0 && len > 0 && out[len - 1] == '\n')
        len -= 1u + (len > 1 && out[len - 2] == '\r');
    if (rc == 0 && (len == 0 || memchr(out, 0, len) != NULL))
        rc = refused(err, PAWL_INVALID, path, len == 0 ? "is empty" : "has a NUL in it");
    if (rc < 0) {
        explicit_bzero(out, size);
        return rc;
    }
    out[len] = 0;
    pawl_secret_add(out);
    return (int)len;
}

/* ---- settings: a secret NAME may be given as NAME_file */

/* The setting of which `name` gives the file; its length, 0: of none. */
size_t connect_secret_file(const pawl_connector *c, const char *name) {
    static const char end[] = "_file";
    size_t n = strlen(name), k = sizeof end - 1;
    if (n <= k || strcmp(name + n - k, end) != 0)
        return 0;
    for (const pawl_setting_info *i = c->settings; i != NULL && i->name != NULL; i++)
        if (i->kind == PAWL_SETTING_SECRET && strlen(i->name) == n - k &&
            memcmp(i->name, name, n - k) == 0)
            return n - k;
    return 0;
}

static bool is_secret(const pawl_connector *c, const char *name) {
    for (const pawl_setting_info *i = c->settings; i != NULL && i->name != NULL; i++)
        if (i->kind == PAWL_SETTING_SECRET && strcmp(i->name, name) == 0)
            return true;
    return false;
}

void connect_secrets_free(struct connect_secrets *own) {
    for (size_t i = 0; i < own->count; i++) {
        explicit_bzero(own->texts[i], strlen(own->texts[i]));
        free(own->texts[i]);
    }
    free(own->items);
    *own = (struct connect_secrets){0};
}

int connect_secrets_take(const pawl_connector *c, const pawl_settings *s,
                         struct connect_secrets *own, pawl_error *err) {
    *own = (struct connect_secrets){.items = calloc(s->count + 1, sizeof *own->items)};
    if (own->items == NULL)
        return connect_error(err, PAWL_MEMORY, "no memory for settings");
    own->settings = (pawl_settings){.items = own->items, .count = s->count};
    for (size_t i = 0; i < s->count; i++) {
        pawl_setting *to = &own->items[i];
        *to = s->items[i];
        size_t n = connect_secret_file(c, to->name);
        if (n == 0 && is_secret(c, to->name))
            pawl_secret_add(to->value);
        if (n == 0)
            continue;
        char text[CONNECT_SECRET_MAX];
        pawl_error why = {0};
        int rc = own->count + 2 <= CONNECT_SECRETS_MAX
                     ? pawl_secret_read(to->value, text, sizeof text, &why)
                     : connect_error(&why, PAWL_LIMIT, "too many secrets");
        char *name = strndup(to->name, n), *value = rc < 0 ? NULL : strdup(text);
        explicit_bzero(text, sizeof text);
        if (name != NULL)
            own->texts[own->count++] = name;
        if (value != NULL)
            own->texts[own->count++] = value;
        if (name == NULL || value == NULL) {
            rc = rc < 0 ? connect_error(err, rc, "line %u: %s: %s", to->line, to->name, why.message)
                        : connect_error(err, PAWL_MEMORY, "no memory for settings");
            connect_secrets_free(own);
            return rc;
        }
        to->name = name;
        to->value = value;
    }
    return 0;
}
