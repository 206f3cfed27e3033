#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# test-label: slow
# test-timeout: 300
#
# Killed with -9 again and again, ingest and pipe still put every line into the log exactly once.
set -u
pawl=${1:-${PAWL_COMMAND:-}}
if [ ! -x "$pawl" ]; then
    echo "SKIPPED: no command pawl at '$pawl'"
    exit 77
fi
work=$(mktemp -d /tmp/kill9.XXXXXX) || exit 1
child=
trap '[ -n "$child" ] && kill -9 "$child" 2>/dev/null; rm -rf -- "$work"' EXIT
bad() { echo "FAILED: $*"; exit 1; }

file=$work/file
log=$work/log
seq 300000 | awk \
    '{ printf("%sline %d of the file, %x", (NR > 1 ? "\n" : ""), $1, ($1 * 40503) % 65521) }' \
    >"$file"
[ "$(wc -l <"$file")" = 299999 ] || bad "the file has not 300,000 lines"
[ "$(tail -c 1 "$file" | od -An -c | tr -d ' ')" != '\n' ] || bad "the file ends with a newline"

# Runs the command, kills it after a random time up to $1 ms. Sets `killed`; fails if the command
# ended by itself with an error.
killed=0
run_and_kill() {
    local most=$1 ms status
    shift
    ms=$((RANDOM % most + 1))
    "$@" >"$work/out.txt" 2>"$work/err.txt" &
    child=$!
    sleep "$(printf '%d.%03d' $((ms / 1000)) $((ms % 1000)))"
    kill -9 "$child" 2>/dev/null
    wait "$child" 2>/dev/null
    status=$?
    child=
    case $status in
    137) killed=$((killed + 1)) ;;
    0) ;;
    *) bad "$* ended with $status: $(cat "$work/err.txt")" ;;
    esac
}

same() { # NAME WANT STREAM: the stream is WANT byte for byte; cat ends each line, the last of WANT has no end
    "$pawl" cat "$log" "$3" >"$work/got" 2>"$work/err.txt" || bad "cat $3: $(cat "$work/err.txt")"
    cmp -s "$work/got" "$2" && return
    { cat "$2"; echo; } >"$work/ended"
    cmp "$work/got" "$work/ended" || bad "$1: differs ($(wc -l <"$work/got") lines)"
}

"$pawl" init "$log" || bad init
"$pawl" stream create "$log" lines || bad "stream create"
"$pawl" stream create "$log" out || bad "stream create"

rounds=0 # small batches, so that it is not done too soon
while [ "$killed" -lt 20 ] && [ "$rounds" -lt 60 ]; do
    rounds=$((rounds + 1))
    run_and_kill 120 "$pawl" ingest "$log" lines --producer p --batch 10 "$file"
done
[ "$killed" -ge 15 ] || bad "ingest was killed $killed times only"
"$pawl" ingest "$log" lines --producer p "$file" || bad ingest
"$pawl" ingest "$log" lines --producer p "$file" || bad "ingest once more"
same lines "$file" lines
echo "ingest: killed $killed times, all lines there once"

tr a-z A-Z <"$file" >"$work/upper"
killed=0
rounds=0
while [ "$killed" -lt 10 ] && [ "$rounds" -lt 40 ]; do
    rounds=$((rounds + 1))
    run_and_kill 200 "$pawl" pipe "$log" --name up --from lines --to out --batch 500 -- tr a-z A-Z
done
[ "$killed" -ge 5 ] || bad "pipe was killed $killed times only"
"$pawl" pipe "$log" --name up --from lines --to out -- tr a-z A-Z || bad pipe
"$pawl" pipe "$log" --name up --from lines --to out -- tr a-z A-Z || bad "pipe once more"
same out "$work/upper" out
echo "pipe: killed $killed times, all lines there once"

"$pawl" verify "$log" || bad verify
"$pawl" audit "$log" || bad audit
