#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The example of a user's own sink, killed with -9 again and again: its tally is what wc counts.
set -u
pawl=${1:-${PAWL_COMMAND:-}}
sink=$(dirname "$pawl")/examples/sink
[ -x "$pawl" ] && [ -x "$sink" ] || { echo "SKIPPED: the command or the examples are not built"; \
    exit 77; }
work=$(mktemp -d) || exit 1
trap 'rm -rf -- "$work"' EXIT
bad() { echo "FAILED: $*"; exit 1; }

seq 60000 | awk '{ printf("line %d%s\n", $1, substr("..........", 1, $1 % 10)) }' >"$work/file"
"$pawl" init "$work/log" && "$pawl" stream create "$work/log" lines --partitions 3 &&
    mkdir "$work/target" || bad "set-up"
"$pawl" ingest "$work/log" lines --producer p "$work/file" 2>/dev/null || bad ingest
killed=0
for ((i = 0; i < 60; i++)); do
    "$sink" "$work/log" lines "$work/target" 2>"$work/err" &
    child=$!
    sleep "0.0$((RANDOM % 6 + 1))"
    kill -9 "$child" 2>/dev/null
    wait "$child" 2>/dev/null
    case $? in
    137) killed=$((killed + 1)) ;;
    0) break ;;
    *) grep -q 'another writer' "$work/err" ||
        bad "the sink ended: $(cat "$work/err")" ;; \
        # the killed one's last writes hold the lock a little past its death
    esac
done
for ((i = 0; i < 100; i++)); do
    "$sink" "$work/log" lines "$work/target" 2>"$work/err" && break
    grep -q 'another writer' "$work/err" || bad "the sink: $(cat "$work/err")"
done
got=$(cat "$work"/target/*-? | awk '{ r += $1 } END { print r }')
want=$(wc -l <"$work/file")
[ "$got" = "$want" ] || bad "tally: $got, wanted $want"
"$pawl" audit "$work/log" || bad audit
echo "killed $killed times; records: $got"
