/* SPDX-License-Identifier: Apache-2.0
 *
 * show.c - the only place where the command writes text to a stream. Names, messages of libraries
 * and peers, records and arguments come from strangers: each text that a format's %s takes goes
 * through pawl_show(), so it can neither drive a terminal nor end a line. What stands in the format
 * itself is this program's own. Secrets that are known are hidden.
 *
 * So printf() and its like, fputs() and fwrite() are called nowhere else in cli/ (tests/style.py).
 */
#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "pawl_connect.h"

#pragma GCC diagnostic ignored "-Wformat-nonliteral"

/* Where text goes: a stream, or bytes that are cut where they are full. */
struct target {
    FILE *to;
    char *bytes; /* if `to` is NULL */
    size_t size, len;
    bool good;
};

static void put(struct target *t, const char *text, size_t len) {
    if (t->to != NULL) {
        t->good = t->good && fwrite(text, 1, len, t->to) == len;
        return;
    }
    assert(t->bytes != NULL && t->size != 0); /* one of the two targets */
    size_t room = t->size - 1 - t->len, n = len < room ? len : room;
    while (n > 0 && n < len && ((unsigned char)text[n] & 0xC0) == 0x80)
        n--; /* whole characters */
    memcpy(t->bytes + t->len, text, n);
    t->len += n;
    t->bytes[t->len] = 0;
}

static void pad(struct target *t, size_t n) {
    static const char blanks[] = "                                ";
    for (; n > 0; n -= n < 32 ? n : 32)
        put(t, blanks, n < 32 ? n : 32);
}

/* Shows `len` bytes, at least `width` wide. */
static void put_escaped(struct target *t, const char *text, size_t len, size_t width, bool left) {
    char shown[512];
    size_t used, total = 0, n;
    if (len <= sizeof shown / 8 && !left) { /* the usual case needs the length before the text */
        n = pawl_show(text, len, NULL, shown, sizeof shown);
        pad(t, width > n ? width - n : 0);
        put(t, shown, n);
        return;
    }
    for (; len > 0; text += used, len -= used) {
        n = pawl_show(text, len, &used, shown, sizeof shown);
        put(t, shown, n);
        total += n;
    }
    if (left)
        pad(t, width > total ? width - total : 0);
}

/* The same, with secrets hidden. */
static void put_shown(struct target *t, const char *text, size_t len, size_t width, bool left) {
    char small[1024], *copy = len < sizeof small ? small : malloc(len + 1);
    if (copy == NULL)
        return;
    memcpy(copy, text, len);
    copy[len] = 0;
    put_escaped(t, copy, pawl_secret_hide(copy, 0), width, left);
    if (copy != small)
        free(copy);
}

/* A conversion of a format: "%-10s", "%.*f", "%" PRIu64. */
struct conversion {
    char spec[32];
    char kind;            /* of its last letter */
    int wide;             /* letters "l", "ll"; 'z' and 'j' as themselves */
    int width, precision; /* precision -1: none */
    bool left;
};

/* va_list as a parameter may be an array, which can't be passed on by its address. */
struct arguments {
    va_list list;
};

static int take_number(const char **at, struct arguments *a) {
    int n = 0;
    if (**at == '*') {
        ++*at;
        return va_arg(a->list, int);
    }
    while (**at >= '0' && **at <= '9')
        n = n * 10 + *(*at)++ - '0';
    return n;
}

/* Reads what follows a '%'; returns where it ends. */
static const char *take_conversion(const char *at, struct arguments *a, struct conversion *c) {
    char flags[8] = "", size[3] = "";
    size_t n = 0;
    *c = (struct conversion){.precision = -1};
    for (; *at != 0 && strchr("-+ #0", *at) != NULL && n + 1 < sizeof flags; at++)
        flags[n++] = *at;
    c->width = take_number(&at, a);
    c->left = strchr(flags, '-') != NULL || c->width < 0;
    c->width = c->width < 0 ? -c->width : c->width;
    if (*at == '.') {
        at++;
        c->precision = take_number(&at, a);
    }
    for (n = 0; *at != 0 && strchr("hlzj", *at) != NULL && n < 2; at++) {
        size[n++] = *at;
        c->wide = *at == 'h' ? 0 : *at == 'l' ? c->wide + 1 : *at;
    }
    c->kind = *at;
    char precision[16] = "";
    if (c->precision >= 0)
        snprintf(precision, sizeof precision, ".%d", c->precision);
    if (c->width > 0)
        snprintf(c->spec, sizeof c->spec, "%%%s%d%s%s%c", flags, c->width, precision, size, *at);
    else
        snprintf(c->spec, sizeof c->spec, "%%%s%s%s%c", flags, precision, size, *at);
    return *at != 0 ? at + 1 : at;
}

