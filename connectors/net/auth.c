/* SPDX-License-Identifier: Apache-2.0
 *
 * auth.c - see auth.h.
 */
#include "connectors/net/auth.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

bool auth_challenge(char out[AUTH_HEX + 1]) {
    uint8_t bytes[AUTH_HEX / 2];
    if (getrandom(bytes, sizeof bytes, GRND_NONBLOCK) != (ssize_t)sizeof bytes)
        return false;
    connect_hex(bytes, sizeof bytes, out);
    return true;
}

#if PAWL_WITH_OPENSSL

#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_MAX (1u << 20)
#define SECRET_MIN 16u
#define SECRET_MAX 256u

struct auth {
    char *path;
    char *text; /* the file; its lines are cut at their ends. NULL: not read yet */
    size_t size;
    struct stat seen;
};

int auth_new(const char *path, struct auth **out, pawl_error *err) {
    struct auth *a = calloc(1, sizeof *a);
    if (a == NULL || (a->path = strdup(path)) == NULL) {
        free(a);
        return connect_error(err, PAWL_MEMORY, "no memory for secrets");
    }
    *out = a;
    return 0;
}

static void forget(char *text, size_t size) {
    if (text != NULL)
        OPENSSL_cleanse(text, size);
    free(text);
}

void auth_free(struct auth *a) {
    if (a == NULL)
        return;
    forget(a->text, a->size);
    free(a->path);
    free(a);
}

/* The next line from *at on that has a name, with *secret after it; NULL: there is none. Lines end
 * with NUL here. */
static const char *next_line(const char **at, const char *end, const char **secret) {
    while (*at < end) {
        const char *line = *at, *space = strchr(line, ' ');
        *at = line + strlen(line) + 1;
        if (line[0] == 0 || line[0] == '#')
            continue;
        *secret = space != NULL ? space + 1 : line + strlen(line);
        return line;
    }
    return NULL;
}

/* The first fault of the file; NULL: none. */
static const char *fault_of(char *text, size_t size) {
    const char *at = text, *secret, *line;
    if (memchr(text, 0, size) != NULL)
        return "it has NUL bytes";
    for (size_t i = 0; i < size; i++)
        if (text[i] == '\n') {
            text[i] = 0;
            if (i > 0 && text[i - 1] == '\r')
                text[i - 1] = 0;
        }
    while ((line = next_line(&at, text + size, &secret)) != NULL) {
        char name[72];
        snprintf(name, sizeof name, "%.*s", (int)strcspn(line, " "), line);
        if (strcmp(name, "*") != 0 && !connect_name_ok(name))
            return "a line must be a name (or *), a space and a secret";
        if (strlen(secret) < SECRET_MIN || strlen(secret) > SECRET_MAX)
            return "a secret must have 16 to 256 bytes";
        pawl_secret_add(secret); /* no message shows it */
    }
    return NULL;
}

/* Reads all of it; NULL: *why says why not. */
static char *read_file(const char *path, struct stat *st, size_t *size, const char **why) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    char *text = NULL;
    const char *other = NULL;
    *why = fd < 0 || fstat(fd, st) != 0            ? strerror(errno)
           : !S_ISREG(st->st_mode)                 ? "it is no file"
           : (st->st_mode & S_IROTH)               ? "every user can read it: chmod 600"
           : connect_secret_judge(st, &other) != 0 ? other
           : st->st_size > FILE_MAX                ? "it is larger than 1 MiB"
                                                   : NULL;
    if (*why == NULL && (text = malloc((size_t)st->st_size + 1)) == NULL)
        *why = "no memory";
    ssize_t n = text != NULL ? read(fd, text, (size_t)st->st_size) : 0;
    if (text != NULL && n != st->st_size)
        *why = "it changed while it was read";
    if (fd >= 0)
        close(fd);
    if (text != NULL && *why == NULL) {
        text[n] = 0;
        *size = (size_t)n;
        *why = fault_of(text, *size);
    }
    if (*why != NULL && text != NULL) {
        forget(text, (size_t)st->st_size + 1);
        text = NULL;
    }
    return text;
}

static bool same_file(const struct stat *a, const struct stat *b) {
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
           a->st_mode == b->st_mode && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
           a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

int auth_load(struct auth *a, char *warning, size_t size, pawl_fault *f) {
    struct stat now;
    const char *why;
    size_t n = 0;
    warning[0] = 0;
    memset(&now, 0, sizeof now);
    if (a->text != NULL && (stat(a->path, &now) != 0 || same_file(&now, &a->seen)))
        return PAWL_DONE; /* one that is missing now may be about to be replaced */
    char *text = read_file(a->path, &now, &n, &why);
    if (text == NULL && a->text == NULL)
        return pawl_fault_set(f, PAWL_RETRY, "secrets: %s: %s", a->path, why);
    a->seen = now;
    if (text == NULL) {
        snprintf(warning, size, "the new secrets are not used, the old ones stay: %s: %s", a->path,
                 why);
        return PAWL_DONE;
    }
    forget(a->text, a->size);
    a->text = text;
    a->size = n;
    return PAWL_DONE;
}

static const char *secret_of(const struct auth *a, const char *name) {
    const char *at = a->text, *secret, *line, *others = NULL;
    size_t n = strlen(name);
    while (at != NULL && (line = next_line(&at, a->text + a->size, &secret)) != NULL) {
        if (strncmp(line, name, n) == 0 && line[n] == ' ')
            return secret;
        if (line[0] == '*')
            others = secret;
    }
    return others;
}

bool auth_proves(const struct auth *a, const char *name, const char *challenge, const char *proof,
                 size_t len) {
    const char *secret = secret_of(a, name);
    const char *key =
        secret != NULL ? secret : a->path; /* as much work for a name that isn't there */
    char text[160], want[2 * EVP_MAX_MD_SIZE + 1];
    uint8_t mac[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    int n = snprintf(text, sizeof text, "PAWL1 %s %s", name, challenge);
    if (n < 0 || n >= (int)sizeof text ||
        HMAC(EVP_sha256(), key, (int)strlen(key), (const uint8_t *)text, (size_t)n, mac, &size) ==
            NULL)
        return false;
    connect_hex(mac, size, want);
    return secret != NULL && len == AUTH_HEX && CRYPTO_memcmp(want, proof, AUTH_HEX) == 0;
}

#else

int auth_new(const char *path, struct auth **out, pawl_error *err) {
    (void)path;
    (void)out;
    return connect_error(err, PAWL_INVALID,
                         "this build has no secrets of senders (OpenSSL wasn't found)");
}

void auth_free(struct auth *a) {
    (void)a;
}

int auth_load(struct auth *a, char *warning, size_t size, pawl_fault *f) {
    (void)a;
    (void)warning;
    (void)size;
    return pawl_fault_set(f, PAWL_FATAL, "this build has no secrets of senders");
}

bool auth_proves(const struct auth *a, const char *name, const char *challenge, const char *proof,
                 size_t len) {
    (void)a;
    (void)name;
    (void)challenge;
    (void)proof;
    (void)len;
    return false;
}

#endif
