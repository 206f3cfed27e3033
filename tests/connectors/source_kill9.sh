#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# test-label: slow
# test-timeout: 300
#
# A followed file, rotated by renaming or by copying and truncating while its source is killed with
# -9 again and again: every line is in the log once, in order.
set -u
pawl=${1:-${PAWL_COMMAND:-}}
source=${PAWL_BUILD_DIR:-build}/tests/prog_source
if [ ! -x "$pawl" ] || [ ! -x "$source" ]; then
    echo "SKIPPED: no command pawl at '$pawl', or no $source"
    exit 77
fi
work=$(mktemp -d /tmp/source_kill9.XXXXXX) || exit 1
child=
writer=
trap '[ -n "$child" ] && kill -9 "$child" 2>/dev/null; [ -n "$writer" ] && kill "$writer" 2>/dev/null; rm -rf -- "$work"' EXIT
bad() { echo "FAILED: $*"; cat "$work/err.txt" 2>/dev/null; exit 1; }

in=$work/in
rotate() { # as logrotate does it
    local i
    for ((i = 60; i >= 1; i--)); do
        [ -e "$in.$i" ] && mv "$in.$i" "$in.$((i + 1))"
    done
    if [ "$1" = rename ]; then
        mv "$in" "$in.1"
    else
        cp "$in" "$in.1"
        : >"$in"
    fi
}

# Writes 400 pieces of lines, each line with its number, with a rotation after every tenth.
write_all() {
    local piece
    for ((piece = 0; piece < 400; piece++)); do
        awk -v from=$((piece * 500)) 'BEGIN { for (i = from; i < from + 500; i++) printf("line %d %x\n", i, (i * 40503) % 65521) }' >>"$in"
        [ $((piece % 10)) = 9 ] && rotate "$1"
        sleep 0.01
    done
    : >"$work/written"
}

for how in rename copytruncate; do
    rm -rf -- "$work"/in* "$work/log" "$work/written"
    "$pawl" init "$work/log" >/dev/null || bad init
    : >"$in"
    write_all "$how" &
    writer=$!
    killed=0
    while [ ! -e "$work/written" ]; do
        PROG_SOURCE_BATCH=$((RANDOM % 300 + 1)) "$source" "$work/log" lines file "path=$in" \
            start=oldest rotate_wait=20ms 2>>"$work/err.txt" &
        child=$!
        sleep "0.$(printf '%03d' $((RANDOM % 400)))"
        kill -9 "$child" 2>/dev/null && killed=$((killed + 1))
        wait "$child" 2>/dev/null
    done
    wait "$writer"
    writer=
    [ "$killed" -ge 8 ] || bad "killed $killed times only"
    "$source" "$work/log" lines file "path=$in" start=oldest rotate_wait=20ms follow=false \
        2>>"$work/err.txt" || bad "the last run"
    child=
    "$pawl" cat "$work/log" lines >"$work/got" || bad cat
    seq 0 199999 | awk '{ printf("line %d %x\n", $1, ($1 * 40503) % 65521) }' >"$work/want"
    cmp "$work/got" "$work/want" || bad "$how: differs, $(wc -l <"$work/got") lines of 200000"
    grep -q 'severity [23]' "$work/err.txt" && bad "$how: a warning"
    "$pawl" verify "$work/log" >/dev/null || bad verify
    echo "$how: killed $killed times, 40 rotations, all lines there once"
done
