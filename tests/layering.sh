#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# layering.sh - shows that no file includes what its folder may not know, at any depth; that the I/O
# seam is the only way to the system (PAWL-12); that what is on disk is encoded and decoded in
# wal/format* and state/format* only; and that files are short and carry their licence.
#
#   folder         may include, besides the standard library
#   wal/           pawl.h, wal/
#   recovery/      pawl.h, wal/, recovery/
#   state/         pawl.h, pawl_state.h, wal/, recovery/, state/
#   pipeline/      pawl.h, pawl_state.h, pawl_time.h, wal/, recovery/, state/, pipeline/
#   connectors/    pawl.h, pawl_connect.h; runtime/ and text/ of connectors/, and the including file's own folder
#   processors/    pawl.h, pawl_connect.h, pawl_state.h, pawl_time.h, processors/; connectors/runtime/connect.h, connectors/text/, connectors/exec/
#   cli/           pawl.h, pawl_connect.h, pawl_state.h, pawl_time.h, cli/ (cli/run/ and cli/crashtest/ only from within and from their
#                  commands); cli/cmd_bench.c also bench/bench.h
#   examples/      pawl.h, pawl_connect.h, pawl_state.h, pawl_time.h, files beside the including one
#   bench/         pawl.h, pawl_state.h, pawl_connect.h, bench/
#
# First the rules are tried on a planted tree in which every rule is broken once: a check that finds
# nothing there is no check.
set -uo pipefail
export LC_ALL=C
source_dir=${PAWL_SOURCE_DIR:-$(cd "$(dirname "$0")/.." && pwd)}
lines_max=800
# The library's header is its manual: half of it is text.
lines_of() {
    [ "$1" = include/pawl.h ] && echo 1000 || echo "$lines_max"
}
ours=(wal recovery state pipeline processors connectors cli examples bench)

# Headers of the C library that make no system call; the only ones above the seam in wal/,
# recovery/, state/ and pipeline/.
pure='assert|ctype|errno|inttypes|limits|stdalign|stdarg|stdatomic|stdbool|stddef|stdint|stdio|stdlib|stdnoreturn|string'

# includes FILE: its includes, one a line, as "name" or <name>
includes() {
    sed -nE 's/^[[:space:]]*#[[:space:]]*include(_next)?[[:space:]]*(["<][^">]*[">]).*/\2/p' "$1"
}

