/* SPDX-License-Identifier: Apache-2.0
 *
 * progress.c - the progress bar. What ends quickly shows none; a pipe or a file on stderr never
 * gets one.
 */
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"

enum { BAR_WIDTH = 30 };
#define FIRST_NS UINT64_C(500000000)
#define EVERY_NS UINT64_C(100000000)

void cli_progress_begin(cli_progress *p, const char *what) {
    *p = (cli_progress){.what = what, .begun_ns = cli_now_ns(), .on = cli_on_terminal()};
}

void cli_progress_show(cli_progress *p, uint64_t done, uint64_t total) {
    if (!p->on)
        return;
    uint64_t now = cli_now_ns();
    if (now - p->begun_ns < FIRST_NS || now - p->shown_ns < EVERY_NS)
        return;
    p->shown_ns = now;
    if (total == 0) {
        cli_print_to(stderr, "\r%s: %" PRIu64 "\x1b[K", p->what, done);
        return;
    }
    double share = done < total ? (double)done / (double)total : 1;
    char bar[BAR_WIDTH + 1];
    int full = (int)(share * BAR_WIDTH);
    memset(bar, ' ', BAR_WIDTH);
    memset(bar, '#', (size_t)full);
    bar[BAR_WIDTH] = '\0';
    double left = share > 0 ? (double)(now - p->begun_ns) / 1e9 * (1 - share) / share : 0;
    cli_print_to(stderr, "\r%s [%s] %3d%%, %.0f s left\x1b[K", p->what, bar, (int)(share * 100),
                 left);
}

void cli_progress_clear(cli_progress *p) {
    if (p->shown_ns != 0)
        cli_print_to(stderr, "\r\x1b[K");
    p->shown_ns = 0;
}

int cli_progress_call(void *arg, uint64_t done, uint64_t total) {
    cli_progress_show(arg, done, total);
    return 0;
}