static void put_number(struct target *t, const struct conversion *c, struct arguments *a) {
    char text[400] = ""; /* a double has at most 310 digits before its point */
    int n = 0;
    if (strchr("fge", c->kind) != NULL)
        n = snprintf(text, sizeof text, c->spec, va_arg(a->list, double));
    else if (c->kind == 'p')
        n = snprintf(text, sizeof text, c->spec, va_arg(a->list, void *));
    else if (c->wide == 0) /* signed and unsigned of one size are passed alike */
        n = snprintf(text, sizeof text, c->spec, va_arg(a->list, unsigned));
    else if (c->wide == 2)
        n = snprintf(text, sizeof text, c->spec, va_arg(a->list, unsigned long long));
    else
        n = snprintf(text, sizeof text, c->spec, va_arg(a->list, unsigned long));
    assert(n >= 0 && (size_t)n < sizeof text);
    put(t, text, (size_t)n);
}

static void show(struct target *t, const char *format, va_list list) {
    struct arguments a;
    struct conversion c;
    va_copy(a.list, list);
    for (const char *at = format; *at != 0;) {
        size_t own = strcspn(at, "%");
        put(t, at, own);
        at += own;
        if (*at == 0)
            break;
        at = take_conversion(at + 1, &a, &c);
        if (c.kind == '%') {
            put(t, "%", 1);
        } else if (c.kind == 's') {
            const char *text = va_arg(a.list, const char *);
            text = text != NULL ? text : "(none)";
            size_t len = c.precision >= 0 ? strnlen(text, (size_t)c.precision) : strlen(text);
            put_shown(t, text, len, (size_t)c.width, c.left);
        } else if (c.kind == 'c') {
            char one = (char)va_arg(a.list, int);
            put_shown(t, &one, 1, (size_t)c.width, c.left);
        } else {
            assert(c.kind != 0 && strchr("diuxXofgep", c.kind) != NULL);
            put_number(t, &c, &a);
        }
    }
    va_end(a.list);
}

bool cli_print_args(FILE *to, const char *format, va_list list) {
    FILE *own = to == stderr ? cli_messages() : to;
    struct target t = {.to = own, .good = true};
    flockfile(own); /* the message of a thread stays in one piece */
    show(&t, format, list);
    if (own != to)
        fflush(own);
    funlockfile(own);
    return t.good;
}

bool cli_print_to(FILE *to, const char *format, ...) {
    va_list list;
    va_start(list, format);
    bool good = cli_print_args(to, format, list);
    va_end(list);
    return good;
}

size_t cli_text(char *text, size_t size, const char *format, ...) {
    va_list list;
    va_start(list, format);
    size_t len = cli_text_args(text, size, format, list);
    va_end(list);
    return len;
}

size_t cli_text_args(char *text, size_t size, const char *format, va_list list) {
    struct target t = {.bytes = text, .size = size};
    text[0] = 0;
    show(&t, format, list);
    return t.len;
}

void cli_error(const char *format, ...) {
    char text[4096]; /* in one piece, so that messages of several threads don't mix */
    va_list list;
    va_start(list, format);
    cli_text_args(text, sizeof text, format, list);
    va_end(list);
    cli_print_to(stderr, "pawl: %s\n", text);
}

/* ---- standard output: the first write that fails is remembered */

static int output_errno;

static bool note(bool good) {
    if (!good && output_errno == 0)
        output_errno = errno != 0 ? errno : EIO;
    return output_errno == 0;
}

bool cli_write(const void *data, size_t size) {
    return output_errno == 0 && note(fwrite(data, 1, size, stdout) == size);
}

bool cli_write_much(const void *data, size_t size) {
    const char *at = data;
    for (ssize_t put; cli_flush() && size > 0; at += put, size -= (size_t)put) {
        put = write(STDOUT_FILENO, at, size);
        if (!note(put >= 0))
            return false;
    }
    return output_errno == 0;
}

bool cli_printf(const char *format, ...) {
    va_list list;
    va_start(list, format);
    bool good = output_errno == 0 && note(cli_print_args(stdout, format, list));
    va_end(list);
    return good;
}

bool cli_write_shown(const void *data, size_t size) {
    char shown[4096];
    const char *at = data;
    for (size_t used; size > 0; at += used, size -= used)
        if (!cli_write(shown, pawl_show(at, size, &used, shown, sizeof shown)))
            return false;
    return true;
}

/* What pawl_show() writes for valid UTF-8 are escapes of JSON, and what it escapes stands only
 * within strings, but for the newlines between the lines. */
bool cli_write_json(char *json) {
    bool good = json != NULL;
    for (const char *at = json; good && *at != 0;) {
        size_t line = strcspn(at, "\n");
        good = cli_write_shown(at, line) && (at[line] == 0 || cli_write("\n", 1));
        at += line + (at[line] != 0);
    }
    free(json);
    return good && cli_write("\n", 1);
}

bool cli_flush(void) {
    return output_errno == 0 && note(fflush(stdout) == 0);
}

bool cli_output_failed(void) {
    return output_errno != 0;
}

int cli_finish_output(int code) {
    if (cli_flush() || output_errno == EPIPE)
        return code;
    cli_error("cannot write to standard output: %s; what it got is not complete",
              strerror(output_errno));
    return code == CLI_OK ? CLI_PROBLEM : code;
}