# may_include FILE INCLUDE: is it allowed?
may_include() {
    local file=$1 include=$2
    local name=${include:1:${#include}-2}
    case $name in
    *..*) return 1 ;;
    wal/* | recovery/* | state/* | pipeline/*) ;; # however quoted
    processors/* | connectors/* | cli/* | examples/* | bench/* | tests/*) ;;
    *)
        if [ "${include:0:1}" = '<' ] && [ "$name" != pawl.h ] &&
            [[ $name != pawl_state.h && $name != pawl_time.h && $name != pawl_connect.h ]]; then
            system_header_allowed "$file" "$name"
            return
        fi
        ;;
    esac
    [ "$name" = pawl.h ] && return 0
    case $file in
    wal/*) [[ $name == wal/* ]] ;;
    recovery/*) [[ $name == wal/* || $name == recovery/* ]] ;;
    state/*) [[ $name == pawl_state.h || $name == wal/* || $name == recovery/* ||
        $name == state/* ]] ;;
    pipeline/*) [[ $name == pawl_state.h || $name == pawl_time.h || $name == wal/* ||
        $name == recovery/* || $name == state/* || $name == pipeline/* ]] ;;
    connectors/*) [[ $name == pawl_connect.h || $name == connectors/runtime/* ||
        $name == connectors/text/* || ${name%/*} == "${file%/*}" ]] ;;
    processors/*) [[ $name == pawl_connect.h || $name == pawl_state.h || $name == pawl_time.h ||
        $name == processors/* || $name == connectors/text/* ||
        $name == connectors/exec/* || $name == connectors/runtime/connect.h ]] ;;
    cli/cmd_bench.c) [[ $name == cli/cli.h || $name == bench/bench.h ]] ;;
    cli/run/* | cli/cmd_run.c | cli/cmd_check.c | cli/cmd_status.c | cli/cmd_rerun.c)
        [[ $name == pawl_connect.h || $name == pawl_state.h || $name == cli/cli.h || $name == cli/run/* ]] ;;
    cli/crashtest/* | cli/cmd_crashtest.c) [[ $name == cli/cli.h || $name == cli/crashtest/* ]] ;;
    cli/*) [[ $name == pawl_connect.h || $name == pawl_state.h || $name == pawl_time.h ||
        ($name == cli/* && $name != cli/*/*) ]] ;;
    bench/*) [[ $name == bench/* || $name == pawl_connect.h || $name == pawl_state.h ||
        ($name != */* && -f ${file%/*}/$name) ]] ;;
    *) [[ $name == pawl_connect.h || $name == pawl_state.h || $name == pawl_time.h ||
        ($name != */* && -f ${file%/*}/$name) ]] ;;
    esac
}

system_header_allowed() {
    local file=$1 name=$2
    case $file in
    wal/seam/*) return 0 ;;                          # the seam itself
    wal/* | recovery/* | state/* | pipeline/*) ;;
    *) return 0 ;;                                   # programs like any other
    esac
    case $file in
    pipeline/engine.h) [ "$name" = pthread.h ] && return 0 ;; # the handle's lock
    state/store.h | state/cache.c) [ "$name" = pthread.h ] && return 0 ;;
    pipeline/lock.c) [ "$name" = time.h ] && return 0 ;;      # threads sleep with a deadline
    pipeline/event.c)                                         # the futex and the eventfd
        [[ $name =~ ^(fcntl|time|unistd|sys/eventfd|sys/syscall|linux/futex)\.h$ ]] && return 0 ;;
    esac
    [[ $name == xxhash.h && ($file == wal/* || $file == state/digest.c) ]] ||
        [[ $name =~ ^($pure)\.h$ ]]
}

# Integers as they are on disk (wal/bytes.h), runs and headers as bytes: for wal/format* and
# state/format* only.
on_disk='\b(get|put)(16|32|64)\(|\b(run_encode|run_decode|frame_encode_header)\('
knows_bytes() {
    find wal recovery state pipeline -name '*.[ch]' ! -path 'wal/format*' ! -path 'state/format*' \
        ! -path wal/bytes.h -exec grep -lE "$on_disk" {} +
}

# check_tree: checks the current folder; prints a line a fault
check_tree() {
    local file include
    while read -r file; do
        while read -r include; do
            may_include "$file" "$include" || echo "$file: may not include $include"
        done < <(includes "$file")
    done < <(find "${ours[@]}" -name '*.[ch]' | sort)
    while read -r file; do
        echo "$file: encodes or decodes what is on disk"
    done < <(knows_bytes | sort)
    while read -r file; do
        [ "$(wc -l <"$file")" -lt "$(lines_of "$file")" ] || echo "$file: $(lines_of "$file") lines or more"
        case $file in
        *.[ch]) head -n 1 "$file" ;;
        *) head -n 2 "$file" ;; # scripts have their interpreter first
        esac | grep -q 'SPDX-License-Identifier: Apache-2\.0' ||
            echo "$file: does not start with the SPDX line"
    done < <(find "${ours[@]}" include tests cmake -type f \
        \( -name '*.[ch]' -o -name '*.sh' -o -name '*.py' \) 2>/dev/null | sort)
}

# ---- the planted tree

work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
mkdir -p "$work"/{wal/seam,recovery,state,pipeline,processors} \
    "$work"/{connectors/{text,file,net,runtime},cli/{run,crashtest},examples,bench/peers}
touch "$work/examples/notes.txt"

plant() { # plant FILE LINE: a file with that one line
    printf '/* SPDX-License-Identifier: Apache-2.0 */\n%s\n' "$2" >"$work/$1"
}
good=0
allowed() {
    plant "$1" "$2"
    good=$((good + 1))
}
faults=()
forbidden() {
    plant "$1" "$2"
    faults+=("$1")
}

allowed wal/a.h '#include "pawl.h"'
allowed wal/b.c '#include "wal/a.h"'
allowed wal/seam/x.c '#include <unistd.h>'
allowed recovery/a.h '#include "wal/a.h"'
allowed state/a.h '#include "recovery/a.h"'
allowed state/b.h '#include <pawl_state.h>'
allowed state/cache.c '#include <pthread.h>'
allowed state/format_x.c 'uint32_t f(const void *p) { return get32(p); }'
allowed pipeline/a.c '#include "recovery/a.h"'
allowed pipeline/b.c '#include "state/a.h"'
allowed pipeline/event.c '#include <sys/eventfd.h>'
allowed pipeline/lock.c '#include <time.h>'
allowed pipeline/engine.h '#include <pthread.h>'
allowed connectors/text/a.h '#include "pawl_connect.h"'
allowed connectors/file/a.h '#include "connectors/text/a.h"'
allowed connectors/file/a.c '#include "connectors/file/a.h"'
allowed processors/a.h '#include "connectors/text/a.h"'
allowed processors/b.c '#include "connectors/exec/a.h"'
allowed processors/c.c '#include "connectors/runtime/connect.h"'
allowed processors/d.c '#include "pawl_state.h"'
allowed cli/a.h '#include <unistd.h>'
allowed cli/b.c '#include "cli/a.h"'
allowed cli/c.c '#include <pawl_connect.h>'
allowed cli/run/a.h '#include "pawl_connect.h"'
allowed cli/crashtest/a.h '#include "pawl.h"'
allowed cli/cmd_bench.c '#include "bench/bench.h"'
allowed bench/peers/a.c '#include "bench/bench.h"'
allowed wal/format_x.c 'uint32_t f(const void *p) { return get32(p); }'
forbidden recovery/decodes.c 'uint32_t f(const void *p) { return get32(p); }'
forbidden state/decodes.c 'uint32_t f(const void *p) { return get32(p); }'
forbidden state/up.c '#include "pipeline/a.h"'
forbidden state/files.c '#include <unistd.h>'
forbidden state/threads.c '#include <pthread.h>'
forbidden recovery/state.c '#include "state/a.h"'
forbidden pipeline/encodes.c 'void f(void *p) { put64(p, 1); }'
forbidden wal/encodes.c 'void f(void *p, const struct run *r) { run_encode(p, r); }'
forbidden pipeline/sinks.c '#include "pawl_connect.h"'
forbidden wal/sinks.c '#include <pawl_connect.h>'
forbidden connectors/file/command.c '#include "cli/a.h"'
forbidden connectors/file/neighbour.c '#include "connectors/net/a.h"'
forbidden connectors/file/inside.c '#include "pipeline/a.h"'
forbidden connectors/runtime/processors.c '#include "processors/a.h"'
forbidden processors/inside.c '#include "pipeline/a.h"'
forbidden processors/state.c '#include "state/a.h"'
forbidden processors/file.c '#include "connectors/file/a.h"'
forbidden processors/flow.c '#include "connectors/runtime/flow.h"'
forbidden wal/up.c '#include "recovery/a.h"'
forbidden wal/seam/up.c '#include "pipeline/a.h"'
forbidden wal/angle.c '#include <pipeline/a.h>'
forbidden wal/beside.c '#include "a.h"'
forbidden wal/dots.c '#include "wal/../pipeline/a.h"'
forbidden wal/files.c '  #  include <fcntl.h>'
forbidden wal/ring.c '#include <liburing.h>'
forbidden recovery/up.c '#include "pipeline/a.h"'
forbidden recovery/files.c '#include <sys/stat.h>'
forbidden recovery/threads.c '#include <pthread.h>'
forbidden pipeline/up.c '#include "cli/a.h"'
forbidden pipeline/files.c '#include <unistd.h>'
forbidden pipeline/clock.c '#include <time.h>'
forbidden pipeline/lead.c '#include <unistd.h>'
forbidden pipeline/threads.c '#include <pthread.h>'
forbidden pipeline/ring.c '#include <liburing.h>'
forbidden bench/inside.c '#include "wal/a.h"'
forbidden cli/jobs.c '#include "bench/bench.h"'
forbidden cli/inside.c '#include "wal/a.h"'
forbidden cli/deep.c '#include "cli/crashtest/a.h"'
forbidden cli/run/inside.c '#include "wal/a.h"'
forbidden cli/run/processors.c '#include "processors/a.h"'
forbidden cli/cmd_pipe.c '#include "connectors/exec/a.h"'
forbidden cli/crashtest/run.c '#include "cli/run/a.h"'
forbidden examples/inside.c '#include <wal/a.h>'
plant wal/long.c "$(yes '' | head -n $lines_max | sed 's/^/;/')"
faults+=(wal/long.c)
echo 'int x;' >"$work/wal/unlicensed.c"
faults+=(wal/unlicensed.c)

expected=$(printf '%s\n' "${faults[@]}" | sort)
found=$(cd "$work" && check_tree | cut -d: -f1 | sort)
if [ "$expected" != "$found" ]; then
    echo "the check itself is wrong; files that should be reported (-) and that are (+):"
    diff -u <(echo "$expected") <(echo "$found") | tail -n +3
    exit 1
fi
echo "planted tree: ${#faults[@]} faults found, $good good files passed"

# ---- the real one

cd "$source_dir" || exit 1
report=$(check_tree)
if [ -n "$report" ]; then
    echo "$report"
    exit 1
fi
echo "the tree keeps to the layers"
