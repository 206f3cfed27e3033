#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# test-label: slow pawl crashtest: the built-in pipeline and an example survive kills; the weaker
# guarantees show their weakness; and each deliberate fault, from a doubled output to a flipped bit,
# is found. A checker that finds nothing there is no checker.
set -u
pawl=${1:-${PAWL_COMMAND:-}}
source_dir=${PAWL_SOURCE_DIR:-$(cd "$(dirname "$0")/../.." && pwd)}
appliance=${PAWL_BUILD_DIR:-$source_dir/build}/examples/appliance
if [ ! -x "$pawl" ]; then
    echo "SKIPPED: no command pawl at '$pawl'"
    exit 77
fi
work=$(mktemp -d "${TMPDIR:-/var/tmp}/crashtest.XXXXXX") || exit 1
trap 'rm -rf -- "$work"' EXIT
bad() { echo "FAILED: $*"; [ -f "$work/err" ] && cat "$work/err"; exit 1; }

# The oracle shares nothing with the library, not even the public header.
for file in "$source_dir"/cli/crashtest/{chain,oracle,record}.[ch]; do
    grep -E '#include "' "$file" | grep -vE '"cli/crashtest/(chain|oracle|record)\.h"' &&
        bad "$file includes what it must not"
done

run() { # run STATUS ARGS...: runs crashtest in $work/log and expects that exit status
    local want=$1 status
    shift
    rm -rf -- "$work/log"
    "$pawl" crashtest "$work/log" "$@" >"$work/out" 2>"$work/err"
    status=$?
    [ "$status" -eq "$want" ] || bad \
        "crashtest $* ended with $status, not $want: $(cat "$work/out")"
}
number() { # number NAME: the first such field of the JSON
    sed -nE "s/^ *\"$1\": ([0-9]+).*/\1/p" "$work/out" | head -n 1
}
of() { # of GUARANTEE NAME
    sed -n "/\"$1\"/,/}/p" "$work/out" | sed -nE "s/^ *\"$2\": ([0-9]+).*/\1/p"
}

run 0 --kills 150 --seed 7 --json
[ -e "$work/log" ] && bad "the directory is left behind after a good run"
[ "$(number kills)" -ge 150 ] || bad "fewer than 150 kills: $(number kills)"
[ $(($(number recovery_kills) * 5)) -ge 150 ] ||
    bad "fewer than a fifth of the kills came while it opened: $(number recovery_kills)"
[ "$(of exactly-once lost)" -eq 0 ] && [ "$(of exactly-once doubled)" -eq 0 ] ||
    bad "exactly-once is not"
[ "$(of at-least-once lost)" -eq 0 ] && [ "$(of at-least-once doubled)" -gt 0 ] ||
    bad "at-least-once shows no duplicate"
[ "$(of at-most-once lost)" -gt 0 ] && [ "$(of at-most-once doubled)" -eq 0 ] ||
    bad "at-most-once shows no loss"
points=$(sed -n '/"points"/,/}/p' "$work/out" | grep -c '": [0-9]')
[ "$points" -ge 8 ] || bad "kills at only $points named points"
echo "150 kills: exactly once; $(of at-least-once doubled) doubled at least once, $(of at-most-once lost) lost at most once; $points points"

for fault in wrong-input wrong-output double-output lost-output early-ack; do
    PAWL_CRASHTEST_FAULT=$fault run 1 --kills 400 --seed 3 --guarantee exactly-once
    grep -q 'seed 3, cycle [0-9]*: expected .* found' "$work/err" ||
        bad "$fault: no report of what was expected and found"
    [ -d "$work/log/exactly-once-0" ] || bad "$fault: the log is not kept"
    echo "found: $fault: $(sed -n 's/.*cycle/cycle/p' "$work/err" | cut -c 1-120)"
done

run 0 --kills 12 --seed 5 -- "$appliance"
"$pawl" audit "$work/log" >/dev/null || bad "the appliance's log is not well"
run 1 --kills 300 --seed 5 -- env PAWL_CRASHTEST_SEED=6 "$appliance"
grep -q 'expected record 0 ' "$work/err" || bad "records of another seed were not found wrong"
# shellcheck disable=SC2016
run 1 --kills 300 -- bash -c '
    file=$PAWL_CRASHTEST_DIR/0000000000000000.seg
    if [ -f "$file" ] && [ "$(od -An -tu1 -j 20480 -N 1 "$file")" -ne 0 ]; then
        printf "\377" | dd of="$file" bs=1 seek=20600 conv=notrunc status=none
        exec sleep 9
    fi
    exec "$0"' "$appliance"
grep -q 'expected a log that is well, found' "$work/err" || bad "a flipped byte was not found"
# What a killed program leaves behind, with all ties cut, ends before its next life.
# shellcheck disable=SC2016
run 0 --kills 12 --seed 5 -- bash -c '
    (setsid bash -c "exec 0<&- 1>&- 2>&-; unset PAWL_CRASHTEST_DIR; exec 8>$0/busy
        flock -n 8 || echo overlap >>$0/overlaps; exec sleep 60" &)
    exec "$1"' "$work" "$appliance"
[ -e "$work/busy" ] || bad "the program that outlives its parent did not run"
[ -e "$work/overlaps" ] && bad "what a killed program had started went on beside the next life"
flock -n "$work/busy" true || bad "what the last program had started goes on"
run 1 --kills 300 -- true
run 1 --kills 300 -- "$work/no-such-program"
run 2 --kills 0
run 2 --guarantee none
run 2 --guarantee all -- true
mkdir "$work/full" && touch "$work/full/file"
"$pawl" crashtest "$work/full" 2>/dev/null
[ $? -eq 3 ] || bad "a directory that is not empty was taken"
echo "ended: what killed programs left behind"
echo "found: records of another seed, a damaged byte, programs that don't run"
