#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# test-label: slow
#
# `pawl run` with a file sink, and somebody takes away what was delivered: it says what is gone and
# ends with 1, at each start again, until on_lost says what to do (PAWL-15). Nobody else's file is
# removed.
set -u
pawl=$1
work=$(mktemp -d "${TMPDIR:-/var/tmp}/run_lost.XXXXXX") || exit 1
trap 'rm -rf -- "$work"' EXIT
cd "$work" || exit 1
failures=0
bad() {
    echo "FAILED: $*"
    failures=$((failures + 1))
}
seq 1000 >lines

config() { # config ON_LOST
    cat >p.yaml <<END
log: {directory: log, segment_size: 1M}
streams: {lines: {}}
sources: {in: {type: file, path: lines, to: lines}}
sinks: {out: {type: file, from: lines, directory: out, rotate_age: 1h, on_lost: $1}}
END
}

delivered() { # waits until the records up to the last line are delivered
    local n
    n=$(wc -l <lines)
    for ((i = 0; i < 600; i++)); do
        "$pawl" status log --json 2>/dev/null | grep -q "\"records\": *$n\b" &&
            [ "$(cat out/*.part out/*.log 2>/dev/null | wc -l)" -ge "$n" ] && return
        sleep 0.05
    done
    bad "the records are not delivered: $("$pawl" status log --json)"
}

# fresh: a pipeline that has delivered 1,000 records into a part, and runs as $pid
fresh() {
    rm -rf log out
    "$pawl" run p.yaml --quiet 2>err &
    pid=$!
    delivered
}

stopped() { # stopped WHEN STATUS: what was lost is said, and the exit status is 1
    [ "$2" -eq 1 ] || bad "$1: it ended with $2"
    grep -q 'lost: records 0 to 999 of lines/0 (1000)' err || bad "$1: it says $(cat err)"
}

config stop
for piece in 'rm out/*.part' 'rm out/*.part out/out.pawl' 'rm -r out' 'rm -rf out/*' \
    'mv out elsewhere && mkdir out' ': >"$(ls out/*.part)"'; do
    fresh
    kill -9 "$pid"
    wait "$pid" 2>/dev/null
    bash -c "$piece" || bad "$piece"
    for start in first second; do
        "$pawl" run p.yaml --quiet --until-idle 2>err
        stopped "$piece, down, $start start" $?
    done
    rm -rf elsewhere
    fresh
    bash -c "$piece" || bad "$piece"
    echo late >>lines
    for ((i = 0; i < 600; i++)); do
        grep -q 'lost:' err && break
        sleep 0.05
    done
    kill "$pid"
    wait "$pid"
    stopped "$piece, up" $?
    sed -i '$d' lines
    rm -rf elsewhere
    fresh
    bash -c "$piece" || bad "$piece"
    kill "$pid"
    wait "$pid"
    status=$?
    [ "$status" -eq 1 ] || bad "$piece, at its end: it ended with $status"
    "$pawl" run p.yaml --quiet --until-idle 2>err
    stopped "$piece, after its end" $?
    rm -rf elsewhere
done
echo "noticed: 6 ways to take away what was delivered, up and down"

config accept
"$pawl" run p.yaml --quiet --until-idle 2>err || bad "accepted, but: $(cat err)"
grep -q 'lost: records 0 to 999 .*accepted' err || bad "accepted, and it says $(cat err)"
config stop
echo late >>lines
"$pawl" run p.yaml --quiet 2>err &
pid=$!
for ((i = 0; i < 600; i++)); do
    shown=$("$pawl" status log --json 2>/dev/null)
    grep -q '"behind": *0' <<<"$shown" && grep -q '"lost": *1000' <<<"$shown" && break
    sleep 0.05
done
grep -q '"lost": *1000' <<<"$shown" || bad "the loss is not in the status: $shown"
kill "$pid"
wait "$pid" || bad "after the loss was accepted: $(cat err)"
[ "$(cat out/*.log)" = late ] || bad "what came after the loss is not there"

fresh
echo "not pawl's" >out/out-1-0-00000000000000000007.part
echo "nor this" >>out/out-1-0-00000000000000000000.part
kill -9 "$pid"
wait "$pid" 2>/dev/null
"$pawl" run p.yaml --quiet --until-idle 2>err || bad "strange bytes: $(cat err)"
[ "$(cat out/*.aside* | sort | tr '\n' ,)" = "nor this,not pawl's," ] ||
    bad "what is not pawl's is not kept: $(ls out)"
[ "$(grep -o 'set aside as [^ ]*' err | wc -l)" -eq 2 ] || bad "it says only: $(cat err)"
cat out/*.log | cmp - lines || bad "the records are not there, once"
echo "kept: what was not pawl's"

# A pipeline that reads such a directory takes its whole files only.
cp out/*-00000000000000000000.log out/out-1-0-00000000000000000009.part
cat >p2.yaml <<END
log: {directory: log2, segment_size: 1M}
streams: {lines: {}}
sources: {in: {type: dir, path: out, to: lines, follow: false}}
sinks: {out2: {type: file, from: lines, directory: out2}}
END
timeout 60 "$pawl" run p2.yaml --quiet --until-idle 2>err || bad "the next pipeline: $(cat err)"
cat out2/*.log | cmp - lines || bad "it has read what is the sink's own"
exit "$((failures > 0))"
