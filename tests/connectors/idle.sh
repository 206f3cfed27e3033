#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# test-timeout: 180
#
# An idle pipeline does nothing (PAWL-17): once all is delivered, the threads of `pawl run` with a
# file source, a processor and two sinks over 16 partitions, retention set and several segments
# written, sleep without a clock. Counted are the times that threads went to sleep, and where strace
# may be used the system calls: at most five a second. Then it must still notice a line that is
# appended, a file that is rotated, and the signal to end.
set -u
export LC_ALL=C
pawl=$(realpath "${1:-${PAWL_COMMAND:-}}")
[ -x "$pawl" ] || { echo "SKIPPED: no command pawl"; exit 77; }
[ -r /proc/self/task/$$/status ] || { echo "SKIPPED: no /proc"; exit 77; }
if grep -q '^PAWL_SANITIZE:[^=]*=..*' "${PAWL_BUILD_DIR:-.}/CMakeCache.txt" 2>/dev/null; then
    echo "SKIPPED: a sanitizer has a thread of its own that looks some times a second"
    exit 77
fi
work=$(mktemp -d) || exit 1
child=
trap '[ -n "$child" ] && kill -9 "$child" 2>/dev/null; rm -rf -- "$work"' EXIT
bad() { echo "FAILED: $*"; [ -s err ] && tail -5 err; exit 1; }
cd "$work" || exit 1

seconds=5 most=25
seq -f 'line %g of a file that fills several segments' 60000 >input
cat >p.yaml <<'Y'
name: quiet
log: {directory: log, segment_size: 1M, retention: {consumed: true}}
streams: {lines: {partitions: 16}, picked: {partitions: 16}}
sources:
  in: {type: file, path: input, to: lines}
processors:
  pick: {type: filter, from: lines, to: picked, of: value, match: 'line'}
sinks:
  one: {type: file, from: picked, directory: one, rotate_age: 1s}
  two: {type: file, from: picked, directory: two, rotate_age: 1s}
Y
"$pawl" run p.yaml 2>err &
child=$!

# Waits until both sinks have made N lines visible.
delivered() {
    for ((i = 0; i < 600; i++)); do
        local a b
        a=$(cat one/*.log 2>/dev/null | wc -l) b=$(cat two/*.log 2>/dev/null | wc -l)
        [ "$a" = "$1" ] && [ "$b" = "$1" ] && return 0
        kill -0 $child 2>/dev/null || bad "pawl run ended"
        sleep 0.1
    done
    bad "$1 lines were to be delivered, $a and $b are"
}

sleeps() { cat /proc/$child/task/*/status | awk '/^voluntary_ctxt/ { n += $2 } END { print n }'; }

delivered 60000
# The last timers run out: a segment that may go, an idle() that finds nothing open.
for ((round = 0; round < 6; round++)); do
    before=$(sleeps)
    sleep $seconds
    n=$(($(sleeps) - before))
    [ $n -le $most ] && break
done
[ "$n" -le "$most" ] || bad "its threads went to sleep $n times in $seconds seconds"
echo "threads went to sleep $n times in $seconds seconds"

if command -v strace >/dev/null && timeout 2 strace -f -c -o calls -p $child 2>/dev/null
   [ -s calls ]; then
    rm -f calls
    timeout $seconds strace -f -c -o calls -p $child 2>/dev/null
    n=$(awk '$NF == "total" { print $4 }' calls)
    [ "${n:-0}" -le $most ] || { cat calls; bad "$n system calls in $seconds seconds"; }
    echo "${n:-0} system calls in $seconds seconds"
else
    echo "system calls are not counted: strace can't be used here"
fi

echo 'line appended' >>input
delivered 60001
mv input input.1
echo 'line of the next file' >input
delivered 60002
kill $child
wait $child || bad "its exit status"
child=
