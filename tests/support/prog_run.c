/* SPDX-License-Identifier: Apache-2.0 */
/* prog_run DIR ID: writes the run with this id, of the pairs on standard input: a line each, key,
 * value ("-": no bytes) or "delete", and expiry ("-": none), in hexadecimal and ascending order. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pawl.h"
#undef fail
#include "state/run.h"

static uint32_t bytes_of(const char *hex, uint8_t *out) {
    uint32_t n = 0;
    unsigned byte;
    for (; sscanf(hex, "%2x", &byte) == 1; hex += 2)
        out[n++] = (uint8_t)byte;
    return n;
}

static int add(struct run_writer *w, char *line, uint8_t *key, uint8_t *value) {
    struct state_pair p = {.key = key, .value = value, .op = STATE_PUT};
    char *rest = NULL;
    const char *k = strtok_r(line, " ", &rest), *v = strtok_r(NULL, " ", &rest);
    const char *e = strtok_r(NULL, " \n", &rest);
    if (k == NULL || v == NULL || e == NULL)
        return PAWL_INVALID;
    p.key_len = bytes_of(k, key);
    if (strcmp(v, "delete") == 0)
        p.op = STATE_DELETE;
    else
        p.value_len = bytes_of(v, value);
    p.expiry_ms = strtoull(e, NULL, 10);
    return run_writer_add(w, &p);
}

int main(int argc, char **argv) {
    static uint8_t key[STORE_KEY_MAX + 1], value[STORE_VALUE_MAX + 1];
    struct seam *io;
    struct mem mem;
    struct run_writer *w;
    struct run_summary sum;
    struct run_ident ident = {.level = 1, .flush_lsn = 4096};
    char *line = NULL;
    size_t room = 0;
    if (argc != 3 || seam_create(argv[1], true, PAWL_BACKEND_AUTO, PAWL_DIRECT_AUTO, &io) != 0)
        return 2;
    ident.run_id = (uint32_t)strtoul(argv[2], NULL, 10);
    memset(ident.log_id, 7, sizeof ident.log_id);
    mem_init(&mem, 0);
    int rc = run_writer_open(io, &mem, &ident, &w);
    while (rc == 0 && getline(&line, &room, stdin) > 0)
        rc = add(w, line, key, value);
    free(line);
    if (rc == 0)
        rc = run_writer_finish(w, &sum);
    io->ops->destroy(io);
    if (rc != 0)
        fprintf(stderr, "prog_run: error %d\n", rc);
    return rc != 0;
}
